from __future__ import annotations

import sys
import unicodedata

import pytest
from stdnum import imo as stdnum_imo
from stdnum import iso6346

from connector_psi.domain import identifiers
from connector_psi.domain.countries import country_code
from connector_psi.domain.identifiers import extract_candidates, normalise
from connector_psi.domain.plates import plate_number
from connector_psi.domain.records import IdentifierType as T
from connector_psi.errors import NormalisationError

CANONICAL = [
    (T.CONTAINER, "CSQU3054383", {}, "CSQU3054383"),
    (T.CONTAINER, "csqu 305438-3", {}, "CSQU3054383"),
    (T.CONTAINER, "CSQU\u2013305\u00a0438\u20113", {}, "CSQU3054383"),
    (T.CONTAINER, "CSQU3O54383", {}, "CSQU3054383"),  # O for 0
    (T.CONTAINER, "CSQU30S4383", {}, "CSQU3054383"),  # S for 5
    (T.CONTAINER, "0OLU1913470", {}, "OOLU1913470"),  # 0 for O
    (T.PLATE, "B-AB 1234", {"country": "D"}, "DE:BAB1234"),
    (T.PLATE, "B-AB 1234", {"country": "deu"}, "DE:BAB1234"),
    (T.PLATE, "de: b-ab 1234", {}, "DE:BAB1234"),
    (T.PLATE, "DE:BAB1234", {"country": "D"}, "DE:BAB1234"),
    (T.PLATE, "AB12 CDE", {"country": "UK"}, "GB:AB12CDE"),
    (T.PLATE, "YHB-1234", {"country": "EL"}, "GR:YHB1234"),
    (T.PLATE, "4T6.8049", {"country": "CZ"}, "CZ:4T68049"),
    (T.PLATE, "LÖ - KS - 6042", {"country": "DE"}, "DE:LOKS6042"),
    (T.PLATE, "LO\u0308KS6042", {"country": "DE"}, "DE:LOKS6042"),
    (T.PLATE, "LOE KS 6042", {"country": "DE"}, "DE:LOKS6042"),
    (T.PLATE, "TMO2BJD", {"country": "RO"}, "RO:TM02BJD"),
    (T.PLATE, "HL84IR", {"country": "NL"}, "NL:HL841R"),
    (T.PLATE, "WPI9558", {"country": "PL"}, "PL:WP19558"),
    (T.PLATE, "A-B-O 1I", {"country": "US"}, "US:ABO1I"),  # no table: nothing is read anew
    (T.VIN, "wvw zzz1jz3w 386752", {}, "WVWZZZ1JZ3W386752"),
    (T.VIN, "WPOZEE1K12K077851", {}, "WP0ZEE1K12K077851"),
    (T.VIN, "WDDJML6JU8W951498", {}, "WDDJML6JU8W951498"),  # its North American check digit is wrong
    (T.IMO, "IMO 9074729", {}, "9074729"),
    (T.IMO, "imo-9074729", {}, "9074729"),
    (T.IMO, "IMO No. 9074729", {}, "9074729"),
    (T.IMO, "9O74729", {}, "9074729"),
    (T.AIRCRAFT, "D-ABCD", {}, "DABCD"),
    (T.AIRCRAFT, "n-123ab", {}, "N123AB"),
    (T.AIRCRAFT, "NI23AB", {}, "N123AB"),
    (T.AIRCRAFT, "9H-ABC", {}, "9HABC"),
    (T.IDENTITY_DOCUMENT, "12 AB 34567", {"country": "FRA", "document_type": "passport"}, "FR/P/12AB34567"),
    (T.IDENTITY_DOCUMENT, "L01X00T47", {"country": "D", "document_type": "ID card"}, "DE/I/L01X00T47"),
    (T.IDENTITY_DOCUMENT, "L01X00T47", {"country": "D", "document_type": "identity_card"}, "DE/I/L01X00T47"),
    (T.IDENTITY_DOCUMENT, "fr / p / 12ab34567", {}, "FR/P/12AB34567"),
    (T.IDENTITY_DOCUMENT, "12/1234/56", {"country": "FI", "document_type": "D"}, "FI/D/12123456"),
    (T.MRN, "23de 1234 5678 9012-34", {}, "23DE12345678901234"),
    (T.TRANSPORT_DOCUMENT, "maeu-123/456 (b)", {}, "MAEU123456B"),
    (T.SEAL, "ml-de 0012", {}, "MLDE0012"),
    (T.EORI, "DE 1234567", {}, "DE1234567"),
    (T.EORI, "XI123456789000", {}, "XI123456789000"),
    (T.EORI, "EL094259216", {}, "GR094259216"),
    (T.VAT, "GR 094259216", {}, "EL094259216"),
    (T.VAT, "094259216", {"country": "GR"}, "EL094259216"),
    (T.VAT, "BE 697.449.992", {}, "BE0697449992"),
    (T.VAT, "DE136695976", {"country": "DE"}, "DE136695976"),
    (T.PHONE, "+49 (0)30 231-251-234", {}, "+4930231251234"),
    (T.PHONE, "0049 30 231251234", {}, "+4930231251234"),
    (T.PHONE, "030 / 231251234", {"country": "DEU"}, "+4930231251234"),
    (T.PHONE, "06 6982", {"country": "IT"}, "+39066982"),  # the zero belongs to an Italian number
    (T.EMAIL, " John.Doe@Example.COM ", {}, "john.doe@example.com"),
    (T.EMAIL, "info@BÜCHER.example", {}, "info@xn--bcher-kva.example"),
    (T.EMAIL, "JÖRG@example.org", {}, "jörg@example.org"),
]

