"""Access by case through commands alone: two served nodes, from the officer's request to the disclosure."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.integration import live  # isort: skip  # sets up gRPC's environment before gRPC is loaded

import pytest

from connector_psi import pki
from connector_psi.node.config import Layout
from tests.adapter_samples import BOX_A, BOX_B, BOX_C, ENS_MRN, ens, equipment, house, jsonl

AGREEMENT = "LEA-CASE:police-ics2"
TEXTS = ("--offence", "trafficking in drugs", "--necessity", "the box was named", "--reference", "BE-2026-77")
WAIT_S = 30


def _message(number: int, box: str) -> dict[str, Any]:
    return {
        "siena_ref": f"SIENA-2026-{number:04}",
        "sent_at": "2026-05-17T08:00:00Z",
        "sender": "Police BE",
        "evaluation_code": "A1",
        "entities": [{"type": "container", "container_number": box}],
    }


class Two:
    """A police node and a customs node at work."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ics2, self.police = live.make_node(root, "ics2", "ics2"), live.make_node(root, "police", "police")
        live.introduce(self.ics2, self.police)
        live.introduce(self.police, self.ics2)

    def person(self, node: Path, name: str = "officer1") -> tuple[str, Path]:
        return "--as", Layout(node).people / f"{name}.crt"


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    root = tmp_path_factory.mktemp("by_case")
    made = Two(root)
    (root / "ens.xml").write_bytes(ens(house(1, equipment(BOX_A)), house(2, equipment(BOX_B))))
    (root / "siena.jsonl").write_bytes(jsonl(_message(1, BOX_A), _message(2, BOX_B), _message(3, BOX_C)))
    assert live.run("ingest", made.ics2, root / "ens.xml").code == 0
    assert live.run("ingest", made.police, root / "siena.jsonl").code == 0
    with live.serving(made.ics2, made.police):
        done = live.run("sync", made.police, "--wait", WAIT_S, "--json")
        assert done.code == 0, done
        yield made


def _run(*words: object, code: int = 0) -> Any:
    done = live.run(*words, "--json")
    assert done.code == code, done
    return done.json


def _until(done: Callable[[], Any]) -> Any:
    end = time.monotonic() + WAIT_S
    while not (found := done()):
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.2)
    return found


def _matches(two: Two) -> list[dict[str, Any]]:
    return [m for m in _run("matches", "list", two.police) if m["agreement"] == AGREEMENT]


def _awaiting(two: Two, request: str) -> None:
    _until(
        lambda: request in {a["request_id"] for a in _run("access", "list", two.ics2, "--state", "awaiting_decision")}
    )


