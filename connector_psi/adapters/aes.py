"""Reads export declarations of AES, message CC515C, UNVERIFIED: bytes -> one record per declaration.

No public schema or sample of this message was found. Its element names are taken to be those of the EU customs data
model, of which the transit system NCTS has public schemas; the parts that transit lacks (``ExportOperation``,
``GoodsShipment``, ``GoodsItem``, ``Exporter``, ``Declarant``) follow the names of the model's data groups. Nothing here
was held against a message that AES sent. Because the namespace is not known either, the root is accepted in any, and
what is below it in the same one or in none. What the table does not have is reported with its line, so that a first
real message shows where this module is wrong.

A *record* is one declaration: export has no house level. It is named by its local reference number; later messages
about it, which would name an MRN, are not read.

Decides: where the message is taken to keep what it declares, and how a record is named.
Leaves to others: what the elements yield (``domain.movements``), parsing safely (``adapters.xml``).

Source: Commission Delegated Regulation (EU) 2015/2446, Annex B; schemas of NCTS phases 5 and 6 for the names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Final

from connector_psi.adapters.xml import Frame, Node, XmlMessage, load_schema, refuse, table, validate
from connector_psi.domain.drafts import MAX_IDENTIFIERS, filled, merge
from connector_psi.domain.intake import Format, Item, Kind
from connector_psi.domain.movements import (
    BORDER,
    CONSIGNMENT,
    GOODS,
    PARTY,
    Movement,
    Reference,
    equipment,
    moment,
    paths,
    reference,
    under,
)
from connector_psi.domain.records import Field, IdentifierType, Issue, Rank, Record, SourceSystem, version_of

CATEGORY: Final = "aes.export"
MESSAGE: Final = "CC515C"
# Recognised without being named as AES; guessed from those of ICS and NCTS.
NAMESPACES: Final = ("http://aes.dgtaxud.ec", "http://ecs.dgtaxud.ec", "http://ncts.dgtaxud.ec")

CODES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "aes.unsupported_message": "no CC515C",
        "aes.reference_missing": "no LRN, so nobody can tell which declaration it is",
        "aes.goods_missing": "a declaration without GoodsShipment",
        "aes.no_identifier": "neither an identifier nor a named party: kept, and matched by nothing",
        "aes.time_unusable": "no time of preparation: whatever else is known of the declaration counts as newer",
    }
)
"""Reason codes of this format, beside those of the XML reader, the schema and the identifiers."""

_GOODS: Final = "GoodsShipment"
_ITEM: Final = "GoodsItem"
_OFFICE = paths("referenceNumber")
PATHS: Final[Mapping[str, bool]] = MappingProxyType(
    {
        **paths(
            "preparationDateAndTime",
            "messageSender messageRecipient messageIdentification messageType correlationIdentifier",
        ),
        **under(
            "ExportOperation",
            paths(
                "LRN MRN",
                "declarationType additionalDeclarationType security specificCircumstanceIndicator "
                "totalAmountInvoiced invoiceCurrency presentationOfTheGoodsDateAndTime",
            ),
        ),
        **paths("", "Authorisation CurrencyExchange DeferredPayment"),
        **under("CustomsOfficeOfExport", _OFFICE),
        **under("CustomsOfficeOfExitDeclared", _OFFICE),
        **under("CustomsOfficeOfPresentation", _OFFICE),
        **under("SupervisingCustomsOffice", _OFFICE),
        **under("Exporter", PARTY),
        **under("Declarant", PARTY),
        **under("Representative", {**PARTY, **paths("", "status")}),
        **under(_GOODS, {**CONSIGNMENT, **paths("countryOfExport", "natureOfTransaction DeliveryTerms Warehouse")}),
        **under(f"{_GOODS}/Consignment", {**CONSIGNMENT, **BORDER}),
        **under(
            f"{_GOODS}/{_ITEM}",
            {
                **CONSIGNMENT,
                **GOODS,
                **paths(
                    "countryOfExport",
                    "declarationGoodsItemNumber statisticalValue natureOfTransaction Procedure Origin "
                    "Commodity/CalculationOfTaxes",
                ),
            },
        ),
    }
)
"""Every element that the message is taken to have, and whether it is read."""


@lru_cache(maxsize=16)
def table_of(namespace: str) -> Node:
    """Return the table of the message for elements in a namespace, or in none."""
    return table(
        MESSAGE,
        (path for path, read in PATHS.items() if read),
        skipped=(path for path, read in PATHS.items() if not read),
        namespace=namespace,
    )


TABLE: Final = table_of("")


def read(stream: BinaryIO, *, file: str, schemas: Path | None = None) -> Iterator[Item]:
    """Read one declaration.

    Nothing in the input raises. A message that was cut yields no record, since a record is the whole declaration.

    Args:
        stream: The message, seekable and binary; read from where it stands to its end.
        file: Display name, for issues.
        schemas: Folder with ``cc515c.xsd``, which the operator has to have; a message that breaks it is not taken in.

    Returns:
        The issues of the message, its record, what the message ends.

    Raises:
        ConfigError: If ``schemas`` holds no usable ``cc515c.xsd``.

    Cost: one pass, one more with ``schemas``.
    """
    if (refusal := refuse(stream, file=file)) is not None:
        yield refusal
        return
    start = stream.tell()
    namespace, _, name = XmlMessage(stream, file=file).root_name.rpartition("}")
    namespace = namespace.removeprefix("{")
    xml = XmlMessage(stream, file=file, units={_ITEM, f"{{{namespace}}}{_ITEM}"})
    if name != MESSAGE:
        yield Issue(file, xml.root_line, "/*", "aes.unsupported_message", rejects_record=True)
        return
    if schemas is not None:
        violations = validate(stream, load_schema(schemas, "cc515c.xsd", "CC515C*.xsd"), file=file)
        stream.seek(start)
        yield from violations.issues
        if violations.issues:
            yield Issue(file, xml.root_line, f"/{MESSAGE}", "xsd.rejected", rejects_record=True)
            return

    goods = Movement(file)
    for element in xml.units():
        node = TABLE if element.tag == _ITEM else table_of(namespace)
        goods.take(xml.frame(element, node.at(f"{_GOODS}/{_ITEM}")))
    if xml.root is None or xml.cut is not None:
        yield from xml.notices
        if xml.cut is not None:
            yield replace(xml.cut, rejects_record=True)
        return
    first = next(iter(xml.root), None)
    qualified = first is not None and str(first.tag).startswith("{")
    root = xml.frame(xml.root, table_of(namespace) if qualified else TABLE)
    yield from xml.notices
    yield from _declaration(root, goods, xml.digest(), file)


def _declaration(root: Frame, goods: Movement, digest: bytes, file: str) -> Iterator[Item]:
    head = Movement(file)
    head.take(root)
    pieces = [piece.draft for piece in islice(equipment(root, file=file), MAX_IDENTIFIERS)]
    time = moment(root.text("preparationDateAndTime"))
    if time is None:
        path = root.path_of("preparationDateAndTime")
        head.report("aes.time_unusable", line=root.line_of("preparationDateAndTime"), path=path)
    name = _name(root, head)
    whole = merge((head, *pieces, goods))
    for draft in (head, *pieces, goods, whole):
        yield from draft.issues
    if not name.key:
        yield Issue(file, root.line, f"{root.path}/ExportOperation", "aes.reference_missing", rejects_record=True)
        return
    if root.first(_GOODS) is None:
        yield Issue(file, root.line, root.path_of(_GOODS), "aes.goods_missing", rejects_record=True)
        return
    version = version_of(time, Rank.ORIGINAL)
    if not whole.identifiers and not whole.parties:
        yield Issue(file, root.line, root.path, "aes.no_identifier", rejects_record=False)
    yield Record(
        source=SourceSystem.AES,
        source_ref=name.key,
        category=CATEGORY,
        identifiers=tuple(whole.identifiers.values()),
        fields=filled(whole.fields),
        message_digest=digest,
        parties=tuple(whole.parties),
        message_ref=name.key,
        version=version,
    )
    yield name.supersession(SourceSystem.AES, version)


def _name(root: Frame, head: Movement) -> Reference:
    operation = root.first("ExportOperation")
    if operation is None:
        return Reference("", "")
    head.identify(IdentifierType.MRN, operation.found("MRN"))
    head.note(Field.MRN, operation.text("MRN"))
    lodged_by = [each for name in ("Declarant", "Exporter") if (each := root.first(name)) is not None]
    names = [text for each in lodged_by for key in ("identificationNumber", "name") if (text := each.text(key))]
    return reference(operation.text("MRN"), operation.text("LRN"), names[0] if names else "")


FORMATS = (
    Format(
        "aes-xml",
        SourceSystem.AES,
        Kind.XML,
        f"AES export declarations, message {MESSAGE} (unverified: no public schema)",
        frozenset({MESSAGE, *(f"{{{namespace}}}{MESSAGE}" for namespace in NAMESPACES)}),
        lambda stream, file, schemas: read(stream, file=file, schemas=schemas),
    ),
)
