"""Protobuf messages <-> the node's own types; the only place that knows both.

``parse_*`` takes messages from outside: a field that is not what it must be raises ``FormatError`` with the field's
name.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

from connector_psi.audit.checkpoint import parse_checkpoint, parse_note
from connector_psi.audit.witness import Refusal, Submission
from connector_psi.disclosure import RecallCause, RecallEffect
from connector_psi.domain.records import (
    Field,
    Identifier,
    IdentifierType,
    Party,
    PartyKind,
    Record,
    SourceSystem,
    Supersession,
    TokenClass,
)
from connector_psi.domain.systems import SYSTEMS
from connector_psi.errors import FormatError, ProtocolError
from connector_psi.node import ports
from connector_psi.rpc.v1 import audit_pb2, disclosure_pb2, matching_pb2, registry_pb2, types_pb2
from connector_psi.witness.cosigning import WitnessAnswer

if TYPE_CHECKING:
    # The command line comes through here on its way to a node that is served: it loads neither store nor PRF.
    from connector_psi.node.accessviews import AccessView
    from connector_psi.node.caseviews import CaseView
    from connector_psi.node.recallviews import RecallView
    from connector_psi.node.registration import Position, Result
    from connector_psi.node.replay import Replay
    from connector_psi.policy import Decision
    from connector_psi.protocol.owner import Query
    from connector_psi.storage.queried import MatchRow

SET_FILES = {ports.FILTER: matching_pb2.SET_FILE_FILTER, ports.TICKETS: matching_pb2.SET_FILE_TICKETS}
_FILE_NAMES = {number: name for name, number in SET_FILES.items()}
CASE_SIZES = (4_096, 16_384, 65_536)
"""Lengths of an OpenCase and of a RequestAccess message; the longest holds everything that an owner takes."""
MAX_POSITION_KEY = 200
MAX_POSITION_TEXT = 2_000
_MAX_VERSION = 2**62
_MAX_MS = 253_402_300_799_000  # the last millisecond that a datetime can hold
_OUTCOMES = {
    "accepted": registry_pb2.REGISTER_OUTCOME_ACCEPTED,
    "updated": registry_pb2.REGISTER_OUTCOME_UPDATED,
    "duplicate": registry_pb2.REGISTER_OUTCOME_DUPLICATE,
    "rejected": registry_pb2.REGISTER_OUTCOME_REJECTED,
}
_P = TypeVar("_P", disclosure_pb2.OpenCaseRequest, disclosure_pb2.RequestAccessRequest)
W = TypeVar("W", SourceSystem, Field, IdentifierType, PartyKind)
OUTCOME_NAMES: Mapping[int, str] = {number: name for name, number in _OUTCOMES.items()}


# Peer port


def leaf_proof(message: types_pb2.LeafProof) -> ports.LeafProof:
    """Return a leaf with its proof."""
    return ports.LeafProof(message.leaf, message.index, tuple(message.inclusion_proof), message.checkpoint)


def leaf_proof_message(proof: ports.LeafProof) -> types_pb2.LeafProof:
    """Return the message of a leaf with its proof."""
    return types_pb2.LeafProof(
        leaf=proof.leaf, index=proof.index, inclusion_proof=list(proof.proof), checkpoint=proof.checkpoint
    )


def parse_set_file(number: int) -> str:
    """Return the name of a set's file."""
    name = _FILE_NAMES.get(number)  # type: ignore[call-overload]  # an enum number
    if name is None:
        raise FormatError("file: unknown")
    return str(name)


def evaluate_request(query: Query) -> matching_pb2.EvaluateRequest:
    """Return the message of a query."""
    return matching_pb2.EvaluateRequest(
        agreement=query.agreement,
        epoch=query.epoch,
        token_class=int(query.token_class),  # type: ignore[arg-type]  # the numbers are the same
        request_id=query.request_id,
        batch_commitment=query.batch_commitment,
        source_commitment=query.source_commitment,
        actor_commitment=query.actor_commitment,
        access_id=query.access_id,
        blinded_elements=query.blinded_elements,
    )


