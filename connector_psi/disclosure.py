"""The life of a case between a hit and its outcome: states, times, and the one envelope that leaves the owner.

Rules:

1. The answer to a case is pending until its outcome, which is ``DISCLOSED`` or ``NOT_DISCLOSED`` and never a reason.
2. Times say nothing: an outcome is written at a slot (a multiple of ``slot_s`` since the Unix epoch), the next one
   after a person decided, a random one for an automatic refusal, the last one before ``accepted + T`` if nobody
   decided. A disclosure is served from that slot, everything else at ``accepted + T``. Where the owner gets no notice
   nobody decides, and every outcome is written and served at the next slot.
3. Sizes say nothing: an envelope is padded to a step of ``ENVELOPE_SIZES``, and ``NOT_DISCLOSED`` has the keys and the
   size of the smallest disclosure. Where the owner gets no notice, all have one size.
4. What leaves is what ``policy.decide`` allowed, no more.

Leaves to others: who decides what (``policy``), storing states and leaves, and serving (``node``). Free of I/O; time
and randomness come from the caller.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Any, Final, TypeVar

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from connector_psi.domain.clock import RandomSource
from connector_psi.domain.purposes import RETENTION_YEARS, Handling, HandlingCode, OwnerNotice, Purpose, RetentionClass
from connector_psi.domain.records import Field, Record
from connector_psi.errors import ConfigError, ConflictError, FormatError, ProtocolError, PurposeRefusedError
from connector_psi.policy import (
    Agreement,
    Decision,
    DisclosureRequest,
    FieldReason,
    Reason,
    decide,
    field_reasons,
    handling_codes_of,
)

CASE_TIME_S: Final = 72 * 3600
"""T of the protocol: how long the owner's people have."""
ENVELOPE_SIZES: Final = (4_096, 16_384, 65_536, 262_144)
MAX_ENVELOPE: Final = ENVELOPE_SIZES[-1]
SILENT_ENVELOPE: Final = ENVELOPE_SIZES[1]
"""Size of every envelope where the owner gets no notice; a record that does not fit is not disclosed."""
SILENT_CASE: Final = ENVELOPE_SIZES[1]
"""Size of every request there."""
SILENT_TEXT_BYTES: Final = 4_800
"""Of reference and justification there, together: they fit into rows and log entries of one size."""
CASE_ID_BYTES: Final = 16
SALT_BYTES: Final = 32
_SIGNED: Final = b"connector-psi/v1 disclosure\n"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

# --- States -----------------------------------------------------------------------------------------------------------


class CaseState(StrEnum):
    """A case as the querier sees it."""

    DRAFTED = "drafted"
    PENDING = "pending"
    DISCLOSED = "disclosed"
    NOT_DISCLOSED = "not_disclosed"
    EXPIRED = "expired"
    """Erased at the end of its retention, or never answered within the case window."""


class OwnerCaseState(StrEnum):
    """A case as the owner sees it."""

    RECEIVED = "received"
    AWAITING_DECISION = "awaiting_decision"
    APPROVED = "approved"
    REFUSED = "refused"
    AUTO_REFUSED = "auto_refused"
    LAPSED = "lapsed"
    """Nobody decided before the last slot."""
    RELEASED = "released"
    """The outcome's leaf is durable; from here nothing of it changes."""
    ERASED = "erased"
    """What was served is gone, and what it was is in the log."""


_State = TypeVar("_State", CaseState, OwnerCaseState)
TRANSITIONS: Final[Mapping[StrEnum, frozenset[StrEnum]]] = MappingProxyType(
    {
        CaseState.DRAFTED: frozenset({CaseState.PENDING, CaseState.EXPIRED}),
        CaseState.PENDING: frozenset({CaseState.DISCLOSED, CaseState.NOT_DISCLOSED, CaseState.EXPIRED}),
        CaseState.DISCLOSED: frozenset({CaseState.EXPIRED}),
        CaseState.NOT_DISCLOSED: frozenset({CaseState.EXPIRED}),
        CaseState.EXPIRED: frozenset(),
        OwnerCaseState.RECEIVED: frozenset(
            {
                OwnerCaseState.AWAITING_DECISION,
                OwnerCaseState.APPROVED,
                OwnerCaseState.AUTO_REFUSED,
                # Where the owner gets no notice: no state between tells what becomes of it.
                OwnerCaseState.RELEASED,
            }
        ),
        OwnerCaseState.AWAITING_DECISION: frozenset(
            {OwnerCaseState.APPROVED, OwnerCaseState.REFUSED, OwnerCaseState.AUTO_REFUSED, OwnerCaseState.LAPSED}
        ),
        # A record that is withdrawn between approval and slot is not disclosed any more.
        OwnerCaseState.APPROVED: frozenset({OwnerCaseState.RELEASED, OwnerCaseState.AUTO_REFUSED}),
        OwnerCaseState.REFUSED: frozenset({OwnerCaseState.RELEASED}),
        OwnerCaseState.AUTO_REFUSED: frozenset({OwnerCaseState.RELEASED}),
        OwnerCaseState.LAPSED: frozenset({OwnerCaseState.RELEASED}),
        OwnerCaseState.RELEASED: frozenset({OwnerCaseState.ERASED}),
        OwnerCaseState.ERASED: frozenset(),
    }
)


