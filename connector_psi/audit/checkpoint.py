"""Signed notes, checkpoints and receipts, in the C2SP formats that other tools read.

Decides: the exact text of each, what is refused, whose signature counts. Leaves to others: when to sign
(``audit.log``), which keys to trust (the caller passes them), what witnesses say (``audit.cosignature``; here their
lines are carried through unread: a note may hold signatures of unknown keys).

Everything parsed here comes from outside: sizes are bounded before anything is decoded, base64 is accepted in its one
canonical form, so that one statement has one byte string.

Source: C2SP signed-note v1.0.0, tlog-checkpoint, tlog-proof v1.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from connector_psi.audit.merkle import HASH_BYTES, LeafHash, verify_inclusion
from connector_psi.errors import FormatError, ProofInvalidError

# 16 signatures are the least to be accepted; post-quantum ones take 5 kB each.
MAX_SIGNATURES = 64
MAX_NOTE_BYTES = 512 * 1024
MAX_EXTRA_BYTES = 64 * 1024
MAX_PROOF_HASHES = 63

ED25519 = b"\x01"
"""Signature type of plain Ed25519 in a key ID."""

_DASH = "\u2014 "
# Surrogates have no UTF-8 form; they only come from a caller's own strings.
_NOT_IN_TEXT = re.compile("[\x00-\x09\x0b-\x1f\ud800-\udfff]")
_NOT_IN_NAME = re.compile("[\\s+\x00-\x1f\ud800-\udfff]")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")
_MAX_SIZE = 2**63 - 1
_PROOF_HEADER = "c2sp.org/tlog-proof@v1"


@dataclass(frozen=True)
class NoteSignature:
    """One signature line of a note, of a known key or not."""

    name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True)
class Note:
    """A note as it was parsed; its text means nothing before a signature was verified."""

    text: str
    signatures: tuple[NoteSignature, ...]


@dataclass(frozen=True)
class VKey:
    """A public key of the note format: an Ed25519 key that signs under a name."""

    name: str
    public_key: bytes

    @property
    def key_id(self) -> bytes:
        """The 4 bytes that a signature line carries; with the name they identify the key."""
        return sha256(self.name.encode("utf-8") + b"\n" + ED25519 + self.public_key).digest()[:4]


class NoteSigner:
    """Signs notes under a name with an Ed25519 key. Refuses pickling; its ``repr`` shows the public part only.

    Args:
        name: Key name; a log uses its origin.
        key: The private key.

    Raises:
        FormatError: The name is empty or holds white space, a control character or a plus sign.
    """

    def __init__(self, name: str, key: Ed25519PrivateKey) -> None:
        check_name(name)
        self._key = key
        self.vkey = VKey(name, key.public_key().public_bytes_raw())

    @property
    def name(self) -> str:
        """The key name."""
        return self.vkey.name

    def sign(self, text: str) -> NoteSignature:
        """Return the signature over a note text, newline at its end included."""
        return NoteSignature(self.vkey.name, self.vkey.key_id, self._key.sign(text.encode("utf-8")))

    def __repr__(self) -> str:
        return f"NoteSigner({encode_vkey(self.vkey)!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signer holds a private key and is not pickled")


def check_name(name: str) -> None:
    """Refuse what is no key name.

    Raises:
        FormatError: It is empty, or holds white space, a control character or a plus sign.
    """
    if not name or _NOT_IN_NAME.search(name):
        raise FormatError("note: not a key name")


def encode_vkey(vkey: VKey) -> str:
    """Return ``name+hex(key ID)+base64(0x01 || public key)``."""
    return f"{vkey.name}+{vkey.key_id.hex()}+{_b64(ED25519 + vkey.public_key)}"


def parse_vkey(text: str) -> VKey:
    """Return the key; the exact inverse of ``encode_vkey``.

    Raises:
        FormatError: Another form, another signature type, or a key ID that is not this key's.
    """
    if len(text) > 1024:
        raise FormatError("vkey: too long")
    parts = text.split("+", 2)
    if len(parts) != 3:
        raise FormatError("vkey: not name+id+key")
    name, key_id, encoded = parts
    check_name(name)
    key = _unb64(encoded, "vkey")
    if key[:1] != ED25519 or len(key) != 33:
        raise FormatError("vkey: not an Ed25519 key")
    vkey = VKey(name, key[1:])
    if key_id != vkey.key_id.hex():
        raise FormatError("vkey: key ID does not belong to the key")
    return vkey


def sign_note(text: str, signers: Sequence[NoteSigner]) -> bytes:
    """Return the note with one signature line per signer.

    Raises:
        FormatError: The text is no note text (it does not end in a newline, or holds a control character), or there
            are no signers.
    """
    _check_text(text)
    return encode_note(Note(text, tuple(signer.sign(text) for signer in signers)))


def encode_note(note: Note) -> bytes:
    """Return the bytes of a note; the exact inverse of ``parse_note``.

    Raises:
        FormatError: The note has no such form.
    """
    _check_text(note.text)
    if not 1 <= len(note.signatures) <= MAX_SIGNATURES:
        raise FormatError("note: number of signatures")
    for line in note.signatures:
        check_name(line.name)
    raw = (note.text + "\n").encode("utf-8") + b"".join(map(encode_signature, note.signatures))
    if parse_note(raw) != note:
        raise FormatError("note: a signature line does not have its form")
    return raw


def encode_signature(signature: NoteSignature) -> bytes:
    """Return a signature line as it stands in a note, newline at its end included."""
    return f"{_DASH}{signature.name} {_b64(signature.key_id + signature.signature)}\n".encode()


def parse_signatures(raw: bytes) -> tuple[NoteSignature, ...]:
    """Return the signatures of lines that a witness answers with; the inverse of ``encode_signature`` for each.

    Raises:
        FormatError: Not signature lines, or more than 64.
    """
    if len(raw) > MAX_NOTE_BYTES:
        raise FormatError("note: too long")
    lines = _utf8(raw, "note").split("\n")
    if lines.pop() or not 1 <= len(lines) <= MAX_SIGNATURES:
        raise FormatError("note: not signature lines")
    return tuple(_parse_signature(line) for line in lines)


def parse_note(raw: bytes) -> Note:
    """Split a note into text and signatures, and verify nothing.

    Args:
        raw: From anywhere.

    Raises:
        FormatError: Not a note, larger than 512 KiB, or more than 64 signatures.

    Source: C2SP signed-note, Format.
    """
    if len(raw) > MAX_NOTE_BYTES:
        raise FormatError("note: too long")
    content = _utf8(raw, "note")
    # The last empty line separates text from signatures: the text may hold empty lines of its own.
    text, separator, tail = content.rpartition("\n\n")
    if not separator:
        raise FormatError("note: no signatures")
    text += "\n"
    _check_text(text)
    if not tail.endswith("\n"):
        raise FormatError("note: last line is not ended")
    lines = tail[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise FormatError("note: too many signatures")
    return Note(text, tuple(_parse_signature(line) for line in lines))


def verify_note(raw: bytes, vkeys: Sequence[VKey]) -> str:
    """Return the text of a note that at least one of these keys signed.

    Signatures of unknown keys are ignored, those that share a name or an ID (but not both) with a known key too. A
    signature that a known key should have made and did not make spoils the whole note.

    Args:
        raw: From anywhere.
        vkeys: Trusted keys.

    Raises:
        FormatError: Not a note.
        ProofInvalidError: No signature of a known key, or one that does not verify.

    Source: C2SP signed-note, Signatures.
    """
    note = parse_note(raw)
    known: dict[tuple[str, bytes], VKey] = {}
    for vkey in vkeys:
        if known.setdefault((vkey.name, vkey.key_id), vkey) != vkey:
            raise ProofInvalidError("note: two trusted keys share a name and an ID")
    verified = False
    for line in note.signatures:
        key = known.get((line.name, line.key_id))
        if key is None:
            continue
        try:
            Ed25519PublicKey.from_public_bytes(key.public_key).verify(line.signature, note.text.encode("utf-8"))
        except (InvalidSignature, ValueError):
            raise ProofInvalidError("note: signature of a trusted key does not verify") from None
        verified = True
    if not verified:
        raise ProofInvalidError("note: no signature of a trusted key")
    return note.text


@dataclass(frozen=True)
class Checkpoint:
    """What a log says about itself: this many leaves have this root.

    Attributes:
        origin: Names the log.
        size: Leaves; 0 up to 2**63 - 1.
        root: 32 bytes.
        extensions: Further lines, opaque. This project writes none.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()


