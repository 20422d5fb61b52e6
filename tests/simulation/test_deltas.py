"""Changes of an owner's records reach a querier's live records by deltas, without a query, whichever came first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from connector_psi.audit.entries import Event, parse_leaf
from connector_psi.domain.identifiers import normalise
from connector_psi.domain.records import IdentifierType, SourceSystem
from connector_psi.encoding import deltas
from connector_psi.errors import ProtocolError, UnavailableError
from connector_psi.node.ports import DeltaAnswer
from connector_psi.storage import owned, queried
from tests.simulation.faults import AGREEMENT
from tests.simulation.federation import DirectOwner, Federation, alert, declaration
from tests.simulation.prepared import Prepared

SYSTEM = "urn:connector-psi:person:ics2:system:feed1"
BOXES = [
    (IdentifierType.CONTAINER, normalise(IdentifierType.CONTAINER, f"TGHU{n:06d}", complete_check_digit=True))
    for n in range(100001, 100040)
]
VIN = (IdentifierType.VIN, "WVWZZZ1JZ3W386752")


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Prepared[Federation]:
    made = Federation(tmp_path_factory.mktemp("begun") / "nodes")
    made.empty_deltas = True
    made.settle(2)
    return Prepared(made)


@pytest.fixture
def federation(begun: Prepared[Federation], tmp_path: Path) -> Iterator[Federation]:
    made = begun.copy(tmp_path / "nodes")
    yield made
    made.close()


def matches(federation: Federation, state: str = "") -> list[tuple[str, tuple[str, ...]]]:
    rows = federation.services["ics2"].review.list(state=state)
    return sorted((row.payload["record_ref"], tuple(row.payload["types"])) for row in rows)


def register(federation: Federation, code: str, *records: object) -> None:
    federation.services[code].registration.register(records, SYSTEM)  # type: ignore[arg-type]


def epoch_row(federation: Federation) -> owned.EpochRow:
    node = federation.services["sis"].node
    with node.store.read() as tx:
        row = owned.newest_published(tx, AGREEMENT)
    assert row is not None
    return row


def taken(federation: Federation) -> queried.TakenSet:
    with federation.services["ics2"].node.store.read() as tx:
        found = queried.current_set(tx, AGREEMENT)
    assert found is not None
    return found


def queries(federation: Federation) -> int:
    return sum(query.agreement == AGREEMENT for query in federation.queries)


def test_an_alert_finds_a_declaration_that_was_lodged_before_without_a_query(federation: Federation) -> None:
    register(federation, "ics2", declaration("26DE01", BOXES[0]), declaration("26DE02", BOXES[1]))
    federation.settle()
    asked, epoch = queries(federation), epoch_row(federation).epoch
    assert asked > 0
    register(federation, "sis", alert("S1", BOXES[0]))
    federation.settle(1)
    assert matches(federation) == [("26DE01", ("container",))]
    assert queries(federation) == asked
    assert epoch_row(federation).epoch == epoch


def test_a_declaration_finds_an_alert_that_came_in_a_delta(federation: Federation) -> None:
    register(federation, "sis", alert("S1", BOXES[0]))
    federation.settle(1)
    register(federation, "ics2", declaration("26DE01", BOXES[0]))
    federation.settle(1)
    assert matches(federation) == [("26DE01", ("container",))]


def test_withdrawal_expiry_and_amendment_follow(federation: Federation) -> None:
    register(federation, "sis", alert("S1", BOXES[0]), alert("S2", BOXES[1]))
    register(federation, "ics2", declaration("26DE01", BOXES[0]), declaration("26DE02", BOXES[1], VIN))
    federation.settle()
    assert matches(federation) == [("26DE01", ("container",)), ("26DE02", ("container",))]
    federation.services["sis"].registration.withdraw(SourceSystem.SIS, "S1", "found", SYSTEM)
    # The other one is about a car now, and the car was declared as well.
    register(federation, "sis", alert("S2", VIN))
    federation.settle(1)
    assert matches(federation) == [("26DE02", ("vin", "vin_last8"))]
    register(federation, "sis", alert("S1", BOXES[0]))
    federation.settle(1)
    assert matches(federation) == [("26DE01", ("container",)), ("26DE02", ("vin", "vin_last8"))]


def test_an_edit_that_keeps_the_tokens_publishes_no_row(federation: Federation) -> None:
    register(federation, "sis", alert("S1", BOXES[0]))
    register(federation, "ics2", declaration("26DE01", BOXES[0]))
    federation.settle()
    before = epoch_row(federation)
    (match,) = federation.services["ics2"].review.list()
    changed = alert("S1", BOXES[0])
    fields = {**changed.fields}
    fields.pop(next(iter(fields)))
    register(federation, "sis", replace(changed, fields=fields))
    federation.settle(1)
    after = epoch_row(federation)
    assert after.tokens == before.tokens == 1
    assert (after.change_seq or 0) > (before.change_seq or 0)
    (still,) = federation.services["ics2"].review.list()
    assert still.match_id == match.match_id


def test_a_hundred_records_of_one_token_come_and_go_one_by_one(federation: Federation) -> None:
    register(federation, "sis", *(alert(f"S{n}", BOXES[0]) for n in range(5)))
    federation.settle(1)
    register(federation, "ics2", declaration("26DE01", BOXES[0]))
    federation.settle(1)
    assert len(matches(federation)) == 5
    for n in (3, 0):
        federation.services["sis"].registration.withdraw(SourceSystem.SIS, f"S{n}", "found", SYSTEM)
    register(federation, "sis", *(alert(f"T{n}", BOXES[0]) for n in range(4)))
    federation.settle(1)
    assert len(matches(federation)) == 7
    federation.close("sis")
    federation.close("ics2")
    federation.open("sis")
    federation.open("ics2")
    register(federation, "sis", alert("U1", BOXES[0]))
    federation.settle(1)
    assert len(matches(federation)) == 8


def test_sizes_and_number_of_deltas_do_not_tell_whether_something_changed(federation: Federation) -> None:
    sizes = []
    for change in (0, 1, 5, 0):
        register(federation, "sis", *(alert(f"A{change}{n}", BOXES[n + 1]) for n in range(change)))
        if change == 5:
            federation.services["sis"].registration.withdraw(SourceSystem.SIS, "A10", "found", SYSTEM)
        seq = epoch_row(federation).delta_seq
        federation.clock.advance(1)
        federation.services["sis"].tick_deltas()
        federation.services["sis"].tick_log()
        made = list(federation.services["sis"].deltas.answers("ics2", AGREEMENT, epoch_row(federation).epoch, seq + 1))
        sizes.append([len(answer.delta) for answer in made])
    assert sizes == [sizes[0]] * 4
    assert len(sizes[0]) == 1


def test_deltas_come_on_a_clock_and_each_is_in_the_log_first(federation: Federation) -> None:
    node = federation.services["sis"].node
    before = epoch_row(federation).delta_seq
    assert federation.services["sis"].tick_deltas() == 0
    federation.clock.advance(1)
    federation.services["sis"].tick_deltas()
    row = epoch_row(federation)
    assert row.delta_seq == before + 1
    with node.store.read() as tx:
        leaves = [parse_leaf(leaf) for leaf in node.read_leaves(tx, 0, node.entries.size(tx))]
    assert sum(leaf.event is Event.SET_PUBLISH and leaf.manifest_hash == row.delta_hash for leaf in leaves) == 1


def test_many_changes_take_several_links_and_all_are_found(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connector_psi.node.deltas.CHANGES_A_LINK", 7)
    register(federation, "ics2", *(declaration(f"26DE{n:02}", box) for n, box in enumerate(BOXES)))
    federation.settle(1)
    register(federation, "sis", *(alert(f"S{n}", box) for n, box in enumerate(BOXES)))
    federation.settle(1)
    assert len(matches(federation)) == len(BOXES)
    for n in range(len(BOXES)):
        federation.services["sis"].registration.withdraw(SourceSystem.SIS, f"S{n}", "found", SYSTEM)
    federation.settle(1)
    assert matches(federation) == []


class Meddler:
    """Deltas as an owner could make them that does not keep to the protocol."""

    def __init__(self, federation: Federation, patch: pytest.MonkeyPatch) -> None:
        self.change = lambda answers: answers
        own = DirectOwner.get_deltas

        def get_deltas(port: DirectOwner, agreement: str, epoch: int, from_seq: int) -> Iterator[DeltaAnswer]:
            yield from self.change(list(own(port, agreement, epoch, from_seq)))

        patch.setattr(DirectOwner, "get_deltas", get_deltas)


def test_a_gap_a_repeat_and_another_signature_are_refused_and_what_came_before_counts(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    meddler = Meddler(federation, monkeypatch)
    ics2, sis = federation.services["ics2"], federation.services["sis"]
    for _ in range(3):
        federation.clock.advance(1)
        sis.tick_deltas()
        sis.tick_log()
    start = taken(federation).delta_seq
    for change in (
        lambda answers: answers[1:],
        lambda answers: [answers[0], answers[0]],
        lambda answers: [answers[0], answers[2]],
        lambda answers: [DeltaAnswer(answers[0].delta, answers[1].signature, answers[0].proof)],
        lambda answers: [DeltaAnswer(answers[0].delta, answers[0].signature, answers[1].proof)],
        lambda answers: [DeltaAnswer(answers[0].delta[:-1], answers[0].signature, answers[0].proof)],
    ):
        meddler.change = change
        with pytest.raises(ProtocolError):
            ics2.querying.take_deltas(AGREEMENT)
        assert taken(federation).delta_seq == start
    meddler.change = lambda answers: answers
    assert ics2.querying.take_deltas(AGREEMENT) == 3


def test_a_delta_that_repeats_a_lookup_or_removes_none_of_the_set_is_refused(federation: Federation) -> None:
    register(federation, "sis", alert("S1", BOXES[0]))
    federation.settle(1)
    ics2 = federation.services["ics2"]
    node, now = federation.services["sis"].node, taken(federation)
    (first, *_) = federation.services["sis"].deltas.answers("ics2", AGREEMENT, now.epoch, 1)
    known = deltas.parse_delta(first.delta)
    mapped = ics2.querying._taking.mapped(now)
    fresh = deltas.sort_rows(node.random.bytes(len(known.rows)))
    for rows, removed in (
        (known.rows, known.removed),
        (fresh, b"".join(sorted(node.random.bytes(16) for _ in range(8)))),
        (fresh, known.removed),
    ):
        bad = deltas.Delta(AGREEMENT, now.epoch, now.delta_seq + 1, now.delta_hash, 1, rows, removed)
        with pytest.raises(ProtocolError):
            mapped.view.apply(bad)


def test_what_is_kept_of_tokens_goes_when_their_record_leaves(federation: Federation) -> None:
    register(federation, "ics2", declaration("26DE01", BOXES[0], BOXES[1]), declaration("26DE02", BOXES[2]))
    federation.settle(1)
    ics2 = federation.services["ics2"]
    assert ics2.querying.live_tokens(AGREEMENT) == 3
    assert ics2.tick_live_tokens() == 0
    register(federation, "ics2", declaration("26DE01", BOXES[0], BOXES[3]))
    ics2.registration.withdraw(SourceSystem.ICS2, "26DE02", "invalidated", SYSTEM)
    federation.settle(1)
    folder = ics2.node.layout.taken_set(AGREEMENT, taken(federation).epoch)
    before = (folder / "live-0").read_bytes()
    assert ics2.querying.live_tokens(AGREEMENT) == 5
    assert ics2.tick_live_tokens() == 3
    assert ics2.querying.live_tokens(AGREEMENT) == 2
    assert before
    assert not (folder / "live-0").exists()
    register(federation, "sis", alert("S1", BOXES[3]), alert("S2", BOXES[0]), alert("S3", BOXES[2]))
    federation.settle(1)
    assert matches(federation) == [("26DE01", ("container",))] * 2


def test_what_was_taken_survives_a_restart_and_a_damaged_file_is_noticed(federation: Federation) -> None:
    register(federation, "sis", alert("S1", BOXES[0]))
    register(federation, "ics2", declaration("26DE01", BOXES[0]), declaration("26DE02", BOXES[1]))
    federation.settle()
    epoch = taken(federation).epoch
    federation.close("ics2")
    federation.open("ics2")
    federation.services["sis"].registration.withdraw(SourceSystem.SIS, "S1", "found", SYSTEM)
    register(federation, "sis", alert("S2", BOXES[1]))
    federation.settle(1)
    assert matches(federation) == [("26DE02", ("container",))]
    for name in ("deltas", "live-0"):
        federation.close("ics2")
        path = federation.root / "ics2" / "data" / "taken" / AGREEMENT.replace(":", "_") / str(epoch) / name
        raw = bytearray(path.read_bytes())
        raw[len(raw) // 2] ^= 1
        path.write_bytes(raw)
        ics2 = federation.open("ics2")
        with pytest.raises(UnavailableError):
            ics2.querying.take_newest(AGREEMENT)
        federation.settle(2)
        assert matches(federation) == [("26DE02", ("container",))]
        register(federation, "sis", alert(f"S3 {name}", BOXES[0]))
        federation.settle(1)
        assert len(matches(federation)) == 2
        federation.services["sis"].registration.withdraw(SourceSystem.SIS, f"S3 {name}", "found", SYSTEM)
        federation.settle(1)
