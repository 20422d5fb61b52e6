"""Streams of the local port over real connections: records in, matches out, and every way in which either ends."""

from __future__ import annotations

import contextlib
import itertools
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration import live  # isort: skip  # sets up gRPC's environment before gRPC is loaded

import grpc
import pytest

from connector_psi import pki
from connector_psi.audit.entries import Event, parse_leaf
from connector_psi.domain.records import SourceSystem
from connector_psi.errors import InputError, UnavailableError
from connector_psi.node.registration import Result
from connector_psi.node.service import Service
from connector_psi.rpc.client import LocalClient, PeerConnector
from connector_psi.rpc.server import Ports
from connector_psi.rpc.v1 import registry_pb2 as pb
from connector_psi.storage import queried, records

STREAM = "/connector_psi.rpc.v1.RegistryService/RegisterStream"
PAYLOAD = {
    "ticket_id": "00",
    "redeem": ["11"],
    "types": ["container"],
    "evidence": [["container", "$.box", ""]],
    "category": "sis.38.g",
    "record_ref": "M1",
}
WAIT_S = 10.0


@dataclass
class Node:
    service: Service
    ports: Ports

    @contextlib.contextmanager
    def client(self) -> Iterator[LocalClient]:
        node = self.service.node
        credentials = pki.load_credentials(node.layout.people / "system1.crt")
        with LocalClient(self.ports.local_address, "ics2", credentials, node.root_pem) as client:
            yield client

    def live(self) -> dict[str, int]:
        """Reference and version of the live records."""
        store = self.service.node.store
        with store.read() as tx:
            chunks = records.live_by_id(store, tx, 0)
            return {each.record.source_ref: each.record.version for chunk in chunks for each in chunk}

    def entries(self, event: Event) -> int:
        node = self.service.node
        with node.store.read() as tx:
            leaves = node.entries.read_leaves(tx, 0, node.entries.size(tx))
            return sum(parse_leaf(raw).event is event for raw in leaves)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return live.make_node(tmp_path_factory.mktemp("streams"), "ics2", "ics2")


@pytest.fixture
def node(directory: Path) -> Iterator[Node]:
    service = Service(directory, PeerConnector)
    try:
        made = Node(service, Ports(service, peer=None, local="127.0.0.1:0"))
        try:
            yield made
        finally:
            made.ports.stop(1)
        eventually(lambda: not [t for t in threading.enumerate() if t.name == "stream-reader"])
    finally:
        service.close()


def eventually(true: Callable[[], object]) -> None:
    end = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def record(ref: str, version: int = 0, message: str = "", box: str = "CSQU3054383") -> pb.Record:
    return pb.Record(
        source="ICS2",
        source_ref=ref,
        category="ics2.ens",
        identifiers=[pb.Identifier(type="container", value=box, source_path="$.box")],
        fields={"goods_description": pb.Values(values=[f"version {version}"])},
        message_digest=bytes(32),
        version=version,
        message_ref=message,
    )


def numbered(*items: pb.Record | pb.Supersession) -> Iterator[pb.RegisterStreamRequest]:
    for number, item in enumerate(items):
        if isinstance(item, pb.Record):
            yield pb.RegisterStreamRequest(sequence=number, record=item)
        else:
            yield pb.RegisterStreamRequest(sequence=number, supersession=item)


def outcome(response: pb.RegisterStreamResponse) -> str:
    return pb.RegisterOutcome.Name(response.result.outcome).removeprefix("REGISTER_OUTCOME_").lower()


# --- Records in -------------------------------------------------------------------------------------------------------


