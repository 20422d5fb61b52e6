"""All secrets of a node at rest: one folder, one master, and what can be destroyed without touching the rest.

Decides: where a secret lies, what it is wrapped by, how it is destroyed, and how keys for other layers are derived.
Leaves to others: deriving PRF keys from a seed (``protocol``), storing wrapped blobs (``storage``), when an epoch or a
month ends (``node``), the TLS keys (``pki``), and the meaning of what is encrypted.

::

    DIR/keys/                0700
      master.key             0600, 32 raw bytes; absent when an HSM holds the master
      node.key               the node key, wrapped by the master; everything below is sealed by what derives from it
      signing.key            Ed25519 seed: manifests, cases, envelopes
      log.key                Ed25519 seed: log checkpoints
      epochs/CODE@N.key      the epoch key of agreement CODE, epoch N. NEVER IN A BACKUP
      log/MONTH.CLASS.ID.key what wraps the body keys of one month of expiry and one retention class

    master -> node key -> signing, log, epoch and month key files; node_key(purpose); wrap(purpose)
    epoch key -> the wrapped seed (kept in the database), the set files of the epoch

Rules:

1. A destroyed key is gone for every copy of what it wrapped: the database and its backups hold wrapped blobs alone.
   So ``epochs`` is in no backup at all, and ``log`` in none that outlives the keys in it.
2. A file is written whole (temporary file, fsync, rename, fsync of the folder) before anything that depends on it
   exists. Destruction makes the key unavailable first (rename), then overwrites, then unlinks; ``open`` finishes what
   a crash cut short.
3. Nothing is kept in memory about an epoch or a month: a destruction by another process is seen by the next call.

Not achieved: Python does not clear memory, so a key may stay in the process until it ends. Overwriting does not reach
what a journal, a copy-on-write file system, a snapshot or a flash controller has kept; the files are sealed by the node
key, so that such a remnant is worthless without it. Whoever reads ``master.key`` and the folder reads everything; that
is what ``HsmPort`` is for. Nothing here notices that the whole folder was put back to an older state.
"""

from __future__ import annotations

import fcntl
import hmac
import os
import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import NoReturn, Protocol
from urllib.parse import quote, unquote

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from connector_psi.domain.clock import RandomSource, SystemRandom
from connector_psi.errors import (
    ConfigError,
    ConflictError,
    InputError,
    KeyUnavailableError,
    StorageError,
    UnavailableError,
)

KEY_BYTES = 32
_NONCE_BYTES = 12
_SEAL_VERSION = b"\x01"
_PURPOSE = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_MONTH = re.compile(r"[0-9]{4}-(?:0[1-9]|1[0-2])")
_RETENTION_CLASS = re.compile(r"[A-Z][A-Z0-9_]{0,31}")
_KEY_ID = re.compile(r"[0-9]{4}-(?:0[1-9]|1[0-2])\.[A-Z][A-Z0-9_]{0,31}\.[0-9a-f]{16}")
_EPOCH_FILE = re.compile(r"(.+)@([0-9]{1,20})\.key")


class SecretBytes(bytes):
    """Bytes that do not show themselves: hidden ``repr``, no pickling or copying, comparison in constant time.

    A guard against accidents (a log line, a traceback, an ``asdict``), not against code that means to read it: it is
    accepted wherever bytes are, and ``reveal`` gives the plain form.
    """

    __slots__ = ()

    def reveal(self) -> bytes:
        """Return plain bytes. Every call is a place where a secret may start to show."""
        return bytes(self)

    def __repr__(self) -> str:
        return "SecretBytes(<hidden>)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, bytes) and hmac.compare_digest(bytes(self), bytes(other))

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return super().__hash__()

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("a secret is neither pickled nor copied")


class HsmPort(Protocol):
    """Whoever holds the master key. Used once when a keyring opens, and never again.

    A PKCS #11 token implements it with an AES-GCM key that does not leave the token.
    """

    def wrap(self, plaintext: bytes, ad: bytes) -> bytes:
        """Return the plaintext encrypted under the master, bound to ``ad``."""
        ...

    def unwrap(self, blob: bytes, ad: bytes) -> bytes:
        """Invert ``wrap``.

        Raises:
            StorageError: Not made by this master for this ``ad``.
        """
        ...


