"""Records as they are stored: registered once by source reference, amended, withdrawn, expired, found again.

``change_seq`` rises with every registration, amendment, withdrawal and expiry; whoever follows the records (a querier's
cursor, an owner's publisher) follows it. A record's content is compared by a keyed hash, so that a re-run of a file
changes nothing. Messages about one thing are ordered by their version and not by their arrival: whatever comes late
changes nothing, and the state in the end is the same. Between messages of one version the later arrival holds.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

import sqlalchemy as sa

from connector_psi.domain.records import (
    Field,
    Identifier,
    IdentifierType,
    Party,
    PartyKind,
    Record,
    SourceSystem,
    Supersession,
    message_of,
)
from connector_psi.storage.schema import message_names, messages, records, subject_index
from connector_psi.storage.store import Store, Tx

_TABLE = "records"
_LIVE = "live"
_WITHDRAWN = "withdrawn"
_EXPIRED = "expired"
_DIGEST_BYTES = 32
_SUBJECT_BYTES = 16
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

    So is what an older message says than one that is known: a duplicate, because something newer is there.

    Returns:
        One outcome a record, in order.

    Cost: Two look-ups a chunk, one statement for all new rows.
    """
    refs = [store.index_of(record.source.value, record.source_ref) for record in items]
    groups = _kept_under(tx, [_message_index(store, *message_of(record)) for record in items])
    known = _known(tx, refs)
    newest = _newest(tx, groups)
    seq = max_change_seq(tx)
    new: dict[bytes, dict[str, Any]] = {}
    subjects: dict[bytes, set[bytes]] = {}
    outcomes: list[Outcome] = []
    for record, ref_index, message_index in zip(items, refs, groups, strict=True):
        payload = _encode(record)
        row = _Row(
            # The digest of the whole message is left out: a message that arrives again with another
            # envelope, or a file with one more record, is no amendment of this record.
            content=store.mac(payload),
            state=_EXPIRED if _has_expired(record, now_ms) else _LIVE,
            version=record.version,
        )
        old = known.get(ref_index)
        if old is not None and row.says_the_same_as(old):
            if row.version > old.version:
                # Nobody has to look at it again; whatever is older than this message holds no longer all the same.
                tx.execute(
                    sa.update(records)
                    .where(records.c.ref_index == ref_index)
                    .values(version=row.version, message_index=message_index)
                )
                if ref_index in new:
                    new[ref_index] |= {"version": row.version, "message_index": message_index}
                known[ref_index] = row
            outcomes.append(Outcome.DUPLICATE)
            continue
        # What a cut message holds of a record never replaces what a whole one held.
        if _is_stale(record, old, newest.get(message_index)) or (
            record.incomplete and old is not None and _is_complete(store, tx, ref_index)
        ):
            outcomes.append(Outcome.DUPLICATE)
            continue
        seq += 1
        values: dict[str, Any] = {
            "message_index": message_index,
            "version": record.version,
            "change_seq": seq,
            "content_mac": row.content,
            "category": record.category,
            "state": row.state,
            "hidden": record.hidden,
            "valid_until_ms": _ms(record.valid_until),
            "changed_ms": now_ms,
            "sealed": store.seal_raw(_TABLE, record.message_digest + payload),
        }
        if old is not None and ref_index not in new:
            tx.execute(sa.update(records).where(records.c.ref_index == ref_index).values(**values))
        else:
            new[ref_index] = {"ref_index": ref_index, "registered_ms": now_ms, **values}
        outcomes.append(Outcome.ACCEPTED if old is None else Outcome.UPDATED)
        known[ref_index] = row
        subjects.setdefault(ref_index, set()).update(_subject(store, i.type, i.value) for i in record.identifiers)
    if new:
        tx.execute(sa.insert(records), list(new.values()))
    _index_subjects(tx, subjects, new.keys())
    return outcomes


def _index_subjects(tx: Tx, subjects: dict[bytes, set[bytes]], new: Collection[bytes]) -> None:
    """Note which identifiers records name; what an earlier version of a record named stays, for it was processed."""
    pairs = {(subject, ref_index) for ref_index, named in subjects.items() for subject in named}
    known = [pair for pair in pairs if pair[1] not in new]
    for start in range(0, len(known), _IN_CHUNK):
        chunk = known[start : start + _IN_CHUNK]
        rows = tx.execute(
            sa.select(subject_index).where(sa.tuple_(subject_index.c.subject, subject_index.c.ref_index).in_(chunk))
        )
        pairs -= {(row.subject, row.ref_index) for row in rows}
    if pairs:
        tx.execute(
            sa.insert(subject_index),
            [{"subject": subject, "ref_index": ref_index} for subject, ref_index in sorted(pairs)],
        )


