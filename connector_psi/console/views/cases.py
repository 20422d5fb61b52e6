"""Cases of both sides: asked by this authority, and to be decided by it."""

from __future__ import annotations

from starlette.responses import Response

from connector_psi.console.visit import Visit
from connector_psi.disclosure import Grade, OwnerCaseState
from connector_psi.domain.records import Field
from connector_psi.errors import FormatError
from connector_psi.pki import person_id
from connector_psi.storage import cases as store

PAGE = 50
GROUPS = {
    "": (),
    "waiting": ("drafted", "pending", "received", "awaiting_decision", "approved"),
    "disclosed": ("disclosed", "released"),
    "ended": ("not_disclosed", "expired", "refused", "auto_refused", "lapsed", "erased"),
}
"""Tabs of the list, and the states under each."""


def listed(visit: Visit) -> Response:
    """Show cases, the newest first."""
    group = visit.query.get("state", "")
    group = group if group in GROUPS else ""
    side = visit.query.get("side", "")
    side = side if side in {store.QUERIER, store.OWNER} else ""
    found = visit.service.cases.list(GROUPS[group], PAGE + 1, (visit.number - 1) * PAGE, side=side, newest_first=True)
    return visit.render(
        "cases.html",
        "Cases",
        views=found[:PAGE],
        more=len(found) > PAGE,
        number=visit.number,
        group=group,
        groups=GROUPS,
        side=side,
    )


def approvals(visit: Visit) -> Response:
    """Show what waits for a decision here, the oldest first."""
    service = visit.service
    waiting = service.cases.list((OwnerCaseState.AWAITING_DECISION.value,), 100)
    requests = [each for each in service.accesses.list(("awaiting_decision",), 100) if each.row.side == store.OWNER]
    return visit.render("approvals.html", "Approvals", views=waiting, requests=requests)


def case(visit: Visit) -> Response:
    """Show a case."""
    service = visit.service
    view = service.cases.get(visit.id())
    bound = service.node.in_force(view.row.agreement)
    p = view.row.payload
    approvals = p.get("approvals", ())
    return visit.render(
        "case.html",
        "Case",
        view=view,
        row=view.row,
        p=p,
        outcome=p.get("outcome", {}) if view.row.side == store.QUERIER else {},
        agreement=bound.agreement if bound else None,
        grades=[grade.value for grade in Grade],
        approvals=approvals,
        approved_by_me=visit.person.id in {person_id(each["by"]) for each in approvals},
        last_slot=service.cases.last_slot_ms(view.row),
        to_decide=view.row.side == store.OWNER and view.row.state == OwnerCaseState.AWAITING_DECISION.value,
        changes=p.get("changes", ()),
        recalls=service.recalls.of_case(view.row),
    )


def approve(visit: Visit) -> Response:
    """Approve a case."""
    row = _decide(visit, approve=True)
    said = (
        "The case is approved. It is answered at the next slot."
        if row.state == OwnerCaseState.APPROVED.value
        else "Your approval is noted. Another person has to approve it too."
    )
    return visit.done(said, "case", id=row.request_id.hex())


def refuse(visit: Visit) -> Response:
    """Refuse a case."""
    row = _decide(visit, approve=False)
    return visit.done(
        "The case is refused. Whoever asked learns neither that nor why.", "case", id=row.request_id.hex()
    )


def _decide(visit: Visit, *, approve: bool) -> store.CaseRow:
    try:
        grade = Grade(visit.value("grade") or Grade.ADEQUATE)
        released = frozenset(map(Field, visit.values("released")))
    except ValueError:
        raise FormatError("grade, released: not in the vocabulary") from None
    return visit.service.received.decide(
        visit.id(), visit.person, visit.value("reason"), approve=approve, grade=grade, released=released
    )
