"""People between a match and a disclosure: how many, who, with what reason, by when; with two needed at either side."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connector_psi.audit.entries import Event, parse_leaf
from connector_psi.disclosure import Grade, OwnerCaseState
from connector_psi.domain.records import Field, IdentifierType, SourceSystem
from connector_psi.errors import ApprovalMissingError, ConflictError, PurposeRefusedError
from connector_psi.node import setup
from connector_psi.node.service import Service
from connector_psi.pki import Role
from connector_psi.storage.cases import CaseRow
from tests.simulation.federation import Federation, alert, declaration, person
from tests.simulation.lines import recorded_lines
from tests.simulation.prepared import Prepared

NODES = Path(__file__).resolve().parents[2] / "nodes"
BOX = (IdentifierType.CONTAINER, "CSQU3054383")
CASE = {
    "purpose": "cpsi:ObjectSeizureOrEvidence",
    "legal_basis": "2018/1862:38",
    "case_reference": "CASE-1",
    "justification": "the box is on its way to the port",
}


@pytest.fixture(scope="module")
def matched(tmp_path_factory: pytest.TempPathFactory) -> Prepared[Federation]:
    root = tmp_path_factory.mktemp("matched")
    for name in ("ics2", "sis"):
        shutil.copytree(NODES / name, root / "profiles" / name)
        path = root / "profiles" / name / "policy.yaml"
        head, code, rest = path.read_text().partition("  SIS-OBJ:\n")
        rest = rest.replace("{querier_people: 1, owner_people: 1}", "{querier_people: 2, owner_people: 2}", 1)
        path.write_text(head + code + rest)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setup, "find_profile", lambda name: root / "profiles" / name)
        made = Federation(root / "nodes")
    made.services["ics2"].registration.register([declaration("M1", BOX)], "test")
    made.services["sis"].registration.register([alert("DE1", BOX)], "test")
    made.settle()
    return Prepared(made)


@pytest.fixture
def federation(matched: Prepared[Federation], tmp_path: Path) -> Iterator[Federation]:
    """Customs and N.SIS with SIS-OBJ, but with two people at either side, and one match."""
    made = matched.copy(tmp_path / "nodes")
    yield made
    made.close()


def bodies(service: Service, event: Event) -> list[dict[str, Any]]:
    """The sealed bodies of a node's entries of one kind."""
    node = service.node
    with node.store.read() as tx:
        leaves = node.entries.read_leaves(tx, 0, node.entries.size(tx))
        return [node.log.open_body(tx, index) for index, raw in enumerate(leaves) if parse_leaf(raw).event is event]


def opened(federation: Federation, **changes: str) -> CaseRow:
    ics2 = federation.services["ics2"]
    (match,) = ics2.review.list()
    for name in ("officer1", "officer2"):
        ics2.review.decide(match.match_id, person("ics2", name=name), "the same number", confirm=True)
    return ics2.asked.open(match.match_id, person("ics2"), **{**CASE, **changes})


def test_a_match_is_a_hit_once_two_people_confirmed_it_and_nobody_counts_twice(federation: Federation) -> None:
    ics2 = federation.services["ics2"]
    (match,) = ics2.review.list()
    first = ics2.review.decide(match.match_id, person("ics2"), "the same number", confirm=True)
    assert first.state == "new"
    for role in (Role.OFFICER, Role.SUPERVISOR):
        with pytest.raises(ConflictError, match="confirmed the match already"):
            ics2.review.decide(match.match_id, person("ics2", role), "again", confirm=True)
    with pytest.raises(ApprovalMissingError, match="not confirmed"):
        ics2.asked.open(match.match_id, person("ics2", name="officer2"), **CASE)
    second = ics2.review.decide(match.match_id, person("ics2", name="officer2"), "I agree", confirm=True)
    assert second.state == "confirmed"
    said = [(body["officer"].rpartition(":")[2], body["reason"]) for body in bodies(ics2, Event.REVIEW)]
    assert said == [("officer1", "the same number"), ("officer2", "I agree")]


