"""What it means for a case that the record behind it changed.

Decides: which fields tell where a thing goes (a change of them re-routes it), and which messages say that it arrived.
Leaves to others: noticing a change, and to whom it is shown (``node.following``). Free of I/O.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from enum import StrEnum
from typing import Final

from connector_psi.domain.records import Field, IdentifierType, Record, SourceSystem, message_of


class ChangeKind(StrEnum):
    """What became of a record."""

    AMENDED = "amended"
    REROUTED = "rerouted"
    ARRIVED = "arrived"
    LEFT = "left"
    """Withdrawn, or its time is over."""


ROUTING: Final = frozenset({Field.ROUTE, Field.PLACE, Field.ETA, Field.MEANS})
"""Where a thing goes, when it is to be there, and what carries it."""
CARRIERS: Final = frozenset(
    {
        IdentifierType.AIRCRAFT,
        IdentifierType.ENI,
        IdentifierType.IMO,
        IdentifierType.MMSI,
        IdentifierType.PLATE,
        IdentifierType.PLATE_NUMBER,
    }
)
"""Identifiers of what carries it, where the means of transport changed with them."""
# From: adapters.ncts, statements of the office of destination and to it: arrival notification, permission to unload,
# unloading remarks.
_NCTS_ARRIVALS: Final = ("CC007C", "CC043C", "CC044C")
_NCTS_OTHERS: Final = ("CC025C", "CC028C", "CC170C", "CC182C")
STATING: Final = "ncts."
"""What categories of records begin with that may say that another one arrived."""
_NCTS_STATEMENT: Final = re.compile(r"(.+)/CC\d{3}C")


def kinds(names: Collection[str]) -> dict[ChangeKind, tuple[str, ...]]:
    """Return what changes of some fields and identifier types mean, with the names that say so, in order.

    Args:
        names: Values of ``Field`` and ``IdentifierType``.
    """
    moved = {name for name in names if name in ROUTING}
    if Field.MEANS in moved:
        moved |= {name for name in names if name in CARRIERS}
    rest = set(names) - moved
    found: dict[ChangeKind, tuple[str, ...]] = {}
    if moved:
        found[ChangeKind.REROUTED] = tuple(sorted(moved))
    if rest:
        found[ChangeKind.AMENDED] = tuple(sorted(rest))
    return found


def _movement(record: Record) -> str:
    """What the message that a record is of is about: the declaration, for a statement about one."""
    _, name = message_of(record)
    statement = _NCTS_STATEMENT.fullmatch(name)
    return statement[1] if statement else name


def arrivals_of(record: Record) -> tuple[str, ...]:
    """Return the ``message_ref`` of messages that say that what a record is about arrived."""
    if record.source is not SourceSystem.NCTS:
        return ()
    return tuple(f"{_movement(record)}/{name}" for name in _NCTS_ARRIVALS)


def is_arrival(record: Record) -> bool:
    """Return whether a record itself says that something arrived."""
    return message_of(record)[1] in arrivals_of(record)


def messages_about(record: Record) -> tuple[str, ...]:
    """Return the ``message_ref`` of the declaration that a statement is about, and of the other statements."""
    movement = _movement(record)
    return (movement, *(f"{movement}/{name}" for name in _NCTS_OTHERS))
