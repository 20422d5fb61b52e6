from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from connector_psi.encoding import sealedfile
from connector_psi.encoding.sealedfile import SealedFile, seal_file
from connector_psi.errors import StorageError, UnavailableError

KEY = bytes(range(32))
HEADER_BYTES = 40
CHUNK = 16


class Seeded:
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def bytes(self, n: int) -> bytes:
        return self._random.randbytes(n)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealedfile, "SEALED_CHUNK_BYTES", CHUNK)


def seal(directory: Path, content: bytes, name: str = "sealed", seed: int = 1) -> Path:
    (directory / "plain").write_bytes(content)
    seal_file(directory / "plain", directory / name, KEY, Seeded(seed))
    return directory / name


def read_all(path: Path, key: bytes = KEY) -> bytes:
    with SealedFile(path, key) as file:
        return file.read(0, file.size_bytes)


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 31, 32, 33, 80])
def test_any_range_of_any_size(tmp_path: Path, small_chunks: None, size: int) -> None:
    content = random.Random(size).randbytes(size)
    with SealedFile(seal(tmp_path, content), KEY) as file:
        assert file.size_bytes == size
        for offset in range(size + 3):
            for length in (0, 1, 2, 15, 16, 17, 40, size, 2**40):
                assert file.read(offset, length) == content[offset : offset + length]


def test_chunks_are_512_kib(tmp_path: Path) -> None:
    content = random.Random(1).randbytes(3 * 512 * 1024 + 5)
    path = seal(tmp_path, content)
    assert path.stat().st_size == HEADER_BYTES + len(content) + 4 * 16
    with SealedFile(path, KEY) as file:
        assert file.read(512 * 1024 - 3, 1024 * 1024) == content[512 * 1024 - 3 :][: 1024 * 1024]
    assert content[:64] not in path.read_bytes()


def test_equal_files_under_one_key_look_different(tmp_path: Path) -> None:
    first = seal(tmp_path, bytes(100), "a", seed=1).read_bytes()
    again = seal(tmp_path, bytes(100), "a", seed=2).read_bytes()
    assert first[HEADER_BYTES:] != again[HEADER_BYTES:]
    # The name separates keys even where a salt repeats.
    named = seal(tmp_path, bytes(100), "b", seed=1).read_bytes()
    assert named[:HEADER_BYTES] == first[:HEADER_BYTES]
    assert named[HEADER_BYTES:] != first[HEADER_BYTES:]


def test_equal_chunks_of_one_file_look_different(tmp_path: Path, small_chunks: None) -> None:
    # A nonce used twice would give the keystream away.
    body = seal(tmp_path, bytes(10 * CHUNK)).read_bytes()[HEADER_BYTES:]
    assert len({body[at : at + CHUNK] for at in range(0, len(body), CHUNK + 16)}) == 10


@pytest.mark.parametrize("size", [0, 5, 40])
def test_every_flipped_bit_is_found(tmp_path: Path, small_chunks: None, size: int) -> None:
    path = seal(tmp_path, random.Random(1).randbytes(size))
    content = path.read_bytes()
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with pytest.raises(StorageError):
            read_all(path)


def test_every_cut_and_extension_is_found(tmp_path: Path, small_chunks: None) -> None:
    path = seal(tmp_path, random.Random(1).randbytes(40))
    content = path.read_bytes()
    for bad in [content[:length] for length in range(len(content))] + [content + b"\0", content + content[-32:]]:
        path.write_bytes(bad)
        with pytest.raises(StorageError):
            read_all(path)


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_cut_with_a_matching_header_is_found(tmp_path: Path, small_chunks: None, kept: int) -> None:
    path = seal(tmp_path, random.Random(1).randbytes(48))
    content = path.read_bytes()
    chunks = max(1, kept)
    size = kept * CHUNK
    body = content[HEADER_BYTES : HEADER_BYTES + size + 16 * chunks]
    path.write_bytes(content[: HEADER_BYTES - 8] + size.to_bytes(8) + body)
    with pytest.raises(StorageError, match="does not open"):
        read_all(path)


def test_swapped_chunks_are_found(tmp_path: Path, small_chunks: None) -> None:
    path = seal(tmp_path, random.Random(1).randbytes(48))
    content = path.read_bytes()
    at = [content[HEADER_BYTES + i * 32 : HEADER_BYTES + (i + 1) * 32] for i in range(3)]
    for order in ((0, 2, 1), (0, 1, 1), (1, 0, 2)):
        path.write_bytes(content[:HEADER_BYTES] + b"".join(at[i] for i in order))
        with pytest.raises(StorageError, match="does not open"):
            read_all(path)


def test_another_key_name_or_file_s_chunk_does_not_open(tmp_path: Path, small_chunks: None) -> None:
    first, second = seal(tmp_path, bytes(48), "a", seed=1), seal(tmp_path, bytes(48), "b", seed=2)
    with pytest.raises(StorageError):
        SealedFile(first, bytes(32))
    mixed = first.read_bytes()[: HEADER_BYTES + 32] + second.read_bytes()[HEADER_BYTES + 32 :]
    first.write_bytes(mixed)
    with SealedFile(first, KEY) as file:
        assert file.read(0, CHUNK) == bytes(CHUNK)
        with pytest.raises(StorageError, match="chunk 1 "):
            file.read(CHUNK, 1)
    first.write_bytes(second.read_bytes())
    with pytest.raises(StorageError):
        SealedFile(first, KEY)


def stat_of_two_bytes(_descriptor: int) -> object:
    return type("Stat", (), {"st_size": 2})


def test_a_failed_seal_keeps_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = seal(tmp_path, b"earlier")
    (tmp_path / "plain").write_bytes(b"x")
    monkeypatch.setattr(sealedfile.os, "fstat", stat_of_two_bytes)
    with pytest.raises(UnavailableError, match="shorter"):
        seal_file(tmp_path / "plain", path, KEY, Seeded(1))
    monkeypatch.undo()
    assert read_all(path) == b"earlier"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["plain", "sealed"]


def test_a_source_that_grows_is_not_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plain").write_bytes(b"xyz")
    monkeypatch.setattr(sealedfile.os, "fstat", stat_of_two_bytes)
    with pytest.raises(UnavailableError, match="longer"):
        seal_file(tmp_path / "plain", tmp_path / "sealed", KEY, Seeded(1))
    assert [entry.name for entry in tmp_path.iterdir()] == ["plain"]


def test_absent_files_are_unavailable(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError):
        seal_file(tmp_path / "plain", tmp_path / "sealed", KEY, Seeded(1))
    with pytest.raises(UnavailableError):
        SealedFile(tmp_path / "sealed", KEY)


def test_ranges_and_keys_are_checked(tmp_path: Path) -> None:
    path = seal(tmp_path, b"content")
    with pytest.raises(ValueError, match="32 bytes"):
        SealedFile(path, bytes(16))
    with SealedFile(path, KEY) as file:
        for offset, length in ((-1, 1), (0, -1)):
            with pytest.raises(ValueError, match="range"):
                file.read(offset, length)
    file.close()
    with pytest.raises(ValueError, match="open file"):
        file.read(0, 1)


def test_threads_share_a_file(tmp_path: Path, small_chunks: None) -> None:
    content = random.Random(1).randbytes(4000)
    with SealedFile(seal(tmp_path, content), KEY) as file, ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda at: file.read(at, 10), range(0, 4000, 10)))
    assert b"".join(parts) == content