def parse_query(message: matching_pb2.EvaluateRequest, querier: str) -> Query:
    """Return the query of a peer.

    Raises:
        FormatError: An unknown class.
        ProtocolError: A field of wrong length, or a commitment that does not match.
    """
    from connector_psi.oprf.suite import BlindedElements  # noqa: PLC0415 - for the owner's side alone
    from connector_psi.protocol.owner import Query  # noqa: PLC0415 - as above

    try:
        token_class = TokenClass(message.token_class)
    except ValueError:
        raise FormatError("token_class: unknown") from None
    return Query(
        querier=querier,
        agreement=message.agreement,
        epoch=message.epoch,
        token_class=token_class,
        request_id=message.request_id,
        batch_commitment=message.batch_commitment,
        source_commitment=message.source_commitment,
        actor_commitment=message.actor_commitment,
        access_id=message.access_id,
        blinded_elements=BlindedElements(message.blinded_elements),
    )


def open_case_request(request: ports.CaseRequest, at_least: int = 0) -> disclosure_pb2.OpenCaseRequest:
    """Return the message of a case, padded to a step of ``CASE_SIZES``, of at least so many bytes.

    Raises:
        FormatError: It is larger than that.
    """
    message = disclosure_pb2.OpenCaseRequest(
        agreement=request.agreement,
        epoch=request.epoch,
        ticket_id=request.ticket_id,
        redeem_codes=request.redeem_codes,
        purpose=request.purpose,
        legal_basis=request.legal_basis,
        case_reference=request.case_reference,
        justification=request.justification,
        request_id=request.request_id,
        actor_commitments=request.actor_commitments,
        signature=request.signature,
    )
    return _padded(message, "case", at_least)


def _padded(message: _P, what: str, at_least: int = 0) -> _P:
    length = message.ByteSize()
    for size in (size for size in CASE_SIZES if size >= at_least):
        # Beside its bytes a field costs its tag and its length: 2 below 128 bytes, 3 below 16 KiB, 4 above. Where these
        # change there is a length that no padding gives; the next step does then.
        for overhead in (2, 3, 4):
            message.padding = bytes(max(0, size - length - overhead))
            if message.ByteSize() == size:
                return message
    raise FormatError(f"{what}: larger than any that an owner takes")


def parse_case_request(message: disclosure_pb2.OpenCaseRequest) -> ports.CaseRequest:
    """Return the case of a peer."""
    return ports.CaseRequest(
        agreement=message.agreement,
        epoch=message.epoch,
        ticket_id=message.ticket_id,
        redeem_codes=message.redeem_codes,
        purpose=message.purpose,
        legal_basis=message.legal_basis,
        case_reference=message.case_reference,
        justification=message.justification,
        request_id=message.request_id,
        actor_commitments=message.actor_commitments,
        signature=message.signature,
    )


def access_request_message(request: ports.AccessRequest) -> disclosure_pb2.RequestAccessRequest:
    """Return the message of a request for access, padded to a step of ``CASE_SIZES``.

    Raises:
        FormatError: It is larger than that.
    """
    message = disclosure_pb2.RequestAccessRequest(
        agreement=request.agreement,
        request_id=request.request_id,
        case_reference=request.case_reference,
        offence=request.offence,
        necessity=request.necessity,
        identifiers=request.identifiers,
        expires_ms=request.expires_ms,
        signature=request.signature,
        actor_commitments=request.actor_commitments,
    )
    return _padded(message, "access")


def parse_access_request(message: disclosure_pb2.RequestAccessRequest) -> ports.AccessRequest:
    """Return the request for access of a peer."""
    return ports.AccessRequest(
        agreement=message.agreement,
        request_id=message.request_id,
        case_reference=message.case_reference,
        offence=message.offence,
        necessity=message.necessity,
        identifiers=message.identifiers,
        expires_ms=message.expires_ms,
        actor_commitments=message.actor_commitments,
        signature=message.signature,
    )


