"""What the privacy tests share: a federation with hits, cases that a querier may sign whatever they ask for, callers of RPCs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from connector_psi.audit.entries import Leaf, parse_leaf
from connector_psi.domain.identifiers import normalise
from connector_psi.domain.records import IdentifierType
from connector_psi.node.ports import CaseRequest
from connector_psi.protocol import messages
from connector_psi.rpc.servicers import DisclosureServicer
from connector_psi.storage.queried import MatchRow
from tests.simulation.federation import Federation, alert, declaration

AGREEMENT = "SIS-OBJ:ics2-sis"
PURPOSE, BASIS = "cpsi:ObjectSeizureOrEvidence", "2018/1862:38"
REFERENCE, JUSTIFICATION = "CASE-2026-0001", "the same container is on its way to the port"


def container(number: int) -> str:
    return normalise(IdentifierType.CONTAINER, f"TGHU{number:06d}", complete_check_digit=True)


def with_hits(root: Path, count: int, seed: str = "federation") -> tuple[Federation, dict[str, MatchRow]]:
    """A federation whose two sides share ``count`` containers; matches by reference of the declaration, ``M0`` and up."""
    federation = Federation(root, seed)
    alerts = [alert(f"DE{n}", (IdentifierType.CONTAINER, container(n))) for n in range(count)]
    declarations = [declaration(f"M{n}", (IdentifierType.CONTAINER, container(n))) for n in range(count)]
    federation.services["sis"].registration.register(alerts, "test")
    federation.services["ics2"].registration.register(declarations, "test")
    federation.settle()
    matches = {row.payload["record_ref"]: row for row in federation.services["ics2"].review.list()}
    assert len(matches) == count
    return federation, matches


def signed_case(federation: Federation, match: MatchRow, **changes: Any) -> CaseRequest:
    """The case that ics2 would open for a match, with some fields as the test wants them, signed as ics2 signs."""
    node = federation.services["ics2"].node
    request = CaseRequest(
        agreement=match.agreement,
        epoch=match.epoch,
        ticket_id=bytes.fromhex(match.payload["ticket_id"]),
        redeem_codes=bytes.fromhex("".join(match.payload["redeem"])),
        purpose=PURPOSE,
        legal_basis=BASIS,
        case_reference=REFERENCE,
        justification=JUSTIFICATION,
        request_id=node.random.bytes(16),
        actor_commitments=bytes(32),
        signature=b"",
    )
    request = replace(request, **changes)
    said = {name: getattr(request, name) for name in CaseRequest.__dataclass_fields__ if name != "signature"}
    return replace(request, signature=node.signing_key.sign(messages.case_bytes(querier="ics2", **said)))


class Caller:
    """Stands for gRPC's context of a call over mutual TLS."""

    def __init__(self, federation: Federation, authority: str) -> None:
        self._pem = federation.services[authority].node.credentials.cert_pem

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"ssl_tls_version": [b"TLSv1.3"], "x509_pem_cert": [self._pem]}


def owner_port(federation: Federation) -> tuple[DisclosureServicer, Any]:
    """The owner's disclosure RPCs and the querier as their caller."""
    return DisclosureServicer(federation.services["sis"]), Caller(federation, "ics2")


def leaves_of(federation: Federation, authority: str, request_id: bytes | None = None) -> list[tuple[bytes, Leaf]]:
    """The leaves of a node's log, as bytes and parsed; those of one exchange, or all."""
    node = federation.services[authority].node
    with node.store.read() as tx:
        raw = node.entries.read_leaves(tx, 0, node.entries.size(tx))
    return [(leaf, p) for leaf in raw if (p := parse_leaf(leaf)) and request_id in (None, p.request_id)]
