"""A federation in memory: real nodes on real directories, a clock and randomness that the test drives, peers as direct calls.

Only transport is replaced, by ``DirectOwner``, which calls the owner's use cases the way the servicers do. Whoever wants faults on the way
sets ``Federation.fault``, which is called before and after every call with its name.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from connector_psi import pki
from connector_psi.audit.witness import Submission
from connector_psi.domain.records import Field, Identifier, IdentifierType, Record, SourceSystem
from connector_psi.errors import UnavailableError
from connector_psi.node import ports, setup
from connector_psi.node.config import Layout
from connector_psi.node.service import Service
from connector_psi.protocol.owner import Query
from connector_psi.storage import owned, records
from connector_psi.witness.cosigning import WitnessAnswer


class ManualClock:
    """Time stands still until the test moves it."""

    def __init__(self, start: datetime | None = None) -> None:
        self._now = start or datetime.now(tz=UTC).replace(microsecond=0)
        self._start = self._now
        self._lock = threading.Lock()

    def now(self) -> datetime:
        with self._lock:
            return self._now

    def monotonic_s(self) -> float:
        with self._lock:
            return (self._now - self._start).total_seconds()

    def advance(self, seconds: float) -> None:
        with self._lock:
            self._now += timedelta(seconds=seconds)


class SeededRandom:
    """SHA-256 in counter mode: the same bytes in every run of one seed. Never outside tests."""

    def __init__(self, seed: str) -> None:
        self._seed = seed.encode()
        self._counter = 0
        self._lock = threading.Lock()

    def bytes(self, n: int) -> bytes:
        out = bytearray()
        with self._lock:
            while len(out) < n:
                self._counter += 1
                out += hashlib.sha256(self._seed + self._counter.to_bytes(8, "big")).digest()
        return bytes(out[:n])


class DirectOwner:
    """A peer in the role of owner, called directly; implements ``ports.OwnerPort``."""

    def __init__(self, federation: Federation, caller: str, authority: str) -> None:
        self._federation = federation
        self._caller = caller
        self._authority = authority

    def _service(self, call: str) -> Service:
        self._federation.fault(f"before:{call}")
        service = self._federation.services.get(self._authority)
        if service is None:
            raise UnavailableError(f"peer {self._authority}: away")
        return service

    def get_manifest(self, agreement: str) -> ports.ManifestAnswer:
        answer = self._service("get_manifest").publishing.get_manifest(self._caller, agreement)
        self._federation.fault("after:get_manifest")
        return answer

    def read_set(self, manifest_hash: bytes, file: str, offset: int) -> Iterator[bytes]:
        for piece in self._service("read_set").publishing.read_set(self._caller, manifest_hash, file, offset):
            yield piece
            self._federation.fault("after:read_set")

    def get_deltas(self, agreement: str, epoch: int, from_seq: int) -> Iterator[ports.DeltaAnswer]:
        service = self._service("get_deltas")
        for answer in service.deltas.answers(self._caller, agreement, epoch, from_seq):
            yield answer
            self._federation.fault("after:get_deltas")

    def evaluate(self, query: Query) -> tuple[bytes, bytes]:
        self._federation.queries.append(query)
        answer = self._service("evaluate").evaluation.evaluate(query)
        self._federation.fault("after:evaluate")
        return answer

    def open_case(self, request: ports.CaseRequest, at_least: int = 0) -> None:
        self._service("open_case").received.accept(self._caller, request)
        self._federation.fault("after:open_case")

    def get_outcome(self, agreement: str, request_id: bytes) -> ports.OutcomeAnswer | None:
        answer = self._service("get_outcome").received.outcome(self._caller, agreement, request_id)
        self._federation.fault("after:get_outcome")
        return answer

    def request_access(self, request: ports.AccessRequest) -> ports.AccessAnswer | None:
        answer = self._service("request_access").granting.request(self._caller, request)
        self._federation.fault("after:request_access")
        return answer

    def recall(self, message: ports.RecallMessage) -> None:
        self._service("recall").recalled.receive(self._caller, message)
        self._federation.fault("after:recall")

    def add_checkpoint(self, submission: Submission) -> WitnessAnswer:
        answer = self._service("add_checkpoint").witnessing.add_checkpoint(self._caller, submission)
        self._federation.fault("after:add_checkpoint")
        return answer

    def acknowledge_recall(self, message: ports.Acknowledgement) -> None:
        self._service("acknowledge_recall").recalling.acknowledge(self._caller, message)
        self._federation.fault("after:acknowledge_recall")

    def get_checkpoint(self) -> bytes:
        note = self._service("get_checkpoint").oversight.checkpoint()
        self._federation.fault("after:get_checkpoint")
        return note

    def prove_consistency(self, old_size: int, new_size: int) -> list[bytes]:
        proof = self._service("prove_consistency").oversight.prove_consistency(old_size, new_size)
        self._federation.fault("after:prove_consistency")
        return proof


class DirectConnector:
    """Implements ``ports.Connector``."""

    def __init__(self, federation: Federation, caller: str) -> None:
        self._federation = federation
        self._caller = caller

    def owner(self, authority: str) -> DirectOwner:
        return DirectOwner(self._federation, self._caller, authority)

    def witness(self, name: str) -> ports.WitnessPort:
        return self._federation.witnesses[name]

    def forget(self, authority: str) -> None:
        pass

    def close(self) -> None:
        pass


class Federation:
    """Nodes that know one another; ``open`` and ``close`` stand for starting and stopping their processes."""

    edits: Sequence[tuple[str, str]] = ()
    """Words of the profiles' policies that a federation has otherwise."""
    empty_deltas = False
    """Whether ``settle`` has deltas published in which nothing changed, as a clock does: those are most of what it costs."""

    def __init__(
        self,
        root: Path,
        seed: str = "federation",
        profiles: Sequence[str] = ("ics2", "sis"),
        start: datetime | None = None,
    ) -> None:
        """Args: profiles: Codes of the nodes; the profile has the name of the code, ``CODE=PROFILE`` names another."""
        named = dict((text.split("=") if "=" in text else (text, text)) for text in profiles)
        profiles = tuple(named)
        self.root = root
        self.clock = ManualClock(start)
        self.seed = seed
        self.services: dict[str, Service] = {}
        self.queries: list[Query] = []
        self.witnesses: dict[str, ports.WitnessPort] = {}
        """Those that are no nodes, by the name of their key."""
        self.fault: Callable[[str], None] = lambda _name: None
        self._opened = 0
        for n, code in enumerate(profiles):
            setup.init_node(
                root / code,
                authority=code,
                profile=named[code],
                pkidir=root / "pki",
                listen=f"127.0.0.1:{7100 + n}",
                local=f"127.0.0.1:{7200 + n}",
                clock=self.clock,
                random=SeededRandom(f"{seed}/init/{code}"),
            )
        for code in profiles:
            settings = Layout(root / code).config
            settings.write_text(settings.read_text().replace("delta_s = 5", "delta_s = 1"))
            if self.edits:
                self.edit_policy(code, *self.edits)
            self.open(code)
        for code in profiles:
            for other in profiles:
                if code != other:
                    self.services[code].peering.add((root / other / "descriptor.json").read_bytes())

    def connector(self, code: str) -> ports.Connector:
        return DirectConnector(self, code)

    def open(self, code: str) -> Service:
        self._opened += 1
        random = SeededRandom(f"{self.seed}/{code}/{self._opened}")
        service = Service(self.root / code, lambda _node: self.connector(code), self.clock, random)
        self.services[code] = service
        return service

    def edit_policy(self, code: str, *edits: tuple[str, str]) -> None:
        """Change words of a policy and sign it as two people; the node is closed and opens with it."""
        layout = Layout(self.root / code)
        text = before = layout.policy.read_text()
        for old, new in edits:
            text = text.replace(old, new)
        assert text != before
        layout.policy.write_text(text)
        setup.sign_policy(layout, self.clock)

    def close(self, code: str | None = None) -> None:
        for name in [code] if code else list(self.services):
            self.services.pop(name).close()

    def settle(self, rounds: int = 3, step_s: float = 2.0) -> None:
        """Let every loop of every node have its turns while time passes."""
        for _ in range(rounds):
            self.clock.advance(step_s)
            for service in self.services.values():
                service.registration.expire()
                service.tick_publish()
                if self.empty_deltas or _is_behind(service):
                    service.tick_deltas()
                service.tick_log()
            for service in self.services.values():
                service.tick_witnesses()
            for service in self.services.values():
                service.tick_query()
                service.tick_cases()
                service.tick_log()


