"""The table of what identifies a thing, and what a description becomes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from connector_psi.domain.drafts import Draft
from connector_psi.domain.lines import Line, Spot
from connector_psi.domain.records import IDENTIFIER_TABLE, IdentifierType, Issue, PartyKind
from connector_psi.domain.things import KINDS, Entity, ObjectKeys, PersonKeys, describe, settled
from tests.adapter_samples import BOX_A

SPOT = Spot(Line(3, b"", {}), ("entity",))


def described(kind: str, **values: Any) -> tuple[Draft, list[str]]:
    draft = Draft("f")
    labels = describe(draft, KINDS[kind], Entity(type=kind, **values), SPOT, system="x")
    return draft, [str(label) for label in labels]


def test_every_key_of_the_table_is_a_key_of_the_models() -> None:
    names = {name for kind in KINDS.values() for name in kind.names}
    assert names == set(Entity.model_fields) - {"type"}
    assert set(PersonKeys.model_fields) | set(ObjectKeys.model_fields) <= names
    # No key is both, and none is read twice in one kind.
    for kind in KINDS.values():
        read = [key.name for key in kind.keys]
        assert len(set(read)) == len(read)
        assert not kind.describing & {name for key in kind.keys for name in key.names} - {"country"}


def test_every_type_that_only_a_thing_can_have_is_in_the_table() -> None:
    yielded = {key.type for kind in KINDS.values() for key in kind.keys}
    # A plate without its country comes of one with it.
    assert set(IDENTIFIER_TABLE) - yielded == {IdentifierType.PLATE_NUMBER}


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("vehicle", {"plate": "B-AB 1234", "plate_country": "DE"}, ["plate DE:BAB1234"]),
        ("vehicle", {"plate": "DE:B-AB 1234"}, ["plate DE:BAB1234"]),
        ("vehicle", {"plate": "B-AB 1234"}, ["plate_number BAB1234"]),
        ("firearm", {"serial_number": "C12345", "make": "Colt", "calibre": ".45 ACP"}, ["firearm COLT/45ACP/C12345"]),
        ("firearm", {"serial_number": "COLT/45 ACP/C12345"}, ["firearm COLT/45ACP/C12345"]),
        ("firearm", {"serial_number": "C12345", "make": "Colt"}, ["serial C12345"]),
        ("boat_engine", {"serial_number": "2003123456"}, ["serial 2003123456"]),
        (
            "currency",
            {"serial_number": "X12345678901", "currency": "EUR", "denomination": 50},
            ["banknote EUR/50/X12345678901"],
        ),
        ("company", {"vat_number": "0697449992", "country": "BE"}, ["vat BE0697449992"]),
    ],
)
def test_a_number_is_as_complete_as_its_source(kind: str, values: dict[str, Any], expected: list[str]) -> None:
    draft, labels = described(kind, **values)
    assert (labels, draft.issues) == (expected, [])
    assert [f"{x.type} {x.value}" for x in draft.identifiers.values()] == expected


@pytest.mark.parametrize(
    ("kind", "values", "code", "place"),
    [
        # What is missing is no reason to take a wrong number for a short one.
        ("vehicle", {"plate": "UNKNOWN"}, "plate_number.format", "plate"),
        ("vehicle", {"plate": "B-AB 1234", "plate_country": "ZZ"}, "plate.country", "plate"),
        ("boat_engine", {"serial_number": "12", "make": "Volvo"}, "engine.length", "serial_number"),
        ("boat_engine", {"serial_number": "12"}, "serial.length", "serial_number"),
        ("currency", {"serial_number": "X12345678901"}, "banknote.currency_missing", "serial_number"),
        ("document", {"document_number": "12AB34567"}, "identity_document.country_missing", "document_number"),
        ("phone", {"phone_number": "030 123456"}, "phone.country_missing", "phone_number"),
    ],
)
def test_what_cannot_be_completed_is_reported(kind: str, values: dict[str, Any], code: str, place: str) -> None:
    draft, labels = described(kind, **values)
    assert (labels, draft.identifiers) == ([], {})
    assert [(x.code, x.line, x.path) for x in draft.issues] == [(code, 3, f"$.entity.{place}")]


def test_a_description_counts_once_what_a_key_says_too() -> None:
    draft, labels = described("container", container_number=BOX_A, description=f"box {BOX_A}, seal 123")
    assert labels == [f"container {BOX_A}"]
    assert [x.source_path for x in draft.identifiers.values()] == ["$.entity.container_number"]


def test_names_make_a_party() -> None:
    draft, _ = described("person", surnames="Muster", forenames="Max", name="Max Muster", aliases=["Max Muster", "M"])
    [party] = draft.parties
    assert (party.kind, party.name, party.aliases) == (PartyKind.PERSON, "Muster, Max", ("Max Muster", "M"))
    draft, _ = described("company", name="Lines NV", address="Quay 7", country="BE")
    [party] = draft.parties
    assert (party.kind, party.name, party.address, party.country) == (
        PartyKind.ORGANISATION, "Lines NV", "Quay 7", "BE",
    )  # fmt: skip
    draft, _ = described("vehicle", plate="DE:BAB1234")
    assert not draft.parties


def test_only_what_can_be_found_is_a_record() -> None:
    for draft, kept in ((described("person", surnames="M")[0], True), (described("vehicle")[0], False)):
        outcome: list[bool] = []

        def settle(draft: Draft = draft, outcome: list[bool] = outcome) -> Iterator[Issue]:
            outcome.append((yield from settled(draft, SPOT, "x.no_identifier")))

        issues = list(settle())
        assert outcome == [kept]
        assert [(x.code, x.path, x.rejects_record) for x in issues] == (
            [] if kept else [("x.no_identifier", "$.entity", True)]
        )
