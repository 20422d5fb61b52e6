"""Reads a full ENS of ICS2 (message IE4R05): bytes -> one record per house consignment.

A *record* is one house consignment, or the master consignment where there is none. What stands at the level of
the master or of the ENS (vessel, carrier, master transport document, declarant ...) belongs to every house below
it. It may stand after the houses, so no house is complete before the message ends. Therefore the message is read
once for what all houses share, holding the houses as long as they are few; where they are many it is read once
more, and each house leaves as it closes. Memory does not grow with the message either way.

Two rules decide which house gets what is not simply everyone's:

- *Containers* of the master. A house that lists containers gets those of the master that it lists, with their
  seals, and those that no house lists (an empty box is on somebody's list of stolen boxes too). A house that lists
  none gets all of them: in a consolidated box every consignment is in it.
- *Partial filings* (declarant, representative, MRN). A house gets the filing that carries its own MRN, and those
  whose MRN no house carries, such as the one that declared the master.

Decides: what is extracted, with ``ics2_paths`` as the table, and how records are named (``{MRN}`` or
``{MRN}/{sequence number}``).
Leaves to others: parsing safely (``xmlstream``), canonical forms (``domain.identifiers``).

Not read: risk results, control results, their subjects, screening results, and pre-loading messages
(``relatedPLACI``, reported once). A number that an analyst wrote is no identifier of the consignment.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from lxml import etree

from connector_psi.adapters.ics2_paths import (
    COMMUNICATION_TYPES,
    ENS,
    MEANS_TYPES,
    NAMESPACE,
    TREE,
    Group,
    Leaf,
    Node,
    Use,
)
from connector_psi.adapters.xmlstream import XmlStream, line_of, load_schema, refuse, validate
from connector_psi.domain.drafts import MAX_IDENTIFIERS, MAX_ISSUES, Draft, filled, merge
from connector_psi.domain.intake import Format, Kind
from connector_psi.domain.records import Field, Identifier, IdentifierType, Issue, Record, SourceSystem

CATEGORY = "ics2.ens"

MAX_TEXT_CHARS = 8_192
"""Of one element that is read; the longest that the schema allows is 512."""
MAX_HELD_VALUES = 50_000
"""Identifiers and values of houses held in memory (about 20 MB) before the message is read a second time."""
MAX_SHARED = 2_000
"""Identifiers that all houses of a message share, and containers of the master."""
MAX_FILINGS = 10_000
"""Partial filings of a message."""
MAX_LISTED = 100_000
"""Containers and MRNs of houses kept for the two rules; beyond that the shared ones go to every house."""
MAX_PARTS = 1_000
"""Addresses, communications or seals of one element; the schema allows nine."""

_REFERENCE = re.compile(r"[0-9A-Z]{1,35}")
_SEQUENCE = re.compile(r"[0-9]{1,5}")
_TEXT_TYPES = frozenset({IdentifierType.VIN, IdentifierType.CONTAINER})
_PARTY_FIELDS = frozenset({Field.PARTY_NAMES, Field.PARTY_ADDRESSES, Field.PARTY_CONTACTS})


def read(stream: BinaryIO, *, file: str, schemas: Path | None = None) -> Iterator[Record | Issue]:
    """Read one message.

    Every house that closed before a break in the message comes out, marked ``incomplete``; nothing in the input
    raises.

    Args:
        stream: The message, seekable and binary; read from where it stands to its end.
        file: Display name, for issues.
        schemas: Folder with ``IE4R05.xsd``; where given, departures from the schema are reported first. They reject
            nothing by themselves.

    Returns:
        Issues of the message, then each record after its own issues, in source order.

    Raises:
        ConfigError: If ``schemas`` holds no usable ``IE4R05.xsd``.

    Cost: one pass, two with more than ``MAX_HELD_VALUES``, one more with ``schemas``.
    """
    start = stream.tell()
    schema = None if schemas is None else load_schema(schemas, "IE4R05.xsd")
    if (refusal := refuse(stream, file=file)) is not None:
        yield refusal
        return
    if schema is not None:
        yield from validate(stream, schema, file=file)
        stream.seek(start)

    message = _Message(XmlStream(stream, file=file), file)
    held: list[_Consignment] | None = []
    held_values = 0
    for house in message.houses():
        if held is not None:
            held.append(house)
            held_values += house.size + len(house.issues) + 1
            if held_values > MAX_HELD_VALUES:
                held = None
    finisher = _Finisher(message, digest=message.xml.digest())

    yield from message.issues
    if held is None:
        stream.seek(start)
        again = _Message(XmlStream(stream, file=file), file)
        yield from finisher.houses(again.houses())
    else:
        yield from finisher.houses(held)
    if not message.house_count and message.master_closed:
        yield from finisher.master()
    yield from finisher.last_issues()


class _Consignment(Draft):
    """What is known of a house, of the master, of the ENS, or of one partial filing."""

    __slots__ = ("containers", "equipment", "line", "mrn", "sequence")

    def __init__(self, file: str, line: int | None) -> None:
        super().__init__(file)
        self.line = line
        self.mrn: str | None = None
        """As declared; the key of its records even where the check digit is wrong."""
        self.sequence: str | None = None
        self.containers: set[str] = set()
        self.equipment: list[tuple[str | None, tuple[Identifier, ...]]] = []
        """Of the master: each container with its seals."""


@dataclass(slots=True)
class _Frame:
    """An open element: the leaves it has so far."""

    node: Node
    line: int | None
    texts: dict[str, tuple[str, int | None]] = field(default_factory=dict)
    parts: list[_Frame] = field(default_factory=list)

    def text(self, name: str) -> str:
        """Return a leaf's text, or nothing."""
        return self.texts[name][0] if name in self.texts else ""

    def line_of(self, name: str) -> int | None:
        """Return a leaf's line."""
        return self.texts[name][1] if name in self.texts else self.line

    def path_of(self, name: str) -> str:
        """Return a leaf's path."""
        return f"{self.node.path}/{name}"


