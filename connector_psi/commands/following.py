"""Following a drop folder: what is put there is taken in, for as long as the command runs.

Rules:

1. Files are taken in the order of their names, once they are complete: not under a name that begins with ``.`` or ends
   in ``.part``, ``.tmp`` or ``.filepart``, and neither size nor time changed for a while.
2. A file is moved only after everything of it is durable: to ``done``, or to ``rejected`` beside ``NAME.errors.json``
   if something of it could not be used. Whoever is killed in between takes it in again, which changes nothing.
3. What is no regular file or cannot be read is reported once and left alone, and so is a mapping: what somebody drops
   does not tell this node which database to read.
4. A node that is away is waited for with growing pauses, and the file stays where it is. A node that was served once is
   not opened by this process: its ``serve`` would find the directory taken.

Leaves to others: reading a file and registering it (``intake``).
"""

from __future__ import annotations

import itertools
import json
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from connector_psi import errors
from connector_psi.adapters import formats
from connector_psi.commands.intake import MAPPING, Taken, check_usable, ingest_file, ingest_mapping, is_mapping
from connector_psi.commands.output import err, plain, say
from connector_psi.commands.waiting import AWAY, Pauses, Reached
from connector_psi.pki import Role
from connector_psi.rpc.client import LocalClient

POLL_S: Final = 0.5
UNFINISHED: Final = (".part", ".tmp", ".filepart")
DONE: Final = "done"
REJECTED: Final = "rejected"

NOT_REGULAR: Final = "file.not_regular"
UNREADABLE: Final = "file.unreadable"
NOT_MOVED: Final = "file.not_moved"
A_MAPPING: Final = "file.mapping"
SHOWN: Final = 20
"""Problems of a file that are printed as text; ``NAME.errors.json`` has all."""

_Seen = tuple[int, int, int]
"""What a file that did not change has in common with itself: number, size, time of change."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file of the folder that is complete."""

    path: Path
    seen: _Seen


@dataclass
class Folder:
    """A drop folder.

    Attributes:
        path: Of the folder.
        settle_s: For how long a file must not have changed.
        clock: Monotonic time.
    """

    path: Path
    settle_s: float
    clock: Callable[[], float] = time.monotonic
    _since: dict[str, tuple[_Seen, float]] = field(default_factory=dict)
    _left: dict[str, _Seen | None] = field(default_factory=dict)
    """Reported, and left alone for as long as it is the same."""

    def look(self) -> tuple[list[Found], list[tuple[str, str]]]:
        """Return the complete files in the order of their names, and name and code of what is to be reported.

        Raises:
            OSError: The folder cannot be read.
        """
        found: list[Found] = []
        reported: list[tuple[str, str]] = []
        now = self.clock()
        names = sorted(path.name for path in self.path.iterdir())
        for known in (self._since, self._left):
            for gone in known.keys() - set(names):
                del known[gone]
        for name in names:
            if name.startswith(".") or name.lower().endswith(UNFINISHED) or name in {DONE, REJECTED}:
                continue
            try:
                status = os.lstat(self.path / name)
            except OSError:
                # Taken away since.
                continue
            seen = (status.st_ino, status.st_size, status.st_mtime_ns)
            if self._left.get(name, 0) == seen:
                continue
            if not stat.S_ISREG(status.st_mode):
                self._left[name] = seen
                reported.append((name, NOT_REGULAR))
                continue
            before, since = self._since.get(name, (None, now))
            if before != seen:
                self._since[name] = (seen, now)
                if self.settle_s > 0:
                    continue
                since = now
            if now - since < self.settle_s:
                continue
            if not os.access(self.path / name, os.R_OK):
                self._left[name] = seen
                reported.append((name, UNREADABLE))
                continue
            found.append(Found(self.path / name, seen))
        return found, reported

    def leave(self, file: Found) -> None:
        """Look at a file again only when it is another."""
        self._left[file.path.name] = file.seen

    def is_same(self, file: Found) -> bool:
        """Return whether a file is still what was found."""
        try:
            status = os.lstat(file.path)
        except OSError:
            return False
        return (status.st_ino, status.st_size, status.st_mtime_ns) == file.seen

    def move(self, file: Found, problems: Sequence[Mapping[str, object]]) -> None:
        """Move a file that was taken in; what could not be used is written down beside it.

        Raises:
            OSError: It cannot be moved.
        """
        target = self.path / (REJECTED if problems else DONE)
        target.mkdir(mode=0o700, exist_ok=True)
        to = _free(target, file.path.name, with_errors=bool(problems))
        if problems:
            partial = target / f".{to.name}.errors.json.part"
            partial.write_text(json.dumps(list(problems), ensure_ascii=False) + "\n")
            partial.replace(_errors_of(to))
        file.path.rename(to)


