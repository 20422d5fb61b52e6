"""What is read from the messages of a transit movement, which house gets what, which message replaces which."""

from __future__ import annotations

import hashlib
import io
import itertools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from connector_psi.adapters import formats, ncts
from connector_psi.domain.movements import reference
from connector_psi.domain.records import Field, PartyKind, Record, Supersession
from connector_psi.errors import ConfigError
from connector_psi.storage import records as store_records
from connector_psi.storage.store import Store
from tests.customs_samples import (
    ADDRESS,
    BOX_A,
    BOX_B,
    BOX_C,
    BOX_D,
    CONTACT,
    HOLDER_NUMBER,
    LRN,
    MRN,
    VIN,
    Told,
    document,
    element,
    equipment,
    example,
    goods_item,
    house,
    identifiers,
    means,
    numbered,
    party,
    statement,
    told,
    transit,
    values,
)
from tests.simulation.federation import SeededRandom

HOUSE = "/CC015C/Consignment/HouseConsignment"
LOCAL = reference("", LRN, HOLDER_NUMBER).local


def read(data: bytes, schemas: Path | None = None) -> Told:
    return told(ncts.read, data, schemas)


def refs(found: Told) -> list[str]:
    return [record.source_ref for record in found.records]


# --- what is read ---


def test_a_house_is_a_record_and_has_what_stands_outside_the_houses() -> None:
    data = transit(
        "CC029C",
        house(
            1,
            party("Consignor", "DE222222222", "Absender AG", ADDRESS + CONTACT),
            party("Consignee", "AT333333333", "Empfaenger GmbH"),
            document("TransportDocument", "N730", "CMR 2026-001"),
        ),
        house(2),
        mrn=MRN,
        consignment=element("countryOfDispatch", "DE") + element("countryOfDestination", "AT")
        + party("Carrier", "PL444444444", more=CONTACT)
        + equipment("csqu 305438-3", "SEAL-77120")
        + means("DepartureTransportMeans", "30", "HH-AB 123")
        + means("DepartureTransportMeans", "31", "HH CD 456")
        + numbered("CountryOfRoutingOfConsignment", 1, element("country", "CZ"))
        + means("ActiveBorderTransportMeans", "10", "9074729", "PA"),
    )  # fmt: skip
    found = read(data)
    assert found.issues == []
    assert refs(found) == [f"{MRN}/1", f"{MRN}/2"]
    record, other = found.records
    assert (record.source, record.category, record.message_ref, record.incomplete) == (
        "NCTS",
        "ncts.transit",
        MRN,
        False,
    )
    assert record.message_digest == hashlib.sha256(data).digest()
    shared = {
        ("mrn", MRN, ""),
        ("eori", HOLDER_NUMBER, "holderOfTheTransitProcedure"),
        ("phone", "+49401234567", "holderOfTheTransitProcedure"),
        ("email", "office@example.com", "holderOfTheTransitProcedure"),
        ("eori", "PL444444444", "carrier"),
        ("phone", "+49401234567", "carrier"),
        ("email", "office@example.com", "carrier"),
        ("container", BOX_A, ""),
        ("seal", "SEAL77120", ""),
        ("plate", "DE:HHAB123", "departureTransportMeans"),
        ("plate", "DE:HHCD456", "departureTransportMeans"),
        ("imo", "9074729", "activeBorderTransportMeans"),
    }
    assert identifiers(other) == shared
    assert identifiers(record) == shared | {
        ("eori", "DE222222222", "consignor"),
        ("phone", "+49401234567", "consignor"),
        ("email", "office@example.com", "consignor"),
        ("eori", "AT333333333", "consignee"),
        ("transport_document", "CMR2026001", "transportDocument"),
    }
    [box] = [x for x in record.identifiers if x.type == "container"]
    assert box.source_path == "/CC029C/Consignment/TransportEquipment/containerIdentificationNumber"
    assert record.fields[Field.MRN] == (MRN,)
    assert record.fields[Field.ROUTE] == ("DE", "CZ", "AT")
    assert record.fields[Field.PLACE] == ("DE004851", "AT320100", "DEHAM")
    assert record.fields[Field.HS6] == ("848790",)
    assert record.fields[Field.GOODS_DESCRIPTION] == ("Parts",)
    assert record.fields[Field.MEANS] == ("plate HH-AB 123 DE", "plate HH CD 456 DE", "imo 9074729 PA")
    assert "consignor: Hafenstr. 1, 20457 Hamburg, DE" in record.fields[Field.PARTY_ADDRESSES]
    assert set(record.fields[Field.GOODS_IDENTIFIERS]) == {
        f"container {BOX_A}", "seal SEAL-77120", "transport_document N730 CMR 2026-001",
    }  # fmt: skip


