"""The audit of this node's own queries: audit-sample.

Decides: where the checkpoint comes from, in which order log, bodies and messages are read, what is shown. Leaves to
others: the draw and what is computed again (``node.sampling``), who may open bodies (the node). Everything is computed
here and not by the node that is audited; of the node come leaves and bodies, and both are checked against the
checkpoint.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from connector_psi import errors
from connector_psi.audit import checkpoint as notes
from connector_psi.audit.cosignature import parse_witness_key, verify_cosignatures
from connector_psi.commands import page
from connector_psi.commands.intake import is_mapping
from connector_psi.commands.output import (
    EXIT_CODES,
    VERIFICATION_FAILED,
    AsJson,
    MaybeCert,
    NodeDir,
    Reason,
    emit,
    out,
    progress,
    say,
    table,
)
from connector_psi.domain.clock import SystemClock
from connector_psi.node.config import load_config
from connector_psi.node.descriptor import parse_descriptor
from connector_psi.pki import Role
from connector_psi.rpc.client import LocalClient
from connector_psi.rpc.local import open_local

if TYPE_CHECKING:
    from connector_psi.node.sampling import Drawn, Entry, Finding, Messages
    from connector_psi.policy import Agreement

BODIES_A_CALL = 64
MAX_COUNT = 1_000
NOT_WITNESSED = "checkpoint.not_witnessed"
"""The node itself chose the checkpoint, and could have made several until the draw suited it."""
HIDDEN = "entries.hidden"
"""Some leaves were not for the caller's role: only an auditor or a data protection officer can tell that none of them
is a query."""

app = typer.Typer()


@dataclass(frozen=True, slots=True)
class _Audit:
    """What came of an audit."""

    value: dict[str, Any]
    findings: list[Finding]
    unchecked: list[Finding]


@app.command("audit-sample")
def audit_sample(
    directory: NodeDir,
    messages: Annotated[
        Path,
        typer.Option(
            "--messages",
            metavar="FOLDER",
            help="The messages as the system of record holds them, in any files and folders below.",
            show_default=False,
        ),
    ],
    reason: Reason,
    count: Annotated[int, typer.Option(metavar="N", min=1, max=MAX_COUNT, help="How many queries to draw.")] = 20,
    agreement: Annotated[
        str, typer.Option(metavar="CODE", help="Only queries under this agreement; all by default.")
    ] = "",
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="NOTE",
            help="A checkpoint of this node's log, later than the queries, from somebody else who kept it.",
            show_default=False,
        ),
    ] = None,
    below: Annotated[
        int | None,
        typer.Option(
            metavar="SIZE",
            min=0,
            help="Only queries among the first SIZE entries; all that the checkpoint covers by default.",
            show_default=False,
        ),
    ] = None,
    format: Annotated[  # noqa: A002 - as ingest
        str, typer.Option(metavar="F", help="Format of all files; auto tells it from each.")
    ] = "auto",
    html: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Also write the result as a page.", show_default=False)
    ] = None,
    as_cert: MaybeCert = None,
    as_json: AsJson = False,
) -> None:
    """Draw queries of this node that nobody could choose, and form them again from the messages behind them."""
    from connector_psi.adapters import formats  # noqa: PLC0415 - the adapters are for whoever reads a file
    from connector_psi.node import sampling  # noqa: PLC0415 - only this command needs it

    format_name = formats.known_format(format)
    files = _files(messages)
    config, layout = load_config(directory)
    key = notes.parse_vkey(parse_descriptor(layout.descriptor.read_bytes()).log_vkey)
    given = None if checkpoint is None else _note(checkpoint)
    with open_local(directory, as_cert or Role.AUDITOR) as client:
        note = client.checkpoint() if given is None else given
        signed = notes.verify_checkpoint(note, key, key.name)
        known = [parse_witness_key(text) for text in client.status()["log"]["witness_keys"]]
        cosigned = [said.name for said in verify_cosignatures(notes.parse_note(note), known)]
        drawn = sampling.draw(client.audit_entries(signed.size), signed, count=count, below=below, agreement=agreement)
        bodies = _bodies(client, drawn, reason)
    audit = _audit(drawn, bodies, files, messages, format_name, config.node.authority, as_json)
    value = {
        "authority": config.node.authority,
        "checkpoint": {
            "size": signed.size,
            "root": signed.root.hex(),
            "given": given is not None,
            "witnesses": cosigned,
        },
        "below": signed.size if below is None else below,
        "population": drawn.population,
        "drawn": len(drawn.entries),
        **audit.value,
        "findings": [asdict(finding) for finding in audit.findings],
        "unchecked": [asdict(finding) for finding in audit.unchecked],
        "hidden": drawn.hidden,
        "warnings": ([NOT_WITNESSED] if given is None and not cosigned else []) + ([HIDDEN] if drawn.hidden else []),
    }
    if html is not None:
        page.write(html, _page(value))
    emit(value, as_json, lambda: _show(value))
    if audit.findings:
        raise typer.Exit(VERIFICATION_FAILED)
    if audit.unchecked:
        raise typer.Exit(EXIT_CODES[errors.StorageError])


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise errors.ConfigError(f"{folder}: not a folder")
    return sorted(Path(parent) / name for parent, _, names in os.walk(folder) for name in names)


def _note(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise errors.ConfigError(f"{path}: {error.strerror}") from None


def _bodies(client: LocalClient, drawn: Drawn, reason: str) -> dict[int, bytes | None]:
    """The bodies of the queries drawn, and of the changes of policy that they name."""
    wanted = {entry.index for entry in drawn.entries}
    wanted |= {change.index for entry in drawn.entries if (change := drawn.in_force(entry)) is not None}
    indexes, found = sorted(wanted), dict[int, bytes | None]()
    for start in range(0, len(indexes), BODIES_A_CALL):
        found.update(client.open_bodies(indexes[start : start + BODIES_A_CALL], reason, audit=True))
    missing = [index for index in indexes if index not in found]
    if missing:
        raise errors.UnavailableError(f"audit: the node did not answer for entry {missing[0]}")
    return found


def _audit(
    drawn: Drawn,
    bodies: Mapping[int, bytes | None],
    files: Sequence[Path],
    folder: Path,
    format_name: str | None,
    own: str,
    as_json: bool,
) -> _Audit:
    from connector_psi.node import sampling  # noqa: PLC0415 - as above

    now = SystemClock().now()
    findings: list[Finding] = []
    unchecked: list[Finding] = []
    read: dict[int, sampling.QueryBody] = {}
    for entry in drawn.entries:
        data = bodies[entry.index]
        if data is None:
            gone = sampling.erased(entry, now)
            (findings if gone.code in sampling.FINDINGS else unchecked).append(gone)
            continue
        try:
            read[entry.index] = sampling.QueryBody.of(sampling.committed(data, entry.leaf))
        except errors.FormatError:
            findings.append(sampling.Finding("body.malformed", entry.request_id, f"entry {entry.index}"))
    found = sampling.Messages({digest for body in read.values() for digest in body.digests})
    with progress(as_json) as bar:
        task = bar.add_task("messages", total=len(files))
        for path in files:
            _take(found, path, format_name)
            bar.update(task, advance=1)
    queries = []
    with progress(as_json) as bar:
        task = bar.add_task("queries", total=len(read))
        for entry in drawn.entries:
            if entry.index not in read:
                continue
            body, change = read[entry.index], drawn.in_force(entry)
            wrong, open_ = sampling.audit_query(entry, body, change, _agreement(change, bodies), found, own)
            findings += wrong
            unchecked += open_
            queries.append(_query_value(entry, body, wrong, open_))
            bar.update(task, advance=1)
    unusable = [str(Path(name).relative_to(folder)) for name in found.unusable]
    return _Audit({"queries": queries, "files": found.files, "unusable_files": unusable}, findings, unchecked)


def _take(found: Messages, path: Path, format_name: str | None) -> None:
    if format_name is None and is_mapping(path):
        from connector_psi.adapters.mapping import read_mapping  # noqa: PLC0415 - only for own databases
        from connector_psi.domain.records import Record  # noqa: PLC0415 - as above

        found.files += 1
        reading = read_mapping(path, now=SystemClock().now(), watermark=None)
        found.add_records(item for item in reading if isinstance(item, Record))
        return
    try:
        with path.open("rb") as stream:
            found.add(stream, str(path), format=format_name)
    except OSError:
        found.unusable.append(str(path))


def _agreement(change: Entry | None, bodies: Mapping[int, bytes | None]) -> Agreement | None:
    from connector_psi.node import sampling  # noqa: PLC0415 - as above

    data = None if change is None else bodies[change.index]
    if change is None or data is None:
        return None
    try:
        return sampling.parse_agreement(sampling.committed(data, change.leaf), change.leaf.policy_hash)
    except errors.FormatError:
        return None


def _query_value(entry: Entry, body: Any, wrong: Sequence[Finding], unchecked: Sequence[Finding]) -> dict[str, Any]:  # noqa: ANN401 - a QueryBody
    return {
        "request_id": entry.request_id,
        "entry": entry.index,
        "ts": entry.leaf.ts.isoformat(),
        "agreement": entry.leaf.agreement,
        "token_class": entry.leaf.token_class,
        "tokens": len(body.tokens),
        "padded": entry.leaf.n_padded,
        "messages": len(body.digests),
        "findings": len(wrong),
        "unchecked": len(unchecked),
    }


# Showing


_QUERY_COLUMNS = (
    "request_id",
    "entry",
    "ts",
    "agreement",
    "token_class",
    "tokens",
    "messages",
    "findings",
    "unchecked",
)


def _summary(value: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"{value['authority']}: {value['drawn']} of {value['population']} queries below entry {value['below']} were "
        f"drawn by the checkpoint of size {value['checkpoint']['size']}, and {len(value['queries'])} computed again "
        f"from {value['files']} files."
    )
    if NOT_WITNESSED in value["warnings"]:
        yield (
            "WARNING: the checkpoint is the node's own and not witnessed. Whoever runs the node could have chosen it, "
            "and with it what was drawn; give one that somebody else kept with --checkpoint."
        )
    if HIDDEN in value["warnings"]:
        yield (
            f"WARNING: {value['hidden']} entries were shown by their hash alone. That none of them is a query, only an "
            "auditor or a data protection officer can tell."
        )
    if value["unusable_files"]:
        yield f"{len(value['unusable_files'])} files could not be read: {', '.join(value['unusable_files'][:10])}"
    if value["findings"]:
        yield f"{len(value['findings'])} findings"
    elif value["unchecked"]:
        yield "No finding, but not everything could be checked."
    else:
        yield "No finding."


def _noted(value: Mapping[str, Any]) -> Iterator[tuple[str, list[tuple[str, str, str, str]]]]:
    from connector_psi.node.sampling import FINDINGS, UNCHECKED  # noqa: PLC0415 - as above

    for title, key, words in (("Findings", "findings", FINDINGS), ("Not checked", "unchecked", UNCHECKED)):
        if value[key]:
            yield title, [(f["request_id"], f["place"], f["code"], words[f["code"]]) for f in value[key]]


def _show(value: Mapping[str, Any]) -> None:
    table("Queries drawn", _QUERY_COLUMNS, [[q[name] for name in _QUERY_COLUMNS] for q in value["queries"]])
    for title, rows in _noted(value):
        table(title, ["request_id", "place", "code", "means"], rows)
    for line in _summary(value):
        say(line)
    out.print()


def _page(value: Mapping[str, Any]) -> str:
    """The result as a page that stands alone."""
    parts = [page.paragraph(line) for line in _summary(value)]
    for title, noted in _noted(value):
        parts.append(page.table(title, ["request_id", "place", "code", "means"], noted))
    parts += [
        page.table("Queries drawn", _QUERY_COLUMNS, [[q[n] for n in _QUERY_COLUMNS] for q in value["queries"]]),
        page.table(
            "Checkpoint",
            ["size", "root", "given", "cosigned by"],
            [
                [
                    *(value["checkpoint"][name] for name in ("size", "root", "given")),
                    ", ".join(value["checkpoint"]["witnesses"]),
                ]
            ],
        ),
    ]
    return page.document(f"Audit of queries of {value['authority']}", parts)
