"""Identifiers of every type to be planted, and the files of every format that they are planted in."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from connector_psi.domain.identifiers import normalise
from connector_psi.domain.records import IdentifierType
from tests import adapter_samples as xml

T = IdentifierType


@dataclass(frozen=True)
class Planted:
    """One identifier."""

    type: IdentifierType
    written: str
    """As its source writes it."""
    canonical: str
    context: Mapping[str, str] = field(default_factory=dict)
    """What completes it, as ``normalise`` takes it."""

    @property
    def texts(self) -> set[str]:
        """Every text that would give it away."""
        bare = self.canonical.rpartition("/")[2].rpartition(":")[2].removeprefix("+")
        if self.type is T.PAYMENT_CARD:
            # The masked form alone is kept; a part of it is too short to give a card away.
            bare = self.canonical
        return {self.written, self.canonical, bare}


def plant(seed: str, count: int) -> Iterator[dict[IdentifierType, Planted]]:
    """``count`` bundles of one identifier of each type; no identifier is in two bundles."""
    rng = random.Random(seed)
    used: set[str] = set()

    def letters(n: int) -> str:
        return "".join(rng.choices("ABCDEFGHKLMNPRSTUVWXYZ", k=n))

    def fresh(kind: IdentifierType) -> Planted:
        while True:
            made = _make(kind, rng, letters)
            if made.canonical not in used:
                used.add(made.canonical)
                return made

    for _ in range(count):
        yield {kind: fresh(kind) for kind in IdentifierType}


def _make(kind: IdentifierType, rng: random.Random, letters: Any) -> Planted:
    def digits(n: int) -> str:
        return f"{rng.randrange(10**n):0{n}d}"

    context: dict[str, str] = {}
    match kind:
        case T.CONTAINER:
            number = normalise(kind, f"{letters(3)}U{digits(6)}", complete_check_digit=True)
            written = f"{number[:4].lower()} {number[4:10]}-{number[10]}"
        case T.PLATE:
            written, context = f"B-{letters(2)} {rng.randrange(1000, 10000)}", {"country": "DE"}
        case T.VIN:
            # Not all digits, and no check digit: European numbers have none.
            written = f"WVWZZZ{letters(5)}{digits(6)}"
        case T.IMO:
            body = f"{rng.randrange(1, 10)}{digits(5)}"
            written = f"IMO {body}{sum(int(d) * (7 - i) for i, d in enumerate(body)) % 10}"
        case T.AIRCRAFT:
            written = f"D-{letters(2)}{digits(2)}{letters(2)}"
        case T.IDENTITY_DOCUMENT:
            written, context = f"{digits(2)}{letters(2)}{digits(5)}", {"country": "FR", "document_type": "P"}
        case T.MRN:
            written = f"26BE{digits(6)}{letters(5)}{digits(3)}"
        case T.TRANSPORT_DOCUMENT:
            written = f"{letters(4)}/{digits(8)}"
        case T.SEAL:
            written = f"SL-{letters(2)}{digits(7)}"
        case T.EORI:
            written = f"NL{digits(9)}"
        case T.VAT:
            body = f"0{digits(7)}"
            number = f"{body}{97 - int(body) % 97:02d}"
            written = f"BE {number[:4]}.{number[4:7]}.{number[7:]}"
        case T.PHONE:
            number = digits(6)
            written = f"+32 470 {number[:2]} {number[2:4]} {number[4:]}"
        case T.EMAIL:
            written = f"{letters(5).title()}.{letters(6).title()}@Example.ORG"
        case T.ENI:
            written = f"ENI 02{digits(6)}"
        case T.MMSI:
            written = f"2{digits(2)} {digits(3)} {digits(3)}"
        case T.HULL:
            written, context = f"FR-{letters(3)}{digits(5)}-A3-{99 - rng.randrange(60)}", {"country": "FR"}
        case T.LEI:
            body = f"2138{letters(10)}{digits(4)}"
            written = body + f"{98 - int(''.join(str(int(c, 36)) for c in body + '00')) % 97:02d}"
        case T.WEBSITE:
            written = f"https://www.{letters(9).lower()}.example.org/x"
        case T.IBAN:
            body = f"{digits(8)}{digits(10)}"
            written = f"DE{98 - int(body + '131400') % 97:02d}{body}"
        case T.PAYMENT_CARD:
            written = f"4{digits(5)}******{digits(4)}"
        case T.IMEI:
            written = normalise(kind, f"35{digits(12)}", complete_check_digit=True)
        case T.BANKNOTE:
            written, context = f"X{digits(11)}", {"currency": "EUR", "denomination": "50"}
        case T.FIREARM:
            written, context = f"{letters(3)}-{digits(6)}", {"make": "Colt", "calibre": "9x19"}
        case T.ENGINE | T.COMPONENT | T.INDUSTRIAL_EQUIPMENT | T.ITEM:
            written, context = f"{letters(4)} {digits(8)}", {"make": "Bosch"}
        case T.SERIAL:
            written = f"{letters(5)}-{digits(7)}"
        case T.VIN_LAST8:
            written = f"{letters(2)}{digits(6)}"
        case T.PLATE_NUMBER:
            written = f"{letters(3)} {digits(6)}"
        case T.POSTAL_ITEM:
            body = digits(8)
            left = 11 - sum(int(d) * w for d, w in zip(body, (8, 6, 4, 2, 3, 5, 9, 7), strict=True)) % 11
            written = f"RR{body}{ {10: 0, 11: 5}.get(left, left) }DE"
        case T.RECEPTACLE:
            written = f"DEFRAAUSJFKAAUN3{digits(4)}{digits(3)}10{digits(4)}"
    canonical = normalise(kind, written, **context)  # type: ignore[arg-type]  # words alone
    return Planted(kind, written, canonical, context)


# --- ENS --------------------------------------------------------------------------------------------------------------


_DESCRIBED = (
    T.MMSI, T.HULL, T.LEI, T.WEBSITE, T.IBAN, T.PAYMENT_CARD, T.IMEI, T.BANKNOTE, T.FIREARM, T.ENGINE, T.COMPONENT,
    T.INDUSTRIAL_EQUIPMENT, T.ITEM, T.SERIAL, T.VIN_LAST8, T.PLATE_NUMBER, T.POSTAL_ITEM,
)  # fmt: skip


def house(position: int, bundle: dict[IdentifierType, Planted]) -> str:
    """A house consignment that holds one identifier of each type."""
    w = {kind: planted.written for kind, planted in bundle.items()}
    kinds = (("10", T.IMO), ("30", T.PLATE), ("41", T.AIRCRAFT), ("80", T.ENI))
    means = "".join(
        f"<passiveBorderTransportMeans><identificationNumber>{w[kind].removeprefix('IMO ').removeprefix('ENI ')}</identificationNumber>"
        f"<typeOfIdentification>{code}</typeOfIdentification><nationality>DE</nationality></passiveBorderTransportMeans>"
        for code, kind in kinds
    )
    return xml.house(
        position,
        f"<MRN>{w[T.MRN]}</MRN>",
        xml.equipment(w[T.CONTAINER], w[T.SEAL]),
        xml.document(w[T.TRANSPORT_DOCUMENT]),
        means,
        f"<consignee><name>Somebody</name><identificationNumber>{w[T.EORI]}</identificationNumber>"
        f"<communication><identifier>{w[T.PHONE]}</identifier><type>TE</type></communication>"
        f"<communication><identifier>{w[T.EMAIL]}</identifier><type>EM</type></communication></consignee>",
        f"<additionalFiscalReferences><VATIdentificationNumber>{w[T.VAT]}</VATIdentificationNumber></additionalFiscalReferences>",
        f"<receptacle><receptacleIdentificationNumber>{w[T.RECEPTACLE]}</receptacleIdentificationNumber></receptacle>",
        f"<goodsItem><commodity><descriptionOfGoods>car, VIN {w[T.VIN]}, with passport FR {w[T.IDENTITY_DOCUMENT]}"
        # What an ENS has no element for stands where somebody would write it.
        f" {' '.join(w[kind] for kind in _DESCRIBED)}</descriptionOfGoods></commodity></goodsItem>",
    )


def declarations(bundles: Sequence[dict[IdentifierType, Planted]]) -> bytes:
    """An ENS with a house for each bundle."""
    return xml.ens(*(house(n, bundle) for n, bundle in enumerate(bundles, 1)))


# --- SIS and EIS ------------------------------------------------------------------------------------------------------

_SIS = {
    T.CONTAINER: ("g", "container", "container_number"),
    T.VIN: ("a", "vehicle", "vin"),
    T.VIN_LAST8: ("a", "vehicle", "vin_last8"),
    T.PLATE: ("b", "trailer", "plate"),
    T.PLATE_NUMBER: ("b", "trailer", "plate"),
    T.IMO: ("e", "boat", "imo"),
    T.ENI: ("e", "boat", "eni"),
    T.MMSI: ("e", "boat", "mmsi"),
    T.HULL: ("e", "boat", "hull_number"),
    T.AIRCRAFT: ("h", "aircraft", "aircraft_registration"),
    T.INDUSTRIAL_EQUIPMENT: ("d", "industrial_equipment", "serial_number"),
    T.ENGINE: ("f", "boat_engine", "serial_number"),
    T.FIREARM: ("j", "firearm", "serial_number"),
    T.IDENTITY_DOCUMENT: ("l", "issued_document", "document_number"),
    T.BANKNOTE: ("n", "banknote", "serial_number"),
    T.IMEI: ("o", "it_item", "imei"),
    T.COMPONENT: ("p", "vehicle_component", "serial_number"),
    T.ITEM: ("r", "high_value_object", "serial_number"),
    T.SERIAL: ("r", "high_value_object", "serial_number"),
}
_EIS = {
    T.PHONE: ("phone", "phone_number"),
    T.EMAIL: ("email", "email_address"),
    T.WEBSITE: ("website", "website"),
    T.VAT: ("company", "vat_number"),
    T.EORI: ("company", "eori"),
    T.LEI: ("company", "lei"),
    T.IBAN: ("bank_account", "iban"),
    T.PAYMENT_CARD: ("payment_card", "card_number"),
    T.CONTAINER: ("container", "container_number"),
}
SOUGHT_TYPES, KNOWN_TYPES = frozenset(_SIS), frozenset(_EIS)
"""What SIS has alerts on, and what Europol knows."""
_CONTEXT_KEYS = {
    T.PLATE: {"country": "plate_country"},
    T.HULL: {"country": "hull_country"},
    T.IDENTITY_DOCUMENT: {"country": "document_country", "document_type": "document_type"},
}


def _object(kind: str, key: str, planted: Planted) -> dict[str, str]:
    names = _CONTEXT_KEYS.get(planted.type, {})
    return {
        "type": kind,
        key: planted.written,
        **{names.get(word, word): text for word, text in planted.context.items()},
    }


def alerts(bundles: Sequence[dict[IdentifierType, Planted]]) -> Iterator[dict[str, Any]]:
    """SIS alerts, one for each identifier that can be sought; ``EX-<bundle>-<type>``."""
    for n, bundle in enumerate(bundles):
        for kind, (letter, name, key) in _SIS.items():
            yield xml.alert(schengen_id=f"EX-{n}-{kind}", category=letter, object=_object(name, key, bundle[kind]))


def entities(bundles: Sequence[dict[IdentifierType, Planted]]) -> Iterator[dict[str, Any]]:
    """EIS entities, likewise."""
    for n, bundle in enumerate(bundles):
        for kind, (name, key) in _EIS.items():
            yield xml.entity(eis_ref=f"EU-{n}-{kind}", entity=_object(name, key, bundle[kind]), handling_codes=["H1"])


# --- What fails -------------------------------------------------------------------------------------------------------


def broken_lines(system: str, bundles: Sequence[dict[IdentifierType, Planted]]) -> bytes:
    """Lines of JSON of which none can be used whole, with identifiers wherever a reader might quote them."""
    lines: list[Any] = []
    for bundle in bundles:
        values = [planted.written for planted in bundle.values()]
        good = {"sis": xml.alert, "eis": xml.entity}[system]
        thing = {"sis": "object", "eis": "entity"}[system]
        for value in values:
            # Each type's number where a container's is wanted, as a key, as a word of a closed list, as a reference.
            lines += [
                good(**{thing: {"type": "container", "container_number": f"{value} {value}"}}),
                good(**{thing: {"type": value, "container_number": value}}),
                good(**{thing: {"type": "container", "container_number": [value]}}),
                {**good(), value: value},
                good(article=value, subject_class=value, evaluation_code=value),
                good(warnings=[value], handling_codes=[value], valid_until=value, issuing_state=value),
                value,
            ]
        text = json.dumps(good(sirene_contact=values[0], provider=values[0]))
        lines += [text[:-9].encode() + b"\n", f'{{"{values[1]}": "{values[2]}", "{values[1]}": 1}}\n'.encode()]
        lines += [b"\xff" + values[3].encode() + b"\n", b"\0" + values[4].encode() + b"\n"]
    return xml.jsonl(*lines)


def broken_table(bundles: Sequence[dict[IdentifierType, Planted]]) -> bytes:
    """CSV with identifiers in its header, in cells of closed lists, and in a quote that does not close."""
    values = [planted.written for bundle in bundles for planted in bundle.values()]
    head = "schengen_id,issuing_state,article,category,object_type,container_number,action,sirene_contact"
    rows = [f"{head},{values[0]},{values[1]}"]
    rows += [f"{v},{v},{v},{v},{v},{v},{v},{v},{v},{v}" for v in values]
    rows += [f'X{n},DE,38,g,container,{v},seizure,"{v},,\n{v}' for n, v in enumerate(values)]
    return "\n".join(rows).encode()


def broken_messages(bundles: Sequence[dict[IdentifierType, Planted]]) -> Iterator[bytes]:
    """ENS messages that break in different ways, each full of identifiers."""
    for bundle in bundles:
        values = [planted.written for planted in bundle.values()]
        whole = declarations([bundle])
        mail = bundle[T.EMAIL].canonical.partition("@")[0]
        yield whole.replace(b"</consignee>", b"</consignor>")
        yield whole[: whole.index(b"</consignee>") - 3]
        yield f'<!DOCTYPE x [<!ENTITY e "{values[0]}">]>'.encode() + whole.partition(b"?>")[2]
        yield whole.replace(b"IE4R05", b"IE3F10").replace(b"<MRN>", f"<{mail}>".encode())
        yield whole.replace(b"consignee>", f"{mail}>".encode())
        yield whole.replace(b"UTF-8", b"UTF-7")
        yield whole.replace(b"Somebody", b"\xff\xfe")
        # Every number in the element of another.
        turned = values[1:] + values[:1]
        yield declarations(
            [{k: Planted(k, f"{v} {v}", p.canonical) for (k, p), v in zip(bundle.items(), turned, strict=True)}]
        )
