"""The command line as people and programs use it: help, exit codes, JSON, and the life of ``serve``."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration import live  # isort: skip  # sets up gRPC's environment before gRPC is loaded

import grpc
import pytest
import typer

from connector_psi import cli, pki
from connector_psi.commands import nodes
from connector_psi.domain.clock import SystemRandom
from connector_psi.keyring import Keyring
from connector_psi.node.config import Layout
from connector_psi.node.descriptor import Descriptor, encode_descriptor, parse_descriptor
from connector_psi.pki import Role
from connector_psi.rpc.local import serving_file
from connector_psi.storage.lock import DirectoryLock
from tests.adapter_samples import BOX_A, BOX_B, ENS_MRN, alert, ens, equipment, house, jsonl

ADDRESSES = ("--listen", "127.0.0.1:0", "--local", "127.0.0.1:0")
SECRET = "CSQU3054383 of Jane Doe"
PURPOSE = ("--purpose", "cpsi:ObjectSeizureOrEvidence", "--basis", "2018/1862:38")
# What a peer could write into a case to make the reader's terminal do something.
HOSTILE = "[/nothing] [link=x]C-1[/] \x1b]0;owned\x07 \u202egnp.exe"


def _commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(_commands(typer.main.get_command(cli.app)))


@pytest.fixture(scope="module")
def lone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A node that is never served, with the folder of its PKI beside it."""
    root = tmp_path_factory.mktemp("lone")
    (root / "ens.xml").write_bytes(ens(house(1, equipment(BOX_A))))
    for code in ("ics2", "sis"):
        done = live.run(
            "init", root / code, "--authority", code, "--profile", code, "--pki", root / "pki", *ADDRESSES, "--json"
        )
        assert done.json == {
            "authority": code,
            "role": {"ics2": "customs", "sis": "nsis"}[code],
            "directory": str(root / code),
            "descriptor": str(root / code / "descriptor.json"),
            "synthetic": True,
            "policy_signed_by": ["admin1", "supervisor1"],
        }
    # A command that succeeds signs the log; those that follow look at a checkpoint, and many of them fail.
    assert live.run("status", root / "ics2").code == 0
    return root / "ics2"


@dataclass
class Pair:
    """Two nodes at work that share one container."""

    ics2: Path
    sis: Path
    match: str

    def officer(self, directory: Path, name: str = "officer1") -> tuple[str, Path]:
        return "--as", Layout(directory).people / f"{name}.crt"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    root = tmp_path_factory.mktemp("pair")
    ics2, sis = live.make_node(root, "ics2", "ics2"), live.make_node(root, "sis", "sis")
    for own, other in ((ics2, sis), (sis, ics2)):
        done = live.run("peer", "add", own, other / "descriptor.json", "--json")
        assert done.json == {"authority": other.name, "agreements": live.AGREEMENTS}
    (root / "alerts.jsonl").write_bytes(jsonl(alert()))
    (root / "ens.xml").write_bytes(ens(house(1, equipment(BOX_A)), house(2, equipment(BOX_B))))
    assert live.run("ingest", sis, root / "alerts.jsonl").code == 0
    with live.serving(ics2, sis):
        assert live.run("ingest", ics2, root / "ens.xml").code == 0
        done = live.run("sync", ics2, "--wait", 30, "--json")
        assert (done.code, done.json) == (0, {"done": True, "pending_records": 0, "waiting_for": []}), done
        (found,) = live.run("matches", "list", ics2, "--json").json
        yield Pair(ics2, sis, found["match_id"])


# Help


@pytest.mark.parametrize(
    "path", [*COMMANDS, *dict.fromkeys(path[:1] for path in COMMANDS if len(path) > 1), ()], ids=" ".join
)
def test_help_teaches_every_command(path: tuple[str, ...]) -> None:
    done = live.run(*path, "--help")
    assert (done.code, done.err) == (0, "")
    assert f"connector-psi {' '.join(path)}".strip() in done.out
    command = COMMANDS.get(path)
    if command is None:
        return
    assert command.help
    for parameter in command.params:
        shown = parameter.opts[0] if parameter.param_type_name == "option" else parameter.metavar
        assert shown in done.out
        assert parameter.param_type_name == "argument" or parameter.name == "help" or parameter.help, parameter.name
    assert "--json" in done.out


