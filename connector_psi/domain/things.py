"""What the exchange formats describe: things, persons and companies, with the same keys in each of them.

Decides: which kinds of thing there are, which keys identify each (``KINDS``, one closed table), what a key becomes
where the source leaves out the country or the make, and what of a description becomes an identifier, a party and a
disclosable value.
Leaves to others: which kinds a format has and what else it says of them (each adapter), canonical forms
(``domain.identifiers``), reading lines (``domain.lines``).

A key that a kind does not have is reported and ignored. Drugs and places have no number of their own: they are worth a
record only if their description certainly holds one.

Source: Regulation (EU) 2018/1862, Articles 20(3) and 38(2); Regulation (EU) 2016/794, Annex II.A; Regulation (EC) No
515/97, Articles 24 and 25.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict

from connector_psi.domain.drafts import Draft, Found
from connector_psi.domain.identifiers import INCOMPLETE, expand_range, normalise
from connector_psi.domain.lines import BirthDate, Countries, Country, Spot, Text, Texts, rejecting
from connector_psi.domain.records import Field, Identifier, IdentifierType, Issue, Party, PartyKind
from connector_psi.errors import NormalisationError

_NONE: Final[Mapping[str, str]] = MappingProxyType({})


class Key(NamedTuple):
    """A key that holds an identifier, and the keys that complete it."""

    name: str
    type: IdentifierType
    context: Mapping[str, str] = _NONE
    """Keyword of ``normalise`` -> key that holds it, such as ``country`` -> ``plate_country``."""
    document_type: str = ""
    """Type of the document, where the key itself says it."""
    last: str = ""
    """Key with the last number, where the two are a range."""

    @property
    def names(self) -> frozenset[str]:
        """All keys that it reads."""
        return frozenset({self.name, *self.context.values(), *filter(None, [self.last])})


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """A kind of thing."""

    keys: tuple[Key, ...]
    """What identifies it, in the order in which it is read."""
    describing: frozenset[str] = frozenset({"description"})
    """Keys that say more of it and identify nothing."""
    party: PartyKind | None = None
    """What it is as a party, where it is one."""
    names: frozenset[str] = field(init=False)
    """All keys that it can have, beside its type."""

    def __post_init__(self) -> None:
        # Frozen, and needed for every line.
        object.__setattr__(self, "names", self.describing.union(*(key.names for key in self.keys)))

    @property
    def lacking(self) -> str:
        """Which code it is if nothing of its kind can be found by what it says."""
        return "no_identifier" if self.keys else "descriptive_only"


_T = IdentifierType
_VIN = Key("vin", _T.VIN)
_VIN_LAST8 = Key("vin_last8", _T.VIN_LAST8)
PLATE: Final = Key("plate", _T.PLATE, {"country": "plate_country"})
_CONTAINER = Key("container_number", _T.CONTAINER)
_SEAL = Key("seal", _T.SEAL)
_PAPER = {"country": "document_country", "document_type": "document_type"}
DOCUMENT: Final = Key("document_number", _T.IDENTITY_DOCUMENT, _PAPER)
MORE_DOCUMENTS: Final = Key("more_documents", _T.IDENTITY_DOCUMENT)
REGISTER_NUMBER: Final = Key(
    "national_register_number", _T.IDENTITY_DOCUMENT, {"country": "register_country"}, document_type="N"
)
_SOCIAL_SECURITY = Key(
    "social_security_number", _T.IDENTITY_DOCUMENT, {"country": "social_security_country"}, document_type="S"
)
_PHONE = Key("phone_number", _T.PHONE, {"country": "phone_country"})
_EMAIL = Key("email_address", _T.EMAIL)
_WEBSITE = Key("website", _T.WEBSITE)
_IBAN = Key("iban", _T.IBAN)
_COMPANY_NUMBERS = (Key("vat_number", _T.VAT, {"country": "country"}), Key("eori", _T.EORI), Key("lei", _T.LEI))
_CONTACTS = (_PHONE, _EMAIL, _IBAN)


def _serial(type_: IdentifierType, *more: str) -> Key:
    return Key("serial_number", type_, {word: word for word in ("make", *more)})


PERSON_NAMES: Final = frozenset(
    {
        "name", "surnames", "forenames", "names_at_birth", "previous_names", "aliases", "birth_date", "birth_place",
        "gender", "nationalities",
    }
)  # fmt: skip
"""What says who a person is, without any number."""
_AT = frozenset({"name", "address", "country", "description"})
_ISSUED = frozenset({"document_issued", "description"})

_VEHICLE = Kind((_VIN, _VIN_LAST8, PLATE))
_VESSEL = Kind(
    (
        Key("imo", _T.IMO),
        Key("eni", _T.ENI),
        Key("mmsi", _T.MMSI),
        Key("hull_number", _T.HULL, {"country": "hull_country"}),
        # Marks of small craft differ by country and have no register in common: a number of its own kind it is not.
        Key("boat_registration", _T.SERIAL),
    )
)
_ISSUED_DOCUMENT = Kind((DOCUMENT,), _ISSUED)
_BANKNOTE = Kind((Key("serial_number", _T.BANKNOTE, {"currency": "currency", "denomination": "denomination"}),))
_ENGINE = Kind((_serial(_T.ENGINE),))
_COMPONENT = Kind((_serial(_T.COMPONENT),))
_IT = Kind((Key("imei", _T.IMEI), _serial(_T.ITEM)))
_DESCRIPTIVE = Kind((), frozenset({"address", "country", "description"}))

KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "person": Kind(
            (DOCUMENT, MORE_DOCUMENTS, REGISTER_NUMBER, _SOCIAL_SECURITY, *_CONTACTS),
            PERSON_NAMES | _AT | _ISSUED,
            PartyKind.PERSON,
        ),
        "company": Kind(
            (*_COMPANY_NUMBERS, *_CONTACTS, _WEBSITE), _AT | {"registration_number"}, PartyKind.ORGANISATION
        ),
        "vehicle": _VEHICLE,
        "trailer": _VEHICLE,
        "caravan": _VEHICLE,
        "industrial_equipment": Kind((_serial(_T.INDUSTRIAL_EQUIPMENT),)),
        "boat": _VESSEL,
        "vessel": _VESSEL,
        "boat_engine": _ENGINE,
        "container": Kind((_CONTAINER, _SEAL)),
        "aircraft": Kind((Key("aircraft_registration", _T.AIRCRAFT),)),
        "aircraft_engine": _ENGINE,
        "firearm": Kind((_serial(_T.FIREARM, "calibre"),)),
        "blank_document": Kind((Key("document_number", _T.IDENTITY_DOCUMENT, _PAPER, last="document_number_last"),)),
        "issued_document": _ISSUED_DOCUMENT,
        "document": _ISSUED_DOCUMENT,
        "vehicle_registration": Kind((PLATE, DOCUMENT), _ISSUED),
        "banknote": _BANKNOTE,
        "currency": _BANKNOTE,
        "it_item": _IT,
        "item": _IT,
        "vehicle_component": _COMPONENT,
        "equipment_component": _COMPONENT,
        "high_value_object": Kind((_serial(_T.ITEM),)),
        "payment_card": Kind((Key("card_number", _T.PAYMENT_CARD),)),
        "bank_account": Kind((_IBAN,)),
        "phone": Kind((_PHONE, Key("imei", _T.IMEI))),
        "email": Kind((_EMAIL,)),
        "website": Kind((_WEBSITE,)),
        "consignment": Kind(
            (
                Key("mrn", _T.MRN),
                Key("transport_document", _T.TRANSPORT_DOCUMENT),
                _CONTAINER,
                _SEAL,
                Key("postal_item", _T.POSTAL_ITEM),
                Key("receptacle", _T.RECEPTACLE),
            )
        ),
        "drugs": Kind((), frozenset({"description"})),
        "location": _DESCRIPTIVE,
    }
)
"""Kind of thing -> what it can say."""
_NAMES = frozenset().union(*(kind.names for kind in KINDS.values()))

_CODES: Final = {
    "identifier_not_of_type": "a key that such a thing does not have; ignored",
    "no_identifier": "nothing by which it could be found: no identifier of its kind, and no name of a party",
    "descriptive_only": "drugs or a place, and the description holds no identifier",
}


def thing_codes(system: str, *, descriptive: bool) -> dict[str, str]:
    """Return the reason codes that describing things can have in a format, such as ``sis.no_identifier``.

    Args:
        system: Name of the format.
        descriptive: Whether it has records on things without a number of their own.
    """
    return {f"{system}.{code}": text for code, text in _CODES.items() if descriptive or code != "descriptive_only"}


# --- the keys, as models -------------------------------------------------------------------------------------------

Gender = Literal["female", "male", "other", "unknown"]
Denomination = Annotated[Text, BeforeValidator(lambda value: str(value) if type(value) is int else value)]


class Described(BaseModel):
    """An object of an exchange format."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class _Papers(Described):
    document_number: Text | None = None
    document_type: Text | None = None
    document_country: Country | None = None
    document_issued: BirthDate | None = None


