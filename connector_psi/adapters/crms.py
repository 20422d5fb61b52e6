"""Reads risk information forms of the Customs Risk Management System from the project's own exchange format.

The form of CRMS is not public, so the format is ours. ``docs/formats/crms.md`` documents it for those who write it.

Decides: what a form must say, that a form is one record however many things it names, because they belong to one risk,
and what of it is risk information.
Leaves to others: what a line goes through (``domain.exchange``), what identifies a thing or a party
(``domain.things``), what may be disclosed (``policy``).

Source: Regulation (EU) No 952/2013, Article 46 (risk information exchanged between customs authorities).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final, Literal

from connector_psi.domain.drafts import Draft, Found
from connector_psi.domain.exchange import Exchange, Involved, Message, placed, record_of
from connector_psi.domain.intake import Item
from connector_psi.domain.lines import EACH, Column, Line, Reference, Spot, Text, Time, columns_of
from connector_psi.domain.records import Field, SourceSystem, version_of
from connector_psi.domain.things import KINDS, describe, note_all, settled, thing_codes

CATEGORY: Final = "crms.risk"
EntityType = Literal[
    "person", "company", "vehicle", "trailer", "vessel", "aircraft", "container", "consignment", "phone", "email",
    "website", "document", "item", "currency", "location",
]  # fmt: skip
RiskLevel = Literal["low", "medium", "high"]

CODES: Final[Mapping[str, str]] = MappingProxyType(thing_codes("crms", descriptive=False))
"""Reason codes of this format, beside those of ``lines`` and of the identifiers."""


class RiskEntity(Involved):
    """A thing or a party that the risk is about."""

    type: EntityType


class RiskForm(Message[RiskEntity]):
    """One line of the exchange format; ``model_dump_json(exclude_none=True)`` writes it."""

    rif_ref: Reference
    issued_at: Time
    issuing_authority: Text
    contact: Text | None = None
    risk_area: Text
    risk_type: Text | None = None
    risk_level: RiskLevel | None = None
    description: Text | None = None


COLUMNS: Final[Mapping[str, Column]] = MappingProxyType(
    {
        **columns_of(RiskForm),
        **columns_of(RiskEntity, "entities", EACH, names={"type": "entity_type", "description": "entity_description"}),
    }
)
"""Columns of the CSV form and the keys that they stand for."""


def _records(form: RiskForm, line: Line, file: str) -> Iterator[Item]:
    draft = Draft(file)
    note_all(
        draft,
        {
            Field.REFERENCE: [form.rif_ref],
            Field.RISK_INFORMATION: [form.risk_area, form.risk_type, form.risk_level, form.description],
            Field.CONTACT: [form.issuing_authority, form.contact],
        },
    )
    for entity, spot in placed(form, line):
        if entity is None:
            draft.report("field.invalid", line=line.number, path=spot.itself)
        else:
            describe(draft, KINDS[entity.type], entity, spot, system="crms", role=entity.role or "")
            note_all(draft, {Field.RISK_INFORMATION: [entity.description]})
    spot = Spot(line)
    if form.description:
        draft.search_text(Found(form.description, spot.at("description"), line.number))
    if not (yield from settled(draft, spot, "crms.no_identifier")):
        return
    yield record_of(
        draft,
        line,
        source=SourceSystem.CRMS,
        source_ref=form.rif_ref,
        category=CATEGORY,
        valid_until=form.valid_until,
        version=version_of(form.issued_at),
    )


FORMATS = Exchange(
    name="crms",
    source=SourceSystem.CRMS,
    description="CRMS risk information forms",
    key="rif_ref",
    time="issued_at",
    line=RiskForm,
    row=RiskForm,
    columns=COLUMNS,
    things=frozenset({"entities"}),
    records=_records,
).formats()
