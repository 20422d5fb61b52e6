"""The one reader of XML that nobody vouches for: bounded memory, no entities, and a table of what is read.

Decides, in this order:

1. the encoding is one of ``ENCODINGS``, and the prolog holds no DOCTYPE; both are read from the bytes before
   any XML parser sees them, so that no entity is ever declared, let alone expanded;
2. what an attachment holds (a run of base64 as long as a whole chunk) never reaches the parser;
3. depth, text and name lengths are libxml2's own limits (``huge_tree`` is off); how much of a message is held at a time
   and the number of different names, attributes and namespaces are bounded here, because libxml2 keeps each of the
   latter for as long as it parses;
4. whatever breaks the stream ends it: the units before the break stand, and ``XmlMessage.cut`` says what and where;
5. an element that the table of a format does not have is reported once a place, and never by its name.

Leaves to others: what the elements mean (each adapter). An adapter gives the table of its message (``table``), reads
the message unit by unit (``XmlMessage``), and takes what it wants from frames (``XmlMessage.frame``).

Nothing here copies a parser's message into an issue, because libxml2 and lxml quote the input in theirs.

Example::

    TABLE = table("Note", ["to", "item/number"], skipped=["item/signature"])
    message = XmlMessage(stream, file=file, units={"item"})
    for element in message.units():
        item = message.frame(element, TABLE.at("item"))
        draft.identify(IdentifierType.CONTAINER, item.found("number"))
    rest = message.frame(message.root, TABLE)
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, TypeAlias

from lxml import etree

from connector_psi.domain.drafts import Found
from connector_psi.domain.records import Issue
from connector_psi.errors import ConfigError, FormatError

ENCODINGS = frozenset({"utf-8", "us-ascii", "ascii", "iso-8859-1", "iso-8859-15", "windows-1252", "utf-16"})
"""Encodings that are read. UTF-7 and EBCDIC can hide a DOCTYPE from whoever looks for one."""

MAX_PROLOG_BYTES = 65_536
MAX_NAMES = 5_000
"""Different element and attribute names of one message; the whole of ICS2 has some 300."""
MAX_NAMESPACES = 1_000
"""Different namespace declarations of one message."""
MAX_SCHEMA_ISSUES = 200
"""Schema errors reported of one message; the last one says that there were more."""
MAX_SCHEMA_ERRORS = 10_000
"""Schema errors of one message after which all of it is refused."""

MAX_UNIT_BYTES = 16 * 2**20
"""Of a message between the ends of two units, attachments apart; all of it where it has no units."""
MAX_UNIT_TAGS = 800_000
"""Tags there. A tree takes some 150 bytes an element; a full consignment has half as many tags as this."""
MAX_FRAMES = 150_000
"""Groups of one element that is framed; 9,999 goods items have fewer."""
MAX_HELD_BYTES = 8 * 2**20
"""Read between two counts of the elements that are held."""
MAX_HELD_ELEMENTS = 150_000
"""Elements outside the units."""
MAX_TEXT_CHARS = 8_192
"""Of one element that is read; the longest that any schema here allows is 512."""
MAX_NOTICES = 1_000
"""Different things reported about one message."""

Element: TypeAlias = etree._Element  # noqa: SLF001 - the only public name of lxml's elements is a function
"""An element in memory."""

_CHUNK_BYTES = 32_768
_CLEAN_EVERY = 256
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/= \t\r\n"
_SPACE = b" \t\r\n"
_DECLARED_ENCODING = re.compile(r"""\A<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")
_HAS_ATTRIBUTES = etree.XPath("boolean(.//@*)")
_XSD_ELEMENT = "{http://www.w3.org/2001/XMLSchema}element"


class Node:
    """What is known of an element of a message: a leaf, a group of others, or something that is left alone.

    ``path`` is absolute and without positions, the only form in which a path is ever reported.
    """

    __slots__ = ("children", "inline", "key", "leaf", "leaf_paths", "name", "path", "skipped")

    def __init__(self, name: str, path: str) -> None:
        self.name = name
        self.path = path
        self.leaf = False
        self.skipped = False
        self.inline = False
        """It has no frame of its own: what stands in it belongs to the frame around it."""
        self.key = name
        """What a leaf is called in its frame: its path from there."""
        self.children: dict[str, Node] = {}
        """By qualified name."""
        self.leaf_paths: dict[str, str] = {}
        """Key -> path of each leaf in its frame."""

    def at(self, path: str) -> Node:
        """Return the node at a path below this one, which the table must have."""
        node = self
        for name in path.split("/"):
            child = next((child for child in node.children.values() if child.name == name), None)
            assert child is not None, f"the table has no {path}"
            node = child
        return node

    def walk(self) -> Iterator[Node]:
        """Yield this node and everything below it."""
        yield self
        for child in self.children.values():
            yield from child.walk()


