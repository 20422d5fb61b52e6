"""A fixed number of cases a slot, where the owner gets no notice: real ones first, covers for the rest.

Whoever watches the owner's store, log or network counts cases. So the querier sends ``cases_per_slot`` of an agreement
at every slot, hit or no hit. A cover asks about a random ticket; it is stored, logged, sent and answered like any other
case, and shown to nobody. What is confirmed and does not fit into a slot waits for the next one.

Decides: what leaves at a slot. Leaves to others: sending and collecting (``asked``).
"""

from __future__ import annotations

from dataclasses import replace

from connector_psi import disclosure
from connector_psi.audit.entries import Event
from connector_psi.disclosure import CaseState
from connector_psi.errors import PurposeRefusedError
from connector_psi.node.node import QUERIER, Bound, Node
from connector_psi.protocol import messages
from connector_psi.storage import cases as store
from connector_psi.storage import queried
from connector_psi.storage.cases import CaseRow
from connector_psi.storage.store import Tx

TICKET_BYTES, REDEEM_BYTES = 16, 8


class Covers:
    """Use case of the clock."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def fill_slots(self) -> None:
        """Make the cases of this slot ready to be sent, once a slot and agreement."""
        node = self._node
        slot = node.now_ms() // (node.config.disclosure.silent_slot_s * 1000)
        with node.store.read() as tx:
            done = store.quiet_slots_of(tx)
        for known in node.agreements(QUERIER):
            if not disclosure.is_silent(known.agreement) or done.get(known.code, -1) >= slot:
                continue
            try:
                bound = node.bound(known.code, QUERIER)
            except PurposeRefusedError:
                continue
            self._fill(bound, slot)

    def _fill(self, bound: Bound, slot: int) -> None:
        node = self._node
        count = bound.agreement.cases_per_slot or 0
        with node.store.write() as tx:
            taken = queried.current_set(tx, bound.code)
            if taken is None or taken.not_after_ms <= node.now_ms():
                # Nothing can be asked of a set that is not there; the slot is filled once one is.
                return
            store.set_quiet_slot(tx, bound.code, slot)
            for row in store.waiting_cases(node.store, tx, bound.code):
                match = queried.get_match(node.store, tx, row.match_id or "")
                if count == 0 or match is None or match.epoch != taken.epoch:
                    # Not asked again in this epoch yet: an older one would tell it from a cover.
                    continue
                count -= 1
                payload = {
                    **row.payload,
                    "ticket_id": match.payload["ticket_id"],
                    "redeem": sorted(set(match.payload["redeem"])),
                }
                store.update_case(
                    node.store, tx, replace(row, epoch=taken.epoch, next_ms=node.now_ms(), payload=payload)
                )
            for _ in range(count):
                self._put_cover(tx, bound, taken.epoch)

    def _put_cover(self, tx: Tx, bound: Bound, epoch: int) -> None:
        node, now = self._node, self._node.now_ms()
        request_id = node.random.bytes(messages.REQUEST_ID_BYTES)
        purpose, basis = bound.agreement.purpose.value, bound.agreement.legal_basis[0].value
        actor = node.keyring.actor_commitment(
            bound.code, node.clock.now().date(), f"urn:connector-psi:authority:{node.authority}"
        )
        row = CaseRow(
            side=store.QUERIER,
            peer=bound.peer,
            request_id=request_id,
            agreement=bound.code,
            epoch=epoch,
            state=CaseState.DRAFTED,
            opened_ms=now,
            due_ms=now + node.config.disclosure.not_disclosed_after_s * 1000,
            next_ms=now,
            match_id=None,
            leaf_index=None,
            quiet=True,
            payload={
                "ticket_id": node.random.bytes(TICKET_BYTES).hex(),
                "redeem": [node.random.bytes(REDEEM_BYTES).hex()],
                "purpose": purpose,
                "legal_basis": basis,
                "case_reference": request_id.hex(),
                "justification": "cover: it asks about nothing",
                "actors": [actor.hex()],
                "types": [],
                "record_ref": "",
            },
        )
        store.put_case(node.store, tx, row)
        node.append(
            tx,
            Event.CASE_OPEN,
            {"operation": "consultation", "cover": True},
            bound,
            epoch=epoch,
            request_id=request_id,
            purpose=purpose,
            legal_basis=basis,
            actor_commitment=actor,
        )
