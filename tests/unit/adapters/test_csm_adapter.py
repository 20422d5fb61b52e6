"""Container status events: both versions of the interface, lines and documents, retractions, what cannot be used."""

from __future__ import annotations

import copy
import io
import json
import tracemalloc
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from connector_psi.adapters import csm, formats
from connector_psi.domain.intake import Item
from connector_psi.domain.purposes import CATEGORIES
from connector_psi.domain.records import Field, Issue, Rank, Record, SourceSystem, Supersession, version_of
from tests.adapter_samples import BAD_BOX, BOX_A, BOX_B, codes, values

ROOT = Path(__file__).parents[3]

CREATED = "2026-05-17T08:00:00+02:00"
IMO = "9074729"


def event_v2(**changes: Any) -> dict[str, Any]:
    """An equipment event of version 2; None removes a key."""
    event: dict[str, Any] = {
        "eventID": "84db923d-2a19-4eb0-beb5-446c1ec57d34",
        "eventType": "EQUIPMENT",
        "eventCreatedDateTime": CREATED,
        "eventClassifierCode": "ACT",
        "eventDateTime": "2026-05-17T07:41:00+02:00",
        "equipmentEventTypeCode": "LOAD",
        "equipmentReference": BOX_A,
        "emptyIndicatorCode": "LADEN",
        "transportCall": {
            "transportCallID": "123e4567",
            "UNLocationCode": "NLRTM",
            "modeOfTransport": "VESSEL",
            "vessel": {"vesselIMONumber": IMO, "vesselName": "Invented Star", "vesselFlag": "NL"},
        },
        "documentReferences": [
            {"documentReferenceType": "BKG", "documentReferenceValue": "ABC123059"},
            {"documentReferenceType": "TRD", "documentReferenceValue": "85943567"},
        ],
        "seals": [{"sealNumber": "SEAL-133534", "sealSource": "CUS", "sealType": "WIR"}],
    }
    event.update(changes)
    return {key: value for key, value in event.items() if value is not None}


