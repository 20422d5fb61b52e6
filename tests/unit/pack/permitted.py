"""Everything that the shipped policies permit, asked of the engine: authority, status, purpose, identifier type, category, field.

``python -m tests.unit.pack.permitted`` writes the golden table anew. Read its difference as you would read one of the law: each line is
somebody who may learn something about somebody.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Final

from connector_psi import policy
from connector_psi.domain.naming.judging import Band
from connector_psi.domain.purposes import CATEGORIES, ProfileRole, Purpose, Status
from connector_psi.domain.records import Field, IdentifierType
from connector_psi.errors import ConfigError
from connector_psi.pack.reading import load_policy
from connector_psi.policy import Agreement, PolicyPack, Requires, Template
from connector_psi.protocol.tokens import name_groups

NODES: Final = Path(__file__).resolve().parents[3] / "nodes"
GOLDEN: Final = Path(__file__).parent / "golden" / "permitted.csv"
NOW: Final = datetime(2026, 11, 26, 12, tzinfo=UTC)
COMPLETE: Final = Requires(legal_ref="L", dpia_ref="D", arrangement_ref="A")
NATIONAL: Final = Requires(legal_ref="L", dpia_ref="D", arrangement_ref="A", national_ref="N")


@dataclass(frozen=True, slots=True)
class Variant:
    """A state in which an agreement may be."""

    name: str
    synthetic: bool
    status: Status | None = None
    """Instead of the shipped one."""
    requires: Requires | None = None
    """Instead of the shipped ones."""
    days: int = 0
    """From the day on which is asked; outside the years of an agreement it is not in force."""


VARIANTS: Final = (
    Variant("as shipped, synthetic", synthetic=True),
    Variant("as shipped, real", synthetic=False),
    Variant("references given, real", synthetic=False, requires=COMPLETE),
    Variant("enabled, real", synthetic=False, status=Status.ENABLED),
    Variant("pilot, real", synthetic=False, status=Status.PILOT),
    Variant("pilot with references, real", synthetic=False, status=Status.PILOT, requires=COMPLETE),
    Variant("blocked, synthetic", synthetic=True, status=Status.BLOCKED),
    Variant("blocked, real, references given", synthetic=False, status=Status.BLOCKED, requires=COMPLETE),
    Variant("before its time, synthetic", synthetic=True, days=-10_000),
    Variant("after its time, synthetic", synthetic=True, days=10_000),
)


@dataclass(frozen=True, slots=True, order=True)
class Permitted:
    """One line: who learns what from whom, about which categories, by which identifiers."""

    agreement: str
    querier: str
    owner: str
    status: str
    purpose: str
    alone: str
    """Identifier types of which one token is a match."""
    with_another: str
    """Those that need a second token."""
    names: str
    """Families of name keys that the querier can ask with, and what must agree besides, by the band of the name."""
    fields: str
    categories: str


@dataclass(slots=True)
class Asked:
    """How much of the product was asked, and what was refused for which reason."""

    agreements: int
    """Those that can be made, in each state and direction."""
    allowed: int
    decisions: int
    reasons: set[policy.Reason]


@cache
def packs() -> dict[str, PolicyPack]:
    """The shipped policies, by profile."""
    return {path.parent.name: load_policy(path) for path in sorted(NODES.glob("*/policy.yaml"))}


@cache
def templates() -> dict[str, Template]:
    """Every shipped agreement, once; both sides of one ship the same."""
    found: dict[str, Template] = {}
    for pack in packs().values():
        for template in pack.templates:
            assert found.setdefault(template.code, template) == template, template.code
    return found


def agreements() -> Iterator[tuple[Variant, ProfileRole, ProfileRole, Agreement]]:
    """Everything that two authorities can have with one another, in each state: the engine tells."""
    for variant in VARIANTS:
        for querier in ProfileRole:
            for owner in ProfileRole:
                for agreement in _agreements(variant, querier, owner):
                    yield variant, querier, owner, agreement


def permitted() -> tuple[list[Permitted], Asked]:
    """Ask the engine for the whole product."""
    asked = Asked(0, 0, 0, set())
    found: list[Permitted] = []
    for variant, querier, owner, agreement in agreements():
        asked.agreements += 1
        for purpose in Purpose:
            found += _lines(agreement, variant, querier, owner, purpose, asked)
    return sorted(found), asked


def _agreements(variant: Variant, querier: ProfileRole, owner: ProfileRole) -> Iterator[Agreement]:
    """What two authorities of these roles can have with one another in this direction; the engine tells."""
    for template in templates().values():
        changes = {
            name: value
            for name, value in (("status", variant.status), ("requires", variant.requires))
            if value is not None
        }
        pack = PolicyPack(1, (template.model_copy(update=changes),))
        try:
            fitting = policy.fitting_agreements(pack, ("learner", querier), ("holder", owner), variant.synthetic)
        except ConfigError as error:
            # Real data without a witness: nothing can be agreed. Anything else is a defect.
            if variant.synthetic or "witnesses: at least one outside synthetic data" not in str(error):
                raise
            continue
        yield from (agreement for agreement in fitting if agreement.querier == "learner")
        if pack.templates[0].status is Status.BLOCKED and querier in template.querier and owner in template.owner:
            # Made by hand, as no node would: even so nothing may come of it.
            yield policy.instantiate(pack.templates[0], "learner", "holder", synthetic=variant.synthetic, witnesses=1)


def ask(
    agreement: Agreement,
    variant: Variant,
    purpose: Purpose,
    category: str,
    available: Sequence[Field] = tuple(Field),
    consent: Sequence[Field] = (),
    basis: str = "",
) -> policy.Decision:
    """Decide a case that has all that one can have."""
    return policy.decide(
        agreement,
        purpose=purpose.value,
        legal_basis=basis or agreement.legal_basis[0].value,
        category=category,
        available_fields=available,
        confirmed_by=[f"q{n}" for n in range(agreement.confirm.querier_people)],
        approved_by=[f"o{n}" for n in range(agreement.confirm.owner_people)],
        case_reference="R",
        justification="J",
        now=NOW + timedelta(days=variant.days),
        synthetic=variant.synthetic,
        hidden=False,
        provider_consent=consent,
    )


def _lines(
    agreement: Agreement, variant: Variant, querier: ProfileRole, owner: ProfileRole, purpose: Purpose, asked: Asked
) -> list[Permitted]:
    national = agreement.model_copy(update={"requires": NATIONAL})
    about: dict[tuple[str, ...], list[str]] = {}
    for category in CATEGORIES:
        plain = ask(agreement, variant, purpose, category)
        asked.decisions += 1
        asked.reasons.add(plain.reason)
        if not plain.allowed:
            continue
        asked.allowed += 1
        released = ask(agreement, variant, purpose, category, consent=tuple(Field))
        based = ask(national, variant, purpose, category)
        asked.decisions += 2
        names = {name.value for name in plain.disclosed}
        names |= {f"{name.value} (consent)" for name in set(released.disclosed) - set(plain.disclosed)}
        names |= {f"{name.value} (national basis)" for name in set(based.disclosed) - set(plain.disclosed)}
        about.setdefault(tuple(sorted(names)), []).append(category)
    alone = [t for t in IdentifierType if policy.judge(agreement, [t]) is policy.Verdict.MATCH]
    pairs = {
        t
        for two in combinations_with_replacement(IdentifierType, 2)
        if policy.judge(agreement, two) is policy.Verdict.MATCH and not set(two) & set(alone)
        for t in two
    }
    return [
        Permitted(
            agreement.template,
            querier.value,
            owner.value,
            variant.name,
            purpose.value,
            " ".join(sorted(alone)),
            " ".join(sorted(pairs)),
            _by_name(agreement, querier),
            "; ".join(names),
            " ".join(sorted(categories)),
        )
        for names, categories in about.items()
    ]


def _by_name(agreement: Agreement, querier: ProfileRole) -> str:
    groups = name_groups(agreement, querier)
    if not groups:
        return ""
    besides = (
        f"{band} with {' '.join(sorted(policy._enough_with(agreement, band)))}" for band in (Band.POSSIBLE, Band.STRONG)
    )
    return "; ".join((" ".join(sorted(groups)), *besides))


def encode(lines: Sequence[Permitted]) -> str:
    """The golden table as CSV."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([column.name for column in fields(Permitted)])
    writer.writerows(astuple(line) for line in lines)
    return out.getvalue()


def read() -> list[Permitted]:
    """The golden table."""
    with GOLDEN.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == [column.name for column in fields(Permitted)]
    return [Permitted(*row) for row in rows[1:]]


if __name__ == "__main__":
    GOLDEN.write_text(encode(permitted()[0]), encoding="utf-8")
