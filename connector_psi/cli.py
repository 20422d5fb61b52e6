"""``connector-psi``: parse, wire, exit code.

Decides: names and options of commands, what is printed, and which failure has which exit code. Everything else is done
by the
node, over its local port or in this process (``rpc.local``), with the rights of the certificate that is used.
"""

from __future__ import annotations

import io
import json
import logging
import math
import os
import re
import signal
import stat
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Annotated, Any, BinaryIO, NoReturn

import structlog
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from connector_psi import errors, policy
from connector_psi.adapters import formats
from connector_psi.audit import checkpoint as notes
from connector_psi.audit.verify import verify_leaves
from connector_psi.domain import evaluation
from connector_psi.domain.clock import SystemClock, SystemRandom
from connector_psi.domain.records import Issue, Record
from connector_psi.node.config import load_config
from connector_psi.node.descriptor import parse_descriptor
from connector_psi.pki import Role
from connector_psi.rpc.client import LocalClient
from connector_psi.rpc.convert import record_size_bytes
from connector_psi.rpc.local import Serving, open_local

EXIT_CODES: Mapping[type[errors.ConnectorError], int] = {
    errors.ConfigError: 2,
    errors.InputError: 2,
    errors.RefusedError: 4,
    errors.ConflictError: 4,
    errors.AuditError: 5,
    errors.PeerError: 5,
    errors.KeyUnavailableError: 6,
    errors.StorageError: 6,
    errors.ConnectorError: 1,
}
"""0 done; 1 internal; 2 usage or configuration; 3 some records rejected, the rest kept; 4 refused; 5 verification
failed; 6 unavailable."""
REJECTED_SOME = 3
VERIFICATION_FAILED = 5
MAX_ERRORS = 100_000
"""Errors that ``ingest`` lists; a file of bad lines alone would fill the memory otherwise."""
MAX_RECORD_BYTES = 1_000_000
MAX_INDEX = 2**53
"""A record travels in one message, which has one MiB."""

_EPILOG = (
    "Exit codes: 0 done, 1 internal, 2 usage or configuration, 3 something rejected and the rest kept, "
    "4 refused, 5 verification failed, 6 unavailable."
)

