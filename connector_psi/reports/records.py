"""Reports for data protection officers and supervisory authorities: yearly statistics, records of processing
activities, the six-monthly verification report.

Decides: what is counted, and which counts are told. Leaves to others: what the policies say (``pack``), whether the log
verifies (``audit``), how a report is shown (``charts``, the command line).

Small counts are protected in a way that can be checked by hand:

1. Every entry is counted in one measure of one line, so no count is the sum of others.
2. A count of a year from 1 to 9 is told as ``<10``. So is a zero that says the same thing about everybody, such as no
   dismissal among 40 reviews, or no case among 40 that was not disclosed. Any other zero stays: that nothing of a kind
   happened, or that none of those who got nothing was refused by a person, says nothing about anybody.
3. Where an outcome is told as ``<10``, the number of cases that it is an outcome of is withheld (``..``): the
   difference to the other outcomes would give it away. So is the number of erasures, for each case is erased once.
   Elements are withheld where queries are ``<10``.
4. Months are told only where no count of the family in any month is small, and no count of its year either. Else they
   are withheld for the whole family.
5. Totals are sums of what is told, and say ``at least`` where something is missing. They are never sums of the data.

So nothing that is told depends on which of its values a suppressed count has, and whoever reads it all can never tell
which one it is. What another authority publishes about the same exchange is not considered: agree on who publishes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Protocol

from connector_psi.audit.entries import Event, Side, encode_time
from connector_psi.errors import InputError
from connector_psi.reports.entry import Entry, in_order, person_key, role_of, write_csv

SMALL = "<10"
WITHHELD = ".."
SMALL_BELOW = 10
MONTHS = 12

Cell = int | str
"""A count, ``SMALL`` or ``WITHHELD``."""


class Measure(StrEnum):
    """What is counted. Every entry is counted in one measure; elements are the size of queries."""

    QUERIES = "queries"
    ELEMENTS = "elements"
    CONFIRMED = "matches confirmed"
    DISMISSED = "matches dismissed"
    REVIEWED_UNKNOWN = "matches reviewed, decision not at hand"
    CASES = "cases opened"
    DISCLOSED = "cases disclosed"
    REFUSED = "cases refused by a person"
    NOT_DISCLOSED = "cases not disclosed"
    OUTCOME_UNKNOWN = "outcomes that are not told apart"
    ACCESS_REQUESTS = "requests for access"
    GRANTED = "access granted"
    ACCESS_REFUSED = "access refused by a person"
    NOT_GRANTED = "access not granted"
    RECALLS_SENT = "recalls sent"
    RECALLS_RECEIVED = "recalls received"
    RECALLS_ACKNOWLEDGED = "recalls acknowledged"
    RECALLS_UNKNOWN = "entries about recalls, not at hand"
    ERASURES = "erasures"
    SUBJECT_REQUESTS = "data-subject requests"
    LOG_READS = "log reads"
    POLICY_CHANGES = "policy changes"
    COLLECTIONS = "registrations"
    ALTERATIONS = "amendments and withdrawals"
    SETS = "sets published"
    OTHER = "other entries"


@dataclass(frozen=True, slots=True)
class _Family:
    """Measures that say different things about the same matter.

    Attributes:
        groups: What became of it; the zero of a group says the same about everybody.
        untold: Where it is not known what became of it.
        whole: The number that all of them add up to, sooner or later.
    """

    groups: tuple[tuple[Measure, ...], ...]
    untold: tuple[Measure, ...] = ()
    whole: tuple[Measure, ...] = ()

    @property
    def grouped(self) -> tuple[Measure, ...]:
        return tuple(measure for group in self.groups for measure in group)

    @property
    def everyone(self) -> tuple[Measure, ...]:
        return (*self.grouped, *self.untold, *self.whole)


_FAMILIES = (
    _Family(((Measure.CONFIRMED,), (Measure.DISMISSED,)), (Measure.REVIEWED_UNKNOWN,)),
    _Family(
        ((Measure.DISCLOSED,), (Measure.REFUSED, Measure.NOT_DISCLOSED)),
        (Measure.OUTCOME_UNKNOWN,),
        (Measure.CASES, Measure.ERASURES),
    ),
    _Family(((Measure.GRANTED,), (Measure.ACCESS_REFUSED, Measure.NOT_GRANTED)), (), (Measure.ACCESS_REQUESTS,)),
    *(
        _Family((), (measure,))
        for measure in (
            Measure.QUERIES,
            Measure.RECALLS_SENT,
            Measure.RECALLS_RECEIVED,
            Measure.RECALLS_ACKNOWLEDGED,
            Measure.RECALLS_UNKNOWN,
            Measure.SUBJECT_REQUESTS,
            Measure.LOG_READS,
            Measure.POLICY_CHANGES,
            Measure.COLLECTIONS,
            Measure.ALTERATIONS,
            Measure.SETS,
            Measure.OTHER,
        )
    ),
)
_ORDER = {measure: place for place, measure in enumerate(Measure)}
_EVENTS: Mapping[Measure, str] = MappingProxyType(
    {
        Measure.QUERIES: Event.CONSULT.value,
        Measure.CONFIRMED: Event.REVIEW.value,
        Measure.DISMISSED: Event.REVIEW.value,
        Measure.REVIEWED_UNKNOWN: Event.REVIEW.value,
        Measure.CASES: Event.CASE_OPEN.value,
        Measure.ACCESS_REQUESTS: Event.CASE_OPEN.value,
        **dict.fromkeys(
            (
                Measure.DISCLOSED,
                Measure.REFUSED,
                Measure.NOT_DISCLOSED,
                Measure.OUTCOME_UNKNOWN,
                Measure.GRANTED,
                Measure.ACCESS_REFUSED,
                Measure.NOT_GRANTED,
            ),
            "CASE_OUTCOME or RECEIPT",
        ),
        **dict.fromkeys(
            (
                Measure.RECALLS_SENT,
                Measure.RECALLS_RECEIVED,
                Measure.RECALLS_ACKNOWLEDGED,
                Measure.RECALLS_UNKNOWN,
            ),
            Event.RECALL.value,
        ),
        Measure.ERASURES: Event.ERASE.value,
        Measure.SUBJECT_REQUESTS: Event.CONSULT.value,
        Measure.LOG_READS: Event.LOG_READ.value,
        Measure.POLICY_CHANGES: Event.POLICY_CHANGE.value,
        Measure.COLLECTIONS: Event.COLLECT.value,
        Measure.ALTERATIONS: Event.ALTER.value,
        Measure.SETS: Event.SET_PUBLISH.value,
        Measure.OTHER: "other",
    }
)


@dataclass(frozen=True, slots=True, order=True)
class Line:
    """What an entry is counted under; empty where the leaf says nothing."""

    agreement: str = ""
    side: str = ""
    purpose: str = ""
    legal_basis: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One measure of one line, as it is told.

    Attributes:
        line: Line.
        measure: Measure.
        year: Its count.
        months: Its counts, January first.
    """

    line: Line
    measure: Measure
    year: Cell
    months: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Total:
    """A sum of what is told.

    Attributes:
        at_least: The sum.
        exact: Whether nothing is missing.
    """

    at_least: int
    exact: bool

    def __str__(self) -> str:
        return str(self.at_least) if self.exact else f"at least {self.at_least}"


