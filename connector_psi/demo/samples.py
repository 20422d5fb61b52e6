"""The samples of the demonstration: 200 declarations, 5,000 alerts, 1,000 entities, 12 things that two of them know.

Customs is drawn first and knows nothing of the others. What is shared is then taken out of the declarations and entered by
SIS or Europol in their own writing; a near miss is the same with one thing wrong. All other numbers differ from one another by
construction (``numbers``), so the planted pairs are all there is to find.

Decides: how many of what, which pairs are planted and which near misses, and what is written to disk. Leaves to others: the forms of
numbers (``numbers``), the form of a declaration (``declarations``), finding anything (the nodes; ``join`` for comparison).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from connector_psi.demo import words
from connector_psi.demo.declarations import Declaration, House, Item, Means, Party, encode_declaration, numbers_in
from connector_psi.demo.numbers import Number, Numbers, made
from connector_psi.demo.words import Place
from connector_psi.domain.records import IdentifierType

CUSTOMS, SIS, EUROPOL = "ics2", "sis", "europol"
OBJECTS, CROSS_CHECK = f"SIS-OBJ:{CUSTOMS}-{SIS}", f"EUR-XCHK:{CUSTOMS}-{EUROPOL}"

GROUPAGE, SEA, VEHICLE, ROAD, AIR = 12, 95, 20, 50, 23
DECLARATIONS = GROUPAGE + SEA + VEHICLE + ROAD + AIR
HOUSES = (20, 60)
ALERTS = 5_000
ALERTS_IN_CSV = 400
ENTITIES = 1_000

_START = datetime(2026, 9, 1, 6, 0, tzinfo=UTC)
_STATES = ("AT", "BE", "BG", "CZ", "DE", "ES", "FR", "GR", "HU", "IT", "NL", "PL", "PT", "RO", "SE", "SI", "SK")
_ALERT_WEIGHTS = {
    "vehicle": 52, "trailer": 7, "caravan": 2, "boat": 5, "container": 10, "aircraft": 2, "issued_document": 15,
    "blank_document": 3, "vehicle_registration": 4,
}  # fmt: skip
_ENTITY_WEIGHTS = {
    "vehicle": 28, "company": 18, "phone": 20, "email": 12, "container": 11, "document": 6, "vessel": 3, "aircraft": 2,
}  # fmt: skip
_POINTS = {
    "vehicle": "a", "trailer": "b", "caravan": "c", "boat": "e", "container": "g", "aircraft": "h",
    "blank_document": "k", "issued_document": "l", "vehicle_registration": "m",
}  # fmt: skip
_OFFENCES = ("theft", "embezzlement", "fraud", "receiving of stolen goods", "robbery")
_HANDLING = (("H0",), ("H0",), ("H1",), ("H2",), ("H2", "H3"), ("H3",), ())
_DOCUMENT_WORDS = {"P": "passport", "I": "id card"}
_KEYS = {
    IdentifierType.CONTAINER: "container_number",
    IdentifierType.PLATE: "plate",
    IdentifierType.VIN: "vin",
    IdentifierType.IMO: "imo",
    IdentifierType.AIRCRAFT: "aircraft_registration",
    IdentifierType.IDENTITY_DOCUMENT: "document_number",
    IdentifierType.PHONE: "phone_number",
    IdentifierType.EMAIL: "email_address",
    IdentifierType.VAT: "vat_number",
    IdentifierType.EORI: "eori",
}
_COUNTRY_KEYS = {
    IdentifierType.PLATE: "plate_country",
    IdentifierType.PHONE: "phone_country",
    IdentifierType.IDENTITY_DOCUMENT: "document_country",
}
_CSV_COLUMNS = (
    "schengen_id", "issuing_state", "article", "category", "object_type", "action", "sirene_contact", "vin", "plate",
    "plate_country", "imo", "container_number", "aircraft_registration", "document_number", "document_type",
    "document_country", "reason", "offence", "warnings", "valid_until", "hidden",
)  # fmt: skip


@dataclass(frozen=True, slots=True, order=True)
class Pair:
    """Something that two authorities know, by the references of their own records."""

    agreement: str
    querier_ref: str
    owner_ref: str
    identifier_type: str


@dataclass(frozen=True, slots=True)
class NearMiss:
    """Two records that resemble each other and must not match."""

    agreement: str
    querier_ref: str
    owner_ref: str
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What was written, and what is hidden in it."""

    seed: int
    files: Mapping[str, tuple[Path, ...]]
    """By authority."""
    planted: tuple[Pair, ...]
    near_misses: tuple[NearMiss, ...]
    numbers: Mapping[str, tuple[Number, ...]] = field(repr=False)
    """Every identifier that stands in the files, as it is written there; by authority."""
    houses: int = 0


