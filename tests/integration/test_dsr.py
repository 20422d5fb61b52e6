"""Answers to data subjects: found by an identifier from standard input, restricted by the policy, logged."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from connector_psi.audit.entries import Event, parse_leaf
from connector_psi.domain.purposes import ProfileRole
from connector_psi.domain.records import IdentifierType
from connector_psi.domain.rights import REGIMES, answer_due
from connector_psi.errors import InputError, PurposeRefusedError
from connector_psi.node import subjects
from connector_psi.node.service import Service
from connector_psi.pki import Role
from connector_psi.rpc.client import PeerConnector
from tests.integration import live
from tests.privacy.staging import container
from tests.simulation import casework
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
    # Not far ahead of the machine's own time, by which commands open these nodes afterwards.
    for _ in range(40):
        made.settle(rounds=1, step_s=3.0)
        if all("disclosed" in {view.row.state for view in service.cases.list()} for service in (ics2, sis)):
            break
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


# What came of a record, whoever asked and however long ago. Each of these has its own nodes.


@contextmanager
def begun(
    root: Path, *boxes: str, hits: Sequence[tuple[str, str, str]] = (("DE1", BOX, "sis.38.g"),)
) -> Iterator[Federation]:
    """Customs has declared boxes, N.SIS has alerts (reference, box, category), and each has the other's set."""
    made = Federation(root)
    try:
        made.services["ics2"].registration.register([declaration(f"M{n}", box(v)) for n, v in enumerate(boxes)], "test")
        made.services["sis"].registration.register([alert(r, box(v), category=c) for r, v, c in hits], "test")
        made.settle()
        yield made
    finally:
        made.close()


def decided(federation: Federation, *, approve: bool) -> bytes:
    request_id = ask_about_sought(federation)
    federation.settle()
    federation.services["sis"].received.decide(request_id, person("sis"), "as it is", approve=approve)
    federation.settle(rounds=20, step_s=6.0)
    return request_id


def test_a_disclosure_is_named_after_its_agreement_ended_and_after_its_recipient_erased_it(tmp_path: Path) -> None:
    with begun(tmp_path, BOX) as federation:
        decided(federation, approve=True)
        (before,) = asked(federation, BOX, "sis")["processing"][0]["disclosed"]
        for code in ("sis", "ics2"):
            federation.close(code)
            federation.edit_policy(code, ("  SIS-OBJ:\n", "  SIS-OBX:\n"))
            federation.open(code)
        assert "SIS-OBJ:ics2-sis" not in [b.code for b in federation.services["sis"].node.agreements()]
        assert asked(federation, BOX, "sis")["processing"][0]["disclosed"] == [before]
        federation.clock.advance(4 * 366 * 24 * 3600)
        for service in federation.services.values():
            service.erasure.run()
            service.tick_recalls()
        assert asked(federation, BOX, "sis")["processing"][0]["disclosed"] == [before]
        (received,) = asked(federation, BOX)["processing"][0]["received"]
        assert (received["state"], received["fields"]) == ("expired", before["fields"])
        assert received["erased"]


def test_what_was_asked_and_not_disclosed_is_named_with_its_state(tmp_path: Path) -> None:
    with begun(tmp_path, BOX) as federation:
        ask_about_sought(federation)
        federation.settle()
        for state, approve in (("awaiting_decision", None), ("released", False)):
            if approve is not None:
                (view,) = federation.services["sis"].cases.list()
                federation.services["sis"].received.decide(view.row.request_id, person("sis"), "no", approve=approve)
                federation.settle(rounds=20, step_s=6.0)
            annex = asked(federation, BOX, "sis")
            (held,) = annex["processing"]
            (refused,) = held["not_disclosed"]
            assert held["disclosed"] == []
            assert (refused["by"], refused["state"]) == ("ics2", state)
            (note,) = annex["before_sending"]
            assert note.startswith("SIS-OBJ:ics2-sis: ask ics2 whether telling of its request would prejudice")


def test_access_that_was_asked_by_case_is_named_at_who_asked(tmp_path: Path) -> None:
    with contextlib.closing(casework.begun(tmp_path)) as federation:
        request_id = casework.ask(federation).request_id
        number = casework.CONTAINER[1]
        (access,) = asked(federation, number, "police")["processing"][0]["access"]
        assert (access["agreement"], access["with"], access["state"]) == (casework.AGREEMENT, "ics2", "drafted")
        federation.settle(3, 10)
        casework.grant(federation, request_id)
        federation.settle(3, 10)
        (access,) = asked(federation, number, "police")["processing"][0]["access"]
        assert access["state"] == "queried"
        # The owner got a number of identifiers, and none of them.
        assert asked(federation, number)["processing"][0]["access"] == []


def test_an_annex_that_is_cut_says_so_and_what_is_restricted_takes_no_room_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subjects, "MAX_RECORDS", 2)
    discreet = [(f"DE36{n}", BOX, "sis.36") for n in range(3)]
    with begun(tmp_path, hits=[*discreet, ("DE1", BOX, "sis.38.g"), ("DE2", BOX, "sis.38.g")]) as federation:
        sis = federation.services["sis"]
        annex = asked(federation, BOX, "sis")
        assert [held["reference"] for held in annex["processing"]] == ["DE1", "DE2"]
        assert annex["complete"] is True
        sis.registration.register([alert("DE4", box(BOX), category="sis.36")], "test")
        assert asked(federation, BOX, "sis")["complete"] is True
        sis.registration.register([alert("DE3", box(BOX))], "test")
        annex = asked(federation, BOX, "sis")
        assert ([held["reference"] for held in annex["processing"]], annex["complete"]) == (["DE1", "DE2"], False)
        federation.close("sis")
        page = tmp_path / "annex.html"
        shown = live.run("dsr", tmp_path / "sis", "--type", "container", "--html", page, stdin=BOX.encode())
        assert "Not complete" in shown.out
        assert "Not complete" in page.read_text()


def test_a_node_that_is_being_served_answers_too_and_the_identifier_stays_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    directory = live.make_node(tmp_path / "nodes", "ics2", "ics2")
    service = Service(directory, PeerConnector)
    service.registration.register([declaration("M1", box(BOX))], "test")
    service.close()
    spelled = "csqu 305438-3"
    with live.serving(directory) as (served,):
        done = live.run("dsr", directory, "--type", "container", "--json", stdin=spelled.encode())
        missed = live.run("dsr", directory, "--type", "container", "--json", stdin=UNKNOWN.encode())
        refused = live.run("dsr", directory, "--type", "container", stdin=b"CSQU3054384")
    assert (done.code, [held["reference"] for held in done.json["processing"]]) == (0, ["M1"])
    assert (missed.code, missed.json["processing"], refused.code) == (0, [], 2)
    left = b"".join(p.read_bytes() for p in (*directory.rglob("*"), *temporary.rglob("*"), served.log) if p.is_file())
    said = (done.out + done.err + missed.out + missed.err + refused.out + refused.err).encode()
    for value in (BOX, spelled, UNKNOWN, "CSQU3054384"):
        assert value.encode() not in left + said
