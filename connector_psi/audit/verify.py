"""Check an exported log bundle offline: ``python -m connector_psi.audit.verify BUNDLE``.

For a data protection officer, a supervisory authority or a peer who does not trust the node. Uses the standard
library and ``cryptography`` and nothing else of this package, so the file can be read in one sitting, copied out and
run alone; the tree and the note format are therefore written here a second time.

A bundle is a folder: ``checkpoint`` (a signed note), ``vkey`` (the log's public key), ``leaves.jsonl`` (one leaf a
line) and sometimes ``bodies.jsonl`` (opened bodies), ``checkpoints.jsonl`` (notes signed on the way), ``witnesses``
(their keys) and ``forks``. Checked: signatures of the log and of witnesses, every leaf's form, the root over all leaves
at every checkpoint that is here or that you kept (``--earlier``), every body against its leaf. A folder of ``first``
and ``second``, evidence of a fork, is checked for what it proves.

Keys inside a bundle prove nothing by themselves: whoever forges a bundle forges those too. Give the key that was handed
over at the log's ceremony with ``--vkey``, and those of witnesses with ``--witness``.

Prints one JSON object, ``{"origin","size","root","verified","failures","checked","not_checked"}``; failures name a
place and never a value, the last two say in sentences what was verified and what could not be.
Exit code 0: everything fits. 5: any doubt. 2: wrong usage.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MAX_FAILURES = 100
_MAX_LINE_BYTES = 64 * 1024 * 1024
_MAX_NOTE_BYTES = 1024 * 1024
_MAX_TIME_S = 253_402_300_799
_SALT_BYTES = 32
_LEAF_KEYS = frozenset(
    {
        "v",
        "event",
        "ts",
        "request_id",
        "parent_id",
        "side",
        "agreement",
        "epoch",
        "token_class",
        "purpose",
        "legal_basis",
        "mode",
        "policy_hash",
        "n_padded",
        "manifest_hash",
        "batch_commitment",
        "source_commitment",
        "actor_commitment",
        "retention_class",
        "erase_after",
        "hold",
        "body_commit",
    }
)


class _DoubtError(Exception):
    """Something does not fit; the text names the place."""


class _Failures:
    """What does not fit: counted, and told up to ``MAX_FAILURES``, for every line of a hostile bundle may be one."""

    def __init__(self) -> None:
        self.count = 0
        self._first: list[str] = []

    def append(self, failure: str) -> None:
        self.count += 1
        if self.count <= MAX_FAILURES:
            self._first.append(failure)

    def told(self) -> list[str]:
        beyond = self.count - len(self._first)
        return [*self._first, f"and {beyond} more"] if beyond else self._first


class _Tree:
    """The root over leaves given one by one, from the hashes of complete subtrees, largest first."""

    def __init__(self) -> None:
        self.size = 0
        self._subtrees: list[tuple[int, bytes]] = []

    def add(self, leaf: bytes) -> None:
        level, digest = 0, hashlib.sha256(b"\x00" + leaf).digest()
        while self._subtrees and self._subtrees[-1][0] == level:
            digest = _node(self._subtrees.pop()[1], digest)
            level += 1
        self._subtrees.append((level, digest))
        self.size += 1

    def root(self) -> bytes:
        if not self._subtrees:
            return hashlib.sha256(b"").digest()
        digest = self._subtrees[-1][1]
        for _, left in reversed(self._subtrees[:-1]):
            digest = _node(left, digest)
        return digest


class _Cosigned:
    """What witnesses said of the notes of one log."""

    def __init__(self, keys: Sequence[str]) -> None:
        self.keys = {key: _key(key, kind=4) for key in keys}
        self.newest: dict[str, tuple[int, int]] = {}

    def look(self, note: bytes, size: int) -> None:
        """Verify the lines of known witnesses."""
        text, lines = _split(note)
        for key, (name, key_id, public_key) in self.keys.items():
            for found_name, blob in lines:
                if (found_name, blob[:4]) != (name, key_id):
                    continue
                time_s, signature = int.from_bytes(blob[4:12], "big"), blob[12:]
                told = f"cosignature/v1\ntime {time_s}\n{text}".encode()
                try:
                    Ed25519PublicKey.from_public_bytes(public_key).verify(signature, told)
                except (InvalidSignature, ValueError):
                    raise _DoubtError(f"the cosignature of {name} does not verify") from None
                self.newest[key] = max(self.newest.get(key, (0, 0)), (size, time_s))


def verify_leaves(
    leaves: Iterable[bytes],
    checkpoint_note: bytes,
    vkey: str,
    *,
    bodies: Iterable[bytes] = (),
    checkpoints: Iterable[bytes] = (),
    earlier: Sequence[bytes] = (),
    witnesses: Sequence[str] = (),
    known_witnesses: Sequence[str] = (),
) -> dict[str, Any]:
    """Check leaves against a signed checkpoint and report.

    Args:
        leaves: Leaf bytes in order, all of them up to the checkpoint.
        checkpoint_note: The signed note.
        vkey: The log's key, ``name+id+key``.
        bodies: Lines of ``bodies.jsonl``.
        checkpoints: Lines of ``checkpoints.jsonl``: notes that the log signed on the way, which these leaves have to
            continue.
        earlier: Signed notes of the same log kept by somebody else, which they have to continue too.
        witnesses: Keys of witnesses, ``name+id+key`` of C2SP tlog-cosignature, each of which must have cosigned.
        known_witnesses: Such keys of which nobody vouches: what those cosigned is told, and that they did not is no
            failure.

    Returns:
        ``{"origin", "size", "root", "verified", "failures", "checked", "not_checked"}``. Origin is the key's name; size
        and base64 root are those of the leaves given; what was checked and what could not be is said in sentences.
        Never raises for what it finds.
    """
    failures, checked, wanted = _Failures(), [], set(witnesses)
    claims: list[tuple[str, int, bytes]] = []
    try:
        cosigned = _Cosigned([*witnesses, *known_witnesses])
    except _DoubtError as doubt:
        failures.append(f"witness: {doubt}")
        cosigned = _Cosigned(())
    signed_size = None
    notes = [("checkpoint", checkpoint_note), *((f"earlier checkpoint {n}", note) for n, note in enumerate(earlier, 1))]
    on_the_way = 0
    for what, line in (*notes, *((f"checkpoints.jsonl line {n}", line) for n, line in enumerate(checkpoints, 1))):
        try:
            note = _told_note(line) if what.startswith("checkpoints.jsonl") else line
            size, root = _signed_head(note, vkey)
            claims.append((what, size, root))
            cosigned.look(note, size)
            signed_size = size if what == "checkpoint" else signed_size
            on_the_way += what.startswith("checkpoints.jsonl")
        except _DoubtError as doubt:
            failures.append(f"{what}: {doubt}")
    tree, commitments = _Tree(), []
    claimed_sizes = {size for _, size, _ in claims}
    roots = {0: tree.root()}
    for index, leaf in enumerate(leaves):
        tree.add(leaf)
        if tree.size in claimed_sizes:
            roots[tree.size] = tree.root()
        try:
            commitments.append(_commitment(leaf))
        except _DoubtError as doubt:
            commitments.append("")
            failures.append(f"leaf {index}: {doubt}")
    for what, size, root in claims:
        if size not in roots:
            failures.append(f"{what}: covers more leaves than are here")
        elif roots[size] != root:
            failures.append(f"{what}: the leaves have another root")
    if signed_size is not None and tree.size > signed_size:
        failures.append(f"leaf {signed_size}: beyond the checkpoint")
    found = set[int]()
    for number, line in enumerate(bodies, 1):
        try:
            index = _check_body(line, commitments)
            if index in found:
                raise _DoubtError(f"a second body of leaf {index}")  # noqa: TRY301 - one place tells all doubts
            found.add(index)
        except _DoubtError as doubt:
            failures.append(f"bodies.jsonl line {number}: {doubt}")
    opened = len(found)
    if not failures.count:
        checked += [
            f"{tree.size} leaves are in canonical form and lead to the root that the log's key signed",
            *([f"they continue {on_the_way} checkpoints that the log signed on the way"] if on_the_way else []),
            *([f"they continue {len(earlier)} checkpoints that somebody else kept"] if earlier else []),
            *([f"{opened} bodies are those that were sealed"] if opened else []),
        ]
    not_checked = [] if opened == tree.size else [f"the bodies of {tree.size - opened} leaves, which are not here"]
    for key, (name, _, _) in cosigned.keys.items():
        size, time_s = cosigned.newest.get(key, (0, 0))
        if not size:
            if key in wanted:
                failures.append(f"witness {name}: cosigned no checkpoint that is here")
            else:
                not_checked.append(f"what {name} saw: it cosigned no checkpoint that is here")
            continue
        when = datetime.fromtimestamp(min(time_s, _MAX_TIME_S), tz=UTC).isoformat().replace("+00:00", "Z")
        if not failures.count:
            checked.append(f"{name} cosigned the first {size} leaves at {when}")
        if size < tree.size:
            not_checked.append(f"whether {name} would cosign the last {tree.size - size} leaves")
    return {
        "origin": vkey.partition("+")[0],
        "size": tree.size,
        "root": base64.b64encode(tree.root()).decode("ascii"),
        "verified": failures.count == 0,
        "failures": failures.told(),
        "checked": checked,
        "not_checked": not_checked,
    }


def verify_bundle(
    bundle: Path, *, vkey: str | None = None, earlier: Sequence[bytes] = (), witnesses: Sequence[str] = ()
) -> dict[str, Any]:
    """Check a bundle and report, as ``verify_leaves`` does.

    Args:
        bundle: The folder.
        vkey: The log's key from elsewhere; None takes the one in the bundle.
        earlier: Signed notes kept from earlier.
        witnesses: Keys of witnesses from elsewhere; none takes those in the bundle.
    """
    try:
        inside = _small(bundle / "vkey").decode("utf-8").removesuffix("\n")
        known = _small(bundle / "witnesses").decode("utf-8").split() if _is_there(bundle / "witnesses") else []
        report = verify_leaves(
            _lines(bundle / "leaves.jsonl"),
            _small(bundle / "checkpoint"),
            inside if vkey is None else vkey,
            bodies=_lines_if(bundle / "bodies.jsonl"),
            checkpoints=_lines_if(bundle / "checkpoints.jsonl"),
            earlier=earlier,
            witnesses=witnesses,
            known_witnesses=() if witnesses else known,
        )
        forks = (
            [verify_fork(path) for path in sorted((bundle / "forks").iterdir())] if (bundle / "forks").is_dir() else []
        )
    except (OSError, UnicodeDecodeError, _DoubtError):
        return _unreadable()
    if vkey is not None and vkey != inside:
        report["failures"].append("vkey: not the key given")
    for fork in forks:
        if fork["origin"] == report["origin"]:
            report["failures"].append("forks: this log signed two histories")
        elif not fork["origin"]:
            report["failures"].append("forks: evidence that cannot be read")
        elif fork["forked"]:
            report["checked"].append(f"the log {fork['origin']} signed two histories")
        else:
            report["not_checked"].append(f"whether the log {fork['origin']} signed two histories: there is no proof")
    report["verified"] = not report["failures"]
    if vkey is None:
        report["not_checked"].append(
            "whose key signed: it was taken from the bundle; give the one handed over (--vkey)"
        )
    if not earlier:
        report["not_checked"].append("what you saw before: give a checkpoint that you or a mirror kept (--earlier)")
    if not witnesses:
        keys = "their keys were taken from the bundle; give those" if known else "none are known; give the keys"
        report["not_checked"].append(f"whose witnesses cosigned: {keys} that were handed over (--witness)")
    report["not_checked"].append("that everything that happened was logged, and that bodies tell the truth")
    return report


def verify_fork(folder: Path, *, vkey: str | None = None) -> dict[str, Any]:
    """Check evidence of a fork: two notes, ``first`` and ``second``, that one log signed.

    Args:
        folder: With ``first``, ``second`` and ``vkey``.
        vkey: The log's key from elsewhere; None takes the one in the folder.

    Returns:
        ``{"origin", "forked", "failures"}`` and what both notes say. ``forked``: both are signed by the key and of one
        size with two roots, or ``proof`` shows that the larger tree began otherwise than the smaller note says.
    """
    failures: list[str] = []
    heads: dict[str, tuple[int, bytes]] = {}
    try:
        inside = _small(folder / "vkey").decode("utf-8").removesuffix("\n")
        notes = {name: _small(folder / name) for name in ("first", "second")}
    except (OSError, UnicodeDecodeError, _DoubtError):
        return {"origin": "", "forked": False, "failures": ["evidence: first, second or vkey is missing"]}
    key = inside if vkey is None else vkey
    for name, note in notes.items():
        try:
            heads[name] = _signed_head(note, key)
        except _DoubtError as doubt:
            failures.append(f"{name}: {doubt}")
    if vkey is not None and vkey != inside:
        failures.append("vkey: not the key given")
    said = {
        name: {"size": size, "root": base64.b64encode(root).decode("ascii")} for name, (size, root) in heads.items()
    }
    forked = False
    if not failures:
        (small, small_root), (large, large_root) = sorted(heads.values())
        if small == large:
            forked = small_root != large_root
        else:
            try:
                held, *proof = [
                    _unbase64(line.decode("ascii")) for line in (folder / "proof").read_bytes().splitlines()
                ]
                # The larger tree began with another one than the smaller note says.
                forked = _continues(small, held, large, large_root, proof) and held != small_root
            except (OSError, ValueError, _DoubtError):
                failures.append("proof: missing or damaged; notes of two sizes prove nothing by themselves")
    return {"origin": key.partition("+")[0], "forked": forked, **said, "failures": failures}


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m connector_psi.audit.verify",
        description="Check an exported log bundle offline.",
        epilog="Exit code 0: everything fits. 5: any doubt. 2: wrong usage.",
    )
    parser.add_argument("bundle", type=Path, help="folder with checkpoint, vkey, leaves.jsonl and perhaps bodies.jsonl")
    parser.add_argument("--vkey", help="the log's key as handed over, instead of trusting the one in the bundle")
    parser.add_argument(
        "--earlier",
        type=Path,
        action="append",
        default=[],
        help="a checkpoint that you or a mirror kept, or a folder of them; the log has to continue each",
    )
    parser.add_argument(
        "--witness", action="append", default=[], help="key of a witness as handed over; it must have cosigned"
    )
    options = parser.parse_args(argv)
    if not options.bundle.is_dir():
        parser.error("BUNDLE is not a folder")
    if (options.bundle / "first").exists():
        # Whether it proves a fork or not: somebody has to look at it.
        sys.stdout.write(json.dumps(verify_fork(options.bundle, vkey=options.vkey)) + "\n")
        return 5
    try:
        paths = [p for given in options.earlier for p in (sorted(given.iterdir()) if given.is_dir() else [given])]
        earlier = [path.read_bytes() for path in paths]
    except OSError:
        parser.error("an earlier checkpoint cannot be read")
    report = verify_bundle(options.bundle, vkey=options.vkey, earlier=earlier, witnesses=options.witness)
    if options.vkey is None:
        sys.stderr.write("The key was taken from the bundle; compare it with the one handed over.\n")
    sys.stdout.write(json.dumps(report) + "\n")
    return 0 if report["verified"] else 5


def _signed_head(note: bytes, vkey: str) -> tuple[int, bytes]:
    """Return size and root of a checkpoint that this key signed for the log of its own name."""
    name, key_id, public_key = _key(vkey)
    text, lines = _split(note)
    verified = False
    for found_name, blob in lines:
        if (found_name, blob[:4]) != (name, key_id):
            continue  # a witness, or a key unknown here
        try:
            Ed25519PublicKey.from_public_bytes(public_key).verify(blob[4:], text.encode("utf-8"))
        except (InvalidSignature, ValueError):
            raise _DoubtError("the signature does not verify") from None
        verified = True
    if not verified:
        raise _DoubtError("not signed by the log's key")
    head = text.split("\n")
    if len(head) < 4:
        raise _DoubtError("not a checkpoint")
    origin, size, root = head[:3]
    if origin != name:
        raise _DoubtError("of another log")
    if not (size.isascii() and size.isdecimal()) or len(size) > 19 or str(int(size)) != size:
        raise _DoubtError("the size is not a number")
    return int(size), _unbase64(root)


def _split(note: bytes) -> tuple[str, list[tuple[str, bytes]]]:
    """Return the text of a signed note, and name and bytes of each signature."""
    try:
        content = note.decode("utf-8")
    except UnicodeDecodeError:
        raise _DoubtError("not UTF-8") from None
    text, separator, tail = content.rpartition("\n\n")
    if not separator or not tail.endswith("\n"):
        raise _DoubtError("not a signed note")
    lines = []
    for line in tail[:-1].split("\n"):
        parts = line.split(" ")
        if len(parts) != 3 or parts[0] != "\u2014":
            raise _DoubtError("not a signature line")
        lines.append((parts[1], _unbase64(parts[2])))
    return text + "\n", lines


def _told_note(line: bytes) -> bytes:
    try:
        note = json.loads(line)
    except (ValueError, RecursionError):
        raise _DoubtError("not JSON") from None
    if not isinstance(note, str):
        raise _DoubtError("not a note")
    return note.encode("utf-8", "replace")


def _key(vkey: str, kind: int = 1) -> tuple[str, bytes, bytes]:
    """Return name, key ID and key; kind 1 signs checkpoints, 4 cosigns them."""
    name, _, rest = vkey.partition("+")
    key_id, _, encoded = rest.partition("+")
    key = _unbase64(encoded)
    expected = hashlib.sha256(name.encode("utf-8", "replace") + b"\n" + key).digest()[:4]
    if not name or len(key) != 33 or key[0] != kind or key_id != expected.hex():
        raise _DoubtError("the key is not an Ed25519 key in the form name+id+key")
    return name, expected, key[1:]


def _commitment(leaf: bytes) -> str:
    """Return a leaf's ``body_commit``, having checked that the leaf has one reading only."""
    said = _json_object(leaf)
    plain = all(value is None or type(value) in {str, int} for value in said.values())
    if set(said) != _LEAF_KEYS or not plain or _canonical(said) != leaf:
        raise _DoubtError("not a leaf in its canonical form")
    commitment = said["body_commit"]
    if not isinstance(commitment, str) or len(commitment) != 64:
        raise _DoubtError("without a commitment to its body")
    return commitment


