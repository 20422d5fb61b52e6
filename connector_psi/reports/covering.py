"""Bodies of the log with what they say about people and things covered."""

from __future__ import annotations

from typing import Final

PLAIN_KEYS: Final = frozenset(
    [
        "operation",
        "action",
        "decision",
        "judged",
        "state",
        "fields",
        "withheld",
        "types",
        "identifier_types",
        "count",
        "told",
        "handling",
        "agreement",
        "epoch",
        "cause",
        "effect",
        "outcome",
        "code",
        "granted",
        "elements",
        "erase_after",
        "until",
        "bodies",
        "entries",
        "classes",
        "covers",
        "erased",
        "category",
        "size_class",
        "records_until",
        "peer",
        "recipient",
        "index",
        "new",
        "old",
    ]
)
"""Keys of bodies whose values are words of the vocabulary, numbers or names of authorities."""


def covered(key: str, value: object) -> object:
    """Return a value of a body, if its key is one that says nothing about anybody; else how much there is."""
    if key in PLAIN_KEYS or isinstance(value, bool) or value in (None, "", [], {}):
        return value
    if isinstance(value, list | dict):
        return f"({len(value)} covered)"
    return "(covered)"
