"""Canonical forms of containers, vehicles, vessels and aircraft.

Decides: which numbers of each are well formed, which check digit must hold, and how look-alikes are read by position.
Leaves to others: separators, case and Unicode (``domain.writing``), layouts of national plates (``domain.plates``).
"""

from __future__ import annotations

import re
from operator import getitem, mul

from connector_psi.domain.countries import country_code
from connector_psi.domain.plates import number_without_country, plate_number
from connector_psi.domain.writing import (
    TO_DIGIT,
    TO_LETTER,
    alphanumeric,
    country_of,
    nfkc,
    one_character_only,
    without_accents,
)
from connector_psi.errors import NormalisationError

# --- container: ISO 6346 -------------------------------------------------------------------------------------------

_CONTAINER = re.compile(r"[A-Z]{3}[UJZ][0-9]{7}")
_CONTAINER_WITHOUT_CHECK = re.compile(r"[A-Z]{3}[UJZ][0-9]{6}")
_DIGIT_MISREAD = re.compile(r"[0-9]*[ZSBG][0-9]*")
_MISREAD = str.maketrans("ZSBG", "2586")
# ISO 6346, Annex A: letters count up from 10 and leave out the multiples of 11.
_ISO6346_VALUE = {char: value for value, char in enumerate("0123456789A?BCDEFGHIJK?LMNOPQRSTU?VWXYZ") if char != "?"}
_ISO6346_WEIGHTED = tuple({char: value << place for char, value in _ISO6346_VALUE.items()} for place in range(10))


def _container_check_digit(number: str) -> str:
    return str(sum(map(getitem, _ISO6346_WEIGHTED, number)) % 11 % 10)


def container(value: str, *, complete_check_digit: bool = False) -> str:
    """Give owner code, category, serial number and check digit."""
    text = alphanumeric("container", value)
    if len(text) == 10 and complete_check_digit:
        # No look-alike is read here: there is no check digit that could confirm the reading.
        if not _CONTAINER_WITHOUT_CHECK.fullmatch(text):
            raise NormalisationError("container.format")
        return text + _container_check_digit(text)
    if len(text) != 11:
        raise NormalisationError("container.length")
    if not _CONTAINER.fullmatch(text):
        text = _container_reading(text)
    if _container_check_digit(text) != text[10]:
        raise NormalisationError("container.check_digit")
    return text


def _container_reading(text: str) -> str:
    """Read look-alikes by position: O and I anywhere, and one of Z, S, B, G as 2, 5, 8, 6.

    One only: the check digit finds any single wrong reading (except that remainders 0 and 10 are both written 0), two
    would leave it to chance.
    """
    owner, serial = text[:4].translate(TO_LETTER), text[4:].translate(TO_DIGIT)
    if _DIGIT_MISREAD.fullmatch(serial):
        serial = serial.translate(_MISREAD)
    read = owner + serial
    if not _CONTAINER.fullmatch(read):
        raise NormalisationError("container.format")
    return read


# --- plates --------------------------------------------------------------------------------------------------------


def plate(value: str, country: str = "") -> str:
    """Give country and number; the country may stand before a colon in the value."""
    text = nfkc("plate", value)
    code = country_of("plate", country)
    before, colon, after = text.partition(":")
    if colon:
        written = country_of("plate", before) if before else ""
        if not written:
            raise NormalisationError("plate.country")
        if code and written != code:
            raise NormalisationError("plate.country_conflict")
        text, code = after, written
    if not code:
        raise NormalisationError("plate.country_missing")
    return f"{code}:{plate_number(code, _plate_characters('plate', text))}"


def plate_alone(value: str) -> str:
    """Give the number of a plate whose country is unknown, in a form that does not depend on it."""
    return number_without_country(_plate_characters("plate_number", nfkc("plate_number", value)))


