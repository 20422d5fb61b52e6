"""R1 with real processes: two served nodes are killed (SIGKILL) at random times while they take in, publish, query and disclose.

The people and systems of both agencies go on as they would: what was not acknowledged is sent again, matches are confirmed, cases opened
and approved. In the end nothing acknowledged is missing, every shared container is a match once, every case was disclosed once, and both
logs hold all of it once and verify. The long form, ``make crash-long``, kills 1,000 times.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from connector_psi.errors import ConnectorError
from connector_psi.node.service import Service
from connector_psi.rpc.client import PeerConnector
from tests.faults.agency import Agency, all_synced, container, wait
from tests.faults.links import make_federation
from tests.integration.live import make_node, run
from tests.simulation.crash import Diary, Told, read_leaves, verify_invariants, verify_tidy
from tests.simulation.federation import alert, declaration

SEED = 7
LOOPS = 15
# New nodes every 25 loops: sets and logs that only grow would make each loop slower than the last.
LONG_LOOPS, LONG_SEEDS = 25, range(100, 140)
WORK_S = 1.5
START_S = 1.5
SETTLE_S = 60.0


class Drill:
    """Two agencies at work, and somebody who kills their nodes."""

    def __init__(self, root: Path, seed: int) -> None:
        self.draw = random.Random(seed)
        self.diary = Diary(root / "diary")
        directories = make_federation(root, {"ics2": "ics2", "sis": "sis"}, make_node, alone=False)
        self.ics2 = Agency(directories[0], self.diary, lambda n: declaration(f"D{n}", container(n)))
        self.sis = Agency(directories[1], self.diary, lambda n: alert(f"A{n}", container(n)))
        self.both = (self.ics2, self.sis)
        self.killed: Counter[str] = Counter()

    def loop(self) -> None:
        """Start what is not running, work, and kill one node or both at some time, perhaps while they start."""
        victims = self.draw.choice(([self.ics2], [self.sis], [*self.both]))
        early = self.draw.random() < 0.2
        for agency in self.both:
            agency.start()
        if early:
            time.sleep(self.draw.uniform(0, START_S))
        else:
            for agency in self.both:
                agency.ready()
        kill = threading.Timer(self.draw.uniform(0, 0 if early else WORK_S), lambda: [v.kill() for v in victims])
        kill.start()
        while not early and kill.is_alive():
            self.work()
        kill.join()
        for victim in victims:
            self.killed[victim.code] += 1
            victim.gone()

    def work(self) -> None:
        steps = [
            self.ics2.feed, self.sis.feed, self.ics2.look, self.sis.look, self.ics2.review, self.ics2.open_cases, self.sis.approve,
        ]  # fmt: skip
        for step in self.draw.sample(steps, len(steps)):
            # Whoever dies while it is asked is asked again.
            with suppress(ConnectorError):
                step()

    def settle(self) -> None:
        """Nobody dies any more: wait until everything registered is queried and every case is disclosed."""
        for agency in self.both:
            agency.ready()
        last = max(agency.acknowledged for agency in self.both)
        for agency in self.both:
            while agency.acknowledged < last:
                agency.feed()
        wait(all_synced(self.both), SETTLE_S)
        self.ics2.review()
        self.ics2.open_cases()

        def disclosed() -> bool:
            self.sis.approve()
            found = [case.state for case in self.ics2.cases()]
            return bool(found) and set(found) == {"disclosed"}

        wait(disclosed, SETTLE_S)
        for agency in self.both:
            agency.look()

    def end(self) -> None:
        for agency in self.both:
            agency.kill()
            agency.gone()

    def verify(self) -> None:
        """Over the local ports first, then, once the processes have ended, in the nodes themselves."""
        count = self.ics2.acknowledged
        assert count == self.sis.acknowledged > 0
        for agency in self.both:
            for first in range(0, count, 500):
                found = agency.register(range(first, min(first + 500, count)))
                assert set(found) == {"duplicate"}, f"{agency.code} lost what it acknowledged"
        for agency in self.both:
            done = run("log", "verify", agency.directory, "--json")
            assert (done.code, done.json["verified"]) == (0, True), done.json
            agency.stop()
        services = {agency.code: Service(agency.directory, PeerConnector) for agency in self.both}
        try:
            closed: Any = SimpleNamespace(services=services, diary=self.diary)
            self._verify_nodes(closed, count)
        finally:
            for service in services.values():
                service.close()

    def _verify_nodes(self, closed: Told, count: int) -> None:
        verify_invariants(closed)
        verify_tidy(closed)
        ics2 = closed.services["ics2"]
        rows, after = [], 0
        while page := ics2.review.list(after=after):
            rows += page
            after = page[-1].seq
        assert sorted(row.payload["record_ref"] for row in rows) == sorted(f"D{n}" for n in range(count))
        for view in ics2.cases.list(("disclosed",)):
            got = ics2.cases.get(view.row.request_id)
            assert got.fields["schengen_id"] == (f"A{got.row.payload['case_reference'].removeprefix('D')}",)
        assert any(leaf.event.value == "CASE_OUTCOME" for leaf in read_leaves(closed.services["sis"]))


def drill(root: Path, loops: int, seed: int) -> None:
    made = Drill(root, seed)
    try:
        for _ in range(loops):
            made.loop()
        made.settle()
        made.verify()
    finally:
        made.end()
    print(f"\nseed {seed}: {loops} loops, killed {dict(made.killed)}, {made.ics2.acknowledged} records a side")


def test_nodes_killed_at_random_lose_nothing_and_do_nothing_twice(tmp_path: Path) -> None:
    drill(tmp_path, LOOPS, SEED)


@pytest.mark.slow
@pytest.mark.parametrize("seed", LONG_SEEDS)
def test_long_a_thousand_kills(tmp_path: Path, seed: int) -> None:
    drill(tmp_path, LONG_LOOPS, seed)
