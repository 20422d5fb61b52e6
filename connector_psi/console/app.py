"""The console as a web application: every request passes here before a view sees it.

Decides, in this order: which host is answered, which addresses there are, who is signed in, whether their role may use
the page (denied by default), whether a form was made for this session by this console; and what an error looks like.
Leaves to others: what is on a page (``views``), what may be done about a match or a case (the services of the node,
which judge again). No text of an error holds anything about anybody; of a defect nobody is told more than a number.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import date, datetime
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

import structlog
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from connector_psi import errors
from connector_psi.console.access import pages
from connector_psi.console.accounts import Accounts
from connector_psi.console.attempts import Attempts
from connector_psi.console.jobs import Jobs
from connector_psi.console.language import Language, choose, language
from connector_psi.console.oidc import Provider
from connector_psi.console.sessions import Session, Sessions, same_token
from connector_psi.console.signin import SignIn
from connector_psi.console.visit import Page, Visit
from connector_psi.console.wire import (
    LANGUAGE_COOKIE,
    SAID,
    SESSION_COOKIE,
    THEME_COOKIE,
    THEMES,
    Form,
    Outer,
    certificate_of,
    is_large,
    read_form,
    sent_in,
    status_of,
)
from connector_psi.console.words import Words
from connector_psi.node.service import Service
from connector_psi.pki import Role

logger = structlog.get_logger("connector_psi.console")

_HERE = Path(__file__).parent


class Console:
    """The console of one node.

    Args:
        service: The node at work.
        url: What people type: ``https://HOST[:PORT]``.
    """

    def __init__(self, service: Service, url: str) -> None:
        node = service.node
        self.service = service
        self.settings = node.config.console
        self.url = url
        self.pages: Mapping[str, Page] = {page.name: page for page in pages()}
        self.accounts = Accounts(
            node.layout.accounts, bytes(node.keyring.node_key("console")), node.authority, node.random
        )
        provider = None
        if self.settings.oidc is not None:
            provider = Provider(
                self.settings.oidc,
                node.layout.root,
                node.authority,
                f"{url}/sign-in/oidc/back",
                node.clock.now,
                node.random,
            )
        self.sessions = Sessions(
            node.clock.now,
            node.random,
            idle_s=self.settings.idle_s,
            longest_s=self.settings.longest_s,
            still_may=self._still_may,
        )
        self.jobs = Jobs(node.clock.now)
        self.sign_in = SignIn(self, provider, Attempts(node.clock.monotonic_s))
        self.templates = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._words: dict[str, Words] = {}

    def _still_may(self, session: Session) -> bool:
        if session.way != "account":
            return True
        account = self.accounts.find(session.person.id)
        return account is not None and account.role is session.person.role

    def close(self) -> None:
        """Begin no long work any more."""
        self.jobs.close()

    def words_of(self, told: Language) -> Words:
        """Return the vocabulary in a language."""
        return self._words.setdefault(told.code, Words(told))

    titles: Mapping[str, str] = {
        "overview": "Overview",
        "tasks": "Tasks",
        "matches": "Matches",
        "cases": "Cases",
        "approvals": "Approvals",
        "access": "Access by case",
        "recalls": "Recalls",
        "sampling": "Sampling",
        "search": "Search the log",
        "anomalies": "Anomalies",
        "subjects": "Data-subject search",
        "retention": "Retention and holds",
        "sets": "Encoded sets",
        "policy": "Policy",
        "log": "The log",
        "reports": "Reports",
        "node": "This node",
    }
    """Of the pages of the menu."""

    @staticmethod
    def section_of(page: str) -> str:
        """Return the page of the menu that a page belongs to."""
        return _SECTIONS.get(page, page)

    @staticmethod
    def moment(text: str) -> datetime | None:
        """Return a time of ISO 8601, None for none."""
        return datetime.fromisoformat(text) if text else None

    @staticmethod
    def date(told: Language, text: str) -> str:
        """Return a day of ISO 8601 as a language writes it, empty for none."""
        return told.day(date.fromisoformat(text)) if text else ""

    @staticmethod
    def bytes(told: Language, size: int) -> str:
        """Return a size for people."""
        for unit in ("B", "kB", "MB", "GB"):
            if size < 1_000 or unit == "GB":
                break
            size = round(size / 1_000, 1)  # type: ignore[assignment]  # what is shown of it
        return f"{told.number(size)} {unit}"

    def menu(self, role: Role) -> list[tuple[str, list[str]]]:
        """Return headings and names of pages of the menu that a role may use."""
        shown = [(heading, [n for n in names if role.value in self.pages[n].roles]) for heading, names in MENU]
        return [(heading, names) for heading, names in shown if names]

    @cached_property
    def app(self) -> ASGIApp:
        """The application."""
        by_path: dict[str, dict[str, Page]] = defaultdict(dict)
        for page in self.pages.values():
            by_path[page.path][page.method] = page
        routes: list[Route | Mount] = [
            Route(path, self._endpoint(methods), methods=[*methods]) for path, methods in by_path.items()
        ]
        routes += self.sign_in.routes()
        routes.append(Mount("/static", StaticFiles(directory=_HERE / "static")))
        app = Starlette(
            routes=routes,
            exception_handlers={HTTPException: self._http_error, Exception: self._defect},  # type: ignore[dict-item]  # of Starlette's own kind
        )
        return Outer(app, urlsplit(self.url).netloc)

    def language_of(self, request: Request) -> Language:
        """Return the language of whoever asks."""
        wanted = request.cookies.get(LANGUAGE_COOKIE, "")
        return language(choose(wanted, request.headers.get("accept-language", "")), self.settings.zone)

    def theme_of(self, request: Request) -> str:
        """Return the colours of whoever asks."""
        theme = request.cookies.get(THEME_COOKIE, "")
        return theme if theme in THEMES else THEMES[0]

    def session_of(self, request: Request) -> Session | None:
        """Return the session of a request."""
        token = request.cookies.get(SESSION_COOKIE, "")
        return self.sessions.find(token, certificate_of(request)) if token else None

    def _endpoint(self, methods: Mapping[str, Page]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            page = methods["GET" if request.method == "HEAD" else request.method]
            session = await run_in_threadpool(self.session_of, request)
            if session is None:
                if page.method == "POST":
                    return self.plain(request, 401)
                return RedirectResponse("/sign-in", 303)
            if session.person.role.value not in page.roles:
                return self.plain(request, 403)
            form: Form = {}
            if page.method == "POST":
                try:
                    form = await read_form(request)
                except errors.FormatError:
                    return self.plain(request, 413 if is_large(request) else 400)
                if not self._is_own(request, form, session):
                    logger.warning("console.forged", page=page.name)
                    return self.plain(request, 403, "That form was not made for this session. Open the page again.")
            visit = Visit(
                self,
                page,
                session,
                self.language_of(request),
                self.theme_of(request),
                {key: str(each) for key, each in request.path_params.items()},
                dict(request.query_params),
                form,
            )
            return await run_in_threadpool(self._answer, visit, request)

        return endpoint

    def _is_own(self, request: Request, form: Form, session: Session) -> bool:
        return self.is_same_origin(request) and same_token(sent_in(form, "csrf"), session.csrf)

    def is_same_origin(self, request: Request) -> bool:
        """Whether a browser says that a page of this console sent a form, as far as it says anything."""
        origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
        return origin in {None, self.url} and site in {None, "same-origin", "none"}

    def _answer(self, visit: Visit, request: Request) -> Response:
        try:
            return visit.page.view(visit)
        except errors.ConnectorError as error:
            status = status_of(error)
            logger.info("console.refused", page=visit.page.name, code=error.code)
            if visit.page.again is not None and status in {403, 409, 422, 429, 503}:
                visit.problem, visit.status = str(error), status
                try:
                    return visit.page.again(visit)
                except errors.ConnectorError as other:
                    error = other
            return self.plain(request, status_of(error), detail=str(error), session=visit.session)

    def plain(
        self, request: Request, status: int, text: str = "", *, detail: str = "", session: Session | None = None
    ) -> Response:
        """Return a page that says why there is no other."""
        told = self.language_of(request)
        body = self.templates.get_template("plain.html").render(
            t=told.text,
            l=told,
            theme=self.theme_of(request),
            title=SAID.get(status, SAID[400]),
            text=text,
            detail=detail,
            signed_in=session is not None or status == 403,
        )
        return Response(body, status, media_type="text/html")

    def _http_error(self, request: Request, error: HTTPException) -> Response:
        return self.plain(request, error.status_code)

    def _defect(self, request: Request, error: Exception) -> Response:
        incident = secrets.token_hex(4)
        last = error.__traceback__
        while last is not None and last.tb_next is not None:
            last = last.tb_next
        where = f"{last.tb_frame.f_code.co_name}:{last.tb_lineno}" if last else ""
        # The type alone: an exception's text may hold a value.
        logger.error("console.internal", incident=incident, error=type(error).__name__, where=where)
        return self.plain(request, 500, detail=incident)


MENU: Sequence[tuple[str, Sequence[str]]] = (
    ("", ("overview",)),
    ("Casework", ("tasks", "matches", "cases", "approvals", "access", "recalls")),
    ("Oversight", ("sampling", "search", "anomalies", "subjects", "retention")),
    ("Transparency", ("sets", "policy", "log", "reports")),
    ("Node", ("node",)),
)


_SECTIONS = {
    "match": "matches",
    "case": "cases",
    "access_request": "access",
    "recall": "recalls",
    "found": "search",
    "entry": "search",
    "open_body": "search",
    "dossier": "search",
    "verify_dossier": "search",
    "open_bodies": "search",
    "subject": "subjects",
    "policy_differences": "policy",
    "report": "reports",
    "outbox": "node",
}
