from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from connector_psi.demo.proof import account
from connector_psi.demo.wire import Served
from connector_psi.disclosure import Envelope, Outcome
from connector_psi.domain.purposes import RetentionClass
from connector_psi.domain.records import Field

SALT, PADDED = b"s" * 32, b"p" * 64
CASE = bytes(16).hex()


def on_wire(case_id: str = CASE, *, given: bool = True) -> Served:
    envelope = Envelope(
        case_id=bytes.fromhex(case_id),
        agreement="SIS-OBJ:ics2-sis",
        epoch=1,
        outcome=Outcome.DISCLOSED if given else Outcome.NOT_DISCLOSED,
        retention_class=RetentionClass.SIS_3Y,
        erase_after=datetime(2029, 1, 1, tzinfo=UTC),
        fields={Field.ACTION: ("seizure",)} if given else {},
    )
    return Served("sis", envelope, PADDED, SALT, b"")


def leaf(event: str, case_id: str = CASE) -> dict[str, Any]:
    return {
        "event": event,
        "request_id": case_id,
        "source_commitment": hashlib.sha256(SALT + PADDED).hexdigest(),
    }


OWNER = [leaf("CASE_OPEN"), leaf("CASE_OUTCOME")]
CUSTOMS = [leaf("CASE_OPEN"), leaf("RECEIPT")]


def test_logs_and_wire_that_agree_have_no_problem() -> None:
    found = account({"sis": OWNER}, CUSTOMS, {CASE: on_wire()})
    assert (found.opened, found.outcomes, found.disclosed, found.receipts) == (1, 1, 1, 1)
    assert found.problems == ()
    assert found.unknown_to_customs == ()


def test_a_disclosure_that_is_not_logged_is_found() -> None:
    other = (b"\x01" * 16).hex()
    found = account({"sis": OWNER}, CUSTOMS, {CASE: on_wire(), other: on_wire(other)})
    assert "sis: an outcome was on the wire and is not in the log" in found.problems
    assert "sis: customs has no receipt of a disclosure" in found.problems


def test_an_outcome_that_was_never_on_the_wire_is_found() -> None:
    found = account({"sis": OWNER}, CUSTOMS, {})
    assert found.problems == ("sis: an outcome is in the log and was never on the wire",)


def test_other_bytes_than_those_logged_are_found() -> None:
    found = account({"sis": OWNER}, CUSTOMS, {CASE: replace(on_wire(), padded=b"q" * 64)})
    assert found.problems == ("sis: an outcome on the wire is not the one in the log",)
    found = account({"sis": OWNER}, CUSTOMS, {CASE: replace(on_wire(), owner="europol")})
    assert "sis: an outcome on the wire is not the one in the log" in found.problems


def test_a_missing_or_different_receipt_is_found() -> None:
    for customs in ([leaf("CASE_OPEN")], [leaf("CASE_OPEN"), {**leaf("RECEIPT"), "source_commitment": "00" * 32}]):
        found = account({"sis": OWNER}, customs, {CASE: on_wire()})
        assert found.problems == ("sis: customs has no receipt of a disclosure",)
    # Where nothing is disclosed, customs may have learnt it otherwise.
    assert account({"sis": OWNER}, [leaf("CASE_OPEN")], {CASE: on_wire(given=False)}).problems == ()


def test_a_case_that_customs_does_not_know_is_named() -> None:
    found = account({"sis": OWNER}, [], {CASE: on_wire(given=False)})
    assert found.unknown_to_customs == (CASE,)
    assert found.problems == ()


def test_a_case_without_an_outcome_is_found() -> None:
    found = account({"sis": [leaf("CASE_OPEN")]}, CUSTOMS, {})
    assert found.problems == ("a case has no outcome in its owner's log, or the reverse",)
