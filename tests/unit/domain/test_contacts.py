"""The short cuts give what the libraries give."""

from __future__ import annotations

import random

import phonenumbers
import pytest

from connector_psi.domain import contacts
from connector_psi.domain.identifiers import normalise
from connector_psi.domain.records import IdentifierType as T
from connector_psi.errors import NormalisationError


def canonical(kind: T, value: str) -> str:
    try:
        return normalise(kind, value)
    except NormalisationError:
        return ""


def test_international_numbers_of_every_calling_code_are_judged_as_the_library_judges_them() -> None:
    rng = random.Random(20261125)
    plain = 0
    codes = [*map(str, phonenumbers.COUNTRY_CODE_TO_REGION_CODE), "0", "00", "999", "21"]
    for code in codes:
        for length in range(1, 16):
            for head in ("", "0", "1", rng.choice("23456789")):
                national = (head + "".join(rng.choices("0123456789", k=length)))[:length]
                digits = (code + national)[:17]
                if len(digits) < 3:
                    continue
                plain += contacts._is_plainly_possible(digits)
                assert canonical(T.PHONE, f"+{digits}") == contacts._e164(f"+{digits}", None), digits
    assert plain > 1000


def test_placeholders_of_one_or_two_digits_are_refused_by_both_ways() -> None:
    for digits in ("4930303030303", "491111111111", "490000000000", "12121212121"):
        assert canonical(T.PHONE, f"+{digits}") == contacts._e164(f"+{digits}", None) == ""


def test_addresses_with_a_known_domain_are_judged_as_the_library_judges_them() -> None:
    for local in ("a", "a.b", "a+b", "-a", "a%b_c-d", "x" * 64, ".a", "a.", "a..b", "x" * 65, ""):
        assert canonical(T.EMAIL, f"{local}@example.org") == contacts._validated_email(f"{local}@example.org")


@pytest.mark.parametrize(
    "domain",
    [
        "example.org",
        "a.b.c.example.org",
        "a-b.example.org",
        "-a.example.org",
        "a-.example.org",
        "a--b.example.org",
        "ab--c.example.org",
        "xn--bcher-kva.example",
        "xn--a.example",
        "example.o",
        "example.org1",
        "example.1org",
        "1.2",
        "org",
        "a..org",
        ".org",
        "org.",
        "x" * 63 + ".org",
        "x" * 64 + ".org",
        ("x" * 62 + ".") * 3 + "y" * 59 + ".org",  # 252
        ("x" * 62 + ".") * 3 + "y" * 60 + ".org",  # 253: a name, but the address is one too long
        "a.test",
        "test",
        *(f"a.{name}" for name in contacts.SPECIAL_USE_DOMAIN_NAMES),
        "a_b.org",
        "a b.org",
    ],
)
def test_domains_are_judged_as_the_library_judges_them(domain: str) -> None:
    assert contacts._ascii_domain(domain) == contacts._validated_domain(domain)
