"""A TCP proxy that does to a connection what networks do: delay, throttle, stall, cut, reset.

Decides: when bytes go on, and how a connection ends. Leaves to others: who is on which side (``links``), and what must hold meanwhile.

Faults are set for each direction apart and may change while bytes are under way. Draws come from a seed, the number of the connection and
its direction, so a run can be repeated as far as the two ends send the same pieces.

What it cannot do: TCP loses no bytes, so a lost packet shows as a pause before everything behind it (the time until it is sent again,
doubled while the drawing goes against it). Handshakes of TCP are made by the system: a connection to a proxy that is cut is accepted, and
then nothing happens. ``netns`` has partitions that reach below TCP.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Self, TypeVar

PIECE_BYTES = 16 * 1024
RESEND_S = 0.2
"""The shortest time after which Linux sends a lost packet again."""
POLL_S = 0.02
"""How often something that waits looks whether the faults have changed."""
BACKLOG = 512
T = TypeVar("T")


class End(Enum):
    """How a connection ends."""

    CLOSE = "close"
    RESET = "reset"


@dataclass(frozen=True)
class Faults:
    """What happens to one direction of every connection.

    Args:
        latency_s: Every piece arrives so much later.
        jitter_s: And up to so much later again, drawn for each piece.
        bytes_per_s: No more than these pass; None for no bound.
        loss: Share of the pieces that are lost and sent again.
        cut: Nothing passes. What waits goes on when the cut is over, as TCP would have it.
        end_after: The connection ends after so many bytes of this direction, in the middle of whatever that is.
        end: How.
    """

    latency_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: int | None = None
    loss: float = 0.0
    cut: bool = False
    end_after: int | None = None
    end: End = End.RESET


NONE = Faults()
CUT = Faults(cut=True)


@dataclass
class Counters:
    """What passed so far."""

    connections: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    ended: int = 0
    """Connections that the proxy ended itself."""


class FaultProxy:
    """Forwards a port on loopback to a target. Runs in a thread of its own; every method may be called from any thread.

    Args:
        target: HOST:PORT.
        port: To listen on; 0 chooses a free one.
        seed: Of whatever is drawn. Whoever makes the proxy prints it.
    """

    def __init__(self, target: str, *, port: int = 0, seed: int = 0) -> None:
        host, _, number = target.rpartition(":")
        self._target = (host, int(number))
        self._seed = seed
        self.counters = Counters()
        self._up = self._down = NONE
        self._links: set[_Link] = set()
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._thread.start()
        self.port = port
        try:
            self._ask(self._listen)
        except BaseException:
            self._end_thread()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    @property
    def address(self) -> str:
        """What others dial."""
        return f"127.0.0.1:{self.port}"

    @property
    def open(self) -> int:
        """How many connections there are now."""
        return len(self._links)

    def set(self, *, up: Faults | None = None, down: Faults | None = None) -> None:
        """Put faults in force, for old connections too; ``up`` is towards the target. A direction that is not named keeps its own."""
        if up is not None:
            self._up = up
        if down is not None:
            self._down = down

    def both(self, faults: Faults) -> None:
        """Put the same faults in force in both directions."""
        self.set(up=faults, down=faults)

    def heal(self) -> None:
        """End all faults, listen again; connections that were stranded stay so until either end gives up."""
        self.both(NONE)
        self._ask(self._listen)

    def refuse(self) -> None:
        """Refuse new connections; those that exist go on."""
        self._ask(self._deafen)

    def end_all(self, end: End = End.RESET) -> None:
        """End every connection now."""

        async def end_links() -> None:
            for link in list(self._links):
                await link.stop(end)

        self._ask(end_links)

    def strand(self) -> None:
        """Nothing passes on the connections of now, ever, and nobody is told; new ones work.

        A firewall that restarted, or an address that moved, leaves both ends so.
        """

        async def mark() -> None:
            for link in self._links:
                link.stranded = True

        self._ask(mark)

    def close(self) -> None:
        """End everything."""
        if self._loop.is_closed():
            return
        self._ask(self._deafen)
        self.end_all(End.CLOSE)
        self._end_thread()

    # In the loop's thread

    def _ask(self, work: Callable[[], Awaitable[T]]) -> T:
        async def run() -> T:
            return await work()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    def _end_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _listen(self) -> None:
        if self._listener is not None:
            return
        listener = socket.socket()
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", self.port))
            listener.listen(BACKLOG)
            listener.settimeout(0)
        except BaseException:
            listener.close()
            raise
        self.port = listener.getsockname()[1]
        self._listener = listener
        self._accepting = asyncio.create_task(self._accept(listener))

    async def _deafen(self) -> None:
        if self._listener is None or self._accepting is None:
            return
        self._accepting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._accepting
        self._listener.close()
        self._listener = None

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            near, _ = await self._loop.sock_accept(listener)
            self.counters.connections += 1
            link = _Link(self, near, self.counters.connections)
            self._links.add(link)
            link.start()

    def faults(self, *, up: bool) -> Faults:
        """Return what is in force."""
        return self._up if up else self._down

    def count(self, size: int, *, up: bool) -> None:
        """Count bytes that passed."""
        if up:
            self.counters.bytes_up += size
        else:
            self.counters.bytes_down += size

    def draw(self, number: int, *, up: bool) -> random.Random:
        """Return what one direction of a connection draws from."""
        return random.Random(f"{self._seed} {number} {up}")

    async def dial(self) -> socket.socket:
        """Connect to the target.

        Raises:
            OSError: Nobody listens there.
        """
        far = socket.socket()
        far.settimeout(0)
        try:
            await self._loop.sock_connect(far, self._target)
        except BaseException:
            far.close()
            raise
        return far

    def gone(self, link: _Link) -> None:
        """Forget a connection."""
        self._links.discard(link)


class _Link:
    """One connection: two sockets, and two directions of two tasks each."""

    def __init__(self, proxy: FaultProxy, near: socket.socket, number: int) -> None:
        self._proxy = proxy
        self._near = near
        self._far: socket.socket | None = None
        self._number = number
        self._run: asyncio.Task[None] | None = None
        self._ended: End | None = None
        self.stranded = False
        near.settimeout(0)
        near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self) -> None:
        self._run = asyncio.create_task(self._forward())

    async def stop(self, end: End) -> None:
        """End it from outside."""
        assert self._run is not None
        self._proxy.counters.ended += 1
        self._run.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._run
        self._close(end)

    async def _forward(self) -> None:
        end = End.CLOSE
        try:
            # In a partition nobody gets as far as the target.
            await self._passable(up=True)
            self._far = await self._proxy.dial()
            self._far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.TaskGroup() as group:
                for source, sink, up in ((self._near, self._far, True), (self._far, self._near, False)):
                    # Bounded, so that a slow link pushes back on its sender as TCP does.
                    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)
                    group.create_task(self._take(source, pieces, up=up))
                    group.create_task(self._give(sink, pieces, up=up))
        except* OSError:
            # One end is gone at once, or was never there, or the faults say so: the other is told.
            end = self._ended or End.RESET
        self._close(end)

    def _close(self, end: End) -> None:
        for end_point in (self._near, self._far):
            if end_point is not None and end_point.fileno() >= 0:
                if end is End.RESET:
                    with contextlib.suppress(OSError):
                        end_point.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end_point.close()
        self._proxy.gone(self)

    async def _passable(self, *, up: bool) -> None:
        while self.stranded or self._proxy.faults(up=up).cut:  # noqa: ASYNC110 - faults are set from any thread
            await asyncio.sleep(POLL_S)

    async def _take(self, source: socket.socket, pieces: asyncio.Queue[tuple[float, bytes]], *, up: bool) -> None:
        loop = asyncio.get_running_loop()
        draw = self._proxy.draw(self._number, up=up)
        due = 0.0
        while True:
            data = await loop.sock_recv(source, PIECE_BYTES)
            faults = self._proxy.faults(up=up)
            wait_s = faults.latency_s + draw.uniform(0, faults.jitter_s)
            resend_s = RESEND_S
            while draw.random() < min(faults.loss, 0.9):
                wait_s += resend_s
                resend_s *= 2
            # In order, whatever was drawn.
            due = max(due, time.monotonic() + wait_s)
            await pieces.put((due, data))
            if not data:
                return

    async def _give(self, sink: socket.socket, pieces: asyncio.Queue[tuple[float, bytes]], *, up: bool) -> None:
        loop = asyncio.get_running_loop()
        passed = 0
        while True:
            due, data = await pieces.get()
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if not data:
                await self._passable(up=up)
                with contextlib.suppress(OSError):
                    sink.shutdown(socket.SHUT_WR)
                return
            while data:
                await self._passable(up=up)
                faults = self._proxy.faults(up=up)
                size = len(data)
                if faults.bytes_per_s is not None:
                    size = min(size, max(1, int(faults.bytes_per_s * POLL_S)))
                if faults.end_after is not None:
                    size = min(size, faults.end_after - passed)
                    if size <= 0:
                        self._ended = faults.end
                        self._proxy.counters.ended += 1
                        raise ConnectionAbortedError
                await loop.sock_sendall(sink, data[:size])
                passed += size
                self._proxy.count(size, up=up)
                data = data[size:]
                if faults.bytes_per_s is not None:
                    await asyncio.sleep(size / faults.bytes_per_s)
