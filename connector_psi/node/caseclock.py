"""When a case moves: slots by the node's settings."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from connector_psi import disclosure
from connector_psi.node.node import Node, from_millis, millis
from connector_psi.policy import Agreement


class Accepted(Protocol):
    """What was taken in at some time: a case, a request for access."""

    @property
    def opened_ms(self) -> int:
        """When, in Unix milliseconds."""
        ...


def next_slot_ms(node: Node, after_ms: int | None = None) -> int:
    """Return the next slot after a time, by default after now, in Unix milliseconds."""
    after = from_millis(node.now_ms() if after_ms is None else after_ms)
    return millis(disclosure.next_slot(after, node.config.disclosure.slot_s))


def decided_slot_ms(node: Node, row: Accepted) -> int:
    """Return the slot of a case that is decided now, in Unix milliseconds."""
    settings = node.config.disclosure
    return millis(
        disclosure.outcome_slot(
            from_millis(row.opened_ms), node.clock.now(), settings.not_disclosed_after_s, settings.slot_s
        )
    )


def last_slot(node: Node, row: Accepted) -> datetime:
    """Return the last slot of a case: whoever decides after it is too late."""
    settings = node.config.disclosure
    return disclosure.last_slot(from_millis(row.opened_ms), settings.not_disclosed_after_s, settings.slot_s)


def answer_due(agreement: Agreement, opened_ms: int) -> int:
    """Return when an agreement wants a case answered, in Unix milliseconds.

    Args:
        agreement: Of the case.
        opened_ms: When it was opened, or taken in, at this side.
    """
    return opened_ms + agreement.answer_within_h * 3_600_000


def window_end_ms(node: Node, agreement: Agreement, opened_ms: int) -> int:
    """Return when a case of an agreement is over, in Unix milliseconds."""
    t_s = node.config.disclosure.not_disclosed_after_s
    return millis(disclosure.window_end(from_millis(opened_ms), t_s, agreement.case_window_days))
