from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """Third-party reference material and labelled data, which the project does not contain."""
    path = Path(os.environ.get("CONNECTOR_PSI_SHARED", ROOT.parent / "shared"))
    if not (path / "reference").is_dir():
        pytest.skip("third-party reference material is absent: set CONNECTOR_PSI_SHARED to its folder")
    return path
