from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from connector_psi.audit.bodies import OpenedBody, SealedBody, commit_body, encode_body, month_of, open_body, seal_body
from connector_psi.audit.entries import RetentionClass
from connector_psi.errors import FormatError, KeyUnavailableError, ProofInvalidError
from tests.simulation.memory_log import MemoryKeys, SeededRandom

SALT = b"\x07" * 32
BODY = {"officer": "o-17", "decision": "allow", "tokens": ["aa", "bb"], "note": "é"}
DUE = datetime(2029, 11, 22, 6, 5, tzinfo=UTC)


def _seal(keys: MemoryKeys, index: int = 4, seed: int = 1) -> tuple[SealedBody, bytes]:
    encoded = encode_body(BODY)
    sealed = seal_body(
        encoded,
        SALT,
        keys,
        index=index,
        erase_after=DUE,
        retention_class=RetentionClass.SIS_3Y,
        random=SeededRandom(seed),
    )
    return sealed, commit_body(SALT, encoded)


def test_commitment_is_what_the_documentation_says() -> None:
    encoded = '{"decision":"allow","note":"é","officer":"o-17","tokens":["aa","bb"]}'.encode()
    assert encode_body(BODY) == encoded
    assert commit_body(SALT, encoded) == hashlib.sha256(b"connector-psi/v1 body" + SALT + encoded).digest()
    with pytest.raises(FormatError):
        commit_body(SALT[:31], encoded)


def test_a_body_opens_to_what_was_sealed() -> None:
    keys = MemoryKeys()
    sealed, commit = _seal(keys)
    opened = open_body(sealed, keys, index=4, body_commit=commit)
    assert (opened.body, opened.salt) == (BODY, SALT)
    assert sealed.key_id == f"{month_of(DUE)}/SIS_3Y" == "2029-11/SIS_3Y"
    assert b"o-17" not in sealed.ciphertext
    assert "o-17" not in repr(opened)


def test_each_body_has_its_own_key() -> None:
    keys = MemoryKeys()
    first, second = _seal(keys, seed=1)[0], _seal(keys, seed=2)[0]
    assert first.key_id == second.key_id
    assert first.wrapped_key != second.wrapped_key
    assert first.ciphertext != second.ciphertext


def test_every_flipped_bit_of_a_sealed_body_is_found() -> None:
    keys = MemoryKeys()
    sealed, commit = _seal(keys)
    for part in ("wrapped_key", "nonce", "ciphertext"):
        value: bytes = getattr(sealed, part)
        for bit in range(8 * len(value)):
            flipped = bytes(b ^ (1 << bit % 8 if i == bit // 8 else 0) for i, b in enumerate(value))
            damaged: dict[str, Any] = {part: flipped}
            with pytest.raises(ProofInvalidError):
                open_body(replace(sealed, **damaged), keys, index=4, body_commit=commit)
    assert {f.name for f in fields(SealedBody)} == {"key_id", "wrapped_key", "nonce", "ciphertext"}


@pytest.mark.parametrize("part", ["wrapped_key", "nonce", "ciphertext"])
@pytest.mark.parametrize("value", [b"", b"\x00", bytes(200)])
def test_parts_of_another_length_are_found(part: str, value: bytes) -> None:
    keys = MemoryKeys()
    sealed, commit = _seal(keys)
    damaged: dict[str, Any] = {part: value}
    with pytest.raises(ProofInvalidError):
        open_body(replace(sealed, **damaged), keys, index=4, body_commit=commit)


def test_a_body_belongs_to_its_leaf() -> None:
    keys = MemoryKeys()
    sealed, commit = _seal(keys)
    with pytest.raises(ProofInvalidError):
        open_body(sealed, keys, index=5, body_commit=commit)
    with pytest.raises(ProofInvalidError):
        open_body(sealed, keys, index=4, body_commit=bytes(32))
    keys.get_or_create("2029-12", "SIS_3Y")
    with pytest.raises(ProofInvalidError):
        open_body(replace(sealed, key_id="2029-12/SIS_3Y"), keys, index=4, body_commit=commit)


def test_a_destroyed_key_erases_the_body() -> None:
    keys = MemoryKeys()
    sealed, commit = _seal(keys)
    keys.destroy("2029-11/SIS_3Y")
    with pytest.raises(KeyUnavailableError):
        open_body(sealed, keys, index=4, body_commit=commit)


@pytest.mark.parametrize("value", [b"bytes", float("nan"), 2**60, "\ud800", {1: 2}, object()])
def test_what_json_cannot_hold_is_refused_without_being_shown(value: object) -> None:
    with pytest.raises(FormatError) as refused:
        encode_body({"x": value})
    assert str(refused.value) == "body: not representable in canonical JSON"
    assert refused.value.__suppress_context__


def test_an_endless_body_is_refused() -> None:
    body: dict[str, object] = {}
    body["x"] = body
    with pytest.raises(FormatError):
        encode_body(body)


def test_an_opened_body_shows_nothing() -> None:
    assert repr(OpenedBody(salt=SALT, encoded=b'{"a":1}')) == "OpenedBody()"
