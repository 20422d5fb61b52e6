"""What the samples hold: who has which files, what is planted, what only resembles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from connector_psi.demo.numbers import Number

CUSTOMS, SIS, EUROPOL = "ics2", "sis", "europol"
"""Codes of the authorities; each uses the shipped profile of its name."""
OBJECTS, CROSS_CHECK = f"SIS-OBJ:{CUSTOMS}-{SIS}", f"EUR-XCHK:{CUSTOMS}-{EUROPOL}"
SILENT = tuple(f"{code}:{SIS}-{CUSTOMS}" for code in ("SIS-ARR", "SIS-CHK", "SIS-JUD", "SIS-MIS"))
"""N.SIS learns first, and nobody at customs is told."""


@dataclass(frozen=True, slots=True, order=True)
class Pair:
    """Something that two authorities know, by the references of their own records."""

    agreement: str
    querier_ref: str
    owner_ref: str
    identifier_type: str


@dataclass(frozen=True, slots=True)
class NearMiss:
    """Two records that resemble each other and must not match."""

    agreement: str
    querier_ref: str
    owner_ref: str
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What was written, and what is hidden in it."""

    seed: int
    files: Mapping[str, tuple[Path, ...]]
    """By authority."""
    planted: tuple[Pair, ...]
    near_misses: tuple[NearMiss, ...]
    numbers: Mapping[str, tuple[Number, ...]] = field(repr=False)
    """Every identifier that stands in the files, as it is written there; by authority."""
    houses: int = 0
