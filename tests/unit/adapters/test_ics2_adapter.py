"""What is read from an ENS, which house gets what, and what a bad message costs."""

from __future__ import annotations

import hashlib
import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Never

import pytest

from connector_psi.adapters import formats, ics2, xml
from connector_psi.domain.records import (
    Field,
    IdentifierType,
    PartyKind,
    Record,
    SourceSystem,
    Supersession,
    version_of,
)
from connector_psi.errors import ConfigError
from tests.adapter_samples import (
    BAD_BOX,
    BOX_A,
    BOX_B,
    BOX_C,
    BOX_D,
    ENS_MRN,
    NS,
    codes,
    document,
    ens,
    equipment,
    house,
    preload,
    read,
    supersessions,
    values,
)

MASTER = "/IE4R05/relatedENS/consignmentMasterLevel"
PLACI = "/IE4R05/relatedPLACI"
VESSEL = (
    "<activeBorderTransportMeans><identificationNumber>9074729</identificationNumber>"
    "<typeOfIdentification>10</typeOfIdentification><nationality>PA</nationality></activeBorderTransportMeans>"
)
CARRIER = "<carrier><name>Lines NV</name><identificationNumber>BE0123456789</identificationNumber></carrier>"


def refs(records: list[Record]) -> list[str]:
    return [record.source_ref for record in records]


def means(number: str, kind: str, nationality: str = "", name: str = "passiveBorderTransportMeans") -> str:
    country = f"<nationality>{nationality}</nationality>" if nationality else ""
    return (
        f"<{name}><identificationNumber>{number}</identificationNumber>"
        f"<typeOfIdentification>{kind}</typeOfIdentification>{country}</{name}>"
    )


def filing_of(mrn: str, part: str) -> str:
    return f"<partialENSFilingHeader><MRN>{mrn}</MRN>{part}</partialENSFilingHeader>"


def filing(mrn: str, eori: str) -> str:
    return (
        f"<partialENSFilingHeader><MRN>{mrn}</MRN><declarant><identificationNumber>{eori}</identificationNumber></declarant>"
        "</partialENSFilingHeader>"
    )


# --- what is read ---


def test_a_message_without_houses_is_one_record_named_by_its_mrn() -> None:
    data = ens(before=VESSEL, master=CARRIER + equipment("csqu 305438-3", "SEAL77120"))
    [record], issues = read(data)
    assert issues == []
    assert (record.source, record.source_ref, record.category) == ("ICS2", ENS_MRN, "ics2.ens")
    assert record.message_digest == hashlib.sha256(data).digest()
    assert (record.incomplete, record.hidden, record.valid_until) == (False, False, None)
    assert {(x.type.value, x.value, x.role) for x in record.identifiers} == {
        ("mrn", ENS_MRN, ""),
        ("imo", "9074729", "activeBorderTransportMeans"),
        ("eori", "BE0123456789", "carrier"),
        ("container", BOX_A, ""),
        ("seal", "SEAL77120", ""),
    }
    [box] = [x for x in record.identifiers if x.type is IdentifierType.CONTAINER]
    assert box.source_path == f"{MASTER}/transportEquipment/containerIdentificationNumber"
    assert record.fields[Field.GOODS_IDENTIFIERS] == (f"container {BOX_A}", "seal SEAL77120")
    assert record.fields[Field.PARTY_NAMES] == ("carrier: Lines NV",)


def test_every_house_is_a_record_and_has_what_the_master_says_after_it() -> None:
    data = ens(
        house(1, document("H-1001")), house(2, document("H-1002")),
        before=VESSEL, master=CARRIER + document("M-9001", "Master"),
        after="<declarant><identificationNumber>FR40303265045</identificationNumber></declarant>",
    )  # fmt: skip
    records, issues = read(data)
    assert issues == []
    assert refs(records) == [f"{ENS_MRN}/1", f"{ENS_MRN}/2"]
    assert [values(record, "transport_document") for record in records] == [["H1001", "M9001"], ["H1002", "M9001"]]
    for record in records:
        assert values(record, "imo") == ["9074729"]
        assert values(record, "mrn") == [ENS_MRN]
        assert sorted(values(record, "eori")) == ["BE0123456789", "FR40303265045"]
        assert record.fields[Field.PARTY_NAMES] == ("master carrier: Lines NV",)
        assert record.message_digest == hashlib.sha256(data).digest()


def test_a_house_without_a_sequence_number_or_with_a_used_one_is_named_by_its_position() -> None:
    records, _ = read(ens(house(7, document("H-1001")), house(), house(7, document("H-1003")), house(8)))
    assert refs(records) == [f"{ENS_MRN}/7", f"{ENS_MRN}/@2", f"{ENS_MRN}/@3", f"{ENS_MRN}/8"]


def test_a_house_gets_the_containers_it_lists_and_those_that_nobody_lists() -> None:
    data = ens(
        house(1, equipment(BOX_A)), house(2, equipment(BOX_B)), house(3),
        master=equipment(BOX_A, "SEAL-A1") + equipment(BOX_B, "SEAL-B1") + equipment(BOX_C, "SEAL-C1"),
    )  # fmt: skip
    (first, second, third), _ = read(data)
    assert (values(first, "container"), values(first, "seal")) == ([BOX_A, BOX_C], ["SEALC1", "SEALA1"])
    assert (values(second, "container"), values(second, "seal")) == ([BOX_B, BOX_C], ["SEALC1", "SEALB1"])
    assert values(third, "container") == [BOX_A, BOX_B, BOX_C]
    assert values(third, "seal") == ["SEALA1", "SEALB1", "SEALC1"]


def test_a_house_gets_its_own_filing_and_the_one_that_no_house_names() -> None:
    data = ens(
        house(1, "<MRN>25BE000000000SYN11</MRN>"), house(2, "<MRN>25BE000000000SYN12</MRN>"),
        after=filing("25BE000000000SYN11", "FR11") + filing("25BE000000000SYN12", "FR12") + filing("25BE000000000SYN99", "FR99"),
    )  # fmt: skip
    (first, second), issues = read(data)
    assert issues == []
    assert sorted(values(first, "eori")) == ["FR11", "FR99"]
    assert sorted(values(second, "eori")) == ["FR12", "FR99"]
    assert set(values(first, "mrn")) == {ENS_MRN, "25BE000000000SYN11", "25BE000000000SYN99"}


