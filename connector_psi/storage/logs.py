"""The log's backend: leaves, nodes, bodies and checkpoints as rows, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import sqlalchemy as sa

from connector_psi.audit.bodies import SealedBody
from connector_psi.errors import ProofInvalidError
from connector_psi.storage.schema import log_bodies, log_checkpoints, log_cosignatures, log_leaves, log_nodes
from connector_psi.storage.store import Tx

# Put together once: a proof reads a node a level, and whoever proves asks for the size and the newest checkpoint.
_LAST = sa.select(sa.func.max(log_leaves.c.idx))
_CHECKPOINT = sa.select(log_checkpoints.c.note).order_by(log_checkpoints.c.size.desc()).limit(1)
_NODE = sa.select(log_nodes.c.hash).where(
    log_nodes.c.level == sa.bindparam("node_level"), log_nodes.c.idx == sa.bindparam("node_idx")
)


class SqlLogBackend:
    """Implements ``audit.log.LogBackend`` over an open transaction."""

    def size(self, tx: Tx) -> int:
        """Return the number of leaves."""
        last = tx.execute(_LAST).scalar()
        return 0 if last is None else int(last) + 1

    def read_node(self, tx: Tx, level: int, index: int) -> bytes:
        """Return the hash of a complete subtree."""
        found = tx.execute(_NODE, {"node_level": level, "node_idx": index}).scalar()
        if found is None:
            raise ProofInvalidError(f"log: node {level}/{index} is missing")
        return bytes(found)

    def append(
        self,
        tx: Tx,
        index: int,
        leaf: bytes,
        nodes: Sequence[tuple[int, int, bytes]],
        body: SealedBody,
        erase_after: datetime,
    ) -> None:
        """Add a leaf, the nodes it completes and its body; a leaf or node that stands already is an error."""
        tx.execute(sa.insert(log_leaves).values(idx=index, leaf=leaf))
        tx.execute(
            sa.insert(log_nodes), [{"level": level, "idx": i, "hash": node_hash} for level, i, node_hash in nodes]
        )
        tx.execute(
            sa.insert(log_bodies).values(
                idx=index,
                key_id=body.key_id,
                wrapped_key=body.wrapped_key,
                sealed=body.nonce + body.ciphertext,
                erase_after_s=int(erase_after.timestamp()),
            )
        )

    def read_leaves(self, tx: Tx, start: int, end: int) -> list[bytes]:
        """Return the leaves from ``start`` up to and not including ``end``."""
        rows = tx.execute(
            sa.select(log_leaves.c.leaf)
            .where(log_leaves.c.idx >= start, log_leaves.c.idx < end)
            .order_by(log_leaves.c.idx)
        )
        return [bytes(leaf) for leaf in rows.scalars()]

    def read_body(self, tx: Tx, index: int) -> SealedBody | None:
        """Return the sealed body of a leaf, None once it is erased."""
        row = tx.execute(
            sa.select(log_bodies.c.key_id, log_bodies.c.wrapped_key, log_bodies.c.sealed).where(
                log_bodies.c.idx == index
            )
        ).one_or_none()
        if row is None:
            return None
        return SealedBody(row.key_id, row.wrapped_key, row.sealed[:12], row.sealed[12:])

    def latest_checkpoint(self, tx: Tx) -> bytes | None:
        """Return the newest signed checkpoint."""
        note = tx.execute(_CHECKPOINT).scalar()
        return None if note is None else bytes(note)

    def save_checkpoint(self, tx: Tx, size: int, note: bytes) -> None:
        """Keep a signed checkpoint."""
        tx.execute(sa.insert(log_checkpoints).values(size=size, note=note))

    def checkpoints(self, tx: Tx, start: int = 0, limit: int = -1) -> list[tuple[int, bytes]]:
        """Return ``(size, note)`` of signed checkpoints from a size on, smallest first."""
        query = sa.select(log_checkpoints.c.size, log_checkpoints.c.note).where(log_checkpoints.c.size >= start)
        return [(row.size, bytes(row.note)) for row in tx.execute(query.order_by(log_checkpoints.c.size).limit(limit))]

    # What witnesses said of them

    def add_cosignatures(self, tx: Tx, size: int, lines: Iterable[tuple[str, bytes]]) -> None:
        """Keep signature lines of witnesses, ``(name, line)``, for a checkpoint; a later one replaces an earlier."""
        for name, line in lines:
            where = (log_cosignatures.c.size == size, log_cosignatures.c.name == name)
            tx.execute(sa.delete(log_cosignatures).where(*where))
            tx.execute(sa.insert(log_cosignatures).values(size=size, name=name, line=line))

    def cosigned(self, tx: Tx, size: int) -> bytes | None:
        """Return the signed checkpoint of a size with all that witnesses said of it."""
        note = tx.execute(sa.select(log_checkpoints.c.note).where(log_checkpoints.c.size == size)).scalar()
        if note is None:
            return None
        lines = tx.execute(
            sa.select(log_cosignatures.c.line).where(log_cosignatures.c.size == size).order_by(log_cosignatures.c.name)
        )
        return bytes(note) + b"".join(bytes(line) for line in lines.scalars())

    def cosigned_sizes(self, tx: Tx, at_least: int, limit: int) -> list[int]:
        """Return sizes of checkpoints of which some witness said something, the newest first."""
        rows = tx.execute(
            sa.select(log_cosignatures.c.size)
            .where(log_cosignatures.c.size >= at_least)
            .distinct()
            .order_by(log_cosignatures.c.size.desc())
            .limit(limit)
        )
        return [int(size) for size in rows.scalars()]

    def cosigned_by(self, tx: Tx, name: str) -> int:
        """Return the size of the newest checkpoint that a witness cosigned, 0 for none."""
        found = tx.execute(
            sa.select(sa.func.max(log_cosignatures.c.size)).where(log_cosignatures.c.name == name)
        ).scalar()
        return int(found or 0)