def table(
    root: str,
    leaves: Iterable[str],
    *,
    skipped: Iterable[str] = (),
    inline: Collection[str] = (),
    namespace: str = "",
) -> Node:
    """Build the table of a message.

    Args:
        root: Local name of the root element.
        leaves: Paths of leaf elements below it, such as ``Consignee/name``.
        skipped: Paths of elements that are left alone with all they hold.
        inline: Names of groups that stand at most once and only bracket what is in them, such as an address. They have
            no frame: their leaves are those of the group around them, called ``address/city``.
        namespace: Of the elements below the root; none where they are unqualified.
    """
    top = Node(root, f"/{root}")

    def reach(path: str) -> Node:
        node = top
        for name in path.split("/"):
            key = f"{{{namespace}}}{name}" if namespace else name
            if key not in node.children:
                node.children[key] = Node(name, f"{node.path}/{name}")
            node = node.children[key]
        return node

    for path in skipped:
        reach(path).skipped = True
    for path in leaves:
        reach(path).leaf = True
    for node in top.walk():
        node.inline = node.name in inline and not node.leaf and not node.skipped
    for node in top.walk():
        if not node.inline:
            _name_leaves(node, node, "")
    return top


def _name_leaves(owner: Node, node: Node, prefix: str) -> None:
    for child in node.children.values():
        if child.leaf:
            child.key = prefix + child.name
            owner.leaf_paths[child.key] = child.path
        elif child.inline:
            _name_leaves(owner, child, f"{prefix}{child.name}/")


class Frame:
    """One element of a message and what its table knows below it."""

    __slots__ = ("_element", "_groups", "_leaves", "_repeats", "node", "open", "values")

    def __init__(self, element: etree._Element, node: Node) -> None:
        self._element = element
        self.node = node
        self.open = False
        """The message was cut before it closed, or may have been."""
        self.values: dict[str, str] = {}
        """Text of each leaf that has one, with its white space folded; of a repeated leaf the first."""
        self._leaves: dict[str, etree._Element] = {}
        """The first of each name."""
        self._repeats: list[tuple[str, str, int | None]] | None = None
        """The others: name, text and line."""
        self._groups: dict[str, list[Frame]] | None = None

    @property
    def name(self) -> str:
        """The element's local name."""
        return self.node.name

    @property
    def path(self) -> str:
        """The element's path."""
        return self.node.path

    @property
    def line(self) -> int | None:
        """The line on which it starts, 1-based."""
        return line_of(self._element)

    def text(self, name: str) -> str:
        """Return a leaf's text with its white space folded, or nothing; of a repeated leaf the first."""
        return self.values.get(name, "")

    def found(self, name: str) -> Found | None:
        """Return a leaf's text and where it stands; None where it has none."""
        text = self.values.get(name)
        return None if text is None else Found(text, self.node.leaf_paths[name], line_of(self._leaves[name]))

    def texts(self, name: str) -> list[str]:
        """Return the texts of a leaf that may stand more than once; empty ones are left out."""
        texts = [self.text(name), *(text for other, text, _ in self._repeats or () if other == name)]
        return [text for text in texts if text]

    @property
    def repeated(self) -> bool:
        """Whether a leaf stands there more than once."""
        return self._repeats is not None

    def repeats(self) -> list[tuple[str, int | None]]:
        """Return path and line of every leaf that stood there before."""
        return [(self.path_of(name), line) for name, _, line in self._repeats or ()]

    def has(self, name: str) -> bool:
        """Whether a leaf stands there, be it empty."""
        return name in self._leaves

    def attribute(self, name: str) -> str:
        """Return an attribute of the element, or nothing."""
        return self._element.get(name) or ""

    def line_of(self, name: str) -> int | None:
        """Return a leaf's line; the element's where there is no such leaf."""
        return line_of(self._leaves.get(name, self._element))

    def path_of(self, name: str) -> str:
        """Return a leaf's path."""
        return f"{self.node.path}/{name}"

    def all(self, name: str) -> Sequence[Frame]:
        """Return the groups of a name directly below, in document order, but for one that the message was cut in."""
        groups = None if self._groups is None else self._groups.get(name)
        if groups is None:
            return ()
        return groups[:-1] if groups[-1].open else groups

    def first(self, name: str) -> Frame | None:
        """Return the first group of a name directly below, or None."""
        found = self.all(name)
        return found[0] if found else None

    def spine(self, name: str) -> Frame | None:
        """Return the first group of a name, also if the message was cut in it: then what closed in it before that."""
        groups = None if self._groups is None else self._groups.get(name)
        return groups[0] if groups else None

    def groups(self) -> list[Frame]:
        """Return the groups directly below, of all names; those of one name together."""
        if self._groups is None:
            return []
        return [group for groups in self._groups.values() for group in groups if not group.open]

    def _add_repeat(self, name: str, text: str, line: int | None) -> None:
        if self._repeats is None:
            self._repeats = []
        self._repeats.append((name, text, line))


