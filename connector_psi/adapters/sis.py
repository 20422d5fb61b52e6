"""Reads alerts of SIS from the project's own exchange format, as JSON Lines or CSV: one alert per line.

No interface document of SIS is public, so the format is ours; it follows the Regulations. ``docs/formats/sis.md``
documents it for those who write it.

Decides: which alerts are taken in (``ARTICLES``: on persons, and on objects), what each must say, which objects,
actions and flags an article has, and the class of person that each article is about.
Leaves to others: what a line goes through (``domain.exchange``), what identifies a person or an object
(``domain.things``), canonical forms (``domain.identifiers``), what may be disclosed of an alert (``policy``).

Not handled here: alerts that hold biometric data alone (Article 40), because nothing of it is ever read; alerts on
return (Regulation (EU) 2018/1860) and information alerts (Article 37a). Each is refused with a code.

Source: Regulation (EU) 2018/1862, Articles 20(3), 24, 26, 32, 34, 36, 38 and 40; Regulation (EU) 2018/1861, Articles
20(2), 24 and 25.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Final, Literal, NamedTuple

from pydantic import StrictBool, StringConstraints

from connector_psi.domain.drafts import Draft
from connector_psi.domain.exchange import Dated, Exchange, record_of
from connector_psi.domain.intake import Item
from connector_psi.domain.lines import Column, Countries, Country, Line, Reference, Spot, Text, Time, columns_of
from connector_psi.domain.records import Field, Issue, PartyKind, SourceSystem, version_of
from connector_psi.domain.things import (
    DOCUMENT,
    KINDS,
    MORE_DOCUMENTS,
    PERSON_NAMES,
    REGISTER_NUMBER,
    Key,
    Kind,
    ObjectKeys,
    PersonKeys,
    describe,
    note_all,
    note_papers,
    note_person,
    settled,
    thing_codes,
)


@dataclass(frozen=True, slots=True)
class ObjectType:
    """One point of Article 38(2), or a non-cash means of payment."""

    category: str
    """Letter of the point; empty for a means of payment."""
    articles: frozenset[str]
    """Articles that allow alerts on it."""
    kind: Kind

    @property
    def keys(self) -> tuple[Key, ...]:
        """What identifies it."""
        return self.kind.keys

    @property
    def in_article_36(self) -> bool:
        """Whether it may be checked, and not only seized."""
        return "36" in self.articles


_SEIZED = frozenset({"38"})
_CHECKED = _SEIZED | {"36"}
_OF_WANTED = _CHECKED | {"26"}
_OF_ANY = _OF_WANTED | {"32", "34"}


def _object_types(table: Mapping[str, tuple[str, frozenset[str]]]) -> Mapping[str, ObjectType]:
    return MappingProxyType(
        {name: ObjectType(letter, articles, KINDS[name]) for name, (letter, articles) in table.items()}
    )


# From: Article 38(2)(a)-(r); Article 36(1) for points a, b, c, e, g, h, j, k, l and non-cash means of payment;
# Article 26(5) without l; Articles 32(8) and 34(2) without j and l.
OBJECT_TYPES: Final = _object_types(
    {
        "vehicle": ("a", _OF_ANY),
        "trailer": ("b", _OF_ANY),
        "caravan": ("c", _OF_ANY),
        "industrial_equipment": ("d", _SEIZED),
        "boat": ("e", _OF_ANY),
        "boat_engine": ("f", _SEIZED),
        "container": ("g", _OF_ANY),
        "aircraft": ("h", _OF_ANY),
        "aircraft_engine": ("i", _SEIZED),
        "firearm": ("j", _OF_WANTED),
        "blank_document": ("k", _OF_ANY),
        "issued_document": ("l", _CHECKED),
        "vehicle_registration": ("m", _SEIZED),
        "banknote": ("n", _SEIZED),
        "it_item": ("o", _SEIZED),
        "vehicle_component": ("p", _SEIZED),
        "equipment_component": ("q", _SEIZED),
        "high_value_object": ("r", _SEIZED),
        "payment_card": ("", frozenset({"36"})),
        "bank_account": ("", frozenset({"36"})),
    }
)
_PERSON = Kind((DOCUMENT, MORE_DOCUMENTS, REGISTER_NUMBER), PERSON_NAMES | {"document_issued"}, PartyKind.PERSON)
# Regulation 2018/1861, Article 20(2), has no number in a national register.
_THIRD_COUNTRY_NATIONAL = Kind((DOCUMENT, MORE_DOCUMENTS), _PERSON.describing, PartyKind.PERSON)


class Article(NamedTuple):
    """What alerts under an article are."""

    actions: frozenset[str]
    flags: bool = False
    """Whether a Member State may require that the action is not taken in its territory."""
    linked: bool = False
    """Whether an alert on an object needs a link to one on a person."""
    person: Kind | None = None
    """What identifies a person; None if alerts are on objects alone."""
    subject_class: str = ""
    cases: Mapping[str, str] = MappingProxyType({})
    """Letter of the person's case -> class of data subject, where the article has several."""


