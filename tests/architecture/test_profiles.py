"""Every profile under nodes/ loads, and what two profiles share means the same in both."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

from connector_psi.adapters import eis
from connector_psi.domain.purposes import ProfileRole
from connector_psi.pack.checks import Severity, check_pack
from connector_psi.pack.reading import load_policy
from connector_psi.policy import fitting_agreements, policy_hash

NODES = Path(__file__).resolve().parents[2] / "nodes"
PROFILES = sorted(path.name for path in NODES.iterdir() if path.is_dir())
ROLES = {
    "ics2": ProfileRole.CUSTOMS,
    "customs2": ProfileRole.CUSTOMS,
    "sis": ProfileRole.NSIS,
    "europol": ProfileRole.EUROPOL,
    "police": ProfileRole.POLICE,
    "coastguard": ProfileRole.COAST_GUARD,
    "afis": ProfileRole.ANTI_FRAUD,
}
LEARNS_FIRST = {
    ("ics2", "sis"): ["SIS-OBJ"],
    ("sis", "ics2"): ["SIS-ARR", "SIS-CHK", "SIS-JUD", "SIS-MIS"],
    ("ics2", "europol"): ["EUR-XCHK"],
    ("ics2", "customs2"): ["CUS-RISK"],
    ("customs2", "ics2"): ["CUS-RISK"],
    ("police", "ics2"): ["CUS-47", "LEA-CASE"],
    ("coastguard", "ics2"): ["CUS-47"],
    ("ics2", "coastguard"): ["CE-CISE"],
    ("ics2", "afis"): ["CIS-FRAUD"],
}
"""Querier and owner -> what may run between them. Two customs nodes are alike."""


def expected(one: str, other: str) -> list[str]:
    alike = {"customs2": "ics2"}
    found = []
    for querier, owner in ((one, other), (other, one)):
        key = (
            (querier, owner)
            if {querier, owner} == {"ics2", "customs2"}
            else (alike.get(querier, querier), alike.get(owner, owner))
        )
        found += [f"{code}:{querier}-{owner}" for code in LEARNS_FIRST.get(key, [])]
    return sorted(found)


def test_the_profiles_of_the_federation_are_there() -> None:
    assert set(ROLES) <= set(PROFILES)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_has_a_policy_that_loads_and_a_readme(profile: str) -> None:
    pack = load_policy(NODES / profile / "policy.yaml")
    assert pack.templates
    readme = (NODES / profile / "README.md").read_text()
    for template in pack.templates:
        assert f"`{template.code}`" in readme


@pytest.mark.parametrize("profile", PROFILES)
def test_no_profile_contradicts_another(profile: str) -> None:
    packs = {name: load_policy(NODES / name / "policy.yaml") for name in PROFILES}
    findings = check_pack(packs[profile], packs.values())
    assert [str(finding) for finding in findings if finding.severity is Severity.ERROR] == []


@pytest.mark.parametrize("pair", list(combinations(sorted(ROLES), 2)))
@pytest.mark.parametrize("synthetic", [True, False])
def test_both_sides_of_a_pair_compute_the_same_policy_hashes(pair: tuple[str, str], synthetic: bool) -> None:
    sides = []
    for own, peer in (pair, pair[::-1]):
        pack = load_policy(NODES / own / "policy.yaml")
        fitting = fitting_agreements(pack, (own, ROLES[own]), (peer, ROLES[peer]), synthetic)
        sides.append({agreement.code: policy_hash(agreement) for agreement in fitting})
    assert sides[0] == sides[1]
    assert sorted(sides[0]) == expected(*pair)


def test_every_entity_of_europol_that_customs_can_meet_is_covered() -> None:
    (template,) = (t for t in load_policy(NODES / "europol" / "policy.yaml").templates if t.code == "EUR-XCHK")
    met = {
        f"eis.{entity}"
        for entity, keys in eis.ENTITY_TYPES.items()
        if {key.type for key in keys} & set(template.identifier_types)
    }
    assert set(template.categories) == met
