"""Serving the console: TLS 1.3, a certificate of the browser's person where it shows one, a thread of its own."""

from __future__ import annotations

import logging
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from connector_psi.console.app import Console
from connector_psi.errors import ConfigError, UnavailableError
from connector_psi.node.node import Node
from connector_psi.node.service import Service
from connector_psi.witness.web import BACKLOG, listen

# What it would say is about connections and tasks, in words that nobody here chose.
logging.getLogger("uvicorn").addHandler(logging.NullHandler())
logging.getLogger("uvicorn").propagate = False

STOP_S = 3
_START_S = 20.0
_MAX_HEADER_BYTES = 16 * 1024


class _Protocol(H11Protocol):
    """HTTP/1.1 whose requests carry the certificate that the connection showed (ASGI's TLS extension)."""

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 - asyncio's own
        super().connection_made(transport)
        found: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        self._shown = (found.getpeercert(binary_form=True) if found is not None else None) or b""
        app = self.app

        async def with_certificate(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI's own
            scope = {**scope, "extensions": {**scope.get("extensions", {}), "tls": {"client_certificate": self._shown}}}
            await app(scope, receive, send)

        self.app = with_certificate

    def shutdown(self) -> None:
        super().shutdown()
        if self.cycle is None or self.cycle.response_complete:
            # Nothing is under way: nobody is waited for to say goodbye.
            self.transport.abort()


class Served:
    """A console that answers.

    Args:
        service: The node at work.
        address: HOST:PORT; port 0 takes a free one.

    Raises:
        ConfigError: The address or the certificate cannot be used.
        UnavailableError: It does not come up.
    """

    def __init__(self, service: Service, address: str) -> None:
        node = service.node
        settings = node.config.console
        self._bound = listen(address, secure=True)
        try:
            host, port = address.rpartition(":")[0], self._bound.getsockname()[1]
            name = "127.0.0.1" if host in {"0.0.0.0", "[::]", "::"} else host  # noqa: S104 - compared
            self.url = settings.url or f"https://{name}" + ("" if port == 443 else f":{port}")
            console = self.console = Console(service, self.url)
            config = uvicorn.Config(
                console.app,
                http=_Protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=STOP_S,
                limit_concurrency=BACKLOG,
                h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
                ssl_context_factory=lambda _config, _default: _context(node),
            )
            config.load()
            self._server = uvicorn.Server(config)
            self._thread = threading.Thread(
                target=self._server.run, kwargs={"sockets": [self._bound]}, name="console", daemon=True
            )
            self._thread.start()
            self._wait()
        except BaseException:
            self._bound.close()
            raise

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise UnavailableError("the console does not come up")
            time.sleep(0.01)

    def close(self) -> None:
        """Answer what is under way, and stop."""
        self._server.should_exit = True
        self._thread.join(STOP_S + 5)
        self.console.close()
        self._bound.close()


def open_console(service: Service) -> Served | None:
    """Serve the console of a node as its settings say; None where they want none."""
    address = service.node.config.console.listen
    return Served(service, address) if address else None


def _context(node: Node) -> ssl.SSLContext:
    settings, layout = node.config.console, node.layout
    certificate = layout.root / settings.certificate if settings.certificate else layout.node_cert
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(certificate, _key_of(certificate))
        if "certificate" in settings.sign_in:
            context.verify_mode = ssl.CERT_OPTIONAL
            context.load_verify_locations(cadata=node.root_pem.decode("ascii"))
    except (OSError, ValueError, ssl.SSLError):
        raise ConfigError(f"{certificate}: not a certificate with its key beside it") from None
    return context


def _key_of(certificate: Path) -> Path:
    return certificate.with_suffix(".key")
