"""One canonical form per identifier type.

Two authorities match only if both write the same thing the same way, so everything that may differ between two writings
of one number is decided, in this order:

1. Unicode: NFKC, so that full-width letters and digits become ASCII; separators (spaces, every Unicode dash,
   ``. , / : _`` and invisible characters) go; what is then not ASCII is refused. Other scripts are not transliterated.
2. Case: upper, e-mail addresses and hosts lower.
3. Look-alikes: where a standard allows only digits at a position, O and I read as 0 and 1, and the reverse where it
   allows only letters; the check digit, where the standard has one, must then hold. Types without such positions are
   never read anew.
4. Structure and check digit. A missing check digit is computed only where the format leaves it out by definition: if
   the caller says so of its source, or the format itself is such a one.

``normalise(type, normalise(type, value)) == normalise(type, value)`` for every value that is not refused. A type that
needs more than a number (country, make, currency) has it before the number in its canonical form, so that the form
alone can be read again.

Here stand the version of the rules, what leads to them by type, and what one identifier says about another. The rules
themselves: ``domain.transport``, ``domain.trade``, ``domain.documents``, ``domain.contacts``, ``domain.payment``,
``domain.serials``, all on ``domain.writing``; national plates in ``domain.plates``; free text in ``domain.freetext``.
Leaves to others: country codes (``domain.countries``), where a value stood and whether a type suffices for a match
(``domain.records``). Nothing looks a number up in a register: a canonical number need not exist. Neither the message
nor the context of an error carries the value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from connector_psi.domain import contacts, documents, payment, serials, trade, transport
from connector_psi.domain.documents import MAX_RANGE, expand_range
from connector_psi.domain.freetext import extract_candidates
from connector_psi.domain.records import IdentifierType
from connector_psi.errors import NormalisationError

__all__ = [
    "FIRST_NORMALISATION_VERSION",
    "FIRST_TYPES",
    "INCOMPLETE",
    "MAX_CANONICAL_BYTES",
    "MAX_RANGE",
    "NORMALISATION_VERSION",
    "expand_range",
    "extract_candidates",
    "implied",
    "normalise",
]

NORMALISATION_VERSION: Final = "cp-norm-2"
"""Version of the rules of canonical forms; it is part of every token.

