"""Reads ICS2: the full entry summary declaration with what was declared before loading, risk results, risk hits.

``IE4R05`` (answer to a consultation) -> one record for each consignment; ``IE4S02`` (risk analysis result) and
``IE4N03`` (risk hit) -> one record for each request for risk analysis. Any other message of ICS2 is reported.

**The ENS** (``relatedENS``, category ``ics2.ens``). A *record* is one house consignment, or the master consignment
where there is none. What stands at the level of the master or of the ENS (vessel, carrier, master transport document,
declarant ...) belongs to every house below it. It may stand after the houses, so no house is complete before the
message ends. Therefore the message is read once for what all houses share, holding the houses as long as they are few;
where they are many it is read once more, and each house leaves as it closes. Memory does not grow with the message
either way. Two rules decide which house gets what is not simply everyone's:

- *Containers* of the master. A house that lists containers gets those of the master that it lists, with their
  seals, and those that no house lists (an empty box is on somebody's list of stolen boxes too). A house that lists
  none gets all of them: in a consolidated box every consignment is in it.
- *Partial filings* (declarant, representative, MRN). A house gets the filing that carries its own MRN, and those
  whose MRN no house carries, such as the one that declared the master.

**Pre-loading** (``relatedPLACI``, up to 99,999 in a message, category ``ics2.placi``). A record is one house
consignment; each gets all filings of its own ``relatedPLACI``, which come after the houses, so that the houses of one
are held until it closes. One has no MRN of its own: the first of its filings names it.

**Names**: ``{MRN}/{sequence number}`` or ``{MRN}`` of an ENS, ``{MRN}#placi/@{position}`` of a pre-loading filing,
``risk/{request reference}`` and ``hit/{request reference}``. **Versions**: an amended ENS has the same MRN and a newer
date of issue, and one that was completed has a filing with a newer date; the newest date that an ENS holds is its
version. The time of the message counts only where it holds none: a consultation is answered today with what was
declared long ago, and asking twice must change nothing.

Decides: what is extracted (``LEAVES``), how records are named, and their versions.
Leaves to others: parsing safely and bounds on what is held (``adapters.xml``), what a party or a means yields
(``domain.declarations``), canonical forms (``domain.identifiers``).

Not read: risk results, control results, their subjects and screening results inside an ``IE4R05``: a number that an
analyst wrote is no identifier of the consignment. For the same reason the only numbers that a risk result is matched by
are those that it forbids to load. No schema of an invalidation is public (``IE3Q04``, ``IE3R07``): a withdrawal comes
from the agency itself.

Source: EU customs data model, ICS2 V2.21 (namespace ``urn:wco:datamodel:eu:ics2:2``).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum, auto
from itertools import islice
from pathlib import Path
from sys import getsizeof
from types import MappingProxyType
from typing import BinaryIO, TypeVar

from connector_psi.adapters.xml import (
    NO_VIOLATIONS,
    Element,
    Frame,
    Node,
    Violations,
    XmlMessage,
    line_of,
    load_schema,
    refuse,
    table,
    validate,
)
from connector_psi.domain.declarations import COMMUNICATION_TYPES, PERSON_TYPES, Address, Declaration
from connector_psi.domain.drafts import MAX_IDENTIFIERS, MAX_VALUES, Draft, Found, filled, merge
from connector_psi.domain.intake import Format, Item, Kind
from connector_psi.domain.records import (
    Field,
    Identifier,
    IdentifierType,
    Issue,
    PartyKind,
    Record,
    SourceSystem,
    Supersession,
    version_of,
)

NAMESPACE = "urn:wco:datamodel:eu:ics2:2"

# --- what is read ---


class Use(Enum):
    """What is done with a leaf element."""

    IDENTIFIER = auto()
    """It is an identifier of the consignment by itself."""
    REFERENCE = auto()
    """It names the consignment or the message, or says when it was made."""
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
    """What is done with one leaf element."""

    use: Use
    type: IdentifierType | None = None
    """The identifier that it is, or that its group makes of it."""
    role: str = ""
    field: Field | None = None
    """The disclosable field that its text becomes a value of."""
    label: str = ""
    """Stands before the value in that field."""
    reason: str = ""


def _skip(reason: str) -> Leaf:
    return Leaf(Use.SKIP, reason=reason)


def _identifier(kind: IdentifierType, role: str = "", field: Field | None = None, label: str = "") -> Leaf:
    return Leaf(Use.IDENTIFIER, kind, role, field, label)


def _part(kind: IdentifierType | None = None) -> Leaf:
    return Leaf(Use.PART, kind)


def _text(field: Field | None = None) -> Leaf:
    return Leaf(Use.TEXT, field=field)


def _value(field: Field, label: str = "") -> Leaf:
    return Leaf(Use.VALUE, field=field, label=label)


def _under(prefix: str, leaves: Mapping[str, Leaf]) -> dict[str, Leaf]:
    return {f"{prefix}/{path}": leaf for path, leaf in leaves.items()}


_MRN = Leaf(Use.REFERENCE, IdentifierType.MRN, field=Field.MRN)
_NAME = Leaf(Use.REFERENCE)
_CODE = _skip("a code, no identifier")
_AMOUNT = _skip("an amount, no identifier")
_ADMINISTRATION = _skip("administrative data of the filing")
_ANALYST = _skip("who analysed or screened, no party of the consignment")
_SUBJECT = _skip("the subject of a control, not what was declared")
_NO_TYPE = "the domain has no identifier type for it: "

_HEADER = {
    "messageId": _ADMINISTRATION,
    "correlationId": _ADMINISTRATION,
    "replyToMessageId": _ADMINISTRATION,
    "messageTimestamp": _NAME,
    "messageSender": _ADMINISTRATION,
    "messageRecipient": _ADMINISTRATION,
    "conformanceCampaign": _ADMINISTRATION,
}
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
_PARTY = {**_REACHABLE, "typeOfPerson": _part()}
_REPRESENTATIVE = {**_REACHABLE, "status": _CODE}
_NUMBERED_PARTY = {"identificationNumber": _part(IdentifierType.EORI)}
_ACTOR = {**_NUMBERED_PARTY, "role": _CODE, "AEOStatus": _CODE}
_SUPPLEMENTARY_DECLARANT = {**_NUMBERED_PARTY, "supplementaryFilingType": _CODE}
_FILING = {
    "SpecificCircumstanceIndicator": _CODE,
    "registrationDate/DateTime": _NAME,
    "documentIssueDate/DateTime": _NAME,
    "MRN": _MRN,
    "requestReference": _ADMINISTRATION,
    "addressedMemberState/country": _CODE,
    **_under("representative", _REPRESENTATIVE),
    **_under("declarant", _REACHABLE),
}

_COUNTRY_OF_PLACE = _skip("the country of a place, which its UN/LOCODE names where it matters")


def _place(label: str) -> dict[str, Leaf]:
    return {
        "location": _skip("a place name; its UN/LOCODE is read"),
        "UNLOCODE": _value(Field.PLACE, label),
        "address/country": _COUNTRY_OF_PLACE,
    }


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
_ROUTING = {"sequenceNumber": _AMOUNT, "country": _value(Field.ROUTE)}
_UCR = _skip(_NO_TYPE + "unique consignment reference")

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
    "receptacle/receptacleIdentificationNumber": _identifier(
        IdentifierType.RECEPTACLE, "receptacle", Field.GOODS_IDENTIFIERS, "receptacle"
    ),
    **_under("placeOfAcceptance", _place("acceptance")),
    **_ANNOTATED,
    **_under("consignee", _PARTY),
    **_under("consignor", _PARTY),
    "transportCharges/methodOfPayment": _CODE,
    **_under("placeOfDelivery", _place("delivery")),
    **_under("notifyParty", _PARTY),
    **_under("passiveBorderTransportMeans", _PASSIVE_MEANS),
    **_under("supplementaryDeclarant", _SUPPLEMENTARY_DECLARANT),
    **_under("transportDocumentMasterLevel", _DOCUMENT),
    **_under("transportEquipment", _EQUIPMENT),
    "referenceNumberUCR/referenceNumberUCR": _UCR,
}
_HOUSE = {
    **_CONSIGNMENT,
    "totalAmountInvoiced": _AMOUNT,
    "MRN": _MRN,
    "sequenceNumber": _NAME,
    "additionsAndDeductions/amount": _AMOUNT,
    "additionalFiscalReferences/VATIdentificationNumber": _identifier(IdentifierType.VAT, "additionalFiscalReferences"),
    "additionalFiscalReferences/role": _CODE,
    **_under("carrier", {**_NUMBERED_PARTY, "AEOStatus": _CODE}),
    **_under("goodsItem", _HOUSE_GOODS_ITEM),
    "postalCharges/postalCharges": _AMOUNT,
    "goodsShipment/MRN": _identifier(IdentifierType.MRN, "goodsShipment", Field.MRN),
    **_under("goodsShipment/buyer", _PARTY),
    **_under("goodsShipment/seller", _PARTY),
    **_under("countriesOfRoutingOfConsignment", _ROUTING),
    **_under("transportDocumentHouseLevel", _DOCUMENT),
}
_MASTER = {
    **_CONSIGNMENT,
    **_under("carrier", _REACHABLE),
    **_under("goodsItem", _GOODS_ITEM),
    **_under("consignmentHouseLevel", _HOUSE),
    **_under("placeOfLoading", _place("loading")),
    **_under("placeOfUnloading", _place("unloading")),
}
_ENS = {
    "DocumentIssueDate/DateTime": _NAME,
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
    **_under("activeBorderTransportMeans/countriesOfRoutingOfMeansOfTransport", _ROUTING),
    **_under("consignmentMasterLevel", _MASTER),
    **_under("declarant", _REACHABLE),
    "customsOfficeOfFirstEntry/referenceNumber": _value(Field.PLACE, "first_entry"),
    "customsOfficeOfFirstEntry/actualIndicator/IndicatorString": _CODE,
    "customsOfficeOfFirstEntry/actualIndicator/Indicator": _CODE,
    **_under("partialENSFilingHeader", _FILING),
}
_PLACI_HOUSE = {
    "totalGrossMass": _AMOUNT,
    **_under("additionalInformation", {"code": _CODE, "text": _text()}),
    **_under("additionalSupplyChainActor", {**_NUMBERED_PARTY, "role": _CODE}),
    **_under("transportDocumentMasterLevel", _DOCUMENT),
    **_under("carrier", _NUMBERED_PARTY),
    **_under("consignee", {name: leaf for name, leaf in _PARTY.items() if name != "AEOStatus"}),
    "goodsItem/goodsItemNumber": _AMOUNT,
    **_under("goodsItem/additionalInformation", {"code": _CODE, "text": _text()}),
    **_under("goodsItem/additionalSupplyChainActor", {**_NUMBERED_PARTY, "role": _CODE}),
    "goodsItem/commodity/descriptionOfGoods": _text(Field.GOODS_DESCRIPTION),
    "goodsItem/commodity/commodityCode/harmonizedSystemSubHeadingCode": _value(Field.HS6),
    "goodsItem/commodity/commodityCode/combinedNomenclatureCode": _CODE,
    "goodsItem/weight/grossMass": _AMOUNT,
    "goodsItem/packaging/numberOfPackages": _AMOUNT,
    **_under("consignor", {name: leaf for name, leaf in _PARTY.items() if name != "AEOStatus"}),
    **_under("transportDocumentHouseLevel", _DOCUMENT),
    "referenceNumberUCR/referenceNumberUCR": _UCR,
}
_PLACI = {
    **_under("consignmentMasterLevel/consignmentHouseLevel", _PLACI_HOUSE),
    **_under("partialENSFilingHeader", _FILING),
}
_REQUEST = {
    "riskAnalysisRequestReference": _NAME,
    "responsibleMemberState/country": _value(Field.RISK_INFORMATION, "responsible"),
    "involvedMemberState/country": _value(Field.RISK_INFORMATION, "involved"),
}
_RESULT = {
    "riskAnalysisType": _part(),
    "riskAreaCode": _part(),
    "riskLevel": _part(),
    "riskCriteriaIdentifier": _part(),
    "resultCode": _part(),
    "resultText": _value(Field.RISK_RESULT),
    "dateAndTimeOfCompletion/DateTime": _skip("a time that no policy names"),
    "pointer/messageElementPath": _skip("a place in the declaration"),
}

LEAVES: Mapping[str, Mapping[str, Leaf]] = MappingProxyType(
    {
        "IE4R05": {
            **_under("MessageHeader", _HEADER),
            "functionalReference": _ADMINISTRATION,
            **_under("relatedPLACI", _PLACI),
            **_under("relatedENS", _ENS),
        },
        "IE4S02": {
            **_under("MessageHeader", _HEADER),
            "messageFunction": _CODE,
            "functionalReference": _value(Field.REFERENCE),
            "documentIssueDate/DateTime": _NAME,
            "responsibleMemberState/country": _value(Field.RISK_INFORMATION, "responsible"),
            "riskAnalyst/name": _ANALYST,
            "riskAnalyst/communication/identifier": _ANALYST,
            "riskAnalyst/communication/type": _ANALYST,
            "riskAnalysis/riskAnalysisRequestReference": _NAME,
            "riskAnalysis/category": _CODE,
            **_under("riskAnalysis/riskAnalysisResult", _RESULT),
            "controlRecommendations/placeOfControl": _value(Field.CONTROL_RECOMMENDATION, "place"),
            "controlRecommendations/additionalInformation/code": _CODE,
            "controlRecommendations/additionalInformation/text": _value(Field.CONTROL_RECOMMENDATION),
            "controlRecommendations/additionalInformation/type": _CODE,
            "doNotLoadDetails/receptacle/receptacleIdentificationNumber": _identifier(
                IdentifierType.RECEPTACLE, "doNotLoadDetails", Field.CONTROL_RECOMMENDATION, "do_not_load receptacle"
            ),
            "doNotLoadDetails/transportDocument/documentNumber": _identifier(
                IdentifierType.TRANSPORT_DOCUMENT,
                "doNotLoadDetails",
                Field.CONTROL_RECOMMENDATION,
                "do_not_load transport_document",
            ),
            "doNotLoadDetails/transportDocument/type": _CODE,
            "doNotLoadDetails/transportEquipment/containerIdentificationNumber": _identifier(
                IdentifierType.CONTAINER, "doNotLoadDetails", Field.CONTROL_RECOMMENDATION, "do_not_load container"
            ),
        },
        "IE4N03": {
            **_under("MessageHeader", _HEADER),
            "functionalReference": _value(Field.REFERENCE),
            "documentIssueDate/DateTime": _NAME,
            **_under("riskAnalysis", _REQUEST),
        },
    }
)
"""Message -> path below its root -> what is done with that leaf: every one outside ``SKIPPED_SUBTREES``."""

SKIPPED_SUBTREES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "IE4R05": {
            "ENSHistory": "what happened to the declaration, not what was declared",
            "relatedPLACI/supplementaryRiskInformation": "what an analyst added, not what was declared",
            "relatedPLACI/hrcmScreeningResults": "the outcome of a screening, not the consignment",
            "relatedPLACI/previousAirPreloadingRiskAnalysis": "risk results and control subjects, not the consignment",
            "relatedPLACI/airPreloadingRiskAnalysis": "risk results and control subjects, not the consignment",
            "relatedENS/supplementaryRiskInformation": "what an analyst added, not what was declared",
            "relatedENS/controlResults": "the outcome of a control and its subject, not the consignment",
            "relatedENS/previousFullRiskAnalysis": "risk results and control subjects, not the consignment",
            "relatedENS/fullRiskAnalysis": "risk results and control subjects, not the consignment",
        },
        "IE4S02": {"controlRecommendations/controlSubject": "the subject of a control, not what was declared"},
        "IE4N03": {},
    }
)
"""Message -> path below its root of an element that is left alone with all it holds -> why."""


_INLINE = frozenset({"address", "commodity", "commodityCode", "goodsShipment"})


def _tree(message: str) -> Node:
    used = [path for path, leaf in LEAVES[message].items() if leaf.use is not Use.SKIP]
    reached = {path[:end] for path in used for end in range(len(path)) if path[end] == "/"}
    skipped = list(SKIPPED_SUBTREES[message])
    for path, leaf in LEAVES[message].items():
        if leaf.use is Use.SKIP:
            # An element of which nothing is used is left alone as a whole.
            outer = next(
                (path[:end] for end in range(len(path)) if path[end] == "/" and path[:end] not in reached), path
            )
            skipped.append(outer)
    return table(message, used, skipped=skipped, inline=_INLINE, namespace=NAMESPACE)


TREES: Mapping[str, Node] = MappingProxyType({message: _tree(message) for message in LEAVES})
"""Message -> its table."""


def _name(local: str) -> str:
    return f"{{{NAMESPACE}}}{local}"


# --- bounds ---

MAX_HELD_BYTES = 160 * 2**20
"""Of houses held in memory, some 20,000, before the message is read a second time."""
MAX_WAITING_BYTES = 40 * 2**20
"""Of the houses of one pre-loading filing, some 5,000."""
MAX_SHARED = 2_000
"""Identifiers that all houses of a message share, and containers of the master."""
MAX_FILINGS = 10_000
"""Partial filings of an ENS or of one pre-loading filing."""
MAX_LISTED = 100_000
"""Containers and MRNs of houses kept for the two rules; beyond that the shared ones go to every house. Also
pre-loading filings of a message that are told apart by name."""

MAX_REQUESTS = 1_000
"""Requests for risk analysis that one result answers; the schema allows nine."""

_REFERENCE = re.compile(r"[0-9A-Z]{1,35}")
_REQUEST_REFERENCE = re.compile(r"[0-9A-Za-z][0-9A-Za-z._:/-]{0,34}")
_SEQUENCE = re.compile(r"[0-9]{1,5}")
_PARTY_FIELDS = frozenset({Field.PARTY_NAMES, Field.PARTY_ADDRESSES, Field.PARTY_CONTACTS})
_POSTAL_ITEM = "N750"
"""Type of a transport document: movement by post including parcel post (code list CL754); its number is the item's."""

