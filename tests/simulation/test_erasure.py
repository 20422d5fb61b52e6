"""What was disclosed is gone on time at both sides: its bytes, not only its row; and the log says so without a value."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from connector_psi import disclosure
from connector_psi.audit.entries import Event, Leaf, parse_leaf
from connector_psi.disclosure import CaseState, OwnerCaseState
from connector_psi.domain.records import IdentifierType
from connector_psi.errors import PurposeRefusedError
from connector_psi.node.service import Service
from connector_psi.rpc import convert
from connector_psi.storage import peers, schema
from tests.simulation.federation import Federation, alert, declaration, person
from tests.simulation.prepared import Prepared

BOX = (IdentifierType.CONTAINER, "CSQU3054383")
CASE = {
    "purpose": "cpsi:ObjectSeizureOrEvidence",
    "legal_basis": "2018/1862:38",
    "case_reference": "CASE-1",
    "justification": "the box is on its way to the port",
}
DAY_S = 86_400.0


@pytest.fixture(scope="module")
def matched(tmp_path_factory: pytest.TempPathFactory) -> Prepared[Federation]:
    made = Federation(tmp_path_factory.mktemp("matched") / "nodes")
    made.services["ics2"].registration.register([declaration("M1", BOX)], "test")
    made.services["sis"].registration.register([alert("DE1", BOX)], "test")
    made.settle()
    return Prepared(made)


@pytest.fixture
def federation(matched: Prepared[Federation], tmp_path: Path) -> Iterator[Federation]:
    """Customs and N.SIS, one match."""
    made = matched.copy(tmp_path)
    yield made
    made.close()


def opened(federation: Federation) -> bytes:
    ics2 = federation.services["ics2"]
    (match,) = ics2.review.list()
    ics2.review.decide(match.match_id, person("ics2"), "the same number", confirm=True)
    return ics2.asked.open(match.match_id, person("ics2"), **CASE).request_id


def disclosed(federation: Federation) -> bytes:
    case = opened(federation)
    federation.settle()
    federation.services["sis"].received.decide(case, person("sis"), "in order", approve=True)
    federation.settle(rounds=10, step_s=5)
    assert federation.services["ics2"].cases.get(case).row.state == CaseState.DISCLOSED
    return case


def entries(service: Service, event: Event, case: bytes) -> Sequence[tuple[Leaf, dict[str, Any]]]:
    """Entries about one case; agreements without notice to the owner have covers of their own."""
    node = service.node
    with node.store.read() as tx:
        leaves = node.entries.read_leaves(tx, 0, node.entries.size(tx))
        return [
            (leaf, node.log.open_body(tx, index))
            for index, leaf in enumerate(map(parse_leaf, leaves))
            if leaf.event is event and leaf.request_id == case
        ]


def state(service: Service, case: bytes) -> str:
    """The state of a case after a turn of the clock's erasure."""
    service.erasure.run()
    return service.cases.get(case).row.state


def sealed(service: Service, case: bytes) -> bytes:
    with service.node.store.read() as tx:
        return bytes(tx.execute(of_case(schema.cases.c.sealed, case=case)).scalar_one())


def of_case(*columns: sa.ColumnElement[Any], case: bytes) -> sa.Select[Any]:
    return sa.select(*columns).where(schema.cases.c.request_id == case)


def on_disk(service: Service) -> bytes:
    """Everything in the files of a node's database."""
    folder = service.node.layout.data
    return b"".join(path.read_bytes() for path in sorted(folder.glob("node.db*")))


def pieces(blob: bytes) -> list[bytes]:
    """Pieces of a row that stand together on a page, wherever it begins on one."""
    return [blob[start : start + 64] for start in range(0, len(blob) - 64, 1024)]


def shown(service: Service, case: bytes) -> dict[str, Any]:
    return convert.case_json(convert.case_message(service.cases.get(case)))


def test_the_querier_erases_what_was_disclosed_to_the_second_and_the_log_says_what(federation: Federation) -> None:
    case, ics2 = disclosed(federation), federation.services["ics2"]
    before, blob = ics2.cases.get(case), sealed(ics2, case)
    values = {value for texts in before.fields.values() for value in texts}
    assert values
    due = datetime.fromisoformat(shown(ics2, case)["erase_after"])
    federation.clock.advance((due - federation.clock.now() - timedelta(seconds=1)).total_seconds())
    assert state(ics2, case) == CaseState.DISCLOSED
    assert all(piece in on_disk(ics2) for piece in pieces(blob)), "the test would see what is there"
    federation.clock.advance(1)
    assert state(ics2, case) == CaseState.EXPIRED
    left = on_disk(ics2)
    assert not [piece for piece in pieces(blob) if piece in left]
    after = ics2.cases.get(case)
    assert (after.row.state, dict(after.fields)) == (CaseState.EXPIRED, {})
    assert not any(name in json.dumps(after.row.payload) for name in ('"envelope"', '"salt"', '"signature"'))
    assert not any(value in json.dumps(after.row.payload["outcome"]["fields"]) for value in values)
    ((leaf, body),) = entries(ics2, Event.ERASE, case)
    ((receipt, _),) = entries(ics2, Event.RECEIPT, case)
    assert leaf.request_id == case
    assert leaf.source_commitment == receipt.source_commitment
    assert body == {
        "operation": "erasure",
        "case": case.hex(),
        "fields": sorted(before.fields),
        "receipt": receipt.source_commitment.hex() if receipt.source_commitment else "",
        "erased": ["fields", "envelope", "ticket"],
        "reason": "retention",
    }