def test_version_names_the_backend() -> None:
    done = live.run("--version")
    assert (done.code, bool(re.fullmatch(r"connector-psi \d+\.\d+\.\d+ \(PRF: .+\)\n", done.out))) == (0, True)


# Exit codes


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["nonsense"], id="no such command"),
        pytest.param(["status"], id="no directory"),
        pytest.param(["status", "DIR", "--nonsense"], id="no such option"),
        pytest.param(["status", "DIR/nowhere"], id="a directory that is not there"),
        pytest.param(["status", "DIR/people"], id="a directory that is no node"),
        pytest.param(["sync", "DIR", "--wait", "soon"], id="no number"),
        pytest.param(["init", "DIR", "INIT"], id="init over a node"),
        pytest.param(["init", "DIR/node.toml", "INIT"], id="init over a file"),
        pytest.param(["init", "NEW", "INIT", "--authority", "ICS2!"], id="no authority code"),
        pytest.param(["init", "NEW", "INIT", "--profile", "nowhere"], id="no such profile"),
        pytest.param(["init", "NEW", "INIT", "--listen", "nowhere"], id="no address"),
        pytest.param(["peer", "add", "DIR", "DIR/descriptor.json"], id="itself as a peer"),
        pytest.param(["peer", "add", "DIR", "DIR/policy.yaml"], id="a descriptor that is none"),
        pytest.param(["peer", "add", "DIR", "DIR/nowhere.json"], id="a descriptor that is not there"),
        pytest.param(["peer", "revoke", "DIR", "nobody"], id="a peer that is none"),
        pytest.param(["ingest", "DIR", "DIR/nowhere.xml"], id="a file that is not there"),
        pytest.param(["ingest", "DIR", "DIR/people"], id="a folder as a file"),
        pytest.param(["ingest", "DIR", "DIR/node.toml", "--format", "zip"], id="no such format"),
        pytest.param(["ingest", "DIR", "DIR/../ens.xml", "--schemas", "DIR"], id="no schemas"),
        pytest.param(["matches", "confirm", "DIR", "x", "--reason", "r"], id="nobody confirms"),
        pytest.param(["matches", "confirm", "DIR", "x", "--reason", "r", "--as", "DIR/none.crt"], id="no certificate"),
        pytest.param(["matches", "list", "DIR", "--as", "DIR/node.toml"], id="a certificate that is none"),
        pytest.param(["cases", "show", "DIR", "not hexadecimal"], id="no case id"),
        pytest.param(["log", "prove", "DIR", "9999"], id="an entry that is not there"),
        pytest.param(["policy", "check", "DIR/node.toml"], id="a policy that is none"),
        pytest.param(["identifiers", "evaluate", "DIR"], id="no labelled data"),
    ],
)
def test_a_mistake_of_the_caller_is_2_and_leaves_nothing(lone: Path, tmp_path: Path, arguments: list[str]) -> None:
    initial = ["--authority", "ics2", "--profile", "ics2", "--pki", str(lone.parent / "pki"), *ADDRESSES]
    words = [word for argument in arguments for word in (initial if argument == "INIT" else [argument])]
    words = [word.replace("DIR", str(lone)).replace("NEW", str(tmp_path / "new")) for word in words]
    before = _tree(lone)
    done = live.run(*words, "--json")
    assert done.code == 2, done
    assert _tree(lone) == before
    assert list(tmp_path.iterdir()) == []
    # The usage is click's own and goes to standard error.
    assert not done.out or set(done.json) <= {"error", "detail", "valid", "findings"}


def _tree(directory: Path) -> set[Path]:
    return {path for path in directory.rglob("*") if "data" not in path.parts}


