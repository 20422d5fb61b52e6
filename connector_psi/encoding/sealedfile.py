"""The owner's copy of a set: one flat encrypted file that can be read at any offset.

::

    header   "cpsi-seal-v1" || 0^4 || salt(16) || uint64 plaintext size                                   40 bytes
    chunks   AES-256-GCM of 512 KiB of plaintext each, the last one shorter (one empty chunk for an empty file)
             key    HKDF-SHA256(file key of the epoch, salt, "connector-psi/v1 sealed file" || lp(file name))
             nonce  0^4 || uint64 index
             AD     "connector-psi/v1 sealed chunk" || uint64 index || uint64 plaintext size

A set is served until its epoch ends and must then be gone, from backups and free blocks too: the file lives under a
key, and destroying the key erases it. The name is bound, so that the files of an epoch cannot be swapped; the index and
the size are bound, so that nothing can be moved or cut off.

Decides: the format, and that no byte leaves ``read`` before its chunk is authentic.
Leaves to others: the epoch's file key and its destruction (``keyring``). Not achieved: an older file under the same
name and key cannot be told from the newest one; what a set's content must be is in its manifest.
"""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from connector_psi.domain.clock import RandomSource
from connector_psi.encoding.atomicfile import atomic_file
from connector_psi.errors import StorageError, UnavailableError

SEALED_CHUNK_BYTES: Final = 512 * 1024

_MAGIC: Final = b"cpsi-seal-v1\0\0\0\0"
_HEADER: Final = struct.Struct(">16s16sQ")
_SALT_BYTES: Final = 16
_TAG_BYTES: Final = 16
_KEY_LABEL: Final = b"connector-psi/v1 sealed file"
_CHUNK_LABEL: Final = b"connector-psi/v1 sealed chunk"


def seal_file(src: Path, dst: Path, key: bytes, random: RandomSource) -> None:
    """Encrypt ``src`` into ``dst``.

    ``dst`` is there whole or not at all; ``src`` stays (whoever made it removes it). ``dst`` opens only under the name
    that it was sealed under.

    Args:
        src: Plaintext file; must not change meanwhile.
        dst: Sealed file.
        key: 32 bytes, the file key of the epoch; may seal many files.
        random: Source of the file's salt.

    Raises:
        UnavailableError: A file cannot be read or written, or ``src`` changed length meanwhile.
    """
    try:
        plain = src.open("rb")
    except OSError as error:
        raise UnavailableError(f"cannot read {src.name}: {error.strerror}") from error
    with plain, atomic_file(dst) as sealed:
        _seal(plain, sealed, os.fstat(plain.fileno()).st_size, key, dst.name, random.bytes(_SALT_BYTES))


def seal_bytes(data: bytes, dst: Path, key: bytes, random: RandomSource) -> None:
    """Encrypt bytes into ``dst``; as ``seal_file``, without a file in clear."""
    with atomic_file(dst) as sealed:
        _seal(io.BytesIO(data), sealed, len(data), key, dst.name, random.bytes(_SALT_BYTES))


