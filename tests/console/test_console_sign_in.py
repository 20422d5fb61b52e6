"""Signing in: local accounts, a real OpenID Connect provider, and how often somebody may try."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pyotp
import pytest
import requests

from connector_psi.console.accounts import STEP_S, Accounts
from connector_psi.console.attempts import FREE, FREE_OF_ADDRESS, LONGEST_WAIT_S, Attempts
from connector_psi.console.oidc import Provider as Client
from connector_psi.console.server import Served
from connector_psi.console.sessions import MAX_OF_ONE_PERSON, Sessions
from connector_psi.console.wire import SESSION_COOKIE
from connector_psi.domain.clock import SystemClock, SystemRandom
from connector_psi.errors import ConfigError, ConflictError, InputError, RefusedError, UnavailableError
from connector_psi.node.config import Layout, OidcSection, parse_config
from connector_psi.node.service import Service
from connector_psi.node.setup import init_node
from connector_psi.pki import PersonIdentity, Role
from connector_psi.rpc.client import PeerConnector
from tests.console.browser import Visitor, visitor
from tests.console.provider import DPO, OFFICER, Provider, User, sign_in
from tests.integration import live

PASSWORD = "correct horse battery staple"
NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
NOBODY = User("nobody.here", "a long password of nobody", "")


# Accounts


def accounts(tmp_path: Path, key: bytes = bytes(32)) -> Accounts:
    return Accounts(tmp_path / "console" / "accounts.json", key, "ics2", SystemRandom())


def codes(uri: str) -> pyotp.TOTP:
    found = pyotp.parse_uri(uri)
    assert isinstance(found, pyotp.TOTP)
    return found


def test_an_account_signs_its_person_in_once_a_code(tmp_path: Path) -> None:
    held = accounts(tmp_path)
    totp = codes(held.add("officer1", Role.OFFICER, PASSWORD, NOW))
    code = totp.at(NOW)
    assert held.verify("officer1", PASSWORD, code, NOW) == PersonIdentity("ics2", Role.OFFICER, "officer1")
    assert held.verify("officer1", PASSWORD, code, NOW) is None, "a code counts once"
    assert held.verify("officer1", PASSWORD, totp.at(NOW - timedelta(seconds=STEP_S)), NOW) is None, (
        "nor an older one then"
    )
    later = NOW + timedelta(seconds=STEP_S)
    assert held.verify("officer1", PASSWORD, totp.at(later), later) is not None


@pytest.mark.parametrize(
    ("person", "password", "shift_s"),
    [
        ("officer1", "another password here", 0),
        ("officer2", PASSWORD, 0),
        ("officer1", PASSWORD, 3 * STEP_S),
        ("officer1", PASSWORD, -3 * STEP_S),
        ("", "", 0),
    ],
)
def test_nothing_else_signs_in(tmp_path: Path, person: str, password: str, shift_s: int) -> None:
    held = accounts(tmp_path)
    totp = codes(held.add("officer1", Role.OFFICER, PASSWORD, NOW))
    assert held.verify(person, password, totp.at(NOW + timedelta(seconds=shift_s)), NOW) is None
    assert held.verify("officer1", PASSWORD, "000000" if totp.at(NOW) != "000000" else "000001", NOW) is None


def test_a_clock_may_be_a_step_off(tmp_path: Path) -> None:
    held = accounts(tmp_path)
    totp = codes(held.add("officer1", Role.OFFICER, PASSWORD, NOW))
    assert held.verify("officer1", PASSWORD, totp.at(NOW - timedelta(seconds=STEP_S)), NOW) is not None
    assert held.verify("officer1", PASSWORD, totp.at(NOW + timedelta(seconds=STEP_S)), NOW) is not None


def test_a_disabled_account_and_a_renewed_one(tmp_path: Path) -> None:
    held = accounts(tmp_path)
    old = codes(held.add("officer1", Role.OFFICER, PASSWORD, NOW))
    held.disable("officer1")
    assert held.find("officer1") is None
    assert held.verify("officer1", PASSWORD, old.at(NOW), NOW) is None
    new = codes(held.renew("officer1", "another password here"))
    assert held.verify("officer1", "another password here", old.at(NOW), NOW) is None
    assert held.verify("officer1", "another password here", new.at(NOW), NOW) is not None
    assert accounts(tmp_path).find("officer1") is not None, "another process sees it"


def test_the_file_tells_no_secret(tmp_path: Path) -> None:
    held = accounts(tmp_path)
    totp = codes(held.add("officer1", Role.OFFICER, PASSWORD, NOW))
    path = tmp_path / "console" / "accounts.json"
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text()
    assert PASSWORD not in text
    assert totp.secret not in text
    assert totp.byte_secret().hex() not in text
    assert PASSWORD not in repr(held.all())
    assert "officer1" not in repr(held.all())
    with pytest.raises(ConfigError, match=r"accounts\.json: not sealed under the keys of this node"):
        accounts(tmp_path, b"k" * 32).verify("officer1", PASSWORD, totp.at(NOW), NOW)


@pytest.mark.parametrize(
    ("person", "role", "password", "says"),
    [
        ("officer 1", Role.OFFICER, PASSWORD, "an id is"),
        ("", Role.OFFICER, PASSWORD, "an id is"),
        ("officer1", Role.SYSTEM, PASSWORD, "a system has a certificate"),
        ("officer1", Role.OFFICER, "short", "12 to 256"),
        ("officer1", Role.OFFICER, "x" * 300, "12 to 256"),
        ("officer1", Role.OFFICER, "aaaaaaaaaaaaaa", "too easy"),
        ("officer1", Role.OFFICER, "my name is Officer1!", "too easy"),
    ],
)
def test_what_is_no_account(tmp_path: Path, person: str, role: Role, password: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as raised:
        accounts(tmp_path).add(person, role, password, NOW)
    assert password not in str(raised.value)
    assert not (tmp_path / "console").exists()


def test_an_id_is_given_once(tmp_path: Path) -> None:
    held = accounts(tmp_path)
    held.add("officer1", Role.OFFICER, PASSWORD, NOW)
    with pytest.raises(ConflictError):
        held.add("officer1", Role.DPO, PASSWORD, NOW)
    with pytest.raises(InputError, match="none with this id"):
        held.renew("officer2", PASSWORD)
    with pytest.raises(InputError, match="none with this id"):
        held.disable("officer2")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"accounts": [{"id": "x"}]}', '{"accounts": [], "more": 1}'])
def test_a_file_that_is_none_is_told_by_its_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "console").mkdir()
    (tmp_path / "console" / "accounts.json").write_text(text)
    with pytest.raises(ConfigError, match=r"accounts\.json: not a file of accounts"):
        accounts(tmp_path).all()


# How often


def test_attempts_wait_longer_and_longer() -> None:
    now = 0.0
    attempts = Attempts(lambda: now)
    for _ in range(FREE):
        assert attempts.wait_s("officer1", "10.0.0.1") == 0
        attempts.failed("officer1", "10.0.0.1")
    waits = []
    for _ in range(12):
        attempts.failed("officer1", "10.0.0.1")
        waits.append(attempts.wait_s("officer1", "10.0.0.2"))
        now += waits[-1]
        assert attempts.wait_s("officer1", "10.0.0.2") == 0
    assert waits == sorted(waits)
    assert waits[:4] == [2.0, 4.0, 8.0, 16.0]
    assert waits[-1] == LONGEST_WAIT_S
    attempts.succeeded("officer1")
    assert attempts.wait_s("officer1", "10.0.0.2") == 0


def test_an_address_waits_whatever_the_names() -> None:
    attempts = Attempts(lambda: 0.0)
    for number in range(FREE_OF_ADDRESS + 1):
        assert attempts.wait_s("", "10.0.0.1") == 0
        attempts.failed(f"name{number}", "10.0.0.1")
    assert attempts.wait_s("", "10.0.0.1") > 0
    assert attempts.wait_s("", "10.0.0.2") == 0


def test_sessions_of_one_person_are_few() -> None:
    sessions = Sessions(lambda: NOW, SystemRandom(), idle_s=60, longest_s=600)
    tokens = [sessions.begin(PersonIdentity("ics2", Role.DPO, "dpo1"), "account") for _ in range(MAX_OF_ONE_PERSON + 2)]
    assert [sessions.find(token, b"") is not None for token in tokens] == [False] * 2 + [True] * MAX_OF_ONE_PERSON
    assert len({session.csrf for token in tokens[2:] if (session := sessions.find(token, b""))}) == MAX_OF_ONE_PERSON


# A served console


def make_served(root: Path, more: str = "") -> tuple[Service, Served]:
    directory = root / "ics2"
    init_node(
        directory, authority="ics2", profile="ics2", pkidir=root / "pki", listen="127.0.0.1:7101", local="127.0.0.1:7201",
        clock=SystemClock(), random=SystemRandom(), console=f"127.0.0.1:{live.free_port()}",
    )  # fmt: skip
    layout = Layout(directory)
    layout.config.write_text(layout.config.read_text() + more)
    service = Service(directory, PeerConnector)
    return service, Served(service, service.node.config.console.listen)


def shown_token(answer: requests.Response) -> str:
    return answer.text.partition('name="csrf" value="')[2][:64]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    service, made = make_served(tmp_path_factory.mktemp("signin"))
    yield made
    made.close()
    service.close()


def somebody(served: Served) -> Visitor:
    return visitor(served, served.console.service.node.layout.root)


def test_an_account_signs_in_over_https(served: Served) -> None:
    totp = codes(served.console.accounts.add("dpo1", Role.DPO, PASSWORD, NOW))
    dpo = somebody(served)
    token = shown_token(dpo.get("/sign-in"))
    step = int(time.time()) // STEP_S
    begun = dpo.post(
        "/sign-in/account", {"id": "dpo1", "password": PASSWORD, "code": totp.at(step * STEP_S)}, csrf=token
    )
    assert (begun.status_code, begun.headers["location"]) == (303, "/")
    assert all(
        word in begun.headers["set-cookie"] for word in (f"{SESSION_COOKIE}=", "HttpOnly", "Secure", "SameSite=strict")
    )
    page = dpo.get("/search")
    assert page.status_code == 200
    assert "dpo1" in page.text
    served.console.accounts.disable("dpo1")
    assert dpo.get("/search").status_code == 303, "whose account is disabled is signed out"
    dpo.close()


def test_wrong_attempts_are_told_alike_and_wait(served: Served) -> None:
    served.console.accounts.add("officer7", Role.OFFICER, PASSWORD, NOW)
    thief = somebody(served)
    answers = []
    for person in ("officer7", "nobody7"):
        for _ in range(FREE):
            page = thief.get("/sign-in")
            answer = thief.post(
                "/sign-in/account",
                {"id": person, "password": "guessed wrong again", "code": "123456"},
                csrf=shown_token(page),
            )
            answers.append((answer.status_code, answer.text.count("That did not sign you in.")))
    assert set(answers) == {(403, 1)}, "whether the id is known or not"
    page = thief.get("/sign-in")
    thief.post(
        "/sign-in/account",
        {"id": "officer7", "password": "guessed wrong again", "code": "123456"},
        csrf=shown_token(page),
    )
    page = thief.get("/sign-in")
    waiting = thief.post(
        "/sign-in/account", {"id": "officer7", "password": PASSWORD, "code": "123456"}, csrf=shown_token(page)
    )
    assert waiting.status_code == 429
    assert int(waiting.headers["retry-after"]) >= 1
    thief.close()


def test_preferences_lead_nowhere_else(served: Served) -> None:
    person = somebody(served)
    token = shown_token(person.get("/sign-in"))
    for back in (
        "https://elsewhere.example/",
        "//elsewhere.example/",
        "/\\elsewhere.example",
        "javascript:alert(1)",
        "",
    ):
        answer = person.post("/preferences", {"back": back, "language": "de", "theme": "dark"}, csrf=token)
        assert answer.headers["location"] in {"/", "/sign-in"}, back
    assert 'lang="de"' in person.get("/sign-in").text
    person.post("/preferences", {"language": "xx", "theme": "<script>"}, csrf=token)
    assert 'lang="de"' in person.get("/sign-in").text
    person.close()


# OpenID Connect


class Single:
    """A console, and a provider of another package as a process of its own."""

    def __init__(self, root: Path) -> None:
        port = live.free_port()
        self.provider = Provider(
            root / "provider", f"https://127.0.0.1:{port}/sign-in/oidc/back", users=(OFFICER, DPO, NOBODY)
        )
        self.provider.start()
        directory = root / "ics2"
        init_node(
            directory, authority="ics2", profile="ics2", pkidir=root / "pki", listen="127.0.0.1:7103", local="127.0.0.1:7203",
            clock=SystemClock(), random=SystemRandom(), console=f"127.0.0.1:{port}",
        )  # fmt: skip
        layout = Layout(directory)
        (directory / "console").mkdir(exist_ok=True)
        (directory / "console" / "secret").write_text(self.provider.client_secret + "\n")
        layout.config.write_text(
            layout.config.read_text()
            + f'sign_in = ["oidc"]\n[console.oidc]\nissuer = "{self.provider.issuer}"\n'
            + f'client_id = "{self.provider.client_id}"\nclient_secret_file = "console/secret"\n'
        )
        self.service = Service(directory, PeerConnector)
        self.served = Served(self.service, self.service.node.config.console.listen)

    def visitor(self) -> Visitor:
        return somebody(self.served)

    def walk(self, person: Visitor, user: User) -> str:
        """Where the provider sends a browser back to, after its pages."""
        begun = person.get("/sign-in/oidc")
        assert begun.status_code == 303
        with requests.Session() as session:
            session.trust_env = False
            return sign_in(session, begun.headers["location"], user.name, user.password)

    def client(self, **changes: str) -> Client:
        section = OidcSection.model_validate(
            {
                "issuer": self.provider.issuer,
                "client_id": self.provider.client_id,
                "client_secret_file": "console/secret",
                **changes,
            }
        )
        node = self.service.node
        return Client(section, node.layout.root, "ics2", self.provider.redirect_uri, node.clock.now, node.random)


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Single]:
    made = Single(tmp_path_factory.mktemp("oidc"))
    yield made
    made.served.close()
    made.service.close()
    made.provider.stop()


@pytest.mark.parametrize(("user", "page"), [(OFFICER, "/tasks"), (DPO, "/search")])
def test_a_person_signs_in_at_the_provider(single: Single, user: User, page: str) -> None:
    person = single.visitor()
    assert "Sign in with your organisation" in person.get("/sign-in").text
    back = single.walk(person, user)
    arrived = person.get(back.removeprefix(single.served.url))
    assert arrived.status_code == 200
    assert 'content="0;url=/"' in arrived.text, (
        "a page of ours goes on: a redirect from elsewhere takes no strict cookie along"
    )
    assert "SameSite=strict" in arrived.headers["set-cookie"]
    shown = person.get(page)
    assert shown.status_code == 200
    assert user.name in shown.text
    again = single.visitor()
    assert again.get(back.removeprefix(single.served.url)).status_code == 403, (
        "the answer is for the browser that began"
    )
    assert person.get(back.removeprefix(single.served.url)).status_code == 403, "and it counts once"
    for each in (person, again):
        each.close()


def test_the_request_has_what_it_must(single: Single) -> None:
    person = single.visitor()
    begun = person.get("/sign-in/oidc")
    asked = parse_qs(urlsplit(begun.headers["location"]).query)
    assert asked["response_type"] == ["code"]
    assert asked["code_challenge_method"] == ["S256"]
    assert asked["redirect_uri"] == [f"{single.served.url}/sign-in/oidc/back"]
    assert set(asked["scope"][0].split()) == {"openid", "profile"}
    assert all(len(asked[name][0]) >= 43 for name in ("state", "nonce", "code_challenge"))
    cookie = begun.headers["set-cookie"]
    assert asked["state"][0] not in cookie
    assert "SameSite=lax" in cookie
    person.close()


@pytest.mark.parametrize("spoiled", ["state", "code", "no code", "error", "no cookie", "other cookie"])
def test_an_answer_that_is_not_the_providers_signs_nobody_in(single: Single, spoiled: str) -> None:
    person, other = single.visitor(), single.visitor()
    told = parse_qs(urlsplit(single.walk(person, OFFICER)).query)
    sent = {name: values[0] for name, values in told.items()}
    if spoiled == "state":
        sent["state"] = "0" * 64
    elif spoiled == "code":
        sent["code"] = sent["code"][::-1]
    elif spoiled == "no code":
        del sent["code"]
    elif spoiled == "error":
        sent = {"state": sent["state"], "error": "access_denied"}
    if spoiled in {"no cookie", "other cookie"}:
        if spoiled == "other cookie":
            other.get("/sign-in/oidc")
        person, other = other, person
    answer = person.get("/sign-in/oidc/back?" + urlencode(sent))
    assert answer.status_code == 403
    assert SESSION_COOKIE not in person.session.cookies
    for each in (person, other):
        each.close()


def test_who_has_no_role_there_is_refused(single: Single) -> None:
    person = single.visitor()
    answer = person.get(single.walk(person, NOBODY).removeprefix(single.served.url))
    assert answer.status_code == 403
    assert "no role of this console" in answer.text
    assert NOBODY.name not in answer.text
    person.close()


def test_an_id_token_is_for_this_client_this_attempt_and_this_issuer(single: Single) -> None:
    def finish(client: Client, attempt: str, url: str) -> PersonIdentity:
        return client.finish(attempt, urlsplit(url).query)

    def walk(client: Client) -> tuple[str, str]:
        url, attempt = client.begin()
        with requests.Session() as session:
            session.trust_env = False
            return attempt, sign_in(session, url, OFFICER.name, OFFICER.password)

    right = single.client()
    attempt, url = walk(right)
    assert finish(right, attempt, url) == PersonIdentity("ics2", Role.OFFICER, OFFICER.name)
    attempt, url = walk(right)
    with pytest.raises(RefusedError, match="did not begin"):
        finish(single.client(), attempt, url)
    with pytest.raises(RefusedError, match="did not begin"):
        finish(right, attempt[:-2] + "00", url)
    with pytest.raises(UnavailableError, match="does not answer as one does"):
        single.client(issuer=single.provider.issuer + "/x").begin()
    other_claim = single.client(id_claim="email")
    attempt, url = walk(other_claim)
    with pytest.raises(RefusedError, match="no id that certificates could have"):
        finish(other_claim, attempt, url)
    _, keys = right._discovered()
    attempt, url = walk(right)
    with pytest.raises(RefusedError, match="another attempt"):
        right._claims(_token_of(single, url, right, attempt), keys, "0" * 64)


def _token_of(single: Single, url: str, client: Client, attempt: str) -> str:
    """The ID token of an answer, taken with the attempt's own verifier."""
    opened = client._opened(attempt)
    with client._client() as asking:
        token = asking.fetch_token(
            client._discovered()[0]["token_endpoint"], grant_type="authorization_code", code=parse_qs(urlsplit(url).query)["code"][0], code_verifier=opened["verifier"]
        )  # fmt: skip
    text = str(token["id_token"])
    assert json.loads(_decoded(text.split(".")[1]))["nonce"] == opened["nonce"]
    return text


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@pytest.mark.parametrize("kind", ["none", "HS256 with the public key", "another key", "changed"])
def test_a_token_that_the_provider_did_not_sign_is_refused(single: Single, kind: str) -> None:
    from joserfc import jwt
    from joserfc.jwk import OctKey, RSAKey

    client = single.client()
    _, keys = client._discovered()
    now = int(time.time())
    claims = {
        "iss": single.provider.issuer,
        "aud": single.provider.client_id,
        "sub": "1",
        "iat": now,
        "exp": now + 60,
        "nonce": "n",
    }
    if kind == "none":
        text = ".".join(_encoded(json.dumps(each).encode()) for each in ({"alg": "none", "typ": "JWT"}, claims)) + "."
    elif kind.startswith("HS256"):
        text = jwt.encode(
            {"alg": "HS256"}, claims, OctKey.import_key(json.dumps(keys.as_dict()).encode()), algorithms=["HS256"]
        )
    else:
        text = jwt.encode({"alg": "RS256"}, claims, RSAKey.generate_key(2048, private=True))
        if kind == "changed":
            head, body, _ = text.split(".")
            text = f"{head}.{body}."
    with pytest.raises(RefusedError, match="does not verify"):
        client._claims(text, keys, "n")


