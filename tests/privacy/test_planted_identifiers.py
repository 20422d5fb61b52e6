"""R10, short form: 2,002 planted identifiers go through everything, and are then searched for wherever they must not be.

In one process, over real ports: files in, sets out, queries, matches, a dismissal, cases, a refusal, a disclosure, and everything
that can fail. Then a node as a process of its own, for what only its stderr shows. Searched: logs, statuses, leaves, bundles, databases
with their journals, sets before and after sealing, temporary files, status, descriptors, and all that crossed the wire.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import grpc
import pytest
import structlog
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message as Proto
from google.protobuf.message_factory import GetMessageClass
from typer.testing import CliRunner

from connector_psi import cli, disclosure, pki
from connector_psi.domain.clock import SystemClock, SystemRandom
from connector_psi.domain.records import IdentifierType
from connector_psi.node import publishing, setup
from connector_psi.node.service import Service
from connector_psi.pki import Role
from connector_psi.rpc import interceptors
from connector_psi.rpc.client import LocalClient, PeerConnector
from connector_psi.rpc.v1 import audit_pb2, disclosure_pb2, matching_pb2, registry_pb2
from connector_psi.storage import queried
from tests import adapter_samples as samples
from tests.privacy import planting
from tests.privacy.needles import Needles, text_spellings
from tests.privacy.planting import Planted
from tests.privacy.staging import BASIS, JUSTIFICATION, PURPOSE, REFERENCE
from tests.privacy.wired import Message, Wired
from tests.simulation.federation import person

BUNDLES, SOUGHT, WANTED = 80, 20, 10
"""Bundles of one identifier of each type in declarations; of these, those that SIS has alerts on, and those after them that Europol knows."""
START_S, STOP_S = 40, 20
_PB = (matching_pb2, disclosure_pb2, audit_pb2, registry_pb2)


@dataclass
class Run:
    """What was planted, and what came out."""

    root: Path
    bundles: list[dict[IdentifierType, Planted]]
    owners: dict[bytes, str]
    needles: Needles
    outputs: dict[str, bytes] = field(default_factory=dict)
    """What was printed, answered or written, by name."""
    places: dict[str, set[bytes]] = field(default_factory=dict)
    """Files with something in them, while the nodes ran."""
    wire: dict[tuple[str, bytes], set[bytes]] = field(default_factory=dict)
    """Recorded messages with something in them: owner, method and direction, and the message."""
    wire_bytes: int = 0
    statuses: int = 0
    released: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def note(self, name: str, text: str | bytes) -> None:
        self.outputs[name] = self.outputs.get(name, b"") + (text.encode() if isinstance(text, str) else text) + b"\n"


def _owners(bundles: Sequence[dict[IdentifierType, Planted]]) -> dict[bytes, str]:
    """Every needle, and the identifier that it gives away."""
    everything = (planted for bundle in bundles for planted in bundle.values())
    return {n: planted.canonical for planted in everything for text in planted.texts for n in text_spellings(text)}


def _needles(owners: dict[bytes, str]) -> Needles:
    # Short ones that could stand inside a digest.
    short = {n for n in owners if len(n) < 12 and all(c in b"0123456789abcdefABCDEF" for c in n)}
    return Needles(owners.keys() - short, whole=short)


# --- Calls ------------------------------------------------------------------------------------------------------------


def _command(run: Run, *arguments: str | Path) -> Any:
    """A command line in this process; it reaches the running node like any other."""
    done = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    name = f"cli {arguments[0]}"
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        run.note(f"{name}: error", f"{type(done.exception).__name__} {done.exception}")
    run.note(f"{name}: stderr", done.stderr)
    if arguments[0] in {"ingest", "publish", "status", "log", "sync"}:
        run.note(name, done.stdout)
    return json.loads(done.stdout) if "--json" in arguments and done.stdout else None


def _filled(message: Proto, value: str, depth: int = 0) -> Proto:
    """A message with a planted value in every text, bytes and key that it has."""
    for place in message.DESCRIPTOR.fields:
        if place.message_type is not None and place.message_type.GetOptions().map_entry:
            getattr(message, place.name)[value].values.append(value)
        elif place.message_type is not None:
            inner = getattr(message, place.name)
            _filled(inner.add() if place.is_repeated else inner, value, depth + 1)
        elif place.type in {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES}:
            filling = value if place.type == FieldDescriptor.TYPE_STRING else value.encode()
            if place.is_repeated:
                getattr(message, place.name).append(filling)
            else:
                setattr(message, place.name, filling)
    return message


def _methods() -> Iterator[tuple[str, Any]]:
    for module in _PB:
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                yield f"/{service.full_name}/{method.name}", method


def _call(run: Run, channel: grpc.Channel, path: str, method: Any, message: Proto) -> None:
    """One call; status, text, metadata and answers go to the outputs."""
    answer = GetMessageClass(method.output_type)
    kinds = {(False, False): "unary_unary", (False, True): "unary_stream", (True, True): "stream_stream"}
    call = getattr(channel, kinds[method.client_streaming, method.server_streaming])(
        path, request_serializer=type(message).SerializeToString, response_deserializer=answer.FromString
    )
    run.statuses += 1
    try:
        given = call(iter([message]) if method.client_streaming else message, timeout=10)
        for one in given if method.server_streaming else [given]:
            run.note("answers", one.SerializeToString())
    except grpc.RpcError as error:
        run.note("statuses", f"{path} {error.code()} {error.details()} {error.trailing_metadata()} {error}")


def _nonsense(run: Run, channel: grpc.Channel, access: Any, callers: set[str], values: Sequence[str]) -> None:
    """Every method that one of these callers may call, with planted values for everything."""
    for path, method in _methods():
        if not callers & set(access.get(path, ())) or path.endswith("WatchMatches"):
            continue
        for value in values:
            _call(run, channel, path, method, _filled(GetMessageClass(method.input_type)(), value))


# --- The run ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _stderr_to(path: Path) -> Iterator[None]:
    """Everything that this process would say on stderr, C libraries included, goes to a file."""
    sys.stderr.flush()
    held, kept = os.dup(2), sys.stderr
    with path.open("w") as out:
        os.dup2(out.fileno(), 2)
        sys.stderr = out
        structlog.configure(
            processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer()],
            logger_factory=structlog.PrintLoggerFactory(out),
        )
        try:
            yield
        finally:
            sys.stderr = kept
            os.dup2(held, 2)
            os.close(held)
            structlog.reset_defaults()


def _write_inputs(run: Run) -> Path:
    folder = run.root / "inputs"
    folder.mkdir()
    sought, wanted = run.bundles[:SOUGHT], run.bundles[SOUGHT : SOUGHT + WANTED]
    for n in range(0, BUNDLES, 11):
        message = planting.declarations(run.bundles[n : n + 11])
        (folder / f"ens{n:03d}.xml").write_bytes(
            message.replace(samples.ENS_MRN.encode(), f"25BE000000000SY{n:03d}".encode())
        )
    (folder / "sis.jsonl").write_bytes(samples.jsonl(*planting.alerts(sought)))
    (folder / "eis.jsonl").write_bytes(samples.jsonl(*planting.entities(wanted)))
    (folder / "broken-sis.jsonl").write_bytes(planting.broken_lines("sis", run.bundles[50:52]))
    (folder / "broken-eis.jsonl").write_bytes(planting.broken_lines("eis", run.bundles[52:54]))
    (folder / "broken-sis.csv").write_bytes(planting.broken_table(run.bundles[54:56]))
    for n, message in enumerate(planting.broken_messages(run.bundles[56:58])):
        (folder / f"broken{n}.xml").write_bytes(message)
    (folder / "broken.bin").write_bytes(b"\x7fELF" + run.bundles[58][IdentifierType.EMAIL].written.encode())
    return folder


def _take_in(run: Run, folder: Path) -> None:
    files = {
        "ics2": sorted(folder.glob("*.xml")),
        "sis": sorted(folder.glob("*sis*")),
        "europol": sorted(folder.glob("*eis*")),
    }
    done = {
        code: _command(run, "ingest", run.root / code, *paths, folder / "broken.bin", "--json")
        for code, paths in files.items()
    }
    assert done["ics2"]["accepted"] >= BUNDLES
    assert done["sis"]["accepted"] >= len(planting.SOUGHT_TYPES) * SOUGHT
    assert done["europol"]["accepted"] >= len(planting.KNOWN_TYPES) * WANTED
    assert {code: len(totals["errors"]) > 5 for code, totals in done.items()} == dict.fromkeys(files, True)


def _work(run: Run, federation: Wired) -> None:
    """Review, cases, decisions, outcomes."""
    ics2, sis = federation.services["ics2"], federation.services["sis"]
    federation.settle()
    with ics2.node.store.read() as tx:
        rows = queried.list_matches(ics2.node.store, tx)
    assert len(rows) == 7 * SOUGHT + 5 * WANTED
    reason = ("--reason", "looked at", "--as", run.root / "ics2" / "people" / "officer1.crt", "--json")
    by_type = {row.payload["types"][0]: row for row in rows if row.agreement.startswith("SIS")}
    _command(run, "matches", "dismiss", run.root / "ics2", by_type["imo"].match_id, *reason)
    opened = {}
    for kind in ("container", "plate", "vin"):
        _command(run, "matches", "confirm", run.root / "ics2", by_type[kind].match_id, *reason)
        opened[kind] = ics2.asked.open(
            by_type[kind].match_id,
            person("ics2"),
            purpose=PURPOSE,
            legal_basis=BASIS,
            case_reference=REFERENCE,
            justification=JUSTIFICATION,
        )
    federation.settle()
    supervisor = person("sis", Role.SUPERVISOR, "supervisor1")
    sis.received.decide(opened["container"].request_id, supervisor, "yes", approve=True)
    sis.received.decide(opened["plate"].request_id, supervisor, "no", approve=False)
    federation.settle(rounds=12)
    federation.clock.advance(disclosure.CASE_TIME_S)
    for _ in range(10):
        federation.clock.advance(2)
        for service in (sis, ics2):
            service.tick_cases()
            service.tick_log()
    cases = {kind: ics2.cases.get(case.request_id) for kind, case in opened.items()}
    assert {kind: view.row.state for kind, view in cases.items()} == {
        "container": "disclosed",
        "plate": "not_disclosed",
        "vin": "not_disclosed",
    }
    run.released = dict(cases["container"].fields)
    for code in ("ics2", "sis", "europol"):
        _command(run, "status", run.root / code, "--json")
        _command(run, "log", "export", run.root / code, "--evidence", run.root / "bundles" / code, "--json")
        run.note("descriptor", (run.root / code / "descriptor.json").read_bytes())


def _fail(run: Run, federation: Wired) -> None:
    """Requests that make no sense, and defects whose text holds a value."""
    values = [planted.written for planted in run.bundles[59].values()]
    for owner in ("sis", "europol"):
        with federation.as_peer("ics2", owner) as channel:
            _nonsense(run, channel, interceptors.PEER_ACCESS, {interceptors.AUTHORITY}, values[:6])
    for name, role in (("admin1", Role.ADMIN), ("officer1", Role.OFFICER), ("auditor1", Role.AUDITOR)):
        with federation.as_person("ics2", name) as client:
            _nonsense(run, client._channel, interceptors.LOCAL_ACCESS, {role}, values[6:])
    value = values[0]

    def broken(*_args: object, **_named: object) -> NoReturn:
        raise ValueError(value)

    service = federation.services["sis"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service.publishing, "get_manifest", broken)
        patch.setattr(service.publishing, "read_set", broken)
        patch.setattr(service.received, "accept", broken)
        patch.setattr(service.registration, "register", broken)
        methods = dict(_methods())
        with federation.as_peer("ics2", "sis") as channel, federation.as_person("sis", "system1") as client:
            for path, where in (
                ("/connector_psi.rpc.v1.MatchingService/GetManifest", channel),
                ("/connector_psi.rpc.v1.MatchingService/ReadSet", channel),
                ("/connector_psi.rpc.v1.DisclosureService/OpenCase", channel),
                ("/connector_psi.rpc.v1.RegistryService/Register", client._channel),
                ("/connector_psi.rpc.v1.RegistryService/RegisterStream", client._channel),
            ):
                method = methods[path]
                message = GetMessageClass(method.input_type)()
                if path.endswith("ReadSet"):
                    message.file = matching_pb2.SET_FILE_FILTER
                _call(run, where, path, method, message)

        def turn() -> NoReturn:
            service._stop.set()
            raise ValueError(value)

        service._loop("broken", turn, service._paused(0.01))
        service._stop.clear()


def _search_wire(run: Run, messages: Sequence[Message]) -> None:
    for message in messages:
        run.wire_bytes += len(message.data)
        if hits := run.needles.found_in(message.data):
            run.wire[f"{message.owner} {message.method} {message.direction}", message.data] = hits


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("planted")
    bundles = list(planting.plant("planted", BUNDLES))
    owners = _owners(bundles)
    made = Run(root, bundles, owners, _needles(owners))
    (root / "tmp").mkdir()
    (root / "out").mkdir()
    folder = _write_inputs(made)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(root / "tmp"))
        patch.setattr(tempfile, "tempdir", None)
        # Commands of this process log where the nodes of this process do, at every level.
        patch.setattr(cli, "log_to_stderr", lambda _level: None)
        seal = publishing.seal_file

        def seal_file(src: Path, dst: Path, *rest: Any) -> None:
            made.note("sets before they are sealed", src.read_bytes())
            seal(src, dst, *rest)

        patch.setattr(publishing, "seal_file", seal_file)
        with _stderr_to(root / "out" / "log"):
            federation = Wired(root, profiles=("ics2", "sis", "europol"))
            try:
                _take_in(made, folder)
                _work(made, federation)
                _search_wire(made, federation.messages())
                _fail(made, federation)
                _search_wire(made, [m for m in federation.messages() if m.direction == "response"])
                # While the nodes run, so that journals are there too.
                for code in ("ics2", "sis", "europol"):
                    assert (root / code / "data" / "node.db-wal").stat().st_size
                    made.places |= {f"{code}/{k}": v for k, v in made.needles.found_below(root / code).items()}
            finally:
                federation.close()
    return made


def _planted_in(run: Run, hits: set[bytes]) -> set[str]:
    """Which identifiers some needles belong to."""
    return {run.owners[hit] for hit in hits}


# --- What is found ----------------------------------------------------------------------------------------------------


def test_the_search_finds_each_identifier_where_it_was_planted(run: Run) -> None:
    found = {hit for hits in run.needles.found_below(run.root / "inputs").values() for hit in hits}
    everything = {planted.canonical for bundle in run.bundles for planted in bundle.values()}
    assert len(everything) == len(IdentifierType) * BUNDLES >= 2000
    assert _planted_in(run, found) == everything


@pytest.mark.parametrize("kind", list(IdentifierType))
def test_the_search_finds_an_identifier_in_every_spelling(run: Run, kind: IdentifierType) -> None:
    planted = run.bundles[77][kind]
    for text in (planted.written, planted.canonical):
        raw = text.encode()
        for spelled in (raw, raw.lower(), raw.hex().encode(), text.encode("utf-16-le"), text.encode("utf-16-be")):
            assert planted.canonical in _planted_in(run, run.needles.found_in(b'{"x": "' + spelled + b'"}'))
        for before in (b"", b"a", b"ab"):
            text64 = base64.b64encode(before + b'{"v":"' + raw + b'"}')
            assert planted.canonical in _planted_in(run, run.needles.found_in(text64))


def test_no_log_line_holds_an_identifier(run: Run) -> None:
    log = (run.root / "out" / "log").read_bytes()
    lines = [json.loads(line) for line in log.splitlines()]
    events = {line["event"] for line in lines}
    assert {"rpc.refused", "rpc.internal", "loop.defect"} <= events
    assert _planted_in(run, run.needles.found_in(log)) == set()


def test_no_status_or_answer_holds_an_identifier(run: Run) -> None:
    assert run.statuses > 200
    assert b"INTERNAL" in run.outputs["statuses"]
    for name in ("statuses", "answers"):
        assert (name, _planted_in(run, run.needles.found_in(run.outputs[name]))) == (name, set())


def test_nothing_that_a_command_reports_holds_an_identifier(run: Run) -> None:
    assert {"cli ingest", "cli status", "cli log"} <= run.outputs.keys()
    for name, output in run.outputs.items():
        assert (name, _planted_in(run, run.needles.found_in(output))) == (name, set())


def test_no_set_holds_an_identifier_before_it_is_sealed(run: Run) -> None:
    sets = run.outputs["sets before they are sealed"]
    assert len(sets) > 2 * 1024 * 76
    assert run.needles.found_in(sets) == set()


def test_no_file_of_a_running_node_holds_an_identifier(run: Run) -> None:
    assert {place: _planted_in(run, hits) for place, hits in run.places.items()} == {}


def _values(database: sqlite3.Connection) -> Iterator[bytes]:
    """Every value of every table. ``iterdump`` writes bytes in hexadecimal, where seven digits of a digest look like a number."""
    for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        for row in database.execute(f'SELECT * FROM "{table}"'):
            yield from (value if isinstance(value, bytes) else str(value).encode() for value in row)


def test_no_file_of_a_closed_node_and_no_dump_holds_an_identifier(run: Run) -> None:
    for code in ("ics2", "sis", "europol"):
        assert run.needles.found_below(run.root / code) == {}
        with contextlib.closing(sqlite3.connect(run.root / code / "data" / "node.db")) as database:
            dump = b"\0".join(_values(database))
        assert len(dump) > 50_000
        assert run.needles.found_in(dump) == set()


def test_no_bundle_and_no_leaf_holds_an_identifier(run: Run) -> None:
    for code in ("ics2", "sis", "europol"):
        assert (run.root / "bundles" / code / "leaves.jsonl").stat().st_size > 5_000
    assert run.needles.found_below(run.root / "bundles") == {}


def test_nothing_is_left_among_temporary_files(run: Run) -> None:
    assert [path for path in (run.root / "tmp").rglob("*") if path.is_file()] == []


def test_on_the_wire_one_identifier_crosses_once_because_it_was_disclosed(run: Run) -> None:
    assert run.wire_bytes > 100_000
    assert [place for place, _ in run.wire] == ["sis GetOutcome response"]
    (hits,) = run.wire.values()
    (released,) = run.released["object_identifiers"]
    assert [f"container {canonical}" for canonical in _planted_in(run, hits)] == [released]


# --- A process of its own ---------------------------------------------------------------------------------------------


def test_a_node_as_a_process_says_nothing_either(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its stderr, its files and its temporary files, with a peer that is away."""
    monkeypatch.setattr(cli, "log_to_stderr", lambda _level: None)
    directory, tmp = run.root / "sisb", run.root / "tmp2"
    tmp.mkdir()
    setup.init_node(
        directory,
        authority="sisb",
        profile="sis",
        pkidir=run.root / "pki",
        listen="127.0.0.1:0",
        local="127.0.0.1:0",
        clock=SystemClock(),
        random=SystemRandom(),
    )
    service = Service(directory, PeerConnector)
    assert service.peering.add((run.root / "ics2" / "descriptor.json").read_bytes()).agreements
    service.close()
    with (run.root / "out" / "serve").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "connector_psi.cli", "serve", str(directory)],
            stdout=subprocess.PIPE,
            stderr=out,
            env={**os.environ, "TMPDIR": str(tmp)},
        )
    assert process.stdout is not None
    try:
        ready, _, _ = select.select([process.stdout], [], [], START_S)
        told = json.loads(process.stdout.readline() if ready else b"{}")
        assert told.get("ready"), (run.root / "out" / "serve").read_text()
        own = Run(run.root, run.bundles, run.owners, run.needles)
        inputs = run.root / "inputs"
        done = _command(
            own,
            "ingest",
            directory,
            inputs / "sis.jsonl",
            inputs / "broken-sis.jsonl",
            inputs / "broken-sis.csv",
            "--json",
        )
        assert done["accepted"] >= len(planting.SOUGHT_TYPES) * SOUGHT
        assert done["errors"]
        (published,) = _command(own, "publish", directory, "--json")
        # Nine types of the agreement, and what a VIN and a plate imply.
        assert published["tokens"] >= 11 * SOUGHT
        _command(own, "status", directory, "--json")
        _command(own, "log", "export", directory, "--evidence", run.root / "bundles" / "sisb", "--json")
        with _as_person(directory, told["local"], "officer1") as client:
            values = [planted.written for planted in run.bundles[60].values()][:4]
            _nonsense(own, client._channel, interceptors.LOCAL_ACCESS, {Role.OFFICER}, values)
        live = run.needles.found_below(directory)
    finally:
        process.terminate()
        process.wait(STOP_S)
        process.stdout.close()
    said = (run.root / "out" / "serve").read_bytes()
    assert b"rpc.refused" in said
    assert run.needles.found_in(said) == set()
    assert live == {}
    assert run.needles.found_below(directory) == {}
    assert run.needles.found_below(run.root / "bundles" / "sisb") == {}
    assert [path for path in tmp.rglob("*") if path.is_file()] == []
    assert {
        name: _planted_in(run, hits) for name, out in own.outputs.items() if (hits := run.needles.found_in(out))
    } == {}


@contextlib.contextmanager
def _as_person(directory: Path, address: str, name: str) -> Iterator[LocalClient]:
    credentials = pki.load_credentials(directory / "people" / f"{name}.crt")
    with LocalClient(address, "sisb", credentials, (directory / "tls" / "root.crt").read_bytes()) as client:
        yield client
