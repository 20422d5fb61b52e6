"""How many padded elements a grant holds: what its identifiers can take at most, and no more."""

from __future__ import annotations

from itertools import product

import pytest

from connector_psi.errors import ProtocolError
from connector_psi.protocol.messages import grant_elements, padded_batch_size


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_it_is_the_largest_padding_of_any_spread_over_the_classes(classes: int) -> None:
    for identifiers in range(1, 41):
        spreads = (s for s in product(range(identifiers + 1), repeat=classes) if sum(s) == identifiers)
        largest = max(sum(padded_batch_size(n) for n in spread if n) for spread in spreads)
        assert grant_elements(identifiers, classes) == largest


def test_numbers_that_people_can_check() -> None:
    assert [grant_elements(n, 3) for n in (1, 2, 3, 8, 24)] == [8, 16, 24, 24, 48]
    assert [grant_elements(n, 1) for n in (1, 8, 9, 24, 65)] == [8, 8, 16, 32, 256]


def test_it_never_falls_when_more_is_granted() -> None:
    for classes in (1, 2, 3, 4):
        held = [grant_elements(n, classes) for n in range(1, 257)]
        assert held == sorted(held)
        assert all(elements >= n for n, elements in enumerate(held, 1))


@pytest.mark.parametrize("identifiers", [0, -1, 4097])
def test_what_no_batch_holds_is_refused(identifiers: int) -> None:
    with pytest.raises(ProtocolError):
        grant_elements(identifiers, 3)
