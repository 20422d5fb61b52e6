"""Canonical forms of the numbers of trade: declarations, transport documents, seals, traders, mail.

Decides: which structure and which check digit each must have.
Leaves to others: separators, case and Unicode (``domain.writing``), the numbers of persons' papers
(``domain.documents``).
"""

from __future__ import annotations

import re
from operator import mul

from stdnum import lei as iso17442
from stdnum.eu import vat as eu_vat
from stdnum.exceptions import ValidationError

from connector_psi.domain.countries import country_code
from connector_psi.domain.writing import alphanumeric, bare, by_position, country_of, nfkc, with_digit
from connector_psi.errors import NormalisationError

_MRN = re.compile(r"[0-9]{2}[A-Z]{2}[A-Z0-9]{14}")


def mrn(value: str) -> str:
    """Give a movement reference number by its structure: year, country, thirteen characters, one more.

    Member states compute the last character differently, or not at all before 2010, so it is not checked; for the
    same reason no look-alike is read.
    """
    text = alphanumeric("mrn", value)
    if len(text) != 18:
        raise NormalisationError("mrn.length")
    if not _MRN.fullmatch(text):
        raise NormalisationError("mrn.format")
    return text


def transport_document(value: str) -> str:
    """Give the letters and digits of a bill of lading, an air waybill or a consignment note."""
    return with_digit("transport_document", value, 4, 70)


def seal(value: str) -> str:
    """Give the letters and digits of a seal."""
    return with_digit("seal", value, 3, 20)


# --- traders -------------------------------------------------------------------------------------------------------

_EORI = re.compile(r"([A-Z]{2})([A-Z0-9]{1,15})")
_EORI_PREFIXES = {"EL": "GR", "UK": "GB"}
_VAT = re.compile(r"[A-Z]{2}[A-Z0-9+*]{2,13}")


def eori(value: str) -> str:
    """Give prefix and number of an EORI."""
    found = _EORI.fullmatch(alphanumeric("eori", value))
    if found is None:
        raise NormalisationError("eori.format")
    code = _EORI_PREFIXES.get(found[1], found[1])
    # XI stands beside GB here: the same number with the other prefix belongs to another register.
    if code != "XI" and country_code(code) != code:
        raise NormalisationError("eori.country")
    return code + found[2]


def vat(value: str, country: str = "") -> str:
    """Give a VAT number with the prefix that VIES uses (EL for Greece, XI for Northern Ireland)."""
    text = bare(nfkc("vat", value))
    code = bare(nfkc("vat", country))
    if code:
        prefix = code if code == "XI" else country_of("vat", code)
        prefix = "EL" if prefix == "GR" else prefix
        if not (text.startswith(prefix) or (prefix == "EL" and text.startswith("GR"))):
            text = prefix + text
    if not text.isascii() or not _VAT.fullmatch(text):
        raise NormalisationError("vat.format")
    if text[:2] == "GR":
        text = "EL" + text[2:]
    number = _validated_vat(text)
    if not number:
        raise NormalisationError("vat.invalid")
    return number


def _validated_vat(text: str) -> str:
    """Give the number as its country's rules write it, or an empty string: the library's error holds parts of it."""
    try:
        return str(eu_vat.validate(text))
    except ValidationError:
        return ""


_LEI = re.compile(r"(?:LEI)?([A-Z0-9]{20})")


def lei(value: str) -> str:
    """Give a legal entity identifier, whose last two digits are those of ISO 7064, MOD 97-10.

    Source: ISO 17442-1.
    """
    found = _LEI.fullmatch(alphanumeric("lei", value))
    if found is None:
        raise NormalisationError("lei.length")
    text = by_position(found[1], "X" * 18 + "DD")
    if not text:
        raise NormalisationError("lei.format")
    if not iso17442.is_valid(text):
        raise NormalisationError("lei.check_digits")
    return text


# --- mail: standards of the Universal Postal Union -----------------------------------------------------------------

_S10_LAYOUT = "LLDDDDDDDDDLL"
_S10_WEIGHTS = (8, 6, 4, 2, 3, 5, 9, 7)


def postal_item(value: str) -> str:
    """Give service, serial number, check digit and country of an item of mail.

    Source: UPU S10.
    """
    text = alphanumeric("postal_item", value)
    if len(text) != len(_S10_LAYOUT):
        raise NormalisationError("postal_item.length")
    text = by_position(text, _S10_LAYOUT)
    if not text or text[2:10] == "00000000":
        raise NormalisationError("postal_item.format")
    rest = 11 - sum(map(mul, map(int, text[2:10]), _S10_WEIGHTS)) % 11
    if int(text[10]) != {10: 0, 11: 5}.get(rest, rest):
        raise NormalisationError("postal_item.check_digit")
    return text


# Offices of exchange of origin and destination (country, place, office), category, subclass, year, dispatch, number,
# whether it is the last of the dispatch, whether it holds registered items, weight in tenths of a kilogram.
_S9_LAYOUT = "LLXXXX" * 2 + "L" + "LX" + "D" + "D" * 4 + "D" * 3 + "D" + "D" + "D" * 4
_S9_CATEGORIES = frozenset("ABCD")


def receptacle(value: str) -> str:
    """Give the 29 characters of a bag, tray or pallet of mail. There is no check digit.

    Source: UPU S9.
    """
    text = alphanumeric("receptacle", value)
    if len(text) != len(_S9_LAYOUT):
        raise NormalisationError("receptacle.length")
    text = by_position(text, _S9_LAYOUT)
    if not text or text[12] not in _S9_CATEGORIES:
        raise NormalisationError("receptacle.format")
    return text
