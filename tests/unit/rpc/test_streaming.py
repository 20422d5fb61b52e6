"""Batches of a stream: by number, bytes and time, bounded, in order, and ended by whatever ends the stream."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from connector_psi.rpc import tls  # noqa: F401  # isort: skip  # sets up gRPC's environment before gRPC is loaded

import pytest

from connector_psi.domain.records import Record, Supersession
from connector_psi.errors import FormatError, UnavailableError
from connector_psi.node.registration import Position, Registration, Result
from connector_psi.rpc.streaming import READ_AHEAD, Batches, Intake
from connector_psi.rpc.v1 import registry_pb2

WAIT_S = 5.0


def batches(source: Iterator[int], size: int = 1, **limits: float) -> Batches[int]:
    ending = threading.Event()
    return Batches(source, lambda _item: size, ending, **limits)  # type: ignore[arg-type]


def eventually(true: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def reader_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "stream-reader"]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    eventually(lambda: not reader_threads())


def fed(items: queue.Queue[int | None]) -> Iterator[int]:
    while (item := items.get(timeout=WAIT_S)) is not None:
        yield item


def test_all_items_come_out_in_order_and_no_batch_is_larger_than_it_may_be() -> None:
    with batches(iter(range(1_000)), max_items=64) as made:
        found = list(made)
    assert [item for batch in found for item in batch] == list(range(1_000))
    assert max(map(len, found)) <= 64
    assert len(found) < 100


def test_a_batch_is_bounded_by_bytes_and_a_larger_item_goes_alone() -> None:
    sizes = [40, 40, 40, 500, 10, 10, 90]
    with Batches(iter(sizes), lambda size: size, threading.Event(), max_bytes=100) as made:
        found = list(made)
    assert [item for batch in found for item in batch] == sizes
    assert [500] in found
    assert all(sum(batch) <= 100 for batch in found if batch != [500])


def test_an_item_that_comes_alone_is_not_kept_waiting_and_what_follows_closely_shares_its_batch() -> None:
    items: queue.Queue[int | None] = queue.Queue()
    with batches(fed(items), linger_s=0.2) as made:
        each = iter(made)
        begun = time.monotonic()
        items.put(1)
        assert next(each) == [1]
        assert time.monotonic() - begun < 2.0
        for item in (2, 3, 4):
            items.put(item)
        assert next(each) == [2, 3, 4]
        items.put(None)
        assert list(each) == []


def test_a_full_batch_does_not_wait_for_its_time() -> None:
    items: queue.Queue[int | None] = queue.Queue()
    for item in range(8):
        items.put(item)
    with batches(fed(items), max_items=4, linger_s=60) as made:
        each = iter(made)
        begun = time.monotonic()
        assert [next(each), next(each)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
        assert time.monotonic() - begun < 10
        items.put(None)


def test_no_more_is_read_than_the_queue_holds_until_somebody_takes_it() -> None:
    read: list[int] = []

    def source() -> Iterator[int]:
        for item in range(100):
            read.append(item)
            yield item

    with batches(source(), size=10, max_items=1_000, max_bytes=50) as made:
        # One more is in the reader's hand.
        eventually(lambda: len(read) == READ_AHEAD * 5 + 1)
        time.sleep(0.05)
        assert len(read) == READ_AHEAD * 5 + 1
        assert sum(map(len, made)) == 100


def test_what_was_read_before_a_failure_comes_first_and_then_the_failure() -> None:
    def source() -> Iterator[int]:
        yield from range(5)
        raise FormatError("request: not a message of this method")

    found: list[int] = []
    with batches(source(), max_items=2) as made, pytest.raises(FormatError):
        found += (item for batch in made for item in batch)
    assert found == list(range(5))


def test_whoever_leaves_early_leaves_no_thread_even_with_a_full_queue() -> None:
    with batches(iter(range(10_000)), max_items=3) as made:
        assert next(iter(made))


def test_a_stream_that_is_to_end_gives_what_was_read_and_then_says_so() -> None:
    items: queue.Queue[int | None] = queue.Queue()
    ending = threading.Event()
    for item in range(3):
        items.put(item)
    with Batches(fed(items), lambda _item: 1, ending, linger_s=60) as made:
        eventually(items.empty)
        time.sleep(0.02)
        ending.set()
        each = iter(made)
        assert next(each) == [0, 1, 2]
        with pytest.raises(UnavailableError):
            next(each)
        items.put(None)


def test_a_stream_on_which_nothing_comes_ends_soon_too() -> None:
    items: queue.Queue[int | None] = queue.Queue()
    ending = threading.Event()
    threading.Timer(0.05, ending.set).start()
    begun = time.monotonic()
    with Batches(fed(items), lambda _item: 1, ending) as made:
        with pytest.raises(UnavailableError):
            list(made)
        assert time.monotonic() - begun < 1.0
        items.put(None)


# --- Intake -----------------------------------------------------------------------------------------------------------


class Kept(Registration):
    """Notes what it is told to register; a record without identifiers is rejected."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[str], list[str]]] = []

    def register(
        self,
        records: Sequence[Record],
        actor: str,
        supersessions: Sequence[Supersession] = (),
        position: Position | None = None,
    ) -> list[Result]:
        assert actor == "urn:test"
        assert position is None
        self.calls.append(([r.source_ref for r in records], [s.message_ref for s in supersessions]))
        return [
            *(Result("accepted" if r.identifiers else "rejected") for r in records),
            *(Result("updated") for _ in supersessions),
        ]


