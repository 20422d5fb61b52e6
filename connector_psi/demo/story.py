"""The demonstration: three authorities find out what they share, disclose what they may, and prove that it was all.

Tells it step by step, with one table a stage, and checks every claim that it makes. What does not hold is told as well,
and is in ``DemoReport.failures``. The nodes are processes of their own (``federation``); these modules are their
people: they register the samples, confirm matches, ask, approve and refuse, each with a certificate of the role that
may. Later stages: ``disclosing``, ``evidence``.
"""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from connector_psi.demo.disclosing import compare_undisclosed, disclose, types_of
from connector_psi.demo.evidence import examine_logs, search_for_leaks
from connector_psi.demo.federation import AUTHORITIES, Federation
from connector_psi.demo.join import count_asked, join, read_samples
from connector_psi.demo.plan import CROSS_CHECK, CUSTOMS, EUROPOL, OBJECTS, SILENT, SIS, Pair
from connector_psi.demo.samples import generate
from connector_psi.demo.scene import NAMES, OWNERS, Scene
from connector_psi.demo.signins import PEOPLE
from connector_psi.demo.telling import Teller
from connector_psi.domain.records import Record
from connector_psi.errors import ConfigError, ProofInvalidError
from connector_psi.pki import Role
from connector_psi.policy import Agreement

MORE = 5
"""Declarations that come in once the story is told, for whoever opens a console."""
_README = """\
Kept from a demonstration with seed {seed}; everything in here is synthetic.

samples/      what the authorities took in; planted.json names the shared pairs and the near misses
nodes/CODE/   the node directories; `connector-psi serve nodes/CODE` starts one again
transcript/   every message of the peer ports before encryption, one JSON line each, the message in base64
logs/CODE/    the disclosure logs; `python -m connector_psi.audit.verify logs/CODE` checks one
report.json   the result of the demonstration
"""


@dataclass(frozen=True, slots=True)
class DemoReport:
    """How a demonstration ended."""

    json: dict[str, Any] = field(repr=False)
    """What ``demo --json`` prints."""
    failures: tuple[str, ...]
    """Claims that did not hold; empty if all is well."""


def run_demo(
    *,
    seed: int,
    keep: Path | None = None,
    serve: bool = False,
    console: Console | None = None,
    on_report: Callable[[DemoReport], None] | None = None,
) -> DemoReport:
    """Run the demonstration.

    Args:
        seed: Draws other samples and other shared pairs.
        keep: Folder to leave node directories, samples and transcript in; a temporary one that is removed, if None.
        serve: Keep the nodes running afterwards, until Ctrl-C or SIGTERM.
        console: Where the story is told; nowhere if None.
        on_report: Called with the result as soon as it is there, before ``serve`` waits.

    Raises:
        ConfigError: The folder is in use.
        ProofInvalidError: Nothing was found, so that there is nothing to tell.
        UnavailableError: A node does not come up, or something takes far longer than it should.

    Cost: 25 seconds on two cores.
    """
    if keep is not None and keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        raise ConfigError(f"{keep}: exists and is not an empty directory")
    root = keep if keep is not None else Path(tempfile.mkdtemp(prefix="connector-psi-demo-"))
    root.mkdir(parents=True, exist_ok=True)
    try:
        with _interruptible(), Federation(root, consoles=serve) as federation:
            scene = Scene(root.resolve(), seed, federation, Teller(console or Console(file=StringIO())))
            report = _tell(scene)
            if keep is not None:
                (root / "README.txt").write_text(_README.format(seed=seed), encoding="utf-8")
                (root / "report.json").write_text(json.dumps(report.json, indent=2) + "\n", encoding="utf-8")
            if on_report is not None:
                on_report(report)
            if serve:
                _serve(scene)
    finally:
        if keep is None:
            shutil.rmtree(root, ignore_errors=True)
    return report