_HOUSE_TAG = _name("consignmentHouseLevel")
_MASTER_TAG = _name("consignmentMasterLevel")
_ENS_TAG = _name("relatedENS")
_PLACI_TAG = _name("relatedPLACI")
_CONTAINER_TAG = _name("containerIdentificationNumber")
_EQUIPMENT_TAG = _name("transportEquipment")
_ITEM_TAG = _name("goodsItem")
_MRN_TAG = _name("MRN")
_RECOMMENDATION_TAG = _name("controlRecommendations")
_RESULT_TAG = _name("riskAnalysisResult")
_ANALYSIS_TAG = _name("riskAnalysis")
_RISK_KINDS = {"IE4S02": "risk", "IE4N03": "hit"}

# --- what the parts of a consignment yield ---


class _Consignment(Declaration):
    """What is known of a house, of the master, of the ENS, or of partial filings."""

    __slots__ = ("boxes", "containers", "line", "mrn", "times")

    def __init__(self, file: str, line: int | None) -> None:
        super().__init__(file)
        self.line = line
        self.mrn: str | None = None
        """As declared; the key of its records even where it has no canonical form."""
        self.containers: set[str] = set()
        self.boxes: list[tuple[str | None, list[Identifier]]] | None = None
        """Of the master: each container with its seals. None elsewhere: there they are identifiers like others."""
        self.times: list[datetime] = []
        """Dates of issue and registration."""


