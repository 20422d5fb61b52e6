"""Requests of this node for access to one case, and the queries that a grant allows (``case`` mode).

Decides: what a person must say to ask, with which records, that an officer keeps to the day's limit, and that exactly
the identifiers of those records are asked, in one batch a class, once, and no more than were granted. Identifiers are
never named: the records are, and they were registered before. Leaves to others: batches and matches (``querying``),
slots (``disclosure``), what people see of a request (``accessviews``).

After a crash it goes on where it was: batches are kept and logged, and the officer's limit is debited, before the first
one is sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Any

from connector_psi import pki
from connector_psi.audit.entries import Event
from connector_psi.domain.purposes import Mode
from connector_psi.domain.records import SourceSystem
from connector_psi.errors import (
    ApprovalMissingError,
    AuditError,
    CapacityExceededError,
    ConflictError,
    ConnectorError,
    InputError,
    PeerError,
    ProtocolError,
    PurposeRefusedError,
    RefusedError,
)
from connector_psi.node import caseclock
from connector_psi.node.asked import ordering_officer
from connector_psi.node.granting import HOUR_MS, MAX_REFERENCE, MAX_TEXT, signed_bytes
from connector_psi.node.node import QUERIER, Bound, Node
from connector_psi.node.outbox import ACCESS, Item, Outbox, hold
from connector_psi.node.ports import NO_ACCESS, AccessAnswer, AccessRequest, Connector
from connector_psi.node.querying import Querying, Ready
from connector_psi.protocol import messages
from connector_psi.protocol.tokens import Token
from connector_psi.storage import accesses as store
from connector_psi.storage import records
from connector_psi.storage.accesses import NEVER_MS, AccessRow
from connector_psi.storage.queried import BatchRow, TakenSet
from connector_psi.storage.records import StoredRecord
from connector_psi.storage.store import Tx

MAX_RECORDS = 256
_Wanted = list[tuple[Token, StoredRecord]]


class AccessState(StrEnum):
    """A request for access as the querier sees it."""

    DRAFTED = "drafted"
    PENDING = "pending"
    GRANTED = "granted"
    QUERIED = "queried"
    """What was granted was asked."""
    NOT_GRANTED = "not_granted"
    EXPIRED = "expired"
    """The grant was over before all of it was asked."""


class AskedAccess:
    """Use cases of the officer who needs access."""

    def __init__(self, node: Node, connector: Connector, querying: Querying, outbox: Outbox) -> None:
        self._node = node
        self._connector = connector
        self._querying = querying
        self._outbox = outbox

    # Asking for access

    def request(
        self,
        code: str,
        person: pki.PersonIdentity,
        named: Sequence[tuple[SourceSystem, str]],
        *,
        case_reference: str,
        offence: str,
        necessity: str,
        hours: int = 0,
        ordered_by: str = "",
    ) -> AccessRow:
        """Ask the owner for access with the identifiers of some own records; sent by ``advance``.

        Args:
            code: Of an agreement of mode ``case`` in which this node is the querier.
            person: Who asks.
            named: Source and reference of each record.
            case_reference: Of the own case, at most 200 characters.
            offence: Which one is investigated, at most 4,000 characters.
            necessity: Why the case needs it, at most 4,000 characters.
            hours: From now; 0 for as many as the agreement allows.
            ordered_by: URI of the officer or supervisor of this authority who ordered it; empty for ``person``.

        Raises:
            PurposeRefusedError: No such agreement, a record that it does not let ask, or no person who could order it.
            ApprovalMissingError: A text is missing.
            InputError: No records, or too many, or one twice; hours beyond the agreement.
            CapacityExceededError: More identifiers than the agreement grants, or than an officer may ask on a day.
        """
        node = self._node
        bound = node.bound(code, QUERIER)
        grant = bound.agreement.grant
        if bound.agreement.mode is not Mode.CASE or grant is None:
            raise PurposeRefusedError(f"{code}: it needs no access by case")
        _check_texts(case_reference, offence, necessity)
        if not 0 <= hours <= grant.max_hours:
            raise InputError(f"hours: at most {grant.max_hours}")
        orderer = ordering_officer(node, ordered_by, person)
        now = node.now_ms()
        with node.store.write() as tx:
            found = self._named(bound, tx, named)
            wanted = self._wanted(bound, found)
            tokens = {token.value for token, _ in wanted}
            if not tokens:
                raise PurposeRefusedError(f"{code}: the records have no identifier that it covers")
            if len(tokens) > grant.max_identifiers:
                raise CapacityExceededError(
                    f"{code}: {len(tokens)} identifiers, and at most {grant.max_identifiers} are granted"
                )
            day = node.clock.now().date()
            pseudonyms = [node.keyring.actor_commitment(code, day, uri) for uri in (person.uri, orderer)]
            row = AccessRow(
                side=store.QUERIER,
                peer=bound.peer,
                request_id=node.random.bytes(messages.REQUEST_ID_BYTES),
                agreement=code,
                state=AccessState.DRAFTED,
                opened_ms=now,
                due_ms=now + node.config.disclosure.not_disclosed_after_s * 1000,
                next_ms=now,
                payload={
                    "case_reference": case_reference,
                    "offence": offence,
                    "necessity": necessity,
                    "identifiers": len(tokens),
                    "expires_ms": now + (hours or grant.max_hours) * HOUR_MS,
                    "actors": [pseudonym.hex() for pseudonym in pseudonyms],
                    "officer": person.uri,
                    "ordered_by": orderer,
                    "records": [[stored.id, _name(stored)] for stored in found],
                    "batches": [],
                },
            )
            store.put(node.store, tx, row)
            node.append(
                tx,
                Event.CASE_OPEN,
                {
                    "operation": "access request",
                    "officer": person.uri,
                    "ordered_by": orderer,
                    "records": [_name(stored) for stored in found],
                    "case_reference": case_reference,
                    "offence": offence,
                    "necessity": necessity,
                    "identifiers": len(tokens),
                    "expires_ms": row.payload["expires_ms"],
                },
                bound,
                request_id=row.request_id,
                purpose=bound.agreement.purpose.value,
                actor_commitment=pseudonyms[0],
            )
        return row

    def _named(self, bound: Bound, tx: Tx, named: Sequence[tuple[SourceSystem, str]]) -> list[StoredRecord]:
        node = self._node
        if not 0 < len(named) <= MAX_RECORDS or len(set(named)) != len(named):
            raise InputError(f"records: 1 to {MAX_RECORDS}, each once")
        found = []
        for number, (source, source_ref) in enumerate(named, 1):
            stored = records.find_live(node.store, tx, source, source_ref, node.now_ms())
            if stored is None:
                raise PurposeRefusedError(f"record {number}: not one that is live here")
            if stored.record.category not in bound.agreement.querier_categories:
                raise PurposeRefusedError(f"record {number}: {bound.code} does not let ask with its category")
            found.append(stored)
        return found

    def advance(self) -> int:
        """Send drafted requests and collect answers. Returns how many requests moved.

        Nothing is lost, and no request keeps another waiting; what fails is tried again as ``outbox`` says.

        Raises:
            PeerError: The first answer that does not hold, after all requests had their turn.
        """
        self._node.check_alive()
        turn = self._outbox.turn(ACCESS, self._advance_one)
        if turn.failure is not None:
            raise turn.failure
        return turn.moved

    def _advance_one(self, bound: Bound, item: Item) -> int:
        node = self._node
        with node.store.read() as tx:
            row = store.get(node.store, tx, store.QUERIER, item.peer, item.id)
        if row is None or row.state not in {AccessState.DRAFTED, AccessState.PENDING}:
            return 0
        try:
            # Sending and collecting are one call: the same request again.
            answer = self._connector.owner(bound.peer).request_access(access_request(node, row))
        except ConflictError:
            raise ProtocolError(f"{bound.code}: the owner knows another request of this id") from None
        with node.store.write() as tx:
            known = store.get(node.store, tx, row.side, row.peer, row.request_id)
            if known is None or known.state != row.state:
                return 0
            if answer is None:
                moved = row.state == AccessState.DRAFTED
                next_ms = caseclock.next_slot_ms(node)
                store.update(node.store, tx, replace(row, state=AccessState.PENDING, next_ms=next_ms))
                return int(moved)
            store.update(node.store, tx, self._answered(tx, bound, row, answer))
        return 1

    def _answered(self, tx: Tx, bound: Bound, row: AccessRow, answer: AccessAnswer) -> AccessRow:
        """Check what the owner granted against what was asked, and log it."""
        granted = answer != NO_ACCESS
        if granted and not self._holds(bound, row, answer):
            raise ProtocolError(f"{bound.code}: the owner grants what was not asked")
        entry = self._node.append(
            tx,
            Event.RECEIPT,
            {
                "operation": "access decision",
                "outcome": "granted" if granted else "not_granted",
                "identifiers": answer.identifiers,
                "elements": answer.elements,
                "expires_ms": answer.expires_ms,
            },
            bound,
            request_id=row.request_id,
            purpose=bound.agreement.purpose.value,
        )
        return replace(
            row,
            state=AccessState.GRANTED if granted else AccessState.NOT_GRANTED,
            next_ms=self._node.now_ms() if granted else NEVER_MS,
            leaf_index=entry.index,
            access_id=answer.access_id if granted else None,
            identifiers=answer.identifiers,
            elements=answer.elements,
            expires_ms=answer.expires_ms,
        )

    def _holds(self, bound: Bound, row: AccessRow, answer: AccessAnswer) -> bool:
        return (
            answer.access_id != NO_ACCESS.access_id
            and 0 < answer.identifiers <= row.payload["identifiers"]
            and answer.elements == messages.grant_elements(answer.identifiers, len(bound.agreement.classes))
            and 0 < answer.expires_ms <= row.payload["expires_ms"]
        )

    # Asking under a grant

    def query(self, code: str, *, begin: bool) -> int:
        """Ask what was granted under an agreement. Returns how many grants were asked to the end.

        A grant that cannot be asked now waits for the next slot, and keeps no other waiting.

        Args:
            code: Of an agreement of mode ``case``.
            begin: False to finish only what was begun, in the set that it was begun in.

        Raises:
            UnavailableError: The owner cannot be reached now; raised after all grants had their turn, as the next one.
            PeerError: An answer of the owner does not hold.
        """
        node = self._node
        node.check_alive()
        bound = node.bound(code, QUERIER)
        with node.store.read() as tx:
            due = store.in_state(node.store, tx, store.QUERIER, code, AccessState.GRANTED, node.now_ms())
        done = 0
        failure: ConnectorError | None = None
        for row in due:
            if not begin and not row.payload["batches"]:
                continue
            try:
                done += self._query_one(bound, row)
            except AuditError:
                raise
            except RefusedError as error:
                # The owner's no, or the officer's limit of the day: nothing that trying sooner would change.
                hold(node, "access", row.side, row.peer, row.request_id, error)
            except ConnectorError as error:
                failure = failure or error
                if isinstance(error, PeerError):
                    hold(node, "access", row.side, row.peer, row.request_id, error)
        if failure is not None:
            raise failure
        return done

    def _query_one(self, bound: Bound, row: AccessRow) -> int:
        node = self._node
        with self._querying.set_in_use(bound.code) as taken:
            if row.expires_ms <= node.now_ms():
                self._end(row, AccessState.EXPIRED)
                return 0
            if taken is None:
                return 0
            formed = self._begun(bound, taken, row)
            if formed is None:
                row, formed = self._begin(bound, taken, row)
            if row.state != AccessState.GRANTED:
                return 0
            assert row.access_id is not None
            found = self._querying.ask(bound, taken, formed, row.access_id)
            with node.store.write() as tx:
                covered = self._records(bound, tx, row)
                asked = {token for ready in formed for token in ready.batch.tokens}
                whole = [
                    stored
                    for stored in covered
                    if {token.value for token in node.tokens(bound, stored.record)} <= asked
                ]
                self._querying.matching.keep(tx, bound, taken, covered, found, whole)
                payload = {**row.payload, "batches": []}
                store.update(node.store, tx, replace(row, state=AccessState.QUERIED, next_ms=NEVER_MS, payload=payload))
        return 1

    def _begun(self, bound: Bound, taken: TakenSet, row: AccessRow) -> list[Ready] | None:
        """The batches that were kept and logged for this set, None where there are none."""
        batches = [b for b in row.payload["batches"] if b["epoch"] == taken.epoch]
        if not batches:
            return None
        return [
            self._querying.ready(
                bound, taken, BatchRow(bytes.fromhex(b["request_id"]), b["token_class"], 0, b["payload"])
            )
            for b in batches
        ]

    def _begin(self, bound: Bound, taken: TakenSet, row: AccessRow) -> tuple[AccessRow, list[Ready]]:
        """Form the batches of a grant; debit the officer, keep and log them in one transaction."""
        node = self._node
        with node.store.read() as tx:
            wanted = self._wanted(bound, self._records(bound, tx, row))
        # The first so many, in the order in which the officer named the records.
        first = list(dict.fromkeys(token.value for token, _ in wanted))[: row.identifiers]
        chosen = set(first)
        officer = str(row.payload["officer"])
        formed = self._querying.form(bound, taken, [w for w in wanted if w[0].value in chosen], officer)
        size = sum(ready.batch.n_padded for ready in formed)
        if not formed or row.used + size > row.elements:
            # Nothing is left to ask with, or a set that ended took with it what was begun.
            self._end(row, AccessState.EXPIRED)
            return replace(row, state=AccessState.EXPIRED), []
        payload = {**row.payload, "batches": [_kept(ready) for ready in formed]}
        changed = replace(row, used=row.used + size, payload=payload)
        with node.store.write() as tx:
            for ready in formed:
                limit = bound.agreement.capacity[ready.batch.token_class].per_officer_day
                if limit is not None:
                    index = self._officer_index(bound, officer)
                    store.debit_officer(tx, index, int(ready.batch.token_class), ready.batch.n_padded, limit)
                self._querying.log(tx, bound, taken, ready, access=row.request_id.hex())
            store.update(node.store, tx, changed)
        return changed, formed

    def _wanted(self, bound: Bound, found: Sequence[StoredRecord]) -> _Wanted:
        return [(token, stored) for stored in found for token in self._node.tokens(bound, stored.record)]

    def _officer_index(self, bound: Bound, officer: str) -> bytes:
        # One person with certificates of two roles is one person: the id counts, not the URI.
        day = f"{self._node.clock.now():%Y-%m-%d}"
        return self._node.store.index_of("officer", bound.code, day, pki.person_id(officer))

    def _records(self, bound: Bound, tx: Tx, row: AccessRow) -> list[StoredRecord]:
        """The records of a request as they are now; what left since is not asked with."""
        node = self._node
        found = [records.live_of_id(node.store, tx, number, node.now_ms()) for number, _ in row.payload["records"]]
        return [s for s in found if s is not None and s.record.category in bound.agreement.querier_categories]

    def _end(self, row: AccessRow, state: AccessState) -> None:
        payload = {**row.payload, "batches": []}
        with self._node.store.write() as tx:
            store.update(self._node.store, tx, replace(row, state=state, next_ms=NEVER_MS, payload=payload))


def access_request(node: Node, row: AccessRow) -> AccessRequest:
    """Return the signed request that this node drafted; always the same bytes."""
    p = row.payload
    request = AccessRequest(
        agreement=row.agreement,
        request_id=row.request_id,
        case_reference=p["case_reference"],
        offence=p["offence"],
        necessity=p["necessity"],
        identifiers=p["identifiers"],
        expires_ms=p["expires_ms"],
        actor_commitments=bytes.fromhex("".join(p["actors"])),
        signature=b"",
    )
    return replace(request, signature=node.signing_key.sign(signed_bytes(node.authority, request)))


def _check_texts(case_reference: str, offence: str, necessity: str) -> None:
    for name, text, longest in (
        ("case reference", case_reference, MAX_REFERENCE),
        ("offence", offence, MAX_TEXT),
        ("necessity", necessity, MAX_TEXT),
    ):
        if not text.strip() or len(text) > longest:
            raise ApprovalMissingError(f"the {name} is needed, of at most {longest} characters")


def _name(stored: StoredRecord) -> str:
    return f"{stored.record.source.value}/{stored.record.source_ref}"


def _kept(ready: Ready) -> Mapping[str, Any]:
    return {
        "request_id": ready.batch.request_id.hex(),
        "token_class": int(ready.batch.token_class),
        "epoch": ready.batch.epoch,
        "payload": dict(ready.payload),
    }
