"""The Merkle tree of RFC 9162 over SHA-256: nodes, roots, proofs and their verification.

Decides: hashing, which nodes an append completes, what a proof holds, when a proof is valid. Leaves to others: what a
leaf says (``audit.entries``), where nodes are stored (``audit.log.LogBackend``), who signs a root
(``audit.checkpoint``). Free of I/O.

Nodes are named ``(level, index)``: level 0 holds the leaf hashes, and node ``(level, index)`` covers the leaves
``index * 2**level`` up to ``(index + 1) * 2**level``. Only complete subtrees have a node, so a node never changes once
it exists: that is what lets a store refuse to rewrite one. A store of ``n`` leaves holds fewer than ``2 n`` nodes.

An old size of 0 is decided as C2SP ``tlog-witness`` needs it (a witness that has never seen a log starts there): the
proof from 0 is the empty one, and it is valid only if the old root is the root of the empty tree. Such a proof says
nothing about the new root. RFC 9162 leaves the case out.

Source: RFC 9162, Section 2.1; the hash prefixes are those of RFC 6962, Section 2.1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import NewType

from connector_psi.errors import InputError, ProofInvalidError

HASH_BYTES = 32

LeafHash = NewType("LeafHash", bytes)
"""The hash of a leaf: 32 bytes. A type of its own, so that leaf bytes are not taken for their hash."""

NodeReader = Callable[[int, int], bytes]
"""Gives the hash of node ``(level, index)``; asked for complete subtrees only."""

Node = tuple[int, int, bytes]
"""``(level, index, hash)``."""


def leaf_hash(data: bytes) -> LeafHash:
    """Return the hash of a leaf's bytes.

    Source: RFC 9162, Section 2.1.1: ``SHA-256(0x00 || data)``.
    """
    return LeafHash(sha256(b"\x00" + data).digest())


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node.

    The prefix keeps an inner node from passing as a leaf.

    Source: RFC 9162, Section 2.1.1: ``SHA-256(0x01 || left || right)``.
    """
    return sha256(b"\x01" + left + right).digest()


def empty_root() -> bytes:
    """Return the root of the tree without leaves: the hash of the empty string."""
    return sha256(b"").digest()


def append_nodes(size: int, new_leaf: LeafHash, node_reader: NodeReader) -> list[Node]:
    """Return every node that one more leaf completes, lowest level first.

    Args:
        size: Leaves in the tree before the append; the new leaf takes this index.
        new_leaf: Hash of the new leaf.
        node_reader: Reads nodes of the tree of ``size`` leaves.

    Returns:
        ``(level, index, hash)``; the first is the leaf itself.

    Cost: One node read and one hash on average, ``log2(size)`` at most.
    """
    level, index, digest = 0, size, bytes(new_leaf)
    nodes = [(level, index, digest)]
    while index & 1:
        digest = node_hash(node_reader(level, index - 1), digest)
        level, index = level + 1, index >> 1
        nodes.append((level, index, digest))
    return nodes


def root(size: int, node_reader: NodeReader) -> bytes:
    """Return the root of the first ``size`` leaves.

    Cost: One node read per set bit of ``size``.
    """
    return _range_root(0, size, node_reader) if size else empty_root()


def inclusion_proof(index: int, size: int, node_reader: NodeReader) -> list[bytes]:
    """Return the proof that leaf ``index`` is in the tree of ``size`` leaves.

    Returns:
        Hashes from the leaf's sibling up to the root's child.

    Raises:
        InputError: The tree of ``size`` leaves has no such leaf.

    Source: RFC 9162, Section 2.1.3.1.
    """
    if not 0 <= index < size:
        raise InputError("inclusion proof asked for a leaf outside the tree")
    path: list[bytes] = []
    low, high = 0, size
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            path.append(_range_root(middle, high, node_reader))
            high = middle
        else:
            path.append(_range_root(low, middle, node_reader))
            low = middle
    path.reverse()
    return path


def consistency_proof(old: int, new: int, node_reader: NodeReader) -> list[bytes]:
    """Return the proof that the tree of ``new`` leaves continues the tree of ``old`` leaves.

    Returns:
        Hashes in the order of RFC 9162; none if ``old`` is 0 or equals ``new``.

    Raises:
        InputError: ``old`` is negative or larger than ``new``.

    Source: RFC 9162, Section 2.1.4.1; old size 0 after C2SP tlog-witness.
    """
    if not 0 <= old <= new:
        raise InputError("consistency proof asked for sizes out of order")
    if old in {0, new}:
        return []
    path: list[bytes] = []
    low, high, verifier_knows_subtree = 0, new, True
    while high != old:
        middle = low + _split(high - low)
        if old <= middle:
            path.append(_range_root(middle, high, node_reader))
            high = middle
        else:
            path.append(_range_root(low, middle, node_reader))
            low = middle
            verifier_knows_subtree = False
    if not verifier_knows_subtree:
        path.append(_range_root(low, high, node_reader))
    path.reverse()
    return path


