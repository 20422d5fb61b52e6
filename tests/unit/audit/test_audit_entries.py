from __future__ import annotations

import json
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
import rfc8785

from connector_psi.audit.entries import (
    RETENTION_MONTHS,
    Event,
    Leaf,
    LeafDraft,
    RetentionClass,
    encode_leaf,
    erase_after,
    parse_leaf,
    parse_time,
)
from connector_psi.errors import ConfigError, FormatError
from tests.simulation.memory_log import draft

TS = datetime(2026, 11, 22, 6, 5, 0, tzinfo=UTC)
LEAF = draft(1).complete(ts=TS, erase_after=datetime(2029, 11, 22, 6, 5, 0, tzinfo=UTC), body_commit=b"\x0a" * 32)

# The list of docs/disclosure-log.md.
FIELDS = [
    "v",
    "event",
    "ts",
    "request_id",
    "parent_id",
    "side",
    "agreement",
    "epoch",
    "token_class",
    "purpose",
    "legal_basis",
    "mode",
    "policy_hash",
    "n_padded",
    "manifest_hash",
    "batch_commitment",
    "source_commitment",
    "actor_commitment",
    "retention_class",
    "erase_after",
    "hold",
    "body_commit",
]


def _edit(**changes: object) -> bytes:
    return rfc8785.dumps({**json.loads(encode_leaf(LEAF)), **changes})  # type: ignore[dict-item]


def test_known_answer() -> None:
    assert encode_leaf(LEAF) == (
        b'{"actor_commitment":"' + b"03" * 32 + b'","agreement":"SIS-OBJ:ics2-sis","batch_commitment":"' + b"01" * 32
        + b'","body_commit":"' + b"0a" * 32 + b'","epoch":7,"erase_after":"2029-11-22T06:05:00Z","event":"CONSULT",'
        b'"hold":null,"legal_basis":"32018R1862:38","manifest_hash":null,"mode":"case","n_padded":8,"parent_id":null,'
        b'"policy_hash":"' + b"00" * 32 + b'","purpose":"eu-sis:object-check","request_id":"' + b"00" * 15 + b"01"
        b'","retention_class":"SIS_3Y","side":"querier","source_commitment":"' + b"02" * 32
        + b'","token_class":"object","ts":"2026-11-22T06:05:00Z","v":1}'
    )  # fmt: skip


def test_every_leaf_has_the_same_keys() -> None:
    bare = LeafDraft(event=Event.CLOCK, retention_class=RetentionClass.INTEROP_1Y).complete(
        ts=TS, erase_after=TS, body_commit=bytes(32)
    )
    assert set(json.loads(encode_leaf(bare))) == set(json.loads(encode_leaf(LEAF))) == set(FIELDS)
    assert {f.name for f in fields(Leaf)} == set(FIELDS)
    assert parse_leaf(encode_leaf(bare)) == bare


def test_events_are_those_of_the_design() -> None:
    assert {event.value for event in Event} == {
        "COLLECT",
        "ALTER",
        "CONSULT",
        "REVIEW",
        "CASE_OPEN",
        "CASE_OUTCOME",
        "RECEIPT",
        "RECALL",
        "ERASE",
        "POLICY_CHANGE",
        "KEY_EPOCH",
        "SET_PUBLISH",
        "SET_DELETE",
        "LOG_READ",
        "EXPORT",
        "HOLD",
        "PURGE",
        "CONFIG",
        "CLOCK",
    }


