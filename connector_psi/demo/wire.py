"""Searches recorded messages for identifiers that must not be in them.

A node of a synthetic federation can record what it serves on its peer port, each message as it is serialised and before
it is encrypted. Whoever asks talks to somebody's peer port, so the recordings of all nodes hold both directions of
everything between authorities.

Decides: the writings of an identifier that are looked for (``writings``), what of a message was released on purpose
(the envelope of a disclosure, and nothing else), and what counts as found. Leaves to others: which identifiers there
are (``samples``), what the policy should have released (``story``). The messages are taken apart here by hand, so that
the search does not rest on the code that it checks.

Two rules keep chance out, and nothing else is let pass:

- a value of fewer than ``MIN_CHARS`` characters is refused: among megabytes of random bytes it turns up by itself;
- a decimal number of at most nine digits does not count inside a run of twelve or more hexadecimal digits, for there
  it is part of a digest. Its own hexadecimal form is searched for like that of any other value.

Not found: what is compressed, encrypted, cut in pieces or written in an encoding that is not listed.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt

from connector_psi.disclosure import Envelope, Outcome, parse_envelope
from connector_psi.errors import FormatError

MIN_CHARS = 6
GET_OUTCOME = "DisclosureService/GetOutcome"
"""The one method that releases anything."""

_ANCHOR = 8
_BITMAP_BITS = 24
_CHUNK_BYTES = 1 << 20
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_HEX_RUN = re.compile(rb"[0-9a-f]{12,}|[0-9A-F]{12,}")


@dataclass(frozen=True, slots=True)
class Message:
    """One recorded message."""

    node: str
    """Whose peer port recorded it."""
    method: str
    """Service and method."""
    direction: str
    peer: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Hit:
    """A value at a place."""

    start: int
    end: int
    value: str = field(repr=False)
    writing: str = ""


@dataclass(frozen=True, slots=True)
class Served:
    """The outcome of a case as it crossed the wire."""

    owner: str
    envelope: Envelope
    padded: bytes = field(repr=False)
    """The bytes that the owner signed."""
    salt: bytes = field(repr=False)
    leaf: bytes = field(repr=False)
    """The owner's log entry that came with it."""

    @property
    def case_id(self) -> str:
        """The case, hexadecimal."""
        return self.envelope.case_id.hex()

    @property
    def disclosed(self) -> bool:
        """Whether anything was disclosed."""
        return self.envelope.outcome is Outcome.DISCLOSED


@dataclass(frozen=True, slots=True)
class WireReport:
    """What a search found."""

    messages: int
    size_bytes: int
    by_method: dict[str, tuple[int, int]]
    """Method -> messages and bytes."""
    values: int
    patterns: int
    raw: int
    """Identifiers outside released envelopes."""
    raw_places: tuple[str, ...]
    """Where, by method, direction and writing; never the value."""
    released: dict[str, int]
    """Case -> identifiers inside its released envelope."""
    served: dict[str, Served]
    """Case -> its outcome."""
    controls: int
    controls_found: int