_WHEREABOUTS = "communicate_whereabouts"
# From: Articles 24(1) and 25 (flags), 26(1) and 30, 32(1) and 33, 34(1) and 35, 36(1), 38(1); 2018/1861 Article 24(1).
ARTICLES: Final[Mapping[str, Article]] = MappingProxyType(
    {
        "26": Article(
            frozenset({"arrest_surrender", "arrest_extradition", _WHEREABOUTS}),
            flags=True,
            linked=True,
            person=_PERSON,
            subject_class="wanted_for_arrest",
        ),
        "32": Article(
            frozenset({"place_under_protection", "prevent_from_travelling", _WHEREABOUTS}),
            flags=True,
            linked=True,
            person=_PERSON,
            subject_class="missing_or_vulnerable",
            cases=MappingProxyType(
                {
                    "a": "missing_to_be_protected",
                    "b": "missing",
                    "c": "child_at_risk_of_abduction",
                    "d": "child_at_risk",
                    "e": "vulnerable_adult",
                }
            ),
        ),
        "34": Article(
            frozenset({_WHEREABOUTS}),
            linked=True,
            person=_PERSON,
            subject_class="sought_for_judicial_procedure",
            cases=MappingProxyType(
                {"a": "witness", "b": "summoned", "c": "to_be_served", "d": "to_serve_penalty"},
            ),
        ),
        "36": Article(
            frozenset({"discreet_check", "inquiry_check", "specific_check"}),
            flags=True,
            person=_PERSON,
            subject_class="to_be_checked",
        ),
        "38": Article(frozenset({"seizure", "evidence"})),
        "24": Article(frozenset({"refuse_entry"}), person=_THIRD_COUNTRY_NATIONAL, subject_class="refused_entry"),
        "25": Article(
            frozenset({"refuse_entry"}), person=_THIRD_COUNTRY_NATIONAL, subject_class="under_restrictive_measure"
        ),
    }
)
"""By number; 24 and 25 of Regulation (EU) 2018/1861, the others of 2018/1862."""

_ON_PERSONS_ALONE = frozenset({"24", "25"})

CODES: Final[Mapping[str, str]] = MappingProxyType(
    {
        **thing_codes("sis", descriptive=False),
        "sis.article_not_supported": "no article under which alerts are taken in",
        "sis.biometric_only": "Article 40, an unknown wanted person: the alert holds fingerprints or palm prints alone",
        "sis.subject_mismatch": "a person and an object in one alert, or one that the article has no alerts on",
        "sis.category_mismatch": "the letter is not the one of this type of object, or the article names another",
        "sis.category_not_allowed": "the article does not allow alerts on this type of object",
        "sis.action_mismatch": "the action is not one of this article",
        "sis.case_mismatch": "the letter is not one of this article; ignored",
        "sis.flag_not_allowed": "the article has no flags; ignored",
        "sis.link_missing": "an alert on an object to locate a person is linked to no other",
    }
)
"""Reason codes of this format, beside those of ``lines`` and of the identifiers."""

_ARTICLE = re.compile(r"([0-9]{2})(?:(?<=38)\(2\)\(([a-r])\))?")

ObjectTypeName = Literal[
    "vehicle", "trailer", "caravan", "industrial_equipment", "boat", "boat_engine", "container", "aircraft",
    "aircraft_engine", "firearm", "blank_document", "issued_document", "vehicle_registration", "banknote", "it_item",
    "vehicle_component", "equipment_component", "high_value_object", "payment_card", "bank_account",
]  # fmt: skip
Action = Literal[
    "arrest_surrender", "arrest_extradition", "place_under_protection", "prevent_from_travelling",
    "communicate_whereabouts", "discreet_check", "inquiry_check", "specific_check", "seizure", "evidence",
    "refuse_entry",
]  # fmt: skip
# From: Article 20(3)(j).
Warning_ = Literal["armed", "violent", "absconded", "suicide_risk", "public_health", "terrorism"]


class SisObject(ObjectKeys):
    """The object that is sought: its type and what identifies it."""

    type: ObjectTypeName


class SisAlert(Dated):
    """One line of the exchange format; ``model_dump_json(exclude_none=True)`` writes it."""

    schengen_id: Reference
    issuing_state: Country
    article: str
    category: Annotated[str, StringConstraints(pattern=r"^[a-r]$")] | None = None
    object: SisObject | None = None
    person: PersonKeys | None = None
    action: Action
    sirene_contact: Text
    authority: Text | None = None
    decision_reference: Text | None = None
    reason: Text | None = None
    offence: Text | None = None
    case: Annotated[str, StringConstraints(pattern=r"^[a-e]$")] | None = None
    case_type: Text | None = None
    warnings: tuple[Warning_, ...] = ()
    flags: Countries = ()
    links: tuple[Reference, ...] = ()
    hidden: StrictBool = False
    updated_at: Time | None = None


