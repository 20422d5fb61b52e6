"""A person looks at a match beside their own record, and confirms or dismisses it. A confirmed match is a hit."""

from __future__ import annotations

from connector_psi import pki
from connector_psi.audit.entries import Event
from connector_psi.domain.records import Record
from connector_psi.errors import ApprovalMissingError, ConflictError, FormatError, PurposeRefusedError
from connector_psi.node.node import QUERIER, Node
from connector_psi.storage import queried, records
from connector_psi.storage.queried import MatchRow

MAX_REASON = 4000
PAGE = 200
_MAX_SEQ = (1 << 63) - 1


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
                if person.id in {_person_id(uri) for uri in people}:
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
            found = queried.get_match(node.store, tx, match_id)
        assert found is not None
        return found


def _person_id(uri: str) -> str:
    return uri.rsplit(":", 1)[-1]
