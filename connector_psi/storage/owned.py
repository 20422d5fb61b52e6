"""What an owner keeps: the epochs it published, the queries it answered, the capacity used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from connector_psi.errors import CapacityExceededError, ConflictError
from connector_psi.storage.schema import capacity, changed_rows, deltas, epochs, evaluations
from connector_psi.storage.store import Store, Tx

PUBLISHED = "published"
SUPERSEDED = "superseded"
DESTROYED = "destroyed"
PREPARING = "preparing"

# From: encoding.manifest, whose numbers are those of RFC 8785.
_MAX_EPOCH = 2**53 - 1
_CHANGED = "changed_rows"
_TAG = 8
_ROW = 24
# Below the limit of bound values of any SQLite.
_IN_CHUNK = 500


@dataclass(frozen=True, slots=True)
class EpochRow:
    """One epoch of an agreement at its owner. Times are Unix milliseconds."""

    agreement: str
    epoch: int
    state: str
    wrapped_seed: bytes | None = field(repr=False)
    wrapped_case_keys: bytes | None = field(repr=False)
    manifest: bytes | None
    signature: bytes | None
    manifest_hash: bytes | None
    leaf_index: int | None
    tokens: int | None
    change_seq: int | None
    published_ms: int | None
    not_after_ms: int | None
    superseded_ms: int | None
    set_seq: int | None
    """Up to which change the set was made; ``change_seq`` goes on with its deltas."""
    delta_seq: int
    delta_hash: bytes | None
    """Of the last link of its chain; None before the first."""
    linked_ms: int | None
    """When the last link was made, at first the set."""
    fresh_ms: int | None
    """Every change of records before is in the set with its deltas."""
    delta_rows: int
    dummies_used: int
    """Of the set's own dummies, those that deltas pretended to remove."""


_COLUMNS = tuple(epochs.c[name] for name in EpochRow.__dataclass_fields__)


def next_epoch(tx: Tx, agreement: str) -> int:
    """Return the number of the next epoch, from 1; numbers are never used twice."""
    last = tx.execute(sa.select(sa.func.max(epochs.c.epoch)).where(epochs.c.agreement == agreement)).scalar()
    return int(last or 0) + 1


def begin_epoch(tx: Tx, agreement: str, epoch: int, wrapped_seed: bytes, wrapped_case_keys: bytes) -> None:
    """Reserve an epoch before its set is built."""
    tx.execute(
        sa.insert(epochs).values(
            agreement=agreement,
            epoch=epoch,
            state=PREPARING,
            wrapped_seed=wrapped_seed,
            wrapped_case_keys=wrapped_case_keys,
        )
    )


def publish_epoch(tx: Tx, agreement: str, epoch: int, now_ms: int, **values: object) -> None:
    """Make an epoch the newest of its agreement; the one before is superseded."""
    tx.execute(
        sa.update(epochs)
        .where(epochs.c.agreement == agreement, epochs.c.state == PUBLISHED)
        .values(state=SUPERSEDED, superseded_ms=now_ms)
    )
    tx.execute(
        sa.update(epochs)
        .where(epochs.c.agreement == agreement, epochs.c.epoch == epoch)
        .values(state=PUBLISHED, published_ms=now_ms, **values)
    )


def keep_delta(
    tx: Tx, agreement: str, epoch: int, seq: int, digest: bytes, signature: bytes, leaf_index: int, **values: object
) -> None:
    """Keep a link of an epoch's chain; ``values`` are further columns of the epoch."""
    tx.execute(
        sa.insert(deltas).values(agreement=agreement, epoch=epoch, seq=seq, signature=signature, leaf_index=leaf_index)
    )
    tx.execute(
        sa.update(epochs)
        .where(epochs.c.agreement == agreement, epochs.c.epoch == epoch)
        .values(delta_seq=seq, delta_hash=digest, **values)
    )


@dataclass(frozen=True, slots=True)
class DeltaRow:
    """A link of an epoch's chain, without its bytes."""

    seq: int
    signature: bytes
    leaf_index: int


def deltas_from(tx: Tx, agreement: str, epoch: int, seq: int, limit: int) -> list[DeltaRow]:
    """Return the links of an epoch's chain from one on, in order."""
    if max(epoch, seq) > _MAX_EPOCH:
        # As in ``get_epoch``.
        return []
    rows = tx.execute(
        sa.select(deltas.c.seq, deltas.c.signature, deltas.c.leaf_index)
        .where(deltas.c.agreement == agreement, deltas.c.epoch == epoch, deltas.c.seq >= seq)
        .order_by(deltas.c.seq)
        .limit(limit)
    )
    return [DeltaRow(*row) for row in rows]


