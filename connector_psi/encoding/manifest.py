"""The manifest: what the set of an epoch is, in bytes that the owner signs and logs.

RFC 8785 JSON, so that equal manifests are equal bytes; ``parse_manifest`` refuses every other spelling, hence the hash
in the owner's log names one manifest. Files are bound by length and by the root of an RFC 9162 tree over chunks of
8 MiB, so that a transfer can resume and a large file is checked in one pass.

Decides: the fields, their form, and what must agree within one manifest (file lengths follow from the size class).
Leaves to others: whether the manifest is logged and witnessed, newer than the last one and its keys never seen before
(``protocol``), whether class keys are group elements (``oprf``), what is inside the files (``bloom``, ``tickets``).

A signed manifest shows who published a set and that all readers hold the same one. It does not show that the set is
complete or honest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final, Literal, Self

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from connector_psi.encoding import bloom, tickets
from connector_psi.errors import FormatError, ProtocolError, UnavailableError

SUITE: Final = "ristretto255-SHA512/VOPRF"
MAX_MANIFEST_BYTES: Final = 64 * 1024
CHUNK_BYTES: Final = 8 * 1024 * 1024

_SIGNATURE_LABEL: Final = b"connector-psi/v1 manifest\n"
_TIME_FORM: Final = "%Y-%m-%dT%H:%M:%SZ"
_READ_BYTES: Final = 1024 * 1024


# --- times


def encode_time(moment: datetime) -> str:
    """Give the RFC 3339 text of a moment, in UTC and whole seconds (rounded down).

    Raises:
        ValueError: The moment is naive.
    """
    if moment.tzinfo is None:
        raise ValueError("a moment without a time zone")
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='seconds')}Z"


def decode_time(text: str) -> datetime:
    """Read the one form that ``encode_time`` writes.

    Raises:
        ValueError: Another form, or no such date.
    """
    try:
        moment = datetime.strptime(text, _TIME_FORM).replace(tzinfo=UTC)
    except ValueError:
        moment = None
    if moment is None or encode_time(moment) != text:
        raise ValueError("not a time in UTC and whole seconds")
    return moment


def _check_time(text: str) -> str:
    decode_time(text)
    return text


def _check_size_class(rows: int) -> int:
    if tickets.size_class(rows) != rows:
        raise ValueError("not a size class")
    return rows


def _check_ascending(numbers: tuple[int, ...]) -> tuple[int, ...]:
    if any(second <= first for first, second in pairwise(numbers)):
        raise ValueError("not strictly ascending")
    return numbers


# --- the model

Code = Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,128}$")]
"""Agreement and authority codes, versions: printable ASCII without spaces."""
Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Time = Annotated[str, AfterValidator(_check_time)]
ClassLabel = Literal["object", "contact", "organisation", "person"]


class _Closed(BaseModel):
    # No conversions: what was signed is what is read.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


class FileEntry(_Closed):
    """One published file."""

    size_bytes: Annotated[int, Field(ge=1, le=2**53 - 1)]
    root: Hex32
    """``file_root`` of the file."""


class Files(_Closed):
    """The two files of a set."""

    filter: FileEntry
    tickets: FileEntry


class NameWeights(_Closed):
    """The weights that judge names, by which owner and querier must come to the same."""

    version: Code
    sha256: Hex32
    """Of their file."""


class Manifest(_Closed):
    """What the encoded set of one agreement and epoch is.

    Frozen; ``encode_manifest`` and ``parse_manifest`` are exact inverses.
    """

    v: Literal[1] = 1
    agreement: Code
    epoch: Annotated[int, Field(ge=0, le=2**53 - 1)]
    """Below 2^53: RFC 8785 numbers are IEEE doubles."""
    owner: Code
    querier: Code
    suite: Literal["ristretto255-SHA512/VOPRF"] = SUITE
    normalisation_version: Code
    policy_hash: Hex32
    class_keys: Annotated[dict[ClassLabel, Hex32], Field(min_length=1)]
    """Public key of each token class, hex."""
    size_class: Annotated[
        int, Field(ge=tickets.MIN_SIZE_CLASS, le=bloom.MAX_CAPACITY), AfterValidator(_check_size_class)
    ]
    """Rows in the ticket file and keys in the filter, dummies included."""
    files: Files
    source_snapshot: Time
    """When the source was read; a set's life counts from here."""
    not_before: Time
    not_after: Time
    delta_chain_start: Hex32
    """``prev_hash`` of the first delta."""
    synthetic: bool
    """True if no record is a real one."""
    families: Annotated[
        tuple[Annotated[int, Field(ge=0, le=255)], ...], Field(max_length=256), AfterValidator(_check_ascending)
    ]
    """Token families that the set may hold, ascending; those of name keys from ``tickets.FIRST_NAME_FAMILY`` on."""
    name_rules: Code | None = None
    """Version of the rules that make name keys; where the set may hold such families, and only there."""
    name_weights: NameWeights | None = None
    """As ``name_rules``."""

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if self.owner == self.querier:
            raise ValueError("owner and querier are one authority")
        if len(set(self.class_keys.values())) != len(self.class_keys):
            raise ValueError("two classes have one key")
        if self.files.filter.size_bytes != bloom.filter_size_bytes(self.size_class):
            raise ValueError("filter length does not follow from the size class")
        if self.files.tickets.size_bytes != self.size_class * tickets.ROW_BYTES:
            raise ValueError("ticket file length does not follow from the size class")
        if not decode_time(self.not_before) < decode_time(self.not_after):
            raise ValueError("the epoch ends before it begins")
        if not decode_time(self.source_snapshot) < decode_time(self.not_after):
            raise ValueError("the source was read after the epoch ends")
        named = any(family >= tickets.FIRST_NAME_FAMILY for family in self.families)
        if (self.name_rules is not None, self.name_weights is not None) != (named, named):
            raise ValueError("families of names go with the rules and the weights of names")
        return self