WAITING: Final = frozenset(
    {CaseState.DRAFTED, CaseState.PENDING, OwnerCaseState.RECEIVED, OwnerCaseState.AWAITING_DECISION}
)
"""States in which a case has no answer yet."""


def advance(current: _State, new: _State) -> _State:
    """Return ``new`` if a case may go there from ``current``.

    Raises:
        ConflictError: It may not: a second decision, or a step back.
    """
    if new not in TRANSITIONS[current]:
        raise ConflictError(f"a case that is {current} cannot become {new}")
    return new


def _says_something(name: Field, values: tuple[str, ...]) -> bool:
    # "none" is how a source says that it knows no class of data subject; for a person that is a refusal.
    return bool(values) and not (name is Field.SUBJECT_CLASS and values == ("none",))


def decide_case(
    agreement: Agreement,
    request: DisclosureRequest,
    record: Record | None,
    *,
    approved_by: Sequence[str],
    now: datetime,
    synthetic: bool,
    provider_consent: Collection[Field] = (),
) -> Decision:
    """Decide a case about a record of the owner's store.

    Args:
        agreement: Of the case.
        request: What the querier said.
        record: Behind the ticket; None if the ticket is unknown, the redeem codes do not match or the record is gone.
        approved_by: People at the owner so far.
        now: Aware. A record whose validity has ended counts as gone.
        synthetic: Whether this node holds synthetic data only.
        provider_consent: Fields that the provider of the data released for this case.
    """
    if request.agreement != agreement.code:
        return Decision(allowed=False, reason=Reason.PURPOSE_NOT_AGREED)
    fields: Mapping[Field, tuple[str, ...]] = record.fields if record else {}
    return decide(
        agreement,
        purpose=request.purpose,
        legal_basis=request.legal_basis,
        category=record.category if record else "",
        available_fields=_available(fields),
        confirmed_by=request.querier_people,
        approved_by=approved_by,
        case_reference=request.case_reference,
        justification=request.justification,
        now=now,
        synthetic=synthetic,
        hidden=record is None or record.hidden or (record.valid_until is not None and record.valid_until <= now),
        handling_codes=fields.get(Field.HANDLING_CODES, ()),
        provider_consent=provider_consent,
    )


def reasons_of_record(
    agreement: Agreement, record: Record, *, provider_consent: Collection[Field]
) -> dict[Field, FieldReason]:
    """Return why each field of a record would be disclosed or not, for the person who decides."""
    return field_reasons(
        agreement,
        _available(record.fields),
        handling_codes=record.fields.get(Field.HANDLING_CODES, ()),
        provider_consent=provider_consent,
    )


def _available(fields: Mapping[Field, tuple[str, ...]]) -> list[Field]:
    return [name for name, values in fields.items() if _says_something(name, values)]


def state_after(decision: Decision) -> OwnerCaseState:
    """Return where a decision leads: what only lacks people waits, any other refusal is automatic."""
    if decision.allowed:
        return OwnerCaseState.APPROVED
    if decision.reason is Reason.APPROVAL_MISSING:
        return OwnerCaseState.AWAITING_DECISION
    return OwnerCaseState.AUTO_REFUSED


# --- Times ------------------------------------------------------------------------------------------------------------


def _slot_number(t: datetime, slot_s: int) -> int:
    # timedelta division is exact; a float timestamp is not.
    return (t - _EPOCH) // timedelta(seconds=slot_s)


def _slot(number: int, slot_s: int) -> datetime:
    return _EPOCH + timedelta(seconds=number * slot_s)