@contextmanager
def _interruptible() -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C, so that the nodes are stopped and the temporary folder removed.

    SIGINT is set too: a shell lets the processes that it starts in the background ignore it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell(scene: Scene) -> DemoReport:
    """Run all stages and return the result."""
    scene.tell.say("[bold]Three authorities, three processes, mutual TLS on loopback.[/]")
    scene.tell.say(f"Seed {scene.seed}; all data is invented.")
    _prepare(scene)
    _take_in(scene)
    matches, expected = _find(scene)
    hits = _confirm(scene, matches)
    outcomes, undisclosed = disclose(scene, matches, expected)
    compare_undisclosed(scene, undisclosed)
    _find_unnoticed(scene)
    wire = search_for_leaks(scene, outcomes)
    log, tamper_caught = examine_logs(scene, wire)
    report = DemoReport(
        json={
            "nodes": [
                {
                    "authority": code,
                    "pid": scene.federation.nodes[code].pid,
                    "records": scene.status[code]["records"],
                    "tokens": scene.tokens(code),
                }
                for code in AUTHORITIES
            ],
            "records": sum(scene.status[code]["records"] for code in AUTHORITIES),
            "tokens": sum(scene.tokens(code) for code in AUTHORITIES),
            "planted": [asdict(pair) for pair in scene.plan.planted],
            "matches": [asdict(pair) for pair in sorted(outcome.pair for outcome in outcomes)],
            "false_positives": (Counter(outcome.pair for outcome in outcomes) - Counter(expected)).total(),
            "hits": hits,
            "disclosures": [
                {
                    "case_id": outcome.case_id,
                    "agreement": outcome.pair.agreement,
                    "disclosed_fields": sorted(outcome.fields),
                    "withheld_fields": outcome.withheld,
                }
                for outcome in outcomes
                if outcome.fields
            ],
            "raw_identifiers_on_wire": wire.raw,
            "disclosed_identifiers_on_wire": sum(wire.released.values()),
            "log": log,
            "tamper_caught": tamper_caught,
            "seconds": scene.tell.seconds,
        },
        failures=tuple(scene.tell.failures),
    )
    _end(scene, report)
    return report


# Stages


def _prepare(scene: Scene) -> None:
    """Write the samples while the nodes come up."""
    scene.tell.begin("Samples and nodes")
    with ThreadPoolExecutor(1) as pool:
        up = pool.submit(scene.federation.start)
        scene.plan = generate(scene.root / "samples", scene.seed)
        up.result()
    nodes = scene.federation.nodes
    in_force: dict[str, list[str]] = {code: [] for code in AUTHORITIES}
    for a, b in ((CUSTOMS, SIS), (CUSTOMS, EUROPOL), (SIS, EUROPOL)):
        for own, other in ((a, b), (b, a)):
            added = scene.federation.client(own, Role.ADMIN).add_peer(nodes[other].descriptor)
            in_force[own] += added["agreements"]
    scene.tell.table(
        ["authority", "process", "peer port", "local port"],
        [(NAMES[c], str(nodes[c].pid), nodes[c].peer, nodes[c].local) for c in AUTHORITIES],
    )
    scene.tell.say(
        f"{len(scene.plan.planted)} shared things are planted in the samples, and "
        f"{len(scene.plan.near_misses)} near misses."
    )
    wanted = {CUSTOMS: [OBJECTS, CROSS_CHECK, *SILENT], SIS: [OBJECTS, *SILENT], EUROPOL: [CROSS_CHECK]}
    scene.tell.check(
        f"agreements in force: {OBJECTS}, {CROSS_CHECK}, and {len(SILENT)} in which N.SIS learns first; none between "
        "SIS and Europol",
        holds={code: sorted(found) for code, found in in_force.items()}
        == {code: sorted(found) for code, found in wanted.items()},
    )
    scene.tell.end()


def _take_in(scene: Scene) -> None:
    scene.tell.begin("Each authority takes in its own data, in its own format")
    outcomes: dict[str, Counter[str]] = {}

    def owner(code: str) -> None:
        scene.readings[code] = read_samples(scene.plan.files[code])
        outcomes[code] = scene.federation.register(code, scene.readings[code].records)
        scene.federation.client(code, Role.SYSTEM).publish()

    pool = ThreadPoolExecutor(2)
    try:
        done = [pool.submit(owner, code) for code in (SIS, EUROPOL)]
        scene.readings[CUSTOMS] = read_samples(scene.plan.files[CUSTOMS])
        for each in done:
            each.result()
    finally:
        # Not waited for: on Ctrl-C the nodes go first, and their calls with them.
        pool.shutdown(wait=False, cancel_futures=True)
    # The owners publish before customs asks, so that customs asks once.
    for code in (SIS, EUROPOL):
        scene.sync(code)
    outcomes[CUSTOMS] = scene.federation.register(CUSTOMS, scene.readings[CUSTOMS].records)
    kinds = {
        CUSTOMS: f"ICS2 declarations IE4R05 (XML), {scene.plan.houses} house consignments",
        SIS: "object alerts (JSON Lines, CSV)",
        EUROPOL: "objects, contacts, companies (JSON Lines)",
    }
    scene.tell.table(
        ["authority", "format", "files", "records", "not usable"],
        [
            (
                NAMES[code],
                kinds[code],
                len(scene.plan.files[code]),
                outcomes[code]["accepted"],
                ", ".join(sorted({issue.code for issue in scene.readings[code].issues})) or "-",
            )
            for code in AUTHORITIES
        ],
    )
    scene.tell.check(
        "every record was taken in",
        holds=all(outcomes[code] == {"accepted": len(scene.readings[code].records)} for code in AUTHORITIES),
    )
    scene.tell.end()


