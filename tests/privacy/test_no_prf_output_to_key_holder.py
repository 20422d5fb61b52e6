"""No RPC carries a PRF output, or anything computed from one, to the holder of the key.

Plates and container numbers can be enumerated: whoever holds the key and sees an output, or a hash of a token, reads the number. So all
that the querier's tokens lead to is computed here with the owner's key, and searched for in all that the querier sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from connector_psi.domain.identifiers import NORMALISATION_VERSION
from connector_psi.domain.records import IdentifierType, TokenClass
from connector_psi.encoding import tickets
from connector_psi.node.publishing import case_keys
from connector_psi.oprf import suite
from connector_psi.protocol import messages
from connector_psi.protocol.owner import derive_class_keys
from connector_psi.rpc.v1 import disclosure_pb2, matching_pb2
from connector_psi.storage import owned, records
from tests.privacy.guesses import WINDOW, derived, guesses, windows
from tests.privacy.needles import Needles, spellings
from tests.privacy.staging import BASIS, JUSTIFICATION, PURPOSE, REFERENCE, container
from tests.privacy.wired import Message, Wired
from tests.simulation.federation import Federation, alert, declaration, person

SHARED, ASKED = 12, 40


def _token(number: int) -> bytes:
    return messages.encode_token(NORMALISATION_VERSION, IdentifierType.CONTAINER, container(number))


def _ask(federation: Federation) -> None:
    """A query of 40 containers of which 12 match."""
    sis, ics2 = federation.services["sis"], federation.services["ics2"]
    sis.registration.register(
        [alert(f"DE{n}", (IdentifierType.CONTAINER, container(n))) for n in range(SHARED)], "test"
    )
    # The same container in two alerts: its second row has lookup 1.
    sis.registration.register([alert("DE-again", (IdentifierType.CONTAINER, container(0)))], "test")
    found = [declaration(f"M{n}", (IdentifierType.CONTAINER, container(n))) for n in range(ASKED)]
    ics2.registration.register(found, "test")
    federation.settle()
    assert len(ics2.review.list()) == SHARED + 1


def _play(federation: Federation) -> None:
    """The query, a dismissal, two cases of which one is disclosed and one refused, and the same query in another epoch."""
    _ask(federation)
    sis, ics2 = federation.services["sis"], federation.services["ics2"]
    for match in ics2.review.list()[-2:]:
        ics2.review.decide(match.match_id, person("ics2"), "same container", confirm=True)
        ics2.asked.open(
            match.match_id,
            person("ics2"),
            purpose=PURPOSE,
            legal_basis=BASIS,
            case_reference=REFERENCE,
            justification=JUSTIFICATION,
        )
    ics2.review.decide(ics2.review.list()[0].match_id, person("ics2"), "another container", confirm=False)
    federation.settle()
    first, second = (view.row.request_id for view in sis.cases.list())
    sis.received.decide(first, person("sis", name="supervisor1"), "yes", approve=True)
    sis.received.decide(second, person("sis", name="supervisor1"), "no", approve=False)
    # Something new at the owner comes as a delta; with the next epoch all that is live is asked again under another key.
    sis.registration.register([alert("DE-new", (IdentifierType.CONTAINER, container(500)))], "test")
    federation.settle(rounds=1)
    sis.publish()
    federation.settle(rounds=5, step_s=6)
    states = {view.row.state for view in ics2.cases.list()}
    assert states == {"disclosed", "pending"}


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wired]:
    federation = Wired(tmp_path_factory.mktemp("prf"))
    _play(federation)
    yield federation
    federation.close()


@pytest.fixture(scope="module")
def sent(wired: Wired) -> list[Message]:
    """Everything that went from the querier to the owner."""
    found = [m for m in wired.messages() if m.owner == "sis" and m.direction == "request"]
    methods = {m.method for m in found}
    # N.SIS is owner of SIS-OBJ and querier of the agreements in which customs sends it covers of recalls on the hour.
    assert methods - {"Recall"} == {
        "GetManifest", "ReadSet", "GetDeltas", "Evaluate", "OpenCase", "GetOutcome", "AddCheckpoint",
    }  # fmt: skip
    return found


def _queries(sent: list[Message]) -> list[matching_pb2.EvaluateRequest]:
    return [matching_pb2.EvaluateRequest.FromString(m.data) for m in sent if m.method == "Evaluate"]


def _outputs(federation: Federation) -> Iterator[bytes]:
    """PRF outputs of the querier's tokens under every key that the owner published, 64 bytes each."""
    node = federation.services["sis"].node
    with node.store.read() as tx:
        epochs = [row for row in owned.list_epochs(tx) if row.wrapped_seed is not None]
    assert len(epochs) >= 2
    for row in epochs:
        assert row.wrapped_seed is not None
        seed = node.keyring.epoch_seed(row.agreement, row.epoch, row.wrapped_seed)
        keys = derive_class_keys(seed, row.agreement, row.epoch, [TokenClass.OBJECT])
        outputs = suite.evaluate(keys[TokenClass.OBJECT].secret, [_token(n) for n in range(ASKED)])
        yield from (bytes(outputs[at : at + 64]) for at in range(0, len(outputs), 64))


def _guesses(number: int) -> Iterator[bytes]:
    texts = (container(number).encode(), container(number).lower().encode())
    return guesses(_token(number), hashlib.sha256(f"M{number}".encode()).digest(), texts)


