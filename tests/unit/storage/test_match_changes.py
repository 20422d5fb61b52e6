"""Changes of matches are numbered: what people see of one changes its number, and whoever follows misses nothing."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connector_psi.domain.clock import SystemRandom
from connector_psi.storage import queried
from connector_psi.storage.queried import CONFIRMED, DISMISSED, GONE, NEW, MatchRow
from connector_psi.storage.store import Store

PAYLOAD = {
    "ticket_id": "00",
    "redeem": ["11"],
    "types": ["container"],
    "evidence": [["container", "$.box", ""]],
    "band": "",
    "corroborators": [],
    "category": "sis.38.g",
    "record_ref": "M1",
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(f"sqlite:///{tmp_path / 'node.db'}", bytes(32), bytes(32), SystemRandom())
    yield made
    made.close()


def found(store: Store, number: int = 1, epoch: int = 1, **changes: Any) -> None:
    with store.write() as tx:
        queried.put_match(
            store,
            tx,
            identity=bytes([number]) * 32,
            match_id=f"{number:02x}" * 16,
            agreement="A",
            epoch=epoch,
            record_id=number,
            payload={**PAYLOAD, **changes},
            now_ms=number,
        )


def after(store: Store, change: int) -> list[MatchRow]:
    with store.read() as tx:
        return queried.changed_matches(store, tx, change, 100)


def states(store: Store, change: int = 0) -> list[tuple[int, str, int]]:
    return [(row.record_id, row.state, row.change_seq) for row in after(store, change)]


def decide(store: Store, number: int, state: str) -> None:
    with store.write() as tx:
        row = queried.get_match(store, tx, f"{number:02x}" * 16)
        assert row is not None
        queried.set_match_state(store, tx, row.match_id, state, {**row.payload, "people": ["urn:x"], "decided_ms": 7})


def gone(store: Store, *numbers: int, kept: frozenset[bytes] = frozenset()) -> None:
    with store.write() as tx:
        queried.mark_gone(tx, "A", numbers, kept)


def test_every_change_that_people_see_has_a_number_of_its_own_in_order(store: Store) -> None:
    for number in (1, 2, 3):
        found(store, number)
    assert states(store) == [(1, NEW, 1), (2, NEW, 2), (3, NEW, 3)]
    decide(store, 1, CONFIRMED)
    assert states(store, 3) == [(1, CONFIRMED, 4)]
    decide(store, 2, DISMISSED)
    gone(store, 3)
    found(store, 3)
    found(store, 1, evidence=[["container", "$.elsewhere", ""]])
    assert states(store, 4) == [(2, DISMISSED, 5), (3, NEW, 7), (1, CONFIRMED, 8)]
    # What people decided stands.
    assert after(store, 7)[0].payload["people"] == ["urn:x"]
    assert after(store, 7)[0].payload["decided_ms"] == 7


def test_matches_that_go_together_get_numbers_in_the_order_of_finding(store: Store) -> None:
    for number in (1, 2, 3, 4):
        found(store, number)
    decide(store, 2, CONFIRMED)
    gone(store, 4, 3, 2, 1, kept=frozenset({bytes([3]) * 32}))
    assert states(store, 5) == [(1, GONE, 6), (4, GONE, 7)]


def test_a_refresh_that_finds_the_same_writes_nothing(store: Store) -> None:
    found(store)
    with store.read() as tx:
        before = tx.exec_driver_sql("SELECT * FROM matches").all()
    found(store)
    with store.read() as tx:
        assert tx.exec_driver_sql("SELECT * FROM matches").all() == before


def test_a_new_epoch_is_kept_for_the_claim_and_is_no_change_to_people(store: Store) -> None:
    found(store)
    decide(store, 1, CONFIRMED)
    found(store, epoch=2, ticket_id="99", redeem=["88"])
    (row,) = after(store, 0)
    assert (row.epoch, row.payload["ticket_id"], row.payload["redeem"]) == (2, "99", ["88"])
    assert (row.state, row.change_seq, row.payload["people"]) == (CONFIRMED, 2, ["urn:x"])


def test_whoever_resumes_ends_up_with_what_is_there_whenever_it_was_interrupted(store: Store) -> None:
    """A follower reads pages of two, is interrupted at random, and goes on after the last one it handled."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    handled, mirror, order = 0, {}, []
    for _ in range(120):
        number = draw.randint(1, 9)
        action = draw.randrange(4)
        if action == 0 or not after(store, 0):
            found(store, number, evidence=[["container", f"$.{draw.randrange(3)}", ""]], epoch=draw.randrange(3))
        elif action == 1 and any(row.record_id == number for row in after(store, 0)):
            decide(store, number, draw.choice([CONFIRMED, DISMISSED]))
        else:
            gone(store, number)
        with store.read() as tx:
            page = queried.changed_matches(store, tx, handled, 2)
        for row in page[: draw.randint(0, 2)]:
            handled = row.change_seq
            order.append(handled)
            mirror[row.match_id] = row
    while rest := after(store, handled):
        mirror.update({row.match_id: row for row in rest})
        handled = rest[-1].change_seq
    assert {row.match_id: (row.state, row.payload["evidence"]) for row in after(store, 0)} == {
        match_id: (row.state, row.payload["evidence"]) for match_id, row in mirror.items()
    }
    assert order == sorted(set(order))