def test_parties_are_kept_with_those_who_speak_for_them() -> None:
    [record] = read(transit("CC015C", house(1))).records
    assert [(each.role, each.kind, each.name, each.country) for each in record.parties] == [
        ("holderOfTheTransitProcedure", PartyKind.UNKNOWN, "Spedition Beispiel GmbH", "DE"),
        ("holderOfTheTransitProcedureContactPerson", PartyKind.PERSON, "Erika Mustermann", ""),
    ]
    assert record.parties[0].address == "Hafenstr. 1, 20457 Hamburg, DE"
    assert record.parties[0].source_path == "/CC015C/HolderOfTheTransitProcedure"


def test_a_national_phone_number_is_read_as_one_of_the_partys_country() -> None:
    contact = "<ContactPerson><name>A</name><phoneNumber>040 1234567</phoneNumber></ContactPerson>"
    [record] = read(transit("CC015C", house(1, party("Consignor", more=ADDRESS + contact)))).records
    assert ("phone", "+49401234567", "consignor") in identifiers(record)


def test_a_house_gets_the_equipment_its_goods_are_in_and_what_nobodys_goods_are_in() -> None:
    data = transit(
        "CC015C",
        house(1, items=[1, 2]), house(2, items=[3]), house(3, items=[4]),
        consignment=equipment(BOX_A, "SEAL-A1", items=[1, 3]) + equipment(BOX_B, "SEAL-B1", items=[2])
        + equipment(BOX_C) + equipment(BOX_D, items=[99]),
    )  # fmt: skip
    found = read(data)
    assert found.issues == []
    first, second, third = found.records
    assert values(first, "container") == [BOX_C, BOX_D, BOX_A, BOX_B]
    assert (values(second, "container"), values(second, "seal")) == ([BOX_C, BOX_D, BOX_A], ["SEALA1"])
    assert (values(third, "container"), values(third, "seal")) == ([BOX_C, BOX_D], [])
    # Nor is it told what the others have.
    assert third.fields[Field.GOODS_IDENTIFIERS] == (f"container {BOX_C}", f"container {BOX_D}")


def test_what_stands_behind_the_houses_is_theirs_too_and_numbers_may_have_zeros() -> None:
    data = transit("CC015C", house(1), house(2), after=equipment(BOX_A, items=[2]) + party("Carrier", "PL444444444"))
    data = data.replace(b"<declarationGoodsItemNumber>2</decl", b"<declarationGoodsItemNumber>002</decl", 1)
    first, second = read(data).records
    assert [values(record, "container") for record in (first, second)] == [[], [BOX_A]]
    assert [values(record, "eori") for record in (first, second)] == [[HOLDER_NUMBER, "PL444444444"]] * 2


def test_houses_without_a_usable_number_are_named_by_their_position() -> None:
    found = read(transit("CC015C", house(7), house(None), house(7), house(123456)))
    assert refs(found) == [f"{LOCAL}/7", f"{LOCAL}/@2", f"{LOCAL}/@3", f"{LOCAL}/@4"]


@pytest.mark.parametrize(
    ("kind", "number", "nationality", "expected"),
    [
        ("30", "HH-AB 123", "", ("plate_number", "HHAB123")),
        ("41", "D-ABCD", "DE", ("aircraft", "DABCD")),
        ("80", "02326104", "DE", ("eni", "02326104")),
        ("20", "31806648121", "DE", None),
        ("11", "Santa Maria", "PA", None),
    ],
)
def test_a_means_is_read_by_its_type(
    kind: str, number: str, nationality: str, expected: tuple[str, str] | None
) -> None:
    given = means("DepartureTransportMeans", kind, number, nationality)
    [record] = read(transit("CC015C", house(1, given))).records
    found = {(x.type.value, x.value) for x in record.identifiers if x.role == "departureTransportMeans"}
    assert found == ({expected} if expected else set())