def test_one_person_dismisses_and_the_case_can_not_be_opened(federation: Federation) -> None:
    ics2 = federation.services["ics2"]
    (match,) = ics2.review.list()
    ics2.review.decide(match.match_id, person("ics2"), "the same number", confirm=True)
    assert (
        ics2.review.decide(match.match_id, person("ics2", name="officer2"), "a typo", confirm=False).state
        == "dismissed"
    )
    with pytest.raises(ApprovalMissingError, match="dismissed, not confirmed"):
        ics2.asked.open(match.match_id, person("ics2"), **CASE)


def test_two_people_of_the_owner_approve_and_nobody_counts_twice(federation: Federation) -> None:
    case = opened(federation)
    federation.settle()
    sis = federation.services["sis"]
    first = sis.received.decide(case.request_id, person("sis"), "in order", approve=True)
    assert first.state == OwnerCaseState.AWAITING_DECISION
    for role in (Role.OFFICER, Role.SUPERVISOR):
        with pytest.raises(ConflictError, match="approved the case already"):
            sis.received.decide(case.request_id, person("sis", role), "again", approve=True)
    federation.settle(rounds=10, step_s=5)
    assert federation.services["ics2"].cases.get(case.request_id).row.state == "pending"
    second = sis.received.decide(
        case.request_id, person("sis", name="officer2"), "in order", approve=True, grade=Grade.THIN
    )
    assert second.state == OwnerCaseState.APPROVED
    federation.settle(rounds=10, step_s=5)
    assert federation.services["ics2"].cases.get(case.request_id).row.state == "disclosed"
    (outcome,) = (body for body in bodies(sis, Event.CASE_OUTCOME) if body["decision"] == "DISCLOSED")
    assert [(a["by"].rpartition(":")[2], a["grade"]) for a in outcome["approvals"]] == [
        ("officer1", "adequate"),
        ("officer2", "thin"),
    ]


def test_an_inadequate_justification_carries_no_approval(federation: Federation) -> None:
    case = opened(federation)
    federation.settle()
    received = federation.services["sis"].received
    with pytest.raises(ApprovalMissingError, match="inadequate"):
        received.decide(case.request_id, person("sis"), "why?", approve=True, grade=Grade.INADEQUATE)
    refused = received.decide(case.request_id, person("sis"), "why?", approve=False, grade=Grade.INADEQUATE)
    assert refused.state == OwnerCaseState.REFUSED
    federation.settle(rounds=10, step_s=5)
    (outcome,) = (body for body in bodies(federation.services["sis"], Event.CASE_OUTCOME) if body["refusal"])
    assert outcome["refusal"]["grade"] == "inadequate"
    assert federation.services["ics2"].cases.get(case.request_id).row.state == "pending", "the peer is not told yet"


def test_who_ordered_a_case_and_who_opened_it_are_both_sealed_and_told_to_nobody_else(federation: Federation) -> None:
    ordering = person("ics2", Role.SUPERVISOR, "supervisor1")
    case = opened(federation, ordered_by=ordering.uri)
    federation.settle()
    (body,) = (b for b in bodies(federation.services["ics2"], Event.CASE_OPEN) if "ordering_officer" in b)
    assert body["ordering_officer"] == ordering.uri
    assert body["executing_officer"] == person("ics2").uri
    assert [name.rpartition(":")[2] for name in body["confirmed_by"]] == ["officer1", "officer2"]
    at_owner = federation.services["sis"].cases.get(case.request_id).row.payload
    assert ordering.id not in str(at_owner)
    assert person("ics2").id not in str(at_owner)


@pytest.mark.parametrize(
    "uri",
    [
        "urn:connector-psi:person:sis:officer:officer1",
        "urn:connector-psi:person:ics2:dpo:dpo1",
        "urn:connector-psi:person:ics2:system:system1",
        "urn:connector-psi:authority:ics2",
        "supervisor1",
    ],
)
def test_only_officers_and_supervisors_of_the_same_authority_order(federation: Federation, uri: str) -> None:
    with pytest.raises(PurposeRefusedError, match="orders a case"):
        opened(federation, ordered_by=uri)


