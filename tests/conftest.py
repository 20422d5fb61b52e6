from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

ROOT = Path(__file__).resolve().parent.parent


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