def event_v3(head: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """The same event in version 3; ``head`` changes its metadata."""
    flat = event_v2()
    metadata = {
        "eventID": flat["eventID"],
        "eventType": "EQUIPMENT",
        "eventCreatedDateTime": CREATED,
        "publisher": {"partyName": "Invented Line", "carrierCode": "ABC", "carrierCodeListProvider": "SMDG"},
        "publisherRole": "CA",
        **(head or {}),
    }
    payload: dict[str, Any] = {
        "eventClassifierCode": "ACT",
        "eventDateTime": flat["eventDateTime"],
        "equipmentEventTypeCode": "LOAD",
        "equipmentReference": BOX_A,
        "emptyIndicatorCode": "LADEN",
        "transportCall": {
            "transportCallReference": "987e4567",
            "modeOfTransport": "VESSEL",
            "location": {"locationType": "UNLO", "locationName": "Rotterdam", "UNLocationCode": "NLRTM"},
            "vessel": {"vesselIMONumber": IMO, "name": "Invented Star", "flag": "NL"},
        },
        "relatedDocumentReferences": [{"type": "BKG", "value": "ABC123059"}, {"type": "TRD", "value": "85943567"}],
        "references": [{"type": "EQ", "value": BOX_A}, {"type": "PO", "value": "ORDER-1"}],
        "seals": [{"number": "SEAL-133534", "source": "CUS", "type": "WIR"}],
    }
    payload.update(changes)
    return {
        "metadata": {key: value for key, value in metadata.items() if value is not None},
        "payload": {key: value for key, value in payload.items() if value is not None},
    }


def items(*events: Any) -> list[Item]:
    return list(csm.read_json(io.BytesIO(json.dumps(list(events)).encode()), file="f"))


def one(event: Any) -> Record:
    [record] = items(event)
    assert isinstance(record, Record)
    return record


def found(record: Record) -> set[tuple[str, str, str]]:
    return {(each.type.value, each.value, each.role) for each in record.identifiers}


WHOLE = {
    ("container", BOX_A, ""),
    ("seal", "SEAL133534", ""),
    ("transport_document", "85943567", "transport_document"),
    ("imo", IMO, "vessel"),
}


@pytest.mark.parametrize(
    ("event", "prefix", "ref"),
    [(event_v2(), "$.1.", ""), (event_v3(), "$.1.payload.", "ABC/")],
    ids=["version 2", "version 3"],
)
def test_an_equipment_event_in_both_versions(event: dict[str, Any], prefix: str, ref: str) -> None:
    record = one(event)
    assert found(record) == WHOLE
    assert {each.source_path.removeprefix(prefix) for each in record.identifiers} == {
        "equipmentReference",
        "seals.1.sealNumber" if not ref else "seals.1.number",
        "documentReferences.2.documentReferenceValue" if not ref else "relatedDocumentReferences.2.value",
        "transportCall.vessel.vesselIMONumber",
    }
    assert dict(record.fields) == {
        Field.GOODS_IDENTIFIERS: (
            f"container {BOX_A}",
            "seal SEAL-133534",
            "booking ABC123059",
            "transport_document 85943567",
        ),
        Field.MEANS: (f"imo {IMO} NL", "vessel_name Invented Star"),
        Field.PLACE: ("NLRTM",),
        Field.ROUTE: ("NLRTM LOAD ACT 2026-05-17T05:41:00+00:00 LADEN",),
    }
    assert (record.source, record.category, record.message_ref) == (SourceSystem.CSM, "csm.event", "")
    assert record.source_ref == ref + "84db923d-2a19-4eb0-beb5-446c1ec57d34"
    assert record.version == version_of(datetime(2026, 5, 17, 6, tzinfo=UTC))
    assert record.category in CATEGORIES
    assert not record.parties


def test_a_transport_event_is_about_a_ship_and_what_is_on_it() -> None:
    event = event_v2(
        eventType="TRANSPORT",
        eventClassifierCode="EST",
        equipmentEventTypeCode=None,
        equipmentReference=None,
        emptyIndicatorCode=None,
        seals=None,
        transportEventTypeCode="ARRI",
        changeRemark=f"waits for {BOX_B}",
        references=[{"referenceType": "EQ", "referenceValue": BOX_A}, {"referenceType": "FF", "referenceValue": BOX_B}],
    )
    record = one(event)
    assert found(record) == {each for each in WHOLE if each[0] != "seal"}
    assert record.fields[Field.ETA] == ("2026-05-17T05:41:00+00:00",)
    assert record.fields[Field.ROUTE] == ("NLRTM ARRI EST 2026-05-17T05:41:00+00:00",)
    assert Field.ETA not in one({**event, "eventClassifierCode": "ACT"}).fields
    assert Field.ETA not in one({**event, "transportEventTypeCode": "DEPA"}).fields


@pytest.mark.parametrize(
    ("event", "path"),
    [
        (
            {"eventType": "SHIPMENT", "documentTypeCode": "TRD", "documentID": "MAEU-1234567"},
            "$.1.documentID",
        ),
        (
            {"eventType": "SHIPMENT", "documentTypeCode": "TRD", "documentReference": "MAEU-1234567"},
            "$.1.documentReference",
        ),
    ],
)
def test_a_shipment_event_is_about_a_document(event: dict[str, Any], path: str) -> None:
    record = one({"eventID": "E-1", "eventCreatedDateTime": CREATED, "shipmentEventTypeCode": "ISSU", **event})
    [identifier] = record.identifiers
    assert (identifier.type, identifier.value, identifier.source_path) == ("transport_document", "MAEU1234567", path)
    assert dict(record.fields) == {Field.GOODS_IDENTIFIERS: ("transport_document MAEU-1234567",)}


@pytest.mark.parametrize("type_code", ["BKG", "SHI", "CUS", "INV", ""])
def test_only_a_transport_document_is_an_identifier(type_code: str) -> None:
    [issue] = items(
        {
            "eventID": "E-1",
            "eventType": "SHIPMENT",
            "eventCreatedDateTime": CREATED,
            "documentTypeCode": type_code,
            "documentID": "MAEU1234567",
        }
    )
    assert issue == Issue("f", 1, "$.1", "csm.no_identifier", rejects_record=True)


def test_a_key_that_only_the_interface_has_is_no_document_number() -> None:
    uuid = "85943567-eedb-98d3-f4ed-aed697474ed4"
    record = one(event_v2(documentReferences=[{"documentReferenceType": "TRD", "documentReferenceValue": uuid}]))
    assert values(record, "transport_document") == []


@pytest.mark.parametrize(
    ("call", "expected", "means"),
    [
        (
            {"modeOfTransport": "BARGE", "barge": {"name": "Invented Barge", "vesselIMONumber": IMO}},
            {("imo", IMO, "barge")},
            (f"imo {IMO}", "vessel_name Invented Barge"),
        ),
        (
            {"modeOfTransport": "TRUCK", "licencePlate": "1-ABC-234", "chassisLicencePlate": "QAB-12-34"},
            {("plate_number", "1ABC234", "truck"), ("plate_number", "QAB1234", "chassis")},
            ("plate 1-ABC-234", "plate QAB-12-34"),
        ),
        (
            {"modeOfTransport": "TRUCK", "chassisLicencePlate": "WVWZZZ1JZXW000001"},
            {("vin", "WVWZZZ1JZXW000001", "chassis")},
            ("vin WVWZZZ1JZXW000001",),
        ),
        ({"modeOfTransport": "RAIL", "railCar": "31 80 1234 567-8"}, set(), ("wagon 31 80 1234 567-8",)),
        (
            {"modeOfTransport": "VESSEL", "vessel": {"vesselIMONumber": int(IMO)}},
            {("imo", IMO, "vessel")},
            (f"imo {IMO}",),
        ),
    ],
    ids=["barge", "truck", "chassis", "rail", "number"],
)
def test_each_means_of_transport(call: dict[str, Any], expected: set[Any], means: tuple[str, ...]) -> None:
    record = one(event_v2(transportCall=call))
    assert {each for each in found(record) if each[2] not in {"", "transport_document"}} == expected
    assert record.fields[Field.MEANS] == means


@pytest.mark.parametrize(
    ("changes", "place", "step"),
    [
        ({"transportCall": None, "eventLocation": {"UNLocationCode": "DEHAM"}}, ("DEHAM",), "DEHAM"),
        ({"transportCall": None, "location": {"UNLocationCode": "DEHAM"}}, ("DEHAM",), "DEHAM"),
        ({"transportCall": {"location": {"locationName": "Inland depot"}}}, ("Inland depot",), "-"),
        ({"transportCall": {"UNLocationCode": ""}}, None, "-"),
    ],
)
def test_where_an_event_took_place(changes: dict[str, Any], place: tuple[str, ...] | None, step: str) -> None:
    record = one(event_v2(**changes))
    assert record.fields.get(Field.PLACE) == place
    assert record.fields[Field.ROUTE] == (f"{step} LOAD ACT 2026-05-17T05:41:00+00:00 LADEN",)


# The check digit is part of the number in the interface's model; a number without it, or of another kind, is none.
@pytest.mark.parametrize(
    ("number", "code"),
    [(BOX_A[:10], "container.length"), (BAD_BOX, "container.check_digit"), ("APNR7744962", "container.format")],
)
def test_a_container_number_is_never_completed(number: str, code: str) -> None:
    issue, record = items(event_v2(equipmentReference=number))
    assert issue == Issue("f", 1, "$.1.equipmentReference", code, rejects_record=False)
    assert isinstance(record, Record)
    assert values(record, "container") == []
    bare = event_v2(equipmentReference=number, transportCall=None, documentReferences=None, seals=None)
    assert [(each.code, each.rejects_record) for each in items(bare) if isinstance(each, Issue)] == [(code, True)]


def test_a_container_that_is_named_twice_counts_and_is_reported_once() -> None:
    references = [{"referenceType": "EQ", "referenceValue": number} for number in (BOX_A, BAD_BOX, BOX_B, BAD_BOX)]
    issue, record = items(event_v2(references=references))
    assert isinstance(record, Record)
    assert values(record, "container") == [BOX_A, BOX_B]
    assert isinstance(issue, Issue)
    assert (issue.code, issue.path) == ("container.check_digit", "$.1.references.2.referenceValue")


# Names


def test_an_event_without_identifier_is_named_by_what_it_says() -> None:
    event = event_v2(eventID=None)
    first = one(event)
    assert first.source_ref.startswith("sha256-")
    assert len(first.source_ref) <= 200
    again = one({key: event[key] for key in reversed(event)})
    assert again.source_ref == first.source_ref
    for key, value in (
        ("eventCreatedDateTime", "2026-05-17T08:00:00.001+02:00"),
        ("eventDateTime", "2026-05-18T07:41:00+02:00"),
        ("eventClassifierCode", "EST"),
        ("equipmentEventTypeCode", "DISC"),
        ("equipmentReference", BOX_B),
        ("transportCall", None),
    ):
        assert one(event_v2(eventID=None, **{key: value})).source_ref != first.source_ref, key


def test_no_carrier_replaces_or_retracts_what_another_one_said() -> None:
    other = {"carrierCode": "XYZ", "carrierCodeListProvider": "SMDG"}
    mine, theirs, retraction = items(
        event_v3(),
        event_v3({"publisher": other}),
        {"metadata": {**event_v3({"publisher": other, "retractedEventID": "R-1"})["metadata"]}},
    )
    assert isinstance(mine, Record)
    assert isinstance(theirs, Record)
    assert isinstance(retraction, Supersession)
    assert mine.source_ref.removeprefix("ABC/") == theirs.source_ref.removeprefix("XYZ/")
    assert retraction.message_ref == "XYZ/R-1"


def test_the_same_event_again_has_the_greater_version() -> None:
    old, new = one(event_v2()), one(event_v2(eventCreatedDateTime="2026-05-17T08:00:00.500+02:00"))
    assert old.source_ref == new.source_ref
    assert old.version < new.version


# Retractions


def test_a_retraction_withdraws_the_event_that_it_names() -> None:
    event = event_v3({"retractedEventID": "957e4966-dad0-4111-9f8f-fb7216c43907"})
    expected = Supersession(
        SourceSystem.CSM,
        "ABC/957e4966-dad0-4111-9f8f-fb7216c43907",
        version_of(datetime(2026, 5, 17, 6, tzinfo=UTC), Rank.WITHDRAWAL),
        withdrawn=True,
        reason="invalidated",
    )
    assert items({"metadata": event["metadata"]}) == [expected]
    # One that brings what holds instead is both.
    record, supersession = items(event)
    assert isinstance(record, Record)
    assert supersession == expected
    assert record.version < expected.version


def test_a_retraction_that_nobody_can_use_is_rejected() -> None:
    event = event_v3({"retractedEventID": "957e 4966"})
    assert items(event) == [Issue("f", 1, "$.1.metadata.retractedEventID", "field.invalid", rejects_record=True)]


def test_an_event_without_payload_and_without_retraction_is_rejected() -> None:
    assert items({"metadata": event_v3()["metadata"]}) == [
        Issue("f", 1, "$.1.payload", "csm.no_identifier", rejects_record=True)
    ]


# What cannot be used


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"eventType": None}, [("$.1.eventType", "field.missing")]),
        ({"eventCreatedDateTime": None}, [("$.1.eventCreatedDateTime", "field.missing")]),
        ({"eventCreatedDateTime": "2026-05-17T08:00:00"}, [("$.1.eventCreatedDateTime", "field.invalid")]),
        ({"eventCreatedDateTime": 1747469000}, [("$.1.eventCreatedDateTime", "field.invalid")]),
        ({"eventType": "IOT"}, [("$.1.eventType", "csm.event_type_unsupported")]),
        ({"eventType": "OPERATIONS"}, [("$.1.eventType", "csm.event_type_unsupported")]),
        ({"eventType": ["EQUIPMENT"]}, [("$.1.eventType", "field.invalid")]),
        ({"eventID": "a b"}, [("$.1.eventID", "field.invalid")]),
        ({"eventID": "x" * 101}, [("$.1.eventID", "field.invalid")]),
        (
            {"metadata": "x"},
            [
                ("$.1.metadata", "field.invalid"),
                ("$.1.metadata.eventType", "field.missing"),
            ],
        ),
    ],
)
def test_an_event_that_nobody_could_name_or_order_is_rejected(changes: Any, expected: list[tuple[str, str]]) -> None:
    issues = items(event_v2(**changes))
    assert [(issue.path, issue.code) for issue in issues if isinstance(issue, Issue)] == expected
    assert [issue.rejects_record for issue in issues if isinstance(issue, Issue)] == [False] * (len(expected) - 1) + [
        True
    ]
    assert len(issues) == len(expected)


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> Iterable[tuple[Any, ...]]:
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from paths_of(each, (*path, key))


