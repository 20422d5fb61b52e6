from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from connector_psi.audit.entries import Event, Side
from connector_psi.errors import InputError
from connector_psi.pack.matrix import sheets
from connector_psi.pack.reading import parse_policy
from connector_psi.reports.entry import Entry, write_csv
from connector_psi.reports.records import (
    MONTHS,
    SECURITY,
    SMALL,
    WITHHELD,
    Controller,
    Counts,
    Line,
    Measure,
    Regime,
    Row,
    Statistics,
    encode_csv,
    processing_records,
    protect,
    statistics,
    summarise,
    verification_report,
)
from tests.unit.reports.report_entries import BASIS, CODE, MONDAY, PURPOSE, Book, box, officer

DAY = timedelta(days=1)
M = Measure
FLOW = (M.DISCLOSED, M.REFUSED, M.NOT_DISCLOSED, M.OUTCOME_UNKNOWN, M.CASES)
REVIEWS = (M.CONFIRMED, M.DISMISSED, M.REVIEWED_UNKNOWN)
ACCESS = (M.GRANTED, M.ACCESS_REFUSED, M.NOT_GRANTED, M.ACCESS_REQUESTS)
LINE = Line(CODE, "querier", PURPOSE)


def in_january(**counts: int) -> Counts:
    return {LINE: {Measure[name]: (count, *[0] * 11) for name, count in counts.items()}}


def told(counts: Counts) -> dict[Measure, int | str]:
    return {row.measure: row.year for row in protect(counts)}


# --- Small counts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"RECALLS_SENT": 9}, {M.RECALLS_SENT: SMALL}),
        ({"RECALLS_SENT": 10}, {M.RECALLS_SENT: 10}),
        ({"CONFIRMED": 40, "DISMISSED": 12}, {M.CONFIRMED: 40, M.DISMISSED: 12}),
        ({"CONFIRMED": 40}, {M.CONFIRMED: 40, M.DISMISSED: SMALL}),
        ({"REVIEWED_UNKNOWN": 40}, {M.REVIEWED_UNKNOWN: 40}),
        (
            {"CASES": 57, "DISCLOSED": 50, "REFUSED": 7},
            {M.CASES: WITHHELD, M.DISCLOSED: 50, M.REFUSED: SMALL, M.NOT_DISCLOSED: 0},
        ),
        (
            {"CASES": 57, "DISCLOSED": 40, "NOT_DISCLOSED": 17},
            {M.CASES: 57, M.DISCLOSED: 40, M.REFUSED: 0, M.NOT_DISCLOSED: 17},
        ),
        (
            {"CASES": 57, "DISCLOSED": 57},
            {M.CASES: WITHHELD, M.DISCLOSED: 57, M.REFUSED: SMALL, M.NOT_DISCLOSED: SMALL},
        ),
        ({"CASES": 57}, {M.CASES: 57}),
        (
            {"CASES": 57, "ERASURES": 57, "DISCLOSED": 50, "REFUSED": 7},
            {M.CASES: WITHHELD, M.ERASURES: WITHHELD, M.DISCLOSED: 50, M.REFUSED: SMALL, M.NOT_DISCLOSED: 0},
        ),
        ({"QUERIES": 3, "ELEMENTS": 24}, {M.QUERIES: SMALL, M.ELEMENTS: WITHHELD}),
        ({"QUERIES": 10, "ELEMENTS": 80}, {M.QUERIES: 10, M.ELEMENTS: 80}),
    ],
)
def test_what_is_told_of_a_year(counts: dict[str, int], expected: dict[Measure, int | str]) -> None:
    assert told(in_january(**counts)) == expected


def test_months_are_told_where_none_is_small_and_totals_are_of_what_is_told() -> None:
    other = Line("CUS-47:police-ics2", "owner", "other")
    counts = {
        LINE: {M.QUERIES: (10, 20, *[0] * 10), M.ELEMENTS: (80, 160, *[0] * 10)},
        other: {M.QUERIES: (10, 9, *[0] * 10), M.ELEMENTS: (80, 72, *[0] * 10), M.ERASURES: (4, *[0] * 11)},
    }
    rows = {(row.line, row.measure): row for row in protect(counts)}
    assert rows[LINE, M.QUERIES].months == (10, 20, *[0] * 10)
    assert rows[LINE, M.ELEMENTS].months == (80, 160, *[0] * 10)
    assert rows[other, M.QUERIES] == Row(other, M.QUERIES, 19, (WITHHELD,) * 12)
    assert rows[other, M.ELEMENTS] == Row(other, M.ELEMENTS, 152, (WITHHELD,) * 12)
    made = summarise(2026, counts)
    assert str(made.by_month["02"][M.QUERIES]) == "at least 20"
    assert str(made.by_purpose["other"][M.QUERIES]) == "19"
    assert str(made.by_agreement[other.agreement][M.ERASURES]) == "at least 0"
    assert str(made.by_event["CONSULT"]) == "49"
    assert set(made.by_legal_basis) == {""}


