"""A real OpenID Connect provider as a process on loopback: Django with Django OAuth Toolkit, its pages for passwords and consent.

Run as a script, this module is that process; imported, it starts and stops one, and walks through its pages.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, urljoin, urlsplit

import requests

if TYPE_CHECKING:
    import httpx

HOST = "127.0.0.1"
START_S, STOP_S, ASK_S = 30.0, 5.0, 2.0
ROLE_CLAIM = "connector_psi_role"
MAX_STEPS = 12
"""A page for the password, one for consent, what leads from one to the next, and some to spare."""


@dataclass(frozen=True)
class User:
    """Somebody whom the provider knows."""

    name: str
    password: str
    role: str
    """Of the claim; empty for a person who has none."""


OFFICER = User("officer.lind", "a long password of an officer", "officer")
DPO = User("dpo.marsh", "a long password of a data protection officer", "dpo")
USERS = (OFFICER, DPO)


class SignInError(Exception):
    """The provider keeps the person on its own pages."""


# The process as tests see it


class Provider:
    """A provider with one confidential client. Every start is with new keys and nobody signed in, at the same issuer.

    Args:
        directory: For its configuration, database and log; made if missing.
        redirect_uri: Where it sends people back to, compared as it is.
        client_id: Of the one client.
        client_secret: Of the one client; by default a new one.
        users: Whom it knows.
    """

    def __init__(
        self,
        directory: Path,
        redirect_uri: str,
        *,
        client_id: str = "console",
        client_secret: str = "",
        users: Sequence[User] = USERS,
    ) -> None:
        self.directory = directory.resolve()
        self.redirect_uri = redirect_uri
        self.client_id = client_id
        self.client_secret = client_secret or secrets.token_urlsafe(32)
        self.users = {user.name: user for user in users}
        self._listening: socket.socket | None = _listen(0)
        self.port: int = self._listening.getsockname()[1]
        self.issuer = f"http://{HOST}:{self.port}/o"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def discovery(self) -> str:
        return f"{self.issuer}/.well-known/openid-configuration"

    @property
    def log(self) -> Path:
        return self.directory / "provider.log"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, and wait until it describes itself."""
        assert self._process is None
        config = self._configure()
        # It is given the open socket: no other process can take the port in between.
        listening = self._listening or _listen(self.port)
        self._listening = None
        with listening, self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(config), str(listening.fileno())],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[listening.fileno()],
                start_new_session=True,
            )
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it and what it started, by force where it does not end by itself. Does nothing where it does not run."""
        if self._listening is not None:
            self._listening.close()
            self._listening = None
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            # Not waited for yet, so the group is still its own.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _configure(self) -> Path:
        self.directory.mkdir(parents=True, exist_ok=True)
        database, config = self.directory / "provider.sqlite", self.directory / "provider.json"
        database.unlink(missing_ok=True)
        config.touch(mode=0o600)
        config.write_text(
            json.dumps(
                {
                    "issuer": self.issuer,
                    "database": str(database),
                    "client": {
                        "client_id": self.client_id,
                        "client_secret": self.client_secret,
                        "redirect_uris": self.redirect_uri,
                    },
                    "users": [asdict(user) for user in self.users.values()],
                },
                indent=2,
            )
        )
        return config

    def _wait(self) -> None:
        assert self._process is not None
        until = time.monotonic() + START_S
        with requests.Session() as session:
            session.trust_env = False
            while self._process.poll() is None and time.monotonic() < until:
                try:
                    session.get(self.discovery, timeout=ASK_S).raise_for_status()
                except requests.RequestException:
                    time.sleep(0.05)
                else:
                    return
        raise RuntimeError(f"the provider does not answer:\n{self.log.read_text(errors='replace')[-4_000:]}")


def sign_in(
    session: httpx.Client | requests.Session, authorize_url: str, user: str, password: str, *, consent: bool = True
) -> str:
    """Walk through the provider's pages without a browser; return where it sends the browser back to, with code and state.

    A person who does not consent, and a request that the provider refuses at once, go back too, with an error.

    Raises:
        SignInError: It does not take the password, or the request.
    """
    import lxml.html

    here: dict[str, Any] = {"allow_redirects" if isinstance(session, requests.Session) else "follow_redirects": False}
    back = parse_qs(urlsplit(authorize_url).query)["redirect_uri"][0]
    tried = False
    answer = session.get(authorize_url, **here)
    for _ in range(MAX_STEPS):
        if "Location" in answer.headers:
            url: str = urljoin(str(answer.url), answer.headers["Location"])
            if url.startswith(f"{back}?"):
                return url
            answer = session.get(url, **here)
            continue
        page: Any = lxml.html.document_fromstring(answer.text)
        if answer.status_code != requests.codes.ok or not page.forms:
            raise SignInError(f"{answer.status_code}: {' '.join(page.text_content().split())}")
        form = page.forms[0]
        values = dict(form.form_values())
        if "password" in form.fields:
            if tried:
                raise SignInError("the provider does not know such a person with such a password")
            values |= {"username": user, "password": password}
            tried = True
        elif consent:
            values["allow"] = "Authorize"
        answer = session.post(urljoin(str(answer.url), form.action or ""), data=values, **here)
    raise SignInError("the provider asks for more and more")


def _listen(port: int) -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((HOST, port))
    listening.listen(64)
    return listening


# The process itself

BASE_PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>{% block title %}Provider of identities{% endblock %}</title></head>
<body><main>{% block content %}{% endblock %}</main></body>
</html>
"""
PASSWORD_PAGE = """{% extends "oauth2_provider/base.html" %}
{% block content %}
<h1>Sign in</h1>
<form method="post">{% csrf_token %}{{ form.as_p }}<button type="submit">Sign in</button></form>
{% endblock %}
"""