@pytest.mark.parametrize(
    ("kind", "number", "nationality", "expected", "shown"),
    [
        ("10", "IMO 9074729", "PA", ("imo", "9074729"), "imo IMO 9074729 PA"),
        ("30", "34 ABC 123", "TR", ("plate", "TR:34ABC123"), "plate 34 ABC 123 TR"),
        ("31", "34DRS77", "TR", ("plate", "TR:34DRS77"), "plate 34DRS77 TR"),
        ("41", "D-ABCD", "DE", ("aircraft", "DABCD"), "aircraft D-ABCD DE"),
        ("20", "31806648121", "", None, "wagon 31806648121"),
        ("40", "LH0400", "", None, "flight LH0400"),
        ("80", "02326104", "", ("eni", "02326104"), "eni 02326104"),
    ],
)
def test_means_of_transport_by_the_type_they_state(
    kind: str, number: str, nationality: str, expected: Any, shown: str
) -> None:
    [record], issues = read(ens(master=means(number, kind, nationality)))
    found = [(x.type.value, x.value) for x in record.identifiers if x.role == "passiveBorderTransportMeans"]
    assert found == ([expected] if expected else [])
    assert record.fields[Field.MEANS] == (shown,)
    assert issues == []


def test_means_of_an_unknown_type_are_reported_and_a_plate_without_a_country_is_half_a_plate() -> None:
    [record], [issue] = read(ens(master=means("34ABC123", "30") + "\n" + means("34ABC123", "77")))
    assert (issue.code, issue.rejects_record, issue.line) == ("means.type_unknown", False, 7)
    assert (values(record, "plate"), values(record, "plate_number")) == ([], ["34ABC123"])


def test_a_national_phone_number_is_one_of_the_country_of_the_address() -> None:
    party = (
        "<consignee><communication><identifier>030 123456</identifier><type>TE</type></communication>"
        "<communication><identifier>Info@Example.ORG</identifier><type>EM</type></communication>"
        "<communication><identifier>030 999999</identifier><type>FX</type></communication>"
        "<address><city>Berlin</city><country>DE</country><street>Weg</street><number>1</number><postCode>10115</postCode></address></consignee>"
    )
    [record], issues = read(ens(master=party))
    assert issues == []
    assert values(record, "phone") == ["+4930123456"]
    assert values(record, "email") == ["info@example.org"]
    assert record.fields[Field.PARTY_ADDRESSES] == ("consignee: Weg 1, 10115 Berlin, DE",)
    assert record.fields[Field.PARTY_CONTACTS][2] == "consignee: 030 999999"


def test_numbers_in_free_text_are_marked_as_found_there() -> None:
    goods = (
        "<goodsItem><commodity><descriptionOfGoods>car, VIN WVWZZZ1JZXW000001</descriptionOfGoods></commodity>"
        f"<packaging><shippingMarks>{BOX_A}</shippingMarks></packaging></goodsItem>"
    )
    [record], _ = read(ens(house(1, goods)))
    by_type = {x.type.value: x for x in record.identifiers}
    assert by_type["vin"].value == "WVWZZZ1JZXW000001"
    assert by_type["vin"].source_path.endswith("commodity/descriptionOfGoods#free_text")
    assert by_type["container"].source_path.endswith("packaging/shippingMarks#free_text")
    assert record.fields[Field.GOODS_DESCRIPTION] == ("car, VIN WVWZZZ1JZXW000001",)


def test_fields_of_the_route() -> None:
    before = (
        "<activeBorderTransportMeans><estimatedDateAndTimeOfArrival><DateTime>2025-03-16T04:00:00Z</DateTime></estimatedDateAndTimeOfArrival>"
        "<countriesOfRoutingOfMeansOfTransport><sequenceNumber>1</sequenceNumber><country>CO</country></countriesOfRoutingOfMeansOfTransport>"
        "<countriesOfRoutingOfMeansOfTransport><sequenceNumber>2</sequenceNumber><country>BE</country></countriesOfRoutingOfMeansOfTransport>"
        "</activeBorderTransportMeans>"
    )
    after = "<customsOfficeOfFirstEntry><referenceNumber>BE101000</referenceNumber></customsOfficeOfFirstEntry>"
    unloading = (
        "<placeOfUnloading><UNLOCODE>BEANR</UNLOCODE><address><country>BE</country></address></placeOfUnloading>"
    )
    [record], issues = read(ens(before=before, after=after, master=unloading))
    assert issues == []
    assert record.fields[Field.ETA] == ("2025-03-16T04:00:00Z",)
    assert record.fields[Field.ROUTE] == ("CO", "BE")
    assert set(record.fields[Field.PLACE]) == {"first_entry BE101000", "unloading BEANR"}
    assert record.fields[Field.MRN] == (ENS_MRN,)


def test_what_analysts_and_controls_wrote_is_not_read() -> None:
    subject = f"<controlSubject><consignmentMasterLevel>{equipment(BOX_D)}</consignmentMasterLevel></controlSubject>"
    before = f"<supplementaryRiskInformation><referenceIdentifier>{BOX_D}</referenceIdentifier></supplementaryRiskInformation>"
    before += f"<controlResults>{subject}</controlResults><fullRiskAnalysis><controlRecommendations>{subject}</controlRecommendations></fullRiskAnalysis>"
    [record], issues = read(ens(before=before))
    assert values(record, "container") == []
    assert issues == []


# --- parties ---


