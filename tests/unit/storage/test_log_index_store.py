"""What a search of the log finds is what reading the whole log would, whatever is combined, and whatever the clock did."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from connector_psi.audit.entries import Event, Leaf, LeafDraft, RetentionClass, Side
from connector_psi.domain.clock import SystemRandom
from connector_psi.storage import daily, logindex, retention, schema
from connector_psi.storage.logindex import Wanted
from connector_psi.storage.store import Store

START = datetime(2026, 1, 1, tzinfo=UTC)
WORDS = tuple(bytes([n]) * logindex.WORD_BYTES for n in range(5))
REQUESTS = tuple(bytes([n]) * 16 for n in range(12))
ENTRIES = 600


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(f"sqlite:///{tmp_path / 'node.db'}", bytes(32), bytes(32), SystemRandom())
    yield made
    made.close()


def _log(seed: int) -> list[tuple[Leaf, frozenset[bytes]]]:
    """Entries whose time goes back once, as after a clock that jumped ahead."""
    dice, made = random.Random(seed), []
    for n in range(ENTRIES):
        minutes = n if not ENTRIES // 3 < n < ENTRIES // 2 else n + 10_000
        leaf = LeafDraft(
            event=dice.choice((Event.CONSULT, Event.REVIEW, Event.CASE_OPEN, Event.LOG_READ)),
            retention_class=RetentionClass.SIS_3Y,
            side=dice.choice((Side.QUERIER, Side.OWNER, None)),
            agreement=dice.choice(("A:x-y", "B:x-y", None)),
            purpose=dice.choice(("p", "q", None)),
            request_id=dice.choice((*REQUESTS, None, None)),
            parent_id=dice.choice((*REQUESTS, None, None, None)),
        ).complete(ts=START + timedelta(minutes=minutes), erase_after=START, body_commit=bytes(32))
        made.append((leaf, frozenset(dice.sample(WORDS, dice.randrange(4)))))
    return made


def _holds(leaf: Leaf, words: frozenset[bytes], wanted: Wanted) -> bool:
    second = int(leaf.ts.timestamp())
    return (
        (wanted.kinds is None or logindex.kind_of(leaf) in wanted.kinds)
        and (wanted.since_s is None or second >= wanted.since_s)
        and (wanted.until_s is None or second < wanted.until_s)
        and (wanted.request_id is None or wanted.request_id in {leaf.request_id, leaf.parent_id})
        and words.issuperset(wanted.words)
    )


def _second(dice: random.Random) -> int | None:
    minutes = dice.choice((None, dice.randrange(ENTRIES), dice.randrange(ENTRIES, ENTRIES + 10_000)))
    return None if minutes is None else int(START.timestamp()) + 60 * minutes


@pytest.mark.parametrize("seed", range(4))
def test_a_search_finds_what_reading_the_log_would(store: Store, seed: int) -> None:
    entries, dice = _log(seed), random.Random(seed)
    with store.write() as tx:
        for index, (leaf, words) in enumerate(entries):
            logindex.put(tx, index, leaf, words)
    every = {logindex.kind_of(leaf) for leaf, _ in entries}
    found_some = 0
    with store.read() as tx:
        assert (set(logindex.kinds(tx)), len(logindex.kinds(tx))) == (every, len(every))
        for _ in range(150):
            kinds = dice.choice((None, frozenset(dice.sample(sorted(every, key=repr), dice.randrange(len(every))))))
            wanted = Wanted(
                kinds,
                _second(dice),
                _second(dice),
                dice.choice((None, None, *REQUESTS[:2])),
                tuple(dice.sample(WORDS, dice.choice((0, 0, 1, 2)))),
            )
            before, limit = dice.choice((logindex.END, dice.randrange(ENTRIES))), dice.choice((1, 7, ENTRIES))
            held = [i for i, (leaf, words) in enumerate(entries) if i < before and _holds(leaf, words, wanted)]
            assert logindex.search(tx, wanted, before, limit) == held[::-1][:limit], wanted
            found_some += bool(held)
        for request_id in REQUESTS:
            held = [i for i, (leaf, _) in enumerate(entries) if request_id in {leaf.request_id, leaf.parent_id}]
            assert logindex.of_request(tx, request_id) == held
    assert found_some > 40


def test_nothing_is_found_in_a_log_without_entries(store: Store) -> None:
    with store.read() as tx:
        assert logindex.kinds(tx) == []
        assert logindex.search(tx, Wanted(), logindex.END, 10) == []
        assert logindex.search(tx, Wanted(since_s=1, until_s=2), logindex.END, 10) == []


def test_what_bodies_are_found_by_goes_with_them(store: Store) -> None:
    entries = _log(1)
    gone: Sequence[int] = range(0, ENTRIES, 2)
    with store.write() as tx:
        for index, (leaf, words) in enumerate(entries):
            logindex.put(tx, index, leaf, words)
        retention.erase(tx, gone)
    with store.read() as tx:
        left = set(tx.execute(sa.select(schema.log_words.c.idx)).scalars())
        assert left == {i for i, (_, words) in enumerate(entries) if words and i % 2}
        assert logindex.search(tx, Wanted(), logindex.END, ENTRIES) == list(range(ENTRIES))[::-1]


def test_counts_of_a_day_add_up_by_word_and_agreement(store: Store) -> None:
    with store.write() as tx:
        for day, what, agreement, n in (
            (3, "a", "", 1),
            (3, "a", "", 4),
            (3, "a", "X", 1),
            (4, "b", "", 2),
            (5, "a", "", 0),
        ):
            daily.count(tx, day, what, agreement, n)
    with store.read() as tx:
        assert [(row.day, row.what, row.agreement, row.count) for row in daily.read(tx, 3, 4)] == [
            (3, "a", "", 5),
            (3, "a", "X", 1),
            (4, "b", "", 2),
        ]
        assert daily.read(tx, 5, 9) == []
