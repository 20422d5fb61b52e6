"""Commands for whoever watches the log of an authority from outside: witness, mirror."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import structlog
import typer

from connector_psi import errors, pki
from connector_psi.audit.checkpoint import VKey, parse_vkey
from connector_psi.audit.cosignature import encode_witness_key
from connector_psi.commands.output import AsJson, emit, log_to_stderr, say
from connector_psi.domain.clock import SystemClock, SystemRandom
from connector_psi.node.config import is_loopback
from connector_psi.node.descriptor import MAX_BYTES, parse_descriptor
from connector_psi.witness.client import origin_hash
from connector_psi.witness.mirror import HttpLog, Mirror, Source
from connector_psi.witness.standalone import StandaloneWitness

logger = structlog.get_logger("connector_psi.witness")

app = typer.Typer()

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Its folder; made at first use.", show_default=False)]
Name = Annotated[
    str, typer.Option("--name", metavar="NAME", help="Of its key, such as dpa.example.org/w1; for a new one.")
]
Cert = Annotated[
    Path | None,
    typer.Option("--cert", metavar="PEM", help="For HTTPS; its key lies beside it as .key.", show_default=False),
]


@app.command("witness")
def witness(
    directory: Folder,
    listen: Annotated[str, typer.Option("--listen", metavar="H:P", help="Of add-checkpoint.", show_default=False)],
    log: Annotated[
        list[str] | None,
        typer.Option(
            "--log",
            metavar="KEY|FILE",
            help="A log to cosign: vkey, or a descriptor.json.",
            show_default=False,
        ),
    ] = None,
    name: Name = "",
    cert: Cert = None,
    rpc: Annotated[
        str, typer.Option("--rpc", metavar="H:P", help="Also answer AddCheckpoint over gRPC; needs --rpc-cert, --root.")
    ] = "",
    rpc_cert: Annotated[
        Path | None,
        typer.Option(metavar="PEM", help="Of an authority under the root; its key lies beside it.", show_default=False),
    ] = None,
    root: Annotated[
        Path | None, typer.Option("--root", metavar="PEM", help="The federation's root.", show_default=False)
    ] = None,
    as_json: AsJson = False,  # noqa: ARG001 - it prints JSON either way
) -> None:
    """Cosign the checkpoints of logs, for a supervisory authority (C2SP tlog-witness over HTTP).

    A cosignature says that a checkpoint continues everything that this witness ever cosigned of the log. Give the vkey
    that it prints to the authorities, who add it to their node.toml as [[witnesses]]. Never restore DIR from a backup.
    """
    from connector_psi.witness import web  # noqa: PLC0415 - only servers need it

    logs = [_log_key(text) for text in log or ()]
    with ExitStack() as stack:
        bound = stack.enter_context(web.listen(listen, secure=cert is not None))
        made = stack.enter_context(closing(StandaloneWitness(directory, name, logs, SystemClock(), SystemRandom())))
        told = {"vkey": encode_witness_key(made.cosigner.key), "logs": made.logs}
        if rpc:
            from connector_psi.rpc.witnessing import WitnessPort  # noqa: PLC0415 - only this option needs gRPC

            credentials, root_pem = _federation(rpc_cert, root, "--rpc: needs --rpc-cert PEM and --root PEM")
            port = WitnessPort(made, rpc, credentials, root_pem, SystemClock())
            stack.enter_context(closing(port))
            told["rpc"] = port.address
        _until_told(threading.Event())
        _ready(bound.getsockname(), **told)
        web.serve(web.witness_app(made), bound, cert)


@app.command("mirror")
def mirror(
    directory: Folder,
    log: Annotated[
        str,
        typer.Option(
            "--log",
            metavar="URL",
            help="https://HOST/PREFIX of C2SP tlog-tiles, or grpcs://AUTHORITY@HOST:PORT of a node's peer port.",
            show_default=False,
        ),
    ],
    vkey: Annotated[
        str, typer.Option("--vkey", metavar="KEY|FILE", help="The log's key as handed over, or descriptor.json.")
    ] = "",
    name: Name = "",
    listen: Annotated[str, typer.Option("--listen", metavar="H:P", help="Serve the copy as tlog-tiles.")] = "",
    cert: Cert = None,
    every: Annotated[float, typer.Option("--every", metavar="S", min=0.1, help="Seconds between two looks.")] = 60.0,
    once: Annotated[bool, typer.Option("--once", help="Copy what is there and end.")] = False,
    hashes: Annotated[bool, typer.Option("--hashes", help="Copy hashes alone, no leaves.")] = False,
    auditor: Annotated[
        Path | None,
        typer.Option("--as", metavar="CERT", help="For grpcs: certificate of an auditor.", show_default=False),
    ] = None,
    root: Annotated[
        Path | None, typer.Option("--root", metavar="PEM", help="For grpcs: the federation's root.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Keep a verified copy of a log, and say at once if it ever shows another history.

    Every checkpoint is checked against all that was copied before. Where the log signed two histories, both notes are
    kept in DIR/log/evidence, and the command ends with code 5, then and ever after.
    """
    source = _source(log, auditor, root, entries=not hashes)
    made = Mirror(
        directory,
        name,
        _log_key(vkey) if vkey else None,
        entries=not hashes,
        clock=SystemClock(),
        random=SystemRandom(),
    )
    try:
        if once:
            new = made.step(source)
            value = {"origin": new.origin, "size": new.size, "vkey": encode_witness_key(made.cosigner.key)}
            emit(value, as_json, lambda: say(f"{new.origin}: {new.size} entries are copied to {directory}"))
            return
        _follow(made, source, every, listen, cert)
    finally:
        made.close()


