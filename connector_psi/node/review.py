"""A person looks at a match beside their own record, and confirms or dismisses it. A confirmed match is a hit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from connector_psi import pki
from connector_psi.audit.entries import Event
from connector_psi.domain.purposes import importance
from connector_psi.domain.records import Record
from connector_psi.errors import ApprovalMissingError, ConflictError, FormatError, PurposeRefusedError
from connector_psi.node.node import QUERIER, Bound, Node
from connector_psi.storage import queried, records
from connector_psi.storage.queried import MatchGroup, MatchRow
from connector_psi.storage.store import Tx

MAX_REASON = 4000
PAGE = 200
HIT, DISMISSED = "hit", "dismissed"
"""Counted by day: matches that were decided."""
_MAX_SEQ = (1 << 63) - 1
_STATES = (queried.NEW, queried.CONFIRMED, queried.DISMISSED, queried.GONE)
_UNKNOWN = 999
"""Importance of an agreement of which nothing is known any more."""
_CURSOR = re.compile(r"([01])-(\d{1,18})-(\d{1,3})-([0-3])-(\d{1,18})-([!-~]{1,256})\.(\d{1,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class InboxItem:
    """A match that waits in a row of others."""

    row: MatchRow
    peer: str
    """Whose record it may be; empty where the agreement is in no policy that is known."""
    purpose: str
    ticket_until_ms: int
    """Until when it can become a case; 0 where nothing is known of its set any more."""
    ended: bool
    """That time is over, or the set was given up before it."""
    people_needed: int
    people_confirmed: int


@dataclass(frozen=True, slots=True)
class InboxPage:
    """Matches in the order in which people should look at them."""

    items: Sequence[InboxItem]
    next: str
    """Where the next page begins; empty on the last one."""
    counts: Mapping[tuple[str, str], int]
    """Of all matches, by agreement and state."""


@dataclass(frozen=True, slots=True)
class TicketLimit:
    """Until when a match can become a case, in Unix milliseconds, and whether that time is over."""

    until_ms: int
    ended: bool


_Place = tuple[int, int, int, int, int, str]
"""Of a group among the others: whether its ticket ended, when it does, importance, state, epoch, agreement."""


@dataclass(frozen=True, slots=True)
class _Group:
    """The matches of one set that are in one state; all of them are as urgent."""

    place: _Place
    state: str
    bound: Bound | None

    @property
    def agreement(self) -> str:
        return self.place[5]

    @property
    def epoch(self) -> int:
        return self.place[4]


class Review:
    """Use cases of the officer who reviews matches."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def changed(self, after: int, limit: int = PAGE) -> list[MatchRow]:
        """Return matches that changed after a change, as they stand now, in the order of their newest change.

        Args:
            after: Number of a change (``MatchRow.change_seq``), 0 for all.
            limit: At most so many, and at most 200.

        Raises:
            FormatError: There was no such change: whoever waits for what comes after it would miss what comes before.
        """
        self._node.check_alive()
        with self._node.store.read() as tx:
            if after > queried.newest_match_change(tx):
                raise FormatError("resume_token: of no change of a match at this node")
            return queried.changed_matches(self._node.store, tx, after, min(limit, PAGE))

    def list(self, *, state: str = "", after: int = 0, limit: int = 0) -> list[MatchRow]:
        """Return matches in the order they were found, at most 200; those taken back only under ``gone``."""
        self._node.check_alive()
        # On the wire it is a uint64, which no store holds: asking one would be an internal error.
        after, limit = min(after, _MAX_SEQ), min(limit or PAGE, PAGE)
        with self._node.store.read() as tx:
            return queried.list_matches(self._node.store, tx, state=state, after=after, limit=limit)

    def inbox(self, *, state: str = queried.NEW, agreement: str = "", after: str = "", limit: int = 50) -> InboxPage:
        """Return matches in the order in which people should look at them, without opening any other.

        First those whose ticket ends first, for a match becomes no case after that; of these the ones of the more
        important purpose (``domain.purposes.IMPORTANCE``); of these the older ones, agreement by agreement. Those
        whose ticket ended come last.

        Args:
            state: Those in it; empty for all but those that are gone.
            agreement: Those of it; empty for all.
            after: ``InboxPage.next`` of the page before; empty to begin. Of matches that are decided between two pages
                none of the others is left out or comes twice.
            limit: At most so many, 1 to 200.

        Raises:
            FormatError: There is no such state, or ``after`` is no place in such a row.
        """
        node = self._node
        node.check_alive()
        if state and state not in _STATES:
            raise FormatError("state: no such state of a match")
        begin, after_seq = _parse_cursor(after)
        limit = max(1, min(limit, PAGE))
        with node.store.read() as tx:
            counted = queried.match_groups(tx)
            wanted = [
                group
                for group in counted
                if (group.state == state if state else group.state != queried.GONE)
                and agreement in {"", group.agreement}
            ]
            found: list[tuple[_Group, MatchRow]] = []
            for group in self._by_urgency(tx, wanted):
                if len(found) > limit or (begin is not None and group.place < begin):
                    continue
                beyond = after_seq if group.place == begin else 0
                rows = queried.matches_of_group(
                    node.store, tx, group.state, group.agreement, group.epoch, beyond, limit + 1 - len(found)
                )
                found += [(group, row) for row in rows]
        counts: dict[tuple[str, str], int] = {}
        for each in counted:
            counts[each.agreement, each.state] = counts.get((each.agreement, each.state), 0) + each.count
        shown = found[:limit]
        last = _cursor(shown[-1][0].place, shown[-1][1].seq) if len(found) > limit else ""
        return InboxPage([_item(group, row) for group, row in shown], last, counts)

    def _by_urgency(self, tx: Tx, counted: Sequence[MatchGroup]) -> Sequence[_Group]:
        now = self._node.now_ms()
        ends = queried.set_ends(tx)
        bounds = dict(self._bounds(tx, {each.agreement for each in counted}))
        groups = []
        for each in counted:
            set_state, until_ms = ends.get((each.agreement, each.epoch), (queried.RETIRED, 0))
            ended = set_state == queried.RETIRED or until_ms <= now
            bound = bounds.get(each.agreement)
            rank = importance(bound.agreement.purpose) if bound is not None else _UNKNOWN
            place = int(ended), until_ms, rank, _STATES.index(each.state), each.epoch, each.agreement
            groups.append(_Group(place, each.state, bound))
        return sorted(groups, key=lambda group: group.place)

    def _bounds(self, tx: Tx, codes: set[str]) -> Iterator[tuple[str, Bound]]:
        """The agreements of matches, also those that left the policy since."""
        for code in codes:
            # The code ends with the querier and the owner.
            owner = code.rpartition("-")[2]
            with suppress(PurposeRefusedError):
                yield code, self._node.bound_of_case(tx, code, QUERIER, owner)

    def get(self, match_id: str) -> tuple[MatchRow, Record | None]:
        """Return a match and this node's own record beside it.

        Raises:
            PurposeRefusedError: There is no such match.
        """
        self._node.check_alive()
        with self._node.store.read() as tx:
            row = queried.get_match(self._node.store, tx, match_id)
            if row is None:
                raise PurposeRefusedError("no such match")
            found = records.by_id(self._node.store, tx, row.record_id)
        return row, found[0] if found else None

    def limit(self, row: MatchRow) -> TicketLimit:
        """Return until when a match can become a case."""
        with self._node.store.read() as tx:
            state, until_ms = queried.set_ends(tx).get((row.agreement, row.epoch), (queried.RETIRED, 0))
        return TicketLimit(until_ms, state == queried.RETIRED or until_ms <= self._node.now_ms())

    def decide(self, match_id: str, person: pki.PersonIdentity, reason: str, *, confirm: bool) -> MatchRow:
        """Confirm or dismiss a match.

        Args:
            match_id: Of the match.
            person: Who decides.
            reason: Why; required, and sealed in the log.
            confirm: True to confirm.

        Returns:
            The match as it stands now. It is confirmed once as many different people confirmed it as the agreement
            asks for.

        Raises:
            ApprovalMissingError: There is no reason.
            ConflictError: It was decided before, or this person has confirmed already.
            PurposeRefusedError: There is no such match, or its agreement may not run.
        """
        node = self._node
        if not reason.strip() or len(reason) > MAX_REASON:
            raise ApprovalMissingError("a reason is needed, of at most 4000 characters")
        with node.store.write() as tx:
            row = queried.get_match(node.store, tx, match_id)
            if row is None:
                raise PurposeRefusedError("no such match")
            bound = node.bound(row.agreement, QUERIER)
            if row.state != queried.NEW:
                raise ConflictError(f"the match is {row.state} already")
            people = [*row.payload.get("people", ())]
            if confirm:
                if person.id in {pki.person_id(uri) for uri in people}:
                    raise ConflictError("this person has confirmed the match already")
                people.append(person.uri)
            done = not confirm or len(people) >= bound.agreement.confirm.querier_people
            state = (queried.CONFIRMED if confirm else queried.DISMISSED) if done else queried.NEW
            decided = {"decided_ms": node.now_ms()} if done else {}
            queried.set_match_state(node.store, tx, match_id, state, {**row.payload, "people": people, **decided})
            node.append(
                tx,
                Event.REVIEW,
                {
                    "operation": "consultation",
                    "decision": "confirmed" if confirm else "dismissed",
                    "match": match_id,
                    "record": row.payload["record_ref"],
                    "identifier_types": row.payload["types"],
                    "band": row.payload.get("band", ""),
                    "corroborators": row.payload.get("corroborators", []),
                    "officer": person.uri,
                    "reason": reason,
                },
                bound,
                purpose=bound.agreement.purpose.value,
                actor_commitment=node.keyring.actor_commitment(bound.code, node.clock.now().date(), person.uri),
            )
            if done:
                node.count(tx, HIT if confirm else DISMISSED, bound)
            found = queried.get_match(node.store, tx, match_id)
        assert found is not None
        return found


def _item(group: _Group, row: MatchRow) -> InboxItem:
    bound = group.bound
    return InboxItem(
        row=row,
        peer=bound.peer if bound is not None else "",
        purpose=bound.agreement.purpose.value if bound is not None else "",
        ticket_until_ms=group.place[1],
        ended=bool(group.place[0]),
        people_needed=bound.agreement.confirm.querier_people if bound is not None else 0,
        people_confirmed=len(row.payload.get("people", ())),
    )


def _cursor(place: _Place, seq: int) -> str:
    return f"{'-'.join(map(str, place))}.{seq}"


def _parse_cursor(text: str) -> tuple[_Place | None, int]:
    """Return the place of a group and the number of its last match that was shown."""
    if not text:
        return None, 0
    found = _CURSOR.fullmatch(text)
    if found is None:
        raise FormatError("after: not a place in this row")
    ended, until_ms, rank, state, epoch, agreement, seq = found.groups()
    return (int(ended), int(until_ms), int(rank), int(state), int(epoch), agreement), int(seq)
