"""``ingest --follow`` and ``matches watch``: what is put into a folder is taken in once it is whole, and nothing is lost on the way."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.integration import live  # isort: skip  # sets up gRPC's environment before gRPC is loaded

import itertools

import pytest

from connector_psi.commands import following, intake
from connector_psi.commands.following import NOT_REGULAR, Folder, Follower
from connector_psi.commands.waiting import FIRST_PAUSE_S
from connector_psi.errors import ConfigError, UnavailableError
from connector_psi.node.service import Service
from connector_psi.rpc.client import PeerConnector
from connector_psi.storage import queried
from tests.adapter_samples import BOX_A, BOX_B, alert, ens, equipment, house, jsonl

WAIT_S = 20.0
GOOD = ens(house(1, equipment(BOX_A)))
PNRGOV = b"UNA:+.?*'UNB+IATA:1+LH+DE+261125:1200+1++PNRGOV'UNH+1+PNRGOV:11:1:IA+X'MSG+:22'"


MAPPING = """[source]
name = "boxes"
system = "AFIS"
category = "afis.container"
kind = "sql"
url = "sqlite:///{database}"
query = "SELECT id, box, changed FROM boxes"
watermark = "changed"

[record]
ref = "id"
version = "changed"

[[identifier]]
type = "container"
column = "box"
"""


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def eventually(true: Callable[[], object]) -> None:
    end = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


# --- The folder -------------------------------------------------------------------------------------------------------


@pytest.fixture
def drop(tmp_path: Path) -> Path:
    made = tmp_path / "drop"
    made.mkdir()
    return made


def names(folder: Folder) -> list[str]:
    return [found.path.name for found in folder.look()[0]]


def test_a_file_is_whole_once_it_did_not_change_for_the_time(drop: Path) -> None:
    clock = Time()
    folder = Folder(drop, 2.0, clock)
    (drop / "b").write_bytes(b"1")
    (drop / "a").write_bytes(b"1")
    assert names(folder) == []
    clock.now += 1.9
    with (drop / "a").open("ab") as still:
        still.write(b"2")
    assert names(folder) == []
    clock.now += 0.2
    assert names(folder) == ["b"]
    clock.now += 1.9
    assert names(folder) == ["a", "b"]
    # The same size at another time is another file.
    os.utime(drop / "b", (1, 1))
    assert names(folder) == ["a"]


@pytest.mark.parametrize("name", [".a.xml", "a.xml.part", "a.tmp", "A.TMP", "a.filepart"])
def test_a_file_under_the_name_of_an_unfinished_one_is_left_until_it_is_renamed(drop: Path, name: str) -> None:
    folder = Folder(drop, 0.0)
    (drop / name).write_bytes(b"1")
    assert folder.look() == ([], [])
    (drop / name).rename(drop / "z.xml")
    assert names(folder) == ["z.xml"]


def test_what_is_no_regular_file_is_reported_once_and_again_only_if_it_is_another(drop: Path, tmp_path: Path) -> None:
    folder = Folder(drop, 0.0)
    (tmp_path / "secret").write_bytes(b"1")
    (drop / "link").symlink_to(tmp_path / "secret")
    (drop / "folder").mkdir()
    os.mkfifo(drop / "pipe")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(drop / "socket"))
    (drop / "done").mkdir()
    assert folder.look() == ([], [(name, NOT_REGULAR) for name in ("folder", "link", "pipe", "socket")])
    assert folder.look() == ([], [])
    (drop / "link").unlink()
    assert folder.look() == ([], [])
    (drop / "link").symlink_to(tmp_path / "secret")
    assert folder.look() == ([], [("link", NOT_REGULAR)])


def test_a_name_that_is_taken_gets_a_number(drop: Path) -> None:
    folder = Folder(drop, 0.0)
    for turn, problems in enumerate(([], [], [{"code": "x"}], [{"code": "y"}])):
        (drop / "a.b.xml").write_bytes(b"%d" % turn)
        ((file,), _) = folder.look()
        folder.move(file, problems)
    assert {path.name: path.read_bytes() for path in (drop / "done").iterdir()} == {"a.b.xml": b"0", "a.1.b.xml": b"1"}
    assert {path.name for path in (drop / "rejected").iterdir()} == {
        "a.b.xml", "a.b.xml.errors.json", "a.1.b.xml", "a.1.b.xml.errors.json",
    }  # fmt: skip
    assert json.loads((drop / "rejected/a.1.b.xml.errors.json").read_text()) == [{"code": "y"}]


# --- Following, in this process ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return live.make_node(tmp_path_factory.mktemp("follow"), "ics2", "ics2")


class Running:
    """A follower in a thread."""

    def __init__(self, node: Path, drop: Path, files: list[Path], **options: Any) -> None:
        self.stop = threading.Event()
        settings = {"settle_s": 0.05, "every_s": 0.2, "as_json": True, "stop": self.stop, **options}
        self.follower = Follower(node, drop, files, settings.pop("format_name", "auto"), None, **settings)
        self.unusable: bool | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        self.unusable = self.follower.run()

    def end(self) -> None:
        self.stop.set()
        self.thread.join(WAIT_S)
        assert not self.thread.is_alive()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "POLL_S", 0.05)


@contextmanager
def running(node: Path, drop: Path, *files: Path, **options: Any) -> Iterator[Running]:
    made = Running(node, drop, list(files), **options)
    try:
        yield made
    finally:
        made.end()


def refs(node: Path) -> int:
    service = Service(node, PeerConnector)
    try:
        return int(str(service.status()["records"]))
    finally:
        service.close()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_files_are_taken_in_moved_and_told_by_line(node: Path, drop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = drop.parent / "first.jsonl"
    first.write_bytes(GOOD)
    (drop / "a.xml").write_bytes(ens(house(1, equipment(BOX_A)), house(2, equipment(BOX_B))))
    (drop / "b.bin").write_bytes(b"no format that is known")
    (drop / "c.edi").write_bytes(PNRGOV)
    (drop / "d.toml").write_bytes(b'[source]\nkind = "sql"\nurl = "sqlite:///x.db"\n')
    (drop / "link").symlink_to(first)
    with running(node, drop, first) as run:
        eventually((drop / "rejected/d.toml").exists)
        (drop / "late.xml").write_bytes(GOOD)
        eventually((drop / "done/late.xml").exists)
    assert run.unusable is True
    told = {Path(line["file"]).name: line for line in lines(capsys)}
    assert [*told] == ["link", "first.jsonl", "a.xml", "b.bin", "c.edi", "d.toml", "late.xml"]
    assert set(told["a.xml"]) == {"file", "accepted", "updated", "duplicates", "rejected", "errors"}
    # Its first house is the one that was taken in from the file named on the command line.
    assert (told["first.jsonl"]["accepted"], told["a.xml"]["errors"], told["late.xml"]["errors"]) == (1, [], [])
    assert [problem["code"] for name in ("c.edi", "d.toml", "link") for problem in told[name]["errors"]] == [
        "purpose_refused", "file.mapping", NOT_REGULAR,
    ]  # fmt: skip
    assert sorted(path.name for path in (drop / "done").iterdir()) == ["a.xml", "late.xml"]
    for name in ("b.bin", "c.edi", "d.toml"):
        assert (drop / "rejected" / name).exists()
        assert json.loads((drop / f"rejected/{name}.errors.json").read_text()) == told[name]["errors"]
    assert (drop / "link").is_symlink()
    assert first.exists()


def test_a_crash_between_taking_in_and_moving_takes_it_in_again(
    node: Path, drop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (drop / "x.xml").write_bytes(GOOD)

    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "move", killed)
        follower = Follower(node, drop, [], "auto", None, settle_s=0.0, every_s=1, as_json=True, stop=threading.Event())
        with pytest.raises(Killed):
            follower.run()
    before = refs(node)
    with running(node, drop):
        eventually((drop / "done/x.xml").exists)
    assert refs(node) == before
    (line,) = lines(capsys)
    assert (line["accepted"], line["updated"], line["duplicates"]) == (0, 0, 1)


def test_a_node_that_is_away_is_waited_for_and_the_file_stays(
    node: Path, drop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tries: list[float] = []

    def away(*_arguments: object, **_named: object) -> None:
        tries.append(time.monotonic())
        raise UnavailableError("local port: unavailable")

    (drop / "w.xml").write_bytes(GOOD)
    with monkeypatch.context() as patch:
        patch.setattr(following, "ingest_file", away)
        made = Running(node, drop, [])
        eventually(lambda: len(tries) >= 3)
    assert (drop / "w.xml").exists()
    pauses = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert pauses[0] > FIRST_PAUSE_S * 0.9
    assert pauses[1] > pauses[0] * 1.3
    eventually((drop / "done/w.xml").exists)
    made.end()
    assert made.unusable is False
    said = capsys.readouterr().err
    assert (said.count("waiting for it"), said.count("there again")) == (1, 1)


def test_a_file_that_is_written_to_while_it_is_read_is_taken_in_again(
    node: Path, drop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, whole = drop / "grows.jsonl", jsonl(alert())
    path.write_bytes(whole)
    read: list[int] = []

    def ingest_file(client: Any, file: Path, *arguments: Any, **named: Any) -> None:
        intake.ingest_file(client, file, *arguments, **named)
        read.append(file.stat().st_size)
        if len(read) == 1:
            with file.open("ab") as more:
                more.write(whole)

    monkeypatch.setattr(following, "ingest_file", ingest_file)
    with running(node, drop):
        eventually(lambda: (drop / "done/grows.jsonl").exists() or (drop / "rejected/grows.jsonl").exists())
    assert read == [len(whole), 2 * len(whole)]


def test_what_cannot_be_read_or_moved_is_told_once_and_left(
    node: Path, drop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    access = os.access
    monkeypatch.setattr(
        following.os, "access", lambda path, mode: not str(path).endswith("locked.xml") and access(path, mode)
    )
    (drop / "locked.xml").write_bytes(GOOD)
    # Where the folder of what is done should be, there is a file.
    (drop / "done").write_bytes(b"")
    (drop / "stays.xml").write_bytes(GOOD)
    with running(node, drop):
        told: list[dict[str, Any]] = []
        eventually(lambda: told.extend(lines(capsys)) or len(told) >= 2)
        time.sleep(0.5)
    told += lines(capsys)
    assert [(Path(line["file"]).name, line["errors"][0]["code"]) for line in told] == [
        ("locked.xml", "file.unreadable"),
        ("stays.xml", "file.not_moved"),
    ]
    assert sorted(path.name for path in drop.iterdir()) == ["done", "locked.xml", "stays.xml"]


def test_a_mapping_is_read_again_and_again_from_where_it_ended(
    node: Path, drop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database = tmp_path / "own.db"
    with sqlite3.connect(database) as own:
        own.execute("CREATE TABLE boxes (id INTEGER PRIMARY KEY, box TEXT, changed TEXT)")
        own.execute("INSERT INTO boxes VALUES (1, 'CSQU3054383', '2026-01-01T00:00:00Z')")
    mapping = tmp_path / "mapping.toml"
    mapping.write_text(MAPPING.format(database=database))
    with running(node, drop, mapping):
        told: list[dict[str, Any]] = []
        eventually(lambda: told.extend(lines(capsys)) or told)
        with sqlite3.connect(database) as own:
            own.execute("INSERT INTO boxes VALUES (2, 'MSCU1234566', '2026-01-02T00:00:00Z')")
        eventually(lambda: told.extend(lines(capsys)) or len(told) > 1)
        database.rename(tmp_path / "gone.db")
        time.sleep(0.5)
        (tmp_path / "gone.db").rename(database)
        with sqlite3.connect(database) as own:
            own.execute("INSERT INTO boxes VALUES (3, 'TGHU1234567', '2026-01-03T00:00:00Z')")
        eventually(lambda: told.extend(lines(capsys)) or sum(line["accepted"] for line in told) == 3)
    assert {Path(line["file"]).name for line in told} == {"mapping.toml"}
    assert not any(line["errors"] for line in told)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--follow", "nowhere"], "not a folder"),
        (["--follow", "{drop}", "--format", "mapping"], "name the mapping as FILE"),
        (["-", "--follow", "{drop}"], "standard input"),
        ([], "name a FILE"),
    ],
)
def test_what_cannot_be_followed_is_2(node: Path, drop: Path, options: list[str], said: str) -> None:
    done = live.run("ingest", node, *(option.format(drop=drop) for option in options), "--json")
    assert done.code == 2
    assert said in done.json["detail"]


def test_a_refused_system_is_4_before_anything_is_followed(node: Path, drop: Path) -> None:
    with pytest.raises(ConfigError):
        Running(node, drop, [], format_name="no such format")
    assert live.run("ingest", node, "--follow", drop, "--format", "pnr", "--json").code == 4


# --- As processes -----------------------------------------------------------------------------------------------------


class Command:
    """A command that runs until it is told to end; its lines of JSON are read one by one."""

    def __init__(self, *arguments: object) -> None:
        words = [sys.executable, "-m", "connector_psi.cli", *map(str, arguments)]
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        found, _, _ = select.select([self.process.stdout], [], [], WAIT_S * 2)
        assert found, "nothing was said"
        value: dict[str, Any] = json.loads(self.process.stdout.readline())
        return value

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        code = self.process.wait(WAIT_S)
        self.close()
        return code

    def close(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


def test_both_commands_go_on_over_a_restart_of_serve_and_end_with_0(tmp_path: Path, drop: Path) -> None:
    node = live.make_node(tmp_path, "ics2", "ics2")
    service = Service(node, PeerConnector)
    with service.node.store.write() as tx:
        for number in (1, 2):
            _put(service, tx, number)
    service.close()
    commands: list[Command] = []
    try:
        with live.serving(node):
            commands = [
                follow := Command("ingest", node, "--follow", drop, "--settle", "0.1", "--json"),
                watch := Command("matches", "watch", node, "--after", "1", "--json"),
            ]
            (drop / "a.xml").write_bytes(GOOD)
            assert follow.line()["accepted"] == 1
            value = watch.line()
            assert set(value) == {
                "match_id", "agreement", "record_ref", "identifier_types", "category", "state", "band", "corroborators",
                "found", "resume_token",
            }  # fmt: skip
            assert (value["match_id"][:2], value["resume_token"]) == ("02", 2)
        # Away: neither command opens the node itself, so `serve` finds its directory free.
        (drop / "b.xml").write_bytes(GOOD)
        service = Service(node, PeerConnector)
        with service.node.store.write() as tx:
            _put(service, tx, 3)
        time.sleep(1.0)
        service.close()
        assert (drop / "b.xml").exists()
        with live.serving(node):
            assert follow.line()["duplicates"] == 1
            assert watch.line()["resume_token"] == 3
            assert (drop / "done/b.xml").exists()
            assert [follow.end(signal.SIGTERM), watch.end(signal.SIGINT)] == [0, 0]
    finally:
        for command in commands:
            command.close()


def test_a_node_that_is_not_served_is_watched_by_opening_it(tmp_path: Path) -> None:
    node = live.make_node(tmp_path, "ics2", "ics2")
    service = Service(node, PeerConnector)
    with service.node.store.write() as tx:
        _put(service, tx, 1)
    service.close()
    watch = Command("matches", "watch", node, "--json")
    try:
        assert watch.line()["resume_token"] == 1
        assert watch.end(signal.SIGTERM) == 0
    finally:
        watch.close()
    # The directory is free again.
    assert live.run("matches", "watch", node, "--after", "7", "--json").code == 2


def _put(service: Service, tx: Any, number: int) -> None:
    queried.put_match(
        service.node.store,
        tx,
        identity=bytes([number]) * 32,
        match_id=f"{number:02x}" * 16,
        agreement="SIS-OBJ:ics2-sis",
        epoch=1,
        record_id=number,
        payload={
            "ticket_id": "00", "redeem": [], "types": ["container"], "evidence": [], "category": "sis.38.g", "record_ref": "M1",
        },
        now_ms=1,
    )  # fmt: skip