_COUNT = st.one_of(st.just(0), st.integers(0, 12), st.integers(0, 60))
_MONTHS = st.one_of(
    st.builds(lambda n, at: tuple(n if month == at else 0 for month in range(12)), _COUNT, st.integers(0, 11)),
    st.lists(_COUNT, min_size=12, max_size=12).map(tuple),
    st.integers(10, 30).map(lambda n: (n,) * 12),
)
_COUNTS = st.dictionaries(
    st.sampled_from([m for m in Measure if m not in {M.ELEMENTS, M.CASES, M.ACCESS_REQUESTS}]), _MONTHS, min_size=1
)


def _sum(*parts: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(sum, zip(*parts, strict=True)))


def _consistent(given: Mapping[Measure, tuple[int, ...]]) -> Counts:
    """Data as they come: every case has its outcome, every query eight elements. The hardest for who hides a count."""
    nothing = (0,) * MONTHS
    filled = {measure: given.get(measure, nothing) for measure in Measure}
    filled[M.CASES] = _sum(*(filled[m] for m in FLOW[:-1]))
    filled[M.ACCESS_REQUESTS] = _sum(*(filled[m] for m in ACCESS[:-1]))
    filled[M.ELEMENTS] = tuple(8 * n for n in filled[M.QUERIES])
    return {LINE: filled}


def _others(given: Mapping[Measure, tuple[int, ...]], measure: Measure) -> Iterator[dict[Measure, tuple[int, ...]]]:
    """Other data in which a count of this measure differs, and that could have been as well."""
    changed = {M.ELEMENTS: (M.QUERIES,), M.CASES: FLOW[:-1], M.ACCESS_REQUESTS: ACCESS[:-1]}.get(measure, (measure,))
    nothing = (0,) * MONTHS
    for one in changed:
        months = given.get(one, nothing)
        for by in (1, -1, 2, -2):
            for month in range(MONTHS):
                if months[month] + by >= 0:
                    yield {**given, one: (*months[:month], months[month] + by, *months[month + 1 :])}
    # Two outcomes at once, for zeros that are told as small together.
    for pair in ((M.REFUSED, M.NOT_DISCLOSED), (M.ACCESS_REFUSED, M.NOT_GRANTED)):
        if set(pair) & {measure, *changed}:
            yield {**given, **{each: (1, *[0] * 11) for each in pair}}
            yield {**given, **{each: _sum(given.get(each, nothing), (1, *[0] * 11)) for each in pair}}
    # A few of each, where all of a family are few.
    for groups in ((M.DISCLOSED, M.REFUSED, M.NOT_DISCLOSED), (M.GRANTED, M.ACCESS_REFUSED, M.NOT_GRANTED)):
        if set(groups) & {measure, *changed}:
            for more in groups:
                yield {**given, **{each: (1 + (each is more), *[0] * 11) for each in groups}}
    # One that came to something else: where all of a family are few, their sum is told as few too.
    for groups in ((M.DISCLOSED, M.REFUSED, M.NOT_DISCLOSED), (M.GRANTED, M.ACCESS_REFUSED, M.NOT_GRANTED)):
        for source, target in itertools.permutations(groups, 2):
            for month in range(MONTHS):
                if {source, target} & {measure, *changed} and given.get(source, nothing)[month]:
                    one = tuple(int(m == month) for m in range(MONTHS))
                    less = tuple(n - o for n, o in zip(given[source], one, strict=True))
                    yield {**given, source: less, target: _sum(given.get(target, nothing), one)}
    # The same year with other months, for everything that is told of them together.
    family = next((f for f in (FLOW, REVIEWS, ACCESS, (M.QUERIES, M.ELEMENTS)) if measure in f), (measure,))
    for turn in range(1, MONTHS):
        yield {
            **given,
            **{m: (*given[m][turn:], *given[m][:turn]) for m in family if m in given},
        }
    for one in changed:
        months = given.get(one, nothing)
        for source in range(MONTHS):
            for target in range(MONTHS):
                if months[source] and source != target:
                    moved = list(months)
                    moved[source] -= 1
                    moved[target] += 1
                    yield {**given, one: tuple(moved)}


