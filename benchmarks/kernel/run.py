"""Cycles of each step of the PRF kernel, an element: the table of docs/kernel.md.

    python benchmarks/kernel/run.py [--cpu N] [--json OUT]

Compiles ``cycles.c`` with each backend that this processor runs and measures on one core. Needs a C compiler (``cc``).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from connector_psi.oprf import native

KERNEL = Path(native.__file__).parent / "kernel"
MACROS = {"avx512ifma": "BACKEND_IFMA", "avx2": "BACKEND_AVX2", "portable": "BACKEND_PORTABLE"}


def measure(cpu: int) -> dict[str, dict[str, tuple[float, float]]]:
    """Return ``{backend: {step: (nanoseconds, time-stamp cycles)}}``, both an element."""
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for backend in native.KERNELS:
            program = Path(folder) / backend
            source = Path(__file__).with_name("cycles.c")
            flags = ["-O3", "-w", f"-I{KERNEL}", f"-D{MACROS[backend]}"]
            subprocess.run([os.environ.get("CC", "cc"), *flags, "-o", program, source], check=True)
            pinned = {"preexec_fn": lambda: os.sched_setaffinity(0, {cpu})} if hasattr(os, "sched_setaffinity") else {}
            lines = subprocess.run([program], capture_output=True, text=True, check=True, **pinned).stdout.splitlines()
            rows = (line.split("\t") for line in lines)
            results[backend] = {step: (float(ns), float(cycles)) for step, ns, cycles in rows}
    return results


def main() -> int:
    """Measure, print a table, and write the JSON object if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cpu", type=int, default=max(os.sched_getaffinity(0)), help="the core to run on")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures to this file")
    options = parser.parse_args()
    if not native.KERNELS:
        print("the kernel is not built here: nothing to measure", file=sys.stderr)
        return 1
    results = measure(options.cpu)
    table = Table(title="Nanoseconds (time-stamp cycles) an element", title_justify="left")
    table.add_column("")
    for backend in results:
        table.add_column(backend, justify="right")
    for step in next(iter(results.values())):
        table.add_row(step, *(f"{results[each][step][0]:.1f} ({results[each][step][1]:.0f})" for each in results))
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
