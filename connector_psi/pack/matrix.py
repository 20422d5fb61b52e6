"""Who can learn which field about what, on which conditions: policies as tables for people.

Two forms of the same content: ``matrix``, one row for each field, for programs and spreadsheets; and ``sheets``, one
sheet for each agreement, for people. Leaves to others: how they are printed (``page``, the command line).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields

from connector_psi.domain.purposes import RETENTION_YEARS, Condition, OwnerNotice, Status
from connector_psi.pack import words
from connector_psi.policy import OwnPurpose, PolicyPack, Template

OWN_NODE = "own node"


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """One line of the table of who can learn what."""

    agreement: str
    purpose: str
    querier: str
    """Roles that learn; of a purpose of the own node, the people who may."""
    owner: str
    """Roles they learn from, or ``OWN_NODE``."""
    learns_first: str
    category: str
    field: str
    """What is learnt; of the own node, empty where a category is restricted, ``*`` otherwise."""
    condition: str
    status: str
    legal_basis: str
    """Separated by ``; ``."""
    querier_people: int
    """Who must confirm a match, at the side that asks."""
    owner_people: int
    """Who must approve a case, at the side that answers."""
    owner_notice: str
    """``none`` where nobody at the owner is told."""
    grant_people: int
    """Who must grant access before anything is asked; 0 where nobody has to."""
    retention_class: str
    retention_years: int
    max_set_age_h: int
    """Hours that the encoded set lives; 0 on the own node."""


def matrix(packs: Iterable[PolicyPack]) -> list[MatrixRow]:
    """Return who can learn which field about what, one row per agreement, category and field; equal rows once.

    Purposes of the own node come last: a row for what its people may see, and one for each category about which a data
    subject is told nothing but where to turn.
    """
    packs = list(packs)
    rows: dict[MatrixRow, None] = {}
    for template in (template for pack in packs for template in pack.templates):
        rows |= dict.fromkeys(_template_rows(template))
    for own in (own for pack in packs for own in pack.own):
        rows |= dict.fromkeys(_own_rows(own))
    return list(rows)


def _template_rows(template: Template) -> Iterable[MatrixRow]:
    querier, owner = " or ".join(template.querier), " or ".join(template.owner)
    for category in template.categories:
        for name, condition in sorted(template.disclose.items()):
            yield MatrixRow(
                agreement=template.code,
                purpose=template.purpose.value,
                querier=querier,
                owner=owner,
                learns_first=querier,
                category=words.category_words(category),
                field=name.value,
                condition=condition.value,
                status=template.status.value,
                legal_basis="; ".join(template.legal_basis),
                querier_people=template.confirm.querier_people,
                owner_people=template.confirm.owner_people,
                owner_notice=template.owner_notice.value,
                grant_people=template.grant.people if template.grant else 0,
                retention_class=template.retention_class.value,
                retention_years=RETENTION_YEARS[template.retention_class],
                max_set_age_h=template.max_set_age_h,
            )


def _own_rows(own: OwnPurpose) -> Iterable[MatrixRow]:
    people = " or ".join(own.people)
    for category in ("", *own.restricts):
        yield MatrixRow(
            agreement=own.code,
            purpose=own.purpose.value,
            querier=people,
            owner=OWN_NODE,
            learns_first=people,
            category=words.category_words(category) if category else "what the own node holds",
            field="" if category else "*",
            condition="restricted" if category else "",
            status=own.status.value,
            legal_basis="; ".join(own.legal_basis),
            querier_people=1,
            owner_people=0,
            owner_notice="",
            grant_people=0,
            retention_class=own.retention_class.value,
            retention_years=RETENTION_YEARS[own.retention_class],
            max_set_age_h=0,
        )


def encode_csv(rows: Iterable[MatrixRow]) -> str:
    """Return rows as CSV (RFC 4180) with a header; every cell is a word of the vocabulary or a number."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(field.name for field in fields(MatrixRow))
    writer.writerows(astuple(row) for row in rows)
    return file.getvalue()


@dataclass(frozen=True, slots=True)
class Sheet:
    """One agreement, or one purpose of the own node, in words."""

    code: str
    status: Status
    purpose: str
    learner: str
    source: str
    """Whom the learner learns from."""
    facts: tuple[tuple[str, str], ...]
    """What there is to know, as label and text."""
    fields: tuple[tuple[str, str], ...]
    """Condition in words -> the fields under it, in words; empty for the own node."""
    files: tuple[str, ...]
    """The policies that say so, as they were named."""
    own_node: bool = False


def sheets(packs: Iterable[PolicyPack]) -> list[Sheet]:
    """Return each agreement in words, then each purpose of the own node, in the order of the packs; equal ones once.

    A code that two packs give another meaning has a sheet for each.
    """
    found: dict[Template, list[str]] = {}
    owned: dict[tuple[str, str], tuple[OwnPurpose, list[str]]] = {}
    for pack in packs:
        for template in pack.templates:
            found.setdefault(template, []).append(pack.source)
        for own in pack.own:
            owned.setdefault((own.code, own.model_dump_json()), (own, []))[1].append(pack.source)
    return [_sheet(template, files) for template, files in found.items()] + [
        _own_sheet(own, files) for own, files in sorted(owned.values(), key=lambda each: each[0].code)
    ]


