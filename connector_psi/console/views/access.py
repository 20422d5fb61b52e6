"""Access by case: asked for with some own records, and decided before anything is evaluated."""

from __future__ import annotations

from starlette.responses import Response

from connector_psi.console.visit import Visit
from connector_psi.domain.purposes import Mode
from connector_psi.domain.records import SourceSystem
from connector_psi.errors import FormatError
from connector_psi.node.granting import GrantState
from connector_psi.node.node import QUERIER
from connector_psi.pki import person_id
from connector_psi.storage import accesses as store

PAGE = 50
MAX_RECORDS = 200


def listed(visit: Visit) -> Response:
    """Show requests of both sides, and the form for another."""
    service = visit.service
    found = service.accesses.list((), PAGE + 1, (visit.number - 1) * PAGE)
    agreements = [b for b in service.node.agreements(QUERIER) if b.agreement.mode is Mode.CASE and b.agreement.grant]
    return visit.render(
        "access.html",
        "Access by case",
        views=found[:PAGE],
        more=len(found) > PAGE,
        number=visit.number,
        agreements=agreements,
        sources=[source.value for source in SourceSystem],
        may_ask=visit.may("request_access"),
    )


def request(visit: Visit) -> Response:
    """Ask an owner for access."""
    row = visit.service.asked_access.request(
        visit.value("agreement"),
        visit.person,
        _named(visit.value("records")),
        case_reference=visit.value("case_reference"),
        offence=visit.value("offence"),
        necessity=visit.value("necessity"),
        hours=visit.whole("hours"),
    )
    return visit.done("The request for access is on its way.", "access_request", id=row.request_id.hex())


def _named(text: str) -> list[tuple[SourceSystem, str]]:
    """Records, one a line: source and reference."""
    found = []
    for number, line in enumerate(filter(None, map(str.strip, text.splitlines())), 1):
        source, _, reference = line.partition(" ")
        try:
            found.append((SourceSystem(source), reference.strip()))
        except ValueError:
            raise FormatError(f"records: line {number}: begin with the source, such as ICS2") from None
    return found


def one(visit: Visit) -> Response:
    """Show a request."""
    service = visit.service
    view = service.accesses.get(visit.id())
    bound = service.node.in_force(view.row.agreement)
    approvals = view.row.payload.get("approvals", ())
    return visit.render(
        "access_request.html",
        "Request for access",
        view=view,
        row=view.row,
        p=view.row.payload,
        terms=bound.agreement.grant if bound else None,
        agreement=bound.agreement if bound else None,
        approvals=approvals,
        approved_by_me=visit.person.id in {person_id(each["by"]) for each in approvals},
        last_slot=service.cases.last_slot_ms(view.row),
        to_decide=view.row.side == store.OWNER and view.row.state == GrantState.AWAITING_DECISION.value,
    )


def grant(visit: Visit) -> Response:
    """Grant access."""
    row = visit.service.granting.decide(
        visit.id(),
        visit.person,
        visit.value("reason"),
        approve=True,
        identifiers=visit.whole("identifiers"),
        hours=visit.whole("hours"),
    )
    said = (
        "Access is granted. It is answered at the next slot."
        if row.state == GrantState.APPROVED.value
        else "Your approval is noted. Another person has to approve it too."
    )
    return visit.done(said, "access_request", id=row.request_id.hex())


def deny(visit: Visit) -> Response:
    """Refuse access."""
    row = visit.service.granting.decide(visit.id(), visit.person, visit.value("reason"), approve=False)
    return visit.done("Access is refused.", "access_request", id=row.request_id.hex())
