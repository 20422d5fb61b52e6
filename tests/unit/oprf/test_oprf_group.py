"""The group port on libsodium: refusals, batches against singles, threads, what is left behind."""

from __future__ import annotations

import copy
import hashlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from connector_psi.errors import ConfigError, FormatError, InvalidElementError
from connector_psi.oprf.group import GROUP_ORDER, BatchGroup, SecretScalar, SodiumGroup, backend_name, default_group

GROUP: BatchGroup = SodiumGroup(threads=2)
SINGLE: BatchGroup = SodiumGroup(threads=1)
IDENTITY = bytes(32)


def scalar(value: int) -> bytes:
    return (value % GROUP_ORDER).to_bytes(32, "little")


def integers(packed: bytes) -> list[int]:
    return [int.from_bytes(packed[at : at + 32], "little") for at in range(0, len(packed), 32)]


def seeded(label: str, n: int) -> bytes:
    return hashlib.shake_256(label.encode()).digest(n)


def some_scalars(n: int) -> bytes:
    return SINGLE.scalar_reduce(seeded("scalars", 64 * n))


def some_elements(n: int) -> bytes:
    return SINGLE.hash_to_group(seeded("elements", 64 * n))


KEY = SecretScalar(some_scalars(1))

ELEMENT_CALLS: dict[str, Callable[[bytes], object]] = {
    "check_elements": GROUP.check_elements,
    "scalar_mul": lambda e: GROUP.scalar_mul(KEY, e),
    "scalar_mul_each": lambda e: GROUP.scalar_mul_each(some_scalars(len(e) // 32), e),
    "weighted_sum": lambda e: GROUP.weighted_sum(some_scalars(len(e) // 32), e),
    "add left": lambda e: GROUP.add(e, some_elements(len(e) // 32)),
    "add right": lambda e: GROUP.add(some_elements(len(e) // 32), e),
    "sub left": lambda e: GROUP.sub(e, some_elements(len(e) // 32)),
    "sub right": lambda e: GROUP.sub(some_elements(len(e) // 32), e),
}
SCALAR_CALLS: dict[str, Callable[[bytes], object]] = {
    "check_scalars": GROUP.check_scalars,
    "scalar_mul_each": lambda s: GROUP.scalar_mul_each(s, some_elements(len(s) // 32)),
    "base_mul_each": GROUP.base_mul_each,
    "weighted_sum": lambda s: GROUP.weighted_sum(s, some_elements(len(s) // 32)),
    "scalar_invert": GROUP.scalar_invert,
}


class TestSecretScalar:
    @pytest.mark.parametrize("value", [1, 2, GROUP_ORDER - 1])
    def test_takes_what_is_a_key(self, value: int) -> None:
        assert SecretScalar(scalar(value)).reveal() == scalar(value)

    @pytest.mark.parametrize("value", [0, GROUP_ORDER, GROUP_ORDER + 1, 2**255, 2**256 - 1])
    def test_refuses_zero_and_what_is_not_canonical(self, value: int) -> None:
        with pytest.raises(FormatError):
            SecretScalar(value.to_bytes(32, "little"))

    @pytest.mark.parametrize("size", [0, 31, 33, 64])
    def test_refuses_other_lengths(self, size: int) -> None:
        with pytest.raises(FormatError):
            SecretScalar(b"\x01" * size)

    def test_shows_nothing(self) -> None:
        value = KEY.reveal()
        for text in (repr(KEY), str(KEY), f"{KEY}", repr([KEY])):
            assert "SecretScalar(hidden)" in text
            assert value.hex() not in text
            assert repr(value) not in text

    def test_is_not_pickled_or_copied(self) -> None:
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            with pytest.raises(TypeError):
                pickle.dumps(KEY, protocol)
        for duplicate in (copy.copy, copy.deepcopy):
            with pytest.raises(TypeError):
                duplicate(KEY)

    def test_compares_by_value_and_is_not_hashable(self) -> None:
        assert SecretScalar(scalar(7)) == SecretScalar(scalar(7))
        assert SecretScalar(scalar(7)) != SecretScalar(scalar(8))
        assert SecretScalar(scalar(7)) != scalar(7)
        with pytest.raises(TypeError):
            hash(KEY)


class TestRefusals:
    @pytest.mark.parametrize("name", ELEMENT_CALLS)
    def test_the_top_bit_makes_no_second_encoding(self, name: str) -> None:
        """The bundled libsodium takes these; RFC 9496 does not."""
        for value in range(1, 16):
            element = bytearray(SINGLE.base_mul_each(scalar(value)))
            ELEMENT_CALLS[name](bytes(element))
            element[31] |= 0x80
            with pytest.raises(InvalidElementError):
                ELEMENT_CALLS[name](bytes(element))

    @pytest.mark.parametrize("name", ELEMENT_CALLS)
    @pytest.mark.parametrize("position", [0, 63, 64, 65, 129])
    def test_one_bad_element_refuses_the_batch(self, name: str, position: int) -> None:
        """Wherever it is, on whichever thread, the error is the same."""
        good = some_elements(130)
        # Negative, above the prime, and even, below the prime, but no square.
        for bad in (b"\x01" + bytes(31), b"\xee" + b"\xff" * 30 + b"\x7f", b"\x02" + bytes(31)):
            with pytest.raises(InvalidElementError) as caught:
                ELEMENT_CALLS[name](good[: 32 * position] + bad + good[32 * position + 32 :])
            assert str(caught.value) == "invalid group element"

    @pytest.mark.parametrize("name", [name for name in ELEMENT_CALLS if name[:3] not in {"add", "sub"}])
    def test_the_identity_is_refused(self, name: str) -> None:
        for elements in (IDENTITY, some_elements(70) + IDENTITY):
            with pytest.raises(InvalidElementError):
                ELEMENT_CALLS[name](elements)

    @pytest.mark.parametrize("name", ELEMENT_CALLS)
    @pytest.mark.parametrize("size", [1, 31, 33, 63])
    def test_other_lengths_of_elements_are_refused(self, name: str, size: int) -> None:
        with pytest.raises((InvalidElementError, FormatError)) as caught:
            ELEMENT_CALLS[name](some_elements(2)[:size])
        if name in {"check_elements", "scalar_mul"}:
            assert caught.type is InvalidElementError

    @pytest.mark.parametrize("name", SCALAR_CALLS)
    @pytest.mark.parametrize("bad", [0, GROUP_ORDER, 2**255, 2**256 - 1])
    def test_zero_and_non_canonical_scalars_are_refused(self, name: str, bad: int) -> None:
        for scalars in (bad.to_bytes(32, "little"), some_scalars(3) + bad.to_bytes(32, "little") + some_scalars(1)):
            with pytest.raises(FormatError):
                SCALAR_CALLS[name](scalars)

    @pytest.mark.parametrize("name", SCALAR_CALLS)
    def test_other_lengths_of_scalars_are_refused(self, name: str) -> None:
        with pytest.raises(FormatError):
            SCALAR_CALLS[name](some_scalars(2)[:63])

    def test_operands_of_different_counts_are_refused(self) -> None:
        for call in (GROUP.scalar_mul_each, GROUP.weighted_sum):
            with pytest.raises(FormatError):
                call(some_scalars(2), some_elements(3))
        for combine in (GROUP.scalar_product, GROUP.scalar_difference):
            with pytest.raises(FormatError):
                combine(some_scalars(2), some_scalars(3))
        for operation in (GROUP.add, GROUP.sub):
            with pytest.raises(FormatError):
                operation(some_elements(2), some_elements(3))

    def test_uniform_bytes_come_in_blocks_of_64(self) -> None:
        for call in (GROUP.hash_to_group, GROUP.scalar_reduce):
            with pytest.raises(FormatError):
                call(bytes(96))


class TestBatches:
    @pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 130])
    def test_a_batch_equals_its_elements_one_by_one(self, n: int) -> None:
        uniform, scalars, elements = seeded("elements", 64 * n), some_scalars(n), some_elements(n)
        each = [(scalars[at : at + 32], elements[at : at + 32]) for at in range(0, 32 * n, 32)]
        assert GROUP.hash_to_group(uniform) == elements
        assert GROUP.scalar_mul(KEY, elements) == b"".join(SINGLE.scalar_mul(KEY, e) for _, e in each)
        products = [SINGLE.scalar_mul_each(s, e) for s, e in each]
        assert GROUP.scalar_mul_each(scalars, elements) == b"".join(products)
        assert GROUP.base_mul_each(scalars) == b"".join(SINGLE.base_mul_each(s) for s, _ in each)
        total = IDENTITY
        for product in products:
            total = SINGLE.add(total, product)
        assert GROUP.weighted_sum(scalars, elements) == total
        assert GROUP.scalar_invert(scalars) == b"".join(SINGLE.scalar_invert(s) for s, _ in each)
        GROUP.check_elements(elements)
        GROUP.check_scalars(scalars)

    def test_an_empty_batch_gives_nothing(self) -> None:
        assert GROUP.hash_to_group(b"") == GROUP.scalar_mul(KEY, b"") == GROUP.base_mul_each(b"") == b""
        assert GROUP.scalar_mul_each(b"", b"") == GROUP.add(b"", b"") == GROUP.sub(b"", b"") == b""
        assert GROUP.scalar_reduce(b"") == GROUP.scalar_invert(b"") == GROUP.scalar_product(b"", b"") == b""
        GROUP.check_elements(b"")
        with pytest.raises(FormatError):
            GROUP.weighted_sum(b"", b"")

    def test_inputs_are_left_as_they_were(self) -> None:
        scalars, elements = some_scalars(3), some_elements(3)
        before = bytes(bytearray(scalars)), bytes(bytearray(elements)), bytes(bytearray(KEY.reveal()))
        GROUP.scalar_invert(scalars)
        GROUP.weighted_sum(scalars, elements)
        GROUP.scalar_mul(KEY, elements)
        assert (scalars, elements, KEY.reveal()) == before


class TestArithmetic:
    def test_the_identity_is_neutral(self) -> None:
        elements, zeros = some_elements(3), IDENTITY * 3
        assert GROUP.add(elements, zeros) == GROUP.add(zeros, elements) == GROUP.sub(elements, zeros) == elements
        assert GROUP.sub(elements, elements) == zeros

    def test_scalars_agree_with_integers(self) -> None:
        values = [1, 2, GROUP_ORDER - 1, GROUP_ORDER // 3, *integers(some_scalars(5))]
        others = integers(GROUP.scalar_reduce(seeded("others", 64 * len(values))))
        a, b = b"".join(map(scalar, values)), b"".join(map(scalar, others))
        pairs = list(zip(values, others, strict=True))
        assert GROUP.scalar_product(a, b) == b"".join(scalar(x * y) for x, y in pairs)
        assert GROUP.scalar_difference(a, b) == b"".join(scalar(x - y) for x, y in pairs)
        assert GROUP.scalar_difference(a, a) == bytes(len(a))
        assert GROUP.scalar_invert(a) == b"".join(scalar(pow(x, -1, GROUP_ORDER)) for x in values)

    def test_reduction_agrees_with_integers(self) -> None:
        values = [0, 1, GROUP_ORDER, GROUP_ORDER + 1, 2**512 - 1, GROUP_ORDER << 200]
        values.append(int.from_bytes(seeded("wide", 64), "little"))
        wide = b"".join(value.to_bytes(64, "little") for value in values)
        assert GROUP.scalar_reduce(wide) == b"".join(map(scalar, values))


class TestThreads:
    def test_at_least_one(self) -> None:
        with pytest.raises(ConfigError):
            SodiumGroup(threads=0)

    def test_calls_from_several_threads_do_not_mix(self) -> None:
        group = SodiumGroup(threads=2)
        batches = [some_elements(70 + i) for i in range(6)]
        expected = [SINGLE.scalar_mul(KEY, batch) for batch in batches]
        with ThreadPoolExecutor(6) as callers:
            assert list(callers.map(lambda batch: group.scalar_mul(KEY, batch), batches)) == expected


def run_python(script: str, temporary: Path) -> str:
    environment = {**os.environ, "TMPDIR": str(temporary)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class TestLibrary:
    def test_names_itself(self) -> None:
        assert backend_name() == default_group().name
        assert backend_name().startswith("libsodium 1.")

    def test_leaves_no_file_behind(self, tmp_path: Path) -> None:
        script = "from connector_psi.oprf.group import backend_name; print(backend_name())"
        assert run_python(script, tmp_path) == backend_name()
        assert list(tmp_path.iterdir()) == []

    def test_removes_the_file_of_an_earlier_import(self, tmp_path: Path) -> None:
        script = (
            "import os, rbcl; before = len(os.listdir(os.environ['TMPDIR']))\n"
            "from connector_psi.oprf.group import backend_name; backend_name(); print(before)"
        )
        assert run_python(script, tmp_path) == "1"
        assert list(tmp_path.iterdir()) == []

    def test_a_directory_that_allows_no_execution_is_a_configuration_error(self, tmp_path: Path) -> None:
        script = (
            "import ctypes, tempfile\n"
            "def refuse(self, name): raise OSError('failed to map segment from shared object')\n"
            "ctypes.LibraryLoader.LoadLibrary = refuse\n"
            "from connector_psi.errors import ConfigError\n"
            "from connector_psi.oprf.group import default_group\n"
            "try: default_group()\n"
            "except ConfigError as error: print('TMPDIR' in str(error), tempfile.tempdir)\n"
        )
        assert run_python(script, tmp_path) == f"True {tmp_path}"
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
    def test_a_forked_child_makes_its_own_threads(self, tmp_path: Path) -> None:
        script = (
            "import os\n"
            "from connector_psi.oprf.group import SodiumGroup\n"
            "group = SodiumGroup(threads=2)\n"
            "scalars = (b'\\x01' + bytes(31)) * 130\n"
            "before = group.base_mul_each(scalars)\n"
            "child = os.fork()\n"
            "if child == 0: os._exit(0 if group.base_mul_each(scalars) == before else 1)\n"
            "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        )
        assert run_python(script, tmp_path) == "0"
