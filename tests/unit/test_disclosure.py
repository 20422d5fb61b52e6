from __future__ import annotations

import dataclasses
import hashlib
import json
import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from connector_psi import disclosure
from connector_psi.disclosure import (
    ENVELOPE_SIZES,
    CaseState,
    Envelope,
    Obligation,
    Outcome,
    OwnerCaseState,
    advance,
    decide_case,
    disclosed,
    encode_envelope,
    erase_after,
    last_slot,
    next_slot,
    not_disclosed,
    not_disclosed_at,
    outcome_slot,
    parse_envelope,
    random_slot_before,
    release_fields,
    sign_envelope,
    source_commitment,
    state_after,
    verify_envelope,
    verify_release,
)
from connector_psi.domain.purposes import RetentionClass
from connector_psi.domain.records import Field, Record, SourceSystem
from connector_psi.errors import ConfigError, ConflictError, FormatError, ProtocolError, PurposeRefusedError
from connector_psi.pack.reading import load_policy
from connector_psi.policy import Agreement, Decision, DisclosureRequest, Reason, instantiate

PACK = load_policy(Path(__file__).resolve().parents[2] / "nodes" / "ics2" / "policy.yaml")
NOW = datetime(2026, 11, 22, 12, 0, 30, tzinfo=UTC)
CASE = bytes(range(16))
HOUR = 3600
OFFICER = "urn:connector-psi:person:ics2:officer:o1"


def agreement(code: str = "SIS-OBJ") -> Agreement:
    (template,) = [t for t in PACK.templates if t.code == code]
    return instantiate(template, "ics2", {"SIS-OBJ": "sis", "EUR-XCHK": "europol"}[code], synthetic=True)


def request(terms: Agreement, **changes: Any) -> DisclosureRequest:
    made = DisclosureRequest(terms.code, terms.purpose, terms.legal_basis[0], "CASE-1", "route fits", (OFFICER,))
    return dataclasses.replace(made, **changes)


ALERT = Record(
    source=SourceSystem.SIS,
    source_ref="alert-1",
    category="sis.38.g",
    identifiers=(),
    fields={
        Field.OBJECT_TYPE: ("container",),
        Field.OBJECT_IDENTIFIERS: ("CSQU3054383",),
        Field.ACTION: ("seize and contact",),
        Field.SCHENGEN_ID: ("XX0001",),
        Field.ISSUING_STATE: ("XX",),
        Field.SIRENE_CONTACT: ("sirene@example.org",),
        Field.ALERT_REASON: ("secret reason",),
        Field.OFFENCE: ("secret offence",),
        Field.WARNINGS: ("secret warning",),
    },
    message_digest=bytes(32),
)
VEHICLE = dataclasses.replace(
    ALERT,
    source=SourceSystem.EIS,
    category="eis.vehicle",
    fields={Field.OBJECT_TYPE: ("vehicle",), Field.PROVIDER: ("XX",), Field.NAMES: ("N N",)},
)


def allowed(terms: Agreement, record: Record = ALERT, **changes: Any) -> Decision:
    approver = f"urn:connector-psi:person:{terms.owner}:officer:a1"
    return decide_case(terms, request(terms), record, approved_by=[approver], now=NOW, synthetic=True, **changes)


def envelope(record: Record = ALERT, code: str = "SIS-OBJ", **changes: Any) -> Envelope:
    terms = agreement(code)
    return disclosed(terms, allowed(terms, record, **changes), record, case_id=CASE, epoch=3, served=NOW)


