from __future__ import annotations

import copy
import hashlib
import pickle
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from pydantic import ValidationError

from connector_psi.domain.purposes import GLOBAL_REFUSALS, Condition, HandlingCode, Mode, ProfileRole, Purpose, Status
from connector_psi.domain.records import Field, IdentifierType, TokenClass
from connector_psi.errors import ConfigError, PurposeRefusedError
from connector_psi.pack.checks import Severity, check_pack
from connector_psi.pack.matrix import OWN_NODE, matrix
from connector_psi.pack.reading import MAX_POLICY_BYTES, load_policy, parse_policy
from connector_psi.policy import (
    Agreement,
    Capacity,
    Confirm,
    Decision,
    Grant,
    PolicyPack,
    Reason,
    Requires,
    Template,
    Verdict,
    capacity_for,
    category_number,
    check_runnable,
    decide,
    explain,
    field_reasons,
    fitting_agreements,
    handling_codes_of,
    instantiate,
    judge,
    own_purpose,
    pack_hash,
    policy_hash,
)

SHIPPED = Path(__file__).resolve().parents[2] / "nodes" / "ics2" / "policy.yaml"
RAW = SHIPPED.read_bytes()
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
OFFICER = "urn:connector-psi:person:ics2:officer:o1"
APPROVER = "urn:connector-psi:person:sis:officer:s1"
REFERENCES = Requires(legal_ref="act", dpia_ref="dpia", arrangement_ref="arrangement")
GRANT = Grant(people=2, max_identifiers=8, max_hours=24)


def template(code: str, **changes: Any) -> Template:
    (found,) = [t for t in parse_policy(RAW).templates if t.code == code]
    return found.model_copy(update=changes)


def agreement(code: str = "SIS-OBJ", *, synthetic: bool = True, **changes: Any) -> Agreement:
    owner = {"SIS-OBJ": "sis", "EUR-XCHK": "europol", "CUS-RISK": "ics3"}[code]
    return instantiate(template(code, **changes), "ics2", owner, synthetic=synthetic)


def ask(terms: Agreement, **changes: Any) -> Decision:
    """A request that is allowed as it stands; each test changes one thing."""
    given: dict[str, Any] = {
        "purpose": terms.purpose,
        "legal_basis": terms.legal_basis[0],
        "category": terms.categories[0],
        "available_fields": set(Field),
        "confirmed_by": [f"urn:connector-psi:person:{terms.querier}:officer:o1"],
        "approved_by": [f"urn:connector-psi:person:{terms.owner}:officer:s1"],
        "case_reference": "CASE-1",
        "justification": "container on the declared route",
        "now": NOW,
        "synthetic": True,
        "hidden": False,
    }
    return decide(terms, **(given | changes))


