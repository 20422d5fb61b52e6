"""With which policy a node opens, and what one transaction does when it is another one than before."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connector_psi import pki, policy
from connector_psi.audit.bodies import open_body
from connector_psi.audit.entries import Event, Leaf, parse_leaf
from connector_psi.disclosure import CASE_TIME_S
from connector_psi.domain.purposes import Condition
from connector_psi.domain.records import Field, IdentifierType
from connector_psi.encoding import manifest as manifests
from connector_psi.errors import ConfigError, KeyUnavailableError, UnavailableError
from connector_psi.node import governing
from connector_psi.node.config import Layout
from connector_psi.node.node import OWNER, QUERIER, Node
from connector_psi.node.setup import SIGNERS, sign_policy
from connector_psi.pack import signing
from connector_psi.storage import peers, policies
from tests.simulation.faults import AGREEMENT, make_query
from tests.simulation.federation import Federation, alert, declaration, person

CONTAINER = (IdentifierType.CONTAINER, "CSQU3054383")
SMALLER = ("object: {per_day: 9011200, per_year: 1649049600}", "object: {per_day: 400, per_year: 600}")
WIDER = ("object_type: always", "object_type: if_present")


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    made = Federation(tmp_path)
    made.services["sis"].registration.register([alert("DE1", CONTAINER)], "test")
    made.settle(1)
    yield made
    made.close()


def change(federation: Federation, code: str, *edits: tuple[str, str]) -> None:
    """Edit, sign and start again, as two people and an operator do."""
    federation.close(code)
    federation.edit_policy(code, *edits)
    federation.open(code)


def drop(federation: Federation, code: str, template: str) -> None:
    """Take a template out of a policy, sign and start again."""
    federation.close(code)
    layout = Layout(federation.root / code)
    head, rest = layout.policy.read_text().split(f"  {template}:\n", 1)
    keep = [n for n, line in enumerate(rest.splitlines()) if line.startswith("  ") and not line.startswith("   ")]
    layout.policy.write_text(head + "\n".join(rest.splitlines()[keep[0] :]) + "\n")
    sign_policy(layout, federation.clock)
    federation.open(code)


def entries(node: Node, event: Event) -> list[tuple[Leaf, dict[str, Any]]]:
    found = []
    with node.store.read() as tx:
        for index, raw in enumerate(node.entries.read_leaves(tx, 0, node.entries.size(tx))):
            leaf = parse_leaf(raw)
            if leaf.event is event:
                sealed = node.entries.read_body(tx, index)
                assert sealed is not None
                body = open_body(sealed, node.keyring.month_keys(), index=index, body_commit=leaf.body_commit)
                found.append((leaf, json.loads(body.encoded)))
    return found


# --- Which policy a node opens with -----------------------------------------------------------------------------------


def test_init_signs_the_profile_as_two_people_and_the_first_entry_says_so(federation: Federation) -> None:
    node = federation.services["sis"].node
    (leaf, body), *_ = entries(node, Event.POLICY_CHANGE)
    assert leaf.policy_hash == policy.pack_hash(node.pack)
    assert (body["action"], body["old"], body["new"]) == ("policy", None, node.policy.pack_hash.hex())
    assert [s["by"].rsplit(":", 1)[1] for s in body["signers"]] == list(SIGNERS)
    assert {c["key"] for c in body["changes"]} == {""}
    assert {c["agreement"] for c in body["changes"]} == {t.code for t in (*node.pack.templates, *node.pack.own)}
    with node.store.read() as tx:
        row = policies.in_force(tx)
    assert row is not None
    assert (row.policy, row.leaf_index) == (node.layout.policy.read_bytes(), 0)


def _nothing(layout: Layout, federation: Federation) -> None:
    signing.signature_path(layout.policy).unlink()


def _edited(layout: Layout, federation: Federation) -> None:
    layout.policy.write_text(layout.policy.read_text().replace(*SMALLER))


def _one_person(layout: Layout, federation: Federation) -> None:
    signing.signature_path(layout.policy).unlink()
    sign_policy(layout, federation.clock, ["supervisor1"])


def _administrators(layout: Layout, federation: Federation) -> None:
    root = pki.ensure_test_root(federation.root / "pki", federation.clock)
    pki.save_credentials(
        pki.issue_person(root, "sis", pki.Role.ADMIN, "admin2", federation.clock, 30), layout.people / "admin2.crt"
    )
    sign_policy(layout, federation.clock, ["admin1", "admin2"])


def _malformed(layout: Layout, federation: Federation) -> None:
    path = signing.signature_path(layout.policy)
    path.write_bytes(path.read_bytes() + b"\n")


def _of_others(layout: Layout, federation: Federation) -> None:
    other = Layout(federation.root / "ics2")
    signing.signature_path(layout.policy).write_bytes(signing.signature_path(other.policy).read_bytes())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (_nothing, "not signed"),
        (_edited, "another policy was signed"),
        (_one_person, "signed by 1 of two people"),
        (_administrators, "signed by administrators alone"),
        (_malformed, "not canonical"),
        (_of_others, "signed for another authority"),
    ],
)
def test_a_node_opens_with_no_other_policy(federation: Federation, change: Any, text: str) -> None:
    federation.close("sis")
    layout = Layout(federation.root / "sis")
    change(layout, federation)
    with pytest.raises(ConfigError, match=text) as caught:
        federation.open("sis")
    if change is not _malformed:
        assert f"connector-psi policy sign {layout.policy} --as CERT" in str(caught.value)
    # It holds nothing after that, so that it opens as soon as two people signed.
    signing.signature_path(layout.policy).unlink(missing_ok=True)
    sign_policy(layout, federation.clock)
    federation.open("sis")


def test_an_old_policy_with_its_old_signatures_is_no_change_that_two_people_want(federation: Federation) -> None:
    layout = Layout(federation.root / "sis")
    files = [layout.policy, signing.signature_path(layout.policy)]
    old = [path.read_bytes() for path in files]
    federation.clock.advance(3600)
    change(federation, "sis", SMALLER)
    federation.close("sis")
    for path, content in zip(files, old, strict=True):
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"signatures\[0\]: older than the policy in force"):
        federation.open("sis")
    federation.clock.advance(1)
    sign_policy(layout, federation.clock)
    federation.open("sis")


def test_certificates_must_be_valid_when_a_policy_comes_into_force_and_may_expire_afterwards(
    federation: Federation,
) -> None:
    federation.close("sis")
    federation.edit_policy("sis", SMALLER)
    layout = Layout(federation.root / "sis")
    short = pki.issue_person(
        pki.ensure_test_root(federation.root / "pki", federation.clock),
        "sis", pki.Role.DPO, "short1", federation.clock, 1,
    )  # fmt: skip
    pki.save_credentials(short, layout.people / "short1.crt")
    sign_policy(layout, federation.clock, ["admin1", "short1"])
    raw = signing.signature_path(layout.policy).read_bytes()
    federation.clock.advance(2 * 86_400)
    with pytest.raises(ConfigError, match=r"signatures\[1\]: certificate: expired"):
        federation.open("sis")
    federation.clock.advance(-2 * 86_400)
    federation.open("sis")
    federation.close("sis")
    federation.clock.advance(2 * 86_400)
    assert signing.signature_path(layout.policy).read_bytes() == raw
    federation.open("sis")


# --- A change ---------------------------------------------------------------------------------------------------------


def test_a_change_is_one_entry_with_the_people_and_what_it_newly_allows_and_one_for_each_agreement(
    federation: Federation,
) -> None:
    old = federation.services["sis"].node.policy.pack_hash
    before = len(entries(federation.services["sis"].node, Event.POLICY_CHANGE))
    change(federation, "sis", SMALLER, WIDER)
    node = federation.services["sis"].node
    (leaf, body), (of_agreement, its_body) = entries(node, Event.POLICY_CHANGE)[before:]
    assert leaf.agreement is None
    assert leaf.policy_hash == node.policy.pack_hash == policy.pack_hash(node.pack) != old
    assert (body["old"], body["new"]) == (old.hex(), node.policy.pack_hash.hex())
    assert {(c["agreement"], c["key"], c["kind"], c["widens"]) for c in body["changes"]} == {
        ("SIS-OBJ", "disclose.object_type", "changes", False),
        ("SIS-OBJ", "disclose.object_type", "newly_allows", True),
        ("SIS-OBJ", "capacity.object.per_day", "no_longer_allows", False),
        ("SIS-OBJ", "capacity.object.per_year", "no_longer_allows", False),
    }
    assert all(c["text"] for c in body["changes"])
    assert [s["by"].split(":")[-2:] for s in body["signers"]] == [["admin", "admin1"], ["supervisor", "supervisor1"]]
    (bound,) = [b for b in node.agreements() if b.code == AGREEMENT]
    assert (its_body["action"], its_body["agreement"]) == ("in_force", AGREEMENT)
    assert policy.Agreement.model_validate_json(json.dumps(its_body["definition"])) == bound.agreement
    assert (of_agreement.agreement, of_agreement.policy_hash) == (AGREEMENT, bound.policy_hash)
    assert bound.policy_hash == policy.policy_hash(bound.agreement)
    assert bound.agreement.disclose[Field.OBJECT_TYPE] is Condition.IF_PRESENT


def test_the_same_policy_writes_nothing_when_a_node_opens_again(federation: Federation) -> None:
    before = entries(federation.services["sis"].node, Event.POLICY_CHANGE)
    federation.close("sis")
    layout = Layout(federation.root / "sis")
    layout.policy.write_text("# another comment\n" + layout.policy.read_text())
    federation.open("sis")
    assert entries(federation.services["sis"].node, Event.POLICY_CHANGE) == before
    # Nor do new signatures under what is in force.
    federation.close("sis")
    sign_policy(layout, federation.clock, ["dpo1", "supervisor2"])
    federation.open("sis")
    node = federation.services["sis"].node
    assert entries(node, Event.POLICY_CHANGE) == before
    said = federation.services["sis"].status()["policy"]
    assert isinstance(said, dict)
    assert [s["person"] for s in said["signed_by"]] == ["dpo1", "supervisor2"]
    assert said["hash"] == node.policy.pack_hash.hex()


def test_an_agreement_that_the_policy_holds_no_more_ends_with_an_entry(federation: Federation) -> None:
    node = federation.services["sis"].node
    (ended,) = [b for b in node.agreements() if b.code == AGREEMENT]
    before = len(entries(node, Event.POLICY_CHANGE))
    drop(federation, "sis", "SIS-OBJ")
    node = federation.services["sis"].node
    assert AGREEMENT not in [b.code for b in node.agreements()]
    (_, body), (leaf, its_body) = entries(node, Event.POLICY_CHANGE)[before:]
    assert [(c["agreement"], c["key"], c["kind"]) for c in body["changes"]] == [("SIS-OBJ", "", "no_longer_allows")]
    assert (its_body["action"], its_body["agreement"]) == ("ended", AGREEMENT)
    assert (leaf.agreement, leaf.policy_hash, leaf.side) == (AGREEMENT, ended.policy_hash, OWNER)


def test_a_case_under_an_agreement_that_ended_since_is_closed_with_an_entry_like_any_other(
    federation: Federation,
) -> None:
    federation.services["ics2"].registration.register([declaration("MRN1", CONTAINER)], "test")
    federation.settle(2)
    ics2 = federation.services["ics2"]
    (match,) = ics2.review.list()
    ics2.review.decide(match.match_id, person("ics2"), "the same", confirm=True)
    ics2.asked.open(
        match.match_id,
        person("ics2"),
        purpose="cpsi:ObjectSeizureOrEvidence",
        legal_basis="2018/1862:38",
        case_reference="C-1",
        justification="the same container",
    )
    federation.settle(2)
    drop(federation, "sis", "SIS-OBJ")
    sis = federation.services["sis"]
    federation.clock.advance(CASE_TIME_S)
    sis.tick_cases()
    federation.clock.advance(60)
    sis.tick_cases()
    ((opened, _),) = [e for e in entries(sis.node, Event.CASE_OPEN) if e[0].side is OWNER]
    ((outcome, body),) = [e for e in entries(sis.node, Event.CASE_OUTCOME) if e[0].side is OWNER]
    assert (outcome.agreement, outcome.policy_hash) == (AGREEMENT, opened.policy_hash)
    assert (body["decision"], body["reason"]) == ("NOT_DISCLOSED", "purpose_not_agreed")


def test_a_revoked_peer_gets_no_agreement_by_a_change(federation: Federation) -> None:
    federation.services["sis"].revoke("ics2")
    before = len(entries(federation.services["sis"].node, Event.POLICY_CHANGE))
    change(federation, "sis", SMALLER)
    node = federation.services["sis"].node
    assert node.agreements() == []
    assert [body["action"] for _, body in entries(node, Event.POLICY_CHANGE)[before:]] == ["policy"]


def test_a_change_that_cannot_be_written_whole_leaves_nothing(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = federation.services["sis"].node
    before = entries(node, Event.POLICY_CHANGE)
    (bound,) = [b for b in node.agreements() if b.code == AGREEMENT]

    def full(*_: object) -> None:
        raise UnavailableError("the disk is full")

    federation.close("sis")
    federation.edit_policy("sis", SMALLER)
    with monkeypatch.context() as patch:
        patch.setattr(peers, "put_agreement", full)
        with pytest.raises(UnavailableError):
            federation.open("sis")
    layout = Layout(federation.root / "sis")
    changed = layout.policy.read_text()
    federation.edit_policy("sis", SMALLER[::-1])
    node = federation.open("sis").node
    assert entries(node, Event.POLICY_CHANGE) == before
    assert [b.policy_hash for b in node.agreements() if b.code == AGREEMENT] == [bound.policy_hash]
    federation.close("sis")
    layout.policy.write_text(changed)
    sign_policy(layout, federation.clock)
    assert len(entries(federation.open("sis").node, Event.POLICY_CHANGE)) == len(before) + 2


def test_a_policy_that_this_version_reads_no_more_counts_as_none(federation: Federation) -> None:
    row = policies.PolicyRow(bytes(32), b"version: 0\n", b"", 0, 0)
    assert governing.pack_of(row) is None
    assert governing.pack_of(None) is None


# --- Sets of an earlier policy ----------------------------------------------------------------------------------------


def test_a_set_of_an_earlier_policy_answers_nothing_and_is_followed_by_one_of_the_new(federation: Federation) -> None:
    federation.services["ics2"].registration.register([declaration("MRN1", CONTAINER)], "test")
    federation.settle(2)
    assert federation.services["ics2"].review.list()
    assert federation.services["ics2"].querying.pending(AGREEMENT) == 0
    change(federation, "sis", SMALLER)
    change(federation, "ics2", SMALLER)
    sis, ics2 = federation.services["sis"], federation.services["ics2"]
    query = make_query(1)
    assert query.epoch == _newest(federation).epoch == 1
    with pytest.raises(KeyUnavailableError):
        sis.evaluation.evaluate(query)
    with pytest.raises(KeyUnavailableError):
        sis.publishing.get_manifest("ics2", AGREEMENT)
    # The querier's copy is not asked with either.
    assert ics2.querying.run_round(AGREEMENT) == 0
    asked = len(federation.queries)
    assert AGREEMENT in sis.publishing.due()
    federation.settle(2)
    manifest = _newest(federation)
    (bound,) = [b for b in sis.node.agreements(OWNER) if b.code == AGREEMENT]
    (taken,) = [b for b in ics2.node.agreements(QUERIER) if b.code == AGREEMENT]
    assert manifest.policy_hash == bound.policy_hash.hex() == taken.policy_hash.hex()
    assert len(federation.queries) > asked
    assert {query.epoch for query in federation.queries[asked:] if query.agreement == AGREEMENT} == {manifest.epoch}
    assert AGREEMENT not in sis.publishing.due()


def _newest(federation: Federation) -> manifests.Manifest:
    with sqlite3.connect(federation.root / "sis" / "data" / "node.db") as database:
        (raw,) = database.execute(
            "SELECT manifest FROM epochs WHERE agreement = ? ORDER BY epoch DESC LIMIT 1", (AGREEMENT,)
        ).fetchone()
    return manifests.parse_manifest(raw)
