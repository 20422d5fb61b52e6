"""Runs one target in a process of its own: guided by coverage with atheris, or blindly where that is not installed.

``python -m tests.fuzz.engine NAME`` is started by ``tests.fuzz``, which reads the report that it writes. A finding does
not end the run: it is noted, and the same mistake again is not noted twice.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.fuzz.harness import Session, Target

RSS_LIMIT_MB = 2048
HANG_S = 20
"""An input that takes longer ends the process; it is a finding."""
_POOL = 2_000
_SAVE_EVERY_S = 2.0


def main(argv: list[str] | None = None) -> int:
    """Run one target; return the exit code, which says nothing about findings."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.engine")
    parser.add_argument("name")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="corpus, seeds and report of this target")
    parser.add_argument("--blind", action="store_true")
    options = parser.parse_args(argv)
    # A decoder that asks for more than this is told so and is a finding; the machine goes on.
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    if options.blind:
        _blind(options.name, options.folder, options.seconds)
    else:
        _guided(options.name, options.folder, options.seconds)
    return 0


class _Run:
    """A session with an end, whose report is on disk all the time."""

    def __init__(self, session: Session, folder: Path, seconds: float) -> None:
        from tests.fuzz.harness import save

        self.session = session
        self._save = save
        self._path = folder / "report.json"
        self._current = folder / "current"
        self._begin = time.monotonic()
        self._end = self._begin + seconds
        self._next_save = self._begin + _SAVE_EVERY_S

    def one(self, data: bytes) -> bool:
        taken = self.session.run(data)
        now = time.monotonic()
        if now >= self._next_save:
            self.report(now)
        return taken

    @property
    def over(self) -> bool:
        return time.monotonic() >= self._end

    def report(self, now: float) -> None:
        self._next_save = now + _SAVE_EVERY_S
        self._save(self._path, {**self.session.report(), "seconds": now - self._begin})


def _ready(name: str) -> tuple[Target, Session, list[bytes]]:
    from tests.fuzz.harness import Session
    from tests.fuzz.targets import TARGETS

    target = TARGETS[name]
    seeds = list(target.seeds())
    # What is loaded or compiled once is no one input's memory or time.
    warming = Session(target)
    for seed in seeds:
        warming.run(seed)
    return target, Session(target), seeds


def _guided(name: str, folder: Path, seconds: float) -> None:
    import atheris  # type: ignore[import-untyped]  # an extra, without types

    with atheris.instrument_imports(include=["connector_psi", "tomllib"]):
        from tests.fuzz.mutation import mutate

        target, session, seeds = _ready(name)
    for kind in ("seeds", "corpus"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    _write_all(folder / "seeds", seeds)
    run = _Run(session, folder, seconds)

    @atheris.instrument_func  # type: ignore[untyped-decorator]
    def one(data: bytes) -> None:
        run.one(data)
        if run.over:
            run.report(time.monotonic())
            # libFuzzer would go on to its own end; nothing is left to do here.
            sys.stderr.flush()
            os._exit(0)

    def change(data: bytes, max_size: int, seed: int) -> bytes:
        random = Random(seed)
        if random.random() < 0.15:
            return bytes(atheris.Mutate(data, max_size))
        return mutate(data, random, target.shape, max_size, seeds)

    arguments = [
        sys.argv[0],
        f"-max_len={target.max_bytes}",
        f"-timeout={HANG_S}",
        f"-rss_limit_mb={RSS_LIMIT_MB}",
        f"-artifact_prefix={folder}/",
        "-verbosity=0",
        "-reduce_inputs=1",
        str(folder / "corpus"),
        str(folder / "seeds"),
        str(folder / "findings"),
    ]
    (folder / "findings").mkdir(exist_ok=True)
    atheris.Setup(arguments, one, custom_mutator=change)
    atheris.Fuzz()


def _blind(name: str, folder: Path, seconds: float) -> None:
    from tests.fuzz.mutation import mutate

    target, session, seeds = _ready(name)
    pool = [*seeds, *_read_all(folder / "corpus"), *_read_all(folder / "findings")]
    run = _Run(session, folder, seconds)
    random = Random()
    while not run.over:
        data = mutate(random.choice(pool), random, target.shape, target.max_bytes, seeds)
        if run.one(data) and random.random() < 0.1:
            # Without coverage, what is still taken in after a change is what is worth changing again.
            if len(pool) < _POOL:
                pool.append(data)
            else:
                pool[random.randrange(len(seeds), _POOL)] = data
    run.report(time.monotonic())


def _write_all(folder: Path, inputs: Iterable[bytes]) -> None:
    from tests.fuzz.harness import digest

    for data in inputs:
        (folder / digest(data)).write_bytes(data)


def _read_all(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.glob("*")) if path.is_file()]


if __name__ == "__main__":
    sys.exit(main())
