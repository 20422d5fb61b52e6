"""A client in another language, written from protos/ and docs/protocol.md alone, against a real owner node.

Needs Node.js and, for two stock gRPC packages and a stock RFC 9497 library, a package registry; without them it is skipped
and says why.
"""

from __future__ import annotations

import hashlib
import json
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connector_psi import policy
from connector_psi.adapters import formats
from connector_psi.domain.clock import SystemClock, SystemRandom
from connector_psi.domain.identifiers import NORMALISATION_VERSION, normalise
from connector_psi.domain.purposes import ProfileRole
from connector_psi.domain.records import IdentifierType, Issue, TokenClass
from connector_psi.node.config import load_config
from connector_psi.node.descriptor import parse_descriptor
from connector_psi.node.service import Service
from connector_psi.node.setup import init_node
from connector_psi.pack.reading import load_policy
from connector_psi.rpc.client import PeerConnector

ROOT = Path(__file__).resolve().parents[2]
CLIENT = Path(__file__).resolve().parent / "node_client"
AGREEMENT = "SIS-OBJ:ics2-sis"
INSTALL_S, START_S, CLIENT_S, DELTA_S = 120, 30, 30, 20
# How npm names a registry that it cannot reach or that refuses to serve; anything else is a fault of the client.
NO_REGISTRY = re.compile(
    r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|ERR_SOCKET_TIMEOUT|ENOTCACHED|CERT|E40[137]|E5\d\d"
)

SHARED, OTHER = "CSQU3054383", normalise(IdentifierType.CONTAINER, "TGHU123456", complete_check_digit=True)
VIN, PLATE = "WVWZZZ1JZ3W386752", "DE:BAB1234"


def alert(number: int, category: str, **sought: str) -> dict[str, Any]:
    return {
        "schengen_id": f"EX-000{number}",
        "issuing_state": "DE",
        "article": f"38(2)({category})",
        "category": category,
        "object": sought,
        "action": "seizure",
        "sirene_contact": "SIRENE office of nowhere",
    }


