"""``python -m tests.fuzz``: every decoder for a while, then a table; what ``make fuzz`` runs.

Each target runs in a process of its own (``engine``). What took long there is measured again here, where nothing is
instrumented, and findings are made short. The corpus is kept between runs, and so are the inputs of findings, which
are run first the next time.

Exit code 0: no finding. 1: at least one. 2: wrong usage.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.fuzz.harness import LIMIT_S, MEMORY_BYTES, Finding, Session, Target, digest, minimised
from tests.fuzz.targets import TARGETS

GRACE_S = 120
"""Beyond its time, until a process that does not end is ended."""


@dataclass
class Row:
    """One target's line of the table."""

    name: str
    report: dict[str, Any]
    corpus: int
    slowest_s: float
    findings: list[Finding]
    skipped: str = ""


def main(argv: list[str] | None = None) -> int:
    """Run the targets; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description="Random and mutated bytes into every decoder."
    )
    parser.add_argument("names", nargs="*", help="targets; all of them by default")
    parser.add_argument("--seconds", type=float, default=60, help="for each target")
    parser.add_argument("--folder", type=Path, default=Path(".fuzz"), help="corpus and findings, kept between runs")
    parser.add_argument("--blind", action="store_true", help="do not use atheris")
    parser.add_argument("--list", action="store_true", help="print the names of the targets and stop")
    options = parser.parse_args(argv)
    if options.list:
        print("\n".join(TARGETS))
        return 0
    if unknown := set(options.names) - TARGETS.keys():
        parser.error(f"no such target: {', '.join(sorted(unknown))}; --list gives them")
    names = options.names or list(TARGETS)
    blind = options.blind or importlib.util.find_spec("atheris") is None
    how = "BLIND: atheris is not installed, nothing guides the changes" if blind else "guided by coverage (atheris)"
    print(
        f"{len(names)} decoders, {options.seconds:.0f} s each, about {len(names) * options.seconds / 60:.0f} minutes; {how}",
        flush=True,
    )
    rows = []
    for name in names:
        row = _run(TARGETS[name], options.folder / name, options.seconds, blind=blind)
        rows.append(row)
        print(_line(row), flush=True)
        for finding in row.findings:
            print(
                f"  {finding.kind}: {finding.place}\n  {_input(options.folder, name, finding)}\n{finding.detail}",
                flush=True,
            )
    _show(rows, how)
    return 1 if any(row.findings for row in rows) else 0


def _run(target: Target, folder: Path, seconds: float, *, blind: bool) -> Row:
    if reason := target.absent():
        return Row(target.name, {}, 0, 0.0, [], skipped=reason)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").unlink(missing_ok=True)
    shutil.rmtree(folder / "seeds", ignore_errors=True)
    command = [sys.executable, "-m", "tests.fuzz.engine", target.name, f"--seconds={seconds}", f"--folder={folder}"]
    if blind:
        command.append("--blind")
    before = {path.name for path in folder.iterdir()}
    with (folder / "output").open("wb") as output:
        try:
            ended = subprocess.run(command, stdout=output, stderr=output, timeout=seconds + GRACE_S, check=False)
            code = ended.returncode
        except subprocess.TimeoutExpired:
            code = -9
    report = json.loads((folder / "report.json").read_bytes()) if (folder / "report.json").exists() else {}
    session = Session(target)
    for each in report.get("findings", ()):
        session.findings[Finding(each["kind"], each["place"], bytes.fromhex(each["data"]), each["detail"])] = None
    for data in report.get("suspects", ()):
        session.confirm(bytes.fromhex(data))
    if code != 0:
        # libFuzzer leaves the input that it ended with, such as timeout-..., oom-... or crash-...
        left = [path for path in folder.iterdir() if path.name not in before and "-" in path.name]
        data = left[0].read_bytes() if left else b""
        session.findings[
            Finding(
                "ended", left[0].name.partition("-")[0] if left else f"exit code {code}", data, str(folder / "output")
            )
        ] = None
    slowest = bytes.fromhex(report.get("slowest", ""))
    slowest_s = session.confirm(slowest) if report else 0.0
    findings = []
    for finding in session.findings:
        data = finding.data if finding.kind in {"slow", "memory", "ended"} else minimised(target, finding)
        (folder / "findings").mkdir(exist_ok=True)
        (folder / "findings" / digest(data)).write_bytes(data)
        findings.append(Finding(finding.kind, finding.place, data, finding.detail))
    corpus = sum(1 for _ in (folder / "corpus").glob("*")) if (folder / "corpus").is_dir() else 0
    return Row(target.name, report, corpus, slowest_s, findings)


def _input(folder: Path, name: str, finding: Finding) -> str:
    path = folder / name / "findings" / digest(finding.data)
    return f"{path} ({len(finding.data)} bytes): {finding.data[:200]!r}"


def _line(row: Row) -> str:
    if row.skipped:
        return f"{row.name}: skipped, {row.skipped}"
    return (
        f"{row.name}: {row.report.get('executions', 0):,} inputs, {row.report.get('accepted', 0):,} taken in, "
        f"corpus {row.corpus}, slowest {row.slowest_s * 1000:.1f} ms, {len(row.findings)} findings"
    )


def _show(rows: list[Row], how: str) -> None:
    limits = f"limits {LIMIT_S * 1000:.0f} ms and {MEMORY_BYTES >> 20} MiB an input"
    table = Table(title=f"{how}; {limits}; {time.strftime('%Y-%m-%d %H:%MZ', time.gmtime())}")
    for heading in ("decoder", "inputs", "a second", "taken in", "corpus", "slowest ms", "grown MiB", "findings"):
        table.add_column(heading, justify="left" if heading == "decoder" else "right", no_wrap=True)
    for row in rows:
        count = row.report.get("executions", 0)
        table.add_row(
            row.name, f"{count:,}", f"{count / max(row.report.get('seconds', 1), 0.001):,.0f}", f"{row.report.get('accepted', 0):,}", str(row.corpus),
            f"{row.slowest_s * 1000:.1f}", f"{row.report.get('grown_bytes', 0) / 2**20:.1f}", row.skipped or str(len(row.findings)),
        )  # fmt: skip
    table.add_row(
        "all",
        f"{sum(row.report.get('executions', 0) for row in rows):,}",
        "",
        "",
        "",
        "",
        "",
        str(sum(len(row.findings) for row in rows)),
    )
    Console(width=130).print(table)


if __name__ == "__main__":
    sys.exit(main())
