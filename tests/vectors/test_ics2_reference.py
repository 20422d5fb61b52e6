"""The ICS2 tables against the leaf list, the schemas and the sample messages of release V2.21.

Source: EU customs data model for ICS2, V2.21 (schemas Apache-2.0 by way of hmrc/import-control-wsdls). The samples are
synthetic and valid against the schema, or real envelopes with placeholders that are not. 793 leaves of IE4R05, 56 of
IE4S02 and 12 of IE4N03; 7 samples.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from lxml import etree

from connector_psi.adapters.ics2 import LEAVES, NAMESPACE, SKIPPED_SUBTREES, TREES, Leaf, Use
from connector_psi.domain.declarations import MEANS_TYPES
from connector_psi.domain.records import Field, IdentifierType, Issue, PartyKind, Record, version_of
from tests.adapter_samples import ENS_MRN, codes, read

XS = "{http://www.w3.org/2001/XMLSchema}"
HOUSE = "relatedENS/consignmentMasterLevel/consignmentHouseLevel/"
AMOUNTS = {
    HOUSE + path
    for path in (
        "totalAmountInvoiced",
        "additionsAndDeductions/amount",
        "goodsItem/itemAmountInvoiced",
        "goodsItem/postalValue",
        "postalCharges/postalCharges",
    )
}
"""Hold attributes and a text, and stand in no list of leaves that hold a text alone."""
NAMES_OF_NUMBERS = (
    "MRN",
    "identificationNumber",
    "IdentificationNumber",
    "documentNumber",
    "/identifier",
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
    IdentifierType.RECEPTACLE: "JPTYOADEFRAAACN60001001010005",
}
WHEN = datetime(2025, 3, 1, 6, tzinfo=UTC)
# What a leaf says only of a sibling: leaf -> its value, the sibling and its value.
OF_A_SIBLING = {
    "typeOfPerson": ("1", "name", "Somebody"),
    "country": ("DE", "city", "Somewhere"),
    "communication/type": ("EM", "identifier", "a@example.org"),
    "typeOfIdentification": ("10", "identificationNumber", "9074729"),
    "nationality": ("TR", "identificationNumber", "34ABC123"),
    "type": ("N714", "documentNumber", "SYNH-2025-000771"),
}


@pytest.fixture(scope="module")
def ics2(shared: Path) -> Path:
    return shared / "reference" / "ics2"


@pytest.fixture(scope="module")
def xsd(ics2: Path) -> Path:
    return ics2 / "xsd-v2/BusinessObjects/ICS/Common/V2"


def skipped_by(message: str, path: str) -> str | None:
    return next((outer for outer in SKIPPED_SUBTREES[message] if path.startswith(f"{outer}/")), None)


def document(message: str, leaves: Mapping[str, str]) -> bytes:
    """Return a message that holds these leaves, each group once."""

    def inside(prefix: str) -> str:
        names = dict.fromkeys(path.removeprefix(prefix).split("/")[0] for path in leaves if path.startswith(prefix))
        return "".join(f"<{name}>{leaves.get(prefix + name) or inside(f'{prefix}{name}/')}</{name}>" for name in names)

    return f'<{message} xmlns="{NAMESPACE}">{inside("")}</{message}>'.encode()


def around(path: str) -> dict[str, str]:
    """Return what makes a record of the level that a leaf of IE4R05 stands in."""
    if path.startswith("relatedPLACI/"):
        house = "relatedPLACI/consignmentMasterLevel/consignmentHouseLevel/totalGrossMass"
        return {"relatedPLACI/partialENSFilingHeader/MRN": ENS_MRN, house: "1"}
    return {"relatedENS/MRN": ENS_MRN, "relatedENS/consignmentMasterLevel/totalGrossMass": "1"}


def with_leaf(path: str, value: str, sibling: tuple[str, str] | None = None, **more: str) -> tuple[Record, list[Issue]]:
    leaves = around(path) | {path: value}
    if sibling is not None:
        leaves[f"{path.rpartition('/')[0]}/{sibling[0]}"] = sibling[1]
    for name, text in more.items():
        leaves[f"{path.rpartition('/')[0]}/{name}"] = text
    [record], issues = read(document("IE4R05", leaves))
    return record, issues


def used(use: Use) -> list[tuple[str, Leaf]]:
    return sorted((path, leaf) for path, leaf in LEAVES["IE4R05"].items() if leaf.use is use)


# --- the tables ---


def test_every_leaf_of_the_list_is_decided_and_none_is_made_up(ics2: Path) -> None:
    with (ics2 / "ie4r05_leaf_paths.csv").open(encoding="utf-8", newline="") as rows:
        listed = {row["path"].removeprefix("/IE4R05/") for row in csv.DictReader(rows)}
    assert len(listed) == 793
    by_subtree = {path for path in listed if skipped_by("IE4R05", path)}
    assert set(LEAVES["IE4R05"]) & by_subtree == set()
    assert set(LEAVES["IE4R05"]) - listed == AMOUNTS
    assert listed - by_subtree - set(LEAVES["IE4R05"]) == set()
    assert {skipped_by("IE4R05", path) for path in by_subtree} == set(SKIPPED_SUBTREES["IE4R05"])


@pytest.mark.parametrize("message", sorted(LEAVES))
def test_the_table_is_the_schema(xsd: Path, message: str) -> None:
    types = {
        each.get("name"): each
        for file in ("ctypes", "htypes", message)
        for each in etree.parse(xsd / f"{file}.xsd").getroot().iter(f"{XS}complexType")
    }

    def below(type_name: str | None, path: str) -> Iterator[str]:
        inner = list(types[type_name].iter(f"{XS}element")) if type_name in types else []
        if not inner and path:
            yield path
        for element in inner:
            yield from below(element.get("type"), f"{path}/{element.get('name')}".lstrip("/"))

    leaves = set(below(f"{message}Type", ""))
    assert {path for path in leaves if not skipped_by(message, path)} == set(LEAVES[message])
    assert all(any(path.startswith(f"{outer}/") for path in leaves) for outer in SKIPPED_SUBTREES[message])


@pytest.mark.parametrize("message", sorted(LEAVES))
def test_what_is_skipped_is_skipped_for_a_reason(message: str) -> None:
    assert all(leaf.reason for leaf in LEAVES[message].values() if leaf.use is Use.SKIP)
    assert all(SKIPPED_SUBTREES[message].values())
    known = {node.path.removeprefix(f"/{message}/") for node in TREES[message].walk() if node.leaf}
    assert known == {path for path, leaf in LEAVES[message].items() if leaf.use is not Use.SKIP}


def test_every_number_is_read_or_there_is_no_type_for_it() -> None:
    numbers = {path: leaf for path, leaf in LEAVES["IE4R05"].items() if path.endswith(NAMES_OF_NUMBERS)}
    assert len(numbers) > 60
    skipped = {path: leaf.reason for path, leaf in numbers.items() if leaf.use is Use.SKIP}
    assert all(reason.startswith("the domain has no identifier type") for reason in skipped.values())
    assert {path.rpartition("/")[2] for path in skipped} == {"referenceNumberUCR", "conveyanceReferenceNumber"}


# --- each leaf by itself ---


@pytest.mark.parametrize("path", sorted(path for path, leaf in LEAVES["IE4R05"].items() if leaf.type is not None))
def test_a_leaf_with_an_identifier_yields_it_and_says_where(path: str) -> None:
    leaf = LEAVES["IE4R05"][path]
    assert leaf.type is not None
    record, issues = with_leaf(path, VALUES[leaf.type])
    assert issues == []
    found = [(x.type, x.source_path) for x in record.identifiers if x.value != ENS_MRN]
    assert found == [(leaf.type, f"/IE4R05/{path}")]
    if leaf.field is not None:
        assert " ".join(filter(None, (leaf.label, VALUES[leaf.type]))) in record.fields[leaf.field]


@pytest.mark.parametrize(("path", "leaf"), used(Use.TEXT))
def test_a_leaf_with_free_text_is_searched(path: str, leaf: Leaf) -> None:
    text = "car, VIN WVWZZZ1JZXW000001"
    record, issues = with_leaf(path, text)
    assert issues == []
    assert ("vin", f"/IE4R05/{path}#free_text") in {(x.type.value, x.source_path) for x in record.identifiers}
    assert leaf.field is None or record.fields[leaf.field] == (text,)


@pytest.mark.parametrize(("path", "leaf"), used(Use.VALUE))
def test_a_leaf_with_a_value_yields_it(path: str, leaf: Leaf) -> None:
    assert leaf.field is not None
    record, issues = with_leaf(path, "BEANR")
    assert issues == []
    assert record.fields[leaf.field] == (" ".join(filter(None, (leaf.label, "BEANR"))),)


@pytest.mark.parametrize("path", [path for path, leaf in used(Use.PART) if leaf.type is None])
def test_a_leaf_that_completes_its_group_does(path: str) -> None:
    group, _, name = path.rpartition("/")
    short = f"communication/{name}" if group.endswith("/communication") and name == "type" else name
    role = (group.removesuffix("/address").removesuffix("/communication")).rpartition("/")[2]
    if short not in OF_A_SIBLING:
        field = {"identificationNumber": Field.MEANS, "name": Field.PARTY_NAMES, "identifier": Field.PARTY_CONTACTS}
        record, issues = with_leaf(path, "X 1234")
        shown = "X 1234" if name == "identificationNumber" else f"{role}: X 1234"
        assert record.fields[field.get(name, Field.PARTY_ADDRESSES)] == (shown,)
        assert codes(issues) == (["means.type_unknown"] if name == "identificationNumber" else [])
        return
    value, sibling, number = OF_A_SIBLING[short]
    more = {"typeOfIdentification": "30"} if short == "nationality" else {}
    record, issues = with_leaf(path, value, (sibling, number), **more)
    assert issues == []
    identifiers = {(x.type.value, x.value) for x in record.identifiers}
    match short:
        case "typeOfPerson":
            assert [(x.role, x.kind, x.source_path) for x in record.parties] == [
                (role, PartyKind.PERSON, f"/IE4R05/{group}")
            ]
        case "country":
            assert record.fields[Field.PARTY_ADDRESSES] == (f"{role}: Somewhere, DE",)
        case "communication/type":
            assert ("email", number) in identifiers
        case "typeOfIdentification":
            assert ("imo", number) in identifiers
        case "nationality":
            assert ("plate", "TR:34ABC123") in identifiers
        case _:
            assert record.fields[Field.GOODS_IDENTIFIERS] == (f"transport_document N714 {number}",)


@pytest.mark.parametrize("path", [path for path, leaf in used(Use.REFERENCE) if leaf.type is None])
def test_a_leaf_that_names_or_dates_the_declaration_does(path: str) -> None:
    if path.endswith("sequenceNumber"):
        record, issues = with_leaf(path, "42")
        assert (record.source_ref, issues) == (f"{ENS_MRN}/42", [])
    else:
        record, issues = with_leaf(path, "2025-03-01T06:00:00Z")
        assert (record.version, issues) == (version_of(WHEN), [])


@pytest.mark.parametrize("message", ["IE4S02", "IE4N03"])
def test_each_leaf_of_a_risk_message_by_itself(message: str) -> None:
    reference = {"riskAnalysis/riskAnalysisRequestReference": "RA-1"}
    for path, leaf in LEAVES[message].items():
        value = VALUES[leaf.type] if leaf.type else "2025-03-01T06:00:00Z" if "Time" in path else "X1"
        if path in reference:
            continue
        [record], issues = read(document(message, reference | {path: value}))
        assert issues == [], path
        if leaf.type is not None:
            [found] = record.identifiers
            assert (found.type, found.role, found.source_path) == (leaf.type, leaf.role, f"/{message}/{path}")
        else:
            assert record.identifiers == ()
        if leaf.field is not None:
            assert any(text.endswith(value) for text in record.fields[leaf.field]), path
        if leaf.use is Use.PART:
            assert any(text.endswith(" X1") for text in record.fields[Field.RISK_RESULT]), path
        if leaf.use is Use.REFERENCE:
            assert record.version == version_of(WHEN)
        if leaf.use is Use.SKIP:
            assert all(value not in text for texts in record.fields.values() for text in texts), path


# --- the samples ---


def test_exactly_the_samples_that_validate_are_taken_in(ics2: Path, xsd: Path) -> None:
    files = sorted(ics2.glob("samples-*/*.xml"))
    assert len(files) == 7
    for path in files:
        tree = etree.parse(path)
        name = etree.QName(tree.getroot()).localname
        schema = xsd / f"{name}.xsd"
        valid = schema.exists() and etree.XMLSchema(etree.parse(schema)).validate(tree)
        records, issues = read(path.read_bytes(), schemas=ics2, file=path.name)
        assert bool(records) == valid, path.name
        rejects = [x for x in issues if x.rejects_record]
        assert bool(rejects) != valid
        assert all(x.line for x in rejects)


def test_messages_that_are_not_read_are_reported_with_line_and_path(ics2: Path) -> None:
    for path in sorted((ics2 / "samples-hmrc").glob("*.xml")):
        records, [issue] = read(path.read_bytes(), "ics2-ens")
        assert records == []
        assert (issue.code, issue.path, issue.rejects_record) == ("ics2.unsupported_message", "/*", True)
        assert issue.line == (2 if path.name == "ie4n05-v1.xml" else 1)


def test_the_sea_sample(ics2: Path, xsd: Path) -> None:
    data = (ics2 / "samples-synthetic/IE4R05_sea_container_synthetic.xml").read_bytes()
    [record], issues = read(data, schemas=xsd)
    assert issues == []
    assert record.source_ref == "25BE000000000SYN01/1"
    assert (record.message_ref, record.version) == ("25BE000000000SYN01", version_of(WHEN))
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
    assert record.fields[Field.PLACE] == ("loading COTRB", "unloading BEANR")
    assert record.fields[Field.PARTY_NAMES][0] == "consignee: Novak, Ivana"
    assert [(x.role, x.kind, x.name, x.country) for x in record.parties] == [
        ("consignee", PartyKind.PERSON, "Novak, Ivana", "NL"),
        ("consignor", PartyKind.ORGANISATION, "Exportadora Ficticia S.A.S.", "CO"),
        ("buyer", PartyKind.ORGANISATION, "Beispiel Frucht Import GmbH", "DE"),
        ("notifyParty", PartyKind.ORGANISATION, "Müller Spedition KG", "DE"),
        ("declarant", PartyKind.UNKNOWN, "SYNTHETIC LINES NV", "BE"),
        ("master carrier", PartyKind.UNKNOWN, "SYNTHETIC LINES NV", "BE"),
        ("master consignee", PartyKind.ORGANISATION, "Beispiel Frucht Import GmbH", "DE"),
        ("master consignor", PartyKind.ORGANISATION, "Exportadora Ficticia S.A.S.", "CO"),
    ]


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
    assert [x.role for x in record.parties] == ["declarant", "carrier", "consignee", "consignor"]


def test_the_risk_sample(ics2: Path, xsd: Path) -> None:
    data = (ics2 / "samples-synthetic/IE4S02_risk_result_DNL_synthetic.xml").read_bytes()
    [record], issues = read(data, schemas=xsd)
    assert issues == []
    assert (record.source_ref, record.category, record.message_ref) == ("risk/SYNTH-RAREQ-1", "ics2.risk", "")
    assert record.version == version_of(datetime(2025, 3, 2, 8, tzinfo=UTC))
    assert [(x.type.value, x.value, x.role) for x in record.identifiers] == [
        ("container", "CSQU3054383", "doNotLoadDetails")
    ]
    assert record.parties == ()
    assert dict(record.fields) == {
        Field.RISK_RESULT: (
            "type E, area 1006000, level 12, criterion SYN-JHA-HIT, result 1",
            "Synthetic watch-list hit on container number",
        ),
        Field.REFERENCE: ("SYNTH-RAREQ-1", "SYNTH-RISK-0001"),
        Field.RISK_INFORMATION: ("responsible BE",),
        Field.CONTROL_RECOMMENDATION: ("do_not_load container CSQU3054383",),
    }


# --- the schema of the agency ---


def test_departures_from_the_schema_name_the_place_and_never_the_value(ics2: Path, xsd: Path) -> None:
    data = (ics2 / "samples-synthetic/IE4R05_sea_container_synthetic.xml").read_bytes()
    broken = data.replace(b"<typeOfPerson>1<", b"<typeOfPerson>PLANTED<").replace(
        b"<UNLOCODE>COTRB</UNLOCODE>", b"<PLANTED>PLANTED</PLANTED>"
    )
    for message in (broken, broken.replace(b"\n", b" ")):
        for folder in (xsd, ics2):
            records, issues = read(message, schemas=folder)
            assert records == []
            house = "/IE4R05/relatedENS/consignmentMasterLevel/consignmentHouseLevel"
            assert [(x.code, x.path) for x in issues] == [
                ("xsd.cvc_maxlength_valid", f"{house}/consignee/typeOfPerson"),
                ("xsd.cvc_pattern_valid", f"{house}/consignee/typeOfPerson"),
                ("xsd.element_content", "/IE4R05/relatedENS/consignmentMasterLevel/placeOfLoading/*"),
                ("xsd.rejected", "/IE4R05"),
            ]
            assert [x.rejects_record for x in issues] == [False, False, False, True]
            assert "PLANTED" not in repr(issues)
    lines = [x.line for x in read(broken, schemas=xsd)[1]]
    assert lines == [
        *(
            broken[: broken.index(mark)].count(b"\n") + 1
            for mark in (b"<typeOfPerson>PLANTED", b"<typeOfPerson>PLANTED", b"<PLANTED>")
        ),
        2,
    ]


def test_schema_errors_are_bounded(xsd: Path) -> None:
    message = (
        f'<IE4R05 xmlns="{NAMESPACE}"><relatedENS><MRN>{ENS_MRN}</MRN>'
        + "<MRN/>" * 500
        + "<consignmentMasterLevel/></relatedENS></IE4R05>"
    )
    _, issues = read(message.encode(), schemas=xsd)
    assert len([x for x in issues if x.code.startswith("xsd.")]) <= 202


def test_types_of_means_are_those_of_the_code_list(shared: Path) -> None:
    folder = shared / "reference/ncts/codelists"
    listed = (folder / "TypeOfIdentificationOfMeansOfTransport.json").read_text(encoding="utf-8")
    assert all(f'"{code}"' in listed for code in MEANS_TYPES)


def test_the_type_of_a_postal_item_is_that_of_the_code_list(shared: Path) -> None:
    listed = (shared / "reference/ncts/codelists/TransportDocumentType.json").read_text(encoding="utf-8")
    assert '"N750"' in listed


def test_the_example_of_the_documentation_is_valid_and_yields_what_it_says(xsd: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "formats" / "ics2.md").read_text(encoding="utf-8")
    example = page.partition("```xml\n")[2].partition("```")[0]
    [record], issues = read(example.encode(), schemas=xsd)
    assert issues == []
    assert record.source_ref == "25BE000000000SYN01/1"
    assert {x.value for x in record.identifiers} == {"25BE000000000SYN01", "CSQU3054383"}
    assert [x.name for x in record.parties] == ["Novak, Ivana"]


def test_the_documentation_names_every_reason_code_of_the_adapter() -> None:
    root = Path(__file__).parents[2]
    page = (root / "docs" / "formats" / "ics2.md").read_text(encoding="utf-8")
    source = (root / "connector_psi" / "adapters" / "ics2.py").read_text(encoding="utf-8")
    codes_of_source = set(re.findall(r'"(ics2\.[a-z]+_[a-z_]+)"', source))
    assert len(codes_of_source) == 9
    assert {code for code in codes_of_source if f"`{code}`" not in page} == set()