def access_answer_message(answer: ports.AccessAnswer | None) -> disclosure_pb2.RequestAccessResponse:
    """Return the message of an answer, the same length whatever it says: None is PENDING."""
    said = ports.NO_ACCESS if answer is None else answer
    return disclosure_pb2.RequestAccessResponse(
        state=disclosure_pb2.OUTCOME_STATE_PENDING if answer is None else disclosure_pb2.OUTCOME_STATE_SERVED,
        access_id=said.access_id,
        identifiers=said.identifiers,
        elements=said.elements,
        expires_ms=said.expires_ms,
    )


def access_answer(message: disclosure_pb2.RequestAccessResponse) -> ports.AccessAnswer | None:
    """Return what an owner answered, None while it is pending."""
    if message.state != disclosure_pb2.OUTCOME_STATE_SERVED:
        return None
    return ports.AccessAnswer(message.access_id, message.identifiers, message.elements, message.expires_ms)


def recall_request(message: ports.RecallMessage) -> disclosure_pb2.RecallRequest:
    """Return the message of a recall."""
    return disclosure_pb2.RecallRequest(
        agreement=message.agreement,
        request_id=message.case_id,
        recall_id=message.recall_id,
        signature=message.signature,
        envelope=message.envelope,
        salt=message.salt,
        proof=leaf_proof_message(message.proof),
        cause=int(message.cause),  # type: ignore[arg-type]  # the numbers are the same
        sent_ms=message.sent_ms,
    )


def parse_recall(message: disclosure_pb2.RecallRequest) -> ports.RecallMessage:
    """Return the recall of a peer.

    Raises:
        FormatError: An unknown cause, or a time that no calendar has.
    """
    try:
        cause = RecallCause(message.cause)
    except ValueError:
        raise FormatError("cause: unknown") from None
    if message.sent_ms > _MAX_MS:
        raise FormatError("sent_ms: out of range")
    return ports.RecallMessage(
        agreement=message.agreement,
        case_id=message.request_id,
        recall_id=message.recall_id,
        cause=cause,
        sent_ms=message.sent_ms,
        envelope=message.envelope,
        salt=message.salt,
        signature=message.signature,
        proof=leaf_proof(message.proof),
    )


def acknowledgement_request(message: ports.Acknowledgement) -> disclosure_pb2.AcknowledgeRecallRequest:
    """Return the message of an acknowledgement."""
    return disclosure_pb2.AcknowledgeRecallRequest(
        agreement=message.agreement,
        recall_id=message.recall_id,
        signature=message.signature,
        effect=int(message.effect),  # type: ignore[arg-type]  # the numbers are the same
        acknowledged_ms=message.acknowledged_ms,
    )


def parse_acknowledgement(message: disclosure_pb2.AcknowledgeRecallRequest) -> ports.Acknowledgement:
    """Return the acknowledgement of a peer.

    Raises:
        FormatError: An unknown effect, or a time that no calendar has.
    """
    try:
        effect = RecallEffect(message.effect)
    except ValueError:
        raise FormatError("effect: unknown") from None
    if message.acknowledged_ms > _MAX_MS:
        raise FormatError("acknowledged_ms: out of range")
    return ports.Acknowledgement(
        message.agreement, message.recall_id, effect, message.acknowledged_ms, message.signature
    )


# Local port


def record_message(record: Record) -> registry_pb2.Record:
    """Return the message of a record."""
    return registry_pb2.Record(
        source=record.source.value,
        source_ref=record.source_ref,
        category=record.category,
        identifiers=[
            registry_pb2.Identifier(type=i.type.value, value=i.value, source_path=i.source_path, role=i.role)
            for i in record.identifiers
        ],
        fields={name.value: registry_pb2.Values(values=list(values)) for name, values in record.fields.items()},
        message_digest=record.message_digest,
        incomplete=record.incomplete,
        hidden=record.hidden,
        # 0 stands for no end, and what ended before 1970 ended.
        valid_until_ms=max(1, int(record.valid_until.timestamp() * 1000)) if record.valid_until else 0,
        parties=[
            registry_pb2.Party(
                role=party.role,
                kind=party.kind.value,
                name=party.name,
                source_path=party.source_path,
                aliases=party.aliases,
                birth_date=party.birth_date,
                birth_place=party.birth_place,
                nationalities=party.nationalities,
                gender=party.gender,
                address=party.address,
                country=party.country,
                city=party.city,
                postcode=party.postcode,
            )
            for party in record.parties
        ],
        message_ref=record.message_ref,
        version=record.version,
    )