def test_parties_say_what_they_are_and_at_which_level() -> None:
    def party(role: str, name: str, kind: str = "") -> str:
        kind = f"<typeOfPerson>{kind}</typeOfPerson>" if kind else ""
        address = "<address><street>Weg</street><number>1</number><postCode>10115</postCode><city>Berlin</city><country>DE</country></address>"
        return f"<{role}><name>{name}</name>{kind}{address}</{role}>"

    goods = f"<goodsShipment>{party('buyer', 'Buyer', '3')}</goodsShipment>"
    data = ens(
        house(1, party("consignee", "Novak, Ivana", "1"), goods),
        master=party("consignee", "Import GmbH", "2") + party("notifyParty", "Unknown"),
        after=party("declarant", "Lines NV") + filing_of("25BE000000000SYN99", party("declarant", "Agent")),
    )
    [record], issues = read(data)
    assert issues == []
    assert [(x.role, x.kind, x.name) for x in record.parties] == [
        ("consignee", PartyKind.PERSON, "Novak, Ivana"),
        ("buyer", PartyKind.ORGANISATION, "Buyer"),
        ("declarant", PartyKind.UNKNOWN, "Lines NV"),
        ("master consignee", PartyKind.ORGANISATION, "Import GmbH"),
        ("master notifyParty", PartyKind.UNKNOWN, "Unknown"),
        ("declarant", PartyKind.UNKNOWN, "Agent"),
    ]
    assert {(x.address, x.country) for x in record.parties} == {("Weg 1, 10115 Berlin, DE", "DE")}
    assert {(x.city, x.postcode) for x in record.parties} == {("Berlin", "10115")}
    assert record.parties[0].source_path == f"{MASTER}/consignmentHouseLevel/consignee"
    assert "master consignee: Import GmbH" in record.fields[Field.PARTY_NAMES]
    [alone], _ = read(ens(master=party("consignee", "Import GmbH", "2")))
    assert [x.role for x in alone.parties] == ["consignee"]


def test_a_consignment_that_only_a_name_tells_is_a_record_and_so_is_one_that_nothing_tells() -> None:
    [record], _ = read(ens(mrn="ABC123", master="<consignor><name>A</name></consignor>"))
    assert (record.identifiers, len(record.parties)) == ((), 1)
    [record], issues = read(ens(mrn="ABC123"))
    assert (record.source_ref, record.identifiers, record.parties) == ("ABC123", (), ())
    assert [(x.code, x.rejects_record) for x in issues] == [("mrn.length", False), ("ics2.no_identifier", False)]


# --- post ---


def test_postal_items_and_receptacles() -> None:
    receptacle = "<receptacle><receptacleIdentificationNumber>JPTYOADEFRAAACN60001001010005</receptacleIdentificationNumber></receptacle>"
    item = document("RB123456785GB").replace("N714", "N750")
    [record], issues = read(ens(house(1, receptacle, item), master=receptacle, after=""))
    assert issues == []
    assert values(record, "receptacle") == ["JPTYOADEFRAAACN60001001010005"]
    assert values(record, "postal_item") == values(record, "transport_document") == ["RB123456785GB"]
    assert set(record.fields[Field.GOODS_IDENTIFIERS]) == {
        "receptacle JPTYOADEFRAAACN60001001010005",
        "transport_document N750 RB123456785GB",
    }
    [preloaded], issues = (
        read(ens(preloaded=preload(house(None, item))).replace(b"<MRN>" + ENS_MRN.encode(), b"<MRN>"))[0][:1],
        [],
    )
    assert values(preloaded, "postal_item") == ["RB123456785GB"]


def test_the_number_of_another_document_is_no_postal_item() -> None:
    [record], issues = read(ens(house(1, document("RB123456785GB")), master=document("RB123456785GB", "Master")))
    assert (values(record, "postal_item"), issues) == ([], [])
    [record], issues = read(ens(house(1, document("RB123456784GB").replace("N714", "N750"))))
    assert (values(record, "postal_item"), values(record, "transport_document")) == ([], ["RB123456784GB"])
    assert [x.rejects_record for x in issues] == [False]


# --- what was declared before loading ---


def test_each_house_of_a_preloading_filing_is_a_record_with_all_its_filings() -> None:
    goods = "<goodsItem><commodity><descriptionOfGoods>toys</descriptionOfGoods><commodityCode><harmonizedSystemSubHeadingCode>950300</harmonizedSystemSubHeadingCode></commodityCode></commodity></goodsItem>"
    consignor = "<consignor><name>Toys Ltd</name><typeOfPerson>2</typeOfPerson><communication><identifier>+8613800138000</identifier><type>TE</type></communication></consignor>"
    data = ens(
        house(7, document("H-9001")),
        preloaded=preload(house(None, document("H-1001"), goods), house(None, document("H-1002"), consignor))
        + preload(house(None, document("H-2001")), mrn="25DE000000000SYN92"),
    )
    records, issues = read(data)
    # The table of a pre-loading house has no sequence number; the sample's houses have none.
    assert issues == []
    assert [(x.source_ref, x.category, x.message_ref) for x in records] == [
        ("25DE000000000SYN91#placi/@1", "ics2.placi", "25DE000000000SYN91#placi"),
        ("25DE000000000SYN91#placi/@2", "ics2.placi", "25DE000000000SYN91#placi"),
        ("25DE000000000SYN92#placi/@1", "ics2.placi", "25DE000000000SYN92#placi"),
        (f"{ENS_MRN}/7", "ics2.ens", ENS_MRN),
    ]
    first, second, third, _ = records
    assert [values(x, "transport_document") for x in records] == [["H1001"], ["H1002"], ["H2001"], ["H9001"]]
    assert [values(x, "mrn") for x in records] == [["25DE000000000SYN91"]] * 2 + [["25DE000000000SYN92"], [ENS_MRN]]
    assert [values(x, "eori") for x in records] == [["FR11"]] * 3 + [[]]
    assert first.fields[Field.HS6] == ("950300",)
    assert (values(second, "phone"), [x.name for x in second.parties]) == (["+8613800138000"], ["Toys Ltd"])
    assert first.version == third.version == version_of(datetime(2025, 3, 1, 6, tzinfo=UTC))
    assert all(x.message_digest == hashlib.sha256(data).digest() for x in records)


