"""The owner's view of its set: rows by record, lookups that it ever had, dummies."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from connector_psi.domain.clock import SystemRandom
from connector_psi.encoding import bloom, ownedset, tickets
from connector_psi.encoding.ownedset import OwnedSet, make_index, write_index
from connector_psi.encoding.sealedfile import seal_file
from connector_psi.errors import StorageError

KEY, SIZE = bytes(range(32)), 40_000
RECORDS = np.array([3, 3, 8, 2**40, *[0] * (SIZE - 4)], dtype=np.uint64)


def _lookup(n: int) -> bytes:
    return hashlib.sha256(b"%d" % n).digest()[:16]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("owned")
    lookups = b"".join(_lookup(n) for n in range(SIZE))
    rows = b"".join(_lookup(n) + bytes(60) for n in range(SIZE))
    tickets.write_tickets(folder / "t", rows)
    bloom.write_filter(folder / "f", lookups, SIZE)
    seal_file(folder / "f", folder / ownedset.FILTER_FILE, KEY, SystemRandom())
    seal_file(folder / "t", folder / ownedset.TICKETS_FILE, KEY, SystemRandom())
    tags = b"".join(bytes([n % 256]) * 8 for n in range(SIZE))
    write_index(folder, make_index(RECORDS, tags, lookups), KEY, SystemRandom())
    return folder


def test_rows_lookups_and_dummies_are_found(folder: Path) -> None:
    with OwnedSet(folder, KEY, SIZE) as owned:
        assert owned.rows_of(3) == [(bytes(8), _lookup(0)), (b"\1" * 8, _lookup(1))]
        assert owned.rows_of(8) == [(b"\2" * 8, _lookup(2))]
        assert owned.rows_of(2**40) == [(b"\3" * 8, _lookup(3))]
        assert owned.rows_of(4) == owned.rows_of(2**41) == []
        assert all(owned.had(_lookup(n)) for n in range(0, SIZE, 997))
        assert not any(owned.had(_lookup(n)) for n in range(SIZE, SIZE + 2000))
        assert owned.dummy_count == SIZE - 4
        assert owned.dummies(0, 2) == [_lookup(4), _lookup(5)]
        assert owned.dummies(SIZE - 5, 10) == [_lookup(SIZE - 1)]


def test_files_under_another_key_do_not_open(folder: Path) -> None:
    with pytest.raises(StorageError):
        OwnedSet(folder, bytes(32), SIZE)
