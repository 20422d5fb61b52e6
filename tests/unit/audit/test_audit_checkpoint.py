from __future__ import annotations

import base64
import pickle
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from connector_psi.audit.checkpoint import (
    MAX_SIGNATURES,
    Checkpoint,
    Note,
    NoteSignature,
    NoteSigner,
    VKey,
    encode_checkpoint,
    encode_note,
    encode_tlog_proof,
    encode_vkey,
    parse_checkpoint,
    parse_note,
    parse_tlog_proof,
    parse_vkey,
    sign_note,
    verify_checkpoint,
    verify_note,
    verify_tlog_proof,
)
from connector_psi.audit.merkle import leaf_hash, node_hash
from connector_psi.errors import FormatError, ProofInvalidError


def signer(name: str = "log.example/a", seed: int = 1) -> NoteSigner:
    return NoteSigner(name, Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


LOG, WITNESS = signer(), signer("witness.example", 2)
CHECKPOINT = Checkpoint("log.example/a", 2, node_hash(leaf_hash(b"a"), leaf_hash(b"b")))
TEXT = encode_checkpoint(CHECKPOINT)
NOTE = sign_note(TEXT, [LOG])


def test_a_checkpoint_has_the_three_lines() -> None:
    assert f"log.example/a\n2\n{base64.b64encode(CHECKPOINT.root).decode()}\n" == TEXT
    assert parse_checkpoint(TEXT + "extension\n").extensions == ("extension",)
    assert NOTE.decode().startswith(TEXT + "\n\u2014 log.example/a ")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a\n1\n",
        TEXT[:-1],
        TEXT + "\n",
        "\n" + TEXT,
        TEXT.replace("\n2\n", "\n02\n"),
        TEXT.replace("\n2\n", "\n-2\n"),
        TEXT.replace("\n2\n", "\n+2\n"),
        TEXT.replace("\n2\n", "\n\u0662\n"),
        TEXT.replace("\n2\n", "\n2 \n"),
        TEXT.replace("\n2\n", f"\n{2**63}\n"),
        TEXT.replace("=\n", "\n"),
        TEXT.replace("\n2\n", "\n2\nAAAA\n"),
        TEXT.replace("\n", "\r\n"),
        "a\n1\n" + base64.urlsafe_b64encode(b"\xff" * 32).decode() + "\n",
        "a\n1\n" + base64.b64encode(bytes(31) + b"\x00").decode()[:-2] + "B=\n",
    ],
)
def test_other_checkpoint_texts_are_refused(text: str) -> None:
    with pytest.raises(FormatError):
        parse_checkpoint(text)


@pytest.mark.parametrize(
    "raw",
    [
        NOTE[:-1],
        NOTE + b"\n",
        NOTE.replace(b"\n\n", b"\n"),
        NOTE.replace("\u2014".encode(), b"-"),
        NOTE.replace("\u2014 ".encode(), "\u2014".encode()),
        NOTE + "\u2014 a+b AAAAAAAA\n".encode(),
        NOTE + "\u2014 a\u00a0b AAAAAAAA\n".encode(),
        NOTE + "\u2014  AAAAAAAA\n".encode(),
        NOTE + "\u2014 a\n".encode(),
        NOTE + "\u2014 a AAAAAA==\n".encode(),
        NOTE + "\u2014 a AAAAAAA\n".encode(),
        NOTE + "\u2014 a AAAAAAAA \n".encode(),
        NOTE + b"comment\n",
        b"\x00" + NOTE,
        b"\xff" + NOTE,
        NOTE.replace(b"\n", b"\r\n"),
        TEXT.encode(),
        b"",
        TEXT.encode() + b"\n" + "\u2014 a AAAAAAAA\n".encode() * (MAX_SIGNATURES + 1),
    ],
)
def test_other_notes_are_refused(raw: bytes) -> None:
    with pytest.raises(FormatError):
        parse_note(raw)


def test_signatures_of_unknown_keys_are_ignored() -> None:
    both = sign_note(TEXT, [WITNESS, LOG])
    assert verify_note(both, [LOG.vkey]) == TEXT
    assert verify_note(both, [LOG.vkey, WITNESS.vkey]) == TEXT
    # The same name under another key, and the same key under another name, are unknown keys.
    namesake, alias = signer("log.example/a", 3), signer("other.example", 1)
    assert verify_note(sign_note(TEXT, [namesake, alias, LOG]), [LOG.vkey]) == TEXT
    for stranger in (namesake, alias, WITNESS):
        with pytest.raises(ProofInvalidError):
            verify_note(sign_note(TEXT, [stranger]), [LOG.vkey])
    # A note takes 16 signatures at least, here of a cosignature's length.
    many = parse_note(NOTE).signatures + tuple(NoteSignature(f"w{i}", bytes(4), bytes(72)) for i in range(16))
    assert verify_note(encode_note(Note(TEXT, many)), [LOG.vkey]) == TEXT


def test_a_false_signature_of_a_known_key_spoils_the_note() -> None:
    good, other = parse_note(sign_note(TEXT, [LOG, WITNESS])).signatures
    for bad in (
        replace(other, signature=bytes(64)),
        replace(other, signature=other.signature[:63]),
        replace(good, signature=good.signature + b"\x00"),
    ):
        with pytest.raises(ProofInvalidError):
            verify_note(encode_note(Note(TEXT, (good, bad))), [LOG.vkey, WITNESS.vkey])