class TestParse:
    def test_the_shipped_policy_says_what_the_pack_says(self) -> None:
        pack = load_policy(SHIPPED)
        assert {t.code: t.status.value for t in pack.templates} == {
            "CE-CISE": "pilot",
            "CIS-FRAUD": "enabled",
            "CUS-47": "enabled",
            "CUS-RISK": "enabled",
            "EUR-XCHK": "pilot",
            "LEA-CASE": "pilot",
            "SIS-ARR": "pilot",
            "SIS-CHK": "pilot",
            "SIS-JUD": "pilot",
            "SIS-MIS": "pilot",
            "SIS-OBJ": "pilot",
            "SIS-REF": "blocked",
        }
        assert [own.code for own in pack.own] == ["DPO-AUD", "DSR", "TEST"]
        (sis,) = (t for t in pack.templates if t.code == "SIS-OBJ")
        assert sis.querier == (ProfileRole.CUSTOMS,)
        assert sis.owner == (ProfileRole.NSIS,)
        assert sis.max_set_age_h == 48
        assert set(sis.disclose) == {
            Field.OBJECT_TYPE,
            Field.OBJECT_IDENTIFIERS,
            Field.ACTION,
            Field.SCHENGEN_ID,
            Field.ISSUING_STATE,
            Field.SIRENE_CONTACT,
        }
        assert not any(category.startswith("sis.36") for category in sis.categories)
        assert sis.valid_until == date(2029, 12, 31)

    @pytest.mark.parametrize(
        ("old", "new", "place"),
        [
            (b"mode: bulk", b"mode: bulk\n    colour: red", "policy.yaml:14: SIS-OBJ.colour: unknown key"),
            (b"mode: bulk", b"mode: bulk\n    mode: bulk", "policy.yaml:14: SIS-OBJ.mode: the key stands twice"),
            (b"  CUS-RISK:", b"  SIS-OBJ:", ": SIS-OBJ: the key stands twice"),
            (b"mode: bulk", b"mode: all", "policy.yaml:13: SIS-OBJ.mode: Input should be"),
            (b"mode: bulk", b"mode: &x bulk", "SIS-OBJ.mode: anchors and aliases"),
            (b"mode: bulk", b"mode: *x", "SIS-OBJ.mode: anchors and aliases"),
            (b"mode: bulk", b"mode: !!str bulk", "SIS-OBJ.mode: tags"),
            (b"mode: bulk", b"mode: bulk\n    code: SIS-OBJ", "SIS-OBJ: not a mapping of keys without code"),
            (b"object_type: always", b"object_typ: always", "SIS-OBJ.disclose.object_typ: unknown key"),
            (b"object_type: always", b"object_type: sometimes", "SIS-OBJ.disclose.object_type: Input should be"),
            (b"object: {per_day", b"thing: {per_day", "SIS-OBJ.capacity.thing: unknown key"),
            (b"per_day: 9011200", b"per_day: -1", "SIS-OBJ.capacity.object.per_day"),
            (b"per_day: 9011200", b"per_day: 0x10", "SIS-OBJ.capacity.object.per_day"),
            (b"witnesses: 1", b"witnesses: '1'", "SIS-OBJ.witnesses: Input should be a valid integer"),
            (b"witnesses: 1", b"witnesses: true", "SIS-OBJ.witnesses: Input should be a valid integer"),
            (b"querier_people: 1", b"querier_people: 0", "SIS-OBJ.confirm.querier_people"),
            (b"- sis.38.b\n", b"- sis.38.a\n", "SIS-OBJ.categories: an entry stands twice"),
            (b"- sis.38.b\n", b"- sis.99\n", "SIS-OBJ.categories.1: not a known category"),
            (b"classes: [object]", b"classes: []", "SIS-OBJ.classes"),
            (b"querier: [customs]", b"querier: [anybody]", "SIS-OBJ.querier.0"),
            (b"2026-01-01", b"2026-02-30", "SIS-OBJ.valid_from: Input should be a valid date"),
            (b"    match_rule: sufficient_or_two\n", b"", "SIS-OBJ.match_rule: the key is missing"),
            (b"version: 1", b"version: 2", "version: only 1 is understood"),
            (b"version: 1", b"version: true", "version: only 1 is understood"),
            (b"version: 1", b"version: 1\nmore: 1", "more: unknown key"),
            (b"templates:\n", b"templates: []\nother:\n", "templates: the key is missing"),
            (b"  SIS-OBJ:", b"  ? [a]\n  : b\n  SIS-OBJ:", "a key is not plain text"),
            (b"  SIS-OBJ:", b"  sis obj:", "String should match pattern"),
        ],
    )
    def test_everything_outside_the_vocabulary_is_refused_by_place(self, old: bytes, new: bytes, place: str) -> None:
        changed = RAW.replace(old, new, 1)
        assert changed != RAW
        with pytest.raises(ConfigError) as caught:
            parse_policy(changed)
        assert place in str(caught.value)

    @pytest.mark.parametrize("key", ["mode", "disclose", "confirm", "requires", "status", "witnesses", "handling"])
    def test_no_key_has_a_default(self, key: str) -> None:
        terms = template("SIS-OBJ").model_dump(mode="json")
        del terms[key]
        with pytest.raises(ValueError, match="Field required"):
            Template.model_validate(terms, strict=False)

    def test_an_alias_bomb_stops_at_its_first_anchor(self) -> None:
        bomb = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
            b"%c: &%c [%s]\n" % (n + 1, n + 1, b",".join([b"*%c" % n] * 9)) for n in range(ord("a"), ord("h"))
        )
        with pytest.raises(ConfigError, match=r"policy\.yaml:1: a: anchors and aliases"):
            parse_policy(bomb)

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"#",
            b"- 1",
            b"\xff\xfe",
            b"\x00",
            b"[" * 100_000,
            b"{a: " * 100_000,
            b"- " * 100_000,
            b"[" + b"a," * 100_000,
            b"a: 1\n---\nb: 1\n",
            b"{[: }",
            b"%TAG ! x\n",
            RAW + b"\n---\n",
            b"version: 1\ntemplates:\n" + b"".join(b"  K%d: v\n" % n for n in range(20_000)),
        ],
    )
    def test_other_bytes_end_in_one_error(self, raw: bytes) -> None:
        with pytest.raises(ConfigError, match=r"^policy\.yaml"):
            parse_policy(raw)

    def test_the_size_is_bounded(self, tmp_path: Path) -> None:
        path = tmp_path / "policy.yaml"
        path.write_bytes(RAW + b"#" * MAX_POLICY_BYTES)
        with pytest.raises(ConfigError, match="larger than"):
            load_policy(path)

    def test_an_error_text_repeats_no_content(self) -> None:
        with pytest.raises(ConfigError) as caught:
            parse_policy(RAW.replace(b"mode: bulk", b"mode: Sigrid\n    'Sigrid <Olsen>': 1", 1))
        assert "Sigrid:" not in str(caught.value)
        assert "<" not in str(caught.value)
        assert len(str(caught.value)) < 2_000

    @pytest.mark.parametrize("word", sorted(GLOBAL_REFUSALS))
    def test_a_refused_system_is_refused_with_its_reason(self, word: str) -> None:
        for old, new in [
            (b"- sis.38.b\n", f"- {word.replace('_', '-')}.record\n".encode()),
            (b"querier: [customs]", f"querier: [{word.upper()}]".encode()),
            (b"      action: always\n", f"      {word}: always\n".encode()),
        ]:
            with pytest.raises(ConfigError) as caught:
                parse_policy(RAW.replace(old, new, 1))
            assert f"refused, {word}: {GLOBAL_REFUSALS[word]}" in str(caught.value)
            assert "SIS-OBJ." in str(caught.value)

    def test_a_reference_may_name_anything(self) -> None:
        parse_policy(RAW.replace(b'dpia_ref: ""', b'dpia_ref: "DPIA on EES and PNR"', 1))

    def test_plain_words_stay_words(self) -> None:
        # YAML 1.1 reads NO as false and 1_0 as ten; here both are text and so refused where something else is due.
        for text in (b"NO", b"1_0", b"0o7", b"1e3", b"~"):
            with pytest.raises(ConfigError, match=r"SIS-OBJ\.witnesses"):
                parse_policy(RAW.replace(b"witnesses: 1", b"witnesses: " + text, 1))