class _Known:
    """What a consignment has, or several share, once it is read: half as large as its draft."""

    __slots__ = (
        "containers", "fields", "identifiers", "issues", "line", "mrn", "parties", "roles", "sequence", "size",
        "values",
    )  # fmt: skip

    def __init__(self, draft: Draft) -> None:
        self.identifiers = tuple(draft.identifiers.values())
        self.fields = {name: tuple(values) for name, values in draft.fields.items()}
        self.parties = tuple(draft.parties)
        self.issues = draft.issues
        self.values: frozenset[str] | None = None
        """Of its identifiers; made where many consignments share them, as are the roles of its parties."""
        self.roles: frozenset[str] = frozenset()
        self.line: int | None = None
        self.mrn: str | None = None
        self.sequence = ""
        self.containers: Collection[str] = ()
        self.size = (
            500
            + 300 * len(self.identifiers)
            + 400 * len(self.parties)
            + 120 * len(self.issues)
            + sum([60 * len(values) + 2 * getsizeof("".join(values)) for values in self.fields.values()])
        )
        """How many bytes it takes, about and at most: the texts of parties are those of fields."""

    def join(self, others: Iterable[_Known], file: str) -> None:
        """Add what others hold, and report if there is nothing to find it by; their issues stay with them.

        The limits of one record hold.
        """
        for other in others:
            if other.values is None:
                other.values = frozenset([each.value for each in other.identifiers])
                other.roles = frozenset([each.role for each in other.parties])
            more = other.identifiers
            if not other.values.isdisjoint([each.value for each in self.identifiers]):
                known = {(each.type, each.value, each.role) for each in self.identifiers}
                more = tuple([each for each in more if (each.type, each.value, each.role) not in known])
            self.identifiers += more
            for name, values in other.fields.items():
                mine = self.fields.get(name)
                self.fields[name] = values if mine is None else _with(mine, values)
            if other.parties and other.roles.isdisjoint([each.role for each in self.parties]):
                self.parties += other.parties
            elif other.parties:
                self.parties = _with(self.parties, other.parties)
        if len(self.identifiers) > MAX_IDENTIFIERS:
            self.identifiers = self.identifiers[:MAX_IDENTIFIERS]
            self.issues.append(Issue(file, self.line, None, "record.too_many_identifiers", rejects_record=False))
        if max(map(len, self.fields.values()), default=0) > MAX_VALUES or len(self.parties) > MAX_VALUES:
            self.fields = {name: values[:MAX_VALUES] for name, values in self.fields.items()}
            self.parties = self.parties[:MAX_VALUES]
            self.issues.append(Issue(file, self.line, None, "record.too_many_values", rejects_record=False))
        if not self.identifiers and not self.parties:
            self.issues.append(Issue(file, self.line, None, "ics2.no_identifier", rejects_record=False))