@dataclass(frozen=True, slots=True)
class Statistics:
    """Counts of one year.

    Attributes:
        year: Year, UTC.
        rows: Every measure of every line.
        by_agreement: Totals of each measure, by agreement, and so on.
        by_legal_basis: By the basis that was stated.
        by_purpose: By purpose.
        by_event: By event of the log, of all measures but elements.
        by_month: By month, ``01`` to ``12``.
    """

    year: int
    rows: tuple[Row, ...]
    by_agreement: Mapping[str, Mapping[Measure, Total]]
    by_legal_basis: Mapping[str, Mapping[Measure, Total]]
    by_purpose: Mapping[str, Mapping[Measure, Total]]
    by_event: Mapping[str, Total]
    by_month: Mapping[str, Mapping[Measure, Total]]


Counts = Mapping[Line, Mapping[Measure, Sequence[int]]]
"""Twelve counts of each measure of each line; a measure that is missing is zero."""


def statistics(entries: Iterable[Entry], year: int, *, silent: Collection[str] = ()) -> Statistics:
    """Return the counts of a year, with small ones suppressed.

    Args:
        entries: Of one log; those of other years are passed over. Entries whose body is missing are counted as what
            their leaf says.
        year: Year, UTC.
        silent: Agreements whose owner gets no notice. At the owner their outcomes are counted without telling them
            apart, and at the querier covers are not counted: numbers of an authority are read by its people.
    """
    counts: dict[Line, dict[Measure, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0] * MONTHS))
    for entry in entries:
        leaf = entry.leaf
        if leaf.ts.year != year or entry.is_cover:
            continue
        line = Line(
            leaf.agreement or "", leaf.side.value if leaf.side else "", leaf.purpose or "", leaf.legal_basis or ""
        )
        quiet = leaf.side is Side.OWNER and leaf.agreement in silent
        measure = measure_of(entry, quiet=quiet)
        counts[line][measure][leaf.ts.month - 1] += 1
        if measure is Measure.QUERIES:
            counts[line][Measure.ELEMENTS][leaf.ts.month - 1] += leaf.n_padded or 0
    return summarise(year, counts)


