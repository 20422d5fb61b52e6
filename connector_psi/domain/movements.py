"""Declarations of transit and of export, in the words of the EU customs data model: what is read of them.

Decides: which elements of a consignment and its goods are read (the paths below), what each yields wherever it stands,
which equipment carries which goods, and how a declaration is named that has no MRN yet.
Leaves to others: where a message keeps its consignments and what a record is (each adapter), what a party, a means or a
document becomes (``domain.declarations``), how a message is parsed: a part of one comes as a :class:`Part`.

Not read: guarantees, authorisations, masses and amounts, the unique consignment reference (the domain has no type for
it), addresses of places, and results of controls, which say what an official found and not what was declared.

Source: EU customs data model, Commission Delegated Regulation (EU) 2015/2446 Annex B; element names of the schemas of
NCTS phases 5 and 6.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from connector_psi.domain.declarations import Address, Declaration
from connector_psi.domain.drafts import Found
from connector_psi.domain.records import Field, IdentifierType, PartyKind, SourceSystem, Supersession


class Part(Protocol):
    """A group of elements of a message, as its reader hands it out."""

    @property
    def name(self) -> str:
        """Local name."""

    @property
    def path(self) -> str:
        """Where it stands."""

    @property
    def line(self) -> int | None:
        """The line on which it starts."""

    def text(self, name: str) -> str:
        """Return the text of an element directly below, or nothing."""

    def found(self, name: str) -> Found | None:
        """Return the text and its place."""

    def path_of(self, name: str) -> str:
        """Return the place of an element directly below."""

    def all(self, name: str) -> Sequence[Part]:
        """Return the groups of a name directly below."""

    def first(self, name: str) -> Part | None:
        """Return the first of them, or None."""

    def groups(self) -> Iterable[Part]:
        """Return the groups directly below."""


# --- paths: True is read, False is known and left alone ---


def paths(read: str, left: str = "") -> dict[str, bool]:
    """Return the paths of two lists of names."""
    return {**dict.fromkeys(read.split(), True), **dict.fromkeys(left.split(), False)}


def under(group: str, known: Mapping[str, bool]) -> dict[str, bool]:
    """Return paths as they stand in a group."""
    return {f"{group}/{path}": read for path, read in known.items()}


NUMBERED: Final = MappingProxyType(paths("", "sequenceNumber"))
ADDRESS: Final = MappingProxyType(paths("streetAndNumber postcode city country"))
CONTACT: Final = MappingProxyType(under("ContactPerson", paths("name phoneNumber eMailAddress")))
PARTY: Final = MappingProxyType({**paths("identificationNumber name"), **under("Address", ADDRESS), **CONTACT})
MEANS: Final = MappingProxyType({**NUMBERED, **paths("typeOfIdentification identificationNumber nationality")})
ACTOR: Final = MappingProxyType({**NUMBERED, **paths("identificationNumber", "role")})
EQUIPMENT: Final = MappingProxyType(
    {
        **NUMBERED,
        **paths("containerIdentificationNumber", "numberOfSeals"),
        **under("Seal", {**NUMBERED, **paths("identifier")}),
        **under("GoodsReference", {**NUMBERED, **paths("declarationGoodsItemNumber")}),
    }
)
DOCUMENTS: Final = MappingProxyType(
    {
        **under(
            "PreviousDocument",
            {
                **NUMBERED,
                **paths(
                    "type referenceNumber complementOfInformation",
                    "goodsItemNumber typeOfPackages numberOfPackages measurementUnitAndQualifier quantity",
                ),
            },
        ),
        **under(
            "SupportingDocument",
            {**NUMBERED, **paths("type referenceNumber complementOfInformation", "documentLineItemNumber")},
        ),
        **under("TransportDocument", {**NUMBERED, **paths("type referenceNumber")}),
        **under("AdditionalReference", {**NUMBERED, **paths("type referenceNumber")}),
        **under("AdditionalInformation", {**NUMBERED, **paths("text", "code")}),
    }
)
PLACE: Final = MappingProxyType(paths("UNLocode location", "country"))
LOCATION_OF_GOODS: Final = MappingProxyType(
    {
        **paths(
            "UNLocode",
            "typeOfLocation qualifierOfIdentification authorisationNumber additionalIdentifier GNSS Address "
            "PostcodeAddress",
        ),
        **under("CustomsOffice", paths("referenceNumber")),
        **under("EconomicOperator", paths("identificationNumber")),
        **CONTACT,
    }
)
GOODS: Final = MappingProxyType(
    {
        **under(
            "Commodity",
            {
                **paths("descriptionOfGoods", "cusCode DangerousGoods GoodsMeasure"),
                **under("CommodityCode", paths("harmonizedSystemSubHeadingCode", "combinedNomenclatureCode")),
            },
        ),
        **under("Packaging", {**NUMBERED, **paths("shippingMarks", "typeOfPackages numberOfPackages")}),
    }
)
CONSIGNMENT: Final = MappingProxyType(
    {
        **paths("countryOfDispatch countryOfDestination", "grossMass referenceNumberUCR TransportCharges"),
        **under("Consignor", PARTY),
        **under("Consignee", PARTY),
        **under("AdditionalSupplyChainActor", ACTOR),
        **under("DepartureTransportMeans", MEANS),
        **DOCUMENTS,
    }
)
"""What a consignment of any level may have."""
BORDER: Final = MappingProxyType(
    {
        **paths("", "containerIndicator inlandModeOfTransport modeOfTransportAtTheBorder"),
        **under("Carrier", PARTY),
        **under("TransportEquipment", EQUIPMENT),
        **under("LocationOfGoods", LOCATION_OF_GOODS),
        **under("CountryOfRoutingOfConsignment", {**NUMBERED, **paths("country")}),
        **under(
            "ActiveBorderTransportMeans",
            {**MEANS, **paths("conveyanceReferenceNumber customsOfficeAtBorderReferenceNumber")},
        ),
        **under("PlaceOfLoading", PLACE),
        **under("PlaceOfUnloading", PLACE),
    }
)
"""What only the consignment has that crosses the border as a whole."""

# --- what they yield ---

_TRADERS: Final = frozenset(
    {
        "Consignor", "Consignee", "Carrier", "HolderOfTheTransitProcedure", "Representative", "TraderAtDestination",
        "EconomicOperator", "AdditionalSupplyChainActor", "Exporter", "Declarant",
    }
)  # fmt: skip
_MEANS: Final = frozenset({"DepartureTransportMeans", "ActiveBorderTransportMeans", "TransportMeans"})
_CONSIGNMENTS: Final = frozenset({"Consignment", "HouseConsignment", "ConsignmentItem", "GoodsShipment", "GoodsItem"})
_TEXT: Final = (("text", None, True),)
_UNLOCODE: Final = (("UNLocode", Field.PLACE, False),)
_PLACE: Final = (*_UNLOCODE, ("location", Field.PLACE, False))
_YIELDS: Final[Mapping[str, tuple[tuple[str, Field | None, bool], ...]]] = MappingProxyType(
    {
        **dict.fromkeys(
            _CONSIGNMENTS, (("countryOfDispatch", Field.ROUTE, False), ("countryOfExport", Field.ROUTE, False))
        ),
        "Commodity": (("descriptionOfGoods", Field.GOODS_DESCRIPTION, True),),
        "CommodityCode": (("harmonizedSystemSubHeadingCode", Field.HS6, False),),
        "Packaging": (("shippingMarks", None, True),),
        "AdditionalInformation": _TEXT,
        "Incident": _TEXT,
        "UnloadingRemark": (("unloadingRemark", None, True),),
        "TransitOperation": (("otherThingsToReport", None, True),),
        "PlaceOfLoading": _PLACE,
        "PlaceOfUnloading": _PLACE,
        "Location": _UNLOCODE,
        "LocationOfGoods": _UNLOCODE,
        "CustomsOfficeOfTransitDeclared": (("arrivalDateAndTimeEstimated", Field.ETA, False),),
    }
)
"""Group -> leaves that are values by themselves: name, the field that each is noted as, whether it is free text."""

# From: code lists CL754 (TransportDocumentType) and PreviousDocumentType of NCTS.
TRANSPORT_DOCUMENT_TYPES: Final = frozenset(
    {
        "N703", "N704", "N705", "N714", "N720", "N722", "N730", "N740", "N741", "N750", "N760", "N785", "N787", "N952",
        "N955",
    }
)  # fmt: skip
"""Documents under which goods travel, wherever one is named: bills of lading, waybills, consignment notes, carnets."""
_MRN: Final = re.compile(r"[0-9]{2}[A-Z]{2}[0-9A-Z]{14}")
_REFERENCE: Final = re.compile(r"[0-9A-Z]{1,35}")
_MAX_LRN_CHARS: Final = 35


def role_of(name: str) -> str:
    """Return the role that an element gives: its name, as the data model writes roles."""
    return name[:1].lower() + name[1:]


class Equipment(NamedTuple):
    """A container or a place on a vehicle, with its seals, and the goods that are in it."""

    draft: Movement
    items: frozenset[str]
    """Numbers of the goods items of the declaration; empty where it does not say."""


class Movement(Declaration):
    """A record under construction that stands in a declaration of transit or of export."""

    __slots__ = ()

    def take(self, part: Part) -> None:
        """Take in a part of a declaration and all that lies below it, but for transport equipment.

        What an element is does not depend on where it stands. Equipment is given to the goods in it: :func:`equipment`.
        """
        for leaf, field, is_free_text in _YIELDS.get(part.name, ()):
            if (found := part.found(leaf)) is not None:
                if field is not None:
                    self.note(field, found.text)
                if is_free_text:
                    self.free_text(found)
        for group in part.groups():
            name = group.name
            if name in _TRADERS:
                self._trader(group)
            elif name in _MEANS:
                self._means(group)
            elif name.endswith("Document") or name == "AdditionalReference":
                self._document(group)
            elif name == "CountryOfRoutingOfConsignment":
                self.note(Field.ROUTE, group.text("country"))
            elif name != "TransportEquipment":
                if "CustomsOffice" in name:
                    self.note(Field.PLACE, group.text("referenceNumber"))
                elif name == "LocationOfGoods":
                    self._trader(group)
                self.take(group)
        if part.name in _CONSIGNMENTS:
            self.note(Field.ROUTE, part.text("countryOfDestination"))

    def _trader(self, part: Part) -> None:
        role = role_of(part.name)
        place, person = part.first("Address"), part.first("ContactPerson")
        address = Address()
        if place is not None:
            postcode, city = place.text("postcode"), place.text("city")
            lines = tuple(filter(None, (place.text("streetAndNumber"), " ".join(filter(None, (postcode, city))))))
            address = Address(lines, place.text("country"), city, postcode)
        contacts: list[tuple[IdentifierType | None, Found]] = []
        if person is not None:
            for name, type_ in (("phoneNumber", IdentifierType.PHONE), ("eMailAddress", IdentifierType.EMAIL)):
                if (contact := person.found(name)) is not None:
                    contacts.append((type_, contact))
        self.party(
            role,
            path=part.path,
            name=part.text("name"),
            number=part.found("identificationNumber"),
            address=address,
            contacts=contacts,
        )
        if person is not None:
            self.party(f"{role}ContactPerson", path=person.path, name=person.text("name"), kind=PartyKind.PERSON)

    def _means(self, part: Part) -> None:
        self.means(
            part.found("identificationNumber"),
            type_code=part.text("typeOfIdentification"),
            nationality=part.text("nationality"),
            role=role_of(part.name),
            type_path=part.path_of("typeOfIdentification"),
        )
        if conveyance := part.text("conveyanceReferenceNumber"):
            self.note(Field.MEANS, f"conveyance {conveyance}")
        self.note(Field.PLACE, part.text("customsOfficeAtBorderReferenceNumber"))

    def _document(self, part: Part) -> None:
        """Take in a document by what it is: what goods travel under, an earlier declaration of them, or any other."""
        number, type_code, role = part.found("referenceNumber"), part.text("type").upper(), role_of(part.name)
        if part.name == "TransportDocument" or type_code in TRANSPORT_DOCUMENT_TYPES:
            self.transport_document(number, type_code=type_code, role=role)
        elif number is not None and part.name == "PreviousDocument" and _MRN.fullmatch(number.text.upper()):
            self.identify(IdentifierType.MRN, number, role=role)
        else:
            self.free_text(number)
        self.free_text(part.found("complementOfInformation"))


def equipment(part: Part, *, file: str) -> Iterator[Equipment]:
    """Yield the transport equipment at and below a part, each as a draft of its own, so that goods get only theirs."""
    for group in part.groups():
        if group.name != "TransportEquipment":
            yield from equipment(group, file=file)
            continue
        draft = Movement(file)
        seals = [found for seal in group.all("Seal") if (found := seal.found("identifier")) is not None]
        for identifier in draft.equipment(group.found("containerIdentificationNumber"), seals):
            draft.add(identifier, line=group.line)
        if draft.identifiers or draft.fields or draft.issues:
            yield Equipment(draft, frozenset(map(item_number, group.all("GoodsReference"))) - {""})


def item_number(part: Part) -> str:
    """Return the number by which equipment refers to a goods item, or nothing."""
    text = part.text("declarationGoodsItemNumber")
    return text.lstrip("0") or text


# --- what a declaration is called, and when ---


class Reference(NamedTuple):
    """The names of a declaration: of either kind, or none."""

    mrn: str
    local: str
    """Made of the local reference number by :func:`reference`."""

    @property
    def key(self) -> str:
        """The name that records carry: the MRN as soon as there is one."""
        return self.mrn or self.local

    def supersession(self, source: SourceSystem, version: int, *, part: str = "", reason: str = "") -> Supersession:
        """Return the end of a message, by which it replaces what was said under either name.

        Args:
            source: Of the message.
            version: Of the message.
            part: Which statement about the declaration it is, such as ``/CC043C``; empty for the declaration itself.
            reason: Of a withdrawal; empty where the message invalidates nothing.
        """
        other = self.local + part if self.mrn and self.local else ""
        return Supersession(source, self.key + part, version, withdrawn=bool(reason), reason=reason, same_as=other)

    def link(self, source: SourceSystem) -> Iterator[Supersession]:
        """Yield that both names are of one declaration, which replaces nothing by itself."""
        if self.mrn and self.local:
            yield Supersession(source, self.mrn, 0, same_as=self.local)


def reference(mrn: str, lrn: str, trader: str) -> Reference:
    """Return the names of a declaration.

    A local reference number is unique for the trader who gave it and no further, so a part of a digest of the trader's
    number stands behind it; not the number, since references are shown and written where no trader's number belongs.

    Args:
        mrn: As declared; its check digit need not hold.
        lrn: As declared.
        trader: Number of who lodged the declaration, or a name where it has none.
    """
    bare = "".join(mrn.split()).upper()
    local = lrn.replace("%", "%25").replace("/", "%2F") if len(lrn) <= _MAX_LRN_CHARS and lrn.isprintable() else ""
    if local and trader:
        local += "@" + hashlib.sha256(" ".join(trader.upper().split()).encode(errors="replace")).hexdigest()[:12]
    return Reference(bare if _REFERENCE.fullmatch(bare) else "", local)


def moment(text: str) -> datetime | None:
    """Return a time of a message, None if it is none. One without a zone is read as UTC.

    Source: ``preparationDateAndTime`` has no zone in the schemas.
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)