def supersession_message(item: Supersession) -> registry_pb2.Supersession:
    """Return the message of what came to an end."""
    return registry_pb2.Supersession(
        source=item.source.value,
        message_ref=item.message_ref,
        version=item.version,
        withdrawn=item.withdrawn,
        reason=item.reason,
        same_as=item.same_as,
    )


def parse_supersession(message: registry_pb2.Supersession) -> Supersession:
    """Return what a system says came to an end.

    Raises:
        FormatError: An unknown source, no reference, or a version out of range.
    """
    if not message.message_ref:
        raise FormatError("supersessions: message_ref: missing")
    return Supersession(
        source=parse_source(message.source),
        message_ref=message.message_ref,
        version=_version(message.version),
        withdrawn=message.withdrawn,
        reason=message.reason,
        same_as=message.same_as,
    )


def stream_item(request: registry_pb2.RegisterStreamRequest) -> registry_pb2.Record | registry_pb2.Supersession:
    """Return what a request of a stream is about; an empty record where it does not say."""
    return request.supersession if request.HasField("supersession") else request.record


def parse_item(message: registry_pb2.Record | registry_pb2.Supersession) -> Record | Supersession:
    """Return what a system registers.

    Raises:
        FormatError: As ``parse_record`` and ``parse_supersession``.
    """
    return parse_record(message) if isinstance(message, registry_pb2.Record) else parse_supersession(message)


def message_ref_of(message: registry_pb2.Record | registry_pb2.Supersession) -> str:
    """Return what ``domain.records.message_of`` returns of it, whatever else is wrong with it."""
    if isinstance(message, registry_pb2.Record):
        return message.message_ref or message.source_ref
    return message.message_ref


def parse_position(request: registry_pb2.RegisterRequest) -> Position | None:
    """Return how far the caller has read its source, None where it does not say.

    Raises:
        FormatError: No key, or one or a text that is too long.
    """
    from connector_psi.node.registration import Position  # noqa: PLC0415 - for the node's side alone

    if not request.HasField("position"):
        return None
    key, text = request.position.key, request.position.text
    if not 0 < len(key) <= MAX_POSITION_KEY or len(text) > MAX_POSITION_TEXT:
        raise FormatError("position: malformed")
    return Position(key, text)


def _version(number: int) -> int:
    if number > _MAX_VERSION:
        raise FormatError("version: out of range")
    return number


def record_size_bytes(record: Record) -> int:
    """Return the length of a record's message, for keeping a call under the message limit."""
    return record_message(record).ByteSize()


def parse_record(message: registry_pb2.Record) -> Record:
    """Return the record that a system registers; its identifiers are not canonical yet.

    Raises:
        FormatError: An unknown source, field or identifier type, named by its place.
    """
    return Record(
        source=parse_source(message.source),
        source_ref=message.source_ref,
        category=message.category,
        identifiers=tuple(
            Identifier(_word(IdentifierType, i.type, f"identifiers[{n}].type"), i.value, i.source_path, i.role)
            for n, i in enumerate(message.identifiers)
        ),
        fields={_word(Field, name, "fields"): tuple(values.values) for name, values in message.fields.items()},
        message_digest=message.message_digest,
        incomplete=message.incomplete,
        hidden=message.hidden,
        valid_until=datetime.fromtimestamp(min(message.valid_until_ms, _MAX_MS) / 1000, tz=UTC)
        if message.valid_until_ms
        else None,
        parties=tuple(
            Party(
                role=party.role,
                kind=_word(PartyKind, party.kind, f"parties[{n}].kind"),
                name=party.name,
                source_path=party.source_path,
                aliases=tuple(party.aliases),
                birth_date=party.birth_date,
                birth_place=party.birth_place,
                nationalities=tuple(party.nationalities),
                gender=party.gender,
                address=party.address,
                country=party.country,
                city=party.city,
                postcode=party.postcode,
            )
            for n, party in enumerate(message.parties)
        ),
        message_ref=message.message_ref,
        version=_version(message.version),
    )