def summarise(year: int, counts: Counts) -> Statistics:
    """Return statistics of counts: what is told of them, and totals of what is told."""
    rows = protect(counts)
    months: dict[str, Mapping[Measure, Total]] = {}
    for month in range(MONTHS):
        months[f"{month + 1:02d}"] = _totals((row.measure, row.months[month]) for row in rows)
    return Statistics(
        year=year,
        rows=tuple(rows),
        by_agreement=_grouped(rows, lambda line: line.agreement),
        by_legal_basis=_grouped(rows, lambda line: line.legal_basis),
        by_purpose=_grouped(rows, lambda line: line.purpose),
        by_event={
            event: _total(cells)
            for event in sorted(set(_EVENTS.values()))
            if (cells := [row.year for row in rows if _EVENTS.get(row.measure) == event])
        },
        by_month=months,
    )


def protect(counts: Counts) -> list[Row]:
    """Return what is told of counts, by the rules that the module states."""
    rows = []
    for line, given in sorted(counts.items()):
        months = {measure: tuple(given.get(measure, (0,) * MONTHS)) for measure in Measure}
        for family in _FAMILIES:
            rows += [
                Row(line, measure, year, cells)
                for measure, (year, cells) in _protect_family(family, months).items()
                if _is_told(measure, family, months)
            ]
    return sorted(rows, key=lambda row: (row.line, _ORDER[row.measure]))


def _is_told(measure: Measure, family: _Family, months: Mapping[Measure, tuple[int, ...]]) -> bool:
    """Whether there is anything to say: outcomes are told together, or not at all where none is known."""
    beside = family.grouped if measure in family.grouped else (measure,)
    return any(any(months[other]) for other in beside)


def _protect_family(
    family: _Family, months: Mapping[Measure, tuple[int, ...]]
) -> dict[Measure, tuple[Cell, tuple[Cell, ...]]]:
    years = {measure: sum(months[measure]) for measure in family.everyone}
    told: dict[Measure, Cell] = {
        measure: SMALL if _is_small(measure, family, years) else years[measure] for measure in family.everyone
    }
    if SMALL in (told[measure] for measure in (*family.grouped, *family.untold)):
        told |= {measure: WITHHELD for measure in family.whole if told[measure] != SMALL}
    open_months = not {SMALL, WITHHELD} & set(told.values()) and not any(
        _is_small(measure, family, {other: months[other][month] for other in family.everyone})
        for measure in family.everyone
        for month in range(MONTHS)
    )
    found: dict[Measure, tuple[Cell, tuple[Cell, ...]]] = {
        measure: (told[measure], months[measure] if open_months else (WITHHELD,) * MONTHS)
        for measure in family.everyone
    }
    if Measure.QUERIES in found:
        elements = months[Measure.ELEMENTS]
        few = told[Measure.QUERIES] == SMALL
        found[Measure.ELEMENTS] = (
            WITHHELD if few else sum(elements),
            elements if open_months else (WITHHELD,) * MONTHS,
        )
    return found


