"""Commands of match quality: identifiers evaluate, mapping check, report quality."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from connector_psi import errors
from connector_psi.commands.output import REJECTED_SOME, AsJson, NodeDir, emit, progress, say, table
from connector_psi.commands.reports import report_app
from connector_psi.domain import evaluation
from connector_psi.domain.clock import SystemClock
from connector_psi.domain.coverage import Coverage
from connector_psi.pki import Role
from connector_psi.rpc.local import open_local

mapping_app = typer.Typer(help="Own databases: how their tables become records.", no_args_is_help=True)
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
            found = evaluation.count_objects(csv.DictReader(a), csv.DictReader(d))
    except OSError as error:
        raise errors.ConfigError(f"{directory}: {error.filename}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error):
        raise errors.ConfigError(f"{directory}: not CSV in UTF-8") from None
    rows = [
        (kind, variation, c.n, c.matched, f"{c.matched / c.n:.3f}", c.false_matches, c.met, c.false_met)
        for kind, variations in found.items()
        for variation, c in variations.items()
    ]

    def text() -> None:
        table(
            "Identifiers",
            ["type", "variation", "rows", "matched", "share", "false matches", "weakly", "falsely so"],
            rows,
        )
        say("weakly: the label was found by an identifier that needs a second one, and is no match by itself.")

    emit(evaluation.matches_of(found), as_json, text)


@report_app.command("quality")
def report_quality(directory: NodeDir, as_json: AsJson = False) -> None:
    """Show what the stored records can be matched by: coverage of each identifier type, by category of records."""
    with open_local(directory, Role.SYSTEM) as client:
        found = client.quality()
    total = Coverage()
    for part in found.values():
        total.add_json(part.as_json())
    value = {"total": total.as_json(), "categories": {name: part.as_json() for name, part in found.items()}}
    emit(value, as_json, lambda: show_coverage({**found, "all": total}))


def show_coverage(found: Mapping[str, Coverage]) -> None:
    """Print coverage as two tables: what records can be matched by at all, and each identifier type."""
    table(
        "Records, and what they can be matched by",
        ["about", "records", "matchable", "need a second", "name alone", "nothing", "incomplete", "hidden"],
        [
            (
                name,
                c.counts["records"],
                _share(c.counts["matchable"], c),
                _share(c.counts["weak_only"], c),
                _share(c.counts["names_only"], c),
                _share(c.counts["nothing"], c),
                c.counts["incomplete"],
                c.counts["hidden"],
            )
            for name, c in found.items()
        ],
    )
    table(
        "Identifiers",
        ["about", "type", "records", "identifiers", "of these in free text"],
        [
            (name, kind, _share(count, c), c.values[kind], c.free_text[kind])
            for name, c in found.items()
            for kind, count in sorted(c.with_type.items())
        ],
    )


def _share(count: int, of: Coverage) -> str:
    whole = of.counts["records"]
    return f"{count} ({count / whole:.0%})" if whole else "0"


@mapping_app.command("check")
def mapping_check(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A mapping.toml.", show_default=False)],
    rows: Annotated[
        int, typer.Option(min=0, max=1_000, help="First records to show, with their values; 0 shows none.")
    ] = 10,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="Read no more than so many rows.")] = None,
    as_json: AsJson = False,
) -> None:
    """Read a database as a mapping says and take nothing in: first rows mapped, rejects with reasons, coverage."""
    from connector_psi.node.mapping_check import check  # noqa: PLC0415 - only this command needs it

    with progress(as_json) as bar:
        task = bar.add_task("rows", total=None)
        found = check(
            path, now=SystemClock().now(), rows=rows, limit=limit, advance=lambda n: bar.update(task, advance=n)
        )

    def text() -> None:
        for title, columns, lines in found.tables():
            table(title, columns, lines)

    emit(found.as_json(), as_json, text)
    if found.rejects or found.unusable:
        raise typer.Exit(REJECTED_SOME)
