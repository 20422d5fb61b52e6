"""Answers to data subjects: found by an identifier from standard input, restricted by the policy, logged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from connector_psi.audit.entries import Event, parse_leaf
from connector_psi.domain.purposes import ProfileRole
from connector_psi.domain.records import IdentifierType
from connector_psi.domain.rights import REGIMES, answer_due
from connector_psi.errors import InputError, PurposeRefusedError
from connector_psi.pki import Role
from tests.integration import live
from tests.privacy.staging import container
from tests.simulation.casework import ask_about_sought
from tests.simulation.federation import Federation, alert, declaration, person

BOX, UNKNOWN, SOUGHT = "CSQU3054383", container(1), container(2)
DPO = person("ics2", Role.DPO, "dpo1")


def box(value: str) -> tuple[IdentifierType, str]:
    return IdentifierType.CONTAINER, value


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Customs learnt of a sought box from N.SIS; N.SIS discreetly checks another one. Tests that change it come last."""
    made = Federation(tmp_path_factory.mktemp("dsr") / "nodes")
    ics2, sis = made.services["ics2"], made.services["sis"]
    ics2.registration.register([declaration("M1", box(BOX), route="CO"), declaration("M2", box(SOUGHT))], "test")
    sis.registration.register([alert("DE38", box(BOX)), alert("DE36", box(SOUGHT), category="sis.36")], "test")
    made.settle()
    request_id = ask_about_sought(made)
    (seen,) = sis.review.list()
    sis.review.decide(seen.match_id, person("sis"), "the same number", confirm=True)
    sis.asked.open(
        seen.match_id,
        person("sis"),
        purpose="cpsi:DiscreetInquiryOrSpecificCheck",
        legal_basis="2018/1862:36",
        case_reference="S-1",
        justification="it arrives this week",
    )
    made.settle()
    sis.received.decide(request_id, person("sis"), "it is the sought box", approve=True)
    made.settle(rounds=60)
    assert [view.row.state for view in ics2.cases.list()] == ["disclosed"]
    assert "disclosed" in [view.row.state for view in sis.cases.list() if view.row.agreement.startswith("SIS-CHK")]
    yield made
    made.close()


def asked(
    federation: Federation, value: str, code: str = "ics2", kind: str = "container", **said: Any
) -> dict[str, Any]:
    return federation.services[code].subjects.search(kind, value, person(code, Role.DPO, "dpo1"), **said)


def test_what_was_processed_matched_and_received_is_named_and_no_value_is_repeated(federation: Federation) -> None:
    annex = asked(federation, "csqu 305438-3", reference="DSR-7")
    (held,) = annex["processing"]
    assert (held["source"], held["reference"], held["category"], held["state"]) == ("ICS2", "M1", "ics2.ens", "live")
    assert held["fields"] == ["mrn", "route"]
    assert {c["agreement"] for c in held["compared"]} >= {"SIS-OBJ:ics2-sis", "SIS-CHK:sis-ics2"}
    (match,) = held["matches"]
    assert (match["agreement"], match["state"]) == ("SIS-OBJ:ics2-sis", "confirmed")
    assert match["identifier_types"] == ["container"]
    (received,) = held["received"]
    assert (received["from"], received["state"]) == ("sis", "disclosed")
    assert "schengen_id" in received["fields"]
    assert annex["before_sending"] == [
        "SIS-OBJ:ics2-sis: ask sis for its position before telling of what it disclosed (2018/1862, Article 67(2))"
    ]
    text = json.dumps(annex)
    assert "sirene@example.org" not in text
    assert BOX not in text


def test_what_an_agreement_without_notice_made_of_a_record_is_not_known_to_its_owner(federation: Federation) -> None:
    (held,) = asked(federation, SOUGHT)["processing"]
    assert (held["reference"], held["matches"], held["received"], held["disclosed"]) == ("M2", [], [], [])
    other = asked(federation, BOX)["processing"][0]
    assert held["compared"] == other["compared"], "as of every record of its category"


def test_who_has_only_restricted_data_gets_the_annex_of_somebody_unknown(federation: Federation) -> None:
    """2018/1862 Article 67(3): nobody learns of a discreet check by asking for it."""
    assert asked(federation, SOUGHT, "sis") == asked(federation, UNKNOWN, "sis")
    assert asked(federation, SOUGHT, "sis")["processing"] == []
    directory = federation.services["sis"].node.layout.root
    federation.close("sis")
    results = []
    for value in (SOUGHT, UNKNOWN):
        page = federation.root / f"{value}.html"
        done = live.run("dsr", directory, "--type", "container", "--html", page, stdin=value.encode())
        results.append((done.code, done.out, done.err, page.read_text()))
        assert value not in done.out + page.read_text()
    assert results[0] == results[1]
    assert "can be communicated" in results[0][1]
    federation.open("sis")


