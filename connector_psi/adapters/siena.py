"""Reads SIENA messages from the project's own exchange format: a header and the entities that the message is about.

No schema of SIENA is public, so the format is ours. ``docs/formats/siena.md`` documents it for those who write it.

Decides: which entities are taken in, what a message must say, and that one without handling codes counts as H2 and H3.
Leaves to others: records of entities, and how a newer message replaces an older one (``domain.exchange``), what
identifies an entity (``domain.things``), what handling codes forbid (``policy``).

Not handled here: the text of a message and its attachments. They speak of many things, and a number found there is not
known to be the number of any entity.

Source: Regulation (EU) 2016/794, Annex II.A, for what an entity can say; handling codes H0 to H3 and the 4x4 evaluation
codes of Article 29.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final, Literal

from connector_psi.domain.drafts import Draft
from connector_psi.domain.exchange import (
    DEFAULT_HANDLING_CODES,
    Dated,
    EvaluationCode,
    Exchange,
    Involved,
    Message,
    Row,
    SubjectClass,
    entity_records,
)
from connector_psi.domain.intake import Item
from connector_psi.domain.lines import Column, Line, Reference, Text, Texts, Time, columns_of
from connector_psi.domain.purposes import HandlingCode
from connector_psi.domain.records import Field, SourceSystem
from connector_psi.domain.things import Label, note_all, note_entity, thing_codes

EntityType = Literal[
    "person", "company", "vehicle", "trailer", "vessel", "aircraft", "container", "consignment", "phone", "email",
    "website", "bank_account", "payment_card", "document", "firearm", "currency", "item", "drugs", "location",
]  # fmt: skip
CODES: Final[Mapping[str, str]] = MappingProxyType(thing_codes("siena", descriptive=True))
"""Reason codes of this format, beside those of ``lines`` and of the identifiers."""


class SienaEntity(Involved):
    """Somebody or something that a message is about."""

    type: EntityType
    subject_class: SubjectClass | None = None
    """Of the person that it is linked to."""


class SienaHeader(Dated):
    """What a message says of itself."""

    siena_ref: Reference
    sent_at: Time
    sender: Text
    recipients: Texts = ()
    handling_codes: tuple[HandlingCode, ...] = ()
    evaluation_code: EvaluationCode
    subject: Text | None = None
    crime_area: Text | None = None
    case_references: Texts = ()


class SienaMessage(SienaHeader, Message[SienaEntity]):
    """A line of JSON; ``model_dump_json(exclude_none=True)`` writes it."""


class SienaRow(SienaHeader, Row[SienaEntity]):
    """A row of CSV."""


COLUMNS: Final[Mapping[str, Column]] = MappingProxyType(
    {**columns_of(SienaRow), **columns_of(SienaEntity, "entity", names={"type": "entity_type"})}
)
"""Columns of the CSV form and the keys that they stand for."""


def _records(message: SienaMessage | SienaRow, line: Line, file: str) -> Iterator[Item]:
    def note(draft: Draft, entity: SienaEntity, labels: list[Label]) -> None:
        note_entity(draft, entity, labels)
        note_all(
            draft,
            {
                Field.REFERENCE: [message.siena_ref],
                Field.CONTACT: [message.sender],
                Field.PROVIDER: [message.sender],
                Field.HANDLING_CODES: message.handling_codes or DEFAULT_HANDLING_CODES,
                Field.EVALUATION_CODE: [message.evaluation_code],
                Field.CASE_REFERENCES: message.case_references,
                Field.OFFENCE: [message.crime_area],
                Field.RISK_INFORMATION: [message.subject],
                Field.SUBJECT_CLASS: [entity.subject_class],
            },
        )

    yield from entity_records(
        message, line, file, source=SourceSystem.SIENA, ref=message.siena_ref, sent_at=message.sent_at, note=note
    )


_EXCHANGE: Exchange[SienaMessage | SienaRow] = Exchange(
    name="siena",
    source=SourceSystem.SIENA,
    description="SIENA messages with their entities",
    key="siena_ref",
    time="sent_at",
    line=SienaMessage,
    row=SienaRow,
    columns=COLUMNS,
    things=frozenset({"entities", "entity"}),
    records=_records,
)
FORMATS = _EXCHANGE.formats()
