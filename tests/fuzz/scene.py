"""Who is who in the inputs of targets, and the few forms that targets have in common."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from connector_psi.audit import checkpoint
from tests.fuzz.harness import folder, promise
from tests.simulation.memory_log import ORIGIN

NODES = Path(__file__).resolve().parents[2] / "nodes"
NOW = datetime(2026, 11, 22, 6, 5, tzinfo=UTC)
KEY = Ed25519PrivateKey.from_private_bytes(b"\x11" * 32)
SIGNER = checkpoint.NoteSigner(ORIGIN, KEY)
WITNESS = checkpoint.NoteSigner("witness.example/w", Ed25519PrivateKey.from_private_bytes(b"\x12" * 32))
AGREEMENT = "SIS-OBJ:ics2-sis"


def file(name: str, data: bytes) -> Path:
    path = folder() / name
    path.write_bytes(data)
    return path


def object_of(data: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def text_of(data: bytes) -> str:
    """Any text, halves of surrogate pairs among it: what JSON can carry."""
    return data.decode("utf-8", "surrogatepass") if _is_text(data) else data.decode("latin-1")


def _is_text(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def inverse(encode: Callable[[Any], bytes]) -> Callable[[tuple[bytes, Any]], None]:
    """Check that a decoder took in the one form of what it read."""

    def check(value: tuple[bytes, Any]) -> None:
        data, meaning = value
        promise(encode(meaning) == data, "two inputs have one meaning")

    return check


def kept(decode: Callable[[bytes], Any]) -> Callable[[bytes], tuple[bytes, Any]]:
    return lambda data: (data, decode(data))
