"""What a witness does with a checkpoint that it is asked to cosign, and the text form of the question.

Decides: whether a checkpoint continues what the witness cosigned before, and which refusal says what is wrong. Leaves
to others: keeping what was cosigned in the same transaction (``node.witnessing``, ``witness``), the signature
(``cosignature``), transport.

Source: C2SP tlog-witness, add-checkpoint. An old size of 0 is allowed there, with an empty proof, and so it is here;
RFC 9162 has no such proof.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from connector_psi.audit.checkpoint import (
    MAX_NOTE_BYTES,
    MAX_PROOF_HASHES,
    Checkpoint,
    VKey,
    parse_checkpoint,
    parse_note,
    verify_checkpoint,
)
from connector_psi.audit.merkle import HASH_BYTES, empty_root, verify_consistency
from connector_psi.errors import FormatError, ProofInvalidError

MAX_SUBMISSION_BYTES: Final = MAX_NOTE_BYTES + 64 * 1024
_MAX_SIZE = 2**63 - 1


class Refusal(StrEnum):
    """Why a witness does not cosign."""

    MALFORMED = "malformed"
    """Not in the form, or the old size is above that of the checkpoint."""
    UNKNOWN_LOG = "unknown_log"
    """The witness has no key for this origin."""
    NOT_SIGNED = "not_signed"
    """No signature of the log's key verifies."""
    OTHER_SIZE = "other_size"
    """The witness cosigned another size last; the answer says which."""
    FORK = "fork"
    """The witness cosigned another root of this very size: the log signed two histories."""
    INCONSISTENT = "inconsistent"
    """The proof does not show that this tree continues the one cosigned last."""


HTTP_STATUS: Final = {
    Refusal.MALFORMED: 400,
    Refusal.NOT_SIGNED: 403,
    Refusal.UNKNOWN_LOG: 404,
    Refusal.OTHER_SIZE: 409,
    Refusal.FORK: 409,
    Refusal.INCONSISTENT: 422,
}


@dataclass(frozen=True, slots=True)
class Submission:
    """What a witness is asked: to cosign a checkpoint that continues the tree of ``old_size`` leaves."""

    old_size: int
    proof: tuple[bytes, ...]
    checkpoint: bytes
    """The signed note."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What follows: a checkpoint to keep and cosign, or a refusal."""

    refusal: Refusal | None
    checkpoint: Checkpoint | None = None
    """As the log signed it; None where nothing says that it did."""


def origin_of(note: bytes) -> str:
    """Return which log a note says that it is of; nothing is verified.

    Raises:
        FormatError: Not a checkpoint.
    """
    return parse_checkpoint(parse_note(note).text).origin


def judge(submission: Submission, vkey: VKey | None, held: Checkpoint | None) -> Judged:
    """Decide about a checkpoint; never raises for what it finds.

    Args:
        submission: From anywhere.
        vkey: The key that the witness has for the origin of the submission, None for none.
        held: The checkpoint of that log that the witness cosigned last, None for none.
    """
    try:
        origin = origin_of(submission.checkpoint)
    except FormatError:
        return Judged(Refusal.MALFORMED)
    if vkey is None:
        return Judged(Refusal.UNKNOWN_LOG)
    try:
        new = verify_checkpoint(submission.checkpoint, vkey, origin)
    except (FormatError, ProofInvalidError):
        return Judged(Refusal.NOT_SIGNED)
    if not 0 <= submission.old_size <= new.size:
        return Judged(Refusal.MALFORMED, new)
    if held is not None and held.size == new.size and held.root != new.root:
        # Whatever old size was claimed: the log signed both.
        return Judged(Refusal.FORK, new)
    if submission.old_size != (held.size if held else 0):
        return Judged(Refusal.OTHER_SIZE, new)
    try:
        old_root = held.root if held else empty_root()
        verify_consistency(submission.old_size, old_root, new.size, new.root, submission.proof)
    except ProofInvalidError:
        return Judged(Refusal.INCONSISTENT, new)
    return Judged(None, new)


def encode_submission(submission: Submission) -> bytes:
    """Return the body of an ``add-checkpoint`` request; the exact inverse of ``parse_submission``."""
    lines = [f"old {submission.old_size}", *(base64.b64encode(h).decode("ascii") for h in submission.proof), "", ""]
    return "\n".join(lines).encode("ascii") + submission.checkpoint


def parse_submission(raw: bytes) -> Submission:
    """Split the body of an ``add-checkpoint`` request.

    Raises:
        FormatError: Not in the form, too long, or more than 63 hashes.
    """
    if len(raw) > MAX_SUBMISSION_BYTES:
        raise FormatError("add-checkpoint: too long")
    head, separator, checkpoint = raw.partition(b"\n\n")
    try:
        first, *lines = head.decode("ascii").split("\n")
        number = first.removeprefix("old ")
        proof = tuple(base64.b64decode(line, validate=True) for line in lines)
    except (UnicodeDecodeError, binascii.Error, ValueError):
        raise FormatError("add-checkpoint: not an old size and a proof") from None
    canonical = number.isdecimal() and number.isascii() and len(number) <= len(str(_MAX_SIZE)) and str(int(number))
    if not separator or not first.startswith("old ") or canonical != number or int(number) > _MAX_SIZE:
        raise FormatError("add-checkpoint: no old size")
    if len(proof) > MAX_PROOF_HASHES or any(len(digest) != HASH_BYTES for digest in proof):
        raise FormatError("add-checkpoint: not a proof of at most 63 hashes")
    if [base64.b64encode(digest).decode("ascii") for digest in proof] != lines:
        raise FormatError("add-checkpoint: not base64 in its one form")
    return Submission(int(number), proof, checkpoint)
