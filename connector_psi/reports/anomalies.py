"""What in the log a person should look at: patterns that are rare where people work as they should.

Decides: which patterns, and from where on each counts. Leaves to others: what becomes of a finding. A finding is never
a decision about anybody: it names the figures that it rests on and what to look at, and there may be a good reason for
every one of them. No text repeats an identifier or a reference of a record.

Pure functions over entries. Where bodies are missing less is seen, and nothing is found that rests on a guess.
"""

from __future__ import annotations

import math
import re
import statistics
import struct
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from enum import StrEnum

from connector_psi.audit.entries import Event, Side
from connector_psi.reports.entry import Entry, in_order, person_key, texts, write_csv

MIN_RUN = 5
"""Numbers in sequence. Four turn up where one consignor ships four boxes under four declarations; trying out numbers
goes on for longer."""
MIN_DIGITS = 3
"""Of a number that can run on. Below, sequences are as common as the numbers themselves."""
CHANCE = 1e-6
"""Expected runs of that length by chance alone, from which on a run says nothing. A large fleet fills so much of its
range that numbers in sequence come up every day; one in a million batches is not chance."""
RANGE_DIGITS = 6
"""Digits within which numbers of one prefix are taken to be spread: the serial number of a container has six."""
IN_SEQUENCE = frozenset({"mrn", "transport_document", "seal", "postal_item", "banknote", "component", "item"})
"""Types that one issuer hands out in sequence, so that the declarations of a day hold sequences. They count only where
a person asks, not where a system asks about whatever was declared."""
SHORT_FORMS = {"plate_number": "plate", "vin_last8": "vin"}
"""Types that are formed from another one: a run of both is told once."""

MADS = 6
"""Median absolute deviations above the median. Six are about four standard deviations of a normal distribution. In 35
years of twelve officers that ``clean_year`` of the tests makes up, two days are found that are only a backlog."""
MAD_OF_NORMAL = 0.6745
"""Median absolute deviation of a normal distribution, in standard deviations."""
MIN_EVENTS = 10
"""A day, below which no number of events is unusual, however quiet the others are."""
MIN_SUPPORT = 20
"""Days of people, or actions, from which on a habit can be told."""
REPEATS = 5
"""Different days on which one person came back to one record. A case takes a person back to it two or three times."""

CONFIDENCE = 0.999
"""Of the intervals. A year has some hundred comparisons; at 99.9 %, and with both intervals apart, hardly any of them
is found by chance."""
MIN_REVIEWED = 30
"""Matches or records on either side of a comparison, below which an interval spans nearly everything."""
MIN_DIFFERENCE = 0.15
"""Of two shares. People differ in what comes to their desk; with large numbers any difference is significant, and
fifteen points are one that matters."""
MIN_FACTOR = 3.0
"""Between two rates of matches, for shares so small that their difference says nothing."""
REVIEW_DAYS = 7
"""For a match to be looked at. Records asked about later than that before the end of the log are not counted yet."""

FOLLOW_DAYS = 14
"""Within which a confirmed match becomes a case, and a recall is acknowledged: the case window of the agreements."""

USUAL_SHARE = 0.05
"""Share of actions outside office hours from which on they are a habit: one in twenty is an evening shift a month."""


class Kind(StrEnum):
    """Patterns that are looked for."""

    SEQUENTIAL_IDENTIFIERS = "sequential_identifiers"
    UNUSUAL_LOOKUPS = "unusual_lookups"
    HIT_RATE = "hit_rate"
    UNFOLLOWED_MATCHES = "unfollowed_matches"
    OUTSIDE_OFFICE_PATTERN = "outside_office_pattern"


class Severity(StrEnum):
    """How soon a person should look; says nothing about what they will see."""

    INFO = "info"
    NOTICE = "notice"
    WARNING = "warning"


Figure = float | int | str


