"""Identifiers: canonical forms, ranges, and what free text holds."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any

from connector_psi.domain import identifiers
from connector_psi.domain.records import IdentifierType
from connector_psi.errors import (
    NormalisationError,
)
from tests.fuzz.harness import Target, promise
from tests.fuzz.mutation import IDENTIFIERS, Shape
from tests.fuzz.scene import text_of

_CONTEXT = tuple(
    name
    for name, parameter in inspect.signature(identifiers.normalise).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY and parameter.default == ""
)
_TYPES = tuple(IdentifierType)


def _words(data: bytes) -> list[str]:
    return [text_of(part) for part in data.split(b"\x1f")]


def _identifier(data: bytes) -> tuple[IdentifierType, str, dict[str, Any]]:
    """The first byte chooses the type, the second completion; parts follow in the order of the keywords."""
    value, *context = _words(data[2:])
    named: dict[str, Any] = dict(zip(_CONTEXT, context, strict=False))
    return _TYPES[data[0] % len(_TYPES) if data else 0], value, {**named, "complete_check_digit": data[1:2] == b"\1"}


def _normalise(value: tuple[IdentifierType, str, dict[str, Any]]) -> tuple[IdentifierType, str]:
    kind, text, context = value
    return kind, identifiers.normalise(kind, text, **context)


def _is_canonical(value: tuple[IdentifierType, str]) -> None:
    kind, canonical = value
    promise(canonical and len(canonical.encode()) <= identifiers.MAX_CANONICAL_BYTES, f"{kind}: empty or too long")
    promise(identifiers.normalise(kind, canonical) == canonical, f"{kind}: not idempotent")
    for other, implied in identifiers.implied(kind, canonical):
        promise(identifiers.normalise(other, implied) == implied, f"{kind}: implies what is not canonical")


def _identifier_seeds() -> Iterator[bytes]:
    context = b"\x1f".join(_EXAMPLES.get(name, b"") for name in _CONTEXT)
    for (number, _), value in product(enumerate(_TYPES), IDENTIFIERS):
        yield bytes([number, 0]) + value.encode() + b"\x1f" + context


_EXAMPLES = {
    "country": b"DE", "document_type": b"passport", "make": b"Volvo", "calibre": b".45 ACP", "currency": b"EUR", "denomination": b"50",
}  # fmt: skip


def _range(data: bytes) -> tuple[str, str, str, str]:
    first, last, country, kind = (*_words(data), "", "", "")[:4] if data else ("",) * 4
    return first, last, country, kind


def _expand(value: tuple[str, str, str, str]) -> tuple[str, ...]:
    first, last, country, kind = value
    return identifiers.expand_range(first, last, country=country, document_type=kind)


def _is_a_range(value: tuple[str, ...]) -> None:
    promise(0 < len(value) <= identifiers.MAX_RANGE, "no range")
    for each in (value[0], value[-1]):
        promise(identifiers.normalise(IdentifierType.IDENTITY_DOCUMENT, each) == each, "not canonical")


def _are_candidates(value: list[tuple[IdentifierType, str]]) -> None:
    for kind, canonical in value:
        promise(identifiers.normalise(kind, canonical) == canonical, f"{kind}: not canonical")


def _descriptions() -> Iterable[bytes]:
    return (
        b"USED CARS VIN WVWZZZ1JZXW000001 in container CSQU3054383, passport no. FRA 12AB34567, IMO 9074729; chassis: WVW-ZZZ1JZXW0 00001",
        "M/V \u201eEXAMPLE\u201c IMO:9074729 \u2014 B/L ABCD1234567 msku000000/6 ID CARD NO DEU:T22000129 RB123456785GB".encode(),
        b"VIN VIN VIN CHASSIS NO NO. : A B C D E F G H J K L M N P R S T 1 2 3 4 5 6 7 8 9 0",
    )


def targets() -> Iterator[Target]:
    """Yield the targets."""
    refuses = (NormalisationError,)
    yield Target(
        "identifier",
        _normalise,
        refuses,
        _identifier_seeds,
        Shape.TEXT,
        prepare=_identifier,
        check=_is_canonical,
        max_bytes=4096,
    )
    yield Target(
        "document-range", _expand, refuses, lambda: (b"DE/P/AB000100\x1fDE/P/AB000199", b"12AB00001\x1f12AB99999\x1fFRA\x1fpassport"),
        Shape.TEXT, prepare=_range, check=_is_a_range, max_bytes=4096,
    )  # fmt: skip
    yield Target(
        "free-text", identifiers.extract_candidates, (), _descriptions, Shape.TEXT, prepare=text_of, check=_are_candidates,
        max_bytes=16_384,
    )  # fmt: skip
