"""The production ports of ``audit.log`` in memory, which themselves assert what the ports promise.

``MemoryBackend`` keeps committed rows apart from those of an open transaction. It asserts that indices are contiguous,
that no node is rewritten with another value, that checkpoints never go back, and that none is taken over leaves that
could still be rolled back: a production store would fork a log there, a test has to fail.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from connector_psi.audit.bodies import SealedBody
from connector_psi.audit.checkpoint import NoteSigner
from connector_psi.audit.entries import Event, LeafDraft, RetentionClass, Side
from connector_psi.audit.log import Log
from connector_psi.audit.merkle import Node
from connector_psi.errors import KeyUnavailableError, LogForkError, ProofInvalidError
from tests.simulation import bundles

ORIGIN = "log.example/customs"
START = datetime(2026, 11, 22, 6, 5, 0, 123456, tzinfo=UTC)


class FixedClock:
    """A clock that moves when told."""

    def __init__(self, now: datetime = START) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def monotonic_s(self) -> float:
        return (self._now - START).total_seconds()

    def advance(self, step: timedelta) -> None:
        self._now += step


class SeededRandom:
    """Bytes that a test can repeat."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)

    def bytes(self, n: int) -> bytes:
        return self._random.randbytes(n)


class MemoryKeys:
    """``WrappingKeys``: one key per month and class, destroyed by name."""

    def __init__(self, seed: int = 2) -> None:
        self._random = random.Random(seed)
        self._keys: dict[str, bytes] = {}
        self._destroyed: set[str] = set()

    def get_or_create(self, month: str, retention_class: str) -> tuple[str, bytes]:
        key_id = f"{month}/{retention_class}"
        assert key_id not in self._destroyed, "a body is sealed for a month that is over"
        return key_id, self._keys.setdefault(key_id, self._random.randbytes(32))

    def get(self, key_id: str) -> bytes:
        if key_id not in self._keys:
            raise KeyUnavailableError("wrapping key is gone")
        return self._keys[key_id]

    def destroy(self, key_id: str) -> None:
        del self._keys[key_id]
        self._destroyed.add(key_id)


class MemoryGuard:
    """``CheckpointGuard`` that outlives the backend."""

    def __init__(self) -> None:
        self.value: tuple[int, bytes] | None = None

    def highest(self) -> tuple[int, bytes] | None:
        return self.value

    def advance(self, size: int, root: bytes) -> None:
        if self.value is not None and (size, root) != self.value and size <= self.value[0]:
            raise LogForkError("guard goes back")
        self.value = (size, root)


@dataclass
class Rows:
    """What a store holds. Tests damage it on purpose."""

    leaves: list[bytes] = field(default_factory=list)
    nodes: dict[tuple[int, int], bytes] = field(default_factory=dict)
    bodies: dict[int, SealedBody] = field(default_factory=dict)
    checkpoints: list[tuple[int, bytes]] = field(default_factory=list)

    def copy(self) -> Rows:
        return Rows(list(self.leaves), dict(self.nodes), dict(self.bodies), list(self.checkpoints))


class MemoryTx:
    """An open transaction: what it wrote, over the committed rows."""

    def __init__(self, base: Rows) -> None:
        self.base = base
        self.leaves: list[bytes] = []
        self.nodes: dict[tuple[int, int], bytes] = {}
        self.bodies: dict[int, SealedBody] = {}
        self.checkpoints: list[tuple[int, bytes]] = []
        self.open = True