def _bounds(accepted: datetime, t_s: int, slot_s: int) -> tuple[int, int]:
    """Numbers of the first slot after ``accepted`` and the last one before ``accepted + T``."""
    if slot_s < 1 or t_s < 2 * slot_s:
        raise ConfigError("cases: the time to decide must hold at least two slots")
    end = not_disclosed_at(accepted, t_s)
    last = _slot_number(end, slot_s)
    return _slot_number(accepted, slot_s) + 1, last - (_slot(last, slot_s) == end)


def next_slot(t: datetime, slot_s: int) -> datetime:
    """Return the first slot after ``t``; a slot's own instant leads to the next.

    Args:
        t: Aware.
        slot_s: Length of a slot in seconds, at least 1.
    """
    return _slot(_slot_number(t, slot_s) + 1, slot_s)


def last_slot(accepted: datetime, t_s: int, slot_s: int) -> datetime:
    """Return the last slot before ``accepted + T``: then an undecided case is over.

    Raises:
        ConfigError: ``T`` does not hold two slots.
    """
    return _slot(_bounds(accepted, t_s, slot_s)[1], slot_s)


def random_slot_before(accepted: datetime, t_s: int, slot_s: int, random: RandomSource) -> datetime:
    """Return a slot between ``accepted`` and ``accepted + T``, each equally likely.

    Raises:
        ConfigError: ``T`` does not hold two slots.
    """
    first, last = _bounds(accepted, t_s, slot_s)
    count = last - first + 1
    # Rejection, so that no slot is likelier than another.
    limit = (1 << 64) - (1 << 64) % count
    while (draw := int.from_bytes(random.bytes(8), "big")) >= limit:
        pass
    return _slot(first + draw % count, slot_s)


def outcome_slot(accepted: datetime, decided: datetime | None, t_s: int, slot_s: int) -> datetime:
    """Return when the outcome of a case that people decide is written: either way at the slot after their decision.

    Automatic refusals take ``random_slot_before`` instead.

    Args:
        accepted: When the case was accepted; aware.
        decided: When the last person needed decided; None while nobody did.
        t_s: The time to decide, in seconds.
        slot_s: Length of a slot in seconds.

    Returns:
        A slot, at the latest ``last_slot``; whoever decides after it is too late.

    Raises:
        ConfigError: ``T`` does not hold two slots.
    """
    last = last_slot(accepted, t_s, slot_s)
    return last if decided is None else min(next_slot(decided, slot_s), last)


def not_disclosed_at(accepted: datetime, t_s: int) -> datetime:
    """Return when ``NOT_DISCLOSED`` is served: ``accepted + T``, whatever the reason."""
    return accepted + timedelta(seconds=t_s)


def erase_after(retention_class: RetentionClass, served: datetime) -> datetime:
    """Return when a disclosure served at ``served`` must be gone, to the second, in UTC."""
    start = served.astimezone(UTC).replace(microsecond=0)
    year = start.year + RETENTION_YEARS[retention_class]
    try:
        return start.replace(year=year)
    except ValueError:
        return start.replace(year=year, day=28)  # 29 February, rounded down: never longer than the law says


def window_end(opened: datetime, t_s: int, case_window_days: int) -> datetime:
    """Return when a case is over: the owner's copy of what it served is erased, and an unanswered case expires.

    It counts from ``opened + T``, whatever became of the case, so that the time of erasure tells nothing either.

    Args:
        opened: When it was opened, or taken in, at this side; aware.
        t_s: The time to decide, in seconds.
        case_window_days: Of the agreement.
    """
    return not_disclosed_at(opened, t_s) + timedelta(days=case_window_days)


def working_days_after(start: datetime, days: int) -> datetime:
    """Return when so many working days are over: the same time of day, so many days on that are no Saturday or Sunday.

    What begins on a Saturday or Sunday begins with Monday. Public holidays differ by state and count as working days:
    too early is safe.

    Args:
        start: Aware; the week is that of UTC.
        days: At least 0.

    Source: two working days, Regulation (EU) 2018/1862, Article 59(3).
    """
    at = start.astimezone(UTC)
    if at.weekday() >= 5:
        at = (at + timedelta(days=7 - at.weekday())).replace(hour=0, minute=0, second=0, microsecond=0)
    for _ in range(days):
        at += timedelta(days=3 if at.weekday() == 4 else 1)
    return at


# --- Envelope ---------------------------------------------------------------------------------------------------------


class Outcome(StrEnum):
    """All that a querier learns about a decision."""

    DISCLOSED = "DISCLOSED"
    NOT_DISCLOSED = "NOT_DISCLOSED"


