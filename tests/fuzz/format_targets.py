"""Every format that adapters read, as targets; a new adapter is found like the node finds it, by its ``FORMATS``.

Seeds come from the samples that tests build, from the examples in ``docs/formats``, and from what an adapter declares:
the tables of its messages and the models of its lines. Where third-party samples and schemas lie beside the project
they are read too, and XML is read a second time with its schemas.

What every adapter promises (``domain.intake``) is checked of all that comes out.
"""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from pydantic import BaseModel

from connector_psi.adapters import formats, xml
from connector_psi.demo.declarations import encode_declaration
from connector_psi.demo.numbers import Numbers
from connector_psi.demo.shipments import Shipments
from connector_psi.domain import drafts
from connector_psi.domain.identifiers import normalise
from connector_psi.domain.intake import Format, Item, Kind
from connector_psi.domain.purposes import CATEGORIES
from connector_psi.domain.records import Issue, Record, Supersession
from connector_psi.domain.systems import SYSTEMS
from connector_psi.errors import ConfigError, ConnectorError, PurposeRefusedError
from connector_psi.rpc import convert
from tests import adapter_samples as samples
from tests.format_samples import SAMPLES
from tests.fuzz.harness import Target, promise, repeats_a_plant
from tests.fuzz.mutation import IDENTIFIERS, Shape

ROOT = Path(__file__).resolve().parents[2]
MAX_BYTES = 16_384
MAX_REF_CHARS = 200
MAX_VERSION = 2**63 - 1
"""What the store can hold."""

_SHAPES = {Kind.XML: Shape.XML, Kind.JSON: Shape.JSON, Kind.JSONL: Shape.JSON_LINES, Kind.CSV: Shape.CSV}
_BY_REFERENCE = frozenset({"ics2.risk", "ics2.hit"})
"""Categories whose records say something about another record, which they name by its reference."""
_PATH = re.compile(r"[A-Za-z0-9_/.$*#@{}:\[\]-]*")
_CODE = re.compile(r"[a-z0-9_]+\.[a-z0-9_]+")


def targets() -> Iterator[Target]:
    """Yield a target for each format, one for recognition, and one more for each XML format with its schemas."""
    yield Target(
        "any-format",
        lambda data: _read(data, None),
        (PurposeRefusedError,),
        _a_few_of_all,
        Shape.ANY,
        check=check,
        takes_in=has_records,
        max_bytes=MAX_BYTES,
    )
    for each in formats.FORMATS.values():
        yield _target(each, each.name, None)
        if each.kind is Kind.XML and _has_schemas(each):
            yield _target(each, f"{each.name}+xsd", each)


def _target(each: Format, name: str, with_schemas: Format | None) -> Target:
    def decode(data: bytes) -> list[Item]:
        return _read(data, each.name, None if with_schemas is None else schemas_of(each.name))

    def absent() -> str:
        return "no schema set for it" if with_schemas is not None and schemas_of(each.name) is None else ""

    # A message may be of a kind that the schema set lacks: the operator is told.
    refuses = (ConfigError,) if with_schemas is not None else ()
    return Target(
        name,
        decode,
        refuses,
        lambda: seeds_of(each.name),
        _SHAPES[each.kind],
        check=check,
        takes_in=has_records,
        max_bytes=MAX_BYTES,
        absent=absent,
    )


def _read(data: bytes, name: str | None, schemas: Path | None = None) -> list[Item]:
    return list(formats.read(io.BytesIO(data), file="f", format=name, schemas=schemas))


# What adapters promise


def has_records(items: list[Item]) -> bool:
    """Whether a record came out."""
    return any(isinstance(item, Record) for item in items)


def check(items: list[Item], *, file: str | None = "f") -> None:
    """Check what adapters promise of what comes out of them; ``file`` is the only one that issues may name."""
    unnamed = False
    for item in items:
        if isinstance(item, Issue):
            promise(file is None or item.file == file, "an issue of another file")
            _check_issue(item)
            unnamed = unnamed or item.code.endswith(".no_identifier")
        elif isinstance(item, Record):
            _check_record(item)
            # A declaration is kept for the newer one that may come; that there is nothing to match it by is told.
            named = item.identifiers or any(party.name for party in item.parties)
            promise(named or unnamed or item.category in _BY_REFERENCE, "neither identifier nor name, and not told")
        else:
            _check_supersession(item)