_T = TypeVar("_T")


def _with(mine: tuple[_T, ...], more: tuple[_T, ...]) -> tuple[_T, ...]:
    """Return what either holds, once each."""
    known = mine if len(mine) < 8 else set(mine)
    return mine + tuple([each for each in more if each not in known])


def _take(draft: _Consignment, frame: Frame) -> None:
    """Take in what an element and all below it yield."""
    use = _PLANS[frame.node][0]
    if use is None:
        _take_inside(draft, frame)
        return
    if frame.repeated:
        _report_repeats(draft, frame)
    use(draft, frame)


def _take_inside(draft: _Consignment, frame: Frame) -> None:
    """Take in what stands in an element, whatever use there is for all of it together."""
    if frame.repeated:
        _report_repeats(draft, frame)
    for name, leaf in _PLANS[frame.node][1]:
        if name in frame.values:
            _take_leaf(draft, leaf, frame, name)
    for group in frame.groups():
        _take(draft, group)


def _take_leaf(draft: _Consignment, leaf: Leaf, frame: Frame, name: str) -> None:
    """Take in a leaf that is used by itself."""
    text = frame.values[name]
    if leaf.field is not None:
        draft.note(leaf.field, f"{leaf.label} {text}" if leaf.label else text)
    if leaf.use is Use.IDENTIFIER:
        assert leaf.type is not None
        draft.identify(leaf.type, frame.found(name), role=leaf.role)
    elif leaf.use is Use.TEXT:
        draft.free_text(frame.found(name))


def _report_repeats(draft: Draft, frame: Frame) -> None:
    for path, line in frame.repeats():
        draft.report("xml.repeated_element", line=line, path=path)


def _only(draft: Draft, frame: Frame, name: str) -> Frame | None:
    """Return the one group of a name; others of it are reported."""
    found = frame.all(name)
    if len(found) > 1:
        for more in found[1:]:
            draft.report("xml.repeated_element", line=more.line, path=more.path)
    return found[0] if found else None


_ADDRESS_LINES = (
    ("address/street", "address/streetAdditionalLine", "address/number"),
    ("address/poBox",),
    ("address/postCode", "address/city"),
    ("address/subDivision",),
)


def _party(draft: _Consignment, frame: Frame) -> None:
    value = frame.values.get
    contacts = []
    for contact in frame.all("communication"):
        if contact.repeated:
            _report_repeats(draft, contact)
        if (found := contact.found("identifier")) is not None:
            contacts.append((COMMUNICATION_TYPES.get(contact.text("type").upper()), found))
    node = frame.node
    draft.party(
        node.name,
        path=node.path,
        name=value("name", ""),
        number=frame.found("identificationNumber"),
        kind=PERSON_TYPES.get(value("typeOfPerson", ""), PartyKind.UNKNOWN),
        address=Address(
            [line for keys in _ADDRESS_LINES if (line := " ".join(filter(None, map(value, keys))))],
            value("address/country", ""),
            value("address/city", ""),
            value("address/postCode", ""),
        ),
        contacts=contacts,
    )


def _means(draft: _Consignment, frame: Frame) -> None:
    draft.means(
        frame.found("identificationNumber"),
        type_code=frame.text("typeOfIdentification"),
        nationality=frame.text("nationality"),
        role=frame.name,
        type_path=frame.path_of("typeOfIdentification"),
    )
    for group in frame.groups():
        _take(draft, group)


def _document(draft: _Consignment, frame: Frame) -> None:
    number, kind = frame.found("documentNumber"), frame.text("type")
    draft.transport_document(number, type_code=kind, role=frame.name)
    if kind == _POSTAL_ITEM and frame.name == "transportDocumentHouseLevel":
        draft.identify(IdentifierType.POSTAL_ITEM, number, role=frame.name)