def test_positions_go_on_where_a_filing_is_named_again() -> None:
    twice = preload(house(None, document("H-1001"))) + preload(
        house(None, document("H-1002")), issued="2025-03-05T06:00:00Z"
    )
    records, _ = read(ens(preloaded=twice))
    assert refs(records)[:2] == ["25DE000000000SYN91#placi/@1", "25DE000000000SYN91#placi/@2"]
    # One version for all that one message says about one thing: else its own end would withdraw the first.
    assert records[0].version == records[1].version
    assert supersessions(ens(preloaded=twice), "ics2-ens")[0].version == records[0].version


def test_a_message_of_preloading_filings_alone_is_whole() -> None:
    data = f'<IE4R05 xmlns="{NS}">{preload(house(None, document("H-1001")))}</IE4R05>'.encode()
    [record], issues = read(data)
    assert issues == []
    assert supersessions(data, "ics2-ens") == [
        Supersession(SourceSystem.ICS2, "25DE000000000SYN91#placi", record.version)
    ]


def test_a_preloading_filing_without_an_mrn_or_a_consignment_is_lost() -> None:
    records, issues = read(ens(preloaded=preload(house(None), mrn=None) + preload()))
    assert refs(records) == [ENS_MRN]
    assert [(x.code, x.path, x.rejects_record) for x in issues] == [
        ("ics2.mrn_missing", f"{PLACI}/partialENSFilingHeader/MRN", True),
        ("ics2.consignment_missing", f"{PLACI}/consignmentMasterLevel", True),
    ]


def test_risk_analysis_of_a_preloading_filing_is_not_read() -> None:
    subject = f"<controlRecommendations><controlSubject><consignmentMasterLevel><consignmentHouseLevel>{equipment(BOX_D)}</consignmentHouseLevel></consignmentMasterLevel></controlSubject></controlRecommendations>"
    risk = f"<airPreloadingRiskAnalysis>{subject}<doNotLoadDetails>{equipment(BOX_D)}</doNotLoadDetails></airPreloadingRiskAnalysis>"
    filing_with_risk = preload(house(None, document("H-1001"))).replace("<relatedPLACI>", f"<relatedPLACI>{risk}")
    records, issues = read(ens(preloaded=filing_with_risk))
    assert issues == []
    assert [values(x, "container") for x in records] == [[], []]


def test_many_preloading_filings_in_a_second_pass_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    filings = "".join(
        preload(*(house(None, document(f"H-{n}-{k}")) for k in range(n % 4)), mrn=f"25DE0000000000{n:02}91")
        for n in range(30)
    )
    data = ens(house(1), house(2), preloaded=filings)
    once = read(data)
    monkeypatch.setattr(ics2, "MAX_HELD_BYTES", 5_000)
    assert read(data) == once
    assert len(once[0]) == sum(n % 4 for n in range(30)) + 2


def test_a_preloading_filing_with_too_many_houses_loses_those_beyond(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ics2, "MAX_WAITING_BYTES", 8_000)
    records, issues = read(ens(preloaded=preload(*(house(None, document(f"H-1{n:03}")) for n in range(30)))))
    assert 2 < len(records) < 12
    lost = [x for x in issues if x.code == "ics2.too_many_houses"]
    assert len(lost) + len(records) - 1 == 30
    assert all(x.rejects_record for x in lost)


# --- versions ---


def test_a_version_is_the_newest_date_that_the_declaration_holds() -> None:
    def version(**options: Any) -> int:
        [record], _ = read(ens(**options))
        return record.version

    later = "<partialENSFilingHeader><registrationDate><DateTime>2025-03-04T06:00:00Z</DateTime></registrationDate></partialENSFilingHeader>"
    assert version() == 0
    first, amended = version(issued="2025-03-01T06:00:00Z"), version(issued="2025-03-02T06:00:00Z")
    completed = version(issued="2025-03-02T06:00:00Z", after=later)
    assert 0 < first < amended < completed
    assert completed == version_of(datetime(2025, 3, 4, 6, tzinfo=UTC))
    asked = ens(issued="2025-03-01T06:00:00Z").replace(
        b"<functionalReference>",
        b"<MessageHeader><messageTimestamp>2026-01-01T00:00:00+01:00</messageTimestamp></MessageHeader><functionalReference>",
    )
    assert read(asked)[0][0].version == first
    undated = asked.replace(b"2025-03-01T06:00:00Z", b"")
    assert read(undated)[0][0].version == version_of(datetime(2025, 12, 31, 23, tzinfo=UTC))


@pytest.mark.parametrize("text", ["2025-13-01T06:00:00Z", "2025-03-01T06:00:00", "yesterday"])
def test_a_time_that_is_none_or_of_no_zone_is_reported(text: str) -> None:
    [record], [issue] = read(ens(issued=text))
    assert record.version == 0
    assert (issue.code, issue.path) == ("field.invalid", "/IE4R05/relatedENS/DocumentIssueDate/DateTime")


def test_a_whole_message_ends_with_what_it_supersedes_and_a_cut_one_does_not() -> None:
    data = ens(house(1), house(2), issued="2025-03-01T06:00:00Z")
    found = list(formats.read(io.BytesIO(data), file="f"))
    assert isinstance(found[-1], Supersession)
    [end] = [x for x in found if isinstance(x, Supersession)]
    assert (end.source, end.message_ref, end.version, end.withdrawn) == ("ICS2", ENS_MRN, found[0].version, False)
    assert all(x.message_ref == ENS_MRN for x in found if isinstance(x, Record))
    assert supersessions(data[:-20], "ics2-ens") == []
    assert supersessions(ens(house(1), mrn=None), "ics2-ens") == []
    assert supersessions(ens(after="<consignmentMasterLevel/>"), "ics2-ens") == []


# --- risk results and hits ---


def risk(*analyses: str, more: str = "", name: str = "IE4S02") -> bytes:
    return (
        f'<{name} xmlns="{NS}"><functionalReference>F-1</functionalReference>'
        f"<documentIssueDate><DateTime>2025-03-02T08:00:00Z</DateTime></documentIssueDate>{''.join(analyses)}{more}</{name}>"
    ).encode()


