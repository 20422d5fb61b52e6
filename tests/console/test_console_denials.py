"""The denial ladder of the console, for every route: host, sign-in, role, form, and then the rules of the node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from starlette.routing import Route

from connector_psi import pki
from connector_psi.console import access
from connector_psi.console.server import Served
from connector_psi.console.wire import HEADERS, SESSION_COOKIE
from connector_psi.domain.clock import SystemClock
from connector_psi.domain.records import IdentifierType
from connector_psi.node.config import Layout
from connector_psi.node.service import Service
from connector_psi.pki import Role
from connector_psi.rpc.interceptors import LOCAL_ACCESS
from tests.console.browser import Visitor, visitor
from tests.simulation.federation import Federation, alert, declaration, person

BOX = "MSKU7143251"
OPEN = {
    ("GET", "/sign-in"),
    ("POST", "/sign-in/account"),
    ("POST", "/sign-in/certificate"),
    ("POST", "/sign-out"),
    ("POST", "/preferences"),
}
"""What somebody who is not signed in may ask for, beside what is static."""
PAGES = list(access.pages())
ACTIONS = [page for page in PAGES if page.method == "POST"]


class Scene:
    def __init__(self, root: Path) -> None:
        self.federation = Federation(root)
        self.visitors: list[Visitor] = []
        self.directory = root / "ics2"
        self.service: Service = self.federation.services["ics2"]
        self.federation.services["sis"].registration.register([alert("DE1", (IdentifierType.CONTAINER, BOX))], "system")
        self.service.registration.register([declaration("26DE0001", (IdentifierType.CONTAINER, BOX))], "system")
        self.federation.settle()
        (match,) = self.service.review.list()
        self.service.review.decide(match.match_id, person("ics2"), "seen", confirm=True)
        case = self.service.asked.open(
            match.match_id,
            person("ics2"),
            purpose="cpsi:ObjectSeizureOrEvidence",
            legal_basis="2018/1862:38",
            case_reference="DE-1",
            justification="control",
        )
        self.served = Served(self.service, "127.0.0.1:0")
        self.ids = {"match": match.match_id, "case": case.request_id.hex()}

    def path(self, page: access.Page) -> str:
        """An address of a page at which there is something."""
        what = self.ids["match"] if page.path.startswith("/matches") else self.ids["case"]
        return page.path.replace("{id}", what).replace("{index}", "3").replace("{kind}", "statistics")

    def visitor(self, role: Role | None = None, name: str = "somebody") -> Visitor:
        self.visitors.append(visitor(self.served, self.directory, role, name))
        return self.visitors[-1]

    def close(self) -> None:
        for each in self.visitors:
            each.close()
        self.served.close()
        self.federation.close()

    def size(self) -> int:
        with self.service.node.store.read() as tx:
            return self.service.node.entries.size(tx)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    made = Scene(tmp_path_factory.mktemp("denials"))
    yield made
    made.close()


def test_every_route_is_in_the_table_and_needs_a_role(scene: Scene) -> None:
    routes = scene.served.console.app._app.routes  # type: ignore[attr-defined]
    served = {
        (method, route.path) for route in routes if isinstance(route, Route) for method in route.methods - {"HEAD"}
    }
    assert served == {(page.method, page.path) for page in PAGES} | OPEN
    assert all(page.roles and page.roles <= {role.value for role in Role} for page in PAGES)
    assert len({page.name for page in PAGES}) == len(PAGES)


@pytest.mark.parametrize(
    ("page", "method"),
    [
        ("matches", "ListMatches"), ("match", "GetMatch"), ("confirm", "ConfirmMatch"), ("dismiss", "DismissMatch"), ("open_case", "OpenCase"),
        ("cases", "ListCases"), ("case", "GetCase"), ("approve", "DecideCase"), ("refuse", "DecideCase"), ("access", "ListAccess"),
        ("request_access", "RequestAccess"), ("access_request", "GetAccess"), ("grant", "DecideAccess"), ("deny", "DecideAccess"),
        ("recalls", "ListRecalls"), ("recall", "GetRecall"), ("send_recall", "SendRecall"), ("acknowledge", "AcknowledgeRecall"),
    ],
)  # fmt: skip
def test_a_page_that_does_what_an_rpc_does_is_for_the_same_roles(page: str, method: str) -> None:
    (found,) = (each for each in PAGES if each.name == page)
    assert found.roles == {str(role) for role in LOCAL_ACCESS[f"/connector_psi.rpc.v1.RegistryService/{method}"]}


def test_who_is_not_signed_in_gets_nothing(scene: Scene) -> None:
    nobody, before = scene.visitor(), scene.size()
    for page in PAGES:
        if page.method == "GET":
            answer = nobody.get(scene.path(page))
            assert (answer.status_code, answer.headers.get("location")) == (303, "/sign-in"), page.name
        else:
            assert nobody.post(scene.path(page), csrf="0" * 64).status_code == 401, page.name
    assert scene.size() == before


@pytest.mark.parametrize("role", list(Role))
def test_another_role_is_refused_every_page_that_is_not_for_it(scene: Scene, role: Role) -> None:
    somebody, before = scene.visitor(role), scene.size()
    for page in PAGES:
        path = scene.path(page)
        answer = somebody.get(path) if page.method == "GET" else somebody.post(path, csrf="")
        if role.value not in page.roles:
            assert answer.status_code == 403, (page.name, role)
            assert BOX not in answer.text
        elif page.method == "POST":
            assert answer.status_code == 403, (page.name, role)
            assert "not made for this session" in answer.text
        else:
            assert answer.status_code in {200, 404}, (page.name, role)
    assert scene.size() == before


@pytest.mark.parametrize("page", ACTIONS, ids=lambda page: page.name)
def test_a_form_that_was_not_made_for_this_session_does_nothing(scene: Scene, page: access.Page) -> None:
    role = Role(min(page.roles))
    mine, other, before = scene.visitor(role, "one"), scene.visitor(role, "two"), scene.size()
    path = scene.path(page)
    for answer in (
        mine.post(path, csrf=""),
        mine.post(path, csrf=other.csrf),
        mine.post(path, headers={"Origin": "https://elsewhere.example"}),
        mine.post(path, headers={"Origin": "null"}),
        mine.post(path, headers={"Sec-Fetch-Site": "cross-site"}),
        mine.post(path, headers={"Sec-Fetch-Site": "same-site"}),
        mine.session.post(mine.served.url + path, data={}, allow_redirects=False, timeout=30),
        mine.session.post(
            mine.served.url + path,
            data={"csrf": mine.csrf},
            headers={"Content-Type": "text/plain"},
            allow_redirects=False,
            timeout=30,
        ),
    ):
        assert answer.status_code == 403, page.name
    assert scene.size() == before


SILENT = ("SIS-ARR", "SIS-CHK", "SIS-JUD", "SIS-MIS")
"""Of which customs, the owner, gets no notice."""


def test_agreements_without_notice_show_nothing_to_anyone_but_the_data_protection_officer(scene: Scene) -> None:
    seen = set()
    for role in Role:
        somebody = scene.visitor(role)
        for page in PAGES:
            if page.method != "GET" or role.value not in page.roles:
                continue
            text = somebody.get(scene.path(page)).text
            found = [code for code in SILENT if code in text]
            if role is Role.DPO:
                seen |= {page.name} if found else set()
            else:
                assert not found, (page.name, role)
    assert {"overview", "sets", "policy", "search", "retention"} <= seen, "it is there to be hidden"


def test_a_session_ends(scene: Scene) -> None:
    console, clock = scene.served.console, scene.federation.clock
    officer = scene.visitor(Role.OFFICER)
    clock.advance(console.settings.idle_s - 5)
    assert officer.get("/matches").status_code == 200
    clock.advance(console.settings.idle_s - 5)
    assert officer.get("/matches").status_code == 200, "every request counts as use"
    clock.advance(console.settings.idle_s + 1)
    assert officer.get("/matches").status_code == 303
    busy = scene.visitor(Role.OFFICER)
    for _ in range(int(console.settings.longest_s / 600) - 1):
        clock.advance(600)
        assert busy.get("/recalls").status_code == 200
    clock.advance(601)
    assert busy.get("/recalls").status_code == 303, "however busy"
    out = scene.visitor(Role.OFFICER)
    assert out.post("/sign-out").status_code == 303
    assert out.get("/matches").status_code == 303
    for token in ("", "0" * 64, "x", "é"):
        out.session.headers["Cookie"] = f"{SESSION_COOKIE}={token}".encode().decode("latin-1")
        assert out.get("/matches").status_code == 303


def test_a_certificate_signs_in_and_its_session_is_bound_to_it(scene: Scene) -> None:
    people = Layout(scene.directory).people
    officer, nobody = scene.visitor(), scene.visitor()
    officer.session.cert = (str(people / "officer1.crt"), str(people / "officer1.key"))
    page = officer.get("/sign-in")
    assert "Your browser shows a certificate." in page.text
    token = page.text.partition('name="csrf" value="')[2][:64]
    begun = officer.post("/sign-in/certificate", csrf=token)
    assert (begun.status_code, begun.headers["location"]) == (303, "/")
    cookie = begun.headers["set-cookie"]
    assert all(word in cookie for word in (f"{SESSION_COOKIE}=", "HttpOnly", "Secure", "SameSite=strict", "Path=/"))
    assert "officer1" in officer.get("/matches").text
    stolen = officer.session.cookies[SESSION_COOKIE]
    nobody.session.headers["Cookie"] = f"{SESSION_COOKIE}={stolen}"
    assert nobody.get("/matches").status_code == 303, "the cookie alone is nothing"


@pytest.mark.parametrize("whose", ["authority", "other authority's person", "stranger"])
def test_other_certificates_sign_nobody_in(scene: Scene, tmp_path: Path, whose: str) -> None:
    clock = SystemClock()
    root = pki.ensure_test_root(scene.federation.root / "pki", clock)
    if whose == "authority":
        issued = pki.issue_authority(root, "ics2", (), clock, 30)
    elif whose == "stranger":
        issued = pki.issue_person(
            pki.ensure_test_root(tmp_path / "pki", clock), "ics2", Role.OFFICER, "officer1", clock, 30
        )
    else:
        issued = pki.issue_person(root, "sis", Role.OFFICER, "stranger", clock, 30)
    pki.save_credentials(issued, tmp_path / "c.crt")
    somebody = scene.visitor()
    somebody.session.cert = (str(tmp_path / "c.crt"), str(tmp_path / "c.key"))
    if whose == "stranger":
        with pytest.raises(requests.exceptions.ConnectionError):
            somebody.get("/sign-in")
        return
    token = somebody.get("/sign-in").text.partition('name="csrf" value="')[2][:64]
    answer = somebody.post("/sign-in/certificate", csrf=token)
    assert answer.status_code == 403
    assert SESSION_COOKIE not in somebody.session.cookies


def test_no_certificate_signs_nobody_in(scene: Scene) -> None:
    somebody = scene.visitor()
    token = somebody.get("/sign-in").text.partition('name="csrf" value="')[2][:64]
    assert somebody.post("/sign-in/certificate", csrf=token).status_code == 403
    assert somebody.post("/sign-in/certificate", csrf="0" * 64).status_code == 403


def test_only_the_own_host_is_answered(scene: Scene) -> None:
    somebody = scene.visitor(Role.OFFICER)
    for host in ("elsewhere.example", "localhost", "127.0.0.1", ""):
        answer = somebody.get("/matches", headers={"Host": host})
        assert answer.status_code == 421
        assert BOX not in answer.text


def test_what_is_not_there_and_what_is_too_large(scene: Scene) -> None:
    officer = scene.visitor(Role.OFFICER)
    for path in (
        "/nothing",
        "/static/",
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/matches/nothing",
        "/cases/00",
        "/cases/zz",
        "/recalls/zz",
    ):
        assert officer.get(path).status_code in {404, 422}, path
    assert officer.session.put(officer.served.url + "/matches", timeout=30).status_code == 405
    large = officer.post(f"/matches/{scene.ids['match']}/confirm", {"reason": "x" * (2 << 20)})
    assert large.status_code in {400, 413}


def test_every_answer_has_the_headers(scene: Scene) -> None:
    officer = scene.visitor(Role.OFFICER)
    for path in ("/", "/matches", "/nothing", "/sign-in", "/search", "/static/console.css"):
        answer = officer.get(path)
        for name, text in HEADERS.items():
            if name != "Cache-Control" or not path.startswith("/static"):
                assert answer.headers[name] == text, (path, name)
        assert "server" not in answer.headers


def test_a_defect_tells_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(**_: object) -> None:
        raise RuntimeError(f"a value: {BOX}")

    monkeypatch.setattr(scene.service.review, "inbox", broken)
    answer = scene.visitor(Role.OFFICER).get("/matches")
    assert answer.status_code == 500
    assert BOX not in answer.text
    said = "".join(capfd.readouterr())
    assert "RuntimeError" in said
    assert BOX not in said


def test_two_different_people_confirm_where_the_policy_says_so(tmp_path: Path) -> None:
    federation = Federation.__new__(
        type(
            "TwoPeople",
            (Federation,),
            {
                "edits": (
                    ("confirm: {querier_people: 1, owner_people: 1}", "confirm: {querier_people: 2, owner_people: 2}"),
                )
            },
        )
    )
    federation.__init__(tmp_path)  # type: ignore[misc]
    service = federation.services["ics2"]
    federation.services["sis"].registration.register([alert("DE1", (IdentifierType.CONTAINER, BOX))], "system")
    service.registration.register([declaration("26DE0001", (IdentifierType.CONTAINER, BOX))], "system")
    federation.settle()
    (match,) = service.review.list()
    served = Served(service, "127.0.0.1:0")
    try:
        one, two = (visitor(served, tmp_path / "ics2", Role.OFFICER, name) for name in ("one", "two"))
        again = visitor(served, tmp_path / "ics2", Role.SUPERVISOR, "one")
        path = f"/matches/{match.match_id}/confirm"
        assert one.post(path, {"reason": "seen"}).status_code == 303
        for same in (one, again):
            refused = same.post(path, {"reason": "seen again"})
            assert refused.status_code == 409, "one person with certificates of two roles is one person"
            assert "seen again" in refused.text, "what was typed is not lost"
        assert service.review.get(match.match_id)[0].state == "new"
        assert two.post(path, {"reason": "checked"}).status_code == 303
        assert service.review.get(match.match_id)[0].state == "confirmed"
    finally:
        for each in (one, two, again):
            each.close()
        served.close()
        federation.close()