@dataclass(frozen=True, slots=True)
class Anomaly:
    """Something to look at.

    Attributes:
        kind: Which pattern.
        severity: How soon.
        entries: Places in the log that it rests on, ascending.
        who: URI of the person or system, or the pseudonym in hexadecimal; empty where nobody is named.
        explanation: In sentences, with what to look at.
        measured: The figures found.
        expected: What they were compared with.
    """

    kind: Kind
    severity: Severity
    entries: tuple[int, ...]
    who: str
    explanation: str
    measured: Mapping[str, Figure] = field(default_factory=dict)
    expected: Mapping[str, Figure] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OfficeHours:
    """When people work, by the clock on their wall.

    Attributes:
        zone: Their time zone, such as ``zoneinfo.ZoneInfo("Europe/Brussels")``.
        start: First hour of the day.
        end: Hour at which the day is over.
        weekdays: Monday is 0.
    """

    zone: tzinfo = UTC
    start: int = 6
    end: int = 22
    weekdays: frozenset[int] = frozenset(range(5))

    def inside(self, when: datetime) -> bool:
        """Return whether people are at work."""
        local = when.astimezone(self.zone)
        return local.weekday() in self.weekdays and self.start <= local.hour < self.end

    def day(self, when: datetime) -> date:
        """Return the day on their calendar."""
        return when.astimezone(self.zone).date()

    def shift(self, when: datetime) -> date:
        """Return the day on which a night began, so that one night is one."""
        local = when.astimezone(self.zone)
        return local.date() - timedelta(days=1 if local.hour < self.start else 0)


def find(
    entries: Iterable[Entry],
    *,
    office_hours: OfficeHours | None = None,
    min_support: int = MIN_SUPPORT,
    follow_days: int = FOLLOW_DAYS,
    silent: Collection[str] = (),
) -> list[Anomaly]:
    """Return everything to look at, by kind and place; the same for the same entries, in whatever order they come.

    Args:
        entries: Of one log. More of the past makes for better comparisons; bodies that are missing are passed over.
        office_hours: When people work; 6 to 22, Monday to Friday, UTC by default.
        min_support: Days of people, or actions, from which on a habit can be told.
        follow_days: Days within which a confirmed match becomes a case and a recall is acknowledged.
        silent: Agreements whose owner gets no notice. At the owner their entries are left out: covers fill every slot,
            so numbers say nothing, and a finding would tell people there of what they must not learn.

    Cost: one pass per kind. Holds a reference of each record that was asked about, and the identifiers of one day.
    """
    hours = office_hours or OfficeHours()
    log = [each for each in in_order(entries) if each.leaf.side is not Side.OWNER or each.leaf.agreement not in silent]
    found = [
        *_sequential(log, hours),
        *_unusual(log, hours, min_support),
        *_repeated(log, hours),
        *_confirmed_shares(log),
        *_match_rates(log),
        *_unfollowed(log, timedelta(days=follow_days)),
        *_outside_office(log, hours, min_support),
    ]
    order = list(Kind)
    return sorted(found, key=lambda each: (order.index(each.kind), each.entries, each.who, each.explanation))


def encode_csv(anomalies: Iterable[Anomaly]) -> str:
    """Return findings as CSV (RFC 4180) with a header."""
    return write_csv(
        ("kind", "severity", "who", "entries", "explanation", "measured", "expected"),
        (
            (
                each.kind.value,
                each.severity.value,
                each.who,
                " ".join(map(str, each.entries)),
                each.explanation,
                _figures(each.measured),
                _figures(each.expected),
            )
            for each in anomalies
        ),
    )


def _figures(figures: Mapping[str, Figure]) -> str:
    return "; ".join(f"{name}: {value}" for name, value in figures.items())


# Identifiers that run on

_TOKEN = b"connector-psi/v1 token"
_CONTAINER = re.compile(r"([A-Z]{4})([0-9]{6})[0-9]")
_NUMBER = re.compile(r"(.*?)([0-9]+)([^0-9]*)", re.DOTALL)
_CHECK_LAST = frozenset({"imo", "eni", "imei"})
_CHECK_INSIDE = {"vin": slice(8, 9), "iban": slice(2, 4), "lei": slice(18, 20)}
_NO_NUMBERS = frozenset({"email", "website"})


