"""How a decision is explained: by the decision itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from connector_psi import cli
from connector_psi.domain.purposes import Condition
from connector_psi.domain.records import Field
from connector_psi.pack import words
from connector_psi.pack.reading import load_policy
from connector_psi.policy import FieldReason, Reason, decide, explain, instantiate
from tests.unit.test_policy import NOW

ICS2 = Path(__file__).resolve().parents[3] / "nodes" / "ics2" / "policy.yaml"
TEMPLATES = load_policy(ICS2).templates


def run(*arguments: str, code: int = 0) -> Any:
    done = CliRunner(env={"COLUMNS": "120"}).invoke(cli.app, ["policy", "explain", str(ICS2), *arguments])
    assert done.exit_code == code, done.output
    return json.loads(done.output) if "--json" in arguments else done.output


def test_every_rule_and_field_reason_has_words_in_the_order_of_the_rules() -> None:
    terms = next(t for t in TEMPLATES if t.code == "SIS-OBJ")
    explanation = explain(
        instantiate(terms, "ics2", "sis", synthetic=True),
        purpose=terms.purpose,
        legal_basis=terms.legal_basis[0],
        category=terms.categories[0],
        available_fields=tuple(terms.disclose),
        confirmed_by=["a"],
        approved_by=["b"],
        case_reference="r",
        justification="j",
        now=NOW,
        synthetic=True,
        hidden=False,
    )
    assert explanation.passed == tuple(words.RULE_WORDS)
    assert set(words.RULE_WORDS) == set(Reason) - {Reason.ALLOWED}
    assert set(words.FIELD_REASON_WORDS) == set(FieldReason)


@settings(derandomize=True, deadline=None, max_examples=400, database=None)
@given(st.sampled_from(TEMPLATES), st.data())
def test_an_explanation_is_that_of_the_decision(template: Any, data: st.DataObject) -> None:
    terms = instantiate(template, "ics2", "other", synthetic=data.draw(st.booleans()))
    case: dict[str, Any] = {
        "purpose": data.draw(st.sampled_from([terms.purpose.value, "x"])),
        "legal_basis": data.draw(st.sampled_from([terms.legal_basis[0].value, "x"])),
        "category": data.draw(st.sampled_from([terms.categories[0], "x"])),
        "available_fields": data.draw(st.sets(st.sampled_from(Field))) | data.draw(
            st.sampled_from([set(), set(terms.disclose)])
        ),
        "confirmed_by": ["a", "b"][: data.draw(st.integers(0, 2))],
        "approved_by": ["c", "d"][: data.draw(st.integers(0, 2))],
        "case_reference": data.draw(st.sampled_from(["r", " "])),
        "justification": "j",
        "now": NOW,
        "synthetic": True,
        "hidden": data.draw(st.booleans()),
        "handling_codes": data.draw(st.lists(st.sampled_from(["H0", "H2"]), max_size=2)),
        "provider_consent": data.draw(st.sets(st.sampled_from(Field), max_size=2)),
    }  # fmt: skip
    explanation, decision = explain(terms, **case), decide(terms, **case)
    assert explanation.decision == decision
    order = tuple(words.RULE_WORDS)
    if decision.allowed:
        assert explanation.passed == order
        leaving = {name for name, reason in explanation.fields.items() if reason is FieldReason.DISCLOSED}
        assert set(decision.disclosed) == leaving
    else:
        assert (*explanation.passed, decision.reason) == order[: len(explanation.passed) + 1]
        assert decision.disclosed == ()
    for name, reason in explanation.fields.items():
        assert (reason is FieldReason.NOT_NAMED) is (name not in terms.disclose)
        if name in terms.disclose:
            assert (reason is FieldReason.ABSENT) is (name not in case["available_fields"])
        if reason is FieldReason.PROVIDER_WITHHOLDS:
            assert terms.disclose[name] is Condition.PROVIDER_CONSENT
            assert name not in case["provider_consent"]
    assert explanation.fields.keys() == case["available_fields"] | terms.disclose.keys()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], Reason.ALLOWED),
        (["--real"], Reason.REQUIREMENTS_MISSING),
        (["--date", "2030-01-01"], Reason.NOT_IN_FORCE),
        (["--date", "2029-12-31"], Reason.ALLOWED),
        (["--purpose", "cpsi:CrossChecking"], Reason.PURPOSE_NOT_AGREED),
        (["--basis", "UCC:46"], Reason.LEGAL_BASIS_NOT_AGREED),
        (["--hidden"], Reason.RECORD_UNAVAILABLE),
        (["--category", "sis.36"], Reason.CATEGORY_NOT_COVERED),
        (["--no-reference"], Reason.CASE_REFERENCE_MISSING),
        (["--no-justification"], Reason.JUSTIFICATION_MISSING),
        (["--field", "action"], Reason.REQUIRED_FIELD_ABSENT),
        (["--confirmed", "0"], Reason.CONFIRMATION_MISSING),
        (["--approved", "0"], Reason.APPROVAL_MISSING),
    ],
)
def test_each_option_changes_one_thing(arguments: list[str], reason: Reason) -> None:
    value = run("--agreement", "SIS-OBJ", *arguments, "--json")
    assert (value["agreement"], value["reason"], value["allowed"]) == ("SIS-OBJ", reason, reason is Reason.ALLOWED)
    results = {rule["rule"]: rule["result"] for rule in value["rules"]}
    assert [rule for rule, result in results.items() if result == "refuses"] == [reason] * (
        reason is not Reason.ALLOWED
    )
    assert any(field["disclosed"] for field in value["fields"]) is (reason is Reason.ALLOWED)


def test_handling_codes_and_consent_decide_by_field() -> None:
    arguments = ["--agreement", "EUR-XCHK:ics2-europol", "--handling-code", "H2", "--consent", "names", "--json"]
    fields = {field["field"]: field["reason"] for field in run(*arguments)["fields"]}
    assert fields["names"] == fields["provider"] == "disclosed"
    assert fields["birth"] == "provider_withholds"
    more = run("--agreement", "EUR-XCHK", "--field", "names", "--field", "offence", "--handling-code", "H0", "--json")
    told = {field["field"]: (field["disclosed"], field["reason"]) for field in more["fields"]}
    assert told["names"] == (True, "disclosed")
    assert told["offence"] == (False, "not_named")
    assert told["birth"] == (False, "absent")


def test_it_is_readable() -> None:
    text = run("--agreement", "SIS-REF")
    assert "SIS-REF: not disclosed: blocked" in text
    assert "REFUSES" in text
    assert "not reached" in text
    assert "SIS-OBJ: disclosed" in run("--agreement", "SIS-OBJ")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--agreement", "NO-SUCH"], "no agreement of this code"),
        (["--agreement", "DSR"], "concerns the own node alone"),
        (["--agreement", "SIS-OBJ", "--field", "no_such"], "--field, --consent: one of"),
    ],
)
def test_what_cannot_be_explained_is_an_error(arguments: list[str], text: str) -> None:
    done = CliRunner().invoke(cli.app, ["policy", "explain", str(ICS2), *arguments])
    assert text in str(done.exception)
