"""What a leaf of the log says, its exact bytes, and how long its body is kept.

Decides: the events, the 22 fields of a leaf, their form, the retention classes. Leaves to others: what commitments
commit to (``protocol``, ``disclosure``), the body behind ``body_commit`` (``audit.bodies``), the tree
(``audit.merkle``).

A leaf holds no personal data and nothing that tells a refusal from a disclosure, or a batch with a match from one
without. Its form helps to keep that:

- every leaf has all 22 keys; a field that does not apply is ``null``, so that a missing key says nothing;
- text is printable ASCII, at most 256 characters: codes, never names. ASCII also means the same bytes under every
  Unicode version, for as long as the log lives;
- times are whole seconds in UTC (``2026-11-22T06:05:00Z``). The law asks for date and time; a finer one would let a
  reader compare how long decisions took;
- byte strings are lowercase hexadecimal of a fixed length.

The bytes of a leaf are its RFC 8785 form, and ``parse_leaf`` takes no other: one leaf, one hash.
"""

from __future__ import annotations

import calendar
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from connector_psi.errors import ConfigError, FormatError

LEAF_VERSION = 1
MAX_LEAF_BYTES = 8192

_TEXT = re.compile(r"[ -~]{1,256}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_HEX = re.compile(r"(?:[0-9a-f]{2})*")
# RFC 8785 writes numbers as IEEE 754 doubles: larger integers have no exact form.
_MAX_INTEGER = 2**53 - 1
# For ASCII text, integers and null this is the RFC 8785 form, three times as fast as a canonicaliser for any JSON;
# a property test holds the two together.
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


class Event(StrEnum):
    """What an entry records. Together they cover the operations of Directive (EU) 2016/680, Article 25."""

    COLLECT = "COLLECT"
    ALTER = "ALTER"
    CONSULT = "CONSULT"
    REVIEW = "REVIEW"
    CASE_OPEN = "CASE_OPEN"
    CASE_OUTCOME = "CASE_OUTCOME"
    RECEIPT = "RECEIPT"
    RECALL = "RECALL"
    ERASE = "ERASE"
    POLICY_CHANGE = "POLICY_CHANGE"
    KEY_EPOCH = "KEY_EPOCH"
    SET_PUBLISH = "SET_PUBLISH"
    SET_DELETE = "SET_DELETE"
    LOG_READ = "LOG_READ"
    EXPORT = "EXPORT"
    HOLD = "HOLD"
    PURGE = "PURGE"
    CONFIG = "CONFIG"
    CLOCK = "CLOCK"


OF_OVERSIGHT = frozenset({Event.LOG_READ, Event.EXPORT, Event.HOLD})
"""What was read, taken out and held, and why: entries about other entries, not about an exchange."""


class Side(StrEnum):
    """Which role of the agreement this node has in what is recorded."""

    QUERIER = "querier"
    OWNER = "owner"


class RetentionClass(StrEnum):
    """Which law says when the body of an entry is erased."""

    SIS_3Y = "SIS_3Y"
    PRUM_3Y = "PRUM_3Y"
    EUOP_3Y = "EUOP_3Y"
    LED_NATIONAL = "LED_NATIONAL"
    CUSTOMS_NATIONAL = "CUSTOMS_NATIONAL"
    INTEROP_1Y = "INTEROP_1Y"


# From: SIS Regulation 2018/1862, Article 12(4); Regulation (EU) 2024/982 (Prüm II), Articles 40 and 45; Regulation (EU)
# 2018/1725, Article 88(2). National law sets the two national ones: three years unless configured otherwise.
RETENTION_MONTHS: Mapping[RetentionClass, int] = MappingProxyType(
    {
        RetentionClass.SIS_3Y: 36,
        RetentionClass.PRUM_3Y: 36,
        RetentionClass.EUOP_3Y: 36,
        RetentionClass.LED_NATIONAL: 36,
        RetentionClass.CUSTOMS_NATIONAL: 36,
        RetentionClass.INTEROP_1Y: 12,
    }
)
NATIONAL_CLASSES = frozenset({RetentionClass.LED_NATIONAL, RetentionClass.CUSTOMS_NATIONAL})


def erase_after(
    retention_class: RetentionClass, ts: datetime, national_months: Mapping[RetentionClass, int] | None = None
) -> datetime:
    """Return when the body of an entry of this class, written at ``ts``, is to be erased.

    The same day and time so many months later; where the month has no such day, its last day.

    Args:
        retention_class: Class of the entry.
        ts: Aware, UTC.
        national_months: Months per national class, where national law does not say three years.

    Raises:
        ConfigError: ``national_months`` names a class that EU law sets, or fewer months than one.

    Source: Regulation (EEC, Euratom) 1182/71, Article 3(2)(c), for the missing day.
    """
    national = national_months or {}
    if not set(national) <= NATIONAL_CLASSES:
        raise ConfigError("retention: only the national classes can be configured")
    if any(months < 1 for months in national.values()):
        raise ConfigError("retention: a class needs at least one month")
    months = {**RETENTION_MONTHS, **national}[retention_class]
    years, month0 = divmod(ts.month - 1 + months, 12)
    year, month = ts.year + years, month0 + 1
    return ts.replace(year=year, month=month, day=min(ts.day, calendar.monthrange(year, month)[1]))


@dataclass(frozen=True, kw_only=True)
class LeafDraft:
    """What the caller says about an entry; the log adds time, expiry and the commitment to the body.

    Attributes:
        event: What happened.
        retention_class: How long the body is kept.
        request_id: 16 bytes; joins the two sides of one exchange.
        parent_id: 16 bytes; the request that this one follows from.
        side: Role of this node; none where the event belongs to no agreement.
        agreement: Code of the agreement.
        epoch: Key epoch.
        token_class: ``object``, ``contact``, ``organisation`` or ``person``.
        purpose: Code of the purpose.
        legal_basis: Code of the legal basis.
        mode: Mode of the agreement, ``case`` or ``bulk``.
        policy_hash: 32 bytes; the policy instance in force.
        n_padded: Elements in the batch, padding included.
        manifest_hash: 32 bytes.
        batch_commitment: 32 bytes.
        source_commitment: 32 bytes, salted.
        actor_commitment: 32 bytes, a pseudonym stable within agreement and day.
        hold: The monitoring procedure that stops erasure.
    """

    event: Event
    retention_class: RetentionClass
    request_id: bytes | None = None
    parent_id: bytes | None = None
    side: Side | None = None
    agreement: str | None = None
    epoch: int | None = None
    token_class: str | None = None
    purpose: str | None = None
    legal_basis: str | None = None
    mode: str | None = None
    policy_hash: bytes | None = None
    n_padded: int | None = None
    manifest_hash: bytes | None = None
    batch_commitment: bytes | None = None
    source_commitment: bytes | None = None
    actor_commitment: bytes | None = None
    hold: str | None = None

    def complete(self, *, ts: datetime, erase_after: datetime, body_commit: bytes) -> Leaf:
        """Return the leaf, with what the log adds."""
        said: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(LeafDraft)}
        return Leaf(**said, ts=ts, erase_after=erase_after, body_commit=body_commit)


