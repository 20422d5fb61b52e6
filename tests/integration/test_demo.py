"""The demonstration as a user runs it, once, with another seed than the default one."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyotp
import pytest
import requests

from connector_psi.node.config import Layout

SEED = 77
AUTHORITIES = ("ics2", "sis", "europol")
KEYS = {
    "nodes", "records", "tokens", "planted", "matches", "false_positives", "hits", "disclosures",
    "raw_identifiers_on_wire", "disclosed_identifiers_on_wire", "log", "tamper_caught", "seconds",
}  # fmt: skip
SIS_FIELDS = {"object_type", "object_identifiers", "action", "schengen_id", "issuing_state", "sirene_contact"}
NEVER = {"alert_reason", "offence", "warnings"}


@dataclass(frozen=True)
class Run:
    report: dict[str, Any]
    told: str
    code: int
    kept: Path
    console: str


def _demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "connector_psi.cli", "demo", *arguments],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """With ``--serve``: somebody opens a console at the end, and then it is stopped as from a terminal."""
    kept = tmp_path_factory.mktemp("demo") / "kept"
    command = [
        sys.executable,
        "-m",
        "connector_psi.cli",
        "demo",
        "--seed",
        str(SEED),
        "--json",
        "--keep",
        str(kept),
        "--serve",
    ]
    told, console = "", ""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "160"}
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        killer = threading.Timer(180, process.kill)
        killer.start()
        try:
            for line in process.stderr:
                told += line
                if line.startswith("One-time code of now"):
                    console = _open_console(told, kept)
                    process.send_signal(signal.SIGINT)
            out = process.stdout.read()
            process.wait()
        finally:
            killer.cancel()
    assert out, told[-2000:]
    return Run(json.loads(out), told, process.returncode, kept, console)


def _open_console(told: str, kept: Path) -> str:
    """Sign in to customs' console with what was told; return its inbox."""
    (url,) = re.findall(r"Customs \(ICS2\)\s*│\s*(https://\S+?)\s*│", told)
    password, secret = re.findall(r"Password of all: (\S+)", told)[0], re.findall(r"with the secret (\S+)", told)[0]
    with requests.Session() as session:
        session.trust_env = False
        session.verify = str(Layout(kept / "nodes" / "ics2").root_cert)
        token = session.get(f"{url}/sign-in").text.partition('name="csrf" value="')[2][:64]
        begun = session.post(
            f"{url}/sign-in/account",
            {"id": "officer1", "password": password, "code": pyotp.TOTP(secret).now(), "csrf": token},
        )
        assert begun.status_code == 200, begun.text
        return session.get(f"{url}/matches").text


def test_it_ends_with_consoles_and_something_to_review(run: Run) -> None:
    assert "5 more declarations came in at customs" in run.told
    assert run.console.count("/again</a>") == 5
    assert "officer1" in run.console


def test_every_claim_holds(run: Run) -> None:
    assert run.code == 0, run.told
    assert "Every claim above was checked and holds." in run.told
    assert "NO  " not in run.told


def test_the_report_has_the_keys_that_are_documented(run: Run) -> None:
    report = run.report
    assert set(report) == KEYS
    assert [node["authority"] for node in report["nodes"]] == list(AUTHORITIES)
    assert all(set(node) == {"authority", "pid", "records", "tokens"} for node in report["nodes"])
    records = {node["authority"]: node["records"] for node in report["nodes"]}
    # One of the alerts of SIS has expired, and is in matching no more.
    assert (records["sis"], records["europol"]) == (4_999, 1_000)
    assert records["ics2"] > 400
    assert report["records"] == sum(records.values())
    assert report["tokens"] == sum(node["tokens"] for node in report["nodes"])
    assert all(node["tokens"] > 1_000 for node in report["nodes"])
    assert len({node["pid"] for node in report["nodes"]}) == 3
    assert json.loads((run.kept / "report.json").read_text()) == report


