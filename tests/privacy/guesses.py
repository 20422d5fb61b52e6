"""What somebody could compute of a token to look for it in what was recorded: with the key of the PRF, and without one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from connector_psi.oprf import hashing
from connector_psi.oprf.backends import default_group
from connector_psi.protocol import messages

HASH_TO_GROUP = b"HashToGroup-OPRFV1-\x01-ristretto255-SHA512"
WINDOW = 8
"""A run of so many bytes of something secret is not in random bytes by chance."""
_HASHES = ("md5", "sha1", "sha256", "sha384", "sha512", "sha3_256", "sha3_512", "blake2b", "blake2s")


def windows(value: bytes) -> Iterator[bytes]:
    """Yield every run of ``WINDOW`` bytes."""
    for at in range(len(value) - WINDOW + 1):
        yield value[at : at + WINDOW]


def derived(output: bytes) -> Iterator[bytes]:
    """Yield a PRF output and what the protocol and anybody else would make of it."""
    yield output
    for j in range(3):
        yield from messages.derive_lookup(output, j)
    yield hashlib.sha256(output).digest()
    yield hashlib.sha512(output).digest()


def guesses(token: bytes, message: bytes, texts: Sequence[bytes]) -> Iterator[bytes]:
    """Yield what anybody can compute of a token without a key; the group element that is blinded comes first.

    Args:
        token: Input of the PRF.
        message: Digest of the message that it stood in, 32 bytes.
        texts: What the token is made of, as one may write it.
    """
    yield bytes(default_group().hash_to_group(hashing.expand_message_xmd(token, HASH_TO_GROUP)))
    for value in (token, *texts):
        for name in _HASHES:
            yield hashlib.new(name, value).digest()
    # The commitment to a message and its tokens without its salt, and with one of zeros.
    for salt in (b"", bytes(32)):
        yield hashlib.sha256(salt + message + messages.lp(token)).digest()
        yield messages.source_commitment([salt], [message], [[token]])
