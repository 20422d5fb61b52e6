"""Recalls of both sides as people of this authority see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from connector_psi.disclosure import Outcome
from connector_psi.errors import PurposeRefusedError
from connector_psi.node.node import Node
from connector_psi.node.recalled import stored_envelope
from connector_psi.storage import cases
from connector_psi.storage import recalls as store
from connector_psi.storage.cases import CaseRow
from connector_psi.storage.recalls import RecallRow
from connector_psi.storage.store import Tx

PAGE = 100


@dataclass(frozen=True, slots=True)
class RecallView:
    """A recall as people of this authority see it."""

    row: RecallRow
    overdue: bool
    """Two working days are over, and nobody acknowledged it."""
    case_reference: str = ""
    """Of the querier."""
    fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    """What replaces what was disclosed, for whoever acknowledges it."""

    @property
    def withdraws(self) -> bool:
        """Whether it takes back what was disclosed, instead of replacing it."""
        return bool(self.row.payload["outcome"] == Outcome.NOT_DISCLOSED)


class RecallViews:
    """Use cases of whoever reads recalls."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def list(self, states: tuple[str, ...] = (), limit: int = 0, offset: int = 0) -> list[RecallView]:
        """Return recalls of both sides, oldest first, without fields, at most 100.

        None of an agreement without notice at its owner, and no covers.
        """
        node = self._node
        node.check_alive()
        with node.store.read() as tx:
            rows = store.list_recalls(node.store, tx, states=states, limit=min(limit or PAGE, PAGE), offset=offset)
            return [self._view(tx, row, fields=False) for row in rows]

    def of_case(self, case: CaseRow) -> Sequence[RecallView]:
        """Return the recalls of a case that people may see, without fields."""
        node = self._node
        node.check_alive()
        with node.store.read() as tx:
            rows = store.recalls_of_case(node.store, tx, case.side, case.peer, case.request_id)
            return [self._view(tx, row, fields=False) for row in rows if not row.quiet]

    def get(self, recall_id: bytes) -> RecallView:
        """Return one recall.

        Raises:
            PurposeRefusedError: There is none that people may see.
        """
        node = self._node
        node.check_alive()
        with node.store.read() as tx:
            row = store.find_recall(node.store, tx, recall_id)
            if row is None:
                raise PurposeRefusedError("no such recall")
            return self._view(tx, row, fields=True)

    def _view(self, tx: Tx, row: RecallRow, *, fields: bool) -> RecallView:
        node = self._node
        case = cases.get_case(node.store, tx, row.side, row.peer, row.case_id)
        overdue = row.state != store.ACKNOWLEDGED and node.now_ms() > row.due_ms
        shown: Mapping[str, tuple[str, ...]] = {}
        if fields and row.side == cases.QUERIER and row.state == store.OPEN:
            envelope = stored_envelope(row.payload["message"]["envelope"])
            shown = {name.value: values for name, values in envelope.fields.items()}
        return RecallView(row, overdue, case.payload["case_reference"] if case is not None else "", shown)
