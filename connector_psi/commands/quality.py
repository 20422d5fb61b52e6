"""Commands of match quality: identifiers evaluate, mapping check, report quality."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from connector_psi import errors
from connector_psi.commands.output import AsJson, emit, table
from connector_psi.domain import evaluation

identifiers_app = typer.Typer(help="Quality of exact identifier matching.", no_args_is_help=True)


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
    emit(
        value,
        as_json,
        lambda: table("Identifiers", ["type", "variation", "rows", "matched", "share", "false matches"], rows),
    )