def _find(scene: Scene) -> tuple[list[dict[str, Any]], list[Pair]]:
    """Wait for the matches and hold them against the plaintext join."""
    scene.tell.begin("Customs finds what it shares; the owners see padded, blinded batches")
    scene.sync(CUSTOMS)
    matches = list(scene.federation.client(CUSTOMS, Role.OFFICER).matches())
    scene.status = {code: scene.federation.client(code, Role.SYSTEM).status() for code in AUTHORITIES}
    now = datetime.now(tz=UTC)
    customs = scene.readings[CUSTOMS].records
    expected = [
        pair
        for code, agreement in scene.agreements.items()
        for pair in join(agreement, customs, scene.readings[OWNERS[code]].records, now)
    ]
    scene.tell.table(
        ["agreement", "owner", "records", "tokens", "asked", "matches"],
        [
            (
                code,
                NAMES[OWNERS[code]],
                scene.status[OWNERS[code]]["records"],
                scene.tokens(OWNERS[code]),
                count_asked(agreement, customs),
                sum(match["agreement"] == code for match in matches),
            )
            for code, agreement in scene.agreements.items()
        ],
    )
    found = Counter((match["agreement"], match["record_ref"], types_of(match)) for match in matches)
    wanted = Counter((pair.agreement, pair.querier_ref, pair.identifier_type) for pair in expected)
    false_positives, missed = (found - wanted).total(), (wanted - found).total()
    scene.tell.check(
        f"{len(matches)} matches; a join of the samples in plaintext finds the same {len(expected)}: "
        f"{false_positives} false, {missed} missed",
        holds=found == wanted,
    )
    scene.tell.check(
        "the join finds the planted pairs and nothing else", holds=sorted(expected) == sorted(scene.plan.planted)
    )
    # A declaration that holds a planted pair as well is left to the join.
    close = {(miss.agreement, miss.querier_ref) for miss in scene.plan.near_misses}
    close -= {(pair.agreement, pair.querier_ref) for pair in scene.plan.planted}
    scene.tell.check(
        f"none of the {len(scene.plan.near_misses)} near misses matched",
        holds=not any((match["agreement"], match["record_ref"]) in close for match in matches),
    )
    for miss in sorted({miss.why for miss in scene.plan.near_misses}):
        scene.tell.say(f"[dim]      {miss}[/]")
    scene.tell.end()
    if not matches:
        raise ProofInvalidError("demonstration: customs found nothing")
    return matches, expected


def _confirm(scene: Scene, matches: Sequence[Mapping[str, Any]]) -> int:
    scene.tell.begin("An officer looks at each match beside the declaration, and confirms it")
    client = scene.federation.client(CUSTOMS, Role.OFFICER)
    for match in matches:
        client.confirm(match["match_id"], "same number in declaration and match, seen by an officer")
    confirmed = list(client.matches("confirmed"))
    scene.tell.table(
        ["agreement", "declaration", "by", "known yet"],
        [
            (m["agreement"], m["record_ref"], types_of(m), m["category"] or "nothing")
            for m in sorted(confirmed, key=lambda m: (m["agreement"], m["record_ref"]))
        ],
    )
    scene.tell.check(f"{len(confirmed)} hits", holds=len(confirmed) == len(matches))
    scene.tell.end()
    return len(confirmed)


