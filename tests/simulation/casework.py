"""What tests of cases begin with: a sought object that customs asks about, and access by case, where the police may sign whatever
they ask for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from connector_psi.domain.records import Identifier, IdentifierType, Record, SourceSystem, TokenClass
from connector_psi.node.granting import HOUR_MS, signed_bytes
from connector_psi.node.ports import AccessAnswer, AccessRequest
from connector_psi.pki import Role
from connector_psi.protocol.owner import Query
from connector_psi.protocol.querier import Batch
from connector_psi.storage.accesses import AccessRow
from connector_psi.storage.queried import MatchRow
from tests.simulation.federation import Federation, declaration, person

AGREEMENT = "LEA-CASE:police-ics2"
PURPOSE = {"purpose": "cpsi:CriminalInvestigationCase", "legal_basis": "ICS2:case-by-case"}
CONTAINER = (IdentifierType.CONTAINER, "CSQU3054383")
OTHER_CONTAINER = (IdentifierType.CONTAINER, "TGHU1234567")
PHONE = (IdentifierType.PHONE, "+32475123456")
TEXTS = {"case_reference": "BE-2026-77", "offence": "trafficking in drugs", "necessity": "the container was named"}
OFFICER = person("police")
CHIEF = person("police", Role.SUPERVISOR, "supervisor1")
FIRST, SECOND = person("ics2"), person("ics2", Role.SUPERVISOR, "supervisor1")
T_S = 72 * 3600
PROFILES = ("ics2", "police")


def ask_about_sought(federation: Federation, code: str = "ics2") -> bytes:
    """An officer of customs confirms the latest match with a sought object, and opens the case; returns its id."""
    service = federation.services[code]
    match = [row for row in service.review.list() if row.agreement == f"SIS-OBJ:{code}-sis"][-1]
    service.review.decide(match.match_id, person(code), "the same number", confirm=True)
    row = service.asked.open(
        match.match_id,
        person(code),
        purpose="cpsi:ObjectSeizureOrEvidence",
        legal_basis="2018/1862:38",
        case_reference="CASE-1",
        justification="the box is on its way to the port",
    )
    return row.request_id


def message(ref: str, *identifiers: tuple[IdentifierType, str], category: str = "siena.container") -> Record:
    """A record of a police message."""
    return Record(
        source=SourceSystem.SIENA,
        source_ref=ref,
        category=category,
        identifiers=tuple(Identifier(t, v, f"$.{t.value}") for t, v in identifiers),
        fields={},
        message_digest=hashlib.sha256(ref.encode()).digest(),
    )


def begun(
    root: Path,
    messages: Sequence[Record] = (message("S1", CONTAINER),),
    declarations: Sequence[Record] = (declaration("M1", CONTAINER),),
    kind: type[Federation] = Federation,
    profiles: Sequence[str] = PROFILES,
) -> Federation:
    """Both nodes with their records, and the set taken."""
    federation = kind(root, profiles=profiles)
    federation.services["ics2"].registration.register(declarations, "test")
    federation.services["police"].registration.register(messages, "test")
    federation.settle()
    return federation


def ask(federation: Federation, *refs: str, hours: int = 0, officer: Any = OFFICER) -> AccessRow:
    """An officer asks for access with some records."""
    named = [(SourceSystem.SIENA, ref) for ref in refs or ("S1",)]
    return federation.services["police"].asked_access.request(AGREEMENT, officer, named, hours=hours, **TEXTS)


def grant(federation: Federation, request_id: bytes, **terms: int) -> None:
    """Two people of customs grant it."""
    granting = federation.services["ics2"].granting
    for who in (FIRST, SECOND):
        granting.decide(request_id, who, "it is needed", approve=True, **terms)


def states(federation: Federation, code: str = "police") -> list[str]:
    return [view.row.state for view in federation.services[code].accesses.list()]


def found(federation: Federation) -> list[MatchRow]:
    """The matches of the agreement at the police."""
    return [row for row in federation.services["police"].review.list() if row.agreement == AGREEMENT]


def signed(federation: Federation, caller: str = "police", code: str = AGREEMENT, **changes: Any) -> AccessRequest:
    """A request that an authority signs, with some fields as the test wants them."""
    node = federation.services[caller].node
    request = AccessRequest(
        agreement=code,
        request_id=node.random.bytes(16),
        identifiers=3,
        expires_ms=node.now_ms() + 24 * HOUR_MS,
        actor_commitments=bytes(64),
        signature=b"",
        **TEXTS,
    )
    request = replace(request, **changes)
    return replace(request, signature=node.signing_key.sign(signed_bytes(caller, request)))


def granted(federation: Federation, request: AccessRequest, caller: str = "police", **terms: int) -> AccessAnswer:
    """Ask, have it granted, and collect the answer."""
    ics2 = federation.services["ics2"]
    assert ics2.granting.request(caller, request) is None
    grant(federation, request.request_id, **terms)
    federation.clock.advance(11)
    ics2.tick_cases()
    ics2.tick_log()
    answer = ics2.granting.request(caller, request)
    assert answer is not None
    return answer


def query(
    access_id: bytes, number: int = 1, tokens: int = 1, caller: str = "police", code: str = AGREEMENT, epoch: int = 1,
    token_class: TokenClass = TokenClass.OBJECT,
) -> Query:  # fmt: skip
    """The ``number``-th query that an authority could send under a grant: valid, and like no other."""
    batch = Batch(
        querier=caller,
        agreement=code,
        epoch=epoch,
        token_class=token_class,
        request_id=hashlib.sha256(b"request %d" % number).digest()[:16],
        seed=hashlib.sha256(b"seed %d" % number).digest(),
        tokens=tuple(b"token %d of %d" % (n, number) for n in range(tokens)),
    )
    prepared = batch.prepare()
    return Query(
        querier=caller,
        agreement=code,
        epoch=epoch,
        token_class=token_class,
        request_id=batch.request_id,
        batch_commitment=prepared.commitment,
        source_commitment=bytes(32),
        actor_commitment=bytes(32),
        access_id=access_id,
        blinded_elements=prepared.blinded_elements,
    )
