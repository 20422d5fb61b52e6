"""Taking records in: from files through adapters, from systems through the local port.

Decides: that every identifier is brought into its canonical form here once more, whoever sent it, and that what cannot
be is kept out and
reported. One COLLECT entry a batch, one ALTER entry for what was amended or withdrawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from connector_psi.audit.entries import Event
from connector_psi.domain.identifiers import normalise
from connector_psi.domain.records import Identifier, Record, SourceSystem
from connector_psi.errors import NormalisationError
from connector_psi.node.node import Node
from connector_psi.storage import records as store

MAX_IDENTIFIERS = 20_000
REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one record."""

    outcome: str
    problems: tuple[str, ...] = ()
    """``place: reason code`` of what was kept out."""


class Registration:
    """Use cases of the agency's systems."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def register(self, records: Sequence[Record], actor: str) -> list[Result]:
        """Register records in one transaction; durable when it returns.

        Args:
            records: Identifiers may be in any form that their canonical form can be made of.
            actor: URI of the person or system that supplies them; goes into the sealed body.

        Returns:
            One result a record, in order.
        """
        node = self._node
        node.check_alive()
        checked = [_canonical(record) for record in records]
        good = [record for record, _ in checked if record is not None]
        with node.store.write() as tx:
            outcomes = iter(store.put(node.store, tx, good, node.now_ms()))
            results = [
                Result(REJECTED, problems) if record is None else Result(next(outcomes).value, problems)
                for record, problems in checked
            ]
            for event, outcome in ((Event.COLLECT, store.Outcome.ACCEPTED), (Event.ALTER, store.Outcome.UPDATED)):
                refs = [
                    f"{record.source.value}/{record.source_ref}"
                    for (record, _), result in zip(checked, results, strict=True)
                    if record is not None and result.outcome == outcome.value
                ]
                if refs:
                    node.append(tx, event, {"operation": event.name.lower(), "records": refs, "actor": actor})
        return results

    def withdraw(self, source: SourceSystem, source_ref: str, reason: str, actor: str) -> bool:
        """Take a record out of matching and disclosure. Returns whether it was there."""
        node = self._node
        node.check_alive()
        with node.store.write() as tx:
            found = store.withdraw(node.store, tx, source, source_ref, node.now_ms())
            if found is not None:
                node.append(
                    tx,
                    Event.ALTER,
                    {
                        "operation": "withdrawal",
                        "records": [f"{source.value}/{source_ref}"],
                        "reason": reason,
                        "actor": actor,
                    },
                )
        return found is not None


def _canonical(record: Record) -> tuple[Record | None, tuple[str, ...]]:
    if not record.source_ref or len(record.source_ref) > 200 or len(record.message_digest) != 32:
        return None, ("source_ref or message_digest: record.malformed",)
    if len(record.identifiers) > MAX_IDENTIFIERS:
        return None, ("identifiers: record.too_many",)
    kept: dict[tuple[str, str], Identifier] = {}
    problems: list[str] = []
    for position, identifier in enumerate(record.identifiers):
        try:
            value = normalise(identifier.type, identifier.value)
        except NormalisationError as error:
            problems.append(f"identifiers[{position}]: {error.reason}")
            continue
        # The same identifier from two places of one record is one token; the first place is kept.
        kept.setdefault((identifier.type.value, value), replace(identifier, value=value))
    return replace(record, identifiers=tuple(kept.values())), tuple(problems)