def analysis(reference: str, *levels: str) -> str:
    results = "".join(f"<riskAnalysisResult><riskLevel>{x}</riskLevel></riskAnalysisResult>" for x in levels)
    return f"<riskAnalysis><riskAnalysisRequestReference>{reference}</riskAnalysisRequestReference>{results}</riskAnalysis>\n"


def test_a_risk_result_is_a_record_for_each_request() -> None:
    subject = f"<controlSubject><consignmentMasterLevel>{equipment(BOX_A)}</consignmentMasterLevel></controlSubject>"
    more = (
        f"<controlRecommendations><placeOfControl>1</placeOfControl>{subject}<additionalInformation><text>open {BOX_B}</text></additionalInformation></controlRecommendations>"
        f"<doNotLoadDetails>{equipment(BOX_C)}</doNotLoadDetails>"
    )
    analyst = "<riskAnalyst><name>Somebody</name><communication><identifier>+3225550100</identifier><type>TE</type></communication></riskAnalyst>"
    data = risk(analyst, analysis("RA-1", "12", "3"), analysis("RA-2"), more=more)
    (first, second), issues = read(data)
    assert issues == []
    assert refs([first, second]) == ["risk/RA-1", "risk/RA-2"]
    assert first.category == "ics2.risk"
    for record in (first, second):
        # What is to be controlled and what an analyst wrote is no identifier; what must not be loaded is.
        assert [(x.type.value, x.value, x.role) for x in record.identifiers] == [
            ("container", BOX_C, "doNotLoadDetails")
        ]
        assert record.parties == ()
        assert record.message_digest == hashlib.sha256(data).digest()
        assert record.fields[Field.CONTROL_RECOMMENDATION] == (
            "place 1",
            f"open {BOX_B}",
            f"do_not_load container {BOX_C}",
        )
    assert first.fields[Field.RISK_RESULT] == ("level 12", "level 3")
    assert Field.RISK_RESULT not in second.fields
    assert first.version == version_of(datetime(2025, 3, 2, 8, tzinfo=UTC))
    assert supersessions(data, "ics2-risk") == []


def test_a_hit_names_the_request_that_it_is_about() -> None:
    state = "<responsibleMemberState><country>BE</country></responsibleMemberState>"
    data = risk(analysis("RA-1").replace("</riskAnalysis>", state + "</riskAnalysis>"), name="IE4N03")
    [record], issues = read(data)
    assert issues == []
    assert (record.source_ref, record.category, record.identifiers) == ("hit/RA-1", "ics2.hit", ())
    assert dict(record.fields) == {
        Field.RISK_INFORMATION: ("responsible BE",),
        Field.REFERENCE: ("RA-1", "F-1"),
        Field.RISK_RESULT: ("hit",),
    }


def test_a_risk_result_without_a_usable_reference_is_lost() -> None:
    records, issues = read(risk(analysis("RA-1"), analysis("RA-1"), analysis("a b"), analysis("")))
    assert refs(records) == ["risk/RA-1"]
    assert [(x.code, x.path, x.rejects_record) for x in issues] == [
        ("ics2.reference_invalid", "/IE4S02/riskAnalysis/riskAnalysisRequestReference", True)
    ] * 3
    assert codes(read(risk())[1]) == ["ics2.analysis_missing"]


def test_a_cut_risk_result_keeps_the_requests_that_closed() -> None:
    data = risk(analysis("RA-1", "1"), analysis("RA-2", "2"), analysis("RA-3", "3"))
    ends = [i + len(b"</riskAnalysis>") for i in range(len(data)) if data.startswith(b"</riskAnalysis>", i)]
    for cut in range(len(f'<IE4S02 xmlns="{NS}">'), len(data) - 1):
        records, issues = read(data[:cut], "ics2-risk")
        closed = sum(end <= cut for end in ends)
        assert refs(records) == [f"risk/RA-{n + 1}" for n in range(closed)]
        assert all(x.incomplete for x in records)
        assert codes(issues) == ["xml.truncated"]


# --- the schema of the agency ---


def valid(*houses: str, preloaded: str = "", risk_part: str = "") -> bytes:
    """Return a message that is valid if its houses are."""
    return (
        f'<IE4R05 xmlns="{NS}">\n<MessageHeader><messageId>a</messageId><messageTimestamp>2025-03-04T09:15:00Z</messageTimestamp>'
        "<messageSender>CR</messageSender><messageRecipient>NES.BE</messageRecipient></MessageHeader>"
        f"<functionalReference>X</functionalReference>{preloaded}<relatedENS><MRN>{ENS_MRN}</MRN>{risk_part}\n"
        f"<consignmentMasterLevel>{''.join(houses)}</consignmentMasterLevel></relatedENS></IE4R05>"
    ).encode()


@pytest.fixture
def xsd(shared: Path) -> Path:
    return shared / "reference" / "ics2"


def test_a_house_that_breaks_the_schema_is_not_taken_in_and_the_others_are(xsd: Path) -> None:
    broken = house(2, "<containerIndicator>PLANTED</containerIndicator>")
    data = valid(house(1), broken, house(3), preloaded=preload(house(None), house(None)))
    records, issues = read(data, schemas=xsd)
    assert refs(records) == [
        "25DE000000000SYN91#placi/@1",
        "25DE000000000SYN91#placi/@2",
        f"{ENS_MRN}/1",
        f"{ENS_MRN}/3",
    ]
    assert [(x.code, x.line, x.path) for x in issues if x.rejects_record] == [
        ("xsd.rejected", data[: data.index(broken.encode())].count(b"\n") + 1, f"{MASTER}/consignmentHouseLevel")
    ]
    assert "PLANTED" not in repr(issues)
    assert [x for x in formats.read(io.BytesIO(data), file="f", schemas=xsd) if isinstance(x, Supersession)] == []
    records, issues = read(valid(house(1), preloaded=preload(house(1), house(None))), schemas=xsd)
    assert refs(records) == ["25DE000000000SYN91#placi/@1", f"{ENS_MRN}/1"]
    assert [x.path for x in issues if x.rejects_record] == [f"{PLACI}/consignmentMasterLevel/consignmentHouseLevel"]


