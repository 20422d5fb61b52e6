"""Figures of a node for Prometheus, on an address of this machine alone.

Decides: names, labels and what is left out. Labels are agreement codes, authorities, methods, states, classes and names
of loops; nothing of a record, a person or a case. Where a node is the owner of an agreement without notice, how long
things take that have to do with cases is not told: it might differ with what they became. Leaves to others: what is
counted, and when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from connector_psi.errors import ConfigError, ConnectorError

PREFIX: Final = "connector_psi_"
CASE_LOOPS: Final = frozenset({"owned cases", "recalls"})
"""Loops whose turns take as long as cases make them."""
CASE_SERVICE: Final = "DisclosureService/"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
Status = Mapping[str, Any]


class Metrics:
    """Counts of one node, in a registry of its own: several nodes may live in one process.

    Args:
        status: The state of the node, as ``status --json`` prints it.
        build: Version, backend and rules, which do not change while the process lives.
        is_quiet: Whether the node is the owner in an agreement without notice.
    """

    def __init__(self, status: Callable[[], Status], build: Mapping[str, str], is_quiet: Callable[[], bool]) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self._is_quiet = is_quiet
        self._calls = self._counter("calls", "Calls, by port or outgoing.", "side", "method", "status")
        self._call_seconds = self._histogram("call_seconds", "How long calls took.", "side", "method")
        self._records = self._counter("records_registered", "Records that were handed in, by outcome.", "outcome")
        self._evaluated = self._counter(
            "elements_evaluated", "Padded elements evaluated for peers.", "agreement", "token_class"
        )
        self._queries = self._counter("queries_sent", "Queries that were answered.", "agreement", "token_class")
        self._asked = self._counter("elements_asked", "Padded elements of these.", "agreement", "token_class")
        self._turns = self._counter("loop_turns", "Turns of loops.", "loop")
        self._failures = self._counter("loop_failures", "Turns of loops that failed.", "loop")
        self._turn_seconds = self._histogram("loop_seconds", "How long turns of loops took.", "loop")
        self._commits = self._histogram("store_commit_seconds", "How long writers waited for the disk.")
        self.registry.register(_State(status, build))

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(PREFIX + name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(PREFIX + name, text, labels, registry=self.registry, buckets=_SECONDS)

    def called(self, direction: str, method: str, status: str, seconds: float) -> None:
        """Count a call."""
        self._calls.labels(direction, method, status).inc()
        if not (direction == "peer" and method.startswith(CASE_SERVICE) and self._is_quiet()):
            self._call_seconds.labels(direction, method).observe(seconds)

    def registered(self, outcomes: Mapping[str, int]) -> None:
        """Count records by what became of them."""
        for outcome, number in outcomes.items():
            self._records.labels(outcome).inc(number)

    def evaluated(self, agreement: str, token_class: str, elements: int) -> None:
        """Count padded elements that this node evaluated for a peer."""
        self._evaluated.labels(agreement, token_class).inc(elements)

    def asked(self, agreement: str, token_class: str, elements: int) -> None:
        """Count a query that this node sent, and its padded elements."""
        self._queries.labels(agreement, token_class).inc()
        self._asked.labels(agreement, token_class).inc(elements)

    def turned(self, loop: str, seconds: float, *, failed: bool) -> None:
        """Count a turn of a loop."""
        self._turns.labels(loop).inc()
        if failed:
            self._failures.labels(loop).inc()
        if not (loop in CASE_LOOPS and self._is_quiet()):
            self._turn_seconds.labels(loop).observe(seconds)

    def committed(self, seconds: float) -> None:
        """Tell how long a writer waited for the disk."""
        self._commits.observe(seconds)


class Endpoint:
    """Where the figures are fetched, over plain HTTP.

    Args:
        metrics: The figures.
        host: An address of this machine.
        port: 0 chooses a free one.

    Raises:
        ConfigError: Nothing can listen there.
    """

    def __init__(self, metrics: Metrics, host: str, port: int) -> None:
        self._server: WSGIServer
        try:
            self._server, self._thread = start_http_server(port, host, metrics.registry)
        except OSError as error:
            raise ConfigError(f"metrics.listen: {host}:{port}: {error.strerror}") from None
        self.port = int(self._server.server_address[1])

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _State(Collector):
    """Figures that are read from the state of the node when they are fetched."""

    def __init__(self, status: Callable[[], Status], build: Mapping[str, str]) -> None:
        self._status = status
        self._build = build

    def describe(self) -> Iterable[Metric]:
        """Nothing is read before somebody fetches it."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Read the state."""
        yield _gauge("build_info", "Version of the program, of its backend and of its rules.", self._build, 1)
        try:
            status = self._status()
        except ConnectorError:
            # The store cannot be read now: that much is told.
            yield _gauge("up", "Whether the state of the node could be read.", {}, 0)
            return
        yield _gauge("up", "Whether the state of the node could be read.", {}, 1)
        yield _gauge("ready", "Whether the node is ready.", {}, int(status["ready"]))
        yield _gauge("alive", "Whether the log can be trusted.", {}, int(status["alive"]))
        yield _gauge("records_live", "Records in matching.", {}, status["records"])
        yield from _counts(status)
        yield from _agreements(status["agreements"])
        yield from _peers(status["contacts"])
        yield from _queues(status)
        yield from _log(status["log"])
        yield from _clock(status.get("clock", {}))


