"""R2 and R3: flipped bits, restored backups, two instances on one log, and a disk that takes nothing any more.

What would change an answer is found: the node does not start, or ``log verify`` names the place. Nobody signs a second history.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from connector_psi.audit.merkle import root as tree_root
from connector_psi.domain.records import IdentifierType
from connector_psi.errors import AuditError, LogForkError, StorageError, UnavailableError
from connector_psi.node.service import Service
from connector_psi.rpc import tls
from connector_psi.rpc.client import PeerClient, PeerConnector
from connector_psi.rpc.server import Ports
from tests.integration.live import Served, introduce, make_node, run
from tests.simulation.faults import READ_ONLY, make_query, unwritable
from tests.simulation.federation import Federation, alert, declaration

SEED = 20
FLIPS = 40
RACES = 10
WITHIN_S = 2.0
CONTAINER = (IdentifierType.CONTAINER, "CSQU3054383")


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two nodes that published, queried and signed; closed."""
    root = tmp_path_factory.mktemp("lived")
    federation = Federation(root)
    federation.services["sis"].registration.register([alert("A1", CONTAINER)], "test")
    federation.services["ics2"].registration.register([declaration("D1", CONTAINER)], "test")
    federation.settle(2)
    federation.close()
    return root


@pytest.fixture
def node_dir(lived: Path, tmp_path: Path) -> Path:
    """A copy of one of them, to be damaged."""
    shutil.copytree(lived / "sis", tmp_path / "sis")
    return tmp_path / "sis"


def opened(directory: Path) -> Service:
    return Service(directory, PeerConnector)


def verified(directory: Path) -> tuple[int, bool]:
    """Exit code and verdict of ``log verify``."""
    done = run("log", "verify", directory, "--json")
    return done.code, bool(done.json.get("verified"))


def database(directory: Path) -> Path:
    return directory / "data" / "node.db"


# --- bits