def test_an_unknown_type_of_means_costs_the_number_alone() -> None:
    found = read(transit("CC015C", house(1, means("DepartureTransportMeans", "99", "X-1"))))
    assert [(x.code, x.path, x.rejects_record) for x in found.issues] == [
        ("means.type_unknown", f"{HOUSE}/DepartureTransportMeans/typeOfIdentification", False)
    ]
    assert found.records[0].fields[Field.MEANS] == ("X-1 DE",)


def test_documents_are_what_they_say_they_are() -> None:
    [record] = read(
        transit(
            "CC015C",
            house(
                1,
                document("PreviousDocument", "N355", "26NL000000000SYN02"),
                document("PreviousDocument", "N705", "MAEU123456"),
                document("PreviousDocument", "N337", "NO MRN"),
                document("SupportingDocument", "N380", f"INV {BOX_B}"),
                document("TransportDocument", "N741", "020-12345675"),
                numbered("AdditionalInformation", 1, element("text", f"carries VIN {VIN}")),
            ),
        )
    ).records
    assert ("mrn", "26NL000000000SYN02", "previousDocument") in identifiers(record)
    assert ("transport_document", "MAEU123456", "previousDocument") in identifiers(record)
    assert ("transport_document", "02012345675", "transportDocument") in identifiers(record)
    assert {x.source_path for x in record.identifiers if x.type in {"vin", "container"}} == {
        f"{HOUSE}/SupportingDocument/referenceNumber#free_text",
        f"{HOUSE}/AdditionalInformation/text#free_text",
    }
    # Only its own number is disclosed as the number of this movement.
    assert Field.MRN not in record.fields


def test_free_text_is_searched_and_marked() -> None:
    goods = goods_item(1, f"used car VIN {VIN}", f"BOX {BOX_A}")
    [record] = read(transit("CC015C", element("HouseConsignment", element("sequenceNumber", "1"), goods))).records
    assert {(x.value, x.source_path) for x in record.identifiers if x.source_path.endswith("#free_text")} == {
        (VIN, f"{HOUSE}/ConsignmentItem/Commodity/descriptionOfGoods#free_text"),
        (BOX_A, f"{HOUSE}/ConsignmentItem/Packaging/shippingMarks#free_text"),
    }


def test_a_tir_carnet_is_a_document_of_the_movement() -> None:
    data = transit("CC015C", house(1)).replace(b"</LRN>", b"</LRN><TIRCarnetNumber>XF12345678</TIRCarnetNumber>")
    assert ("transport_document", "XF12345678", "tirCarnet") in identifiers(read(data).records[0])


def test_a_house_without_identifiers_is_kept_and_said() -> None:
    holder = party("HolderOfTheTransitProcedure", called="Nur ein Name")
    [record] = read(transit("CC015C", house(1), holder=holder)).records
    assert (record.identifiers, record.parties[0].name) == ((), "Nur ein Name")
    found = read(transit("CC015C", house(1), house(2, document("TransportDocument", "N730", "CMR77")), holder=""))
    assert refs(found) == [f"{LRN}/1", f"{LRN}/2"]
    assert (found.rejections, [(i.code, i.path) for i in found.issues]) == ([], [("ncts.no_identifier", HOUSE)])


# --- statements ---


def test_an_incident_brings_the_means_and_containers_after_it() -> None:
    incident = numbered(
        "Incident", 1, "<code>4</code><text>moved to another box</text>",
        "<Location><qualifierOfIdentification>U</qualifierOfIdentification><UNLocode>CZPRG</UNLocode><country>CZ</country></Location>",
        equipment(BOX_B, "SEALNEW1"),
        element("Transhipment", "<containerIndicator>1</containerIndicator>", means("TransportMeans", "30", "1AB 2345", "CZ")),
    )  # fmt: skip
    office = element("CustomsOfficeOfDestinationActual", element("referenceNumber", "AT320100"))
    trader = party("TraderAtDestination", "AT333333333")
    found = read(statement("CC007C", office, trader, element("Consignment", incident)))
    assert found.issues == []
    [record] = found.records
    assert (record.source_ref, record.message_ref) == (f"{MRN}/CC007C", f"{MRN}/CC007C")
    assert identifiers(record) == {
        ("mrn", MRN, ""),
        ("container", BOX_B, ""),
        ("seal", "SEALNEW1", ""),
        ("plate", "CZ:1AB2345", "transportMeans"),
        ("eori", "AT333333333", "traderAtDestination"),
    }
    assert found.ends == [Supersession(record.source, f"{MRN}/CC007C", record.version)]


