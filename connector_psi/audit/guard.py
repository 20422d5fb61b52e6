"""A checkpoint guard in a file: what keeps a restored node from signing a second history.

Decides: how the highest signed checkpoint is kept outside the database. Leaves to others: what the guard means for
signing (``audit.log``), keeping the file out of the database's backups (the operator: a guard that is restored
together with the database guards nothing).

The file holds one line, ``size root`` (decimal, lowercase hexadecimal). It is replaced, never written in place, and
is on disk before ``advance`` returns. A lock file beside it and a comparison with what this object last read make
``highest`` then ``advance`` one step among processes, so that two nodes started on one directory cannot both sign.
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from connector_psi.errors import LogForkError, UnavailableError

_LINE = re.compile(rb"(0|[1-9][0-9]{0,18}) ([0-9a-f]{64})\n")


class _LastRead(threading.local):
    seen: tuple[int, bytes] | None = None


class FileGuard:
    """A ``CheckpointGuard`` kept in a file of its own.

    What was last read is kept by thread: a thread that only looks (``log verify``) does not disturb one that signs.

    Args:
        path: The file; its folder exists.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last = _LastRead()

    def highest(self) -> tuple[int, bytes] | None:
        """Return size and root of the highest checkpoint signed so far, or None if the file does not exist.

        Raises:
            LogForkError: The file exists and is not a guard.
            UnavailableError: It cannot be read.
        """
        self._last.seen = self._read()
        return self._last.seen

    def advance(self, size: int, root: bytes) -> None:
        """Make this the highest checkpoint; on disk when it returns.

        Raises:
            LogForkError: It is lower than the highest, has another root at the same size, or somebody else advanced
                the guard since this object last read it.
            UnavailableError: The file cannot be written.
        """
        try:
            with self._lock():
                present = self._read()
                if present == (size, root):
                    self._last.seen = present
                    return
                if present != self._last.seen:
                    raise LogForkError("checkpoint guard: another process signs this log")
                if present is not None and size <= present[0]:
                    raise LogForkError("checkpoint guard: already stands at this size or above it")
                self._replace(b"%d %s\n" % (size, root.hex().encode("ascii")))
                self._last.seen = (size, root)
        except OSError:
            raise UnavailableError("checkpoint guard: cannot be written") from None

    def _read(self) -> tuple[int, bytes] | None:
        try:
            raw = self._path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError:
            raise UnavailableError("checkpoint guard: cannot be read") from None
        line = _LINE.fullmatch(raw)
        if line is None:
            raise LogForkError("checkpoint guard: damaged")
        return int(line[1]), bytes.fromhex(line[2].decode("ascii"))

    @contextmanager
    def _lock(self) -> Iterator[None]:
        # The guard itself is replaced, so the lock is on a file that stays.
        handle = os.open(self._path.with_name(self._path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _replace(self, content: bytes) -> None:
        fresh = self._path.with_name(self._path.name + ".new")
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
