"""Charts as SVG, to stand in a page: no script, nothing from elsewhere, no style; all text is escaped.

Decides: how counts are drawn, and how one that is suppressed is. Leaves to others: the figures, and the table of the
same figures that stands beside every chart, for people and programs that do not see it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape

from connector_psi.errors import InputError

SMALL = "<10"
UNDER = 10
Value = float | int | str
"""A number, ``SMALL``, or another text where nothing is told."""

_COLOURS = ("#1f4e79", "#b45f06", "#38761d", "#741b47", "#4a4a4a", "#0b7285")
"""Against white all have a contrast of more than 4.5 to 1; a second mark tells series apart without colour."""
_DASHES = ("", "6 3", "2 3", "8 3 2 3", "1 2", "12 4")
_INK, _GRID = "#1a1a1a", "#d0d0d0"
_WIDTH, _ROW, _LABEL, _CHARACTERS = 720, 26, 230, 32
_HEIGHT, _LEFT, _BOTTOM = 220, 60, 30


def bars(title: str, labels: Sequence[str], values: Sequence[Value], *, unit: str) -> str:
    """Return a chart with one bar for each label, one below the other.

    Args:
        title: What is shown.
        labels: Names of the bars.
        values: Not below zero; ``SMALL`` is drawn hatched and as long as ten, other texts as no bar.
        unit: Of the values, such as ``cases``.

    Raises:
        InputError: Not as many values as labels, or a value below zero or not finite.
    """
    if len(labels) != len(values):
        raise InputError("chart: as many values as labels are needed")
    sizes = [_size(value) for value in values]
    top, pattern = _top(sizes), _name("hatch", title, *labels)
    scale = (_WIDTH - _LABEL - 90) / top
    parts = [_hatching(pattern)] if SMALL in values else []
    for row, (label, value, size) in enumerate(zip(labels, values, sizes, strict=True)):
        y = 34 + row * _ROW
        fill = f"url(#{pattern})" if value == SMALL else _COLOURS[0]
        parts.append(_text(_LABEL - 8, y + 14, _short(label), anchor="end"))
        if size:
            parts.append(
                f'<rect x="{_LABEL}" y="{y}" width="{_number(size * scale)}" height="{_ROW - 8}" fill="{fill}"'
                f' stroke="{_COLOURS[0]}"/>'
            )
        parts.append(_text(_LABEL + 6 + size * scale, y + 14, _told(value)))
    parts.append(
        f'<line x1="{_LABEL}" y1="28" x2="{_LABEL}" y2="{34 + len(labels) * _ROW}" stroke="{_INK}" stroke-width="1"/>'
    )
    said = "; ".join(f"{label}: {_spoken(value)}" for label, value in zip(labels, values, strict=True))
    return _svg(title, f"{unit}. {said or 'nothing'}.", 44 + len(labels) * _ROW, parts)


def months(title: str, series: Mapping[str, Sequence[Value]]) -> str:
    """Return a chart with one line for each series over the months of a year.

    A point that is suppressed is drawn as a hollow square at ten and joined to nothing; other texts leave a gap.

    Args:
        title: What is shown.
        series: Name -> twelve values, January first; at most six.

    Raises:
        InputError: A series has not twelve values, there are more than six, or a value is below zero or not finite.
    """
    if len(series) > len(_COLOURS) or any(len(values) != 12 for values in series.values()):
        raise InputError("chart: at most six series of twelve months")
    top = _top([_size(value) for values in series.values() for value in values])
    step, scale = (_WIDTH - _LEFT - 30) / 11, (_HEIGHT - 20) / top
    base, parts = 30 + _HEIGHT, []
    pattern = _name("hatch", title, *series)
    if any(SMALL in values for values in series.values()):
        parts.append(_hatching(pattern))
    for share in (0.0, 0.5, 1.0):
        y = base - share * top * scale
        parts.append(f'<line x1="{_LEFT}" y1="{_number(y)}" x2="{_WIDTH - 20}" y2="{_number(y)}" stroke="{_GRID}"/>')
        parts.append(_text(_LEFT - 8, y + 4, _told(round(share * top, 1)), anchor="end"))
    parts += [_text(_LEFT + month * step, base + 18, f"{month + 1:02d}", anchor="middle") for month in range(12)]
    for place, (name, values) in enumerate(series.items()):
        points = [(_LEFT + month * step, base - _size(value) * scale, value) for month, value in enumerate(values)]
        parts += _line(points, place, pattern)
        y = base + _BOTTOM + 14 + place * 20
        parts.append(
            f'<line x1="{_LEFT}" y1="{y}" x2="{_LEFT + 40}" y2="{y}" stroke="{_COLOURS[place]}" stroke-width="2"'
            f"{_dash(place)}/>"
        )
        parts.append(_text(_LEFT + 48, y + 4, _short(name, 80)))
    said = " ".join(f"{name}: {', '.join(map(_spoken, values))}." for name, values in series.items())
    return _svg(title, said or "nothing.", base + _BOTTOM + 20 + 20 * len(series), parts)


def _line(points: Sequence[tuple[float, float, Value]], place: int, pattern: str) -> Iterator[str]:
    colour, run = _COLOURS[place], [[]]  # type: tuple[str, list[list[str]]]
    for x, y, value in points:
        if isinstance(value, str):
            run.append([])
        else:
            run[-1].append(f"{_number(x)},{_number(y)}")
    for joined in run:
        if len(joined) > 1:
            yield (
                f'<polyline points="{" ".join(joined)}" fill="none" stroke="{colour}" stroke-width="2"{_dash(place)}/>'
            )
    for x, y, value in points:
        if value == SMALL:
            yield (
                f'<rect x="{_number(x - 5)}" y="{_number(y - 5)}" width="10" height="10" fill="url(#{pattern})"'
                f' stroke="{colour}"/>'
            )
        elif not isinstance(value, str):
            yield f'<circle cx="{_number(x)}" cy="{_number(y)}" r="3" fill="{colour}"/>'


def _dash(place: int) -> str:
    return f' stroke-dasharray="{_DASHES[place]}"' if _DASHES[place] else ""


def _svg(title: str, description: str, height: float, parts: Sequence[str]) -> str:
    named, described = _name("title", title, description), _name("desc", title, description)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="{named} {described}"'
        f' viewBox="0 0 {_WIDTH} {_number(height)}" width="{_WIDTH}" height="{_number(height)}"'
        ' font-family="sans-serif" font-size="13">'
        f'<title id="{named}">{_safe(title)}</title><desc id="{described}">{_safe(description)}</desc>'
        f'<rect x="0" y="0" width="{_WIDTH}" height="{_number(height)}" fill="#ffffff"/>'
        f"{_text(10, 18, _short(title, 90), bold=True)}{''.join(parts)}</svg>\n"
    )


def _hatching(name: str) -> str:
    return (
        f'<defs><pattern id="{name}" width="6" height="6" patternUnits="userSpaceOnUse">'
        f'<rect width="6" height="6" fill="#ffffff"/>'
        f'<path d="M0 6 L6 0" stroke="{_COLOURS[0]}" stroke-width="1.5"/></pattern></defs>'
    )


def _text(x: float, y: float, text: str, *, anchor: str = "start", bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{_number(x)}" y="{_number(y)}" fill="{_INK}" text-anchor="{anchor}"{weight}>{_safe(text)}</text>'


def _safe(text: str) -> str:
    """Escape, and leave out what no XML may hold."""
    return escape("".join(c for c in text if c in "\t\n" or (c.isprintable() and not 0xD800 <= ord(c) <= 0xDFFF)))


def _short(text: str, limit: int = _CHARACTERS) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _name(kind: str, *parts: str) -> str:
    """A name that no other chart of the page has, unless it shows the same."""
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()
    return f"{kind}-{digest[:12]}"


def _size(value: Value) -> float:
    if isinstance(value, str):
        return float(UNDER) if value == SMALL else 0.0
    if not math.isfinite(value) or value < 0:
        raise InputError("chart: a value below zero or not finite")
    return float(value)


def _top(sizes: Sequence[float]) -> float:
    return max([*sizes, 1.0])


def _told(value: Value) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) or not value.is_integer() else f"{int(value):,}"


def _spoken(value: Value) -> str:
    if isinstance(value, str):
        return "under 10" if value == SMALL else "not told"
    return _told(value)


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
