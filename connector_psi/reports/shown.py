"""A report as people read it: a title and parts in order. Whoever shows it decides how they look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a caption."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart as SVG; a table with the same figures stands beside it."""

    svg: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True, slots=True)
class Points:
    """A list under a heading."""

    heading: str
    items: Sequence[str]


Part = Table | Chart | Text | Points


@dataclass(frozen=True, slots=True)
class Report:
    """A report, and the same as CSV."""

    title: str
    parts: tuple[Part, ...] = field(repr=False)
    csv: str = field(repr=False)
