"""On a clock that goes on while nodes work, an epoch turns to its end and no match goes and comes back meanwhile."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from connector_psi.node import deltas
from tests.simulation import federation as simulation
from tests.simulation.faults import AGREEMENT
from tests.simulation.federation import Federation, ManualClock, alert, declaration
from tests.simulation.test_deltas import BOXES, matches, register
from tests.simulation.test_epochs import in_use


class RunningClock(ManualClock):
    """Goes on a millisecond each time it is looked at."""

    def now(self) -> datetime:
        with self._lock:
            self._now += timedelta(milliseconds=1)
            return self._now


def test_a_turn_ends_and_matches_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "ManualClock", RunningClock)
    federation = Federation(tmp_path)
    try:
        federation.settle()
        register(federation, "ics2", *(declaration(f"26DE{n:02}", BOXES[n]) for n in range(5)))
        register(federation, "sis", alert("S1", BOXES[1]))
        federation.settle()
        register(federation, "sis", alert("S2", BOXES[2]))
        federation.services["sis"].publish([AGREEMENT])
        # Amended while the set before knows of the other alert by a delta, perhaps: it stays a match.
        register(federation, "ics2", declaration("26DE02", BOXES[2], BOXES[9]))
        federation.settle(3)
        assert len(in_use(federation)) == 1
        assert matches(federation) == [("26DE01", ("container",)), ("26DE02", ("container",))]
        assert matches(federation, "gone") == []
    finally:
        federation.close()


def test_an_epoch_that_its_querier_left_gets_no_more_links(tmp_path: Path) -> None:
    federation = Federation(tmp_path)
    try:
        federation.settle()
        sis = federation.services["sis"]
        sis.publish([AGREEMENT])
        federation.settle()
        assert [one.epoch for one in in_use(federation)] == [2]
        federation.clock.advance(deltas.UNASKED_MS / 1000)
        assert [row.epoch for row in sis.deltas.due(AGREEMENT)] == [2]
        # Whoever asks again is told again.
        assert list(sis.deltas.answers("ics2", AGREEMENT, 1, 10_000)) == []
        assert [row.epoch for row in sis.deltas.due(AGREEMENT)] == [1, 2]
    finally:
        federation.close()
