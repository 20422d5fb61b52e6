"""Asking a witness over HTTP, as C2SP tlog-witness says; for those that are no peers."""

from __future__ import annotations

import http.client
import ssl
from hashlib import sha256
from urllib.parse import urlsplit

from connector_psi.audit.checkpoint import MAX_NOTE_BYTES
from connector_psi.audit.witness import HTTP_STATUS, Refusal, Submission, encode_submission, origin_of
from connector_psi.errors import FormatError, ProtocolError, UnavailableError
from connector_psi.witness.cosigning import WitnessAnswer

TIMEOUT_S = 10
SIZE_TYPE = "text/x.tlog.size"
_REFUSALS = {
    status: refusal for refusal, status in HTTP_STATUS.items() if refusal not in {Refusal.OTHER_SIZE, Refusal.FORK}
}


def origin_hash(origin: str) -> str:
    """Return the path element under which a witness or mirror shows what it holds of a log (C2SP tlog-mirror)."""
    return sha256(origin.encode()).hexdigest()


class HttpWitness:
    """A witness behind a URL; implements ``node.ports.WitnessPort``.

    Args:
        url: What ``/add-checkpoint`` is put behind.
        name: Name of its key, for messages.
    """

    def __init__(self, url: str, name: str) -> None:
        self._url = url.rstrip("/")
        self._where = f"witness {name}"

    def add_checkpoint(self, submission: Submission) -> WitnessAnswer:
        """Ask it to cosign a checkpoint.

        Raises:
            UnavailableError: It cannot be reached, or has a failure of its own.
            ProtocolError: Its answer is none of tlog-witness.
        """
        status, kind, body = self._call("POST", "/add-checkpoint", encode_submission(submission))
        if status == http.client.OK:
            return WitnessAnswer(None, body)
        if status == http.client.CONFLICT:
            if kind != SIZE_TYPE:
                return WitnessAnswer(Refusal.FORK, held=self._held(submission))
            return WitnessAnswer(Refusal.OTHER_SIZE, held=self._held(submission), held_size=_size(body, self._where))
        if status >= http.client.INTERNAL_SERVER_ERROR or status == http.client.TOO_MANY_REQUESTS:
            raise UnavailableError(f"{self._where}: HTTP status {status}")
        if status not in _REFUSALS:
            raise ProtocolError(f"{self._where}: HTTP status {status}")
        return WitnessAnswer(_REFUSALS[status])

    def _held(self, submission: Submission) -> bytes:
        """The checkpoint that it holds, where it shows one: tlog-witness leaves that open."""
        try:
            status, _, body = self._call("GET", f"/{origin_hash(origin_of(submission.checkpoint))}/checkpoint")
        except (UnavailableError, ProtocolError, FormatError):
            return b""
        return body if status == http.client.OK else b""

    def _call(self, method: str, path: str, body: bytes | None = None) -> tuple[int, str, bytes]:
        parts = urlsplit(self._url)
        host, port = parts.hostname or "", parts.port
        connection = (
            http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=ssl.create_default_context())
            if parts.scheme == "https"
            else http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        )
        try:
            connection.request(method, parts.path + path, body, {"Content-Type": "text/plain; charset=utf-8"})
            answer = connection.getresponse()
            raw = answer.read(MAX_NOTE_BYTES + 1)
            kind = (answer.getheader("Content-Type") or "").partition(";")[0].strip().lower()
        except (OSError, http.client.HTTPException) as error:
            raise UnavailableError(f"{self._where}: {type(error).__name__}") from None
        finally:
            connection.close()
        if len(raw) > MAX_NOTE_BYTES:
            raise ProtocolError(f"{self._where}: an answer that is too long")
        return answer.status, kind, raw


def _size(body: bytes, where: str) -> int:
    text = body.removesuffix(b"\n")
    if not text.isdigit() or len(text) > 19:
        raise ProtocolError(f"{where}: a conflict without a size")
    return int(text)
