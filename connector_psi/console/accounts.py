"""Local accounts of the console, for deployments without a provider of identities: a password and a one-time code.

Decides: what an account is, what a password must be, that each one-time code counts once. Passwords are kept as scrypt
(RFC 7914), secrets of one-time codes (RFC 6238) sealed under a key of the node. The file is written as a whole; a
running console reads it again when it changed. Who may make accounts is whoever may write the node directory.
"""

from __future__ import annotations

import base64
import hmac
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path

import pyotp
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from connector_psi.domain.clock import RandomSource
from connector_psi.encoding.atomicfile import atomic_file
from connector_psi.errors import ConfigError, ConflictError, InputError
from connector_psi.pki import PersonIdentity, Role

MIN_PASSWORD = 12
"""Characters. NIST SP 800-63B asks for length, and for no mixture of kinds of characters."""
MAX_PASSWORD = 256
STEP_S = 30
"""Of a one-time code (RFC 6238)."""
WINDOW = 1
"""Codes of so many steps before and after count too: clocks of telephones differ."""
SIGNING_IN = frozenset({Role.OFFICER, Role.SUPERVISOR, Role.DPO, Role.AUDITOR, Role.ADMIN})
"""Roles of people. A system has a certificate."""
MAX_FILE_BYTES = 4 << 20
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SALT_BYTES, _HASH_BYTES, _NONCE_BYTES, _SECRET_BYTES = 16, 32, 12, 20
_N, _R, _P = 1 << 15, 8, 1
_SEALED = b"connector-psi/v1 console account"


@dataclass(frozen=True, slots=True)
class Account:
    """One person's account. The id is personal data."""

    id: str = field(repr=False)
    role: Role
    salt: str = field(repr=False)
    hash: str = field(repr=False)
    secret: str = field(repr=False)
    """Sealed."""
    made: str
    disabled: bool = False


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=f"^{_ID.pattern}$")
    role: Role
    salt: str = Field(pattern=r"^[0-9a-f]{32}$")
    hash: str = Field(pattern=r"^[0-9a-f]{64}$")
    secret: str = Field(pattern=r"^[0-9a-f]{96}$")
    made: str = Field(max_length=40)
    disabled: bool = False


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    accounts: tuple[_Row, ...] = Field(max_length=10_000)


