"""Reads entities of the Europol Information System from the project's own exchange format: one per line.

No schema of the EIS is public, so the format is ours; it follows Annex II.A of the Europol Regulation.
``docs/formats.md`` documents it for those who write it.

Decides: which entities are taken in (objects, contacts and companies), what each must say, that an entity with no
usable identifier is no record, and that one without handling codes counts as H2 and H3.
Leaves to others: how a file falls into lines (``lines``), canonical forms (``domain.identifiers``), what handling
codes forbid (``policy``).

Not handled here: persons, and entities whose numbers the domain has no identifier type for yet (bank accounts,
firearms, websites ...). Each is refused with a code of its own.

Source: Regulation (EU) 2016/794, Annex II.A; handling codes H0 to H3 and the 4x4 evaluation codes of Article 29.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, BinaryIO, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints

from connector_psi.domain.drafts import Draft, Key, filled
from connector_psi.domain.intake import Format, Kind
from connector_psi.domain.lines import (
    Column,
    Country,
    Line,
    Reference,
    Text,
    Time,
    UnknownKeys,
    parse,
    read_csv_rows,
    read_json_lines,
    rejecting,
)
from connector_psi.domain.records import Field, IdentifierType, Issue, Record, SourceSystem

_VIN = Key("vin", IdentifierType.VIN)
_PLATE = Key("plate", IdentifierType.PLATE, {"country": "plate_country"})
_IMO = Key("imo", IdentifierType.IMO)
_CONTAINER = Key("container_number", IdentifierType.CONTAINER)
_AIRCRAFT = Key("aircraft_registration", IdentifierType.AIRCRAFT)
_PHONE = Key("phone_number", IdentifierType.PHONE, {"country": "phone_country"})
_EMAIL = Key("email_address", IdentifierType.EMAIL)
_VAT = Key("vat_number", IdentifierType.VAT, {"country": "country"})
_EORI = Key("eori", IdentifierType.EORI)
_DOCUMENT = Key(
    "document_number",
    IdentifierType.IDENTITY_DOCUMENT,
    {"country": "document_country", "document_type": "document_type"},
)
_KEYS = (_VIN, _PLATE, _IMO, _CONTAINER, _AIRCRAFT, _PHONE, _EMAIL, _VAT, _EORI, _DOCUMENT)

ENTITY_TYPES: Mapping[str, tuple[Key, ...]] = MappingProxyType(
    {
        "vehicle": (_VIN, _PLATE),
        "vessel": (_IMO,),
        "aircraft": (_AIRCRAFT,),
        "container": (_CONTAINER,),
        "phone": (_PHONE,),
        "email": (_EMAIL,),
        "company": (_VAT, _EORI),
        "document": (_DOCUMENT,),
        "person": (),
        "website": (),
        "bank_account": (),
        "payment_card": (),
        "firearm": (),
        "currency": (),
        "drugs": (),
        "location": (),
    }
)
"""Entity type -> what identifies it; none where the domain has no identifier type yet."""
_FOREIGN = {name: frozenset(key.name for key in _KEYS if key not in keys) for name, keys in ENTITY_TYPES.items()}

DEFAULT_HANDLING_CODES = ("H2", "H3")
"""Of an entity whose provider gave none: the strictest reading."""

CODES: Mapping[str, str] = MappingProxyType(
    {
        "eis.person_not_supported_yet": "an entity of type person",
        "eis.entity_type_not_supported_yet": "the domain has no identifier type for such entities yet",
        "eis.identifier_not_of_type": "an identifier that such an entity does not have; ignored",
        "eis.no_identifier": "the line holds no identifier of such an entity",
    }
)
"""Reason codes of this format, beside those of ``lines`` and of the identifiers."""

EntityType = Literal[
    "vehicle", "vessel", "aircraft", "container", "phone", "email", "company", "document", "person", "website",
    "bank_account", "payment_card", "firearm", "currency", "drugs", "location",
]  # fmt: skip
HandlingCode = Literal["H0", "H1", "H2", "H3"]
# From: Annex II.A, point 1; "none" for an entity that is linked to no person.
SubjectClass = Literal["suspect", "convicted", "potential_offender", "none"]


class EisEntity(BaseModel):
    """The entity: its type, what identifies it, and a company's name."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    type: EntityType
    vin: Text | None = None
    plate: Text | None = None
    plate_country: Country | None = None
    imo: Text | None = None
    container_number: Text | None = None
    aircraft_registration: Text | None = None
    phone_number: Text | None = None
    phone_country: Country | None = None
    email_address: Text | None = None
    vat_number: Text | None = None
    eori: Text | None = None
    name: Text | None = None
    country: Country | None = None
    document_number: Text | None = None
    document_type: Text | None = None
    document_country: Country | None = None


