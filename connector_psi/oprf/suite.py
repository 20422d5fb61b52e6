"""RFC 9497 with ristretto255-SHA512, modes OPRF and VOPRF, on batches.

Decides: every byte that is hashed, the order of checks, what a proof covers. The words are the
specification's: the querier *blinds*, the owner *blind-evaluates* and *proves*, the querier *verifies*
and *finalizes*; ``evaluate`` is what the owner computes directly for its own set. The five steps
agree::

    blinded   = blind(inputs, blinds)                          querier
    evaluated = blind_evaluate(keys.secret, blinded)           owner
    proof     = prove(keys, blinded, evaluated, random.bytes)  owner
    verify_proof(keys.public, blinded, evaluated, proof)       querier; raises
    finalize(inputs, blinds, evaluated) == evaluate(keys.secret, inputs)

Leaves to others: group arithmetic and the canonical form of elements (``group``), where blinds come from
(``protocol.querier`` derives them, so that a crash resends identical bytes), key storage (``keyring``).

Verification order: lengths, then scalars, then elements, then the equation. Nothing about the
position of a bad element shows. Not handled: mode POPRF, other suites.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha512
from typing import Final, NewType

import numpy as np

from connector_psi.errors import FormatError, InvalidElementError, KeyUnavailableError, ProofError, ProtocolError
from connector_psi.oprf.backends import default_group
from connector_psi.oprf.group import (
    ELEMENT_BYTES,
    SCALAR_BYTES,
    UNIFORM_BYTES,
    BatchGroup,
    Scalars,
    SecretScalar,
)
from connector_psi.oprf.hashing import (
    LENGTH_AND_ZERO,
    MAX_INPUT_BYTES,
    OUTPUT_BYTES,
    Z_PAD,
    dst_prime,
    expand_message_xmd,
    lp,
)

SEED_BYTES: Final = 32
PROOF_BYTES: Final = 2 * SCALAR_BYTES
MAX_PROOF_ELEMENTS: Final = 2**16
"""The index of an element in a proof is hashed as two bytes (RFC 9497 section 2.2.1)."""

BlindedElements = NewType("BlindedElements", bytes)
"""Packed blinded elements, ``n * 32`` bytes: what a querier sends."""
EvaluatedElements = NewType("EvaluatedElements", bytes)
"""Packed evaluated elements, ``n * 32`` bytes: what an owner answers."""
PrfOutputs = NewType("PrfOutputs", bytes)
"""Packed outputs, ``n * 64`` bytes. They never travel to the holder of the key."""


_ELEMENT = np.dtype((np.void, ELEMENT_BYTES))
_COMPOSITE = np.dtype(
    [
        ("index", ">u2"),
        ("size", ">u2"),
        ("blinded", _ELEMENT),
        ("size_again", ">u2"),
        ("evaluated", _ELEMENT),
        ("label", "S9"),
    ]
)
"""What follows the seed in the hash of one pair. From: RFC 9497 section 2.2.1, ComputeComposites."""


class Mode(IntEnum):
    """Protocol mode; the number is part of every domain separation. From: RFC 9497 section 3.1."""

    OPRF = 0x00
    VOPRF = 0x01


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A secret key and its public element; the ``repr`` shows the public one only."""

    secret: SecretScalar
    public: bytes


def derive_key_pair(seed: bytes, info: bytes, mode: Mode = Mode.VOPRF, *, group: BatchGroup | None = None) -> KeyPair:
    """Derive a key pair from a seed.

    Equal arguments give equal keys on every machine.

    Args:
        seed: 32 secret bytes.
        info: Public context, at most 65,535 bytes; different contexts give unrelated keys.
        mode: Keys of different modes are unrelated too.
        group: The group backend; by default the process's.

    Returns:
        The pair; the secret is never zero.

    Raises:
        FormatError: ``seed`` is not 32 bytes, or ``info`` is too long.
        KeyUnavailableError: 256 derivations gave zero: not expected in the life of the universe.

    Source: RFC 9497 section 3.2.1.
    """
    if len(seed) != SEED_BYTES:
        raise FormatError("a key seed is 32 bytes")
    chosen = group or default_group()
    derive_input = seed + lp(info)
    for counter in range(256):
        scalar = hash_to_scalar(derive_input + bytes([counter]), b"DeriveKeyPair" + _context(mode), group=chosen)
        if any(scalar):
            secret = SecretScalar(scalar)
            return KeyPair(secret, public_key(secret, group=chosen))
    raise KeyUnavailableError("key derivation is exhausted")