def _equipment(draft: _Consignment, frame: Frame) -> None:
    """Take in a container with its seals."""
    seals = frame.all("seal")
    for seal in seals:
        _report_repeats(draft, seal)
    found = draft.equipment(
        frame.found("containerIdentificationNumber"), filter(None, (seal.found("identifier") for seal in seals))
    )
    container = found[0].value if found and found[0].type is IdentifierType.CONTAINER else None
    if container is not None and len(draft.containers) < MAX_IDENTIFIERS:
        draft.containers.add(container)
    if draft.boxes is None:
        for identifier in found:
            draft.add(identifier, line=frame.line)
    elif len(draft.boxes) < MAX_SHARED:
        draft.boxes.append((container, found[:MAX_SHARED]))
    else:
        draft.report("record.too_many_identifiers", line=frame.line, path=frame.path)


def _left(_draft: _Consignment, _frame: Frame) -> None:
    """Leave an element to whoever reads the level that it is of."""


def _result(draft: _Consignment, frame: Frame) -> None:
    """Take in one result of a risk analysis."""
    text = frame.text
    parts = {
        "type": text("riskAnalysisType"),
        "area": text("riskAreaCode"),
        "level": text("riskLevel"),
        "criterion": text("riskCriteriaIdentifier"),
        "result": text("resultCode"),
    }
    draft.note(Field.RISK_RESULT, ", ".join(f"{label} {part}" for label, part in parts.items() if part))
    draft.note(Field.RISK_RESULT, text("resultText"))


_USES: Mapping[str, Callable[[_Consignment, Frame], None]] = MappingProxyType(
    {
        **dict.fromkeys(
            (
                "additionalSupplyChainActor", "buyer", "carrier", "consignee", "consignor", "declarant", "notifyParty",
                "representative", "seller", "supplementaryDeclarant",
            ),
            _party,
        ),
        **dict.fromkeys(("activeBorderTransportMeans", "passiveBorderTransportMeans"), _means),
        **dict.fromkeys(("transportDocumentHouseLevel", "transportDocumentMasterLevel"), _document),
        "transportEquipment": _equipment,
        **dict.fromkeys(("consignmentHouseLevel", "consignmentMasterLevel", "partialENSFilingHeader"), _left),
    }
)  # fmt: skip
"""By element name, in a declaration: a name means the same wherever it stands."""


def _plans() -> Iterator[tuple[Node, tuple[Callable[[_Consignment, Frame], None] | None, list[tuple[str, Leaf]]]]]:
    """Yield, for each element that is no leaf, what uses it, and the leaves in it that are used by themselves."""
    for message, tree in TREES.items():
        uses = _USES if message == "IE4R05" else {"riskAnalysisResult": _result, "riskAnalysis": _left}
        for node in tree.walk():
            leaves = {
                key: leaf
                for key, path in node.leaf_paths.items()
                if (leaf := LEAVES[message][path.removeprefix(f"/{message}/")]).use
                in {Use.IDENTIFIER, Use.TEXT, Use.VALUE}
            }
            yield node, (uses.get(node.name), list(leaves.items()))


_PLANS = dict(_plans())


# --- reading ---


def read(stream: BinaryIO, *, file: str, schemas: Path | None = None) -> Iterator[Item]:
    """Read one message.

    Every consignment that closed before a break in the message comes out, marked ``incomplete``; nothing in the input
    raises.

    Args:
        stream: The message, seekable and binary; read from where it stands to its end.
        file: Display name, for issues.
        schemas: Folder with the XSD of the message; where given, a consignment that departs from it is not taken in,
            and nothing is if anything else does.

    Returns:
        Each record after its own issues, in source order; then issues of the message; then, if it was read to its end
        and nothing of it was refused, what it supersedes.

    Raises:
        ConfigError: If ``schemas`` holds no usable XSD.

    Cost: one pass, two with more than ``MAX_HELD_BYTES``, one more with ``schemas``.
    """
    if (refusal := refuse(stream, file=file)) is not None:
        yield refusal
        return
    start = stream.tell()
    message = XmlMessage(stream, file=file)
    name = message.root_name.removeprefix(_name(""))
    if name not in TREES or message.root_name != _name(name):
        yield _unread(message)
        return
    found = NO_VIOLATIONS
    if schemas is not None:
        stream.seek(start)
        units = {_HOUSE_TAG} if name == "IE4R05" else ()
        found = validate(stream, load_schema(schemas, f"{name}.xsd"), file=file, units=units)
        stream.seek(start)
        yield from found.issues
        if found.elsewhere:
            yield Issue(file, message.root_line, f"/{name}", "xsd.rejected", rejects_record=True)
            return
    if name == "IE4R05":
        yield from _read_declarations(stream, file, found)
    else:
        yield from _read_risk(stream, file, name)


def _unread(message: XmlMessage) -> Issue:
    """Say why a message is not read: another root element, or none that can be made out."""
    if not message.root_name:
        for _ in message.units():
            pass
        if message.cut is not None:
            return replace(message.cut, rejects_record=True)
    return Issue(message.file, message.root_line, "/*", "ics2.unsupported_message", rejects_record=True)


def _time(draft: _Consignment, found: Found | None) -> datetime | None:
    """Return a time of a message; report it where it is none, or one of an unknown zone."""
    if found is None:
        return None
    try:
        when = datetime.fromisoformat(found.text)
    except ValueError:
        when = None
    if when is None or when.tzinfo is None:
        draft.report("field.invalid", line=found.line, path=found.path)
        return None
    return when


def _dated(draft: _Consignment, frame: Frame, *names: str) -> None:
    """Keep the dates of issue and registration of an element."""
    for name in names:
        for group in frame.all(name):
            if (when := _time(draft, group.found("DateTime"))) is not None:
                draft.times.append(when)


def _named(draft: _Consignment, frame: Frame) -> None:
    """Take in the MRN of a declaration, of a house or of a filing."""
    found = frame.found("MRN")
    if found is None:
        return
    draft.note(Field.MRN, found.text)
    draft.identify(IdentifierType.MRN, found)
    if _REFERENCE.fullmatch(found.text.upper()):
        draft.mrn = found.text.upper()


_HOUSE_NODE = TREES["IE4R05"].at("relatedENS/consignmentMasterLevel/consignmentHouseLevel")
_PLACI_NODE = TREES["IE4R05"].at("relatedPLACI")
_PLACI_HOUSE_NODE = _PLACI_NODE.at("consignmentMasterLevel/consignmentHouseLevel")


class _Preloaded:
    """One pre-loading filing: its houses, and what they share."""

    def __init__(self, file: str, frame: Frame, houses: list[_Known]) -> None:
        self.houses = houses
        own = _Consignment(file, frame.line)
        _only(own, frame, "consignmentMasterLevel")
        filings = list(_filings(own, frame))
        self.mrn = next((filing.mrn for filing in filings if filing.mrn), None)
        self.times = [when for filing in filings for when in filing.times]
        self.line = frame.line
        whole = merge((own, *filings))
        self.shared = _Known(whole)
        self.issues = [issue for each in (own, *filings, whole) for issue in each.issues]
        self.size = self.shared.size + sum(house.size for house in houses)


