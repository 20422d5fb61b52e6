"""Canonical forms: idempotent, blind to how a value is written, and never an error of another kind."""

from __future__ import annotations

import random
import re
import string

import phonenumbers
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from stdnum.eu import vat as eu_vat

from connector_psi.domain.identifiers import MAX_CANONICAL_BYTES, extract_candidates, normalise
from connector_psi.domain.records import IdentifierType as T
from connector_psi.errors import NormalisationError

fixed = settings(derandomize=True, database=None, deadline=None, max_examples=40)

UPPER_DIGITS = string.ascii_uppercase + string.digits
FULL_WIDTH = {char: chr(ord(char) + 0xFEE0) for char in map(chr, range(0x21, 0x7F))}
SEPARATORS = [
    " ",
    "\u00a0",
    "\u2009",
    "\u3000",
    "\t",
    "-",
    "\u2010",
    "\u2011",
    "\u2013",
    "\u2014",
    "\u2212",
    "\ufe63",
    "\uff0d",
    "\u200b",
    "\u00ad",
]

# Published examples of the tax administrations, as in the documentation of python-stdnum.
VAT_NUMBERS = [
    "ATU13585627",
    "BE0697449992",
    "DE136695976",
    "DK13585628",
    "EL094259216",
    "FI20774740",
    "FR40303265045",
    "IT00743110157",
    "NL004495445B01",
    "PL8567346215",
]

# Member states, and what stands beside them: one-stop shop (EU, IM), Greece twice, Northern Ireland.
VAT_PREFIXES = [*sorted(country.upper() for country in eu_vat.MEMBER_STATES), "EL", "EU", "IM", "GB"]


def text_of(alphabet: str, shortest: int, longest: int) -> st.SearchStrategy[str]:
    return st.text(alphabet, min_size=shortest, max_size=longest)


