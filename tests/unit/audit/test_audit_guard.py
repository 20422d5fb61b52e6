from __future__ import annotations

import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from connector_psi.audit.guard import FileGuard
from connector_psi.errors import LogForkError, UnavailableError

ROOT = bytes(range(32))


def test_a_guard_outlives_its_object(tmp_path: Path) -> None:
    path = tmp_path / "guard"
    guard = FileGuard(path)
    assert guard.highest() is None
    guard.advance(3, ROOT)
    assert guard.highest() == FileGuard(path).highest() == (3, ROOT)
    guard.advance(4, bytes(32))
    guard.advance(4, bytes(32))
    assert path.read_bytes() == b"4 " + b"00" * 32 + b"\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(("size", "root"), [(2, ROOT), (3, bytes(32)), (0, bytes(32))])
def test_a_guard_never_goes_back(tmp_path: Path, size: int, root: bytes) -> None:
    guard = FileGuard(tmp_path / "guard")
    guard.advance(3, ROOT)
    with pytest.raises(LogForkError):
        guard.advance(size, root)
    assert guard.highest() == (3, ROOT)


def test_a_guard_moved_by_somebody_else_is_noticed(tmp_path: Path) -> None:
    ours, theirs = FileGuard(tmp_path / "guard"), FileGuard(tmp_path / "guard")
    ours.advance(3, ROOT)
    assert theirs.highest() == (3, ROOT)
    theirs.advance(4, ROOT)
    # Ours checked its tree against size 3 only: it may not pass 4.
    with pytest.raises(LogForkError):
        ours.advance(5, ROOT)
    assert ours.highest() == (4, ROOT)
    ours.advance(5, ROOT)


def test_a_guard_that_was_never_read_is_not_overwritten(tmp_path: Path) -> None:
    FileGuard(tmp_path / "guard").advance(3, ROOT)
    with pytest.raises(LogForkError):
        FileGuard(tmp_path / "guard").advance(4, ROOT)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"3",
        b"3 " + b"00" * 31 + b"\n",
        b"03 " + b"00" * 32 + b"\n",
        b"3 " + b"AA" * 32 + b"\n",
        b"3 " + b"00" * 32,
    ],
)
def test_a_damaged_guard_stops_the_node(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "guard"
    path.write_bytes(content)
    guard = FileGuard(path)
    with pytest.raises(LogForkError):
        guard.highest()
    with pytest.raises(LogForkError):
        guard.advance(9, ROOT)
    assert path.read_bytes() == content


def test_a_full_disk_leaves_the_old_guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = FileGuard(tmp_path / "guard")
    guard.advance(3, ROOT)

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(UnavailableError):
            guard.advance(4, ROOT)
    assert guard.highest() == (3, ROOT)
    guard.advance(4, ROOT)


def test_the_guard_is_on_disk_before_advance_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def record(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        real(handle)

    monkeypatch.setattr(os, "fsync", record)
    FileGuard(tmp_path / "guard").advance(1, ROOT)
    assert synced == ["guard.new", tmp_path.name], "first the content, then the name"


def test_a_folder_that_is_gone_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError):
        FileGuard(tmp_path / "gone" / "guard").advance(1, ROOT)


def test_of_two_that_read_the_same_guard_one_advances_it(tmp_path: Path) -> None:
    # Threads stand for processes: each has its own guard object and its own handle on the lock file.
    for attempt in range(10):
        path, both_read = tmp_path / f"guard{attempt}", Barrier(2)

        def race(mark: int, path: Path = path, both_read: Barrier = both_read) -> int:
            guard = FileGuard(path)
            guard.highest()
            both_read.wait(10)
            try:
                guard.advance(1 + mark, bytes([mark]) * 32)
            except LogForkError:
                return -1
            return mark

        with ThreadPoolExecutor(2) as pool:
            lost, won = sorted(pool.map(race, (1, 2)))
        assert lost == -1
        assert FileGuard(path).highest() == (1 + won, bytes([won]) * 32)
