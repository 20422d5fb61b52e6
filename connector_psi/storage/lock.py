"""Which process may work on a node directory: the one that holds its lock.

Apart from the database, so that a command can ask who holds a node without loading what opens one.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from connector_psi.errors import UnavailableError


class DirectoryLock:
    """Holds a node directory for one process: one writer per log.

    Raises:
        UnavailableError: Another process holds it.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._fd)
            raise UnavailableError(f"{path.parent}: another process has it open") from None

    def release(self) -> None:
        """Let the next process in."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def lock_is_free(path: Path) -> bool:
    """Return whether no process has the node directory of this lock open."""
    try:
        DirectoryLock(path).release()
    except UnavailableError:
        return False
    return True
