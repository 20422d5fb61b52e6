"""The inventory of encoded sets, the schedule of erasure, and the steps of the log verifier."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from connector_psi.audit.checkpoint import (
    Checkpoint,
    NoteSigner,
    encode_checkpoint,
    encode_signature,
    parse_note,
    sign_note,
)
from connector_psi.audit.cosignature import Cosigner
from connector_psi.audit.entries import Event
from connector_psi.encoding.manifest import parse_manifest
from connector_psi.errors import ProofInvalidError, PurposeRefusedError
from connector_psi.node import oversight
from connector_psi.node.inventory import sets
from connector_psi.node.retention import DueBodies
from connector_psi.node.service import Service
from connector_psi.node.steps import Step
from connector_psi.pki import Role
from connector_psi.storage import queried, schema, witnesses
from connector_psi.storage.samples import candidates
from connector_psi.storage.witnesses import ForkRow
from tests.simulation.disclosed import CHK, OBJ, after_a_disclosure, change, indexes, leaf_at, of
from tests.simulation.federation import Federation
from tests.simulation.prepared import Prepared

HOUR_S = 3_600.0


@pytest.fixture(scope="module")
def disclosed(tmp_path_factory: pytest.TempPathFactory) -> Prepared[Federation]:
    return Prepared(after_a_disclosure(tmp_path_factory.mktemp("disclosed") / "nodes")[0])


@pytest.fixture
def federation(disclosed: Prepared[Federation], tmp_path: Path) -> Iterator[Federation]:
    made = disclosed.copy(tmp_path / "nodes")
    yield made
    made.close()


# Sets


def test_each_set_is_told_at_both_sides_with_what_is_known_of_it(federation: Federation) -> None:
    ics2, sis = federation.services["ics2"], federation.services["sis"]
    (taken,) = [view for view in sets(ics2.node, Role.DPO) if view.agreement == OBJ]
    (owned,) = [view for view in sets(sis.node, Role.DPO) if view.agreement == OBJ]
    assert (taken.side, taken.peer, taken.state) == ("querier", "sis", "mapped")
    assert (owned.side, owned.peer, owned.state) == ("owner", "ics2", "published")
    for name in ("epoch", "snapshot_ms", "not_after_ms", "max_age_h", "size_class", "delta_seq", "manifest_hash"):
        assert getattr(taken, name) == getattr(owned, name)
    assert owned.leaf_index in indexes(sis, Event.SET_PUBLISH)
    assert (owned.tokens, taken.tokens, taken.leaf_index) == (1, None, None)
    assert owned.max_age_h == 48
    for service, view in ((ics2, taken), (sis, owned)):
        layout = service.node.layout
        folder = (layout.taken_set if service is ics2 else layout.owned_set)(OBJ, view.epoch)
        assert view.size_bytes == sum(path.stat().st_size for path in folder.iterdir()) > 0
        assert not view.overdue
    with ics2.node.store.read() as tx:
        current = queried.current_set(tx, OBJ)
    assert current is not None
    assert parse_manifest(current.manifest).size_class == taken.size_class
    assert current.manifest_hash.hex() == taken.manifest_hash


def test_a_set_that_should_be_gone_is_overdue(federation: Federation) -> None:
    sis = federation.services["sis"]
    federation.clock.advance(47 * HOUR_S)
    assert not any(view.overdue for view in sets(sis.node, Role.DPO))
    federation.clock.advance(1 * HOUR_S)
    found = sets(sis.node, Role.DPO)
    assert all(view.overdue for view in found)
    assert all(view.age_s >= 48 * HOUR_S for view in found)
    sis.tick_publish()
    assert not any(view.overdue for view in sets(sis.node, Role.DPO) if view.side == "owner")


def test_one_that_serves_while_a_newer_one_is_there_is_told_too(federation: Federation) -> None:
    sis = federation.services["sis"]
    sis.publish([OBJ])
    states = [(view.epoch, view.state) for view in sets(sis.node, Role.DPO) if view.agreement == OBJ]
    assert states == [(1, "superseded"), (2, "published")]


def test_a_set_whose_files_are_gone_is_of_no_size(federation: Federation) -> None:
    ics2 = federation.services["ics2"]
    for path in ics2.node.layout.taken_set(OBJ, 1).iterdir():
        path.unlink()
    ics2.node.layout.taken_set(OBJ, 1).rmdir()
    (view,) = [view for view in sets(ics2.node, Role.DPO) if view.agreement == OBJ]
    assert view.size_bytes == 0


def test_sets_that_the_owner_gets_no_notice_of_are_for_its_data_protection_officer_alone(
    federation: Federation,
) -> None:
    ics2, sis = federation.services["ics2"], federation.services["sis"]
    assert CHK in {view.agreement for view in sets(ics2.node, Role.DPO)}
    for role in (Role.AUDITOR, Role.SUPERVISOR):
        assert {view.agreement for view in sets(ics2.node, role)} == {OBJ}
        assert CHK in {view.agreement for view in sets(sis.node, role)}
    for role in (Role.OFFICER, Role.SYSTEM, Role.ADMIN):
        with pytest.raises(PurposeRefusedError):
            sets(ics2.node, role)


# The schedule of erasure


def test_bodies_are_counted_by_the_month_in_which_they_go(federation: Federation) -> None:
    service = federation.services["ics2"]
    table = schema.log_bodies
    with service.node.store.read() as tx:
        total = int(tx.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())
    now = federation.clock.now()
    dpo = of("ics2")
    found = service.retention.schedule(dpo)
    assert [each.kind for each in found] == ["overdue", *["month"] * 12, "later"]
    assert found[1].month == f"{now:%Y-%m}"
    assert len({each.month for each in found[1:-1]}) == 12
    assert [each.bodies for each in found] == [0] * 13 + [total]
    year, month = now.year + now.month // 12, now.month % 12 + 1
    next_month = datetime(year, month, 1, tzinfo=UTC)
    for index, due in enumerate((int(now.timestamp()), int(now.timestamp()) + 1, int(next_month.timestamp()))):
        change(service, table, table.c.idx == index, erase_after_s=due)
    found = service.retention.schedule(dpo)
    assert found[0] == DueBodies("overdue", "", 1)
    assert found[1].bodies == 1
    assert (found[2].month, found[2].bodies) == (f"{next_month:%Y-%m}", 1)
    assert sum(each.bodies for each in found) == total
    for role in (Role.OFFICER, Role.SUPERVISOR, Role.ADMIN, Role.SYSTEM):
        with pytest.raises(PurposeRefusedError):
            service.retention.schedule(of("ics2", role))
    assert service.retention.schedule(of("ics2", Role.AUDITOR)) == found


def test_neither_schedule_nor_draw_reads_a_large_log(federation: Federation) -> None:
    """50,000 entries, of which no body and no leaf is read: each takes a small part of what reading them would."""
    service = federation.services["ics2"]
    count, start = 50_000, 10_000
    with service.node.store.write() as tx:
        tx.execute(
            sa.insert(schema.log_bodies),
            [
                {
                    "idx": start + n,
                    "key_id": "2030-01-X",
                    "wrapped_key": b"",
                    "sealed": b"",
                    "erase_after_s": 1_900_000_000 + n,
                }
                for n in range(count)
            ],
        )
        tx.execute(
            sa.insert(schema.log_index),
            [
                {
                    "idx": start + n, "ts_s": n, "kind": n % 20 and 7, "event": "CONSULT" if n % 20 else "RECEIPT",
                    "side": "querier", "agreement": OBJ, "purpose": None, "request_id": n.to_bytes(16, "big"),
                    "parent_id": None,
                }
                for n in range(count)
            ],
        )  # fmt: skip
    begun = time.perf_counter()
    assert sum(each.bodies for each in service.retention.schedule(of("ics2"))) >= count
    with service.node.store.read() as tx:
        found = list(candidates(tx, {("RECEIPT", "querier")}, 1 << 40))
    assert time.perf_counter() - begun < 2
    assert len({each.request_id for each in found}) == len(found) >= 1


# The steps of the verifier


def steps(service: Service) -> dict[str, Step]:
    found = service.oversight.verify_steps()
    assert [step.name for step in found] == sorted((s.name for s in found), key=oversight.STEP_NAMES.index)
    return {step.name: step for step in found}


def failed(service: Service) -> set[str]:
    found = steps(service)
    bad = {name for name, step in found.items() if step.result == "failed"}
    # Forks and witnesses are not part of the report.
    assert service.oversight.verify()["verified"] is (not bad - {oversight.FORKS, oversight.WITNESS})
    return bad


def test_every_step_holds_of_a_log_that_nobody_changed(federation: Federation) -> None:
    service = federation.services["ics2"]
    found = steps(service)
    assert {step.result for step in found.values()} == {"ok"}
    assert set(found) == set(oversight.STEP_NAMES)
    size = len(service.oversight.leaves(0, 256))
    assert found[oversight.LEAVES].detail == f"{size} entries"
    assert found[oversight.BODIES].detail == f"{size} opened, 0 erased"
    assert "witness/sis: size" in found[oversight.WITNESS].detail


def test_a_step_fails_for_what_it_is_about(federation: Federation) -> None:
    service = federation.services["ics2"]
    leaf = leaf_at(service, 3)
    table = schema.log_leaves
    change(service, table, table.c.idx == 3, leaf=leaf.replace(b'"mode":', b'"mode" :'))
    # What it changes spoils everything that stands for it.
    assert failed(service) >= {oversight.LEAVES, oversight.CHECKPOINT, oversight.GUARD}
    change(service, table, table.c.idx == 3, leaf=leaf)
    assert failed(service) == set()


def test_a_body_that_does_not_open_fails_the_step_of_bodies(federation: Federation) -> None:
    service = federation.services["ics2"]
    change(service, schema.log_bodies, schema.log_bodies.c.idx == 3, sealed=bytes(100))
    assert failed(service) == {oversight.BODIES}
    with service.node.store.write() as tx:
        tx.execute(sa.delete(schema.log_bodies).where(schema.log_bodies.c.idx == 3))
    assert failed(service) == {oversight.BODIES}
    assert steps(service)[oversight.BODIES].detail.endswith("1 erased, 1 wrong")


def newest(service: Service) -> Any:
    signed = service.node.signed_checkpoint()
    assert signed is not None
    return signed


def test_a_checkpoint_of_another_key_or_root_fails_its_step(federation: Federation) -> None:
    service = federation.services["ics2"]
    signed, table = newest(service), schema.log_checkpoints
    text = encode_checkpoint(Checkpoint(signed.origin, signed.size, bytes(32)))
    wrong_key = sign_note(encode_checkpoint(signed), [NoteSigner(signed.origin, service.node.keyring.witness_key)])
    for note in (wrong_key, b"none"):
        change(service, table, table.c.size == signed.size, note=note)
        assert oversight.CHECKPOINT in failed(service)
    change(service, table, table.c.size == signed.size, note=sign_note(text, [service.node.signer]))
    assert failed(service) == {oversight.CHECKPOINT, oversight.WITNESS}


def test_a_guard_that_is_gone_or_damaged_fails_its_step(federation: Federation) -> None:
    service = federation.services["ics2"]
    guard = service.node.layout.data / "log.guard"
    kept = guard.read_bytes()
    guard.write_bytes(b"damaged")
    assert failed(service) == {oversight.GUARD}
    guard.unlink()
    assert failed(service) == {oversight.GUARD}
    guard.write_bytes(kept)
    assert failed(service) == set()


def test_a_cosignature_that_does_not_verify_fails_the_step_of_its_witness(federation: Federation) -> None:
    service = federation.services["ics2"]
    table, size = schema.log_cosignatures, newest(service).size
    cosigner = Cosigner("connector-psi.internal/witness/sis", federation.services["sis"].node.keyring.witness_key)
    text = parse_note(service.oversight.checkpoint()).text.replace(f"\n{size}\n", f"\n{size + 1}\n")
    change(service, table, table.c.size == size, line=encode_signature(cosigner.cosign(text, 1)))
    assert failed(service) == {oversight.WITNESS}
    with service.node.store.write() as tx:
        tx.execute(sa.delete(table))
    assert steps(service)[oversight.WITNESS].result == "unknown"


def test_a_fork_that_is_known_fails_its_step(federation: Federation) -> None:
    service = federation.services["ics2"]
    with service.node.store.write() as tx:
        witnesses.put_fork(tx, ForkRow("connector-psi.internal/log/sis", 7, b"a", b"b", 0))
    assert failed(service) == {oversight.FORKS}
    assert steps(service)[oversight.FORKS].detail == "connector-psi.internal/log/sis at size 7"


def test_bodies_that_are_late_fail_their_step(federation: Federation) -> None:
    service = federation.services["ics2"]
    federation.clock.advance(4 * 366 * 86_400.0)
    assert failed(service) == {oversight.LATE}
    service.tick_retention()
    assert failed(service) == set()


def test_a_node_that_stopped_answering_is_verified_too(federation: Federation) -> None:
    service = federation.services["ics2"]
    service.node.fail(ProofInvalidError("log: damaged"))
    assert {step.result for step in steps(service).values()} == {"ok"}
