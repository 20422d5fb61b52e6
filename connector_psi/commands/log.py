"""Commands of the disclosure log: log show, verify, prove, export, dossier."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from connector_psi import errors
from connector_psi.audit import checkpoint as notes
from connector_psi.audit.bodies import SALT_BYTES, encode_body
from connector_psi.audit.merkle import leaf_hash
from connector_psi.audit.verify import verify_bundle
from connector_psi.commands.dossier import log_dossier
from connector_psi.commands.output import (
    VERIFICATION_FAILED,
    AsJson,
    MaybeCert,
    NodeDir,
    Reason,
    emit,
    listing,
    out,
    progress,
    say,
    table,
)
from connector_psi.node.config import load_config
from connector_psi.node.descriptor import parse_descriptor
from connector_psi.pki import Role
from connector_psi.reports.covering import covered
from connector_psi.rpc.client import LocalClient
from connector_psi.rpc.local import open_local
from connector_psi.witness.client import origin_hash
from connector_psi.witness.copying import LogCopy

MAX_INDEX = 2**53
BODIES_A_CALL = 64

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


@log_app.command("open")
def log_open(
    directory: NodeDir,
    indexes: Annotated[
        list[int],
        typer.Argument(metavar="INDEX...", min=0, max=MAX_INDEX, help="Numbers of entries.", show_default=False),
    ],
    reason: Reason,
    full: Annotated[bool, typer.Option("--full", help="Also show values about people and things.")] = False,
    as_cert: MaybeCert = None,
    as_json: AsJson = False,
) -> None:
    """Open the sealed bodies of entries. LOG_READ says so first, with who, why and which.

    Values about people and things stay covered unless --full is given. Data protection officers open every body,
    auditors all but those of agreements of which this authority gets no notice, supervisors those of own queries.
    """
    with open_local(directory, as_cert or Role.DPO) as client:
        found: list[tuple[int, bytes | None]] = []
        for start in range(0, len(indexes), BODIES_A_CALL):
            found += client.open_bodies(indexes[start : start + BODIES_A_CALL], reason)
    values: list[dict[str, Any]] = []
    for index, raw in found:
        body = None if raw is None else json.loads(raw[SALT_BYTES:])
        shown = body if full or body is None else {key: covered(key, value) for key, value in body.items()}
        values.append({"index": index, "erased": raw is None, "body": shown})

    def text() -> None:
        for value in values:
            facts = value["body"].items() if value["body"] is not None else [("body", "erased")]
            listing(f"Entry {value['index']}", [(key, json.dumps(part, ensure_ascii=False)) for key, part in facts])

    emit(values, as_json, text)


@log_app.command("hold")
def log_hold(
    directory: NodeDir,
    reason: Reason,
    procedure: Annotated[
        str, typer.Option("--procedure", metavar="REF", help="The monitoring that needs the bodies, in your files.")
    ] = "",
    until: Annotated[
        datetime | None, typer.Option("--until", formats=["%Y-%m-%d"], help="Last day.", show_default=False)
    ] = None,
    request: Annotated[str, typer.Option("--request", metavar="HEX", help="Entries about one request_id.")] = "",
    agreement: Annotated[str, typer.Option("--agreement", metavar="CODE", help="Entries of one agreement.")] = "",
    renew: Annotated[str, typer.Option("--renew", metavar="HOLD", help="Let a hold end later.")] = "",
    release: Annotated[str, typer.Option("--release", metavar="HOLD", help="End a hold now.")] = "",
    as_cert: MaybeCert = None,
    as_json: AsJson = False,
) -> None:
    """Keep bodies of the log beyond their time while a monitoring procedure is under way.

    Without --request and --agreement all entries are held. A hold lapses on its day unless it is renewed. For data
    protection officers and auditors; HOLD entries say when, by whom and why.
    """
    if renew and release:
        raise errors.ConfigError("log hold: --renew or --release")
    if not release and until is None:
        raise errors.ConfigError("log hold: --until is needed")
    try:
        request_id = bytes.fromhex(request)
    except ValueError:
        raise errors.ConfigError("--request: not hexadecimal") from None
    with open_local(directory, as_cert or Role.DPO) as client:
        value = client.set_hold(
            "RELEASE" if release else "RENEW" if renew else "PLACE",
            hold=release or renew,
            procedure=procedure,
            until=f"{until:%Y-%m-%d}" if until else "",
            reason=reason,
            request_id=request_id,
            agreement=agreement,
        )
    emit(value, as_json, lambda: listing(f"Hold {value['hold']}", list(value.items())))


@log_app.command("holds")
def log_holds(directory: NodeDir, as_cert: MaybeCert = None, as_json: AsJson = False) -> None:
    """List holds, also those that ended."""
    with open_local(directory, as_cert or Role.DPO) as client:
        values = client.holds()
    columns = ["hold", "state", "procedure", "covers", "placed", "until", "renewed", "by"]
    emit(values, as_json, lambda: table("Holds", columns, [[v[name] for name in columns] for v in values]))


def _signed(client: LocalClient, descriptor: Path) -> tuple[bytes, str, int]:
    vkey = parse_descriptor(descriptor.read_bytes()).log_vkey
    key = notes.parse_vkey(vkey)
    note = client.checkpoint()
    return note, vkey, notes.verify_checkpoint(note, key, key.name).size


@log_app.command("export")
def log_export(
    directory: NodeDir,
    evidence: Annotated[
        Path | None,
        typer.Option("--evidence", metavar="OUT", help="A bundle to verify offline; a new folder.", show_default=False),
    ] = None,
    tiles: Annotated[
        Path | None,
        typer.Option(
            "--tiles",
            metavar="OUT",
            help="C2SP tlog-tiles; an earlier export is continued.",
            show_default=False,
        ),
    ] = None,
    hashes: Annotated[bool, typer.Option("--hashes", help="Of tiles, those of hashes alone: no leaves.")] = False,
    bodies: Annotated[
        bool, typer.Option("--bodies", help="Also bodies that this role may open: PERSONAL DATA. Needs --reason.")
    ] = False,
    request: Annotated[
        str, typer.Option("--request", metavar="HEX", help="Of bodies, those about one request_id.")
    ] = "",
    reason: Annotated[str, typer.Option("--reason", metavar="R", help="Why bodies are taken out; sealed.")] = "",
    as_cert: MaybeCert = None,
    as_json: AsJson = False,
) -> None:
    """Write the log out: a bundle for `python -m connector_psi.audit.verify`, or tiles that any web server can serve.

    Neither holds personal data unless --bodies is given. Both say up to which checkpoint they go.
    """
    if (evidence is None) is (tiles is None):
        raise errors.ConfigError("log export: one of --evidence OUT and --tiles OUT")
    if (bodies and evidence is None) or (request and not bodies):
        raise errors.ConfigError("log export: --bodies goes with --evidence, --request with --bodies")
    if bodies and not reason.strip():
        raise errors.ApprovalMissingError("--bodies: a reason is needed")
    try:
        request_id = bytes.fromhex(request)
    except ValueError:
        raise errors.ConfigError("--request: not hexadecimal") from None
    _, layout = load_config(directory)
    with open_local(directory, as_cert or Role.AUDITOR) as client:
        note, vkey, size = _signed(client, layout.descriptor)
        if tiles is not None:
            _export_tiles(client, note, vkey, tiles, entries=not hashes, quiet=as_json)
            value: dict[str, Any] = {"directory": str(tiles), "size": size, "verified": True}
            emit(value, as_json, lambda: say(f"{tiles}: tiles of {size} entries"))
            return
        assert evidence is not None
        opened = client.export_bodies(size, reason, request_id) if bodies else None
        _export_evidence(client, note, vkey, evidence, opened, quiet=as_json)
    report = verify_bundle(evidence, vkey=vkey)
    failures = report["failures"]
    value = {"directory": str(evidence), "size": size, "verified": report["verified"], "failures": failures}

    def text() -> None:
        say(f"{evidence}: {size} entries; check with `python -m connector_psi.audit.verify {evidence}`")
        for failure in failures:
            say("  NOT VERIFIED: ", failure)

    emit(value, as_json, text)
    if not report["verified"]:
        raise typer.Exit(VERIFICATION_FAILED)


def _export_evidence(
    client: LocalClient,
    note: bytes,
    vkey: str,
    out_dir: Path,
    bodies: Iterator[tuple[int, bytes | None]] | None,
    *,
    quiet: bool,
) -> None:
    size = notes.parse_checkpoint(notes.parse_note(note).text).size
    seen = client.status()["log"]
    try:
        out_dir.mkdir(mode=0o700, parents=True)
        (out_dir / "vkey").write_text(vkey + "\n")
        (out_dir / "witnesses").write_text("".join(f"{key}\n" for key in seen["witness_keys"]))
        for fork in seen["forks"]:
            folder = out_dir / "forks" / f"{origin_hash(fork['origin'])[:16]}-{fork['size']}"
            folder.mkdir(parents=True)
            for name in ("first", "second", "vkey"):
                (folder / name).write_text(fork[name], encoding="utf-8", newline="")
        with progress(quiet) as bar:
            task = bar.add_task("entries", total=size)
            with _private(out_dir / "leaves.jsonl") as file:
                for leaf in client.leaves(0, size):
                    file.write(leaf + b"\n")
                    bar.advance(task)
            with _private(out_dir / "checkpoints.jsonl") as file:
                for signed in client.checkpoints():
                    if notes.parse_checkpoint(notes.parse_note(signed).text).size <= size:
                        file.write(json.dumps(signed.decode()).encode() + b"\n")
            if bodies is not None:
                with _private(out_dir / "bodies.jsonl") as file:
                    file.writelines(_body_lines(bodies))
        # The last: without it the folder is no bundle.
        (out_dir / "checkpoint").write_bytes(note)
    except OSError as error:
        raise errors.ConfigError(f"{out_dir}: {error.strerror}") from None


def _private(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")


def _body_lines(bodies: Iterator[tuple[int, bytes | None]]) -> Iterator[bytes]:
    for index, raw in bodies:
        if raw is not None:
            # The body travels as a string, so that a reader without a canonicaliser has the exact bytes.
            said = {"index": index, "salt": raw[:SALT_BYTES].hex(), "body": raw[SALT_BYTES:].decode()}
            yield encode_body(said) + b"\n"


def _export_tiles(client: LocalClient, note: bytes, vkey: str, out: Path, *, entries: bool, quiet: bool) -> None:
    copy = LogCopy(out, notes.parse_vkey(vkey), entries=entries)
    with progress(quiet) as bar:
        task = bar.add_task("entries", total=None)

        def given(start: int, end: int) -> Iterator[bytes]:
            bar.update(task, total=end - start)
            for leaf in client.leaves(start, end):
                bar.advance(task)
                yield leaf if entries else leaf_hash(leaf)

        copy.extend(note, given)


log_app.command("dossier")(log_dossier)
