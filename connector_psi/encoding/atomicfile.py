"""Files that are there whole or not at all.

Decides: how a file of the encoded set reaches its name: written beside it, made durable, then renamed, so that a
reader (or this node after a crash) never meets half a set. What a crash leaves behind ends in ``PARTIAL_SUFFIX`` and
is nobody's: it goes with the folder of its set.
Leaves to others: what the bytes are, and who may read the directory.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from connector_psi.errors import UnavailableError

PARTIAL_SUFFIX: Final = ".partial"


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the name ``path`` only when the block ends without an exception.

    When the block has ended, bytes and name are durable and an earlier file of that name is gone. When it raises, an
    earlier file is untouched. Mode 0600.

    Args:
        path: Final name; its directory exists.

    Yields:
        The file, open for writing.

    Raises:
        UnavailableError: The disk is full or the directory cannot be written.
    """
    try:
        descriptor, partial = tempfile.mkstemp(prefix=f".{path.name}.", suffix=PARTIAL_SUFFIX, dir=path.parent)
    except OSError as error:
        raise UnavailableError(f"cannot write {path.name}: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(partial).replace(path)
        sync_directory(path.parent)
    except OSError as error:
        Path(partial).unlink(missing_ok=True)
        raise UnavailableError(f"cannot write {path.name}: {error.strerror}") from error
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable: until then a power cut may lose a new or renamed file."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