def public_key(secret: SecretScalar, *, group: BatchGroup | None = None) -> bytes:
    """Return the public element of a secret key, 32 bytes. Source: RFC 9497 section 3.2."""
    return (group or default_group()).base_mul_each(secret.reveal())


def blind(
    inputs: Sequence[bytes], blinds: bytes, mode: Mode = Mode.VOPRF, *, group: BatchGroup | None = None
) -> BlindedElements:
    """Hash each input to the group and multiply it by the caller's blind.

    The result says nothing about the inputs to anyone who does not hold the blinds. A blind must be
    uniform, secret and never used for another input.

    Args:
        inputs: At least one, each at most 65,535 bytes.
        blinds: ``n * 32`` bytes, scalars from 1 to the group order minus 1, in the order of ``inputs``.
        mode: The mode that the owner's key was derived for.
        group: The group backend; by default the process's.

    Returns:
        ``n * 32`` bytes, in the order of ``inputs``.

    Raises:
        ProtocolError: the batch is empty, or ``blinds`` has another count.
        FormatError: an input is too long, or a blind is zero or not canonical.
        InvalidElementError: an input maps to the identity; nobody knows such an input.

    Source: RFC 9497 sections 3.3.1 and 3.3.2, Blind.
    """
    _require_batch(len(inputs), (blinds, SCALAR_BYTES))
    _require_inputs(inputs)
    return BlindedElements((group or default_group()).blind(blinds, inputs, _hash_to_group_dst(mode)))


def blind_evaluate(
    secret: SecretScalar, blinded: BlindedElements, *, group: BatchGroup | None = None
) -> EvaluatedElements:
    """Multiply each blinded element by the secret key.

    Args:
        secret: The key of the token class.
        blinded: ``n * 32`` bytes from a peer; every element is checked.
        group: The group backend; by default the process's.

    Returns:
        ``n * 32`` bytes, in the order of ``blinded``.

    Raises:
        ProtocolError: the batch is empty.
        InvalidElementError: an element is not canonical or is the identity, or the length is no multiple of 32.

    Source: RFC 9497 section 3.3.2, BlindEvaluate, without the proof.
    """
    _require_batch(len(blinded))
    return EvaluatedElements((group or default_group()).scalar_mul(secret, blinded))


def prove(
    keys: KeyPair,
    blinded: BlindedElements,
    evaluated: EvaluatedElements,
    random: Callable[[int], bytes],
    *,
    group: BatchGroup | None = None,
) -> bytes:
    """Prove that one key evaluated the whole batch, the key of ``keys.public``.

    The nonce is fresh: whoever learns a nonce, or sees two proofs made with one, has the key. Whether
    ``evaluated`` is right is not checked here; a wrong one gives a proof that does not verify.

    Args:
        keys: The pair that evaluated.
        blinded: What the querier sent, ``n * 32`` bytes.
        evaluated: What ``blind_evaluate`` returned for it.
        random: Returns as many unpredictable bytes as it is asked for; ``RandomSource.bytes``.
        group: The group backend; by default the process's.

    Returns:
        64 bytes: the challenge, then the response.

    Raises:
        ProtocolError: the batch is empty, larger than 65,536, or the two differ in count.
        InvalidElementError: a blinded element is not canonical or is the identity.
        FormatError: ``random`` gave no scalar that can be a nonce.

    Cost: a multiplication and an addition an element, four multiplications a batch.
    Source: RFC 9497 sections 2.2.1 (GenerateProof) and 2.2.2 (ComputeCompositesFast).
    """
    chosen = group or default_group()
    return _prove(keys, blinded, evaluated, SecretScalar(chosen.scalar_reduce(random(UNIFORM_BYTES))), chosen)


