from __future__ import annotations

import csv
import io
import random
from dataclasses import replace
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from connector_psi.audit.entries import Event, Side
from connector_psi.domain.records import IdentifierType
from connector_psi.reports.anomalies import (
    MIN_RUN,
    Anomaly,
    Kind,
    OfficeHours,
    Severity,
    encode_csv,
    find,
    read_token,
    split_number,
    wilson,
)
from connector_psi.reports.entry import Entry
from tests.unit.reports.report_entries import CODE, MONDAY, SYSTEM, Book, box, digest, office_days, officer, token

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def found(entries: list[Entry], kind: Kind, **options: object) -> list[Anomaly]:
    return [each for each in find(entries, **options) if each.kind is kind]  # type: ignore[arg-type]


def boxes(*serials: int) -> dict[str, list[tuple[IdentifierType, str]]]:
    """Each under a declaration of its own."""
    return {f"D{serial}": [box(serial)] for serial in serials}


# --- Identifiers that run on ------------------------------------------------------------------------------------------


def test_container_numbers_that_are_tried_out_are_found_and_not_named() -> None:
    book = Book()
    book.consult(MONDAY, boxes(*range(100_200, 100_206), 500_000, 700_000), officer(1))
    (anomaly,) = found(book.entries, Kind.SEQUENTIAL_IDENTIFIERS)
    assert (anomaly.entries, anomaly.who, anomaly.severity) == ((0,), officer(1), Severity.WARNING)
    assert anomaly.measured == {"type": "container", "run": 6, "separate": 6, "queries": 1}
    assert anomaly.expected["run_below"] == MIN_RUN
    assert "MSCU" not in repr(anomaly)
    assert "100200" not in repr(anomaly)


def test_a_run_over_several_batches_of_one_day_is_one_run() -> None:
    book = Book()
    for hour, serial in enumerate(range(100_200, 100_205)):
        book.consult(MONDAY + hour * HOUR, boxes(serial))
    (anomaly,) = found(book.entries, Kind.SEQUENTIAL_IDENTIFIERS)
    assert (anomaly.entries, anomaly.who, anomaly.severity) == ((0, 1, 2, 3, 4), SYSTEM, Severity.NOTICE)
    for day, serial in enumerate(range(100_205, 100_209)):
        book.consult(MONDAY + day * DAY, boxes(serial), officer(2))
    assert len(found(book.entries, Kind.SEQUENTIAL_IDENTIFIERS)) == 1


def test_four_in_sequence_and_people_apart_are_none() -> None:
    book = Book()
    book.consult(MONDAY, boxes(*range(100_200, 100_204)), officer(1))
    book.consult(MONDAY, boxes(*range(100_204, 100_208)), officer(2))
    assert not find(book.entries)


@pytest.mark.parametrize(
    "declared",
    [
        {"D1": [box(n) for n in range(200, 210)]},
        {"D1": [box(n) for n in range(200, 210, 2)], "D2": [box(n) for n in range(201, 210, 2)]},
        {f"D{n}": [box(200 + 3 * n + k) for k in range(3)] for n in range(4)},
    ],
    ids=["one", "two that alternate", "four of three boxes"],
)
def test_boxes_in_sequence_of_one_declaration_are_no_run(declared: dict[str, list[tuple[IdentifierType, str]]]) -> None:
    book = Book()
    book.consult(MONDAY, declared, officer(1))
    assert not find(book.entries)


def test_a_fleet_that_fills_its_range_is_no_run() -> None:
    book, chosen = Book(), random.Random(7)
    serials = chosen.sample(range(1_000_000), 20_000)
    book.consult(MONDAY, boxes(*serials, *range(300_000, 300_005)))
    assert not find(book.entries)


def test_what_is_handed_out_in_sequence_counts_where_a_person_asks() -> None:
    declared = {f"D{n}": [(IdentifierType.TRANSPORT_DOCUMENT, f"HLCU77{n:05d}")] for n in range(8)}
    by_system, by_person = Book(), Book()
    by_system.consult(MONDAY, declared)
    by_person.consult(MONDAY, declared, officer(1), access="00")
    assert not find(by_system.entries)
    assert len(found(by_person.entries, Kind.SEQUENTIAL_IDENTIFIERS)) == 1