REFUSED = [
    (T.CONTAINER, "", {}, "container.empty"),
    (T.CONTAINER, " - ", {}, "container.empty"),
    (T.CONTAINER, "CSQU3054384", {}, "container.check_digit"),
    (T.CONTAINER, "CSQU305438", {}, "container.length"),
    (T.CONTAINER, "CSQA3054383", {}, "container.format"),
    (T.CONTAINER, "CSQU305ZS83", {}, "container.format"),  # two misread letters leave it to chance
    (T.CONTAINER, "\u0421SQU3054383", {}, "container.characters"),  # Cyrillic Es
    (T.CONTAINER, "CSQU305438\u0663", {}, "container.characters"),  # Arabic-Indic three
    (T.CONTAINER, "CSQU3054383" * 60, {}, "container.too_long"),
    (T.PLATE, "BAB1234", {}, "plate.country_missing"),
    (T.PLATE, "BAB1234", {"country": "QQ"}, "plate.country"),
    (T.PLATE, "QQ:BAB1234", {}, "plate.country"),
    (T.PLATE, ":BAB1234", {"country": "DE"}, "plate.country"),
    (T.PLATE, "DE:BAB1234", {"country": "FR"}, "plate.country_conflict"),
    (T.PLATE, "UNKNOWN", {"country": "DE"}, "plate.format"),
    (T.PLATE, "1", {"country": "DE"}, "plate.length"),
    (T.PLATE, "\u0421\u0410 1234 \u0410\u0412", {"country": "BG"}, "plate.characters"),
    (T.VIN, "WVWZZZ1JZ3W38675", {}, "vin.length"),
    (T.VIN, "WVWZZZ1JZ3W38675Q", {}, "vin.format"),
    (T.VIN, "1" * 17, {}, "vin.format"),
    (T.IMO, "9074728", {}, "imo.check_digit"),
    (T.IMO, "0000000", {}, "imo.format"),
    (T.IMO, "907472", {}, "imo.format"),
    (T.AIRCRAFT, "QABCD", {}, "aircraft.format"),
    (T.AIRCRAFT, "NABCDE", {}, "aircraft.format"),
    (T.AIRCRAFT, "D-ABCDEFGH", {}, "aircraft.length"),
    (T.IDENTITY_DOCUMENT, "12AB34567", {"document_type": "P"}, "identity_document.country_missing"),
    (T.IDENTITY_DOCUMENT, "12AB34567", {"country": "FR"}, "identity_document.document_type_missing"),
    (T.IDENTITY_DOCUMENT, "12AB34567", {"country": "FR", "document_type": "pass"}, "identity_document.document_type"),
    (T.IDENTITY_DOCUMENT, "FR/P/12AB34567", {"country": "DE"}, "identity_document.conflict"),
    (T.IDENTITY_DOCUMENT, "UNKNOWN", {"country": "FR", "document_type": "P"}, "identity_document.format"),
    (T.MRN, "23DE1234567890123", {}, "mrn.length"),
    (T.MRN, "DE2312345678901234", {}, "mrn.format"),
    (T.TRANSPORT_DOCUMENT, "A1", {}, "transport_document.length"),
    (T.TRANSPORT_DOCUMENT, "ORIGINAL", {}, "transport_document.format"),
    (T.SEAL, "NO SEAL", {}, "seal.format"),
    (T.EORI, "QQ123", {}, "eori.country"),
    (T.EORI, "RA123", {}, "eori.country"),  # a vehicle sign is no EORI prefix
    (T.EORI, "DE1234567890123456", {}, "eori.format"),
    (T.VAT, "DE136695977", {}, "vat.invalid"),
    (T.VAT, "US123456789", {}, "vat.invalid"),
    (T.VAT, "136695976", {}, "vat.format"),
    (T.PHONE, "030 231251234", {}, "phone.country_missing"),
    (T.PHONE, "+1 000 000 0000", {}, "phone.invalid"),
    (T.PHONE, "+49 30 23I251234", {}, "phone.format"),
    (T.EMAIL, "john.doe", {}, "email.invalid"),
    (T.EMAIL, "a@localhost", {}, "email.invalid"),
    (T.EMAIL, "x" * 250 + "@example.org", {}, "email.invalid"),
]


