"""The node's log as its readers see it: checkpoints, proofs and, for auditors, leaves."""

from __future__ import annotations

from connector_psi.audit.checkpoint import verify_checkpoint
from connector_psi.errors import PurposeRefusedError, UnavailableError
from connector_psi.node.node import Node
from connector_psi.storage.store import Tx

MAX_ENTRIES = 256


class Oversight:
    """Use cases of peers, witnesses and auditors."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def checkpoint(self) -> bytes:
        """Return the newest signed checkpoint.

        Raises:
            UnavailableError: None is signed yet.
        """
        self._node.check_alive()
        with self._node.store.read() as tx:
            note = self._node.entries.latest_checkpoint(tx)
        if note is None:
            raise UnavailableError("no checkpoint is signed yet")
        return note

    def prove_inclusion(self, index: int, size: int) -> tuple[bytes, list[bytes]]:
        """Return ``(leaf hash, proof)`` under the tree of ``size`` leaves.

        Raises:
            PurposeRefusedError: No signed checkpoint is of such a size yet, or there is no such leaf.
        """
        node = self._node
        node.check_alive()
        with node.store.read() as tx:
            if not index < size <= self._signed_size(tx):
                raise PurposeRefusedError("no such leaf or size")
            node.read_leaves(tx, index, index + 1)
            return node.entries.read_node(tx, 0, index), node.log.prove_inclusion(tx, index, size)

    def prove_consistency(self, old_size: int, new_size: int) -> list[bytes]:
        """Return the proof that the tree of ``old_size`` is a prefix of that of ``new_size``.

        Raises:
            PurposeRefusedError: No signed checkpoint is of such sizes yet.
        """
        node = self._node
        node.check_alive()
        with node.store.read() as tx:
            if not 0 < old_size <= new_size <= self._signed_size(tx):
                raise PurposeRefusedError("no such sizes")
            return node.log.prove_consistency(tx, old_size, new_size)

    def _signed_size(self, tx: Tx) -> int:
        # Leaves that are not signed yet are not there for anybody: whoever could ask for their proofs would see each
        # event at its instant, and checkpoints appear on a clock.
        node = self._node
        note = node.entries.latest_checkpoint(tx)
        return 0 if note is None else verify_checkpoint(note, node.signer.vkey, node.signer.name).size

    def verify(self) -> dict[str, object]:
        """Rehash the whole log and return what ``log verify --json`` prints; works in a node that stopped answering
        too.
        """
        with self._node.store.read() as tx:
            return self._node.log.verify(tx).to_json()

    def leaves(self, start: int, limit: int) -> list[bytes]:
        """Return leaves from ``start`` on, at most 256."""
        node = self._node
        with node.store.read() as tx:
            size = node.entries.size(tx)
            end = min(size, start + min(limit or MAX_ENTRIES, MAX_ENTRIES))
            return node.read_leaves(tx, start, end) if start < end else []
