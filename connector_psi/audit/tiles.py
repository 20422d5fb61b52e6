"""The log as tiles: the files that C2SP tlog-tiles serves, made from leaves, and read back.

Decides: names and bytes of tiles and entry bundles, and how the root of any size follows from tiles. Leaves to others:
where files lie and who may have them. Entry bundles hold leaves; a folder without them serves hashes alone.

A ``TileTree`` grows leaf by leaf and hands out each full tile once; partial tiles are written for the sizes that
``flush`` is called at. It holds at most 256 hashes a level and 256 leaves.

Source: C2SP tlog-tiles.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from connector_psi.audit.merkle import HASH_BYTES, LeafHash, NodeReader, empty_root, leaf_hash, node_hash
from connector_psi.errors import FormatError

WIDTH: Final = 256
MAX_ENTRY_BYTES: Final = 2**16 - 1
ENTRIES: Final = -1
"""In the place of a level: entry bundles."""

_PATH = re.compile(r"tile/(entries|0|[1-9]\d?)/((?:x\d{3}/)*\d{3})(?:\.p/([1-9]\d{0,2}))?", re.ASCII)
Put = Callable[[str, bytes], None]
Get = Callable[[str], bytes]


def tile_path(level: int, index: int, width: int = WIDTH) -> str:
    """Return the path of a tile below the log's prefix.

    Args:
        level: 0 to 63, or ``ENTRIES``.
        index: Within the level.
        width: Hashes or entries in it; below 256 for a partial one.
    """
    groups = [f"{index % 1000:03d}"]
    while index := index // 1000:
        groups.insert(0, f"x{index % 1000:03d}")
    name = "entries" if level == ENTRIES else str(level)
    return f"tile/{name}/{'/'.join(groups)}" + (f".p/{width}" if width < WIDTH else "")


def parse_tile_path(path: str) -> tuple[int, int, int]:
    """Return ``(level, index, width)``; the exact inverse of ``tile_path``.

    Raises:
        FormatError: Not the path of a tile.
    """
    found = _PATH.fullmatch(path)
    if found is None:
        raise FormatError("tile: not a path of a tile")
    level = ENTRIES if found[1] == "entries" else int(found[1])
    index = int("".join(group.removeprefix("x") for group in found[2].split("/")))
    width = int(found[3]) if found[3] else WIDTH
    if level > 63 or tile_path(level, index, width) != path:
        raise FormatError("tile: not a path of a tile")
    return level, index, width


def encode_bundle(leaves: Iterable[bytes]) -> bytes:
    """Return an entry bundle: each leaf after its length, two bytes.

    Raises:
        FormatError: A leaf of over 65,535 bytes.
    """
    out = bytearray()
    for leaf in leaves:
        if len(leaf) > MAX_ENTRY_BYTES:
            raise FormatError("tile: an entry is too long for a bundle")
        out += len(leaf).to_bytes(2, "big") + leaf
    return bytes(out)


def parse_bundle(raw: bytes, width: int) -> list[bytes]:
    """Return the leaves of an entry bundle.

    Raises:
        FormatError: It does not hold exactly so many.
    """
    leaves, at = [], 0
    while at < len(raw):
        size = int.from_bytes(raw[at : at + 2], "big")
        leaf = raw[at + 2 : at + 2 + size]
        if len(raw) - at < 2 or len(leaf) != size:
            raise FormatError("tile: an entry bundle is cut short")
        leaves.append(leaf)
        at += 2 + size
    if len(leaves) != width:
        raise FormatError("tile: an entry bundle of another width")
    return leaves


def parse_tile(raw: bytes, width: int) -> list[bytes]:
    """Return the hashes of a tile.

    Raises:
        FormatError: It does not hold exactly so many.
    """
    if len(raw) != width * HASH_BYTES:
        raise FormatError("tile: another width")
    return [raw[at : at + HASH_BYTES] for at in range(0, len(raw), HASH_BYTES)]


def widths(size: int) -> list[tuple[int, int, int]]:
    """Return ``(level, index, width)`` of the partial hash tiles of a tree, lowest level first."""
    found, level = [], 0
    while count := size >> 8 * level:
        if count % WIDTH:
            found.append((level, count // WIDTH, count % WIDTH))
        level += 1
    return found


def root_of(edges: Sequence[Sequence[bytes]]) -> bytes:
    """Return the root of a tree from the hashes of its partial tiles, lowest level first, empty ones included.

    What a level holds are complete subtrees; what is left over below them is the last and smaller one.
    """
    carry: list[bytes] = []
    for edge in edges:
        row = [*edge, *carry]
        carry = [_tree_hash(row)] if row else []
    return carry[0] if carry else empty_root()


def _tree_hash(hashes: Sequence[bytes]) -> bytes:
    row = list(hashes)
    while len(row) > 1:
        # An odd one out moves up as it is: RFC 9162 splits at the largest power of two.
        paired = [node_hash(row[i], row[i + 1]) for i in range(0, len(row) - 1, 2)]
        row = paired + row[len(row) - len(row) % 2 :]
    return row[0]


class TileTree:
    """A growing log as tiles.

    Args:
        put: Takes a path and the bytes of a tile; called once for every full tile.
        entries: Whether leaves are kept in bundles.
    """

    def __init__(self, put: Put, *, entries: bool = True) -> None:
        self.size = 0
        self._put = put
        self._entries = entries
        self._edges: list[list[bytes]] = [[]]
        self._leaves: list[bytes] = []

    @classmethod
    def resume(cls, put: Put, get: Get, size: int, *, entries: bool = True) -> TileTree:
        """Go on with a tree of which the tiles for a size were flushed.

        Raises:
            FormatError: A tile is damaged.
        """
        tree = cls(put, entries=entries)
        tree.size = size
        tree._edges = [[] for _ in range(max(1, (size.bit_length() + 7) // 8))]
        for level, index, width in widths(size):
            tree._edges[level] = parse_tile(get(tile_path(level, index, width)), width)
        if entries and size % WIDTH:
            width = size % WIDTH
            tree._leaves = parse_bundle(get(tile_path(ENTRIES, size // WIDTH, width)), width)
        return tree

    def add(self, leaf: bytes) -> None:
        """Append a leaf.

        Raises:
            FormatError: It is too long for a bundle.
        """
        if self._entries:
            self._leaves.append(leaf)
            if len(self._leaves) == WIDTH:
                self._put(tile_path(ENTRIES, self.size // WIDTH), encode_bundle(self._leaves))
                self._leaves = []
        self.add_hash(leaf_hash(leaf))

    def add_hash(self, digest: LeafHash) -> None:
        """Append a leaf of which only the hash is known; for a tree without entries."""
        hashed: bytes = digest
        for level in range(64):
            if level == len(self._edges):
                self._edges.append([])
            edge = self._edges[level]
            edge.append(hashed)
            if len(edge) < WIDTH:
                break
            self._put(tile_path(level, self.size >> 8 * (level + 1)), b"".join(edge))
            hashed, self._edges[level] = _tree_hash(edge), []
        self.size += 1

    def flush(self) -> None:
        """Hand out the partial tiles of the size that the tree has now."""
        for level, index, width in widths(self.size):
            self._put(tile_path(level, index, width), b"".join(self._edges[level]))
        if self._leaves:
            self._put(tile_path(ENTRIES, self.size // WIDTH, len(self._leaves)), encode_bundle(self._leaves))

    def root(self) -> bytes:
        """Return the root of the leaves added so far."""
        return root_of(self._edges)


def root_at(size: int, get: Get, held: int) -> bytes:
    """Return the root that a log had at a size, from the tiles of a later size.

    Args:
        size: 0 to ``held``.
        get: Returns a tile by its path.
        held: The size that the tiles were flushed for.

    Raises:
        FormatError: A tile is damaged.
    """
    edges: list[list[bytes]] = [[] for _ in range(max(1, (size.bit_length() + 7) // 8))]
    for level, index, width in widths(size):
        edges[level] = hashes_of(level, index, get, held)[:width]
    return root_of(edges)


def hashes_of(level: int, index: int, get: Get, held: int) -> list[bytes]:
    """Return the hashes of a tile as it is in a tree of ``held`` leaves.

    Raises:
        FormatError: It is damaged.
    """
    width = min(WIDTH, (held >> 8 * level) - index * WIDTH)
    return parse_tile(get(tile_path(level, index, width)), width)


def node_reader(get: Get, held: int) -> NodeReader:
    """Return a reader of the tree's nodes from the tiles of a tree of ``held`` leaves; for one proof.

    It keeps the tiles that it read: a proof needs two or three, each for eight levels.
    """
    tiles: dict[tuple[int, int], list[bytes]] = {}

    def read(level: int, index: int) -> bytes:
        tile, height = divmod(level, 8)
        first = index << height
        place = tile, first // WIDTH
        if place not in tiles:
            tiles[place] = hashes_of(*place, get, held)
        return _tree_hash(tiles[place][first % WIDTH : first % WIDTH + (1 << height)])

    return read
