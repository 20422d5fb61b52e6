"""Long work that a person asked for and looks at later: done in the background, one after the other.

Decides: one piece of work of a kind for a person at a time, how long a result is kept: in memory, for an hour, for whom
it was made alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from connector_psi.errors import ConflictError, ConnectorError
from connector_psi.pki import PersonIdentity

logger = structlog.get_logger("connector_psi.console")

KEPT_S = 3_600.0
MAX_KEPT = 200
Progress = Callable[[int, int], None]
"""Told how much is done of how much."""
Work = Callable[[Progress], object]


@dataclass(slots=True)
class Job:
    """A piece of work: under way, done, or failed."""

    begun: datetime
    done: int = 0
    of: int = 0
    ended: datetime | None = None
    result: object = field(default=None, repr=False)
    problem: str = ""
    """Why it failed; names a place and never a value."""

    @property
    def percent(self) -> int:
        """How far it is."""
        return min(99, self.done * 100 // self.of) if self.of else 0


class Jobs:
    """The long work of a console.

    Args:
        now: Time.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._jobs: dict[tuple[str, str], Job] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="console-work")

    def begin(self, person: PersonIdentity, kind: str, work: Work) -> Job:
        """Begin a piece of work.

        Raises:
            ConflictError: This person's work of this kind is under way.
        """
        key = (person.uri, kind)
        with self._lock:
            running = self._jobs.get(key)
            if running is not None and running.ended is None:
                raise ConflictError("it is under way already")
            while len(self._jobs) >= MAX_KEPT:
                del self._jobs[next(iter(self._jobs))]
            job = self._jobs[key] = Job(self._now())
        self._pool.submit(self._run, job, work)
        return job

    def of(self, person: PersonIdentity, kind: str) -> Job | None:
        """Return the newest work of a kind that a person asked for, None where it is not kept any more."""
        with self._lock:
            job = self._jobs.get((person.uri, kind))
            if job is not None and job.ended is not None and (self._now() - job.ended).total_seconds() > KEPT_S:
                del self._jobs[person.uri, kind]
                return None
            return job

    def _run(self, job: Job, work: Work) -> None:
        def progress(done: int, of: int) -> None:
            job.done, job.of = done, of

        try:
            job.result = work(progress)
        except ConnectorError as error:
            job.problem = str(error)
        except Exception as error:  # noqa: BLE001 - a defect must not end the thread
            job.problem = ConnectorError.public_detail
            # The type alone: the text may hold a value.
            logger.error("console.work_failed", error=type(error).__name__)  # noqa: TRY400
        job.ended = self._now()

    def close(self) -> None:
        """Begin nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)
