"""How long bodies of the log stay: erased at their time, kept beyond it by a hold alone.

Rules:

1. A body goes at the ``erase_after`` of its leaf, with its salt and its key; a PURGE entry in the same transaction says
   how many and which. The leaf stays, and so do root and proofs.
2. A wrapping key is destroyed once its month is over and nothing is wrapped by it any more. From then on what it
   wrapped is gone from backups too.
3. A hold names the monitoring procedure that it is for and ends on a day; who needs it longer renews it. It covers the
   entries about one request, of one agreement, or all. HOLD entries say when it was placed, renewed, and how it ended.
4. What was deleted is overwritten in the database and in its write-ahead log before the turn counts as done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final, Literal

import structlog

from connector_psi.audit.entries import Event, Leaf, parse_leaf
from connector_psi.disclosure import is_silent
from connector_psi.domain.purposes import Purpose
from connector_psi.errors import (
    ApprovalMissingError,
    ConflictError,
    InputError,
    PurposeRefusedError,
)
from connector_psi.node.node import Node, from_millis, millis
from connector_psi.pki import PersonIdentity, Role
from connector_psi.policy import own_purpose
from connector_psi.storage import retention as store
from connector_psi.storage.retention import LAPSED, PLACED, RELEASED, HoldRow
from connector_psi.storage.samples import forget_samples
from connector_psi.storage.schedule import count_due
from connector_psi.storage.store import Tx

logger = structlog.get_logger("connector_psi.node")

CHUNK: Final = 1_000
MAX_TEXT: Final = 4_000
MAX_PROCEDURE: Final = 200
MAX_HOLD_DAYS: Final = 366
"""A hold that nobody renews for so long is nobody's."""
LATE_S: Final = 86_400
"""A body that is there so long after its time, and that nothing holds, is a failure of the node."""
KEEPERS: Final = frozenset({Role.DPO, Role.AUDITOR})
SCHEDULE_MONTHS: Final = 12


@dataclass(frozen=True, slots=True)
class DueBodies:
    """How many bodies of the log are to be erased in one span of time."""

    kind: Literal["overdue", "month", "later"]
    """``overdue``: their time is over; the job is due within the hour, or a hold keeps them."""
    month: str
    """``YYYY-MM`` of ``month``, UTC; else empty."""
    bodies: int


