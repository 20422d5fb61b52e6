"""Records in the store: once by reference, amended, withdrawn, sealed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from connector_psi.domain.records import IdentifierType, Party, PartyKind, Record, SourceSystem, Supersession
from connector_psi.errors import StorageError
from connector_psi.storage import records
from connector_psi.storage.records import Outcome
from connector_psi.storage.store import Store
from tests.simulation.federation import SeededRandom, alert

BOX = (IdentifierType.CONTAINER, "CSQU3054383")
NOW = 1_800_000_000_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(f"sqlite:///{tmp_path / 'test.db'}", bytes(32), bytes([1]) * 32, SeededRandom("records"))
    yield made
    made.close()


def _put(store: Store, *items: Record) -> list[Outcome]:
    with store.write() as tx:
        return records.put(store, tx, items, NOW)


def _live(store: Store, after: int = 0) -> list[tuple[int, str]]:
    with store.read() as tx:
        return [(r.change_seq, r.record.source_ref) for r in records.live_after(store, tx, after, 100, NOW)]


def test_the_same_record_again_changes_nothing(store: Store) -> None:
    assert _put(store, alert("A", BOX)) == [Outcome.ACCEPTED]
    before = _live(store)
    assert _put(store, alert("A", BOX)) == [Outcome.DUPLICATE]
    moved = replace(alert("A", BOX), message_digest=bytes(32))
    assert _put(store, moved) == [Outcome.DUPLICATE]
    assert _live(store) == before


def test_an_amended_record_comes_up_again_for_whoever_follows(store: Store) -> None:
    _put(store, alert("A", BOX), alert("B"))
    assert _put(store, alert("A")) == [Outcome.UPDATED]
    assert _live(store, after=2) == [(3, "A")]
    assert _live(store) == [(2, "B"), (3, "A")]


def test_a_cut_message_never_takes_a_whole_record_back(store: Store) -> None:
    cut = replace(alert("A"), incomplete=True)
    assert _put(store, cut) == [Outcome.ACCEPTED]
    assert _put(store, alert("A", BOX)) == [Outcome.UPDATED]
    assert _put(store, cut) == [Outcome.DUPLICATE]
    with store.read() as tx:
        assert records.by_id(store, tx, 1) == (alert("A", BOX), True)


def test_one_batch_may_hold_a_record_twice(store: Store) -> None:
    assert _put(store, alert("A", BOX), alert("A", BOX), alert("A")) == [
        Outcome.ACCEPTED,
        Outcome.DUPLICATE,
        Outcome.UPDATED,
    ]
    with store.read() as tx:
        assert records.count_live(tx) == 1
        found = records.live_after(store, tx, 0, 10, NOW)
    assert found[0].record == alert("A")


def test_a_stored_record_comes_back_as_it_was(store: Store) -> None:
    record = alert("A", BOX, (IdentifierType.EMAIL, "a@example.org"))
    _put(store, record)
    with store.read() as tx:
        assert records.by_id(store, tx, 1) == (record, True)


def test_a_withdrawn_record_is_live_no_more_and_can_come_back(store: Store) -> None:
    _put(store, alert("A", BOX))
    with store.write() as tx:
        assert records.withdraw(store, tx, SourceSystem.SIS, "A", NOW) == 1
        assert records.withdraw(store, tx, SourceSystem.SIS, "A", NOW) is None
    assert _live(store) == []
    assert _put(store, alert("A", BOX)) == [Outcome.UPDATED]
    assert [ref for _, ref in _live(store)] == ["A"]


def test_an_older_message_never_replaces_a_newer_one(store: Store) -> None:
    newer, older = replace(alert("A", BOX), version=9), replace(alert("A"), version=5)
    assert _put(store, newer) == [Outcome.ACCEPTED]
    assert _put(store, older) == [Outcome.DUPLICATE]
    with store.read() as tx:
        assert records.by_id(store, tx, 1) == (newer, True)


def test_the_same_in_a_newer_message_is_nothing_to_look_at_and_orders_all_the_same(store: Store) -> None:
    _put(store, replace(alert("A", BOX), version=1))
    before = _live(store)
    assert _put(store, replace(alert("A", BOX), version=7)) == [Outcome.DUPLICATE]
    assert _live(store) == before
    assert _put(store, replace(alert("A"), version=5)) == [Outcome.DUPLICATE]
    gone = Supersession(SourceSystem.SIS, "A", 6)
    with store.write() as tx:
        assert records.supersede(store, tx, gone, NOW) == []
        assert records.by_id(store, tx, 1) == (replace(alert("A", BOX), version=7), True)
    # In one batch too.
    assert _put(store, replace(alert("B", BOX), version=1), replace(alert("B", BOX), version=2)) == [
        Outcome.ACCEPTED,
        Outcome.DUPLICATE,
    ]
    assert _put(store, replace(alert("B"), version=1)) == [Outcome.DUPLICATE]


def test_what_was_withdrawn_by_hand_needs_a_newer_message_to_come_back(store: Store) -> None:
    known = replace(alert("A", BOX), version=5)
    _put(store, known)
    with store.write() as tx:
        records.withdraw(store, tx, SourceSystem.SIS, "A", NOW)
    assert _put(store, known) == [Outcome.DUPLICATE]
    assert _live(store) == []
    assert _put(store, replace(known, version=6)) == [Outcome.UPDATED]


def test_a_deletion_that_comes_before_its_alert_holds(store: Store) -> None:
    gone = Supersession(SourceSystem.SIS, "A", 7, withdrawn=True, reason="deleted")
    with store.write() as tx:
        assert records.supersede(store, tx, gone, NOW) == []
    assert _put(store, replace(alert("A", BOX), version=7), replace(alert("A", BOX), version=3)) == [
        Outcome.DUPLICATE,
        Outcome.DUPLICATE,
    ]
    assert _put(store, replace(alert("A", BOX), version=8)) == [Outcome.ACCEPTED]


def test_an_expired_record_leaves_once_and_whoever_follows_sees_it(store: Store) -> None:
    until = datetime.fromtimestamp(NOW / 1000 + 10, tz=UTC)
    _put(store, replace(alert("A", BOX), valid_until=until), alert("B", BOX))
    with store.write() as tx:
        before = records.max_change_seq(tx)
        assert records.expire(store, tx, NOW + 9_999) == []
        assert records.expire(store, tx, NOW + 10_000) == [(SourceSystem.SIS, "A")]
        assert records.expire(store, tx, NOW + 10_000) == []
        assert records.newest_change(tx, ["sis.38.g"])[0] == before + 1
        assert records.count_live(tx) == 1
    later = NOW + 20_000
    with store.write() as tx:
        # The same again stays gone; a longer validity brings it back.
        assert records.put(store, tx, [replace(alert("A", BOX), valid_until=until)], later) == [Outcome.DUPLICATE]
        longer = replace(alert("A", BOX), valid_until=until + timedelta(days=1))
        assert records.put(store, tx, [longer], later) == [Outcome.UPDATED]
        assert records.count_live(tx) == 2


def test_parties_are_kept(store: Store) -> None:
    party = Party(
        "consignee", PartyKind.PERSON, "Novak, Ivana", "/x/name", aliases=("Iva",), nationalities=("HR",), country="NL"
    )
    record = replace(alert("A", BOX), parties=(party,), message_ref="M", version=3)
    _put(store, record)
    with store.read() as tx:
        assert records.by_id(store, tx, 1) == (record, True)
    placed = replace(record, parties=(replace(party, city="Den Haag", postcode="2511 CB"), party))
    assert _put(store, placed) == [Outcome.UPDATED]
    with store.read() as tx:
        assert records.by_id(store, tx, 1) == (placed, True)


def test_a_party_without_city_and_postcode_is_kept_as_it_was_before_they_were_known() -> None:
    """So a row of an earlier version is read, and the same message again is no amendment of it."""
    record = replace(
        alert("A", BOX), parties=(Party("consignee", PartyKind.PERSON, "Novak, Ivana", "/x", country="NL"),)
    )
    value = json.loads(records._encode(record))
    assert value["parties"] == [["consignee", "person", "Novak, Ivana", "/x", [], "", "", [], "", "", "NL"]]
    assert records._decode(record.message_digest + json.dumps(value).encode(), 0) == record


def test_nothing_of_a_record_stands_in_the_file_in_clear(store: Store, tmp_path: Path) -> None:
    _put(store, alert("REFERENCE-1", BOX))
    raw = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for value in (b"CSQU3054383", b"REFERENCE-1", b"sirene@example.org"):
        assert value not in raw
    assert b"sis.38.g" in raw, "the control must be found by the same search"


def test_a_payload_that_was_changed_or_moved_does_not_open(store: Store) -> None:
    sealed = store.seal("matches", {"a": 1})
    assert store.unseal("matches", sealed) == {"a": 1}
    with pytest.raises(StorageError):
        store.unseal("cases", sealed)
    with pytest.raises(StorageError):
        store.unseal("matches", sealed[:-1] + bytes([sealed[-1] ^ 1]))


def test_an_aborted_transaction_leaves_nothing(store: Store) -> None:
    def fail_after_writing() -> None:
        with store.write() as tx:
            records.put(store, tx, [alert("A", BOX)], NOW)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_after_writing()
    assert _live(store) == []
