"""Canonical forms of persons' and vehicles' papers: country, type and number.

Decides: which types of document are told apart, how a number is written, and how a range of blank documents becomes
numbers.
Leaves to others: separators, case and Unicode (``domain.writing``), country codes (``domain.countries``). Check digits
of documents differ by country and type and are not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from connector_psi.domain.countries import country_code
from connector_psi.domain.writing import bare, country_of, nfkc, with_digit
from connector_psi.errors import NormalisationError

MAX_RANGE: Final = 10_000
"""Most numbers that one range of blank documents may stand for."""

_KIND = "identity_document"

# N and S: numbers of persons in national registers and in social security (Regulation (EU) 2018/1862, Article 20(3)(q);
# Regulation (EU) 2016/794, Annex II.A, 2(f)).
_DOCUMENT_TYPES: Mapping[str, str] = {
    "P": "P", "PASSPORT": "P",
    "I": "I", "ID": "I", "IDCARD": "I", "IDENTITYCARD": "I",
    "R": "R", "RESIDENCEPERMIT": "R",
    "D": "D", "DRIVINGLICENCE": "D", "DRIVINGLICENSE": "D", "DRIVERLICENCE": "D", "DRIVERLICENSE": "D",
    "DRIVERSLICENSE": "D",
    "T": "T", "TRAVELDOCUMENT": "T",
    "V": "V", "VEHICLEREGISTRATION": "V", "VEHICLEREGISTRATIONCERTIFICATE": "V",
    "N": "N", "NATIONALREGISTERNUMBER": "N",
    "S": "S", "SOCIALSECURITYNUMBER": "S",
}  # fmt: skip


def identity_document(value: str, country: str = "", document_type: str = "") -> str:
    """Give country, one letter for the type, and number; the first two may stand before slashes in the value."""
    text = nfkc(_KIND, value)
    code = country_of(_KIND, country)
    letter = ""
    if document_type:
        letter = _DOCUMENT_TYPES.get(bare(nfkc(_KIND, document_type)), "")
        if not letter:
            raise NormalisationError(f"{_KIND}.document_type")
    parts = text.split("/")
    if len(parts) == 3:
        # Licence numbers may hold slashes too, so the first two parts count only if they are a country and a type.
        written = country_code(bare(parts[0])), _DOCUMENT_TYPES.get(bare(parts[1]), "")
        if all(written):
            if (code or written[0], letter or written[1]) != written:
                raise NormalisationError(f"{_KIND}.conflict")
            (code, letter), text = written, parts[2]
    if not code:
        raise NormalisationError(f"{_KIND}.country_missing")
    if not letter:
        raise NormalisationError(f"{_KIND}.document_type_missing")
    number = with_digit(_KIND, text, 4, 24)
    return f"{code}/{letter}/{number}"


_TAIL = re.compile(r"(.*?)([0-9]+)")


def expand_range(first: str, last: str, *, country: str = "", document_type: str = "") -> tuple[str, ...]:
    """Give the identity documents of a range of blank documents.

    Args:
        first: Lowest number, as ``normalise`` takes an identity document.
        last: Highest number: the same letters before, and as many digits at the end.
        country: As for ``normalise``.
        document_type: As for ``normalise``.

    Returns:
        Canonical forms in ascending order, the first and the last among them; at most ``MAX_RANGE``.

    Raises:
        NormalisationError: One of the two has no canonical form; ``identity_document.range``: they are no range, or in
            the wrong order; ``identity_document.range_too_large``.

    Cost: half a microsecond for each number.

    Source: Regulation (EU) 2018/1862, Article 38(2)(k).
    """
    low = _TAIL.fullmatch(identity_document(first, country, document_type))
    high = _TAIL.fullmatch(identity_document(last, country, document_type))
    if low is None or high is None or low[1] != high[1] or len(low[2]) != len(high[2]):
        raise NormalisationError(f"{_KIND}.range")
    begin, end, digits = int(low[2]), int(high[2]), len(low[2])
    if begin > end:
        raise NormalisationError(f"{_KIND}.range")
    if end - begin >= MAX_RANGE:
        raise NormalisationError(f"{_KIND}.range_too_large")
    return tuple(f"{low[1]}{number:0{digits}}" for number in range(begin, end + 1))
