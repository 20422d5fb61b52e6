"""R4 end to end: two nodes as processes, everything between them through proxies whose faults come and go by a seed.

Declarations and alerts arrive on both sides meanwhile, matches are confirmed, cases opened and approved. Once the links are sound again,
every planted pair is a match, once; every case that was opened has one leaf of its opening and one of its outcome at the owner and one
receipt at the querier; nothing waits any more.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from connector_psi.audit.entries import Event
from connector_psi.errors import ConnectorError
from connector_psi.node.service import Service
from connector_psi.rpc.client import PeerConnector
from tests.faults.agency import Agency, all_synced, container, disclosed_cases, wait
from tests.faults.links import make_federation, make_linked_node, proxies
from tests.faults.model import Reference
from tests.faults.proxy import CUT, NONE, End, FaultProxy, Faults
from tests.simulation.crash import Diary, read_leaves, verify_invariants
from tests.simulation.federation import alert, declaration

SEED = 4
LONG_SEEDS = range(40, 50)
EPISODES, LONG_EPISODES = 6, 40
EPISODE_S = 1.2
MAX_CASES = 10_000
SETTLE_S = 90.0
"""A call that was under way when a link broke may take its deadline, and loops pause for up to 30 s after failures."""

WEATHER: dict[str, Faults] = {
    "sound": NONE,
    "slow": Faults(latency_s=0.2, jitter_s=0.2),
    "throttled": Faults(bytes_per_s=20_000),
    "lossy": Faults(latency_s=0.02, loss=0.1),
    "cut": CUT,
    "breaking": Faults(end_after=9_000),
    "closing": Faults(end_after=6_000, end=End.CLOSE),
}


class Trial:
    """Two agencies and the links between them."""

    def __init__(self, root: Path, seed: int) -> None:
        self.draw = random.Random(seed)
        # Of its own: how often people work meanwhile is a matter of time.
        self.sky = random.Random(f"sky {seed}")
        self.diary = Diary(root / "diary")
        self.directories = make_federation(root, {"ics2": "ics2", "sis": "sis"}, make_linked_node)
        # Every other pair is not one: two numbers that nobody shares.
        self.ics2 = Agency(
            self.directories[0], self.diary, lambda n: declaration(f"D{n}", container(n)), max_cases=MAX_CASES
        )
        self.sis = Agency(
            self.directories[1], self.diary, lambda n: alert(f"A{n}", container(n if n % 2 else n + 500_000))
        )
        self.both = (self.ics2, self.sis)
        self.weather: list[str] = []

    def change(self, links: Sequence[FaultProxy]) -> None:
        """Draw what the links do next."""
        told = []
        for link in links:
            link.heal()
            kind = self.sky.choice([*WEATHER, "one way", "reset", "refusing", "stranded"])
            told.append(kind)
            if kind == "one way":
                link.set(down=CUT)
            elif kind == "reset":
                link.end_all(self.sky.choice([*End]))
            elif kind == "refusing":
                link.refuse()
                link.end_all()
            elif kind == "stranded":
                link.strand()
            else:
                link.both(WEATHER[kind])
        self.weather.append("/".join(told))

    def work(self, seconds: float) -> None:
        """Do what people and systems do, for a while; nothing of it depends on the links."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            steps = [
                self.ics2.feed,
                self.sis.feed,
                self.ics2.review,
                self.ics2.open_cases,
                self.sis.approve,
                self.ics2.look,
            ]
            for step in self.draw.sample(steps, len(steps)):
                step()
            time.sleep(0.3)

    def settle(self) -> None:
        last = max(agency.acknowledged for agency in self.both)
        for agency in self.both:
            while agency.acknowledged < last:
                agency.feed()
        wait(all_synced(self.both), SETTLE_S)
        self.ics2.review()
        self.ics2.open_cases()

        def disclosed() -> bool:
            self.sis.approve()
            return {case.state for case in self.ics2.cases()} == {"disclosed"}

        wait(disclosed, SETTLE_S)

    def verify(self) -> None:
        model = Reference()
        for n in range(self.ics2.acknowledged):
            model.register_declaration(f"D{n}", {(i.type, i.value) for i in self.ics2.make(n).identifiers})
            model.register_alert(f"A{n}", {(i.type, i.value) for i in self.sis.make(n).identifiers})
        wanted = sorted(ref for ref, _ in model.expected_pairs())
        assert len(wanted) > 5
        assert sorted(match.record_ref for match in self.ics2.matches()) == wanted
        assert sorted(case.case_reference for case in self.ics2.cases()) == wanted
        for agency in self.both:
            agency.stop()
        services = {agency.code: Service(agency.directory, PeerConnector) for agency in self.both}
        try:
            closed: Any = SimpleNamespace(services=services, diary=self.diary)
            verify_invariants(closed)
            for code, events in (("sis", (Event.CASE_OPEN, Event.CASE_OUTCOME)), ("ics2", (Event.RECEIPT,))):
                for event in events:
                    leaves = Counter(leaf.request_id for leaf in read_leaves(services[code]) if leaf.event is event)
                    cases = disclosed_cases(services["ics2"])
                    assert {request_id: leaves[request_id] for request_id in cases} == dict.fromkeys(cases, 1), event
                    assert len(cases) == len(wanted)
        finally:
            for service in services.values():
                service.close()


def _trial(root: Path, seed: int, episodes: int) -> None:
    trial = Trial(root, seed)
    with proxies(*trial.directories, seed=seed) as links:
        try:
            for agency in trial.both:
                agency.ready()
            for _ in range(episodes):
                trial.change([*links.values()])
                trial.work(trial.sky.uniform(0.5, 1.5) * EPISODE_S)
            for link in links.values():
                link.heal()
            begun = time.monotonic()
            trial.settle()
            settled_s = time.monotonic() - begun
            used = sum(link.counters.connections for link in links.values())
            trial.verify()
        finally:
            for agency in trial.both:
                agency.kill()
                agency.gone()
            with suppress(ConnectorError):
                print(f"\nseed {seed}: {trial.weather}")
    print(f"{trial.ics2.acknowledged} records a side, {used} connections, settled after {settled_s:.1f} s")


def test_nodes_find_everything_once_though_links_come_and_go(tmp_path: Path) -> None:
    _trial(tmp_path, SEED, EPISODES)


@pytest.mark.slow
@pytest.mark.parametrize("seed", LONG_SEEDS)
def test_long_links_come_and_go(tmp_path: Path, seed: int) -> None:
    _trial(tmp_path, seed, LONG_EPISODES)
