"""The log as it is searched and counted: the index says what the leaves say, and each role finds what is for it (R11)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from connector_psi.audit.entries import Event, Leaf, Side, parse_leaf
from connector_psi.disclosure import is_silent
from connector_psi.domain.records import IdentifierType
from connector_psi.errors import FormatError, InputError, ProofInvalidError, PurposeRefusedError
from connector_psi.node.logwords import words_of
from connector_psi.node.searching import Criteria
from connector_psi.node.service import Service
from connector_psi.node.trends import DayFigures
from connector_psi.pki import Role
from connector_psi.storage import daily, schema
from connector_psi.storage.logindex import index_row
from tests.simulation.casework import ask_about_sought
from tests.simulation.federation import Federation, alert, declaration, person
from tests.simulation.prepared import Prepared

BOX, OTHER = (IdentifierType.CONTAINER, "CSQU3054383"), (IdentifierType.CONTAINER, "TGHU1234567")
DPO, AUDITOR, CHIEF = (person("ics2", role, "p1") for role in (Role.DPO, Role.AUDITOR, Role.SUPERVISOR))
SILENT = "SIS-CHK:sis-ics2"
CODES = ("ics2", "sis")


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Prepared[Federation]:
    """A disclosure, a dismissed match, a case and covers without notice at customs, and readings of the log there."""
    made = Federation(tmp_path_factory.mktemp("story") / "nodes")
    ics2, sis = made.services["ics2"], made.services["sis"]
    ics2.registration.register([declaration("M1", BOX), declaration("M2", OTHER)], "test")
    sis.registration.register([alert("DE1", BOX), alert("DE2", OTHER), alert("DE36", BOX, category="sis.36")], "test")
    made.settle()
    case = ask_about_sought(made)
    dismissed = next(row for row in ics2.review.list() if row.state == "new")
    ics2.review.decide(dismissed.match_id, person("ics2", name="officer2"), "another box", confirm=False)
    (quiet,) = [row for row in sis.review.list() if row.agreement == SILENT]
    sis.review.decide(quiet.match_id, person("sis"), "the same box", confirm=True)
    sis.asked.open(
        quiet.match_id,
        person("sis"),
        purpose="cpsi:DiscreetInquiryOrSpecificCheck",
        legal_basis="2018/1862:36",
        case_reference="SIRENE-1",
        justification="the box arrives this week",
    )
    made.settle()
    sis.received.decide(case, person("sis", name="officer7"), "the sought box", approve=True)
    # Part of it on the next day.
    made.clock.advance(86_400)
    made.settle(rounds=24, step_s=10)
    assert [*ics2.oversight.open_bodies([0, 1], DPO, "looking around")]
    return Prepared(made)


@pytest.fixture
def federation(story: Prepared[Federation], tmp_path: Path) -> Iterator[Federation]:
    made = story.copy(tmp_path / "nodes")
    yield made
    made.close()


def leaves(service: Service) -> list[Leaf]:
    node = service.node
    with node.store.read() as tx:
        return [parse_leaf(raw) for raw in node.entries.read_leaves(tx, 0, node.entries.size(tx))]


def bodies(service: Service) -> list[dict[str, Any]]:
    node = service.node
    with node.store.read() as tx:
        return [node.log.open_body(tx, index) for index in range(node.entries.size(tx))]


def silent_codes(service: Service) -> set[str]:
    return {b.code for b in service.node.agreements() if is_silent(b.agreement)}


def of_silent_owner(service: Service, leaf: Leaf) -> bool:
    return leaf.side is Side.OWNER and leaf.agreement in silent_codes(service)


def found(service: Service, who: Any, **criteria: Any) -> list[int]:
    """Every index that is found, page by page."""
    indexes: list[int] = []
    before: int | None = None
    while True:
        more = {} if before is None else {"before": before}
        page = service.searching.search(who, Criteria(**criteria), limit=3, **more)
        assert len(page.entries) <= 3
        indexes += [entry.index for entry in page.entries]
        before = page.next_before
        if before is None:
            return indexes


# What is indexed


@pytest.mark.parametrize("code", CODES)
def test_the_index_says_what_the_leaves_say(federation: Federation, code: str) -> None:
    service = federation.services[code]
    with service.node.store.read() as tx:
        rows = [
            dict(row) for row in tx.execute(sa.select(schema.log_index).order_by(schema.log_index.c.idx)).mappings()
        ]
    assert rows == [index_row(index, leaf) for index, leaf in enumerate(leaves(service))]


@pytest.mark.parametrize("code", CODES)
def test_words_are_those_of_the_bodies_and_none_of_what_an_owner_without_notice_writes(
    federation: Federation, code: str
) -> None:
    service = federation.services[code]
    with service.node.store.read() as tx:
        stored = {(bytes(row.word), row.idx) for row in tx.execute(sa.select(schema.log_words))}
    quiet = {i for i, leaf in enumerate(leaves(service)) if of_silent_owner(service, leaf)}
    wanted = {
        (word, index)
        for index, body in enumerate(bodies(service))
        if index not in quiet
        for word in words_of(service.node.store, body)
    }
    assert stored == wanted
    assert stored
    assert bool(quiet) is (code == "ics2")


def test_words_go_with_the_bodies(federation: Federation) -> None:
    service = federation.services["ics2"]
    size = len(leaves(service))
    assert found(service, DPO, case_reference="CASE-1")
    federation.clock.advance(3 * 366 * 86_400.0)
    assert service.tick_retention() == size
    with service.node.store.read() as tx:
        assert not [*tx.execute(sa.select(schema.log_words.c.idx).where(schema.log_words.c.idx < size))]
    assert found(service, DPO, case_reference="CASE-1") == []
    # Leaves stay, and what they say in clear is found.
    assert len(found(service, DPO, events={Event.REVIEW})) == 2


# What is found


def test_a_data_protection_officer_finds_everything_by_what_it_says_in_clear(federation: Federation) -> None:
    service = federation.services["ics2"]
    all_leaves = [*enumerate(leaves(service))]
    middle = all_leaves[len(all_leaves) // 2][1].ts

    def held(condition: Any) -> list[int]:
        return [index for index, leaf in reversed(all_leaves) if condition(leaf)]

    code = "SIS-OBJ:ics2-sis"
    for criteria, condition in (
        ({}, lambda _: True),
        ({"events": {Event.CASE_OPEN, Event.CLOCK}}, lambda leaf: leaf.event is Event.CASE_OPEN),
        ({"side": Side.OWNER}, lambda leaf: leaf.side is Side.OWNER),
        ({"agreement": code}, lambda leaf: leaf.agreement == code),
        ({"agreement": "SIS-CHK"}, lambda leaf: leaf.agreement == SILENT),
        ({"purpose": "cpsi:Oversight"}, lambda leaf: leaf.purpose == "cpsi:Oversight"),
        ({"since": middle}, lambda leaf: leaf.ts >= middle),
        ({"until": middle}, lambda leaf: leaf.ts < middle),
        ({"since": middle, "until": middle + timedelta(seconds=1)}, lambda leaf: leaf.ts == middle),
        ({"events": {Event.COLLECT}, "agreement": code}, lambda _: False),
    ):
        assert found(service, DPO, **criteria) == held(condition), criteria
    page = service.searching.search(DPO, Criteria(), limit=200)
    assert [entry.leaf for entry in page.entries] == [leaf for _, leaf in reversed(all_leaves)][:200]


def test_entries_are_found_by_whom_and_what_their_bodies_name(federation: Federation) -> None:
    service = federation.services["ics2"]
    said = [*enumerate(bodies(service))]
    case = [i for i, body in reversed(said) if body.get("case_reference") == "CASE-1"]
    match = next(body["match"] for _, body in said if body.get("case_reference") == "CASE-1")
    officer = [i for i, body in reversed(said) if str([*body.values()]).count(":officer:officer1")]
    assert case
    assert found(service, DPO, case_reference="CASE-1") == case
    assert found(service, DPO, match_id=match) == [i for i, body in reversed(said) if body.get("match") == match]
    assert found(service, DPO, officer="officer1") == officer
    assert found(service, DPO, officer="officer1", case_reference="CASE-1", match_id=match) == case
    assert found(service, DPO, officer="officer1", events={Event.REVIEW}) == [
        i for i in officer if leaves(service)[i].event is Event.REVIEW
    ]
    assert found(service, DPO, officer="officer2", case_reference="CASE-1") == []
    # Of the case that came without notice nothing is kept to find it by, and of whoever approved at N.SIS nothing is here.
    assert found(service, DPO, case_reference="SIRENE-1") == found(service, DPO, officer="officer7") == []
    # At N.SIS that person approved, and the querier's reference came along.
    sis, reader = federation.services["sis"], person("sis", Role.DPO)
    approved = found(sis, reader, officer="officer7")
    assert {leaves(sis)[i].event for i in approved} == {Event.CASE_OUTCOME}
    assert set(approved) <= set(found(sis, reader, case_reference="CASE-1"))
    assert len(found(sis, reader, case_reference="SIRENE-1")) == 1


def test_what_belongs_to_a_request_is_found_in_its_order(federation: Federation) -> None:
    service = federation.services["ics2"]
    (case,) = service.cases.list()
    entries = service.searching.of_request(DPO, case.row.request_id)
    assert [entry.leaf.event for entry in entries] == [Event.CASE_OPEN, Event.RECEIPT]
    assert found(service, DPO, request_id=case.row.request_id) == [entry.index for entry in reversed(entries)]
    assert service.searching.of_request(AUDITOR, case.row.request_id) == entries
    assert service.searching.of_request(DPO, bytes(16)) == []
    with pytest.raises(FormatError):
        service.searching.of_request(DPO, b"short")
    with pytest.raises(FormatError):
        service.searching.search(DPO, Criteria(since=datetime(2026, 1, 1)))  # noqa: DTZ001 - what is refused


def test_an_auditor_finds_neither_what_comes_without_notice_nor_what_was_read_by_name(federation: Federation) -> None:
    service = federation.services["ics2"]
    all_leaves = leaves(service)
    hidden = {i for i, leaf in enumerate(all_leaves) if of_silent_owner(service, leaf)}
    shown = found(service, AUDITOR)
    assert hidden
    assert shown == [i for i in reversed(range(len(all_leaves))) if i not in hidden]
    assert found(service, AUDITOR, agreement=SILENT, events={Event.CASE_OPEN}) == []
    quiet = next(leaf.request_id for i, leaf in enumerate(all_leaves) if i in hidden and leaf.request_id)
    assert service.searching.of_request(AUDITOR, quiet) == []
    assert service.searching.of_request(DPO, quiet)
    read = [i for i, leaf in enumerate(all_leaves) if leaf.event is Event.LOG_READ]
    assert read
    assert found(service, AUDITOR, events={Event.LOG_READ}) == read
    assert found(service, DPO, officer="p1") == read
    assert found(service, AUDITOR, officer="p1") == []
    for index in range(len(all_leaves)):
        if index in hidden:
            with pytest.raises(PurposeRefusedError, match="no such entry"):
                service.searching.entry(AUDITOR, index)
        else:
            assert service.searching.entry(AUDITOR, index).leaf == all_leaves[index]
        assert service.searching.entry(DPO, index).index == index
    for index in (-1, len(all_leaves)):
        with pytest.raises(PurposeRefusedError, match="no such entry"):
            service.searching.entry(DPO, index)


@pytest.mark.parametrize("who", [CHIEF, person("ics2"), person("ics2", Role.ADMIN)])
def test_nobody_else_searches_the_log(federation: Federation, who: Any) -> None:
    service = federation.services["ics2"]
    for call in (
        lambda: service.searching.search(who, Criteria()),
        lambda: service.searching.of_request(who, bytes(16)),
        lambda: service.searching.entry(who, 0),
    ):
        with pytest.raises(PurposeRefusedError):
            call()


def test_a_leaf_that_was_changed_is_not_shown(federation: Federation) -> None:
    service = federation.services["ics2"]
    index = found(service, DPO, events={Event.REVIEW})[0]
    with service.node.store.write() as tx:
        raw = service.node.entries.read_leaves(tx, index, index + 1)[0].replace(b"REVIEW", b"RECALL")
        tx.execute(sa.update(schema.log_leaves).where(schema.log_leaves.c.idx == index).values(leaf=raw))
    with pytest.raises(ProofInvalidError):
        service.searching.search(DPO, Criteria(events={Event.REVIEW}))


# What is counted


@pytest.mark.parametrize("code", CODES)
def test_what_is_counted_of_a_day_is_what_the_log_holds_of_it(federation: Federation, code: str) -> None:
    service = federation.services[code]
    in_force = {b.code for b in service.node.agreements()}
    expected: Counter[tuple[int, str, str]] = Counter()
    for leaf in leaves(service):
        if of_silent_owner(service, leaf) and leaf.event not in {Event.SET_PUBLISH, Event.POLICY_CHANGE}:
            continue
        # A change of policy is counted under no agreement: it is there before the agreement is.
        agreement = "" if leaf.event is Event.POLICY_CHANGE else leaf.agreement or ""
        expected[int(leaf.ts.timestamp()) // daily.DAY_S, leaf.event.value, agreement] += 1
    with service.node.store.read() as tx:
        rows = daily.read(tx, 0, 1 << 30)
    events = {event.value for event in Event}
    assert {(row.day, row.what, row.agreement): row.count for row in rows if row.what in events} == expected
    assert {row.agreement for row in rows} <= in_force | {""}
    quiet = {row.what for row in rows if row.agreement in silent_codes(service) and code == "ics2"}
    assert quiet <= {Event.SET_PUBLISH.value}


def test_the_figures_of_days_are_what_happened(federation: Federation) -> None:
    ics2, sis = (federation.services[code] for code in CODES)
    today = federation.clock.now().astimezone(UTC).date()
    days = ics2.trends.days(Role.AUDITOR, 3)
    assert [each.day for each in days] == [today - timedelta(days=n) for n in (2, 1, 0)]
    assert days[2] == ics2.trends.today(Role.AUDITOR)

    def total(figures: list[DayFigures]) -> tuple[int, ...]:
        names = ("declarations", "matches", "hits", "dismissed", "disclosures")
        return tuple(sum(getattr(each, name) for each in figures) for name in names)

    def queries(service: Service, codes: set[str]) -> int:
        return sum(
            leaf.event is Event.CONSULT and leaf.side is Side.QUERIER and leaf.agreement in codes
            for leaf in leaves(service)
        )

    told = {b.code for b in ics2.node.agreements()}
    assert total(days) == (2, 2, 1, 1, 1)
    assert sum(each.queries for each in days) == queries(ics2, told) > 0
    # At N.SIS what came of the agreement without notice is for roles that may list matches.
    assert total(sis.trends.days(Role.OFFICER, 3)) == (3, 1, 1, 0, 2)
    assert total(sis.trends.days(Role.AUDITOR, 3)) == (3, 0, 0, 0, 1)
    assert sum(each.queries for each in sis.trends.days(Role.AUDITOR, 3)) == 0
    for days_asked in (0, 4_000):
        with pytest.raises(InputError):
            ics2.trends.days(Role.OFFICER, days_asked)


def test_cases_are_listed_by_side_and_from_the_newest(federation: Federation) -> None:
    views = federation.services["sis"].cases
    both = [view.row.request_id for view in views.list()]
    assert [view.row.request_id for view in views.list(newest_first=True)] == both[::-1]
    assert [view.row.request_id for view in views.list(limit=1, offset=1, newest_first=True)] == both[:1]
    sides = {side: [view.row.request_id for view in views.list(side=side)] for side in ("owner", "querier")}
    assert {side: len(ids) for side, ids in sides.items()} == {"owner": 1, "querier": 1}
    assert {*sides["owner"], *sides["querier"]} == {*both}