def parse_source(text: str) -> SourceSystem:
    """Return the source system of this name.

    Raises:
        FormatError: There is none, or it is refused; then the text gives the reason.
    """
    system = SYSTEMS.get(text)
    if system is not None and system.refused:
        raise FormatError(f"source: {system.code} is refused: {system.reason}")
    return _word(SourceSystem, text, "source")


def _word(kind: type[W], text: str, place: str) -> W:
    try:
        return kind(text)
    except ValueError:
        raise FormatError(f"{place}: not in the vocabulary") from None


def result_message(result: Result) -> registry_pb2.RegisterResult:
    """Return the message of what became of a record."""
    return registry_pb2.RegisterResult(outcome=_OUTCOMES[result.outcome], problems=list(result.problems))


def match_message(row: MatchRow, resume: int = 0) -> registry_pb2.Match:
    """Return the message of a match; ``resume`` is its resume token where that is not its place in the list."""
    p = row.payload
    return registry_pb2.Match(
        match_id=row.match_id,
        agreement=row.agreement,
        record_ref=p["record_ref"],
        identifier_types=p["types"],
        category=p["category"],
        state=row.state,
        found_ms=row.found_ms,
        evidence=[
            registry_pb2.Evidence(identifier_type=kind, source_path=path, role=role)
            for kind, path, role in p["evidence"]
        ],
        resume_token=resume or row.seq,
        band=p.get("band", ""),
        corroborators=p.get("corroborators", []),
    )


def parse_fields(names: Iterable[str]) -> frozenset[Field]:
    """Return disclosable fields by their names.

    Raises:
        FormatError: One of them is none.
    """
    try:
        return frozenset(map(Field, names))
    except ValueError:
        raise FormatError("released_fields: not the name of a field that a policy knows") from None


def case_message(view: CaseView) -> registry_pb2.Case:
    """Return the message of a case."""
    row, p = view.row, view.row.payload
    outcome = p.get("outcome", {}) if row.side == "querier" else {}
    erased = p.get("erased", {})
    return registry_pb2.Case(
        case_id=row.request_id.hex(),
        side=row.side,
        agreement=row.agreement,
        peer=row.peer,
        state=row.state,
        purpose=p["purpose"],
        legal_basis=p["legal_basis"],
        case_reference=p["case_reference"],
        justification=p["justification"],
        record_ref=view.record_ref,
        match_id=row.match_id or "",
        opened_ms=row.opened_ms,
        due_ms=row.due_ms,
        people_needed=view.people_needed,
        people_approved=view.people_approved,
        fields={name: registry_pb2.Values(values=list(values)) for name, values in view.fields.items()},
        withheld_fields=list(view.withheld),
        obligations=outcome.get("obligations", []),
        handling=outcome.get("handling", []),
        claimed_types=p.get("types", []),
        band=p.get("band", ""),
        corroborators=p.get("corroborators", []),
        erase_after=outcome.get("erase_after", "") or p.get("erase_after", ""),
        outcome_entry=0 if row.leaf_index is None else row.leaf_index + 1,
        erased=erased.get("at", ""),
        erased_entry=erased["leaf"] + 1 if erased else 0,
        erased_fields=erased.get("fields", []),
        recall_id=view.recall_id,
        answer_due_ms=view.answer_due_ms,
        overdue=view.overdue,
        ordered_by=p.get("ordered_by", ""),
        opened_by=p.get("opened_by", ""),
        grades=[decision["grade"] for decision in (*p.get("approvals", ()), p.get("refusal")) if decision],
        awaiting_consent=list(view.awaiting_consent),
        changes=[registry_pb2.RecordChange(**change) for change in p.get("changes", ())],
    )


