"""Dossiers: who sees which, what stands in one, and that each step of a verification fails where it should, and there alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from connector_psi.audit.checkpoint import (
    Checkpoint,
    NoteSigner,
    encode_checkpoint,
    encode_signature,
    parse_checkpoint,
    parse_note,
    sign_note,
)
from connector_psi.audit.cosignature import Cosigner, Trust
from connector_psi.audit.entries import Event
from connector_psi.disclosure import Grade
from connector_psi.domain.records import Field
from connector_psi.errors import ProofInvalidError, PurposeRefusedError, StorageError
from connector_psi.node import dossiers
from connector_psi.node.service import Service
from connector_psi.node.steps import Step
from connector_psi.pki import Role
from connector_psi.storage import schema
from tests.simulation.casework import AGREEMENT, ask, begun, grant
from tests.simulation.disclosed import (
    BOX,
    CHK,
    OBJ,
    after_a_disclosure,
    after_a_silent_case,
    case_of,
    change,
    indexes,
    leaf_at,
    of,
    put_case,
    read,
)
from tests.simulation.federation import DirectOwner, Federation, alert, person
from tests.simulation.prepared import Prepared

DAY_S = 86_400.0
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


class Disclosed(Federation):
    case = b""


@pytest.fixture(scope="module")
def disclosed(tmp_path_factory: pytest.TempPathFactory) -> Prepared[Federation]:
    made, case = after_a_disclosure(tmp_path_factory.mktemp("disclosed") / "nodes", Disclosed)
    made.case = case  # type: ignore[attr-defined]
    return Prepared(made)


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Federation, bytes]]:
    made, case = after_a_silent_case(tmp_path_factory.mktemp("silent") / "nodes")
    yield made, case
    made.close()


@pytest.fixture
def federation(disclosed: Prepared[Federation], tmp_path: Path) -> Iterator[Any]:
    made = disclosed.copy(tmp_path / "nodes")
    yield made
    made.close()


def steps(federation: Any, code: str = "ics2") -> list[Step]:
    found = federation.services[code].dossiers.verify(of(code), federation.case)
    assert {step.name for step in found} <= set(dossiers.STEP_NAMES)
    assert [dossiers.STEP_NAMES.index(step.name) for step in found] == sorted(
        dossiers.STEP_NAMES.index(step.name) for step in found
    )
    return found


def failed(federation: Any, code: str = "ics2") -> set[str]:
    return {step.name for step in steps(federation, code) if step.result == "failed"}


def result(found: list[Step], name: str) -> set[str]:
    return {step.result for step in found if step.name == name}


def querier_row(federation: Any) -> Any:
    return case_of(federation.services["ics2"], "querier", "sis", federation.case)


def owner_row(federation: Any) -> Any:
    return case_of(federation.services["sis"], "owner", "ics2", federation.case)


def flipped(text: str, at: int = 0) -> str:
    """Hexadecimal with a bit changed."""
    raw = bytearray.fromhex(text)
    raw[at] ^= 1
    return bytes(raw).hex()


# What is shown, and to whom


def test_both_sides_show_their_entries_and_what_they_hold_of_the_other(federation: Any) -> None:
    ics2, sis = federation.services["ics2"], federation.services["sis"]
    asked, got = (s.dossiers.dossier(of(code), federation.case) for code, s in federation.services.items())
    assert [entry.leaf.event for entry in asked.entries] == [Event.CASE_OPEN, Event.RECEIPT]
    assert [entry.leaf.event for entry in got.entries] == [Event.CASE_OPEN, Event.CASE_OUTCOME]
    (here,), (there,) = asked.cases, got.cases
    assert (here.kind, here.side, here.peer, here.agreement, here.state) == ("case", "querier", "sis", OBJ, "disclosed")
    assert (there.side, there.peer, there.state, there.theirs) == ("owner", "ics2", "released", None)
    assert here.theirs is not None
    assert here.theirs.leaf == got.entries[1].leaf
    assert here.theirs.index == got.entries[1].index
    assert there.request is not None
    assert (there.request.purpose, there.request.people) == (here.purpose, 1)
    assert here.request is None
    assert not indexes(ics2, Event.LOG_READ) + indexes(sis, Event.LOG_READ), "leaves are no personal data"


def test_nothing_of_a_dossier_is_personal_data(federation: Any) -> None:
    for code, service in federation.services.items():
        found = service.dossiers.dossier(of(code), federation.case), service.dossiers.verify(of(code), federation.case)
        said = repr(found)
        for word in ("CSQU3054383", "CASE-1", "on its way", "officer1", "the sought box", "urn:connector-psi:person"):
            assert word not in said


@pytest.mark.parametrize("call", ["dossier", "verify"])
def test_dossiers_are_for_data_protection_officers_and_auditors(federation: Any, call: str) -> None:
    service = federation.services["ics2"]
    for role in Role:
        if role in {Role.DPO, Role.AUDITOR}:
            assert getattr(service.dossiers, call)(of("ics2", role), federation.case)
            continue
        with pytest.raises(PurposeRefusedError):
            getattr(service.dossiers, call)(of("ics2", role), federation.case)


@pytest.mark.parametrize("request_id", [bytes(16), b"", b"short"])
def test_there_is_no_dossier_of_what_is_not_there_and_nothing_is_logged(federation: Any, request_id: bytes) -> None:
    service = federation.services["ics2"]
    for call in (service.dossiers.dossier, service.dossiers.verify):
        with pytest.raises(PurposeRefusedError, match="no such request"):
            call(of("ics2"), request_id)
    assert read(service) == []


def test_what_an_owner_gets_no_notice_of_is_for_its_data_protection_officer_alone(
    silent: tuple[Federation, bytes],
) -> None:
    made, case = silent
    ics2, sis = made.services["ics2"], made.services["sis"]
    for call in (ics2.dossiers.dossier, ics2.dossiers.verify):
        with pytest.raises(PurposeRefusedError, match="no such request"):
            call(of("ics2", Role.AUDITOR), case)
    assert [c.agreement for c in ics2.dossiers.dossier(of("ics2"), case).cases] == [CHK]
    assert [c.side for c in sis.dossiers.dossier(of("sis", Role.AUDITOR), case).cases] == ["querier"]


def test_a_cover_has_a_dossier_like_any_other(silent: tuple[Federation, bytes]) -> None:
    made, case = silent
    sis = made.services["sis"]
    with sis.node.store.read() as tx:
        covers = tx.execute(
            sa.select(schema.cases.c.request_id).where(schema.cases.c.agreement == CHK, schema.cases.c.quiet)
        )
        cover = bytes(covers.scalars().first() or b"")
    shapes = []
    for each in (case, cover):
        found = sis.dossiers.verify(of("sis"), each)
        shapes.append([(step.name, step.result) for step in found])
    assert shapes[0] == shapes[1]


def test_an_owner_that_must_not_notice_is_asked_for_nothing(
    silent: tuple[Federation, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, case = silent
    calls: list[str] = []
    monkeypatch.setattr(made, "fault", calls.append)
    found = made.services["sis"].dossiers.verify(of("sis"), case)
    assert result(found, dossiers.OWNER_LOG) == {"unknown"}
    assert calls == []


def test_a_verification_is_logged_before_anything_is_read_and_names_what(
    federation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = federation.services["ics2"]
    monkeypatch.setattr(service.node.log, "open_encoded", lambda *_: pytest.fail("opened"))
    with pytest.raises(pytest.fail.Exception, match="opened"):
        service.dossiers.verify(of("ics2"), federation.case)
    monkeypatch.undo()
    (said,) = read(service)
    assert said["operation"] == "dossier verified"
    assert said["request_ids"] == [federation.case.hex()]
    assert said["entries"] == [e.index for e in service.dossiers.dossier(of("ics2"), federation.case).entries]
    assert said["actor"] == of("ics2").uri


def test_a_grade_stands_in_the_dossier_and_its_entry_is_shown_to_the_officer_alone(federation: Any) -> None:
    service = federation.services["ics2"]
    service.grading.draw(of("ics2"), 100)
    service.grading.grade(of("ics2"), federation.case, Grade.THIN, "which port?")
    for role, events in ((Role.DPO, 3), (Role.AUDITOR, 2)):
        found = service.dossiers.dossier(of("ics2", role), federation.case)
        assert len(found.entries) == events
        (case,) = found.cases
        assert case.sample is not None
        assert case.sample.graded is Grade.THIN
        assert case.sample.note == ("which port?" if role is Role.DPO else "")
        for index, _ in service.oversight.open_bodies(
            [e.index for e in found.entries], of("ics2", role), "to read what the dossier names"
        ):
            assert index >= 0


# Verification


def test_every_step_of_both_sides_holds(federation: Any) -> None:
    asked, got = steps(federation), steps(federation, "sis")
    assert {step.result for step in asked} == {"ok"}
    assert {step.name for step in asked} == set(dossiers.STEP_NAMES) - {
        dossiers.REQUEST_SIGNATURE,
        dossiers.OUTCOME_COMMITMENT,
        dossiers.QUERIER_LOG,
    }
    # Customs is the owner of agreements without notice, and not asked to cosign.
    assert {step.name for step in got if step.result != "ok"} == {dossiers.OWN_WITNESSES}
    assert result(got, dossiers.OWN_WITNESSES) == {"unknown"}
    (cosigned,) = (step for step in asked if step.name == dossiers.OWN_WITNESSES)
    assert "connector-psi.internal/witness/sis" in cosigned.detail


def other_note(service: Service, size: int, root: bytes, key: NoteSigner | None = None) -> bytes:
    signer = key or service.node.signer
    return sign_note(encode_checkpoint(Checkpoint(service.node.signer.name, size, root)), [signer])


def newest(service: Service) -> Checkpoint:
    return parse_checkpoint(parse_note(service.oversight.checkpoint()).text)


@pytest.mark.parametrize("how", ["key", "form"])
def test_a_newest_checkpoint_of_another_key_is_found_and_nothing_is_proven_under_it(federation: Any, how: str) -> None:
    service = federation.services["ics2"]
    signed = newest(service)
    note = other_note(service, signed.size, signed.root, NoteSigner(service.node.signer.name, OTHER_KEY))
    table = schema.log_checkpoints
    change(service, table, table.c.size == signed.size, note=note if how == "key" else b"no note")
    found = steps(federation)
    assert result(found, dossiers.OWN_CHECKPOINT) == {"failed"}
    assert result(found, dossiers.OWN_ENTRY) == {"unknown"}


def test_a_changed_leaf_is_found(federation: Any) -> None:
    service = federation.services["ics2"]
    (index,) = indexes(service, Event.RECEIPT)
    leaf = leaf_at(service, index)
    change(service, schema.log_leaves, schema.log_leaves.c.idx == index, leaf=leaf.replace(b'"bulk"', b'"case"'))
    assert failed(federation) == {dossiers.OWN_ENTRY}
    with pytest.raises(ProofInvalidError):
        service.dossiers.dossier(of("ics2"), federation.case)


@pytest.mark.parametrize("leaf", [b"", b"{}", b"\xff"])
def test_a_leaf_that_is_none_is_found(federation: Any, leaf: bytes) -> None:
    service = federation.services["ics2"]
    (index,) = indexes(service, Event.RECEIPT)
    change(service, schema.log_leaves, schema.log_leaves.c.idx == index, leaf=leaf)
    assert {dossiers.OWN_ENTRY, dossiers.OWN_BODY, dossiers.SAME_OUTCOME} == failed(federation)


def test_a_leaf_that_is_gone_is_found(federation: Any) -> None:
    service = federation.services["ics2"]
    (index,) = indexes(service, Event.RECEIPT)
    # Another entry follows: the log finds its end by the last that is there.
    assert failed(federation) == set()
    with service.node.store.write() as tx:
        tx.execute(sa.delete(schema.log_leaves).where(schema.log_leaves.c.idx == index))
    assert dossiers.OWN_ENTRY in failed(federation)


def test_an_entry_that_the_index_does_not_name_is_found_by_the_case(federation: Any) -> None:
    service = federation.services["ics2"]
    (index,) = indexes(service, Event.RECEIPT)
    with service.node.store.write() as tx:
        tx.execute(sa.delete(schema.log_index).where(schema.log_index.c.idx == index))
    found = service.dossiers.dossier(of("ics2"), federation.case)
    assert index in [entry.index for entry in found.entries]


def test_an_entry_beyond_the_newest_checkpoint_is_not_proven_yet(federation: Any) -> None:
    service = federation.services["ics2"]
    service.grading.draw(of("ics2"), 100)
    service.grading.grade(of("ics2"), federation.case, Grade.ADEQUATE)
    assert [s.result for s in steps(federation) if s.name == dossiers.OWN_ENTRY] == ["ok", "ok", "unknown"]


def test_a_node_of_the_tree_that_was_changed_is_found(federation: Any) -> None:
    service = federation.services["ics2"]
    (index,) = indexes(service, Event.RECEIPT)
    table = schema.log_nodes
    change(service, table, (table.c.level == 0) & (table.c.idx == (index ^ 1)), hash=bytes(32))
    assert dossiers.OWN_ENTRY in failed(federation)


def test_a_changed_cosignature_is_found(federation: Any) -> None:
    service = federation.services["ics2"]
    table = schema.log_cosignatures
    with service.node.store.read() as tx:
        # The newest of all may wait for its witness.
        size = service.node.entries.cosigned_sizes(tx, 0, 1)[0]
        note = service.node.entries.cosigned(tx, size)
        line = bytes(tx.execute(sa.select(table.c.line).where(table.c.size == size)).scalar_one())
    cosigner = Cosigner("connector-psi.internal/witness/sis", federation.services["sis"].node.keyring.witness_key)
    text = parse_note(note).text.replace(f"\n{size}\n", f"\n{size + 1}\n")
    wrong = encode_signature(cosigner.cosign(text, 1_800_000_000))
    assert wrong != line
    change(service, table, table.c.size == size, line=wrong)
    assert failed(federation) == {dossiers.OWN_WITNESSES}


def test_a_log_without_witnesses_is_neither_proven_nor_refuted_by_them(federation: Any) -> None:
    service = federation.services["ics2"]
    with service.node.store.write() as tx:
        tx.execute(sa.delete(schema.log_cosignatures))
    assert result(steps(federation), dossiers.OWN_WITNESSES) == {"unknown"}


def test_a_changed_body_and_one_that_was_erased_too_early_are_found(federation: Any) -> None:
    service = federation.services["ics2"]
    (index,) = indexes(service, Event.RECEIPT)
    table = schema.log_bodies
    with service.node.store.read() as tx:
        sealed = bytes(tx.execute(sa.select(table.c.sealed).where(table.c.idx == index)).scalar_one())
    change(service, table, table.c.idx == index, sealed=sealed[:-1] + bytes([sealed[-1] ^ 1]))
    assert failed(federation) == {dossiers.OWN_BODY}
    with service.node.store.write() as tx:
        tx.execute(sa.delete(table).where(table.c.idx == index))
    found = steps(federation)
    assert [s.result for s in found if s.name == dossiers.OWN_BODY] == ["ok", "failed"]
    assert any("before its time" in s.detail for s in found)


def test_what_was_erased_on_its_day_is_no_failure_and_is_not_taken_for_good(federation: Any) -> None:
    federation.clock.advance(4 * 366 * DAY_S)
    for service in federation.services.values():
        service.tick_erasure()
        service.tick_retention()
        service.tick_log()
    for code in ("ics2", "sis"):
        found = steps(federation, code)
        assert not {s.name for s in found if s.result == "failed"}
        assert {s.detail.partition(": ")[2] for s in found if s.name == dossiers.OWN_BODY} >= {"erased on its day"}
        facts = federation.services[code].dossiers.dossier(of(code), federation.case).cases[0]
        assert facts.erased is not None
        assert facts.erased.reason == ("retention" if code == "ics2" else "window")
    asked, got = steps(federation), steps(federation, "sis")
    for name in (dossiers.THEIR_SIGNATURE, dossiers.THEIR_ENTRY, dossiers.THEIR_CHECKPOINT, dossiers.OWNER_LOG):
        assert result(asked, name) == {"unknown"}
    assert result(asked, dossiers.THEIR_COMMITMENT) == result(asked, dossiers.SAME_OUTCOME) == {"ok"}
    assert result(got, dossiers.REQUEST_SIGNATURE) == {"unknown"}
    assert result(got, dossiers.OUTCOME_COMMITMENT) == {"ok"}
    # What is left of it is still compared.
    row = querier_row(federation)
    kept = {**row.payload["outcome"]["receipt"], "commitment": "00" * 32}
    put_case(
        federation.services["ics2"],
        replace(row, payload={**row.payload, "outcome": {**row.payload["outcome"], "receipt": kept}}),
    )
    other = owner_row(federation)
    put_case(federation.services["sis"], replace(other, payload={**other.payload, "source_commitment": "00" * 32}))
    assert failed(federation) == {dossiers.THEIR_COMMITMENT}
    assert failed(federation, "sis") == {dossiers.OUTCOME_COMMITMENT}


def test_a_changed_row_of_the_case_is_found(federation: Any) -> None:
    service = federation.services["ics2"]
    table = schema.cases
    with service.node.store.read() as tx:
        sealed = bytes(tx.execute(sa.select(table.c.sealed).where(table.c.request_id == federation.case)).scalar_one())
    change(service, table, table.c.request_id == federation.case, sealed=sealed[:-1] + bytes([sealed[-1] ^ 1]))
    assert failed(federation) == {dossiers.CASE_ROW}
    with pytest.raises(StorageError):
        service.dossiers.dossier(of("ics2"), federation.case)


def with_receipt(federation: Any, **changes: Any) -> None:
    row = querier_row(federation)
    outcome = row.payload["outcome"]
    receipt = {**outcome["receipt"], **changes}
    put_case(
        federation.services["ics2"], replace(row, payload={**row.payload, "outcome": {**outcome, "receipt": receipt}})
    )


def receipt(federation: Any) -> dict[str, Any]:
    return dict(querier_row(federation).payload["outcome"]["receipt"])


def other_leaf(text: str, **changes: Any) -> str:
    return json.dumps({**json.loads(text), **changes}, sort_keys=True, separators=(",", ":"))


def _root_of(note: str) -> Checkpoint:
    return parse_checkpoint(parse_note(note.encode()).text)


TAMPERED: dict[str, tuple[Callable[[Any, dict[str, Any]], dict[str, Any]], set[str]]] = {
    "signature": (lambda _, r: {"signature": flipped(r["signature"])}, {dossiers.THEIR_SIGNATURE}),
    "envelope": (
        lambda _, r: {"envelope": flipped(r["envelope"], -1)},
        {dossiers.THEIR_SIGNATURE, dossiers.THEIR_COMMITMENT},
    ),
    "salt": (lambda _, r: {"salt": flipped(r["salt"])}, {dossiers.THEIR_COMMITMENT}),
    "leaf of another case": (
        lambda _, r: {"leaf": other_leaf(r["leaf"], request_id="00" * 16)},
        {dossiers.THEIR_COMMITMENT, dossiers.THEIR_ENTRY},
    ),
    "leaf of another outcome": (
        lambda _, r: {"leaf": other_leaf(r["leaf"], source_commitment="00" * 32)},
        {dossiers.THEIR_COMMITMENT, dossiers.SAME_OUTCOME, dossiers.THEIR_ENTRY},
    ),
    "no leaf": (
        lambda _, _r: {"leaf": "{}"},
        {dossiers.THEIR_COMMITMENT, dossiers.SAME_OUTCOME, dossiers.THEIR_ENTRY},
    ),
    "index": (lambda _, r: {"index": r["index"] - 1}, {dossiers.THEIR_ENTRY}),
    "proof": (lambda _, r: {"proof": [flipped(r["proof"][0]), *r["proof"][1:]]}, {dossiers.THEIR_ENTRY}),
    "key of the checkpoint": (
        lambda f, r: {
            "checkpoint": other_note(
                f.services["sis"], _root_of(r["checkpoint"]).size, _root_of(r["checkpoint"]).root,
                NoteSigner(f.services["sis"].node.signer.name, OTHER_KEY),
            ).decode()
        },
        {dossiers.THEIR_CHECKPOINT},
    ),
    "root of the checkpoint": (
        lambda f, r: {"checkpoint": other_note(f.services["sis"], _root_of(r["checkpoint"]).size, bytes(32)).decode()},
        {dossiers.THEIR_ENTRY, dossiers.OWNER_LOG},
    ),
    "no checkpoint": (lambda _, _r: {"checkpoint": "none"}, {dossiers.THEIR_CHECKPOINT}),
}  # fmt: skip


@pytest.mark.parametrize("what", TAMPERED)
def test_what_was_changed_of_a_receipt_is_found(federation: Any, what: str) -> None:
    changes, expected = TAMPERED[what]
    with_receipt(federation, **changes(federation, receipt(federation)))
    assert failed(federation) == expected


def test_witnesses_that_the_agreement_wants_are_looked_for_in_what_came(
    federation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = federation.services["ics2"]
    cosigner = Cosigner("example.org/witness", OTHER_KEY)
    trust = Trust({cosigner.key: None}, 1, "sis", frozenset({"ics2", "sis"}))
    monkeypatch.setattr(service.node, "trust", lambda *_: trust)
    assert failed(federation) == {dossiers.THEIR_WITNESSES}
    note = receipt(federation)["checkpoint"]
    text = parse_note(note.encode()).text
    with_receipt(federation, checkpoint=note + encode_signature(cosigner.cosign(text, 1_800_000_000)).decode())
    found = steps(federation)
    assert {s.result for s in found} == {"ok"}
    assert any("example.org/witness 2027-01-15T08:00:00Z" in s.detail for s in found)


def test_a_case_without_an_outcome_is_neither_proven_nor_refuted(federation: Any) -> None:
    row = querier_row(federation)
    payload = {name: value for name, value in row.payload.items() if name != "outcome"}
    put_case(federation.services["ics2"], replace(row, payload=payload))
    found = steps(federation)
    assert {s.name for s in found if s.result == "unknown"} >= {dossiers.THEIR_SIGNATURE, dossiers.OWNER_LOG}
    assert not {s.name for s in found if s.result == "failed"}


# Asking the other log


@pytest.mark.parametrize(
    ("code", "name", "peer"), [("ics2", dossiers.OWNER_LOG, "sis"), ("sis", dossiers.QUERIER_LOG, "ics2")]
)
def test_the_other_log_is_asked_now(
    federation: Any, monkeypatch: pytest.MonkeyPatch, code: str, name: str, peer: str
) -> None:
    service = federation.services[peer]
    signed = newest(service)
    answers = {
        "smaller": other_note(service, 1, signed.root),
        "of another history": other_note(service, signed.size, bytes(32)),
        "later, of another history": other_note(service, signed.size + 7, bytes(32)),
        "of another key": other_note(
            service, signed.size, signed.root, NoteSigner(service.node.signer.name, OTHER_KEY)
        ),
        "no note": b"none",
    }
    for what, note in answers.items():
        with monkeypatch.context() as patch:
            patch.setattr(DirectOwner, "get_checkpoint", lambda _self, note=note: note)
            patch.setattr(DirectOwner, "prove_consistency", lambda *_: [bytes(32)] * 3)
            assert failed(federation, code) == {name}, what
    assert failed(federation, code) == set()
    federation.close(peer)
    assert result(steps(federation, code), name) == {"unknown"}


def test_a_log_that_went_on_is_proven_to_continue(federation: Any) -> None:
    for service in federation.services.values():
        service.publish()
        service.tick_log()
    for code, name in (("ics2", dossiers.OWNER_LOG), ("sis", dossiers.QUERIER_LOG)):
        (step,) = (s for s in steps(federation, code) if s.name == name)
        assert step.result == "ok"
        first, last = (int(word) for word in step.detail.split() if word.isdigit())
        assert first < last


def test_a_log_of_which_nothing_was_cosigned_here_is_not_asked(federation: Any) -> None:
    service = federation.services["sis"]
    with service.node.store.write() as tx:
        tx.execute(sa.delete(schema.witnessed))
    assert result(steps(federation, "sis"), dossiers.QUERIER_LOG) == {"unknown"}


def test_a_cosigned_checkpoint_that_was_changed_is_found(federation: Any) -> None:
    service = federation.services["sis"]
    with service.node.store.write() as tx:
        tx.execute(sa.update(schema.witnessed).values(note=b"none"))
    assert failed(federation, "sis") == {dossiers.QUERIER_LOG}


def test_of_a_revoked_peer_what_it_signed_is_still_checked_and_it_is_not_asked(federation: Any) -> None:
    service = federation.services["ics2"]
    service.revoke("sis")
    found = steps(federation)
    assert result(found, dossiers.THEIR_SIGNATURE) == result(found, dossiers.THEIR_ENTRY) == {"ok"}
    assert result(found, dossiers.OWNER_LOG) == {"unknown"}


# At the owner


@pytest.mark.parametrize("name", ["case_reference", "justification", "ticket_id", "signature", "actors"])
def test_a_request_that_was_changed_is_found(federation: Any, name: str) -> None:
    row = owner_row(federation)
    value = row.payload[name]
    value = flipped(value) if name in {"ticket_id", "signature", "actors"} else value + "x"
    put_case(federation.services["sis"], replace(row, payload={**row.payload, name: value}))
    assert failed(federation, "sis") == {dossiers.REQUEST_SIGNATURE}


@pytest.mark.parametrize("name", ["envelope", "salt"])
def test_an_outcome_that_was_changed_is_found(federation: Any, name: str) -> None:
    row = owner_row(federation)
    put_case(federation.services["sis"], replace(row, payload={**row.payload, name: flipped(row.payload[name], -1)}))
    assert failed(federation, "sis") == {dossiers.OUTCOME_COMMITMENT}


# Recalls and access


@pytest.mark.parametrize("effect", ["erased", "replaced"])
def test_what_replaced_a_recalled_outcome_is_verified_in_its_place(federation: Any, effect: str) -> None:
    ics2, sis = federation.services["ics2"], federation.services["sis"]
    record = alert("DE1", BOX)
    if effect == "erased":
        sis.registration.withdraw(record.source, "DE1", "entered by mistake", "test")
    else:
        fields = {**record.fields, Field.SIRENE_CONTACT: ("sirene2@example.org",)}
        sis.registration.register([replace(record, fields=fields, message_digest=bytes(32))], "test")
    federation.settle(rounds=4, step_s=5)
    (recall,) = ics2.recalls.list()
    assert failed(federation) == set()
    ics2.recalled.acknowledge(recall.row.recall_id, person("ics2"), "")
    federation.settle(rounds=4, step_s=5)
    for code in ("ics2", "sis"):
        found = federation.services[code].dossiers.dossier(of(code), federation.case)
        (facts,) = found.cases[0].recalls
        assert (facts.state, facts.effect) == ("acknowledged", effect)
        assert [e.leaf.event for e in found.entries].count(Event.RECALL) == 2
        assert failed(federation, code) == set()
        # A recall has a dossier of its own.
        assert federation.services[code].dossiers.dossier(of(code), recall.row.recall_id).cases == ()
    if effect == "replaced":
        assert {step.result for step in steps(federation)} == {"ok"}
        with_receipt(federation, sent_ms=1)
        assert failed(federation) == {dossiers.THEIR_SIGNATURE}
        with_receipt(federation, recall_id="00" * 16)
        assert failed(federation) == {dossiers.THEIR_SIGNATURE, dossiers.THEIR_COMMITMENT}


def test_a_request_for_access_has_a_dossier_and_what_was_signed_is_checked(tmp_path: Path) -> None:
    made = begun(tmp_path / "nodes")
    row = ask(made)
    made.settle()
    grant(made, row.request_id)
    made.settle(rounds=8, step_s=5)
    ics2, police = made.services["ics2"], made.services["police"]
    (facts,) = ics2.dossiers.dossier(of("ics2"), row.request_id).cases
    assert (facts.kind, facts.side, facts.agreement) == ("access", "owner", AGREEMENT)
    found = ics2.dossiers.verify(of("ics2"), row.request_id)
    assert result(found, dossiers.REQUEST_SIGNATURE) == {"ok"}
    assert not {s.name for s in found if s.result == "failed"}
    (theirs,) = police.dossiers.dossier(of("police"), row.request_id).cases
    assert (theirs.kind, theirs.side) == ("access", "querier")
    assert not {s.name for s in police.dossiers.verify(of("police"), row.request_id) if s.result == "failed"}
    assert ics2.grading.draw(of("ics2"), 10) >= 1
    kinds = {view.request_id: view.kind for view in ics2.grading.queue(of("ics2"))}
    assert kinds[row.request_id] == "access"
    made.close()