def _subject(store: Store, kind: IdentifierType, value: str) -> bytes:
    return store.mac(f"subject\0{kind.value}\0{value}".encode())[:_SUBJECT_BYTES]


@dataclass(frozen=True, slots=True)
class FoundRecord:
    """A record, whatever became of it."""

    id: int
    state: str
    registered_ms: int
    changed_ms: int
    record: Record = field(repr=False)


def naming(
    store: Store, tx: Tx, identifiers: Sequence[tuple[IdentifierType, str]], without: Collection[str], limit: int
) -> list[FoundRecord]:
    """Return the records that name, or named before they were amended, one of some identifiers; the oldest first.

    Args:
        store: The store.
        tx: A transaction.
        identifiers: In their canonical form.
        without: Categories that are left out before anything is counted.
        limit: At most so many.
    """
    subjects = [_subject(store, kind, value) for kind, value in identifiers]
    rows = tx.execute(
        sa.select(
            records.c.id,
            records.c.state,
            records.c.registered_ms,
            records.c.changed_ms,
            records.c.version,
            records.c.sealed,
        )
        .where(
            records.c.ref_index.in_(sa.select(subject_index.c.ref_index).where(subject_index.c.subject.in_(subjects))),
            records.c.category.not_in(list(without)),
        )
        .order_by(records.c.id)
        .limit(limit)
    )
    return [
        FoundRecord(
            row.id,
            row.state,
            row.registered_ms,
            row.changed_ms,
            _decode(store.unseal_raw(_TABLE, row.sealed), row.version),
        )
        for row in rows
    ]


@dataclass(frozen=True, slots=True)
class _Row:
    """What of a stored record decides whether another one changes it."""

    content: bytes
    state: str
    version: int

    def says_the_same_as(self, other: _Row) -> bool:
        return (self.content, self.state) == (other.content, other.state)


def _message_index(store: Store, source: SourceSystem, message_ref: str) -> bytes:
    return store.index_of("message", source.value, message_ref)


def _has_expired(record: Record, now_ms: int) -> bool:
    until = _ms(record.valid_until)
    return until is not None and until <= now_ms


def _is_stale(record: Record, old: _Row | None, newest: tuple[int, bool] | None) -> bool:
    """Whether something newer is known than a record that arrives."""
    if old is not None and (
        record.version < old.version or (old.state == _WITHDRAWN and 0 < record.version == old.version)
    ):
        return True
    if newest is None:
        return False
    version, withdrawn = newest
    return record.version < version or (withdrawn and record.version == version)


def _is_complete(store: Store, tx: Tx, ref_index: bytes) -> bool:
    row = tx.execute(
        sa.select(records.c.sealed, records.c.version).where(records.c.ref_index == ref_index, records.c.state == _LIVE)
    ).one_or_none()
    return row is not None and not _decode(store.unseal_raw(_TABLE, row.sealed), row.version).incomplete


def _known(tx: Tx, refs: Sequence[bytes]) -> dict[bytes, _Row]:
    """The records among ``refs`` that are stored, by reference."""
    found: dict[bytes, _Row] = {}
    for start in range(0, len(refs), _IN_CHUNK):
        rows = tx.execute(
            sa.select(records.c.ref_index, records.c.content_mac, records.c.state, records.c.version).where(
                records.c.ref_index.in_(refs[start : start + _IN_CHUNK])
            )
        )
        found.update({row.ref_index: _Row(row.content_mac, row.state, row.version) for row in rows})
    return found


def _newest(tx: Tx, groups: Sequence[bytes]) -> dict[bytes, tuple[int, bool]]:
    """Version, and whether it withdrew, of the newest whole message about each of ``groups``."""
    found: dict[bytes, tuple[int, bool]] = {}
    wanted = list(dict.fromkeys(groups))
    for start in range(0, len(wanted), _IN_CHUNK):
        rows = tx.execute(
            sa.select(messages.c.message_index, messages.c.version, messages.c.withdrawn).where(
                messages.c.message_index.in_(wanted[start : start + _IN_CHUNK])
            )
        )
        found.update({row.message_index: (row.version, row.withdrawn) for row in rows})
    return found


