"""Canonical forms of things that are told apart by a serial number: firearms, engines, equipment, banknotes, phones.

Decides: what a serial number is, how makes, calibres, currencies and denominations are written, and how they stand
before the number: ``MAKE/SERIAL``, ``MAKE/CALIBRE/SERIAL``, ``EUR/50/SERIAL``.
Leaves to others: separators, case and Unicode (``domain.writing``).

A serial number is unique within its make at best, so the make belongs to the identifier. Where a source leaves it out,
the number alone is a ``serial``, which needs a second token of the same record. No look-alike is read: every maker
counts in his own way. Makes and calibres in Cyrillic or Greek letters have no reading.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import pycountry
from stdnum import luhn

from connector_psi.domain.writing import (
    MAX_INPUT_CHARS,
    SPACE_OR_DASH,
    TO_DIGIT,
    alphanumeric,
    bare,
    nfkc,
    one_character_only,
    with_digit,
    without_accents,
    without_signs,
)
from connector_psi.errors import NormalisationError


def serial(value: str) -> str:
    """Give the letters and digits of a serial number."""
    return _serial("serial", value)


def _serial(kind: str, value: str) -> str:
    text = with_digit(kind, value, 4, 30)
    if one_character_only(text):
        raise NormalisationError(f"{kind}.format")
    return text


# --- what stands before a number -----------------------------------------------------------------------------------


class _Part(NamedTuple):
    """A word that belongs to an identifier beside its number."""

    name: str
    read: Callable[[str], str]
    """Gives the canonical spelling, or an empty string where the word is not usable."""


def _with_parts(kind: str, value: str, parts: Sequence[_Part], given: Sequence[str]) -> str:
    """Give the parts and the serial number, with slashes between.

    The value may hold the parts itself, as the canonical form does. Serial numbers may hold slashes too, so the words
    before them count as parts only if all are usable and agree with what was given.
    """
    text = nfkc(kind, value)
    stated = [part.read(word) if word else "" for part, word in zip(parts, given, strict=True)]
    for part, word, reading in zip(parts, given, stated, strict=True):
        if word and not reading:
            raise NormalisationError(f"{kind}.{part.name}")
    *before, last = text.split("/")
    if len(before) == len(parts):
        written = [part.read(word) for part, word in zip(parts, before, strict=True)]
        if all(written):
            if all(reading in {"", word} for reading, word in zip(stated, written, strict=True)):
                stated, text = written, last
            elif not all(stated):
                raise NormalisationError(f"{kind}.conflict")
    for part, reading in zip(parts, stated, strict=True):
        if not reading:
            raise NormalisationError(f"{kind}.{part.name}_missing")
    return "/".join([*stated, _serial(kind, text)])


def _short(value: str) -> str:
    """Give the word in NFKC, or nothing where it is too long to look at."""
    return unicodedata.normalize("NFKC", value) if len(value) <= MAX_INPUT_CHARS else ""


# Letters that Unicode does not take apart.
_WHOLE_LETTERS = str.maketrans(
    {"ß": "SS", "ẞ": "SS", "Ø": "O", "ø": "O", "Ł": "L", "ł": "L", "Đ": "D", "đ": "D", "Æ": "AE", "æ": "AE", "Œ": "OE",
     "œ": "OE", "\u0131": "I", "Þ": "TH", "þ": "TH"}
)  # fmt: skip


def _word(value: str, longest: int) -> str:
    """Give upper-case letters and digits, or an empty string."""
    text = bare(without_signs(without_accents(_short(value)).translate(_WHOLE_LETTERS)))
    return text if text.isascii() and text.isalnum() and len(text) <= longest else ""


# Spellings of one maker. Only names that are also written in full or abbreviated on the thing itself.
_MAKES: Mapping[str, str] = {
    "SW": "SMITHWESSON", "SMITHANDWESSON": "SMITHWESSON",
    "HK": "HECKLERKOCH", "HECKLERUNDKOCH": "HECKLERKOCH", "HECKLERANDKOCH": "HECKLERKOCH",
    "FN": "FNHERSTAL", "FABRIQUENATIONALE": "FNHERSTAL", "FABRIQUENATIONALEHERSTAL": "FNHERSTAL",
    "CESKAZBROJOVKA": "CZ",
    "VW": "VOLKSWAGEN",
    "MERCEDES": "MERCEDESBENZ",
    "CAT": "CATERPILLAR",
}  # fmt: skip


def _make(value: str) -> str:
    text = _word(value, 40)
    return _MAKES.get(text, text) if len(text) > 1 and not text.isdigit() else ""


_CALIBRE_BEFORE = re.compile(r"(?:CAL(?:IBRE|IBER)?|KAL(?:IBER)?)+(?=[0-9])")
_CALIBRE_MM = re.compile(r"(?<=[0-9])(?:MM)+")
_CALIBRE_AFTER = re.compile(r"(?<=[0-9])(?:GAUGE|GA|BORE)+\Z")
# Source: Commission internationale permanente pour l'épreuve des armes à feu portatives (C.I.P.), tables of
# dimensions: names that stand there side by side. Calibres that merely fit one another are not one.
_CALIBRES: Mapping[str, str] = {
    "9LUGER": "9X19", "9PARA": "9X19", "9PARABELLUM": "9X19", "9X19PARA": "9X19", "9X19PARABELLUM": "9X19",
    "9X19LUGER": "9X19",
    "380AUTO": "9X17", "380ACP": "9X17", "9KURZ": "9X17", "9SHORT": "9X17", "9COURT": "9X17", "9CORTO": "9X17",
    "9BROWNINGKURZ": "9X17", "9BROWNINGSHORT": "9X17", "9BROWNINGCOURT": "9X17",
    "9MAKAROV": "9X18", "9X18MAKAROV": "9X18",
    "32AUTO": "765X17", "32ACP": "765X17", "765BROWNING": "765X17", "765X17SR": "765X17",
    "25AUTO": "635X16", "25ACP": "635X16", "635BROWNING": "635X16", "635X16SR": "635X16",
    "45AUTO": "45ACP",
    "22LONGRIFLE": "22LR", "22LFB": "22LR",
    "38SPL": "38SPECIAL", "38SPEC": "38SPECIAL",
    "357MAG": "357MAGNUM",
    "44MAG": "44MAGNUM", "44REMMAG": "44MAGNUM", "44REMINGTONMAGNUM": "44MAGNUM",
}  # fmt: skip


def _calibre(value: str) -> str:
    text = _word(value.replace("\u00d7", "X"), 30)
    text = _CALIBRE_AFTER.sub("", _CALIBRE_MM.sub("", _CALIBRE_BEFORE.sub("", text))).lstrip("0")
    return _CALIBRES.get(text, text) if any(map(str.isdigit, text)) else ""


_MAKE = (_Part("make", _make),)
_MAKE_AND_CALIBRE = (*_MAKE, _Part("calibre", _calibre))


def firearm(value: str, make: str = "", calibre: str = "") -> str:
    """Give make, calibre and serial number."""
    return _with_parts("firearm", value, _MAKE_AND_CALIBRE, (make, calibre))


def made(kind: str, value: str, make: str = "") -> str:
    """Give make and serial number of an engine, a component, a machine or another thing of value."""
    return _with_parts(kind, value, _MAKE, (make,))


# --- banknotes -----------------------------------------------------------------------------------------------------

# Withdrawn, but still found and still exchanged somewhere. Source: ISO 4217, list three.
_WITHDRAWN = "ATS BEF BGN CYP DEM EEK ESP FIM FRF GRD HRK IEP ITL LTL LUF LVL MTL NLG PTE ROL SIT SKK TRL"
_CURRENCIES = frozenset({currency.alpha_3 for currency in pycountry.currencies} | set(_WITHDRAWN.split()))
_CURRENCY_WORDS = {"€": "EUR", "EURO": "EUR", "EUROS": "EUR", "£": "GBP"}
# Three digits behind a separator are thousands, one or two zeros a fraction.
_DENOMINATION = re.compile(r"0*([1-9][0-9]{0,2}(?:[.,'][0-9]{3})+|[1-9][0-9]{0,11})(?:[.,]0{0,2})?")


def _currency(value: str) -> str:
    code = bare(_short(value))
    code = _CURRENCY_WORDS.get(code, code)
    return code if code in _CURRENCIES else ""


def _denomination(value: str) -> str:
    # A dash may stand for no cents, as in 50,-
    found = _DENOMINATION.fullmatch(SPACE_OR_DASH.sub("", _short(value)))
    return without_signs(found[1]) if found else ""


_CURRENCY_AND_DENOMINATION = (_Part("currency", _currency), _Part("denomination", _denomination))


def banknote(value: str, currency: str = "", denomination: str = "") -> str:
    """Give currency, denomination and serial number.

    Check digits of euro notes are not looked at: numbers of false notes are sought too, and need not hold (Regulation
    (EU) 2018/1862, Article 38(2)(n)).
    """
    return _with_parts("banknote", value, _CURRENCY_AND_DENOMINATION, (currency, denomination))


# --- mobile equipment: 3GPP TS 23.003, clause 6 and Annex B --------------------------------------------------------

_IMEI = re.compile(r"(?:IMEI(?:SV)?)?([0-9OI]{14,16})")


def imei(value: str, *, complete_check_digit: bool = False) -> str:
    """Give the fifteen digits of a mobile equipment identity.

    Sixteen digits are the same with the version of its software: that leaves the check digit out by definition and
    changes with every update, so it goes and the digit is computed.
    """
    found = _IMEI.fullmatch(alphanumeric("imei", value))
    if found is None:
        raise NormalisationError("imei.format")
    digits = found[1].translate(TO_DIGIT)
    if one_character_only(digits[:14]):
        raise NormalisationError("imei.format")
    if len(digits) == 15:
        if not luhn.is_valid(digits):
            raise NormalisationError("imei.check_digit")
        return digits
    if len(digits) == 14 and not complete_check_digit:
        raise NormalisationError("imei.length")
    return digits[:14] + str(luhn.calc_check_digit(digits[:14]))
