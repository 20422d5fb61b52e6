"""The vocabulary of the node in the words of people: states, events, identifiers, fields, purposes, obligations.

Data and one class. What the vocabulary means decide the modules that it is of; purposes, fields and the like in English
are those of ``pack.words``. All texts here are keys of the catalogues.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from connector_psi.audit.entries import Event
from connector_psi.console.language import Language
from connector_psi.domain.purposes import CATEGORIES, HandlingCode, LegalBasis, Purpose
from connector_psi.domain.records import Field, IdentifierType
from connector_psi.pack import words
from connector_psi.pki import Role, person_id

_BY_CODE: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "match": {
            "new": "to be reviewed",
            "confirmed": "confirmed, a hit",
            "dismissed": "dismissed",
            "gone": "no longer there",
        },
        "case": {
            "drafted": "about to be sent",
            "pending": "waiting for the owner",
            "disclosed": "disclosed",
            "not_disclosed": "not disclosed",
            "expired": "expired",
            "received": "received",
            "awaiting_decision": "waiting for a decision here",
            "approved": "approved, leaves at the next slot",
            "refused": "refused",
            "auto_refused": "refused by the policy",
            "lapsed": "nobody decided in time",
            "released": "answered",
            "erased": "erased",
        },
        "access": {
            "drafted": "about to be sent",
            "pending": "waiting for the owner",
            "granted": "granted",
            "queried": "granted, and asked",
            "not_granted": "not granted",
            "expired": "expired",
            "awaiting_decision": "waiting for a decision here",
            "approved": "approved, leaves at the next slot",
            "refused": "refused",
            "lapsed": "nobody decided in time",
        },
        "recall": {
            "open": "to be acknowledged",
            "sending": "being sent",
            "sent": "sent",
            "acknowledged": "acknowledged",
        },
        "cause": {
            "record_withdrawn": "the record was withdrawn",
            "record_changed": "the record changed",
            "data_wrong": "a person found the data wrong",
        },
        "effect": {
            "received": "received",
            "erased": "erased",
            "replaced": "replaced",
            "superseded": "a later recall holds",
            "nothing_held": "nothing was held",
        },
        "side": {"querier": "asks", "owner": "answers"},
        "change": {
            "amended": "amended",
            "rerouted": "re-routed",
            "arrived": "arrived",
            "left": "left: withdrawn, or its time is over",
        },
        "grade": {"adequate": "adequate", "thin": "thin", "inadequate": "inadequate"},
        "hold": {"placed": "in force", "released": "released", "lapsed": "lapsed"},
        "sample": {"open": "to be graded", "graded": "graded"},
        "set": {
            "preparing": "being made",
            "published": "in use",
            "mapped": "in use",
            "turning": "records are evaluated anew",
            "superseded": "superseded, still answers",
            "destroyed": "ended",
            "retired": "ended",
        },
        "clock": {"good": "right", "behind": "behind", "jumped": "jumped"},
        "status": {"enabled": "enabled", "pilot": "pilot", "blocked": "blocked"},
        "condition": {code.value: text for code, text in words.CONDITION_WORDS.items()},
        "step": {"ok": "holds", "failed": "FAILS", "unknown": "cannot be told now"},
        "severity": {"info": "for information", "notice": "look at it", "warning": "look at it soon"},
        "kind": {
            "sequential_identifiers": "identifiers that run on",
            "unusual_lookups": "unusual look-ups",
            "hit_rate": "unusual hit rates",
            "unfollowed_matches": "what nothing followed",
            "outside_office_pattern": "work at unusual times",
        },
        "difference": {
            "newly_allows": "newly allows",
            "no_longer_allows": "no longer allows",
            "changes": "changes",
        },
        "alarm": {
            "case.answer_overdue": "A case is not answered in time.",
            "recall.acknowledgement_overdue": "A recall is not acknowledged in time.",
            "peer.log_forked": "The log of a peer signed two histories. Nothing is exchanged with it.",
            "outbox.parked": "Something for a peer failed again and again, and is not sent by itself any more.",
            "epoch.unfinished": "A set ended before all records were evaluated anew.",
            "clock.behind": "The clock is behind.",
            "clock.jumped": "The clock jumped.",
        },
        "queue": {
            "case": "cases",
            "outcome": "outcomes of cases",
            "access": "requests for access",
            "access_answer": "answers to requests for access",
            "recall": "recalls",
            "acknowledgement": "acknowledgements",
        },
        "way": {"certificate": "certificate", "account": "account", "oidc": "single sign-on"},
        "obligation": {
            "erase_after": "Erase it when its time is over.",
            "no_onward_transfer": "Pass it on to nobody.",
            "person_decides": "Decide nothing against anybody by it alone: a person decides.",
            "seize_and_contact": "Seize the object, or use it as evidence, and contact the issuing state at once.",
            "contact_provider": "Contact the provider before you act on it.",
            "not_as_evidence": "Do not use it as evidence without the provider's permission.",
            "keep_discreet": "Let nobody outside this authority learn of it, nor anybody at the owner's desk.",
        },
        "handling": {
            **{code.value: text for code, text in words.HANDLING_WORDS.items()},
            HandlingCode.H0.value: "H0: no restriction beyond the law",
            HandlingCode.H1.value: "H1: not as evidence without the provider's permission",
            HandlingCode.H2.value: "H2: not passed on without the provider's permission",
            HandlingCode.H3.value: "H3: other restrictions of the provider",
        },
        "role": {
            Role.OFFICER.value: "case officer",
            Role.SUPERVISOR.value: "supervisor",
            Role.DPO.value: "data protection officer",
            Role.AUDITOR.value: "auditor",
            Role.ADMIN.value: "administrator",
            Role.SYSTEM.value: "system",
        },
        "profile": {code.value: text for code, text in words.ROLE_WORDS.items()},
        "purpose": {code.value: text for code, text in words.PURPOSE_WORDS.items()},
        "band": {code.value: text for code, text in words.BAND_WORDS.items()},
        "corroborator": {code.value: text for code, text in words.CORROBORATOR_WORDS.items()},
        "category": dict(CATEGORIES),
        "event": {
            Event.COLLECT.value: "records collected",
            Event.ALTER.value: "record altered",
            Event.CONSULT.value: "query",
            Event.REVIEW.value: "match reviewed",
            Event.CASE_OPEN.value: "case opened",
            Event.CASE_OUTCOME.value: "case answered",
            Event.RECEIPT.value: "answer received",
            Event.RECALL.value: "recall",
            Event.ERASE.value: "disclosure erased",
            Event.POLICY_CHANGE.value: "policy changed",
            Event.KEY_EPOCH.value: "key of an epoch",
            Event.SET_PUBLISH.value: "set published",
            Event.SET_DELETE.value: "set deleted",
            Event.LOG_READ.value: "log read",
            Event.EXPORT.value: "log exported",
            Event.HOLD.value: "hold",
            Event.PURGE.value: "bodies erased",
            Event.CONFIG.value: "settings",
            Event.CLOCK.value: "clock",
        },
        "field": {name.value: words.field_words(name) for name in Field},
        "type": {
            IdentifierType.CONTAINER.value: "container number",
            IdentifierType.PLATE.value: "registration plate",
            IdentifierType.VIN.value: "vehicle identification number",
            IdentifierType.IMO.value: "IMO number of a ship",
            IdentifierType.AIRCRAFT.value: "registration of an aircraft",
            IdentifierType.IDENTITY_DOCUMENT.value: "identity document",
            IdentifierType.MRN.value: "movement reference number",
            IdentifierType.TRANSPORT_DOCUMENT.value: "transport document",
            IdentifierType.SEAL.value: "seal",
            IdentifierType.EORI.value: "EORI number",
            IdentifierType.VAT.value: "VAT number",
            IdentifierType.PHONE.value: "telephone number",
            IdentifierType.EMAIL.value: "e-mail address",
            IdentifierType.ENI.value: "European number of a vessel",
            IdentifierType.MMSI.value: "MMSI of a ship",
            IdentifierType.HULL.value: "hull identification number",
            IdentifierType.LEI.value: "legal entity identifier",
            IdentifierType.WEBSITE.value: "website",
            IdentifierType.IBAN.value: "IBAN",
            IdentifierType.PAYMENT_CARD.value: "payment card",
            IdentifierType.IMEI.value: "IMEI of a telephone",
            IdentifierType.BANKNOTE.value: "banknote",
            IdentifierType.FIREARM.value: "firearm",
            IdentifierType.ENGINE.value: "engine number",
            IdentifierType.COMPONENT.value: "part of a vehicle",
            IdentifierType.INDUSTRIAL_EQUIPMENT.value: "industrial equipment",
            IdentifierType.ITEM.value: "object of high value",
            IdentifierType.SERIAL.value: "serial number",
            IdentifierType.VIN_LAST8.value: "last eight of a vehicle identification number",
            IdentifierType.PLATE_NUMBER.value: "registration plate without its country",
            IdentifierType.POSTAL_ITEM.value: "postal item",
            "person_name": "name of a person",
            "company_name": "name of a company",
        },
        "class": {
            "object": "things",
            "contact": "contacts",
            "organisation": "organisations",
            "person": "persons",
        },
    }
)


def vocabulary() -> Mapping[str, Mapping[str, str]]:
    """Return all words by kind and code, in English: the keys of the catalogues."""
    return _BY_CODE


class Words:
    """The vocabulary in a language.

    Args:
        told: The language.
    """

    def __init__(self, told: Language) -> None:
        self._text = told.text

    def __call__(self, kind: str, code: object) -> str:
        """Return a code in words; the code itself where there are none."""
        found = _BY_CODE[kind].get(str(code))
        return self._text(found) if found is not None else str(code)

    def list(self, kind: str, codes: Iterable[object]) -> str:
        """Return codes in words, with commas, each once."""
        return ", ".join(dict.fromkeys(self(kind, code) for code in codes))

    def roles(self, told: str) -> str:
        """Return roles in words, as ``pack.words`` joins them."""
        return " / ".join(self._text(role) for role in told.split(" or "))

    def fields(self, told: str) -> str:
        """Return fields in words, as ``pack.matrix`` joins them."""
        return ", ".join(self._text(name) for name in told.split(", "))

    @staticmethod
    def basis(code: str) -> str:
        """Return a legal basis as it is cited."""
        try:
            return words.basis_words([LegalBasis(code)])
        except ValueError:
            return code

    @staticmethod
    def person(uri: str) -> str:
        """Return the id of a person, from their URI."""
        return person_id(uri)

    def purpose_of(self, purpose: Purpose) -> str:
        """Return a purpose in words."""
        return self("purpose", purpose.value)