def test_no_known_key_verifies_nothing() -> None:
    with pytest.raises(ProofInvalidError):
        verify_note(NOTE, [])


def test_two_trusted_keys_with_one_name_and_id_are_refused() -> None:
    class Colliding(VKey):
        @property
        def key_id(self) -> bytes:
            return LOG.vkey.key_id

    with pytest.raises(ProofInvalidError):
        verify_note(NOTE, [LOG.vkey, Colliding(LOG.name, bytes(32))])


def test_every_flipped_bit_of_a_checkpoint_is_found() -> None:
    found = 0
    for bit in range(8 * len(NOTE)):
        flipped = bytes(b ^ (1 << bit % 8 if i == bit // 8 else 0) for i, b in enumerate(NOTE))
        with pytest.raises((FormatError, ProofInvalidError)):
            verify_checkpoint(flipped, LOG.vkey, "log.example/a")
        found += 1
    assert found == 8 * len(NOTE)


def test_a_key_may_sign_for_another_log_and_is_not_believed_here() -> None:
    with pytest.raises(ProofInvalidError):
        verify_checkpoint(sign_note(TEXT, [LOG]), LOG.vkey, "log.example/b")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a+b",
        encode_vkey(LOG.vkey) + "A",
        encode_vkey(LOG.vkey).upper(),
        encode_vkey(LOG.vkey).replace("log.example/a", "log.example/b"),
        "a b+" + encode_vkey(LOG.vkey).split("+", 1)[1],
        "+" + encode_vkey(LOG.vkey).split("+", 1)[1],
        "a+00000000+" + base64.b64encode(b"\x01" + bytes(31)).decode(),
        "a+00000000+" + base64.b64encode(b"\x04" + bytes(32)).decode(),
    ],
)
def test_other_keys_are_refused(text: str) -> None:
    assert parse_vkey(encode_vkey(LOG.vkey)) == LOG.vkey
    with pytest.raises(FormatError):
        parse_vkey(text)


def test_a_signer_keeps_its_key_to_itself() -> None:
    assert repr(LOG) == f"NoteSigner({encode_vkey(LOG.vkey)!r})"
    with pytest.raises(TypeError):
        pickle.dumps(LOG)
    for name in ("", "a b", "a+b", "a\nb", "a\u2003b"):
        with pytest.raises(FormatError):
            signer(name)


@pytest.mark.parametrize("text", ["", "no newline", "control\x07\n", "carriage\r\n", "\ud800\n"])
def test_other_texts_are_not_signed(text: str) -> None:
    with pytest.raises(FormatError):
        sign_note(text, [LOG])


def test_a_note_needs_a_signature() -> None:
    with pytest.raises(FormatError):
        sign_note(TEXT, [])


def test_a_receipt_has_the_published_form() -> None:
    sibling = leaf_hash(b"b")
    raw = encode_tlog_proof(0, [sibling], NOTE, b"salt")
    expected = f"c2sp.org/tlog-proof@v1\nextra c2FsdA==\nindex 0\n{base64.b64encode(sibling).decode()}\n\n"
    assert raw == expected.encode() + NOTE
    receipt = parse_tlog_proof(raw)
    assert (receipt.index, receipt.hashes, receipt.checkpoint, receipt.extra) == (0, (sibling,), NOTE, b"salt")
    single = sign_note(encode_checkpoint(Checkpoint("log.example/a", 1, leaf_hash(b"a"))), [LOG])
    assert encode_tlog_proof(0, [], single) == b"c2sp.org/tlog-proof@v1\nindex 0\n\n" + single
    assert parse_tlog_proof(encode_tlog_proof(0, [], single)).extra is None


def test_a_receipt_is_verified_against_leaf_log_and_key() -> None:
    raw = encode_tlog_proof(1, [leaf_hash(b"a")], NOTE)
    assert verify_tlog_proof(raw, leaf_hash(b"b"), LOG.vkey, "log.example/a") == CHECKPOINT
    for leaf, vkey, origin in (
        (leaf_hash(b"c"), LOG.vkey, "log.example/a"),
        (leaf_hash(b"b"), WITNESS.vkey, "log.example/a"),
        (leaf_hash(b"b"), LOG.vkey, "log.example/b"),
    ):
        with pytest.raises(ProofInvalidError):
            verify_tlog_proof(raw, leaf, vkey, origin)


def test_every_flipped_bit_of_a_receipt_is_found() -> None:
    raw = encode_tlog_proof(1, [leaf_hash(b"a")], NOTE)
    for bit in range(0, 8 * len(raw), 3):
        flipped = bytes(b ^ (1 << bit % 8 if i == bit // 8 else 0) for i, b in enumerate(raw))
        with pytest.raises((FormatError, ProofInvalidError)):
            verify_tlog_proof(flipped, leaf_hash(b"b"), LOG.vkey, "log.example/a")


@pytest.mark.parametrize(
    ("index", "proof", "note", "extra"),
    [
        (-1, [], NOTE, None),
        (0, [bytes(31)], NOTE, None),
        (0, [], b"x\n", None),
        (0, [bytes(32)] * 64, NOTE, None),
        (0, [], NOTE, b""),
    ],
)
def test_other_receipts_are_not_written(index: int, proof: list[bytes], note: bytes, extra: bytes | None) -> None:
    with pytest.raises(FormatError):
        encode_tlog_proof(index, proof, note, extra)
