"""Tiles of C2SP tlog-tiles: names, bytes, roots of every size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_psi.audit.merkle import TreeFrontier, leaf_hash
from connector_psi.audit.tiles import (
    ENTRIES,
    TileTree,
    encode_bundle,
    hashes_of,
    parse_bundle,
    parse_tile_path,
    root_at,
    tile_path,
    widths,
)
from connector_psi.errors import FormatError

LEAVES = [f"leaf {n}".encode() for n in range(1_200)]


def built(size: int, *, flush_at: tuple[int, ...] = (), entries: bool = True) -> tuple[TileTree, dict[str, bytes]]:
    files: dict[str, bytes] = {}
    tree = TileTree(files.__setitem__, entries=entries)
    for n, leaf in enumerate(LEAVES[:size]):
        if n in flush_at:
            tree.flush()
        tree.add(leaf)
    tree.flush()
    return tree, files


def root_by_leaves(size: int) -> bytes:
    frontier = TreeFrontier()
    for leaf in LEAVES[:size]:
        frontier.add(leaf_hash(leaf))
    return frontier.root()


@pytest.mark.parametrize(
    ("level", "index", "width", "path"),
    [
        (0, 0, 256, "tile/0/000"),
        (0, 1234067, 256, "tile/0/x001/x234/067"),
        (1, 5, 17, "tile/1/005.p/17"),
        (63, 1000, 255, "tile/63/x001/000.p/255"),
        (ENTRIES, 273, 112, "tile/entries/273.p/112"),
        (2, 1_000_000, 256, "tile/2/x001/x000/000"),
    ],
)
def test_paths_are_those_of_the_specification(level: int, index: int, width: int, path: str) -> None:
    assert tile_path(level, index, width) == path
    assert parse_tile_path(path) == (level, index, width)


@pytest.mark.parametrize(
    "path",
    [
        "", "tile/0/0", "tile/0/x000/001", "tile/64/000", "tile/00/000", "tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/01",
        "tile/0/1000", "tile/0/000/", "/tile/0/000", "tile/0/../../x", "tile/entry/000", "tile/0/001/002", "tile/0/\u0660\u0660\u0660",
    ],
)  # fmt: skip
def test_what_is_no_path_of_a_tile_is_refused(path: str) -> None:
    with pytest.raises(FormatError):
        parse_tile_path(path)


def test_a_tree_of_70000_has_the_tiles_that_the_specification_counts() -> None:
    assert widths(70_000) == [(0, 273, 112), (1, 1, 17), (2, 0, 1)]
    assert widths(256) == [(1, 0, 1)]
    assert widths(0) == []


@pytest.mark.parametrize("size", [0, 1, 2, 3, 255, 256, 257, 511, 512, 513, 767, 768, 1_200])
def test_the_root_is_that_of_the_leaves_and_what_was_handed_out_leads_to_it(size: int) -> None:
    tree, files = built(size)
    assert tree.root() == root_by_leaves(size)
    assert root_at(size, files.__getitem__, size) == tree.root()
    assert len(files) == len(set(files))
    for path, raw in files.items():
        level, index, width = parse_tile_path(path)
        if level == ENTRIES:
            assert parse_bundle(raw, width) == LEAVES[index * 256 : index * 256 + width]
        elif level == 0:
            assert [raw[i : i + 32] for i in range(0, len(raw), 32)] == [
                leaf_hash(leaf) for leaf in LEAVES[index * 256 : index * 256 + width]
            ]


def test_the_root_of_every_earlier_size_follows_from_later_tiles() -> None:
    _, files = built(1_200)
    for size in range(0, 1_201, 7):
        assert root_at(size, files.__getitem__, 1_200) == root_by_leaves(size), size


@pytest.mark.parametrize("stop", [1, 255, 256, 300, 512, 1_000])
def test_going_on_from_the_files_gives_the_same_files(stop: int) -> None:
    whole, expected = built(1_200, flush_at=(stop,))
    _, files = built(stop)
    tree = TileTree.resume(files.__setitem__, files.__getitem__, stop)
    assert tree.root() == root_by_leaves(stop)
    for leaf in LEAVES[stop:]:
        tree.add(leaf)
    tree.flush()
    assert files == expected
    assert tree.root() == whole.root()


def test_a_tree_of_hashes_alone_holds_no_leaf() -> None:
    tree, files = built(600, entries=False)
    assert not [path for path in files if "entries" in path]
    assert tree.root() == root_by_leaves(600)
    again = TileTree.resume(files.__setitem__, files.__getitem__, 600, entries=False)
    again.add_hash(leaf_hash(LEAVES[600]))
    assert again.root() == root_by_leaves(601)


def test_damaged_tiles_and_bundles_are_refused() -> None:
    _, files = built(300)
    for path in ("tile/0/001.p/44", "tile/1/000.p/1", "tile/entries/001.p/44"):
        with pytest.raises(FormatError):
            TileTree.resume(lambda *_: None, {**files, path: files[path][:-1]}.__getitem__, 300)
    for raw in (b"\x00", b"\x00\x05abc", encode_bundle([b"a", b"b"])):
        with pytest.raises(FormatError):
            parse_bundle(raw, 1)
    with pytest.raises(FormatError):
        encode_bundle([bytes(65_536)])
    with pytest.raises(KeyError):
        hashes_of(0, 9, files.__getitem__, 300_000)


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_bundles_are_inverse(leaves: list[bytes]) -> None:
    assert parse_bundle(encode_bundle(leaves), len(leaves)) == leaves
