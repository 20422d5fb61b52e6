"""What ``make mutants`` ends with: how many mutants tests noticed, and each that they did not. Exits 1 below the goal.

The run itself is mutmut's, and so are its results in ``mutants/``, which this reads.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

GOAL_PERCENT = 90
RESULTS = Path("mutants")
# Of pytest: 1 is a failed test, 3 an error inside it; a mutant that never ends is killed by time.
_NOTICED = {1: "killed", 3: "killed", -24: "timeout", 24: "timeout", 36: "timeout", 152: "timeout", 255: "timeout"}
_UNNOTICED = {0: "survived", 5: "no tests", 33: "no tests"}


def main() -> int:
    """Print the summary; returns the exit code."""
    noticed = total = 0
    for path in sorted(RESULTS.rglob("*.py.meta")):
        codes: dict[str, int | None] = json.loads(path.read_text())["exit_code_by_key"]
        counts = Counter(_word(code) for code in codes.values())
        mine = counts["killed"] + counts["timeout"]
        noticed, total = noticed + mine, total + len(codes)
        name = path.relative_to(RESULTS).with_suffix("")
        said = ", ".join(f"{number} {word}" for word, number in sorted(counts.items()))
        print(f"{name}: {len(codes)} mutants, {_percent(mine, len(codes))} % noticed ({said})")
        for key, code in codes.items():
            if _word(code) not in {"killed", "timeout"}:
                print(f"  {_word(code)}: {key}   (see it: mutmut show {key})")
    if not total:
        print("no mutant was made: run `make mutants`")
        return 1
    print(f"{total} mutants, {_percent(noticed, total)} % noticed; the goal is {GOAL_PERCENT} %")
    return 0 if noticed * 100 >= GOAL_PERCENT * total else 1


def _word(code: int | None) -> str:
    if code is None:
        return "not run"
    return _NOTICED.get(code) or _UNNOTICED.get(code) or f"exit code {code}"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}" if whole else "0"


if __name__ == "__main__":
    sys.exit(main())