class TestStates:
    def test_a_case_of_each_side_goes_its_way(self) -> None:
        for path in (
            [CaseState.DRAFTED, CaseState.PENDING, CaseState.DISCLOSED, CaseState.EXPIRED],
            [CaseState.DRAFTED, CaseState.PENDING, CaseState.NOT_DISCLOSED, CaseState.EXPIRED],
        ):
            for current, new in pairwise(path):
                assert advance(current, new) is new
        for middle in (OwnerCaseState.APPROVED, OwnerCaseState.REFUSED, OwnerCaseState.LAPSED):
            assert advance(OwnerCaseState.AWAITING_DECISION, middle) is middle
            assert advance(middle, OwnerCaseState.RELEASED) is OwnerCaseState.RELEASED

    @pytest.mark.parametrize(
        ("current", "new"),
        [
            (OwnerCaseState.REFUSED, OwnerCaseState.APPROVED),
            (OwnerCaseState.APPROVED, OwnerCaseState.APPROVED),
            (OwnerCaseState.LAPSED, OwnerCaseState.APPROVED),
            (OwnerCaseState.RELEASED, OwnerCaseState.APPROVED),
            (OwnerCaseState.AWAITING_DECISION, OwnerCaseState.RELEASED),
        ],
    )
    def test_the_owner_decides_once(self, current: OwnerCaseState, new: OwnerCaseState) -> None:
        with pytest.raises(ConflictError):
            advance(current, new)

    def test_an_outcome_is_final_for_the_querier(self) -> None:
        with pytest.raises(ConflictError):
            advance(CaseState.NOT_DISCLOSED, CaseState.DISCLOSED)

    def test_what_only_lacks_people_waits_and_the_rest_is_refused_by_itself(self) -> None:
        terms = agreement()
        waiting = decide_case(terms, request(terms), ALERT, approved_by=[], now=NOW, synthetic=True)
        assert state_after(waiting) is OwnerCaseState.AWAITING_DECISION
        assert state_after(allowed(terms)) is OwnerCaseState.APPROVED
        refused = decide_case(
            terms, request(terms, purpose="cpsi:Other"), ALERT, approved_by=[], now=NOW, synthetic=True
        )
        assert state_after(refused) is OwnerCaseState.AUTO_REFUSED

    @pytest.mark.parametrize(
        "record",
        [
            None,
            dataclasses.replace(ALERT, hidden=True),
            dataclasses.replace(ALERT, valid_until=NOW),
        ],
    )
    def test_unknown_hidden_and_withdrawn_records_are_one(self, record: Record | None) -> None:
        terms = agreement()
        decision = decide_case(terms, request(terms), record, approved_by=["x"], now=NOW, synthetic=True)
        assert (decision.allowed, decision.reason) == (False, Reason.RECORD_UNAVAILABLE)

    def test_a_person_linked_to_no_class_is_of_unknown_class(self) -> None:
        terms = agreement("EUR-XCHK").model_copy(update={"categories": ("eis.person",)})
        for subject_class, reason in (("none", Reason.SUBJECT_CLASS_UNKNOWN), ("suspect", Reason.ALLOWED)):
            fields = {**VEHICLE.fields, Field.SUBJECT_CLASS: (subject_class,)}
            person = dataclasses.replace(VEHICLE, category="eis.person", fields=fields)
            assert allowed(terms, person).reason is reason

    def test_a_request_under_another_agreement_is_refused(self) -> None:
        decision = decide_case(
            agreement(),
            request(agreement(), agreement="EUR-XCHK:ics2-sis"),
            ALERT,
            approved_by=["x"],
            now=NOW,
            synthetic=True,
        )
        assert not decision.allowed


