"""A match shows in nothing that crosses the wire: the same days with and without matches give the same messages, and the same cadence."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from connector_psi.domain.records import IdentifierType, SourceSystem
from connector_psi.node.config import Layout
from connector_psi.storage import queried
from tests.privacy.staging import AGREEMENT, container
from tests.privacy.wired import Wired
from tests.simulation.federation import Federation, alert, declaration

START = datetime(2026, 11, 27, 6, 0, tzinfo=UTC)
DAYS = 3
INTERVAL_S = 0.25
ROUNDS, TRIES = 32, 3

# --- sizes and counts


def _days(place: Path, *, shared: bool) -> tuple[list[tuple[str, str, str, int]], int, int]:
    """The same things happen at the same times; ``shared`` says whether the alerts are about what was declared.

    Returns the messages, and how many matches were seen come and go.
    """
    federation = Wired(place, "shape", start=START)
    federation.empty_deltas = True
    # An alert about something else has a number that nobody declared.
    number = (lambda n: n) if shared else (lambda n: 5000 + n)
    found = gone = 0
    try:
        ics2, sis = federation.services["ics2"], federation.services["sis"]
        federation.settle(2)
        for day in range(DAYS):
            ics2.registration.register(
                [declaration(f"M{day}-{n}", (IdentifierType.CONTAINER, container(10 * day + n))) for n in range(6)], "t"
            )
            federation.settle(1)
            # Alerts that come after the declarations: deltas; those of the day before leave, or change.
            sis.registration.register(
                [
                    alert(f"A{day}-{n}", (IdentifierType.CONTAINER, container(number(10 * day + n))))
                    for n in range(2 + day)
                ],
                "t",
            )
            federation.settle(1)
            if day:
                sis.registration.withdraw(SourceSystem.SIS, f"A{day - 1}-0", "found", "t")
                sis.registration.register([alert(f"A{day - 1}-1")], "t")
            # Alerts that are there before the declaration comes.
            ics2.registration.register([declaration(f"L{day}", (IdentifierType.CONTAINER, container(10 * day)))], "t")
            federation.settle(1)
            # An epoch turns every day, and everything is evaluated anew.
            sis.publish()
            federation.settle(2)
        rows = ics2.review.list(state=queried.NEW)
        found, gone = len(rows), len(ics2.review.list(state=queried.GONE))
        return [(m.owner, m.method, m.direction, len(m.data)) for m in federation.messages()], found, gone
    finally:
        federation.close()


def test_days_with_matches_and_days_without_give_the_same_messages(tmp_path: Path) -> None:
    with_matches, found, gone = _days(tmp_path / "with", shared=True)
    without, none, none_gone = _days(tmp_path / "without", shared=False)
    assert (none, none_gone) == (0, 0)
    assert found >= DAYS
    assert gone >= 2, "matches have to go too"
    methods = {method for _, method, _, _ in with_matches}
    assert {"GetManifest", "ReadSet", "GetDeltas", "Evaluate"} <= methods
    assert with_matches == without


# --- timing


@dataclass
class Heard:
    """What the owner hears of one agreement: when, and whether it was about something that it seeks."""

    at_s: float
    matched: bool = False


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    made = Federation(tmp_path, "cadence", start=START)
    settings = Layout(tmp_path / "ics2").config
    made.close("ics2")
    settings.write_text(settings.read_text().replace("interval_s = 1.0", f"interval_s = {INTERVAL_S}"))
    made.open("ics2")
    yield made
    made.close()


def test_when_a_query_comes_does_not_depend_on_what_the_one_before_found(federation: Federation) -> None:
    ics2, sis = federation.services["ics2"], federation.services["sis"]
    sis.registration.register(
        [alert(f"A{n}", (IdentifierType.CONTAINER, container(n))) for n in range(0, ROUNDS * TRIES, 2)], "t"
    )
    federation.settle(2)
    ics2.start()
    tries: list[Cadence] = []
    # A machine that has other work is late now and then; what a match does would show in every try.
    while len(tries) < TRIES and not (tries and tries[-1].is_steady()):
        tries.append(_listen(federation, range(ROUNDS * len(tries), ROUNDS * (len(tries) + 1))))
    assert tries[-1].is_steady(), tries


@dataclass(frozen=True)
class Cadence:
    """By whether a query found something: the median of the time until the next one, and of how far from its turn it came."""

    pauses_s: dict[bool, float]
    offsets_s: dict[bool, float]

    def is_steady(self) -> bool:
        """Whether turns are an interval apart and alike, give or take what the machine takes to wake up."""
        return (
            abs(self.pauses_s[True] - self.pauses_s[False]) < INTERVAL_S / 4
            and abs(self.pauses_s[True] - INTERVAL_S) < INTERVAL_S / 4
            and abs(self.offsets_s[True] - self.offsets_s[False]) < INTERVAL_S / 4
        )


def _listen(federation: Federation, numbers: range) -> Cadence:
    """Declare one box after the other, each once the query about the one before was heard; every second box is sought."""
    heard: list[Heard] = []
    federation.fault = lambda name: heard.append(Heard(time.monotonic())) if name == "before:evaluate" else None
    # In no order that a clock could have.
    for n in sorted(numbers, key=lambda n: (n * 37) % 101):
        known = len(heard)
        federation.services["ics2"].registration.register(
            [declaration(f"M{n}", (IdentifierType.CONTAINER, container(n)))], "t"
        )
        deadline = time.monotonic() + 20
        while len(heard) == known and time.monotonic() < deadline:
            time.sleep(0.005)
        assert len(heard) == known + 1
        heard[-1].matched = n % 2 == 0
    federation.fault = lambda _name: None
    assert [query.agreement for query in federation.queries[-len(numbers) :]] == [AGREEMENT] * len(numbers)
    return Cadence(
        {
            matched: statistics.median(
                after.at_s - one.at_s for one, after in pairwise(heard) if one.matched is matched
            )
            for matched in (True, False)
        },
        {
            matched: statistics.median(
                (one.at_s - heard[0].at_s + INTERVAL_S / 2) % INTERVAL_S for one in heard if one.matched is matched
            )
            for matched in (True, False)
        },
    )
