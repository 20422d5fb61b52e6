"""``connector-psi``: the commands put together, and what a failure of any of them is to a shell.

Decides: which commands there are, and which failure has which exit code and text. Leaves to others: the commands
themselves (``commands``). Everything they do is done by the node, over its local port or in this process
(``rpc.local``), with the rights of the certificate that is used.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
import traceback
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.text import Text

from connector_psi import errors
from connector_psi.commands import (
    access,
    accounts,
    audit,
    intake,
    log,
    names,
    nodes,
    outbox,
    policies,
    quality,
    recalls,
    reports,
    review,
    subjects,
    systems,
    witnessing,
)
from connector_psi.commands.output import EXIT_CODES, err, log_to_stderr, plain

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
for _commands in (nodes.app, intake.app, audit.app, subjects.app, witnessing.app):
    app.add_typer(_commands)
for _name, _group in (
    ("peer", nodes.peer_app),
    ("accounts", accounts.accounts_app),
    ("matches", review.matches_app),
    ("cases", review.cases_app),
    ("access", access.access_app),
    ("recalls", recalls.recalls_app),
    ("outbox", outbox.outbox_app),
    ("clock", outbox.clock_app),
    ("log", log.log_app),
    ("policy", policies.policy_app),
    ("systems", systems.systems_app),
    ("identifiers", quality.identifiers_app),
    ("names", names.names_app),
    ("mapping", quality.mapping_app),
    ("report", reports.report_app),
):
    app.add_typer(_group, name=_name)


def _version(value: bool) -> None:
    if value:
        from connector_psi.oprf.backends import backend_name  # noqa: PLC0415 - only this option needs it

        sys.stdout.write(f"connector-psi {package_version('connector-psi')} (PRF: {backend_name()})\n")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[  # noqa: ARG001 - its callback answers
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show version and PRF backend.")
    ] = False,
) -> None:
    # Nothing but results goes to standard output. A node that is opened for one command logs what is wrong with it.
    log_to_stderr(logging.ERROR)


def tune_interpreter() -> None:
    """Set what all commands run under; for the start of a process, after its imports."""
    # The PRF is C calls that let go of the interpreter, some of them of microseconds. At Python's default of 5 ms each
    # would wait that long to get it back while another thread works.
    sys.setswitchinterval(1e-5)
    # Records and tokens come by the thousand and hold no cycles. At Python's default a young generation of 700 objects
    # is searched for some every few dozen records, and all modules with it every so often: a sixth of the time in which
    # 100,000 tokens are encoded.
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def main() -> NoReturn:
    """Run a command and exit with its code."""
    tune_interpreter()
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
    err.print(Text.assemble((kind, "bold red"), ": ", plain(detail)), soft_wrap=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
