"""Generated lists of operations on two nodes, compared with a model that sees both sides in the clear.

Records come, change and go; people confirm, dismiss, open, approve and refuse; nodes stop, are killed between two steps and come back;
answers get lost. In the end the matches are the plaintext join, every case has the outcome that people gave it, and all that R1 promises
holds. The seed of a list is in the test's name. ``make crash-long`` runs more of them.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from connector_psi.domain.identifiers import normalise
from connector_psi.domain.records import IDENTIFIER_TABLE, IdentifierType, Record, SourceSystem
from connector_psi.errors import AuditError, ConflictError, ConnectorError, UnavailableError
from connector_psi.pki import Role
from connector_psi.storage import owned
from connector_psi.storage import records as record_store
from tests.simulation.crash import Diary, Told, prepare, tokens_of, verify_invariants, verify_tidy
from tests.simulation.faults import AGREEMENT, PURPOSE
from tests.simulation.federation import alert, declaration, person

SEEDS, LONG_SEEDS = (3, 9), range(100, 160)
OPERATIONS = 120
COMES_BACK = 0.3
LOOPS = ("tick_publish", "tick_deltas", "tick_log", "tick_query", "tick_cases", "tick_log")
CALLS = ("get_manifest", "read_set", "get_deltas", "evaluate", "open_case", "get_outcome")
SOURCES = {"sis": SourceSystem.SIS, "ics2": SourceSystem.ICS2}
POOL = [
    *(
        (IdentifierType.CONTAINER, normalise(IdentifierType.CONTAINER, f"TGHU{n}", complete_check_digit=True))
        for n in (100001, 200002, 300003)
    ),
    (IdentifierType.VIN, "WVWZZZ1JZ3W386752"),
    (IdentifierType.IMO, "9074729"),
]


@dataclass
class Case:
    """What the people of both sides did about a case."""

    alert: Record | None
    decision: str = ""


@dataclass
class Model:
    """Both sides in the clear."""

    live: dict[str, dict[str, Record]] = field(default_factory=lambda: {"sis": {}, "ics2": {}})
    known: dict[str, set[str]] = field(default_factory=lambda: {"sis": set(), "ics2": set()})
    cases: dict[bytes, Case] = field(default_factory=dict)

    def join(self) -> Counter[tuple[str, str]]:
        """(declaration, identifier types) of every pair of live records that match."""
        found: Counter[tuple[str, str]] = Counter()
        for own in self.live["ics2"].values():
            for other in self.live["sis"].values():
                shared = _shared(own, other)
                if not other.hidden and any(IDENTIFIER_TABLE[kind].suffices_alone for kind in shared):
                    found[own.source_ref, ",".join(sorted(kind.value for kind in shared))] += 1
        return found


def _shared(own: Record, other: Record) -> set[IdentifierType]:
    return {kind for kind, _ in tokens_of(own) & tokens_of(other)}


class Play:
    """Carries out generated operations on the nodes and on the model."""

    def __init__(self, federation: Told, seed: int) -> None:
        self.federation = federation
        self.draw = random.Random(seed)
        self.model = Model()
        self.lost: Counter[str] = Counter()
        self.done: list[str] = []
        federation.fault = self._lose

    def _lose(self, name: str) -> None:
        if self.lost[name]:
            self.lost[name] -= 1
            raise UnavailableError("lost")

    def step(self) -> None:
        for code in ("sis", "ics2"):
            if code not in self.federation.services and self.draw.random() < COMES_BACK:
                self.federation.open(code)
        operations = {
            self.register: 6, self.withdraw: 2, self.turn: 14, self.stop: 2, self.kill: 3, self.lose_answers: 4,
            self.review: 8, self.open_case: 6, self.decide: 8, self.publish: 1, self.wait: 1,
        }  # fmt: skip
        (operation,) = self.draw.choices(list(operations), list(operations.values()))
        self.done.append(operation.__name__)
        operation()

    def _somebody(self) -> str | None:
        code = self.draw.choice(("sis", "ics2"))
        return code if code in self.federation.services else None

    def register(self) -> None:
        """New records, changed ones, and the same again, in one batch."""
        code = self._somebody()
        if code is None:
            return
        make = {"sis": self._alert, "ics2": self._declaration}[code]
        batch = {ref: make(ref) for ref in (f"{code}{self.draw.randrange(8)}" for _ in range(self.draw.randint(1, 3)))}
        results = self.federation.services[code].registration.register(list(batch.values()), "test")
        live, known = self.model.live[code], self.model.known[code]
        for (ref, record), result in zip(batch.items(), results, strict=True):
            same = ref in live and live[ref] == record
            assert result.outcome == ("duplicate" if same else "updated" if ref in known else "accepted")
            live[ref] = record
            known.add(ref)

    def _alert(self, ref: str) -> Record:
        return alert(ref, *self.draw.sample(POOL, self.draw.randint(0, 2)), hidden=self.draw.random() < 0.15)

    def _declaration(self, ref: str) -> Record:
        return declaration(ref, *self.draw.sample(POOL, self.draw.randint(0, 3)))

    def withdraw(self) -> None:
        code = self._somebody()
        if code is None or not self.model.live[code]:
            return
        ref = self.draw.choice(sorted(self.model.live[code]))
        assert self.federation.services[code].registration.withdraw(SOURCES[code], ref, "gone", "test")
        del self.model.live[code][ref]

    def turn(self) -> None:
        """A turn of some of the loops of the nodes that are there."""
        self.federation.advance(self.draw.choice((1, 2, 5)))
        for name in LOOPS:
            for code in ("sis", "ics2"):
                if code in self.federation.services and self.draw.random() < 0.9:
                    self._tick(code, name)

    def _tick(self, code: str, name: str) -> None:
        try:
            getattr(self.federation.services[code], name)()
        except AuditError:
            raise
        except ConnectorError as error:
            self.federation.diary.note("failed", code, name, error.code)

    def stop(self) -> None:
        code = self._somebody()
        if code is not None:
            self.federation.close(code)

    def kill(self) -> None:
        """What the operating system does for a dead process, and nothing else; then it is started again."""
        code = self._somebody()
        if code is not None:
            node = self.federation.services.pop(code).node
            node.store.close()
            node._lock.release()
            self.federation.open(code)

    def lose_answers(self) -> None:
        self.lost[f"{self.draw.choice(('before', 'after'))}:{self.draw.choice(CALLS)}"] += 1

    def publish(self) -> None:
        if "sis" in self.federation.services:
            self.federation.services["sis"].publish()

    def wait(self) -> None:
        """Long enough for superseded sets to end, too short for a case."""
        self.federation.advance(4000 if self.draw.random() < 0.2 else 30)

    def review(self) -> None:
        ics2 = self.federation.services.get("ics2")
        rows = ics2.review.list(state="new") if ics2 else []
        if ics2 and rows:
            row = self.draw.choice(rows)
            ics2.review.decide(row.match_id, person("ics2"), "compared", confirm=self.draw.random() < 0.8)

    def open_case(self) -> None:
        ics2 = self.federation.services.get("ics2")
        rows = ics2.review.list(state="confirmed") if ics2 else []
        if ics2 is None or not rows:
            return
        row = self.draw.choice(rows)
        try:
            made = ics2.asked.open(
                row.match_id, person("ics2"), **PURPOSE, case_reference="C1", justification="seen in a declaration"
            )
        except ConflictError:
            return  # one is open already
        self.model.cases[made.request_id] = Case(None)

    def decide(self) -> None:
        sis = self.federation.services.get("sis")
        waiting = sis.cases.list(("awaiting_decision",)) if sis else []
        if sis and waiting:
            view = self.draw.choice(waiting)
            case = self.model.cases[view.row.request_id]
            approve = self.draw.random() < 0.7
            shown = sis.cases.get(view.row.request_id).record_ref
            who = person("sis", Role.SUPERVISOR, "supervisor1")
            sis.received.decide(view.row.request_id, who, "checked", approve=approve)
            case.decision = "approved" if approve else "refused"
            case.alert = self.model.live["sis"].get(shown)

    # The end

    def settle(self) -> None:
        """Everybody comes back, answers arrive again, a last set is published, and every case reaches its end."""
        self.lost.clear()
        for code in ("sis", "ics2"):
            if code not in self.federation.services:
                self.federation.open(code)
        self.federation.services["sis"].publish()
        for round_ in range(6):
            self.federation.advance(7300 if round_ == 3 else 5)
            for name in LOOPS:
                for code in ("sis", "ics2"):
                    self._tick(code, name)

    def verify(self) -> None:
        model, ics2, sis = self.model, self.federation.services["ics2"], self.federation.services["sis"]
        for code, service in self.federation.services.items():
            with service.node.store.read() as tx:
                assert record_store.count_live(tx) == len(model.live[code])
        with sis.node.store.read() as tx:
            newest = owned.newest_published(tx, AGREEMENT)
        assert newest is not None
        rows = ics2.review.list()
        current = Counter(
            (r.payload["record_ref"], ",".join(r.payload["types"])) for r in rows if r.epoch == newest.epoch
        )
        assert current == model.join()
        assert {row.epoch for row in rows if row.state == "new"} <= {newest.epoch}
        self._verify_cases()
        verify_invariants(self.federation)
        verify_tidy(self.federation)

    def _verify_cases(self) -> None:
        views: dict[bytes, Any] = {
            view.row.request_id: view.row for view in self.federation.services["ics2"].cases.list()
        }
        assert views.keys() == self.model.cases.keys()
        for request_id, case in self.model.cases.items():
            state = views[request_id].state
            if case.decision != "approved":
                assert state == "not_disclosed"
            elif case.alert is not None and self.model.live["sis"].get(case.alert.source_ref) is case.alert:
                # Approved, and the alert is the one that the person saw.
                assert state == "disclosed"
            else:
                assert state in {"disclosed", "not_disclosed"}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("operations") / "template"
    root.mkdir()
    prepare(root)
    return root


@pytest.fixture
def place(template: Path, tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "nodes"
    shutil.copytree(template, place)
    yield place
    shutil.rmtree(place)


def play(place: Path, seed: int) -> Play:
    federation = Told(place, Diary(place.with_name("diary")), f"operations {seed}")
    try:
        made = Play(federation, seed)
        for _ in range(OPERATIONS):
            made.step()
        made.settle()
        made.verify()
    except BaseException as error:
        error.add_note(f"seed {seed}: {' '.join(made.done)}")
        raise
    finally:
        federation.close()
    return made


@pytest.mark.parametrize("seed", SEEDS)
def test_nodes_and_model_agree(place: Path, seed: int) -> None:
    made = play(place, seed)
    assert made.model.cases, "a list without a case says little"


@pytest.mark.slow
@pytest.mark.parametrize("seed", LONG_SEEDS)
def test_long_nodes_and_model_agree(place: Path, seed: int) -> None:
    play(place, seed)