@pytest.mark.parametrize(("type_", "value", "kwargs", "canonical"), CANONICAL)
def test_canonical_form(type_: T, value: str, kwargs: dict[str, str], canonical: str) -> None:
    assert normalise(type_, value, **kwargs) == canonical
    assert normalise(type_, canonical) == canonical


@pytest.mark.parametrize(("type_", "value", "kwargs", "reason"), REFUSED)
def test_refusal_names_the_reason_and_not_the_value(type_: T, value: str, kwargs: dict[str, str], reason: str) -> None:
    with pytest.raises(NormalisationError) as caught:
        normalise(type_, value, **kwargs)
    assert caught.value.reason == reason
    assert str(caught.value) == reason
    assert caught.value.__context__ is None


def test_every_type_has_canonical_and_refused_samples() -> None:
    assert {sample[0] for sample in CANONICAL} == set(T) == {sample[0] for sample in REFUSED}


def test_missing_check_digit_is_computed_only_on_request() -> None:
    assert normalise(T.CONTAINER, "csqu 305438", complete_check_digit=True) == "CSQU3054383"
    assert normalise(T.CONTAINER, "CSQU3054383", complete_check_digit=True) == "CSQU3054383"
    with pytest.raises(NormalisationError, match=r"container\.check_digit"):
        normalise(T.CONTAINER, "CSQU3054384", complete_check_digit=True)
    # No check digit could confirm that the O is a 0.
    with pytest.raises(NormalisationError, match=r"container\.format"):
        normalise(T.CONTAINER, "CSQU3O5438", complete_check_digit=True)


def test_check_digits_agree_with_python_stdnum() -> None:
    for number in range(0, 1_000_000, 2_477):
        ten = f"{'ABCDEFGHIJKLMNOPQRSTUVWXYZ'[number % 26]}KU{'UJZ'[number % 3]}{number:06}"
        eleven = normalise(T.CONTAINER, ten, complete_check_digit=True)
        assert iso6346.validate(eleven) == eleven
    for number in range(1_000_000, 9_999_999, 33_331):
        try:
            mine = normalise(T.IMO, str(number))
        except NormalisationError:
            mine = ""
        assert bool(mine) == stdnum_imo.is_valid(str(number))


def test_addresses_with_a_known_domain_are_judged_as_the_library_judges_them() -> None:
    for local in ("a", "a.b", "a+b", "-a", "a%b_c-d", "x" * 64, ".a", "a.", "a..b", "x" * 65, ""):
        whole = identifiers._validated_email(f"{local}@example.org")
        try:
            mine = normalise(T.EMAIL, f"{local}@example.org")
        except NormalisationError:
            mine = ""
        assert mine == whole


