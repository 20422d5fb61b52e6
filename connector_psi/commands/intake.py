"""Taking records in: ingest.

Decides: that files are looked at before anything is taken in, how records travel to the node in batches, what is
counted and what is shown. Leaves to others: reading (``adapters``), keeping (the node).
"""

from __future__ import annotations

import io
import os
import re
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from rich.filesize import decimal
from rich.progress import TaskID

from connector_psi import errors
from connector_psi.commands.output import REJECTED_SOME, AsJson, NodeDir, emit, intake_progress, out, table
from connector_psi.domain.clock import SystemClock
from connector_psi.domain.intake import Item
from connector_psi.domain.records import Issue, Record, SourceSystem, Supersession, message_of
from connector_psi.pki import Role
from connector_psi.rpc.client import LocalClient
from connector_psi.rpc.convert import record_size_bytes
from connector_psi.rpc.local import open_local

MAX_ERRORS = 100_000
"""Errors that ``ingest`` lists; a file of bad lines alone would fill the memory otherwise."""
MAX_RECORD_BYTES = 1_000_000
"""A record travels in one message, which has one MiB."""
BATCH_RECORDS = 500
MAPPING = "mapping"
"""What ``--format`` calls a file that describes where records are: docs/mapping.md."""
HEAD_BYTES = 65_536
# Comments and blank lines, then a table that no other format begins with.
_MAPPING_MARK = re.compile(rb"\A(?:\xef\xbb\xbf)?(?:[ \t]*(?:#[^\n]*)?\r?\n)*[ \t]*\[ *(?:source|record)\b")
Watch = Callable[[int, "int | None", str], None]
"""Told how much of a source is done, of how much, and the same in words."""
STEP_BYTES = 262_144
"""Read from a file at a time; the progress bar moves in such steps."""

app = typer.Typer()