@pytest.mark.parametrize(
    "wrong", [True, {}, [], [["QZPLANT7"]], {"QZPLANT7": "QZPLANT7"}, 1.5, "QZ\u0000PLANT7", "QZPLANT7" * 100]
)
@pytest.mark.parametrize("event", [event_v2(), event_v3()], ids=["version 2", "version 3"])
def test_a_wrong_value_anywhere_never_raises_and_leaves_the_rest(event: dict[str, Any], wrong: Any) -> None:
    ids = {"eventID", "eventType", "eventCreatedDateTime", "carrierCode", "publisher", "metadata", "payload"}
    whole = found(one(event))
    for path in paths_of(event):
        changed = copy.deepcopy(event)
        *above, last = path
        inner = changed
        for key in above:
            inner = inner[key]
        inner[last] = wrong
        after = items(changed)
        assert "QZPLANT7" not in repr([each for each in after if isinstance(each, Issue)])
        if not ids & set(path):
            assert isinstance(after[-1], Record), path
            assert found(after[-1]) <= whole
        assert all(not isinstance(each, Issue) or each.rejects_record == (each is after[-1]) for each in after)


def test_special_characters_in_texts_never_reach_a_field() -> None:
    event = event_v2()
    event["transportCall"]["vessel"]["vesselName"] = "a\u2028b"
    issue, record = items(event)
    assert isinstance(issue, Issue)
    assert (issue.path, issue.code) == ("$.1.transportCall.vessel.vesselName", "field.invalid")
    assert isinstance(record, Record)
    assert record.fields[Field.MEANS] == (f"imo {IMO} NL",)


