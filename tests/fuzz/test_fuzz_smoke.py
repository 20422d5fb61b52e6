"""A short run of the fuzz harness without its engine: every decoder, its first seeds and 200 changes of them, always the same.

``make fuzz`` is the real thing; this shows that its targets work, that their seeds reach the decoders, and that what
was fixed stays fixed as far as 200 inputs show.
"""

from __future__ import annotations

from random import Random

import pytest

from tests.fuzz.harness import Session
from tests.fuzz.mutation import mutate
from tests.fuzz.targets import TARGETS

CHANGES = 200
SMALL = 4096
SEEDS = 16


@pytest.mark.parametrize("name", TARGETS)
def test_no_seed_and_no_change_of_one_is_a_finding(name: str) -> None:
    target = TARGETS[name]
    if reason := target.absent():
        pytest.skip(reason)
    session = Session(target)
    seeds = list(target.seeds())[:SEEDS]
    assert sum(session.run(seed) for seed in seeds), "the decoder takes none of its seeds in"
    random = Random(f"smoke {name}")
    small = [seed for seed in seeds if len(seed) <= SMALL] or seeds
    for _ in range(CHANGES):
        session.run(mutate(random.choice(small), random, target.shape, max(SMALL, len(small[0])), small))
    for data in session.suspects:
        session.confirm(data)
    assert not session.findings