def encode_checkpoint(checkpoint: Checkpoint) -> str:
    """Return the note text of a checkpoint; the exact inverse of ``parse_checkpoint``.

    Raises:
        FormatError: It has no such form.
    """
    lines = [checkpoint.origin, str(checkpoint.size), _b64(checkpoint.root), *checkpoint.extensions]
    text = "".join(line + "\n" for line in lines)
    if parse_checkpoint(text) != checkpoint:
        raise FormatError("checkpoint: a field does not have its form")
    return text


def parse_checkpoint(text: str) -> Checkpoint:
    """Return the checkpoint that a note text states.

    Args:
        text: From ``verify_note``; the text of an unverified note proves nothing.

    Raises:
        FormatError: Not the text of a checkpoint.

    Source: C2SP tlog-checkpoint, Note text.
    """
    _check_text(text)
    lines = text[:-1].split("\n")
    if len(lines) < 3 or not all(lines):
        raise FormatError("checkpoint: not three lines or more")
    origin, size, root, *extensions = lines
    return Checkpoint(origin, _number(size, "checkpoint"), _hash(root, "checkpoint"), tuple(extensions))


def verify_checkpoint(raw: bytes, vkey: VKey, origin: str) -> Checkpoint:
    """Return the checkpoint that this log signed.

    Args:
        raw: A signed note, from anywhere.
        vkey: Key of the log.
        origin: Name of the log; a key may sign for several.

    Raises:
        FormatError: Not a note, or its text is no checkpoint.
        ProofInvalidError: Not signed by the log, or the checkpoint of another log.
    """
    checkpoint = parse_checkpoint(verify_note(raw, [vkey]))
    if checkpoint.origin != origin:
        raise ProofInvalidError("checkpoint: of another log")
    return checkpoint