class SealedFile:
    """A sealed file, open for reading at any offset.

    Safe for several threads. Must be closed, when no thread reads any more; also a context manager.

    Args:
        path: The file, under the name it was sealed under.
        key: The key it was sealed under.

    Raises:
        StorageError: No sealed file, cut, extended, or sealed under another key or name.
        UnavailableError: The file cannot be read.
    """

    def __init__(self, path: Path, key: bytes) -> None:
        self._name = path.name
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise UnavailableError(f"cannot read {path.name}: {error.strerror}") from error
        try:
            self.size_bytes, salt = self._read_header()
            self._cipher = _cipher(key, salt, path.name)
            # The size counts only once a chunk has confirmed it: a file cut to nothing must not read as empty.
            self._read_chunk(0)
        except BaseException:
            os.close(self._descriptor)
            raise
        self._open = True

    def read(self, offset: int, length: int) -> bytes:
        """Read a range of the plaintext; shorter, or empty, where the file ends.

        Nothing unauthentic is returned.

        Raises:
            ValueError: A negative offset or length, or the file is closed.
            StorageError: The chunk was altered, moved, or sealed under another key or name.
            UnavailableError: The disk fails.

        Cost:
            Decrypts every chunk that the range touches (0.1 to 0.2 ms each): ask for aligned ranges.
        """
        if offset < 0 or length < 0 or not self._open:
            raise ValueError("a range of an open file")
        end = min(offset + length, self.size_bytes)
        if offset >= end:
            return b""
        first, last = offset // SEALED_CHUNK_BYTES, (end - 1) // SEALED_CHUNK_BYTES
        plain = b"".join(map(self._read_chunk, range(first, last + 1)))
        skip = offset - first * SEALED_CHUNK_BYTES
        return plain[skip : skip + end - offset]

    def close(self) -> None:
        """Close the file; closing twice is allowed."""
        if self._open:
            self._open = False
            os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read_header(self) -> tuple[int, bytes]:
        header = self._pread(_HEADER.size, 0)
        if len(header) != _HEADER.size:
            raise StorageError(f"{self._name}: no sealed file")
        magic, salt, size_bytes = _HEADER.unpack(header)
        if magic != _MAGIC:
            raise StorageError(f"{self._name}: no sealed file")
        if os.fstat(self._descriptor).st_size != _HEADER.size + size_bytes + _chunks(size_bytes) * _TAG_BYTES:
            raise StorageError(f"{self._name}: sealed file length")
        return size_bytes, salt

    def _read_chunk(self, index: int) -> bytes:
        size = min(SEALED_CHUNK_BYTES, self.size_bytes - index * SEALED_CHUNK_BYTES) + _TAG_BYTES
        sealed = self._pread(size, _HEADER.size + index * (SEALED_CHUNK_BYTES + _TAG_BYTES))
        try:
            return self._cipher.decrypt(_nonce(index), sealed, _chunk_label(index, self.size_bytes))
        except InvalidTag:
            raise StorageError(f"{self._name}: sealed chunk {index} does not open") from None

    def _pread(self, length: int, offset: int) -> bytes:
        # No shared file position, so threads do not disturb one another.
        try:
            return os.pread(self._descriptor, length, offset)
        except OSError as error:
            raise UnavailableError(f"cannot read {self._name}: {error.strerror}") from error


def _seal(plain: BinaryIO, sealed: BinaryIO, size_bytes: int, key: bytes, name: str, salt: bytes) -> None:
    cipher = _cipher(key, salt, name)
    sealed.write(_HEADER.pack(_MAGIC, salt, size_bytes))
    for index in range(_chunks(size_bytes)):
        want = min(SEALED_CHUNK_BYTES, size_bytes - index * SEALED_CHUNK_BYTES)
        chunk = plain.read(want)
        if len(chunk) != want:
            raise UnavailableError(f"{name}: the source became shorter while it was sealed")
        sealed.write(cipher.encrypt(_nonce(index), chunk, _chunk_label(index, size_bytes)))
    if plain.read(1):
        raise UnavailableError(f"{name}: the source became longer while it was sealed")


def _chunks(size_bytes: int) -> int:
    return max(1, -(-size_bytes // SEALED_CHUNK_BYTES))


def _cipher(key: bytes, salt: bytes, name: str) -> AESGCM:
    if len(key) != 32:
        raise ValueError("a file key is 32 bytes")
    bound = os.fsencode(name)
    info = _KEY_LABEL + struct.pack(">H", len(bound)) + bound
    return AESGCM(HKDF(algorithm=hashes.SHA256(), length=32, salt=salt, info=info).derive(key))


def _nonce(index: int) -> bytes:
    return bytes(4) + struct.pack(">Q", index)


def _chunk_label(index: int, size_bytes: int) -> bytes:
    return _CHUNK_LABEL + struct.pack(">QQ", index, size_bytes)
