"""The transit reader against the schemas, the code lists and the sample messages of phases 5 and 6.

Source: schemas 51.8.6 and 60.4.16, code lists and samples by way of hmrc/transit-movements-validator,
transit-movements-converter, customs-reference-data and ctc-traders-phase5-tis (Apache-2.0). 14 samples, 28 readings.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lxml import etree

from connector_psi.adapters import ncts
from connector_psi.adapters.ncts import MESSAGES, OTHER_MESSAGES, PATHS
from connector_psi.domain.declarations import MEANS_TYPES
from connector_psi.domain.movements import TRANSPORT_DOCUMENT_TYPES
from connector_psi.domain.records import Field
from tests.customs_samples import (
    BOX_A,
    LRN,
    MRN,
    document,
    equipment,
    house,
    identifiers,
    means,
    party,
    told,
    transit,
    values,
)
from tests.schema_paths import leaf_paths

PHASES = {"5": "xsd-51.8.6", "6": "xsd-60.4.16"}
# Which sample is valid against which phase, as its schema says.
VALID = {
    "cc007c-valid-xi.xml": "5",
    "cc007c-valid.xml": "6",
    "cc013c-valid-mrn.xml": "5",
    "cc013c-valid.xml": "56",
    "cc014c-valid.xml": "56",
    "cc015c-valid-2.xml": "56",
    "cc015c-valid.xml": "56",
    "cc025c-valid.xml": "5",
    "cc029c-valid.xml": "",
    "cc043c-valid.xml": "5",
    "cc044c-valid.xml": "56",
    "cc170c-valid.xml": "56",
    "tis_Example_IE029_Message_November_2023.xml": "",
    "tis_Post-Transition_IE029_TAD.xml": "",
}
# What their placeholders leave: "string" is no seal, "ezv3Z" is no number of a trader, 00 is no type of means.
WITHOUT_IDENTIFIERS = {"cc015c-valid.xml", "cc170c-valid.xml"}
REQUESTS = {"cc014c-valid.xml"}


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    return shared / "reference" / "ncts"


def is_known(path: str) -> bool:
    parts = path.split("/")
    return path in PATHS or any(PATHS.get("/".join(parts[:end])) is False for end in range(1, len(parts)))


@pytest.mark.parametrize("phase", PHASES.values())
@pytest.mark.parametrize("name", MESSAGES)
def test_every_leaf_of_every_message_is_in_the_table(folder: Path, phase: str, name: str) -> None:
    leaves = leaf_paths(folder / phase / f"{name.lower()}.xsd", name)
    assert len(leaves) >= 15
    assert {path for path in leaves if not is_known(path)} == set()


def test_no_leaf_of_the_table_is_made_up(folder: Path) -> None:
    declared = {
        path
        for phase in PHASES.values()
        for name in MESSAGES
        for path in leaf_paths(folder / phase / f"{name.lower()}.xsd", name)
    }
    assert len(declared) == 298
    read = {path for path, is_read in PATHS.items() if is_read}
    # A party, a means or a document is read alike wherever it stands, also where a schema allows less of it.
    alike = ("Consignor", "Consignee", "Carrier", "Representative", "DepartureTransportMeans")
    assert {path for path in read - declared if not any(f"{name}/" in path for name in alike)} == set()


def test_every_message_of_the_schemas_is_known(folder: Path) -> None:
    files = {path.stem.upper() for phase in PHASES.values() for path in (folder / phase).glob("cc*.xsd")}
    assert files == set(MESSAGES) | OTHER_MESSAGES


@pytest.mark.parametrize("phase", PHASES.values())
def test_what_the_tests_build_is_valid(folder: Path, phase: str) -> None:
    box = equipment(BOX_A, "SEAL1", items=[1])
    parts = box + means("DepartureTransportMeans", "30", "HHAB123") + document("TransportDocument", "N730", "CMR1")
    houses = (house(1, party("Consignor", "DE1", "A"), means("DepartureTransportMeans", "31", "X1")), house(2))
    for name, lrn, mrn in (("CC015C", LRN, ""), ("CC013C", LRN, ""), ("CC013C", "", MRN), ("CC029C", LRN, MRN)):
        # PlaceOfLoading stands before the documents, and the builder puts it last.
        given = box if name == "CC029C" else parts
        found = told(ncts.read, transit(name, *houses, lrn=lrn, mrn=mrn, consignment=given), folder / phase)
        assert [code for code in found.codes if code.startswith("xsd.")] == []
        assert len(found.records) == 2
        assert len(found.ends) == 1


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", VALID)
def test_exactly_the_samples_that_validate_are_taken_in(folder: Path, name: str, phase: str) -> None:
    found = told(ncts.read, (folder / "samples" / name).read_bytes(), folder / PHASES[phase])
    departures = [issue for issue in found.issues if issue.code.startswith("xsd.")]
    if phase not in VALID[name]:
        assert found.records == found.ends == []
        assert departures
        assert all(issue.line and issue.path for issue in departures)
        assert "xsd.rejected" in {code for code, _, _ in found.rejections}
    elif name in REQUESTS:
        assert (found.codes, found.rejections) == (["ncts.request_only"], [])
    elif name in WITHOUT_IDENTIFIERS:
        assert (found.codes.count("ncts.no_identifier"), found.rejections) == (1, [])
        assert [record.identifiers for record in found.records] == [()]
        assert len(found.ends) == 1
    else:
        assert (departures, found.rejections) == ([], [])
        assert len(found.records) == 1
        assert len(found.ends) == 1


def test_every_sample_is_in_the_list(folder: Path) -> None:
    assert {path.name for path in (folder / "samples").glob("*.xml")} == set(VALID)


@pytest.mark.parametrize("name", [name for name, phases in VALID.items() if phases and name not in WITHOUT_IDENTIFIERS])
def test_the_identifiers_that_are_in_a_sample_come_out(folder: Path, name: str) -> None:
    """Told from the elements alone, without the table: each number is taken in or reported with its line."""
    data = (folder / "samples" / name).read_bytes()
    found = told(ncts.read, data)
    taken = {x.value for record in found.records for x in record.identifiers}
    reported = {issue.line for issue in found.issues}
    names = {
        "MRN",
        "identificationNumber",
        "containerIdentificationNumber",
        "identifier",
        "eMailAddress",
        "phoneNumber",
    }
    numbers = [each for each in etree.fromstring(data).iter() if each.tag in names]
    numbers += [
        each for part in etree.fromstring(data).iter("TransportDocument") for each in part.iter("referenceNumber")
    ]
    assert numbers or name in REQUESTS
    for each in numbers:
        bare = "".join(char for char in each.text or "" if char.isalnum() or char in "@.").upper()
        means_type = each.getparent().find("typeOfIdentification")
        line = each.sourceline if means_type is None else means_type.sourceline
        assert bare in {value.upper() for value in taken} or {line, each.sourceline} & reported, each.tag


def test_a_sample_of_a_declaration(folder: Path) -> None:
    [record] = told(ncts.read, (folder / "samples/cc015c-valid-2.xml").read_bytes(), folder / "xsd-60.4.16").records
    assert record.source_ref == "MDTP-18@fcaa32edd987/1"
    assert identifiers(record) == {
        ("eori", "XI985524247819", "holderOfTheTransitProcedure"),
        ("email", "cthor@email.gr", "holderOfTheTransitProcedure"),
        ("eori", "NL023111152", "carrier"),
        ("eori", "NL023111152", "consignor"),
        ("eori", "NL023111152", "consignee"),
        ("eori", "ASCA25621459748", "additionalSupplyChainActor"),
        ("container", "CSQU3054383", ""),
        ("seal", "F742", ""),
    }
    assert record.fields[Field.HS6] == ("152000",)
    assert [(each.role, each.name) for each in record.parties] == [
        ("holderOfTheTransitProcedure", "Trader 1"),
        ("holderOfTheTransitProcedureContactPerson", "Claus Thorup"),
        ("consignor", "Klein Georg"),
        ("consignee", "Sofia Lemmens"),
    ]


def test_a_sample_of_a_release_without_schemas(folder: Path) -> None:
    found = told(ncts.read, (folder / "samples/tis_Post-Transition_IE029_TAD.xml").read_bytes())
    [record] = found.records
    assert record.source_ref == "24GB000246J8NY33L7/1"
    assert values(record, "plate") == [f"GB:NC{n}REG" for n in (15, 16, 17, 18, 19)]
    assert values(record, "seal") == ["1234", "SEAL43"]
    assert values(record, "phone") == ["+448081570192"]
    assert record.fields[Field.ROUTE] == ("GB", "XI", "IT", "DK", "FR", "AT", "DE", "RS", "BG", "GR", "US")
    assert found.ends[0].same_as.startswith("GB8d53f132d00045f3c154@")


def test_a_house_that_breaks_the_schema_is_left_out_alone_and_ends_nothing(folder: Path) -> None:
    data = transit("CC015C", house(1), house(2), consignment=equipment(BOX_A, items=[2]))
    broken = data.replace(
        b"<sequenceNumber>2</sequenceNumber><grossMass>", b"<sequenceNumber>2</sequenceNumber><grossMass>PLANTED"
    )
    found = told(ncts.read, broken, folder / "xsd-60.4.16")
    assert [record.source_ref.rpartition("/")[2] for record in found.records] == ["1"]
    # What the house that was left out is in is not given to the others.
    assert values(found.records[0], "container") == []
    assert found.ends == []
    line = broken[: broken.index(b"<sequenceNumber>2<")].count(b"\n") + 1
    assert found.rejections == [("xsd.rejected", "/CC015C/Consignment/HouseConsignment", line)]
    assert "PLANTED" not in repr(found.items)


def test_two_releases_below_one_folder_are_the_operators_to_tell_apart(folder: Path) -> None:
    from connector_psi.errors import ConfigError

    with pytest.raises(ConfigError):
        told(ncts.read, transit("CC015C"), folder)


def test_codes_are_those_of_the_code_lists(folder: Path) -> None:
    def listed(name: str, key: str) -> set[str]:
        return {row[key] for row in json.loads((folder / "codelists" / f"{name}.json").read_text(encoding="utf-8"))}

    documents = listed("TransportDocumentType", "code") | listed("PreviousDocumentType", "code")
    assert documents >= TRANSPORT_DOCUMENT_TYPES
    # A list of containers and a packing list are no document that goods travel under.
    assert listed("TransportDocumentType", "code") - TRANSPORT_DOCUMENT_TYPES == {"N235", "N271"}
    assert listed("TypeOfIdentificationOfMeansOfTransport", "type") - {"99"} == set(MEANS_TYPES)
