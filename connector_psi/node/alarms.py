"""What people of this authority have to look at: counts by agreement, and nothing about any record or case.

Decides: what is an alarm, and that each is written to the log of the process once while it lasts. Cases that people
must not see raise none.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass

import structlog

from connector_psi import disclosure
from connector_psi.node import caseclock
from connector_psi.node.node import QUERIER, Node
from connector_psi.storage import cases, outbox, queried, recalls, records
from connector_psi.storage.store import Tx
from connector_psi.storage.timemark import GOOD

logger = structlog.get_logger("connector_psi.node")


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that waits for people."""

    code: str
    """``case.answer_overdue``: the time that the agreement sets for an answer is over.
    ``recall.acknowledgement_overdue``: two working days after a recall nobody acknowledged it.
    ``peer.log_forked``: the peer's log signed two histories; nothing is exchanged with it any more.
    ``outbox.parked``: something for a peer was refused or failed again and again, and is not sent by itself any more.
    ``epoch.unfinished``: the set before ended while records still wait to be evaluated anew; nothing finds them yet.
    ``clock.behind``, ``clock.jumped``, of no agreement and side: see ``timekeeping``."""
    agreement: str
    side: str
    count: int


class Alarms:
    """Use cases of whoever keeps an eye on the node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._told: set[tuple[str, str, str]] = set()

    def current(self, tx: Tx) -> list[Alarm]:
        """Return the alarms that stand now, by code, agreement and side."""
        return sorted(
            [
                *self._overdue(tx),
                *self._unacknowledged(tx),
                *self._forked(),
                *self._parked(tx),
                *self._unfinished(tx),
                *self._clock(),
            ],
            key=lambda alarm: (alarm.code, alarm.agreement, alarm.side),
        )

    def tell(self) -> None:
        """Write each new alarm to the log of the process."""
        with self._node.store.read() as tx:
            standing = self.current(tx)
        for alarm in standing:
            if (alarm.code, alarm.agreement, alarm.side) not in self._told:
                logger.warning("alarm", **asdict(alarm))
        self._told = {(alarm.code, alarm.agreement, alarm.side) for alarm in standing}

    def _overdue(self, tx: Tx) -> list[Alarm]:
        """Cases without an answer: 12 hours for SIRENE (2018/1862 Art. 8(3)), 48 for core data (2024/982 Art. 47)."""
        now = self._node.now_ms()
        within = {bound.code: bound.agreement for bound in self._node.agreements()}
        found: Counter[tuple[str, str]] = Counter()
        for side, agreement, opened_ms in cases.opened(tx, [state.value for state in disclosure.WAITING]):
            if agreement in within and now > caseclock.answer_due(within[agreement], opened_ms):
                found[agreement, side] += 1
        return [Alarm("case.answer_overdue", agreement, side, count) for (agreement, side), count in found.items()]

    def _unacknowledged(self, tx: Tx) -> list[Alarm]:
        found = recalls.overdue(tx, self._node.now_ms())
        return [Alarm("recall.acknowledgement_overdue", agreement, side, count) for side, agreement, count in found]

    def _parked(self, tx: Tx) -> list[Alarm]:
        found: Counter[tuple[str, str]] = Counter()
        for side, agreement, count in outbox.parked_counts(tx):
            found[agreement, side] += count
        return [Alarm("outbox.parked", agreement, side, count) for (agreement, side), count in found.items()]

    def _unfinished(self, tx: Tx) -> list[Alarm]:
        now, found = self._node.now_ms(), []
        for bound in self._node.agreements(QUERIER):
            used = queried.sets_in_use(tx, bound.code)
            if not used or used[0].turn_done or any(before.not_after_ms > now for before in used[1:]):
                continue
            newest = used[0]
            left = records.count_remaining(
                tx, until_seq=newest.turn_seq, after=(newest.turn_until_ms, newest.turn_id), now_ms=now
            )
            if left:
                found.append(Alarm("epoch.unfinished", bound.code, bound.side.value, left))
        return found

    def _clock(self) -> list[Alarm]:
        state = self._node.timekeeping.state()
        return [] if state == GOOD else [Alarm(f"clock.{state}", "", "", 1)]

    def _forked(self) -> list[Alarm]:
        node = self._node
        return [Alarm("peer.log_forked", b.code, b.side.value, 1) for b in node.agreements() if node.is_forked(b.peer)]
