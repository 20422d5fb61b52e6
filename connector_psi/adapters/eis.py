"""Reads entities of the Europol Information System from the project's own exchange format: one per line.

No schema of the EIS is public, so the format is ours; it follows Annex II.A of the Europol Regulation.
``docs/formats/eis.md`` documents it for those who write it.

Decides: which entities are taken in (persons, companies, objects and contacts), what each must say, and that one
without handling codes counts as H2 and H3.
Leaves to others: what a line goes through (``domain.exchange``), what identifies an entity (``domain.things``),
canonical forms (``domain.identifiers``), what handling codes forbid (``policy``).

Source: Regulation (EU) 2016/794, Annex II.A; handling codes H0 to H3 and the 4x4 evaluation codes of Article 29.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final, Literal, get_args

from connector_psi.domain.drafts import Draft
from connector_psi.domain.exchange import (
    DEFAULT_HANDLING_CODES,
    Dated,
    EvaluationCode,
    Exchange,
    SubjectClass,
    record_of,
)
from connector_psi.domain.intake import Item
from connector_psi.domain.lines import Column, Line, Reference, Spot, Text, Texts, Time, columns_of
from connector_psi.domain.purposes import HandlingCode
from connector_psi.domain.records import Field, SourceSystem, version_of
from connector_psi.domain.things import KINDS, Entity, Key, describe, note_all, note_entity, settled, thing_codes

EntityType = Literal[
    "vehicle", "vessel", "aircraft", "container", "phone", "email", "company", "document", "person", "website",
    "bank_account", "payment_card", "firearm", "currency", "drugs", "location",
]  # fmt: skip
ENTITY_TYPES: Final[Mapping[str, tuple[Key, ...]]] = MappingProxyType(
    {name: KINDS[name].keys for name in get_args(EntityType)}
)
"""Entity type -> what identifies it; none for what only its description can identify."""
CODES: Final[Mapping[str, str]] = MappingProxyType(thing_codes("eis", descriptive=True))
"""Reason codes of this format, beside those of ``lines`` and of the identifiers."""


class EisEntity(Entity):
    """What is known to Europol."""

    type: EntityType


class EisLine(Dated):
    """One line of the exchange format; ``model_dump_json(exclude_none=True)`` writes it."""

    eis_ref: Reference
    provider: Text
    entity: EisEntity
    evaluation_code: EvaluationCode
    subject_class: SubjectClass
    handling_codes: tuple[HandlingCode, ...] = ()
    case_references: Texts = ()
    offence: Text | None = None
    convictions: Texts = ()
    updated_at: Time | None = None


COLUMNS: Final[Mapping[str, Column]] = MappingProxyType(
    {**columns_of(EisLine), **columns_of(EisEntity, "entity", names={"type": "entity_type"})}
)
"""Columns of the CSV form and the keys that they stand for."""


def _records(entry: EisLine, line: Line, file: str) -> Iterator[Item]:
    entity, kind, spot = entry.entity, KINDS[entry.entity.type], Spot(line, ("entity",))
    draft = Draft(file)
    labels = describe(draft, kind, entity, spot, system="eis")
    if not (yield from settled(draft, spot, f"eis.{kind.lacking}")):
        return
    note_entity(draft, entity, labels)
    note_all(
        draft,
        {
            Field.SUBJECT_CLASS: [entry.subject_class],
            Field.PROVIDER: [entry.provider],
            Field.HANDLING_CODES: entry.handling_codes or DEFAULT_HANDLING_CODES,
            Field.EVALUATION_CODE: [entry.evaluation_code],
            Field.CASE_REFERENCES: entry.case_references,
            Field.OFFENCE: [entry.offence],
            Field.CONVICTIONS: entry.convictions,
        },
    )
    yield record_of(
        draft,
        line,
        source=SourceSystem.EIS,
        source_ref=entry.eis_ref,
        category=f"eis.{entity.type}",
        valid_until=entry.valid_until,
        version=version_of(entry.updated_at),
    )


FORMATS = Exchange(
    name="eis",
    source=SourceSystem.EIS,
    description="Europol EIS entities",
    key="eis_ref",
    time="updated_at",
    line=EisLine,
    row=EisLine,
    columns=COLUMNS,
    things=frozenset({"entity"}),
    records=_records,
).formats()
