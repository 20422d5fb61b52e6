"""The witness and the mirror of somebody outside, as processes, in the forms of C2SP: real HTTP, real nodes, real kills."""

from __future__ import annotations

import contextlib
import http.client
import json
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from connector_psi import pki
from connector_psi.audit.checkpoint import (
    NoteSigner,
    encode_checkpoint,
    encode_vkey,
    parse_note,
    sign_note,
    verify_checkpoint,
)
from connector_psi.audit.cosignature import parse_witness_key, verify_cosignatures
from connector_psi.audit.tiles import TileTree
from connector_psi.audit.verify import main, verify_fork
from connector_psi.audit.witness import Submission, encode_submission
from connector_psi.node.service import Service
from connector_psi.rpc.client import PeerConnector
from connector_psi.witness.client import origin_hash
from tests.integration import live
from tests.simulation.federation import declaration
from tests.unit.audit.test_witness import FORK, ORIGIN, SIGNER, TREE, Tree

NAME = "dpa.example.org/w1"
WAIT_S = 30


@contextlib.contextmanager
def running(*arguments: object) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, Any]]]:
    """A command that serves, and its first line."""
    command = [sys.executable, "-m", "connector_psi.cli", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            found, _, _ = select.select([process.stdout], [], [], WAIT_S)
            line = process.stdout.readline() if found else b""
            assert line, process.stderr.read().decode() if process.stderr and process.poll() else "said nothing"
            yield process, json.loads(line)
        finally:
            if process.poll() is None:
                process.terminate()


def call(address: str, method: str, path: str, body: bytes | None = None) -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection(address, timeout=10)
    with contextlib.closing(connection):
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type") or "", answer.read()


def add(address: str, submission: Submission) -> tuple[int, str, bytes]:
    return call(address, "POST", "/add-checkpoint", encode_submission(submission))


# The witness


def test_a_witness_tells_every_case_apart_and_keeps_what_it_said(tmp_path: Path) -> None:
    folder, key = tmp_path / "witness", encode_vkey(SIGNER.vkey)
    arguments = ("witness", folder, "--listen", "127.0.0.1:0", "--name", NAME, "--log", key)
    with running(*arguments) as (process, ready):
        address = ready["listen"]
        assert (ready["logs"], parse_witness_key(ready["vkey"]).name) == ([ORIGIN], NAME)
        assert call(address, "GET", f"/{origin_hash(ORIGIN)}/checkpoint")[0] == 404
        status, kind, lines = add(address, TREE.ask(0, 5))
        assert (status, kind) == (200, "text/plain; charset=utf-8")
        note = parse_note(TREE.note(5) + lines)
        (said,) = verify_cosignatures(note, [parse_witness_key(ready["vkey"])])
        assert abs(said.time_s - time.time()) < 60
        assert add(address, TREE.ask(5, 9))[0] == 200
        stranger = NoteSigner("example.org/other", Ed25519PrivateKey.from_private_bytes(bytes([7]) * 32))
        unknown = encode_checkpoint(TREE.head(9)).replace(ORIGIN, stranger.name)
        for submission, expected in (
            (TREE.ask(5, 9, old_size=12), (400, "text/plain; charset=utf-8")),
            (
                TREE.ask(9, 12, checkpoint=TREE.note(12, NoteSigner(ORIGIN, _key(9)))),
                (403, "text/plain; charset=utf-8"),
            ),
            (Submission(0, (), sign_note(unknown, [stranger])), (404, "text/plain; charset=utf-8")),
            (TREE.ask(5, 12), (409, "text/x.tlog.size")),
            (TREE.ask(0, 12), (409, "text/x.tlog.size")),
            (TREE.ask(9, 12, proof=()), (422, "text/plain; charset=utf-8")),
            (FORK.ask(9, 12), (422, "text/plain; charset=utf-8")),
        ):
            assert add(address, submission)[:2] == expected
        assert add(address, TREE.ask(5, 12))[2] == b"9\n"
        for raw in (b"", b"old 9\n\nnothing", b"x" * 700_000):
            assert call(address, "POST", "/add-checkpoint", raw)[0] == 400
        assert call(address, "GET", "/add-checkpoint")[0] == 405
        status, _, held = call(address, "GET", f"/{origin_hash(ORIGIN)}/checkpoint")
        assert (status, held) == (200, TREE.note(9))
        process.kill()
    # What was cosigned before a kill is known after it.
    with running("witness", folder, "--listen", "127.0.0.1:0") as (_, again):
        address = again["listen"]
        assert again["vkey"] == ready["vkey"]
        assert add(address, TREE.ask(0, 12))[2] == b"9\n"
        # Two histories: told apart from a wrong size, and ended for good.
        status, kind, _ = add(address, FORK.ask(9, 9))
        assert (status, kind) == (409, "text/plain; charset=utf-8")
        assert add(address, TREE.ask(9, 12))[0] == 409
        summary = json.loads(call(address, "GET", "/")[2])
        assert [(fork["origin"], fork["size"]) for fork in summary["forks"]] == [(ORIGIN, 9)]
    (evidence,) = (folder / "evidence").iterdir()
    assert verify_fork(evidence)["forked"] is True


def _key(seed: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)


def test_a_witness_needs_a_name_once_and_listens_to_others_over_tls_alone(tmp_path: Path) -> None:
    listen = ("--listen", "127.0.0.1:0")
    unnamed = live.run("witness", tmp_path / "w", *listen)
    assert (unnamed.code, "--name" in unnamed.err) == (2, True)
    open_to_all = live.run("witness", tmp_path / "w", "--listen", "0.0.0.0:0", "--name", NAME)
    assert (open_to_all.code, "--cert" in open_to_all.err) == (2, True)
    assert live.run("witness", tmp_path / "w", *listen, "--name", "a b").code == 2
    wrong = live.run("witness", tmp_path / "w", *listen, "--name", NAME, "--log", "nonsense")
    assert wrong.code == 2
    with running("witness", tmp_path / "w", *listen, "--name", NAME) as (process, _):
        assert live.run("witness", tmp_path / "w", *listen).code == 6, "one process"
        process.terminate()
        assert process.wait(WAIT_S) == 0
    other = live.run("witness", tmp_path / "w", *listen, "--name", "dpa.example.org/w2")
    assert (other.code, NAME in other.err) == (2, True)
    (tmp_path / "w" / "witness.key").unlink()
    lost = live.run("witness", tmp_path / "w", *listen, "--name", NAME)
    assert (lost.code, "cannot be replaced" in lost.err) == (2, True)


def test_many_at_once_are_cosigned_in_one_line(tmp_path: Path) -> None:
    """The race of tlog-witness: a smaller checkpoint never replaces a larger one."""
    key = encode_vkey(SIGNER.vkey)
    with running("witness", tmp_path / "w", "--listen", "127.0.0.1:0", "--name", NAME, "--log", key) as (_, ready):
        statuses: list[int] = []
        threads = [
            Thread(target=lambda n=n: statuses.append(add(ready["listen"], TREE.ask(0, n))[0])) for n in range(1, 21)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(set(statuses)) == [200, 409]
        assert statuses.count(200) == 1


def test_a_node_has_its_log_cosigned_by_a_witness_of_its_settings(tmp_path: Path) -> None:
    directory = live.make_node(tmp_path / "nodes", "ics2", "ics2")
    descriptor = directory / "descriptor.json"
    arguments = ("witness", tmp_path / "w", "--listen", "127.0.0.1:0", "--name", NAME, "--log", descriptor)
    with running(*arguments) as (_, ready):
        with (directory / "node.toml").open("a") as settings:
            settings.write(f'\n[[witnesses]]\nvkey = "{ready["vkey"]}"\nurl = "http://{ready["listen"]}"\n')
        with live.serving(directory):
            deadline = time.monotonic() + WAIT_S
            while time.monotonic() < deadline:
                log = live.run("status", directory, "--json").json["log"]
                if log["witnesses"][NAME] == log["signed_size"] > 0:
                    break
                time.sleep(0.2)
            assert log["witnesses"] == {NAME: log["signed_size"]}
        evidence = tmp_path / "bundle"
        live.run("log", "export", directory, "--evidence", evidence)
    note = parse_note((evidence / "checkpoint").read_bytes())
    assert [s.name for s in verify_cosignatures(note, [parse_witness_key(ready["vkey"])]) if s] == [NAME]
    wrong = (directory / "node.toml").read_text().replace("http://127.0.0.1", "http://example.org")
    (directory / "node.toml").write_text(wrong)
    refused = live.run("status", directory, "--json")
    assert (refused.code, "witnesses" in refused.err) == (2, True)


def test_a_node_reaches_a_witness_over_the_projects_own_rpc_and_nobody_else_does(tmp_path: Path) -> None:
    directory = live.make_node(tmp_path / "nodes", "ics2", "ics2")
    stranger = live.make_node(tmp_path / "nodes", "sis", "sis")
    mint = live.Mint(tmp_path / "nodes")
    pki.save_credentials(mint.authority("dpa"), tmp_path / "dpa.crt")
    root = directory / "tls" / "root.crt"
    arguments = (
        "witness", tmp_path / "w", "--listen", "127.0.0.1:0", "--name", NAME, "--log", directory / "descriptor.json",
        "--rpc", "127.0.0.1:0",
    )  # fmt: skip
    assert live.run(*arguments).code == 2
    officer = directory / "people" / "officer1.crt"
    assert live.run(*arguments, "--rpc-cert", officer, "--root", root).code == 2
    with running(*arguments, "--rpc-cert", tmp_path / "dpa.crt", "--root", root) as (_, ready):
        with (directory / "node.toml").open("a") as settings:
            settings.write(f'\n[[witnesses]]\nvkey = "{ready["vkey"]}"\nurl = "grpcs://dpa@{ready["rpc"]}"\n')
        with live.serving(directory):
            deadline = time.monotonic() + WAIT_S
            while time.monotonic() < deadline:
                log = live.run("status", directory, "--json").json["log"]
                if log["witnesses"][NAME] == log["signed_size"] > 0:
                    break
                time.sleep(0.2)
            assert log["witnesses"] == {NAME: log["signed_size"]}
        root_pem = root.read_bytes()
        add_path = "/connector_psi.rpc.v1.AuditService/AddCheckpoint"
        for cert in (
            pki.load_credentials(stranger / "tls" / "node.crt"),
            pki.load_credentials(officer),
            mint.authority("ics2", stranger=True),
        ):
            with live.channel(ready["rpc"], "dpa", root_pem, cert) as connection:
                assert live.call(connection, add_path).status in {"PERMISSION_DENIED", "UNAVAILABLE"}
        with live.channel(ready["rpc"], "dpa", root_pem, pki.load_credentials(directory / "tls" / "node.crt")) as own:
            assert live.call(own, add_path).status == "OK"
            for path in live.ALL_METHODS:
                if path != add_path:
                    assert live.call(own, path).status == "PERMISSION_DENIED", path


# The mirror


@contextlib.contextmanager
def web(folder: Path) -> Iterator[str]:
    """A web server that knows nothing of logs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder)))
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def published(folder: Path, tree: Tree, size: int, leaves: str = "leaf") -> None:
    """The tiles of a test log."""

    def put(path: str, raw: bytes) -> None:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(raw)

    tiles = TileTree(put)
    for n in range(size):
        tiles.add(f"{leaves if n >= 7 else 'leaf'} {n}".encode())
    tiles.flush()
    put("checkpoint", tree.note(size))


def test_a_mirror_copies_what_any_web_server_serves_and_serves_it_cosigned(tmp_path: Path) -> None:
    published(tmp_path / "www", TREE, 9)
    key = encode_vkey(SIGNER.vkey)
    with web(tmp_path / "www") as url:
        arguments = ("mirror", tmp_path / "m", "--log", url)
        unknown = live.run(*arguments, "--name", NAME, "--once")
        assert (unknown.code, "--vkey" in unknown.err) == (2, True)
        done = live.run(*arguments, "--name", NAME, "--vkey", key, "--once", "--json")
        assert (done.code, done.json["size"]) == (0, 9)
        published(tmp_path / "www", TREE, 20)
        with running(*arguments, "--listen", "127.0.0.1:0", "--every", "0.1") as (process, ready):
            prefix = f"/{origin_hash(ORIGIN)}"
            deadline = time.monotonic() + WAIT_S
            size = 0
            while time.monotonic() < deadline and size < 20:
                status, _, raw = call(ready["listen"], "GET", f"{prefix}/checkpoint")
                size = verify_checkpoint(raw, SIGNER.vkey, ORIGIN).size if status == 200 else 0
            assert size == 20
            assert [s.name for s in verify_cosignatures(parse_note(raw), [parse_witness_key(ready["vkey"])])] == [NAME]
            for path in ("tile/0/000.p/20", "tile/entries/000.p/20"):
                assert call(ready["listen"], "GET", f"{prefix}/{path}")[2] == (tmp_path / "www" / path).read_bytes()
            for path in ("tile/0/../../checkpoint", "tile/0/001", "mirror.key", "tile/entries/%2e%2e"):
                assert call(ready["listen"], "GET", f"{prefix}/{path}")[0] == 404
            # A mirror of the mirror.
            second = live.run(
                "mirror", tmp_path / "m2", "--log", f"http://{ready['listen']}{prefix}", "--name", "x/m2", "--vkey", key,
                "--once", "--hashes", "--json",
            )  # fmt: skip
            assert (second.code, second.json["size"]) == (0, 20)
            process.terminate()
            assert process.wait(WAIT_S) == 0


@pytest.mark.parametrize("second", [9, 6, 12, 20])
def test_a_mirror_that_sees_another_history_keeps_both_notes_and_ends_for_good(tmp_path: Path, second: int) -> None:
    published(tmp_path / "www", TREE, 12)
    key = encode_vkey(SIGNER.vkey)
    with web(tmp_path / "www") as url:
        arguments = ("mirror", tmp_path / "m", "--log", url, "--every", "0.1")
        with running(*arguments, "--name", NAME, "--vkey", key) as (process, _):
            deadline = time.monotonic() + WAIT_S
            while not (tmp_path / "m" / "cosigned").exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            shutil.rmtree(tmp_path / "www")
            published(tmp_path / "www", FORK, second, leaves="other")
            if second == 6:
                # Before the fork the histories are one: an older checkpoint is no lie.
                time.sleep(1)
                assert process.poll() is None
                return
            assert process.wait(WAIT_S) == 5
        again = live.run(*arguments, "--once")
        assert (again.code, "two histories" in again.err) == (5, True)
    evidence = tmp_path / "m" / "log" / "evidence" / str(second)
    assert (evidence / "second").read_bytes() == FORK.note(second)
    assert parse_note((evidence / "first").read_bytes()).text == encode_checkpoint(TREE.head(12))
    report = verify_fork(evidence)
    assert (report["forked"], report["failures"]) == (True, [])
    assert main([str(evidence)]) == 5
    assert verify_fork(evidence, vkey=encode_vkey(NoteSigner(ORIGIN, _key(9)).vkey))["forked"] is False
    assert (evidence / "proof").exists() is (second != 12)
    if second == 12:
        return
    raw = bytearray((evidence / "proof").read_bytes())
    raw[5] ^= 1
    (evidence / "proof").write_bytes(raw)
    assert verify_fork(evidence)["forked"] is False


def test_a_source_that_lies_about_entries_is_no_fork(tmp_path: Path) -> None:
    published(tmp_path / "www", TREE, 9)
    with web(tmp_path / "www") as url:
        arguments = ("mirror", tmp_path / "m", "--log", url, "--once")
        assert live.run(*arguments, "--name", NAME, "--vkey", encode_vkey(SIGNER.vkey)).code == 0
        published(tmp_path / "www", TREE, 20, leaves="other")
        lied = live.run(*arguments)
        assert (lied.code, "do not lead to the checkpoint" in lied.err) == (5, True)
        published(tmp_path / "www", TREE, 20)
        assert live.run(*arguments).code == 0


def test_a_node_is_mirrored_by_its_auditor_and_its_tiles_are_the_same(tmp_path: Path) -> None:
    directory = live.make_node(tmp_path / "nodes", "ics2", "ics2")
    service = Service(directory, PeerConnector)
    service.registration.register([declaration(f"M{n}") for n in range(40)], "test")
    service.close()
    with live.serving(directory) as (served,):
        by = ("--as", directory / "people" / "auditor1.crt", "--root", directory / "tls" / "root.crt")
        url = f"grpcs://ics2@{served.peer}"
        named = ("--name", NAME, "--vkey", directory / "descriptor.json")
        assert live.run("mirror", tmp_path / "m", "--log", url, *named, "--once").code == 2, "no certificate"
        done = live.run("mirror", tmp_path / "m", "--log", url, *named, *by, "--once", "--json")
        assert done.code == 0, done.err
        officer = ("--as", directory / "people" / "officer1.crt", "--root", directory / "tls" / "root.crt")
        assert live.run("mirror", tmp_path / "m3", "--log", url, *named, *officer, "--once").code in {4, 6}
        tiles = live.run("log", "export", directory, "--tiles", tmp_path / "tiles", "--json")
        assert tiles.code == 0, tiles.err
        # A second export goes on with the first.
        assert live.run("log", "export", directory, "--tiles", tmp_path / "tiles").code == 0
        hashes = live.run("log", "export", directory, "--tiles", tmp_path / "hashes", "--hashes", "--json")
    size = done.json["size"]
    mine = {
        p.relative_to(tmp_path / "m" / "log"): p.read_bytes()
        for p in (tmp_path / "m" / "log" / "tile").rglob("*")
        if p.is_file()
    }
    for path, raw in mine.items():
        if str(path).endswith(f".p/{size}"):
            assert (tmp_path / "tiles" / path).read_bytes() == raw
    assert hashes.code == 0
    assert not (tmp_path / "hashes" / "tile" / "entries").exists()


def test_a_witness_takes_another_key_of_a_log_only_once_somebody_removed_the_one_it_knows(tmp_path: Path) -> None:
    folder, renewed = tmp_path / "w", NoteSigner(ORIGIN, _key(9))
    arguments = ("witness", folder, "--listen", "127.0.0.1:0", "--name", NAME)
    with running(*arguments, "--log", encode_vkey(SIGNER.vkey)) as (_, ready):
        assert add(ready["listen"], TREE.ask(0, 9))[0] == 200
    refused = live.run(*arguments, "--log", encode_vkey(renewed.vkey))
    assert (refused.code, "another key" in refused.err) == (2, True)
    (folder / "logs" / origin_hash(ORIGIN)).unlink()
    with running(*arguments, "--log", encode_vkey(renewed.vkey)) as (_, ready):
        assert add(ready["listen"], TREE.ask(0, 12))[0] == 403
        assert add(ready["listen"], FORK.ask(0, 9, checkpoint=FORK.note(9, renewed)))[0] == 200
