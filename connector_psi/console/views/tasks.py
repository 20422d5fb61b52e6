"""What falls due for a case officer or a supervisor: one list, the most pressing first."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.responses import Response

from connector_psi.console.visit import Visit
from connector_psi.disclosure import CaseState, OwnerCaseState
from connector_psi.storage import cases, queried

MOST = 100


@dataclass(frozen=True, slots=True)
class Task:
    """Something to do.

    Attributes:
        what: Of the catalogue.
        due_ms: By when; 0 for no time.
        agreement: Whose.
        page: Where it is done.
        id: Of the match, case, request or recall.
        late: Whether the time is over.
    """

    what: str
    due_ms: int
    agreement: str
    page: str
    id: str
    late: bool


def tasks(visit: Visit) -> Response:
    """Show what falls due."""
    service, now = visit.service, visit.service.node.now_ms()
    found: list[Task] = []
    for view in service.cases.list(
        (OwnerCaseState.AWAITING_DECISION.value, CaseState.PENDING.value, CaseState.DISCLOSED.value), MOST
    ):
        row, ident = view.row, view.row.request_id.hex()
        if row.state == OwnerCaseState.AWAITING_DECISION.value:
            due = min(filter(None, (view.answer_due_ms, service.cases.last_slot_ms(row))))
            found.append(Task("Decide about a case", due, row.agreement, "case", ident, now > due))
        elif view.recall_id:
            continue
        elif row.state == CaseState.PENDING.value and view.overdue:
            found.append(
                Task("An owner is late with its answer", view.answer_due_ms, row.agreement, "case", ident, late=True)
            )
        elif row.state == CaseState.DISCLOSED.value and row.payload.get("changes"):
            found.append(
                Task("The own record of a disclosed case changed", 0, row.agreement, "case", ident, late=False)
            )
    for access in service.accesses.list(("awaiting_decision",), MOST):
        due = service.cases.last_slot_ms(access.row)
        found.append(
            Task(
                "Decide about access",
                due,
                access.row.agreement,
                "access_request",
                access.row.request_id.hex(),
                now > due,
            )
        )
    found += [
        Task(
            "Acknowledge a recall",
            each.row.due_ms,
            each.row.agreement,
            "recall",
            each.row.recall_id.hex(),
            each.overdue,
        )
        for each in service.recalls.list(("open",), MOST)
        if each.row.side == cases.QUERIER
    ]
    page = service.review.inbox(state=queried.NEW, limit=10)
    hits = service.review.inbox(state=queried.CONFIRMED, limit=MOST)
    found += [
        Task(
            "Ask for disclosure of a hit",
            item.ticket_until_ms,
            item.row.agreement,
            "match",
            item.row.match_id,
            late=False,
        )
        for item in hits.items
        if not item.ended and not service.cases.of_match(item.row.match_id)
    ]
    found.sort(key=lambda task: (not task.late, task.due_ms or 1 << 62))
    return visit.render(
        "tasks.html",
        "Tasks",
        found=found,
        items=page.items,
        unreviewed=sum(n for (_, state), n in page.counts.items() if state == queried.NEW),
    )
