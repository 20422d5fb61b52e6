"""The audit of a querier's queries by its own supervisor: which are drawn, and what of each is computed again.

In this order:

1. ``draw`` rehashes the log and ranks the queries by the root of a checkpoint that is later than all of them. The node
   that wrote them could not know it, so it could not choose which are looked at.
2. ``QueryBody`` is what the node sealed about a query: seed, tokens, digests of the messages, which message holds
   which token.
3. ``Messages`` reads the messages again, as they stand in the system of record, and keeps the records of those that the
   drawn queries name.
4. ``audit_query`` forms the batch once more and compares: elements, messages, and a field behind every token.

A finding names the query and the place in it, never a token or a value. What cannot be computed again (another
normalisation version, a body erased in due time, a message in a format that no adapter reads) is told apart: it says
nothing against the query, and nothing for it.

Not found by this: a declaration that was falsified at its source, a query that was never logged (the log of the owner
shows it), and a record that was asked with after it was withdrawn. Free of the node: whoever has leaves, bodies and
messages can run it elsewhere.
"""

from __future__ import annotations

import hashlib
import heapq
import hmac
import json
import struct
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import ValidationError

from connector_psi import policy
from connector_psi.adapters import formats
from connector_psi.audit.bodies import SALT_BYTES, commit_body
from connector_psi.audit.checkpoint import Checkpoint
from connector_psi.audit.entries import Event, Leaf, Side, parse_leaf
from connector_psi.audit.merkle import LeafHash, TreeFrontier, leaf_hash
from connector_psi.domain.identifiers import FIRST_NORMALISATION_VERSION, NORMALISATION_VERSION
from connector_psi.domain.intake import Kind
from connector_psi.domain.names import NAME_RULES_VERSION
from connector_psi.domain.records import Record, TokenClass
from connector_psi.errors import FormatError, InputError, ProofInvalidError, ProtocolError, PurposeRefusedError
from connector_psi.node.registration import canonical
from connector_psi.protocol import messages
from connector_psi.protocol.querier import Batch
from connector_psi.protocol.tokens import record_tokens

_DRAW = b"connector-psi/v1 audit draw"
_STEP_BYTES = 1 << 20
_VERSIONS = frozenset({None, FIRST_NORMALISATION_VERSION, NORMALISATION_VERSION, NAME_RULES_VERSION})

