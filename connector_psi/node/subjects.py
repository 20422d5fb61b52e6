"""What was processed, matched and disclosed about an identifier: the annex of an answer to a data subject.

Rules:

1. Only whom the policy's purpose of data subjects' rights names may search. The entry that says so is durable before
   anything is found; it holds a keyed hash of the identifier, and neither the identifier nor what was found in clear.
2. What the policy restricts is left out without a trace: an annex about somebody of whom only such data are held is the
   annex about somebody of whom none are.
3. So is what an agreement without notice to its owner made of the owner's records: whoever answers here knows nothing
   of it.
4. The annex names categories, fields, purposes, recipients and times. It repeats no value: those are copied from the
   system of record, by people who have read them.
"""

from __future__ import annotations

from datetime import UTC, date
from typing import Any, Final

from connector_psi import disclosure, policy
from connector_psi.audit.entries import Event
from connector_psi.domain.identifiers import normalise
from connector_psi.domain.purposes import CATEGORIES, Handling, Purpose, Status
from connector_psi.domain.records import IdentifierType
from connector_psi.domain.rights import REGIMES, answer_due
from connector_psi.errors import InputError, NormalisationError, PurposeRefusedError
from connector_psi.node.node import OWNER, QUERIER, Node, from_millis
from connector_psi.pack import words
from connector_psi.pki import PersonIdentity
from connector_psi.storage import cases, queried, recalls, records
from connector_psi.storage.cases import CaseRow
from connector_psi.storage.queried import MatchRow
from connector_psi.storage.records import FoundRecord
from connector_psi.storage.store import Tx

MAX_REFERENCE: Final = 200
MAX_RECORDS: Final = 1_000
"""Of one annex; who needs more asks the system of record."""
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


