"""Invented identifiers that are right in form: check digits hold, layouts are those of the road, nobody owns them.

Decides: how each type is drawn, and that no two numbers of one run look alike by accident, so that whatever matches was
meant to. Ship numbers lie below the range that was ever assigned, telephone numbers in ranges that regulators keep for
fiction, e-mail domains below ``.example``. Leaves to others: the canonical form (``domain.identifiers``), where a
number is written (``shipments``, ``sought``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from connector_psi.domain.identifiers import normalise
from connector_psi.domain.records import IdentifierType
from connector_psi.errors import NormalisationError

_LETTERS = "ABCDEFGHJKLMNPRSTUVWXYZ"
"""Without I, O and Q: what no layout leaves out and no reader takes for a digit."""
_DIGITS = "23456789"
_VIN_CHARS = "ABCDEFGHJKLMNPRSTUVWXYZ0123456789"
# The 9 in third place marks a maker of fewer than 1,000 vehicles a year (ISO 3780): these have none.
_MAKERS = ("WX9", "VD9", "ZQ9", "YK9", "TN9", "UZ9")
_BOXES = ("XQDU", "ZPSU", "QEXU", "XFTU", "ZMVU")

# L a letter, D a digit, anything else as it stands.
_PLATES = {
    "BE": "D-LLL-DDD",
    "BG": "LL DDDD LL",
    "CZ": "DLD DDDD",
    "DE": "LL-LL DDDD",
    "ES": "DDDD LLL",
    "FR": "LL-DDD-LL",
    "HU": "LLLL-DDD",
    "IT": "LL DDD LL",
    "PL": "LL DDDDD",
    "RO": "LL DD LLL",
    "SK": "LL-DDDLL",
    "TR": "DD LLL DDD",
    "UA": "LL DDDD LL",
}
_DOCUMENTS = {
    ("DE", "P"): "LDDLDDLDD",
    ("FR", "P"): "DDLLDDDDD",
    ("ES", "P"): "LLLDDDDDD",
    ("IT", "P"): "LLDDDDDDD",
    ("PL", "P"): "LLDDDDDDD",
    ("BE", "P"): "LLDDDDDD",
    ("NL", "I"): "LLDDDDDDD",
    ("RO", "I"): "LLDDDDDD",
}
_EORI_DIGITS = {"BE": 10, "BG": 9, "DE": 15, "ES": 9, "FR": 14, "GR": 9, "HU": 10, "IT": 11, "NL": 9, "PL": 12, "PT": 9}
_VAT_DIGITS = {"DE": 9, "DK": 8, "FI": 8, "HU": 8, "PL": 10, "PT": 9}
# Bundesnetzagentur, ARCEP, Ofcom, PTS: numbers for films and books; country, prefix and digits that follow it.
_PHONES = (
    ("DE", "+49 30 23125 ", 3),
    ("DE", "+49 40 66969 ", 3),
    ("DE", "+49 221 4710 ", 3),
    ("DE", "+49 69 90009 ", 3),
    ("FR", "+33 1 99 00 ", 4),
    ("FR", "+33 3 53 01 ", 4),
    ("GB", "+44 20 7946 0", 3),
    ("SE", "+46 8 465 004 ", 2),
)


@dataclass(frozen=True, slots=True)
class Number:
    """An identifier as a source writes it, and its canonical form."""

    type: IdentifierType
    written: str = field(repr=False)
    value: str = field(repr=False)
    """Canonical; empty where what is written has none."""
    country: str = ""
    document_type: str = ""


class Numbers:
    """Draws numbers that differ from all others drawn.

    Args:
        random: Seeded; the same seed draws the same numbers.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._used: set[str] = set()

    def container(self) -> Number:
        """A box with its check digit."""

        def draw() -> Number:
            serial = self._random.choice(_BOXES) + self._filled("DDDDDD")
            return Number(
                IdentifierType.CONTAINER, "", normalise(IdentifierType.CONTAINER, serial, complete_check_digit=True)
            )

        return self._new(draw)

    def plate(self, country: str = "") -> Number:
        """A plate of a country, or of any."""

        def draw() -> Number:
            code = country or self._random.choice(sorted(_PLATES))
            return made(IdentifierType.PLATE, self._filled(_PLATES.get(code, "LL DDDD LL")), code)

        return self._new(draw)

    def vin(self) -> Number:
        """A vehicle identification number."""

        def draw() -> Number:
            middle = "".join(self._random.choice(_VIN_CHARS) for _ in range(7))
            return made(
                IdentifierType.VIN, f"{self._random.choice(_MAKERS)}{middle}{self._filled('L')}{self._filled('DDDDDD')}"
            )

        return self._new(draw)

    def imo(self) -> Number:
        """A ship number with its check digit, from 2000000 to 4999999, where no ship has one."""

        def draw() -> Number:
            first = [self._random.choice("234"), *self._filled("DDDDD")]
            check = sum(int(digit) * weight for digit, weight in zip(first, range(7, 1, -1), strict=True)) % 10
            return made(IdentifierType.IMO, "".join(first) + str(check))

        return self._new(draw)

    def aircraft(self) -> Number:
        """A registration mark of at least six characters; shorter ones occur in random bytes."""

        def draw() -> Number:
            layout = self._random.choice(("NDDDLL", "JADDDL", "HLDDDD", "UP-LDDDD"))
            text = "".join(
                self._filled(char) if char == "D" or (char == "L" and i > 1) else char for i, char in enumerate(layout)
            )
            return made(IdentifierType.AIRCRAFT, text)

        return self._new(draw)

    def document(self) -> Number:
        """A passport or an identity card."""

        def draw() -> Number:
            country, kind = self._random.choice(sorted(_DOCUMENTS))
            return made(IdentifierType.IDENTITY_DOCUMENT, self._filled(_DOCUMENTS[country, kind]), country, kind)

        return self._new(draw)

    def mrn(self, country: str) -> Number:
        """A movement reference number of a country's customs."""
        return self._new(lambda: made(IdentifierType.MRN, f"26{country}" + self._filled("LDDDDLDDDDDDLD")))

    def transport_document(self, kind: str) -> Number:
        """A bill of lading, an air waybill or a consignment note; ``kind`` is its first letters."""
        return self._new(lambda: made(IdentifierType.TRANSPORT_DOCUMENT, f"{kind}-2026-" + self._filled("LDDDDDDD")))

    def seal(self) -> Number:
        """A seal."""
        return self._new(lambda: made(IdentifierType.SEAL, self._filled("LL-DDDDDD")))

    def eori(self, country: str) -> Number:
        """An EORI number."""
        return self._new(lambda: made(IdentifierType.EORI, country + self._filled("D" * _EORI_DIGITS.get(country, 11))))

    def vat(self) -> Number:
        """A VAT number whose check digit holds."""

        def draw() -> Number:
            country = self._random.choice(sorted(_VAT_DIGITS))
            return made(IdentifierType.VAT, country + self._filled("D" * _VAT_DIGITS[country]))

        return self._new(draw)

    def phone(self) -> Number:
        """A telephone number from a range kept for fiction."""

        def draw() -> Number:
            country, prefix, digits = self._random.choice(_PHONES)
            return made(IdentifierType.PHONE, prefix + f"{self._random.randrange(10**digits):0{digits}d}", country)

        return self._new(draw)

    def email(self, who: str) -> Number:
        """An address below a domain named after somebody."""
        mailbox = self._random.choice(("office", "import", "ops", "sales", "dispo", "info"))
        return self._new(lambda: made(IdentifierType.EMAIL, f"{mailbox}@{who}-{self._filled('DDDD')}.example"))

    def rewritten(self, number: Number) -> Number:
        """Return the same number as another hand writes it."""
        written = number.written
        match number.type:
            case IdentifierType.CONTAINER:
                v = number.value
                written = self._random.choice((v, f"{v[:4]} {v[4:10]} {v[10]}", f"{v[:4]}{v[4:10]}-{v[10]}"))
            case IdentifierType.PLATE:
                written = self._random.choice((written.replace("-", " "), written.replace(" ", "-"), written))
            case IdentifierType.PHONE:
                plain = written.replace(" ", "")
                written = self._random.choice((plain, "00" + plain[1:], written.replace(" ", "-"), written))
            case IdentifierType.EMAIL:
                written = self._random.choice((written.upper(), written.capitalize(), written))
            case IdentifierType.IMO:
                written = self._random.choice((f"IMO {written}", written))
            case _:
                pass
        again = made(number.type, written, number.country, number.document_type)
        assert again.value == number.value, "another writing is the same number"
        return again

    def one_off(self, number: Number, *, valid: bool) -> Number:
        """Return the number with one digit changed.

        Args:
            number: What is misread.
            valid: Whether the result has a canonical form, or one whose check digit fails.
        """
        text = number.written
        for place in reversed([place for place, char in enumerate(text) if char in _DIGITS]):
            for digit in _DIGITS:
                changed = _written(
                    number.type, text[:place] + digit + text[place + 1 :], number.country, number.document_type
                )
                forms = {_bare(changed.written), _bare(changed.value)} - {""}
                if digit != text[place] and bool(changed.value) is valid and not forms & self._used:
                    self._used |= forms
                    return changed
        raise AssertionError("every neighbour of the number is in use")

    def next_box(self, number: Number) -> Number:
        """Return another box: one digit of the serial number differs, and the check digit with it."""
        v = number.value

        def draw() -> Number:
            place = self._random.randrange(4, 10)
            serial = v[:place] + self._random.choice(_DIGITS) + v[place + 1 : 10]
            return Number(
                IdentifierType.CONTAINER, "", normalise(IdentifierType.CONTAINER, serial, complete_check_digit=True)
            )

        return self._new(draw)

    def _filled(self, layout: str) -> str:
        choices = {"L": _LETTERS, "D": _DIGITS}
        return "".join(self._random.choice(choices[char]) if char in choices else char for char in layout)

    def _new(self, draw: Callable[[], Number]) -> Number:
        while True:
            try:
                number = draw()
            except NormalisationError:
                # Drawn without a check digit: the next draw may have it.
                continue
            written = number.written or number.value
            # Both forms: a plate without its country must be as unique as one with it.
            forms = {_bare(written), _bare(number.value)}
            if not forms & self._used:
                self._used |= forms
                return Number(number.type, written, number.value, number.country, number.document_type)


def made(kind: IdentifierType, written: str, country: str = "", document_type: str = "") -> Number:
    """Return a number from how it is written.

    Raises:
        NormalisationError: What is written has no canonical form.
    """
    value = normalise(kind, written, country=country, document_type=document_type)
    return Number(kind, written, value, country, document_type)


def _written(kind: IdentifierType, written: str, country: str, document_type: str) -> Number:
    try:
        return made(kind, written, country, document_type)
    except NormalisationError:
        return Number(kind, written, "", country, document_type)


def _bare(text: str) -> str:
    return "".join(char for char in text.upper() if char.isalnum())