def _check_issue(issue: Issue) -> None:
    promise(not repeats_a_plant(repr(issue)), f"{issue.code}: an issue repeats the input")
    promise(issue.line is None or issue.line >= 1, f"{issue.code}: line")
    promise(issue.path is None or _PATH.fullmatch(issue.path), f"{issue.code}: path")
    promise(_CODE.fullmatch(issue.code), "a code that is none")


def _check_record(record: Record) -> None:
    promise(0 < len(record.source_ref) <= MAX_REF_CHARS, "source_ref")
    promise(len(record.message_ref) <= MAX_REF_CHARS, "message_ref")
    promise(len(record.message_digest) == 32, "message_digest")
    promise(record.category in CATEGORIES, f"category {record.category}")
    promise(record.category.startswith(SYSTEMS[record.source.value].category_prefix), "category of another system")
    promise(0 <= record.version <= MAX_VERSION, "version")
    promise(len(record.identifiers) <= drafts.MAX_IDENTIFIERS, "too many identifiers")
    promise(
        all(0 < len(values) <= drafts.MAX_VALUES and all(values) for values in record.fields.values()),
        "values of a field",
    )
    promise(len(record.parties) <= drafts.MAX_VALUES, "too many parties")
    promise(record.valid_until is None or record.valid_until.tzinfo is not None, "valid_until without a zone")
    kept = set()
    for identifier in record.identifiers:
        promise(normalise(identifier.type, identifier.value) == identifier.value, f"{identifier.type}: not canonical")
        promise(_PATH.fullmatch(identifier.source_path), "source_path")
        promise(not repeats_a_plant(identifier.source_path + identifier.role), "a place repeats the input")
        kept.add((identifier.type, identifier.value, identifier.role))
    promise(len(kept) == len(record.identifiers), "an identifier counts twice")
    promise(
        not any(repeats_a_plant(party.source_path + party.role) for party in record.parties),
        "a place repeats the input",
    )
    # Whatever a record holds can be sent, stored and shown; text with half of a surrogate pair could not.
    convert.record_message(record).SerializeToString()
    repr(record.parties).encode()
    "".join(
        str(party.name) + party.address + "".join(party.aliases) + party.birth_place for party in record.parties
    ).encode()


def _check_supersession(item: Supersession) -> None:
    promise(0 < len(item.message_ref) <= MAX_REF_CHARS, "message_ref of a supersession")
    promise(len(item.same_as) <= MAX_REF_CHARS, "same_as of a supersession")
    convert.supersession_message(item).SerializeToString()
    promise(0 <= item.version <= MAX_VERSION, "version of a supersession")
    promise(not item.reason or item.withdrawn, "a reason without a withdrawal")


# Seeds


def shared() -> Path | None:
    """Return the folder of third-party material, None where it is absent."""
    path = Path(os.environ.get("CONNECTOR_PSI_SHARED", ROOT.parent / "shared")) / "reference"
    return path if path.is_dir() else None


@cache
def seeds_of(name: str) -> tuple[bytes, ...]:
    """Return inputs of a format, the project's own first."""
    each = formats.FORMATS[name]
    sample = [SAMPLES[name]()] if name in SAMPLES else []
    found = [
        *sample,
        *_built().get(name, ()),
        *_examples().get(name, ()),
        *_declared(each),
        *_third_party().get(name, ()),
    ]
    return tuple(dict.fromkeys(data for data in found if len(data) <= MAX_BYTES)) or (b" ",)


def _a_few_of_all() -> Iterable[bytes]:
    for name in formats.FORMATS:
        yield from seeds_of(name)[:3]
    yield b"UNA:+.? 'UNB+IATA:1+1A+KRC+240101:0900+1'UNG+PNRGOV+1A+KRC'UNH+1+PNRGOV:11:1:IA'"


@cache
def _built() -> dict[str, list[bytes]]:
    """What tests and the demonstration build beside the one sample of each format."""
    random = Random(1)
    declarations = Shipments(random, Numbers(random)).declarations()
    whole = samples.ens(
        samples.house(1, samples.equipment(samples.BOX_A, "SEAL-A1"), samples.document("H-1001")),
        samples.house(2, samples.equipment(samples.BOX_C)),
        master=samples.equipment(samples.BOX_B),
    )
    return _by_format([whole, *(encode_declaration(declaration) for declaration in islice(declarations, 3))])


