"""Published values of RFC 6962 trees and proofs.

1. 98 inclusion and 98 consistency cases of github.com/transparency-dev/merkle at commit 417fb0c3 (Apache-2.0), read
   from the reference material and counted: every one runs, or the file is skipped as a whole.
2. The eight leaves and roots of the Certificate Transparency test tree (github.com/google/certificate-transparency,
   cpp/merkletree; Apache-2.0), kept here, so that a clean clone has published values too.

Decision on old size 0, where the vectors' library and C2SP tlog-witness part: the empty proof from the empty tree's
root is accepted (a witness starts there), anything else from size 0 is refused. The 10 vectors with a size of 0 are
refused under it as well, because their roots are not the empty tree's, or not roots, or their proof is not empty.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from connector_psi.audit.merkle import (
    LeafHash,
    TreeFrontier,
    consistency_proof,
    empty_root,
    inclusion_proof,
    leaf_hash,
    root,
    verify_consistency,
    verify_inclusion,
)
from connector_psi.errors import ProofInvalidError

INCLUSION_CASES = 98
CONSISTENCY_CASES = 98

LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def _cases(shared: Path, kind: str) -> list[dict[str, Any]]:
    path = shared / "reference" / "rfc6962" / "merkle_rfc6962_vectors.json"
    if not path.is_file():
        pytest.skip("RFC 6962 vectors are absent")
    cases: list[dict[str, Any]] = json.loads(path.read_bytes())[kind]
    return cases


def _unbase64(text: str) -> bytes:
    return base64.b64decode(text)


def test_inclusion_vectors(shared: Path) -> None:
    cases = _cases(shared, "inclusion")
    refused = 0
    for case in cases:
        proof = [_unbase64(digest) for digest in case["proof"] or []]
        args = (
            LeafHash(_unbase64(case["leafHash"])),
            case["leafIdx"],
            case["treeSize"],
            proof,
            _unbase64(case["root"]),
        )
        if case["wantErr"]:
            with pytest.raises(ProofInvalidError):
                verify_inclusion(*args)
            refused += 1
        else:
            verify_inclusion(*args)
    assert (len(cases), refused) == (INCLUSION_CASES, 92)


def test_consistency_vectors(shared: Path) -> None:
    cases = _cases(shared, "consistency")
    refused = 0
    for case in cases:
        proof = [_unbase64(digest) for digest in case["proof"] or []]
        args = (case["size1"], _unbase64(case["root1"]), case["size2"], _unbase64(case["root2"]), proof)
        if case["wantErr"]:
            with pytest.raises(ProofInvalidError):
                verify_consistency(*args)
            refused += 1
        else:
            verify_consistency(*args)
    assert (len(cases), refused) == (CONSISTENCY_CASES, 92)


def test_old_size_0_is_accepted_from_the_empty_root_with_the_empty_proof_alone() -> None:
    new_root = bytes.fromhex(ROOTS[7])
    verify_consistency(0, empty_root(), 8, new_root, [])
    verify_consistency(0, empty_root(), 0, empty_root(), [])
    for old_root, size, root_, proof in (
        (new_root, 8, new_root, []),
        (empty_root(), 8, new_root, [new_root]),
        (empty_root(), 0, new_root, []),
        (new_root, 0, new_root, []),
        (b"", 8, new_root, []),
        (empty_root(), 8, b"", []),
    ):
        with pytest.raises(ProofInvalidError):
            verify_consistency(0, old_root, size, root_, proof)


def test_published_roots_and_proofs_of_the_eight_leaf_tree() -> None:
    frontier = TreeFrontier()
    nodes: dict[tuple[int, int], bytes] = {}

    def reader(level: int, index: int) -> bytes:
        return nodes[level, index]

    for leaf, expected in zip(LEAVES, ROOTS, strict=True):
        nodes |= {(level, index): digest for level, index, digest in frontier.add(leaf_hash(leaf))}
        assert frontier.root().hex() == expected
        assert root(frontier.size, reader).hex() == expected
    assert empty_root().hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    # From: the same test tree, its published audit paths of leaves 0 and 5 in 8 and consistency proof from 6 to 8.
    assert [digest.hex() for digest in inclusion_proof(5, 8, reader)] == [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]
    assert [digest.hex() for digest in inclusion_proof(0, 8, reader)] == [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]
    assert [digest.hex() for digest in consistency_proof(6, 8, reader)] == [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]
