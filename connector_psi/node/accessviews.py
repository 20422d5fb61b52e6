"""Requests for access of both sides as people of this authority see them."""

from __future__ import annotations

from dataclasses import dataclass

from connector_psi.errors import PurposeRefusedError
from connector_psi.node.node import Node
from connector_psi.storage import accesses as store
from connector_psi.storage.accesses import AccessRow

PAGE = 100


@dataclass(frozen=True, slots=True)
class AccessView:
    """A request as people of this authority see it."""

    row: AccessRow
    people_needed: int
    people_approved: int


class AccessViews:
    """Use cases of whoever reads requests for access."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def list(self, states: tuple[str, ...] = (), limit: int = 0, offset: int = 0) -> list[AccessView]:
        """Return requests of both sides, oldest first, at most 100."""
        node = self._node
        node.check_alive()
        with node.store.read() as tx:
            rows = store.list_page(node.store, tx, states=states, limit=min(limit or PAGE, PAGE), offset=offset)
        return [self.view(row) for row in rows]

    def get(self, request_id: bytes) -> AccessView:
        """Return one request.

        Raises:
            PurposeRefusedError: There is none.
        """
        node = self._node
        node.check_alive()
        with node.store.read() as tx:
            row = store.find(node.store, tx, request_id)
        if row is None:
            raise PurposeRefusedError("no such request for access")
        return self.view(row)

    def view(self, row: AccessRow) -> AccessView:
        """Return a request with what its agreement says about it."""
        bound = self._node.in_force(row.agreement)
        grant = bound.agreement.grant if bound else None
        return AccessView(row, grant.people if grant else 0, len(row.payload.get("approvals", ())))
