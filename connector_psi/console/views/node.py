"""The node itself: readiness, peers, queues, clock."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from connector_psi.console.views.overview import shown_agreements, shown_alarms
from connector_psi.console.visit import Visit
from connector_psi.errors import FormatError


def state(visit: Visit) -> Response:
    """Show the state of the node."""
    status: dict[str, Any] = visit.service.status()
    node = visit.service.node
    return visit.render(
        "node.html",
        "This node",
        status=status,
        lines=shown_agreements(node, visit.role, status),
        alarms=shown_alarms(node, visit.role, status),
        may_confirm=visit.may("confirm_clock"),
        may_retry=visit.may("outbox"),
    )


def outbox(visit: Visit) -> Response:
    """Show what waits to be sent, and what is parked."""
    return visit.render("outbox.html", "What waits to be sent", items=visit.service.outbox.list())


def retry(visit: Visit) -> Response:
    """Send some of it again."""
    try:
        ids = [bytes.fromhex(text) for text in visit.values("id")]
    except ValueError:
        raise FormatError("id: not hexadecimal") from None
    visit.service.outbox.retry(ids, visit.person)
    return visit.done("It is sent again.", "outbox")


def confirm_clock(visit: Visit) -> Response:
    """Say that the clock is right."""
    visit.service.node.timekeeping.confirm(visit.person)
    return visit.done("The clock is confirmed.", "node")
