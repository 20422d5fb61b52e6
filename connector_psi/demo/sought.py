"""Draws what SIS and Europol look for: first things that were declared to customs, then everything else.

Decides: the 12 shared things, the near misses, and the mix of the rest. Leaves to others: what was declared
(``shipments``), how lines are written to files (``samples``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from connector_psi.demo import words
from connector_psi.demo.numbers import Number, Numbers, made
from connector_psi.demo.plan import CROSS_CHECK, EUROPOL, OBJECTS, SIS, NearMiss, Pair
from connector_psi.demo.shipments import Shipments
from connector_psi.domain.records import IdentifierType

ALERTS = 5_000
ENTITIES = 1_000

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


class Sought:
    """Enters alerts and entities: first those about something that was declared, then others."""

    def __init__(self, random: Random, numbers: Numbers, shipments: Shipments) -> None:
        self._random = random
        self._draw = numbers
        self._shipments = shipments
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
        alone = self._shipments.alone[kind]
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
            own = [self._own(number)]
            if object_type == "vehicle":
                # The register knows both numbers of a car, the declaration one.
                own.append(self._draw.vin() if kind is t.PLATE else self._draw.plate())
            self._share(OBJECTS, number, ref, self._alert(object_type, own, warnings=["armed"]))
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
        for right, ref in self._shipments.misread:
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
            word, trade = self._random.choice(words.NOWHERE_WORDS), self._random.choice(words.OTHER_TRADES)
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