@dataclass(frozen=True, kw_only=True)
class Leaf(LeafDraft):
    """One leaf.

    Attributes:
        ts: When it was written; aware, UTC, whole seconds.
        erase_after: When its body is to be erased; aware, UTC, whole seconds.
        body_commit: 32 bytes; see ``audit.bodies``.
        v: Version of this form.
    """

    ts: datetime
    erase_after: datetime
    body_commit: bytes
    v: int = LEAF_VERSION


def encode_leaf(leaf: Leaf) -> bytes:
    """Return the bytes of a leaf: its RFC 8785 form, with all 22 keys.

    Raises:
        FormatError: A field has no such form; the text names the field.
    """
    return _CANONICAL({name: form.write(name, getattr(leaf, name)) for name, form in _FORMS.items()}).encode("ascii")


def parse_leaf(raw: bytes) -> Leaf:
    """Return the leaf that these bytes are; the exact inverse of ``encode_leaf``.

    Args:
        raw: From anywhere.

    Raises:
        FormatError: Not JSON, not canonical, an unknown or missing key, or a field of another form.
    """
    if len(raw) > MAX_LEAF_BYTES:
        raise FormatError("leaf: too long")
    try:
        said = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        raise FormatError("leaf: not JSON") from None
    if not isinstance(said, dict) or set(said) != set(_FORMS):
        raise FormatError("leaf: not the fields of a leaf")
    values: dict[str, Any] = {name: form.read(name, said[name]) for name, form in _FORMS.items()}
    leaf = Leaf(**values)
    # Catches what the reader above let pass: key order, white space, escapes, a key given twice.
    if encode_leaf(leaf) != raw:
        raise FormatError("leaf: not canonical")
    return leaf


