"""The lines that a node's modules write to the log of their process, whatever else configured structlog before."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class _Recorder:
    def __init__(self, lines: list[dict[str, Any]]) -> None:
        self._lines = lines

    def __getattr__(self, level: str) -> Callable[..., None]:
        def write(event: str, **values: Any) -> None:
            self._lines.append({"level": level, "event": event, **values})

        return write


@contextmanager
def recorded_lines() -> Iterator[list[dict[str, Any]]]:
    """Collect what the modules of the project write while the block runs."""
    lines: list[dict[str, Any]] = []
    modules = [m for name, m in sys.modules.items() if name.startswith("connector_psi") and hasattr(m, "logger")]
    before = [(module, module.logger) for module in modules]
    for module in modules:
        setattr(module, "logger", _Recorder(lines))  # noqa: B010 - a module has no such attribute for mypy
    try:
        yield lines
    finally:
        for module, logger in before:
            setattr(module, "logger", logger)  # noqa: B010 - as above
