"""Matches: the inbox, and one match beside the own record, where a person decides and asks."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from connector_psi.console.visit import Visit
from connector_psi.disclosure import is_silent
from connector_psi.domain.records import IDENTIFIER_TABLE, IdentifierType
from connector_psi.errors import FormatError
from connector_psi.node.node import QUERIER
from connector_psi.pki import PersonIdentity, Role, person_id
from connector_psi.storage import queried

PAGE = 50
STATES = (queried.NEW, queried.CONFIRMED, queried.DISMISSED, queried.GONE)


def inbox(visit: Visit) -> Response:
    """Show matches, the most urgent first."""
    state = visit.query.get("state", queried.NEW)
    state = state if state in STATES else queried.NEW
    codes = sorted(bound.code for bound in visit.service.node.agreements(QUERIER))
    agreement = visit.query.get("agreement", "")
    agreement = agreement if agreement in codes else ""
    page = visit.service.review.inbox(state=state, agreement=agreement, after=visit.query.get("after", ""), limit=PAGE)
    counts = {
        s: sum(n for (code, kind), n in page.counts.items() if kind == s and agreement in {"", code}) for s in STATES
    }
    return visit.render(
        "matches.html",
        "Matches",
        items=page.items,
        following=page.next,
        begun=bool(visit.query.get("after")),
        state=state,
        states=STATES,
        counts=counts,
        agreement=agreement,
        codes=codes,
    )


def match(visit: Visit) -> Response:
    """Show a match beside the own record."""
    service = visit.service
    row, record = service.review.get(visit.params["id"])
    bound = service.node.in_force(row.agreement)
    agreement = bound.agreement if bound else None
    cases = service.cases.of_match(row.match_id)
    found = {(kind, path) for kind, path, _ in row.payload["evidence"]}
    return visit.render(
        "match.html",
        "Match",
        row=row,
        record=record,
        agreement=agreement,
        peer=bound.peer if bound else "",
        evidence=[_evidence(record, *each) for each in row.payload["evidence"]],
        marked=found,
        limit=service.review.limit(row),
        people=[person_id(uri) for uri in row.payload.get("people", ())],
        people_needed=agreement.confirm.querier_people if agreement else 0,
        confirmed_by_me=visit.person.id in {person_id(uri) for uri in row.payload.get("people", ())},
        silent=bool(agreement and is_silent(agreement)),
        cases=cases,
        may_decide=visit.may("confirm"),
    )


def _evidence(record: Any, kind: str, path: str, role: str) -> dict[str, Any]:  # noqa: ANN401 - a record or None
    """One identifier that agrees: what it is, where it stands in the own message, and how much it says by itself."""
    values = [i.value for i in record.identifiers if i.type.value == kind and i.source_path == path] if record else []
    try:
        alone = IDENTIFIER_TABLE[IdentifierType(kind)].suffices_alone
    except ValueError:
        alone = False
    return {"type": kind, "path": path, "role": role, "values": values, "alone": alone}


def confirm(visit: Visit) -> Response:
    """Confirm a match."""
    row = visit.service.review.decide(visit.params["id"], visit.person, visit.value("reason"), confirm=True)
    said = (
        "The match is confirmed: it is a hit. You can ask for disclosure."
        if row.state == queried.CONFIRMED
        else "Your confirmation is noted. Another person has to confirm it too."
    )
    return visit.done(said, "match", id=row.match_id)


def dismiss(visit: Visit) -> Response:
    """Dismiss a match."""
    visit.service.review.decide(visit.params["id"], visit.person, visit.value("reason"), confirm=False)
    return visit.done("The match is dismissed.", "matches")


def open_case(visit: Visit) -> Response:
    """Ask the owner for disclosure."""
    row = visit.service.asked.open(
        visit.params["id"],
        visit.person,
        purpose=visit.value("purpose"),
        legal_basis=visit.value("legal_basis"),
        case_reference=visit.value("case_reference"),
        justification=visit.value("justification"),
        ordered_by=_ordered_by(visit),
    )
    return visit.done(
        "The request is on its way. The answer comes at a slot, whatever it is.", "case", id=row.request_id.hex()
    )


def _ordered_by(visit: Visit) -> str:
    """URI of the colleague who ordered it, empty where nobody is named."""
    ident = visit.value("ordered_by").strip()
    if not ident:
        return ""
    try:
        role = Role(visit.value("ordered_role"))
    except ValueError:
        raise FormatError("ordered_role: not a role") from None
    return PersonIdentity(visit.service.node.authority, role, ident).uri
