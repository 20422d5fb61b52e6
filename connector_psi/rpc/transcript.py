"""A recording of the peer port's messages before encryption, for synthetic federations only.

It shows what a peer sees, so that a demonstration or a test can search it for what must not be there. A node with real
data refuses to start
with a transcript configured.
"""

from __future__ import annotations

import base64
import json
import threading
from pathlib import Path


class Transcript:
    """Appends one JSON line a message: method, direction, peer, and the serialised message in base64."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._file = path.open("a", encoding="ascii")

    def record(self, method: str, direction: str, peer: str, data: bytes) -> None:
        """Append a message; ``direction`` is ``request`` or ``response``."""
        line = {"method": method, "direction": direction, "peer": peer, "data": base64.b64encode(data).decode()}
        with self._lock:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._file.close()
