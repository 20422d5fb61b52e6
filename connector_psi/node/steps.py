"""What a verification tells: one step after the other, each with its result.

Decides: the form alone. A step names what was checked in words that never change, so that they can be translated;
whatever differs (numbers of entries, sizes, names of witnesses, times) stands in its detail. Neither holds personal
data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Result = Literal["ok", "failed", "unknown"]
"""``unknown``: it could not be checked now, which says nothing for it and nothing against it."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was checked."""

    name: str
    result: Result
    detail: str = ""