@cache
def _examples() -> dict[str, list[bytes]]:
    """The examples in the documentation of the formats."""
    pages = [ROOT / "docs" / "formats.md", *sorted((ROOT / "docs" / "formats").glob("*.md"))]
    blocks = [
        block.encode()
        for page in pages
        if page.is_file()
        for block in re.findall(
            r"^```(?:xml|jsonl?|csv)\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
        )
    ]
    return _by_format(blocks)


@cache
def _third_party() -> dict[str, list[bytes]]:
    folder = shared()
    if folder is None:
        return {}
    paths = [path for suffix in ("xml", "json", "jsonl", "csv") for path in sorted(folder.rglob(f"*.{suffix}"))]
    return _by_format(path.read_bytes() for path in paths if path.stat().st_size <= MAX_BYTES)


def _by_format(inputs: Iterable[bytes]) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    for data in inputs:
        try:
            found.setdefault(formats.detect("", data), []).append(data)
        except ConnectorError:
            continue
    return found


def _declared(each: Format) -> Iterator[bytes]:
    """Build inputs from what the adapter says that it reads."""
    module = _module_of(each)
    if each.kind is Kind.XML:
        roots = {mark.rpartition("}")[2]: mark.rpartition("}")[0][1:] for mark in each.marks}
        for node in dict.fromkeys(_nodes(vars(module))):
            if node.name in roots:
                yield _message(node, roots[node.name])
    else:
        for model in _models(vars(module)):
            if each.marks & set(model.model_fields):
                schema = model.model_json_schema()
                for variant in range(_VARIANTS):
                    yield _lines(each, schema, variant)


_VARIANTS = 60
"""Inputs of each model, so that nearly every word of its closed lists comes up in one."""


def _module_of(each: Format) -> Any:
    return next(
        m
        for m in list(sys.modules.values())
        if m.__name__.startswith("connector_psi.adapters.") and each in getattr(m, "FORMATS", ())
    )


def _nodes(value: Any, depth: int = 0) -> Iterator[xml.Node]:
    """Find the tables of messages, wherever a module keeps them."""
    if isinstance(value, xml.Node):
        yield value
    elif depth < 4 and isinstance(value, (list, tuple, set, frozenset)):
        for inner in value:
            yield from _nodes(inner, depth + 1)
    elif depth < 4 and isinstance(value, Mapping):
        for inner in list(value.values()):
            yield from _nodes(inner, depth + 1)
    elif depth < 4 and hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        for name in value.__dataclass_fields__:
            yield from _nodes(getattr(value, name), depth + 1)


def _message(node: xml.Node, namespace: str) -> bytes:
    parts = ['<?xml version="1.0" encoding="UTF-8"?>\n']
    number = 0

    def write(name: str, inner: xml.Node) -> None:
        nonlocal number
        namespace_of, _, local = name.rpartition("}")
        parts.append(f'<{local} xmlns="{namespace_of[1:]}">' if namespace_of else f'<{local} xmlns="">')
        for child_name, child in inner.children.items():
            write(child_name, child)
        if inner.leaf:
            parts.append(_guess(local, IDENTIFIERS[number % 12]))
            number += 1
        parts.append(f"</{local}>\n")

    write(f"{{{namespace}}}{node.name}" if namespace else node.name, node)
    return "".join(parts).encode()


_GUESSES = (
    ("datetime|dateandtime|issue|arrival|departure|_at$|until", "2026-11-22T06:05:00Z"), ("date|birth|_on$", "2026-11-22"),
    ("country|nationality|state", "DE"), ("mrn|movementreference", "25BE000000000SYN01"), ("container|equipment", "CSQU3054383"),
    ("vin_?last", "JZ386752"), ("vin|chassis", "WVWZZZ1JZXW000001"), ("imo", "9074729"), ("mmsi", "211234560"),
    ("eori|traderidentification|tin", "DE123456789"), ("mail", "a@example.org"), ("phone|telephone", "+4930123456"), ("eni", "02345678"),
    ("iban", "DE89370400440532013000"), ("lei", "5493001KJTIIGC8Y1R12"), ("imei", "490154203237518"), ("card", "4111111111111111"),
    ("hull", "DEABC12345D101"), ("currency", "EUR"), ("denomination", "50"), ("make", "Volvo"), ("calibre", "9 mm"), ("article", "38"), ("case$|reference", "CASE-2026-1"),
    ("website|url", "www.example.org"), ("plate", "BAB1234"), ("document_type", "passport"), ("number|serial", "AB1234567"),
    ("sequence|count", "1"), ("name", "Example Ltd"), ("description|text|mark|remark|information", "used cars, VIN WVWZZZ1JZXW000001"),
    ("type|kind|code", "10"),
)  # fmt: skip
_PATTERNED = (
    "DE",
    "A1",
    "H1",
    "38",
    "g",
    "a",
    "b",
    "2026-11-22",
    "1980",
    "87032319",
    "BE101000",
    "EUR",
    *(value for _, value in _GUESSES),
)
"""Tried where a key has a pattern."""