def _is_small(measure: Measure, family: _Family, counts: Mapping[Measure, int]) -> bool:
    if counts[measure]:
        return counts[measure] < SMALL_BELOW
    group = next((group for group in family.groups if measure in group), ())
    return not any(counts[other] for other in group) and bool(group) and any(counts[each] for each in family.grouped)


def _grouped(rows: Sequence[Row], key: Callable[[Line], str]) -> Mapping[str, Mapping[Measure, Total]]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[key(row.line)].append(row)
    return {name: _totals((row.measure, row.year) for row in groups[name]) for name in sorted(groups)}


def _totals(cells: Iterable[tuple[Measure, Cell]]) -> Mapping[Measure, Total]:
    found: dict[Measure, list[Cell]] = defaultdict(list)
    for measure, cell in cells:
        found[measure].append(cell)
    return {measure: _total(found[measure]) for measure in Measure if measure in found}


def _total(cells: Sequence[Cell]) -> Total:
    return Total(sum(cell for cell in cells if isinstance(cell, int)), all(isinstance(cell, int) for cell in cells))


def measure_of(entry: Entry, *, quiet: bool = False) -> Measure:
    """Return what an entry is counted as; where it is quiet, outcomes are not told apart."""
    leaf = entry.leaf
    simple = {
        Event.ERASE: Measure.ERASURES,
        Event.LOG_READ: Measure.LOG_READS,
        Event.POLICY_CHANGE: Measure.POLICY_CHANGES,
        Event.COLLECT: Measure.COLLECTIONS,
        Event.ALTER: Measure.ALTERATIONS,
        Event.SET_PUBLISH: Measure.SETS,
    }
    match leaf.event:
        case Event.CONSULT:
            return Measure.SUBJECT_REQUESTS if entry.is_search else Measure.QUERIES
        case Event.REVIEW:
            return {"confirmed": Measure.CONFIRMED, "dismissed": Measure.DISMISSED}.get(
                str(entry.said("decision")), Measure.REVIEWED_UNKNOWN
            )
        case Event.CASE_OPEN:
            return Measure.ACCESS_REQUESTS if entry.is_access_request else Measure.CASES
        case Event.CASE_OUTCOME | Event.RECEIPT:
            return Measure.OUTCOME_UNKNOWN if quiet else _outcome(entry)
        case Event.RECALL:
            return {
                "recall": Measure.RECALLS_SENT,
                "recall received": Measure.RECALLS_RECEIVED,
                "recall acknowledged": Measure.RECALLS_ACKNOWLEDGED,
            }.get(entry.operation, Measure.RECALLS_UNKNOWN)
        case _:
            return simple.get(leaf.event, Measure.OTHER)


def _outcome(entry: Entry) -> Measure:
    said = entry.said("decision") if entry.leaf.event is Event.CASE_OUTCOME else entry.said("outcome")
    refused = bool(entry.said("refusal"))
    match said:
        case "DISCLOSED":
            return Measure.DISCLOSED
        case "NOT_DISCLOSED":
            return Measure.REFUSED if refused else Measure.NOT_DISCLOSED
        case "granted":
            return Measure.GRANTED
        case "not_granted":
            return Measure.ACCESS_REFUSED if refused else Measure.NOT_GRANTED
        case _:
            return Measure.OUTCOME_UNKNOWN


# Records of processing activities


class Regime(StrEnum):
    """Which law asks for the records."""

    LED = "Directive (EU) 2016/680, Article 24"
    GDPR = "Regulation (EU) 2016/679, Article 30"
    EUDPR = "Regulation (EU) 2018/1725, Article 31"
    EUDPR_OPERATIONAL = "Regulation (EU) 2018/1725, Article 95"


class SheetLike(Protocol):
    """An agreement in words, or a purpose of the own node; ``pack.matrix.Sheet`` is one."""

    @property
    def code(self) -> str:
        """Code of the agreement."""

    @property
    def purpose(self) -> str:
        """In words."""

    @property
    def learner(self) -> str:
        """Who learns."""

    @property
    def source(self) -> str:
        """From whom."""

    @property
    def facts(self) -> tuple[tuple[str, str], ...]:
        """What there is to know, as label and text."""

    @property
    def fields(self) -> tuple[tuple[str, str], ...]:
        """Condition and the fields under it."""

    @property
    def own_node(self) -> bool:
        """Whether nobody is on the other side."""