def test_a_plate_and_its_short_form_are_told_once() -> None:
    book = Book()
    declared = {
        f"D{n}": [(IdentifierType.PLATE, f"DE:BAB{n}"), (IdentifierType.PLATE_NUMBER, f"BAB{n}")]
        for n in range(4_000, 4_007)
    }
    book.consult(MONDAY, declared, officer(1))
    (anomaly,) = found(book.entries, Kind.SEQUENTIAL_IDENTIFIERS)
    assert anomaly.measured["type"] == "plate"


@pytest.mark.parametrize(
    ("kind", "value", "split"),
    [
        ("container", "CSQU3054383", (("CSQU", ""), 305438, 6)),
        ("phone", "+32475123456", (("+", ""), 32475123456, 11)),
        ("plate", "FR:AB123CD", (("FR:AB", "CD"), 123, 3)),
        ("imo", "9074729", (("", ""), 907472, 6)),
        ("vin", "WVWZZZ1J2XW000123", (("WVWZZZ1J*XW", ""), 123, 6)),
        ("identity_document", "BE:592-1234567", (("BE:592-", ""), 1234567, 7)),
        ("plate", "FR:AB12CD", None),
        ("email", "someone1234@example.org", None),
        ("aircraft", "OOABC", None),
    ],
)
def test_what_of_an_identifier_runs_on(kind: str, value: str, split: object) -> None:
    assert split_number(kind, value) == split


def test_tokens_are_read_as_the_protocol_writes_them() -> None:
    raw = bytes.fromhex(token(IdentifierType.PHONE, "+32475123456"))
    assert read_token(raw) == ("phone", "+32475123456")
    for broken in (b"", raw[:-1], raw + b"\0", raw + b"\0\1x", b"x" + raw, raw[:22]):
        assert read_token(broken) is None
    book = Book()
    book.add(Event.CONSULT, MONDAY, {"actor": SYSTEM, "tokens": ["zz", 3, raw.hex()], "held": 3, "digests": None})
    assert not find(book.entries)


# --- More than usual --------------------------------------------------------------------------------------------------


def test_an_officer_who_looks_at_far_more_in_a_day_is_found() -> None:
    book = Book()
    for day in office_days(10):
        for person in range(1, 5):
            for n in range(5 + (person + day.day) % 3):
                book.review(day + 9 * HOUR, officer(person), f"{day}{person}{n}", confirm=False)
    for n in range(60):
        book.review(MONDAY + 3 * HOUR, officer(2), f"much{n}", confirm=False)
    (anomaly,) = found(book.entries, Kind.UNUSUAL_LOOKUPS)
    assert (anomaly.who, anomaly.measured["day"]) == (officer(2), "2026-02-02")
    assert anomaly.measured["events"] == 60 + 5 + (2 + 2) % 3
    assert anomaly.expected == {"median": 6, "deviation": 1, "at_most": 15.9, "support": 40}
    assert len(anomaly.entries) == anomaly.measured["events"]


def test_few_days_or_few_events_are_not_unusual() -> None:
    book = Book()
    for day in office_days(19):
        book.review(day + 9 * HOUR, officer(1), f"{day}", confirm=False)
    for n in range(60):
        book.search(MONDAY, officer(1, "dpo"), f"{n}")
    assert not find(book.entries)
    for n in range(8):
        book.review(MONDAY, officer(1), f"few{n}", confirm=False)
    assert not found(book.entries, Kind.UNUSUAL_LOOKUPS, min_support=1)


def test_one_person_with_two_certificates_is_one_and_pseudonyms_do_where_bodies_are_gone() -> None:
    book = Book()
    for day in office_days(20):
        book.review(day + 9 * HOUR, officer(1), f"{day}", confirm=False)
    for n in range(16):
        role = "officer" if n % 2 else "supervisor"
        book.review(MONDAY, f"urn:connector-psi:person:ics2:{role}:officer9", f"much{n}", confirm=False)
    (anomaly,) = found(book.entries, Kind.UNUSUAL_LOOKUPS)
    assert anomaly.measured["events"] == 16
    erased = [replace(entry, body=None) for entry in book.entries]
    assert not found(erased, Kind.UNUSUAL_LOOKUPS), "two pseudonyms"
    for n in range(8):
        book.review(MONDAY, officer(7), f"more{n}", confirm=False)
        book.review(MONDAY, officer(7), f"most{n}", confirm=False)
    (anomaly,) = found([replace(entry, body=None) for entry in book.entries], Kind.UNUSUAL_LOOKUPS)
    assert anomaly.who == digest(CODE, officer(7), MONDAY.date()).hex()