class _Pass:
    """One pass over an ``IE4R05``.

    Args:
        stream: The message, at its first byte.
        file: Display name.
        found: Where it departs from its schema.
        held: What an earlier pass has made of the beginning; it is not made again.
    """

    def __init__(
        self,
        stream: BinaryIO,
        file: str,
        found: Violations,
        held: deque[_Known | _Preloaded | Issue] | None = None,
    ) -> None:
        self._held = held or deque()
        self.xml = XmlMessage(stream, file=file, units={_HOUSE_TAG, _PLACI_TAG})
        self.file = file
        self.light = False
        """Whether consignments are passed over, with a look at what the two rules need."""
        self.house_count = 0
        """Of the ENS."""
        self.listed: set[str] | None = set()
        """Containers that some house of the ENS lists; None if they are too many to tell."""
        self.house_mrns: set[str] | None = set()
        self.broken_elsewhere = False
        """Whether a unit that departs from the schema is no consignment."""
        self.waiting: list[_Known] = []
        """Houses of the pre-loading filing that is open."""
        self._waiting_size = 0
        self._broken = found.units
        self._unit = -1
        self._parent: Element | None = None
        self._node: Node | None = None

    def items(self) -> Iterator[_Known | _Preloaded | Issue]:
        """Yield the houses of the ENS, and pre-loading filings with theirs, as they close."""
        for element in self.xml.units():
            if element.tag == _PLACI_TAG:
                if element.getparent() is self.xml.root and not self.light:
                    yield self._held.popleft() if self._held else self._preloaded(element)
                continue
            self._unit += 1
            node = self._place(element)
            if self._held and node is not None:
                if node is _HOUSE_NODE or self._unit in self._broken:
                    yield self._held.popleft()
            elif self._unit in self._broken and node is not None:
                yield Issue(self.file, line_of(element), node.path, "xsd.rejected", rejects_record=True)
            elif node is None:
                self.broken_elsewhere = self.broken_elsewhere or self._unit in self._broken
                self.xml.skip(element)
            elif node is _PLACI_HOUSE_NODE:
                if not self.light:
                    self._wait(element)
            elif self.light:
                self._glance(element)
            else:
                house = self._house(element, node)
                self._list(house.containers, house.mrn)
                yield house

    def _preloaded(self, element: Element) -> _Preloaded:
        houses, self.waiting, self._waiting_size = self.waiting, [], 0
        return _Preloaded(self.file, self.xml.frame(element, _PLACI_NODE), houses)

    def _place(self, element: Element) -> Node | None:
        """Return the node of a house; None where it is no consignment, or one of a second master."""
        master = element.getparent()
        if master is None or master is not self._parent:
            self._parent = master
            self._node = self._level(master)
        return self._node

    def _level(self, master: Element | None) -> Node | None:
        declaration = None if master is None else master.getparent()
        root = self.xml.root
        if declaration is None or root is None or declaration.getparent() is not root:
            return None
        if next(declaration.iterchildren(_MASTER_TAG), None) is not master:
            return None
        if declaration.tag == _PLACI_TAG:
            return _PLACI_HOUSE_NODE
        return _HOUSE_NODE if next(root.iterchildren(_ENS_TAG), None) is declaration else None

    def _house(self, element: Element, node: Node) -> _Known:
        frame = self.xml.frame(element, node)
        draft = _Consignment(self.file, frame.line)
        _named(draft, frame)
        _take_inside(draft, frame)
        house = _Known(draft)
        house.line, house.mrn, house.sequence = draft.line, draft.mrn, frame.text("sequenceNumber")
        if draft.containers:
            house.containers = tuple(sorted(draft.containers))
        return house

    def _wait(self, element: Element) -> None:
        house = self._house(element, _PLACI_HOUSE_NODE)
        self._waiting_size += house.size
        if self._waiting_size <= MAX_WAITING_BYTES:
            self.waiting.append(house)
        else:
            path = _PLACI_HOUSE_NODE.path
            self.xml.notice("ics2.too_many_houses", line=house.line, path=path, key=house.line, rejects_record=True)

    def _glance(self, element: Element) -> None:
        """Note what the two rules need of a house, in the places where it is read from."""
        draft = Draft(self.file)
        containers = set()
        for equipment in element.iter(_EQUIPMENT_TAG):
            owner = equipment.getparent()
            if owner is element or (owner is not None and owner.tag == _ITEM_TAG and owner.getparent() is element):
                leaf = next(equipment.iterchildren(_CONTAINER_TAG), None)
                if leaf is not None and leaf.text and not len(leaf):
                    found = draft.normalised(IdentifierType.CONTAINER, Found(leaf.text, "", None))
                    if found is not None:
                        containers.add(found.value)
        mrn = next(element.iterchildren(_MRN_TAG), None)
        self._list(containers, None if mrn is None or not mrn.text else mrn.text.strip().upper())

    def _list(self, containers: Iterable[str], mrn: str | None) -> None:
        self.house_count += 1
        if self.listed is not None:
            self.listed.update(containers)
            if len(self.listed) > MAX_LISTED:
                self.listed = None
        if self.house_mrns is not None and mrn is not None:
            self.house_mrns.add(mrn)
            if len(self.house_mrns) > MAX_LISTED:
                self.house_mrns = None


def _filings(owner: Draft, frame: Frame) -> Iterator[_Consignment]:
    """Yield the partial filings of a declaration."""
    frames = frame.all("partialENSFilingHeader")
    for each in frames[:MAX_FILINGS]:
        filing = _Consignment(owner.file, each.line)
        _named(filing, each)
        _dated(filing, each, "registrationDate", "documentIssueDate")
        _take_inside(filing, each)
        yield filing
    for each in frames[MAX_FILINGS : MAX_FILINGS + 1]:
        owner.report("ics2.too_many_filings", line=each.line, path=each.path)