_OF_OBJECTS = columns_of(SisObject, "object", names={"type": "object_type"}, optional=True)
COLUMNS: Final[Mapping[str, Column]] = MappingProxyType(
    {
        **columns_of(SisAlert),
        **_OF_OBJECTS,
        **columns_of(
            PersonKeys, "person", names={key: f"person_{key}" for key in PersonKeys.model_fields if key in _OF_OBJECTS}
        ),
    }
)
"""Columns of the CSV form and the keys that they stand for."""


def _refusal(line: Line) -> tuple[str, str] | None:
    """Say why no alert of this article is taken in, before anything else is asked of the line."""
    article = line.document.get("article")
    if not isinstance(article, str):
        return None
    if article == "40":
        return "article", "sis.biometric_only"
    found = _ARTICLE.fullmatch(article)
    return None if found and found[1] in ARTICLES else ("article", "sis.article_not_supported")


def _mismatch(alert: SisAlert, article: Article) -> tuple[tuple[str, ...], str] | None:
    """Return place and code of what does not fit together."""
    if alert.person is None and alert.object is None:
        return ("object" if article.person is None else "person",), "field.missing"
    if alert.person is not None and (alert.object is not None or article.person is None):
        return ("person",), "sis.subject_mismatch"
    if alert.object is not None:
        number, letter = _parts(alert)
        kind = OBJECT_TYPES[alert.object.type]
        if number in _ON_PERSONS_ALONE:
            return ("object",), "sis.subject_mismatch"
        if {letter, alert.category or ""} - {"", kind.category}:
            return ("category",), "sis.category_mismatch"
        if number not in kind.articles:
            return ("object", "type"), "sis.category_not_allowed"
    if alert.action not in article.actions:
        return ("action",), "sis.action_mismatch"
    return None


def _parts(alert: SisAlert) -> tuple[str, str]:
    """Return number of the article and letter of the point; the latter is empty where it is not given."""
    found = _ARTICLE.fullmatch(alert.article)
    assert found is not None, "it was not refused"
    return found[1], found[2] or ""


def _records(alert: SisAlert, line: Line, file: str) -> Iterator[Item]:
    number, _ = _parts(alert)
    article = ARTICLES[number]
    if (mismatch := _mismatch(alert, article)) is not None:
        keys, code = mismatch
        yield Issue(file, line.number, line.place(*keys), code, rejects_record=True)
        return
    draft = Draft(file)
    for wrong, key, code in (
        (alert.flags and not article.flags, "flags", "flag_not_allowed"),
        (alert.case and (alert.person is None or alert.case not in article.cases), "case", "case_mismatch"),
        (alert.object and article.linked and not alert.links, "links", "link_missing"),
    ):
        if wrong:
            draft.report(f"sis.{code}", line=line.number, path=line.place(key))
    if alert.object is not None:
        category, kind, spot = _of_object(number, alert.object.type), KINDS[alert.object.type], Spot(line, ("object",))
        labels = describe(draft, kind, alert.object, spot, system="sis")
        note_all(draft, {Field.OBJECT_TYPE: [alert.object.type], Field.OBJECT_IDENTIFIERS: labels})
    else:
        assert alert.person is not None and article.person is not None, "they fit together"  # noqa: PT018 - one fact
        category, kind, spot = f"sis.person.{number}", article.person, Spot(line, ("person",))
        labels = describe(draft, kind, alert.person, spot, system="sis")
        note_person(draft, alert.person)
        note_papers(draft, alert.person, labels)
        subject_class = article.cases.get(alert.case or "", article.subject_class)
        note_all(draft, {Field.OBJECT_TYPE: ["person"], Field.SUBJECT_CLASS: [subject_class]})
    if not (yield from settled(draft, spot, f"sis.{kind.lacking}")):
        return
    note_all(
        draft,
        {
            Field.ACTION: [alert.action],
            Field.SCHENGEN_ID: [alert.schengen_id],
            Field.ISSUING_STATE: [alert.issuing_state],
            Field.SIRENE_CONTACT: [alert.sirene_contact],
            Field.PROVIDER: [alert.authority],
            Field.DECISION_REFERENCE: [alert.decision_reference],
            Field.ALERT_REASON: [alert.reason, alert.case_type],
            Field.OFFENCE: [alert.offence],
            Field.WARNINGS: alert.warnings,
            Field.FLAGS: alert.flags if article.flags else (),
            Field.LINKS: alert.links,
        },
    )
    yield record_of(
        draft,
        line,
        source=SourceSystem.SIS,
        source_ref=alert.schengen_id,
        category=category,
        valid_until=alert.valid_until,
        hidden=alert.hidden,
        version=version_of(alert.updated_at),
    )


def _of_object(number: str, object_type: str) -> str:
    """Name the category of an alert on an object: where it is sought for itself, the point of the list counts."""
    return f"sis.38.{OBJECT_TYPES[object_type].category}" if number == "38" else f"sis.{number}"


FORMATS = Exchange(
    name="sis",
    source=SourceSystem.SIS,
    description="SIS alerts on persons and objects",
    key="schengen_id",
    time="updated_at",
    line=SisAlert,
    row=SisAlert,
    columns=COLUMNS,
    things=frozenset({"object", "person"}),
    records=_records,
    refusal=_refusal,
).formats()