def _check_body(line: bytes, commitments: list[str]) -> int:
    """Return the index of the leaf whose body this is."""
    said = _json_object(line)
    if _canonical(said) != line or set(said) != {"index", "salt", "body"}:
        raise _DoubtError("not an opened body in its canonical form")
    index, salt, body = said["index"], said["salt"], said["body"]
    if type(index) is not int or not 0 <= index < len(commitments):
        raise _DoubtError("not an opened body of one of these leaves")
    if not isinstance(salt, str) or not isinstance(body, str):
        raise _DoubtError("not an opened body of one of these leaves")
    try:
        salt_bytes = bytes.fromhex(salt)
    except ValueError:
        raise _DoubtError("not an opened body of one of these leaves") from None
    # Another length would move the border between salt and body, and let the body begin later than it did.
    if len(salt_bytes) != _SALT_BYTES:
        raise _DoubtError(f"leaf {index}: a salt of another length")
    _json_object(body.encode("utf-8", "replace"))
    opened = b"connector-psi/v1 body" + salt_bytes + body.encode("utf-8", "replace")
    if salt_bytes.hex() != salt or hashlib.sha256(opened).hexdigest() != commitments[index]:
        raise _DoubtError(f"does not match leaf {index}")
    return index


def _json_object(raw: bytes) -> dict[str, Any]:
    try:
        said = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        raise _DoubtError("not JSON") from None
    if not isinstance(said, dict):
        raise _DoubtError("not a JSON object")
    return said