class _Message:
    """One pass over a message: yields the houses, and keeps what they share."""

    def __init__(self, xml: XmlStream, file: str) -> None:
        self.xml = xml
        self.file = file
        self.ens = _Consignment(file, None)
        self.master = _Consignment(file, None)
        self.filings: list[_Consignment] = []
        self.has_ens = False
        self.has_master = False
        self.master_closed = False
        self.house_count = 0
        self.house_open = False
        self.listed: set[str] | None = set()
        """Containers that some house lists; None if they are too many to tell."""
        self.house_mrns: set[str] | None = set()
        self._noticed: set[tuple[str, str]] = set()
        self._notices: list[Issue] = []
        self._current = [self.ens]
        self._frames: list[_Frame] = []

    @property
    def issues(self) -> Iterator[Issue]:
        """Issues that belong to no house."""
        yield from self._notices
        for consignment in (self.ens, self.master, *self.filings):
            yield from consignment.issues

    def houses(self) -> Iterator[_Consignment]:
        """Read the message, yielding each house as it closes."""
        node: Node | None = None
        nodes: list[Node | None] = []
        skipped = 0
        for event, element in self.xml.events():
            if skipped:
                skipped += 1 if event == "start" else -1
            elif event == "start":
                child = self._enter(node, element)
                if child is None:
                    if node is None:
                        return
                    skipped = 1
                    continue
                nodes.append(node)
                node = child
                if child.group is not None:
                    self._open(child, child.group, line_of(element))
            else:
                assert node is not None, "an element that ends has begun"
                if node.leaf is not None:
                    if node.leaf.use is not Use.SKIP and element.text:
                        self._leaf(node, node.leaf, element.text, line_of(element))
                elif node.group is not None and (house := self._close(self._frames.pop(), node.group)) is not None:
                    yield house
                node = nodes.pop()

    def _enter(self, parent: Node | None, element: etree._Element) -> Node | None:
        """Return the node of an element that is read, or None if its subtree is left alone."""
        tag = element.tag
        assert isinstance(tag, str), "comments and instructions never come this far"
        if parent is None:
            if tag == f"{{{NAMESPACE}}}{TREE.name}":
                return TREE
            self.xml.stop("ics2.unsupported_message", line=line_of(element))
            return None
        child = parent.children.get(tag)
        if child is None:
            # The name itself may be anything; its line says which one it is.
            self._notice_once(tag, "xml.unknown_element", line_of(element), f"{parent.path}/*")
            return None
        if child.skipped:
            if child.name == "relatedPLACI":
                self._notice_once(tag, "ics2.placi_not_supported", line_of(element), child.path)
            return None
        if (child.group is Group.ENS and self.has_ens) or (child.group is Group.MASTER and self.has_master):
            self._notice_once(tag, "xml.repeated_element", line_of(element), child.path, rejects_record=True)
            return None
        return child

    def _notice_once(self, tag: str, code: str, line: int | None, path: str, *, rejects_record: bool = False) -> None:
        if (path, tag) not in self._noticed and len(self._noticed) < MAX_ISSUES:
            self._noticed.add((path, tag))
            self._notices.append(Issue(self.file, line, path, code, rejects_record))

    def _open(self, node: Node, group: Group, line: int | None) -> None:
        self._frames.append(_Frame(node, line))
        match group:
            case Group.ENS:
                self.has_ens = True
                self.ens.line = line
            case Group.MASTER:
                self.has_master = True
                self.master.line = line
                self._current.append(self.master)
            case Group.HOUSE:
                self.house_open = True
                self._current.append(_Consignment(self.file, line))
            case Group.FILING:
                self._current.append(_Consignment(self.file, line))
            case _:
                pass

    def _leaf(self, node: Node, leaf: Leaf, raw: str, line: int | None) -> None:
        consignment = self._current[-1]
        if len(raw) > MAX_TEXT_CHARS:
            consignment.report("xml.text_too_long", line=line, path=node.path)
            return
        text = " ".join(raw.split())
        if not text:
            return
        if leaf.field is not None:
            consignment.note(leaf.field, text)
        match leaf.use:
            case Use.IDENTIFIER:
                assert leaf.type is not None
                consignment.identify(leaf.type, text, path=node.path, line=line, role=leaf.role)
            case Use.TEXT:
                _search_text(consignment, text, path=node.path, line=line)
            case Use.REFERENCE:
                self._reference(consignment, leaf, text, path=node.path, line=line)
            case Use.PART:
                texts = self._frames[-1].texts
                if node.name in texts:
                    consignment.report("xml.repeated_element", line=line, path=node.path)
                else:
                    texts[node.name] = (text, line)
            case _:
                pass

    def _reference(self, consignment: _Consignment, leaf: Leaf, text: str, *, path: str, line: int | None) -> None:
        if leaf.type is None:
            consignment.sequence = text
            return
        consignment.identify(leaf.type, text, path=path, line=line)
        if _REFERENCE.fullmatch(text.upper()):
            consignment.mrn = text.upper()

    def _close(self, frame: _Frame, group: Group) -> _Consignment | None:
        """Use what a group gathered; return the house if it was one."""
        consignment = self._current[-1]
        match group:
            case Group.ADDRESS | Group.COMMUNICATION | Group.SEAL:
                outer = self._frames[-1]
                if not frame.texts:
                    # Of a place: its address is not read.
                    pass
                elif len(outer.parts) < MAX_PARTS:
                    outer.parts.append(frame)
                else:
                    consignment.report("record.too_many_values", line=frame.line, path=frame.node.path)
            case Group.PARTY:
                _party(consignment, frame)
            case Group.MEANS:
                _means(consignment, frame)
            case Group.DOCUMENT:
                _document(consignment, frame)
            case Group.EQUIPMENT:
                self._equipment(consignment, frame)
            case Group.FILING:
                self._current.pop()
                if len(self.filings) < MAX_FILINGS:
                    self.filings.append(consignment)
                else:
                    self.ens.report("ics2.too_many_filings", line=frame.line, path=frame.node.path)
            case Group.MASTER:
                self._current.pop()
                self.master_closed = True
            case Group.HOUSE:
                self._current.pop()
                self.house_open = False
                self.house_count += 1
                self.listed = _listed(self.listed, consignment.containers)
                self.house_mrns = _listed(self.house_mrns, {consignment.mrn} - {None})
                return consignment
            case _:
                pass
        return None

    def _equipment(self, consignment: _Consignment, frame: _Frame) -> None:
        """Take in a container with its seals."""
        name = "containerIdentificationNumber"
        found: list[Identifier] = []
        container = None
        if declared := frame.text(name):
            container = consignment.normalised(
                IdentifierType.CONTAINER, declared, path=frame.path_of(name), line=frame.line_of(name)
            )
            if container is not None:
                found.append(container)
                if len(consignment.containers) < MAX_IDENTIFIERS:
                    consignment.containers.add(container.value)
            consignment.note(Field.GOODS_IDENTIFIERS, f"container {container.value if container else declared}")
        for seal in frame.parts:
            if declared := seal.text("identifier"):
                identifier = consignment.normalised(
                    IdentifierType.SEAL, declared, path=seal.path_of("identifier"), line=seal.line_of("identifier")
                )
                if identifier is not None:
                    found.append(identifier)
                consignment.note(Field.GOODS_IDENTIFIERS, f"seal {declared}")
        if consignment is not self.master:
            for identifier in found:
                consignment.add(identifier, line=frame.line)
        elif len(consignment.equipment) < MAX_SHARED:
            consignment.equipment.append((container.value if container else None, tuple(found)))
        else:
            consignment.report("record.too_many_identifiers", line=frame.line, path=frame.node.path)


