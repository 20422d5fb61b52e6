"""Traces of a node for OpenTelemetry: spans of calls, of turns of loops and of their phases.

Decides: what a span may hold (codes, states and numbers; never the text of an exception), which are left out, where
they go. A trace is continued from a caller on the local port and from nobody else, and goes on to nobody: a number that
a peer knew too would join a case here to a line there. Where the node is the owner of an agreement without notice, what
has to do with cases leaves no span. Leaves to others: what is traced.
"""

from __future__ import annotations

import json
import logging
import os
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final

import structlog
from google.protobuf.json_format import MessageToDict
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from connector_psi.telemetry.metrics import CASE_LOOPS, CASE_SERVICE

logger = structlog.get_logger("connector_psi.telemetry")

EXPORT_S: Final = 2.0
_DROPPED: Final = "dropped"
_PARENT_CHARS: Final = 55
_IDS: Final = ("traceId", "spanId", "parentSpanId")


class _Open:
    """A span under way."""

    def __init__(self, span: Span | None) -> None:
        self.span = span
        self._has_children = False

    def note(self, **attributes: str | int) -> None:
        """Add codes, states and numbers."""
        if self.span is not None:
            self.span.set_attributes(attributes)

    def drop(self) -> None:
        """Leave it out, unless something in it is told."""
        if self.span is not None and not self._has_children:
            self.span.set_attribute(_DROPPED, value=True)

    def holds(self) -> None:
        """Something in it is told."""
        self._has_children = True


_current: ContextVar[_Open | None] = ContextVar("connector_psi_span", default=None)


class Tracing:
    """Spans of one node.

    Args:
        exporter: Takes them.
        service: What they are of: codes and versions.
        is_quiet: Whether the node is the owner in an agreement without notice.
    """

    def __init__(self, exporter: SpanExporter, service: Mapping[str, str], is_quiet: Callable[[], bool]) -> None:
        # What the exporter says of a collector that is away is told below, in a line of this node's own.
        logging.getLogger("opentelemetry").addHandler(logging.NullHandler())
        logging.getLogger("opentelemetry").propagate = False
        self._is_quiet = is_quiet
        # Not Resource.create(): it takes in what the environment says.
        self._provider = TracerProvider(ALWAYS_ON, Resource({**service}), shutdown_on_exit=False)
        self._provider.add_span_processor(_Kept(BatchSpanProcessor(_Reporting(exporter), schedule_delay_millis=1_000)))
        self._tracer = self._provider.get_tracer("connector_psi")
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def span(self, name: str, *, parent: str = "", apart: bool = False, **attributes: str | int) -> Iterator[_Open]:
        """Tell of the time that a block takes."""
        if self._is_left_out(name):
            yield _Open(None)
            return
        outer = _current.get()
        context = None
        if outer is not None and outer.span is not None:
            outer.holds()
            context = set_span_in_context(outer.span)
        elif parent and len(parent) <= _PARENT_CHARS:
            context = self._propagator.extract({"traceparent": parent})
        opened = _Open(self._tracer.start_span(name, context, attributes=attributes, record_exception=False))
        if apart:
            # The block is left and entered again, perhaps by another thread.
            try:
                yield opened
            finally:
                self._end(opened)
            return
        token = _current.set(opened)
        try:
            yield opened
        finally:
            _current.reset(token)
            self._end(opened)

    @staticmethod
    def _end(opened: _Open) -> None:
        if opened.span is not None:
            opened.span.end()

    def _is_left_out(self, name: str) -> bool:
        about_cases = CASE_SERVICE in name or name.removeprefix("loop ") in CASE_LOOPS
        return about_cases and self._is_quiet()

    def close(self) -> None:
        """Send what is there, and stop."""
        self._provider.shutdown()


class _Kept(SpanProcessor):
    """Passes on the spans that were not dropped."""

    def __init__(self, following: SpanProcessor) -> None:
        self._following = following

    def on_end(self, span: ReadableSpan) -> None:
        """Pass a span on."""
        if not (span.attributes or {}).get(_DROPPED):
            self._following.on_end(span)

    def shutdown(self) -> None:
        """Stop."""
        self._following.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Pass on what waits."""
        return self._following.force_flush(timeout_millis)


class _Reporting(SpanExporter):
    """Says once that spans do not arrive."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._told = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Hand spans on."""
        try:
            result = self._exporter.export(spans)
        except Exception as error:  # noqa: BLE001 - a collector that misbehaves must not trouble a node
            result = SpanExportResult.FAILURE
            kind = type(error).__name__
        else:
            kind = ""
        if result is not SpanExportResult.SUCCESS and not self._told:
            logger.warning("traces.failed", error=kind)
        self._told = result is not SpanExportResult.SUCCESS
        return result

    def shutdown(self) -> None:
        """Stop."""
        self._exporter.shutdown()


class LinesExporter(SpanExporter):
    """Appends spans to a file, one OTLP message in JSON a line.

    Args:
        path: The file; made for this account alone. It may be moved away at any time.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Append a line."""
        line = json.dumps(_otlp_json(MessageToDict(encode_spans(spans))), separators=(",", ":")) + "\n"
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Nothing is open."""


def endpoint_exporter(url: str) -> SpanExporter:
    """Return what sends spans to a collector: OTLP over HTTP."""
    return OTLPSpanExporter(endpoint=url, headers={}, timeout=EXPORT_S)


def _otlp_json(value: Any) -> Any:  # noqa: ANN401 - JSON
    """OTLP in JSON writes ids in hexadecimal, where protobuf has base64."""
    if isinstance(value, dict):
        return {k: b64decode(v).hex() if k in _IDS else _otlp_json(v) for k, v in value.items()}
    return [_otlp_json(each) for each in value] if isinstance(value, list) else value
