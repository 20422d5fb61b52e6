"""Messages of ICS, NCTS and AES that their tests share, and what came out of one. Every identifier is invented, or a
published example of its check digit. Where nothing is added to them they are valid against the schemas.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from connector_psi.domain.intake import Item
from connector_psi.domain.records import Issue, Record, Supersession

BOX_A, BOX_B, BOX_C, BOX_D = "CSQU3054383", "MSKU0000006", "TGHU1234567", "MSCU6639870"
VIN = "WVWZZZ1JZXW000001"
MRN = "26DE00000000SYN0M1"
LRN = "LRN-0001"
HOLDER_NUMBER = "DE123456789"

Read = Callable[..., Iterator[Item]]


@dataclass
class Told:
    """What came out of a file."""

    records: list[Record] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)
    ends: list[Supersession] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)

    @property
    def codes(self) -> list[str]:
        return [issue.code for issue in self.issues]

    @property
    def rejections(self) -> list[tuple[str, str | None, int | None]]:
        return [(issue.code, issue.path, issue.line) for issue in self.issues if issue.rejects_record]


def told(read: Read, data: bytes, schemas: Path | None = None, stream: BinaryIO | None = None) -> Told:
    """Read a file, whose items must come in order: the issues of a record before it, the end of a message last."""
    found = Told(items=list(read(stream or io.BytesIO(data), file="f", schemas=schemas)))
    for item in found.items:
        kept: list[Item]
        kept = found.records if isinstance(item, Record) else found.issues if isinstance(item, Issue) else found.ends  # type: ignore[assignment]
        kept.append(item)
    return found


def example(system: str) -> bytes:
    """Return the message that the page of a system shows."""
    page = (Path(__file__).parent.parent / f"docs/formats/{system}.md").read_text(encoding="utf-8")
    return page.partition("```xml\n")[2].partition("```")[0].encode()


def identifiers(record: Record) -> set[tuple[str, str, str]]:
    return {(x.type.value, x.value, x.role) for x in record.identifiers}


def values(record: Record, kind: str) -> list[str]:
    return [x.value for x in record.identifiers if x.type == kind]


def element(name: str, *content: str) -> str:
    return f"<{name}>{''.join(content)}</{name}>"


def numbered(name: str, number: int, *content: str) -> str:
    return element(name, element("sequenceNumber", str(number)), *content)


# --- the EU customs data model: NCTS, AES ---

ADDRESS = (
    "<Address><streetAndNumber>Hafenstr. 1</streetAndNumber><postcode>20457</postcode><city>Hamburg</city>"
    "<country>DE</country></Address>"
)
CONTACT = (
    "<ContactPerson><name>Erika Mustermann</name><phoneNumber>+49 40 1234567</phoneNumber>"
    "<eMailAddress>Office@Example.com</eMailAddress></ContactPerson>"
)


def party(name: str, number: str = "", called: str = "", more: str = "") -> str:
    return element(
        name,
        element("identificationNumber", number) if number else "",
        element("name", called) if called else "",
        more,
    )


def means(name: str, kind: str, number: str, nationality: str = "DE") -> str:
    return numbered(
        name,
        1,
        element("typeOfIdentification", kind),
        element("identificationNumber", number),
        element("nationality", nationality),
    )


def equipment(container: str, *seals: str, items: Iterable[int] = ()) -> str:
    return numbered(
        "TransportEquipment",
        1,
        element("containerIdentificationNumber", container) if container else "",
        element("numberOfSeals", str(len(seals))),
        *(numbered("Seal", n, element("identifier", seal)) for n, seal in enumerate(seals, 1)),
        *(
            numbered("GoodsReference", n, element("declarationGoodsItemNumber", str(item)))
            for n, item in enumerate(items, 1)
        ),
    )


def document(name: str, kind: str, number: str) -> str:
    return numbered(name, 1, element("type", kind), element("referenceNumber", number))


def goods_item(number: int, text: str = "Parts", marks: str = "NONE", more: str = "") -> str:
    return element(
        "ConsignmentItem",
        element("goodsItemNumber", str(number)),
        element("declarationGoodsItemNumber", str(number)),
        element(
            "Commodity",
            element("descriptionOfGoods", text),
            "<CommodityCode><harmonizedSystemSubHeadingCode>848790</harmonizedSystemSubHeadingCode></CommodityCode>"
            "<GoodsMeasure><grossMass>10</grossMass></GoodsMeasure>",
        ),
        numbered("Packaging", 1, "<typeOfPackages>BX</typeOfPackages>", element("shippingMarks", marks)),
        more,
    )


def house(number: int | None, *content: str, items: Iterable[int] = ()) -> str:
    """Return a house consignment; with no items of its own it has one of that number."""
    sequence = "" if number is None else element("sequenceNumber", str(number))
    goods = "".join(map(goods_item, items or ([number] if number else [1])))
    return element("HouseConsignment", sequence, "<grossMass>10</grossMass>", *content, goods) + "\n"


_OPERATION = {
    "CC015C": "{lrn}{head}<security>0</security><reducedDatasetIndicator>0</reducedDatasetIndicator>"
    "<bindingItinerary>0</bindingItinerary>",
    "CC013C": "{lrn}{mrn}{head}<security>0</security><reducedDatasetIndicator>0</reducedDatasetIndicator>"
    "<bindingItinerary>0</bindingItinerary><amendmentTypeFlag>0</amendmentTypeFlag>",
    "CC029C": "{lrn}{mrn}{head}<declarationAcceptanceDate>2026-03-01</declarationAcceptanceDate>"
    "<releaseDate>2026-03-01</releaseDate><security>0</security><reducedDatasetIndicator>0</reducedDatasetIndicator>"
    "<bindingItinerary>0</bindingItinerary>",
}
_LOADING = "<PlaceOfLoading><UNLocode>DEHAM</UNLocode></PlaceOfLoading>"


def transit(
    name: str,
    *houses: str,
    lrn: str = LRN,
    mrn: str = "",
    time: str = "2026-03-01T10:00:00",
    holder: str = party("HolderOfTheTransitProcedure", HOLDER_NUMBER, "Spedition Beispiel GmbH", ADDRESS + CONTACT),
    consignment: str = "",
    after: str = "",
) -> bytes:
    """Return a transit declaration; ``consignment`` stands before its houses and ``after`` behind them."""
    operation = _OPERATION[name].format(
        lrn=element("LRN", lrn) if lrn else "",
        mrn=element("MRN", mrn) if mrn else "",
        head="<declarationType>T1</declarationType><additionalDeclarationType>A</additionalDeclarationType>",
    )
    released = name == "CC029C"
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<ncts:{name} xmlns:ncts="http://ncts.dgtaxud.ec" PhaseID="NCTS5.1">\n'
        "<messageSender>sender</messageSender><messageRecipient>NTA.DE</messageRecipient>"
        f"{element('preparationDateAndTime', time) if time else ''}"
        f"<messageIdentification>id1</messageIdentification><messageType>{name}</messageType>\n"
        f"{element('TransitOperation', operation)}\n"
        "<CustomsOfficeOfDeparture><referenceNumber>DE004851</referenceNumber></CustomsOfficeOfDeparture>"
        "<CustomsOfficeOfDestinationDeclared><referenceNumber>AT320100</referenceNumber>"
        "</CustomsOfficeOfDestinationDeclared>\n"
        f"{holder}\n<Guarantee><sequenceNumber>1</sequenceNumber><guaranteeType>0</guaranteeType></Guarantee>\n"
        f"<Consignment>{'<containerIndicator>1</containerIndicator>' if released else ''}<grossMass>10</grossMass>"
        f"{consignment}{_LOADING if released else ''}\n{''.join(houses)}{after}</Consignment>\n</ncts:{name}>\n"
    ).encode()


def statement(name: str, *content: str, mrn: str = MRN, lrn: str = "", time: str = "2026-03-02T10:00:00") -> bytes:
    """Return any other message of transit: what it has beside its head and the references, as it stands."""
    references = (element("LRN", lrn) if lrn else "") + (element("MRN", mrn) if mrn else "")
    return (
        f'<n:{name} xmlns:n="http://ncts.dgtaxud.ec">\n{element("preparationDateAndTime", time)}\n'
        f"{element('TransitOperation', references)}\n{''.join(content)}\n</n:{name}>\n"
    ).encode()


# --- ICS ---


def ens(
    name: str = "CC315A",
    *items: str,
    header: str = "",
    reference: str | None = None,
    time: str = "2603011000",
    lodged_by: str = HOLDER_NUMBER,
    after: str = "",
) -> bytes:
    """Return an entry summary declaration; ``header`` follows the mode of transport in HEAHEA, ``after`` the items."""
    names = {"CC315A": element("RefNumHEA4", LRN), "CC313A": element("DocNumHEA5", MRN)}
    names["CC328A"] = names["CC315A"] + names["CC313A"]
    mode = "" if "<TraModAtBorHEA76>" in header else "<TraModAtBorHEA76>1</TraModAtBorHEA76>"
    last = {
        "CC315A": "<DecDatTimHEA114>202603011000</DecDatTimHEA114>",
        "CC313A": "<DatTimAmeHEA113>202603011000</DatTimAmeHEA113>",
        "CC328A": "<DecRegDatTimHEA115>202603011000</DecRegDatTimHEA115>",
    }[name]
    recipient = "<MesRecMES6>NICA.DE</MesRecMES6>" if name == "CC328A" else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<ie:{name} xmlns:ie="http://ics.dgtaxud.ec/{name}">\n<MesSenMES3>sender</MesSenMES3>{recipient}'
        f"<DatOfPreMES9>{time[:6]}</DatOfPreMES9><TimOfPreMES10>{time[6:]}</TimOfPreMES10>"
        f"<MesIdeMES19>id1</MesIdeMES19><MesTypMES20>{name}</MesTypMES20>\n"
        f"<HEAHEA>{names[name] if reference is None else reference}{mode}{header}{last}</HEAHEA>\n"
        f"{''.join(items) or entry_item()}\n<PERLODSUMDEC><TINPLD1>{lodged_by}</TINPLD1></PERLODSUMDEC>{after}\n"
        "<CUSOFFFENT730><RefNumCUSOFFFENT731>DE004851</RefNumCUSOFFFENT731>"
        f"<ExpDatOfArrFIRENT733>202603051200</ExpDatOfArrFIRENT733></CUSOFFFENT730>\n</ie:{name}>\n"
    ).encode()


def entry_item(*content: str, number: int = 1) -> str:
    return element("GOOITEGDS", element("IteNumGDS7", str(number)), *content) + "\n"
