"""P1 beside its peers, in one run on the same cores: plain libsodium, OpenMined PSI and SPU.

    python benchmarks/peers.py [--only openmined,spu] [--rounds N] [--elements N] [--items N] [--out DIR]

Every peer gets an environment of its own under ``.venv/peers``, installed once from the pins in ``benchmarks/peers``.
A round measures every side once, one side after the other. A side runs as two processes at once, each pinned to one CPU
before it starts, so that each has one core and an equally busy neighbour; the CPUs change places each round. A figure
is the median over the rounds, a ratio the median of the rounds' ratios. All ratios are of CPU time.

own, libsodium: the owner-side PRF of a token of 54 bytes, in batches of 1,024. Both must give equal outputs.
openmined: P-256; the owner's set-up message, raw, so without a filter; the other steps for information.
spu: ECDH PSI on Curve25519, two parties on loopback. Each raises its own items and the other's. An exponentiation costs
the CPU time of both parties, shared among the exponentiations of both. The party that learns nothing, the sender, has
less to do besides: the ratio to it alone stands beside the other. SPU's fixed costs are in both: with small sets they
weigh, and the ratios say nothing.

A peer that cannot be installed or fails is reported as "not run", with the reason and without a number; the others are
measured, and the exit code is 3.

A quick try: ``python benchmarks/peers.py --rounds 1 --elements 2000 --items 20000 --out DIR``. Without ``--out``
the results are those of the repository, ``benchmarks/results/PEERS.json``, and the ratios to the peers are entered in
``P1.json`` beside it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

from prf import machine
from rich.console import Console
from rich.progress import track
from rich.table import Table

HERE = Path(__file__).resolve().parent
SCRIPTS = HERE / "peers"
ENVIRONMENTS = HERE.parent / ".venv" / "peers"
PEERS = ("openmined", "spu")
PEERS_PYTHON = (3, 11)
"""SPU has wheels for no later one that it was tried on."""
BATCH = 1024
PASSES = {"own": 10, "libsodium": 1}
"""How often the elements are evaluated, so that the faster side is not measured for too short a time."""
SPU_ITEMS = 200_000
"""Items of each set for which the aim is meant; with fewer, SPU's fixed costs are counted as exponentiations."""
PROCESSES = 2
TIMEOUT_S = 900
LOG_SHOWN = 2000
SPU_ROLES = ("receiver", "sender")
SENDER = 1
"""By rank. The sender learns nothing."""
SOME_PEER_NOT_RUN = 3

AT_LEAST = {"ratio_to_libsodium": 10, "ratio_to_openmined": 10}
AT_MOST = {"ratio_to_spu": 0.85}
AIMS = {name: f"at least {aim}" for name, aim in AT_LEAST.items()} | {
    name: f"at most {aim}" for name, aim in AT_MOST.items()
}
PEERS_RATIOS = {f"ratio_to_{peer}": peer for peer in PEERS}

Found = list[dict[str, Any]]
"""What the processes of one side reported in one round, by rank."""

console = Console()
errors = Console(stderr=True)


class NotRunError(Exception):
    """A side could not be measured; its text is the reason, and names no path or host."""


@dataclass(frozen=True)
class Side:
    """How one side is started.

    Args:
        interpreter: Python of the side's environment.
        script: Its script in ``benchmarks/peers``.
        arguments: The arguments of its process of some rank.
        own: It is of this project, and imports its modules.
    """

    interpreter: str
    script: str
    arguments: Callable[[int], Sequence[str]]
    own: bool = False


