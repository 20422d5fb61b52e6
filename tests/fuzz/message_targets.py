"""The messages of peers and of the agency's systems, from protobuf to the node's own types."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from typing import Any

from google.protobuf.message import DecodeError, Message

from connector_psi import disclosure, policy
from connector_psi.audit import checkpoint, entries, merkle
from connector_psi.audit.cosignature import Trust
from connector_psi.disclosure import RecallCause, RecallEffect
from connector_psi.domain import identifiers
from connector_psi.domain.records import (
    Field,
    Identifier,
    IdentifierType,
    Party,
    PartyKind,
    Rank,
    Record,
    SourceSystem,
    Supersession,
    TokenClass,
    version_of,
)
from connector_psi.encoding import manifest
from connector_psi.errors import (
    FormatError,
    PeerError,
    ProtocolError,
)
from connector_psi.node import ports
from connector_psi.node.granting import check_request, signed_bytes
from connector_psi.node.recalling import acknowledgement_bytes
from connector_psi.node.received import _check_request
from connector_psi.node.registration import canonical
from connector_psi.node.taking import check_leaf
from connector_psi.oprf import suite
from connector_psi.oprf.backends import default_group
from connector_psi.oprf.suite import EvaluatedElements
from connector_psi.pack.reading import load_policy
from connector_psi.protocol import messages
from connector_psi.protocol.querier import Batch
from connector_psi.rpc import convert
from connector_psi.rpc.v1 import disclosure_pb2, matching_pb2, registry_pb2, types_pb2
from tests.fuzz.harness import Target, promise, repeats_a_plant
from tests.fuzz.log_targets import leaf_bytes
from tests.fuzz.mutation import Shape
from tests.fuzz.scene import AGREEMENT, KEY, NODES, NOW, SIGNER, inverse, kept
from tests.fuzz.set_targets import a_manifest, prf_keys, some_elements
from tests.simulation.memory_log import ORIGIN, SeededRandom


def _message(kind: type[Message], data: bytes) -> Any:
    """Parse as ``rpc.interceptors`` does."""
    try:
        return kind.FromString(data)
    except DecodeError:
        raise FormatError("request: not a message of this method") from None


def _query(data: bytes) -> Any:
    return convert.parse_query(_message(matching_pb2.EvaluateRequest, data), "ics2")


def _committed(data: bytes) -> bytes:
    """The peer commits to whatever it sends, if it left the commitment out."""
    try:
        message = matching_pb2.EvaluateRequest.FromString(data)
        token_class = TokenClass(message.token_class)
    except (DecodeError, ValueError):
        return data
    if not message.batch_commitment and len(message.agreement.encode()) <= 0xFFFF:
        message.batch_commitment = messages.batch_commitment(
            "ics2", message.agreement, message.epoch, token_class.label, message.request_id, message.blinded_elements
        )
    return message.SerializeToString()


def _queries() -> Iterator[bytes]:
    request = matching_pb2.EvaluateRequest(
        agreement=AGREEMENT, epoch=7, token_class=types_pb2.TOKEN_CLASS_OBJECT, request_id=bytes(16), source_commitment=bytes(32), actor_commitment=bytes(32),
        blinded_elements=some_elements(8),
    )  # fmt: skip
    yield request.SerializeToString()
    request.access_id = bytes(16)
    yield _committed(request.SerializeToString())


def _case() -> ports.CaseRequest:
    return ports.CaseRequest(
        agreement=AGREEMENT, epoch=7, ticket_id=bytes(16), redeem_codes=bytes(8), purpose="cpsi:ObjectSeizureOrEvidence",
        legal_basis="2018/1862:38", case_reference="CASE-1", justification="route fits", request_id=bytes(16),
        actor_commitments=bytes(32), signature=bytes(64),
    )  # fmt: skip


def _read_case(data: bytes) -> bytes:
    request = convert.parse_case_request(_message(disclosure_pb2.OpenCaseRequest, data))
    _check_request(request)
    named = {name: getattr(request, name) for name in request.__slots__ if name != "signature"}
    return messages.case_bytes(querier="ics2", **named)


def _access() -> ports.AccessRequest:
    return ports.AccessRequest(
        agreement=AGREEMENT, request_id=bytes(16), case_reference="CASE-1", offence="trafficking", necessity="it was named",
        identifiers=3, expires_ms=1_800_000_000_000, actor_commitments=bytes(64), signature=bytes(64),
    )  # fmt: skip


def _read_access(data: bytes) -> tuple[int, bytes]:
    request = convert.parse_access_request(_message(disclosure_pb2.RequestAccessRequest, data))
    check_request(request, 24)
    return request.identifiers, signed_bytes("police", request)


def _access_answers() -> Iterator[bytes]:
    for answer in (None, ports.NO_ACCESS, ports.AccessAnswer(bytes(range(16)), 3, 24, 1_800_000_000_000)):
        yield convert.access_answer_message(answer).SerializeToString()


def _read_access_answer(data: bytes) -> ports.AccessAnswer | None:
    return convert.access_answer(_message(disclosure_pb2.RequestAccessResponse, data))


def _read_recall(data: bytes) -> bytes:
    m = convert.parse_recall(_message(disclosure_pb2.RecallRequest, data))
    return messages.recall_bytes(
        owner="sis", agreement=m.agreement, case_id=m.case_id, recall_id=m.recall_id, cause=m.cause,
        sent_ms=m.sent_ms, envelope=m.envelope,
    )  # fmt: skip


def _recalls() -> Iterator[bytes]:
    proof = ports.LeafProof(b"{}", 0, (), b"")
    for cause in RecallCause:
        message = ports.RecallMessage(
            AGREEMENT, bytes(16), bytes(16), cause, 1_800_000_000_000, bytes(64), bytes(32), bytes(64), proof
        )
        yield convert.recall_request(message).SerializeToString()


def _read_acknowledgement(data: bytes) -> bytes:
    m = convert.parse_acknowledgement(_message(disclosure_pb2.AcknowledgeRecallRequest, data))
    return acknowledgement_bytes("ics2", m)


def _acknowledgements() -> Iterator[bytes]:
    for effect in RecallEffect:
        message = ports.Acknowledgement(AGREEMENT, bytes(16), effect, 1_800_000_000_000, bytes(64))
        yield convert.acknowledgement_request(message).SerializeToString()


def _leaf_proof(leaf: bytes) -> types_pb2.LeafProof:
    return types_pb2.LeafProof(leaf=leaf, index=0, checkpoint=b"")


def _proved_leaf(proof: types_pb2.LeafProof) -> types_pb2.LeafProof:
    """The owner logs whatever it sends: without a checkpoint the leaf is the one leaf of a log that the owner signs."""
    if not proof.checkpoint:
        root = checkpoint._b64(merkle.leaf_hash(proof.leaf))
        proof.checkpoint = checkpoint.sign_note(f"{ORIGIN}\n1\n{root}\n", [SIGNER])
    return proof


TRUST = Trust({}, 0, "sis", frozenset())


def _check_leaf(proof: types_pb2.LeafProof, event: entries.Event, digest: bytes | None) -> entries.Leaf:
    vkey = checkpoint.encode_vkey(SIGNER.vkey)
    return check_leaf(convert.leaf_proof(proof), vkey, TRUST, event, AGREEMENT, manifest_hash=digest, epoch=7)


def _manifest_answer(data: bytes) -> bytes:
    try:
        answer = matching_pb2.GetManifestResponse.FromString(data)
    except DecodeError:
        return data
    if not answer.signature:
        answer.signature = manifest.sign_manifest(KEY, answer.manifest)
    _proved_leaf(answer.proof)
    return answer.SerializeToString()


def _take_manifest(data: bytes) -> manifest.Manifest:
    answer = _message(matching_pb2.GetManifestResponse, data)
    read = manifest.parse_manifest(answer.manifest)
    manifest.verify_manifest_signature(KEY.public_key(), answer.manifest, answer.signature)
    default_group().check_elements(b"".join(map(bytes.fromhex, read.class_keys.values())))
    _check_leaf(answer.proof, entries.Event.SET_PUBLISH, manifest.manifest_hash(answer.manifest))
    return read


def _manifest_answers() -> Iterator[bytes]:
    raw = manifest.encode_manifest(a_manifest())
    leaf = leaf_bytes(event=entries.Event.SET_PUBLISH, manifest_hash=manifest.manifest_hash(raw))
    yield matching_pb2.GetManifestResponse(manifest=raw, proof=_leaf_proof(leaf), fresh_until_ms=1).SerializeToString()


@cache
def _agreement() -> policy.Agreement:
    pack = load_policy(NODES / "ics2" / "policy.yaml")
    (template,) = [each for each in pack.templates if each.code == "SIS-OBJ"]
    return policy.instantiate(template, "ics2", "sis", synthetic=True)


@cache
def _envelopes() -> tuple[bytes, ...]:
    terms = _agreement()
    refused = disclosure.not_disclosed(terms, case_id=bytes(16), epoch=7, served=NOW)
    full = disclosure.Envelope(
        case_id=bytes(16), agreement=terms.code, epoch=7, outcome=disclosure.Outcome.DISCLOSED,
        retention_class=terms.retention_class, erase_after=refused.erase_after,
        fields={Field.OBJECT_TYPE: ("container",), Field.ACTION: ("seize", "contact \u00e9")},
        handling=("H1",), evaluation=("A1",), obligations=tuple(sorted(disclosure.Obligation))[:1],
    )  # fmt: skip
    return disclosure.encode_envelope(refused), disclosure.encode_envelope(full)


def _padded(data: bytes) -> bytes:
    """The owner frames whatever it likes: JSON that has no length before it gets one, and its padding."""
    if data[:1] not in {b"{", b"["}:
        return data
    size = next((size for size in disclosure.ENVELOPE_SIZES if 4 + len(data) <= size), 0)
    return (struct.pack(">I", len(data)) + data).ljust(size, b"\0")


def _envelope_seeds() -> Iterator[bytes]:
    yield from _envelopes()
    for padded in _envelopes():
        yield padded[4 : 4 + struct.unpack_from(">I", padded)[0]]


def _outcome(data: bytes) -> bytes:
    try:
        answer = disclosure_pb2.GetOutcomeResponse.FromString(data)
    except DecodeError:
        return data
    if not answer.signature:
        answer.signature = disclosure.sign_envelope(KEY, answer.envelope)
    _proved_leaf(answer.proof)
    return answer.SerializeToString()


def _take_outcome(data: bytes) -> disclosure.Envelope:
    answer = _message(disclosure_pb2.GetOutcomeResponse, data)
    disclosure.verify_envelope(KEY.public_key(), answer.envelope, answer.signature)
    disclosure.source_commitment(answer.salt, answer.envelope)
    _check_leaf(answer.proof, entries.Event.CASE_OUTCOME, None)
    envelope = disclosure.parse_envelope(answer.envelope)
    disclosure.verify_release(_agreement(), envelope, bytes(16))
    return envelope


def _outcomes() -> Iterator[bytes]:
    leaf = leaf_bytes(event=entries.Event.CASE_OUTCOME)
    for envelope in _envelopes():
        answer = disclosure_pb2.GetOutcomeResponse(
            state=disclosure_pb2.OUTCOME_STATE_SERVED, envelope=envelope, salt=bytes(32), proof=_leaf_proof(leaf)
        )
        yield answer.SerializeToString()


@cache
def _batch() -> Any:
    batch = Batch("ics2", AGREEMENT, 7, TokenClass.OBJECT, bytes(16), bytes(32), (b"token one", b"token two"))
    return batch.prepare()


def _finish(data: bytes) -> list[bytes]:
    answer = _message(matching_pb2.EvaluateResponse, data)
    outputs: list[bytes] = _batch().finish(
        prf_keys().public, EvaluatedElements(answer.evaluated_elements), answer.proof
    )
    return outputs


def _answers() -> Iterator[bytes]:
    evaluated = suite.blind_evaluate(prf_keys().secret, _batch().blinded_elements)
    proof = suite.prove(prf_keys(), _batch().blinded_elements, evaluated, SeededRandom().bytes)
    yield matching_pb2.EvaluateResponse(evaluated_elements=evaluated, proof=proof).SerializeToString()


def _are_the_outputs(value: list[bytes]) -> None:
    promise(b"".join(value) == suite.evaluate(prf_keys().secret, (b"token one", b"token two")), "other outputs")


def _register(data: bytes) -> list[tuple[Record | None, tuple[str, ...]]]:
    request = _message(registry_pb2.RegisterRequest, data)
    for item in request.supersessions:
        convert.supersession_message(convert.parse_supersession(item)).SerializeToString()
    convert.parse_position(request)
    return [canonical(convert.parse_record(record)) for record in request.records]


def _are_canonical_records(value: list[tuple[Record | None, tuple[str, ...]]]) -> None:
    for record, problems in value:
        promise(not any(repeats_a_plant(problem) for problem in problems), "a problem repeats the input")
        if record is not None:
            for identifier in record.identifiers:
                promise(identifiers.normalise(identifier.type, identifier.value) == identifier.value, "not canonical")
            convert.record_message(record).SerializeToString()


def _records() -> Iterator[bytes]:
    record = Record(
        source=SourceSystem.SIS,
        source_ref="DE0000000000001",
        category="sis.38.g",
        identifiers=tuple(
            Identifier(kind, value, "$.object", "subject")
            for kind, value in (
                (IdentifierType.CONTAINER, "csqu 305438-3"), (IdentifierType.PLATE, "DE:B-AB 1234"), (IdentifierType.EMAIL, "a@example.org"),
                (IdentifierType.PHONE, "+49 30 12345678"), (IdentifierType.VIN, "WVWZZZ1JZXW000001"), (IdentifierType.IMO, "IMO 9074729"),
            )
        ),
        fields={Field.ACTION: ("seizure",), Field.WARNINGS: ("armed", "violent")},
        message_digest=bytes(32),
        valid_until=NOW + timedelta(days=365),
        parties=(Party("subject", PartyKind.PERSON, "Doe, Jo", "$.person", aliases=("J",), nationalities=("DE",), city="Bonn", postcode="53113"),),
        message_ref="DE0000000000001",
        version=version_of(NOW, Rank.AMENDMENT),
    )  # fmt: skip
    message = convert.record_message(record)
    yield registry_pb2.RegisterRequest(records=[message]).SerializeToString()
    ended = Supersession(SourceSystem.SIS, "DE0000000000001", version_of(NOW), withdrawn=True, reason="deleted")
    yield registry_pb2.RegisterRequest(
        records=[message, message],
        supersessions=[convert.supersession_message(ended)],
        position=registry_pb2.Position(key="SIS/own", text="2026-11-22"),
    ).SerializeToString()


def _read_set_request(data: bytes) -> str:
    return convert.parse_set_file(_message(matching_pb2.ReadSetRequest, data).file)


def targets() -> Iterator[Target]:
    """Yield the targets."""
    outside = (FormatError, ProtocolError)
    yield Target(
        "query",
        _query,
        outside,
        _queries,
        Shape.PROTOBUF,
        prepare=_committed,
        check=lambda it: promise(it.n_padded in messages.BATCH_SIZES, "a size off the ladder"),
    )
    padded = convert.open_case_request(_case()).SerializeToString
    yield Target("case-request", _read_case, outside, lambda: (padded(),), Shape.PROTOBUF)
    asking = convert.access_request_message(_access()).SerializeToString
    yield Target(
        "access-request",
        _read_access,
        outside,
        lambda: (asking(),),
        Shape.PROTOBUF,
        check=lambda it: promise(1 <= it[0] <= 24, "more identifiers than the agreement grants"),
    )
    yield Target("recall-request", _read_recall, (FormatError,), _recalls, Shape.PROTOBUF)
    yield Target("recall-acknowledgement", _read_acknowledgement, (FormatError,), _acknowledgements, Shape.PROTOBUF)
    yield Target("access-answer", _read_access_answer, (FormatError,), _access_answers, Shape.PROTOBUF)
    request = matching_pb2.ReadSetRequest(manifest_hash=bytes(32), file=matching_pb2.SET_FILE_FILTER, offset=9)
    yield Target(
        "read-set-request", _read_set_request, (FormatError,), lambda: (request.SerializeToString(),), Shape.PROTOBUF
    )
    yield Target("register-request", _register, (FormatError,), _records, Shape.PROTOBUF, check=_are_canonical_records)
    yield Target(
        "manifest-answer",
        _take_manifest,
        (FormatError, PeerError),
        _manifest_answers,
        Shape.PROTOBUF,
        prepare=_manifest_answer,
    )
    yield Target(
        "evaluation-answer",
        _finish,
        (FormatError, PeerError),
        _answers,
        Shape.PROTOBUF,
        check=_are_the_outputs,
        max_bytes=8192,
    )
    yield Target("outcome-answer", _take_outcome, (FormatError, PeerError), _outcomes, Shape.PROTOBUF, prepare=_outcome)
    yield Target(
        "envelope", kept(disclosure.parse_envelope), (FormatError,), _envelope_seeds, Shape.JSON, prepare=_padded,
        check=inverse(disclosure.encode_envelope), max_bytes=disclosure.MAX_ENVELOPE + 1,
    )  # fmt: skip
