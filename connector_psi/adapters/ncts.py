"""Reads messages of the transit system NCTS, phases 5 and 6: bytes -> one record per house consignment.

A movement is told in many messages. Each is one of four things (``MESSAGES``):

- a *declaration* (``CC015C`` data, ``CC013C`` amendment, ``CC029C`` release) says all there is to say of the movement;
  the newest replaces the older ones, whatever order they arrive in. It is known by its LRN until it has an MRN, and by
  both from the release on, so ``CC029C`` replaces the ``CC015C`` that it releases;
- a *statement* (arrival, presentation, unloading, incident ...) says a part of it, such as the container after an
  incident. It is a record of its own beside the declaration, named ``{MRN}/CC043C``, and replaces nothing but an older
  statement of its kind;
- a *decision* on invalidation (``CC009C``) withdraws the declaration and the statements, if it invalidates;
- a *request* for one (``CC014C``) changes nothing, and is reported as read.

A *record* is one house consignment, or the message where it has none. What stands outside the houses belongs to each of
them, but for transport equipment: a house gets the equipment that its goods items are in, and the equipment that names
no goods item of any house. Houses are held until the message ends, because that rule needs all of them; where they are
many the message is read once more, and each leaves as it closes. Memory does not grow with the message either way.

Decides: which messages are read, what a record is and what it is called.
Leaves to others: what the elements yield (``domain.movements``), parsing safely (``adapters.xml``), which message is
the newest (the node).

Source: schemas 51.8.6 (phase 5) and 60.4.16 (phase 6) of the message exchange with traders.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from enum import Enum, auto
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Final

from connector_psi.adapters.xml import (
    NO_VIOLATIONS,
    Frame,
    Node,
    XmlMessage,
    line_of,
    load_schema,
    refuse,
    table,
    validate,
)
from connector_psi.domain.drafts import MAX_IDENTIFIERS, Draft, filled, merge
from connector_psi.domain.intake import Format, Item, Kind
from connector_psi.domain.movements import (
    BORDER,
    CONSIGNMENT,
    EQUIPMENT,
    GOODS,
    MEANS,
    NUMBERED,
    PARTY,
    Equipment,
    Movement,
    Reference,
    equipment,
    item_number,
    moment,
    paths,
    reference,
    under,
)
from connector_psi.domain.records import Field, IdentifierType, Issue, Rank, Record, SourceSystem, version_of

NAMESPACE: Final = "http://ncts.dgtaxud.ec"
CATEGORY: Final = "ncts.transit"

MAX_HELD_VALUES: Final = 50_000
"""Identifiers and values of houses held in memory (about 20 MB) before the message is read a second time."""
MAX_SHARED: Final = 2_000
"""Identifiers that all houses of a message share, and pieces of equipment of one house."""
MAX_ITEMS: Final = 100_000
"""Goods items kept for the rule of equipment; beyond that equipment goes to every house."""


class Telling(Enum):
    """What a message is to the movement."""

    DECLARATION = auto()
    STATEMENT = auto()
    DECISION = auto()
    REQUEST = auto()


MESSAGES: Final[Mapping[str, tuple[Telling, Rank]]] = MappingProxyType(
    {
        "CC015C": (Telling.DECLARATION, Rank.ORIGINAL),
        "CC013C": (Telling.DECLARATION, Rank.AMENDMENT),
        "CC029C": (Telling.DECLARATION, Rank.DECISION),
        "CC007C": (Telling.STATEMENT, Rank.ORIGINAL),
        "CC025C": (Telling.STATEMENT, Rank.ORIGINAL),
        "CC028C": (Telling.STATEMENT, Rank.ORIGINAL),
        "CC043C": (Telling.STATEMENT, Rank.ORIGINAL),
        "CC044C": (Telling.STATEMENT, Rank.ORIGINAL),
        "CC170C": (Telling.STATEMENT, Rank.ORIGINAL),
        "CC182C": (Telling.STATEMENT, Rank.ORIGINAL),
        "CC009C": (Telling.DECISION, Rank.WITHDRAWAL),
        "CC014C": (Telling.REQUEST, Rank.ORIGINAL),
    }
)
"""Messages that are read."""
# Of both phases; they tell of guarantees, errors, controls and enquiries.
OTHER_MESSAGES: Final = frozenset(
    {
        "CC004C", "CC017C", "CC019C", "CC022C", "CC023C", "CC035C", "CC040C", "CC042C", "CC045C", "CC048C", "CC051C",
        "CC055C", "CC056C", "CC057C", "CC060C", "CC140C", "CC141C", "CC190C", "CC191C", "CC228C", "CC906C", "CC917C",
        "CC928C",
    }
)  # fmt: skip
"""Messages that are known and not read."""

CODES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ncts.unsupported_message": "no message that is read",
        "ncts.reference_missing": "neither MRN nor LRN, so nobody can tell which movement it is of",
        "ncts.consignment_missing": "a declaration without a consignment",
        "ncts.no_identifier": "neither an identifier nor a named party: kept, and matched by nothing",
        "ncts.time_unusable": "no time of preparation: whatever else is known of the movement counts as newer",
        "ncts.not_invalidated": "a decision that invalidates nothing; it changes nothing",
        "ncts.request_only": "a request, which changes nothing before there is a decision",
    }
)
"""Reason codes of this format, beside those of the XML reader, the schema and the identifiers."""

HOUSE: Final = "HouseConsignment"
_STATEMENTS: Final = tuple(name for name, (telling, _) in MESSAGES.items() if telling is Telling.STATEMENT)
_SEQUENCE: Final = re.compile(r"[0-9]{1,5}")

_OFFICE = {**NUMBERED, **paths("referenceNumber")}
_ITEM = {
    **paths("declarationGoodsItemNumber", "goodsItemNumber declarationType releaseType"),
    **CONSIGNMENT,
    **GOODS,
}
_HOUSE = {
    **NUMBERED,
    **paths("sequenceNumber", "releaseType securityIndicatorFromExportDeclaration"),
    **CONSIGNMENT,
    **under("ConsignmentItem", _ITEM),
}
_INCIDENT = {
    **NUMBERED,
    **paths("text", "code Endorsement"),
    **under("Location", paths("UNLocode", "qualifierOfIdentification country GNSS Address")),
    **under("TransportEquipment", EQUIPMENT),
    **paths("", "Transhipment/containerIndicator"),
    **under("Transhipment/TransportMeans", MEANS),
}
PATHS: Final[Mapping[str, bool]] = MappingProxyType(
    {
        **paths(
            "preparationDateAndTime",
            "messageSender messageRecipient messageIdentification messageType correlationIdentifier",
        ),
        **under(
            "TransitOperation",
            paths(
                "LRN MRN TIRCarnetNumber otherThingsToReport",
                "declarationType additionalDeclarationType presentationOfTheGoodsDateAndTime security "
                "reducedDatasetIndicator specificCircumstanceIndicator communicationLanguageAtDeparture "
                "bindingItinerary limitDate declarationAcceptanceDate releaseDate releaseIndicator amendmentTypeFlag "
                "arrivalNotificationDateAndTime simplifiedProcedure incidentFlag incidentNotificationDateAndTime",
            ),
        ),
        **under("CustomsOfficeOfDeparture", _OFFICE),
        **under("CustomsOfficeOfDestinationDeclared", _OFFICE),
        **under("CustomsOfficeOfDestinationActual", _OFFICE),
        **under("CustomsOfficeOfTransitDeclared", {**_OFFICE, **paths("arrivalDateAndTimeEstimated")}),
        **under("CustomsOfficeOfExitForTransitDeclared", _OFFICE),
        **under("CustomsOfficeOfIncidentRegistration", _OFFICE),
        **under("HolderOfTheTransitProcedure", {**PARTY, **paths("TIRHolderIdentificationNumber")}),
        **under("Representative", {**PARTY, **paths("", "status")}),
        **under("TraderAtDestination", paths("identificationNumber", "communicationLanguageAtDestination")),
        **under(
            "Invalidation", paths("decision initiatedByCustoms", "requestDateAndTime decisionDateAndTime justification")
        ),
        **under("UnloadingRemark", paths("unloadingRemark", "conform unloadingCompletion unloadingDate stateOfSeals")),
        **paths("", "Authorisation Guarantee ControlResult CTLControl"),
        **under("Consignment", {**CONSIGNMENT, **BORDER}),
        **under("Consignment/Incident", _INCIDENT),
        **under(f"Consignment/{HOUSE}", _HOUSE),
    }
)
"""Every element of the messages that are read, and whether it is read: what it is does not depend on the message."""


def _table(name: str) -> Node:
    return table(
        name, (path for path, read in PATHS.items() if read), skipped=(p for p, read in PATHS.items() if not read)
    )


TABLES: Final[Mapping[str, Node]] = MappingProxyType({name: _table(name) for name in MESSAGES})


def read(stream: BinaryIO, *, file: str, schemas: Path | None = None) -> Iterator[Item]:
    """Read one message.

    Every house that closed before a break in the message comes out, marked ``incomplete``; nothing in the input
    raises.

    Args:
        stream: The message, seekable and binary; read from where it stands to its end.
        file: Display name, for issues.
        schemas: Folder of one release, with ``cc015c.xsd`` and its like. Where given, a house that breaks the schema
            is not taken in, and nothing is if anything outside the houses breaks it.

    Returns:
        Issues of the message, then each record after its own issues, in source order, then what the message ends.

    Raises:
        ConfigError: If ``schemas`` holds no usable schema of the message, or those of two releases.

    Cost: one pass, two with more than ``MAX_HELD_VALUES``, one more with ``schemas``.
    """
    start = stream.tell()
    if (refusal := refuse(stream, file=file)) is not None:
        yield refusal
        return
    xml = XmlMessage(stream, file=file, units={HOUSE})
    name = xml.root_name.removeprefix(f"{{{NAMESPACE}}}")
    if name not in MESSAGES:
        path = f"/{name}" if name in OTHER_MESSAGES else "/*"
        yield Issue(file, xml.root_line, path, "ncts.unsupported_message", rejects_record=True)
        return
    violations = NO_VIOLATIONS
    if schemas is not None:
        violations = validate(stream, load_schema(schemas, f"{name.lower()}.xsd"), file=file, units={HOUSE})
        stream.seek(start)
        yield from violations.issues
        if violations.elsewhere:
            yield Issue(file, xml.root_line, f"/{name}", "xsd.rejected", rejects_record=True)
            return

    message = _Message(xml, name, violations.units)
    held: list[_House] | None = []
    held_values = 0
    for house in message.houses():
        if held is not None:
            held.append(house)
            held_values += house.size + len(house.issues) + len(house.items) + 1
            if held_values > MAX_HELD_VALUES:
                held = None
    message.finish()
    digest = xml.digest()
    yield from message.issues()
    if held is None:
        stream.seek(start)
        again = _Message(XmlMessage(stream, file=file, units={HOUSE}), name, violations.units)
        yield from message.told(again.houses(), digest)
    else:
        yield from message.told(held, digest)


class _House(Movement):
    """What is known of a house."""

    __slots__ = ("items", "line", "sequence")

    def __init__(self, file: str, frame: Frame) -> None:
        super().__init__(file)
        self.line = frame.line
        self.sequence = frame.text("sequenceNumber")
        self.items = {item_number(item) for item in frame.all("ConsignmentItem")} - {""}
        self.take(frame)


class _Message:
    """One pass over a message: yields the houses, and keeps what they share."""

    def __init__(self, xml: XmlMessage, name: str, broken: frozenset[int]) -> None:
        self.xml = xml
        self.file = xml.file
        self.name = name
        self.telling, self.rank = MESSAGES[name]
        self.master = Movement(xml.file)
        self.equipment: list[Equipment] = []
        self.reference = Reference("", "")
        self.version = 0
        self.invalidates = False
        self.has_consignment = False
        self.house_count = 0
        self.rejected = 0
        """Houses that break the schema."""
        self._broken = broken
        self._items: set[str] | None = set()
        """Goods items of all houses; None if they are too many to tell."""

    def houses(self) -> Iterator[_House]:
        """Read the message, yielding each house as it closes."""
        node = TABLES[self.name].at(f"Consignment/{HOUSE}")
        for position, element in enumerate(self.xml.units()):
            parent = element.getparent()
            if parent is None or parent.tag != "Consignment" or parent.getparent() is not self.xml.root:
                self.xml.notice("xml.unknown_element", line=line_of(element), path=f"/{self.name}/*", key=HOUSE)
                continue
            house = _House(self.file, self.xml.frame(element, node))
            if self._items is not None:
                self._items |= house.items
                if len(self._items) > MAX_ITEMS:
                    self._items = None
            if position in self._broken:
                self.rejected += 1
                self.xml.notice("xsd.rejected", line=house.line, path=node.path, key=position, rejects_record=True)
                continue
            self.house_count += 1
            yield house

    def finish(self) -> None:
        """Take in what is in no house, once the houses are through."""
        if self.xml.root is None:
            return
        root = self.xml.frame(self.xml.root, TABLES[self.name])
        parts = [root]
        if (consignment := root.spine("Consignment")) is not None:
            self.has_consignment = True
            if consignment.open:
                parts.append(consignment)
        for part in parts:
            self.master.take(part)
            self.equipment.extend(islice(equipment(part, file=self.file), MAX_IDENTIFIERS + 1))
        if len(self.equipment) > MAX_IDENTIFIERS:
            del self.equipment[MAX_IDENTIFIERS:]
            self.master.report("record.too_many_identifiers", line=root.line, path=root.path)
        self._name(root)
        if (time := moment(root.text("preparationDateAndTime"))) is None:
            path = root.path_of("preparationDateAndTime")
            self.master.report("ncts.time_unusable", line=root.line_of("preparationDateAndTime"), path=path)
        self.version = version_of(time, self.rank)
        if (invalidation := root.first("Invalidation")) is not None:
            # A decision of customs' own making need not say that it is one.
            decision = invalidation.text("decision") or invalidation.text("initiatedByCustoms")
            self.invalidates = decision == "1"

    def _name(self, root: Frame) -> None:
        if (operation := root.first("TransitOperation")) is None:
            return
        self.master.identify(IdentifierType.MRN, operation.found("MRN"))
        self.master.note(Field.MRN, operation.text("MRN"))
        self.master.transport_document(operation.found("TIRCarnetNumber"), type_code="N952", role="tirCarnet")
        trader = ""
        if (holder := root.first("HolderOfTheTransitProcedure")) is not None:
            numbers = ("identificationNumber", "TIRHolderIdentificationNumber", "name")
            trader = next((text for name in numbers if (text := holder.text(name))), "")
        self.reference = reference(operation.text("MRN"), operation.text("LRN"), trader)

    def issues(self) -> Iterator[Issue]:
        """Yield the issues that belong to no house."""
        yield from self.xml.notices
        yield from self.master.issues
        for piece in self.equipment:
            yield from piece.draft.issues

    def told(self, houses: Iterable[_House], digest: bytes) -> Iterator[Item]:
        """Yield what the message says, its houses being given again.

        Args:
            houses: Those of this message.
            digest: Of the whole message.
        """
        cut = self.xml.cut
        if cut is not None and not self.house_count:
            yield replace(cut, rejects_record=True)
            return
        refusal = self._refusal()
        if refusal is not None:
            yield refusal
        elif self.telling in {Telling.DECISION, Telling.REQUEST}:
            yield from self._decided()
        else:
            yield from self._records(houses, digest)
            if cut is None and not self.rejected:
                part = "" if self.telling is Telling.DECLARATION else f"/{self.name}"
                yield self.reference.supersession(SourceSystem.NCTS, self.version, part=part)
                if part:
                    yield from self.reference.link(SourceSystem.NCTS)
        if cut is not None:
            yield replace(cut, rejects_record=self.xml.cut_in_unit)

    def _refusal(self) -> Issue | None:
        line, path = self.xml.root_line, f"/{self.name}"
        if self.telling is Telling.REQUEST:
            return None
        if not self.reference.key:
            return Issue(self.file, line, f"{path}/TransitOperation", "ncts.reference_missing", rejects_record=True)
        if self.telling is Telling.DECLARATION and not self.has_consignment:
            return Issue(self.file, line, f"{path}/Consignment", "ncts.consignment_missing", rejects_record=True)
        return None

    def _decided(self) -> Iterator[Item]:
        if self.telling is Telling.DECISION and self.invalidates:
            for part in ("", *(f"/{name}" for name in _STATEMENTS)):
                yield self.reference.supersession(SourceSystem.NCTS, self.version, part=part, reason="invalidated")
            return
        code = "ncts.request_only" if self.telling is Telling.REQUEST else "ncts.not_invalidated"
        yield Issue(self.file, self.xml.root_line, f"/{self.name}", code, rejects_record=False)

    def _records(self, houses: Iterable[_House], digest: bytes) -> Iterator[Item]:
        carriers, everyones = self._who_carries()
        common = merge((self.master, *(piece.draft for piece in everyones)))
        if self.house_count > 1 and (surplus := list(common.identifiers)[MAX_SHARED:]):
            # Houses times shared identifiers is what a hostile message could make a node hold.
            for key in surplus:
                del common.identifiers[key]
            common.report("record.too_many_identifiers", line=self.xml.root_line, path=f"/{self.name}")
        yield from common.issues
        if not self.house_count and not self.rejected:
            yield from self._record(common, "", digest, line=self.xml.root_line, path=f"/{self.name}")
        sequences: set[str] = set()
        for index, house in enumerate(houses, 1):
            yield from house.issues
            found = sorted({position for number in house.items for position in carriers.get(number, ())})
            whole = merge((house, common, *(self.equipment[position].draft for position in found[:MAX_SHARED])))
            if len(found) > MAX_SHARED:
                whole.report("record.too_many_identifiers", line=house.line, path=None)
            yield from whole.issues
            # The number is stable over the messages about a movement; a position is where there is no such number.
            name = house.sequence
            if not _SEQUENCE.fullmatch(name) or name in sequences:
                name = f"@{index}"
            else:
                sequences.add(name)
            path = f"/{self.name}/Consignment/{HOUSE}"
            yield from self._record(whole, f"/{name}", digest, line=house.line, path=path)

    def _who_carries(self) -> tuple[dict[str, list[int]], list[Equipment]]:
        """Return the positions of equipment by goods item, and the equipment that is everyone's."""
        by_item: dict[str, list[int]] = {}
        everyones = []
        for position, piece in enumerate(self.equipment):
            if self._items is None or piece.items.isdisjoint(self._items):
                # What a message broke off before may be the house that it is of.
                if not (piece.items and self.xml.cut):
                    everyones.append(piece)
                continue
            for number in piece.items:
                positions = by_item.setdefault(number, [])
                if len(positions) <= MAX_SHARED:
                    positions.append(position)
        return by_item, everyones

    def _record(
        self, whole: Draft, name: str, digest: bytes, *, line: int | None, path: str
    ) -> Iterator[Record | Issue]:
        if not whole.identifiers and not whole.parties:
            yield Issue(self.file, line, path, "ncts.no_identifier", rejects_record=False)
        message_ref = self.reference.key + ("" if self.telling is Telling.DECLARATION else f"/{self.name}")
        yield Record(
            source=SourceSystem.NCTS,
            source_ref=message_ref + name,
            category=CATEGORY,
            identifiers=tuple(whole.identifiers.values()),
            fields=filled(whole.fields),
            message_digest=digest,
            incomplete=self.xml.cut is not None,
            parties=tuple(whole.parties),
            message_ref=message_ref,
            version=self.version,
        )


FORMATS = (
    Format(
        "ncts-xml",
        SourceSystem.NCTS,
        Kind.XML,
        "NCTS transit messages, phases 5 and 6: " + ", ".join(MESSAGES),
        frozenset({f"{{{NAMESPACE}}}{name}" for name in MESSAGES} | {f"{{{NAMESPACE}}}*"}),
        lambda stream, file, schemas: read(stream, file=file, schemas=schemas),
    ),
)
