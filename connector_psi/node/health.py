"""Whether a node can do now what its ports promise: for each service, and for the node as a whole.

Decides: what keeps a service from serving, and what keeps a node from being ready. A node is ready when all its
services serve and it has, of every agreement that may run, a set that holds, on either side. Leaves to others: how it
is told (``rpc.servicers``, ``commands``).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from connector_psi.encoding.manifest import parse_manifest
from connector_psi.errors import AuditError, ConnectorError, PurposeRefusedError, StorageError
from connector_psi.node.node import OWNER, QUERIER, Bound, Node
from connector_psi.node.publishing import newest_set
from connector_psi.storage import queried
from connector_psi.storage.store import Tx

logger = structlog.get_logger("connector_psi.node")

SERVICES: Final = ("MatchingService", "DisclosureService", "AuditService", "RegistryService", "NodeService")
NOT_SERVED, STOPPING = "not_served", "stopping"
LOG_FATAL, LOG_BLOCKED = "log.fatal", "log.blocked"
CLOCK_BEHIND, STORE_UNUSABLE = "clock.behind", "store.unusable"
SET_MISSING, SET_EXPIRED = "set.missing", "set.expired"


@dataclass(frozen=True, slots=True, order=True)
class Reason:
    """Something that keeps a service from serving, or the node from being ready."""

    code: str
    """``not_served``: nothing runs the loops of this node. ``stopping``: it is being stopped.
    ``log.fatal``: the log cannot be trusted. ``log.blocked``: the log takes nothing, as on a full disk.
    ``clock.behind``: the clock is behind what it showed before. ``store.unusable``: the database cannot be read.
    ``set.missing``, ``set.expired``: an agreement that may run has no set under the policy in force, or one whose time
    is over."""
    agreement: str = ""
    side: str = ""

    def __str__(self) -> str:
        return f"{self.code} {self.agreement} ({self.side})" if self.agreement else self.code


@dataclass(frozen=True, slots=True)
class Condition:
    """Of one service: it serves if nothing keeps it from doing so."""

    reasons: tuple[Reason, ...] = ()

    @property
    def serving(self) -> bool:
        """Whether it serves."""
        return not self.reasons


class Health:
    """Looks at a node without changing it, but for trying again to write where nothing could be written.

    Args:
        node: The node.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._state = NOT_SERVED
        self._told: frozenset[Reason] = frozenset()
        self._lock = threading.Lock()

    def works(self) -> None:
        """The loops of the node run from now on."""
        self._state = ""

    def stops(self) -> None:
        """The node is being stopped."""
        self._state = STOPPING

    def turn(self) -> Mapping[str, Condition]:
        """Try a blocked log again, and return the conditions; what changed is written to the log of the process."""
        try:
            self._node.probe_log()
        except AuditError as error:
            self._node.fail(error)
        found = self.services()
        standing = frozenset(reason for condition in found.values() for reason in condition.reasons)
        with self._lock:
            new, over, self._told = standing - self._told, self._told - standing, standing
        for reason in sorted(new):
            logger.warning("health.lost", reason=reason.code, agreement=reason.agreement, side=reason.side)
        for reason in sorted(over):
            logger.info("health.regained", reason=reason.code, agreement=reason.agreement, side=reason.side)
        return found

    def services(self) -> Mapping[str, Condition]:
        """Return the condition of every service, of both ports."""
        return self._look()[0]

    def missing(self) -> tuple[Reason, ...]:
        """Return what keeps the node from being ready; nothing if it is."""
        conditions, sets = self._look()
        found = {reason for condition in conditions.values() for reason in condition.reasons}
        return tuple(sorted(found | set(sets)))

    def _look(self) -> tuple[Mapping[str, Condition], tuple[Reason, ...]]:
        """The conditions, and every set that is missing or over, on either side."""
        state = (Reason(self._state),) if self._state else ()
        try:
            sets = tuple(self._sets())
            unreadable: tuple[Reason, ...] = ()
        except StorageError:
            sets, unreadable = (), (Reason(STORE_UNUSABLE),)
        always = state + unreadable
        logged = (Reason(LOG_FATAL),) if self._node.fatal is not None else ()
        written = always + logged + ((Reason(LOG_BLOCKED),) if self._node.log_blocked else ()) + self._clock()
        owned = tuple(reason for reason in sets if reason.side == OWNER.value)
        reasons = (written + owned, written, always + logged, written, always)
        return dict(zip(SERVICES, map(Condition, reasons), strict=True)), sets

    def _clock(self) -> tuple[Reason, ...]:
        try:
            self._node.check_alive()
        except AuditError:
            return ()
        except ConnectorError:
            # Everything that depends on time is refused until the clock has caught up.
            return (Reason(CLOCK_BEHIND),)
        return ()

    def _sets(self) -> Iterable[Reason]:
        node, now = self._node, self._node.now_ms()
        bounds = [bound for bound in node.agreements() if self._may_run(bound)]
        with node.store.read() as tx:
            for bound in bounds:
                ends_ms = _ends_ms(tx, bound)
                if ends_ms is None:
                    yield Reason(SET_MISSING, bound.code, bound.side.value)
                elif ends_ms <= now:
                    yield Reason(SET_EXPIRED, bound.code, bound.side.value)

    def _may_run(self, bound: Bound) -> bool:
        node = self._node
        if not node.has_peer(bound.peer) or node.is_forked(bound.peer):
            return False
        try:
            node.check_runnable(bound.agreement)
        except PurposeRefusedError:
            return False
        return True


def _ends_ms(tx: Tx, bound: Bound) -> int | None:
    """When the set of an agreement ends that is published or in use; None without one under the policy in force."""
    if bound.side is QUERIER:
        taken = queried.current_set(tx, bound.code)
        if taken is None:
            # One whose time is over is not kept.
            return 0 if queried.newest_epoch(tx, bound.code) else None
        of_policy = parse_manifest(taken.manifest).policy_hash == bound.policy_hash.hex()
        return taken.not_after_ms if of_policy else None
    newest = newest_set(tx, bound)
    return (newest.not_after_ms or 0) if newest else None