class TestCheckPack:
    @pytest.mark.parametrize(
        ("code", "changes", "key"),
        [
            ("SIS-OBJ", {"categories": ("sis.36", "sis.38.a"), "category_at_match": ()}, "categories"),
            ("SIS-OBJ", {"categories": ("sis.38.a",)}, "category_at_match"),
            ("SIS-OBJ", {"legal_basis": template("EUR-XCHK").legal_basis}, "legal_basis"),
            ("SIS-OBJ", {"disclose": {Field.OFFENCE: Condition.ALWAYS}}, "disclose"),
            ("SIS-OBJ", {"disclose": {}}, "disclose"),
            ("SIS-OBJ", {"identifier_types": (IdentifierType.PHONE,)}, "classes"),
            ("SIS-OBJ", {"capacity": {}}, "capacity"),
            ("SIS-OBJ", {"capacity": {TokenClass.OBJECT: Capacity(per_day=9, per_year=8)}}, "capacity.object"),
            ("SIS-OBJ", {"max_set_age_h": 49}, "max_set_age_h"),
            ("SIS-OBJ", {"querier": (ProfileRole.EUROPOL,)}, "querier"),
            ("SIS-OBJ", {"witnesses": 0}, "witnesses"),
            ("SIS-OBJ", {"valid_until": date(2025, 1, 1)}, "valid_until"),
            ("SIS-OBJ", {"owner_notice": "none", "cases_per_slot": 4}, "confirm.owner_people"),
            ("SIS-OBJ", {"mode": "case", "grant": GRANT}, "capacity.object"),
            ("SIS-OBJ", {"querier_categories": ("sis.38.a",)}, "querier_categories"),
            ("SIS-OBJ", {"querier_categories": ("surveillance.declaration",)}, "querier_categories"),
            ("SIS-OBJ", {"answer_within_h": 13}, "answer_within_h"),
            ("SIS-OBJ", {"cases_per_slot": 4}, "cases_per_slot"),
            ("SIS-OBJ", {"grant": GRANT}, "grant"),
            ("SIS-OBJ", {"purpose": "cpsi:Oversight", "legal_basis": ("2016/680:25",)}, "purpose"),
            ("SIS-CHK", {"cases_per_slot": None}, "cases_per_slot"),
            ("SIS-CHK", {"querier_categories": ("sis.38.a",)}, "querier_categories"),
            ("LEA-CASE", {"grant": None}, "grant"),
            ("LEA-CASE", {"grant": Grant(people=1, max_identifiers=8, max_hours=24)}, "grant.people"),
            (
                "LEA-CASE",
                {"owner_notice": "none", "cases_per_slot": 4, "confirm": Confirm(querier_people=2, owner_people=0)},
                "mode",
            ),
            ("EUR-XCHK", {"handling": "customs_confidential"}, "handling"),
            ("EUR-XCHK", {"disclose": {Field.NAMES: Condition.PROVIDER_CONSENT}}, "handling"),
        ],
    )
    def test_a_contradiction_is_an_error_at_its_key(self, code: str, changes: dict[str, Any], key: str) -> None:
        broken = Template.model_validate(template(code).model_dump() | changes, strict=False)
        errors = [f for f in check_pack(PolicyPack(1, (broken,))) if f.severity is Severity.ERROR]
        assert [finding.key for finding in errors] == [key]
        assert str(errors[0]).startswith(f"policy: {code}.{key}: error: ")

    def test_what_comes_in_batches_is_refused_in_real_time(self) -> None:
        broken = template("SIS-OBJ").model_copy(
            update={"categories": ("surveillance.declaration",), "category_at_match": ()}
        )
        texts = [finding.text for finding in check_pack(PolicyPack(1, (broken,))) if finding.key == "categories"]
        assert any(text.startswith("SURVEILLANCE takes no part in an agreement in real time: ") for text in texts)
        case = broken.model_copy(update={"mode": Mode.CASE})
        assert not any("real time" in finding.text for finding in check_pack(PolicyPack(1, (case,))))

    def test_load_refuses_what_check_finds(self, tmp_path: Path) -> None:
        path = tmp_path / "policy.yaml"
        path.write_bytes(RAW.replace(b"max_set_age_h: 48", b"max_set_age_h: 72", 1))
        with pytest.raises(ConfigError, match=r"policy\.yaml: SIS-OBJ\.max_set_age_h: error: .*48 hours"):
            load_policy(path)
        with pytest.raises(ConfigError, match="absent"):
            load_policy(tmp_path / "absent")

    def test_a_pilot_without_references_is_a_warning(self) -> None:
        assert {(f.severity, f.key) for f in check_pack(parse_policy(RAW))} == {(Severity.WARNING, "requires")}
        assert check_pack(PolicyPack(1, (template("SIS-OBJ", requires=REFERENCES),))) == []

    def test_two_templates_must_not_answer_one_question_differently(self) -> None:
        one = template("SIS-OBJ", requires=REFERENCES)
        other = one.model_copy(update={"code": "SIS-ALT", "disclose": {Field.ACTION: Condition.ALWAYS}})
        (finding,) = check_pack(PolicyPack(1, (one, other)))
        assert (finding.agreement, finding.key) == ("SIS-ALT", "disclose")
        assert "SIS-OBJ" in finding.text

    def test_one_code_has_one_meaning_in_all_packs(self) -> None:
        pack = PolicyPack(1, (template("SIS-OBJ", requires=REFERENCES),))
        other = PolicyPack(1, (template("SIS-OBJ", requires=REFERENCES, case_window_days=7),), source="other.yaml")
        assert check_pack(pack, [pack]) == []
        (finding,) = check_pack(pack, [other])
        assert finding.severity is Severity.ERROR
        assert "other.yaml" in finding.text


