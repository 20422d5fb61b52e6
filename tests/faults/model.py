"""What must be true of two authorities, in a few dozen lines: live records in the clear, their join, and the cases.

It knows nothing of tokens, sets, batches, epochs or time: whoever compares it with nodes tells it what was acknowledged, in any order that
gives the same records in the end, and compares once the nodes say that they have settled.

    model = Reference()
    model.register_alert("A1", {box})
    model.register_declaration("D1", {box})
    assert model.expected_pairs() == {("D1", "A1")}
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from connector_psi.domain.identifiers import implied
from connector_psi.domain.records import IDENTIFIER_TABLE, IdentifierType

Token = tuple[IdentifierType, str]


class Side(Enum):
    """Who holds a record: the querier declarations, the owner alerts."""

    DECLARATION = "declaration"
    ALERT = "alert"


@dataclass
class Reference:
    """The two authorities of one agreement whose rule is ``sufficient_or_two``, or ``sufficient_alone`` where ``two`` is false.

    Args:
        two: Whether two identifiers that do not suffice alone are a match together.
        ever: Every pair that was to be found at some time: what a person may still see though a record left meanwhile.
    """

    two: bool = True
    ever: set[tuple[str, str]] = field(default_factory=set)
    _records: dict[Side, dict[str, frozenset[Token]]] = field(default_factory=lambda: {side: {} for side in Side})
    _holders: dict[Side, dict[Token, set[str]]] = field(default_factory=lambda: {side: {} for side in Side})
    _expiry: dict[tuple[Side, str], float] = field(default_factory=dict)
    _cases: dict[str, str] = field(default_factory=dict)

    def register_declaration(self, ref: str, identifiers: Iterable[Token], until: float | None = None) -> None:
        """A declaration is new, or says something else than before."""
        self._register(Side.DECLARATION, ref, identifiers, until)

    def register_alert(self, ref: str, identifiers: Iterable[Token], until: float | None = None) -> None:
        """An alert is new, or says something else than before."""
        self._register(Side.ALERT, ref, identifiers, until)

    def withdraw(self, side: Side | str, ref: str) -> bool:
        """A record leaves. Returns whether it was there."""
        side = Side(side)
        tokens = self._records[side].pop(ref, None)
        self._expiry.pop((side, ref), None)
        for token in tokens or ():
            self._holders[side][token].discard(ref)
        return tokens is not None

    def expire(self, now: float) -> set[tuple[Side, str]]:
        """Everything leaves whose time is over. Returns what left."""
        over = {key for key, until in self._expiry.items() if until <= now}
        for side, ref in over:
            self.withdraw(side, ref)
        return over

    def live(self, side: Side | str) -> dict[str, frozenset[Token]]:
        """Return the live records of a side, and what each can be found by."""
        return dict(self._records[Side(side)])

    def expected_pairs(self) -> set[tuple[str, str]]:
        """Return every ``(declaration, alert)`` of live records that is a match."""
        return {pair for ref in self._records[Side.DECLARATION] for pair in self._pairs_of(Side.DECLARATION, ref)}

    def open_case(self, declaration: str, outcome: str) -> None:
        """A case is opened for a declaration: it must end so, once.

        Args:
            declaration: Its reference.
            outcome: ``disclosed`` or ``not_disclosed``; of a case that was opened before the first stays.
        """
        self._cases.setdefault(declaration, outcome)

    def expected_cases(self) -> dict[str, str]:
        """Return how each case must end, by declaration."""
        return dict(self._cases)

    def _register(self, side: Side, ref: str, identifiers: Iterable[Token], until: float | None) -> None:
        self.withdraw(side, ref)
        said = frozenset(identifiers)
        self._records[side][ref] = said.union(*(implied(*token) for token in said))
        for token in self._records[side][ref]:
            self._holders[side].setdefault(token, set()).add(ref)
        if until is not None:
            self._expiry[side, ref] = until
        self.ever |= self._pairs_of(side, ref)

    def _pairs_of(self, side: Side, ref: str) -> set[tuple[str, str]]:
        other = Side.ALERT if side is Side.DECLARATION else Side.DECLARATION
        own = self._records[side][ref]
        candidates = set[str]().union(*(self._holders[other].get(token, ()) for token in own))
        found = {theirs for theirs in candidates if self._is_match(own & self._records[other][theirs])}
        return {(ref, theirs) if side is Side.DECLARATION else (theirs, ref) for theirs in found}

    def _is_match(self, shared: frozenset[Token]) -> bool:
        kinds = {kind for kind, _ in shared}
        return any(IDENTIFIER_TABLE[kind].suffices_alone for kind in kinds) or (self.two and len(kinds) > 1)