def test_a_person_of_a_peer_who_opens_many_cases_is_found_but_not_where_covers_do() -> None:
    book = Book()
    for day in office_days(25):
        book.add(Event.CASE_OPEN, day, {"peer": "sis"}, side=Side.OWNER, actor_commitment=digest(day))
    for _ in range(30):
        book.add(Event.CASE_OPEN, MONDAY, {"peer": "sis"}, side=Side.OWNER, actor_commitment=digest("who"))
    (anomaly,) = find(book.entries)
    assert (anomaly.who, anomaly.measured["events"]) == (digest("who").hex(), 30)
    assert not find(book.entries, silent={CODE})


def test_who_comes_back_to_one_record_or_identifier_is_found() -> None:
    book = Book()
    days = office_days(6)
    for day in days[:5]:
        book.search(day + 9 * HOUR, officer(1, "dpo"), "a neighbour's plate")
        book.search(day + 9 * HOUR, officer(2, "dpo"), f"{day}")
    book.review(days[0] + 9 * HOUR, officer(3), "m1", record="MRN1")
    book.case(days[1] + 9 * HOUR, officer(3), "m1", record="MRN1")
    for n, day in enumerate(days[2:5]):
        book.add(
            Event.CASE_OPEN,
            day + 9 * HOUR,
            {"operation": "access request", "officer": officer(3), "records": ["ics2/MRN1", f"ics2/{n}"]},
        )
    one, other = found(book.entries, Kind.UNUSUAL_LOOKUPS)
    assert (one.who, one.measured) == (officer(1, "dpo"), {"days": 5, "entries": 5, "what": "identifier"})
    assert (other.who, other.measured) == (officer(3), {"days": 5, "entries": 5, "what": "record"})
    assert "MRN1" not in repr(other)


# --- Shares -----------------------------------------------------------------------------------------------------------


def test_wilson_interval() -> None:
    low, high = wilson(40, 100, 0.95)
    assert (round(low, 4), round(high, 4)) == (0.3094, 0.498)
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 50)[0] == 0.0
    assert wilson(50, 50)[1] == 1.0


