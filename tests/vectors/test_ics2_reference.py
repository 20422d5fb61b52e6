"""The ICS2 table against the leaf list, the schema and the sample messages of release V2.21; the SIS table against Article 38.

Source: EU customs data model for ICS2, V2.21 (schemas Apache-2.0 by way of hmrc/import-control-wsdls). The samples are
synthetic and valid against the schema. 339 leaves, 2 full messages.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
from lxml import etree

from connector_psi.adapters.ics2_paths import ENS, LEAVES, MEANS_TYPES, NAMESPACE, SKIPPED_SUBTREES, TREE, Use
from connector_psi.adapters.sis import OBJECT_TYPES
from connector_psi.domain.records import Field, IdentifierType
from tests.adapter_samples import ENS_MRN, codes, read

XS = "{http://www.w3.org/2001/XMLSchema}"
AMOUNTS = {
    "consignmentMasterLevel/consignmentHouseLevel/" + path
    for path in (
        "totalAmountInvoiced",
        "additionsAndDeductions/amount",
        "goodsItem/itemAmountInvoiced",
        "goodsItem/postalValue",
        "postalCharges/postalCharges",
    )
}
"""Hold attributes and no text, so that a list of leaves with text lacks them."""
NAMES_OF_NUMBERS = (
    "MRN",
    "identificationNumber",
    "IdentificationNumber",
    "documentNumber",
    "identifier",
    "UCR",
    "ReferenceNumber",
)
VALUES = {
    IdentifierType.MRN: "25BE000000000SYN77",
    IdentifierType.CONTAINER: "CSQU3054383",
    IdentifierType.SEAL: "SEAL77120",
    IdentifierType.TRANSPORT_DOCUMENT: "SYNH-2025-000771",
    IdentifierType.EORI: "DE111222333444555",
    IdentifierType.VAT: "BE0697449992",
}


@pytest.fixture(scope="module")
def ics2(shared: Path) -> Path:
    return shared / "reference" / "ics2"


@pytest.fixture(scope="module")
def xsd(ics2: Path) -> Path:
    return ics2 / "xsd-v2/BusinessObjects/ICS/Common/V2"


def leaves_of(ics2: Path) -> list[str]:
    with (ics2 / "ie4r05_leaf_paths.csv").open(encoding="utf-8", newline="") as rows:
        return [row["path"] for row in csv.DictReader(rows)]


def test_every_leaf_of_the_list_is_in_the_table_and_none_is_made_up(ics2: Path) -> None:
    below = [path.removeprefix(f"{ENS}/") for path in leaves_of(ics2) if path.startswith(f"{ENS}/")]
    skipped = [path for path in below if path.split("/", 1)[0] in SKIPPED_SUBTREES]
    expected = set(below) - set(skipped)
    assert (len(below), len(expected)) == (527, 339)
    assert set(LEAVES) - expected == AMOUNTS
    assert expected - set(LEAVES) == set()
    assert {path.split("/", 1)[0] for path in skipped} == set(SKIPPED_SUBTREES)


def test_every_number_is_read_or_skipped_for_a_reason() -> None:
    numbers = {path: leaf for path, leaf in LEAVES.items() if path.endswith(NAMES_OF_NUMBERS)}
    assert len(numbers) > 50
    for path, leaf in numbers.items():
        assert leaf.use is not Use.SKIP or leaf.reason.startswith("the domain has no identifier type"), path
    assert all(leaf.reason for leaf in LEAVES.values() if leaf.use is Use.SKIP)
    assert all(SKIPPED_SUBTREES.values())


def test_the_tree_is_the_schema(xsd: Path) -> None:
    types = {each.get("name"): each for each in etree.parse(xsd / "ctypes.xsd").getroot().iter(f"{XS}complexType")}

    def below(type_name: str | None, path: str) -> Iterator[str]:
        declared = types.get(type_name)
        for element in () if declared is None else declared.iter(f"{XS}element"):
            inner = f"{path}/{element.get('name')}"
            yield inner
            if not (path == ENS and element.get("name") in SKIPPED_SUBTREES):
                yield from below(element.get("type"), inner)

    [ens] = [node for node in TREE.walk() if node.path == ENS]
    assert {node.path for node in ens.walk()} == {ENS, *below("RelatedENSType06", ENS)}


@pytest.mark.parametrize("path", sorted(path for path, leaf in LEAVES.items() if leaf.type is not None))
def test_each_leaf_with_an_identifier_yields_it_and_says_where(path: str) -> None:
    leaf = LEAVES[path]
    assert leaf.type is not None
    inner = f"<{path.rsplit('/', 1)[-1]}>{VALUES[leaf.type]}</{path.rsplit('/', 1)[-1]}>"
    for name in reversed(path.split("/")[:-1]):
        inner = f"<{name}>{inner}</{name}>"
    mrn = "" if path == "MRN" else f"<MRN>{ENS_MRN}</MRN>"
    master = "" if path.startswith("consignmentMasterLevel") else "<consignmentMasterLevel/>"
    message = f'<IE4R05 xmlns="{NAMESPACE}"><relatedENS>{mrn}{inner}{master}</relatedENS></IE4R05>'
    [record], issues = read(message.encode())
    assert issues == []
    assert [(x.type, x.source_path) for x in record.identifiers if x.source_path != f"{ENS}/MRN" or path == "MRN"] == [
        (leaf.type, f"{ENS}/{path}")
    ]


def test_free_text_leaves_are_searched() -> None:
    for path in (path for path, leaf in LEAVES.items() if leaf.use is Use.TEXT):
        inner = "car, VIN WVWZZZ1JZXW000001"
        for name in reversed(path.split("/")):
            inner = f"<{name}>{inner}</{name}>"
        message = f'<IE4R05 xmlns="{NAMESPACE}"><relatedENS><MRN>{ENS_MRN}</MRN>{inner}</relatedENS></IE4R05>'
        [record], issues = read(message.encode())
        assert issues == []
        assert f"{ENS}/{path}#free_text" in {x.source_path for x in record.identifiers}


def test_the_sea_sample(ics2: Path, xsd: Path) -> None:
    data = (ics2 / "samples-synthetic/IE4R05_sea_container_synthetic.xml").read_bytes()
    [record], issues = read(data, schemas=xsd)
    assert issues == []
    assert record.source_ref == "25BE000000000SYN01/1"
    assert {(x.type.value, x.value, x.role) for x in record.identifiers} == {
        ("mrn", "25BE000000000SYN01", ""),
        ("imo", "9074729", "activeBorderTransportMeans"),
        ("container", "CSQU3054383", ""),
        ("seal", "SYNSEAL77120", ""),
        ("transport_document", "SYNH2025000771", "transportDocumentHouseLevel"),
        ("transport_document", "SYNL00012345678", "transportDocumentMasterLevel"),
        ("eori", "BE0123456789", "carrier"),
        ("eori", "BE0123456789", "declarant"),
        ("eori", "DE987654321098765", "consignee"),
        ("eori", "DE987654321098765", "buyer"),
        ("eori", "DE111222333444555", "notifyParty"),
        ("email", "ops@synthetic-lines.example", "carrier"),
        ("email", "import@beispiel-frucht.example", "consignee"),
        ("email", "ventas@ficticia.example", "consignor"),
        ("email", "dispo@mueller-sped.example", "notifyParty"),
        ("phone", "+31105550142", "consignee"),
        ("phone", "+494012345678", "consignee"),
        ("phone", "+4922155501", "notifyParty"),
        ("phone", "+5745550100", "consignor"),
    }
    assert record.fields[Field.HS6] == ("080390",)
    assert record.fields[Field.ETA] == ("2025-03-16T04:00:00Z",)
    assert record.fields[Field.ROUTE] == ("CO", "BE", "DE", "PA")
    assert record.fields[Field.PARTY_NAMES][0] == "consignee: Novak, Ivana"


def test_the_road_sample(ics2: Path, xsd: Path) -> None:
    data = (ics2 / "samples-synthetic/IE4R05_road_vehicle_synthetic.xml").read_bytes()
    [record], issues = read(data, schemas=xsd)
    assert issues == []
    assert record.source_ref == "25BG000000000SYN02"
    found = {(x.type.value, x.value) for x in record.identifiers}
    assert found == {
        ("mrn", "25BG000000000SYN02"),
        ("plate", "TR:34ABC123"),
        ("plate", "TR:34DRS77"),
        ("vin", "WVWZZZ1JZXW000001"),
        ("transport_document", "CMRTR202555813"),
        ("eori", "TR1234567890"),
        ("eori", "BG123456789"),
        ("phone", "+902845550101"),
        ("phone", "+35925550199"),
        ("email", "office@testov-auto.example"),
    }


def test_departures_from_the_schema_name_the_place_and_never_the_value(ics2: Path, xsd: Path) -> None:
    data = (ics2 / "samples-synthetic/IE4R05_sea_container_synthetic.xml").read_bytes()
    broken = data.replace(b"<typeOfPerson>1<", b"<typeOfPerson>PLANTED<").replace(
        b"<UNLOCODE>COTRB</UNLOCODE>", b"<PLANTED>PLANTED</PLANTED>"
    )
    for message in (broken, broken.replace(b"\n", b" ")):
        for folder in (xsd, ics2):
            [record], issues = read(message, schemas=folder)
            assert not record.incomplete
            house = f"{ENS}/consignmentMasterLevel/consignmentHouseLevel"
            assert [(x.code, x.path) for x in issues if x.code.startswith("xsd.")] == [
                ("xsd.cvc_maxlength_valid", f"{house}/consignee/typeOfPerson"),
                ("xsd.cvc_pattern_valid", f"{house}/consignee/typeOfPerson"),
                ("xsd.element_content", f"{ENS}/consignmentMasterLevel/placeOfLoading/*"),
            ]
            assert "PLANTED" not in repr(issues)
    lines = [x.line for x in read(broken, schemas=xsd)[1] if x.code.startswith("xsd.")]
    assert lines == [
        broken[: broken.index(mark)].count(b"\n") + 1
        for mark in (b"<typeOfPerson>PLANTED", b"<typeOfPerson>PLANTED", b"<PLANTED>")
    ]


def test_schema_errors_are_bounded(xsd: Path) -> None:
    message = (
        f'<IE4R05 xmlns="{NAMESPACE}"><relatedENS><MRN>{ENS_MRN}</MRN>'
        + "<MRN/>" * 500
        + "<consignmentMasterLevel/></relatedENS></IE4R05>"
    )
    _, issues = read(message.encode(), schemas=xsd)
    assert len([x for x in issues if x.code.startswith("xsd.")]) <= 201


def test_other_messages_are_refused(ics2: Path) -> None:
    files = [
        ics2 / "samples-synthetic/IE4S02_risk_result_DNL_synthetic.xml",
        *sorted((ics2 / "samples-hmrc").glob("*.xml")),
    ]
    assert len(files) == 5
    for path in files:
        records, issues = read(path.read_bytes())
        assert records == []
        assert codes(issues) == ["ics2.unsupported_message"]


def test_types_of_means_are_those_of_the_code_list(shared: Path) -> None:
    folder = shared / "reference/ncts/codelists"
    listed = (folder / "TypeOfIdentificationOfMeansOfTransport.json").read_text(encoding="utf-8")
    assert all(f'"{code}"' in listed for code in MEANS_TYPES)


def test_object_types_are_those_of_article_38(shared: Path) -> None:
    with (shared / "reference/sis/objects_art38.csv").open(encoding="utf-8", newline="") as rows:
        points = {row["point"]: row["art36_allowed"] == "yes" for row in csv.DictReader(rows) if row["point"] != "-"}
    assert {kind.category: kind.in_article_36 for kind in OBJECT_TYPES.values()} == points
