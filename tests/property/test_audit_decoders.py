"""Random and mutated bytes into every decoder of the log: one failure type, nothing else, and exact inverses."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from connector_psi.audit.bodies import commit_body, encode_body, open_body, seal_body
from connector_psi.audit.checkpoint import (
    MAX_NOTE_BYTES,
    Checkpoint,
    NoteSigner,
    encode_checkpoint,
    encode_note,
    encode_tlog_proof,
    encode_vkey,
    parse_checkpoint,
    parse_note,
    parse_tlog_proof,
    parse_vkey,
    sign_note,
    verify_note,
)
from connector_psi.audit.entries import Event, Leaf, RetentionClass, Side, encode_leaf, parse_leaf
from connector_psi.errors import FormatError, ProofInvalidError
from tests.simulation.memory_log import MemoryKeys, SeededRandom, draft

SIGNER = NoteSigner("log.example/a", Ed25519PrivateKey.from_private_bytes(b"\x22" * 32))
LEAF = encode_leaf(
    draft(5).complete(
        ts=datetime(2026, 11, 22, tzinfo=UTC), erase_after=datetime(2029, 11, 22, tzinfo=UTC), body_commit=b"\x05" * 32
    )
)
NOTE = sign_note(encode_checkpoint(Checkpoint("log.example/a", 9, b"\x09" * 32)), [SIGNER])
RECEIPT = encode_tlog_proof(3, [b"\x01" * 32, b"\x02" * 32], NOTE, b"extra")


def _text(decode: Callable[[str], object]) -> Callable[[bytes], object]:
    """A decoder of text takes any text; what is not UTF-8 is the business of whoever read the bytes."""
    return lambda raw: decode(raw.decode("utf-8", "surrogateescape"))


DECODERS: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "leaf": (parse_leaf, LEAF),
    "note": (parse_note, NOTE),
    "checkpoint": (_text(parse_checkpoint), parse_note(NOTE).text.encode()),
    "receipt": (parse_tlog_proof, RECEIPT),
    "vkey": (_text(parse_vkey), encode_vkey(SIGNER.vkey).encode()),
}


@pytest.mark.parametrize("name", DECODERS)
def test_valid_bytes_are_taken(name: str) -> None:
    decode, valid = DECODERS[name]
    decode(valid)


@pytest.mark.parametrize("name", DECODERS)
@settings(derandomize=True, max_examples=80, deadline=None)
@given(raw=st.binary(max_size=300) | st.text(max_size=200).map(lambda s: s.encode("utf-8", "surrogatepass")))
def test_random_bytes_are_refused_with_one_failure(name: str, raw: bytes) -> None:
    with pytest.raises(FormatError):
        DECODERS[name][0](raw)


@pytest.mark.parametrize("name", DECODERS)
@settings(derandomize=True, max_examples=150, deadline=None)
@given(place=st.integers(0, 10**6), cut=st.integers(0, 40), insert=st.binary(max_size=40))
def test_mutated_bytes_are_refused_or_have_another_meaning(name: str, place: int, cut: int, insert: bytes) -> None:
    decode, valid = DECODERS[name]
    place %= len(valid) + 1
    mutated = valid[:place] + insert + valid[place + cut :]
    try:
        meaning = decode(mutated)
    except FormatError:
        return
    assert (meaning == decode(valid)) == (mutated == valid), "two byte strings for one meaning"


@pytest.mark.parametrize("name", DECODERS)
def test_every_third_bit_flip_is_refused_or_has_another_meaning(name: str) -> None:
    decode, valid = DECODERS[name]
    meaning = decode(valid)
    for place in range(0, 8 * len(valid), 3):
        flipped = bytes(b ^ (1 << place % 8 if i == place // 8 else 0) for i, b in enumerate(valid))
        try:
            assert decode(flipped) != meaning
        except FormatError:
            continue


@pytest.mark.parametrize(
    ("name", "hostile"),
    [
        ("leaf", b"[" * 8192),
        ("leaf", b'{"v":' + b"9" * 8000 + b"}"),
        ("leaf", b"{" + b'"v":1,' * 1300 + b'"v":1}'),
        ("leaf", b" " * 10**7),
        ("leaf", b"[" + b"1," * 5_000_000 + b"1]"),
        ("note", b"\n" * 10**7),
        ("note", b"\n" * MAX_NOTE_BYTES),
        ("note", b"x\n\n" + b"\xe2\x80\x94 a AAAAAAAA\n" * 30_000),
        ("note", b"x\n\n\xe2\x80\x94 a " + b"A" * 500_000 + b"!\n"),
        ("checkpoint", b"a\n" + b"9" * 400_000 + b"\nAAAA\n"),
        ("receipt", b"c2sp.org/tlog-proof@v1\nindex 0\n" + b"A\n" * 300_000 + b"\n"),
        ("receipt", b"c2sp.org/tlog-proof@v1\nextra " + b"A" * 10**7),
        ("vkey", b"a+" * 10**6),
    ],
)
def test_hostile_sizes_are_refused_quickly(name: str, hostile: bytes) -> None:
    started = time.process_time()
    with pytest.raises(FormatError):
        DECODERS[name][0](hostile)
    assert time.process_time() - started < 0.1


TEXT = st.none() | st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=256)
COUNT = st.none() | st.integers(0, 2**53 - 1)
TIME = st.datetimes(timezones=st.just(UTC)).map(lambda t: t.replace(microsecond=0))


def _bytes(n: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=n, max_size=n)


LEAVES = st.builds(
    Leaf,
    event=st.sampled_from(Event),
    retention_class=st.sampled_from(RetentionClass),
    request_id=st.none() | _bytes(16),
    parent_id=st.none() | _bytes(16),
    side=st.none() | st.sampled_from(Side),
    agreement=TEXT,
    epoch=COUNT,
    token_class=TEXT,
    purpose=TEXT,
    legal_basis=TEXT,
    mode=TEXT,
    policy_hash=st.none() | _bytes(32),
    n_padded=COUNT,
    manifest_hash=st.none() | _bytes(32),
    batch_commitment=st.none() | _bytes(32),
    source_commitment=st.none() | _bytes(32),
    actor_commitment=st.none() | _bytes(32),
    hold=TEXT,
    ts=TIME,
    erase_after=TIME,
    body_commit=_bytes(32),
)


@settings(derandomize=True, max_examples=80, deadline=None)
@given(LEAVES)
def test_a_leaf_and_its_bytes_are_exact_inverses(leaf: Leaf) -> None:
    raw = encode_leaf(leaf)
    assert parse_leaf(raw) == leaf
    assert rfc8785.dumps(json.loads(raw)) == raw
    assert b"\n" not in raw


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    st.text(max_size=20),
    st.integers(-1, 2**64),
    st.binary(min_size=31, max_size=33),
    st.lists(st.text(max_size=5), max_size=3),
)
def test_a_checkpoint_is_encoded_exactly_or_refused(origin: str, size: int, root: bytes, extensions: list[str]) -> None:
    checkpoint = Checkpoint(origin, size, root, tuple(extensions))
    try:
        text = encode_checkpoint(checkpoint)
    except FormatError:
        return
    assert parse_checkpoint(text) == checkpoint
    assert verify_note(sign_note(text, [SIGNER]), [SIGNER.vkey]) == text


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_signed_and_read_back_or_refused(text: str) -> None:
    try:
        raw = sign_note(text, [SIGNER])
    except FormatError:
        return
    note = parse_note(raw)
    assert note.text == text
    assert encode_note(note) == raw


# Larger floats are written as integers that JSON readers take for integers without an exact form.
FLOATS = st.floats(min_value=-(2.0**52), max_value=2.0**52)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | FLOATS | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.dictionaries(st.text(max_size=8), JSON, max_size=5), st.integers(0, 2**40))
def test_a_body_is_sealed_and_opened_or_refused(body: dict[str, object], index: int) -> None:
    keys, due = MemoryKeys(), datetime(2029, 11, 22, tzinfo=UTC)
    try:
        encoded = encode_body(body)
    except FormatError:
        return
    salt = b"\x07" * 32
    sealed = seal_body(
        encoded,
        salt,
        keys,
        index=index,
        erase_after=due,
        retention_class=RetentionClass.SIS_3Y,
        random=SeededRandom(),
    )
    opened = open_body(sealed, keys, index=index, body_commit=commit_body(salt, encoded))
    assert (opened.salt, opened.encoded) == (salt, encoded)
    assert rfc8785.dumps(opened.body) == encoded
    with pytest.raises(ProofInvalidError):
        open_body(sealed, keys, index=index + 1, body_commit=commit_body(salt, encoded))