def measure(wanted: Sequence[str], rounds: int, elements: int, items: int, python: str) -> dict[str, Any]:
    """Return the object ``PEERS``: figures, units, conditions, backend, versions, ratios.

    Args:
        wanted: Peers to measure, of ``PEERS``.
        rounds: How often each side is measured; the medians count.
        elements: Tokens, and elements of OpenMined's sets, of each process.
        items: Items of each of SPU's two sets.
        python: The interpreter for the peers' environments.

    Raises:
        NotRunError: This project's side or plain libsodium failed: there is nothing to compare with.
    """
    not_run = {peer: "not asked for" for peer in PEERS if peer not in wanted}
    interpreters = {}
    for peer in wanted:
        try:
            interpreters[peer] = _installed(peer, python)
        except NotRunError as error:
            not_run[peer] = str(error)
    taken: dict[str, list[Found]] = defaultdict(list)
    cpus = sorted(os.sched_getaffinity(0))[:PROCESSES]
    for number in track(range(rounds), "rounds", console=errors, transient=True):
        turned = cpus[number % len(cpus) :] + cpus[: number % len(cpus)]
        for name in ("own", "libsodium", *interpreters):
            if name in not_run:
                continue
            try:
                taken[name].append(_run(_side(name, interpreters, elements, items), turned))
            except NotRunError as error:
                if name not in PEERS:
                    raise NotRunError(f"{name}: {error}") from None
                not_run[name] = str(error)
                taken.pop(name, None)
    _require_equal_outputs(taken)
    return {
        "figures": _figures(taken),
        "units": {
            "*_us": "microseconds of one process on one CPU; an element, or an exponentiation where the name says so",
            "*_s": "seconds",
        },
        "conditions": {
            "rounds": rounds,
            "processes_at_once": PROCESSES,
            "cpus_used": len(cpus),
            "elements": elements,
            "batch": BATCH,
            "own_passes": PASSES["own"],
            "spu_items_a_side": items,
            "spu_curve_code": _first(taken, "spu", "curve_code"),
            **machine(),
        },
        "backend": _first(taken, "own", "version"),
        "versions": {
            name: {"version": _first(taken, name, "version"), "python": _first(taken, name, "python")}
            for name in taken
            if name != "own"
        },
        "aims": AIMS,
        **_ratios(taken, not_run),
    }


def _side(name: str, interpreters: dict[str, str], elements: int, items: int) -> Side:
    match name:
        case "openmined":
            return Side(interpreters[name], "openmined_side.py", lambda _rank: [str(elements)])
        case "spu":
            ports = _free_ports()
            return Side(interpreters[name], "spu_side.py", lambda rank: [str(rank), str(items), *ports])
        case _:
            return Side(
                sys.executable,
                "own_side.py",
                lambda _rank: [name, str(elements), str(BATCH), str(PASSES[name])],
                own=True,
            )


