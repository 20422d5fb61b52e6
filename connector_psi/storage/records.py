"""Records as they are stored: registered once by source reference, amended, withdrawn, found again.

``change_seq`` rises with every registration and amendment; whoever follows the records (a querier's cursor, an owner's
publisher) follows it. A record's content is compared by a keyed hash, so that a re-run of a file changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from connector_psi.domain.records import Field, Identifier, IdentifierType, Record, SourceSystem
from connector_psi.storage.schema import records
from connector_psi.storage.store import Store, Tx

_TABLE = "records"
_LIVE = "live"
_DIGEST_BYTES = 32
# Below the limit of bound values of any SQLite.
_IN_CHUNK = 500


class Outcome(StrEnum):
    """What registering a record did."""

    ACCEPTED = "accepted"
    UPDATED = "updated"
    DUPLICATE = "duplicate"


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A live record and its numbers in this store."""

    id: int
    change_seq: int
    record: Record = field(repr=False)


def put(store: Store, tx: Tx, items: Sequence[Record], now_ms: int) -> list[Outcome]:
    """Register records; the same content again is a duplicate and changes nothing, other content is an amendment.

    Returns:
        One outcome a record, in order.

    Cost: One look-up a chunk, one statement for all new rows.
    """
    refs = [store.index_of(record.source.value, record.source_ref) for record in items]
    known = _known(tx, refs)
    seq = max_change_seq(tx)
    new: dict[bytes, dict[str, Any]] = {}
    outcomes: list[Outcome] = []
    for record, ref_index in zip(items, refs, strict=True):
        payload = _encode(record)
        # The digest of the whole message is left out: a message that arrives again with another
        # envelope, or a file with one more record, is no amendment of this record.
        content = store.mac(payload)
        same = known.get(ref_index) == (content, _LIVE)
        # What a cut message holds of a record never replaces what a whole one held.
        if same or (record.incomplete and ref_index in known and _is_complete(store, tx, ref_index)):
            outcomes.append(Outcome.DUPLICATE)
            continue
        seq += 1
        values: dict[str, Any] = {
            "change_seq": seq,
            "content_mac": content,
            "category": record.category,
            "state": _LIVE,
            "hidden": record.hidden,
            "valid_until_ms": _ms(record.valid_until),
            "changed_ms": now_ms,
            "sealed": store.seal_raw(_TABLE, record.message_digest + payload),
        }
        if ref_index in known and ref_index not in new:
            tx.execute(sa.update(records).where(records.c.ref_index == ref_index).values(**values))
        else:
            new[ref_index] = {"ref_index": ref_index, "registered_ms": now_ms, **values}
        outcomes.append(Outcome.UPDATED if ref_index in known else Outcome.ACCEPTED)
        known[ref_index] = (content, _LIVE)
    if new:
        tx.execute(sa.insert(records), list(new.values()))
    return outcomes


def _is_complete(store: Store, tx: Tx, ref_index: bytes) -> bool:
    sealed = tx.execute(
        sa.select(records.c.sealed).where(records.c.ref_index == ref_index, records.c.state == _LIVE)
    ).scalar()
    return sealed is not None and not _decode(store.unseal_raw(_TABLE, sealed)).incomplete


def _known(tx: Tx, refs: Sequence[bytes]) -> dict[bytes, tuple[bytes, str]]:
    """Content and state of the records among ``refs`` that are stored, by reference."""
    found: dict[bytes, tuple[bytes, str]] = {}
    for start in range(0, len(refs), _IN_CHUNK):
        rows = tx.execute(
            sa.select(records.c.ref_index, records.c.content_mac, records.c.state).where(
                records.c.ref_index.in_(refs[start : start + _IN_CHUNK])
            )
        )
        found.update({row.ref_index: (row.content_mac, row.state) for row in rows})
    return found


def withdraw(store: Store, tx: Tx, source: SourceSystem, source_ref: str, now_ms: int) -> int | None:
    """Take a record out of matching. Returns its id, or None if there is no such live record."""
    ref_index = store.index_of(source.value, source_ref)
    found = tx.execute(
        sa.select(records.c.id).where(records.c.ref_index == ref_index, records.c.state == _LIVE)
    ).scalar()
    if found is None:
        return None
    tx.execute(
        sa.update(records)
        .where(records.c.id == found)
        .values(state="withdrawn", change_seq=max_change_seq(tx) + 1, changed_ms=now_ms)
    )
    return int(found)


