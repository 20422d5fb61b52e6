"""Attacks on names: a curious querier with a dictionary and all its capacity, a curious owner with recorded traffic.

Each gets what docs/threat-model.md says under "What a name key tells", and no more. All names are invented.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from connector_psi.audit.entries import Side
from connector_psi.domain import names
from connector_psi.domain.naming.families import FAMILY_TABLE, FamilyGroup
from connector_psi.domain.records import Field, Party, PartyKind, Record, SourceSystem, TokenClass
from connector_psi.encoding.tickets import Ticket, open_ticket_id
from connector_psi.errors import CapacityExceededError
from connector_psi.node import querying
from connector_psi.node.node import OWNER
from connector_psi.node.publishing import case_keys
from connector_psi.oprf import suite
from connector_psi.protocol import messages, tokens
from connector_psi.protocol.owner import derive_class_keys
from connector_psi.rpc.v1 import matching_pb2
from connector_psi.storage import owned, records
from tests.privacy.guesses import derived, guesses, windows
from tests.privacy.needles import Needles, spellings
from tests.privacy.staging import leaves_of
from tests.privacy.wired import Wired
from tests.simulation.federation import Federation, declaration

AGREEMENT = "EUR-XCHK:ics2-europol"
FORENAMES = ["Ottokar", "Brunhild", "Zoltan", "Mirjeta", "Pelagius", "Quirin"]
SURNAMES = ["Zubkin", "Vandermeulen", "Quvari", "Hrostov", "Lindqvarn", "Tikvari"]
COMMON = [f"{first} {last}" for first, last in product(FORENAMES, SURNAMES)]
RARE = [f"Wx{a}ldrik Gn{b}torvald" for a, b in product("aeiou", "aeiou")]


def person(name: str, **more: Any) -> Party:
    return Party("subject", PartyKind.PERSON, name, "$.person", **more)


def known(ref: str, *parties: Party) -> Record:
    fields = {Field.HANDLING_CODES: ("H0",), Field.SUBJECT_CLASS: ("suspect",)}
    digest = hashlib.sha256(ref.encode()).digest()
    return Record(SourceSystem.EIS, ref, "eis.person", (), fields, digest, parties=parties)


def declared(ref: str, name: str) -> Record:
    return replace(declaration(ref), parties=(person(name),))


@dataclass
class Attack:
    """What a querier saw that keeps everything: each ticket that it opened, with the token that opened it."""

    federation: Federation
    opened: list[tuple[bytes, Ticket]]
    records: Mapping[bytes, str]
    """The owner's record behind each ticket id, which only the owner can tell."""


@pytest.fixture(scope="module")
def attack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attack]:
    """Every name of the dictionary is registered as if it had been declared, and asked."""
    patch = pytest.MonkeyPatch()
    opened: list[tuple[bytes, Ticket]] = []
    ask = querying.Querying.ask

    def keeping(self: Any, *arguments: Any) -> Any:
        found = ask(self, *arguments)
        opened.extend((token, ticket) for token, one in found.items() for ticket in one.probed.opened)
        return found

    patch.setattr(querying.Querying, "ask", keeping)
    federation = Federation(tmp_path_factory.mktemp("attack"), profiles=("ics2", "europol"))
    europol, ics2 = federation.services["europol"], federation.services["ics2"]
    europol.registration.register(
        [
            known("common-0", person(COMMON[0], birth_date="1980-05-17", country="DE")),
            known("common-1", person(COMMON[1], aliases=(RARE[24],))),
            known("namesake", person(COMMON[0], birth_date="1944-01-02", country="FR")),
            known("longer", person(f"{SURNAMES[2]}, {FORENAMES[3]} {RARE[0].split()[0]}")),
            known("half", person(f"{FORENAMES[4]} {RARE[1].split()[1]}", country="DE")),
            *(known(f"rare-{n}", person(name, birth_date="1970-07-07")) for n, name in enumerate(RARE[2:20])),
        ],
        "test",
    )
    ics2.registration.register([declared(f"M{n}", name) for n, name in enumerate(COMMON)], "test")
    federation.settle()
    node = europol.node
    with node.store.read() as tx:
        row = owned.newest_published(tx, AGREEMENT)
        assert row is not None
        k_ticket, _ = case_keys(node, row)
        behind = {}
        for ticket_id in {each.ticket_id for _, each in opened}:
            number = open_ticket_id(k_ticket, ticket_id)
            assert number is not None
            found = records.by_id(node.store, tx, number)
            assert found is not None
            behind[ticket_id] = found[0].source_ref
    yield Attack(federation, opened, behind)
    patch.undo()
    federation.close()