def test_what_is_not_answered_in_time_is_shown_and_alarmed_at_both_sides_once(federation: Federation) -> None:
    """12 hours for a SIRENE bureau."""
    case = opened(federation)
    federation.settle()
    views = {code: federation.services[code].cases.get(case.request_id) for code in ("ics2", "sis")}
    for view in views.values():
        assert view.answer_due_ms - view.row.opened_ms == 12 * 3_600_000
        assert not view.overdue
    federation.clock.advance(12 * 3600)
    federation.settle()
    for code, side in (("ics2", "querier"), ("sis", "owner")):
        service = federation.services[code]
        assert service.cases.get(case.request_id).overdue
        expected = {"code": "case.answer_overdue", "agreement": "SIS-OBJ:ics2-sis", "side": side, "count": 1}
        assert service.status()["alarms"] == [expected]
        with recorded_lines() as lines:
            service.alarms.tell()
            service.alarms.tell()
        assert [line for line in lines if line["event"] == "alarm"] == [
            {"event": "alarm", "level": "warning", **expected}
        ]
    sis = federation.services["sis"]
    for name in ("officer1", "officer2"):
        sis.received.decide(case.request_id, person("sis", name=name), "late", approve=True)
    federation.settle(rounds=10, step_s=5)
    for code in ("ics2", "sis"):
        assert federation.services[code].status()["alarms"] == []
        assert not federation.services[code].cases.get(case.request_id).overdue


def test_a_field_that_waits_for_no_consent_can_not_be_released(federation: Federation) -> None:
    case = opened(federation)
    federation.settle()
    with pytest.raises(PurposeRefusedError, match="waits for no provider's consent"):
        federation.services["sis"].received.decide(
            case.request_id, person("sis"), "in order", approve=True, released=[Field.OBJECT_TYPE]
        )


def test_a_provider_releases_fields_for_one_case(tmp_path: Path) -> None:
    """Under H2 nothing but the hit leaves; what the provider released for the case leaves with it."""
    made = Federation(tmp_path, profiles=("ics2", "europol"))
    ics2, europol = made.services["ics2"], made.services["europol"]
    ics2.registration.register([declaration("M1", BOX)], "test")
    record = replace(
        alert("EIS-1", BOX, category="eis.container"),
        fields={
            Field.OBJECT_TYPE: ("container",),
            Field.PROVIDER: ("DE",),
            Field.HANDLING_CODES: ("H2",),
            Field.EVALUATION_CODE: ("A1",),
            Field.NAMES: ("a name",),
            Field.CASE_REFERENCES: ("EU-1",),
        },
    )
    europol.registration.register([replace(record, source=SourceSystem.EIS)], "test")
    made.settle()
    (match,) = ics2.review.list()
    ics2.review.decide(match.match_id, person("ics2"), "the same number", confirm=True)
    case = ics2.asked.open(
        match.match_id,
        person("ics2"),
        purpose="cpsi:CrossChecking",
        legal_basis="2016/794:20",
        case_reference="CASE-2",
        justification="the box is on its way to the port",
    )
    made.settle()
    view = europol.cases.get(case.request_id)
    assert set(view.awaiting_consent) == {"names", "case_references"}
    assert "names" not in view.fields
    europol.received.decide(
        case.request_id, person("europol"), "the provider agreed", approve=True, released=[Field.CASE_REFERENCES]
    )
    assert europol.cases.get(case.request_id).awaiting_consent == ("names",)
    made.settle(rounds=10, step_s=5)
    got = ics2.cases.get(case.request_id)
    assert got.row.state == "disclosed"
    assert set(got.fields) == {"object_type", "provider", "handling_codes", "evaluation_code", "case_references"}
    made.close()