class MemoryBackend:
    """``LogBackend[MemoryTx]``."""

    def __init__(self, rows: Rows | None = None) -> None:
        self.rows = rows or Rows()
        self._writer: MemoryTx | None = None

    @contextmanager
    def transaction(self) -> Iterator[MemoryTx]:
        """Commit at the end of the block, or forget everything if it raises."""
        assert self._writer is None, "two writers on one log"
        tx = self._writer = MemoryTx(self.rows)
        try:
            yield tx
            self.rows.leaves += tx.leaves
            self.rows.nodes |= tx.nodes
            self.rows.bodies |= tx.bodies
            self.rows.checkpoints += tx.checkpoints
        finally:
            tx.open = False
            self._writer = None

    def size(self, tx: MemoryTx) -> int:
        assert tx.open, "used after its end"
        return len(tx.base.leaves) + len(tx.leaves)

    def read_node(self, tx: MemoryTx, level: int, index: int) -> bytes:
        assert tx.open, "used after its end"
        key = (level, index)
        node = tx.nodes.get(key) or tx.base.nodes.get(key)
        if node is None:
            raise ProofInvalidError(f"node {level}/{index}: missing")
        return node

    def append(
        self, tx: MemoryTx, index: int, leaf: bytes, nodes: Sequence[Node], body: SealedBody, erase_after: datetime
    ) -> None:
        assert index == self.size(tx), "indices are not contiguous"
        tx.leaves.append(leaf)
        assert nodes[0][:2] == (0, index), "the first node is the leaf"
        for level, position, digest in nodes:
            assert len(digest) == 32
            assert (position + 1) << level == index + 1, "a node that this leaf does not complete"
            held = tx.nodes.get((level, position), tx.base.nodes.get((level, position), digest))
            assert held == digest, "a node is rewritten"
            tx.nodes[level, position] = digest
        tx.bodies[index] = body

    def read_leaves(self, tx: MemoryTx, start: int, end: int) -> list[bytes]:
        assert 0 <= start <= end
        return [*tx.base.leaves, *tx.leaves][start:end] if tx.leaves else tx.base.leaves[start:end]

    def read_body(self, tx: MemoryTx, index: int) -> SealedBody | None:
        return tx.bodies.get(index) or tx.base.bodies.get(index)

    def latest_checkpoint(self, tx: MemoryTx) -> bytes | None:
        every = tx.checkpoints or tx.base.checkpoints
        return every[-1][1] if every else None

    def save_checkpoint(self, tx: MemoryTx, size: int, note: bytes) -> None:
        assert not tx.leaves, "a checkpoint over leaves that can still be rolled back"
        assert size <= self.size(tx)
        every = tx.checkpoints or tx.base.checkpoints
        assert not every or every[-1][0] <= size, "a checkpoint goes back"
        tx.checkpoints.append((size, note))


@dataclass
class Bench:
    """A log on memory, with everything it stands on at hand."""

    log: Log[MemoryTx]
    backend: MemoryBackend
    guard: MemoryGuard
    keys: MemoryKeys
    clock: FixedClock
    signer: NoteSigner

    def export(self, folder: Path, *, bodies: bool = False) -> Path:
        """Write a bundle."""
        with self.backend.transaction() as tx:
            return bundles.write(folder, tx, self.log, self.backend, self.signer.vkey, bodies=bodies)

    def append(self, count: int = 1) -> None:
        """Append entries, each in a transaction of its own."""
        for _ in range(count):
            with self.backend.transaction() as tx:
                size = self.backend.size(tx)
                self.log.append(tx, draft(size), {"officer": f"o-{size}", "decision": "allow"})

    def checkpoint(self) -> bytes:
        with self.backend.transaction() as tx:
            return self.log.checkpoint(tx)

    def on(self, backend: MemoryBackend) -> Bench:
        """The same node, started on another store."""
        return build_log(backend=backend, guard=self.guard, keys=self.keys, clock=self.clock)


def draft(number: int = 0) -> LeafDraft:
    """A consultation; the number makes it distinct."""
    return LeafDraft(
        event=Event.CONSULT,
        retention_class=RetentionClass.SIS_3Y,
        request_id=number.to_bytes(16, "big"),
        side=Side.QUERIER,
        agreement="SIS-OBJ:ics2-sis",
        epoch=7,
        token_class="object",
        purpose="eu-sis:object-check",
        legal_basis="32018R1862:38",
        mode="case",
        policy_hash=bytes(32),
        n_padded=8,
        batch_commitment=b"\x01" * 32,
        source_commitment=b"\x02" * 32,
        actor_commitment=b"\x03" * 32,
    )


def build_log(
    *,
    backend: MemoryBackend | None = None,
    guard: MemoryGuard | None = None,
    keys: MemoryKeys | None = None,
    clock: FixedClock | None = None,
    seed: int = 1,
) -> Bench:
    """A log with a fixed key and seeded randomness."""
    signer = NoteSigner(ORIGIN, Ed25519PrivateKey.from_private_bytes(b"\x11" * 32))
    backend = backend or MemoryBackend()
    guard, keys, clock = guard or MemoryGuard(), keys or MemoryKeys(), clock or FixedClock()
    log = Log(
        origin=ORIGIN,
        signer=signer,
        backend=backend,
        wrapping=keys,
        guard=guard,
        clock=clock,
        random=SeededRandom(seed),
    )
    return Bench(log, backend, guard, keys, clock, signer)