class TestTimes:
    def test_slots_are_multiples_since_the_unix_epoch(self) -> None:
        assert next_slot(NOW, HOUR) == datetime(2026, 11, 22, 13, tzinfo=UTC)
        assert next_slot(datetime(2026, 11, 22, 13, tzinfo=UTC), HOUR) == datetime(2026, 11, 22, 14, tzinfo=UTC)
        assert next_slot(NOW + timedelta(microseconds=1), 7).timestamp() % 7 == 0

    def test_an_outcome_follows_the_decision_either_way_and_never_passes_the_last_slot(self) -> None:
        time_s = 72 * HOUR
        end = not_disclosed_at(NOW, time_s)
        assert end == NOW + timedelta(hours=72)
        assert last_slot(NOW, time_s, HOUR) == datetime(2026, 11, 25, 12, tzinfo=UTC)
        assert outcome_slot(NOW, NOW + timedelta(minutes=70), time_s, HOUR) == datetime(2026, 11, 22, 14, tzinfo=UTC)
        assert outcome_slot(NOW, None, time_s, HOUR) == last_slot(NOW, time_s, HOUR)
        assert outcome_slot(NOW, end - timedelta(seconds=1), time_s, HOUR) == last_slot(NOW, time_s, HOUR)

    def test_the_last_slot_is_before_the_end_even_if_both_meet(self) -> None:
        accepted = datetime(2026, 11, 22, 12, tzinfo=UTC)
        assert last_slot(accepted, 2 * HOUR, HOUR) == datetime(2026, 11, 22, 13, tzinfo=UTC)

    def test_automatic_refusals_use_every_slot_alike(self) -> None:
        seeded = random.Random(5)

        class Seeded:
            def bytes(self, n: int) -> bytes:
                return seeded.randbytes(n)

        seen = [random_slot_before(NOW, 6 * HOUR, HOUR, Seeded()) for _ in range(1_200)]
        slots = sorted(set(seen))
        assert slots == [datetime(2026, 11, 22, hour, tzinfo=UTC) for hour in range(13, 19)]
        assert all(150 < seen.count(slot) < 250 for slot in slots)

    def test_a_draw_that_would_favour_a_slot_is_thrown_away(self) -> None:
        draws = iter([b"\xff" * 8, bytes(8)])

        class Fixed:
            def bytes(self, n: int) -> bytes:
                return next(draws)

        assert random_slot_before(NOW, 6 * HOUR, HOUR, Fixed()) == datetime(2026, 11, 22, 13, tzinfo=UTC)
        assert next(draws, None) is None

    @pytest.mark.parametrize(("time_s", "slot_s"), [(HOUR, HOUR), (2 * HOUR - 1, HOUR), (HOUR, 0), (HOUR, -1)])
    def test_a_time_without_room_is_a_configuration_error(self, time_s: int, slot_s: int) -> None:
        with pytest.raises(ConfigError):
            last_slot(NOW, time_s, slot_s)

    def test_retention_ends_to_the_day(self) -> None:
        leap = datetime(2028, 2, 29, 1, 2, 3, 4, tzinfo=UTC)
        assert erase_after(RetentionClass.SIS_3Y, leap) == datetime(2031, 2, 28, 1, 2, 3, tzinfo=UTC)
        assert erase_after(RetentionClass.INTEROP_1Y, NOW) == NOW.replace(year=2027)


