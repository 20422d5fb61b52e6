"""Bodies of the log: opened with role and reason, gone on their day in every file, kept beyond it by a hold alone (R11)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from connector_psi.audit import merkle
from connector_psi.audit.checkpoint import verify_checkpoint
from connector_psi.audit.entries import Event, Leaf, parse_leaf
from connector_psi.domain.records import IdentifierType
from connector_psi.errors import (
    ApprovalMissingError,
    ConflictError,
    InputError,
    KeyUnavailableError,
    PurposeRefusedError,
)
from connector_psi.node.service import Service
from connector_psi.pki import Role
from connector_psi.storage import schema
from tests.integration import live
from tests.simulation.casework import ask_about_sought
from tests.simulation.federation import Federation, alert, declaration, person
from tests.simulation.prepared import Prepared

BOX = (IdentifierType.CONTAINER, "CSQU3054383")
DAY_S = 86_400.0
YEARS_3 = 3 * 366 * DAY_S
DPO, AUDITOR, CHIEF = (person("ics2", role, "p1") for role in (Role.DPO, Role.AUDITOR, Role.SUPERVISOR))


@pytest.fixture(scope="module")
def after_a_disclosure(tmp_path_factory: pytest.TempPathFactory) -> Prepared[Federation]:
    made = Federation(tmp_path_factory.mktemp("disclosed") / "nodes")
    made.services["ics2"].registration.register([declaration("M1", BOX)], "test")
    made.services["sis"].registration.register([alert("DE1", BOX)], "test")
    made.settle()
    case = ask_about_sought(made)
    made.settle()
    made.services["sis"].received.decide(case, person("sis"), "the sought box", approve=True)
    made.settle(rounds=10, step_s=5)
    return Prepared(made)


@pytest.fixture
def federation(after_a_disclosure: Prepared[Federation], tmp_path: Path) -> Iterator[Federation]:
    """Customs and N.SIS after a disclosure."""
    made = after_a_disclosure.copy(tmp_path / "nodes")
    yield made
    made.close()


def leaves(service: Service) -> list[Leaf]:
    node = service.node
    with node.store.read() as tx:
        return [parse_leaf(raw) for raw in node.entries.read_leaves(tx, 0, node.entries.size(tx))]


def index_of(service: Service, event: Event) -> int:
    return [leaf.event for leaf in leaves(service)].index(event)


def bodies(service: Service) -> set[int]:
    with service.node.store.read() as tx:
        return set(tx.execute(sa.select(schema.log_bodies.c.idx)).scalars())


def sealed(service: Service) -> list[bytes]:
    with service.node.store.read() as tx:
        return [
            bytes(blob)[12:]
            for blob in tx.execute(sa.select(schema.log_bodies.c.sealed).order_by(schema.log_bodies.c.idx)).scalars()
        ]


def on_disk(service: Service) -> bytes:
    return b"".join(path.read_bytes() for path in service.node.layout.data.glob("node.db*"))


def body(service: Service, index: int) -> dict[str, Any]:
    with service.node.store.read() as tx:
        return service.node.log.open_body(tx, index)


# Erasure


def test_a_body_goes_on_its_day_and_root_proofs_and_checkpoints_stand(federation: Federation) -> None:
    service = federation.services["ics2"]
    node = service.node
    note = service.oversight.checkpoint()
    signed = verify_checkpoint(note, node.signer.vkey, node.signer.name)
    size = len(leaves(service))
    pieces, keys = sealed(service), node.keyring.month_keys().key_ids()
    with node.store.read() as tx:
        proofs = [node.log.prove_inclusion(tx, index, signed.size) for index in range(signed.size)]
    first = min(leaf.erase_after for leaf in leaves(service))
    federation.clock.advance((first - federation.clock.now()).total_seconds() - 1)
    assert service.tick_retention() == 0
    assert bodies(service) == set(range(size))
    federation.clock.advance(DAY_S * 2)
    assert service.tick_retention() == size
    assert service.tick_retention() == 0
    left = on_disk(service)
    assert not [piece for piece in pieces if piece[:64] in left or piece[-64:] in left]
    with node.store.read() as tx:
        for index, proof in enumerate(proofs):
            leaf = merkle.leaf_hash(node.read_leaves(tx, index, index + 1)[0])
            merkle.verify_inclusion(leaf, index, signed.size, proof, signed.root)
        for index in range(size):
            with pytest.raises(KeyUnavailableError):
                node.log.open_body(tx, index)
    purge = len(leaves(service)) - 1
    assert leaves(service)[purge].event is Event.PURGE
    assert body(service, purge) == {
        "operation": "erasure",
        "bodies": size,
        "entries": [[0, size - 1]],
        "classes": {
            "CUSTOMS_NATIONAL": size - body_count(service, "SIS_3Y", size),
            "SIS_3Y": body_count(service, "SIS_3Y", size),
        }
        if body_count(service, "SIS_3Y", size) < size
        else {"SIS_3Y": size},
    }
    assert service.oversight.verify()["verified"] is True
    # With the month the key goes, and with it what backups hold.
    federation.clock.advance(DAY_S * 40)
    service.tick_retention()
    assert not set(keys) & set(node.keyring.month_keys().key_ids())


def body_count(service: Service, kind: str, size: int) -> int:
    return sum(leaf.retention_class.value == kind for leaf in leaves(service)[:size])


def test_a_backup_of_the_database_is_unreadable_once_the_key_of_the_month_is_gone(
    federation: Federation, tmp_path: Path
) -> None:
    service = federation.services["ics2"]
    opened = body(service, index_of(service, Event.REVIEW))
    federation.close("ics2")
    shutil.copytree(federation.root / "ics2" / "data", tmp_path / "backup")
    service = federation.open("ics2")
    federation.clock.advance(YEARS_3 + 40 * DAY_S)
    service.tick_retention()
    federation.close("ics2")
    shutil.rmtree(federation.root / "ics2" / "data")
    shutil.copytree(tmp_path / "backup", federation.root / "ics2" / "data")
    service = federation.open("ics2")
    assert opened
    with pytest.raises(KeyUnavailableError):
        body(service, index_of(service, Event.REVIEW))


def test_remains_wait_for_a_reader_of_an_older_state_and_go_then(federation: Federation) -> None:
    service = federation.services["ics2"]
    piece = sealed(service)[0]
    federation.clock.advance(YEARS_3 + DAY_S)
    with service.node.store.read() as tx:
        tx.execute(sa.select(schema.log_bodies.c.idx)).all()
        service.tick_retention()
        assert piece[:64] in on_disk(service)
    service.tick_retention()
    assert piece[:64] not in on_disk(service)


def test_a_body_that_outstays_its_time_is_a_failure_of_the_log(federation: Federation) -> None:
    service = federation.services["ics2"]
    federation.clock.advance(YEARS_3 + 3 * DAY_S)
    report = service.oversight.verify()
    assert report["verified"] is False
    assert any("after their time" in text for text in report["failures"])  # type: ignore[attr-defined]
    service.tick_retention()
    assert service.oversight.verify()["verified"] is True


def test_a_column_that_was_changed_erases_nothing_early(federation: Federation) -> None:
    service = federation.services["ics2"]
    with service.node.store.write() as tx:
        tx.execute(sa.update(schema.log_bodies).values(erase_after_s=1))
    assert service.tick_retention() == 0
    assert len(bodies(service)) == len(leaves(service))


# Holds


def test_a_hold_keeps_what_it_names_and_lapses_unless_it_is_renewed(federation: Federation) -> None:
    service = federation.services["ics2"]
    retention = service.retention
    federation.clock.advance(YEARS_3 - 10 * DAY_S)
    today = federation.clock.now().date()
    review = index_of(service, Event.CASE_OPEN)
    case = leaves(service)[review].request_id
    assert case is not None
    row = retention.place(
        DPO, procedure="EDPS-2029-7", until=today + timedelta(days=30), reason="under way", request_id=case
    )
    federation.clock.advance(20 * DAY_S)
    service.tick_retention()
    held = {i for i, leaf in enumerate(leaves(service)) if case in (leaf.request_id, leaf.parent_id)}
    young = {i for i, leaf in enumerate(leaves(service)) if leaf.erase_after > federation.clock.now()}
    assert held
    assert bodies(service) == held | young
    assert service.oversight.verify()["verified"] is True, "what a hold keeps is no failure"
    assert retention.holds(AUDITOR) == [], "a request may be one of which only the data protection officer may know"
    for hidden in (
        lambda: retention.renew(row.hold_id, AUDITOR, until=today + timedelta(days=60), reason="R"),
        lambda: retention.release(row.hold_id, AUDITOR, reason="R"),
    ):
        with pytest.raises(PurposeRefusedError, match="no such hold"):
            hidden()
    retention.renew(row.hold_id, DPO, until=today + timedelta(days=60), reason="still under way")
    federation.clock.advance(20 * DAY_S)
    service.tick_retention()
    assert held <= bodies(service)
    federation.clock.advance(30 * DAY_S)
    service.tick_retention()
    assert not held & bodies(service)
    assert [hold["state"] for hold in retention.holds(DPO)] == ["lapsed"]
    told = [(i, leaf) for i, leaf in enumerate(leaves(service)) if leaf.event is Event.HOLD]
    assert [body(service, i)["operation"] for i, _ in told] == ["hold placed", "hold renewed", "hold lapsed"]
    assert {leaf.hold for _, leaf in told} == {row.hold_id}
    assert b"EDPS-2029-7" not in on_disk(service)


def test_a_hold_of_an_agreement_or_of_all_and_its_release(federation: Federation) -> None:
    service = federation.services["ics2"]
    federation.clock.advance(YEARS_3 - 10 * DAY_S)
    until = federation.clock.now().date() + timedelta(days=100)
    one = service.retention.place(DPO, procedure="P", until=until, reason="R", agreement="SIS-OBJ:ics2-sis")
    federation.clock.advance(20 * DAY_S)
    service.tick_retention()
    kept = [leaves(service)[i] for i in bodies(service)]
    assert {leaf.agreement for leaf in kept if leaf.erase_after <= federation.clock.now()} == {"SIS-OBJ:ics2-sis"}
    everything = service.retention.place(DPO, procedure="P", until=until, reason="R")
    assert len(service.retention.holds(AUDITOR)) == 2
    service.retention.release(one.hold_id, AUDITOR, reason="ended")
    assert service.tick_retention() == 0
    with pytest.raises(ConflictError, match="released"):
        service.retention.renew(one.hold_id, DPO, until=until, reason="R")
    kept = bodies(service)
    service.retention.release(everything.hold_id, DPO, reason="ended")
    gone = kept - bodies(service)
    assert {leaves(service)[i].agreement for i in gone} >= {"SIS-OBJ:ics2-sis"}, "a release erases at once"
    assert service.tick_retention() == 0


def test_a_hold_of_a_template_is_one_of_its_agreements_and_one_of_nothing_is_refused(federation: Federation) -> None:
    service = federation.services["ics2"]
    federation.clock.advance(YEARS_3 - 10 * DAY_S)
    until = federation.clock.now().date() + timedelta(days=100)
    for wrong in ({"request_id": bytes(16)}, {"agreement": "SIS-OBJ:ics2-nowhere"}, {"agreement": "SIS"}):
        with pytest.raises(InputError, match="covers no entry"):
            service.retention.place(DPO, procedure="P", until=until, reason="R", **wrong)
    service.retention.place(DPO, procedure="P", until=until, reason="R", agreement="SIS-CHK")
    told = service.retention.place(DPO, procedure="P", until=until, reason="R", agreement="SIS-OBJ")
    held = {i for i, leaf in enumerate(leaves(service)) if (leaf.agreement or "").startswith(("SIS-OBJ:", "SIS-CHK:"))}
    assert [hold["hold"] for hold in service.retention.holds(AUDITOR)] == [told.hold_id]
    assert {hold["covers"] for hold in service.retention.holds(DPO)} == {"agreement SIS-CHK", "agreement SIS-OBJ"}
    federation.clock.advance(20 * DAY_S)
    service.tick_retention()
    young = {i for i, leaf in enumerate(leaves(service)) if leaf.erase_after > federation.clock.now()}
    assert held - young
    assert bodies(service) == held | young


def test_holds_are_for_data_protection_officers_and_auditors_with_a_reason_and_an_end(federation: Federation) -> None:
    retention, today = federation.services["ics2"].retention, federation.clock.now().date()
    good: dict[str, Any] = {"procedure": "P", "until": today, "reason": "R"}
    for who in (CHIEF, person("ics2"), person("ics2", Role.ADMIN, "a")):
        with pytest.raises(PurposeRefusedError):
            retention.place(who, **good)
    for change, error in (
        ({"procedure": " "}, ApprovalMissingError), ({"reason": " "}, ApprovalMissingError),
        ({"procedure": "x" * 201}, InputError), ({"reason": "x" * 4001}, InputError),
        ({"until": today - timedelta(days=1)}, InputError), ({"until": today + timedelta(days=367)}, InputError),
        ({"request_id": bytes(16), "agreement": "SIS-OBJ:ics2-sis"}, InputError),
    ):  # fmt: skip
        with pytest.raises(error):
            retention.place(DPO, **{**good, **change})
    with pytest.raises(PurposeRefusedError):
        retention.release("ffff", DPO, reason="R")
    for who in (CHIEF, person("ics2")):
        with pytest.raises(PurposeRefusedError):
            retention.holds(who)
    assert retention.holds(AUDITOR) == retention.holds(DPO) == []


# Opening


def test_who_opens_which_body(federation: Federation) -> None:
    """Under SIS-CHK customs gets no notice: what is logged of it there is for the data protection officer alone."""
    ics2, sis = federation.services["ics2"], federation.services["sis"]
    silent = [
        index
        for index, leaf in enumerate(leaves(ics2))
        if leaf.side is not None
        and leaf.side.value == "owner"
        and leaf.agreement == "SIS-CHK:sis-ics2"
        and leaf.event is not Event.POLICY_CHANGE
    ]
    assert silent
    review = index_of(ics2, Event.REVIEW)
    outcome = index_of(sis, Event.CASE_OUTCOME)
    for service, code, index, allowed in (
        (ics2, "ics2", review, {Role.DPO, Role.AUDITOR}),
        (ics2, "ics2", silent[0], {Role.DPO}),
        (ics2, "ics2", index_of(ics2, Event.POLICY_CHANGE), {Role.DPO, Role.AUDITOR, Role.SUPERVISOR}),
        (sis, "sis", outcome, {Role.DPO, Role.AUDITOR}),
    ):
        for role in Role:
            size, who = len(leaves(service)), person(code, role, "p1")
            if role not in allowed:
                with pytest.raises(PurposeRefusedError):
                    service.oversight.open_bodies([index], who, "why")
                assert len(leaves(service)) == size
                continue
            ((_, found),) = service.oversight.open_bodies([index], who, "why")
            assert found is not None
            told = body(service, size)
            assert leaves(service)[size].event is Event.LOG_READ
            assert (told["actor"], told["reason"], told["entries"]) == (who.uri, "why", [index])


def test_what_was_read_taken_out_and_held_is_for_the_data_protection_officer(federation: Federation) -> None:
    service = federation.services["ics2"]
    until = federation.clock.now().date() + timedelta(days=9)
    service.retention.place(DPO, procedure="P", until=until, reason="R")
    list(service.oversight.open_bodies([0], DPO, "why"))
    list(service.oversight.export_bodies(len(leaves(service)), DPO, "why"))
    for event in (Event.HOLD, Event.LOG_READ, Event.EXPORT):
        index = index_of(service, event)
        with pytest.raises(PurposeRefusedError):
            service.oversight.open_bodies([index], AUDITOR, "why")
        ((_, found),) = service.oversight.open_bodies([index], DPO, "why")
        assert found is not None


def test_a_read_is_an_audit_where_it_says_so(federation: Federation) -> None:
    service = federation.services["ics2"]
    change = index_of(service, Event.POLICY_CHANGE)
    for audit, operation in ((False, "bodies opened"), (True, "audit_sample")):
        size = len(leaves(service))
        list(service.oversight.open_bodies([change], AUDITOR, "why", audit=audit))
        assert body(service, size)["operation"] == operation


def test_the_commands_open_cover_hold_and_release(federation: Federation) -> None:
    ics2 = federation.services["ics2"]
    review, directory = index_of(ics2, Event.REVIEW), federation.root / "ics2"
    case = leaves(ics2)[index_of(ics2, Event.CASE_OPEN)].request_id
    assert case is not None
    federation.close("ics2")
    covered = live.run("log", "open", directory, review, "--reason", "R", "--json")
    ((value),) = covered.json
    assert (covered.code, value["index"], value["body"]["decision"]) == (0, review, "confirmed")
    assert "the same number" not in covered.out
    full = live.run("log", "open", directory, review, "--reason", "R", "--full", "--json")
    assert "the same number" in json.dumps(full.json)
    assert live.run("log", "open", directory, review, "--reason", " ").code == 4
    officer = directory / "people" / "officer1.crt"
    assert live.run("log", "open", directory, review, "--reason", "R", "--as", officer).code == 4
    assert "confirmed" in live.run("log", "open", directory, review, "--reason", "R").out
    until = f"{federation.clock.now() + timedelta(days=30):%Y-%m-%d}"
    placed = live.run(
        "log",
        "hold",
        directory,
        "--procedure",
        "P-1",
        "--until",
        until,
        "--reason",
        "R",
        "--request",
        case.hex(),
        "--json",
    )
    assert (placed.code, placed.json["covers"]) == (0, f"request {case.hex()}")
    hold = placed.json["hold"]
    assert live.run("log", "hold", directory, "--renew", hold, "--until", until, "--reason", "R").code == 0
    assert live.run("log", "hold", directory, "--release", hold, "--reason", "R").code == 0
    assert live.run("log", "hold", directory, "--release", hold, "--reason", "R").code == 4
    (listed,) = live.run("log", "holds", directory, "--json").json
    assert (listed["hold"], listed["state"], listed["renewed"]) == (hold, "released", 1)
    assert "P-1" in live.run("log", "holds", directory).out
    for wrong in (["--renew", "a", "--release", "b"], ["--procedure", "P"], ["--until", until, "--request", "zz"]):
        assert live.run("log", "hold", directory, "--reason", "R", *wrong).code == 2
    federation.open("ics2")
