"""Cases of both sides as people of this authority see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from connector_psi import disclosure, policy
from connector_psi.disclosure import Outcome, OwnerCaseState
from connector_psi.domain.purposes import Condition, HandlingCode
from connector_psi.domain.records import Field, Record
from connector_psi.errors import (
    PurposeRefusedError,
)
from connector_psi.node.node import Node
from connector_psi.node.received import claimed_record
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


class CaseViews:
    """Use cases of whoever reads cases."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def list(self, states: tuple[str, ...] = (), limit: int = 0, offset: int = 0) -> list[CaseView]:
        """Return cases of both sides, oldest first, without their fields, at most 100.

        Neither cases under an agreement without notice at their owner, nor covers at their querier.
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
            )
            return [replace(self._view(tx, row), fields={}, withheld=()) for row in rows]

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
        bound = next((b for b in self._node.agreements() if b.code == row.agreement), None)
        if row.side == store.QUERIER:
            outcome = row.payload.get("outcome", {})
            fields = {name: tuple(values) for name, values in outcome.get("fields", {}).items()}
            needed = bound.agreement.confirm.querier_people if bound else 0
            return CaseView(row, fields, (), needed, len(row.payload["actors"]), row.payload["record_ref"])
        needed = bound.agreement.confirm.owner_people if bound else 0
        approved = len(row.payload["approvals"])
        if row.state == OwnerCaseState.RELEASED:
            if row.payload["outcome"] != Outcome.DISCLOSED:
                return CaseView(row, {}, tuple(row.payload["withheld"]), needed, approved)
            envelope = disclosure.parse_envelope(bytes.fromhex(row.payload["envelope"]))
            fields = {name.value: values for name, values in envelope.fields.items()}
            return CaseView(row, fields, tuple(row.payload["withheld"]), needed, approved)
        if bound is None:
            return CaseView(row, {}, (), needed, approved)
        record, _ = claimed_record(self._node, tx, bound, row)
        if record is None:
            return CaseView(row, {}, (), needed, approved)
        shown = _would_disclose(bound.agreement, record)
        withheld = tuple(sorted(f.value for f in record.fields if f not in shown))
        return CaseView(row, {f.value: record.fields[f] for f in shown}, withheld, needed, approved, record.source_ref)


def _would_disclose(agreement: policy.Agreement, record: Record) -> tuple[Field, ...]:
    """The fields that an approval now would disclose, for the person who decides."""
    provider_allows = set(policy.handling_codes_of(record.fields.get(Field.HANDLING_CODES, ()))) <= {
        HandlingCode.H0,
        HandlingCode.H1,
    }
    return tuple(
        name
        for name, condition in sorted(agreement.disclose.items())
        if record.fields.get(name)
        and (
            condition in {Condition.ALWAYS, Condition.IF_PRESENT}
            or (condition is Condition.PROVIDER_CONSENT and provider_allows)
        )
    )