RowOf = tuple[bytes, bytes]
"""Tag and lookup of a published row."""


def changed_rows_among(
    store: Store, tx: Tx, agreement: str, epoch: int, record_ids: Sequence[int]
) -> dict[int, list[RowOf]]:
    """Return the rows of some records now; what did not change since its set was published is left out."""
    of_epoch = changed_rows.c.agreement == agreement, changed_rows.c.epoch == epoch
    found: dict[int, list[RowOf]] = {}
    for start in range(0, len(record_ids), _IN_CHUNK):
        chunk = record_ids[start : start + _IN_CHUNK]
        for row in tx.execute(
            sa.select(changed_rows.c.record_id, changed_rows.c.sealed).where(
                *of_epoch, changed_rows.c.record_id.in_(chunk)
            )
        ):
            raw = store.unseal_raw(_CHANGED, row.sealed)
            found[row.record_id] = [
                (raw[at : at + _TAG], raw[at + _TAG : at + _ROW]) for at in range(0, len(raw), _ROW)
            ]
    return found


def keep_changed_rows(store: Store, tx: Tx, agreement: str, epoch: int, rows: Mapping[int, Sequence[RowOf]]) -> None:
    """Keep the rows that records have now."""
    of_epoch = changed_rows.c.agreement == agreement, changed_rows.c.epoch == epoch
    numbers = list(rows)
    for start in range(0, len(numbers), _IN_CHUNK):
        chunk = numbers[start : start + _IN_CHUNK]
        tx.execute(sa.delete(changed_rows).where(*of_epoch, changed_rows.c.record_id.in_(chunk)))
    if rows:
        tx.execute(
            sa.insert(changed_rows),
            [
                {
                    "agreement": agreement,
                    "epoch": epoch,
                    "record_id": number,
                    "sealed": store.seal_raw(_CHANGED, b"".join(tag + lookup for tag, lookup in own)),
                }
                for number, own in rows.items()
            ],
        )


def destroy_epoch(tx: Tx, agreement: str, epoch: int) -> None:
    """Forget the seed of an epoch and its deltas; its case keys stay for the case window."""
    for table in (deltas, changed_rows):
        tx.execute(sa.delete(table).where(table.c.agreement == agreement, table.c.epoch == epoch))
    tx.execute(
        sa.update(epochs)
        .where(epochs.c.agreement == agreement, epochs.c.epoch == epoch)
        .values(state=DESTROYED, wrapped_seed=None)
    )


def forget_case_keys(tx: Tx, agreement: str, epoch: int) -> None:
    """Forget the ticket and redeem keys of an epoch after its case window."""
    tx.execute(
        sa.update(epochs).where(epochs.c.agreement == agreement, epochs.c.epoch == epoch).values(wrapped_case_keys=None)
    )


# Put together once, since every turn and every query asks for them.
_OF_AGREEMENT = sa.select(*_COLUMNS).where(epochs.c.agreement == sa.bindparam("of_agreement"))
_ONE = _OF_AGREEMENT.where(epochs.c.epoch == sa.bindparam("of_epoch"))
_NEWEST = _OF_AGREEMENT.where(epochs.c.state == PUBLISHED)
_ANSWERING = _OF_AGREEMENT.where(
    epochs.c.state.in_((PUBLISHED, SUPERSEDED)),
    epochs.c.wrapped_seed.is_not(None),
    epochs.c.not_after_ms > sa.bindparam("after_ms"),
).order_by(epochs.c.epoch.desc())


def get_epoch(tx: Tx, agreement: str, epoch: int) -> EpochRow | None:
    """Return one epoch."""
    if epoch > _MAX_EPOCH:
        # On the wire it is a uint64, which no store holds: asking one would be an internal error.
        return None
    row = tx.execute(_ONE, {"of_agreement": agreement, "of_epoch": epoch}).one_or_none()
    return EpochRow(*row) if row else None


def newest_published(tx: Tx, agreement: str) -> EpochRow | None:
    """Return the epoch in force."""
    row = tx.execute(_NEWEST, {"of_agreement": agreement}).one_or_none()
    return EpochRow(*row) if row else None


