"""A change of policy as people make it: edited, signed by two of them, in force when the node is served again."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration import live  # isort: skip  # sets up gRPC's environment before gRPC is loaded

import pytest

from connector_psi import policy
from connector_psi.node.config import Layout
from connector_psi.pack import signing
from connector_psi.pack.reading import load_policy
from connector_psi.pki import Role

AGREEMENT = "SIS-OBJ:ics2-sis"
EDIT = ("object: {per_day: 9011200, per_year: 1649049600}", "object: {per_day: 400, per_year: 600}")


@dataclass
class Changed:
    """A node whose policy was in force and is edited now."""

    layout: Layout
    before: dict[str, Any]

    @property
    def directory(self) -> Path:
        return self.layout.root

    def sign(self, name: str, *more: object) -> live.Done:
        return live.run("policy", "sign", self.layout.policy, "--as", self.layout.people / f"{name}.crt", *more)


@pytest.fixture
def changed(tmp_path: Path) -> Changed:
    ics2, sis = live.make_node(tmp_path, "ics2", "ics2"), live.make_node(tmp_path, "sis", "sis")
    assert live.run("peer", "add", sis, ics2 / "descriptor.json").code == 0
    layout = Layout(sis)
    with live.serving(sis):
        before = live.run("status", sis, "--json").json
    text = layout.policy.read_text()
    assert EDIT[0] in text
    layout.policy.write_text(text.replace(*EDIT))
    return Changed(layout, before)


def _refused(changed: Changed) -> str:
    """How ``serve`` and a command that opens the node refuse; both the same."""
    served, _ = live.run_process("serve", changed.directory)
    done = live.run("status", changed.directory, "--json")
    assert (served.code, done.code, served.out) == (2, 2, "")
    assert done.json["error"] == "config"
    assert f"connector-psi policy sign {changed.layout.policy} --as CERT" in " ".join(served.err.split())
    detail: str = done.json["detail"]
    return detail


def test_a_policy_is_changed_by_two_people_and_by_nobody_less(changed: Changed) -> None:
    before = changed.before["policy"]
    assert [s["person"] for s in before["signed_by"]] == ["admin1", "supervisor1"]
    assert "another policy was signed" in _refused(changed)

    done = changed.sign("supervisor1", "--json").json
    new = policy.pack_hash(load_policy(changed.layout.policy)).hex()
    assert new != before["hash"]
    assert (done["pack_hash"], done["missing"], done["dropped"], done["checked_root"]) == (new, 1, 2, True)
    assert "signed by 1 of two people" in _refused(changed)

    again = changed.sign("supervisor1", "--json").json
    assert (again["missing"], [s["person"] for s in again["signed_by"]]) == (1, ["supervisor1"])
    assert "signed by 1 of two people" in _refused(changed)

    done = changed.sign("admin1", "--json").json
    assert (done["missing"], [s["role"] for s in done["signed_by"]]) == (0, ["supervisor", "admin"])
    with live.serving(changed.directory):
        status = live.run("status", changed.directory, "--json").json
        leaves = live.run("log", "show", changed.directory, "--limit", 1000, "--json").json
        assert live.run("log", "verify", changed.directory).code == 0
        shown = live.run("status", changed.directory)
    assert status["policy"]["hash"] == new
    assert status["policy"]["since"] >= before["since"]
    assert [s["person"] for s in status["policy"]["signed_by"]] == ["supervisor1", "admin1"]
    assert "supervisor1 (supervisor)" in shown.out
    (line,) = [a for a in status["agreements"] if a["agreement"] == AGREEMENT]
    assert line["capacity_today"]["object"]["of"] == 400
    found = [leaf for leaf in map(_leaf, leaves) if leaf["event"] == "POLICY_CHANGE"]
    assert [leaf["policy_hash"] for leaf in found if leaf["agreement"] is None] == [before["hash"], new]
    of_agreement = [leaf["policy_hash"] for leaf in found if leaf["agreement"] == AGREEMENT]
    assert len(set(of_agreement)) == len(of_agreement) == 2


def _leaf(shown: Any) -> dict[str, Any]:
    leaf: dict[str, Any] = shown["leaf"] if isinstance(shown, dict) and "leaf" in shown else shown
    return json.loads(leaf) if isinstance(leaf, str) else leaf


def test_who_may_not_sign_is_refused_and_leaves_no_trace(changed: Changed, tmp_path: Path) -> None:
    path = signing.signature_path(changed.layout.policy)
    before = path.read_bytes()
    for name in ("officer1", "auditor1", "system1"):
        done = changed.sign(name, "--json")
        assert (done.code, done.json["error"]) == (4, "refused")
    node = live.run("policy", "sign", changed.layout.policy, "--as", changed.layout.node_cert)
    assert node.code == 4
    mint = live.Mint(tmp_path)
    for cert in (
        mint.person("sis", Role.SUPERVISOR, stranger=True),
        mint.person("sis", Role.SUPERVISOR, days_ago=40),
        mint.person("ics2", Role.SUPERVISOR),
    ):
        (tmp_path / "who.pem").unlink(missing_ok=True)
        (tmp_path / "who.pem").touch(mode=0o600)
        (tmp_path / "who.pem").write_bytes(cert.cert_pem + cert.key_pem)
        done = live.run("policy", "sign", changed.layout.policy, "--as", tmp_path / "who.pem", "--json")
        assert (done.code, done.json["error"]) == (4, "refused")
    assert path.read_bytes() == before


def test_a_policy_with_an_error_is_signed_by_nobody(changed: Changed) -> None:
    text = changed.layout.policy.read_text()
    changed.layout.policy.write_text(text.replace("max_set_age_h: 48", "max_set_age_h: 72"))
    done = changed.sign("supervisor1", "--json")
    assert done.code == 2
    assert "max_set_age_h" in done.json["detail"]


def test_people_sign_where_their_keys_are_and_the_files_are_carried_to_the_node(
    changed: Changed, tmp_path: Path
) -> None:
    """The file alone, and no node directory around it."""
    desk = tmp_path / "desk"
    desk.mkdir()
    shutil.copyfile(changed.layout.policy, desk / "policy.yaml")
    for name, missing in (("dpo1", 1), ("supervisor2", 0)):
        done = live.run("policy", "sign", desk / "policy.yaml", "--as", changed.layout.people / f"{name}.crt", "--json")
        assert (done.json["missing"], done.json["checked_root"]) == (missing, False)
    shutil.copyfile(desk / "policy.yaml.sig", signing.signature_path(changed.layout.policy))
    assert [s["person"] for s in live.run("status", changed.directory, "--json").json["policy"]["signed_by"]] == [
        "dpo1",
        "supervisor2",
    ]
