"""Where in the log what is: leaves by what they say in clear, bodies by keyed hashes of whom and what they name.

Decides: how any combination of criteria is answered without reading the log. Event, side, agreement and purpose are
taken together as the *kind* of an entry. A log has few kinds, whatever its size, so the wanted ones are picked from a
list of them, and each is walked from its newest entry on. Leaves to others: what is indexed (``node.node``), who sees
what (``node.searching``), what an entry says: that is in its leaf, which is hashed, and not here.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import sqlalchemy as sa

from connector_psi.audit.entries import Leaf
from connector_psi.storage.schema import log_index, log_words
from connector_psi.storage.store import Tx

WORD_BYTES: Final = 16
END: Final = (1 << 63) - 1
"""Beyond the last entry of any log."""
# Below the limit of bound values of any SQLite.
_IN_CHUNK: Final = 500


@dataclass(frozen=True, slots=True)
class Kind:
    """What an entry says of itself in clear, but for its time and the exchange that it belongs to."""

    event: str
    side: str | None
    agreement: str | None
    purpose: str | None

    @property
    def number(self) -> int:
        """Names it in the index; two kinds of one log do not share one but by the chance of a 64-bit hash."""
        text = json.dumps([self.event, self.side, self.agreement, self.purpose])
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big", signed=True)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for; everything that is given must hold. Times are Unix seconds."""

    kinds: frozenset[Kind] | None = None
    """None for all."""
    since_s: int | None = None
    """Entries of this second and later."""
    until_s: int | None = None
    """Entries before this second."""
    request_id: bytes | None = None
    """Entries of it, and those that follow from it."""
    words: tuple[bytes, ...] = ()
    """All of them, the rarest first."""


# Put together once, since every entry of the log is indexed.
_PUT = sa.insert(log_index)
_PUT_WORD = sa.insert(log_words)


def put(tx: Tx, index: int, leaf: Leaf, words: Collection[bytes]) -> None:
    """Index an entry.

    Args:
        tx: The transaction that appended it.
        index: Its place in the log.
        leaf: What it says.
        words: Keyed hashes of what its body names.
    """
    tx.execute(_PUT, index_row(index, leaf))
    if words:
        tx.execute(_PUT_WORD, [{"word": word, "idx": index} for word in sorted(set(words))])


def index_row(index: int, leaf: Leaf) -> dict[str, object]:
    """Return the row of ``log_index`` that a leaf has."""
    kind = kind_of(leaf)
    return {
        "idx": index,
        "ts_s": int(leaf.ts.timestamp()),
        "kind": kind.number,
        "event": kind.event,
        "side": kind.side,
        "agreement": kind.agreement,
        "purpose": kind.purpose,
        "request_id": leaf.request_id,
        "parent_id": leaf.parent_id,
    }


def kind_of(leaf: Leaf) -> Kind:
    """Return the kind of an entry."""
    return Kind(leaf.event.value, leaf.side.value if leaf.side else None, leaf.agreement, leaf.purpose)


def forget_words(tx: Tx, indexes: Sequence[int]) -> None:
    """Delete what bodies were found by."""
    for start in range(0, len(indexes), _IN_CHUNK):
        tx.execute(sa.delete(log_words).where(log_words.c.idx.in_(indexes[start : start + _IN_CHUNK])))


def kinds(tx: Tx) -> list[Kind]:
    """Return every kind of entry that the log has.

    Cost: Two look-ups in an index a kind; the database walks from each to the next.
    """
    rows = log_index.alias()
    least = sa.select(sa.func.min(log_index.c.kind)).scalar_subquery()
    walk = sa.select(least.label("kind")).cte("walk", recursive=True)
    following = sa.select(sa.func.min(rows.c.kind)).where(rows.c.kind > walk.c.kind).scalar_subquery()
    walk = walk.union_all(sa.select(following).where(walk.c.kind.is_not(None)))
    first = sa.select(sa.func.min(rows.c.idx)).where(rows.c.kind == walk.c.kind).scalar_subquery()
    columns = log_index.c.event, log_index.c.side, log_index.c.agreement, log_index.c.purpose
    found = tx.execute(
        sa.select(*columns).select_from(walk.join(log_index, log_index.c.idx == first)).where(walk.c.kind.is_not(None))
    )
    return [Kind(*row) for row in found]


def search(tx: Tx, wanted: Wanted, before: int, limit: int) -> list[int]:
    """Return the entries that are wanted, the newest first.

    Args:
        tx: A transaction.
        wanted: What is looked for.
        before: Entries before this one.
        limit: At most so many.
    """
    if wanted.kinds is not None and not wanted.kinds:
        return []
    if wanted.request_id is not None or wanted.words:
        return _of_few(tx, wanted, before, limit)
    low, high = _span(tx, wanted, before)
    if low >= high:
        return []
    which = [log_index.c.idx >= low, log_index.c.idx < high, *_in_time(wanted)]
    if wanted.kinds is None:
        return _newest(tx, which, limit)
    each = (_newest(tx, [log_index.c.kind == kind.number, *which], limit) for kind in wanted.kinds)
    return heapq.nlargest(limit, (index for found in each for index in found))


