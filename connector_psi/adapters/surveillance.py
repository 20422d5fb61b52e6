"""Reads declarations of goods from the surveillance database, in the project's own exchange format: CSV or JSON Lines.

No interface document is public, so the format is ours; it follows the data that customs authorities supply for
surveillance at release for free circulation and at export. ``docs/formats/surveillance.md`` documents it for those who
write it.

Decides: what each row must say, that a row is one item of a declaration, and that one without usable identifier is no
record.
Leaves to others: how a file falls into lines and what they go through (``domain.exchange``), canonical forms
(``domain.identifiers``), that such data come after the fact and are part of no agreement that asks in real time
(``domain.systems``, ``policy``).

Source: Implementing Regulation (EU) 2015/2447, Article 55.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date
from types import MappingProxyType
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, StringConstraints

from connector_psi.domain.declarations import Declaration
from connector_psi.domain.drafts import Found
from connector_psi.domain.exchange import Dated, Exchange, record_of
from connector_psi.domain.intake import Item
from connector_psi.domain.lines import Column, Country, Line, Reference, Spot, Text, Time, columns_of
from connector_psi.domain.records import Field, IdentifierType, SourceSystem, version_of
from connector_psi.domain.things import settled

CODES: Final[Mapping[str, str]] = MappingProxyType(
    {"surveillance.no_identifier": "the row holds no usable declaration number, EORI number or number in its text"}
)
"""Reason codes of this format, beside those of ``lines`` and of the identifiers."""

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def _date(value: str) -> str:
    if not _DATE.fullmatch(value):
        raise ValueError("not a date")
    date.fromisoformat(value)
    return value


Day = Annotated[str, AfterValidator(_date)]
"""``2026-05-17``."""
Quantity = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,16}(\.[0-9]{1,6})?$")]
"""A decimal number as it is written, never a binary one."""


class SurveillanceLine(Dated):
    """One item of a declaration; ``model_dump_json(exclude_none=True)`` writes it."""

    surveillance_ref: Reference
    updated_at: Time | None = None
    flow: Literal["import", "export"]
    accepted_on: Day
    customs_office: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}[A-Z0-9]{6}$")]
    mrn: Text | None = None
    declaration_number: Text | None = None
    declarant_eori: Text | None = None
    representative_eori: Text | None = None
    importer_eori: Text | None = None
    exporter_eori: Text | None = None
    commodity_code: Annotated[str, StringConstraints(pattern=r"^[0-9]{6,10}$")]
    origin: Country | None = None
    dispatch: Country | None = None
    destination: Country | None = None
    net_mass_kg: Quantity | None = None
    supplementary_units: Quantity | None = None
    goods_description: Text | None = None


COLUMNS: Final[Mapping[str, Column]] = MappingProxyType(columns_of(SurveillanceLine))
"""Columns of the CSV form; each is a key of its own in JSON."""
_ROLES = ("declarant", "representative", "importer", "exporter")


def _records(entry: SurveillanceLine, line: Line, file: str) -> Iterator[Item]:
    values = entry.model_dump(exclude_none=True)
    spot = Spot(line)
    draft = Declaration(file)

    def found(name: str) -> Found | None:
        return Found(values[name], spot.at(name), line.number) if name in values else None

    draft.identify(IdentifierType.MRN, found("mrn"))
    for role in _ROLES:
        draft.identify(IdentifierType.EORI, found(f"{role}_eori"), role=role)
    draft.free_text(found("goods_description"))
    if not (yield from settled(draft, spot, "surveillance.no_identifier")):
        return
    draft.note(Field.MRN, entry.mrn or "")
    draft.note(Field.REFERENCE, entry.declaration_number or "")
    draft.note(Field.PLACE, f"{entry.customs_office} {entry.flow} {entry.accepted_on}")
    draft.note(Field.HS6, entry.commodity_code[:6])
    for country in (entry.dispatch, entry.destination):
        draft.note(Field.ROUTE, country or "")
    for label, value in (
        ("", entry.goods_description),
        ("commodity code ", entry.commodity_code),
        ("origin ", entry.origin),
        ("net mass in kg ", entry.net_mass_kg),
        ("supplementary units ", entry.supplementary_units),
    ):
        draft.note(Field.GOODS_DESCRIPTION, label + value if value else "")
    yield record_of(
        draft,
        line,
        source=SourceSystem.SURVEILLANCE,
        source_ref=entry.surveillance_ref,
        category="surveillance.declaration",
        valid_until=entry.valid_until,
        version=version_of(entry.updated_at),
    )


FORMATS = Exchange(
    name="surveillance",
    source=SourceSystem.SURVEILLANCE,
    description="items of customs declarations, after the fact",
    key="surveillance_ref",
    time="updated_at",
    line=SurveillanceLine,
    row=SurveillanceLine,
    columns=COLUMNS,
    things=frozenset(),
    records=_records,
).formats()
