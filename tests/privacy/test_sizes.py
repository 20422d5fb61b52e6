"""Sizes and shapes say nothing: what is sent has a length of a ladder, and a row of a set is like any other row."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from connector_psi import disclosure
from connector_psi.audit.entries import Event
from connector_psi.domain.identifiers import NORMALISATION_VERSION
from connector_psi.domain.records import Field, IdentifierType, TokenClass
from connector_psi.encoding import bloom, tickets
from connector_psi.encoding.sealedfile import SealedFile
from connector_psi.node.ports import CaseRequest
from connector_psi.oprf import suite
from connector_psi.pki import Role
from connector_psi.protocol import messages
from connector_psi.protocol.owner import derive_class_keys
from connector_psi.rpc import convert
from connector_psi.rpc.v1 import disclosure_pb2
from connector_psi.storage import owned
from tests.privacy.staging import AGREEMENT, container, leaves_of, owner_port, signed_case, with_hits
from tests.simulation.federation import Federation, alert, declaration, person

Bytes = npt.NDArray[np.uint8]
RECORDS, SAME = 900, 300
"""Alerts of the set that is looked at; of these, so many name one container."""
CHI_SQUARE_999999 = 380.0
"""A uniform byte's chi-square, 255 degrees of freedom, is above this once in a million draws; the seed is fixed."""


# --- Queries ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, list[tuple[int, int, int]]]]:
    """Number of new records -> of each query for them: elements, bytes of the request, bytes of the answer."""
    federation = Federation(tmp_path_factory.mktemp("asked"), "sizes")
    ics2, sis = federation.services["ics2"], federation.services["sis"]
    sis.registration.register([alert("DE0", (IdentifierType.CONTAINER, container(0)))], "test")
    federation.settle()
    found: dict[int, list[tuple[int, int, int]]] = {}
    at = 0
    for count in (1, 7, 8, 9, 33, 100, 1100):
        records = [declaration(f"M{n}", (IdentifierType.CONTAINER, container(n))) for n in range(at, at + count)]
        for start in range(0, count, 500):
            ics2.registration.register(records[start : start + 500], "test")
        at += count
        federation.queries.clear()
        ics2.tick_query()
        found[count] = [
            (q.n_padded, convert.evaluate_request(q).ByteSize(), sum(map(len, sis.evaluation.evaluate(q))))
            for q in federation.queries
        ]
    yield found
    federation.close()


def test_queries_have_sizes_of_the_ladder_only(asked: dict[int, list[tuple[int, int, int]]]) -> None:
    elements = {count: sorted((n for n, _, _ in queries), reverse=True) for count, queries in asked.items()}
    assert elements == {1: [8], 7: [8], 8: [8], 9: [16], 33: [64], 100: [256], 1100: [1024, 256]}
    assert {n for sizes in elements.values() for n in sizes} <= set(messages.BATCH_SIZES)


def test_requests_and_answers_of_a_step_are_equally_long(asked: dict[int, list[tuple[int, int, int]]]) -> None:
    lengths = defaultdict(set)
    for queries in asked.values():
        for n, request, answer in queries:
            lengths[n].add((request, answer))
            assert answer == 32 * n + 64
    assert {n: len(found) for n, found in lengths.items()} == dict.fromkeys(lengths, 1)


# --- Cases ------------------------------------------------------------------------------------------------------------


def _case(justification: str, codes: int = 1, reference: str = "C") -> CaseRequest:
    return CaseRequest(
        AGREEMENT, 3, bytes(16), bytes(8 * codes), "p", "b", reference, justification, bytes(16), bytes(32), bytes(64)
    )


def test_a_case_has_a_length_of_the_ladder_whatever_is_written_in_it() -> None:
    """Every length of justification, so also those at which the length of a length changes."""
    lengths = Counter(convert.open_case_request(_case("x" * n)).ByteSize() for n in range(4001))
    assert lengths.keys() == {4096, 16384}
    assert lengths[4096] > 3700
    for case in (_case("x", codes=60), _case("x", reference="r" * 200), _case("\u0436" * 900)):
        assert len(convert.open_case_request(case).SerializeToString()) == 4096
    assert len(convert.open_case_request(_case("\U0001f6a2" * 4000, codes=4096)).SerializeToString()) == 65536


def test_padding_is_passed_over_and_changes_nothing() -> None:
    request = _case("why")
    message = convert.open_case_request(request)
    assert set(message.padding) == {0}
    assert convert.parse_case_request(message) == request
    message.ClearField("padding")
    assert convert.parse_case_request(message) == request