def test_a_statement_has_records_of_its_own_and_takes_none_of_the_declaration_away() -> None:
    found = read(statement("CC043C", element("Consignment", equipment(BOX_A, items=[2]), house(1), house(2))))
    assert refs(found) == [f"{MRN}/CC043C/1", f"{MRN}/CC043C/2"]
    assert [values(record, "container") for record in found.records] == [[], [BOX_A]]
    assert [each.message_ref for each in found.ends] == [f"{MRN}/CC043C"]


def test_goods_at_a_place_are_reached_through_whoever_is_there() -> None:
    place = element(
        "LocationOfGoods",
        "<typeOfLocation>A</typeOfLocation><qualifierOfIdentification>V</qualifierOfIdentification>",
        element("CustomsOffice", element("referenceNumber", "DE004851")),
        party("EconomicOperator", "DE555555555"),
        CONTACT,
    )
    [record] = read(statement("CC170C", element("Consignment", place, house(1)))).records
    assert identifiers(record) == {
        ("mrn", MRN, ""),
        ("eori", "DE555555555", "economicOperator"),
        ("phone", "+49401234567", "locationOfGoods"),
        ("email", "office@example.com", "locationOfGoods"),
    }


# --- which message replaces which ---


def test_a_local_reference_is_of_whoever_gave_it_and_does_not_name_them() -> None:
    mine = read(transit("CC015C", house(1))).records[0].message_ref
    theirs = read(transit("CC015C", house(1), holder=party("HolderOfTheTransitProcedure", "DE999999999"))).records[0]
    assert mine == LOCAL != theirs.message_ref
    assert mine.startswith(f"{LRN}@")
    assert HOLDER_NUMBER not in mine
    tir = element("HolderOfTheTransitProcedure", element("TIRHolderIdentificationNumber", "POL/032/00001"))
    by_carnet = read(transit("CC015C", house(1, document("TransportDocument", "N730", "CMR77")), holder=tir)).records[0]
    assert by_carnet.message_ref == reference("", LRN, "POL/032/00001").local


def test_a_reference_cannot_look_like_another_one() -> None:
    assert reference("", "A/1", "").local == "A%2F1"
    assert reference("", "A%2F1", "").local == "A%252F1"
    assert reference("", "x" * 36, "").local == reference("", "a\x00b", "").local == ""
    assert reference(" 26de 0000-x", "", "").mrn == ""
    assert reference("26 de00000000SYN0M1", "", "").mrn == MRN


def test_the_release_names_both_references() -> None:
    declared = read(transit("CC015C", house(1)))
    released = read(transit("CC029C", house(1), mrn=MRN, time="2026-03-01T11:00:00"))
    assert declared.ends == [Supersession(declared.records[0].source, LOCAL, declared.records[0].version)]
    assert released.ends == [Supersession(released.records[0].source, MRN, released.records[0].version, same_as=LOCAL)]
    assert declared.records[0].version < released.records[0].version


def test_an_amendment_counts_as_newer_than_a_release_of_the_same_time() -> None:
    time = "2026-03-01T10:00:00+01:00"
    found = [read(transit(name, house(1), mrn=MRN, time=time)) for name in ("CC015C", "CC029C", "CC013C")]
    versions = [each.records[0].version for each in found]
    assert versions == sorted(set(versions))
    assert versions[0] > read(transit("CC013C", house(1), time="2026-03-01T08:59:59")).records[0].version


@pytest.mark.parametrize("time", ["", "yesterday", "2026-13-01T00:00:00"])
def test_a_message_without_a_time_is_the_oldest(time: str) -> None:
    found = read(transit("CC013C", house(1), time=time))
    assert found.codes == ["ncts.time_unusable"]
    assert 0 < found.records[0].version < read(transit("CC015C", house(1), time="1970-01-02")).records[0].version


