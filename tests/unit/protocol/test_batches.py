"""A batch on both sides: what goes out, what comes back, what is found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from connector_psi.domain.records import IdentifierType, TokenClass
from connector_psi.encoding import bloom, tickets
from connector_psi.errors import InvalidElementError, ProofError, ProtocolError
from connector_psi.oprf import suite
from connector_psi.protocol import messages
from connector_psi.protocol.owner import (
    EncodeItem,
    Query,
    SetEncoder,
    claimed_tokens,
    derive_class_keys,
    evaluate,
    prove,
)
from connector_psi.protocol.querier import Batch, SetView, plan_sizes
from connector_psi.protocol.tokens import Token
from tests.simulation.federation import SeededRandom

AGREEMENT, EPOCH = "SIS-OBJ:ics2-sis", 3
RANDOM = SeededRandom("batches")
KEYS = derive_class_keys(bytes(32), AGREEMENT, EPOCH, [TokenClass.OBJECT])[TokenClass.OBJECT]
K_TICKET, K_REDEEM = bytes([1]) * 32, bytes([2]) * 32


def _token(n: int) -> bytes:
    return messages.encode_token("test", IdentifierType.SEAL, f"SEAL{n:04d}")


def _batch(count: int = 3) -> Batch:
    tokens = tuple(_token(n) for n in range(count))
    return Batch("ics2", AGREEMENT, EPOCH, TokenClass.OBJECT, bytes([7]) * 16, bytes([9]) * 32, tokens)


def _query(batch: Batch) -> Query:
    prepared = batch.prepare()
    return Query(
        querier="ics2",
        agreement=AGREEMENT,
        epoch=EPOCH,
        token_class=TokenClass.OBJECT,
        request_id=batch.request_id,
        batch_commitment=prepared.commitment,
        source_commitment=bytes(32),
        actor_commitment=bytes(32),
        access_id=b"",
        blinded_elements=prepared.blinded_elements,
    )


def test_a_batch_is_the_same_bytes_every_time_and_others_under_another_seed_or_id() -> None:
    batch = _batch()
    assert batch.prepare().blinded_elements == batch.prepare().blinded_elements
    others = [replace(batch, seed=bytes(32)), replace(batch, request_id=bytes(16))]
    own = {batch.prepare().blinded_elements[i : i + 32] for i in range(0, 256, 32)}
    for other in others:
        elements = other.prepare().blinded_elements
        assert own.isdisjoint(elements[i : i + 32] for i in range(0, len(elements), 32))


@pytest.mark.parametrize(("tokens", "padded"), [(1, 8), (8, 8), (9, 16), (33, 64)])
def test_batches_are_padded_to_the_ladder(tokens: int, padded: int) -> None:
    batch = _batch(tokens)
    assert batch.n_padded == padded
    assert len(batch.prepare().blinded_elements) == 32 * padded


def test_large_rounds_are_split_into_sizes_that_waste_little() -> None:
    assert plan_sizes(0) == []
    assert plan_sizes(1) == [1]
    assert plan_sizes(4096 + 2048 + 5) == [4096, 1024, 1024, 5]
    assert sum(plan_sizes(12_345)) == 12_345


def test_finishing_gives_what_the_owner_computes_alone_in_token_order() -> None:
    batch = _batch(5)
    query = _query(batch)
    evaluated = evaluate(KEYS, query.blinded_elements)
    proof = prove(KEYS, query.blinded_elements, evaluated, RANDOM.bytes)
    outputs = batch.prepare().finish(KEYS.public, evaluated, proof)
    assert b"".join(outputs) == suite.evaluate(KEYS.secret, batch.tokens)


def test_an_answer_that_was_changed_is_refused() -> None:
    batch = _batch()
    query = _query(batch)
    evaluated = evaluate(KEYS, query.blinded_elements)
    proof = prove(KEYS, query.blinded_elements, evaluated, RANDOM.bytes)
    swapped = evaluated[32:64] + evaluated[:32] + evaluated[64:]
    with pytest.raises(ProofError):
        batch.prepare().finish(KEYS.public, suite.EvaluatedElements(swapped), proof)
    with pytest.raises(ProtocolError):
        batch.prepare().finish(KEYS.public, suite.EvaluatedElements(evaluated[:-32]), proof)
    other = derive_class_keys(bytes([1]) * 32, AGREEMENT, EPOCH, [TokenClass.OBJECT])[TokenClass.OBJECT]
    with pytest.raises(ProofError):
        batch.prepare().finish(other.public, evaluated, proof)


@pytest.mark.parametrize(
    "change",
    [
        {"batch_commitment": bytes(32)},
        {"querier": "other"},
        {"epoch": EPOCH + 1},
        {"agreement": "SIS-OBJ:other-sis"},
        {"token_class": TokenClass.CONTACT},
        {"request_id": bytes(16)},
        {"request_id": bytes(15)},
        {"source_commitment": b""},
        {"access_id": bytes(3)},
        {"blinded_elements": b""},
        {"blinded_elements": bytes(32 * 7)},
        {"blinded_elements": bytes(32 * 8 + 1)},
    ],
)
def test_a_query_that_does_not_hold_together_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ProtocolError):
        replace(_query(_batch()), **change)


def test_an_element_that_is_none_is_refused() -> None:
    query = _query(_batch())
    bad = suite.BlindedElements(bytes(32) + query.blinded_elements[32:])
    with pytest.raises(InvalidElementError):
        evaluate(KEYS, bad)


def _seal(n: int) -> Token:
    return Token(_token(n), TokenClass.OBJECT, 9, IdentifierType.SEAL)


def _view(tmp_path: Path, holders: list[list[int]], named: list[Token] | None = None) -> SetView:
    """A set of records, each holding the tokens of some numbers; before them one that holds what is named."""
    encoder = SetEncoder(AGREEMENT, EPOCH, {TokenClass.OBJECT: KEYS}, K_TICKET, K_REDEEM, RANDOM)
    items = [EncodeItem(r, 0, tuple(_seal(n) for n in own)) for r, own in enumerate(holders)]
    if named is not None:
        items.insert(0, EncodeItem(len(items), 0, tuple(named)))
    # In batches of two, so that counts must carry over from one to the next.
    encoded = list(encoder.encode(items[i : i + 2] for i in range(0, len(items), 2)))
    rows = b"".join(e.rows for e in encoded)
    lookups = b"".join(e.lookups for e in encoded)
    count = sum(e.count for e in encoded)
    size = tickets.padded_size(count)
    dummies = tickets.dummy_rows(size - count, RANDOM)
    lookups += b"".join(dummies[i : i + 16] for i in range(0, len(dummies), tickets.ROW_BYTES))
    bloom.write_filter(tmp_path / "filter", lookups, size)
    tickets.write_tickets(tmp_path / "tickets", rows + dummies)
    return SetView(
        AGREEMENT,
        EPOCH,
        bloom.Filter.open(tmp_path / "filter", size),
        tickets.TicketFile.open(tmp_path / "tickets", size),
    )


def test_every_record_that_holds_a_token_is_found_and_nothing_else(tmp_path: Path) -> None:
    view = _view(tmp_path, [[0, 1], [0], [0, 5], [7]])
    outputs = suite.evaluate(KEYS.secret, [_token(n) for n in (0, 1, 2)])
    probed = view.probe([outputs[i : i + 64] for i in range(0, len(outputs), 64)])
    found = sorted(
        (n, tickets.open_ticket_id(K_TICKET, ticket.ticket_id)) for n, one in enumerate(probed) for ticket in one.opened
    )
    assert found == [(0, 0), (0, 1), (0, 2), (1, 0)]
    assert [one.published for one in probed] == [3, 1, 0]


def test_one_token_of_two_parties_of_a_record_has_a_row_for_each(tmp_path: Path) -> None:
    held = [replace(_seal(0), family=66, part=part, shape=shape) for part, shape in ((1, 2), (2, 5))]
    view = _view(tmp_path, [[0]], [*held])
    (probed,) = view.probe([suite.evaluate(KEYS.secret, [_token(0)])])
    assert [(ticket.part, ticket.shape) for ticket in probed.opened] == [(1, 2), (2, 5), (0, 0)]
    first, second, other = probed.opened
    assert (first.ticket_id, first.redeem) == (second.ticket_id, second.redeem)
    assert first.ticket_id != other.ticket_id


def test_redeem_codes_prove_the_tokens_held_and_no_others(tmp_path: Path) -> None:
    view = _view(tmp_path, [[0, 1]])
    output = suite.evaluate(KEYS.secret, [_token(0)])
    (probed,) = view.probe([output])
    (opened,) = probed.opened
    record = [_seal(0), Token(_token(1), TokenClass.OBJECT, 1, IdentifierType.CONTAINER)]
    code = opened.redeem
    assert claimed_tokens(K_REDEEM, opened.ticket_id, code, record) == (record[0],)
    # Two parties of one name have one token and one code, which covers both.
    twice = [replace(record[0], part=part) for part in (1, 2)]
    assert claimed_tokens(K_REDEEM, opened.ticket_id, code, [*twice, record[1]]) == tuple(twice)
    for wrong in (bytes(8), code[:7], b"", code + bytes(8)):
        with pytest.raises(ProtocolError):
            claimed_tokens(K_REDEEM, opened.ticket_id, wrong, record)


def test_a_token_has_a_bound_and_binds_version_type_and_value() -> None:
    made = {
        messages.encode_token(version, kind, value)
        for version in ("1", "11")
        for kind in (IdentifierType.SEAL, IdentifierType.EORI)
        for value in ("A", "1A")
    }
    assert len(made) == 8
    with pytest.raises(ProtocolError):
        messages.encode_token("1", IdentifierType.SEAL, "A" * 600)
