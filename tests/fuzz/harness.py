"""One input into one decoder: what is measured, and what counts as a finding.

A finding is: an exception other than the decoder's own, a result that breaks a promise of the decoder, text of the
input in an error, over ``LIMIT_S`` for one input, or more memory for one input than the target may take.

Leaves to others: which decoders there are (``targets``), where inputs come from (``engine``).
"""

from __future__ import annotations

import atexit
import hashlib
import json
import resource
import shutil
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from connector_psi.errors import ConnectorError
from tests.fuzz.mutation import PLANT_RUN, PLANTS, Shape

LIMIT_S = 0.1
"""No input may take longer."""
MEMORY_BYTES = 64 * 2**20
"""No input may make the process grow by more."""
TRIES = 5
"""An input over a limit is tried so often, and its best result counts: the machine may have been busy."""

_PLANTED = frozenset(plant[at : at + PLANT_RUN] for plant in PLANTS for at in range(len(plant) - PLANT_RUN + 1))
_CLEAR_PEAK = Path("/proc/self/clear_refs")
_RESET_EVERY = 200
_MAX_SUSPECTS = 20


@cache
def folder() -> Path:
    """Return a folder for decoders that read files; in memory where the system has that."""
    memory = Path("/dev/shm")
    made = Path(mkdtemp(prefix="connector-psi-fuzz-", dir=memory if memory.is_dir() else None))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def repeats_a_plant(text: str) -> bool:
    """Whether a text holds eight characters of a planted value."""
    return any(run in text for run in _PLANTED)


class BrokenPromiseError(Exception):
    """A decoder returned something that it promises not to return."""


def promise(holds: object, what: str) -> None:
    """Check what a decoder promises.

    Raises:
        BrokenPromiseError: It does not hold.
    """
    if not holds:
        raise BrokenPromiseError(what)


def _nothing(_value: Any) -> None:
    pass


def _always(_value: Any) -> bool:
    return True


def _never() -> str:
    return ""


def _same(data: bytes) -> Any:
    return data


@dataclass(frozen=True)
class Target:
    """A decoder of untrusted bytes.

    Attributes:
        name: What ``FUZZ_ONLY`` takes.
        decode: The decoder.
        refuses: The only exceptions that it may raise.
        seeds: Gives inputs that reach far into it, built by code; at least one is taken in.
        shape: How its inputs are built.
        prepare: Makes the decoder's argument of an input, outside of what is measured: signs it, writes it to a file.
        check: Raises what is wrong with a result.
        takes_in: Says of a result whether something of the input was taken in.
        max_bytes: Longest input.
        names_keys: Its errors may name keys of the input: a file of the node's own operator.
        absent: Gives the reason why it cannot be run here, or nothing.
    """

    name: str
    decode: Callable[[Any], Any]
    refuses: tuple[type[ConnectorError], ...]
    seeds: Callable[[], Iterable[bytes]]
    shape: Shape
    prepare: Callable[[bytes], Any] = _same
    check: Callable[[Any], None] = _nothing
    takes_in: Callable[[Any], bool] = _always
    max_bytes: int = 65_536
    names_keys: bool = False
    absent: Callable[[], str] = _never


@dataclass(frozen=True)
class Finding:
    """Something that a decoder did wrong. Equal findings are one."""

    kind: str
    place: str
    data: bytes = field(compare=False, repr=False)
    detail: str = field(compare=False, default="")


