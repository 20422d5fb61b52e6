"""Canonical forms of the means of payment: bank accounts and cards.

Decides: which structure and which check digits hold, and that no more of a card number is kept than may be.
Leaves to others: separators, case and Unicode (``domain.writing``), banknotes (``domain.serials``).
"""

from __future__ import annotations

import re
from functools import lru_cache

from stdnum import iban as iso13616
from stdnum import luhn, numdb

from connector_psi.domain.writing import TO_DIGIT, TO_LETTER, alphanumeric, bare, by_position, nfkc, one_character_only
from connector_psi.errors import NormalisationError

_IBAN_FIELD = re.compile(r"([0-9]+)!([nac])")
_IBAN_PLACES = {"n": "D", "a": "L", "c": "X"}


@lru_cache(maxsize=1024)
def _iban_layout(country: str) -> str:
    """Give the layout of a country's numbers from the register that the library holds; empty where it has none."""
    known = numdb.get("iban").info(country)
    fields = _IBAN_FIELD.findall(known[0][1].get("bban", "")) if known else []
    return "LLDD" + "".join(_IBAN_PLACES[kind] * int(length) for length, kind in fields) if fields else ""


def iban(value: str) -> str:
    """Give an international bank account number, whose check digits are those of ISO 7064, MOD 97-10.

    Check digits that some countries have within their own part are not looked at.

    Source: ISO 13616-1, and its register of national structures.
    """
    text = alphanumeric("iban", value).removeprefix("IBAN")
    layout = _iban_layout(text[:2].translate(TO_LETTER))
    if not layout:
        raise NormalisationError("iban.country")
    if len(text) != len(layout):
        raise NormalisationError("iban.length")
    text = by_position(text, layout)
    if not text:
        raise NormalisationError("iban.format")
    if not iso13616.is_valid(text, check_country=False):
        raise NormalisationError("iban.check_digits")
    return text


# What people write for digits that are not to be seen. Dots, underscores and raised dots separate groups too: two in a
# row hide something.
_HIDDEN_DIGITS = re.compile("[*X#?\u00d7\u2022\u2217\u25cf]+|[._\u00b7]{2,}")
_WHOLE_CARD = re.compile(r"[1-9][0-9]{12,18}")
_TRUNCATED_CARD = re.compile(r"([1-9][0-9]{5})[0-9]{0,2}\*+([0-9]{4})")


def payment_card(value: str) -> str:
    """Give the first six and the last four digits of a card number, with one star for those between.

    A whole number must have its check digit (ISO/IEC 7812-1) and is cut at once: the digits between are in no result,
    no error and no cache. Six and four is what every card scheme allows to be kept; eight and four is allowed for some
    lengths only, and two truncations of one number must not be brought together. How many digits are hidden is not
    told, since sources write it differently.

    Source: PCI DSS 4.0.1, requirements 3.4.1 and 3.5.1; PCI SSC FAQ 1091 and 1117.
    """
    text = bare(_HIDDEN_DIGITS.sub("*", nfkc("payment_card", value).upper())).translate(TO_DIGIT)
    if _WHOLE_CARD.fullmatch(text):
        if not luhn.is_valid(text):
            raise NormalisationError("payment_card.check_digit")
        first, last = text[:6], text[-4:]
    else:
        found = _TRUNCATED_CARD.fullmatch(text)
        if found is None:
            raise NormalisationError("payment_card.format")
        first, last = found.groups()
    if one_character_only(first + last):
        raise NormalisationError("payment_card.format")
    return f"{first}*{last}"
