"""P1 and P2: the PRF of a token, and a verified query, beside plain libsodium calls in the same run.

Run ``python benchmarks/prf.py --json OUT``. Each run measures every side once, one after the other on the same
cores, those of P1 for at least 50 ms; a figure is the median over the runs, a ratio the median of the runs' ratios
(above 1: faster than plain calls). *Plain* is one element a call through the public functions of ``rbcl``, on one
thread, with the hashing that RFC 9497 asks for. All sides must give equal outputs, or the measurement fails.

P1: ``suite.evaluate``, the owner's own PRF: hash, map to the group, multiply, hash; on every backend of the group.
P2: blind, blind-evaluate, prove, verify and finalize: both sides of one query on one machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from functools import partial
from hashlib import sha512
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from connector_psi.oprf import suite
from connector_psi.oprf.backends import LIBSODIUM, backend_names, make_group
from connector_psi.oprf.group import BatchGroup, SecretScalar
from connector_psi.oprf.hashing import expand_message_xmd

P1_TARGET_RATIO = {"avx512ifma": 10, "avx2": 3}
P2_TARGET_WALL_US = 35
STEPS = ("blind", "blind_evaluate", "prove", "verify_proof", "finalize")
FLAGS = ("avx2", "avx512f", "avx512ifma", "bmi2", "adx", "sha_ni")
CONTEXT = b"OPRFV1-\x01-ristretto255-SHA512"
LEAST_US = 50_000

NOT_RUN = "not run: this processor or build has it not"

T = TypeVar("T")


def measure(runs: int = 7, batch: int = 1024, threads: int = 2) -> dict[str, Any]:
    """Return the objects ``P1`` and ``P2``: figures, units, conditions, backend, ratio to libsodium.

    Args:
        runs: How often each side is measured; the medians count.
        batch: Tokens in a batch.
        threads: Threads of the parallel figures; the plain side always has one.
    """
    tokens = [b"connector-psi/v1 token" + b"\x00\x01" * 12 + i.to_bytes(8, "big") for i in range(batch)]
    keys = suite.derive_key_pair(bytes(range(32)), b"benchmark")
    conditions = {"batch": batch, "runs": runs, "threads": threads, "token_bytes": len(tokens[0]), **machine()}
    return {
        "P1": _measure_prf(keys, tokens, runs, threads, conditions),
        "P2": _measure_query(keys, tokens, runs, threads, conditions),
    }


def machine() -> dict[str, Any]:
    """Return what a reader needs to place the figures: processor, its flags, CPUs, interpreter."""
    cpuinfo = Path("/proc/cpuinfo")
    fields: dict[str, str] = {}
    for line in cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else ():
        name, _, value = line.partition(":")
        fields[name.strip()] = value.strip()
    flags = fields.get("flags", "").split()
    return {
        "cpu": fields.get("model name", platform.processor()),
        "cpu_flags": [flag for flag in FLAGS if flag in flags],
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
    }


def plain_prf(secret: SecretScalar, tokens: list[bytes]) -> bytes:
    """Compute P1 with one libsodium call an element, through ``rbcl``'s public functions."""
    import rbcl  # noqa: PLC0415 - after the group has loaded it, and removed the file that it leaves behind

    key = secret.reveal()
    outputs = []
    for token in tokens:
        element = rbcl.crypto_core_ristretto255_from_hash(expand_message_xmd(token, b"HashToGroup-" + CONTEXT))
        outputs.append(_output(token, rbcl.crypto_scalarmult_ristretto255(key, element)))
    return b"".join(outputs)