def line_of(element: etree._Element) -> int | None:
    """Return the line on which an element starts, 1-based, also beyond the 65,535 that old parsers counted to."""
    return element.sourceline  # type: ignore[return-value]  # the stubs leave its type open


class XmlMessage:
    """One pass over a message.

    Args:
        stream: The message, at its first byte; :func:`refuse` has passed it.
        file: Display name, for issues.
        units: Qualified names of the elements that may be many, such as consignments. Each is handed out when it closes
            and freed before the next one. Where one lies within another, the inner one is gone when the outer closes.
        within: Name of the child of the root that units stand directly in, for formats in which other elements have
            their names too; anywhere where it is empty.
    """

    def __init__(self, stream: BinaryIO, *, file: str, units: Collection[str] = (), within: str = "") -> None:
        self.file = file
        self.cut: Issue | None = None
        """What ended the message before its end; None while all is well."""
        self.cut_in_unit = False
        """Whether a unit was open there."""
        self.notices: list[Issue] = []
        """What :meth:`frame` could not use: elements that the table does not have, texts that are too long."""
        self.root: etree._Element | None = None
        """The root element; once the units are through, with all that is in none of them. None if nothing was read."""
        start = stream.tell()
        root = _root(stream.read(MAX_PROLOG_BYTES))
        self.root_name = "" if root is None else str(root.tag)
        """Qualified name of the root element."""
        self.root_line = None if root is None else line_of(root)
        """The line on which it starts."""
        stream.seek(start)
        self._source = _Source(stream)
        self._parser = _parser(self._source, tag={self.root_name, *units} - {""} or {"-"})
        self._units = frozenset(units)
        self._within = within
        self._names: set[str] = set()
        self._noticed: set[tuple[str, object]] = set()
        self._open: frozenset[etree._Element] = frozenset()
        self._frames = 0
        self._plain_unit: etree._Element | None = None
        """The unit that is handed out, if it surely has no attributes."""

    def units(self) -> Iterator[etree._Element]:
        """Yield each unit when it closes, in document order.

        Nothing of a unit may be kept beyond the next one. After the last, ``cut`` is set if the message broke off.
        """
        line: int | None = None
        in_units = 0
        previous: etree._Element | None = None
        counted_bytes = 0
        try:
            for event, item in self._events():
                line = line_of(item)
                if item.tag not in self._units or (self._within and not self._stands_within(item)):
                    continue
                if event == "start":
                    in_units += 1
                    continue
                in_units -= 1
                self._plain_unit = None if self._source.end_unit() else item
                # Only what the parser is done with for certain is taken away: not the element that has just closed.
                _remove(previous)
                previous = item
                yield item
                item.clear(keep_tail=True)  # type: ignore[call-arg]  # the stubs lack it
                if self.cut is not None:
                    break
                if self._source.total_bytes - counted_bytes > MAX_HELD_BYTES:
                    counted_bytes = self._source.total_bytes
                    self._bound_what_is_held(line)
        except etree.LxmlError as error:
            self.stop(_code(error, at_end=self._source.at_end), line=getattr(error, "lineno", None) or line)
        except FormatError:
            self.stop("xml.too_large", line=line)
        _remove(previous)
        if self.cut is not None:
            self.cut_in_unit = in_units > 0
            self._open = frozenset(_last_ones(self.root))

    def _stands_within(self, unit: etree._Element) -> bool:
        outer = unit.getparent()
        return outer is not None and outer.tag == self._within and outer.getparent() is self.root

    def _events(self) -> Iterator[tuple[str, etree._Element]]:
        namespaces: set[object] = set()
        line: int | None = None
        for event, item in self._parser:
            if event == "start-ns":
                namespaces.add(item)
                if len(namespaces) > MAX_NAMESPACES:
                    self.stop("xml.too_many_names", line=line)
                    return
                continue
            if event == "start":
                if self._source.at_end:
                    # Only a tag that was cut begins after the last byte: what it says is not what was sent. The parser
                    # goes on to the end, where it says what is wrong.
                    for _ in self._parser:
                        pass
                    return
                line = line_of(item)
                if self.root is None:
                    self.root = item
                    if item.getroottree().docinfo.internalDTD is not None:
                        # The check of the prolog missed it.
                        self.stop("xml.doctype", line=line)
                        return
            yield event, item

    def frame(self, element: etree._Element, node: Node) -> Frame:
        """Return what the table knows of an element; what it does not know is noticed once a place.

        Args:
            element: A unit, or the root of a message whose units are through.
            node: Its place in the table.
        """
        # The stream tells sooner than the tree that a unit has no attribute.
        if element is not self._plain_unit and _HAS_ATTRIBUTES(element):
            for inner in element.iter():
                self._bound_names(inner.keys(), inner)
        self._frames = 0
        return self._frame(element, node)

    def _frame(self, element: etree._Element, node: Node) -> Frame:
        frame = Frame(element, node)
        self._frames += 1
        if self._open and element in self._open:
            frame.open = True
        self._fill(frame, element, node)
        return frame

    def _fill(self, frame: Frame, element: etree._Element, node: Node) -> None:
        # Thousands of frames are made a second: each leaf is touched once, and nothing is called for most of them.
        cut = self._open
        known = node.children
        values = frame.values
        leaves = frame._leaves  # noqa: SLF001 - the frame is being made
        for child in element:
            below = known.get(child.tag)
            if below is None:
                # A name that the message was cut in is not what was sent.
                if not (cut and child in cut):
                    self._unknown(child, node)
            elif below.leaf:
                if (cut and child in cut) or (len(child) and self._holds_elements(child, below)):
                    continue
                key = below.key
                if key in leaves:
                    frame._add_repeat(key, self._text_of(child, below), line_of(child))  # noqa: SLF001 - as above
                    continue
                leaves[key] = child
                text = child.text
                if text is not None:
                    if len(text) > MAX_TEXT_CHARS:
                        self._too_long(child, below)
                    elif text.isalnum() or (text := " ".join(text.split())):
                        values[key] = text
            elif below.skipped:
                if len(child):
                    self.skip(child)
            elif self._frames >= MAX_FRAMES:
                self.stop("xml.too_large", line=line_of(child))
                break
            elif below.inline:
                if not (cut and child in cut):
                    self._fill(frame, child, below)
            else:
                group = self._frame(child, below)
                groups = frame._groups  # noqa: SLF001 - as above
                if groups is None:
                    frame._groups = {below.name: [group]}  # noqa: SLF001 - as above
                elif below.name in groups:
                    groups[below.name].append(group)
                else:
                    groups[below.name] = [group]

    def continues(self, other: XmlMessage) -> None:
        """Leave out what another pass over the same message has noticed."""
        self._noticed |= other._noticed

    def _text_of(self, leaf: etree._Element, node: Node) -> str:
        text = leaf.text or ""
        if len(text) > MAX_TEXT_CHARS:
            self._too_long(leaf, node)
            return ""
        return " ".join(text.split())

    def _too_long(self, leaf: etree._Element, node: Node) -> None:
        line = line_of(leaf)
        self.notice("xml.text_too_long", line=line, path=node.path, key=line)

    def skip(self, element: etree._Element) -> None:
        """Leave an element alone with all it holds; only the names in it are bounded."""
        for inner in element.iter():
            self._names.add(inner.tag)
            self._bound_names(inner.keys(), inner)
            if self.cut is not None:
                return

    def stop(self, code: str, *, line: int | None, path: str | None = None) -> None:
        """End the message here; the first reason stands."""
        if self.cut is None:
            self.cut = Issue(self.file, line or None, path, code, rejects_record=False)

    def notice(
        self, code: str, *, line: int | None, path: str, key: object = None, rejects_record: bool = False
    ) -> None:
        """Report something about the message, once for each path and key."""
        if (path, key) not in self._noticed and len(self._noticed) < MAX_NOTICES:
            self._noticed.add((path, key))
            self.notices.append(Issue(self.file, line, path, code, rejects_record))

    def digest(self) -> bytes:
        """Read what is left and return the SHA-256 of the whole message as it stands in the file."""
        self._source.drain()
        return self._source.sha256.digest()

    def _unknown(self, child: etree._Element, node: Node) -> None:
        # The name itself may be anything; its line says which one it is.
        self.notice("xml.unknown_element", line=line_of(child), path=f"{node.path}/*", key=child.tag)
        self.skip(child)

    def _holds_elements(self, leaf: etree._Element, known: Node) -> bool:
        """Report that a leaf holds elements, which makes it unusable."""
        self.notice("xml.unknown_element", line=line_of(leaf[0]), path=f"{known.path}/*", key=leaf[0].tag)
        self.skip(leaf)
        return True

    def _bound_names(self, names: Iterable[str | bytes], element: etree._Element) -> None:
        self._names.update(names)  # type: ignore[arg-type]  # never bytes
        if len(self._names) > MAX_NAMES:
            self.stop("xml.too_many_names", line=line_of(element))

    def _bound_what_is_held(self, line: int | None) -> None:
        assert self.root is not None, "a unit lies within the root"
        if sum(1 for _ in islice(self.root.iter(), MAX_HELD_ELEMENTS + 1)) > MAX_HELD_ELEMENTS:
            self.stop("xml.too_large", line=line)


