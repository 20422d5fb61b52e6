"""Checks of the PRF kernel below Python: constant time, and sanitizers.

    python -m tests.kernel ct [--samples N] [--cpu N]
    python -m tests.kernel sanitize [--seconds N]

``ct``: the machine code of functions that hold secrets (``disassembly.py``), valgrind with secrets marked as uninitialised
(``uninitialised.c``), and a t-test over running times (``dudect.c``). ``sanitize``: every operation under AddressSanitizer
and UndefinedBehaviorSanitizer (``sanitized.c``). Each proves itself on code that leaks on purpose, where it can.

Exit code 1: something was found. 2: something that is needed is not there (a C compiler, objdump, valgrind and its headers).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from connector_psi.oprf import native
from tests.kernel import disassembly

HERE = Path(__file__).parent
KERNEL = Path(native.__file__).parent / "kernel"
BUILT = Path(".venv") / "kernel"
BACKENDS = {
    "avx512ifma": ("ifma", "BACKEND_IFMA"),
    "avx2": ("avx2", "BACKEND_AVX2"),
    "portable": ("portable", "BACKEND_PORTABLE"),
}
"""Name -> translation unit, and macro of the programs that include the kernel."""
AS_BUILT = ("-O3", "-fPIC", "-fvisibility=hidden")
"""The flags of pyproject.toml: what is checked is what is installed."""
SANITIZERS = ("-O1", "-g", "-w", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")
LEAKS = frozenset({"point_mul_branching", "point_mul_skipping", "point_mul_indexing", "point_mul_gathering"})
OPERATIONS = ("point", "generator", "scalars", "messages")


class MissingError(Exception):
    """A tool that a check needs is not there."""


def tool(name: str) -> str:
    """Return where a program is, or raise ``MissingError``."""
    found = shutil.which(os.environ.get("CC", name) if name == "cc" else name)
    if found is None:
        raise MissingError(f"{name} is needed, and not installed")
    return found


def compiled(target: str, sources: list[Path], *flags: str) -> Path:
    """Compile to an object if the target ends with .o, else to a program."""
    BUILT.mkdir(parents=True, exist_ok=True)
    path = BUILT / target
    kind = ["-c"] if target.endswith(".o") else []
    subprocess.run(
        [tool("cc"), *kind, f"-I{KERNEL}", *flags, "-o", path, *sources, *([] if kind else ["-lm"])], check=True
    )
    return path


def read_machine_code() -> bool:
    """Read the code of the vector backends; and prove that leaks are found."""
    tool("objdump")
    good = True
    for backend in ("avx512ifma", "avx2"):
        unit, macro = BACKENDS[backend]
        checked, findings = disassembly.check_object(compiled(f"{unit}.o", [KERNEL / f"{unit}.c"], *AS_BUILT))
        for each in findings:
            print(f"{backend}: {each.function}+{each.address}: {each.problem}: {each.instruction}")
        leaking = compiled(f"leaking-{unit}.o", [HERE / "leaking.c"], *AS_BUILT, "-w", f"-D{macro}")
        caught = {each.function for each in disassembly.check_object(leaking, LEAKS)[1]}
        print(
            f"machine code of {backend}: {len(checked)} functions, {len(findings)} findings; leaks caught: {len(caught)} of {len(LEAKS)}"
        )
        good &= bool(checked) and not findings and caught == LEAKS
    return good


def follow_secrets() -> bool:
    """Run the operations of the backends that valgrind can run with secrets marked as uninitialised."""
    valgrind = tool("valgrind")
    if not any(Path(folder, "valgrind/memcheck.h").exists() for folder in ("/usr/include", "/usr/local/include")):
        raise MissingError("valgrind's headers are needed, and not installed")
    marked = ("-O3", "-g", "-w", "-include", str(HERE / "declassify.h"))
    units = [compiled(f"marked-{unit}.o", [KERNEL / f"{unit}.c"], *marked) for unit in ("avx2", "portable")]
    program = compiled(
        "uninitialised", [HERE / "uninitialised.c", *units], "-O3", "-g", "-Wl,--unresolved-symbols=ignore-all"
    )
    good = True
    for backend in ("portable", "avx2"):
        if backend not in native.KERNELS:
            print(f"valgrind, {backend}: not run, this processor has it not")
            continue
        print(f"valgrind, {backend}:")
        good &= subprocess.run([valgrind, "-q", program, backend], check=False).returncode == 0
    control = subprocess.run([valgrind, "-q", program, "portable", "control"], capture_output=True, check=False)
    print(f"valgrind: a leak is {'caught' if control.returncode == 1 else 'not caught'}")
    return good and control.returncode == 1


def measure_times(samples: int, cpu: int) -> bool:
    """Compare running times over classes of secrets, on one processor."""
    good = True
    for backend in native.KERNELS:
        _, macro = BACKENDS[backend]
        program = compiled(f"dudect-{backend}", [HERE / "dudect.c"], "-O3", "-w", f"-D{macro}")
        control = subprocess.run([program, "control", "20000", str(cpu)], capture_output=True, check=False)
        print(
            f"running times, {backend}: a leak is {'caught' if control.returncode == 1 else 'not caught'}", flush=True
        )
        good &= control.returncode == 1
        for operation in OPERATIONS:
            good &= subprocess.run([program, operation, str(samples), str(cpu)], check=False).returncode == 0
    return good


def sanitize(seconds: int) -> bool:
    """Run every operation of every backend under the sanitizers."""
    units = [unit for unit, _ in BACKENDS.values()]
    with ThreadPoolExecutor() as pool:
        objects = list(
            pool.map(lambda unit: compiled(f"sanitized-{unit}.o", [KERNEL / f"{unit}.c"], *SANITIZERS), units)
        )
    program = compiled("sanitized", [HERE / "sanitized.c", *objects], *SANITIZERS)
    return subprocess.run([program, str(seconds)], check=False).returncode == 0


def main() -> int:
    """Run one of the two, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    ct = kinds.add_parser("ct", help="constant time")
    ct.add_argument("--samples", type=int, default=1_000_000, help="of each running time (1000000; some 15 minutes)")
    ct.add_argument("--cpu", type=int, default=max(os.sched_getaffinity(0)), help="the processor to measure on")
    sanitizers = kinds.add_parser("sanitize", help="AddressSanitizer and UndefinedBehaviorSanitizer")
    sanitizers.add_argument(
        "--seconds", type=int, default=60, help="of random sizes and bytes after the fixed ones (60)"
    )
    options = parser.parse_args()
    try:
        if options.kind == "sanitize":
            good = sanitize(options.seconds)
        else:
            good = all([read_machine_code(), follow_secrets(), measure_times(options.samples, options.cpu)])
    except (MissingError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 2
    print("nothing was found" if good else "something was found")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
