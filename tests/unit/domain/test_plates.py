from __future__ import annotations

import pytest

from connector_psi.domain.plates import number_without_country, plate_number


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


@pytest.mark.parametrize(
    ("number", "read"),
    [
        ("BAB1234", "BAB1234"),
        ("BIO123", "B10123"),
        ("B1O123", "B10123"),
        ("GOEYZ2743", "G0YZ2743"),  # nine characters: only a written umlaut fits
        ("G0EYZ2743", "G0YZ2743"),
        ("GOEYZ274", "G0EYZ274"),  # eight: ambiguous, left alone
        ("AEBKS1I23", "ABKS1123"),
        ("ABCDEFGH1", "ABCDEFGH1"),
        ("O0I1O0I1O0I1", "001100110011"),
    ],
)
def test_number_without_country(number: str, read: str) -> None:
    assert number_without_country(number) == read
    assert number_without_country(read) == read
