"""What is measured of a node holds nothing of any record or case, and no number by which a peer's figures could be joined to it.

Two nodes over real ports, both measured and traced, go from registration to disclosure; then everything that was told is searched
for what was planted. The metadata of each call to a peer is looked at, and a caller's trace is offered on either port.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from connector_psi.rpc import tls  # noqa: F401  # isort: skip  # sets up gRPC's environment before gRPC is loaded

import grpc
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from connector_psi.disclosure import is_silent
from connector_psi.domain.records import IdentifierType
from connector_psi.errors import ConfigError, UnavailableError
from connector_psi.node.config import MetricsSection, TracesSection
from connector_psi.node.node import OWNER
from connector_psi.node.service import Service
from connector_psi.rpc.v1 import matching_pb2, registry_pb2
from connector_psi.telemetry.metrics import Endpoint, Metrics
from connector_psi.telemetry.recorder import Recorder
from connector_psi.telemetry.tracing import LinesExporter, Tracing
from tests.privacy.staging import BASIS, JUSTIFICATION, PURPOSE, REFERENCE, container
from tests.privacy.wired import Wired
from tests.simulation.federation import alert, declaration, person
from tests.simulation.lines import recorded_lines

CODE = "SIS-OBJ:ics2-sis"
BOX, REF, ALERT = container(1), "MRN-PLANTED-7", "SCHENGEN-PLANTED-7"
REASON = "a reason that somebody planted"
CALLER = "00-11111111111111111111111111111111-2222222222222222-01"
V1 = "/connector_psi.rpc.v1."


def _recorder(service: Service, root: Path) -> Recorder:
    code = service.node.authority
    return Recorder(
        service.status,
        {"authority": code, "version": "test"},
        lambda: any(is_silent(b.agreement) for b in service.node.agreements(OWNER)),
        metrics="127.0.0.1:0",
        trace_file=str(root / f"{code}.traces"),
    )


@dataclass
class Run:
    """What was told of both nodes."""

    metrics: dict[str, str]
    traces: dict[str, str]
    lines: Sequence[Mapping[str, Any]]
    sent: list[tuple[str, str]] = field(default_factory=list)
    """Keys of the metadata that arrived at a peer port, by method."""
    case_id: str = ""

    def spans(self, code: str) -> list[dict[str, Any]]:
        """Spans as they were exported."""
        batches = [json.loads(line) for line in self.traces[code].splitlines()]
        return [
            span
            for batch in batches
            for resource in batch["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]


def _fetch(recorder: Recorder) -> str:
    assert recorder.endpoint is not None
    with urllib.request.urlopen(f"http://127.0.0.1:{recorder.endpoint.port}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


def _call(channel: grpc.Channel, path: str, request: Any) -> None:
    channel.unary_unary(path, type(request).SerializeToString, None)(
        request, timeout=10, metadata=(("traceparent", CALLER),)
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("told")
    sent: list[tuple[str, str]] = []
    recorders: dict[str, Recorder] = {}
    with recorded_lines() as lines, pytest.MonkeyPatch.context() as patch:
        # A port asks for the recorder of its node when it is made.
        original = Service.__init__

        def init(self: Service, *args: Any, **kwargs: Any) -> None:
            original(self, *args, **kwargs)
            self.node.telemetry = recorders[self.node.authority] = _recorder(self, root)

        patch.setattr(Service, "__init__", init)
        federation = Wired(root, "told")
        for ports in federation.ports.values():
            gate = ports._gates[0]
            admit = gate._admit

            def looked(method: str, context: grpc.ServicerContext, admit: Any = admit) -> None:
                sent.extend((method, key) for key, _ in context.invocation_metadata())
                admit(method, context)

            gate._admit = looked  # type: ignore[method-assign]
        ics2, sis = federation.services["ics2"], federation.services["sis"]
        box = (IdentifierType.CONTAINER, BOX)
        sis.registration.register([alert(ALERT, box)], "test")
        with federation.as_person("ics2", "system1") as client:
            client.register([declaration(REF, box)])
        federation.settle()
        for loop, turn in (("query sis", ics2.tick_query), ("owned cases", ics2.tick_owned_cases)):
            with ics2.node.telemetry.span(f"loop {loop}") as span:
                if not turn():
                    span.drop()
            ics2.node.telemetry.turned(loop, 0.01, failed=False)
        (match,) = ics2.review.list()
        ics2.review.decide(match.match_id, person("ics2"), REASON, confirm=True)
        row = ics2.asked.open(
            match.match_id,
            person("ics2"),
            purpose=PURPOSE,
            legal_basis=BASIS,
            case_reference=REFERENCE,
            justification=JUSTIFICATION,
        )
        federation.settle()
        sis.received.decide(row.request_id, person("sis"), REASON, approve=True)
        federation.settle(rounds=10, step_s=5)
        # Somebody offers a number of a trace: a peer, and a system of the own authority.
        with federation.as_peer("ics2", "sis") as channel:
            _call(channel, f"{V1}MatchingService/GetManifest", matching_pb2.GetManifestRequest(agreement=CODE))
        with federation.as_person("ics2", "system1") as client:
            _call(client._channel, f"{V1}NodeService/GetStatus", registry_pb2.GetStatusRequest())
        metrics = {code: _fetch(recorder) for code, recorder in recorders.items()}
        for recorder in recorders.values():
            recorder.close()
        federation.close()
    traces = {code: (root / f"{code}.traces").read_text() for code in recorders}
    return Run(metrics, traces, [line for line in lines if line], sent, row.request_id.hex())


def test_nothing_that_was_planted_is_told(run: Run) -> None:
    told = [*run.metrics.values(), *run.traces.values(), json.dumps(run.lines, default=str)]
    people = [person(code).uri for code in ("ics2", "sis")]
    for planted in (BOX, BOX[4:10], REF, ALERT, REASON, JUSTIFICATION, REFERENCE, *people):
        for text in told:
            assert planted.lower() not in text.lower()
    for text in (*run.metrics.values(), *run.traces.values()):
        assert run.case_id not in text


def test_metrics_say_what_a_node_does(run: Run) -> None:
    ics2, sis = (run.metrics[code].splitlines() for code in ("ics2", "sis"))
    assert 'connector_psi_records_registered_total{outcome="accepted"} 1.0' in ics2
    assert f'connector_psi_matches{{agreement="{CODE}",state="confirmed"}} 1.0' in ics2
    assert 'connector_psi_cases{side="querier",state="disclosed"} 1.0' in ics2
    assert 'connector_psi_peer_reachable{peer="sis"} 1.0' in ics2
    assert "connector_psi_up 1.0" in ics2
    names = ("queries_sent_total", "elements_asked_total")
    label = f'{{agreement="{CODE}",token_class="object"}}'
    queries, asked = (
        next(float(x.split()[-1]) for x in ics2 if x.startswith(f"connector_psi_{n}{label}")) for n in names
    )
    evaluated = next(
        float(x.split()[-1]) for x in sis if x.startswith(f"connector_psi_elements_evaluated_total{label}")
    )
    assert queries >= 1
    # Padded, and the same on both sides.
    assert evaluated == asked >= 8
    calls = [line for line in sis if line.startswith("connector_psi_calls_total{")]
    assert any('method="MatchingService/Evaluate",side="peer",status="OK"' in line for line in calls)
    assert f'connector_psi_set_epoch{{agreement="{CODE}",side="owner"}} 1.0' in sis
    wanted = (
        "clock_high_water_timestamp_seconds",
        "store_commit_seconds_count",
        "log_signed_size",
        "log_cosigned_size",
        "capacity_used_ratio",
        "build_info",
    )
    # N.SIS has its log cosigned by nobody: customs is not to notice what it does.
    assert {name for name in wanted if not any(x.startswith(f"connector_psi_{name}") for x in ics2)} == set()
    assert not any(line.startswith("connector_psi_log_cosigned_size{") for line in sis)


def test_an_owner_without_notice_tells_nothing_of_how_long_cases_took(run: Run) -> None:
    """Customs is such an owner here, N.SIS is not."""
    sis, ics2 = run.metrics["sis"], run.metrics["ics2"]
    timed = 'connector_psi_call_seconds_count{method="DisclosureService/OpenCase",side="peer"}'
    counted = 'connector_psi_calls_total{method="DisclosureService/OpenCase",side="peer",status="OK"}'
    assert timed in sis
    assert counted in sis
    # Covers came at every slot: that is counted.
    assert counted in ics2
    assert timed not in ics2
    assert 'connector_psi_loop_turns_total{loop="owned cases"}' in ics2
    assert 'connector_psi_loop_seconds_count{loop="owned cases"}' not in ics2
    assert 'side="owner"' not in "".join(line for line in ics2.splitlines() if line.startswith("connector_psi_cases{"))
    about = {
        span["name"] for span in run.spans("ics2") if "DisclosureService" in span["name"] or "cases" in span["name"]
    }
    assert about == set()
    assert any(span["name"] == "rpc DisclosureService/OpenCase" for span in run.spans("sis"))


def test_spans_hold_codes_states_and_numbers_and_hang_together(run: Run) -> None:
    spans = run.spans("ics2") + run.spans("sis")
    keys = {attribute["key"] for span in spans for attribute in span.get("attributes", ())}
    assert keys <= {"port", "peer", "status", "code", "agreement", "token_class", "elements", "epoch"}
    assert not any(span.get("events") or span.get("links") for span in spans)
    by_name = {span["name"]: span for span in spans}
    assert {"publish", "query", "evaluate", "out MatchingService/Evaluate", "loop query sis"} <= set(by_name)
    inside = by_name["evaluate"]
    outside = next(span for span in spans if span["spanId"] == inside["parentSpanId"])
    assert outside["name"] == "rpc MatchingService/Evaluate"
    assert len(inside["spanId"]) == 16
    assert len(inside["traceId"]) == 32


def test_no_number_of_a_trace_goes_to_a_peer_or_is_taken_from_one(run: Run) -> None:
    offered = (f"{V1}MatchingService/GetManifest", "traceparent")
    assert run.sent.count(offered) == 1, "what the test itself sent"
    assert {key for entry in run.sent if entry != offered for key in entry[1:]} <= {"user-agent"}
    trace = CALLER.split("-")[1]
    assert trace not in run.traces["sis"]
    # A caller of the own authority finds its call again.
    found = [span for span in run.spans("ics2") if span["traceId"] == trace]
    assert [span["name"] for span in found] == ["rpc NodeService/GetStatus"]
    traces = [{span["traceId"] for span in run.spans(code)} for code in ("ics2", "sis")]
    assert not traces[0] & traces[1]


class _Away(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        raise OSError(BOX)

    def shutdown(self) -> None:
        pass


def test_a_collector_that_is_away_is_told_of_once_and_troubles_nobody() -> None:
    with recorded_lines() as lines:
        tracing = Tracing(_Away(), {"service.name": "test"}, lambda: False)
        for _ in range(3):
            with tracing.span("publish"):
                pass
            tracing._provider.force_flush()
        tracing.close()
    assert [(line["event"], line["error"]) for line in lines] == [("traces.failed", "OSError")]


def test_a_text_that_an_exception_carries_does_not_reach_a_trace(tmp_path: Path) -> None:
    tracing = Tracing(LinesExporter(tmp_path / "t"), {"service.name": "test"}, lambda: False)
    with pytest.raises(UnavailableError), tracing.span("publish"):
        raise UnavailableError(BOX)
    with tracing.span("loop publish") as turn:
        turn.drop()
    with tracing.span("loop query") as turn:
        with tracing.span("query"):
            pass
        turn.drop()
    tracing.close()
    text = (tmp_path / "t").read_text()
    assert BOX not in text
    assert (tmp_path / "t").stat().st_mode & 0o777 == 0o600
    # A turn in which something is told is told too, or that would hang in the air.
    assert ['"name":"loop query"' in text, '"name":"loop publish"' in text] == [True, False]


def test_metrics_say_that_the_state_cannot_be_read() -> None:
    def status() -> dict[str, Any]:
        raise UnavailableError(BOX)

    metrics = Metrics(status, {"version": "test"}, lambda: False)
    endpoint = Endpoint(metrics, "127.0.0.1", 0)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{endpoint.port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        with pytest.raises(ConfigError, match=r"metrics\.listen"):
            Endpoint(metrics, "127.0.0.1", endpoint.port)
    finally:
        endpoint.close()
    assert "connector_psi_up 0.0" in text
    assert BOX not in text


@pytest.mark.parametrize(
    "listen", ["0.0.0.0:9464", "192.0.2.1:9464", "node.example:9464", "localhost:9464", "127.0.0.1:70000", "9464"]
)
def test_metrics_are_for_this_machine_alone(listen: str) -> None:
    with pytest.raises(ValueError, match="listen"):
        MetricsSection(listen=listen)
    assert MetricsSection(listen="127.0.0.1:9464").listen


@pytest.mark.parametrize(
    "traces",
    [
        {"endpoint": "http://192.0.2.1:4318/v1/traces"},
        {"endpoint": "ftp://127.0.0.1/"},
        {"endpoint": "https://192.0.2.1/v1/traces", "file": "t"},
    ],
)
def test_traces_go_to_one_place_and_over_tls_where_it_is_elsewhere(traces: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="endpoint"):
        TracesSection(**traces)
    assert TracesSection(endpoint="http://127.0.0.1:4318/v1/traces").endpoint