class PersonKeys(_Papers):
    """Who a person is. Biometric data has no key: it is never read."""

    name: Text | None = None
    """As a whole, where the source does not keep its parts apart."""
    surnames: Text | None = None
    forenames: Text | None = None
    names_at_birth: Texts = ()
    previous_names: Texts = ()
    aliases: Texts = ()
    birth_date: BirthDate | None = None
    birth_place: Text | None = None
    gender: Gender | None = None
    nationalities: Countries = ()
    national_register_number: Text | None = None
    register_country: Country | None = None
    more_documents: Texts = ()
    """Each with country and type before the number: ``FR/P/12AB34567``."""


class ObjectKeys(_Papers):
    """What identifies an object."""

    vin: Text | None = None
    vin_last8: Text | None = None
    plate: Text | None = None
    plate_country: Country | None = None
    imo: Text | None = None
    eni: Text | None = None
    mmsi: Text | None = None
    hull_number: Text | None = None
    hull_country: Country | None = None
    boat_registration: Text | None = None
    container_number: Text | None = None
    seal: Text | None = None
    aircraft_registration: Text | None = None
    document_number_last: Text | None = None
    serial_number: Text | None = None
    make: Text | None = None
    calibre: Text | None = None
    currency: Text | None = None
    denomination: Denomination | None = None
    imei: Text | None = None
    card_number: Text | None = None
    iban: Text | None = None
    description: Text | None = None


