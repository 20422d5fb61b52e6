"""Access by case: the owner learns who asks for how many identifiers and why, and about the identifiers nothing.

Whatever the owner's node receives, stores, logs and says is compared between two runs that differ in one thing: the identifiers of the
one are in the owner's set, those of the other are not. Both runs have the same seeds and the same clock, so that nothing else differs.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from connector_psi.rpc import tls  # noqa: F401  # isort: skip  # sets up gRPC's environment before gRPC is loaded

import grpc
import pytest
import structlog

from connector_psi.audit.bodies import SealedBody, open_body
from connector_psi.audit.entries import Event, parse_leaf
from connector_psi.domain.records import IdentifierType
from connector_psi.node.ports import NO_ACCESS, AccessAnswer, AccessRequest
from connector_psi.rpc import convert
from connector_psi.rpc.servicers import DisclosureServicer
from connector_psi.rpc.v1 import disclosure_pb2, matching_pb2_grpc
from connector_psi.storage import schema
from tests.privacy.staging import Caller, container, leaves_of
from tests.privacy.wired import Wired
from tests.simulation.casework import (
    AGREEMENT,
    FIRST,
    PHONE,
    PROFILES,
    SECOND,
    T_S,
    ask,
    begun,
    found,
    grant,
    granted,
    message,
    query,
    signed,
    states,
)
from tests.simulation.federation import Federation, declaration

RANDOM = re.compile("(?:[0-9a-f]{32}|[0-9a-f]{64})")

# --- A hit and a miss -------------------------------------------------------------------------------------------------


@dataclass
class Run:
    """Everything that the owner had of one run."""

    matches: int
    received: list[tuple[str, str, int]]
    rows: dict[str, list[dict[str, Any]]]
    leaves: list[dict[str, Any]]
    bodies: list[dict[str, Any]]
    files: list[tuple[str, int]]
    said: list[Any]
    identifiers: list[bytes] = field(default_factory=list)
    everything: bytes = b""


def _without_random(value: Any, names: dict[str, str]) -> Any:
    """A JSON value with each random number in it named by its place, so that what hangs together still does."""
    if isinstance(value, dict):
        return {key: _without_random(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_random(item, names) for item in value]
    if isinstance(value, str) and RANDOM.fullmatch(value):
        return names.setdefault(value, f"random {len(names)} of {len(value)}")
    return value


def _run(root: Path, start: datetime, number: int) -> Run:
    """A request, a grant, the queries under it, and the match if there is one."""
    own = message("S1", (IdentifierType.CONTAINER, container(number)), PHONE)
    with structlog.testing.capture_logs() as said:
        federation = Wired(root, "hidden", PROFILES, start)
        try:
            ics2 = federation.services["ics2"]
            listed = [declaration(f"M{n}", (IdentifierType.CONTAINER, container(n))) for n in range(5)]
            ics2.registration.register(listed, "test")
            federation.services["police"].registration.register([own], "test")
            federation.settle()
            row = ask(federation)
            federation.settle(2, 10)
            grant(federation, row.request_id)
            federation.settle(3, 10)
            assert states(federation) == ["queried"]
            return _taken(federation, root, said, own.identifiers[0].value)
        finally:
            federation.close()


def _taken(federation: Wired, root: Path, said: list[Any], identifier: str) -> Run:
    node = federation.services["ics2"].node
    rows: dict[str, list[dict[str, Any]]] = {}
    bodies = []
    everything = []
    with node.store.read() as tx:
        for table in schema.metadata.sorted_tables:
            found_rows = [dict(row._mapping) for row in tx.execute(table.select())]
            everything += [value for row in found_rows for value in row.values() if isinstance(value, bytes)]
            # Bytes are keys, hashes, ciphertexts and random numbers: their length is what can be compared; but for the
            # signatures of the people who signed the policy, which have one byte more or less as chance will.
            lengths = [
                {
                    name: len(value) if isinstance(value, bytes) else value
                    for name, value in row.items()
                    if name != "signatures"
                }
                for row in found_rows
            ]
            rows[table.name] = sorted(lengths, key=repr)
        raw = node.entries.read_leaves(tx, 0, node.entries.size(tx))
        for index, leaf in enumerate(raw):
            stored = tx.execute(schema.log_bodies.select().where(schema.log_bodies.c.idx == index)).one()
            sealed = SealedBody(stored.key_id, stored.wrapped_key, stored.sealed[:12], stored.sealed[12:])
            opened = open_body(sealed, node.keyring.month_keys(), index=index, body_commit=parse_leaf(leaf).body_commit)
            everything.append(opened.encoded)
            bodies.append(opened.body)
    messages = [m for m in federation.messages() if m.owner == "ics2"]
    files = sorted(
        (str(path.relative_to(root / "ics2")), path.stat().st_size)
        for path in (root / "ics2").rglob("*")
        # The database grows by pages, and its journal by what was read meanwhile: their rows are compared.
        if path.is_file() and "node.db" not in path.name and path.suffix not in {".key", ".crt", ".sig"}
    )
    names: dict[str, str] = {}
    return Run(
        matches=len(found(federation)),
        received=[(m.method, m.direction, len(m.data)) for m in messages],
        rows=rows,
        leaves=_without_random([json.loads(leaf) for leaf in raw], names),
        bodies=_without_random(bodies, names),
        files=files,
        said=_without_random(said, names),
        identifiers=[identifier.encode()],
        everything=b"\n".join([*everything, *(m.data for m in messages), json.dumps(said, default=str).encode()]),
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    start = datetime.now(tz=UTC).replace(microsecond=0)
    return (
        _run(tmp_path_factory.mktemp("hits") / "node", start, 3),
        _run(tmp_path_factory.mktemp("miss") / "node", start, 900),
    )


def test_the_one_run_found_a_match_and_the_other_none(runs: tuple[Run, Run]) -> None:
    assert [run.matches for run in runs] == [1, 0]


def test_the_owner_receives_and_answers_messages_of_the_same_kinds_and_lengths(runs: tuple[Run, Run]) -> None:
    hit, miss = runs
    assert hit.received == miss.received
    kinds = Counter(method for method, direction, _ in hit.received if direction == "request")
    # Two classes under the grant, and the one batch of the agreement that asks without.
    assert (kinds["Evaluate"], kinds["OpenCase"]) == (3, 0)
    assert kinds["RequestAccess"] >= 2


def test_the_owner_stores_the_same_rows(runs: tuple[Run, Run]) -> None:
    hit, miss = runs
    assert hit.rows == miss.rows
    assert len(hit.rows["accesses"]) == 1
    assert hit.files == miss.files


def test_the_owner_logs_the_same_leaves(runs: tuple[Run, Run]) -> None:
    hit, miss = runs
    assert hit.leaves == miss.leaves
    assert Counter(leaf["event"] for leaf in hit.leaves) >= Counter(CONSULT=3, CASE_OPEN=1, CASE_OUTCOME=1)


def test_the_owner_seals_the_same_bodies(runs: tuple[Run, Run]) -> None:
    hit, miss = runs
    assert hit.bodies == miss.bodies
    assert {body["operation"] for body in hit.bodies if "operation" in body} >= {
        "access request", "access decision", "evaluation",
    }  # fmt: skip


def test_the_owner_says_the_same_in_its_log_lines(runs: tuple[Run, Run]) -> None:
    hit, miss = runs
    assert hit.said == miss.said


def test_the_identifiers_themselves_are_nowhere_at_the_owner(runs: tuple[Run, Run]) -> None:
    _, miss = runs
    # The one that hit is the owner's own too, in its sealed records; the one that missed is known to the querier alone.
    for value in (*miss.identifiers, PHONE[1].encode()):
        assert value not in miss.everything
    assert b"access request" in miss.everything


# --- What a request and its answer show -------------------------------------------------------------------------------


def _request(**changes: Any) -> AccessRequest:
    said: dict[str, Any] = {
        "agreement": AGREEMENT, "request_id": bytes(16), "case_reference": "R", "offence": "O", "necessity": "N",
        "identifiers": 3, "expires_ms": 1, "actor_commitments": bytes(64), "signature": bytes(64), **changes,
    }  # fmt: skip
    return AccessRequest(**said)


def test_a_request_has_a_length_of_the_ladder_whatever_is_written_in_it() -> None:
    """Every length of text, so also those at which the length of a length changes."""
    lengths = Counter(convert.access_request_message(_request(necessity="x" * n)).ByteSize() for n in range(4001))
    assert lengths.keys() == {4096, 16384}
    assert lengths[4096] > 3600
    wide = _request(case_reference="\U0001f6a2" * 200, offence="\U0001f6a2" * 4000, necessity="\U0001f6a2" * 4000)
    assert len(convert.access_request_message(wide).SerializeToString()) == 65536
    assert convert.parse_access_request(convert.access_request_message(wide)) == wide


def test_every_answer_has_one_length() -> None:
    answers = [None, NO_ACCESS, AccessAnswer(b"\1" * 16, 1, 8, 1), AccessAnswer(b"\xff" * 16, 256, 4096, 1 << 52)]
    messages = [convert.access_answer_message(answer) for answer in answers]
    assert len({len(m.SerializeToString()) for m in messages}) == 1
    assert [convert.access_answer(m) for m in messages] == answers


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    made = begun(tmp_path)
    yield made
    made.close()


CAUSES = ("refused", "refused by the second", "undecided", "granted by one", "over before its slot")


def _decide(federation: Federation, cause: str, request_id: bytes) -> None:
    granting = federation.services["ics2"].granting
    approvals = {"refused": 0, "undecided": 0, "over before its slot": 2}.get(cause, 1)
    for who in (FIRST, SECOND)[:approvals]:
        granting.decide(request_id, who, "needed", approve=True)
    if cause.startswith("refused"):
        granting.decide(request_id, SECOND, "a reason of some length that nobody outside may see", approve=False)


def test_until_t_nothing_tells_a_refusal_from_a_request_that_waits_and_then_all_are_one_answer(
    federation: Federation,
) -> None:
    ics2 = federation.services["ics2"]
    port, caller = DisclosureServicer(ics2), Caller(federation, "police")
    soon = ics2.node.now_ms() + 500
    requests = {c: signed(federation, **({"expires_ms": soon} if c.startswith("over") else {})) for c in CAUSES}
    accepted = federation.clock.now()
    told: list[set[bytes]] = []

    def ask_all() -> set[bytes]:
        return {
            port.RequestAccess(convert.access_request_message(r), caller).SerializeToString()  # type: ignore[arg-type]
            for r in requests.values()
        }

    pending = disclosure_pb2.RequestAccessResponse(
        state=disclosure_pb2.OUTCOME_STATE_PENDING, access_id=bytes(16), identifiers=0, elements=0, expires_ms=0
    ).SerializeToString()
    assert ask_all() == {pending}
    for cause, request in requests.items():
        _decide(federation, cause, request.request_id)
    for until_s in (1, 11, 60, T_S // 2, T_S - 10, T_S - 1):
        federation.clock.advance(until_s - (federation.clock.now() - accepted).total_seconds())
        ics2.tick_cases()
        ics2.tick_log()
        told.append(ask_all())
    assert told == [{pending}] * 6
    federation.clock.advance(1)
    (answer,) = ask_all()
    assert len(answer) == len(pending)
    assert convert.access_answer(disclosure_pb2.RequestAccessResponse.FromString(answer)) == NO_ACCESS


def test_each_request_writes_the_same_two_leaves_whatever_becomes_of_it(federation: Federation) -> None:
    ics2 = federation.services["ics2"]
    given = signed(federation)
    granted(federation, given)
    soon = ics2.node.now_ms() + 500
    requests = {c: signed(federation, **({"expires_ms": soon} if c.startswith("over") else {})) for c in CAUSES}
    for cause, request in requests.items():
        ics2.granting.request("police", request)
        _decide(federation, cause, request.request_id)
    federation.clock.advance(T_S)
    ics2.tick_cases()
    varies = {"request_id", "ts", "erase_after", "body_commit"}
    shapes = set()
    for request in (given, *requests.values()):
        leaves = leaves_of(federation, "ics2", request.request_id)
        assert [leaf.event for _, leaf in leaves] == [Event.CASE_OPEN, Event.CASE_OUTCOME]
        shapes.add(
            json.dumps(
                [{k: type(v).__name__ if k in varies else v for k, v in json.loads(raw).items()} for raw, _ in leaves]
            )
        )
        assert len({len(raw) for raw, _ in leaves}) == 2
    assert len(shapes) == 1


def test_a_peer_sees_one_refusal_whatever_is_wrong_with_a_grant(tmp_path: Path) -> None:
    federation = Wired(tmp_path / "node", "refusals", ("ics2", "police", "gendarmerie=police"))
    try:
        federation.services["ics2"].registration.register([declaration("M1", PHONE)], "test")
        federation.settle()
        own = granted(federation, signed(federation)).access_id
        theirs = signed(federation, "gendarmerie", "LEA-CASE:gendarmerie-ics2")
        other = granted(federation, theirs, "gendarmerie").access_id
        short = granted(federation, signed(federation), hours=1).access_id
        federation.clock.advance(3600)
        seen = set()
        with federation.as_peer("police", "ics2") as channel:
            evaluate = matching_pb2_grpc.MatchingServiceStub(channel).Evaluate
            for wrong in (
                query(b""), query(bytes(16)), query(b"\2" * 16), query(other), query(short), query(own, tokens=25),
                query(own, code="CUS-47:police-ics2"),
            ):  # fmt: skip
                with pytest.raises(grpc.RpcError) as refusal:
                    evaluate(convert.evaluate_request(wrong), timeout=10)
                error = refusal.value
                seen.add((error.code(), error.details(), tuple(error.trailing_metadata() or ())))
            assert len(evaluate(convert.evaluate_request(query(own)), timeout=10).evaluated_elements) == 8 * 32
        assert {(code, text) for code, text, _ in seen} == {(grpc.StatusCode.PERMISSION_DENIED, "refused")}
        assert len(seen) == 1
    finally:
        federation.close()
