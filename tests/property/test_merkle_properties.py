"""The tree against its definition, and every proof against every change of it.

The definition is RFC 9162, Section 2.1.1 to 2.1.4, written down recursively over a list of leaves.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector_psi.audit.merkle import (
    LeafHash,
    TreeFrontier,
    append_nodes,
    consistency_proof,
    empty_root,
    inclusion_proof,
    leaf_hash,
    root,
    verify_consistency,
    verify_inclusion,
)
from connector_psi.errors import InputError, ProofInvalidError

LEAVES = 64
DATA = tuple(b"leaf %d" % number for number in range(LEAVES + 1))


@cache
def mth(low: int, high: int) -> bytes:
    """MTH(D[low:high])."""
    if high == low:
        return sha256(b"").digest()
    if high - low == 1:
        return sha256(b"\x00" + DATA[low]).digest()
    k = split(high - low)
    return sha256(b"\x01" + mth(low, low + k) + mth(low + k, high)).digest()


def split(n: int) -> int:
    k = 1
    while 2 * k < n:
        k *= 2
    return k


def path(m: int, low: int, high: int) -> list[bytes]:
    """PATH(m, D[low:high])."""
    if high - low == 1:
        return []
    k = split(high - low)
    if m < k:
        return [*path(m, low, low + k), mth(low + k, high)]
    return [*path(m - k, low + k, high), mth(low, low + k)]


def subproof(m: int, low: int, high: int, *, complete: bool) -> list[bytes]:
    """SUBPROOF(m, D[low:high], complete)."""
    if m == high - low:
        return [] if complete else [mth(low, high)]
    k = split(high - low)
    if m <= k:
        return [*subproof(m, low, low + k, complete=complete), mth(low + k, high)]
    return [*subproof(m - k, low + k, high, complete=False), mth(low, low + k)]


@pytest.fixture(scope="module")
def nodes() -> dict[tuple[int, int], bytes]:
    store: dict[tuple[int, int], bytes] = {}
    frontier = TreeFrontier()
    for size, data in enumerate(DATA):
        added = append_nodes(size, leaf_hash(data), lambda level, index: store[level, index])
        assert added == frontier.add(leaf_hash(data))
        for level, index, digest in added:
            assert (level, index) not in store, "a node is given once"
            assert digest == mth(index << level, (index + 1) << level)
            store[level, index] = digest
        assert frontier.root() == mth(0, size + 1)
    # Each complete subtree of the tree, and nothing else.
    assert set(store) == {(level, i) for level in range(7) for i in range(len(DATA) >> level)}
    return store


def mutations(proof: Sequence[bytes]) -> list[list[bytes]]:
    """One bit of every hash, each hash left out or doubled, neighbours exchanged, something before and after."""
    changed: list[list[bytes]] = []
    for place, digest in enumerate(proof):
        bit = place % 256
        flipped = bytes(b ^ (1 << bit % 8 if i == bit // 8 else 0) for i, b in enumerate(digest))
        changed += [
            [*proof[:place], flipped, *proof[place + 1 :]],
            [*proof[:place], *proof[place + 1 :]],
            [*proof[:place], digest, *proof[place:]],
            [*proof[:place], digest[:31], *proof[place + 1 :]],
        ]
        if place and proof[place - 1] != digest:
            changed.append([*proof[: place - 1], digest, proof[place - 1], *proof[place + 1 :]])
    return [*changed, [bytes(32), *proof], [*proof, bytes(32)]]


def test_inclusion_proofs_of_all_sizes(nodes: dict[tuple[int, int], bytes]) -> None:
    def reader(level: int, index: int) -> bytes:
        return nodes[level, index]

    for size in range(1, LEAVES + 1):
        digest = root(size, reader)
        assert digest == mth(0, size)
        for index in range(size):
            proof = inclusion_proof(index, size, reader)
            assert proof == path(index, 0, size)
            verify_inclusion(leaf_hash(DATA[index]), index, size, proof, digest)


def test_consistency_proofs_of_all_sizes(nodes: dict[tuple[int, int], bytes]) -> None:
    def reader(level: int, index: int) -> bytes:
        return nodes[level, index]

    for new in range(LEAVES + 1):
        for old in range(new + 1):
            proof = consistency_proof(old, new, reader)
            assert proof == (subproof(old, 0, new, complete=True) if old else [])
            verify_consistency(old, mth(0, old), new, mth(0, new), proof)


def test_every_changed_inclusion_proof_is_refused(nodes: dict[tuple[int, int], bytes]) -> None:
    refused = 0
    for size in range(1, LEAVES + 1, 3):
        for index in range(size):
            proof, leaf, digest = path(index, 0, size), leaf_hash(DATA[index]), mth(0, size)
            changes = [
                *((leaf, index, size, changed, digest) for changed in mutations(proof)),
                (leaf_hash(DATA[index + 1]), index, size, proof, digest),
                (leaf, index + 1, size, proof, digest),
                (leaf, index - 1, size, proof, digest),
                (leaf, index, size, proof, mth(0, size + 1)),
                (LeafHash(leaf[:31]), index, size, proof, digest),
                (leaf, index, size, proof, digest + b"\x00"),
                (leaf, index, 0, proof, digest),
            ]
            for change in changes:
                with pytest.raises(ProofInvalidError):
                    verify_inclusion(*change)
                refused += 1
    assert refused > 10_000


def test_every_changed_consistency_proof_is_refused(nodes: dict[tuple[int, int], bytes]) -> None:
    refused = 0
    for new in range(1, LEAVES + 1, 3):
        for old in range(1, new):
            proof, old_root, new_root = subproof(old, 0, new, complete=True), mth(0, old), mth(0, new)
            changes = [
                *((old, old_root, new, new_root, changed) for changed in mutations(proof)),
                (old, mth(0, old - 1), new, new_root, proof),
                (old, old_root, new, mth(0, new + 1), proof),
                (old, new_root, new, old_root, proof),
                (new, old_root, old, new_root, proof),
                (old, old_root, old, new_root, proof),
                (0, empty_root(), new, new_root, proof),
            ]
            for change in changes:
                with pytest.raises(ProofInvalidError):
                    verify_consistency(*change)
                refused += 1
    assert refused > 10_000


def test_questions_outside_the_tree_are_refused(nodes: dict[tuple[int, int], bytes]) -> None:
    def reader(level: int, index: int) -> bytes:
        return nodes[level, index]

    for index, size in ((0, 0), (5, 5), (-1, 5)):
        with pytest.raises(InputError):
            inclusion_proof(index, size, reader)
    for old, new in ((6, 5), (-1, 5)):
        with pytest.raises(InputError):
            consistency_proof(old, new, reader)


def test_a_leaf_cannot_pass_for_an_inner_node() -> None:
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    parent = append_nodes(1, right, lambda _level, _index: left)[1][2]
    assert leaf_hash(left + right) != parent


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.integers(0, 2**32))
def test_large_trees_agree_with_themselves(size: int, seed: int) -> None:
    chance = random.Random(seed)
    store: dict[tuple[int, int], bytes] = {}
    frontier = TreeFrontier()
    for number in range(size):
        for level, index, digest in frontier.add(leaf_hash(b"%d" % number)):
            store[level, index] = digest

    def reader(level: int, index: int) -> bytes:
        return store[level, index]

    digest = root(size, reader)
    assert digest == frontier.root()
    for _ in range(5):
        index = chance.randrange(size)
        verify_inclusion(leaf_hash(b"%d" % index), index, size, inclusion_proof(index, size, reader), digest)
        old = chance.randrange(size + 1)
        verify_consistency(old, root(old, reader), size, digest, consistency_proof(old, size, reader))


@settings(derandomize=True, max_examples=300, deadline=None)
@given(
    st.integers(-2, 2**64),
    st.integers(-2, 2**64),
    st.lists(st.binary(min_size=31, max_size=33), max_size=70),
    st.binary(max_size=8),
)
def test_random_proofs_are_refused_and_nothing_else(a: int, b: int, proof: list[bytes], seed: bytes) -> None:
    # Two roots that no proof of hypothesis' joins: equal ones would be right about a tree of one leaf.
    old_root, new_root = sha256(b"old" + seed).digest(), sha256(b"new" + seed).digest()
    with pytest.raises(ProofInvalidError):
        verify_inclusion(LeafHash(old_root), a, b, proof, new_root)
    with pytest.raises(ProofInvalidError):
        verify_consistency(a, old_root, b, new_root, proof)
