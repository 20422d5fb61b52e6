"""Entries by hand: what a node would have logged, with the keys that its bodies have."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from connector_psi.audit.entries import Event, LeafDraft, RetentionClass, Side, erase_after
from connector_psi.domain.records import IdentifierType
from connector_psi.protocol.messages import encode_token
from connector_psi.reports.entry import Entry

CODE = "SIS-OBJ:ics2-sis"
PURPOSE = "cpsi:ObjectSeizureOrEvidence"
BASIS = "2018/1862:38"
SYSTEM = "urn:connector-psi:authority:ics2"
MONDAY = datetime(2026, 2, 2, 9, 0, tzinfo=UTC)


def officer(number: int = 1, role: str = "officer") -> str:
    return f"urn:connector-psi:person:ics2:{role}:{role}{number}"


def digest(*parts: object) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()


def token(kind: IdentifierType, value: str) -> str:
    return encode_token("1", kind, value).hex()


def box(serial: int, owner: str = "MSCU") -> tuple[IdentifierType, str]:
    """A container number; the check digit is none, and nothing that is tested reads it."""
    return IdentifierType.CONTAINER, f"{owner}{serial:06d}{serial * 7 % 10}"


@dataclass
class Book:
    """A log that grows."""

    entries: list[Entry] = field(default_factory=list)

    def add(self, event: Event, ts: datetime, body: Mapping[str, Any] | None, **leaf: Any) -> Entry:
        given: dict[str, Any] = {"agreement": CODE, "side": Side.QUERIER, "purpose": PURPOSE, **leaf}
        retention = RetentionClass.SIS_3Y
        made = LeafDraft(event=event, retention_class=retention, **given).complete(
            ts=ts, erase_after=erase_after(retention, ts), body_commit=bytes(32)
        )
        entry = Entry(len(self.entries), made, body)
        self.entries.append(entry)
        return entry

    def in_time(self) -> list[Entry]:
        """Numbered as they would stand in a log."""
        ordered = sorted(self.entries, key=lambda entry: entry.leaf.ts)
        return [Entry(index, entry.leaf, entry.body) for index, entry in enumerate(ordered)]

    def consult(
        self,
        ts: datetime,
        declared: Mapping[str, Sequence[tuple[IdentifierType, str]]],
        actor: str = SYSTEM,
        **said: Any,
    ) -> Entry:
        tokens = list(dict.fromkeys(token(*each) for of_one in declared.values() for each in of_one))
        body = {
            "operation": "consultation",
            "actor": actor,
            "records": sorted(declared),
            "tokens": tokens,
            "digests": [digest(ref).hex() for ref in declared],
            "held": [[tokens.index(token(*each)) for each in of_one] for of_one in declared.values()],
            **said,
        }
        return self.add(
            Event.CONSULT, ts, body, n_padded=max(8, len(tokens)), actor_commitment=digest(actor, ts.date())
        )

    def review(self, ts: datetime, who: str, match: str, *, confirm: bool = True, record: str = "") -> Entry:
        body = {
            "operation": "consultation",
            "decision": "confirmed" if confirm else "dismissed",
            "match": match,
            "record": record or f"R{match}",
            "officer": who,
            "reason": "a reason",
        }
        return self.add(Event.REVIEW, ts, body, actor_commitment=digest(CODE, who, ts.date()))

    def case(self, ts: datetime, who: str, match: str, *, record: str = "") -> Entry:
        body = {
            "operation": "consultation",
            "executing_officer": who,
            "match": match,
            "record": record or f"R{match}",
        }
        return self.add(Event.CASE_OPEN, ts, body, legal_basis=BASIS, request_id=digest("case", match)[:16])

    def receipt(self, ts: datetime, match: str, outcome: str = "DISCLOSED") -> Entry:
        body = {"operation": "collection", "outcome": outcome}
        return self.add(Event.RECEIPT, ts, body, legal_basis=BASIS, request_id=digest("case", match)[:16])

    def outcome(self, ts: datetime, number: int, decision: str, refusal: Mapping[str, Any] | None = None) -> Entry:
        body = {"operation": "consultation", "decision": decision, "refusal": refusal}
        return self.add(Event.CASE_OUTCOME, ts, body, side=Side.OWNER, request_id=digest(number)[:16])

    def log_read(self, ts: datetime, who: str, count: int = 20, reason: str = "the yearly audit") -> Entry:
        body = {"operation": "audit_sample", "code": "DPO-AUD", "actor": who, "reason": reason, "count": count}
        return self.add(Event.LOG_READ, ts, body, agreement=None, side=None, purpose="cpsi:Oversight")

    def search(self, ts: datetime, who: str, *identifiers: str) -> Entry:
        body = {
            "operation": "consultation",
            "code": "DSR",
            "actor": who,
            "identifiers": [digest(each).hex() for each in identifiers],
        }
        return self.add(Event.CONSULT, ts, body, agreement=None, side=None, purpose="cpsi:DataSubjectRights")

    def recall(self, ts: datetime, operation: str, number: int, side: Side = Side.QUERIER, **said: Any) -> Entry:
        return self.add(
            Event.RECALL, ts, {"operation": operation, **said}, side=side, request_id=digest("recall", number)[:16]
        )


def office_days(number: int, start: datetime = MONDAY) -> list[datetime]:
    """Midnight of so many days from Monday to Friday."""
    days: list[datetime] = []
    day = start.replace(hour=0)
    while len(days) < number:
        if day.weekday() < 5:
            days.append(day)
        day += timedelta(days=1)
    return days
