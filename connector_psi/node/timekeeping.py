"""The time of a node: it never goes back, and what cannot be undone does not happen by a clock that nobody else has.

Rules:

1. The time is that of the machine, or the high-water mark where the machine is behind it. The mark is kept in the
   store, so that a clock that is put back, or a restart, makes nothing young again: what expired stays expired.
2. Up to 120 seconds behind, which clocks may differ by, time stands still until the machine has caught up. Beyond that
   the node answers nothing that depends on time, writes a CLOCK entry, and goes on by itself once it has caught up.
3. A clock that goes forward by more than an hour against the monotonic one, or by more than 30 days while the node was
   down, has jumped. The node goes on with its time, so that what expires does, but the mark stays with the time that
   went by, and nothing is erased for good until a witness agrees within 120 seconds, the clock is put right, or an
   administrator says that it is right. Each of these writes a CLOCK entry.

Leaves to others: the alarm (``alarms``), what is not erased meanwhile (``retention``, ``erasure``).
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from connector_psi.audit.checkpoint import parse_note
from connector_psi.audit.cosignature import verify_cosignatures
from connector_psi.audit.entries import Event
from connector_psi.errors import AuditError, ConflictError, FormatError, UnavailableError
from connector_psi.storage import timemark as store
from connector_psi.storage.timemark import BEHIND, GOOD, JUMPED, Mark

if TYPE_CHECKING:
    from connector_psi.domain.clock import Clock
    from connector_psi.node.node import Node
    from connector_psi.pki import PersonIdentity
    from connector_psi.storage.store import Tx

logger = structlog.get_logger("connector_psi.node")

SKEW_MS = 120_000
JUMP_MS = 3_600_000
DOWN_MS = 30 * 86_400_000
"""A node that was down for longer than this does not know whether its clock is right."""
KEPT_MS = 10_000
"""The mark in the store is at most so much older than that in memory."""
_LOOKED_AT = 64


class Timekeeper:
    """The clock of a node; implements ``domain.clock.Clock``.

    Args:
        clock: The machine's.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._mark_ms = 0
        self._raw_ms = 0
        self._anchor: tuple[int, float] | None = None
        """Time and monotonic time when both were last known to be right."""
        self._jumped = False

    def now(self) -> datetime:
        """Return the time: never earlier than the mark."""
        raw = self._clock.now()
        monotonic_s = self._clock.monotonic_s()
        with self._lock:
            self._look(_millis(raw), monotonic_s)
            if self._raw_ms >= self._mark_ms:
                return raw
            return datetime.fromtimestamp(self._mark_ms / 1000, tz=UTC)

    def monotonic_s(self) -> float:
        """Return seconds on a clock that never goes backwards."""
        return self._clock.monotonic_s()

    def _look(self, raw_ms: int, monotonic_s: float) -> None:
        self._raw_ms = raw_ms
        if self._anchor is None:
            self._anchor = (raw_ms, monotonic_s)
        elapsed_ms = int((monotonic_s - self._anchor[1]) * 1000)
        expected_ms = self._anchor[0] + max(0, elapsed_ms)
        self._jumped = raw_ms - expected_ms > JUMP_MS
        # A jump does not move the mark: were it wrong, the node would wait for that time to come.
        self._mark_ms = max(self._mark_ms, min(raw_ms, expected_ms) if self._jumped else raw_ms)

    def begin(self, mark_ms: int, *, jumped: bool) -> None:
        """Go on from a mark that was kept.

        Args:
            mark_ms: Of the store.
            jumped: Whether nobody has agreed with the clock since it jumped.
        """
        raw_ms, monotonic_s = _millis(self._clock.now()), self._clock.monotonic_s()
        with self._lock:
            self._mark_ms = mark_ms
            down = raw_ms - mark_ms
            # Anchored at the mark, a clock beyond it counts as one that jumped.
            self._anchor = (mark_ms if down > (JUMP_MS if jumped else DOWN_MS) else raw_ms, monotonic_s)
            self._look(raw_ms, monotonic_s)

    def believe(self) -> None:
        """Take the machine's time for right from now on."""
        raw_ms, monotonic_s = _millis(self._clock.now()), self._clock.monotonic_s()
        with self._lock:
            self._anchor = (raw_ms, monotonic_s)
            self._look(raw_ms, monotonic_s)

    def look(self) -> tuple[int, int, int, bool]:
        """Return the mark, the time, how far the machine is behind the mark, and whether it jumped."""
        self.now()
        with self._lock:
            return (
                self._mark_ms,
                max(self._raw_ms, self._mark_ms),
                max(0, self._mark_ms - self._raw_ms),
                self._jumped,
            )


