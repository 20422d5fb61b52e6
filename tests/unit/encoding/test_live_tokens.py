"""The file of live tokens: what counts, what a delta meets, and what a crash or a flipped bit does."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from connector_psi.domain.clock import SystemRandom
from connector_psi.encoding import livetokens
from connector_psi.encoding.livetokens import EMPTY_BYTES, ENTRY, LiveTokens
from connector_psi.errors import StorageError

KEY = bytes(range(32))


def _digest(*parts: object) -> bytes:
    return hashlib.sha512(repr(parts).encode()).digest()


def entries(*rows: tuple[int, int, int]) -> livetokens.Entries:
    """(record, token, j)."""
    made = [
        (record, _digest("tag", token)[:8], j, _digest("next", token, j)[:16], _digest("y", token))
        for record, token, j in rows
    ]
    return np.array(made, dtype=ENTRY)


def following(token: int, j: int = 0) -> bytes:
    return _digest("next", token, j)[:16]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "live-0"


def opened(path: Path, size: int = EMPTY_BYTES, key: bytes = KEY) -> LiveTokens:
    return LiveTokens(path, key, size, SystemRandom())


def add(live: LiveTokens, *rows: tuple[int, int, int]) -> int:
    appended = live.append(entries(*rows))
    live.keep(appended)
    return appended.size_bytes


def test_a_delta_meets_the_records_whose_next_lookup_it_has(path: Path) -> None:
    live = opened(path)
    add(live, (1, 10, 0), (1, 11, 0), (2, 10, 0))
    add(live, (3, 12, 2))
    assert live.met_by([following(10), _digest("other")[:16]], []) == {1, 2}
    assert live.met_by([following(12, 2)], []) == {3}
    assert live.met_by([following(12, 1)], []) == set()
    # The first half of a lookup alone is not enough.
    assert live.met_by([following(10)[:8] + bytes(8)], []) == set()
    live.note_opened(3, [b"a" * 16, b"b" * 16])
    assert live.met_by([], [b"b" * 16]) == {3}
    assert live.has({1, 3, 99}) == {1, 3}
    live.close()


def test_what_a_record_has_is_what_its_newest_block_says(path: Path) -> None:
    live = opened(path)
    add(live, (1, 10, 0), (1, 11, 0), (2, 12, 0))
    size = add(live, (1, 11, 1), (1, 13, 0))
    live.close()
    again = opened(path, size)
    assert len(again) == 5
    held = again.of({1, 2, 9})
    assert held.keys() == {1, 2}
    assert held[1].outputs == {_digest("tag", t)[:8]: _digest("y", t) for t in (11, 13)}
    newest = np.concatenate(list(again.newest()))
    assert sorted((int(e["record"]), e["tag"].tobytes()) for e in newest) == sorted(
        (record, _digest("tag", token)[:8]) for record, token in ((2, 12), (1, 11), (1, 13))
    )
    assert list(again.published()) == [(1, 1, _digest("y", 11))]
    again.close()


def test_a_record_is_never_split_over_blocks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(livetokens, "_BLOCK_ENTRIES", 4)
    live = opened(path)
    rows = [(record, 100 * record + t, 0) for record, count in ((1, 3), (2, 3), (3, 9), (4, 1)) for t in range(count)]
    size = add(live, *rows)
    for one in (live, opened(path, size)):
        held = one.of({1, 2, 3, 4})
        assert {record: len(own.outputs) for record, own in held.items()} == {1: 3, 2: 3, 3: 9, 4: 1}
        one.close()


def test_what_was_appended_and_never_kept_does_not_count(path: Path) -> None:
    live = opened(path)
    size = add(live, (1, 10, 0))
    live.append(entries((2, 11, 0)))
    assert live.met_by([following(11)], []) == set()
    live.close()
    again = opened(path, size)
    assert again.met_by([following(10), following(11)], []) == {1}
    # The next block takes the place of the one that a crash left behind.
    size = add(again, (3, 12, 0))
    again.close()
    last = opened(path, size)
    assert last.met_by([following(10), following(11), following(12)], []) == {1, 3}
    last.close()


def test_damage_another_key_and_a_cut_are_noticed(path: Path) -> None:
    live = opened(path)
    size = add(live, (1, 10, 0))
    live.close()
    raw = path.read_bytes()
    with pytest.raises(StorageError):
        opened(path, size, bytes(32))
    for bad, counts in (
        (raw[:-1], size),
        (raw[:40] + bytes([raw[40] ^ 1]) + raw[41:], size),
        (raw, size - 1),
        (b"", size),
    ):
        path.write_bytes(bad)
        with pytest.raises(StorageError):
            opened(path, counts)
    for place in range(len(raw)):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
        with pytest.raises(StorageError):
            opened(path, size)


def test_nothing_in_the_file_is_in_clear(path: Path) -> None:
    live = opened(path)
    add(live, (1, 10, 0))
    live.close()
    raw = path.read_bytes()
    assert not any(part in raw for part in (_digest("y", 10), following(10), _digest("tag", 10)[:8]))