@settings(deadline=None, max_examples=60)
@given(_COUNTS)
@example({M.DISCLOSED: (50, *[0] * 11), M.REFUSED: (1, *[0] * 11)})
@example({M.DISCLOSED: (9,) * 12, M.NOT_DISCLOSED: (1,) * 12})
@example({M.QUERIES: (1,) * 12})
@example({M.REFUSED: (9, *[0] * 11)})
@example({M.NOT_GRANTED: (9, *[0] * 11)})
@example({M.CONFIRMED: (10, *[0] * 11), M.DISMISSED: (0, 9, *[0] * 10)})
def test_no_suppressed_count_can_be_determined(given: dict[Measure, tuple[int, ...]]) -> None:
    """For each there are other data, as possible as these, of which exactly the same is told and that count differs.

    Totals add nothing: they are made of the rows.
    """
    counts = _consistent(given)
    published = protect(counts)
    for row in published:
        true = counts[LINE][row.measure]
        # A month without anything stays in the dark together with the others, and needs no proof.
        open_places: set[int | None] = {m for m in range(MONTHS) if isinstance(row.months[m], str) and true[m]}
        open_places |= {None} if isinstance(row.year, str) else set()
        for other in _others(given, row.measure):
            if not open_places:
                break
            data = _consistent(other)
            count = data[LINE][row.measure]
            differs = {place for place in open_places if _at(count, place) != _at(true, place)}
            if differs and protect(data) == published:
                open_places -= differs
        assert not open_places, (row, true)


def _at(months: Sequence[int], place: int | None) -> int:
    return sum(months) if place is None else months[place]


@given(_COUNTS)
def test_what_is_told_is_true_and_never_small(given: dict[Measure, tuple[int, ...]]) -> None:
    counts = _consistent(given)
    for row in protect(counts):
        true = counts[LINE][row.measure]
        for said, count in ((row.year, sum(true)), *zip(row.months, true, strict=True)):
            assert said in {count, SMALL, WITHHELD}
            assert isinstance(said, str) or said == 0 or said >= 10
            assert said != SMALL or count < 10


# --- From entries -----------------------------------------------------------------------------------------------------


def _year() -> Book:
    book = Book()
    for n in range(12):
        day = MONDAY + n * DAY
        book.consult(day, {f"D{n}": [box(n * 997)]})
        book.review(day, officer(1), f"m{n}")
        book.review(day, officer(1), f"d{n}", confirm=False)
        book.case(day, officer(1), f"m{n}")
        book.receipt(day, f"m{n}", "DISCLOSED" if n < 2 else "NOT_DISCLOSED")
        book.outcome(day, n, "NOT_DISCLOSED", {"by": officer(2)} if n < 10 else None)
        book.search(day, officer(1, "dpo"), f"{n}")
        book.log_read(day, officer(1, "auditor"))
        book.recall(day, "recall received", n)
        book.recall(day, "recall received", n, cover=True)
        book.recall(day, "recall acknowledged", n)
        book.recall(day, "recall", n, Side.OWNER)
        book.add(Event.ERASE, day, {"operation": "erasure"})
        book.add(Event.POLICY_CHANGE, day, {"action": "in_force"})
        for event in (Event.COLLECT, Event.ALTER, Event.SET_PUBLISH, Event.CONFIG):
            book.add(event, day, {}, agreement=None, side=None, purpose=None)
        for decision in ("granted", "not_granted"):
            book.outcome(day, 100 + n, decision, {"by": officer(2)} if decision == "not_granted" else None)
        book.add(Event.CASE_OPEN, day, {"operation": "access request"}, side=Side.OWNER)
    book.review(MONDAY - 60 * DAY, officer(1), "last year")
    return book


