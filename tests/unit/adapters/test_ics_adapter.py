"""What is read from entry summary declarations of the first release, how they are linked, what a bad message costs."""

from __future__ import annotations

import hashlib
import io
import itertools
import random
from pathlib import Path

import pytest

from connector_psi.adapters import formats, ics
from connector_psi.domain.movements import reference
from connector_psi.domain.records import Field, Record, SourceSystem, Supersession
from connector_psi.errors import ConfigError
from connector_psi.storage import records as store_records
from connector_psi.storage.store import Store
from tests.customs_samples import (
    BOX_A,
    BOX_B,
    HOLDER_NUMBER,
    LRN,
    MRN,
    VIN,
    Told,
    element,
    ens,
    entry_item,
    example,
    identifiers,
    told,
    values,
)
from tests.simulation.federation import SeededRandom

LOCAL = reference("", LRN, HOLDER_NUMBER).local
SHIP = "<IdeOfMeaOfTraCroHEA85>IMO 9074729</IdeOfMeaOfTraCroHEA85><NatOfMeaOfTraCroHEA87>PA</NatOfMeaOfTraCroHEA87>"


def read(data: bytes, schemas: Path | None = None) -> Told:
    return told(ics.read, data, schemas)


def box(number: str) -> str:
    return element("CONNR2", element("ConNumNR21", number))


def paper(kind: str, number: str) -> str:
    return element("PRODOCDC2", element("DocTypDC21", kind), element("DocRefDC23", number))


def vehicle(number: str, nationality: str) -> str:
    return element("IDEMEATRAGI970", element("NatIDEMEATRAGI973", nationality), element("IdeMeaTraGIMEATRA971", number))


def mode(code: str, number: str, nationality: str = "") -> str:
    country = element("NatOfMeaOfTraCroHEA87", nationality) if nationality else ""
    return element("TraModAtBorHEA76", code) + element("IdeOfMeaOfTraCroHEA85", number) + country


def in_envelope(*messages: bytes, name: str = "s:Envelope") -> bytes:
    bare = b"".join(message.partition(b"?>\n")[2] for message in messages)
    opening = f'<{name} xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body>'.encode()
    return opening + bare + b"</s:Body></" + name.encode() + b">"


# --- what is read ---


def test_a_declaration_is_one_record_with_all_its_goods_items() -> None:
    data = ens(
        "CC315A",
        entry_item(
            element("GooDesGDS23", f"USED CAR VIN {VIN}"),
            paper("N705", "MAEU 123456"),
            paper("C624", f"form for {BOX_B}"),
            "<COMCODGODITM><ComNomCMD1>87032319</ComNomCMD1></COMCODGODITM>",
            box("csqu 305438-3"),
            element("PACGS2", "<KinOfPacGS23>VN</KinOfPacGS23>", element("MarNumOfPacGSL21", "NO MARKS")),
        ),
        entry_item(
            element("TRACONCE2", "<NamCE27>Kaeufer GmbH</NamCE27><StrAndNumCE222>Ring 1</StrAndNumCE222>"
                    "<PosCodCE223>1010</PosCodCE223><CitCE224>Wien</CitCE224><CouCE225>AT</CouCE225>"),
            number=2,
        ),
        header=SHIP + "<ConRefNumHEA>V042E</ConRefNumHEA><PlaLoaGOOITE334>COTRB</PlaLoaGOOITE334>",
        after="<ITI><CouOfRouCodITI1>CO</CouOfRouCodITI1></ITI><ITI><CouOfRouCodITI1>DE</CouOfRouCodITI1></ITI>"
        "<SEAID529><SeaIdSEAID530>SEAL-77</SeaIdSEAID530></SEAID529>"
        "<TRACONCO1><NamCO17>Exportadora SA</NamCO17><TINCO159>CO900123456</TINCO159></TRACONCO1>"
        "<NOTPAR670><NamNOTPAR672>Melder AG</NamNOTPAR672></NOTPAR670>"
        "<TRACARENT601><TINTRACARENT602>DK123456789</TINTRACARENT602></TRACARENT601>",
    )  # fmt: skip
    found = read(data)
    assert found.issues == []
    [record] = found.records
    assert (record.source, record.category, record.incomplete) == (SourceSystem.ICS, "ics.ens", False)
    assert record.source_ref == record.message_ref == LOCAL
    assert record.message_digest == hashlib.sha256(data).digest()
    assert identifiers(record) == {
        ("imo", "9074729", "activeBorderTransportMeans"),
        ("container", BOX_A, ""),
        ("container", BOX_B, ""),
        ("seal", "SEAL77", ""),
        ("vin", VIN, ""),
        ("transport_document", "MAEU123456", "transportDocument"),
        ("eori", HOLDER_NUMBER, "declarant"),
        ("eori", "CO900123456", "consignor"),
        ("eori", "DK123456789", "carrier"),
    }
    assert {x.source_path for x in record.identifiers if x.source_path.endswith("#free_text")} == {
        "/CC315A/GOOITEGDS/GooDesGDS23#free_text",
        "/CC315A/GOOITEGDS/PRODOCDC2/DocRefDC23#free_text",
    }
    assert record.fields[Field.ROUTE] == ("CO", "DE")
    assert record.fields[Field.ETA] == ("2026-03-05T12:00",)
    assert record.fields[Field.HS6] == ("870323",)
    assert record.fields[Field.MEANS] == ("mode sea", "imo IMO 9074729 PA", "conveyance V042E")
    assert record.fields[Field.PLACE] == ("COTRB", "DE004851")
    assert record.fields[Field.PARTY_ADDRESSES] == ("consignee: Ring 1, 1010 Wien, AT",)
    assert [(each.role, each.name, each.country) for each in record.parties] == [
        ("consignor", "Exportadora SA", ""),
        ("notifyParty", "Melder AG", ""),
        ("consignee", "Kaeufer GmbH", "AT"),
    ]