@dataclass(frozen=True)
class TlogProof:
    """A receipt: a leaf's place, its inclusion proof, and the checkpoint that it leads to.

    Attributes:
        index: Of the leaf.
        hashes: The inclusion proof.
        checkpoint: The signed note, byte for byte.
        extra: Opaque and *not authenticated*.
    """

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes | None = None


def encode_tlog_proof(index: int, proof: Sequence[bytes], checkpoint_note: bytes, extra: bytes | None = None) -> bytes:
    """Return the receipt; the exact inverse of ``parse_tlog_proof``.

    Raises:
        FormatError: A part has no such form.
    """
    lines = [_PROOF_HEADER]
    if extra is not None:
        lines.append(f"extra {_b64(extra)}")
    lines += [f"index {index}", *(_b64(digest) for digest in proof), "", ""]
    raw = "\n".join(lines).encode("ascii") + checkpoint_note
    if parse_tlog_proof(raw) != TlogProof(index, tuple(proof), checkpoint_note, extra):
        raise FormatError("receipt: a part does not have its form")
    return raw


def parse_tlog_proof(raw: bytes) -> TlogProof:
    """Split a receipt into its parts, and verify nothing.

    Args:
        raw: From anywhere.

    Raises:
        FormatError: Not a receipt, or what it carries is no checkpoint.

    Source: C2SP tlog-proof, Format.
    """
    head, separator, checkpoint = raw.partition(b"\n\n")
    if not separator or len(head) > 2 * MAX_EXTRA_BYTES:
        raise FormatError("receipt: no checkpoint")
    header, *lines = _utf8(head, "receipt").split("\n")
    if header != _PROOF_HEADER:
        raise FormatError("receipt: unknown header")
    extra = None
    if lines and lines[0].startswith("extra "):
        extra = _unb64(lines.pop(0).removeprefix("extra "), "receipt")
        # An empty one is to be left out, so that one receipt has one form.
        if not 1 <= len(extra) <= MAX_EXTRA_BYTES:
            raise FormatError("receipt: size of the extra data")
    if not lines or not lines[0].startswith("index "):
        raise FormatError("receipt: no index")
    index = _number(lines.pop(0).removeprefix("index "), "receipt")
    if len(lines) > MAX_PROOF_HASHES:
        raise FormatError("receipt: proof is too long")
    hashes = tuple(_hash(line, "receipt") for line in lines)
    parse_checkpoint(parse_note(checkpoint).text)
    return TlogProof(index, hashes, checkpoint, extra)


def verify_tlog_proof(raw: bytes, leaf: LeafHash, vkey: VKey, origin: str) -> Checkpoint:
    """Return the checkpoint under which a receipt proves this leaf.

    Args:
        raw: The receipt, from anywhere.
        leaf: Hash of the leaf, computed by the caller from the leaf's bytes.
        vkey: Key of the log.
        origin: Name of the log.

    Raises:
        FormatError: Not a receipt.
        ProofInvalidError: The checkpoint is not the log's, or the leaf is not in it at the place claimed.
    """
    receipt = parse_tlog_proof(raw)
    checkpoint = verify_checkpoint(receipt.checkpoint, vkey, origin)
    verify_inclusion(leaf, receipt.index, checkpoint.size, receipt.hashes, checkpoint.root)
    return checkpoint


def _parse_signature(line: str) -> NoteSignature:
    if not line.startswith(_DASH):
        raise FormatError("note: not a signature line")
    name, separator, encoded = line.removeprefix(_DASH).partition(" ")
    if not separator:
        raise FormatError("note: not a signature line")
    check_name(name)
    blob = _unb64(encoded, "note")
    if len(blob) < 5:
        raise FormatError("note: signature is too short")
    return NoteSignature(name, blob[:4], blob[4:])


def _check_text(text: str) -> None:
    if not text.endswith("\n"):
        raise FormatError("note: text does not end in a newline")
    if _NOT_IN_TEXT.search(text):
        raise FormatError("note: control character")


def _utf8(raw: bytes, what: str) -> str:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise FormatError(f"{what}: not UTF-8") from None
    if _NOT_IN_TEXT.search(text):
        raise FormatError(f"{what}: control character")
    return text


def _number(text: str, what: str) -> int:
    if not _NUMBER.fullmatch(text) or int(text) > _MAX_SIZE:
        raise FormatError(f"{what}: not a number in its one form")
    return int(text)


def _hash(text: str, what: str) -> bytes:
    digest = _unb64(text, what)
    if len(digest) != HASH_BYTES:
        raise FormatError(f"{what}: not a SHA-256 hash")
    return digest


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _unb64(text: str, what: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise FormatError(f"{what}: not base64") from None
    # Rejects stray bits in the last character: two texts would stand for one value.
    if _b64(data) != text:
        raise FormatError(f"{what}: not base64 in its one form")
    return data