def _listed(known: set[str] | None, more: Iterable[str | None]) -> set[str] | None:
    if known is None:
        return None
    known.update(item for item in more if item is not None)
    return known if len(known) <= MAX_LISTED else None


def _search_text(consignment: _Consignment, text: str, *, path: str, line: int | None) -> None:
    for identifier in consignment.search_text(text, path=path, line=line):
        if identifier.type in _TEXT_TYPES:
            consignment.note(Field.GOODS_IDENTIFIERS, f"{identifier.type} {identifier.value}")


def _party(consignment: _Consignment, frame: _Frame) -> None:
    """Take in a party: its number, name, address and what it can be reached at."""
    role = frame.node.name
    if number := frame.text("identificationNumber"):
        consignment.identify(
            IdentifierType.EORI,
            number,
            path=frame.path_of("identificationNumber"),
            line=frame.line_of("identificationNumber"),
            role=role,
        )
    if name := frame.text("name"):
        consignment.note(Field.PARTY_NAMES, f"{role}: {name}")
    country = ""
    for part in frame.parts:
        if part.node.group is Group.ADDRESS:
            country = part.text("country") or country
            if lines := ", ".join(filter(None, map(" ".join, _address_lines(part)))):
                consignment.note(Field.PARTY_ADDRESSES, f"{role}: {lines}")
    for part in frame.parts:
        if part.node.group is Group.COMMUNICATION and (contact := part.text("identifier")):
            consignment.note(Field.PARTY_CONTACTS, f"{role}: {contact}")
            kind = COMMUNICATION_TYPES.get(part.text("type").upper())
            if kind is not None:
                # A national telephone number is read as one of the country of the party's address.
                consignment.identify(
                    kind,
                    contact,
                    path=part.path_of("identifier"),
                    line=part.line_of("identifier"),
                    role=role,
                    country=country if kind is IdentifierType.PHONE else "",
                )


