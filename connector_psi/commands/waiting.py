"""Commands that go on for as long as they are let: reaching a node that comes and goes, and ending when told to.

Decides: that a node which was served once is never opened by such a command, because its ``serve`` would then find the
directory taken; how long the pauses are. Leaves to others: what is done with the node (``following``, ``review``).
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from connector_psi import errors
from connector_psi.commands.output import err
from connector_psi.pki import Role
from connector_psi.rpc.client import LocalClient
from connector_psi.rpc.local import is_served, open_local

AWAY: Final = (errors.UnavailableError, errors.KeyUnavailableError)
"""A node that fails so is waited for; everything else needs a person."""
FIRST_PAUSE_S: Final = 0.5
MAX_PAUSE_S: Final = 5.0
LASTED_S: Final = 60.0
"""A connection that was good for so long was no try."""


@contextmanager
def until_told() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM set an event meanwhile: what is in hand is finished."""
    stop = threading.Event()
    with _told_by(lambda *_: stop.set()):
        yield stop


@contextmanager
def until_interrupted() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the block, and nothing more."""
    with suppress(KeyboardInterrupt), _told_by(signal.default_int_handler):
        yield


@contextmanager
def _told_by(handler: Callable[..., Any]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


class Reached:
    """A node that may come and go.

    Args:
        directory: The node directory.
        certificate: As for ``open_local``.
        loops: As for ``open_local``.
    """

    def __init__(self, directory: Path, certificate: Path | Role, *, loops: bool = False) -> None:
        self._directory = directory
        self._certificate = certificate
        self._loops = loops
        self.was_served = False
        """Whether it was served at some time since this was made."""

    @contextmanager
    def connect(self) -> Iterator[LocalClient]:
        """Connect to it; it is opened here only if it was never served.

        Raises:
            ConnectorError: As ``open_local``.
        """
        self.was_served = self.was_served or is_served(self._directory)
        with open_local(self._directory, self._certificate, loops=self._loops, served=self.was_served) as client:
            yield client


class Pauses:
    """Growing pauses before something is tried again.

    Args:
        stop: Ends a pause.
    """

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._next_s = 0.0
        self._ended = time.monotonic()

    def over(self) -> None:
        """It went well: the next pause is the shortest again."""
        if self._next_s:
            err.print("the node is there again")
        self._next_s = 0.0

    def wait(self, error: errors.ConnectorError) -> None:
        """Wait. The first pause is told, with the code of the error alone."""
        if time.monotonic() - self._ended > LASTED_S:
            # It went well for a while, though nothing came.
            self._next_s = 0.0
        if not self._next_s:
            err.print(f"{error.code}: the node is away; waiting for it")
        self._next_s = min(max(FIRST_PAUSE_S, self._next_s * 2), MAX_PAUSE_S)
        self._stop.wait(self._next_s)
        self._ended = time.monotonic()
