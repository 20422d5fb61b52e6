"""What a change of policy is said to do."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from connector_psi import cli
from connector_psi.domain.purposes import (
    Condition,
    Handling,
    LegalBasis,
    MatchRule,
    Mode,
    OwnerNotice,
    OwnRole,
    ProfileRole,
    Purpose,
    RetentionClass,
    Status,
    TokenFamily,
)
from connector_psi.domain.records import Field, IdentifierType, TokenClass
from connector_psi.pack import diff as module
from connector_psi.pack.diff import Change, Kind, diff
from connector_psi.pack.reading import load_policy
from connector_psi.policy import (
    Capacity,
    Confirm,
    Grant,
    OwnPurpose,
    PolicyPack,
    Requires,
    Template,
    Verdict,
    decide,
    instantiate,
    judge,
)

ICS2 = Path(__file__).resolve().parents[3] / "nodes" / "ics2" / "policy.yaml"
PACK = load_policy(ICS2)
TEMPLATES = {template.code: template for template in PACK.templates}
OWN = {own.code: own for own in PACK.own}
REFERENCES = Requires(legal_ref="secret-act", dpia_ref="secret-dpia", arrangement_ref="secret-arrangement")
ALLOWS, STOPS, CHANGES = Kind.ALLOWS, Kind.STOPS, Kind.CHANGES


def between(old: Template | OwnPurpose | None, new: Template | OwnPurpose | None) -> list[Change]:
    def pack(terms: Template | OwnPurpose | None) -> PolicyPack:
        return PolicyPack(
            1,
            (terms,) if isinstance(terms, Template) else (),
            (terms,) if isinstance(terms, OwnPurpose) else (),
        )

    return diff(pack(old), pack(new))


def told(old: Template | OwnPurpose | None, new: Template | OwnPurpose | None) -> list[tuple[str, Kind, bool]]:
    return [(change.key, change.kind, change.widens) for change in between(old, new)]


def copy(code: str, **changes: Any) -> Template:
    return TEMPLATES[code].model_copy(update=changes)


def test_every_key_of_a_policy_is_compared() -> None:
    assert set(module._COMPARE) == set(Template.model_fields) | set(OwnPurpose.model_fields)


@pytest.mark.parametrize(
    ("code", "changes", "forth", "back"),
    [
        (
            "SIS-OBJ",
            {"disclose": {**TEMPLATES["SIS-OBJ"].disclose, Field.WARNINGS: Condition.IF_PRESENT}},
            [("disclose.warnings", ALLOWS, True)],
            [("disclose.warnings", STOPS, False)],
        ),
        (
            "SIS-OBJ",
            {"disclose": {k: v for k, v in TEMPLATES["SIS-OBJ"].disclose.items() if k is not Field.ACTION}},
            [("disclose.action", STOPS, False), ("disclose.action", ALLOWS, True)],
            [("disclose.action", ALLOWS, True)],
        ),
        (
            "EUR-XCHK",
            {"disclose": {**TEMPLATES["EUR-XCHK"].disclose, Field.NAMES: Condition.IF_PRESENT}},
            [("disclose.names", ALLOWS, True)],
            [("disclose.names", STOPS, False)],
        ),
        (
            "SIS-OBJ",
            {"disclose": {**TEMPLATES["SIS-OBJ"].disclose, Field.ACTION: Condition.IF_PRESENT}},
            [("disclose.action", CHANGES, False), ("disclose.action", ALLOWS, True)],
            [("disclose.action", STOPS, False)],
        ),
        (
            "EUR-XCHK",
            {"disclose": {**TEMPLATES["EUR-XCHK"].disclose, Field.NAMES: Condition.NATIONAL_BASIS}},
            [("disclose.names", ALLOWS, True)],
            [("disclose.names", ALLOWS, True)],
        ),
        (
            "LEA-CASE",
            {"confirm": Confirm(querier_people=1, owner_people=3)},
            [("confirm.querier_people", ALLOWS, True), ("confirm.owner_people", STOPS, False)],
            [("confirm.querier_people", STOPS, False), ("confirm.owner_people", ALLOWS, True)],
        ),
        (
            "LEA-CASE",
            {"grant": Grant(people=3, max_identifiers=200, max_hours=TEMPLATES["LEA-CASE"].grant.max_hours)},  # type: ignore[union-attr]
            [("grant.people", STOPS, False), ("grant.max_identifiers", ALLOWS, True)],
            [("grant.people", ALLOWS, True), ("grant.max_identifiers", STOPS, False)],
        ),
        ("LEA-CASE", {"grant": None}, [("grant", ALLOWS, True)], [("grant", STOPS, False)]),
        (
            "SIS-OBJ",
            {"capacity": {TokenClass.OBJECT: Capacity(per_day=9_011_201, per_year=1_649_049_600, per_officer_day=5)}},
            [("capacity.object.per_day", ALLOWS, True), ("capacity.object.per_officer_day", STOPS, False)],
            [("capacity.object.per_day", STOPS, False), ("capacity.object.per_officer_day", ALLOWS, True)],
        ),
        (
            "SIS-OBJ",
            {
                "capacity": {
                    **TEMPLATES["SIS-OBJ"].capacity,
                    TokenClass.CONTACT: Capacity(per_day=1, per_year=1),
                },
                "classes": (TokenClass.OBJECT, TokenClass.CONTACT),
            },
            [("classes.contact", ALLOWS, True), ("capacity.contact", ALLOWS, True)],
            [("classes.contact", STOPS, False), ("capacity.contact", STOPS, False)],
        ),
        (
            "SIS-OBJ",
            {"owner_notice": OwnerNotice.NONE, "cases_per_slot": 4},
            [("owner_notice", ALLOWS, True), ("cases_per_slot", CHANGES, False)],
            [("owner_notice", STOPS, False), ("cases_per_slot", CHANGES, False)],
        ),
        ("SIS-CHK", {"cases_per_slot": 5}, [("cases_per_slot", ALLOWS, True)], [("cases_per_slot", STOPS, False)]),
        ("CUS-47", {"mode": Mode.CASE}, [("mode", STOPS, False)], [("mode", ALLOWS, True)]),
        ("SIS-OBJ", {"max_set_age_h": 24}, [("max_set_age_h", STOPS, False)], [("max_set_age_h", ALLOWS, True)]),
        ("SIS-OBJ", {"case_window_days": 15}, [("case_window_days", ALLOWS, True)], [("case_window_days", STOPS, False)]),
        ("SIS-OBJ", {"edition": 1}, [("edition", ALLOWS, True)], [("edition", STOPS, False)]),
        ("SIS-OBJ", {"answer_within_h": 11}, [("answer_within_h", CHANGES, False)], [("answer_within_h", CHANGES, False)]),
        ("SIS-OBJ", {"witnesses": 2}, [("witnesses", STOPS, False)], [("witnesses", ALLOWS, True)]),
        (
            "CE-CISE",
            {"retention_class": RetentionClass.SIS_3Y},
            [("retention_class", ALLOWS, True)],
            [("retention_class", STOPS, False)],
        ),
        (
            "SIS-OBJ",
            {"retention_class": RetentionClass.PRUM_3Y},
            [("retention_class", CHANGES, False)],
            [("retention_class", CHANGES, False)],
        ),
        ("SIS-OBJ", {"handling": Handling.MARITIME_SHARED}, [("handling", CHANGES, True)], [("handling", CHANGES, True)]),
        ("SIS-OBJ", {"purpose": Purpose.ARREST}, [("purpose", CHANGES, True)], [("purpose", CHANGES, True)]),
        (
            "SIS-OBJ",
            {"match_rule": MatchRule.SUFFICIENT_ALONE},
            [("match_rule", STOPS, False)],
            [("match_rule", ALLOWS, True)],
        ),
        ("SIS-OBJ", {"status": Status.ENABLED}, [("status", ALLOWS, True)], [("status", STOPS, False)]),
        ("SIS-OBJ", {"valid_from": date(2025, 1, 1)}, [("valid_from", ALLOWS, True)], [("valid_from", STOPS, False)]),
        ("SIS-OBJ", {"valid_until": date(2031, 1, 1)}, [("valid_until", ALLOWS, True)], [("valid_until", STOPS, False)]),
        (
            "SIS-OBJ",
            {"querier": (ProfileRole.CUSTOMS, ProfileRole.POLICE)},
            [("querier.police", ALLOWS, True)],
            [("querier.police", STOPS, False)],
        ),
        (
            "SIS-OBJ",
            {"legal_basis": (LegalBasis.SIS_OBJECTS,)},
            [("legal_basis.2018/1862:39", STOPS, False), ("legal_basis.2018/1862:44(1)(b)", STOPS, False)],
            [("legal_basis.2018/1862:39", ALLOWS, True), ("legal_basis.2018/1862:44(1)(b)", ALLOWS, True)],
        ),
        (
            "SIS-CHK",
            {"category_at_match": ("ics2.ens",)},
            [("category_at_match.ics2.ens", ALLOWS, True)],
            [("category_at_match.ics2.ens", STOPS, False)],
        ),
    ],
)  # fmt: skip
def test_each_key_and_what_its_change_does(
    code: str, changes: dict[str, Any], forth: list[tuple[str, Kind, bool]], back: list[tuple[str, Kind, bool]]
) -> None:
    old, new = copy(code), copy(code, **changes)
    assert told(old, new) == forth
    assert told(new, old) == back


class TestReferences:
    def test_a_pilot_runs_on_real_data_once_all_three_are_named(self) -> None:
        partly = Requires(legal_ref="a", dpia_ref="b", arrangement_ref="")
        assert told(copy("SIS-OBJ"), copy("SIS-OBJ", requires=partly)) == [
            ("requires.legal_ref", CHANGES, False),
            ("requires.dpia_ref", CHANGES, False),
        ]
        whole = Requires(legal_ref="a", dpia_ref="b", arrangement_ref="c")
        assert told(copy("SIS-OBJ", requires=partly), copy("SIS-OBJ", requires=whole)) == [
            ("requires.arrangement_ref", ALLOWS, True)
        ]
        assert told(copy("SIS-OBJ", requires=whole), copy("SIS-OBJ", requires=partly)) == [
            ("requires.arrangement_ref", STOPS, False)
        ]

    def test_a_national_law_opens_the_fields_that_wait_for_one(self) -> None:
        named = Requires(legal_ref="", dpia_ref="", arrangement_ref="", national_ref="a law")
        assert told(copy("CUS-47"), copy("CUS-47", requires=named)) == [("requires.national_ref", ALLOWS, True)]
        assert told(copy("CUS-RISK"), copy("CUS-RISK", requires=named)) == [("requires.national_ref", CHANGES, False)]

    def test_no_reference_is_repeated(self) -> None:
        texts = [change.text for change in between(copy("SIS-OBJ"), copy("SIS-OBJ", requires=REFERENCES))]
        texts += [change.text for change in between(None, copy("SIS-OBJ", requires=REFERENCES))]
        assert texts
        assert not any("secret" in text for text in texts)


class TestWholeAgreements:
    def test_what_is_new_is_newly_allowed_and_what_goes_is_not(self) -> None:
        assert told(None, copy("SIS-OBJ")) == [("", ALLOWS, True)]
        assert told(copy("SIS-OBJ"), None) == [("", STOPS, False)]
        (change,) = between(None, copy("SIS-OBJ"))
        assert "customs may learn action, issuing state" in change.text

    def test_a_blocked_agreement_widens_nothing(self) -> None:
        assert told(None, copy("SIS-REF")) == told(copy("SIS-REF"), None) == [("", CHANGES, False)]
        assert told(copy("SIS-REF"), copy("SIS-REF", case_window_days=60)) == [("case_window_days", CHANGES, False)]
        assert told(copy("SIS-OBJ"), copy("SIS-OBJ", status=Status.BLOCKED, case_window_days=60)) == [
            ("case_window_days", CHANGES, False),
            ("status", STOPS, False),
        ]

    def test_what_was_blocked_is_newly_allowed_as_a_whole(self) -> None:
        changes = between(copy("SIS-OBJ", status=Status.BLOCKED), copy("SIS-OBJ"))
        assert [(c.key, c.kind, c.widens) for c in changes] == [("status", ALLOWS, True), ("", ALLOWS, True)]
        assert changes[1].text.startswith("was blocked: customs may learn action")

    def test_equal_packs_do_not_differ_and_the_first_pack_allows_all_that_is_in_it(self) -> None:
        assert diff(PACK, PACK) == []
        changes = diff(None, PACK)
        assert [change.agreement for change in changes] == [*sorted(TEMPLATES), *sorted(OWN)]
        assert {c.agreement for c in changes if not c.widens} == {"SIS-REF"}
        turned = PolicyPack(1, PACK.templates[::-1], PACK.own[::-1])
        assert diff(None, turned) == changes


class TestOwnNode:
    def test_people_and_restrictions(self) -> None:
        dsr = OWN["DSR"]
        assert told(None, dsr) == [("", ALLOWS, True)]
        assert told(dsr, None) == [("", STOPS, False)]
        more = dsr.model_copy(update={"people": (OwnRole.ADMIN, OwnRole.DPO)})
        assert told(dsr, more) == [("people.admin", ALLOWS, True)]
        # What a data subject is told is a right, so less of it is what widens.
        fewer = dsr.model_copy(update={"restricts": dsr.restricts[1:]})
        assert told(dsr, fewer) == [("restricts.sis.26", ALLOWS, False)]
        assert told(fewer, dsr) == [("restricts.sis.26", STOPS, True)]


FIXED = settings(derandomize=True, deadline=None, max_examples=600, database=None)
FIELDS = sorted(TEMPLATES["EUR-XCHK"].disclose)[:5]
CATEGORIES = TEMPLATES["EUR-XCHK"].categories[:3]
TYPES = (IdentifierType.PLATE, IdentifierType.PLATE_NUMBER, IdentifierType.VIN_LAST8)
terms = st.fixed_dictionaries(
    {
        "status": st.sampled_from(Status),
        "disclose": st.dictionaries(st.sampled_from(FIELDS), st.sampled_from(Condition), min_size=1),
        "categories": st.sets(st.sampled_from(CATEGORIES), min_size=1).map(lambda c: tuple(sorted(c))),
        "legal_basis": st.sets(st.sampled_from(TEMPLATES["EUR-XCHK"].legal_basis), min_size=1).map(
            lambda b: tuple(sorted(b))
        ),
        "identifier_types": st.sets(st.sampled_from(TYPES), min_size=1).map(lambda t: tuple(sorted(t))),
        "match_rule": st.sampled_from(MatchRule),
        "families": st.just((TokenFamily.EXACT,)),
        "confirm": st.builds(Confirm, querier_people=st.integers(1, 2), owner_people=st.integers(0, 2)),
        "requires": st.builds(
            Requires,
            legal_ref=st.sampled_from(["", "a", "b"]),
            dpia_ref=st.just("a"),
            arrangement_ref=st.just("a"),
            national_ref=st.sampled_from(["", "a", "b"]),
        ),
        "valid_from": st.sampled_from([date(2026, 1, 1), date(2026, 6, 1)]),
        "valid_until": st.sampled_from([date(2026, 11, 1), date(2027, 1, 1)]),
    }
)


@FIXED
@given(terms, terms, st.data())
def test_whatever_is_newly_disclosed_or_matched_was_said_to_widen(
    before: dict[str, Any], after: dict[str, Any], data: st.DataObject
) -> None:
    # Half of the keys as before: else almost every pair widens somewhere.
    kept = data.draw(st.sets(st.sampled_from(sorted(before)), min_size=len(before) // 2))
    old, new = copy("EUR-XCHK", **before), copy("EUR-XCHK", **(after | {key: before[key] for key in kept}))
    changes = between(old, new)
    assert (changes == []) is (old == new)
    if any(change.widens for change in changes):
        return
    synthetic = data.draw(st.booleans())
    case: dict[str, Any] = {
        "purpose": old.purpose,
        "legal_basis": data.draw(st.sampled_from(TEMPLATES["EUR-XCHK"].legal_basis)),
        "category": data.draw(st.sampled_from(CATEGORIES)),
        "available_fields": data.draw(st.sets(st.sampled_from(FIELDS))),
        "confirmed_by": ["a", "b"][: data.draw(st.integers(0, 2))],
        "approved_by": ["c", "d"][: data.draw(st.integers(0, 2))],
        "case_reference": "r",
        "justification": "j",
        "now": data.draw(st.sampled_from([datetime(2026, m, 2, tzinfo=UTC) for m in (1, 7, 12)])),
        "synthetic": synthetic,
        "hidden": False,
        "handling_codes": data.draw(st.sampled_from([["H0"], ["H2"]])),
        "provider_consent": data.draw(st.sets(st.sampled_from(FIELDS))),
    }
    was, now = (instantiate(each, "querier", "owner", synthetic=synthetic) for each in (old, new))
    assert set(decide(now, **case).disclosed) <= set(decide(was, **case).disclosed)
    matched = data.draw(st.lists(st.sampled_from(TYPES), max_size=3))
    if now.status is not Status.BLOCKED and judge(now, matched) is Verdict.MATCH:
        assert judge(was, matched) is Verdict.MATCH


class TestCommand:
    def test_it_ends_well_either_way(self, tmp_path: Path) -> None:
        changed = tmp_path / "policy.yaml"
        changed.write_text(ICS2.read_text().replace("case_window_days: 14", "case_window_days: 21", 1))
        done = CliRunner().invoke(cli.app, ["policy", "diff", str(ICS2), str(changed), "--json"])
        assert done.exit_code == 0
        assert json.loads(done.output) == [
            {
                "agreement": "SIS-OBJ",
                "key": "case_window_days",
                "kind": "newly_allows",
                "widens": True,
                "text": "a match can become a case for: 21 days, was 14",
            }
        ]
        done = CliRunner(env={"COLUMNS": "120"}).invoke(cli.app, ["policy", "diff", str(ICS2), str(changed)])
        assert done.exit_code == 0
        assert "1 difference, of which 1 widens." in done.output
        done = CliRunner().invoke(cli.app, ["policy", "diff", str(ICS2), str(ICS2)])
        assert (done.exit_code, done.output) == (0, "0 differences, of which 0 widen.\n")