It changes with any change after which some value gets another canonical form, or one where it had none or the reverse:
otherwise two nodes would compute different tokens for one number and silently never match. What ``implied`` adds to a
record belongs to the rules. A faster or clearer implementation of the same rules does not change it. New metadata of
``phonenumbers``, ``pycountry``, ``python-stdnum`` or Unicode can admit numbers, countries and characters that were
refused before; that alone is no change of version.
"""

FIRST_NORMALISATION_VERSION: Final = "cp-norm-1"
"""What version 0.1.0 has. ``FIRST_TYPES`` have the same forms under both; the second gave forms to more types."""

FIRST_TYPES: Final = frozenset(
    {
        IdentifierType.CONTAINER,
        IdentifierType.PLATE,
        IdentifierType.VIN,
        IdentifierType.IMO,
        IdentifierType.AIRCRAFT,
        IdentifierType.IDENTITY_DOCUMENT,
        IdentifierType.MRN,
        IdentifierType.TRANSPORT_DOCUMENT,
        IdentifierType.SEAL,
        IdentifierType.EORI,
        IdentifierType.VAT,
        IdentifierType.PHONE,
        IdentifierType.EMAIL,
    }
)
"""Types that have a form under the first version."""

MAX_CANONICAL_BYTES: Final = 400
"""No canonical form is longer, in UTF-8."""

_BY_VALUE: Mapping[IdentifierType, Callable[[str], str]] = {
    IdentifierType.VIN: transport.vin,
    IdentifierType.VIN_LAST8: transport.vin_last8,
    IdentifierType.PLATE_NUMBER: transport.plate_alone,
    IdentifierType.IMO: transport.imo,
    IdentifierType.ENI: transport.eni,
    IdentifierType.MMSI: transport.mmsi,
    IdentifierType.AIRCRAFT: transport.aircraft,
    IdentifierType.MRN: trade.mrn,
    IdentifierType.TRANSPORT_DOCUMENT: trade.transport_document,
    IdentifierType.SEAL: trade.seal,
    IdentifierType.EORI: trade.eori,
    IdentifierType.LEI: trade.lei,
    IdentifierType.POSTAL_ITEM: trade.postal_item,
    IdentifierType.RECEPTACLE: trade.receptacle,
    IdentifierType.EMAIL: contacts.email,
    IdentifierType.WEBSITE: contacts.website,
    IdentifierType.IBAN: payment.iban,
    IdentifierType.PAYMENT_CARD: payment.payment_card,
    IdentifierType.SERIAL: serials.serial,
}
_BY_VALUE_AND_COUNTRY: Mapping[IdentifierType, Callable[[str, str], str]] = {
    IdentifierType.PLATE: transport.plate,
    IdentifierType.HULL: transport.hull,
    IdentifierType.VAT: trade.vat,
    IdentifierType.PHONE: contacts.phone,
}


def normalise(
    type: IdentifierType,  # noqa: A002 - the word of the domain, as in ``Identifier.type``; given by position
    value: str,
    *,
    country: str = "",
    document_type: str = "",
    make: str = "",
    calibre: str = "",
    currency: str = "",
    denomination: str = "",
    complete_check_digit: bool = False,
) -> str:
    """Give the one canonical form of an identifier.

    Idempotent, and blind to case, spacing, dashes and full-width characters. The result is never empty and at most
    ``MAX_CANONICAL_BYTES`` long. A keyword that the type does not use is ignored; one that it needs may stand in the
    value instead, as it does in the canonical form.

    Args:
        type: What the value is said to be.
        value: As the source wrote it.
        country: Country of a plate, an identity document, a small craft or a national VAT or phone number: ISO alpha-2,
            alpha-3 or vehicle sign.
        document_type: Type of an identity document, as a word or as one letter of P, I, R, D, T, V, N, S.
        make: Maker of a firearm, an engine, a component, industrial equipment or another item.
        calibre: Calibre of a firearm.
        currency: Currency of a banknote, ISO 4217.
        denomination: Face value of a banknote.
        complete_check_digit: Compute the check digit of a ten-character container number or a fourteen-digit IMEI. Only
            for a source whose own format leaves it out by definition: elsewhere the missing character may be any other.

    Returns:
        ``CSQU3054383`` (container), ``DE:BAB1234`` (plate), ``FR/P/12AB34567`` (identity document),
        ``COLT/45ACP/C12345`` (firearm), ``VOLVO/2003123456`` (engine and the like), ``EUR/50/X12345678901``
        (banknote), ``411111*1111`` (card), ``+493012345678`` (phone), ``example.com`` (website);
        ``docs/identifiers.md`` has every type.

    Raises:
        NormalisationError: The value has no canonical form; ``reason`` is ``<type>.<why>`` and never holds the value.

    Cost: 1 to 5 microseconds; numbers with a make 10, LEI and VAT 15, a plate that is read anew 25, a national phone
        number 30, an IBAN or an address with unusual characters 40.
    """
    by_value = _BY_VALUE.get(type)
    if by_value is not None:
        return by_value(value)
    by_country = _BY_VALUE_AND_COUNTRY.get(type)
    if by_country is not None:
        return by_country(value, country)
    if type is IdentifierType.CONTAINER:
        return transport.container(value, complete_check_digit=complete_check_digit)
    if type is IdentifierType.IDENTITY_DOCUMENT:
        return documents.identity_document(value, country, document_type)
    if type is IdentifierType.IMEI:
        return serials.imei(value, complete_check_digit=complete_check_digit)
    if type is IdentifierType.FIREARM:
        return serials.firearm(value, make, calibre)
    if type is IdentifierType.BANKNOTE:
        return serials.banknote(value, currency, denomination)
    return serials.made(type.value, value, make)


INCOMPLETE: Final[Mapping[IdentifierType, IdentifierType]] = MappingProxyType(
    {
        IdentifierType.PLATE: IdentifierType.PLATE_NUMBER,
        IdentifierType.VIN: IdentifierType.VIN_LAST8,
        IdentifierType.FIREARM: IdentifierType.SERIAL,
        IdentifierType.ENGINE: IdentifierType.SERIAL,
        IdentifierType.COMPONENT: IdentifierType.SERIAL,
        IdentifierType.INDUSTRIAL_EQUIPMENT: IdentifierType.SERIAL,
        IdentifierType.ITEM: IdentifierType.SERIAL,
    }
)
"""What a value is where its source leaves out the country, the make, or all but the last eight characters."""


def implied(type: IdentifierType, canonical: str) -> tuple[tuple[IdentifierType, str], ...]:  # noqa: A002 - as above
    """Give the identifiers that follow from one.

    A source that knows only the last eight of a VIN, a plate without its country or a number without its make can meet
    the whole number only in what both can say. A ship whose European number holds its IMO number is found by either.

    Args:
        type: Of the identifier.
        canonical: Its canonical form.

    Returns:
        Type and canonical form of each; empty where nothing follows.

    Cost: 2 microseconds.
    """
    if type is IdentifierType.ENI:
        return ((IdentifierType.IMO, canonical[1:]),) if canonical[0] == "9" else ()
    if type is IdentifierType.HULL:
        # Which country stands before the twelve characters was a guess, if the source did not say.
        return ((IdentifierType.SERIAL, canonical[2:]),)
    incomplete = INCOMPLETE.get(type)
    if incomplete is None:
        return ()
    number = canonical[-8:] if type is IdentifierType.VIN else canonical.replace(":", "/").rpartition("/")[2]
    try:
        return ((incomplete, normalise(incomplete, number)),)
    except NormalisationError:
        # A VIN whose last four are no digits: a short form of it would not be taken for one.
        return ()
