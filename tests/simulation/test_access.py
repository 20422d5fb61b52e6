"""Access by case: two people at the owner grant it before anything is evaluated, and the grant bounds what follows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connector_psi import pki
from connector_psi.audit.entries import Event
from connector_psi.domain.records import SourceSystem, TokenClass
from connector_psi.errors import (
    ApprovalMissingError,
    CapacityExceededError,
    ConflictError,
    ConnectorError,
    InputError,
    ProtocolError,
    PurposeRefusedError,
    UnavailableError,
)
from connector_psi.node.ports import NO_ACCESS, AccessAnswer
from connector_psi.node.service import Service
from connector_psi.pki import Role
from connector_psi.protocol.owner import Query
from connector_psi.storage import accesses, owned
from connector_psi.storage.store import Store, Tx
from tests.simulation.casework import (
    AGREEMENT,
    CHIEF,
    CONTAINER,
    FIRST,
    OFFICER,
    OTHER_CONTAINER,
    PHONE,
    PURPOSE,
    SECOND,
    T_S,
    ask,
    begun,
    found,
    grant,
    granted,
    message,
    query,
    signed,
    states,
)
from tests.simulation.crash import read_leaves
from tests.simulation.federation import DirectOwner, Federation, declaration, person
from tests.simulation.prepared import Prepared

AT_ONCE = 40


@pytest.fixture(scope="module")
def beginning(tmp_path_factory: pytest.TempPathFactory) -> Prepared[Federation]:
    return Prepared(begun(tmp_path_factory.mktemp("begun") / "nodes"))


@pytest.fixture
def federation(beginning: Prepared[Federation], tmp_path: Path) -> Iterator[Federation]:
    made = beginning.copy(tmp_path)
    yield made
    made.close()


def asked_under(federation: Federation) -> list[Query]:
    return [q for q in federation.queries if q.agreement == AGREEMENT]


def books(service: Service, code: str = AGREEMENT) -> tuple[int, int, list[int]]:
    """CONSULT leaves of an agreement, elements debited from its capacity, elements debited from each grant."""
    node = service.node
    with node.store.read() as tx:
        used = owned.used_today(tx, code, f"{node.clock.now():%Y-%m-%d}")
    leaves = [leaf for leaf in read_leaves(service) if leaf.event is Event.CONSULT and leaf.agreement == code]
    return len(leaves), sum(used.values()), [view.row.used for view in service.accesses.list()]


# From a request to a disclosure


def test_one_case_from_the_request_to_the_disclosure(federation: Federation) -> None:
    police, ics2 = federation.services["police"], federation.services["ics2"]
    row = ask(federation)
    federation.settle(3, 10)
    assert (states(federation), states(federation, "ics2")) == (["pending"], ["awaiting_decision"])
    assert (asked_under(federation), found(federation)) == ([], [])

    grant(federation, row.request_id)
    federation.settle(3, 10)
    assert (states(federation), states(federation, "ics2")) == (["queried"], ["granted"])
    (sent,) = asked_under(federation)
    assert (sent.n_padded, len(sent.access_id)) == (8, 16)
    assert books(ics2) == (1, 8, [8])

    (match,) = found(federation)
    for who in (OFFICER, CHIEF):
        police.review.decide(match.match_id, who, "compared", confirm=True)
    case = police.asked.open(match.match_id, OFFICER, case_reference="R", justification="J", **PURPOSE)
    federation.settle(2, 10)
    for who in (FIRST, SECOND):
        ics2.received.decide(case.request_id, who, "the case was granted", approve=True)
    federation.settle(3, 10)
    view = police.cases.get(case.request_id)
    assert (view.row.state, view.fields) == ("disclosed", {"mrn": ("M1",)})


def test_every_identifier_of_the_records_is_asked_in_one_batch_a_class(tmp_path: Path) -> None:
    messages = (message("S1", CONTAINER, PHONE), message("S2", OTHER_CONTAINER, CONTAINER), message("S3", PHONE))
    federation = begun(tmp_path, messages, [declaration("M1", PHONE, CONTAINER), declaration("M2", OTHER_CONTAINER)])
    try:
        row = ask(federation, "S1", "S2")
        assert row.payload["identifiers"] == 3
        federation.settle()
        grant(federation, row.request_id)
        federation.settle(3, 10)
        assert Counter(q.token_class for q in asked_under(federation)) == {TokenClass.OBJECT: 1, TokenClass.CONTACT: 1}
        matched = sorted((m.payload["record_ref"], m.payload["types"]) for m in found(federation))
        # S3 was not named: it shows no match, though its phone is one of S1.
        assert matched == [("S1", ["container", "phone"]), ("S2", ["container"]), ("S2", ["container"])]
        assert federation.services["police"].accesses.list()[0].row.used == 16
    finally:
        federation.close()


def test_case_mode_is_never_asked_without_a_grant_whatever_is_registered(federation: Federation) -> None:
    police = federation.services["police"]
    police.registration.register([message(f"T{n}", CONTAINER) for n in range(20)], "test")
    federation.settle(3)
    federation.services["ics2"].registration.register([declaration("M9", CONTAINER)], "test")
    # ``sync`` waits for a delta of its own time, in which nothing changed.
    federation.empty_deltas = True
    federation.settle(2)
    assert asked_under(federation) == []
    assert police.querying.pending(AGREEMENT) == 0
    assert police.sync(0).waiting_for == () or AGREEMENT not in police.sync(0).waiting_for


def test_a_withdrawn_record_takes_its_undecided_match_with_it(federation: Federation) -> None:
    row = ask(federation)
    federation.settle()
    grant(federation, row.request_id)
    federation.settle(3, 10)
    assert len(found(federation)) == 1
    federation.services["police"].registration.withdraw(SourceSystem.SIENA, "S1", "closed", "test")
    federation.settle()
    assert found(federation) == []


# Who grants, how much, how long


def test_one_person_is_not_two(federation: Federation) -> None:
    ics2 = federation.services["ics2"]
    row = ask(federation)
    federation.settle()
    ics2.granting.decide(row.request_id, FIRST, "needed", approve=True)
    for again in (FIRST, pki.PersonIdentity("ics2", Role.SUPERVISOR, FIRST.id)):
        with pytest.raises(ConflictError, match="this person"):
            ics2.granting.decide(row.request_id, again, "needed", approve=True)
    federation.settle(3, 10)
    assert (states(federation), states(federation, "ics2")) == (["pending"], ["awaiting_decision"])
    assert asked_under(federation) == []


def test_what_one_person_grants_is_nothing_in_the_end(federation: Federation) -> None:
    row = ask(federation)
    federation.settle()
    federation.services["ics2"].granting.decide(row.request_id, FIRST, "needed", approve=True)
    federation.clock.advance(T_S)
    federation.settle(2, 10)
    assert (states(federation), states(federation, "ics2")) == (["not_granted"], ["not_granted"])
    with pytest.raises(ConflictError):
        federation.services["ics2"].granting.decide(row.request_id, SECOND, "late", approve=True)
    assert asked_under(federation) == []


def test_one_refusal_ends_it_and_is_told_at_t_alone(federation: Federation) -> None:
    ics2 = federation.services["ics2"]
    row = ask(federation)
    federation.settle()
    accepted = federation.clock.now()
    ics2.granting.decide(row.request_id, FIRST, "needed", approve=True)
    ics2.granting.decide(row.request_id, SECOND, "not needed", approve=False)
    federation.settle(3, 10)
    assert (states(federation), states(federation, "ics2")) == (["pending"], ["not_granted"])
    federation.clock.advance(T_S - (federation.clock.now() - accepted).total_seconds() - 30)
    federation.settle(1)
    assert states(federation) == ["pending"]
    federation.clock.advance(40)
    federation.settle(1)
    assert states(federation) == ["not_granted"]


@pytest.mark.parametrize("reason", ["", "  ", "x" * 4001])
def test_a_decision_needs_a_reason(federation: Federation, reason: str) -> None:
    row = ask(federation)
    federation.settle()
    for approve in (True, False):
        with pytest.raises(ApprovalMissingError):
            federation.services["ics2"].granting.decide(row.request_id, FIRST, reason, approve=approve)


def test_fewer_are_granted_and_the_first_ones_named_are_asked(tmp_path: Path) -> None:
    messages = (message("S1", CONTAINER), message("S2", OTHER_CONTAINER))
    federation = begun(tmp_path, messages, [declaration("M1", CONTAINER), declaration("M2", OTHER_CONTAINER)])
    try:
        row = ask(federation, "S2", "S1")
        federation.settle()
        ics2 = federation.services["ics2"]
        with pytest.raises(ConflictError, match="no more"):
            ics2.granting.decide(row.request_id, FIRST, "needed", approve=True, identifiers=3)
        ics2.granting.decide(row.request_id, FIRST, "needed", approve=True)
        ics2.granting.decide(row.request_id, SECOND, "one is enough", approve=True, identifiers=1)
        federation.settle(3, 10)
        (held,) = federation.services["police"].accesses.list()
        assert (held.row.state, held.row.identifiers, held.row.elements) == ("queried", 1, 8)
        assert [m.payload["record_ref"] for m in found(federation)] == ["S2"]
    finally:
        federation.close()


def test_the_earliest_end_counts_and_no_more_hours_than_agreed(federation: Federation) -> None:
    ics2, request = federation.services["ics2"], signed(federation)
    ics2.granting.request("police", request)
    with pytest.raises(ConflictError, match="no more"):
        ics2.granting.decide(request.request_id, FIRST, "needed", approve=True, hours=73)
    ics2.granting.decide(request.request_id, FIRST, "needed", approve=True, hours=5)
    ics2.granting.decide(request.request_id, SECOND, "needed", approve=True, hours=2)
    decided = federation.clock.now()
    federation.clock.advance(11)
    ics2.tick_cases()
    ics2.tick_log()
    answer = ics2.granting.request("police", request)
    assert answer is not None
    assert answer.expires_ms == (decided.timestamp() + 2 * 3600) * 1000


def test_a_wish_beyond_the_policy_is_cut_to_it(federation: Federation) -> None:
    opened_ms = federation.services["ics2"].node.now_ms()
    answer = granted(federation, signed(federation, expires_ms=opened_ms + 1000 * 3_600_000))
    assert answer.expires_ms == opened_ms + 72 * 3_600_000


def test_what_is_over_before_it_is_released_is_not_granted(federation: Federation) -> None:
    ics2 = federation.services["ics2"]
    request = signed(federation, expires_ms=ics2.node.now_ms() + 500)
    ics2.granting.request("police", request)
    grant(federation, request.request_id)
    federation.clock.advance(11)
    federation.settle(1)
    assert states(federation, "ics2") == ["not_granted"]
    late = signed(federation, expires_ms=ics2.node.now_ms() - 1)
    ics2.granting.request("police", late)
    with pytest.raises(ConflictError, match="over"):
        ics2.granting.decide(late.request_id, FIRST, "needed", approve=True)


def test_a_revoked_peer_gets_nothing(federation: Federation) -> None:
    ics2 = federation.services["ics2"]
    request = signed(federation)
    ics2.granting.request("police", request)
    grant(federation, request.request_id)
    ics2.revoke("police")
    federation.clock.advance(11)
    ics2.tick_cases()
    assert states(federation, "ics2") == ["not_granted"]


# What a grant allows


def _refused(service: Service, *queries: Query) -> None:
    said = set()
    for each in queries:
        with pytest.raises(PurposeRefusedError) as refusal:
            service.evaluation.evaluate(each)
        said.add((type(refusal.value), str(refusal.value), refusal.value.public_detail))
    assert len(said) == 1


def test_evaluation_needs_a_grant_and_one_refusal_serves_them_all(tmp_path: Path) -> None:
    federation = begun(tmp_path, profiles=("ics2", "police", "gendarmerie=police", "customs2"))
    try:
        ics2 = federation.services["ics2"]
        own = granted(federation, signed(federation)).access_id
        theirs = signed(federation, "gendarmerie", "LEA-CASE:gendarmerie-ics2")
        other = granted(federation, theirs, "gendarmerie").access_id
        _refused(
            ics2,
            query(b""),
            query(bytes(16)),
            query(b"\1" * 16),
            query(other),  # another peer's
            query(own, caller="gendarmerie", code="LEA-CASE:gendarmerie-ics2"),
            query(own, code="CUS-47:police-ics2"),  # bulk mode wants none
            query(own, tokens=25),  # more elements than granted
        )
        _refused(federation.services["customs2"], query(own, code="LEA-CASE:police-customs2"))
        assert books(ics2) == (0, 0, [0, 0])
        ics2.evaluation.evaluate(query(own))
        assert books(ics2) == (1, 8, [8, 0])
    finally:
        federation.close()


def test_a_grant_of_another_agreement_of_the_same_peer_is_none(federation: Federation) -> None:
    answer = granted(federation, signed(federation))
    node = federation.services["ics2"].node
    with node.store.write() as tx:
        now = node.now_ms()
        assert accesses.granted(tx, "police", "OTHER:police-ics2", answer.access_id, now) is None
        assert not accesses.debit(tx, "police", "OTHER:police-ics2", answer.access_id, now, 8)
        assert accesses.granted(tx, "police", AGREEMENT, answer.access_id, now) is not None


def test_a_grant_holds_what_its_identifiers_take_and_no_more(federation: Federation) -> None:
    ics2, answer = federation.services["ics2"], granted(federation, signed(federation))
    assert (answer.identifiers, answer.elements) == (3, 24)
    _refused(ics2, query(answer.access_id, 9, tokens=17))
    for number, token_class in enumerate((TokenClass.OBJECT, TokenClass.CONTACT, TokenClass.ORGANISATION)):
        ics2.evaluation.evaluate(query(answer.access_id, number, token_class=token_class))
    _refused(ics2, query(answer.access_id, 4), query(answer.access_id, 5, token_class=TokenClass.CONTACT))
    assert books(ics2) == (3, 24, [24])


def test_a_grant_ends_by_the_clock_for_what_was_asked_before_too(federation: Federation) -> None:
    ics2, answer = federation.services["ics2"], granted(federation, signed(federation), hours=1)
    ics2.evaluation.evaluate(query(answer.access_id, 1))
    federation.clock.advance(3600 - 12)
    ics2.evaluation.evaluate(query(answer.access_id, 2))
    federation.clock.advance(12)
    _refused(ics2, query(answer.access_id, 1), query(answer.access_id, 3))


def test_what_capacity_refuses_costs_the_grant_nothing(tmp_path: Path) -> None:
    class Small(Federation):
        edits = (
            ("per_day: 2000, per_year: 104000, per_officer_day: 200", "per_day: 8, per_year: 80, per_officer_day: 8"),
        )

    federation = begun(tmp_path, kind=Small)
    try:
        ics2, answer = federation.services["ics2"], granted(federation, signed(federation))
        ics2.evaluation.evaluate(query(answer.access_id, 1))
        with pytest.raises(CapacityExceededError):
            ics2.evaluation.evaluate(query(answer.access_id, 2))
        assert books(ics2) == (1, 8, [8])
    finally:
        federation.close()


# At once, again, and after a restart


def _at_once(call: Any, requests: list[Any]) -> list[object]:
    def answer(request: Any) -> object:
        try:
            return call(request)
        except ConnectorError as error:
            return type(error)

    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(answer, requests))


def test_a_grant_is_never_debited_beyond_what_it_holds_by_calls_at_once_nor_restarts(federation: Federation) -> None:
    answer = granted(federation, signed(federation))
    answers: list[object] = []
    for part in range(2):
        queries = [query(answer.access_id, n) for n in range(part, AT_ONCE, 2)]
        answers += _at_once(federation.services["ics2"].evaluation.evaluate, queries)
        federation.close("ics2")
        federation.open("ics2")
    assert len(answers) - answers.count(PurposeRefusedError) == 3
    assert books(federation.services["ics2"]) == (3, 24, [24])


def test_one_query_many_times_at_once_is_one_debit_and_one_answer(federation: Federation) -> None:
    ics2, answer = federation.services["ics2"], granted(federation, signed(federation))
    answers = _at_once(ics2.evaluation.evaluate, [query(answer.access_id)] * AT_ONCE)
    assert len(set(answers)) == 1
    assert books(ics2) == (1, 8, [8])
    with pytest.raises(ConflictError):
        ics2.evaluation.evaluate(replace(query(answer.access_id), source_commitment=b"\1" * 32))
    assert books(ics2) == (1, 8, [8])


def test_one_request_many_times_at_once_is_one_request(federation: Federation) -> None:
    ics2, request = federation.services["ics2"], signed(federation)
    other = signed(federation, request_id=request.request_id, necessity="another one")
    answers = _at_once(lambda r: ics2.granting.request("police", r), [request] * AT_ONCE)
    assert set(answers) == {None}
    with pytest.raises(ConflictError):
        ics2.granting.request("police", other)
    assert states(federation, "ics2") == ["awaiting_decision"]
    opened = [leaf for leaf in read_leaves(ics2) if leaf.event is Event.CASE_OPEN]
    assert [leaf.request_id for leaf in opened] == [request.request_id]


def test_the_answer_is_the_same_each_time_and_after_a_restart(federation: Federation) -> None:
    request = signed(federation)
    answer = granted(federation, request)
    assert federation.services["ics2"].granting.request("police", request) == answer
    federation.close("ics2")
    assert federation.open("ics2").granting.request("police", request) == answer


def test_nothing_is_told_before_a_checkpoint_covers_the_decision(federation: Federation) -> None:
    ics2, request = federation.services["ics2"], signed(federation)
    ics2.granting.request("police", request)
    grant(federation, request.request_id)
    federation.clock.advance(11)
    ics2.tick_cases()
    assert states(federation, "ics2") == ["granted"]
    assert ics2.granting.request("police", request) is None
    ics2.tick_log()
    assert ics2.granting.request("police", request) not in {None, NO_ACCESS}


@pytest.mark.parametrize(
    "change",
    [
        {"identifiers": 0}, {"identifiers": 65}, {"expires_ms": 0}, {"expires_ms": 1 << 60}, {"request_id": bytes(15)},
        {"actor_commitments": bytes(32)}, {"case_reference": " "}, {"case_reference": "x" * 201}, {"offence": ""},
        {"necessity": "x" * 4001},
    ],
)  # fmt: skip
def test_a_request_that_is_not_what_it_must_be_is_refused_and_leaves_nothing(
    federation: Federation, change: dict[str, Any]
) -> None:
    ics2 = federation.services["ics2"]
    with pytest.raises(ProtocolError):
        ics2.granting.request("police", signed(federation, **change))
    assert states(federation, "ics2") == []


def test_a_request_is_of_its_signer_and_of_an_agreement_that_needs_it(federation: Federation) -> None:
    ics2, request = federation.services["ics2"], signed(federation)
    with pytest.raises(ProtocolError, match="signature"):
        ics2.granting.request("police", replace(request, identifiers=2))
    for code in ("CUS-47:police-ics2", "LEA-CASE:police-sis"):
        with pytest.raises(PurposeRefusedError):
            ics2.granting.request("police", signed(federation, code=code))
    assert states(federation, "ics2") == []


# What the querier sees to


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"agreement": "CUS-47:police-ics2"}, PurposeRefusedError),
        ({"agreement": "LEA-CASE:police-sis"}, PurposeRefusedError),
        ({"records": [(SourceSystem.SIENA, "S9")]}, PurposeRefusedError),
        ({"records": [(SourceSystem.SIENA, "S2")]}, PurposeRefusedError),  # no identifier that is covered
        ({"records": []}, InputError),
        ({"records": [(SourceSystem.SIENA, "S1")] * 2}, InputError),
        ({"records": [(SourceSystem.SIENA, "S3")]}, CapacityExceededError),
        ({"case_reference": " "}, ApprovalMissingError),
        ({"offence": ""}, ApprovalMissingError),
        ({"necessity": "x" * 4001}, ApprovalMissingError),
        ({"hours": 73}, InputError),
        ({"ordered_by": "somebody"}, PurposeRefusedError),
        ({"ordered_by": "urn:connector-psi:person:ics2:officer:o"}, PurposeRefusedError),
        ({"ordered_by": "urn:connector-psi:person:police:system:s"}, PurposeRefusedError),
    ],
)
def test_what_cannot_be_asked_for(tmp_path: Path, change: dict[str, Any], kind: type[Exception]) -> None:
    from tests.privacy.staging import container

    many = [(CONTAINER[0], container(n)) for n in range(65)]
    federation = begun(tmp_path, (message("S1", CONTAINER), message("S2"), message("S3", *many)))
    try:
        said: dict[str, Any] = {
            "agreement": AGREEMENT, "records": [(SourceSystem.SIENA, "S1")], "case_reference": "R", "offence": "O",
            "necessity": "N", **change,
        }  # fmt: skip
        police = federation.services["police"]
        with pytest.raises(kind):
            police.asked_access.request(said.pop("agreement"), OFFICER, said.pop("records"), **said)
        assert states(federation) == []
    finally:
        federation.close()


def test_who_ordered_it_travels_as_a_pseudonym_and_stands_in_the_own_log(federation: Federation) -> None:
    police = federation.services["police"]
    row = police.asked_access.request(
        AGREEMENT, OFFICER, [(SourceSystem.SIENA, "S1")], case_reference="R", offence="O", necessity="N",
        ordered_by=CHIEF.uri,
    )  # fmt: skip
    assert (row.payload["officer"], row.payload["ordered_by"]) == (OFFICER.uri, CHIEF.uri)
    federation.settle()
    (view,) = federation.services["ics2"].accesses.list()
    assert view.row.payload["actors"] == "".join(row.payload["actors"])
    assert len(set(row.payload["actors"])) == 2
    assert "officer" not in view.row.payload


class OneBatchADay(Federation):
    edits = (("per_officer_day: 200", "per_officer_day: 8"),)


def test_an_officer_keeps_to_the_limit_of_the_day_over_restarts(tmp_path: Path) -> None:
    messages = (message("S1", CONTAINER), message("S2", OTHER_CONTAINER), message("S3", PHONE))
    federation = begun(tmp_path, messages, kind=OneBatchADay)
    try:
        for ref, officer in (
            ("S1", OFFICER),
            ("S2", person("police", Role.SUPERVISOR, OFFICER.id)),  # the same person
            ("S3", OFFICER),  # another class
            ("S2", CHIEF),
        ):
            row = ask(federation, ref, officer=officer)
            federation.settle(2, 10)
            grant(federation, row.request_id)
            federation.settle(3, 10)
            federation.close("police")
            federation.open("police")
        federation.settle(3, 10)
        assert sorted(states(federation)) == ["granted", "queried", "queried", "queried"]
        federation.clock.advance(24 * 3600)
        federation.settle(2, 10)
        assert states(federation) == ["queried"] * 4
    finally:
        federation.close()


def test_a_grant_that_was_not_used_ends(tmp_path: Path) -> None:
    federation = begun(tmp_path, (message("S1", CONTAINER), message("S2", OTHER_CONTAINER)), kind=OneBatchADay)
    try:
        for ref in ("S1", "S2"):
            row = ask(federation, ref, hours=2)
            federation.settle(2, 10)
            grant(federation, row.request_id)
            federation.settle(3, 10)
        assert states(federation) == ["queried", "granted"]
        federation.clock.advance(2 * 3600)
        federation.settle(2, 10)
        assert states(federation) == ["queried", "expired"]
        assert len(asked_under(federation)) == 1
    finally:
        federation.close()


def test_what_left_since_is_not_asked_with(tmp_path: Path) -> None:
    federation = begun(tmp_path, (message("S1", CONTAINER), message("S2", OTHER_CONTAINER)))
    try:
        rows = [ask(federation, "S1"), ask(federation, "S2", "S1")]
        federation.settle()
        federation.services["police"].registration.withdraw(SourceSystem.SIENA, "S1", "closed", "test")
        for row in rows:
            grant(federation, row.request_id)
        federation.settle(3, 10)
        assert sorted(states(federation)) == ["expired", "queried"]
        assert len(asked_under(federation)) == 1
    finally:
        federation.close()


@pytest.mark.parametrize(
    "change",
    [{"identifiers": 2}, {"elements": 16}, {"expires_ms": 1 << 52}, {"access_id": bytes(16)}],
)
def test_an_owner_that_grants_what_was_not_asked_is_not_believed(
    federation: Federation, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    ask(federation)
    expires_ms = federation.services["police"].node.now_ms() + 3_600_000
    answer = replace(AccessAnswer(b"\1" * 16, 1, 8, expires_ms), **change)
    monkeypatch.setattr(DirectOwner, "request_access", lambda *_: answer)
    with pytest.raises(ProtocolError):
        federation.services["police"].asked_access.advance()
    assert states(federation) == ["drafted"]


# Crashes


class Crashed(BaseException):
    """Stands for the end of the process: no handler of the program sees it."""


class Crashing(Federation):
    """The ``at``-th commit that wrote something does not happen, or happens and nobody learns of it; or a call is lost."""

    at, after, count = 0, False, 0

    def step(self, _name: str = "") -> None:
        self.count += 1
        if self.count == self.at:
            raise Crashed

    @contextmanager
    def armed(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        write = Store.write

        @contextmanager
        def writing(store: Store, *, alone: bool = False) -> Iterator[Tx]:
            with write(store, alone=alone) as tx:
                before = tx.connection.dbapi_connection.total_changes  # type: ignore[union-attr]
                yield tx
                wrote = tx.connection.dbapi_connection.total_changes != before  # type: ignore[union-attr]
                if wrote and not self.after:
                    self.step()
            if wrote and self.after:
                self.step()

        self.fault = self.step
        with monkeypatch.context() as patched:
            patched.setattr(Store, "write", writing)
            try:
                yield
            finally:
                self.fault = lambda _name: None

    def restart(self) -> None:
        for code in list(self.services):
            self.close(code)
            self.open(code)


def _turns(federation: Federation) -> None:
    for _ in range(2):
        federation.clock.advance(10)
        for service in federation.services.values():
            service.tick_cases()
            service.tick_log()
        # The other agreements have nothing to ask.
        federation.services["police"].look_for_sets([AGREEMENT])
        federation.services["police"].ask([AGREEMENT])


def _story(federation: Federation, request_id: bytes) -> None:
    ics2 = federation.services["ics2"]
    _turns(federation)
    for who in (FIRST, SECOND):
        (view,) = ics2.accesses.list()
        approved = {a["by"] for a in view.row.payload["approvals"]}
        if who.uri not in approved and view.row.state == "awaiting_decision":
            ics2.granting.decide(request_id, who, "needed", approve=True)
    _turns(federation)


@pytest.mark.parametrize("after", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_whatever_dies_when_it_ends_as_if_nothing_had_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    messages = (message("S1", CONTAINER, PHONE),)
    federation = begun(tmp_path / "0", messages, [declaration("M1", CONTAINER, PHONE)], kind=Crashing)
    row = ask(federation)
    before = books(federation.services["ics2"])[0]
    asked = Prepared(federation)
    died = 0
    for at in range(1, 100, 2):
        federation = asked.copy(tmp_path / str(at))
        assert isinstance(federation, Crashing)
        try:
            federation.at, federation.after, federation.count = at, after, 0
            crashed = False
            with federation.armed(monkeypatch):
                try:
                    _story(federation, row.request_id)
                except Crashed:
                    crashed = True
            if crashed:
                died += 1
                federation.restart()
                _story(federation, row.request_id)
            _verify_one_story(federation, before)
            if not crashed:
                break
        finally:
            federation.close()
    assert died > 20


def _verify_one_story(federation: Federation, before: int) -> None:
    police, ics2 = federation.services["police"], federation.services["ics2"]
    assert (states(federation), states(federation, "ics2")) == (["queried"], ["granted"])
    assert books(ics2) == (before + 2, 16, [16])
    assert [m.payload["types"] for m in found(federation)] == [["container", "phone"]]
    for service in (police, ics2):
        assert service.oversight.verify()["verified"]
        leaves = [leaf for leaf in read_leaves(service) if leaf.agreement == AGREEMENT and leaf.request_id]
        once = Counter((leaf.event, leaf.request_id) for leaf in leaves)
        assert set(once.values()) == {1}
    kinds = {
        code: Counter(leaf.event.value for leaf in read_leaves(service) if leaf.agreement == AGREEMENT)
        for code, service in federation.services.items()
    }
    assert kinds["police"] | {"POLICY_CHANGE": 0} == {"POLICY_CHANGE": 0, "CASE_OPEN": 1, "RECEIPT": 1, "CONSULT": 2}
    assert [kinds["ics2"][name] for name in ("CASE_OPEN", "CASE_OUTCOME", "CONSULT")] == [1, 1, 2]
    asked = {q.request_id: q for q in federation.queries if q.agreement == AGREEMENT}
    assert len(asked) == 2
    # Sent again means the same bytes again.
    assert all(q == asked[q.request_id] for q in federation.queries if q.agreement == AGREEMENT)
    (view,) = police.accesses.list()
    assert view.row.payload["batches"] == []


def test_what_was_begun_is_finished_in_its_own_set_when_a_newer_one_is_published(federation: Federation) -> None:
    row = ask(federation)
    federation.settle()
    grant(federation, row.request_id)

    def away(name: str) -> None:
        if name == "after:evaluate":
            raise UnavailableError("away")

    federation.fault = away
    for service in federation.services.values():
        federation.clock.advance(11)
        service.tick_cases()
        service.tick_log()
    federation.services["police"].tick_cases()
    with pytest.raises(UnavailableError):
        federation.services["police"].tick_query()
    federation.fault = lambda _name: None
    federation.services["ics2"].registration.register([declaration("M2", OTHER_CONTAINER)], "test")
    federation.services["ics2"].publish()
    federation.settle(2, 10)
    assert states(federation) == ["queried"]
    assert {q.epoch for q in asked_under(federation)} == {1}
    assert books(federation.services["ics2"]) == (1, 8, [8])
    assert len(found(federation)) == 1


def test_a_set_that_ended_with_what_was_begun_ends_the_grant_and_asks_no_more_than_granted(
    federation: Federation,
) -> None:
    row = ask(federation)
    federation.settle()
    grant(federation, row.request_id)
    police, ics2 = federation.services["police"], federation.services["ics2"]

    def away(name: str) -> None:
        if name == "before:evaluate":
            raise UnavailableError("away")

    federation.clock.advance(11)
    ics2.tick_cases()
    ics2.tick_log()
    police.tick_cases()
    federation.fault = away
    with pytest.raises(UnavailableError):
        police.tick_query()
    # The owner cannot be reached to finish, and a newer set is taken meanwhile.
    ics2.registration.register([declaration("M2", OTHER_CONTAINER)], "test")
    ics2.publish()
    police.querying.take_newest(AGREEMENT)
    federation.fault = lambda _name: None
    federation.settle(2, 10)
    assert states(federation) == ["expired"]
    assert books(ics2) == (0, 0, [0])