def _gauge(name: str, text: str, labels: Mapping[str, str], value: float) -> Metric:
    return _family(name, text, [*labels], [([*labels.values()], value)])


def _family(name: str, text: str, labels: list[str], values: Iterable[tuple[list[str], float | None]]) -> Metric:
    family = GaugeMetricFamily(PREFIX + name, text, labels=labels)
    for which, value in values:
        if value is not None:
            family.add_metric(which, value)
    return family


def _counts(status: Status) -> Iterable[Metric]:
    for name in ("cases", "access", "recalls"):
        values = [(which.split(".", 1), number) for which, number in status[name].items()]
        yield _family(name, f"{name.capitalize()} that people here may see.", ["side", "state"], values)
    alarms = [([a["code"], a["agreement"], a["side"]], a["count"]) for a in status["alarms"]]
    yield _family("alarms", "What people here have to look at.", ["code", "agreement", "side"], alarms)


def _agreements(lines: Iterable[Mapping[str, Any]]) -> Iterable[Metric]:
    found = [([line["agreement"], line["side"]], line) for line in lines]
    for name, key, text in (
        ("set_epoch", "epoch", "Epoch of the set that is published or in use, 0 for none."),
        ("set_age_seconds", "set_age_s", "Time since it was made."),
        ("set_expires_in_seconds", "expires_in_s", "Time that it still answers."),
        ("delta_seq", "delta_seq", "Last delta of the set."),
        ("set_fresh_seconds", "fresh_s", "Age of the newest change that is in the set."),
        ("pending_records", "pending_records", "Changes that were not asked with yet."),
        ("open_queries", "open_batches", "Queries without an answer."),
        ("open_query_oldest_seconds", "oldest_batch_s", "Age of the oldest of these."),
    ):
        yield _family(name, text, ["agreement", "side"], [(which, line.get(key)) for which, line in found])
    yield _family(
        "agreement_runs",
        "Whether the agreement may run.",
        ["agreement", "side"],
        [(which, int(line["runs"])) for which, line in found],
    )
    yield _family(
        "matches",
        "Matches, by state.",
        ["agreement", "state"],
        [([which[0], state], n) for which, line in found for state, n in line.get("matches", {}).items()],
    )
    yield _family(
        "capacity_used_ratio",
        "Used part of what may be evaluated in a day or year.",
        ["agreement", "token_class", "period"],
        [
            ([which[0], name, period], each["used"] / each["of"])
            for which, line in found
            for period, key in (("day", "capacity_today"), ("year", "capacity_year"))
            for name, each in line.get(key, {}).items()
            if each["of"]
        ],
    )


def _peers(contacts: Iterable[Mapping[str, Any]]) -> Iterable[Metric]:
    found = [([each["authority"]], each) for each in contacts]
    yield _family(
        "peer_reachable",
        "Whether the last call to a peer was answered.",
        ["peer"],
        [(which, None if each["reachable"] is None else int(each["reachable"])) for which, each in found],
    )
    for name, key, text in (
        ("peer_answered_seconds", "answered_s", "Time since a peer answered."),
        ("peer_heard_seconds", "heard_s", "Time since a peer called."),
    ):
        yield _family(name, text, ["peer"], [(which, each[key]) for which, each in found])


def _queues(status: Status) -> Iterable[Metric]:
    found = [([each["kind"], each["peer"]], each) for each in status.get("queues", ())]
    for name, key, text in (
        ("queue_waiting", "waiting", "What waits to be sent."),
        ("queue_oldest_seconds", "oldest_s", "Age of the oldest of it."),
        ("queue_attempts", "attempts", "Most attempts at one of it."),
        ("queue_parked", "parked", "What is not tried again by itself."),
    ):
        yield _family(name, text, ["kind", "peer"], [(which, each.get(key)) for which, each in found])


def _log(log: Mapping[str, Any]) -> Iterable[Metric]:
    yield _gauge("log_size", "Entries of the log.", {}, log["size"])
    yield _gauge("log_signed_size", "Entries that a checkpoint covers.", {}, log["signed_size"])
    yield _family(
        "log_cosigned_size",
        "Entries that a witness cosigned.",
        ["witness"],
        [([name], size) for name, size in log["witnesses"].items()],
    )
    yield _gauge("log_forks", "Logs that signed two histories.", {}, len(log["forks"]))


def _clock(clock: Mapping[str, Any]) -> Iterable[Metric]:
    for name, key, text in (
        ("clock_behind_seconds", "behind_s", "How far the machine is behind the time that the node had before."),
        ("clock_jumped_seconds", "jumped_s", "How far it jumped ahead, until that is agreed."),
    ):
        if key in clock:
            yield _gauge(name, text, {}, clock[key])
    if "high_water" in clock:
        mark = datetime.fromisoformat(clock["high_water"]).timestamp()
        yield _gauge("clock_high_water_timestamp_seconds", "The latest time that the node had.", {}, mark)
