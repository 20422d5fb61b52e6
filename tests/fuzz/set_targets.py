"""The decoders of sets and of the PRF: filters, tickets, sealed files, manifests, deltas, elements, scalars, proofs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from connector_psi.domain import identifiers, names
from connector_psi.domain.records import TokenClass
from connector_psi.encoding import bloom, deltas, manifest, sealedfile, tickets
from connector_psi.errors import (
    FormatError,
    InvalidElementError,
    ProofError,
    ProtocolError,
    StorageError,
)
from connector_psi.keyring import FileMaster
from connector_psi.oprf import suite
from connector_psi.oprf.backends import backend_names, default_group, make_group
from connector_psi.oprf.group import BatchGroup
from connector_psi.oprf.suite import BlindedElements, EvaluatedElements
from tests.fuzz.harness import Target, folder, promise
from tests.fuzz.mutation import Shape
from tests.fuzz.scene import AGREEMENT, file, inverse, kept
from tests.simulation.memory_log import SeededRandom

_CAPACITIES = (1, 2, 7, 64, 1024)


def _filter(data: bytes) -> tuple[Path, int]:
    """The first byte chooses what the manifest said."""
    return file("filter", data[1:]), _CAPACITIES[data[0] % len(_CAPACITIES) if data else 0]


def _open_filter(value: tuple[Path, int]) -> tuple[int, int]:
    path, capacity = value
    with bloom.Filter.open(path, capacity) as opened:
        return capacity, int(opened.contains(SeededRandom(9).bytes(16 * 200)).sum())


def _is_no_sieve(value: tuple[int, int]) -> None:
    # Below the smallest class a slice has so few bits that its fill says nothing.
    promise(value[0] < tickets.MIN_SIZE_CLASS or value[1] <= 1, "a filter lets keys through that are not in it")


def _filters() -> Iterator[bytes]:
    for choice, capacity in enumerate(_CAPACITIES):
        path = folder() / "made"
        bloom.write_filter(path, SeededRandom(capacity).bytes(16 * capacity), capacity)
        yield bytes([choice]) + path.read_bytes()


def _ticket(category: int = 3) -> tickets.Ticket:
    ticket = tickets.Ticket(bytes(range(16)), TokenClass.OBJECT, category, 1, b"\x08" * 8)
    # Names too: what a shape and a part may be depends on the family.
    return replace(ticket, token_class=TokenClass.PERSON, family=66, shape=5, part=category) if category else ticket


def _sealed_row(data: bytes) -> bytes:
    """The owner seals what it likes: the first byte chooses whether it is a row at all."""
    if data[:1] != b"\1":
        return data[1:]
    lookup, nonce = b"\x01" * 16, b"\x02" * 12
    return (
        lookup
        + nonce
        + ChaCha20Poly1305(b"\x03" * 32).encrypt(nonce, data[1:], tickets._associated_data(AGREEMENT, 7) + lookup)
    )


def _can_be_sealed(value: tickets.Ticket) -> None:
    promise(len(tickets.encode_ticket(value)) == tickets.PLAINTEXT_BYTES, "a ticket that has no encoding")


def _open_row(row: bytes) -> tickets.Ticket:
    return tickets.open_row(AGREEMENT, 7, row, b"\x03" * 32)


def _ticket_file(data: bytes) -> tuple[Path, int, bool]:
    """The first byte says how many rows the manifest promised, and whether the order was checked before."""
    first = data[0] if data else 0
    return file("tickets", data[1:]), first >> 1, bool(first & 1)


def _search(value: tuple[Path, int, bool]) -> list[tuple[bytes, bytes | None]]:
    path, rows, check_order = value
    with tickets.TicketFile.open(path, rows, check_order=check_order) as opened:
        wanted = [path.read_bytes()[:16].ljust(16, b"\0"), bytes(16), b"\xff" * 16]
        return [(lookup, opened.find(lookup)) for lookup in wanted]


def _is_what_was_sought(value: list[tuple[bytes, bytes | None]]) -> None:
    promise(
        all(row is None or (len(row) == 76 and row[:16] == lookup) for lookup, row in value), "another row is found"
    )


def _ticket_files() -> Iterator[bytes]:
    for rows in (1, 3, 20):
        tickets.write_tickets(folder() / "made", tickets.dummy_rows(rows, SeededRandom(rows)))
        content = (folder() / "made").read_bytes()
        yield bytes([rows << 1 | 1]) + content
        yield bytes([rows << 1]) + content


def _sealed_files() -> Iterator[bytes]:
    for content in (b"", b"plain", bytes(sealedfile.SEALED_CHUNK_BYTES + 9)):
        sealedfile.seal_file(file("plain", content), folder() / "sealed", bytes(32), SeededRandom())
        yield (folder() / "sealed").read_bytes()


def _open_sealed(path: Path) -> bytes:
    with sealedfile.SealedFile(path, bytes(32)) as opened:
        return opened.read(0, 100) + opened.read(max(0, opened.size_bytes - 10), 100)


@cache
def a_manifest() -> manifest.Manifest:
    element = [default_group().base_mul_each(n.to_bytes(32, "little")).hex() for n in (1, 2)]
    return manifest.Manifest(
        agreement=AGREEMENT,
        epoch=7,
        owner="sis",
        querier="ics2",
        normalisation_version=identifiers.NORMALISATION_VERSION,
        policy_hash="ab" * 32,
        class_keys={"object": element[0], "contact": element[1]},
        size_class=1024,
        files=manifest.Files(
            filter=manifest.FileEntry(size_bytes=bloom.filter_size_bytes(1024), root="0c" * 32),
            tickets=manifest.FileEntry(size_bytes=76 * 1024, root="0d" * 32),
        ),
        source_snapshot="2026-11-22T05:00:00Z",
        not_before="2026-11-22T05:10:00Z",
        not_after="2026-11-24T05:00:00Z",
        delta_chain_start="00" * 32,
        synthetic=True,
        families=(1, 2, 12, 66),
        name_rules=names.NAME_RULES_VERSION,
        name_weights=manifest.NameWeights(version="cp-names-1", sha256="0e" * 32),
    )


def _deltas() -> Iterator[bytes]:
    for seq, (rows, removed) in enumerate(((16, 8), (64, 32)), start=1):
        random = SeededRandom(seq)
        yield deltas.encode_delta(
            deltas.Delta(
                agreement=AGREEMENT,
                epoch=7,
                seq=seq,
                prev_hash=random.bytes(32),
                snapshot_ms=1_795_327_260_000,
                rows=deltas.sort_rows(tickets.dummy_rows(rows, random)),
                removed=b"".join(sorted(random.bytes(16) for _ in range(removed))),
            )
        )


def _is_a_link(value: tuple[bytes, deltas.Delta]) -> None:
    inverse(deltas.encode_delta)(value)
    delta = value[1]
    for lookups, ladder in (
        (delta.row_lookups(), deltas.ROW_LADDER),
        (delta.removed_lookups(), deltas.REMOVED_LADDER),
    ):
        promise(len(lookups) in ladder, "a number off its ladder")
        promise(lookups == sorted(set(lookups)), "lookups out of order, or one twice")


def _set_targets() -> Iterator[Target]:
    yield Target("filter", _open_filter, (FormatError,), _filters, Shape.BYTES, prepare=_filter, check=_is_no_sieve)
    yield Target(
        "ticket", kept(tickets.decode_ticket), (ProtocolError,), lambda: (tickets.encode_ticket(_ticket()),), Shape.BYTES,
        check=inverse(tickets.encode_ticket), max_bytes=256,
    )  # fmt: skip
    row = tickets.seal_rows(AGREEMENT, 7, b"\x01" * 16, b"\x03" * 32, [_ticket()], SeededRandom())
    yield Target(
        "ticket-row", _open_row, (ProtocolError,), lambda: (b"\0" + row, b"\1" + tickets.encode_ticket(_ticket(0))), Shape.BYTES,
        prepare=_sealed_row, check=_can_be_sealed, max_bytes=256,
    )  # fmt: skip
    yield Target(
        "ticket-id",
        lambda data: tickets.open_ticket_id(b"\x04" * 32, data),
        (),
        lambda: (tickets.make_ticket_id(b"\x04" * 32, 77),),
        Shape.BYTES,
        prepare=lambda data: data[:16].ljust(16, b"\0"),
        check=lambda value: promise(value is None or 0 <= value < 2**64, "not a record number"),
        max_bytes=16,
    )
    yield Target(
        "ticket-file",
        _search,
        (FormatError,),
        _ticket_files,
        Shape.BYTES,
        prepare=_ticket_file,
        check=_is_what_was_sought,
    )
    yield Target(
        "sealed-file", _open_sealed, (StorageError,), _sealed_files, Shape.BYTES, prepare=lambda data: file("sealed", data),
        max_bytes=600_000,
    )  # fmt: skip
    yield Target(
        "manifest", kept(manifest.parse_manifest), (FormatError,), lambda: (manifest.encode_manifest(a_manifest()),), Shape.JSON,
        check=inverse(manifest.encode_manifest), max_bytes=manifest.MAX_MANIFEST_BYTES + 1,
    )  # fmt: skip
    yield Target(
        "delta", kept(deltas.parse_delta), (FormatError,), _deltas, Shape.BYTES, check=_is_a_link,
        max_bytes=deltas.MAX_DELTA_BYTES + 1,
    )  # fmt: skip
    master = FileMaster(b"\x05" * 32, SeededRandom())
    yield Target(
        "wrapped-key",
        lambda data: master.unwrap(data, b"ad"),
        (StorageError,),
        lambda: (master.wrap(b"secret", b"ad"),),
        Shape.BYTES,
    )


# The PRF


@cache
def prf_keys() -> suite.KeyPair:
    return suite.derive_key_pair(bytes(range(32)), b"fuzz")


def some_elements(count: int) -> bytes:
    return default_group().hash_to_group(SeededRandom(count).bytes(64 * count))


def _check_elements(data: bytes) -> bytes:
    default_group().check_elements(data)
    return data


def _are_canonical(elements: bytes) -> None:
    group = default_group()
    promise(len(elements) % 32 == 0, "a part of an element")
    promise(group.add(elements, bytes(len(elements))) == elements, "an element has two encodings")
    promise(all(any(elements[at : at + 32]) for at in range(0, len(elements), 32)), "the identity")


def _check_scalars(data: bytes) -> bytes:
    default_group().check_scalars(data)
    return data


def _are_scalars(scalars: bytes) -> None:
    group = default_group()
    promise(group.scalar_difference(scalars, bytes(len(scalars))) == scalars, "a scalar has two encodings")


@cache
def prf_groups() -> list[BatchGroup]:
    """Every backend that runs here, on one thread."""
    return [make_group(name, threads=1) for name in backend_names()]


def _on_every_backend(data: bytes) -> list[bytes]:
    """What each backend makes of the same elements and scalars; refused by one means refused by all.

    A half that is no list of whole elements or scalars is cut.
    """
    count = len(data) // 64
    elements, scalars = data[: 32 * count], data[32 * count : 64 * count]
    answers, refusals = [], list[Exception]()
    for group in prf_groups():
        try:
            group.check_elements(elements)
            products = group.scalar_mul_each(scalars, elements)
            total = group.weighted_sum(scalars, elements)
            answers.append(
                group.add(products, elements) + group.sub(products, elements) + total + group.scalar_invert(scalars)
            )
        except (InvalidElementError, FormatError) as error:
            refusals.append(error)
    promise(not refusals or len(refusals) == len(prf_groups()), "one backend refuses what another takes")
    if refusals:
        promise(len({type(error) for error in refusals}) == 1, "backends refuse the same for different reasons")
        raise refusals[0]
    return answers


def _agree(answers: list[bytes]) -> None:
    promise(len(set(answers)) == 1, "backends give different results")


def _multiplications() -> Iterator[bytes]:
    for count in (1, 3, 9):
        yield some_elements(count) + default_group().scalar_reduce(SeededRandom(count).bytes(64 * count))


def _proved(data: bytes) -> tuple[bytes, bytes, bytes]:
    """A batch, its answer and a proof, from an owner."""
    half = max(0, len(data) - 64) // 64 * 32
    return data[:half], data[half:-64], data[-64:]


def _verify_proof(value: tuple[bytes, bytes, bytes]) -> tuple[bytes, bytes]:
    blinded, evaluated, proof = value
    suite.verify_proof(prf_keys().public, BlindedElements(blinded), EvaluatedElements(evaluated), proof)
    return blinded, evaluated


def _was_evaluated(value: tuple[bytes, bytes]) -> None:
    promise(
        suite.blind_evaluate(prf_keys().secret, BlindedElements(value[0])) == value[1], "a wrong evaluation is proved"
    )


def _proofs() -> Iterator[bytes]:
    for count in (1, 3):
        blinded = BlindedElements(some_elements(count))
        evaluated = suite.blind_evaluate(prf_keys().secret, blinded)
        yield blinded + evaluated + suite.prove(prf_keys(), blinded, evaluated, SeededRandom(count).bytes)


def _prf_targets() -> Iterator[Target]:
    yield Target(
        "elements", _check_elements, (InvalidElementError,), lambda: (some_elements(1), some_elements(8)), Shape.BYTES,
        check=_are_canonical, max_bytes=8192,
    )  # fmt: skip
    yield Target(
        "scalars", _check_scalars, (FormatError,), lambda: (bytes(default_group().scalar_reduce(SeededRandom().bytes(512))),),
        Shape.BYTES, check=_are_scalars, max_bytes=8192,
    )  # fmt: skip
    yield Target(
        "evaluation",
        lambda data: suite.blind_evaluate(prf_keys().secret, BlindedElements(data)),
        (InvalidElementError, ProtocolError),
        lambda: (some_elements(1), some_elements(8)),
        Shape.BYTES,
        max_bytes=1024,
    )
    yield Target(
        "backends", _on_every_backend, (InvalidElementError, FormatError), _multiplications, Shape.BYTES,
        check=_agree, max_bytes=640,
    )  # fmt: skip
    yield Target(
        "proof", _verify_proof, (ProofError, InvalidElementError, ProtocolError), _proofs, Shape.BYTES, prepare=_proved,
        check=_was_evaluated, max_bytes=4096,
    )  # fmt: skip


def targets() -> Iterator[Target]:
    """Yield the targets."""
    yield from _set_targets()
    yield from _prf_targets()
