from __future__ import annotations

import hmac
import random
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from connector_psi.domain.records import TokenClass
from connector_psi.encoding import tickets
from connector_psi.encoding.tickets import (
    ROW_BYTES,
    Ticket,
    TicketFile,
    decode_ticket,
    dummy_rows,
    encode_ticket,
    make_redeem,
    make_redeems,
    make_ticket_id,
    make_ticket_ids,
    open_row,
    open_ticket_id,
    pack_tickets,
    padded_size,
    seal_rows,
    size_class,
    write_tickets,
)
from connector_psi.errors import ConflictError, FormatError, ProtocolError, UnavailableError

AGREEMENT = "SIS-OBJ:ics2-sis"
EPOCH = 7
TICKET = Ticket(bytes(range(16)), TokenClass.CONTACT, category=9, family=12, redeem=b"redeem!!")
NAMED = replace(TICKET, family=72, shape=5, part=3)


class Seeded:
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def bytes(self, n: int) -> bytes:
        return self._random.randbytes(n)


def pieces(packed: bytes, width: int) -> list[bytes]:
    return [packed[at : at + width] for at in range(0, len(packed), width)]


def sealed(n: int, seed: int = 1) -> tuple[bytes, bytes, list[Ticket], bytes]:
    source = Seeded(seed)
    lookups, keys = source.bytes(16 * n), source.bytes(32 * n)
    some = [
        replace(TICKET, ticket_id=source.bytes(16), family=i % 64)
        if i % 2
        else replace(
            TICKET, ticket_id=source.bytes(16), family=64 + i % 192, shape=(0, 1, 2, 4, 5, 6)[i % 6], part=255 - i % 200
        )
        for i in range(n)
    ]
    return lookups, keys, some, seal_rows(AGREEMENT, EPOCH, lookups, keys, some, source)


def with_lookups(lookups: list[bytes]) -> bytes:
    return b"".join(lookup + bytes([i % 256]) * 60 for i, lookup in enumerate(lookups))


# --- sizes


