"""Bundles of a log, written straight from where it lies; the command writes them over the local port."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from connector_psi.audit.bodies import encode_body
from connector_psi.audit.checkpoint import VKey, encode_vkey, verify_checkpoint
from connector_psi.audit.log import Log
from connector_psi.errors import KeyUnavailableError


def write(folder: Path, tx: Any, log: Log[Any], backend: Any, vkey: VKey, *, bodies: bool = False) -> Path:
    """Write what the newest checkpoint covers."""
    folder.mkdir(parents=True)
    note = backend.latest_checkpoint(tx)
    assert note is not None
    size = verify_checkpoint(note, vkey, vkey.name).size
    (folder / "checkpoint").write_bytes(note)
    (folder / "vkey").write_text(encode_vkey(vkey) + "\n")
    _write(folder / "leaves.jsonl", backend.read_leaves(tx, 0, size))
    if bodies:
        lines = []
        for index in range(size):
            with suppress(KeyUnavailableError):
                opened = log.open_encoded(tx, index)
                said = {"index": index, "salt": opened.salt.hex(), "body": opened.encoded.decode()}
                lines.append(encode_body(said))
        _write(folder / "bodies.jsonl", lines)
    return folder


def _write(path: Path, lines: Iterable[bytes]) -> None:
    path.write_bytes(b"".join(line + b"\n" for line in lines))
