"""The suite: what is refused and with which error, and that no altered proof holds."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable

import pytest

from connector_psi.errors import FormatError, InvalidElementError, KeyUnavailableError, ProofError, ProtocolError
from connector_psi.oprf import danger, hashing, suite
from connector_psi.oprf.backends import default_group
from connector_psi.oprf.group import GROUP_ORDER, Scalars, SecretScalar
from connector_psi.oprf.sodium import SodiumGroup
from connector_psi.oprf.suite import BlindedElements, EvaluatedElements, KeyPair, Mode

IDENTITY = bytes(32)
BASE = default_group().base_mul_each((1).to_bytes(32, "little"))
INPUTS = [b"first", b"", b"third", b"fourth"]


def seeded(label: str) -> Callable[[int], bytes]:
    """A deterministic source that gives other bytes each time."""
    calls = 0

    def random(n: int) -> bytes:
        nonlocal calls
        calls += 1
        return hashlib.shake_256(f"{label} {calls}".encode()).digest(n)

    return random


def some_blinds(n: int) -> bytes:
    return default_group().scalar_reduce(seeded("blinds")(64 * n))


def integer(value: bytes) -> int:
    return int.from_bytes(value, "little")


def with_top_bit(element: bytes) -> bytes:
    return element[:31] + bytes([element[31] | 0x80])


KEYS = suite.derive_key_pair(bytes(range(32)), b"test key")
BLINDS = some_blinds(4)
BLINDED = suite.blind(INPUTS, BLINDS)
EVALUATED = suite.blind_evaluate(KEYS.secret, BLINDED)
PROOF = suite.prove(KEYS, BLINDED, EVALUATED, seeded("proof"))


class TestKeys:
    def test_equal_arguments_give_equal_keys_and_others_do_not(self) -> None:
        seed, info = bytes(range(32)), b"test key"
        assert suite.derive_key_pair(seed, info) == KEYS
        assert KEYS.public == suite.public_key(KEYS.secret)
        others = [
            suite.derive_key_pair(bytes(32), info),
            suite.derive_key_pair(seed, b"test kez"),
            suite.derive_key_pair(seed, b""),
            suite.derive_key_pair(seed, info, Mode.OPRF),
        ]
        assert len({KEYS.public, *(keys.public for keys in others)}) == 5

    @pytest.mark.parametrize("size", [0, 31, 33])
    def test_a_seed_is_32_bytes(self, size: int) -> None:
        with pytest.raises(FormatError):
            suite.derive_key_pair(bytes(size), b"")

    def test_the_context_is_bounded(self) -> None:
        suite.derive_key_pair(bytes(32), bytes(65_535))
        with pytest.raises(FormatError):
            suite.derive_key_pair(bytes(32), bytes(65_536))

    def test_a_zero_key_is_skipped(self) -> None:
        class ZeroTwice(SodiumGroup):
            calls = 0

            def scalar_reduce(self, wide: bytes) -> Scalars:
                self.calls += 1
                return Scalars(bytes(32)) if self.calls <= 2 else super().scalar_reduce(wide)

        derived = suite.derive_key_pair(bytes(32), b"info", group=ZeroTwice())
        message = bytes(32) + b"\x00\x04info" + b"\x02"
        tag = b"DeriveKeyPairOPRFV1-\x01-ristretto255-SHA512"
        assert derived.secret.reveal() == suite.hash_to_scalar(message, tag)

    def test_derivation_ends(self) -> None:
        class AlwaysZero(SodiumGroup):
            calls = 0

            def scalar_reduce(self, wide: bytes) -> Scalars:
                self.calls += 1
                return Scalars(bytes(32))

        group = AlwaysZero()
        with pytest.raises(KeyUnavailableError):
            suite.derive_key_pair(bytes(32), b"", group=group)
        assert group.calls == 256

    def test_a_pair_shows_and_pickles_no_secret(self) -> None:
        assert KEYS.secret.reveal().hex() not in repr(KEYS)
        assert repr(KEYS.secret.reveal()) not in repr(KEYS)
        with pytest.raises(TypeError):
            pickle.dumps(KEYS)


class TestBlind:
    def test_an_empty_batch_is_refused(self) -> None:
        for call in (
            lambda: suite.blind([], b""),
            lambda: suite.blind_evaluate(KEYS.secret, BlindedElements(b"")),
            lambda: suite.prove(KEYS, BlindedElements(b""), EvaluatedElements(b""), seeded("empty")),
            lambda: suite.verify_proof(KEYS.public, BlindedElements(b""), EvaluatedElements(b""), PROOF),
            lambda: suite.finalize([], b"", EvaluatedElements(b"")),
            lambda: suite.evaluate(KEYS.secret, []),
        ):
            with pytest.raises(ProtocolError):
                call()

    def test_inputs_are_bounded(self) -> None:
        longest = bytes(65_535)
        assert suite.finalize(
            [longest], some_blinds(1), suite.blind_evaluate(KEYS.secret, suite.blind([longest], some_blinds(1)))
        ) == (suite.evaluate(KEYS.secret, [longest]))
        too_long = [b"short", bytes(65_536)]
        for call in (
            lambda: suite.blind(too_long, some_blinds(2)),
            lambda: suite.evaluate(KEYS.secret, too_long),
            lambda: suite.finalize(too_long, some_blinds(2), EvaluatedElements(EVALUATED[:64])),
        ):
            with pytest.raises(FormatError):
                call()

    @pytest.mark.parametrize("bad", [0, GROUP_ORDER, 2**256 - 1])
    def test_a_blind_is_a_scalar_and_not_zero(self, bad: int) -> None:
        blinds = BLINDS[:64] + bad.to_bytes(32, "little") + BLINDS[96:]
        with pytest.raises(FormatError):
            suite.blind(INPUTS, blinds)
        with pytest.raises(FormatError):
            suite.finalize(INPUTS, blinds, EVALUATED)

    def test_counts_agree(self) -> None:
        for blinds in (BLINDS[:96], BLINDS + BLINDS[:32], BLINDS[:-1], b""):
            with pytest.raises(ProtocolError):
                suite.blind(INPUTS, blinds)
            with pytest.raises(ProtocolError):
                suite.finalize(INPUTS, blinds, EVALUATED)
        with pytest.raises(ProtocolError):
            suite.finalize(INPUTS, BLINDS, EvaluatedElements(EVALUATED[:96]))

    def test_an_input_that_maps_to_the_identity_is_refused(self) -> None:
        class ToIdentity(SodiumGroup):
            def hash_to_group(self, uniform: bytes) -> bytes:
                return super().hash_to_group(uniform)[:-32] + IDENTITY

        for call in (
            lambda: suite.blind(INPUTS, BLINDS, group=ToIdentity()),
            lambda: suite.evaluate(KEYS.secret, INPUTS, group=ToIdentity()),
        ):
            with pytest.raises(InvalidElementError):
                call()

    def test_modes_are_apart(self) -> None:
        assert suite.blind(INPUTS, BLINDS, Mode.OPRF) != BLINDED
        assert suite.evaluate(KEYS.secret, INPUTS, Mode.OPRF) != suite.evaluate(KEYS.secret, INPUTS)


class TestElementsOfPeers:
    @pytest.mark.parametrize("bad", [IDENTITY, with_top_bit(BASE), b"\x01" + bytes(31), b"\xff" * 32])
    @pytest.mark.parametrize("position", [0, 3])
    def test_each_is_checked(self, bad: bytes, position: int) -> None:
        blinded = BlindedElements(BLINDED[: 32 * position] + bad + BLINDED[32 * position + 32 :])
        evaluated = EvaluatedElements(EVALUATED[: 32 * position] + bad + EVALUATED[32 * position + 32 :])
        for call in (
            lambda: suite.blind_evaluate(KEYS.secret, blinded),
            lambda: suite.prove(KEYS, blinded, EVALUATED, seeded("bad")),
            lambda: suite.verify_proof(KEYS.public, blinded, EVALUATED, PROOF),
            lambda: suite.verify_proof(KEYS.public, BLINDED, evaluated, PROOF),
            lambda: suite.finalize(INPUTS, BLINDS, evaluated),
        ):
            with pytest.raises(InvalidElementError) as caught:
                call()
            assert str(caught.value) == "invalid group element"

    @pytest.mark.parametrize("bad", [IDENTITY, with_top_bit(KEYS.public), b"\x01" + bytes(31), b"", KEYS.public * 2])
    def test_so_is_the_public_key(self, bad: bytes) -> None:
        with pytest.raises(InvalidElementError):
            suite.verify_proof(bad, BLINDED, EVALUATED, PROOF)

    def test_a_length_that_is_no_batch_is_refused(self) -> None:
        with pytest.raises(InvalidElementError):
            suite.blind_evaluate(KEYS.secret, BlindedElements(BLINDED[:-1]))
        for blinded, evaluated in ((BLINDED[:-1], EVALUATED), (BLINDED, EVALUATED[:-1]), (BLINDED, EVALUATED[:96])):
            with pytest.raises(ProtocolError):
                suite.verify_proof(KEYS.public, BlindedElements(blinded), EvaluatedElements(evaluated), PROOF)

    def test_a_proof_covers_no_more_than_its_indices(self) -> None:
        many = BASE * (suite.MAX_PROOF_ELEMENTS + 1)
        with pytest.raises(ProtocolError):
            suite.verify_proof(KEYS.public, BlindedElements(many), EvaluatedElements(many), PROOF)


class TestProof:
    def test_holds(self) -> None:
        suite.verify_proof(KEYS.public, BLINDED, EVALUATED, PROOF)

    def test_no_flipped_bit_holds(self) -> None:
        blinded, evaluated = BlindedElements(BLINDED[:32]), EvaluatedElements(EVALUATED[:32])
        proof = suite.prove(KEYS, blinded, evaluated, seeded("flip"))
        suite.verify_proof(KEYS.public, blinded, evaluated, proof)
        refused = 0
        for bit in range(512):
            altered = bytearray(proof)
            altered[bit // 8] ^= 1 << bit % 8
            with pytest.raises(ProofError):
                suite.verify_proof(KEYS.public, blinded, evaluated, bytes(altered))
            refused += 1
        assert refused == 512

    def test_a_scalar_has_one_encoding(self) -> None:
        c, s = PROOF[:32], PROOF[32:]
        for altered in (
            (integer(c) + GROUP_ORDER).to_bytes(32, "little") + s,
            c + (integer(s) + GROUP_ORDER).to_bytes(32, "little"),
            bytes(32) + s,
            c + bytes(32),
            PROOF[:-1],
            PROOF + b"\x00",
            b"",
        ):
            with pytest.raises(ProofError):
                suite.verify_proof(KEYS.public, BLINDED, EVALUATED, altered)

    def test_holds_for_this_key_and_these_elements_in_this_order_only(self) -> None:
        other = suite.derive_key_pair(bytes(32), b"other")
        swapped_in = BlindedElements(BLINDED[32:64] + BLINDED[:32] + BLINDED[64:])
        swapped_out = EvaluatedElements(EVALUATED[32:64] + EVALUATED[:32] + EVALUATED[64:])
        replaced = EvaluatedElements(EVALUATED[:-32] + BASE)
        of_other = suite.blind_evaluate(other.secret, BLINDED)
        one_of_other = EvaluatedElements(EVALUATED[:96] + of_other[96:])
        for public, blinded, evaluated in (
            (other.public, BLINDED, EVALUATED),
            (KEYS.public, BLINDED, of_other),
            (KEYS.public, BLINDED, one_of_other),
            (KEYS.public, BLINDED, replaced),
            (KEYS.public, swapped_in, EVALUATED),
            (KEYS.public, BLINDED, swapped_out),
            (KEYS.public, swapped_in, swapped_out),
            (KEYS.public, BlindedElements(BLINDED[:96]), EvaluatedElements(EVALUATED[:96])),
        ):
            with pytest.raises(ProofError):
                suite.verify_proof(public, blinded, evaluated, PROOF)

    def test_a_wrong_evaluation_is_proved_in_vain(self) -> None:
        """Errors that cancel in the plain sum do not cancel under the weights."""
        group = default_group()
        shifted = EvaluatedElements(
            group.add(EVALUATED[:32], BASE) + group.sub(EVALUATED[32:64], BASE) + EVALUATED[64:]
        )
        proof = suite.prove(KEYS, BLINDED, shifted, seeded("shifted"))
        with pytest.raises(ProofError):
            suite.verify_proof(KEYS.public, BLINDED, shifted, proof)

    def test_the_nonce_is_asked_for_once_and_is_fresh(self) -> None:
        asked: list[int] = []
        source = seeded("nonce")

        def random(n: int) -> bytes:
            asked.append(n)
            return source(n)

        first, second = (suite.prove(KEYS, BLINDED, EVALUATED, random) for _ in range(2))
        assert asked == [64, 64]
        assert first != second
        for proof in (first, second):
            suite.verify_proof(KEYS.public, BLINDED, EVALUATED, proof)

    def test_a_source_that_gives_no_nonce_is_refused(self) -> None:
        for random in (bytes, lambda n: b"\x01" * (n - 1)):
            with pytest.raises(FormatError):
                suite.prove(KEYS, BLINDED, EVALUATED, random)

    def test_a_repeated_nonce_gives_the_key_away(self) -> None:
        """Why ``danger`` has its name."""
        nonce = SecretScalar(some_blinds(1))
        half = BlindedElements(BLINDED[:64]), EvaluatedElements(EVALUATED[:64])
        proofs = [danger.prove_with_nonce(KEYS, *batch, nonce) for batch in ((BLINDED, EVALUATED), half)]
        (c1, s1), (c2, s2) = ((integer(proof[:32]), integer(proof[32:])) for proof in proofs)
        found = (s1 - s2) * pow(c2 - c1, -1, GROUP_ORDER) % GROUP_ORDER
        assert KeyPair(SecretScalar(found.to_bytes(32, "little")), KEYS.public) == KEYS


@pytest.mark.parametrize("size", [0, 256])
def test_a_domain_separation_tag_is_1_to_255_bytes(size: int) -> None:
    with pytest.raises(FormatError):
        hashing.expand_message_xmd(b"message", bytes(size))


def test_expansion_follows_the_definition() -> None:
    """RFC 9380 section 5.3.1, spelled out for one block."""
    for message, tag in ((b"", b"x"), (b"abc", b"QUUX-V01-CS02-with-expander"), (bytes(300), bytes(255))):
        tagged = tag + bytes([len(tag)])
        b_0 = hashlib.sha512(bytes(128) + message + b"\x00\x40" + b"\x00" + tagged).digest()
        assert hashing.expand_message_xmd(message, tag) == hashlib.sha512(b_0 + b"\x01" + tagged).digest()
