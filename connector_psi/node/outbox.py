"""What this node owes its peers: sent at least once, tried again by one rule, and parked where trying does not help.

Cases, the collection of their outcomes, requests for access, recalls and acknowledgements go out from here. What makes
each of them take effect once is at the receiver: a request id, and a keyed hash of what came under it.

Rules:

1. A peer that cannot be reached pauses everything for it. One thing at a time tries whether it is back, after pauses
   that double from one second to five minutes, each shortened at random, so that many nodes do not come back at once.
   Once it is back everything due is sent, the oldest first, so many a turn, and peers take turns.
2. What a peer refuses, what it answers wrongly and what cannot be sent for a defect here is tried again at later slots,
   five times, and is then parked: kept, shown, an alarm, and sent again when somebody says so.
3. An agreement that may not run now, or whose peer was revoked, is no failure of what waits: that is held, not counted.
4. Where the owner gets no notice a case leaves at its slots and at no other time, tried again or not, cover or not;
   covers are parked and sent again with the cases. Recalls without notice are never parked: nobody would be shown them.

Leaves to others: what is sent and what an answer means (``asked``, ``access``, ``recalling``, ``recalled``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import structlog

from connector_psi import disclosure
from connector_psi.audit.entries import Event, Side
from connector_psi.errors import (
    AuditError,
    ConnectorError,
    PeerError,
    PurposeRefusedError,
    RefusedError,
    UnavailableError,
)
from connector_psi.node.caseclock import next_slot_ms
from connector_psi.node.node import QUERIER, Bound, Node
from connector_psi.storage import accesses, cases
from connector_psi.storage import outbox as store
from connector_psi.storage.outbox import ACCESS, ACKNOWLEDGEMENTS, CASES, KINDS, RECALLS, Item, Kind
from connector_psi.storage.store import Tx

if TYPE_CHECKING:
    from connector_psi.pki import PersonIdentity

__all__ = ["ACCESS", "ACKNOWLEDGEMENTS", "CASES", "RECALLS", "Item", "Outbox", "Turn", "hold", "queues"]

logger = structlog.get_logger("connector_psi.node")

BASE_MS, CAP_MS = 1_000, 300_000
MAX_ATTEMPTS = 5
PER_TURN = 200
"""Of one kind and peer in one turn, so that what is behind for one keeps no other waiting for long."""
MAX_RETRIED = 1_000
AWAY = UnavailableError.code
_Send = Callable[[Bound, Item], int]


@dataclass(frozen=True, slots=True)
class Turn:
    """What came of one turn."""

    moved: int
    failure: PeerError | None
    """The first answer that does not hold."""


@dataclass(slots=True)
class _Pause:
    """Of a peer that could not be reached."""

    failures: int
    until_ms: int
    probing: bool = False


class Outbox:
    """Use cases of whatever sends, and of the people who look after what could not be sent."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._lock = threading.Lock()
        self._pauses: dict[str, _Pause] = {}
        self._reached: set[str] = set()
        """Since this node was opened: what waits for another peer may have been put off by the process before."""
        self._opened_ms = node.now_ms()
        self._next_slots: dict[tuple[str, str], int] = {}
        """When what sends in slots, by peer and state, is tried again. Not in the store: rows of covers are many, and
        large."""

    # Sending

    def turn(self, kind: Kind, send: _Send) -> Turn:
        """Send what is due of a kind, and note what became of it.

        Args:
            kind: Of what.
            send: Sends one thing, given its agreement; returns whether it moved, as a number.

        Raises:
            AuditError: This node's own log; nothing more may be sent.
            UnavailableError: The store cannot be written now.
        """
        node, now = self._node, self._node.now_ms()
        codes = self._of_slots(kind)
        with node.store.read() as tx:
            peers = store.peers_due(tx, kind, now)
            slots = [store.due(tx, kind, peer, now, PER_TURN, codes, of_slots=True) for peer in peers] if codes else []
            rest = [store.due(tx, kind, peer, now, PER_TURN, codes, of_slots=False) for peer in peers]
        moved, away = 0, set[str]()
        failure: PeerError | None = None
        # Peers take turns: one that is slow to answer keeps the others waiting once a round.
        for item in [i for lists in (slots, rest) for row in zip_longest(*lists) for i in row if i is not None]:
            in_slots = item.agreement in codes
            if item.peer in away or (in_slots and not self._is_slot(item, now)):
                continue
            if not self._may_try(item.peer, now, in_slots=in_slots):
                continue
            try:
                done, error = self._try(item, send)
                moved += done
                if isinstance(error, UnavailableError):
                    away.add(item.peer)
                    self._away(item, in_slots=in_slots)
                elif isinstance(error, PeerError):
                    failure = failure or error
            finally:
                self._let_go(item.peer)
        return Turn(moved, failure)

    def _try(self, item: Item, send: _Send) -> tuple[int, Exception | None]:
        """Send one thing; returns whether it moved, and what went wrong."""
        try:
            bound = self._bound(item)
        except AuditError:
            raise
        except (RefusedError, UnavailableError) as error:
            self._hold(item, error)
            return 0, None
        try:
            moved = send(bound, item)
        except (AuditError, UnavailableError) as error:
            if isinstance(error, AuditError):
                raise
            return 0, error
        except Exception as error:  # noqa: BLE001 - one thing must not keep the others back
            self._failed(item, error)
            self._is_there(item.peer)
            return 0, error
        self._is_there(item.peer)
        if item.attempts or item.first_failed_ms is not None:
            with self._node.store.write() as tx:
                store.clear(tx, item)
        return moved, None

    def _bound(self, item: Item) -> Bound:
        node = self._node
        if item.kind in {CASES, ACCESS}:
            return node.bound(item.agreement, QUERIER, item.peer)
        # What was disclosed under an agreement is recalled whatever became of the agreement.
        node.peer(item.peer)
        with node.store.read() as tx:
            return node.bound_of_case(tx, item.agreement, Side(item.kind.side), item.peer)

    def _of_slots(self, kind: Kind) -> frozenset[str]:
        if kind is not CASES:
            return frozenset()
        return frozenset(b.code for b in self._node.agreements(QUERIER) if disclosure.is_silent(b.agreement))

    # What became of it

    def _away(self, item: Item, *, in_slots: bool) -> None:
        """A peer cannot be reached: everything for it waits."""
        node, now = self._node, self._node.now_ms()
        with self._lock:
            pause = self._pauses.get(item.peer)
            failures = 1 if pause is None else pause.failures + 1
        delay_ms = self._backoff_ms(failures)
        # Later than the others, so that another thing tries next: it may be this one that the peer cannot take.
        slot_ms = self._slot_ms(item, now)
        next_ms = self._slot_ms(item, slot_ms) if in_slots else now + min(2 * delay_ms, CAP_MS)
        # The store first: where it cannot be written, the failure was not the peer's.
        with node.store.write() as tx:
            store.note_failure(tx, item, next_ms=next_ms, error=AWAY, now_ms=now)
        with self._lock:
            self._pauses[item.peer] = _Pause(failures, now + delay_ms)
            if in_slots:
                self._next_slots[item.peer, item.state] = slot_ms
        if failures in {1, 10, 100}:
            logger.warning("outbox.peer_away", peer=item.peer, failures=failures)

    def _failed(self, item: Item, error: Exception) -> None:
        """A peer refuses something, answers wrongly, or it cannot be sent at all."""
        node, now, attempts = self._node, self._node.now_ms(), item.attempts + 1
        silent = item.quiet or self._is_silent(item)
        park = attempts >= MAX_ATTEMPTS and (item.kind is CASES or not silent)
        with node.store.write() as tx:
            store.note_failure(
                tx,
                item,
                next_ms=self._slot_ms(item, now + self._backoff_ms(attempts)),
                error=_code(error),
                now_ms=now,
                attempts=attempts,
                park=park,
            )
        if not item.quiet:
            # The type alone: the text of a defect may hold a value.
            event = "outbox.parked" if park else "outbox.failed"
            logger.warning(event, kind=item.name, id=item.id.hex(), attempts=attempts, error=type(error).__name__)

    def _hold(self, item: Item, error: ConnectorError) -> None:
        """An agreement may not run now: what waits goes on waiting, and is not to blame."""
        node, now = self._node, self._node.now_ms()
        with node.store.write() as tx:
            store.note_failure(tx, item, next_ms=self._slot_ms(item, now), error=_code(error), now_ms=now)

    def _slot_ms(self, item: Item, at_ms: int) -> int:
        """The first slot of an item after a time."""
        node = self._node
        if item.kind is CASES and item.state == disclosure.CaseState.DRAFTED and self._is_silent(item):
            slot_ms = node.config.disclosure.silent_slot_s * 1000
            return (at_ms // slot_ms + 1) * slot_ms
        return next_slot_ms(node, at_ms)

    def _is_slot(self, item: Item, now_ms: int) -> bool:
        """Whether something that sends in slots may be sent now."""
        with self._lock:
            slot_ms = self._next_slots.get((item.peer, item.state))
        if slot_ms is not None:
            return now_ms >= slot_ms
        # A node that was down in its slot waits for another one, but for what belongs into this one.
        first_ms = self._slot_ms(item, self._opened_ms)
        return now_ms >= first_ms or self._slot_ms(item, item.next_ms) == first_ms

    def _is_silent(self, item: Item) -> bool:
        side = Side(item.kind.side)
        return any(b.code == item.agreement and disclosure.is_silent(b.agreement) for b in self._node.agreements(side))

    def _backoff_ms(self, failures: int) -> int:
        """A pause at random between nothing and what doubles with every failure in a row."""
        longest = min(CAP_MS, BASE_MS << min(failures - 1, 20))
        return 1 + int.from_bytes(self._node.random.bytes(4), "big") * longest // (1 << 32)

    # Peers

    def _may_try(self, peer: str, now_ms: int, *, in_slots: bool) -> bool:
        with self._lock:
            pause = self._pauses.get(peer)
            if pause is None or in_slots:
                # A slot is kept whatever became of anything else.
                return True
            if pause.probing or now_ms < pause.until_ms:
                return False
            pause.probing = True
            return True

    def _let_go(self, peer: str) -> None:
        with self._lock:
            if (pause := self._pauses.get(peer)) is not None:
                pause.probing = False

    def _is_there(self, peer: str) -> None:
        with self._lock:
            waited = self._pauses.pop(peer, None) is not None or peer not in self._reached
            self._reached.add(peer)
        if waited:
            now = self._node.now_ms()
            with self._node.store.write() as tx:
                for kind in KINDS:
                    store.wake(tx, kind, peer, AWAY, self._of_slots(kind), now)

    # People

    def list(self) -> list[Mapping[str, Any]]:
        """Return what waits to be sent and what is parked, as far as people here may see it."""
        node = self._node
        node.check_alive()
        with node.store.read() as tx:
            found = store.waiting(tx, node.now_ms())
        return [
            {
                "id": item.id.hex(),
                "kind": item.name,
                "peer": item.peer,
                "agreement": item.agreement,
                "attempts": item.attempts,
                "last_error": item.last_error or "",
                "since_ms": item.since_ms,
                "first_failed_ms": item.first_failed_ms or 0,
                "parked_ms": item.parked_ms or 0,
            }
            for item in found
        ]

    def retry(self, ids: Sequence[bytes], person: PersonIdentity) -> int:
        """Send again what is parked or waits. Returns how many things.

        A case that must not be noticed at its owner leaves at its next slot, with what else is parked of its agreement.

        Args:
            ids: Of what ``list`` shows.
            person: Who wants it; in the log.

        Raises:
            PurposeRefusedError: One of them is not there; nothing is sent then.
        """
        node = self._node
        node.check_alive()
        if not 0 < len(ids) <= MAX_RETRIED:
            raise PurposeRefusedError(f"outbox: 1 to {MAX_RETRIED} ids")
        now = node.now_ms()
        with node.store.write() as tx:
            known = {item.id: item for item in store.waiting(tx, now)}
            if not known.keys() >= set(ids):
                raise PurposeRefusedError("outbox: nothing of one of these ids waits here")
            wanted = [known[key] for key in dict.fromkeys(ids)]
            for item in wanted:
                if item.kind is CASES and self._is_silent(item):
                    for each in store.parked_like(tx, item):
                        store.resume(tx, each, self._slot_ms(each, now))
                else:
                    store.resume(tx, item, now)
            node.append(
                tx,
                Event.CONFIG,
                {"action": "outbox_retry", "by": person.uri, "ids": [item.id.hex() for item in wanted]},
            )
        with self._lock:
            for item in wanted:
                self._pauses.pop(item.peer, None)
        return len(wanted)


def queues(tx: Tx, now_ms: int) -> list[dict[str, object]]:
    """Return what waits and what is parked by kind and peer, as far as people here may see it; ages in seconds."""
    found: dict[tuple[str, str], list[Item]] = {}
    for item in store.waiting(tx, now_ms):
        found.setdefault((item.name, item.peer), []).append(item)
    return [
        {
            "kind": kind,
            "peer": peer,
            "waiting": sum(item.parked_ms is None for item in items),
            "oldest_s": max(0, (now_ms - min(item.since_ms for item in items)) // 1000),
            "attempts": max(item.attempts for item in items),
            "away_s": _away_s(items, now_ms),
            "parked": sum(item.parked_ms is not None for item in items),
        }
        for (kind, peer), items in sorted(found.items())
    ]


def _away_s(items: Sequence[Item], now_ms: int) -> int | None:
    since = [i.first_failed_ms for i in items if i.last_error == AWAY and i.first_failed_ms is not None]
    return max(0, (now_ms - min(since)) // 1000) if since else None


def hold(node: Node, what: str, side: str, peer: str, request_id: bytes, error: Exception) -> None:
    """Leave something that cannot be moved here, now, to the next slot; nothing of it is sent.

    Args:
        node: The node.
        what: ``case`` or ``access``.
        side: Of it.
        peer: Who is on the other side.
        request_id: Its id.
        error: What happened.
    """
    # The type alone: the text of a defect may hold a value.
    logger.warning(
        "case.held" if what == "case" else "access.held", side=side, id=request_id.hex(), error=type(error).__name__
    )
    postpone = cases.postpone_case if what == "case" else accesses.postpone
    with node.store.write() as tx:
        postpone(tx, side, peer, request_id, next_slot_ms(node))


def _code(error: Exception) -> str:
    return error.code if isinstance(error, ConnectorError) else ConnectorError.code
