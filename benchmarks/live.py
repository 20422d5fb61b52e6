"""P7 and P8: a delta against millions of live tokens, and what a querier holds of a set of 80 million tokens.

- *P7*: the links of 10,000 new alerts, one token each, meet live tokens of a hundred declarations: read, applied to the
  set, joined with all live tokens, what is kept of the records that they meet read from the disk, their rows opened.
  Without transport, the database and the check of signature and log entry, which are once a link.
- *P8*: filter and ticket file of such a set are mapped as a node does when it starts, in a process of its own.

PRF outputs of live tokens are random but for those that are to be met, which are random too and known to the owner:
nothing is evaluated. The bits of the filter of P8 are random, half of them ones, as in a real one of that size; its
ticket file is empty space, of which nothing is read but what a look-up would read.

    python benchmarks/live.py --live-tokens 5000000 --json OUT
"""

from __future__ import annotations

import argparse
import json
import math
import os
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from prf import machine

from connector_psi.domain.clock import SystemRandom
from connector_psi.domain.records import TokenClass
from connector_psi.encoding import bloom, tickets
from connector_psi.encoding import deltas as links
from connector_psi.encoding.bloom import Filter
from connector_psi.encoding.livetokens import EMPTY_BYTES, ENTRY, OUTPUT_BYTES, LiveTokens
from connector_psi.encoding.tickets import TicketFile
from connector_psi.oprf.backends import backend_name
from connector_psi.protocol import messages
from connector_psi.protocol.querier import SetView

LIVE_TOKENS = 5_000_000
TOKENS_A_RECORD = 6
ALERTS, MET = 10_000, 100
SET_ROWS = tickets.size_class(100_000)
LARGE_SET_TOKENS = 80_000_000
RUNS = 5
LOOKUPS = 10_000
P7_TARGET_S, P8_TARGET_MB, P8_TARGET_S = 2.0, 320, 1.0

AGREEMENT, EPOCH = "SIS-OBJ:ics2-sis", 1
KEY = bytes(range(32))
EXACT_FAMILY = 1
RECORDS_AT_ONCE = 100_000
PIECE_BYTES = 1 << 23
MIB = 2**20

Result = dict[str, Any]