def plain_query(keys: suite.KeyPair, tokens: list[bytes], blinds: list[bytes]) -> bytes:
    """Compute P2 with one libsodium call an element, through ``rbcl``'s public functions."""
    import rbcl  # noqa: PLC0415 - as above

    mul, add, base = (
        rbcl.crypto_scalarmult_ristretto255,
        rbcl.crypto_core_ristretto255_add,
        rbcl.crypto_scalarmult_ristretto255_base,
    )
    key = keys.secret.reveal()
    tag = b"HashToGroup-" + CONTEXT
    blinded = [
        mul(scalar, rbcl.crypto_core_ristretto255_from_hash(expand_message_xmd(token, tag)))
        for scalar, token in zip(blinds, tokens, strict=True)
    ]
    evaluated = [mul(key, element) for element in blinded]

    def weights() -> list[bytes]:
        seed = sha512(_lp(keys.public) + _lp(b"Seed-" + CONTEXT)).digest()
        pairs = enumerate(zip(blinded, evaluated, strict=True))
        return [scalar(_lp(seed) + i.to_bytes(2, "big") + _lp(c) + _lp(d) + b"Composite") for i, (c, d) in pairs]

    def scalar(message: bytes) -> bytes:
        wide = expand_message_xmd(message, b"HashToScalar-" + CONTEXT)
        reduced: bytes = rbcl.crypto_core_ristretto255_scalar_reduce(wide)
        return reduced

    def weighted_sum(scalars: list[bytes], elements: list[bytes]) -> bytes:
        total = bytes(32)
        for weight, element in zip(scalars, elements, strict=True):
            total = add(total, mul(weight, element))
        return total

    def challenge(*elements: bytes) -> bytes:
        return scalar(b"".join(map(_lp, elements)) + b"Challenge")

    m = weighted_sum(weights(), blinded)
    z, nonce = mul(key, m), rbcl.crypto_core_ristretto255_scalar_random()
    c = challenge(keys.public, m, z, base(nonce), mul(nonce, m))
    s = rbcl.crypto_core_ristretto255_scalar_sub(nonce, rbcl.crypto_core_ristretto255_scalar_mul(c, key))
    checked = weights()
    m, z = weighted_sum(checked, blinded), weighted_sum(checked, evaluated)
    if c != challenge(keys.public, m, z, add(base(s), mul(c, keys.public)), add(mul(s, m), mul(c, z))):
        raise SystemExit("the plain side does not verify")
    return b"".join(
        _output(token, mul(rbcl.crypto_core_ristretto255_scalar_invert(blind), element))
        for token, blind, element in zip(tokens, blinds, evaluated, strict=True)
    )


def _measure_prf(
    keys: suite.KeyPair, tokens: list[bytes], runs: int, threads: int, conditions: dict[str, Any]
) -> dict[str, Any]:
    groups = {name: make_group(name, threads=1) for name in backend_names()}
    several = make_group(backend_names()[0], threads)
    sides: dict[str, Callable[[], bytes]] = {
        "plain": lambda: plain_prf(keys.secret, tokens),
        "all threads": lambda: suite.evaluate(keys.secret, tokens, group=several),
        **{name: partial(suite.evaluate, keys.secret, tokens, group=group) for name, group in groups.items()},
    }
    walls: dict[str, list[float]] = {name: [] for name in sides}
    _require_equal([side() for side in sides.values()])
    for _ in range(runs):
        for name, side in sides.items():
            walls[name].append(_lasting(side) / len(tokens))
    best = backend_names()[0]
    known = (*P1_TARGET_RATIO, "portable", LIBSODIUM)
    return {
        "figures": {
            "one_thread_us": _median(walls[best]),
            "all_threads_us": _median(walls["all threads"]),
            "libsodium_plain_us": _median(walls["plain"]),
            "backends_us": {name: _median(walls[name]) if name in walls else NOT_RUN for name in known},
        },
        "units": "microseconds of wall time a token",
        "target_ratio_to_libsodium": P1_TARGET_RATIO,
        "conditions": conditions,
        "backend": groups[best].name,
        "ratio_to_libsodium": _ratio(walls["plain"], walls[best]),
        "ratio_to_libsodium_all_threads": _ratio(walls["plain"], walls["all threads"]),
        "ratios_to_libsodium": {
            name: _ratio(walls["plain"], walls[name]) if name in walls else NOT_RUN for name in known
        },
    }


