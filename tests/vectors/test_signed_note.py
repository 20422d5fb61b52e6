"""Published signed notes, checkpoints and receipts: 4 notes, 2 keys, 8 malformed receipts.

Sources: C2SP signed-note and tlog-checkpoint (github.com/C2SP/C2SP, CC BY 4.0); golang.org/x/mod/sumdb/note (package
example, BSD-3-Clause); a tree head of the Go checksum database, sum.golang.org, size 49189689, with the key that the go
command carries; the malformed receipts are those of github.com/transparency-dev/formats, proof/tlog_proof_test.go
(Apache-2.0).
"""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from connector_psi.audit.checkpoint import (
    NoteSigner,
    encode_checkpoint,
    encode_note,
    encode_vkey,
    parse_checkpoint,
    parse_note,
    parse_tlog_proof,
    parse_vkey,
    sign_note,
    verify_checkpoint,
    verify_note,
)
from connector_psi.errors import FormatError, ProofInvalidError

# From: golang.org/x/mod/sumdb/note, package documentation.
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_KEY = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
GO_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
GO_NOTE = (
    GO_TEXT
    + "\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
# From: golang.org, cmd/go/internal/modfetch/key.go, and a published lookup answer.
SUMDB_VKEY = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
SUMDB_HEAD = (
    "go.sum database tree\n49189689\nftjbAOzaupaIvaPo/G+Dk63nxOZ2s1OPOKIaPtXs7S4=\n\n"
    "— sum.golang.org Az3grlKZssqRoMNPpZfKt0TphbbcF+pzXqElURJKRNFKfaUAgqeI5k2AORH0QAhg/ebRwyIqD/OqP4oLtLnNumvOBAM=\n"
)
# From: C2SP signed-note, the example at its top. Its key is not published: the form alone is checked.
C2SP_NOTE = (
    "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n\n"
    "— quasimodo.example/salvatore "
    "NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n"
)
# From: C2SP tlog-checkpoint, the example at its top.
C2SP_CHECKPOINT_SIGNATURE = (
    "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8="
)
C2SP_CHECKPOINT_TEXT = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
C2SP_CHECKPOINT = f"{C2SP_CHECKPOINT_TEXT}\n— example.com/behind-the-sofa {C2SP_CHECKPOINT_SIGNATURE}\n"


def test_go_example_is_verified_and_signed_byte_for_byte() -> None:
    vkey = parse_vkey(GO_VKEY)
    assert encode_vkey(vkey) == GO_VKEY
    assert verify_note(GO_NOTE.encode(), [vkey]) == GO_TEXT
    private = Ed25519PrivateKey.from_private_bytes(base64.b64decode(GO_KEY)[1:])
    signer = NoteSigner("PeterNeumann", private)
    assert signer.vkey == vkey
    assert sign_note(GO_TEXT, [signer]) == GO_NOTE.encode()
    with pytest.raises(ProofInvalidError):
        verify_note(GO_NOTE.replace("answer", "anSwer").encode(), [vkey])


def test_checksum_database_head_is_verified() -> None:
    checkpoint = verify_checkpoint(SUMDB_HEAD.encode(), parse_vkey(SUMDB_VKEY), "go.sum database tree")
    assert (checkpoint.size, checkpoint.extensions) == (49189689, ())
    with pytest.raises(ProofInvalidError):
        verify_checkpoint(SUMDB_HEAD.encode(), parse_vkey(SUMDB_VKEY), "sum.golang.org")
    with pytest.raises(ProofInvalidError):
        verify_note(SUMDB_HEAD.replace("49189689", "49189690").encode(), [parse_vkey(SUMDB_VKEY)])


def test_c2sp_note_example_has_the_form() -> None:
    note = parse_note(C2SP_NOTE.encode())
    assert note.text.endswith("\n\ned è subito sera.\n"), "the text keeps its own empty line"
    assert [(line.name, line.key_id.hex()) for line in note.signatures] == [
        ("quasimodo.example/salvatore", "367ba04b"),
    ]
    assert encode_note(note) == C2SP_NOTE.encode()


def test_c2sp_checkpoint_example() -> None:
    note = parse_note(C2SP_CHECKPOINT.encode())
    checkpoint = parse_checkpoint(note.text)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert encode_checkpoint(checkpoint) == C2SP_CHECKPOINT_TEXT
    # The example shows a signature of the Go checksum database, made over the head under its real origin.
    real = C2SP_CHECKPOINT.replace("— example.com/behind-the-sofa", "— sum.golang.org")
    with pytest.raises(ProofInvalidError):
        verify_note(real.encode(), [parse_vkey(SUMDB_VKEY)])
    real = real.replace("example.com/behind-the-sofa\n", "go.sum database tree\n")
    assert verify_checkpoint(real.encode(), parse_vkey(SUMDB_VKEY), "go.sum database tree").size == 20852163


def test_a_note_of_another_key_is_not_verified() -> None:
    with pytest.raises(ProofInvalidError):
        verify_note(GO_NOTE.encode(), [parse_vkey(SUMDB_VKEY)])


@pytest.mark.parametrize(
    "head",
    [
        "wrong-header\nindex 0\n\n",
        "c2sp.org/tlog-proof@v1\nextra !!notbase64!!\nindex 0\n\n",
        "c2sp.org/tlog-proof@v1\n\n\n",
        "c2sp.org/tlog-proof@v1\nindex notanumber\n\n",
        "c2sp.org/tlog-proof@v1\nindex -5\n\n",
        "c2sp.org/tlog-proof@v1\nindex 0\n!!notbase64!!\n\n",
        "c2sp.org/tlog-proof@v1\nindex 0\n" + base64.b64encode(bytes(64)).decode() + "\n\n",
        "c2sp.org/tlog-proof@v1\nindex 0\n" + "a" * 65 * 1024 + "\n",
    ],
)
def test_malformed_receipts_are_refused(head: str) -> None:
    assert parse_tlog_proof(b"c2sp.org/tlog-proof@v1\nindex 0\n\n" + SUMDB_HEAD.encode()).index == 0
    with pytest.raises(FormatError):
        parse_tlog_proof((head + SUMDB_HEAD).encode())