def record(ref: str, message: str = "", source: str = "ICS2", *, good: bool = True) -> registry_pb2.Record:
    identifiers = [registry_pb2.Identifier(type="container", value="CSQU3054383")] if good else []
    return registry_pb2.Record(source=source, source_ref=ref, message_ref=message, identifiers=identifiers)


def end(ref: str, *, withdrawn: bool = False, source: str = "ICS2") -> registry_pb2.Supersession:
    return registry_pb2.Supersession(source=source, message_ref=ref, withdrawn=withdrawn)


def outcomes(results: Sequence[registry_pb2.RegisterResult]) -> list[str]:
    return [registry_pb2.RegisterOutcome.Name(r.outcome).removeprefix("REGISTER_OUTCOME_").lower() for r in results]


def test_results_come_in_the_order_of_the_items_whatever_they_are() -> None:
    kept = Kept()
    items = [end("M0"), record("A"), record("B", source="nowhere"), end("M1", source="nowhere"), record("C"), end("M2")]
    results = Intake(kept, "urn:test").take(items)
    assert outcomes(results) == ["updated", "accepted", "rejected", "rejected", "accepted", "updated"]
    assert list(results[2].problems) == ["source: not in the vocabulary"]
    assert kept.calls == [(["A", "C"], ["M0", "M2"])]


def test_the_end_of_a_message_takes_nothing_back_if_a_record_of_it_was_lost_in_an_earlier_batch() -> None:
    kept = Kept()
    intake = Intake(kept, "urn:test")
    unreadable = record("B", "M2")
    unreadable.fields["no such field"].values.append("x")
    assert outcomes(intake.take([record("A", "M1", good=False), unreadable])) == ["rejected", "rejected"]
    ends = [end("M1"), end("M2"), end("N"), end("M1", withdrawn=True), end("M1", source="ICS")]
    assert outcomes(intake.take(ends)) == ["duplicate", "duplicate", "updated", "updated", "updated"]
    assert kept.calls[-1] == ([], ["N", "M1", "M1"])
    # Another caller's stream knows nothing of it.
    assert outcomes(Intake(kept, "urn:test").take([end("M1")])) == ["updated"]


def test_nothing_is_acknowledged_if_the_store_takes_nothing() -> None:
    class Full(Kept):
        def register(self, *_args: object, **_named: object) -> list[Result]:
            raise UnavailableError("the database cannot be used now")

    with pytest.raises(UnavailableError):
        Intake(Full(), "urn:test").take([record("A")])
