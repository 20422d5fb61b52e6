"""R1: two nodes are killed (SIGKILL) at chosen points of register, publish, query, confirm and disclose, and go on.

Whatever died when: no acknowledged registration is lost, nothing is disclosed without its leaf, no request has two leaves, no checkpoint
steps back, both logs verify, the matches are those of the plaintext join, and both nodes end as if nothing had happened, with
nothing half-made left on their disks. ``tests.simulation.crash`` says what a point is.

The long form, ``make crash-long``, kills at every single event and 1,000 times in chains.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.simulation.crash import Diary, Killer, Told, plaintext_join, prepare, summary, verify_invariants, verify_tidy

SEED = "crash-1"
CHAIN_DEATHS, SINGLE_DEATHS = 90, 10
LONG_CHAIN_DEATHS = 1000
# A process gets to its next lasting step within so many events, opening both nodes and building a set included.
MAX_EVENTS = 50
LAST = 1 << 30


@dataclass
class Stage:
    """A prepared federation, who kills its processes, and how it ends undisturbed."""

    root: Path
    killer: Killer
    expected: dict[str, Any] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)
    told: int = 0
    killed_before: Counter[str] = field(default_factory=Counter)

    def tell(self, points: Iterator[int]) -> int:
        """Tell the story with deaths at these points, check everything, and return how many there were."""
        self.told += 1
        place, diary = self.root / f"told{self.told}", Diary(self.root / f"diary{self.told}")
        shutil.copytree(self.root / "template", place)
        deaths = 0
        while not self.killer.run(place, diary, f"{SEED}/{self.told}/{deaths}", next(points)):
            deaths += 1
        labels = [label for (label,) in diary.lines("killed")]
        assert len(labels) == deaths
        self.killed_before.update(labels)
        federation = Told(place, diary, f"{SEED}/{self.told}/end")
        try:
            found = summary(federation)
            verify_invariants(federation)
            verify_tidy(federation)
            assert [(ref, types) for ref, types, _ in found["ics2"]["matches"]] == plaintext_join(), labels
            assert found == (self.expected or found), labels
            self.expected = found
            if not deaths:
                ((self.events,),) = diary.lines("events")
        finally:
            federation.close()
        shutil.rmtree(place)
        return deaths


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    # In memory where there is such a place: SIGKILL takes no page from the disk's cache, so fsync makes no difference here.
    memory = Path("/dev/shm")
    root = Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else tmp_path_factory.mktemp("crash")))
    prepare(root / "template")
    killer = Killer(root / "killer.log")
    made = Stage(root, killer)
    try:
        assert made.tell(iter([LAST])) == 0
        yield made
        print(f"\nseed {SEED}: {len(made.events)} events, {sum(made.killed_before.values())} deaths")
    finally:
        killer.close()
        shutil.rmtree(root)


def _random_points(seed: str) -> Iterator[int]:
    draw = random.Random(seed)
    while True:
        yield draw.randint(1, MAX_EVENTS)


def _once(point: int) -> Iterator[int]:
    yield point
    yield LAST


def test_the_story_reaches_every_part_of_both_nodes(stage: Stage) -> None:
    assert len(stage.events) > 200
    assert stage.expected["ics2"]["leaves"] == {
        "COLLECT": 2, "ALTER": 0, "REVIEW": 5, "CASE_OPEN": 2, "CASE_OUTCOME": 0, "RECEIPT": 2,
    }  # fmt: skip
    assert [state for _, state, _ in stage.expected["ics2"]["cases"]] == ["disclosed", "not_disclosed"]


def test_nodes_that_die_again_and_again_end_like_those_that_live(stage: Stage) -> None:
    deaths = chain = 0
    while deaths < CHAIN_DEATHS:
        chain += 1
        deaths += stage.tell(_random_points(f"{SEED}/chain{chain}"))
    # Deaths fell around commits of both nodes, files of both, and calls alike.
    kinds = {label if "COMMIT" in label else label.partition(":")[0] for label in stage.killed_before}
    commits = {f"{code}: {when} COMMIT" for code in ("sis", "ics2") for when in ("before", "after")}
    assert kinds >= {*commits, "sis", "ics2", "before", "after"}, sorted(stage.killed_before)


def test_a_single_death_after_any_commit_changes_nothing(stage: Stage) -> None:
    """Where one transaction is durable and the next is not, a step that was cut in two would show."""
    commits = [number for number, label in enumerate(stage.events, 1) if label.endswith("after COMMIT")]
    for point in random.Random(SEED).sample(commits, SINGLE_DEATHS):
        assert stage.tell(_once(point)) == 1


@pytest.mark.slow
def test_long_a_single_death_at_every_event(stage: Stage) -> None:
    for point in range(1, len(stage.events) + 1):
        assert stage.tell(_once(point)) == 1


@pytest.mark.slow
def test_long_a_thousand_deaths_in_chains(stage: Stage) -> None:
    deaths = chain = 0
    while deaths < LONG_CHAIN_DEATHS:
        chain += 1
        deaths += stage.tell(_random_points(f"{SEED}/long{chain}"))