def supersede(store: Store, tx: Tx, item: Supersession, now_ms: int) -> list[str]:
    """Note that a message was read to its end, and take out of matching what it no longer says.

    Returns:
        References of the records that left, in the order they were registered; none if something newer is known.
    """
    (index,) = _kept_under(tx, [_message_index(store, item.source, item.message_ref)])
    if item.same_as:
        (other,) = _kept_under(tx, [_message_index(store, item.source, item.same_as)])
        index = _unite(tx, index, other)
    newest = _newest(tx, [index]).get(index, (-1, False))
    if (item.version, item.withdrawn) > newest:
        newest = (item.version, item.withdrawn)
        _set_newest(tx, index, newest)
    elif not item.same_as:
        return []
    version, withdrawn = newest
    older = records.c.version <= version if withdrawn else records.c.version < version
    return _leave(store, tx, sa.and_(records.c.message_index == index, older), _WITHDRAWN, now_ms)


def _set_newest(tx: Tx, index: bytes, newest: tuple[int, bool]) -> None:
    tx.execute(sa.delete(messages).where(messages.c.message_index == index))
    tx.execute(sa.insert(messages).values(message_index=index, version=newest[0], withdrawn=newest[1]))


def _kept_under(tx: Tx, groups: Sequence[bytes]) -> list[bytes]:
    """The reference that each thing is kept under: its own, but where a message named two of the same thing."""
    found: dict[bytes, bytes] = {}
    wanted = list(dict.fromkeys(groups))
    for start in range(0, len(wanted), _IN_CHUNK):
        rows = tx.execute(
            sa.select(message_names).where(message_names.c.message_index.in_(wanted[start : start + _IN_CHUNK]))
        )
        found.update({row.message_index: row.kept_under for row in rows})
    return [found.get(index, index) for index in groups]


def _unite(tx: Tx, one: bytes, other: bytes) -> bytes:
    """Keep what is known of a thing under two references under one of them; the same one in any order."""
    if one == other:
        return one
    kept, dropped = min(one, other), max(one, other)
    newest = _newest(tx, [kept, dropped])
    tx.execute(sa.update(records).where(records.c.message_index == dropped).values(message_index=kept))
    tx.execute(sa.update(message_names).where(message_names.c.kept_under == dropped).values(kept_under=kept))
    tx.execute(sa.insert(message_names).values(message_index=dropped, kept_under=kept))
    tx.execute(sa.delete(messages).where(messages.c.message_index == dropped))
    if newest:
        _set_newest(tx, kept, max(newest.values()))
    return kept


def has_expired(tx: Tx, now_ms: int) -> bool:
    """Return whether the validity of a record in matching has ended."""
    return bool(
        tx.execute(sa.select(sa.exists().where(records.c.state == _LIVE, records.c.valid_until_ms <= now_ms))).scalar()
    )


def expire(store: Store, tx: Tx, now_ms: int, limit: int = 1_000) -> list[tuple[SourceSystem, str]]:
    """Take records out of matching whose validity has ended, at most ``limit``; return source and reference of each."""
    rows = tx.execute(
        sa.select(records.c.id, records.c.version, records.c.sealed)
        .where(records.c.state == _LIVE, records.c.valid_until_ms <= now_ms)
        .order_by(records.c.id)
        .limit(limit)
    ).all()
    _mark_left(tx, [row.id for row in rows], _EXPIRED, now_ms)
    gone = [_decode(store.unseal_raw(_TABLE, row.sealed), row.version) for row in rows]
    return [(record.source, record.source_ref) for record in gone]


def _leave(store: Store, tx: Tx, which: sa.ColumnElement[bool], state: str, now_ms: int) -> list[str]:
    """Take the live records among some out of matching; return their references."""
    rows = tx.execute(
        sa.select(records.c.id, records.c.version, records.c.sealed)
        .where(which, records.c.state == _LIVE)
        .order_by(records.c.id)
    ).all()
    # Records that expired are withdrawn too: a prolonged validity in a late message must not bring them back.
    tx.execute(sa.update(records).where(which, records.c.state == _EXPIRED).values(state=state))
    _mark_left(tx, [row.id for row in rows], state, now_ms)
    return [_decode(store.unseal_raw(_TABLE, row.sealed), row.version).source_ref for row in rows]


