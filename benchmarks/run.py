"""Measure the project's own table (P1 to P3) and the log, and write ``benchmarks/results/*.json``.

    python benchmarks/run.py [--tokens N] [--out DIR]

Every figure is a ratio measured in one run, both sides on the same cores; sizes, cores and CPU flags stand beside it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import log
import prf
import publish
from rich.console import Console
from rich.table import Table


def main() -> None:
    """Measure, print a table, write one file a P-number."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=1_000_000, help="exact tokens of P3")
    parser.add_argument("--runs", type=int, default=7, help="runs of P1 and P2, of which the median counts")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    results = {**prf.measure(runs=options.runs), **publish.measure(options.tokens)}
    with tempfile.TemporaryDirectory() as folder:
        results |= log.measure(Path(folder))
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


if __name__ == "__main__":
    main()