def _address_lines(address: _Frame) -> list[list[str]]:
    names = (
        ("street", "streetAdditionalLine", "number"),
        ("poBox",),
        ("postCode", "city"),
        ("subDivision",),
        ("country",),
    )
    return [[text for name in line if (text := address.text(name))] for line in names]


def _means(consignment: _Consignment, frame: _Frame) -> None:
    """Take in a means of transport by the kind of number that it says it has."""
    name = "identificationNumber"
    number, kind, nationality = frame.text(name), frame.text("typeOfIdentification"), frame.text("nationality")
    if not number:
        return
    label, identifier_type = MEANS_TYPES.get(kind, ("", None))
    consignment.note(Field.MEANS, " ".join(filter(None, (label, number, nationality))))
    if not label:
        consignment.report("means.type_unknown", line=frame.line, path=frame.path_of("typeOfIdentification"))
    elif identifier_type is not None:
        consignment.identify(
            identifier_type,
            number,
            path=frame.path_of(name),
            line=frame.line_of(name),
            role=frame.node.name,
            country=nationality,
        )


def _document(consignment: _Consignment, frame: _Frame) -> None:
    """Take in a transport document."""
    number, kind = frame.text("documentNumber"), frame.text("type")
    if number:
        consignment.note(Field.GOODS_IDENTIFIERS, " ".join(filter(None, ("transport_document", kind, number))))
        consignment.identify(
            IdentifierType.TRANSPORT_DOCUMENT,
            number,
            path=frame.path_of("documentNumber"),
            line=frame.line_of("documentNumber"),
            role=frame.node.name,
            document_type=kind,
        )