def published(attack: Attack, ref: str) -> set[tuple[bytes, int, int, int]]:
    """What the owner's set holds of a record: token, family, shape, part."""
    node = attack.federation.services["europol"].node
    bound = node.bound(AGREEMENT, OWNER)
    with node.store.read() as tx:
        (record,) = [
            each.record
            for chunk in records.eligible(node.store, tx, bound.agreement.categories, node.now_ms())
            for each in chunk
            if each.record.source_ref == ref
        ]
    groups = node.name_groups(bound)
    return {
        (token.value, token.family, token.shape, token.part)
        for token in tokens.record_tokens(bound.agreement, record, Side.OWNER, groups)
    }


def dictionary() -> set[bytes]:
    """Tokens of every name that the querier can guess, whatever else it knows of none."""
    groups = frozenset(FamilyGroup)
    return {tokens.encode_key(key) for name in COMMON for key in names.asked_keys(person(name), groups)}


def test_a_dictionary_opens_the_tickets_of_its_own_keys_and_no_other(attack: Attack) -> None:
    guessed = dictionary()
    assert {token for token, _ in attack.opened} <= guessed
    seen: dict[str, set[tuple[bytes, int, int, int]]] = {}
    for token, ticket in attack.opened:
        seen.setdefault(attack.records[ticket.ticket_id], set()).add((token, ticket.family, ticket.shape, ticket.part))
    for ref in ("common-0", "common-1", "namesake", "longer", "half", *(f"rare-{n}" for n in range(18))):
        expected = {entry for entry in published(attack, ref) if entry[0] in guessed}
        assert seen.get(ref, set()) == expected
    assert {"common-0", "common-1", "namesake", "longer"} <= set(seen)


def test_names_that_share_no_pair_with_the_dictionary_stay_hidden(attack: Attack) -> None:
    found = set(attack.records.values())
    assert not {ref for ref in found if ref.startswith("rare-")}
    # One part that can be guessed is not enough: it is never a key by itself.
    assert "half" not in found


def test_a_ticket_tells_namesakes_and_the_build_of_a_name_and_nothing_else(attack: Attack) -> None:
    of_name = Counter(attack.records[each.ticket_id] for _, each in attack.opened)
    assert of_name["common-0"] >= 1
    assert of_name["namesake"] == of_name["common-0"]
    for _, ticket in attack.opened:
        rule = next(rule for rule in FAMILY_TABLE.values() if rule.number == ticket.family)
        assert rule.group is FamilyGroup.PERSON_NAME
        assert (ticket.token_class, ticket.category, ticket.part) == (TokenClass.PERSON, 0, 1)
        # Customs asks with no date of birth, so no ticket says that there is one.
        assert ticket.shape in {0, 1, 2}
    longer = {e.shape for _, e in attack.opened if attack.records[e.ticket_id] == "longer"}
    assert 0 not in longer


def test_people_see_nothing_of_it(attack: Attack) -> None:
    """A name alone is counted: with no corroborator nothing is shown, and nothing can be claimed."""
    ics2 = attack.federation.services["ics2"]
    assert ics2.review.list() == []
    assert attack.federation.services["europol"].cases.list() == []
    agreements = ics2.status()["agreements"]
    assert isinstance(agreements, list)
    (line,) = [each for each in agreements if each["agreement"] == AGREEMENT]
    assert line["weak_matches"] >= 1


def test_every_guess_is_debited_and_in_both_logs(attack: Attack) -> None:
    asked = [query for query in attack.federation.queries if query.agreement == AGREEMENT]
    assert sum(query.n_padded for query in asked if query.token_class is TokenClass.PERSON) >= len(dictionary())
    for authority in ("ics2", "europol"):
        logged = {leaf.request_id: leaf for _, leaf in leaves_of(attack.federation, authority)}
        assert [logged[query.request_id].n_padded for query in asked] == [query.n_padded for query in asked]


class Poor(Federation):
    """Whose customs may ask for 64 elements of persons a day."""

    edits = (("person: {per_day: 125491200, per_year: 22964889600}", "person: {per_day: 64, per_year: 6400}"),)


def test_capacity_ends_a_dictionary(tmp_path: Path) -> None:
    federation = Poor(tmp_path, profiles=("ics2", "europol"))
    europol, ics2 = federation.services["europol"], federation.services["ics2"]
    try:
        europol.registration.register([known("x", person(RARE[0]))], "test")
        for n, name in enumerate(COMMON):
            ics2.registration.register([declared(f"M{n}", name)], "test")
            with suppress(CapacityExceededError):
                federation.settle(rounds=1)
        asked = {query.request_id for query in federation.queries if query.agreement == AGREEMENT}
        answered = [leaf for _, leaf in leaves_of(federation, "europol") if leaf.request_id in asked]
        assert 0 < sum(leaf.n_padded or 0 for leaf in answered) <= 64 < len(dictionary())
    finally:
        federation.close()


