"""What a querier keeps: the sets in use, its batches under way, its matches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from connector_psi.storage.schema import batches, matches, records, seen_keys, taken_sets, weak_matches
from connector_psi.storage.store import Store, Tx

MAPPED = "mapped"
"""The newest set: what is registered now is asked in it."""
TURNING = "turning"
"""An earlier one that serves the records which were not evaluated anew yet."""
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
    """Every record that changed after ``turn_seq`` and up to here has been asked in it."""
    not_after_ms: int
    turn_seq: int
    """Records that changed up to here are evaluated anew in the background, by remaining life."""
    turn_until_ms: int
    """Validity of the last record that was, ..."""
    turn_id: int
    """... and its number; -1 for none."""
    turn_done: bool
    delta_seq: int
    delta_hash: bytes
    fresh_ms: int
    """The owner's time up to which its changes are in the set with the deltas that were taken."""
    live_file: int
    live_bytes: int


_TAKEN = tuple(taken_sets.c[name] for name in TakenSet.__dataclass_fields__)


# Put together once, since every turn asks for them.
_OF_AGREEMENT = (
    sa.select(*_TAKEN).where(taken_sets.c.agreement == sa.bindparam("of_agreement")).order_by(taken_sets.c.epoch.desc())
)
_CURRENT = _OF_AGREEMENT.where(taken_sets.c.state == MAPPED).limit(1)
_IN_USE = _OF_AGREEMENT.where(taken_sets.c.state.in_((MAPPED, TURNING)))


def current_set(tx: Tx, agreement: str) -> TakenSet | None:
    """Return the set that new queries use now."""
    row = tx.execute(_CURRENT, {"of_agreement": agreement}).one_or_none()
    return TakenSet(*row) if row else None


def sets_in_use(tx: Tx, agreement: str) -> list[TakenSet]:
    """Return the newest set and the earlier ones that still serve, the newest first."""
    return [TakenSet(*row) for row in tx.execute(_IN_USE, {"of_agreement": agreement})]


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
    *,
    now_ms: int,
    not_after_ms: int,
    fresh_ms: int,
    chain_start: bytes,
    live_bytes: int,
) -> None:
    """Make a set the newest one; the one before serves on until every live record has been evaluated in the new one.

    Unanswered batches of earlier epochs are forgotten: their records are asked in the new one.
    """
    # The same set may come again after what was kept of it had to be given up.
    tx.execute(sa.delete(taken_sets).where(taken_sets.c.agreement == agreement, taken_sets.c.epoch == epoch))
    tx.execute(sa.delete(seen_keys).where(seen_keys.c.agreement == agreement, seen_keys.c.epoch == epoch))
    before = current_set(tx, agreement)
    tx.execute(sa.delete(batches).where(batches.c.agreement == agreement, batches.c.epoch != epoch))
    tx.execute(
        sa.update(taken_sets)
        .where(taken_sets.c.agreement == agreement, taken_sets.c.state == MAPPED)
        .values(state=TURNING)
    )
    # What was not asked yet is asked in the new set, in the order in which it came.
    seq = before.cursor_seq if before else 0
    tx.execute(
        sa.insert(taken_sets).values(
            agreement=agreement,
            epoch=epoch,
            state=MAPPED,
            manifest=manifest,
            manifest_hash=manifest_hash,
            cursor_seq=seq,
            taken_ms=now_ms,
            not_after_ms=not_after_ms,
            turn_seq=seq,
            turn_until_ms=-1,
            turn_id=-1,
            turn_done=not seq,
            delta_seq=0,
            delta_hash=chain_start,
            fresh_ms=fresh_ms,
            live_file=0,
            live_bytes=live_bytes,
        )
    )
    for key in public_keys:
        tx.execute(sa.insert(seen_keys).values(agreement=agreement, public_key=key, epoch=epoch))


def is_other(tx: Tx, agreement: str, epoch: int, manifest_hash: bytes) -> bool:
    """Return whether another set was taken as this epoch."""
    taken = tx.execute(
        sa.select(taken_sets.c.manifest_hash).where(taken_sets.c.agreement == agreement, taken_sets.c.epoch == epoch)
    ).scalar()
    return taken is not None and taken != manifest_hash


def retire_set(tx: Tx, agreement: str, epoch: int) -> None:
    """Note that a set answers nothing any more."""
    _update_set(tx, agreement, epoch, state=RETIRED)
    tx.execute(sa.delete(batches).where(batches.c.agreement == agreement, batches.c.epoch == epoch))
    tx.execute(sa.delete(weak_matches).where(weak_matches.c.agreement == agreement, weak_matches.c.epoch == epoch))


def keep_delta(tx: Tx, agreement: str, epoch: int, seq: int, digest: bytes, fresh_ms: int) -> None:
    """Note that a delta was taken."""
    _update_set(tx, agreement, epoch, delta_seq=seq, delta_hash=digest, fresh_ms=fresh_ms)


