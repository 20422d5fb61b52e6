"""A leaf holds no personal data, and a peer gets no leaf but that of a set it takes and that of an outcome of its own.

Everything that people write is marked here; the marks must be in the sealed bodies, and nowhere in a leaf.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import sqlalchemy as sa
from google.protobuf.descriptor import Descriptor
from typer.testing import CliRunner

from connector_psi import cli, policy
from connector_psi.audit.bodies import open_body
from connector_psi.audit.entries import Event, RetentionClass, Side, parse_leaf
from connector_psi.audit.merkle import leaf_hash
from connector_psi.disclosure import CASE_TIME_S
from connector_psi.domain.records import Field, IdentifierType, SourceSystem, TokenClass
from connector_psi.encoding.manifest import parse_manifest
from connector_psi.errors import ConnectorError, RefusedError
from connector_psi.pki import Role
from connector_psi.rpc.interceptors import AUTHORITY, LOCAL_ACCESS, PEER_ACCESS
from connector_psi.rpc.v1 import (
    audit_pb2,
    audit_pb2_grpc,
    disclosure_pb2,
    disclosure_pb2_grpc,
    matching_pb2,
    matching_pb2_grpc,
    registry_pb2,
)
from connector_psi.storage import owned, schema
from connector_psi.storage.peers import get_agreement
from tests.privacy.needles import Needles, spellings, text_spellings
from tests.privacy.staging import AGREEMENT, BASIS, PURPOSE, container, leaves_of
from tests.privacy.wired import Wired
from tests.simulation.federation import alert, declaration, person

OFFICER, SUPERVISOR, SYSTEM = "markedofficer7", "markedsupervisor8", "markedsystem9"
MARKS = {
    "officer": OFFICER,
    "supervisor": SUPERVISOR,
    "system": SYSTEM,
    "declaration": "MARKED-DECLARATION",
    "alert": "MARKED-ALERT",
    "case reference": "MARKED-CASE-REFERENCE",
    "justification": "MARKED because of Ms Example",
    "reason": "MARKED reason of a review",
    "dismissal": "MARKED reason of a dismissal",
    "decision": "MARKED reason of a decision",
    "refusal": "MARKED reason of a refusal",
    "withdrawal": "MARKED reason of a withdrawal",
    "field": "MARKED contact of an office",
}
DEADLINE_S = 10


def _written(raw: bytes) -> dict[str, Any]:
    return {key: value for key, value in json.loads(raw).items() if value is not None}


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wired]:
    """Every event that this version writes, with a mark in everything that a person or a source says."""
    made = Wired(tmp_path_factory.mktemp("leaves"), "leaves", profiles=("ics2", "sis", "europol"))
    ics2, sis = made.services["ics2"], made.services["sis"]
    officer, supervisor = person("ics2", name=OFFICER), person("sis", Role.SUPERVISOR, SUPERVISOR)
    system = person("ics2", Role.SYSTEM, SYSTEM).uri
    alerts = []
    for n in range(4):
        record = alert(f"{MARKS['alert']}-{n}", (IdentifierType.CONTAINER, container(n)))
        fields = {**record.fields, Field.SIRENE_CONTACT: (MARKS["field"],)}
        kept = {name: getattr(record, name) for name in record.__dataclass_fields__ if name != "fields"}
        alerts.append(type(record)(**kept, fields=fields))
    sis.registration.register(alerts, system)
    found = [declaration(f"{MARKS['declaration']}-{n}", (IdentifierType.CONTAINER, container(n))) for n in range(4)]
    ics2.registration.register(found, system)
    made.settle()
    amended = declaration(found[3].source_ref, *[(i.type, i.value) for i in found[3].identifiers], place=MARKS["field"])
    ics2.registration.register([amended], system)
    rows = ics2.review.list()
    assert len(rows) == 4
    ics2.review.decide(rows[0].match_id, officer, MARKS["dismissal"], confirm=False)
    cases = []
    for row in rows[1:]:
        ics2.review.decide(row.match_id, officer, MARKS["reason"], confirm=True)
        cases.append(
            ics2.asked.open(
                row.match_id,
                officer,
                purpose=PURPOSE,
                legal_basis=BASIS,
                case_reference=MARKS["case reference"],
                justification=MARKS["justification"],
            )
        )
    made.settle()
    sis.received.decide(cases[0].request_id, supervisor, MARKS["decision"], approve=True)
    sis.received.decide(cases[1].request_id, supervisor, MARKS["refusal"], approve=False)
    assert sis.registration.withdraw(SourceSystem.SIS, f"{MARKS['alert']}-3", MARKS["withdrawal"], system)
    made.settle(rounds=12)
    made.clock.advance(CASE_TIME_S)
    for _ in range(10):
        made.clock.advance(2)
        for service in (sis, ics2):
            service.tick_cases()
            service.tick_log()
    states = Counter(view.row.state for view in ics2.cases.list())
    assert states == {"disclosed": 1, "not_disclosed": 2}
    assert sis.revoke("europol")
    sis.tick_log()
    yield made
    made.close()


# --- What a leaf says -------------------------------------------------------------------------------------------------


def test_everything_that_people_write_is_in_a_body_and_in_no_leaf(federation: Wired) -> None:
    values = [*MARKS.values(), *(container(n) for n in range(4)), "officer1", person("ics2", name=OFFICER).uri]
    needles = Needles(n for value in values for n in text_spellings(value))
    in_bodies: set[bytes] = set()
    for code in ("ics2", "sis"):
        node = federation.services[code].node
        for index, (raw, leaf) in enumerate(leaves_of(federation, code)):
            assert needles.found_in(raw) == set()
            with node.store.read() as tx:
                sealed = node.entries.read_body(tx, index)
            assert sealed is not None
            assert needles.found_in(sealed.ciphertext) == set()
            opened = open_body(sealed, node.keyring.month_keys(), index=index, body_commit=leaf.body_commit)
            in_bodies |= needles.found_in(opened.encoded)
    missing = {name for name, mark in MARKS.items() if mark.encode() not in in_bodies}
    # A field that was disclosed is named in a body, and its value is not repeated there.
    assert missing == {"field"}


def test_no_leaf_holds_a_hash_that_could_be_tried_against_guesses(federation: Wired) -> None:
    """Neither of a person, a reference or an identifier, nor of the body without its salt."""
    guesses = [*MARKS.values(), *(container(n) for n in range(4))]
    guesses += [person("ics2", name=OFFICER).uri, person("sis", Role.SUPERVISOR, SUPERVISOR).uri]
    guesses += ["urn:connector-psi:authority:ics2"]
    digests = [hashlib.new(name, g.encode()).digest() for g in guesses for name in ("md5", "sha1", "sha256", "sha512")]
    for code in ("ics2", "sis"):
        node = federation.services[code].node
        for index, (_, leaf) in enumerate(leaves_of(federation, code)):
            with node.store.read() as tx:
                sealed = node.entries.read_body(tx, index)
            assert sealed is not None
            opened = open_body(sealed, node.keyring.month_keys(), index=index, body_commit=leaf.body_commit)
            digests.append(hashlib.sha256(opened.encoded).digest())
    needles = Needles(s for digest in digests for s in spellings(digest[:16]))
    assert needles.found_in(json.dumps({"x": digests[7].hex()}).encode()) != set()
    for code in ("ics2", "sis"):
        assert [leaf.event for raw, leaf in leaves_of(federation, code) if needles.found_in(raw)] == []


def test_every_text_of_a_leaf_is_a_word_of_a_closed_list(federation: Wired) -> None:
    bound = [b for code in ("ics2", "sis", "europol") for b in federation.services[code].node.agreements()]
    words = {
        "event": {*Event},
        "side": {*Side},
        "agreement": {b.code for b in bound},
        "token_class": {c.label for c in TokenClass},
        "purpose": {b.agreement.purpose.value for b in bound},
        "legal_basis": {basis.value for b in bound for basis in b.agreement.legal_basis},
        "mode": {"bulk", "case"},
        "retention_class": {*RetentionClass},
    }
    digests = {
        "policy_hash", "manifest_hash", "batch_commitment", "source_commitment", "actor_commitment", "body_commit",
        "request_id", "parent_id",
    }  # fmt: skip
    seen = set()
    for code in ("ics2", "sis", "europol"):
        for raw, leaf in leaves_of(federation, code):
            seen.add(leaf.event)
            for key, value in _written(raw).items():
                if key in words:
                    assert value in words[key], key
                elif key in digests:
                    assert len(bytes.fromhex(value)) in {16, 32}
                else:
                    assert key in {"v", "ts", "erase_after", "epoch", "n_padded"}
    assert seen >= {
        Event.COLLECT, Event.ALTER, Event.CONSULT, Event.REVIEW, Event.CASE_OPEN, Event.CASE_OUTCOME, Event.RECEIPT,
        Event.KEY_EPOCH, Event.SET_PUBLISH, Event.CONFIG, Event.POLICY_CHANGE,
    }  # fmt: skip


def test_every_leaf_carries_the_hash_of_what_was_in_force(federation: Wired) -> None:
    """That of the agreement where it belongs to one, that of the whole policy where it belongs to none."""
    kinds = set()
    for code in ("ics2", "sis", "europol"):
        node = federation.services[code].node
        agreements = {b.code: b.policy_hash for b in node.agreements()}
        with node.store.read() as tx:
            # Those with a peer that was revoked stand there too.
            stored = {row.agreement for row in owned.list_epochs(tx)}
            for agreement in stored - agreements.keys():
                row = get_agreement(tx, agreement)
                assert row is not None
                agreements[agreement] = row.policy_hash
        for _, leaf in leaves_of(federation, code):
            kinds.add((leaf.event, leaf.agreement is None))
            expected = policy.pack_hash(node.pack) if leaf.agreement is None else agreements[leaf.agreement]
            assert leaf.policy_hash == expected, leaf.event
    assert {
        (Event.COLLECT, True),
        (Event.CONFIG, True),
        (Event.POLICY_CHANGE, True),
        (Event.POLICY_CHANGE, False),
    } <= kinds
    for code in ("ics2", "sis"):
        node = federation.services[code].node
        with node.store.read() as tx:
            manifests = [row.manifest for row in owned.list_epochs(tx) if row.manifest is not None]
        bound = {b.code: b.policy_hash for b in node.agreements()}
        for manifest in map(parse_manifest, manifests):
            if manifest.agreement in bound:
                assert manifest.policy_hash == bound[manifest.agreement].hex()


def test_a_review_says_neither_what_was_decided_nor_about_which_batch(federation: Wired) -> None:
    reviews = [_written(raw) for raw, leaf in leaves_of(federation, "ics2") if leaf.event is Event.REVIEW]
    assert len(reviews) == 4
    varies = {"body_commit", "ts", "erase_after"}
    assert len({json.dumps({k: v for k, v in review.items() if k not in varies}) for review in reviews}) == 1
    assert not {"request_id", "parent_id", "batch_commitment", "token_class", "manifest_hash"} & reviews[0].keys()


def test_the_same_person_has_another_pseudonym_on_another_day_and_in_another_agreement(federation: Wired) -> None:
    keyring, now = federation.services["ics2"].node.keyring, federation.clock.now().date()
    uri = person("ics2", name=OFFICER).uri
    once = keyring.actor_commitment(AGREEMENT, now, uri)
    assert once == keyring.actor_commitment(AGREEMENT, now, uri)
    others = {
        keyring.actor_commitment(AGREEMENT, now.replace(year=now.year + 1), uri),
        keyring.actor_commitment("EUR-XCHK:ics2-europol", now, uri),
        keyring.actor_commitment(AGREEMENT, now, uri + "0"),
        federation.services["sis"].node.keyring.actor_commitment(AGREEMENT, now, uri),
    }
    assert len(others | {once}) == 5


# --- Who gets one -----------------------------------------------------------------------------------------------------


def _fields_below(message: Descriptor) -> Iterator[tuple[str, str]]:
    for place in message.fields:
        yield message.name, place.name
        if place.message_type is not None:
            yield from _fields_below(place.message_type)


def test_no_method_of_the_peer_port_could_give_an_authority_another_leaf() -> None:
    """By what the answers can hold: leaves stand in these three answers, and in nothing else that an authority may call."""
    carriers = set()
    for module in (matching_pb2, disclosure_pb2, audit_pb2, registry_pb2):
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                path = f"/{service.full_name}/{method.name}"
                names = {name for _, name in _fields_below(method.output_type)}
                if names & {"leaf", "leaves", "body", "entries"} and AUTHORITY in PEER_ACCESS.get(path, ()):
                    carriers.add(method.name)
    assert carriers == {"GetManifest", "GetDeltas", "GetOutcome"}
    assert PEER_ACCESS["/connector_psi.rpc.v1.AuditService/GetEntries"] == {Role.AUDITOR}
    assert all(AUTHORITY not in allowed for allowed in LOCAL_ACCESS.values())


def _refused(call: Any, request: Any) -> None:
    answer = call.future(request, timeout=DEADLINE_S) if hasattr(call, "future") else call(request, timeout=DEADLINE_S)
    with pytest.raises(grpc.RpcError):
        answer.result() if hasattr(call, "future") else next(answer)
    assert answer.code() is grpc.StatusCode.PERMISSION_DENIED
    assert answer.details() == RefusedError.public_detail


def test_a_peer_gets_hashes_and_proofs_of_the_log_and_no_leaf(federation: Wired) -> None:
    own = leaves_of(federation, "sis")
    with federation.as_peer("ics2", "sis") as channel:
        audit = audit_pb2_grpc.AuditServiceStub(channel)
        _refused(audit.GetEntries, audit_pb2.GetEntriesRequest(start=0, limit=10))
        for index, (raw, _) in enumerate(own):
            request = audit_pb2.GetInclusionProofRequest(index=index, size=len(own))
            answer = audit.GetInclusionProof(request, timeout=DEADLINE_S)
            assert answer.leaf_hash == leaf_hash(raw)
            assert {len(part) for part in answer.proof} <= {32}


def test_an_event_shows_only_under_the_next_checkpoint(federation: Wired) -> None:
    """Otherwise a peer that asks for the proof of the next leaf all the time sees every event at its instant."""
    sis = federation.services["sis"]
    size = len(leaves_of(federation, "sis"))
    sis.registration.register([alert("quiet", (IdentifierType.CONTAINER, container(77)))], "test")
    with federation.as_peer("ics2", "sis") as channel:
        audit = audit_pb2_grpc.AuditServiceStub(channel)
        inclusion = audit_pb2.GetInclusionProofRequest(index=size, size=size + 1)
        consistency = audit_pb2.GetConsistencyProofRequest(old_size=size, new_size=size + 1)
        _refused(audit.GetInclusionProof, inclusion)
        _refused(audit.GetConsistencyProof, consistency)
        sis.tick_log()
        assert len(audit.GetInclusionProof(inclusion, timeout=DEADLINE_S).leaf_hash) == 32
        assert audit.GetConsistencyProof(consistency, timeout=DEADLINE_S).proof


def test_another_peer_gets_neither_the_set_nor_an_outcome(federation: Wired) -> None:
    """europol is a peer of ics2, and has no part in the agreement between ics2 and sis."""
    (row,) = [view.row for view in federation.services["ics2"].cases.list() if view.row.state == "disclosed"]
    with federation.as_peer("europol", "ics2") as channel:
        matching = matching_pb2_grpc.MatchingServiceStub(channel)
        cases = disclosure_pb2_grpc.DisclosureServiceStub(channel)
        for agreement in (AGREEMENT, "EUR-XCHK:ics2-europol"):
            _refused(matching.GetManifest, matching_pb2.GetManifestRequest(agreement=agreement))
            _refused(matching.GetDeltas, matching_pb2.GetDeltasRequest(agreement=agreement))
            outcome = disclosure_pb2.GetOutcomeRequest(agreement=agreement, request_id=row.request_id)
            _refused(cases.GetOutcome, outcome)
    with federation.as_peer("europol", "sis") as channel:
        cases = disclosure_pb2_grpc.DisclosureServiceStub(channel)
        _refused(cases.GetOutcome, disclosure_pb2.GetOutcomeRequest(agreement=AGREEMENT, request_id=row.request_id))
        _refused(audit_pb2_grpc.AuditServiceStub(channel).GetCheckpoint, audit_pb2.GetCheckpointRequest())


def test_of_all_that_crossed_the_wire_only_two_kinds_of_leaves_did(federation: Wired) -> None:
    """And of the outcomes only those of the peer that opened the case; N.SIS opens covers at customs."""
    cases: set[bytes] = set()
    for code in ("ics2", "sis"):
        with federation.services[code].node.store.read() as tx:
            opened = sa.select(schema.cases.c.request_id).where(schema.cases.c.side == "querier")
            cases.update(tx.execute(opened).scalars())
    for owner, allowed in (
        ("sis", {Event.SET_PUBLISH, Event.CASE_OUTCOME}),
        ("europol", {Event.SET_PUBLISH}),
        ("ics2", {Event.SET_PUBLISH, Event.CASE_OUTCOME}),
    ):
        needles = Needles(raw for raw, _ in leaves_of(federation, owner))
        crossed = {leaf for m in federation.messages() if m.owner == owner for leaf in needles.found_in(m.data)}
        leaves = [parse_leaf(leaf) for leaf in crossed]
        assert {leaf.event for leaf in leaves} == allowed
        assert {leaf.request_id for leaf in leaves if leaf.event is Event.CASE_OUTCOME} <= cases


def test_a_leaf_of_the_local_port_goes_to_auditors_and_data_protection_officers_alone(federation: Wired) -> None:
    request = audit_pb2.GetEntriesRequest(start=0, limit=5)
    for name, allowed in (
        ("auditor1", True),
        ("dpo1", True),
        ("officer1", False),
        ("supervisor1", False),
        ("admin1", False),
        ("system1", False),
    ):
        with federation.as_person("sis", name) as client:
            if allowed:
                assert len(client.call(client.audit.GetEntries, request).leaves) == 5
            else:
                with pytest.raises(ConnectorError):
                    client.call(client.audit.GetEntries, request)


def test_an_exported_bundle_holds_leaves_and_no_bodies(federation: Wired, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "log_to_stderr", lambda _level: None)
        out = tmp_path / "bundle"
        done = CliRunner().invoke(
            cli.app, ["log", "export", str(federation.root / "sis"), "--evidence", str(out), "--json"]
        )
    assert json.loads(done.stdout)["verified"] is True
    assert {path.name for path in out.iterdir()} == {
        "checkpoint",
        "vkey",
        "leaves.jsonl",
        "checkpoints.jsonl",
        "witnesses",
    }
    needles = Needles(n for mark in MARKS.values() for n in text_spellings(mark))
    assert needles.found_below(out) == {}