def test_a_descriptor_that_is_not_what_it_should_be_is_2(lone: Path, tmp_path: Path) -> None:
    raw = (lone.parent / "sis" / "descriptor.json").read_bytes()
    tampered = raw.replace(b"nsis", b"europol")
    own = Keyring.create(tmp_path / "keys", SystemRandom()).signing_key
    key = own.public_key().public_bytes_raw().hex()
    honest = parse_descriptor(raw)
    signed: dict[str, Descriptor] = {
        "another root": honest.model_copy(update={"root_sha256": "0" * 64, "signing_key": key}),
        "not synthetic": honest.model_copy(update={"synthetic": False, "signing_key": key}),
        "another's key": honest,
    }
    found = {}
    for name, content in {
        "tampered": tampered,
        "cut": raw[:-20],
        **{name: encode_descriptor(descriptor, own) for name, descriptor in signed.items()},
    }.items():
        (tmp_path / "descriptor.json").write_bytes(content)
        done = live.run("peer", "add", lone, tmp_path / "descriptor.json", "--json")
        found[name] = (done.code, done.json["detail"])
    assert found == {
        "tampered": (2, "descriptor: changed after it was signed"),
        "cut": (2, "descriptor: not a descriptor.json of a node"),
        "another root": (2, "descriptor: its node was made under another root certificate"),
        "not synthetic": (2, "descriptor: a synthetic and a real node refuse each other"),
        "another's key": (2, "descriptor: changed after it was signed"),
    }
    assert live.run("peer", "list", lone, "--json").json == []


def test_some_rejected_and_the_rest_kept_is_3(lone: Path, tmp_path: Path) -> None:
    bad = alert(schengen_id="DE0000000000002", object={"type": "container", "container_number": "CSQU3054384"})
    path = tmp_path / "alerts.jsonl"
    path.write_bytes(jsonl(alert(), bad, b"{\n", alert()))
    done = live.run("ingest", lone, path, "--json")
    assert done.code == 3
    assert (
        done.out
        == json.dumps(
            {
                "accepted": 1,
                "updated": 0,
                "duplicates": 1,
                "rejected": 2,
                "errors": [
                    {
                        "file": str(path),
                        "line": 2,
                        "path": "$.object.container_number",
                        "code": "container.check_digit",
                    },
                    {"file": str(path), "line": 3, "path": None, "code": "json.malformed"},
                ],
            }
        )
        + "\n"
    )
    # The same in words, for people.
    done = live.run("ingest", lone, path)
    assert (done.code, "container.check_digit" in done.out, "CSQU3054384" in done.out) == (3, True, False)


def test_who_may_not_is_4(lone: Path, tmp_path: Path) -> None:
    mint = live.Mint(lone.parent)
    for name, cert in {
        "rogue": mint.person("ics2", Role.OFFICER, stranger=True),
        "expired": mint.person("ics2", Role.OFFICER, days_ago=60),
        "foreign": mint.person("sis", Role.OFFICER),
        "node": mint.authority("ics2"),
    }.items():
        pki.save_credentials(cert, tmp_path / f"{name}.crt")
    people = Layout(lone).people
    certs = {path.stem: path for path in (*tmp_path.glob("*.crt"), people / "dpo1.crt", people / "admin1.crt")}
    codes = {
        name: live.run("matches", "confirm", lone, "x", "--reason", "r", "--as", path, "--json")
        for name, path in certs.items()
    }
    assert {name: (done.code, done.json["error"]) for name, done in codes.items()} == dict.fromkeys(
        certs, (4, "refused")
    )
    done = live.run("matches", "confirm", lone, "x", "--reason", "r", "--as", people / "officer1.crt", "--json")
    assert (done.code, done.json["error"]) == (4, "purpose_refused")
    assert live.run("publish", lone, "--agreement", "SIS-OBJ:ics2-sis").code == 4
    assert live.run("log", "show", lone, "--as", people / "officer1.crt").code == 4


