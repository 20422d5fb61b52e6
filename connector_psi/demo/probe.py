"""A customs officer with tools of their own: asks an owner about a ticket that was never issued, and watches.

The node of customs opens cases on its matches alone, so this goes past it, with the node's own credentials and signing
key, to the owner's peer port. What it can learn there is what anybody could who holds both.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

from connector_psi import pki
from connector_psi.demo.federation import RunningNode
from connector_psi.disclosure import parse_envelope
from connector_psi.domain.clock import SystemRandom
from connector_psi.errors import UnavailableError
from connector_psi.keyring import Keyring
from connector_psi.node.asked import case_bytes
from connector_psi.node.config import Layout
from connector_psi.node.ports import CaseRequest, OutcomeAnswer
from connector_psi.policy import Agreement
from connector_psi.rpc import tls
from connector_psi.rpc.client import PeerClient

_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Answer:
    """An outcome, and when it could first be had."""

    outcome: OutcomeAnswer = field(repr=False)
    served_ms: int

    def content(self) -> dict[str, object]:
        """Return everything that the answer says, but for the case and the second in which it was asked."""
        envelope = parse_envelope(self.outcome.envelope)
        named = {name: getattr(envelope, name) for name in envelope.__dataclass_fields__}
        return {name: value for name, value in named.items() if name not in {"case_id", "erase_after"}}

    def sizes(self) -> tuple[int, int, int, int]:
        """Return the lengths of envelope, signature, salt and log entry."""
        o = self.outcome
        return len(o.envelope), len(o.signature), len(o.salt), len(o.proof.leaf)


class Probe:
    """A connection from customs to an owner's peer port.

    Args:
        customs: Whose credentials are used.
        owner: Who is asked.
    """

    def __init__(self, customs: RunningNode, owner: RunningNode) -> None:
        layout = Layout(customs.directory)
        channel = tls.channel(
            owner.peer, owner.authority, pki.load_credentials(layout.node_cert), layout.root_cert.read_bytes()
        )
        self._client = PeerClient(owner.authority, channel)
        self._key = Keyring.open(customs.directory).signing_key
        self._querier = customs.authority

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._client.close()

    def open_unknown(self, agreement: Agreement, epoch: int, case_reference: str) -> str:
        """Open a case about an invented ticket and return its id."""
        random = SystemRandom()
        request = CaseRequest(
            agreement=agreement.code,
            epoch=epoch,
            ticket_id=random.bytes(16),
            redeem_codes=random.bytes(8),
            purpose=agreement.purpose.value,
            legal_basis=agreement.legal_basis[0].value,
            case_reference=case_reference,
            justification="an invented ticket",
            request_id=random.bytes(16),
            actor_commitments=random.bytes(32),
            signature=b"",
        )
        signed = case_bytes(self._querier, request)
        self._client.open_case(replace(request, signature=self._key.sign(signed)))
        return request.request_id.hex()

    def watch(self, agreement: str, case_ids: Iterable[str], wait_s: float) -> dict[str, Answer]:
        """Ask for outcomes again and again until all are served.

        Raises:
            UnavailableError: They are not, in ``wait_s`` seconds.
        """
        left, answers = list(case_ids), {}
        deadline = time.monotonic() + wait_s
        while left:
            for case_id in list(left):
                outcome = self._client.get_outcome(agreement, bytes.fromhex(case_id))
                if outcome is not None:
                    answers[case_id] = Answer(outcome, time.time_ns() // 1_000_000)
                    left.remove(case_id)
            if left and time.monotonic() > deadline:
                raise UnavailableError("an outcome was not served in time")
            time.sleep(_POLL_S)
        return answers