class Entity(PersonKeys, ObjectKeys):
    """What a format can say of a person, a company or a thing alike."""

    type: str
    """Of ``KINDS``; each format has its own."""
    address: Text | None = None
    country: Country | None = None
    social_security_number: Text | None = None
    social_security_country: Country | None = None
    vat_number: Text | None = None
    eori: Text | None = None
    lei: Text | None = None
    registration_number: Text | None = None
    phone_number: Text | None = None
    phone_country: Country | None = None
    email_address: Text | None = None
    website: Text | None = None
    mrn: Text | None = None
    transport_document: Text | None = None
    postal_item: Text | None = None
    receptacle: Text | None = None


# --- from a description to a record --------------------------------------------------------------------------------


class Label(NamedTuple):
    """An identifier, or a range of them, in words for people."""

    type: IdentifierType
    text: str

    def __str__(self) -> str:
        return f"{self.type} {self.text}"


def describe(draft: Draft, kind: Kind, thing: Described, spot: Spot, *, system: str, role: str = "") -> list[Label]:
    """Take in what a description says: identifiers, a party, and what its free text certainly holds.

    Args:
        draft: Of the record.
        kind: What it describes.
        thing: What it says.
        spot: Where it stands.
        system: Begins the codes of issues.
        role: Of the thing in its record.

    Returns:
        Its identifiers in words.
    """
    values = _filled(thing)
    for name in sorted(values.keys() - kind.names):
        draft.report(f"{system}.identifier_not_of_type", line=spot.line.number, path=spot.at(name))
    values = {name: value for name, value in values.items() if name in kind.names}
    labels: dict[Label, None] = {}
    for key in kind.keys:
        given = values.get(key.name) or ()
        for value in (given,) if isinstance(given, str) else given:
            found = Found(value, spot.at(key.name), spot.line.number)
            labels.update(dict.fromkeys(_identified(draft, key, values, found, role)))
    if "description" in values:
        text = Found(values["description"], spot.at("description"), spot.line.number)
        labels.update({Label(found.type, found.value): None for found in draft.search_text(text)})
    if kind.party is not None and (party := _party(kind.party, values, spot, role)) is not None:
        draft.involve(party)
    return list(labels)


def settled(draft: Draft, spot: Spot, code: str) -> Generator[Issue, None, bool]:
    """Yield the issues of a record; return whether there is one, which is where it can be found by something.

    Args:
        draft: Of the record.
        spot: Where the thing stands that it is about.
        code: What is wrong where nothing else tells why there is no record.
    """
    if draft.identifiers or draft.parties:
        yield from draft.issues
        return True
    if not draft.issues:
        draft.report(code, line=spot.line.number, path=spot.itself)
    yield from rejecting(draft.issues)
    return False