class Accounts:
    """The accounts of a node directory.

    Args:
        path: The file; need not exist.
        key: 32 bytes, of the node, that secrets are sealed under.
        authority: Code of the authority, which names its people.
        random: Randomness.
    """

    def __init__(self, path: Path, key: bytes, authority: str, random: RandomSource) -> None:
        self._path = path
        self._aead = AESGCM(key)
        self._authority = authority
        self._random = random
        self._lock = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None
        self._known: Mapping[str, Account] = {}
        self._used: dict[str, int] = {}
        # Checked where a name is not known, so that it takes as long as one that is.
        self._nobody = Account("", Role.AUDITOR, random.bytes(_SALT_BYTES).hex(), "00" * _HASH_BYTES, "", "")

    def all(self) -> list[Account]:
        """Return all accounts, by id.

        Raises:
            ConfigError: The file is not one of accounts; the text names it.
        """
        with self._lock:
            return sorted(self._read().values(), key=lambda account: account.id)

    def find(self, person_id: str) -> Account | None:
        """Return an account that may be used, None where there is none.

        Raises:
            ConfigError: As ``all``.
        """
        with self._lock:
            found = self._read().get(person_id)
        return None if found is None or found.disabled else found

    def add(self, person_id: str, role: Role, password: str, now: datetime, *, secret: bytes = b"") -> str:
        """Make an account. Returns the URI that an app for one-time codes takes (``otpauth://``): it is told once.

        Args:
            person_id: As in the person's certificate.
            role: Of the person.
            password: Of ``MIN_PASSWORD`` characters or more.
            now: When it is made.
            secret: Of one-time codes, 20 bytes; drawn, unless somebody wants one for several accounts.

        Raises:
            InputError: An id or a password that does not do; the text does not repeat it.
            ConflictError: There is one with this id already.
        """
        if not _ID.fullmatch(person_id):
            raise InputError("account: an id is 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'")
        if role not in SIGNING_IN:
            raise InputError("account: of role officer, supervisor, dpo, auditor or admin; a system has a certificate")
        check_password(password, person_id)
        with self._lock:
            known = dict(self._read())
            if person_id in known:
                raise ConflictError("account: there is one with this id already")
            account, told = self._made(Account(person_id, role, "", "", "", now.isoformat()), password, secret)
            self._write({**known, person_id: account})
        return self._uri(account, told)

    def renew(self, person_id: str, password: str) -> str:
        """Give an account another password and another secret, as :meth:`add` does.

        Raises:
            InputError: There is no such account, or the password does not do.
        """
        check_password(password, person_id)
        with self._lock:
            known = dict(self._read())
            account, secret = self._made(replace(_named(known, person_id), disabled=False), password)
            self._write({**known, person_id: account})
            self._used.pop(person_id, None)
        return self._uri(account, secret)

    def disable(self, person_id: str) -> None:
        """Let nobody sign in with an account; whoever is signed in with it is signed out.

        Raises:
            InputError: There is no such account.
        """
        with self._lock:
            known = dict(self._read())
            self._write({**known, person_id: replace(_named(known, person_id), disabled=True)})

    def verify(self, person_id: str, password: str, code: str, now: datetime) -> PersonIdentity | None:
        """Return whose name, password and one-time code these are, None if they are nobody's.

        The same work is done whatever is wrong. A code counts once.

        Raises:
            ConfigError: As ``all``.
        """
        with self._lock:
            known = self._read().get(person_id)
        account = self._nobody if known is None or known.disabled else known
        right = hmac.compare_digest(_hash(password, account.salt), account.hash)
        secret = self._open(account) if account.secret else pyotp.random_base32()
        step = int(now.timestamp()) // STEP_S
        totp = pyotp.TOTP(secret, interval=STEP_S)
        matching = [
            at
            for at in range(step - WINDOW, step + WINDOW + 1)
            if hmac.compare_digest(totp.at(at * STEP_S).encode(), code.strip().encode("utf-8", "replace"))
        ]
        if account is self._nobody or not right or not matching:
            return None
        with self._lock:
            if matching[-1] <= self._used.get(person_id, -1):
                return None
            self._used[person_id] = matching[-1]
        return PersonIdentity(self._authority, account.role, account.id)

    def _made(self, account: Account, password: str, secret: bytes = b"") -> tuple[Account, str]:
        salt, raw = self._random.bytes(_SALT_BYTES).hex(), secret or self._random.bytes(_SECRET_BYTES)
        nonce = self._random.bytes(_NONCE_BYTES)
        sealed = nonce + self._aead.encrypt(nonce, raw, _SEALED + account.id.encode())
        return replace(account, salt=salt, hash=_hash(password, salt), secret=sealed.hex()), _base32(raw)

    def _open(self, account: Account) -> str:
        raw = bytes.fromhex(account.secret)
        try:
            opened = self._aead.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], _SEALED + account.id.encode())
        except InvalidTag:
            raise ConfigError(f"{self._path}: not sealed under the keys of this node") from None
        return _base32(opened)

    def _uri(self, account: Account, secret: str) -> str:
        return pyotp.TOTP(secret, interval=STEP_S).provisioning_uri(
            name=account.id, issuer_name=f"connector_psi {self._authority}"
        )

    def _read(self) -> Mapping[str, Account]:
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            self._stamp, self._known = None, {}
            return self._known
        except OSError as error:
            raise ConfigError(f"{self._path}: {error.strerror}") from None
        stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if stamp != self._stamp:
            if stat.st_size > MAX_FILE_BYTES:
                raise ConfigError(f"{self._path}: longer than {MAX_FILE_BYTES} bytes")
            try:
                rows = _File.model_validate_json(self._path.read_bytes()).accounts
            except (OSError, ValidationError):
                raise ConfigError(f"{self._path}: not a file of accounts") from None
            self._known = {row.id: Account(**dict(row)) for row in rows}
            self._stamp = stamp
        return self._known

    def _write(self, known: Mapping[str, Account]) -> None:
        rows = [asdict(account) for account in sorted(known.values(), key=lambda account: account.id)]
        try:
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            with atomic_file(self._path) as stream:
                stream.write(json.dumps({"accounts": rows}, indent=1).encode() + b"\n")
        except OSError as error:
            raise ConfigError(f"{self._path}: {error.strerror}") from None
        self._stamp = None


def check_password(password: str, person_id: str) -> None:
    """Refuse a password that is too short, too long, or that repeats the id.

    Raises:
        InputError: Which of it; the text does not repeat the password.
    """
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise InputError(f"password: {MIN_PASSWORD} to {MAX_PASSWORD} characters")
    if len(set(password)) < MIN_PASSWORD // 2 or (person_id and person_id.lower() in password.lower()):
        raise InputError("password: too easy to guess: few different characters, or the id in it")


def _named(known: Mapping[str, Account], person_id: str) -> Account:
    if person_id not in known:
        raise InputError("account: there is none with this id")
    return known[person_id]


def _hash(password: str, salt: str) -> str:
    raw = password[: MAX_PASSWORD + 1].encode("utf-8", "replace")
    return Scrypt(salt=bytes.fromhex(salt), length=_HASH_BYTES, n=_N, r=_R, p=_P).derive(raw).hex()


def _base32(raw: bytes) -> str:
    return base64.b32encode(raw).decode()
