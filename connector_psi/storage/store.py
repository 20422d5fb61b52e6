"""The database of a node: one engine, one writer at a time, every commit on the disk before it is acknowledged.

Decides: pragmas, transactions, how payloads are sealed. SQLite (WAL, ``synchronous=FULL``) by default. Leaves to
others: what is stored, table by table (the other modules of ``storage``), which process may open it (``storage.lock``).
"""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from connector_psi.domain.clock import RandomSource
from connector_psi.errors import ConfigError, StorageError, UnavailableError
from connector_psi.storage import schema
from connector_psi.storage.groupcommit import GroupCommit

Tx = Connection
_NONCE_BYTES = 12


class Database:
    """An open database with some of the tables.

    Args:
        url: SQLAlchemy URL.
        tables: Those that it has; all by default.

    Raises:
        ConfigError: It was written by another version of this program.
        UnavailableError: It cannot be opened now.
        StorageError: It is damaged.
    """

    def __init__(self, url: str, tables: Sequence[sa.Table] | None = None) -> None:
        self._engine = sa.create_engine(url, pool_size=16, max_overflow=16, hide_parameters=True)
        if self._engine.dialect.name == "sqlite":
            sa.event.listen(self._engine, "connect", _sqlite_pragmas)
            sa.event.listen(self._engine, "begin", _sqlite_begin)
        # Writers queue here instead of in SQLite, whose busy handler polls.
        self._writers = GroupCommit(self._engine)
        self.wrote: Callable[[float | None], None] = lambda _seconds: None
        """Told how long a writer waited for its commit, or None: the database took nothing."""
        try:
            self._open_schema(None if tables is None else [schema.meta, *tables])
        except BaseException:
            self.close()
            raise

    def _open_schema(self, tables: Sequence[sa.Table] | None) -> None:
        with self.write() as tx:
            schema.metadata.create_all(tx, tables=tables)
            stored = tx.execute(sa.select(schema.meta.c.value).where(schema.meta.c.key == "schema")).scalar()
            if stored is None:
                tx.execute(sa.insert(schema.meta).values(key="schema", value=str(schema.SCHEMA_VERSION)))
            elif stored != str(schema.SCHEMA_VERSION):
                raise ConfigError(f"the store has schema {stored}, this program needs {schema.SCHEMA_VERSION}")

    @contextmanager
    def write(self, *, alone: bool = False) -> Iterator[Tx]:
        """A transaction that is durable when the block ends, and leaves nothing when it raises.

        Writers that wait for one another share a commit (``storage.groupcommit``): the block may see what others wrote
        and what fails for them too if the commit does.

        Args:
            alone: Whether the block does something outside the database on the strength of what it reads.

        Raises:
            UnavailableError: The database cannot be written now (disk full, locked).
        """
        ended = 0.0
        try:
            with _translated(lambda: self.wrote(None)), self._writers.transaction(alone=alone) as connection:
                yield connection
                ended = time.monotonic()
        except UnavailableError:
            if ended:
                # The block is over: it was the commit that failed, its own or the one that it shared.
                self.wrote(None)
            raise
        self.wrote(time.monotonic() - ended)

    def try_to_write(self) -> None:
        """Write something that changes nothing.

        Raises:
            UnavailableError: The database cannot be written now.
        """
        with self.write(alone=True) as tx:
            tx.execute(sa.update(schema.meta).where(schema.meta.c.key == "schema").values(value=schema.meta.c.value))

    @contextmanager
    def read(self) -> Iterator[Tx]:
        """A consistent snapshot for reading."""
        with _translated(), self._engine.connect() as connection, connection.begin():
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def drop_remains(self) -> bool:
        """Empty SQLite's write-ahead log, in which the pages from before an erasure still stand.

        The database itself keeps nothing of what was replaced (``secure_delete``).

        Returns:
            Whether it is empty; not while somebody still reads an older state. Another engine keeps no such file.
        """
        if self._engine.dialect.name != "sqlite":
            return True
        with self._writers.exclusive(), _translated(), self._engine.connect() as connection:
            # Pragmas outside any transaction: the driver's connection.
            cursor = connection.connection.cursor()
            try:
                # Writers wait meanwhile.
                cursor.execute("PRAGMA busy_timeout=500")
                busy = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            finally:
                cursor.execute("PRAGMA busy_timeout=10000")
                cursor.close()
        return not busy


class Store(Database):
    """The database of a node, with the keys that its payloads are sealed by.

    Args:
        url: SQLAlchemy URL.
        payload_key: 32 bytes; seals payload columns.
        index_key: 32 bytes; hashes references.
        random: Source of nonces.

    Raises:
        ConfigError: The store was written by another version of this program.
        UnavailableError: The database cannot be opened now.
        StorageError: It is damaged.
    """

    def __init__(self, url: str, payload_key: bytes, index_key: bytes, random: RandomSource) -> None:
        self._aead = AESGCM(payload_key)
        self._index_key = index_key
        self._random = random
        super().__init__(url)

    def index_of(self, *parts: str) -> bytes:
        """Return a keyed hash of a reference, 32 bytes, for finding a row without storing the reference."""
        return self.mac(json.dumps(parts, ensure_ascii=False).encode())

    def mac(self, data: bytes) -> bytes:
        """Return HMAC-SHA256 of ``data`` under the node's index key: nothing about an identifier is hashed without
        a key.
        """
        return hmac.digest(self._index_key, data, "sha256")

    def seal(self, table: str, value: Mapping[str, Any], at_least: int = 0) -> bytes:
        """Seal a JSON payload for a table, padded to a size where its length could tell something."""
        raw = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        return self.seal_raw(table, raw.ljust(at_least))

    def unseal(self, table: str, blob: bytes) -> dict[str, Any]:
        """Open a payload. Raises StorageError if it was changed or moved to another table."""
        value: dict[str, Any] = json.loads(self.unseal_raw(table, blob))
        return value

    def seal_raw(self, table: str, raw: bytes) -> bytes:
        """Seal bytes for a table."""
        nonce = self._random.bytes(_NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, raw, table.encode())

    def unseal_raw(self, table: str, blob: bytes) -> bytes:
        """Open what ``seal_raw`` sealed. Raises StorageError if it was changed or moved to another table."""
        try:
            return self._aead.decrypt(blob[:_NONCE_BYTES], blob[_NONCE_BYTES:], table.encode())
        except InvalidTag:
            raise StorageError(f"a row of {table} was changed outside this program") from None


@contextmanager
def _translated(unusable: Callable[[], None] = lambda: None) -> Iterator[None]:
    try:
        yield
    except sa.exc.IntegrityError as error:
        # The driver's text shows the statement's values.
        raise StorageError("an integrity constraint failed") from _stripped(error)
    except sa.exc.OperationalError as error:
        unusable()
        raise UnavailableError("the database cannot be used now") from _stripped(error)
    except DBAPIError as error:
        raise StorageError("the database is damaged") from _stripped(error)
    except sa.exc.TimeoutError:
        raise UnavailableError("too many calls use the database now") from None


def _stripped(error: DBAPIError) -> Exception:
    return RuntimeError(type(error.orig).__name__)


def _sqlite_pragmas(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's own
    # Transactions are begun by us (see _sqlite_begin), not by the driver.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "busy_timeout=10000",
        "secure_delete=ON",
        "temp_store=MEMORY",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _sqlite_begin(connection: Connection) -> None:
    # IMMEDIATE takes the write lock at once, so that a reader's snapshot is never upgraded half-way.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.info.get("immediate") else "BEGIN")
