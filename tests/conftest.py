from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

ROOT = Path(__file__).resolve().parent.parent

# For this process and those it starts, before numpy is loaded: with more threads than cores, matrices of a few columns
# cost twice the time, most of it spent waiting.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Nodes that are started as processes need not compile every module anew, whatever this process was told.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

LONGEST = (
    "integration/test_demo.py",
    "simulation/test_access.py",
    "simulation/test_name_decisions.py",
    "simulation/test_case_walk.py",
    "integration/test_kill.py",
    "simulation/test_crash_points.py",
    "simulation/test_faults.py",
    "simulation/test_recalls.py",
    "vectors/test_names_data.py",
    "compat/test_older_peer.py",
    "simulation/test_histories.py",
    "integration/test_large_ens.py",
    "integration/test_cli.py",
    "faults/test_epochs_of_real_nodes.py",
    "faults/test_hostile_neighbours.py",
    "faults/test_links_that_come_and_go.py",
    "integration/test_shutdown.py",
    "integration/test_dsr.py",
    "integration/test_drop_folder.py",
    "faults/test_peer_calls_on_bad_links.py",
    "faults/test_disk_full.py",
    "privacy/test_log_files_hold_nothing.py",
    "integration/test_witness_and_mirror.py",
    "simulation/test_operations_model.py",
    "simulation/test_outbox.py",
    "simulation/test_whole_pack.py",
    "integration/test_policy_change.py",
    "simulation/test_witnesses.py",
    "privacy/test_planted_identifiers.py",
)
"""Files that take longest begin first, so that no worker is left with one of them when the other has nothing to do any more."""

LONGER = {"faults", "integration", "privacy", "simulation"}
"""Folders whose files take longer than those of the others."""


def pytest_configure(config: pytest.Config) -> None:
    # xdist would begin with the files that have most tests, which are short ones.
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks = {name: rank for rank, name in enumerate(LONGEST)}

    def place(item: pytest.Item) -> tuple[int, bool]:
        path = item.path.relative_to(ROOT / "tests")
        return ranks.get(path.as_posix(), len(ranks)), path.parts[0] not in LONGER

    items.sort(key=place)


def pytest_collection_finish() -> None:
    # Not before: tests set up gRPC's environment before it is loaded.
    from connector_psi.cli import tune_interpreter

    tune_interpreter()


@pytest.fixture(autouse=True)
def _own_log() -> Iterator[None]:
    """A command that ran in this process leaves its logger bound to a stream that its test closed."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Third-party reference material and labelled data, which the project does not contain."""
    path = Path(os.environ.get("CONNECTOR_PSI_SHARED", ROOT.parent / "shared"))
    if not (path / "reference").is_dir():
        pytest.skip("third-party reference material is absent: set CONNECTOR_PSI_SHARED to its folder")
    return path


@pytest.fixture(params=["FAREAST-14", "FARWEST12"])
def far_away(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose clock is set to another zone: fourteen hours before UTC, or twelve behind it (POSIX writes it the other way)."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield
    time.tzset()
