"""Witness and mirror over HTTP, in the forms of C2SP tlog-witness and tlog-tiles.

Plain HTTP is served to this machine only, where a reverse proxy may stand; everything else is TLS. Nothing that is
served is secret, and who asks is not authenticated beyond the signature on a checkpoint, as the specifications say.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from connector_psi.audit.tiles import WIDTH, parse_tile_path
from connector_psi.audit.witness import (
    HTTP_STATUS,
    MAX_SUBMISSION_BYTES,
    Refusal,
    parse_submission,
)
from connector_psi.errors import ConfigError, FormatError, StorageError, UnavailableError
from connector_psi.witness.client import SIZE_TYPE
from connector_psi.witness.cosigning import WitnessAnswer
from connector_psi.witness.standalone import StandaloneWitness

TEXT = "text/plain; charset=utf-8"
_HEADERS = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'"}
_MUTABLE = {**_HEADERS, "Cache-Control": "no-store"}
_IMMUTABLE = {**_HEADERS, "Cache-Control": "public, max-age=31536000, immutable"}
BACKLOG = 128
STOP_S = 10


def witness_app(witness: StandaloneWitness) -> Starlette:
    """Return the application of a witness: ``add-checkpoint``, what it holds of each log, and a summary."""

    async def add_checkpoint(request: Request) -> Response:
        try:
            submission = parse_submission(await _body(request))
        except FormatError as error:
            return _text(400, f"{error}\n")
        try:
            answer = await run_in_threadpool(witness.add_checkpoint, submission)
        except UnavailableError:
            return _text(503, "cannot be kept now\n")
        return _answer(answer)

    async def checkpoint(request: Request) -> Response:
        note = await run_in_threadpool(witness.latest, request.path_params["origin"])
        return _text(404, "no such log, or nothing seen of it\n") if note is None else _text(200, note)

    async def summary(_: Request) -> Response:
        rows, forks = await run_in_threadpool(witness.seen)
        value = {
            "witness": witness.cosigner.key.name,
            "logs": witness.logs,
            "latest": [{"origin": r.origin, "size": r.size, "seen_ms": r.seen_ms} for r in rows],
            "forks": [{"origin": f.origin, "size": f.size, "found_ms": f.found_ms} for f in forks],
        }
        return JSONResponse(value, headers=_MUTABLE)

    return Starlette(
        routes=[
            Route("/add-checkpoint", add_checkpoint, methods=["POST"]),
            Route("/{origin}/checkpoint", checkpoint, methods=["GET"]),
            Route("/", summary, methods=["GET"]),
        ]
    )


def mirror_app(prefix: str, checkpoint: Callable[[], bytes], tile: Callable[[str], bytes]) -> Starlette:
    """Return the application of a mirror: the copy of one log as C2SP tlog-tiles, behind ``/PREFIX``.

    Args:
        prefix: Hash of the log's origin (tlog-mirror).
        checkpoint: Returns the newest note, cosigned by the mirror.
        tile: Returns a tile or an entry bundle by its path.
    """

    async def serve_checkpoint(_: Request) -> Response:
        try:
            return _text(200, await run_in_threadpool(checkpoint))
        except StorageError:
            return _text(404, "nothing is copied yet\n")

    async def serve_tile(request: Request) -> Response:
        path = f"tile/{request.path_params['path']}"
        try:
            _, _, width = parse_tile_path(path)
            raw = await run_in_threadpool(tile, path)
        except (FormatError, StorageError):
            return _text(404, "no such tile\n")
        # A partial tile may go once the full one is there; its bytes never change either.
        headers = _IMMUTABLE if width == WIDTH else _MUTABLE
        return Response(raw, media_type="application/octet-stream", headers=headers)

    return Starlette(
        routes=[
            Route(f"/{prefix}/checkpoint", serve_checkpoint, methods=["GET"]),
            Route(f"/{prefix}/tile/{{path:path}}", serve_tile, methods=["GET"]),
        ]
    )


async def _body(request: Request) -> bytes:
    raw = bytearray()
    try:
        async for chunk in request.stream():
            raw += chunk
            if len(raw) > MAX_SUBMISSION_BYTES:
                raise FormatError("add-checkpoint: too long")
    except ClientDisconnect:
        raise FormatError("add-checkpoint: cut short") from None
    return bytes(raw)


def _answer(answer: WitnessAnswer) -> Response:
    if answer.refusal is None:
        return _text(200, answer.lines)
    if answer.refusal is Refusal.OTHER_SIZE:
        return Response(f"{answer.held_size}\n", 409, {**_MUTABLE, "Content-Type": SIZE_TYPE})
    return _text(HTTP_STATUS[answer.refusal], f"{answer.refusal.value}\n")


def _text(status: int, body: str | bytes) -> Response:
    return Response(body, status, {**_MUTABLE, "Content-Type": TEXT})


def listen(address: str, *, secure: bool) -> socket.socket:
    """Return a socket that listens on HOST:PORT.

    Raises:
        ConfigError: The address is malformed, taken, or not of this machine without TLS.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
        family, kind, proto, _, where = found[0]
    except (ValueError, OSError):
        raise ConfigError(f"{address}: not HOST:PORT of this machine") from None
    if not secure and not str(where[0]).startswith("127.") and where[0] != "::1":
        raise ConfigError(f"{address}: without --cert only addresses of this machine are served (127.0.0.1)")
    made = socket.socket(family, kind, proto)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(where)
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        raise ConfigError(f"{address}: {error.strerror}") from None
    return made


def serve(app: Starlette, bound: socket.socket, cert: Path | None = None) -> None:
    """Serve an application until SIGTERM or SIGINT, which the handlers that are installed then get as well.

    Args:
        app: What is served.
        bound: From :func:`listen`.
        cert: PEM of the certificate, its key beside it as ``.key``; TLS 1.3 only.

    Raises:
        ConfigError: The certificate or its key cannot be used.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=STOP_S,
        limit_concurrency=BACKLOG,
        h11_max_incomplete_event_size=16 * 1024,
        ssl_certfile=str(cert) if cert else None,
        ssl_keyfile=str(cert.with_suffix(".key")) if cert else None,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError):
        raise ConfigError(f"{cert}: not a certificate with its key beside it") from None
    if config.ssl is not None:
        config.ssl.minimum_version = ssl.TLSVersion.TLSv1_3
    uvicorn.Server(config).run(sockets=[bound])