def test_matches_are_those_that_were_planted(run: Run) -> None:
    report = run.report
    assert len(report["planted"]) == 12
    assert sorted(report["matches"], key=str) == sorted(report["planted"], key=str)
    assert (report["false_positives"], report["hits"]) == (0, 12)
    told = json.loads((run.kept / "samples" / "planted.json").read_text())
    assert told["seed"] == SEED
    assert told["planted"] == report["planted"]
    pairs = {(match["querier_ref"], match["owner_ref"]) for match in report["matches"]}
    assert not pairs & {(miss["querier_ref"], miss["owner_ref"]) for miss in told["near_misses"]}


def test_disclosures_hold_what_the_policy_allows(run: Run) -> None:
    disclosures = run.report["disclosures"]
    assert len(disclosures) == 11, "one of the twelve is refused"
    assert len({each["case_id"] for each in disclosures}) == 11
    for each in disclosures:
        assert set(each) == {"case_id", "agreement", "disclosed_fields", "withheld_fields"}
        assert not set(each["disclosed_fields"]) & set(each["withheld_fields"])
        assert not NEVER & set(each["disclosed_fields"])
        if each["agreement"] == "SIS-OBJ:ics2-sis":
            assert set(each["disclosed_fields"]) == SIS_FIELDS
            assert set(each["withheld_fields"]) == NEVER
        else:
            assert {"object_type", "handling_codes", "evaluation_code"} <= set(each["disclosed_fields"])
            assert "offence" in each["withheld_fields"]


def test_nothing_but_disclosures_crossed_the_wire(run: Run) -> None:
    assert run.report["raw_identifiers_on_wire"] == 0
    # Six SIS objects, two of them vehicles with a second number, and three entities whose provider consents.
    assert run.report["disclosed_identifiers_on_wire"] == 11
    assert "planted controls: 189 of 189 found by the same search" in run.told


def test_the_kept_recording_is_searchable_by_anybody(run: Run) -> None:
    """A second, slower search that shares nothing with the first: plain ``in``, over a sample of the alerts."""
    messages = [
        (said["method"], base64.b64decode(said["data"]))
        for code in AUTHORITIES
        for said in map(json.loads, (run.kept / "transcript" / f"{code}.jsonl").read_text().splitlines())
    ]
    methods = {method.rsplit("/", 1)[-1] for method, _ in messages}
    # Covers of recalls leave on the hour.
    assert methods - {"Recall", "AcknowledgeRecall"} == {
        "GetManifest", "ReadSet", "GetDeltas", "Evaluate", "OpenCase", "GetOutcome", "AddCheckpoint",
    }  # fmt: skip
    everything = b"\0".join(data for method, data in messages if not method.endswith("GetOutcome"))
    alerts = [json.loads(line)["object"] for line in (run.kept / "samples" / "sis.jsonl").read_text().splitlines()]
    values = [
        alert[key] for alert in alerts[:600] for key in ("vin", "container_number", "document_number") if key in alert
    ]
    assert len(values) > 300
    for value in values:
        assert value.encode() not in everything
        assert value.encode().hex().encode() not in everything
        assert value.encode("utf-16-le") not in everything


def test_logs_verify_and_changes_are_caught(run: Run) -> None:
    assert run.report["tamper_caught"] is True
    for code in AUTHORITIES:
        entry = run.report["log"][code]
        assert set(entry) == {"size", "verified"}
        assert entry["verified"] is True
        checked = subprocess.run(
            [sys.executable, "-m", "connector_psi.audit.verify", str(run.kept / "logs" / code)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert checked.returncode == 0, checked.stdout
        assert json.loads(checked.stdout)["size"] == entry["size"]


def test_it_is_quick_and_leaves_no_process(run: Run) -> None:
    # Alone it takes about half a minute; beside the other tests on two cores it may take longer.
    assert run.report["seconds"] < 150
    for node in run.report["nodes"]:
        with pytest.raises(ProcessLookupError):
            os.kill(node["pid"], 0)


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "something").touch()
    done = _demo("--keep", str(tmp_path), "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"] == "config"