class Grade(StrEnum):
    """What a person thinks of a justification."""

    ADEQUATE = "adequate"
    THIN = "thin"
    """It carries the disclosure and says too little about why; for the data protection officer to follow."""
    INADEQUATE = "inadequate"
    """It carries nothing."""


class RecallCause(IntEnum):
    """Why something disclosed is recalled; the numbers are those of the wire."""

    RECORD_WITHDRAWN = 1
    """Its source took the record back, or it does not carry the match any more."""
    RECORD_CHANGED = 2
    DATA_WRONG = 3
    """A person at the owner says so."""


class RecallEffect(IntEnum):
    """What became of it at the recipient; the numbers are those of the wire."""

    RECEIVED = 1
    """Where the owner gets no notice it learns no more."""
    ERASED = 2
    REPLACED = 3
    SUPERSEDED = 4
    """A later recall of the same case is there."""
    NOTHING_HELD = 5
    """Nothing of it was kept any more."""


RECALL_WORKING_DAYS: Final = 2
"""Within which a person at the recipient acknowledges a recall."""


class Obligation(StrEnum):
    """What the recipient takes on."""

    ERASE_AFTER = "erase_after"
    NO_ONWARD_TRANSFER = "no_onward_transfer"
    PERSON_DECIDES = "person_decides"
    """No adverse decision without a person."""
    SEIZE_AND_CONTACT = "seize_and_contact"
    CONTACT_PROVIDER = "contact_provider"
    NOT_AS_EVIDENCE = "not_as_evidence"
    KEEP_DISCREET = "keep_discreet"
    """Nobody outside the recipient learns of it, those at the owner's desk included."""


_PURPOSE_OBLIGATIONS: Final[Mapping[Purpose, frozenset[Obligation]]] = MappingProxyType(
    {
        Purpose.OBJECT_SEIZURE: frozenset({Obligation.SEIZE_AND_CONTACT}),
        Purpose.CROSS_CHECKING: frozenset({Obligation.CONTACT_PROVIDER}),
        Purpose.CUSTOMS_RISK: frozenset(),
        **dict.fromkeys(
            (Purpose.CUSTOMS_COOPERATION, Purpose.CRIMINAL_INVESTIGATION, Purpose.CUSTOMS_FRAUD),
            frozenset({Obligation.CONTACT_PROVIDER}),
        ),
        Purpose.MARITIME_AWARENESS: frozenset(),
        **dict.fromkeys(
            (Purpose.DISCREET_CHECK, Purpose.ARREST, Purpose.MISSING_PERSONS, Purpose.JUDICIAL_PROCEDURE),
            frozenset({Obligation.KEEP_DISCREET}),
        ),
    }
)
_AGREEMENT: Final = re.compile(r"[A-Z][A-Z0-9]{1,7}(-[A-Z0-9]{1,8})?:[a-z0-9]{2,16}-[a-z0-9]{2,16}")
_INSTANT: Final = "%Y-%m-%dT%H:%M:%SZ"
_HANDLING: Final = frozenset({*Handling, *HandlingCode})
_MAX_INTEGER: Final = 2**53 - 1


@dataclass(frozen=True, slots=True)
class Envelope:
    """What an owner sends as the outcome of a case, before padding and signature.

    Raises:
        ValueError: A value has no encoding, or ``NOT_DISCLOSED`` says anything.
    """

    case_id: bytes
    agreement: str
    epoch: int
    outcome: Outcome
    retention_class: RetentionClass
    erase_after: datetime
    """UTC, whole seconds."""
    fields: Mapping[Field, tuple[str, ...]] = field(default_factory=dict, repr=False)
    handling: tuple[str, ...] = ()
    """The handling regime, then Europol's codes where it has them."""
    evaluation: tuple[str, ...] = ()
    obligations: tuple[Obligation, ...] = ()

    def __post_init__(self) -> None:
        if len(self.case_id) != CASE_ID_BYTES or not 0 <= self.epoch <= _MAX_INTEGER:
            raise ValueError("case or epoch out of range")
        if not _AGREEMENT.fullmatch(self.agreement):
            raise ValueError("not the code of an agreement")
        if self.erase_after.tzinfo is not UTC or self.erase_after.microsecond or self.erase_after.year < 1000:
            raise ValueError("not a whole second in UTC")
        if not set(self.handling) <= _HANDLING:
            raise ValueError("not a handling code")
        if not all(self.fields.values()):
            raise ValueError("a field without values")
        if any(type(text) is not str for texts in (*self.fields.values(), self.evaluation) for text in texts):
            raise ValueError("a value that is no text")
        if self.outcome is Outcome.NOT_DISCLOSED and (
            self.fields or self.handling or self.evaluation or self.obligations
        ):
            raise ValueError("NOT_DISCLOSED says nothing")


