"""Capacity at its edges: the last element, the turn of day and year in UTC, a crash after the debit; and how it shows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from connector_psi.errors import CapacityExceededError, InvalidElementError, UnavailableError
from connector_psi.node import evaluation
from connector_psi.oprf.suite import BlindedElements
from connector_psi.storage import owned
from tests.simulation.faults import AGREEMENT, make_query
from tests.simulation.test_idempotency import (
    ELEMENTS,
    PER_DAY,
    PER_YEAR,
    Books,
    SmallFederation,
    at_once,
    books,
    with_body_of,
)

DAY = PER_DAY // ELEMENTS
START = datetime(2026, 12, 30, 23, 59, 50, tzinfo=UTC)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallFederation]:
    made = SmallFederation(tmp_path, start=START)
    made.settle(1)
    yield made
    made.close()


def ask(small: SmallFederation, *numbers: int) -> list[object]:
    return at_once(small.services["sis"].evaluation.evaluate, [make_query(number) for number in numbers])


def capacity(small: SmallFederation) -> dict[str, Any]:
    agreements: Any = small.services["sis"].status()["agreements"]
    (found,) = [line for line in agreements if line["agreement"] == AGREEMENT]
    return {key: found[f"capacity_{key}"] for key in ("today", "year", "alarm")}


def test_a_day_ends_at_midnight_in_utc_and_not_a_second_earlier(small: SmallFederation) -> None:
    assert CapacityExceededError not in ask(small, *range(DAY))
    small.clock.advance((datetime(2026, 12, 30, 23, 59, 59, tzinfo=UTC) - small.clock.now()).total_seconds())
    assert ask(small, DAY) == [CapacityExceededError]
    small.clock.advance(1)
    assert ask(small, DAY) != [CapacityExceededError]
    assert capacity(small)["today"] == {"object": {"used": ELEMENTS, "left": PER_DAY - ELEMENTS, "of": PER_DAY}}


def test_a_year_is_the_calendars_and_begins_with_all_of_it(small: SmallFederation) -> None:
    assert CapacityExceededError not in ask(small, *range(DAY))
    small.clock.advance(12 * 3600)
    rest = (PER_YEAR - PER_DAY) // ELEMENTS
    assert ask(small, *range(1000, 1000 + rest + 3)).count(CapacityExceededError) == 3
    assert capacity(small)["year"] == {"object": {"used": PER_YEAR, "left": 0, "of": PER_YEAR}}
    small.clock.advance(12 * 3600 + 10)
    assert small.clock.now().year == 2027
    assert ask(small, 2000) != [CapacityExceededError]
    assert capacity(small)["year"]["object"]["used"] == ELEMENTS


def test_the_last_element_is_given_and_the_one_behind_it_is_not(small: SmallFederation) -> None:
    store = small.services["sis"].node.store
    with store.write() as tx:
        owned.debit(tx, AGREEMENT, 1, "2026-12-30", PER_DAY - ELEMENTS + 1, PER_DAY, PER_YEAR)
    # A batch that would fit in part is refused whole, and costs nothing.
    assert ask(small, 1) == [CapacityExceededError]
    with store.write() as tx, pytest.raises(CapacityExceededError):
        owned.debit(tx, AGREEMENT, 1, "2026-12-30", ELEMENTS, PER_DAY, PER_YEAR)
    with store.write() as tx:
        owned.debit(tx, AGREEMENT, 1, "2026-12-30", ELEMENTS - 1, PER_DAY, PER_YEAR)
    with store.write() as tx, pytest.raises(CapacityExceededError):
        owned.debit(tx, AGREEMENT, 1, "2026-12-30", 1, PER_DAY, PER_YEAR)
    # Of another class and of another agreement nothing was used.
    with store.write() as tx:
        owned.debit(tx, AGREEMENT, 2, "2026-12-30", PER_DAY, PER_DAY, PER_YEAR)
        owned.debit(tx, "SIS-OBJ:other-sis", 1, "2026-12-30", PER_DAY, PER_DAY, PER_YEAR)


def test_a_crash_after_the_debit_costs_once_and_the_same_request_is_answered(
    small: SmallFederation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> bytes:
        raise UnavailableError

    monkeypatch.setattr(evaluation.owner, "evaluate", crash)
    assert ask(small, 1) == [UnavailableError]
    monkeypatch.undo()
    small.close("sis")
    sis = small.open("sis")
    assert books(sis) == Books(leaves=1, debited=ELEMENTS)
    # Used up by others meanwhile: what was debited before is answered all the same.
    assert CapacityExceededError not in ask(small, *range(100, 100 + DAY - 1))
    assert ask(small, 2) == [CapacityExceededError]
    assert ask(small, 1) == ask(small, 1) != [CapacityExceededError]
    assert books(sis) == Books(leaves=DAY, debited=PER_DAY)


def test_an_invalid_element_is_debited_and_a_refusal_is_not(small: SmallFederation) -> None:
    query = make_query(1)
    bad = make_query(2)
    elements = BlindedElements(bytes(32) + bad.blinded_elements[32:])
    object.__setattr__(bad, "blinded_elements", elements)
    sis = small.services["sis"]
    with pytest.raises(InvalidElementError):
        sis.evaluation.evaluate(with_body_of(query, bad))
    assert books(sis) == Books(leaves=1, debited=ELEMENTS)
    assert CapacityExceededError not in ask(small, *range(100, 100 + DAY - 1))
    assert ask(small, 3) == [CapacityExceededError]
    assert books(sis) == Books(leaves=DAY, debited=PER_DAY)


def test_the_alarm_is_given_from_eighty_percent_on(small: SmallFederation) -> None:
    assert capacity(small) == {
        "today": {"object": {"used": 0, "left": PER_DAY, "of": PER_DAY}},
        "year": {"object": {"used": 0, "left": PER_YEAR, "of": PER_YEAR}},
        "alarm": [],
    }
    edge = DAY * 8 // 10
    ask(small, *range(edge - 1))
    assert capacity(small)["alarm"] == []
    ask(small, edge - 1)
    assert capacity(small)["alarm"] == ["object"]
    # The next day has its own, the year does not.
    small.clock.advance(3600)
    assert capacity(small)["alarm"] == []
    ask(small, *range(1000, 1000 + PER_YEAR * 8 // 10 // ELEMENTS - edge))
    assert capacity(small)["today"]["object"]["used"] < PER_DAY * 8 // 10
    assert capacity(small)["alarm"] == ["object"]
