"""The two ports to the outside world that every layer shares: time and randomness.

Both are injected everywhere, so that a federation in memory can be driven by a test and a
demonstration can live through days in seconds. Production code never calls ``datetime.now`` or
``os.urandom`` itself.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """A source of time."""

    def now(self) -> datetime:
        """Return the current time, aware and in UTC."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds on a clock that never goes backwards, for deadlines."""
        ...


class RandomSource(Protocol):
    """A source of unpredictable bytes."""

    def bytes(self, n: int) -> bytes:
        """Return ``n`` bytes fit for keys."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the current time, aware and in UTC."""
        return datetime.now(tz=UTC)

    def monotonic_s(self) -> float:
        """Return seconds since an arbitrary start."""
        return time.monotonic()


class SystemRandom:
    """The operating system's generator."""

    def bytes(self, n: int) -> bytes:
        """Return ``n`` bytes from ``os.urandom``."""
        return os.urandom(n)
