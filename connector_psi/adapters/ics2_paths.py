"""Which elements of a full ENS (``IE4R05/relatedENS``) are read, and what for.

Decides: what is done with every leaf element of a consignment (``LEAVES``), which subtrees are left alone and
why (``SKIPPED_SUBTREES``), and which element gathers its leaves before they can be used (``Group``).
Leaves to others: how the message is read (``ics2``). A test holds the table against the leaf list and the
schema of the release: nothing may be missing and nothing may be made up.

Paths are relative to ``/IE4R05/relatedENS``.

Source: EU customs data model, ICS2 V2.21, ``IE4R05.xsd`` (namespace ``urn:wco:datamodel:eu:ics2:2``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from types import MappingProxyType

from connector_psi.domain.records import Field, IdentifierType

NAMESPACE = "urn:wco:datamodel:eu:ics2:2"
ROOT = "IE4R05"
ENS = f"/{ROOT}/relatedENS"


class Use(Enum):
    """What is done with a leaf."""

    IDENTIFIER = auto()
    """It is an identifier of the consignment by itself."""
    REFERENCE = auto()
    """It names the consignment itself: an MRN of its own or its number within the master."""
    PART = auto()
    """Its group uses it, together with its siblings."""
    TEXT = auto()
    """Free text, searched for numbers with a check digit or a strict pattern."""
    VALUE = auto()
    """A value that a policy can disclose."""
    SKIP = auto()
    """Not read; ``Leaf.reason`` says why."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One leaf element."""

    use: Use
    type: IdentifierType | None = None
    """The identifier that it is, or that its group makes of it."""
    role: str = ""
    field: Field | None = None
    """The disclosable field that its text becomes a value of."""
    reason: str = ""


class Group(Enum):
    """An element whose leaves are used together when it closes."""

    ADDRESS = auto()
    COMMUNICATION = auto()
    PARTY = auto()
    MEANS = auto()
    EQUIPMENT = auto()
    SEAL = auto()
    DOCUMENT = auto()
    FILING = auto()
    HOUSE = auto()
    MASTER = auto()
    ENS = auto()


GROUPS: Mapping[str, Group] = MappingProxyType(
    {
        "address": Group.ADDRESS,
        "communication": Group.COMMUNICATION,
        "additionalSupplyChainActor": Group.PARTY,
        "buyer": Group.PARTY,
        "carrier": Group.PARTY,
        "consignee": Group.PARTY,
        "consignor": Group.PARTY,
        "declarant": Group.PARTY,
        "notifyParty": Group.PARTY,
        "representative": Group.PARTY,
        "seller": Group.PARTY,
        "supplementaryDeclarant": Group.PARTY,
        "activeBorderTransportMeans": Group.MEANS,
        "passiveBorderTransportMeans": Group.MEANS,
        "transportEquipment": Group.EQUIPMENT,
        "seal": Group.SEAL,
        "transportDocumentHouseLevel": Group.DOCUMENT,
        "transportDocumentMasterLevel": Group.DOCUMENT,
        "partialENSFilingHeader": Group.FILING,
        "consignmentHouseLevel": Group.HOUSE,
        "consignmentMasterLevel": Group.MASTER,
    }
)
"""By element name: a name means the same wherever it stands."""

SKIPPED_SUBTREES: Mapping[str, str] = MappingProxyType(
    {
        "supplementaryRiskInformation": "what an analyst added, not what was declared",
        "controlResults": "the outcome of a control and its subject, not the consignment",
        "previousFullRiskAnalysis": "risk results and control subjects, not the consignment",
        "fullRiskAnalysis": "risk results and control subjects, not the consignment",
    }
)

