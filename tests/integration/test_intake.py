"""Systems, formats and intake as commands: what is known, what is refused and why, what replaces what, what is covered."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration import live  # isort: skip  # sets up gRPC's environment before gRPC is loaded

from connector_psi.adapters.formats import FORMATS
from connector_psi.domain.systems import SYSTEMS
from connector_psi.errors import FormatError
from connector_psi.rpc import convert
from tests.adapter_samples import BOX_A, BOX_B, ENS_MRN, alert, ens, equipment, house, jsonl

ADDRESSES = ("--listen", "127.0.0.1:0", "--local", "127.0.0.1:0")
PNRGOV = b"UNA:+.?*'UNB+IATA:1+LH+DE+261125:1200+1++PNRGOV'UNH+1+PNRGOV:11:1:IA+X'MSG+:22'"
LIMITED = "the practitioners found it of very limited use, if at all"


@pytest.fixture
def node(tmp_path: Path) -> Path:
    done = live.run(
        "init", tmp_path / "ics2", "--authority", "ics2", "--profile", "ics2", "--pki", tmp_path / "pki", *ADDRESSES
    )
    assert done.code == 0, done
    return tmp_path / "ics2"


def _issued(day: int) -> str:
    return f"<DocumentIssueDate><DateTime>2026-11-{day:02}T06:00:00Z</DateTime></DocumentIssueDate>"


def _ingest(node: Path, *arguments: object) -> tuple[int, dict[str, int]]:
    done = live.run("ingest", node, *arguments, "--json")
    return done.code, {key: value for key, value in done.json.items() if value and key != "errors"}


def _boxes(node: Path) -> int:
    return int(live.run("report", "quality", node, "--json").json["total"]["types"]["container"]["identifiers"])


def test_the_list_has_every_system_with_the_documented_keys() -> None:
    done = live.run("systems", "list", "--json")
    assert done.code == 0
    values = done.json
    assert {tuple(value) for value in values} == {("code", "name", "owner", "role", "status", "reason", "formats")}
    assert [value["code"] for value in values] == list(SYSTEMS)
    by_code = {value["code"]: value for value in values}
    for code in ("PNR", "EURODAC", "VIS", "EES", "ETIAS", "SLTD", "PRUM_VEHICLES"):
        assert (by_code[code]["status"], by_code[code]["formats"]) == ("refused", [])
        assert by_code[code]["reason"]
    assert by_code["AES"]["status"] == "unverified"
    assert by_code["SURVEILLANCE"]["status"] == "batch_only"
    assert sorted(name for value in values for name in value["formats"]) == sorted(FORMATS)
    # Every system that is not refused can be read from a file.
    assert [code for code, value in by_code.items() if value["status"] != "refused" and not value["formats"]] == []


@pytest.mark.parametrize("code", list(SYSTEMS))
def test_each_system_is_shown_in_words_and_as_json(code: str) -> None:
    done = live.run("systems", "show", code.lower())
    # Long names are folded.
    assert (done.code, SYSTEMS[code].name.split()[0] in done.out) == (0, True)
    value = live.run("systems", "show", code, "--json").json
    assert (value["code"], bool(value["categories"])) == (code, not SYSTEMS[code].refused)


def test_an_unknown_system_is_2() -> None:
    assert live.run("systems", "show", "KGB").code == 2


@pytest.mark.parametrize("code", ["PNR", "EURODAC", "VIS", "EES", "ETIAS", "SLTD", "PRUM_VEHICLES"])
def test_a_refused_system_is_4_with_its_reason(node: Path, tmp_path: Path, code: str) -> None:
    path = tmp_path / "export"
    path.write_bytes(b"anything")
    done = live.run("ingest", node, path, "--format", code.lower(), "--json")
    assert done.code == 4
    assert f"{code} is refused: {SYSTEMS[code].reason}" in done.json["detail"]


def test_passenger_data_is_recognised_and_refused_before_anything_is_taken_in(node: Path, tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_bytes(ens(house(1, equipment(BOX_A))))
    (tmp_path / "b.edi").write_bytes(PNRGOV)
    done = live.run("ingest", node, tmp_path / "a.xml", tmp_path / "b.edi", "--json")
    assert (done.code, LIMITED in done.json["detail"]) == (4, True)
    assert live.run("status", node, "--json").json["records"] == 0


def test_auto_is_the_default_and_can_be_said(node: Path, tmp_path: Path) -> None:
    (tmp_path / "message").write_bytes(ens(house(1, equipment(BOX_A))))
    assert _ingest(node, tmp_path / "message", "--format", "auto") == (0, {"accepted": 1})
    assert _ingest(node, tmp_path / "message") == (0, {"duplicates": 1})
    assert _ingest(node, tmp_path / "message", "--format", "ics2-ens") == (0, {"duplicates": 1})


@pytest.mark.parametrize("newest_first", [False, True])
def test_an_amendment_replaces_the_whole_declaration_in_any_order(
    node: Path, tmp_path: Path, newest_first: bool
) -> None:
    first, second = tmp_path / "first.xml", tmp_path / "second.xml"
    first.write_bytes(ens(house(1, equipment(BOX_A)), house(2, equipment(BOX_B)), before=_issued(1)))
    second.write_bytes(ens(house(1, equipment(BOX_A)), before=_issued(2)))
    for path in (second, first) if newest_first else (first, second):
        assert live.run("ingest", node, path).code == 0
    assert live.run("status", node, "--json").json["records"] == 1
    assert _boxes(node) == 1


@pytest.mark.parametrize("deletion_first", [False, True])
def test_a_deleted_alert_is_gone_in_any_order(node: Path, tmp_path: Path, deletion_first: bool) -> None:
    told = alert(updated_at="2026-11-01T10:00:00Z")
    deleted = {"schengen_id": told["schengen_id"], "updated_at": "2026-11-02T10:00:00Z", "withdrawn": True}
    lines = [deleted, told] if deletion_first else [told, deleted]
    path = tmp_path / "alerts.jsonl"
    path.write_bytes(jsonl(*lines))
    assert live.run("ingest", node, path).code == 0
    assert live.run("status", node, "--json").json["records"] == 0


def test_the_report_tells_what_is_covered_and_nothing_of_any_record(node: Path, tmp_path: Path) -> None:
    text = f"<goodsItem><commodity><descriptionOfGoods>for {BOX_B}</descriptionOfGoods></commodity></goodsItem>"
    (tmp_path / "ens.xml").write_bytes(
        ens(house(1, equipment(BOX_A, "SEAL-77")), house(2, text), house(3, equipment("", "SEAL-78")))
    )
    assert live.run("ingest", node, tmp_path / "ens.xml").code in {0, 3}
    done = live.run("report", "quality", node, "--json")
    assert done.code == 0
    total = done.json["total"]
    assert done.json["categories"] == {"ics2.ens": total}
    box = total["types"]["container"]
    assert (total["records"], box["records"], box["identifiers"], box["in_free_text"]) == (3, 2, 2, 1)
    # The MRN of the declaration suffices for all three.
    assert total["matchable"] == 3
    shown = live.run("report", "quality", node)
    assert shown.code == 0
    for value in (BOX_A, BOX_B, "SEAL77", "SEAL-77", ENS_MRN):
        assert value not in done.out + shown.out
    assert "container" in shown.out


def test_the_local_port_says_why_a_system_is_refused() -> None:
    with pytest.raises(FormatError, match=LIMITED):
        convert.parse_source("PNR")