@pytest.mark.parametrize(
    ("code", "number", "nationality", "expected"),
    [
        ("1", "9074729", "PA", ("imo", "9074729")),
        ("1", "02326104", "", ("eni", "02326104")),
        ("8", "02326104", "", ("eni", "02326104")),
        ("3", "HH-AB 123", "DE", ("plate", "DE:HHAB123")),
        ("03", "HH-AB 123", "DE", ("plate", "DE:HHAB123")),
        ("10", "HH-AB 123", "DE", ("plate", "DE:HHAB123")),
        ("11", "HH-AB 123", "", ("plate_number", "HHAB123")),
        ("4", "D-ABCD", "", ("aircraft", "DABCD")),
        ("2", "31806648121", "", None),
    ],
)
def test_the_mode_says_what_the_number_of_the_means_is(
    code: str, number: str, nationality: str, expected: tuple[str, str] | None
) -> None:
    found = read(ens(header=mode(code, number, nationality)))
    assert found.issues == []
    active = {(x.type.value, x.value) for x in found.records[0].identifiers if x.role == "activeBorderTransportMeans"}
    assert active == ({expected} if expected else set())


def test_an_unknown_mode_costs_the_number_alone() -> None:
    found = read(ens(header=mode("9", "HH-AB 123", "DE")))
    assert [(x.code, x.path) for x in found.issues] == [("means.type_unknown", "/CC315A/HEAHEA/TraModAtBorHEA76")]
    assert found.records[0].fields[Field.MEANS] == ("HH-AB 123 DE",)


def test_vehicles_that_are_carried_belong_to_the_record() -> None:
    item = entry_item(vehicle("34 DRS 77", "TR"), vehicle("X-12", "BG"))
    assert {
        ("plate", "TR:34DRS77", "passiveBorderTransportMeans"),
        ("plate", "BG:X12", "passiveBorderTransportMeans"),
    } <= (identifiers(read(ens("CC315A", item, header=SHIP)).records[0]))
    [train] = read(ens("CC315A", item, header=mode("2", "31806648121"))).records
    assert {x.role for x in train.identifiers} == {"declarant"}


def test_a_declaration_without_identifiers_is_kept_and_said() -> None:
    name = "<TRACONCO1><NamCO17>Nur ein Name</NamCO17></TRACONCO1>"
    [record] = read(ens(lodged_by="XX^", after=name)).records
    assert (record.identifiers, record.parties[0].name) == ((), "Nur ein Name")
    found = read(ens(lodged_by="XX^"))
    assert (found.rejections, len(found.records)) == ([], 1)
    assert ("ics.no_identifier", "/CC315A") in [(issue.code, issue.path) for issue in found.issues]
    # It is the newest word on the declaration all the same.
    assert len(found.ends) == 1


# --- which message replaces which ---


def test_each_message_names_what_it_is_of() -> None:
    declared, amended, accepted = read(ens()), read(ens("CC313A")), read(ens("CC328A"))
    assert [found.records[0].source_ref for found in (declared, amended, accepted)] == [LOCAL, MRN, f"{MRN}/outcome"]
    assert HOLDER_NUMBER not in LOCAL
    assert declared.ends == [Supersession(SourceSystem.ICS, LOCAL, declared.records[0].version)]
    assert amended.ends == [Supersession(SourceSystem.ICS, MRN, amended.records[0].version)]
    assert accepted.ends == [Supersession(SourceSystem.ICS, MRN, 0, same_as=LOCAL)]
    assert declared.records[0].version < amended.records[0].version
    assert ("mrn", MRN, "") in identifiers(amended.records[0]) & identifiers(accepted.records[0])