MEANS_TYPES: Mapping[str, tuple[str, IdentifierType | None]] = MappingProxyType(
    {
        "10": ("imo", IdentifierType.IMO),
        "11": ("vessel_name", None),
        "20": ("wagon", None),
        "21": ("train", None),
        "30": ("plate", IdentifierType.PLATE),
        "31": ("plate", IdentifierType.PLATE),
        "40": ("flight", None),
        "41": ("aircraft", IdentifierType.AIRCRAFT),
        "80": ("eni", None),
        "81": ("vessel_name", None),
    }
)
"""``typeOfIdentification`` -> label and identifier type; None where the domain has no such type yet.

Source: code list CL750 as the EU customs data model shares it with transit.
"""

COMMUNICATION_TYPES: Mapping[str, IdentifierType] = MappingProxyType(
    {"EM": IdentifierType.EMAIL, "TE": IdentifierType.PHONE}
)
"""``communication/type`` -> identifier type (UN/EDIFACT 3155); fax and telex numbers are not matched."""


def _skip(reason: str) -> Leaf:
    return Leaf(Use.SKIP, reason=reason)


def _identifier(kind: IdentifierType, role: str = "", field: Field | None = None) -> Leaf:
    return Leaf(Use.IDENTIFIER, kind, role, field)


def _part(kind: IdentifierType | None = None) -> Leaf:
    return Leaf(Use.PART, kind)


def _text(field: Field | None = None) -> Leaf:
    return Leaf(Use.TEXT, field=field)


def _value(field: Field) -> Leaf:
    return Leaf(Use.VALUE, field=field)


def _under(prefix: str, leaves: Mapping[str, Leaf]) -> dict[str, Leaf]:
    return {f"{prefix}/{path}": leaf for path, leaf in leaves.items()}


_MRN = Leaf(Use.REFERENCE, IdentifierType.MRN, field=Field.MRN)
_CODE = _skip("a code, no identifier")
_AMOUNT = _skip("an amount, no identifier")
_ADMINISTRATION = _skip("administrative data of the filing")
_NO_TYPE = "the domain has no identifier type for it yet: "

_ADDRESS = dict.fromkeys(
    ("city", "country", "subDivision", "street", "postCode", "streetAdditionalLine", "number", "poBox"), _part()
)
_COMMUNICATION = {"identifier": _part(), "type": _part()}
_REACHABLE = {
    "name": _part(),
    "identificationNumber": _part(IdentifierType.EORI),
    "AEOStatus": _CODE,
    **_under("address", _ADDRESS),
    **_under("communication", _COMMUNICATION),
}
_PARTY = {**_REACHABLE, "typeOfPerson": _CODE}
_REPRESENTATIVE = {**_REACHABLE, "status": _CODE}
_NUMBERED_PARTY = {"identificationNumber": _part(IdentifierType.EORI)}
_ACTOR = {**_NUMBERED_PARTY, "role": _CODE, "AEOStatus": _CODE}
_SUPPLEMENTARY_DECLARANT = {**_NUMBERED_PARTY, "supplementaryFilingType": _CODE}

_PLACE = {"location": _skip("a place name"), "UNLOCODE": _CODE, "address/country": _CODE}
_DOCUMENT = {"documentNumber": _part(IdentifierType.TRANSPORT_DOCUMENT), "type": _part()}
_EQUIPMENT = {
    "containerSizeAndType": _CODE,
    "containerPackedStatus": _CODE,
    "containerSupplierType": _CODE,
    "containerIdentificationNumber": _part(IdentifierType.CONTAINER),
    "numberOfSeals": _AMOUNT,
    "seal/identifier": _part(IdentifierType.SEAL),
}
_MEANS = {"identificationNumber": _part(), "typeOfIdentification": _part(), "nationality": _part()}
_PASSIVE_MEANS = {**_MEANS, "typeOfMeansOfTransport": _CODE}

