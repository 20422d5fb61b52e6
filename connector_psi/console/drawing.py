"""Drawings of the overview, as SVG from the server: trends, and the federation as a map.

Decides: what is drawn where. No colour stands in a drawing: the style sheet gives them, light and dark. Beside every
drawing stands a table with the same, for people and programs that do not see it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from connector_psi.console.language import Language
from connector_psi.console.words import Words

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 520.0, 200.0, 52.0, 34.0, 16.0
_LABELS = 6
_KEY = Markup(
    '<li class="{}"><svg viewBox="0 0 24 8" aria-hidden="true"><line class="{}" x1="0" y1="4" x2="24" y2="4"/></svg>'
    "{}</li>"
)
_MAP_WIDTH = 720.0
_MAP_HEIGHTS = (110.0, 110.0, 110.0, 340.0)
"""With no peer, one, two, and more: those stand on a circle."""


def lines(title: str, labels: Sequence[str], series: Mapping[str, Sequence[float]], told: Language) -> Markup:
    """Return a chart with a line for each series.

    Args:
        title: What is shown.
        labels: Of the points, from the left.
        series: Name -> as many values as labels, not below zero.
        told: Language of the numbers.
    """
    top = _nice(max([1.0, *(value for values in series.values() for value in values)]))
    step = (_WIDTH - _LEFT - 12) / max(1, len(labels) - 1)
    scale = (_HEIGHT - _TOP - _BOTTOM) / top
    base = _HEIGHT - _BOTTOM
    parts = []
    for share in (0.0, 0.5, 1.0):
        y = base - share * top * scale
        parts.append(
            Markup('<line class="grid" x1="{}" y1="{:.1f}" x2="{}" y2="{:.1f}"/>').format(_LEFT, y, _WIDTH - 8, y)
        )
        parts.append(_text(_LEFT - 8, y + 4, told.number(share * top), "end"))
    every = max(1, math.ceil(len(labels) / _LABELS))
    for place, label in enumerate(labels):
        if (len(labels) - 1 - place) % every == 0:
            anchor = "end" if place == len(labels) - 1 else "middle"
            parts.append(_text(_LEFT + place * step, base + 18, label, anchor))
    for number, values in enumerate(series.values()):
        points = [(_LEFT + place * step, base - value * scale) for place, value in enumerate(values)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(Markup('<polyline class="line s{}" points="{}"/>').format(number, path))
        x, y = points[-1]
        parts.append(Markup('<circle class="dot s{}" cx="{:.1f}" cy="{:.1f}" r="3.5"/>').format(number, x, y))
    said = "; ".join(f"{name}: {told.number(values[-1])}" for name, values in series.items())
    key = Markup("").join(_KEY.format(f"s{number}", f"line s{number}", name) for number, name in enumerate(series))
    drawn = Markup('<svg viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}">{}</svg>').format(
        _WIDTH, _HEIGHT, f"{title}. {said}.", Markup("").join(parts)
    )
    return Markup('<figure class="chart"><figcaption>{}</figcaption>{}<ul class="key">{}</ul></figure>').format(
        title, drawn, key
    )


def peers(status: Mapping[str, Any], shown: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return each peer with its health and what is exchanged with it."""
    found = []
    for contact in status["contacts"]:
        own = [line for line in shown if line["peer"] == contact["authority"]]
        if own:
            found.append({**contact, "health": _health(contact), "lines": own})
    return found


def federation(
    title: str,
    status: Mapping[str, Any],
    shown: Sequence[Mapping[str, Any]],
    t: Callable[..., str],
    told: Language,
    words: Words,
) -> Markup:
    """Return the map: this node in the middle, each peer around it, and what is exchanged between them."""
    around = peers(status, shown)
    height = _MAP_HEIGHTS[min(len(around), len(_MAP_HEIGHTS) - 1)]
    x0, y0 = _MAP_WIDTH / 2, height / 2
    parts: list[Markup] = []
    nodes: list[Markup] = []
    for place, peer in enumerate(around):
        # One beside this node, two at its sides, more on a circle that begins below it.
        angle = 2 * math.pi * place / len(around) + (math.pi / 2 if len(around) > 2 else 0)
        x, y = x0 + 250 * math.cos(angle), y0 + (height / 2 - 45) * math.sin(angle)
        parts.append(
            Markup('<line class="link {}" x1="{:.0f}" y1="{:.0f}" x2="{:.0f}" y2="{:.0f}"/>').format(
                peer["health"], x0, y0, x, y
            )
        )
        ages = [line["set_age_s"] for line in peer["lines"] if line.get("set_age_s") is not None]
        age = t("oldest set: {span}", span=told.span(max(ages))) if ages else t("no set yet")
        nodes.append(_node(x, y, peer["authority"], words("profile", peer["role"] or ""), age, peer["health"]))
    nodes.append(_node(x0, y0, status["authority"], words("profile", status["role"]), t("this node"), "own"))
    return Markup('<svg class="map" viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}">{}{}</svg>').format(
        _MAP_WIDTH, height, title, Markup("").join(parts), Markup("").join(nodes)
    )


def _node(x: float, y: float, code: str, role: str, line: str, health: str) -> Markup:
    return Markup('<g class="node {}"><rect x="{:.0f}" y="{:.0f}" width="190" height="70" rx="10"/>{}{}{}</g>').format(
        health,
        x - 95,
        y - 35,
        _text(x, y - 13, code, "middle", "name"),
        _text(x, y + 6, role, "middle"),
        _text(x, y + 24, line, "middle", "small"),
    )


def _health(contact: Mapping[str, Any]) -> str:
    if not contact["active"]:
        return "revoked"
    if contact["reachable"]:
        return "good"
    return "away" if contact["failures"] else "unknown"


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        kind, x, y, anchor, escape(text)
    )


def _nice(value: float) -> float:
    """The next round number: two gridlines below it are round too."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * step for step in (1, 2, 4, 6, 8, 10) if power * step >= value)
