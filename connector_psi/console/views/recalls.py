"""Recalls: what an owner took back or replaced, and what people at the recipient did about it."""

from __future__ import annotations

from starlette.responses import Response

from connector_psi.console.visit import Visit
from connector_psi.storage import cases

PAGE = 50


def listed(visit: Visit) -> Response:
    """Show recalls of both sides, those first that wait for somebody here."""
    service = visit.service
    waiting = [each for each in service.recalls.list(("open",), 100) if each.row.side == cases.QUERIER]
    found = service.recalls.list((), PAGE + 1, (visit.number - 1) * PAGE)
    return visit.render(
        "recalls.html",
        "Recalls",
        waiting=waiting if visit.number == 1 else [],
        views=found[:PAGE],
        more=len(found) > PAGE,
        number=visit.number,
    )


def one(visit: Visit) -> Response:
    """Show a recall."""
    view = visit.service.recalls.get(visit.id())
    return visit.render(
        "recall.html",
        "Recall",
        view=view,
        row=view.row,
        p=view.row.payload,
        to_acknowledge=view.row.side == cases.QUERIER and view.row.state == "open" and visit.may("acknowledge"),
    )


def acknowledge(visit: Visit) -> Response:
    """Acknowledge a recall."""
    row = visit.service.recalled.acknowledge(visit.id(), visit.person, visit.value("note"))
    return visit.done("The recall is acknowledged.", "recall", id=row.recall_id.hex())


def send(visit: Visit) -> Response:
    """Recall what a case disclosed."""
    row = visit.service.recalling.send(
        visit.id(), visit.person, visit.value("reason"), withdraw=visit.value("withdraw") == "yes"
    )
    return visit.done("The recall is sent.", "recall", id=row.recall_id.hex())
