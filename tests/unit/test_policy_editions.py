"""Agreements in the terms of version 0.1.0: what they may say, what their hash leaves out, where they run."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import rfc8785

from connector_psi import policy
from connector_psi.audit.entries import Side
from connector_psi.domain.identifiers import FIRST_NORMALISATION_VERSION, FIRST_TYPES, NORMALISATION_VERSION
from connector_psi.domain.purposes import Condition
from connector_psi.domain.records import Field, IdentifierType
from connector_psi.errors import PurposeRefusedError
from connector_psi.pack.checks import Severity, check_pack
from connector_psi.pack.reading import parse_policy
from connector_psi.policy import Agreement, PolicyPack, Reason, Requires, Template, instantiate, policy_hash
from connector_psi.protocol.messages import encode_token
from connector_psi.protocol.tokens import record_tokens
from tests.simulation.federation import alert

RAW = (Path(__file__).resolve().parents[2] / "nodes" / "ics2" / "policy.yaml").read_bytes()
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
REFERENCES = Requires(legal_ref="act", dpia_ref="dpia", arrangement_ref="arrangement")


def template(code: str = "SIS-OBJ", **changes: Any) -> Template:
    (found,) = [t for t in parse_policy(RAW).templates if t.code == code]
    types = {"identifier_types": tuple(kind for kind in found.identifier_types if kind in FIRST_TYPES)}
    return Template.model_validate(found.model_dump() | {"edition": 1} | types | changes, strict=False)


def agreement(*, synthetic: bool = True, **changes: Any) -> Agreement:
    return instantiate(template(**changes), "ics2", "sis", synthetic=synthetic)


def test_the_hash_holds_what_version_0_1_0_has_words_for() -> None:
    first = agreement()
    tree = first.model_dump(mode="json")
    for key in ("edition", "querier_categories", "answer_within_h", "grant", "cases_per_slot", "names"):
        del tree[key]
    del tree["requires"]["national_ref"]
    assert policy_hash(first) == hashlib.sha256(rfc8785.dumps(tree)).digest()
    assert policy_hash(first) == policy_hash(agreement(answer_within_h=6))
    assert policy_hash(first) != policy_hash(agreement(max_set_age_h=24))
    assert policy_hash(first) != policy_hash(agreement(edition=2))


def test_people_sign_all_of_it() -> None:
    def signed(**changes: Any) -> bytes:
        return policy.pack_hash(PolicyPack(1, (template(**changes),)))

    assert len({signed(), signed(answer_within_h=6), signed(edition=2), signed(querier_categories=("ics2.ens",))}) == 4


@pytest.mark.parametrize(
    ("code", "changes", "key"),
    [
        ("SIS-OBJ", {"identifier_types": (IdentifierType.CONTAINER, IdentifierType.ENI)}, "identifier_types"),
        ("SIS-OBJ", {"requires": REFERENCES.model_copy(update={"national_ref": "act"})}, "requires.national_ref"),
        ("SIS-OBJ", {"disclose": {Field.ACTION: Condition.NATIONAL_BASIS}}, "requires.national_ref"),
        ("SIS-CHK", {}, "owner_notice"),
        ("LEA-CASE", {}, "mode"),
        ("EUR-XCHK", {}, "families"),
    ],
)
def test_what_version_0_1_0_has_no_word_for_is_refused(code: str, changes: dict[str, Any], key: str) -> None:
    def errors(edition: int) -> set[str]:
        pack = PolicyPack(1, (template(code, edition=edition, **changes),))
        return {finding.key for finding in check_pack(pack) if finding.severity is Severity.ERROR}

    assert key in errors(1)
    assert key not in errors(2)


def test_nothing_is_said_against_the_terms_of_version_0_1_0() -> None:
    assert not list(check_pack(PolicyPack(1, (template(requires=REFERENCES),))))


def test_it_runs_between_synthetic_nodes_alone() -> None:
    policy.check_runnable(agreement(), NOW, synthetic=True)
    policy.check_runnable(agreement(synthetic=False, edition=2, requires=REFERENCES), NOW, synthetic=False)
    with pytest.raises(PurposeRefusedError, match=Reason.WITNESS_MISSING):
        policy.check_runnable(agreement(synthetic=False, requires=REFERENCES), NOW, synthetic=False)


@pytest.mark.parametrize(("edition", "version"), [(1, FIRST_NORMALISATION_VERSION), (2, NORMALISATION_VERSION)])
def test_tokens_are_of_the_version_of_the_edition(edition: int, version: str) -> None:
    box = (IdentifierType.CONTAINER, "CSQU3054383")
    (token,) = record_tokens(agreement(edition=edition), alert("A1", box), Side.OWNER, ())
    assert token.value == encode_token(version, *box)
