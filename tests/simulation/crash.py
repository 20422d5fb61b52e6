"""kill -9 at a chosen event: a story that two nodes live through, told by processes that die and are started again.

A process of ``Killer`` opens both nodes of a prepared federation, goes on with the ``Story`` where the last one stopped, and is killed
by a real SIGKILL before its n-th event: a commit that wrote something (before it, and after it but before anybody learns of it), a file
that is synced, renamed, made or removed, a peer call that leaves or whose answer comes back. Nothing is cleaned up but by the operating
system. What others were told before a death (an acknowledgement, a checkpoint, an outcome) is in the ``Diary``, which no death takes back.

Threads and locks do not survive a fork well, so the forks are made by a process that does nothing else: ``python -m
tests.simulation.crash``.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from sqlalchemy.engine.default import DefaultDialect

from connector_psi.audit.checkpoint import Checkpoint, verify_checkpoint
from connector_psi.audit.entries import Event, Leaf, Side, parse_leaf
from connector_psi.audit.merkle import root as tree_root
from connector_psi.domain.identifiers import implied, normalise
from connector_psi.domain.records import IDENTIFIER_TABLE, IdentifierType, Record
from connector_psi.errors import AuditError, ConnectorError
from connector_psi.node import ports, publishing
from connector_psi.node.service import Service
from connector_psi.oprf.backends import default_group
from connector_psi.pki import Role
from connector_psi.storage import owned, queried, schema
from connector_psi.storage import records as record_store
from tests.simulation.faults import AGREEMENT, PURPOSE
from tests.simulation.federation import DirectOwner, Federation, ManualClock, alert, declaration, person

ROOT = Path(__file__).resolve().parents[2]
# Fixed, so that slots fall alike in every run; within the validity of the policies.
START = datetime(2027, 3, 1, 6, tzinfo=UTC)
SLOT_S, DECIDED_WITHIN_S = 2, 7200
MAX_TURNS = 60
PIECE_BYTES = 16 * 1024
"""Sets come in several pieces, so that a death can fall between two of them."""


def _container(text: str) -> tuple[IdentifierType, str]:
    return IdentifierType.CONTAINER, normalise(IdentifierType.CONTAINER, text, complete_check_digit=True)


FIRST, SECOND, THIRD, LONELY = (_container(f"TGHU{n}") for n in (123456, 223456, 323456, 423456))
VIN = (IdentifierType.VIN, "WVWZZZ1JZ3W386752")
ALERTS = (
    (alert("A1", FIRST), alert("A2", SECOND), alert("A3", LONELY, hidden=True)),
    (alert("A4", VIN, FIRST, category="sis.38.a"), alert("A5", THIRD)),
)
DECLARATIONS = (
    (declaration("D1", FIRST), declaration("D2", SECOND)),
    (declaration("D3", VIN, FIRST), declaration("D4", LONELY), declaration("D5")),
)


def tokens_of(record: Record) -> set[tuple[IdentifierType, str]]:
    """What a record can be found by: its identifiers, and what follows from them."""
    said = {(i.type, i.value) for i in record.identifiers}
    return said.union(*(implied(*token) for token in said))


def plaintext_join() -> list[tuple[str, list[str]]]:
    """What the two nodes must find, computed from both sides' records in the clear: (declaration, identifier types)."""
    found = []
    for own in (r for batch in DECLARATIONS for r in batch):
        tokens = tokens_of(own)
        for other in (r for batch in ALERTS for r in batch if not r.hidden):
            shared = {kind for kind, _ in tokens_of(other) & tokens}
            if any(IDENTIFIER_TABLE[kind].suffices_alone for kind in shared) or len(shared) > 1:
                found.append((own.source_ref, sorted(kind.value for kind in shared)))
    return sorted(found)


# --- what was said before a death


