"""Cost against size: encoding against the owner's set, queries against the querier's declarations; points and lines.

- *encoding*: owners publish sets of different sizes from their stores;
- *queries*: declarations of six containers from the first that is sent until the last was asked with, twice: against
  the smallest of these sets and against the largest. If both lie on one line, cost does not grow with the product.

Cost is processor time, of both nodes where two are at work: other work on the machine changes it less than wall time.
The lines are fitted by least squares; how far the points are from them stands in the result.

    python benchmarks/chart.py --json benchmarks/results/LINEAR.json --svg docs/images/linear.svg
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from flow import BULK_INTERVAL_S, WAIT_S, WARM, Declarations, check, warm
from pair import BOXES, Pair
from prf import machine
from publish import containers

from connector_psi.cli import tune_interpreter
from connector_psi.oprf.backends import backend_name

TOKENS = (20_000, 50_000, 100_000)
DECLARATIONS = (500, 1_000, 2_000)
SHARED_ONE_IN = 50
RUNS = 3

Point = tuple[int, float]

_WIDTH, _HEIGHT = 800, 340
_LEFT, _TOP, _WIDE, _HIGH, _APART = 64, 64, 300, 210, 390
_INK, _GRID = "#1a1a1a", "#d0d0d0"
_COLOURS = ("#1f4e79", "#b45f06")
"""Against white both have a contrast of more than 4.5 to 1; squares and circles tell them apart without colour."""


def measure(
    tokens: Sequence[int] = TOKENS, declarations: Sequence[int] = DECLARATIONS, runs: int = RUNS, seed: int = 1
) -> dict[str, dict[str, Any]]:
    """Return ``{"LINEAR": {...}}``: points of each series, its line, and how far the points are from it.

    Args:
        tokens: Sizes of the owner's set, growing, at least two.
        declarations: Of the querier, at least two.
        runs: Of the queries; the medians count. A set is encoded once.
        seed: Of containers.
    """
    tune_interpreter()
    encoding: list[Point] = []
    spent_s: dict[str, dict[int, list[float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        sets: dict[str, tuple[Pair, Declarations]] = {}
        for size in tokens:
            # Nodes of its own for each set: an owner goes on with earlier sets of the same nodes for a while, with
            # deltas of everything that came since, and a querier asks anew in a newer one.
            folder = Path(name) / str(size)
            folder.mkdir()
            pair = Pair(folder, BULK_INTERVAL_S)
            boxes = containers(size + BOXES * runs * (WARM + sum(declarations)), seed)
            sought = list(islice(boxes, size))
            _, _, encoded_s = pair.fill(sought)
            encoding.append((size, encoded_s))
            if size in {tokens[0], tokens[-1]}:
                series = f"declarations_of_{size}"
                sets[series] = pair, Declarations(sought, boxes, random.Random(seed), "chart")
                spent_s[series] = {count: [] for count in declarations}
        # Machines drift: sets and counts take turns.
        for _ in range(runs):
            for series, (pair, make) in sets.items():
                for count, each_s in _queries(pair, make, declarations):
                    spent_s[series][count].append(each_s)
    queries = {series: [(count, median(all_s)) for count, all_s in own.items()] for series, own in spent_s.items()}
    points = {"tokens": encoding, **queries}
    lines = {name: _line(own) for name, own in points.items()}
    smallest, largest = (lines[name]["each_ms"] for name in queries)
    return {
        "LINEAR": {
            "figures": {f"{name}_{figure}": value for name, line in lines.items() for figure, value in line.items()},
            "points": {name: [[size, round(cost_s, 2)] for size, cost_s in own] for name, own in points.items()},
            "units": {
                "points": "tokens or declarations, seconds of processor time",
                "*_each_ms": "milliseconds of processor time for one more",
                "*_off": "the most that a point is off its line, as a part of the largest cost",
            },
            "conditions": {
                "runs": runs,
                "seed": seed,
                "interval_s": BULK_INTERVAL_S,
                "load_average": round(os.getloadavg()[0], 1),
                **machine(),
            },
            "backend": backend_name(),
            "ratio_query_largest_set_to_smallest": round(largest / smallest, 3),
        }
    }


def _queries(pair: Pair, make: Declarations, counts: Sequence[int]) -> Iterator[Point]:
    with pair.served() as served:
        warm(served, make)
        for count in counts:
            sent = make.take(count, shared_one_in=SHARED_ONE_IN)
            before = sum(served.cpu_s().values())
            served.register(sent)
            served.wait_until_asked(WAIT_S)
            yield count, sum(served.cpu_s().values()) - before
        check(served, make)


def _line(points: Sequence[Point]) -> dict[str, float]:
    sizes, times = (np.array(values, dtype=np.float64) for values in zip(*points, strict=True))
    slope, start = np.polyfit(sizes, times, 1)
    off = np.max(np.abs(start + slope * sizes - times)) / np.max(times)
    return {"each_ms": round(1000 * float(slope), 4), "start_s": round(float(start), 3), "off": round(float(off), 3)}


# Drawing


def draw(result: Mapping[str, Any]) -> str:
    """Return a chart of ``measure``'s result as SVG."""
    points = {name: [tuple(point) for point in own] for name, own in result["points"].items()}
    figures = result["figures"]
    (encoding, *queries) = points
    title = "Cost grows with the set and with the declarations, each by itself"
    said = "; ".join(
        f"{name.replace('_', ' ')}: " + ", ".join(f"{size:,} in {spent_s} s" for size, spent_s in own)
        for name, own in points.items()
    )
    parts = [
        *_panel(0, "Encoding, by tokens of the owner's set: CPU seconds", {encoding: points[encoding]}, figures),
        *_panel(
            1,
            "Queries, by declarations of six containers: CPU seconds",
            {name: points[name] for name in queries},
            figures,
        ),
    ]
    for place, name in enumerate(queries):
        y = _TOP + _HIGH + 42 + 20 * place
        parts += [_mark(_LEFT + _APART + 8, y - 4, place), _text(_LEFT + _APART + 22, y, f"against {_set_of(name)}")]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="linear-title linear-desc"'
        f' viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" font-family="sans-serif"'
        f' font-size="13"><title id="linear-title">{escape(title)}</title>'
        f'<desc id="linear-desc">{escape(said)}.</desc>'
        f'<rect x="0" y="0" width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>'
        f"{_text(10, 20, title, bold=True)}{''.join(parts)}</svg>\n"
    )


