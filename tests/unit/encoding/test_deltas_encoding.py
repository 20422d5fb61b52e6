"""Deltas as bytes: round trips, ladders, and everything that a peer may not send."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from connector_psi.encoding import deltas, tickets
from connector_psi.errors import FormatError, ProtocolError


def _bytes(label: str, n: int) -> bytes:
    return b"".join(hashlib.sha256(f"{label}{i}".encode()).digest() for i in range(-(-n // 32)))[:n]


def _delta(rows: int = 16, removed: int = 8, **values: object) -> deltas.Delta:
    gone = sorted(_bytes(f"gone{n}", 16) for n in range(removed))
    said: dict[str, object] = {
        "agreement": "SIS-OBJ:ics2-sis",
        "epoch": 3,
        "seq": 7,
        "prev_hash": _bytes("prev", 32),
        "snapshot_ms": 1_795_000_000_000,
        "rows": deltas.sort_rows(b"".join(_bytes(f"row{n}", 76) for n in range(rows))),
        "removed": b"".join(gone),
    }
    return deltas.Delta(**{**said, **values})  # type: ignore[arg-type]


@pytest.mark.parametrize("rows", deltas.ROW_LADDER)
@pytest.mark.parametrize("removed", deltas.REMOVED_LADDER)
def test_every_size_of_the_ladders_comes_back_and_fits_a_message(rows: int, removed: int) -> None:
    delta = _delta(rows, removed)
    raw = deltas.encode_delta(delta)
    assert deltas.parse_delta(raw) == delta
    assert len(raw) <= deltas.MAX_DELTA_BYTES < 1_000_000
    assert delta.row_lookups() == sorted(delta.row_lookups())
    assert len(delta.removed_lookups()) == removed


def test_what_a_peer_may_not_send() -> None:
    good = _delta()
    raw = deltas.encode_delta(good)
    swapped = good.rows[76:152] + good.rows[:76] + good.rows[152:]
    for bad in (
        b"",
        raw[:-1],
        raw + b"\0",
        b"x" + raw[1:],
        raw + bytes(deltas.MAX_DELTA_BYTES),
        deltas.encode_delta(_delta(15)),
        deltas.encode_delta(_delta(16, 7)),
        deltas.encode_delta(_delta(0, 0)),
        deltas.encode_delta(_delta(seq=0)),
        deltas.encode_delta(_delta(epoch=2**60)),
        deltas.encode_delta(_delta(agreement="")),
        deltas.encode_delta(replace(good, rows=swapped)),
        deltas.encode_delta(replace(good, rows=good.rows[:76] + good.rows[: 15 * 76])),
        deltas.encode_delta(replace(good, removed=good.removed[16:32] * 2 + good.removed[32:])),
    ):
        with pytest.raises(FormatError):
            deltas.parse_delta(bad)


@given(st.binary(max_size=400))
def test_random_bytes_are_no_delta(raw: bytes) -> None:
    with pytest.raises(FormatError):
        deltas.parse_delta(raw)


def test_a_signature_is_over_exactly_these_bytes() -> None:
    key, raw = Ed25519PrivateKey.from_private_bytes(bytes(32)), deltas.encode_delta(_delta())
    signature = deltas.sign_delta(key, raw)
    deltas.verify_delta_signature(key.public_key(), raw, signature)
    for other, signed in (
        (raw[:-1] + b"\0", signature),
        (raw, signature[:-1] + bytes([signature[-1] ^ 1])),
        (raw, b""),
    ):
        with pytest.raises(ProtocolError):
            deltas.verify_delta_signature(key.public_key(), other, signed)


@given(st.integers(0, 30_000), st.integers(deltas.MIN_DUMMIES, 5_000))
def test_removed_lookups_always_fill_their_rungs_with_the_dummies_that_are_there(count: int, dummies: int) -> None:
    parts = deltas.removed_parts(count, dummies)
    assert sum(parts) == count
    filled = [deltas.removed_rung(part) - part for part in parts]
    assert filled[:-1] == [0] * (len(parts) - 1)
    assert filled[-1] <= dummies


def test_every_delta_brings_more_dummies_than_an_empty_one_takes() -> None:
    for new in range(deltas.MAX_NEW_ROWS + 1):
        rung = deltas.row_rung(new)
        assert rung in deltas.ROW_LADDER
        assert rung - new >= deltas.MIN_DUMMIES == deltas.REMOVED_LADDER[0]
    with pytest.raises(ValueError, match="ladder"):
        deltas.row_rung(deltas.MAX_NEW_ROWS + 1)
    assert tickets.padded_size(0) * 1 // 64 >= deltas.MIN_DUMMIES
