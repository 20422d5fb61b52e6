"""The bytes of the matching protocol: tokens, key labels, lookups, commitments, signature inputs.

Decides: every encoding that both sides must agree on and that no protobuf message fixes. Leaves to others: the PRF
(``oprf``), the set's files (``encoding``), who runs what when (``querier``, ``owner``). ``docs/protocol.md`` states
the same
bytes for people who write a client in another language; a test of that client keeps the two together.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from connector_psi.audit import merkle
from connector_psi.domain.naming.families import NameFamily
from connector_psi.domain.records import IdentifierType
from connector_psi.errors import ProtocolError
from connector_psi.oprf.backends import default_group

MAX_TOKEN_BYTES = 512
REQUEST_ID_BYTES = 16
BATCH_SIZES = (8, 16, 32, 64, 256, 1024, 4096)
"""The padding ladder of queries."""

_TOKEN = b"connector-psi/v1 token"
_KEY = b"connector-psi/v1 key"
DERIVE = b"connector-psi/v1 derive"
"""What a lookup is derived under."""
_BATCH = b"connector-psi/v1 batch"
_CASE = b"connector-psi/v1 case\n"
_ACCESS = b"connector-psi/v1 access\n"
_RECALL = b"connector-psi/v1 recall\n"
_ACKNOWLEDGEMENT = b"connector-psi/v1 recall acknowledgement\n"


def lp(value: bytes | str) -> bytes:
    """Return ``uint16(len(value)) || value``, text as UTF-8.

    Raises:
        ProtocolError: The value is longer than 65,535 bytes.
    """
    raw = value.encode() if isinstance(value, str) else value
    if len(raw) > 0xFFFF:
        raise ProtocolError("a length-prefixed value is too long")
    return struct.pack(">H", len(raw)) + raw


def encode_token(version: str, kind: IdentifierType | NameFamily, value: str) -> bytes:
    """Return the token of a canonical identifier or of a name key, at most 512 bytes.

    Args:
        version: Of the rules that make the canonical form, of identifiers (``NORMALISATION_VERSION``) or of names
            (``NAME_RULES_VERSION``); both sides hold the same.
        kind: Type of the identifier, or family of the key.
        value: Canonical form.

    Raises:
        ProtocolError: The token would be longer than 512 bytes.
    """
    raw = value.encode()
    prefix = _token_prefix(version, kind)
    if len(prefix) + 2 + len(raw) > MAX_TOKEN_BYTES:
        raise ProtocolError("a token is longer than 512 bytes")
    return prefix + len(raw).to_bytes(2, "big") + raw


@lru_cache(maxsize=256)
def _token_prefix(version: str, kind: IdentifierType | NameFamily) -> bytes:
    return _TOKEN + lp(version) + lp(kind.value)


def key_info(agreement: str, epoch: int, class_label: str) -> bytes:
    """Return the ``info`` of ``DeriveKeyPair`` for one agreement, epoch and class."""
    return _KEY + lp(agreement) + struct.pack(">Q", epoch) + lp(class_label)


def derive_lookup(prf_output: bytes, j: int) -> tuple[bytes, bytes]:
    """Return ``(lookup, ticket_key)``, 16 and 32 bytes, of the ``j``-th record that holds a token.

    Args:
        prf_output: 64 bytes of the PRF.
        j: Counts the records of one set that hold the same token, from 0.
    """
    d = hashlib.sha512(DERIVE + prf_output + struct.pack(">I", j)).digest()
    return d[:16], d[16:48]


def derive_lookups(prf_outputs: bytes, counts: Sequence[int]) -> bytes:
    """Return ``d_j`` of a batch, whose first 16 bytes are the lookup and the next 32 the ticket key.

    Args:
        prf_outputs: ``n * 64`` bytes.
        counts: ``n`` values of ``j``.

    Returns:
        ``n * 64`` bytes, in order.
    """
    rows = np.empty((len(counts), 68), dtype=np.uint8)
    rows[:, :64] = np.frombuffer(prf_outputs, dtype=np.uint8).reshape(len(counts), 64)
    rows[:, 64:] = np.asarray(counts, dtype=">u4").reshape(-1, 1).view(np.uint8)
    return default_group().sha512_each(DERIVE, rows.tobytes(), 68, b"")


def batch_commitment(
    querier: str, agreement: str, epoch: int, class_label: str, request_id: bytes, blinded_elements: bytes
) -> bytes:
    """Return the 32 bytes that bind a query to its querier, agreement, epoch, class, id and elements."""
    h = hashlib.sha256(_BATCH + lp(querier) + lp(agreement) + struct.pack(">Q", epoch) + lp(class_label) + request_id)
    h.update(struct.pack(">I", len(blinded_elements) // 32))
    h.update(blinded_elements)
    return h.digest()


def source_commitment(salts: Sequence[bytes], digests: Sequence[bytes], tokens: Sequence[Sequence[bytes]]) -> bytes:
    """Return the Merkle root over the messages behind a batch, 32 bytes.

    The i-th leaf is ``SHA-256(salt_i || SHA-256(raw message i) || lp(token) ...)``, hashed into an RFC 9162 tree, so
    that an auditor
    who has the messages can recompute it and nobody else can test a guess.

    Args:
        salts: 32 secret bytes a message.
        digests: SHA-256 of each raw message.
        tokens: The tokens that each message put into this batch, in the batch's order.
    """
    leaves = [
        hashlib.sha256(salt + digest + b"".join(map(lp, own))).digest()
        for salt, digest, own in zip(salts, digests, tokens, strict=True)
    ]
    tree = merkle.TreeFrontier()
    for leaf in leaves:
        tree.add(merkle.leaf_hash(leaf))
    return tree.root()


def case_bytes(
    *,
    querier: str,
    agreement: str,
    epoch: int,
    ticket_id: bytes,
    redeem_codes: bytes,
    purpose: str,
    legal_basis: str,
    case_reference: str,
    justification: str,
    request_id: bytes,
    actor_commitments: bytes,
) -> bytes:
    """Return the bytes that the querier signs when it opens a case."""
    parts: tuple[bytes | str, ...] = (
        querier,
        agreement,
        struct.pack(">Q", epoch),
        ticket_id,
        redeem_codes,
        purpose,
        legal_basis,
        case_reference,
        justification,
        request_id,
        actor_commitments,
    )
    return _CASE + b"".join(lp(part) for part in parts)


def access_bytes(
    *,
    querier: str,
    agreement: str,
    request_id: bytes,
    case_reference: str,
    offence: str,
    necessity: str,
    identifiers: int,
    expires_ms: int,
    actor_commitments: bytes,
) -> bytes:
    """Return the bytes that the querier signs when it asks for access."""
    parts: tuple[bytes | str, ...] = (
        querier,
        agreement,
        request_id,
        case_reference,
        offence,
        necessity,
        struct.pack(">I", identifiers),
        struct.pack(">Q", expires_ms),
        actor_commitments,
    )
    return _ACCESS + b"".join(lp(part) for part in parts)


def recall_bytes(
    *, owner: str, agreement: str, case_id: bytes, recall_id: bytes, cause: int, sent_ms: int, envelope: bytes
) -> bytes:
    """Return the bytes that the owner signs when it recalls what a case disclosed."""
    parts: tuple[bytes | str, ...] = (
        owner,
        agreement,
        case_id,
        recall_id,
        struct.pack(">I", cause),
        struct.pack(">Q", sent_ms),
        envelope,
    )
    return _RECALL + b"".join(lp(part) for part in parts)


def acknowledgement_bytes(
    *, querier: str, agreement: str, recall_id: bytes, effect: int, acknowledged_ms: int
) -> bytes:
    """Return the bytes that the querier signs when it acknowledges a recall."""
    parts: tuple[bytes | str, ...] = (
        querier,
        agreement,
        recall_id,
        struct.pack(">I", effect),
        struct.pack(">Q", acknowledged_ms),
    )
    return _ACKNOWLEDGEMENT + b"".join(lp(part) for part in parts)


def grant_elements(identifiers: int, classes: int) -> int:
    """Return how many padded elements a grant of ``identifiers`` holds, over all classes.

    The owner sees padded sizes alone, so a grant is counted in them: as many as that number of identifiers can take at
    most, when they are spread over the classes and each class is one padded batch. One identifier takes 8, three of
    three classes 24; 24 take 48 at most (22 of one class, padded to 32, and one of each other, padded to 8).

    Args:
        identifiers: 1 to 4,096.
        classes: Of the agreement, at least 1.

    Raises:
        ProtocolError: No batch holds so many.

    Cost: classes x identifiers^2.
    """
    padded_batch_size(identifiers)
    most = [0] + [padded_batch_size(n) for n in range(1, identifiers + 1)]
    one_class = list(most)
    for _ in range(classes - 1):
        most = [max(one_class[part] + most[n - part] for part in range(n + 1)) for n in range(identifiers + 1)]
    return most[identifiers]


def padded_batch_size(n: int) -> int:
    """Return the smallest size of the ladder that holds ``n`` elements.

    Raises:
        ProtocolError: ``n`` is zero or above 4,096.
    """
    for size in BATCH_SIZES:
        if 0 < n <= size:
            return size
    raise ProtocolError("a batch holds 1 to 4096 tokens")