def _mark_left(tx: Tx, ids: Sequence[int], state: str, now_ms: int) -> None:
    """Give each record that leaves a change of its own, so that whoever follows the changes sees it."""
    if not ids:
        return
    first = max_change_seq(tx) + 1
    tx.execute(
        sa.update(records)
        .where(records.c.id == sa.bindparam("left_id"))
        .values(state=state, changed_ms=now_ms, change_seq=sa.bindparam("left_seq")),
        [{"left_id": number, "left_seq": first + n} for n, number in enumerate(ids)],
    )


def withdraw(store: Store, tx: Tx, source: SourceSystem, source_ref: str, now_ms: int) -> int | None:
    """Take a record out of matching. Returns its id, or None if there is no such live record."""
    ref_index = store.index_of(source.value, source_ref)
    found = tx.execute(
        sa.select(records.c.id).where(records.c.ref_index == ref_index, records.c.state == _LIVE)
    ).scalar()
    if found is None:
        return None
    _mark_left(tx, [found], _WITHDRAWN, now_ms)
    return int(found)


class Changed(NamedTuple):
    """A record that changed, whatever became of it."""

    change_seq: int
    id: int
    category: str


def changed_after(tx: Tx, after_seq: int, limit: int) -> list[Changed]:
    """Return the records changed after ``after_seq``, in the order of their changes."""
    rows = tx.execute(
        sa.select(records.c.change_seq, records.c.id, records.c.category)
        .where(records.c.change_seq > after_seq)
        .order_by(records.c.change_seq)
        .limit(limit)
    )
    return [Changed(*row) for row in rows]


def live_of_messages(store: Store, tx: Tx, source: SourceSystem, message_refs: Collection[str]) -> list[int]:
    """Return the numbers of the live records that some messages tell, whichever name they are kept under."""
    groups = [_message_index(store, source, ref) for ref in message_refs]
    wanted = {*groups, *_kept_under(tx, groups)}
    return list(
        tx.execute(
            sa.select(records.c.id)
            .where(records.c.message_index.in_(wanted), records.c.state == _LIVE)
            .order_by(records.c.id)
        ).scalars()
    )


def is_withdrawn(tx: Tx, record_id: int) -> bool:
    """Return whether a record was taken out of matching by its source; expiry is not that."""
    return tx.execute(sa.select(records.c.state).where(records.c.id == record_id)).scalar() == _WITHDRAWN


# Put together once, since every turn asks for them.
_MAX_CHANGE = sa.select(sa.func.max(records.c.change_seq))
_NEWEST_CHANGE = (
    sa.select(records.c.change_seq, records.c.changed_ms)
    .where(records.c.category.in_(sa.bindparam("categories", expanding=True)))
    .order_by(records.c.change_seq.desc())
    .limit(1)
)


def max_change_seq(tx: Tx) -> int:
    """Return the newest change number, 0 for an empty store."""
    return int(tx.execute(_MAX_CHANGE).scalar() or 0)


def count_live(tx: Tx) -> int:
    """Return how many records are live."""
    return int(tx.execute(sa.select(sa.func.count()).where(records.c.state == _LIVE)).scalar() or 0)


def live_after(store: Store, tx: Tx, after_seq: int, limit: int, now_ms: int) -> list[StoredRecord]:
    """Return live records changed after ``after_seq``, in order of change, at most ``limit``; hidden ones are not
    asked with.
    """
    which = (records.c.change_seq > after_seq, *_may_be_asked(now_ms))
    return _stored(store, tx.execute(_ASKED.where(*which).order_by(records.c.change_seq).limit(limit)))


def eligible(
    store: Store, tx: Tx, categories: Sequence[str], now_ms: int, chunk: int = 2000
) -> Iterator[list[StoredRecord]]:
    """Yield, in chunks, the live records of some categories that may be published (hidden ones never are)."""
    which = sa.and_(records.c.category.in_(categories), *_may_be_asked(now_ms))
    return _live_in_chunks(store, tx, which, 0, chunk)


def live_among(store: Store, tx: Tx, record_ids: Sequence[int], now_ms: int) -> list[StoredRecord]:
    """Return those of some records that may be asked with, by number."""
    found = []
    for start in range(0, len(record_ids), _IN_CHUNK):
        which = records.c.id.in_(record_ids[start : start + _IN_CHUNK])
        found += _stored(store, tx.execute(_ASKED.where(which, *_may_be_asked(now_ms)).order_by(records.c.id)))
    return found