# --- the owner


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wired]:
    federation = Wired(tmp_path_factory.mktemp("traffic"), profiles=("ics2", "europol"))
    federation.services["europol"].registration.register([known("common-0", person(COMMON[0]))], "test")
    federation.services["ics2"].registration.register([declared(f"M{n}", COMMON[n]) for n in range(12)], "test")
    federation.settle()
    # An epoch turns: all is asked again under another key.
    federation.services["europol"].registration.register([known("new", person(RARE[0]))], "test")
    federation.services["europol"].publish()
    federation.settle(rounds=8)
    yield federation
    federation.close()


def asked_tokens(count: int) -> list[bytes]:
    groups = frozenset({FamilyGroup.PERSON_NAME, FamilyGroup.NAME_PLACE})
    return sorted({tokens.encode_key(key) for name in COMMON[:count] for key in names.asked_keys(person(name), groups)})


def to_owner(recorded: Wired) -> list[bytes]:
    found = [m for m in recorded.messages() if m.owner == "europol" and m.direction == "request"]
    assert "Evaluate" in {m.method for m in found}
    return [m.data for m in found]


def test_an_owner_that_guesses_the_very_names_finds_nothing_in_what_it_was_sent(recorded: Wired) -> None:
    """It holds the keys of every epoch and knows each name, spelling and message; what it was asked stays open."""
    node = recorded.services["europol"].node
    with node.store.read() as tx:
        epochs = [row for row in owned.list_epochs(tx) if row.agreement == AGREEMENT and row.wrapped_seed is not None]
    assert len(epochs) >= 2
    own = asked_tokens(12)
    secret: list[bytes] = []
    for row in epochs:
        assert row.wrapped_seed is not None
        seed = node.keyring.epoch_seed(row.agreement, row.epoch, row.wrapped_seed)
        keys = derive_class_keys(seed, row.agreement, row.epoch, [TokenClass.PERSON])
        outputs = suite.evaluate(keys[TokenClass.PERSON].secret, own)
        for at in range(0, len(outputs), 64):
            secret += derived(bytes(outputs[at : at + 64]))
    for number, name in enumerate(COMMON[:12]):
        message = hashlib.sha256(f"M{number}".encode()).digest()
        for key in names.asked_keys(person(name), frozenset(FamilyGroup)):
            secret += guesses(
                tokens.encode_key(key), message, (key.text.encode(), name.encode(), name.lower().encode())
            )
    texts: Sequence[bytes] = [name.encode() for name in COMMON[:12]]
    needles = Needles(
        [w for value in secret for w in windows(value)]
        + [s for value in (*secret, *texts) for s in spellings(value[:64])]
    )
    assert needles.found_in(b"..." + COMMON[3].encode() + b"...") != set()
    assert needles.found_in(b"x" + secret[0][3:20]) != set()
    assert [data for data in to_owner(recorded) if needles.found_in(data)] == []


def test_one_name_is_asked_in_other_bytes_each_time(recorded: Wired) -> None:
    queries = [
        matching_pb2.EvaluateRequest.FromString(m.data)
        for m in recorded.messages()
        if m.owner == "europol" and m.direction == "request" and m.method == "Evaluate"
    ]
    named = [query for query in queries if query.token_class == int(TokenClass.PERSON)]
    assert len({query.epoch for query in named}) >= 2
    elements = [q.blinded_elements[at : at + 32] for q in named for at in range(0, len(q.blinded_elements), 32)]
    assert len(elements) >= 2 * len(asked_tokens(12))
    assert len(set(elements)) == len(elements)
    # What it sees is how much was asked, to the next step of the ladder.
    assert {len(query.blinded_elements) // 32 for query in named} <= set(messages.BATCH_SIZES)


def test_a_match_does_not_show_in_what_the_owner_receives(tmp_path: Path) -> None:
    """The same names are asked of a set that has one of them and of one that has none."""
    seen = []
    for run, name in enumerate((COMMON[0], RARE[0])):
        federation = Federation(tmp_path / str(run), profiles=("ics2", "europol"))
        try:
            federation.services["europol"].registration.register([known("x", person(name))], "test")
            declarations = [declared(f"M{n}", asked) for n, asked in enumerate(COMMON[:6])]
            federation.services["ics2"].registration.register(declarations, "test")
            federation.settle()
            agreements = federation.services["ics2"].status()["agreements"]
            assert isinstance(agreements, list)
            weak = next(int(each["weak_matches"]) for each in agreements if each["agreement"] == AGREEMENT)
            assert (weak > 0) is (run == 0)
            seen.append([(q.token_class, q.n_padded) for q in federation.queries if q.agreement == AGREEMENT])
        finally:
            federation.close()
    assert seen[0] == seen[1]
