"""R5 and R9: the same request many times at once, and more requests than capacity allows."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from connector_psi.audit.entries import Event, parse_leaf
from connector_psi.domain.records import IdentifierType
from connector_psi.errors import CapacityExceededError, ConflictError, ConnectorError, UnavailableError
from connector_psi.node.config import Layout
from connector_psi.node.service import Service
from connector_psi.node.setup import sign_policy
from connector_psi.oprf.suite import BlindedElements
from connector_psi.protocol import messages
from connector_psi.protocol.owner import Query
from connector_psi.rpc import tls
from connector_psi.rpc.client import PeerClient
from connector_psi.rpc.server import Ports
from connector_psi.storage import owned
from tests.simulation.faults import AGREEMENT, make_query
from tests.simulation.federation import Federation, alert

CONTAINER = (IdentifierType.CONTAINER, "CSQU3054383")
AT_ONCE = 100
CALLS, LONG_CALLS, PER_DAY, PER_YEAR = 1000, 10_000, 400, 600
ELEMENTS = 8


class SmallFederation(Federation):
    """A federation whose agreements allow ``PER_DAY`` elements a day and ``PER_YEAR`` a year."""

    def open(self, code: str) -> Service:
        policy = self.root / code / "policy.yaml"
        small = f"object: {{per_day: {PER_DAY}, per_year: {PER_YEAR}}}"
        policy.write_text(policy.read_text().replace("object: {per_day: 9011200, per_year: 1649049600}", small))
        sign_policy(Layout(self.root / code), self.clock)
        return super().open(code)


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    made = Federation(tmp_path)
    made.services["sis"].registration.register([alert("DE1", CONTAINER)], "test")
    made.settle(1)
    yield made
    made.close()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallFederation]:
    made = SmallFederation(tmp_path)
    made.settle(1)
    yield made
    made.close()


def with_body_of(query: Query, other: Query) -> Query:
    """``query`` with the elements of another, and the commitment that belongs to them."""
    elements = BlindedElements(other.blinded_elements)
    commitment = messages.batch_commitment(
        query.querier, query.agreement, query.epoch, query.token_class.label, query.request_id, elements
    )
    return replace(query, blinded_elements=elements, batch_commitment=commitment)


@dataclass(frozen=True)
class Books:
    """What an owner wrote about queries."""

    leaves: int
    debited: int


def books(service: Service) -> Books:
    node = service.node
    with node.store.read() as tx:
        leaves = [parse_leaf(leaf) for leaf in node.entries.read_leaves(tx, 0, node.entries.size(tx))]
        used = owned.used_today(tx, AGREEMENT, f"{node.clock.now():%Y-%m-%d}")
    return Books(sum(leaf.event is Event.CONSULT for leaf in leaves), sum(used.values()))


def at_once(call: Callable[[Query], object], queries: list[Query]) -> list[object]:
    """Make all calls at once; a refusal is an answer too."""

    def answer(query: Query) -> object:
        try:
            return call(query)
        except ConnectorError as error:
            return type(error)

    with ThreadPoolExecutor(len(queries)) as pool:
        return list(pool.map(answer, queries))


def _patiently(client: PeerClient, query: Query) -> object:
    """Ask again when told to: a connection carries 32 calls at a time, and turns the others away."""
    for _ in range(AT_ONCE):
        with contextlib.suppress(UnavailableError):
            return client.evaluate(query)
    raise UnavailableError


def test_one_request_a_hundred_times_at_once_is_one_leaf_one_debit_and_one_answer(federation: Federation) -> None:
    sis, query = federation.services["sis"], make_query(1)
    answers = at_once(sis.evaluation.evaluate, [query] * AT_ONCE)
    assert len(set(answers)) == 1
    assert books(sis) == Books(leaves=1, debited=ELEMENTS)
    evaluated, proof = answers[0]  # type: ignore[misc]
    assert (len(evaluated), len(proof)) == (32 * ELEMENTS, 64)  # type: ignore[arg-type]


def test_a_hundred_callers_of_two_bodies_under_one_id_see_one_body_and_conflicts(federation: Federation) -> None:
    sis, query = federation.services["sis"], make_query(1)
    other = with_body_of(query, make_query(2))
    answers = at_once(sis.evaluation.evaluate, [query, other] * (AT_ONCE // 2))
    counts = Counter(answers)
    assert counts.pop(ConflictError) == AT_ONCE // 2
    assert list(counts.values()) == [AT_ONCE // 2]
    assert books(sis) == Books(leaves=1, debited=ELEMENTS)


@pytest.mark.parametrize("part", ["blinded_elements", "source_commitment", "actor_commitment"])
def test_another_body_under_a_known_id_is_refused_and_costs_nothing(federation: Federation, part: str) -> None:
    sis, query = federation.services["sis"], make_query(1)
    first = sis.evaluation.evaluate(query)
    changed = with_body_of(query, make_query(2)) if part == "blinded_elements" else replace(query, **{part: b"\1" * 32})
    with pytest.raises(ConflictError):
        sis.evaluation.evaluate(changed)
    assert sis.evaluation.evaluate(query) == first
    assert books(sis) == Books(leaves=1, debited=ELEMENTS)


def test_the_answer_is_the_same_after_a_restart(federation: Federation) -> None:
    query = make_query(1)
    first = federation.services["sis"].evaluation.evaluate(query)
    federation.close("sis")
    assert federation.open("sis").evaluation.evaluate(query) == first
    assert books(federation.services["sis"]) == Books(leaves=1, debited=ELEMENTS)


def test_over_the_wire_it_is_the_same(federation: Federation) -> None:
    sis, ics2, query = federation.services["sis"], federation.services["ics2"], make_query(1)
    ports = Ports(sis, peer="127.0.0.1:0", local="127.0.0.1:0")
    ports.serving(yes=True)
    client = PeerClient("sis", tls.channel(ports.peer_address, "sis", ics2.node.credentials, ics2.node.root_pem))
    try:
        answers = at_once(lambda q: _patiently(client, q), [query] * AT_ONCE)
        assert set(answers) == {sis.evaluation.evaluate(query)}
        with pytest.raises(ConflictError):
            client.evaluate(with_body_of(query, make_query(2)))
    finally:
        client.close()
        ports.stop(1)
    assert books(sis) == Books(leaves=1, debited=ELEMENTS)


def test_capacity_is_never_passed_by_calls_at_once_nor_by_restarts(small: SmallFederation) -> None:
    """R9: a thousand calls, all under way at once but for a restart in the middle of the capacity."""
    first, rest = PER_DAY // ELEMENTS // 2, CALLS - PER_DAY // ELEMENTS // 2
    _pass_capacity(small, [range(first), range(first, first + rest)])


@pytest.mark.slow
def test_long_capacity_is_never_passed_by_ten_thousand_calls_and_ten_restarts(small: SmallFederation) -> None:
    part = LONG_CALLS // 10
    _pass_capacity(small, [range(20), *(range(start, start + part) for start in range(20, LONG_CALLS, part))])


def _pass_capacity(small: SmallFederation, parts: list[range]) -> None:
    answers: list[object] = []
    for numbers in parts:
        answers += at_once(small.services["sis"].evaluation.evaluate, [make_query(n) for n in numbers])
        assert books(small.services["sis"]).debited <= PER_DAY
        small.close("sis")
        small.open("sis")
    refused = answers.count(CapacityExceededError)
    assert len(answers) - refused == PER_DAY // ELEMENTS
    assert all(answer is CapacityExceededError or isinstance(answer, tuple) for answer in answers)
    assert books(small.services["sis"]) == Books(leaves=PER_DAY // ELEMENTS, debited=PER_DAY)


def test_a_year_holds_less_than_its_days(small: SmallFederation) -> None:
    sis = small.services["sis"]
    today = at_once(sis.evaluation.evaluate, [make_query(n) for n in range(PER_DAY // ELEMENTS)])
    assert CapacityExceededError not in today
    small.clock.advance(24 * 3600)
    tomorrow = at_once(sis.evaluation.evaluate, [make_query(1000 + n) for n in range(PER_DAY // ELEMENTS)])
    assert len(tomorrow) - tomorrow.count(CapacityExceededError) == (PER_YEAR - PER_DAY) // ELEMENTS


def test_what_was_refused_for_capacity_left_no_trace_and_is_answered_when_there_is_some(small: SmallFederation) -> None:
    sis = small.services["sis"]
    at_once(sis.evaluation.evaluate, [make_query(n) for n in range(PER_DAY // ELEMENTS)])
    late = make_query(1000)
    with pytest.raises(CapacityExceededError):
        sis.evaluation.evaluate(late)
    small.clock.advance(24 * 3600)
    assert sis.evaluation.evaluate(late) == sis.evaluation.evaluate(late)
    assert books(sis) == Books(leaves=PER_DAY // ELEMENTS + 1, debited=ELEMENTS)