def _remove(element: etree._Element | None) -> None:
    if element is not None and (parent := element.getparent()) is not None:
        parent.remove(element)


def _last_ones(element: etree._Element | None) -> Iterator[etree._Element]:
    """Yield the last element of each level: what may not have closed where a message was cut."""
    while element is not None:
        yield element
        element = element[-1] if len(element) else None


class _Source:
    """What the parser reads from: hashes every byte, and drops the content of attachments."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.sha256 = hashlib.sha256()
        self.at_end = False
        self.total_bytes = 0
        self._unit_bytes = 0
        """Since the last unit closed; so are the tags."""
        self._unit_tags = 0
        self._chunks = 0
        self._unit_chunk = 1
        """In which the last unit closed."""
        self._equals_chunk = 0
        """The last one that holds an equals sign."""

    def read(self, _size: int = -1) -> bytes:
        while chunk := self._stream.read(_CHUNK_BYTES):
            self.sha256.update(chunk)
            if b"<" in chunk or chunk.translate(None, _BASE64):
                self.total_bytes += len(chunk)
                self._unit_bytes += len(chunk)
                self._unit_tags += chunk.count(b"<")
                self._chunks += 1
                if b"=" in chunk:
                    self._equals_chunk = self._chunks
                if self._unit_bytes > MAX_UNIT_BYTES or self._unit_tags > MAX_UNIT_TAGS:
                    # Ends the parser; never leaves this module.
                    raise FormatError("xml.too_large")
                return chunk
            # An attachment: libxml2 would hold all of it, and refuses texts of over 10 MB. Its line
            # breaks stay, so that the lines of what follows are right; so does its length modulo four, which makes it
            # base64 to a schema.
            if kept := b"\n" * chunk.count(b"\n") + b"A" * (len(chunk.translate(None, _SPACE)) % 4):
                return kept
        self.at_end = True
        return b""

    def end_unit(self) -> bool:
        """Note that a unit has closed. Returns whether it may hold attributes.

        The parser has read up to the chunk in which the unit closed, and no unit before this one reached it.
        """
        marked = self._equals_chunk >= self._unit_chunk
        self._unit_chunk = self._chunks
        self._unit_bytes = self._unit_tags = 0
        return marked

    def drain(self) -> None:
        while chunk := self._stream.read(_CHUNK_BYTES):
            self.sha256.update(chunk)


class _TagSource:
    """Hands out the stream so that a piece ends with each tag: an error belongs to the last event."""

    def __init__(self, stream: BinaryIO) -> None:
        self._source = _Source(stream)
        self._pieces: Iterator[bytes] = iter(())

    @property
    def at_end(self) -> bool:
        return self._source.at_end

    def forget(self) -> None:
        """Note that nothing is held of what was read."""
        self._source.end_unit()

    def read(self, _size: int = -1) -> bytes:
        for piece in self._pieces:
            return piece
        self._pieces = iter(re.findall(rb"[^>]*>|[^>]+", self._source.read()))
        return next(self._pieces, b"")


def refuse(stream: BinaryIO, *, file: str) -> Issue | None:
    """Say why a message is not read at all, or None if it may be parsed. Leaves the stream where it was.

    Args:
        stream: The message, at its first byte; seekable.
        file: Display name, for the issue.

    Returns:
        ``file.empty``, ``xml.encoding``, ``xml.malformed``, ``xml.prolog_too_long`` or ``xml.doctype``.
    """
    start = stream.tell()
    head = stream.read(MAX_PROLOG_BYTES)
    stream.seek(start)
    if not head:
        return Issue(file, None, None, "file.empty", rejects_record=True)
    text = _decoded(head)
    if text is None:
        return Issue(file, 1, None, "xml.encoding", rejects_record=True)
    code, line = _prolog(text, whole=len(head) < MAX_PROLOG_BYTES)
    return None if code is None else Issue(file, line, None, code, rejects_record=True)


def _decoded(head: bytes) -> str | None:
    """Return the head as text, or None if its encoding is not read or contradicts itself."""
    if head.startswith(b"\xef\xbb\xbf"):
        bom, text = "utf-8", head[3:].decode("utf-8", errors="replace")
    elif head.startswith((b"\xff\xfe", b"\xfe\xff")):
        # UTF-32 begins with the same two bytes; its NULs show it below.
        bom, text = "utf-16", head.decode("utf-16", errors="replace")
    else:
        bom, text = "", head.decode("latin-1")
    if "\0" in text[:4]:
        return None
    declared = match[1].lower() if (match := _DECLARED_ENCODING.match(text)) else bom or "utf-8"
    if declared in {"utf-16le", "utf-16be"}:
        declared = "utf-16"
    return text if declared in ENCODINGS and declared.startswith("utf-16") == (bom == "utf-16") else None


def _prolog(text: str, *, whole: bool) -> tuple[str | None, int | None]:
    """Walk declarations, comments and white space up to the root element."""
    at = 0
    while True:
        at += len(text[at:]) - len(text[at:].lstrip(" \t\r\n"))
        line = text.count("\n", 0, at) + 1
        if text.startswith("<!--", at):
            end, size = text.find("-->", at + 4), 3
        elif text.startswith("<?", at):
            end, size = text.find("?>", at + 2), 2
        elif text.startswith("<!", at):
            return "xml.doctype", line
        elif text.startswith("<", at):
            return None, None
        elif at < len(text):
            return "xml.malformed", line
        else:
            end, size = -1, 0
        if end < 0:
            return ("xml.truncated" if whole else "xml.prolog_too_long"), line
        at = end + size


def _parser(
    source: _Source | _TagSource | BytesIO,
    *,
    tag: Collection[str] | None = None,
    schema: etree.XMLSchema | None = None,
) -> etree.iterparse:
    """Return the one way in which this package parses XML from outside."""
    return etree.iterparse(
        source,
        events=("start", "end", "start-ns"),
        tag=tag,
        schema=schema,
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        recover=False,
        remove_comments=True,
        remove_pis=True,
        # White space between elements would be half of the tree.
        remove_blank_text=True,
        collect_ids=False,
    )


def root_name(head: bytes) -> str | None:
    """Return the qualified name of the root element, or None where the head of a message does not tell.

    Args:
        head: The first ``MAX_PROLOG_BYTES`` of a message, or all of it.
    """
    root = _root(head)
    return None if root is None else str(root.tag)


def _root(head: bytes) -> etree._Element | None:
    text = _decoded(head)
    if text is None or _prolog(text, whole=True)[0] is not None:
        return None
    element: etree._Element
    try:
        for event, element in _parser(BytesIO(head)):
            if event == "start":
                return element
    except etree.LxmlError:
        return None
    return None


def _drop_what_precedes(element: etree._Element) -> None:
    """Free every element that closed before this one did: the earlier siblings of it and of its ancestors.

    Only elements whose end event was read are touched; libxml2 may be a chunk ahead of the events.
    """
    inner: etree._Element | None = element
    while inner is not None:
        outer = inner.getparent()
        if outer is not None and (position := outer.index(inner)):
            del outer[:position]
        inner = outer


def _code(error: etree.LxmlError, *, at_end: bool) -> str:
    number = getattr(error, "code", None)
    if number in {etree.ErrorTypes.ERR_INVALID_ENCODING, etree.ErrorTypes.ERR_UNSUPPORTED_ENCODING}:
        return "xml.encoding"
    if number == etree.ErrorTypes.ERR_RESOURCE_LIMIT:
        return "xml.too_large"
    if number == etree.ErrorTypes.ERR_INTERNAL_ERROR:
        # libxml2 stopped in the midst, at an entity that nobody declared, and lxml says so only at the end.
        return "xml.malformed"
    return "xml.truncated" if at_end else "xml.malformed"


class Schema:
    """A compiled XSD and the element names that it declares, which are all that an issue may name.

    Args:
        path: The XSD. It comes from the operator of this node and is trusted.

    Raises:
        ConfigError: If it cannot be read or does not compile.
    """

    def __init__(self, path: Path) -> None:
        try:
            self.compiled = etree.XMLSchema(etree.parse(path, etree.XMLParser(no_network=True, resolve_entities=False)))
            # Included documents lie beside the main one.
            declared = (
                element.get("name")
                for document in sorted(path.parent.glob("*.xsd"))
                for _, element in etree.iterparse(document, tag=_XSD_ELEMENT, no_network=True, resolve_entities=False)
            )
            self._names = frozenset(name for name in declared if name)
        except (OSError, etree.LxmlError) as error:
            raise ConfigError(f"schema {path.name} does not compile") from error

    def shown(self, element: etree._Element) -> str:
        """Return an element's local name if the schema declares it, else ``*``: any other may be anything."""
        # Not by QName, which refuses what the parser takes for a name, such as a lone colon.
        name = str(element.tag).rpartition("}")[2]
        return name if name in self._names else "*"