def test_the_ladder_is_powers_of_two_in_quarter_steps() -> None:
    ladder = sorted({2**k * quarters // 4 for k in range(10, 20) for quarters in (4, 5, 6, 7)})
    assert ladder[:5] == [1024, 1280, 1536, 1792, 2048]
    for n in (*range(5000), *(step + d for step in ladder[:-1] for d in (-1, 0, 1))):
        assert size_class(n) == next(step for step in ladder if step >= n)


def test_every_set_has_a_dummy_in_64_rows_and_no_smaller_class_would() -> None:
    for n in range(20_000):
        size = padded_size(n)
        assert size_class(size) == size
        assert 64 * (size - n) >= size
        smaller = [step for step in (size * 4 // 5, size * 5 // 6, size * 6 // 7, size * 7 // 8) if step >= 1024]
        assert all(64 * (step - n) < step for step in smaller if size_class(step) == step)


@pytest.mark.parametrize(
    ("tokens", "rows"), [(0, 1024), (1008, 1024), (1009, 1280), (10**6, 2**20), (80 * 10**6, 83_886_080)]
)
def test_some_padded_sizes(tokens: int, rows: int) -> None:
    assert padded_size(tokens) == rows


# --- the bytes of a row


def test_a_row_has_the_documented_layout() -> None:
    lookup, key = bytes(range(100, 116)), bytes(range(32))
    row = seal_rows(AGREEMENT, EPOCH, lookup, key, [TICKET], Seeded(4))
    assert len(row) == ROW_BYTES
    assert row[:16] == lookup
    assert row[16:28] == Seeded(4).bytes(12)
    associated = b"connector-psi/v1 ticket" + b"\x00\x10" + AGREEMENT.encode() + struct.pack(">Q", EPOCH) + lookup
    plaintext = ChaCha20Poly1305(key).decrypt(row[16:28], row[28:], associated)
    assert plaintext == bytes(range(16)) + b"\x02\x09\x0c" + bytes(5) + b"redeem!!"


def test_what_is_sealed_opens() -> None:
    lookups, keys, some, rows = sealed(50)
    for row, lookup, key, ticket in zip(pieces(rows, 76), pieces(lookups, 16), pieces(keys, 32), some, strict=True):
        assert row[:16] == lookup
        assert open_row(AGREEMENT, EPOCH, row, key) == ticket


def test_columns_and_tickets_give_the_same_rows() -> None:
    lookups, keys, some, rows = sealed(20)
    columns = pack_tickets(
        b"".join(t.ticket_id for t in some),
        bytes(t.token_class for t in some),
        bytes(t.category for t in some),
        bytes(t.family for t in some),
        bytes(t.shape for t in some),
        bytes(t.part for t in some),
        b"".join(t.redeem for t in some),
    )
    assert columns == b"".join(map(encode_ticket, some))
    source = Seeded(1)
    source.bytes(16 * 20)
    source.bytes(32 * 20)
    for _ in some:
        source.bytes(16)
    assert seal_rows(AGREEMENT, EPOCH, lookups, keys, columns, source) == rows


def test_zero_bytes_at_the_end_of_a_field_survive() -> None:
    lookup, key = bytes(15) + b"\0", b"\1" + bytes(31)
    ticket = Ticket(b"\1" + bytes(15), TokenClass.OBJECT, 0, 0, b"\1" + bytes(7))
    row = seal_rows(AGREEMENT, EPOCH, lookup * 2, key * 2, [ticket] * 2, Seeded(2))[76:]
    assert open_row(AGREEMENT, EPOCH, row, key) == ticket


def test_every_flipped_bit_of_a_row_closes_it() -> None:
    _, keys, _, rows = sealed(1)
    open_row(AGREEMENT, EPOCH, rows, keys)
    for bit in range(8 * ROW_BYTES):
        row = bytearray(rows)
        row[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ProtocolError, match="does not open"):
            open_row(AGREEMENT, EPOCH, bytes(row), keys)


@pytest.mark.parametrize(
    ("agreement", "epoch", "key"),
    [("SIS-OBJ:ics2-sit", EPOCH, None), (AGREEMENT, EPOCH + 1, None), (AGREEMENT, EPOCH, bytes(32)), ("", 0, None)],
)
def test_a_row_opens_in_its_own_place_only(agreement: str, epoch: int, key: bytes | None) -> None:
    _, keys, _, rows = sealed(1)
    with pytest.raises(ProtocolError, match="does not open"):
        open_row(agreement, epoch, rows, key or keys)


@pytest.mark.parametrize("length", [0, 15, 16, 28, 75, 77])
def test_a_row_has_76_bytes(length: int) -> None:
    _, keys, _, rows = sealed(2)
    with pytest.raises(ProtocolError, match="length"):
        open_row(AGREEMENT, EPOCH, rows[:length], keys[:32])


def resealed(plaintext: bytes) -> tuple[bytes, bytes]:
    lookup, key = bytes(16), bytes(range(32))
    return seal_rows(AGREEMENT, EPOCH, lookup, key, plaintext, Seeded(3)), key


@pytest.mark.parametrize("at", range(21, 24))
@pytest.mark.parametrize("bit", [1, 0x80])
def test_reserved_bytes_that_are_not_zero_are_a_violation(at: int, bit: int) -> None:
    plaintext = bytearray(encode_ticket(TICKET))
    plaintext[at] ^= bit
    row, key = resealed(bytes(plaintext))
    with pytest.raises(ProtocolError, match="reserved"):
        open_row(AGREEMENT, EPOCH, row, key)


@pytest.mark.parametrize(
    ("family", "shape", "part"), [(12, 1, 0), (12, 0, 1), (63, 4, 1), (64, 0, 0), (64, 3, 1), (64, 7, 1), (255, 8, 255)]
)
def test_a_shape_or_part_that_says_nothing_is_a_violation(family: int, shape: int, part: int) -> None:
    plaintext = bytearray(encode_ticket(TICKET))
    plaintext[18:21] = bytes([family, shape, part])
    row, key = resealed(bytes(plaintext))
    with pytest.raises(ProtocolError, match="shape or part"):
        open_row(AGREEMENT, EPOCH, row, key)


@pytest.mark.parametrize("token_class", [0, 5, 255])
def test_an_unknown_class_is_a_violation(token_class: int) -> None:
    plaintext = bytearray(encode_ticket(TICKET))
    plaintext[16] = token_class
    row, key = resealed(bytes(plaintext))
    with pytest.raises(ProtocolError, match="class"):
        open_row(AGREEMENT, EPOCH, row, key)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_plaintext_has_32_bytes(length: int) -> None:
    with pytest.raises(ProtocolError, match="length"):
        decode_ticket(bytes(length))


@pytest.mark.parametrize(
    "bad",
    [
        replace(TICKET, ticket_id=bytes(15)),
        replace(TICKET, redeem=bytes(9)),
        replace(TICKET, token_class=0),
        replace(TICKET, token_class=5),
        replace(TICKET, category=256),
        replace(TICKET, category=-1),
        replace(TICKET, family=256),
        *(replace(NAMED, **field) for field in ({"shape": 3}, {"shape": 8}, {"part": 0}, {"part": 256}, {"part": -1})),
        replace(TICKET, shape=1),
        replace(TICKET, part=1),
    ],
)
def test_a_ticket_out_of_range_is_not_sealed(bad: Ticket) -> None:
    with pytest.raises(ValueError, match="ticket"):
        seal_rows(AGREEMENT, EPOCH, bytes(16), bytes(32), [bad], Seeded(1))


@pytest.mark.parametrize(("lookups", "keys"), [(16, 32), (32, 32), (16, 64), (48, 96), (33, 64)])
def test_a_batch_has_equal_columns(lookups: int, keys: int) -> None:
    with pytest.raises(ValueError, match="equally long"):
        seal_rows(AGREEMENT, EPOCH, bytes(lookups), bytes(keys), [TICKET, TICKET], Seeded(1))


def test_an_empty_batch_is_empty() -> None:
    assert seal_rows(AGREEMENT, EPOCH, b"", b"", [], Seeded(1)) == b""
    assert dummy_rows(0, Seeded(1)) == b""


def test_a_ticket_hides_what_it_redeems() -> None:
    assert repr(TICKET) == "Ticket(token_class=<TokenClass.CONTACT: 2>, category=9, family=12, shape=0, part=0)"


# --- the file


def test_a_file_is_sorted_and_found_in(tmp_path: Path) -> None:
    lookups, keys, some, rows = sealed(300)
    write_tickets(tmp_path / "tickets", rows + dummy_rows(724, Seeded(2)))
    written = pieces((tmp_path / "tickets").read_bytes(), 76)
    assert written == sorted(written)
    absent = Seeded(3).bytes(16 * 300)
    with TicketFile.open(tmp_path / "tickets", 1024) as file:
        assert len(file) == 1024
        assert [file.find(each) for each in pieces(lookups, 16)] == pieces(rows, 76)
        assert [file.find(each) for each in pieces(absent, 16)] == [None] * 300
        assert [
            open_row(AGREEMENT, EPOCH, file.find(k) or b"", s)
            for k, s in zip(pieces(lookups, 16), pieces(keys, 32), strict=True)
        ] == some
        with pytest.raises(ValueError, match="16 bytes"):
            file.find(absent[:17])
    with pytest.raises(ValueError, match="closed"):
        file.find(lookups[:16])


# Orders that byte strings with stripped zeros, signed numbers or little-endian halves get wrong.
AWKWARD = [
    bytes(16),
    bytes(15) + b"\1",
    bytes(14) + b"\1\0",
    bytes(7) + b"\1" + bytes(8),
    bytes(7) + b"\1" + bytes(7) + b"\1",
    bytes(7) + b"\1" + b"\xff" + bytes(7),
    b"\1" + bytes(15),
    b"\x7f" + b"\xff" * 15,
    b"\x80" + bytes(15),
    b"\xff" * 15 + b"\0",
    b"\xff" * 16,
]


def test_lookups_order_as_bytes_do(tmp_path: Path) -> None:
    assert sorted(AWKWARD) == AWKWARD
    shuffled = random.Random(5).sample(AWKWARD, len(AWKWARD))
    write_tickets(tmp_path / "tickets", with_lookups(shuffled))
    with TicketFile.open(tmp_path / "tickets", len(AWKWARD)) as file:
        assert [row[:16] for row in pieces((tmp_path / "tickets").read_bytes(), 76)] == AWKWARD
        for i, lookup in enumerate(shuffled):
            assert file.find(lookup) == lookup + bytes([i]) * 60


def test_two_rows_with_one_lookup_are_not_written(tmp_path: Path) -> None:
    rows = with_lookups([*AWKWARD, AWKWARD[3]])
    with pytest.raises(ConflictError):
        write_tickets(tmp_path / "tickets", rows)
    assert list(tmp_path.iterdir()) == []


def test_half_a_row_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="76"):
        write_tickets(tmp_path / "tickets", bytes(77))


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 100])
def test_rows_out_of_order_are_refused_wherever_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(tickets, "_CHUNK_ROWS", chunk)
    path, n = tmp_path / "tickets", len(AWKWARD)
    write_tickets(path, with_lookups(AWKWARD))
    TicketFile.open(path, n).close()
    for i in range(n - 1):
        swapped = [*AWKWARD[:i], AWKWARD[i + 1], AWKWARD[i], *AWKWARD[i + 2 :]]
        repeated = [*AWKWARD[:i], AWKWARD[i + 1], *AWKWARD[i + 1 :]]
        for bad in (swapped, repeated):
            path.write_bytes(with_lookups(bad))
            with pytest.raises(FormatError, match="order"):
                TicketFile.open(path, n)
            TicketFile.open(path, n, check_order=False).close()


@pytest.mark.parametrize("delta", [-76, -75, -1, 1, 76])
def test_a_file_of_another_length_is_refused(tmp_path: Path, delta: int) -> None:
    content = with_lookups(AWKWARD)
    (tmp_path / "tickets").write_bytes((content + b"\xff" * 76)[: len(content) + delta])
    with pytest.raises(FormatError, match="length"):
        TicketFile.open(tmp_path / "tickets", len(AWKWARD))


@pytest.mark.parametrize("expected", [0, -1])
def test_a_set_is_never_empty(tmp_path: Path, expected: int) -> None:
    (tmp_path / "tickets").write_bytes(b"")
    with pytest.raises(FormatError, match="length"):
        TicketFile.open(tmp_path / "tickets", expected)


def test_an_absent_file_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError):
        TicketFile.open(tmp_path / "tickets", 1024)