class _Finisher:
    """Makes records of consignments once the whole message is known."""

    def __init__(self, message: _Message, *, digest: bytes) -> None:
        self._message = message
        self._digest = digest
        self._records = 0
        self._index = 0
        self._sequences: set[str] = set()
        master = message.master
        self._common = merge((message.ens, _as_shared(master)))
        if message.house_count and (surplus := list(self._common.identifiers)[MAX_SHARED:]):
            # Houses times shared identifiers is what a hostile message could make us hold.
            for key in surplus:
                del self._common.identifiers[key]
            self._common.report("record.too_many_identifiers", line=master.line, path=None)
        self._by_container: dict[str, list[Identifier]] = {}
        self._unlisted: list[Identifier] = []
        self._equipment: list[Identifier] = []
        for container, identifiers in master.equipment:
            self._equipment.extend(identifiers)
            if container is None or message.listed is None or container not in message.listed:
                self._unlisted.extend(identifiers)
            else:
                self._by_container.setdefault(container, []).extend(identifiers)
        self._filing_of: dict[str, list[_Consignment]] = {}
        self._unclaimed: list[_Consignment] = []
        for filing in message.filings:
            if filing.mrn is not None and message.house_mrns is not None and filing.mrn in message.house_mrns:
                self._filing_of.setdefault(filing.mrn, []).append(filing)
            else:
                self._unclaimed.append(filing)
        if message.house_count and len(self._unclaimed) > MAX_SHARED // 10:
            self._common.report("ics2.too_many_filings", line=message.ens.line, path=None)
            del self._unclaimed[MAX_SHARED // 10 :]

    def houses(self, houses: Iterable[_Consignment]) -> Iterator[Record | Issue]:
        """Yield each house as a record, after its issues."""
        for house in houses:
            yield from house.issues
            reference = self._house_reference(house)
            if house.containers:
                equipment = [*self._unlisted]
                for container in sorted(house.containers):
                    equipment.extend(self._by_container.get(container, ()))
            else:
                equipment = self._equipment
            filings = [*self._filing_of.get(house.mrn or "", ()), *self._unclaimed]
            whole = merge((house, self._common, *filings))
            for identifier in equipment:
                whole.add(identifier)
            yield from self._record(whole, reference, line=house.line)

    def master(self) -> Iterator[Record | Issue]:
        """Yield the master consignment as the record."""
        message = self._message
        whole = merge((message.ens, message.master, *message.filings))
        for identifier in self._equipment:
            whole.add(identifier)
        yield from self._record(whole, "", line=message.master.line)

    def last_issues(self) -> Iterator[Issue]:
        """Yield what is wrong with the message as a whole, once it is known what was lost."""
        message = self._message
        yield from self._common.issues
        if (cut := message.xml.cut) is not None:
            yield replace(cut, rejects_record=message.house_open or not self._records)
        elif not message.has_ens:
            yield Issue(message.file, None, ENS, "ics2.ens_missing", rejects_record=True)
        elif not message.has_master:
            yield Issue(
                message.file,
                message.ens.line,
                f"{ENS}/consignmentMasterLevel",
                "ics2.consignment_missing",
                rejects_record=True,
            )

    def _house_reference(self, house: _Consignment) -> str:
        """Return the part of the key behind the MRN: stable over versions of a message where it can be."""
        self._index += 1
        sequence = house.sequence or ""
        if _SEQUENCE.fullmatch(sequence) and sequence not in self._sequences:
            self._sequences.add(sequence)
            return f"/{sequence}"
        return f"/@{self._index}"

    def _record(self, whole: Draft, reference: str, *, line: int | None) -> Iterator[Record | Issue]:
        yield from whole.issues
        mrn = self._message.ens.mrn
        if mrn is None:
            yield Issue(self._message.file, line, f"{ENS}/MRN", "ics2.mrn_missing", rejects_record=True)
            return
        self._records += 1
        yield Record(
            source=SourceSystem.ICS2,
            source_ref=mrn + reference,
            category=CATEGORY,
            identifiers=tuple(whole.identifiers.values()),
            fields=filled(whole.fields),
            message_digest=self._digest,
            incomplete=self._message.xml.cut is not None,
        )


def _as_shared(master: _Consignment) -> Draft:
    """Return the master as houses see it: its parties are marked, because a house has parties of its own."""
    shared = Draft(master.file)
    shared.identifiers = master.identifiers
    shared.fields = {
        name: {f"master {value}" if name in _PARTY_FIELDS else value: None for value in values}
        for name, values in master.fields.items()
    }
    return shared


FORMATS = (
    Format(
        "ics2-ens",
        SourceSystem.ICS2,
        Kind.XML,
        "ICS2 full ENS, message IE4R05",
        frozenset({f"{{{NAMESPACE}}}IE4R05"}),
        lambda stream, file, schemas: read(stream, file=file, schemas=schemas),
    ),
)