def answering(tx: Tx, agreement: str, now_ms: int) -> list[EpochRow]:
    """Return the epochs of an agreement that answer now, the newest first."""
    rows = tx.execute(_ANSWERING, {"of_agreement": agreement, "after_ms": now_ms})
    return [EpochRow(*row) for row in rows]


def by_manifest(tx: Tx, manifest_hash: bytes) -> EpochRow | None:
    """Return the epoch with this manifest."""
    row = tx.execute(sa.select(*_COLUMNS).where(epochs.c.manifest_hash == manifest_hash)).one_or_none()
    return EpochRow(*row) if row else None


def list_epochs(tx: Tx) -> list[EpochRow]:
    """Return every epoch whose secrets may still exist."""
    rows = tx.execute(
        sa.select(*_COLUMNS)
        .where(sa.or_(epochs.c.wrapped_seed.is_not(None), epochs.c.wrapped_case_keys.is_not(None)))
        .order_by(epochs.c.agreement, epochs.c.epoch)
    )
    return [EpochRow(*row) for row in rows]


def claim_request(tx: Tx, peer: str, request_id: bytes, agreement: str, epoch: int, request_hash: bytes) -> bool:
    """Take a query in once.

    Returns:
        True if it is new, False if exactly this query was taken in before.

    Raises:
        ConflictError: Another body came under this id.
    """
    old = tx.execute(
        sa.select(evaluations.c.request_hash).where(evaluations.c.peer == peer, evaluations.c.request_id == request_id)
    ).scalar()
    if old is None:
        tx.execute(
            sa.insert(evaluations).values(
                peer=peer, request_id=request_id, agreement=agreement, epoch=epoch, request_hash=request_hash
            )
        )
        return True
    if old != request_hash:
        raise ConflictError("a request id was used for another request")
    return False


def keep_proof(tx: Tx, peer: str, request_id: bytes, proof: bytes) -> bytes:
    """Keep the first proof made for a query and return it: the same request gets the same bytes."""
    where = (evaluations.c.peer == peer, evaluations.c.request_id == request_id)
    tx.execute(sa.update(evaluations).where(*where, evaluations.c.proof.is_(None)).values(proof=proof))
    return bytes(tx.execute(sa.select(evaluations.c.proof).where(*where)).scalar_one())


def get_proof(tx: Tx, peer: str, request_id: bytes) -> bytes | None:
    """Return the proof kept for a query."""
    return tx.execute(
        sa.select(evaluations.c.proof).where(evaluations.c.peer == peer, evaluations.c.request_id == request_id)
    ).scalar()


def debit(tx: Tx, agreement: str, token_class: int, day: str, amount: int, per_day: int, per_year: int) -> None:
    """Debit capacity, durably with the transaction.

    Use is counted a day; a year's use is the sum over its days.

    Raises:
        CapacityExceededError: The day's or the year's capacity would be passed; nothing is debited.
    """
    of_class = (capacity.c.agreement == agreement, capacity.c.token_class == token_class)
    today = int(tx.execute(sa.select(capacity.c.used).where(*of_class, capacity.c.day == day)).scalar() or 0)
    year = int(
        tx.execute(
            sa.select(sa.func.sum(capacity.c.used)).where(*of_class, capacity.c.day.startswith(day[:4]))
        ).scalar()
        or 0
    )
    if today + amount > per_day or year + amount > per_year:
        raise CapacityExceededError(f"{agreement}: the capacity of class {token_class} is used up")
    if today:
        tx.execute(sa.update(capacity).where(*of_class, capacity.c.day == day).values(used=today + amount))
    else:
        tx.execute(sa.insert(capacity).values(agreement=agreement, token_class=token_class, day=day, used=amount))


def used_in_year(tx: Tx, agreement: str, year: str) -> dict[int, int]:
    """Return the capacity used on all days of a calendar year (``YYYY``, UTC), by class number."""
    rows = tx.execute(
        sa.select(capacity.c.token_class, sa.func.sum(capacity.c.used).label("used"))
        .where(capacity.c.agreement == agreement, capacity.c.day.startswith(year))
        .group_by(capacity.c.token_class)
    )
    return {int(row.token_class): int(row.used) for row in rows}


def used_today(tx: Tx, agreement: str, day: str) -> dict[int, int]:
    """Return the capacity used on a day, by class number."""
    rows = tx.execute(
        sa.select(capacity.c.token_class, capacity.c.used).where(
            capacity.c.agreement == agreement, capacity.c.day == day
        )
    )
    return {int(row.token_class): int(row.used) for row in rows}