class FileMaster:
    """A master key in a file: for development, and for nodes whose disk is protected otherwise."""

    def __init__(self, key: bytes, random: RandomSource) -> None:
        self._key = SecretBytes(key)
        self._random = random

    @classmethod
    def create(cls, path: Path, random: RandomSource) -> FileMaster:
        """Write a new master key with mode 0600.

        Raises:
            ConfigError: There is one already, or the place cannot be written.
        """
        if path.exists():
            raise ConfigError(f"{path}: exists; a new master would make all that it wraps unreadable")
        key = random.bytes(KEY_BYTES)
        try:
            _write(path, key)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from None
        return cls(key, random)

    @classmethod
    def load(cls, path: Path, random: RandomSource) -> FileMaster:
        """Read the master key.

        Raises:
            ConfigError: Missing, of another length, or accessible to group or world: then it is no secret any more.
        """
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                key = file.read(KEY_BYTES + 1)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from None
        if mode & 0o077:
            raise ConfigError(f"{path}: accessible to group or world; replace the key, then chmod 600")
        if len(key) != KEY_BYTES:
            raise ConfigError(f"{path}: not {KEY_BYTES} bytes")
        return cls(key, random)

    def wrap(self, plaintext: bytes, ad: bytes) -> bytes:
        """Return the plaintext encrypted under the master, bound to ``ad``."""
        return _seal(self._key, self._random, plaintext, ad)

    def unwrap(self, blob: bytes, ad: bytes) -> bytes:
        """Invert ``wrap``.

        Raises:
            StorageError: Not made by this master for this ``ad``.
        """
        return _unseal(self._key, blob, ad, "master key")


@dataclass(frozen=True)
class EpochRecord:
    """What the database keeps of a new epoch's secrets: a blob that is noise once the epoch key is destroyed."""

    agreement: str
    epoch: int
    wrapped_seed: bytes = field(repr=False)


