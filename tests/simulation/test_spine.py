"""The whole way of one container, from two registrations to a receipt, in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from connector_psi.audit.entries import Event, parse_leaf
from connector_psi.domain.records import IdentifierType, SourceSystem, Supersession
from connector_psi.errors import ApprovalMissingError, ConflictError, PurposeRefusedError
from connector_psi.pki import Role
from connector_psi.storage import queried
from tests.simulation.federation import Federation, alert, declaration, person

CONTAINER = (IdentifierType.CONTAINER, "CSQU3054383")
OTHER = (IdentifierType.CONTAINER, "MSKU0000006")
PURPOSE = {"purpose": "cpsi:ObjectSeizureOrEvidence", "legal_basis": "2018/1862:38"}


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    made = Federation(tmp_path)
    yield made
    made.close()


def _match(federation: Federation) -> queried.MatchRow:
    federation.services["sis"].registration.register([alert("DE1", CONTAINER)], "test")
    federation.services["ics2"].registration.register([declaration("M1", CONTAINER), declaration("M2", OTHER)], "test")
    federation.settle()
    (row,) = federation.services["ics2"].review.list()
    return row


def _events(federation: Federation, code: str) -> list[Event]:
    node = federation.services[code].node
    with node.store.read() as tx:
        leaves = [parse_leaf(leaf) for leaf in node.entries.read_leaves(tx, 0, node.entries.size(tx))]
    # Under the agreements without notice covers come and go; sets are published on the clock.
    return [
        leaf.event
        for leaf in leaves
        if leaf.agreement in {None, "SIS-OBJ:ics2-sis"} and leaf.event is not Event.SET_PUBLISH
    ]


def test_a_shared_container_is_found_confirmed_disclosed_and_logged(federation: Federation) -> None:
    row = _match(federation)
    ics2, sis = federation.services["ics2"], federation.services["sis"]
    assert (row.payload["record_ref"], row.payload["types"]) == ("M1", ["container"])
    with pytest.raises(ApprovalMissingError):
        ics2.asked.open(row.match_id, person("ics2"), **PURPOSE, case_reference="C1", justification="j")
    ics2.review.decide(row.match_id, person("ics2"), "same container", confirm=True)
    case = ics2.asked.open(row.match_id, person("ics2"), **PURPOSE, case_reference="C1", justification="j")
    federation.settle()
    (view,) = sis.cases.list()
    assert view.row.state == "awaiting_decision"
    assert sis.cases.get(case.request_id).withheld == ("alert_reason",)
    sis.received.decide(case.request_id, person("sis", Role.SUPERVISOR, "supervisor1"), "checked", approve=True)
    federation.settle(rounds=12)
    got = ics2.cases.get(case.request_id)
    assert got.row.state == "disclosed"
    assert got.fields["schengen_id"] == ("DE1",)
    assert "alert_reason" not in got.fields
    assert _events(federation, "sis")[-2:] == [Event.CASE_OPEN, Event.CASE_OUTCOME]
    assert _events(federation, "ics2")[-3:] == [Event.REVIEW, Event.CASE_OPEN, Event.RECEIPT]
    for service in federation.services.values():
        assert service.oversight.verify()["verified"] is True


def test_a_refused_case_is_answered_not_disclosed_after_the_full_time(federation: Federation) -> None:
    row = _match(federation)
    ics2, sis = federation.services["ics2"], federation.services["sis"]
    ics2.review.decide(row.match_id, person("ics2"), "same container", confirm=True)
    case = ics2.asked.open(row.match_id, person("ics2"), **PURPOSE, case_reference="C1", justification="j")
    federation.settle()
    sis.received.decide(case.request_id, person("sis", Role.SUPERVISOR), "no", approve=False)
    federation.settle(rounds=20)
    assert ics2.cases.get(case.request_id).row.state == "pending"
    federation.clock.advance(72 * 3600)
    federation.settle(rounds=12)
    assert ics2.cases.get(case.request_id).row.state == "not_disclosed"


def test_nothing_is_decided_twice(federation: Federation) -> None:
    row = _match(federation)
    ics2, sis = federation.services["ics2"], federation.services["sis"]
    ics2.review.decide(row.match_id, person("ics2"), "same container", confirm=True)
    with pytest.raises(ConflictError):
        ics2.review.decide(row.match_id, person("ics2"), "again", confirm=False)
    case = ics2.asked.open(row.match_id, person("ics2"), **PURPOSE, case_reference="C1", justification="j")
    with pytest.raises(ConflictError):
        ics2.asked.open(row.match_id, person("ics2"), **PURPOSE, case_reference="C1", justification="j")
    federation.settle()
    sis.received.decide(case.request_id, person("sis", Role.SUPERVISOR), "yes", approve=True)
    with pytest.raises(ConflictError):
        sis.received.decide(case.request_id, person("sis", Role.SUPERVISOR, "other"), "no", approve=False)


def test_a_dismissal_persists_over_epochs_until_the_tokens_change(federation: Federation) -> None:
    row = _match(federation)
    ics2, sis = federation.services["ics2"], federation.services["sis"]
    ics2.review.decide(row.match_id, person("ics2"), "not ours", confirm=False)
    sis.registration.register([alert("DE2", OTHER)], "test")
    federation.settle()
    states = {m.payload["record_ref"]: m.state for m in ics2.review.list()}
    assert states == {"M1": "dismissed", "M2": "new"}
    sis.registration.register([alert("DE3", CONTAINER)], "test")
    federation.settle()
    assert sorted(m.state for m in ics2.review.list() if m.payload["record_ref"] == "M1") == ["dismissed", "new", "new"]


def test_a_withdrawn_alert_takes_its_undecided_match_back(federation: Federation) -> None:
    row = _match(federation)
    ics2, sis = federation.services["ics2"], federation.services["sis"]
    assert sis.registration.withdraw(SourceSystem.SIS, "DE1", "recovered", "test")
    federation.settle()
    assert ics2.review.list() == []
    assert ics2.review.get(row.match_id)[0].state == "gone"


def test_an_amended_declaration_takes_its_undecided_match_back_at_once(federation: Federation) -> None:
    row = _match(federation)
    ics2 = federation.services["ics2"]
    ics2.registration.register([declaration("M1", OTHER)], "test")
    federation.settle(1)
    assert ics2.review.list() == []
    assert ics2.review.get(row.match_id)[0].state == "gone"
    ics2.registration.register([declaration("M1", CONTAINER)], "test")
    federation.settle(1)
    assert [found.match_id for found in ics2.review.list()] == [row.match_id]


def test_a_withdrawn_declaration_takes_its_undecided_match_back(federation: Federation) -> None:
    row = _match(federation)
    ics2 = federation.services["ics2"]
    assert ics2.registration.withdraw(SourceSystem.ICS2, "M1", "cancelled", "test")
    federation.settle(1)
    assert ics2.review.list() == []
    assert ics2.review.get(row.match_id)[0].state == "gone"


def test_an_expired_alert_takes_its_undecided_match_back(federation: Federation) -> None:
    ics2, sis = federation.services["ics2"], federation.services["sis"]
    until = federation.clock.now() + timedelta(seconds=20)
    sis.registration.register([replace(alert("DE1", CONTAINER), valid_until=until)], "test")
    ics2.registration.register([declaration("M1", CONTAINER)], "test")
    federation.settle()
    assert [row.state for row in ics2.review.list()] == ["new"]
    federation.clock.advance(20)
    federation.settle()
    assert ics2.review.list() == []
    # An expired alert that is prolonged is matched again.
    longer = replace(alert("DE1", CONTAINER), valid_until=until + timedelta(days=30))
    sis.registration.register([longer], "test")
    federation.settle()
    assert [row.state for row in ics2.review.list()] == ["new"]


def test_an_expired_declaration_takes_its_undecided_match_back(federation: Federation) -> None:
    ics2, sis = federation.services["ics2"], federation.services["sis"]
    until = federation.clock.now() + timedelta(seconds=20)
    sis.registration.register([alert("DE1", CONTAINER)], "test")
    ics2.registration.register([replace(declaration("M1", CONTAINER), valid_until=until)], "test")
    federation.settle()
    assert [row.state for row in ics2.review.list()] == ["new"]
    federation.clock.advance(20)
    federation.settle(1)
    assert ics2.review.list() == []


def test_what_a_newer_message_does_not_name_again_leaves_with_its_match(federation: Federation) -> None:
    ics2, sis = federation.services["ics2"], federation.services["sis"]
    sis.registration.register([alert("DE1", CONTAINER)], "test")
    first = [
        replace(declaration(f"M/{n}", item), message_ref="M", version=1) for n, item in ((1, OTHER), (2, CONTAINER))
    ]
    ics2.registration.register(first, "test", [Supersession(SourceSystem.ICS2, "M", 1)])
    federation.settle()
    assert [row.payload["record_ref"] for row in ics2.review.list()] == ["M/2"]
    second = [replace(first[0], version=2)]
    results = ics2.registration.register(second, "test", [Supersession(SourceSystem.ICS2, "M", 2)])
    assert [result.outcome for result in results] == ["duplicate", "updated"]
    federation.settle(1)
    assert ics2.review.list() == []
    # The first message once more, late: it changes nothing.
    results = ics2.registration.register(first, "test", [Supersession(SourceSystem.ICS2, "M", 1)])
    assert {result.outcome for result in results} == {"duplicate"}
    federation.settle(1)
    assert ics2.review.list() == []


def test_a_message_that_was_not_kept_whole_takes_nothing_back(federation: Federation) -> None:
    ics2 = federation.services["ics2"]
    first = [replace(declaration(f"M/{n}", CONTAINER), message_ref="M", version=1) for n in (1, 2)]
    ics2.registration.register(first, "test", [Supersession(SourceSystem.ICS2, "M", 1)])
    second = [replace(first[0], version=2), replace(first[1], version=2, category="no.such.category")]
    results = ics2.registration.register(second, "test", [Supersession(SourceSystem.ICS2, "M", 2)])
    assert [result.outcome for result in results] == ["duplicate", "rejected", "duplicate"]
    assert ics2.status()["records"] == 2


def test_what_comes_in_batches_is_not_asked_with_in_real_time(federation: Federation) -> None:
    ics2, sis = federation.services["ics2"], federation.services["sis"]
    sis.registration.register([alert("DE1", CONTAINER)], "test")
    batch = replace(declaration("S1", CONTAINER), source=SourceSystem.SURVEILLANCE, category="surveillance.declaration")
    ics2.registration.register([batch], "test")
    federation.settle()
    assert federation.queries == []
    assert ics2.review.list() == []
    ics2.registration.register([replace(batch, source=SourceSystem.NCTS, category="ncts.transit")], "test")
    federation.settle()
    assert [row.payload["record_ref"] for row in ics2.review.list()] == ["S1"]


def test_a_hidden_alert_is_never_published(federation: Federation) -> None:
    federation.services["sis"].registration.register([alert("DE1", CONTAINER, hidden=True)], "test")
    federation.services["ics2"].registration.register([declaration("M1", CONTAINER)], "test")
    federation.settle()
    assert federation.services["ics2"].review.list() == []


def test_a_revoked_peer_is_answered_nothing(federation: Federation) -> None:
    _match(federation)
    federation.services["sis"].revoke("ics2")
    with pytest.raises(PurposeRefusedError):
        federation.services["sis"].evaluation.evaluate(federation.queries[0])
    with pytest.raises(PurposeRefusedError):
        federation.services["sis"].publishing.get_manifest("ics2", "SIS-OBJ:ics2-sis")


def test_the_same_query_again_gives_the_same_bytes_and_debits_nothing(federation: Federation) -> None:
    _match(federation)
    sis = federation.services["sis"]
    query = federation.queries[-1]
    before = sis.status()
    first = sis.evaluation.evaluate(query)
    assert sis.evaluation.evaluate(query) == first
    assert sis.status() == before
