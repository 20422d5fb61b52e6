"""Commands for reports over the log: report statistics, processing, verification, anomalies.

Decides: what is fetched for a report and how it is shown. Leaves to others: what the reports say (``reports``), whose
bodies are opened and that it is logged (the node).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

from connector_psi import errors
from connector_psi.audit import checkpoint as notes
from connector_psi.audit.bodies import SALT_BYTES
from connector_psi.audit.cosignature import parse_witness_key
from connector_psi.audit.entries import parse_leaf
from connector_psi.commands import page
from connector_psi.commands.output import (
    VERIFICATION_FAILED,
    AsJson,
    MaybeCert,
    NodeDir,
    Reason,
    emit,
    err,
    listing,
    progress,
    say,
    table,
)
from connector_psi.node import reporting
from connector_psi.node.config import load_config
from connector_psi.pack.reading import load_policy
from connector_psi.pki import Role
from connector_psi.reports import anomalies, charts
from connector_psi.reports.entry import Entry
from connector_psi.reports.shown import Chart, Report, Table, Text
from connector_psi.rpc.client import LocalClient
from connector_psi.rpc.local import open_local

report_app = typer.Typer(help="Reports over the log, and over what is stored.", no_args_is_help=True)

Csv = Annotated[Path | None, typer.Option("--csv", metavar="OUT", help="Also write CSV.", show_default=False)]
Html = Annotated[Path | None, typer.Option("--html", metavar="OUT", help="Also write a page.", show_default=False)]


@report_app.command("statistics")
def report_statistics(
    directory: NodeDir,
    reason: Reason,
    year: Annotated[
        int | None, typer.Option("--year", min=2020, max=9999, help="By default the last one.", show_default=False)
    ] = None,
    csv: Csv = None,
    html: Html = None,
    as_cert: MaybeCert = None,
    as_json: AsJson = False,
) -> None:
    """Count a year by agreement, purpose and legal basis, with counts under 10 suppressed beyond recomputing.

    Outcomes stand in sealed bodies: EXPORT says who had them opened, and why.
    """
    with open_local(directory, as_cert or Role.DPO) as client:
        entries = _entries(client, reason, quiet=as_json)
    this_year = datetime.now(tz=UTC).year
    wanted = year or this_year - 1
    if wanted >= this_year:
        err.print("The year is not over: what is published twice shows when a count leaves <10.", markup=False)
    found, report = reporting.statistics(entries, wanted, _silent(directory))
    columns, rows = reporting.statistics_table(found)
    _written(csv, html, report)
    emit(
        [{**asdict(r.line), "measure": r.measure.value, "year": r.year, "months": list(r.months)} for r in found.rows],
        as_json,
        lambda: table(report.title, columns, rows),
    )


@report_app.command("processing")
def report_processing(
    directory: NodeDir,
    controller: Annotated[str, typer.Option("--controller", metavar="NAME", help="Who is responsible.")] = "",
    contact: Annotated[str, typer.Option("--contact", metavar="TEXT", help="How to reach it.")] = "",
    officer: Annotated[str, typer.Option("--officer", metavar="TEXT", help="Its data protection officer.")] = "",
    csv: Csv = None,
    html: Html = None,
    as_cert: MaybeCert = None,
    as_json: AsJson = False,
) -> None:
    """Write the records of processing activities (2016/680 Article 24, 2016/679 Article 30) from the policy.

    One for each agreement and each purpose of the own node. Leaves of the log show since when each is used.
    """
    config, layout = load_config(directory)
    with open_local(directory, as_cert or Role.DPO) as client:
        entries = _entries(client, "", quiet=as_json)
    found, report = reporting.processing(
        entries,
        load_policy(layout.policy),
        config.node.role,
        controller=controller or config.node.authority,
        contact=contact,
        officer=officer,
    )
    _written(csv, html, report)
    emit([asdict(each) for each in found], as_json, lambda: _listings(report))


@report_app.command("verification")
def report_verification(
    directory: NodeDir,
    reason: Reason,
    start: Annotated[
        datetime | None,
        typer.Option("--from", formats=["%Y-%m-%d"], help="First day; half a year before.", show_default=False),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option("--until", formats=["%Y-%m-%d"], help="Last day; by default yesterday.", show_default=False),
    ] = None,
    csv: Csv = None,
    html: Html = None,
    as_cert: MaybeCert = None,
    as_json: AsJson = False,
) -> None:
    """Write the six-monthly report: what was verified, who read what, what was erased, what remains to be done.

    Verifies the whole log first. Exit code 5 if something is wrong with it.
    """
    today = datetime.now(tz=UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if until is not None and until.replace(tzinfo=UTC) > today:
        raise errors.ConfigError("--until: a day to come")
    end = today if until is None else until.replace(tzinfo=UTC) + timedelta(days=1)
    begin = end - reporting.HALF_A_YEAR if start is None else start.replace(tzinfo=UTC)
    with open_local(directory, as_cert or Role.DPO) as client:
        verified, seen = client.verify_log(), client.status()["log"]
        entries = _entries(client, reason, quiet=as_json)
        signed = list(client.checkpoints())
    # Of each witness the newest: what this report itself wrote is not cosigned yet.
    keys = [parse_witness_key(key) for key in seen["witness_keys"]]
    found, report = reporting.verification(
        entries,
        begin,
        end,
        verified=verified,
        cosigned=reporting.newest_cosignatures(reversed(signed), keys),
        forks=[fork["origin"] for fork in seen["forks"]],
    )
    _written(csv, html, report)

    def text() -> None:
        listing(report.title, reporting.verification_facts(found))
        for item in found.open_items:
            say("To do: ", item)

    emit(json.loads(json.dumps(asdict(found), default=str)), as_json, text)
    if not found.verified:
        raise typer.Exit(VERIFICATION_FAILED)


@report_app.command("anomalies")
def report_anomalies(
    directory: NodeDir,
    reason: Reason,
    zone: Annotated[
        str, typer.Option("--zone", metavar="TZ", help="In which people work, as Europe/Brussels.")
    ] = "UTC",
    csv: Csv = None,
    html: Html = None,
    as_cert: MaybeCert = None,
    as_json: AsJson = False,
) -> None:
    """List what a person should look at: identifiers that run on, unusual look-ups, hit rates, matches nobody followed,
    work at night. Each says what it rests on. Nothing is decided by it.

    Bodies are opened for it: EXPORT says who had that done, and why. Some of what is found is chance.
    """
    try:
        hours = anomalies.OfficeHours(zone=ZoneInfo(zone))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise errors.ConfigError("--zone: not a time zone such as Europe/Brussels") from None
    with open_local(directory, as_cert or Role.DPO) as client:
        entries = _entries(client, reason, quiet=as_json)
    found = anomalies.find(entries, office_hours=hours, silent=_silent(directory))
    columns = ["kind", "severity", "who", "entries", "what to look at"]
    rows = [[a.kind, a.severity, a.who, _places(a.entries), a.explanation] for a in found]

    by_kind = {kind.value: sum(a.kind is kind for a in found) for kind in anomalies.Kind}
    report = Report(
        "Anomalies",
        (
            Text("Patterns, found by rules. They prove nothing; a person looks at each."),
            Chart(charts.bars("By kind", list(by_kind), list(by_kind.values()), unit="findings")),
            Table("What to look at", columns, rows),
        ),
        anomalies.encode_csv(found),
    )
    _written(csv, html, report)
    emit([asdict(each) for each in found], as_json, lambda: table("What to look at", columns, rows))


def _entries(client: LocalClient, reason: str, *, quiet: bool) -> list[Entry]:
    """The log up to its newest checkpoint; with a reason, with the bodies that the caller may open."""
    size = notes.parse_checkpoint(notes.parse_note(client.checkpoint()).text).size
    bodies: dict[int, dict[str, Any]] = {}
    with progress(quiet) as bar:
        task = bar.add_task("entries", total=2 * size if reason else size)
        if reason:
            for index, raw in client.export_bodies(size, reason):
                bar.advance(task)
                if raw is not None:
                    bodies[index] = json.loads(raw[SALT_BYTES:])
        found = []
        for index, leaf in enumerate(client.leaves(0, size)):
            bar.advance(task)
            found.append(Entry(index, parse_leaf(leaf), bodies.get(index)))
    return found


def _silent(directory: Path) -> frozenset[str]:
    _, layout = load_config(directory)
    return reporting.silent_agreements(load_policy(layout.policy))


def _written(csv: Path | None, html: Path | None, report: Report) -> None:
    if csv is not None:
        page.write(csv, report.csv)
    if html is not None:
        page.write(html, page.document(report.title, map(page.part, report.parts)))


def _listings(report: Report) -> None:
    for part in report.parts:
        if isinstance(part, Table):
            listing(part.caption, [(str(label), text) for label, text in part.rows])


def _places(entries: Sequence[int]) -> str:
    shown = ", ".join(map(str, entries[:10]))
    return shown if len(entries) <= 10 else f"{shown} and {len(entries) - 10} more"
