"""A node at work: its use cases, and the loops that run them on the clock.

Each loop does one thing and outlives its failures: what cannot be done now (a peer away, a disk full) is logged by its
code and tried
again with growing pauses; what ends the node (``AuditError``) stops every use case.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from pathlib import Path

import structlog

from connector_psi.domain.clock import Clock, RandomSource
from connector_psi.domain.purposes import Mode
from connector_psi.errors import AuditError, ConnectorError, PurposeRefusedError
from connector_psi.node.access import AskedAccess
from connector_psi.node.accessviews import AccessViews
from connector_psi.node.alarms import Alarms
from connector_psi.node.asked import AskedCases
from connector_psi.node.caseviews import CaseViews
from connector_psi.node.erasure import Erasure
from connector_psi.node.evaluation import Evaluation
from connector_psi.node.granting import Granting
from connector_psi.node.node import OWNER, QUERIER, Node
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
from connector_psi.node.status import node_status
from connector_psi.node.subjects import Subjects
from connector_psi.node.witnessing import Witnessing
from connector_psi.storage import records

logger = structlog.get_logger("connector_psi.node")

MAX_PAUSE_S = 30.0
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
        self.evaluation = Evaluation(self.node)
        self.querying = Querying(self.node, self.connector)
        self.review = Review(self.node)
        self.asked = AskedCases(self.node, self.connector)
        self.received = ReceivedCases(self.node)
        self.cases = CaseViews(self.node)
        self.erasure = Erasure(self.node)
        self.recalling = Recalling(self.node, self.connector)
        self.recalled = Recalled(self.node, self.connector)
        self.recalls = RecallViews(self.node)
        self.alarms = Alarms(self.node)
        self.granting = Granting(self.node)
        self.asked_access = AskedAccess(self.node, self.connector, self.querying)
        self.accesses = AccessViews(self.node)
        self.retention = Retention(self.node)
        self.oversight = Oversight(self.node, self.retention)
        self.witnessing = Witnessing(self.node, self.connector)
        self.subjects = Subjects(self.node)
        self._jobs: dict[int, Future[list[Published]]] = {}
        self._jobs_lock = threading.Lock()
        self._job_pool = ThreadPoolExecutor(1, thread_name_prefix="publish")
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def status(self) -> dict[str, object]:
        """Return what ``connector-psi status --json`` prints."""
        return node_status(self.node, self.querying, self.alarms)

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
        published = [self.publishing.publish(code) for code in wanted]
        self.node.checkpoint()
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
        for code in self.publishing.due():
            try:
                published.append(self.publishing.publish(code))
            except AuditError:
                raise
            except ConnectorError as error:
                failure = failure or error
        if published:
            self.node.checkpoint()
        for code, epoch in self.publishing.retire():
            self.evaluation.forget(code, epoch)
        if failure is not None:
            raise failure
        return published

    def tick_query(self) -> int:
        """Take new sets and query changed records of every agreement, or what was granted by case.

        Returns how many records were covered.

        An agreement whose owner fails does not keep the others waiting.

        Raises:
            ConnectorError: The first failure, after all agreements had their turn.
        """
        self.node.check_alive()
        covered = 0
        failure: ConnectorError | None = None
        for bound in self.node.agreements(QUERIER):
            by_case = bound.agreement.mode is Mode.CASE
            try:
                if by_case:
                    # What was begun before a crash is finished in its own set, before a newer one takes its place.
                    self.asked_access.query(bound.code, begin=False)
                self.querying.take_newest(bound.code)
                if by_case:
                    self.asked_access.query(bound.code, begin=True)
                while count := self.querying.run_round(bound.code):
                    covered += count
            except AuditError:
                # This node's own log; a peer's that does not prove is a PeerError.
                raise
            except ConnectorError as error:
                failure = failure or error
        if failure is not None:
            raise failure
        return covered

    def tick_cases(self) -> int:
        """Move the cases, the requests for access and the recalls of both sides on."""
        return self.tick_owned_cases() + self.tick_queried_cases() + self.tick_recalls()

    def tick_owned_cases(self) -> int:
        """Move what peers opened here on."""
        return self.received.advance() + self.granting.advance()

    def tick_queried_cases(self) -> int:
        """Move what this node opened at peers on, cases and requests for access apart.

        Raises:
            PeerError: The first answer that does not hold, after everything had its turn.
        """
        try:
            moved = self.asked.advance()
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

    # Waiting

    def sync(self, mark_ms: int) -> SyncState:
        """Tell whether everything registered at this node before a mark has been queried and published.

        Args:
            mark_ms: From an earlier answer, 0 to begin.
        """
        node = self.node
        node.check_alive()
        mark = mark_ms or node.now_ms()
        waiting, pending = [], 0
        for bound in node.agreements(QUERIER):
            left = self.querying.pending(bound.code)
            pending = max(pending, left)
            if left or self.querying.fresh_until_ms(bound.code) < mark:
                waiting.append(bound.code)
        for bound in node.agreements(OWNER):
            with node.store.read() as tx:
                newest = newest_set(tx, bound)
                change_seq, _ = records.newest_change(tx, bound.agreement.categories)
            if newest is None or change_seq > (newest.change_seq or 0):
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
            ("erasure", self.tick_erasure, 10.0),
            ("retention", self.tick_retention, RETENTION_S),
            ("publish", self.tick_publish, min(settings.publish.quiet_s, 1.0)),
            ("query", self.tick_query, min(settings.query.interval_s, settings.query.manifest_poll_s)),
            # Loops of their own, so that a peer that hangs does not keep the outcomes of this node's own cases back.
            ("owned cases", self.tick_owned_cases, min(1.0, settings.disclosure.slot_s / 4)),
            ("queried cases", self.tick_queried_cases, min(1.0, settings.disclosure.slot_s / 4)),
            ("recalls", self.tick_recalls, min(1.0, settings.disclosure.slot_s / 4)),
        ]
        for name, turn, pause_s in loops:
            thread = threading.Thread(target=self._loop, args=(name, turn, pause_s), name=f"loop-{name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def _loop(self, name: str, turn: Callable[[], object], pause_s: float) -> None:
        failures = 0
        while not self._stop.is_set():
            try:
                turn()
                failures = 0
            except AuditError as error:
                self.node.fail(error)
                return
            except ConnectorError as error:
                failures += 1
                if failures in {1, 10, 100}:
                    logger.warning("loop.failed", loop=name, code=error.code, detail=str(error), failures=failures)
            except Exception as error:  # noqa: BLE001 - a loop must outlive a defect
                failures += 1
                # The type alone: the text may hold a value.
                logger.error("loop.defect", loop=name, error=type(error).__name__)  # noqa: TRY400
            # Doubling from the fifth failure on, so that a peer that restarts is found again at once.
            self._stop.wait(min(pause_s * 2 ** max(0, failures - 5), MAX_PAUSE_S))

    def close(self) -> None:
        """Stop the loops and close the node."""
        self._stop.set()
        # A call to a peer that hangs would keep its loop until the deadline.
        self.connector.close()
        for thread in self._threads:
            thread.join(timeout=30)
        self._job_pool.shutdown()
        self.querying.close()
        self.node.close()