class Diary:
    """Lines that outlive their writer: each is one write to an append-only file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def note(self, kind: str, *values: object) -> None:
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        os.write(handle, json.dumps([kind, *values]).encode() + b"\n")
        os.close(handle)

    def lines(self, kind: str) -> list[list[Any]]:
        entries = [json.loads(line) for line in self.path.read_bytes().splitlines()]
        return [values for name, *values in entries if name == kind]


class TellingOwner(DirectOwner):
    """Notes what a querier was given."""

    def __init__(self, told: Told, caller: str, authority: str) -> None:
        super().__init__(told, caller, authority)
        self._told = told

    def get_manifest(self, agreement: str) -> ports.ManifestAnswer:
        answer = super().get_manifest(agreement)
        self._told.saw_checkpoint(self._authority, answer.proof.checkpoint)
        return answer

    def get_outcome(self, agreement: str, request_id: bytes) -> ports.OutcomeAnswer | None:
        answer = super().get_outcome(agreement, request_id)
        if answer is not None:
            self._told.saw_checkpoint(self._authority, answer.proof.checkpoint)
            leaf = answer.proof.leaf.decode()
            self._told.diary.note("outcome", self._authority, request_id.hex(), answer.proof.index, leaf)
        return answer


@dataclass
class _Connector:
    told: Told
    caller: str

    def owner(self, authority: str) -> DirectOwner:
        return TellingOwner(self.told, self.caller, authority)

    def forget(self, authority: str) -> None:
        pass

    def close(self) -> None:
        pass


class Told(Federation):
    """A federation on directories that exist already; its clock goes on where the diary ends."""

    def __init__(self, root: Path, diary: Diary, seed: str, fault: Callable[[str], None] = lambda _name: None) -> None:
        self.root = root
        self.diary = diary
        times = [datetime.fromtimestamp(*line, tz=UTC) for line in diary.lines("time")]
        self.clock = ManualClock(times[-1] if times else START)
        self.seed = seed
        self.services = {}
        self.queries = []
        self.fault = fault
        self._opened = 0
        for code in ("sis", "ics2"):
            self.open(code)

    def connector(self, code: str) -> _Connector:
        return _Connector(self, code)

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.diary.note("time", self.clock.now().timestamp())

    def saw_checkpoint(self, code: str, note: bytes) -> None:
        found = checkpoint_of(self.services[code], note)
        self.diary.note("checkpoint", code, found.size, found.root.hex())


def checkpoint_of(service: Service, note: bytes) -> Checkpoint:
    signer = service.node.signer
    return verify_checkpoint(note, signer.vkey, signer.name)


def prepare(root: Path) -> None:
    """Make the two node directories that every telling starts from."""
    made = Federation(root, start=START)
    for service in made.services.values():
        # The story is about one agreement; those without notice would add covers at every slot.
        with service.node.store.write() as tx:
            tx.execute(schema.agreements.delete().where(schema.agreements.c.code != AGREEMENT))
    made.close()
    for code in ("ics2", "sis"):
        config = root / code / "node.toml"
        text = re.sub(r"(?m)^slot_s = .*$", f"slot_s = {SLOT_S}", config.read_text())
        config.write_text(
            re.sub(r"(?m)^not_disclosed_after_s = .*$", f"not_disclosed_after_s = {DECIDED_WITHIN_S}", text)
        )


# --- the story


class Story:
    """Register, publish, query, confirm, disclose; whoever tells it looks at what is done already and goes on from there.

    It does what the people and systems of two agencies do: what was acknowledged is not sent again, what was not is.
    """

    def __init__(self, federation: Told) -> None:
        self.federation = federation
        self.ics2, self.sis = federation.services["ics2"], federation.services["sis"]

    def tell(self) -> None:
        for part in range(2):
            self._register("sis", part, ALERTS[part])
            self._register("ics2", part, DECLARATIONS[part])
            self._until(self._queried)
        self._review()
        self._until(lambda: len(self._cases("awaiting_decision")) + len(self._cases("released")) + self._decided() >= 2)
        self._decide()
        self._until(lambda: self._states()["D1"] == "disclosed")
        if self._states()["D2"] == "pending":
            opened = min(view.row.opened_ms for view in self.ics2.cases.list() if view.row.state == "pending")
            left = opened / 1000 + DECIDED_WITHIN_S - self.federation.clock.now().timestamp()
            self.federation.advance(max(0.0, left))
        self._until(lambda: self._states()["D2"] == "not_disclosed")

    def _register(self, code: str, part: int, records: Sequence[Record]) -> None:
        diary = self.federation.diary
        if [code, part] not in diary.lines("registered"):
            self.federation.services[code].registration.register(records, "test")
            diary.note("registered", code, part)

    def _until(self, done: Callable[[], bool]) -> None:
        for _ in range(MAX_TURNS):
            if done():
                return
            self._turn()
        raise AssertionError(f"not settled after {MAX_TURNS} turns")

    def _turn(self) -> None:
        """One turn of each loop of both nodes, which outlive failures as ``Service`` lets them."""
        self.federation.advance(SLOT_S)
        services = (self.sis, self.ics2)
        loops = ("tick_publish", "tick_deltas", "tick_log", "tick_query", "tick_cases", "tick_log")
        for name in loops:
            for service in services:
                try:
                    getattr(service, name)()
                except AuditError:
                    raise
                except ConnectorError as error:
                    self.federation.diary.note("failed", service.node.authority, name, error.code)

    def _queried(self) -> bool:
        if self.sis.publishing.due():
            return False
        with self.sis.node.store.read() as tx:
            newest = owned.newest_published(tx, AGREEMENT)
            changed = record_store.max_change_seq(tx)
        with self.ics2.node.store.read() as tx:
            taken = queried.current_set(tx, AGREEMENT)
            last = record_store.max_change_seq(tx)
        return (
            newest is not None
            and taken is not None
            and newest.change_seq == changed
            and (taken.epoch, taken.delta_seq, taken.cursor_seq) == (newest.epoch, newest.delta_seq, last)
        )

    def _review(self) -> None:
        for row in self.ics2.review.list():
            ref = row.payload["record_ref"]
            if row.state == "new":
                self.ics2.review.decide(row.match_id, person("ics2"), "compared", confirm=ref != "D3")
            # Two alerts name the container of D1; a case is opened for the one about the container itself.
            if ref in {"D1", "D2"} and row.payload["category"] == "sis.38.g" and ref not in self._states():
                self.ics2.asked.open(
                    row.match_id, person("ics2"), **PURPOSE, case_reference=ref, justification="seen in a declaration"
                )

    def _states(self) -> dict[str, str]:
        return {v.row.payload["case_reference"]: v.row.state for v in self.ics2.cases.list() if v.row.side == "querier"}

    def _cases(self, state: str) -> list[bytes]:
        return [view.row.request_id for view in self.sis.cases.list((state,))]

    def _decided(self) -> int:
        return len(self._cases("approved")) + len(self._cases("refused"))

    def _decide(self) -> None:
        for request_id in self._cases("awaiting_decision"):
            reference = self.sis.cases.get(request_id).row.payload["case_reference"]
            who = person("sis", Role.SUPERVISOR, "supervisor1")
            self.sis.received.decide(request_id, who, "checked", approve=reference == "D1")


# --- what must be true in the end


def summary(federation: Told) -> dict[str, Any]:
    """What both nodes hold in the end, without numbers that a crash may change (epochs, indices, times)."""
    out: dict[str, Any] = {}
    for code, service in federation.services.items():
        node = service.node
        leaves = read_leaves(service)
        with node.store.read() as tx:
            out[code] = {"records": record_store.count_live(tx)}
        out[code]["matches"] = sorted(
            (m.payload["record_ref"], m.payload["types"], m.state) for m in service.review.list()
        )
        views = [service.cases.get(view.row.request_id) for view in service.cases.list()]
        out[code]["cases"] = sorted(
            (v.row.payload["case_reference"], v.row.state, sorted(v.fields.items())) for v in views
        )
        out[code]["leaves"] = {
            kind.value: sum(leaf.event is kind for leaf in leaves)
            for kind in (Event.COLLECT, Event.ALTER, Event.REVIEW, Event.CASE_OPEN, Event.CASE_OUTCOME, Event.RECEIPT)
        }
    return out


def read_leaves(service: Service) -> list[Leaf]:
    node = service.node
    with node.store.read() as tx:
        return [parse_leaf(raw) for raw in node.entries.read_leaves(tx, 0, node.entries.size(tx))]


def verify_invariants(federation: Told) -> None:
    """Everything of R1 that holds at any time, whatever died before."""
    logs = {code: read_leaves(service) for code, service in federation.services.items()}
    diary = federation.diary
    for service in federation.services.values():
        report = service.oversight.verify()
        assert report["verified"], report["failures"]
    _verify_acknowledged(federation)
    _verify_one_leaf_a_request(logs)
    _verify_disclosures(federation, logs)
    _verify_checkpoints(federation, diary)
    _verify_capacity(federation, logs["sis"])


def _verify_acknowledged(federation: Told) -> None:
    """No acknowledged registration is lost."""
    for code, part in federation.diary.lines("registered"):
        node = federation.services[code].node
        sent = {"sis": ALERTS, "ics2": DECLARATIONS}[code][part]
        with node.store.read() as tx:
            kept = set(tx.execute(schema.records.select().with_only_columns(schema.records.c.ref_index)).scalars())
        lost = [r.source_ref for r in sent if node.store.index_of(r.source.value, r.source_ref) not in kept]
        assert lost == [], code


def _verify_one_leaf_a_request(logs: dict[str, list[Leaf]]) -> None:
    """No request has two leaves of one kind at one side; what the owner logged, the querier logged before."""
    once = (Event.CONSULT, Event.CASE_OPEN, Event.CASE_OUTCOME, Event.RECEIPT)
    for code, leaves in logs.items():
        counts = Counter((leaf.event, leaf.request_id) for leaf in leaves if leaf.event in once)
        assert {key: n for key, n in counts.items() if n > 1} == {}, code
    for kind in (Event.CONSULT, Event.CASE_OPEN):
        # Each of the two asks under some agreements and answers under others.
        said = {
            side: {
                (leaf.agreement, leaf.request_id)
                for own in logs.values()
                for leaf in own
                if leaf.event is kind and leaf.side is side
            }
            for side in Side
        }
        assert said[Side.OWNER] <= said[Side.QUERIER], kind


def _verify_disclosures(federation: Told, logs: dict[str, list[Leaf]]) -> None:
    """No outcome without a leaf: what the querier was given or holds stands in the owner's log, what it holds in its own too."""
    for owner, request_id, index, leaf in federation.diary.lines("outcome"):
        kept = logs[owner][index]
        assert (kept.event, kept.request_id) == (Event.CASE_OUTCOME, bytes.fromhex(request_id))
        assert kept == parse_leaf(leaf.encode())
    for view in federation.services["ics2"].cases.list(("disclosed", "not_disclosed")):
        row = view.row
        receipt = row.payload["outcome"]["receipt"]
        theirs, ours = logs["sis"][receipt["index"]], logs["ics2"][row.leaf_index or -1]
        assert (theirs.event, theirs.request_id) == (Event.CASE_OUTCOME, row.request_id)
        assert (ours.event, ours.request_id) == (Event.RECEIPT, row.request_id)
        assert theirs.source_commitment == ours.source_commitment