class Keyring:
    """The secrets of one node. Safe to share between threads; processes exclude one another by a lock file.

    Files that cannot be read or written raise ``UnavailableError`` (retry, for instance when there is space again);
    files that are not what this keyring wrote raise ``StorageError``.
    """

    def __init__(self, folder: Path, node_key: bytes, random: RandomSource) -> None:
        """Hold an opened keyring; use ``create`` or ``open``."""
        self._folder = folder
        self._random = random
        self._node = SecretBytes(node_key)
        self._files = SecretBytes(_derive(self._node, "files", ""))

    @classmethod
    def create(cls, directory: Path, random: RandomSource, master: HsmPort | None = None) -> Keyring:
        """Make the keys of a new node under ``directory/keys``.

        Args:
            directory: The node directory.
            random: Source of every key and nonce.
            master: Who wraps the node key; without one, a new ``FileMaster``.

        Raises:
            ConfigError: There are keys already, or the place cannot be written. An interrupted creation counts as keys:
                nothing depends on them yet, so the operator removes the folder.
        """
        folder = directory / "keys"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
            with _locked(folder):
                if (folder / "node.key").exists():
                    raise ConfigError(f"{folder}: holds keys already")
                master = master or FileMaster.create(folder / "master.key", random)
                for name in ("epochs", "log"):
                    (folder / name).mkdir(mode=0o700, exist_ok=True)
                node_key = random.bytes(KEY_BYTES)
                _write(folder / "node.key", master.wrap(node_key, _ad("node")))
                keyring = cls(folder, node_key, random)
                for name in ("signing", "log"):
                    keyring._put(folder / f"{name}.key", random.bytes(KEY_BYTES), _ad(name))
        except OSError as error:
            raise ConfigError(f"{folder}: {error.strerror}") from None
        return keyring

    @classmethod
    def open(cls, directory: Path, random: RandomSource | None = None, master: HsmPort | None = None) -> Keyring:
        """Open the keys under ``directory/keys``, and finish destructions that a crash interrupted.

        Raises:
            ConfigError: No keys, a folder or master key that others can read, or a master that these keys were not
                wrapped by.
        """
        folder = directory / "keys"
        random = random or SystemRandom()
        try:
            if folder.stat().st_mode & 0o077:
                raise ConfigError(f"{folder}: accessible to group or world; chmod 700 it")
            master = master or FileMaster.load(folder / "master.key", random)
            node_key = master.unwrap((folder / "node.key").read_bytes(), _ad("node"))
            for name in ("epochs", "log"):
                (folder / name).mkdir(mode=0o700, exist_ok=True)  # a restored backup has none, on purpose
                _finish_destructions(folder, folder / name)
        except OSError as error:
            raise ConfigError(f"{folder}: {error.strerror}") from None
        except UnavailableError:
            raise
        except StorageError:
            raise ConfigError(f"{folder / 'node.key'}: not wrapped by this master, or damaged") from None
        return cls(folder, node_key, random)

    def rewrap(self, master: HsmPort) -> None:
        """Hand the node key over to another master, in one atomic write; how a node moves from a file to an HSM.

        The old ``master.key`` is the caller's to destroy once ``open`` succeeds with the new one.
        """
        with _storage_errors("node.key"), _locked(self._folder):
            _write(self._folder / "node.key", master.wrap(self._node, _ad("node")))

    def __repr__(self) -> str:
        return f"Keyring({str(self._folder)!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a keyring is not pickled")

    # Keys for this node's own use

    @property
    def signing_key(self) -> Ed25519PrivateKey:
        """Signs manifests, cases and envelopes. Read from its file each time."""
        return Ed25519PrivateKey.from_private_bytes(self._get(self._folder / "signing.key", _ad("signing")))

    @property
    def log_key(self) -> Ed25519PrivateKey:
        """Signs log checkpoints, and nothing else."""
        return Ed25519PrivateKey.from_private_bytes(self._get(self._folder / "log.key", _ad("log")))

    @property
    def witness_key(self) -> Ed25519PrivateKey:
        """Cosigns checkpoints of other logs, and nothing else: ``tlog-cosignature`` wants a key of its own."""
        return Ed25519PrivateKey.from_private_bytes(self.node_key("witness").reveal())

    def node_key(self, purpose: str) -> SecretBytes:
        """Derive the 32-byte key of an at-rest purpose (``payload``, ``case``, ``set``); the same on every call.

        Two purposes never share a key, nor does one share it with ``wrap``.

        Raises:
            InputError: Not a lowercase word of at most 32 characters.

        Source: RFC 5869, HKDF-SHA256.
        """
        return _derive(self._node, "purpose", _checked_purpose(purpose))

    def wrap(self, purpose: str, plaintext: bytes, ad: bytes) -> bytes:
        """Encrypt a small secret for the database: AES-256-GCM with a random nonce under a key of this purpose.

        Args:
            purpose: A lowercase word; blobs of one purpose do not open under another.
            plaintext: At most 2^32 of them per purpose, which keeps random nonces from meeting.
            ad: What the blob belongs to (row, agreement, epoch), so that blobs cannot be swapped.

        Returns:
            29 bytes more than the plaintext: ``0x01 || nonce(12) || ciphertext || tag(16)``.

        Source: NIST SP 800-38D, section 8.3.
        """
        return _seal(_derive(self._node, "wrap", _checked_purpose(purpose)), self._random, plaintext, ad)

    def unwrap(self, purpose: str, blob: bytes, ad: bytes) -> SecretBytes:
        """Invert ``wrap``.

        Raises:
            StorageError: Altered, cut, or wrapped for another purpose, ``ad`` or node.
        """
        return _unseal(_derive(self._node, "wrap", _checked_purpose(purpose)), blob, ad, f"blob of purpose {purpose}")

    def actor_commitment(self, agreement: str, day: date, person: str) -> bytes:
        """Return the 32-byte pseudonym of a person or system towards one agreement on one day.

        Stable within agreement and day, so that a peer sees a run of queries by one colleague; unlinkable across
        either, and to the person, without this node's key.

        Args:
            agreement: Agreement code.
            day: UTC.
            person: The identity URI.
        """
        parts = _lp(agreement) + _lp(f"{day:%Y-%m-%d}") + _lp(person)
        return hmac.digest(self.node_key("actor"), b"connector-psi/v1 actor" + parts, "sha256")

    # Epochs

    def new_epoch(self, agreement: str, epoch: int) -> EpochRecord:
        """Make the key and the seed of an epoch. The key is on disk before the record is returned.

        An epoch whose record never reached the database is destroyed and made anew: one key never gets two seeds, nor
        its files two contents.

        Raises:
            ConflictError: This epoch has a key already.
            InputError: An agreement code or epoch out of range.
            UnavailableError: The key could not be written; nothing was made.
        """
        key = self._new_epoch_key(agreement, epoch)
        seed = self._random.bytes(KEY_BYTES)
        wrapped = _seal(_derive(key, "seed", ""), self._random, seed, _epoch_ad(agreement, epoch))
        return EpochRecord(agreement, epoch, wrapped)

    def new_taken_epoch(self, agreement: str, epoch: int) -> None:
        """Make the key of what a querier keeps of an epoch that it took; a key that a crash left behind is destroyed.

        It has no seed; ``epoch_file_key`` and ``destroy_epoch`` are the same as for an owner's.

        Raises:
            InputError: An agreement code or epoch out of range.
            UnavailableError: The key could not be written; nothing was made.
        """
        self.destroy_epoch(agreement, epoch)
        self._new_epoch_key(agreement, epoch)

    def _new_epoch_key(self, agreement: str, epoch: int) -> bytes:
        path = self._epoch_path(agreement, epoch)
        key = self._random.bytes(KEY_BYTES)
        with _storage_errors("epoch key"), _locked(self._folder):
            if path.exists():
                raise ConflictError(f"epoch {epoch} of {agreement}: has a key already")
            self._put(path, key, _epoch_ad(agreement, epoch))
        return key

    def epoch_seed(self, agreement: str, epoch: int, wrapped_seed: bytes) -> SecretBytes:
        """Unwrap the 32-byte seed from which the PRF keys of the epoch derive.

        Raises:
            KeyUnavailableError: The epoch key was destroyed (or never made here).
            StorageError: The key file or the wrapped seed was altered, or belongs to another epoch.
        """
        key = self._get(self._epoch_path(agreement, epoch), _epoch_ad(agreement, epoch))
        place = f"wrapped seed of epoch {epoch} of {agreement}"
        return _unseal(_derive(key, "seed", ""), wrapped_seed, _epoch_ad(agreement, epoch), place)

    def epoch_file_key(self, agreement: str, epoch: int) -> SecretBytes:
        """Return the 32-byte key of the epoch's flat files. Whoever keeps it in memory drops it with the epoch.

        Raises:
            KeyUnavailableError: The epoch key was destroyed (or never made here).

        Cost: One small file read and two AES or HMAC calls; ask once per file, not per row.
        """
        key = self._get(self._epoch_path(agreement, epoch), _epoch_ad(agreement, epoch))
        return _derive(key, "set files", "")

    def destroy_epoch(self, agreement: str, epoch: int) -> None:
        """Destroy the epoch key, and with it the seed and the set files wherever they are. Idempotent.

        When this returns, no process can obtain the key again and its file is overwritten and gone from the disk.

        Raises:
            UnavailableError: The disk refused; the key may be unavailable already, and the call is repeated.
        """
        path = self._epoch_path(agreement, epoch)
        with _storage_errors("epoch key"), _locked(self._folder):
            _destroy(path)

    def epochs(self) -> list[tuple[str, int]]:
        """Return (agreement, epoch) of every epoch key that exists, sorted; to find those that nothing refers to."""
        with _storage_errors("epoch keys"):
            names = [path.name for path in (self._folder / "epochs").iterdir()]
        matches = [match for match in map(_EPOCH_FILE.fullmatch, names) if match]
        return sorted((unquote(match[1]), int(match[2])) for match in matches)

    def new_case_keys(self) -> tuple[SecretBytes, SecretBytes]:
        """Return fresh (``K_ticket``, ``K_redeem``), 32 bytes each.

        Independent of any epoch key, because cases outlive the epoch: the caller keeps them ``wrap``ped in the database
        and deletes them at the end of the case window.
        """
        return SecretBytes(self._random.bytes(KEY_BYTES)), SecretBytes(self._random.bytes(KEY_BYTES))

    def month_keys(self) -> MonthKeys:
        """Return the keys that wrap the bodies of the disclosure log."""
        return MonthKeys(self._folder, self._files, self._random)

    # Internals

    def _epoch_path(self, agreement: str, epoch: int) -> Path:
        name = quote(agreement, safe="")
        if not 0 < len(name) <= 200 or not 0 <= epoch < 1 << 64:
            raise InputError("agreement code or epoch out of range")
        return self._folder / "epochs" / f"{name}@{epoch}.key"

    def _put(self, path: Path, key: bytes, ad: bytes) -> None:
        _write(path, _seal(self._files, self._random, key, ad))

    def _get(self, path: Path, ad: bytes) -> SecretBytes:
        return _read_sealed(path, self._files, ad)