def test_a_search_is_logged_before_anything_is_told_and_holds_no_identifier(federation: Federation) -> None:
    node = federation.services["ics2"].node
    asked(federation, BOX, reference="DSR-7")
    with node.store.read() as tx:
        size = node.entries.size(tx)
        leaf = parse_leaf(node.entries.read_leaves(tx, size - 1, size)[0])
        body = node.log.open_body(tx, size - 1)
    assert (leaf.event, leaf.purpose) == (Event.CONSULT, "cpsi:DataSubjectRights")
    assert leaf.side is leaf.agreement is None
    assert (body["actor"], body["reference"], body["told"]) == (DPO.uri, "DSR-7", 1)
    assert BOX not in json.dumps(body)


def test_nothing_is_told_where_the_log_cannot_be_written(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("full")

    monkeypatch.setattr(federation.services["ics2"].node, "append", full)
    with pytest.raises(OSError, match="full"):
        asked(federation, BOX)


def test_only_whom_the_policy_names_may_search(federation: Federation) -> None:
    for role in (Role.OFFICER, Role.SUPERVISOR, Role.ADMIN, Role.AUDITOR):
        with pytest.raises(PurposeRefusedError):
            federation.services["ics2"].subjects.search("container", BOX, person("ics2", role))


def test_without_a_type_every_type_of_that_form_is_searched_and_errors_name_the_rule_alone(
    federation: Federation,
) -> None:
    annex = asked(federation, BOX, kind="")
    assert "container" in annex["identifier_types"]
    assert [held["reference"] for held in annex["processing"]] == ["M1"]
    for kind, value, text in (
        ("container", "CSQU3054384", "no container: container.check_digit"),
        ("nonsense", BOX, "type: one of"),
        ("", "\x00", "of no type that is known"),
    ):
        with pytest.raises(InputError, match=text) as caught:
            asked(federation, value, kind=kind)
        assert value not in str(caught.value)


def test_the_day_of_an_answer_follows_from_the_law_of_the_authority() -> None:
    assert answer_due(REGIMES[ProfileRole.CUSTOMS], date(2026, 1, 31)) == date(2026, 2, 28)
    assert answer_due(REGIMES[ProfileRole.NSIS], date(2026, 12, 5)) == date(2027, 1, 5)
    assert answer_due(REGIMES[ProfileRole.EUROPOL], date(2026, 11, 30)) == date(2027, 2, 28)
    assert answer_due(REGIMES[ProfileRole.POLICE], date(2026, 11, 30)) is None
    assert REGIMES.keys() == set(ProfileRole)


def test_the_command_reads_one_line_and_writes_text_json_and_a_page(federation: Federation, tmp_path: Path) -> None:
    directory = federation.root / "ics2"
    federation.close("ics2")
    page = tmp_path / "annex.html"
    done = live.run("dsr", directory, "--json", "--reference", "DSR-7", "--html", page, stdin=f"{BOX}\n".encode())
    assert (done.code, done.json["reference"], len(done.json["processing"])) == (0, "DSR-7", 1)
    came = date.fromisoformat(done.json["received"])
    assert date.fromisoformat(done.json["answer_due"]) - came > timedelta(days=27)
    text = page.read_text()
    assert text.count("<caption>") == text.count("<table>") >= 4
    assert "<script" not in text
    assert 'lang="en"' in text
    shown = live.run("dsr", directory, "--type", "container", "--received", "2026-01-31", stdin=BOX.encode())
    assert "to be answered by 2026-02-28" in shown.out
    assert "Before sending: SIS-OBJ:ics2-sis" in shown.out
    assert live.run("dsr", directory, stdin=b"").code == 2
    assert live.run("dsr", directory, "--type", "container", stdin=b"CSQU3054384").code == 2
    officer = directory / "people" / "officer1.crt"
    assert live.run("dsr", directory, "--as", officer, stdin=BOX.encode()).code == 4
    federation.open("ics2")


def test_the_index_holds_no_identifier(federation: Federation) -> None:
    federation.close("ics2")
    assert BOX.encode() not in (federation.root / "ics2" / "data" / "node.db").read_bytes()
    federation.open("ics2")


def test_the_owner_names_to_whom_it_disclosed_what_and_what_it_recalled(federation: Federation) -> None:
    (held,) = asked(federation, BOX, "sis")["processing"]
    (disclosed,) = held["disclosed"]
    assert (disclosed["to"], disclosed["recalls"]) == ("ics2", [])
    assert "schengen_id" in disclosed["fields"]
    sis = federation.services["sis"]
    sis.registration.withdraw(alert("DE38").source, "DE38", "entered by mistake", "test")
    federation.settle()
    (held,) = asked(federation, BOX, "sis")["processing"]
    (recall,) = held["disclosed"][0]["recalls"]
    assert (held["state"], recall["kind"], recall["state"]) == ("withdrawn", "withdrawal", "sent")


def test_what_an_earlier_version_of_a_record_named_is_found_too(federation: Federation) -> None:
    federation.services["ics2"].registration.register([declaration("M1", box(UNKNOWN), route="CO")], "test")
    for value in (BOX, UNKNOWN):
        assert [held["reference"] for held in asked(federation, value)["processing"]] == ["M1"]
