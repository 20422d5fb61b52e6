"""Evidence bundles as a stream: the log of this node in the form that ``python -m connector_psi.audit.verify`` reads.

Decides: which files a bundle has, as ``log export --evidence`` writes them. Nothing of it is kept in a file here: what
leaves is made while it leaves.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING, cast

from connector_psi.audit import checkpoint as notes
from connector_psi.audit.bodies import OpenedBody, encode_body
from connector_psi.audit.checkpoint import encode_vkey
from connector_psi.audit.cosignature import encode_witness_key
from connector_psi.errors import ApprovalMissingError, FormatError
from connector_psi.storage import witnesses
from connector_psi.witness.client import origin_hash

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from connector_psi.node.service import Service
    from connector_psi.pki import PersonIdentity

FOLDER = "evidence/"
_PIECE_BYTES = 256 * 1024
_WHEN = (1980, 1, 1, 0, 0, 0)


def evidence_zip(
    service: Service, person: PersonIdentity, *, bodies: bool, reason: str, request_id: bytes
) -> Iterator[bytes]:
    """Return a bundle as pieces of a ZIP file.

    Args:
        service: The node at work.
        person: Who takes it out.
        bodies: Whether bodies that the person may open go with it: personal data. EXPORT says so first.
        reason: Why bodies are taken out.
        request_id: Of bodies, those about one request; empty for all.

    Raises:
        ApprovalMissingError: Bodies without a reason.
        FormatError: A request_id of a wrong length, or one without bodies.
        UnavailableError: No checkpoint is signed yet.
    """
    if len(request_id) not in {0, 16} or (request_id and not bodies):
        raise FormatError("request_id: 32 hexadecimal digits, and only with bodies")
    if bodies and not reason.strip():
        raise ApprovalMissingError("a reason is needed")
    note = service.oversight.checkpoint()
    size = notes.parse_checkpoint(notes.parse_note(note).text).size
    opened = service.oversight.export_bodies(size, person, reason, request_id) if bodies else None
    return _pieces(service, note, size, opened)


def _pieces(
    service: Service, note: bytes, size: int, opened: Iterator[tuple[int, OpenedBody | None]] | None
) -> Iterator[bytes]:
    pipe = _Pipe()
    with zipfile.ZipFile(cast("IO[bytes]", pipe), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, lines in _files(service, note, size, opened):
            with archive.open(zipfile.ZipInfo(FOLDER + name, _WHEN), "w", force_zip64=True) as file:
                for line in lines:
                    file.write(line)
                    if pipe.waiting >= _PIECE_BYTES:
                        yield pipe.take()
    yield pipe.take()


def _files(
    service: Service, note: bytes, size: int, opened: Iterator[tuple[int, OpenedBody | None]] | None
) -> Iterator[tuple[str, Iterable[bytes]]]:
    node = service.node
    yield "vkey", [f"{encode_vkey(node.signer.vkey)}\n".encode()]
    yield "witnesses", [f"{key}\n".encode() for key in map(encode_witness_key, node.asked_witnesses())]
    with node.store.read() as tx:
        forks = witnesses.list_forks(tx)
    known = dict(zip(map(_origin, node.log_vkeys()), node.log_vkeys(), strict=True))
    for fork in forks:
        folder = f"forks/{origin_hash(fork.origin)[:16]}-{fork.size}/"
        yield f"{folder}first", [fork.first]
        yield f"{folder}second", [fork.second]
        yield f"{folder}vkey", [known.get(fork.origin, "").encode()]
    yield "leaves.jsonl", _leaves(service, size)
    yield "checkpoints.jsonl", _checkpoints(service, size)
    if opened is not None:
        yield "bodies.jsonl", _bodies(opened)
    # The last: without it the folder is no bundle.
    yield "checkpoint", [note]


def _origin(vkey: str) -> str:
    return notes.parse_vkey(vkey).name


def _leaves(service: Service, size: int) -> Iterator[bytes]:
    start = 0
    while start < size:
        chunk = service.oversight.leaves(start, size - start)
        yield from (leaf + b"\n" for leaf in chunk)
        start += len(chunk)


def _checkpoints(service: Service, size: int) -> Iterator[bytes]:
    start = 0
    while found := service.oversight.checkpoints(start, 0):
        for signed in found:
            start = notes.parse_checkpoint(notes.parse_note(signed).text).size + 1
            if start <= size + 1:
                yield json.dumps(signed.decode()).encode() + b"\n"


def _bodies(opened: Iterator[tuple[int, OpenedBody | None]]) -> Iterator[bytes]:
    for index, body in opened:
        if body is not None:
            # The body travels as a string, so that a reader without a canonicaliser has the exact bytes.
            yield encode_body({"index": index, "salt": body.salt.hex(), "body": body.encoded.decode()}) + b"\n"


class _Pipe(io.RawIOBase):
    """What the archive is written to: kept until it is taken, and never sought in."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.waiting = 0

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Buffer) -> int:
        """Keep bytes."""
        kept = bytes(data)
        self._parts.append(kept)
        self.waiting += len(kept)
        return len(kept)

    def take(self) -> bytes:
        """Return what was kept."""
        taken = b"".join(self._parts)
        self._parts.clear()
        self.waiting = 0
        return taken