def test_outcomes_have_sizes_of_the_ladder_and_nothing_is_cut_off(tmp_path: Path) -> None:
    """Disclosures of four sizes, and one that is too large for any: that one is none."""
    federation, matches = with_hits(tmp_path, 5)
    try:
        sis = federation.services["sis"]
        sizes = (20, 5_000, 20_000, 100_000, 300_000)
        grown = []
        for n, size in enumerate(sizes):
            record = alert(f"DE{n}", (IdentifierType.CONTAINER, container(n)))
            grown.append(type(record)(**{
                name: getattr(record, name) for name in record.__dataclass_fields__ if name != "fields"
            }, fields={**record.fields, Field.SIRENE_CONTACT: ("x" * size,)}))  # fmt: skip
        sis.registration.register(grown, "test")
        port, caller = owner_port(federation)
        requests = [signed_case(federation, matches[f"M{n}"]) for n in range(len(sizes))]
        for request in requests:
            port.OpenCase(convert.open_case_request(request), caller)
        sis.tick_cases()
        for request in requests:
            sis.received.decide(request.request_id, person("sis", Role.SUPERVISOR), "yes", approve=True)
        federation.clock.advance(disclosure.CASE_TIME_S)
        sis.tick_cases()
        sis.tick_log()
        envelopes = [
            port.GetOutcome(
                disclosure_pb2.GetOutcomeRequest(agreement=AGREEMENT, request_id=r.request_id), caller
            ).envelope
            for r in requests
        ]
        assert [len(e) for e in envelopes] == [4_096, 16_384, 65_536, 262_144, 4_096]
        outcomes = [disclosure.parse_envelope(e).outcome.value for e in envelopes]
        assert outcomes == ["DISCLOSED"] * 4 + ["NOT_DISCLOSED"]
    finally:
        federation.close()


# --- Sets -------------------------------------------------------------------------------------------------------------