def test_a_log_that_was_changed_or_set_back_is_5(lone: Path, tmp_path: Path) -> None:
    for name in ("older", "changed"):
        shutil.copytree(lone, tmp_path / name)
    assert live.run("log", "verify", tmp_path / "older").code == 0
    # A copy of the store goes back over one that went on; the guard beside it did not go back.
    database = tmp_path / "older" / "data" / "node.db"
    kept = database.read_bytes()
    (tmp_path / "more.jsonl").write_bytes(jsonl(alert(schengen_id="DE0000000000009")))
    assert live.run("ingest", tmp_path / "older", tmp_path / "more.jsonl").code == 0
    for suffix in ("-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
    database.write_bytes(kept)
    done = live.run("log", "verify", tmp_path / "older", "--json")
    assert (done.code, done.json["verified"], len(done.json["failures"])) == (5, False, 1)
    assert live.run("status", tmp_path / "older", "--json").code == 5

    with sqlite3.connect(tmp_path / "changed" / "data" / "node.db") as connection:
        (leaf,) = connection.execute("SELECT leaf FROM log_leaves WHERE idx = 0").fetchone()
        connection.execute("UPDATE log_leaves SET leaf = ? WHERE idx = 0", (leaf.replace(b"20", b"21", 1),))
    connection.close()
    done = live.run("log", "verify", tmp_path / "changed", "--json")
    assert (done.code, list(done.json)) == (5, ["origin", "size", "root", "verified", "failures"])
    assert done.json["verified"] is False
    assert done.json["failures"]
    assert live.run("log", "verify", tmp_path / "changed").code == 5


def test_what_cannot_be_had_now_is_6(lone: Path, pair: Pair) -> None:
    lock = DirectoryLock(Layout(lone).lock)
    try:
        done = live.run("status", lone, "--json")
    finally:
        lock.release()
    assert (done.code, done.json["error"]) == (6, "unavailable")
    assert live.run("status", lone).code == 0
    done, _ = live.run_process("serve", pair.sis)
    assert (done.code, done.out) == (6, "")
    assert "another process has it open" in done.err


def test_a_wait_that_is_over_too_early_is_6(lone: Path, tmp_path: Path) -> None:
    shutil.copytree(lone, tmp_path / "ics2")
    assert live.run("peer", "add", tmp_path / "ics2", lone.parent / "sis" / "descriptor.json").code == 0
    done = live.run("sync", tmp_path / "ics2", "--wait", 0, "--json")
    assert (done.code, list(done.json)) == (6, ["done", "pending_records", "waiting_for"])
    assert (done.json["done"], done.json["waiting_for"]) == (False, live.AGREEMENTS)


@pytest.mark.parametrize("as_json", [False, True])
def test_a_defect_is_1_and_tells_no_value(lone: Path, monkeypatch: pytest.MonkeyPatch, as_json: bool) -> None:
    def defect(*_: object) -> None:
        raise KeyError(SECRET)

    monkeypatch.setattr(nodes, "open_local", defect)
    done = live.run("status", lone, *["--json"] * as_json)
    assert done.code == 1
    assert "KeyError at test_cli.py:" in done.err
    assert "Traceback" not in done.err
    assert SECRET not in done.out + done.err
    assert not as_json or done.json["error"] == "internal"


# With and without serve

READING = [
    ("status",),
    ("peer", "list"),
    ("matches", "list"),
    ("cases", "list"),
    ("access", "list"),
    ("log", "show"),
    ("log", "verify"),
    ("log", "prove", "0"),
    ("publish",),
]


@pytest.mark.parametrize("command", READING, ids=" ".join)
@pytest.mark.parametrize("served", [True, False])
def test_commands_answer_whether_or_not_the_node_is_served(
    request: pytest.FixtureRequest, command: tuple[str, ...], served: bool
) -> None:
    directory = request.getfixturevalue("pair").sis if served else request.getfixturevalue("lone")
    words = [*command[:2], directory, *command[2:]] if len(command) > 1 else [*command, directory]
    done = live.run(*words, "--json")
    assert (done.code, done.err) == (0, "")
    assert done.json is not None
    text = live.run(*words)
    assert (text.code, text.err) == (0, "")
    assert text.out


def test_the_json_of_matches_and_log_has_the_documented_keys(pair: Pair) -> None:
    (match,) = live.run("matches", "list", pair.ics2, "--json").json
    assert list(match) == ["match_id", "agreement", "record_ref", "identifier_types", "category", "state"]
    assert match == {
        "match_id": pair.match,
        "agreement": "SIS-OBJ:ics2-sis",
        "record_ref": f"{ENS_MRN}/1",
        "identifier_types": ["container"],
        "category": "sis.38.g",
        "state": "new",
    }
    log = live.run("log", "verify", pair.ics2, "--json").json
    assert list(log) == ["origin", "size", "root", "verified", "failures"]
    assert (log["origin"], log["verified"], log["failures"]) == ("connector-psi.internal/log/ics2", True, [])
    assert log["size"] > 3


def test_the_bundle_verifies_without_the_node(pair: Pair, tmp_path: Path) -> None:
    done = live.run("log", "export", pair.sis, "--evidence", tmp_path / "bundle", "--json")
    assert done.json["verified"] is True
    command = [sys.executable, "-m", "connector_psi.audit.verify", str(tmp_path / "bundle")]
    assert subprocess.run(command, capture_output=True, check=False, timeout=30).returncode == 0
    assert live.run("log", "export", pair.sis, "--evidence", tmp_path / "bundle").code == 2
    leaves = tmp_path / "bundle" / "leaves.jsonl"
    leaves.write_bytes(leaves.read_bytes().replace(b"2018", b"2019").replace(b"CONFIG", b"PURGE ", 1))
    assert subprocess.run(command, capture_output=True, check=False, timeout=30).returncode != 0


def test_a_match_becomes_a_disclosure_by_commands_alone(pair: Pair) -> None:
    def run(*words: object, code: int = 0) -> Any:
        done = live.run(*words, "--json")
        assert done.code == code, done
        return done.json

    asking = [*PURPOSE, "--reference", HOSTILE, "--justification", "j", *pair.officer(pair.ics2)]
    shown = run("matches", "show", pair.ics2, pair.match)
    assert shown["record"]["fields"]["mrn"] == [ENS_MRN]
    assert run("cases", "open", pair.ics2, pair.match, *asking, code=4)["error"] == "approval_missing"
    run("matches", "confirm", pair.ics2, pair.match, "--reason", " ", *pair.officer(pair.ics2), code=4)
    confirm = ["matches", "confirm", pair.ics2, pair.match, "--reason", "same box", *pair.officer(pair.ics2)]
    assert run(*confirm)["state"] == "confirmed"
    assert run(*confirm, code=4)["error"] == "conflict"
    case = run("cases", "open", pair.ics2, pair.match, *asking)["case_id"]
    assert run("cases", "open", pair.ics2, pair.match, *asking, code=4)["error"] == "conflict"

    _until(lambda: run("cases", "list", pair.sis, "--state", "awaiting_decision"))
    # What the peer wrote neither breaks the page nor reaches the terminal as it is.
    for page in (["cases", "list", pair.sis], ["cases", "show", pair.sis, case], ["cases", "show", pair.ics2, case]):
        text = live.run(*page)
        assert (text.code, text.err) == (0, "")
        # A narrow column may break the word.
        assert "[/" in text.out
        assert not {"\x1b", "\x07", "\u202e"} & set(text.out)
    approve = ["cases", "approve", pair.sis, case, "--reason", "checked"]
    run(*approve, *pair.officer(pair.ics2), code=4)
    assert run(*approve, *pair.officer(pair.sis, "supervisor1"))["people_approved"] == 1
    assert run(*approve, *pair.officer(pair.sis, "supervisor2"), code=4)["error"] == "conflict"
    _until(lambda: run("cases", "show", pair.ics2, case)["state"] == "disclosed")
    got = run("cases", "show", pair.ics2, case)
    assert got["fields"]["schengen_id"] == ["DE0000000000001"]
    assert "alert_reason" not in got["fields"]
    assert run("log", "verify", pair.ics2)["verified"] is run("log", "verify", pair.sis)["verified"] is True


def _until(true: Any, within_s: float = 20) -> None:
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.2)