@lru_cache(maxsize=32)
def load_schema(directory: Path, *names: str) -> Schema:
    """Find and compile an XSD below a folder; compiled once per process.

    Args:
        directory: The folder that ``--schemas`` names, or any folder above the XSD.
        names: File names that the XSD may have, the one to prefer first; ``*`` stands for any characters.

    Raises:
        ConfigError: There is none, it does not compile, or there are several that differ: then nobody knows which
            release the message is of.
    """
    for name in names:
        found = sorted(directory.glob(name)) or sorted(directory.rglob(name))
        if len({path.read_bytes() for path in found}) > 1:
            raise ConfigError(f"several different {name} below the schema folder; name the folder of one release")
        if found:
            return Schema(found[0])
    raise ConfigError(f"no {names[0]} below the schema folder")


@dataclass(frozen=True, slots=True)
class Violations:
    """Where a message departs from its schema."""

    issues: tuple[Issue, ...]
    """At most ``MAX_SCHEMA_ISSUES``, with codes ``xsd.`` and libxml2's name of the error; the path holds names that the
    schema declares and ``*`` for any other. None of them rejects a record: the reader does, by the two that follow."""
    units: frozenset[int]
    """Positions, from 0, of the units that do."""
    elsewhere: bool
    """Whether what is in no unit does."""