def _verify_checkpoints(federation: Told, diary: Diary) -> None:
    """No checkpoint that a peer saw was taken back, and each is a prefix of the log as it stands."""
    newest: dict[str, int] = {}
    for code, size, digest in diary.lines("checkpoint"):
        node = federation.services[code].node
        assert size >= newest.get(code, 0), f"{code}: a checkpoint of size {size} after one of {newest[code]}"
        newest[code] = size
        with node.store.read() as tx:
            assert size <= node.entries.size(tx)
            assert tree_root(size, lambda level, i: node.entries.read_node(tx, level, i)).hex() == digest  # noqa: B023


def _verify_capacity(federation: Told, owner_leaves: list[Leaf]) -> None:
    """The capacity used is what the logged queries debit, no query twice."""
    node = federation.services["sis"].node
    with node.store.read() as tx:
        used = owned.used_today(tx, AGREEMENT, f"{node.clock.now():%Y-%m-%d}")
    queries = [leaf for leaf in owner_leaves if leaf.event is Event.CONSULT and leaf.agreement == AGREEMENT]
    day = node.clock.now().date()
    assert sum(used.values()) == sum(leaf.n_padded or 0 for leaf in queries if leaf.ts.date() == day)


def verify_tidy(federation: Told) -> None:
    """Nothing half-made is left once the nodes have settled: no epoch, key, folder or file that no set needs."""
    sis, ics2 = federation.services["sis"], federation.services["ics2"]
    sis.publishing.retire()
    with sis.node.store.read() as tx:
        rows = owned.list_epochs(tx)
        states = set(tx.execute(schema.epochs.select().with_only_columns(schema.epochs.c.state)).scalars())
    assert states <= {owned.PUBLISHED, owned.SUPERSEDED, owned.DESTROYED}
    kept = {(row.agreement, row.epoch) for row in rows if row.wrapped_seed is not None}
    assert {key for key in sis.node.keyring.epochs() if key[0] == AGREEMENT} == kept
    newest = max(epoch for code, epoch in kept if code == AGREEMENT)
    assert _folders(sis.node.layout.owned_set(AGREEMENT, 0).parent) == {str(epoch) for _, epoch in kept}
    assert _folders(ics2.node.layout.taken_set(AGREEMENT, 0).parent) == {str(newest)}
    known = re.compile(r"filter(\.sealed)?|tickets(\.sealed)?|index\.sealed|delta-\d+\.sealed|deltas|live-\d+")
    for path in (*sis.node.layout.data.glob("owned/*/*/*"), *ics2.node.layout.data.glob("taken/*/*/*")):
        assert known.fullmatch(path.name), path.name
    with ics2.node.store.read() as tx:
        assert not tx.execute(schema.batches.select()).all()


