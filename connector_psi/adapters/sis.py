"""Reads object alerts of SIS from the project's own exchange format, as JSON Lines or CSV: one alert per line.

No interface document of SIS is public, so the format is ours; it follows the Regulation. ``docs/formats.md``
documents it for those who write it.

Decides: which alerts are taken in (objects, Articles 36 and 38), what each must say, and that an alert with no usable
identifier is no record.
Leaves to others: how a file falls into lines (``lines``), canonical forms (``domain.identifiers``), what may be
disclosed of an alert (``policy``).

Not handled here: alerts on persons (Articles 26, 32, 34, 36 and 40), and object types whose numbers the domain has
no identifier type for yet (engines, firearms, banknotes ...). Each is refused with a code of its own.

Source: Regulation (EU) 2018/1862, Articles 20(3), 36 and 38(2).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, BinaryIO, Literal

from pydantic import BaseModel, ConfigDict, StrictBool, StringConstraints

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
_DOCUMENT = Key(
    "document_number",
    IdentifierType.IDENTITY_DOCUMENT,
    {"country": "document_country", "document_type": "document_type"},
)
_KEYS = (_VIN, _PLATE, _IMO, _CONTAINER, _AIRCRAFT, _DOCUMENT)


@dataclass(frozen=True, slots=True)
class ObjectType:
    """One point of Article 38(2)."""

    category: str
    """Letter of the point."""
    in_article_36: bool
    """Whether Article 36 allows alerts on it too."""
    keys: tuple[Key, ...] = ()
    """What identifies it; none where the domain has no identifier type yet."""


# From: Article 38(2)(a)-(r); Article 36(1) for points a, b, c, e, g, h, j, k and l.
OBJECT_TYPES: Mapping[str, ObjectType] = MappingProxyType(
    {
        "vehicle": ObjectType("a", in_article_36=True, keys=(_VIN, _PLATE)),
        "trailer": ObjectType("b", in_article_36=True, keys=(_VIN, _PLATE)),
        "caravan": ObjectType("c", in_article_36=True, keys=(_VIN, _PLATE)),
        "industrial_equipment": ObjectType("d", in_article_36=False),
        "boat": ObjectType("e", in_article_36=True, keys=(_IMO,)),
        "boat_engine": ObjectType("f", in_article_36=False),
        "container": ObjectType("g", in_article_36=True, keys=(_CONTAINER,)),
        "aircraft": ObjectType("h", in_article_36=True, keys=(_AIRCRAFT,)),
        "aircraft_engine": ObjectType("i", in_article_36=False),
        "firearm": ObjectType("j", in_article_36=True),
        "blank_document": ObjectType("k", in_article_36=True, keys=(_DOCUMENT,)),
        "issued_document": ObjectType("l", in_article_36=True, keys=(_DOCUMENT,)),
        "vehicle_registration": ObjectType("m", in_article_36=False, keys=(_PLATE, _DOCUMENT)),
        "banknote": ObjectType("n", in_article_36=False),
        "it_item": ObjectType("o", in_article_36=False),
        "vehicle_component": ObjectType("p", in_article_36=False),
        "equipment_component": ObjectType("q", in_article_36=False),
        "high_value_object": ObjectType("r", in_article_36=False),
    }
)
_FOREIGN = {name: frozenset(key.name for key in _KEYS if key not in kind.keys) for name, kind in OBJECT_TYPES.items()}

PERSON_ARTICLES = frozenset({"26", "32", "34", "40"})
ACTIONS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "38": frozenset({"seizure", "evidence"}),
        "36": frozenset({"discreet_check", "inquiry_check", "specific_check"}),
    }
)
"""Action to be taken, by article."""

CODES: Mapping[str, str] = MappingProxyType(
    {
        "sis.article_not_supported": "no article of Regulation 2018/1862 under which objects are entered",
        "sis.person_alert_not_supported_yet": "an alert on a person (Article 26, 32, 34, 40, or 36 without object)",
        "sis.category_mismatch": "the letter is not the one of this type of object, or the article names another",
        "sis.category_not_allowed": "Article 36 does not allow alerts on this type of object",
        "sis.object_type_not_supported_yet": "the domain has no identifier type for such objects yet",
        "sis.action_mismatch": "the action is not one of this article",
        "sis.identifier_not_of_type": "an identifier that such an object does not have; ignored",
        "sis.no_identifier": "the alert holds no identifier of such an object",
    }
)
"""Reason codes of this format, beside those of ``lines`` and of the identifiers."""

_ARTICLE = re.compile(r"(3[68])(?:\(2\)\(([a-r])\))?")

ObjectTypeName = Literal[
    "vehicle", "trailer", "caravan", "industrial_equipment", "boat", "boat_engine", "container", "aircraft",
    "aircraft_engine", "firearm", "blank_document", "issued_document", "vehicle_registration", "banknote", "it_item",
    "vehicle_component", "equipment_component", "high_value_object",
]  # fmt: skip
Action = Literal["seizure", "evidence", "discreet_check", "inquiry_check", "specific_check"]
# From: Article 20(3)(j).
Warning_ = Literal["armed", "violent", "absconded", "suicide_risk", "public_health", "terrorism"]


class SisObject(BaseModel):
    """The object that is sought: its type and what identifies it."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    type: ObjectTypeName
    vin: Text | None = None
    plate: Text | None = None
    plate_country: Country | None = None
    imo: Text | None = None
    container_number: Text | None = None
    aircraft_registration: Text | None = None
    document_number: Text | None = None
    document_type: Text | None = None
    document_country: Country | None = None