def test_records_come_in_from_standard_input_and_from_pipes(lone: Path) -> None:
    done = live.run("ingest", lone, "-", "--json", stdin=jsonl(alert(schengen_id="DE0000000000021")))
    assert (done.code, done.json["accepted"]) == (0, 1)
    read_end, write_end = os.pipe()
    os.write(write_end, jsonl(alert(schengen_id="DE0000000000022")))
    os.close(write_end)
    try:
        done = live.run("ingest", lone, f"/dev/fd/{read_end}", "--json")
    finally:
        os.close(read_end)
    assert (done.code, done.json["accepted"]) == (0, 1)


# The life of serve


def _answers(served: live.Served) -> bool:
    cert = pki.load_credentials(Layout(served.directory).people / "admin1.crt")
    root_pem = Layout(served.directory).root_cert.read_bytes()
    with live.channel(served.local, served.directory.name, root_pem, cert) as channel:
        return live.call(channel, "/grpc.health.v1.Health/Check").status == "OK"


def test_the_life_of_serve(tmp_path: Path) -> None:
    directory = live.make_node(tmp_path, "sis", "sis")
    stale = serving_file(Layout(directory))
    with live.serving(directory) as (served,):
        pid = served.process.pid
        assert served.ready == {"ready": True, "pid": pid, "peer": served.peer, "local": served.local}
        assert json.loads(stale.read_text())["pid"] == pid
        assert _answers(served)
        before = live.run("status", directory, "--json").json
        assert served.stop() == (0, b"")
    assert not stale.exists()
    assert live.run("status", directory, "--json").json["authority"] == before["authority"]

    with live.serving(directory) as (served,):
        served.process.kill()
        served.process.wait()
    assert stale.exists()
    # Nobody serves any more, whatever the file says: the command opens the node by itself.
    assert live.run("status", directory, "--json").code == 0
    assert live.run("log", "verify", directory, "--json").json["verified"] is True
    # Nor is another process believed that got the number meanwhile.
    stale.write_text(json.dumps({"pid": os.getpid(), "peer": served.peer, "local": served.local}))
    assert live.run("status", directory, "--json").code == 0

    with live.serving(directory) as (served,):
        assert _answers(served)
        assert served.stop(signal.SIGINT) == (0, b"")


