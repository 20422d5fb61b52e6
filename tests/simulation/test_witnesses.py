"""Nodes that witness one another: what waits for whom, and what a fork or a restored backup comes to."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from connector_psi.audit.checkpoint import Checkpoint, NoteSigner, encode_checkpoint, encode_vkey, parse_note, sign_note
from connector_psi.audit.cosignature import parse_witness_key, verify_cosignatures
from connector_psi.audit.verify import verify_bundle, verify_fork
from connector_psi.audit.witness import Refusal, Submission
from connector_psi.disclosure import CaseState
from connector_psi.domain.records import IdentifierType
from connector_psi.errors import LogForkError, PeerError, PurposeRefusedError, UnavailableError
from connector_psi.node.descriptor import encode_descriptor, parse_descriptor
from connector_psi.node.node import OWNER, QUERIER
from connector_psi.storage import witnesses
from connector_psi.witness.cosigning import WitnessAnswer
from tests.integration import live
from tests.simulation.casework import ask_about_sought
from tests.simulation.federation import Federation, alert, declaration, person
from tests.simulation.prepared import Prepared

BOX = (IdentifierType.CONTAINER, "CSQU3054383")
CODE = "SIS-OBJ:ics2-sis"
CUS47 = "CUS-47:coastguard-ics2"
# Who is none of the two authorities of an agreement between customs and N.SIS.
THIRD = "coastguard"


class Witnessed(Federation):
    """Every agreement wants one witness, on synthetic data too."""

    edits = (("    witnesses: 1\n", "    witnesses: 1\n    witnesses_synthetic: 1\n"),)


@pytest.fixture(scope="module")
def beginning(tmp_path_factory: pytest.TempPathFactory) -> Prepared[Witnessed]:
    made = Witnessed(tmp_path_factory.mktemp("begun") / "nodes", profiles=("ics2", "sis", THIRD))
    made.services["ics2"].registration.register([declaration("M1", BOX)], "test")
    made.services["sis"].registration.register([alert("DE1", BOX)], "test")
    return Prepared(made)


@pytest.fixture
def federation(beginning: Prepared[Witnessed], tmp_path: Path) -> Iterator[Federation]:
    made = beginning.copy(tmp_path / "nodes")
    yield made
    made.close()


def log_turns(federation: Federation, *codes: str) -> None:
    for code in codes:
        federation.services[code].tick_log()
        federation.services[code].tick_witnesses()


def settle(federation: Federation) -> None:
    """Policies are cosigned first; nothing is published or asked before."""
    log_turns(federation, *federation.services)
    federation.settle()


def matches(federation: Federation) -> list[str]:
    return [row.agreement for row in federation.services["ics2"].review.list()]


def head(federation: Federation, code: str) -> Checkpoint:
    found = federation.services[code].node.signed_checkpoint()
    assert found is not None
    return found


def key_of(federation: Federation, code: str) -> NoteSigner:
    return federation.services[code].node.signer


def asked(federation: Federation, code: str, note: bytes, old_size: int, by: str = THIRD) -> WitnessAnswer:
    return federation.services[by].witnessing.add_checkpoint(code, Submission(old_size, (), note))


# Cosigning


def test_every_peer_cosigns_the_newest_checkpoint_and_the_note_says_so(federation: Federation) -> None:
    log_turns(federation, "ics2")
    note = parse_note(federation.services["ics2"].oversight.checkpoint())
    keys = [
        parse_witness_key(parse_descriptor((federation.root / code / "descriptor.json").read_bytes()).witness_vkey)
        for code in ("sis", THIRD)
    ]
    assert [said.name for said in verify_cosignatures(note, keys)] == [key.name for key in keys]
    assert {said.time_s for said in verify_cosignatures(note, keys)} == {int(federation.clock.now().timestamp())}
    for code in ("sis", THIRD):
        with federation.services[code].node.store.read() as tx:
            held = witnesses.latest(tx, key_of(federation, "ics2").name)
        assert held is not None
        assert held.size == head(federation, "ics2").size


def test_a_log_that_grows_is_cosigned_again_and_one_that_does_not_is_left_alone(federation: Federation) -> None:
    service = federation.services["ics2"]
    for _ in range(3):
        service.registration.register([declaration(f"N{head(federation, 'ics2').size}")], "test") if _ else None
        service.tick_log()
        assert service.tick_witnesses() == 2
        assert service.tick_witnesses() == 0


def test_a_peer_that_is_away_keeps_no_other_from_cosigning(federation: Federation) -> None:
    federation.close("sis")
    service = federation.services["ics2"]
    service.tick_log()
    with pytest.raises(UnavailableError):
        service.tick_witnesses()
    log = service.status()["log"]
    assert isinstance(log, dict)
    assert log["witnesses"] == {
        f"connector-psi.internal/witness/{THIRD}": head(federation, "ics2").size,
        "connector-psi.internal/witness/sis": 0,
    }
    federation.open("sis")
    assert service.tick_witnesses() == 1


def test_in_the_loop_a_witness_that_fails_is_left_alone_for_a_while_and_slows_no_other(federation: Federation) -> None:
    federation.close("sis")
    service = federation.services["ics2"]
    calls: list[str] = []
    federation.fault = lambda name: calls.append(name) if name == "before:add_checkpoint" else None
    for n in range(60):
        service.registration.register([declaration(f"W{n}")], "test")
        service.tick_log()
        assert service.witnessing.advance() == 1
        federation.clock.advance(1)
    # Sixty of the one that is there, and few of the one that is away: 1/4, 1/2, 1, 2, 4, ... seconds apart.
    assert 60 + 5 <= len(calls) <= 60 + 12
    federation.open("sis")
    federation.clock.advance(31)
    service.tick_log()
    assert service.witnessing.advance() == 1
    log = service.status()["log"]
    assert isinstance(log, dict)
    assert set(log["witnesses"].values()) == {head(federation, "ics2").size}


def test_a_witness_that_lost_its_memory_is_asked_from_the_start(federation: Federation) -> None:
    log_turns(federation, "ics2")
    with federation.services[THIRD].node.store.write() as tx:
        witnesses.put_latest(tx, witnesses.WitnessedRow("nobody", 1, b"x", 0))
        tx.exec_driver_sql("DELETE FROM witnessed WHERE origin LIKE '%ics2'")
    federation.services["ics2"].registration.register([declaration("M2")], "test")
    log_turns(federation, "ics2")
    status = federation.services["ics2"].status()["log"]
    assert isinstance(status, dict)
    assert set(status["witnesses"].values()) == {head(federation, "ics2").size}


def test_a_peer_has_its_own_log_cosigned_and_no_other(federation: Federation) -> None:
    log_turns(federation, "ics2")
    note = federation.services["ics2"].oversight.checkpoint()
    assert asked(federation, "sis", note, 0).refusal is Refusal.UNKNOWN_LOG
    assert asked(federation, "ics2", b"nothing", 0).refusal is Refusal.MALFORMED
    assert asked(federation, "ics2", note, 0).refusal is Refusal.OTHER_SIZE
    other = sign_note(encode_checkpoint(head(federation, "ics2")), [key_of(federation, "sis")])
    assert asked(federation, "ics2", other, 0).refusal is Refusal.NOT_SIGNED
    federation.services[THIRD].revoke("ics2")
    with pytest.raises(PurposeRefusedError):
        asked(federation, "ics2", note, 0)


@pytest.mark.parametrize("lines", [b"", b"nonsense\n", "\u2014 connector-psi.internal/witness/sis AAAAAAA=\n".encode()])
def test_a_cosignature_that_does_not_verify_is_not_kept(
    federation: Federation, monkeypatch: pytest.MonkeyPatch, lines: bytes
) -> None:
    monkeypatch.setattr(federation.services["sis"].witnessing, "add_checkpoint", lambda *_: WitnessAnswer(None, lines))
    service = federation.services["ics2"]
    service.tick_log()
    with pytest.raises(PeerError):
        service.tick_witnesses()
    with service.node.store.read() as tx:
        assert service.node.entries.cosigned_by(tx, "connector-psi.internal/witness/sis") == 0


def test_whoever_must_not_notice_what_a_node_does_is_not_asked_to_cosign_it(federation: Federation) -> None:
    """Under SIS-CHK customs gets no notice: how the log of N.SIS grows would be one."""
    log_turns(federation, "sis")
    with federation.services["ics2"].node.store.read() as tx:
        assert witnesses.latest(tx, key_of(federation, "sis").name) is None
    with federation.services[THIRD].node.store.read() as tx:
        assert witnesses.latest(tx, key_of(federation, "sis").name) is not None


# What waits


def test_nothing_is_exchanged_before_somebody_outside_the_agreement_cosigned(federation: Federation) -> None:
    federation.close(THIRD)
    for _ in range(3):
        for code in ("ics2", "sis"):
            service = federation.services[code]
            service.tick_log()
            with pytest.raises(UnavailableError):
                service.tick_witnesses()
            with pytest.raises(UnavailableError, match="the policy waits for its witnesses"):
                service.node.bound(CODE, QUERIER if code == "ics2" else OWNER)
            assert CODE not in {*service.publishing.runnable(), *service.publishing.due()}
    federation.open(THIRD)
    settle(federation)
    assert CODE in matches(federation)


def test_a_disclosure_waits_for_its_witness_and_is_verified_with_it(federation: Federation) -> None:
    settle(federation)
    request_id = ask_about_sought(federation)
    settle(federation)
    federation.services["sis"].received.decide(request_id, person("sis"), "the sought box", approve=True)
    federation.close(THIRD)

    def turns(rounds: int) -> str:
        for _ in range(rounds):
            federation.clock.advance(10)
            for code in ("sis", "ics2"):
                service = federation.services[code]
                for turn in (
                    service.tick_owned_cases,
                    service.tick_log,
                    service.tick_witnesses,
                    service.tick_queried_cases,
                ):
                    try:
                        turn()
                    except UnavailableError:
                        continue
        return federation.services["ics2"].cases.get(request_id).row.state

    assert turns(10) == CaseState.PENDING
    federation.open(THIRD)
    assert turns(3) == CaseState.DISCLOSED
    receipt = federation.services["ics2"].cases.get(request_id).row.payload["outcome"]["receipt"]
    note = parse_note(receipt["checkpoint"].encode())
    trust = federation.services["ics2"].node.trust(
        next(b.agreement for b in federation.services["ics2"].node.agreements() if b.code == CODE), "sis"
    )
    assert trust.suffices(note)
    # Without the line of the third it does not: the parties' own words do not count alone.
    only = type(note)(note.text, tuple(s for s in note.signatures if not s.name.endswith(THIRD)))
    assert not trust.suffices(only)


@pytest.mark.parametrize("what", ["set", "delta"])
def test_a_querier_takes_no_set_and_no_delta_without_the_witness_whatever_the_owner_thinks(
    federation: Federation, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    settle(federation)
    sis, ics2 = federation.services["sis"], federation.services["ics2"]
    monkeypatch.setattr(sis.node, "_witnessed", lambda tx, _least, _terms: _newest(sis.node, tx))
    sis.registration.register([alert("DE2", BOX)], "test")
    federation.clock.advance(5)
    if what == "set":
        sis.publish()
    else:
        assert sis.tick_deltas()
        sis.tick_log()
    with pytest.raises(PeerError, match="not under the witnesses that the agreement wants"):
        ics2.tick_query()


def _newest(node: object, tx: object) -> tuple[bytes, int]:
    note = node.entries.latest_checkpoint(tx)  # type: ignore[attr-defined]
    return note, node.signed_checkpoint().size  # type: ignore[attr-defined]


# Forks


def test_a_peer_that_signed_two_histories_is_named_kept_with_both_notes_and_dealt_with_no_more(
    federation: Federation,
) -> None:
    settle(federation)
    log_turns(federation, THIRD)
    signed = head(federation, THIRD)
    forged = sign_note(
        encode_checkpoint(Checkpoint(signed.origin, signed.size, bytes(32))), [key_of(federation, THIRD)]
    )
    answer = asked(federation, THIRD, forged, signed.size, by="ics2")
    assert (answer.refusal, answer.lines) == (Refusal.FORK, b"")
    service = federation.services["ics2"]
    with service.node.store.read() as tx:
        (fork,) = witnesses.list_forks(tx)
    assert (fork.origin, fork.size, fork.second) == (signed.origin, signed.size, forged)
    assert parse_note(fork.first).text == encode_checkpoint(signed)
    with pytest.raises(PurposeRefusedError, match="the peer's log signed two histories"):
        service.node.bound(CUS47, OWNER)
    assert {a["code"] for a in service.status()["alarms"]} == {"peer.log_forked"}  # type: ignore[union-attr,attr-defined]
    evidence = verify_fork(service.node.layout.evidence(THIRD, signed.size))
    assert (evidence["origin"], evidence["forked"], evidence["failures"]) == (signed.origin, True, [])
    # Also what continues the first history is not cosigned any more, here or after a restart.
    federation.close("ics2")
    federation.open("ics2")
    federation.services[THIRD].registration.register([declaration("X7")], "test")
    federation.services[THIRD].tick_log()
    with pytest.raises(PeerError, match="fork"):
        federation.services[THIRD].tick_witnesses()
    with pytest.raises(PurposeRefusedError, match="two histories"):
        federation.services["ics2"].node.bound(CUS47, OWNER)


def test_a_peer_that_comes_back_with_another_log_key_is_another_log(federation: Federation) -> None:
    """An administrator adds it again, out of band and logged: what the old key signed is no word of the new one."""
    settle(federation)
    log_turns(federation, THIRD)
    signed = head(federation, THIRD)
    forged = sign_note(
        encode_checkpoint(Checkpoint(signed.origin, signed.size, bytes(32))), [key_of(federation, THIRD)]
    )
    asked(federation, THIRD, forged, signed.size, by="ics2")
    service, node = federation.services["ics2"], federation.services[THIRD].node
    assert service.node.is_forked(THIRD)
    renewed = NoteSigner(signed.origin, Ed25519PrivateKey.from_private_bytes(bytes([3]) * 32))
    descriptor = parse_descriptor((federation.root / THIRD / "descriptor.json").read_bytes())
    changed = descriptor.model_copy(update={"log_vkey": encode_vkey(renewed.vkey)})
    service.peering.add(encode_descriptor(changed, node.signing_key))
    assert not service.node.is_forked(THIRD)
    note = sign_note(encode_checkpoint(Checkpoint(signed.origin, 3, bytes(32))), [renewed])
    assert asked(federation, THIRD, note, 0, by="ics2").refusal is None
    assert asked(federation, THIRD, forged, signed.size, by="ics2").refusal is Refusal.NOT_SIGNED


def test_a_witness_that_is_far_behind_the_others_still_counts(federation: Federation) -> None:
    settle(federation)
    service = federation.services["ics2"]
    federation.close(THIRD)
    size = head(federation, "ics2").size
    for n in range(70):
        service.registration.register([declaration(f"L{n}")], "test")
        service.tick_log()
        with pytest.raises(UnavailableError):
            service.tick_witnesses()
    agreement = next(b.agreement for b in service.node.agreements() if b.code == CODE)
    assert service.node.leaf_proof(0, agreement).checkpoint
    with pytest.raises(UnavailableError):
        service.node.leaf_proof(size + 5, agreement)


@pytest.mark.parametrize("grown", [0, 1, 30])
def test_a_node_that_was_restored_whole_stops_once_a_witness_shows_what_it_signed(
    federation: Federation, tmp_path: Path, grown: int
) -> None:
    """The guard is restored with the database, so that only witnesses know better."""
    settle(federation)
    federation.close("sis")
    backup = tmp_path / "backup"
    shutil.copytree(federation.root / "sis", backup)
    federation.open("sis")
    federation.services["sis"].registration.register([alert("DE8"), alert("DE9")], "test")
    log_turns(federation, "sis")
    lost = head(federation, "sis")
    federation.close("sis")
    shutil.rmtree(federation.root / "sis")
    shutil.copytree(backup, federation.root / "sis")
    service = federation.open("sis")
    for n in range(grown):
        service.registration.register([alert(f"FR{n}")], "test")
    service.tick_log()
    with pytest.raises(LogForkError, match=f"a checkpoint of size {lost.size} that this node signed"):
        service.tick_witnesses()
    assert service.node.fatal is not None
    with pytest.raises(LogForkError):
        service.registration.register([alert("XX")], "test")
    with service.node.store.read() as tx:
        (fork,) = witnesses.list_forks(tx)
    assert parse_note(fork.second).text == encode_checkpoint(lost)
    kept = verify_fork(service.node.layout.evidence("sis", lost.size))
    own = head(federation, "sis").size
    assert (kept["first"]["size"], kept["second"]["size"]) == (own, lost.size)
    # Proven by itself where this log has as many entries as were signed; else the leaves between are lost.
    assert kept["forked"] is (own >= lost.size)
    federation.close("sis")
    with pytest.raises(LogForkError, match="that a witness holds"):
        federation.open("sis")


def test_a_witness_that_shows_what_the_node_never_signed_does_not_stop_it(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(federation)
    signed = head(federation, "ics2")
    forged = sign_note(
        encode_checkpoint(Checkpoint(signed.origin, signed.size + 5, bytes(32))), [key_of(federation, "sis")]
    )
    monkeypatch.setattr(
        federation.services["sis"].witnessing,
        "add_checkpoint",
        lambda *_: WitnessAnswer(Refusal.OTHER_SIZE, held=forged, held_size=signed.size + 5),
    )
    service = federation.services["ics2"]
    service.registration.register([declaration("M9")], "test")
    service.tick_log()
    with pytest.raises(PeerError, match="did not sign"):
        service.tick_witnesses()
    assert service.node.fatal is None


def test_a_bundle_carries_what_the_node_found_of_other_logs(federation: Federation, tmp_path: Path) -> None:
    settle(federation)
    log_turns(federation, THIRD)
    signed = head(federation, THIRD)
    forged = sign_note(
        encode_checkpoint(Checkpoint(signed.origin, signed.size, bytes(32))), [key_of(federation, THIRD)]
    )
    asked(federation, THIRD, forged, signed.size, by="ics2")
    federation.close("ics2")
    done = live.run("log", "export", federation.root / "ics2", "--evidence", tmp_path / "bundle", "--json")
    assert (done.code, done.json["verified"]) == (0, True)
    report = verify_bundle(tmp_path / "bundle")
    assert f"the log {signed.origin} signed two histories" in report["checked"]
    cosigned = [text for text in report["checked"] if "cosigned the first" in text]
    assert len(cosigned) == 2
