"""Who can learn which field about what: a pack as a table for people."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from connector_psi.domain.purposes import CATEGORIES
from connector_psi.policy import PolicyPack


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """One line of the table of who can learn what."""

    agreement: str
    purpose: str
    querier: str
    owner: str
    learns_first: str
    category: str
    field: str
    condition: str
    status: str


def matrix(packs: Iterable[PolicyPack]) -> list[MatrixRow]:
    """Return who can learn which field about what, one row per agreement, category and field; equal rows once."""
    rows: dict[MatrixRow, None] = {}
    for template in (template for pack in packs for template in pack.templates):
        querier, owner = " or ".join(template.querier), " or ".join(template.owner)
        for category in template.categories:
            words = f"{category} ({CATEGORIES[category]})"
            for name, condition in sorted(template.disclose.items()):
                rows[
                    MatrixRow(
                        template.code,
                        template.purpose.value,
                        querier,
                        owner,
                        querier,
                        words,
                        name.value,
                        condition.value,
                        template.status.value,
                    )
                ] = None
    return list(rows)