def encode_manifest(manifest: Manifest) -> bytes:
    """Give the canonical bytes of a manifest; what concerns names is left out where there are none."""
    tree = manifest.model_dump(mode="json")
    return rfc8785.dumps({key: value for key, value in tree.items() if value is not None})


@lru_cache(maxsize=64)
def parse_manifest(raw: bytes) -> Manifest:
    """Read manifest bytes from a peer.

    Every accepted input equals ``encode_manifest`` of the result. Those read last are remembered: a node reads the
    manifests of its sets at every turn.

    Raises:
        FormatError: Too long, no manifest, inconsistent, or not in canonical form.
    """
    if len(raw) > MAX_MANIFEST_BYTES:
        raise FormatError("manifest is too long")
    try:
        manifest = Manifest.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        # Names of fields alone: a key that a peer made up is its text, not ours.
        place = ".".join(str(part) for part in first["loc"] if part in _PLACES)
        raise FormatError(f"manifest {place or 'as a whole'}: {first['msg']}") from None
    if encode_manifest(manifest) != raw:
        raise FormatError("manifest is not in canonical form")
    return manifest


_PLACES: Final = frozenset().union(*(model.model_fields for model in (Manifest, Files, FileEntry, NameWeights)))


# --- hash and signature


def manifest_hash(raw: bytes) -> bytes:
    """Give the 32 bytes by which logs, ``ReadSet`` and queries name a manifest: SHA-256 of its bytes."""
    return hashlib.sha256(raw).digest()


def sign_manifest(private_key: Ed25519PrivateKey, raw: bytes) -> bytes:
    """Sign manifest bytes; 64 bytes."""
    return private_key.sign(_SIGNATURE_LABEL + raw)


def verify_manifest_signature(public_key: Ed25519PublicKey, raw: bytes, signature: bytes) -> None:
    """Check that the owner signed exactly these bytes.

    Raises:
        ProtocolError: It did not.
    """
    try:
        public_key.verify(signature, _SIGNATURE_LABEL + raw)
    except InvalidSignature:
        raise ProtocolError("manifest signature") from None


# --- files


def file_root(source: Path | Iterable[bytes]) -> bytes:
    """Give the Merkle tree hash of a file over chunks of ``CHUNK_BYTES``, the last one shorter.

    Args:
        source: A file, or its bytes in blocks of any lengths.

    Returns:
        32 bytes.

    Raises:
        UnavailableError: The file cannot be read.

    Cost:
        SHA-256 of the file, one pass; memory for one block.

    Source:
        RFC 9162 section 2.1.1, chunks as entries.
    """
    return _root(_read_blocks(source) if isinstance(source, Path) else source)


def verify_files(manifest: Manifest, filter_path: Path, tickets_path: Path) -> None:
    """Check that two files are the ones that a manifest names.

    Raises:
        FormatError: A length or a root differs.
        UnavailableError: A file cannot be read.
    """
    for path, entry in ((filter_path, manifest.files.filter), (tickets_path, manifest.files.tickets)):
        try:
            size_bytes = path.stat().st_size
        except OSError as error:
            raise UnavailableError(f"cannot read {path.name}: {error.strerror}") from error
        if size_bytes != entry.size_bytes:
            raise FormatError(f"{path.name}: length differs from the manifest")
        if file_root(path).hex() != entry.root:
            raise FormatError(f"{path.name}: content differs from the manifest")


def _read_blocks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while block := file.read(_READ_BYTES):
                yield block
    except OSError as error:
        raise UnavailableError(f"cannot read {path.name}: {error.strerror}") from error


def _root(blocks: Iterable[bytes]) -> bytes:
    # Complete subtrees so far, largest first, as (leaves, hash): the binary digits of the number of leaves.
    stack: list[tuple[int, bytes]] = []
    for leaf in _leaves(blocks):
        count, node = 1, leaf
        while stack and stack[-1][0] == count:
            count, node = 2 * count, _node(stack.pop()[1], node)
        stack.append((count, node))
    if not stack:
        return hashlib.sha256().digest()
    _, root = stack.pop()
    while stack:
        root = _node(stack.pop()[1], root)
    return root


def _leaves(blocks: Iterable[bytes]) -> Iterator[bytes]:
    leaf, room = hashlib.sha256(b"\x00"), CHUNK_BYTES
    for block in blocks:
        rest = memoryview(block)
        while rest:
            part, rest = rest[:room], rest[room:]
            leaf.update(part)
            room -= len(part)
            if not room:
                yield leaf.digest()
                leaf, room = hashlib.sha256(b"\x00"), CHUNK_BYTES
    if room < CHUNK_BYTES:
        yield leaf.digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()
