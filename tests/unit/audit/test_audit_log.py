"""The log on the in-memory ports: transactions, signing order, recovery, and every kind of damage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from connector_psi.audit.bodies import SealedBody
from connector_psi.audit.checkpoint import (
    Checkpoint,
    NoteSigner,
    encode_checkpoint,
    encode_tlog_proof,
    sign_note,
    verify_checkpoint,
    verify_tlog_proof,
)
from connector_psi.audit.entries import RetentionClass, encode_leaf, parse_leaf
from connector_psi.audit.guard import FileGuard
from connector_psi.audit.log import MAX_FAILURES, Log
from connector_psi.audit.merkle import leaf_hash, verify_consistency
from connector_psi.errors import (
    ConfigError,
    FormatError,
    InputError,
    KeyUnavailableError,
    LogForkError,
    ProofInvalidError,
    UnavailableError,
)
from tests.simulation.memory_log import (
    ORIGIN,
    Bench,
    FixedClock,
    MemoryBackend,
    MemoryGuard,
    MemoryKeys,
    MemoryTx,
    Rows,
    SeededRandom,
    build_log,
    draft,
)


def _flip(data: bytes, bit: int) -> bytes:
    return bytes(b ^ (1 << bit % 8 if i == bit // 8 else 0) for i, b in enumerate(data))


def test_an_entry_is_completed_by_the_log() -> None:
    bench = build_log()
    with bench.backend.transaction() as tx:
        appended = bench.log.append(tx, draft(3), {"decision": "allow"})
    leaf = parse_leaf(appended.leaf)
    assert appended.index == 0
    assert appended.leaf_hash == leaf_hash(appended.leaf)
    assert (leaf.ts.isoformat(), leaf.erase_after.isoformat()) == (
        "2026-11-22T06:05:00+00:00",
        "2029-11-22T06:05:00+00:00",
    )
    assert leaf.agreement == "SIS-OBJ:ics2-sis"
    with bench.backend.transaction() as tx:
        assert bench.log.open_body(tx, 0) == {"decision": "allow"}


def test_leaves_of_equal_entries_differ_by_their_salt() -> None:
    bench = build_log()
    with bench.backend.transaction() as tx:
        first, second = (parse_leaf(bench.log.append(tx, draft(1), {}).leaf) for _ in range(2))
    assert first.body_commit != second.body_commit
    assert replace(first, body_commit=second.body_commit) == second


def test_a_refusal_and_a_disclosure_write_leaves_of_one_shape() -> None:
    bench = build_log()
    with bench.backend.transaction() as tx:
        told = parse_leaf(bench.log.append(tx, draft(1), {"decision": "allow", "fields": ["mrn"]}).leaf)
        kept = parse_leaf(bench.log.append(tx, draft(1), {"decision": "refuse"}).leaf)
    assert replace(told, body_commit=bytes(32)) == replace(kept, body_commit=bytes(32))
    assert len(encode_leaf(told)) == len(encode_leaf(kept))


def test_national_retention_reaches_the_leaf() -> None:
    bench = build_log()
    log = Log(
        origin=ORIGIN,
        signer=bench.signer,
        backend=bench.backend,
        wrapping=bench.keys,
        guard=bench.guard,
        clock=bench.clock,
        random=SeededRandom(),
        national_months={RetentionClass.LED_NATIONAL: 60},
    )
    with bench.backend.transaction() as tx:
        leaf = parse_leaf(log.append(tx, replace(draft(), retention_class=RetentionClass.LED_NATIONAL), {}).leaf)
    assert leaf.erase_after.year == 2031


def test_an_aborted_transaction_leaves_nothing() -> None:
    bench = build_log()
    bench.append(3)
    note = bench.checkpoint()
    before = bench.backend.rows.copy()

    class ActionFailedError(Exception):
        pass

    def act() -> None:
        with bench.backend.transaction() as tx:
            assert bench.log.append(tx, draft(9), {"x": 1}).index == 3
            assert bench.log.append(tx, draft(10), {"x": 2}).index == 4
            raise ActionFailedError

    with pytest.raises(ActionFailedError):
        act()
    assert bench.backend.rows == before
    assert bench.checkpoint() == note
    with bench.backend.transaction() as tx:
        assert bench.log.append(tx, draft(11), {}).index == 3
        assert bench.log.verify(tx).verified


def test_what_cannot_be_encoded_is_not_logged() -> None:
    bench = build_log()
    for entry, body in ((replace(draft(), agreement="Müller"), {}), (draft(), {"x": b"bytes"})):
        with pytest.raises(FormatError), bench.backend.transaction() as tx:
            bench.log.append(tx, entry, body)
    assert bench.backend.rows == Rows()


def test_a_signer_of_another_name_is_refused() -> None:
    other = NoteSigner("log.example/other", Ed25519PrivateKey.from_private_bytes(bytes(32)))
    with pytest.raises(ConfigError):
        Log(
            origin=ORIGIN,
            signer=other,
            backend=MemoryBackend(),
            wrapping=MemoryKeys(),
            guard=MemoryGuard(),
            clock=FixedClock(),
            random=SeededRandom(),
        )


def test_proofs_lead_from_leaves_to_signed_checkpoints() -> None:
    bench = build_log()
    notes = []
    for _ in range(9):
        bench.append(3)
        notes.append(bench.checkpoint())
    heads = [verify_checkpoint(note, bench.signer.vkey, ORIGIN) for note in notes]
    with bench.backend.transaction() as tx:
        for head, note in zip(heads, notes, strict=True):
            for index in range(head.size):
                proof = bench.log.prove_inclusion(tx, index, head.size)
                receipt = encode_tlog_proof(index, proof, note)
                leaf = leaf_hash(bench.backend.rows.leaves[index])
                assert verify_tlog_proof(receipt, leaf, bench.signer.vkey, ORIGIN) == head
        for old in heads:
            for new in heads[heads.index(old) :]:
                proof = bench.log.prove_consistency(tx, old.size, new.size)
                verify_consistency(old.size, old.root, new.size, new.root, proof)
        for index, size in ((0, 28), (27, 27), (-1, 27)):
            with pytest.raises(InputError):
                bench.log.prove_inclusion(tx, index, size)
        for first, second in ((0, 28), (5, 4), (-1, 4)):
            with pytest.raises(InputError):
                bench.log.prove_consistency(tx, first, second)


def test_a_checkpoint_is_signed_once_per_size() -> None:
    bench = build_log()
    empty = bench.checkpoint()
    assert verify_checkpoint(empty, bench.signer.vkey, ORIGIN).size == 0
    assert bench.checkpoint() == empty
    bench.append()
    assert bench.checkpoint() == bench.checkpoint() != empty
    assert [size for size, _ in bench.backend.rows.checkpoints] == [0, 1]
    assert bench.guard.value is not None
    assert bench.guard.value[0] == 1


def test_the_guard_is_advanced_before_a_signature_exists_for_others() -> None:
    bench = build_log()
    bench.append(2)
    bench.checkpoint()

    class FullDisk(MemoryGuard):
        def advance(self, size: int, root: bytes) -> None:
            raise UnavailableError("no space")

    stuck = FullDisk()
    stuck.value = bench.guard.value
    bench.append()
    before = bench.backend.rows.copy()
    node = build_log(backend=bench.backend, guard=stuck, keys=bench.keys)
    with pytest.raises(UnavailableError):
        node.checkpoint()
    assert bench.backend.rows == before
    assert bench.checkpoint(), "it recovers by itself"


def test_a_checkpoint_lost_in_a_crash_is_signed_again_and_is_the_same() -> None:
    bench = build_log()
    bench.append(3)

    class CrashError(Exception):
        pass

    lost: list[bytes] = []

    def sign_and_crash() -> None:
        with bench.backend.transaction() as tx:
            lost.append(bench.log.checkpoint(tx))
            raise CrashError

    with pytest.raises(CrashError):
        sign_and_crash()
    assert bench.backend.rows.checkpoints == []
    restarted = bench.on(bench.backend)
    with bench.backend.transaction() as tx:
        restarted.log.recover(tx)
    assert [restarted.checkpoint()] == lost


def test_a_guard_older_than_the_database_is_brought_up() -> None:
    bench = build_log()
    bench.append(3)
    bench.checkpoint()
    older = bench.guard.value
    bench.append(2)
    bench.checkpoint()
    newest, bench.guard.value = bench.guard.value, older
    with bench.backend.transaction() as tx:
        bench.log.recover(tx)
    bench.checkpoint()
    assert bench.guard.value == newest


def _grown(tmp_path: Path | None = None) -> Bench:
    guard = FileGuard(tmp_path / "guard") if tmp_path else None
    bench = build_log(guard=guard)  # type: ignore[arg-type]
    bench.append(5)
    bench.checkpoint()
    return bench


def _refuses(bench: Bench) -> None:
    with pytest.raises(LogForkError), bench.backend.transaction() as tx:
        bench.log.recover(tx)
    with pytest.raises(LogForkError):
        bench.checkpoint()


def test_a_restored_older_backup_does_not_sign(tmp_path: Path) -> None:
    bench = _grown(tmp_path)
    backup = bench.backend.rows.copy()
    bench.append(4)
    bench.checkpoint()
    restored = bench.on(MemoryBackend(backup.copy()))
    _refuses(restored)
    with restored.backend.transaction() as tx:
        assert restored.log.verify(tx).failures == ("guard: ahead of the tree, at size 9",)
    # Growing past the guard does not help: the history is another one.
    restored.append(6)
    _refuses(restored)
    with restored.backend.transaction() as tx:
        assert restored.log.verify(tx).failures == ("guard: another root at size 9",)


def test_a_backup_of_the_newest_state_goes_on() -> None:
    bench = _grown()
    restored = bench.on(MemoryBackend(bench.backend.rows.copy()))
    with restored.backend.transaction() as tx:
        restored.log.recover(tx)
    restored.append()
    restored.checkpoint()
    _refuses(bench)


def test_two_nodes_on_copies_of_one_log_cannot_both_sign(tmp_path: Path) -> None:
    bench = _grown(tmp_path)
    twin = build_log(
        backend=MemoryBackend(bench.backend.rows.copy()),
        guard=FileGuard(tmp_path / "guard"),  # type: ignore[arg-type]
        keys=bench.keys,
        seed=77,
    )
    bench.append()
    twin.append()
    bench.checkpoint()
    _refuses(twin)


def test_a_lost_guard_stops_the_node() -> None:
    bench = _grown()
    bench.guard.value = None
    _refuses(bench)
    with bench.backend.transaction() as tx:
        assert bench.log.verify(tx).failures == ("guard: gone, though checkpoints were signed",)


def test_a_rewritten_tree_does_not_sign() -> None:
    bench = _grown()
    twin = build_log(keys=bench.keys, seed=99)
    twin.append(6)
    _refuses(bench.on(twin.backend))
    # Even where the rewriter also holds the key and replaces the stored checkpoint.
    twin.checkpoint()
    _refuses(bench.on(MemoryBackend(twin.backend.rows)))


def test_a_checkpoint_of_another_key_is_fatal() -> None:
    bench = _grown()
    size, note = bench.backend.rows.checkpoints[-1]
    forger = NoteSigner(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes(32)))
    text = note.decode().partition("\n\n")[0] + "\n"
    bench.backend.rows.checkpoints[-1] = (size, sign_note(text, [forger]))
    with pytest.raises(ProofInvalidError), bench.backend.transaction() as tx:
        bench.log.recover(tx)
    with pytest.raises(ProofInvalidError):
        bench.checkpoint()


def test_the_memory_backend_holds_the_log_to_its_word() -> None:
    bench = build_log()
    with bench.backend.transaction() as tx:
        bench.log.append(tx, draft(), {})
        with pytest.raises(AssertionError, match="rolled back"):
            bench.log.checkpoint(tx)
    with pytest.raises(AssertionError, match="contiguous"), bench.backend.transaction() as tx:
        bench.backend.append(tx, 5, b"x", [(0, 5, bytes(32))], SealedBody("k", b"", b"", b""), bench.clock.now())


def test_a_sound_log_is_verified() -> None:
    bench = build_log()
    with bench.backend.transaction() as tx:
        assert bench.log.verify(tx).to_json() == {
            "origin": ORIGIN,
            "size": 0,
            "root": "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
            "verified": True,
            "failures": [],
        }
    bench.append(7)
    note = bench.checkpoint()
    bench.append(2)
    with bench.backend.transaction() as tx:
        report = bench.log.verify(tx)
    assert (report.verified, report.failures, report.size, report.bodies_opened) == (True, (), 9, 9)
    assert report.root != verify_checkpoint(note, bench.signer.vkey, ORIGIN).root


def test_more_than_a_page_is_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connector_psi.audit.log._PAGE", 4)
    bench = build_log()
    bench.append(11)
    bench.checkpoint()
    with bench.backend.transaction() as tx:
        assert bench.log.verify(tx).to_json()["size"] == 11
    bench.backend.rows.leaves[6] = bench.backend.rows.leaves[7]
    with bench.backend.transaction() as tx:
        assert bench.log.verify(tx).failures[0] == "node 0/6: does not match the leaves up to leaf 6"


def _leaf(rows: Rows, bit: int) -> None:
    rows.leaves[bit % 5] = _flip(rows.leaves[bit % 5], bit % (8 * len(rows.leaves[bit % 5])))


def _node(rows: Rows, bit: int) -> None:
    key = sorted(rows.nodes)[bit % len(rows.nodes)]
    rows.nodes[key] = _flip(rows.nodes[key], bit % 256)


def _checkpoint(rows: Rows, bit: int) -> None:
    size, note = rows.checkpoints[-1]
    rows.checkpoints[-1] = (size, _flip(note, bit % (8 * len(note))))


def _body(rows: Rows, bit: int) -> None:
    sealed = rows.bodies[bit % 5]
    part = ("wrapped_key", "nonce", "ciphertext")[bit % 3]
    value: bytes = getattr(sealed, part)
    flipped: dict[str, Any] = {part: _flip(value, bit % (8 * len(value)))}
    rows.bodies[bit % 5] = replace(sealed, **flipped)


@pytest.mark.parametrize("damage", [_leaf, _node, _checkpoint, _body])
def test_every_class_of_bit_flip_is_found(damage: Callable[[Rows, int], None]) -> None:
    bench = _grown()
    sound = bench.backend.rows
    for bit in range(0, 40_000, 401):
        node = bench.on(MemoryBackend(sound.copy()))
        damage(node.backend.rows, bit)
        assert node.backend.rows != sound
        with node.backend.transaction() as tx:
            report = node.log.verify(tx)
        assert not report.verified, bit
        assert report.size == 5


def test_damage_is_named_by_its_place() -> None:
    def failures(damage: Callable[[Rows], object]) -> tuple[str, ...]:
        bench = _grown()
        damage(bench.backend.rows)
        with bench.backend.transaction() as tx:
            return bench.log.verify(tx).failures

    assert failures(lambda rows: rows.bodies.pop(3)) == ("leaf 3: body erased before its time",)
    assert failures(lambda rows: rows.nodes.pop((1, 1))) == ("node 1/1: missing",)
    assert failures(lambda rows: rows.bodies.update({3: rows.bodies[2]})) == (
        "leaf 3: sealed body is not the one sealed for it",
    )
    assert failures(lambda rows: rows.leaves.append(rows.leaves[0]))[0] == "node 0/5: missing"
    assert failures(lambda rows: rows.leaves.pop()) == (
        "checkpoint: ahead of the tree, at size 5",
        "guard: ahead of the tree, at size 5",
    )
    swapped = failures(lambda rows: rows.leaves.reverse())
    assert "node 0/0: does not match the leaves up to leaf 0" in swapped
    assert "checkpoint: another root at size 5" in swapped
    assert "guard: another root at size 5" in swapped


def test_a_rewritten_leaf_with_all_nodes_recomputed_is_found_by_the_checkpoint() -> None:
    bench = _grown()
    twin = build_log(keys=bench.keys, seed=99)
    twin.append(5)
    twin.backend.rows.checkpoints = bench.backend.rows.checkpoints
    node = bench.on(twin.backend)
    with node.backend.transaction() as tx:
        assert node.log.verify(tx).failures == ("checkpoint: another root at size 5", "guard: another root at size 5")


def test_a_failing_backend_that_hides_leaves_is_found() -> None:
    bench = _grown()

    class Hiding(MemoryBackend):
        def read_leaves(self, tx: MemoryTx, start: int, end: int) -> list[bytes]:
            return super().read_leaves(tx, start, max(start, min(end, 3)))

    node = bench.on(Hiding(bench.backend.rows))
    with node.backend.transaction() as tx:
        assert "leaf 3: missing" in node.log.verify(tx).failures


def test_a_leaf_beyond_the_size_is_found() -> None:
    bench = _grown()
    bench.append()

    class Forgetful(MemoryBackend):
        def size(self, tx: MemoryTx) -> int:
            return super().size(tx) - 1

    node = bench.on(Forgetful(bench.backend.rows))
    with node.backend.transaction() as tx:
        assert node.log.verify(tx).failures == ("leaf 5: beyond the tree",)


def test_many_failures_are_counted_and_not_all_told() -> None:
    bench = build_log()
    bench.append(300)
    bench.backend.rows.bodies.clear()
    with bench.backend.transaction() as tx:
        report = bench.log.verify(tx)
    assert len(report.failures) == MAX_FAILURES + 1
    assert report.failures[-1] == "and 200 more"


def test_erasure_in_time_leaves_a_sound_log() -> None:
    bench = _grown()
    note = bench.checkpoint()
    bench.clock.advance(timedelta(days=3 * 366))
    bench.keys.destroy("2029-11/SIS_3Y")
    del bench.backend.rows.bodies[2]
    with bench.backend.transaction() as tx:
        report = bench.log.verify(tx)
        for index in range(5):
            with pytest.raises(KeyUnavailableError):
                bench.log.open_body(tx, index)
    assert (report.verified, report.bodies_opened, report.bodies_unavailable) == (True, 0, 5)
    assert bench.checkpoint() == note, "root and old proofs stand"


def test_a_body_that_is_not_there_is_refused() -> None:
    bench = _grown()
    with bench.backend.transaction() as tx:
        for index in (-1, 5):
            with pytest.raises(InputError):
                bench.log.open_body(tx, index)


def test_a_signed_checkpoint_of_a_larger_tree_is_found() -> None:
    bench = _grown()
    text = encode_checkpoint(Checkpoint(ORIGIN, 6, bytes(32)))
    bench.backend.rows.checkpoints.append((6, sign_note(text, [bench.signer])))
    _refuses(bench)
    with bench.backend.transaction() as tx:
        assert bench.log.verify(tx).failures == ("checkpoint: ahead of the tree, at size 6",)