def _folders(parent: Path) -> set[str]:
    return {path.name for path in parent.iterdir()}


# --- dying


class Fate:
    """Counts the events of this process and kills it before one of them.

    Args:
        point: Which event, from 1.
        diary: Where the death is noted.
    """

    def __init__(self, point: int, diary: Diary) -> None:
        self.events: list[str] = []
        self._point = point
        self._diary = diary

    def __call__(self, label: str) -> None:
        self.events.append(label)
        if len(self.events) == self._point:
            self._diary.note("killed", label)
            os.kill(os.getpid(), signal.SIGKILL)


def _arm(fate: Fate) -> None:
    """Tell ``fate`` of every commit and every change of a file from now on."""
    do_commit = DefaultDialect.do_commit
    written: dict[int, int] = {}

    def commit(self: DefaultDialect, connection: Any) -> None:
        database = connection.dbapi_connection
        # A commit that wrote nothing is no event.
        if database.total_changes == written.get(id(database), 0):
            do_commit(self, connection)
            return
        written[id(database)] = database.total_changes
        node = _node_of(database.execute("PRAGMA database_list").fetchone()[2])
        fate(f"{node}: before COMMIT")
        do_commit(self, connection)
        fate(f"{node}: after COMMIT")

    DefaultDialect.do_commit = commit  # type: ignore[method-assign]
    for name in ("fsync", "replace", "unlink", "mkdir", "rmdir"):
        _arm_file_call(name, fate)


