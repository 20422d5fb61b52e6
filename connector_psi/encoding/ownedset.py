"""The owner's view of a set that it published: which rows are whose, and which lookups it has ever had.

::

    index    one row a row of the ticket file: uint64 record || tag(8) || lookup(16), sorted by record        32 bytes
             record 0: the dummies, in the order in which deltas pretend to remove them

Both files of the set and the index lie sealed under the epoch's file key. The tag tells whether a row would say the
same today (``tickets.ticket_tags``), so that an edit which keeps a token publishes nothing.

Decides: the index, how it is searched. Leaves to others: what has changed since (``storage.owned``, ``node.deltas``).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from connector_psi.domain.clock import RandomSource
from connector_psi.encoding.bloom import Filter
from connector_psi.encoding.sealedfile import SEALED_CHUNK_BYTES, SealedFile, seal_bytes
from connector_psi.encoding.tickets import LOOKUP_BYTES, ROW_BYTES, TICKET_TAG_BYTES

FILTER_FILE: Final = "filter.sealed"
TICKETS_FILE: Final = "tickets.sealed"
INDEX_FILE: Final = "index.sealed"
ENTRY: Final = np.dtype([("record", ">u8"), ("tag", f"V{TICKET_TAG_BYTES}"), ("lookup", f"V{LOOKUP_BYTES}")])
"""A row of the index; no padding between the fields."""
Index = npt.NDArray[Any]
"""An array of ``ENTRY``."""

_CHUNKS_HELD: Final = 32


def make_index(records: npt.NDArray[np.uint64], tags: bytes, lookups: bytes) -> Index:
    """Return index rows of columns, in their order."""
    index = np.zeros(len(records), dtype=ENTRY)
    index["record"] = records
    index["tag"] = np.frombuffer(tags, dtype=ENTRY["tag"])
    index["lookup"] = np.frombuffer(lookups, dtype=ENTRY["lookup"])
    return index


def write_index(folder: Path, index: Index, key: bytes, random: RandomSource) -> None:
    """Write the index of a set, sorted by record.

    Raises:
        UnavailableError: The disk is full or cannot be written.
    """
    seal_bytes(index[np.argsort(index["record"], kind="stable")].tobytes(), folder / INDEX_FILE, key, random)


class OwnedSet:
    """The files of a set at its owner, open for looking things up. Must be closed; also a context manager.

    Args:
        folder: Of the set.
        key: The epoch's file key.
        size_class: Of the set.

    Raises:
        StorageError: A file was changed.
        UnavailableError: A file cannot be read.

    Cost:
        Holds the filter in memory, 3.6 bytes a row of the size class.
    """

    def __init__(self, folder: Path, key: bytes, size_class: int) -> None:
        self._rows = size_class
        with SealedFile(folder / FILTER_FILE, key) as sealed:
            self._filter = Filter.of_own(sealed.read(0, sealed.size_bytes), size_class)
        self._tickets = _Chunked(folder / TICKETS_FILE, key)
        try:
            self._index = _Chunked(folder / INDEX_FILE, key)
        except BaseException:
            self._tickets.close()
            raise

    def close(self) -> None:
        """Close the files."""
        self._filter.close()
        self._tickets.close()
        self._index.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def had(self, lookup: bytes) -> bool:
        """Return whether the set was published with this lookup; dummies count, removed ones too.

        Cost: 3 us for one that it never had; 0.3 ms and more for one that it had.
        """
        if not self._filter.contains(lookup)[0]:
            return False
        at = bisect_left(range(self._rows), lookup, key=lambda i: self._tickets.read(i * ROW_BYTES, LOOKUP_BYTES))
        return at < self._rows and self._tickets.read(at * ROW_BYTES, LOOKUP_BYTES) == lookup

    def rows_of(self, record: int) -> list[tuple[bytes, bytes]]:
        """Return ``(tag, lookup)`` of a record's rows as the set was published."""
        size = ENTRY.itemsize
        count = self._index.size_bytes // size
        found = []
        at = bisect_left(range(count), record, key=lambda i: int.from_bytes(self._index.read(i * size, 8)))
        while at < count and (row := self._index.read(at * size, size))[:8] == record.to_bytes(8):
            found.append((row[8 : 8 + TICKET_TAG_BYTES], row[8 + TICKET_TAG_BYTES :]))
            at += 1
        return found

    @property
    def dummy_count(self) -> int:
        """How many dummies the set was published with."""
        size = ENTRY.itemsize
        count = self._index.size_bytes // size
        return bisect_left(range(count), 1, key=lambda i: int.from_bytes(self._index.read(i * size, 8)))

    def dummies(self, start: int, count: int) -> list[bytes]:
        """Return lookups of dummies from the ``start``-th on, fewer where there are no more."""
        size = ENTRY.itemsize
        rows = (self._index.read(i * size, size) for i in range(start, start + count))
        return [row[8 + TICKET_TAG_BYTES :] for row in rows if len(row) == size and not any(row[:8])]


class _Chunked:
    """A sealed file of which the chunks read last stay in memory, so that neighbours cost nothing."""

    def __init__(self, path: Path, key: bytes) -> None:
        self._sealed = SealedFile(path, key)
        self._held: OrderedDict[int, bytes] = OrderedDict()

    @property
    def size_bytes(self) -> int:
        return self._sealed.size_bytes

    def close(self) -> None:
        self._held.clear()
        self._sealed.close()

    def read(self, offset: int, length: int) -> bytes:
        number, inside = divmod(offset, SEALED_CHUNK_BYTES)
        piece = self._chunk(number)[inside : inside + length]
        return piece if len(piece) == length else piece + self._chunk(number + 1)[: length - len(piece)]

    def _chunk(self, number: int) -> bytes:
        held = self._held.get(number)
        if held is None:
            held = self._held[number] = self._sealed.read(number * SEALED_CHUNK_BYTES, SEALED_CHUNK_BYTES)
            if len(self._held) > _CHUNKS_HELD:
                self._held.popitem(last=False)
        else:
            self._held.move_to_end(number)
        return held
