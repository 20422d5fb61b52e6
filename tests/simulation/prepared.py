"""A federation that was brought to where many tests begin, once, and copied for each of them.

A copy of the directories takes a fraction of the time of setting nodes up and letting them work; every test still has nodes of its own,
which were closed and opened once more.
"""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Generic, TypeVar

from tests.simulation.federation import Federation, ManualClock

F = TypeVar("F", bound=Federation)


class Prepared(Generic[F]):
    """Holds the federation it is given, closed; that one is not to be opened again."""

    def __init__(self, made: F) -> None:
        self._made = made
        self._codes = tuple(made.services)
        made.close()

    def copy(self, root: Path) -> F:
        """The same federation at another place, open, with a clock of its own that begins where that of the original stopped."""
        made = copy.copy(self._made)
        made.root = root
        made.clock = ManualClock(self._made.clock.now())
        made.services, made.queries, made.witnesses = {}, list(made.queries), dict(made.witnesses)
        shutil.copytree(self._made.root, root, dirs_exist_ok=True)
        for code in self._codes:
            made.open(code)
        return made
