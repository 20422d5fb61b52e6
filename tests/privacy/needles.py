"""Finding any of many byte strings in any amount of bytes, in one pass.

Two bitmaps of 2^24 places, over bytes 1 to 3 and 4 to 6 of a needle, leave few places to look at; a set for each beginning and length
decides those: thousands of needles may begin alike.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

HEAD = 6


def spellings(value: bytes) -> Iterator[bytes]:
    """Bytes as they are, in hexadecimal, and in base64 at each of the three places in a longer text."""
    yield value
    yield value.hex().encode()
    yield value.hex().upper().encode()
    for shift in range(3):
        # The characters that the value alone decides: the others depend on what stands beside it.
        first, end = -(-8 * shift // 6), 8 * (shift + len(value)) // 6
        padded = bytes(shift) + value + bytes(3)
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(padded)[first:end]
            if len(text) >= HEAD:
                yield text


def text_spellings(text: str) -> Iterator[bytes]:
    """A text in UTF-8 and UTF-16, in either case, each as ``spellings`` has it."""
    for variant in {text, text.upper(), text.lower()}:
        yield from spellings(variant.encode())
        yield variant.encode("utf-16-le")
        yield variant.encode("utf-16-be")


class Needles:
    """Searches for byte strings of at least six bytes.

    Args:
        needles: What is searched for.
        whole: Of these, what counts only where no letter or digit stands beside it: short numbers turn up inside the
            hexadecimal text of random bytes.
    """

    def __init__(self, needles: Iterable[bytes], whole: Iterable[bytes] = ()) -> None:
        self._whole = frozenset(whole)
        self._by_head: dict[bytes, dict[int, set[bytes]]] = {}
        self.count = 0
        for needle in {*needles, *self._whole}:
            assert len(needle) >= HEAD, "a needle is too short to mean anything"
            self._by_head.setdefault(needle[:HEAD], {}).setdefault(len(needle), set()).add(needle)
            self.count += 1
        self._first, self._second = np.zeros(1 << 24, dtype=bool), np.zeros(1 << 24, dtype=bool)
        heads = np.frombuffer(b"".join(self._by_head), dtype=np.uint8).reshape(-1, HEAD).astype(np.uint32)
        self._first[heads[:, 0] << 16 | heads[:, 1] << 8 | heads[:, 2]] = True
        self._second[heads[:, 3] << 16 | heads[:, 4] << 8 | heads[:, 5]] = True

    def found_in(self, hay: bytes) -> set[bytes]:
        """The needles that occur in these bytes."""
        if len(hay) < HEAD:
            return set()
        octets = np.frombuffer(hay, dtype=np.uint8).astype(np.uint32)
        triples = octets[:-2] << 16 | octets[1:-1] << 8 | octets[2:]
        places = np.flatnonzero(self._first[triples[:-3]] & self._second[triples[3:]])
        found = set()
        for at in places.tolist():
            for length, needles in self._by_head.get(hay[at : at + HEAD], {}).items():
                end = at + length
                needle = hay[at:end]
                if needle in needles and not (needle in self._whole and _touches(hay, at, end)):
                    found.add(needle)
        return found

    def found_below(self, folder: Path) -> dict[str, set[bytes]]:
        """The needles that occur in the files below a folder, and in their names, by file."""
        found = {}
        for path in sorted(folder.rglob("*")):
            hits = self.found_in(str(path.relative_to(folder)).encode())
            if path.is_file():
                hits |= self.found_in(path.read_bytes())
            if hits:
                found[str(path.relative_to(folder))] = hits
        return found


def _touches(hay: bytes, start: int, end: int) -> bool:
    return hay[max(0, start - 1) : start].isalnum() or hay[end : end + 1].isalnum()