def encode_time(when: datetime) -> str:
    """Return the RFC 3339 form of a time: UTC, whole seconds.

    Raises:
        FormatError: The time is not aware, not UTC, or has a fraction of a second.
    """
    if when.utcoffset() != timedelta(0) or when.microsecond:
        raise FormatError("time: not whole seconds in UTC")
    return when.replace(tzinfo=UTC).isoformat().removesuffix("+00:00") + "Z"


def parse_time(text: str) -> datetime:
    """Return the time; the exact inverse of ``encode_time``.

    Raises:
        FormatError: Any other form.
    """
    if not _TIME.fullmatch(text):
        raise FormatError("time: not whole seconds in UTC")
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        raise FormatError("time: no such time") from None


def _hex_form(length: int, *, required: bool = False) -> _Form:
    def write(value: object) -> str:
        if not isinstance(value, bytes) or len(value) != length:
            raise FormatError
        return value.hex()

    def read(value: object) -> bytes:
        if not isinstance(value, str) or len(value) != 2 * length or not _HEX.fullmatch(value):
            raise FormatError
        return bytes.fromhex(value)

    return _Form(write, read, required)


def _code_form(codes: type[StrEnum], *, required: bool = False) -> _Form:
    def write(value: object) -> str:
        if not isinstance(value, codes):
            raise FormatError
        return value.value

    def read(value: object) -> StrEnum:
        if not isinstance(value, str):
            raise FormatError
        return codes(value)

    return _Form(write, read, required)


def _time(value: object) -> str:
    if not isinstance(value, datetime):
        raise FormatError
    return encode_time(value)


def _read_time(value: object) -> datetime:
    if not isinstance(value, str):
        raise FormatError
    return parse_time(value)


def _text(value: object) -> str:
    if not isinstance(value, str) or not _TEXT.fullmatch(value):
        raise FormatError
    return value


def _count(value: object) -> int:
    # bool is an int to Python and another value to JSON.
    if type(value) is not int or not 0 <= value <= _MAX_INTEGER:
        raise FormatError
    return value


def _version(value: object) -> int:
    if type(value) is not int or value != LEAF_VERSION:
        raise FormatError
    return value


@dataclass(frozen=True)
class _Form:
    """How one field is written to JSON and read from it; each refuses what the other would not give."""

    to_json: Callable[[object], str | int]
    from_json: Callable[[object], object]
    required: bool = False

    def write(self, name: str, value: object) -> str | int | None:
        if value is None and not self.required:
            return None
        try:
            return self.to_json(value)
        except FormatError:
            raise FormatError(f"leaf: field {name} does not have its form") from None

    def read(self, name: str, value: object) -> object:
        if value is None and not self.required:
            return None
        try:
            return self.from_json(value)
        except (FormatError, ValueError):
            raise FormatError(f"leaf: field {name} does not have its form") from None


# The fields of a leaf, as docs/disclosure-log.md lists them.
_FORMS: Mapping[str, _Form] = MappingProxyType(
    {
        "v": _Form(_version, _version, required=True),
        "event": _code_form(Event, required=True),
        "ts": _Form(_time, _read_time, required=True),
        "request_id": _hex_form(16),
        "parent_id": _hex_form(16),
        "side": _code_form(Side),
        "agreement": _Form(_text, _text),
        "epoch": _Form(_count, _count),
        "token_class": _Form(_text, _text),
        "purpose": _Form(_text, _text),
        "legal_basis": _Form(_text, _text),
        "mode": _Form(_text, _text),
        "policy_hash": _hex_form(32),
        "n_padded": _Form(_count, _count),
        "manifest_hash": _hex_form(32),
        "batch_commitment": _hex_form(32),
        "source_commitment": _hex_form(32),
        "actor_commitment": _hex_form(32),
        "retention_class": _code_form(RetentionClass, required=True),
        "erase_after": _Form(_time, _read_time, required=True),
        "hold": _Form(_text, _text),
        "body_commit": _hex_form(32, required=True),
    }
)