class MonthKeys:
    """The keys that wrap the body keys of the disclosure log, one a month of expiry and retention class.

    Implements ``audit.bodies.WrappingKeys``: a key that ``get_or_create`` returned is durable, whatever becomes of a
    transaction; after ``destroy`` every body under it is noise, in backups too. A destroyed key's id never comes back:
    a later request for the same month and class gets a new key under a new id.
    """

    def __init__(self, folder: Path, sealing_key: bytes, random: RandomSource) -> None:
        """Hold the folder; use ``Keyring.month_keys``."""
        self._folder = folder
        self._sealing_key = SecretBytes(sealing_key)
        self._random = random

    def __repr__(self) -> str:
        return f"MonthKeys({str(self._folder / 'log')!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("keys are not pickled")

    def get_or_create(self, month: str, retention_class: str) -> tuple[str, SecretBytes]:
        """Return (key id, 32-byte key) of a month and class; made on first use, one for all processes.

        Args:
            month: ``YYYY-MM``, UTC.
            retention_class: Such as ``SIS_3Y``.

        Raises:
            InputError: Not such a month or class.
            UnavailableError: The key could not be read or written.
            StorageError: The key file was altered.
        """
        if not _MONTH.fullmatch(month) or not _RETENTION_CLASS.fullmatch(retention_class):
            raise InputError("month or retention class malformed")
        prefix = f"{month}.{retention_class}."
        with _storage_errors("log key"):
            found = self._find(prefix)
            if found is None:
                with _locked(self._folder):
                    found = self._find(prefix) or self._create(prefix)
        return found, self.get(found)

    def get(self, key_id: str) -> SecretBytes:
        """Return the 32-byte key of an id.

        Raises:
            KeyUnavailableError: Destroyed, or never made here.
            StorageError: Not an id, or the key file was altered.
        """
        return _read_sealed(self._path(key_id), self._sealing_key, _ad("log body", key_id))

    def destroy(self, key_id: str) -> None:
        """Destroy a key; idempotent, with the promises of ``Keyring.destroy_epoch``."""
        path = self._path(key_id)
        with _storage_errors("log key"), _locked(self._folder):
            _destroy(path)

    def key_ids(self) -> list[str]:
        """Return the ids of all keys that exist, oldest month first; for the daily erasure job."""
        with _storage_errors("log keys"):
            names = [path.name.removesuffix(".key") for path in (self._folder / "log").iterdir()]
        return sorted(name for name in names if _KEY_ID.fullmatch(name))

    def _find(self, prefix: str) -> str | None:
        return next((key_id for key_id in self.key_ids() if key_id.startswith(prefix)), None)

    def _create(self, prefix: str) -> str:
        key_id = prefix + self._random.bytes(8).hex()
        sealed = _seal(self._sealing_key, self._random, self._random.bytes(KEY_BYTES), _ad("log body", key_id))
        _write(self._path(key_id), sealed)
        return key_id

    def _path(self, key_id: str) -> Path:
        # Ids come back from the database: one that is not ours must not become a path.
        if not _KEY_ID.fullmatch(key_id):
            raise StorageError("log key: malformed id")
        return self._folder / "log" / f"{key_id}.key"