# The container stands in two alerts, as the number of a stolen one does that is entered twice.
ALERTS = [
    alert(1, "g", type="container", container_number="csqu 305438-3"),
    alert(2, "g", type="container", container_number=SHARED),
    alert(3, "a", type="vehicle", vin=VIN, plate="B-AB 1234", plate_country="DE"),
]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client with its packages, in a folder outside the repository."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("Node.js is absent: no `node` or no `npm` on the path")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    major, minor = map(int, version.removeprefix("v").split(".")[:2])
    if (major, minor) < (20, 19):
        pytest.skip(f"Node.js {version} is too old: the RFC 9497 library needs 20.19")
    folder = tmp_path_factory.mktemp("node_client")
    for name in ("package.json", "client.mjs"):
        shutil.copyfile(CLIENT / name, folder / name)
    command = [npm, "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--prefer-offline"]
    try:
        done = subprocess.run(
            [*command, "--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=20000"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=INSTALL_S,
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm install did not end within {INSTALL_S} s: the package registry is too slow or not there")
    if done.returncode and (reason := NO_REGISTRY.search(done.stderr)):
        pytest.skip(f"npm install found no package registry ({reason[0]})")
    assert done.returncode == 0, done.stderr
    return folder / "client.mjs"


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An owner with a published set, and the querier whose certificate the client uses; peers of each other."""
    folder = tmp_path_factory.mktemp("nodes")
    for authority in ("sis", "ics2"):
        init_node(
            folder / authority,
            authority=authority,
            profile=authority,
            pkidir=folder / "pki",
            listen="127.0.0.1:0",
            local="127.0.0.1:0",
            clock=SystemClock(),
            random=SystemRandom(),
        )
    settings = folder / "sis" / "node.toml"
    settings.write_text(settings.read_text().replace("delta_s = 5", "delta_s = 1"))
    drop = folder / "alerts.jsonl"
    drop.write_text("".join(json.dumps(line) + "\n" for line in ALERTS))
    for authority, peer in (("ics2", "sis"), ("sis", "ics2")):
        service = Service(folder / authority, PeerConnector)
        try:
            view = service.peering.add((folder / peer / "descriptor.json").read_bytes())
            assert AGREEMENT in view.agreements
            if authority == "sis":
                with drop.open("rb") as stream:
                    found = list(formats.read(stream, file=drop.name, format=None, schemas=None))
                records = [item for item in found if not isinstance(item, Issue)]
                assert len(records) == len(found) == len(ALERTS)
                assert {r.outcome for r in service.registration.register(records, "test")} == {"accepted"}
                # Four that were written, and the last eight of the VIN and the plate without its country.
                assert [p.tokens for p in service.publish()] == [6]
        finally:
            service.close()
    return folder


@pytest.fixture(scope="module")
def owner_address(nodes: Path) -> Iterator[str]:
    """The peer port of the owner, served by a process of its own."""
    command = [sys.executable, "-m", "connector_psi.cli", "serve", str(nodes / "sis")]
    with (nodes / "serve.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
    try:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], START_S)
        line = process.stdout.readline() if ready else b""
        assert line, (nodes / "serve.log").read_text()
        yield json.loads(line)["peer"]
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def job(nodes: Path, owner_address: str) -> dict[str, Any]:
    owner = parse_descriptor((nodes / "sis" / "descriptor.json").read_bytes())
    _, layout = load_config(nodes / "ics2")
    fitting = policy.fitting_agreements(
        load_policy(layout.policy),
        ("ics2", ProfileRole.CUSTOMS),
        ("sis", ProfileRole.NSIS),
        synthetic=True,
    )
    (agreement,) = (found for found in fitting if found.code == AGREEMENT)
    return {
        "protos": str(ROOT / "protos"),
        "address": owner_address,
        "root": str(layout.root_cert),
        "cert": str(layout.node_cert),
        "key": str(layout.node_cert.with_suffix(".key")),
        "owner": "sis",
        "querier": "ics2",
        "owner_signing_key": owner.signing_key,
        "owner_log_vkey": owner.log_vkey,
        "agreement": agreement.code,
        "policy_hash": policy.policy_hash(agreement).hex(),
        "normalisation_version": NORMALISATION_VERSION,
        "token_class": TokenClass.OBJECT.label,
        "messages": [
            {"digest": hashlib.sha256(b"%d" % n).hexdigest(), "identifiers": identifiers}
            for n, identifiers in enumerate(
                (
                    [{"type": "container", "value": SHARED}, {"type": "container", "value": OTHER}],
                    [{"type": "vin", "value": VIN}, {"type": "plate", "value": PLATE}],
                )
            )
        ],
    }


def run(client: Path, job: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["node", str(client)], input=json.dumps(job), capture_output=True, text=True, check=False, timeout=CLIENT_S
    )


def test_a_client_in_another_language_opens_its_tickets_and_no_others(client: Path, job: dict[str, Any]) -> None:
    done = run(client, job)
    assert (done.returncode, done.stderr) == (0, "")
    opened = json.loads(done.stdout)
    shared, other, vin, plate = (opened[str(place)] for place in range(4))
    # By the policy of this agreement: class object, the category's place in the list, the family of the type.
    assert [(t["class"], t["category"], t["family"]) for t in shared] == [(1, 7, 1), (1, 7, 1)]
    assert len({t["ticket_id"] for t in shared}) == len({t["redeem"] for t in shared}) == 2
    assert other == []
    (vin_ticket,), (plate_ticket,) = vin, plate
    assert (vin_ticket["category"], vin_ticket["family"], plate_ticket["family"]) == (1, 3, 2)
    assert vin_ticket["ticket_id"] == plate_ticket["ticket_id"]
    assert vin_ticket["redeem"] != plate_ticket["redeem"]


def test_the_client_finds_an_alert_that_came_after_the_set(client: Path, nodes: Path, job: dict[str, Any]) -> None:
    later = nodes / "later.jsonl"
    alerts = [
        alert(4, "g", type="container", container_number=OTHER),
        alert(5, "g", type="container", container_number=SHARED),
        # The vehicle without its plate: the row of the plate goes.
        alert(3, "a", type="vehicle", vin=VIN),
    ]
    later.write_text("".join(json.dumps(line) + "\n" for line in alerts))
    command = [sys.executable, "-m", "connector_psi.cli", "ingest", str(nodes / "sis"), str(later)]
    subprocess.run(command, check=True, capture_output=True, timeout=START_S)
    counts: list[int] = []
    deadline = time.monotonic() + DELTA_S
    while counts != [3, 1, 1, 0] and time.monotonic() < deadline:
        done = run(client, job)
        assert (done.returncode, done.stderr) == (0, "")
        counts = [len(found) for found in json.loads(done.stdout).values()]
    assert counts == [3, 1, 1, 0]
    # All of it came in deltas of the set that was there.
    done = run(client, job | {"epoch": 1})
    assert [len(found) for found in json.loads(done.stdout).values()] == counts


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        pytest.param({"owner_signing_key": ""}, "refused: manifest signature", id="another node's signing key"),
        pytest.param({"owner_log_vkey": ""}, "refused: the checkpoint is not signed", id="another node's log"),
        pytest.param({"querier": "europol"}, "refused: the manifest names other authorities", id="another querier"),
        pytest.param({"policy_hash": "00" * 32}, "refused: the manifest is of another policy", id="another policy"),
        pytest.param({"owner": "europol"}, "UNAVAILABLE", id="another server"),
        pytest.param({"epoch": str(2**64 - 1)}, "14 UNAVAILABLE: unavailable", id="an epoch beyond every store"),
        pytest.param({"cert": "officer1.crt", "key": "officer1.key"}, "PERMISSION_DENIED", id="a person, no node"),
    ],
)
def test_the_client_takes_nothing_that_does_not_verify(
    client: Path, nodes: Path, job: dict[str, Any], change: dict[str, str], complaint: str
) -> None:
    _, layout = load_config(nodes / "ics2")
    querier = parse_descriptor(layout.descriptor.read_bytes())
    keys = {"owner_signing_key": querier.signing_key, "owner_log_vkey": querier.log_vkey}
    files = {name: str(layout.people / value) for name, value in change.items() if name in {"cert", "key"}}
    done = run(client, job | change | {name: keys[name] for name in change if name in keys} | files)
    assert (done.returncode, done.stdout) == (1, "")
    assert complaint in done.stderr
