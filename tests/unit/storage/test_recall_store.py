"""Which cases disclosed a record: found by the record, and nothing in clear tells a release from a cover."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from connector_psi.storage import recalls
from connector_psi.storage.schema import releases
from connector_psi.storage.store import Store
from tests.simulation.federation import SeededRandom

CODE = "SIS-OBJ:ics2-sis"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(f"sqlite:///{tmp_path / 'test.db'}", bytes(32), bytes([1]) * 32, SeededRandom("recalls"))
    yield made
    made.close()


def _put(
    store: Store, case: int, record_id: int, *, until_ms: int = 100, quiet: bool = False, code: str = CODE
) -> None:
    with store.write() as tx:
        recalls.put_release(
            store,
            tx,
            agreement=code,
            peer="ics2",
            request_id=bytes([case]) * 16,
            until_ms=until_ms,
            record_id=record_id,
            payload={"fields": {}, "tokens": [], "recalled": False},
            quiet=quiet,
            cover_index=bytes([case]) * 32,
        )


def _cases(store: Store, *record_ids: int, code: str = CODE) -> list[int]:
    with store.read() as tx:
        return [r.request_id[0] for r in recalls.releases_of_records(store, tx, code, record_ids)]


def test_all_cases_of_a_record_are_found_under_their_agreement_alone(store: Store) -> None:
    for case, record_id in ((1, 7), (2, 8), (3, 7), (4, 7)):
        _put(store, case, record_id)
    _put(store, 5, 7, code="CUS-47:police-ics2")
    assert _cases(store, 7) == [1, 3, 4]
    assert _cases(store, 9, 8, 7) == [2, 1, 3, 4]
    assert _cases(store, 7, code="CUS-47:police-ics2") == [5]
    assert _cases(store, *range(2_000)) == [1, 3, 4, 2]


@pytest.mark.parametrize("gone", [1, 2, 3])
def test_a_release_that_goes_leaves_no_gap_behind_which_others_are_missed(store: Store, gone: int) -> None:
    for case in (1, 2, 3):
        _put(store, case, 7, until_ms=10 if case == gone else 100)
    with store.write() as tx:
        assert recalls.drop_releases(store, tx, 10) == [("ics2", bytes([gone]) * 16)]
    assert sorted(_cases(store, 7)) == [case for case in (1, 2, 3) if case != gone]
    _put(store, 4, 7)
    assert sorted(_cases(store, 7)) == sorted({1, 2, 3, 4} - {gone})


def test_several_releases_of_one_record_go_at_once(store: Store) -> None:
    for case in (1, 2, 3):
        _put(store, case, 7, until_ms=10 * case)
    with store.write() as tx:
        assert len(recalls.drop_releases(store, tx, 20)) == 2
    assert _cases(store, 7) == [3]
    with store.write() as tx:
        assert len(recalls.drop_releases(store, tx, 30)) == 1
    assert _cases(store, 7) == []


@pytest.mark.parametrize(
    "gone", list(itertools.combinations(range(1, 5), 2)) + list(itertools.combinations(range(1, 5), 3))
)
def test_whichever_releases_of_a_record_go_at_once_the_others_are_found(store: Store, gone: tuple[int, ...]) -> None:
    for case in range(1, 5):
        _put(store, case, 7, until_ms=10 if case in gone else 100)
    with store.write() as tx:
        assert len(recalls.drop_releases(store, tx, 10)) == len(gone)
    assert sorted(_cases(store, 7)) == sorted(set(range(1, 5)) - set(gone))


def test_a_cover_is_found_by_no_record_and_looks_like_any_other(store: Store) -> None:
    _put(store, 1, -1, quiet=True)
    _put(store, 2, 7, quiet=True)
    _put(store, 3, 7, quiet=True)
    assert _cases(store, 7) == [2, 3]
    with store.read() as tx:
        rows = tx.execute(sa.select(releases)).all()
    assert len({row.release_index for row in rows}) == 3
    assert {(len(row.release_index), len(row.sealed)) for row in rows} == {(32, len(rows[0].sealed))}
    with store.write() as tx:
        assert len(recalls.drop_releases(store, tx, 100)) == 3


def test_a_cursor_has_one_length(store: Store) -> None:
    lengths = set()
    for seq in (0, 7, 10**12):
        with store.write() as tx:
            assert recalls.cursor(store, tx, CODE) == (None if seq == 0 else {7: 0, 10**12: 7}[seq])
            recalls.set_cursor(store, tx, CODE, seq)
        with store.read() as tx:
            lengths.add(len(tx.execute(sa.text("SELECT sealed FROM release_cursors")).scalar_one()))
    assert len(lengths) == 1
