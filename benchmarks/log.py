"""The disclosure log: durable appends a second, rebuilding the root of a million leaves, proofs at ten million.

- *append*: entries (leaf, tree nodes, sealed body) of one node on its database, each writer waiting until its entry is
  on the disk; next to bare commits of as many bytes on the same disk in the same run.
- *root*: the root over leaves, rehashed from their bytes, next to bare SHA-256 of the same bytes.
- *proof*: inclusion proofs at random places from hash tiles in a folder, read anew for each; nothing is kept in memory.

    python benchmarks/log.py --json OUT
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from connector_psi.audit.entries import Event
from connector_psi.audit.merkle import LeafHash, inclusion_proof, leaf_hash, verify_inclusion
from connector_psi.audit.tiles import TileTree, node_reader
from connector_psi.domain.clock import SystemClock, SystemRandom
from connector_psi.node import setup
from connector_psi.node.service import Service
from connector_psi.rpc.client import PeerConnector

LEAF_BYTES = 900
"""What a leaf of this project takes, give or take."""


def measure(
    folder: Path, *, entries: int = 4_000, rebuilt: int = 1_000_000, proven: int = 10_000_000, seed: int = 1
) -> dict[str, object]:
    """Return ``{"LOG": {...}}``; times are wall seconds unless they say milliseconds."""
    figures: dict[str, object] = {}
    for writers in (1, 8, 32):
        figures |= _appends(folder / f"append{writers}", writers, entries)
    figures["bare_commits_per_s"] = _bare_commits(folder / "bare.db", entries // 4)
    figures |= _root(rebuilt)
    figures |= _proofs(folder / "tiles", proven, random.Random(seed))
    ratio = round(figures["appends_per_s_8"] / figures["bare_commits_per_s"], 2)  # type: ignore[operator]
    return {"LOG": {"figures": figures, "ratio_to_bare_commits": ratio, "entries": entries, "seed": seed}}


def _appends(directory: Path, writers: int, entries: int) -> dict[str, object]:
    setup.init_node(
        directory / "node",
        authority="ics2",
        profile="ics2",
        pkidir=directory / "pki",
        listen="127.0.0.1:7101",
        local="127.0.0.1:7201",
        clock=SystemClock(),
        random=SystemRandom(),
    )
    service = Service(directory / "node", PeerConnector)
    node, took = service.node, list[float]()

    def work() -> None:
        for _ in range(entries // writers):
            begun = time.perf_counter()
            with node.store.write() as tx:
                node.append(tx, Event.COLLECT, {"operation": "collection", "records": ["ICS2/M1"], "by": "bench"})
            took.append(time.perf_counter() - begun)

    threads = [threading.Thread(target=work) for _ in range(writers)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - begun
    service.close()
    return {
        f"appends_per_s_{writers}": round(len(took) / elapsed),
        f"append_p99_ms_{writers}": _p99_ms(took),
    }


def _bare_commits(path: Path, count: int) -> int:
    with sqlite3.connect(path, isolation_level=None) as database:
        for pragma in ("journal_mode=WAL", "synchronous=FULL"):
            database.execute(f"PRAGMA {pragma}")
        database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, leaf BLOB)")
        leaf, begun = bytes(LEAF_BYTES), time.perf_counter()
        for _ in range(count):
            database.execute("BEGIN IMMEDIATE")
            database.execute("INSERT INTO t (leaf) VALUES (?)", (leaf,))
            database.execute("COMMIT")
        return round(count / (time.perf_counter() - begun))


def _root(leaves: int) -> dict[str, object]:
    tree, hashing, bare = TileTree(lambda _path, _raw: None, entries=False), 0.0, 0.0
    for start in range(0, leaves, 10_000):
        numbers = (b"%d" % n for n in range(start, min(start + 10_000, leaves)))
        chunk = [number * (LEAF_BYTES // len(number)) for number in numbers]
        begun = time.perf_counter()
        for leaf in chunk:
            tree.add_hash(leaf_hash(leaf))
        hashing += time.perf_counter() - begun
        begun = time.perf_counter()
        for leaf in chunk:
            hashlib.sha256(leaf).digest()
        bare += time.perf_counter() - begun
    tree.root()
    return {
        "root_leaves": leaves,
        "root_s": round(hashing, 1),
        "root_to_bare_sha256": round(hashing / bare, 2),
    }


def _proofs(folder: Path, leaves: int, chance: random.Random) -> dict[str, object]:
    def put(path: str, raw: bytes) -> None:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(raw)

    digest: Callable[[int], LeafHash] = lambda n: LeafHash(hashlib.sha256(b"%d" % n).digest())  # noqa: E731
    tree, begun = TileTree(put, entries=False), time.perf_counter()
    for n in range(leaves):
        tree.add_hash(digest(n))
    tree.flush()
    built = time.perf_counter() - begun
    root, took = tree.root(), list[float]()
    for _ in range(2_000):
        index = chance.randrange(leaves)
        begun = time.perf_counter()
        proof = inclusion_proof(index, leaves, node_reader(lambda path: (folder / path).read_bytes(), leaves))
        took.append(time.perf_counter() - begun)
        verify_inclusion(digest(index), index, leaves, proof, root)
    return {"proof_leaves": leaves, "tiles_built_s": round(built, 1), "proof_p99_ms": _p99_ms(took)}


def _p99_ms(took: list[float]) -> float:
    return round(sorted(took)[int(len(took) * 0.99)] * 1000, 2)


def main() -> None:
    """Measure and print or write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entries", type=int, default=4_000, help="appended by each number of writers")
    parser.add_argument("--rebuilt", type=int, default=1_000_000, help="leaves of which the root is rebuilt")
    parser.add_argument("--proven", type=int, default=10_000_000, help="leaves of the tree of proofs")
    parser.add_argument("--json", type=Path, help="write here instead of printing")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), entries=options.entries, rebuilt=options.rebuilt, proven=options.proven)
    text = json.dumps(result, indent=2)
    if options.json:
        options.json.write_text(text + "\n")
    else:
        print(text)


if __name__ == "__main__":
    main()