def _errors_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.errors.json")


def _free(folder: Path, name: str, *, with_errors: bool) -> Path:
    """A name that is not taken: the file's own, or one with a number."""
    stem, dot, ending = name.partition(".")
    names = itertools.chain([name], (f"{stem}.{n}{dot}{ending}" for n in itertools.count(1)))
    paths = (folder / each for each in names)
    return next(
        path for path in paths if not os.path.lexists(path) and not (with_errors and os.path.lexists(_errors_of(path)))
    )


class Follower:
    """``ingest --follow``.

    Args:
        directory: The node directory.
        dropdir: The folder that is followed.
        files: Files that are taken in first; mappings are read again and again.
        format_name: As for ``ingest``.
        schemas: As for ``ingest``.
        settle_s: For how long a file must not have changed.
        every_s: Time between two looks at the source of a mapping.
        as_json: Whether to print JSON.
        stop: Ends it, after the file in hand.

    Raises:
        ConfigError: Not a folder that can be read and written, or something that cannot be followed.
    """

    def __init__(
        self,
        directory: Path,
        dropdir: Path,
        files: Sequence[Path],
        format_name: str,
        schemas: Path | None,
        *,
        settle_s: float,
        every_s: float,
        as_json: bool,
        stop: threading.Event,
    ) -> None:
        if not dropdir.is_dir():
            raise errors.ConfigError(f"{dropdir}: not a folder")
        if not os.access(dropdir, os.R_OK | os.W_OK | os.X_OK):
            raise errors.ConfigError(f"{dropdir}: may not be read and written")
        if format_name == MAPPING and not files:
            raise errors.ConfigError("--format mapping: a folder of mappings is not followed; name the mapping as FILE")
        if any(str(path) == "-" for path in files):
            raise errors.ConfigError("-: standard input is not followed")
        self._node = Reached(directory, Role.SYSTEM)
        self._folder = Folder(dropdir, settle_s)
        self._mappings = [path for path in files if is_mapping(path, format_name)]
        self._first = [path for path in files if path not in self._mappings]
        self._format = formats.known_format(None if format_name == MAPPING else format_name) or "auto"
        self._schemas = schemas
        self._every_s = every_s
        self._as_json = as_json
        self._stop = stop
        self._pauses = Pauses(stop)
        self._total = Taken()
        self._rejected = False
        self._next_mapping_s = 0.0
        self._said: set[str] = set()
        """What is told on standard error only once for as long as it is so."""

    def run(self) -> bool:
        """Take in what comes, until told to stop. Returns whether something could not be used."""
        if not self._as_json:
            say(f"following {self._folder.path}; Ctrl-C ends it")
        while not self._stop.is_set():
            try:
                busy = self._turn()
            except AWAY as error:
                self._pauses.wait(error)
                continue
            if not busy:
                self._stop.wait(POLL_S)
        if not self._as_json:
            self._total.show()
        return self._rejected

    def _turn(self) -> bool:
        """Take in what there is now. Returns whether something was taken in."""
        try:
            found, reported = self._folder.look()
        except OSError:
            self._say_once(f"{self._folder.path}: cannot be read now")
            return False
        self._said.discard(f"{self._folder.path}: cannot be read now")
        for name, code in reported:
            self._report(self._folder.path / name, code)
        due = bool(self._mappings) and time.monotonic() >= self._next_mapping_s
        if not (found or due or self._first):
            return False
        moved = False
        with self._node.connect() as client:
            while self._first and not self._stop.is_set():
                self._take(client, self._first[0])
                self._first.pop(0)
            if due and not self._stop.is_set():
                for path in self._mappings:
                    self._poll(client, path)
                self._next_mapping_s = time.monotonic() + self._every_s
            for file in found:
                if self._stop.is_set():
                    break
                moved = self._take_dropped(client, file) or moved
        return moved

    def _take(self, client: LocalClient, path: Path) -> None:
        taken = Taken()
        ingest_file(client, path, self._format, self._schemas, taken, _unwatched)
        self._pauses.over()
        self._told(path, taken)

    def _take_dropped(self, client: LocalClient, file: Found) -> bool:
        """Take a file of the folder in. Returns whether it is done with."""
        taken, name = Taken(), str(file.path)
        if not self._folder.is_same(file):
            return False
        if is_mapping(file.path):
            taken.report(name, A_MAPPING)
            taken.totals["rejected"] += 1
        else:
            try:
                check_usable(file.path, self._format)
                ingest_file(client, file.path, self._format, self._schemas, taken, _unwatched, regular=True)
            except (errors.InputError, errors.PurposeRefusedError) as error:
                # It must not be what this ends with, now and whenever it is begun anew.
                taken.report(name, error.code)
                taken.totals["rejected"] += 1
            except errors.ConfigError:
                # Somebody took it away, or the right to read it, since it was looked at.
                return False
            self._pauses.over()
        if not self._folder.is_same(file):
            # Written to meanwhile: it is looked at again once it is complete, and what was taken in is known by then.
            return False
        if [problem["code"] for problem in taken.problems] == [UNREADABLE]:
            self._folder.leave(file)
        else:
            try:
                self._folder.move(file, taken.problems)
            except OSError:
                # Taken in, but it stays: unless it is left alone it would be taken in again and again.
                self._folder.leave(file)
                taken.report(name, NOT_MOVED)
        self._told(file.path, taken)
        return True

    def _poll(self, client: LocalClient, path: Path) -> None:
        """Read what is new in the source of a mapping; one that cannot be read now is read at its next time."""
        taken = Taken()
        try:
            ingest_mapping(client, path, taken, _unwatched)
        except (errors.ConfigError, errors.UnavailableError) as error:
            self._say_once(f"{path}: {error.code}: not read now")
            return
        self._said = {text for text in self._said if not text.startswith(f"{path}: ")}
        self._pauses.over()
        if taken.problems or sum(taken.totals.values()) > taken.totals["duplicates"]:
            # Rows that are looked at again by each increment are nothing new.
            self._told(path, taken)

    def _report(self, path: Path, code: str) -> None:
        taken = Taken()
        taken.report(str(path), code)
        self._told(path, taken)

    def _told(self, path: Path, taken: Taken) -> None:
        """Print what became of a file, and add it to the total."""
        self._rejected = self._rejected or bool(taken.problems)
        for name, count in taken.totals.items():
            self._total.totals[name] += count
        if self._as_json:
            line = {"file": str(path), **taken.totals, "errors": taken.problems}
            sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
        else:
            counts = ", ".join(f"{count:,} {name}" for name, count in taken.totals.items() if count) or "nothing"
            total = ", ".join(f"{count:,} {name}" for name, count in self._total.totals.items() if count) or "nothing"
            say(f"{path.name}: {counts} (in all {total})")
            for problem in taken.problems[:SHOWN]:
                place = ":".join(plain(part) for part in (problem["line"], problem["path"]) if part is not None)
                say(f"  {place or '-'}: {problem['code']}")
            if len(taken.problems) > SHOWN:
                say(f"  and {len(taken.problems) - SHOWN} more")
        sys.stdout.flush()

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            err.print(plain(text))


def _unwatched(_done: int, _total: int | None, _words: str) -> None:
    """Nobody watches a single file."""
