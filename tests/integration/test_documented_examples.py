"""The programs in the documentation run as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.integration import live  # isort: skip  # sets up gRPC's environment before gRPC is loaded

import pytest

from connector_psi import pki
from connector_psi.domain.clock import SystemClock
from connector_psi.domain.identifiers import normalise
from connector_psi.domain.records import IDENTIFIER_TABLE, IdentifierType
from connector_psi.errors import ConfigError
from connector_psi.node.config import Layout
from connector_psi.node.service import Service
from connector_psi.pki import Role
from connector_psi.rpc.client import PeerConnector
from connector_psi.rpc.local import open_local
from connector_psi.rpc.server import Ports

DOCS = Path(__file__).resolve().parents[2] / "docs"


def program(page: str, name: str) -> str:
    """The Python block of a page whose first line names the program."""
    blocks = re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)
    (found,) = [block for block in blocks if block.startswith(f'"""{name} ')]
    return str(found)


def run(source: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", source, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_system_registers_records_as_the_page_shows(tmp_path: Path) -> None:
    directory = live.make_node(tmp_path, "ics2", "ics2")
    service = Service(directory, PeerConnector)
    try:
        ports = Ports(service, peer=None, local="127.0.0.1:0")
        try:
            out = run(program("integration.md", "register.py"), str(directory), ports.local_address, "ics2")
        finally:
            ports.stop(1)
        assert service.status()["records"] == 2
    finally:
        service.close()
    assert out.splitlines() == [
        "REGISTER_OUTCOME_ACCEPTED",
        "1 REGISTER_OUTCOME_ACCEPTED identifiers[1]: container.check_digit",
    ]
    page = (DOCS / "integration.md").read_text()
    assert all(f"`{line}`" in page for line in out.splitlines())


def test_identifiers_as_the_page_writes_them_have_a_canonical_form() -> None:
    page = (DOCS / "integration.md").read_text()
    examples = dict(
        re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", page[page.index("| type | for example") :], re.MULTILINE)
    )
    assert list(examples) == [kind.value for kind in IDENTIFIER_TABLE]
    for kind, written in examples.items():
        assert normalise(IdentifierType(kind), written)


def test_a_federation_moves_to_a_root_of_its_own_as_the_page_shows(tmp_path: Path) -> None:
    nodes = {code: live.make_node(tmp_path, code, code) for code in ("ics2", "sis")}
    clock = SystemClock()
    root = pki.ensure_test_root(tmp_path / "own", clock)
    for code, directory in nodes.items():
        layout = Layout(directory)
        layout.root_cert.write_bytes(root.cert_pem)
        pki.save_credentials(pki.issue_authority(root, code, ["127.0.0.1"], clock, 1), layout.node_cert)
        for role, name in ((Role.ADMIN, "admin1"), (Role.DPO, "dpo1")):
            pki.save_credentials(pki.issue_person(root, code, role, name, clock, 1), layout.people / f"{name}.crt")
        # Nor does the policy count as signed under another root.
        with pytest.raises(ConfigError, match="connector-psi policy sign"):
            Service(directory, PeerConnector)
        for name in ("admin1", "dpo1"):
            signed = live.run("policy", "sign", layout.policy, "--as", layout.people / f"{name}.crt", "--json").json
        assert signed["missing"] == 0
    # Without the new descriptor, peers refuse each other.
    with pytest.raises(ConfigError, match="another root"):
        live.introduce(nodes["ics2"], nodes["sis"])
    for directory in nodes.values():
        run(program("operations.md", "descriptor.py"), str(directory))
    for own, other in (("ics2", "sis"), ("sis", "ics2")):
        with open_local(nodes[own], Role.ADMIN) as client:
            added = client.add_peer((nodes[other] / "descriptor.json").read_bytes())
        assert added == {"authority": other, "agreements": live.AGREEMENTS}
