"""What was disclosed of which record, as long as a recipient may keep it, and the recalls that came of it.

An owner finds by a changed record the cases that disclosed it. The index of a release is a keyed hash of agreement,
record and a number from 0 on, so that no two rows have one index, and rows of cases that disclosed nothing, which have
a random one, look like all others.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from connector_psi.storage.cases import QUIET_ROW_BYTES
from connector_psi.storage.schema import recalls, release_cursors, releases
from connector_psi.storage.store import Store, Tx

RELEASE_BYTES = 8_192
"""Of the sealed part of a release of a case without notice, before sealing."""
_CURSOR_BYTES = 32
_IN_CHUNK = 500

OPEN, SENDING, SENT, ACKNOWLEDGED = "open", "sending", "sent", "acknowledged"
"""The sender's: sending, sent, acknowledged. The recipient's: open, acknowledged."""


@dataclass(frozen=True, slots=True)
class Release:
    """What a case disclosed."""

    index: bytes
    agreement: str
    peer: str
    request_id: bytes
    until_ms: int
    record_id: int
    """-1 where nothing was disclosed."""
    payload: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class RecallRow:
    """A recall of one side."""

    side: str
    peer: str
    recall_id: bytes
    case_id: bytes
    agreement: str
    state: str
    sent_ms: int
    due_ms: int
    next_ms: int
    leaf_index: int
    quiet: bool
    """Nobody is shown it, because it is a cover or the owner gets no notice."""
    payload: dict[str, Any] = field(repr=False)


# --- Releases ---------------------------------------------------------------------------------------------------------


def _index(store: Store, agreement: str, record_id: int, number: int) -> bytes:
    return store.index_of("release", agreement, str(record_id), str(number))


def put_release(
    store: Store,
    tx: Tx,
    *,
    agreement: str,
    peer: str,
    request_id: bytes,
    until_ms: int,
    record_id: int,
    payload: Mapping[str, Any],
    quiet: bool,
    cover_index: bytes,
) -> None:
    """Note what a case disclosed.

    Args:
        store: The store.
        tx: Transaction of the outcome.
        agreement: Of the case.
        peer: Its querier.
        request_id: Of the case.
        until_ms: When the recipient must have erased it.
        record_id: Of the record; -1 where nothing was disclosed.
        payload: What has to be compared later.
        quiet: Whether the owner gets no notice.
        cover_index: 32 random bytes, taken where nothing was disclosed.
    """
    index = cover_index
    if record_id >= 0:
        index = _index(store, agreement, record_id, len(_chain(store, tx, agreement, record_id)))
    tx.execute(
        sa.insert(releases).values(
            release_index=index,
            agreement=agreement,
            peer=peer,
            request_id=request_id,
            until_ms=until_ms,
            sealed=_sealed_release(store, record_id, payload, quiet),
        )
    )


def update_release(store: Store, tx: Tx, release: Release, quiet: bool) -> None:
    """Replace what has to be compared later."""
    tx.execute(
        sa.update(releases)
        .where(releases.c.release_index == release.index)
        .values(sealed=_sealed_release(store, release.record_id, release.payload, quiet))
    )


def release_of_case(store: Store, tx: Tx, peer: str, request_id: bytes) -> Release | None:
    """Return what a case disclosed."""
    row = tx.execute(sa.select(releases).where(releases.c.peer == peer, releases.c.request_id == request_id)).first()
    return _release(store, row) if row else None


def has_releases(tx: Tx, agreement: str) -> bool:
    """Return whether there is anything to compare changes with."""
    return (
        tx.execute(sa.select(releases.c.agreement).where(releases.c.agreement == agreement).limit(1)).first()
        is not None
    )


def released_agreements(tx: Tx) -> list[tuple[str, str]]:
    """Return agreement and peer of everything disclosed that may still be kept."""
    rows = tx.execute(sa.select(releases.c.agreement, releases.c.peer).distinct())
    return [(row.agreement, row.peer) for row in rows]


def releases_of_records(store: Store, tx: Tx, agreement: str, record_ids: Sequence[int]) -> list[Release]:
    """Return what was disclosed of some records, in the order of the records."""
    found: list[Release] = []
    for start in range(0, len(record_ids), _IN_CHUNK):
        first = {_index(store, agreement, number, 0): number for number in record_ids[start : start + _IN_CHUNK]}
        rows = tx.execute(sa.select(releases.c.release_index).where(releases.c.release_index.in_(list(first))))
        hit = {first[row.release_index] for row in rows}
        for number in record_ids[start : start + _IN_CHUNK]:
            if number in hit:
                found += _chain(store, tx, agreement, number)
    return found


def drop_releases(store: Store, tx: Tx, now_ms: int, limit: int = 200) -> list[tuple[str, bytes]]:
    """Delete the releases whose time is over; returns peer and case of each, at most ``limit``."""
    due = tx.execute(
        sa.select(releases.c.peer, releases.c.request_id).where(releases.c.until_ms <= now_ms).limit(limit)
    ).all()
    for peer, request_id in due:
        # Read one by one: the one before may have given this one another index.
        release = release_of_case(store, tx, peer, request_id)
        assert release is not None
        tx.execute(sa.delete(releases).where(releases.c.release_index == release.index))
        if release.record_id >= 0:
            _close_gap(store, tx, release)
    return [(row.peer, row.request_id) for row in due]


def _chain(store: Store, tx: Tx, agreement: str, record_id: int) -> list[Release]:
    found: list[Release] = []
    while True:
        index = _index(store, agreement, record_id, len(found))
        row = tx.execute(sa.select(releases).where(releases.c.release_index == index)).first()
        if row is None:
            return found
        found.append(_release(store, row))


def _close_gap(store: Store, tx: Tx, gone: Release) -> None:
    """Give the number of a release that was deleted to the last of its record: behind a gap none would be found."""
    number = len(_chain(store, tx, gone.agreement, gone.record_id))
    last = None
    while True:
        number += 1
        index = _index(store, gone.agreement, gone.record_id, number)
        if tx.execute(sa.select(releases.c.agreement).where(releases.c.release_index == index)).first() is None:
            break
        last = index
    if last is not None:
        tx.execute(sa.update(releases).where(releases.c.release_index == last).values(release_index=gone.index))


def _sealed_release(store: Store, record_id: int, payload: Mapping[str, Any], quiet: bool) -> bytes:
    return store.seal("releases", {"record": record_id, **payload}, RELEASE_BYTES if quiet else 0)


def _release(store: Store, row: Any) -> Release:  # noqa: ANN401 - a row of the table
    payload = store.unseal("releases", row.sealed)
    return Release(
        row.release_index, row.agreement, row.peer, row.request_id, row.until_ms, payload.pop("record"), payload
    )


def cursor(store: Store, tx: Tx, agreement: str) -> int | None:
    """Return the change of records up to which an agreement was looked through, None before the first time."""
    sealed = tx.execute(sa.select(release_cursors.c.sealed).where(release_cursors.c.agreement == agreement)).scalar()
    return None if sealed is None else int(store.unseal("release_cursors", sealed)["seq"])


def set_cursor(store: Store, tx: Tx, agreement: str, seq: int) -> None:
    """Note how far an agreement was looked through."""
    sealed = store.seal("release_cursors", {"seq": seq}, _CURSOR_BYTES)
    done = tx.execute(sa.update(release_cursors).where(release_cursors.c.agreement == agreement).values(sealed=sealed))
    if not done.rowcount:
        tx.execute(sa.insert(release_cursors).values(agreement=agreement, sealed=sealed))


# --- Recalls ----------------------------------------------------------------------------------------------------------

_COLUMNS = tuple(recalls.c[name] for name in RecallRow.__dataclass_fields__ if name != "payload")


def put_recall(store: Store, tx: Tx, row: RecallRow, request_mac: bytes | None = None) -> None:
    """Store a new recall; ``request_mac`` is a keyed hash of what a peer sent."""
    values = {column.name: getattr(row, column.name) for column in _COLUMNS}
    tx.execute(sa.insert(recalls).values(**values, request_mac=request_mac, sealed=_sealed(store, row)))


def update_recall(store: Store, tx: Tx, row: RecallRow, request_mac: bytes | None = None) -> None:
    """Replace state, time of the next step and payload of a recall."""
    values: dict[str, Any] = {"state": row.state, "next_ms": row.next_ms, "sealed": _sealed(store, row)}
    if request_mac is not None:
        values["request_mac"] = request_mac
    tx.execute(sa.update(recalls).where(*_key(row.side, row.peer, row.recall_id)).values(**values))


def drop_recalls_of_case(tx: Tx, side: str, peer: str, case_id: bytes) -> None:
    """Delete the recalls of a case."""
    tx.execute(sa.delete(recalls).where(recalls.c.side == side, recalls.c.peer == peer, recalls.c.case_id == case_id))


def drop_old(tx: Tx, side: str, before_ms: int, *, quiet: bool) -> int:
    """Delete the acknowledged recalls that were sent before a time; returns how many.

    Args:
        tx: A transaction.
        side: Of them.
        before_ms: The time, in Unix milliseconds.
        quiet: Those that nobody may see, or the others.
    """
    done = tx.execute(
        sa.delete(recalls).where(
            recalls.c.side == side,
            recalls.c.quiet.is_(quiet),
            recalls.c.state == ACKNOWLEDGED,
            recalls.c.sent_ms < before_ms,
        )
    )
    return done.rowcount


def get_recall(store: Store, tx: Tx, side: str, peer: str, recall_id: bytes) -> RecallRow | None:
    """Return a recall that this node sent to a peer, or that the peer sent here."""
    row = tx.execute(sa.select(*_COLUMNS, recalls.c.sealed).where(*_key(side, peer, recall_id))).first()
    return _row(store, row) if row else None


def request_mac(tx: Tx, side: str, peer: str, recall_id: bytes) -> bytes | None:
    """Return the keyed hash of what a peer sent; None where it sent nothing yet."""
    return tx.execute(sa.select(recalls.c.request_mac).where(*_key(side, peer, recall_id))).scalar()


def find_recall(store: Store, tx: Tx, recall_id: bytes, side: str = "") -> RecallRow | None:
    """Return a recall that people may see by its id."""
    query = sa.select(*_COLUMNS, recalls.c.sealed).where(recalls.c.recall_id == recall_id, recalls.c.quiet.is_(False))
    if side:
        query = query.where(recalls.c.side == side)
    row = tx.execute(query.limit(1)).first()
    return _row(store, row) if row else None


def postpone_recall(tx: Tx, side: str, peer: str, recall_id: bytes, next_ms: int) -> None:
    """Try again at another time."""
    tx.execute(sa.update(recalls).where(*_key(side, peer, recall_id)).values(next_ms=next_ms))


def recalls_of_case(store: Store, tx: Tx, side: str, peer: str, case_id: bytes) -> list[RecallRow]:
    """Return the recalls of a case, in the order in which they were sent."""
    rows = tx.execute(
        sa.select(*_COLUMNS, recalls.c.sealed)
        .where(recalls.c.side == side, recalls.c.peer == peer, recalls.c.case_id == case_id)
        .order_by(recalls.c.sent_ms, recalls.c.leaf_index)
    )
    return [_row(store, row) for row in rows]


def list_recalls(store: Store, tx: Tx, *, states: Collection[str] = (), limit: int, offset: int = 0) -> list[RecallRow]:
    """Return the recalls of both sides that people may see, oldest first."""
    query = sa.select(*_COLUMNS, recalls.c.sealed).where(recalls.c.quiet.is_(False))
    if states:
        query = query.where(recalls.c.state.in_(states))
    rows = tx.execute(query.order_by(recalls.c.sent_ms, recalls.c.recall_id).limit(limit).offset(offset))
    return [_row(store, row) for row in rows]


def overdue(tx: Tx, now_ms: int) -> list[tuple[str, str, int]]:
    """Return side, agreement and number of the recalls that people may see and nobody acknowledged in time."""
    rows = tx.execute(
        sa.select(recalls.c.side, recalls.c.agreement, sa.func.count().label("n"))
        .where(recalls.c.quiet.is_(False), recalls.c.state != ACKNOWLEDGED, recalls.c.due_ms < now_ms)
        .group_by(recalls.c.side, recalls.c.agreement)
    )
    return [(row.side, row.agreement, int(row.n)) for row in rows]


def count_recalls(tx: Tx) -> dict[str, int]:
    """Return the number of recalls that people may see, as ``side.state``."""
    rows = tx.execute(
        sa.select(recalls.c.side, recalls.c.state, sa.func.count().label("n"))
        .where(recalls.c.quiet.is_(False))
        .group_by(recalls.c.side, recalls.c.state)
    )
    return {f"{row.side}.{row.state}": int(row.n) for row in rows}


def _key(side: str, peer: str, recall_id: bytes) -> tuple[sa.ColumnElement[bool], ...]:
    return recalls.c.side == side, recalls.c.peer == peer, recalls.c.recall_id == recall_id


def _sealed(store: Store, row: RecallRow) -> bytes:
    return store.seal("recalls", row.payload, QUIET_ROW_BYTES if row.quiet else 0)


def _row(store: Store, row: Any) -> RecallRow:  # noqa: ANN401 - a row of the columns above
    values = tuple(row)[:-1]
    return RecallRow(*values, payload=store.unseal("recalls", row.sealed))  # type: ignore[misc]  # the columns of _COLUMNS