@pytest.mark.parametrize("held", [1_000, 1_000_000])
def test_anything_else_that_breaks_the_schema_rejects_the_message(
    xsd: Path, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ics2, "MAX_HELD_BYTES", held)
    subject = "<controlSubject><consignmentMasterLevel><consignmentHouseLevel><PLANTED/></consignmentHouseLevel></consignmentMasterLevel></controlSubject>"
    for data in (
        valid(house(1), risk_part="<reEntryIndicator>PLANTED</reEntryIndicator>"),
        valid(house(1), risk_part=f"<controlResults>{subject}</controlResults>"),
        risk(analysis("RA-1", "1")),
        risk(analysis("RA-1"), name="IE4N03"),
    ):
        records, issues = read(data, schemas=xsd)
        assert records == []
        assert [(x.code, x.line) for x in issues if x.rejects_record] == [("xsd.rejected", 1)]
    good = valid(house(1), preloaded=preload(house(None, document("H-1001"))))
    records, issues = read(good, schemas=xsd)
    assert (len(records), issues) == (2, [])


# --- what is wrong with single values ---


def test_a_wrong_check_digit_costs_the_value_and_not_the_record() -> None:
    data = ens(house(1, "\n", equipment(BAD_BOX, "SEAL77120")), house(2, equipment(BOX_B)))
    records, [issue] = read(data)
    assert refs(records) == [f"{ENS_MRN}/1", f"{ENS_MRN}/2"]
    assert values(records[0], "container") == []
    assert values(records[0], "seal") == ["SEAL77120"]
    line = data[: data.index(BAD_BOX.encode())].count(b"\n") + 1
    path = f"{MASTER}/consignmentHouseLevel/transportEquipment/containerIdentificationNumber"
    assert (issue.code, issue.line, issue.path, issue.rejects_record) == ("container.check_digit", line, path, False)


def test_a_message_without_an_mrn_loses_every_record_and_says_where() -> None:
    records, issues = read(ens(house(1, document("H-1001")), house(2, document("H-1002")), mrn=None))
    assert records == []
    assert [(x.code, x.path, x.rejects_record) for x in issues] == [
        ("ics2.mrn_missing", "/IE4R05/relatedENS/MRN", True)
    ] * 2


def test_an_mrn_of_another_form_still_names_the_record() -> None:
    [record], issues = read(ens(mrn="ABC123", master=CARRIER))
    assert (record.source_ref, values(record, "mrn")) == ("ABC123", [])
    assert [(x.code, x.rejects_record) for x in issues] == [("mrn.length", False)]
    assert read(ens(mrn="../etc"))[0] == []


def test_unknown_elements_are_reported_once_per_place_and_never_by_name() -> None:
    strange = f"<{BOX_A}>{BOX_B}</{BOX_A}>"
    records, issues = read(ens(house(1, strange), house(2, strange, equipment(BOX_C)), master=strange))
    assert [values(x, "container") for x in records] == [[], [BOX_C]]
    assert [(x.code, x.path, x.rejects_record) for x in issues] == [
        ("xml.unknown_element", f"{MASTER}/consignmentHouseLevel/*", False),
        ("xml.unknown_element", f"{MASTER}/*", False),
    ]


def test_elements_of_another_namespace_are_unknown() -> None:
    _, issues = read(
        ens(master='<carrier xmlns="urn:other"><identificationNumber>BE1</identificationNumber></carrier>')
    )
    assert codes(issues) == ["xml.unknown_element"]


def test_a_text_over_the_bound_is_reported_and_left_out() -> None:
    long = (
        "<goodsItem><commodity><descriptionOfGoods>"
        + "ab cd, " * 2000
        + "</descriptionOfGoods></commodity></goodsItem>"
    )
    [record], [issue] = read(ens(house(1, long)))
    assert (issue.code, issue.rejects_record) == ("xml.text_too_long", False)
    assert Field.GOODS_DESCRIPTION not in record.fields


def test_a_repeated_leaf_is_reported_and_a_repeated_master_is_lost() -> None:
    twice = "<consignor><name>A</name><name>B</name></consignor>"
    [record], issues = read(ens(master=twice, after="<consignmentMasterLevel></consignmentMasterLevel>"))
    assert record.fields[Field.PARTY_NAMES] == ("consignor: A",)
    assert sorted((x.code, x.rejects_record) for x in issues) == [
        ("xml.repeated_element", False),
        ("xml.repeated_element", True),
    ]


def test_one_record_holds_a_bounded_number_of_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connector_psi.domain.drafts.MAX_IDENTIFIERS", 3)
    monkeypatch.setattr(ics2, "MAX_IDENTIFIERS", 3)
    goods = "".join(
        f"<supportingDocuments><referenceNumber>VIN WVWZZZ1JZXW00000{n}</referenceNumber></supportingDocuments>"
        for n in range(6)
    )
    [record], issues = read(ens(house(1, goods)))
    assert len(record.identifiers) == 3
    assert "record.too_many_identifiers" in codes(issues)


# --- what is wrong with the message ---


def test_a_message_cut_anywhere_keeps_the_houses_that_closed() -> None:
    data = ens(*(house(n, equipment(BOX_A)) for n in range(1, 5)), before=VESSEL)
    ends = [
        i + len(b"</consignmentHouseLevel>")
        for i in range(len(data))
        if data.startswith(b"</consignmentHouseLevel>", i)
    ]
    for cut in range(60, len(data) - 1, 7):
        records, issues = read(data[:cut], "ics2-ens")
        closed = sum(end <= cut for end in ends)
        assert refs(records) == [f"{ENS_MRN}/{n + 1}" for n in range(closed)]
        assert all(record.incomplete and values(record, "imo") for record in records)
        [last] = issues
        house_open = data[:cut].count(b"<consignmentHouseLevel>") > closed
        assert (last.code, last.rejects_record) == ("xml.truncated", house_open or not closed)
        assert last.line is not None


