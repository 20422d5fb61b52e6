"""Reads what maritime authorities tell one another through CISE: bytes -> one record for each thing that is told of.

A message of the service model carries entities of the data model in its payload. Decides, in this order:

1. which messages tell something: ``Push``, and ``PullResponse`` if it succeeded. What stands in a ``PullRequest`` is a
   template of what is sought; an ``Acknowledgement`` and a ``Feedback`` are about messages. A ``Feedback`` that says
   *delete* withdraws what its sender told;
2. until when it may be kept (``RetentionPeriod``, ``ValidityPeriod`` of an entity), and whether it stays hidden
   (classified, or TLP:RED);
3. what a record is called: ``participant/issuer/UUID``, so that a newer message about the same thing replaces the older
   and no participant replaces what another one said; ``participant@MessageID/position`` where there is no UUID.

A message is read twice: first its envelope, which holds for all of it wherever it stands, and with ``schemas`` whether
envelope and entities are valid, each by its own schema; then its entities, each freed before the next one.

Leaves to others: parsing safely (``adapters.xml``), what an entity is and what belongs to it (``domain.maritime``),
which message is the newest (the node), writing (``adapters.cise_writing``). Signatures are the gateway's to verify.

Source: CISE service model v1 and data model 1.5.3, Joint Research Centre.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Final

from connector_psi.adapters.xml import (
    MAX_SCHEMA_ISSUES,
    Element,
    Frame,
    Node,
    XmlMessage,
    check,
    line_of,
    load_schema,
    refuse,
    table,
)
from connector_psi.domain.drafts import Found, filled
from connector_psi.domain.intake import Format, Item, Kind
from connector_psi.domain.lines import rejecting
from connector_psi.domain.maritime import (
    KINDS,
    OTHER_KINDS,
    RELATIONS,
    Join,
    Sketch,
    Tier,
    is_restricted,
    is_subject,
    issuer,
    joined,
    role,
    valid_until,
)
from connector_psi.domain.movements import moment, paths, under
from connector_psi.domain.records import Field, Issue, Rank, Record, SourceSystem, Supersession, version_of

MESSAGE: Final = "http://www.cise.eu/servicemodel/v1/message/"
SOAP: Final = "http://schemas.xmlsoap.org/eu.cise.dispatcher.soap/envelope/"
"""Of the envelope that a dispatcher puts around a message; recognised, not read."""
MESSAGE_SCHEMA: Final = "message.xsd"
ENTITY_SCHEMA: Final = "cise-entities.xsd"

MAX_DEPTH: Final = 6
"""Relations between an entity of the payload and what is read in it."""

CODES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "cise.unsupported_message": "no message of the service model and no entity of the data model",
        "cise.repeated_element": "stands twice in the envelope, so that nobody knows which holds",
        "cise.not_knowledge": "entities in a query or in an answer to a message, which tell nothing",
        "cise.no_success": "a response that did not succeed; its entities are not read",
        "cise.encrypted": "the payload is encrypted",
        "cise.time_invalid": "no usable time of creation: the message that arrives last holds",
        "cise.retention_invalid": "nobody can tell until when the payload may be kept",
        "cise.entity_not_read": "an entity that is no subject: an action, an asset, a place, the weather",
        "cise.type_unknown": "the data model has no such type",
        "cise.too_deep": "below more relations than are followed",
        "cise.no_identifier": "the entity holds nothing to match by and is no record",
        "cise.delete_undated": "a withdrawal without a time, which cannot be ordered",
        "cise.delete_by_number": "a withdrawal that names no entity; of a message with several, those with a UUID stay",
        "xsd.rejected": "what departs from its schema is not taken in",
    }
)
"""Reason codes of this format, beside those of the XML reader, the schemas and the identifiers."""

ENTITIES: Final = frozenset(KINDS) | OTHER_KINDS
"""What may stand in a payload, or be a file by itself."""

_XSI_TYPE: Final = "{http://www.w3.org/2001/XMLSchema-instance}type"
_SIGNATURE: Final = "{http://www.w3.org/2000/09/xmldsig#}Signature"
_SAFE: Final = re.compile(r"[A-Za-z0-9._:-]{1,48}")

_SENDER = paths(
    "ServiceID",
    "DataFreshness SeaBasin ServiceOperation ServiceRole ServiceStatus ServiceType Participant ServiceCapability",
)
_PAYLOAD = paths(
    "InformationSecurityLevel InformationSensitivity Purpose RetentionPeriod Entities",
    " ".join(["IsPersonalData", "EnsureEncryption", *sorted(ENTITIES)]),
)
_COMMON = {
    **paths(
        "CreationDateTime MessageID",
        "ContextID CorrelationID Priority RequiresAck Recipient Reliability CcRecipients",
    ),
    **under("Sender", _SENDER),
    **under("Payload", _PAYLOAD),
}
_MESSAGES = {
    "Push": paths("", "DiscoveryProfiles"),
    "PullResponse": paths("ResultCode", "ErrorDetail Fulfils"),
    "Feedback": paths("FeedbackType RefMessageID", "Reason"),
    "PullRequest": paths("", "PullType ResponseTimeOut Requests DiscoveryProfiles PayloadSelector"),
    "Acknowledgement": paths("", "AckCode AckDetail DiscoveredServices"),
}


def _table(path: str, elements: Mapping[str, bool]) -> Node:
    leaves = [name for name, is_read in elements.items() if is_read]
    return table(path.lstrip("/"), leaves, skipped=[name for name, is_read in elements.items() if not is_read])


def _message_table(name: str) -> Node:
    top = _table(name, {**_COMMON, **_MESSAGES[name]})
    signature = Node("Signature", f"{top.path}/Signature")
    signature.skipped = True
    top.children[_SIGNATURE] = signature
    return top


TABLES: Final[Mapping[str, Node]] = MappingProxyType({name: _message_table(name) for name in _MESSAGES})
"""Of each message; what its payload carries has tables of its own."""


# Bounded: the places of a hostile message are many.
@lru_cache(maxsize=512)
def _table_at(path: str, name: str) -> Node:
    """Return the table of an entity that stands at a path."""
    return _table(path, KINDS[name].elements)


def _kind_of(element: Element) -> str:
    """Return the type of an entity: what it says that it is, else what its element is called."""
    return element.get(_XSI_TYPE, str(element.tag)).rpartition(":")[2]


# --- what holds for all of a message -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Envelope:
    """What a message says of all that it carries."""

    file: str
    digest: bytes
    ref: str
    """Of the message; its entities without a UUID are named after it."""
    participant: str = "-"
    message_id: str = ""
    created: datetime | None = None
    until: datetime | None = None
    handling: tuple[str, ...] = ()
    hidden: bool = False
    incomplete: bool = False
    entities: int = 0
    result: Found | None = None
    """Of a response."""
    feedback: str = ""
    """What a feedback is."""
    about: Found | None = None
    """The message that a feedback is about."""

    def entity_ref(self, frame: Frame) -> str:
        """Return the reference of an entity that has a UUID, or nothing."""
        identifier = frame.first("Identifier")
        uuid = "" if identifier is None else identifier.text("UUID")
        if identifier is None or not uuid:
            return ""
        by = issuer(identifier)
        return f"{self.participant}/{_safe(by) if by else '-'}/{_safe(uuid)}"


def _safe(text: str) -> str:
    """Return a text as it may stand in a reference: bounded, in plain characters, and equal for equal texts only."""
    return text if _SAFE.fullmatch(text) else "~" + hashlib.sha256(text.encode()).hexdigest()[:32]


def _message_ref(participant: str, message_id: str) -> str:
    return f"{participant}@{_safe(message_id)}"


def _participant(service: str) -> str:
    """Return whose a service is: it is named country.participant.entity.operation.role."""
    labels = service.split(".")
    return _safe(".".join(labels[:-3]) if len(labels) > 3 else service) if service else "-"


def _envelope_of(frame: Frame, digest: bytes, file: str, *, entities: int, incomplete: bool) -> _Envelope:
    payload, sender = frame.spine("Payload"), frame.spine("Sender")
    level, sensitivity, purpose, retention = (
        "" if payload is None else payload.text(leaf)
        for leaf in ("InformationSecurityLevel", "InformationSensitivity", "Purpose", "RetentionPeriod")
    )
    participant = "-" if sender is None else _participant(sender.text("ServiceID"))
    message_id = frame.text("MessageID")
    return _Envelope(
        file=file,
        digest=digest,
        ref=_message_ref(participant, message_id or digest.hex()),
        participant=participant,
        message_id=message_id,
        created=moment(frame.text("CreationDateTime")),
        until=moment(retention),
        handling=tuple(filter(None, (level, sensitivity, purpose))),
        hidden=is_restricted(level, sensitivity),
        incomplete=incomplete,
        entities=entities,
        result=frame.found("ResultCode"),
        feedback=frame.text("FeedbackType"),
        about=frame.found("RefMessageID"),
    )


@dataclass(frozen=True, slots=True)
class _Survey:
    """What the first pass over a message finds."""

    issues: list[Issue]
    broken: frozenset[int] = frozenset()
    """Positions of the entities that depart from the schema."""
    envelope: _Envelope | None = None
    """None if nothing of the message is taken in."""


def _survey(message: XmlMessage, name: str, schemas: Path | None) -> _Survey:
    """Read the envelope of a message, and hold it and each entity against their schemas."""
    schema = None if schemas is None else load_schema(schemas, ENTITY_SCHEMA)
    departures: list[Issue] = []
    broken: set[int] = set()
    count = 0
    early: Frame | None = None
    for count, element in enumerate(message.units(), start=1):
        if early is None and message.root is not None:
            early = message.frame(message.root, TABLES[name])
        if schema is not None and (found := check(element, schema, file=message.file, path=f"/{name}/Payload")):
            broken.add(count)
            departures += found[: MAX_SCHEMA_ISSUES + 1 - len(departures)]
    if len(departures) > MAX_SCHEMA_ISSUES:
        departures[-1] = replace(departures[-1], path=None, code="xsd.too_many_errors")
    digest = message.digest()
    root, cut = message.root, message.cut
    if root is None:
        assert cut is not None, "a message without a root broke off before it"
        return _Survey([replace(cut, rejects_record=True)])
    frame = message.frame(root, TABLES[name])
    issues = [*message.notices, *departures]
    if cut is None and message.cut is not None:
        return _Survey([*issues, replace(message.cut, rejects_record=True)])
    if cut is not None and early is not None:
        # Nobody can tell whether what stood last was whole when the message broke off; before the first entity it was.
        frame = early
    if schemas is not None and cut is None:
        issues += _strangers(root, name, message.file)
        if found := check(root, load_schema(schemas, MESSAGE_SCHEMA), file=message.file):
            lost = Issue(message.file, line_of(root), f"/{name}", "xsd.rejected", rejects_record=True)
            return _Survey([*issues, *found, lost])
    refusal = _repetition(root, frame, message.file) or _unusable(frame, message.file)
    if refusal is not None:
        return _Survey([*issues, refusal])
    envelope = _envelope_of(frame, digest, message.file, entities=count, incomplete=cut is not None)
    if envelope.created is None:
        issues.append(_issue(frame, "CreationDateTime", "cise.time_invalid", message.file, rejects=False))
    return _Survey(issues, frozenset(broken), envelope)


def _strangers(root: Element, name: str, file: str) -> Iterator[Issue]:
    """Reject and take away what is neither an entity nor of the envelope, which is no worse for it."""
    known = TABLES[name].at("Payload").children
    for payload in root.iterchildren("Payload"):
        for child in list(payload):
            if child.tag not in known and not str(child.tag).startswith("{"):
                yield Issue(file, line_of(child), f"/{name}/Payload/*", "xsd.rejected", rejects_record=True)
                payload.remove(child)


def _issue(frame: Frame, leaf: str, code: str, file: str, *, rejects: bool) -> Issue:
    return Issue(file, frame.line_of(leaf), frame.path_of(leaf), code, rejects_record=rejects)


def _repetition(root: Element, frame: Frame, file: str) -> Issue | None:
    """Say what stands twice, so that nobody knows which holds."""
    places = list(frame.repeats())
    for name in ("Sender", "Payload"):
        places += [(frame.path_of(name), line_of(each)) for each in islice(root.iterchildren(name), 1, 2)]
        group = frame.spine(name)
        places += () if group is None else group.repeats()
    return next((Issue(file, line, path, "cise.repeated_element", rejects_record=True) for path, line in places), None)


def _unusable(frame: Frame, file: str) -> Issue | None:
    """Say why the payload of a message is not taken in."""
    payload = frame.spine("Payload")
    if payload is None:
        return None
    if payload.has("Entities"):
        return _issue(payload, "Entities", "cise.encrypted", file, rejects=True)
    retention = payload.text("RetentionPeriod")
    if retention and moment(retention) is None:
        return _issue(payload, "RetentionPeriod", "cise.retention_invalid", file, rejects=True)
    return None


# --- what a message tells ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Thing:
    """An entity, until its turn comes."""

    element: Element
    name: str
    """Of its type in ``KINDS``."""
    path: str
    depth: int = 0
    context: Sketch | None = None
    """What it lies in."""
    sharing: bool = False
    """Whether that belongs to its record."""
    hidden: bool = False
    until: datetime | None = None


class _Reader:
    """Turns the entities of one message into records."""

    def __init__(self, message: XmlMessage, envelope: _Envelope) -> None:
        self._message = message
        self._envelope = envelope

    def records(self, element: Element, path: str, position: int) -> Iterator[Item]:
        """Yield the records of an entity of the payload, and then what supersedes older ones.

        Args:
            element: The entity.
            path: Where it stands.
            position: Its number in the payload.
        """
        name, line = _kind_of(element), line_of(element)
        if name not in KINDS:
            code = "cise.entity_not_read" if name in OTHER_KINDS else "cise.type_unknown"
            self._message.notice(code, line=line, path=path, key=code)
            return
        envelope = self._envelope
        top = group = ""
        named: set[str] = set()
        came, lost = 0, False
        things = deque([_Thing(element, name, path)])
        while things:
            thing = things.popleft()
            frame = self._frame(thing)
            thing.until = valid_until(frame) or thing.until
            own = envelope.entity_ref(frame)
            if not top:
                ref = top = own or f"{envelope.ref}/{position}"
                group = own or envelope.ref
            else:
                ref = own if own and own not in named else f"{top}/{len(named)}"
            named.add(ref)
            draft = Sketch(envelope.file)
            draft.hidden = thing.hidden
            things += self._gather(draft, thing, frame, "")
            if thing.context is not None:
                draft.share(thing.context, whole=thing.sharing)
            category = KINDS[thing.name].category
            if category and (draft.identifiers or draft.parties):
                record = self._record(draft, thing, ref, group)
                yield from draft.issues
                yield record
                came += 1
            elif draft.issues:
                yield from rejecting(draft.issues) if category else draft.issues
                lost = True
        if came:
            yield from self._supersessions(top, group, came)
        elif not lost:
            self._message.notice("cise.no_identifier", line=line, path=path, key=line)

    def _supersessions(self, top: str, group: str, came: int) -> Iterator[Supersession]:
        """Yield what ends an entity with a UUID.

        Older records of what lies in it no longer hold if the message speaks of such things; most updates do not.
        """
        envelope = self._envelope
        if envelope.incomplete or group != top:
            return
        version = version_of(envelope.created) if came > 1 else 0
        # A message that tells of one entity shares its fate, so that a feedback can name either.
        same_as = envelope.ref if envelope.entities == 1 and envelope.message_id else ""
        if version or same_as:
            yield Supersession(SourceSystem.CISE, top, version, same_as=same_as)

    def withdrawal(self, element: Element, path: str) -> Supersession | None:
        """Return the withdrawal of an entity that a feedback names by its UUID."""
        name = _kind_of(element)
        ref = self._envelope.entity_ref(self._frame(_Thing(element, name, path))) if name in KINDS else ""
        return self._withdrawal(ref) if ref else None

    def withdrawal_of_message(self, about: Found) -> Supersession:
        """Return the withdrawal of a message by its number, which is one among those of the same participant."""
        return self._withdrawal(_message_ref(self._envelope.participant, about.text))

    def _withdrawal(self, ref: str) -> Supersession:
        version = version_of(self._envelope.created, Rank.WITHDRAWAL)
        return Supersession(SourceSystem.CISE, ref, version, withdrawn=True, reason="deleted")

    def _frame(self, thing: _Thing) -> Frame:
        return self._message.frame(thing.element, _table_at(thing.path, thing.name))

    def _gather(self, draft: Sketch, thing: _Thing, frame: Frame, its_role: str) -> list[_Thing]:
        """Take in an entity and what belongs to it, and return what does not.

        Args:
            draft: The record.
            thing: The entity.
            frame: What it says.
            its_role: What it is to the record; empty where the record is its own.
        """
        kind = KINDS[thing.name]
        draft.describe(frame, kind, its_role)
        thing.hidden = draft.hidden
        apart: list[_Thing] = []
        contexts: dict[str, Sketch] = {}
        for name, relation in RELATIONS.items():
            for related, element in zip(frame.all(name), thing.element.iterchildren(name), strict=False):
                if not is_subject(related):
                    continue
                agent_role = related.text("AgentRole")
                for child in element.iterchildren(*relation.targets):
                    inner = self._inner(draft, thing, child, related)
                    if inner is None:
                        continue
                    join = joined(kind, KINDS[inner.name], relation, agent_role)
                    if join is Join.TOGETHER:
                        apart += self._gather(draft, inner, self._frame(inner), role(KINDS[inner.name], agent_role))
                        continue
                    outer_role = role(kind, agent_role)
                    if outer_role not in contexts:
                        contexts[outer_role] = Sketch(draft.file)
                        contexts[outer_role].describe(frame, kind, outer_role)
                    inner.context, inner.sharing = contexts[outer_role], join is Join.SHARING
                    apart.append(inner)
        return apart

    @staticmethod
    def _inner(draft: Sketch, outer: _Thing, child: Element, related: Frame) -> _Thing | None:
        """Return an entity that another one is related to, if it is read."""
        name, path = _kind_of(child), f"{related.path}/{child.tag}"
        if name in OTHER_KINDS:
            return None
        if name not in KINDS:
            draft.report("cise.type_unknown", line=line_of(child), path=path)
            return None
        if outer.depth == MAX_DEPTH:
            draft.report("cise.too_deep", line=line_of(child), path=path)
            return None
        return _Thing(child, name, path, outer.depth + 1, hidden=outer.hidden, until=outer.until)

    def _record(self, draft: Sketch, thing: _Thing, ref: str, group: str) -> Record:
        envelope, kind = self._envelope, KINDS[thing.name]
        if kind.tier in {Tier.OBJECT, Tier.DOCUMENT}:
            for identifier in draft.identifiers.values():
                if not identifier.role:
                    draft.note(Field.OBJECT_IDENTIFIERS, f"{identifier.type} {identifier.value}")
        draft.note(Field.REFERENCE, envelope.message_id)
        draft.note(Field.PROVIDER, envelope.participant.strip("-"))
        for code in envelope.handling:
            draft.note(Field.HANDLING_CODES, code)
        return Record(
            source=SourceSystem.CISE,
            source_ref=ref,
            category=kind.category,
            identifiers=tuple(draft.identifiers.values()),
            fields=filled(draft.fields),
            message_digest=envelope.digest,
            incomplete=envelope.incomplete,
            hidden=envelope.hidden or draft.hidden,
            valid_until=min((end for end in (envelope.until, thing.until) if end is not None), default=None),
            parties=tuple(draft.parties),
            message_ref=group,
            version=version_of(envelope.created),
        )


# --- a file --------------------------------------------------------------------------------------------------------


def read(stream: BinaryIO, file: str, schemas: Path | None) -> Iterator[Item]:
    """Read a message, or an entity that stands by itself.

    Nothing in the input raises; what cannot be used is an issue.

    Args:
        stream: Seekable, binary and buffered, at its first byte.
        file: Display name, for issues.
        schemas: Folder that holds ``message.xsd`` and ``cise-entities.xsd``, or one above it; optional.

    Returns:
        The issues of the envelope, then each record after its own issues, in source order.

    Raises:
        ConfigError: ``schemas`` holds no usable schema.

    Cost: the message is parsed twice; memory is that of its largest entity.
    """
    if (refusal := refuse(stream, file=file)) is not None:
        yield refusal
        return
    start = stream.tell()
    message = XmlMessage(stream, file=file, units=ENTITIES, within="Payload")
    name = message.root_name.removeprefix(f"{{{MESSAGE}}}")
    if message.root_name in ENTITIES:
        yield from _bare(message, schemas)
    elif name == message.root_name or name not in TABLES:
        yield Issue(file, message.root_line, "/*", "cise.unsupported_message", rejects_record=True)
    else:
        survey = _survey(message, name, schemas)
        yield from survey.issues
        if survey.envelope is not None:
            stream.seek(start)
            message = XmlMessage(stream, file=file, units=ENTITIES, within="Payload")
            yield from _payload(message, name, survey.envelope, survey.broken)


def _bare(message: XmlMessage, schemas: Path | None) -> Iterator[Item]:
    """Read a file that is one entity; if it is cut, nobody can tell what it says."""
    for _ in message.units():
        pass
    digest = message.digest()
    root, path = message.root, f"/{message.root_name}"
    if root is None or message.cut is not None:
        assert message.cut is not None, "a message without a root broke off before it"
        yield replace(message.cut, rejects_record=True)
        return
    if schemas is not None and (found := check(root, load_schema(schemas, ENTITY_SCHEMA), file=message.file)):
        yield from found
        yield Issue(message.file, line_of(root), path, "xsd.rejected", rejects_record=True)
        return
    yield from _Reader(message, _Envelope(message.file, digest, f"~{digest.hex()[:32]}")).records(root, path, 1)
    yield from message.notices


def _payload(message: XmlMessage, name: str, envelope: _Envelope, broken: Collection[int]) -> Iterator[Item]:
    """Read the entities of a message, as far as it tells something with them."""
    path, file = f"/{name}/Payload", message.file
    result, about = envelope.result, envelope.about
    deletes = name == "Feedback" and envelope.feedback == "delete" and not envelope.incomplete
    tells = name == "Push" or (name == "PullResponse" and (result is None or result.text == "Success"))
    if deletes and envelope.created is None:
        yield Issue(file, message.root_line, f"/{name}", "cise.delete_undated", rejects_record=True)
        deletes = False
    elif result is not None and not tells:
        yield Issue(file, result.line, result.path, "cise.no_success", rejects_record=False)
    elif envelope.entities and not (tells or deletes):
        yield Issue(file, message.root_line, path, "cise.not_knowledge", rejects_record=False)
    reader = _Reader(message, envelope)
    came = 0
    for position, element in enumerate(message.units(), start=1):
        here = f"{path}/{element.tag}"
        if position in broken:
            yield Issue(file, line_of(element), here, "xsd.rejected", rejects_record=True)
        elif tells:
            for item in reader.records(element, here, position):
                came += isinstance(item, Record)
                yield item
        elif deletes and (withdrawal := reader.withdrawal(element, here)) is not None:
            came += 1
            yield withdrawal
    yield from message.notices
    if message.cut is not None:
        yield replace(message.cut, rejects_record=message.cut_in_unit or not came)
    elif deletes and about is not None:
        yield reader.withdrawal_of_message(about)
        if not came:
            yield Issue(file, about.line, about.path, "cise.delete_by_number", rejects_record=False)


FORMATS = (
    Format(
        "cise",
        SourceSystem.CISE,
        Kind.XML,
        "CISE messages and entities, data model 1.5.3",
        frozenset({*ENTITIES, f"{{{MESSAGE}}}*", f"{{{SOAP}}}*"}),
        read,
    ),
)
