"""What a querier keeps: the sets it took, its batches under way, its matches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from connector_psi.storage.schema import batches, matches, records, seen_keys, taken_sets, weak_matches
from connector_psi.storage.store import Store, Tx

MAPPED = "mapped"
RETIRED = "retired"

NEW = "new"
CONFIRMED = "confirmed"
DISMISSED = "dismissed"
GONE = "gone"
# Below the limit of bound values of any SQLite.
_IN_CHUNK = 500


@dataclass(frozen=True, slots=True)
class TakenSet:
    """A set in use. Times are Unix milliseconds."""

    agreement: str
    epoch: int
    state: str
    manifest: bytes
    manifest_hash: bytes
    cursor_seq: int
    not_after_ms: int


_TAKEN = tuple(taken_sets.c[name] for name in TakenSet.__dataclass_fields__)


def current_set(tx: Tx, agreement: str) -> TakenSet | None:
    """Return the set that queries use now."""
    row = tx.execute(
        sa.select(*_TAKEN)
        .where(taken_sets.c.agreement == agreement, taken_sets.c.state == MAPPED)
        .order_by(taken_sets.c.epoch.desc())
        .limit(1)
    ).one_or_none()
    return TakenSet(*row) if row else None


def newest_epoch(tx: Tx, agreement: str) -> int:
    """Return the newest epoch ever taken, 0 for none: an older one is refused."""
    return int(
        tx.execute(sa.select(sa.func.max(taken_sets.c.epoch)).where(taken_sets.c.agreement == agreement)).scalar() or 0
    )


def take_set(
    tx: Tx,
    agreement: str,
    epoch: int,
    manifest: bytes,
    manifest_hash: bytes,
    public_keys: Sequence[bytes],
    now_ms: int,
    not_after_ms: int,
) -> None:
    """Make a set the one in use; the one before is retired, and its unanswered batches with it.

    Every live record is queried again in the new epoch.
    """
    tx.execute(sa.delete(batches).where(batches.c.agreement == agreement, batches.c.epoch != epoch))
    tx.execute(sa.update(taken_sets).where(taken_sets.c.agreement == agreement).values(state=RETIRED))
    tx.execute(
        sa.insert(taken_sets).values(
            agreement=agreement,
            epoch=epoch,
            state=MAPPED,
            manifest=manifest,
            manifest_hash=manifest_hash,
            cursor_seq=0,
            taken_ms=now_ms,
            not_after_ms=not_after_ms,
        )
    )
    for key in public_keys:
        tx.execute(sa.insert(seen_keys).values(agreement=agreement, public_key=key, epoch=epoch))


def seen_in_other_epoch(tx: Tx, agreement: str, public_keys: Sequence[bytes], epoch: int) -> bool:
    """Return whether one of the keys was taken with another epoch."""
    return bool(
        tx.execute(
            sa.select(sa.func.count()).where(
                seen_keys.c.agreement == agreement, seen_keys.c.public_key.in_(public_keys), seen_keys.c.epoch != epoch
            )
        ).scalar()
    )


def advance_cursor(tx: Tx, agreement: str, epoch: int, seq: int) -> None:
    """Note that every record changed up to ``seq`` has been queried in this epoch."""
    tx.execute(
        sa.update(taken_sets)
        .where(taken_sets.c.agreement == agreement, taken_sets.c.epoch == epoch, taken_sets.c.cursor_seq < seq)
        .values(cursor_seq=seq)
    )


@dataclass(frozen=True, slots=True)
class BatchRow:
    """A batch that was logged; ``payload`` holds its seed and tokens."""

    request_id: bytes
    token_class: int
    round_seq: int
    payload: Mapping[str, Any] = field(repr=False)


def put_batch(
    store: Store,
    tx: Tx,
    request_id: bytes,
    agreement: str,
    epoch: int,
    token_class: int,
    round_seq: int,
    payload: Mapping[str, Any],
    now_ms: int,
) -> None:
    """Store a batch before it is sent, so that a crash resends identical bytes."""
    tx.execute(
        sa.insert(batches).values(
            request_id=request_id,
            agreement=agreement,
            epoch=epoch,
            token_class=token_class,
            round_seq=round_seq,
            state="open",
            sealed=store.seal("batches", payload),
            created_ms=now_ms,
        )
    )


def open_batches(store: Store, tx: Tx, agreement: str, epoch: int) -> list[BatchRow]:
    """Return the batches of an epoch that have no answer yet."""
    rows = tx.execute(
        sa.select(batches.c.request_id, batches.c.token_class, batches.c.round_seq, batches.c.sealed)
        .where(batches.c.agreement == agreement, batches.c.epoch == epoch, batches.c.state == "open")
        .order_by(batches.c.round_seq, batches.c.request_id)
    )
    return [BatchRow(r.request_id, r.token_class, r.round_seq, store.unseal("batches", r.sealed)) for r in rows]


def drop_batches(tx: Tx, agreement: str, epoch: int) -> None:
    """Delete the batches of a round that is finished: what must be kept of them stands in the log."""
    tx.execute(sa.delete(batches).where(batches.c.agreement == agreement, batches.c.epoch == epoch))


@dataclass(frozen=True, slots=True)
class MatchRow:
    """A match. ``payload``: ticket_id, redeem codes, types and paths of the own tokens, category, people."""

    seq: int
    match_id: str
    agreement: str
    epoch: int
    record_id: int
    state: str
    found_ms: int
    payload: Mapping[str, Any] = field(repr=False)


_MATCH = (
    matches.c.seq,
    matches.c.match_id,
    matches.c.agreement,
    matches.c.epoch,
    matches.c.record_id,
    matches.c.state,
    matches.c.found_ms,
    matches.c.sealed,
)


def put_match(
    store: Store,
    tx: Tx,
    *,
    identity: bytes,
    match_id: str,
    agreement: str,
    epoch: int,
    record_id: int,
    payload: Mapping[str, Any],
    now_ms: int,
) -> None:
    """Store a match, or refresh the one of the same identity: what a person decided about it stands."""
    old = tx.execute(
        sa.select(matches.c.match_id, matches.c.sealed, matches.c.state).where(matches.c.identity == identity)
    ).one_or_none()
    if old is None:
        tx.execute(
            sa.insert(matches).values(
                identity=identity,
                match_id=match_id,
                agreement=agreement,
                epoch=epoch,
                record_id=record_id,
                state=NEW,
                found_ms=now_ms,
                sealed=store.seal("matches", payload),
            )
        )
        return
    kept = {k: v for k, v in store.unseal("matches", old.sealed).items() if k == "people"}
    tx.execute(
        sa.update(matches)
        .where(matches.c.identity == identity)
        .values(
            epoch=epoch,
            state=NEW if old.state == GONE else old.state,
            sealed=store.seal("matches", {**payload, **kept}),
        )
    )


def mark_gone(tx: Tx, agreement: str, record_ids: Sequence[int], kept: AbstractSet[bytes]) -> None:
    """Take back undecided matches of records that were queried again and found no match of that identity."""
    for start in range(0, len(record_ids), _IN_CHUNK):
        undecided = (
            matches.c.agreement == agreement,
            matches.c.record_id.in_(record_ids[start : start + _IN_CHUNK]),
            matches.c.state == NEW,
        )
        stored = tx.execute(sa.select(matches.c.identity).where(*undecided)).scalars()
        for identity in [found for found in stored if found not in kept]:
            tx.execute(sa.update(matches).where(matches.c.identity == identity).values(state=GONE))


def mark_left(tx: Tx, agreement: str, after_seq: int, until_seq: int) -> None:
    """Take back undecided matches of records that were withdrawn after one change and until another."""
    left = sa.select(records.c.id).where(
        records.c.change_seq > after_seq, records.c.change_seq <= until_seq, records.c.state != "live"
    )
    tx.execute(
        sa.update(matches)
        .where(matches.c.agreement == agreement, matches.c.record_id.in_(left), matches.c.state == NEW)
        .values(state=GONE)
    )


def weak_count(tx: Tx, agreement: str, epoch: int) -> int:
    """Return how many matches of an epoch are below the bar."""
    which = weak_matches.c.agreement == agreement, weak_matches.c.epoch == epoch
    return int(tx.execute(sa.select(weak_matches.c.count).where(*which)).scalar() or 0)


def count_weak(tx: Tx, agreement: str, epoch: int, found: int) -> None:
    """Add to the count of matches below the bar."""
    if not found:
        return
    done = tx.execute(
        sa.update(weak_matches)
        .where(weak_matches.c.agreement == agreement, weak_matches.c.epoch == epoch)
        .values(count=weak_matches.c.count + found)
    )
    if not done.rowcount:
        tx.execute(sa.insert(weak_matches).values(agreement=agreement, epoch=epoch, count=found))


def list_matches(
    store: Store, tx: Tx, *, state: str = "", after: int = 0, limit: int = 1000, record_id: int | None = None
) -> list[MatchRow]:
    """Return matches in the order they were found."""
    query = sa.select(*_MATCH).where(matches.c.seq > after)
    query = query.where(matches.c.state == state) if state else query.where(matches.c.state != GONE)
    if record_id is not None:
        query = query.where(matches.c.record_id == record_id)
    return [_row(store, r) for r in tx.execute(query.order_by(matches.c.seq).limit(limit))]


def matches_of_record(store: Store, tx: Tx, record_id: int) -> list[MatchRow]:
    """Return every match of an own record, those included that hold no longer."""
    rows = tx.execute(sa.select(*_MATCH).where(matches.c.record_id == record_id).order_by(matches.c.seq))
    return [_row(store, r) for r in rows]


def get_match(store: Store, tx: Tx, match_id: str) -> MatchRow | None:
    """Return one match."""
    row = tx.execute(sa.select(*_MATCH).where(matches.c.match_id == match_id)).one_or_none()
    return _row(store, row) if row else None


def set_match_state(store: Store, tx: Tx, match_id: str, state: str, payload: Mapping[str, Any]) -> None:
    """Store what a person decided about a match."""
    tx.execute(
        sa.update(matches)
        .where(matches.c.match_id == match_id)
        .values(state=state, sealed=store.seal("matches", payload))
    )


def count_matches(tx: Tx) -> dict[str, int]:
    """Return the number of matches by state."""
    rows = tx.execute(sa.select(matches.c.state, sa.func.count().label("n")).group_by(matches.c.state))
    return {row.state: int(row.n) for row in rows}


def _row(store: Store, row: Any) -> MatchRow:  # noqa: ANN401 - a row of the columns above
    values = tuple(row)[:-1]
    return MatchRow(*values, payload=store.unseal("matches", row.sealed))  # type: ignore[misc]  # the columns of _MATCH
