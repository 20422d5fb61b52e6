"""Taking records in and letting them go: from files through adapters, from systems through the local port, by time.

Decides: that every identifier is brought into its canonical form here once more, whoever sent it, that what cannot be
is kept out and reported, and that a record has what its identifiers imply (a VIN its last eight). One COLLECT entry a
batch, one ALTER entry for what was amended, and one for what left: withdrawn, not named again, or expired.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from connector_psi.audit.entries import Event
from connector_psi.domain.identifiers import implied, normalise
from connector_psi.domain.purposes import CATEGORIES
from connector_psi.domain.records import (
    Identifier,
    IdentifierType,
    Record,
    SourceSystem,
    Supersession,
    message_of,
)
from connector_psi.domain.systems import system_of
from connector_psi.errors import NormalisationError
from connector_psi.node.node import Node
from connector_psi.storage import positions
from connector_psi.storage import records as store
from connector_psi.storage.store import Tx

MAX_IDENTIFIERS = 20_000
MAX_REFERENCE = 200
REJECTED = "rejected"
DECLARATIONS = "declarations"
"""Counted by day: records that were not known before."""
MANY_ARRIVED = 500
"""So many new records are asked with at once, without waiting for the next turn."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one record."""

    outcome: str
    problems: tuple[str, ...] = ()
    """``place: reason code`` of what was kept out."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a source was read, in words of its reader."""

    key: str
    """Names the source among those of this node."""
    text: str = field(repr=False)


class Arrivals:
    """Wakes whoever waits for records, once many have come."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._total = 0
        self._closed = False

    def add(self, count: int) -> None:
        """Note that records came."""
        with self._changed:
            self._total += count
            self._changed.notify_all()

    def wait(self, seen: int, timeout_s: float) -> int:
        """Wait for a time until ``MANY_ARRIVED`` more than ``seen`` have come. Returns how many came so far."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._total - seen >= MANY_ARRIVED, timeout_s)
            return self._total

    def close(self) -> None:
        """Let go of all who wait."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Registration:
    """Use cases of the agency's systems."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.arrivals = Arrivals()

    def register(
        self,
        records: Sequence[Record],
        actor: str,
        supersessions: Sequence[Supersession] = (),
        position: Position | None = None,
    ) -> list[Result]:
        """Register records, then what came to an end with them, in one transaction; durable when it returns.

        Args:
            records: Identifiers may be in any form that their canonical form can be made of.
            actor: URI of the person or system that supplies them; goes into the sealed body.
            supersessions: Of messages whose last record is among these or was registered before.
            position: How far the caller has read its source; kept in the same transaction.

        Returns:
            One result a record, then one a supersession: ``updated`` if records left matching, else ``duplicate``.
        """
        node = self._node
        node.check_alive()
        checked = [canonical(record) for record in records]
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
                if event is Event.COLLECT:
                    node.count(tx, DECLARATIONS, None, len(refs))
            lost = {message_of(record) for record, (kept, _) in zip(records, checked, strict=True) if kept is None}
            results += [
                # A message that was not kept whole takes nothing back.
                Result(store.Outcome.DUPLICATE.value)
                if (item.source, item.message_ref) in lost and not item.withdrawn
                else self._supersede(tx, item, actor)
                for item in supersessions
            ]
            if position is not None:
                positions.keep(node.store, tx, position.key, position.text)
        self.arrivals.add(len(good))
        node.telemetry.registered(Counter(result.outcome for result in results[: len(records)]))
        return results

    def position(self, key: str) -> str | None:
        """Return how far a source was read, None where nothing is noted."""
        self._node.check_alive()
        with self._node.store.read() as tx:
            return positions.find(self._node.store, tx, key)

    def _supersede(self, tx: Tx, item: Supersession, actor: str) -> Result:
        node = self._node
        refs = store.supersede(node.store, tx, item, node.now_ms())
        if refs:
            node.append(
                tx,
                Event.ALTER,
                {
                    "operation": "withdrawal" if item.withdrawn else "replacement",
                    "records": [f"{item.source.value}/{ref}" for ref in refs],
                    "reason": item.reason,
                    "actor": actor,
                },
            )
        return Result((store.Outcome.UPDATED if refs else store.Outcome.DUPLICATE).value)

    def expire(self) -> int:
        """Take out of matching what has expired. Returns how many records left."""
        node = self._node
        node.check_alive()
        with node.store.read() as tx:
            if not store.has_expired(tx, node.now_ms()):
                return 0
        with node.store.write() as tx:
            gone = store.expire(node.store, tx, node.now_ms())
            if gone:
                refs = [f"{source.value}/{ref}" for source, ref in gone]
                node.append(tx, Event.ALTER, {"operation": "expiry", "records": refs})
        return len(gone)

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


def canonical(record: Record) -> tuple[Record | None, tuple[str, ...]]:
    """Return the record as it is kept, or None, and what was kept out of it: ``place: reason code``."""
    if not record.source_ref or len(record.source_ref) > MAX_REFERENCE or len(record.message_ref) > MAX_REFERENCE:
        return None, ("source_ref or message_ref: record.malformed",)
    if len(record.message_digest) != 32:
        return None, ("message_digest: record.malformed",)
    if record.category not in CATEGORIES or not record.category.startswith(system_of(record.source).category_prefix):
        return None, ("category: record.category",)
    if len(record.identifiers) > MAX_IDENTIFIERS:
        return None, ("identifiers: record.too_many",)
    kept: dict[tuple[IdentifierType, str], Identifier] = {}
    problems: list[str] = []
    for position, identifier in enumerate(record.identifiers):
        try:
            value = normalise(identifier.type, identifier.value)
        except NormalisationError as error:
            problems.append(f"identifiers[{position}]: {error.reason}")
            continue
        # The same identifier from two places of one record is one token; the first place is kept.
        kept.setdefault((identifier.type, value), replace(identifier, value=value))
    for identifier in [*kept.values()]:
        for key in implied(identifier.type, identifier.value):
            kept.setdefault(key, replace(identifier, type=key[0], value=key[1]))
    return replace(record, identifiers=tuple(kept.values())), tuple(problems)