def test_a_shuffled_and_partly_repeated_stream_ends_in_the_same_state(node: Node) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    told: list[list[pb.Record | pb.Supersession]] = []
    expected: dict[str, int] = {}
    for number in range(12):
        ref, versions = f"S{seed}-{number}", draw.randint(1, 4)
        for version in range(1, versions + 1):
            houses = draw.sample(range(4), draw.randint(1, 3))
            withdrawn = version == versions and draw.random() < 0.3
            message: list[pb.Record | pb.Supersession] = [
                record(f"{ref}/{house}", version, ref) for house in houses if not withdrawn
            ]
            message.append(pb.Supersession(source="ICS2", message_ref=ref, version=version, withdrawn=withdrawn))
            told.append(message)
        expected.update({f"{ref}/{house}": versions for house in houses if not withdrawn})
    items = [*itertools.chain.from_iterable(told)]
    items += draw.sample(items, len(items) // 2)
    draw.shuffle(items)
    with node.client() as client:
        answers = list(client.registry.RegisterStream(numbered(*items)))
        assert [answer.sequence for answer in answers] == list(range(len(items)))
        assert {outcome(answer) for answer in answers} <= {"accepted", "updated", "duplicate"}
        found = {ref: version for ref, version in node.live().items() if ref.startswith(f"S{seed}-")}
        assert found == expected
        again = [outcome(answer) for answer in client.registry.RegisterStream(numbered(*items))]
    assert set(again) == {"duplicate"}
    assert {ref: version for ref, version in node.live().items() if ref.startswith(f"S{seed}-")} == expected


def test_what_comes_close_together_shares_a_transaction_and_a_bad_record_disturbs_nobody(node: Node) -> None:
    before = node.entries(Event.COLLECT)
    items = [record(f"B{n}") for n in range(600)]
    items[7].source = "nowhere"
    items[300].category = "sis.38.g"
    with node.client() as client:
        answers = list(client.registry.RegisterStream(numbered(*items)))
    assert [answer.sequence for answer in answers] == list(range(600))
    assert [n for n, answer in enumerate(answers) if outcome(answer) != "accepted"] == [7, 300]
    assert list(answers[7].result.problems) == ["source: not in the vocabulary"]
    assert list(answers[300].result.problems) == ["category: record.category"]
    assert len([ref for ref in node.live() if ref.startswith("B")]) == 598
    assert 1 <= node.entries(Event.COLLECT) - before <= 100


def test_a_record_that_comes_alone_is_acknowledged_while_the_stream_stays_open(node: Node) -> None:
    requests: queue.Queue[pb.RegisterStreamRequest | None] = queue.Queue()
    with node.client() as client:
        answers = client.registry.RegisterStream(iter(requests.get, None))
        for number in (5, 3):
            requests.put(pb.RegisterStreamRequest(sequence=number, record=record(f"A{number}")))
            assert next(answers).sequence == number
            assert f"A{number}" in node.live()
        requests.put(None)
        assert list(answers) == []


def test_a_caller_that_hangs_up_leaves_what_was_acknowledged_and_no_thread(node: Node) -> None:
    with node.client() as client:
        answers = client.registry.RegisterStream(numbered(*(record(f"C{n}") for n in range(50))))
        done = [next(answers).sequence for _ in range(10)]
        answers.cancel()
        with pytest.raises(grpc.RpcError):
            list(answers)
    assert {f"C{n}" for n in done} <= node.live().keys()


def test_a_caller_that_does_not_read_is_not_read_from_without_end(node: Node) -> None:
    sent = 0

    def endless() -> Iterator[pb.RegisterStreamRequest]:
        nonlocal sent
        wide = record("D")
        wide.fields["goods_description"].values[0] = "x" * 100_000
        while True:
            # Acknowledgements with many problems fill what the caller's side takes.
            wide.identifiers.extend(pb.Identifier(type="container", value="?", source_path="$") for _ in range(200))
            del wide.identifiers[201:]
            sent += 1
            yield pb.RegisterStreamRequest(sequence=sent, record=wide)

    with node.client() as client:
        answers = client.registry.RegisterStream(endless())
        eventually(lambda: sent > 20)
        last, same = -1, 0
        end = time.monotonic() + WAIT_S
        while same < 5:
            assert time.monotonic() < end, sent
            same = same + 1 if sent == last else 0
            last = sent
            time.sleep(0.1)
        answers.cancel()


def test_an_error_of_the_store_ends_the_stream_and_what_was_acknowledged_stays(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    register, calls = node.service.registration.register, itertools.count()

    def full(*arguments: Any) -> list[Result]:
        if next(calls):
            raise UnavailableError("the database cannot be used now")
        return register(*arguments)

    monkeypatch.setattr(node.service.registration, "register", full)
    requests: queue.Queue[pb.RegisterStreamRequest | None] = queue.Queue()
    with node.client() as client:
        answers = client.registry.RegisterStream(iter(requests.get, None))
        requests.put(pb.RegisterStreamRequest(sequence=1, record=record("E1")))
        assert next(answers).sequence == 1
        requests.put(pb.RegisterStreamRequest(sequence=2, record=record("E2")))
        with pytest.raises(grpc.RpcError) as failure:
            next(answers)
        requests.put(None)
    assert failure.value.code() is grpc.StatusCode.UNAVAILABLE
    assert [ref for ref in node.live() if ref.startswith("E")] == ["E1"]


def test_bytes_that_are_no_request_end_the_stream_after_what_came_before_them(node: Node) -> None:
    first = pb.RegisterStreamRequest(sequence=1, record=record("F1")).SerializeToString()
    with node.client() as client:
        answers = client._channel.stream_stream(STREAM)(iter([first, b"\xff\xff\xff"]))
        assert pb.RegisterStreamResponse.FromString(next(answers)).sequence == 1
        with pytest.raises(grpc.RpcError) as failure:
            next(answers)
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "F1" in node.live()


def test_the_field_numbers_of_a_request_are_those_of_the_first_version() -> None:
    fields = pb.RegisterStreamRequest.DESCRIPTOR.fields_by_name
    assert {name: field.number for name, field in fields.items()} == {"sequence": 1, "record": 2, "supersession": 3}


# --- Matches out ------------------------------------------------------------------------------------------------------


def match(node: Node, number: int, **changes: Any) -> None:
    store = node.service.node.store
    with store.write() as tx:
        queried.put_match(
            store,
            tx,
            identity=bytes([number]) * 32,
            match_id=f"{number:02x}" * 16,
            agreement="SIS-OBJ:ics2-sis",
            epoch=1,
            record_id=number,
            payload={**PAYLOAD, **changes},
            now_ms=number,
        )


def decide(node: Node, number: int, state: str) -> None:
    store = node.service.node.store
    with store.write() as tx:
        queried.set_match_state(store, tx, f"{number:02x}" * 16, state, PAYLOAD)


def short(values: Sequence[dict[str, Any]]) -> list[tuple[int, str]]:
    return [(int(value["match_id"][:2], 16), value["state"]) for value in values]


def test_every_change_of_a_match_is_streamed_promptly_and_whoever_resumes_misses_nothing(node: Node) -> None:
    with node.client() as client:
        with node.service.node.store.read() as tx:
            start = queried.newest_match_change(tx)
        changes = client.watch_matches(start)
        match(node, 1)
        seen = [next(changes)]
        match(node, 2)
        begun = time.monotonic()
        seen.append(next(changes))
        assert time.monotonic() - begun < 2.0
        decide(node, 1, queried.CONFIRMED)
        seen.append(next(changes))
        assert short(seen) == [(1, "new"), (2, "new"), (1, "confirmed")]
        tokens = [value["resume_token"] for value in seen]
        assert tokens == sorted(set(tokens))
        changes.close()
        # Away meanwhile: a match that is found and goes, one that is dismissed, and one that is found elsewhere.
        match(node, 3)
        decide(node, 2, queried.DISMISSED)
        match(node, 1, evidence=[["container", "$.elsewhere", ""]])
        with node.service.node.store.write() as tx:
            queried.mark_gone(tx, "SIS-OBJ:ics2-sis", [3], frozenset())
        for after, expected in (
            (tokens[-1], [(2, "dismissed"), (1, "confirmed"), (3, "gone")]),
            (tokens[0], [(2, "dismissed"), (1, "confirmed"), (3, "gone")]),
        ):
            changes = client.watch_matches(after)
            assert short([next(changes) for _ in expected]) == expected
            changes.close()
        # The list pages by its own order, as it did.
        listed = list(client.matches())
        assert short(listed) == [(1, "confirmed"), (2, "dismissed")]


def test_a_token_that_this_node_never_gave_is_refused(node: Node) -> None:
    with node.client() as client, pytest.raises(InputError):
        next(client.watch_matches(2**40))


def test_streams_end_within_a_second_when_the_node_is_stopped(node: Node) -> None:
    requests: queue.Queue[pb.RegisterStreamRequest | None] = queue.Queue()
    with node.client() as client:
        with node.service.node.store.read() as tx:
            after = queried.newest_match_change(tx)
        watched = client.registry.WatchMatches(pb.WatchMatchesRequest(resume_token=after))
        answers = client.registry.RegisterStream(iter(requests.get, None))
        requests.put(pb.RegisterStreamRequest(sequence=1, record=record("G1")))
        assert next(answers).sequence == 1
        begun = time.monotonic()
        node.ports.stop(30)
        took = time.monotonic() - begun
        for stream in (watched, answers):
            with pytest.raises(grpc.RpcError) as failure:
                next(stream)
            assert failure.value.code() is grpc.StatusCode.UNAVAILABLE
        requests.put(None)
    assert took < 1.5
    assert node.service.registration.withdraw(SourceSystem.ICS2, "G1", "test", "test")