def release_fields(decision: Decision, fields: Mapping[Field, tuple[str, ...]]) -> dict[Field, tuple[str, ...]]:
    """Return what of a record leaves: the fields that the decision names, in its order, and nothing if it refuses."""
    if not decision.allowed:
        return {}
    return {name: fields[name] for name in decision.disclosed if fields.get(name)}


def disclosed(
    agreement: Agreement, decision: Decision, record: Record, *, case_id: bytes, epoch: int, served: datetime
) -> Envelope:
    """Build the envelope of a case that was allowed.

    Args:
        agreement: Of the case.
        decision: From ``decide_case`` about this record, with every approval.
        record: The owner's record.
        case_id: 16 bytes.
        epoch: Of the set that was asked.
        served: The slot from which it is served; retention counts from there.

    Raises:
        PurposeRefusedError: The decision refuses, or the record has no field of it any more.
    """
    fields = release_fields(decision, record.fields)
    if not fields:
        raise PurposeRefusedError(f"{agreement.code}: {decision.reason}")
    handling: tuple[str, ...] = (agreement.handling.value,)
    obligations = {Obligation.ERASE_AFTER, Obligation.NO_ONWARD_TRANSFER, Obligation.PERSON_DECIDES}
    obligations |= _PURPOSE_OBLIGATIONS[agreement.purpose]
    if agreement.handling is Handling.EUROPOL_CODES:
        codes = handling_codes_of(record.fields.get(Field.HANDLING_CODES, ()))
        handling += tuple(code.value for code in codes)
        if HandlingCode.H1 in codes:
            obligations.add(Obligation.NOT_AS_EVIDENCE)
    return Envelope(
        case_id=case_id,
        agreement=agreement.code,
        epoch=epoch,
        outcome=Outcome.DISCLOSED,
        retention_class=agreement.retention_class,
        erase_after=erase_after(agreement.retention_class, served),
        fields=fields,
        handling=handling,
        evaluation=fields.get(Field.EVALUATION_CODE, ()),
        obligations=tuple(sorted(obligations)),
    )


def not_disclosed(agreement: Agreement, *, case_id: bytes, epoch: int, served: datetime) -> Envelope:
    """Build the one other envelope. It depends on nothing but what the querier knows already.

    Args:
        agreement: Of the case.
        case_id: 16 bytes.
        epoch: Of the set that was asked.
        served: When it is served: ``not_disclosed_at``, or the slot of every outcome where the owner gets no notice.
    """
    return Envelope(
        case_id=case_id,
        agreement=agreement.code,
        epoch=epoch,
        outcome=Outcome.NOT_DISCLOSED,
        retention_class=agreement.retention_class,
        erase_after=erase_after(agreement.retention_class, served),
    )


def is_silent(agreement: Agreement) -> bool:
    """Return whether the owner gets no notice: nothing there may tell a disclosure from anything else."""
    return agreement.owner_notice is OwnerNotice.NONE


def envelope_sizes(agreement: Agreement) -> tuple[int, ...]:
    """Return the sizes that an envelope of an agreement may have, ascending."""
    return (SILENT_ENVELOPE,) if is_silent(agreement) else ENVELOPE_SIZES


def encode_envelope(envelope: Envelope, sizes: Sequence[int] = ENVELOPE_SIZES) -> bytes:
    """Return the padded bytes: length (uint32, big-endian), RFC 8785 JSON, zeros up to the first size that holds it.

    Args:
        envelope: The outcome.
        sizes: From ``envelope_sizes``.

    Raises:
        FormatError: The fields need more than the largest size, or hold text that UTF-8 cannot.
    """
    try:
        payload = rfc8785.dumps(
            {
                "v": 1,
                "case_id": envelope.case_id.hex(),
                "agreement": envelope.agreement,
                "epoch": envelope.epoch,
                "outcome": envelope.outcome.value,
                "fields": {name.value: list(values) for name, values in envelope.fields.items()},
                "handling": list(envelope.handling),
                "evaluation": list(envelope.evaluation),
                "retention_class": envelope.retention_class.value,
                "erase_after": envelope.erase_after.strftime(_INSTANT),
                "obligations": [obligation.value for obligation in envelope.obligations],
            }
        )
    except rfc8785.CanonicalizationError:
        raise FormatError("disclosure: a field holds no valid text") from None
    size = next((size for size in sizes if 4 + len(payload) <= size), None)
    if size is None:
        raise FormatError(f"disclosure: larger than {sizes[-1]} bytes")
    return (struct.pack(">I", len(payload)) + payload).ljust(size, b"\0")


