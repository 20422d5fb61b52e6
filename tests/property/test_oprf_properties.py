"""Properties of the PRF that hold for every input: agreement, homomorphism, batches, total refusal."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector_psi.errors import ConnectorError, InvalidElementError, PeerError
from connector_psi.oprf import suite
from connector_psi.oprf.backends import default_group
from connector_psi.oprf.group import GROUP_ORDER, SecretScalar
from connector_psi.oprf.suite import BlindedElements, EvaluatedElements, Mode

GROUP = default_group()

scalars = st.integers(1, GROUP_ORDER - 1)
inputs = st.lists(st.binary(max_size=80), min_size=1, max_size=5)
modes = st.sampled_from(Mode)
few = settings(derandomize=True, max_examples=25, deadline=None, database=None)
many = settings(derandomize=True, max_examples=150, deadline=None, database=None)


def scalar(value: int) -> bytes:
    return (value % GROUP_ORDER).to_bytes(32, "little")


def blinds_for(values: list[bytes], label: int) -> bytes:
    return GROUP.scalar_reduce(hashlib.shake_256(label.to_bytes(32, "little")).digest(64 * len(values)))


@few
@given(inputs, scalars, scalars, modes)
def test_the_querier_learns_what_the_owner_computes(values: list[bytes], key: int, label: int, mode: Mode) -> None:
    secret, blinds = SecretScalar(scalar(key)), blinds_for(values, label)
    evaluated = suite.blind_evaluate(secret, suite.blind(values, blinds, mode))
    assert suite.finalize(values, blinds, evaluated, mode) == suite.evaluate(secret, values, mode)


@few
@given(inputs, scalars, scalars, scalars)
def test_outputs_do_not_depend_on_blinds_and_blinded_elements_do(values: list[bytes], key: int, a: int, b: int) -> None:
    secret = SecretScalar(scalar(key))
    outputs = []
    blinded = []
    for label in (a, b):
        blinds = blinds_for(values, label)
        blinded.append(suite.blind(values, blinds))
        outputs.append(suite.finalize(values, blinds, suite.blind_evaluate(secret, blinded[-1])))
    assert outputs[0] == outputs[1]
    assert (blinded[0] == blinded[1]) == (a == b)


@few
@given(inputs, scalars, st.binary(min_size=64, max_size=64))
def test_an_honest_proof_holds(values: list[bytes], label: int, entropy: bytes) -> None:
    keys = suite.derive_key_pair(entropy[:32], entropy[32:])
    blinded = suite.blind(values, blinds_for(values, label))
    evaluated = suite.blind_evaluate(keys.secret, blinded)
    proof = suite.prove(keys, blinded, evaluated, lambda n: hashlib.shake_256(entropy).digest(n))
    suite.verify_proof(keys.public, blinded, evaluated, proof)


@few
@given(scalars, scalars)
def test_multiplication_is_a_homomorphism(a: int, b: int) -> None:
    base_a, base_b = GROUP.base_mul_each(scalar(a)), GROUP.base_mul_each(scalar(b))
    assert GROUP.scalar_mul(SecretScalar(scalar(a)), base_b) == GROUP.scalar_mul(SecretScalar(scalar(b)), base_a)
    total, product = (a + b) % GROUP_ORDER, a * b % GROUP_ORDER
    assert GROUP.add(base_a, base_b) == (GROUP.base_mul_each(scalar(total)) if total else bytes(32))
    assert GROUP.scalar_mul_each(scalar(a), base_b) == GROUP.base_mul_each(scalar(product))
    assert GROUP.weighted_sum(scalar(a) + scalar(b), base_b + base_a) == GROUP.base_mul_each(scalar(2 * product))


@few
@given(inputs, scalars)
def test_a_batch_equals_its_inputs_one_by_one(values: list[bytes], key: int) -> None:
    secret, blinds = SecretScalar(scalar(key)), blinds_for(values, key)
    blinded = suite.blind(values, blinds)
    singles = [suite.blind([value], blinds[32 * i : 32 * i + 32]) for i, value in enumerate(values)]
    assert blinded == b"".join(singles)
    assert suite.blind_evaluate(secret, blinded) == b"".join(suite.blind_evaluate(secret, one) for one in singles)
    assert suite.evaluate(secret, values) == b"".join(suite.evaluate(secret, [value]) for value in values)


@many
@given(st.binary(max_size=200) | st.binary(min_size=32, max_size=32))
def test_random_bytes_are_refused_with_one_error(data: bytes) -> None:
    try:
        GROUP.check_elements(data)
    except InvalidElementError:
        return
    # What is accepted must be usable, and be its own canonical form.
    one = SecretScalar(scalar(1))
    assert GROUP.scalar_mul(one, data) == data


@many
@given(st.binary(max_size=100), st.binary(max_size=100), st.binary(max_size=70), st.binary(max_size=40))
def test_random_bytes_end_an_exchange_as_the_peers_fault(
    blinded: bytes, evaluated: bytes, proof: bytes, public: bytes
) -> None:
    with pytest.raises(PeerError):
        suite.verify_proof(public, BlindedElements(blinded), EvaluatedElements(evaluated), proof)


@many
@given(st.binary(max_size=70), st.integers(0, 2**256 - 1))
def test_a_secret_scalar_is_canonical_or_refused(data: bytes, value: int) -> None:
    for candidate in (data, value.to_bytes(32, "little")):
        valid = len(candidate) == 32 and 0 < int.from_bytes(candidate, "little") < GROUP_ORDER
        try:
            accepted = SecretScalar(candidate).reveal() == candidate
        except ConnectorError:
            accepted = False
        assert accepted == valid
