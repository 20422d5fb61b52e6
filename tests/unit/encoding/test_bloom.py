from __future__ import annotations

import io
import math
import random
import struct
from pathlib import Path

import numpy as np
import pytest
from pybloom_live import BloomFilter
from pybloom_live.pybloom import make_hashfuncs

from connector_psi.encoding import bloom
from connector_psi.encoding.bloom import ERROR_RATE, SLICES, Filter, filter_size_bytes, write_filter
from connector_psi.errors import FormatError, UnavailableError

HEADER = struct.Struct("<dQQQQ")
# Slices below and above 2^15 bits: SHA-384 with 2-byte words, SHA-512 with 4-byte words.
SHORT_WORDS = (1, 7, 1000, 1024, 22712)
LONG_WORDS = (22713, 28672)


def lookups_of(n: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(16 * n)


def texts(lookups: bytes) -> list[str]:
    return [lookups[at : at + 16].hex() for at in range(0, len(lookups), 16)]


def library_filter(lookups: bytes, capacity: int) -> bytes:
    reference = BloomFilter(capacity, ERROR_RATE)
    for key in texts(lookups):
        reference.add(key, skip_check=True)
    file = io.BytesIO()
    reference.tofile(file)
    return file.getvalue()


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("bloom") / "filter"
    write_filter(path, lookups_of(1024), 1024)
    return path.read_bytes()


# --- equality with the library


@pytest.mark.parametrize("capacity", SHORT_WORDS + LONG_WORDS)
def test_the_file_is_the_library_s_bit_for_bit(tmp_path: Path, capacity: int) -> None:
    lookups = lookups_of(capacity)
    write_filter(tmp_path / "filter", lookups, capacity)
    ours = (tmp_path / "filter").read_bytes()
    assert ours == library_filter(lookups, capacity)
    assert len(ours) == filter_size_bytes(capacity)


def test_the_sizes_above_fall_on_both_sides_of_a_hash_change() -> None:
    assert bloom._Layout.of(SHORT_WORDS[-1]).hash_name == "sha384"
    assert bloom._Layout.of(LONG_WORDS[0]).hash_name == "sha512"


@pytest.mark.parametrize("capacity", [1024, 1536, 1792, 2**20])
def test_the_header_is_the_library_s(capacity: int) -> None:
    reference = BloomFilter(capacity, ERROR_RATE)
    layout = bloom._Layout.of(capacity)
    assert (SLICES, layout.bits_per_slice) == (reference.num_slices, reference.bits_per_slice)


@pytest.mark.parametrize("bits_per_slice", [1478, 2**15 - 1, 2**15, 2**31 - 1, 2**31, 6_196_328_019])
def test_positions_are_the_library_s_for_every_word_length(bits_per_slice: int) -> None:
    layout = bloom._Layout.of_slices(1, bits_per_slice)
    keys = [text.encode() for text in texts(lookups_of(50))]
    positions = np.concatenate([columns for _, columns in layout.positions(keys)], axis=1)
    make_hashes, _ = make_hashfuncs(SLICES, bits_per_slice)
    assert positions.tolist() == [list(make_hashes(key.decode())) for key in keys]


def test_batches_end_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lookups = lookups_of(1000)
    monkeypatch.setattr(bloom, "_BATCH_KEYS", 64)
    write_filter(tmp_path / "filter", lookups, 1000)
    assert (tmp_path / "filter").read_bytes() == library_filter(lookups, 1000)
    with Filter.open(tmp_path / "filter", 1000) as found:
        assert found.contains(lookups).all()


@pytest.mark.parametrize("capacity", [1024, 28672])
def test_answers_are_the_library_s(tmp_path: Path, capacity: int) -> None:
    lookups = lookups_of(capacity)
    write_filter(tmp_path / "filter", lookups, capacity)
    with (tmp_path / "filter").open("rb") as file:
        reference = BloomFilter.fromfile(file)
    # Members and strangers in turn, and near-members that share all bits but one.
    near = bytes([lookups[0] ^ 1]) + lookups[1:16]
    asked = b"".join(
        member + stranger
        for member, stranger in zip(pieces(lookups)[:500], pieces(lookups_of(500, seed=2)), strict=True)
    )
    asked += near
    with Filter.open(tmp_path / "filter", capacity) as found:
        answers = found.contains(asked).tolist()
    assert answers == [key in reference for key in texts(asked)]
    assert answers[::2] == [True] * 500 + [False]
    assert not any(answers[1::2])


def pieces(lookups: bytes) -> list[bytes]:
    return [lookups[at : at + 16] for at in range(0, len(lookups), 16)]


def test_a_library_s_file_opens(tmp_path: Path) -> None:
    lookups = lookups_of(1024, seed=5)
    (tmp_path / "filter").write_bytes(library_filter(lookups, 1024))
    with Filter.open(tmp_path / "filter", 1024) as found:
        assert found.contains(lookups).all()


# --- what it is for


def test_false_positives_are_as_rare_as_promised(tmp_path: Path) -> None:
    write_filter(tmp_path / "filter", lookups_of(28672), 28672)
    bits = np.unpackbits(
        np.frombuffer((tmp_path / "filter").read_bytes(), np.uint8, offset=HEADER.size), bitorder="little"
    )
    m = bloom._Layout.of(28672).bits_per_slice
    expected = math.prod(bits[i * m : (i + 1) * m].mean() for i in range(SLICES))
    assert expected == pytest.approx(2**-20, rel=0.1)
    with Filter.open(tmp_path / "filter", 28672) as found:
        # 0.2 expected.
        assert found.contains(lookups_of(200_000, seed=3)).sum() <= 3


def test_a_batch_keeps_its_order(tmp_path: Path, honest: bytes) -> None:
    (tmp_path / "filter").write_bytes(honest)
    member, stranger = lookups_of(1024)[:16], bytes(16)
    with Filter.open(tmp_path / "filter", 1024) as found:
        assert found.contains(stranger + member + stranger + member).tolist() == [False, True, False, True]
        assert found.contains(b"").tolist() == []
        with pytest.raises(ValueError, match="16 bytes"):
            found.contains(bytes(17))
    with pytest.raises(ValueError, match="closed"):
        found.contains(member)


@pytest.mark.parametrize("seed", range(40))
def test_no_honest_set_is_refused(tmp_path: Path, seed: int) -> None:
    # The narrowest case: the smallest size class has the widest spread.
    write_filter(tmp_path / "filter", lookups_of(1024, seed=100 + seed), 1024)
    Filter.open(tmp_path / "filter", 1024).close()


@pytest.mark.parametrize("n", [0, 1023, 1025])
def test_a_filter_is_written_at_its_capacity_only(tmp_path: Path, n: int) -> None:
    with pytest.raises(ValueError, match="exactly"):
        write_filter(tmp_path / "filter", lookups_of(n), 1024)
    assert list(tmp_path.iterdir()) == []


# --- hostile files


def header(rate: float = ERROR_RATE, k: int = SLICES, m: int = 1478, capacity: int = 1024, count: int = 1024) -> bytes:
    return HEADER.pack(rate, k, m, capacity, count)


@pytest.mark.parametrize(
    "hostile",
    [
        header(k=0),
        header(k=1),
        header(k=2**63),
        header(rate=math.nan),
        header(rate=0.0),
        header(rate=0.5),
        header(rate=-ERROR_RATE),
        header(rate=math.inf),
        header(m=0),
        header(m=1),
        header(m=1477),
        header(m=2**63),
        header(capacity=0),
        header(capacity=1280),
        header(count=0),
        header(count=1023),
        header(count=2**64 - 1),
    ],
)
def test_any_other_header_is_refused(tmp_path: Path, honest: bytes, hostile: bytes) -> None:
    assert honest.startswith(header())
    (tmp_path / "filter").write_bytes(hostile + honest[HEADER.size :])
    with pytest.raises(FormatError):
        Filter.open(tmp_path / "filter", 1024)


@pytest.mark.parametrize("length", [0, 1, 39, 40, 42, -1])
def test_any_other_length_is_refused(tmp_path: Path, honest: bytes, length: int) -> None:
    for content in (honest[:length], honest + b"\0"):
        (tmp_path / "filter").write_bytes(content)
        with pytest.raises(FormatError, match="length"):
            Filter.open(tmp_path / "filter", 1024)


@pytest.mark.parametrize("expected", [1, 1023, 1025, 2**20, 0, -1, 2**64])
def test_another_size_class_is_refused(tmp_path: Path, honest: bytes, expected: int) -> None:
    (tmp_path / "filter").write_bytes(honest)
    with pytest.raises(FormatError):
        Filter.open(tmp_path / "filter", expected)


def with_slice(honest: bytes, index: int, fraction: float) -> bytes:
    """The same filter, with one slice filled to a fraction."""
    bits = np.unpackbits(np.frombuffer(honest, np.uint8, offset=HEADER.size), bitorder="little")
    m = 1478
    ones = np.zeros(m, dtype=np.uint8)
    ones[: round(m * fraction)] = 1
    bits[index * m : (index + 1) * m] = ones
    return honest[: HEADER.size] + np.packbits(bits, bitorder="little").tobytes()


@pytest.mark.parametrize("index", [0, 1, 7, 19])
@pytest.mark.parametrize("fraction", [0.0, 0.44, 0.56, 1.0])
def test_one_slice_filled_otherwise_is_refused(tmp_path: Path, honest: bytes, index: int, fraction: float) -> None:
    (tmp_path / "filter").write_bytes(with_slice(honest, index, fraction))
    with pytest.raises(FormatError, match=f"slice {index} "):
        Filter.open(tmp_path / "filter", 1024)


@pytest.mark.parametrize("fraction", [0.46, 0.5, 0.54])
def test_a_slice_within_tolerance_is_taken(tmp_path: Path, honest: bytes, fraction: float) -> None:
    (tmp_path / "filter").write_bytes(with_slice(honest, 3, fraction))
    Filter.open(tmp_path / "filter", 1024).close()


@pytest.mark.parametrize("byte", [b"\x00", b"\xff"])
def test_a_filter_of_one_byte_repeated_is_refused(tmp_path: Path, honest: bytes, byte: bytes) -> None:
    (tmp_path / "filter").write_bytes(header() + byte * (len(honest) - HEADER.size))
    with pytest.raises(FormatError, match="slice 0 "):
        Filter.open(tmp_path / "filter", 1024)


def test_bits_beyond_the_last_slice_are_refused(tmp_path: Path) -> None:
    # 1001 keys: 20 * 1445 bits leave 4 bits of the last byte.
    write_filter(tmp_path / "filter", lookups_of(1001), 1001)
    content = bytearray((tmp_path / "filter").read_bytes())
    assert content[-1] < 16
    content[-1] |= 0x80
    (tmp_path / "filter").write_bytes(content)
    with pytest.raises(FormatError, match="beyond"):
        Filter.open(tmp_path / "filter", 1001)


def test_counting_ones_between_any_two_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bloom, "_SCAN_BYTES", 3)
    packed = np.frombuffer(random.Random(9).randbytes(12), dtype=np.uint8)
    bits = np.unpackbits(packed, bitorder="little")
    for start in range(97):
        for stop in range(start, 97):
            assert bloom._count_ones(packed, start, stop) == bits[start:stop].sum()


def test_an_absent_file_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError):
        Filter.open(tmp_path / "filter", 1024)


@pytest.mark.parametrize("capacity", [0, -1, bloom.MAX_CAPACITY + 1])
def test_a_capacity_out_of_range_has_no_size(capacity: int) -> None:
    with pytest.raises(ValueError, match="capacity"):
        filter_size_bytes(capacity)


def test_80_million_tokens_fit_320_mb() -> None:
    assert filter_size_bytes(83_886_080) < 320_000_000