_ANNOTATED = {
    **_under("supportingDocuments", {"referenceNumber": _text(), "type": _CODE}),
    **_under("additionalInformation", {"code": _CODE, "text": _text()}),
    **_under("additionalSupplyChainActor", _ACTOR),
}
_GOODS_ITEM = {
    "goodsItemNumber": _AMOUNT,
    **_ANNOTATED,
    "commodity/descriptionOfGoods": _text(Field.GOODS_DESCRIPTION),
    "commodity/cusCode": _CODE,
    "commodity/commodityCode/harmonizedSystemSubHeadingCode": _value(Field.HS6),
    "commodity/commodityCode/combinedNomenclatureCode": _CODE,
    "commodity/dangerousGoods/UNNumber": _CODE,
    "weight/grossMass": _AMOUNT,
    "packaging/shippingMarks": _text(),
    "packaging/numberOfPackages": _AMOUNT,
    "packaging/typeOfPackages": _CODE,
    **_under("transportEquipment", _EQUIPMENT),
}
_HOUSE_GOODS_ITEM = {
    **_GOODS_ITEM,
    "itemAmountInvoiced": _AMOUNT,
    "postalValue": _AMOUNT,
    "typeOfGoods": _CODE,
    "weight/netMass": _AMOUNT,
    "countryOfOrigin/country": _CODE,
    **_under("passiveBorderTransportMeans", _MEANS),
}
_CONSIGNMENT = {
    "containerIndicator": _CODE,
    "totalGrossMass": _AMOUNT,
    "receptacle/receptacleIdentificationNumber": _skip(_NO_TYPE + "receptacle"),
    **_under("placeOfAcceptance", _PLACE),
    **_ANNOTATED,
    **_under("consignee", _PARTY),
    **_under("consignor", _PARTY),
    "transportCharges/methodOfPayment": _CODE,
    **_under("placeOfDelivery", _PLACE),
    **_under("notifyParty", _PARTY),
    **_under("passiveBorderTransportMeans", _PASSIVE_MEANS),
    **_under("supplementaryDeclarant", _SUPPLEMENTARY_DECLARANT),
    **_under("transportDocumentMasterLevel", _DOCUMENT),
    **_under("transportEquipment", _EQUIPMENT),
    "referenceNumberUCR/referenceNumberUCR": _skip(_NO_TYPE + "unique consignment reference"),
}
_HOUSE = {
    **_CONSIGNMENT,
    "totalAmountInvoiced": _AMOUNT,
    "MRN": _MRN,
    "sequenceNumber": Leaf(Use.REFERENCE),
    "additionsAndDeductions/amount": _AMOUNT,
    "additionalFiscalReferences/VATIdentificationNumber": _identifier(IdentifierType.VAT, "additionalFiscalReferences"),
    "additionalFiscalReferences/role": _CODE,
    **_under("carrier", {**_NUMBERED_PARTY, "AEOStatus": _CODE}),
    **_under("goodsItem", _HOUSE_GOODS_ITEM),
    "postalCharges/postalCharges": _AMOUNT,
    "goodsShipment/MRN": _identifier(IdentifierType.MRN, "goodsShipment", Field.MRN),
    **_under("goodsShipment/buyer", _PARTY),
    **_under("goodsShipment/seller", _PARTY),
    "countriesOfRoutingOfConsignment/sequenceNumber": _AMOUNT,
    "countriesOfRoutingOfConsignment/country": _value(Field.ROUTE),
    **_under("transportDocumentHouseLevel", _DOCUMENT),
}
_MASTER = {
    **_CONSIGNMENT,
    **_under("carrier", _REACHABLE),
    **_under("goodsItem", _GOODS_ITEM),
    **_under("consignmentHouseLevel", _HOUSE),
    **_under("placeOfLoading", _PLACE),
    # Where the goods arrive is worth telling; where they were taken in is not asked for by any policy.
    **_under("placeOfUnloading", {**_PLACE, "UNLOCODE": _value(Field.PLACE)}),
}

