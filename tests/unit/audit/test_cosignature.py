"""Cosignatures of witnesses: C2SP tlog-cosignature with Ed25519."""

from __future__ import annotations

import base64
import hashlib
import pickle
import struct
from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from connector_psi.audit.checkpoint import (
    Checkpoint,
    Note,
    NoteSignature,
    NoteSigner,
    encode_checkpoint,
    encode_note,
    parse_note,
    sign_note,
)
from connector_psi.audit.cosignature import (
    Cosigned,
    Cosigner,
    WitnessKey,
    encode_witness_key,
    parse_witness_key,
    verify_cosignatures,
)
from connector_psi.errors import FormatError, ProofInvalidError

LOG = NoteSigner("example.com/log", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
WITNESS = Cosigner("witness.example.org/w1", KEY)
OTHER = Cosigner("witness.example.org/w2", Ed25519PrivateKey.from_private_bytes(bytes(range(2, 34))))
TEXT = encode_checkpoint(Checkpoint("example.com/log", 7, hashlib.sha256(b"root").digest()))
TIME = 1_679_315_147


def cosigned(*lines: NoteSignature) -> Note:
    return parse_note(encode_note(Note(TEXT, (*parse_note(sign_note(TEXT, [LOG])).signatures, *lines))))


def test_the_signed_bytes_are_those_of_the_specification() -> None:
    """``cosignature/v1``, the time, then the text of the checkpoint; the time stands before the signature."""
    line = WITNESS.cosign(TEXT, TIME)
    assert struct.unpack(">Q", line.signature[:8]) == (TIME,)
    KEY.public_key().verify(line.signature[8:], b"cosignature/v1\ntime 1679315147\n" + TEXT.encode())
    public = KEY.public_key().public_bytes_raw()
    digest = hashlib.sha256(b"witness.example.org/w1\n\x04" + public).digest()
    assert line.key_id == digest[:4]
    expected = f"witness.example.org/w1+{digest[:4].hex()}+{base64.b64encode(bytes([4]) + public).decode()}"
    assert encode_witness_key(WITNESS.key) == expected
    assert parse_witness_key(expected) == WITNESS.key


def test_a_cosignature_travels_in_a_note_and_says_who_and_when() -> None:
    note = cosigned(WITNESS.cosign(TEXT, TIME), OTHER.cosign(TEXT, TIME + 5))
    keys = [OTHER.key, WITNESS.key]
    assert verify_cosignatures(note, keys) == [Cosigned(OTHER.key.name, TIME + 5), Cosigned(WITNESS.key.name, TIME)]
    assert verify_cosignatures(note, [WITNESS.key]) == [Cosigned(WITNESS.key.name, TIME)]
    assert verify_cosignatures(cosigned(), keys) == []


def test_a_key_of_another_type_is_another_key() -> None:
    as_log = NoteSigner(WITNESS.key.name, KEY)
    assert as_log.vkey.key_id != WITNESS.key.key_id
    note = cosigned(as_log.sign(TEXT))
    assert verify_cosignatures(note, [WITNESS.key]) == []


Change = Callable[[NoteSignature], tuple[NoteSignature, ...]]


@pytest.mark.parametrize(
    "change",
    [
        lambda line: (line, line),
        lambda line: (replace(line, signature=struct.pack(">Q", TIME + 1) + line.signature[8:]),),
        lambda line: (replace(line, signature=line.signature[:-1]),),
        lambda line: (replace(line, signature=line.signature + b"\0"),),
        lambda line: (replace(line, signature=b"\xff" * 8 + line.signature[8:]),),
        lambda line: (replace(OTHER.cosign(TEXT, TIME), name=line.name, key_id=line.key_id),),
    ],
)
def test_what_a_known_witness_did_not_sign_spoils_the_note(change: Change) -> None:
    with pytest.raises(ProofInvalidError):
        verify_cosignatures(cosigned(*change(WITNESS.cosign(TEXT, TIME))), [WITNESS.key])


def test_a_cosignature_of_another_checkpoint_does_not_verify() -> None:
    line = WITNESS.cosign(TEXT, TIME)
    other = encode_checkpoint(Checkpoint("example.com/log", 8, hashlib.sha256(b"root").digest()))
    note = Note(other, (LOG.sign(other), line))
    with pytest.raises(ProofInvalidError):
        verify_cosignatures(note, [WITNESS.key])


@pytest.mark.parametrize("time_s", [-1, 2**63])
def test_a_time_that_no_clock_shows_is_not_signed(time_s: int) -> None:
    with pytest.raises(FormatError):
        WITNESS.cosign(TEXT, time_s)


def test_only_a_checkpoint_is_cosigned() -> None:
    with pytest.raises(FormatError):
        WITNESS.cosign("anything\n", TIME)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("+", "-"),
        lambda text: text[:-2],
        lambda text: text.rpartition("+")[0] + "+" + base64.b64encode(b"\x01" + bytes(32)).decode(),
        lambda text: "w" + text,
        lambda text: text + "=",
        lambda _text: "x" * 2_000,
        lambda _text: "",
    ],
)
def test_a_key_in_another_form_is_refused(change: Callable[[str], str]) -> None:
    with pytest.raises(FormatError):
        parse_witness_key(change(encode_witness_key(WITNESS.key)))


def test_a_cosigner_is_not_pickled_and_shows_no_secret() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(WITNESS)
    assert repr(WITNESS) == f"Cosigner({encode_witness_key(WITNESS.key)!r})"
    assert isinstance(WITNESS.key, WitnessKey)


@pytest.mark.parametrize("name", ["", "a b", "a\tb", "\ud800", "a\x00b"])
def test_what_is_no_key_name_is_refused(name: str) -> None:
    """Half a surrogate pair was found by fuzzing: it has no bytes to hash."""
    with pytest.raises(FormatError):
        parse_witness_key(f"{name}+00000000+BAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
    with pytest.raises(FormatError):
        Cosigner(name, Ed25519PrivateKey.from_private_bytes(bytes(32)))