def read_token(token: bytes) -> tuple[str, str] | None:
    """Return type and value of the identifier in a token, None where it has another form.

    The form is that of ``docs/protocol.md``: a label, then version, type and value, each with its length before it.
    """
    if not token.startswith(_TOKEN):
        return None
    rest, parts = token[len(_TOKEN) :], []
    while rest:
        if len(rest) < 2:
            return None
        (size,) = struct.unpack(">H", rest[:2])
        if len(rest) < 2 + size:
            return None
        parts.append(rest[2 : 2 + size])
        rest = rest[2 + size :]
    try:
        _, kind, value = (part.decode() for part in parts)
    except (UnicodeDecodeError, ValueError):
        return None
    return kind, value


def split_number(kind: str, value: str) -> tuple[tuple[str, str], int, int] | None:
    """Return an identifier as what stays, the number that runs on, and its digits; None where it holds no number.

    Check digits are left out: they follow from the rest, and would hide that numbers run on.
    """
    if kind in _NO_NUMBERS:
        return None
    if kind == "container" and (box := _CONTAINER.fullmatch(value)):
        return (box[1], ""), int(box[2]), 6
    if kind in _CHECK_INSIDE:
        place = _CHECK_INSIDE[kind]
        value = value[: place.start] + "*" * (place.stop - place.start) + value[place.stop :]
    if kind in _CHECK_LAST and value[-1:].isdigit():
        value = value[:-1]
    number = _NUMBER.fullmatch(value)
    if number is None or len(number[2]) < MIN_DIGITS:
        return None
    return (number[1], number[3]), int(number[2]), len(number[2])


@dataclass(slots=True)
class _Asked:
    """Where one number was asked with."""

    digits: int
    entries: set[int] = field(default_factory=set)
    messages: set[str] = field(default_factory=set)


def _sequential(log: Sequence[Entry], hours: OfficeHours) -> Iterator[Anomaly]:
    days: dict[tuple[date, str], list[Entry]] = defaultdict(list)
    for entry in log:
        if entry.is_own_query and entry.said("tokens"):
            days[hours.day(entry.leaf.ts), str(entry.said("actor") or "")].append(entry)
    for (_, actor), batches in sorted(days.items()):
        yield from _sequential_of(actor, batches)


def _sequential_of(actor: str, batches: Sequence[Entry]) -> Iterator[Anomaly]:
    by_prefix: dict[tuple[str, tuple[str, str]], dict[int, _Asked]] = defaultdict(dict)
    person = ":person:" in actor
    for entry in batches:
        messages = _messages(entry)
        for position, raw in enumerate(texts(entry.said("tokens"))):
            read = _token(raw)
            if read is None or (not person and read[0] in IN_SEQUENCE):
                continue
            split = split_number(*read)
            if split is not None:
                prefix, number, digits = split
                asked = by_prefix[read[0], prefix].setdefault(number, _Asked(digits))
                asked.entries.add(entry.index)
                asked.messages |= messages.get(position, set())
    told: set[tuple[str, int]] = set()
    for (kind, _), numbers in sorted(by_prefix.items()):
        for run in _runs(sorted(numbers)):
            separate = _separate([numbers[number] for number in run])
            chance = _chance(run, numbers, separate)
            if separate < MIN_RUN or chance >= CHANCE or (SHORT_FORMS.get(kind), len(run)) in told:
                continue
            told.add((kind, len(run)))
            places = tuple(sorted(set().union(*(numbers[number].entries for number in run))))
            who = "A person" if person else "The system"
            yield Anomaly(
                Kind.SEQUENTIAL_IDENTIFIERS,
                Severity.WARNING if person else Severity.NOTICE,
                places,
                actor,
                f"{who} asked on one day with {len(run)} identifiers of type {kind} whose numbers follow one another, "
                f"check digits disregarded. {separate} of them come from different declarations or messages; by "
                f"chance {chance:.1e} such runs are expected. Identifiers that are tried out look like this, and so "
                "do things that one sender numbers and declares one by one. Look at the messages behind these "
                "queries: does each of them exist, and did it come from outside?",
                {"type": kind, "run": len(run), "separate": separate, "queries": len(places)},
                {"run_below": MIN_RUN, "by_chance": chance},
            )


