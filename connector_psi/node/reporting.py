"""Reports over the log of this node: what is read for one, and how it is put together for people.

Decides: which entries and bodies a report rests on, and that a person's reading of bodies is logged before (it is, by
``oversight``). Leaves to others: what the reports say (``reports``), what the policy says (``pack``), how they look.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from connector_psi.audit import checkpoint as notes
from connector_psi.audit.cosignature import WitnessKey, verify_cosignatures
from connector_psi.audit.entries import Event, parse_leaf
from connector_psi.domain.purposes import OwnerNotice, ProfileRole
from connector_psi.errors import FormatError
from connector_psi.node.node import COSIGNED_LOOKED_AT
from connector_psi.pack.matrix import sheets
from connector_psi.policy import PolicyPack
from connector_psi.reports import anomalies, charts, records
from connector_psi.reports.entry import Entry
from connector_psi.reports.records import Controller, Measure, Regime
from connector_psi.reports.shown import Chart, Part, Points, Report, Table, Text

if TYPE_CHECKING:
    from connector_psi.node.service import Service
    from connector_psi.pki import PersonIdentity

CHARTED = (Measure.QUERIES, Measure.CASES, Measure.DISCLOSED, Measure.CONFIRMED)
REGIMES: Mapping[ProfileRole, Regime] = {
    ProfileRole.EUROPOL: Regime.EUDPR_OPERATIONAL,
    ProfileRole.CUSTOMS: Regime.GDPR,
}
HALF_A_YEAR = timedelta(days=182)
FIRST_YEAR = 2020
Progress = Callable[[int, int], None]
Options = Mapping[str, str]


# Reports of entries, wherever they were read


def statistics(entries: Iterable[Entry], year: int, silent: frozenset[str]) -> tuple[records.Statistics, Report]:
    """Return the counts of a year with small ones suppressed, and the same for people."""
    found = records.statistics(entries, year, silent=silent)
    told_small = f"Counts of 1 to 9 are told as {records.SMALL}"
    parts: list[Part] = [Text(f"{told_small}; what would give one away is withheld ({records.WITHHELD}).")]
    for measure in CHARTED:
        told = {code or "no agreement": of[measure] for code, of in found.by_agreement.items() if measure in of}
        if told:
            title = f"{measure.value.capitalize()} by agreement, {year}"
            parts.append(Chart(charts.bars(title, list(told), [t.at_least for t in told.values()], unit=measure.value)))
    by_month = {
        measure.value: [found.by_month[f"{m:02d}"][measure].at_least for m in range(1, 13)]
        for measure in CHARTED
        if all(measure in found.by_month.get(f"{m:02d}", {}) for m in range(1, 13))
    }
    if by_month:
        parts.append(Chart(charts.months(f"By month, {year}", by_month)))
    parts.append(Table("All counts", *statistics_table(found)))
    return found, Report(f"Statistics {year}", tuple(parts), records.encode_csv(found))


def statistics_table(found: records.Statistics) -> tuple[list[str], list[list[object]]]:
    """Return columns and rows of all counts."""
    columns = ["agreement", "side", "purpose", "legal basis", "measure", str(found.year)]
    return columns, [
        [r.line.agreement, r.line.side, r.line.purpose, r.line.legal_basis, r.measure.value, r.year] for r in found.rows
    ]


def processing(
    entries: Iterable[Entry], pack: PolicyPack, role: ProfileRole, *, controller: str, contact: str, officer: str
) -> tuple[Sequence[records.ProcessingRecord], Report]:
    """Return the records of processing activities of a policy, and the same for people."""
    who = Controller(controller, contact, REGIMES.get(role, Regime.LED), officer)
    own = {each.purpose.value: each.code for each in pack.own}
    found = records.processing_records(sheets([pack]), entries, who, own=own)
    parts = tuple(
        Table(
            f"{each.code}: {each.purpose}",
            ["what", "says"],
            [(name.replace("_", " "), plain(value)) for name, value in asdict(each).items()],
        )
        for each in found
    )
    return found, Report("Records of processing activities", parts, records.encode_csv(found))


def verification(
    entries: Sequence[Entry],
    begin: datetime,
    end: datetime,
    *,
    verified: Mapping[str, Any],
    cosigned: Sequence[Mapping[str, str | int]],
    forks: Iterable[str],
) -> tuple[records.VerificationReport, Report]:
    """Return the six-monthly report, and the same for people."""
    found = records.verification_report(
        verified,
        entries,
        begin,
        end,
        checkpoints=cosigned,
        erased=_erased(entries),
        open_items=[f"The log of {origin} signed two histories." for origin in forks],
    )
    parts: list[Part] = [Table("What was found", ["what", "says"], verification_facts(found))]
    if found.entries:
        parts.append(
            Chart(
                charts.bars(
                    "Entries of the period by event", list(found.entries), list(found.entries.values()), unit="entries"
                )
            )
        )
    parts.append(Points("What remains to be done", list(found.open_items)))
    return found, Report(f"Verification of {found.origin}", tuple(parts), records.encode_csv(found))


def verification_facts(found: records.VerificationReport) -> list[tuple[str, object]]:
    """Return what the six-monthly report says, as label and text."""
    return [(name.replace("_", " "), plain(value)) for name, value in asdict(found).items() if name != "open_items"]


def newest_cosignatures(signed: Iterable[bytes], keys: Sequence[WitnessKey]) -> list[dict[str, str | int]]:
    """Return the newest checkpoint that each witness cosigned.

    Args:
        signed: Checkpoints, the newest first.
        keys: Of the witnesses.
    """
    cosigned: dict[str, dict[str, str | int]] = {}
    for note in signed:
        parsed = notes.parse_note(note)
        size = notes.parse_checkpoint(parsed.text).size
        for said in verify_cosignatures(parsed, keys):
            when = datetime.fromtimestamp(said.time_s, tz=UTC)
            cosigned.setdefault(said.name, {"size": size, "witness": said.name, "time": f"{when:%Y-%m-%dT%H:%M:%SZ}"})
        if len(cosigned) == len(keys):
            break
    return list(cosigned.values())


def silent_agreements(pack: PolicyPack) -> frozenset[str]:
    """Return a set that has every agreement but those that are known to give their owner notice."""
    return _Silent(t.code for t in pack.templates if t.owner_notice is not OwnerNotice.NONE)


class _Silent(frozenset[str]):
    """All agreements but those of templates that are known to give their owner notice, whose codes it holds."""

    def __contains__(self, code: object) -> bool:
        return isinstance(code, str) and not super().__contains__(code.partition(":")[0])


def plain(value: object) -> str:
    """Return a value of a report as text."""
    if isinstance(value, dict):
        return "; ".join(f"{name}: {plain(each)}" for name, each in value.items()) or "none"
    if isinstance(value, tuple | list):
        return " | ".join(map(plain, value)) or "none"
    return str(value)


def _erased(entries: Sequence[Entry]) -> dict[int, datetime]:
    """When bodies were erased, as PURGE entries say."""
    return {
        index: entry.leaf.ts
        for entry in entries
        if entry.leaf.event is Event.PURGE
        for first, last in entry.said("entries") or ()
        for index in range(first, last + 1)
    }


# Reports of this node's own log, for a person of this authority


def find_anomalies(
    service: Service, person: PersonIdentity, reason: str, zone: str, progress: Progress
) -> list[anomalies.Anomaly]:
    """Return what a person should look at; the bodies are opened for it, which EXPORT says.

    Raises:
        PurposeRefusedError: The policy does not let the person.
        ApprovalMissingError: No reason.
    """
    entries = read_log(service, person, reason, progress)
    hours = anomalies.OfficeHours(zone=ZoneInfo(zone))
    return anomalies.find(entries, office_hours=hours, silent=silent_agreements(service.node.pack))


def read_log(
    service: Service, person: PersonIdentity, reason: str, progress: Progress, *, bodies_too: bool = True
) -> list[Entry]:
    """Return the log up to its newest checkpoint, with the bodies that a person may open if they are wanted too.

    Raises:
        PurposeRefusedError: The policy does not let the person.
        ApprovalMissingError: No reason.
        UnavailableError: No checkpoint is signed yet.
    """
    oversight = service.oversight
    size = notes.parse_checkpoint(notes.parse_note(oversight.checkpoint()).text).size
    bodies: dict[int, dict[str, Any]] = {}
    for done, (index, body) in enumerate(oversight.export_bodies(size, person, reason) if bodies_too else ()):
        if body is not None:
            bodies[index] = json.loads(body.encoded)
        if not done % 1_000:
            progress(done, 2 * size)
    found: list[Entry] = []
    while len(found) < size:
        chunk = oversight.leaves(len(found), size - len(found))
        found += [Entry(len(found) + n, parse_leaf(leaf), bodies.get(len(found) + n)) for n, leaf in enumerate(chunk)]
        progress(size + len(found), 2 * size)
    return found


@dataclass(frozen=True, slots=True)
class Kind:
    """A report that a person can have made.

    Attributes:
        title: What it is.
        about: What it is for.
        make: Makes it.
        asks: Names of what may be said for it.
    """

    title: str
    about: str
    make: Callable[[Service, PersonIdentity, str, Options, Progress], Report]
    asks: tuple[str, ...] = ()


def _statistics(service: Service, person: PersonIdentity, reason: str, options: Options, progress: Progress) -> Report:
    now = service.node.clock.now().year
    text = options.get("year", str(now - 1))
    if not text.isdigit() or not FIRST_YEAR <= int(text) < now:
        # What is told twice of a year that is not over shows when a count leaves "<10".
        raise FormatError("year: one that is over")
    entries = read_log(service, person, reason, progress)
    return statistics(entries, int(text), silent_agreements(service.node.pack))[1]


def _processing(service: Service, person: PersonIdentity, reason: str, options: Options, progress: Progress) -> Report:
    node = service.node
    return processing(
        read_log(service, person, reason, progress, bodies_too=False),
        node.pack,
        node.config.node.role,
        controller=options.get("controller", "") or node.authority,
        contact=options.get("contact", ""),
        officer=options.get("officer", ""),
    )[1]


def _verification(service: Service, person: PersonIdentity, reason: str, _: Options, progress: Progress) -> Report:
    node, oversight = service.node, service.oversight
    end = node.clock.now().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    verified = oversight.verify()
    entries = read_log(service, person, reason, progress)
    status: Any = service.status()["log"]
    with node.store.read() as tx:
        sizes = node.entries.cosigned_sizes(tx, 0, COSIGNED_LOOKED_AT)
        signed = [note for size in sizes if (note := node.entries.cosigned(tx, size)) is not None]
    cosigned = newest_cosignatures(signed, list(node.asked_witnesses()))
    forks = [fork["origin"] for fork in status["forks"]]
    return verification(entries, end - HALF_A_YEAR, end, verified=verified, cosigned=cosigned, forks=forks)[1]


REPORTS: Mapping[str, Kind] = {
    "statistics": Kind(
        "Yearly statistics",
        "Counts of a year by agreement, purpose and legal basis. Counts under 10 are suppressed beyond recomputing.",
        _statistics,
        ("year",),
    ),
    "processing": Kind(
        "Records of processing activities",
        "Directive (EU) 2016/680, Article 24, and Regulation (EU) 2016/679, Article 30, from the policy in force.",
        _processing,
        ("controller", "contact", "officer"),
    ),
    "verification": Kind(
        "Six-monthly verification report",
        "What was verified, who read what, what was erased, and what remains to be done, of the last 182 days.",
        _verification,
    ),
}
