"""One party of SPU's ECDH PSI on Curve25519; the other is another process, over SPU's own link on loopback.

    spu_side.py RANK ITEMS PORT PORT

Its CPU time is that of the call that runs the protocol: reading the items from a file, hashing, exponentiations, the
link, and SPU's temporary files. Not in it: imports, writing the items, connecting, and programs that SPU starts. Rank 0
receives the intersection and writes it; rank 1 learns nothing, and does little besides its exponentiations. How many
these were is read from SPU's own log.
"""

from __future__ import annotations

import ctypes
import re
import sys
from importlib.metadata import version
from pathlib import Path

from driver import Driver, timed
from spu import libspu, psi

RECEIVER = 0
RECEIVE_TIMEOUT_MS = 120_000


def main() -> None:
    """Run the protocol once with sets of equal size, half of which they share, and report the cost."""
    rank, items = int(sys.argv[1]), int(sys.argv[2])
    driver = Driver()
    source = Path("items.csv").resolve()  # SPU takes no relative path
    first = rank * (items // 2)
    source.write_text("id\n" + "".join(f"{number:012d}\n" for number in range(first, first + items)), encoding="ascii")
    link = libspu.link.create_brpc(_parties(sys.argv[3:]), rank)
    chosen = _protocol(source)
    driver.await_start()
    report, cost = timed(lambda: psi.psi_execute(chosen, link))
    link.stop_link()
    if rank == RECEIVER and report.intersection_count != items - items // 2:
        raise SystemExit("the intersection is not what was planted")
    ctypes.CDLL(None).fflush(None)  # SPU's log goes through C's buffers
    log = Path("log").read_text(encoding="utf-8", errors="replace")
    for trace in re.findall(r"Trace has been written to (\S+\.trace)", log):
        Path(trace).unlink(missing_ok=True)  # its place is fixed, so that the driver does not remove it
    driver.report(
        {
            "steps": {"psi": cost},
            "exponentiations": sum(int(_logged(log, rf"{whose}_item_count=(\d+)")) for whose in ("self", "peer")),
            "curve_code": _logged(log, r"cryptor_selector\S* Using (\S+)"),
            "version": version("spu"),
        }
    )


def _parties(ports: list[str]) -> libspu.link.Desc:
    parties = libspu.link.Desc()
    parties.recv_timeout_ms = RECEIVE_TIMEOUT_MS
    for name, port in zip("ab", ports, strict=True):
        parties.add_party(name, f"127.0.0.1:{port}")
    return parties


def _protocol(source: Path) -> psi.PsiExecuteConfig:
    return psi.PsiExecuteConfig(
        protocol_conf=psi.PsiProtocolConfig(
            protocol=psi.PsiProtocol.PROTOCOL_ECDH,
            receiver_rank=RECEIVER,
            broadcast_result=False,
            ecdh_params=psi.EcdhParams(curve=psi.EllipticCurveType.CURVE_25519),
        ),
        # No search for duplicates and no sorting of the result: neither is an exponentiation.
        input_params=psi.InputParams(path=str(source), selected_keys=["id"], keys_unique=True),
        output_params=psi.OutputParams(path=str(source.with_name("shared.csv")), disable_alignment=True),
    )


def _logged(log: str, pattern: str) -> str:
    found = re.search(pattern, log)
    if found is None:
        raise SystemExit("SPU's log does not say what it did")
    return found[1]


if __name__ == "__main__":
    main()