def still_live(tx: Tx, record_ids: Sequence[int], now_ms: int) -> set[int]:
    """Return the numbers of those records that may be asked with."""
    found: set[int] = set()
    for start in range(0, len(record_ids), _IN_CHUNK):
        which = records.c.id.in_(record_ids[start : start + _IN_CHUNK])
        found |= set(tx.execute(sa.select(records.c.id).where(which, *_may_be_asked(now_ms))).scalars())
    return found


NEVER_ENDS_MS = 2**62
"""In the place of the end of a record without one."""


def by_remaining_life(
    store: Store, tx: Tx, *, until_seq: int, after: tuple[int, int], limit: int, now_ms: int
) -> list[tuple[StoredRecord, tuple[int, int]]]:
    """Return live records in the order in which their validity ends, those without an end last.

    Args:
        store: The store.
        tx: A transaction.
        until_seq: Only records that did not change after this.
        after: ``(end in Unix milliseconds, number)`` of the last record of the page before; ``(-1, -1)`` at first.
        limit: At most so many.
        now_ms: The present.

    Returns:
        Each with what the next page comes after.
    """
    end_ms, number = after
    unchanged = (*_may_be_asked(now_ms), records.c.change_seq <= until_seq)
    found: list[tuple[StoredRecord, tuple[int, int]]] = []
    if end_ms < NEVER_ENDS_MS:
        behind = sa.or_(
            records.c.valid_until_ms > end_ms, sa.and_(records.c.valid_until_ms == end_ms, records.c.id > number)
        )
        rows = tx.execute(
            _ASKED.add_columns(records.c.valid_until_ms)
            .where(*unchanged, records.c.valid_until_ms.is_not(None), behind)
            .order_by(records.c.valid_until_ms, records.c.id)
            .limit(limit)
        ).all()
        found += [
            (stored, (row.valid_until_ms, row.id)) for stored, row in zip(_stored(store, rows), rows, strict=True)
        ]
        number = -1
    if len(found) < limit:
        rows = tx.execute(
            _ASKED.where(*unchanged, records.c.valid_until_ms.is_(None), records.c.id > number)
            .order_by(records.c.id)
            .limit(limit - len(found))
        ).all()
        found += [(stored, (NEVER_ENDS_MS, stored.id)) for stored in _stored(store, rows)]
    return found


def count_remaining(tx: Tx, *, until_seq: int, after: tuple[int, int], now_ms: int) -> int:
    """Return how many records ``by_remaining_life`` would still give."""
    end_ms, number = after
    life = sa.func.coalesce(records.c.valid_until_ms, NEVER_ENDS_MS)
    behind = sa.or_(life > end_ms, sa.and_(life == end_ms, records.c.id > number))
    unchanged = (*_may_be_asked(now_ms), records.c.change_seq <= until_seq)
    return int(tx.execute(sa.select(sa.func.count()).select_from(records).where(*unchanged, behind)).scalar() or 0)


_ASKED = sa.select(records.c.id, records.c.change_seq, records.c.version, records.c.sealed)


def _may_be_asked(now_ms: int) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        records.c.state == _LIVE,
        records.c.hidden.is_(False),
        sa.or_(records.c.valid_until_ms.is_(None), records.c.valid_until_ms > now_ms),
    )


def _stored(store: Store, rows: Iterable[Any]) -> list[StoredRecord]:
    return [
        StoredRecord(row.id, row.change_seq, _decode(store.unseal_raw(_TABLE, row.sealed), row.version)) for row in rows
    ]


def eligible_among(
    store: Store, tx: Tx, record_ids: Sequence[int], categories: Sequence[str], now_ms: int
) -> dict[int, StoredRecord]:
    """Return those of some records that may be published under some categories, by number."""
    found: dict[int, StoredRecord] = {}
    for start in range(0, len(record_ids), _IN_CHUNK):
        which = records.c.id.in_(record_ids[start : start + _IN_CHUNK]), records.c.category.in_(categories)
        rows = _stored(store, tx.execute(_ASKED.where(*which, *_may_be_asked(now_ms))))
        found |= {stored.id: stored for stored in rows}
    return found