def _installed(peer: str, python: str) -> str:
    """Return the interpreter of a peer's environment, and make the environment first unless it has these very pins."""
    pins = SCRIPTS / f"{peer}.txt"
    environment = ENVIRONMENTS / peer
    interpreter = environment / "bin" / "python"
    stamp = environment / ".installed"
    wanted = hashlib.sha256(pins.read_bytes()).hexdigest()
    if interpreter.exists() and stamp.exists() and stamp.read_text(encoding="ascii") == wanted:
        return str(interpreter)
    console.print(f"installing {peer} in an environment of its own")
    steps = (
        ("its environment cannot be made", [python, "-m", "venv", "--clear", str(environment)]),
        (
            "its pinned packages cannot be installed here",
            [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(pins)],
        ),
    )
    for failure, command in steps:
        try:
            subprocess.run(command, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            said = error.stdout + error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
            errors.print(said.strip(), markup=False, highlight=False, soft_wrap=True)
            raise NotRunError(failure) from None
    stamp.write_text(wanted, encoding="ascii")
    return str(interpreter)


def _run(side: Side, cpus: Sequence[int]) -> Found:
    """Run the processes of a side once, let them begin when all are ready, and return what they report."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        homes = [Path(folder, str(rank)) for rank in range(PROCESSES)]
        processes = [
            stack.enter_context(_start(side, rank, home, cpus[rank % len(cpus)])) for rank, home in enumerate(homes)
        ]
        late = threading.Event()
        watchdog = threading.Timer(TIMEOUT_S, _kill, (processes, late))
        watchdog.start()
        try:
            for process in processes:
                _line(process)
            for process in processes:
                assert process.stdin
                with suppress(BrokenPipeError):  # it has ended since, which the next line tells
                    process.stdin.write(b"begin\n")
            return [json.loads(_line(process)) for process in processes]
        except NotRunError:
            for home in homes:
                shown = (home / "log").read_text(encoding="utf-8", errors="replace")[-LOG_SHOWN:]
                errors.print(shown, markup=False, highlight=False, soft_wrap=True)
            if late.is_set():
                raise NotRunError(f"a round took longer than {TIMEOUT_S} s") from None
            raise
        finally:
            watchdog.cancel()
            _kill(processes)


def _start(side: Side, rank: int, home: Path, cpu: int) -> subprocess.Popen[bytes]:
    """Start a process on one CPU, with a directory of its own for whatever it and its libraries leave behind."""
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if side.own or name != "PYTHONPATH"}
    environment["TMPDIR"] = str(home)
    if side.own:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE), environment.get("PYTHONPATH")]))
    command = [side.interpreter, str(SCRIPTS / side.script), *side.arguments(rank)]
    with _pinned(cpu), (home / "log").open("wb") as log:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd=home, env=environment, bufsize=0
        )


@contextmanager
def _pinned(cpu: int) -> Iterator[None]:
    """Confine this thread, and so what it starts, to one CPU: libraries count CPUs when they are loaded."""
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, usable)


def _line(process: subprocess.Popen[bytes]) -> bytes:
    """Return the next line of a process.

    Raises:
        NotRunError: It ended instead.
    """
    assert process.stdout
    if line := process.stdout.readline():
        return line
    code = process.wait()
    raise NotRunError(
        f"a process ended by {signal.Signals(-code).name}" if code < 0 else f"a process ended with {code}"
    )


def _kill(processes: Sequence[subprocess.Popen[bytes]], late: threading.Event | None = None) -> None:
    if late:
        late.set()
    for process in processes:
        process.kill()


def _free_ports() -> list[str]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(PROCESSES)]
        return [str(each.getsockname()[1]) for each in sockets]


def _require_equal_outputs(taken: dict[str, list[Found]]) -> None:
    outputs = {one for name in PASSES for each in taken[name] for found in each for one in found["outputs"]}
    if len(outputs) != 1:
        raise NotRunError("own and libsodium disagree: nothing was measured")


def _figures(taken: dict[str, list[Found]]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for name, rounds in taken.items():
        for step in rounds[0][0]["steps"] if name != "spu" else ():
            for kind in ("cpu", "wall"):
                costs = _costs_us(rounds, step, kind)
                figures[f"{name}_{step}_{kind}_us"] = round(median(costs), 2)
    if "spu" in taken:
        for rank, role in enumerate(SPU_ROLES):
            found = [each[rank] for each in taken["spu"]]
            figures[f"spu_{role}_cpu_s"] = round(median(each["steps"]["psi"]["cpu_s"] for each in found), 3)
            figures[f"spu_{role}_wall_s"] = round(median(each["steps"]["psi"]["wall_s"] for each in found), 3)
            figures[f"spu_{role}_cpu_us_an_exponentiation"] = round(median(map(_exponentiation_us, found)), 2)
    return figures


def _ratios(taken: dict[str, list[Found]], not_run: dict[str, str]) -> dict[str, float | str]:
    own = _costs_us(taken["own"], "prf")
    ratios: dict[str, float | str] = {"ratio_to_libsodium": _ratio(_costs_us(taken["libsodium"], "prf"), own)}
    ratios |= {ratio: f"not run: {not_run.get(peer)}" for ratio, peer in PEERS_RATIOS.items()}
    if "openmined" in taken:
        ratios["ratio_to_openmined"] = _ratio(_costs_us(taken["openmined"], "setup"), own)
    if "spu" in taken:
        each_side = [[_exponentiation_us(found) for found in each] for each in taken["spu"]]
        ratios["ratio_to_spu"] = _ratio(own, [fmean(sides) for sides in each_side])
        ratios["ratio_to_spu_sender_alone"] = _ratio(own, [sides[SENDER] for sides in each_side])
    return ratios


def _costs_us(rounds: list[Found], step: str, kind: str = "cpu") -> list[float]:
    """Return each round's cost of an element, the mean of the processes that ran at once."""
    return [fmean(found["steps"][step][f"{kind}_s"] / found["elements"] for found in each) * 1e6 for each in rounds]


def _exponentiation_us(found: dict[str, Any]) -> float:
    return float(found["steps"]["psi"]["cpu_s"] / found["exponentiations"] * 1e6)


def _ratio(above: list[float], below: list[float]) -> float:
    return round(median(a / b for a, b in zip(above, below, strict=True)), 3)


def _first(taken: dict[str, list[Found]], name: str, what: str) -> Any:  # noqa: ANN401 - whatever was reported
    return taken[name][0][0][what] if name in taken else None


def enter_ratios(path: Path, result: dict[str, Any]) -> None:
    """Enter the ratios to the peers in the results of P1, and keep what else they say.

    An older ratio to a peer that was not run now is dropped: ``peers_measured_in`` would be wrong about it.
    """
    entry = json.loads(path.read_text(encoding="utf-8"))["P1"] if path.exists() else {}
    if "figures" not in entry:  # nobody measured P1 by itself, so this run's ratio is the one to keep
        entry["ratio_to_libsodium"] = result["ratio_to_libsodium"]
    for ratio in PEERS_RATIOS:
        entry.pop(ratio, None)
        if not isinstance(result[ratio], str):
            entry[ratio] = result[ratio]
    entry["peers_measured_in"] = {"file": "PEERS.json", "backend": result["backend"]}
    path.write_text(json.dumps({"P1": entry}, indent=2) + "\n", encoding="utf-8")


def _print(result: dict[str, Any]) -> None:
    table = Table(title=f"P1 beside its peers, in one run; {result['backend']}", title_justify="left")
    table.add_column("figure", no_wrap=True)
    for column in ("value", "aim", "reached"):
        table.add_column(column)
    for name, value in result["figures"].items():
        table.add_row(name, str(value))
    table.add_section()
    for name in (key for key in result if key.startswith("ratio")):
        too_small = name in AT_MOST and result["conditions"]["spu_items_a_side"] < SPU_ITEMS
        reached = "sets too small" if too_small else _reached(name, result[name])
        table.add_row(name, str(result[name]), AIMS.get(name, ""), reached)
    console.print(table)
    for name, versions in result["versions"].items():
        console.print(f"{name}: {versions['version']}, Python {versions['python']}", highlight=False)
    console.print(f"conditions: {result['conditions']}", highlight=False)


def _reached(name: str, value: float | str) -> str:
    if isinstance(value, str) or name not in AIMS:
        return ""
    reached = value >= AT_LEAST[name] if name in AT_LEAST else value <= AT_MOST[name]
    return "yes" if reached else "no"


def main() -> int:
    """Measure, print a table, write the results; return 3 if a peer that was asked for could not be measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=_peers, default=PEERS, help="peers, with commas between them (openmined,spu)")
    parser.add_argument("--rounds", type=_positive, default=5, help="rounds, of which the median counts (5)")
    parser.add_argument("--elements", type=_positive, default=20_000, help="tokens, and OpenMined's elements (20000)")
    parser.add_argument("--items", type=_positive, default=SPU_ITEMS, help="items of each of SPU's two sets (200000)")
    parser.add_argument(
        "--python", default=_peers_python(), help="interpreter of the peers' environments (3.11 if there is one)"
    )
    parser.add_argument("--out", type=Path, default=HERE / "results", help="directory of PEERS.json and P1.json")
    options = parser.parse_args()
    if not hasattr(os, "sched_setaffinity"):
        parser.exit(1, "processes are pinned to CPUs, which this system cannot do\n")
    try:
        result = measure(options.only, options.rounds, options.elements, options.items, options.python)
    except NotRunError as error:
        parser.exit(1, f"nothing was measured: {error}\n")
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "PEERS.json").write_text(json.dumps({"PEERS": result}, indent=2) + "\n", encoding="utf-8")
    enter_ratios(options.out / "P1.json", result)
    _print(result)
    failed = [peer for ratio, peer in PEERS_RATIOS.items() if peer in options.only and isinstance(result[ratio], str)]
    for peer in failed:
        errors.print(f"{peer} {result[f'ratio_to_{peer}']}", highlight=False)
    return SOME_PEER_NOT_RUN if failed else 0


def _peers_python() -> str:
    """Return an interpreter that the peers' pins are for, this one or one on the path; else this one."""
    found = None if sys.version_info[:2] == PEERS_PYTHON else shutil.which("python{}.{}".format(*PEERS_PYTHON))
    return found or sys.executable


def _peers(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        raise argparse.ArgumentTypeError(f"not one of {', '.join(PEERS)}: {', '.join(unknown)}")
    return names


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError("not a whole number from 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
