"""One browser without a window for requests and one for pages: sessions of people, forms with their token."""

from __future__ import annotations

import re
from pathlib import Path

import requests

from connector_psi.console.server import Served
from connector_psi.console.wire import SESSION_COOKIE
from connector_psi.node.config import Layout
from connector_psi.pki import PersonIdentity, Role

TOKEN = re.compile(r'name="csrf" value="([0-9a-f]{64})"')


class Visitor:
    """Somebody's browser, as far as requests go; signed in as a person if one is given."""

    def __init__(
        self, served: Served, root_cert: Path, person: PersonIdentity | None = None, way: str = "certificate"
    ) -> None:
        self.served = served
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.verify = str(root_cert)
        self.token = ""
        if person is not None:
            self.token = served.console.sessions.begin(person, way)
            self.session.headers["Cookie"] = f"{SESSION_COOKIE}={self.token}"

    @property
    def csrf(self) -> str:
        found = self.served.console.sessions.find(self.token, b"")
        assert found is not None
        return found.csrf

    def get(self, path: str, **options: object) -> requests.Response:
        return self.session.get(self.served.url + path, allow_redirects=False, timeout=30, **options)  # type: ignore[arg-type]

    def post(
        self, path: str, data: dict[str, str] | None = None, *, csrf: str | None = None, **options: object
    ) -> requests.Response:
        sent = {**(data or {}), "csrf": self.csrf if csrf is None else csrf}
        return self.session.post(self.served.url + path, data=sent, allow_redirects=False, timeout=30, **options)  # type: ignore[arg-type]

    def close(self) -> None:
        self.session.close()


def visitor(
    served: Served, directory: Path, role: Role | None = None, name: str = "somebody", way: str = "certificate"
) -> Visitor:
    """A browser of a person of the node in this directory."""
    code = served.console.service.node.authority
    person = None if role is None else PersonIdentity(code, role, name)
    return Visitor(served, Layout(directory).root_cert, person, way)