def test_entries_are_counted_once_and_in_their_year() -> None:
    made = statistics(_year().entries, 2026)
    rows = {(row.line.side, row.measure): row.year for row in made.rows}
    assert rows["querier", M.QUERIES] == 12
    assert rows["querier", M.ELEMENTS] == 96
    assert rows["querier", M.CONFIRMED] == rows["querier", M.DISMISSED] == 12
    assert rows["querier", M.CASES] == WITHHELD
    assert rows["querier", M.DISCLOSED] == SMALL
    assert rows["querier", M.NOT_DISCLOSED] == 10
    assert rows["owner", M.REFUSED] == 10
    assert rows["owner", M.NOT_DISCLOSED] == SMALL
    assert rows["owner", M.DISCLOSED] == SMALL, "nobody got anything: that says the same about everybody"
    assert rows["owner", M.ACCESS_REQUESTS] == rows["owner", M.GRANTED] == rows["owner", M.ACCESS_REFUSED] == 12
    assert rows["", M.SUBJECT_REQUESTS] == rows["", M.LOG_READS] == rows["", M.OTHER] == rows["", M.SETS] == 12
    assert rows["querier", M.RECALLS_RECEIVED] == rows["querier", M.RECALLS_ACKNOWLEDGED] == 12
    assert rows["owner", M.RECALLS_SENT] == rows["querier", M.ERASURES] == rows["querier", M.POLICY_CHANGES] == 12
    assert str(made.by_legal_basis[BASIS][M.CASES]) == "at least 0"
    assert str(made.by_purpose["cpsi:DataSubjectRights"][M.SUBJECT_REQUESTS]) == "12"
    assert str(made.by_event["LOG_READ"]) == "12"
    assert str(made.by_month["02"][M.SUBJECT_REQUESTS]) == "12"
    assert [row.year for row in statistics(_year().entries, 2025).rows] == [SMALL, SMALL]
    assert statistics(_year().entries, 2024).rows == ()


def test_outcomes_of_silent_agreements_are_not_told_apart_and_bodies_may_be_missing() -> None:
    rows = {(row.line.side, row.measure): row.year for row in statistics(_year().entries, 2026, silent={CODE}).rows}
    assert rows["owner", M.OUTCOME_UNKNOWN] == 36
    assert ("owner", M.REFUSED) not in rows
    erased = [replace(entry, body=None) for entry in _year().entries]
    rows = {(row.line.side, row.measure): row.year for row in statistics(erased, 2026).rows}
    assert rows["querier", M.REVIEWED_UNKNOWN] == 24
    assert rows["querier", M.OUTCOME_UNKNOWN] == 12


def test_statistics_as_a_spreadsheet() -> None:
    rows = list(csv.DictReader(io.StringIO(encode_csv(statistics(_year().entries, 2026)))))
    (row,) = [row for row in rows if row["measure"] == "queries"]
    assert (row["agreement"], row["event"], row["2026"], row["2026-02"]) == (CODE, "CONSULT", "12", "12")
    assert list(row)[-1] == "2026-12"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", " =1", "\r=1"])
def test_no_cell_is_a_formula(text: str) -> None:
    assert next(csv.reader(io.StringIO(write_csv([text], []), newline=""))) == ["'" + text]


@given(st.lists(st.text(), min_size=1))
def test_what_is_written_is_read_again_and_never_a_formula(cells: list[str]) -> None:
    _, row = csv.reader(io.StringIO(write_csv(["a"] * len(cells), [cells]), newline=""))
    assert [cell.removeprefix("'") for cell in row] == [cell.removeprefix("'") for cell in cells]
    assert not any(cell.lstrip().startswith(("=", "+", "-", "@")) for cell in row)


def test_numbers_stay_numbers() -> None:
    assert write_csv(["a", "b", "c"], [[-1, None, 0.5]]) == "a,b,c\r\n-1,,0.5\r\n"


# --- Records of processing activities ---------------------------------------------------------------------------------


def test_one_record_for_each_agreement_and_purpose_of_the_own_node() -> None:
    pack = parse_policy(Path("nodes/sis/policy.yaml").read_bytes(), "nodes/sis/policy.yaml")
    controller = Controller("N.SIS", "sis@example.org", Regime.LED, "dpo@example.org", ("Customs",))
    book = _year()
    book.add(Event.POLICY_CHANGE, MONDAY, {}, agreement="EUR-SIS:europol-sis")
    own = {each.purpose.value: each.code for each in pack.own}
    found = processing_records(sheets([pack]), book.entries, controller, own=own)
    by_code = {record.code: record for record in found}
    assert set(by_code) == {sheet.code for sheet in sheets([pack])} >= {"SIS-OBJ", "DSR", "DPO-AUD"}
    record = by_code["SIS-OBJ"]
    assert record.law == "Directive (EU) 2016/680, Article 24"
    assert record.controller == "N.SIS, sis@example.org; joint controllers: Customs"
    assert record.security == SECURITY
    assert record.used == "2025-12-04 to 2026-02-13"
    assert record.profiling.startswith("none")
    assert record.transfers.startswith("none")
    assert (by_code["EUR-SIS"].used, by_code["DPO-AUD"].used) == ("", "2026-02-02 to 2026-02-13")
    for each in found:
        for name in ("purpose", "recipients", "data_subjects", "data", "legal_basis", "retention"):
            assert getattr(each, name).strip(), (each.code, name)
    assert len(list(csv.DictReader(io.StringIO(encode_csv(found))))) == len(found)


