"""A declaration of any size is read in less memory than it has: the reader as a process, its memory as the system says."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIMIT_MIB = 300
READER = """
import json, re, sys
from pathlib import Path
from connector_psi.adapters import formats
from connector_psi.domain.records import Issue, Record, Supersession
counts = {"records": 0, "identifiers": 0, "incomplete": 0, "issues": 0, "ends": 0}
first = last = digest = None
with Path(sys.argv[1]).open("rb") as stream:
    for item in formats.read(stream, file="large.xml"):
        if isinstance(item, Record):
            counts["records"] += 1
            counts["identifiers"] += len(item.identifiers)
            counts["incomplete"] += item.incomplete
            first, last, digest = first or item.source_ref, item.source_ref, item.message_digest.hex()
        elif isinstance(item, Issue):
            counts["issues"] += 1
        elif isinstance(item, Supersession):
            counts["ends"] += 1
# Not ru_maxrss: that is never less than what the process had from which this one was started.
peak = int(re.search(r"VmHWM:\\s*([0-9]+)", Path("/proc/self/status").read_text())[1]) / 1024
print(json.dumps(counts | {"first": first, "last": last, "digest": digest, "peak_mib": peak}))
"""


@pytest.fixture(scope="module")
def write_declaration() -> Callable[..., int]:
    spec = importlib.util.spec_from_file_location("extract_benchmark", ROOT / "benchmarks" / "extract.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.write_declaration


def read_in_a_process(path: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", READER, str(path)], check=True, capture_output=True, text=True, cwd=ROOT
    )
    return json.loads(done.stdout)


def check(path: Path, houses: int) -> None:
    found = read_in_a_process(path)
    assert found["records"] == houses
    # Each has its own container, document, three contacts and two EORI, and of the others MRN, ship, carrier ...
    assert found["identifiers"] == houses * (7 + 5)
    assert (found["incomplete"], found["issues"], found["ends"]) == (0, 0, 1)
    assert found["first"] == "25BE000000000SYN01/1"
    with path.open("rb") as stream:
        assert found["digest"] == hashlib.file_digest(stream, "sha256").hexdigest()
    assert found["peak_mib"] < LIMIT_MIB


def test_200_mb_are_read_in_under_300_mib(tmp_path: Path, write_declaration: Callable[..., int]) -> None:
    path = tmp_path / "large.xml"
    houses = write_declaration(path, size_bytes=200_000_000)
    assert path.stat().st_size >= 200_000_000
    check(path, houses)


@pytest.mark.slow
def test_2_gb_are_read_in_under_300_mib(tmp_path: Path, write_declaration: Callable[..., int]) -> None:
    path = tmp_path / "large.xml"
    houses = write_declaration(path, size_bytes=2_000_000_000)
    check(path, houses)
    path.unlink()


@pytest.mark.parametrize(
    "flood",
    [
        "<consignmentHouseLevel>" + "<a/>" * 6_000_000,
        "<consignmentHouseLevel>" + "<consignee><name>x</name></consignee>" * 1_000_000,
        "<transportEquipment/>" * 2_000_000,
        "".join(f"<consignmentHouseLevel><MRN>{n:018}</MRN></consignmentHouseLevel>" for n in range(120_000)),
        "<consignmentHouseLevel><consignee><name>" + "x y " * 10_000_000,
        "<!--" + "x" * 40_000_000 + "-->",
    ],
    ids=["elements", "parties", "master", "references", "text", "comment"],
)
def test_a_flood_of_anything_stays_in_the_same_memory(tmp_path: Path, flood: str) -> None:
    path = tmp_path / "flood.xml"
    with path.open("w") as out:
        out.write(
            '<IE4R05 xmlns="urn:wco:datamodel:eu:ics2:2"><relatedENS><MRN>25BE000000000SYN01</MRN><consignmentMasterLevel>'
        )
        out.write(flood)
    assert read_in_a_process(path)["peak_mib"] < LIMIT_MIB
