"""Where the owner gets no notice, nothing at it differs between a run with a hit and one without: R8 of the silent agreements.

Two federations of one seed and one clock. In one of them an alert under Article 36 names the box of a declaration, N.SIS confirms the match,
opens a case and gets its disclosure; in the other the alert names another box. Compared is everything that crossed the owner's peer port,
every table of its database, every leaf of its log, what its people can list, its status and its own log lines.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from connector_psi.audit.entries import Event, parse_leaf
from connector_psi.domain.records import IdentifierType
from connector_psi.errors import PurposeRefusedError
from connector_psi.pki import Role
from connector_psi.rpc.v1 import disclosure_pb2
from connector_psi.storage import schema
from tests.privacy.staging import container, leaves_of
from tests.privacy.wired import Message, Wired
from tests.simulation.federation import alert, declaration, person
from tests.simulation.lines import recorded_lines

CODE = "SIS-CHK:sis-ics2"
START = datetime.now(tz=UTC).replace(second=0, microsecond=0)
"""Certificates are checked against the time of day; both runs begin at the same one."""
JUSTIFICATION = "the box is under a discreet check and arrives this week"


@dataclass
class Run:
    """What one run left behind."""

    federation: Wired
    events: Sequence[Mapping[str, Any]]
    outcome: str


def _play(root: Path, *, hit: bool) -> Run:
    with recorded_lines() as events:
        federation = Wired(root, "silent", ("ics2", "sis"), START)
        ics2, sis = federation.services["ics2"], federation.services["sis"]
        boxes = [(IdentifierType.CONTAINER, container(n)) for n in (1, 2, 3)]
        ics2.registration.register([declaration("M1", boxes[0], route="CO"), declaration("M2", boxes[1])], "test")
        sis.registration.register([alert("DE36", boxes[0 if hit else 2], category="sis.36")], "test")
        federation.settle()
        for match in sis.review.list():
            sis.review.decide(match.match_id, person("sis"), "the same box", confirm=True)
            sis.asked.open(
                match.match_id,
                person("sis"),
                purpose="cpsi:DiscreetInquiryOrSpecificCheck",
                legal_basis="2018/1862:36",
                case_reference="SIRENE-2026-1",
                justification=JUSTIFICATION,
            )
        assert bool(sis.cases.list()) is hit
        federation.settle(rounds=23, step_s=10)
        found = sis.cases.list()
        # What was disclosed changes, and is withdrawn; one recall leaves at each slot, whether it is about something.
        ics2.registration.register([declaration("M1", boxes[0], route="FR")], "test")
        told = []
        for step in range(3):
            federation.clock.advance(3600)
            federation.settle(rounds=4)
            told += [view.row.payload["outcome"] for view in sis.recalls.list() if view.row.state == "open"]
            for view in sis.recalls.list(("open",)):
                sis.recalled.acknowledge(view.row.recall_id, person("sis"))
            if step == 0:
                ics2.registration.withdraw(declaration("M1").source, "M1", "invalidated", "test")
        assert told == (["DISCLOSED", "NOT_DISCLOSED"] if hit else [])
        state = sis.cases.list()[0].row.state if hit else ""
        assert state == ("expired" if hit else "")
    return Run(federation, [event for event in events if event], found[0].row.state if found else "")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Run, Run]]:
    both = _play(tmp_path_factory.mktemp("hit"), hit=True), _play(tmp_path_factory.mktemp("miss"), hit=False)
    yield both
    for run in both:
        run.federation.close()


def test_the_hit_was_disclosed_to_n_sis_and_nothing_was_in_the_other_run(runs: tuple[Run, Run]) -> None:
    hit, miss = runs
    assert (hit.outcome, miss.outcome) == ("disclosed", "")
    (case,) = hit.federation.services["sis"].cases.list()
    shown = hit.federation.services["sis"].cases.get(case.row.request_id)
    # Disclosed, replaced and taken back since, by recalls that a person at N.SIS acknowledged.
    assert shown.row.payload["erased"]["fields"] == ["mrn", "route"]


def test_a_recall_leaves_at_every_slot_and_has_one_size_whatever_it_is_about(runs: tuple[Run, Run]) -> None:
    lengths = []
    for run in runs:
        found = []
        for m in run.federation.messages():
            if (m.owner, m.method, m.direction) != ("sis", "Recall", "request"):
                continue
            recall = disclosure_pb2.RecallRequest.FromString(m.data)
            # The proof grows with the log of the owner, which is the same in both.
            recall.ClearField("proof")
            found.append((recall.agreement, recall.ByteSize()))
        lengths.append(Counter(found))
    assert lengths[0] == lengths[1]
    assert {code for code, _ in lengths[0]} >= {CODE}
    assert min(lengths[0].values()) >= 3


def test_the_owner_s_people_see_no_recall_in_either_run(runs: tuple[Run, Run]) -> None:
    hit, miss = (run.federation.services["ics2"] for run in runs)
    assert hit.recalls.list() == miss.recalls.list() == []
    hits, misses = (run.federation.services["sis"].recalls.list() for run in runs)
    assert (len(hits), misses) == (2, [])
    for view in hits:
        with pytest.raises(PurposeRefusedError, match="no such recall"):
            hit.recalls.get(view.row.recall_id)
        with pytest.raises(PurposeRefusedError, match="no such case"):
            hit.recalling.send(view.row.case_id, person("ics2", Role.DPO, "dpo1"), "why", withdraw=True)


def _shape_of_message(message: Message) -> tuple[str, str, str, int]:
    """Method, direction, agreement and length; of an outcome the length without its proof, which grows with the log."""
    agreement, length = "", len(message.data)
    if message.direction == "request" and message.method in {"OpenCase", "GetOutcome"}:
        kind = disclosure_pb2.OpenCaseRequest if message.method == "OpenCase" else disclosure_pb2.GetOutcomeRequest
        agreement = kind.FromString(message.data).agreement
    elif message.method == "GetOutcome":
        outcome = disclosure_pb2.GetOutcomeResponse.FromString(message.data)
        outcome.ClearField("proof")
        length = outcome.ByteSize()
    return message.method, message.direction, agreement, length


def test_what_crosses_the_network_has_the_same_shape(runs: tuple[Run, Run]) -> None:
    """The cases of one slot, of four agreements here, go out in an order that is random in both."""
    whole, ordered = [], []
    for run in runs:
        shapes = [_shape_of_message(m) for m in run.federation.messages() if m.owner == "ics2"]
        whole.append(Counter(shapes))
        ordered.append([(method, direction, length) for method, direction, _, length in shapes])
    assert whole[0] == whole[1]
    assert ordered[0] == ordered[1]
    assert sum(method == "OpenCase" for method, _, _ in ordered[0]) >= 2 * 4, "covers left at every slot"


ELSEWHERE = {"peers", "log_leaves"}
"""Not compared here: the address of a peer holds a port that the system chose, and leaves are compared by content below."""


def _shape(run: Run, table: sa.Table) -> list[tuple[object, ...]]:
    """Every row of a table: what can be read as it is, of everything else how long it is."""
    # Where a leaf of a slot stands among the others of that slot is random, and so is a byte of the length of the
    # signatures of the people who signed the policy.
    left_out = {"request_id", "leaf_index", "signatures", *({"idx"} if table is schema.log_index else ())}
    columns = [column for column in table.columns if column.name not in left_out]
    with run.federation.services["ics2"].node.store.read() as tx:
        rows = tx.execute(sa.select(*columns)).all()
    return sorted((tuple(len(value) if isinstance(value, bytes) else value for value in row) for row in rows), key=repr)


@pytest.mark.parametrize("name", sorted(set(schema.metadata.tables) - ELSEWHERE))
def test_no_table_of_the_owner_tells_one_run_from_the_other(runs: tuple[Run, Run], name: str) -> None:
    table = schema.metadata.tables[name]
    hit, miss = (_shape(run, table) for run in runs)
    assert hit == miss
    if name == "cases":
        assert hit


RANDOM_OF_A_LEAF = {
    "request_id",
    "parent_id",
    "batch_commitment",
    "source_commitment",
    "actor_commitment",
    "body_commit",
    "manifest_hash",
}


def test_no_leaf_of_the_owner_tells_one_run_from_the_other(runs: tuple[Run, Run]) -> None:
    readable = [
        [
            {key: value for key, value in json.loads(raw).items() if key not in RANDOM_OF_A_LEAF}
            for raw, _ in leaves_of(run.federation, "ics2")
        ]
        for run in runs
    ]
    for leaves in readable:
        # Those of one instant, the cases of one slot, come in a random order.
        leaves.sort(key=lambda leaf: (leaf["ts"], leaf["event"], leaf["agreement"] or ""))
    assert readable[0] == readable[1]
    events = [parse_leaf(raw).event for raw, _ in leaves_of(runs[0].federation, "ics2")]
    assert events.count(Event.CASE_OPEN) == events.count(Event.CASE_OUTCOME) >= 8


def test_the_owner_s_people_see_no_case_in_either_run(runs: tuple[Run, Run]) -> None:
    hit, miss = (run.federation.services["ics2"] for run in runs)
    assert hit.status() == miss.status()
    assert hit.cases.list() == miss.cases.list() == []
    assert hit.review.list() == miss.review.list() == []
    (case,) = runs[0].federation.services["sis"].cases.list()
    with pytest.raises(PurposeRefusedError, match="no such case"):
        hit.cases.get(case.row.request_id)
    for approve in (True, False):
        with pytest.raises(PurposeRefusedError, match="no such case"):
            hit.received.decide(case.row.request_id, person("ics2", Role.SUPERVISOR), "why", approve=approve)


def test_the_lines_that_the_nodes_write_are_the_same(runs: tuple[Run, Run]) -> None:
    hit, miss = ([event["event"] for event in run.events] for run in runs)
    assert hit == miss


def test_covers_are_shown_to_nobody_at_n_sis_either(runs: tuple[Run, Run]) -> None:
    hit, miss = (run.federation.services["sis"] for run in runs)
    assert len(hit.cases.list()) == 1
    assert miss.cases.list() == []
    assert "querier.pending" not in miss.status()["cases"]  # type: ignore[operator]  # JSON


def test_a_slot_has_the_same_number_of_cases_whatever_waits(runs: tuple[Run, Run]) -> None:
    """Also in the slot in which the real one left, which is as long, as old and as silent as a cover."""
    opened = [
        [
            m.data
            for m in run.federation.messages()
            if (m.owner, m.method, m.direction) == ("ics2", "OpenCase", "request")
        ]
        for run in runs
    ]
    assert {len(data) for data in opened[0]} == {len(data) for data in opened[1]} == {16_384}
    assert sum(JUSTIFICATION.encode() in data for data in opened[0]) == 1
    assert not any(JUSTIFICATION.encode() in data for data in opened[1])