def live(folder: Path, deliveries: tuple[Told, ...]) -> set[tuple[str, tuple[str, ...]]]:
    folder.mkdir()
    store = Store(f"sqlite:///{folder}/x.db", bytes(32), bytes([1]) * 32, SeededRandom("ens"))
    now = 1_800_000_000_000
    try:
        for found in deliveries:
            with store.write() as tx:
                store_records.put(store, tx, found.records, now)
                for end in found.ends:
                    store_records.supersede(store, tx, end, now)
        with store.read() as tx:
            kept = store_records.live_after(store, tx, 0, 100, now)
        return {(each.record.source_ref, tuple(values(each.record, "container"))) for each in kept}
    finally:
        store.close()


def test_an_amendment_replaces_the_declaration_that_was_accepted_in_any_order(tmp_path: Path) -> None:
    messages = [
        ens("CC315A", entry_item(box(BOX_A))),
        ens("CC328A", time="2603011001"),
        ens("CC313A", entry_item(box(BOX_B)), time="2603011200"),
    ]
    for n, deliveries in enumerate(itertools.permutations([read(message) for message in messages])):
        assert live(tmp_path / str(n), deliveries) == {(MRN, (BOX_B,)), (f"{MRN}/outcome", ())}


def test_an_amendment_replaces_a_declaration_that_carries_its_mrn(tmp_path: Path) -> None:
    both = element("RefNumHEA4", LRN) + element("DocNumHEA5", MRN)
    messages = [read(ens(reference=both)), read(ens("CC313A", entry_item(box(BOX_B)), time="2603011001"))]
    assert messages[0].ends == [Supersession(SourceSystem.ICS, MRN, messages[0].records[0].version, same_as=LOCAL)]
    for n, deliveries in enumerate(itertools.permutations(messages)):
        assert live(tmp_path / str(n), deliveries) == {(MRN, (BOX_B,))}


def test_without_a_message_that_names_both_an_amendment_stands_beside_the_declaration(tmp_path: Path) -> None:
    messages = (read(ens("CC315A", entry_item(box(BOX_A)))), read(ens("CC313A", entry_item(box(BOX_B)))))
    assert live(tmp_path / "x", messages) == {(LOCAL, (BOX_A,)), (MRN, (BOX_B,))}


def test_the_newest_outcome_is_the_one_that_stands(tmp_path: Path) -> None:
    accepted = ens("CC328A", entry_item(box(BOX_A)))
    later = ens("CC328A", entry_item(box(BOX_B)), time="2603021000").replace(b"CC328A", b"CC304A")
    for n, deliveries in enumerate(itertools.permutations([read(accepted), read(later)])):
        assert live(tmp_path / str(n), deliveries) == {(f"{MRN}/outcome", (BOX_B,))}


def test_the_time_is_that_of_preparation_or_else_of_declaring() -> None:
    made = read(ens(time="2603011000")).records[0].version
    undated = ens().replace(b"<DatOfPreMES9>260301<", b"<DatOfPreMES9>x<")
    assert read(undated).records[0].version == made
    found = read(undated.replace(b"202603011000", b"some day"))
    assert (found.codes, found.records[0].version) == (["ics.time_unusable"], 0)


# --- envelopes ---


def test_messages_in_an_envelope_are_read_as_if_they_stood_alone() -> None:
    data = in_envelope(ens("CC315A", entry_item(box(BOX_A))), ens("CC313A"))
    found = read(data)
    assert found.issues == []
    assert [record.source_ref for record in found.records] == [LOCAL, MRN]
    alone = read(ens("CC315A", entry_item(box(BOX_A)))).records[0]
    assert found.records[0].identifiers == alone.identifiers
    assert {record.message_digest for record in found.records} == {hashlib.sha256(data).digest()}
    assert [end.message_ref for end in found.ends] == [LOCAL, MRN]


def test_an_envelope_is_cut_or_holds_nothing_or_something_else() -> None:
    data = in_envelope(ens(), ens("CC313A"))
    found = read(data[: data.rindex(b"<CUSOFFFENT730>")])
    assert [record.source_ref for record in found.records] == [LOCAL]
    assert [code for code, _, _ in found.rejections] == ["xml.truncated"]
    found = read(data[:-5])
    assert [record.source_ref for record in found.records] == [LOCAL, MRN]
    assert (found.codes, found.rejections) == (["xml.truncated"], [])
    assert read(in_envelope()).rejections == [("ics.unsupported_message", "/*", 1)]
    found = read(in_envelope(ens("CC313A").replace(b"CC313A", b"CC305A"), ens()))
    assert [(code, path) for code, path, _ in found.rejections] == [("ics.unsupported_message", "/CC305A")]
    assert len(found.records) == 1