FINDINGS: Mapping[str, str] = {
    "batch.commitment": "the elements that were sent are not those of the seed and the tokens",
    "source.commitment": "the messages and tokens are not those that the query was bound to",
    "message.missing": "no such message is in the system of record: a query without a declaration",
    "token.without_field": "no field of the message, as the agreement reads it, gives this token",
    "body.erased": "the body is gone before its time",
    "body.malformed": "the body does not have its form, or is not the one that the leaf commits to",
    "policy.other": "the query names another policy than the one in force by the log",
}
"""What an audit can find, by code."""
UNCHECKED: Mapping[str, str] = {
    "body.expired": "the body was erased in due time",
    "message.unread": "the message is there, in a format that no adapter reads",
    "policy.unread": "the log does not hold the agreement in a form that this version reads",
    "normalisation.other": "the tokens are of another version of the rules of identifiers or names than this program's",
}
"""What keeps a query from being computed again, by code."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about one query: a code of ``FINDINGS`` or ``UNCHECKED``, and where."""

    code: str
    request_id: str
    place: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A leaf and its number in the log."""

    index: int
    leaf: Leaf

    @property
    def request_id(self) -> str:
        """The id of the query, hexadecimal; empty where the leaf has none."""
        return (self.leaf.request_id or b"").hex()


@dataclass(frozen=True, slots=True)
class Drawn:
    """The queries that were drawn, by rank, and the changes of policy before them."""

    entries: tuple[Entry, ...]
    population: int
    hidden: int
    """Entries that were shown by their hash alone: a query among them would not be in the population."""
    changes: Mapping[str, tuple[Entry, ...]]
    """Of policy, by agreement, in the order of the log."""

    def in_force(self, entry: Entry) -> Entry | None:
        """Return the change that brought the policy of a query into force, None where the log has none."""
        changes = self.changes.get(entry.leaf.agreement or "", ())
        return max((c for c in changes if c.index < entry.index), key=lambda c: c.index, default=None)


def rank(root: bytes, request_id: bytes) -> bytes:
    """Return the place of a query in the draw, 32 bytes; the smallest are drawn.

    Args:
        root: Of the later checkpoint.
        request_id: Of the query.
    """
    return hmac.new(root, _DRAW + request_id, hashlib.sha256).digest()


def draw(
    leaves: Iterable[tuple[bytes | None, bytes]],
    checkpoint: Checkpoint,
    *,
    count: int,
    below: int | None = None,
    agreement: str = "",
) -> Drawn:
    """Rehash a log and draw queries of it.

    The draw depends on the root and on nothing else: with the same one, more queries drawn are those of before and
    further ones.

    Args:
        leaves: The log's, from the first up to the size of the checkpoint, untrusted: each ``(leaf, b"")``, or
            ``(None, hash)`` where it is not shown.
        checkpoint: Verified, later than the queries.
        count: How many to draw; all there are if there are fewer.
        below: Only queries whose entries have smaller numbers; all under the checkpoint by default.
        agreement: Only queries under this one.

    Raises:
        InputError: ``below`` is beyond the checkpoint: a root that is older than a query could be known when it was
            formed.
        ProofInvalidError: These are not the leaves under this checkpoint.
    """
    below = checkpoint.size if below is None else below
    if below > checkpoint.size:
        raise InputError(f"audit: the checkpoint covers {checkpoint.size} entries and is older than what is asked for")
    tree = TreeFrontier()
    changes: dict[str, list[Entry]] = defaultdict(list)
    population = hidden = 0

    def queries() -> Iterator[tuple[bytes, int, Leaf]]:
        nonlocal population, hidden
        for raw, digest in leaves:
            index = tree.size
            if raw is None:
                hidden += 1
                tree.add(LeafHash(digest))
                continue
            tree.add(leaf_hash(raw))
            try:
                leaf = parse_leaf(raw)
            except FormatError:
                raise ProofInvalidError(f"leaf {index}: malformed") from None
            if leaf.event is Event.POLICY_CHANGE:
                changes[leaf.agreement or ""].append(Entry(index, leaf))
            elif (
                leaf.event is Event.CONSULT
                and leaf.side is Side.QUERIER
                and index < below
                and agreement in {"", leaf.agreement}
            ):
                population += 1
                yield rank(checkpoint.root, leaf.request_id or b""), index, leaf

    # The number decides between two entries of one id, which an honest log does not have.
    first = heapq.nsmallest(count, queries(), key=lambda item: item[:2])
    if (tree.size, tree.root()) != (checkpoint.size, checkpoint.root):
        raise ProofInvalidError("log: it is not the one that the checkpoint was signed for")
    entries = tuple(Entry(index, leaf) for _, index, leaf in first)
    return Drawn(entries, population, hidden, {code: tuple(found) for code, found in changes.items()})


# Bodies


def committed(data: bytes, leaf: Leaf) -> dict[str, Any]:
    """Return a body that was opened, after checking it against its leaf.

    Args:
        data: ``salt || body``, untrusted.
        leaf: Under a verified checkpoint.

    Raises:
        FormatError: It is another body, or not JSON.
    """
    salt, encoded = data[:SALT_BYTES], data[SALT_BYTES:]
    if len(salt) != SALT_BYTES or not hmac.compare_digest(commit_body(salt, encoded), leaf.body_commit):
        raise FormatError("body: not the one that its leaf commits to")
    try:
        said = json.loads(encoded)
    except (ValueError, RecursionError):
        raise FormatError("body: not JSON") from None
    if not isinstance(said, dict):
        raise FormatError("body: not an object")
    return said


def parse_agreement(body: Mapping[str, Any], policy_hash: bytes | None) -> policy.Agreement:
    """Return the agreement that a change of policy brought into force.

    Args:
        body: Of the POLICY_CHANGE entry.
        policy_hash: Of its leaf.

    Raises:
        FormatError: It holds none in the form of this version, or one of another hash.
    """
    try:
        agreement = policy.Agreement.model_validate_json(json.dumps(body.get("definition")))
    except (ValidationError, ValueError):
        raise FormatError("policy: no agreement of this version's form") from None
    if policy.policy_hash(agreement) != policy_hash:
        raise FormatError("policy: not the one that its leaf names")
    return agreement


@dataclass(frozen=True, slots=True)
class QueryBody:
    """What a node sealed about a query."""

    seed: bytes = field(repr=False)
    tokens: tuple[bytes, ...] = field(repr=False)
    digests: tuple[bytes, ...] = field(repr=False)
    """SHA-256 of each raw message."""
    held: tuple[tuple[int, ...], ...]
    """Of each message, the positions of the tokens that it put into the batch."""

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> QueryBody:
        """Read a body.

        Raises:
            FormatError: It does not have the form of a query's.
        """
        try:
            read = cls(
                bytes.fromhex(body["seed"]),
                tuple(bytes.fromhex(token) for token in body["tokens"]),
                tuple(bytes.fromhex(digest) for digest in body["digests"]),
                tuple(tuple(int(position) for position in held) for held in body["held"]),
            )
        except (KeyError, TypeError, ValueError):
            raise FormatError("body: not that of a query") from None
        if (
            len(read.seed) != 32
            or len(read.digests) != len(read.held)
            or any(len(digest) != 32 for digest in read.digests)
            or any(not 0 <= position < len(read.tokens) for held in read.held for position in held)
        ):
            raise FormatError("body: not that of a query")
        return read


# Messages


class Messages:
    """Messages of the system of record, by digest, as far as some queries name them.

    Args:
        wanted: SHA-256 digests of messages.
    """

    def __init__(self, wanted: Collection[bytes]) -> None:
        self._wanted = frozenset(wanted)
        self._records: dict[bytes, list[Record]] = defaultdict(list)
        self._whole: set[bytes] = set()
        self._unread: set[bytes] = set()
        self.files = 0
        self.unusable: list[str] = []
        """Files that could not be read at all, or hold what no adapter may read."""

    def add(self, stream: BinaryIO, name: str, *, format: str | None = None, schemas: Path | None = None) -> None:  # noqa: A002 - as --format
        """Read a file: a message of its own, or messages line by line.

        Args:
            stream: Seekable, buffered, at its first byte.
            name: Of the file; its format may be told by it.
            format: As for ``formats.read``.
            schemas: As for ``formats.read``.
        """
        self.files += 1
        try:
            digest = hashlib.sha256()
            while chunk := stream.read(_STEP_BYTES):
                digest.update(chunk)
            whole = digest.digest()
            if whole in self._wanted:
                self._whole.add(whole)
            stream.seek(0)
            if whole not in self._wanted and self._is_one_message(stream, name, format):
                return
            stream.seek(0)
            self._read(stream, name, whole, format, schemas)
        except (OSError, PurposeRefusedError):
            self.unusable.append(name)

    def add_records(self, records: Iterable[Record]) -> None:
        """Take in records from elsewhere, such as an authority's own database."""
        for record in records:
            if record.message_digest in self._wanted:
                self._records[record.message_digest].append(record)

    def has(self, digest: bytes) -> bool:
        """Return whether a message is there."""
        return digest in self._whole or digest in self._records

    def is_unread(self, digest: bytes) -> bool:
        """Return whether a message is there in a format that no adapter reads."""
        return digest in self._unread and digest not in self._records

    def tokens(self, digest: bytes, agreement: policy.Agreement, token_class: TokenClass) -> frozenset[bytes]:
        """Return the tokens that a message's fields give under an agreement, of one class."""
        found: set[bytes] = set()
        for record in self._records.get(digest, ()):
            kept, _ = canonical(record)
            if kept is None or kept.hidden or kept.category not in agreement.querier_categories:
                continue
            found.update(
                token.value
                # Of all the agreement's families: that some cannot be in the set takes no field from behind a token.
                for token in record_tokens(agreement, kept, Side.QUERIER, agreement.name_groups)
                if token.token_class is token_class
            )
        return frozenset(found)

    def _is_one_message(self, stream: BinaryIO, name: str, format_name: str | None) -> bool:
        """Whether nothing but the file as a whole can be what is wanted: an XML file is one message."""
        try:
            found = format_name or formats.detect(name, stream.read(formats.HEAD_BYTES))
        except FormatError:
            return False
        return formats.FORMATS[found].kind is Kind.XML

    def _read(self, stream: BinaryIO, name: str, whole: bytes, format_name: str | None, schemas: Path | None) -> None:
        unknown = False
        for item in formats.read(stream, file=name, format=format_name, schemas=schemas):
            if isinstance(item, Record):
                self.add_records((item,))
            unknown |= getattr(item, "code", "") == "file.unknown_format"
        if unknown and whole in self._wanted:
            self._unread.add(whole)


