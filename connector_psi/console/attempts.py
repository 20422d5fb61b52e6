"""How often somebody may try to sign in: by name and by address, with a wait that doubles."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

FREE = 5
"""Failures in a row that cost no wait: people mistype."""
FIRST_WAIT_S = 2.0
LONGEST_WAIT_S = 900.0
FREE_OF_ADDRESS = 20
"""As ``FREE``, of one address, which many people may share."""
FORGET_S = 3_600.0
MAX_KNOWN = 20_000


@dataclass(slots=True)
class _Failures:
    count: int = 0
    until_s: float = 0.0
    last_s: float = 0.0


class Attempts:
    """Failed attempts of this process's life, of the last hour.

    Args:
        monotonic_s: Time.
    """

    def __init__(self, monotonic_s: Callable[[], float]) -> None:
        self._monotonic_s = monotonic_s
        self._known: OrderedDict[tuple[str, str], _Failures] = OrderedDict()
        self._lock = threading.Lock()

    def wait_s(self, name: str, address: str) -> float:
        """Return how long to wait before the next attempt is looked at; 0 for not at all."""
        now = self._monotonic_s()
        with self._lock:
            return max([0.0, *(self._of(key, now).until_s - now for key, _ in _keys(name, address))])

    def failed(self, name: str, address: str) -> None:
        """Count a failure, whatever the reason: a name that is not known counts like a wrong password."""
        now = self._monotonic_s()
        with self._lock:
            for key, free in _keys(name, address):
                known = self._of(key, now)
                known.count += 1
                known.last_s = now
                over = known.count - free
                if over > 0:
                    known.until_s = now + min(FIRST_WAIT_S * 2 ** min(over - 1, 20), LONGEST_WAIT_S)
                self._known[key] = known
                self._known.move_to_end(key)
            while len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)

    def succeeded(self, name: str) -> None:
        """Forget the failures of a name. Those of an address stay: one account is no key to the others."""
        with self._lock:
            self._known.pop(("name", name), None)

    def _of(self, key: tuple[str, str], now: float) -> _Failures:
        known = self._known.get(key)
        return known if known is not None and now - known.last_s < FORGET_S else _Failures()


def _keys(name: str, address: str) -> list[tuple[tuple[str, str], int]]:
    return [((kind, value), free) for kind, value, free in _limits(name, address) if value]


def _limits(name: str, address: str) -> list[tuple[str, str, int]]:
    return [("name", name, FREE), ("address", address, FREE_OF_ADDRESS)]