def writings(value: str) -> Iterator[tuple[str, bytes]]:
    """Yield how a value can stand in bytes: name of the writing, and the bytes.

    UTF-8, UTF-16 in both byte orders, hexadecimal in both cases, and base64 (both alphabets) at the three
    places that the value can have in its groups of three bytes: the characters that the value alone decides.
    """
    raw = value.encode()
    yield "utf-8", raw
    yield "utf-16-le", value.encode("utf-16-le")
    yield "utf-16-be", value.encode("utf-16-be")
    yield "hex", raw.hex().encode()
    if (upper := raw.hex().upper().encode()) != raw.hex().encode():
        yield "hex", upper
    for shift in range(3):
        encoded = base64.b64encode(bytes(shift) + raw)
        # A character holds six bits: the first ones share them with what stands before the value, the last with what
        # follows it.
        own = encoded[(8 * shift + 5) // 6 : 8 * (shift + len(raw)) // 6]
        yield "base64", own
        if (urlsafe := own.translate(bytes.maketrans(b"+/", b"-_"))) != own:
            yield "base64", urlsafe


class Search:
    """Finds any of many values in bytes, in one pass.

    Every pattern is looked up by its last eight bytes: all windows of the data are hashed into a bitmap, and where a
    bit is set, the patterns that end there are compared. Ends differ more than beginnings do.

    Args:
        values: Identifiers, in every form in which they were written.

    Raises:
        ValueError: A value is too short to be told from chance.

    Cost: 10 microseconds a pattern to build; 0.1 seconds a megabyte to search.
    """

    def __init__(self, values: Iterable[str]) -> None:
        patterns: dict[bytes, tuple[str, str]] = {}
        distinct = dict.fromkeys(values)
        for value in distinct:
            if len(value) < MIN_CHARS:
                raise ValueError("a value is too short to be searched for")
            for name, pattern in writings(value):
                patterns.setdefault(pattern, (value, name))
        self.values = len(distinct)
        self.patterns = len(patterns)
        self._by_width: dict[int, tuple[npt.NDArray[np.bool_], dict[int, list[tuple[bytes, str, str]]]]] = {}
        ends: dict[int, dict[int, list[tuple[bytes, str, str]]]] = {}
        for pattern, (value, name) in patterns.items():
            width = min(_ANCHOR, len(pattern))
            anchor = int.from_bytes(pattern[-width:], "little")
            ends.setdefault(width, {}).setdefault(anchor, []).append((pattern, value, name))
        for width, anchors in ends.items():
            bitmap = np.zeros(1 << _BITMAP_BITS, dtype=np.bool_)
            bitmap[_hashed(np.array(list(anchors), dtype=np.uint64))] = True
            self._by_width[width] = (bitmap, anchors)

    def find(self, data: bytes) -> list[Hit]:
        """Return every hit, by its place."""
        hits: list[Hit] = []
        for width, (bitmap, anchors) in self._by_width.items():
            for start in range(0, len(data), _CHUNK_BYTES):
                piece = data[start : start + _CHUNK_BYTES + width - 1]
                windows = _windows(np.frombuffer(piece, dtype=np.uint8), width)
                for place in np.flatnonzero(bitmap[_hashed(windows)]).tolist():
                    end = start + place + width
                    for pattern, value, name in anchors.get(int(windows[place]), ()):
                        if data[max(0, end - len(pattern)) : end] == pattern:
                            hits.append(Hit(end - len(pattern), end, value, name))
        digests = [(run.start(), run.end()) for run in _HEX_RUN.finditer(data)] if hits else []
        return sorted(
            (hit for hit in hits if not _is_chance(hit, digests)), key=lambda hit: (hit.start, -hit.end, hit.value)
        )


def _hashed(windows: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    return (windows * _GOLDEN) >> np.uint64(64 - _BITMAP_BITS)


def _windows(data: npt.NDArray[np.uint8], width: int) -> npt.NDArray[np.uint64]:
    """Every run of ``width`` bytes as a little-endian number."""
    count = max(0, len(data) - width + 1)
    windows = np.zeros(count, dtype=np.uint64)
    for place in range(width):
        windows |= data[place : place + count].astype(np.uint64) << np.uint64(8 * place)
    return windows


def _is_chance(hit: Hit, digests: Sequence[tuple[int, int]]) -> bool:
    return (
        hit.writing == "utf-8"
        and hit.value.isdecimal()
        and len(hit.value) <= 9
        and any(start <= hit.start and hit.end <= end for start, end in digests)
    )


def count_places(hits: Iterable[Hit]) -> int:
    """Return how many separate places hits have: a plate is found with its country and without it, and counts once."""
    count, reached = 0, -1
    for hit in sorted(hits, key=lambda hit: (hit.start, -hit.end)):
        if hit.start >= reached:
            count += 1
        reached = max(reached, hit.end)
    return count


def load_transcript(path: Path, node: str) -> list[Message]:
    """Read what a node recorded; a line that is still being written is left out.

    Raises:
        FormatError: It is no transcript.
    """
    messages = []
    for line in path.read_bytes().splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break
        try:
            said = json.loads(line)
            data = base64.b64decode(said["data"], validate=True)
            method = "/".join(said["method"].rsplit(".", 1)[-1].split("/")[-2:])
            messages.append(Message(node, method, said["direction"], said["peer"], data))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise FormatError(f"transcript of {node}: malformed") from None
    return messages


def search_wire(messages: Sequence[Message], values: Iterable[str], controls: Sequence[str]) -> WireReport:
    """Search recorded messages for identifiers.

    Args:
        messages: Of all nodes.
        values: Every identifier of every authority, as written and canonical.
        controls: Some of the values; each is planted in copies of every writing, which the same search has to find.
    """
    search = Search(values)
    by_method: dict[str, tuple[int, int]] = {}
    raw, places = 0, []
    released: dict[str, int] = {}
    served: dict[str, Served] = {}
    seen: set[tuple[str, str, bytes]] = set()
    for message in messages:
        count, size = by_method.get(message.method, (0, 0))
        by_method[message.method] = (count + 1, size + len(message.data))
        if (key := (message.method, message.direction, message.data)) in seen:
            # Sent again, byte for byte, in a poll.
            continue
        seen.add(key)
        data, outcome = _without_release(message)
        if outcome is not None:
            served[outcome.case_id] = outcome
            if outcome.disclosed:
                released[outcome.case_id] = count_places(search.find(outcome.padded))
        hits = search.find(data)
        raw += count_places(hits)
        places += [f"{message.method} {message.direction}: {hit.writing}" for hit in hits]
    planted = [copy for value in controls for copy in _controls(value)]
    found = sum(any(hit.value == value for hit in search.find(copy)) for value, copy in planted)
    return WireReport(
        messages=len(messages),
        size_bytes=sum(len(message.data) for message in messages),
        by_method=by_method,
        values=search.values,
        patterns=search.patterns,
        raw=raw,
        raw_places=tuple(sorted(set(places))),
        released=released,
        served=served,
        controls=len(planted),
        controls_found=found,
    )


def _controls(value: str) -> Iterator[tuple[str, bytes]]:
    """Yield the value with a copy of it in every writing, made by the ordinary encoders, between other bytes."""
    random = Random(0)  # noqa: S311 - filler
    for before in range(3):
        text = "x" * before + value + "yz"
        for copy in (
            text.encode(),
            text.encode("utf-16-le"),
            text.encode("utf-16-be"),
            text.encode().hex().encode(),
            text.encode().hex().upper().encode(),
            base64.b64encode(text.encode()),
            base64.urlsafe_b64encode(text.encode()),
        ):
            yield value, random.randbytes(97) + copy + random.randbytes(31)


def _without_release(message: Message) -> tuple[bytes, Served | None]:
    """Return a message with the envelope of a disclosure blanked out, and the outcome that it serves, if any.

    An outcome that discloses nothing stays in the message: nothing of it was released.
    """
    if message.method != GET_OUTCOME or message.direction != "response":
        return message.data, None
    try:
        found = {number: (start, end) for number, start, end in _fields(message.data)}
        start, end = found[2]
        padded = message.data[start:end]
        outcome = Served(
            owner=message.node,
            envelope=parse_envelope(padded),
            padded=padded,
            salt=message.data[slice(*found[4])],
            leaf=_leaf(message.data[slice(*found[5])]),
        )
    except (FormatError, KeyError, IndexError):
        # Not served yet, or nothing that could be read: then all of it is searched.
        return message.data, None
    if not outcome.disclosed:
        return message.data, outcome
    return message.data[:start] + bytes(end - start) + message.data[end:], outcome


def _leaf(proof: bytes) -> bytes:
    """The first field of a LeafProof."""
    return next((proof[start:end] for number, start, end in _fields(proof) if number == 1), b"")


def _fields(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield number, start and end of the length-delimited fields of a protobuf message.

    Raises:
        IndexError: It is none.
    """
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        match tag & 7:
            case 0:
                _, place = _varint(data, place)
            case 1:
                place += 8
            case 2:
                size, place = _varint(data, place)
                if place + size > len(data):
                    raise IndexError
                yield tag >> 3, place, place + size
                place += size
            case 5:
                place += 4
            case _:
                raise IndexError


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
        shift += 7
        if shift > 63:
            raise IndexError
