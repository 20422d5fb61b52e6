"""Random and mutated bytes into every decoder of ``encoding``, and the round trips."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from connector_psi.domain.records import TokenClass
from connector_psi.encoding import sealedfile
from connector_psi.encoding.bloom import Filter, filter_size_bytes, write_filter
from connector_psi.encoding.manifest import (
    FileEntry,
    Files,
    Manifest,
    NameWeights,
    decode_time,
    encode_manifest,
    encode_time,
    parse_manifest,
)
from connector_psi.encoding.sealedfile import SealedFile, seal_file
from connector_psi.encoding.tickets import (
    FIRST_NAME_FAMILY,
    Ticket,
    TicketFile,
    decode_ticket,
    encode_ticket,
    make_ticket_id,
    open_row,
    open_ticket_id,
    padded_size,
    seal_rows,
    size_class,
    write_tickets,
)
from connector_psi.errors import FormatError, ProtocolError, StorageError

few = settings(
    derandomize=True,
    database=None,
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

KEY = bytes(range(32))
keys = st.binary(min_size=32, max_size=32)
texts = st.text(alphabet=st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=40)
uint53 = st.integers(0, 2**53 - 1)
hex32 = keys.map(bytes.hex)
bytes_of = st.integers(0, 255)


class Seeded:
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def bytes(self, n: int) -> bytes:
        return self._random.randbytes(n)


@st.composite
def mutations(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Overwrite, cut out or insert a few bytes somewhere."""
    where, kind, patch = draw(st.floats(0, 1)), draw(st.sampled_from("oci")), draw(st.binary(min_size=1, max_size=9))

    def mutate(content: bytes) -> bytes:
        at = round(where * len(content))
        skip = {"o": len(patch), "c": len(patch), "i": 0}[kind]
        return content[:at] + (b"" if kind == "c" else patch) + content[at + skip :]

    return mutate


# --- round trips

_told = {
    "ticket_id": st.binary(min_size=16, max_size=16),
    "token_class": st.sampled_from(sorted(TokenClass)),
    "category": bytes_of,
    "redeem": st.binary(min_size=8, max_size=8),
}
tickets = st.builds(Ticket, family=st.integers(0, FIRST_NAME_FAMILY - 1), **_told) | st.builds(
    Ticket,
    family=st.integers(FIRST_NAME_FAMILY, 255),
    shape=st.sampled_from([0, 1, 2, 4, 5, 6]),
    part=st.integers(1, 255),
    **_told,
)


@few
@given(tickets)
def test_tickets_round_trip(ticket: Ticket) -> None:
    assert decode_ticket(encode_ticket(ticket)) == ticket


@few
@given(texts, st.integers(0, 2**64 - 1), keys, st.binary(min_size=16, max_size=16), tickets)
def test_rows_round_trip(agreement: str, epoch: int, key: bytes, lookup: bytes, ticket: Ticket) -> None:
    row = seal_rows(agreement, epoch, lookup, key, [ticket], Seeded(1))
    assert open_row(agreement, epoch, row, key) == ticket


@few
@given(keys, st.integers(0, 2**64 - 1))
def test_ticket_ids_round_trip(key: bytes, record: int) -> None:
    assert open_ticket_id(key, make_ticket_id(key, record)) == record


@few
@given(st.integers(0, 2**40))
@example(80_000_000)
def test_sizes_are_on_the_ladder_and_less_than_a_quarter_above(n: int) -> None:
    size = size_class(n)
    assert size >= max(n, 1024)
    assert size == 1024 or 4 * size < 5 * n + 4
    assert size_class(size) == size
    assert 64 * (padded_size(n) - n) >= padded_size(n)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    rows = size_class(draw(st.integers(0, 2**31)))
    first, second, third = draw(
        st.lists(st.datetimes(), min_size=3, max_size=3, unique_by=lambda t: t.replace(microsecond=0)).map(sorted)
    )
    owner, querier = draw(st.lists(texts, min_size=2, max_size=2, unique=True))
    labels = draw(st.lists(st.sampled_from(["object", "contact", "organisation", "person"]), min_size=1, unique=True))
    roots = draw(st.lists(hex32, min_size=2, max_size=2))
    class_keys = draw(st.lists(hex32, min_size=len(labels), max_size=len(labels), unique=True))
    return Manifest(
        agreement=draw(texts),
        epoch=draw(uint53),
        owner=owner,
        querier=querier,
        normalisation_version=draw(texts),
        policy_hash=draw(hex32),
        class_keys=dict(zip(labels, class_keys, strict=True)),  # type: ignore[arg-type]
        size_class=rows,
        files=Files(
            filter=FileEntry(size_bytes=filter_size_bytes(rows), root=roots[0]),
            tickets=FileEntry(size_bytes=76 * rows, root=roots[1]),
        ),
        source_snapshot=f"{first.isoformat(timespec='seconds')}Z",
        not_before=f"{second.isoformat(timespec='seconds')}Z",
        not_after=f"{third.isoformat(timespec='seconds')}Z",
        delta_chain_start=draw(hex32),
        synthetic=draw(st.booleans()),
        families=(families := tuple(sorted(draw(st.sets(bytes_of))))),
        name_rules=draw(texts) if families and families[-1] >= FIRST_NAME_FAMILY else None,
        name_weights=NameWeights(version=draw(texts), sha256=draw(hex32))
        if families and families[-1] >= FIRST_NAME_FAMILY
        else None,
    )


@few
@given(manifests())
def test_manifests_round_trip(manifest: Manifest) -> None:
    assert parse_manifest(encode_manifest(manifest)) == manifest
    assert encode_time(decode_time(manifest.not_after)) == manifest.not_after


