"""A node at work: its use cases, and the loops that run them on the clock.

Each loop does one thing and outlives its failures: what cannot be done now (a peer away, a disk full) is logged by its
code and tried
again with growing pauses; what ends the node (``AuditError``) stops every use case.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from connector_psi.domain.clock import Clock, RandomSource
from connector_psi.domain.purposes import Mode
from connector_psi.errors import AuditError, ConnectorError, PurposeRefusedError
from connector_psi.node.access import AskedAccess
from connector_psi.node.accessviews import AccessViews
from connector_psi.node.alarms import Alarms
from connector_psi.node.asked import AskedCases
from connector_psi.node.caseviews import CaseViews
from connector_psi.node.deltas import Deltas
from connector_psi.node.dossiers import Dossiers
from connector_psi.node.erasure import Erasure
from connector_psi.node.evaluation import Evaluation
from connector_psi.node.following import Following
from connector_psi.node.grading import Grading
from connector_psi.node.granting import Granting
from connector_psi.node.health import Health
from connector_psi.node.node import OWNER, QUERIER, Node
from connector_psi.node.outbox import Outbox
from connector_psi.node.oversight import Oversight
from connector_psi.node.peering import Peering
from connector_psi.node.ports import Connector
from connector_psi.node.publishing import Published, Publishing, newest_set
from connector_psi.node.querying import Querying
from connector_psi.node.recalled import Recalled
from connector_psi.node.recalling import Recalling
from connector_psi.node.recallviews import RecallViews
from connector_psi.node.received import ReceivedCases
from connector_psi.node.registration import Registration
from connector_psi.node.replay import Replay, replay
from connector_psi.node.retention import Retention
from connector_psi.node.review import Review
from connector_psi.node.searching import LogSearch
from connector_psi.node.status import node_status
from connector_psi.node.subjects import Subjects
from connector_psi.node.trends import Trends
from connector_psi.node.witnessing import Witnessing
from connector_psi.storage import records

T = TypeVar("T")
R = TypeVar("R")
logger = structlog.get_logger("connector_psi.node")

MAX_PAUSE_S = 30.0
PATIENT_FAILURES = 5
"""A loop that failed no more often than this in a row has its turns as usual."""
LIVE_TOKENS_S = 3600.0
"""What is kept of the tokens of records that left goes within this time."""
RETENTION_S = 3600.0
"""Bodies of the log go within 24 hours of their time; this leaves room for a node that was down."""


@dataclass(frozen=True, slots=True)
class SyncState:
    """Whether everything registered before a mark has been queried and published."""

    done: bool
    mark_ms: int
    pending_records: int
    waiting_for: tuple[str, ...]


class Service:
    """All use cases of one node.

    Args:
        directory: A node directory.
        connect: Makes the connections to peers, given the node.
        clock: Time.
        random: Randomness.
    """

    def __init__(
        self,
        directory: Path,
        connect: Callable[[Node], Connector],
        clock: Clock | None = None,
        random: RandomSource | None = None,
    ) -> None:
        self.node = Node(directory, clock, random)
        self.connector = connect(self.node)
        self.registration = Registration(self.node)
        self.peering = Peering(self.node)
        self.publishing = Publishing(self.node)
        self.deltas = Deltas(self.node, self.publishing)
        self.evaluation = Evaluation(self.node)
        self.querying = Querying(self.node, self.connector)
        self.review = Review(self.node)
        self.outbox = Outbox(self.node)
        self.asked = AskedCases(self.node, self.connector, self.outbox)
        self.received = ReceivedCases(self.node)
        self.cases = CaseViews(self.node)
        self.following = Following(self.node)
        self.erasure = Erasure(self.node)
        self.recalling = Recalling(self.node, self.connector, self.outbox)
        self.recalled = Recalled(self.node, self.connector, self.outbox)
        self.recalls = RecallViews(self.node)
        self.alarms = Alarms(self.node)
        self.health = Health(self.node)
        self.granting = Granting(self.node)
        self.asked_access = AskedAccess(self.node, self.connector, self.querying, self.outbox)
        self.accesses = AccessViews(self.node)
        self.retention = Retention(self.node)
        self.oversight = Oversight(self.node, self.retention)
        self.grading = Grading(self.node, self.oversight)
        self.dossiers = Dossiers(self.node, self.connector, self.oversight)
        self.witnessing = Witnessing(self.node, self.connector)
        self.searching = LogSearch(self.node)
        self.trends = Trends(self.node)
        self.subjects = Subjects(self.node)
        self.console_url = ""
        """Where the web console is served; empty where it is not."""
        self._jobs: dict[int, Future[list[Published]]] = {}
        self._jobs_lock = threading.Lock()
        self._job_pool = ThreadPoolExecutor(1, thread_name_prefix="publish")
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._asked: set[str] = set()

    def status(self) -> dict[str, object]:
        """Return what ``connector-psi status --json`` prints."""
        return {**node_status(self.node, self.querying, self.alarms, self.health), "console": self.console_url}

    def simulate(self, raw: bytes) -> Replay:
        """Judge past cases again under another policy; see :func:`connector_psi.node.replay.replay`."""
        return replay(self.node, raw)

    def revoke(self, authority: str) -> bool:
        """Revoke a peer and drop its connection."""
        done = self.peering.revoke(authority)
        self.connector.forget(authority)
        return done

    def publish(self, codes: Sequence[str] = ()) -> list[Published]:
        """Publish sets now, without waiting for the clock.

        Args:
            codes: Of agreements that this node owns; none for all that may run.
        """
        wanted = self.publishing.named(codes) if codes else self.publishing.runnable()
        published = [self._publish(code) for code in wanted]
        self.node.checkpoint()
        return published

    def _publish(self, code: str) -> Published:
        """Publish a set, and what changed while it was made: its querier goes on where the set before is now."""
        published = self.publishing.publish(code)
        self.deltas.publish(code, published.epoch)
        return published

    def publish_job(self, codes: Sequence[str], job: int, wait_s: float) -> tuple[int, list[Published]]:
        """Publish in the background, and wait for it for a while.

        Args:
            codes: As for ``publish``; only read when a job begins.
            job: Of an earlier answer, 0 to begin.
            wait_s: How long to wait for it now.

        Returns:
            ``(job, [])`` while it runs, ``(0, published)`` once it is done.

        Raises:
            PurposeRefusedError: There is no such job, or the agreement is not this node's.
        """
        with self._jobs_lock:
            if not job:
                job = max(self._jobs, default=0) + 1
                self._jobs[job] = self._job_pool.submit(self.publish, codes)
            running = self._jobs.get(job)
        if running is None:
            raise PurposeRefusedError("no such job")
        try:
            published = running.result(wait_s)
        except FutureTimeoutError:
            return job, []
        finally:
            if running.done():
                with self._jobs_lock:
                    self._jobs.pop(job, None)
        return 0, published

    # One turn of each loop, which tests and the simulation call themselves

    def tick_log(self) -> None:
        """Sign a checkpoint if the log grew."""
        self.node.checkpoint()
        self.node.probe_log()

    def tick_witnesses(self) -> int:
        """Have the newest checkpoint cosigned. Returns how many witnesses did."""
        return self.witnessing.collect()

    def tick_publish(self) -> list[Published]:
        """Publish what is due and end what is over.

        Raises:
            ConnectorError: The first failure, after all agreements had their turn and what is over was ended.
        """
        self.node.check_alive()
        published: list[Published] = []
        failure: ConnectorError | None = None
        try:
            self._each(self.publishing.due(), lambda code: published.append(self._publish(code)))
        except AuditError:
            raise
        except ConnectorError as error:
            failure = error
        if published:
            self.node.checkpoint()
        for code, epoch in self.publishing.retire():
            self.evaluation.forget(code, epoch)
            self.deltas.forget(code, epoch)
        if failure is not None:
            raise failure
        return published

    def tick_deltas(self) -> int:
        """Publish the deltas that are due, empty ones too. Returns how many.

        Raises:
            ConnectorError: The first failure, after all sets had their turn.
        """
        due = [(code, row.epoch) for code in self.publishing.runnable() for row in self.deltas.due(code)]
        return sum(self._each(due, lambda link: self.deltas.publish(*link)))

    def tick_query(self) -> int:
        """Take new sets and deltas and query changed records of every agreement, or what was granted by case, and
        evaluate live records anew where an epoch turned.

        Returns how many records were covered.

        An agreement whose owner fails does not keep the others waiting.

        Raises:
            ConnectorError: The first failure, after all agreements had their turn.
        """
        return sum(self._each([bound.code for bound in self.node.agreements(QUERIER)], self._ask_everything))

    def look_for_sets(self, codes: Sequence[str]) -> int:
        """Take the new sets and deltas of some agreements. Returns how many deltas came.

        Raises:
            ConnectorError: The first failure, after all agreements had their turn.
        """
        return sum(self._each(codes, self._look_for_sets))

    def ask(self, codes: Sequence[str]) -> int:
        """Ask under some agreements with what came since, or was granted, and with some live records anew where an
        epoch turned. Returns how many records were covered.

        Raises:
            ConnectorError: The first failure, after all agreements had their turn.
        """
        return sum(self._each(codes, self._ask))

    def _each(self, items: Iterable[T], turn: Callable[[T], R]) -> list[R]:
        """Give each of some things its turn; the first failure is raised after all had theirs."""
        self.node.check_alive()
        done: list[R] = []
        failure: ConnectorError | None = None
        for item in items:
            try:
                done.append(turn(item))
            except AuditError:
                # This node's own log; a peer's that does not prove is a PeerError.
                raise
            except ConnectorError as error:
                failure = failure or error
        if failure is not None:
            raise failure
        return done

    def _look_for_sets(self, code: str) -> int:
        if self.node.bound(code, QUERIER).agreement.mode is Mode.CASE:
            # What was begun before a crash is finished in its own set, before a newer one takes its place.
            self.asked_access.query(code, begin=False)
        self.querying.take_newest(code)
        return self.querying.take_deltas(code)

    def _ask(self, code: str) -> int:
        if self.node.bound(code, QUERIER).agreement.mode is Mode.CASE:
            self.asked_access.query(code, begin=True)
        covered = self.querying.run_rounds(code)
        # New records first; those that are evaluated anew are found by the set before meanwhile.
        if self.querying.turning(code):
            self.querying.run_turn(code)
        return covered

    def _ask_everything(self, code: str) -> int:
        self._look_for_sets(code)
        covered = self._ask(code)
        while self.querying.turning(code) and self.querying.run_turn(code):
            pass
        return covered

    def tick_cases(self) -> int:
        """Move the cases, the requests for access and the recalls of both sides on."""
        return self.tick_owned_cases() + self.tick_queried_cases() + self.tick_recalls()

    def tick_owned_cases(self) -> int:
        """Move what peers opened here on."""
        return self.received.advance() + self.granting.advance()

    def tick_queried_cases(self) -> int:
        """Move what this node opened at peers on, cases and requests for access apart, and note in open cases what
        became of the own records.

        Raises:
            PeerError: The first answer that does not hold, after everything had its turn.
        """
        try:
            moved = self.following.advance() + self.asked.advance()
        finally:
            granted = self.asked_access.advance()
        return moved + granted

    def tick_recalls(self) -> int:
        """Find what has to be recalled, and tell peers of it and of what was acknowledged here."""
        return self.recalling.advance() + self.recalled.advance()

    def tick_erasure(self) -> int:
        """Erase what cases disclosed and is due. Returns how many cases were erased or expired."""
        return self.erasure.run(self.recalling.forget() + self.recalled.forget())

    def tick_retention(self) -> int:
        """Erase bodies of the log whose time is over. Returns how many."""
        return self.retention.run()

    def tick_clock(self) -> int:
        """Keep the time of this node, and log what is wrong with its clock. Returns whether something was logged."""
        return self.node.timekeeping.advance()

    def tick_live_tokens(self) -> int:
        """Drop what is kept of the tokens of records that left. Returns how many entries went."""
        return sum(self.querying.drop_left(bound.code) for bound in self.node.agreements(QUERIER))

    # Waiting

    def sync(self, mark_ms: int) -> SyncState:
        """Tell whether everything registered at this node before a mark has been queried and published.

        Args:
            mark_ms: From an earlier answer, 0 to begin; one that lies ahead counts as now.
        """
        node = self.node
        node.check_alive()
        mark = min(mark_ms or node.now_ms(), node.now_ms())
        waiting, pending = [], 0
        for bound in node.agreements(QUERIER):
            pending = max(pending, self.querying.pending(bound.code))
            if self.querying.fresh_until_ms(bound.code) < mark or self.querying.waits(bound.code, mark):
                waiting.append(bound.code)
        for bound in node.agreements(OWNER):
            with node.store.read() as tx:
                newest = newest_set(tx, bound)
                waits = newest is None or records.changed_until(
                    tx, newest.change_seq or 0, mark, bound.agreement.categories
                )
            if waits:
                waiting.append(bound.code)
        return SyncState(not waiting, mark, pending, tuple(sorted(waiting)))

    # Loops

    def start(self) -> None:
        """Start the loops."""
        settings = self.node.config
        loops: list[tuple[str, Callable[[], object], float]] = [
            ("log", self.tick_log, settings.log.checkpoint_s),
            ("witnesses", self.witnessing.advance, settings.log.witness_s),
            ("records", self.registration.expire, 1.0),
            ("alarms", self.alarms.tell, 60.0),
            ("clock", self.tick_clock, 1.0),
            ("erasure", self.tick_erasure, 10.0),
            ("retention", self.tick_retention, RETENTION_S),
            ("live tokens", self.tick_live_tokens, LIVE_TOKENS_S),
            ("publish", self.tick_publish, min(settings.publish.quiet_s, 1.0)),
            ("deltas", self.tick_deltas, min(settings.publish.delta_s / 4, 1.0)),
            ("queries", self._start_querying, 1.0),
            # Loops of their own, so that a peer that hangs does not keep the outcomes of this node's own cases back.
            ("owned cases", self.tick_owned_cases, min(1.0, settings.disclosure.slot_s / 4)),
            ("queried cases", self.tick_queried_cases, min(1.0, settings.disclosure.slot_s / 4)),
            ("recalls", self.tick_recalls, min(1.0, settings.disclosure.slot_s / 4)),
        ]
        for name, turn, pause_s in loops:
            self._start_loop(name, turn, self._paused(pause_s))
        self.health.works()

    def _start_loop(self, name: str, turn: Callable[[], object], pause: Callable[[int], object]) -> None:
        thread = threading.Thread(target=self._loop, args=(name, turn, pause), name=f"loop-{name}", daemon=True)
        thread.start()
        self._threads.append(thread)

    def _start_querying(self) -> None:
        """Start loops for every peer that this node asks: one that hangs keeps no other waiting, nor a large set."""
        settings = self.node.config.query
        for peer in sorted({bound.peer for bound in self.node.agreements(QUERIER)} - self._asked):
            self._asked.add(peer)
            wait = self.registration.arrivals.wait
            for name, turn, cadence in (
                (f"sets {peer}", self.look_for_sets, _Cadence(settings.manifest_poll_s, self._stop.wait)),
                (f"query {peer}", self.ask, _Cadence(settings.interval_s, _Woken(wait))),
            ):
                self._start_loop(name, partial(self._with_codes, turn, peer), cadence.pause)

    def _with_codes(self, turn: Callable[[Sequence[str]], int], peer: str) -> int:
        return turn([bound.code for bound in self.node.agreements(QUERIER) if bound.peer == peer])

    def _paused(self, pause_s: float) -> Callable[[int], object]:
        # Doubling from the fifth failure on, so that a peer that restarts is found again at once.
        return lambda failures: self._stop.wait(min(pause_s * 2 ** max(0, failures - PATIENT_FAILURES), MAX_PAUSE_S))

    def _loop(self, name: str, turn: Callable[[], object], pause: Callable[[int], object]) -> None:
        failures = 0
        while not self._stop.is_set():
            begun, before = time.monotonic(), failures
            with self.node.telemetry.span(f"loop {name}") as span:
                try:
                    if not turn():
                        span.drop()
                    failures = 0
                except AuditError as error:
                    span.note(code=error.code)
                    self.node.fail(error)
                    return
                except ConnectorError as error:
                    failures += 1
                    span.note(code=error.code)
                    if failures in {1, 10, 100}:
                        logger.warning("loop.failed", loop=name, code=error.code, detail=str(error), failures=failures)
                except Exception as error:  # noqa: BLE001 - a loop must outlive a defect
                    failures += 1
                    span.note(code=ConnectorError.code)
                    # The type alone: the text may hold a value.
                    logger.error("loop.defect", loop=name, error=type(error).__name__)  # noqa: TRY400
            self.node.telemetry.turned(name, time.monotonic() - begun, failed=failures > before)
            pause(failures)

    def stop(self) -> None:
        """Stop the loops; what each of them is about is finished, and the log can be signed for the last time."""
        self.health.stops()
        self._stop.set()
        self.registration.arrivals.close()
        # A call to a peer that hangs would keep its loop until the deadline.
        self.connector.close()
        for thread in self._threads:
            thread.join(timeout=30)

    def close(self) -> None:
        """Stop the loops and close the node."""
        self.stop()
        self._job_pool.shutdown()
        self.deltas.close()
        self.querying.close()
        self.node.close()


class _Woken:
    """Waits for a time, or until many records have come."""

    def __init__(self, wait: Callable[[int, float], int]) -> None:
        self._wait = wait
        self._seen = 0

    def __call__(self, timeout_s: float) -> None:
        self._seen = self._wait(self._seen, timeout_s)


class _Cadence:
    """Turns that begin at multiples of an interval, whatever the one before found and however long it took.

    A match shows in no cadence.
    """

    def __init__(self, interval_s: float, wait: Callable[[float], object]) -> None:
        self._interval_s = interval_s
        self._wait = wait

    def pause(self, failures: int) -> None:
        """Wait for the next turn; doubling from the fifth failure on."""
        pause_s = self._interval_s - time.monotonic() % self._interval_s
        if failures > PATIENT_FAILURES:
            pause_s = min(self._interval_s * 2 ** min(failures - PATIENT_FAILURES, 20), MAX_PAUSE_S)
        self._wait(pause_s)
