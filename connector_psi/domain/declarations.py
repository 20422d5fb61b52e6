"""The parts that customs declarations have in common, and what each yields: the EU customs data model.

Decides: which number a means of transport carries (code list CL750), which contacts are matched, what of a party, a
means, a container and a document becomes an identifier, a party and a disclosable value.
Leaves to others: where these stand in a message (each adapter), canonical forms (``domain.identifiers``).

Source: EU customs data model, Commission Delegated Regulation (EU) 2015/2446 Annex B; code lists CL750 and CL219 for
means of transport, UN/EDIFACT 3155 for communication.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from connector_psi.domain.drafts import Draft, Found
from connector_psi.domain.records import Field, Identifier, IdentifierType, Party, PartyKind

MEANS_TYPES: Mapping[str, tuple[str, IdentifierType | None]] = MappingProxyType(
    {
        "10": ("imo", IdentifierType.IMO),
        "11": ("vessel_name", None),
        "20": ("wagon", None),
        "21": ("train", None),
        "30": ("plate", IdentifierType.PLATE),
        "31": ("plate", IdentifierType.PLATE),
        "40": ("flight", None),
        "41": ("aircraft", IdentifierType.AIRCRAFT),
        "80": ("eni", IdentifierType.ENI),
        "81": ("vessel_name", None),
    }
)
"""Type of identification -> label and identifier type; None where there is nothing to match by.

A name is carried by many ships, a wagon is in one train today and in another tomorrow, a flight number is used daily.
"""

COMMUNICATION_TYPES: Mapping[str, IdentifierType] = MappingProxyType(
    {"EM": IdentifierType.EMAIL, "TE": IdentifierType.PHONE}
)
"""Type of communication -> identifier type; fax and telex numbers are not matched."""

PERSON_TYPES: Mapping[str, PartyKind] = MappingProxyType(
    {"1": PartyKind.PERSON, "2": PartyKind.ORGANISATION, "3": PartyKind.ORGANISATION}
)
"""Type of person: natural, legal, association of persons."""


class Address(NamedTuple):
    """Where a party is."""

    lines: Sequence[str] = ()
    """As one writes it, without the country; empty ones are left out."""
    country: str = ""
    city: str = ""
    """Stands in a line too."""
    postcode: str = ""
    """Stands in a line too."""

    def __str__(self) -> str:
        return ", ".join(filter(None, (*self.lines, self.country)))


class Declaration(Draft):
    """A record under construction that stands in a customs declaration."""

    __slots__ = ()

    def party(
        self,
        role: str,
        *,
        path: str,
        name: str = "",
        number: Found | None = None,
        kind: PartyKind = PartyKind.UNKNOWN,
        address: Address = Address(),  # noqa: B008 - it cannot change
        contacts: Iterable[tuple[IdentifierType | None, Found]] = (),
    ) -> None:
        """Take in a party: its number, name, address and what it can be reached at.

        Args:
            role: The name of its element: ``consignee``, ``carrier`` ...
            path: Where it stands.
            name: As declared.
            number: EORI or a third country's number in that form.
            kind: What it is, where the message says so.
            address: Its address; a national telephone number is read as one of its country.
            contacts: Each with the type that it is matched by, or None.
        """
        if number is not None:
            self.identify(IdentifierType.EORI, number, role=role)
        lines, country, city, postcode = address
        if name or lines:
            written = str(address)
            if written:
                self.note(Field.PARTY_ADDRESSES, f"{role}: {written}")
            if name:
                self.note(Field.PARTY_NAMES, f"{role}: {name}")
                # By position, as thousands are made a second: no aliases, birth, nationalities or gender.
                self.involve(Party(role, kind, name, path, (), "", "", (), "", written, country, city, postcode))
        for type_, contact in contacts:
            self.note(Field.PARTY_CONTACTS, f"{role}: {contact.text}")
            if type_ is IdentifierType.PHONE:
                self.identify(type_, contact, role=role, country=country)
            elif type_ is not None:
                self.identify(type_, contact, role=role)

    def means(self, number: Found | None, *, type_code: str, nationality: str, role: str, type_path: str) -> None:
        """Take in a means of transport by the kind of number that it says it has.

        Args:
            number: Its number.
            type_code: Of ``MEANS_TYPES``.
            nationality: Country of its register, alpha-2; a plate without one is a plate of an unknown country.
            role: The name of its element.
            type_path: Where the type stands, for the issue if it is unknown.
        """
        if number is None:
            return
        label, type_ = MEANS_TYPES.get(type_code, ("", None))
        self.note(Field.MEANS, " ".join(filter(None, (label, number.text, nationality))))
        if not label:
            self.report("means.type_unknown", line=number.line, path=type_path)
        elif type_ is IdentifierType.PLATE and not nationality:
            self.identify(IdentifierType.PLATE_NUMBER, number, role=role)
        elif type_ is IdentifierType.PLATE:
            self.identify(type_, number, role=role, country=nationality)
        elif type_ is not None:
            self.identify(type_, number, role=role)

    def equipment(self, container: Found | None, seals: Iterable[Found]) -> list[Identifier]:
        """Return a container and its seals, noted and not yet taken in: whose they are is the caller's to say.

        The container comes first, if it has a canonical form.
        """
        found = []
        if container is not None:
            identifier = self.normalised(IdentifierType.CONTAINER, container)
            if identifier is not None:
                found.append(identifier)
            self.note(Field.GOODS_IDENTIFIERS, f"container {identifier.value if identifier else container.text}")
        for seal in seals:
            identifier = self.normalised(IdentifierType.SEAL, seal)
            if identifier is not None:
                found.append(identifier)
            self.note(Field.GOODS_IDENTIFIERS, f"seal {seal.text}")
        return found

    def transport_document(self, number: Found | None, *, type_code: str, role: str) -> None:
        """Take in a transport document: bill of lading, air waybill, CMR."""
        if number is not None:
            self.note(Field.GOODS_IDENTIFIERS, " ".join(filter(None, ("transport_document", type_code, number.text))))
            self.identify(IdentifierType.TRANSPORT_DOCUMENT, number, role=role)

    def free_text(self, found: Found | None) -> None:
        """Take in what a description, marks or additional information certainly hold."""
        for identifier in self.search_text(found):
            if identifier.type in _GOODS_TYPES:
                self.note(Field.GOODS_IDENTIFIERS, f"{identifier.type.value} {identifier.value}")


_GOODS_TYPES = frozenset({IdentifierType.VIN, IdentifierType.CONTAINER})