@few
@given(st.binary(max_size=200), st.integers(0, 210), st.integers(0, 210))
def test_sealed_files_round_trip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, offset: int, length: int
) -> None:
    monkeypatch.setattr(sealedfile, "SEALED_CHUNK_BYTES", 32)
    (tmp_path / "plain").write_bytes(content)
    seal_file(tmp_path / "plain", tmp_path / "sealed", KEY, Seeded(1))
    with SealedFile(tmp_path / "sealed", KEY) as file:
        assert file.read(offset, length) == content[offset : offset + length]


# --- one failure type for each decoder


@few
@given(st.binary(max_size=300))
def test_random_bytes_are_no_manifest(raw: bytes) -> None:
    with pytest.raises(FormatError):
        parse_manifest(raw)


@few
@given(manifests(), mutations())
def test_what_parses_is_canonical(manifest: Manifest, mutate: Callable[[bytes], bytes]) -> None:
    raw = mutate(encode_manifest(manifest))
    try:
        parsed = parse_manifest(raw)
    except FormatError:
        return
    assert encode_manifest(parsed) == raw


@few
@given(st.one_of(st.binary(max_size=100), st.binary(min_size=32, max_size=32)))
def test_a_plaintext_is_a_ticket_or_a_violation(plaintext: bytes) -> None:
    try:
        ticket = decode_ticket(plaintext)
    except ProtocolError:
        return
    assert encode_ticket(ticket) == plaintext


@few
@given(st.one_of(st.binary(max_size=100), st.binary(min_size=76, max_size=76)), keys)
def test_random_bytes_are_no_row(row: bytes, key: bytes) -> None:
    with pytest.raises(ProtocolError):
        open_row("agreement", 1, row, key)


@few
@given(st.binary(min_size=16, max_size=16), keys)
def test_random_bytes_are_no_ticket_id_of_ours(ticket_id: bytes, key: bytes) -> None:
    assert open_ticket_id(key, ticket_id) is None


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    directory = tmp_path_factory.mktemp("encoding")
    rows = Seeded(1).bytes(76 * 1024)
    lookups = b"".join(rows[at : at + 16] for at in range(0, len(rows), 76))
    write_filter(directory / "filter", lookups, 1024)
    write_tickets(directory / "tickets", rows)
    return (directory / "filter").read_bytes(), (directory / "tickets").read_bytes()


@few
@given(st.binary(max_size=200), st.one_of(st.just(1), st.integers(-1, 2**64)))
def test_random_bytes_are_no_filter(tmp_path: Path, content: bytes, expected: int) -> None:
    (tmp_path / "filter").write_bytes(content)
    with pytest.raises(FormatError):
        Filter.open(tmp_path / "filter", expected)


@few
@given(mutations())
def test_a_mutated_filter_answers_or_is_refused(
    tmp_path: Path, honest: tuple[bytes, bytes], mutate: Callable[[bytes], bytes]
) -> None:
    (tmp_path / "filter").write_bytes(mutate(honest[0]))
    try:
        opened = Filter.open(tmp_path / "filter", 1024)
    except FormatError:
        return
    with opened:
        # What the mutated bits add is bounded by the fill check: still next to nothing is a member.
        assert opened.contains(Seeded(2).bytes(16 * 500)).sum() <= 1


@few
@given(st.integers(-1, 5), st.data())
def test_a_ticket_file_is_sorted_or_refused(tmp_path: Path, expected: int, data: st.DataObject) -> None:
    heads = data.draw(st.lists(st.binary(min_size=1, max_size=2), max_size=5))
    content = b"".join(head.ljust(76, b"\0") for head in heads) + data.draw(st.binary(max_size=2))
    (tmp_path / "tickets").write_bytes(content)
    lookups = [head.ljust(16, b"\0") for head in heads]
    try:
        file = TicketFile.open(tmp_path / "tickets", expected)
    except FormatError:
        assert len(content) != 76 * expected or not lookups or lookups != sorted(set(lookups))
        return
    with file:
        assert [row and row[:16] for row in map(file.find, lookups)] == lookups


@few
@given(mutations(), st.integers(0, 1023))
def test_a_mutated_ticket_file_is_searched_or_refused(
    tmp_path: Path, honest: tuple[bytes, bytes], mutate: Callable[[bytes], bytes], row: int
) -> None:
    (tmp_path / "tickets").write_bytes(mutate(honest[1]))
    lookup = honest[1][76 * row : 76 * row + 16]
    for check_order in (True, False):
        try:
            file = TicketFile.open(tmp_path / "tickets", 1024, check_order=check_order)
        except FormatError:
            continue
        with file:
            found = file.find(lookup)
            assert found is None or found[:16] == lookup


@few
@given(st.binary(max_size=100))
def test_random_bytes_are_no_sealed_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "sealed").write_bytes(content)
    with pytest.raises(StorageError):
        SealedFile(tmp_path / "sealed", KEY)


@few
@given(st.lists(st.binary(min_size=16, max_size=16), min_size=1, max_size=50, unique=True), st.randoms())
def test_files_do_not_depend_on_the_order_of_rows(tmp_path: Path, lookups: list[bytes], shuffle: random.Random) -> None:
    contents = []
    for _ in range(2):
        shuffle.shuffle(lookups)
        rows = np.frombuffer(b"".join(lookup + lookup * 3 + lookup[:12] for lookup in lookups), np.uint8)
        write_tickets(tmp_path / "tickets", rows.reshape(-1, 76))
        write_filter(tmp_path / "filter", b"".join(lookups), len(lookups))
        contents.append(((tmp_path / "tickets").read_bytes(), (tmp_path / "filter").read_bytes()))
    assert contents[0] == contents[1]