def verify_proof(
    public: bytes,
    blinded: BlindedElements,
    evaluated: EvaluatedElements,
    proof: bytes,
    *,
    group: BatchGroup | None = None,
) -> None:
    """Return if the key of ``public`` evaluated the whole batch; raise if not.

    Args:
        public: The owner's public element, 32 bytes, from a source that the owner cannot vary by query.
        blinded: What was sent, ``n * 32`` bytes.
        evaluated: What came back; from a peer, every element is checked.
        proof: 64 bytes from the peer.
        group: The group backend; by default the process's.

    Raises:
        ProtocolError: the batch is empty, larger than 65,536, or the two differ in count.
        InvalidElementError: an element or ``public`` is not canonical or is the identity.
        ProofError: the proof has another length, a scalar in it is zero or not canonical, or it does not hold.

    Cost: two multiplications and two additions an element, four multiplications a batch.
    Source: RFC 9497 sections 2.2.1 (VerifyProof, ComputeComposites). An honest proof holds a zero scalar with
    probability 2^-251; the RFC would accept it, this refuses it.
    """
    chosen = group or default_group()
    if len(proof) != PROOF_BYTES:
        raise ProofError
    try:
        chosen.check_scalars(proof)
    except FormatError:
        raise ProofError from None
    if len(public) != ELEMENT_BYTES:
        raise InvalidElementError
    weights = _composite_weights(public, blinded, evaluated, chosen)
    m, z = chosen.weighted_sum(weights, blinded), chosen.weighted_sum(weights, evaluated)
    c, s = proof[:SCALAR_BYTES], proof[SCALAR_BYTES:]
    # t2 = s * G + c * public, t3 = s * M + c * Z
    left = chosen.base_mul_each(s) + chosen.scalar_mul_each(s, m)
    t = chosen.add(left, chosen.scalar_mul_each(c + c, public + z))
    if not hmac.compare_digest(c, _challenge(public, m, z, t, chosen)):
        raise ProofError


def finalize(
    inputs: Sequence[bytes],
    blinds: bytes,
    evaluated: EvaluatedElements,
    mode: Mode = Mode.VOPRF,
    *,
    group: BatchGroup | None = None,
) -> PrfOutputs:
    """Remove the blinds and hash to the outputs.

    In mode VOPRF the caller has verified the proof before: this does not.

    Args:
        inputs: What was blinded.
        blinds: The scalars that blinded it.
        evaluated: What came back, ``n * 32`` bytes, every element is checked.
        mode: Accepted for symmetry with ``evaluate``: the last hash is the same in both modes.
        group: The group backend; by default the process's.

    Returns:
        ``n * 64`` bytes, in the order of ``inputs``.

    Raises:
        ProtocolError: the batch is empty, or the three differ in count.
        FormatError: an input is too long, or a blind is zero or not canonical.
        InvalidElementError: an element is not canonical or is the identity.

    Source: RFC 9497 section 3.3.1, Finalize.
    """
    del mode
    _require_batch(len(inputs), (blinds, SCALAR_BYTES), (evaluated, ELEMENT_BYTES))
    _require_inputs(inputs)
    return PrfOutputs((group or default_group()).finalize(blinds, inputs, evaluated))


def evaluate(
    secret: SecretScalar, inputs: Sequence[bytes], mode: Mode = Mode.VOPRF, *, group: BatchGroup | None = None
) -> PrfOutputs:
    """Compute the outputs directly, as the holder of the key.

    Equal to what a querier obtains by ``blind``, ``blind_evaluate`` and ``finalize``.

    Args:
        secret: The key.
        inputs: At least one, each at most 65,535 bytes.
        mode: The mode that the key was derived for.
        group: The group backend; by default the process's.

    Returns:
        ``n * 64`` bytes, in the order of ``inputs``.

    Raises:
        ProtocolError: the batch is empty.
        FormatError: an input is too long.
        InvalidElementError: an input maps to the identity; nobody knows such an input.

    Source: RFC 9497 section 3.3.1, Evaluate.
    """
    _require_batch(len(inputs))
    _require_inputs(inputs)
    outputs, _ = (group or default_group()).evaluate_tokens(secret, inputs, _hash_to_group_dst(mode))
    return PrfOutputs(outputs)


def evaluate_and_derive(
    secret: SecretScalar,
    inputs: Sequence[bytes],
    label: bytes,
    mode: Mode = Mode.VOPRF,
    *,
    group: BatchGroup | None = None,
) -> tuple[PrfOutputs, bytes]:
    """Compute the outputs directly, and what is derived first of each.

    Args:
        secret: The key.
        inputs: As for ``evaluate``.
        label: What separates the derivation from others.
        mode: The mode that the key was derived for.
        group: The group backend; by default the process's.

    Returns:
        The outputs, and ``SHA-512(label || output || uint32(0))`` of each; ``n * 64`` bytes both, in the order of
        ``inputs``.

    Raises:
        ProtocolError: the batch is empty.
        FormatError: an input is too long.
        InvalidElementError: an input maps to the identity; nobody knows such an input.
    """
    _require_batch(len(inputs))
    _require_inputs(inputs)
    outputs, derived = (group or default_group()).evaluate_tokens(secret, inputs, _hash_to_group_dst(mode), label)
    return PrfOutputs(outputs), derived