class TestAgreements:
    def test_an_instance_names_both_sides_and_needs_no_witness_on_synthetic_data(self) -> None:
        made = agreement()
        assert (made.code, made.template, made.querier, made.owner) == ("SIS-OBJ:ics2-sis", "SIS-OBJ", "ics2", "sis")
        assert made.witnesses == 0
        assert agreement(synthetic=False).witnesses == 1
        assert instantiate(template("SIS-OBJ"), "ics2", "sis", synthetic=True, witnesses=2).witnesses == 2

    @pytest.mark.parametrize(
        ("querier", "owner"),
        [("a", "sis"), ("ICS2", "sis"), ("ics2", "s-is"), ("x" * 17, "sis"), ("sis", "sis"), ("", "b2")],
    )
    def test_authority_codes_are_checked(self, querier: str, owner: str) -> None:
        with pytest.raises(ConfigError, match="SIS-OBJ"):
            instantiate(template("SIS-OBJ"), querier, owner, synthetic=True)

    def test_real_data_never_goes_without_a_witness(self) -> None:
        with pytest.raises(ConfigError, match="witnesses"):
            instantiate(template("SIS-OBJ"), "ics2", "sis", synthetic=False, witnesses=0)

    def test_fitting_looks_in_both_directions_and_leaves_out_what_is_blocked(self) -> None:
        pack = parse_policy(RAW)
        ics2, sis = ("ics2", ProfileRole.CUSTOMS), ("sis", ProfileRole.NSIS)
        assert [a.code for a in fitting_agreements(pack, ics2, sis, synthetic=True)] == [
            "SIS-ARR:sis-ics2",
            "SIS-CHK:sis-ics2",
            "SIS-JUD:sis-ics2",
            "SIS-MIS:sis-ics2",
            "SIS-OBJ:ics2-sis",
        ]
        assert fitting_agreements(pack, sis, ics2, synthetic=True) == fitting_agreements(
            pack, ics2, sis, synthetic=True
        )
        both = fitting_agreements(pack, ics2, ("ics3", ProfileRole.CUSTOMS), synthetic=True)
        assert [a.code for a in both] == ["CUS-RISK:ics2-ics3", "CUS-RISK:ics3-ics2"]
        assert fitting_agreements(pack, sis, ("europol", ProfileRole.EUROPOL), synthetic=True) == []
        blocked = PolicyPack(1, (template("SIS-OBJ", status=Status.BLOCKED),))
        assert fitting_agreements(blocked, ics2, sis, synthetic=True) == []

    def test_the_hash_is_of_the_meaning(self) -> None:
        first = policy_hash(agreement())
        # A changed value means that every node must change its policy at once: give the reason in the commit.
        assert first.hex() == "38f0c5c4ed81f0b1102a641f3867007c29f7d45d0abd2c149d3b58211dec6a41"
        other_order = RAW.replace(b"[container, plate, plate_number, vin,", b"[vin, plate, plate_number, container,", 1)
        assert other_order != RAW
        (same,) = [t for t in parse_policy(other_order).templates if t.code == "SIS-OBJ"]
        assert policy_hash(instantiate(same, "ics2", "sis", synthetic=True)) == first
        for changed in (
            agreement(case_window_days=13),
            agreement(requires=REFERENCES),
            agreement(synthetic=False),
            instantiate(template("SIS-OBJ"), "ics3", "sis", synthetic=True),
            instantiate(template("SIS-OBJ"), "ics2", "sis", synthetic=True, witnesses=1),
        ):
            assert policy_hash(changed) != first

    def test_an_agreement_cannot_be_changed_and_travels_to_workers(self) -> None:
        made = agreement()
        with pytest.raises(TypeError):
            made.disclose[Field.OFFENCE] = Condition.ALWAYS  # type: ignore[index]
        with pytest.raises(ValueError, match="frozen"):
            made.status = Status.ENABLED
        assert pickle.loads(pickle.dumps(made)) == made == copy.deepcopy(made)
        assert {made: 1}[agreement()] == 1

    def test_the_category_shows_at_the_match_only_where_listed(self) -> None:
        assert category_number(agreement(), "sis.38.a") == 1
        assert category_number(agreement(), "sis.38.g") == 7
        assert category_number(agreement(), "sis.36") == 0
        assert category_number(agreement("EUR-XCHK"), "eis.phone") == 0

    def test_capacity_is_denied_outside_the_classes(self) -> None:
        assert capacity_for(agreement(), TokenClass.OBJECT).per_day == 9_011_200
        with pytest.raises(PurposeRefusedError, match="SIS-OBJ:ics2-sis: class contact"):
            capacity_for(agreement(), TokenClass.CONTACT)

    @pytest.mark.parametrize(
        ("matched", "verdict"),
        [
            ([], Verdict.NONE),
            ([IdentifierType.CONTAINER], Verdict.MATCH),
            ([IdentifierType.SEAL], Verdict.WEAK),
            ([IdentifierType.SEAL, IdentifierType.SEAL], Verdict.MATCH),
            ([IdentifierType.SEAL, IdentifierType.TRANSPORT_DOCUMENT], Verdict.MATCH),
            ([IdentifierType.PHONE], Verdict.NONE),
            ([IdentifierType.SEAL, IdentifierType.PHONE], Verdict.WEAK),
        ],
    )
    def test_the_match_rule_counts_the_agreed_types_alone(
        self, matched: list[IdentifierType], verdict: Verdict
    ) -> None:
        assert judge(agreement("CUS-RISK"), matched) is verdict