app = typer.Typer(
    name="connector-psi",
    help="Find out which containers, vehicles, vessels, documents, phones and companies another authority knows too, "
    "without either side showing its records.",
    epilog=_EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
peer_app = typer.Typer(help="The federation: who this node talks to.", no_args_is_help=True)
matches_app = typer.Typer(help="Review: matches that the node found. A confirmed match is a hit.", no_args_is_help=True)
cases_app = typer.Typer(help="Disclosure: ask for it, decide about it, read it.", no_args_is_help=True)
log_app = typer.Typer(help="The disclosure log: read, verify, prove, export.", no_args_is_help=True)
policy_app = typer.Typer(help="Who may ask whom, for what, and what may be disclosed.", no_args_is_help=True)
identifiers_app = typer.Typer(help="Quality of exact identifier matching.", no_args_is_help=True)
for name, sub in (
    ("peer", peer_app),
    ("matches", matches_app),
    ("cases", cases_app),
    ("log", log_app),
    ("policy", policy_app),
    ("identifiers", identifiers_app),
):
    app.add_typer(sub, name=name)

out = Console()
err = Console(stderr=True)

NodeDir = Annotated[Path, typer.Argument(metavar="DIR", help="A node directory made by `init`.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
AsCert = Annotated[
    Path,
    typer.Option(
        "--as",
        metavar="CERT",
        help="Certificate (PEM) of who acts; its key lies beside it as .key.",
        show_default=False,
    ),
]
MaybeCert = Annotated[
    Path | None,
    typer.Option(
        "--as",
        metavar="CERT",
        help="Certificate (PEM) of who asks; by default the directory's own.",
        show_default=False,
    ),
]
Reason = Annotated[str, typer.Option("--reason", metavar="R", help="Why; sealed in the log.", show_default=False)]


def _emit(value: object, as_json: bool, text: Callable[[], None]) -> None:
    if as_json:
        sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    else:
        text()


def _plain(value: object) -> str:
    """Text as it is shown: nothing in it moves the cursor. Much of it comes from files and from peers."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in str(value))


def _print(*parts: object) -> None:
    """Print a line in which nothing is markup, and nothing is broken that somebody may want to copy."""
    out.print(Text("".join(map(_plain, parts))), soft_wrap=True)


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    table = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        # Ids stand first and are copied into other commands: they stay in one piece.
        table.add_column(column, overflow="fold", no_wrap=column in {"match", "case"})
    for row in rows:
        table.add_row(*(Text("" if cell is None else _plain(cell)) for cell in row))
    out.print(table)


# The node itself


@app.command()
def demo(
    seed: Annotated[int, typer.Option(help="Draws other records and other shared pairs.")] = 1,
    keep: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep node directories, samples and transcript here.")
    ] = None,
    serve: Annotated[bool, typer.Option("--serve", help="Keep the three nodes running until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run three authorities on this machine, from samples to disclosure, and check what crossed the wire."""
    from connector_psi.demo.story import DemoReport, run_demo  # noqa: PLC0415 - only this command needs it

    def show(report: DemoReport) -> None:
        # At once, not at the end: with --serve the end is Ctrl-C.
        if as_json:
            sys.stdout.write(json.dumps(report.json, ensure_ascii=False) + "\n")
            sys.stdout.flush()

    report = run_demo(seed=seed, keep=keep, serve=serve, console=err if as_json else out, on_report=show)
    if report.failures:
        raise typer.Exit(VERIFICATION_FAILED)


@app.command()
def init(
    directory: NodeDir,
    authority: Annotated[str, typer.Option(metavar="CODE", help="Authority code, 2 to 16 of a-z and 0-9.")],
    profile: Annotated[
        str, typer.Option(metavar="PROFILE", help="ics2, sis, europol, or a folder with node.toml and policy.yaml.")
    ],
    pki: Annotated[
        Path,
        typer.Option(
            metavar="PKIDIR",
            help="Folder of the development root; made on first use. Share it among the nodes of a test federation.",
        ),
    ],
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where peers connect.")],
    local: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where this agency's own people and systems connect.")
    ],
    as_json: AsJson = False,
) -> None:
    """Make a node directory: keys, certificates, settings, and DIR/descriptor.json for peers."""
    from connector_psi.node import setup  # noqa: PLC0415 - only this command needs it

    descriptor = setup.init_node(
        directory,
        authority=authority,
        profile=profile,
        pkidir=pki,
        listen=listen,
        local=local,
        clock=SystemClock(),
        random=SystemRandom(),
    )
    value = {
        "authority": descriptor.authority,
        "role": descriptor.role.value,
        "directory": str(directory),
        "descriptor": str(directory / "descriptor.json"),
        "synthetic": descriptor.synthetic,
    }

    def text() -> None:
        _print(
            f"{directory} is a node of authority {descriptor.authority}, for synthetic data only.\n"
            f"Give {directory / 'descriptor.json'} to each peer, add theirs with `connector-psi peer add`, "
            f"then `connector-psi serve {directory}`."
        )

    _emit(value, as_json, text)


@app.command()
def serve(directory: NodeDir, as_json: AsJson = False) -> None:  # noqa: ARG001 - it prints JSON either way
    """Serve both ports, fetch sets, publish and query by itself, until SIGTERM or Ctrl-C.

    Prints one line of JSON once it is ready: {"ready":true,"pid":n,"peer":"host:port","local":"host:port"}.
    """
    from connector_psi.rpc import server  # noqa: PLC0415 - only this command needs it

    _log_to_stderr(logging.INFO)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    def announce(serving: Serving) -> None:
        ready = {"ready": True, "pid": serving.pid, "peer": serving.peer, "local": serving.local}
        sys.stdout.write(json.dumps(ready, separators=(",", ":")) + "\n")
        sys.stdout.flush()

    server.serve(directory, stop, announce)


def _log_to_stderr(level: int) -> None:
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(level),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


@app.command()
def ingest(
    directory: NodeDir,
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Messages or alerts; - reads standard input.", show_default=False),
    ],
    format: Annotated[  # noqa: A002 - the option's name
        str | None,
        typer.Option(metavar="F", help=f"One of {', '.join(formats.FORMATS)}; by default told from the file."),
    ] = None,
    schemas: Annotated[
        Path | None, typer.Option(metavar="XSDDIR", help="Validate messages against the XSDs in this folder too.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Take records in. Good ones are kept; what cannot be used is reported with its place, and nothing else is lost."""
    for path in files:
        _check_readable(path)
    totals = {"accepted": 0, "updated": 0, "duplicates": 0, "rejected": 0}
    problems: list[dict[str, object]] = []
    with open_local(directory, Role.SYSTEM) as client, _progress(as_json) as bar:
        for path in files:
            task = bar.add_task(path.name, total=None)
            _ingest_file(client, path, format, schemas, totals, problems, lambda n, t=task: bar.update(t, advance=n))  # type: ignore[misc]
            bar.update(task, total=1, completed=1)
    value = {**totals, "errors": problems}

    def text() -> None:
        _table("Taken in", list(totals), [list(totals.values())])
        if problems:
            rows = [(p["file"], p["line"], p["path"], p["code"]) for p in problems[:50]]
            _table("Not usable, by place", ["file", "line", "path", "code"], rows)
            if len(problems) > len(rows):
                out.print(f"and {len(problems) - len(rows)} more; --json lists all")

    _emit(value, as_json, text)
    if problems:
        raise typer.Exit(REJECTED_SOME)


def _ingest_file(
    client: LocalClient,
    path: Path,
    format_name: str | None,
    schemas: Path | None,
    totals: dict[str, int],
    problems: list[dict[str, object]],
    advance: Callable[[int], None],
) -> None:
    name = str(path)
    chunk: list[tuple[int, Record]] = []
    count, size = 0, 0

    def report(code: str, *, line: int | None = None, path: str | None = None) -> None:
        if len(problems) < MAX_ERRORS:
            problems.append({"file": name, "line": line, "path": path, "code": code})
        elif len(problems) == MAX_ERRORS:
            problems.append({"file": name, "line": None, "path": None, "code": "errors.too_many"})

    def flush() -> None:
        nonlocal size
        if not chunk:
            return
        for (number, record), result in zip(chunk, client.register([record for _, record in chunk]), strict=True):
            totals["duplicates" if result.outcome == "duplicate" else result.outcome] += 1
            for problem in result.problems:
                place, _, code = problem.partition(": ")
                report(code, path=_place_in(record, place) or f"record {number}")
        advance(len(chunk))
        chunk.clear()
        size = 0

    try:
        with _opened(path) as stream:
            for item in formats.read(stream, file=name, format=format_name, schemas=schemas):
                if isinstance(item, Issue):
                    report(item.code, line=item.line, path=item.path)
                    totals["rejected"] += item.rejects_record
                    continue
                count += 1
                length = record_size_bytes(item)
                if length > MAX_RECORD_BYTES:
                    report("record.too_large", path=f"record {count}")
                    totals["rejected"] += 1
                    continue
                if len(chunk) >= 500 or size + length > MAX_RECORD_BYTES:
                    flush()
                chunk.append((count, item))
                size += length
    except OSError:
        # The files after this one are none the worse for it, nor is what was read of it.
        report("file.unreadable")
    flush()


def _place_in(record: Record, place: str) -> str:
    """The place in the message of what the node names by its position in the record; the record's key is a value."""
    found = re.fullmatch(r"identifiers\[(\d+)\]", place)
    return record.identifiers[int(found[1])].source_path if found else ""


def _check_readable(path: Path) -> None:
    """Refuse what can be told before anything is taken in."""
    if str(path) == "-":
        return
    try:
        if stat.S_ISDIR(path.stat().st_mode):
            raise errors.ConfigError(f"{path}: a folder; name its files")
    except OSError as error:
        raise errors.ConfigError(f"{path}: {error.strerror}") from None
    if not os.access(path, os.R_OK):
        raise errors.ConfigError(f"{path}: may not be read")


def _opened(path: Path) -> BinaryIO:
    # Adapters read a message twice; what comes from a pipe is kept in memory, as it may hold personal data.
    if str(path) == "-":
        return io.BytesIO(sys.stdin.buffer.read())
    stream = path.open("rb")
    if stream.seekable():
        return stream
    with stream:
        return io.BytesIO(stream.read())


def _progress(quiet: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}"),
        TimeElapsedColumn(),
        console=err,
        transient=True,
        disable=quiet or not err.is_terminal,
    )


@app.command()
def publish(
    directory: NodeDir,
    agreement: Annotated[
        str | None,
        typer.Option(
            metavar="CODE",
            help="One agreement, or all of a template such as SIS-OBJ; by default all that this node owns.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Encode and publish a new set now, without waiting for the clock."""
    with open_local(directory, Role.SYSTEM) as client, _progress(as_json) as bar:
        task = bar.add_task("tokens", total=None)
        value = client.publish(agreement or "", lambda done: bar.update(task, completed=done))
    _emit(
        value,
        as_json,
        lambda: _table(
            "Published",
            ["agreement", "epoch", "tokens", "size class"],
            [(v["agreement"], v["epoch"], v["tokens"], v["size_class"]) for v in value],
        ),
    )


@app.command()
def sync(
    directory: NodeDir,
    wait: Annotated[
        float, typer.Option("--wait", metavar="S", min=0, help="Give up after so many seconds (exit code 6).")
    ] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Wait until every record registered so far has been queried and published."""
    if not math.isfinite(wait):
        raise errors.ConfigError("--wait: not a number of seconds")
    deadline, mark = time.monotonic() + wait, 0
    with open_local(directory, Role.SYSTEM, loops=True) as client:
        while True:
            mark, value = client.sync(mark)
            if value["done"] or time.monotonic() >= deadline:
                break
            time.sleep(0.1)
    _emit(
        value,
        as_json,
        lambda: out.print(
            "Everything registered has been queried and published."
            if value["done"]
            else f"Still waiting for {', '.join(value['waiting_for'])}."
        ),
    )
    if not value["done"]:
        raise typer.Exit(EXIT_CODES[errors.StorageError])


@app.command()
def status(directory: NodeDir, as_json: AsJson = False) -> None:
    """Show peers, epochs, set ages, capacities, queues and the log."""
    with open_local(directory, Role.SYSTEM) as client:
        value = client.status()

    def text() -> None:
        head = f"{value['authority']} ({value['role']}){', synthetic data only' if value['synthetic'] else ''}"
        rows = [
            ("answering", "yes" if value["alive"] else f"no: {value['stopped_by']}"),
            ("records", value["records"]),
            ("matches", ", ".join(f"{n} {k}" for k, n in value["matches"].items()) or "none"),
            ("cases", ", ".join(f"{n} {k}" for k, n in value["cases"].items()) or "none"),
            ("log", f"{value['log']['size']} entries, {value['log']['signed_size']} signed"),
            ("PRF backend", value["backend"]),
        ]
        _table(head, ["", ""], rows)
        _table(
            "Agreements",
            ["agreement", "side", "status", "runs", "epoch", "expires in", "pending / tokens"],
            [
                (
                    a["agreement"],
                    a["side"],
                    a["status"],
                    "yes" if a["runs"] else "no",
                    a["epoch"],
                    a["expires_in_s"],
                    a.get("pending_records", a.get("tokens")),
                )
                for a in value["agreements"]
            ],
        )

    _emit(value, as_json, text)


# Peers


@peer_app.command("add")
def peer_add(
    directory: NodeDir,
    descriptor: Annotated[
        Path, typer.Argument(metavar="DESCRIPTOR", help="descriptor.json of the peer.", show_default=False)
    ],
    as_json: AsJson = False,
) -> None:
    """Add a peer; every agreement of the policy that fits both comes into force."""
    try:
        raw = descriptor.read_bytes()
    except OSError as error:
        raise errors.ConfigError(f"{descriptor}: {error.strerror}") from None
    with open_local(directory, Role.ADMIN) as client:
        value = client.add_peer(raw)
    _emit(
        value,
        as_json,
        lambda: _print(f"{value['authority']} added; in force: {', '.join(value['agreements']) or 'no agreement'}"),
    )


@peer_app.command("list")
def peer_list(directory: NodeDir, as_json: AsJson = False) -> None:
    """List peers and the agreements with them."""
    with open_local(directory, Role.SYSTEM) as client:
        value = client.peers()
    _emit(
        value,
        as_json,
        lambda: _table(
            "Peers",
            ["authority", "role", "address", "state", "agreements"],
            [
                (v["authority"], v["role"], v["address"], v["state"], ", ".join(map(str, v["agreements"])))
                for v in value
            ],
        ),
    )


@peer_app.command("revoke")
def peer_revoke(
    directory: NodeDir,
    code: Annotated[str, typer.Argument(metavar="CODE", help="Authority code.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Stop all exchange with a peer at once."""
    with open_local(directory, Role.ADMIN) as client:
        revoked = client.revoke_peer(code)
    if not revoked:
        raise errors.ConfigError(f"{code}: not an active peer")
    _emit({"authority": code, "revoked": True}, as_json, lambda: _print(code, " revoked"))


# Matches


def _matches_table(title: str, values: Sequence[Mapping[str, Any]]) -> None:
    _table(
        title,
        ["match", "agreement", "own record", "by", "state"],
        [
            (v["match_id"], v["agreement"], v["record_ref"], ", ".join(v["identifier_types"]), v["state"])
            for v in values
        ],
    )


@matches_app.command("list")
def matches_list(
    directory: NodeDir,
    state: Annotated[str, typer.Option(metavar="STATE", help="new, confirmed, dismissed or gone.")] = "",
    as_cert: MaybeCert = None,
    as_json: AsJson = False,
) -> None:
    """List matches."""
    with open_local(directory, as_cert or Role.SYSTEM) as client:
        values = list(client.matches(state))
    _emit(values, as_json, lambda: _matches_table("Matches", values))


@matches_app.command("show")
def matches_show(
    directory: NodeDir,
    match_id: Annotated[str, typer.Argument(metavar="ID", show_default=False)],
    as_cert: MaybeCert = None,
    as_json: AsJson = False,
) -> None:
    """Show a match beside the own record, with the evidence in words."""
    with open_local(directory, as_cert or Role.SYSTEM) as client:
        value = client.match(match_id)

    def text() -> None:
        _matches_table("Match", [value])
        _table(
            "Why",
            ["identifier", "where it stands in the own message", "role"],
            [(e["identifier_type"], e["source_path"], e["role"]) for e in value["evidence"]],
        )
        _table(
            "Own record", ["field", "value"], [(k, ", ".join(v)) for k, v in sorted(value["record"]["fields"].items())]
        )

    _emit(value, as_json, text)


@matches_app.command("confirm")
def matches_confirm(
    directory: NodeDir,
    match_id: Annotated[str, typer.Argument(metavar="ID", show_default=False)],
    reason: Reason,
    as_cert: AsCert,
    as_json: AsJson = False,
) -> None:
    """Confirm a match: it becomes a hit, and a case may be opened."""
    with open_local(directory, as_cert) as client:
        value = client.confirm(match_id, reason)
    _emit(value, as_json, lambda: _matches_table("Match", [value]))


@matches_app.command("dismiss")
def matches_dismiss(
    directory: NodeDir,
    match_id: Annotated[str, typer.Argument(metavar="ID", show_default=False)],
    reason: Reason,
    as_cert: AsCert,
    as_json: AsJson = False,
) -> None:
    """Dismiss a match; it stays dismissed unless its identifiers change."""
    with open_local(directory, as_cert) as client:
        value = client.dismiss(match_id, reason)
    _emit(value, as_json, lambda: _matches_table("Match", [value]))


# Cases


def _case_text(v: Mapping[str, Any]) -> None:
    plain = (
        "case_id",
        "side",
        "agreement",
        "peer",
        "state",
        "purpose",
        "legal_basis",
        "case_reference",
        "justification",
        "record_ref",
        "opened",
        "due",
        "erase_after",
    )
    _table("Case", ["", ""], [(k, v[k]) for k in plain if v[k]])
    if v["fields"]:
        title = "Disclosed" if v["side"] == "querier" or v["state"] == "released" else "Would be disclosed"
        _table(title, ["field", "value"], [(k, ", ".join(x)) for k, x in sorted(v["fields"].items())])
    if v["withheld_fields"]:
        _print(f"Withheld: {', '.join(v['withheld_fields'])}")
    if v["obligations"]:
        _print(f"Handling: {', '.join(v['handling'])}; obligations: {', '.join(v['obligations'])}")


@cases_app.command("open")
def cases_open(
    directory: NodeDir,
    match_id: Annotated[str, typer.Argument(metavar="ID", help="A confirmed match.", show_default=False)],
    purpose: Annotated[
        str,
        typer.Option(
            "--purpose", metavar="P", help="Purpose of the agreement; see `policy matrix`.", show_default=False
        ),
    ],
    basis: Annotated[
        str, typer.Option("--basis", metavar="B", help="One of the agreement's legal bases.", show_default=False)
    ],
    reference: Annotated[
        str, typer.Option("--reference", metavar="R", help="Reference of your own case.", show_default=False)
    ],
    justification: Annotated[
        str, typer.Option("--justification", metavar="J", help="Why the disclosure is needed.", show_default=False)
    ],
    as_cert: AsCert,
    as_json: AsJson = False,
) -> None:
    """Ask the owner for disclosure of a confirmed match."""
    with open_local(directory, as_cert) as client:
        value = client.open_case(
            match_id, purpose=purpose, legal_basis=basis, case_reference=reference, justification=justification
        )
    _emit(value, as_json, lambda: _case_text(value))


@cases_app.command("list")
def cases_list(
    directory: NodeDir,
    state: Annotated[
        str, typer.Option(metavar="STATE", help="For example pending, awaiting_decision, disclosed.")
    ] = "",
    as_cert: MaybeCert = None,
    as_json: AsJson = False,
) -> None:
    """List the cases that this node opened and those that peers opened here."""
    with open_local(directory, as_cert or Role.SYSTEM) as client:
        values = list(client.cases(state))
    _emit(
        values,
        as_json,
        lambda: _table(
            "Cases",
            ["case", "side", "agreement", "state", "reference", "opened", "due"],
            [
                (v["case_id"], v["side"], v["agreement"], v["state"], v["case_reference"], v["opened"], v["due"])
                for v in values
            ],
        ),
    )


@cases_app.command("show")
def cases_show(
    directory: NodeDir,
    case_id: Annotated[str, typer.Argument(metavar="ID", show_default=False)],
    as_cert: MaybeCert = None,
    as_json: AsJson = False,
) -> None:
    """Show a case: at the querier what was disclosed, at the owner what would be or was."""
    with open_local(directory, as_cert or Role.SYSTEM) as client:
        value = client.case(case_id)
    _emit(value, as_json, lambda: _case_text(value))


def _decide(directory: Path, case_id: str, reason: str, as_cert: Path, as_json: bool, *, approve: bool) -> None:
    with open_local(directory, as_cert) as client:
        value = client.decide(case_id, approve=approve, reason=reason)
    _emit(value, as_json, lambda: _case_text(value))


@cases_app.command("approve")
def cases_approve(
    directory: NodeDir,
    case_id: Annotated[str, typer.Argument(metavar="ID", show_default=False)],
    reason: Reason,
    as_cert: AsCert,
    as_json: AsJson = False,
) -> None:
    """Approve a case that a peer opened here; it is disclosed at the next slot."""
    _decide(directory, case_id, reason, as_cert, as_json, approve=True)


@cases_app.command("refuse")
def cases_refuse(
    directory: NodeDir,
    case_id: Annotated[str, typer.Argument(metavar="ID", show_default=False)],
    reason: Reason,
    as_cert: AsCert,
    as_json: AsJson = False,
) -> None:
    """Refuse a case that a peer opened here; the peer learns neither that nor why."""
    _decide(directory, case_id, reason, as_cert, as_json, approve=False)


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
    _emit(
        values,
        as_json,
        lambda: _table(
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
            _print("  ", failure)

    _emit(value, as_json, text)
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

    _emit(value, as_json, text)


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
    _emit(
        value,
        as_json,
        lambda: _print(f"{evidence}: {size} entries; check with `python -m connector_psi.audit.verify {evidence}`"),
    )
    if not report["verified"]:
        raise typer.Exit(VERIFICATION_FAILED)


# Policy


PolicyFiles = Annotated[
    list[Path],
    typer.Argument(metavar="FILE...", help="policy.yaml files, of one side or of several.", show_default=False),
]


@policy_app.command("check")
def policy_check(files: PolicyFiles, as_json: AsJson = False) -> None:
    """Check that policies are valid, complete and without conflict, each alone and all together."""
    packs: list[policy.PolicyPack] = []
    findings: list[dict[str, str]] = []
    for path in files:
        try:
            packs.append(policy.parse_policy(path.read_bytes(), str(path)))
        except OSError as error:
            raise errors.ConfigError(f"{path}: {error.strerror}") from None
        except errors.ConfigError as error:
            findings += [
                {"severity": "error", "source": str(path), "agreement": "", "key": "", "text": line}
                for line in str(error).splitlines()
            ]
    for pack in packs:
        others = [other for other in packs if other is not pack]
        findings += [
            {"severity": f.severity.value, "source": f.source, "agreement": f.agreement, "key": f.key, "text": f.text}
            for f in policy.check_pack(pack, others)
        ]
    ok = not any(f["severity"] == "error" for f in findings)

    def text() -> None:
        if findings:
            _table(
                "Findings",
                ["severity", "file", "agreement", "key", "finding"],
                [(f["severity"], f["source"], f["agreement"], f["key"], f["text"]) for f in findings],
            )
        out.print(
            f"{sum(len(p.templates) for p in packs)} agreements in {len(packs)} files: {'valid' if ok else 'NOT valid'}"
        )

    _emit({"valid": ok, "findings": findings}, as_json, text)
    if not ok:
        raise typer.Exit(EXIT_CODES[errors.ConfigError])


@policy_app.command("matrix")
def policy_matrix(files: PolicyFiles, as_json: AsJson = False) -> None:
    """Show who can learn which field about what, as a table."""
    rows = policy.matrix([policy.load_policy(path) for path in files])
    values = [
        {
            "agreement": r.agreement,
            "purpose": r.purpose,
            "querier": r.querier,
            "owner": r.owner,
            "learns_first": r.learns_first,
            "category": r.category,
            "field": r.field,
            "condition": r.condition,
            "status": r.status,
        }
        for r in rows
    ]

    def text() -> None:
        grouped: dict[tuple[str, ...], dict[str, list[str]]] = {}
        for r in rows:
            key = (r.agreement, r.status, r.querier, r.owner, r.category)
            grouped.setdefault(key, {}).setdefault(r.condition, []).append(r.field)
        _table(
            "Who can learn which field about what; the querier learns first",
            ["agreement", "status", "querier", "owner", "about", "fields"],
            [
                (*key, "; ".join(f"{condition}: {', '.join(names)}" for condition, names in fields.items()))
                for key, fields in grouped.items()
            ],
        )

    _emit(values, as_json, text)


# Identifiers


@identifiers_app.command("evaluate")
def identifiers_evaluate(
    directory: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Folder with alerts.csv and declared.csv, labelled.", show_default=False),
    ],
    as_json: AsJson = False,
) -> None:
    """Measure exact matching on labelled data: by type and variation, how many were matched, how many wrongly."""
    import csv  # noqa: PLC0415 - only this command needs it

    try:
        with (
            (directory / "alerts.csv").open(encoding="utf-8", newline="") as a,
            (directory / "declared.csv").open(encoding="utf-8", newline="") as d,
        ):
            value = evaluation.evaluate_objects(csv.DictReader(a), csv.DictReader(d))
    except OSError as error:
        raise errors.ConfigError(f"{directory}: {error.filename}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error):
        raise errors.ConfigError(f"{directory}: not CSV in UTF-8") from None
    rows = [
        (kind, variation, c["n"], c["matched"], f"{c['matched'] / c['n']:.3f}" if c["n"] else "", c["false_matches"])
        for kind, by in value.items()
        for variation, c in by.items()
    ]
    _emit(
        value,
        as_json,
        lambda: _table("Identifiers", ["type", "variation", "rows", "matched", "share", "false matches"], rows),
    )


def _version(value: bool) -> None:
    if value:
        from connector_psi.oprf.group import backend_name  # noqa: PLC0415 - only this option needs it

        sys.stdout.write(f"connector-psi {package_version('connector-psi')} (PRF: {backend_name()})\n")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[  # noqa: ARG001 - its callback answers
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show version and PRF backend.")
    ] = False,
) -> None:
    # Nothing but results goes to standard output. A node that is opened for one command logs what is wrong with it.
    _log_to_stderr(logging.ERROR)


def main() -> NoReturn:
    """Run a command and exit with its code."""
    # The PRF is many C calls of 50 us that let go of the interpreter. At Python's default of 5 ms each of them would
    # wait that long to get it back while another thread works.
    sys.setswitchinterval(1e-5)
    # What a node writes is for its own account alone.
    os.umask(0o077)
    try:
        app(standalone_mode=True)
    except errors.ConnectorError as error:
        code = next(EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES)
        _failed(error.code, str(error), code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - the text of a defect, and the lines of its traceback, may hold a value
        place = traceback.extract_tb(error.__traceback__)[-1]
        detail = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
        _failed(errors.ConnectorError.code, detail, EXIT_CODES[errors.ConnectorError])
    sys.exit(0)


def _failed(kind: str, detail: str, code: int) -> NoReturn:
    if "--json" in sys.argv:
        sys.stdout.write(json.dumps({"error": kind, "detail": detail}) + "\n")
    err.print(Text.assemble((kind, "bold red"), ": ", _plain(detail)), soft_wrap=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