def _sheet(template: Template, files: list[str]) -> Sheet:
    learner, source = words.roles_words(template.querier), words.roles_words(template.owner)
    return Sheet(
        code=template.code,
        status=template.status,
        purpose=words.PURPOSE_WORDS[template.purpose],
        learner=learner,
        source=source,
        facts=(
            ("Status", words.status_words(template.status, template.requires.complete)),
            ("Purpose", f"{words.PURPOSE_WORDS[template.purpose]} ({template.purpose.value})"),
            ("Legal basis", words.basis_words(template.legal_basis)),
            ("Who learns", f"{learner}, from {source}; {learner} learns first"),
            ("About", "; ".join(map(words.category_words, template.categories))),
            ("Asked with", "; ".join(map(words.category_words, template.querier_categories))),
            ("Matched by", f"{', '.join(template.identifier_types)}: {words.MATCH_RULE_WORDS[template.match_rule]}"),
            ("Names", words.names_words(template.families, template.names)),
            ("At the match", _at_match(template)),
            ("Needs", _approvals(template, learner, source)),
            ("Owner's notice", _notice(template, source)),
            ("Kept", _kept(template)),
            ("Handling", words.HANDLING_WORDS[template.handling]),
            ("At most", _capacity(template)),
            ("In force", f"{template.valid_from} to {template.valid_until}"),
            ("Named", _references(template)),
        ),
        fields=tuple(
            (
                words.CONDITION_WORDS[condition],
                ", ".join(
                    words.field_words(name) for name, given in sorted(template.disclose.items()) if given is condition
                ),
            )
            for condition in Condition
            if condition in template.disclose.values()
        ),
        files=tuple(files),
    )


def _at_match(template: Template) -> str:
    if not template.category_at_match:
        return "nothing of the owner's record is shown"
    if template.category_at_match == template.categories:
        return "the category of the owner's record is shown before any approval"
    return f"shown before any approval: {'; '.join(map(words.category_words, template.category_at_match))}"


def _approvals(template: Template, learner: str, source: str) -> str:
    asked, answered, grant = template.confirm.querier_people, template.confirm.owner_people, template.grant
    parts = []
    if grant is not None:
        parts.append(
            f"before anything is asked, a grant by {_people(grant.people)} of {source}: at most "
            f"{words.counted(grant.max_identifiers, 'identifier')}, {words.counted(grant.max_hours, 'hour')}"
        )
    parts.append(f"{_people(asked)} of {learner} to confirm the match")
    if answered:
        parts.append(f"{_people(answered)} of {source} to approve the case")
    return "; ".join(parts)


def _people(number: int) -> str:
    return words.counted(number, "person", "people")


def _notice(template: Template, source: str) -> str:
    if template.owner_notice is OwnerNotice.NONE:
        number = words.counted(template.cases_per_slot or 0, "case")
        return f"silent: nobody at {source} is told or asked; {number} leave every slot, real ones and covers"
    return f"people of {source} see every case and answer within {words.counted(template.answer_within_h, 'hour')}"


def _kept(template: Template) -> str:
    return (
        f"what was disclosed, and the log: {words.retention_words(template.retention_class)}; the encoded set: at most "
        f"{words.counted(template.max_set_age_h, 'hour')}; a match can become a case for "
        f"{words.counted(template.case_window_days, 'day')}"
    )


def _capacity(template: Template) -> str:
    parts = []
    for token_class, limit in sorted(template.capacity.items()):
        officer = f", {limit.per_officer_day:,} by one officer" if limit.per_officer_day is not None else ""
        parts.append(
            f"{token_class.label}: {limit.per_day:,} padded elements a day{officer}, {limit.per_year:,} a year"
        )
    return "; ".join(parts)


def _references(template: Template) -> str:
    named = {
        "legal reference": template.requires.legal_ref,
        "impact assessment": template.requires.dpia_ref,
        "arrangement of the controllers": template.requires.arrangement_ref,
        "national law": template.requires.national_ref,
    }
    return "; ".join(f"{name}: {reference or 'none'}" for name, reference in named.items())


def _own_sheet(own: OwnPurpose, files: list[str]) -> Sheet:
    people = words.roles_words(own.people)
    return Sheet(
        code=own.code,
        status=own.status,
        purpose=words.PURPOSE_WORDS[own.purpose],
        learner=people,
        source=OWN_NODE,
        facts=(
            ("Status", words.status_words(own.status, complete=True)),
            ("Purpose", f"{words.PURPOSE_WORDS[own.purpose]} ({own.purpose.value})"),
            ("Legal basis", words.basis_words(own.legal_basis)),
            ("Who may", f"{people}, on the own node, with nobody on the other side"),
            *(
                [
                    (
                        "Restricted",
                        "a data subject is told nothing but where to turn about: "
                        + "; ".join(map(words.category_words, own.restricts)),
                    )
                ]
                if own.restricts
                else []
            ),
            ("Kept", words.retention_words(own.retention_class)),
        ),
        fields=(),
        files=tuple(files),
        own_node=True,
    )