# Files


def test_lines_an_array_a_wrapper_and_single_documents_say_the_same() -> None:
    events = [event_v2(), event_v3(), event_v2(eventID="E-3", seals=None)]
    raw = [json.dumps(event) for event in events]
    lines = list(csm.read_jsonl(io.BytesIO("\n".join(raw).encode()), file="f"))

    def told(found: Iterable[Item]) -> list[Any]:
        return [
            (each.source_ref, {(x.type, x.value, x.role) for x in each.identifiers}, each.fields, each.message_digest)
            for each in found
            if isinstance(each, Record)
        ]

    assert len(told(lines)) == 3
    for text in ("[" + ",\n".join(raw) + "]", '{"page": 2, "events": [' + ",".join(raw) + "]}"):
        assert told(csm.read_json(io.BytesIO(text.encode()), file="f")) == told(lines)
    alone = [each for text in raw for each in csm.read_json(io.BytesIO(text.encode()), file="f")]
    assert told(alone) == told(lines)


@pytest.mark.parametrize("name", ["x", "x.json", "x.jsonl", "x.txt", "sis.xml"])
@pytest.mark.parametrize(
    ("layout", "expected", "indent"),
    [
        ("%s\n%s\n", "csm-jsonl", None),
        ("broken\n%s\n%s", "csm-jsonl", None),
        *(
            (layout, "csm-json", indent)
            for layout in ("[%s,%s]", "[\n%s,\n%s\n]", '{"events":[%s,%s]}', '{"events":[\n%s,\n%s\n]}')
            for indent in (None, 2)
        ),
    ],
)
def test_lines_and_documents_are_told_apart(name: str, layout: str, expected: str, indent: int | None) -> None:
    events = [json.dumps(event, indent=indent) for event in (event_v2(), event_v3())]
    data = (layout % tuple(events)).encode()
    assert formats.detect(name, data) == expected
    assert len([x for x in formats.read(io.BytesIO(data), file=name) if isinstance(x, Record)]) == 2


