from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from connector_psi.encoding.atomicfile import atomic_file
from connector_psi.errors import UnavailableError


def test_the_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "set"
    with atomic_file(path) as file:
        file.write(b"all of it")
        assert not path.exists()
    assert path.read_bytes() == b"all of it"
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o600


def test_bytes_are_durable_before_the_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []
    fsync, replace = os.fsync, Path.replace

    def recorded_fsync(descriptor: int) -> None:
        done.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "bytes")
        fsync(descriptor)

    def recorded_replace(self: Path, target: Path) -> Path:
        assert self.read_bytes() == b"all of it"
        done.append("name")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(Path, "replace", recorded_replace)
    with atomic_file(tmp_path / "set") as file:
        file.write(b"all of it")
    assert done == ["bytes", "name", "directory"]


def test_a_failed_write_keeps_the_earlier_file_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "set"
    path.write_bytes(b"earlier")

    def fail_half_way() -> None:
        with atomic_file(path) as file:
            file.write(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        fail_half_way()
    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_is_unavailable_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path if call == "replace" else os, call, full)
    with pytest.raises(UnavailableError, match="No space left"), atomic_file(tmp_path / "set") as file:
        file.write(b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_directory_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError), atomic_file(tmp_path / "absent" / "set"):
        pass