@app.command()
def ingest(
    directory: NodeDir,
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE...", help="Messages, alerts, exports; - reads standard input.", show_default=False
        ),
    ] = None,
    format: Annotated[  # noqa: A002 - the option's name
        str,
        typer.Option(
            metavar="F",
            help="Name of a format, see `connector-psi systems list`, or mapping; auto tells it from the content.",
        ),
    ] = "auto",
    schemas: Annotated[
        Path | None,
        typer.Option(
            metavar="XSDDIR",
            help="Hold XML messages against your own XSDs in this folder: what breaks them is reported with line and "
            "path, and not taken in.",
        ),
    ] = None,
    follow: Annotated[
        Path | None,
        typer.Option(
            metavar="DROPDIR",
            help="Go on taking in what is put into this folder, in the order of the names, until Ctrl-C or SIGTERM. "
            "Write a file under a name that begins with . or ends in .part, .tmp or .filepart, and rename it when it "
            "is whole. What was taken in is moved to DROPDIR/done, or to DROPDIR/rejected beside NAME.errors.json if "
            "something of it was not usable.",
            show_default=False,
        ),
    ] = None,
    settle: Annotated[
        float,
        typer.Option(
            metavar="S", min=0.0, max=3600.0, help="With --follow: seconds for which a file must not have changed."
        ),
    ] = 1.0,
    every: Annotated[
        float,
        typer.Option(
            metavar="S", min=1.0, max=86_400.0, help="With --follow: seconds between two looks at a mapping's source."
        ),
    ] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Take records in. Good ones are kept; what cannot be used is reported with its place, and nothing else is lost.

    A newer message about the same thing replaces the older, an invalidation withdraws it, whichever arrives first.
    With --follow, --json prints a line for each file.
    """
    files = files or []
    if not files and follow is None:
        raise errors.ConfigError("name a FILE, or a folder with --follow")
    for path in files:
        check_usable(path, format)
    if schemas is not None and not schemas.is_dir():
        raise errors.ConfigError(f"{schemas}: not a folder")
    if follow is not None:
        from connector_psi.commands.following import Follower  # noqa: PLC0415 - it shares what is here
        from connector_psi.commands.waiting import until_told  # noqa: PLC0415 - as above

        times = {"settle_s": settle, "every_s": every}
        with until_told() as stop:
            unusable = Follower(directory, follow, files, format, schemas, **times, as_json=as_json, stop=stop).run()
        if unusable:
            raise typer.Exit(REJECTED_SOME)
        return
    taken = Taken()
    with open_local(directory, Role.SYSTEM) as client, intake_progress(as_json) as bar:
        for path in files:
            task = bar.add_task(path.name, total=None, done="")

            def watch(done: int, total: int | None, words: str, path: Path = path, task: TaskID = task) -> None:
                bar.update(task, completed=done, total=total, done=words, description=path.name)

            if is_mapping(path, format):
                ingest_mapping(client, path, taken, watch)
            else:
                ingest_file(client, path, format, schemas, taken, watch)
    emit({**taken.totals, "errors": taken.problems}, as_json, taken.show)
    if taken.problems:
        raise typer.Exit(REJECTED_SOME)


class Taken:
    """What became of all files of a command."""

    def __init__(self) -> None:
        self.totals = {"accepted": 0, "updated": 0, "duplicates": 0, "rejected": 0}
        self.problems: list[dict[str, object]] = []

    def report(self, file: str, code: str, *, line: int | None = None, path: str | None = None) -> None:
        """Note what could not be used."""
        if len(self.problems) < MAX_ERRORS:
            self.problems.append({"file": file, "line": line, "path": path, "code": code})
        elif len(self.problems) == MAX_ERRORS:
            self.problems.append({"file": file, "line": None, "path": None, "code": "errors.too_many"})

    def count(self, outcome: str) -> None:
        """Count what became of a record."""
        self.totals["duplicates" if outcome == "duplicate" else outcome] += 1

    def show(self) -> None:
        """Print it as tables."""
        table("Taken in", list(self.totals), [list(self.totals.values())])
        if self.problems:
            rows = [(p["file"], p["line"], p["path"], p["code"]) for p in self.problems[:50]]
            table("Not usable, by place", ["file", "line", "path", "code"], rows)
            if len(self.problems) > len(rows):
                out.print(f"and {len(self.problems) - len(rows)} more; --json lists all")


class _Batch:
    """Records and ends of messages on their way to the node; what is sent is durable when ``send`` returns."""

    def __init__(
        self,
        client: LocalClient,
        file: str,
        taken: Taken,
        position: Callable[[], tuple[str, str] | None] = lambda: None,
    ) -> None:
        self._client = client
        self._position = position
        self._file = file
        self._taken = taken
        self._records: list[tuple[int, Record]] = []
        self._ended: list[Supersession] = []
        self._size = 0
        self._count = 0
        self._lost: set[tuple[SourceSystem, str]] = set()
        """Messages of which a record was not kept: their end takes nothing back."""

    def add(self, item: Record | Supersession) -> None:
        """Take in one more; the batch leaves when it is full."""
        if isinstance(item, Supersession):
            if (item.source, item.message_ref) in self._lost and not item.withdrawn:
                return
            if len(self._ended) >= BATCH_RECORDS:
                self.send()
            self._ended.append(item)
            return
        self._count += 1
        length = record_size_bytes(item)
        if length > MAX_RECORD_BYTES:
            self._taken.report(self._file, "record.too_large", path=f"record {self._count}")
            self._taken.totals["rejected"] += 1
            self._lost.add(message_of(item))
            return
        if len(self._records) >= BATCH_RECORDS or self._size + length > MAX_RECORD_BYTES:
            self.send()
        self._records.append((self._count, item))
        self._size += length

    def send(self) -> None:
        """Register what is there, and how far its source was read."""
        position = self._position()
        if not self._records and not self._ended and position is None:
            return
        results = iter(self._client.register([record for _, record in self._records], self._ended, position))
        for (number, record), result in zip(self._records, results, strict=False):
            self._taken.count(result.outcome)
            if result.outcome == "rejected":
                self._lost.add(message_of(record))
            for problem in result.problems:
                place, _, code = problem.partition(": ")
                self._taken.report(self._file, code, path=_place_in(record, place) or f"record {number}")
        for item, result in zip(self._ended, results, strict=True):
            # The end of an ordinary message is nothing that its sender counts.
            if item.withdrawn:
                self._taken.count(result.outcome)
        self._records.clear()
        self._ended.clear()
        self._size = 0

    def add_all(self, items: Iterable[Item]) -> None:
        """Take in what comes out of a file; what could not be used is reported."""
        for item in items:
            if isinstance(item, Issue):
                self._taken.report(item.file, item.code, line=item.line, path=item.path)
                self._taken.totals["rejected"] += item.rejects_record
            else:
                self.add(item)


def ingest_file(
    client: LocalClient,
    path: Path,
    format_name: str,
    schemas: Path | None,
    taken: Taken,
    watch: Watch,
    *,
    regular: bool = False,
) -> None:
    """Take a file in; what cannot be used of it is reported. With ``regular``, no link is followed."""
    name = str(path)
    batch = _Batch(client, name, taken)
    try:
        with _opened(path, watch, regular=regular) as stream:
            batch.add_all(_items(stream, name, format_name, schemas))
    except OSError:
        # The files after this one are none the worse for it, nor is what was read of it.
        taken.report(name, "file.unreadable")
    batch.send()


def ingest_mapping(client: LocalClient, path: Path, taken: Taken, watch: Watch) -> None:
    """Take in the source that a mapping describes, from where the last run of it ended."""
    from connector_psi.adapters.mapping import load_mapping, read_mapping  # noqa: PLC0415 - only for own databases

    key = load_mapping(path).key
    reading = read_mapping(path, now=SystemClock().now(), watermark=client.position(key))

    def watched() -> Iterator[Item]:
        for item in reading:
            watch(reading.counts.rows, None, f"{reading.counts.rows:,} rows")
            yield item

    def position() -> tuple[str, str] | None:
        return None if reading.watermark is None else (key, reading.watermark)

    batch = _Batch(client, str(path), taken, position)
    batch.add_all(watched())
    batch.send()


def _items(stream: BinaryIO, name: str, format_name: str, schemas: Path | None) -> Iterator[Item]:
    from connector_psi.adapters import formats  # noqa: PLC0415 - the adapters are for whoever reads a file

    return formats.read(stream, file=name, format=format_name, schemas=schemas)


class _Watched(io.RawIOBase):
    """A file that tells how far it was read, and in which turn: some messages are read more than once."""

    def __init__(self, source: io.FileIO | io.BytesIO, watch: Watch) -> None:
        self._source = source
        self._watch = watch
        self._total = source.seek(0, os.SEEK_END)
        self._turn = 1
        self._furthest = source.seek(0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - any writable buffer
        count = self._source.readinto(buffer)
        position = self._source.tell()
        if position > self._furthest:
            self._furthest = position
        elif count and self._furthest - position > STEP_BYTES:
            # Looking at the head of a file is no turn of its own.
            self._turn, self._furthest = self._turn + 1, position
        words = f"{decimal(position)} of {decimal(self._total)}"
        self._watch(position, self._total, words if self._turn == 1 else f"{words}, pass {self._turn}")
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._source.seek(offset, whence)

    def tell(self) -> int:
        return self._source.tell()

    def close(self) -> None:
        self._source.close()
        super().close()


def _place_in(record: Record, place: str) -> str:
    """The place in the message of what the node names by its position in the record; the record's key is a value."""
    found = re.fullmatch(r"identifiers\[(\d+)\]", place)
    return record.identifiers[int(found[1])].source_path if found else ""