def test_from_the_request_to_the_disclosure(two: Two) -> None:
    officer, chief = two.person(two.police), two.person(two.police, "supervisor1")
    asking = ["access", "request", two.police, "--agreement", AGREEMENT, *TEXTS, *officer]
    chief_urn = pki.load_credentials(chief[1]).identity
    assert isinstance(chief_urn, pki.PersonIdentity)
    named = [
        "--record",
        "SIENA/SIENA-2026-0001/1",
        "--record",
        "SIENA/SIENA-2026-0003/1",
        "--ordered-by",
        chief_urn.uri,
    ]
    value = _run(*asking, *named, "--hours", 24)
    assert (value["side"], value["identifiers"], value["ordered_by"]) == ("querier", 2, chief_urn.uri)
    request = value["request_id"]
    _awaiting(two, request)
    assert _matches(two) == []

    shown = _run("access", "show", two.ics2, request)
    assert (shown["side"], shown["identifiers"], shown["people_needed"]) == ("owner", 2, 2)
    assert (shown["offence"], shown["records"], shown["officer"]) == ("trafficking in drugs", [], "")
    assert BOX_A not in json.dumps(shown)
    granting = ["access", "approve", two.ics2, request, "--reason", "a case of weight"]
    assert _run(*granting, *two.person(two.ics2))["people_approved"] == 1
    assert _run(*granting, *two.person(two.ics2), code=4)["error"] == "conflict"
    assert _run(*granting, *two.person(two.ics2, "supervisor1"))["state"] == "approved"

    _until(lambda: _run("access", "show", two.police, request)["state"] == "queried")
    (match,) = _matches(two)
    assert (match["record_ref"], match["identifier_types"]) == ("SIENA-2026-0001/1", ["container"])
    held = _run("access", "show", two.police, request)
    assert (held["granted_identifiers"], held["granted_elements"], held["used_elements"]) == (2, 16, 8)
    assert _run("access", "show", two.ics2, request)["used_elements"] == 8

    for who in (officer, chief):
        _run("matches", "confirm", two.police, match["match_id"], "--reason", "same box", *who)
    purpose = ("--purpose", "cpsi:CriminalInvestigationCase", "--basis", "ICS2:case-by-case")
    opening = ["cases", "open", two.police, match["match_id"], *purpose, "--reference", "BE-2026-77", "--justification"]
    case = _run(*opening, "needed", *officer)["case_id"]
    _until(lambda: _run("cases", "list", two.ics2, "--state", "awaiting_decision"))
    for name in ("officer1", "supervisor1"):
        _run("cases", "approve", two.ics2, case, "--reason", "granted", *two.person(two.ics2, name))
    _until(lambda: _run("cases", "show", two.police, case)["state"] == "disclosed")
    assert _run("cases", "show", two.police, case)["fields"]["mrn"] == [ENS_MRN]


def test_a_refusal_is_not_told(two: Two) -> None:
    asking = ["access", "request", two.police, "--agreement", AGREEMENT, *TEXTS, *two.person(two.police)]
    request = _run(*asking, "--record", "SIENA/SIENA-2026-0002/1")["request_id"]
    _awaiting(two, request)
    refusing = ["access", "refuse", two.ics2, request, "--reason", "no weight", *two.person(two.ics2)]
    assert _run(*refusing)["state"] == "refused"
    assert _run(*refusing, code=4)["error"] == "conflict"
    _until(lambda: _run("access", "show", two.ics2, request)["state"] == "not_granted")
    time.sleep(2.5)
    assert _run("access", "show", two.police, request)["state"] == "pending"
    assert {m["record_ref"] for m in _matches(two)} <= {"SIENA-2026-0001/1"}


def test_what_is_no_request(two: Two) -> None:
    officer = two.person(two.police)
    asking = ["access", "request", two.police, "--agreement"]
    record = ("--record", "SIENA/SIENA-2026-0001/1")
    for words, code in (
        ([AGREEMENT, *TEXTS, *officer, "--record", "SIENA-2026-0001"], 2),
        ([AGREEMENT, *TEXTS, *officer, "--record", "NOTHING/SIENA-2026-0001"], 2),
        ([AGREEMENT, *TEXTS, *officer, "--record", "SIENA/SIENA-2026-9999/1"], 4),
        ([AGREEMENT, *TEXTS, *officer, *record, "--hours", 73], 2),
        ([AGREEMENT, *TEXTS, *officer, *record, "--ordered-by", "the boss"], 4),
        (["CUS-47:police-ics2", *TEXTS, *officer, *record], 4),
        ([AGREEMENT, *TEXTS, *two.person(two.police, "auditor1"), *record], 4),
    ):
        done = live.run(*asking, *words, "--json")
        assert done.code == code, done
        assert "SIENA-2026" not in done.out + done.err
    assert _run("access", "show", two.police, "00" * 16, code=4)["error"] == "purpose_refused"
    assert _run("access", "show", two.police, "no id", code=2)["error"] == "format"


def test_pages_for_people_show_what_the_json_shows(two: Two) -> None:
    for node in (two.ics2, two.police):
        values = _run("access", "list", node)
        listed, shown = live.run("access", "list", node), live.run("access", "show", node, values[0]["request_id"])
        assert (listed.code, listed.err, shown.code, shown.err) == (0, "", 0, "")
        assert all(value["request_id"] in listed.out for value in values)
        assert "trafficking in drugs" in shown.out