def test_serve_ends_at_once_though_a_peer_hangs(tmp_path: Path) -> None:
    ics2, sis = live.make_node(tmp_path, "ics2", "ics2"), live.make_node(tmp_path, "sis", "sis")
    live.introduce(ics2, sis)
    host, _, port = parse_descriptor((sis / "descriptor.json").read_bytes()).address.rpartition(":")
    # In place of the peer, something that accepts connections and never says a word.
    with socket.create_server((host, int(port))) as hanging, live.serving(ics2) as (served,):
        hanging.settimeout(20)
        with hanging.accept()[0]:
            start = time.monotonic()
            assert served.stop() == (0, b"")
            assert time.monotonic() - start < 8


def test_serve_on_a_port_that_is_taken_is_2(tmp_path: Path) -> None:
    directory = live.make_node(tmp_path, "sis", "sis")
    host, _, port = parse_descriptor((directory / "descriptor.json").read_bytes()).address.rpartition(":")
    with socket.create_server((host, int(port))):
        done, _ = live.run_process("serve", directory)
    assert (done.code, done.out) == (2, "")
    assert "cannot listen there" in done.err
    assert live.run("status", directory).code == 0


def test_grpc_was_set_up_before_it_was_loaded() -> None:
    assert os.environ["GRPC_SSL_CIPHER_SUITES"] == "ECDHE-PSK-AES128-CBC-SHA"
    assert grpc is not None


@pytest.mark.parametrize(
    "words",
    [
        ("log", "show", "--start", "-1"),
        ("log", "show", "--limit", "0"),
        ("sync", "--wait", "nan"),
        ("sync", "--wait", "-1"),
    ],
    ids=" ".join,
)
def test_a_number_out_of_range_is_2(lone: Path, words: tuple[str, ...]) -> None:
    noun = words[:2] if words[0] == "log" else words[:1]
    assert live.run(*noun, lone, *words[len(noun) :]).code == 2