def generate(directory: Path, seed: int) -> Plan:
    """Write the samples below a folder; the same seed writes the same bytes.

    Args:
        directory: Made if absent.
        seed: Draws other records and other pairs.

    Cost: 2 seconds.
    """
    random = Random(seed)  # noqa: S311 - samples, no secrets
    numbers = Numbers(random)
    customs = _Customs(random, numbers)
    declarations = list(customs.declarations())
    owners = _Owners(random, numbers, customs)
    owners.plant()
    owners.fill()

    ens = directory / "ens"
    ens.mkdir(parents=True, exist_ok=True)
    messages = []
    for declaration in declarations:
        path = ens / f"{declaration.mrn.value}.xml"
        path.write_bytes(encode_declaration(declaration))
        messages.append(path)
    alerts = [directory / "sis.jsonl", directory / "sis.csv"]
    _write_lines(alerts[0], owners.alerts[ALERTS_IN_CSV:])
    _write_csv(alerts[1], owners.alerts[:ALERTS_IN_CSV])
    entities = [directory / "eis.jsonl"]
    _write_lines(entities[0], owners.entities)
    plan = Plan(
        seed=seed,
        files={CUSTOMS: tuple(messages), SIS: tuple(alerts), EUROPOL: tuple(entities)},
        planted=tuple(sorted(owners.planted)),
        near_misses=tuple(owners.near_misses),
        numbers={
            CUSTOMS: tuple(dict.fromkeys(numbers_in(tuple(declarations)))),
            **{code: tuple(found) for code, found in owners.numbers.items()},
        },
        houses=sum(len(declaration.houses) for declaration in declarations),
    )
    told = {
        "seed": seed,
        "planted": [asdict(pair) for pair in plan.planted],
        "near_misses": [asdict(miss) for miss in plan.near_misses],
    }
    (directory / "planted.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return plan


def _write_lines(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")


def _write_csv(path: Path, alerts: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, _CSV_COLUMNS)
        writer.writeheader()
        for alert in alerts:
            row = {name: value for name, value in alert.items() if name != "object"}
            row |= {name: value for name, value in alert["object"].items() if name != "type"}
            row["object_type"] = alert["object"]["type"]
            row["warnings"] = "|".join(alert.get("warnings", ()))
            row["hidden"] = "true" if alert.get("hidden") else ""
            writer.writerow(row)


class _Customs:
    """Draws declarations, and remembers which number belongs to exactly one record."""

    def __init__(self, random: Random, numbers: Numbers) -> None:
        self._random = random
        self._draw = numbers
        self.alone: dict[IdentifierType, list[tuple[Number, str]]] = {kind: [] for kind in IdentifierType}
        """By type: numbers that one record has and no other, with its reference."""
        self.misread: list[tuple[Number, str]] = []
        """What is right where the declaration has a wrong check digit."""
        self._carriers = [self._company(self._random.choice(words.SEA_ENTRY), "Shipping") for _ in range(15)]
        self._traders = [self._company(self._random.choice(words.SEA_ENTRY)) for _ in range(120)]
        self._shippers = [self._company(self._random.choice(words.SEA_ORIGIN)) for _ in range(90)]
        self._vessels = [self._draw.imo() for _ in range(25)]

    def declarations(self) -> Iterator[Declaration]:
        """Yield all declarations in an order of their own."""
        kinds: list[Callable[[int, int], Declaration]] = [
            *[self._groupage] * GROUPAGE,
            *[self._sea] * SEA,
            *[self._vehicle] * VEHICLE,
            *[self._road] * ROAD,
            *[self._air] * AIR,
        ]
        counts: dict[Callable[[int, int], Declaration], int] = {}
        self._random.shuffle(kinds)
        for serial, kind in enumerate(kinds, 1):
            counts[kind] = counts.get(kind, 0) + 1
            yield kind(serial, counts[kind])

    def _only(self, number: Number, ref: str) -> Number:
        """Note a number that one record alone has."""
        self.alone[number.type].append((number, ref))
        return number

    def _company(self, place: Place, trade: str = "") -> Party:
        word = self._random.choice(words.EXAMPLE_WORDS)
        trade = trade or self._random.choice(words.TRADES)
        contacts = [self._draw.email(word.lower())]
        if self._random.random() < 0.7:
            contacts.append(self._draw.phone())
        return Party(
            name=f"{word} {trade} {words.FORMS[place.country]}",
            place=place,
            street=f"{self._random.choice(words.STREETS)} {self._random.randrange(1, 99)}",
            # Traders outside the Union often have no EORI number.
            eori=self._draw.eori(place.country) if place.postcode else None,
            contacts=tuple(contacts),
        )

    def _buyer(self, entry: Place, ref: str) -> Party:
        """A consignee: of the usual ones, or one that appears this once."""
        if self._random.random() < 0.5:
            return self._random.choice(self._traders)
        company = self._company(entry)
        assert company.eori is not None
        for number in (company.eori, *company.contacts):
            self.alone[number.type].append((number, ref))
        return company

    def _goods(self, *containers: Number) -> Item:
        goods = self._random.choice(words.GOODS)
        packages = self._random.randrange(10, 900)
        mark = "".join(self._random.choice("ABCDEFGH") for _ in range(3))
        return Item(goods, packages, packages * self._random.randrange(5, 25), f"{mark} 1-{packages}", containers=containers)

    def _boxes(self, count: int) -> list[tuple[Number, Number]]:
        return [(self._draw.rewritten(self._draw.container()), self._draw.seal()) for _ in range(count)]

    def _message(self, serial: int, origin: Place, entry: Place, mrn: Number, **rest: Any) -> Declaration:  # noqa: ANN401
        issued = _START + timedelta(minutes=37 * serial)
        fields: dict[str, Any] = {
            "passive": None,
            "carrier": self._random.choice(self._carriers),
            "consignor": self._random.choice(self._shippers),
            "notify": self._random.choice(self._traders) if self._random.random() < 0.4 else None,
            "equipment": (),
        }
        return Declaration(
            serial=serial,
            mrn=mrn,
            issued=_stamp(issued),
            arrival=_stamp(issued + timedelta(hours=self._random.randrange(6, 400))),
            origin=origin,
            entry=entry,
            **(fields | rest),
        )

    def _sea(self, serial: int, nth: int) -> Declaration:
        """Full containers, no houses."""
        origin, entry = self._random.choice(words.SEA_ORIGIN), self._random.choice(words.SEA_ENTRY)
        mrn = self._draw.mrn(entry.country)
        boxes = self._boxes(self._random.randrange(1, 4))
        if nth == 1:
            right = self._draw.container()
            boxes[0] = (self._draw.one_off(right, valid=False), boxes[0][1])
            self.misread.append((right, mrn.value))
        vessel = self._random.choice(self._vessels)
        if nth == 2:
            right = self._draw.imo()
            vessel = self._draw.one_off(right, valid=False)
            self.misread.append((right, mrn.value))
        elif nth < 15:
            vessel = self._only(self._draw.rewritten(self._draw.imo()), mrn.value)
        for container, _ in boxes:
            if container.value:
                self._only(container, mrn.value)
        return self._message(
            serial,
            origin,
            entry,
            mrn,
            circumstance="F11",
            mode="1",
            active=Means(vessel, "10", "1511", "PA"),
            consignee=self._buyer(entry, mrn.value),
            document=self._draw.transport_document("BL"),
            document_type="N704",
            equipment=tuple(boxes),
            items=(self._goods(*(container for container, _ in boxes)),),
        )

    def _groupage(self, serial: int, nth: int) -> Declaration:
        """Three containers that dozens of consignees share; the first one of every other message is one's alone."""
        origin, entry = self._random.choice(words.SEA_ORIGIN), self._random.choice(words.SEA_ENTRY)
        mrn = self._draw.mrn(entry.country)
        boxes = self._boxes(3)
        houses = []
        for number in range(1, self._random.randrange(HOUSES[0], HOUSES[1] + 1) + 1):
            ref = f"{mrn.value}/{number}"
            box = boxes[0][0] if number == 1 else self._random.choice(boxes[1:])[0]
            if self._random.random() < 0.1:
                street = f"{self._random.choice(words.STREETS)} {self._random.randrange(1, 99)}"
                consignee = Party(self._random.choice(words.PEOPLE), entry, street, is_person=True)
            else:
                consignee = self._buyer(entry, ref)
            vat = self._only(self._draw.vat(), ref) if self._random.random() < 0.2 else None
            houses.append(
                House(
                    consignee=consignee,
                    consignor=self._random.choice(self._shippers),
                    items=tuple(self._goods(box) for _ in range(self._random.randrange(1, 3))),
                    document=self._draw.transport_document("HBL"),
                    vat=vat,
                )
            )
        self._only(boxes[0][0], f"{mrn.value}/1")
        return self._message(
            serial,
            origin,
            entry,
            mrn,
            circumstance="F13",
            mode="1",
            active=Means(self._random.choice(self._vessels), "10", "1511", "LR"),
            consignee=self._random.choice(self._traders),
            document=self._draw.transport_document("MBL"),
            document_type="N704",
            equipment=tuple(boxes),
            houses=tuple(houses),
        )

    def _vehicle(self, serial: int, nth: int) -> Declaration:
        """A vehicle or a removal: VIN or passport number in the free text."""
        origin, entry = self._random.choice(words.SEA_ORIGIN), self._random.choice(words.SEA_ENTRY)
        mrn = self._draw.mrn(entry.country)
        if nth % 4 == 0:
            document = self._only(self._draw.document(), mrn.value)
            kind = {"P": "Passport", "I": "ID card"}[document.document_type]
            text = f"Removal goods of the holder of {kind} no. {document.country} {document.written}"
            item = Item(words.EFFECTS, 40, 2200, "REMOVAL 1-40", text, (document,))
        else:
            vin = self._only(self._draw.vin(), mrn.value)
            marks = self._random.choice((f"VIN {vin.written}", "N/M"))
            text = f"Used vehicle, chassis no. {vin.written}"
            item = Item(self._random.choice(words.VEHICLES), 1, 1450, marks, text, (vin,))
        return self._message(
            serial,
            origin,
            entry,
            mrn,
            circumstance="F10",
            mode="1",
            active=Means(self._random.choice(self._vessels), "10", "1513", "LR"),
            consignee=self._buyer(entry, mrn.value),
            document=self._draw.transport_document("BL"),
            document_type="N704",
            items=(item,),
        )

    def _road(self, serial: int, nth: int) -> Declaration:
        """A lorry and its trailer."""
        origin, entry = self._random.choice(words.ROAD_LEGS)
        mrn = self._draw.mrn(entry.country)
        tractor = self._only(self._draw.rewritten(self._draw.plate(origin.country)), mrn.value)
        # France and Italy write alike: some trailers must be from there.
        trailer = self._only(self._draw.rewritten(self._draw.plate("FR" if nth < 6 else "")), mrn.value)
        return self._message(
            serial,
            origin,
            entry,
            mrn,
            circumstance="F50",
            mode="3",
            active=Means(tractor, "30", "3100", tractor.country),
            passive=Means(trailer, "31", "3200", trailer.country),
            consignee=self._buyer(entry, mrn.value),
            document=self._draw.transport_document("CMR"),
            document_type="N730",
            items=tuple(self._goods() for _ in range(self._random.randrange(1, 4))),
        )

    def _air(self, serial: int, nth: int) -> Declaration:
        """Air cargo; two in three name the aircraft, the others the flight."""
        origin, entry = self._random.choice(words.AIR_LEGS)
        mrn = self._draw.mrn(entry.country)
        means = Means(f"XZ{self._random.randrange(1000, 9999)}", "40", "4000", origin.country)
        if nth % 3:
            mark = self._only(self._draw.aircraft(), mrn.value)
            means = Means(mark, "41", "4000", "US")
        return self._message(
            serial,
            origin,
            entry,
            mrn,
            circumstance="F20",
            mode="4",
            active=means,
            consignee=self._buyer(entry, mrn.value),
            document=self._draw.transport_document("AWB"),
            document_type="N741",
            items=(self._goods(),),
        )


class _Owners:
    """Enters alerts and entities: first those about something that was declared, then others."""

    def __init__(self, random: Random, numbers: Numbers, customs: _Customs) -> None:
        self._random = random
        self._draw = numbers
        self._customs = customs
        self.alerts: list[dict[str, Any]] = []
        self.entities: list[dict[str, Any]] = []
        self.numbers: dict[str, list[Number]] = {SIS: [], EUROPOL: []}
        self.planted: list[Pair] = []
        self.near_misses: list[NearMiss] = []
        self._alert_serials = self._random.sample(range(1_000, 99_999), ALERTS)
        self._entity_serials = self._random.sample(range(1_000, 99_999), ENTITIES)

    # What was declared

    def _declared(self, kind: IdentifierType, where: Callable[[Number, str], bool] | None = None) -> tuple[Number, str]:
        """Take a declared number that nothing was made of yet."""
        alone = self._customs.alone[kind]
        places = [place for place, found in enumerate(alone) if where is None or where(*found)]
        return alone.pop(self._random.choice(places))

    def plant(self) -> None:
        """Enter the 12 shared things and what resembles something declared."""
        t = IdentifierType
        for kind, object_type, where in (
            (t.CONTAINER, "container", lambda _, ref: "/" in ref),
            (t.CONTAINER, "container", lambda _, ref: "/" not in ref),
            (t.PLATE, "vehicle", None),
            (t.VIN, "vehicle", None),
            (t.IMO, "boat", None),
            (t.AIRCRAFT, "aircraft", None),
            (t.IDENTITY_DOCUMENT, "issued_document", None),
        ):
            number, ref = self._declared(kind, where)
            self._share(OBJECTS, number, ref, self._alert(object_type, [self._own(number)], warnings=["armed"]))
        for kind, entity_type, handling in (
            (t.PHONE, "phone", ["H1"]),
            (t.EMAIL, "email", ["H0"]),
            (t.VAT, "company", ["H2"]),
            (t.EORI, "company", []),
            (t.CONTAINER, "container", ["H0"]),
        ):
            number, ref = self._declared(kind)
            self._share(CROSS_CHECK, number, ref, self._entity(entity_type, [self._own(number)], handling))
        self._near_alerts()
        self._near_entities()

    def _near_alerts(self) -> None:
        t, draw = IdentifierType, self._draw
        for right, ref in self._customs.misread:
            kind = "container" if right.type is t.CONTAINER else "boat"
            self._miss(OBJECTS, ref, self._alert(kind, [right]), f"{right.type}: one digit off, wrong check digit")
        number, ref = self._declared(t.CONTAINER)
        self._miss(OBJECTS, ref, self._alert("container", [draw.next_box(number)]), "container: another box")
        number, ref = self._declared(t.PLATE, lambda number, _: number.country == "FR")
        abroad = made(t.PLATE, number.value[3:], "IT")
        self._miss(OBJECTS, ref, self._alert("vehicle", [abroad]), "plate: same number, another country")
        number, ref = self._declared(t.PLATE)
        self._miss(OBJECTS, ref, self._alert("trailer", [draw.one_off(number, valid=True)]), "plate: one digit off")
        number, ref = self._declared(t.VIN)
        self._miss(OBJECTS, ref, self._alert("vehicle", [draw.one_off(number, valid=True)]), "vin: one digit off")
        number, ref = self._declared(t.IDENTITY_DOCUMENT)
        other = "AT" if number.country != "AT" else "CZ"
        abroad = made(t.IDENTITY_DOCUMENT, number.written, other, number.document_type)
        self._miss(
            OBJECTS, ref, self._alert("issued_document", [abroad]), "identity_document: same number, another country"
        )
        number, ref = self._declared(t.PLATE)
        alert = self._alert("vehicle", [self._own(number)], article="36", action="discreet_check")
        self._miss(OBJECTS, ref, alert, "plate: Article 36 alert, not for customs")
        number, ref = self._declared(t.CONTAINER)
        alert = self._alert("container", [self._own(number)], hidden=True)
        self._miss(OBJECTS, ref, alert, "container: hidden alert")
        number, ref = self._declared(t.AIRCRAFT)
        alert = self._alert("aircraft", [self._own(number)], valid_until="2020-01-31T00:00:00Z")
        self._miss(OBJECTS, ref, alert, "aircraft: alert that expired")

    def _near_entities(self) -> None:
        t = IdentifierType
        for kind, entity_type in ((t.PHONE, "phone"), (t.EMAIL, "email"), (t.EORI, "company")):
            number, ref = self._declared(kind)
            entity = self._entity(entity_type, [self._draw.one_off(number, valid=True)], ["H0"])
            self._miss(CROSS_CHECK, ref, entity, f"{kind}: one digit off")

    def _share(self, agreement: str, number: Number, ref: str, entry: Mapping[str, Any]) -> None:
        self.planted.append(Pair(agreement, ref, _reference(entry), number.type.value))

    def _miss(self, agreement: str, ref: str, entry: Mapping[str, Any], why: str) -> None:
        self.near_misses.append(NearMiss(agreement, ref, _reference(entry), why))

    def _own(self, number: Number) -> Number:
        """Return a declared number as the owner's register writes it: in its canonical form."""
        own = number.value.partition(":")[2] if number.type is IdentifierType.PLATE else number.value
        own = own.rpartition("/")[2] if number.type is IdentifierType.IDENTITY_DOCUMENT else own
        return made(number.type, own, number.country, number.document_type)

    # Everything else

    def fill(self) -> None:
        """Enter what nobody else knows, and put everything in an order of its own."""
        d = self._draw
        objects: dict[str, Callable[[], list[Number]]] = {
            "vehicle": lambda: [d.vin(), d.plate()],
            "trailer": lambda: [d.vin(), d.plate()],
            "caravan": lambda: [d.plate()],
            "boat": lambda: [d.imo()],
            "vessel": lambda: [d.imo()],
            "container": lambda: [d.container()],
            "aircraft": lambda: [d.aircraft()],
            "issued_document": lambda: [d.document()],
            "blank_document": lambda: [d.document()],
            "document": lambda: [d.document()],
            "vehicle_registration": lambda: [d.plate()],
            "phone": lambda: [d.phone()],
            "email": lambda: [d.email(self._random.choice(words.EXAMPLE_WORDS).lower())],
            "company": lambda: [d.vat(), d.eori(self._random.choice(_STATES))],
        }
        for kind in self._kinds(_ALERT_WEIGHTS, ALERTS - len(self.alerts)):
            more: dict[str, Any] = {}
            if self._random.random() < 0.01:
                more["hidden"] = True
            elif kind in {"vehicle", "boat", "container"} and self._random.random() < 0.05:
                more |= {"article": "36", "action": self._random.choice(("discreet_check", "specific_check"))}
            self._alert(kind, objects[kind](), **more)
        for kind in self._kinds(_ENTITY_WEIGHTS, ENTITIES - len(self.entities)):
            self._entity(kind, objects[kind](), list(self._random.choice(_HANDLING)))
        self._random.shuffle(self.alerts)
        self._random.shuffle(self.entities)

    def _kinds(self, weights: Mapping[str, int], count: int) -> list[str]:
        return self._random.choices(list(weights), list(weights.values()), k=count)

    def _thing(self, authority: str, kind: str, numbers: Sequence[Number]) -> dict[str, Any]:
        self.numbers[authority] += numbers
        thing: dict[str, Any] = {"type": kind}
        for number in numbers:
            thing[_KEYS[number.type]] = number.written
            if number.type in _COUNTRY_KEYS:
                thing[_COUNTRY_KEYS[number.type]] = number.country
            if number.type is IdentifierType.IDENTITY_DOCUMENT:
                thing["document_type"] = _DOCUMENT_WORDS[number.document_type]
        return thing

    def _alert(self, kind: str, numbers: Sequence[Number], **more: Any) -> dict[str, Any]:  # noqa: ANN401
        state = self._random.choice(_STATES)
        point = _POINTS[kind]
        alert: dict[str, Any] = {
            "schengen_id": f"{state}-{self._alert_serials[len(self.alerts)]:05d}-A",
            "issuing_state": state,
            "article": f"38(2)({point})",
            "category": point,
            "object": self._thing(SIS, kind, numbers),
            "action": self._random.choice(("seizure", "evidence")),
            "sirene_contact": f"SIRENE bureau {state}, duty desk",
            "reason": self._random.choice(("stolen", "misappropriated", "lost", "invalidated")),
            "offence": self._random.choice(_OFFENCES),
            "valid_until": f"{self._random.randrange(2029, 2036)}-{self._random.randrange(1, 13):02d}-15T00:00:00Z",
        }
        self.alerts.append(alert | more)
        return self.alerts[-1]

    def _entity(self, kind: str, numbers: Sequence[Number], handling: list[str]) -> dict[str, Any]:
        thing = self._thing(EUROPOL, kind, numbers)
        state = self._random.choice(_STATES)
        if kind == "company":
            word, trade = self._random.choice(words.EXAMPLE_WORDS), self._random.choice(words.TRADES)
            thing |= {"name": f"{word} {trade} {words.FORMS.get(state, 'Ltd')}", "country": state}
            if numbers[0].type is IdentifierType.VAT:
                thing["country"] = numbers[0].value[:2]
        entity: dict[str, Any] = {
            "eis_ref": f"EIS-{self._entity_serials[len(self.entities)]:05d}",
            "provider": f"National unit {state}",
            "entity": thing,
            "evaluation_code": self._random.choice("ABX") + self._random.choice("1234"),
            "subject_class": self._random.choice(("suspect", "convicted", "potential_offender")),
            "case_references": [f"ALPHA-{self._random.randrange(1_000, 9_999)}"],
            "offence": self._random.choice(_OFFENCES),
        }
        if handling:
            entity["handling_codes"] = handling
        self.entities.append(entity)
        return entity


def _reference(entry: Mapping[str, Any]) -> str:
    return str(entry.get("schengen_id") or entry["eis_ref"])


def _stamp(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")