def _token(raw: str) -> tuple[str, str] | None:
    try:
        return read_token(bytes.fromhex(raw))
    except ValueError:
        return None


def _messages(entry: Entry) -> Mapping[int, set[str]]:
    """Which messages hold the token at a position."""
    found: dict[int, set[str]] = defaultdict(set)
    held = entry.said("held")
    for digest, positions in zip(texts(entry.said("digests")), held if isinstance(held, list) else [], strict=False):
        for position in positions if isinstance(positions, list) else ():
            found[position].add(digest)
    return found


def _runs(numbers: Sequence[int]) -> Iterator[list[int]]:
    run: list[int] = []
    for number in numbers:
        if run and number != run[-1] + 1:
            if len(run) >= MIN_RUN:
                yield run
            run = []
        run.append(number)
    if len(run) >= MIN_RUN:
        yield run


def _separate(run: Sequence[_Asked]) -> int:
    """How many numbers of a run no message holds together with an earlier one of it."""
    seen: set[str] = set()
    separate = 0
    for asked in run:
        separate += not (asked.messages & seen)
        seen |= asked.messages
    return separate


def _chance(run: Sequence[int], numbers: Mapping[int, _Asked], separate: int) -> float:
    """Expected runs of that length, were the numbers of the same range spread evenly over it."""
    width = 10 ** min(numbers[run[0]].digits, RANGE_DIGITS)
    inside = sum(1 for number in numbers if number // width == run[0] // width)
    return float(inside * (inside / width) ** max(separate - 1, 0))


# More than usual, and again and again


def _acts(entry: Entry) -> Iterator[tuple[str, str, int]]:
    """What an entry counts as: which activity, of whom, how much."""
    leaf, uri = entry.leaf, entry.person()
    pseudonym = leaf.actor_commitment.hex() if leaf.actor_commitment else ""
    if leaf.event is Event.REVIEW and (uri or pseudonym):
        yield "matches reviewed", uri or pseudonym, 1
    elif leaf.event is Event.CASE_OPEN and leaf.side is Side.QUERIER and uri:
        yield "requests for access" if entry.is_access_request else "cases opened", uri, 1
    elif leaf.event is Event.CASE_OPEN and leaf.side is Side.OWNER and pseudonym:
        yield "cases that one person of the other authority opened here", pseudonym, 1
    elif entry.is_search and uri:
        yield "searches for data subjects", uri, 1
    elif entry.is_own_query and uri:
        yield "queries", uri, 1
    elif leaf.event is Event.LOG_READ and uri:
        count = entry.said("count")
        yield "bodies of the log opened", uri, count if isinstance(count, int) and count > 0 else 1


def _unusual(log: Sequence[Entry], hours: OfficeHours, min_support: int) -> Iterator[Anomaly]:
    days: dict[str, dict[tuple[date, str], list[tuple[Entry, str, int]]]] = defaultdict(lambda: defaultdict(list))
    for entry in log:
        for what, who, number in _acts(entry):
            days[what][hours.shift(entry.leaf.ts), person_key(who)].append((entry, who, number))
    for what, cells in sorted(days.items()):
        if len(cells) < min_support:
            continue
        totals = {cell: sum(number for _, _, number in acts) for cell, acts in cells.items()}
        median = statistics.median(totals.values())
        spread = statistics.median(abs(total - median) for total in totals.values())
        # Where nearly all days are equal the deviation is nothing, and one more would be out of the ordinary. What
        # comes in by chance, as in a Poisson distribution, deviates by this much.
        limit = round(median + MADS * max(spread, 1.0, MAD_OF_NORMAL * math.sqrt(median)), 1)
        for cell, total in sorted(totals.items()):
            if total < MIN_EVENTS or total <= limit:
                continue
            yield Anomaly(
                Kind.UNUSUAL_LOOKUPS,
                # Twice what is far already is not a busy day.
                Severity.WARNING if total > 2 * limit else Severity.NOTICE,
                tuple(sorted({entry.index for entry, _, _ in cells[cell]})),
                cells[cell][0][1],
                f"On {cell[0].isoformat()} one person had {total} {what}. Over {len(cells)} days of people the middle "
                f"is {median:g} a day, and {limit:g} is far from it. A backlog, a large seizure or an audit explain "
                "such a day, and so does somebody who looks for what is not theirs. Look at the reasons that were "
                "given, and ask who ordered the work.",
                {"events": total, "activity": what, "day": cell[0].isoformat()},
                {"median": median, "deviation": spread, "at_most": limit, "support": len(cells)},
            )


def _subjects(entry: Entry) -> Iterator[tuple[str, str]]:
    """Records and identifiers that a person looked at, under names that are only compared."""
    leaf = entry.leaf
    record = entry.said("record")
    if leaf.event in {Event.REVIEW, Event.CASE_OPEN} and isinstance(record, str) and record:
        yield "record", record
    if entry.is_access_request:
        for name in texts(entry.said("records")):
            yield "record", name.partition("/")[2] or name
    elif entry.is_search:
        for digest in texts(entry.said("identifiers")):
            yield "identifier", digest


def _repeated(log: Sequence[Entry], hours: OfficeHours) -> Iterator[Anomaly]:
    # Queries under a grant are sent by the clock for as long as it runs, so the request is what the person did.
    visits: dict[tuple[str, str, str], list[tuple[Entry, str]]] = defaultdict(list)
    for entry in log:
        if uri := entry.person():
            for what, name in _subjects(entry):
                visits[person_key(uri), what, name].append((entry, uri))
    for (_, what, _), acts in sorted(visits.items()):
        days = {hours.day(entry.leaf.ts) for entry, _ in acts}
        if len(days) < REPEATS:
            continue
        yield Anomaly(
            Kind.UNUSUAL_LOOKUPS,
            Severity.NOTICE,
            tuple(sorted({entry.index for entry, _ in acts})),
            acts[0][1],
            f"One person came back to the same {what} on {len(days)} different days between {min(days).isoformat()} "
            f"and {max(days).isoformat()}. A case that goes on explains it, and so does an interest of one's own. Look "
            "at whether one case stands behind all of them, and whether this person works on it.",
            {"days": len(days), "entries": len(acts), "what": what},
            {"days_below": REPEATS},
        )


# Shares that are out of line


def wilson(successes: int, trials: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the Wilson score interval of a share; everything from 0 to 1 where there was no trial.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927).
    """
    if trials == 0:
        return 0.0, 1.0
    z = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
    share, scale = successes / trials, 1 + z * z / trials
    middle = (share + z * z / (2 * trials)) / scale
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials)) / scale
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(slots=True)
class _Share:
    """Successes among trials, and where they stand."""

    successes: int = 0
    trials: int = 0
    entries: list[int] = field(default_factory=list)
    who: str = ""

    def add(self, index: int, *, success: bool) -> None:
        self.successes += success
        self.trials += 1
        self.entries.append(index)

    @property
    def share(self) -> float:
        return self.successes / self.trials if self.trials else 0.0


def _apart(one: _Share, other: _Share) -> tuple[tuple[float, float], tuple[float, float]] | None:
    if min(one.trials, other.trials) < MIN_REVIEWED:
        return None
    here, there = wilson(one.successes, one.trials), wilson(other.successes, other.trials)
    return (here, there) if here[0] > there[1] or there[0] > here[1] else None


def _rest(shares: Iterable[_Share]) -> _Share:
    rest = _Share()
    for share in shares:
        rest.successes += share.successes
        rest.trials += share.trials
    return rest


def _confirmed_shares(log: Sequence[Entry]) -> Iterator[Anomaly]:
    people: dict[str, dict[str, _Share]] = defaultdict(dict)
    months: dict[str, dict[str, _Share]] = defaultdict(dict)
    for entry in log:
        if entry.leaf.event is not Event.REVIEW or entry.said("decision") not in {"confirmed", "dismissed"}:
            continue
        code, confirmed = entry.leaf.agreement or "", entry.said("decision") == "confirmed"
        if uri := entry.person():
            people[code].setdefault(person_key(uri), _Share(who=uri)).add(entry.index, success=confirmed)
        months[code].setdefault(f"{entry.leaf.ts:%Y-%m}", _Share()).add(entry.index, success=confirmed)
    yield from _compare(people, months, "matches", "were confirmed among", "confirmed share", MIN_DIFFERENCE, 1.0)


def _match_rates(log: Sequence[Entry]) -> Iterator[Anomaly]:
    if not log:
        return
    matched = {
        (entry.leaf.agreement, entry.said("record"))
        for entry in log
        if entry.leaf.event is Event.REVIEW and entry.said("record")
    }
    until = log[-1].leaf.ts - timedelta(days=REVIEW_DAYS)
    people: dict[str, dict[str, _Share]] = defaultdict(dict)
    months: dict[str, dict[str, _Share]] = defaultdict(dict)
    seen: set[tuple[str, str]] = set()
    for entry in log:
        if not entry.is_own_query or entry.leaf.ts > until:
            continue
        code, uri = entry.leaf.agreement or "", entry.person()
        for record in texts(entry.said("records")):
            # Each record once, however often it is asked about again: that is what makes the trials independent.
            if (code, record) in seen:
                continue
            seen.add((code, record))
            success = (code, record) in matched
            if uri:
                people[code].setdefault(person_key(uri), _Share(who=uri)).add(entry.index, success=success)
            months[code].setdefault(f"{entry.leaf.ts:%Y-%m}", _Share()).add(entry.index, success=success)
    yield from _compare(people, months, "records", "had a match among", "match share", 0.0, MIN_FACTOR)


def _compare(
    people: Mapping[str, Mapping[str, _Share]],
    months: Mapping[str, Mapping[str, _Share]],
    what: str,
    verb: str,
    figure: str,
    difference: float,
    factor: float,
) -> Iterator[Anomaly]:
    def told(one: _Share, other: _Share, subject: str, compared: str, advice: str) -> Iterator[Anomaly]:
        apart = _apart(one, other)
        low, high = sorted((one.share, other.share))
        if apart is None or high - low < difference or high < factor * low:
            return
        (low_here, high_here), (low_there, high_there) = apart
        yield Anomaly(
            Kind.HIT_RATE,
            Severity.NOTICE,
            tuple(sorted(set(one.entries))),
            one.who,
            f"{subject}, {one.successes} {verb} {one.trials} {what}: {one.share:.1%}. {compared} it is "
            f"{other.successes} of {other.trials}, {other.share:.1%}. With {CONFIDENCE:.1%} confidence the first lies "
            f"between {low_here:.1%} and {high_here:.1%}, the second between {low_there:.1%} and {high_there:.1%}, so "
            f"they differ by more than chance. {advice}",
            {"figure": figure, "successes": one.successes, "trials": one.trials, "share": round(one.share, 6)},
            {"share": round(other.share, 6), "trials": other.trials, "low": low_there, "high": high_there},
        )

    for code in sorted(people):
        for key in sorted(people[code]):
            others = _rest(share for other, share in people[code].items() if other != key)
            yield from told(
                people[code][key],
                others,
                f"Of one person under {code}",
                "Of all others",
                f"Look at a sample of these {what} with somebody who does the same work: the work that comes to one "
                "desk may differ, a rule may be read in another way, or matches are decided without being looked at.",
            )
    for code in sorted(months):
        past = _Share()
        for month in sorted(months[code]):
            yield from told(
                months[code][month],
                past,
                f"In {month} under {code}",
                "In the months before",
                "Look at what changed: the sets, the rules of normalisation, what is asked about, or who decides.",
            )
            past = _rest((past, months[code][month]))


# What nothing followed


def _unfollowed(log: Sequence[Entry], within: timedelta) -> Iterator[Anomaly]:
    if log:
        end = log[-1].leaf.ts
        yield from _matches_without_case(log, within, end)
        yield from _recalls_without_answer(log, within, end)
        yield from _disclosed_and_kept(log, within, end)


def _matches_without_case(log: Sequence[Entry], within: timedelta, end: datetime) -> Iterator[Anomaly]:
    last: dict[tuple[str, str], Entry] = {}
    opened: dict[tuple[str, str], datetime] = {}
    unknown: dict[str, list[datetime]] = defaultdict(list)
    for entry in log:
        code, match = entry.leaf.agreement or "", entry.said("match")
        if entry.leaf.event is Event.REVIEW and isinstance(match, str):
            last[code, match] = entry
        elif entry.leaf.event is Event.CASE_OPEN and entry.leaf.side is Side.QUERIER:
            if isinstance(match, str):
                opened.setdefault((code, match), entry.leaf.ts)
            elif entry.body is None:
                unknown[code].append(entry.leaf.ts)
    for key, entry in sorted(last.items(), key=lambda item: item[1].index):
        since, case = entry.leaf.ts, opened.get(key)
        if entry.said("decision") != "confirmed" or end - since <= within or (case and case - since <= within):
            continue
        # A case whose body is not at hand may be about this match.
        if any(since <= ts <= since + within for ts in unknown[key[0]]):
            continue
        days = (case or end) - since
        state = "a case was opened only" if case else "no case was opened by the end of the log,"
        yield Anomaly(
            Kind.UNFOLLOWED_MATCHES,
            Severity.INFO if case else Severity.NOTICE,
            (entry.index,),
            entry.person(),
            f"A match under {key[0]} was confirmed on {since:%Y-%m-%d}, and {state} {days.days} days later. A second "
            "person may be missing whom the agreement asks for, the matter may have settled itself, or somebody "
            "wanted to know and nothing more. Look at the reason that was given, and at what was done about the match.",
            {"days": days.days, "case": "late" if case else "none"},
            {"days_at_most": within.days},
        )


def _recalls_without_answer(log: Sequence[Entry], within: timedelta, end: datetime) -> Iterator[Anomaly]:
    recalls = [entry for entry in log if entry.leaf.event is Event.RECALL and entry.leaf.request_id]
    answered = {
        (entry.leaf.side, entry.leaf.request_id) for entry in recalls if entry.operation == "recall acknowledged"
    }
    # An entry of the same recall whose body is not at hand may be the acknowledgement.
    answered |= {(entry.leaf.side, entry.leaf.request_id) for entry in recalls if entry.body is None}
    for entry in recalls:
        waits = entry.operation in {"recall", "recall received"} and not entry.is_cover
        if not waits or (entry.leaf.side, entry.leaf.request_id) in answered or end - entry.leaf.ts <= within:
            continue
        days = (end - entry.leaf.ts).days
        here = entry.leaf.side is Side.QUERIER
        done = "came in" if here else "was sent"
        yield Anomaly(
            Kind.UNFOLLOWED_MATCHES,
            Severity.WARNING if here else Severity.NOTICE,
            (entry.index,),
            "" if here else entry.person(),
            f"A recall under {entry.leaf.agreement} {done} on {entry.leaf.ts:%Y-%m-%d}, and nobody acknowledged it in "
            f"the {days} days after. What was disclosed may still be relied on although its owner took it back. Look "
            "at whether it is still used, and who is to acknowledge the recall.",
            {"days": days, "what": "recall"},
            {"days_at_most": within.days},
        )


def _disclosed_and_kept(log: Sequence[Entry], within: timedelta, end: datetime) -> Iterator[Anomaly]:
    erased = {(entry.leaf.side, entry.leaf.request_id) for entry in log if entry.leaf.event is Event.ERASE}
    for entry in log:
        leaf = entry.leaf
        received = leaf.event is Event.RECEIPT and entry.said("outcome") == "DISCLOSED"
        if not received or (leaf.side, leaf.request_id) in erased or end - leaf.erase_after <= within:
            continue
        days = (end - leaf.erase_after).days
        yield Anomaly(
            Kind.UNFOLLOWED_MATCHES,
            Severity.WARNING,
            (entry.index,),
            "",
            f"What was disclosed under {leaf.agreement} came in on {leaf.ts:%Y-%m-%d}, and no erasure of it is logged "
            f"although its retention ended {days} days ago. Look at whether it was erased, and at whether "
            "the node runs the erasures that are due.",
            {"days": days, "what": "disclosure"},
            {"days_at_most": within.days},
        )


# Nights and weekends


def _personal(entry: Entry) -> str:
    """Who did what the entry says at the time that it says; empty where the clock wrote it."""
    event, by_person = entry.leaf.event, entry.leaf.event in {Event.REVIEW, Event.LOG_READ}
    if event is Event.CASE_OPEN:
        by_person = entry.leaf.side is Side.QUERIER
    elif event is Event.RECALL:
        by_person = entry.operation in {"recall", "recall acknowledged"}
    elif event is Event.CONSULT:
        # Queries under a grant are sent by the clock in the name of the officer.
        by_person = entry.is_search
    return entry.person() if by_person else ""


def _outside_office(log: Sequence[Entry], hours: OfficeHours, min_support: int) -> Iterator[Anomaly]:
    inside: Counter[str] = Counter()
    outside: dict[tuple[str, date], list[Entry]] = defaultdict(list)
    names: dict[str, str] = {}
    for entry in log:
        if uri := _personal(entry):
            key = person_key(uri)
            names.setdefault(key, uri)
            if hours.inside(entry.leaf.ts):
                inside[key] += 1
            else:
                outside[key, hours.shift(entry.leaf.ts)].append(entry)
    nights: Counter[str] = Counter()
    for (key, _), acts in outside.items():
        nights[key] += len(acts)
    agency_out, agency_in = nights.total(), inside.total()
    for (key, day), acts in sorted(outside.items()):
        others, total = nights[key] - len(acts), nights[key] - len(acts) + inside[key]
        all_others, all_total = agency_out - len(acts), agency_out - len(acts) + agency_in
        agency_share = all_others / all_total if all_total else 1.0
        own = total >= min_support
        if not own and all_total < min_support:
            continue
        share = others / total if own else agency_share
        if share >= USUAL_SHARE:
            continue
        shifts = agency_share >= USUAL_SHARE
        whose = f"of this person's {total} other actions" if own else f"of all people's {all_total} other actions"
        yield Anomaly(
            Kind.OUTSIDE_OFFICE_PATTERN,
            Severity.INFO if shifts else Severity.NOTICE,
            tuple(entry.index for entry in acts),
            names[key],
            f"One person acted {len(acts)} times in the night or on the weekend of {day.isoformat()}. {share:.1%} "
            f"{whose} are outside office hours; of all people's it is {agency_share:.1%}. A shift that was exchanged "
            "or an urgent case explain it, and so do credentials that somebody else uses. Look at the roster, and ask "
            "this person whether it was them.",
            {"actions": len(acts), "day": day.isoformat(), "share": round(share, 6)},
            {"share_below": USUAL_SHARE, "support": total if own else all_total, "agency": round(agency_share, 6)},
        )