@pytest.mark.parametrize("event", [event_v2(), event_v3()], ids=["version 2", "version 3"])
@pytest.mark.parametrize("indent", [None, 2])
def test_one_event_alone_is_recognised(event: dict[str, Any], indent: int | None) -> None:
    [record] = formats.read(io.BytesIO(json.dumps(event, indent=indent).encode()), file="x")
    assert isinstance(record, Record)


def test_a_cut_array_keeps_what_closed() -> None:
    data = json.dumps([event_v2(), event_v2(eventID="E-2")]).encode()
    record, issue = csm.read_json(io.BytesIO(data[:-30]), file="f")
    assert isinstance(record, Record)
    assert (issue.code, issue.rejects_record) == ("json.truncated", True)  # type: ignore[union-attr]


def test_a_long_array_is_read_in_bounded_memory() -> None:
    one_event = json.dumps(event_v3()).encode()
    # Made beforehand, so that it is not counted.
    stream = io.BytesIO(b"[" + b",".join([one_event] * 6_000) + b"]")
    tracemalloc.start()
    try:
        count = sum(isinstance(each, Record) for each in csm.read_json(stream, file="f"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 6_000
    assert peak < 4_000_000


# The model


def reference(shared: Path, name: str) -> Any:
    return yaml.safe_load((shared / "reference" / "container_status" / name).read_text())


def answers(document: Any) -> dict[str, Any]:
    """The examples that the interface gives of what it answers."""
    found_: dict[str, Any] = {}
    for path in ("/v3/events", "/v3/events/{eventID}"):
        content = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]
        found_ |= {name: example["value"] for name, example in content["examples"].items()}
    return found_


def test_every_example_of_version_3_is_read(shared: Path) -> None:
    told = {}
    for name, value in answers(reference(shared, "dcsa_tnt_v3.yaml")).items():
        data = json.dumps(value).encode()
        assert formats.detect("x", data) == "csm-json"
        told[name] = [
            (type(each).__name__, getattr(each, "code", len(getattr(each, "identifiers", ()))))
            for each in formats.read(io.BytesIO(data), file="x")
        ]
    assert told == {
        "bookingExample": [("Record", 1), ("Record", 4)],
        # The container of the second is none of ISO 6346, and nothing else identifies the event.
        "dropPickExample": [("Record", 4), ("Issue", "container.format")],
        "transportEventListExample": [("Supersession", 0), ("Record", 3)],
        "shipmentEventExample": [("Record", 1)],
        "transshipmentExample": [("Record", 4)],
        "railTransportExample": [("Record", 2)],
        "truckTransportExample": [("Record", 4)],
        "retractedTransportEventExample": [("Supersession", 0)],
    }


def keys_of(schemas: dict[str, Any], name: str) -> set[str]:
    """Every key that a schema has at any depth."""
    keys: set[str] = set()
    todo, seen = [schemas[name]], set()
    while todo:
        node = todo.pop()
        if isinstance(node, list):
            todo += node
        elif isinstance(node, dict):
            if isinstance(ref := node.get("$ref"), str) and ref not in seen:
                seen.add(ref)
                todo.append(schemas[ref.rpartition("/")[2]])
            keys |= set(node["properties"]) if isinstance(node.get("properties"), dict) else set()
            todo += [value for key, value in node.items() if key not in {"example", "enum"}]
    return keys


def test_the_page_names_every_key_of_version_2(shared: Path) -> None:
    schemas = reference(shared, "dcsa_tnt_v2.2.0_resolved.yaml")["components"]["schemas"]
    declared = set().union(*(keys_of(schemas, f"{kind}Event") for kind in ("equipment", "transport", "shipment")))
    page = (ROOT / "docs" / "formats" / "csm.md").read_text()
    assert [key for key in sorted(declared) if f"`{key}`" not in page] == []


def test_every_code_is_documented() -> None:
    page = (ROOT / "docs" / "formats" / "csm.md").read_text()
    assert [code for code in csm.CODES if f"`{code}`" not in page] == []


def test_the_example_of_the_page_is_read() -> None:
    page = (ROOT / "docs" / "formats" / "csm.md").read_text()
    blocks = [block.split("```", 1)[0] for block in page.split("```json\n")[1:]]
    assert blocks
    for block in blocks:
        assert [type(each) for each in formats.read(io.BytesIO(block.encode()), file="x")] == [Record, Supersession]


def test_codes_are_of_events_that_say_them() -> None:
    assert set(
        codes(
            x for x in items(event_v2(eventType="REEFER"), {"metadata": event_v3()["metadata"]}) if isinstance(x, Issue)
        )
    ) == set(csm.CODES)
