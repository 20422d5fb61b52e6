"""Reads container status messages of sea carriers: events of the DCSA Track and Trace interface, versions 2 and 3.

The format of the directory of container status messages (Regulation (EC) No 515/97, Article 18a) is not published. The
events that carriers exchange among themselves say the same things, so they stand in for it: as JSON Lines, as a JSON
array (what the interface answers), or as one JSON document.

Decides: that each event is a record of its own, named by its publisher and its identifier; which values of an event
identify what it is about; that a retraction withdraws the event that it names.
Leaves to others: how a file falls into events (``domain.lines``, ``domain.jsontext``), canonical forms
(``domain.identifiers``), whether a route fits a declaration.

Why not one record a container: matching works per record, and container, seals, vessel and bill of lading of one event
belong together, whereas those of another voyage of the same container do not. It also needs no more memory than one
event, and a retraction or a second delivery touches one record.

Not handled here: events of other kinds than equipment, transport and shipment. A container number is never completed:
the interface has ISO 6346 numbers with their check digit, or numbers of another kind.

Source: DCSA Track and Trace 2.2.0, 2.3.0 and 3.0.0-Beta-1, with Event Domain 2.0.0 and 3.1.0.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, BinaryIO

from pydantic import TypeAdapter, ValidationError

from connector_psi.domain.declarations import Declaration
from connector_psi.domain.drafts import Found, filled
from connector_psi.domain.intake import Format, Item, Kind
from connector_psi.domain.jsontext import read_json_document
from connector_psi.domain.lines import Line, Text, Time, read_json_lines, rejecting
from connector_psi.domain.records import (
    Field,
    IdentifierType,
    Issue,
    Rank,
    Record,
    SourceSystem,
    Supersession,
    version_of,
)

CODES: Mapping[str, str] = MappingProxyType(
    {
        "csm.event_type_unsupported": "the event is none of equipment, transport and shipment",
        "csm.no_identifier": "the event names no container, seal, means of transport or transport document",
    }
)
"""Reason codes of this format, beside those of ``lines``, ``jsontext`` and the identifiers."""

# Event type -> the key of what happened.
_EVENT_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "EQUIPMENT": "equipmentEventTypeCode",
        "TRANSPORT": "transportEventTypeCode",
        "SHIPMENT": "shipmentEventTypeCode",
    }
)
_MARKS = frozenset({"eventCreatedDateTime", "eventClassifierCode", *_EVENT_TYPES.values()})
_ARRAY = "events"

_TEXT: TypeAdapter[str] = TypeAdapter(Text)
_TIME: TypeAdapter[datetime] = TypeAdapter(Time)
_EVENT_ID = re.compile(r"[!-~]{1,100}")
_CARRIER_CODE = re.compile(r"[A-Za-z0-9]{1,10}")
_CODE = re.compile(r"[A-Z]{2,16}")
# UN/ECE Recommendation 16.
_UN_LOCATION = re.compile(r"[A-Z]{2}[A-Z2-9]{3}")
# The interface's own key of a document; nobody else has it.
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_VIN_CHARS = 17


class _Object:
    """One object of an event: gives its values as text, and reports those of another type.

    Several names of one value are those of the versions; the first that is there counts.
    """

    __slots__ = ("_draft", "_key", "_outer", "_values", "line")

    def __init__(
        self, values: object, line: Line, draft: Declaration, outer: _Object | None = None, key: str = ""
    ) -> None:
        self.line = line
        self._draft = draft
        self._outer = outer
        self._key = key
        self._values: dict[str, Any] = {}
        if isinstance(values, dict):
            self._values = values
        elif values is not None:
            self.report()

    def __contains__(self, name: str) -> bool:
        """Whether a value is given; an empty text is none."""
        value = self._values.get(name)
        return value is not None and value != ""

    @property
    def path(self) -> str:
        """Where it stands. Most objects are never asked."""
        return self.line.place() if self._outer is None else f"{self._outer.path}.{self._key}"

    def report(self, name: str = "", code: str = "field.invalid") -> None:
        """Report a value of this object, or the object."""
        self._draft.report(code, line=self.line.number, path=f"{self.path}.{name}" if name else self.path)

    def text(self, *names: str) -> Found | None:
        """Return a value that is text, and where it stands; None where it is not given or cannot be used."""
        for name in names:
            value = self._values.get(name)
            if value is None or value == "":
                continue
            try:
                # An IMO number is a number to some carriers.
                text = _TEXT.validate_python(str(value) if type(value) is int else value)
            except ValidationError:
                self.report(name)
                return None
            return Found(text, f"{self.path}.{name}", self.line.number)
        return None

    def word(self, *names: str, pattern: re.Pattern[str] = _CODE) -> str:
        """Return a code, or nothing."""
        for name in names:
            value = self._values.get(name)
            if value is None or value == "":
                continue
            if isinstance(value, str) and pattern.fullmatch(value):
                return value
            self.report(name)
            break
        return ""

    def time(self, name: str) -> datetime | None:
        """Return a time in UTC."""
        if name not in self:
            return None
        try:
            return _TIME.validate_python(self._values[name])
        except ValidationError:
            self.report(name)
            return None

    def object(self, name: str) -> _Object:
        """Return an object; an empty one where there is none."""
        return _Object(self._values.get(name), self.line, self._draft, self, name)

    def objects(self, *names: str) -> Iterator[_Object]:
        """Yield the objects of a list; places count from 1."""
        for name in names:
            values = self._values.get(name)
            if isinstance(values, list):
                for position, value in enumerate(values, 1):
                    yield _Object(value, self.line, self._draft, self, f"{name}.{position}")
            elif values is not None:
                self.report(name)


def read_jsonl(stream: BinaryIO, *, file: str) -> Iterator[Item]:
    """Read events, one a line.

    Nothing in the input raises; an event that cannot be used costs itself alone.

    Args:
        stream: Buffered and binary, at its first byte.
        file: Display name, for issues.

    Returns:
        Each record after its own issues, a retraction as the end of what it retracts; in source order.
    """
    return _read(read_json_lines(stream, file=file), file)


def read_json(stream: BinaryIO, *, file: str) -> Iterator[Item]:
    """Read events from an array, an object that has it under ``events``, or one event alone; as :func:`read_jsonl`.

    What is no JSON costs what follows it in the document.
    """
    return _read(read_json_document(stream, file=file, array=_ARRAY), file)


def _read(lines: Iterable[Line | Issue], file: str) -> Iterator[Item]:
    for line in lines:
        if isinstance(line, Issue):
            yield line
        else:
            yield from _event(line, file)


def _event(line: Line, file: str) -> Iterator[Item]:
    draft = Declaration(file)
    event = _Object(line.document, line, draft)
    # Version 3 keeps apart what is said of the message and what is said of the event.
    is_nested = "metadata" in event
    head, body = (event.object("metadata"), event.object("payload")) if is_nested else (event, event)
    kind = head.word("eventType")
    if kind not in _EVENT_TYPES:
        if "eventType" not in head:
            head.report("eventType", code="field.missing")
        elif kind:
            head.report("eventType", code="csm.event_type_unsupported")
        yield from rejecting(draft.issues)
        return
    created = head.time("eventCreatedDateTime")
    publisher = head.object("publisher").word("carrierCode", pattern=_CARRIER_CODE)
    event_id = head.word("eventID", pattern=_EVENT_ID)
    retracted = head.word("retractedEventID", pattern=_EVENT_ID)
    if "eventCreatedDateTime" not in head:
        head.report("eventCreatedDateTime", code="field.missing")
    if draft.issues:
        # Without these nobody could name it, or say whether it holds.
        yield from rejecting(draft.issues)
        return
    if "payload" in event or not is_nested or not retracted:
        yield from _record(body, draft, kind=kind, name=event_id, publisher=publisher, created=created)
    if retracted:
        yield Supersession(
            SourceSystem.CSM,
            _ref(publisher, retracted),
            version_of(created, Rank.WITHDRAWAL),
            withdrawn=True,
            reason="invalidated",
        )


def _ref(publisher: str, event_id: str) -> str:
    """Name an event. Its publisher is part of the name: no carrier retracts or replaces what another one said."""
    return f"{publisher}/{event_id}" if publisher else event_id


def _record(
    body: _Object, draft: Declaration, *, kind: str, name: str, publisher: str, created: datetime | None
) -> Iterator[Item]:
    call = body.object("transportCall")
    _equipment(body, draft)
    _documents(body, draft)
    _means(call, draft)
    if kind != "SHIPMENT":
        _step(body, call, draft, kind)
    if not draft.identifiers:
        if not draft.issues:
            body.report(code="csm.no_identifier")
        yield from rejecting(draft.issues)
        return
    yield from draft.issues
    identifiers, fields = tuple(draft.identifiers.values()), filled(draft.fields)
    if not name:
        # Version 2 leaves the identifier open. The same event again is then one that says the same.
        said = [kind, str(created), *(f"{each.type} {each.value} {each.role}" for each in identifiers)]
        said += (f"{field} {value}" for field, values in fields.items() for value in values)
        name = "sha256-" + hashlib.sha256("\n".join(said).encode()).hexdigest()
    yield Record(
        source=SourceSystem.CSM,
        source_ref=_ref(publisher, name),
        category="csm.event",
        identifiers=identifiers,
        fields=fields,
        message_digest=body.line.digest,
        version=version_of(created),
    )


def _equipment(body: _Object, draft: Declaration) -> None:
    """Take in the container, or those that an event refers to, and the seals."""
    references = (each for each in body.objects("references") if each.word("referenceType", "type") == "EQ")
    found = [body.text("equipmentReference"), *(each.text("referenceValue", "value") for each in references)]
    seals = [seal.text("sealNumber", "number") for seal in body.objects("seals")]
    # An event on a container refers to it once more.
    containers = {each.text: each for each in reversed(found) if each is not None}
    identifiers = [each for container in reversed(containers.values()) for each in draft.equipment(container, ())]
    for identifier in identifiers + draft.equipment(None, [seal for seal in seals if seal is not None]):
        draft.add(identifier)


def _documents(body: _Object, draft: Declaration) -> None:
    """Take in the bills of lading; a booking is for people, because no other system has it as a document."""
    references = [
        (each.word("documentReferenceType", "type"), each.text("documentReferenceValue", "value"))
        for each in body.objects("documentReferences", "relatedDocumentReferences")
    ]
    references.append((body.word("documentTypeCode"), body.text("documentID", "documentReference")))
    for type_code, found in references:
        if found is None or _UUID.fullmatch(found.text):
            continue
        if type_code == "TRD":
            draft.transport_document(found, type_code="", role="transport_document")
        elif type_code == "BKG":
            draft.note(Field.GOODS_IDENTIFIERS, f"booking {found.text}")


def _means(call: _Object, draft: Declaration) -> None:
    """Take in what carries the container: a ship, a barge, a truck with its chassis, a wagon."""
    for role in ("vessel", "barge"):
        ship = call.object(role)
        draft.means(
            ship.text("vesselIMONumber"),
            type_code="10",
            nationality=ship.word("vesselFlag", "flag"),
            role=role,
            type_path="",
        )
        if name := ship.text("vesselName", "name"):
            draft.note(Field.MEANS, f"vessel_name {name.text}")
    for role, key in (("truck", "licencePlate"), ("chassis", "chassisLicencePlate")):
        plate = call.text(key)
        if plate is not None and len(plate.text) == _VIN_CHARS:
            # The model explains the chassis by its VIN.
            draft.note(Field.MEANS, f"vin {plate.text}")
            draft.identify(IdentifierType.VIN, plate, role=role)
        else:
            draft.means(plate, type_code="30", nationality="", role=role, type_path="")
    draft.means(call.text("railCar"), type_code="20", nationality="", role="wagon", type_path="")


def _step(body: _Object, call: _Object, draft: Declaration, kind: str) -> None:
    """Note where and when what happened, or will: a step of the container's or the ship's route."""
    code, name = "", ""
    for place in (call, call.object("location"), body.object("eventLocation"), body.object("location")):
        code = code or place.word("UNLocationCode", pattern=_UN_LOCATION)
        if not name and (found := place.text("locationName")) is not None:
            name = found.text
    draft.note(Field.PLACE, code or name)
    what = body.word(_EVENT_TYPES[kind])
    classifier = body.word("eventClassifierCode")
    when = body.time("eventDateTime")
    written = "" if when is None else when.isoformat()
    if what and classifier and when:
        words = (code or "-", what, classifier, written, body.word("emptyIndicatorCode"))
        draft.note(Field.ROUTE, " ".join(filter(None, words)))
    if what == "ARRI" and classifier != "ACT":
        draft.note(Field.ETA, written)


FORMATS = (
    Format(
        "csm-jsonl",
        SourceSystem.CSM,
        Kind.JSONL,
        "container status events (DCSA Track and Trace), one a line",
        _MARKS,
        lambda stream, file, _: read_jsonl(stream, file=file),
    ),
    Format(
        "csm-json",
        SourceSystem.CSM,
        Kind.JSON,
        "container status events (DCSA Track and Trace), an array or one event",
        _MARKS,
        lambda stream, file, _: read_json(stream, file=file),
    ),
)
