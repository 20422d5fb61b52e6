from __future__ import annotations

import contextlib
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from connector_psi.disclosure import (
    ENVELOPE_SIZES,
    Envelope,
    Obligation,
    Outcome,
    encode_envelope,
    last_slot,
    next_slot,
    not_disclosed_at,
    outcome_slot,
    parse_envelope,
    random_slot_before,
    release_fields,
)
from connector_psi.domain.clock import SystemRandom
from connector_psi.domain.purposes import Handling, RetentionClass
from connector_psi.domain.records import Field
from connector_psi.errors import ConfigError, FormatError
from connector_psi.pack.reading import parse_policy
from connector_psi.policy import decide, instantiate

RAW = (Path(__file__).resolve().parents[2] / "nodes" / "ics2" / "policy.yaml").read_bytes()
TEMPLATES = parse_policy(RAW).templates
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
UTC_SECONDS = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
FIXED = settings(derandomize=True, deadline=None, max_examples=150, database=None)

envelopes = st.builds(
    Envelope,
    case_id=st.binary(min_size=16, max_size=16),
    agreement=st.just("SIS-OBJ:ics2-sis"),
    epoch=st.integers(0, 2**53 - 1),
    outcome=st.just(Outcome.DISCLOSED),
    retention_class=st.sampled_from(RetentionClass),
    erase_after=UTC_SECONDS.map(lambda t: t.replace(microsecond=0)),
    fields=st.dictionaries(st.sampled_from(Field), st.lists(st.text(), min_size=1, max_size=3).map(tuple), max_size=6),
    handling=st.lists(st.sampled_from(Handling).map(str), max_size=2).map(tuple),
    evaluation=st.lists(st.text(max_size=3), max_size=2).map(tuple),
    obligations=st.lists(st.sampled_from(Obligation), max_size=3).map(tuple),
)


@FIXED
@given(st.one_of(st.binary(max_size=300), st.text("ab:-[]{}&*!|>'\"#%@, \n\t0~?", max_size=200).map(str.encode)))
def test_random_bytes_are_a_configuration_error(raw: bytes) -> None:
    with contextlib.suppress(ConfigError):
        parse_policy(raw)


@FIXED
@given(st.data())
def test_a_mutated_policy_parses_or_is_a_configuration_error(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(RAW)))
    end = min(len(RAW), start + data.draw(st.integers(0, 40)))
    with contextlib.suppress(ConfigError):
        parse_policy(RAW[:start] + data.draw(st.binary(max_size=20)) + RAW[end:])


@FIXED
@given(st.binary(max_size=400), st.sampled_from(ENVELOPE_SIZES[:2]), st.booleans())
def test_random_bytes_are_a_malformed_envelope(payload: bytes, size: int, prefixed: bool) -> None:
    raw = (struct.pack(">I", len(payload)) + payload).ljust(size, b"\0") if prefixed else payload
    with contextlib.suppress(FormatError):
        parse_envelope(raw)


@FIXED
@given(envelopes, st.data())
def test_envelopes_round_trip_and_one_changed_byte_is_refused_or_another_envelope(
    envelope: Envelope, data: st.DataObject
) -> None:
    padded = encode_envelope(envelope)
    assert len(padded) in ENVELOPE_SIZES
    assert parse_envelope(padded) == envelope
    changed = bytearray(padded)
    changed[data.draw(st.integers(0, 600))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(FormatError):
        other = parse_envelope(bytes(changed))
        assert other != envelope
        assert encode_envelope(other) == bytes(changed)


@FIXED
@given(
    UTC_SECONDS,
    st.integers(1, 7 * 86_400),
    st.integers(0, 10 * 86_400),
    st.one_of(st.none(), st.floats(0, 1, allow_nan=False)),
)
def test_every_outcome_lies_on_a_slot_between_acceptance_and_the_end(
    accepted: datetime, slot_s: int, extra_s: int, share: float | None
) -> None:
    time_s = 2 * slot_s + extra_s
    end = not_disclosed_at(accepted, time_s)
    decided = None if share is None else accepted + (end - accepted) * share
    slot = timedelta(seconds=slot_s)
    for written in (
        outcome_slot(accepted, decided, time_s, slot_s),
        random_slot_before(accepted, time_s, slot_s, SystemRandom()),
        last_slot(accepted, time_s, slot_s),
    ):
        assert accepted < written < end
        assert (written - EPOCH) % slot == timedelta(0)
    assert end - last_slot(accepted, time_s, slot_s) <= slot
    assert timedelta(0) < next_slot(accepted, slot_s) - accepted <= slot


@FIXED
@given(
    st.sampled_from(TEMPLATES),
    st.sets(st.sampled_from(Field)),
    st.lists(st.sampled_from(["H0", "H1", "H2", "H3", "x"]), max_size=3),
    st.sets(st.sampled_from(Field)),
    st.booleans(),
    st.booleans(),
)
def test_nothing_outside_the_allow_list_ever_leaves(
    template: object, available: set[Field], codes: list[str], consent: set[Field], hidden: bool, approved: bool
) -> None:
    terms = instantiate(template, "ics2", "other", synthetic=True)  # type: ignore[arg-type]
    decision = decide(
        terms,
        purpose=terms.purpose,
        legal_basis=terms.legal_basis[0],
        category=terms.categories[0],
        available_fields=available,
        confirmed_by=["a"],
        approved_by=["b"] if approved else [],
        case_reference="c",
        justification="j",
        now=datetime(2026, 11, 22, tzinfo=UTC),
        synthetic=True,
        hidden=hidden,
        handling_codes=codes,
        provider_consent=consent,
    )
    released = release_fields(decision, dict.fromkeys(Field, ("v",)))
    assert set(released) <= set(terms.disclose) & available
    assert set(decision.disclosed) | set(decision.withheld) == available
    assert not set(decision.disclosed) & set(decision.withheld)
    if hidden or not approved:
        assert not released
