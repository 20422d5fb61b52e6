from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError

from connector_psi.encoding import manifest as module
from connector_psi.encoding.bloom import MAX_CAPACITY, filter_size_bytes
from connector_psi.encoding.manifest import (
    MAX_MANIFEST_BYTES,
    Manifest,
    decode_time,
    encode_manifest,
    encode_time,
    file_root,
    manifest_hash,
    parse_manifest,
    sign_manifest,
    verify_files,
    verify_manifest_signature,
)
from connector_psi.errors import FormatError, ProtocolError, UnavailableError

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def fields() -> dict[str, Any]:
    return {
        "v": 1,
        "agreement": "SIS-OBJ:ics2-sis",
        "epoch": 3,
        "owner": "SIS",
        "querier": "ICS2",
        "suite": "ristretto255-SHA512/VOPRF",
        "normalisation_version": "2026-1",
        "policy_hash": "ab" * 32,
        "class_keys": {"object": "01" * 32, "contact": "02" * 32},
        "size_class": 1024,
        "files": {
            "filter": {"size_bytes": filter_size_bytes(1024), "root": "0c" * 32},
            "tickets": {"size_bytes": 76 * 1024, "root": "0d" * 32},
        },
        "source_snapshot": "2026-11-01T00:00:00Z",
        "not_before": "2026-11-01T00:10:00Z",
        "not_after": "2026-11-03T00:00:00Z",
        "delta_chain_start": "00" * 32,
        "synthetic": True,
        "families": [1, 2, 12],
    }


