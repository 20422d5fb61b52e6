"""Erasure on time, with evidence: what was disclosed goes when its retention ends, and the log says that it went.

Rules:

1. At the querier fields, receipt and envelope go at ``erase_after``, to which the outcome bound it; the case is then
   ``EXPIRED``. A case that got no answer within its window expires too.
2. At the owner what was served goes at the end of the case window, much earlier: nobody can collect it any more. Every
   case writes its ERASE entry then, whatever it was, at a time that depends on nothing but when it was taken in.
3. What stands in place of it: dates, names of fields, obligations, the commitment of the outcome, entries of the log.

The entry is in the transaction of the erasure. The row is overwritten (``secure_delete``), then SQLite's write-ahead
log emptied, which is tried again until it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from connector_psi import disclosure
from connector_psi.audit.entries import Event, Side
from connector_psi.disclosure import CaseState, OwnerCaseState
from connector_psi.errors import AuditError, PurposeRefusedError, UnavailableError
from connector_psi.node.node import QUERIER, Node
from connector_psi.node.outbox import hold
from connector_psi.storage import cases as store
from connector_psi.storage.cases import NEVER_MS, CaseRow
from connector_psi.storage.store import Tx

RETENTION, WINDOW, RECALLED = "retention", "window", "recall"
"""Why something was erased, in the entry's body."""
_ANSWERED = (CaseState.DISCLOSED, CaseState.NOT_DISCLOSED)
_UNANSWERED = (CaseState.DRAFTED, CaseState.PENDING)


class Erasure:
    """What the clock erases."""

    def __init__(self, node: Node) -> None:
        self._node = node
        # Also after a start: the process before may have ended between an erasure and this.
        self._remains = True

    def run(self, gone: int = 0) -> int:
        """Erase what is due. Returns how many cases were erased or expired; none while the clock is in doubt.

        Args:
            gone: How many rows others deleted since the last turn; what was in them is overwritten too.
        """
        node = self._node
        node.check_alive()
        if not node.timekeeping.may_erase():
            return 0
        done = self._erase_due(store.QUERIER, _ANSWERED, RETENTION)
        done += self._erase_due(store.OWNER, (OwnerCaseState.RELEASED,), WINDOW)
        done += self._expire_unanswered()
        self._remains = self._remains or bool(done or gone)
        if self._remains:
            self._remains = not node.store.drop_remains()
        return done

    def _erase_due(self, side: str, states: tuple[str, ...], reason: str) -> int:
        node, done = self._node, 0
        while True:
            with node.store.read() as tx:
                due = store.due_cases(tx, side, states, node.now_ms())
            for peer, request_id in due:
                done += self._turn(side, peer, request_id, states, reason)
            if not due:
                return done

    def _expire_unanswered(self) -> int:
        node, done = self._node, 0
        t = timedelta(seconds=node.config.disclosure.not_disclosed_after_s)
        with node.store.read() as tx:
            waiting = store.agreements_of(tx, store.QUERIER, _UNANSWERED)
        for code, with_peer in waiting:
            with node.store.read() as tx:
                try:
                    # Also of one that is not in force any more.
                    bound = node.bound_of_case(tx, code, QUERIER, with_peer)
                except PurposeRefusedError:
                    # Its terms are nowhere; it must not keep the others back.
                    continue
                window = t + timedelta(days=bound.agreement.case_window_days)
                before = node.now_ms() - window // timedelta(milliseconds=1)
                due = store.unanswered(tx, store.QUERIER, _UNANSWERED, code, before)
            for peer, request_id in due:
                done += self._turn(store.QUERIER, peer, request_id, _UNANSWERED, WINDOW)
        return done

    def _turn(self, side: str, peer: str, request_id: bytes, states: tuple[str, ...], reason: str) -> int:
        node = self._node
        try:
            with node.store.write() as tx:
                row = store.get_case(node.store, tx, side, peer, request_id)
                if row is None or row.state not in states:
                    return 0
                erase_case(node, tx, row, reason)
        except (AuditError, UnavailableError):
            raise
        except Exception as error:  # noqa: BLE001 - one case must not keep the others back
            hold(node, "case", side, peer, request_id, error)
            return 0
        return 1


def erase_case(node: Node, tx: Tx, row: CaseRow, reason: str) -> CaseRow:
    """Erase what a case disclosed, and write the entry that says so.

    Args:
        node: The node.
        tx: Transaction of the erasure.
        row: As it stands in ``tx``.
        reason: ``RETENTION``, ``WINDOW`` or ``RECALLED``.
    """
    querier = row.side == store.QUERIER
    kept, fields, commitment, gone = _of_querier(row) if querier else _of_owner(row.payload)
    now = node.clock.now().replace(microsecond=0)
    entry = node.append(
        tx,
        Event.ERASE,
        {
            "operation": "erasure",
            "case": row.request_id.hex(),
            "fields": fields,
            "receipt": commitment.hex() if commitment else "",
            "erased": gone,
            "reason": reason,
        },
        node.bound_of_case(tx, row.agreement, Side(row.side), row.peer),
        epoch=row.epoch,
        request_id=row.request_id,
        source_commitment=commitment,
    )
    erased = replace(
        row,
        state=CaseState.EXPIRED if querier else OwnerCaseState.ERASED,
        next_ms=NEVER_MS,
        payload={**kept, "erased": {"at": now.isoformat(), "reason": reason, "leaf": entry.index, "fields": fields}},
    )
    if querier:
        disclosure.advance(CaseState(row.state), CaseState.EXPIRED)
    else:
        disclosure.advance(OwnerCaseState(row.state), OwnerCaseState.ERASED)
    store.update_case(node.store, tx, erased)
    return erased


_Left = tuple[dict[str, Any], list[str], bytes | None, list[str]]
"""What stays, names of the fields, the commitment of the outcome, what goes."""


def _of_querier(row: CaseRow) -> _Left:
    kept = {name: value for name, value in row.payload.items() if name not in {"ticket_id", "redeem", "seen"}}
    outcome: Mapping[str, Any] | None = row.payload.get("outcome")
    if outcome is None:
        return kept, [], None, ["ticket"]
    receipt = outcome["receipt"]
    fields = sorted(outcome["fields"])
    commitment = disclosure.source_commitment(bytes.fromhex(receipt["salt"]), bytes.fromhex(receipt["envelope"]))
    kept["outcome"] = {
        **{name: value for name, value in outcome.items() if name not in {"fields", "evaluation", "receipt"}},
        "fields": {},
        "receipt": {"commitment": commitment.hex(), "leaf": receipt["leaf"], "index": receipt["index"]},
    }
    return kept, fields, commitment, ["fields", "envelope", "ticket"]


def _of_owner(payload: Mapping[str, Any]) -> _Left:
    gone = ("envelope", "envelope_signature", "salt", "ticket_id", "redeem")
    kept = {name: value for name, value in payload.items() if name not in gone}
    return kept, list(payload["released"]), bytes.fromhex(payload["source_commitment"]), ["envelope", "ticket"]
