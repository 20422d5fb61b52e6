"""Reports over what nodes really log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from connector_psi.audit.entries import Event, parse_leaf
from connector_psi.disclosure import CaseState
from connector_psi.domain.records import IdentifierType
from connector_psi.node.service import Service
from connector_psi.pack.matrix import sheets
from connector_psi.pki import Role
from connector_psi.reports import anomalies, charts, records
from connector_psi.reports.anomalies import Kind
from connector_psi.reports.entry import Entry
from connector_psi.reports.records import SMALL, WITHHELD, Controller, Measure, Regime
from tests.simulation.casework import ask_about_sought
from tests.simulation.federation import Federation, alert, declaration, person

BOX = (IdentifierType.CONTAINER, "CSQU3054383")
# Consecutive numbers with their check digits.
IN_SEQUENCE = ("MSCU1234566", "MSCU1234571", "MSCU1234587", "MSCU1234592", "MSCU1234606")
START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    """A case that was disclosed, a match that was dismissed, a search for a data subject, and a recall."""
    made = Federation(tmp_path / "nodes", start=START)
    ics2, sis = made.services["ics2"], made.services["sis"]
    other = (IdentifierType.CONTAINER, "TGHU1234567")
    ics2.registration.register([declaration("M0", other), declaration("M1", BOX)], "test")
    ics2.registration.register(
        [declaration(f"T{n}", (IdentifierType.CONTAINER, each)) for n, each in enumerate(IN_SEQUENCE)], "test"
    )
    sis.registration.register([alert("DE1", BOX)], "test")
    made.settle()
    request_id = ask_about_sought(made)
    made.settle()
    sis.received.decide(request_id, person("sis"), "it is the sought box", approve=True)
    made.settle(rounds=20)
    assert ics2.cases.get(request_id).row.state == CaseState.DISCLOSED
    sis.registration.register([alert("DE2", other)], "test")
    made.clock.advance(36 * 3600)
    made.settle()
    (match,) = [row for row in ics2.review.list() if row.payload["record_ref"] == "M0"]
    ics2.review.decide(match.match_id, person("ics2"), "another box", confirm=False)
    ics2.subjects.search("container", BOX[1], person("ics2", Role.DPO, "dpo1"))
    sis.registration.withdraw(alert("DE1", BOX).source, "DE1", "entered by mistake", "test")
    made.settle()
    yield made
    made.close()


def entries(service: Service) -> list[Entry]:
    node = service.node
    with node.store.read() as tx:
        leaves = node.entries.read_leaves(tx, 0, node.entries.size(tx))
        return [Entry(n, parse_leaf(raw), node.log.open_body(tx, n)) for n, raw in enumerate(leaves)]


def test_reports_of_real_logs(federation: Federation) -> None:
    ics2, sis = federation.services["ics2"], federation.services["sis"]
    here, there = entries(ics2), entries(sis)
    _check_anomalies(here, there)
    _check_statistics(here, there)
    report = records.verification_report(ics2.oversight.verify(), here, START, START + timedelta(days=181), erased={})
    assert report.verified
    assert report.size == len(here)
    assert sum(report.entries.values()) == len(here)
    assert report.entries["REVIEW"] == 2
    assert len(report.policy_changes) == report.entries["POLICY_CHANGE"] > 1
    assert "Recalls that came in and were not acknowledged: 1." in report.open_items
    assert "REVIEW" in records.encode_csv(report)
    made = records.processing_records(
        sheets([sis.node.policy.pack]), there, Controller("N.SIS", "sis@example.org", Regime.LED)
    )
    assert {each.code: bool(each.used) for each in made}["SIS-OBJ"]


def _check_anomalies(here: list[Entry], there: list[Entry]) -> None:
    found = anomalies.find(here)
    run = found[0]
    assert run.measured["run"] == len(IN_SEQUENCE)
    assert all(here[index].leaf.event is Event.CONSULT for index in run.entries)
    assert not any(each in repr(found) for each in (*IN_SEQUENCE, "CSQU", "MSCU", "M1"))
    assert {each.kind for each in found} == {Kind.SEQUENTIAL_IDENTIFIERS}
    assert anomalies.find(there) == []


def _check_statistics(here: list[Entry], there: list[Entry]) -> None:
    made = records.statistics(here, 2026)
    rows = {row.measure: row.year for row in made.rows if row.line.agreement == "SIS-OBJ:ics2-sis"}
    assert rows[Measure.QUERIES] in {SMALL, *range(10, 100)}
    for measure in (Measure.CONFIRMED, Measure.DISMISSED, Measure.DISCLOSED, Measure.RECALLS_RECEIVED):
        assert rows[measure] == SMALL
    assert [row.year for row in made.rows if row.measure is Measure.SUBJECT_REQUESTS] == [SMALL]
    # Silent agreements fill slots with cases that nobody opened.
    counted = _counted(here)
    assert [counted[m] for m in (Measure.CONFIRMED, Measure.DISMISSED, Measure.CASES, Measure.DISCLOSED)] == [1] * 4
    assert counted[Measure.RECALLS_RECEIVED] == counted[Measure.SUBJECT_REQUESTS] == 1
    at_owner = _counted(there)
    assert [at_owner[m] for m in (Measure.CASES, Measure.DISCLOSED, Measure.RECALLS_SENT)] == [1] * 3
    assert WITHHELD in records.encode_csv(made)
    queries = next(row for row in made.rows if row.measure is Measure.QUERIES)
    assert charts.months("Queries", {queries.line.agreement: queries.months}).startswith("<svg")
    names = [row.measure.value for row in made.rows]
    assert "under 10" in charts.bars("2026", names, [row.year for row in made.rows], unit="entries")


def _counted(log: list[Entry]) -> Counter[Measure]:
    return Counter(records.measure_of(entry) for entry in log if entry.leaf.agreement in {None, "SIS-OBJ:ics2-sis"})
