"""Reads cases of the Customs Information System (CIS) in AFIS from the project's own exchange format.

No interface document of AFIS is public, so the format is ours; it follows Regulation (EC) No 515/97.
``docs/formats/afis.md`` documents it for those who write it.

Decides: which entities of a case are taken in, what a case must say, and which personal data it may hold: no more than
Article 25(2) lists, so that a telephone number or a social security number of a person is reported and never read.
Leaves to others: records of entities, and how a newer state of a case replaces an older one (``domain.exchange``), what
identifies an entity (``domain.things``), what may be disclosed (``policy``).

Source: Regulation (EC) No 515/97, Articles 24, 25 and 27.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final, Literal, get_args

from connector_psi.domain.drafts import Draft
from connector_psi.domain.exchange import Dated, Exchange, Involved, Message, Row, SubjectClass, entity_records
from connector_psi.domain.intake import Item
from connector_psi.domain.lines import Column, Line, Reference, Text, Time, columns_of
from connector_psi.domain.records import Field, PartyKind, SourceSystem
from connector_psi.domain.things import (
    DOCUMENT,
    KINDS,
    MORE_DOCUMENTS,
    PERSON_NAMES,
    PLATE,
    Kind,
    Label,
    note_all,
    thing_codes,
)

EntityType = Literal[
    "person", "company", "vehicle", "trailer", "vessel", "aircraft", "container", "consignment", "document", "item",
    "currency",
]  # fmt: skip
# From: Article 27(1).
SuggestedAction = Literal["sighting_and_reporting", "discreet_surveillance", "specific_check", "operational_analysis"]
# From: Article 25(2)(h).
WarningCode = Literal["armed", "violent", "escaped"]

_KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        **{name: KINDS[name] for name in get_args(EntityType)},
        # From: Article 25(2)(a)-(f) and (k).
        "person": Kind(
            (DOCUMENT, MORE_DOCUMENTS, PLATE),
            PERSON_NAMES | {"document_issued", "address", "country"},
            PartyKind.PERSON,
        ),
    }
)
CODES: Final[Mapping[str, str]] = MappingProxyType(thing_codes("afis", descriptive=False))
"""Reason codes of this format, beside those of ``lines`` and of the identifiers."""


class CisEntity(Involved):
    """Somebody or something of a case."""

    type: EntityType
    subject_class: SubjectClass | None = None
    """Of a person, by Article 27(2): whether an operation was carried out or is about to be."""
    warnings: tuple[WarningCode, ...] = ()


class CisHeader(Dated):
    """What a case says of itself."""

    cis_ref: Reference
    updated_at: Time | None = None
    case_reference: Text | None = None
    purpose: SuggestedAction
    supplied_by: Text
    contact: Text | None = None
    reason: Text | None = None


class CisCase(CisHeader, Message[CisEntity]):
    """A line of JSON; ``model_dump_json(exclude_none=True)`` writes it."""


class CisRow(CisHeader, Row[CisEntity]):
    """A row of CSV."""


COLUMNS: Final[Mapping[str, Column]] = MappingProxyType(
    {**columns_of(CisRow), **columns_of(CisEntity, "entity", names={"type": "entity_type"})}
)
"""Columns of the CSV form and the keys that they stand for."""


def _records(case: CisCase | CisRow, line: Line, file: str) -> Iterator[Item]:
    def note(draft: Draft, entity: CisEntity, _: list[Label]) -> None:
        note_all(
            draft,
            {
                Field.REFERENCE: [case.cis_ref, case.case_reference],
                Field.RISK_INFORMATION: [case.purpose, case.reason, entity.description],
                Field.CONTACT: [case.supplied_by, case.contact],
                Field.WARNINGS: entity.warnings,
                Field.SUBJECT_CLASS: [entity.subject_class],
            },
        )

    yield from entity_records(
        case,
        line,
        file,
        source=SourceSystem.AFIS,
        ref=case.cis_ref,
        sent_at=case.updated_at,
        note=note,
        kinds=_KINDS,
    )


_EXCHANGE: Exchange[CisCase | CisRow] = Exchange(
    name="afis",
    source=SourceSystem.AFIS,
    description="AFIS/CIS cases with their entities",
    key="cis_ref",
    time="updated_at",
    line=CisCase,
    row=CisRow,
    columns=COLUMNS,
    things=frozenset({"entities", "entity"}),
    records=_records,
)
FORMATS = _EXCHANGE.formats()