def _plate_characters(kind: str, text: str) -> str:
    # Registers write umlauts and carons, declarations often do not. In Germany this makes one of two districts once
    # only: Bördekreis and Bochum.
    text = alphanumeric(kind, without_accents(text))
    if not 2 <= len(text) <= 12:
        raise NormalisationError(f"{kind}.length")
    if text.isalpha():
        # Words such as UNKNOWN would match one another; a plate without a digit is rare.
        raise NormalisationError(f"{kind}.format")
    return text


# --- vehicle identification number: ISO 3779 -----------------------------------------------------------------------

_VIN = re.compile(r"(?=.*[0-9])(?=.*[A-Z])[A-HJ-NPR-Z0-9]{17}")
# ISO 3779, 4.4: the last four characters are digits.
_VIN_LAST8 = re.compile(r"[A-HJ-NPR-Z0-9]{4}[0-9]{4}")


def vin(value: str) -> str:
    """Give a VIN. Its North American check digit is never looked at: European numbers do not carry one."""
    text = alphanumeric("vin", value)
    if len(text) != 17:
        raise NormalisationError("vin.length")
    # ISO 3779 uses I and O nowhere, so that they can only be 1 and 0. Q, left out as well, resembles both 0 and 9.
    text = text.translate(TO_DIGIT)
    if not _VIN.fullmatch(text):
        raise NormalisationError("vin.format")
    return text


def vin_last8(value: str) -> str:
    """Give the indicator section of a VIN, which people read from a windscreen."""
    text = alphanumeric("vin_last8", value).translate(TO_DIGIT)
    if len(text) != 8:
        raise NormalisationError("vin_last8.length")
    if not _VIN_LAST8.fullmatch(text) or one_character_only(text):
        raise NormalisationError("vin_last8.format")
    return text


# --- vessels: IMO resolution A.1117(30), ES-TRIN, ITU-R M.585, ISO 10087 --------------------------------------------

_IMO = re.compile(r"(?:IMO(?:NO|NR|NUMBER)?)?([0-9OI]{7})")
# The last digit of the weighted sum of the first six is the seventh: taken off, nothing is left.
_IMO_WEIGHTS = (7, 6, 5, 4, 3, 2, -1)
_ENI = re.compile(r"(?:ENI)?([0-9OI]{8})")
_MMSI = re.compile(r"(?:MMSI)?([0-9OI]{9})")


def _imo_holds(number: str) -> bool:
    # 0000000 has a right check digit and stands in many an empty field.
    return number[0] != "0" and not sum(map(mul, map(int, number), _IMO_WEIGHTS)) % 10


def imo(value: str) -> str:
    """Give the seven digits of an IMO ship number."""
    found = _IMO.fullmatch(alphanumeric("imo", value))
    if found is None:
        raise NormalisationError("imo.format")
    number = found[1].translate(TO_DIGIT)
    if number[0] == "0":
        raise NormalisationError("imo.format")
    if not _imo_holds(number):
        raise NormalisationError("imo.check_digit")
    return number


def eni(value: str) -> str:
    """Give the eight digits of a European vessel identification number.

    There is no check digit but in one case: a ship that has an IMO number bears it behind a 9.

    Source: Directive (EU) 2016/1629, Article 18; ES-TRIN, Annex 1 (codes of the authorities begin with 001).
    """
    found = _ENI.fullmatch(alphanumeric("eni", value))
    if found is None:
        raise NormalisationError("eni.format")
    number = found[1].translate(TO_DIGIT)
    if number.startswith("000"):
        raise NormalisationError("eni.format")
    if number[0] == "9" and not _imo_holds(number[1:]):
        raise NormalisationError("eni.check_digit")
    return number


def mmsi(value: str) -> str:
    """Give the nine digits of a ship station's identity.

    Only what identifies one ship: it begins with the maritime identification digits of its flag, and those with 2 to 7.
    Coast stations, groups, aircraft, beacons, handheld radios and tenders begin with 0, 1, 8 or 9. Which of the digits
    are allocated changes, so it is not looked up.

    Source: Recommendation ITU-R M.585-9, Annex 1.
    """
    found = _MMSI.fullmatch(alphanumeric("mmsi", value))
    if found is None:
        raise NormalisationError("mmsi.format")
    number = found[1].translate(TO_DIGIT)
    if not "2" <= number[0] <= "7" or one_character_only(number):
        raise NormalisationError("mmsi.format")
    return number