def access_message(view: AccessView) -> registry_pb2.Access:
    """Return the message of a request for access."""
    row, p = view.row, view.row.payload
    return registry_pb2.Access(
        request_id=row.request_id.hex(),
        side=row.side,
        agreement=row.agreement,
        peer=row.peer,
        state=row.state,
        case_reference=p["case_reference"],
        offence=p["offence"],
        necessity=p["necessity"],
        identifiers=p["identifiers"],
        expires_ms=p["expires_ms"],
        granted_identifiers=row.identifiers,
        granted_elements=row.elements,
        used_elements=row.used,
        granted_until_ms=row.expires_ms,
        opened_ms=row.opened_ms,
        due_ms=row.due_ms,
        people_needed=view.people_needed,
        people_approved=view.people_approved,
        records=[name for _, name in p.get("records", ())],
        officer=p.get("officer", ""),
        ordered_by=p.get("ordered_by", ""),
    )


def parse_date(text: str) -> date | None:
    """Return a day, None where nothing is said.

    Raises:
        FormatError: It is none.
    """
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise FormatError("received: not a date as 2026-01-31") from None


def recall_message(view: RecallView) -> registry_pb2.Recall:
    """Return a recall as people see it."""
    row, p = view.row, view.row.payload
    acknowledged = p.get("acknowledged", {})
    return registry_pb2.Recall(
        recall_id=row.recall_id.hex(),
        side=row.side,
        agreement=row.agreement,
        peer=row.peer,
        case_id=row.case_id.hex(),
        case_reference=view.case_reference,
        cause=p["cause"],
        withdraws=view.withdraws,
        state=row.state,
        sent_ms=row.sent_ms,
        due_ms=row.due_ms,
        overdue=view.overdue,
        field_names=p["fields"],
        fields={name: registry_pb2.Values(values=values) for name, values in view.fields.items()},
        sent_by=p.get("by", ""),
        reason=p.get("reason", ""),
        acknowledged_ms=acknowledged.get("at_ms", 0),
        acknowledged_by=acknowledged.get("by", ""),
        effect=acknowledged.get("effect", ""),
    )


def replay_message(found: Replay) -> registry_pb2.SimulatePolicyResponse:
    """Return what came of judging cases again."""
    return registry_pb2.SimulatePolicyResponse(
        cases=[
            registry_pb2.SimulatedCase(
                case_id=case.row.request_id,
                agreement=case.row.agreement,
                state=case.row.state,
                opened_ms=case.row.opened_ms,
                in_force=_judgement(case.in_force),
                simulated=_judgement(case.simulated),
            )
            for case in found.cases
        ],
        changed=found.changed,
        replayed=found.replayed,
        gone=found.gone,
    )


def _judgement(decision: Decision) -> registry_pb2.Judgement:
    fields = sorted(name.value for name in decision.disclosed)
    return registry_pb2.Judgement(allowed=decision.allowed, reason=decision.reason.value, fields=fields)


def json_text(value: Mapping[str, object] | Sequence[Mapping[str, object]]) -> str:
    """Return the JSON text of a report."""
    return json.dumps(value, ensure_ascii=False)


# JSON, as commands print it


def when(ms: int) -> str:
    """Return a time for people, empty for 0."""
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(ms / 1000)) if ms else ""


def match_json(m: registry_pb2.Match) -> dict[str, Any]:
    """Return a match as ``matches list --json`` prints it."""
    return {
        "match_id": m.match_id,
        "agreement": m.agreement,
        "record_ref": m.record_ref,
        "identifier_types": list(m.identifier_types),
        "category": m.category,
        "state": m.state,
    }


def match_change_json(m: registry_pb2.Match) -> dict[str, Any]:
    """Return a match as ``matches watch --json`` prints it."""
    return {
        **match_json(m),
        "band": m.band,
        "corroborators": list(m.corroborators),
        "found": when(m.found_ms),
        "resume_token": m.resume_token,
    }