# Auditing


def audit_query(
    entry: Entry, body: QueryBody, in_force: Entry | None, agreement: policy.Agreement | None, found: Messages, own: str
) -> tuple[list[Finding], list[Finding]]:
    """Form a batch once more and compare it with what was logged.

    Args:
        entry: Of the query, under a verified checkpoint.
        body: What was sealed about it, checked against the leaf.
        in_force: The change of policy that was the newest one of the agreement.
        agreement: What that change brought into force; None where it cannot be read.
        found: The messages that ``body`` names, as far as they are there.
        own: Code of the authority that asked.

    Returns:
        What was found, and what could not be computed again.

    Cost: Two group operations a token, one a padding element.
    """
    leaf, findings, unchecked = entry.leaf, list[Finding](), list[Finding]()
    at = f"entry {entry.index}"

    def note(into: list[Finding], code: str, place: str = "") -> None:
        into.append(Finding(code, entry.request_id, f"{at}, {place}" if place else at))

    token_class = next((c for c in TokenClass if c.label == leaf.token_class), None)
    if in_force is None or in_force.leaf.policy_hash != leaf.policy_hash:
        note(findings, "policy.other")
    if token_class is None or leaf.request_id is None or leaf.agreement is None or leaf.epoch is None:
        note(findings, "batch.commitment")
        return findings, unchecked
    batch = Batch(own, leaf.agreement, leaf.epoch, token_class, leaf.request_id, body.seed, body.tokens)
    try:
        as_sent = (batch.prepare().commitment, batch.n_padded) == (leaf.batch_commitment, leaf.n_padded)
    except ProtocolError:
        as_sent = False
    if not as_sent:
        note(findings, "batch.commitment")
    sources = messages.source_commitment(
        batch.source_salts(len(body.digests)),
        body.digests,
        [[body.tokens[position] for position in held] for held in body.held],
    )
    if sources != leaf.source_commitment:
        note(findings, "source.commitment")
    if agreement is None:
        note(unchecked, "policy.unread")
        return findings, unchecked
    # Each by itself: one token of another version must not hide those beside it.
    other = {n for n, token in enumerate(body.tokens) if _version_of(token) not in _VERSIONS}
    if other:
        note(unchecked, "normalisation.other", f"{len(other)} of {len(body.tokens)} tokens")
    behind: set[int] = set()
    total = len(body.digests)
    for number, (digest, held) in enumerate(zip(body.digests, body.held, strict=True), 1):
        behind.update(held)
        place = f"message {number} of {total}"
        if not found.has(digest):
            note(findings, "message.missing", place)
        elif found.is_unread(digest):
            note(unchecked, "message.unread", place)
        else:
            tokens = found.tokens(digest, agreement, token_class)
            for position in held:
                if position not in other and body.tokens[position] not in tokens:
                    note(findings, "token.without_field", f"{place}, token {position + 1} of {len(body.tokens)}")
    for position in range(len(body.tokens)):
        if position not in behind:
            note(findings, "token.without_field", f"no message, token {position + 1} of {len(body.tokens)}")
    return findings, unchecked


def erased(entry: Entry, opened_at: datetime) -> Finding:
    """Return what a body that is gone amounts to: a finding before its time, and nothing to check after it."""
    code = "body.erased" if opened_at < entry.leaf.erase_after else "body.expired"
    return Finding(code, entry.request_id, f"entry {entry.index}")


def _version_of(token: bytes) -> str | None:
    """The normalisation version that a token was made under; None where the bytes are no token."""
    head = b"connector-psi/v1 token"
    if not token.startswith(head) or len(token) < len(head) + 2:
        return None
    (length,) = struct.unpack(">H", token[len(head) : len(head) + 2])
    return token[len(head) + 2 : len(head) + 2 + length].decode("utf-8", "replace")