NO_VIOLATIONS = Violations((), frozenset(), elsewhere=False)


def validate(stream: BinaryIO, schema: Schema, *, file: str, units: Collection[str] = ()) -> Violations:
    """Hold a message against its schema, in one pass of bounded memory.

    The message must have passed :func:`refuse`. What breaks off the stream ends the validation without a word:
    the reading pass reports that.

    Args:
        stream: The message, at its first byte; it is read to its end.
        schema: From :func:`load_schema`.
        file: Display name, for the issues.
        units: As for :class:`XmlMessage`.
    """
    source = _TagSource(stream)
    context = _parser(source, schema=schema.compiled)
    path: list[str] = []
    issues: list[Issue] = []
    broken: set[int] = set()
    elsewhere = False
    unit, inside, reported, count = -1, 0, 0, 0
    try:
        for event, element in context:
            if event == "start-ns":
                continue
            if event == "start" and source.at_end:
                # As in XmlMessage: a tag that was cut.
                return Violations(tuple(issues), frozenset(broken), elsewhere=elsewhere)
            is_unit = element.tag in units
            if event == "start":
                path.append(schema.shown(element))
                if is_unit:
                    unit, inside = unit + 1, len(path)
            # The log is copied whenever it is looked at. Once no issue comes of it, that is where units begin and end.
            if len(issues) <= MAX_SCHEMA_ISSUES or is_unit:
                for entry in list(context.error_log)[reported:]:
                    reported += 1
                    if inside and (event == "end" or len(issues) <= MAX_SCHEMA_ISSUES):
                        broken.add(unit)
                    else:
                        elsewhere = True
                    if len(issues) < MAX_SCHEMA_ISSUES:
                        issues.append(_violation(entry, element, path, file))
                    elif len(issues) == MAX_SCHEMA_ISSUES:
                        issues.append(Issue(file, line_of(element), None, "xsd.too_many_errors", rejects_record=False))
                if reported > MAX_SCHEMA_ERRORS:
                    elsewhere = True
                    break
            if event == "end":
                if len(path) == inside:
                    inside = 0
                path.pop()
                count += 1
                if count % _CLEAN_EVERY == 0:
                    _drop_what_precedes(element)
                    source.forget()
    except (etree.LxmlError, FormatError):
        # Also where the whole message was read and is not valid.
        pass
    if any(entry.domain == etree.ErrorDomains.SCHEMASV for entry in list(context.error_log)[reported:]):
        elsewhere = True
    return Violations(tuple(issues), frozenset(broken), elsewhere=elsewhere)