def test_nothing_that_comes_of_a_prf_output_goes_to_the_key_holder(wired: Wired, sent: list[Message]) -> None:
    outputs = list(_outputs(wired))
    secret = [value for output in outputs for value in derived(output)]
    needles = Needles(
        [w for value in secret for w in windows(value)] + [s for value in secret for s in spellings(value[:WINDOW])]
    )
    # The search finds them where they are: the lookups of what matched stand in the set that the querier took.
    taken = b"".join(path.read_bytes() for path in (wired.root / "ics2" / "data" / "taken").rglob("tickets"))
    lookups = {messages.derive_lookup(output, 0)[0][:WINDOW] for output in outputs}
    assert len(lookups & needles.found_in(taken)) == SHARED
    assert needles.found_in(b"x" + outputs[7][20:30].hex().encode()) == set()
    assert needles.found_in(b"x" + outputs[7][20:30]) != set()
    assert [m.method for m in sent if needles.found_in(m.data)] == []


def test_nothing_that_can_be_tried_against_guesses_goes_to_the_key_holder(sent: list[Message]) -> None:
    hashes = [value for number in range(ASKED) for value in _guesses(number)]
    texts = [text for number in range(ASKED) for text in (container(number).encode(), _token(number))]
    needles = Needles(
        [w for value in hashes for w in windows(value)] + [s for value in (*hashes, *texts) for s in spellings(value)]
    )
    planted = hashlib.sha256(_token(3)).digest()
    assert needles.found_in(b"..." + planted[5:20] + b"...") != set()
    assert needles.found_in(container(4).encode()) != set()
    assert [m.method for m in sent if needles.found_in(m.data)] == []


def test_hashing_to_the_group_here_is_what_the_protocol_does() -> None:
    """Otherwise the search above would look for something that nobody computes."""
    element = next(_guesses(5))
    one = (1).to_bytes(32, "little")
    assert bytes(suite.blind([_token(5)], one)) == element


def test_the_same_token_is_blinded_anew_in_every_query(sent: list[Message]) -> None:
    queries = _queries(sent)
    assert len({query.epoch for query in queries}) >= 2
    elements = [
        query.blinded_elements[at : at + 32] for query in queries for at in range(0, len(query.blinded_elements), 32)
    ]
    assert len(elements) >= 2 * ASKED
    assert len(set(elements)) == len(elements)
    for name in ("request_id", "batch_commitment", "source_commitment"):
        assert len({getattr(query, name) for query in queries}) == len(queries)


def test_a_case_carries_only_what_the_owner_made_itself(wired: Wired, sent: list[Message]) -> None:
    """Ticket ids and redeem codes come out of tickets: the owner computes them from its own record without the PRF."""
    node = wired.services["sis"].node
    opened = [disclosure_pb2.OpenCaseRequest.FromString(m.data) for m in sent if m.method == "OpenCase"]
    assert len(opened) == 2
    for case in opened:
        assert set(case.padding) == {0}
        with node.store.read() as tx:
            row = owned.get_epoch(tx, case.agreement, case.epoch)
            assert row is not None
            k_ticket, k_redeem = case_keys(node, row)
            number = tickets.open_ticket_id(k_ticket, case.ticket_id)
            assert number is not None
            found = records.by_id(node.store, tx, number)
        assert found is not None
        (own,) = found[0].identifiers
        token = messages.encode_token(NORMALISATION_VERSION, own.type, own.value)
        assert case.redeem_codes == tickets.make_redeem(k_redeem, case.ticket_id, token)


def test_no_message_has_a_field_that_could_carry_more() -> None:
    """A new field of a request is looked at here before it is sent."""
    requests = {
        matching_pb2.GetManifestRequest: {"agreement", "epoch"},
        matching_pb2.ReadSetRequest: {"manifest_hash", "file", "offset"},
        matching_pb2.GetDeltasRequest: {"agreement", "epoch", "from_seq"},
        matching_pb2.EvaluateRequest: {
            "agreement", "epoch", "token_class", "request_id", "batch_commitment", "source_commitment",
            "actor_commitment", "access_id", "blinded_elements",
        },
        disclosure_pb2.OpenCaseRequest: {
            "agreement", "epoch", "ticket_id", "redeem_codes", "purpose", "legal_basis", "case_reference",
            "justification", "request_id", "actor_commitments", "signature", "padding",
        },
        disclosure_pb2.GetOutcomeRequest: {"agreement", "request_id"},
    }  # fmt: skip
    for message, names in requests.items():
        assert {f.name for f in message.DESCRIPTOR.fields} == names


def test_offsets_of_a_set_say_nothing_about_what_is_looked_up(sent: list[Message]) -> None:
    """A set is read whole, from its beginning, and looked up at home."""
    reads = [matching_pb2.ReadSetRequest.FromString(m.data) for m in sent if m.method == "ReadSet"]
    assert {read.offset for read in reads} == {0}


def test_no_element_is_ever_the_same_again(wired: Wired, sent: list[Message], tmp_path: Path) -> None:
    """Not in another federation either, whose nodes hold the same records."""
    federation = Federation(tmp_path, "other")
    try:
        _ask(federation)
    finally:
        federation.close()
    here, there = (
        {bytes(q.blinded_elements[at : at + 32]) for q in queries for at in range(0, len(q.blinded_elements), 32)}
        for queries in (federation.queries, _queries(sent))
    )
    assert len(here) >= ASKED
    assert not here & there