class TestRelease:
    def test_a_withheld_field_never_enters_the_envelope(self) -> None:
        made = envelope()
        assert set(made.fields) == set(agreement().disclose)
        assert b"secret" not in encode_envelope(made)
        assert b"seize and contact" in encode_envelope(made)

    def test_a_refusal_releases_nothing_and_builds_nothing(self) -> None:
        terms = agreement()
        for reason in (Reason.APPROVAL_MISSING, Reason.RECORD_UNAVAILABLE):
            refused = Decision(allowed=False, reason=reason, disclosed=(Field.ACTION,))
            assert release_fields(refused, ALERT.fields) == {}
            with pytest.raises(PurposeRefusedError):
                disclosed(terms, refused, ALERT, case_id=CASE, epoch=1, served=NOW)

    def test_a_field_that_vanished_is_left_out(self) -> None:
        decision = Decision(allowed=True, reason=Reason.ALLOWED, disclosed=(Field.ACTION, Field.OFFENCE))
        assert release_fields(decision, {Field.ACTION: ("a",), Field.OFFENCE: ()}) == {Field.ACTION: ("a",)}

    def test_handling_and_obligations_travel(self) -> None:
        made = envelope()
        assert made.handling == ("sis_purpose_bound",)
        assert Obligation.SEIZE_AND_CONTACT in made.obligations
        assert Obligation.ERASE_AFTER in made.obligations
        assert (made.retention_class, made.erase_after) == (RetentionClass.SIS_3Y, NOW.replace(year=2029))

    @pytest.mark.parametrize(
        ("codes", "handling", "named", "evidence"),
        [
            ((), ("europol_codes", "H2", "H3"), False, True),
            (("H0",), ("europol_codes", "H0"), True, True),
            (("H0", "H1"), ("europol_codes", "H0", "H1"), True, False),
        ],
    )
    def test_europol_codes_decide_and_travel(
        self, codes: tuple[str, ...], handling: tuple[str, ...], named: bool, evidence: bool
    ) -> None:
        record = dataclasses.replace(
            VEHICLE, fields={**VEHICLE.fields, Field.HANDLING_CODES: codes, Field.EVALUATION_CODE: ("B2",)}
        )
        made = envelope(record, "EUR-XCHK")
        assert made.handling == handling
        assert made.evaluation == ("B2",)
        assert (Field.NAMES in made.fields) is named
        assert (Obligation.NOT_AS_EVIDENCE not in made.obligations) is evidence

    def test_the_provider_can_release_one_field(self) -> None:
        assert Field.NAMES in envelope(VEHICLE, "EUR-XCHK", provider_consent=[Field.NAMES]).fields


