"""Cases of both sides as people of this authority see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from connector_psi import disclosure
from connector_psi.disclosure import WAITING, Outcome, OwnerCaseState
from connector_psi.errors import (
    PurposeRefusedError,
)
from connector_psi.node import caseclock
from connector_psi.node.node import Bound, Node, millis
from connector_psi.node.received import claim_of, released_fields
from connector_psi.policy import FieldReason
from connector_psi.storage import cases as store
from connector_psi.storage.cases import CaseRow
from connector_psi.storage.store import Tx

PAGE = 100


@dataclass(frozen=True, slots=True)
class CaseView:
    """A case as people of this authority see it."""

    row: CaseRow
    fields: Mapping[str, tuple[str, ...]]
    withheld: tuple[str, ...] = ()
    people_needed: int = 0
    people_approved: int = 0
    record_ref: str = ""
    awaiting_consent: tuple[str, ...] = ()
    """Owner: fields that the provider of the data would have to release."""
    answer_due_ms: int = 0
    """When the agreement wants it answered; 0 where the agreement is not in force any more."""
    overdue: bool = False
    """That time is over, and there is no answer."""
    recall_id: str = ""
    """Querier: the recall that waits for somebody to acknowledge it; the fields are not shown meanwhile."""


class CaseViews:
    """Use cases of whoever reads cases."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def list(
        self,
        states: tuple[str, ...] = (),
        limit: int = 0,
        offset: int = 0,
        *,
        side: str = "",
        newest_first: bool = False,
    ) -> list[CaseView]:
        """Return cases without their fields, at most 100.

        Neither cases under an agreement without notice at their owner, nor covers at their querier.

        Args:
            states: Those in one of them; all by default.
            limit: At most so many.
            offset: So many are left out before.
            side: ``querier`` or ``owner``; both by default.
            newest_first: By the time of their opening; the oldest first by default.
        """
        node = self._node
        node.check_alive()
        with node.store.read() as tx:
            rows = store.list_cases(
                node.store,
                tx,
                states=states,
                limit=min(limit or PAGE, PAGE),
                offset=offset,
                side=side,
                newest_first=newest_first,
            )
            return [replace(self._view(tx, row), fields={}, withheld=()) for row in rows]

    def of_match(self, match_id: str) -> Sequence[CaseView]:
        """Return the cases that were opened for a match, the oldest first, without their fields."""
        node = self._node
        node.check_alive()
        with node.store.read() as tx:
            rows = store.cases_of_match(node.store, tx, match_id)
            return [replace(self._view(tx, row), fields={}, withheld=()) for row in rows if not row.quiet]

    def last_slot_ms(self, row: caseclock.Accepted) -> int:
        """Return the last slot of a case or a request for access: whoever decides after it is too late."""
        return millis(caseclock.last_slot(self._node, row))

    def get(self, request_id: bytes) -> CaseView:
        """Return one case.

        Raises:
            PurposeRefusedError: There is none that people may see.
        """
        node = self._node
        node.check_alive()
        with node.store.read() as tx:
            row = store.find_case(node.store, tx, request_id)
            if row is None:
                raise PurposeRefusedError("no such case")
            return self._view(tx, row)

    def _view(self, tx: Tx, row: CaseRow) -> CaseView:
        bound = self._node.in_force(row.agreement)
        view = self._of_querier(row, bound) if row.side == store.QUERIER else self._of_owner(tx, row, bound)
        if bound is None:
            return view
        due_ms = caseclock.answer_due(bound.agreement, row.opened_ms)
        return replace(view, answer_due_ms=due_ms, overdue=row.state in WAITING and self._node.now_ms() > due_ms)

    def _of_querier(self, row: CaseRow, bound: Bound | None) -> CaseView:
        outcome = row.payload.get("outcome", {})
        fields = {name: tuple(values) for name, values in outcome.get("fields", {}).items()}
        needed = bound.agreement.confirm.querier_people if bound else 0
        recall_id = row.payload.get("recalled", "")
        # What is wrong is not read while it waits to be erased or replaced.
        shown = {} if recall_id else fields
        view = CaseView(row, shown, (), needed, len(row.payload["actors"]), row.payload["record_ref"])
        return replace(view, recall_id=recall_id)

    def _of_owner(self, tx: Tx, row: CaseRow, bound: Bound | None) -> CaseView:
        view = CaseView(
            row,
            {},
            people_needed=bound.agreement.confirm.owner_people if bound else 0,
            people_approved=len(row.payload["approvals"]),
        )
        if row.state in {OwnerCaseState.RELEASED, OwnerCaseState.ERASED}:
            view = replace(view, withheld=tuple(row.payload["withheld"]))
            if row.payload["outcome"] != Outcome.DISCLOSED or row.state == OwnerCaseState.ERASED:
                return view
            envelope = disclosure.parse_envelope(bytes.fromhex(row.payload["envelope"]))
            return replace(view, fields={name.value: values for name, values in envelope.fields.items()})
        claim = claim_of(self._node, tx, bound, row) if bound else None
        if bound is None or claim is None:
            return view
        record = claim.record
        released = released_fields(row.payload["approvals"])
        reasons = disclosure.reasons_of_record(bound.agreement, record, provider_consent=released)
        shown = [name for name, reason in reasons.items() if reason is FieldReason.DISCLOSED]
        waiting = [name for name, reason in reasons.items() if reason is FieldReason.PROVIDER_WITHHOLDS]
        return replace(
            view,
            fields={f.value: record.fields[f] for f in shown},
            withheld=tuple(sorted(f.value for f in record.fields if f not in shown)),
            awaiting_consent=tuple(f.value for f in waiting),
            record_ref=record.source_ref,
        )
