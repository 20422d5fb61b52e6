"""Commands for reports over the log: report statistics, processing, verification, anomalies.

Decides: what is fetched for a report and how it is shown. Leaves to others: what the reports say (``reports``), whose
bodies are opened and that it is logged (the node).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

from connector_psi import errors
from connector_psi.audit import checkpoint as notes
from connector_psi.audit.bodies import SALT_BYTES
from connector_psi.audit.cosignature import WitnessKey, parse_witness_key, verify_cosignatures
from connector_psi.audit.entries import Event, parse_leaf
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
from connector_psi.domain.purposes import OwnerNotice, ProfileRole
from connector_psi.node.config import load_config
from connector_psi.pack.matrix import sheets
from connector_psi.pack.reading import load_policy
from connector_psi.pki import Role
from connector_psi.reports import anomalies, charts, records
from connector_psi.reports.entry import Entry
from connector_psi.reports.records import Controller, Measure, Regime
from connector_psi.rpc.client import LocalClient
from connector_psi.rpc.local import open_local

report_app = typer.Typer(help="Reports over the log, and over what is stored.", no_args_is_help=True)

CHARTED = (Measure.QUERIES, Measure.CASES, Measure.DISCLOSED, Measure.CONFIRMED)
REGIMES = {ProfileRole.EUROPOL: Regime.EUDPR_OPERATIONAL, ProfileRole.CUSTOMS: Regime.GDPR}

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
    found = records.statistics(entries, wanted, silent=_silent(directory))
    rows = [
        [r.line.agreement, r.line.side, r.line.purpose, r.line.legal_basis, r.measure.value, r.year] for r in found.rows
    ]
    columns = ["agreement", "side", "purpose", "legal basis", "measure", str(wanted)]

    def parts() -> Iterable[str]:
        yield page.paragraph(
            f"Counts of 1 to 9 are told as {records.SMALL}; what would give one away is withheld ({records.WITHHELD})."
        )
        for measure in CHARTED:
            told = {code or "no agreement": of[measure] for code, of in found.by_agreement.items() if measure in of}
            if told:
                title = f"{measure.value.capitalize()} by agreement, {wanted}"
                yield charts.bars(title, list(told), [t.at_least for t in told.values()], unit=measure.value)
        by_month = {
            measure.value: [found.by_month[f"{m:02d}"][measure].at_least for m in range(1, 13)]
            for measure in CHARTED
            if all(measure in found.by_month.get(f"{m:02d}", {}) for m in range(1, 13))
        }
        if by_month:
            yield charts.months(f"By month, {wanted}", by_month)
        yield page.table("All counts", columns, rows)

    _written(csv, html, lambda: records.encode_csv(found), f"Statistics {wanted}", parts)
    emit(
        [{**asdict(r.line), "measure": r.measure.value, "year": r.year, "months": list(r.months)} for r in found.rows],
        as_json,
        lambda: table(f"Statistics {wanted}", columns, rows),
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
    role = config.node.role
    who = Controller(controller or config.node.authority, contact, REGIMES.get(role, Regime.LED), officer)
    pack = load_policy(layout.policy)
    own = {each.purpose.value: each.code for each in pack.own}
    found = records.processing_records(sheets([pack]), entries, who, own=own)
    facts = [[(name.replace("_", " "), _plain(value)) for name, value in asdict(each).items()] for each in found]

    def parts() -> Iterable[str]:
        for each, lines in zip(found, facts, strict=True):
            yield page.table(f"{each.code}: {each.purpose}", ["what", "says"], lines)

    _written(csv, html, lambda: records.encode_csv(found), "Records of processing activities", parts)

    def text() -> None:
        for each, lines in zip(found, facts, strict=True):
            listing(f"{each.code}  {each.purpose}", lines)

    emit([asdict(each) for each in found], as_json, text)


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
    begin = end - timedelta(days=182) if start is None else start.replace(tzinfo=UTC)
    with open_local(directory, as_cert or Role.DPO) as client:
        verified, seen = client.verify_log(), client.status()["log"]
        entries = _entries(client, reason, quiet=as_json)
        signed = list(client.checkpoints())
    keys = [parse_witness_key(key) for key in seen["witness_keys"]]
    # Of each witness the newest: what this report itself wrote is not cosigned yet.
    cosigned: dict[str, dict[str, str | int]] = {}
    for note in reversed(signed):
        for line in _cosigned(note, keys):
            cosigned.setdefault(str(line["witness"]), line)
        if len(cosigned) == len(keys):
            break
    found = records.verification_report(
        verified,
        entries,
        begin,
        end,
        checkpoints=list(cosigned.values()),
        erased=_erased(entries),
        open_items=[f"The log of {fork['origin']} signed two histories." for fork in seen["forks"]],
    )
    facts: list[tuple[str, object]] = [
        (name.replace("_", " "), _plain(value)) for name, value in asdict(found).items() if name != "open_items"
    ]

    def parts() -> Iterable[str]:
        yield page.table("What was found", ["what", "says"], facts)
        if found.entries:
            yield charts.bars(
                "Entries of the period by event", list(found.entries), list(found.entries.values()), unit="entries"
            )
        yield page.heading("What remains to be done")
        yield page.points(found.open_items)

    _written(csv, html, lambda: records.encode_csv(found), f"Verification of {found.origin}", parts)

    def text() -> None:
        listing(f"Verification of {found.origin}", facts)
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

    def parts() -> Iterable[str]:
        yield page.paragraph("Patterns, found by rules. They prove nothing; a person looks at each.")
        by_kind = {kind.value: sum(a.kind is kind for a in found) for kind in anomalies.Kind}
        yield charts.bars("By kind", list(by_kind), list(by_kind.values()), unit="findings")
        yield page.table("What to look at", columns, rows)

    _written(csv, html, lambda: anomalies.encode_csv(found), "Anomalies", parts)
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


def _silent(directory: Path) -> _Silent:
    _, layout = load_config(directory)
    pack = load_policy(layout.policy)
    return _Silent(t.code for t in pack.templates if t.owner_notice is not OwnerNotice.NONE)


class _Silent(frozenset[str]):
    """All agreements but those of templates that are known to give their owner notice, whose codes it holds."""

    def __contains__(self, code: object) -> bool:
        return isinstance(code, str) and not super().__contains__(code.partition(":")[0])


def _cosigned(note: bytes, keys: Sequence[WitnessKey]) -> list[dict[str, str | int]]:
    parsed = notes.parse_note(note)
    size = notes.parse_checkpoint(parsed.text).size
    found: list[dict[str, str | int]] = []
    for said in verify_cosignatures(parsed, keys):
        when = datetime.fromtimestamp(said.time_s, tz=UTC)
        found.append({"size": size, "witness": said.name, "time": f"{when:%Y-%m-%dT%H:%M:%SZ}"})
    return found


def _erased(entries: Sequence[Entry]) -> dict[int, datetime]:
    """When bodies were erased, as PURGE entries say."""
    return {
        index: entry.leaf.ts
        for entry in entries
        if entry.leaf.event is Event.PURGE
        for first, last in entry.said("entries") or ()
        for index in range(first, last + 1)
    }


def _written(
    csv: Path | None, html: Path | None, encode: Callable[[], str], title: str, parts: Callable[[], Iterable[str]]
) -> None:
    if csv is not None:
        page.write(csv, encode())
    if html is not None:
        page.write(html, page.document(title, parts()))


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_plain(each)}" for name, each in value.items()) or "none"
    if isinstance(value, tuple | list):
        return " | ".join(map(_plain, value)) or "none"
    return str(value)


def _places(entries: Sequence[int]) -> str:
    shown = ", ".join(map(str, entries[:10]))
    return shown if len(entries) <= 10 else f"{shown} and {len(entries) - 10} more"