def test_what_stands_is_shown_and_no_field(federation: Federation) -> None:
    case, ics2 = disclosed(federation), federation.services["ics2"]
    before = shown(ics2, case)
    federation.clock.advance(4 * 366 * DAY_S)
    ics2.erasure.run()
    after = shown(ics2, case)
    assert after["fields"] == {}
    assert after["erased_fields"] == sorted(before["fields"])
    same = ("opened", "due", "erase_after", "obligations", "handling", "outcome_entry", "case_reference", "purpose")
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    node = ics2.node
    with node.store.read() as tx:
        raw = node.entries.read_leaves(tx, after["erased_entry"], after["erased_entry"] + 1)
    assert parse_leaf(raw[0]).event is Event.ERASE


def test_the_owner_erases_what_it_served_when_the_case_window_is_over(federation: Federation) -> None:
    case, sis = disclosed(federation), federation.services["sis"]
    with sis.node.store.read() as tx:
        blob = sealed(sis, case)
        opened_ms = tx.execute(of_case(schema.cases.c.opened_ms, case=case)).scalar_one()
    agreement = next(b.agreement for b in sis.node.agreements() if b.code == "SIS-OBJ:ics2-sis")
    end = disclosure.window_end(
        datetime.fromtimestamp(opened_ms / 1000, tz=UTC),
        sis.node.config.disclosure.not_disclosed_after_s,
        agreement.case_window_days,
    )
    federation.clock.advance((end - federation.clock.now() - timedelta(seconds=1)).total_seconds())
    assert state(sis, case) == OwnerCaseState.RELEASED
    assert sis.received.outcome("ics2", agreement.code, case) is not None
    federation.clock.advance(1)
    assert state(sis, case) == OwnerCaseState.ERASED
    left = on_disk(sis)
    assert not [piece for piece in pieces(blob) if piece in left]
    with pytest.raises(PurposeRefusedError, match="no such case any more"):
        sis.received.outcome("ics2", agreement.code, case)
    view = shown(sis, case)
    assert (view["state"], view["fields"]) == (OwnerCaseState.ERASED, {})
    ((leaf, body),) = entries(sis, Event.ERASE, case)
    ((outcome, said),) = entries(sis, Event.CASE_OUTCOME, case)
    assert leaf.source_commitment == outcome.source_commitment
    assert (body["fields"], body["reason"]) == (said["fields"], "window")
    assert state(federation.services["ics2"], case) == CaseState.DISCLOSED, (
        "the recipient keeps it for as long as it may"
    )


def test_a_refusal_is_erased_at_the_owner_at_the_time_of_a_disclosure(tmp_path: Path) -> None:
    times = []
    start = datetime.now(tz=UTC).replace(microsecond=0)
    for name, approve in (("yes", True), ("no", False)):
        federation = Federation(tmp_path / name, start=start)
        federation.services["ics2"].registration.register([declaration("M1", BOX)], "test")
        federation.services["sis"].registration.register([alert("DE1", BOX)], "test")
        federation.settle()
        case = opened(federation)
        federation.settle()
        sis = federation.services["sis"]
        sis.received.decide(case, person("sis"), "as it is", approve=approve)
        federation.settle(rounds=10, step_s=5)
        with sis.node.store.read() as tx:
            times.append(tx.execute(of_case(schema.cases.c.state, schema.cases.c.next_ms, case=case)).one())
        federation.close()
    assert times[0] == times[1]
    assert times[0].state == OwnerCaseState.RELEASED


@pytest.mark.parametrize("sent", [False, True])
def test_a_case_without_an_answer_expires_with_its_window(federation: Federation, sent: bool) -> None:
    ics2 = federation.services["ics2"]
    if not sent:
        federation.close("sis")
    case = opened(federation)
    ics2.tick_cases()
    if sent:
        federation.close("sis")
    assert ics2.cases.get(case).row.state == (CaseState.PENDING if sent else CaseState.DRAFTED)
    agreement = next(b.agreement for b in ics2.node.agreements() if b.code == "SIS-OBJ:ics2-sis")
    federation.clock.advance(agreement.case_window_days * DAY_S)
    assert state(ics2, case) != CaseState.EXPIRED
    federation.clock.advance(ics2.node.config.disclosure.not_disclosed_after_s)
    assert state(ics2, case) == CaseState.EXPIRED
    after = ics2.cases.get(case).row
    assert not {"ticket_id", "redeem"} & set(after.payload)
    ((_, body),) = entries(ics2, Event.ERASE, case)
    assert (body["fields"], body["reason"], body["receipt"]) == ([], "window", "")
    assert ics2.asked.advance() == 0


