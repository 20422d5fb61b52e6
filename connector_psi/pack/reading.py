"""Reads ``policy.yaml``: YAML without aliases, tags or duplicate keys, every word of it in the vocabulary.

Decides: what bytes are a policy, and where in a file a wrong one is. A policy that names a system, kind of data or
recipient of ``GLOBAL_REFUSALS`` is refused with the reason given.
Leaves to others: what the words mean together (``pack.checks``, which ``load_policy`` asks), and what is decided by
them (``policy``), who signed it (``pack.signing``). Only ``read_policy`` touches the disk.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from connector_psi.domain.purposes import GLOBAL_REFUSALS
from connector_psi.errors import ConfigError
from connector_psi.pack.checks import Severity, check_pack
from connector_psi.policy import OwnPurpose, PolicyPack, Template

MAX_POLICY_BYTES: Final = 1 << 20
POLICY_VERSION: Final = 1
_MAX_NODES: Final = 5_000
_MAX_ENTRIES: Final = 300
_MAX_DEPTH: Final = 8
_MAX_PROBLEMS: Final = 20
_Terms = TypeVar("_Terms", bound=BaseModel)

_Path = tuple[str | int, ...]
# libyaml where the wheel has it: the pure Python scanner takes seconds for a megabyte.
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER: Final = re.compile(r"-?(0|[1-9][0-9]{0,15})")
_NOT_A_WORD: Final = re.compile(r"[^a-z0-9]+")
_REFUSED: Final = re.compile(f"_({'|'.join(GLOBAL_REFUSALS)})_")
_CONSTANTS: Final[Mapping[str, bool | None]] = {"": None, "~": None, "null": None, "true": True, "false": False}


class _Reader:
    """Builds plain values from YAML events; stops at the first event that a policy has no use for.

    Scalars are integers, ``true``, ``false``, ``null`` or text: no implicit dates, no octals, no ``NO`` read as false.
    """

    def __init__(self, text: str, source: str) -> None:
        self.lines: dict[_Path, int] = {}
        self._source = source
        self._events: Iterator[Any] = iter(yaml.parse(text, Loader=_LOADER))
        self._line = 1

    def document(self) -> object:
        """Return the value of the one document."""
        try:
            event = self._next()
            while isinstance(event, (yaml.StreamStartEvent, yaml.DocumentStartEvent)):
                event = self._next()
            if isinstance(event, yaml.StreamEndEvent):
                self._refuse((), "the file is empty")
            value = self._value(event, ())
            self._next()
            if not isinstance(self._next(), yaml.StreamEndEvent):
                self._refuse((), "more than one document")
        except (yaml.YAMLError, RecursionError) as error:
            mark = getattr(error, "problem_mark", None)
            raise ConfigError(f"{self._source}:{mark.line + 1 if mark else self._line}: not valid YAML") from None
        return value

    def _next(self) -> Any:  # noqa: ANN401  # PyYAML's events have no common typed base
        event = next(self._events)
        self._line = event.start_mark.line + 1
        return event

    def _refuse(self, path: _Path, reason: str) -> NoReturn:
        raise ConfigError(f"{self._source}:{self._line}: {_shown(path)}{reason}")

    def _value(self, event: Any, path: _Path) -> object:  # noqa: ANN401  # see _next
        self.lines.setdefault(path, self._line)
        if len(self.lines) > _MAX_NODES or len(path) > _MAX_DEPTH or path[-1:] == (_MAX_ENTRIES,):
            self._refuse(path[:_MAX_DEPTH], "too many or too deeply nested values")
        # Aliases make a small file expand into gigabytes; tags choose how a value is built.
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            self._refuse(path, "anchors and aliases are not allowed")
        if event.tag is not None:
            self._refuse(path, "tags are not allowed")
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[object] = []
            while not isinstance(event := self._next(), yaml.SequenceEndEvent):
                items.append(self._value(event, (*path, len(items))))
            return items
        if isinstance(event, yaml.MappingStartEvent):
            mapping: dict[str, object] = {}
            while not isinstance(event := self._next(), yaml.MappingEndEvent):
                if not isinstance(event, yaml.ScalarEvent) or event.anchor is not None or event.tag is not None:
                    self._refuse(path, "a key is not plain text")
                key = event.value
                if key in mapping:
                    self._refuse((*path, key), "the key stands twice")
                self.lines[*path, key] = self._line
                mapping[key] = self._value(self._next(), (*path, key))
            return mapping
        return event.value if event.style else _scalar(event.value)


def _scalar(text: str) -> object:
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    return int(text) if _INTEGER.fullmatch(text) else text


def _shown(path: _Path) -> str:
    # A key is shown only in the characters of the vocabulary, and short: an error text is no place for content.
    parts = [
        re.sub(r"[^A-Za-z0-9_.:-]", "?", str(part))[:40]
        for part in path
        if part not in {"templates", "own_node", "[key]"}
    ]
    return f"{'.'.join(parts)}: " if parts else ""


def _refusals(value: object, path: _Path) -> Iterator[tuple[_Path, str]]:
    """Where a tree of values names what ``GLOBAL_REFUSALS`` refuses, keys included; ``requires`` is free text."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key != "requires":
                yield from _refusals(key, (*path, key))
                yield from _refusals(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _refusals(item, (*path, index))
    elif isinstance(value, str) and (found := _REFUSED.search(f"_{_NOT_A_WORD.sub('_', value.lower())}_")):
        yield path, f"refused, {found[1]}: {GLOBAL_REFUSALS[found[1]]}"


def _problem(error: Mapping[str, Any]) -> str:
    if error["type"] == "extra_forbidden" or error["loc"][-1:] == ("[key]",):
        return "unknown key"
    if error["type"] == "missing":
        return "the key is missing"
    # Pydantic's messages name what is allowed and, without its input, never what was given.
    return str(error["msg"]).removeprefix("Value error, ")


def parse_policy(raw: bytes, source: str = "policy.yaml") -> PolicyPack:
    """Read a policy file whose every word is in the vocabulary.

    Unknown keys, duplicate keys, aliases, tags and whatever ``GLOBAL_REFUSALS`` names are refused. What each word
    means together with the others is the matter of ``check_pack``.

    Args:
        raw: UTF-8 YAML of at most ``MAX_POLICY_BYTES``.
        source: The name of the file, for messages.

    Returns:
        The pack, its templates in the order of their codes.

    Raises:
        ConfigError: For any other bytes; the text names file, line, agreement and key.
    """
    if len(raw) > MAX_POLICY_BYTES:
        raise ConfigError(f"{source}: larger than {MAX_POLICY_BYTES} bytes")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{source}: not UTF-8") from None
    try:
        reader = _Reader(text, source)
    except yaml.YAMLError:
        raise ConfigError(f"{source}:1: not valid YAML") from None
    tree = reader.document()
    if not isinstance(tree, dict) or not isinstance(tree.get("templates"), dict) or not tree["templates"]:
        raise ConfigError(f"{source}:1: templates: the key is missing")
    if extra := tree.keys() - {"version", "templates", "own_node"}:
        key = min(extra)
        raise ConfigError(f"{source}:{reader.lines[key,]}: {_shown((key,))}unknown key")
    if type(tree.get("version")) is not int or tree["version"] != POLICY_VERSION:
        raise ConfigError(f"{source}:{reader.lines.get(('version',), 1)}: version: only {POLICY_VERSION} is understood")

    own_node = tree.get("own_node", {})
    if not isinstance(own_node, dict):
        raise ConfigError(f"{source}:{reader.lines['own_node',]}: own_node: not a mapping")
    problems: list[tuple[_Path, str]] = []
    templates = _terms(Template, tree["templates"], ("templates",), problems)
    own = _terms(OwnPurpose, own_node, ("own_node",), problems)
    if problems:
        places = [f"{source}:{_line_of(path, reader.lines)}: {_shown(path)}{text}" for path, text in problems]
        raise ConfigError("\n".join(places[:_MAX_PROBLEMS]))
    return PolicyPack(POLICY_VERSION, templates, own, source)


def _terms(
    model: type[_Terms], tree: dict[str, Any], place: _Path, problems: list[tuple[_Path, str]]
) -> tuple[_Terms, ...]:
    """Read the entries of one table, in the order of their codes; what is wrong with them goes to ``problems``."""
    found: list[_Terms] = []
    for code, terms in tree.items():
        path: _Path = (*place, code)
        if refused := [*_refusals(code, path), *_refusals(terms, path)]:
            problems += refused
        elif not isinstance(terms, dict) or "code" in terms:
            problems.append((path, "not a mapping of keys without code"))
        else:
            try:
                # JSON mode: strict, yet with enumerations and dates written as text.
                found.append(model.model_validate_json(json.dumps({"code": code, **terms})))
            except ValidationError as error:
                wrong = error.errors(include_url=False, include_input=False, include_context=False)
                problems += [((*path, *item["loc"]), _problem(item)) for item in wrong]
    return tuple(sorted(found, key=attrgetter("code")))


def _line_of(path: _Path, lines: Mapping[_Path, int]) -> int:
    while path not in lines:
        path = path[:-1]
    return lines[path]


def load_policy(path: Path) -> PolicyPack:
    """Read a policy file from disk and refuse it if ``check_pack`` finds an error; warnings pass.

    Raises:
        ConfigError: The file is unreadable, malformed or contradicts itself.
    """
    return valid_policy(read_policy(path), str(path))


def read_policy(path: Path) -> bytes:
    """Return the bytes of a policy file, no more than ``parse_policy`` needs to refuse one that is too large.

    Raises:
        ConfigError: The file is unreadable.
    """
    try:
        with path.open("rb") as file:
            return file.read(MAX_POLICY_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or 'unreadable'}") from None


def valid_policy(raw: bytes, source: str = "policy.yaml") -> PolicyPack:
    """Read a policy and refuse it if ``check_pack`` finds an error; warnings pass.

    Raises:
        ConfigError: It is malformed or contradicts itself.
    """
    pack = parse_policy(raw, source)
    if errors := [str(finding) for finding in check_pack(pack) if finding.severity is Severity.ERROR]:
        raise ConfigError("\n".join(errors[:_MAX_PROBLEMS]))
    return pack
