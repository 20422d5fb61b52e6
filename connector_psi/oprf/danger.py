"""Proofs with a fixed nonce, to reproduce published test vectors. Never for production.

Two proofs over different batches with one nonce give the secret key away: subtract the responses and
divide by the difference of the challenges. ``import-linter`` keeps this module out of the package's own code.
"""

from __future__ import annotations

from connector_psi.oprf.backends import default_group
from connector_psi.oprf.group import BatchGroup, SecretScalar
from connector_psi.oprf.suite import BlindedElements, EvaluatedElements, KeyPair, _prove


def prove_with_nonce(
    keys: KeyPair,
    blinded: BlindedElements,
    evaluated: EvaluatedElements,
    nonce: SecretScalar,
    *,
    group: BatchGroup | None = None,
) -> bytes:
    """Return ``suite.prove`` with ``nonce`` in the place of a fresh one.

    Args:
        keys: A key pair that protects nothing.
        blinded: ``n * 32`` bytes.
        evaluated: What ``suite.blind_evaluate`` returned for it.
        nonce: The nonce of the test vector.
        group: The group backend; by default the process's.

    Returns:
        64 bytes: the challenge, then the response.

    Raises:
        ProtocolError: the batch is empty, larger than 65,536, or the two differ in count.
        InvalidElementError: a blinded element is not canonical or is the identity.

    Source: RFC 9497 appendix A gives the nonce of every proof.
    """
    return _prove(keys, blinded, evaluated, nonce, group or default_group())
