"""Reports as a data protection officer runs them: on a node after real cases, as text, JSON, CSV and a page."""

from __future__ import annotations

import csv
import io
import shutil
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from connector_psi.audit.entries import Event
from connector_psi.domain.records import IdentifierType
from tests.integration import live
from tests.simulation.casework import ask_about_sought
from tests.simulation.federation import Federation, alert, declaration, person

BOX = "CSQU3054383"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Customs after one disclosure; its node is not open."""
    made = Federation(tmp_path_factory.mktemp("reports") / "nodes")
    made.services["ics2"].registration.register([declaration("M1", (IdentifierType.CONTAINER, BOX))], "test")
    made.services["sis"].registration.register([alert("DE1", (IdentifierType.CONTAINER, BOX))], "test")
    made.settle()
    case = ask_about_sought(made)
    made.settle()
    made.services["sis"].received.decide(case, person("sis"), "the sought box", approve=True)
    made.settle(rounds=10, step_s=5)
    made.close()
    return made.root / "ics2"


def written(directory: Path, name: str, *more: object, reason: bool = True) -> tuple[live.Done, list[list[str]], str]:
    sheet, page = directory.parent / f"{name}.csv", directory.parent / f"{name}.html"
    why = ("--reason", "half-yearly report") if reason else ()
    done = live.run("report", name, directory, *why, *more, "--csv", sheet, "--html", page, "--json")
    text = page.read_text() if page.exists() else ""
    rows = list(csv.reader(io.StringIO(sheet.read_text()))) if sheet.exists() else []
    return done, rows, text


def is_a_page(text: str) -> None:
    assert "<script" not in text
    assert "http:" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "https:" not in text
    assert "default-src 'none'" in text
    for chart in text.split("<svg")[1:]:
        ET.fromstring("<svg" + chart.partition("</svg>")[0] + "</svg>")


def test_statistics_of_a_year_suppress_small_counts(directory: Path) -> None:
    done, rows, page = written(directory, "statistics", "--year", datetime.now(tz=UTC).year)
    assert done.code == 0, done.err
    told = {(row["agreement"], row["measure"]): row["year"] for row in done.json}
    assert told["SIS-OBJ:ics2-sis", "cases disclosed"] == "<10"
    assert rows[0][:6] == ["agreement", "side", "purpose", "legal basis", "event", "measure"]
    assert len(rows) == len(done.json) + 1
    is_a_page(page)
    assert page.count("<svg") >= 1
    assert "<caption>All counts" in page


def test_records_of_processing_name_every_agreement_and_purpose(directory: Path) -> None:
    done, rows, page = written(
        directory, "processing", "--controller", "Customs of Testland", "--contact", "x@example.org", reason=False
    )
    assert done.code == 0, done.err
    codes = {record["code"] for record in done.json}
    assert codes >= {"SIS-OBJ", "LEA-CASE", "DSR", "DPO-AUD", "TEST"}
    (sis,) = (record for record in done.json if record["code"] == "SIS-OBJ")
    assert "Customs of Testland" in sis["controller"]
    assert sis["used"]
    assert "2016/679" in sis["law"]
    assert len(rows) == len(done.json) + 1
    is_a_page(page)


def test_the_verification_report_says_what_was_verified_and_what_remains(directory: Path) -> None:
    tomorrow = f"{datetime.now(tz=UTC):%Y-%m-%d}"
    done, rows, page = written(directory, "verification", "--until", tomorrow)
    assert done.code == 0, done.err
    assert (done.json["verified"], done.json["failures"]) == (True, [])
    assert done.json["entries"]["RECEIPT"] == 1
    assert "No own queries were audited in the period." in done.json["open_items"]
    assert ["log", "verified", "yes"] in rows
    is_a_page(page)
    assert "What remains to be done" in page


def test_anomalies_are_explained_and_hold_no_identifier(directory: Path) -> None:
    done, rows, page = written(directory, "anomalies", "--zone", "Europe/Brussels")
    assert done.code == 0, done.err
    assert isinstance(done.json, list)
    assert rows[0][0] == "kind"
    is_a_page(page)
    assert BOX not in page + done.out
    assert live.run("report", "anomalies", directory, "--reason", "R", "--zone", "Nowhere/X").code == 2


def test_bodies_are_opened_for_a_reason_by_whom_the_policy_names_and_it_is_logged(directory: Path) -> None:
    for name in ("statistics", "verification", "anomalies"):
        assert live.run("report", name, directory).code == 2
        assert live.run("report", name, directory, "--reason", " ").code == 4
        officer = directory / "people" / "officer1.crt"
        assert live.run("report", name, directory, "--reason", "R", "--as", officer).code == 4
    before = live.run("log", "show", directory, "--limit", "10000", "--json").json
    assert live.run("report", "statistics", directory, "--reason", "R").code == 0
    after = live.run("log", "show", directory, "--limit", "10000", "--json").json
    new = [leaf["event"] for leaf in after[len(before) :]]
    assert new == [Event.EXPORT.value]


def test_a_log_that_does_not_verify_is_reported_with_code_5(directory: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "ics2"
    shutil.copytree(directory, damaged)
    with sqlite3.connect(damaged / "data" / "node.db") as database:
        database.execute("DELETE FROM log_bodies WHERE idx = 3")
    done = live.run("report", "verification", damaged, "--reason", "R", "--json")
    assert (done.code, done.json["verified"]) == (5, False)