def max_change_seq(tx: Tx) -> int:
    """Return the newest change number, 0 for an empty store."""
    return int(tx.execute(sa.select(sa.func.max(records.c.change_seq))).scalar() or 0)


def count_live(tx: Tx) -> int:
    """Return how many records are live."""
    return int(tx.execute(sa.select(sa.func.count()).where(records.c.state == _LIVE)).scalar() or 0)


def live_after(store: Store, tx: Tx, after_seq: int, limit: int, now_ms: int) -> list[StoredRecord]:
    """Return live records changed after ``after_seq``, in order of change, at most ``limit``; hidden ones are not
    asked with.
    """
    rows = tx.execute(
        sa.select(records.c.id, records.c.change_seq, records.c.sealed)
        .where(
            records.c.change_seq > after_seq,
            records.c.state == _LIVE,
            records.c.hidden.is_(False),
            sa.or_(records.c.valid_until_ms.is_(None), records.c.valid_until_ms > now_ms),
        )
        .order_by(records.c.change_seq)
        .limit(limit)
    )
    return [StoredRecord(row.id, row.change_seq, _decode(store.unseal_raw(_TABLE, row.sealed))) for row in rows]


def eligible(
    store: Store, tx: Tx, categories: Sequence[str], now_ms: int, chunk: int = 2000
) -> Iterator[list[StoredRecord]]:
    """Yield, in chunks, the live records of some categories that may be published (hidden ones never are)."""
    last = 0
    while True:
        rows = tx.execute(
            sa.select(records.c.id, records.c.change_seq, records.c.sealed)
            .where(
                records.c.id > last,
                records.c.state == _LIVE,
                records.c.hidden.is_(False),
                records.c.category.in_(categories),
                sa.or_(records.c.valid_until_ms.is_(None), records.c.valid_until_ms > now_ms),
            )
            .order_by(records.c.id)
            .limit(chunk)
        ).all()
        if not rows:
            return
        last = rows[-1].id
        yield [StoredRecord(row.id, row.change_seq, _decode(store.unseal_raw(_TABLE, row.sealed))) for row in rows]


def newest_change(tx: Tx, categories: Sequence[str]) -> tuple[int, int]:
    """Return ``(change_seq, changed_ms)`` of the newest change among some categories; zeros where there is none."""
    row = tx.execute(
        sa.select(records.c.change_seq, records.c.changed_ms)
        .where(records.c.category.in_(categories))
        .order_by(records.c.change_seq.desc())
        .limit(1)
    ).one_or_none()
    return (int(row.change_seq), int(row.changed_ms)) if row else (0, 0)


def by_id(store: Store, tx: Tx, record_id: int) -> tuple[Record, bool] | None:
    """Return ``(record, live)``, or None if there is no such record."""
    row = tx.execute(sa.select(records.c.sealed, records.c.state).where(records.c.id == record_id)).one_or_none()
    return (_decode(store.unseal_raw(_TABLE, row.sealed)), row.state == _LIVE) if row else None


def _ms(when: datetime | None) -> int | None:
    return None if when is None else int(when.timestamp() * 1000)


def _encode(record: Record) -> bytes:
    value = {
        "source": record.source.value,
        "ref": record.source_ref,
        "category": record.category,
        "ids": [[i.type.value, i.value, i.source_path, i.role] for i in record.identifiers],
        # Sorted: over gRPC the fields of the same record come in any order.
        "fields": {k.value: list(v) for k, v in sorted(record.fields.items())},
        "incomplete": record.incomplete,
        "hidden": record.hidden,
        "valid_until_ms": _ms(record.valid_until),
    }
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _decode(raw: bytes) -> Record:
    digest, p = raw[:_DIGEST_BYTES], json.loads(raw[_DIGEST_BYTES:])
    until = p["valid_until_ms"]
    return Record(
        source=SourceSystem(p["source"]),
        source_ref=p["ref"],
        category=p["category"],
        identifiers=tuple(Identifier(IdentifierType(t), v, path, role) for t, v, path, role in p["ids"]),
        fields={Field(k): tuple(v) for k, v in p["fields"].items()},
        message_digest=digest,
        incomplete=p["incomplete"],
        hidden=p["hidden"],
        valid_until=None if until is None else datetime.fromtimestamp(until / 1000, tz=UTC),
    )