def _find_unnoticed(scene: Scene) -> None:
    """Matches of agreements of which customs gets no notice: at N.SIS, and nowhere at customs."""
    scene.tell.begin("The other way round: N.SIS learns first, and nobody at customs is told")
    scene.sync(SIS)
    now = datetime.now(tz=UTC)
    customs = scene.readings[CUSTOMS].records
    expected = [
        pair
        for agreement in scene.silent.values()
        for pair in join(agreement, _asked_with(agreement, scene.readings[SIS].records, now), customs, now)
    ]
    matches = list(scene.federation.client(SIS, Role.OFFICER).matches())
    scene.tell.table(
        ["agreement", "alert", "by", "known yet of the declaration"],
        [(m["agreement"], m["record_ref"], types_of(m), m["category"] or "nothing") for m in matches],
    )
    found = Counter((match["agreement"], match["record_ref"], types_of(match)) for match in matches)
    scene.tell.check(
        f"{len(matches)} at N.SIS; a join of the samples in plaintext finds the same {len(expected)}",
        holds=bool(matches) and found == Counter((p.agreement, p.querier_ref, p.identifier_type) for p in expected),
    )
    officer = scene.federation.client(CUSTOMS, Role.SUPERVISOR)
    shown = [*officer.matches(), *officer.cases(), *officer.recalls()]
    scene.tell.check(
        "customs is shown nothing of it: no match, no case, no recall",
        holds=not any(each["agreement"] in SILENT for each in shown),
    )
    scene.tell.end()


def _asked_with(agreement: Agreement, records: Sequence[Record], now: datetime) -> list[Record]:
    return [
        record
        for record in records
        if record.category in agreement.querier_categories
        and not record.hidden
        and (record.valid_until is None or record.valid_until > now)
    ]


def _end(scene: Scene, report: DemoReport) -> None:
    r = report.json
    scene.tell.rule("In short")
    scene.tell.say(
        f"{r['records']:,} records, {r['tokens']:,} tokens, {len(r['matches'])} matches, {r['hits']} hits, "
        f"{len(r['disclosures'])} disclosures, {r['raw_identifiers_on_wire']} identifiers on the wire outside "
        f"them, {r['seconds']} s."
    )
    if report.failures:
        scene.tell.say(f"[bold red]{len(report.failures)} claims did not hold:[/]")
        for failure in report.failures:
            scene.tell.say(f"  {failure}")
    else:
        scene.tell.say("[bold green]Every claim above was checked and holds.[/]")


def _serve(scene: Scene) -> None:
    """Tell how to reach the nodes, and wait for Ctrl-C."""
    scene.tell.begin("The nodes keep running; Ctrl-C ends them")
    nodes = scene.federation.nodes
    scene.tell.table(
        ["authority", "directory", "peer port", "local port"],
        [(NAMES[c], str(nodes[c].directory), nodes[c].peer, nodes[c].local) for c in AUTHORITIES],
    )
    directory = nodes[CUSTOMS].directory
    scene.tell.say(f"Try: connector-psi status {directory}")
    scene.tell.say(f"     connector-psi matches list {directory}")
    scene.tell.say(f"     connector-psi log verify {nodes[SIS].directory}")
    _tell_consoles(scene)
    try:
        while True:
            time.sleep(1.0)
            scene.federation.check()
    except KeyboardInterrupt:
        scene.tell.say("stopping")


def _tell_consoles(scene: Scene) -> None:
    """Bring something to decide about, and tell where the consoles are and with what to sign in."""
    sign_ins = scene.federation.sign_ins
    if sign_ins is None:
        return
    scene.tell.say("")
    scene.tell.say("[bold]Web consoles[/] [dim]under the demonstration's own root, about which a browser asks once[/]")
    scene.tell.table(
        ["authority", "console"], [(NAMES[code], scene.federation.nodes[code].console) for code in AUTHORITIES]
    )
    scene.tell.say(f"{_declare_again(scene)} more declarations came in at customs: their matches wait for a review.")
    scene.tell.table(["test sign-in", "role"], [(person, role.value) for person, role in PEOPLE])
    left_s = sign_ins.left_s()
    scene.tell.say(f"Password of all: {sign_ins.password}")
    scene.tell.say(f"One-time codes of all: an app with the secret {sign_ins.secret}")
    scene.tell.say(f"One-time code of now: {sign_ins.code()}, for {left_s:.0f} s; each counts once an account")


def _declare_again(scene: Scene) -> int:
    """Have some of what is shared declared once more, under numbers of its own. Returns how many declarations."""
    shared = {pair.querier_ref for pair in scene.plan.planted if pair.agreement in OWNERS}
    again = [
        replace(record, source_ref=f"{record.source_ref}/again", message_ref=f"{record.message_ref}/again")
        for record in scene.readings[CUSTOMS].records
        if record.source_ref in shared
    ][:MORE]
    scene.federation.register(CUSTOMS, again)
    client = scene.federation.client(CUSTOMS, Role.OFFICER)
    scene.until("the new matches", lambda: len(list(client.matches("new"))) >= len(again))
    return len(again)