# --- ticket ids and redeem codes


def test_ticket_ids_are_aes_256() -> None:
    # AES-256 of the zero block under the zero key, a widely published value.
    assert make_ticket_id(bytes(32), 0).hex() == "dc95c078a2408989ad48a21492842087"
    # A block whose first eight bytes are not all zero is no ticket of ours, however little they say.
    stray = Cipher(algorithms.AES(bytes(32)), modes.ECB()).encryptor().update(bytes(7) + b"\1" + bytes(8))
    assert open_ticket_id(bytes(32), stray) is None
    # FIPS 197, C.3: a block that is nothing like one.
    key = bytes(range(32))
    assert open_ticket_id(key, bytes.fromhex("8ea2b7ca516745bfeafc49904b496089")) is None


def test_ticket_ids_open_for_their_owner_alone() -> None:
    key, other = Seeded(1).bytes(32), Seeded(2).bytes(32)
    numbers = [0, 1, 255, 2**32, 2**63, 2**64 - 1]
    ids = pieces(make_ticket_ids(key, numbers), 16)
    assert ids == [make_ticket_id(key, number) for number in numbers]
    assert [open_ticket_id(key, ticket_id) for ticket_id in ids] == numbers
    assert [open_ticket_id(other, ticket_id) for ticket_id in ids] == [None] * len(ids)
    assert make_ticket_ids(key, []) == b""


