"""A copy of a log in a folder, as tiles: what ``log export --tiles`` writes and what a mirror keeps.

Rules:

1. The folder's ``checkpoint`` is written last, once its tiles are on the disk and lead to its root. A copy that was
   interrupted goes on from the checkpoint that is there.
2. What the log signed and what is here must be one history. Where they are not, both notes are kept in ``evidence``,
   and nothing is copied any more.

::

    FOLDER/checkpoint            the newest signed note
    FOLDER/checkpoints/SIZE      every one that was copied
    FOLDER/tile/...              C2SP tlog-tiles
    FOLDER/evidence/SIZE/        first, second, vkey: two notes that contradict each other; of two sizes also proof:
                                 the root that the larger tree had at the smaller size, and its consistency proof
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from connector_psi.audit.checkpoint import Checkpoint, VKey, verify_checkpoint
from connector_psi.audit.merkle import LeafHash, consistency_proof, leaf_hash
from connector_psi.audit.tiles import Get, TileTree, node_reader, root_at
from connector_psi.encoding.atomicfile import atomic_file
from connector_psi.errors import ConfigError, FormatError, LogForkError, ProofInvalidError, StorageError
from connector_psi.witness.evidence import write_evidence

Leaves = Callable[[int, int], Iterable[bytes]]
"""Leaves, or hashes of leaves, from an index up to and not including another."""


class LogCopy:
    """A folder with the tiles of one log.

    Args:
        folder: Made if absent.
        vkey: Key of the log; its name is the log's origin.
        entries: Whether leaves are kept, or hashes alone.

    Raises:
        ConfigError: The folder cannot be written, or holds another log.
        LogForkError: The log was seen to sign two histories.
    """

    def __init__(self, folder: Path, vkey: VKey, *, entries: bool = True) -> None:
        self._folder = folder
        self._vkey = vkey
        self._entries = entries
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "checkpoints").mkdir(exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{folder}: {error.strerror}") from None
        evidence = folder / "evidence"
        if evidence.is_dir() and any(evidence.iterdir()):
            raise LogForkError(f"log: signed two histories; both notes are in {evidence}")
        self._head: Checkpoint | None = None
        if self._path("checkpoint").exists():
            try:
                self._head = verify_checkpoint(self.note(), vkey, vkey.name)
            except (FormatError, ProofInvalidError):
                raise ConfigError(f"{folder}: holds a checkpoint that is not of this log") from None

    @property
    def head(self) -> Checkpoint | None:
        """What was copied, None for nothing yet."""
        return self._head

    def note(self) -> bytes:
        """Return the newest signed note of the copy.

        Raises:
            StorageError: There is none.
        """
        return self._read("checkpoint")

    def tile(self, path: str) -> bytes:
        """Return a tile or an entry bundle.

        Raises:
            StorageError: It is not there.
        """
        return self._read(path)

    def extend(self, note: bytes, leaves: Leaves) -> Checkpoint:
        """Copy what a newer checkpoint covers.

        Args:
            note: Signed by the log, from anywhere.
            leaves: Gives what is missing here.

        Returns:
            The checkpoint of the note.

        Raises:
            FormatError, ProofInvalidError: The note is not of this log, or what was given does not lead to it.
            LogForkError: The log signed another history than the one that is here.
            StorageError: The folder is damaged.
            UnavailableError: The disk is full.
        """
        new = verify_checkpoint(note, self._vkey, self._vkey.name)
        held = self._head
        if held is not None and new.size <= held.size:
            if root_at(new.size, self._read, held.size) != new.root:
                raise self._fork(new, note, held, self._read)
            if new.size == held.size:
                self._write("checkpoint", note)
            return new
        tree = (
            TileTree.resume(self._put, self._read, held.size, entries=self._entries)
            if held
            else TileTree(self._put, entries=self._entries)
        )
        if held is not None and tree.root() != held.root:
            raise StorageError(f"{self._folder}: the tiles do not lead to the checkpoint that lies beside them")
        for given in leaves(tree.size, new.size):
            if tree.size == new.size:
                break
            if self._entries:
                tree.add(given)
            else:
                tree.add_hash(LeafHash(given))
        if tree.size != new.size:
            raise ProofInvalidError("log: fewer entries were given than the checkpoint covers")
        if tree.root() != new.root:
            # Whoever gave the entries may have given wrong ones; the same from the start tells.
            raise self._other_root(new, note, leaves)
        tree.flush()
        self._write(f"checkpoints/{new.size}", note)
        self._write("checkpoint", note)
        self._head = new
        return new

    def _other_root(self, new: Checkpoint, note: bytes, leaves: Leaves) -> ProofInvalidError | LogForkError:
        if self._head is not None:
            tiles: dict[str, bytes] = {}
            again = TileTree(tiles.__setitem__, entries=False)
            for given in leaves(0, new.size):
                again.add_hash(leaf_hash(given) if self._entries else LeafHash(given))
            if again.size == new.size and again.root() == new.root:
                again.flush()
                return self._fork(new, note, new, tiles.__getitem__)
        return ProofInvalidError("log: the entries do not lead to the checkpoint")

    def _fork(self, new: Checkpoint, note: bytes, later: Checkpoint, get: Get) -> LogForkError:
        """Keep both notes, and what the later of both trees had at the size of the earlier one.

        Args:
            new: What the note says.
            note: The one that contradicts what is here.
            later: The checkpoint of the larger tree.
            get: Its tiles.
        """
        assert self._head is not None
        folder = self._folder / "evidence" / str(new.size)
        known = self._folder / "checkpoints" / str(new.size)
        first = known.read_bytes() if known.exists() else self.note()
        small, proof = min(new.size, self._head.size), list[bytes]()
        if not known.exists() and small:
            hashes = consistency_proof(small, later.size, node_reader(get, later.size))
            proof = [root_at(small, get, later.size), *hashes]
        write_evidence(folder, first, note, self._vkey, proof)
        return LogForkError(f"log: signed another history at size {new.size}; both notes are in {folder}")

    def _put(self, path: str, raw: bytes) -> None:
        target = self._path(path)
        # Another one may have been left by a copy that ended before its root was checked.
        if not target.exists() or target.read_bytes() != raw:
            self._write(path, raw)

    def _write(self, path: str, raw: bytes) -> None:
        target = self._path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(target) as stream:
            stream.write(raw)

    def _read(self, path: str) -> bytes:
        try:
            return self._path(path).read_bytes()
        except OSError as error:
            raise StorageError(f"{self._folder / path}: {error.strerror}") from None

    def _path(self, path: str) -> Path:
        return self._folder / path
