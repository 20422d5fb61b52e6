"""Cosignatures: a witness says that it saw a checkpoint, and when, and that it continues all it saw before.

Decides: what a cosignature signs and how it stands in a note, whose counts. Leaves to others: whether a checkpoint
continues an earlier one (``merkle``), keeping what was seen (``node``), notes and checkpoints (``checkpoint``).

Source: C2SP tlog-cosignature v1, with Ed25519: signature type 0x04, a timestamp before the signature.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from connector_psi.audit.checkpoint import Note, NoteSignature, check_name, parse_checkpoint
from connector_psi.errors import FormatError, ProofInvalidError

COSIGNATURE = b"\x04"
"""Signature type of a timestamped Ed25519 cosignature in a key ID."""
_SIGNATURE_BYTES = 64
_TIME_BYTES = 8
_MAX_TIME_S = 2**63 - 1
_MAX_VKEY = 1024


@dataclass(frozen=True)
class WitnessKey:
    """The public key of a witness: an Ed25519 key that cosigns under a name."""

    name: str
    public_key: bytes

    @property
    def key_id(self) -> bytes:
        """The 4 bytes that a signature line carries."""
        return sha256(self.name.encode("utf-8") + b"\n" + COSIGNATURE + self.public_key).digest()[:4]


@dataclass(frozen=True)
class Cosigned:
    """A cosignature that verified."""

    name: str
    time_s: int
    """Unix seconds; when the witness says that it saw the checkpoint."""


class Cosigner:
    """Cosigns checkpoints under a name. Refuses pickling; its ``repr`` shows the public part only.

    Args:
        name: Key name of the witness.
        key: The private key; another one than signs the witness's own log, since the key IDs differ.

    Raises:
        FormatError: Not a key name.
    """

    def __init__(self, name: str, key: Ed25519PrivateKey) -> None:
        check_name(name)
        self._key = key
        self.key = WitnessKey(name, key.public_key().public_bytes_raw())

    def cosign(self, text: str, time_s: int) -> NoteSignature:
        """Return the cosignature line of a checkpoint's text.

        Args:
            text: Of the checkpoint, newline at its end included.
            time_s: Unix seconds.

        Raises:
            FormatError: The text is no checkpoint, or the time out of range.
        """
        signature = self._key.sign(_signed(text, time_s))
        return NoteSignature(self.key.name, self.key.key_id, struct.pack(">Q", time_s) + signature)

    def __repr__(self) -> str:
        return f"Cosigner({encode_witness_key(self.key)!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a cosigner holds a private key and is not pickled")


def encode_witness_key(key: WitnessKey) -> str:
    """Return ``name+hex(key ID)+base64(0x04 || public key)``."""
    return f"{key.name}+{key.key_id.hex()}+{base64.b64encode(COSIGNATURE + key.public_key).decode()}"


def parse_witness_key(text: str) -> WitnessKey:
    """Return the key; the exact inverse of ``encode_witness_key``.

    Raises:
        FormatError: Another form, another signature type, or a key ID that is not this key's.
    """
    parts = text.split("+", 2)
    if len(text) > _MAX_VKEY or len(parts) != 3:
        raise FormatError("witness key: not name+id+key")
    check_name(parts[0])
    try:
        raw = base64.b64decode(parts[2], validate=True)
    except (binascii.Error, ValueError):
        raise FormatError("witness key: not base64") from None
    if raw[:1] != COSIGNATURE or len(raw) != 33:
        raise FormatError("witness key: not an Ed25519 key of a witness")
    key = WitnessKey(parts[0], raw[1:])
    if encode_witness_key(key) != text:
        raise FormatError("witness key: key ID does not belong to the key, or not canonical")
    return key


def verify_cosignatures(note: Note, keys: Sequence[WitnessKey]) -> list[Cosigned]:
    """Return what the witnesses with these keys said of a note's checkpoint, in the order of the keys, each once.

    Lines of other keys are passed over. A line that a known key should have made and did not make spoils the whole
    note, and so do two of one witness.

    Args:
        note: From ``parse_note``; its text must be a checkpoint.
        keys: Trusted witnesses.

    Raises:
        FormatError: The text is no checkpoint.
        ProofInvalidError: A cosignature of a known key does not verify, or stands twice.
    """
    found = []
    for key in keys:
        lines = [line for line in note.signatures if (line.name, line.key_id) == (key.name, key.key_id)]
        if not lines:
            continue
        if len(lines) > 1 or len(lines[0].signature) != _TIME_BYTES + _SIGNATURE_BYTES:
            raise ProofInvalidError("note: a witness stands twice, or its cosignature has a wrong length")
        (time_s,) = struct.unpack_from(">Q", lines[0].signature)
        try:
            Ed25519PublicKey.from_public_bytes(key.public_key).verify(
                lines[0].signature[_TIME_BYTES:], _signed(note.text, time_s)
            )
        except (InvalidSignature, ValueError, FormatError):
            raise ProofInvalidError("note: a cosignature of a trusted witness does not verify") from None
        found.append(Cosigned(key.name, time_s))
    return found


@dataclass(frozen=True)
class Trust:
    """Whose cosignatures count for one log, and how many are wanted.

    Attributes:
        witnesses: Trusted keys, each with the authority that it belongs to, or None for one of no authority.
        wanted: So many different ones.
        log: Authority whose log it is: what it says of itself counts for nothing.
        parties: Authorities of the agreement; at least one witness must be none of them.
    """

    witnesses: Mapping[WitnessKey, str | None]
    wanted: int
    log: str
    parties: frozenset[str]

    def suffices(self, note: Note) -> bool:
        """Return whether a note is cosigned as wanted.

        Raises:
            FormatError: The note is no checkpoint.
            ProofInvalidError: A cosignature of a trusted key does not verify.
        """
        if not self.wanted:
            return True
        owners = {key.name: whose for key, whose in self.witnesses.items() if whose != self.log}
        keys = [key for key in self.witnesses if key.name in owners]
        found = [owners[said.name] for said in verify_cosignatures(note, keys)]
        return len(found) >= self.wanted and any(whose not in self.parties for whose in found)


def _signed(text: str, time_s: int) -> bytes:
    parse_checkpoint(text)
    if not 0 <= time_s <= _MAX_TIME_S:
        raise FormatError("cosignature: time out of range")
    return f"cosignature/v1\ntime {time_s}\n{text}".encode()