def keep_live(tx: Tx, agreement: str, epoch: int, size_bytes: int, file: int | None = None) -> None:
    """Note how much of the file of live tokens counts, and which one it is if it was written anew."""
    _update_set(tx, agreement, epoch, live_bytes=size_bytes, **({} if file is None else {"live_file": file}))


def keep_fresh(tx: Tx, agreement: str, epoch: int, fresh_ms: int) -> None:
    """Note that an owner without deltas says that nothing changed until a time."""
    tx.execute(
        sa.update(taken_sets)
        .where(taken_sets.c.agreement == agreement, taken_sets.c.epoch == epoch, taken_sets.c.fresh_ms < fresh_ms)
        .values(fresh_ms=fresh_ms)
    )


def advance_turn(tx: Tx, agreement: str, epoch: int, until_ms: int, record_id: int, *, done: bool) -> None:
    """Note how far the live records have been evaluated anew."""
    _update_set(tx, agreement, epoch, turn_until_ms=until_ms, turn_id=record_id, turn_done=done)


def _update_set(tx: Tx, agreement: str, epoch: int, **values: object) -> None:
    tx.execute(
        sa.update(taken_sets).where(taken_sets.c.agreement == agreement, taken_sets.c.epoch == epoch).values(**values)
    )


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


def drop_batches(tx: Tx, request_ids: Sequence[bytes]) -> None:
    """Delete the batches of a round that is finished: what must be kept of them stands in the log."""
    for start in range(0, len(request_ids), _IN_CHUNK):
        tx.execute(sa.delete(batches).where(batches.c.request_id.in_(request_ids[start : start + _IN_CHUNK])))


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
    change_seq: int
    """Of the newest change that people see."""
    payload: Mapping[str, Any] = field(repr=False)


_MATCH = (
    matches.c.seq,
    matches.c.match_id,
    matches.c.agreement,
    matches.c.epoch,
    matches.c.record_id,
    matches.c.state,
    matches.c.found_ms,
    matches.c.change_seq,
    matches.c.sealed,
)
# What people decided about a match stands when it is found again.
_DECIDED = ("people", "decided_ms")
# What a match is claimed with differs in every epoch, and nobody is shown it.
_CLAIM = ("ticket_id", "redeem")


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
) -> bool:
    """Store a match, or refresh the one of the same identity: what a person decided about it stands.

    A refresh is a change that people see if it was gone, or if what they are shown of it is another; a new epoch alone
    is none. One that finds everything as it stands writes nothing.

    Returns:
        Whether it is a new one.
    """
    old = tx.execute(
        sa.select(matches.c.sealed, matches.c.state, matches.c.epoch).where(matches.c.identity == identity)
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
                decided_ms=payload.get("decided_ms"),
                change_seq=newest_match_change(tx) + 1,
                sealed=store.seal("matches", payload),
            )
        )
        return True
    known = store.unseal("matches", old.sealed)
    fresh = {**payload, **{name: known[name] for name in _DECIDED if name in known}}
    back = old.state == GONE
    if (known, old.epoch, back) == (fresh, epoch, False):
        return False
    values: dict[str, Any] = {"epoch": epoch, "sealed": store.seal("matches", fresh)}
    if back:
        values["state"] = NEW
    if back or _shown(known) != _shown(fresh):
        values["change_seq"] = newest_match_change(tx) + 1
    tx.execute(sa.update(matches).where(matches.c.identity == identity).values(**values))
    return False


def newest_match_change(tx: Tx) -> int:
    """Return the number of the newest change of a match, 0 where there is none."""
    # Rows are never deleted, so the greatest number that stands there is the last that was given.
    return int(tx.execute(sa.select(sa.func.max(matches.c.change_seq))).scalar() or 0)


def _shown(payload: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in payload.items() if name not in _CLAIM}


def mark_gone(tx: Tx, agreement: str, record_ids: Sequence[int], kept: AbstractSet[bytes]) -> None:
    """Take back undecided matches of records that were queried again and found no match of that identity."""
    for start in range(0, len(record_ids), _IN_CHUNK):
        undecided = (
            matches.c.agreement == agreement,
            matches.c.record_id.in_(record_ids[start : start + _IN_CHUNK]),
            matches.c.state == NEW,
        )
        stored = tx.execute(sa.select(matches.c.seq, matches.c.identity).where(*undecided).order_by(matches.c.seq))
        _take_back(tx, [row.seq for row in stored if row.identity not in kept])


def mark_left(tx: Tx, agreement: str, after_seq: int, until_seq: int) -> None:
    """Take back undecided matches of records that were withdrawn after one change and until another."""
    left = sa.select(records.c.id).where(
        records.c.change_seq > after_seq, records.c.change_seq <= until_seq, records.c.state != "live"
    )
    stored = tx.execute(
        sa.select(matches.c.seq)
        .where(matches.c.agreement == agreement, matches.c.record_id.in_(left), matches.c.state == NEW)
        .order_by(matches.c.seq)
    )
    _take_back(tx, list(stored.scalars()))