@dataclass(frozen=True, slots=True)
class Controller:
    """Who is responsible; everything as it is to stand in the record.

    Attributes:
        name: Of the controller.
        contact: How to reach it.
        regime: The law that it keeps records under.
        officer: Its data protection officer, and how to reach them.
        joint: Joint controllers, if there are any.
    """

    name: str
    contact: str
    regime: Regime
    officer: str = ""
    joint: tuple[str, ...] = ()


SECURITY = (
    "Identifiers are compared blinded: neither side sees those of the other that it does not hold itself.",
    "Queries are padded, so that their size says little about what was asked.",
    "Connections are encrypted and both ends show a certificate; people act with certificates of their own.",
    "Stored data and bodies of the log are encrypted; values are searched by keyed hashes.",
    "What was matched is confirmed by people, and disclosed only as far as the agreement names it.",
    "Everything is logged before it is done; the log is a signed hash tree that can be verified without its data.",
    "Policies come into force with the signatures of two people; roles are kept apart.",
)
"""Technical and organisational measures of the node; the authority adds its own."""

TRANSFERS = "none: there is no role for a third country or an international organisation"
PROFILING = "none: equal identifiers are found, nobody is assessed, and people decide"


@dataclass(frozen=True, slots=True)
class ProcessingRecord:
    """One record of processing activities.

    Attributes:
        law: What asks for it.
        code: Agreement, or purpose of the own node.
        controller: Name and contact, and joint controllers.
        officer: Data protection officer.
        purpose: In words.
        recipients: Categories of recipients.
        data_subjects: Categories of data subjects, by what the records are about.
        data: Categories of personal data.
        legal_basis: In words.
        transfers: To third countries and international organisations.
        profiling: Use of profiling.
        retention: Time limits for erasure.
        security: Measures in words.
        used: Since when and until when entries of the log show it, empty if none does.
    """

    law: str
    code: str
    controller: str
    officer: str
    purpose: str
    recipients: str
    data_subjects: str
    data: str
    legal_basis: str
    transfers: str
    profiling: str
    retention: str
    security: tuple[str, ...]
    used: str


def processing_records(
    sheets: Iterable[SheetLike],
    entries: Iterable[Entry],
    controller: Controller,
    *,
    security: Sequence[str] = SECURITY,
    own: Mapping[str, str] = MappingProxyType({}),
) -> list[ProcessingRecord]:
    """Return one record for each agreement and each purpose of the own node, in the order of the sheets.

    Args:
        sheets: Of the policy that is in force.
        entries: Of the log, which shows what is used; a record names days and no numbers.
        controller: Who is responsible.
        security: Measures in words.
        own: Codes of purposes of the own node, by the purpose that leaves name.
    """
    days: dict[str, list[datetime]] = defaultdict(list)
    for entry in entries:
        code = entry.leaf.agreement or own.get(entry.leaf.purpose or "")
        # An agreement that came into force is not used by that.
        if isinstance(code, str) and entry.leaf.event is not Event.POLICY_CHANGE:
            days[code.partition(":")[0]].append(entry.leaf.ts)
    return [_record(sheet, days.get(sheet.code, []), controller, tuple(security)) for sheet in sheets]


