"""The decoders of the disclosure log: leaves, notes, checkpoints, proofs, bundles, bodies."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from connector_psi.audit import bodies, checkpoint, cosignature, entries, guard, merkle, tiles, verify, witness
from connector_psi.errors import (
    FormatError,
    LogForkError,
    ProofInvalidError,
)
from tests.fuzz.harness import Target, folder, promise
from tests.fuzz.mutation import Shape
from tests.fuzz.scene import KEY, NOW, SIGNER, WITNESS, file, inverse, kept, text_of
from tests.simulation.memory_log import ORIGIN, MemoryKeys, SeededRandom, build_log, draft


@cache
def leaf_bytes(**changes: Any) -> bytes:
    completed = draft(5).complete(ts=NOW, erase_after=NOW.replace(year=2029), body_commit=b"\x05" * 32)
    return entries.encode_leaf(replace(completed, **changes))


def _checkpoint_text(*extensions: str) -> str:
    return checkpoint.encode_checkpoint(checkpoint.Checkpoint(ORIGIN, 9, b"\x09" * 32, extensions))


@cache
def _note() -> bytes:
    return checkpoint.sign_note(_checkpoint_text(), [SIGNER, WITNESS])


def _cosigned() -> bytes:
    """A note with a signature of another type: a cosignature of C2SP tlog-cosignature, timestamp and all."""
    note = checkpoint.parse_note(_note())
    line = checkpoint.NoteSignature(WITNESS.name, b"\x04abc", (1_800_000_000).to_bytes(8, "big") + bytes(64))
    return checkpoint.encode_note(checkpoint.Note(note.text, (*note.signatures, line)))


def _signed_by_the_log(data: bytes) -> bytes:
    """The log itself means ill: its signature is right, whatever the text says."""
    text, separator, tail = data.rpartition(b"\n\n")
    text = (text if separator else data) + b"\n"
    signature = SIGNER.vkey.key_id + KEY.sign(text)
    return text + b"\n" + f"\u2014 {ORIGIN} {checkpoint._b64(signature)}\n".encode() + tail


_TREE = [merkle.leaf_hash(bytes([n])) for n in range(13)]


@cache
def _nodes() -> Mapping[tuple[int, int], bytes]:
    frontier = merkle.TreeFrontier()
    return MappingProxyType({(level, at): value for leaf in _TREE for level, at, value in frontier.add(leaf)})


def _read_node(level: int, index: int) -> bytes:
    return _nodes()[level, index]


@cache
def _root(size: int) -> bytes:
    return merkle.root(size, _read_node)


def _hashes(data: bytes) -> list[bytes]:
    return [data[at : at + 32] for at in range(0, len(data), 32)]


def _inclusion(data: bytes) -> tuple[merkle.LeafHash, int, int, list[bytes]]:
    index, size = struct.unpack(">QQ", data[:16].ljust(16, b"\0"))
    leaf, *proof = _hashes(data[16:]) or [b""]
    return merkle.LeafHash(leaf), index, size, proof


def _verify_inclusion(value: tuple[merkle.LeafHash, int, int, list[bytes]]) -> tuple[merkle.LeafHash, int]:
    leaf, index, size, proof = value
    merkle.verify_inclusion(leaf, index, size, proof, _root(13))
    return leaf, index


def _is_in_the_tree(value: tuple[merkle.LeafHash, int]) -> None:
    promise(_TREE[value[1]] == value[0], "a leaf is proved that is not there")


def _inclusions() -> Iterator[bytes]:
    for index in (0, 6, 12):
        yield struct.pack(">QQ", index, 13) + _TREE[index] + b"".join(merkle.inclusion_proof(index, 13, _read_node))


def _verify_consistency(data: bytes) -> tuple[int, bytes]:
    old, new = struct.unpack(">QQ", data[:16].ljust(16, b"\0"))
    old_root, *proof = _hashes(data[16:]) or [b""]
    merkle.verify_consistency(old, old_root, new, _root(13), proof)
    return (old if new == 13 else 0), old_root


def _was_a_tree(value: tuple[int, bytes]) -> None:
    promise(value[0] == 0 or _root(value[0]) == value[1], "a past is proved that was not")


def _consistencies() -> Iterator[bytes]:
    for old in (1, 6, 8, 12, 13):
        yield struct.pack(">QQ", old, 13) + _root(old) + b"".join(merkle.consistency_proof(old, 13, _read_node))


_PARTS = ("checkpoint", "vkey", "leaves.jsonl", "bodies.jsonl")


@cache
def _bundle_files() -> tuple[bytes, ...]:
    bench = build_log()
    bench.append(3)
    bench.checkpoint()
    exported = folder() / "exported"
    bench.export(exported, bodies=True)
    return tuple((exported / name).read_bytes() for name in _PARTS)


def _bundle(data: bytes) -> Path:
    """Files are parted by NUL. Without a checkpoint the harness signs one over whatever the leaves are."""
    note, vkey, leaves, opened = (*data.split(b"\0", 3), b"", b"", b"", b"")[:4]
    if not note:
        tree = verify._Tree()
        for line in leaves.splitlines():
            tree.add(line)
        text = f"{ORIGIN}\n{tree.size}\n{checkpoint._b64(tree.root())}\n".encode()
        note, vkey = _signed_by_the_log(text[:-1]), checkpoint.encode_vkey(SIGNER.vkey).encode()
    bundle = folder() / "bundle"
    bundle.mkdir(exist_ok=True)
    for name, content in zip(_PARTS, (note, vkey, leaves, opened), strict=True):
        (bundle / name).write_bytes(content)
    return bundle


def _is_a_report(value: dict[str, Any]) -> None:
    told = {"origin", "size", "root", "verified", "failures", "checked", "not_checked"}
    promise(value.keys() == told, "not a report")
    promise(value["verified"] is not bool(value["failures"]), "verified in spite of failures")
    promise(len(value["failures"]) <= verify.MAX_FAILURES + 1, "too many failures")
    json.dumps(value).encode()


@cache
def _sealed_body() -> tuple[MemoryKeys, bytes, bodies.SealedBody]:
    keys, encoded, salt = MemoryKeys(), bodies.encode_body({"officer": "o-1", "n": [1, None, True]}), b"\x07" * 32
    sealed = bodies.seal_body(
        encoded,
        salt,
        keys,
        index=4,
        erase_after=NOW,
        retention_class=entries.RetentionClass.SIS_3Y,
        random=SeededRandom(),
    )
    return keys, bodies.commit_body(salt, encoded), sealed


def _body_parts(data: bytes) -> bodies.SealedBody:
    wrapped, nonce, ciphertext = data[:40], data[40:52], data[52:]
    return bodies.SealedBody(_sealed_body()[2].key_id, wrapped, nonce, ciphertext)


def _open_body(sealed: bodies.SealedBody) -> bodies.OpenedBody:
    keys, commitment, _ = _sealed_body()
    return bodies.open_body(sealed, keys, index=4, body_commit=commitment)


def _is_the_body(value: bodies.OpenedBody) -> None:
    promise(value.body["officer"] == "o-1", "another body opens")


_FORK_PARTS = ("first", "second", "vkey", "proof")


def _fork(data: bytes) -> Path:
    """Evidence of a fork; files are parted by NUL, and an empty second one is signed by the log."""
    parts = (*data.split(b"\0", 3), b"", b"", b"", b"")[:4]
    evidence = folder() / "fork"
    evidence.mkdir(exist_ok=True)
    for name, content in zip(_FORK_PARTS, parts, strict=True):
        (evidence / name).write_bytes(content)
    return evidence


def _forks() -> tuple[bytes, ...]:
    key = checkpoint.encode_vkey(SIGNER.vkey).encode()
    other = checkpoint.sign_note(f"{ORIGIN}\n9\n{checkpoint._b64(bytes(32))}\n", [SIGNER])
    later = checkpoint.sign_note(f"{ORIGIN}\n10\n{checkpoint._b64(bytes(32))}\n", [SIGNER])
    proof = "".join(f"{checkpoint._b64(digest)}\n" for digest in (bytes(32), b"\x01" * 32, b"\x02" * 32)).encode()
    return b"\0".join((_note(), other, key, b"")), b"\0".join((_note(), later, key, proof))


def _is_about_a_fork(value: dict[str, Any]) -> None:
    promise(value["forked"] in {True, False} and not (value["forked"] and value["failures"]), "proven and in doubt")
    json.dumps(value).encode()


def _guard(data: bytes) -> guard.FileGuard:
    return guard.FileGuard(file("guard", data))


def targets() -> Iterator[Target]:
    """Yield the targets."""
    refuses = (FormatError,)
    leaves = (leaf_bytes(), leaf_bytes(agreement=None, epoch=None, hold="court order", parent_id=b"\x01" * 16))
    yield Target(
        "leaf", kept(entries.parse_leaf), refuses, lambda: leaves, Shape.JSON, check=inverse(entries.encode_leaf)
    )
    yield Target(
        "note", kept(checkpoint.parse_note), refuses, lambda: (_note(), _cosigned()), Shape.TEXT,
        check=inverse(checkpoint.encode_note), max_bytes=checkpoint.MAX_NOTE_BYTES + 1,
    )  # fmt: skip
    yield Target(
        "checkpoint",
        lambda text: (text, checkpoint.parse_checkpoint(text)),
        refuses,
        lambda: (_checkpoint_text().encode(), _checkpoint_text("an extension", "another").encode()),
        Shape.TEXT,
        prepare=text_of,
        check=lambda value: promise(checkpoint.encode_checkpoint(value[1]) == value[0], "two texts, one meaning"),
    )
    yield Target(
        "checkpoint-signed",
        lambda note: checkpoint.verify_checkpoint(note, SIGNER.vkey, ORIGIN),
        (FormatError, ProofInvalidError),
        lambda: (_note(), _cosigned(), _checkpoint_text("x" * 500).encode() + b"\n"),
        Shape.TEXT,
        prepare=_signed_by_the_log,
        check=lambda value: promise(value.origin == ORIGIN and len(value.root) == 32, "not a checkpoint of this log"),
    )
    yield Target(
        "vkey",
        lambda text: (text, checkpoint.parse_vkey(text)),
        refuses,
        lambda: (checkpoint.encode_vkey(SIGNER.vkey).encode(), checkpoint.encode_vkey(WITNESS.vkey).encode()),
        Shape.TEXT,
        prepare=text_of,
        check=lambda value: promise(checkpoint.encode_vkey(value[1]) == value[0], "two texts, one key"),
    )
    proof = (b"\x01" * 32, b"\x02" * 32)
    witness_key = cosignature.WitnessKey("w.example/1", SIGNER.vkey.public_key)
    yield Target(
        "witness-key",
        lambda text: (text, cosignature.parse_witness_key(text)),
        refuses,
        lambda: (cosignature.encode_witness_key(witness_key).encode(),),
        Shape.TEXT,
        prepare=text_of,
        check=lambda value: promise(cosignature.encode_witness_key(value[1]) == value[0], "two texts, one key"),
    )
    yield Target(
        "signature-lines",
        kept(checkpoint.parse_signatures),
        refuses,
        lambda: (b"".join(map(checkpoint.encode_signature, checkpoint.parse_note(_cosigned()).signatures)),),
        Shape.TEXT,
        check=inverse(lambda lines: b"".join(map(checkpoint.encode_signature, lines))),
        max_bytes=checkpoint.MAX_NOTE_BYTES + 1,
    )
    yield Target(
        "add-checkpoint",
        kept(witness.parse_submission),
        refuses,
        lambda: (
            witness.encode_submission(witness.Submission(3, proof, _note())),
            witness.encode_submission(witness.Submission(0, (), _cosigned())),
        ),
        Shape.TEXT,
        check=inverse(witness.encode_submission),
    )
    yield Target(
        "tile-path",
        lambda text: (text, tiles.parse_tile_path(text)),
        refuses,
        lambda: (b"tile/0/x001/x234/067", b"tile/entries/273.p/112", b"tile/63/000.p/1"),
        Shape.TEXT,
        prepare=text_of,
        check=lambda value: promise(tiles.tile_path(*value[1]) == value[0], "two paths, one tile"),
    )
    yield Target(
        "entry-bundle",
        kept(lambda data: tiles.parse_bundle(data, 2)),
        refuses,
        lambda: (tiles.encode_bundle([leaf_bytes(), b""]), tiles.encode_bundle([b"a", b"b" * 300])),
        Shape.BYTES,
        check=inverse(tiles.encode_bundle),
    )
    yield Target("fork-evidence", verify.verify_fork, (), _forks, Shape.TEXT, prepare=_fork, check=_is_about_a_fork)
    yield Target(
        "receipt",
        kept(checkpoint.parse_tlog_proof),
        refuses,
        lambda: (
            checkpoint.encode_tlog_proof(3, proof, _note(), b"extra"),
            checkpoint.encode_tlog_proof(0, (), _note()),
        ),
        Shape.TEXT,
        check=inverse(lambda it: checkpoint.encode_tlog_proof(it.index, it.hashes, it.checkpoint, it.extra)),
        max_bytes=256 * 1024,
    )
    yield Target(
        "inclusion-proof",
        _verify_inclusion,
        (ProofInvalidError,),
        _inclusions,
        Shape.BYTES,
        prepare=_inclusion,
        check=_is_in_the_tree,
    )
    yield Target(
        "consistency-proof", _verify_consistency, (ProofInvalidError,), _consistencies, Shape.BYTES, check=_was_a_tree
    )
    yield Target(
        "log-bundle",
        verify.verify_bundle,
        (),
        lambda: (b"\0".join(_bundle_files()), b"\0\0" + b"\0".join(_bundle_files()[2:])),
        Shape.JSON_LINES,
        prepare=_bundle,
        check=_is_a_report,
        # Of many short lines each takes its own time: a bundle has no bound.
        max_bytes=8192,
    )
    sealed = _sealed_body()[2]
    yield Target(
        "body", _open_body, (ProofInvalidError,), lambda: (sealed.wrapped_key + sealed.nonce + sealed.ciphertext,), Shape.BYTES,
        prepare=_body_parts, check=_is_the_body,
    )  # fmt: skip
    yield Target(
        "guard-file",
        lambda it: it.highest(),
        (LogForkError,),
        lambda: (b"9 " + b"0a" * 32 + b"\n",),
        Shape.TEXT,
        prepare=_guard,
    )
