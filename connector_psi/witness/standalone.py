"""A witness of no authority, such as a supervisory authority's: a folder with a key, the logs it knows, what it saw.

::

    DIR/witness.key      Ed25519 seed, 0600; cosigns and nothing else
    DIR/witness.name     the key's name
    DIR/logs/HASH        vkey of a log, one file each; HASH is that of its origin
    DIR/witness.db       the latest checkpoint of each, and forks
    DIR/evidence         of each fork, both notes

The folder must never be put back to an older state: a witness that forgets may cosign two histories. One that lost it
is given a new key.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from connector_psi.audit.checkpoint import VKey, encode_vkey, parse_vkey
from connector_psi.audit.cosignature import Cosigner
from connector_psi.audit.witness import Refusal, Submission, origin_of
from connector_psi.domain.clock import Clock, RandomSource
from connector_psi.encoding.atomicfile import atomic_file
from connector_psi.errors import ConfigError, FormatError
from connector_psi.storage import witnesses
from connector_psi.storage.lock import DirectoryLock
from connector_psi.storage.schema import log_forks, witnessed
from connector_psi.storage.store import Database
from connector_psi.storage.witnesses import ForkRow, WitnessedRow
from connector_psi.witness.client import origin_hash
from connector_psi.witness.cosigning import WitnessAnswer, cosign
from connector_psi.witness.evidence import write_evidence

_KEY_BYTES = 32


class KeyFolder:
    """A folder with a key of a witness or a mirror.

    Args:
        folder: Made with a new key if it is absent or empty.
        kind: ``witness`` or ``mirror``; names the files.
        name: Name of the key; needed for a new one.
        random: Source of the key.

    Raises:
        ConfigError: A new one without a name, another name than before, or files that do not fit.
        UnavailableError: Another process has it open.
    """

    def __init__(self, folder: Path, kind: str, name: str, random: RandomSource) -> None:
        self.folder = folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = DirectoryLock(folder / "lock")
        except OSError as error:
            raise ConfigError(f"{folder}: {error.strerror}") from None
        try:
            self.cosigner = _cosigner(folder, kind, name, random)
        except BaseException:
            self._lock.release()
            raise

    def close(self) -> None:
        """Let go of it."""
        self._lock.release()


def _cosigner(folder: Path, kind: str, name: str, random: RandomSource) -> Cosigner:
    key_file, name_file = folder / f"{kind}.key", folder / f"{kind}.name"
    try:
        if not key_file.exists():
            if not name:
                raise ConfigError(f"{folder}: a new {kind} needs --name, such as example.org/{kind}")
            if name_file.exists():
                raise ConfigError(f"{key_file}: gone; what it cosigned is known, so it cannot be replaced in place")
            seed = random.bytes(_KEY_BYTES)
            made = Cosigner(name, Ed25519PrivateKey.from_private_bytes(seed))
            with atomic_file(key_file) as stream:
                stream.write(seed)
            with atomic_file(name_file) as stream:
                stream.write(name.encode() + b"\n")
            return made
        raw, held = key_file.read_bytes(), name_file.read_text(encoding="utf-8").strip()
        if len(raw) != _KEY_BYTES:
            raise ConfigError(f"{key_file}: not a key")
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}") from None
    except FormatError as error:
        raise ConfigError(f"--name: {error}") from None
    if name and name != held:
        raise ConfigError(f"{folder}: is the {kind} {held}")
    return Cosigner(held, Ed25519PrivateKey.from_private_bytes(raw))


class StandaloneWitness:
    """An open witness folder.

    Args:
        folder: As :class:`KeyFolder`.
        name: As there.
        logs: vkeys of logs to know from now on, besides those that it knows.
        clock: Time of cosignatures.
        random: Source of the key.
    """

    def __init__(self, folder: Path, name: str, logs: Sequence[VKey], clock: Clock, random: RandomSource) -> None:
        self._clock = clock
        self._keys = KeyFolder(folder, "witness", name, random)
        try:
            self._logs = _known_logs(folder / "logs", logs)
            self._database = Database(f"sqlite:///{folder / 'witness.db'}", (witnessed, log_forks))
        except BaseException:
            self._keys.close()
            raise

    @property
    def cosigner(self) -> Cosigner:
        """Its key."""
        return self._keys.cosigner

    def add_checkpoint(self, submission: Submission) -> WitnessAnswer:
        """Cosign a checkpoint of a known log that continues what was seen of it; see ``cosigning.cosign``."""
        try:
            vkey = self._logs.get(origin_of(submission.checkpoint))
        except FormatError:
            vkey = None
        with self._database.write() as tx:
            now_ms = int(self._clock.now().timestamp() * 1000)
            answer = cosign(tx, self.cosigner, vkey, submission, now_ms)
        if answer.refusal is Refusal.FORK and vkey is not None:
            self._keep_fork(vkey)
        return answer

    def _keep_fork(self, vkey: VKey) -> None:
        for fork in self.seen()[1]:
            if fork.origin == vkey.name:
                folder = self._keys.folder / "evidence" / f"{origin_hash(fork.origin)[:16]}-{fork.size}"
                write_evidence(folder, fork.first, fork.second, vkey)

    def latest(self, origin_digest: str) -> bytes | None:
        """Return the checkpoint held of a log, by the hash of its origin."""
        for origin in self._logs:
            if origin_hash(origin) == origin_digest:
                with self._database.read() as tx:
                    row = witnesses.latest(tx, origin)
                return row.note if row else None
        return None

    def seen(self) -> tuple[list[WitnessedRow], list[ForkRow]]:
        """Return the latest checkpoints and the forks."""
        with self._database.read() as tx:
            return witnesses.list_witnessed(tx), witnesses.list_forks(tx)

    @property
    def logs(self) -> list[str]:
        """Origins of the logs that it knows."""
        return sorted(self._logs)

    def close(self) -> None:
        """Let go of the folder."""
        self._database.close()
        self._keys.close()


def _known_logs(folder: Path, added: Sequence[VKey]) -> dict[str, VKey]:
    known: dict[str, VKey] = {}
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        for path in sorted(p for p in folder.iterdir() if not p.name.startswith(".")):
            vkey = parse_vkey(path.read_text(encoding="utf-8").strip())
            known[vkey.name] = vkey
        for vkey in added:
            if known.setdefault(vkey.name, vkey) != vkey:
                raise ConfigError(
                    f"{folder}: another key of {vkey.name} is known; remove its file there to take this one"
                )
            with atomic_file(folder / origin_hash(vkey.name)) as stream:
                stream.write(encode_vkey(vkey).encode() + b"\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{folder}: cannot be read or written ({type(error).__name__})") from None
    except FormatError as error:
        raise ConfigError(f"{folder}: {error}") from None
    return known
