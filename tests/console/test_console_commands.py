"""The commands around the console: console, accounts, and what serve and status say of it."""

from __future__ import annotations

import json
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.integration import live  # isort: skip  # sets up gRPC's environment before gRPC is loaded

import pyotp
import pytest
import requests

from connector_psi.node.config import Layout
from tests.integration.live import Done

PASSWORD = "correct horse battery staple\n"


def init(root: Path, *more: str) -> Path:
    directory = root / "ics2"
    done = live.run(
        "init", directory, "--authority", "ics2", "--profile", "ics2", "--pki", root / "pki",
        "--listen", f"127.0.0.1:{live.free_port()}", "--local", f"127.0.0.1:{live.free_port()}", *more,
    )  # fmt: skip
    assert done.code == 0, done
    return directory


def opened(url: str, directory: Path, path: str = "/sign-in") -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.get(url + path, verify=str(Layout(directory).root_cert), timeout=20)


def sign_in(url: str, directory: Path, person: str, code: str) -> str:
    with requests.Session() as session:
        session.trust_env = False
        session.verify = str(Layout(directory).root_cert)
        token = session.get(f"{url}/sign-in").text.partition('name="csrf" value="')[2][:64]
        data = {"id": person, "password": PASSWORD.strip(), "code": code, "csrf": token}
        return session.post(f"{url}/sign-in/account", data).text


def test_serve_serves_it_and_console_tells_where(tmp_path: Path) -> None:
    port = live.free_port()
    directory = init(tmp_path, "--console", f"127.0.0.1:{port}")
    with live.serving(directory) as (served,):
        assert set(served.ready) == {"ready", "pid", "peer", "local"}, "that line is documented"
        told = live.run("console", directory, "--json")
        assert told.json == {"pid": served.process.pid, "url": f"https://127.0.0.1:{port}"}
        assert f"https://127.0.0.1:{port}" in live.run("console", directory).out
        assert live.run("status", directory, "--json").json["console"] == f"https://127.0.0.1:{port}"
        assert "connector_psi · ics2" in opened(told.json["url"], directory).text
        assert served.stop() == (0, b"")
    with pytest.raises(requests.exceptions.ConnectionError):
        opened(told.json["url"], directory)


def test_a_node_may_have_none(tmp_path: Path) -> None:
    directory = live.make_node(tmp_path, "ics2", "ics2")
    with live.serving(directory):
        told = live.run("console", directory)
        assert told.code == 6
        assert "without a console" in told.err
        assert live.run("status", directory, "--json").json["console"] == ""


def test_it_serves_alone(tmp_path: Path) -> None:
    directory = init(tmp_path)
    command = [sys.executable, "-m", "connector_psi.cli", "console", str(directory)]
    added = add(directory, "dpo1", "dpo")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        try:
            assert select.select([process.stdout], [], [], live.START_S)[0]
            ready = json.loads(process.stdout.readline())
            assert ready["ready"] is True
            assert ready["pid"] == process.pid
            page = sign_in(ready["url"], directory, "dpo1", code(added))
            assert "Search the log" in page
            assert live.run("console", directory).code == 6, "the node is open in one process"
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(live.STOP_S) == 0


def add(directory: Path, person: str, role: str) -> str:
    done = live.run("accounts", "add", directory, person, "--role", role, "--json", stdin=PASSWORD.encode())
    assert done.code == 0, done
    assert done.json["id"] == person
    return str(done.json["otpauth"])


def code(uri: str) -> str:
    found = pyotp.parse_uri(uri)
    assert isinstance(found, pyotp.TOTP)
    return found.at(time.time())


def test_accounts(tmp_path: Path) -> None:
    directory = init(tmp_path)
    add(directory, "officer1", "officer")
    add(directory, "dpo1", "dpo")
    listed = live.run("accounts", "list", directory, "--json").json
    assert [(each["id"], each["role"], each["disabled"]) for each in listed] == [
        ("dpo1", "dpo", False),
        ("officer1", "officer", False),
    ]
    assert live.run("accounts", "disable", directory, "dpo1").code == 0
    assert "True" in live.run("accounts", "list", directory).out
    renewed = live.run("accounts", "renew", directory, "dpo1", stdin=PASSWORD.encode())
    assert "otpauth://totp/" in renewed.out
    assert not live.run("accounts", "list", directory, "--json").json[0]["disabled"]


@pytest.mark.parametrize(
    ("arguments", "stdin", "exit_code", "says"),
    [
        (("add", "DIR", "officer1", "--role", "officer"), b"short\n", 2, "12 to 256 characters"),
        (("add", "DIR", "officer1", "--role", "officer"), b"", 2, "read from standard input"),
        (("add", "DIR", "officer 1", "--role", "officer"), PASSWORD.encode(), 2, "an id is"),
        (("add", "DIR", "feed", "--role", "system"), PASSWORD.encode(), 2, "a system has a certificate"),
        (("add", "DIR", "feed", "--role", "king"), PASSWORD.encode(), 2, "role"),
        (("renew", "DIR", "nobody"), PASSWORD.encode(), 2, "none with this id"),
        (("disable", "DIR", "nobody"), b"", 2, "none with this id"),
        (("list", "ELSEWHERE"), b"", 2, "not a node directory"),
    ],
)
def test_accounts_that_do_not_do(
    lone: Path, arguments: tuple[str, ...], stdin: bytes, exit_code: int, says: str
) -> None:
    places = {"DIR": str(lone), "ELSEWHERE": str(lone / "nothing")}
    done: Done = live.run("accounts", *(places.get(word, word) for word in arguments), stdin=stdin)
    assert done.code == exit_code
    assert says in done.err.replace("\n", " ")
    assert PASSWORD.strip() not in done.err + done.out


@pytest.fixture(scope="module")
def lone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return init(tmp_path_factory.mktemp("accounts"))
