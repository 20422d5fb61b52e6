"""R16: nodes at work for as long as one likes, with kills and broken links by a seed; ``make soak``, or ``python -m tests.faults.soak``.

Two nodes as processes, or three with Europol, talk through fault proxies. Declarations and alerts come in at a rate; some meet, some leave
again; people confirm, open cases and decide them. Every so often a node is killed or a link breaks. Meanwhile clients call, with one retry, as
systems do, and it is counted how often they were served.

Whatever a node acknowledged is written to a diary in SOAK_DIR first, so a soak that is interrupted goes on where it was, with the same nodes
and the same record of what must be true. In the end, with everything sound again:

- clients were served in at least 99.9 % of their calls, nodes that were killed on purpose and are on their way up apart (see ``Client``);
- all was back within 60 s of each kill or partition: a pair both of whose records came in afterwards was a match;
- everything acknowledged is there: records are duplicates when sent again, decisions stand;
- matches of live records are those of the join in the clear (``model``), each once;
- every case is served, once; at the owner each has one leaf of its opening and one of its outcome; the logs verify.

It prints a line every 10 s and a JSON summary at the end, and fails if any of that does not hold.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from connector_psi.audit.entries import Event
from connector_psi.errors import ConnectorError
from connector_psi.node.service import Service
from connector_psi.rpc.client import PeerConnector
from connector_psi.rpc.v1 import registry_pb2
from tests.faults.agency import Agency, all_synced, container, disclosed_cases, wait
from tests.faults.links import make_federation, make_linked_node, proxies
from tests.faults.model import Reference
from tests.faults.proxy import CUT, FaultProxy, Faults
from tests.simulation.crash import Diary, read_leaves, verify_invariants
from tests.simulation.federation import alert, declaration

SERVED_SHARE = 0.999
BACK_S = 60.0
RETRY_S = 1.0
PROGRESS_S = 10.0
SETTLE_S = 180.0
STEP_S = 0.5
SHARED = 4
"""Every so many pairs of records meet; the others are strangers."""
WITHDRAWN = 9
"""Every so many declarations leave again, after a while."""
STRANGER = 400_000
TROUBLES = (
    "kill ics2",
    "kill sis",
    "kill both",
    "partition",
    "one way",
    "reset",
    "stranded",
    "slow",
    "lossy",
    "throttled",
)


class Client:
    """Calls as a client does, with one retry, and counts how often that was enough.

    A call to a node that was killed on purpose and has not said yet that it is ready is counted apart: there is one process, and nobody else
    to ask. What is promised of that time is that it is short (``back``).
    """

    def __init__(self) -> None:
        self.served: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.away = 0

    def __call__(self, what: str, step: Callable[[], object], *, up: Callable[[], bool]) -> bool:
        """Do something that may fail; returns whether it was done."""
        for attempt in range(2):
            if not up():
                self.away += 1
                return False
            try:
                step()
            except ConnectorError:
                if not attempt:
                    time.sleep(RETRY_S)
            else:
                self.served[what] += 1
                return True
        if up():
            self.failed[what] += 1
        else:
            self.away += 1
        return False

    @property
    def share(self) -> float:
        """Of the calls that were served."""
        total = self.served.total() + self.failed.total()
        return self.served.total() / total if total else 1.0


class Soak:
    """One run, or the next part of one.

    Args:
        root: SOAK_DIR.
        seed: Of whatever is drawn.
        rate: Records a second and side.
    """

    def __init__(self, root: Path, seed: int, rate: float) -> None:
        self.root = root
        self.rate = rate
        root.mkdir(parents=True, exist_ok=True)
        profiles = {"ics2": "ics2", "sis": "sis"}
        made = root / "made"
        if not made.exists():
            make_federation(root, profiles, make_linked_node)
            made.write_text(f"{seed}\n")
        self.diary = Diary(root / "soak.diary")
        self.parts = len(self.diary.lines("part"))
        # Another draw in each part, and the same when the whole is begun anew.
        self.draw = random.Random(f"{seed} {self.parts}")
        # Of its own: how often people work meanwhile is a matter of time.
        self.fate = random.Random(f"fate {seed} {self.parts}")
        self.diary.note("part", seed, time.time())
        self.ics2 = Agency(root / "ics2", self.diary, _declaration, max_cases=1_000_000)
        self.sis = Agency(root / "sis", self.diary, _alert, max_cases=1_000_000)
        self.both = (self.ics2, self.sis)
        for agency in self.both:
            agency.acknowledged = max(
                (last for code, last in self.diary.lines("acknowledged") if code == agency.code), default=0
            )
        self.withdrawn = {number for (number,) in self.diary.lines("withdrawn")}
        self.client = Client()
        self.troubles: Counter[str] = Counter()
        self.back_s: list[tuple[str, float]] = []
        self._down: dict[str, float] = {}
        self._to_open: list[Any] = []
        self.found: set[str] = set()
        """Declarations with a match, as far as somebody confirmed one in this part."""

    # Work

    def run(self, minutes: float, links: Sequence[FaultProxy]) -> None:
        """Work, and make trouble, for so long."""
        begun = told = time.monotonic()
        end = begun + 60 * minutes
        next_trouble = begun + self.fate.uniform(10, 20)
        heal_at: float | None = None
        trouble = ""
        probe: _Probe | None = None
        for agency in self.both:
            agency.ready()
        while (now := time.monotonic()) < end:
            self._work(now)
            self._raise_the_dead()
            if probe is not None and probe.looks_back():
                self.back_s.append((trouble, probe.age_s))
                probe = None
            if heal_at is not None and now >= heal_at:
                for link in links:
                    link.heal()
                heal_at, probe = None, _Probe(self, time.monotonic())
                next_trouble = time.monotonic() + self.fate.uniform(10, 30)
            elif heal_at is None and probe is None and now >= next_trouble and end - now > BACK_S:
                trouble = self.fate.choice(TROUBLES)
                self.troubles[trouble] += 1
                heal_at = now + self._make(trouble, links)
            if now - told >= PROGRESS_S:
                told = now
                self._tell(now - begun, trouble if heal_at or probe else "")
            time.sleep(max(0.0, STEP_S - (time.monotonic() - now)))
            if probe is not None and probe.age_s > 2 * BACK_S:
                self.back_s.append((trouble, probe.age_s))
                probe = None
        for link in links:
            link.heal()

    def _make(self, trouble: str, links: Sequence[FaultProxy]) -> float:
        """Make trouble; returns how long it lasts."""
        kind, _, whom = trouble.partition(" ")
        if kind == "kill":
            for agency in self.both:
                if whom in {agency.code, "both"}:
                    agency.kill()
                    agency.gone()
                    self._down[agency.code] = time.monotonic() + self.fate.uniform(0, 3)
            return 0.0
        link = self.fate.choice(links)
        if trouble == "partition":
            for each in links:
                each.both(CUT)
            return self.fate.uniform(5, 45)
        if trouble == "one way":
            link.set(down=CUT)
            return self.fate.uniform(5, 45)
        if trouble == "reset":
            link.end_all()
            return 0.0
        if trouble == "stranded":
            link.strand()
            return 0.0
        faults = {
            "slow": Faults(latency_s=0.3, jitter_s=0.2),
            "lossy": Faults(latency_s=0.03, loss=0.1),
            "throttled": Faults(bytes_per_s=30_000),
        }[trouble]
        link.both(faults)
        return self.fate.uniform(10, 30)

    def _raise_the_dead(self) -> None:
        """Start who was killed, as a supervisor of processes would, and meet whoever says that it is ready."""
        for agency in self.both:
            due = self._down.get(agency.code)
            if due is None:
                continue
            if agency.served is None and time.monotonic() >= due:
                agency.start()
            if agency.served is not None and agency.served.says_something():
                agency.ready()
                del self._down[agency.code]

    def up(self, agency: Agency) -> Callable[[], bool]:
        """Return what tells whether a node is meant to answer."""
        return lambda: agency.code not in self._down

    def _work(self, now: float) -> None:
        steps: list[Callable[[], None]] = [
            *(lambda agency=agency: self._feed(agency) for agency in self.both),
            *(lambda agency=agency: self._ask(agency) for agency in self.both),
            self._decide,
            self._withdraw,
        ]
        for step in self.draw.sample(steps, len(steps)):
            step()

    def _feed(self, agency: Agency) -> None:
        batch = max(1, round(self.rate * STEP_S))
        first = agency.acknowledged

        def send() -> None:
            agency.register(range(first, first + batch))
            agency.acknowledged = first + batch
            self.diary.note("acknowledged", agency.code, agency.acknowledged)

        self.client("register", send, up=self.up(agency))

    def _ask(self, agency: Agency) -> None:
        officer = self.up(agency)
        self.client("status", lambda: agency.client("officer1").status(), up=officer)
        self.client(
            "matches", lambda: agency.call("officer1", "ListMatches", registry_pb2.ListMatchesRequest()), up=officer
        )
        self.client("checkpoint", agency.look, up=officer)

    def _decide(self) -> None:
        ics2, sis = self.up(self.ics2), self.up(self.sis)

        def confirm() -> None:
            for match in list(self.ics2.matches("new")):
                request = registry_pb2.ConfirmMatchRequest(match_id=match.match_id, reason="compared")
                self.ics2.call("officer1", "ConfirmMatch", request)
                self.diary.note("confirmed", match.match_id)
                self._to_open.append(match)
                self.found.add(match.record_ref)

        def open_case() -> None:
            while self._to_open:
                self.ics2.open_case(self._to_open[0])
                self._to_open.pop(0)

        self.client("confirm", confirm, up=ics2)
        self.client("open", open_case, up=ics2)
        self.client("approve", self.sis.approve, up=sis)

    def _withdraw(self) -> None:
        """Declarations that meet nobody leave some time after they came: a case of one that left would have another end."""
        for number in range(0, self.ics2.acknowledged - 20 * WITHDRAWN, WITHDRAWN):
            if number not in self.withdrawn and number % SHARED:
                done = self.client(
                    "withdraw",
                    lambda number=number: self.ics2.client("system1").withdraw("ICS2", f"D{number}", "a test"),  # type: ignore[misc]
                    up=self.up(self.ics2),
                )
                if not done:
                    return
                self.withdrawn.add(number)
                self.diary.note("withdrawn", number)

    def _tell(self, age_s: float, trouble: str) -> None:
        line = {
            "s": round(age_s),
            "records": [agency.acknowledged for agency in self.both],
            "served": self.client.served.total(),
            "failed": dict(self.client.failed),
            "trouble": trouble,
            "back_s": round(max((s for _, s in self.back_s), default=0.0), 1),
        }
        print(json.dumps(line), flush=True)

    # The end

    def settle(self) -> float:
        """Wait until nothing is under way any more; returns how long that took."""
        begun = time.monotonic()
        self._down.clear()
        for agency in self.both:
            agency.ready()
        last = max(agency.acknowledged for agency in self.both)
        for agency in self.both:
            while agency.acknowledged < last:
                with suppress(ConnectorError):
                    agency.feed()
                    self.diary.note("acknowledged", agency.code, agency.acknowledged)
        last = max(agency.acknowledged for agency in self.both)
        wait(all_synced(self.both), SETTLE_S)
        model = self._model()
        wanted = {ref for ref, _ in model.expected_pairs()}

        def disclosed() -> bool:
            self.ics2.review()
            self.ics2.open_cases()
            self.sis.approve()
            found = [*self.ics2.cases()]
            return len(found) >= len(wanted) and {case.state for case in found} <= {"disclosed"}

        wait(disclosed, SETTLE_S)
        return time.monotonic() - begun

    def _model(self) -> Reference:
        model = Reference()
        for n in range(self.ics2.acknowledged):
            if n not in self.withdrawn:
                model.register_declaration(f"D{n}", {(i.type, i.value) for i in _declaration(n).identifiers})
        for n in range(self.sis.acknowledged):
            model.register_alert(f"A{n}", {(i.type, i.value) for i in _alert(n).identifiers})
        return model

    def verify(self) -> dict[str, Any]:
        """Compare the nodes with what must be true; returns what does not hold, by name."""
        wrong: dict[str, Any] = {}
        for agency in self.both:
            numbers = [n for n in range(agency.acknowledged) if agency is self.sis or n not in self.withdrawn]
            outcomes: Counter[str] = Counter()
            for first in range(0, len(numbers), 500):
                outcomes.update(agency.register(numbers[first : first + 500]))
            if set(outcomes) - {"duplicate"}:
                wrong[f"{agency.code}: lost records"] = dict(outcomes)
            if not agency.client("system1").verify_log()["verified"]:
                wrong[f"{agency.code}: log"] = "does not verify"
        wanted = sorted(ref for ref, _ in self._model().expected_pairs())
        matches = [*self.ics2.matches()]
        found = sorted(match.record_ref for match in matches)
        if found != wanted:
            counts = Counter(found)
            counts.subtract(wanted)
            wrong["matches"] = {ref: n for ref, n in counts.items() if n}
        states = {match.match_id: match.state for match in matches}
        lost = [match_id for (match_id,) in self.diary.lines("confirmed") if states.get(match_id) in {None, "new"}]
        if lost:
            wrong["decisions lost"] = len(lost)
        cases = Counter(case.case_reference for case in self.ics2.cases())
        if cases != Counter(wanted):
            wrong["cases"] = {
                "wanted": len(wanted),
                "found": cases.total(),
                "twice": [r for r, n in cases.items() if n > 1],
            }
        for agency in self.both:
            agency.stop()
        services = {agency.code: Service(agency.directory, PeerConnector) for agency in self.both}
        try:
            wrong |= self._verify_logs(services)
        finally:
            for service in services.values():
                service.close()
        return wrong

    def _verify_logs(self, services: dict[str, Service]) -> dict[str, Any]:
        wrong: dict[str, Any] = {}
        try:
            closed: Any = SimpleNamespace(services=services, diary=self.diary)
            verify_invariants(closed)
        except AssertionError as error:
            wrong["invariants"] = str(error)[:500]
        cases = disclosed_cases(services["ics2"])
        if len(cases) != (wanted := len(self._model().expected_pairs())):
            wrong["disclosed"] = {"wanted": wanted, "found": len(cases)}
        for code, event in (("sis", Event.CASE_OPEN), ("sis", Event.CASE_OUTCOME), ("ics2", Event.RECEIPT)):
            leaves = Counter(leaf.request_id for leaf in read_leaves(services[code]) if leaf.event is event)
            if odd := [request_id.hex() for request_id in cases if leaves[request_id] != 1]:
                wrong[f"{code}: {event.value} not once"] = len(odd)
        return wrong

    def end(self) -> None:
        """Leave no process behind."""
        for agency in self.both:
            agency.kill()
            agency.gone()


class _Probe:
    """Watches for the federation to be back: a pair both of whose records came in after the trouble is a match."""

    def __init__(self, soak: Soak, since: float) -> None:
        self._soak = soak
        self._since = since
        last = max(agency.acknowledged for agency in soak.both)
        self._wanted = f"D{-(-last // SHARED) * SHARED}"
        self.age_s = 0.0

    def looks_back(self) -> bool:
        """Tell whether it is."""
        self.age_s = time.monotonic() - self._since
        return self._wanted in self._soak.found


def _declaration(number: int) -> Any:
    return declaration(f"D{number}", container(number))


def _alert(number: int) -> Any:
    return alert(f"A{number}", container(number if not number % SHARED else number + STRANGER))


def main() -> int:
    """Run a soak; returns 0 if everything held."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.soak", description="Nodes at work, with kills and broken links."
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--dir", type=Path, required=True, help="state; an interrupted soak goes on there")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--rate", type=float, default=4.0, help="records a second and side, in whole records each half second"
    )
    wanted = parser.parse_args()
    soak = Soak(wanted.dir, wanted.seed, wanted.rate)
    print(
        f"seed {wanted.seed}, part {soak.parts + 1}, {wanted.minutes:g} minutes, {wanted.rate:g} records a second and side",
        flush=True,
    )
    begun = time.monotonic()
    with proxies(*(agency.directory for agency in soak.both), seed=wanted.seed) as links:
        try:
            soak.run(wanted.minutes, [*links.values()])
            settled_s = soak.settle()
            wrong = soak.verify()
        finally:
            soak.end()
    late = [(trouble, round(s, 1)) for trouble, s in soak.back_s if s > BACK_S]
    if late:
        wrong["back late"] = late
    if soak.client.share < SERVED_SHARE:
        wrong["served share"] = soak.client.share
    summary = {
        "seed": wanted.seed,
        "part": soak.parts + 1,
        "minutes": round((time.monotonic() - begun) / 60, 1),
        "records": {agency.code: agency.acknowledged for agency in soak.both},
        "withdrawn": len(soak.withdrawn),
        "pairs": len(soak._model().expected_pairs()),
        "served": dict(soak.client.served),
        "failed": dict(soak.client.failed),
        "while a node was down": soak.client.away,
        "served_share": round(soak.client.share, 6),
        "served_share_with_those": round(
            soak.client.served.total()
            / max(1, soak.client.served.total() + soak.client.failed.total() + soak.client.away),
            6,
        ),
        "troubles": dict(soak.troubles),
        "back_s": {"most": round(max((s for _, s in soak.back_s), default=0.0), 1), "times": len(soak.back_s)},
        "settled_s": round(settled_s, 1),
        "wrong": wrong,
    }
    print(json.dumps(summary), flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