def check_usable(path: Path, format_name: str) -> None:
    """Refuse what can be told before anything is taken in."""
    from connector_psi.adapters import formats  # noqa: PLC0415 - as in _items

    known = None if format_name == MAPPING else formats.known_format(format_name)
    if str(path) == "-":
        return
    try:
        kind = path.stat().st_mode
    except OSError as error:
        raise errors.ConfigError(f"{path}: {error.strerror}") from None
    if stat.S_ISDIR(kind):
        raise errors.ConfigError(f"{path}: a folder; name its files")
    if not os.access(path, os.R_OK):
        raise errors.ConfigError(f"{path}: may not be read")
    if known is not None or not stat.S_ISREG(kind):
        return
    if is_mapping(path, format_name):
        from connector_psi.adapters.mapping import load_mapping  # noqa: PLC0415 - as in ingest_mapping

        load_mapping(path)
        return
    try:
        formats.detect(path.name, _head(path))
    except errors.PurposeRefusedError as error:
        raise errors.PurposeRefusedError(f"{path}: {error}") from None
    except errors.FormatError:
        # Reported with everything else, so that the files beside it are taken in.
        return


def is_mapping(path: Path, format_name: str = "auto") -> bool:
    """Return whether a file describes a source instead of being one."""
    if format_name == MAPPING:
        return True
    return format_name == "auto" and path.is_file() and _MAPPING_MARK.match(_head(path)) is not None


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(HEAD_BYTES)
    except OSError:
        # Said once it is read in earnest.
        return b""


def _open_regular(path: str, flags: int) -> int:
    # What a name stands for may have been exchanged since it was looked at: no link is followed, no pipe waited for.
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _opened(path: Path, watch: Watch, *, regular: bool = False) -> io.BufferedReader:
    # Adapters read a message twice; what comes from a pipe is kept in memory, as it may hold personal data.
    source: io.FileIO | io.BytesIO
    if str(path) == "-":
        source = io.BytesIO(sys.stdin.buffer.read())
    else:
        source = io.FileIO(path, opener=_open_regular if regular else None)
        if not source.seekable():
            with source:
                source = io.BytesIO(source.read())
    return io.BufferedReader(_Watched(source, watch), STEP_BYTES)
