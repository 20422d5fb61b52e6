"""Any interleaving of registrations, alerts, withdrawals, expiries, epoch turns, crashes and lost answers finds exactly what a join in
the clear would find. ``make soak`` plays more of them, and the same ones on real processes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from connector_psi.domain.records import SourceSystem
from connector_psi.errors import AuditError, ConnectorError, UnavailableError
from connector_psi.node import deltas as owner_deltas
from connector_psi.node import querying
from tests.simulation.federation import Federation, alert, declaration
from tests.simulation.histories import Operation, history, play, verify

SEEDS, LONG_SEEDS, LENGTH = range(1, 4), range(100, 160), 60
LOOPS = ("tick_publish", "tick_deltas", "tick_log", "tick_query")
CODES = {"declaration": "ics2", "alert": "sis"}


class InMemory:
    """Plays on nodes in memory."""

    def __init__(self, federation: Federation) -> None:
        self.federation = federation
        self.lost: Counter[str] = Counter()
        federation.fault = self._lose

    def _lose(self, name: str) -> None:
        if self.lost[name]:
            self.lost[name] -= 1
            raise UnavailableError("lost")

    def now(self) -> float:
        return self.federation.clock.now().timestamp()

    def play(self, operation: Operation) -> bool:
        code = CODES.get(operation.side, "")
        service = self.federation.services.get(code)
        if operation.kind in {"register", "withdraw"} and service is None:
            return False
        if operation.kind == "register":
            make = declaration if code == "ics2" else alert
            record = make(operation.ref, *operation.tokens)
            until = self.federation.clock.now() + timedelta(seconds=operation.seconds) if operation.seconds else None
            service.registration.register([replace(record, valid_until=until)], "test")
            return True
        if operation.kind == "withdraw":
            source = SourceSystem.ICS2 if code == "ics2" else SourceSystem.SIS
            return service.registration.withdraw(source, operation.ref, "gone", "test")
        if operation.kind == "turn":
            self.turn(LOOPS)
        elif operation.kind == "half turn":
            self.turn(LOOPS[:3] if code == "sis" else LOOPS[3:])
        elif operation.kind == "epoch" and "sis" in self.federation.services:
            self.federation.services["sis"].publish()
        elif operation.kind == "kill" and service is not None:
            self.federation.services.pop(code)
            service.node.store.close()
            service.node._lock.release()
            self.federation.open(code)
        elif operation.kind == "stop" and service is not None:
            self.federation.close(code)
        elif operation.kind == "lose":
            self.lost[operation.call] += 1
        elif operation.kind == "wait":
            self.federation.clock.advance(operation.seconds)
        return False

    def turn(self, loops: tuple[str, ...]) -> None:
        self.federation.clock.advance(1)
        for code in CODES.values():
            if code not in self.federation.services:
                self.federation.open(code)
        for name in ("expire", *loops):
            for service in self.federation.services.values():
                try:
                    getattr(service.registration if name == "expire" else service, name)()
                except AuditError:
                    raise
                except ConnectorError:
                    continue

    def settle(self) -> None:
        self.lost.clear()
        for _ in range(3):
            self.turn(LOOPS)


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    made = Federation(tmp_path)
    yield made
    made.close()


def check(federation: Federation, seed: int, patch: pytest.MonkeyPatch) -> None:
    # Small pieces, so that every border is met.
    patch.setattr(querying, "TURN_RECORDS", 2)
    patch.setattr(owner_deltas, "CHANGES_A_LINK", 3)
    player = InMemory(federation)
    try:
        model = play(player, history(seed, LENGTH))
        player.settle()
        model.expire(player.now())
        verify(federation.services["ics2"], federation.services["sis"], model)
    except BaseException as error:
        error.add_note(f"seed {seed}")
        raise


@pytest.mark.parametrize("seed", SEEDS)
def test_exactly_the_pairs_of_the_join_are_found(
    federation: Federation, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(federation, seed, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("seed", LONG_SEEDS)
def test_long_exactly_the_pairs_of_the_join_are_found(
    federation: Federation, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(federation, seed, monkeypatch)