# --- what a bad message costs ---


def test_other_messages_are_reported() -> None:
    assert read(ens("CC313A").replace(b"CC313A", b"CC316A")).rejections == [("ics.unsupported_message", "/CC316A", 2)]
    assert read(b"<PLANTED/>").rejections == [("ics.unsupported_message", "/*", 1)]


def test_a_message_without_a_reference_is_nobodys() -> None:
    found = read(ens(reference=""))
    assert [(code, path) for code, path, _ in found.rejections] == [("ics.reference_missing", "/CC315A/HEAHEA")]
    assert found.records == found.ends == []


def test_a_cut_message_gives_nothing_and_ends_nothing() -> None:
    data = ens("CC315A", entry_item(box(BOX_A)), entry_item(box(BOX_B), number=2))
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
        (ens().replace(b"UTF-8", b"UTF-7"), "xml.encoding"),
        (ens().replace(b"?>\n", b'?>\n<!DOCTYPE a [<!ENTITY b "c">]>', 1), "xml.doctype"),
        (ens().replace(b"</HEAHEA>", b"</HEA>"), "xml.malformed"),
        (ens().replace(LRN.encode(), b"&planted;"), "xml.malformed"),
    ],
)
def test_what_is_no_message_is_refused(data: bytes, code: str) -> None:
    found = read(data)
    assert (found.records, found.ends) == ([], [])
    assert [each for each, _, _ in found.rejections] == [code]


def test_what_the_table_does_not_have_is_reported_by_its_place() -> None:
    found = read(ens("CC315A", entry_item("<PLANTED>PLANTED</PLANTED>"), entry_item("<PLANTED/>", number=2)))
    assert [(x.code, x.path) for x in found.issues] == [("xml.unknown_element", "/CC315A/GOOITEGDS/*")]
    assert "PLANTED" not in repr(found.items)


def test_random_damage_never_raises_and_never_shows_in_an_issue() -> None:
    source = random.Random(20260302)
    whole = ens("CC315A", entry_item(paper("N705", "PLANTED77"), box(BOX_A)), header=SHIP)
    for data in (whole, in_envelope(whole)):
        for _ in range(300):
            broken = bytearray(data)
            for _ in range(source.randint(1, 6)):
                at = source.randrange(len(broken))
                broken[at : at + source.randint(0, 4)] = source.randbytes(source.randint(0, 4))
            found = read(bytes(broken))
            assert "PLANTED" not in repr(found.issues)
            assert found.issues or found.records


def test_goods_items_are_freed_as_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    roots = []
    declaration = ics._Message.declaration

    def counted(self: ics._Message, root: ics.Frame) -> None:
        roots.append(len(root.all("GOOITEGDS")))
        declaration(self, root)

    monkeypatch.setattr(ics._Message, "declaration", counted)
    [record] = read(ens("CC315A", *(entry_item(paper("N705", f"BL{n:06}"), number=n) for n in range(1, 2000)))).records
    assert (roots, len(values(record, "transport_document"))) == ([0], 1999)


# --- around it ---


def test_the_format_is_recognised_by_its_content() -> None:
    for data in (ens(), ens("CC313A"), ens("CC328A"), in_envelope(ens()), ens().replace(b"CC315A", b"CC305A")):
        assert formats.detect("x", data) == "ics-xml"
    items = list(formats.read(io.BytesIO(ens()), file="f"))
    assert [type(item) for item in items] == [Record, Supersession]


def test_a_folder_without_the_schema_is_the_operators_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        read(ens(), tmp_path)
    with pytest.raises(ConfigError):
        read(in_envelope(ens()), tmp_path)


def test_every_code_and_message_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs/formats/ics.md").read_text(encoding="utf-8")
    for word in (*ics.CODES, *ics.MESSAGES, *ics.OTHER_MESSAGES):
        assert f"`{word}`" in page


def test_the_documented_example_is_read_as_the_page_says() -> None:
    found = read(example("ics"))
    assert found.issues == []
    assert [record.source_ref for record in found.records] == [MRN]
    assert identifiers(found.records[0]) == {
        ("mrn", MRN, ""),
        ("imo", "9074729", "activeBorderTransportMeans"),
        ("container", BOX_A, ""),
        ("eori", HOLDER_NUMBER, "declarant"),
    }
