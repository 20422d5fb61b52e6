"""A node of a released version, taken from the history and run as a process beside nodes of the present one.

Decides: where its code comes from and that no other is run, and what each side is told so that both have one agreement.
Leaves to others: what the two then do (the tests), and people and systems at a node (``tests.integration.live``): the local
port of 0.1.0 understands the present client, which only asks more.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration import live  # isort: skip  # sets up gRPC's environment before gRPC is loaded

import pytest

from connector_psi.domain.clock import SystemClock, SystemRandom
from connector_psi.node.setup import find_profile, init_node

ROOT = Path(__file__).resolve().parents[2]
RELEASES: dict[str, dict[str, str]] = tomllib.loads((Path(__file__).parent / "releases.toml").read_text())
IN_FIRST_EDITION = "edition: 1\n    answer_within_h: 12\n    querier_categories: [ics2.ens]\n"
"""What the present version wants said in an agreement of 0.1.0 beside what stands there."""
# The current directory comes first where Python looks for a module to run.
_THERE = "import os, sys; os.chdir(sys.argv[1]); os.execv(sys.argv[2], sys.argv[2:])"


@dataclass
class Ports:
    """Addresses of each authority's two ports. Tests that run one after the other share them: free ports are few."""

    _known: dict[str, tuple[str, str]] = field(default_factory=dict)

    def of(self, authority: str) -> tuple[str, str]:
        """Return the peer port and the local port."""
        if authority not in self._known:
            self._known[authority] = (f"127.0.0.1:{live.free_port()}", f"127.0.0.1:{live.free_port()}")
        return self._known[authority]


@dataclass(frozen=True)
class Release:
    """The tree of a released version.

    Attributes:
        version: Its number.
        tree: Where it was unpacked; nothing of the present tree is in it.
    """

    version: str
    tree: Path

    @property
    def inside(self) -> list[str]:
        """A command that runs another one in the tree, so that Python finds that version's package first."""
        return [sys.executable, "-S", "-c", _THERE, str(self.tree)]

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run a command of that version."""
        command = [*self.inside, sys.executable, "-m", "connector_psi.cli", *map(str, arguments)]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)

    def python(self, program: str, stdin: str = "") -> str:
        """Run a program with that version's package; returns what it printed."""
        command = [*self.inside, sys.executable, "-c", program]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def profile(self, name: str) -> Path:
        """Return the folder of a profile that the version shipped."""
        return self.tree / "nodes" / name

    def make_node(self, root: Path, authority: str, ports: Ports) -> Path:
        """Init a node of that version with its own profile of the same name."""
        directory = root / authority
        listen, local = ports.of(authority)
        done = self.run(
            *("init", directory, "--authority", authority, "--profile", authority, "--pki", root / "pki"),
            *("--listen", listen, "--local", local),
        )
        assert done.returncode == 0, done.stderr
        make_quick(directory)
        return directory


def unpack(version: str, into: Path) -> Release:
    """Take a release out of the history; skip where there is none."""
    commit = RELEASES[version]["commit"]
    git = ["git", "-C", str(ROOT)]
    if subprocess.run([*git, "cat-file", "-e", f"{commit}^{{commit}}"], capture_output=True, check=False).returncode:
        pytest.skip(f"needs the commit of {version} in the history: this is no clone, or a shallow one")
    into.mkdir(parents=True)
    with subprocess.Popen([*git, "archive", commit], stdout=subprocess.PIPE) as archive:
        subprocess.run(["tar", "-x", "-C", str(into)], stdin=archive.stdout, check=True)
    assert archive.returncode == 0
    release = Release(version, into)
    found = release.python("import connector_psi, connector_psi.cli; print(connector_psi.__file__)")
    assert Path(found.strip()) == into / "connector_psi" / "__init__.py"
    return release


def make_quick(directory: Path) -> None:
    """Let a node look often and answer soon."""
    settings = directory / "node.toml"
    text = settings.read_text().replace("slot_s = 10\n", "slot_s = 1\n").replace("delta_s = 5\n", "delta_s = 0.5\n")
    text = text.replace("interval_s = 1.0\nmanifest_poll_s = 1.0", "interval_s = 0.2\nmanifest_poll_s = 0.2")
    settings.write_text(text.replace("not_disclosed_after_s = 259200", "not_disclosed_after_s = 4"))


def make_present(root: Path, authority: str, release: Release, templates: Sequence[str], ports: Ports) -> Path:
    """Init a node of the present version whose policy has some agreements in the terms of a release, word by word."""
    shipped = find_profile(authority)
    profile = root / "profiles" / authority
    profile.mkdir(parents=True)
    (profile / "node.toml").write_bytes((shipped / "node.toml").read_bytes())
    text = (shipped / "policy.yaml").read_text()
    older = (release.profile(authority) / "policy.yaml").read_text()
    for code in templates:
        terms = _template(older, code).replace("    purpose:", f"    {IN_FIRST_EDITION}    purpose:", 1)
        text = text.replace(_template(text, code), terms)
    (profile / "policy.yaml").write_text(text)
    directory = root / authority
    listen, local = ports.of(authority)
    init_node(
        directory,
        authority=authority,
        profile=str(profile),
        pkidir=root / "pki",
        listen=listen,
        local=local,
        clock=SystemClock(),
        random=SystemRandom(),
    )
    make_quick(directory)
    return directory


def _template(policy: str, code: str) -> str:
    """Return the lines of one template of a policy file."""
    found = re.search(rf"^  {code}:\n(?:(?:    .*)?\n)+", policy, re.MULTILINE)
    assert found is not None, f"no template {code}"
    return found[0]
