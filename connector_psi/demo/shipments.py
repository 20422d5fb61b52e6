"""Draws the declarations of the samples: what is shipped, by whom, in what, and which number one record alone has.

Decides: how many declarations of which kind, and what stands in each. Leaves to others: which of it somebody else knows
(``sought``), how a declaration is written (``declarations``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from connector_psi.demo import words
from connector_psi.demo.declarations import Declaration, House, Item, Means, Party
from connector_psi.demo.numbers import Number, Numbers
from connector_psi.demo.words import Place
from connector_psi.domain.records import IdentifierType

GROUPAGE, SEA, VEHICLE, ROAD, AIR = 12, 95, 20, 50, 23
DECLARATIONS = GROUPAGE + SEA + VEHICLE + ROAD + AIR
HOUSES = (20, 60)
_START = datetime(2026, 9, 1, 6, 0, tzinfo=UTC)


class Shipments:
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
        gross_kg = packages * self._random.randrange(5, 25)
        return Item(goods, packages, gross_kg, f"{mark} 1-{packages}", containers=containers)

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

    def _groupage(self, serial: int, _nth: int) -> Declaration:
        """Three containers for dozens of consignees: one has the first to itself, the others share."""
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


def _stamp(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")