# Manufacturer, serial number, then month, year and model year. The last two forms were American until 1984: month and
# year in digits, or M with the model year and its month.
_HULL = re.compile(
    r"[A-Z0-9]{3}[A-HJ-NPR-Z0-9]{5}(?:[A-L][0-9]{3}|(?:0[1-9]|1[0-2])[0-9]{2}|M[0-9]{2}[A-L])",
)


def hull(value: str, country: str = "") -> str:
    """Give country and twelve characters of a hull identification number.

    A number of twelve characters is American unless the source names another country: the format of 33 CFR 181.25 is
    the one that leaves the country out by definition.

    Source: ISO 10087; Directive 2013/53/EU, Annex I, A.2.1; 33 CFR 181.25.
    """
    text = alphanumeric("hull", value)
    code = country_of("hull", country)
    if len(text) == 14:
        written = text[:2].translate(TO_LETTER)
        if country_code(written) != written:
            raise NormalisationError("hull.country")
        if code and written != code:
            raise NormalisationError("hull.country_conflict")
        code, text = written, text[2:]
    elif len(text) != 12:
        raise NormalisationError("hull.length")
    number = text[:3] + text[3:8].translate(TO_DIGIT) + _hull_date(text[8:])
    if not _HULL.fullmatch(number):
        raise NormalisationError("hull.format")
    return (code or "US") + number


def _hull_date(text: str) -> str:
    """Read look-alikes in the last four; in the first place I is September and 1 a month in digits."""
    if text[0] == "M":
        return "M" + text[1:3].translate(TO_DIGIT) + text[3].translate(TO_LETTER)
    return text[0].replace("O", "0") + text[1:].translate(TO_DIGIT)


# --- aircraft: ICAO Annex 7 ----------------------------------------------------------------------------------------

# Nationality and common marks; one letter first, so that the longer ones are tried with what is left.
_AIRCRAFT_MARKS = (
    "2|B|C|D|F|G|I|M|N|P|Z|"
    "A[2-9P]|C[0-9CNPRSUX]|D[0-9Q]|E[0-9CIJKLPRSTWXYZ]|H[0-9ABCHIKLPRSVZ]|J[0-9AUY]|L[NVXYZ]|O[BDEHKMOY]|"
    "P[0-9HJKPRSTUZ]|R[AFP]|S[0-9ENPTUX]|T[0-9CFGIJLNRSTUYZ]|U[KPRN]|V[0-9HNPQT]|X[ABCTUWYZ]|Y[AIJKLNRSUV]|Z[0-9AJKPSTU]|"
    "3[ABCDX]|4[KLORWX]|5[ABHNRTUVWXY]|6[OVWY]|7[OPQT]|8[PQR]|9[AGHJKLMNQSTUVXY]"
)
_AIRCRAFT = re.compile(rf"(?=.{{3,8}}\Z)(?:{_AIRCRAFT_MARKS})[A-Z0-9]{{2,6}}")
# 14 CFR 47.15: N, one to five characters, letters at the end only and never I or O.
_US_AIRCRAFT = re.compile(r"N[1-9](?:[0-9]{0,4}|[0-9]{0,3}[A-HJ-NP-Z]|[0-9]{0,2}[A-HJ-NP-Z]{2})")


def aircraft(value: str) -> str:
    """Give nationality and registration mark without the hyphen."""
    text = alphanumeric("aircraft", value)
    if not 3 <= len(text) <= 8:
        raise NormalisationError("aircraft.length")
    pattern = _AIRCRAFT
    if text[0] == "N":
        text, pattern = text.translate(TO_DIGIT), _US_AIRCRAFT
    if not pattern.fullmatch(text):
        raise NormalisationError("aircraft.format")
    return text