def check(element: etree._Element, schema: Schema, *, file: str, path: str = "") -> list[Issue]:
    """Hold one element that is in memory against its schema; as :func:`validate`, without units.

    Args:
        element: With all it holds; what stands around it does not count.
        schema: From :func:`load_schema`.
        file: Display name, for the issues.
        path: Where the element stands.
    """
    # libxml2 validates documents: the element gets one of its own, so that nothing around it counts.
    document = etree.ElementTree(element)
    if schema.compiled.validate(document):
        return []
    issues = []
    for entry in [*schema.compiled.error_log][:MAX_SCHEMA_ISSUES]:  # type: ignore[misc]  # the stubs lack iteration
        found = _where(entry, document)
        above = [found, *found.iterancestors()]
        names = [schema.shown(inner) for inner in above[: above.index(element) + 1]]
        issues.append(_violation(entry, found, [path, *reversed(names)], file))
    return issues


def _where(entry: etree._LogEntry, document: etree._ElementTree) -> etree._Element:
    """Return the element that breaks a schema; a message may be one line, so that its line does not tell."""
    root = document.getroot()
    prefixes = {prefix: name for prefix, name in root.nsmap.items() if prefix}
    try:
        found = document.xpath(entry.path or "", namespaces=prefixes)
    except etree.XPathError:
        # A prefix that is declared further down.
        found = []
    if isinstance(found, list) and found and isinstance(found[0], etree._Element):  # noqa: SLF001 - as ``Element``
        return found[0]
    return next((inner for inner in root.iter() if line_of(inner) == entry.line), root)


def _violation(entry: etree._LogEntry, element: etree._Element, path: Sequence[str], file: str) -> Issue:
    code = entry.type_name.lower().removeprefix("schemav_")
    return Issue(file, line_of(element), "/" + "/".join(path).lstrip("/"), f"xsd.{code}", rejects_record=False)


@dataclass(frozen=True, slots=True)
class Written:
    """An element that is to be written."""

    name: str
    """Qualified."""
    content: str | Sequence[Written] = field(repr=False)
    """Its text, or what it holds."""
    attributes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    """By qualified name."""
    namespaces: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Prefix -> namespace, declared here."""


def write(root: Written) -> bytes:
    """Return a document in UTF-8. Its texts must hold only characters that XML has."""
    return etree.tostring(_element(root, None), encoding="UTF-8", xml_declaration=True)


def _element(written: Written, parent: etree._Element | None) -> etree._Element:
    made = (written.name, dict(written.attributes), dict(written.namespaces))
    element = etree.Element(*made) if parent is None else etree.SubElement(parent, *made)
    if isinstance(written.content, str):
        element.text = written.content
    else:
        for inner in written.content:
            _element(inner, element)
    return element
