"""Released versions stay buildable from the history: later versions run them as peers."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RELEASES = tomllib.loads((Path(__file__).parent / "releases.toml").read_text())


def _git(*arguments: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("version", sorted(RELEASES))
def test_the_recorded_commit_is_that_version_and_in_the_history(version: str) -> None:
    if not (ROOT / ".git").exists() or _git("rev-parse", "--is-shallow-repository").strip() == "true":
        pytest.skip("needs the whole history: this is no clone, or a shallow one")
    commit = RELEASES[version]["commit"]
    project = tomllib.loads(_git("show", f"{commit}:pyproject.toml"))
    assert project["project"]["version"] == version
    _git("merge-base", "--is-ancestor", commit, "HEAD")