def test_a_provider_that_is_away_is_told(tmp_path: Path) -> None:
    section = OidcSection(issuer=f"http://127.0.0.1:{live.free_port()}/o", client_id="console")
    client = Client(section, tmp_path, "ics2", "https://127.0.0.1/back", SystemClock().now, SystemRandom())
    with pytest.raises(UnavailableError, match="does not answer"):
        client.begin()


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ('sign_in = ["oidc"]', "go together"),
        ('[console.oidc]\nissuer = "https://x.example"\nclient_id = "c"', "go together"),
        ('sign_in = ["oidc"]\n[console.oidc]\nissuer = "http://x.example"\nclient_id = "c"', "this machine only"),
        ('listen = "0.0.0.0:1"', "needed where listen is a wildcard"),
        ('listen = "127.0.0.1:99999"', "at most 65535"),
        ('url = "http://x.example"', "url"),
        ('zone = "Mars/Olympus"', "not a time zone"),
        ("sign_in = []", "sign_in"),
        ("idle_s = 1", "idle_s"),
    ],
)
def test_settings_that_do_not_do(lines: str, says: str) -> None:
    text = '[node]\nauthority = "ics2"\nprofile = "ics2"\nrole = "customs"\nlisten = "127.0.0.1:1"\nlocal = "127.0.0.1:2"\nsynthetic = true\n'
    with pytest.raises(ConfigError, match=says):
        parse_config(f"{text}[console]\n{lines}\n".encode(), "node.toml")
