"""Commands of the node itself and of its peers: demo, init, serve, console, publish, sync, status, peer."""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import structlog
import typer

from connector_psi import errors
from connector_psi.commands import watching
from connector_psi.commands.output import (
    EXIT_CODES,
    VERIFICATION_FAILED,
    AsJson,
    NodeDir,
    emit,
    err,
    log_to_stderr,
    out,
    progress,
    say,
    table,
)
from connector_psi.domain.clock import SystemClock, SystemRandom
from connector_psi.node.config import load_config
from connector_psi.pki import Role
from connector_psi.rpc.local import Serving, open_local, serving_of

if TYPE_CHECKING:
    from connector_psi.node.service import Service

logger = structlog.get_logger("connector_psi.commands")

app = typer.Typer()
peer_app = typer.Typer(help="The federation: who this node talks to.", no_args_is_help=True)


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
    console: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where people open the web console; port 0 takes a free one.")
    ] = "127.0.0.1:0",
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
        console=console,
    )
    value = {
        "authority": descriptor.authority,
        "role": descriptor.role.value,
        "directory": str(directory),
        "descriptor": str(directory / "descriptor.json"),
        "synthetic": descriptor.synthetic,
        "policy_signed_by": list(setup.SIGNERS),
    }

    def text() -> None:
        say(
            f"{directory} is a node of authority {descriptor.authority}, for synthetic data only.\n"
            f"Its policy is signed by {' and '.join(setup.SIGNERS)}, whose keys lie in {directory / 'people'}; "
            "whoever changes it has two people sign it again with `connector-psi policy sign`.\n"
            f"Give {directory / 'descriptor.json'} to each peer, add theirs with `connector-psi peer add`, "
            f"then `connector-psi serve {directory}`."
        )

    emit(value, as_json, text)


@app.command()
def serve(directory: NodeDir, as_json: AsJson = False) -> None:  # noqa: ARG001 - it prints JSON either way
    """Serve both ports and the web console, fetch sets, publish and query by itself, until SIGTERM or Ctrl-C.

    Prints one line of JSON once it is ready: {"ready":true,"pid":n,"peer":"host:port","local":"host:port"}. Where the
    console is, `console` tells. Calls under way are finished when it is stopped, for up to 10 seconds; a second signal
    ends it at once.
    """
    from connector_psi.rpc import server  # noqa: PLC0415 - only this command needs it

    config, _ = load_config(directory)
    beside: Callable[[Service], server.Beside | None] = _nothing
    if config.console.listen:
        from connector_psi.console.server import open_console  # noqa: PLC0415 - only where there is one

        beside = open_console
    log_to_stderr(logging.INFO, node=config.node.authority)
    with _until_told() as stop:

        def announce(serving: Serving) -> None:
            ready = {"ready": True, "pid": serving.pid, "peer": serving.peer, "local": serving.local}
            sys.stdout.write(json.dumps(ready, separators=(",", ":")) + "\n")
            sys.stdout.flush()

        server.serve(directory, stop, announce, beside)


def _nothing(_service: Service) -> None:
    return None


@contextmanager
def _until_told() -> Iterator[threading.Event]:
    """An event that a signal sets; why the block ended is logged."""
    stop = threading.Event()
    asked: list[int] = []

    def end(number: int, _frame: object) -> None:
        if stop.is_set():
            # Nothing that was acknowledged is lost: it is on the disk already.
            os._exit(128 + number)
        asked.append(number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    reason = "error"
    try:
        yield stop
        reason = signal.Signals(asked[0]).name if asked else reason
    except errors.ConnectorError as error:
        reason = error.code
        raise
    finally:
        logger.info("node.stopped", reason=reason)


@app.command()
def console(
    directory: NodeDir,
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Instead of what node.toml says.", show_default=False)
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Serve the web console alone, until SIGTERM or Ctrl-C; or tell where `serve` does.

    While `serve` runs, it prints where its console is, and ends. Otherwise it opens the node and serves the console
    and nothing else: no port for peers, and nothing is published, asked or sent. What people decide meanwhile is kept
    and leaves once the node is served. Prints one line of JSON once it is ready: {"ready":true,"pid":n,"url":"..."}.
    """
    from connector_psi.console import server  # noqa: PLC0415 - only this command needs it
    from connector_psi.rpc.server import open_node  # noqa: PLC0415 - as above

    serving = serving_of(directory)
    if serving is not None:
        if not serving.console:
            raise errors.UnavailableError(f"{directory}: it is being served without a console ([console] in node.toml)")
        value = {"pid": serving.pid, "url": serving.console}
        emit(value, as_json, lambda: say(f"Served already: {serving.console}"))
        return
    log_to_stderr(logging.INFO, node=load_config(directory)[0].node.authority)
    with _until_told() as stop, closing(open_node(directory)) as service:
        address = listen or service.node.config.console.listen or "127.0.0.1:0"
        with closing(server.Served(service, address)) as served:
            ready = {"ready": True, "pid": os.getpid(), "url": served.url}
            sys.stdout.write(json.dumps(ready, separators=(",", ":")) + "\n")
            sys.stdout.flush()
            service.tick_log()
            while not stop.wait(service.node.config.log.checkpoint_s):
                service.tick_log()
        service.tick_log()


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
    with open_local(directory, Role.SYSTEM) as client, progress(as_json) as bar:
        task = bar.add_task("tokens", total=None)
        value = client.publish(agreement or "", lambda done: bar.update(task, completed=done))
    emit(
        value,
        as_json,
        lambda: table(
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
    emit(
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
def status(
    directory: NodeDir,
    ready: Annotated[
        bool, typer.Option("--ready", help="Only whether it is ready: exit code 0, or 6 and what it waits for.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show peers, epochs, set ages, queues, capacities and the log.

    A node is ready when it is served, its log takes entries, and every agreement that may run has a set that holds.
    """
    with open_local(directory, Role.SYSTEM) as client:
        value = client.status()
    if not ready:
        emit(value, as_json, lambda: watching.show(value))
        return
    found = {"ready": value["ready"], "reasons": value["reasons"]}
    emit(found, as_json, lambda: say("ready" if value["ready"] else "not ready: ", ", ".join(value["reasons"])))
    if not value["ready"]:
        raise typer.Exit(EXIT_CODES[errors.StorageError])


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
    emit(
        value,
        as_json,
        lambda: say(f"{value['authority']} added; in force: {', '.join(value['agreements']) or 'no agreement'}"),
    )


@peer_app.command("list")
def peer_list(directory: NodeDir, as_json: AsJson = False) -> None:
    """List peers and the agreements with them."""
    with open_local(directory, Role.SYSTEM) as client:
        value = client.peers()
    emit(
        value,
        as_json,
        lambda: table(
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
    emit({"authority": code, "revoked": True}, as_json, lambda: say(code, " revoked"))