def _record(
    sheet: SheetLike, days: Sequence[datetime], controller: Controller, security: tuple[str, ...]
) -> ProcessingRecord:
    facts = dict(sheet.facts)
    joint = f"; joint controllers: {', '.join(controller.joint)}" if controller.joint else ""
    if sheet.own_node:
        recipients = f"{sheet.learner} of the own authority; the data subject or the supervisory authority that asks"
        about = "people whom records of the own node name, and people who work with it"
        data = "what the node holds about an identifier; entries of the log"
    else:
        recipients = f"{sheet.learner}, from {sheet.source}"
        about = f"people whom these concern or name: {facts.get('About', '')}; {facts.get('Asked with', '')}"
        disclosed = "; ".join(f"{condition}: {names}" for condition, names in sheet.fields) or "nothing is disclosed"
        data = f"identifiers that are compared: {facts.get('Matched by', '')}. Disclosed: {disclosed}"
    return ProcessingRecord(
        law=controller.regime.value,
        code=sheet.code,
        controller=", ".join(filter(None, (controller.name, controller.contact))) + joint,
        officer=controller.officer,
        purpose=sheet.purpose,
        recipients=recipients,
        data_subjects=about,
        data=data,
        legal_basis=facts.get("Legal basis", ""),
        transfers=TRANSFERS,
        profiling=PROFILING,
        retention=facts.get("Kept", ""),
        security=security,
        used=f"{min(days):%Y-%m-%d} to {max(days):%Y-%m-%d}" if days else "",
    )


# The verification report

ERASURE_GRACE = timedelta(days=1)
"""After ``erase_after``, within which a body is erased on time."""


@dataclass(frozen=True, slots=True)
class Bodies:
    """Bodies that fell due in the period.

    Attributes:
        due: How many.
        on_time: Erased within a day.
        late: Erased after it, or still there after it.
        waiting: Still there, and within it.
        held: Not erased because of a hold.
        known: Whether it was known when bodies were erased; else only ``due`` and ``held`` say something.
    """

    due: int
    on_time: int
    late: int
    waiting: int
    held: int
    known: bool


@dataclass(frozen=True, slots=True)
class VerificationReport:
    """What was verified in a period, and what remains to be done.

    Attributes:
        start: From when.
        end: Until when, not included.
        origin: Name of the log.
        size: Entries that were rehashed.
        root: Their root, in base64.
        verified: Whether nothing was wrong.
        failures: Where something was.
        entries: Entries of the period by event.
        checkpoints: Checkpoints and notes of witnesses, as the caller gave them.
        bodies: Bodies that fell due.
        holds: Entries of the period that a hold keeps, and entries about holds.
        log_reads: How often people read bodies of the log, by role.
        bodies_read: How many bodies they opened, by role.
        policy_changes: Policies and agreements that came into force, changed or ended, in order.
        audits: Audits of own queries: day, role, number of queries.
        open_items: What remains to be done, in sentences.
    """

    start: datetime
    end: datetime
    origin: str
    size: int
    root: str
    verified: bool
    failures: tuple[str, ...]
    entries: Mapping[str, int]
    checkpoints: tuple[Mapping[str, str | int], ...]
    bodies: Bodies
    holds: int
    log_reads: Mapping[str, int]
    bodies_read: Mapping[str, int]
    policy_changes: tuple[str, ...]
    audits: tuple[str, ...]
    open_items: tuple[str, ...] = field(default=())