def of_request(tx: Tx, request_id: bytes, kinds: Iterable[Kind] | None = None) -> list[int]:
    """Return the entries of an exchange and those that follow from it, the oldest first.

    Args:
        tx: A transaction.
        request_id: 16 bytes.
        kinds: That may be seen; all by default.
    """
    wanted = Wanted(None if kinds is None else frozenset(kinds), request_id=request_id)
    return sorted(_of_few(tx, wanted, END, END))


def said_of(tx: Tx, indexes: Sequence[int]) -> list[tuple[str, str | None, str | None]]:
    """Return event, side and agreement of some entries, in the order of the log."""
    found: list[tuple[str, str | None, str | None]] = []
    for start in range(0, len(indexes), _IN_CHUNK):
        rows = tx.execute(
            sa.select(log_index.c.event, log_index.c.side, log_index.c.agreement)
            .where(log_index.c.idx.in_(indexes[start : start + _IN_CHUNK]))
            .order_by(log_index.c.idx)
        )
        found += [(row.event, row.side, row.agreement) for row in rows]
    return found


def _newest(tx: Tx, which: Sequence[sa.ColumnElement[bool]], limit: int) -> list[int]:
    return list(
        tx.execute(sa.select(log_index.c.idx).where(*which).order_by(log_index.c.idx.desc()).limit(limit)).scalars()
    )


def _in_time(wanted: Wanted) -> list[sa.ColumnElement[bool]]:
    times = []
    # A sum, which no index answers: what narrows the search is the span.
    if wanted.since_s is not None:
        times.append(log_index.c.ts_s + 0 >= wanted.since_s)
    if wanted.until_s is not None:
        times.append(log_index.c.ts_s + 0 < wanted.until_s)
    return times


def _span(tx: Tx, wanted: Wanted, before: int) -> tuple[int, int]:
    """Where the entries of a time are. Exact also where a clock jumped ahead and was put right.

    Cost: For each end a pass over the entries before it or those after it, whichever seem to be fewer.
    """
    low, high = 0, before
    if wanted.since_s is not None:
        later = log_index.c.ts_s >= wanted.since_s
        # Sums keep the database from going the other way.
        first = (
            sa.select(sa.func.min(log_index.c.idx + 0)).where(later)
            if _is_late(tx, wanted.since_s)
            else sa.select(log_index.c.idx).where(*_in_time(Wanted(since_s=wanted.since_s))).order_by(log_index.c.idx)
        )
        found = tx.execute(first.limit(1)).scalar()
        low = high if found is None else int(found)
    if wanted.until_s is not None and low < high:
        of_time = _in_time(Wanted(until_s=wanted.until_s))
        last = (
            sa.select(log_index.c.idx).where(*of_time).order_by(log_index.c.idx.desc())
            if _is_late(tx, wanted.until_s)
            else sa.select(sa.func.max(log_index.c.idx + 0)).where(log_index.c.ts_s < wanted.until_s)
        )
        found = tx.execute(last.limit(1)).scalar()
        high = low if found is None else min(high, int(found) + 1)
    return low, high


def _is_late(tx: Tx, second: int) -> bool:
    """Whether a time is in the later half of the log, as far as clocks were right."""
    end = tx.execute(sa.select(sa.func.max(log_index.c.idx))).scalar()
    by_time = log_index.c.ts_s, log_index.c.idx
    at = tx.execute(sa.select(log_index.c.idx).where(log_index.c.ts_s >= second).order_by(*by_time).limit(1)).scalar()
    return end is None or at is None or int(at) > int(end) // 2


def _of_few(tx: Tx, wanted: Wanted, before: int, limit: int) -> list[int]:
    """Entries of one exchange, or that a word is known of: the others are asked of each of these."""
    which = [log_index.c.idx < before, *_in_time(wanted)]
    words = wanted.words
    if wanted.request_id is not None:
        columns = log_index.c.request_id, log_index.c.parent_id
        of = [sa.select(log_index.c.idx).where(column == wanted.request_id) for column in columns]
        few = sa.union(*of).subquery()
    else:
        few = sa.select(log_words.c.idx).where(log_words.c.word == words[0], log_words.c.idx < before).subquery()
        words = words[1:]
    for word in words:
        also = log_words.alias()
        which.append(sa.exists().where(also.c.word == word, also.c.idx == few.c.idx))
    query = (
        sa.select(few.c.idx, log_index.c.kind)
        .select_from(few.join(log_index, log_index.c.idx == few.c.idx))
        .where(*which)
        .order_by(few.c.idx.desc())
    )
    numbers = None if wanted.kinds is None else {kind.number for kind in wanted.kinds}
    with tx.execute(query.execution_options(yield_per=_IN_CHUNK)) as rows:
        return list(islice((row.idx for row in rows if numbers is None or row.kind in numbers), limit))