def test_nothing_half_read_is_ever_used_wherever_a_message_is_cut() -> None:
    contact = "<communication><identifier>a@example.org</identifier><type>EM</type></communication>"
    party = (
        f"<consignee><name>Import GmbH</name><identificationNumber>DE123456</identificationNumber>{contact}</consignee>"
    )
    data = ens(
        house(1, "<MRN>25BE000000000SYN11</MRN>", party, equipment(BOX_A, "SEAL77120"), document("H-1001")),
        house(
            2,
            equipment(BOX_B),
            "<goodsItem><packaging><shippingMarks>VIN WVWZZZ1JZXW000001</shippingMarks></packaging></goodsItem>",
        ),
        preloaded=preload(house(None, document("P-1001"), party)) + preload(house(None), mrn="25DE000000000SYN92"),
        before=VESSEL,
        master=CARRIER + equipment(BOX_A, "SEAL1234") + equipment(BOX_C),
        after=filing("25BE000000000SYN11", "FR11") + filing("25BE000000000SYN99", "FR99"),
    )
    full = {record.source_ref: record for record in read(data)[0]}
    assert len(full) == 4
    texts = {ref: {text for values in record.fields.values() for text in values} for ref, record in full.items()}
    for cut in range(len(data) - len("\n</IE4R05>\n")):
        records, issues = read(data[:cut], "ics2-ens")
        for record in records:
            whole = full[record.source_ref]
            assert record.incomplete
            # A box of the master that some house lists is nobody else's only while that house is known.
            assert {x.value for x in record.identifiers} <= {x.value for x in whole.identifiers} | {
                "SEAL1234",
                "CSQU3054383",
            }
            assert {text for values in record.fields.values() for text in values} <= texts[record.source_ref]
            assert {x.name for x in record.parties} <= {x.name for x in whole.parties}
        assert any(issue.rejects_record for issue in issues) or records
        assert not any(issue.code == "xml.unknown_element" for issue in issues)


def test_a_second_declaration_or_master_is_lost_with_its_houses() -> None:
    data = ens(house(1)).replace(
        b"</IE4R05>",
        b"<relatedENS><MRN>25BE000000000SYN77</MRN><consignmentMasterLevel><consignmentHouseLevel/></consignmentMasterLevel></relatedENS></IE4R05>",
    )
    records, issues = read(data)
    assert refs(records) == [f"{ENS_MRN}/1"]
    assert [(x.code, x.path, x.rejects_record) for x in issues] == [
        ("xml.repeated_element", "/IE4R05/relatedENS", True)
    ]
    again = ens(house(1), after=f"<consignmentMasterLevel>{house(2)}{equipment(BOX_A)}</consignmentMasterLevel>")
    records, issues = read(again)
    assert refs(records) == [f"{ENS_MRN}/1"]
    assert values(records[0], "container") == []
    assert [(x.code, x.path, x.rejects_record) for x in issues] == [("xml.repeated_element", MASTER, True)]


def test_a_message_that_breaks_off_after_the_master_has_incomplete_records() -> None:
    data = ens(house(1))
    for broken in (data.replace(b"</IE4R05>", b""), data + b"<more/>", data.replace(b"</relatedENS>", b"</related>")):
        [record], [issue] = read(broken)
        assert record.incomplete
        assert issue.code in {"xml.truncated", "xml.malformed"}
        assert not issue.rejects_record


def test_a_master_that_never_closed_is_no_record() -> None:
    records, [issue] = read(ens(master=CARRIER).split(b"</consignmentMasterLevel>", maxsplit=1)[0])
    assert records == []
    assert (issue.code, issue.rejects_record) == ("xml.truncated", True)


BOMB = (
    '<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {y} "{f"&{x};" * 10}">' for x, y in zip("abcdefgh", "bcdefghi", strict=True))
    + "]>"
)


@pytest.mark.parametrize(
    "doctype",
    [
        "<!DOCTYPE IE4R05>",
        '<!DOCTYPE IE4R05 SYSTEM "http://127.0.0.1:9/x.dtd">',
        '<!DOCTYPE IE4R05 [<!ENTITY secret SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE IE4R05 [<!ENTITY % p SYSTEM "file:///etc/passwd"> %p;]>',
        BOMB,
        "<!-- <x> --><?pi ?>\n<!DOCTYPE IE4R05>",
        "\n<!doctype x>",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_doctype_is_refused_before_any_parser_runs(
    doctype: str, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_args: object, **_options: object) -> Never:
        raise AssertionError("a parser was given the message")

    monkeypatch.setattr(xml.etree, "iterparse", never)
    text = doctype + ens(master="&secret;&i;").decode().split("\n", 1)[1]
    records, [issue] = read(text.encode(encoding), "ics2-ens")
    assert records == []
    assert (issue.code, issue.rejects_record) == ("xml.doctype", True)
    assert issue.line == doctype[: doctype.lower().index("<!doctype")].count("\n") + 1


def test_a_doctype_that_the_prolog_check_missed_is_refused_at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xml, "_prolog", lambda *_args, **_options: (None, None))
    data = b'<!DOCTYPE IE4R05 [<!ENTITY e "x">]>' + ens(house(1)).split(b"\n", 1)[1]
    records, [issue] = read(data, "ics2-ens")
    assert (records, issue.code, issue.rejects_record) == ([], "xml.doctype", True)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "iso-8859-1", "iso-8859-15", "windows-1252"])
def test_the_allowed_encodings_are_read(encoding: str) -> None:
    party = "<consignee><name>Köln Größe</name></consignee>"
    declared = "utf-8" if encoding == "utf-8-sig" else encoding
    text = ens(master=party).decode().replace("UTF-8", declared)
    [record], issues = read(text.encode(encoding))
    assert issues == []
    assert record.fields[Field.PARTY_NAMES] == ("consignee: Köln Größe",)