def _take_back(tx: Tx, numbers: Sequence[int]) -> None:
    """Give each match that is gone a change of its own, so that whoever follows the matches sees it."""
    if not numbers:
        return
    first = newest_match_change(tx) + 1
    tx.execute(
        sa.update(matches)
        .where(matches.c.seq == sa.bindparam("gone_seq"))
        .values(state=GONE, change_seq=sa.bindparam("gone_change")),
        [{"gone_seq": number, "gone_change": first + n} for n, number in enumerate(numbers)],
    )


def weak_count(tx: Tx, agreement: str, epoch: int) -> int:
    """Return how many matches of an epoch are below the bar."""
    which = weak_matches.c.agreement == agreement, weak_matches.c.epoch == epoch
    return int(tx.execute(sa.select(sa.func.sum(weak_matches.c.count)).where(*which)).scalar() or 0)


def count_weak(tx: Tx, agreement: str, epoch: int, record_ids: Sequence[int], found: Mapping[int, int]) -> None:
    """Keep how many matches below the bar each of some records has, in place of what was counted of them before."""
    of_set = weak_matches.c.agreement == agreement, weak_matches.c.epoch == epoch
    for start in range(0, len(record_ids), _IN_CHUNK):
        chunk = record_ids[start : start + _IN_CHUNK]
        tx.execute(sa.delete(weak_matches).where(*of_set, weak_matches.c.record_id.in_(chunk)))
    if found:
        tx.execute(
            sa.insert(weak_matches),
            [
                {"agreement": agreement, "epoch": epoch, "record_id": number, "count": count}
                for number, count in sorted(found.items())
            ],
        )


def list_matches(
    store: Store, tx: Tx, *, state: str = "", after: int = 0, limit: int = 1000, record_id: int | None = None
) -> list[MatchRow]:
    """Return matches in the order they were found."""
    query = sa.select(*_MATCH).where(matches.c.seq > after)
    query = query.where(matches.c.state == state) if state else query.where(matches.c.state != GONE)
    if record_id is not None:
        query = query.where(matches.c.record_id == record_id)
    return [_row(store, r) for r in tx.execute(query.order_by(matches.c.seq).limit(limit))]


def changed_matches(store: Store, tx: Tx, after: int, limit: int) -> list[MatchRow]:
    """Return the matches that changed after a change, as they stand now, in the order of their newest change."""
    rows = tx.execute(
        sa.select(*_MATCH).where(matches.c.change_seq > after).order_by(matches.c.change_seq).limit(limit)
    )
    return [_row(store, r) for r in rows]


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
        .values(
            state=state,
            decided_ms=payload.get("decided_ms"),
            change_seq=newest_match_change(tx) + 1,
            sealed=store.seal("matches", payload),
        )
    )


@dataclass(frozen=True, slots=True)
class MatchGroup:
    """How many matches of one set are in a state."""

    state: str
    agreement: str
    epoch: int
    count: int


def match_groups(tx: Tx) -> list[MatchGroup]:
    """Return the matches counted by state, agreement and epoch. Cost: a pass over one index, no row is opened."""
    by = matches.c.state, matches.c.agreement, matches.c.epoch
    rows = tx.execute(sa.select(*by, sa.func.count().label("n")).group_by(*by).order_by(*by))
    return [MatchGroup(row.state, row.agreement, row.epoch, int(row.n)) for row in rows]


def matches_of_group(
    store: Store, tx: Tx, state: str, agreement: str, epoch: int, after: int, limit: int
) -> list[MatchRow]:
    """Return matches of one set that are in a state, beyond a number, in the order they were found."""
    which = matches.c.state == state, matches.c.agreement == agreement, matches.c.epoch == epoch, matches.c.seq > after
    return [_row(store, r) for r in tx.execute(sa.select(*_MATCH).where(*which).order_by(matches.c.seq).limit(limit))]


def set_ends(tx: Tx) -> dict[tuple[str, int], tuple[str, int]]:
    """Return state and end, in Unix milliseconds, of every set that was taken, by agreement and epoch."""
    rows = tx.execute(
        sa.select(taken_sets.c.agreement, taken_sets.c.epoch, taken_sets.c.state, taken_sets.c.not_after_ms)
    )
    return {(row.agreement, row.epoch): (row.state, row.not_after_ms) for row in rows}


def count_matches(tx: Tx) -> dict[str, int]:
    """Return the number of matches by state."""
    rows = tx.execute(sa.select(matches.c.state, sa.func.count().label("n")).group_by(matches.c.state))
    return {row.state: int(row.n) for row in rows}


def _row(store: Store, row: Any) -> MatchRow:  # noqa: ANN401 - a row of the columns above
    values = tuple(row)[:-1]
    return MatchRow(*values, payload=store.unseal("matches", row.sealed))  # type: ignore[misc]  # the columns of _MATCH