def canonical(value: dict[str, Any]) -> bytes:
    """For plain ASCII and small integers, sorted compact JSON is RFC 8785."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


RAW = canonical(fields())


# --- form


def test_encoding_is_canonical_json_of_every_field() -> None:
    manifest = Manifest(**(fields() | {"families": (1, 2, 12)}))
    assert encode_manifest(manifest) == RAW
    assert parse_manifest(RAW) == manifest
    assert manifest_hash(RAW) == hashlib.sha256(RAW).digest()


def test_a_manifest_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse_manifest(RAW).epoch = 4  # type: ignore[misc]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b"\xff",
        b"[" * 60_000,
        RAW[:-1],
        RAW + b"\n",
        b" " + RAW,
        b"\xef\xbb\xbf" + RAW,
        json.dumps(fields(), sort_keys=True).encode(),
        json.dumps(fields(), separators=(",", ":")).encode(),
        RAW.replace(b'"SIS"', b'"\\u0053IS"'),
        RAW.replace(b'"epoch":3', b'"epoch":3.0'),
        RAW.replace(b'"epoch":3', b'"epoch":3e0'),
        RAW.replace(b'"epoch":3', b'"epoch":2,"epoch":3'),
        RAW.replace(b'"epoch":3', b'"epoch":-0'),
        RAW.replace(b'"v":1', b'"v":true'),
        RAW.replace(b',"v":1', b""),
        RAW.replace(b'"suite":"ristretto255-SHA512/VOPRF",', b""),
        b" " * MAX_MANIFEST_BYTES + RAW,
    ],
    ids=lambda raw: f"{len(raw)}:{raw[:12]!r}",
)
def test_any_other_spelling_is_refused(raw: bytes) -> None:
    assert raw != RAW
    with pytest.raises(FormatError):
        parse_manifest(raw)


def test_a_long_input_is_refused_unread() -> None:
    with pytest.raises(FormatError, match="too long"):
        parse_manifest(b" " * (MAX_MANIFEST_BYTES + 1))


def test_nothing_is_converted_when_a_manifest_is_made() -> None:
    good = fields() | {"families": (1, 2, 12)}
    Manifest(**good)
    for bad in ({"epoch": "3"}, {"epoch": 3.0}, {"synthetic": 1}, {"agreement": b"SIS"}, {"families": [1, 2, 12]}):
        with pytest.raises(ValidationError):
            Manifest(**(good | bad))


def changed(*path: str, to: object) -> Callable[[dict[str, Any]], None]:
    def change(value: dict[str, Any]) -> None:
        for name in path[:-1]:
            value = value[name]
        value[path[-1]] = to

    return change


@pytest.mark.parametrize(
    "change",
    [
        changed("v", to=2),
        changed("v", to="1"),
        changed("unknown", to=1),
        changed("files", "unknown", to={"size_bytes": 1, "root": "00" * 32}),
        changed("files", "filter", "unknown", to=1),
        changed("agreement", to=""),
        changed("agreement", to="with space"),
        changed("agreement", to="line\n"),
        changed("agreement", to="x" * 129),
        changed("agreement", to=1),
        changed("epoch", to=-1),
        changed("epoch", to="3"),
        changed("epoch", to=2**53),
        changed("epoch", to=10**400),
        changed("querier", to="SIS"),
        changed("suite", to="ristretto255-SHA512/OPRF"),
        changed("policy_hash", to="AB" * 32),
        changed("policy_hash", to="ab" * 31),
        changed("policy_hash", to="ab" * 32 + "\n"),
        changed("class_keys", to={}),
        changed("class_keys", "weapon", to="03" * 32),
        changed("class_keys", "contact", to="01" * 32),
        changed("class_keys", "contact", to="02" * 33),
        changed("size_class", to=1023),
        changed("size_class", to=1025),
        changed("size_class", to=1280),
        changed("size_class", to=True),
        changed("size_class", to=2 * MAX_CAPACITY),
        changed("files", "filter", "size_bytes", to=filter_size_bytes(1024) + 1),
        changed("files", "tickets", "size_bytes", to=76 * 1024 - 76),
        changed("files", "tickets", "root", to=""),
        changed("source_snapshot", to="2026-11-03T00:00:00Z"),
        changed("not_before", to="2026-11-03T00:00:00Z"),
        changed("not_before", to="2026-11-31T00:10:00Z"),
        changed("not_before", to="2026-11-01T00:10:00+00:00"),
        changed("not_before", to="2026-11-01T00:10:00.0Z"),
        changed("not_before", to="2026-11-01T0:10:00Z"),
        changed("not_before", to="2026-11-01 00:10:00Z"),
        changed("not_before", to=1793491200),
        changed("delta_chain_start", to=None),
        changed("synthetic", to=1),
        changed("synthetic", to="true"),
        changed("families", to=[2, 1]),
        changed("families", to=[1, 1]),
        changed("families", to=[256]),
        changed("families", to=[-1]),
        changed("families", to="12"),
    ],
)
def test_a_field_of_another_form_is_refused(change: Callable[[dict[str, Any]], None]) -> None:
    value = fields()
    change(value)
    with pytest.raises(FormatError):
        parse_manifest(canonical(value))


@pytest.mark.parametrize("name", sorted(fields()))
def test_no_field_may_be_missing(name: str) -> None:
    value = fields()
    del value[name]
    with pytest.raises(FormatError):
        parse_manifest(canonical(value))


@pytest.mark.parametrize("name", sorted(fields()))
def test_an_error_never_repeats_what_the_peer_wrote(name: str) -> None:
    for value in (fields() | {name: "planted-text"}, fields() | {name: {"planted-text": "planted-text"}}):
        with pytest.raises(FormatError) as caught:
            parse_manifest(canonical(value | {"planted-text": 1, "agreement": "planted-text "}))
        assert "planted" not in repr(caught.value)
        assert caught.value.__cause__ is None


def test_an_error_names_the_place_and_the_reason() -> None:
    for change, text in (
        (changed("files", "tickets", "root", to="x"), "manifest files.tickets.root: "),
        (changed("size_class", to=1025), "manifest size_class: Value error, not a size class"),
        (changed("querier", to="SIS"), "owner and querier are one authority"),
    ):
        value = fields()
        change(value)
        with pytest.raises(FormatError, match=text):
            parse_manifest(canonical(value))


# --- times


def test_times_are_utc_in_whole_seconds() -> None:
    moment = datetime(2026, 11, 1, 1, 2, 3, 999_999, tzinfo=timezone(timedelta(hours=1)))
    assert encode_time(moment) == "2026-11-01T00:02:03Z"
    assert decode_time("2026-11-01T00:02:03Z") == datetime(2026, 11, 1, 0, 2, 3, tzinfo=UTC)
    assert encode_time(datetime(1, 1, 1, tzinfo=UTC)) == "0001-01-01T00:00:00Z"
    with pytest.raises(ValueError, match="zone"):
        encode_time(datetime(2026, 11, 1))  # noqa: DTZ001


# --- signature


def test_the_signature_covers_every_bit_and_its_purpose() -> None:
    signature = sign_manifest(KEY, RAW)
    verify_manifest_signature(KEY.public_key(), RAW, signature)
    KEY.public_key().verify(signature, b"connector-psi/v1 manifest\n" + RAW)
    for bit in range(8 * len(signature)):
        flipped = bytearray(signature)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ProtocolError, match="signature"):
            verify_manifest_signature(KEY.public_key(), RAW, bytes(flipped))
    other = Ed25519PrivateKey.from_private_bytes(bytes(32))
    for public, raw, given in (
        (KEY.public_key(), RAW + b" ", signature),
        (KEY.public_key(), RAW, KEY.sign(RAW)),
        (KEY.public_key(), RAW, b""),
        (KEY.public_key(), RAW, signature + b"\0"),
        (other.public_key(), RAW, signature),
    ):
        with pytest.raises(ProtocolError, match="signature"):
            verify_manifest_signature(public, raw, given)


# --- files


def tree_hash(leaves: list[bytes]) -> bytes:
    """RFC 9162 section 2.1.1, as written there."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + tree_hash(leaves[:k]) + tree_hash(leaves[k:])).digest()


