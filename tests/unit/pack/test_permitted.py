"""The exhaustive matrix of what may be learnt, against a golden table: nothing outside it is ever permitted."""

from __future__ import annotations

from functools import cache

from connector_psi.domain.purposes import CATEGORIES, LegalBasis, Purpose, Status
from connector_psi.domain.records import Field, IdentifierType
from connector_psi.pack import words
from connector_psi.pack.matrix import OWN_NODE, matrix
from connector_psi.policy import Reason
from tests.unit.pack import permitted as product

SHIPPED = "as shipped, synthetic"
AGREEMENTS_IN_ALL_STATES = 180
"""18 directions between two roles, two of them of blocked agreements, in ten states."""


@cache
def _asked() -> tuple[list[product.Permitted], product.Asked]:
    return product.permitted()


def _cells(lines: list[product.Permitted]) -> set[tuple[str, ...]]:
    """Every single thing that a table permits: the folded lists taken apart."""
    return {
        (line.agreement, line.querier, line.owner, line.status, line.purpose, kind, category, name)
        for line in lines
        for kind in f"{line.alone} {line.with_another}".split()
        for category in line.categories.split()
        for name in line.fields.split("; ")
    }


def test_what_the_engine_permits_is_what_the_golden_table_says() -> None:
    """To change it: ``python -m tests.unit.pack.permitted``, and have the difference read by somebody who answers for it."""
    golden, found = _cells(product.read()), _cells(_asked()[0])
    assert sorted(found - golden)[:20] == [], "permitted, and not in the table"
    assert sorted(golden - found)[:20] == [], "in the table, and not permitted any more"
    assert product.read() == _asked()[0]


def test_the_whole_product_was_asked() -> None:
    lines, asked = _asked()
    agreements = {(line.agreement, line.querier, line.owner) for line in lines}
    assert len(product.templates()) == 13
    assert len(agreements) == 16
    # Each agreement that can be made in a state, for every purpose and category; twice more where something is allowed.
    assert asked.agreements == AGREEMENTS_IN_ALL_STATES
    assert asked.decisions == asked.agreements * len(Purpose) * len(CATEGORIES) + 2 * asked.allowed
    assert asked.allowed == sum(len(line.categories.split()) for line in lines)
    assert asked.reasons >= {
        Reason.ALLOWED, Reason.BLOCKED, Reason.REQUIREMENTS_MISSING, Reason.NOT_IN_FORCE, Reason.PURPOSE_NOT_AGREED,
        Reason.CATEGORY_NOT_COVERED,
    }  # fmt: skip


def test_nothing_is_permitted_where_it_is_blocked_out_of_its_time_or_lacks_a_reference() -> None:
    for line in _asked()[0]:
        assert not line.status.startswith(("blocked", "before", "after", "pilot, real")), line
        if line.status == "as shipped, real":
            assert product.templates()[line.agreement].status is Status.ENABLED, line


def test_no_agreement_lets_an_authority_learn_for_a_purpose_of_another() -> None:
    for line in _asked()[0]:
        assert line.purpose == product.templates()[line.agreement].purpose


def test_a_field_that_a_record_has_alone_is_never_more_than_it_is_among_all() -> None:
    """So that the table, which was asked with every field there, holds for every record, in every state."""
    golden = {
        (line.status, line.agreement, line.querier, line.owner, category): {
            name.split(" ")[0] for name in line.fields.split("; ")
        }
        for line in _asked()[0]
        for category in line.categories.split()
    }
    for variant, querier, owner, agreement in product.agreements():
        for category in agreement.categories:
            known = golden.get((variant.name, agreement.template, querier.value, owner.value, category), set())
            for name in Field:
                for consent in ((), tuple(Field)):
                    decision = product.ask(
                        agreement, variant, agreement.purpose, category, (name, Field.SUBJECT_CLASS), consent
                    )
                    assert {f.value for f in decision.disclosed} <= known


def test_a_legal_basis_is_allowed_if_and_only_if_its_agreement_names_it() -> None:
    permitted = {(line.status, line.agreement, line.querier, line.owner) for line in _asked()[0]}
    bases = set()
    for variant, querier, owner, agreement in product.agreements():
        may = (variant.name, agreement.template, querier.value, owner.value) in permitted
        for basis in LegalBasis:
            decision = product.ask(agreement, variant, agreement.purpose, agreement.categories[0], basis=basis.value)
            assert decision.allowed == (may and basis in product.templates()[agreement.template].legal_basis), basis
            bases.add((agreement.template, basis, decision.reason))
    for code, template in product.templates().items():
        refused = {basis for found, basis, reason in bases if (found, reason) == (code, Reason.LEGAL_BASIS_NOT_AGREED)}
        if template.status is not Status.BLOCKED:
            assert refused == set(LegalBasis) - set(template.legal_basis), "told by its reason"


def test_the_table_and_the_matrix_for_lawyers_say_the_same() -> None:
    table = {
        (line.agreement, line.purpose, line.querier, line.owner, words.category_words(category), name.split(" ")[0])
        for line in _asked()[0]
        if line.status == SHIPPED
        for category in line.categories.split()
        for name in line.fields.split("; ")
    }
    shown = {
        (row.agreement, row.purpose, querier, owner, row.category, row.field)
        for row in matrix(product.packs().values())
        if row.owner != OWN_NODE and row.status != Status.BLOCKED
        for querier in row.querier.split(" or ")
        for owner in row.owner.split(" or ")
    }
    assert table == shown


def test_no_identifier_type_matches_that_an_agreement_does_not_name() -> None:
    for line in _asked()[0]:
        named = {kind.value for kind in product.templates()[line.agreement].identifier_types}
        assert {*line.alone.split(), *line.with_another.split()} <= named
        assert set(line.alone.split()).isdisjoint(line.with_another.split())
    assert {kind.value for kind in IdentifierType} > {k for line in _asked()[0] for k in line.alone.split()}


def test_purposes_of_the_own_node_are_what_they_were_agreed_to_be() -> None:
    own = {
        (profile, o.code, o.purpose.value, " ".join(sorted(o.people)), " ".join(sorted(o.restricts)), o.status.value)
        for profile, pack in product.packs().items()
        for o in pack.own
    }
    restricted = "sis.26 sis.32 sis.34 sis.36 sis.person.26 sis.person.32 sis.person.34 sis.person.36"
    assert {(code, purpose, people, told, status) for _, code, purpose, people, told, status in own} == {
        ("DSR", "cpsi:DataSubjectRights", "dpo", restricted, "enabled"),
        ("DPO-AUD", "cpsi:Oversight", "auditor dpo supervisor", "", "enabled"),
        ("TEST", "cpsi:TestingOnSyntheticData", "admin", "", "enabled"),
    }
    assert {(profile, code) for profile, code, *_ in own} == {
        (profile, code) for profile in product.packs() for code in ("DSR", "DPO-AUD", "TEST")
    }
