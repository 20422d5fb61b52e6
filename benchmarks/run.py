"""Measure the project's own table (P1 to P8), the log and the console, and write ``benchmarks/results/*.json``.

    python benchmarks/run.py [--only P4,P7] [--tokens N] [--out DIR]

Every figure is a ratio measured in one run, both sides on the same cores; sizes, cores and CPU flags stand beside it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import console
import flow
import live
import log
import prf
import publish
from rich.console import Console
from rich.table import Table

NAMES = ("P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8", "LOG", "CONSOLE")


def main() -> None:
    """Measure, print a table, write one file a P-number."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", type=_names, default=NAMES, help="which, with commas between them, such as P4,P7")
    parser.add_argument("--tokens", type=int, default=1_000_000, help="exact tokens of P3")
    parser.add_argument("--runs", type=int, default=7, help="runs of P1 and P2, of which the median counts")
    parser.add_argument("--alerts", type=int, default=flow.ALERTS, help="alerts of the set of P4 and P5")
    parser.add_argument("--declarations", type=int, default=flow.DECLARATIONS, help="declarations of P4")
    parser.add_argument("--sizes", type=_numbers, default=flow.SIZES, help="rows of the sets of P6, with commas")
    parser.add_argument("--live-tokens", type=int, default=live.LIVE_TOKENS, help="live tokens of P7")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    results = {name: result for name, result in _measure(options.only, options).items() if name in options.only}
    options.out.mkdir(parents=True, exist_ok=True)
    table = Table(title="Measured here, in one run", title_justify="left")
    for column in ("", "figure", "value"):
        table.add_column(column)
    for name, result in sorted(results.items()):
        (options.out / f"{name}.json").write_text(json.dumps({name: result}, indent=2) + "\n")
        ratios = {key: value for key, value in result.items() if key.startswith("ratio")}
        for key, value in {**result["figures"], **ratios}.items():
            table.add_row(name, key, str(value))
    Console().print(table)


def _measure(wanted: Collection[str], options: argparse.Namespace) -> dict[str, Any]:
    """Return the results of all benchmarks that have a part in what is wanted."""
    results: dict[str, Any] = {}
    if {"P1", "P2"} & set(wanted):
        results |= prf.measure(runs=options.runs)
    if "P3" in wanted:
        results |= publish.measure(options.tokens)
    results |= flow.measure(wanted, alerts=options.alerts, declarations=options.declarations, sizes=options.sizes)
    results |= live.measure(wanted, live_tokens=options.live_tokens)
    if "LOG" in wanted:
        with tempfile.TemporaryDirectory() as folder:
            results |= log.measure(Path(folder))
    if "CONSOLE" in wanted:
        with tempfile.TemporaryDirectory() as folder:
            results |= console.measure(Path(folder))
    return results


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise argparse.ArgumentTypeError(f"not one of {', '.join(NAMES)}: {', '.join(unknown)}")
    return names


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError("not whole numbers with commas between them") from None


if __name__ == "__main__":
    main()