class Retention:
    """Use cases of the daily job, and of the people who keep it from something."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._remains = True

    # The job

    def run(self) -> int:
        """Erase every body whose time is over and that nothing holds. Returns how many.

        While the clock is in doubt nothing is.

        Raises:
            UnavailableError: The store or the keys cannot be written now; the next turn goes on.
        """
        node = self._node
        node.check_alive()
        if not node.timekeeping.may_erase():
            return 0
        self._lapse()
        done, last = 0, -1
        while True:
            with node.store.write() as tx:
                holds = store.list_holds(node.store, tx, PLACED)
                found = store.due(tx, node.now_ms() // 1000, last, CHUNK)
                leaves = {index: parse_leaf(raw) for index, raw, _ in found}
                # The leaf says when, not the column that finds it.
                now = node.clock.now()
                gone = [i for i, leaf in leaves.items() if leaf.erase_after <= now and not _is_held(leaf, holds)]
                if gone:
                    store.erase(tx, gone)
                    # What was said of it says what was in it.
                    forget_samples(tx, gone)
                    self._log_purge(tx, [leaves[index] for index in gone], gone)
            done += len(gone)
            if len(found) < CHUNK:
                break
            last = found[-1][0]
        self._destroy_keys()
        if done:
            self._remains = True
        if self._remains and node.store.drop_remains():
            self._remains = False
        return done

    def _log_purge(self, tx: Tx, leaves: Sequence[Leaf], gone: Sequence[int]) -> None:
        self._node.append(
            tx,
            Event.PURGE,
            {
                "operation": "erasure",
                "bodies": len(gone),
                "entries": _ranges(gone),
                "classes": dict(sorted(Counter(leaf.retention_class.value for leaf in leaves).items())),
            },
        )

    def _destroy_keys(self) -> None:
        node = self._node
        keys = node.keyring.month_keys()
        month = f"{node.clock.now():%Y-%m}"
        for key_id in keys.key_ids():
            if key_id[:7] >= month:
                continue
            with node.store.read() as tx:
                if store.is_key_used(tx, key_id):
                    continue
            keys.destroy(key_id)

    def late(self, tx: Tx) -> int:
        """Return how many bodies are there a day after their time although nothing holds them."""
        node = self._node
        holds = store.list_holds(node.store, tx, PLACED)
        late, last = 0, -1
        while found := store.due(tx, node.now_ms() // 1000 - LATE_S, last, CHUNK):
            late += sum(not _is_held(parse_leaf(raw), holds) for _, raw, _ in found)
            last = found[-1][0]
        return late

    def schedule(self, person: PersonIdentity) -> list[DueBodies]:
        """Return how many bodies are to be erased when: what is overdue, this month and the eleven after it, later.

        What holds keep is counted at its time: a hold may end before it.

        Raises:
            PurposeRefusedError: The policy does not let the person.

        Cost: One walk over an index of the times.
        """
        self._check_keeper(person)
        now = self._node.clock.now()
        starts = [_month(now.year, now.month + n) for n in range(SCHEDULE_MONTHS + 1)]
        # The first is what is over now, the second begins with this second.
        ends = [int(now.timestamp()) + 1, *(int(start.timestamp()) for start in starts[1:])]
        with self._node.store.read() as tx:
            overdue, *months, later = count_due(tx, ends)
        return [
            DueBodies("overdue", "", overdue),
            *(DueBodies("month", f"{start:%Y-%m}", n) for start, n in zip(starts[:-1], months, strict=True)),
            DueBodies("later", "", later),
        ]

    # Holds

    def place(
        self,
        person: PersonIdentity,
        *,
        procedure: str,
        until: date,
        reason: str,
        request_id: bytes = b"",
        agreement: str = "",
    ) -> HoldRow:
        """Keep bodies beyond their time.

        Args:
            person: A data protection officer or an auditor.
            procedure: Of the monitoring, in the files of whoever monitors.
            until: Last day, UTC.
            reason: Why they are needed.
            request_id: Of the query or case whose entries are held; empty for others.
            agreement: Whose entries are held: its code, or that of a template for all of its agreements; empty for
                others. With neither, all entries are.

        Raises:
            PurposeRefusedError: The policy does not let the person.
            ApprovalMissingError: No procedure or no reason.
            InputError: A text that is too long, a day that is past or over a year away, or nothing that is held.
        """
        node = self._node
        self._check(person, reason)
        if not procedure.strip():
            raise ApprovalMissingError("the monitoring procedure is needed")
        if len(procedure) > MAX_PROCEDURE:
            raise InputError("procedure: more than 200 characters")
        if request_id and agreement:
            raise InputError("a hold is about one request or about one agreement")
        now = node.now_ms()
        row = HoldRow(
            hold_id=node.random.bytes(8).hex(),
            state=PLACED,
            placed_ms=now,
            until_ms=self._until(until),
            request_id=request_id or None,
            agreement=agreement or None,
            payload={"procedure": procedure, "by": person.uri, "reason": reason, "renewed": []},
        )
        if not self._covered(row):
            raise InputError("the hold covers no entry: no leaf of this log is of that request or agreement")
        self._keep(row, "placed", person, reason)
        return row

    def renew(self, hold_id: str, person: PersonIdentity, *, until: date, reason: str) -> HoldRow:
        """Let a hold end later.

        Raises:
            PurposeRefusedError: The policy does not let the person, or there is no such hold.
            ConflictError: It ended already; place another.
            ApprovalMissingError: No reason.
            InputError: A reason that is too long, or a day that is past or over a year away.
        """
        self._check(person, reason)
        row = self._placed(hold_id, person)
        renewals = [*row.payload["renewed"], {"by": person.uri, "reason": reason, "at": self._node.now_ms()}]
        row = replace(row, until_ms=self._until(until), payload={**row.payload, "renewed": renewals})
        self._keep(row, "renewed", person, reason)
        return row

    def release(self, hold_id: str, person: PersonIdentity, *, reason: str) -> HoldRow:
        """End a hold now, and erase what it kept beyond its time.

        Raises:
            PurposeRefusedError: The policy does not let the person, or there is no such hold.
            ConflictError: It ended already.
            ApprovalMissingError: No reason.
            InputError: A reason that is too long.
        """
        self._check(person, reason)
        row = replace(self._placed(hold_id, person), state=RELEASED)
        self._keep(row, "released", person, reason)
        # What it kept beyond its time is not late for the rest of the hour.
        self.run()
        return row

    def holds(self, person: PersonIdentity) -> list[dict[str, Any]]:
        """Return the holds that a person may know of, also those that ended, oldest first.

        An auditor does not see those of others about one request, or about an agreement of which this authority gets
        no notice: they could be about a case that is for the data protection officer alone.

        Raises:
            PurposeRefusedError: The policy does not let the person.
        """
        self._check_keeper(person)
        with self._node.store.read() as tx:
            rows = store.list_holds(self._node.store, tx)
        return [hold_json(row) for row in rows if self._may_know(row, person)]

    def _may_know(self, row: HoldRow, person: PersonIdentity) -> bool:
        if person.role is Role.DPO or row.payload["by"] == person.uri:
            return True
        told = {
            code
            for b in self._node.agreements()
            if not is_silent(b.agreement)
            for code in (b.code, b.agreement.template)
        }
        return row.request_id is None and row.agreement in {None, *told}

    def _covered(self, row: HoldRow) -> bool:
        """Whether there is an entry that the hold is about."""
        node, start = self._node, 0
        while True:
            with node.store.read() as tx:
                leaves = node.entries.read_leaves(tx, start, start + CHUNK)
            if any(_is_held(parse_leaf(raw), [row]) for raw in leaves):
                return True
            if len(leaves) < CHUNK:
                return False
            start += CHUNK

    def _lapse(self) -> None:
        node = self._node
        with node.store.read() as tx:
            over = [row for row in store.list_holds(node.store, tx, PLACED) if row.until_ms <= node.now_ms()]
        for row in over:
            self._keep(replace(row, state=LAPSED), "lapsed", None, "")

    def _check_keeper(self, person: PersonIdentity) -> None:
        self._node.check_alive()
        own_purpose(self._node.pack, Purpose.OVERSIGHT, person.role.value)
        if person.role not in KEEPERS:
            raise PurposeRefusedError("holds are for data protection officers and auditors")

    def _check(self, person: PersonIdentity, reason: str) -> None:
        self._check_keeper(person)
        if not reason.strip():
            raise ApprovalMissingError("a reason is needed")
        if len(reason) > MAX_TEXT:
            raise InputError("a reason of at most 4,000 characters")

    def _placed(self, hold_id: str, person: PersonIdentity) -> HoldRow:
        with self._node.store.read() as tx:
            row = store.get_hold(self._node.store, tx, hold_id)
        if row is None or not self._may_know(row, person):
            raise PurposeRefusedError("no such hold")
        if row.state != PLACED:
            raise ConflictError(f"the hold is {row.state}; place another")
        return row

    def _until(self, until: date) -> int:
        now = self._node.clock.now()
        if until > now.date() + timedelta(days=MAX_HOLD_DAYS):
            raise InputError(f"until: a day from today on, at most {MAX_HOLD_DAYS} days ahead")
        end = datetime.combine(until + timedelta(days=1), time(), UTC)
        if not now < end <= now + timedelta(days=MAX_HOLD_DAYS):
            raise InputError(f"until: a day from today on, at most {MAX_HOLD_DAYS} days ahead")
        return millis(end)

    def _keep(self, row: HoldRow, action: str, person: PersonIdentity | None, reason: str) -> None:
        node = self._node
        with node.store.write() as tx:
            store.put_hold(node.store, tx, row)
            node.append(
                tx,
                Event.HOLD,
                {
                    "operation": f"hold {action}",
                    "procedure": row.payload["procedure"],
                    "until": from_millis(row.until_ms).isoformat(),
                    "covers": _covers(row),
                    "actor": person.uri if person else "",
                    "reason": reason,
                },
                hold=row.hold_id,
                purpose=Purpose.OVERSIGHT.value,
            )


def hold_json(row: HoldRow) -> dict[str, Any]:
    """Return a hold as it is shown."""
    return {
        "hold": row.hold_id,
        "state": row.state,
        "procedure": row.payload["procedure"],
        "placed": from_millis(row.placed_ms).isoformat(),
        "until": from_millis(row.until_ms).isoformat(),
        "covers": _covers(row),
        "by": row.payload["by"],
        "reason": row.payload["reason"],
        "renewed": len(row.payload["renewed"]),
    }


def _month(year: int, month: int) -> datetime:
    """The beginning of a month; those beyond December are of the next year."""
    years, month0 = divmod(month - 1, 12)
    return datetime(year + years, month0 + 1, 1, tzinfo=UTC)


def _covers(row: HoldRow) -> str:
    if row.request_id is not None:
        return f"request {row.request_id.hex()}"
    return f"agreement {row.agreement}" if row.agreement else "all entries"


def _is_held(leaf: Leaf, holds: Sequence[HoldRow]) -> bool:
    return any(
        row.request_id in {leaf.request_id, leaf.parent_id}
        if row.request_id is not None
        else row.agreement in {None, leaf.agreement, (leaf.agreement or "").partition(":")[0]}
        for row in holds
    )


def _ranges(indexes: Sequence[int]) -> list[list[int]]:
    """First and last of each run."""
    runs: list[list[int]] = []
    for index in indexes:
        if runs and runs[-1][1] == index - 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return runs