class _Ens:
    """What the houses of an ENS share, once the first pass is through."""

    def __init__(self, frame: Frame, done: _Pass) -> None:
        self._file = done.file
        self.ens = _Consignment(done.file, frame.line)
        _named(self.ens, frame)
        _dated(self.ens, frame, "DocumentIssueDate")
        _take_inside(self.ens, frame)
        self.has_houses = done.house_count > 0
        master = frame.spine("consignmentMasterLevel")
        self.has_master = master is not None
        """Whether it began."""
        self.master_closed = master is not None and not master.open
        self.master = _Consignment(done.file, frame.line if master is None else master.line)
        self.master.boxes = []
        if master is not None:
            _take_inside(self.master, master)
        filings = list(_filings(self.ens, frame))
        self.ens.times += [when for filing in filings for when in filing.times]
        self._filing_of: dict[str, list[_Known]] = {}
        common: list[_Consignment] = []
        for filing in filings:
            if filing.mrn is not None and done.house_mrns is not None and filing.mrn in done.house_mrns:
                self._filing_of.setdefault(filing.mrn, []).append(_Known(filing))
            else:
                common.append(filing)
        if self.has_houses and len(common) > MAX_SHARED // 10:
            del common[MAX_SHARED // 10 :]
            self.ens.report("ics2.too_many_filings", line=self.ens.line, path=None)
        whole = merge((self.ens, _as_shared(self.master) if self.has_houses else self.master, *common))
        if self.has_houses and len(whole.identifiers) > MAX_SHARED:
            # Houses times shared identifiers is what a hostile message could make us hold.
            whole.identifiers = dict(islice(whole.identifiers.items(), MAX_SHARED))
            whole.report("record.too_many_identifiers", line=self.master.line, path=None)
        self.issues = [issue for each in (self.ens, self.master, *filings, whole) for issue in each.issues]
        self._common = _Known(whole)
        self._common.line = self.master.line

        self._all_boxes = _boxed(done.file, self.master.boxes)
        boxes: dict[str, list[tuple[str | None, list[Identifier]]]] = {}
        loose = []
        for container, found in self.master.boxes:
            if container is None or done.listed is None or container not in done.listed:
                loose.append((container, found))
            else:
                boxes.setdefault(container, []).append((container, found))
        self._box_of = {container: _boxed(done.file, found) for container, found in boxes.items()}
        self._loose_boxes = _boxed(done.file, loose)
        self._sequences: set[str] = set()
        self._index = 0

    def finish(self, house: _Known) -> str:
        """Give a house what it shares, and return the part of its name behind the MRN."""
        shared = [self._common, *self._filing_of.get(house.mrn or "", ())]
        if not house.containers:
            shared.append(self._all_boxes)
        else:
            if self._loose_boxes.identifiers:
                shared.append(self._loose_boxes)
            shared += [self._box_of[container] for container in house.containers if container in self._box_of]
        house.join(shared, self._file)
        self._index += 1
        # Stable over versions of a message where it can be.
        if _SEQUENCE.fullmatch(house.sequence) and house.sequence not in self._sequences:
            self._sequences.add(house.sequence)
            return f"/{house.sequence}"
        return f"/@{self._index}"

    def alone(self) -> _Known:
        """Return the master as the one consignment."""
        self._common.issues = []
        self._common.join([self._all_boxes], self._file)
        return self._common


def _boxed(file: str, boxes: Iterable[tuple[str | None, list[Identifier]]]) -> _Known:
    draft = Draft(file)
    for _, found in boxes:
        for identifier in found:
            draft.add(identifier)
    return _Known(draft)


def _as_shared(master: _Consignment) -> Draft:
    """Return the master as houses see it: its parties are marked, because a house has parties of its own."""
    shared = Draft(master.file)
    shared.identifiers = master.identifiers
    shared.fields = {
        name: {f"master {value}" if name in _PARTY_FIELDS else value: None for value in values}
        for name, values in master.fields.items()
    }
    shared.parties = {replace(party, role=f"master {party.role}"): None for party in master.parties}
    return shared


def _read_declarations(stream: BinaryIO, file: str, found: Violations) -> Iterator[Item]:
    start = stream.tell()
    first = _Pass(stream, file, found)
    held: deque[_Known | _Preloaded | Issue] = deque()
    size = 0
    for item in first.items():
        if not first.light:
            held.append(item)
            size += 120 if isinstance(item, Issue) else item.size
            first.light = size > MAX_HELD_BYTES
    if first.broken_elsewhere:
        yield Issue(file, first.xml.root_line, "/IE4R05", "xsd.rejected", rejects_record=True)
        return
    message = _Declarations(first)
    last = first
    if first.light:
        stream.seek(start)
        last = _Pass(stream, file, found, held)
        last.xml.continues(first.xml)
    yield from message.finish(last.items() if first.light else _drained(held), last)


def _drained(items: deque[_Known | _Preloaded | Issue]) -> Iterator[_Known | _Preloaded | Issue]:
    """Yield each item and hold it no longer."""
    while items:
        yield items.popleft()


class _Declarations:
    """Makes records of the consignments of an ``IE4R05`` once all of it is known."""

    def __init__(self, first: _Pass) -> None:
        self._first = first
        self._digest = first.xml.digest()
        self._made = 0
        self._lost = False
        self._versions: dict[str, int] = {}
        """Message reference -> version."""
        self._positions: dict[str, int] = {}
        self._header = _Consignment(first.file, None)
        self._ens: _Ens | None = None
        self._time: datetime | None = None
        if first.xml.root is None:
            return
        root = first.xml.frame(first.xml.root, TREES["IE4R05"])
        for header in root.all("MessageHeader")[:1]:
            self._time = _time(self._header, header.found("messageTimestamp"))
        if (ens := root.spine("relatedENS")) is not None:
            self._ens = _Ens(ens, first)
            for more in [*root.all("relatedENS")[1:], *ens.all("consignmentMasterLevel")[1:]]:
                first.xml.notice(
                    "xml.repeated_element", line=more.line, path=more.path, key=more.line, rejects_record=True
                )

    def finish(self, items: Iterable[_Known | _Preloaded | Issue], last: _Pass) -> Iterator[Item]:
        """Yield everything; ``last`` is the pass that the items come from."""
        yield from self._header.issues
        if self._ens is not None:
            yield from self._ens.issues
        for item in items:
            if isinstance(item, Issue):
                self._lost = True
                yield item
            elif isinstance(item, _Preloaded):
                yield from self._preloaded(item)
            else:
                assert self._ens is not None, "it has a house"
                suffix = self._ens.finish(item)
                if item.issues:
                    yield from item.issues
                yield self._ens_record(self._ens, item, suffix)
        ens = self._ens
        if ens is not None and not ens.has_houses and ens.master_closed:
            whole = ens.alone()
            yield from whole.issues
            yield self._ens_record(ens, whole, "")
        yield from self._last_issues(last)
        if last.xml.cut is None and not self._lost:
            for reference, version in self._versions.items():
                yield Supersession(SourceSystem.ICS2, reference, version)

    def _ens_record(self, ens: _Ens, whole: _Known, suffix: str) -> Record | Issue:
        mrn = ens.ens.mrn
        if mrn is None:
            return self._unnamed(whole.line, "/IE4R05/relatedENS/MRN")
        return self._record(whole, "ics2.ens", mrn, mrn + suffix, ens.ens.times)

    def _preloaded(self, item: _Preloaded) -> Iterator[Item]:
        file = self._first.file
        yield from item.issues
        if not item.houses:
            path = _PLACI_NODE.at("consignmentMasterLevel").path
            yield Issue(file, item.line, path, "ics2.consignment_missing", rejects_record=True)
        for house in item.houses:
            house.join([item.shared], file)
            yield from house.issues
            if item.mrn is None:
                yield self._unnamed(house.line, f"{_PLACI_NODE.path}/partialENSFilingHeader/MRN")
                continue
            reference = f"{item.mrn}#placi"
            position = self._positions.get(reference, 0) + 1
            if position == 1 and len(self._positions) >= MAX_LISTED:
                self._lost = True
                yield Issue(file, house.line, _PLACI_NODE.path, "ics2.too_many_filings", rejects_record=True)
                continue
            self._positions[reference] = position
            yield self._record(house, "ics2.placi", reference, f"{reference}/@{position}", item.times)

    def _unnamed(self, line: int | None, path: str) -> Issue:
        return Issue(self._first.file, line, path, "ics2.mrn_missing", rejects_record=True)

    def _record(self, whole: _Known, category: str, reference: str, name: str, times: Iterable[datetime]) -> Record:
        version = self._versions.get(reference)
        if version is None:
            version = self._versions[reference] = version_of(max(times, default=self._time))
        self._made += 1
        return Record(
            source=SourceSystem.ICS2,
            source_ref=name,
            category=category,
            identifiers=whole.identifiers,
            fields=MappingProxyType(whole.fields),
            message_digest=self._digest,
            incomplete=self._first.xml.cut is not None,
            parties=whole.parties,
            message_ref=reference,
            version=version,
        )

    def _last_issues(self, last: _Pass) -> Iterator[Issue]:
        """Yield what is wrong with the message as a whole, once it is known what was lost."""
        notices = list(self._first.xml.notices)
        if last is not self._first:
            notices += last.xml.notices
        notices.sort(key=lambda notice: notice.line or 0)
        self._lost = self._lost or any(notice.rejects_record for notice in notices)
        yield from notices
        file, ens = self._first.file, self._ens
        for house in last.waiting:
            yield self._unnamed(house.line, f"{_PLACI_NODE.path}/partialENSFilingHeader/MRN")
        if (cut := last.xml.cut) is not None:
            yield replace(cut, rejects_record=last.xml.cut_in_unit or not self._made)
        elif ens is None:
            if not self._made:
                yield Issue(file, None, "/IE4R05/relatedENS", "ics2.ens_missing", rejects_record=True)
        elif not ens.has_master:
            yield Issue(
                file,
                ens.ens.line,
                "/IE4R05/relatedENS/consignmentMasterLevel",
                "ics2.consignment_missing",
                rejects_record=True,
            )


def _read_risk(stream: BinaryIO, file: str, name: str) -> Iterator[Item]:
    """Read a risk result or a risk hit: one record for each request for risk analysis."""
    units = {_ANALYSIS_TAG} if name == "IE4N03" else {_ANALYSIS_TAG, _RESULT_TAG, _RECOMMENDATION_TAG}
    message = XmlMessage(stream, file=file, units=units)
    tree = TREES[name]
    common = _Consignment(file, message.root_line)
    requests: dict[str, _Consignment] = {}
    lost: list[Issue] = []
    request = _Consignment(file, None)
    for element in message.units():
        parent = element.getparent()
        if parent is message.root and element.tag == _ANALYSIS_TAG:
            frame = message.frame(element, tree.at("riskAnalysis"))
            request.line = frame.line
            _take_inside(request, frame)
            reference = frame.text("riskAnalysisRequestReference")
            if _REQUEST_REFERENCE.fullmatch(reference) and reference not in requests and len(requests) < MAX_REQUESTS:
                request.note(Field.REFERENCE, reference)
                requests[reference] = request
            elif len(lost) < MAX_REQUESTS:
                path = frame.path_of("riskAnalysisRequestReference")
                lost.append(Issue(file, frame.line, path, "ics2.reference_invalid", rejects_record=True))
            request = _Consignment(file, None)
        elif parent is message.root and element.tag == _RECOMMENDATION_TAG:
            _take(common, message.frame(element, tree.at("controlRecommendations")))
        elif parent is not None and parent.tag == _ANALYSIS_TAG and parent.getparent() is message.root:
            _take(request, message.frame(element, tree.at("riskAnalysis/riskAnalysisResult")))
        else:
            message.skip(element)
    digest = message.digest()
    when: datetime | None = None
    if message.root is not None:
        root = message.frame(message.root, tree)
        _take_inside(common, root)
        _dated(common, root, "documentIssueDate")
        for header in root.all("MessageHeader")[:1]:
            when = _time(common, header.found("messageTimestamp"))
    yield from common.issues
    kind = _RISK_KINDS[name]
    for reference, request in requests.items():
        yield from request.issues
        if name == "IE4N03":
            request.note(Field.RISK_RESULT, "hit")
        whole = merge((request, common))
        yield from whole.issues
        yield Record(
            source=SourceSystem.ICS2,
            source_ref=f"{kind}/{reference}",
            category=f"ics2.{kind}",
            identifiers=tuple(whole.identifiers.values()),
            fields=filled(whole.fields),
            message_digest=digest,
            incomplete=message.cut is not None,
            version=version_of(max(common.times, default=when)),
        )
    yield from lost
    yield from message.notices
    if message.cut is not None:
        yield replace(message.cut, rejects_record=message.cut_in_unit or not requests)
    elif not requests and not lost:
        yield Issue(file, message.root_line, tree.at("riskAnalysis").path, "ics2.analysis_missing", rejects_record=True)


FORMATS = (
    Format(
        "ics2-ens",
        SourceSystem.ICS2,
        Kind.XML,
        "ICS2 entry summary declarations and what was declared before loading, message IE4R05",
        frozenset({_name("IE4R05"), _name("*")}),
        lambda stream, file, schemas: read(stream, file=file, schemas=schemas),
    ),
    Format(
        "ics2-risk",
        SourceSystem.ICS2,
        Kind.XML,
        "ICS2 risk results and risk hits, messages IE4S02 and IE4N03",
        frozenset({_name("IE4S02"), _name("IE4N03")}),
        lambda stream, file, schemas: read(stream, file=file, schemas=schemas),
    ),
)
