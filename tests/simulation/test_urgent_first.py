"""The row of matches that wait for people: by when a match can still become a case, then by purpose, then by age."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from connector_psi.domain.purposes import IMPORTANCE, PURPOSES, importance
from connector_psi.errors import FormatError
from connector_psi.node.node import QUERIER
from connector_psi.node.review import InboxItem
from connector_psi.node.service import Service
from connector_psi.storage import queried, schema
from tests.simulation.federation import Federation, person
from tests.simulation.prepared import Prepared

HOUR_MS = 3_600_000
STATES = ("new", "confirmed", "dismissed", "gone")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Prepared[Federation]:
    return Prepared(Federation(tmp_path_factory.mktemp("urgent") / "nodes"))


@pytest.fixture
def federation(pair: Prepared[Federation], tmp_path: Path) -> Iterator[Federation]:
    made = pair.copy(tmp_path / "nodes")
    yield made
    made.close()


@pytest.fixture
def sis(federation: Federation) -> Service:
    """N.SIS asks under four agreements, of four purposes."""
    return federation.services["sis"]


def take(service: Service, agreement: str, epoch: int, ends_in_h: float, state: str = queried.TURNING) -> None:
    now = service.node.now_ms()
    with service.node.store.write() as tx:
        tx.execute(
            sa.insert(schema.taken_sets).values(
                agreement=agreement,
                epoch=epoch,
                state=state,
                manifest=b"",
                manifest_hash=bytes(32),
                cursor_seq=0,
                taken_ms=now,
                not_after_ms=now + int(ends_in_h * HOUR_MS),
                turn_seq=0,
                turn_until_ms=-1,
                turn_id=-1,
                turn_done=True,
                delta_seq=0,
                delta_hash=bytes(32),
                fresh_ms=0,
                live_file=0,
                live_bytes=0,
            )
        )


def find(service: Service, number: int, agreement: str, epoch: int, state: str = queried.NEW) -> str:
    match_id = f"{number:032x}"
    people = {"people": [person("sis").uri]} if state == queried.CONFIRMED else {}
    with service.node.store.write() as tx:
        new = queried.put_match(
            service.node.store,
            tx,
            identity=number.to_bytes(32, "big"),
            match_id=match_id,
            agreement=agreement,
            epoch=epoch,
            record_id=number,
            payload={"types": [], "record_ref": f"R{number}"} | people,
            now_ms=service.node.now_ms() + number,
        )
        assert new
        if state != queried.NEW:
            tx.execute(sa.update(schema.matches).where(schema.matches.c.match_id == match_id).values(state=state))
    return match_id


def walk(service: Service, limit: int, **which: str) -> list[InboxItem]:
    items: list[InboxItem] = []
    after = ""
    while True:
        page = service.review.inbox(after=after, limit=limit, **which)
        assert len(page.items) <= limit
        items += page.items
        after = page.next
        if not after:
            return items


def codes(service: Service) -> dict[str, str]:
    return {b.agreement.template: b.code for b in service.node.agreements(QUERIER)}


def test_every_purpose_of_two_authorities_has_its_importance() -> None:
    assert set(IMPORTANCE) == {purpose for purpose, rule in PURPOSES.items() if not rule.own_node}
    assert [importance(purpose) for purpose in IMPORTANCE] == [*range(len(IMPORTANCE))]


def test_matches_come_by_the_end_of_their_ticket_then_by_purpose_then_by_age(sis: Service) -> None:
    code = codes(sis)
    arrest, check = code["SIS-ARR"], code["SIS-CHK"]
    take(sis, check, 1, 1)
    take(sis, check, 2, 30)
    take(sis, arrest, 1, 30)
    take(sis, arrest, 2, -1)
    take(sis, arrest, 3, 50, queried.RETIRED)
    placed = [(check, 2), (arrest, 2), (arrest, 9), (check, 1), (arrest, 1), (arrest, 3), (arrest, 1), (check, 1)]
    for number, (agreement, epoch) in enumerate(placed):
        find(sis, number, agreement, epoch)
    wanted = [3, 7, 4, 6, 0, 2, 1, 5]
    for limit in range(1, 10):
        items = walk(sis, limit)
        assert [item.row.record_id for item in items] == wanted
    assert [item.ended for item in items] == [False] * 5 + [True] * 3
    assert [round((item.ticket_until_ms - sis.node.now_ms()) / HOUR_MS) for item in items[:5]] == [1, 1, 30, 30, 30]
    # Nothing is known of the set of the match whose epoch was never taken.
    assert items[5].ticket_until_ms == 0
    first = items[0]
    assert (first.peer, first.purpose) == ("ics2", "cpsi:DiscreetInquiryOrSpecificCheck")
    bound = next(b for b in sis.node.agreements(QUERIER) if b.code == check)
    assert (first.people_needed, first.people_confirmed) == (bound.agreement.confirm.querier_people, 0)


def test_pages_are_complete_whatever_is_asked_for(sis: Service) -> None:
    dice, all_codes = random.Random(1), sorted(codes(sis).values())
    for n, agreement in enumerate(all_codes):
        for epoch in (1, 2):
            take(sis, agreement, epoch, dice.choice((-2, 5, 5, 9 + n)))
    placed = {}
    for number in range(120):
        placed[number] = dice.choice(all_codes), dice.randrange(4), dice.choice(STATES)
        find(sis, number, *placed[number])
    for state in ("", *STATES):
        for agreement in ("", *all_codes):
            held = {
                n
                for n, (code, _, known) in placed.items()
                if agreement in {"", code} and (known == state if state else known != "gone")
            }
            items = walk(sis, 7, state=state, agreement=agreement)
            assert len(items) == len(held)
            assert {item.row.record_id for item in items} == held
            assert items == walk(sis, 200, state=state, agreement=agreement)
            urgency = [(item.ended, item.ticket_until_ms) for item in items]
            assert urgency == sorted(urgency)
    counts = sis.review.inbox(limit=1).counts
    for agreement in all_codes:
        for state in STATES:
            number = sum((code, known) == (agreement, state) for code, _, known in placed.values())
            assert counts.get((agreement, state), 0) == number


def test_what_is_decided_between_two_pages_leaves_out_none_of_the_others(sis: Service) -> None:
    code = codes(sis)["SIS-CHK"]
    take(sis, code, 1, 5)
    ids = [find(sis, number, code, 1) for number in range(10)]
    page = sis.review.inbox(limit=4)
    with sis.node.store.write() as tx:
        for match_id in (ids[1], ids[3], ids[5]):
            queried.set_match_state(sis.node.store, tx, match_id, "dismissed", {"decided_ms": 7})
    rest = sis.review.inbox(after=page.next, limit=50)
    assert [item.row.match_id for item in rest.items] == [ids[4], *ids[6:]]
    assert rest.next == ""


def test_only_rows_of_the_page_are_opened(sis: Service) -> None:
    code = codes(sis)["SIS-CHK"]
    take(sis, code, 1, 5)
    for number in range(10):
        find(sis, number, code, 1)
    with sis.node.store.write() as tx:
        tx.execute(sa.update(schema.matches).where(schema.matches.c.record_id > 5).values(sealed=b"broken"))
    assert [item.row.record_id for item in sis.review.inbox(limit=5).items] == [*range(5)]


@pytest.mark.parametrize(
    "after", ["x", "0-1-2-0-1.5", "0-1-2-0-1-A:b-c.", "2-1-2-0-1-A:b-c.5", "0-1-2-0-1-A:b-c.5 ", "0-1-2-0-1-A:b-c.-5"]
)
def test_a_place_that_is_none_is_refused(sis: Service, after: str) -> None:
    with pytest.raises(FormatError, match="after"):
        sis.review.inbox(after=after)
    with pytest.raises(FormatError, match="state"):
        sis.review.inbox(state="open")


def test_the_time_of_a_decision_stands_in_a_column_and_outlives_a_refresh(federation: Federation) -> None:
    service = federation.services["sis"]
    code = codes(service)["SIS-CHK"]
    match_id = find(service, 1, code, 1)
    node = service.node
    with node.store.write() as tx:
        row = queried.get_match(node.store, tx, match_id)
        assert row is not None
        queried.set_match_state(node.store, tx, match_id, "confirmed", {**row.payload, "decided_ms": 77})
        again = queried.put_match(
            node.store,
            tx,
            identity=(1).to_bytes(32, "big"),
            match_id=match_id,
            agreement=code,
            epoch=2,
            record_id=1,
            payload=row.payload,
            now_ms=9,
        )
    assert not again
    with node.store.read() as tx:
        assert tx.execute(sa.select(schema.matches.c.decided_ms, schema.matches.c.epoch)).one() == (77, 2)
