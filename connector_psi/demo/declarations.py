"""Writes a full entry summary declaration of ICS2 (message IE4R05) as XML.

Decides: which elements a declaration of the samples has, and their order, which is the schema's. Leaves to others: what
stands in them (``shipments``), and reading them (``adapters.ics2``, which shares no code with this module).

Source: EU customs data model, ICS2 V2.21, ``IE4R05.xsd`` (namespace ``urn:wco:datamodel:eu:ics2:2``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from xml.sax.saxutils import escape

from connector_psi.demo.numbers import Number
from connector_psi.demo.words import Goods, Place
from connector_psi.domain.records import IdentifierType

NAMESPACE = "urn:wco:datamodel:eu:ics2:2"
CONTACT_TYPES = {IdentifierType.EMAIL: "EM", IdentifierType.PHONE: "TE"}

Element = tuple[str, "str | Sequence[Element]"]
"""Name and content; a child without content is left out."""


@dataclass(frozen=True, slots=True)
class Party:
    """A company or a person."""

    name: str
    place: Place
    street: str
    is_person: bool = False
    eori: Number | None = None
    contacts: tuple[Number, ...] = ()


@dataclass(frozen=True, slots=True)
class Means:
    """A means of transport."""

    name: Number | str
    """Its number, or what it is called where that is no identifier that is matched."""
    identification: str
    """``typeOfIdentification`` of code list CL750."""
    kind: str
    """``typeOfMeansOfTransport`` of code list CL751."""
    nationality: str


@dataclass(frozen=True, slots=True)
class Item:
    """A goods item."""

    goods: Goods
    packages: int
    gross_kg: int
    marks: str
    text: str = ""
    """Additional information, free text."""
    in_text: tuple[Number, ...] = ()
    """What stands in it."""
    containers: tuple[Number, ...] = ()


@dataclass(frozen=True, slots=True)
class House:
    """A house consignment."""

    consignee: Party
    consignor: Party
    items: tuple[Item, ...]
    document: Number
    vat: Number | None = None


@dataclass(frozen=True, slots=True)
class Declaration:
    """One message: an ENS with its master consignment, and its houses where it has any."""

    serial: int
    mrn: Number
    issued: str
    arrival: str
    circumstance: str
    """Specific circumstance indicator of code list CL742."""
    mode: str
    """1 sea, 3 road, 4 air."""
    active: Means
    passive: Means | None
    carrier: Party
    consignee: Party
    consignor: Party
    notify: Party | None
    document: Number
    document_type: str
    origin: Place
    entry: Place
    equipment: tuple[tuple[Number, Number], ...]
    """Containers with their seals."""
    items: tuple[Item, ...] = ()
    houses: tuple[House, ...] = ()


def encode_declaration(declaration: Declaration) -> bytes:
    """Return the message in UTF-8."""
    d = declaration
    message: Element = (
        "IE4R05",
        (
            (
                "MessageHeader",
                (
                    ("messageId", f"demo-{d.serial:08d}"),
                    ("messageTimestamp", d.issued),
                    ("messageSender", "CR"),
                    ("messageRecipient", f"NES.{d.entry.country}"),
                ),
            ),
            ("functionalReference", f"DEMO-{d.serial:06d}"),
            ("relatedENS", _ens(d)),
        ),
    )
    lines = ["<?xml version='1.0' encoding='UTF-8'?>"]
    _write(message, "", lines, f' xmlns="{NAMESPACE}"')
    return ("\n".join(lines) + "\n").encode()


def numbers_in(part: object) -> Iterator[Number]:
    """Yield every identifier of a declaration or a part of it, as often as it is written."""
    if isinstance(part, Number):
        yield part
    elif isinstance(part, tuple):
        for inner in part:
            yield from numbers_in(inner)
    elif is_dataclass(part):
        for each in fields(part):
            yield from numbers_in(getattr(part, each.name))


def _ens(d: Declaration) -> tuple[Element, ...]:
    return (
        ("DocumentIssueDate", (("DateTime", d.issued),)),
        ("SpecificCircumstanceIndicator", d.circumstance),
        ("MRN", d.mrn.written),
        (
            "activeBorderTransportMeans",
            (
                *_means(d.active),
                ("ModeOfTransport", d.mode),
                ("estimatedDateAndTimeOfArrival", (("DateTime", d.arrival),)),
                *_routing("countriesOfRoutingOfMeansOfTransport", d),
            ),
        ),
        ("consignmentMasterLevel", _master(d)),
        ("declarant", _party(d.carrier, contacts=False, kind=False)),
        ("customsOfficeOfFirstEntry", (("referenceNumber", f"{d.entry.country}{d.serial % 900 + 100:06d}"),)),
    )


def _master(d: Declaration) -> tuple[Element, ...]:
    gross = sum(item.gross_kg for item in d.items) + sum(item.gross_kg for h in d.houses for item in h.items)
    return (
        ("containerIndicator", "1" if d.equipment else "0"),
        ("totalGrossMass", str(gross)),
        ("carrier", _party(d.carrier, kind=False)),
        ("consignee", _party(d.consignee)),
        *(("goodsItem", _item(number, item, house=False)) for number, item in enumerate(d.items, 1)),
        ("consignor", _party(d.consignor)),
        *(("consignmentHouseLevel", _house(number, house, d)) for number, house in enumerate(d.houses, 1)),
        ("placeOfLoading", _place(d.origin)),
        *((("notifyParty", _party(d.notify)),) if d.notify else ()),
        *((("passiveBorderTransportMeans", _means(d.passive)),) if d.passive else ()),
        ("transportDocumentMasterLevel", (("documentNumber", d.document.written), ("type", d.document_type))),
        *(("transportEquipment", _equipment(container, seal)) for container, seal in d.equipment),
        ("placeOfUnloading", _place(d.entry)),
    )


def _house(number: int, house: House, d: Declaration) -> tuple[Element, ...]:
    fiscal: tuple[Element, ...] = ()
    if house.vat:
        fiscal = (("additionalFiscalReferences", (("VATIdentificationNumber", house.vat.written), ("role", "FR1"))),)
    return (
        ("sequenceNumber", str(number)),
        ("containerIndicator", "1" if d.equipment else "0"),
        ("totalGrossMass", str(sum(item.gross_kg for item in house.items))),
        *fiscal,
        ("consignee", _party(house.consignee)),
        *(("goodsItem", _item(n, item, house=True)) for n, item in enumerate(house.items, 1)),
        ("consignor", _party(house.consignor)),
        *_routing("countriesOfRoutingOfConsignment", d),
        ("transportDocumentHouseLevel", (("documentNumber", house.document.written), ("type", "N714"))),
    )


def _item(number: int, item: Item, *, house: bool) -> tuple[Element, ...]:
    return (
        ("goodsItemNumber", str(number)),
        *((("additionalInformation", (("code", "00500"), ("text", item.text))),) if item.text else ()),
        (
            "commodity",
            (
                ("descriptionOfGoods", item.goods.description),
                ("commodityCode", (("harmonizedSystemSubHeadingCode", item.goods.hs6),)),
            ),
        ),
        ("weight", (("grossMass", str(item.gross_kg)), *((("netMass", str(item.gross_kg - 1)),) if house else ()))),
        (
            "packaging",
            (
                ("shippingMarks", item.marks),
                ("numberOfPackages", str(item.packages)),
                ("typeOfPackages", item.goods.packages),
            ),
        ),
        *(
            ("transportEquipment", (("containerIdentificationNumber", container.written),))
            for container in item.containers
        ),
    )


def _party(party: Party, *, contacts: bool = True, kind: bool = True) -> tuple[Element, ...]:
    return (
        ("name", party.name),
        *((("identificationNumber", party.eori.written),) if party.eori else ()),
        *((("typeOfPerson", "1" if party.is_person else "2"),) if kind else ()),
        (
            "address",
            (
                ("city", party.place.name),
                ("country", party.place.country),
                ("street", party.street),
                ("postCode", party.place.postcode),
            ),
        ),
        *(
            ("communication", (("identifier", contact.written), ("type", CONTACT_TYPES[contact.type])))
            for contact in (party.contacts if contacts else ())
        ),
    )


def _means(means: Means) -> tuple[Element, ...]:
    return (
        ("identificationNumber", means.name if isinstance(means.name, str) else means.name.written),
        ("typeOfIdentification", means.identification),
        ("typeOfMeansOfTransport", means.kind),
        ("nationality", means.nationality),
    )


def _routing(name: str, d: Declaration) -> Iterable[Element]:
    for number, country in enumerate(dict.fromkeys((d.origin.country, d.entry.country)), 1):
        yield name, (("sequenceNumber", str(number)), ("country", country))


def _place(place: Place) -> tuple[Element, ...]:
    return ("location", place.name), ("UNLOCODE", place.locode), ("address", (("country", place.country),))


def _equipment(container: Number, seal: Number) -> tuple[Element, ...]:
    return (
        ("containerSizeAndType", "45G1"),
        ("containerPackedStatus", "A"),
        ("containerSupplierType", "2"),
        ("containerIdentificationNumber", container.written),
        ("numberOfSeals", "1"),
        ("seal", (("identifier", seal.written),)),
    )


def _write(element: Element, indent: str, lines: list[str], attributes: str = "") -> None:
    name, content = element
    if isinstance(content, str):
        if content:
            lines.append(f"{indent}<{name}>{escape(content)}</{name}>")
        return
    lines.append(f"{indent}<{name}{attributes}>")
    for child in content:
        _write(child, indent + "  ", lines)
    lines.append(f"{indent}</{name}>")
