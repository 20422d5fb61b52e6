"""The sealed body of an entry: encrypted, bound to its leaf, and erased by destroying keys.

Decides: the commitment that a leaf carries, how a body is encrypted, what binds it to its place. Leaves to others:
what a body says (the use case that writes it), where wrapping keys live and when they are destroyed
(``WrappingKeys``), who may open one (``node``).

One random AES-256 key per entry encrypts ``salt || body``; a wrapping key per month of expiry and retention class
wraps it. Destroying the wrapping key erases a month's bodies in every copy of the store, backups included; erasing
one row erases one body. The salt goes with the body: without it ``body_commit`` cannot be tried against guesses.

Not achieved: the length of a sealed body shows the length of the body to whoever holds the store.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any, Protocol

import rfc8785
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from connector_psi.audit.entries import RetentionClass
from connector_psi.errors import FormatError, ProofInvalidError

SALT_BYTES = 32
KEY_BYTES = 32
NONCE_BYTES = 12

_COMMIT_LABEL = b"connector-psi/v1 body"
_SEAL_LABEL = b"connector-psi/v1 sealed body"


class RandomSource(Protocol):
    """Unpredictable bytes: ``domain.clock.RandomSource`` by structure, for ``audit`` is free of ``domain``."""

    def bytes(self, n: int) -> bytes:
        """Return ``n`` bytes fit for keys."""
        ...


class WrappingKeys(Protocol):
    """Keys that wrap the keys of bodies, one per month of expiry and retention class; a keyring implements it."""

    def get_or_create(self, month: str, retention_class: str) -> tuple[str, bytes]:
        """Return the name and the 32 bytes of the key for this month and class.

        When this returns, the key is durable, whatever becomes of the caller's transaction: a body whose key was
        lost in a crash could never be opened. It is called inside an open transaction of the log, so it must not
        wait for that transaction's database. The same month and class give the same key until it is destroyed.

        Args:
            month: ``YYYY-MM``, of the expiry.
            retention_class: Value of a ``RetentionClass``.

        Raises:
            UnavailableError: The key cannot be had now.
        """
        ...

    def get(self, key_id: str) -> bytes:
        """Return the key of this name.

        Raises:
            KeyUnavailableError: It was destroyed, or never was.
        """
        ...


@dataclass(frozen=True)
class SealedBody:
    """What the store keeps of a body.

    Attributes:
        key_id: Names the wrapping key.
        wrapped_key: The entry's key, AES key wrap (RFC 3394), 40 bytes.
        nonce: 12 bytes.
        ciphertext: AES-256-GCM over ``salt || body || spaces``, tag at the end.
    """

    key_id: str
    wrapped_key: bytes
    nonce: bytes
    ciphertext: bytes


@dataclass(frozen=True)
class OpenedBody:
    """A body in the clear; its ``repr`` shows nothing."""

    salt: bytes = field(repr=False)
    encoded: bytes = field(repr=False)
    """The bytes that ``body_commit`` commits to, together with the salt."""

    @property
    def body(self) -> dict[str, Any]:
        """The body as it was given."""
        body: dict[str, Any] = json.loads(self.encoded)
        return body


def encode_body(body: Mapping[str, object]) -> bytes:
    """Return the RFC 8785 form of a body.

    Raises:
        FormatError: It holds something that JSON cannot.
    """
    try:
        return rfc8785.dumps(dict(body))  # type: ignore[arg-type]  # anything else raises, which is what is wanted here
    except (ValueError, TypeError, RecursionError):
        # The library's text quotes the value.
        raise FormatError("body: not representable in canonical JSON") from None


def commit_body(salt: bytes, encoded: bytes) -> bytes:
    """Return ``body_commit``: SHA-256 over a label, the salt (32 bytes) and the encoded body."""
    if len(salt) != SALT_BYTES:
        raise FormatError("body: salt of the wrong length")
    return sha256(_COMMIT_LABEL + salt + encoded).digest()


def month_of(erase_after: datetime) -> str:
    """Return the month, ``YYYY-MM``, whose wrapping key a body with this expiry uses."""
    return f"{erase_after.year:04d}-{erase_after.month:02d}"


def seal_body(
    encoded: bytes,
    salt: bytes,
    wrapping: WrappingKeys,
    *,
    index: int,
    erase_after: datetime,
    retention_class: RetentionClass,
    random: RandomSource,
    at_least: int = 0,
) -> SealedBody:
    """Encrypt a body for the leaf at ``index``.

    The leaf's place and its commitment are authenticated with the ciphertext, so that bodies cannot be exchanged
    between entries.

    Args:
        encoded: From ``encode_body``.
        salt: 32 random bytes, those of the commitment.
        wrapping: Gives the wrapping key.
        index: Of the leaf.
        erase_after: Of the leaf; its month names the wrapping key.
        retention_class: Of the leaf.
        random: Gives the entry's key and nonce.
        at_least: Bytes that the encoded body is padded to, where its length could tell something.

    Raises:
        UnavailableError: There is no wrapping key now.
    """
    key_id, wrapping_key = wrapping.get_or_create(month_of(erase_after), retention_class.value)
    key, nonce = random.bytes(KEY_BYTES), random.bytes(NONCE_BYTES)
    associated = _associated_data(index, commit_body(salt, encoded), key_id)
    return SealedBody(
        key_id=key_id,
        wrapped_key=aes_key_wrap(wrapping_key, key),
        nonce=nonce,
        ciphertext=AESGCM(key).encrypt(nonce, salt + encoded.ljust(at_least), associated),
    )


def open_body(sealed: SealedBody, wrapping: WrappingKeys, *, index: int, body_commit: bytes) -> OpenedBody:
    """Decrypt the body of the leaf at ``index`` and check it against the leaf.

    Args:
        sealed: From the store, untrusted.
        wrapping: Gives the wrapping key.
        index: Of the leaf.
        body_commit: Of the leaf.

    Raises:
        KeyUnavailableError: The wrapping key was destroyed: the body is erased.
        ProofInvalidError: The sealed body is not the one that was sealed for this leaf.
    """
    wrapping_key = wrapping.get(sealed.key_id)
    try:
        key = aes_key_unwrap(wrapping_key, sealed.wrapped_key)
        associated = _associated_data(index, body_commit, sealed.key_id)
        plain = AESGCM(key).decrypt(sealed.nonce, sealed.ciphertext, associated)
    except (InvalidUnwrap, InvalidTag, ValueError):
        raise ProofInvalidError(f"leaf {index}: sealed body is not the one sealed for it") from None
    # Padding is white space, which canonical JSON does not end with.
    salt, encoded = plain[:SALT_BYTES], plain[SALT_BYTES:].rstrip(b" ")
    if len(salt) != SALT_BYTES or not hmac.compare_digest(commit_body(salt, encoded), body_commit):
        raise ProofInvalidError(f"leaf {index}: body does not match its commitment")
    return OpenedBody(salt=salt, encoded=encoded)


def _associated_data(index: int, body_commit: bytes, key_id: str) -> bytes:
    return _SEAL_LABEL + index.to_bytes(8, "big") + body_commit + key_id.encode("utf-8")
