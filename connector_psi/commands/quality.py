"""Commands of match quality: identifiers evaluate, mapping check, report quality."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from connector_psi import errors
from connector_psi.commands import page
from connector_psi.commands.output import REJECTED_SOME, AsJson, MaybeCert, NodeDir, emit, progress, say, table
from connector_psi.commands.reports import report_app
from connector_psi.commands.watching import age
from connector_psi.domain import evaluation
from connector_psi.domain.clock import SystemClock
from connector_psi.domain.coverage import Coverage
from connector_psi.pki import Role
from connector_psi.reports import charts
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
def report_quality(
    directory: NodeDir,
    days: Annotated[int, typer.Option(metavar="N", min=1, max=3_660, help="Count the matches of so many days.")] = 30,
    officers: Annotated[int, typer.Option(metavar="N", min=1, help="People who review matches, every day.")] = 1,
    html: Annotated[Path | None, typer.Option(metavar="OUT", help="Also write a page.", show_default=False)] = None,
    as_cert: MaybeCert = None,
    as_json: AsJson = False,
) -> None:
    """Show what the stored records can be matched by, and whether people can keep up with the matches.

    By category of records: coverage of each identifier type. By agreement in which this node asks: matches of 1,000
    declarations, what was confirmed and how long that took, and how many matches an officer has to expect each day.
    """
    with open_local(directory, as_cert or Role.SYSTEM) as client:
        found, matches = client.quality(days)
    total = Coverage()
    for part in found.values():
        total.add_json(part.as_json())
    for line in matches.values():
        line["per_officer_and_day"] = round(line["matches_per_day"] / officers, 3)
    value = {
        "total": total.as_json(),
        "categories": {name: part.as_json() for name, part in found.items()},
        "officers": officers,
        "agreements": matches,
    }
    shown = {**found, "all": total}
    if html is not None:
        page.write(html, page.document("Quality of matching", _page(shown, matches, days, officers)))

    def text() -> None:
        show_coverage(shown)
        table(*_MATCHES, [*_matches(matches)])
        table(*_DECISIONS, [*_decisions(matches)])
        say(f"Matches found in the last {days} days, or since the first declaration; {officers} people review them.")

    emit(value, as_json, text)


_MATCHES = (
    "Matches",
    ("agreement", "days", "declarations", "live now", "matches", "in 1,000", "a day", "an officer and day"),
)
_DECISIONS = (
    "Decisions",
    ("agreement", "confirmed", "dismissed", "undecided", "gone", "confirmed share", "median time"),
)
Figures = Mapping[str, Mapping[str, Any]]


def _matches(found: Figures) -> Iterator[Sequence[object]]:
    for code, line in found.items():
        rate = "-" if line["per_1000"] is None else f"{line['per_1000']:.2f}"
        yield (
            code,
            f"{line['days']:.0f}",
            line["declarations"],
            line["declarations_live"],
            line["matches"],
            rate,
            f"{line['matches_per_day']:.1f}",
            f"{line['per_officer_and_day']:.1f}",
        )


def _decisions(found: Figures) -> Iterator[Sequence[object]]:
    for code, line in found.items():
        share = "-" if line["confirmed_share"] is None else f"{line['confirmed_share']:.0%}"
        counts = [line[name] for name in ("confirmed", "dismissed", "undecided", "gone")]
        yield code, *counts, share, age(line["median_decision_s"])


def _page(coverage: Mapping[str, Coverage], matches: Figures, days: int, officers: int) -> Iterator[str]:
    yield page.paragraph(
        f"Matches found in the last {days} days, or since the first declaration; {officers} people review them. "
        "Counts alone; nothing here is about any record."
    )
    if matches:
        expected = [line["per_officer_and_day"] for line in matches.values()]
        yield charts.bars("Matches to expect, by officer and day", [*matches], expected, unit="matches")
    yield page.table(*_MATCHES, _matches(matches))
    yield page.table(*_DECISIONS, _decisions(matches))
    for title, columns, rows in _coverage(coverage):
        yield page.table(title, columns, rows)


def show_coverage(found: Mapping[str, Coverage]) -> None:
    """Print coverage as two tables: what records can be matched by at all, and each identifier type."""
    for title, columns, rows in _coverage(found):
        table(title, columns, rows)


def _coverage(found: Mapping[str, Coverage]) -> Iterator[tuple[str, Sequence[str], Sequence[Sequence[object]]]]:
    yield (
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
    yield (
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
