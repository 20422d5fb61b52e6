"""A node of version 0.1.0 beside one of the present version, real processes: sets, queries, cases and outcomes, in both roles.

What is expected is computed from the records in plaintext.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.compat import older  # isort: skip  # imports the next one
from tests.integration import live  # isort: skip  # sets up gRPC's environment before gRPC is loaded

import pytest

from connector_psi import pki
from connector_psi.domain.identifiers import FIRST_NORMALISATION_VERSION, FIRST_TYPES, normalise
from connector_psi.domain.records import IdentifierType, Record
from connector_psi.errors import NormalisationError
from connector_psi.node.config import Layout
from connector_psi.rpc.client import LocalClient
from tests.compat.older import Ports, Release
from tests.faults.agency import container
from tests.simulation.crash import tokens_of
from tests.simulation.federation import alert, declaration

VERSION = "0.1.0"
AGREEMENT, CROSS_CHECK = "SIS-OBJ:ics2-sis", "EUR-XCHK:ics2-europol"
PURPOSE = {"purpose": "cpsi:ObjectSeizureOrEvidence", "legal_basis": "2018/1862:38"}
WAIT_S = 60.0
PLATE = (IdentifierType.PLATE, "DE:BAB1234")
PASSPORT = (IdentifierType.IDENTITY_DOCUMENT, "FR/P/12AB34567")


@pytest.fixture(scope="module")
def ports() -> Ports:
    return Ports()


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return older.unpack(VERSION, tmp_path_factory.mktemp("older") / VERSION)


@dataclass
class Federation:
    """Nodes that are served, by authority, and who works with them."""

    release: Release
    old: frozenset[str]
    directories: Mapping[str, Path]
    served: dict[str, live.Served] = field(default_factory=dict)
    clients: dict[tuple[str, str], LocalClient] = field(default_factory=dict)

    def client(self, code: str, person: str = "system1") -> LocalClient:
        return self.clients[code, person]

    def register(self, code: str, *records: Record) -> None:
        assert {result.outcome for result in self.client(code).register(records)} == {"accepted"}

    def found(self, agreement: str = AGREEMENT) -> list[str]:
        matches = self.client("ics2", "officer1").matches()
        return sorted(m["record_ref"] for m in matches if m["agreement"] == agreement and m["state"] != "withdrawn")

    def failures(self, code: str) -> list[dict[str, Any]]:
        """What went wrong in a process by its own account: loops that failed, refused and broken calls."""
        lines = map(json.loads, filter(None, self.served[code].log.read_text().splitlines()))
        return [line for line in lines if line["event"] in {"loop.failed", "loop.defect", "rpc.failed", "rpc.refused"}]


@contextmanager
def federation(
    release: Release, root: Path, ports: Ports, old: frozenset[str], terms: Mapping[str, Sequence[str]]
) -> Iterator[Federation]:
    """Make nodes, introduce each pair, and serve all of them.

    Args:
        release: Of the older ones.
        root: Where.
        ports: Of each authority.
        old: Which of them are older.
        terms: By authority, the templates that its policy has in the terms of the release; older ones have all so.
    """
    directories = {
        code: release.make_node(root, code, ports)
        if code in old
        else older.make_present(root, code, release, templates, ports)
        for code, templates in terms.items()
    }
    for code, directory in directories.items():
        for other in directories.values():
            if other == directory:
                continue
            if code not in old:
                done = live.run("peer", "add", directory, other / "descriptor.json")
                assert done.code == 0, done.err
            elif other.name not in old:
                added = release.run("peer", "add", directory, other / "descriptor-0.1.0.json")
                assert added.returncode == 0, added.stderr
    nodes = Federation(release, old, directories)
    with ExitStack() as stack:
        for code, directory in directories.items():
            nodes.served[code] = live.Served(directory, release.inside if code in old else ())
            stack.callback(nodes.served[code].end)
        for code, directory in directories.items():
            served, layout = nodes.served[code].wait(), Layout(directory)
            for person in ("admin1", "system1", "officer1", "supervisor1"):
                credentials = pki.load_credentials(layout.people / f"{person}.crt")
                client = LocalClient(served.local, code, credentials, layout.root_cert.read_bytes())
                nodes.clients[code, person] = stack.enter_context(client)
        yield nodes
        for served in nodes.served.values():
            code, _ = served.stop()
            assert code == 0, served.log.read_text()[-2000:]


def eventually(look: Callable[[], Any], wanted: Any, what: str) -> None:
    """Wait until something is as it must be."""
    deadline = time.monotonic() + WAIT_S
    while (seen := look()) != wanted:
        assert time.monotonic() < deadline, f"{what}: {seen!r} instead of {wanted!r}"
        time.sleep(0.1)


def joined(declarations: Mapping[str, Record], alerts: Mapping[str, Record]) -> list[str]:
    """The references that a join in plaintext finds, once a pair."""
    return sorted(
        ref for ref, record in declarations.items() for other in alerts.values() if tokens_of(record) & tokens_of(other)
    )


WRITTEN: Mapping[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "container": ({}, ("CSQU3054383", "MSKU0000006", "TGHU1234567", "MSCU6639870")),
    "plate": ({"country": "DE"}, ("BAB1234", "DE:HH AB 12", "M-O 1000", "WÜ-XY 99", "IL-II 10")),
    "vin": ({}, ("WVWZZZ1JZ3W386752", "1M8GDM9AXKP042788", "VF1RFB00158412345")),
    "imo": ({}, ("IMO 9074729", "9176187", "imo no 8814275")),
    "aircraft": ({}, ("D-ABCD", "N123AB", "G-BOAC", "F-GZCP", "9H-AEI")),
    "identity_document": ({"country": "FR", "document_type": "passport"}, ("12AB34567", "FR/P/12AB34567", "X 123 456")),
    "mrn": ({}, ("25BE000000000SYN01", "25DE000000000SYN91")),
    "transport_document": ({}, ("MAEU-123456789", "020-1234 5675", "B/L 77A")),
    "seal": ({}, ("ML-DE1234567", "ABC123")),
    "eori": ({}, ("DE123456789012345", "EL094259216", "UK205672212000", "XI205672212000")),
    "vat": ({"country": "DE"}, ("136695976", "DE136695976", "EL094259216", "ATU13585627")),
    "phone": ({"country": "DE"}, ("+49 30 12345678", "030 12345678", "0049 (30) 12345678")),
    "email": ({}, ("Jane.Doe@example.com", "info@bücher.example", "a+b@mail.example.org")),
}
"""Of each type the words beside a value, and values; invented, or published examples of a check digit."""
_NORMALISE = """
import json, sys
from connector_psi.domain.identifiers import NORMALISATION_VERSION, normalise
from connector_psi.domain.records import IdentifierType
from connector_psi.errors import NormalisationError
forms = []
for kind, value, words in json.load(sys.stdin):
    try:
        forms.append(normalise(IdentifierType(kind), value, **words))
    except NormalisationError:
        forms.append(None)
