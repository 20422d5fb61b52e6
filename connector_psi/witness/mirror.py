"""A mirror: a verified copy of one log, cosigned once it is complete, for somebody who does not trust the node.

Decides: that what was copied is checked before it is cosigned, and that a mirror that saw two histories stops for good.
Leaves to others: the files (``copying``), serving them (``web``), a node as the source (``rpc``).

Source: C2SP tlog-mirror; this mirror fetches by itself instead of being fed.
"""

from __future__ import annotations

import http.client
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from connector_psi.audit.checkpoint import (
    MAX_NOTE_BYTES,
    Checkpoint,
    VKey,
    encode_signature,
    encode_vkey,
    parse_note,
    parse_vkey,
)
from connector_psi.audit.cosignature import Cosigner
from connector_psi.audit.tiles import ENTRIES, MAX_ENTRY_BYTES, WIDTH, parse_bundle, parse_tile, tile_path
from connector_psi.domain.clock import Clock, RandomSource
from connector_psi.encoding.atomicfile import atomic_file
from connector_psi.errors import ConfigError, FormatError, UnavailableError
from connector_psi.witness.copying import LogCopy
from connector_psi.witness.standalone import KeyFolder

TIMEOUT_S = 30
_MAX_BUNDLE = WIDTH * (MAX_ENTRY_BYTES + 2)


class Source(Protocol):
    """Where a log is fetched from; what is returned has not been verified."""

    def checkpoint(self) -> bytes:
        """Return the newest signed note."""
        ...

    def leaves(self, start: int, end: int) -> Iterator[bytes]:
        """Yield leaves, or hashes of leaves, of the tree of ``end`` leaves, from ``start`` on."""
        ...


class HttpLog:
    """A log served as C2SP tlog-tiles.

    Args:
        url: The log's prefix.
        entries: Whether leaves are fetched, or hashes alone.
    """

    def __init__(self, url: str, *, entries: bool) -> None:
        self._url = url.rstrip("/")
        self._entries = entries

    def checkpoint(self) -> bytes:
        """Return the newest signed note.

        Raises:
            UnavailableError: It cannot be had now.
        """
        return self._get("checkpoint", MAX_NOTE_BYTES)

    def leaves(self, start: int, end: int) -> Iterator[bytes]:
        """Yield leaves, or hashes of leaves, from the tiles of the tree of ``end`` leaves.

        Raises:
            FormatError: A tile is damaged.
            UnavailableError: One cannot be had now.
        """
        level = ENTRIES if self._entries else 0
        for index in range(start // WIDTH, -(-end // WIDTH)):
            width = min(WIDTH, end - index * WIDTH)
            try:
                raw = self._get(tile_path(level, index, width), _MAX_BUNDLE)
                found = parse_bundle(raw, width) if self._entries else parse_tile(raw, width)
            except UnavailableError:
                if width == WIDTH:
                    raise
                # The log may have deleted a partial tile once the full one was there.
                raw = self._get(tile_path(level, index), _MAX_BUNDLE)
                found = (parse_bundle(raw, WIDTH) if self._entries else parse_tile(raw, WIDTH))[:width]
            yield from found[max(0, start - index * WIDTH) :]

    def _get(self, path: str, limit: int) -> bytes:
        request = urllib.request.Request(f"{self._url}/{path}", headers={"Accept-Encoding": "identity"})  # noqa: S310
        try:
            # https, or http to this machine: checked by the command.
            with urllib.request.urlopen(  # noqa: S310
                request, timeout=TIMEOUT_S, context=ssl.create_default_context()
            ) as answer:
                raw: bytes = answer.read(limit + 1)
        except urllib.error.HTTPError as error:
            raise UnavailableError(f"log: {path}: HTTP status {error.code}") from None
        except (OSError, http.client.HTTPException) as error:
            raise UnavailableError(f"log: {path}: {type(error).__name__}") from None
        if len(raw) > limit:
            raise FormatError(f"log: {path}: too long")
        return raw


class Mirror:
    """An open mirror folder.

    Args:
        folder: Made if absent.
        name: Name of the mirror's key; needed for a new one.
        vkey: Key of the log; needed for a new one.
        entries: Whether leaves are kept.
        clock: Time of cosignatures.
        random: Source of the key.

    Raises:
        ConfigError: A new one without name or key, or another than before.
        LogForkError: It saw the log sign two histories.
    """

    def __init__(
        self, folder: Path, name: str, vkey: VKey | None, *, entries: bool, clock: Clock, random: RandomSource
    ) -> None:
        self._clock = clock
        self._keys = KeyFolder(folder, "mirror", name, random)
        try:
            self.vkey = _log_of(folder, vkey)
            self._copy = LogCopy(folder / "log", self.vkey, entries=entries)
        except BaseException:
            self._keys.close()
            raise

    @property
    def cosigner(self) -> Cosigner:
        """Its key."""
        return self._keys.cosigner

    @property
    def head(self) -> Checkpoint | None:
        """What was copied."""
        return self._copy.head

    def step(self, source: Source) -> Checkpoint:
        """Fetch what is new, check it, cosign it.

        Raises:
            LogForkError: The log signed another history than the one that is here.
            ProofInvalidError, FormatError: The source gives what the log did not sign.
            UnavailableError: The source cannot be reached, or the disk is full.
        """
        note = source.checkpoint()
        new = self._copy.extend(note, source.leaves)
        head = self._copy.head
        if head is not None and head.size == new.size:
            line = self.cosigner.cosign(parse_note(note).text, int(self._clock.now().timestamp()))
            with atomic_file(self._keys.folder / "cosigned") as stream:
                stream.write(note + encode_signature(line))
        return new

    def checkpoint(self) -> bytes:
        """Return the newest note with the mirror's own cosignature.

        Raises:
            UnavailableError: Nothing is copied yet.
        """
        try:
            return (self._keys.folder / "cosigned").read_bytes()
        except OSError:
            raise UnavailableError("nothing is copied yet") from None

    def tile(self, path: str) -> bytes:
        """Return a tile or an entry bundle of the copy."""
        return self._copy.tile(path)

    def close(self) -> None:
        """Let go of the folder."""
        self._keys.close()


def _log_of(folder: Path, vkey: VKey | None) -> VKey:
    path = folder / "log.vkey"
    try:
        held = parse_vkey(path.read_text(encoding="utf-8").strip()) if path.exists() else None
    except (OSError, UnicodeDecodeError, FormatError):
        raise ConfigError(f"{path}: not the key of a log") from None
    if held is None:
        if vkey is None:
            raise ConfigError(f"{folder}: a new mirror needs --vkey, the key of the log as it was handed over")
        with atomic_file(path) as stream:
            stream.write(encode_vkey(vkey).encode() + b"\n")
        return vkey
    if vkey is not None and vkey != held:
        raise ConfigError(f"{folder}: is a mirror of {held.name}, under another key")
    return held