LEAVES: Mapping[str, Leaf] = MappingProxyType(
    {
        "DocumentIssueDate/DateTime": _ADMINISTRATION,
        "SpecificCircumstanceIndicator": _CODE,
        "MRN": _MRN,
        "reEntryIndicator": _CODE,
        "splitConsignment/splitConsignmentIndicator": _CODE,
        "splitConsignment/previousMRN": _identifier(IdentifierType.MRN, "splitConsignment", Field.MRN),
        **_under("representative", _REPRESENTATIVE),
        **_under("activeBorderTransportMeans", _PASSIVE_MEANS),
        "activeBorderTransportMeans/ModeOfTransport": _CODE,
        "activeBorderTransportMeans/actualDateAndTimeOfDeparture/DateTime": _skip("a time that no policy names"),
        "activeBorderTransportMeans/estimatedDateAndTimeOfDeparture/DateTime": _skip("a time that no policy names"),
        "activeBorderTransportMeans/actualDateAndTimeOfArrival/DateTime": _skip("a time that no policy names"),
        "activeBorderTransportMeans/estimatedDateAndTimeOfArrival/DateTime": _value(Field.ETA),
        "activeBorderTransportMeans/conveyanceReferenceNumber": _skip(_NO_TYPE + "flight or voyage number"),
        "activeBorderTransportMeans/countriesOfRoutingOfMeansOfTransport/sequenceNumber": _AMOUNT,
        "activeBorderTransportMeans/countriesOfRoutingOfMeansOfTransport/country": _value(Field.ROUTE),
        **_under("consignmentMasterLevel", _MASTER),
        **_under("declarant", _REACHABLE),
        "customsOfficeOfFirstEntry/referenceNumber": _value(Field.PLACE),
        "customsOfficeOfFirstEntry/actualIndicator/IndicatorString": _CODE,
        "customsOfficeOfFirstEntry/actualIndicator/Indicator": _CODE,
        "partialENSFilingHeader/SpecificCircumstanceIndicator": _CODE,
        "partialENSFilingHeader/registrationDate/DateTime": _ADMINISTRATION,
        "partialENSFilingHeader/documentIssueDate/DateTime": _ADMINISTRATION,
        "partialENSFilingHeader/MRN": _MRN,
        "partialENSFilingHeader/requestReference": _ADMINISTRATION,
        "partialENSFilingHeader/addressedMemberState/country": _CODE,
        **_under("partialENSFilingHeader/representative", _REPRESENTATIVE),
        **_under("partialENSFilingHeader/declarant", _REACHABLE),
    }
)
"""Every leaf below ``relatedENS`` outside ``SKIPPED_SUBTREES``."""


@dataclass(slots=True)
class Node:
    """One element of the message, as the reader walks down to it."""

    name: str
    path: str
    """Absolute, without positions; the only form in which a path is ever reported."""
    leaf: Leaf | None = None
    group: Group | None = None
    skipped: bool = False
    """The whole subtree is left alone."""
    children: dict[str, Node] = field(default_factory=dict)
    """By qualified name."""

    def child(self, name: str) -> Node:
        """Return the child of this name, made where it is missing."""
        key = f"{{{NAMESPACE}}}{name}"
        if key not in self.children:
            self.children[key] = Node(name, f"{self.path}/{name}", group=GROUPS.get(name))
        return self.children[key]

    def walk(self) -> Iterator[Node]:
        """Yield this node and everything below it."""
        yield self
        for child in self.children.values():
            yield from child.walk()


def _tree() -> Node:
    root = Node(ROOT, f"/{ROOT}")
    for name in ("MessageHeader", "functionalReference", "ENSHistory", "relatedPLACI"):
        root.child(name).skipped = True
    ens = root.child("relatedENS")
    ens.group = Group.ENS
    for name in SKIPPED_SUBTREES:
        ens.child(name).skipped = True
    for path, leaf in LEAVES.items():
        node = ens
        for name in path.split("/"):
            node = node.child(name)
        node.leaf = leaf
    return root


TREE = _tree()
"""The message as a tree, from its root element."""
