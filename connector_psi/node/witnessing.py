"""Witnesses: this node cosigns the logs of its peers, and has its own checkpoints cosigned.

Rules:

1. A peer has its own log cosigned and no other. A cosignature leaves once what it says is on the disk
   (``witness.cosigning``).
2. Of this node's own log the newest signed checkpoint is brought to every witness that did not cosign it yet; what
   comes back counts once its signature verifies. Peers from whom an agreement has this node keep silent are not
   asked: how its log grows would tell them when people here work on a match.
3. A witness that shows a checkpoint of this node's own key which is no prefix of this log proves that the node was
   restored from an older state, or runs twice. Both notes are kept, and the node stops.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import structlog

from connector_psi.audit.checkpoint import (
    Checkpoint,
    Note,
    VKey,
    encode_signature,
    parse_note,
    parse_signatures,
    parse_vkey,
    verify_checkpoint,
)
from connector_psi.audit.cosignature import Cosigner, WitnessKey, verify_cosignatures
from connector_psi.audit.witness import Refusal, Submission, origin_of
from connector_psi.errors import (
    AuditError,
    ConnectorError,
    FormatError,
    LogForkError,
    PeerError,
    ProofInvalidError,
    ProtocolError,
)
from connector_psi.node.descriptor import witness_name
from connector_psi.node.node import Node
from connector_psi.node.ports import Connector
from connector_psi.storage import witnesses as store
from connector_psi.storage.witnesses import ForkRow
from connector_psi.witness.cosigning import WitnessAnswer, cosign
from connector_psi.witness.evidence import write_evidence

logger = structlog.get_logger("connector_psi.node")

MAX_PAUSE_S = 30.0
"""Between two attempts at a witness that fails."""


class Witnessing:
    """Use cases of witnesses, in both roles."""

    def __init__(self, node: Node, connector: Connector) -> None:
        self._node = node
        self._connector = connector
        self._cosigner = Cosigner(witness_name(node.authority), node.keyring.witness_key)
        self._asked: set[WitnessKey] = set()
        """Since this node was opened: whoever was not yet may know that an older state was restored."""
        self._failures: dict[WitnessKey, int] = {}
        self._not_before: dict[WitnessKey, float] = {}

    # As a witness

    def add_checkpoint(self, peer: str, submission: Submission) -> WitnessAnswer:
        """Cosign a checkpoint of a peer's log, if it continues what this node saw of it.

        Args:
            peer: Who asks.
            submission: What it wants cosigned.

        Raises:
            PurposeRefusedError: Not an active peer.
        """
        node = self._node
        node.check_alive()
        vkey = parse_vkey(node.peer(peer).log_vkey)
        try:
            known = vkey if origin_of(submission.checkpoint) == vkey.name else None
        except FormatError:
            known = vkey
        with node.store.write() as tx:
            answer = cosign(tx, self._cosigner, known, submission, node.now_ms())
        if answer.refusal is Refusal.FORK:
            node.refresh_peers()
            self._keep_fork(peer, vkey)
        return answer

    def _keep_fork(self, peer: str, vkey: VKey) -> None:
        with self._node.store.read() as tx:
            forks = [row for row in store.list_forks(tx) if row.origin == vkey.name]
        for row in forks:
            write_evidence(self._node.layout.evidence(peer, row.size), row.first, row.second, vkey)
            logger.error("peer.log_forked", peer=peer, size=row.size)

    # As a log

    def collect(self) -> int:
        """Have the newest checkpoint cosigned by every witness that did not yet. Returns how many did.

        Raises:
            LogForkError: A witness proves that this log signed another history. The node stops.
            ConnectorError: The first failure of a witness, after all had their turn.
        """
        done, failure = 0, None
        for key, error in self._turns(self._node.asked_witnesses()):
            done += error is None
            failure = failure or error
            self._pause(key, error)
        if failure is not None:
            raise failure
        return done

    def advance(self) -> int:
        """A turn of the loop: as ``collect``, but a witness that fails is left alone for a while and no failure of the
        loop, so that one that is away does not slow the others down. Returns how many cosigned.

        Raises:
            LogForkError: As there.
        """
        now, done = self._node.clock.monotonic_s(), 0
        due = {k: w for k, w in self._node.asked_witnesses().items() if self._not_before.get(k, 0.0) <= now}
        for key, error in self._turns(due):
            done += error is None
            failures = self._pause(key, error)
            if error is not None and failures in {1, 10, 100}:
                logger.warning(
                    "witness.failed", witness=key.name, code=error.code, detail=str(error), failures=failures
                )
        return done

    def _turns(self, asked: Mapping[WitnessKey, str | None]) -> Iterator[tuple[WitnessKey, ConnectorError | None]]:
        node = self._node
        node.check_alive()
        signed = node.signed_checkpoint()
        if signed is None:
            return
        for key, whose in asked.items():
            with node.store.read() as tx:
                before = min(node.entries.cosigned_by(tx, key.name), signed.size)
            if before == signed.size and key in self._asked:
                continue
            try:
                self._ask(key, whose, signed, before)
            except AuditError:
                raise
            except ConnectorError as error:
                yield key, error
            else:
                self._asked.add(key)
                yield key, None

    def _pause(self, key: WitnessKey, error: ConnectorError | None) -> int:
        """Note a failure or its end; returns how many there were in a row."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1 if error else 0
        pause_s = min(2.0 ** (failures - 3), MAX_PAUSE_S) if failures else 0.0
        self._not_before[key] = self._node.clock.monotonic_s() + pause_s
        return failures

    def _ask(self, key: WitnessKey, whose: str | None, signed: Checkpoint, before: int) -> None:
        answer = self._submit(key, whose, signed, before)
        if answer.refusal is Refusal.OTHER_SIZE:
            held = self._continued(answer.held, signed)
            old_size = held.size if held else answer.held_size
            if old_size > signed.size:
                raise PeerError(f"witness {key.name}: says that it cosigned size {old_size}, and does not show it")
            answer = self._submit(key, whose, signed, old_size)
        if answer.refusal is not None:
            self._continued(answer.held, signed)
            raise PeerError(f"witness {key.name}: {answer.refusal.value}")
        self._keep(key, signed, answer.lines)

    def _submit(self, key: WitnessKey, whose: str | None, signed: Checkpoint, old_size: int) -> WitnessAnswer:
        node = self._node
        with node.store.read() as tx:
            note = node.entries.cosigned(tx, signed.size)
            proof = tuple(node.log.prove_consistency(tx, old_size, signed.size)) if old_size else ()
        if note is None:
            raise ProofInvalidError("log: a signed checkpoint is gone")
        port = self._connector.witness(key.name) if whose is None else self._connector.owner(whose)
        return port.add_checkpoint(Submission(old_size, proof, note))

    def _continued(self, note: bytes, signed: Checkpoint) -> Checkpoint | None:
        """Check what a witness holds of this log against the log itself.

        Raises:
            LogForkError: This node's key signed what is no prefix of its log.
            ProtocolError: What the witness holds was not signed by this node.
        """
        node = self._node
        if not note:
            return None
        try:
            held = verify_checkpoint(note, node.signer.vkey, node.signer.name)
        except (FormatError, ProofInvalidError):
            raise ProtocolError("a witness holds a checkpoint that this node did not sign") from None
        with node.store.read() as tx:
            own = node.entries.cosigned(tx, signed.size) or b""
            try:
                node.log.check_prefix(tx, held, f"witness: a checkpoint of size {held.size} that this node signed")
            except LogForkError as error:
                fork = error
                proof = node.log.prove_prefix(tx, held.size, signed.size) if 0 < held.size < signed.size else []
            else:
                return held
        # Stopped first, whatever becomes of the evidence.
        node.fail(fork)
        with node.store.write() as tx:
            store.put_fork(tx, ForkRow(held.origin, held.size, own, note, node.now_ms()))
        write_evidence(node.layout.evidence(node.authority, held.size), own, note, node.signer.vkey, proof)
        raise fork

    def _keep(self, key: WitnessKey, signed: Checkpoint, lines: bytes) -> None:
        node = self._node
        try:
            with node.store.read() as tx:
                note = node.entries.cosigned(tx, signed.size)
            text = parse_note(note or b"").text
            given = tuple(s for s in parse_signatures(lines) if (s.name, s.key_id) == (key.name, key.key_id))
            if not verify_cosignatures(Note(text, given), [key]):
                raise ProtocolError(f"witness {key.name}: its answer is not signed by its key")
        except (FormatError, ProofInvalidError):
            raise ProtocolError(f"witness {key.name}: its cosignature does not verify") from None
        with node.store.write() as tx:
            node.entries.add_cosignatures(tx, signed.size, [(key.name, encode_signature(given[0]))])
