"""Retention of bodies: what is due when, and what a monitoring procedure holds."""

from __future__ import annotations

from datetime import date

from starlette.responses import Response

from connector_psi.console.views.overview import shown_codes
from connector_psi.console.visit import Visit
from connector_psi.errors import FormatError


def shown(visit: Visit) -> Response:
    """Show holds and what falls due."""
    retention = visit.service.retention
    return visit.render(
        "retention.html",
        "Retention and holds",
        holds=retention.holds(visit.person),
        schedule=retention.schedule(visit.person),
        codes=shown_codes(visit),
    )


def place(visit: Visit) -> Response:
    """Place a hold."""
    try:
        request_id = bytes.fromhex(visit.value("request_id").strip())
    except ValueError:
        raise FormatError("request_id: not hexadecimal") from None
    visit.service.retention.place(
        visit.person,
        procedure=visit.value("procedure"),
        until=_until(visit),
        reason=visit.value("reason"),
        request_id=request_id,
        agreement=visit.value("agreement"),
    )
    return visit.done("The hold is placed.", "retention")


def renew(visit: Visit) -> Response:
    """Let a hold end later."""
    visit.service.retention.renew(visit.params["id"], visit.person, until=_until(visit), reason=visit.value("reason"))
    return visit.done("The hold is renewed.", "retention")


def release(visit: Visit) -> Response:
    """End a hold."""
    visit.service.retention.release(visit.params["id"], visit.person, reason=visit.value("reason"))
    return visit.done("The hold is released.", "retention")


def _until(visit: Visit) -> date:
    try:
        return date.fromisoformat(visit.value("until").strip())
    except ValueError:
        raise FormatError("until: a day such as 2026-01-31") from None
