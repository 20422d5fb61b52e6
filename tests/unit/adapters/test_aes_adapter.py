"""What is taken to be in an export declaration. No real one was seen: the samples follow the data model, as the reader does."""

from __future__ import annotations

import hashlib
import io
import random
from pathlib import Path

import pytest

from connector_psi.adapters import aes, formats
from connector_psi.domain.movements import reference
from connector_psi.domain.records import Field, Record, SourceSystem, Supersession
from connector_psi.domain.systems import SYSTEMS
from connector_psi.errors import ConfigError
from tests.customs_samples import (
    ADDRESS,
    BOX_A,
    BOX_B,
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
    identifiers,
    means,
    numbered,
    party,
    told,
    values,
)

LOCAL = reference("", LRN, HOLDER_NUMBER).local
DECLARANT = party("Declarant", HOLDER_NUMBER, "Anmelder GmbH", ADDRESS + CONTACT)


def export(
    *items: str,
    goods: str = "",
    consignment: str = "",
    lrn: str = LRN,
    parties: str = DECLARANT,
    time: str = "2026-03-01T10:00:00",
    opening: str = '<a:CC515C xmlns:a="http://aes.dgtaxud.ec">',
) -> bytes:
    name = opening[1:-1].partition(" ")[0]
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n{opening}\n{element("preparationDateAndTime", time)}\n'
        f"{element('ExportOperation', element('LRN', lrn) if lrn else '', '<declarationType>EX</declarationType>')}\n"
        f"{element('CustomsOfficeOfExport', element('referenceNumber', 'DE004851'))}"
        f"{element('CustomsOfficeOfExitDeclared', element('referenceNumber', 'NL000510'))}\n{parties}\n"
        f"{element('GoodsShipment', goods, element('Consignment', consignment), *items)}\n</{name}>\n"
    ).encode()


def item(number: int, *content: str, text: str = "Parts") -> str:
    commodity = element(
        "Commodity",
        element("descriptionOfGoods", text),
        "<CommodityCode><harmonizedSystemSubHeadingCode>848790</harmonizedSystemSubHeadingCode></CommodityCode>",
    )
    return element("GoodsItem", element("declarationGoodsItemNumber", str(number)), *content, commodity) + "\n"


def read(data: bytes, schemas: Path | None = None) -> Told:
    return told(aes.read, data, schemas)


def test_it_says_that_it_is_unverified() -> None:
    [each] = aes.FORMATS
    assert "unverified" in each.description
    assert "UNVERIFIED" in (aes.__doc__ or "").splitlines()[0]
    assert "unverified" in (Path(__file__).parents[3] / "docs/formats/aes.md").read_text(encoding="utf-8").lower()
    assert SYSTEMS["AES"].status.value == "unverified"


def test_a_declaration_is_one_record() -> None:
    data = export(
        item(1, party("Consignee", "US1234567", "Buyer Inc"), document("TransportDocument", "N730", "CMR-0001")),
        item(2, numbered("AdditionalInformation", 1, element("text", f"VIN {VIN}")), text=f"box {BOX_B}"),
        parties=party("Exporter", "DE777777777", "Ausfuhr AG") + DECLARANT,
        goods=element("countryOfExport", "DE") + element("countryOfDestination", "US")
        + document("PreviousDocument", "N821", MRN),
        consignment=equipment(BOX_A, "SEAL-77", items=[1]) + means("DepartureTransportMeans", "30", "HH-AB 123")
        + means("ActiveBorderTransportMeans", "10", "9074729", "PA")
        + numbered("CountryOfRoutingOfConsignment", 1, element("country", "NL")),
    )  # fmt: skip
    found = read(data)
    assert found.issues == []
    [record] = found.records
    assert (record.source, record.category, record.source_ref) == (SourceSystem.AES, "aes.export", LOCAL)
    assert record.message_digest == hashlib.sha256(data).digest()
    assert identifiers(record) == {
        ("eori", "DE777777777", "exporter"),
        ("eori", HOLDER_NUMBER, "declarant"),
        ("phone", "+49401234567", "declarant"),
        ("email", "office@example.com", "declarant"),
        ("eori", "US1234567", "consignee"),
        ("container", BOX_A, ""),
        ("seal", "SEAL77", ""),
        ("plate", "DE:HHAB123", "departureTransportMeans"),
        ("imo", "9074729", "activeBorderTransportMeans"),
        ("transport_document", "CMR0001", "transportDocument"),
        ("mrn", MRN, "previousDocument"),
        ("vin", VIN, ""),
        ("container", BOX_B, ""),
    }
    assert {x.source_path for x in record.identifiers if x.source_path.endswith("#free_text")} == {
        "/CC515C/GoodsShipment/GoodsItem/AdditionalInformation/text#free_text",
        "/CC515C/GoodsShipment/GoodsItem/Commodity/descriptionOfGoods#free_text",
    }
    assert record.fields[Field.ROUTE] == ("DE", "NL", "US")
    assert record.fields[Field.PLACE] == ("DE004851", "NL000510")
    assert [each.role for each in record.parties] == ["exporter", "declarant", "declarantContactPerson", "consignee"]
    assert found.ends == [Supersession(SourceSystem.AES, LOCAL, record.version)]


@pytest.mark.parametrize(
    "opening",
    [
        "<CC515C>",
        '<a:CC515C xmlns:a="http://ecs.dgtaxud.ec">',
        '<CC515C xmlns="http://aes.dgtaxud.ec">',
        '<CC515C xmlns="urn:national:export">',
    ],
)
def test_the_namespace_does_not_matter(opening: str) -> None:
    found = read(export(item(1, document("TransportDocument", "N730", "CMR-0001")), opening=opening))
    assert found.issues == []
    assert ("transport_document", "CMR0001", "transportDocument") in identifiers(found.records[0])


