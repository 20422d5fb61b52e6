"""The ways into the console: a certificate of the federation, a local account with a one-time code, OpenID Connect.

Decides: what each way needs, that a form of somebody who is not signed in was made for their browser, how long one
waits after failures. A failure says nothing about its reason: neither whether an id is known nor which part was wrong.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import structlog
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from connector_psi import errors, pki
from connector_psi.console.attempts import Attempts
from connector_psi.console.language import LANGUAGES
from connector_psi.console.oidc import Provider
from connector_psi.console.sessions import certificate_digest, same_token
from connector_psi.console.wire import (
    LANGUAGE_COOKIE,
    SESSION_COOKIE,
    THEME_COOKIE,
    THEMES,
    YEAR_S,
    address_of,
    certificate_of,
    drop_cookie,
    read_form,
    sent_in,
    set_cookie,
)

if TYPE_CHECKING:
    from connector_psi.console.app import Console

logger = structlog.get_logger("connector_psi.console")

SEED_COOKIE = "__Host-form"
ATTEMPT_COOKIE = "__Host-oidc"
ATTEMPT_S = 600


class SignIn:
    """Signs people in and out.

    Args:
        console: Whose sessions they get.
        provider: For OpenID Connect, None without.
        attempts: Failures so far.
    """

    def __init__(self, console: Console, provider: Provider | None, attempts: Attempts) -> None:
        self._console = console
        self._provider = provider
        self._attempts = attempts
        self._ways = console.settings.sign_in

    def routes(self) -> list[Route]:
        """Return the addresses of this module: the only ones for people who are not signed in."""
        posts: dict[str, Callable[[Request], Response]] = {"/sign-out": self._sign_out}
        if "account" in self._ways:
            posts["/sign-in/account"] = self._account
        if "certificate" in self._ways:
            posts["/sign-in/certificate"] = self._certificate
        gets: dict[str, Callable[[Request], Response]] = {"/sign-in": self._page}
        if self._provider is not None:
            gets |= {"/sign-in/oidc": self._to_provider, "/sign-in/oidc/back": self._from_provider}
        posts["/preferences"] = self._preferences
        return [
            *(Route(path, _threaded(handler), methods=["GET"]) for path, handler in gets.items()),
            *(Route(path, self._posted(handler), methods=["POST"]) for path, handler in posts.items()),
        ]

    def _page(self, request: Request, problem: str = "", status: int = 200) -> Response:
        console = self._console
        seed = request.cookies.get(SEED_COOKIE, "") or secrets.token_hex(16)
        told = console.language_of(request)
        body = console.templates.get_template("sign_in.html").render(
            t=told.text,
            l=told,
            theme=console.theme_of(request),
            themes=THEMES,
            languages=LANGUAGES,
            title="Sign in",
            authority=console.service.node.authority,
            synthetic=console.service.node.synthetic,
            ways=self._ways,
            has_certificate=bool(certificate_of(request)),
            form_token=console.sessions.form_token(seed),
            problem=problem,
        )
        response = Response(body, status, media_type="text/html")
        set_cookie(response, SEED_COOKIE, seed, strict=True)
        return response

    def _posted(self, handler: Callable[[Request], Response]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            try:
                request.state.form = await read_form(request)
            except errors.FormatError:
                return self._console.plain(request, 400)
            return await run_in_threadpool(self._checked, handler, request)

        return endpoint

    def _checked(self, handler: Callable[[Request], Response], request: Request) -> Response:
        console = self._console
        sent, seed = sent_in(request.state.form, "csrf"), request.cookies.get(SEED_COOKIE, "")
        session = console.session_of(request)
        own = session is not None and same_token(sent, session.csrf)
        fresh = bool(seed) and same_token(sent, console.sessions.form_token(seed))
        if not console.is_same_origin(request) or not (own or fresh):
            return console.plain(request, 403, "That form was not made for this session. Open the page again.")
        return handler(request)

    def _account(self, request: Request) -> Response:
        console = self._console
        name, address = sent_in(request.state.form, "id").strip(), address_of(request)
        wait_s = self._attempts.wait_s(name, address)
        if wait_s > 0:
            told = console.language_of(request)
            response = self._page(
                request, told.text("Too many attempts. Try again in {span}.", span=told.span(wait_s)), 429
            )
            response.headers["Retry-After"] = str(math.ceil(wait_s))
            return response
        # Counted before it is looked at: attempts that run at the same time are attempts too.
        self._attempts.failed(name, address)
        now = console.service.node.clock.now()
        person = console.accounts.verify(
            name, sent_in(request.state.form, "password"), sent_in(request.state.form, "code"), now
        )
        if person is None:
            logger.warning("console.sign_in_failed", way="account")
            return self._page(
                request, "That did not sign you in. Check what you entered; a one-time code counts once.", 403
            )
        self._attempts.succeeded(name)
        return self._begin(person, "account")

    def _certificate(self, request: Request) -> Response:
        node, shown = self._console.service.node, certificate_of(request)
        try:
            # TLS verified that it leads to the federation's root.
            identity = pki.identity_of(shown)
            pki.check_validity(shown, node.clock.now())
        except errors.InputError:
            identity = None
        if not isinstance(identity, pki.PersonIdentity) or identity.authority != node.authority:
            logger.warning("console.sign_in_failed", way="certificate")
            return self._page(request, "Your browser showed no certificate of a person of this authority.", 403)
        return self._begin(identity, "certificate", certificate_digest(shown))

    def _to_provider(self, request: Request) -> Response:
        assert self._provider is not None
        try:
            url, attempt = self._provider.begin()
        except errors.ConnectorError as error:
            return self._page(request, str(error), 503)
        response = RedirectResponse(url, 303)
        # Lax: the provider sends the browser back from its own site.
        set_cookie(response, ATTEMPT_COOKIE, attempt, strict=False, max_age=ATTEMPT_S)
        return response

    def _from_provider(self, request: Request) -> Response:
        assert self._provider is not None
        try:
            person = self._provider.finish(request.cookies.get(ATTEMPT_COOKIE, ""), request.url.query)
        except errors.UnavailableError as error:
            return self._page(request, str(error), 503)
        except errors.ConnectorError as error:
            logger.warning("console.sign_in_failed", way="oidc")
            response = self._page(request, str(error), 403)
            drop_cookie(response, ATTEMPT_COOKIE)
            return response
        response = self._begin(person, "oidc", to_page=self._console.language_of(request).text("Go on"))
        drop_cookie(response, ATTEMPT_COOKIE)
        return response

    def _begin(self, person: pki.PersonIdentity, way: str, bound_to: bytes = b"", to_page: str = "") -> Response:
        token = self._console.sessions.begin(person, way, bound_to)
        logger.info("console.signed_in", way=way, role=person.role.value)
        if to_page:
            # From another site: a redirect would not take the session's cookie along, a page of ours does.
            body = self._console.templates.get_template("signed_in.html").render(go_on=to_page)
            response = Response(body, media_type="text/html")
        else:
            response = RedirectResponse("/", 303)
        set_cookie(response, SESSION_COOKIE, token, strict=True)
        drop_cookie(response, SEED_COOKIE)
        return response

    def _sign_out(self, request: Request) -> Response:
        self._console.sessions.end(request.cookies.get(SESSION_COOKIE, ""))
        response = RedirectResponse("/sign-in", 303)
        drop_cookie(response, SESSION_COOKIE)
        response.headers["Clear-Site-Data"] = '"cache"'
        return response

    def _preferences(self, request: Request) -> Response:
        """Language and colours, which a browser keeps; nothing about anybody."""
        back = sent_in(request.state.form, "back")
        response = RedirectResponse(back if back.startswith("/") and not back.startswith(("//", "/\\")) else "/", 303)
        for cookie, name, known in ((LANGUAGE_COOKIE, "language", LANGUAGES), (THEME_COOKIE, "theme", THEMES)):
            if (wanted := sent_in(request.state.form, name)) in known:
                set_cookie(response, cookie, wanted, strict=False, max_age=YEAR_S)
        return response


def _threaded(handler: Callable[[Request], Response]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        return await run_in_threadpool(handler, request)

    return endpoint
