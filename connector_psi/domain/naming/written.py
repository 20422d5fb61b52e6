"""What a word is in a written name, in every script; shared by persons and companies."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["WORD"]

WORD: Final = re.compile(
    r"(?:[^\W_]|[\u0300-\u036f\u0591-\u05c7\u05f3\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u0900-\u109f\u1780-\u17ff\u200c\u200d])+"
)
"""Letters, digits and the marks that belong to letters: vowel signs are no letters to ``re``, and no end of a word."""
