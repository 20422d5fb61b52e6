"""What a measured process says to ``benchmarks/peers.py``; with the standard library alone, for every environment.

The process says that it is ready, waits for the word to begin, measures, and reports one JSON object. Libraries write
to standard output as they please, so the talk gets a descriptor of its own, and their lines go to the log.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class Driver:
    """The driver, on what standard input and output were when the process began."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def await_start(self) -> None:
        """Say that all is ready, and return when every process of this side is.

        Raises:
            SystemExit: The driver has gone, or another process of the side failed.
        """
        print("ready", file=self._out, flush=True)
        if not sys.stdin.readline():
            raise SystemExit("not started")

    def report(self, found: dict[str, Any]) -> None:
        """Hand over what was found, with the interpreter that found it."""
        print(json.dumps({**found, "python": platform.python_version()}), file=self._out, flush=True)


def timed(call: Callable[[], T]) -> tuple[T, dict[str, float]]:
    """Return the result, and the seconds that it took: wall time, and CPU time of all threads, user and system."""
    cpu, wall = _cpu_s(), time.perf_counter()
    result = call()
    wall_s = time.perf_counter() - wall
    return result, {"cpu_s": _cpu_s() - cpu, "wall_s": wall_s}


def token(number: int) -> str:
    """Return an element of 54 bytes, as long as the tokens of ``benchmarks/prf.py``."""
    return f"connector-psi/v1 token {number:031d}"


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
