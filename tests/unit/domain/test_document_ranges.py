from __future__ import annotations

import pytest

from connector_psi.domain.documents import MAX_RANGE, expand_range
from connector_psi.domain.identifiers import normalise
from connector_psi.domain.records import IdentifierType as T
from connector_psi.errors import NormalisationError


def test_a_range_gives_every_number_with_its_zeros() -> None:
    assert expand_range("ab 0098", "AB-0101", country="F", document_type="passport") == (
        "FR/P/AB0098",
        "FR/P/AB0099",
        "FR/P/AB0100",
        "FR/P/AB0101",
    )


@pytest.mark.parametrize(
    ("first", "last", "count"),
    [
        ("FR/P/AB0001", "FR/P/AB0001", 1),
        ("DE/V/000000001", "DE/V/000010000", MAX_RANGE),
        ("FR/I/12AB34", "FR/I/12AB99", 66),
    ],
)
def test_what_comes_out_is_canonical_and_in_order(first: str, last: str, count: int) -> None:
    numbers = expand_range(first, last)
    assert (numbers[0], numbers[-1], len(set(numbers)), len(numbers)) == (first, last, count, count)
    assert list(numbers) == sorted(numbers)
    assert all(normalise(T.IDENTITY_DOCUMENT, number) == number for number in (*numbers[:3], *numbers[-3:]))


@pytest.mark.parametrize(
    ("first", "last", "why"),
    [
        ("AB0002", "AB0001", "range"),
        ("AB0001", "AC0002", "range"),  # other letters
        ("AB0001", "AB00002", "range"),  # other length
        ("AB001A", "AB002A", "range"),  # nothing to count
        ("12AB0001", "13AB0002", "range"),
        ("FR/P/AB0001", "DE/P/AB0002", "conflict"),
        ("FR/I/AB0001", "FR/I/AB0002", "conflict"),
        ("AB00001", "AB10001", "range_too_large"),
        ("1" * 24, "9" * 24, "range_too_large"),
        ("AB1", "AB2", "length"),
        ("", "AB0001", "empty"),
        ("AB0001", "\u0410B0002", "characters"),
    ],
)
def test_what_is_no_range_is_refused_by_reason(first: str, last: str, why: str) -> None:
    with pytest.raises(NormalisationError) as caught:
        expand_range(first, last, country="FR", document_type="P")
    assert caught.value.reason == f"identity_document.{why}"
    assert caught.value.__context__ is None


def test_two_countries_or_types_are_no_range() -> None:
    for last in ("DE/P/AB0002", "FR/I/AB0002"):
        with pytest.raises(NormalisationError, match=r"identity_document\.range"):
            expand_range("FR/P/AB0001", last)
