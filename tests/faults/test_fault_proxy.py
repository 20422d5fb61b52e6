"""The fault proxy does what it says, so that what is tried through it is tried."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.faults.proxy import CUT, End, FaultProxy, Faults


class Echo:
    """Sends back what it gets."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._serve, args=(connection,), daemon=True))
                self._threads[-1].start()

    @staticmethod
    def _serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(65536):
                connection.sendall(data)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    echo = Echo()
    with FaultProxy(echo.address, seed=5) as made:
        yield made
    echo.close()


def _dial(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            break
        data += piece
    return data


def _trip_s(connection: socket.socket, data: bytes = b"x") -> float:
    begun = time.monotonic()
    connection.sendall(data)
    assert _exactly(connection, len(data)) == data
    return time.monotonic() - begun


def test_without_faults_bytes_pass_both_ways_and_are_counted(proxy: FaultProxy) -> None:
    data = bytes(range(256)) * 2_000
    with _dial(proxy) as one, _dial(proxy) as two:
        sender = threading.Thread(target=one.sendall, args=(data,))
        sender.start()
        assert _exactly(one, len(data)) == data
        sender.join()
        _trip_s(two)
        assert proxy.open == 2
        # A byte is counted after it was passed on, so it may be here before.
        _until(lambda: proxy.counters.bytes_down == len(data) + 1)
    assert (proxy.counters.connections, proxy.counters.bytes_up) == (2, len(data) + 1)


def test_an_end_that_closes_is_passed_on(proxy: FaultProxy) -> None:
    with _dial(proxy) as connection:
        connection.sendall(b"last words")
        connection.shutdown(socket.SHUT_WR)
        assert _exactly(connection, 100) == b"last words"
    _until(lambda: proxy.open == 0)
    assert proxy.counters.ended == 0


def test_latency_and_its_end(proxy: FaultProxy) -> None:
    with _dial(proxy) as connection:
        assert _trip_s(connection) < 0.1
        proxy.set(up=Faults(latency_s=0.15), down=Faults(latency_s=0.1))
        assert 0.25 <= _trip_s(connection) < 0.6
        proxy.heal()
        assert _trip_s(connection) < 0.1


def test_a_throttle(proxy: FaultProxy) -> None:
    with _dial(proxy) as connection:
        proxy.set(up=Faults(bytes_per_s=20_000))
        assert 0.4 <= _trip_s(connection, bytes(10_000)) < 1.5


def test_loss_is_a_pause_and_the_same_seed_draws_the_same(proxy: FaultProxy) -> None:
    assert [proxy.draw(3, up=True).random() for _ in range(2)] == [proxy.draw(3, up=True).random()] * 2
    assert proxy.draw(3, up=True).random() != proxy.draw(3, up=False).random()
    proxy.set(up=Faults(loss=0.2))
    with _dial(proxy) as connection:
        trips = [_trip_s(connection) for _ in range(4)]
    drawn = proxy.draw(1, up=True)
    # A piece draws its jitter first, then until it is not lost.
    lost = []
    for _ in trips:
        drawn.uniform(0, 0)
        times = 0
        while drawn.random() < 0.2:
            times += 1
        lost.append(times)
    assert [trip_s >= 0.2 for trip_s in trips] == [times > 0 for times in lost]
    assert any(lost)
    assert not all(lost)


def test_a_cut_stalls_what_is_there_and_what_is_new_until_it_is_over(proxy: FaultProxy) -> None:
    with _dial(proxy) as old:
        _trip_s(old)
        proxy.both(CUT)
        with _dial(proxy) as new:
            for connection in (old, new):
                connection.sendall(b"waits")
                connection.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    connection.recv(1)
            proxy.heal()
            for connection in (old, new):
                connection.settimeout(5)
                assert _exactly(connection, 5) == b"waits"


def test_a_stranded_connection_stays_so_and_new_ones_work(proxy: FaultProxy) -> None:
    with _dial(proxy) as old:
        _trip_s(old)
        proxy.strand()
        proxy.heal()
        old.sendall(b"lost")
        old.settimeout(0.2)
        with pytest.raises(TimeoutError):
            old.recv(1)
        with _dial(proxy) as new:
            _trip_s(new)


@pytest.mark.parametrize("end", End)
def test_a_connection_ends_in_the_middle_of_a_message(proxy: FaultProxy, end: End) -> None:
    proxy.set(down=Faults(end_after=7, end=end))
    with _dial(proxy) as connection:
        connection.sendall(b"0123456789")
        if end is End.CLOSE:
            assert _exactly(connection, 10) == b"0123456"
        else:
            _until(lambda: proxy.open == 0)
            with pytest.raises(ConnectionResetError):
                _exactly(connection, 10)
    _until(lambda: proxy.open == 0)
    assert (proxy.counters.ended, proxy.counters.bytes_down) == (1, 7)


def test_a_reset_at_once_and_a_port_that_refuses(proxy: FaultProxy) -> None:
    with _dial(proxy) as connection:
        _trip_s(connection)
        proxy.refuse()
        _trip_s(connection)
        with pytest.raises(ConnectionRefusedError):
            _dial(proxy)
        proxy.end_all(End.RESET)
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    proxy.heal()
    with _dial(proxy) as connection:
        _trip_s(connection)


def test_a_target_that_is_not_there_is_a_reset_and_the_proxy_goes_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with FaultProxy(f"127.0.0.1:{port}") as proxy:
        for _ in range(2):
            # The reset may come before the connection is the client's.
            with contextlib.suppress(ConnectionResetError), _dial(proxy) as connection:
                assert connection.recv(1) == b""
        _until(lambda: proxy.open == 0)
        assert proxy.counters.connections == 2


def _until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)