class EisLine(BaseModel):
    """One line of the exchange format; ``model_dump_json(exclude_none=True)`` writes it."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    eis_ref: Reference
    provider: Text
    entity: EisEntity
    evaluation_code: Annotated[str, StringConstraints(pattern=r"^[ABCX][1-4]$")]
    subject_class: SubjectClass
    handling_codes: tuple[HandlingCode, ...] = ()
    case_references: tuple[Text, ...] = ()
    offence: Text | None = None
    valid_until: Time | None = None


COLUMNS: Mapping[str, Column] = MappingProxyType(
    {
        "eis_ref": Column(("eis_ref",), required=True),
        "provider": Column(("provider",), required=True),
        "entity_type": Column(("entity", "type"), required=True),
        "evaluation_code": Column(("evaluation_code",), required=True),
        "subject_class": Column(("subject_class",), required=True),
        **{name: Column(("entity", name)) for name in EisEntity.model_fields if name != "type"},
        "handling_codes": Column(("handling_codes",), is_list=True),
        "case_references": Column(("case_references",), is_list=True),
        "offence": Column(("offence",)),
        "valid_until": Column(("valid_until",)),
    }
)
"""Columns of the CSV form and the keys that they stand for."""


def read_jsonl(stream: BinaryIO, *, file: str) -> Iterator[Record | Issue]:
    """Read entities from JSON Lines.

    Nothing in the input raises; a line that cannot be used costs itself alone.

    Args:
        stream: Buffered and binary, at its first byte.
        file: Display name, for issues.

    Returns:
        Each record after its own issues, in source order.
    """
    return _read(read_json_lines(stream, file=file), file)


def read_csv(stream: BinaryIO, *, file: str) -> Iterator[Record | Issue]:
    """Read entities from CSV; as :func:`read_jsonl`."""
    return _read(read_csv_rows(stream, file=file, columns=COLUMNS), file)


def _read(lines: Iterable[Line | Issue], file: str) -> Iterator[Record | Issue]:
    unknown = UnknownKeys(EisLine, file=file)
    for line in lines:
        if isinstance(line, Issue):
            yield line
            continue
        yield from unknown.in_line(line)
        entry, issues = parse(EisLine, line, file=file)
        yield from issues
        if entry is not None:
            yield from _entry(entry, line, file)


def _entry(entry: EisLine, line: Line, file: str) -> Iterator[Record | Issue]:
    entity = entry.entity
    keys = ENTITY_TYPES[entity.type]
    if not keys:
        code = "eis.person_not_supported_yet" if entity.type == "person" else "eis.entity_type_not_supported_yet"
        yield Issue(file, line.number, line.place("entity", "type"), code, rejects_record=True)
        return
    values = entity.model_dump(exclude_none=True)
    draft = Draft(file)
    for name in sorted(values.keys() & _FOREIGN[entity.type]):
        draft.report("eis.identifier_not_of_type", line=line.number, path=line.place("entity", name))
    found = draft.identify_keys(keys, values, place=lambda name: line.place("entity", name), line=line.number)
    if not found:
        if not draft.issues:
            draft.report("eis.no_identifier", line=line.number, path=line.place("entity"))
        yield from rejecting(draft.issues)
        return
    yield from draft.issues
    is_company = entity.type == "company"
    fields = {
        # Annex II.A, point 2(f) for documents, 3(b) for everything else that was used, legal persons included.
        Field.DOCUMENTS if entity.type == "document" else Field.MEANS_USED: tuple(
            f"{identifier.type} {identifier.value}" for identifier in found
        ),
        Field.OBJECT_TYPE: (entity.type,),
        Field.NAMES: (entity.name,) if is_company and entity.name else (),
        Field.RESIDENCE: (entity.country,) if is_company and entity.country else (),
        Field.SUBJECT_CLASS: (entry.subject_class,),
        Field.PROVIDER: (entry.provider,),
        Field.HANDLING_CODES: tuple(dict.fromkeys(entry.handling_codes or DEFAULT_HANDLING_CODES)),
        Field.EVALUATION_CODE: (entry.evaluation_code,),
        Field.CASE_REFERENCES: tuple(dict.fromkeys(entry.case_references)),
        Field.OFFENCE: (entry.offence,) if entry.offence else (),
    }
    yield Record(
        source=SourceSystem.EIS,
        source_ref=entry.eis_ref,
        category=f"eis.{entity.type}",
        identifiers=tuple(found),
        fields=filled(fields),
        message_digest=line.digest,
        valid_until=entry.valid_until,
    )


FORMATS = tuple(
    Format(
        f"eis-{kind}",
        SourceSystem.EIS,
        kind,
        "Europol EIS entities",
        frozenset({"eis_ref"}),
        lambda stream, file, _, read=read: read(stream, file=file),
    )
    for kind, read in ((Kind.JSONL, read_jsonl), (Kind.CSV, read_csv))
)
