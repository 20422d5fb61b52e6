"""Samples of the data protection officer: nobody chooses them, and each draw and each grade is logged."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from connector_psi.audit.checkpoint import parse_checkpoint, parse_note
from connector_psi.audit.entries import Event, parse_leaf
from connector_psi.disclosure import Grade
from connector_psi.errors import (
    ApprovalMissingError,
    ConflictError,
    InputError,
    PurposeRefusedError,
    StorageError,
    UnavailableError,
)
from connector_psi.node.grading import rank
from connector_psi.node.service import Service
from connector_psi.pki import Role
from connector_psi.storage import samples, schema
from tests.simulation.disclosed import CHK, OBJ, after_a_disclosure, change, indexes, leaf_at, of, read
from tests.simulation.federation import Federation
from tests.simulation.prepared import Prepared

DPO, AUDITOR = of("ics2"), of("ics2", Role.AUDITOR)
DAY_S = 86_400.0


class Disclosed(Federation):
    case = b""


@pytest.fixture(scope="module")
def disclosed(tmp_path_factory: pytest.TempPathFactory) -> Prepared[Federation]:
    made, case = after_a_disclosure(tmp_path_factory.mktemp("disclosed") / "nodes", Disclosed)
    made.case = case  # type: ignore[attr-defined]
    return Prepared(made)


@pytest.fixture
def federation(disclosed: Prepared[Federation], tmp_path: Path) -> Iterator[Any]:
    made = disclosed.copy(tmp_path / "nodes")
    yield made
    made.close()


@pytest.fixture
def ics2(federation: Any) -> Service:
    found: Service = federation.services["ics2"]
    return found


def outcomes(service: Service) -> list[bytes]:
    """The exchanges that came to an outcome, by the leaves."""
    leaves = [parse_leaf(leaf_at(service, index)) for index in indexes(service, Event.CASE_OUTCOME, Event.RECEIPT)]
    return [leaf.request_id or b"" for leaf in leaves]


def test_those_are_drawn_that_the_root_of_the_newest_checkpoint_ranks_first(ics2: Service) -> None:
    signed = parse_checkpoint(parse_note(ics2.oversight.checkpoint()).text)
    ranked = sorted(outcomes(ics2), key=lambda request_id: rank(signed.root, request_id))
    assert ics2.grading.draw(DPO, 3) == 3
    assert {view.request_id for view in ics2.grading.queue(DPO)} == set(ranked[:3])
    # The same checkpoint: more of the same rank.
    assert ics2.grading.draw(DPO, 2) == 2
    assert {view.request_id for view in ics2.grading.queue(DPO)} == set(ranked[:5])
    (first, second) = read(ics2)
    assert first["operation"] == "sample drawn"
    assert first["request_ids"] == [request_id.hex() for request_id in ranked[:3]]
    assert second["request_ids"] == [request_id.hex() for request_id in ranked[3:5]]
    assert (first["checkpoint_size"], first["root"]) == (signed.size, signed.root.hex())
    assert (first["drawn"], first["actor"]) == (3, DPO.uri)


def test_the_rank_is_a_hash_of_root_and_request(ics2: Service) -> None:
    assert (
        rank(b"r" * 32, b"q" * 16) == hashlib.sha256(b"connector-psi/v1 case sample\n" + b"r" * 32 + b"q" * 16).digest()
    )


def test_everything_takes_part_whatever_the_agreement_and_nothing_is_drawn_twice(
    ics2: Service, federation: Any
) -> None:
    everything = outcomes(ics2)
    assert ics2.grading.draw(DPO, 100) == len(everything)
    found = ics2.grading.queue(DPO)
    assert {view.request_id for view in found} == set(everything)
    assert {view.agreement for view in found} >= {OBJ, CHK}
    assert {view.side for view in found if view.agreement == OBJ} == {"querier"}
    assert {(view.kind, view.graded, view.note, view.by) for view in found} == {("case", None, "", "")}
    for view in found:
        leaf = parse_leaf(leaf_at(ics2, view.outcome_index))
        assert (leaf.request_id, leaf.agreement, leaf.purpose) == (view.request_id, view.agreement, view.purpose)
    assert ics2.grading.draw(DPO, 100) == 0
    assert [said["drawn"] for said in read(ics2)] == [len(everything), 0]
    assert ics2.oversight.verify()["verified"]


def test_what_no_checkpoint_covers_takes_no_part(ics2: Service) -> None:
    last = max(indexes(ics2, Event.CASE_OUTCOME, Event.RECEIPT))
    with ics2.node.store.write() as tx:
        tx.execute(sa.delete(schema.log_checkpoints).where(schema.log_checkpoints.c.size > last))
    assert ics2.grading.draw(DPO, 100) < len(outcomes(ics2))
    with ics2.node.store.write() as tx:
        tx.execute(sa.delete(schema.log_checkpoints))
    with pytest.raises(UnavailableError, match="no checkpoint"):
        ics2.grading.draw(DPO, 100)


def test_what_was_erased_takes_no_part_and_what_was_said_of_it_goes_with_it(ics2: Service, federation: Any) -> None:
    assert ics2.grading.draw(DPO, 100)
    ics2.grading.grade(DPO, federation.case, Grade.THIN, "which port?")
    federation.clock.advance(4 * 366 * DAY_S)
    ics2.tick_retention()
    ics2.tick_log()
    assert ics2.grading.counts(DPO) == {"open": 0, "graded": 0}
    assert ics2.grading.draw(DPO, 100) == 0


def test_what_a_hold_keeps_stays_in_the_sample(ics2: Service, federation: Any) -> None:
    ics2.grading.draw(DPO, 100)
    due = parse_leaf(leaf_at(ics2, max(indexes(ics2, Event.RECEIPT)))).erase_after
    federation.clock.advance((due - federation.clock.now()).total_seconds() - DAY_S)
    until = (federation.clock.now()).date().replace(day=28)
    ics2.retention.place(
        DPO, procedure="P", until=max(until, federation.clock.now().date()), reason="R", request_id=federation.case
    )
    before = ics2.grading.counts(DPO)["open"]
    ics2.tick_retention()
    assert 0 < ics2.grading.counts(DPO)["open"] <= before
    assert federation.case in {view.request_id for view in ics2.grading.queue(DPO)}


def test_an_index_that_was_changed_draws_nothing(ics2: Service, federation: Any) -> None:
    (index,) = indexes(ics2, Event.RECEIPT)
    change(ics2, schema.log_index, schema.log_index.c.idx == index, request_id=bytes(16))
    with pytest.raises(StorageError):
        ics2.grading.draw(DPO, 100)
    assert ics2.grading.counts(DPO) == {"open": 0, "graded": 0}
    assert read(ics2) == []


@pytest.mark.parametrize("count", [0, -1, 101])
def test_a_sample_is_of_1_to_100(ics2: Service, count: int) -> None:
    with pytest.raises(InputError):
        ics2.grading.draw(DPO, count)


def test_samples_are_drawn_and_graded_by_data_protection_officers_and_read_by_auditors_too(
    ics2: Service, federation: Any
) -> None:
    ics2.grading.draw(DPO, 100)
    for role in Role:
        who = of("ics2", role)
        if role is not Role.DPO:
            with pytest.raises(PurposeRefusedError):
                ics2.grading.draw(who, 1)
            with pytest.raises(PurposeRefusedError):
                ics2.grading.grade(who, federation.case, Grade.ADEQUATE)
        if role not in {Role.DPO, Role.AUDITOR}:
            for call in (ics2.grading.queue, ics2.grading.counts):
                with pytest.raises(PurposeRefusedError):
                    call(who)


def test_an_auditor_sees_no_notes_and_nothing_that_the_owner_gets_no_notice_of(ics2: Service, federation: Any) -> None:
    ics2.grading.draw(DPO, 100)
    ics2.grading.grade(DPO, federation.case, Grade.INADEQUATE, "nothing is said")
    assert [view.agreement for view in ics2.grading.queue(AUDITOR, state="")] == [OBJ]
    (seen,) = ics2.grading.queue(AUDITOR, state="graded")
    assert (seen.graded, seen.note, seen.by) == (Grade.INADEQUATE, "", "")
    assert ics2.grading.counts(AUDITOR) == {"open": 0, "graded": 1}
    (own,) = ics2.grading.queue(DPO, state="graded")
    assert (own.note, own.by) == ("nothing is said", DPO.uri)
    # N.SIS is the querier there: its auditor sees those, covers as any other.
    sis = federation.services["sis"]
    sis.grading.draw(of("sis"), 100)
    assert CHK in {view.agreement for view in sis.grading.queue(of("sis", Role.AUDITOR))}


def test_a_grade_is_logged_and_may_be_given_again(ics2: Service, federation: Any) -> None:
    ics2.grading.draw(DPO, 100)
    total = len(ics2.grading.queue(DPO))
    ics2.grading.grade(DPO, federation.case, Grade.THIN, "which port?")
    federation.clock.advance(60)
    view = ics2.grading.grade(DPO, federation.case, Grade.ADEQUATE)
    assert (view.graded, view.note, view.graded_ms) == (Grade.ADEQUATE, "", ics2.node.now_ms())
    assert ics2.grading.counts(DPO) == {"open": total - 1, "graded": 1}
    assert federation.case not in {each.request_id for each in ics2.grading.queue(DPO)}
    _, first, second = read(ics2)
    assert (first["operation"], first["grade"], first["note"]) == ("justification graded", "thin", "which port?")
    assert (second["grade"], second["note"], second["actor"]) == ("adequate", "", DPO.uri)
    last = indexes(ics2, Event.LOG_READ)[-1]
    assert parse_leaf(leaf_at(ics2, last)).request_id == federation.case


def test_a_grade_that_is_not_adequate_says_why(ics2: Service, federation: Any) -> None:
    ics2.grading.draw(DPO, 100)
    for grade in (Grade.THIN, Grade.INADEQUATE):
        for note in ("", "  \n"):
            with pytest.raises(ApprovalMissingError):
                ics2.grading.grade(DPO, federation.case, grade, note)
    for grade in Grade:
        with pytest.raises(InputError):
            ics2.grading.grade(DPO, federation.case, grade, "x" * 4_001)
    assert len(read(ics2)) == 1
    ics2.grading.grade(DPO, federation.case, Grade.THIN, "x" * 4_000)


def test_what_was_not_drawn_is_not_graded(ics2: Service, federation: Any) -> None:
    with pytest.raises(PurposeRefusedError, match="no such sample"):
        ics2.grading.grade(DPO, federation.case, Grade.ADEQUATE)
    assert read(ics2) == []


def test_of_two_exchanges_of_one_id_the_agreement_says_which(ics2: Service, federation: Any) -> None:
    ics2.grading.draw(DPO, 100)
    silent = next(view for view in ics2.grading.queue(DPO) if view.agreement == CHK)
    table = schema.samples
    change(ics2, table, table.c.outcome_index == silent.outcome_index, request_id=federation.case)
    with pytest.raises(ConflictError):
        ics2.grading.grade(DPO, federation.case, Grade.ADEQUATE)
    ics2.grading.grade(DPO, federation.case, Grade.ADEQUATE, agreement=CHK)
    assert [view.agreement for view in ics2.grading.queue(DPO, state="graded")] == [CHK]


def test_the_queue_has_pages(ics2: Service) -> None:
    ics2.grading.draw(DPO, 100)
    everything = [view.request_id for view in ics2.grading.queue(DPO)]
    pages = [ics2.grading.queue(DPO, limit=2, offset=offset) for offset in range(0, len(everything) + 1, 2)]
    assert [view.request_id for page in pages for view in page] == everything
    for wrong in ({"limit": 0}, {"offset": -1}, {"state": "drawn"}):
        with pytest.raises(InputError):
            ics2.grading.queue(DPO, **wrong)


def test_a_draw_that_fails_leaves_neither_samples_nor_an_entry(ics2: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(ics2.oversight.leaves(0, 256))

    def failing(*_: Any, **__: Any) -> None:
        raise UnavailableError("full")

    monkeypatch.setattr(ics2.node.log, "append", failing)
    with pytest.raises(UnavailableError):
        ics2.grading.draw(DPO, 100)
    monkeypatch.undo()
    assert ics2.grading.counts(DPO) == {"open": 0, "graded": 0}
    assert len(ics2.oversight.leaves(0, 256)) == size


def test_what_is_said_of_a_sample_is_sealed(ics2: Service, federation: Any) -> None:
    ics2.grading.draw(DPO, 100)
    ics2.grading.grade(DPO, federation.case, Grade.THIN, "a note in clear")
    with ics2.node.store.read() as tx:
        rows = repr(tx.execute(sa.select(schema.samples)).all())
        (row,) = samples.samples_of(ics2.node.store, tx, federation.case)
    assert "note in clear" not in rows
    assert "thin" not in rows
    assert row.payload["note"] == "a note in clear"
    assert "note in clear" not in repr(row)
