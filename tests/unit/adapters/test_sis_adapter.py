"""SIS alerts from the project's exchange format."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest

from connector_psi.adapters import sis
from connector_psi.domain.purposes import CATEGORIES, PERSON_CATEGORIES
from connector_psi.domain.records import Field, PartyKind, Rank, SourceSystem, Supersession, version_of
from connector_psi.domain.things import PersonKeys
from tests.adapter_samples import (
    BAD_BOX,
    BOX_A,
    alert,
    as_csv,
    codes,
    documentation,
    documented_examples,
    jsonl,
    read,
    supersessions,
    values,
)

PLATE = {"plate": "B-AB 1234", "plate_country": "DE"}
DOCUMENT = {"document_number": "12AB34567", "document_type": "passport", "document_country": "FR"}
ENGINE = {"serial_number": "2003 123456", "make": "Volvo"}
CAR = [("vin", "WVWZZZ1JZXW000001"), ("plate", "DE:BAB1234")]
# Point of Article 38(2), the object, its identifiers. IMEI: the example of 3GPP TS 23.003; card: a published test number.
OBJECTS = [
    ("a", {"type": "vehicle", "vin": "WVWZZZ1JZXW000001", **PLATE}, CAR),
    ("a", {"type": "vehicle", "plate": "DE:BAB1234"}, CAR[1:]),
    ("a", {"type": "vehicle", "plate": "B-AB 1234"}, [("plate_number", "BAB1234")]),
    ("a", {"type": "vehicle", "vin_last8": "XW000001"}, [("vin_last8", "XW000001")]),
    ("b", {"type": "trailer", **PLATE}, CAR[1:]),
    ("c", {"type": "caravan", "vin": "WVWZZZ1JZXW000001"}, CAR[:1]),
    ("d", {"type": "industrial_equipment", **ENGINE}, [("industrial_equipment", "VOLVO/2003123456")]),
    (
        "e",
        {"type": "boat", "imo": "IMO 9074729", "eni": "02345678", "mmsi": "211234560"},
        [("imo", "9074729"), ("eni", "02345678"), ("mmsi", "211234560")],
    ),
    (
        "e",
        {"type": "boat", "hull_number": "FR-ABC12345A898", "boat_registration": "LR A12345"},
        [("hull", "FRABC12345A898"), ("serial", "LRA12345")],
    ),
    ("f", {"type": "boat_engine", **ENGINE}, [("engine", "VOLVO/2003123456")]),
    ("f", {"type": "boat_engine", "serial_number": "2003 123456"}, [("serial", "2003123456")]),
    ("g", {"type": "container", "container_number": "csqu 305438 3"}, [("container", BOX_A)]),
    ("h", {"type": "aircraft", "aircraft_registration": "D-ABCD"}, [("aircraft", "DABCD")]),
    ("i", {"type": "aircraft_engine", **ENGINE}, [("engine", "VOLVO/2003123456")]),
    (
        "j",
        {"type": "firearm", "serial_number": "C12345", "make": "Colt", "calibre": ".45 ACP"},
        [("firearm", "COLT/45ACP/C12345")],
    ),
    ("j", {"type": "firearm", "serial_number": "C12345", "make": "Colt"}, [("serial", "C12345")]),
    ("k", {"type": "blank_document", **DOCUMENT}, [("identity_document", "FR/P/12AB34567")]),
    ("l", {"type": "issued_document", **DOCUMENT}, [("identity_document", "FR/P/12AB34567")]),
    ("m", {"type": "vehicle_registration", **PLATE}, CAR[1:]),
    (
        "m",
        {"type": "vehicle_registration", **DOCUMENT, "document_type": "vehicle_registration"},
        [("identity_document", "FR/V/12AB34567")],
    ),
    (
        "n",
        {"type": "banknote", "serial_number": "X12345678901", "currency": "EUR", "denomination": "50"},
        [("banknote", "EUR/50/X12345678901")],
    ),
    ("o", {"type": "it_item", "imei": "49-015420-323751-8"}, [("imei", "490154203237518")]),
    ("o", {"type": "it_item", "serial_number": "C02ABC123", "make": "Apple"}, [("item", "APPLE/C02ABC123")]),
    ("p", {"type": "vehicle_component", **ENGINE}, [("component", "VOLVO/2003123456")]),
    ("q", {"type": "equipment_component", **ENGINE}, [("component", "VOLVO/2003123456")]),
    ("r", {"type": "high_value_object", "serial_number": "M1234567", "make": "Rolex"}, [("item", "ROLEX/M1234567")]),
]
MEANS_OF_PAYMENT = [
    ({"type": "payment_card", "card_number": "4111 1111 1111 1111"}, [("payment_card", "411111*1111")]),
    ({"type": "bank_account", "iban": "DE89 3704 0044 0532 0130 00"}, [("iban", "DE89370400440532013000")]),
]
PERSON = {
    "surnames": "Mustermann",
    "forenames": "Erika Maria",
    "names_at_birth": ["Gabler"],
    "previous_names": ["Beispiel, Erika"],
    "aliases": ["La Rossa"],
    "birth_date": "1964-08-12",
    "birth_place": "Berlin",
    "gender": "female",
    "nationalities": ["DE", "FR"],
    "national_register_number": "64.08.12-123.45",
    "register_country": "BE",
    **DOCUMENT,
    "document_issued": "2019-05",
    "more_documents": ["DE/I/L01X00T47"],
}
PERSON_IDS = ["FR/P/12AB34567", "DE/I/L01X00T47", "BE/N/64081212345"]


def on_person(article: str = "26", action: str = "arrest_surrender", **changes: Any) -> dict[str, Any]:
    return alert(**{"article": article, "action": action, "category": None, "object": None, "person": PERSON} | changes)


@pytest.mark.parametrize(("category", "sought", "expected"), OBJECTS)
def test_each_type_of_object_in_both_forms(category: str, sought: dict[str, Any], expected: Any) -> None:
    line = alert(category=category, object=sought)
    for data, form, places in (
        (jsonl(line), "sis-jsonl", {f"$.object.{key}" for key in sought}),
        (as_csv(sis.COLUMNS, line), "sis-csv", set(sought)),
    ):
        [record], issues = read(data, form)
        assert issues == []
        assert [(x.type.value, x.value) for x in record.identifiers] == expected
        assert {x.source_path for x in record.identifiers} <= places
        assert (record.source, record.source_ref, record.category) == (
            SourceSystem.SIS,
            "DE0000000000001",
            f"sis.38.{category}",
        )
        assert record.fields[Field.OBJECT_TYPE] == (sought["type"],)
        assert record.fields[Field.OBJECT_IDENTIFIERS] == tuple(f"{kind} {value}" for kind, value in expected)
        assert record.parties == ()


def test_every_point_of_the_list_has_an_object_that_is_read() -> None:
    assert {point for point, _, _ in OBJECTS} == set("abcdefghijklmnopqr")
    assert {sought["type"] for _, sought, _ in OBJECTS} | {sought["type"] for sought, _ in MEANS_OF_PAYMENT} == set(
        sis.OBJECT_TYPES
    )


@pytest.mark.parametrize(("sought", "expected"), MEANS_OF_PAYMENT)
def test_means_of_payment_are_checked_and_never_seized(sought: dict[str, Any], expected: Any) -> None:
    [record], issues = read(jsonl(alert(article="36", category=None, action="specific_check", object=sought)))
    assert ([(x.type.value, x.value) for x in record.identifiers], record.category, issues) == (expected, "sis.36", [])
    # A whole card number is kept nowhere.
    assert "4111111111111111" not in str((record.identifiers, record.fields))
    records, issues = read(jsonl(alert(category=None, object=sought)))
    assert (records, codes(issues)) == ([], ["sis.category_not_allowed"])


def test_a_range_of_blank_documents_is_each_of_them() -> None:
    sought = {
        "type": "blank_document",
        **DOCUMENT,
        "document_number": "12AB00098",
        "document_number_last": "12AB00102",
    }
    for data, form in (
        (jsonl(alert(category="k", object=sought)), "sis-jsonl"),
        (as_csv(sis.COLUMNS, alert(category="k", object=sought)), "sis-csv"),
    ):
        [record], issues = read(data, form)
        assert issues == []
        assert values(record, "identity_document") == [f"FR/P/12AB{n:05}" for n in range(98, 103)]
        assert record.fields[Field.OBJECT_IDENTIFIERS] == ("identity_document FR/P/12AB00098 to FR/P/12AB00102",)
    [record], _ = read(jsonl(alert(category="k", object={**sought, "document_number_last": "12AB10097"})))
    assert len(record.identifiers) == 10_000
    for last, code in (("12AB10098", "range_too_large"), ("12AB00097", "range"), ("13AB00102", "range")):
        records, issues = read(jsonl(alert(category="k", object={**sought, "document_number_last": last})))
        assert records == []
        assert [(x.code, x.path) for x in issues] == [(f"identity_document.{code}", "$.object.document_number")]


def test_a_description_gives_what_it_certainly_holds() -> None:
    sought = {"type": "trailer", **PLATE, "description": "loaded with container CSQU 305438 3, unit 12345678"}
    [record], issues = read(jsonl(alert(category="b", object=sought)))
    assert issues == []
    assert [(x.value, x.source_path) for x in record.identifiers] == [
        ("DE:BAB1234", "$.object.plate"),
        (BOX_A, "$.object.description#free_text"),
    ]
    assert "12345678" not in str(record.fields)


def test_everything_an_alert_can_say() -> None:
    line = alert(
        reason="vol aggravé\u00a0: conteneur", offence="trafficking", valid_until="2027-01-01T00:00:00+01:00", hidden=True,
        article="38(2)(g)", authority="LKA 4", decision_reference="12 Js 345/26", links=["DE-PERSON-1", "DE-PERSON-2"],
        updated_at="2026-05-01T10:00:00Z", warnings=["armed", "violent"],
    )  # fmt: skip
    both = [read(jsonl(line), "sis-jsonl")[0][0], read(as_csv(sis.COLUMNS, line), "sis-csv")[0][0]]
    assert both[0].fields == both[1].fields
    for record in both:
        assert record.hidden is True
        assert record.valid_until == datetime(2026, 12, 31, 23, 0, tzinfo=UTC)
        assert record.version == version_of(datetime(2026, 5, 1, 10, tzinfo=UTC))
        assert (record.category, record.message_ref) == ("sis.38.g", "")
        assert dict(record.fields) == {
            Field.OBJECT_IDENTIFIERS: (f"container {BOX_A}",),
            Field.OBJECT_TYPE: ("container",),
            Field.ACTION: ("seizure",),
            Field.SCHENGEN_ID: ("DE0000000000001",),
            Field.ISSUING_STATE: ("DE",),
            Field.SIRENE_CONTACT: ("SIRENE DE, duty desk",),
            Field.PROVIDER: ("LKA 4",),
            Field.DECISION_REFERENCE: ("12 Js 345/26",),
            Field.ALERT_REASON: ("vol aggravé\u00a0: conteneur",),
            Field.OFFENCE: ("trafficking",),
            Field.WARNINGS: ("armed", "violent"),
            Field.LINKS: ("DE-PERSON-1", "DE-PERSON-2"),
        }


def test_everything_an_alert_can_say_of_a_person() -> None:
    line = on_person(flags=["FR", "IT"], links=["DE-CAR-1"], reason="European arrest warrant", warnings=["absconded"])
    both = [read(jsonl(line), "sis-jsonl"), read(as_csv(sis.COLUMNS, line), "sis-csv")]
    for ([record], issues), place in zip(both, ("$.person.surnames", "surnames"), strict=True):
        assert issues == []
        assert record.category == "sis.person.26"
        assert values(record, "identity_document") == PERSON_IDS
        [party] = record.parties
        assert (party.role, party.kind, party.name, party.source_path) == (
            "subject", PartyKind.PERSON, "Mustermann, Erika Maria", place,
        )  # fmt: skip
        assert party.aliases == ("Gabler", "Beispiel, Erika", "La Rossa")
        assert (party.birth_date, party.birth_place, party.gender) == ("1964-08-12", "Berlin", "female")
        assert party.nationalities == ("DE", "FR")
        assert dict(record.fields) == {
            Field.OBJECT_TYPE: ("person",),
            Field.SUBJECT_CLASS: ("wanted_for_arrest",),
            Field.NAMES: ("Mustermann, Erika Maria", "Gabler", "Beispiel, Erika", "La Rossa"),
            Field.BIRTH: ("1964-08-12, Berlin",),
            Field.GENDER: ("female",),
            Field.NATIONALITY: ("DE", "FR"),
            Field.DOCUMENTS: (
                "identity_document FR/P/12AB34567, issued 2019-05",
                "identity_document DE/I/L01X00T47",
                "identity_document BE/N/64081212345",
            ),
            Field.ACTION: ("arrest_surrender",),
            Field.SCHENGEN_ID: ("DE0000000000001",),
            Field.ISSUING_STATE: ("DE",),
            Field.SIRENE_CONTACT: ("SIRENE DE, duty desk",),
            Field.ALERT_REASON: ("European arrest warrant",),
            Field.WARNINGS: ("absconded",),
            Field.FLAGS: ("FR", "IT"),
            Field.LINKS: ("DE-CAR-1",),
        }


@pytest.mark.parametrize(
    ("article", "case", "action", "subject_class"),
    [
        ("26", None, "arrest_extradition", "wanted_for_arrest"),
        ("32", None, "communicate_whereabouts", "missing_or_vulnerable"),
        ("32", "a", "place_under_protection", "missing_to_be_protected"),
        ("32", "b", "communicate_whereabouts", "missing"),
        ("32", "c", "prevent_from_travelling", "child_at_risk_of_abduction"),
        ("32", "d", "prevent_from_travelling", "child_at_risk"),
        ("32", "e", "prevent_from_travelling", "vulnerable_adult"),
        ("34", None, "communicate_whereabouts", "sought_for_judicial_procedure"),
        ("34", "a", "communicate_whereabouts", "witness"),
        ("36", None, "inquiry_check", "to_be_checked"),
        ("24", None, "refuse_entry", "refused_entry"),
        ("25", None, "refuse_entry", "under_restrictive_measure"),
    ],
)
def test_each_article_on_persons_has_its_class(article: str, case: str | None, action: str, subject_class: str) -> None:
    person = {key: value for key, value in PERSON.items() if "register" not in key}
    [record], issues = read(jsonl(on_person(article, action, case=case, case_type="runaway", person=person)))
    assert issues == []
    assert record.category == f"sis.person.{article}"
    assert record.fields[Field.SUBJECT_CLASS] == (subject_class,)
    assert record.fields[Field.ALERT_REASON] == ("runaway",)


@pytest.mark.parametrize(
    ("written", "read_as"),
    [("1980", "1980"), ("1980-05", "1980-05"), ("1980-05-00", "1980-05"), ("1980-00-00", "1980"), ("1980-02-29", "1980-02-29")],
)  # fmt: skip
def test_a_date_of_birth_may_be_known_in_part(written: str, read_as: str) -> None:
    [record], issues = read(jsonl(on_person(person={"surnames": "Muster", "birth_date": written})))
    assert (record.parties[0].birth_date, record.fields[Field.BIRTH], issues) == (read_as, (read_as,), [])


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"birth_date": "1981-02-29"}, "birth_date"),
        ({"birth_date": "12.8.1964"}, "birth_date"),
        ({"birth_date": 1964}, "birth_date"),
        ({"gender": "F"}, "gender"),
        ({"nationalities": ["DE", "Germany"]}, "nationalities"),
        ({"aliases": "La Rossa"}, "aliases"),
        ({"aliases": ["La Rossa", 7]}, "aliases"),
        ({"document_country": "France"}, "document_country"),
    ],
)
def test_what_is_wrong_in_a_description_costs_itself(changes: dict[str, Any], place: str) -> None:
    [record], issues = read(jsonl(on_person(person={**PERSON, **changes})))
    assert (issues[0].code, issues[0].path, issues[0].rejects_record) == ("field.invalid", f"$.person.{place}", False)
    # Without its country a document has no canonical form; nothing else is touched.
    assert codes(issues[1:]) == ["identity_document.country_missing"] * (place == "document_country")
    assert record.parties[0].name == "Mustermann, Erika Maria"
    whole, _ = read(jsonl(on_person()))
    assert set(values(record, "identity_document")) >= set(PERSON_IDS[1:])
    if changes == {"aliases": ["La Rossa", 7]}:
        assert record.parties == whole[0].parties
    if changes == {"nationalities": ["DE", "Germany"]}:
        assert record.parties[0].nationalities == ("DE",)


def test_a_name_alone_makes_an_alert_on_a_person() -> None:
    for person, name in (
        ({"surnames": "Muster"}, "Muster"),
        ({"forenames": "Max"}, "Max"),
        ({"name": "Muster Max"}, "Muster Max"),
        ({"aliases": ["El Toro"]}, "El Toro"),
    ):
        [record], issues = read(jsonl(on_person(person=person)))
        assert ([party.name for party in record.parties], record.identifiers, issues) == ([name], (), [])
    records, issues = read(jsonl(on_person(person={"birth_date": "1980", "gender": "male"})))
    assert (records, [(x.code, x.path) for x in issues]) == ([], [("sis.no_identifier", "$.person")])


def test_third_country_nationals_have_no_number_in_a_national_register() -> None:
    # Regulation (EU) 2018/1861, Article 20(2), does not list one; Article 20(3)(q) of 2018/1862 does.
    [record], issues = read(jsonl(on_person("24", "refuse_entry")))
    assert values(record, "identity_document") == PERSON_IDS[:2]
    assert [(x.code, x.path) for x in issues] == [
        ("sis.identifier_not_of_type", "$.person.national_register_number"),
        ("sis.identifier_not_of_type", "$.person.register_country"),
    ]


@pytest.mark.parametrize("article", ["26", "32", "34", "36"])
def test_objects_may_be_entered_to_locate_a_person(article: str) -> None:
    action = "specific_check" if article == "36" else "communicate_whereabouts"
    [record], issues = read(jsonl(alert(article=article, action=action, links=["DE-PERSON-1"])))
    assert (record.category, record.fields[Field.LINKS], issues) == (f"sis.{article}", ("DE-PERSON-1",), [])
    assert Field.SUBJECT_CLASS not in record.fields
    [record], issues = read(jsonl(alert(article=article, action=action)))
    expected = [] if article == "36" else [("sis.link_missing", "$.links", False)]
    assert [(x.code, x.path, x.rejects_record) for x in issues] == expected


# Source: Regulation (EU) 2018/1862, Articles 26(5), 32(8), 34(2), 36(1) and 38(2).
@pytest.mark.parametrize(
    ("article", "points"),
    [("26", "abceghjk"), ("32", "abceghk"), ("34", "abceghk"), ("36", "abceghjkl"), ("38", "abcdefghijklmnopqr")],
)
def test_each_article_allows_the_objects_that_it_names(article: str, points: str) -> None:
    allowed = {kind.category for kind in sis.OBJECT_TYPES.values() if article in kind.articles}
    assert allowed - {""} == set(points)
    assert ("" in allowed) is (article == "36")
    for category, sought, _ in OBJECTS:
        action = min(sis.ARTICLES[article].actions)
        records, issues = read(
            jsonl(alert(article=article, category=category, object=sought, action=action, links=["DE-1234"]))
        )
        assert [bool(records), codes(issues)] == (
            [True, []] if category in points else [False, ["sis.category_not_allowed"]]
        )


@pytest.mark.parametrize(("article", "action"), [(n, a) for n in sis.ARTICLES for a in get_args(sis.Action)])
def test_each_article_has_its_own_actions(article: str, action: str) -> None:
    line = alert(article=article, action=action) if article == "38" else on_person(article, action)
    records, issues = read(jsonl(line))
    assert bool(records) is (action in sis.ARTICLES[article].actions)
    assert ("sis.action_mismatch" in codes(issues)) is not bool(records)


@pytest.mark.parametrize("article", sorted(sis.ARTICLES))
def test_flags_belong_to_three_articles(article: str) -> None:
    # Source: Regulation (EU) 2018/1862, Article 24(1).
    action = min(sis.ARTICLES[article].actions)
    line = alert(article=article, action=action, flags=["FR"], links=["DE-1234"])
    if article in {"24", "25"}:
        line = on_person(article, action, flags=["FR"], person={"surnames": "Muster"})
    [record], issues = read(jsonl(line))
    if article in {"26", "32", "36"}:
        assert (record.fields[Field.FLAGS], issues) == (("FR",), [])
    else:
        assert Field.FLAGS not in record.fields
        assert [(x.code, x.path, x.rejects_record) for x in issues] == [("sis.flag_not_allowed", "$.flags", False)]


@pytest.mark.parametrize(
    ("changes", "code", "path"),
    [
        ({"article": "40"}, "sis.biometric_only", "$.article"),
        ({"article": "40", "object": None, "action": "identify"}, "sis.biometric_only", "$.article"),
        ({"article": "37"}, "sis.article_not_supported", "$.article"),
        ({"article": "37a"}, "sis.article_not_supported", "$.article"),
        ({"article": "3"}, "sis.article_not_supported", "$.article"),
        ({"article": "38(2)"}, "sis.article_not_supported", "$.article"),
        ({"article": "38\n"}, "sis.article_not_supported", "$.article"),
        ({"article": "36(2)(g)"}, "sis.article_not_supported", "$.article"),
        ({"article": 38}, "field.invalid", "$.article"),
        ({"article": None}, "field.missing", "$.article"),
        ({"article": "26", "object": None}, "field.missing", "$.person"),
        ({"article": "24", "action": "refuse_entry"}, "sis.subject_mismatch", "$.object"),
        ({"person": PERSON}, "sis.subject_mismatch", "$.person"),
        ({"person": PERSON, "object": None}, "sis.subject_mismatch", "$.person"),
        ({"article": "26", "action": "arrest_surrender", "person": PERSON}, "sis.subject_mismatch", "$.person"),
        ({"article": "38(2)(a)"}, "sis.category_mismatch", "$.category"),
        ({"category": "a"}, "sis.category_mismatch", "$.category"),
        ({"category": "s"}, "field.invalid", "$.category"),
        (
            {
                "article": "36",
                "action": "discreet_check",
                "category": "m",
                "object": {"type": "vehicle_registration", **PLATE},
            },
            "sis.category_not_allowed",
            "$.object.type",
        ),
        ({"action": "discreet_check"}, "sis.action_mismatch", "$.action"),
        ({"article": "36"}, "sis.action_mismatch", "$.action"),
        ({"action": "arrest"}, "field.invalid", "$.action"),
        ({"object": {"type": "spaceship"}}, "field.invalid", "$.object.type"),
        ({"object": {"container_number": BOX_A}}, "field.missing", "$.object.type"),
        ({"object": BOX_A}, "field.invalid", "$.object"),
        ({"object": None}, "field.missing", "$.object"),
        ({"object": {"type": "container"}}, "sis.no_identifier", "$.object"),
        ({"schengen_id": None}, "field.missing", "$.schengen_id"),
        ({"schengen_id": "x"}, "field.invalid", "$.schengen_id"),
        ({"schengen_id": "DE/../ x"}, "field.invalid", "$.schengen_id"),
        ({"issuing_state": "de"}, "field.invalid", "$.issuing_state"),
        ({"sirene_contact": None}, "field.missing", "$.sirene_contact"),
        ({"warnings": ["rude"]}, "field.invalid", "$.warnings"),
        ({"warnings": "armed"}, "field.invalid", "$.warnings"),
        ({"flags": ["France"]}, "field.invalid", "$.flags"),
        ({"links": ["x"]}, "field.invalid", "$.links"),
        ({"hidden": "yes"}, "field.invalid", "$.hidden"),
        ({"hidden": 1}, "field.invalid", "$.hidden"),
        ({"withdrawn": "yes"}, "field.invalid", "$.withdrawn"),
        ({"updated_at": "yesterday"}, "field.invalid", "$.updated_at"),
        ({"valid_until": "2027-01-01T00:00:00"}, "field.invalid", "$.valid_until"),
        ({"valid_until": "2027-13-01T00:00:00Z"}, "field.invalid", "$.valid_until"),
        ({"valid_until": 1893456000}, "field.invalid", "$.valid_until"),
        ({"valid_until": "0001-01-01T00:00:00+14:00"}, "field.invalid", "$.valid_until"),
        (
            {"object": {"type": "container", "container_number": BAD_BOX}},
            "container.check_digit",
            "$.object.container_number",
        ),
    ],
)
def test_what_rejects_an_alert(changes: dict[str, Any], code: str, path: str) -> None:
    records, issues = read(jsonl(alert(**changes), alert(schengen_id="DE-NEXT")), "sis-jsonl")
    assert [record.source_ref for record in records] == ["DE-NEXT"]
    assert [(x.code, x.line, x.path, x.rejects_record) for x in issues] == [(code, 1, path, True)]


def test_one_usable_identifier_keeps_an_alert() -> None:
    sought = {"type": "vehicle", "vin": "WVW", **PLATE, "imo": "9074729"}
    for data, form, prefix in (
        (jsonl(alert(category="a", object=sought)), "sis-jsonl", "$.object."),
        (as_csv(sis.COLUMNS, alert(category="a", object=sought)), "sis-csv", ""),
    ):
        [record], issues = read(data, form)
        assert values(record, "plate") == ["DE:BAB1234"]
        assert len(record.identifiers) == 1
        assert [(x.code, x.path, x.rejects_record) for x in issues] == [
            ("sis.identifier_not_of_type", f"{prefix}imo", False),
            ("vin.length", f"{prefix}vin", False),
        ]


def test_a_lost_alert_counts_once_however_many_places_are_wrong() -> None:
    for line in (
        alert(category="a", object={"type": "vehicle", "vin": "WVW", "plate": "UNKNOWN"}),
        alert(action="x", hidden=3, issuing_state=4),
        alert(object={"type": "container", "container_number": 7}),
        alert(object={"container_number": 7, "description": 8}),
    ):
        records, issues = read(jsonl(line), "sis-jsonl")
        assert records == []
        assert [x.rejects_record for x in issues] == [False] * (len(issues) - 1) + [True]
        assert len(issues) > 1


def test_biometric_data_is_never_read() -> None:
    needle = "QZPLANT7"
    person = {**PERSON, "dactyloscopic_data": needle, "facialImages": [needle], "photographs": needle}
    line = on_person(person=person, dna_profile=needle, extra=needle)
    records, issues = read(jsonl(line, line), "sis-jsonl")
    assert len(records) == 2
    assert needle not in str([(x.identifiers, x.fields, x.parties) for x in records])
    assert [(x.code, x.path, x.line, x.rejects_record) for x in issues] == [
        ("key.special_category", "$.*", 1, False),
        ("json.unknown_key", "$.*", 1, False),
        ("key.special_category", "$.person.*", 1, False),
    ]
    data = as_csv(sis.COLUMNS, on_person())
    head, row = data.splitlines()
    records, issues = read(head + b",fingerprints\n" + row + b",QZPLANT7\n", "sis-csv")
    assert len(records) == 1
    assert [(x.code, x.path) for x in issues] == [("key.special_category", "*")]


def test_a_deleted_alert_is_withdrawn_with_its_key_and_its_time_alone() -> None:
    when = datetime(2026, 5, 1, 10, tzinfo=UTC)
    line = {"schengen_id": "DE-1234", "updated_at": "2026-05-01T10:00:00Z", "withdrawn": True}
    expected = Supersession(
        SourceSystem.SIS, "DE-1234", version_of(when, Rank.WITHDRAWAL), withdrawn=True, reason="deleted"
    )
    assert supersessions(jsonl(line, alert(), {**alert(schengen_id="DE-1234"), **line}), "sis-jsonl") == [expected] * 2
    assert supersessions(as_csv(sis.COLUMNS, line), "sis-csv") == [expected]
    assert supersessions(b"schengen_id,updated_at,withdrawn\nDE-1234,2026-05-01T10:00:00Z,true\n", "sis-csv") == [
        expected
    ]
    # It is newer than what was entered at the same time.
    [record], _ = read(jsonl(alert(updated_at="2026-05-01T10:00:00Z")))
    assert expected.version > record.version


@pytest.mark.parametrize("lacking", ["schengen_id", "updated_at"])
def test_a_withdrawal_without_key_or_time_is_reported_and_withdraws_nothing(lacking: str) -> None:
    line = {"schengen_id": "DE-1234", "updated_at": "2026-05-01T10:00:00Z", "withdrawn": True}
    del line[lacking]
    records, issues = read(jsonl(line, alert()))
    assert [record.source_ref for record in records] == ["DE0000000000001"]
    assert [(x.code, x.path, x.rejects_record) for x in issues] == [("field.missing", f"$.{lacking}", True)]
    assert supersessions(jsonl(line), "sis-jsonl") == []


def test_the_model_writes_what_the_reader_reads() -> None:
    until = datetime(2027, 1, 1, tzinfo=UTC)
    for written in (
        sis.SisAlert(
            schengen_id="DE-1234", issuing_state="DE", article="38", category="g", action="evidence",
            sirene_contact="desk", object=sis.SisObject(type="container", container_number=BOX_A), valid_until=until,
        ),
        sis.SisAlert(
            schengen_id="DE-1234", issuing_state="DE", article="34", action="communicate_whereabouts",
            sirene_contact="desk", person=PersonKeys(surnames="Muster", aliases=("M",)), valid_until=until,
        ),
    ):  # fmt: skip
        [record], issues = read(written.model_dump_json(exclude_none=True).encode(), "sis-jsonl")
        assert issues == []
        assert (record.source_ref, record.valid_until) == ("DE-1234", until)


def test_the_tables_of_the_format_agree() -> None:
    assert [kind.category for kind in sis.OBJECT_TYPES.values()] == [*"abcdefghijklmnopqr", "", ""]
    names = set(sis.SisObject.model_fields)
    assert {name for kind in sis.OBJECT_TYPES.values() for name in kind.kind.names} == names - {"type"}
    assert set(get_args(sis.ObjectTypeName)) == set(sis.OBJECT_TYPES)
    assert {action for article in sis.ARTICLES.values() for action in article.actions} == set(get_args(sis.Action))
    assert {column.keys for column in sis.COLUMNS.values()} == (
        {("object", name) for name in names}
        | {("person", name) for name in PersonKeys.model_fields}
        | {(name,) for name in sis.SisAlert.model_fields if name not in {"object", "person"}}
    )
    # What identifies a person in any article is a key of the format.
    for article in sis.ARTICLES.values():
        assert article.person is None or article.person.names <= set(PersonKeys.model_fields)


def test_every_category_is_in_the_vocabulary() -> None:
    objects = {f"sis.38.{kind.category}" for kind in sis.OBJECT_TYPES.values() if kind.category}
    objects |= {f"sis.{number}" for kind in sis.OBJECT_TYPES.values() for number in kind.articles - {"38"}}
    persons = {f"sis.person.{number}" for number, article in sis.ARTICLES.items() if article.person is not None}
    assert {name for name in CATEGORIES if name.startswith("sis.")} == objects | persons
    assert persons <= PERSON_CATEGORIES


def test_the_objects_are_those_of_the_article(shared: Path) -> None:
    with (shared / "reference" / "sis" / "objects_art38.csv").open(encoding="utf-8", newline="") as file:
        points = {row["point"]: row["art36_allowed"] == "yes" for row in csv.DictReader(file) if row["point"] != "-"}
    assert {kind.category: kind.in_article_36 for kind in sis.OBJECT_TYPES.values() if kind.category} == points


def test_the_format_is_documented() -> None:
    text = documentation("sis") + documentation("things")
    wanted = [*sis.COLUMNS, *sis.OBJECT_TYPES, *sis.CODES, *get_args(sis.Action), *get_args(sis.Warning_)]
    wanted += [
        name for article in sis.ARTICLES.values() for name in (article.subject_class, *article.cases.values()) if name
    ]
    assert [word for word in wanted if f"`{word}`" not in text] == []


def test_the_examples_in_the_documentation_are_read() -> None:
    for form, data in documented_examples("sis").items():
        records, issues = read(data, f"sis-{form}")
        assert codes(issues) == []
        assert len(records) >= 3
        assert len(supersessions(data, f"sis-{form}")) == 1