def _set_of(name: str) -> str:
    return f"a set of {int(name.rpartition('_')[2]):,} tokens"


def _panel(
    number: int, title: str, series: Mapping[str, Sequence[Point]], figures: Mapping[str, float]
) -> Iterator[str]:
    left, base = _LEFT + number * _APART, _TOP + _HIGH
    most = max(size for own in series.values() for size, _ in own)
    most_s = max(spent_s for own in series.values() for _, spent_s in own)

    def x(size: float) -> float:
        return left + size / most * _WIDE

    def y(spent_s: float) -> float:
        return base - spent_s / most_s * _HIGH

    yield _text(left, _TOP - 18, title)
    for share in (0.0, 0.5, 1.0):
        at = y(share * most_s)
        yield f'<line x1="{left}" y1="{at:.1f}" x2="{left + _WIDE}" y2="{at:.1f}" stroke="{_GRID}"/>'
        yield _text(left - 8, at + 4, f"{share * most_s:.1f} s", anchor="end")
        yield _text(x(share * most), base + 18, f"{round(share * most):,}", anchor="middle")
    for place, (name, own) in enumerate(series.items()):
        start, slope = figures[f"{name}_start_s"], figures[f"{name}_each_ms"] / 1000
        dash = ' stroke-dasharray="6 3"' if place else ""
        yield (
            f'<line x1="{x(0):.1f}" y1="{y(start):.1f}" x2="{x(most):.1f}" y2="{y(start + slope * most):.1f}"'
            f' stroke="{_COLOURS[place]}" stroke-width="1.5"{dash}/>'
        )
        yield from (_mark(x(size), y(spent_s), place) for size, spent_s in own)


def _mark(x: float, y: float, place: int) -> str:
    if place:
        return f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8" fill="{_COLOURS[1]}"/>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{_COLOURS[0]}"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{_INK}" text-anchor="{anchor}"{weight}>{escape(text)}</text>'


def main() -> None:
    """Measure, print, and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=_numbers, default=TOKENS, help="sizes of the set, with commas, growing")
    parser.add_argument("--declarations", type=_numbers, default=DECLARATIONS, help="with commas")
    parser.add_argument("--runs", type=int, default=RUNS, help="of the queries")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--svg", type=Path, help="draw it to this file")
    options = parser.parse_args()
    result = measure(options.tokens, options.declarations, options.runs, options.seed)
    text = json.dumps(result, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")
    if options.svg:
        options.svg.parent.mkdir(parents=True, exist_ok=True)
        options.svg.write_text(draw(result["LINEAR"]))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))


if __name__ == "__main__":
    main()