class Subjects:
    """Use cases of whoever answers data subjects."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def search(
        self, kind: str, value: str, person: PersonIdentity, *, reference: str = "", received: date | None = None
    ) -> dict[str, Any]:
        """Return the annex about an identifier, JSON-able.

        Args:
            kind: Type of the identifier; empty to try every type of which it has the form.
            value: In any form that a canonical form can be made of.
            person: Who asks.
            reference: Of the request, in the authority's files; sealed in the log.
            received: When the request came; today where nothing is said.

        Raises:
            PurposeRefusedError: The policy's purpose of data subjects' rights does not name the person's role.
            InputError: An unknown type, or a value that has no canonical form of it; the text names the rule, and never
                the value.
        """
        node = self._node
        node.check_alive()
        own = self._purpose(person)
        if len(reference) > MAX_REFERENCE:
            raise InputError("reference: more than 200 characters")
        wanted = _canonical(kind, value)
        with node.store.write() as tx:
            found = [
                (identifier, held)
                for identifier, canonical in wanted
                for held in records.naming(node.store, tx, identifier, canonical, MAX_RECORDS)
            ]
            shown = {held.id: held for _, held in found if held.record.category not in own.restricts}
            processing = [self._record(tx, held, own) for held in shown.values()]
            node.append(
                tx,
                Event.CONSULT,
                {
                    "operation": "consultation",
                    "code": own.code,
                    "actor": person.uri,
                    "reference": reference,
                    "identifier_types": [identifier.value for identifier, _ in wanted],
                    "identifiers": [node.store.index_of("asked", i.value, v).hex() for i, v in wanted],
                    "records": [f"{held.record.source.value}/{held.record.source_ref}" for _, held in found],
                    "told": len(processing),
                },
                purpose=own.purpose.value,
            )
        return self._annex([identifier.value for identifier, _ in wanted], processing, reference, received)

    def _purpose(self, person: PersonIdentity) -> policy.OwnPurpose:
        for own in self._node.pack.own:
            if (
                own.purpose is Purpose.DATA_SUBJECT_RIGHTS
                and own.status is not Status.BLOCKED
                and person.role.value in {role.value for role in own.people}
            ):
                return own
        raise PurposeRefusedError("the policy lets nobody of this role answer data subjects")

    def _annex(
        self, kinds: list[str], processing: list[dict[str, Any]], reference: str, received: date | None
    ) -> dict[str, Any]:
        node = self._node
        regime = REGIMES[node.config.node.role]
        came = received or node.clock.now().astimezone(UTC).date()
        due = answer_due(regime, came)
        return {
            "authority": node.authority,
            "reference": reference,
            "identifier_types": kinds,
            "received": came.isoformat(),
            "answer_due": due.isoformat() if due else "",
            "answer_due_source": regime.due_source,
            "law": regime.law,
            "rights": list(regime.rights),
            "complaint": regime.authority,
            "processing": processing,
            "before_sending": sorted({note for each in processing for note in each.pop("notes")}),
        }

    def _record(self, tx: Tx, held: FoundRecord, own: policy.OwnPurpose) -> dict[str, Any]:
        node, record = self._node, held.record
        matches = [
            match
            for match in queried.matches_of_record(node.store, tx, held.id)
            if match.payload.get("category") not in own.restricts
        ]
        received = [
            self._received(row) for match in matches for row in cases.cases_of_match(node.store, tx, match.match_id)
        ]
        notes = [note for each in received if (note := each.pop("note"))]
        return {
            "source": record.source.value,
            "reference": record.source_ref,
            "category": record.category,
            "category_means": CATEGORIES[record.category],
            "state": held.state,
            "since": _when(held.registered_ms),
            "changed": _when(held.changed_ms),
            "until": record.valid_until.strftime(_TIME) if record.valid_until else "",
            "identifier_types": sorted({identifier.type.value for identifier in record.identifiers}),
            "parties": len(record.parties),
            "fields": sorted(name.value for name in record.fields),
            "compared": self._compared(record.category),
            "matches": [_match(match) for match in matches],
            "received": received,
            "disclosed": self._disclosed(tx, held),
            "notes": notes,
        }

    def _compared(self, category: str) -> list[dict[str, Any]]:
        """Under which agreements a record of this category is compared: of every record alike, match or none."""
        found = []
        for bound in self._node.agreements():
            terms = bound.agreement
            asks = bound.side is QUERIER
            if category not in (terms.querier_categories if asks else terms.categories):
                continue
            found.append(
                {
                    "agreement": bound.code,
                    "with": bound.peer,
                    "who_learns": self._node.authority if asks else bound.peer,
                    "purpose": words.PURPOSE_WORDS[terms.purpose],
                    "legal_basis": words.basis_words(terms.legal_basis),
                    "fields": sorted(words.field_words(name) for name in terms.disclose),
                }
            )
        return found

    def _received(self, row: CaseRow) -> dict[str, Any]:
        outcome = row.payload.get("outcome", {})
        erased = row.payload.get("erased", {})
        given = outcome.get("outcome") == disclosure.Outcome.DISCLOSED
        sis = given and Handling.SIS_PURPOSE_BOUND.value in outcome.get("handling", ())
        return {
            "agreement": row.agreement,
            "from": row.peer,
            "purpose": row.payload["purpose"],
            "asked": _when(row.opened_ms),
            "state": row.state,
            "fields": sorted(outcome.get("fields", {})) or erased.get("fields", []),
            "erase_after": outcome.get("erase_after", ""),
            "erased": erased.get("at", ""),
            "note": (
                f"{row.agreement}: ask {row.peer} for its position before telling of what it disclosed "
                "(2018/1862, Article 67(2))"
                if sis
                else ""
            ),
        }

    def _disclosed(self, tx: Tx, held: FoundRecord) -> list[dict[str, Any]]:
        node = self._node
        found = []
        for bound in node.agreements(OWNER):
            if disclosure.is_silent(bound.agreement):
                continue
            for release in recalls.releases_of_record(node.store, tx, bound.code, held.id):
                row = cases.get_case(node.store, tx, cases.OWNER, release.peer, release.request_id)
                told = recalls.recalls_of_case(node.store, tx, cases.OWNER, release.peer, release.request_id)
                if row is None:
                    continue
                found.append(
                    {
                        "agreement": row.agreement,
                        "to": row.peer,
                        "purpose": row.payload["purpose"],
                        "legal_basis": row.payload["legal_basis"],
                        "on": _when(row.payload["served_ms"]),
                        "fields": sorted(row.payload["released"]),
                        "erase_after": row.payload["erase_after"],
                        "recalls": [
                            {
                                "sent": _when(recall.sent_ms),
                                "kind": "withdrawal" if recall.payload["outcome"] != "DISCLOSED" else "correction",
                                "state": recall.state,
                                "effect": recall.payload.get("acknowledged", {}).get("effect", ""),
                            }
                            for recall in told
                        ],
                    }
                )
        return found


def _canonical(kind: str, value: str) -> list[tuple[IdentifierType, str]]:
    if kind:
        try:
            wanted = IdentifierType(kind)
        except ValueError:
            raise InputError(f"type: one of {', '.join(sorted(IdentifierType))}") from None
        try:
            return [(wanted, normalise(wanted, value))]
        except NormalisationError as error:
            raise InputError(f"identifier: no {kind}: {error.reason}") from None
    found = []
    for each in IdentifierType:
        try:
            found.append((each, normalise(each, value)))
        except NormalisationError:
            continue
    if not found:
        raise InputError("identifier: of no type that is known; name one to see which rule it breaks")
    return found


def _match(match: MatchRow) -> dict[str, Any]:
    return {
        "agreement": match.agreement,
        "found": _when(match.found_ms),
        "state": match.state,
        "identifier_types": sorted(set(match.payload.get("types", ()))),
    }


def _when(ms: int) -> str:
    return from_millis(ms).strftime(_TIME)