class Bits:
    """A node that is open, and a second connection to its database that damages it."""

    def __init__(self, directory: Path) -> None:
        self.service = opened(directory)
        self.draw = random.Random(SEED)
        self.db = sqlite3.connect(database(directory), isolation_level=None)

    def close(self) -> None:
        self.db.close()
        self.service.close()

    def failures(self) -> list[str]:
        report = self.service.oversight.verify()
        assert report["verified"] is (not report["failures"])
        return report["failures"]  # type: ignore[return-value]

    def flip(self, table: str, column: str, rows: str = "") -> list[str]:
        """Flip one random bit in one random row, and return what ``log verify`` says; then flip it back."""
        (key, value) = self.draw.choice(self.db.execute(f"SELECT rowid, {column} FROM {table} {rows}").fetchall())
        raw = bytearray(value.encode() if isinstance(value, str) else value)
        bit = self.draw.randrange(8 * len(raw))
        raw[bit // 8] ^= 1 << bit % 8
        changed = raw.decode("latin-1") if isinstance(value, str) else bytes(raw)
        update = f"UPDATE {table} SET {column} = ? WHERE rowid = ?"
        self.db.execute(update, (changed, key))
        found = self.failures()
        self.db.execute(update, (value, key))
        return found


@pytest.fixture(scope="module")
def bits(lived: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bits]:
    directory = tmp_path_factory.mktemp("bits") / "sis"
    shutil.copytree(lived / "sis", directory)
    made = Bits(directory)
    assert made.failures() == []
    yield made
    assert made.failures() == [], "every flip was undone"
    made.close()


NEWEST = "ORDER BY size DESC LIMIT 1"


@pytest.mark.parametrize(
    ("table", "column", "rows"),
    [
        ("log_leaves", "leaf", ""),
        ("log_nodes", "hash", ""),
        ("log_bodies", "sealed", ""),
        ("log_bodies", "wrapped_key", ""),
        ("log_bodies", "key_id", ""),
        ("log_checkpoints", "note", NEWEST),
    ],
)
def test_every_flipped_bit_of_the_log_is_found(bits: Bits, table: str, column: str, rows: str) -> None:
    for _ in range(FLIPS):
        assert bits.flip(table, column, rows) != []


@pytest.mark.parametrize("table", ["log_leaves", "log_nodes", "log_bodies"])
@pytest.mark.parametrize("change", ["DELETE FROM {0} WHERE idx = 1", "UPDATE {0} SET idx = idx + 1000 WHERE idx = 1"])
def test_a_row_that_is_gone_or_moved_is_found(bits: Bits, table: str, change: str) -> None:
    bits.db.execute("BEGIN IMMEDIATE")
    held = bits.db.execute(f"SELECT * FROM {table} WHERE idx = 1").fetchall()
    bits.db.execute("COMMIT")
    bits.db.execute(change.format(table))
    try:
        assert bits.failures() != []
    finally:
        bits.db.execute(f"DELETE FROM {table} WHERE idx IN (1, 1001)")
        bits.db.executemany(f"INSERT INTO {table} VALUES ({','.join('?' * len(held[0]))})", held)


def test_every_flipped_bit_of_the_guard_is_found_and_stops_the_node(lived: Path, tmp_path: Path) -> None:
    draw = random.Random(SEED)
    directory = tmp_path / "sis"
    shutil.copytree(lived / "sis", directory)
    guard = directory / "data" / "log.guard"
    sound = guard.read_bytes()
    for _ in range(FLIPS):
        bit = draw.randrange(8 * len(sound))
        raw = bytearray(sound)
        raw[bit // 8] ^= 1 << bit % 8
        guard.write_bytes(raw)
        with pytest.raises(LogForkError):
            opened(directory)
    assert verified(directory) == (5, False)
    guard.unlink()
    assert verified(directory) == (5, False)
    guard.write_bytes(sound)
    assert verified(directory) == (0, True)


def test_the_command_line_names_the_place(node_dir: Path) -> None:
    with closing(sqlite3.connect(database(node_dir), isolation_level=None)) as db:
        db.execute("UPDATE log_bodies SET sealed = zeroblob(length(sealed)) WHERE idx = 2")
    done = run("log", "verify", node_dir, "--json")
    assert (done.code, done.json["verified"]) == (5, False)
    assert done.json["failures"] == ["leaf 2: sealed body is not the one sealed for it"]


def test_a_file_that_is_no_database_any_more_is_an_error_and_no_answer(node_dir: Path) -> None:
    raw = bytearray(database(node_dir).read_bytes())
    raw[:4096] = random.Random(SEED).randbytes(4096)
    database(node_dir).write_bytes(raw)
    with pytest.raises(StorageError):
        opened(node_dir)
    assert run("log", "verify", node_dir, "--json").code == 6


def test_a_tree_that_does_not_continue_what_was_signed_stops_a_running_node(node_dir: Path) -> None:
    service = opened(node_dir)
    try:
        with closing(sqlite3.connect(database(node_dir), isolation_level=None)) as db:
            # The first of every level: one of them is what the root is made of.
            db.execute("UPDATE log_nodes SET hash = zeroblob(32) WHERE idx = 0")
        with pytest.raises(LogForkError):
            service.tick_log()
        uses: list[Callable[[], Any]] = [
            lambda: service.registration.register([alert("A2", CONTAINER)], "test"),
            lambda: service.publishing.get_manifest("ics2", "SIS-OBJ:ics2-sis"),
            lambda: service.evaluation.evaluate(make_query(1)),
            service.tick_publish,
            service.tick_query,
            service.tick_cases,
            service.oversight.checkpoint,
        ]
        for use in uses:
            with pytest.raises(AuditError):
                use()
        assert service.oversight.verify()["verified"] is False, "and it still says why"
    finally:
        service.close()


def test_a_checkpoint_that_is_signed_while_the_log_is_verified_is_no_failure(
    node_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, main = opened(node_dir), threading.current_thread()
    guard = service.node.log._guard
    read = guard.highest

    def meanwhile() -> None:
        service.registration.register([alert("A2", CONTAINER)], "test")
        service.tick_log()

    def busy() -> tuple[int, bytes] | None:
        if threading.current_thread() is main:
            other = threading.Thread(target=meanwhile)
            other.start()
            other.join()
        return read()

    monkeypatch.setattr(guard, "highest", busy)
    try:
        assert service.oversight.verify()["failures"] == []
    finally:
        service.close()


# --- backups


@pytest.mark.parametrize("later", ["signed", "killed after the guard moved"])
def test_an_older_backup_is_not_signed_again(node_dir: Path, later: str) -> None:
    backup = node_dir.parent / "backup"
    shutil.copy(database(node_dir), backup)
    service = opened(node_dir)
    service.registration.register([alert("A2", CONTAINER)], "test")
    if later == "signed":
        service.tick_log()
    else:
        with service.node.store.read() as tx:
            size = service.node.entries.size(tx)
            digest = tree_root(size, lambda level, i: service.node.entries.read_node(tx, level, i))
            service.node.log._guard.highest()
        service.node.log._guard.advance(size, digest)
    service.close()
    newest, guard = database(node_dir).read_bytes(), (node_dir / "data" / "log.guard").read_bytes()
    shutil.copy(backup, database(node_dir))
    for _ in range(2):
        with pytest.raises(LogForkError):
            opened(node_dir)
    assert verified(node_dir) == (5, False)
    assert run("status", node_dir).code == 5
    assert (node_dir / "data" / "log.guard").read_bytes() == guard
    database(node_dir).write_bytes(newest)
    assert verified(node_dir) == (0, True)


def test_a_backup_that_went_on_by_itself_is_another_history(node_dir: Path) -> None:
    """The clone grows to the size of the original: same sizes, other leaves."""
    clone = node_dir.parent / "clone"
    shutil.copytree(node_dir, clone)
    for directory in (node_dir, clone):
        service = opened(directory)
        service.registration.register([alert(f"only in {directory.name}", CONTAINER)], "test")
        service.tick_log()
        service.close()
    shutil.copy(database(clone), database(node_dir))
    with pytest.raises(LogForkError):
        opened(node_dir)


# --- two instances


def test_a_second_instance_is_refused_while_the_first_lives(node_dir: Path) -> None:
    first = opened(node_dir)
    try:
        with pytest.raises(UnavailableError):
            opened(node_dir)
        first.registration.register([alert("A2", CONTAINER)], "test")
        first.tick_log()
    finally:
        first.close()
    second = opened(node_dir)
    assert second.oversight.verify()["verified"]
    second.close()


def test_of_two_that_start_at_once_at_most_one_writes_and_the_log_stays_one(node_dir: Path) -> None:
    written = 0
    for race in range(RACES):
        meet = Barrier(2, timeout=10)

        def start(name: str, race: int = race, meet: Barrier = meet) -> int:
            meet.wait()
            try:
                service = opened(node_dir)
            except UnavailableError:
                return 0
            try:
                service.registration.register([alert(f"{race} {name}", CONTAINER)], "test")
                service.tick_log()
            finally:
                service.close()
            return 1

        with ThreadPoolExecutor(2) as pool:
            won = sum(pool.map(start, ("a", "b")))
        assert won >= 1
        written += won
    service = opened(node_dir)
    assert service.oversight.verify()["verified"]
    assert service.status()["records"] == 1 + written
    service.close()


def test_of_two_processes_on_one_directory_one_serves(tmp_path: Path) -> None:
    directory = make_node(tmp_path, "ics2", "ics2")
    introduce(directory)
    processes = [Served(directory) for _ in range(2)]
    try:
        deadline = time.monotonic() + 30
        while all(p.process.poll() is None for p in processes) and time.monotonic() < deadline:
            time.sleep(0.05)
        (loser,) = [p for p in processes if p.process.poll() is not None]
        (winner,) = [p for p in processes if p is not loser]
        assert loser.process.returncode == 6
        winner.wait()
        assert verified(directory) == (0, True)
        assert winner.stop(signal.SIGTERM)[0] == 0
    finally:
        for process in processes:
            process.end()


# --- no space


def test_without_space_a_peer_is_told_unavailable_at_once_and_answered_afterwards(lived: Path, tmp_path: Path) -> None:
    for code in ("sis", "ics2"):
        shutil.copytree(lived / code, tmp_path / code)
    sis, ics2 = opened(tmp_path / "sis"), opened(tmp_path / "ics2")
    ports = Ports(sis, peer="127.0.0.1:0", local="127.0.0.1:0")
    ports.serving(yes=True)
    client = PeerClient("sis", tls.channel(ports.peer_address, "sis", ics2.node.credentials, ics2.node.root_pem))
    query = make_query(1)
    try:
        size = _size(sis)
        with unwritable(sis, *READ_ONLY):
            before = time.monotonic()
            with pytest.raises(UnavailableError, match="unavailable"):
                client.evaluate(query)
            assert time.monotonic() - before < WITHIN_S
        assert _size(sis) == size
        first = client.evaluate(query)
        assert client.evaluate(query) == first
        assert _size(sis) == size + 1
    finally:
        client.close()
        ports.stop(1)
        sis.close()
        ics2.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 24 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", place], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("this machine does not let the test mount a file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_on_a_disk_that_is_really_full_nothing_leaves_and_space_brings_the_node_back(
    lived: Path, tmp_path: Path, small_disk: Path
) -> None:
    """R3: UNAVAILABLE within 2 s, nothing lost or logged twice, itself again within 10 s of space."""
    shutil.copytree(lived / "ics2", tmp_path / "ics2")
    shutil.copytree(lived / "sis", small_disk / "sis")
    sis, ics2 = opened(small_disk / "sis"), opened(tmp_path / "ics2")
    ports = Ports(sis, peer="127.0.0.1:0", local="127.0.0.1:0")
    ports.serving(yes=True)
    client = PeerClient("sis", tls.channel(ports.peer_address, "sis", ics2.node.credentials, ics2.node.root_pem))
    filler = small_disk / "filler"
    try:
        before = _size(sis)
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        answered, refused = [], 0
        for number in range(1, 60):
            begun = time.monotonic()
            try:
                answered.append((make_query(number), client.evaluate(make_query(number))))
            except UnavailableError:
                refused += 1
            assert time.monotonic() - begun < WITHIN_S
        # What little room there was in its files was used, and then nothing was answered any more.
        assert refused > 20
        assert _size(sis) == before + len(answered)
        with pytest.raises(UnavailableError):
            sis.registration.register([alert("NEW", CONTAINER)], "test")
        filler.unlink()
        begun, query = time.monotonic(), make_query(100)
        while True:
            try:
                first = client.evaluate(query)
                break
            except UnavailableError:
                assert time.monotonic() - begun < 10
                time.sleep(0.1)
        assert client.evaluate(query) == first
        for asked, answer in answered:
            assert client.evaluate(asked) == answer
        assert _size(sis) == before + len(answered) + 1
        sis.tick_log()
        assert sis.oversight.verify()["verified"] is True
        assert sis.node.fatal is None
    finally:
        client.close()
        ports.stop(1)
        sis.close()
        ics2.close()


def _size(service: Service) -> int:
    with service.node.store.read() as tx:
        return service.node.entries.size(tx)
