"""The checks of the kernel below Python, in their short forms; ``make ct`` and ``make sanitize`` are the long ones."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from connector_psi.oprf import native
from tests.kernel import __main__ as checks
from tests.kernel import disassembly


@pytest.mark.skipif(
    shutil.which("cc") is None or shutil.which("objdump") is None, reason="no C compiler, or no objdump"
)
@pytest.mark.skipif("avx2" not in native.KERNELS, reason="no vectors on this processor")
def test_leaks_are_found_in_machine_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "BUILT", tmp_path)
    leaking = checks.compiled("leaking.o", [checks.HERE / "leaking.c"], "-O1", "-w", "-DBACKEND_IFMA")
    checked, findings = disassembly.check_object(leaking, checks.LEAKS)
    assert checked == checks.LEAKS
    assert {each.function for each in findings} == checks.LEAKS
    # What the same file holds of the kernel itself does not leak.
    assert disassembly.check_object(leaking)[1] == []


@pytest.mark.skipif(shutil.which("objdump") is None, reason="no objdump")
@pytest.mark.skipif(
    "avx512ifma" not in native.KERNELS and "avx2" not in native.KERNELS, reason="the kernel is not built"
)
def test_the_flags_that_are_checked_are_those_of_the_build() -> None:
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    flags = next(line for line in project.splitlines() if line.startswith("extra-compile-args"))
    assert all(f'"{flag}"' in flags for flag in checks.AS_BUILT if flag != "-fPIC"), (
        "-fPIC comes from Python's own flags"
    )


def test_the_programs_name_every_backend() -> None:
    assert set(native.KERNELS) <= set(checks.BACKENDS)
