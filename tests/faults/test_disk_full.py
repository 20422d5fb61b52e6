"""R3 for processes: the disk of a served node is full, and then it is not.

Needs a small file system of its own: a tmpfs, which root alone can mount. ``tests/simulation`` has the form without processes.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from connector_psi.errors import ConnectorError, StorageError
from tests.faults.agency import Agency, all_synced, container, wait
from tests.faults.links import make_federation
from tests.integration.live import make_node
from tests.simulation.crash import Diary
from tests.simulation.federation import alert, declaration

SIZE_MIB = 64
ANSWER_S, RECOVERY_S, SETTLE_S = 2.0, 10.0, 60.0
PAIRS = 4
MAX_WRITES = 300
"""What SQLite has set aside already takes in some more before it needs the disk."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """An empty directory that is a file system of its own."""
    place = tmp_path / "sis"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m,mode=0700", "tmpfs", place], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("a small file system cannot be mounted here: that takes root, and a kernel that allows it")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def _fill(disk: Path) -> Path:
    """Leave not one byte."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as stream, suppress(OSError):
        while True:
            stream.write(bytes(64 * 1024))
    assert os.statvfs(disk).f_bavail == 0
    return ballast


def _timed(step: Callable[[], object]) -> tuple[str, float]:
    """Return what came of a step, and after how long."""
    begun = time.monotonic()
    try:
        step()
        came = "done"
    except StorageError:
        came = "unavailable"
    except ConnectorError as error:
        came = type(error).__name__
    return came, time.monotonic() - begun


def test_a_full_disk_is_unavailable_at_once_loses_nothing_and_is_got_over(small_disk: Path, tmp_path: Path) -> None:
    ics2_dir, sis_dir = make_federation(tmp_path, {"ics2": "ics2", "sis": "sis"}, make_node)
    diary = Diary(tmp_path / "diary")
    ics2 = Agency(ics2_dir, diary, lambda n: declaration(f"D{n}", container(n)), batch=PAIRS)
    sis = Agency(sis_dir, diary, lambda n: alert(f"A{n}", container(n)), batch=PAIRS)
    assert sis_dir == small_disk
    try:
        for agency in (ics2, sis):
            agency.ready()
            agency.feed()
        wait(all_synced((ics2, sis)), SETTLE_S)
        ics2.review()
        ics2.open_cases()
        wait(lambda: len(list(sis.cases("awaiting_decision"))) == PAIRS, SETTLE_S)

        ballast = _fill(small_disk)
        kept, refused, slowest_s = [*range(PAIRS)], 0, 0.0
        for number in range(PAIRS, PAIRS + MAX_WRITES):
            came, took_s = _timed(lambda number=number: sis.register([number]))  # type: ignore[misc]
            slowest_s = max(slowest_s, took_s)
            assert came in {"done", "unavailable"}
            if came == "done":
                kept.append(number)
            else:
                refused += 1
            if refused == 5:
                break
        assert refused == 5, "a full disk took everything in"
        came, took_s = _timed(sis.approve)
        assert (came, took_s < ANSWER_S) == ("unavailable", True)
        assert slowest_s < ANSWER_S
        # Nothing leaves that is not logged.
        time.sleep(2.5)
        assert {case.state for case in ics2.cases()} == {"pending"}
        assert sis.served is not None
        assert sis.served.process.poll() is None

        ballast.unlink()
        extra = PAIRS + MAX_WRITES
        back_s = wait(lambda: bool(sis.register([extra])), RECOVERY_S)

        def disclosed() -> bool:
            sis.approve()
            return {case.state for case in ics2.cases()} == {"disclosed"}

        disclosed_s = wait(disclosed, SETTLE_S)
        assert set(sis.register([*kept, extra])) == {"duplicate"}, "lost what it acknowledged"
        assert sis.client("system1").verify_log()["verified"]
        assert len(list(ics2.cases())) == PAIRS
        print(
            f"\n{len(kept) - PAIRS} taken in after the disk was full, then refused within {slowest_s:.2f} s;"
            f" back after {back_s:.1f} s, disclosed after {disclosed_s:.1f} s"
        )
        for agency in (ics2, sis):
            agency.stop()
    finally:
        for agency in (ics2, sis):
            agency.kill()
            agency.gone()
