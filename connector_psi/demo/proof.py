"""Proves from the logs that what crossed the wire is all that was disclosed, and that a changed log is noticed.

Decides: what an outside examiner does with exported logs: check each bundle with the offline verifier as a process of
its own, hold the owners' entries against the recorded envelopes and against the customs log, and try bundles that
somebody changed. Leaves to others: the log itself (``audit``), recording and searching the wire (``wire``).
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connector_psi.audit.checkpoint import encode_note, parse_checkpoint, parse_note
from connector_psi.audit.cosignature import parse_witness_key, verify_cosignatures
from connector_psi.demo.wire import Served
from connector_psi.errors import UnavailableError
from connector_psi.node.descriptor import parse_descriptor
from connector_psi.rpc.client import LocalClient

_WAIT_S = 15.0
_VERIFY_S = 60.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the offline verifier says about a bundle."""

    exit_code: int
    size: int
    verified: bool
    failures: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Account:
    """The owners' logs against the recorded wire and the customs log."""

    opened: int
    """Cases that the owners took in."""
    outcomes: int
    """Outcomes that the owners logged."""
    disclosed: int
    """Of these, with an envelope on the wire that discloses something."""
    receipts: int
    """Outcomes that customs logged."""
    unknown_to_customs: tuple[str, ...]
    """Cases of which the customs log knows nothing."""
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Bundle:
    """An exported log, with the keys as they were handed over, which the bundle itself does not vouch for."""

    directory: Path
    vkey: str
    witnesses: tuple[str, ...]
    """Of the peers that cosign the log."""


def export_bundle(client: LocalClient, descriptor: bytes, peers: Iterable[bytes], directory: Path) -> Bundle:
    """Write the log of a node as a bundle for the offline verifier, once its witnesses cosigned all of it.

    Args:
        client: Of an auditor.
        descriptor: As the authority handed it over; the key is taken from there and not from the node.
        peers: Descriptors of the others, for the keys of witnesses.
        directory: Made if absent.

    Raises:
        UnavailableError: The newest entries are not signed and cosigned in time.
    """
    asked = set(client.status()["log"]["witness_keys"])
    witnesses = tuple(key for raw in peers if (key := parse_descriptor(raw).witness_vkey) in asked)
    keys = [parse_witness_key(key) for key in witnesses]
    deadline = time.monotonic() + _WAIT_S
    while True:
        note, size = parse_note(client.checkpoint()), client.status()["log"]["size"]
        if parse_checkpoint(note.text).size == size and len(verify_cosignatures(note, keys)) == len(keys):
            break
        if time.monotonic() > deadline:
            raise UnavailableError("the newest log entries are not signed and cosigned")
        time.sleep(0.05)
    vkey = parse_descriptor(descriptor).log_vkey
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "checkpoint").write_bytes(encode_note(note))
    (directory / "vkey").write_text(vkey + "\n", encoding="utf-8")
    (directory / "leaves.jsonl").write_bytes(b"".join(leaf + b"\n" for leaf in client.leaves(0, size)))
    return Bundle(directory, vkey, witnesses)


