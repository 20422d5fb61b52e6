"""What a node tells, handed to whoever measures it: metrics, traces, or both. Implements ``node.measuring``.

Decides: what is set up from the settings of a node, and when it is closed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from connector_psi.node.measuring import NO_SPAN, Span
from connector_psi.telemetry.metrics import Endpoint, Metrics
from connector_psi.telemetry.tracing import LinesExporter, Tracing, endpoint_exporter


class Recorder:
    """Takes what a node tells about its work.

    Args:
        status: The state of the node, as ``status --json`` prints it.
        build: Authority, version, backend and rules.
        is_quiet: Whether the node is the owner in an agreement without notice.
        metrics: HOST:PORT where metrics are fetched; empty for none.
        traces: URL of a collector; empty for none.
        trace_file: File that traces are appended to; empty for none.

    Raises:
        ConfigError: Nothing can listen there.
    """

    def __init__(
        self,
        status: Callable[[], Mapping[str, Any]],
        build: Mapping[str, str],
        is_quiet: Callable[[], bool],
        *,
        metrics: str = "",
        traces: str = "",
        trace_file: str = "",
    ) -> None:
        self.metrics = Metrics(status, build, is_quiet)
        self.endpoint: Endpoint | None = None
        if metrics:
            host, _, port = metrics.rpartition(":")
            self.endpoint = Endpoint(self.metrics, host.strip("[]"), int(port))
        self.tracing: Tracing | None = None
        if traces or trace_file:
            exporter = endpoint_exporter(traces) if traces else LinesExporter(Path(trace_file))
            service = {"service.name": "connector-psi", **{f"connector_psi.{k}": v for k, v in build.items()}}
            self.tracing = Tracing(exporter, service, is_quiet)

    def close(self) -> None:
        """Send what is there, and stop."""
        if self.endpoint is not None:
            self.endpoint.close()
        if self.tracing is not None:
            self.tracing.close()

    def span(
        self, name: str, *, parent: str = "", apart: bool = False, **attributes: str | int
    ) -> AbstractContextManager[Span]:
        """Tell of the time that a block takes."""
        if self.tracing is None:
            return nullcontext(NO_SPAN)
        return self.tracing.span(name, parent=parent, apart=apart, **attributes)

    def called(self, direction: str, method: str, status: str, seconds: float) -> None:
        """Count a call."""
        self.metrics.called(direction, method, status, seconds)

    def registered(self, outcomes: Mapping[str, int]) -> None:
        """Count records by what became of them."""
        self.metrics.registered(outcomes)

    def evaluated(self, agreement: str, token_class: str, elements: int) -> None:
        """Count padded elements that this node evaluated for a peer."""
        self.metrics.evaluated(agreement, token_class, elements)

    def asked(self, agreement: str, token_class: str, elements: int) -> None:
        """Count a query that this node sent, and its padded elements."""
        self.metrics.asked(agreement, token_class, elements)

    def turned(self, loop: str, seconds: float, *, failed: bool) -> None:
        """Count a turn of a loop."""
        self.metrics.turned(loop, seconds, failed=failed)

    def committed(self, seconds: float) -> None:
        """Tell how long a writer waited for the disk."""
        self.metrics.committed(seconds)