def live_by_id(store: Store, tx: Tx, after_id: int, chunk: int = 2000) -> Iterator[list[StoredRecord]]:
    """Yield, in chunks, all live records behind one, in the order they were registered."""
    return _live_in_chunks(store, tx, sa.true(), after_id, chunk)


def _live_in_chunks(
    store: Store, tx: Tx, which: sa.ColumnElement[bool], last: int, chunk: int
) -> Iterator[list[StoredRecord]]:
    while True:
        rows = tx.execute(
            _ASKED.where(records.c.id > last, records.c.state == _LIVE, which).order_by(records.c.id).limit(chunk)
        ).all()
        if not rows:
            return
        last = rows[-1].id
        yield _stored(store, rows)


def changed_until(tx: Tx, after_seq: int, until_ms: int, categories: Collection[str] | None = None) -> bool:
    """Return whether a record changed after one change and not after a time, among some categories or all."""
    which = [records.c.change_seq > after_seq, records.c.changed_ms <= until_ms]
    if categories is not None:
        which.append(records.c.category.in_(list(categories)))
    return bool(tx.execute(sa.select(sa.exists().where(*which))).scalar())


def newest_change(tx: Tx, categories: Sequence[str]) -> tuple[int, int]:
    """Return ``(change_seq, changed_ms)`` of the newest change among some categories; zeros where there is none."""
    row = tx.execute(_NEWEST_CHANGE, {"categories": list(categories)}).one_or_none()
    return (int(row.change_seq), int(row.changed_ms)) if row else (0, 0)


def by_id(store: Store, tx: Tx, record_id: int) -> tuple[Record, bool] | None:
    """Return ``(record, live)``, or None if there is no such record."""
    row = tx.execute(
        sa.select(records.c.sealed, records.c.version, records.c.state).where(records.c.id == record_id)
    ).one_or_none()
    return (_decode(store.unseal_raw(_TABLE, row.sealed), row.version), row.state == _LIVE) if row else None


def find_live(store: Store, tx: Tx, source: SourceSystem, source_ref: str, now_ms: int) -> StoredRecord | None:
    """Return the live record of a reference; hidden ones are not asked with, so they are not found."""
    return _live_one(store, tx, records.c.ref_index == store.index_of(source.value, source_ref), now_ms)


def live_of_id(store: Store, tx: Tx, record_id: int, now_ms: int) -> StoredRecord | None:
    """Return the record of this number if it may still be asked with."""
    return _live_one(store, tx, records.c.id == record_id, now_ms)


def _live_one(store: Store, tx: Tx, which: sa.ColumnElement[bool], now_ms: int) -> StoredRecord | None:
    found = _stored(store, tx.execute(_ASKED.where(which, *_may_be_asked(now_ms))))
    return found[0] if found else None


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
        "message_ref": record.message_ref,
        "parties": [
            [
                p.role, p.kind.value, p.name, p.source_path, p.aliases, p.birth_date, p.birth_place, p.nationalities,
                p.gender, p.address, p.country,
                # Only where there is one, so that a party without has the content that it had before they were kept.
                *((p.city, p.postcode) if p.city or p.postcode else ()),
            ]
            for p in record.parties
        ],
    }  # fmt: skip
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


# By value: calling an enumeration costs ten times as much, and every record that is asked with passes here.
_SOURCES = {source.value: source for source in SourceSystem}
_TYPES = {kind.value: kind for kind in IdentifierType}
_FIELDS = {field.value: field for field in Field}


def _decode(raw: bytes, version: int) -> Record:
    digest, p = raw[:_DIGEST_BYTES], json.loads(raw[_DIGEST_BYTES:])
    until = p["valid_until_ms"]
    return Record(
        source=_SOURCES[p["source"]],
        source_ref=p["ref"],
        category=p["category"],
        identifiers=tuple(Identifier(_TYPES[t], v, path, role) for t, v, path, role in p["ids"]),
        fields={_FIELDS[k]: tuple(v) for k, v in p["fields"].items()},
        message_digest=digest,
        incomplete=p["incomplete"],
        hidden=p["hidden"],
        valid_until=None if until is None else datetime.fromtimestamp(until / 1000, tz=UTC),
        parties=tuple(
            Party(role, PartyKind(kind), name, path, tuple(aliases), born, place, tuple(nationalities), *rest)
            for role, kind, name, path, aliases, born, place, nationalities, *rest in p["parties"]
        ),
        message_ref=p["message_ref"],
        version=version,
    )