def verify_bundles(bundles: Sequence[Bundle]) -> list[Verdict]:
    """Run ``python -m connector_psi.audit.verify`` on bundles, side by side."""
    running = [
        subprocess.Popen(  # noqa: S603 - this package, this interpreter
            [
                *(sys.executable, "-m", "connector_psi.audit.verify", str(bundle.directory), "--vkey", bundle.vkey),
                *(part for key in bundle.witnesses for part in ("--witness", key)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        for bundle in bundles
    ]
    verdicts = []
    for process in running:
        try:
            printed, _ = process.communicate(timeout=_VERIFY_S)
            report: dict[str, Any] = json.loads(printed)
        except (subprocess.TimeoutExpired, ValueError):
            process.kill()
            process.wait()
            report = {"size": 0, "verified": False, "failures": ["the verifier gave no answer"]}
        verdicts.append(
            Verdict(process.returncode, report["size"], report["verified"], tuple(map(str, report["failures"])))
        )
    return verdicts


def read_leaves(bundle: Path) -> list[dict[str, Any]]:
    """Return the leaves of a bundle."""
    return [json.loads(line) for line in (bundle / "leaves.jsonl").read_bytes().splitlines()]


def account(
    owners: Mapping[str, Sequence[Mapping[str, Any]]],
    customs: Sequence[Mapping[str, Any]],
    served: Mapping[str, Served],
) -> Account:
    """Hold the owners' logs against the wire and the customs log, entry by entry.

    Each outcome in an owner's log must be one that crossed the wire, byte for byte, and the reverse; each disclosure
    must have a receipt in the customs log that commits to the same bytes.

    Args:
        owners: Leaves of each owner's verified log.
        customs: Leaves of the verified customs log.
        served: Outcomes as they were recorded.
    """
    problems: list[str] = []
    opened = [(code, leaf) for code, leaves in owners.items() for leaf in leaves if leaf["event"] == "CASE_OPEN"]
    logged = {
        leaf["request_id"]: (code, leaf)
        for code, leaves in owners.items()
        for leaf in leaves
        if leaf["event"] == "CASE_OUTCOME"
    }
    receipts = {leaf["request_id"]: leaf for leaf in customs if leaf["event"] == "RECEIPT"}
    asked = {leaf["request_id"] for leaf in customs if leaf["event"] == "CASE_OPEN"}
    for case_id, (code, leaf) in logged.items():
        on_wire = served.get(case_id)
        if on_wire is None:
            problems.append(f"{code}: an outcome is in the log and was never on the wire")
        elif (
            on_wire.owner != code
            or hashlib.sha256(on_wire.salt + on_wire.padded).hexdigest() != leaf["source_commitment"]
        ):
            problems.append(f"{code}: an outcome on the wire is not the one in the log")
    for case_id, on_wire in served.items():
        if case_id not in logged:
            problems.append(f"{on_wire.owner}: an outcome was on the wire and is not in the log")
        receipt = receipts.get(case_id)
        if on_wire.disclosed and (
            receipt is None or receipt["source_commitment"] != logged.get(case_id, ("", {}))[1].get("source_commitment")
        ):
            problems.append(f"{on_wire.owner}: customs has no receipt of a disclosure")
    if {leaf["request_id"] for _, leaf in opened} != set(logged):
        problems.append("a case has no outcome in its owner's log, or the reverse")
    return Account(
        opened=len(opened),
        outcomes=len(logged),
        disclosed=sum(on_wire.disclosed for on_wire in served.values()),
        receipts=len(receipts),
        unknown_to_customs=tuple(sorted({leaf["request_id"] for _, leaf in opened} - asked)),
        problems=tuple(problems),
    )


def _change_leaf(bundle: Path) -> None:
    """Let a disclosure commit to something else: another envelope than the one that was sent."""
    path = bundle / "leaves.jsonl"
    lines = path.read_bytes().splitlines()
    place = max(index for index, line in enumerate(lines) if json.loads(line)["event"] == "CASE_OUTCOME")
    leaf = json.loads(lines[place])
    first = leaf["source_commitment"][0]
    leaf["source_commitment"] = ("0" if first != "0" else "1") + leaf["source_commitment"][1:]
    lines[place] = json.dumps(leaf, sort_keys=True, separators=(",", ":")).encode()
    path.write_bytes(b"\n".join(lines) + b"\n")


def _drop_leaf(bundle: Path) -> None:
    """Take a disclosure out of the log."""
    path = bundle / "leaves.jsonl"
    lines = path.read_bytes().splitlines()
    del lines[max(index for index, line in enumerate(lines) if json.loads(line)["event"] == "CASE_OUTCOME")]
    path.write_bytes(b"\n".join(lines) + b"\n")


def _rewrite_head(bundle: Path) -> None:
    """Drop the newest entry, and let the checkpoint say that there was never more."""
    leaves = (bundle / "leaves.jsonl").read_bytes().splitlines()[:-1]
    (bundle / "leaves.jsonl").write_bytes(b"\n".join(leaves) + b"\n")
    head = (bundle / "checkpoint").read_text(encoding="utf-8").split("\n")
    head[1] = str(len(leaves))
    (bundle / "checkpoint").write_text("\n".join(head), encoding="utf-8")


TAMPERINGS: Mapping[str, Callable[[Path], None]] = {
    "a disclosure changed": _change_leaf,
    "a disclosure removed": _drop_leaf,
    "the newest entry removed, checkpoint adjusted": _rewrite_head,
}
"""What somebody with full access to the owner's machine might try on an exported log."""


def tamper(bundle: Path, directory: Path) -> dict[str, Path]:
    """Copy a bundle once for each of ``TAMPERINGS`` and change the copy. Returns the copies by what was done."""
    copies = {}
    for number, (name, change) in enumerate(TAMPERINGS.items(), 1):
        copies[name] = directory / f"tampered-{number}"
        shutil.copytree(bundle, copies[name])
        change(copies[name])
    return copies
