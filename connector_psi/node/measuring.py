"""What a node tells whoever measures it: calls, turns of loops, counts. A port; ``telemetry`` implements it.

Decides: what may be told at all. Agreement codes, authorities, methods, states, classes and numbers; never a record, an
identifier, a person, a case or a text. Leaves to others: what becomes of it. By default nothing does.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Span(Protocol):
    """Something that takes time and is under way."""

    def note(self, **attributes: str | int) -> None:
        """Add what is known of it by now: codes, states and numbers alone."""
        ...

    def drop(self) -> None:
        """Say that it was nothing worth telling: a turn in which there was nothing to do."""
        ...


class Telemetry(Protocol):
    """Takes what a node tells about its work. Nothing of it may raise, or take long."""

    def span(
        self, name: str, *, parent: str = "", apart: bool = False, **attributes: str | int
    ) -> AbstractContextManager[Span]:
        """Tell of the time that a block takes.

        Args:
            name: Of a fixed set of names.
            parent: A W3C ``traceparent`` from the local port; empty everywhere else.
            apart: Whether other spans of the thread do not belong to this one, because the block is left meanwhile.
            attributes: Codes, states and numbers alone.
        """
        ...

    def called(self, direction: str, method: str, status: str, seconds: float) -> None:
        """Count a call: ``peer`` and ``local`` came in there, ``out`` went to a peer."""
        ...

    def registered(self, outcomes: Mapping[str, int]) -> None:
        """Count records by what became of them."""
        ...

    def evaluated(self, agreement: str, token_class: str, elements: int) -> None:
        """Count padded elements that this node evaluated for a peer."""
        ...

    def asked(self, agreement: str, token_class: str, elements: int) -> None:
        """Count a query that this node sent, and its padded elements."""
        ...

    def turned(self, loop: str, seconds: float, *, failed: bool) -> None:
        """Count a turn of a loop."""
        ...

    def committed(self, seconds: float) -> None:
        """Tell how long a writer waited for the disk."""
        ...


class _NoSpan:
    def note(self, **attributes: str | int) -> None:
        """Nothing is told."""

    def drop(self) -> None:
        """Nothing is told."""


class NoTelemetry:
    """Tells nobody anything."""

    def span(
        self,
        name: str,  # noqa: ARG002 - the port
        *,
        parent: str = "",  # noqa: ARG002 - the port
        apart: bool = False,  # noqa: ARG002 - the port
        **attributes: str | int,  # noqa: ARG002 - the port
    ) -> AbstractContextManager[Span]:
        """Nothing is told."""
        return nullcontext(NO_SPAN)

    def called(self, direction: str, method: str, status: str, seconds: float) -> None:
        """Nothing is told."""

    def registered(self, outcomes: Mapping[str, int]) -> None:
        """Nothing is told."""

    def evaluated(self, agreement: str, token_class: str, elements: int) -> None:
        """Nothing is told."""

    def asked(self, agreement: str, token_class: str, elements: int) -> None:
        """Nothing is told."""

    def turned(self, loop: str, seconds: float, *, failed: bool) -> None:
        """Nothing is told."""

    def committed(self, seconds: float) -> None:
        """Nothing is told."""


NO_SPAN = _NoSpan()