def test_every_unicode_dash_and_space_is_a_separator() -> None:
    for char in map(chr, range(sys.maxunicode + 1)):
        if unicodedata.category(char) == "Pd" or char.isspace():
            assert normalise(T.SEAL, f"AB{char}12") == "AB12", f"U+{ord(char):04X}"


@pytest.mark.parametrize(
    ("code", "country"),
    [
        ("DE", "DE"),
        ("DEU", "DE"),
        ("D", "DE"),
        ("EL", "GR"),
        ("UK", "GB"),
        ("XI", "GB"),
        ("RKS", "XK"),
        ("ET", "ET"),
        ("ZZ", ""),
        ("", ""),
    ],
)
def test_country_codes(code: str, country: str) -> None:
    assert country_code(code) == country
    assert country_code(country) == country


@pytest.mark.parametrize(
    ("country", "number", "read"),
    [
        ("DE", "BIO123", "BIO123"),  # fits as it stands
        ("DE", "MBJ0371", "MBJO371"),  # no German number begins with 0
        ("DE", "MKS6I23", "MKS6123"),
        ("DE", "MKS1I23", "MKS1I23"),  # MKS 1123 or MKSII 23
        ("DE", "GOEYZ2743", "GOYZ2743"),  # nine characters: the umlaut was written out
        ("DE", "GOEYZ274", "GOEYZ274"),  # eight: ambiguous, left alone
        ("DE", "ABCDEFGHI", "ABCDEFGHI"),
        ("NL", "IO12AB", "1012AB"),
        ("RO", "BI23ABC", "B123ABC"),
        ("SE", "ABC12O", "ABC12O"),  # the last place may hold a letter
        ("BE", "1OOOO12", "1OOO012"),
        ("IT", "A1II1BC", "AI111BC"),
        ("HR", "ZG0OI0IO", "ZG0010IO"),
        ("XX", "O0I1", "O0I1"),
    ],
)
def test_plate_layouts(country: str, number: str, read: str) -> None:
    assert plate_number(country, number) == read
    assert plate_number(country, read) == read


def test_candidates_in_free_text() -> None:
    text = (
        "1 USED CAR, VIN: WVW ZZZ1JZ3W 386752 / chassis no. WAUZZZ8K9BA123456; in csqu 305438-3\n"
        "ex M/V AMBER IMO: 9074729. Driver PASSPORT NO: FR 12AB34567, ID CARD DE L01X00T47, CSQU3054383"
    )
    assert extract_candidates(text) == [
        (T.VIN, "WVWZZZ1JZ3W386752"),
        (T.VIN, "WAUZZZ8K9BA123456"),
        (T.CONTAINER, "CSQU3054383"),
        (T.IMO, "9074729"),
        (T.IDENTITY_DOCUMENT, "FR/P/12AB34567"),
        (T.IDENTITY_DOCUMENT, "DE/I/L01X00T47"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "CSQU3054384",  # check digit
        "CSQU305438",  # none
        "XCSQU3054383",  # part of a longer word
        "CSQU30543831",
        "CSQU3O54383",  # look-alikes are not read in free text
        "9074729",  # a number without the word IMO
        "IMO 9074728",
        "SHIPIMO 9074729",
        "REF WVWZZZ1JZ3W38675",  # 16 characters
        "WVWZZZ1JZ3W3867522",
        "A-WVWZZZ1JZ3W386752",
        "WVWZZZ1JZ3W38675A",  # the last four are digits
        "12345678901234567",
        "PASSPORT 12345678",
        "PASSPORT NO 12345678",  # NO is a word here, not Norway
        "PASSPORT NR 12345678",
        "PASSPORT ID 12345678",
        "PASSPORT QQ 12345678",
        "PASSPORT FR ABCDEFGH",
        "12AB34567",
        "CHASSIS PARTS AND BRAKES FOR TRUCKS",
    ],
)
def test_free_text_without_certain_candidates(text: str) -> None:
    assert extract_candidates(text) == []


def test_norwegian_passport_is_found_behind_the_word_number() -> None:
    assert extract_candidates("passport no. NO 12345678") == [(T.IDENTITY_DOCUMENT, "NO/P/12345678")]


def test_normalisation_version_names_the_rules() -> None:
    """A changed known answer above needs another version, or two nodes silently never match."""
    assert identifiers.NORMALISATION_VERSION == "cp-norm-1"