def _canonical(said: dict[str, Any]) -> bytes:
    """Return the RFC 8785 form of strings, integers and null under ASCII keys; it shows up a key given twice."""
    return json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


def _unbase64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise _DoubtError("not base64") from None
    if base64.b64encode(data).decode("ascii") != text:
        raise _DoubtError("not base64 in its one form")
    return data


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def _continues(old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: list[bytes]) -> bool:
    """Return whether a consistency proof holds, 0 < old_size < new_size (RFC 9162, Section 2.1.4.2)."""
    path = list(proof) if old_size & (old_size - 1) else [old_root, *proof]
    if not 0 < old_size < new_size or not path or any(len(digest) != 32 for digest in path):
        return False
    fn, sn = old_size - 1, new_size - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            old, new = _node(sibling, old), _node(sibling, new)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            new = _node(new, sibling)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and old == old_root and new == new_root


def _lines(path: Path) -> Iterator[bytes]:
    with _regular(path).open("rb") as file:
        # A bound on the line keeps a hostile file from filling the memory.
        while line := file.readline(_MAX_LINE_BYTES):
            yield line.removesuffix(b"\n")


def _lines_if(path: Path) -> Iterator[bytes]:
    return _lines(path) if _is_there(path) else iter(())


def _is_there(path: Path) -> bool:
    # A link to nothing is there, and cannot be read.
    return path.is_symlink() or path.exists()


def _regular(path: Path) -> Path:
    """Refuse what never ends, such as a pipe or a device."""
    if not path.is_file():
        raise _DoubtError(f"{path.name}: not a file")
    return path


def _small(path: Path) -> bytes:
    with _regular(path).open("rb") as file:
        raw = file.read(_MAX_NOTE_BYTES + 1)
    if len(raw) > _MAX_NOTE_BYTES:
        raise _DoubtError(f"{path.name}: too long")
    return raw


def _unreadable() -> dict[str, Any]:
    failures = ["bundle: checkpoint, vkey or leaves.jsonl is missing or cannot be read"]
    nothing: list[str] = []
    told = {"failures": failures, "checked": nothing, "not_checked": ["everything"]}
    return {"origin": "", "size": 0, "root": "", "verified": False, **told}


if __name__ == "__main__":
    sys.exit(main())