def hash_to_scalar(
    message: bytes, dst: bytes | None = None, mode: Mode = Mode.VOPRF, *, group: BatchGroup | None = None
) -> Scalars:
    """Return a scalar for ``message``; ``dst`` is ``HashToScalar-`` and the mode's context by default.

    Source: RFC 9497 section 4.1.
    """
    tag = b"HashToScalar-" + _context(mode) if dst is None else dst
    return (group or default_group()).scalar_reduce(expand_message_xmd(message, tag))


def _prove(
    keys: KeyPair, blinded: BlindedElements, evaluated: EvaluatedElements, nonce: SecretScalar, group: BatchGroup
) -> bytes:
    """Prove with a given nonce; ``danger`` alone gives one that is not fresh."""
    weights = _composite_weights(keys.public, blinded, evaluated, group)
    m = group.weighted_sum(weights, blinded)
    z = group.scalar_mul(keys.secret, m)
    t = group.base_mul_each(nonce.reveal()) + group.scalar_mul(nonce, m)
    c = _challenge(keys.public, m, z, t, group)
    return c + group.scalar_difference(nonce.reveal(), group.scalar_product(c, keys.secret.reveal()))


def _composite_weights(
    public: bytes, blinded: BlindedElements, evaluated: EvaluatedElements, group: BatchGroup
) -> Scalars:
    """Return ``d_i``, which bind every pair and its place. From: RFC 9497 section 2.2.1, ComputeComposites."""
    count = len(blinded) // ELEMENT_BYTES
    _require_batch(count, (blinded, ELEMENT_BYTES), (evaluated, ELEMENT_BYTES))
    if count > MAX_PROOF_ELEMENTS:
        raise ProtocolError("a proof covers at most 65,536 elements")
    context = _context(Mode.VOPRF)
    seed = lp(sha512(lp(public) + lp(b"Seed-" + context)).digest())
    rows = np.empty(count, _COMPOSITE)
    rows["index"], rows["size"], rows["size_again"], rows["label"] = (
        np.arange(count),
        ELEMENT_BYTES,
        ELEMENT_BYTES,
        b"Composite",
    )
    rows["blinded"] = np.frombuffer(blinded, _ELEMENT)
    rows["evaluated"] = np.frombuffer(evaluated, _ELEMENT)
    # HashToScalar of seed || row, as expand_message_xmd has it, for the whole batch in two calls.
    tag = dst_prime(b"HashToScalar-" + context)
    first = group.sha512_each(Z_PAD + seed, rows.tobytes(), _COMPOSITE.itemsize, LENGTH_AND_ZERO + tag)
    return group.scalar_reduce(group.sha512_each(b"", first, OUTPUT_BYTES, b"\x01" + tag))


def _challenge(public: bytes, m: bytes, z: bytes, t: bytes, group: BatchGroup) -> Scalars:
    """Return ``c``; ``t`` is ``t2 || t3``. From: RFC 9497 section 2.2.1, GenerateProof."""
    transcript = b"".join(map(lp, (public, m, z, t[:ELEMENT_BYTES], t[ELEMENT_BYTES:]))) + b"Challenge"
    return hash_to_scalar(transcript, group=group)


def _hash_to_group_dst(mode: Mode) -> bytes:
    return b"HashToGroup-" + _context(mode)


def _require_inputs(inputs: Sequence[bytes]) -> None:
    if max(map(len, inputs)) > MAX_INPUT_BYTES:
        raise FormatError("an input is longer than 65,535 bytes")


def _context(mode: Mode) -> bytes:
    """Return contextString. From: RFC 9497 section 3.1, CreateContextString."""
    return b"OPRFV1-" + bytes([mode]) + b"-ristretto255-SHA512"


def _require_batch(count: int, *packed: tuple[bytes, int]) -> None:
    if count == 0:
        raise ProtocolError("a batch is empty")
    if any(len(buffer) != count * size for buffer, size in packed):
        raise ProtocolError("the parts of a batch differ in count")