def invalidation(decision: str, by_customs: str = "0", **references: str) -> bytes:
    return statement(
        "CC009C",
        element("Invalidation", element("decision", decision) if decision else "", element("initiatedByCustoms", by_customs)),
        party("HolderOfTheTransitProcedure", HOLDER_NUMBER),
        **references,
    )  # fmt: skip


@pytest.mark.parametrize(("decision", "by_customs"), [("1", "0"), ("", "1")])
def test_a_decision_that_invalidates_withdraws_the_declaration_and_the_statements(
    decision: str, by_customs: str
) -> None:
    found = read(invalidation(decision, by_customs, lrn=LRN))
    assert (found.records, found.issues) == ([], [])
    assert all(each.withdrawn and each.reason == "invalidated" for each in found.ends)
    assert [(each.message_ref, each.same_as) for each in found.ends][:2] == [
        (MRN, LOCAL),
        (f"{MRN}/CC007C", f"{LOCAL}/CC007C"),
    ]
    assert {each.message_ref for each in found.ends} == {
        MRN, *(f"{MRN}/{name}" for name in ("CC007C", "CC025C", "CC028C", "CC043C", "CC044C", "CC170C", "CC182C")),
    }  # fmt: skip


@pytest.mark.parametrize(("decision", "by_customs"), [("0", "0"), ("0", "1"), ("", "0"), ("yes", "0")])
def test_any_other_decision_changes_nothing(decision: str, by_customs: str) -> None:
    found = read(invalidation(decision, by_customs))
    assert (found.records, found.ends, found.codes) == ([], [], ["ncts.not_invalidated"])
    assert not found.rejections


def test_a_request_changes_nothing() -> None:
    data = invalidation("1", "1").replace(b"CC009C", b"CC014C")
    found = read(data)
    assert (found.records, found.ends, found.codes) == ([], [], ["ncts.request_only"])


def live(tmp_path: Path, deliveries: Sequence[Told]) -> set[str]:
    """Deliver messages to a new store; return what is live in the end."""
    store = Store(f"sqlite:///{tmp_path}/x.db", bytes(32), bytes([1]) * 32, SeededRandom("transit"))
    now = 1_800_000_000_000
    try:
        for found in deliveries:
            with store.write() as tx:
                store_records.put(store, tx, found.records, now)
                for end in found.ends:
                    store_records.supersede(store, tx, end, now)
        with store.read() as tx:
            return {each.record.source_ref for each in store_records.live_after(store, tx, 0, 100, now)}
    finally:
        store.close()


def orders(messages: Sequence[bytes]) -> Iterator[tuple[Told, ...]]:
    return itertools.permutations([read(message) for message in messages])


def test_the_release_replaces_the_declaration_in_any_order(tmp_path: Path) -> None:
    declared = transit("CC015C", house(1), house(2), house(3))
    released = transit("CC029C", house(1), house(2), mrn=MRN, time="2026-03-01T12:00:00")
    arrived = statement("CC007C", party("TraderAtDestination", "AT333333333"))
    for n, deliveries in enumerate(orders([declared, released, arrived])):
        folder = tmp_path / str(n)
        folder.mkdir()
        assert live(folder, deliveries) == {f"{MRN}/1", f"{MRN}/2", f"{MRN}/CC007C"}


def test_an_amendment_by_mrn_finds_the_declaration_once_a_message_names_both(tmp_path: Path) -> None:
    declared = transit("CC015C", house(1), house(2))
    allocated = statement(
        "CC028C", party("HolderOfTheTransitProcedure", HOLDER_NUMBER), lrn=LRN, time="2026-03-01T10:05:00"
    )
    amended = transit("CC013C", house(1), lrn="", mrn=MRN, time="2026-03-01T11:00:00")
    for n, deliveries in enumerate(orders([declared, allocated, amended])):
        folder = tmp_path / str(n)
        folder.mkdir()
        assert live(folder, deliveries) == {f"{MRN}/1", f"{MRN}/CC028C"}