# Sealing and deriving


def _seal(key: bytes, random: RandomSource, plaintext: bytes, ad: bytes) -> bytes:
    nonce = random.bytes(_NONCE_BYTES)
    return _SEAL_VERSION + nonce + AESGCM(key).encrypt(nonce, plaintext, ad)


def _unseal(key: bytes, blob: bytes, ad: bytes, place: str) -> SecretBytes:
    nonce, ciphertext = blob[1 : 1 + _NONCE_BYTES], blob[1 + _NONCE_BYTES :]
    if blob[:1] != _SEAL_VERSION or len(ciphertext) < 16:
        raise StorageError(f"{place}: not in sealed form")
    try:
        return SecretBytes(AESGCM(key).decrypt(nonce, ciphertext, ad))
    except InvalidTag:
        raise StorageError(f"{place}: altered, or sealed by another key") from None


def _derive(key: bytes, use: str, name: str) -> SecretBytes:
    info = b"connector-psi/v1 keyring" + _lp(use) + _lp(name)
    return SecretBytes(HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=info).derive(key))


def _checked_purpose(purpose: str) -> str:
    if not _PURPOSE.fullmatch(purpose):
        raise InputError("purpose of a key malformed")
    return purpose


def _lp(text: str) -> bytes:
    data = unicodedata.normalize("NFC", text).encode()
    return len(data).to_bytes(2, "big") + data


