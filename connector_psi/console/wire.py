"""HTTP around the pages: cookies, headers, forms, what a request brings along, and which status an error has.

Decides: what every answer carries, which host is answered, how much is taken in. Nothing here knows a page.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from connector_psi import errors

SESSION_COOKIE = "__Host-connector-psi"
LANGUAGE_COOKIE = "__Host-language"
THEME_COOKIE = "__Host-theme"
THEMES = ("auto", "light", "dark")
MAX_BODY_BYTES = 1 << 20
"""A file of a form that is larger would pass through a temporary file."""
MAX_FIELDS = 500
YEAR_S = 31_536_000
Form = Mapping[str, Sequence[str]]
"""Fields of a form; a file is a field with its text."""

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Strict-Transport-Security": f"max-age={YEAR_S}",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cache-Control": "no-store",
}
"""Of every answer."""

_STATUS: Mapping[type[errors.ConnectorError], int] = {
    errors.InputError: 422,
    errors.ConfigError: 422,
    errors.RefusedError: 403,
    errors.PurposeRefusedError: 403,
    errors.ApprovalMissingError: 422,
    errors.CapacityExceededError: 429,
    errors.ConflictError: 409,
    errors.UnavailableError: 503,
    errors.KeyUnavailableError: 410,
    errors.ConnectorError: 503,
}
SAID: Mapping[int, str] = {
    400: "That request cannot be read.",
    401: "Sign in to go on.",
    403: "That is not allowed.",
    404: "There is nothing here.",
    405: "There is nothing here.",
    409: "That does not fit what is there now.",
    410: "That is not there any more.",
    413: "That is larger than is taken.",
    421: "This console answers under another address.",
    422: "Something is missing or not right.",
    429: "That is more than may be done now.",
    500: "Something went wrong here.",
    503: "That cannot be done now.",
}
"""What a page says that there is instead of another, by its status."""


def status_of(error: errors.ConnectorError) -> int:
    """Return the status of an error: that of its nearest class which has one."""
    if isinstance(error, errors.PurposeRefusedError) and str(error).startswith("no such"):
        return 404
    return next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)


def certificate_of(request: Request) -> bytes:
    """Return the certificate that the connection showed and TLS verified, DER; empty for none."""
    found: dict[str, Any] = request.scope.get("extensions", {}).get("tls", {})
    return bytes(found.get("client_certificate") or b"")


def is_large(request: Request) -> bool:
    """Whether a request says that it sends more than is taken."""
    length = request.headers.get("content-length", "")
    return length.isdigit() and int(length) > MAX_BODY_BYTES


async def read_form(request: Request) -> Form:
    """Return the fields of a form.

    Raises:
        FormatError: It is too large, or none.
    """
    found: dict[str, list[str]] = defaultdict(list)
    try:
        sent = await request.form(max_files=1, max_fields=MAX_FIELDS, max_part_size=MAX_BODY_BYTES)
    except (HTTPException, MultiPartException, ValueError, ClientDisconnect):
        raise errors.FormatError("form: cannot be read") from None
    for name, each in sent.multi_items():
        if isinstance(each, UploadFile):
            found[name].append((await each.read()).decode("utf-8", "replace"))
        else:
            found[name].append(each)
    return dict(found)


def sent_in(form: Form, name: str) -> str:
    """Return what was sent in a field, empty where nothing was."""
    sent = form.get(name, ())
    return sent[-1] if sent else ""


def address_of(request: Request) -> str:
    """Return the address that a request came from; empty where it is not known."""
    return request.client.host if request.client is not None else ""


def set_cookie(response: Response, name: str, text: str, *, strict: bool, max_age: int | None = None) -> None:
    """Set a cookie for this host alone, over TLS alone, that no script reads."""
    response.set_cookie(
        name, text, max_age=max_age, path="/", secure=True, httponly=True, samesite="strict" if strict else "lax"
    )


def drop_cookie(response: Response, name: str) -> None:
    """Have the browser forget a cookie."""
    response.delete_cookie(name, path="/", secure=True, httponly=True)


class Outer:
    """Around everything: the host, the size of what is sent, the headers of what is answered.

    Args:
        app: What answers.
        host: The one that is answered, with its port.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app = app
        self._host = host.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI says."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def answered(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                static = scope["path"].startswith("/static/") and message["status"] == 200
                own = {**HEADERS, "Cache-Control": "no-cache"} if static else HEADERS
                message["headers"] = [
                    *message["headers"],
                    *(
                        (name.lower().encode(), text.encode())
                        for name, text in own.items()
                        if name.lower().encode() not in given
                    ),
                ]
            await send(message)

        hosts = [text for name, text in scope["headers"] if name == b"host"]
        if hosts != [self._host]:
            body = SAID[421].encode() + b"\n"
            await answered(
                {"type": "http.response.start", "status": 421, "headers": [(b"content-type", b"text/plain")]}
            )
            await answered({"type": "http.response.body", "body": body})
            return
        taken = 0

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > MAX_BODY_BYTES:
                # As if the browser had gone: nothing of it is read any further.
                return {"type": "http.disconnect"}
            return message

        # What is raised here was answered already, and its text may hold a value: the server would write it down.
        with suppress(Exception):
            await self._app(scope, bounded, answered)