class TestEnvelope:
    def test_not_disclosed_looks_like_the_smallest_disclosure(self) -> None:
        shown = encode_envelope(envelope())
        hidden = encode_envelope(not_disclosed(agreement(), case_id=CASE, epoch=3, served=NOW))
        assert len(shown) == len(hidden) == ENVELOPE_SIZES[0]

        def shape(padded: bytes) -> dict[str, type]:
            tree = json.loads(padded[4 : 4 + int.from_bytes(padded[:4], "big")])
            return {key: type(value) for key, value in tree.items()}

        assert shape(shown) == shape(hidden)

    def test_not_disclosed_says_nothing(self) -> None:
        made = not_disclosed(agreement(), case_id=CASE, epoch=3, served=NOW)
        assert [made.fields, made.handling, made.evaluation, made.obligations] == [{}, (), (), ()]
        for said in (
            {"fields": {Field.ACTION: ("a",)}},
            {"handling": ("H2",)},
            {"evaluation": ("A1",)},
            {"obligations": (Obligation.ERASE_AFTER,)},
        ):
            with pytest.raises(ValueError, match="NOT_DISCLOSED"):
                dataclasses.replace(made, **said)

    @pytest.mark.parametrize("step", range(4))
    def test_padding_climbs_its_steps(self, step: int) -> None:
        empty = envelope()
        base = int.from_bytes(encode_envelope(empty)[:4], "big") - len("XX")
        room = ENVELOPE_SIZES[step] - 4 - base

        def of(length: int) -> Envelope:
            return dataclasses.replace(empty, fields={**empty.fields, Field.ISSUING_STATE: ("x" * length,)})

        assert len(encode_envelope(of(room))) == ENVELOPE_SIZES[step]
        assert parse_envelope(encode_envelope(of(room))) == of(room)
        if step < 3:
            assert len(encode_envelope(of(room + 1))) == ENVELOPE_SIZES[step + 1]
        else:
            with pytest.raises(FormatError, match="larger"):
                encode_envelope(of(room + 1))

    def test_round_trip(self) -> None:
        for made in (
            envelope(),
            envelope(VEHICLE, "EUR-XCHK"),
            not_disclosed(agreement(), case_id=CASE, epoch=0, served=NOW),
        ):
            assert parse_envelope(encode_envelope(made)) == made

    def test_only_the_exact_bytes_pass(self) -> None:
        good = encode_envelope(envelope())
        length = int.from_bytes(good[:4], "big")
        payload = good[4 : 4 + length]

        def wrap(changed: bytes, size: int = ENVELOPE_SIZES[0]) -> bytes:
            return (len(changed).to_bytes(4, "big") + changed).ljust(size, b"\0")

        assert wrap(payload) == good
        assert b'"v":1' in payload
        for bad in (
            b"",
            good[:-1],
            good + b"\0",
            good[:-1] + b"\1",
            wrap(payload, ENVELOPE_SIZES[1]),
            b"\xff\xff\xff\xff" + good[4:],
            (length - 1).to_bytes(4, "big") + good[4:],
            wrap(payload.replace(b'"v":1', b'"v":2')),
            wrap(payload.replace(b'"v":1', b'"v":true')),
            wrap(payload.replace(b'"v":1', b'"v":1,"w":1')),
            wrap(payload.replace(b'"v":1', b'"v":1,"v":1')),
            wrap(payload.replace(b'"epoch":3', b'"epoch":3.0')),
            wrap(payload.replace(b'"epoch":3', b'"epoch":true')),
            wrap(payload.replace(b'"epoch":3', b'"epoch":-1')),
            wrap(payload.replace(b'"epoch":3', b'"epoch": 3')),
            wrap(payload.replace(b"DISCLOSED", b"PENDING")),
            wrap(payload.replace(b"DISCLOSED", b"NOT_DISCLOSED")),
            wrap(payload.replace(b'"object_type"', b'"object_kind"')),
            wrap(payload.replace(b'["container"]', b'"container"')),
            wrap(payload.replace(b'["container"]', b"[]")),
            wrap(payload.replace(b'["container"]', b"[1]")),
            wrap(payload.replace(b'["container"]', b'["\\ud800"]')),
            wrap(payload.replace(b'"evaluation":[]', b'"evaluation":[1]')),
            wrap(payload.replace(b'"handling":["sis_purpose_bound"]', b'"handling":["H9"]')),
            wrap(payload.replace(b'"person_decides"', b'"never"')),
            wrap(payload.replace(b"SIS-OBJ:ics2-sis", b"SIS-OBJ")),
            wrap(payload.replace(b"2029-11-22", b"2029-13-22")),
            wrap(b"[" * 4_000),
            wrap(b"9" * 4_000),
        ):
            assert bad != good
            with pytest.raises(FormatError, match="malformed"):
                parse_envelope(bad)

    def test_every_value_stays_out_of_the_repr(self) -> None:
        assert "CSQU" not in repr(envelope())

    def test_a_signature_covers_every_byte(self) -> None:
        key = Ed25519PrivateKey.from_private_bytes(bytes(32))
        padded = encode_envelope(envelope())
        signature = sign_envelope(key, padded)
        verify_envelope(key.public_key(), padded, signature)
        key.public_key().verify(signature, b"connector-psi/v1 disclosure\n" + padded)
        for changed, proof in (
            (padded[:-1] + b"\1", signature),
            (padded, signature[:-1] + bytes([signature[-1] ^ 1])),
            (padded, b""),
        ):
            with pytest.raises(ProtocolError):
                verify_envelope(key.public_key(), changed, proof)
        with pytest.raises(ProtocolError):
            verify_envelope(Ed25519PrivateKey.from_private_bytes(b"1" * 32).public_key(), padded, signature)

    def test_the_querier_refuses_what_was_not_agreed(self) -> None:
        terms, made = agreement(), envelope()
        verify_release(terms, made, CASE)
        for changed in (
            dataclasses.replace(made, fields={**made.fields, Field.OFFENCE: ("o",)}),
            dataclasses.replace(made, agreement="SIS-OBJ:ics2-sis2"),
            dataclasses.replace(made, case_id=bytes(16)),
            dataclasses.replace(made, retention_class=RetentionClass.INTEROP_1Y),
        ):
            with pytest.raises(ProtocolError):
                verify_release(terms, changed, CASE)

    def test_the_commitment_is_salted(self) -> None:
        padded = encode_envelope(envelope())
        assert source_commitment(b"s" * 32, padded) == hashlib.sha256(b"s" * 32 + padded).digest()
        assert source_commitment(b"t" * 32, padded) != source_commitment(b"s" * 32, padded)
        with pytest.raises(FormatError):
            source_commitment(b"", padded)

    def test_sizes_are_the_agreed_ladder(self) -> None:
        assert [size // 1024 for size in ENVELOPE_SIZES] == [4, 16, 64, 256]
        assert disclosure.MAX_ENVELOPE == 262_144
        assert Outcome.NOT_DISCLOSED.value == "NOT_DISCLOSED"


@pytest.mark.parametrize(
    ("start", "days", "end"),
    [
        ("2027-03-01T09:30", 2, "2027-03-03T09:30"),  # Monday
        ("2027-03-03T09:30", 2, "2027-03-05T09:30"),  # Wednesday
        ("2027-03-04T09:30", 2, "2027-03-08T09:30"),  # Thursday: over the weekend
        ("2027-03-05T23:59", 2, "2027-03-09T23:59"),  # Friday
        ("2027-03-05T09:30", 1, "2027-03-08T09:30"),
        ("2027-03-06T09:30", 2, "2027-03-10T00:00"),  # Saturday begins with Monday
        ("2027-03-07T23:59", 2, "2027-03-10T00:00"),  # Sunday
        ("2027-03-07T23:59", 0, "2027-03-08T00:00"),
        ("2027-03-01T09:30", 0, "2027-03-01T09:30"),
    ],
)
def test_working_days_are_those_that_are_no_saturday_or_sunday(start: str, days: int, end: str) -> None:
    at = disclosure.working_days_after(datetime.fromisoformat(start).replace(tzinfo=UTC), days)
    assert at == datetime.fromisoformat(end).replace(tzinfo=UTC)


def test_working_days_are_those_of_utc() -> None:
    # Saturday 00:30 in Berlin is still Friday.
    start = datetime.fromisoformat("2027-03-06T00:30+01:00")
    assert disclosure.working_days_after(start, 1) == datetime(2027, 3, 8, 23, 30, tzinfo=UTC)


@pytest.mark.usefixtures("far_away")
@pytest.mark.parametrize(
    ("start", "end"), [("2027-03-05T12:00", "2027-03-08T12:00"), ("2027-03-08T01:00", "2027-03-09T01:00")]
)
def test_working_days_are_those_of_utc_wherever_the_machine_stands(start: str, end: str) -> None:
    at = disclosure.working_days_after(datetime.fromisoformat(start).replace(tzinfo=UTC), 1)
    assert at == datetime.fromisoformat(end).replace(tzinfo=UTC)


class TestWhatIsSaid:
    """Texts name the place, in words that people search for, and never a value."""

    @pytest.mark.parametrize(
        ("change", "text"),
        [
            ({"case_id": bytes(15)}, "case or epoch out of range"),
            ({"epoch": 2**53}, "case or epoch out of range"),
            ({"epoch": -1}, "case or epoch out of range"),
            ({"agreement": "x"}, "not the code of an agreement"),
            ({"erase_after": NOW.replace(microsecond=1)}, "not a whole second in UTC"),
            ({"erase_after": NOW.replace(tzinfo=None)}, "not a whole second in UTC"),
            ({"erase_after": NOW.replace(year=999)}, "not a whole second in UTC"),
            ({"handling": ("nonsense",)}, "not a handling code"),
            ({"fields": {Field.ACTION: ()}}, "a field without values"),
            ({"fields": {Field.ACTION: (1,)}}, "a value that is no text"),
            ({"evaluation": (1,)}, "a value that is no text"),
            ({"outcome": Outcome.NOT_DISCLOSED}, "NOT_DISCLOSED says nothing"),
        ],
    )
    def test_an_envelope_that_cannot_be_says_why(self, change: dict[str, Any], text: str) -> None:
        with pytest.raises(ValueError) as caught:
            dataclasses.replace(envelope(), **change)
        assert str(caught.value) == text

    def test_an_envelope_takes_the_ends_of_its_ranges(self) -> None:
        whole = dataclasses.replace(envelope(), epoch=2**53 - 1, erase_after=datetime(1000, 1, 1, tzinfo=UTC))
        assert disclosure.parse_envelope(disclosure.encode_envelope(whole)) == whole
        every = tuple(sorted({*disclosure.Handling, *disclosure.HandlingCode}))
        assert dataclasses.replace(envelope(), handling=every).handling == every

    def test_errors_name_the_agreement_or_the_place(self) -> None:
        terms, made = agreement(), envelope()
        padded = disclosure.encode_envelope(made)
        key = Ed25519PrivateKey.generate()
        cases = [
            (
                ConflictError,
                "a case that is expired cannot become pending",
                lambda: advance(CaseState.EXPIRED, CaseState.PENDING),
            ),
            (
                ConfigError,
                "cases: the time to decide must hold at least two slots",
                lambda: disclosure.last_slot(NOW, 3600, 3600),
            ),
            (
                PurposeRefusedError,
                "SIS-OBJ:ics2-sis: approval_missing",
                lambda: disclosed(
                    terms,
                    decide_case(terms, request(terms), ALERT, approved_by=[], now=NOW, synthetic=True),
                    ALERT,
                    case_id=CASE,
                    epoch=3,
                    served=NOW,
                ),
            ),
            (
                FormatError,
                "disclosure: a field holds no valid text",
                lambda: disclosure.encode_envelope(dataclasses.replace(made, fields={Field.ACTION: ("\ud800",)})),
            ),
            (
                FormatError,
                "disclosure: larger than 262144 bytes",
                lambda: disclosure.encode_envelope(dataclasses.replace(made, fields={Field.ACTION: ("x" * 262_144,)})),
            ),
            (FormatError, "disclosure: malformed", lambda: disclosure.parse_envelope(b"x")),
            (FormatError, "disclosure: malformed", lambda: disclosure.parse_envelope(bytes(4096))),
            (
                ProtocolError,
                "disclosure: the signature does not verify",
                lambda: disclosure.verify_envelope(key.public_key(), padded, bytes(64)),
            ),
            (
                ProtocolError,
                "SIS-OBJ:ics2-sis: the disclosure answers another case",
                lambda: disclosure.verify_release(terms, made, bytes(16)),
            ),
            (
                ProtocolError,
                "SIS-OBJ:ics2-sis: the disclosure holds a field that was not agreed",
                lambda: disclosure.verify_release(
                    terms, dataclasses.replace(made, fields={Field.ALERT_REASON: ("x",)}), CASE
                ),
            ),
            (
                ProtocolError,
                "SIS-OBJ:ics2-sis: the disclosure has another retention class",
                lambda: disclosure.verify_release(
                    terms, dataclasses.replace(made, retention_class=RetentionClass.EUOP_3Y), CASE
                ),
            ),
            (FormatError, "disclosure: the salt is not 32 bytes", lambda: disclosure.source_commitment(b"", padded)),
        ]
        for kind, text, call in cases:
            with pytest.raises(kind) as caught:
                call()
            assert str(caught.value) == text

    def test_a_case_of_another_agreement_is_refused_for_its_purpose(self) -> None:
        terms = agreement()
        decision = decide_case(
            terms, request(terms, agreement="SIS-OBJ:ics2-cz"), ALERT, approved_by=[], now=NOW, synthetic=True
        )
        assert (decision.allowed, decision.reason) == (False, Reason.PURPOSE_NOT_AGREED)


def test_what_a_querier_keeps_of_an_envelope_is_all_of_its_terms() -> None:
    made = envelope(VEHICLE, "EUR-XCHK", provider_consent=list(Field))
    assert disclosure.outcome_terms(made) == {
        "outcome": "DISCLOSED",
        "fields": {name.value: list(values) for name, values in made.fields.items()},
        "handling": list(made.handling),
        "evaluation": list(made.evaluation),
        "obligations": [obligation.value for obligation in made.obligations],
        "retention_class": made.retention_class.value,
        "erase_after": made.erase_after.isoformat(),
    }
    assert made.fields
    assert made.handling
    assert made.obligations


def test_people_who_decide_are_told_why_each_field_leaves_or_not() -> None:
    terms = agreement("EUR-XCHK")
    coded = dataclasses.replace(VEHICLE, fields={**VEHICLE.fields, Field.ALERT_REASON: ("x",)})
    held = disclosure.reasons_of_record(terms, coded, provider_consent=())
    assert held == disclosure.field_reasons(terms, list(coded.fields))
    assert held[Field.ALERT_REASON] is disclosure.FieldReason.NOT_NAMED
    waiting = {name for name, reason in held.items() if reason is disclosure.FieldReason.PROVIDER_WITHHOLDS}
    assert waiting
    released = disclosure.reasons_of_record(terms, coded, provider_consent=waiting)
    assert {released[name] for name in waiting} == {disclosure.FieldReason.DISCLOSED}
    open_to_all = dataclasses.replace(coded, fields={**coded.fields, Field.HANDLING_CODES: ("H0",)})
    by_code = disclosure.reasons_of_record(terms, open_to_all, provider_consent=())
    assert {by_code[name] for name in waiting} == {disclosure.FieldReason.DISCLOSED}


def test_a_case_is_over_when_its_window_is() -> None:
    assert disclosure.window_end(NOW, 3600, 30) == NOW + timedelta(hours=1, days=30)
    assert disclosure.window_end(NOW, 7200, 1) == NOW + timedelta(hours=2, days=1)


def test_without_notice_to_the_owner_there_is_one_size() -> None:
    templates = {t.code: t for t in PACK.templates}
    silent, told = (instantiate(templates[code], "sis", "ics2", synthetic=True) for code in ("SIS-CHK", "LEA-CASE"))
    assert (disclosure.is_silent(silent), disclosure.is_silent(told)) == (True, False)
    assert disclosure.envelope_sizes(silent) == (16_384,)
    assert disclosure.envelope_sizes(told) == (4_096, 16_384, 65_536, 262_144)
    made = envelope()
    padded = disclosure.encode_envelope(made, (16_384,))
    assert len(padded) == 16_384
    assert disclosure.parse_envelope(padded, (16_384,)) == made
    with pytest.raises(FormatError):
        disclosure.parse_envelope(padded)


class _Bytes:
    """Random bytes that a test chose."""

    def __init__(self, *draws: int) -> None:
        self.draws = list(draws)

    def bytes(self, count: int) -> bytes:
        assert count == 8
        return self.draws.pop(0).to_bytes(8, "big")


def test_a_draw_that_would_make_a_slot_likelier_is_drawn_again() -> None:
    # Ten slots of an hour, and 2**64 leaves 6 when it is divided by ten: the last six values would make six slots likelier.
    accepted = datetime(2026, 11, 22, 12, 0, 30, tzinfo=UTC)
    first, count = datetime(2026, 11, 22, 13, tzinfo=UTC), 10
    limit = 2**64 - 2**64 % count
    draws = _Bytes(limit, 2**64 - 1, limit - 1)
    assert disclosure.random_slot_before(accepted, 10 * HOUR, HOUR, draws) == first + timedelta(
        hours=(limit - 1) % count
    )
    assert draws.draws == []
    for value in (0, 1, 258, 2**32 + 7):
        found = disclosure.random_slot_before(accepted, 10 * HOUR, HOUR, _Bytes(value))
        assert found == first + timedelta(hours=value % count)


def test_what_begins_at_the_weekend_begins_with_the_first_second_of_monday() -> None:
    start = datetime(2027, 3, 6, 9, 30, 31, 7, tzinfo=UTC)
    assert disclosure.working_days_after(start, 0) == datetime(2027, 3, 8, tzinfo=UTC)
