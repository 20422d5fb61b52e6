"""P4, P5 and P6: declarations from RegisterStream to their matches on WatchMatches, through two nodes as processes.

- *P4*: how many a second, sent as fast as the stream takes them, until the last was asked with and the last match came;
  what both nodes spend on one; beside the PRF alone in the same run.
- *P5*: how long one takes, when as many come as the whole Union lodges on average, at random times.
- *P6*: the same for sets of different sizes, of which all rows but those of 1,000 alerts are random.

A declaration has six containers. The sender is a process of its own on the same cores. Times of P5 and P6 begin when a
declaration was to be sent, so that a sender that comes late hides nothing, and end twice: when the querier wrote the
match down, and when WatchMatches brought it.

    python benchmarks/flow.py --declarations 6000 --json OUT
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from pair import BOXES, Pair, Served, declaration
from prf import machine
from publish import containers, prf_rate

from connector_psi.cli import tune_interpreter
from connector_psi.encoding import tickets
from connector_psi.oprf.backends import backend_name
from connector_psi.rpc.v1 import registry_pb2

ALERTS = 100_000
DECLARATIONS = 6_000
SHARED_ONE_IN = 50
AVERAGE_PER_S, PEAK_PER_S = 41, 200
"""Declarations of the whole Union."""
BULK_INTERVAL_S, LIVE_INTERVAL_S = 0.2, 0.02
LIVE_S = 30
TARGETS_MS = {"p50": 100, "p99": 300}
SIZES = (100_000, 1_000_000, 10_000_000)
SIZE_ALERTS, SIZE_DECLARATIONS, SIZE_PER_S = 1_000, 100, 20
ROUNDS = 3
WARM = 20
"""Declarations that are sent before anything is measured: connections are there and files in memory."""
WAIT_S = 1_800.0
FLAT = 1.2
"""Not more than this times the time with the smallest set."""

Result = dict[str, Any]


def measure(
    wanted: Collection[str] = ("P4", "P5", "P6"),
    *,
    alerts: int = ALERTS,
    declarations: int = DECLARATIONS,
    sizes: Sequence[int] = SIZES,
    seconds: float = LIVE_S,
    rounds: int = ROUNDS,
    seed: int = 1,
) -> dict[str, Result]:
    """Return the objects ``P4``, ``P5`` and ``P6``, as far as they are wanted.

    Args:
        wanted: Which.
        alerts: Of the owner's set in P4 and P5.
        declarations: Of P4.
        sizes: Of the sets of P6, in rows; each is brought to its size class.
        seconds: How long P5 sends.
        rounds: Of P6, in each of which every size is measured once; the medians count.
        seed: Of containers and times of arrival.
    """
    tune_interpreter()
    results: dict[str, Result] = {}
    arrivals = round(AVERAGE_PER_S * seconds)
    if {"P4", "P5"} & set(wanted):
        draw = random.Random(seed)
        boxes = containers(alerts + BOXES * (2 * WARM + declarations + arrivals), seed)
        sought = list(islice(boxes, alerts))
        conditions = {"alerts": alerts, "boxes_a_declaration": BOXES, "seed": seed}
        with tempfile.TemporaryDirectory() as name:
            pair = Pair(Path(name), BULK_INTERVAL_S)
            pair.fill(sought)
            if "P4" in wanted:
                with pair.served() as served:
                    results["P4"] = _bulk(served, Declarations(sought, boxes, draw, "bulk"), declarations)
                results["P4"]["conditions"] |= {**conditions, "interval_s": BULK_INTERVAL_S}
            if "P5" in wanted:
                pair.set_interval(LIVE_INTERVAL_S)
                gaps_s = [draw.expovariate(AVERAGE_PER_S) for _ in range(arrivals)]
                with pair.served() as served:
                    figures = _live(served, Declarations(sought, boxes, draw, "live"), gaps_s)
                sent = {"interval_s": LIVE_INTERVAL_S, "declarations": arrivals, "per_s": AVERAGE_PER_S}
                ratios = {
                    f"ratio_watched_{name}_to_target": round(figures[f"watched_{name}_ms"] / target, 3)
                    for name, target in TARGETS_MS.items()
                }
                results["P5"] = {**_result(figures, {**conditions, **sent}), "targets_ms": TARGETS_MS, **ratios}
    if "P6" in wanted:
        results["P6"] = _sizes(sizes, rounds, seed)
    return results


class Declarations:
    """Makes declarations, all containers of which differ but those that they share with an alert.

    Args:
        sought: Containers of the alerts.
        boxes: Containers that nobody looks for.
        draw: Which of a declaration's containers is shared, and with which alert.
        prefix: Of the references.
    """

    def __init__(self, sought: Sequence[str], boxes: Iterator[str], draw: random.Random, prefix: str) -> None:
        self._sought = sought
        self._boxes = boxes
        self._draw = draw
        self.prefix = prefix
        self._count = 0
        self.shared: set[str] = set()
        """References of those that share one."""

    def take(self, count: int, *, shared_one_in: int = 1) -> list[registry_pb2.Record]:
        """Return so many more; the first and every ``shared_one_in``-th after it share a container."""
        made = []
        for number in range(count):
            ref = f"{self.prefix}-{self._count:09d}"
            own = list(islice(self._boxes, BOXES))
            if number % shared_one_in == 0:
                own[self._draw.randrange(BOXES)] = self._draw.choice(self._sought)
                self.shared.add(ref)
            made.append(declaration(ref, own))
            self._count += 1
        return made


def warm(served: Served, make: Declarations) -> None:
    """Send some declarations before anything is measured, and wait for their matches."""
    times = served.register(make.take(WARM))
    served.wait_for_matches(list(times.due), WAIT_S)
    served.wait_until_asked(WAIT_S)


def check(served: Served, make: Declarations) -> None:
    """Fail if matches were missed, or found that are none: a wrong answer has no speed."""
    listed = {match["record_ref"] for match in served.client.matches()}
    own = {ref for ref in listed if ref.startswith(make.prefix)}
    assert own == make.shared, f"{len(make.shared - own)} matches are missing, {len(own - make.shared)} are too many"


def _bulk(served: Served, make: Declarations, count: int) -> Result:
    warm(served, make)
    sent = make.take(count, shared_one_in=SHARED_ONE_IN)
    shared = [each.source_ref for each in sent if each.source_ref in make.shared]
    before = prf_rate()
    cpu, own = served.cpu_s(), time.process_time()
    started = time.perf_counter()
    times = served.register(sent)
    acknowledged = time.perf_counter()
    served.wait_until_asked(WAIT_S)
    served.wait_for_matches(shared, WAIT_S)
    elapsed = time.perf_counter() - started
    spent = {code: after - cpu[code] for code, after in served.cpu_s().items()}
    own = time.process_time() - own
    check(served, make)
    alone = (before + prf_rate()) / 2
    assert len(times.acknowledged) == count, "every declaration must be acknowledged"
    rate = count / elapsed
    return {
        "figures": {
            "declarations": count,
            "matches": len(shared),
            "declarations_per_s": round(rate, 1),
            "acknowledged_per_s": round(count / (acknowledged - started), 1),
            "tokens_per_s": round(BOXES * rate),
            "prf_alone_tokens_per_s": round(alone),
            **{f"cpu_{code}_ms": round(1000 * seconds / count, 2) for code, seconds in spent.items()},
            "cpu_sender_ms": round(1000 * own / count, 2),
        },
        "units": {
            "declarations_per_s": "1/s of wall time, from the first that is sent to the last match and the last query",
            "cpu_*_ms": "milliseconds of processor time a declaration",
        },
        "conditions": {"shared_one_in": SHARED_ONE_IN, **_machine()},
        "backend": backend_name(),
        "ratio_to_prf_alone": round(BOXES * rate / alone, 4),
        "ratio_to_union_average": round(rate / AVERAGE_PER_S, 2),
        "ratio_to_union_peak": round(rate / PEAK_PER_S, 2),
    }


def _live(served: Served, make: Declarations, gaps_s: Sequence[float]) -> dict[str, float]:
    """Send declarations at their times, each with a match. Returns how long things took, in milliseconds."""
    warm(served, make)
    sent = make.take(len(gaps_s))
    times = served.register(sent, gaps_s)
    served.wait_for_matches(list(times.due), WAIT_S)
    served.wait_until_asked(WAIT_S)
    check(served, make)
    figures: dict[str, float] = {}
    for name, when in (("acknowledged", times.acknowledged), ("found", served.found), ("watched", served.matched)):
        took = sorted(1000 * (when[ref] - due) for ref, due in times.due.items())
        figures[f"{name}_p50_ms"] = round(median(took), 1)
        figures[f"{name}_p99_ms"] = round(took[min(len(took) - 1, len(took) * 99 // 100)], 1)
    return figures


def _sizes(sizes: Sequence[int], rounds: int, seed: int) -> Result:
    figures: dict[str, float] = {}
    runs: list[dict[int, dict[str, float]]] = []
    with tempfile.TemporaryDirectory() as name:
        pairs: dict[int, tuple[Pair, Declarations]] = {}
        for size in sizes:
            boxes = containers(SIZE_ALERTS + BOXES * rounds * (WARM + SIZE_DECLARATIONS), seed)
            sought = list(islice(boxes, SIZE_ALERTS))
            folder = Path(name) / str(size)
            folder.mkdir()
            # Nodes of its own: a newer set in the same ones would have earlier declarations asked anew meanwhile.
            pair = Pair(folder, LIVE_INTERVAL_S)
            published, took_s, _ = pair.fill(sought, tickets.size_class(size))
            figures[f"publish_{size}_s"] = round(took_s, 1)
            assert published.size_class == tickets.size_class(size), "the set must have the size that is measured"
            pairs[size] = pair, Declarations(sought, boxes, random.Random(seed), f"size-{size}")
        # Machines drift: the sizes take turns, and each is compared with what was measured in its round.
        for _ in range(rounds):
            runs.append({})
            for size, (pair, make) in pairs.items():
                with pair.served() as served:
                    runs[-1][size] = _live(served, make, [1 / SIZE_PER_S] * SIZE_DECLARATIONS)
    for size in sizes:
        for figure in runs[0][size]:
            figures[f"{figure}_{size}"] = round(median(each[size][figure] for each in runs), 1)
    first = sizes[0]
    ratios = {
        f"ratio_{name}_{size}_to_{first}": round(
            median(each[size][f"{name}_p50_ms"] / each[first][f"{name}_p50_ms"] for each in runs), 3
        )
        for size in sizes[1:]
        for name in ("found", "watched")
    }
    conditions = {
        "rows": {str(size): tickets.size_class(size) for size in sizes},
        "alerts": SIZE_ALERTS,
        "declarations": SIZE_DECLARATIONS,
        "per_s": SIZE_PER_S,
        "interval_s": LIVE_INTERVAL_S,
        "boxes_a_declaration": BOXES,
        "seed": seed,
    }
    made = _result(figures, conditions)
    made["units"]["publish_*_s"] = f"seconds of wall time, {SIZE_ALERTS:,} tokens and random rows"
    made["conditions"]["runs"] = rounds
    return {**made, **ratios, "flat": max(ratios.values(), default=1.0) <= FLAT}


def _result(figures: Mapping[str, float], conditions: Mapping[str, Any]) -> Result:
    return {
        "figures": dict(figures),
        "units": {
            "acknowledged_*": "milliseconds from when it was to be sent to the acknowledgement: it is durable",
            "found_*": "milliseconds to when the querier wrote the match down, by its own clock",
            "watched_*": "milliseconds to when WatchMatches brought the match",
        },
        "conditions": {**conditions, **_machine()},
        "backend": backend_name(),
    }


def _machine() -> dict[str, Any]:
    return {"runs": 1, "load_average": round(os.getloadavg()[0], 1), **machine()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="P4,P5,P6", help="which, with commas between them")
    parser.add_argument("--alerts", type=int, default=ALERTS, help="of the set of P4 and P5")
    parser.add_argument("--declarations", type=int, default=DECLARATIONS, help="of P4")
    parser.add_argument("--seconds", type=float, default=LIVE_S, help="of P5")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="rows of the sets of P6")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of P6")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result = measure(
        options.only.split(","),
        alerts=options.alerts,
        declarations=options.declarations,
        sizes=[int(size) for size in options.sizes.split(",")],
        seconds=options.seconds,
        rounds=options.rounds,
        seed=options.seed,
    )
    text = json.dumps(result, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