def serve(config: dict[str, Any], listening: socket.socket) -> None:
    """Be the provider until a signal ends it."""
    import django
    import uvicorn
    from django.conf import settings

    settings.configure(**_settings(config))
    django.setup()
    _fill(config)

    from django.core.asgi import get_asgi_application

    server = uvicorn.Server(
        uvicorn.Config(get_asgi_application(), lifespan="off", ws="none", timeout_graceful_shutdown=1)
    )
    server.run(sockets=[listening])


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    loaders = [
        (
            "django.template.loaders.locmem.Loader",
            {"oauth2_provider/base.html": BASE_PAGE, "registration/login.html": PASSWORD_PAGE},
        ),
        "django.template.loaders.app_directories.Loader",
    ]
    apps = ("django.contrib.contenttypes", "django.contrib.auth", "oauth2_provider")
    return {
        "SECRET_KEY": secrets.token_urlsafe(50),
        "ALLOWED_HOSTS": [HOST],
        "INSTALLED_APPS": apps,
        # Tables as the models are, without the history of how they became so: a second of every start.
        "MIGRATION_MODULES": {app.rpartition(".")[2]: None for app in apps},
        "DATABASES": {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": config["database"]}},
        "DEFAULT_AUTO_FIELD": "django.db.models.BigAutoField",
        "PASSWORD_HASHERS": ["django.contrib.auth.hashers.ScryptPasswordHasher"],
        "MIDDLEWARE": [
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        "SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies",
        # Cookies belong to hosts, not to ports: names that the console on this host does not use.
        "SESSION_COOKIE_NAME": "provider_session",
        "CSRF_COOKIE_NAME": "provider_csrf",
        "TEMPLATES": [
            {"BACKEND": "django.template.backends.django.DjangoTemplates", "OPTIONS": {"loaders": loaders}},
        ],
        "ROOT_URLCONF": _Urls(),
        "LOGIN_URL": "/sign-in/",
        "USE_TZ": True,
        "OAUTH2_PROVIDER": {
            "OIDC_ENABLED": True,
            "OIDC_ISS_ENDPOINT": config["issuer"],
            "OIDC_RSA_PRIVATE_KEY": _new_key(),
            "OIDC_RESPONSE_TYPES_SUPPORTED": ["code"],
            "OAUTH2_VALIDATOR_CLASS": _Validator(),
            "SCOPES": {"openid": "Who you are", "profile": "Your name and your role"},
            "DEFAULT_SCOPES": ["openid"],
            "PKCE_REQUIRED": True,
            "ALLOWED_REDIRECT_URI_SCHEMES": ["https", "http"],
            "COMPLIANT_BCP_RFC9700_IMPLICIT_GRANT": True,
            "COMPLIANT_BCP_RFC9700_PASSWORD_GRANT": True,
            "COMPLIANT_BCP_RFC9700_PKCE_METHOD": True,
            "COMPLIANT_BCP_RFC9700_ACCESS_TOKEN_TRANSPORT": True,
            "COMPLIANT_BCP_RFC9700_AUTHZ_RESPONSE_ISS": True,
            "COMPLIANT_BCP_RFC9700_TOKEN_STORAGE": True,
        },
    }


class _Urls:
    """The pages of Django and of its toolkit, which can be loaded only once there are settings."""

    @property
    def urlpatterns(self) -> list[Any]:
        from django.contrib.auth.views import LoginView
        from django.urls import include, path

        return [path("sign-in/", LoginView.as_view()), path("o/", include("oauth2_provider.urls"))]


class _Validator:
    """Makes the toolkit's validator, with claims of a person's name and role."""

    def __call__(self) -> Any:
        from oauth2_provider.oauth2_validators import OAuth2Validator

        class Validator(OAuth2Validator):  # type: ignore[misc]  # it has no types
            oidc_claim_scope = OAuth2Validator.oidc_claim_scope | {ROLE_CLAIM: "profile"}

            def get_additional_claims(self, request: Any) -> dict[str, str]:
                claims = {"preferred_username": request.user.get_username()}
                if role := request.user.groups.first():
                    claims[ROLE_CLAIM] = role.name
                return claims

        return Validator()


def _new_key() -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    return (
        rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        .decode()
    )


def _fill(config: dict[str, Any]) -> None:
    from django.contrib.auth.models import Group
    from django.contrib.auth.models import User as Account
    from django.core.management import call_command
    from oauth2_provider.models import Application

    call_command("migrate", run_syncdb=True, verbosity=0)
    Application.objects.create(
        **config["client"],
        name="the console",
        client_type=Application.CLIENT_CONFIDENTIAL,
        authorization_grant_type=Application.GRANT_AUTHORIZATION_CODE,
        algorithm=Application.RS256_ALGORITHM,
    )
    for user in config["users"]:
        account = Account.objects.create_user(user["name"], password=user["password"])
        if user["role"]:
            account.groups.add(Group.objects.get_or_create(name=user["role"])[0])


if __name__ == "__main__":
    serve(json.loads(Path(sys.argv[1]).read_text()), socket.socket(fileno=int(sys.argv[2])))
