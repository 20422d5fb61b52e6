"""Records that come in on a stream: what arrives close together is registered in one transaction.

Rules:

1. A thread of the stream reads requests into a queue that is bounded by number and by bytes. While it is full nothing
   more is read, and gRPC's flow control holds the sender.
2. A batch is what is there once enough is, or a short time after its first item. It never waits for more than that:
   an item that comes alone is registered alone.
3. What ends the stream (its end, a failure of the connection, bytes that are no request) takes effect after everything
   that was read before it.
4. The end of a message takes nothing back if a record of it was not kept, in whichever batch that was.

Leaves to others: what registering does and that it is durable (``node.registration``), the call itself
(``servicers``). Nothing of gRPC is in here but messages.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, Generic, Self, TypeVar

from connector_psi.domain.records import Record, Supersession
from connector_psi.errors import FormatError, UnavailableError
from connector_psi.node.registration import REJECTED, Position, Registration, Result
from connector_psi.rpc import convert

if TYPE_CHECKING:
    from connector_psi.rpc.v1 import registry_pb2

T = TypeVar("T")

MAX_BATCH_ITEMS: Final = 500
MAX_BATCH_BYTES: Final = 900_000
LINGER_S: Final = 0.020
"""How long a batch waits for more after its first item."""
READ_AHEAD: Final = 2
"""Batches that the queue holds: one is registered while the next is read."""
LOOK_S: Final = 0.2
"""How often a stream on which nothing comes looks whether it is to end."""
MAX_LOST: Final = 100_000
"""Messages of one stream that are remembered because a record of them was not kept."""
DUPLICATE: Final = "duplicate"


class Batches(Generic[T]):
    """The items of a stream, in order, in batches; iterating ends with the stream, or raises what ended it.

    Used as a context: its thread is told to end when the context ends. It does so at once if the queue is what it waits
    for, else when the source gives something or ends, as a gRPC stream does with its call.

    Args:
        source: The stream; read by a thread of its own.
        size_of: Bytes of an item.
        ending: When it is set nothing more is read, and the stream is given up after what was.
        max_items: Of a batch.
        max_bytes: Of a batch; one larger item is a batch of its own.
        linger_s: As ``LINGER_S``.
        clock: Monotonic time.
    """

    def __init__(
        self,
        source: Iterable[T],
        size_of: Callable[[T], int],
        ending: threading.Event,
        *,
        max_items: int = MAX_BATCH_ITEMS,
        max_bytes: int = MAX_BATCH_BYTES,
        linger_s: float = LINGER_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._size_of = size_of
        self._ending = ending
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._linger_s = linger_s
        self._clock = clock
        # Guards everything below.
        self._changed = threading.Condition()
        self._queue: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._over = False
        self._failure: Exception | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._read, name="stream-reader", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        with self._changed:
            self._closed = True
            self._queue.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[list[T]]:
        while batch := self._next():
            yield batch

    def _read(self) -> None:
        failure: Exception | None = None
        try:
            for item in self._source:
                if not self._put(item, self._size_of(item)):
                    return
        except Exception as error:  # noqa: BLE001 - raised again by whoever iterates
            failure = error
        finally:
            with self._changed:
                self._over, self._failure = True, failure
                self._changed.notify_all()

    def _put(self, item: T, size: int) -> bool:
        """Put an item into the queue once there is room. Returns whether somebody still wants it."""
        with self._changed:
            while not self._closed and self._queue and not self._has_room(size):
                self._changed.wait()
            if self._closed:
                return False
            self._queue.append((item, size))
            self._bytes += size
            self._changed.notify_all()
        return True

    def _has_room(self, size: int) -> bool:
        return len(self._queue) < READ_AHEAD * self._max_items and self._bytes + size <= READ_AHEAD * self._max_bytes

    def _next(self) -> list[T]:
        """The next batch; empty at the end of the stream.

        Raises:
            UnavailableError: The stream is given up.
        """
        with self._changed:
            while not self._queue and not self._over and not self._ending.is_set():
                self._changed.wait(LOOK_S)
            if self._ending.is_set():
                # What was read already is still registered.
                self._closed = True
                self._changed.notify_all()
                if not self._queue:
                    raise UnavailableError("the node is being stopped")
            if not self._queue:
                if self._failure is not None:
                    raise self._failure
                return []
            until = self._clock() + self._linger_s
            while not self._over and not self._closed and not self._is_batch():
                left = until - self._clock()
                if left <= 0:
                    break
                self._changed.wait(left)
            return self._taken()

    def _is_batch(self) -> bool:
        return len(self._queue) >= self._max_items or self._bytes >= self._max_bytes

    def _taken(self) -> list[T]:
        batch: list[T] = []
        total = 0
        while self._queue and len(batch) < self._max_items:
            item, size = self._queue[0]
            if batch and total + size > self._max_bytes:
                break
            self._queue.popleft()
            batch.append(item)
            total += size
        self._bytes -= total
        self._changed.notify_all()
        return batch


Item = "registry_pb2.Record | registry_pb2.Supersession"


class Intake:
    """What one caller registers, call after call or batch after batch.

    Args:
        registration: The node's.
        actor: URI of the caller.
    """

    def __init__(self, registration: Registration, actor: str) -> None:
        self._registration = registration
        self._actor = actor
        # The oldest is forgotten first.
        self._lost: OrderedDict[tuple[str, str], None] = OrderedDict()

    def take(
        self,
        items: Sequence[registry_pb2.Record | registry_pb2.Supersession],
        position: Position | None = None,
    ) -> list[registry_pb2.RegisterResult]:
        """Register records and ends of messages in one transaction; one that cannot be read keeps no other out.

        Returns:
            One result an item, in order; what is in them is durable.

        Raises:
            UnavailableError: Nothing of it was kept.
        """
        results: list[Result | None] = [None] * len(items)
        records: list[tuple[int, Record]] = []
        ended: list[tuple[int, Supersession]] = []
        for number, item in enumerate(items):
            try:
                parsed = convert.parse_item(item)
            except FormatError as error:
                results[number] = Result(REJECTED, (str(error),))
                self._lose(item)
                continue
            if isinstance(parsed, Record):
                records.append((number, parsed))
            elif (item.source, item.message_ref) in self._lost and not parsed.withdrawn:
                results[number] = Result(DUPLICATE)
            else:
                ended.append((number, parsed))
        done = self._registration.register(
            [record for _, record in records], self._actor, [end for _, end in ended], position
        )
        for (number, _), result in zip((*records, *ended), done, strict=True):
            results[number] = result
            if result.outcome == REJECTED:
                self._lose(items[number])
        return [convert.result_message(result) for result in results if result is not None]

    def _lose(self, item: registry_pb2.Record | registry_pb2.Supersession) -> None:
        self._lost[item.source, convert.message_ref_of(item)] = None
        if len(self._lost) > MAX_LOST:
            self._lost.popitem(last=False)
