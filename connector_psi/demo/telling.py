"""How the demonstration speaks: a heading, a table and the time of each stage, and a verdict on each claim."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table


class Teller:
    """Tells stages to a console, and remembers the claims that did not hold.

    Args:
        console: Where to.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()
        self._stage_started = self._started
        self._stage = 0
        self.failures: list[str] = []

    @property
    def seconds(self) -> float:
        """Time since the beginning."""
        return round(time.monotonic() - self._started, 1)

    def begin(self, title: str) -> None:
        """Begin a stage."""
        self._stage += 1
        self._stage_started = time.monotonic()
        self.rule(f"{self._stage}. {title}")

    def rule(self, title: str) -> None:
        """Draw a line with a title."""
        self._console.print()
        self._console.rule(f"[bold]{title}", align="left")

    def end(self) -> None:
        """End a stage with the time it took."""
        self.say(f"[dim]{time.monotonic() - self._stage_started:.1f} s[/]")

    def say(self, text: str) -> None:
        """Say something, in rich's markup."""
        self._console.print(text, highlight=False)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Show a table; columns that hold numbers alone stand to the right."""
        cells = [list(row) for row in rows]
        table = Table(header_style="bold", pad_edge=False)
        for place, column in enumerate(columns):
            numeric = bool(cells) and all(isinstance(row[place], int) for row in cells)
            table.add_column(column, overflow="fold", justify="right" if numeric else "left")
        for row in cells:
            table.add_row(*(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row))
        self._console.print(table)

    def check(self, claim: str, *, holds: bool) -> None:
        """Tell a claim with the verdict on it."""
        self.say(f"{'[green]ok[/]  ' if holds else '[bold red]NO[/]  '}{claim}")
        if not holds:
            self.failures.append(claim)
