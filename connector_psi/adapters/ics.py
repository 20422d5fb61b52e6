"""Reads entry summary declarations of the first release of ICS: bytes -> one record per declaration.

- ``CC315A`` declares. Whoever lodges it gives it a local reference number (LRN); it has no MRN yet;
- ``CC313A`` amends: it says the whole declaration anew and replaces what was said before, whatever order the messages
  arrive in. It names the MRN and no LRN;
- ``CC328A`` accepts a declaration, ``CC304A`` an amendment, ``CC351A`` announces an intervention. These *outcomes*
  repeat means, documents and containers of a declaration; the newest is one record beside it, because the declaration
  itself has no MRN to be found by. ``CC328A`` and ``CC351A`` name both LRN and MRN: by them an amendment finds the
  declaration that it replaces.

Without one of these two a ``CC313A`` cannot be told from an amendment of any other declaration: nothing else that both
carry identifies one (the lodging person has many, the commercial reference is optional and repeats). Both records then
stand until one arrives. A declaration that carries its MRN already, as a national system may write it, needs none.

A message may stand in an envelope, or several in one. One that stands alone is read goods item by goods item; those in
an envelope are each read whole.

Decides: what is extracted, that a record is a whole declaration (there is no house level), how records are named.
Leaves to others: parsing safely (``adapters.xml``), what parties and means become (``domain.declarations``), which
message is the newest (the node).

Not read: the rejections ``CC305A`` and ``CC316A`` and the diversion ``CC323A``, each reported; what customs intend
(``CC351A``); commercial reference numbers, special mentions (codes), masses, numbers of packages.

Source: ICS schemas 11.2 (``CC315A``, ``CC313A``) and 10.0 (outcomes); Regulation (EEC) No 2454/93, Annex 30A.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Final, NamedTuple

from connector_psi.adapters.xml import (
    Frame,
    Node,
    Schema,
    XmlMessage,
    check,
    line_of,
    load_schema,
    refuse,
    table,
    validate,
)
from connector_psi.domain.declarations import Address, Declaration
from connector_psi.domain.drafts import MAX_IDENTIFIERS, Found, filled, merge
from connector_psi.domain.intake import Format, Item, Kind
from connector_psi.domain.movements import TRANSPORT_DOCUMENT_TYPES, Reference, paths, reference, under
from connector_psi.domain.records import (
    Field,
    IdentifierType,
    Issue,
    Rank,
    Record,
    SourceSystem,
    Supersession,
    version_of,
)

CATEGORY: Final = "ics.ens"

MESSAGES: Final[Mapping[str, Rank]] = MappingProxyType(
    {
        "CC315A": Rank.ORIGINAL,
        "CC313A": Rank.AMENDMENT,
        "CC328A": Rank.ORIGINAL,
        "CC304A": Rank.ORIGINAL,
        "CC351A": Rank.ORIGINAL,
    }
)
"""Messages that are read."""
OUTCOMES: Final = frozenset({"CC304A", "CC328A", "CC351A"})
"""Of these, those that customs answer with."""
OTHER_MESSAGES: Final = frozenset({"CC305A", "CC316A", "CC323A"})
"""Messages that are known and not read."""
_NAMES: Final = {f"{{http://ics.dgtaxud.ec/{name}}}{name}": name for name in (*MESSAGES, *sorted(OTHER_MESSAGES))}
"""Qualified name -> message: each has a namespace of its own."""
# From: the samples of a public service that exchanges these messages.
_ENVELOPES: Final = frozenset(
    {"{http://www.w3.org/2003/05/soap-envelope}Envelope", "outcomeResponse", "notificationResponse"}
)
_ITEM: Final = "GOOITEGDS"

CODES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ics.unsupported_message": "no message that is read",
        "ics.reference_missing": "neither MRN nor LRN, so nobody can tell which declaration it is",
        "ics.schema_missing": "the folder of schemas has none for this message, so it cannot be held against one",
        "ics.no_identifier": "neither an identifier nor a named party: kept, and matched by nothing",
        "ics.time_unusable": "no time of preparation: whatever else is known of the declaration counts as newer",
    }
)
"""Reason codes of this format, beside those of the XML reader, the schema and the identifiers."""


class Trader(NamedTuple):
    """The element of a party: its role, and what its leaves are called."""

    role: str
    name: str
    street: str
    postcode: str
    city: str
    country: str
    number: str
    language: str


TRADERS: Final[Mapping[str, Trader]] = MappingProxyType(
    {
        "TRACONCO1": Trader(
            "consignor", "NamCO17", "StrAndNumCO122", "PosCodCO123", "CitCO124", "CouCO125", "TINCO159", "NADLNGCO"
        ),
        "TRACONCE1": Trader(
            "consignee", "NamCE17", "StrAndNumCE122", "PosCodCE123", "CitCE124", "CouCE125", "TINCE159", "NADLNGCE"
        ),
        "NOTPAR670": Trader(
            "notifyParty", "NamNOTPAR672", "StrNumNOTPAR673", "PosCodNOTPAR676", "CitNOTPAR674", "CouCodNOTPAR675",
            "TINNOTPAR671", "NOTPAR670LNG",
        ),
        "TRAREP": Trader(
            "representative", "NamTRE1", "StrAndNumTRE1", "PosCodTRE1", "CitTRE1", "CouCodTRE1", "TINTRE1", "TRAREPLNG"
        ),
        "PERLODSUMDEC": Trader(
            "declarant", "NamPLD1", "StrAndNumPLD1", "PosCodPLD1", "CitPLD1", "CouCodPLD1", "TINPLD1",
            "PERLODSUMDECLNG",
        ),
        "TRACARENT601": Trader(
            "carrier", "NamTRACARENT604", "StrNumTRACARENT607", "PstCodTRACARENT606", "CtyTRACARENT603",
            "CouCodTRACARENT605", "TINTRACARENT602", "TRACARENT601LNG",
        ),
    }
)  # fmt: skip
"""Parties of a declaration."""
ITEM_TRADERS: Final[Mapping[str, Trader]] = MappingProxyType(
    {
        "TRACONCO2": Trader(
            "consignor", "NamCO27", "StrAndNumCO222", "PosCodCO223", "CitCO224", "CouCO225", "TINCO259", "NADLNGGTCO"
        ),
        "TRACONCE2": Trader(
            "consignee", "NamCE27", "StrAndNumCE222", "PosCodCE223", "CitCE224", "CouCE225", "TINCE259", "NADLNGGICE"
        ),
        "PRTNOT640": Trader(
            "notifyParty", "NamPRTNOT642", "StrNumPRTNOT646", "PstCodPRTNOT644", "CtyPRTNOT643", "CouCodGINOT647",
            "TINPRTNOT641", "PRTNOT640LNG",
        ),
    }
)  # fmt: skip
"""Parties of a goods item."""

# The identity of a means has no type: the mode of transport says what number it is. On a ship of mode 10 or 11 the
# vehicle is declared, as its nationality shows, which only these and the road have.
MODES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "1": ("sea", "10"),
        "2": ("rail", "20"),
        "3": ("road", "30"),
        "4": ("air", "41"),
        "8": ("inland waterway", "80"),
        "10": ("ro-ro accompanied", "30"),
        "11": ("ro-ro unaccompanied", "30"),
    }
)
"""Mode of transport at the border -> word, and type of identification of the means (``MEANS_TYPES``)."""


def _trader(group: str, trader: Trader) -> dict[str, bool]:
    *read, left = trader[1:]
    return under(group, paths(" ".join(read), left))


PATHS: Final[Mapping[str, bool]] = MappingProxyType(
    {
        **paths(
            "DatOfPreMES9 TimOfPreMES10",
            "MesSenMES3 MesRecMES6 PriMES15 TesIndMES18 MesIdeMES19 MesTypMES20 CorIdeMES25",
        ),
        **under(
            "HEAHEA",
            paths(
                "RefNumHEA4 DocNumHEA5 TraModAtBorHEA76 IdeOfMeaOfTraCroHEA85 NatOfMeaOfTraCroHEA87 NatHEA001 "
                "ConRefNumHEA PlaLoaGOOITE334 PlaUnlGOOITE334 DecDatTimHEA114 DatTimAmeHEA113",
                "IdeOfMeaOfTraCroHEA85LNG TotNumOfIteHEA305 TotNumOfPacHEA306 TotGroMasHEA307 DecPlaHEA394 "
                "DecPlaHEA394LNG AmdPlaHEA598 AmdPlaHEA598LNG SpeCirIndHEA1 TraChaMetOfPayHEA1 ComRefNumHEA "
                "PlaLoaGOOITE334LNG CodPlUnHEA357LNG DecRegDatTimHEA115 AmeAccDatTimHEA111 NotDatTimHEA104 "
                "DecSubDatTimHEA118",
            ),
        ),
        **{path: read for group, trader in TRADERS.items() for path, read in _trader(group, trader).items()},
        **under("ITI", paths("CouOfRouCodITI1")),
        **under("CUSOFFLON", paths("RefNumCOL1")),
        **under("SEAID529", paths("SeaIdSEAID530", "SeaIdSEAID530LNG")),
        **under("CUSOFFFENT730", paths("RefNumCUSOFFFENT731 ExpDatOfArrFIRENT733")),
        **under("CUSOFFSENT740", paths("RefNumSUBENR909")),
        **paths("", "CUSINT632"),
        **under(
            _ITEM,
            {
                **paths(
                    "GooDesGDS23 PlaLoaGOOITE333 PlaUnlGOOITE333",
                    "IteNumGDS7 GooDesGDS23LNG GroMasGDS46 MetOfPayGDI12 ComRefNumGIM1 UNDanGooCodGDI1 "
                    "PlaLoaGOOITE333LNG PlaUnlGOOITE333LNG SPEMENMT2",
                ),
                **under("PRODOCDC2", paths("DocTypDC21 DocRefDC23", "DocRefDCLNG")),
                **{
                    path: read
                    for group, trader in ITEM_TRADERS.items()
                    for path, read in _trader(group, trader).items()
                },
                **under("COMCODGODITM", paths("ComNomCMD1")),
                **under("CONNR2", paths("ConNumNR21")),
                **under("IDEMEATRAGI970", paths("NatIDEMEATRAGI973 IdeMeaTraGIMEATRA971", "IdeMeaTraGIMEATRA972LNG")),
                **under(
                    "PACGS2", paths("MarNumOfPacGSL21", "KinOfPacGS23 NumOfPacGS24 NumOfPieGS25 MarNumOfPacGSL21LNG")
                ),
            },
        ),
    }
)
"""Every element of the messages that are read, and whether it is read: what it is does not depend on the message."""
TABLES: Final[Mapping[str, Node]] = MappingProxyType(
    {
        name: table(
            name, (p for p, read in PATHS.items() if read), skipped=(p for p, read in PATHS.items() if not read)
        )
        for name in MESSAGES
    }
)


def read(stream: BinaryIO, *, file: str, schemas: Path | None = None) -> Iterator[Item]:
    """Read the message of a file, or the messages of an envelope.

    Nothing in the input raises. A message that was cut yields no record, since a record is a whole declaration.

    Args:
        stream: Seekable and binary; read from where it stands to its end.
        file: Display name, for issues.
        schemas: Folder with ``CC315A-v11-2.xsd`` and its like; a message that breaks its schema is then not taken in.

    Returns:
        The issues of a message, its record, what the message ends.

    Raises:
        ConfigError: If ``schemas`` holds no usable schema of a message.

    Cost: one pass, one more with ``schemas`` or with an envelope.
    """
    if (refusal := refuse(stream, file=file)) is not None:
        yield refusal
        return
    start = stream.tell()
    probe = XmlMessage(stream, file=file)
    name = _NAMES.get(probe.root_name)
    if name is None:
        yield from _in_envelope(stream, probe, schemas)
        return
    if name not in MESSAGES:
        yield Issue(file, probe.root_line, f"/{name}", "ics.unsupported_message", rejects_record=True)
        return
    if schemas is not None:
        schema = _schema(schemas, name)
        violations = () if schema is None else validate(stream, schema, file=file).issues
        stream.seek(start)
        yield from violations
        if schema is None or violations:
            yield _refused(schema, name, file, probe.root_line)
            return
    xml = XmlMessage(stream, file=file, units={_ITEM})
    message = _Message(name, file)
    node = TABLES[name].at(_ITEM)
    for element in xml.units():
        message.goods_item(xml.frame(element, node))
    if xml.root is not None and xml.cut is None:
        message.declaration(xml.frame(xml.root, TABLES[name]))
    yield from xml.notices
    if xml.cut is not None:
        yield replace(xml.cut, rejects_record=True)
        return
    yield from message.told(xml.digest())


def _in_envelope(stream: BinaryIO, probe: XmlMessage, schemas: Path | None) -> Iterator[Item]:
    """Read the messages that stand in another document, whatever that is."""
    file, start = probe.file, stream.tell()
    digest = probe.digest()
    stream.seek(start)
    xml = XmlMessage(stream, file=file, units=_NAMES)
    count = 0
    for element in xml.units():
        count += 1
        name = _NAMES[str(element.tag)]
        line = line_of(element)
        if name not in MESSAGES:
            yield Issue(file, line, f"/{name}", "ics.unsupported_message", rejects_record=True)
            continue
        if schemas is not None:
            schema = _schema(schemas, name)
            violations = [] if schema is None else check(element, schema, file=file)
            yield from violations
            if schema is None or violations:
                yield _refused(schema, name, file, line)
                continue
        message = _Message(name, file)
        frame = xml.frame(element, TABLES[name])
        for item in frame.all(_ITEM):
            message.goods_item(item)
        message.declaration(frame)
        yield from message.told(digest)
    yield from xml.notices
    if xml.cut is not None:
        yield replace(xml.cut, rejects_record=xml.cut_in_unit or not count)
    elif not count:
        yield Issue(file, probe.root_line, "/*", "ics.unsupported_message", rejects_record=True)


def _schema(schemas: Path, name: str) -> Schema | None:
    """Return the schema of a message; None where the folder has only those of other messages."""
    has = [each for each in MESSAGES if any(schemas.rglob(f"{each}*.xsd"))]
    if has and name not in has:
        return None
    return load_schema(schemas, f"{name}-v11-2.xsd", f"{name}-v10-0.xsd", f"{name}*.xsd")


def _refused(schema: Schema | None, name: str, file: str, line: int | None) -> Issue:
    code = "ics.schema_missing" if schema is None else "xsd.rejected"
    return Issue(file, line, f"/{name}", code, rejects_record=True)


def _moment(text: str, form: str) -> datetime | None:
    """Return a time of a message, None if it is none. It has no zone, and is read as UTC."""
    try:
        return datetime.strptime(text, form).replace(tzinfo=UTC)
    except ValueError:
        return None


class _Message:
    """What is known of a message."""

    def __init__(self, name: str, file: str) -> None:
        self.name = name
        self.file = file
        self.head = Declaration(file)
        self.goods = Declaration(file)
        self.reference = Reference("", "")
        self.version = 0
        self.line: int | None = None
        self._vehicles: list[tuple[Found, str]] = []
        """Means that goods items name, with their nationality: the header says of what kind they are."""

    def goods_item(self, item: Frame) -> None:
        """Take in a goods item."""
        draft = self.goods
        draft.note(Field.GOODS_DESCRIPTION, item.text("GooDesGDS23"))
        draft.free_text(item.found("GooDesGDS23"))
        for name in ("PlaLoaGOOITE333", "PlaUnlGOOITE333"):
            draft.note(Field.PLACE, item.text(name))
        for document in item.all("PRODOCDC2"):
            number, type_code = document.found("DocRefDC23"), document.text("DocTypDC21").upper()
            if type_code in TRANSPORT_DOCUMENT_TYPES:
                draft.transport_document(number, type_code=type_code, role="transportDocument")
            else:
                draft.free_text(number)
        for code in item.all("COMCODGODITM"):
            draft.note(Field.HS6, code.text("ComNomCMD1")[:6])
        for box in item.all("CONNR2"):
            for identifier in draft.equipment(box.found("ConNumNR21"), ()):
                draft.add(identifier, line=box.line)
        for package in item.all("PACGS2"):
            draft.free_text(package.found("MarNumOfPacGSL21"))
        for means in item.all("IDEMEATRAGI970"):
            if (found := means.found("IdeMeaTraGIMEATRA971")) is not None and len(self._vehicles) < MAX_IDENTIFIERS:
                self._vehicles.append((found, means.text("NatIDEMEATRAGI973")))
        _take_traders(draft, item, ITEM_TRADERS)

    def declaration(self, root: Frame) -> None:
        """Take in what stands outside the goods items, once these are through."""
        draft = self.head
        self.line = root.line
        _take_traders(draft, root, TRADERS)
        if (header := root.first("HEAHEA")) is not None:
            self._header(header)
            lodging = root.first("PERLODSUMDEC")
            trader = "" if lodging is None else lodging.text("TINPLD1") or lodging.text("NamPLD1")
            self.reference = reference(header.text("DocNumHEA5"), header.text("RefNumHEA4"), trader)
        for seal in draft.equipment(None, _found(root, "SEAID529", "SeaIdSEAID530")):
            draft.add(seal, line=root.line)
        for country in _found(root, "ITI", "CouOfRouCodITI1"):
            draft.note(Field.ROUTE, country.text)
        for group, name in (
            ("CUSOFFLON", "RefNumCOL1"),
            ("CUSOFFFENT730", "RefNumCUSOFFFENT731"),
            ("CUSOFFSENT740", "RefNumSUBENR909"),
        ):
            for office in _found(root, group, name):
                draft.note(Field.PLACE, office.text)
        for arrival in _found(root, "CUSOFFFENT730", "ExpDatOfArrFIRENT733"):
            if (expected := _moment(arrival.text, "%Y%m%d%H%M")) is not None:
                draft.note(Field.ETA, f"{expected:%Y-%m-%dT%H:%M}")
        self._date(root, header)

    def _header(self, header: Frame) -> None:
        draft = self.head
        draft.identify(IdentifierType.MRN, header.found("DocNumHEA5"))
        draft.note(Field.MRN, header.text("DocNumHEA5"))
        mode = header.text("TraModAtBorHEA76").lstrip("0")
        word, type_code = MODES.get(mode, ("", ""))
        if word:
            draft.note(Field.MEANS, f"mode {word}")
        number = header.found("IdeOfMeaOfTraCroHEA85")
        if number is not None and type_code == "10" and len(number.text) == 8 and number.text.isdecimal():
            # At sea it is the number of a ship, or of a vessel of inland waterways, which has eight digits.
            type_code = "80"
        draft.means(
            number,
            type_code=type_code,
            nationality=header.text("NatOfMeaOfTraCroHEA87") or header.text("NatHEA001"),
            role="activeBorderTransportMeans",
            type_path=header.path_of("TraModAtBorHEA76"),
        )
        for vehicle, nationality in self._vehicles:
            draft.means(
                vehicle,
                # Vehicles that are carried, but for trains and aircraft, which carry none.
                type_code=type_code if type_code in {"20", "41"} else "31",
                nationality=nationality,
                role="passiveBorderTransportMeans",
                type_path=header.path_of("TraModAtBorHEA76"),
            )
        if conveyance := header.text("ConRefNumHEA"):
            draft.note(Field.MEANS, f"conveyance {conveyance}")
        for name in ("PlaLoaGOOITE334", "PlaUnlGOOITE334"):
            draft.note(Field.PLACE, header.text(name))

    def _date(self, root: Frame, header: Frame | None) -> None:
        time = _moment(root.text("DatOfPreMES9") + root.text("TimOfPreMES10"), "%y%m%d%H%M")
        if time is None and header is not None:
            time = _moment(header.text("DatTimAmeHEA113") or header.text("DecDatTimHEA114"), "%Y%m%d%H%M")
        if time is None:
            path = root.path_of("DatOfPreMES9")
            self.head.report("ics.time_unusable", line=root.line_of("DatOfPreMES9"), path=path)
        self.version = version_of(time, MESSAGES[self.name])

    def told(self, digest: bytes) -> Iterator[Record | Issue | Supersession]:
        """Yield what the message says.

        Args:
            digest: Of the whole file.
        """
        whole = merge((self.head, self.goods))
        yield from (*self.head.issues, *self.goods.issues, *whole.issues)
        if not self.reference.key:
            path = f"/{self.name}/HEAHEA"
            yield Issue(self.file, self.line, path, "ics.reference_missing", rejects_record=True)
            return
        source_ref = self.reference.key + ("/outcome" if self.name in OUTCOMES else "")
        if not whole.identifiers and not whole.parties:
            yield Issue(self.file, self.line, f"/{self.name}", "ics.no_identifier", rejects_record=False)
        yield Record(
            source=SourceSystem.ICS,
            source_ref=source_ref,
            category=CATEGORY,
            identifiers=tuple(whole.identifiers.values()),
            fields=filled(whole.fields),
            message_digest=digest,
            parties=tuple(whole.parties),
            message_ref=source_ref,
            version=self.version,
        )
        if self.name in OUTCOMES:
            yield from self.reference.link(SourceSystem.ICS)
        else:
            yield self.reference.supersession(SourceSystem.ICS, self.version)


def _found(root: Frame, group: str, name: str) -> Iterator[Found]:
    for each in root.all(group):
        if (found := each.found(name)) is not None:
            yield found


def _take_traders(draft: Declaration, part: Frame, traders: Mapping[str, Trader]) -> None:
    for group, trader in traders.items():
        for each in part.all(group):
            postcode, city = each.text(trader.postcode), each.text(trader.city)
            lines = tuple(filter(None, (each.text(trader.street), " ".join(filter(None, (postcode, city))))))
            draft.party(
                trader.role,
                path=each.path,
                name=each.text(trader.name),
                number=each.found(trader.number),
                address=Address(lines, each.text(trader.country), city, postcode),
            )


FORMATS = (
    Format(
        "ics-xml",
        SourceSystem.ICS,
        Kind.XML,
        "ICS entry summary declarations, first release: " + ", ".join(MESSAGES),
        _ENVELOPES | frozenset(_NAMES) | {name.partition("}")[0] + "}*" for name in _NAMES},
        lambda stream, file, schemas: read(stream, file=file, schemas=schemas),
    ),
)
