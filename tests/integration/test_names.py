"""A wanted person among declared consignees, through files and commands alone: two served nodes. All names are invented."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.integration import live  # isort: skip  # sets up gRPC's environment before gRPC is loaded

import pytest

from connector_psi.node.config import Layout
from tests.adapter_samples import alert, ens, house, jsonl

AGREEMENT = "SIS-ARR:sis-ics2"
WAIT_S = 60
PERSON = {"surnames": "Vandermeulen", "forenames": "Joris Pieter", "birth_date": "1980-05-17", "nationalities": ["BE"]}


def _consignee(name: str, country: str, city: str) -> str:
    address = (
        f"<address><street>Weg</street><number>1</number><city>{city}</city><country>{country}</country></address>"
    )
    return f"<consignee><name>{name}</name><typeOfPerson>1</typeOfPerson>{address}</consignee>"


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    root = tmp_path_factory.mktemp("names")
    found = {code: live.make_node(root, code, code) for code in ("ics2", "sis")}
    live.introduce(found["ics2"], found["sis"])
    live.introduce(found["sis"], found["ics2"])
    settings = Layout(found["sis"]).config
    settings.write_text(settings.read_text().replace("silent_slot_s = 60", "silent_slot_s = 1"))
    (root / "ens.xml").write_bytes(
        ens(
            house(1, _consignee("Joris Pieter Vandermeulen", "BE", "Gent")),
            house(2, _consignee("Vandermeulen, Joris Pieter", "PT", "Faro")),
            house(3, _consignee("Annelies Desmedt", "BE", "Gent")),
        )
    )
    wanted = alert(article="26", action="arrest_surrender", category=None, object=None, person=PERSON)
    (root / "alerts.jsonl").write_bytes(jsonl(wanted))
    assert live.run("ingest", found["ics2"], root / "ens.xml").code == 0
    assert live.run("ingest", found["sis"], root / "alerts.jsonl").code == 0
    with live.serving(*found.values()):
        done = live.run("sync", found["sis"], "--wait", WAIT_S, "--json")
        assert done.code == 0, done
        yield found


def _run(*words: object) -> Any:
    done = live.run(*words, "--json")
    assert done.code == 0, done
    return done.json


def test_from_files_to_the_disclosure(nodes: dict[str, Path]) -> None:
    sis = nodes["sis"]
    (match,) = [m for m in _run("matches", "list", sis) if m["agreement"] == AGREEMENT]
    assert match["identifier_types"] == ["name_place", "person_name"]
    shown = live.run("matches", "show", sis, match["match_id"])
    assert "strong" in shown.out
    assert "$.person" in shown.out
    detail = _run("matches", "show", sis, match["match_id"])
    assert (detail["band"], detail["corroborators"]) == ("strong", ["country"])
    assert [e["identifier_type"] for e in detail["evidence"]] == ["name_place", "person_name"]
    (line,) = [a for a in _run("status", sis)["agreements"] if a["agreement"] == AGREEMENT]
    assert line["weak_matches"] == 1, "the namesake elsewhere"

    officer = "--as", Layout(sis).people / "officer1.crt"
    _run("matches", "confirm", sis, match["match_id"], "--reason", "the same person", *officer)
    texts = ("--reference", "BE-2026-1", "--justification", "arrival of a wanted person")
    terms = ("--purpose", "cpsi:ArrestForSurrenderOrExtradition", "--basis", "2018/1862:26")
    case = _run("cases", "open", sis, match["match_id"], *terms, *texts, *officer)["case_id"]
    end = time.monotonic() + WAIT_S
    while (view := _run("cases", "show", sis, case))["state"] != "disclosed":
        assert time.monotonic() < end, view
        time.sleep(0.3)
    assert (view["band"], view["corroborators"]) == ("strong", ["country"])
    assert "(strong, with country)" in live.run("cases", "show", sis, case).out
    assert list(view["fields"]["mrn"]) == ["25BE000000000SYN01"]
    assert _run("cases", "list", nodes["ics2"]) == [], "customs sees no case"


def test_no_name_stands_in_what_the_node_wrote_beside_its_store(nodes: dict[str, Path]) -> None:
    for node in nodes.values():
        text = node.with_suffix(".stderr").read_text()
        assert "andermeulen" not in text.lower()
        assert "andermeulen" not in json.dumps(_run("status", node)).lower()
