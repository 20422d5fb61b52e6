"""The data protection officer's samples: which exchanges are looked at, and what is said of their justifications.

Rules:

1. What is drawn is ranked by the root of a checkpoint that is later than all of it: nobody, neither the node nor who
   draws, could choose. Every exchange that came to an outcome takes part, at both sides, with the answers to requests
   for access, and also where the owner gets no notice: covers take part too, for nothing tells them from others.
2. A draw, and each grade, is an entry of the log in the transaction of what it records.
3. Drawing and grading are for the data protection officer alone. Auditors see what was drawn and its grades, without
   notes, and nothing of the owner's side of an agreement of which the owner gets no notice.
4. What was drawn goes with the body of its outcome (``retention``): grade and note are about what that body says.

Leaves to others: what is shown of an exchange (``dossiers``), opening bodies (``oversight``). Whether the log's index,
which names the exchanges, has all of them, a draw does not check.
"""

from __future__ import annotations

import hashlib
import heapq
import threading
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from connector_psi.audit.checkpoint import Checkpoint, verify_checkpoint
from connector_psi.audit.entries import Event, Side, parse_leaf
from connector_psi.disclosure import Grade
from connector_psi.domain.purposes import Purpose
from connector_psi.errors import (
    ApprovalMissingError,
    ConflictError,
    InputError,
    PurposeRefusedError,
    StorageError,
    UnavailableError,
)
from connector_psi.node.node import Node
from connector_psi.node.oversight import Oversight
from connector_psi.pki import PersonIdentity, Role
from connector_psi.policy import OwnPurpose, own_purpose
from connector_psi.storage import samples as store
from connector_psi.storage.samples import Candidate, SampleRow
from connector_psi.storage.store import Tx

MAX_COUNT: Final = 100
MAX_NOTE: Final = 4_000
PAGE: Final = 100
OUTCOMES: Final = frozenset({(Event.CASE_OUTCOME.value, Side.OWNER.value), (Event.RECEIPT.value, Side.QUERIER.value)})
"""Event and side of the entries that are outcomes."""
_DRAW: Final = b"connector-psi/v1 case sample\n"
_NOTED: Final = frozenset({Grade.THIN, Grade.INADEQUATE})


@dataclass(frozen=True, slots=True)
class SampleView:
    """An exchange that was drawn, as whoever oversees sees it. Times are Unix milliseconds."""

    request_id: bytes
    side: str
    agreement: str
    purpose: str
    kind: Literal["case", "access"]
    """Whether a disclosure was asked for, or access by case."""
    outcome_index: int
    """Of its outcome in the log."""
    drawn_ms: int
    checkpoint_size: int
    """Of the checkpoint whose root drew it."""
    graded: Grade | None
    graded_ms: int | None
    note: str = field(default="", repr=False)
    """For the data protection officer alone."""
    by: str = field(default="", repr=False)
    """Who graded it; for the data protection officer alone."""