class Timekeeping:
    """Use cases of the clock's loop, and of the administrator who knows what time it is."""

    def __init__(self, node: Node, keeper: Timekeeper) -> None:
        self._node = node
        self._keeper = keeper
        self._kept_ms = 0
        self._lock = threading.Lock()
        with node.store.read() as tx:
            mark = store.load(tx)
        self._mark = mark or Mark(0)
        if mark is not None:
            keeper.begin(mark.high_water_ms, jumped=mark.state == JUMPED)

    # What others ask

    def check(self) -> None:
        """Refuse what depends on time while the clock is behind.

        Raises:
            UnavailableError: It is, by more than clocks may differ.
        """
        if self._keeper.look()[2] > SKEW_MS:
            raise UnavailableError("the clock is behind the time that this node had before")

    def may_erase(self) -> bool:
        """Whether something may be erased for good because its time is over."""
        return self.state() == GOOD

    def state(self) -> str:
        """Return ``good``, ``behind`` or ``jumped``."""
        _, _, behind_ms, jumped = self._keeper.look()
        if behind_ms > SKEW_MS:
            return BEHIND
        return JUMPED if jumped else GOOD

    def status(self) -> dict[str, object]:
        """Return what ``status`` shows."""
        mark_ms, now_ms, behind_ms, jumped = self._keeper.look()
        return {
            "state": self.state(),
            "behind_s": behind_ms // 1000,
            "jumped_s": (now_ms - mark_ms) // 1000 if jumped else 0,
            "high_water": f"{datetime.fromtimestamp(mark_ms // 1000, tz=UTC):%Y-%m-%dT%H:%M:%SZ}",
        }

    # The loop

    def advance(self) -> int:
        """Keep the mark, and write an entry where something begins or ends to be wrong with the clock.

        Returns:
            Whether an entry was written, as a number.
        """
        with self._lock:
            mark_ms, now_ms, behind_ms, _ = self._keeper.look()
            state = self.state()
            if state == self._mark.state == JUMPED and self._is_agreed():
                self._keeper.believe()
                self._note(GOOD, "clock agreed", {"by": "witness"})
                return 1
            if state != self._mark.state:
                told: dict[str, object] = {"mark": _text(mark_ms)}
                if state == BEHIND:
                    told["behind_s"] = behind_ms // 1000
                elif state == JUMPED:
                    told["jumped_s"] = (now_ms - mark_ms) // 1000
                self._note(state, f"clock {state}", told)
                return 1
            if mark_ms - self._kept_ms >= KEPT_MS:
                with self._node.store.write() as tx:
                    store.raise_to(tx, mark_ms)
                self._kept_ms = mark_ms
            return 0

    def keep(self, tx: Tx) -> None:
        """Keep the mark in a transaction that is written anyway."""
        store.raise_to(tx, self._keeper.look()[0])

    def confirm(self, person: PersonIdentity) -> None:
        """Say that the clock is right after a jump.

        Raises:
            ConflictError: It did not jump, or it is agreed already.
        """
        with self._lock:
            if self.state() != JUMPED:
                raise ConflictError("the clock did not jump, or is confirmed already")
            self._keeper.believe()
            self._note(GOOD, "clock confirmed", {"by": person.uri})

    def _note(self, state: str, operation: str, told: dict[str, object]) -> None:
        node = self._node
        mark_ms, now_ms, _, _ = self._keeper.look()
        with node.store.write() as tx:
            entry = node.append(tx, Event.CLOCK, {"operation": operation, **told})
            self._mark = Mark(mark_ms, state, now_ms if state == JUMPED else None, entry.index)
            store.keep(tx, self._mark)
        self._kept_ms = mark_ms
        logger.warning("clock", state=state)

    def _is_agreed(self) -> bool:
        """Whether a witness cosigned the log after the jump, at a time that is close to this node's."""
        node, mark = self._node, self._mark
        _, now_ms, _, _ = self._keeper.look()
        assert mark.leaf_index is not None
        assert mark.jumped_ms is not None
        keys = list(node.asked_witnesses())
        with node.store.read() as tx:
            for size in node.entries.cosigned_sizes(tx, mark.leaf_index + 1, _LOOKED_AT):
                note = node.entries.cosigned(tx, size)
                try:
                    said = verify_cosignatures(parse_note(note or b""), keys)
                except (FormatError, AuditError):
                    continue
                # It was made between the entry of the jump and now.
                if any(mark.jumped_ms - SKEW_MS <= each.time_s * 1000 <= now_ms + SKEW_MS for each in said):
                    return True
        return False


def _millis(when: datetime) -> int:
    return int(when.timestamp() * 1000)


def _text(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms // 1000, tz=UTC):%Y-%m-%dT%H:%M:%SZ}"