def verification_report(
    verify_report_json: Mapping[str, Any],
    entries: Iterable[Entry],
    start: datetime,
    end: datetime,
    *,
    checkpoints: Sequence[Mapping[str, str | int]] = (),
    erased: Mapping[int, datetime] | None = None,
    open_items: Sequence[str] = (),
) -> VerificationReport:
    """Return the report of a period.

    Args:
        verify_report_json: What ``log verify --json`` printed.
        entries: Of the whole log; what was done is counted in the period, what falls due by its ``erase_after``.
        start: From when; aware.
        end: Until when, not included.
        checkpoints: Checkpoints that somebody else kept or signed, one mapping each, such as ``{"size": 40, "witness":
            "..."}``. They are repeated as they are.
        erased: When the body of an entry was erased; an entry that is not named has its body. None where that is not
            known.
        open_items: Further ones that the caller knows of.

    Raises:
        InputError: The period is empty or its ends are not aware, or the first argument is no such report.
    """
    if start.tzinfo is None or end.tzinfo is None or start >= end:
        raise InputError("period: two aware times, the first before the second")
    if not isinstance(verify_report_json.get("verified"), bool):
        raise InputError("verification: not what log verify prints")
    log = in_order(entries)
    period = [entry for entry in log if start <= entry.leaf.ts < end]
    reads = [entry for entry in period if entry.leaf.event is Event.LOG_READ]
    read_by = Counter(role_of(entry.person()) for entry in reads)
    opened_by: Counter[str] = Counter()
    for entry in reads:
        opened_by[role_of(entry.person())] += _count(entry)
    bodies = _bodies(log, start, end, erased)
    failures = tuple(map(str, verify_report_json.get("failures", ())))
    size = int(verify_report_json.get("size", 0))
    audits = _audits(reads)
    items = [
        *_open_items(verified=verify_report_json["verified"], failures=failures, log=log, size=size, end=end),
        *([] if checkpoints else ["No checkpoint that somebody else kept or signed was given."]),
        *([] if bodies.known else ["When bodies were erased was not known; erasure was not checked."]),
        *([f"Bodies whose retention is over and which were not erased on time: {bodies.late}."] if bodies.late else []),
        *([] if audits else ["No own queries were audited in the period."]),
        *open_items,
    ]
    return VerificationReport(
        start=start,
        end=end,
        origin=str(verify_report_json.get("origin", "")),
        size=size,
        root=str(verify_report_json.get("root", "")),
        verified=verify_report_json["verified"],
        failures=failures,
        entries=dict(sorted(Counter(entry.leaf.event.value for entry in period).items())),
        checkpoints=tuple(dict(each) for each in checkpoints),
        bodies=bodies,
        holds=sum(1 for entry in period if entry.leaf.hold or entry.leaf.event is Event.HOLD),
        log_reads=dict(sorted(read_by.items())),
        bodies_read=dict(sorted(opened_by.items())),
        policy_changes=tuple(_change(entry) for entry in period if entry.leaf.event is Event.POLICY_CHANGE),
        audits=audits,
        open_items=tuple(items),
    )


def _open_items(
    *, verified: bool, failures: Sequence[str], log: Sequence[Entry], size: int, end: datetime
) -> list[str]:
    items = []
    if not verified:
        items.append(f"The log did not verify: {len(failures)} failures are listed.")
    beyond = sum(1 for entry in log if entry.index >= size and entry.leaf.ts < end)
    if beyond:
        items.append(f"Entries that the verification did not cover: {beyond}.")
    waiting = _unacknowledged([entry for entry in log if entry.leaf.ts < end])
    if waiting:
        items.append(f"Recalls that came in and were not acknowledged: {waiting}.")
    unknown = sum(1 for entry in log if entry.leaf.event is Event.LOG_READ and entry.body is None)
    if unknown:
        items.append(f"Entries about reading the log whose bodies were not at hand: {unknown}.")
    return items


def _unacknowledged(log: Sequence[Entry]) -> int:
    here = [entry for entry in log if entry.leaf.event is Event.RECALL and entry.leaf.side is Side.QUERIER]
    came = {entry.leaf.request_id for entry in here if entry.operation == "recall received" and not entry.is_cover}
    return len(came - {entry.leaf.request_id for entry in here if entry.operation == "recall acknowledged"})


def _bodies(log: Sequence[Entry], start: datetime, end: datetime, erased: Mapping[int, datetime] | None) -> Bodies:
    due = [entry for entry in log if start <= entry.leaf.erase_after < end]
    holds = _holds(log)
    found: Counter[str] = Counter()
    for entry in due:
        latest = entry.leaf.erase_after + ERASURE_GRACE
        held_until = max((until for covers, until in holds if _covers(covers, entry)), default=latest)
        gone = None if erased is None else erased.get(entry.index)
        if gone is None and held_until > min(latest, end):
            found["held"] += 1
        elif erased is not None:
            latest = max(latest, held_until + ERASURE_GRACE) if held_until > latest else latest
            if gone is None:
                found["waiting" if end <= latest else "late"] += 1
            else:
                found["on_time" if gone <= latest else "late"] += 1
    return Bodies(len(due), found["on_time"], found["late"], found["waiting"], found["held"], known=erased is not None)


def _holds(log: Sequence[Entry]) -> list[tuple[str, datetime]]:
    """What each hold covers, and until when it did, as the entries about it say."""
    found: dict[str, tuple[str, datetime]] = {}
    for entry in log:
        covers, until, hold = entry.said("covers"), entry.said("until"), entry.leaf.hold
        if entry.leaf.event is not Event.HOLD or not isinstance(covers, str) or not isinstance(until, str) or not hold:
            continue
        ended = entry.operation in {"hold released", "hold lapsed"}
        found[hold] = covers, entry.leaf.ts if ended else datetime.fromisoformat(until)
    return list(found.values())