class Grading:
    """Use cases of samples."""

    def __init__(self, node: Node, oversight: Oversight) -> None:
        self._node = node
        self._oversight = oversight
        self._drawing = threading.Lock()

    def draw(self, person: PersonIdentity, count: int) -> int:
        """Draw exchanges that were not drawn yet, and queue them.

        Args:
            person: A data protection officer.
            count: How many, 1 to 100; all there are if there are fewer.

        Returns:
            How many were queued.

        Raises:
            PurposeRefusedError: The policy's purpose of oversight does not name the person, or it is another role.
            InputError: The count is out of range.
            UnavailableError: No checkpoint is signed yet.

        Cost: One row of an index and one SHA-256 for each outcome that is not drawn yet.
        """
        node = self._node
        own = self._officer(person)
        if not 0 < count <= MAX_COUNT:
            raise InputError("a sample of 1 to 100")
        # One draw at a time, so that two do not draw the same; and no writer waits while what there is is ranked.
        with self._drawing:
            with node.store.read() as tx:
                note = node.entries.latest_checkpoint(tx)
                if note is None:
                    raise UnavailableError("no checkpoint is signed yet")
                checkpoint = verify_checkpoint(note, node.signer.vkey, node.signer.name)
                found = heapq.nsmallest(
                    count,
                    store.candidates(tx, OUTCOMES, checkpoint.size),
                    key=lambda c: (rank(checkpoint.root, c.request_id), c.index),
                )
            with node.store.write() as tx:
                for candidate in found:
                    store.put_sample(node.store, tx, self._sample(tx, candidate, checkpoint))
                node.append(
                    tx,
                    Event.LOG_READ,
                    {
                        "operation": "sample drawn",
                        "code": own.code,
                        "actor": person.uri,
                        "checkpoint_size": checkpoint.size,
                        "root": checkpoint.root.hex(),
                        # Not "count": that is how many bodies an entry opened.
                        "drawn": len(found),
                        "asked_for": count,
                        "request_ids": [candidate.request_id.hex() for candidate in found],
                    },
                    purpose=own.purpose.value,
                )
        return len(found)

    def _sample(self, tx: Tx, candidate: Candidate, checkpoint: Checkpoint) -> SampleRow:
        node, index = self._node, candidate.index
        # What was hashed, whatever the index says.
        leaf = parse_leaf(node.read_leaves(tx, index, index + 1)[0])
        if (leaf.event.value, leaf.side) not in OUTCOMES or leaf.request_id != candidate.request_id:
            raise StorageError("the log's index was changed outside this program")
        return SampleRow(
            request_id=candidate.request_id,
            side=candidate.side,
            agreement=candidate.agreement,
            outcome_index=index,
            drawn_ms=node.now_ms(),
            checkpoint_size=checkpoint.size,
            state=store.OPEN,
            graded_ms=None,
            payload={
                "purpose": leaf.purpose or "",
                # A case asks of a set; access is asked for before there is one.
                "kind": "access" if leaf.epoch is None else "case",
            },
        )

    def queue(
        self, person: PersonIdentity, *, state: str = "open", limit: int = 50, offset: int = 0
    ) -> list[SampleView]:
        """Return what was drawn, the oldest draw first, at most 100.

        Args:
            person: A data protection officer or an auditor.
            state: ``open``, ``graded``, or empty for both.
            limit: At most so many.
            offset: Behind so many.

        Raises:
            PurposeRefusedError: The policy's purpose of oversight does not name the person, or it is another role.
            InputError: No such state, or a number out of range.
        """
        told = self._told(person)
        if state not in {store.OPEN, store.GRADED, ""} or limit < 1 or offset < 0:
            raise InputError("samples: no such state or page")
        node = self._node
        with node.store.read() as tx:
            rows = store.list_samples(node.store, tx, state=state, told=told, limit=min(limit, PAGE), offset=offset)
        return [sample_view(row, person.role) for row in rows]

    def counts(self, person: PersonIdentity) -> dict[str, int]:
        """Return how many of those that the person may see are ``open`` and how many are ``graded``.

        Raises:
            PurposeRefusedError: As for ``queue``.
        """
        told = self._told(person)
        with self._node.store.read() as tx:
            return {store.OPEN: 0, store.GRADED: 0, **store.count_samples(tx, told)}

    def grade(
        self, person: PersonIdentity, request_id: bytes, grade: Grade, note: str = "", *, agreement: str = ""
    ) -> SampleView:
        """Grade the justification of an exchange that was drawn; it may be graded again.

        Args:
            person: A data protection officer.
            request_id: Of the exchange.
            grade: What the person thinks of it.
            note: Why; required where it is not adequate. Sealed.
            agreement: Which one is meant, where peers chose the same id; empty where there is one.

        Raises:
            PurposeRefusedError: The policy's purpose of oversight does not name the person, or it is another role; or
                nothing was drawn under the id.
            ApprovalMissingError: A note is needed.
            InputError: A note of over 4,000 characters.
            ConflictError: There are several under the id.
        """
        node = self._node
        own = self._officer(person)
        if grade in _NOTED and not note.strip():
            raise ApprovalMissingError("a note is needed")
        if len(note) > MAX_NOTE:
            raise InputError("a note of at most 4,000 characters")
        with node.store.write() as tx:
            rows = store.samples_of(node.store, tx, request_id)
            rows = [row for row in rows if agreement in {"", row.agreement}]
            if not rows:
                raise PurposeRefusedError("no such sample")
            if len(rows) > 1:
                raise ConflictError("several samples are of this id; name the agreement")
            row = replace(
                rows[0],
                state=store.GRADED,
                graded_ms=node.now_ms(),
                payload={**rows[0].payload, "grade": grade.value, "note": note, "by": person.uri},
            )
            store.update_sample(node.store, tx, row)
            node.append(
                tx,
                Event.LOG_READ,
                {
                    "operation": "justification graded",
                    "code": own.code,
                    "actor": person.uri,
                    "grade": grade.value,
                    "note": note,
                    "agreement": row.agreement,
                    "index": row.outcome_index,
                },
                purpose=own.purpose.value,
                request_id=request_id,
            )
        return sample_view(row, person.role)

    def _officer(self, person: PersonIdentity) -> OwnPurpose:
        node = self._node
        node.check_alive()
        own = own_purpose(node.pack, Purpose.OVERSIGHT, person.role.value)
        if person.role is not Role.DPO:
            raise PurposeRefusedError("samples are drawn and graded by data protection officers")
        return own

    def _told(self, person: PersonIdentity) -> Collection[str] | None:
        node = self._node
        node.check_alive()
        own_purpose(node.pack, Purpose.OVERSIGHT, person.role.value)
        if person.role not in {Role.DPO, Role.AUDITOR}:
            # A supervisor decides cases, and would know which of them are looked at.
            raise PurposeRefusedError("samples are for data protection officers and auditors")
        return self._oversight.told(person.role)


def rank(root: bytes, request_id: bytes) -> bytes:
    """Return the place of an exchange in a draw, 32 bytes; the smallest are drawn.

    Args:
        root: Of the checkpoint, later than the exchange.
        request_id: Of the exchange.
    """
    return hashlib.sha256(_DRAW + root + request_id).digest()


def sample_view(row: SampleRow, role: Role) -> SampleView:
    """Return a sample as a role sees it."""
    p, officer = row.payload, role is Role.DPO
    return SampleView(
        request_id=row.request_id,
        side=row.side,
        agreement=row.agreement,
        purpose=p["purpose"],
        kind=p["kind"],
        outcome_index=row.outcome_index,
        drawn_ms=row.drawn_ms,
        checkpoint_size=row.checkpoint_size,
        graded=Grade(p["grade"]) if "grade" in p else None,
        graded_ms=row.graded_ms,
        note=p.get("note", "") if officer else "",
        by=p.get("by", "") if officer else "",
    )