def parse_envelope(padded: bytes, sizes: Sequence[int] = ENVELOPE_SIZES) -> Envelope:
    """Read an envelope whose signature was verified; only the exact bytes of ``encode_envelope`` pass.

    Args:
        padded: The bytes that were signed.
        sizes: From ``envelope_sizes``.

    Raises:
        FormatError: For any other bytes.
    """
    malformed = FormatError("disclosure: malformed")
    if len(padded) not in sizes:
        raise malformed
    (length,) = struct.unpack_from(">I", padded)
    try:
        envelope = _envelope(json.loads(padded[4 : 4 + length]))
        # One comparison refuses other paddings, key orders, duplicate keys and unknown keys.
        exact = encode_envelope(envelope, sizes) == padded
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, FormatError):
        raise malformed from None
    if not exact:
        raise malformed
    return envelope


def _envelope(tree: Any) -> Envelope:  # noqa: ANN401  # untrusted JSON; parse_envelope turns every failure into one
    if type(tree["epoch"]) is not int:
        raise TypeError
    return Envelope(
        case_id=bytes.fromhex(tree["case_id"]),
        agreement=tree["agreement"],
        epoch=tree["epoch"],
        outcome=Outcome(tree["outcome"]),
        retention_class=RetentionClass(tree["retention_class"]),
        erase_after=datetime.strptime(tree["erase_after"], _INSTANT).replace(tzinfo=UTC),
        fields={Field(name): tuple(values) for name, values in tree["fields"].items()},
        handling=tuple(tree["handling"]),
        evaluation=tuple(tree["evaluation"]),
        obligations=tuple(map(Obligation, tree["obligations"])),
    )


def outcome_terms(envelope: Envelope) -> dict[str, Any]:
    """Return what a querier keeps of an envelope beside its receipt, JSON-able."""
    return {
        "outcome": envelope.outcome.value,
        "fields": {name.value: list(values) for name, values in envelope.fields.items()},
        "handling": list(envelope.handling),
        "evaluation": list(envelope.evaluation),
        "obligations": [obligation.value for obligation in envelope.obligations],
        "retention_class": envelope.retention_class.value,
        "erase_after": envelope.erase_after.isoformat(),
    }


def sign_envelope(key: Ed25519PrivateKey, padded: bytes) -> bytes:
    """Return the owner's signature over the padded bytes, 64 bytes."""
    return key.sign(_SIGNED + padded)


def verify_envelope(key: Ed25519PublicKey, padded: bytes, signature: bytes) -> None:
    """Check the owner's signature over the padded bytes.

    Raises:
        ProtocolError: It does not verify.
    """
    try:
        key.verify(signature, _SIGNED + padded)
    except InvalidSignature:
        raise ProtocolError("disclosure: the signature does not verify") from None


def verify_release(agreement: Agreement, envelope: Envelope, case_id: bytes) -> None:
    """Check, at the querier, that an envelope answers this case and holds nothing that the agreement does not name.

    Raises:
        ProtocolError: It does not.
    """
    if envelope.agreement != agreement.code or envelope.case_id != case_id:
        raise ProtocolError(f"{agreement.code}: the disclosure answers another case")
    if not envelope.fields.keys() <= agreement.disclose.keys():
        raise ProtocolError(f"{agreement.code}: the disclosure holds a field that was not agreed")
    if envelope.retention_class is not agreement.retention_class:
        raise ProtocolError(f"{agreement.code}: the disclosure has another retention class")


def source_commitment(salt: bytes, padded: bytes) -> bytes:
    """Return what the outcome's leaf binds: ``SHA-256(salt || padded)``, 32 bytes.

    Args:
        salt: 32 random bytes, sent along, whatever the outcome.
        padded: The bytes that are signed, without signature and proof.

    Raises:
        FormatError: The salt has another length.

    Source: disclosure log, "A leaf holds no personal data".
    """
    if len(salt) != SALT_BYTES:
        raise FormatError("disclosure: the salt is not 32 bytes")
    return hashlib.sha256(salt + padded).digest()