def _ad(kind: str, name: str = "") -> bytes:
    return b"connector-psi/v1 key file" + _lp(kind) + _lp(name)


def _epoch_ad(agreement: str, epoch: int) -> bytes:
    return _ad("epoch", agreement) + epoch.to_bytes(8, "big")


# Files


def _read_sealed(path: Path, key: bytes, ad: bytes) -> SecretBytes:
    try:
        blob = path.read_bytes()
    except FileNotFoundError:
        raise KeyUnavailableError(f"{path.name}: destroyed, or never made here") from None
    except OSError as error:
        raise UnavailableError(f"{path.name}: {error.strerror}") from None
    return _unseal(key, blob, ad, path.name)


@contextmanager
def _storage_errors(place: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnavailableError(f"{place}: {error.strerror}") from None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Exclude other writers, threads and processes alike; the kernel frees the lock when the process dies."""
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, data: bytes) -> None:
    """Replace a file whole and durably, mode 0600. Under the lock, because the temporary name is fixed.

    Fixed, so that a temporary file left by a crash is found again by the next write or destruction of its key.
    """
    temporary = path.with_name(path.name + ".tmp")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    temporary.replace(path)
    _sync_folder(path.parent)


def _destroy(path: Path) -> None:
    """Make a key file unavailable, then erase it. Under the lock; may be repeated after any failure."""
    gone = path.with_name(path.name + ".gone")
    with suppress(FileNotFoundError):
        path.replace(gone)
        # Readers must not find it again after a power cut, even if the erasure below is never reached.
        _sync_folder(path.parent)
    _erase(gone)
    _erase(path.with_name(path.name + ".tmp"))
    _sync_folder(path.parent)


def _erase(path: Path) -> None:
    with suppress(FileNotFoundError):
        with path.open("r+b") as file:
            file.write(bytes(os.fstat(file.fileno()).st_size))
            file.flush()
            os.fsync(file.fileno())
        path.unlink()


def _finish_destructions(keys: Path, folder: Path) -> None:
    if not any(path.suffix in {".gone", ".tmp"} for path in folder.iterdir()):
        return
    with _locked(keys):  # so that no temporary file here belongs to a writer still at work
        for path in folder.iterdir():
            if path.suffix in {".gone", ".tmp"}:
                _erase(path)
        _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
