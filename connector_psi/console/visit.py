"""One request to the console, as a view sees it: who asks, in which language, with what, and how to answer.

Decides: how a page is made of a template, and what every page carries. Leaves to others: who may ask (``app``), what is
shown (``views``), what is done (the services of the node).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from starlette.responses import RedirectResponse, Response

from connector_psi.console.language import LANGUAGES, Language
from connector_psi.console.sessions import Session
from connector_psi.console.wire import Form, sent_in
from connector_psi.errors import FormatError
from connector_psi.node.service import Service
from connector_psi.pki import PersonIdentity, Role

if TYPE_CHECKING:
    from connector_psi.console.app import Console

MAX_PAGE_NUMBER = 100_000


@dataclass(frozen=True, slots=True)
class Page:
    """An address of the console: a method and a path, who may use it, and what answers."""

    name: str
    method: str
    path: str
    roles: frozenset[str]
    view: Callable[[Visit], Response]
    again: Callable[[Visit], Response] | None = None
    """What a form that was refused is shown with again; what was typed stays in it."""


@dataclass(slots=True)
class Visit:
    """A request of somebody who is signed in and may make it."""

    console: Console
    page: Page
    session: Session
    language: Language
    theme: str
    params: Mapping[str, str]
    query: Mapping[str, str]
    form: Form = field(default_factory=dict)
    problem: str = ""
    """Why what was sent was refused; empty otherwise."""
    status: int = 200

    @property
    def service(self) -> Service:
        """The node at work."""
        return self.console.service

    @property
    def person(self) -> PersonIdentity:
        """Who asks."""
        return self.session.person

    @property
    def role(self) -> Role:
        """Their role."""
        return self.session.person.role

    def value(self, name: str) -> str:
        """Return what was sent in a field, empty where nothing was."""
        return sent_in(self.form, name)

    def values(self, name: str) -> list[str]:
        """Return all that was sent under a name."""
        return [*self.form.get(name, ())]

    def whole(self, name: str, default: int = 0) -> int:
        """Return a whole number that was sent in a field.

        Raises:
            FormatError: It is none; the text names the field.
        """
        text = self.value(name).strip()
        if not text:
            return default
        if not text.isascii() or not text.isdigit() or len(text) > 15:
            raise FormatError(f"{name}: not a whole number")
        return int(text)

    def id(self, name: str = "id") -> bytes:
        """Return an id of the path as bytes.

        Raises:
            FormatError: It is none.
        """
        try:
            return bytes.fromhex(self.params[name])
        except ValueError:
            raise FormatError("no such page") from None

    @property
    def number(self) -> int:
        """Number of the page of a list, from 1."""
        text = self.query.get("page", "1")
        return min(max(1, int(text)), MAX_PAGE_NUMBER) if text.isascii() and text.isdigit() and len(text) < 9 else 1

    def t(self, text: str, **values: object) -> str:
        """Return a text of the catalogue."""
        return self.language.text(text, **values)

    def may(self, name: str) -> bool:
        """Whether this person may use a page."""
        return self.role.value in self.console.pages[name].roles

    def url(self, name: str, query: Mapping[str, object] | None = None, **params: object) -> str:
        """Return the address of a page."""
        path = self.console.pages[name].path
        for key, value in params.items():
            path = path.replace(f"{{{key}}}", str(value))
        kept = {key: value for key, value in (query or {}).items() if value not in {"", None}}
        return f"{path}?{urlencode(kept)}" if kept else path

    def go(self, name: str, query: Mapping[str, object] | None = None, **params: object) -> Response:
        """Send the browser to a page."""
        return RedirectResponse(self.url(name, query, **params), 303)

    def done(self, text: str, name: str, query: Mapping[str, object] | None = None, **params: object) -> Response:
        """Send the browser to a page that says what was done."""
        self.session.notice("done", text)
        return self.go(name, query, **params)

    def render(self, template: str, title: str, **values: Any) -> Response:  # noqa: ANN401 - of the template
        """Return a page.

        Args:
            template: Its file.
            title: Of the page, of the catalogue; never with anything about anybody in it.
            values: For the template.
        """
        text = self.console.templates.get_template(template).render(
            visit=self,
            t=self.t,
            url=self.url,
            value=self.value,
            l=self.language,
            w=self.console.words_of(self.language),
            title=title,
            page=self.page.name,
            languages=LANGUAGES,
            menu=self.console.menu(self.role),
            notices=self.session.take_notices(),
            now=self.service.node.now_ms(),
            **values,
        )
        return Response(text, self.status, media_type="text/html")

    def download(self, name: str, content: bytes | str, media_type: str) -> Response:
        """Return a file to be kept."""
        return Response(
            content, media_type=media_type, headers={"Content-Disposition": f'attachment; filename="{name}"'}
        )
