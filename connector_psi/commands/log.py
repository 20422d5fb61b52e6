"""Commands of the disclosure log: log show, verify, prove, export, dossier."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from connector_psi import errors
from connector_psi.audit import checkpoint as notes
from connector_psi.audit.verify import verify_leaves
from connector_psi.commands.dossier import log_dossier
from connector_psi.commands.output import VERIFICATION_FAILED, AsJson, MaybeCert, NodeDir, emit, out, say, table
from connector_psi.node.config import load_config
from connector_psi.node.descriptor import parse_descriptor
from connector_psi.pki import Role
from connector_psi.rpc.client import LocalClient
from connector_psi.rpc.local import open_local

MAX_INDEX = 2**53

log_app = typer.Typer(help="The disclosure log: read, verify, prove, export, compare.", no_args_is_help=True)


# The log


@log_app.command("show")
def log_show(
    directory: NodeDir,
    start: Annotated[int, typer.Option(min=0, max=MAX_INDEX, help="First entry.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=MAX_INDEX, help="How many entries at most.")] = 100,
    as_cert: MaybeCert = None,
    as_json: AsJson = False,
) -> None:
    """Show the leaves of the log. They hold no personal data; bodies stay sealed."""
    with open_local(directory, as_cert or Role.AUDITOR) as client:
        leaves = [json.loads(leaf) for leaf in client.leaves(start, start + limit)]
    values = [{"index": start + i, **leaf} for i, leaf in enumerate(leaves)]
    emit(
        values,
        as_json,
        lambda: table(
            "Disclosure log",
            ["index", "time", "event", "side", "agreement", "epoch", "request"],
            [(v["index"], v["ts"], v["event"], v["side"], v["agreement"], v["epoch"], v["request_id"]) for v in values],
        ),
    )


@log_app.command("verify")
def log_verify(directory: NodeDir, as_cert: MaybeCert = None, as_json: AsJson = False) -> None:
    """Verify the whole log: every leaf and body, the tree, the signed checkpoint, the guard against restored
    backups.
    """
    value: dict[str, Any]
    try:
        with open_local(directory, as_cert or Role.AUDITOR) as client:
            value = client.verify_log()
    except errors.AuditError as error:
        # A log that went backwards does not even open; that too is an answer.
        value = {"origin": "", "size": 0, "root": "", "verified": False, "failures": [str(error)]}

    def text() -> None:
        verdict = "[green]verified[/]" if value["verified"] else "[red]NOT VERIFIED[/]"
        out.print(f"{value['origin']}: {value['size']} entries, root {value['root']}: {verdict}")
        for failure in value["failures"]:
            say("  ", failure)

    emit(value, as_json, text)
    if not value["verified"]:
        raise typer.Exit(VERIFICATION_FAILED)


@log_app.command("prove")
def log_prove(
    directory: NodeDir,
    index: Annotated[
        int,
        typer.Argument(metavar="INDEX", min=0, max=MAX_INDEX, help="Number of the entry, from 0.", show_default=False),
    ],
    as_cert: MaybeCert = None,
    as_json: AsJson = False,
) -> None:
    """Print a receipt (C2SP tlog-proof) that an entry is in the log."""
    _, layout = load_config(directory)
    with open_local(directory, as_cert or Role.AUDITOR) as client:
        note, vkey, size = _signed(client, layout.descriptor)
        if not 0 <= index < size:
            raise errors.ConfigError(f"log: no entry {index} under the checkpoint of size {size}")
        leaf_hash, hashes = client.inclusion_proof(index, size)
    proof = notes.encode_tlog_proof(index, hashes, note)
    value = {"index": index, "size": size, "leaf_hash": leaf_hash.hex(), "vkey": vkey, "proof": proof.decode()}

    def text() -> None:
        sys.stdout.write(proof.decode())

    emit(value, as_json, text)


def _signed(client: LocalClient, descriptor: Path) -> tuple[bytes, str, int]:
    vkey = parse_descriptor(descriptor.read_bytes()).log_vkey
    key = notes.parse_vkey(vkey)
    note = client.checkpoint()
    return note, vkey, notes.verify_checkpoint(note, key, key.name).size


@log_app.command("export")
def log_export(
    directory: NodeDir,
    evidence: Annotated[
        Path,
        typer.Option("--evidence", metavar="OUT", help="Folder for the bundle; must not exist.", show_default=False),
    ],
    as_cert: MaybeCert = None,
    as_json: AsJson = False,
) -> None:
    """Write a bundle that `python -m connector_psi.audit.verify OUT` checks without this node and without a network."""
    _, layout = load_config(directory)
    with open_local(directory, as_cert or Role.AUDITOR) as client:
        note, vkey, size = _signed(client, layout.descriptor)
        leaves = list(client.leaves(0, size))
    report = verify_leaves(leaves, note, vkey)
    try:
        evidence.mkdir(parents=True)
        (evidence / "checkpoint").write_bytes(note)
        (evidence / "vkey").write_text(vkey + "\n")
        (evidence / "leaves.jsonl").write_bytes(b"".join(leaf + b"\n" for leaf in leaves))
    except OSError as error:
        raise errors.ConfigError(f"{evidence}: {error.strerror}") from None
    value = {"directory": str(evidence), "size": size, "verified": report["verified"]}
    emit(
        value,
        as_json,
        lambda: say(f"{evidence}: {size} entries; check with `python -m connector_psi.audit.verify {evidence}`"),
    )
    if not report["verified"]:
        raise typer.Exit(VERIFICATION_FAILED)


log_app.command("dossier")(log_dossier)