def joined(*parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(*parts).map("".join)


def imo_number(six: int) -> str:
    digits = str(six)
    return digits + str(sum(int(digit) * weight for digit, weight in zip(digits, range(7, 1, -1), strict=True)) % 10)


def example_phone(region: str) -> str:
    number = phonenumbers.example_number(region)
    assert number is not None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


letters = st.sampled_from(string.ascii_uppercase)
containers = joined(text_of(string.ascii_uppercase, 3, 3), st.sampled_from("UJZ"), text_of(string.digits, 6, 6)).map(
    lambda ten: normalise(T.CONTAINER, ten, complete_check_digit=True)
)
VALID: dict[T, st.SearchStrategy[str]] = {
    T.CONTAINER: containers,
    T.PLATE: joined(
        st.sampled_from(["DE", "PL", "NL", "RO", "CZ", "BG", "ES", "FR", "IT", "BE", "SE", "GB", "UA"]),
        st.just(":"),
        text_of(UPPER_DIGITS, 1, 10),
        st.sampled_from(string.digits),
    ),
    T.VIN: joined(
        text_of("ABCDEFGHJKLMNPRSTUVWXYZ", 3, 3),
        text_of("ABCDEFGHJKLMNPRSTUVWXYZ0123456789", 6, 6),
        text_of(string.digits, 8, 8),
    ),
    T.IMO: st.integers(100_000, 999_999).map(imo_number),
    T.AIRCRAFT: joined(
        st.sampled_from(["D", "F", "G", "OE", "9H", "EC", "N1", "N23"]), text_of("ABCDEFGHJKLMNPQRSTUVWXYZ", 2, 2)
    ),
    T.IDENTITY_DOCUMENT: joined(
        st.sampled_from(["FR", "DE", "XK", "UA"]),
        st.just("/"),
        st.sampled_from("PIRDTV"),
        st.just("/"),
        text_of(UPPER_DIGITS, 4, 20),
        st.just("7"),
    ),
    T.MRN: joined(text_of(string.digits, 2, 2), text_of(string.ascii_uppercase, 2, 2), text_of(UPPER_DIGITS, 14, 14)),
    T.TRANSPORT_DOCUMENT: joined(text_of(UPPER_DIGITS, 3, 69), st.sampled_from(string.digits)),
    T.SEAL: joined(text_of(UPPER_DIGITS, 2, 19), st.sampled_from(string.digits)),
    T.EORI: joined(st.sampled_from(["DE", "XI", "GB", "GR"]), text_of(UPPER_DIGITS, 1, 15)),
    T.VAT: st.sampled_from(VAT_NUMBERS),
    T.PHONE: st.sampled_from(sorted(phonenumbers.SUPPORTED_REGIONS)).map(example_phone),
    T.EMAIL: joined(
        text_of(string.ascii_lowercase + string.digits + "._+-", 1, 20),
        st.just("@"),
        st.sampled_from(["example.org", "bücher.example", "a-b.co.uk"]),
    ),
}


def decorate(value: str, rng: random.Random, separators: list[str]) -> str:
    """Write a value the way sources do: any case, full-width characters, separators between any two characters."""
    out = []
    for char in value:
        if separators and rng.random() < 0.3:
            out.append(rng.choice(separators))
        written = rng.choice([char.lower(), char.upper(), char]) if char.isascii() else char
        out.append(FULL_WIDTH.get(written, written) if rng.random() < 0.3 else written)
    return "".join(out)


def canonical_or_none(type_: T, value: str, **kwargs: str) -> str | None:
    """The canonical form; checks on the way that a refusal says nothing about the value."""
    try:
        return normalise(type_, value, **kwargs)
    except NormalisationError as error:
        refusal = error
    assert re.fullmatch(rf"{type_.value}\.[a-z_]+", refusal.reason)
    assert str(refusal) == refusal.reason
    assert refusal.__cause__ is None
    assert refusal.__context__ is None, "the library's error holds the value"
    return None


def test_every_type_has_a_strategy() -> None:
    assert set(VALID) == set(T)


@pytest.mark.parametrize("type_", list(T))
def test_canonical_forms_are_fixed_points_and_blind_to_writing(type_: T) -> None:
    separators = [] if type_ is T.EMAIL else SEPARATORS
    seen = 0

    @fixed
    @given(VALID[type_], st.randoms(use_true_random=False))
    def check(value: str, rng: random.Random) -> None:
        nonlocal seen
        canonical = canonical_or_none(type_, value)
        assume(canonical is not None)
        assert canonical is not None
        seen += 1
        assert normalise(type_, canonical) == canonical
        assert normalise(type_, decorate(value, rng, separators)) == canonical
        assert normalise(type_, f" \u3000{canonical}\r\n") == canonical
        assert 0 < len(canonical.encode()) <= MAX_CANONICAL_BYTES

    check()
    assert seen > 10 or type_ is T.VAT, "the strategy hardly makes valid values"


@pytest.mark.parametrize("type_", list(T))
@fixed
@given(value=st.text(max_size=40) | st.text(max_size=2).map(lambda text: text * 300), extra=st.text(max_size=6))
def test_any_text_is_canonical_or_refused_by_reason(type_: T, value: str, extra: str) -> None:
    for kwargs in ({}, {"country": extra, "document_type": extra}, {"country": "DE", "document_type": "P"}):
        canonical = canonical_or_none(type_, value, **kwargs)
        if canonical is not None:
            assert normalise(type_, canonical) == canonical
            assert len(canonical.encode()) <= MAX_CANONICAL_BYTES


@pytest.mark.parametrize("type_", list(T))
def test_damaged_values_are_canonical_or_refused_by_reason(type_: T) -> None:
    @fixed
    @given(VALID[type_], st.integers(0, 80), st.characters() | st.sampled_from("O0I1/:+.@"), st.booleans())
    def check(value: str, place: int, char: str, replace: bool) -> None:
        place %= len(value)
        damaged = value[:place] + char + value[place + replace :]
        canonical = canonical_or_none(type_, damaged)
        if canonical is not None:
            assert normalise(type_, canonical) == canonical

    check()


@fixed
@given(
    st.sampled_from(VAT_PREFIXES),
    text_of(UPPER_DIGITS + "+*", 1, 13),
)
def test_vat_rules_of_any_country_fail_in_one_way(prefix: str, rest: str) -> None:
    canonical = canonical_or_none(T.VAT, prefix + rest)
    if canonical is not None:
        assert normalise(T.VAT, canonical) == canonical


@fixed
@given(text_of(string.digits, 5, 16), st.sampled_from(["", "IT", "DE", "AR", "MX", "US", "BR", "XI"]))
def test_phone_numbers_of_any_digits_are_fixed_points(digits: str, country: str) -> None:
    canonical = canonical_or_none(T.PHONE, digits if country else "+" + digits, country=country)
    if canonical is not None:
        assert normalise(T.PHONE, canonical) == canonical


@fixed
@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_addresses_of_any_text_are_fixed_points(local: str, domain: str) -> None:
    for address in (f"{local}@example.org", f"a@{domain}.org", f"{local}@{domain}.de"):
        canonical = canonical_or_none(T.EMAIL, address)
        if canonical is not None:
            assert normalise(T.EMAIL, canonical) == canonical
            assert canonical == canonical.lower()


@fixed
@given(containers, st.data())
def test_look_alikes_in_containers_are_read_by_position(number: str, data: st.DataObject) -> None:
    letters_for = {"0": "O", "1": "I"}
    digits_for = {"O": "0", "I": "1"}
    swap = [data.draw(st.booleans()) for _ in number]
    written = "".join(
        (digits_for if place < 4 else letters_for).get(char, char) if swap[place] else char
        for place, char in enumerate(number)
    )
    assert normalise(T.CONTAINER, written) == number


@fixed
@given(containers, st.integers(4, 10))
def test_one_misread_digit_of_a_container_is_read_or_refused(number: str, place: int) -> None:
    for letter, digit in zip("ZSBG", "2586", strict=True):
        written = number[:place] + letter + number[place + 1 :]
        canonical = canonical_or_none(T.CONTAINER, written)
        if number[place] == digit:
            assert canonical == number
        elif canonical is not None:
            # The one pair that ISO 6346 cannot tell apart: remainders 0 and 10 are both written 0.
            assert canonical[-1] == "0"


@fixed
@given(VALID[T.VIN], VALID[T.IMO])
def test_vin_and_imo_read_o_and_i_as_digits(vin: str, imo: str) -> None:
    to_letters = str.maketrans("01", "OI")
    assert normalise(T.VIN, vin.translate(to_letters)) == vin
    assert normalise(T.IMO, imo.translate(to_letters)) == imo


@fixed
@given(containers, st.integers(0, 9), st.integers(4, 10))
def test_a_wrong_digit_never_gives_the_same_container(number: str, digit: int, place: int) -> None:
    damaged = number[:place] + str(digit) + number[place + 1 :]
    assume(damaged != number)
    assert canonical_or_none(T.CONTAINER, damaged) in {None, damaged}


@fixed
@given(
    st.lists(
        st.one_of(
            st.text(max_size=30),
            containers,
            VALID[T.VIN],
            VALID[T.IMO].map("IMO {}".format),
            st.just("PASSPORT NO"),
            st.just("CHASSIS"),
        ),
        max_size=8,
    )
)
def test_extraction_takes_any_text_and_gives_canonical_values(pieces: list[str]) -> None:
    found = extract_candidates(" ".join(pieces))
    assert len(set(found)) == len(found)
    for type_, value in found:
        assert normalise(type_, value) == value


@fixed
@given(containers, VALID[T.IMO], VALID[T.VIN])
def test_extraction_finds_what_stands_alone(container: str, imo: str, vin: str) -> None:
    assert extract_candidates(f"1 {container[:4]} {container[4:10]}-{container[10]} ex IMO {imo}, {vin}.") == [
        (T.CONTAINER, container),
        (T.IMO, imo),
        (T.VIN, vin),
    ]