def test_who_confirms_everything_is_found_and_so_is_a_month_out_of_line() -> None:
    book = Book()
    for n in range(400):
        book.review(MONDAY + n * HOUR / 50, officer(n % 4), f"{n}", confirm=n // 4 % 10 < 3)
    for n in range(60):
        book.review(MONDAY + n * HOUR / 50, officer(9), f"all{n}")
    (anomaly,) = found(book.entries, Kind.HIT_RATE)
    assert (anomaly.who, anomaly.measured["share"], anomaly.expected["share"]) == (officer(9), 1.0, 0.3)
    later = Book()
    for n in range(300):
        later.review(MONDAY + n * HOUR / 50, officer(n % 4), f"{n}", confirm=n // 4 % 10 < 5)
        later.review(MONDAY + 30 * DAY + n * HOUR / 50, officer(n % 4), f"later{n}", confirm=n // 4 % 10 < 1)
    (anomaly,) = found(later.entries, Kind.HIT_RATE)
    assert (anomaly.who, anomaly.measured["successes"], anomaly.measured["trials"]) == ("", 32, 300)
    assert "2026-03" in anomaly.explanation


def test_an_officer_whose_records_match_far_more_often_is_found() -> None:
    book = Book()
    for n in range(200):
        who = officer(n % 4)
        book.consult(MONDAY + n * HOUR / 100, {f"R{n}": [box(n * 1000)]}, who, access="00")
        if n % 4 == 0 or n % 20 == 1:
            book.review(MONDAY + DAY, who, f"{n}", confirm=n % 3 == 0)
    book.review(MONDAY + 30 * DAY, officer(1), "end", confirm=False)
    (anomaly,) = [each for each in found(book.entries, Kind.HIT_RATE) if each.who == officer(0)]
    assert (anomaly.measured["figure"], anomaly.measured["share"]) == ("match share", 1.0)


def test_a_few_matches_and_small_differences_say_nothing() -> None:
    book = Book()
    for n in range(29):
        book.review(MONDAY, officer(1), f"{n}")
        book.review(MONDAY, officer(2), f"x{n}", confirm=False)
    for n in range(3000):
        book.review(MONDAY, officer(3), f"3{n}", confirm=n % 100 < 30)
        book.review(MONDAY, officer(4), f"4{n}", confirm=n % 100 < 40)
    assert not found(book.entries, Kind.HIT_RATE)


# --- What nothing followed --------------------------------------------------------------------------------------------


def test_a_confirmed_match_without_a_case_is_found_after_its_days() -> None:
    book = Book()
    book.review(MONDAY, officer(1), "left")
    book.review(MONDAY, officer(1), "followed")
    book.case(MONDAY + DAY, officer(1), "followed")
    book.review(MONDAY, officer(1), "late")
    book.case(MONDAY + 20 * DAY, officer(1), "late")
    book.review(MONDAY, officer(1), "withdrawn")
    book.review(MONDAY + DAY, officer(2), "withdrawn", confirm=False)
    book.review(MONDAY + 19 * DAY, officer(1), "fresh")
    log = book.in_time()
    none, late = found(log, Kind.UNFOLLOWED_MATCHES)
    assert (none.measured, none.severity) == ({"days": 20, "case": "none"}, Severity.NOTICE)
    assert (late.measured, late.severity) == ({"days": 20, "case": "late"}, Severity.INFO)
    assert not found(log, Kind.UNFOLLOWED_MATCHES, follow_days=21)
    book.add(Event.CASE_OPEN, MONDAY + 2 * DAY, None)
    assert not found(book.in_time(), Kind.UNFOLLOWED_MATCHES), "the case without a body may be about either"


def test_recalls_that_nobody_acknowledged_are_found() -> None:
    book = Book()
    for number, side in enumerate((Side.QUERIER, Side.OWNER) * 2):
        book.recall(
            MONDAY, "recall received" if side is Side.QUERIER else "recall", number, side, by=officer(1), reason="x"
        )
        if number >= 2:
            book.recall(MONDAY + DAY, "recall acknowledged", number, side)
    book.recall(MONDAY, "recall received", 9, cover=True)
    book.recall(MONDAY + 20 * DAY, "recall received", 10)
    here, there = found(book.entries, Kind.UNFOLLOWED_MATCHES)
    assert (here.severity, here.who, there.severity, there.who) == (Severity.WARNING, "", Severity.NOTICE, officer(1))


def test_what_was_disclosed_and_never_erased_is_found() -> None:
    book = Book()
    book.receipt(MONDAY, "kept")
    book.receipt(MONDAY, "erased")
    book.receipt(MONDAY, "nothing", "NOT_DISCLOSED")
    book.add(Event.ERASE, MONDAY + 1000 * DAY, {"operation": "erasure"}, request_id=digest("case", "erased")[:16])
    assert not find(book.entries)
    book.review(MONDAY + 1200 * DAY, officer(1), "later")
    (anomaly,) = found(book.entries, Kind.UNFOLLOWED_MATCHES)
    assert (anomaly.entries, anomaly.severity) == ((0,), Severity.WARNING)


# --- Nights and weekends ----------------------------------------------------------------------------------------------


def _habit() -> Book:
    book = Book()
    for n, day in enumerate(office_days(30)):
        book.review(day + 9 * HOUR, officer(1), f"day{n}", confirm=False)
        # Shifts: a third of the nights.
        book.review(day + (23 if n % 3 == 0 else 10) * HOUR, officer(2), f"shift{n}", confirm=False)
    return book


def test_a_night_of_somebody_who_works_by_day_is_found() -> None:
    book = _habit()
    night = office_days(3)[2] + 23 * HOUR
    book.review(night, officer(1), "night1", confirm=False)
    book.review(night + 2 * HOUR, officer(1), "night2", confirm=False)
    (anomaly,) = found(book.entries, Kind.OUTSIDE_OFFICE_PATTERN)
    assert (anomaly.who, anomaly.measured["actions"], anomaly.measured["day"]) == (officer(1), 2, "2026-02-04")
    assert anomaly.severity is Severity.INFO, "nights are worked here"
    assert not found(book.entries, Kind.OUTSIDE_OFFICE_PATTERN, min_support=100)


def test_a_newcomer_is_measured_by_the_agency() -> None:
    book = Book()
    for n, day in enumerate(office_days(40)):
        book.review(day + 9 * HOUR, officer(1), f"{n}", confirm=False)
    book.case(MONDAY + 5 * DAY, officer(5), "m")
    (anomaly,) = found(book.entries, Kind.OUTSIDE_OFFICE_PATTERN)
    assert (anomaly.who, anomaly.severity, anomaly.expected["support"]) == (officer(5), Severity.NOTICE, 40)


def test_the_clock_on_the_wall_counts_and_systems_do_not() -> None:
    book = Book()
    for n, day in enumerate(office_days(40)):
        book.review(day + 9 * HOUR, officer(1), f"{n}", confirm=False)
        book.consult(day + 2 * HOUR, boxes(n * 977))
        book.consult(day + 2 * HOUR, boxes(n * 991), officer(1), access="00")
    assert not find(book.entries)
    book.review(MONDAY.replace(hour=21), officer(1), "evening", confirm=False)
    assert not find(book.entries)
    hours = OfficeHours(ZoneInfo("Europe/Brussels"))
    (anomaly,) = found(book.entries, Kind.OUTSIDE_OFFICE_PATTERN, office_hours=hours)
    assert anomaly.measured["day"] == MONDAY.date().isoformat()
    assert hours.shift(MONDAY.replace(hour=2)) == date(2026, 2, 1)


# --- All of it --------------------------------------------------------------------------------------------------------


def clean_year(seed: int) -> Book:
    """200 days of twelve officers, two of whom work shifts, a system that asks, an officer for data protection and an
    auditor."""
    book, chance = Book(), random.Random(seed)
    for number, day in enumerate(office_days(200)):
        for hour in range(0, 24, 6):
            declared = {}
            for n in range(40):
                first = chance.randrange(1_000_000 - 8)
                owner = chance.choice(("MSCU", "TGHU", "CSQU", "HLXU"))
                # Boxes that one declaration names together often come from one delivery.
                declared[f"{number}-{hour}-{n}"] = [
                    box(first + k, owner) for k in range(chance.choice((1, 1, 1, 2, 3, 8)))
                ]
            book.consult(day + hour * HOUR, declared)
        for person in range(1, 13):
            if chance.random() < 0.15:
                continue
            start = 18 if person > 10 else 7
            for n in range(max(1, round(chance.gauss(6, 2)))):
                when = day + (start + chance.random() * 9) * HOUR
                match = f"{number}-{person}-{n}"
                confirm = chance.random() < 0.3
                record = f"{number}-{chance.randrange(0, 24, 6)}-{chance.randrange(40)}"
                book.review(_whole(when), officer(person), match, confirm=confirm, record=record)
                if confirm:
                    opened = when + chance.choice((0, 0, 1, 4)) * DAY
                    opened += (2 if opened.weekday() > 4 else 0) * DAY
                    book.case(_whole(opened + HOUR / 4), officer(person), match, record=record)
                    book.receipt(_whole(opened + DAY), match, chance.choice(("DISCLOSED", "NOT_DISCLOSED")))
        if number % 5 == 0:
            book.search(day + 10 * HOUR, officer(1, "dpo"), f"subject {number}")
        if number % 20 == 0:
            book.log_read(day + 11 * HOUR, officer(1, "auditor"), reason=f"month {number}")
    return book


def _whole(when: datetime) -> datetime:
    return when.replace(microsecond=0)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_clean_year_gives_nothing(seed: int) -> None:
    assert [each.explanation for each in find(clean_year(seed).in_time())] == []


def test_what_is_found_is_the_same_in_any_order_and_without_bodies_nothing_breaks() -> None:
    book = clean_year(5)
    book.consult(MONDAY, boxes(*range(100_200, 100_208)), officer(1))
    for n in range(70):
        book.review(MONDAY + n * HOUR / 100, officer(4), f"much{n}", confirm=False)
    book.review(MONDAY.replace(hour=3), officer(4), "night", confirm=False)
    log = book.in_time()
    everything = find(log)
    shuffled = log[:]
    random.Random(1).shuffle(shuffled)
    assert find(shuffled) == everything
    assert {each.kind for each in everything} >= {
        Kind.SEQUENTIAL_IDENTIFIERS, Kind.UNUSUAL_LOOKUPS, Kind.OUTSIDE_OFFICE_PATTERN,
    }  # fmt: skip
    for each in everything:
        assert each.explanation.count("Look") == 1
        assert each.entries == tuple(sorted(each.entries))
    for entry in log:
        assert entry.body is not None
    assert {each.kind for each in find(replace(e, body=None) for e in log)} <= {Kind.UNUSUAL_LOOKUPS}
    assert find([]) == []
    rows = list(csv.DictReader(io.StringIO(encode_csv(everything))))
    assert len(rows) == len(everything)
    assert rows[0]["kind"] == "sequential_identifiers"