class TestGates:
    @pytest.mark.parametrize(
        ("terms", "synthetic", "now", "reason"),
        [
            (agreement(status=Status.BLOCKED), True, NOW, Reason.BLOCKED),
            (agreement(status=Status.BLOCKED, synthetic=False, requires=REFERENCES), False, NOW, Reason.BLOCKED),
            (agreement(), False, NOW, Reason.SYNTHETIC_MISMATCH),
            (agreement(synthetic=False, requires=REFERENCES), True, NOW, Reason.SYNTHETIC_MISMATCH),
            (agreement(synthetic=False), False, NOW, Reason.REQUIREMENTS_MISSING),
            (agreement(), True, datetime(2025, 12, 31, 23, 59, tzinfo=UTC), Reason.NOT_IN_FORCE),
            (agreement(), True, datetime(2030, 1, 1, tzinfo=UTC), Reason.NOT_IN_FORCE),
        ],
    )
    def test_a_closed_gate_stops_running_and_deciding(
        self, terms: Agreement, synthetic: bool, now: datetime, reason: Reason
    ) -> None:
        with pytest.raises(PurposeRefusedError, match=f"SIS-OBJ:ics2-sis: {reason}"):
            check_runnable(terms, now, synthetic=synthetic)
        decision = ask(terms, now=now, synthetic=synthetic)
        assert (decision.allowed, decision.reason, decision.disclosed) == (False, reason, ())

    @pytest.mark.parametrize("missing", ["legal_ref", "dpia_ref", "arrangement_ref"])
    def test_a_pilot_on_real_data_needs_all_three_references(self, missing: str) -> None:
        partly = Requires.model_validate(REFERENCES.model_dump() | {missing: "  "})
        with pytest.raises(PurposeRefusedError, match="requirements_missing"):
            check_runnable(agreement(synthetic=False, requires=partly), NOW, synthetic=False)

    def test_an_unwitnessed_agreement_on_real_data_does_not_run(self) -> None:
        unwitnessed = agreement(synthetic=False, requires=REFERENCES).model_copy(update={"witnesses": 0})
        with pytest.raises(PurposeRefusedError, match="witness_missing"):
            check_runnable(unwitnessed, NOW, synthetic=False)

    def test_open_gates(self) -> None:
        check_runnable(agreement(), NOW, synthetic=True)
        check_runnable(agreement(synthetic=False, requires=REFERENCES), NOW, synthetic=False)
        check_runnable(agreement(synthetic=False, status=Status.ENABLED), NOW, synthetic=False)
        check_runnable(agreement(), datetime(2029, 12, 31, 23, 59, tzinfo=UTC), synthetic=True)


