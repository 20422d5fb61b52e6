"""The table of docs/identifiers.md against the rules: complete, and every example run.

Source: the page; check digits in it are published examples of the standards that it names, or computed for invented
numbers.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from connector_psi.domain.identifiers import NORMALISATION_VERSION, implied, normalise
from connector_psi.domain.records import IDENTIFIER_TABLE, IdentifierType
from connector_psi.errors import NormalisationError

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "identifiers.md").read_text(encoding="utf-8")


class Row(NamedTuple):
    type: str
    token_class: str
    alone: str
    written: str
    canonical: str
    holds: str
    refused: str


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table under a heading."""
    table = PAGE.partition(f"# {heading}\n")[2].partition("\n|---")[2].partition("\n\n")[0].split("\n")[1:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table]


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


TYPES = [Row(*cells) for cells in rows("Types")]


def test_every_type_is_there_once_and_in_order_with_what_matching_knows_of_it() -> None:
    assert [(code(row.type), row.token_class, row.alone) for row in TYPES] == [
        ([kind.value], rule.token_class.label, "yes" if rule.suffices_alone else "no")
        for kind, rule in IDENTIFIER_TABLE.items()
    ]
    assert len(TYPES) == len(IdentifierType)


def test_the_version_is_the_one_of_the_rules() -> None:
    assert set(re.findall(r"cp-norm-\d+", PAGE)) == {NORMALISATION_VERSION}


@pytest.mark.parametrize("row", TYPES, ids=lambda row: row.type)
def test_examples(row: Row) -> None:
    kind = IdentifierType(code(row.type)[0])
    written, *beside = code(row.written)
    context = dict(word.split("=", 1) for word in beside)
    (canonical,) = code(row.canonical)
    assert written != canonical, "the example shows nothing"
    assert normalise(kind, written, **context) == canonical
    assert normalise(kind, canonical) == canonical
    refused = re.findall(r"`([^`]+)`: `([^`]+)`", row.refused)
    assert refused
    assert len(code(row.refused)) == 2 * len(refused)
    for value, reason in refused:
        with pytest.raises(NormalisationError) as caught:
            normalise(kind, value, **context)
        assert caught.value.reason == reason


def test_what_follows_is_what_is_listed() -> None:
    listed = {
        kind: code(follows)[0] for kinds, follows in rows("What follows from an identifier") for kind in code(kinds)
    }
    canonical = {code(row.type)[0]: code(row.canonical)[0] for row in TYPES} | {"eni": "99074729"}
    assert listed == {
        kind: implied(IdentifierType(kind), value)[0][0].value
        for kind, value in canonical.items()
        if implied(IdentifierType(kind), value)
    }
