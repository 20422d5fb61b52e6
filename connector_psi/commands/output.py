"""What every command prints and takes: JSON or tables, progress, the options that mean the same everywhere, exit codes.

Leaves to others: what is printed (the other modules of this folder).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import structlog
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from connector_psi import errors

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


def emit(value: object, as_json: bool, text: Callable[[], None]) -> None:
    """Print a result: as JSON, or as ``text`` prints it."""
    if as_json:
        sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    else:
        text()


def plain(value: object) -> str:
    """Text as it is shown: nothing in it moves the cursor. Much of it comes from files and from peers."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in str(value))


def say(*parts: object) -> None:
    """Print a line in which nothing is markup, and nothing is broken that somebody may want to copy."""
    out.print(Text("".join(map(plain, parts))), soft_wrap=True)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; nothing in its cells is markup."""
    shown = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        # Ids stand first and are copied into other commands: they stay in one piece.
        shown.add_column(column, overflow="fold", no_wrap=column in {"match", "case", "request"})
    for row in rows:
        shown.add_row(*(Text("" if cell is None else plain(cell)) for cell in row))
    out.print(shown)


def listing(title: str, facts: Iterable[tuple[str, object]]) -> None:
    """Print what there is to know about one thing, a label beside each text; nothing in it is markup."""
    shown = Table.grid(padding=(0, 2))
    shown.add_column(width=18, style="dim", overflow="fold")
    shown.add_column(overflow="fold")
    for label, text in facts:
        shown.add_row(Text(plain(label)), Text(plain(text)))
    out.print()
    out.print(Text(plain(title), style="bold"))
    out.print(shown)


def progress(quiet: bool) -> Progress:
    """Return a bar on standard error for work that is counted in pieces; silent where nobody watches."""
    return _progress(quiet, TextColumn("{task.completed:.0f}"), TimeElapsedColumn())


def intake_progress(quiet: bool) -> Progress:
    """As :func:`progress`, for files and tables; each task has a field ``done``, in words."""
    return _progress(quiet, TextColumn("{task.fields[done]}"), TimeElapsedColumn(), TimeRemainingColumn())


def _progress(quiet: bool, *columns: ProgressColumn) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *columns,
        console=err,
        transient=True,
        disable=quiet or not err.is_terminal,
    )


def log_to_stderr(level: int, node: str = "") -> None:
    """Send log lines to standard error as JSON, from this level on.

    Args:
        level: As ``logging`` has them.
        node: Code of the authority that the lines are about; empty where there is none.
    """

    def named(_logger: object, _level: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
        # First what every line has, in one order.
        head = {name: line.pop(name) for name in ("time", "level", "event")}
        return {**head, **({"node": node} if node else {}), **line}

    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(level),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            named,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