class TestDecide:
    def test_what_is_not_named_is_withheld(self) -> None:
        decision = ask(agreement())
        assert (decision.allowed, decision.reason) == (True, Reason.ALLOWED)
        assert set(decision.disclosed) == set(agreement().disclose)
        assert {Field.ALERT_REASON, Field.OFFENCE, Field.WARNINGS} <= set(decision.withheld)
        assert set(decision.disclosed) | set(decision.withheld) == set(Field)

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"purpose": "cpsi:CrossChecking"}, Reason.PURPOSE_NOT_AGREED),
            ({"purpose": ""}, Reason.PURPOSE_NOT_AGREED),
            ({"legal_basis": "2016/794:20"}, Reason.LEGAL_BASIS_NOT_AGREED),
            ({"hidden": True}, Reason.RECORD_UNAVAILABLE),
            ({"category": "sis.36"}, Reason.CATEGORY_NOT_COVERED),
            ({"category": ""}, Reason.CATEGORY_NOT_COVERED),
            ({"case_reference": " "}, Reason.CASE_REFERENCE_MISSING),
            ({"justification": "\n"}, Reason.JUSTIFICATION_MISSING),
            ({"available_fields": {Field.OBJECT_TYPE, Field.OFFENCE}}, Reason.REQUIRED_FIELD_ABSENT),
            ({"confirmed_by": []}, Reason.CONFIRMATION_MISSING),
            ({"approved_by": []}, Reason.APPROVAL_MISSING),
        ],
    )
    def test_each_missing_thing_denies(self, changes: dict[str, Any], reason: Reason) -> None:
        decision = ask(agreement(), **changes)
        assert (decision.allowed, decision.reason, decision.disclosed) == (False, reason, ())
        assert set(decision.withheld) == set(changes.get("available_fields", Field))

    def test_approval_is_looked_at_last(self) -> None:
        assert ask(agreement(), approved_by=[], hidden=True).reason is Reason.RECORD_UNAVAILABLE
        assert ask(agreement(), approved_by=[], confirmed_by=[]).reason is Reason.CONFIRMATION_MISSING

    @pytest.mark.parametrize(
        "second",
        [
            OFFICER,
            f" {OFFICER.upper()} ",
            "urn:connector-psi:person:ics2:supervisor:o1",
            "urn:connector-psi:person:ics2:system:gateway",
            "urn:connector-psi:person:ics2:dpo:d1",
            "urn:connector-psi:person:sis:officer:s9",
            "urn:something:else",
            "",
        ],
    )
    def test_two_people_are_two_people(self, second: str) -> None:
        two = agreement(confirm=Confirm(querier_people=2, owner_people=1))
        assert ask(two, confirmed_by=[OFFICER, second]).reason is Reason.CONFIRMATION_MISSING
        assert ask(two, confirmed_by=[OFFICER, "urn:connector-psi:person:ics2:supervisor:o2"]).allowed

    def test_whoever_confirmed_cannot_approve(self) -> None:
        assert ask(agreement(), approved_by=[OFFICER]).reason is Reason.APPROVAL_MISSING
        assert ask(agreement(), confirmed_by=["pseudonym"], approved_by=["Pseudonym"]).reason is Reason.APPROVAL_MISSING
        assert ask(agreement(), confirmed_by=["pseudonym"], approved_by=[APPROVER]).allowed

    def test_no_owner_approval_where_none_is_asked(self) -> None:
        assert ask(agreement(confirm=Confirm(querier_people=1, owner_people=0)), approved_by=[]).allowed

    def test_the_provider_decides_at_europol(self) -> None:
        terms = agreement("EUR-XCHK")
        always = {Field.OBJECT_TYPE, Field.PROVIDER, Field.HANDLING_CODES, Field.EVALUATION_CODE}
        for codes in ((), ("H2",), ("H0", "H2"), ("H3",), ("H9",), ("h0",)):
            assert set(ask(terms, handling_codes=codes).disclosed) == always
        for codes in (("H0",), ("H1",), ("H1", "H0")):
            assert set(ask(terms, handling_codes=codes).disclosed) == set(terms.disclose)
        released = ask(terms, handling_codes=["H2"], provider_consent={Field.NAMES, Field.OFFENCE})
        assert set(released.disclosed) == always | {Field.NAMES}

    def test_nothing_to_disclose_is_a_refusal(self) -> None:
        decision = ask(agreement("EUR-XCHK"), available_fields={Field.NAMES, Field.OFFENCE})
        assert decision.reason is Reason.NOTHING_TO_DISCLOSE

    def test_a_person_of_unknown_class_is_not_disclosed(self) -> None:
        terms = agreement("EUR-XCHK", categories=("eis.person", "eis.vehicle"))
        known = set(Field) - {Field.SUBJECT_CLASS}
        decision = ask(terms, category="eis.person", available_fields=known, handling_codes=["H0"])
        assert decision.reason is Reason.SUBJECT_CLASS_UNKNOWN
        assert ask(terms, category="eis.vehicle", available_fields=known, handling_codes=["H0"]).allowed

    def test_a_national_basis_opens_its_fields_alone(self) -> None:
        terms = agreement(disclose={Field.ACTION: Condition.ALWAYS, Field.SIRENE_CONTACT: Condition.NATIONAL_BASIS})
        assert ask(terms).disclosed == (Field.ACTION,)
        named = terms.requires.model_copy(update={"national_ref": "an act"})
        assert ask(terms.model_copy(update={"requires": named})).disclosed == (Field.ACTION, Field.SIRENE_CONTACT)

    def test_missing_codes_are_the_strictest(self) -> None:
        strict = (HandlingCode.H2, HandlingCode.H3)
        assert handling_codes_of(()) == handling_codes_of(["H0", "?"]) == strict
        assert handling_codes_of(["H1", "H0", "H1"]) == (HandlingCode.H0, HandlingCode.H1)


