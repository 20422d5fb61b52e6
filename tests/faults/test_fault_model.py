"""The reference model says what a join by hand says."""

from __future__ import annotations

import random

from connector_psi.domain.records import IDENTIFIER_TABLE, IdentifierType
from tests.faults.agency import container
from tests.faults.model import Reference, Side
from tests.simulation import crash

VIN = (IdentifierType.VIN, "WVWZZZ1JZ3W386752")


def test_a_pair_is_there_while_both_records_are() -> None:
    model = Reference()
    model.register_declaration("D1", {container(1)})
    assert model.expected_pairs() == set()
    model.register_alert("A1", {container(1)})
    model.register_alert("A2", {container(1)}, until=10)
    assert model.expected_pairs() == {("D1", "A1"), ("D1", "A2")}
    assert model.expire(9) == set()
    assert model.expire(10) == {(Side.ALERT, "A2")}
    assert model.withdraw("alert", "A1")
    assert not model.withdraw("alert", "A1")
    assert model.expected_pairs() == set()
    assert model.ever == {("D1", "A1"), ("D1", "A2")}


def test_an_amendment_replaces_what_was_said() -> None:
    model = Reference()
    model.register_alert("A1", {container(1)}, until=10)
    model.register_declaration("D1", {container(2)})
    model.register_declaration("D1", {container(1)})
    model.register_alert("A1", {container(1), VIN})
    assert model.expire(10) == set()
    assert model.expected_pairs() == {("D1", "A1")}
    assert set(model.live("declaration")) == {"D1"}


def test_what_follows_from_an_identifier_is_an_identifier() -> None:
    model = Reference()
    last8 = (IdentifierType.VIN_LAST8, VIN[1][-8:])
    model.register_alert("A1", {VIN})
    model.register_declaration("D1", {last8})
    assert IDENTIFIER_TABLE[IdentifierType.VIN].suffices_alone
    assert model.expected_pairs() == ({("D1", "A1")} if IDENTIFIER_TABLE[last8[0]].suffices_alone else set())


def test_it_agrees_with_the_join_of_the_crash_tests() -> None:
    model = Reference()
    for record in (r for batch in crash.DECLARATIONS for r in batch):
        model.register_declaration(record.source_ref, {(i.type, i.value) for i in record.identifiers})
    for record in (r for batch in crash.ALERTS for r in batch if not r.hidden):
        model.register_alert(record.source_ref, {(i.type, i.value) for i in record.identifiers})
    assert sorted(ref for ref, _ in model.expected_pairs()) == [ref for ref, _ in crash.plaintext_join()]


def test_the_order_does_not_matter() -> None:
    draw = random.Random(11)
    steps = [(Side.DECLARATION, n) for n in range(20)] + [(Side.ALERT, n) for n in range(20)]
    found = []
    for _ in range(5):
        model = Reference()
        for side, n in draw.sample(steps, len(steps)):
            if side is Side.DECLARATION:
                model.register_declaration(f"D{n}", {container(n)})
            else:
                model.register_alert(f"A{n}", {container(n % 7), container(n)})
        found.append(model.expected_pairs())
    assert all(pairs == found[0] for pairs in found)
    assert ("D3", "A10") in found[0]


def test_a_case_ends_as_it_was_opened_first() -> None:
    model = Reference()
    model.open_case("D1", "disclosed")
    model.open_case("D1", "not_disclosed")
    assert model.expected_cases() == {"D1": "disclosed"}