def test_an_invalidation_holds_in_any_order(tmp_path: Path) -> None:
    declared = transit("CC015C", house(1))
    released = transit("CC029C", house(1), mrn=MRN, time="2026-03-01T12:00:00")
    arrived = statement("CC043C", element("Consignment", house(1)), time="2026-03-01T13:00:00")
    withdrawn = invalidation("1", time="2026-03-02T12:00:00")
    for n, deliveries in enumerate(orders([declared, released, arrived, withdrawn])):
        folder = tmp_path / str(n)
        folder.mkdir()
        assert live(folder, deliveries) == set()


# --- what a bad message costs ---


def test_other_messages_are_reported_by_name_and_unknown_ones_without() -> None:
    assert read(statement("CC045C")).rejections == [("ncts.unsupported_message", "/CC045C", 1)]
    assert read(b"\n\n" + statement("PLANTED")).rejections == [("ncts.unsupported_message", "/*", 3)]
    assert read(transit("CC015C").replace(b"ncts.dgtaxud.ec", b"other.example")).rejections == [
        ("ncts.unsupported_message", "/*", 2)
    ]


def test_a_message_without_references_is_nobodys() -> None:
    found = read(transit("CC013C", house(1), lrn=""))
    assert [(code, path) for code, path, _ in found.rejections] == [
        ("ncts.reference_missing", "/CC013C/TransitOperation")
    ]
    assert found.records == found.ends == []


def test_a_declaration_without_a_consignment_replaces_nothing() -> None:
    found = read(statement("CC029C", lrn=LRN))
    assert [(code, path) for code, path, _ in found.rejections] == [("ncts.consignment_missing", "/CC029C/Consignment")]
    assert found.records == found.ends == []


def test_what_the_table_does_not_have_is_reported_by_its_place() -> None:
    data = transit("CC015C", house(1, "<PLANTED>PLANTED</PLANTED>"), house(2, "<PLANTED>PLANTED</PLANTED>"))
    found = read(data)
    assert [(x.code, x.path, x.rejects_record) for x in found.issues] == [("xml.unknown_element", f"{HOUSE}/*", False)]
    assert len(found.records) == 2
    assert "PLANTED" not in repr(found.items)


def test_a_house_where_none_belongs_is_no_record() -> None:
    found = read(transit("CC015C", house(1)).replace(b"<Guarantee>", house(5).encode() + b"<Guarantee>", 1))
    assert refs(found) == [f"{LOCAL}/1"]
    assert [(x.code, x.path) for x in found.issues] == [("xml.unknown_element", "/CC015C/*")]


def test_a_number_without_a_canonical_form_costs_itself_alone() -> None:
    found = read(transit("CC015C", house(1), consignment=equipment("CSQU3054384", "SEAL-1")))
    assert found.codes == ["container.check_digit"]
    [record] = found.records
    assert (values(record, "container"), values(record, "seal")) == ([], ["SEAL1"])
    assert "CSQU3054384" not in repr(found.issues)


def test_a_cut_message_gives_its_closed_houses_and_ends_nothing() -> None:
    data = transit("CC015C", house(1), house(2), house(3), consignment=equipment(BOX_A, items=[3]) + equipment(BOX_B))
    at = data.index(b"</ConsignmentItem>", data.index(b"<sequenceNumber>3<"))
    found = read(data[:at])
    assert refs(found) == [f"{LOCAL}/1", f"{LOCAL}/2"]
    assert all(record.incomplete for record in found.records)
    # A box whose goods may be in the house that was cut off is nobody's; one that is everyone's is.
    assert [values(record, "container") for record in found.records] == [[BOX_B], [BOX_B]]
    assert found.ends == []
    assert [(x.code, x.rejects_record) for x in found.issues] == [("xml.truncated", True)]


def test_a_message_cut_anywhere_is_reported_and_ends_nothing() -> None:
    data = transit("CC015C", house(1), house(2), consignment=equipment(BOX_A, "SEAL-1"))
    end = len(data.rstrip())
    for at in range(1, end):
        found = read(data[:at])
        assert found.ends == []
        assert found.issues
        assert all(record.incomplete for record in found.records)
        assert refs(found) == [f"{LOCAL}/1", f"{LOCAL}/2"][: data[:at].count(b"</HouseConsignment>")]
    assert len(read(data[:end]).ends) == 1


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "file.empty"),
        (b"<a", "ncts.unsupported_message"),
        (transit("CC015C").replace(b"UTF-8", b"UTF-7"), "xml.encoding"),
        (transit("CC015C").replace(b"?>\n", b'?>\n<!DOCTYPE a [<!ENTITY b "c">]>', 1), "xml.doctype"),
        (transit("CC015C", house(1)).replace(b"</LRN>", b"</LNR>"), "xml.malformed"),
        (transit("CC015C", house(1)).replace(LRN.encode(), b"&planted;"), "xml.malformed"),
    ],
)
def test_what_is_no_message_is_refused(data: bytes, code: str) -> None:
    found = read(data)
    assert (found.records, found.ends) == ([], [])
    assert code in [each for each, _, _ in found.rejections]