def test_the_matrix_is_the_allow_list_and_no_more() -> None:
    pack = parse_policy(RAW)
    rows = [row for row in matrix([pack, pack]) if row.owner != OWN_NODE]
    assert len(rows) == sum(len(t.categories) * len(t.disclose) for t in pack.templates)
    row = next(r for r in rows if r.agreement == "EUR-XCHK" and r.field == "names")
    assert (row.querier, row.owner, row.learns_first) == (
        "customs or national_unit",
        "europol",
        "customs or national_unit",
    )
    assert (row.category, row.condition, row.status) == (
        "eis.aircraft (aircraft)",
        "provider_consent",
        "pilot",
    )
    assert not {"alert_reason", "offence", "warnings"} & {r.field for r in rows}


class TestExplained:
    def given(self, terms: Agreement, **changes: Any) -> dict[str, Any]:
        return {
            "purpose": terms.purpose.value,
            "legal_basis": terms.legal_basis[0].value,
            "category": terms.categories[0],
            "available_fields": set(Field),
            "confirmed_by": [OFFICER],
            "approved_by": [APPROVER],
            "case_reference": "CASE-1",
            "justification": "container on the declared route",
            "now": NOW,
            "synthetic": True,
            "hidden": False,
            **changes,
        }

    def test_every_rule_that_allowed_is_told_in_order_and_every_field(self) -> None:
        terms = agreement()
        whole = explain(terms, **self.given(terms))
        assert whole.decision.allowed
        assert whole.passed == tuple(reason for reason in Reason if reason is not Reason.ALLOWED)
        assert whole.fields == field_reasons(terms, set(Field))
        refused = explain(terms, **self.given(terms, hidden=True))
        assert refused.decision.reason is Reason.RECORD_UNAVAILABLE
        assert refused.passed == whole.passed[: whole.passed.index(Reason.RECORD_UNAVAILABLE)]
        assert refused.fields == whole.fields

    def test_a_day_is_one_of_utc_and_the_first_and_last_count(self) -> None:
        terms = agreement()
        start = datetime.combine(terms.valid_from, datetime.min.time(), tzinfo=UTC)
        end = datetime.combine(terms.valid_until, datetime.max.time(), tzinfo=UTC)
        for now, allowed in (
            (start, True), (start - timedelta(microseconds=1), False), (end, True), (end + timedelta(microseconds=1), False),
        ):  # fmt: skip
            elsewhere = now.astimezone(timezone(timedelta(hours=11)))
            for same in (now, elsewhere):
                assert explain(terms, **self.given(terms, now=same)).decision.allowed is allowed

    @pytest.mark.usefixtures("far_away")
    def test_a_day_is_one_of_utc_wherever_the_machine_stands(self) -> None:
        self.test_a_day_is_one_of_utc_and_the_first_and_last_count()

    def test_somebody_who_may_not_decide_does_not_end_the_list(self) -> None:
        terms = agreement()
        people = ["urn:connector-psi:person:ics2:dpo:d1", "urn:connector-psi:person:cz:officer:x", OFFICER]
        assert explain(terms, **self.given(terms, confirmed_by=people)).decision.allowed

    def test_all_handling_codes_at_once_are_known(self) -> None:
        assert handling_codes_of([code.value for code in HandlingCode]) == tuple(HandlingCode)


