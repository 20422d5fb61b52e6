"""The log as a data protection officer or an auditor looks through it: entries found by what they say and name.

Decides: who may search, and which entries each finds. An auditor finds what an auditor may open (``oversight``), and is
not told by whom or about what a data protection officer read: entries of oversight are found by what they say in clear
alone. Entries of an owner without notice are found by nobody by what their bodies name, for nothing of it is kept.
Leaves to others: opening what was found (``oversight``), which logs it.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from connector_psi.audit.entries import OF_OVERSIGHT, Event, Leaf, Side, parse_leaf
from connector_psi.domain.purposes import Purpose
from connector_psi.errors import FormatError, PurposeRefusedError
from connector_psi.node import logwords
from connector_psi.node.node import Node
from connector_psi.node.oversight import agreements_told
from connector_psi.pki import PersonIdentity, Role
from connector_psi.policy import own_purpose
from connector_psi.protocol.messages import REQUEST_ID_BYTES
from connector_psi.storage import logindex
from connector_psi.storage.logindex import Kind, Wanted
from connector_psi.storage.store import Tx

MAX_LIMIT = 200
MAX = logindex.END
"""Beyond the last entry of any log."""
SEARCHERS = frozenset({Role.DPO, Role.AUDITOR})


@dataclass(frozen=True, slots=True)
class Criteria:
    """What is looked for; everything that is given must hold."""

    events: Collection[Event] = ()
    """One of them; none for all."""
    side: Side | None = None
    agreement: str = ""
    """Its code, or that of a template for all of its agreements."""
    purpose: str = ""
    since: datetime | None = None
    """Entries of this time and later; aware."""
    until: datetime | None = None
    """Entries before this time; aware."""
    officer: str = ""
    """Id of a person of this authority who acted, ordered or decided."""
    case_reference: str = ""
    match_id: str = ""
    request_id: bytes | None = None
    """Of a query or case: its entries, and those that follow from it."""

    @property
    def names(self) -> bool:
        """Whether something is looked for that bodies alone say."""
        return bool(self.officer or self.case_reference or self.match_id)


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry that was found; its leaf is the one that was hashed into the log."""

    index: int
    leaf: Leaf


@dataclass(frozen=True, slots=True)
class SearchPage:
    """Entries, the newest first."""

    entries: list[Entry]
    next_before: int | None
    """Where the next page begins; None on the last one."""


class LogSearch:
    """Use cases of oversight."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def search(self, person: PersonIdentity, criteria: Criteria, before: int = MAX, limit: int = 50) -> SearchPage:
        """Return entries that the criteria hold for and that the person may find, the newest first.

        Args:
            person: Who looks.
            criteria: What for.
            before: Entries before this one; the newest first of all where it is 0.
            limit: At most so many, 1 to 200.

        Raises:
            PurposeRefusedError: Neither a data protection officer nor an auditor, or the policy does not let them.
            FormatError: A request id that is not 16 bytes, or a time without a time zone.
            ProofInvalidError: A stored leaf is not the one that was hashed.
        """
        self._check(person)
        limit = max(1, min(limit, MAX_LIMIT))
        with self._node.store.read() as tx:
            wanted = self._wanted(tx, person.role, criteria)
            indexes = logindex.search(tx, wanted, min(before or MAX, MAX), limit + 1)
            entries = self._read(tx, indexes[:limit])
        return SearchPage(entries, indexes[limit - 1] if len(indexes) > limit else None)

    def of_request(self, person: PersonIdentity, request_id: bytes) -> list[Entry]:
        """Return the entries of a query or case and those that follow from it, the oldest first.

        Raises:
            PurposeRefusedError: As for ``search``.
            FormatError: Not 16 bytes.
            ProofInvalidError: A stored leaf is not the one that was hashed.
        """
        self._check(person)
        with self._node.store.read() as tx:
            kinds = self._kinds(tx, person.role, Criteria())
            return self._read(tx, logindex.of_request(tx, _request_id(request_id), kinds))

    def entry(self, person: PersonIdentity, index: int) -> Entry:
        """Return an entry that a person may find.

        Raises:
            PurposeRefusedError: As for ``search``, or there is no such entry.
            ProofInvalidError: The stored leaf is not the one that was hashed.
        """
        self._check(person)
        with self._node.store.read() as tx:
            found = self._read(tx, [index]) if 0 <= index < self._node.entries.size(tx) else []
            told = agreements_told(self._node, person.role)
        if not found or not _may_find(logindex.kind_of(found[0].leaf), told, by_name=False):
            raise PurposeRefusedError("no such entry")
        return found[0]

    def _check(self, person: PersonIdentity) -> None:
        node = self._node
        node.check_alive()
        own_purpose(node.pack, Purpose.OVERSIGHT, person.role.value)
        if person.role not in SEARCHERS:
            # Supervisors decide cases; they audit queries, and that by drawing some (``oversight.audit_entries``).
            raise PurposeRefusedError("the log is searched by data protection officers and auditors")

    def _wanted(self, tx: Tx, role: Role, criteria: Criteria) -> Wanted:
        words = []
        # The rarest first.
        if criteria.match_id:
            words.append((logwords.MATCH, criteria.match_id))
        if criteria.case_reference:
            words.append((logwords.CASE, criteria.case_reference))
        if criteria.officer:
            words.append((logwords.PERSON, f"{self._node.authority}:{criteria.officer}"))
        return Wanted(
            kinds=self._kinds(tx, role, criteria),
            since_s=_seconds("since", criteria.since),
            until_s=_seconds("until", criteria.until),
            request_id=_request_id(criteria.request_id) if criteria.request_id else None,
            words=tuple(logwords.word(self._node.store, kind, value) for kind, value in words),
        )

    def _kinds(self, tx: Tx, role: Role, criteria: Criteria) -> frozenset[Kind] | None:
        """The kinds of entries that hold and may be found; None where these are all that there are."""
        known = logindex.kinds(tx)
        told = agreements_told(self._node, role)
        found = {k for k in known if _holds(k, criteria) and _may_find(k, told, by_name=criteria.names)}
        return None if len(found) == len(known) else frozenset(found)

    def _read(self, tx: Tx, indexes: list[int]) -> list[Entry]:
        return [Entry(i, parse_leaf(raw)) for i in indexes for raw in self._node.read_leaves(tx, i, i + 1)]


def _may_find(kind: Kind, told: frozenset[str] | None, *, by_name: bool) -> bool:
    """Whether a kind of entries is found by a role that is told of some agreements; see ``agreements_told``.

    Answers as ``Oversight`` does for opening them, but that what is in clear of an entry of oversight may be found, and
    that of an agreement without notice not even a change of its policy is.
    """
    if told is None:
        return True
    if kind.event in OF_OVERSIGHT:
        return not by_name
    return kind.side != Side.OWNER or kind.agreement in told


def _holds(kind: Kind, criteria: Criteria) -> bool:
    return (
        (not criteria.events or kind.event in criteria.events)
        and (criteria.side is None or kind.side == criteria.side)
        and (not criteria.agreement or criteria.agreement in {kind.agreement, (kind.agreement or "").partition(":")[0]})
        and (not criteria.purpose or kind.purpose == criteria.purpose)
    )


def _seconds(name: str, when: datetime | None) -> int | None:
    if when is None:
        return None
    if when.utcoffset() is None:
        raise FormatError(f"{name}: without a time zone")
    # Entries have whole seconds: none is between this one and the time before it.
    return math.ceil(when.timestamp())


def _request_id(value: bytes) -> bytes:
    if len(value) != REQUEST_ID_BYTES:
        raise FormatError("request_id: not 16 bytes")
    return value
