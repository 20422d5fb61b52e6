"""What was processed, matched and disclosed about an identifier: the annex of an answer to a data subject.

Rules:

1. Only whom the policy's purpose of data subjects' rights names may search. The entry that says so is durable before
   anything is told; it holds a keyed hash of the identifier, and neither the identifier nor what was found in clear.
2. What the policy restricts is left out without a trace, before anything is read or counted: an annex about somebody of
   whom only such data are held is the annex about somebody of whom none are.
3. So is what an agreement without notice to its owner made of the owner's records: whoever answers here knows nothing
   of it.
4. The annex names categories, fields, purposes, recipients and times. It repeats no value: those are copied from the
   system of record, by people who have read them.
5. An annex that does not hold everything says so. What the law had erased is not in it, and needs no word.

Cost: one look-up for records; every case and request for access that people may see is opened once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date
from typing import Any, Final

from connector_psi import policy
from connector_psi.audit.entries import Event
from connector_psi.disclosure import Outcome
from connector_psi.domain.identifiers import normalise
from connector_psi.domain.purposes import CATEGORIES, Handling, Purpose
from connector_psi.domain.records import IdentifierType
from connector_psi.domain.rights import REGIMES, answer_due
from connector_psi.errors import InputError, NormalisationError
from connector_psi.node.node import QUERIER, Node, from_millis
from connector_psi.pack import words
from connector_psi.pki import PersonIdentity
from connector_psi.storage import accesses, cases, queried, recalls, records
from connector_psi.storage.accesses import AccessRow
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
        own = policy.own_purpose(node.pack, Purpose.DATA_SUBJECT_RIGHTS, person.role.value)
        if len(reference) > MAX_REFERENCE:
            raise InputError("reference: more than 200 characters")
        wanted = _canonical(kind, value)
        with node.store.read() as tx:
            held = records.naming(node.store, tx, wanted, own.restricts, MAX_RECORDS + 1)
            cut = len(held) > MAX_RECORDS
            told = self._told(tx, held[:MAX_RECORDS], own)
        with node.store.write() as tx:
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
                    "records": [f"{each['source']}/{each['reference']}" for each in told],
                    "told": len(told),
                },
                purpose=own.purpose.value,
            )
        return self._annex([identifier.value for identifier, _ in wanted], told, cut, reference, received)

    def _annex(
        self, kinds: list[str], told: list[dict[str, Any]], cut: bool, reference: str, received: date | None
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
            "processing": told,
            "complete": not cut,
            "before_sending": sorted({note for each in told for note in each.pop("notes")}),
        }

    def _told(self, tx: Tx, held: Sequence[FoundRecord], own: policy.OwnPurpose) -> list[dict[str, Any]]:
        """Each record with what came of it."""
        node = self._node
        ids = {each.id for each in held}
        by_record: dict[int, list[CaseRow]] = defaultdict(list)
        requests: dict[int, list[AccessRow]] = defaultdict(list)
        if ids:
            for case in cases.shown_cases(node.store, tx, cases.OWNER):
                if (number := case.payload.get("record_id", -1)) in ids:
                    by_record[number].append(case)
            for request in accesses.asked(node.store, tx):
                for number, _ in request.payload["records"]:
                    requests[number].append(request)
        return [self._record(tx, each, by_record[each.id], requests[each.id], own) for each in held]

    def _record(
        self,
        tx: Tx,
        held: FoundRecord,
        asked_here: Sequence[CaseRow],
        requests: Sequence[AccessRow],
        own: policy.OwnPurpose,
    ) -> dict[str, Any]:
        node, record = self._node, held.record
        matches = [
            match
            for match in queried.matches_of_record(node.store, tx, held.id)
            if match.payload.get("category") not in own.restricts
        ]
        opened = [row for match in matches for row in cases.cases_of_match(node.store, tx, match.match_id)]
        asked_here = sorted(asked_here, key=lambda row: row.opened_ms)
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
            "access": [_access(row) for row in requests],
            "received": [_received(row) for row in opened],
            "disclosed": [self._disclosed(tx, row) for row in asked_here if _gave(row)],
            "not_disclosed": [_not_disclosed(row) for row in asked_here if not _gave(row)],
            "notes": [note for row in (*opened, *asked_here) if (note := _before_sending(row))],
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

    def _disclosed(self, tx: Tx, row: CaseRow) -> dict[str, Any]:
        p = row.payload
        told = recalls.recalls_of_case(self._node.store, tx, cases.OWNER, row.peer, row.request_id)
        return {
            "agreement": row.agreement,
            "to": row.peer,
            "purpose": p["purpose"],
            "legal_basis": p["legal_basis"],
            "on": _when(p["served_ms"]),
            "fields": sorted(p["released"]),
            "erase_after": p["erase_after"],
            "recalls": [
                {
                    "sent": _when(recall.sent_ms),
                    "kind": "withdrawal" if recall.payload["outcome"] != Outcome.DISCLOSED else "correction",
                    "state": recall.state,
                    "effect": recall.payload.get("acknowledged", {}).get("effect", ""),
                }
                for recall in told
            ],
        }


def _gave(row: CaseRow) -> bool:
    return bool(row.payload.get("outcome") == Outcome.DISCLOSED)


def _not_disclosed(row: CaseRow) -> dict[str, Any]:
    return {
        "agreement": row.agreement,
        "by": row.peer,
        "purpose": row.payload["purpose"],
        "asked": _when(row.opened_ms),
        "state": row.state,
    }


def _received(row: CaseRow) -> dict[str, Any]:
    outcome, erased = row.payload.get("outcome", {}), row.payload.get("erased", {})
    return {
        "agreement": row.agreement,
        "from": row.peer,
        "purpose": row.payload["purpose"],
        "asked": _when(row.opened_ms),
        "state": row.state,
        "fields": sorted(outcome.get("fields", {})) or erased.get("fields", []),
        "erase_after": outcome.get("erase_after", ""),
        "erased": erased.get("at", ""),
    }


def _access(row: AccessRow) -> dict[str, Any]:
    return {"agreement": row.agreement, "with": row.peer, "asked": _when(row.opened_ms), "state": row.state}


def _before_sending(row: CaseRow) -> str:
    """What has to be settled before the annex leaves."""
    if row.side == cases.OWNER:
        return (
            f"{row.agreement}: ask {row.peer} whether telling of its request would prejudice what it is for "
            "(2016/680, Article 15; 2016/679, Article 23)"
        )
    outcome = row.payload.get("outcome", {})
    if outcome.get("outcome") == Outcome.DISCLOSED and Handling.SIS_PURPOSE_BOUND.value in outcome["handling"]:
        return (
            f"{row.agreement}: ask {row.peer} for its position before telling of what it disclosed "
            "(2018/1862, Article 67(2))"
        )
    return ""


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