class TestIdentity:
    def test_a_pack_is_known_by_what_it_says_and_not_by_where_it_lies(self) -> None:
        pack = parse_policy(RAW)
        digest = pack_hash(pack)
        assert len(digest) == 32
        assert digest == pack_hash(parse_policy(b"# a comment\n" + RAW, "elsewhere.yaml"))
        expected = rfc8785.dumps(
            {
                "version": 1,
                # What has no names is hashed as it was before there were any, and so of the edition.
                "templates": {
                    t.code: {
                        k: v
                        for k, v in t.model_dump(mode="json").items()
                        if k != "edition" and (k != "names" or v is not None)
                    }
                    for t in pack.templates
                },
                "own_node": {o.code: o.model_dump(mode="json") for o in pack.own},
            }
        )
        assert digest == hashlib.sha256(expected).digest()
        fewer = PolicyPack(pack.version, pack.templates[1:], pack.own)
        other = PolicyPack(pack.version, pack.templates, pack.own[1:])
        assert len({digest, pack_hash(fewer), pack_hash(other)}) == 3

    def test_terms_of_one_code_fall_together_and_others_apart(self) -> None:
        pack = parse_policy(RAW)
        own, other = pack.own[:2]
        terms, others = pack.templates[:2]
        assert hash(own) == hash(own.model_copy(update={"status": Status.BLOCKED}))
        assert hash(terms) == hash(terms.model_copy(update={"status": Status.BLOCKED}))
        assert len({hash(own), hash(other), hash(terms), hash(others), hash(None)}) == 5
        # A template and an agreement of it are different things, whatever they are called.
        assert hash(own) == hash((type(own), own.code))
        assert hash(terms) == hash((type(terms), terms.code))

    def test_an_agreement_that_cannot_be_made_names_its_terms(self) -> None:
        wrong = template("SIS-OBJ").model_copy(update={"max_set_age_h": -1, "case_window_days": -1})
        with pytest.raises(ConfigError) as caught:
            instantiate(wrong, "ics2", "sis", synthetic=True)
        assert str(caught.value) == "SIS-OBJ: case_window_days, max_set_age_h: malformed"

    def test_a_class_that_is_none_is_named_so(self) -> None:
        with pytest.raises(ValidationError) as caught:
            Template.model_validate({**template("SIS-OBJ").model_dump(), "classes": ("nonsense",)})
        assert "Value error, not a token class [" in str(caught.value)


class TestOwnNode:
    """Purposes of the own node."""

    def test_the_policy_names_who_may_work_for_which_purpose(self) -> None:
        pack = parse_policy(RAW)
        assert own_purpose(pack, Purpose.DATA_SUBJECT_RIGHTS, "dpo").code == "DSR"
        for role in ("auditor", "dpo", "supervisor"):
            assert own_purpose(pack, Purpose.OVERSIGHT, role).code == "DPO-AUD"
        for purpose, role in (
            (Purpose.DATA_SUBJECT_RIGHTS, "officer"), (Purpose.DATA_SUBJECT_RIGHTS, ""), (Purpose.OVERSIGHT, "admin"),
        ):  # fmt: skip
            with pytest.raises(PurposeRefusedError, match=rf"^the policy lets nobody .* purpose: {purpose.value}$"):
                own_purpose(pack, purpose, role)

    def test_a_purpose_that_is_blocked_lets_nobody_work(self) -> None:
        pack = parse_policy(RAW)
        blocked = tuple(own.model_copy(update={"status": Status.BLOCKED}) for own in pack.own)
        with pytest.raises(PurposeRefusedError):
            own_purpose(replace(pack, own=blocked), Purpose.DATA_SUBJECT_RIGHTS, "dpo")