def test_the_number_of_rows_is_a_size_class_with_a_dummy_in_sixty_four() -> None:
    rng = random.Random("rows")
    counts = [*range(5000), *(int(10 ** rng.uniform(3, 8.5)) for _ in range(5000))]
    classes = {m * 2**k // 4 for k in range(10, 31) for m in (4, 5, 6, 7)}
    for count in counts:
        rows = tickets.padded_size(count)
        assert rows in classes
        assert 64 * (rows - count) >= rows
        # And no larger than that takes.
        smaller = max((c for c in classes if c < rows), default=0)
        assert rows == 1024 or 64 * (smaller - count) < smaller


class Published:
    """A set as its owner made it, with what only the owner knows: which rows are real."""

    def __init__(self, root: Path, records: int, seed: str) -> None:
        self.federation = Federation(root, seed)
        sis = self.federation.services["sis"]
        numbers = [0] * min(records, SAME) + list(range(1, records - SAME + 1))
        alerts = [alert(f"DE{n}", (IdentifierType.CONTAINER, container(c))) for n, c in enumerate(numbers)]
        for start in range(0, records, 500):
            sis.registration.register(alerts[start : start + 500], "test")
        self.tokens = [
            messages.encode_token(NORMALISATION_VERSION, IdentifierType.CONTAINER, container(c))
            for c in sorted(set(numbers))
        ]
        self.repeats = [SAME if token == self.tokens[0] and records > SAME else 1 for token in self.tokens]
        sis.publish()

    def files(self) -> tuple[owned.EpochRow, bytes, bytes]:
        """The newest epoch, its ticket file and its filter, opened as the owner opens them."""
        node = self.federation.services["sis"].node
        with node.store.read() as tx:
            row = owned.newest_published(tx, AGREEMENT)
        assert row is not None
        key = node.keyring.epoch_file_key(AGREEMENT, row.epoch)
        found = []
        for name in ("tickets.sealed", "filter.sealed"):
            with SealedFile(node.layout.owned_set(AGREEMENT, row.epoch) / name, key) as sealed:
                found.append(sealed.read(0, sealed.size_bytes))
        return row, found[0], found[1]

    def lookups(self, row: owned.EpochRow) -> dict[bytes, bytes]:
        """Lookup -> ticket key of every real row."""
        node = self.federation.services["sis"].node
        assert row.wrapped_seed is not None
        seed = node.keyring.epoch_seed(AGREEMENT, row.epoch, row.wrapped_seed)
        secret = derive_class_keys(seed, AGREEMENT, row.epoch, [TokenClass.OBJECT])[TokenClass.OBJECT].secret
        outputs = suite.evaluate(secret, self.tokens)
        return dict(
            messages.derive_lookup(bytes(outputs[64 * n : 64 * n + 64]), j)
            for n, count in enumerate(self.repeats)
            for j in range(count)
        )


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    made = Published(tmp_path_factory.mktemp("set"), RECORDS, "set")
    yield made
    made.federation.close()


def _table(packed: bytes) -> Bytes:
    return np.frombuffer(packed, dtype=np.uint8).reshape(-1, tickets.ROW_BYTES)


def _chi_square(octets: Bytes) -> float:
    counts = np.bincount(octets.ravel(), minlength=256)
    expected = octets.size / 256
    return float(((counts - expected) ** 2).sum() / expected)


def test_no_lookup_repeats_though_one_container_is_in_three_hundred_alerts(published: Published) -> None:
    row, packed, _ = published.files()
    lookups = [packed[at : at + 16] for at in range(0, len(packed), tickets.ROW_BYTES)]
    real = published.lookups(row)
    assert len(lookups) == len(set(lookups)) == 1024
    assert lookups == sorted(lookups)
    assert len(real) == RECORDS == len(real.keys() & set(lookups))
    nonces = {packed[at + 16 : at + 28] for at in range(0, len(packed), tickets.ROW_BYTES)}
    assert len(nonces) == 1024


def test_rows_that_are_dummies_look_like_those_that_are_not(published: Published) -> None:
    row, packed, _ = published.files()
    table, real = _table(packed), published.lookups(row)
    is_real = np.array([bytes(line[:16]) in real for line in table])
    assert is_real.sum() == RECORDS
    for rows in (table[is_real], table[~is_real]):
        assert _chi_square(rows) < CHI_SQUARE_999999
        # Each part of a row by itself; the lookups of a sorted file too.
        for start, end in ((0, 16), (16, 28), (28, 60), (60, 76)):
            assert _chi_square(rows[:, start:end]) < CHI_SQUARE_999999
    # The order of the file does not tell them apart: dummies stand anywhere between the others.
    places = np.flatnonzero(~is_real) / len(table)
    even = (np.arange(len(places)) + 0.5) / len(places)
    assert float(np.abs(np.sort(places) - even).max()) < 2.5 / np.sqrt(len(places))
    # A chi-square of something that is not random, as a control.
    assert _chi_square(np.frombuffer(json.dumps({"a": "b" * 5000}).encode(), dtype=np.uint8)) > CHI_SQUARE_999999


def test_real_rows_differ_only_for_whoever_has_the_key(published: Published) -> None:
    """Three hundred rows of one container, and what they open to, share nothing that can be seen."""
    row, packed, _ = published.files()
    real = published.lookups(row)
    opened = []
    for at in range(0, len(packed), tickets.ROW_BYTES):
        line = packed[at : at + tickets.ROW_BYTES]
        if line[:16] in real:
            opened.append(tickets.open_row(AGREEMENT, row.epoch, line, real[line[:16]]))
    assert len({ticket.ticket_id for ticket in opened}) == len({ticket.redeem for ticket in opened}) == RECORDS
    assert len({(ticket.token_class, ticket.family) for ticket in opened}) == 1


def test_no_lookup_ticket_or_nonce_comes_again_in_the_next_epoch(published: Published) -> None:
    first, packed, _ = published.files()
    published.federation.services["sis"].publish()
    second, again, _ = published.files()
    assert second.epoch == first.epoch + 1
    for start, end in ((0, 16), (16, 28), (28, 76)):
        before, after = ({bytes(line[start:end]) for line in _table(p)} for p in (packed, again))
        assert not before & after


def test_a_manifest_and_its_files_show_the_size_class_and_nothing_else(published: Published, tmp_path: Path) -> None:
    """Three records and nine hundred give the same manifest, but for keys, hashes and times."""
    small = Published(tmp_path, 3, "three")
    try:
        random_parts = {
            "class_keys",
            "files",
            "delta_chain_start",
            "source_snapshot",
            "not_before",
            "not_after",
            "epoch",
        }
        seen = []
        for made in (small, published):
            row, packed, filter_ = made.files()
            assert row.manifest is not None
            manifest = json.loads(row.manifest)
            sizes = {name: entry["size_bytes"] for name, entry in manifest["files"].items()}
            assert sizes == {"tickets": len(packed), "filter": len(filter_)}
            assert len(filter_) == bloom.filter_size_bytes(1024)
            shape = {key: len(str(value)) for key, value in manifest.items() if key in random_parts}
            seen.append(({k: v for k, v in manifest.items() if k not in random_parts}, sizes, shape))
            # The filter holds as many keys whatever the set holds: dummies count like the others.
            ones = float(np.unpackbits(np.frombuffer(filter_, dtype=np.uint8)).mean())
            assert abs(ones - 0.5) < 0.01
            leaves = [leaf for leaf in leaves_of(made.federation, "sis") if leaf[1].event is Event.SET_PUBLISH]
            assert {key for key, value in json.loads(leaves[0][0]).items() if value is not None} == {
                "v", "event", "ts", "side", "agreement", "epoch", "mode", "policy_hash", "manifest_hash",
                "retention_class", "erase_after", "body_commit",
            }  # fmt: skip
        assert seen[0] == seen[1]
        assert seen[0][0]["size_class"] == 1024
    finally:
        small.federation.close()


def test_what_is_read_of_a_set_is_its_padded_files_in_bounded_pieces(published: Published) -> None:
    service = published.federation.services["sis"]
    row, packed, filter_ = published.files()
    assert row.manifest_hash is not None
    for name, whole in (("tickets", packed), ("filter", filter_)):
        pieces = list(service.publishing.read_set("ics2", row.manifest_hash, name, 0))
        assert b"".join(pieces) == whole
        assert max(map(len, pieces)) <= 512 * 1024