@pytest.mark.parametrize("block", [1, 3, 8, 13, 1000])
def test_the_root_is_rfc_9162_s_over_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(module, "CHUNK_BYTES", 8)
    monkeypatch.setattr(module, "_READ_BYTES", block)
    for length in range(140):
        data = random.Random(length).randbytes(length)
        expected = tree_hash([data[at : at + 8] for at in range(0, length, 8)])
        assert file_root(data[at : at + block] for at in range(0, length, block)) == expected
        (tmp_path / "file").write_bytes(data)
        assert file_root(tmp_path / "file") == expected


def test_chunks_are_8_mib(tmp_path: Path) -> None:
    data = bytes(8 * 1024 * 1024 + 1)
    (tmp_path / "file").write_bytes(data)
    assert file_root(tmp_path / "file") == tree_hash([data[:-1], data[-1:]])


@pytest.fixture
def published(tmp_path: Path) -> tuple[Manifest, Path, Path]:
    source = random.Random(1)
    paths = tmp_path / "filter", tmp_path / "tickets"
    value = fields()
    for path in paths:
        path.write_bytes(source.randbytes(value["files"][path.name]["size_bytes"]))
        value["files"][path.name]["root"] = file_root(path).hex()
    return parse_manifest(canonical(value)), *paths


@pytest.mark.parametrize("victim", [0, 1])
def test_files_are_the_ones_named(published: tuple[Manifest, Path, Path], victim: int) -> None:
    manifest, *paths = published
    verify_files(manifest, *paths)
    content = paths[victim].read_bytes()
    for bad in (content[:-1], content + b"\0"):
        paths[victim].write_bytes(bad)
        with pytest.raises(FormatError, match="length"):
            verify_files(manifest, *paths)
    for at in (0, len(content) // 2, len(content) - 1):
        paths[victim].write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(FormatError, match="content"):
            verify_files(manifest, *paths)
    paths[victim].unlink()
    with pytest.raises(UnavailableError):
        verify_files(manifest, *paths)


def test_swapped_files_are_refused(published: tuple[Manifest, Path, Path]) -> None:
    manifest, first, second = published
    with pytest.raises(FormatError):
        verify_files(manifest, second, first)


# --- names


NAMED: dict[str, Any] = {
    "families": [1, 66],
    "name_rules": "cp-name-1",
    "name_weights": {"version": "cp-names-1", "sha256": "0f" * 32},
}


def test_rules_and_weights_of_names_go_with_families_of_names() -> None:
    raw = canonical(fields() | NAMED)
    manifest = parse_manifest(raw)
    assert manifest.name_weights is not None
    assert (manifest.name_rules, manifest.name_weights.version) == ("cp-name-1", "cp-names-1")
    assert encode_manifest(manifest) == raw


@pytest.mark.parametrize(
    "changes",
    [
        {"name_rules": None},
        {"name_weights": None},
        {"families": [1, 63]},
        {"name_weights": {"version": "cp-names-1"}},
        {"name_weights": {"version": "cp-names-1", "sha256": "0F" * 32}},
        {"name_rules": ""},
    ],
)
def test_half_of_what_concerns_names_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(FormatError, match="manifest"):
        parse_manifest(canonical(fields() | NAMED | changes))


def test_a_manifest_without_names_has_no_word_about_them() -> None:
    for more in ({"name_rules": None}, {"name_rules": None, "name_weights": None}):
        with pytest.raises(FormatError, match="canonical"):
            parse_manifest(canonical(fields() | more))
    with pytest.raises(FormatError, match="manifest"):
        parse_manifest(canonical(fields() | {"families": [1, 64]}))