@dataclass
class Session:
    """What was seen of one target.

    Attributes:
        suspects: Inputs that were over a limit here; the process may be instrumented and the machine busy, so they are
            measured again elsewhere, by ``confirm``.
    """

    target: Target
    executions: int = 0
    accepted: int = 0
    slowest_s: float = 0.0
    slowest: bytes = b""
    grown_bytes: int = 0
    findings: dict[Finding, None] = field(default_factory=dict)
    suspects: list[bytes] = field(default_factory=list)

    def run(self, data: bytes) -> bool:
        """Run one input and note what is wrong. Returns whether it was taken in."""
        if self.executions % _RESET_EVERY == 0:
            _forget_peak()
        self.executions += 1
        before = _peak_bytes()
        taken, took = self._measured(data)
        grown = _peak_bytes() - before
        self.grown_bytes = max(self.grown_bytes, grown)
        if took > max(self.slowest_s, 0.002):
            took = min(took, *(self._measured(data)[1] for _ in range(2)))
            if took > self.slowest_s:
                self.slowest_s, self.slowest = took, data
        if (took > LIMIT_S or grown > MEMORY_BYTES) and len(self.suspects) < _MAX_SUSPECTS:
            self.suspects.append(data)
        self.accepted += taken
        return taken

    def confirm(self, data: bytes) -> float:
        """Measure one input several times; a finding if even the best of time or memory is over its limit."""
        times, growths = [], []
        for _ in range(TRIES):
            _forget_peak()
            before = _peak_bytes()
            times.append(self._measured(data)[1])
            growths.append(_peak_bytes() - before)
        if min(times) > LIMIT_S:
            self._find("slow", f"over {LIMIT_S * 1000:.0f} ms", data, f"{min(times) * 1000:.0f} ms")
        if min(growths) > MEMORY_BYTES:
            self._find("memory", f"over {MEMORY_BYTES >> 20} MiB", data, f"{min(growths) >> 20} MiB")
        return min(times)

    def _measured(self, data: bytes) -> tuple[bool, float]:
        argument = self.target.prepare(data)
        begin = _Clock()
        try:
            value = self.target.decode(argument)
        except self.target.refuses as error:
            took = begin.passed()
            if not self.target.names_keys and repeats_a_plant(str(error)):
                self._find("told", f"{type(error).__name__} repeats the input", data)
            return False, took
        except Exception as error:  # noqa: BLE001 - this is what is looked for
            self._find("raised", _place(error), data, "".join(traceback.format_exception(error)[-4:]))
            return False, begin.passed()
        took = begin.passed()
        try:
            self.target.check(value)
        except Exception as error:  # noqa: BLE001 - as above
            self._find("promise", _place(error), data, "".join(traceback.format_exception(error)[-4:]))
        return self.target.takes_in(value), took

    def _find(self, kind: str, place: str, data: bytes, detail: str = "") -> None:
        self.findings.setdefault(Finding(kind, place, data, detail))

    def report(self) -> dict[str, Any]:
        """Return what is kept of the session, as JSON data."""
        return {
            "executions": self.executions,
            "accepted": self.accepted,
            "slowest_ms": self.slowest_s * 1000,
            "slowest": self.slowest.hex(),
            "grown_bytes": self.grown_bytes,
            "suspects": [data.hex() for data in self.suspects],
            "findings": [
                {"kind": each.kind, "place": each.place, "detail": each.detail, "data": each.data.hex()}
                for each in self.findings
            ],
        }


def minimised(target: Target, finding: Finding, *, seconds: float = 10.0) -> bytes:
    """Return a short input with the same finding: pieces are cut out as long as it stays."""
    deadline = time.monotonic() + seconds
    data = finding.data
    size = max(1, len(data) // 2)
    while size:
        at = 0
        while at < len(data) and time.monotonic() < deadline:
            shorter = data[:at] + data[at + size :]
            session = Session(target)
            session.run(shorter)
            if finding in session.findings:
                data = shorter
            else:
                at += size
        size //= 2
    return data


def digest(data: bytes) -> str:
    """Return the name of a file that holds this input."""
    return hashlib.sha256(data).hexdigest()[:16]


def save(path: Path, value: dict[str, Any]) -> None:
    """Write JSON whole or not at all."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(value), encoding="utf-8")
    fresh.replace(path)


def _place(error: Exception) -> str:
    """Name a failure by its kind and the innermost line of this project, so that one mistake is one finding."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "connector_psi" in frame.filename]
    kind = type(error).__name__
    if isinstance(error, BrokenPromiseError):
        return f"{kind}: {error}"
    if not frames:
        return f"{kind} in the harness"
    last = frames[-1]
    # Where exactly the stack ends is chance.
    line = "" if isinstance(error, RecursionError) else f":{last.lineno}"
    return f"{kind} in {Path(last.filename).name}{line} {last.name}"


class _Clock:
    """Time that a decoder took: the machine may be busy with other things, and a decoder may use several threads."""

    def __init__(self) -> None:
        self._wall_s = time.perf_counter()
        self._cpu_s = time.process_time()

    def passed(self) -> float:
        return min(time.perf_counter() - self._wall_s, time.process_time() - self._cpu_s)


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _forget_peak() -> None:
    """Let the peak start again from what is held now, where the system can do that."""
    try:
        _CLEAR_PEAK.write_text("5", encoding="ascii")
    except OSError:
        return