@pytest.mark.parametrize("number", [-1, 2**64])
def test_a_record_number_has_64_bits(number: int) -> None:
    with pytest.raises(OverflowError):
        make_ticket_id(bytes(32), number)


def test_keys_and_ticket_ids_have_one_length() -> None:
    with pytest.raises(ValueError, match="K_ticket"):
        make_ticket_id(bytes(16), 0)
    with pytest.raises(ValueError, match="K_redeem"):
        make_redeems(bytes(31), b"", [])
    with pytest.raises(ValueError, match="16 bytes"):
        open_ticket_id(bytes(32), bytes(32))


def test_redeem_codes_are_hmac_sha256() -> None:
    key, ids = Seeded(1).bytes(32), Seeded(2).bytes(16 * 5)
    tokens = [Seeded(3 + i).bytes(length) for i, length in enumerate((0, 1, 48, 64, 512))]
    expected = [
        hmac.new(key, ticket_id + token, "sha256").digest()[:8]
        for ticket_id, token in zip(pieces(ids, 16), tokens, strict=True)
    ]
    assert pieces(make_redeems(key, ids, tokens), 8) == expected
    assert [make_redeem(key, i, t) for i, t in zip(pieces(ids, 16), tokens, strict=True)] == expected
    with pytest.raises(ValueError, match="equally long"):
        make_redeems(key, ids, tokens[:4])
