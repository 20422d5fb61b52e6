"""Evidence of a fork: two notes that one log signed and that cannot both be true, in a folder that verifies by itself.

``first`` and ``second`` are the notes, ``vkey`` is the log's key. Notes of two sizes prove nothing by themselves: then
``proof`` holds, in base64 a line each, the root that the larger tree had at the smaller size, and the consistency proof
from there. ``python -m connector_psi.audit.verify FOLDER`` says what is proven.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

from connector_psi.audit.checkpoint import VKey, encode_vkey
from connector_psi.encoding.atomicfile import atomic_file
from connector_psi.errors import UnavailableError


def write_evidence(folder: Path, first: bytes, second: bytes, vkey: VKey, proof: Sequence[bytes] = ()) -> None:
    """Write the folder; one that is there already stays.

    Args:
        folder: Made if absent.
        first: The note that was known.
        second: The one that contradicts it.
        vkey: Key of the log.
        proof: Of two sizes: the root at the smaller size, then the consistency proof; empty where nobody has it.

    Raises:
        UnavailableError: It cannot be written.
    """
    files = {"first": first, "vkey": encode_vkey(vkey).encode() + b"\n"}
    if proof:
        files["proof"] = b"".join(base64.b64encode(digest) + b"\n" for digest in proof)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (folder / "second").exists():
            return
        # The last: with it the evidence is whole.
        for name, raw in {**files, "second": second}.items():
            with atomic_file(folder / name) as stream:
                stream.write(raw)
    except OSError as error:
        raise UnavailableError(f"{folder}: {error.strerror}") from None
