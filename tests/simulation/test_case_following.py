"""What becomes of the own record while a case is open: shown at the querier by kind and names, logged, and told to nobody else."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from connector_psi.adapters import formats, ncts
from connector_psi.audit.entries import Event, parse_leaf
from connector_psi.disclosure import CaseState
from connector_psi.domain import changes
from connector_psi.domain.records import Field, IdentifierType, Record, SourceSystem, Supersession
from connector_psi.node.service import Service
from connector_psi.rpc import convert
from tests import customs_samples
from tests.simulation.casework import ask_about_sought
from tests.simulation.federation import Federation, alert, declaration, person
from tests.simulation.prepared import Prepared

BOX = (IdentifierType.CONTAINER, "CSQU3054383")
OTHER = (IdentifierType.CONTAINER, "MSCU1234566")
SHIP, OTHER_SHIP = (IdentifierType.IMO, "9074729"), (IdentifierType.IMO, "9321483")
DECLARED = declaration("M1", BOX, SHIP, route="CO", place="DEHAM", eta="2026-11-01T06:00", means="imo 9074729")
OBJ, CHK = "SIS-OBJ:ics2-sis", "SIS-CHK:sis-ics2"


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Prepared[Federation]:
    made = Federation(tmp_path_factory.mktemp("begun") / "nodes")
    made.services["ics2"].registration.register([DECLARED], "test")
    made.services["sis"].registration.register([alert("DE1", BOX)], "test")
    made.settle(2)
    return Prepared(made)


@pytest.fixture
def federation(begun: Prepared[Federation], tmp_path: Path) -> Iterator[Federation]:
    """Customs has a declaration that N.SIS looks for, and N.SIS an alert that is in it."""
    made = begun.copy(tmp_path / "nodes")
    yield made
    made.close()


def register(federation: Federation, *records: Record, code: str = "ics2") -> None:
    federation.services[code].registration.register(records, "test")
    federation.services[code].tick_queried_cases()


def told(service: Service, request_id: bytes) -> list[tuple[str, list[str]]]:
    """What a case shows, as a person sees it."""
    shown = convert.case_json(convert.case_message(service.cases.get(request_id)))["changes"]
    assert all(each["when"] for each in shown)
    return [(each["kind"], each["fields"]) for each in shown]


def entries(service: Service) -> list[dict[str, Any]]:
    """Bodies of the ALTER entries about cases."""
    node = service.node
    with node.store.read() as tx:
        leaves = [parse_leaf(raw) for raw in node.entries.read_leaves(tx, 0, node.entries.size(tx))]
        bodies = [
            node.log.open_body(tx, index)
            for index, leaf in enumerate(leaves)
            if leaf.event is Event.ALTER and leaf.agreement is not None
        ]
    return [body for body in bodies if "case" in body]


def with_fields(record: Record, **fields: str) -> Record:
    return replace(record, fields={**record.fields, **{Field(name): (value,) for name, value in fields.items()}})


def test_an_amendment_of_the_declaration_is_shown_in_its_open_case_by_names_and_logged(federation: Federation) -> None:
    ics2 = federation.services["ics2"]
    request_id = ask_about_sought(federation)
    assert told(ics2, request_id) == []
    register(federation, with_fields(DECLARED, goods_description="sand"))
    assert told(ics2, request_id) == [("amended", ["goods_description"])]
    # Other identifiers too, and a record that says the same again is nothing new.
    more = replace(DECLARED, identifiers=(*DECLARED.identifiers, *declaration("x", OTHER).identifiers))
    register(federation, with_fields(more, goods_description="sand"))
    register(federation, with_fields(more, goods_description="sand"))
    assert told(ics2, request_id)[1:] == [("amended", ["container"])]
    (first, second) = entries(ics2)
    assert first["case"] == request_id.hex()
    assert first["record"] == "M1"
    assert first["changes"] == [{"kind": "amended", "fields": ["goods_description"]}]
    assert second["changes"] == [{"kind": "amended", "fields": ["container"]}]
    # No value stands in an entry or in what the case keeps to compare with.
    kept = ics2.cases.get(request_id).row.payload
    assert "sand" not in str(entries(ics2))
    assert not {"sand", "CO", BOX[1]} & set(str(kept["seen"]).split("'"))


def test_another_route_place_time_or_ship_is_a_re_routing(federation: Federation) -> None:
    ics2 = federation.services["ics2"]
    request_id = ask_about_sought(federation)
    moved = with_fields(DECLARED, route="VE", place="NLRTM")
    register(federation, moved)
    register(federation, with_fields(moved, eta="2026-11-03T06:00"))
    other = declaration("M1", BOX, OTHER_SHIP, route="VE", place="NLRTM", eta="2026-11-03T06:00", means="imo 9321483")
    register(federation, with_fields(other, hs6="250510"))
    assert told(ics2, request_id) == [
        ("rerouted", ["place", "route"]),
        ("rerouted", ["eta"]),
        ("rerouted", ["imo", "means"]),
        ("amended", ["hs6"]),
    ]


@pytest.mark.parametrize("state", [CaseState.PENDING, CaseState.DISCLOSED])
def test_a_case_is_followed_in_every_open_state_and_not_once_it_is_over(
    federation: Federation, state: CaseState
) -> None:
    ics2, sis = federation.services["ics2"], federation.services["sis"]
    request_id = ask_about_sought(federation)
    federation.settle(rounds=1)
    if state is CaseState.DISCLOSED:
        sis.received.decide(request_id, person("sis"), "it is the sought box", approve=True)
        federation.settle(rounds=20)
    assert ics2.cases.get(request_id).row.state == state
    ics2.registration.register([with_fields(DECLARED, route="VE")], "test")
    ics2.following.advance()
    assert told(ics2, request_id) == [("rerouted", ["route"])]
    if state is not CaseState.DISCLOSED:
        return
    fields = ics2.cases.get(request_id).fields
    assert fields
    federation.clock.advance(timedelta(days=4 * 366).total_seconds())
    ics2.tick_erasure()
    assert ics2.cases.get(request_id).row.state == CaseState.EXPIRED
    assert "seen" not in ics2.cases.get(request_id).row.payload
    register(federation, with_fields(DECLARED, route="US"))
    assert told(ics2, request_id) == [("rerouted", ["route"])]


@pytest.mark.parametrize("how", ["withdrawn", "expired", "not named again"])
def test_a_declaration_that_leaves_and_comes_back(federation: Federation, how: str) -> None:
    ics2 = federation.services["ics2"]
    request_id = ask_about_sought(federation)
    if how == "withdrawn":
        ics2.registration.withdraw(SourceSystem.ICS2, "M1", "test", "test")
    elif how == "expired":
        register(federation, replace(DECLARED, valid_until=federation.clock.now() + timedelta(seconds=60)))
        federation.clock.advance(61)
        ics2.registration.expire()
    else:
        ics2.registration.register([], "test", [Supersession(SourceSystem.ICS2, "M1", version=7)])
    ics2.tick_queried_cases()
    ics2.tick_queried_cases()
    assert told(ics2, request_id) == [("left", [])]
    back = replace(DECLARED, version=8, valid_until=federation.clock.now() + timedelta(days=1))
    register(federation, with_fields(back, route="VE") if how == "expired" else back)
    assert told(ics2, request_id)[1:] == [("rerouted", ["route"]) if how == "expired" else ("amended", [])]


def test_a_change_while_the_node_was_down_is_noticed_once_when_it_is_up(federation: Federation) -> None:
    request_id = ask_about_sought(federation)
    ics2 = federation.services["ics2"]
    ics2.registration.register([with_fields(DECLARED, place="NLRTM")], "test")
    # Killed before any loop had its turn.
    federation.close("ics2")
    ics2 = federation.open("ics2")
    assert ics2.following.advance() == 1
    assert ics2.following.advance() == 0
    federation.close("ics2")
    ics2 = federation.open("ics2")
    assert ics2.following.advance() == 0
    assert told(ics2, request_id) == [("rerouted", ["place"])]
    assert len(entries(ics2)) == 1


def test_nothing_is_written_for_records_without_a_case(federation: Federation) -> None:
    ics2 = federation.services["ics2"]
    ask_about_sought(federation)
    ics2.tick_queried_cases()
    before = len(entries(ics2))
    register(federation, declaration("M2", OTHER, route="CO"))
    register(federation, declaration("M2", OTHER, route="VE"))
    assert len(entries(ics2)) == before


# --- Arrival ----------------------------------------------------------------------------------------------------------


def read(data: bytes) -> tuple[list[Record], list[Supersession]]:
    items = [*formats.read(BytesIO(data), file="x")]
    return [i for i in items if isinstance(i, Record)], [i for i in items if isinstance(i, Supersession)]


def ingest(federation: Federation, data: bytes) -> None:
    records, ended = read(data)
    federation.services["ics2"].registration.register(records, "test", ended)


def test_a_statement_of_arrival_of_the_movement_is_shown_in_the_case_about_its_declaration(tmp_path: Path) -> None:
    federation = Federation(tmp_path / "nodes")
    try:
        ics2 = federation.services["ics2"]
        ingest(
            federation,
            customs_samples.transit("CC029C", mrn=customs_samples.MRN, consignment=customs_samples.equipment(BOX[1])),
        )
        federation.services["sis"].registration.register([alert("DE1", BOX)], "test")
        federation.settle()
        request_id = ask_about_sought(federation)
        # Another movement's arrival is nothing to this case.
        ingest(federation, customs_samples.statement("CC007C", mrn="26DE00000000000J99"))
        ics2.tick_queried_cases()
        assert told(ics2, request_id) == []
        ingest(federation, customs_samples.statement("CC007C"))
        # A start in between loses nothing.
        federation.close("ics2")
        ics2 = federation.open("ics2")
        ics2.tick_queried_cases()
        ((kind, names),) = told(ics2, request_id)
        assert (kind, "mrn" in names) == ("arrived", True)
        ingest(federation, customs_samples.statement("CC007C", time="2026-03-02T11:00:00"))
        ics2.tick_queried_cases()
        assert len(told(ics2, request_id)) == 1
        assert [body["changes"][0]["kind"] for body in entries(ics2)] == ["arrived"]
    finally:
        federation.close()


def test_the_messages_that_state_an_arrival_are_statements_that_the_adapter_reads() -> None:
    record = Record(SourceSystem.NCTS, "M/1", "ncts.transit", (), {}, bytes(32), message_ref="M")
    stated = {ref.partition("/")[2] for ref in changes.arrivals_of(record)}
    others = {ref.partition("/")[2] for ref in changes.messages_about(record)} - {""}
    statements = {name for name, (telling, _) in ncts.MESSAGES.items() if telling is ncts.Telling.STATEMENT}
    assert stated == {"CC007C", "CC043C", "CC044C"}
    assert stated | others == statements
    assert not changes.arrivals_of(replace(record, source=SourceSystem.ICS2))
    assert changes.is_arrival(replace(record, message_ref="M/CC043C"))
    assert not changes.is_arrival(replace(record, message_ref="M/CC182C"))


# --- Where the owner gets no notice -----------------------------------------------------------------------------------


def test_without_notice_to_the_owner_the_querier_sees_it_and_nothing_goes_to_the_owner(tmp_path: Path) -> None:
    federation = Federation(tmp_path / "nodes")
    calls: list[str] = []
    try:
        ics2, sis = federation.services["ics2"], federation.services["sis"]
        ics2.registration.register([DECLARED], "test")
        sought = alert("DE36", BOX, category="sis.36")
        sis.registration.register([sought], "test")
        federation.settle()
        (match,) = [row for row in sis.review.list() if row.agreement == CHK]
        sis.review.decide(match.match_id, person("sis"), "the same box", confirm=True)
        row = sis.asked.open(
            match.match_id,
            person("sis"),
            purpose="cpsi:DiscreetInquiryOrSpecificCheck",
            legal_basis="2018/1862:36",
            case_reference="C1",
            justification="discreet check",
        )
        federation.fault = calls.append
        database = Path(ics2.node.layout.data) / "node.db"
        before = _dump(database)
        register(federation, with_fields(sought, action="inquiry"), code="sis")
        assert told(sis, row.request_id) == [("amended", ["action"])]
        assert calls == []
        assert _dump(database) == before
        assert entries(ics2) == []
    finally:
        federation.close()


def _dump(database: Path) -> list[str]:
    with sqlite3.connect(database) as connection:
        return [line for line in connection.iterdump() if line.startswith("INSERT")]