def test_a_case_of_an_agreement_that_ended_expires_too(federation: Federation) -> None:
    case, ics2 = opened(federation), federation.services["ics2"]
    with ics2.node.store.write() as tx:
        peers.drop_agreements(tx, "sis", set())
    ics2.node.refresh_peers()
    assert ics2.node.agreements() == []
    federation.clock.advance(100 * DAY_S)
    assert state(ics2, case) == CaseState.EXPIRED


def test_erasure_and_its_entry_are_there_together_or_not_at_all(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, ics2 = disclosed(federation), federation.services["ics2"]
    federation.clock.advance(4 * 366 * DAY_S)
    with monkeypatch.context() as patch:
        patch.setattr("connector_psi.node.erasure.store.update_case", _fails)
        ics2.erasure.run()
    assert entries(ics2, Event.ERASE, case) == []
    assert ics2.cases.get(case).row.state == CaseState.DISCLOSED
    federation.clock.advance(3600)
    assert state(ics2, case) == CaseState.EXPIRED
    assert len(entries(ics2, Event.ERASE, case)) == 1


def _fails(*_: object) -> None:
    raise ValueError("a defect")


def test_remains_are_dropped_once_nobody_reads_an_older_state(federation: Federation) -> None:
    case, ics2 = disclosed(federation), federation.services["ics2"]
    blob = sealed(ics2, case)
    federation.clock.advance(4 * 366 * DAY_S)
    with ics2.node.store.read() as tx:
        tx.execute(sa.select(schema.cases.c.state)).all()
        ics2.erasure.run()
        assert [piece for piece in pieces(blob) if piece in on_disk(ics2)], "a reader holds the log"
    assert ics2.erasure.run() == 0
    left = on_disk(ics2)
    assert not [piece for piece in pieces(blob) if piece in left]


def test_where_the_owner_gets_no_notice_a_disclosure_and_its_covers_are_erased_alike(tmp_path: Path) -> None:
    federation = Federation(tmp_path)
    ics2, sis = federation.services["ics2"], federation.services["sis"]
    ics2.registration.register([declaration("M1", BOX, route="CO")], "test")
    sis.registration.register([alert("DE36", BOX, category="sis.36")], "test")
    federation.settle()
    (match,) = sis.review.list()
    sis.review.decide(match.match_id, person("sis"), "the same box", confirm=True)
    case = sis.asked.open(
        match.match_id,
        person("sis"),
        purpose="cpsi:DiscreetInquiryOrSpecificCheck",
        legal_basis="2018/1862:36",
        case_reference="SIRENE-1",
        justification="the box arrives this week",
    ).request_id
    federation.settle(rounds=45, step_s=5)
    assert sis.cases.get(case).row.state == CaseState.DISCLOSED
    rows = quiet_rows(ics2)
    slot = [row for row in rows if row.opened_ms == next(r.opened_ms for r in rows if r.request_id == case)]
    assert len(slot) > 1, "it came among covers"
    assert len({row.next_ms for row in slot}) == 1
    federation.clock.advance(60 * DAY_S)
    ics2.erasure.run()
    after = [row for row in quiet_rows(ics2) if row.request_id in {r.request_id for r in slot}]
    assert {row.state for row in after} == {OwnerCaseState.ERASED}
    assert len({len(row.sealed) for row in after}) == 1
    assert {len(entries(ics2, Event.ERASE, row.request_id)) for row in after} == {1}
    assert {len(sealed_body(ics2, index)) for row in after for index in indexes(ics2, Event.ERASE, row.request_id)} == {
        len(sealed_body(ics2, indexes(ics2, Event.ERASE, case)[0]))
    }
    with pytest.raises(PurposeRefusedError):
        ics2.cases.get(case)
    federation.close()


def quiet_rows(service: Service) -> Sequence[sa.Row[Any]]:
    """What an owner without notice keeps of the cases that were opened at it."""
    with service.node.store.read() as tx:
        return tx.execute(
            sa.select(schema.cases).where(schema.cases.c.quiet.is_(True), schema.cases.c.side == "owner")
        ).all()


def indexes(service: Service, event: Event, case: bytes) -> list[int]:
    node = service.node
    with node.store.read() as tx:
        leaves = [parse_leaf(raw) for raw in node.entries.read_leaves(tx, 0, node.entries.size(tx))]
    return [index for index, leaf in enumerate(leaves) if leaf.event is event and leaf.request_id == case]


def sealed_body(service: Service, index: int) -> bytes:
    with service.node.store.read() as tx:
        found = service.node.entries.read_body(tx, index)
    assert found is not None
    return found.ciphertext