def note_person(draft: Draft, thing: Described) -> None:
    """Take in what may be disclosed of a person or a company, beside its numbers."""
    values = _filled(thing)
    born = ", ".join(filter(None, (values.get("birth_date"), values.get("birth_place"))))
    note_all(
        draft,
        {
            Field.NAMES: _names(values),
            Field.BIRTH: [born],
            Field.GENDER: [values.get("gender")],
            Field.NATIONALITY: values.get("nationalities", ()),
        },
    )


def note_entity(draft: Draft, thing: Entity, labels: Iterable[Label]) -> None:
    """Take in what may be disclosed of an entity of Annex II.A: papers by point 2(f), what was used by point 3(b)."""
    kind = KINDS[thing.type]
    used: list[object] = [label for label in labels if label.type is not _T.IDENTITY_DOCUMENT]
    if kind.party is not None:
        note_person(draft, thing)
        note_all(draft, {Field.RESIDENCE: [thing.address, thing.country]})
    if thing.registration_number and "registration_number" in kind.names:
        used.append(f"registration_number {thing.registration_number}")
    note_all(draft, {Field.OBJECT_TYPE: [thing.type], Field.MEANS_USED: used})
    note_papers(draft, thing, labels)


def note_all(draft: Draft, fields: Mapping[Field, Iterable[object]]) -> None:
    """Take in values of fields, in words; None and empty ones are none."""
    for name, values in fields.items():
        for value in values:
            draft.note(name, str(value or ""))


def note_papers(draft: Draft, thing: _Papers, labels: Iterable[Label]) -> None:
    """Take in identity documents in words; the first with its date of issue."""
    papers = [str(label) for label in labels if label.type is _T.IDENTITY_DOCUMENT]
    if papers and thing.document_issued:
        papers[0] += f", issued {thing.document_issued}"
    note_all(draft, {Field.DOCUMENTS: papers})


def _filled(thing: Described) -> dict[str, Any]:
    values = {name: getattr(thing, name) for name in thing.model_fields_set & _NAMES}
    return {name: value for name, value in values.items() if value}


def _identified(draft: Draft, key: Key, values: Mapping[str, Any], found: Found, role: str) -> Iterator[Label]:
    """Take in what stands under a key; yield it in words."""
    context = {word: values.get(name, "") for word, name in key.context.items()}
    if key.document_type:
        context["document_type"] = key.document_type
    try:
        if key.last in values:
            type_, numbers = key.type, expand_range(found.text, values[key.last], **context)
        else:
            type_, number = _as_complete_as_it_is(key.type, found.text, context)
            numbers = (number,)
    except NormalisationError as error:
        draft.report(error.reason, line=found.line, path=found.path)
        return
    for number in numbers:
        draft.add(Identifier(type_, number, found.path, role), line=found.line)
    yield Label(type_, numbers[0] if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}")


def _as_complete_as_it_is(type_: IdentifierType, value: str, context: Mapping[str, str]) -> tuple[IdentifierType, str]:
    """Give type and canonical form; without the country or the make, those of the number alone."""
    try:
        return type_, normalise(type_, value, **context)  # type: ignore[arg-type]  # the one bool is not among them
    except NormalisationError as error:
        if type_ not in INCOMPLETE or not error.reason.endswith("_missing"):
            raise
    incomplete = INCOMPLETE[type_]
    return incomplete, normalise(incomplete, value)


def _names(values: Mapping[str, Any]) -> list[str]:
    """Return the name as one writes it, then all others."""
    parts = ", ".join(filter(None, (values.get("surnames"), values.get("forenames"))))
    others = (name for key in ("names_at_birth", "previous_names", "aliases") for name in values.get(key, ()))
    return list(dict.fromkeys(filter(None, (parts, values.get("name"), *others))))


def _party(kind: PartyKind, values: Mapping[str, Any], spot: Spot, role: str) -> Party | None:
    names = _names(values)
    if not names:
        return None
    stands = ("surnames", "forenames", "name", "names_at_birth", "previous_names", "aliases")
    return Party(
        role=role or "subject",
        kind=kind,
        name=names[0],
        source_path=spot.at(next(key for key in stands if key in values)),
        aliases=tuple(names[1:]),
        birth_date=values.get("birth_date", ""),
        birth_place=values.get("birth_place", ""),
        nationalities=tuple(values.get("nationalities", ())),
        gender=values.get("gender", ""),
        address=values.get("address", ""),
        country=values.get("country", ""),
    )
