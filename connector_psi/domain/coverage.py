"""What records can be matched by: how many have which identifiers, in which roles, and how many have enough.

Decides: what counts as enough for a match. Leaves to others: which records are counted (``node.quality`` for what is
stored, ``node.mapping_check`` for what a mapping yields).

Only numbers are kept, and no identifier: counts of the parts of a whole can be added, wherever they come from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from connector_psi.domain.drafts import FREE_TEXT_MARK
from connector_psi.domain.records import IDENTIFIER_TABLE, IdentifierType, Record

COUNTS: Final[Mapping[str, str]] = {
    "records": "all of them",
    "matchable": "have an identifier that suffices alone, or two that suffice together",
    "weak_only": "have one identifier, which needs a second one",
    "names_only": "have no identifier, and a party with a name, which an agreement may match if more agrees",
    "nothing": "have neither",
    "combined_only": "of those that are matchable: have none that suffices alone",
    "incomplete": "their message was cut",
    "hidden": "are never published and never disclosed",
}
"""What is counted; the four after the first add up to it."""


class Coverage:
    """Counts records and the identifiers in them."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(COUNTS, 0))
        """By the names of ``COUNTS``."""
        self.with_type: Counter[str] = Counter()
        """Identifier type -> records that have one."""
        self.values: Counter[str] = Counter()
        """Identifier type -> identifiers, each once a record."""
        self.free_text: Counter[str] = Counter()
        """Identifier type -> of these, those that free text alone holds."""
        self.roles: Counter[tuple[str, str]] = Counter()
        """Identifier type and role -> identifiers."""

    def add(self, record: Record) -> None:
        """Count a record."""
        in_free_text: dict[tuple[IdentifierType, str], bool] = {}
        for identifier in record.identifiers:
            token = (identifier.type, identifier.value)
            marked = identifier.source_path.endswith(FREE_TEXT_MARK)
            in_free_text[token] = marked and in_free_text.get(token, True)
            self.roles[identifier.type.value, identifier.role] += 1
        for (kind, _), marked in in_free_text.items():
            self.values[kind.value] += 1
            self.free_text[kind.value] += marked
        kinds = {kind for kind, _ in in_free_text}
        self.with_type.update(kind.value for kind in kinds)
        self.counts["records"] += 1
        self.counts["incomplete"] += record.incomplete
        self.counts["hidden"] += record.hidden
        if any(IDENTIFIER_TABLE[kind].suffices_alone for kind in kinds):
            self.counts["matchable"] += 1
        elif len(in_free_text) > 1:
            self.counts["matchable"] += 1
            self.counts["combined_only"] += 1
        elif in_free_text:
            self.counts["weak_only"] += 1
        elif record.parties:
            self.counts["names_only"] += 1
        else:
            self.counts["nothing"] += 1

    def as_json(self) -> dict[str, Any]:
        """Return the counts, identifier types in the order of ``IdentifierType``."""
        records = self.counts["records"]
        return {
            **{name: self.counts[name] for name in COUNTS},
            "types": {
                kind.value: {
                    "records": self.with_type[kind.value],
                    "share": round(self.with_type[kind.value] / records, 4),
                    "identifiers": self.values[kind.value],
                    "in_free_text": self.free_text[kind.value],
                    "suffices_alone": IDENTIFIER_TABLE[kind].suffices_alone,
                    "roles": {role: n for (name, role), n in sorted(self.roles.items()) if name == kind.value},
                }
                for kind in IdentifierType
                if self.with_type[kind.value]
            },
        }

    def add_json(self, value: Mapping[str, Any]) -> None:
        """Add the counts of another part, from :meth:`as_json`."""
        for name in COUNTS:
            self.counts[name] += value[name]
        for kind, found in value["types"].items():
            self.with_type[kind] += found["records"]
            self.values[kind] += found["identifiers"]
            self.free_text[kind] += found["in_free_text"]
            for role, n in found["roles"].items():
                self.roles[kind, role] += n