def _is_behind(service: Service) -> bool:
    """Whether a set that answers does not say yet what changed."""
    node = service.node
    with node.store.read() as tx:
        newest = records.max_change_seq(tx)
        rows = [row for code in service.publishing.runnable() for row in owned.answering(tx, code, node.now_ms())]
    return any((row.change_seq or 0) < newest for row in rows)


def person(code: str, role: pki.Role = pki.Role.OFFICER, name: str = "officer1") -> pki.PersonIdentity:
    return pki.PersonIdentity(code, role, name)


def declaration(ref: str, *identifiers: tuple[IdentifierType, str], **fields: str) -> Record:
    return Record(
        source=SourceSystem.ICS2,
        source_ref=ref,
        category="ics2.ens",
        identifiers=tuple(Identifier(t, v, f"/test/{t.value}") for t, v in identifiers),
        fields={Field.MRN: (ref,), **{Field(k): (v,) for k, v in fields.items()}},
        message_digest=hashlib.sha256(ref.encode()).digest(),
    )


def alert(
    ref: str, *identifiers: tuple[IdentifierType, str], category: str = "sis.38.g", hidden: bool = False
) -> Record:
    return Record(
        source=SourceSystem.SIS,
        source_ref=ref,
        category=category,
        identifiers=tuple(Identifier(t, v, f"$.{t.value}") for t, v in identifiers),
        fields={
            Field.OBJECT_TYPE: ("container",),
            Field.OBJECT_IDENTIFIERS: tuple(v for _, v in identifiers),
            Field.ACTION: ("seizure",),
            Field.SCHENGEN_ID: (ref,),
            Field.ISSUING_STATE: ("DE",),
            Field.SIRENE_CONTACT: ("sirene@example.org",),
            Field.ALERT_REASON: ("a reason that is never disclosed",),
        },
        message_digest=hashlib.sha256(ref.encode()).digest(),
        hidden=hidden,
    )