def _covers(covers: str, entry: Entry) -> bool:
    kind, _, which = covers.partition(" ")
    leaf = entry.leaf
    if kind == "request":
        return which in {about.hex() for about in (leaf.request_id, leaf.parent_id) if about}
    return kind == "all" or which in {leaf.agreement, (leaf.agreement or "").partition(":")[0]}


def _audits(reads: Sequence[Entry]) -> tuple[str, ...]:
    # One audit opens bodies in several calls.
    audits: dict[tuple[str, str, str], list[Entry]] = defaultdict(list)
    for entry in reads:
        if entry.operation == "audit_sample":
            key = (f"{entry.leaf.ts:%Y-%m-%d}", person_key(entry.person()), str(entry.said("reason")))
            audits[key].append(entry)
    return tuple(
        f"{day}: {role_of(calls[0].person())}, {sum(map(_count, calls))} bodies"
        for (day, _, _), calls in sorted(audits.items())
    )


def _count(entry: Entry) -> int:
    count = entry.said("count")
    return count if isinstance(count, int) else 0


def _change(entry: Entry) -> str:
    action = str(entry.said("action") or "changed")
    what = entry.leaf.agreement or "the policy as a whole"
    return f"{encode_time(entry.leaf.ts)}: {what}, {action.replace('_', ' ')} (entry {entry.index})"


# As spreadsheets


def encode_csv(report: Statistics | VerificationReport | Sequence[ProcessingRecord]) -> str:
    """Return a report as CSV (RFC 4180) with a header, safe to open in a spreadsheet."""
    if isinstance(report, Statistics):
        return _statistics_csv(report)
    if isinstance(report, VerificationReport):
        return write_csv(("what", "which", "value"), _verification_rows(report))
    names = tuple(ProcessingRecord.__dataclass_fields__)
    return write_csv(
        [name.replace("_", " ") for name in names],
        (
            [" ".join(value) if isinstance(value, tuple) else value for value in (getattr(each, n) for n in names)]
            for each in report
        ),
    )


def _statistics_csv(report: Statistics) -> str:
    months = [f"{report.year}-{month + 1:02d}" for month in range(MONTHS)]
    return write_csv(
        ("agreement", "side", "purpose", "legal basis", "event", "measure", str(report.year), *months),
        (
            (
                row.line.agreement,
                row.line.side,
                row.line.purpose,
                row.line.legal_basis,
                _EVENTS.get(row.measure, ""),
                row.measure.value,
                row.year,
                *row.months,
            )
            for row in report.rows
        ),
    )


def _verification_rows(report: VerificationReport) -> Iterable[tuple[object, ...]]:
    yield "period", "start", encode_time(report.start.astimezone(UTC).replace(microsecond=0))
    yield "period", "end", encode_time(report.end.astimezone(UTC).replace(microsecond=0))
    yield "log", "origin", report.origin
    yield "log", "size", report.size
    yield "log", "root", report.root
    yield "log", "verified", "yes" if report.verified else "no"
    for failure in report.failures:
        yield "log", "failure", failure
    for event, number in report.entries.items():
        yield "entries", event, number
    for checkpoint in report.checkpoints:
        yield "checkpoint", "", "; ".join(f"{name}: {value}" for name, value in checkpoint.items())
    known = report.bodies.known
    yield "bodies", "due", report.bodies.due
    for name in ("on_time", "late", "waiting"):
        yield "bodies", name.replace("_", " "), getattr(report.bodies, name) if known else "not known"
    yield "bodies", "held", report.bodies.held
    yield "holds", "", report.holds
    for role, number in report.log_reads.items():
        yield "log reads", role, number
    for role, number in report.bodies_read.items():
        yield "bodies read", role, number
    for change in report.policy_changes:
        yield "policy change", "", change
    for audit in report.audits:
        yield "audit of own queries", "", audit
    for item in report.open_items:
        yield "open item", "", item