def match_detail_json(answer: registry_pb2.GetMatchResponse) -> dict[str, Any]:
    """Return a match beside the own record."""
    return {
        **match_json(answer.match),
        "band": answer.match.band,
        "corroborators": list(answer.match.corroborators),
        "found": when(answer.match.found_ms),
        "evidence": [
            {"identifier_type": e.identifier_type, "source_path": e.source_path, "role": e.role}
            for e in answer.match.evidence
        ],
        "record": {
            "category": answer.record.category,
            "fields": {name: list(values.values) for name, values in answer.record.fields.items()},
            "identifiers": [
                {"type": i.type, "value": i.value, "source_path": i.source_path, "role": i.role}
                for i in answer.record.identifiers
            ],
        },
    }


def case_summary_json(c: registry_pb2.Case) -> dict[str, Any]:
    """Return a case as ``cases list --json`` prints it."""
    return {
        "case_id": c.case_id,
        "side": c.side,
        "agreement": c.agreement,
        "peer": c.peer,
        "state": c.state,
        "purpose": c.purpose,
        "legal_basis": c.legal_basis,
        "case_reference": c.case_reference,
        "justification": c.justification,
        "record_ref": c.record_ref,
        "match_id": c.match_id,
        "opened": when(c.opened_ms),
        "answer_due": when(c.answer_due_ms),
        "overdue": c.overdue,
        "due": when(c.due_ms),
        "people_needed": c.people_needed,
        "people_approved": c.people_approved,
        "claimed_types": list(c.claimed_types),
        "band": c.band,
        "corroborators": list(c.corroborators),
    }


def case_json(c: registry_pb2.Case) -> dict[str, Any]:
    """Return a case as ``cases show --json`` prints it."""
    return {
        **case_summary_json(c),
        "fields": {name: list(values.values) for name, values in c.fields.items()},
        "withheld_fields": list(c.withheld_fields),
        "handling": list(c.handling),
        "obligations": list(c.obligations),
        "erase_after": c.erase_after,
        "ordered_by": c.ordered_by,
        "opened_by": c.opened_by,
        "grades": list(c.grades),
        "awaiting_consent": list(c.awaiting_consent),
        "outcome_entry": c.outcome_entry - 1 if c.outcome_entry else None,
        "erased": c.erased,
        "erased_entry": c.erased_entry - 1 if c.erased_entry else None,
        "erased_fields": list(c.erased_fields),
        "recall_id": c.recall_id,
        "changes": [{"when": when(e.when_ms), "kind": e.kind, "fields": list(e.fields)} for e in c.changes],
    }


def access_json(a: registry_pb2.Access) -> dict[str, Any]:
    """Return a request for access as ``access show --json`` and ``access list --json`` print it."""
    return {
        "request_id": a.request_id,
        "side": a.side,
        "agreement": a.agreement,
        "peer": a.peer,
        "state": a.state,
        "case_reference": a.case_reference,
        "offence": a.offence,
        "necessity": a.necessity,
        "identifiers": a.identifiers,
        "until": when(a.expires_ms),
        "granted_identifiers": a.granted_identifiers,
        "granted_elements": a.granted_elements,
        "used_elements": a.used_elements,
        "granted_until": when(a.granted_until_ms),
        "opened": when(a.opened_ms),
        "due": when(a.due_ms),
        "people_needed": a.people_needed,
        "people_approved": a.people_approved,
        "records": list(a.records),
        "officer": a.officer,
        "ordered_by": a.ordered_by,
    }


def outbox_json(item: registry_pb2.OutboxItem) -> dict[str, Any]:
    """Return what waits or is parked as JSON-able data; times are empty where there is none."""
    return {
        "id": item.id,
        "kind": item.kind,
        "peer": item.peer,
        "agreement": item.agreement,
        "attempts": item.attempts,
        "last_error": item.last_error,
        "since": when(item.since_ms),
        "failing_since": when(item.first_failed_ms),
        "parked": when(item.parked_ms),
    }


