"""The group port on every backend: refusals, batches against singles, threads; what libsodium leaves behind."""

from __future__ import annotations

import copy
import hashlib
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from connector_psi.errors import ConfigError, FormatError, InvalidElementError
from connector_psi.oprf.backends import backend_name, backend_names, default_group, make_group
from connector_psi.oprf.group import GROUP_ORDER, BatchGroup, SecretScalar
from connector_psi.oprf.hashing import expand_message_xmd, output_each
from connector_psi.oprf.native import KERNELS, KernelGroup
from connector_psi.oprf.sodium import SodiumGroup

SINGLE: BatchGroup = SodiumGroup(threads=1)
"""What every backend, libsodium on two threads included, is compared with."""
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


@pytest.fixture(scope="module", params=backend_names())
def group(request: pytest.FixtureRequest) -> BatchGroup:
    return make_group(request.param, threads=2)


ELEMENT_CALLS: dict[str, Callable[[BatchGroup, bytes], object]] = {
    "check_elements": lambda g, e: g.check_elements(e),
    "scalar_mul": lambda g, e: g.scalar_mul(KEY, e),
    "scalar_mul_each": lambda g, e: g.scalar_mul_each(some_scalars(len(e) // 32), e),
    "weighted_sum": lambda g, e: g.weighted_sum(some_scalars(len(e) // 32), e),
    "add left": lambda g, e: g.add(e, some_elements(len(e) // 32)),
    "add right": lambda g, e: g.add(some_elements(len(e) // 32), e),
    "sub left": lambda g, e: g.sub(e, some_elements(len(e) // 32)),
    "sub right": lambda g, e: g.sub(some_elements(len(e) // 32), e),
}
SCALAR_CALLS: dict[str, Callable[[BatchGroup, bytes], object]] = {
    "check_scalars": lambda g, s: g.check_scalars(s),
    "scalar_mul_each": lambda g, s: g.scalar_mul_each(s, some_elements(len(s) // 32)),
    "base_mul_each": lambda g, s: g.base_mul_each(s),
    "weighted_sum": lambda g, s: g.weighted_sum(s, some_elements(len(s) // 32)),
    "scalar_invert": lambda g, s: g.scalar_invert(s),
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
    def test_the_top_bit_makes_no_second_encoding(self, group: BatchGroup, name: str) -> None:
        """The bundled libsodium takes these; RFC 9496 does not."""
        for value in range(1, 16):
            element = bytearray(SINGLE.base_mul_each(scalar(value)))
            ELEMENT_CALLS[name](group, bytes(element))
            element[31] |= 0x80
            with pytest.raises(InvalidElementError):
                ELEMENT_CALLS[name](group, bytes(element))

    @pytest.mark.parametrize("name", ELEMENT_CALLS)
    @pytest.mark.parametrize("position", [0, 63, 64, 65, 255, 256, 299])
    def test_one_bad_element_refuses_the_batch(self, group: BatchGroup, name: str, position: int) -> None:
        """Wherever it is, on whichever thread, the error is the same."""
        good = some_elements(300)
        # Negative, above the prime, and even, below the prime, but no square.
        for bad in (b"\x01" + bytes(31), b"\xee" + b"\xff" * 30 + b"\x7f", b"\x02" + bytes(31)):
            with pytest.raises(InvalidElementError) as caught:
                ELEMENT_CALLS[name](group, good[: 32 * position] + bad + good[32 * position + 32 :])
            assert str(caught.value) == "invalid group element"

    @pytest.mark.parametrize("name", [name for name in ELEMENT_CALLS if name[:3] not in {"add", "sub"}])
    def test_the_identity_is_refused(self, group: BatchGroup, name: str) -> None:
        for elements in (IDENTITY, some_elements(70) + IDENTITY):
            with pytest.raises(InvalidElementError):
                ELEMENT_CALLS[name](group, elements)

    @pytest.mark.parametrize("name", ELEMENT_CALLS)
    @pytest.mark.parametrize("size", [1, 31, 33, 63])
    def test_other_lengths_of_elements_are_refused(self, group: BatchGroup, name: str, size: int) -> None:
        with pytest.raises((InvalidElementError, FormatError)) as caught:
            ELEMENT_CALLS[name](group, some_elements(2)[:size])
        if name in {"check_elements", "scalar_mul"}:
            assert caught.type is InvalidElementError

    @pytest.mark.parametrize("name", SCALAR_CALLS)
    @pytest.mark.parametrize("bad", [0, GROUP_ORDER, 2**255, 2**256 - 1])
    def test_zero_and_non_canonical_scalars_are_refused(self, group: BatchGroup, name: str, bad: int) -> None:
        for scalars in (bad.to_bytes(32, "little"), some_scalars(3) + bad.to_bytes(32, "little") + some_scalars(1)):
            with pytest.raises(FormatError):
                SCALAR_CALLS[name](group, scalars)

    @pytest.mark.parametrize("name", SCALAR_CALLS)
    def test_other_lengths_of_scalars_are_refused(self, group: BatchGroup, name: str) -> None:
        with pytest.raises(FormatError):
            SCALAR_CALLS[name](group, some_scalars(2)[:63])

    def test_operands_of_different_counts_are_refused(self, group: BatchGroup) -> None:
        for call in (group.scalar_mul_each, group.weighted_sum):
            with pytest.raises(FormatError):
                call(some_scalars(2), some_elements(3))
        for combine in (group.scalar_product, group.scalar_difference):
            with pytest.raises(FormatError):
                combine(some_scalars(2), some_scalars(3))
        for operation in (group.add, group.sub):
            with pytest.raises(FormatError):
                operation(some_elements(2), some_elements(3))

    def test_uniform_bytes_come_in_blocks_of_64(self, group: BatchGroup) -> None:
        for call in (group.hash_to_group, group.scalar_reduce):
            with pytest.raises(FormatError):
                call(bytes(96))


class TestBatches:
    @pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 63, 64, 65, 255, 256, 257, 1030])
    def test_a_batch_equals_its_elements_one_by_one(self, group: BatchGroup, n: int) -> None:
        uniform, scalars, elements = seeded("elements", 64 * n), some_scalars(n), some_elements(n)
        each = [(scalars[at : at + 32], elements[at : at + 32]) for at in range(0, 32 * n, 32)]
        assert group.hash_to_group(uniform) == elements
        assert group.scalar_mul(KEY, elements) == b"".join(SINGLE.scalar_mul(KEY, e) for _, e in each)
        products = [SINGLE.scalar_mul_each(s, e) for s, e in each]
        assert group.scalar_mul_each(scalars, elements) == b"".join(products)
        assert group.base_mul_each(scalars) == b"".join(SINGLE.base_mul_each(s) for s, _ in each)
        total = IDENTITY
        for product in products:
            total = SINGLE.add(total, product)
        assert group.weighted_sum(scalars, elements) == total
        assert group.scalar_invert(scalars) == b"".join(SINGLE.scalar_invert(s) for s, _ in each)
        group.check_elements(elements)
        group.check_scalars(scalars)

    def test_an_empty_batch_gives_nothing(self, group: BatchGroup) -> None:
        assert group.hash_to_group(b"") == group.scalar_mul(KEY, b"") == group.base_mul_each(b"") == b""
        assert group.scalar_mul_each(b"", b"") == group.add(b"", b"") == group.sub(b"", b"") == b""
        assert group.scalar_reduce(b"") == group.scalar_invert(b"") == group.scalar_product(b"", b"") == b""
        group.check_elements(b"")
        with pytest.raises(FormatError):
            group.weighted_sum(b"", b"")

    def test_inputs_are_left_as_they_were(self, group: BatchGroup) -> None:
        scalars, elements = some_scalars(3), some_elements(3)
        before = bytes(bytearray(scalars)), bytes(bytearray(elements)), bytes(bytearray(KEY.reveal()))
        group.scalar_invert(scalars)
        group.weighted_sum(scalars, elements)
        group.scalar_mul(KEY, elements)
        assert (scalars, elements, KEY.reveal()) == before


class TestArithmetic:
    def test_the_identity_is_neutral(self, group: BatchGroup) -> None:
        elements, zeros = some_elements(3), IDENTITY * 3
        assert group.add(elements, zeros) == group.add(zeros, elements) == group.sub(elements, zeros) == elements
        assert group.sub(elements, elements) == zeros

    def test_scalars_agree_with_integers(self, group: BatchGroup) -> None:
        values = [1, 2, GROUP_ORDER - 1, GROUP_ORDER // 3, *integers(some_scalars(5))]
        others = integers(group.scalar_reduce(seeded("others", 64 * len(values))))
        a, b = b"".join(map(scalar, values)), b"".join(map(scalar, others))
        pairs = list(zip(values, others, strict=True))
        assert group.scalar_product(a, b) == b"".join(scalar(x * y) for x, y in pairs)
        assert group.scalar_difference(a, b) == b"".join(scalar(x - y) for x, y in pairs)
        assert group.scalar_difference(a, a) == bytes(len(a))
        assert group.scalar_invert(a) == b"".join(scalar(pow(x, -1, GROUP_ORDER)) for x in values)

    def test_reduction_agrees_with_integers(self, group: BatchGroup) -> None:
        values = [0, 1, GROUP_ORDER, GROUP_ORDER + 1, 2**512 - 1, GROUP_ORDER << 200]
        values.append(int.from_bytes(seeded("wide", 64), "little"))
        wide = b"".join(value.to_bytes(64, "little") for value in values)
        assert group.scalar_reduce(wide) == b"".join(map(scalar, values))


class TestSteps:
    """The steps of RFC 9497 that a backend may fuse, against their parts."""

    DST = b"HashToGroup-test"

    @pytest.mark.parametrize("n", [1, 3, 8, 9, 257, 600])
    def test_inputs_of_all_lengths(self, group: BatchGroup, n: int) -> None:
        lengths = [0, 1, 79, 80, 81, 111, 112, 113, 127, 128, 129, 240, 1000, 65535]
        inputs = [seeded(f"input {i}", lengths[i % len(lengths)] if n < 300 else i % 300) for i in range(n)]
        uniform = b"".join(expand_message_xmd(value, self.DST) for value in inputs)
        elements, blinds = SINGLE.hash_to_group(uniform), some_scalars(n)
        outputs = output_each(inputs, SINGLE.scalar_mul(KEY, elements))
        assert group.blind(blinds, inputs, self.DST) == SINGLE.scalar_mul_each(blinds, elements)
        assert (
            group.finalize(blinds, inputs, SINGLE.scalar_mul_each(blinds, SINGLE.scalar_mul(KEY, elements))) == outputs
        )
        assert group.evaluate_tokens(KEY, inputs, self.DST) == (outputs, b"")
        derived = b"".join(
            hashlib.sha512(b"label" + outputs[at : at + 64] + bytes(4)).digest() for at in range(0, len(outputs), 64)
        )
        assert group.evaluate_tokens(KEY, inputs, self.DST, b"label") == (outputs, derived)

    @pytest.mark.parametrize("size", [1, 2, 47, 64, 111, 112, 128, 300])
    @pytest.mark.parametrize("prefix", [0, 1, 127, 128, 200, 256])
    def test_hashes_of_rows(self, group: BatchGroup, size: int, prefix: int) -> None:
        begin, end = seeded("prefix", prefix), seeded("suffix", prefix // 3)
        for n in (1, 7, 20):
            rows = seeded("rows", size * n)
            expected = [hashlib.sha512(begin + rows[at : at + size] + end).digest() for at in range(0, len(rows), size)]
            assert group.sha512_each(begin, rows, size, end) == b"".join(expected)

    def test_an_empty_batch_gives_nothing(self, group: BatchGroup) -> None:
        assert (
            group.blind(b"", [], self.DST) == group.finalize(b"", [], b"") == group.sha512_each(b"", b"", 4, b"") == b""
        )
        assert group.evaluate_tokens(KEY, [], self.DST) == (b"", b"")

    def test_what_does_not_fit_is_refused(self, group: BatchGroup) -> None:
        two = some_scalars(2)
        for call in (
            lambda: group.blind(two, [b"one"], self.DST),
            lambda: group.blind(bytes(32), [b"one"], self.DST),
            lambda: group.blind(two, [b"one", b"two"], b""),
            lambda: group.finalize(two, [b"one"], some_elements(1)),
            lambda: group.finalize(two, [b"one", b"two"], some_elements(1)),
            lambda: group.evaluate_tokens(KEY, [b"one"], bytes(256)),
            lambda: group.sha512_each(b"", bytes(5), 2, b""),
            lambda: group.sha512_each(b"", b"", 0, b""),
        ):
            with pytest.raises(FormatError):
                call()
        with pytest.raises(InvalidElementError):
            group.finalize(two, [b"one", b"two"], some_elements(1) + IDENTITY)


class TestThreads:
    @pytest.mark.parametrize("backend", backend_names())
    def test_at_least_one(self, backend: str) -> None:
        with pytest.raises(ConfigError):
            make_group(backend, threads=0)

    def test_calls_from_several_threads_do_not_mix(self, group: BatchGroup) -> None:
        batches = [some_elements(270 + i) for i in range(6)]
        expected = [SINGLE.scalar_mul(KEY, batch) for batch in batches]
        with ThreadPoolExecutor(6) as callers:
            assert list(callers.map(lambda batch: group.scalar_mul(KEY, batch), batches)) == expected


def run_python(script: str, temporary: Path, backend: str = "libsodium") -> str:
    environment = {**os.environ, "TMPDIR": str(temporary), "CONNECTOR_PSI_BACKEND": backend}
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


NAME = "from connector_psi.oprf.backends import backend_name; print(backend_name())"


class TestChoice:
    def test_libsodium_is_the_last_of_all_and_the_fastest_is_the_default(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CONNECTOR_PSI_BACKEND", raising=False)
        default_group.cache_clear()
        assert backend_names()[-1] == "libsodium"
        assert backend_name() == default_group().name == make_group(backend_names()[0]).name

    def test_the_kernel_is_there_wherever_a_compiler_was(self) -> None:
        """Debian's gcc and this project's continuous integration have one: a kernel that fails to build is an error."""
        if shutil.which("cc") is None:
            pytest.skip("no C compiler")
        assert "portable" in backend_names()

    @pytest.mark.parametrize("backend", backend_names())
    def test_the_variable_chooses(self, backend: str, tmp_path: Path) -> None:
        assert run_python(NAME, tmp_path, backend) == make_group(backend).name

    def test_another_name_is_a_configuration_error_that_tells_the_names(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CONNECTOR_PSI_BACKEND", "fastest")
        default_group.cache_clear()
        with pytest.raises(ConfigError) as caught:
            default_group()
        assert "CONNECTOR_PSI_BACKEND" in str(caught.value)
        assert all(name in str(caught.value) for name in backend_names())
        default_group.cache_clear()

    def test_no_kernel_of_that_name(self) -> None:
        with pytest.raises(ConfigError, match="no PRF kernel of that name"):
            KernelGroup("avx3")

    def test_without_the_module_libsodium_serves(self, tmp_path: Path) -> None:
        script = "import sys; sys.modules['connector_psi.oprf._kernel'] = None\n" + NAME
        assert run_python(script, tmp_path, "").startswith("libsodium 1.")

    def test_a_kernel_that_miscalculates_is_not_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        if not KERNELS:
            pytest.skip("the kernel is not built")
        monkeypatch.setattr(KernelGroup, "evaluate_tokens", lambda *_: (bytes(64), b""))
        with pytest.raises(ConfigError, match="miscalculates"):
            KernelGroup(KERNELS[0])


class TestLibrary:
    def test_leaves_no_file_behind(self, tmp_path: Path) -> None:
        assert run_python(NAME, tmp_path).startswith("libsodium 1.")
        assert list(tmp_path.iterdir()) == []

    def test_removes_the_file_of_an_earlier_import(self, tmp_path: Path) -> None:
        script = (
            "import os, rbcl; before = len(os.listdir(os.environ['TMPDIR']))\n"
            "from connector_psi.oprf.backends import backend_name; backend_name(); print(before)"
        )
        assert run_python(script, tmp_path) == "1"
        assert list(tmp_path.iterdir()) == []

    def test_a_directory_that_allows_no_execution_is_a_configuration_error(self, tmp_path: Path) -> None:
        script = (
            "import ctypes, tempfile\n"
            "def refuse(self, name): raise OSError('failed to map segment from shared object')\n"
            "ctypes.LibraryLoader.LoadLibrary = refuse\n"
            "from connector_psi.errors import ConfigError\n"
            "from connector_psi.oprf.backends import default_group\n"
            "try: default_group()\n"
            "except ConfigError as error: print('TMPDIR' in str(error), tempfile.tempdir)\n"
        )
        assert run_python(script, tmp_path) == f"True {tmp_path}"
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
    @pytest.mark.parametrize("backend", backend_names())
    def test_a_forked_child_makes_its_own_threads(self, backend: str, tmp_path: Path) -> None:
        script = (
            "import os\n"
            "from connector_psi.oprf.backends import make_group\n"
            f"group = make_group({backend!r}, threads=2)\n"
            "scalars = (b'\\x01' + bytes(31)) * 530\n"
            "before = group.base_mul_each(scalars)\n"
            "child = os.fork()\n"
            "if child == 0: os._exit(0 if group.base_mul_each(scalars) == before else 1)\n"
            "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        )
        assert run_python(script, tmp_path) == "0"