def _arm_file_call(name: str, fate: Fate) -> None:
    real = getattr(os, name)

    def call(*arguments: Any, **options: Any) -> Any:
        what = Path(f"/proc/self/fd/{arguments[0]}").readlink() if isinstance(arguments[0], int) else Path(arguments[0])
        fate(f"{_node_of(str(what))}: {name} {re.sub(r'[0-9a-z_]{8}(?=[.]partial)|[0-9a-f]{16}', '*', what.name)}")
        return real(*arguments, **options)

    setattr(os, name, call)


def _node_of(path: str) -> str:
    return next((code for code in ("ics2", "sis") if f"/{code}/" in path), "?")


def _live(root: Path, diary: Diary, seed: str, point: int) -> None:
    fate = Fate(point, diary)
    _arm(fate)
    publishing.READ_BYTES = PIECE_BYTES
    Story(Told(root, diary, seed, fate)).tell()
    diary.note("events", fate.events)


def main() -> NoReturn:
    """Fork a process for each line of JSON on standard input; answer with its exit status."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    # Loaded once, here: what a node loads at its first use is a tenth of a second in every process otherwise.
    default_group()
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                _live(Path(job["root"]), Diary(Path(job["diary"])), job["seed"], job["point"])
                status = 0
            finally:
                if status:
                    sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
                sys.stderr.flush()
                os._exit(status)
        answers.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
    sys.exit(0)


class Killer:
    """Starts processes that tell the story and die."""

    def __init__(self, log: Path) -> None:
        self._log_path = log
        self._log = log.open("wb")
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.simulation.crash"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            cwd=ROOT,
            text=True,
            bufsize=1,
        )

    def run(self, root: Path, diary: Diary, seed: str, point: int) -> bool:
        """Start a process that dies at its ``point``-th event. Returns whether it lived to the end of the story."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        job = {"root": str(root), "diary": str(diary.path), "seed": seed, "point": point}
        self._process.stdin.write(json.dumps(job) + "\n")
        answer = self._process.stdout.readline()
        assert answer.strip() in {"0", f"-{signal.SIGKILL.value}"}, self._log_path.read_text()
        return answer.strip() == "0"

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()
        self._log.close()


if __name__ == "__main__":
    main()