def _follow(made: Mirror, source: Source, every: float, listen: str, cert: Path | None) -> None:
    from connector_psi.witness import web  # noqa: PLC0415 - only servers need it

    stop, found = threading.Event(), list[errors.AuditError]()
    _until_told(stop)

    def turns() -> None:
        while not stop.is_set():
            try:
                made.step(source)
            except errors.LogForkError as error:
                found.append(error)
                logger.error("mirror.fork", detail=str(error))  # noqa: TRY400 - the text says all
                os.kill(os.getpid(), signal.SIGTERM)
                return
            except errors.ConnectorError as error:
                logger.warning("mirror.failed", code=error.code, detail=str(error))
            stop.wait(every)

    told = {"vkey": encode_witness_key(made.cosigner.key), "log": made.vkey.name}
    following = threading.Thread(target=turns, name="follow")
    try:
        if listen:
            with web.listen(listen, secure=cert is not None) as bound:
                _ready(bound.getsockname(), **told)
                following.start()
                web.serve(web.mirror_app(origin_hash(made.vkey.name), made.checkpoint, made.tile), bound, cert)
        else:
            _ready(None, **told)
            following.start()
        stop.wait()
    finally:
        stop.set()
        if following.ident is not None:
            following.join()
    if found:
        raise found[0]


def _until_told(stop: threading.Event) -> None:
    log_to_stderr(logging.INFO)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())


def _ready(address: tuple[object, ...] | None, **more: object) -> None:
    where = {"listen": f"{address[0]}:{address[1]}"} if address else {}
    sys.stdout.write(json.dumps({"ready": True, "pid": os.getpid(), **where, **more}, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def _log_key(text: str) -> VKey:
    """A vkey, or that of a descriptor."""
    try:
        path = Path(text)
        if path.is_file():
            raw = path.read_bytes()[: MAX_BYTES + 1]
            text = parse_descriptor(raw).log_vkey if raw.lstrip().startswith(b"{") else raw.decode().strip()
        return parse_vkey(text)
    except (OSError, UnicodeDecodeError):
        raise errors.ConfigError("--log: not the vkey of a log, nor a descriptor.json") from None
    except errors.FormatError as error:
        raise errors.ConfigError(f"--log: {error}") from None


def _source(url: str, auditor: Path | None, root: Path | None, *, entries: bool) -> Source:
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and is_loopback(url)):
        return HttpLog(url, entries=entries)
    if parts.scheme == "http":
        raise errors.ConfigError("--log: plain HTTP is for addresses of this machine only")
    if parts.scheme != "grpcs" or not parts.username or not parts.port:
        raise errors.ConfigError("--log: https://HOST/PREFIX, or grpcs://AUTHORITY@HOST:PORT")
    credentials, root_pem = _federation(auditor, root, "--log grpcs://: needs --as CERT of an auditor, and --root PEM")
    from connector_psi.rpc.client import NodeLog  # noqa: PLC0415 - only this source needs gRPC

    return NodeLog(f"{parts.hostname}:{parts.port}", parts.username, credentials, root_pem, entries=entries)


def _federation(cert: Path | None, root: Path | None, missing: str) -> tuple[pki.Credentials, bytes]:
    if cert is None or root is None:
        raise errors.ConfigError(missing)
    try:
        return pki.load_credentials(cert), root.read_bytes()
    except OSError as error:
        raise errors.ConfigError(f"{root}: {error.strerror}") from None