def test_random_damage_never_raises_and_never_shows_in_an_issue() -> None:
    source = random.Random(20260301)
    data = transit("CC029C", house(1, document("TransportDocument", "N730", "PLANTED77")), house(2), mrn=MRN)
    for _ in range(400):
        broken = bytearray(data)
        for _ in range(source.randint(1, 6)):
            at = source.randrange(len(broken))
            broken[at : at + source.randint(0, 4)] = source.randbytes(source.randint(0, 4))
        found = read(bytes(broken))
        assert "PLANTED" not in repr(found.issues)
        assert found.issues or found.records


def test_many_houses_are_read_a_second_time_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    data = transit(
        "CC015C",
        *(house(n, document("TransportDocument", "N730", f"CMR{n:05}"), means("DepartureTransportMeans", "99", "X")) for n in range(1, 30)),
        consignment=equipment(BOX_A, items=[3]),
    )  # fmt: skip
    once = read(data)
    passes = []
    xml_message = ncts.XmlMessage

    def counted(*args: Any, **kwargs: Any) -> Any:
        passes.append(1)
        return xml_message(*args, **kwargs)

    monkeypatch.setattr(ncts, "XmlMessage", counted)
    monkeypatch.setattr(ncts, "MAX_HELD_VALUES", 20)
    assert read(data).items == once.items
    assert len(passes) == 2
    assert len(once.records) == 29


def test_what_houses_share_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ncts, "MAX_SHARED", 5)
    pieces = [equipment("", f"SEAL{n:04}") for n in range(20)] + [
        equipment("", f"OWN{n:04}", items=[1]) for n in range(20)
    ]
    found = read(transit("CC015C", house(1), house(2), consignment="".join(pieces)))
    # Three of the five are of the holder; the house whose goods are in it gets five pieces more.
    assert [len(values(record, "seal")) for record in found.records] == [7, 2]
    assert found.codes == ["record.too_many_identifiers"] * 2
    # One house has all of them.
    [record] = read(transit("CC015C", house(1), consignment="".join(pieces[:20]))).records
    assert len(values(record, "seal")) == 20


def test_equipment_goes_to_every_house_where_the_goods_are_too_many_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ncts, "MAX_ITEMS", 1)
    found = read(transit("CC015C", house(1), house(2), consignment=equipment(BOX_A, items=[1])))
    assert [values(record, "container") for record in found.records] == [[BOX_A], [BOX_A]]


# --- around it ---


def test_the_format_is_recognised_by_its_content() -> None:
    for data in (transit("CC015C"), statement("CC009C"), statement("CC999C")):
        assert formats.detect("x", data) == "ncts-xml"
    items = list(formats.read(io.BytesIO(transit("CC015C", house(1))), file="f"))
    assert [type(item) for item in items] == [Record, Supersession]


def test_a_folder_without_the_schema_is_the_operators_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        read(transit("CC015C"), tmp_path)


def test_every_code_and_message_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs/formats/ncts.md").read_text(encoding="utf-8")
    for word in (*ncts.CODES, *ncts.MESSAGES, *ncts.OTHER_MESSAGES):
        assert f"`{word}`" in page


def test_the_documented_example_is_read_as_the_page_says() -> None:
    found = read(example("ncts"))
    assert found.issues == []
    assert refs(found) == [f"{MRN}/1", f"{MRN}/2"]
    both = {("mrn", MRN, ""), ("eori", HOLDER_NUMBER, "holderOfTheTransitProcedure")}
    assert [identifiers(record) for record in found.records] == [both, both | {("container", BOX_A, "")}]
    assert [(end.message_ref, end.same_as) for end in found.ends] == [(MRN, LOCAL)]