def replay_json(answer: registry_pb2.SimulatePolicyResponse) -> dict[str, Any]:
    """What ``policy simulate --json`` prints."""
    return {
        "replayed": answer.replayed,
        "changed": answer.changed,
        "gone": answer.gone,
        "cases": [
            {
                "case_id": case.case_id.hex(),
                "agreement": case.agreement,
                "state": case.state,
                "opened": when(case.opened_ms),
                "in_force": _judgement_json(case.in_force),
                "simulated": _judgement_json(case.simulated),
            }
            for case in answer.cases
        ],
    }


def _judgement_json(judgement: registry_pb2.Judgement) -> dict[str, Any]:
    return {"allowed": judgement.allowed, "reason": judgement.reason, "fields": list(judgement.fields)}


def recall_json(r: registry_pb2.Recall) -> dict[str, Any]:
    """What ``recalls show --json`` prints; ``recalls list`` has the same keys but ``fields``."""
    return {
        "recall_id": r.recall_id,
        "side": r.side,
        "agreement": r.agreement,
        "peer": r.peer,
        "case_id": r.case_id,
        "case_reference": r.case_reference,
        "cause": r.cause,
        "kind": "withdrawal" if r.withdraws else "correction",
        "state": r.state,
        "sent": when(r.sent_ms),
        "due": when(r.due_ms),
        "overdue": r.overdue,
        "field_names": list(r.field_names),
        "fields": {name: list(values.values) for name, values in sorted(r.fields.items())},
        "sent_by": r.sent_by,
        "reason": r.reason,
        "acknowledged": when(r.acknowledged_ms) if r.acknowledged_ms else "",
        "acknowledged_by": r.acknowledged_by,
        "effect": r.effect,
    }


# Witnesses

_REFUSALS: Final[dict[Refusal, audit_pb2.WitnessRefusal.ValueType]] = {
    Refusal.MALFORMED: audit_pb2.WITNESS_REFUSAL_MALFORMED,
    Refusal.NOT_SIGNED: audit_pb2.WITNESS_REFUSAL_NOT_SIGNED,
    Refusal.UNKNOWN_LOG: audit_pb2.WITNESS_REFUSAL_UNKNOWN_LOG,
    Refusal.OTHER_SIZE: audit_pb2.WITNESS_REFUSAL_OTHER_SIZE,
    Refusal.FORK: audit_pb2.WITNESS_REFUSAL_FORK,
    Refusal.INCONSISTENT: audit_pb2.WITNESS_REFUSAL_INCONSISTENT,
}
_REFUSED: Final = {number: refusal for refusal, number in _REFUSALS.items()}


def submission_message(submission: Submission) -> audit_pb2.AddCheckpointRequest:
    """Return the request to cosign a checkpoint."""
    return audit_pb2.AddCheckpointRequest(
        old_size=submission.old_size, proof=submission.proof, checkpoint=submission.checkpoint
    )


def parse_submission(message: audit_pb2.AddCheckpointRequest) -> Submission:
    """Return what a witness is asked; the witness judges it."""
    return Submission(message.old_size, tuple(message.proof), message.checkpoint)


def witness_answer_message(answer: WitnessAnswer) -> audit_pb2.AddCheckpointResponse:
    """Return the answer of a witness."""
    return audit_pb2.AddCheckpointResponse(
        cosignature=answer.lines,
        refusal=_REFUSALS[answer.refusal] if answer.refusal else audit_pb2.WITNESS_REFUSAL_UNSPECIFIED,
        held=answer.held,
    )


def witness_answer(message: audit_pb2.AddCheckpointResponse) -> WitnessAnswer:
    """Return the answer of a witness.

    Raises:
        ProtocolError: A refusal that this version does not know.
    """
    if message.refusal and message.refusal not in _REFUSED:
        raise ProtocolError("a witness refuses for an unknown reason")
    try:
        held_size = parse_checkpoint(parse_note(message.held).text).size if message.held else 0
    except FormatError:
        raise ProtocolError("a witness holds something that is no checkpoint") from None
    return WitnessAnswer(_REFUSED.get(message.refusal), message.cosignature, message.held, held_size)
