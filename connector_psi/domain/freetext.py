"""Identifiers in free text: goods descriptions, marks on packages, additional information.

Decides: what is certain enough to be taken from a text that nobody typed as an identifier. Strict rather than complete:
containers whose check digit holds, IMO numbers behind the word IMO, VINs as one word of seventeen characters or behind
VIN or CHASSIS, identity documents with kind, country and number in this order. No look-alike is read and no check digit
computed. Boundaries are the same everywhere: no letter or digit beside a candidate, so that parts of longer references
are left alone.
Leaves to others: the canonical forms, and saying that a value came from free text (``domain.drafts``).

Most texts hold nothing, and every one of a declaration comes here, so each pattern is tried only behind a test that
costs next to nothing and that every text with such a candidate passes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator

from connector_psi.domain.documents import identity_document
from connector_psi.domain.records import IdentifierType
from connector_psi.domain.transport import container, imo, vin
from connector_psi.domain.writing import DASH, HIDDEN
from connector_psi.errors import NormalisationError

_CONTAINER_HINT = re.compile(r"[UJZ][ -]?[0-9]{3}[ -]?[0-9]{3}")
_CONTAINER = re.compile(r"(?<![A-Z0-9])[A-Z]{3}[UJZ][ -]?[0-9]{3}[ -]?[0-9]{3}[ /-]?[0-9](?![A-Z0-9])")

_NUMBER_WORD = r"(?:[ .:#-]{0,2}(?:NO|NR|NUMBER|N\u00b0)(?![A-Z]))"
_IMO = re.compile(rf"(?<![A-Z0-9])IMO{_NUMBER_WORD}?[ .:#-]{{0,3}}([0-9]{{7}})(?![A-Z0-9])")

_VIN_CHAR = "[A-HJ-NPR-Z0-9]"
_VIN = re.compile(rf"(?<![A-Z0-9_/-])({_VIN_CHAR}{{17}})(?![A-Z0-9_/-])")
_MARKED_VIN = re.compile(rf"(?<![A-Z0-9])(?:VIN|CHASSIS){_NUMBER_WORD}?[ .:#/-]{{0,3}}({_VIN_CHAR}{{17}})(?![A-Z0-9])")
# Spaces are taken out only where a sign or a word stands behind VIN: vin is wine in French, and wine has years. Chassis
# are nothing else.
_SPACED_VIN = re.compile(
    rf"(?<![A-Z0-9])(?:VIN(?:{_NUMBER_WORD}| ?[.:#/])|CHASSIS{_NUMBER_WORD}?)[ .:#/-]{{0,3}}"
    rf"({_VIN_CHAR}(?:[ -]?{_VIN_CHAR}){{16}})(?![A-Z0-9])"
)
# A region of ISO 3780 (0 is given to nobody), and digits in the last four places (ISO 3779, 4.4).
_PLAUSIBLE_VIN = re.compile(r"(?=(?:.*[A-Z]){3})[1-9A-HJ-NPR-Z].{12}[0-9]{4}")

# The possessive group takes words that stand before a number and are countries too: Norway, Nauru, Indonesia, Iceland.
_DOCUMENT = re.compile(
    r"(?<![A-Z0-9])(PASSPORT|ID CARD|IDENTITY CARD|RESIDENCE PERMIT|DRIVING LICEN[CS]E|TRAVEL DOCUMENT)"
    r"(?: ?(?:NO|NR|ID|IS|NUMBER)\b)?+[ .:#-]{0,3}([A-Z]{2,3})[ :/-]([A-Z0-9]{6,20})(?![A-Z0-9])"
)
# English words that are codes of countries too; but for Tonga and American Samoa each has a second code.
_WORDS = frozenset({"AND", "ARE", "AS", "CAN", "PER", "TO"})
_MANY_DIGITS = re.compile(r"(?:.*[0-9]){4}")

_DIGIT = re.compile(r"[0-9]")
_TO_UPPER = {code: code - 32 for code in range(ord("a"), ord("z") + 1)}


def extract_candidates(text: str) -> list[tuple[IdentifierType, str]]:
    """Find identifiers in free text.

    Args:
        text: Any text, any length.

    Returns:
        Type and canonical value, each pair once, by their first place in the text.

    Cost: linear in the text; 4 microseconds for 80 characters without a candidate, 13 with one.
    """
    if text.isascii():
        text = text.upper()
    else:
        text = DASH.sub("-", HIDDEN.sub("", unicodedata.normalize("NFKC", text))).translate(_TO_UPPER)
    if _DIGIT.search(text) is None:
        return []
    words = text.split()
    text = " ".join(words)
    found = sorted(_candidates(text, max(map(len, words))), key=lambda candidate: candidate[0])
    return list(dict.fromkeys((type_, value) for _, type_, value in found))


def _candidates(text: str, longest_word: int) -> Iterator[tuple[int, IdentifierType, str]]:
    """Give place, type and canonical value of what is found, in the order of the patterns."""
    if _CONTAINER_HINT.search(text) is not None:
        for match in _CONTAINER.finditer(text):
            if number := _usable(container, match[0]):
                yield match.start(), IdentifierType.CONTAINER, number
    if "IMO" in text:
        for match in _IMO.finditer(text):
            if number := _usable(imo, match[1]):
                yield match.start(1), IdentifierType.IMO, number
    if longest_word >= 17:
        yield from _vins(_VIN, text)
    if "VIN" in text or "CHASSIS" in text:
        yield from _vins(_MARKED_VIN, text)
        yield from _vins(_SPACED_VIN, text)
    if "PASSPORT" in text or " CARD" in text or "PERMIT" in text or "LICEN" in text or "DOCUMENT" in text:
        for match in _DOCUMENT.finditer(text):
            kind, country, written = match.groups()
            if country in _WORDS or not _MANY_DIGITS.match(written):
                continue
            if number := _usable(identity_document, written, country, kind):
                yield match.start(), IdentifierType.IDENTITY_DOCUMENT, number


def _vins(pattern: re.Pattern[str], text: str) -> Iterator[tuple[int, IdentifierType, str]]:
    for match in pattern.finditer(text):
        written = match[1].replace(" ", "").replace("-", "")
        if _PLAUSIBLE_VIN.fullmatch(written) and (number := _usable(vin, written)):
            yield match.start(1), IdentifierType.VIN, number


def _usable(form: Callable[..., str], *written: str) -> str:
    """Give the canonical form, or an empty string."""
    try:
        return form(*written)
    except NormalisationError:
        return ""