def _measure_query(
    keys: suite.KeyPair, tokens: list[bytes], runs: int, threads: int, conditions: dict[str, Any]
) -> dict[str, Any]:
    group = make_group(backend_names()[0], threads)
    blinds = group.scalar_reduce(os.urandom(64 * len(tokens)))
    separate = [blinds[at : at + 32] for at in range(0, len(blinds), 32)]
    expected = suite.evaluate(keys.secret, tokens, group=group)
    steps: dict[str, list[tuple[float, float]]] = {name: [] for name in STEPS}
    plain: list[float] = []
    for run in range(runs + 1):
        outputs, times = _query(keys, tokens, blinds, group)
        plain_outputs, plain_us, _ = _timed(lambda: plain_query(keys, tokens, separate))
        _require_equal([expected, outputs, plain_outputs])
        if run == 0:
            continue  # starts the threads and fills the caches
        plain.append(plain_us / len(tokens))
        for name, (wall, cpu) in times.items():
            steps[name].append((wall / len(tokens), cpu / len(tokens)))
    totals = [[sum(each[kind] for each in run) for run in zip(*steps.values(), strict=True)] for kind in (0, 1)]
    return {
        "figures": {
            "wall_us": _median(totals[0]),
            "cpu_us": _median(totals[1]),
            "libsodium_plain_us": _median(plain),
            "steps_wall_us": {name: _median([wall for wall, _ in each]) for name, each in steps.items()},
            "steps_cpu_us": {name: _median([cpu for _, cpu in each]) for name, each in steps.items()},
        },
        "units": "microseconds an element, both sides together",
        "target_wall_us": P2_TARGET_WALL_US,
        "conditions": conditions,
        "backend": group.name,
        "ratio_to_libsodium": _ratio(plain, totals[0]),
        "ratio_to_libsodium_cpu": _ratio(plain, totals[1]),
    }


def _query(
    keys: suite.KeyPair, tokens: list[bytes], blinds: bytes, group: BatchGroup
) -> tuple[bytes, dict[str, tuple[float, float]]]:
    times: dict[str, tuple[float, float]] = {}

    def step(name: str, call: Callable[[], T]) -> T:
        result, wall, cpu = _timed(call)
        times[name] = wall, cpu
        return result

    blinded = step("blind", lambda: suite.blind(tokens, blinds, group=group))
    evaluated = step("blind_evaluate", lambda: suite.blind_evaluate(keys.secret, blinded, group=group))
    proof = step("prove", lambda: suite.prove(keys, blinded, evaluated, os.urandom, group=group))
    step("verify_proof", lambda: suite.verify_proof(keys.public, blinded, evaluated, proof, group=group))
    return step("finalize", lambda: suite.finalize(tokens, blinds, evaluated, group=group)), times


def _timed(call: Callable[[], T]) -> tuple[T, float, float]:
    """Return the result, and the microseconds of wall and of CPU time that it took."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = call()
    return result, (time.perf_counter() - wall) * 1e6, (time.process_time() - cpu) * 1e6


def _lasting(call: Callable[[], object]) -> float:
    """Return the microseconds of wall time of a call, of as many as last at least ``LEAST_US`` together.

    A batch of the kernel takes a tenth of libsodium's time: by itself it would be measured while caches are cold and
    the processor changes its frequency, after the side before it.
    """
    walls: list[float] = []
    while sum(walls) < LEAST_US:
        walls.append(_timed(call)[1])
    return sum(walls) / len(walls)


def _output(token: bytes, element: bytes) -> bytes:
    return sha512(_lp(token) + _lp(element) + b"Finalize").digest()


def _lp(value: bytes) -> bytes:
    return len(value).to_bytes(2, "big") + value


def _median(values: list[float]) -> float:
    return round(median(values), 2)


def _ratio(theirs: list[float], ours: list[float]) -> float:
    return round(median(a / b for a, b in zip(theirs, ours, strict=True)), 3)


def _require_equal(outputs: list[bytes]) -> None:
    if any(each != outputs[0] for each in outputs):
        raise SystemExit("the sides disagree: nothing was measured")


def main(arguments: list[str] | None = None) -> int:
    """Measure, print a table, and write the JSON object if asked to."""
    parser = argparse.ArgumentParser(description="P1 and P2: the PRF and a verified query")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the results to this file")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args(arguments)
    make_group(LIBSODIUM)  # loads the library before rbcl is imported
    results = measure(chosen.runs, chosen.batch, chosen.threads)
    for name, result in results.items():
        print(f"{name}  {result['units']}; {result['backend']}")
        for figure, value in result["figures"].items():
            print(f"    {figure:24} {value}")
        for ratio in (key for key in result if key.startswith("ratio")):
            print(f"    {ratio:34} {result[ratio]}")
    print(f"conditions  {results['P1']['conditions']}")
    if chosen.json:
        chosen.json.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