def measure(
    wanted: Collection[str] = ("P7", "P8"),
    *,
    live_tokens: int = LIVE_TOKENS,
    set_tokens: int = LARGE_SET_TOKENS,
    runs: int = RUNS,
    seed: int = 1,
) -> dict[str, Result]:
    """Return the objects ``P7`` and ``P8``, as far as they are wanted.

    Args:
        wanted: Which.
        live_tokens: Of P7; brought down to whole records.
        set_tokens: Of the set of P8.
        runs: How often each is measured; the medians count.
        seed: Of what is random.
    """
    results: dict[str, Result] = {}
    if "P7" in wanted:
        with tempfile.TemporaryDirectory() as name:
            results["P7"] = _delta(Path(name), live_tokens // TOKENS_A_RECORD, runs, seed)
    if "P8" in wanted:
        with tempfile.TemporaryDirectory() as name:
            results["P8"] = _large_set(Path(name), set_tokens, runs, seed)
    return results


# P7


def _delta(folder: Path, records: int, runs: int, seed: int) -> Result:
    draw = np.random.default_rng(seed)
    met = sorted((draw.choice(records, MET, replace=False) + 1).tolist())
    outputs = {int(record): draw.bytes(OUTPUT_BYTES) for record in met}
    size_bytes = _write_live(folder / "live", records, outputs, draw)
    rows = tickets.dummy_rows(SET_ROWS, SystemRandom())
    bloom.write_filter(folder / "filter", b"".join(_lookups(rows)), SET_ROWS)
    tickets.write_tickets(folder / "tickets", rows)
    others = [draw.bytes(OUTPUT_BYTES) for _ in range(ALERTS - MET)]
    made = list(_links([*outputs.values(), *others], list(_lookups(rows))))
    for number, raw in enumerate(made):
        (folder / f"link-{number}").write_bytes(raw)
    expected = {"size_bytes": size_bytes, "met": met, "links": len(made)}
    (folder / "expected.json").write_text(json.dumps(expected))
    took = _run_task("join", folder, runs)
    tokens = records * TOKENS_A_RECORD
    return {
        "figures": {
            "live_tokens": tokens,
            "rows": ALERTS,
            "records_met": MET,
            **{name: round(value, 4) for name, value in took.items() if name.endswith("_s")},
            "memory_mib": round(took["memory_bytes"] / MIB),
            "memory_bytes_a_token": round(took["memory_bytes"] / tokens, 1),
            "peak_mib": round(took["peak_bytes"] / MIB),
            "file_mib": round(size_bytes / MIB),
        },
        "units": {
            "*_s": "seconds of wall time; start_s is opening the file of live tokens, once a start of the node",
            "memory_*": "of the process beyond what it had before it opened the live tokens",
        },
        "target_s": P7_TARGET_S,
        "conditions": _conditions(runs, seed) | {"set_rows": SET_ROWS, "links": len(made)},
        "backend": backend_name(),
        "ratio_to_target": round(took["total_s"] / P7_TARGET_S, 3),
    }


def _write_live(path: Path, records: int, outputs: dict[int, bytes], draw: np.random.Generator) -> int:
    """Write live tokens, all random but the first token of the records of ``outputs``. Returns how long the file is."""
    live = LiveTokens(path, KEY, EMPTY_BYTES, SystemRandom())
    try:
        for start in range(0, records, RECORDS_AT_ONCE):
            numbers = np.arange(start + 1, min(start + RECORDS_AT_ONCE, records) + 1, dtype=np.uint64)
            count = len(numbers) * TOKENS_A_RECORD
            entries = np.frombuffer(draw.bytes(count * ENTRY.itemsize), dtype=ENTRY).copy()
            entries["record"], entries["j"] = np.repeat(numbers, TOKENS_A_RECORD), 0
            for record in (record for record in outputs if start < record <= start + len(numbers)):
                at = (record - start - 1) * TOKENS_A_RECORD
                lookup, _ = messages.derive_lookup(outputs[record], 0)
                entries["output"][at], entries["next"][at] = np.void(outputs[record]), np.void(lookup)
            live.keep(live.append(entries))
        return live.size_bytes
    finally:
        live.close()


def _links(outputs: list[bytes], of_set: list[bytes]) -> Iterator[bytes]:
    """Yield the links that an owner makes of new alerts with these PRF outputs, padded as it pads them."""
    prev, random = bytes(links.HASH_BYTES), SystemRandom()
    for number, start in enumerate(range(0, len(outputs), links.MAX_NEW_ROWS)):
        derived = [messages.derive_lookup(y, 0) for y in outputs[start : start + links.MAX_NEW_ROWS]]
        said = [tickets.Ticket(random.bytes(16), TokenClass.OBJECT, 1, EXACT_FAMILY, random.bytes(8)) for _ in derived]
        lookups, keys = (b"".join(each[at] for each in derived) for at in (0, 1))
        rows = tickets.seal_rows(AGREEMENT, EPOCH, lookups, keys, said, random)
        rung, gone = links.removed_rung(0), links.row_rung(len(derived)) - len(derived)
        raw = links.encode_delta(
            links.Delta(
                agreement=AGREEMENT,
                epoch=EPOCH,
                seq=number + 1,
                prev_hash=prev,
                snapshot_ms=1 + number,
                rows=links.sort_rows(rows + tickets.dummy_rows(gone, random)),
                removed=b"".join(sorted(of_set[number * rung : (number + 1) * rung])),
            )
        )
        prev = links.delta_hash(raw)
        yield raw


def _lookups(rows: bytes) -> Iterator[bytes]:
    return (rows[at : at + tickets.LOOKUP_BYTES] for at in range(0, len(rows), tickets.ROW_BYTES))


def _join(folder: Path, runs: int) -> dict[str, float]:
    """In a process of its own: open the live tokens, and take the links into account."""
    expected = json.loads((folder / "expected.json").read_text())
    raws = [(folder / f"link-{number}").read_bytes() for number in range(expected["links"])]
    with Filter.open(folder / "filter", SET_ROWS) as filter_, TicketFile.open(folder / "tickets", SET_ROWS) as rows:
        before, started = _memory("RssAnon"), time.perf_counter()
        live = LiveTokens(folder / "live", KEY, expected["size_bytes"], SystemRandom())
        start_s, after = time.perf_counter() - started, _memory("RssAnon")
        try:
            steps = [
                _joined(SetView(AGREEMENT, EPOCH, filter_, rows), live, raws, expected["met"]) for _ in range(runs)
            ]
        finally:
            live.close()
    took = {name: median(step[name] for step in steps) for name in steps[0]}
    return {**took, "start_s": start_s, "memory_bytes": after - before, "peak_bytes": _memory("VmHWM")}


def _joined(view: SetView, live: LiveTokens, raws: list[bytes], met: list[int]) -> dict[str, float]:
    times = [time.perf_counter()]
    parsed = [links.parse_delta(raw) for raw in raws]
    for delta in parsed:
        view.apply(delta)
    times.append(time.perf_counter())
    numbers = live.met_by(
        [lookup for delta in parsed for lookup in delta.row_lookups()],
        [lookup for delta in parsed for lookup in delta.removed_lookups()],
    )
    times.append(time.perf_counter())
    held = live.of(numbers)
    times.append(time.perf_counter())
    outputs = [output for record in sorted(held) for output in held[record].outputs.values()]
    probed = view.probe(outputs)
    times.append(time.perf_counter())
    assert sorted(numbers) == met, "exactly the records that share a token must be found"
    assert len(outputs) == len(met) * TOKENS_A_RECORD, "every token of them must be kept"
    assert sum(len(one.opened) for one in probed) == len(met), "one row of each must open"
    names = ("apply_s", "join_s", "read_s", "open_s")
    steps = {name: times[at + 1] - times[at] for at, name in enumerate(names)}
    return {**steps, "total_s": times[-1] - times[0]}


# P8


def _large_set(folder: Path, tokens: int, runs: int, seed: int) -> Result:
    rows = tickets.padded_size(tokens)
    paths = folder / "filter", folder / "tickets"
    _write_random_filter(paths[0], rows, np.random.default_rng(seed))
    with paths[1].open("wb") as file:
        file.truncate(rows * tickets.ROW_BYTES)
    (folder / "expected.json").write_text(json.dumps({"rows": rows}))
    # The first start finds nothing of the filter in memory, as after the machine was restarted; those that follow do.
    _forget(paths[0])
    cold = _run_task("map", folder, 1)
    warm = [_run_task("map", folder, 1) for _ in range(runs)]
    took = {name: median(each[name] for each in warm) for name in warm[0]}
    filter_mb = paths[0].stat().st_size / 1e6
    return {
        "figures": {
            "tokens": tokens,
            "rows": rows,
            "filter_mb": round(filter_mb, 1),
            "ticket_file_mb": round(rows * tickets.ROW_BYTES / 1e6, 1),
            "start_s": round(took["start_s"], 3),
            "start_from_disk_s": round(cold["start_s"], 3),
            "lookups_s": round(took["lookups_s"], 4),
            "mapped_mb": round(took["file_bytes"] / 1e6, 1),
            "own_memory_mb": round(took["own_bytes"] / 1e6, 1),
            "own_memory_before_mb": round(took["before_bytes"] / 1e6, 1),
            "peak_mb": round(took["peak_bytes"] / 1e6, 1),
        },
        "units": {
            "*_mb": "10^6 bytes; mapped: pages of the files, which the system takes back when it needs memory",
            "start_s": "seconds of wall time: both files mapped, every bit of the filter counted",
            "lookups_s": f"seconds for {LOOKUPS} look-ups, one batch",
        },
        "targets": {"filter_mb": P8_TARGET_MB, "start_s": P8_TARGET_S},
        "conditions": _conditions(runs, seed) | {"lookups": LOOKUPS},
        "backend": backend_name(),
        "ratio_filter_to_target": round(filter_mb / P8_TARGET_MB, 3),
        "ratio_start_to_target": round(took["start_s"] / P8_TARGET_S, 3),
    }


def _write_random_filter(path: Path, capacity: int, draw: np.random.Generator) -> None:
    """Write a filter with the header of a capacity and random bits; ``Filter.open`` refuses it if that is wrong."""
    # As pybloom-live computes it, see encoding.bloom.
    bits = math.ceil((capacity * abs(math.log(bloom.ERROR_RATE))) / (bloom.SLICES * (math.log(2) ** 2)))
    header = struct.pack("<dQQQQ", bloom.ERROR_RATE, bloom.SLICES, bits, capacity, capacity)
    left, beyond = divmod(bloom.SLICES * bits, 8)
    with path.open("wb") as file:
        file.write(header)
        while left:
            left -= file.write(draw.bytes(min(left, PIECE_BYTES)))
        if beyond:
            file.write(bytes([draw.bytes(1)[0] & ((1 << beyond) - 1)]))


def _forget(path: Path) -> None:
    """Have the system drop what it holds of a file in memory, as far as it does that for anybody."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _map(folder: Path, _runs: int) -> dict[str, float]:
    """In a process of its own: map a set as a node does that has checked its files before, and look things up."""
    rows = json.loads((folder / "expected.json").read_text())["rows"]
    before, files_before, started = _memory("RssAnon"), _memory("RssFile"), time.perf_counter()
    with (
        Filter.open(folder / "filter", rows) as filter_,
        TicketFile.open(folder / "tickets", rows, check_order=False) as file,
    ):
        start_s, wanted = time.perf_counter() - started, os.urandom(LOOKUPS * bloom.LOOKUP_BYTES)
        started = time.perf_counter()
        hits = filter_.contains(wanted)
        lookups_s = time.perf_counter() - started
        assert int(hits.sum()) < LOOKUPS // 100, "a random filter answers nearly always no"
        # The filter lets through one in a million, which is looked for in the tickets: so one is looked for anyway.
        assert file.find(wanted[: bloom.LOOKUP_BYTES]) is None, "there is no ticket"
        return {
            "start_s": start_s,
            "lookups_s": lookups_s,
            "file_bytes": _memory("RssFile") - files_before,
            "own_bytes": _memory("RssAnon"),
            "before_bytes": before,
            "peak_bytes": _memory("VmHWM"),
        }


# Processes


_TASKS: dict[str, Callable[[Path, int], dict[str, float]]] = {"join": _join, "map": _map}


def _run_task(task: str, folder: Path, runs: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--task", task, str(folder), "--runs", str(runs)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def _memory(name: str) -> int:
    """Return bytes of this process's memory: ``RssAnon`` its own, ``RssFile`` of files, ``VmHWM`` the most of both."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(f"{name}:")) * 1024


def _conditions(runs: int, seed: int) -> dict[str, Any]:
    return {"runs": runs, "seed": seed, "load_average": round(os.getloadavg()[0], 1), **machine()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="P7,P8", help="which, with a comma between them")
    parser.add_argument("--live-tokens", type=int, default=LIVE_TOKENS, help="of P7")
    parser.add_argument("--set-tokens", type=int, default=LARGE_SET_TOKENS, help="of the set of P8")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--task", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        print(json.dumps(_TASKS[options.task[0]](Path(options.task[1]), options.runs)))
        return
    result = measure(
        options.only.split(","),
        live_tokens=options.live_tokens,
        set_tokens=options.set_tokens,
        runs=options.runs,
        seed=options.seed,
    )
    text = json.dumps(result, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
