"""Writers that wait for one another share a commit, so that the disk is waited for once for all of them.

Rules:

1. One writer works at a time, in the order they came. Whoever finds others waiting leaves the transaction open to them
   and waits for its commit; the last one commits. Alone, a writer commits at once, as if there were no groups.
2. Nobody is told of success before the commit that holds their work is on the disk. If it fails, it fails for all.
3. What one writer fails at is undone for it alone (a savepoint), and the others are not touched.
4. A writer may demand to be alone: its transaction then holds no work of others that could still be rolled back.
   Whoever does something outside the database on the strength of what it reads, such as signing, must be.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy.engine import Connection, Engine, Transaction
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from connector_psi.errors import UnavailableError

MAX_MEMBERS: Final = 64
MAX_AGE_S: Final = 0.010
"""An open group that is older is committed, however many wait: short writers do not wait for a row of long ones."""


@dataclass
class _Group:
    """One transaction, and whoever waits for its commit."""

    connection: Connection
    transaction: Transaction
    began_s: float
    members: int = 0
    broken: bool = False
    done: threading.Event = field(default_factory=threading.Event)
    committed: bool = False


class FairLock:
    """A lock that is handed on in the order in which it was asked for."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._held = False
        self._queue: deque[threading.Lock] = deque()

    def acquire(self) -> None:
        """Wait for it."""
        with self._guard:
            if not self._held:
                self._held = True
                return
            turn = threading.Lock()
            turn.acquire()
            self._queue.append(turn)
        try:
            turn.acquire()
        except BaseException:
            # Interrupted: out of the queue, or, where it was handed over meanwhile, on to the next.
            with self._guard:
                handed = turn not in self._queue
                if not handed:
                    self._queue.remove(turn)
            if handed:
                self.release()
            raise

    def release(self) -> None:
        """Hand it to whoever waits longest."""
        with self._guard:
            if self._queue:
                self._queue.popleft().release()
            else:
                self._held = False

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._queue)


class GroupCommit:
    """Transactions that write, on one engine.

    Args:
        engine: Of the database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._turn = FairLock()
        self._open: _Group | None = None

    @contextmanager
    def transaction(self, *, alone: bool) -> Iterator[Connection]:
        """A transaction, on the disk when the block ends; of what it did nothing is left when it raises.

        Args:
            alone: Whether it may hold nobody else's work.

        Raises:
            UnavailableError: The commit that it shared with others failed.
            DBAPIError: As the driver raised it.
        """
        self._take_turn()
        group: _Group | None = None
        try:
            if alone:
                self._finish_open()
            group = self._open or self._begin()
            self._open = group
            savepoint = group.connection.begin_nested() if group.members else None
            try:
                yield group.connection
                if savepoint is not None:
                    savepoint.commit()
            except BaseException:
                self._undo(group, savepoint)
                raise
            group.members += 1
            if alone or not self._turn.waiting or self._is_full(group):
                self._finish(group)
        except BaseException:
            if group is not None and not group.done.is_set() and (group.broken or not self._turn.waiting):
                # Nobody may join what is broken, or nobody comes to commit what the others left.
                with suppress(DBAPIError):
                    self._finish(group)
            raise
        finally:
            self._turn.release()
        group.done.wait()
        if not group.committed:
            raise UnavailableError("the database cannot be used now")

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Nobody writes meanwhile, and nothing that was written waits for its commit."""
        self._take_turn()
        try:
            self._finish_open()
            yield
        finally:
            self._turn.release()

    def _take_turn(self) -> None:
        try:
            self._turn.acquire()
        except BaseException:
            # Interrupted: whoever left the transaction open because this one waited waits for its commit.
            with self.exclusive():
                raise

    def _begin(self) -> _Group:
        connection = self._engine.connect()
        try:
            connection.info["immediate"] = True
            return _Group(connection, connection.begin(), time.monotonic())
        except BaseException:
            connection.info.pop("immediate", None)
            connection.close()
            raise

    @staticmethod
    def _is_full(group: _Group) -> bool:
        return group.members >= MAX_MEMBERS or time.monotonic() - group.began_s > MAX_AGE_S

    @staticmethod
    def _undo(group: _Group, savepoint: Transaction | None) -> None:
        if savepoint is None:
            # The first member: there is nothing of others in it.
            group.broken = True
            return
        try:
            savepoint.rollback()
        except DBAPIError:
            # The driver gave up the whole transaction, as SQLite does on a full disk.
            group.broken = True

    def _finish_open(self) -> None:
        if self._open is not None:
            with suppress(DBAPIError):
                self._finish(self._open)

    def _finish(self, group: _Group) -> None:
        """Commit, or roll back what is broken; whoever waits is told either way."""
        self._open = None
        try:
            if group.broken:
                group.transaction.rollback()
            else:
                group.transaction.commit()
                group.committed = True
        except BaseException:
            # Whatever state the driver left it in: closed, it holds no lock and no half of a transaction.
            with suppress(SQLAlchemyError):
                group.connection.invalidate()
                group.transaction.rollback()
            raise
        finally:
            try:
                with suppress(SQLAlchemyError):
                    group.connection.info.pop("immediate", None)
                    group.connection.close()
            finally:
                group.done.set()
