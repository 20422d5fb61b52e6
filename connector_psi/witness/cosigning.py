"""Cosigning checkpoints of other logs: a node does it for its peers, a stand-alone witness for whomever it is told.

Rules, after C2SP tlog-witness:

1. What was cosigned last, the decision and what is cosigned now are one transaction; the caller commits it before the
   answer leaves.
2. A log that signed two roots of one size is kept with both notes, and never cosigned again.
"""

from __future__ import annotations

from dataclasses import dataclass

from connector_psi.audit.checkpoint import VKey, encode_signature, parse_checkpoint, parse_note, verify_checkpoint
from connector_psi.audit.cosignature import Cosigner
from connector_psi.audit.witness import Refusal, Submission, judge
from connector_psi.errors import FormatError, ProofInvalidError
from connector_psi.storage import witnesses
from connector_psi.storage.store import Tx
from connector_psi.storage.witnesses import ForkRow, WitnessedRow


@dataclass(frozen=True, slots=True)
class WitnessAnswer:
    """What a witness answers: signature lines, or why not; and the checkpoint that it holds of the log."""

    refusal: Refusal | None
    lines: bytes = b""
    held: bytes = b""
    """The signed note that it cosigned last; empty for none, or where it does not show it."""
    held_size: int = 0
    """Its size."""


def cosign(tx: Tx, cosigner: Cosigner, vkey: VKey | None, submission: Submission, now_ms: int) -> WitnessAnswer:
    """Cosign a checkpoint if it continues what was cosigned before.

    Args:
        tx: To be committed before the answer leaves.
        cosigner: The witness.
        vkey: Key of the log that the submission names; None if the witness has none.
        submission: From anywhere.
        now_ms: Unix milliseconds.
    """
    row = witnesses.latest(tx, vkey.name) if vkey else None
    if row is not None and vkey is not None and not _is_of(row.note, vkey):
        # The log was given another key, out of band: it is another log, and nothing is known of it.
        row = None
    held = parse_checkpoint(parse_note(row.note).text) if row else None
    judged = judge(submission, vkey, held)
    held_note, held_size = (row.note, row.size) if row else (b"", 0)
    if judged.refusal is Refusal.FORK and row is not None:
        witnesses.put_fork(tx, ForkRow(row.origin, row.size, row.note, submission.checkpoint, now_ms))
    if judged.refusal is None and vkey is not None and is_forked(tx, vkey):
        return WitnessAnswer(Refusal.FORK, held=held_note, held_size=held_size)
    if judged.refusal is not None or judged.checkpoint is None:
        return WitnessAnswer(judged.refusal, held=held_note, held_size=held_size)
    new = judged.checkpoint
    # Also where nothing grew: the time in the cosignature says until when this was the latest.
    witnesses.put_latest(tx, WitnessedRow(new.origin, new.size, submission.checkpoint, now_ms))
    line = cosigner.cosign(parse_note(submission.checkpoint).text, now_ms // 1000)
    return WitnessAnswer(None, encode_signature(line), submission.checkpoint, new.size)


def is_forked(tx: Tx, vkey: VKey) -> bool:
    """Return whether a log is known to have signed two histories with this key."""
    return any(_is_of(fork.first, vkey) for fork in witnesses.list_forks(tx) if fork.origin == vkey.name)


def _is_of(note: bytes, vkey: VKey) -> bool:
    try:
        verify_checkpoint(note, vkey, vkey.name)
    except (FormatError, ProofInvalidError):
        return False
    return True