json.dump([NORMALISATION_VERSION, forms], sys.stdout)
"""


def test_the_canonical_forms_of_0_1_0_are_those_of_now(release: Release) -> None:
    seed = 1
    print("seed", seed)
    draw = random.Random(seed)
    asked = []
    for kind, (words, values) in WRITTEN.items():
        for value in values:
            spoilt = [value, value.lower(), value.upper(), f" {value}\u200b", value.replace("-", "\u2013")]
            for _ in range(60):
                at = draw.randrange(len(value))
                spoilt.append(value[:at] + draw.choice("0O1IZSB258 -./:\uff11AÄ") + value[at + draw.randrange(2) :])
            asked += [(kind, text, beside) for text in spoilt for beside in (words, {})]
    version, theirs = json.loads(release.python(_NORMALISE, json.dumps(asked)))
    assert version == FIRST_NORMALISATION_VERSION
    assert {IdentifierType(kind) for kind in WRITTEN} == FIRST_TYPES
    assert {kind for (kind, _, _), form in zip(asked, theirs, strict=True) if form is not None} == set(WRITTEN)
    differing = [
        (kind, text, beside, form, mine)
        for (kind, text, beside), form in zip(asked, theirs, strict=True)
        if (mine := _canonical(kind, text, beside)) != form
    ]
    assert not differing


def _canonical(kind: str, text: str, words: Mapping[str, str]) -> str | None:
    try:
        return normalise(IdentifierType(kind), text, **words)  # type: ignore[arg-type]  # one keyword is a bool
    except NormalisationError:
        return None


TERMS = {
    "ics2": {"ics2": (), "sis": ("SIS-OBJ",), "europol": ("EUR-XCHK",)},
    "sis europol": {"ics2": ("SIS-OBJ",), "sis": (), "europol": ()},
}
"""By who is older, the templates that each has in the terms of 0.1.0."""


@pytest.mark.parametrize("old", TERMS)
def test_an_older_peer_and_a_present_one_lose_nothing(release: Release, ports: Ports, tmp_path: Path, old: str) -> None:
    lodged = {f"D{n}": declaration(f"D{n}", container(n)) for n in range(6)}
    lodged["D6"] = declaration("D6", PLATE)
    lodged["D7"] = declaration("D7", PASSPORT, container(7))
    sought = {f"A{n}": alert(f"A{n}", container(n)) for n in (1, 3, 5, 40)}
    sought["A6"] = alert("A6", PLATE, category="sis.38.a")
    sought["A7"] = alert("A7", PASSPORT, category="sis.38.k")
    with federation(release, tmp_path, ports, frozenset(old.split()), TERMS[old]) as nodes:
        officer, supervisor = nodes.client("ics2", "officer1"), nodes.client("sis", "supervisor1")
        nodes.register("sis", *sought.values())
        nodes.register("ics2", *lodged.values())
        eventually(nodes.found, joined(lodged, sought), "the first set")

        # What comes after a set was taken, on either side.
        lodged["D40"] = declaration("D40", container(40))
        nodes.register("ics2", lodged["D40"])
        eventually(nodes.found, joined(lodged, sought), "a declaration after the set")
        sought["A4"] = alert("A4", container(4))
        nodes.register("sis", sought["A4"])
        eventually(nodes.found, joined(lodged, sought), "an alert after the set")

        # Two cases: people disclose one.
        cases = {}
        for match in list(officer.matches()):
            if match["record_ref"] in {"D1", "D3"}:
                officer.confirm(match["match_id"], "compared")
                case = officer.open_case(match["match_id"], **PURPOSE, case_reference="C-1", justification="seen")
                cases[case["case_id"]] = match["record_ref"]
        assert sorted(cases.values()) == ["D1", "D3"]
        eventually(lambda: len(list(supervisor.cases("awaiting_decision"))), 2, "cases at the owner")
        for case in list(supervisor.cases("awaiting_decision")):
            supervisor.decide(case["case_id"], approve=cases[case["case_id"]] == "D1", reason="checked")
        eventually(
            lambda: {cases[case["case_id"]]: case["state"] for case in officer.cases()},
            {"D1": "disclosed", "D3": "not_disclosed"},
            "outcomes",
        )
        (disclosed,) = [officer.case(case_id) for case_id, ref in cases.items() if ref == "D1"]
        assert disclosed["fields"]["schengen_id"] == ["A1"]
        assert "alert_reason" not in disclosed["fields"]

        # Nobody confirmed D5, so it goes. What was disclosed of D1 stays confirmed.
        for ref in ("A1", "A5"):
            assert nodes.client("sis").withdraw("SIS", ref, "served")
        eventually(lambda: "D5" in nodes.found(), wanted=False, what="a withdrawal")

        if old == "ics2":
            check_present_owners(nodes)
        else:
            check_refused_agreement(nodes)
        for code in nodes.directories:
            log = nodes.client(code).verify_log()
            assert (log["verified"], log["failures"]) == (True, [])
            assert not [said for said in nodes.failures(code) if is_lost(said)]


def is_lost(said: Mapping[str, Any]) -> bool:
    """Whether a failure is more than a peer or a set that was not there yet, or a refused agreement of another pair."""
    if "method" in said:
        # Present nodes ask an older one for sets and recalls that it knows nothing of.
        return not said["method"].endswith(("/GetManifest", "/Recall"))
    return said["code"] != "unavailable" and not said["loop"].endswith((" europol", " ics2"))


def check_present_owners(nodes: Federation) -> None:
    """Look at what a present node does that its older peer knows nothing of."""
    # A recall is refused again and again, then shown to people.
    waiting = nodes.client("sis", "admin1").outbox
    eventually(lambda: [(item["kind"], item["peer"]) for item in waiting()], [("recall", "ics2")], "a recall")
    # It is no witness, and the present ones cosign one another.
    for code, other in (("sis", "europol"), ("europol", "sis")):
        witnesses = nodes.client(code).status()["log"]["witnesses"]
        assert list(witnesses) == [f"connector-psi.internal/witness/{other}"]
        assert witnesses[f"connector-psi.internal/witness/{other}"] > 0
    taken = {line["agreement"]: line["epoch"] for line in nodes.client("ics2").status()["agreements"]}
    assert taken["EUR-XCHK:ics2-europol"] > 0


def check_refused_agreement(nodes: Federation) -> None:
    """Look at an agreement whose owner is older and has it in other terms than the querier."""
    status = nodes.client("ics2").status()
    assert status["reasons"] == [f"set.missing {CROSS_CHECK} (querier)"]
    (reached,) = [line for line in status["contacts"] if line["authority"] == "europol"]
    assert reached["reachable"]
    told = {said["detail"] for said in nodes.failures("ics2") if said.get("code") == "protocol"}
    assert len(told) == 1
    assert told.pop().startswith(f"{CROSS_CHECK}: the owner has other terms (policy hash) than this node: ")