def _guess(name: str, otherwise: str) -> str:
    lowered = name.lower()
    return next((value for words, value in _GUESSES if re.search(words, lowered)), otherwise)


def _models(value: dict[str, Any]) -> list[type[BaseModel]]:
    return [
        each
        for each in value.values()
        if isinstance(each, type) and issubclass(each, BaseModel) and each is not BaseModel
    ]


def _lines(each: Format, schema: dict[str, Any], variant: int) -> bytes:
    line = _Instance(schema.get("$defs", {}), Random(variant)).of(schema, "")
    if each.kind is Kind.JSONL:
        return samples.jsonl(line)
    if each.kind is Kind.JSON:
        return samples.jsonl([line])
    flat: dict[str, str] = {}
    for key, value in line.items():
        if isinstance(value, dict):
            flat |= {f"{key}_type" if inner == "type" else inner: _cell(text) for inner, text in value.items()}
        else:
            flat[key] = _cell(value)
    return (",".join(flat) + "\n" + ",".join(flat.values()) + "\n").encode()


def _cell(value: Any) -> str:
    text = "|".join(map(str, value)) if isinstance(value, list) else str(value)
    return text.replace(",", " ") if not isinstance(value, bool) else text.lower()


class _Instance:
    """Makes up values that fit a JSON schema, as far as the names of keys tell what is wanted."""

    def __init__(self, definitions: dict[str, Any], random: Random) -> None:
        self._definitions = definitions
        self._random = random

    def of(self, schema: dict[str, Any], name: str) -> Any:
        if "$ref" in schema:
            return self.of(self._definitions[schema["$ref"].rpartition("/")[2]], name)
        for choice in ("anyOf", "oneOf", "allOf"):
            if choice in schema:
                return self.of(
                    self._random.choice([each for each in schema[choice] if each.get("type") != "null"]), name
                )
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._random.choice(schema["enum"])
        match schema.get("type"):
            case "object":
                required = schema.get("required", ())
                # Rare, so that most lines are no withdrawals.
                rare = {"withdrawn": 0.05}
                return {
                    key: self.of(inner, key)
                    for key, inner in schema.get("properties", {}).items()
                    if key in required or self._random.random() < rare.get(key, 0.4)
                }
            case "array":
                return [self.of(schema.get("items", {}), name)]
            case "boolean":
                return self._random.random() < 0.5
            case "integer" | "number":
                return schema.get("minimum", 1)
            case _:
                return self._text(schema, name)

    def _text(self, schema: dict[str, Any], name: str) -> str:
        if schema.get("format") == "date-time":
            return "2026-11-22T06:05:00Z"
        guess = _guess(name, self._random.choice(IDENTIFIERS))
        pattern = schema.get("pattern", "")
        fitting = [text for text in (guess, *_PATTERNED) if re.search(pattern, text)]
        return guess if guess in fitting or not fitting else self._random.choice(fitting)


# Schemas


@cache
def _xsd_files() -> tuple[Path, ...]:
    folder = shared()
    return () if folder is None else tuple(sorted(folder.rglob("*.xsd")))


def _has_schemas(each: Format) -> bool:
    """Whether third-party schemas are here and some of them are of this format; of a few none is public."""
    roots = {mark.rpartition("}")[2].lower() for mark in each.marks}
    return any(root in path.name.lower() for root in roots for path in _xsd_files())


@cache
def schemas_of(name: str) -> Path | None:
    """Return the first folder whose schemas a format can be held against, None where there is none."""
    folder = shared()
    if folder is None:
        return None
    for candidate in dict.fromkeys((*sorted(folder.iterdir()), *(path.parent for path in _xsd_files()))):
        try:
            for data in seeds_of(name)[:2]:
                _read(data, name, candidate)
        except ConfigError:
            continue
        return candidate
    return None