class SisAlert(BaseModel):
    """One line of the exchange format; ``model_dump_json(exclude_none=True)`` writes it."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    schengen_id: Reference
    issuing_state: Country
    article: Annotated[str, StringConstraints(pattern=r"^3[68](\(2\)\([a-r]\))?$")]
    category: Annotated[str, StringConstraints(pattern=r"^[a-r]$")]
    object: SisObject
    action: Action
    sirene_contact: Text
    reason: Text | None = None
    offence: Text | None = None
    warnings: tuple[Warning_, ...] = ()
    valid_until: Time | None = None
    hidden: StrictBool = False


COLUMNS: Mapping[str, Column] = MappingProxyType(
    {
        "schengen_id": Column(("schengen_id",), required=True),
        "issuing_state": Column(("issuing_state",), required=True),
        "article": Column(("article",), required=True),
        "category": Column(("category",), required=True),
        "object_type": Column(("object", "type"), required=True),
        "action": Column(("action",), required=True),
        "sirene_contact": Column(("sirene_contact",), required=True),
        **{name: Column(("object", name)) for name in SisObject.model_fields if name != "type"},
        "reason": Column(("reason",)),
        "offence": Column(("offence",)),
        "warnings": Column(("warnings",), is_list=True),
        "valid_until": Column(("valid_until",)),
        "hidden": Column(("hidden",), is_bool=True),
    }
)
"""Columns of the CSV form and the keys that they stand for."""


def read_jsonl(stream: BinaryIO, *, file: str) -> Iterator[Record | Issue]:
    """Read alerts from JSON Lines.

    Nothing in the input raises; a line that cannot be used costs itself alone.

    Args:
        stream: Buffered and binary, at its first byte.
        file: Display name, for issues.

    Returns:
        Each record after its own issues, in source order.
    """
    return _read(read_json_lines(stream, file=file), file)


def read_csv(stream: BinaryIO, *, file: str) -> Iterator[Record | Issue]:
    """Read alerts from CSV; as :func:`read_jsonl`."""
    return _read(read_csv_rows(stream, file=file, columns=COLUMNS), file)


def _read(lines: Iterable[Line | Issue], file: str) -> Iterator[Record | Issue]:
    unknown = UnknownKeys(SisAlert, file=file)
    for line in lines:
        if isinstance(line, Issue):
            yield line
            continue
        yield from unknown.in_line(line)
        if (refusal := _article_refusal(line)) is not None:
            yield Issue(file, line.number, line.place("article"), refusal, rejects_record=True)
            continue
        alert, issues = parse(SisAlert, line, file=file)
        yield from issues
        if alert is not None:
            yield from _alert(alert, line, file)


def _article_refusal(line: Line) -> str | None:
    """Say why an alert of this article is not taken in, before anything else is asked of the line."""
    article = line.document.get("article")
    if not isinstance(article, str):
        return None
    if article in PERSON_ARTICLES:
        return "sis.person_alert_not_supported_yet"
    if _ARTICLE.fullmatch(article) is None:
        return "sis.article_not_supported"
    if article == "36" and "object" not in line.document:
        return "sis.person_alert_not_supported_yet"
    return None


def _mismatch(alert: SisAlert) -> tuple[str, tuple[str, ...]] | None:
    """Return code and place of what does not fit together."""
    kind = OBJECT_TYPES[alert.object.type]
    found = _ARTICLE.fullmatch(alert.article)
    assert found is not None, "the model holds the pattern"
    article, letter = found[1], found[2]
    if alert.category != kind.category or letter not in {None, kind.category}:
        return "sis.category_mismatch", ("category",)
    if article == "36" and not kind.in_article_36:
        return "sis.category_not_allowed", ("category",)
    if alert.action not in ACTIONS[article]:
        return "sis.action_mismatch", ("action",)
    if not kind.keys:
        return "sis.object_type_not_supported_yet", ("object", "type")
    return None


def _alert(alert: SisAlert, line: Line, file: str) -> Iterator[Record | Issue]:
    if (mismatch := _mismatch(alert)) is not None:
        code, keys = mismatch
        yield Issue(file, line.number, line.place(*keys), code, rejects_record=True)
        return
    kind = OBJECT_TYPES[alert.object.type]
    values = alert.object.model_dump(exclude_none=True)
    draft = Draft(file)
    for name in sorted(values.keys() & _FOREIGN[alert.object.type]):
        draft.report("sis.identifier_not_of_type", line=line.number, path=line.place("object", name))
    found = draft.identify_keys(kind.keys, values, place=lambda name: line.place("object", name), line=line.number)
    if not found:
        if not draft.issues:
            draft.report("sis.no_identifier", line=line.number, path=line.place("object"))
        yield from rejecting(draft.issues)
        return
    yield from draft.issues
    fields = {
        Field.OBJECT_IDENTIFIERS: tuple(f"{identifier.type} {identifier.value}" for identifier in found),
        Field.OBJECT_TYPE: (alert.object.type,),
        Field.ACTION: (alert.action,),
        Field.SCHENGEN_ID: (alert.schengen_id,),
        Field.ISSUING_STATE: (alert.issuing_state,),
        Field.SIRENE_CONTACT: (alert.sirene_contact,),
        Field.ALERT_REASON: (alert.reason,) if alert.reason else (),
        Field.OFFENCE: (alert.offence,) if alert.offence else (),
        Field.WARNINGS: tuple(dict.fromkeys(alert.warnings)),
    }
    yield Record(
        source=SourceSystem.SIS,
        source_ref=alert.schengen_id,
        # Article 36 alerts are one category: what is done upon a hit does not depend on the type of object.
        category="sis.36" if alert.article.startswith("36") else f"sis.38.{kind.category}",
        identifiers=tuple(found),
        fields=filled(fields),
        message_digest=line.digest,
        hidden=alert.hidden,
        valid_until=alert.valid_until,
    )


FORMATS = tuple(
    Format(
        f"sis-{kind}",
        SourceSystem.SIS,
        kind,
        "SIS object alerts",
        frozenset({"schengen_id"}),
        lambda stream, file, _, read=read: read(stream, file=file),
    )
    for kind, read in ((Kind.JSONL, read_jsonl), (Kind.CSV, read_csv))
)
