"""The reader of the first release of ICS against its schemas and sample messages.

Source: schemas 11.2 and 10.0 and samples by way of hmrc/import-control-entry-declaration-store, -outcome, -decision and
-intervention (Apache-2.0). 28 samples.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from lxml import etree

from connector_psi.adapters import ics
from connector_psi.domain.records import Field
from tests.customs_samples import BOX_A, element, ens, entry_item, identifiers, told
from tests.schema_paths import leaf_paths

SCHEMAS = {
    "CC315A": "store/schemas",
    "CC313A": "store/schemas",
    "CC328A": "outcome/schemas",
    "CC304A": "outcome/schemas",
    "CC351A": "intervention/schemas",
}
# Sample -> folder of its schemas, and how many records it gives; none of those that break their schema.
VALID = {
    "store/test/CC315A-schemaValidSample-v11-2.xml": ("store/schemas", 1),
    "store/test/CC315A-schemaValidSampleWithEnvelope-v11-2.xml": ("store/schemas", 1),
    "store/test/CC313A-schemaValidSample-v11-2.xml": ("store/schemas", 1),
    "store/test/313SpecificFields.xml": ("store/schemas", 1),
    # Its only number is the placeholder YZ^, which is no number of a trader, and it names nobody.
    "store/test/315NoOptional.xml": ("store/schemas", 0),
    "store/examples/validSubmission.xml": ("store/schemas", 1),
    "store/examples/validAmendment.xml": ("store/schemas", 1),
    # Valid against this schema, which lets TotNumOfIteHEA305 and DecPlaHEA394 be left out.
    "store/examples/CC315A_reduced.xml": ("store/schemas", 1),
    "outcome/examples/pollingResponse.xml": ("outcome/schemas", 1),
    "decision/DeclarationAcceptanceXML.xml": ("decision/conf_xsds", 1),
    "decision/DeclarationAcceptanceAllOptionalXML.xml": ("decision/conf_xsds", 1),
    "decision/AmendmentAcceptanceXML.xml": ("decision/conf_xsds", 1),
    "decision/AmendmentAcceptanceAllOptionalXML.xml": ("decision/conf_xsds", 1),
    "intervention/test/Intervention.xml": ("intervention/schemas", 1),
    "intervention/test/InterventionAllOptional.xml": ("intervention/schemas", 1),
    "intervention/examples/advancedNotification.xml": ("intervention/schemas", 1),
}
INVALID = (
    "store/test/CC315A-schemaInvalidSample-v11-2.xml",
    "store/test/315AllOptional.xml",
    "store/examples/CC315A_full.xml",
    "store/examples/CC313A_reduced.xml",
)
OTHERS = (
    "decision/AmendmentRejectionXML.xml",
    "decision/AmendmentRejectionAllOptionalXML.xml",
    "decision/DeclarationRejectionXML.xml",
    "decision/DeclarationRejectionAllOptionalXML.xml",
    "intervention/examples/listOfInterventions.xml",
    "outcome/examples/listOfOutcomes.xml",
    "store/examples/validResponse.xml",
    "store/examples/errorResponse.xml",
)


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    return shared / "reference" / "ics1"


def schema(folder: Path, name: str) -> Path:
    [path] = (folder / SCHEMAS[name]).glob(f"{name}-v*.xsd")
    return path


def test_the_table_is_the_schemas(folder: Path) -> None:
    declared = {path for name in ics.MESSAGES for path in leaf_paths(schema(folder, name), name)}
    left = {path for path, read in ics.PATHS.items() if not read}

    def is_left(path: str) -> bool:
        return any(path == group or path.startswith(f"{group}/") for group in left)

    assert (len(declared), len(leaf_paths(schema(folder, "CC315A"), "CC315A"))) == (136, 122)
    assert {path for path in declared if not is_left(path)} == {path for path, read in ics.PATHS.items() if read}
    assert all(path in declared or any(each.startswith(f"{path}/") for each in declared) for path in left)


def test_every_number_is_read_or_left_for_a_reason(folder: Path) -> None:
    numbers = {
        path for path in ics.PATHS if any(word in path for word in ("TIN", "ConNum", "SeaIdSEAID530", "DocRefDC23"))
    }
    assert {path for path in numbers if not ics.PATHS[path]} == {"SEAID529/SeaIdSEAID530LNG"}
    # The unique consignment reference: the domain has no type for it.
    assert not ics.PATHS["HEAHEA/ComRefNumHEA"]


@pytest.mark.parametrize("name", ["CC315A", "CC313A", "CC328A"])
def test_what_the_tests_build_is_valid(folder: Path, name: str) -> None:
    header = element("IdeOfMeaOfTraCroHEA85", "9074729") + (
        "" if name == "CC328A" else "<NatOfMeaOfTraCroHEA87>PA</NatOfMeaOfTraCroHEA87>"
    )
    item = entry_item(
        element("PRODOCDC2", "<DocTypDC21>N705</DocTypDC21><DocRefDC23>BL77</DocRefDC23>"),
        element("CONNR2", element("ConNumNR21", BOX_A)),
    )
    found = told(ics.read, ens(name, item, header=header), folder / SCHEMAS[name])
    assert found.issues == []
    assert len(found.records) == 1
    [again] = told(ics.read, b"<e>" + ens(name, item).partition(b"?>\n")[2] + b"</e>", folder / SCHEMAS[name]).records
    assert again.source_ref == found.records[0].source_ref


@pytest.mark.parametrize("name", VALID)
def test_every_sample_that_validates_is_taken_in(folder: Path, name: str) -> None:
    schemas, has_identifiers = VALID[name]
    found = told(ics.read, (folder / name).read_bytes(), folder / schemas)
    assert [code for code in found.codes if code.startswith("xsd.")] == []
    assert (len(found.records), found.rejections) == (1, [])
    # Some samples hold placeholders alone.
    assert ("ics.no_identifier" in found.codes) == (not has_identifiers)


@pytest.mark.parametrize("name", INVALID)
def test_every_sample_that_does_not_is_reported_with_line_and_path(folder: Path, name: str) -> None:
    found = told(ics.read, (folder / name).read_bytes(), folder / "store/schemas")
    assert found.records == found.ends == []
    departures = [issue for issue in found.issues if issue.code.startswith("xsd.")]
    assert len(departures) > 1
    assert all(issue.line and issue.path for issue in departures)
    assert [code for code, _, _ in found.rejections] == ["xsd.rejected"]


def test_a_message_whose_schema_is_not_in_the_folder_is_refused_and_the_rest_is_read(folder: Path) -> None:
    acceptance = (folder / "decision/DeclarationAcceptanceXML.xml").read_bytes()
    amendment = (folder / "store/examples/validAmendment.xml").read_bytes()
    found = told(ics.read, acceptance, folder / "store/schemas")
    assert found.records == found.ends == []
    assert found.rejections == [("ics.schema_missing", "/CC328A", 1)]
    found = told(ics.read, b"<all>" + acceptance + amendment + b"</all>", folder / "store/schemas")
    assert [code for code, _, _ in found.rejections] == ["ics.schema_missing"]
    assert [record.source_ref for record in found.records] == ["12AB3C4D5E6F7G8H90"]


@pytest.mark.parametrize("name", OTHERS)
def test_every_other_sample_is_reported(folder: Path, name: str) -> None:
    found = told(ics.read, (folder / name).read_bytes())
    assert (found.records, found.ends) == ([], [])
    [(code, path, line)] = found.rejections
    assert code == "ics.unsupported_message"
    assert line
    assert path in {"/*", "/CC305A", "/CC316A"}


def test_every_sample_is_in_a_list(folder: Path) -> None:
    assert {str(path.relative_to(folder)) for path in folder.rglob("*.xml")} == {*VALID, *INVALID, *OTHERS}


@pytest.mark.parametrize("name", VALID)
def test_the_identifiers_that_are_in_a_sample_come_out(folder: Path, name: str) -> None:
    """Told from the elements alone, without the table: each number is taken in or reported with its line."""
    data = (folder / name).read_bytes()
    found = told(ics.read, data)
    taken = {x.value for record in found.records for x in record.identifiers}
    reported = {issue.line for issue in found.issues}
    numbers = [
        each
        for each in etree.fromstring(data).iter(etree.Element)
        if each.tag.startswith(("TIN", "DocNumHEA5", "ConNumNR21")) or each.tag == "SeaIdSEAID530"
    ]
    assert numbers
    for each in numbers:
        bare = "".join(char for char in each.text or "" if char.isalnum()).upper()
        assert bare in taken or each.sourceline in reported, each.tag


def test_a_sample_of_an_amendment(folder: Path) -> None:
    found = told(ics.read, (folder / "store/examples/validAmendment.xml").read_bytes(), folder / "store/schemas")
    [record] = found.records
    assert record.source_ref == "12AB3C4D5E6F7G8H90"
    assert identifiers(record) == {
        ("mrn", "12AB3C4D5E6F7G8H90", ""),
        ("eni", "12345678", "activeBorderTransportMeans"),
        ("eori", "GBABC", "declarant"),
    }
    assert record.fields[Field.ETA] == ("2003-02-11T12:34",)
    assert [(each.role, each.name) for each in record.parties] == [("consignor", "ABC123")]


def test_a_sample_of_an_acceptance_in_an_envelope(folder: Path) -> None:
    found = told(ics.read, (folder / "outcome/examples/pollingResponse.xml").read_bytes())
    [record] = found.records
    assert record.source_ref == "10GB08I01234567891/outcome"
    assert identifiers(record) == {("mrn", "10GB08I01234567891", ""), ("eori", "GB000012340002", "declarant")}
    [end] = found.ends
    assert (end.message_ref, end.version) == ("10GB08I01234567891", 0)
    assert end.same_as.startswith("Preeti_315A_TC001@")


def test_a_departure_in_an_envelope_names_the_place_and_never_the_value(folder: Path) -> None:
    data = (folder / "store/test/CC315A-schemaValidSampleWithEnvelope-v11-2.xml").read_bytes()
    broken = data.replace(b"<TotNumOfIteHEA305>42<", b"<TotNumOfIteHEA305>PLANTED<")
    found = told(ics.read, broken, folder / "store/schemas")
    assert found.records == found.ends == []
    line = broken[: broken.index(b"PLANTED")].count(b"\n") + 1
    places = {(issue.path, issue.line) for issue in found.issues if issue.code.startswith("xsd.cvc")}
    assert places == {("/CC315A/HEAHEA/TotNumOfIteHEA305", line)}
    assert [code for code, _, _ in found.rejections] == ["xsd.rejected"]
    assert "PLANTED" not in repr(found.items)
