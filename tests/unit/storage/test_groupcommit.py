"""Writers that share a commit: each durable or told, each alone undone, in the order they came."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from connector_psi.errors import UnavailableError
from connector_psi.storage import groupcommit
from connector_psi.storage.groupcommit import FairLock
from connector_psi.storage.schema import witnessed
from connector_psi.storage.store import Database, Tx
from connector_psi.storage.witnesses import WitnessedRow, list_witnessed, put_latest

WAIT_S = 20


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path / 'test.db'}", (witnessed,))
    yield made
    made.close()


def put(tx: Tx, name: str) -> None:
    put_latest(tx, WitnessedRow(name, 1, b"note", 0))


def names(database: Database) -> set[str]:
    with database.read() as tx:
        return {row.origin for row in list_witnessed(tx)}


class Queue:
    """Writers that begin one after another while the first holds its turn."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.threads: list[threading.Thread] = []
        self.outcomes: dict[str, BaseException | None] = {}
        self.order: list[str] = []

    def start(
        self, name: str, *, fails: bool = False, alone: bool = False, hold: threading.Event | None = None
    ) -> None:
        def work() -> None:
            try:
                with self.database.write(alone=alone) as tx:
                    self.order.append(name)
                    put(tx, name)
                    if hold is not None:
                        assert hold.wait(WAIT_S)
                    if fails:
                        raise ValueError(name)  # noqa: TRY301 - what a use case raises
                self.outcomes[name] = None
            except BaseException as error:  # noqa: BLE001 - looked at below
                self.outcomes[name] = error

        before = self.database._writers._turn.waiting
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        self.threads.append(thread)
        deadline = time.monotonic() + WAIT_S
        while (hold is None and self.database._writers._turn.waiting <= before) or (hold and name not in self.order):
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def end(self) -> None:
        for thread in self.threads:
            thread.join(WAIT_S)
            assert not thread.is_alive()


def commits(database: Database) -> list[int]:
    count = [0]
    sa.event.listen(database._engine, "commit", lambda _: count.__setitem__(0, count[0] + 1))
    return count


def test_those_that_wait_share_a_commit_and_nothing_is_seen_before_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groupcommit, "MAX_AGE_S", WAIT_S)
    count, queue, hold = commits(database), Queue(database), threading.Event()
    queue.start("first", hold=hold)
    for n in range(10):
        queue.start(f"n{n}")
    assert names(database) == set()
    hold.set()
    queue.end()
    assert set(queue.outcomes.values()) == {None}
    assert queue.order == ["first", *(f"n{n}" for n in range(10))]
    assert names(database) == set(queue.order)
    # One for all of them, and one for the look before.
    assert count[0] <= 4


@pytest.mark.parametrize("who", ["first", "n0", "n1", "n2"])
def test_what_one_fails_at_is_undone_for_it_alone(
    database: Database, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    monkeypatch.setattr(groupcommit, "MAX_AGE_S", WAIT_S)
    queue, hold = Queue(database), threading.Event()
    queue.start("first", hold=hold, fails=who == "first")
    for n in range(3):
        queue.start(f"n{n}", fails=who == f"n{n}")
    hold.set()
    queue.end()
    assert {name: type(error) for name, error in queue.outcomes.items() if error} == {who: ValueError}
    assert names(database) == {"first", "n0", "n1", "n2"} - {who}


def test_a_commit_that_fails_fails_for_all_of_them(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groupcommit, "MAX_AGE_S", WAIT_S)
    queue, hold = Queue(database), threading.Event()
    queue.start("first", hold=hold)
    for n in range(3):
        queue.start(f"n{n}")

    def full(_connection: object) -> None:
        raise sa.exc.OperationalError("COMMIT", {}, Exception("full"))

    sa.event.listen(database._engine, "commit", full)
    hold.set()
    queue.end()
    assert {type(error) for error in queue.outcomes.values()} == {UnavailableError}
    sa.event.remove(database._engine, "commit", full)
    assert names(database) == set()
    with database.write() as tx:
        put(tx, "later")
    assert names(database) == {"later"}


def test_whoever_demands_to_be_alone_sees_only_what_is_durable(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groupcommit, "MAX_AGE_S", WAIT_S)
    count, queue, hold = commits(database), Queue(database), threading.Event()
    queue.start("first", hold=hold)
    queue.start("second")
    queue.start("alone", alone=True)
    queue.start("after")
    hold.set()
    queue.end()
    assert queue.order == ["first", "second", "alone", "after"]
    assert count[0] == 3
    assert names(database) == set(queue.order)


def test_short_writers_do_not_wait_for_a_row_of_long_ones(database: Database) -> None:
    count, queue, hold = commits(database), Queue(database), threading.Event()
    queue.start("long", hold=hold)
    queue.start("short")
    time.sleep(2 * groupcommit.MAX_AGE_S)
    hold.set()
    queue.end()
    assert count[0] == 2


def test_many_threads_lose_nothing_and_every_one_that_failed_was_told(database: Database) -> None:
    done: set[str] = set()
    told: set[str] = set()

    def work(number: int) -> None:
        for n in range(40):
            name = f"{number}-{n}"
            try:
                with database.write(alone=n % 13 == 0) as tx:
                    put(tx, name)
                    if (number + n) % 7 == 0:
                        raise ValueError  # noqa: TRY301 - what a use case raises
                done.add(name)
            except ValueError:
                told.add(name)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(done | told) == 480
    assert names(database) == done


@pytest.mark.parametrize("exclusive", [False, True])
def test_an_interrupted_writer_leaves_nobody_waiting(
    database: Database, monkeypatch: pytest.MonkeyPatch, exclusive: bool
) -> None:
    """The interruption comes after the one before left the transaction open to this one, and before its turn."""
    monkeypatch.setattr(groupcommit, "MAX_AGE_S", WAIT_S)
    writers, queue, hold = database._writers, Queue(database), threading.Event()
    queue.start("first", hold=hold)
    acquire = writers._turn.acquire

    def interrupted() -> None:
        monkeypatch.setattr(writers._turn, "acquire", acquire)
        turn = threading.Lock()
        turn.acquire()
        writers._turn._queue.append(turn)
        hold.set()
        deadline = time.monotonic() + WAIT_S
        while writers._turn.waiting and time.monotonic() < deadline:
            time.sleep(0.001)
        # Handed over, and on to the next, as ``acquire`` does.
        writers._turn.release()
        raise KeyboardInterrupt

    monkeypatch.setattr(writers._turn, "acquire", interrupted)
    with pytest.raises(KeyboardInterrupt), writers.exclusive() if exclusive else database.write():
        pass
    queue.end()
    assert queue.outcomes == {"first": None}
    assert names(database) == {"first"}


def test_turns_are_handed_on_in_order() -> None:
    lock = FairLock()
    lock.acquire()
    got: list[int] = []
    threads = [threading.Thread(target=lambda n=n: (lock.acquire(), got.append(n), lock.release())) for n in range(5)]
    for number, thread in enumerate(threads):
        thread.start()
        while lock.waiting <= number:
            time.sleep(0.001)
    lock.release()
    for thread in threads:
        thread.join(WAIT_S)
    assert got == [0, 1, 2, 3, 4]
    lock.acquire()
    lock.release()