@pytest.mark.parametrize(
    ("encoding", "declared"),
    [
        ("utf-7", "utf-7"),
        ("utf-32", "utf-32"),
        ("utf-16-le", "utf-16"),
        ("utf-8", "cp037"),
        ("utf-8", "utf-16"),
        ("utf-16", "utf-8"),
        ("utf-8", "nonsense"),
    ],
)
def test_other_encodings_and_contradictions_are_refused(encoding: str, declared: str) -> None:
    records, [issue] = read(ens().decode().replace("UTF-8", declared).encode(encoding), "ics2-ens")
    assert (records, issue.code, issue.rejects_record) == ([], "xml.encoding", True)


def test_bytes_that_are_not_in_the_encoding_end_the_message_there() -> None:
    data = ens(house(1, equipment(BOX_A)), house(2, "<consignee><name>\xe9</name></consignee>")).replace(
        "\xe9".encode(), b"\xe9"
    )
    [record], [issue] = read(data)
    assert (record.source_ref, record.incomplete) == (f"{ENS_MRN}/1", True)
    assert (issue.code, issue.rejects_record) == ("xml.encoding", True)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "file.empty"),
        (b"  \n ", "xml.truncated"),
        (b"\0\0\0\0", "xml.encoding"),
        (b"{}", "xml.malformed"),
        (b"<!-- " + b"x" * 70_000, "xml.prolog_too_long"),
        (b"<", "xml.truncated"),
        (f"<IE4N09 xmlns='{NS}'/>".encode(), "ics2.unsupported_message"),
        (f"<IE4S02 xmlns='{NS}'/>".encode(), "ics2.analysis_missing"),
        (b"<IE4R05/>", "ics2.unsupported_message"),
        (f"<IE4R05 xmlns='{NS}'/>".encode(), "ics2.ens_missing"),
        (
            f"<IE4R05 xmlns='{NS}'><relatedENS><MRN>{ENS_MRN}</MRN></relatedENS></IE4R05>".encode(),
            "ics2.consignment_missing",
        ),
        (ens(master="&nope;"), "xml.malformed"),
        (ens(master="<carrier>" * 300), "xml.too_large"),
    ],
)
def test_what_cannot_be_a_record_says_why(data: bytes, code: str) -> None:
    records, issues = read(data, "ics2-ens")
    assert records == []
    assert [(x.code, x.rejects_record) for x in issues if x.code != "xml.unknown_element"] == [(code, True)]


def test_an_attachment_of_any_size_loses_nothing_and_moves_no_line() -> None:
    content = (b"QUJD" * 19 + b"\n") * 160_000
    before = f"<controlResults><controlResult><binaryFile><includedBinaryObject>{content.decode()}</includedBinaryObject></binaryFile></controlResult></controlResults>"
    data = ens(house(1, equipment(BAD_BOX)), before=before)
    assert len(content) > 10_000_000
    [record], [issue] = read(data)
    assert not record.incomplete
    assert issue.line == data[: data.index(BAD_BOX.encode())].count(b"\n") + 1
    assert record.message_digest == hashlib.sha256(data).digest()


def test_any_other_huge_text_ends_the_message_and_keeps_the_houses() -> None:
    data = ens(house(1), house(2, "<consignee><name>" + "a.b-" * 3_000_000 + "</name></consignee>"))
    [record], [issue] = read(data)
    assert (record.source_ref, record.incomplete) == (f"{ENS_MRN}/1", True)
    assert (issue.code, issue.rejects_record) == ("xml.too_large", True)


@pytest.mark.parametrize(
    "flood",
    [
        "".join(f"<n{n}/>" for n in range(6000)),
        "".join(f"<carrier a{n}='1'/>" for n in range(6000)),
        "<fullRiskAnalysis>" + "".join(f"<n{n}/>" for n in range(6000)) + "</fullRiskAnalysis>",
        "".join(f"<p{n}:x xmlns:p{n}='urn:{n}'/>" for n in range(6000)),
    ],
)
def test_a_flood_of_names_ends_the_message(flood: str) -> None:
    records, issues = read(ens(house(1), master=flood))
    assert [record.incomplete for record in records] == [True]
    assert codes(issues)[-1] == "xml.too_many_names"
    assert len(issues) <= 1001


# --- how it is read ---


def test_many_houses_are_read_in_a_second_pass_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    data = ens(
        *(house(n, "<strange/>", equipment(BAD_BOX if n % 3 else BOX_A), document(f"H-{n:04}")) for n in range(1, 40)),
        before=VESSEL, master=CARRIER + equipment(BOX_A, "SEAL-A1") + equipment(BOX_B) + equipment(BAD_BOX),
    )  # fmt: skip
    for message in (data, data[: len(data) * 2 // 3], data.replace(ENS_MRN.encode(), b"")):
        once = read(message)
        with monkeypatch.context() as patch:
            patch.setattr(ics2, "MAX_HELD_BYTES", 3_000)
            twice = read(message)
        assert once == twice
    assert len(once[1]) > 30


def test_a_shared_identifier_flood_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ics2, "MAX_SHARED", 20)
    documents = "".join(
        f"<supportingDocuments><referenceNumber>VIN WVWZZZ1JZXW{n:06}</referenceNumber></supportingDocuments>"
        for n in range(50)
    )
    filings = "".join(filing(f"25BE0000000{n:05}01", f"FR{n}") for n in range(30))
    (first, second), issues = read(ens(house(1), house(2), master=documents, after=filings))
    assert len(first.identifiers) <= 20 + 2 * 2 + 1
    assert len(second.identifiers) == len(first.identifiers)
    assert {"record.too_many_identifiers", "ics2.too_many_filings"} <= set(codes(issues))


def test_a_schema_folder_without_the_schema_is_the_operators_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        read(ens(), schemas=tmp_path)
    (tmp_path / "IE4R05.xsd").write_text("<not-a-schema/>")
    with pytest.raises(ConfigError):
        read(ens(), schemas=tmp_path)
