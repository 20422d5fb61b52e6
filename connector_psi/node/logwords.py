"""What the sealed body of an entry can be found by: the people, the case and the match that it names.

Decides: which keys of a body name them, and the keyed hashes that stand for them in the store. Leaves to others: of
which entries none are kept (``node``), who may search by them (``searching``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from connector_psi.reports.entry import person_key, texts
from connector_psi.storage.logindex import WORD_BYTES
from connector_psi.storage.store import Store

PERSON, CASE, MATCH = "person", "case", "match"
_PERSON_URI: Final = "urn:connector-psi:person:"
_WHO: Final = ("officer", "executing_officer", "ordering_officer", "actor", "by")


def word(store: Store, kind: str, value: str) -> bytes:
    """Return the keyed hash of something that a body may name.

    Args:
        store: Whose key is used.
        kind: ``person``, ``case`` or ``match``.
        value: The key of the person (``reports.entry.person_key``), the case reference, or the id of the match.
    """
    return store.index_of("log", kind, value)[:WORD_BYTES]


def words_of(store: Store, body: Mapping[str, Any]) -> set[bytes]:
    """Return the keyed hashes of what a body names."""
    found = {word(store, PERSON, person_key(uri)) for uri in _people(body)}
    for kind, key in ((CASE, "case_reference"), (MATCH, "match")):
        value = body.get(key)
        if isinstance(value, str) and value:
            found.add(word(store, kind, value))
    return found


def _people(body: Mapping[str, Any]) -> Iterator[str]:
    said = [body.get(key) for key in _WHO]
    said += texts(body.get("confirmed_by"))
    decided = body.get("approvals")
    for each in [*(decided if isinstance(decided, (list, tuple)) else ()), body.get("refusal")]:
        if isinstance(each, Mapping):
            said.append(each.get("by"))
    return (uri for uri in said if isinstance(uri, str) and uri.startswith(_PERSON_URI))
