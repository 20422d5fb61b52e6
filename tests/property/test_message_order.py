"""Messages about one thing end in the same state in whatever order, and in whatever pieces, they arrive."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connector_psi.domain.records import IdentifierType, Record, SourceSystem, Supersession
from connector_psi.storage import records
from connector_psi.storage.store import Store
from tests.simulation.federation import SeededRandom, declaration

NOW = 1_800_000_000_000
MRN = "25BE000000000SYN01"


LRN = "LRN-1"


@dataclass(frozen=True)
class Message:
    """A declaration with some houses, or its invalidation; under one of its references, or under both."""

    version: int
    houses: tuple[int, ...]
    withdrawn: bool = False
    ref: str = MRN
    same_as: str = ""

    def records(self) -> list[Record]:
        return [
            replace(
                declaration(f"{self.ref}/{house}", (IdentifierType.SEAL, f"SEAL{self.version}H{house}")),
                message_ref=self.ref,
                version=self.version,
            )
            for house in self.houses
        ]

    def end(self) -> Supersession:
        return Supersession(SourceSystem.ICS2, self.ref, self.version, withdrawn=self.withdrawn, same_as=self.same_as)


@st.composite
def histories(draw: st.DrawFn) -> list[Message]:
    versions = draw(st.lists(st.integers(1, 50), min_size=1, max_size=6, unique=True))
    made = []
    for version in sorted(versions):
        withdrawn = draw(st.integers(0, 4)) == 0
        houses = () if withdrawn else tuple(sorted(draw(st.sets(st.integers(1, 5), max_size=5))))
        made.append(Message(version, houses, withdrawn))
    return made


@st.composite
def histories_under_two_references(draw: st.DrawFn) -> list[Message]:
    """Lodged under a local reference, released under a number, and one message at least that names both."""
    made = [replace(message, ref=draw(st.sampled_from([MRN, LRN]))) for message in draw(histories())]
    naming = draw(st.integers(0, len(made) - 1))
    return [
        replace(message, same_as=LRN if message.ref == MRN else MRN) if n == naming or draw(st.booleans()) else message
        for n, message in enumerate(made)
    ]


def _state(deliveries: Sequence[Message], *, piecewise: bool) -> set[tuple[str, str]]:
    """Deliver messages to a new store; return what is live in the end."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"sqlite:///{Path(folder) / 'x.db'}", bytes(32), bytes([1]) * 32, SeededRandom("order"))
        try:
            for message in deliveries:
                items = message.records()
                for piece in [[item] for item in items] if piecewise else [items]:
                    with store.write() as tx:
                        records.put(store, tx, piece, NOW)
                with store.write() as tx:
                    records.supersede(store, tx, message.end(), NOW)
            with store.read() as tx:
                live = records.live_after(store, tx, 0, 1000, NOW)
            return {(r.record.source_ref, r.record.identifiers[0].value) for r in live}
        finally:
            store.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_the_newest_message_holds_whatever_the_order(data: st.DataObject) -> None:
    history = data.draw(histories())
    arrival = data.draw(st.permutations(history))
    # Some arrive twice.
    arrival += data.draw(st.lists(st.sampled_from(history), max_size=3))
    newest = history[-1]
    expected = {(r.source_ref, r.identifiers[0].value) for r in newest.records()}
    assert _state(arrival, piecewise=data.draw(st.booleans())) == expected


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_two_references_of_one_thing_are_one_history(data: st.DataObject) -> None:
    history = data.draw(histories_under_two_references())
    arrival = data.draw(st.permutations(history)) + data.draw(st.lists(st.sampled_from(history), max_size=3))
    expected = {(r.source_ref, r.identifiers[0].value) for r in history[-1].records()}
    assert _state(arrival, piecewise=data.draw(st.booleans())) == expected


def test_without_the_end_of_a_message_nothing_is_taken_back() -> None:
    """A message that was cut says nothing about what it did not come to."""
    whole, cut = Message(1, (1, 2, 3)), Message(2, (1,))
    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"sqlite:///{Path(folder) / 'x.db'}", bytes(32), bytes([1]) * 32, SeededRandom("order"))
        with store.write() as tx:
            records.put(store, tx, whole.records(), NOW)
            records.supersede(store, tx, whole.end(), NOW)
            records.put(store, tx, cut.records(), NOW)
        with store.read() as tx:
            assert records.count_live(tx) == 3
        store.close()