def test_a_later_declaration_under_the_same_reference_is_newer() -> None:
    first, second = read(export(item(1))), read(export(item(1), time="2026-03-01T10:00:01"))
    assert first.records[0].message_ref == second.records[0].message_ref
    assert first.records[0].version < second.records[0].version
    other = party("Declarant", "DE999999999")
    assert read(export(item(1), parties=other)).records[0].message_ref != first.records[0].message_ref
    undated = read(export(item(1), time="soon"))
    assert (undated.codes, undated.records[0].version) == (["aes.time_unusable"], 0)


def test_what_cannot_be_told_is_refused() -> None:
    assert read(export(item(1)).replace(b"CC515C", b"CC513C")).rejections == [("aes.unsupported_message", "/*", 2)]
    found = read(export(item(1), lrn=""))
    assert [(code, path) for code, path, _ in found.rejections] == [
        ("aes.reference_missing", "/CC515C/ExportOperation")
    ]
    found = read(export(item(1)).replace(b"GoodsShipment>", b"Planted>"))
    assert [(code, path) for code, path, _ in found.rejections] == [("aes.goods_missing", "/CC515C/GoodsShipment")]
    assert found.ends == []
    found = read(export(item(1), parties=""))
    assert (found.rejections, len(found.records)) == ([], 1)
    assert [(issue.code, issue.path) for issue in found.issues] == [("aes.no_identifier", "/CC515C")]


def test_what_the_table_does_not_have_is_reported_by_its_place() -> None:
    found = read(export(item(1, "<PLANTED>PLANTED</PLANTED>")))
    assert [(x.code, x.path) for x in found.issues] == [("xml.unknown_element", "/CC515C/GoodsShipment/GoodsItem/*")]
    assert "PLANTED" not in repr(found.items)


def test_a_cut_message_gives_nothing_and_ends_nothing() -> None:
    data = export(item(1), item(2))
    end = len(data.rstrip())
    for at in range(1, end):
        found = read(data[:at])
        assert found.records == found.ends == []
        assert found.rejections
    assert len(read(data[:end]).records) == 1


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "file.empty"),
        (export().replace(b"UTF-8", b"UTF-7"), "xml.encoding"),
        (export().replace(b"?>\n", b'?>\n<!DOCTYPE a [<!ENTITY b "c">]>', 1), "xml.doctype"),
        (export().replace(b"</LRN>", b"</LNR>"), "xml.malformed"),
    ],
)
def test_what_is_no_message_is_refused(data: bytes, code: str) -> None:
    found = read(data)
    assert (found.records, found.ends) == ([], [])
    assert [each for each, _, _ in found.rejections] == [code]


def test_random_damage_never_raises_and_never_shows_in_an_issue() -> None:
    source = random.Random(20260303)
    data = export(item(1, document("TransportDocument", "N730", "PLANTED77")), consignment=equipment(BOX_A))
    for _ in range(300):
        broken = bytearray(data)
        for _ in range(source.randint(1, 6)):
            at = source.randrange(len(broken))
            broken[at : at + source.randint(0, 4)] = source.randbytes(source.randint(0, 4))
        found = read(bytes(broken))
        assert "PLANTED" not in repr(found.issues)
        assert found.issues or found.records


def test_many_goods_items_stay_within_one_record() -> None:
    data = export(*(item(n, document("TransportDocument", "N730", f"CMR{n:06}")) for n in range(1, 1500)))
    [record] = read(data).records
    assert len(values(record, "transport_document")) == 1499


def test_an_operator_who_has_the_schema_can_use_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        read(export(item(1)), tmp_path)
    (tmp_path / "cc515c.xsd").write_text(
        '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"><xs:element name="CC515C"><xs:complexType><xs:sequence>'
        '<xs:element name="preparationDateAndTime" type="xs:dateTime"/>'
        '<xs:any maxOccurs="unbounded" processContents="skip"/></xs:sequence></xs:complexType></xs:element></xs:schema>'
    )
    assert len(read(export(item(1), opening="<CC515C>"), tmp_path).records) == 1
    found = read(export(item(1), opening="<CC515C>", time="PLANTED"), tmp_path)
    assert found.records == found.ends == []
    assert [(x.code, x.path, x.line) for x in found.issues] == [
        ("xsd.cvc_datatype_valid_1_2_1", "/CC515C/preparationDateAndTime", 3),
        ("xsd.rejected", "/CC515C", 2),
    ]
    assert "PLANTED" not in repr(found.items)


def test_the_format_is_recognised_by_its_content() -> None:
    for opening in ("<CC515C>", *(f'<a:CC515C xmlns:a="{namespace}">' for namespace in aes.NAMESPACES)):
        assert formats.detect("x", export(item(1), opening=opening)) == "aes-xml"
    items = list(formats.read(io.BytesIO(export(item(1))), file="f"))
    assert [type(each) for each in items] == [Record, Supersession]


def test_every_code_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs/formats/aes.md").read_text(encoding="utf-8")
    assert all(f"`{code}`" in page for code in aes.CODES)


def test_the_documented_example_is_read_as_the_page_says() -> None:
    found = read(example("aes"))
    assert found.issues == []
    assert [record.source_ref for record in found.records] == [LOCAL]
    assert identifiers(found.records[0]) == {("container", BOX_A, ""), ("eori", HOLDER_NUMBER, "declarant")}