def verify_inclusion(leaf: LeafHash, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check that ``leaf`` is leaf ``index`` of the tree of ``size`` leaves with this root.

    Args:
        leaf: Hash of the leaf.
        index: Zero-based.
        size: Leaves in the tree that ``root`` stands for.
        proof: Hashes from the sibling upwards.
        root: Taken from a verified checkpoint, or the result means nothing.

    Raises:
        ProofInvalidError: It does not verify, for any reason.

    Source: RFC 9162, Section 2.1.3.2.
    """
    _check_hashes("inclusion", [leaf, root, *proof])
    if not 0 <= index < size:
        raise ProofInvalidError("inclusion proof for a leaf outside the tree")
    fn, sn, computed = index, size - 1, bytes(leaf)
    for sibling in proof:
        if sn == 0:
            raise ProofInvalidError("inclusion proof is too long")
        if fn & 1 or fn == sn:
            computed = node_hash(sibling, computed)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            computed = node_hash(computed, sibling)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0 or computed != root:
        raise ProofInvalidError("inclusion proof does not lead to the root")


def verify_consistency(old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Check that the tree ``(new_size, new_root)`` continues the tree ``(old_size, old_root)``.

    Raises:
        ProofInvalidError: It does not verify, for any reason.

    Source: RFC 9162, Section 2.1.4.2; old size 0 as the module says.
    """
    if not 0 <= old_size <= new_size:
        raise ProofInvalidError("consistency proof for a tree that shrank")
    if old_size == 0 and old_root != empty_root():
        raise ProofInvalidError("consistency proof from an empty tree that has another root")
    if old_size == new_size and old_root != new_root:
        raise ProofInvalidError("two roots for one size")
    if old_size in {0, new_size} and proof:
        raise ProofInvalidError("consistency proof is too long")
    if old_size == new_size:
        return
    _check_hashes("consistency", [old_root, new_root, *proof])
    if old_size == 0:
        return
    # A complete old tree is its own first proof node, which the prover leaves out.
    path = list(proof) if old_size & (old_size - 1) else [old_root, *proof]
    if not path:
        raise ProofInvalidError("consistency proof is empty")
    fn, sn = old_size - 1, new_size - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    old_computed = new_computed = path[0]
    for sibling in path[1:]:
        if sn == 0:
            raise ProofInvalidError("consistency proof is too long")
        if fn & 1 or fn == sn:
            old_computed = node_hash(sibling, old_computed)
            new_computed = node_hash(sibling, new_computed)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            new_computed = node_hash(new_computed, sibling)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0 or old_computed != old_root or new_computed != new_root:
        raise ProofInvalidError("consistency proof does not lead to both roots")


class TreeFrontier:
    """The right edge of a growing tree: enough to append and to know the root, in ``log2(size)`` hashes.

    Rehashes a log from its leaves alone, whatever the stored nodes say. Not safe for use from two threads.
    """

    def __init__(self) -> None:
        self.size = 0
        # The newest complete node of each level; an append and a root need no other.
        self._newest: dict[int, bytes] = {}

    def add(self, new_leaf: LeafHash) -> list[Node]:
        """Append a leaf and return the nodes it completes, lowest level first."""
        nodes = append_nodes(self.size, new_leaf, self._read)
        for level, _, digest in nodes:
            self._newest[level] = digest
        self.size += 1
        return nodes

    def root(self) -> bytes:
        """Return the root of the leaves added so far."""
        return root(self.size, self._read)

    def _read(self, level: int, _index: int) -> bytes:
        return self._newest[level]


def _split(count: int) -> int:
    """Return the largest power of two below ``count``, for ``count`` of 2 or more."""
    return 1 << (count - 1).bit_length() - 1


def _range_root(low: int, high: int, node_reader: NodeReader) -> bytes:
    """Return the root over leaves ``low`` up to ``high``; ``low`` is a multiple of the range's largest subtree."""
    # RFC 9162 splits at the largest power of two, so each left part is complete and is read, not computed.
    parts: list[bytes] = []
    while high - low:
        level = (high - low).bit_length() - 1
        parts.append(node_reader(level, low >> level))
        low += 1 << level
    computed = parts.pop()
    while parts:
        computed = node_hash(parts.pop(), computed)
    return computed


def _check_hashes(what: str, hashes: Sequence[bytes]) -> None:
    if any(len(digest) != HASH_BYTES for digest in hashes):
        raise ProofInvalidError(f"{what} proof holds a hash of the wrong length")
