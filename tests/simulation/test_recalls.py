"""What was disclosed is wrong or withdrawn: every recipient is told, a person there acknowledges, both logs show it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connector_psi.audit.entries import Event, Leaf, parse_leaf
from connector_psi.disclosure import CaseState, RecallCause, RecallEffect
from connector_psi.domain.records import Field, IdentifierType, Record
from connector_psi.errors import (
    ApprovalMissingError,
    ConflictError,
    InputError,
    ProtocolError,
    PurposeRefusedError,
    UnavailableError,
)
from connector_psi.node.ports import Acknowledgement, RecallMessage
from connector_psi.node.service import Service
from connector_psi.pki import Role
from connector_psi.storage.recalls import RecallRow
from tests.integration import live
from tests.simulation.casework import ask_about_sought
from tests.simulation.federation import Federation, alert, declaration, person
from tests.simulation.prepared import Prepared

BOX = (IdentifierType.CONTAINER, "CSQU3054383")
OTHER = (IdentifierType.CONTAINER, "MSCU1234566")
DPO, CHIEF = person("sis", Role.DPO, "dpo1"), person("sis", Role.SUPERVISOR, "supervisor1")


@pytest.fixture(scope="module")
def disclosed(tmp_path_factory: pytest.TempPathFactory) -> Prepared[Federation]:
    made = Federation(tmp_path_factory.mktemp("disclosed") / "nodes")
    made.services["ics2"].registration.register([declaration("M1", BOX)], "test")
    made.services["sis"].registration.register([alert("DE1", BOX)], "test")
    made.settle()
    disclose(made)
    return Prepared(made)


@pytest.fixture
def federation(disclosed: Prepared[Federation], tmp_path: Path) -> Iterator[Federation]:
    """Customs has what N.SIS disclosed under SIS-OBJ."""
    made = disclosed.copy(tmp_path / "nodes")
    yield made
    made.close()


def disclose(federation: Federation) -> bytes:
    ics2, sis = federation.services["ics2"], federation.services["sis"]
    request_id = ask_about_sought(federation)
    federation.settle()
    sis.received.decide(request_id, person("sis"), "it is the sought box", approve=True)
    federation.settle(rounds=20)
    assert ics2.cases.get(request_id).row.state == CaseState.DISCLOSED
    return request_id


def amended(**fields: str) -> Record:
    record = alert("DE1", BOX)
    return replace(record, fields={**record.fields, **{Field(name): (value,) for name, value in fields.items()}})


def amend(federation: Federation, record: Record) -> None:
    federation.services["sis"].registration.register([record], "test")
    federation.settle()


def withdraw(federation: Federation) -> None:
    federation.services["sis"].registration.withdraw(alert("DE1", BOX).source, "DE1", "entered by mistake", "test")
    federation.settle()


def recalls(federation: Federation, code: str = "ics2") -> list[RecallRow]:
    return [view.row for view in federation.services[code].recalls.list()]


def entries(service: Service) -> list[tuple[Leaf, dict[str, Any]]]:
    """RECALL and ERASE entries that belong to cases that people see."""
    node = service.node
    with node.store.read() as tx:
        leaves = [parse_leaf(raw) for raw in node.entries.read_leaves(tx, 0, node.entries.size(tx))]
        return [
            (leaf, node.log.open_body(tx, index))
            for index, leaf in enumerate(leaves)
            if leaf.event in {Event.RECALL, Event.ERASE} and leaf.agreement == "SIS-OBJ:ics2-sis"
        ]


def fields(federation: Federation) -> dict[str, tuple[str, ...]]:
    (case,) = federation.services["ics2"].cases.list()
    return dict(federation.services["ics2"].cases.get(case.row.request_id).fields)


# --- A record changes -------------------------------------------------------------------------------------------------


def test_an_alert_that_is_withdrawn_is_erased_where_it_was_disclosed_once_a_person_acknowledges(
    federation: Federation,
) -> None:
    ics2, sis = federation.services["ics2"], federation.services["sis"]
    withdraw(federation)
    (at_owner,), (here,) = recalls(federation, "sis"), recalls(federation)
    assert (at_owner.state, here.state, at_owner.recall_id) == ("sent", "open", here.recall_id)
    assert here.payload["cause"] == "record_withdrawn"
    (case,) = ics2.cases.list()
    # Nothing of it is read any more, from now on.
    shown = ics2.cases.get(case.row.request_id)
    assert (shown.row.state, shown.fields, shown.recall_id) == ("disclosed", {}, here.recall_id.hex())
    done = ics2.recalled.acknowledge(here.recall_id, person("ics2"), "the port was told")
    assert done.payload["acknowledged"]["effect"] == "erased"
    federation.settle()
    assert ics2.cases.get(case.row.request_id).row.state == CaseState.EXPIRED
    (known,) = recalls(federation, "sis")
    assert (known.state, known.payload["acknowledged"]["effect"]) == ("acknowledged", "erased")
    # Both logs: sent and acknowledged there; received, erased and acknowledged here.
    owner, recipient = entries(sis), entries(ics2)
    assert [body["operation"] for _, body in owner] == ["recall", "recall acknowledged"]
    assert [body["operation"] for _, body in recipient] == ["recall received", "erasure", "recall acknowledged"]
    assert recipient[1][1]["reason"] == "recall"
    assert recipient[2][1]["by"] == person("ics2").uri
    assert {leaf.request_id for leaf, body in (*owner, *recipient) if "recall" in body["operation"]} == {here.recall_id}
    assert {leaf.parent_id for leaf, body in (*owner, *recipient) if "recall" in body["operation"]} == {
        case.row.request_id
    }


def test_what_was_erased_by_a_recall_stands_nowhere_any_more(federation: Federation) -> None:
    withdraw(federation)
    ics2 = federation.services["ics2"]
    ics2.recalled.acknowledge(recalls(federation)[0].recall_id, person("ics2"))
    node = ics2.node
    with node.store.read() as tx, sqlite3.connect(node.layout.data / "node.db") as database:
        for table in ("cases", "recalls"):
            for (sealed,) in database.execute(f"SELECT sealed FROM {table}"):
                text = node.store.unseal_raw(table, sealed).decode()
                assert "sirene@example.org" not in text
                assert b"sirene@example.org".hex() not in text
        assert tx is not None


def test_an_amended_field_is_replaced_and_nothing_else_is_sent(federation: Federation) -> None:
    ics2 = federation.services["ics2"]
    before = fields(federation)
    amend(federation, amended(sirene_contact="sirene@elsewhere.example", alert_reason="another that is not disclosed"))
    (row,) = recalls(federation)
    assert (row.payload["cause"], row.payload["outcome"]) == ("record_changed", "DISCLOSED")
    shown = ics2.recalls.get(row.recall_id)
    assert shown.fields["sirene_contact"] == ("sirene@elsewhere.example",)
    assert "alert_reason" not in shown.fields
    assert fields(federation) == {}
    (case,) = ics2.cases.list()
    until = ics2.cases.get(case.row.request_id).row.payload["outcome"]["erase_after"]
    assert ics2.recalled.acknowledge(row.recall_id, person("ics2")).payload["acknowledged"]["effect"] == "replaced"
    assert fields(federation) == {**before, "sirene_contact": ("sirene@elsewhere.example",)}
    after = ics2.cases.get(case.row.request_id).row
    # Retention counts from the disclosure, not from its correction.
    assert (after.state, after.payload["outcome"]["erase_after"]) == (CaseState.DISCLOSED, until)
    federation.settle()
    assert recalls(federation, "sis")[0].payload["acknowledged"]["effect"] == "replaced"
    assert ics2.recalls.get(row.recall_id).fields == {}


def test_a_change_of_what_was_not_disclosed_recalls_nothing(federation: Federation) -> None:
    amend(federation, amended(alert_reason="another reason that is never disclosed"))
    federation.services["sis"].registration.register([alert("DE2", OTHER)], "test")
    federation.settle()
    assert recalls(federation) == recalls(federation, "sis") == []


def test_an_alert_that_ends_in_time_recalls_nothing(federation: Federation) -> None:
    amend(federation, replace(alert("DE1", BOX), valid_until=federation.clock.now() + timedelta(hours=1)))
    federation.clock.advance(7200)
    federation.services["sis"].registration.expire()
    federation.settle()
    assert recalls(federation) == []


def test_an_alert_about_another_number_takes_back_what_was_disclosed(federation: Federation) -> None:
    record = replace(alert("DE1", OTHER), fields=alert("DE1", BOX).fields)
    amend(federation, record)
    (row,) = recalls(federation)
    assert (row.payload["outcome"], row.payload["fields"]) == ("NOT_DISCLOSED", [])


def test_a_record_that_is_hidden_since_takes_back_what_was_disclosed(federation: Federation) -> None:
    amend(federation, alert("DE1", BOX, hidden=True))
    assert [row.payload["outcome"] for row in recalls(federation)] == ["NOT_DISCLOSED"]


def test_the_newest_recall_of_a_case_counts(federation: Federation) -> None:
    ics2 = federation.services["ics2"]
    amend(federation, amended(sirene_contact="first@example.org"))
    amend(federation, amended(sirene_contact="second@example.org"))
    first, second = recalls(federation)
    assert ics2.recalled.acknowledge(first.recall_id, person("ics2")).payload["acknowledged"]["effect"] == "superseded"
    assert fields(federation) == {}
    ics2.recalled.acknowledge(second.recall_id, person("ics2"))
    assert fields(federation)["sirene_contact"] == ("second@example.org",)


def test_every_recipient_of_a_record_is_told(tmp_path: Path) -> None:
    federation = Federation(tmp_path, profiles=("ics2", "customs2=ics2", "sis"))
    try:
        for code, ref in (("ics2", "M1"), ("customs2", "M2")):
            federation.services[code].registration.register([declaration(ref, BOX)], "test")
        federation.services["sis"].registration.register([alert("DE1", BOX)], "test")
        federation.settle()
        for code in ("ics2", "customs2"):
            request_id = ask_about_sought(federation, code)
            federation.settle()
            federation.services["sis"].received.decide(request_id, person("sis"), "yes", approve=True)
        federation.settle(rounds=5, step_s=8)
        withdraw(federation)
        assert len(recalls(federation)) == len(recalls(federation, "customs2")) == 1
        assert {row.peer for row in recalls(federation, "sis")} == {"ics2", "customs2"}
    finally:
        federation.close()


def test_what_was_disclosed_under_an_agreement_that_ended_since_is_recalled_too(federation: Federation) -> None:
    for code in ("sis", "ics2"):
        federation.close(code)
        federation.edit_policy(code, ("  SIS-OBJ:\n", "  SIS-OBX:\n"))
        federation.open(code)
    assert "SIS-OBJ:ics2-sis" not in [b.code for b in federation.services["sis"].node.agreements()]
    withdraw(federation)
    (row,) = recalls(federation)
    done = federation.services["ics2"].recalled.acknowledge(row.recall_id, person("ics2"))
    assert done.payload["acknowledged"]["effect"] == "erased"


def test_a_case_that_cannot_be_read_keeps_no_other_recall_back(federation: Federation) -> None:
    with sqlite3.connect(federation.services["sis"].node.layout.data / "node.db") as database:
        database.execute("UPDATE cases SET sealed = zeroblob(64) WHERE side = 'owner'")
    withdraw(federation)
    assert recalls(federation) == []
    # The loop went on, and is where it would be without that case.
    federation.services["sis"].tick_recalls()


# --- A person says that it is wrong -----------------------------------------------------------------------------------


def test_a_person_recalls_what_was_disclosed(federation: Federation) -> None:
    sis = federation.services["sis"]
    (case,) = sis.cases.list()
    with pytest.raises(ApprovalMissingError, match="a reason is needed"):
        sis.recalling.send(case.row.request_id, DPO, " ")
    with pytest.raises(ConflictError, match="correct it at its source first"):
        sis.recalling.send(case.row.request_id, DPO, "a data subject says so")
    row = sis.recalling.send(case.row.request_id, CHIEF, "a data subject says so", withdraw=True)
    assert RecallCause[row.payload["cause"].upper()] is RecallCause.DATA_WRONG
    with pytest.raises(ConflictError, match="taken back already"):
        sis.recalling.send(case.row.request_id, DPO, "again", withdraw=True)
    federation.settle()
    (here,) = recalls(federation)
    # Why stays at the owner.
    assert "reason" not in here.payload
    assert entries(sis)[0][1]["by"] == CHIEF.uri


def test_nothing_is_recalled_of_a_case_that_disclosed_nothing(federation: Federation) -> None:
    sis = federation.services["sis"]
    with pytest.raises(PurposeRefusedError):
        sis.recalling.send(bytes(16), DPO, "why", withdraw=True)
    # A case of this node as querier is none of its own to recall.
    (case,) = federation.services["ics2"].cases.list()
    with pytest.raises(PurposeRefusedError):
        federation.services["ics2"].recalling.send(case.row.request_id, person("ics2", Role.DPO), "why", withdraw=True)


# --- Delivery ---------------------------------------------------------------------------------------------------------


def sent(federation: Federation) -> RecallMessage:
    """The message of the one recall that N.SIS sent."""
    captured: list[RecallMessage] = []
    original = federation.services["ics2"].recalled.receive

    def receive(peer: str, message: RecallMessage) -> None:
        captured.append(message)
        original(peer, message)

    federation.services["ics2"].recalled.receive = receive  # type: ignore[method-assign]
    withdraw(federation)
    federation.services["ics2"].recalled.receive = original  # type: ignore[method-assign]
    (message,) = [m for m in captured if m.agreement == "SIS-OBJ:ics2-sis"]
    return message


def test_the_same_recall_again_changes_nothing_and_another_under_its_id_is_refused(federation: Federation) -> None:
    message = sent(federation)
    ics2 = federation.services["ics2"]
    before = len(entries(ics2))
    ics2.recalled.receive("sis", message)
    assert (len(recalls(federation)), len(entries(ics2))) == (1, before)
    node = federation.services["sis"].node
    from connector_psi.protocol import messages

    signed = messages.recall_bytes(
        owner="sis",
        agreement=message.agreement,
        case_id=message.case_id,
        recall_id=message.recall_id,
        cause=RecallCause.DATA_WRONG,
        sent_ms=message.sent_ms,
        envelope=message.envelope,
    )
    other = replace(message, cause=RecallCause.DATA_WRONG, signature=node.signing_key.sign(signed))
    with pytest.raises(ConflictError, match="used for another recall"):
        ics2.recalled.receive("sis", other)


@pytest.mark.parametrize(
    "change",
    [
        {"signature": bytes(64)},
        {"cause": RecallCause.DATA_WRONG},
        {"case_id": bytes(16)},
        {"salt": bytes(32)},
        {"sent_ms": 1},
        {"recall_id": b"x"},
    ],
)
def test_a_recall_that_does_not_hold_is_refused(federation: Federation, change: dict[str, Any]) -> None:
    message = sent(federation)
    fresh = replace(message, **{"recall_id": message.recall_id, **change})
    with sqlite3.connect(federation.services["ics2"].node.layout.data / "node.db") as database:
        database.execute("DELETE FROM recalls")
    with pytest.raises(ProtocolError):
        federation.services["ics2"].recalled.receive("sis", fresh)
    assert recalls(federation) == []


def test_a_recall_of_nobody_s_case_or_of_another_peer_is_refused(federation: Federation) -> None:
    message = sent(federation)
    with pytest.raises(PurposeRefusedError):
        federation.services["ics2"].recalled.receive("europol", message)
    with pytest.raises(PurposeRefusedError):
        federation.services["ics2"].recalled.receive("sis", replace(message, agreement="SIS-OBJ:ics2-europol"))


def test_a_peer_that_is_away_is_told_when_it_is_back_and_nothing_is_told_twice(federation: Federation) -> None:
    federation.close("ics2")
    sis = federation.services["sis"]
    sis.registration.withdraw(alert("DE1", BOX).source, "DE1", "entered by mistake", "test")
    for _ in range(3):
        sis.tick_recalls()
        sis.tick_log()
        federation.clock.advance(2)
    assert [row.state for row in recalls(federation, "sis")] == ["sending"]
    federation.open("ics2")
    federation.settle(rounds=20)
    assert [row.state for row in recalls(federation)] == ["open"]
    assert [row.state for row in recalls(federation, "sis")] == ["sent"]


@pytest.mark.parametrize("point", ["before:recall", "after:recall"])
def test_a_recall_is_taken_in_once_whatever_becomes_of_the_call(federation: Federation, point: str) -> None:
    failed: list[str] = []

    def fault(name: str) -> None:
        if name == point and len(failed) < 3:
            failed.append(name)
            raise UnavailableError("cut")

    federation.fault = fault
    withdraw(federation)
    federation.settle(rounds=20, step_s=6)
    assert failed
    assert [row.state for row in recalls(federation)] == ["open"]
    assert len([1 for _, body in entries(federation.services["ics2"]) if body["operation"] == "recall received"]) == 1
    assert [row.state for row in recalls(federation, "sis")] == ["sent"]


@pytest.mark.parametrize("point", ["before:acknowledge_recall", "after:acknowledge_recall"])
def test_an_acknowledgement_is_taken_in_once_whatever_becomes_of_the_call(federation: Federation, point: str) -> None:
    withdraw(federation)
    (row,) = recalls(federation)
    federation.services["ics2"].recalled.acknowledge(row.recall_id, person("ics2"))
    failed: list[str] = []

    def fault(name: str) -> None:
        if name == point and len(failed) < 3:
            failed.append(name)
            raise UnavailableError("cut")

    federation.fault = fault
    # Both nodes start again meanwhile: what is to be sent stands in the store.
    federation.settle(rounds=2)
    for code in ("ics2", "sis"):
        federation.close(code)
        federation.open(code)
    federation.settle(rounds=20, step_s=6)
    assert failed
    assert [r.state for r in recalls(federation, "sis")] == ["acknowledged"]
    assert len([1 for _, b in entries(federation.services["sis"]) if b["operation"] == "recall acknowledged"]) == 1


def test_an_acknowledgement_that_does_not_hold_is_refused(federation: Federation) -> None:
    withdraw(federation)
    sis = federation.services["sis"]
    (row,) = recalls(federation, "sis")
    made = Acknowledgement(row.agreement, row.recall_id, RecallEffect.ERASED, 1, bytes(64))
    with pytest.raises(ProtocolError, match="signature"):
        sis.recalling.acknowledge("ics2", made)
    assert [r.state for r in recalls(federation, "sis")] == ["sent"]


def test_nobody_acknowledges_twice_or_before_the_outcome_came(federation: Federation) -> None:
    withdraw(federation)
    (row,) = recalls(federation)
    ics2 = federation.services["ics2"]
    with pytest.raises(InputError, match="note: more than 4000 characters"):
        ics2.recalled.acknowledge(row.recall_id, person("ics2"), "x" * 4001)
    ics2.recalled.acknowledge(row.recall_id, person("ics2"), "x" * 4000)
    with pytest.raises(ConflictError, match="acknowledged already"):
        ics2.recalled.acknowledge(row.recall_id, person("ics2", name="officer2"))
    with pytest.raises(PurposeRefusedError):
        ics2.recalled.acknowledge(bytes(16), person("ics2"))
    with pytest.raises(PurposeRefusedError):
        federation.services["sis"].recalled.acknowledge(row.recall_id, person("sis"))


# --- Two working days -------------------------------------------------------------------------------------------------


def test_after_two_working_days_both_sides_raise_an_alarm_until_somebody_acknowledges(tmp_path: Path) -> None:
    federation = Federation(tmp_path)
    try:
        federation.services["ics2"].registration.register([declaration("M1", BOX)], "test")
        federation.services["sis"].registration.register([alert("DE1", BOX)], "test")
        federation.settle()
        disclose(federation)
        withdraw(federation)
        (row,), (at_owner,) = recalls(federation), recalls(federation, "sis")
        # The recipient's days count from when the recall came.
        assert 0 <= row.due_ms - at_owner.due_ms < 10_000
        federation.clock.advance((at_owner.due_ms - federation.services["ics2"].node.now_ms()) // 1000 - 1)
        codes = [_alarms(federation, code) for code in ("ics2", "sis")]
        assert codes == [[], []]
        federation.clock.advance(60)
        assert [_alarms(federation, code) for code in ("ics2", "sis")] == [["querier"], ["owner"]]
        assert [view.overdue for view in federation.services["ics2"].recalls.list()] == [True]
        federation.services["ics2"].recalled.acknowledge(row.recall_id, person("ics2"))
        federation.services["ics2"].tick_recalls()
        assert [_alarms(federation, code) for code in ("ics2", "sis")] == [[], []]
    finally:
        federation.close()


def _alarms(federation: Federation, code: str) -> list[str]:
    found = federation.services[code].status()["alarms"]
    assert isinstance(found, list)
    return [alarm["side"] for alarm in found if alarm["code"] == "recall.acknowledgement_overdue"]


# --- What is kept -----------------------------------------------------------------------------------------------------


def test_what_stands_of_a_disclosure_goes_with_its_retention(federation: Federation) -> None:
    sis = federation.services["sis"]
    with sqlite3.connect(sis.node.layout.data / "node.db") as database:
        assert database.execute("SELECT count(*) FROM releases WHERE agreement LIKE 'SIS-OBJ%'").fetchone() == (1,)
        withdraw(federation)
        federation.services["ics2"].recalled.acknowledge(recalls(federation)[0].recall_id, person("ics2"))
        federation.settle()
        federation.clock.advance(3 * 366 * 86_400)
        for code in ("sis", "ics2"):
            federation.services[code].tick_erasure()
        for table in ("releases", "recalls"):
            (left,) = database.execute(f"SELECT count(*) FROM {table}").fetchone()
            assert left == 0, table
    assert recalls(federation) == []


# --- Commands ---------------------------------------------------------------------------------------------------------


def test_the_commands_send_list_show_and_acknowledge(federation: Federation) -> None:
    sis, ics2 = federation.root / "sis", federation.root / "ics2"
    (case,) = federation.services["sis"].cases.list()
    case_id = case.row.request_id.hex()
    federation.close("sis")
    by = sis / "people"
    denied = live.run("recalls", "send", sis, case_id, "--reason", "R", "--as", by / "officer1.crt", "--json")
    assert denied.code == 4
    unchanged = live.run("recalls", "send", sis, case_id, "--reason", "R", "--as", by / "dpo1.crt", "--json")
    assert unchanged.code == 4
    done = live.run("recalls", "send", sis, case_id, "--reason", "R", "--withdraw", "--as", by / "dpo1.crt", "--json")
    assert (done.code, done.json["kind"], done.json["cause"], done.json["reason"]) == (
        0,
        "withdrawal",
        "data_wrong",
        "R",
    )
    federation.open("sis")
    # The commands go by the machine's clock, which may have passed the federation's.
    behind = datetime.now(tz=UTC) - federation.clock.now()
    federation.clock.advance(max(0.0, behind.total_seconds()))
    federation.settle()
    federation.close("ics2")
    (listed,) = live.run("recalls", "list", ics2, "--json").json
    assert (listed["state"], listed["recall_id"], listed["reason"]) == ("open", done.json["recall_id"], "")
    shown = live.run("cases", "show", ics2, case_id, "--json").json
    assert (shown["recall_id"], shown["fields"]) == (listed["recall_id"], {})
    officer = ics2 / "people" / "officer1.crt"
    ended = live.run("recalls", "acknowledge", ics2, listed["recall_id"], "--as", officer, "--note", "N", "--json")
    assert (ended.code, ended.json["effect"], ended.json["state"]) == (0, "erased", "acknowledged")
    assert live.run("recalls", "acknowledge", ics2, listed["recall_id"], "--as", officer, "--json").code == 4
    text = live.run("recalls", "show", ics2, listed["recall_id"])
    assert (text.code, "erased" in text.out) == (0, True)
    assert live.run("recalls", "show", ics2, "zz", "--json").code == 2
    federation.open("ics2")
    federation.settle()
    assert recalls(federation, "sis")[0].state == "acknowledged"
