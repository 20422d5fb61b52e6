"""When a peer was last reached, and when it last called: in memory alone, since this process began.

Decides: what is kept of a call (times and the code of the last failure). Leaves to others: who calls, and what a
failure means for what was to be sent.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

from connector_psi.domain.clock import Clock


@dataclass(frozen=True, slots=True)
class Contact:
    """Of one peer. Times are Unix milliseconds, 0 for never."""

    answered_ms: int = 0
    """It last answered, be it with a refusal."""
    failed_ms: int = 0
    """It last could not be reached, or gave no answer in time."""
    failures: int = 0
    """Calls since it last answered."""
    heard_ms: int = 0
    """It last called here and was admitted."""

    @property
    def reachable(self) -> bool | None:
        """Whether the last call to it was answered, None before there was one."""
        if not self.answered_ms and not self.failed_ms:
            return None
        return not self.failures


class PeerContacts:
    """Contacts of one node with its peers.

    Args:
        clock: Time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[str, Contact] = {}
        self._lock = threading.Lock()

    def answered(self, authority: str) -> None:
        """Note that a peer answered."""
        now = self._now_ms()
        with self._lock:
            self._known[authority] = replace(self._of(authority), answered_ms=now, failures=0)

    def failed(self, authority: str) -> None:
        """Note that a peer gave no answer."""
        now = self._now_ms()
        with self._lock:
            before = self._of(authority)
            self._known[authority] = replace(before, failed_ms=now, failures=before.failures + 1)

    def heard(self, authority: str) -> None:
        """Note that a peer called and was admitted."""
        now = self._now_ms()
        with self._lock:
            self._known[authority] = replace(self._of(authority), heard_ms=now)

    def of(self, authority: str) -> Contact:
        """Return what is known of a peer."""
        with self._lock:
            return self._of(authority)

    def _of(self, authority: str) -> Contact:
        return self._known.get(authority, Contact())

    def _now_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1000)