@pytest.mark.parametrize(
    "raw",
    [
        encode_leaf(LEAF) + b"\n",
        encode_leaf(LEAF).replace(b":", b": ", 1),
        encode_leaf(LEAF).replace(b'"v":1', b'"v":1.0'),
        encode_leaf(LEAF).replace(b'"v":1', b'"v":1,"v":1'),
        encode_leaf(LEAF).replace(b'"v":1', b'"v":true'),
        encode_leaf(LEAF).replace(b"SIS-OBJ", b"\\u0053IS-OBJ"),
        encode_leaf(LEAF).replace(b'"hold":null,', b""),
        json.dumps(dict(reversed(json.loads(encode_leaf(LEAF)).items())), separators=(",", ":")).encode(),
        _edit(comment="x"),
        _edit(v=2),
        _edit(event="GUESS"),
        _edit(event=None),
        _edit(side="client"),
        _edit(retention_class="FOREVER"),
        _edit(ts="2026-11-22T06:05:00.5Z"),
        _edit(ts="2026-11-22T06:05:00+00:00"),
        _edit(ts="2026-02-30T06:05:00Z"),
        _edit(ts=1),
        _edit(ts=None),
        _edit(request_id="00" * 15),
        _edit(request_id="0A" * 16),
        _edit(request_id="zz" * 16),
        _edit(request_id=7),
        _edit(policy_hash="00" * 31),
        _edit(body_commit=None),
        _edit(epoch=-1),
        _edit(epoch=True),
        _edit(epoch="7"),
        _edit(n_padded=1.5),
        _edit(agreement=""),
        _edit(agreement="x" * 257),
        _edit(agreement="Müller"),
        _edit(purpose="a\nb"),
        _edit(purpose=["a"]),
        b"[]",
        b"",
        b"\xff",
    ],
)
def test_other_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(FormatError):
        parse_leaf(raw)


@pytest.mark.parametrize(
    "change",
    [
        {"request_id": bytes(15)},
        {"request_id": "00" * 16},
        {"policy_hash": bytes(31)},
        {"epoch": -1},
        {"epoch": 2**53},
        {"epoch": True},
        {"event": "CONSULT"},
        {"agreement": "Müller"},
        {"ts": TS.replace(microsecond=1)},
        {"ts": TS.replace(tzinfo=None)},
        {"ts": TS.astimezone(timezone(timedelta(hours=1)))},
        {"body_commit": None},
        {"v": 2},
    ],
)
def test_other_fields_are_refused_by_name_and_not_by_value(change: dict[str, object]) -> None:
    (name,) = change
    with pytest.raises(FormatError) as refused:
        encode_leaf(replace(LEAF, **change))  # type: ignore[arg-type]
    assert str(refused.value) == f"leaf: field {name} does not have its form"


def test_refusals_never_show_a_value() -> None:
    for raw in (_edit(agreement="Secretname\u0007"), _edit(event="Secretname"), b"Secretname"):
        with pytest.raises(FormatError) as refused:
            parse_leaf(raw)
        assert "Secretname" not in str(refused.value)
        assert refused.value.__cause__ is None
        assert refused.value.__suppress_context__


@pytest.mark.parametrize(
    ("retention_class", "written", "due"),
    [
        (RetentionClass.SIS_3Y, "2026-11-22T06:05:00Z", "2029-11-22T06:05:00Z"),
        (RetentionClass.PRUM_3Y, "2026-12-31T23:59:59Z", "2029-12-31T23:59:59Z"),
        (RetentionClass.EUOP_3Y, "2024-02-29T12:00:00Z", "2027-02-28T12:00:00Z"),
        (RetentionClass.INTEROP_1Y, "2027-02-28T12:00:00Z", "2028-02-28T12:00:00Z"),
        (RetentionClass.LED_NATIONAL, "2026-01-01T00:00:00Z", "2029-01-01T00:00:00Z"),
        (RetentionClass.CUSTOMS_NATIONAL, "2026-01-01T00:00:00Z", "2029-01-01T00:00:00Z"),
    ],
)
def test_retention_is_exact(retention_class: RetentionClass, written: str, due: str) -> None:
    assert erase_after(retention_class, parse_time(written)) == parse_time(due)


def test_national_retention_is_configured_and_the_rest_is_not() -> None:
    at = parse_time("2026-08-31T00:00:00Z")
    assert erase_after(RetentionClass.LED_NATIONAL, at, {RetentionClass.LED_NATIONAL: 18}) == parse_time(
        "2028-02-29T00:00:00Z"
    )
    assert erase_after(RetentionClass.SIS_3Y, at, {RetentionClass.LED_NATIONAL: 18}).year == 2029
    assert set(RETENTION_MONTHS) == set(RetentionClass)
    for months in ({RetentionClass.SIS_3Y: 60}, {RetentionClass.LED_NATIONAL: 0}):
        with pytest.raises(ConfigError):
            erase_after(RetentionClass.SIS_3Y, at, months)