# --- The verification report ------------------------------------------------------------------------------------------

START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)
GOOD: dict[str, Any] = {"origin": "o", "size": 500, "root": "AAAA", "verified": True, "failures": []}


def test_a_verification_report_says_what_was_done_and_what_is_open() -> None:
    book = _year()
    book.log_read(MONDAY, officer(1, "auditor"), count=3)
    book.recall(MONDAY, "recall received", 99)
    report = verification_report(
        GOOD, book.entries, START, END, checkpoints=[{"size": 40, "witness": "w"}], erased={}, open_items=["Train."]
    )
    assert (report.verified, report.size, report.root) == (True, 500, "AAAA")
    assert report.entries["LOG_READ"] == 13
    assert report.entries["REVIEW"] == 24
    assert report.log_reads == {"auditor": 13}
    assert report.bodies_read == {"auditor": 243}
    assert len(report.audits) == 12
    assert report.audits[0] == "2026-02-02: auditor, 23 bodies"
    assert len(report.policy_changes) == 12
    assert report.policy_changes[0].startswith("2026-02-02T09:00:00Z: SIS-OBJ")
    assert report.bodies.due == 0
    assert report.bodies.known
    assert report.open_items == ("Recalls that came in and were not acknowledged: 1.", "Train.")
    rows = list(csv.reader(io.StringIO(encode_csv(report))))
    assert ["log", "verified", "yes"] in rows
    assert ["log reads", "auditor", "13"] in rows
    assert ["checkpoint", "", "size: 40; witness: w"] in rows


def test_bodies_that_are_due_are_on_time_late_waiting_or_held() -> None:
    book = Book()
    for _ in range(4):
        book.review(MONDAY, officer(1), "m")
    held, released = book.case(MONDAY, officer(1), "h").leaf, book.case(MONDAY, officer(1), "r").leaf
    assert held.request_id is not None
    assert released.request_id is not None
    due, placed = held.erase_after, MONDAY + 100 * DAY
    for hold, about in (("H1", held.request_id), ("H2", released.request_id)):
        said = {"covers": f"request {about.hex()}", "until": (due + 365 * DAY).isoformat()}
        book.add(Event.HOLD, placed, {"operation": "hold placed", **said}, hold=hold)
    book.add(Event.HOLD, due + 10 * DAY, {"operation": "hold released", **said}, hold="H2")
    log: list[Entry] = [*book.entries]
    start, end = due - DAY, due + 60 * DAY
    erased = {0: due + DAY, 1: due + 40 * DAY, 2: due + 2 * DAY, 5: due + 11 * DAY}
    bodies = verification_report(GOOD, log, start, end, erased=erased).bodies
    assert (bodies.due, bodies.on_time, bodies.late, bodies.waiting, bodies.held) == (6, 2, 3, 0, 1)
    late = verification_report(GOOD, log, start, end, erased={**erased, 5: due + 12 * DAY}).bodies
    assert (late.on_time, late.late) == (1, 4)
    report = verification_report(GOOD, log, start, due + DAY, erased={})
    assert (report.bodies.waiting, report.bodies.late, report.bodies.held) == (4, 0, 2)
    assert verification_report(GOOD, log, placed - DAY, placed + DAY).holds == 2
    unknown = verification_report({**GOOD, "verified": False, "size": 2, "failures": ["leaf 1: bad"]}, log, start, end)
    assert [item.split(":")[0].split(";")[0] for item in unknown.open_items] == [
        "The log did not verify",
        "Entries that the verification did not cover",
        "No checkpoint that somebody else kept or signed was given.",
        "When bodies were erased was not known",
        "No own queries were audited in the period.",
    ]
    assert ["bodies", "late", "not known"] in list(csv.reader(io.StringIO(encode_csv(unknown))))


@pytest.mark.parametrize(
    ("said", "start", "end"),
    [(GOOD, END, START), (GOOD, START.replace(tzinfo=None), END), ({}, START, END), ({"verified": "yes"}, START, END)],
)
def test_what_is_no_period_or_no_verification_is_refused(said: dict[str, Any], start: datetime, end: datetime) -> None:
    with pytest.raises(InputError):
        verification_report(said, [], start, end)


def test_statistics_of_nothing() -> None:
    assert statistics([], 2026) == Statistics(2026, (), {}, {}, {}, {}, {f"{m:02d}": {} for m in range(1, 13)})
