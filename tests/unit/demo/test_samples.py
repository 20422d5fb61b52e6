from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from connector_psi import policy
from connector_psi.adapters import formats
from connector_psi.demo.join import Reading, join, read_samples
from connector_psi.demo.plan import CROSS_CHECK, CUSTOMS, EUROPOL, OBJECTS, SIS, Plan
from connector_psi.demo.samples import generate
from connector_psi.domain.records import IdentifierType, Issue
from connector_psi.node.setup import find_profile
from connector_psi.pack.reading import load_policy

NOW = datetime(2026, 12, 1, tzinfo=UTC)
SEEDS = (1, 20_261)
TYPES = {"container", "plate", "vin", "imo", "aircraft", "identity_document", "phone", "email", "vat", "eori"}

Drawn = tuple[Plan, dict[str, Reading]]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Drawn]:
    made: dict[int, Drawn] = {}

    def draw(seed: int) -> Drawn:
        if seed not in made:
            plan = generate(tmp_path_factory.mktemp(f"samples-{seed}"), seed)
            made[seed] = plan, {code: read_samples(paths) for code, paths in plan.files.items()}
        return made[seed]

    return draw


@pytest.fixture(scope="module")
def agreements() -> dict[str, policy.Agreement]:
    templates = {t.code: t for t in load_policy(find_profile(CUSTOMS) / "policy.yaml").templates}
    return {
        code: policy.instantiate(templates[code.partition(":")[0]], CUSTOMS, owner, synthetic=True)
        for code, owner in ((OBJECTS, SIS), (CROSS_CHECK, EUROPOL))
    }


def test_sizes_are_those_of_the_demonstration(drawn: Callable[[int], Drawn]) -> None:
    plan, readings = drawn(1)
    assert len(plan.files[CUSTOMS]) == 200
    assert len(readings[SIS].records) == 5_000
    assert len(readings[EUROPOL].records) == 1_000
    assert len(readings[CUSTOMS].records) == 200 - 12 + plan.houses
    houses = Counter(r.source_ref.partition("/")[0] for r in readings[CUSTOMS].records if "/" in r.source_ref)
    assert len(houses) == 12
    assert all(20 <= count <= 60 for count in houses.values())
    for reading in readings.values():
        references = [record.source_ref for record in reading.records]
        assert len(set(references)) == len(references)


@pytest.mark.parametrize("seed", SEEDS)
def test_adapters_read_what_was_written_and_nothing_else(drawn: Callable[[int], Drawn], seed: int) -> None:
    plan, readings = drawn(seed)
    for code, reading in readings.items():
        assert not any(issue.rejects_record for issue in reading.issues)
        found = {(i.type, i.value) for record in reading.records for i in record.identifiers}
        assert found == {(n.type, n.value) for n in plan.numbers[code] if n.value}
    # The two misread numbers of the near misses, and nothing else, are left out.
    assert {issue.code for issue in readings[CUSTOMS].issues} == {"container.check_digit", "imo.check_digit"}
    assert not readings[SIS].issues
    assert not readings[EUROPOL].issues


@pytest.mark.parametrize("seed", SEEDS)
def test_a_plaintext_join_finds_the_planted_pairs_alone(
    drawn: Callable[[int], Drawn], agreements: dict[str, policy.Agreement], seed: int
) -> None:
    plan, readings = drawn(seed)
    found = [
        pair
        for code, owner in ((OBJECTS, SIS), (CROSS_CHECK, EUROPOL))
        for pair in join(agreements[code], readings[CUSTOMS].records, readings[owner].records, NOW)
    ]
    assert sorted(found) == list(plan.planted)
    assert len(plan.planted) == 12
    assert {pair.identifier_type for pair in plan.planted} == TYPES


@pytest.mark.parametrize("seed", SEEDS)
def test_near_misses_are_real_records_that_do_not_match(drawn: Callable[[int], Drawn], seed: int) -> None:
    plan, readings = drawn(seed)
    declared = {record.source_ref for record in readings[CUSTOMS].records}
    sought = {r.source_ref: r for code in (SIS, EUROPOL) for r in readings[code].records}
    planted = {(pair.querier_ref, pair.owner_ref) for pair in plan.planted}
    for miss in plan.near_misses:
        assert miss.querier_ref in declared
        assert miss.owner_ref in sought
        assert (miss.querier_ref, miss.owner_ref) not in planted
    reasons = {miss.why for miss in plan.near_misses}
    assert len(reasons) == len(plan.near_misses) == 13
    assert {"container: one digit off, wrong check digit", "plate: same number, another country"} <= reasons
    by_reason = {miss.why: sought[miss.owner_ref] for miss in plan.near_misses}
    assert by_reason["container: hidden alert"].hidden
    assert by_reason["plate: Article 36 alert, not for customs"].category == "sis.36"
    expired = by_reason["aircraft: alert that expired"].valid_until
    assert expired is not None
    assert expired < NOW


def test_the_same_plate_abroad_differs_by_its_country_alone(drawn: Callable[[int], Drawn]) -> None:
    plan, readings = drawn(1)
    miss = next(m for m in plan.near_misses if m.why == "plate: same number, another country")
    declared = next(r for r in readings[CUSTOMS].records if r.source_ref == miss.querier_ref)
    sought = next(r for r in readings[SIS].records if r.source_ref == miss.owner_ref)
    own = {i.value for i in declared.identifiers if i.type is IdentifierType.PLATE}
    other = {i.value for i in sought.identifiers if i.type is IdentifierType.PLATE}
    assert not own & other
    assert {value[3:] for value in own} & {value[3:] for value in other}


def test_a_seed_draws_the_same_bytes_again_and_another_one_other_pairs(
    drawn: Callable[[int], Drawn], tmp_path: Path
) -> None:
    plan, _ = drawn(1)
    again = generate(tmp_path, 1)
    assert again.planted == plan.planted
    for code, paths in plan.files.items():
        assert [p.read_bytes() for p in paths] == [p.read_bytes() for p in again.files[code]]
    other, _ = drawn(SEEDS[1])
    assert not {pair.querier_ref for pair in other.planted} & {pair.querier_ref for pair in plan.planted}


def test_planted_json_names_pairs_and_near_misses_without_any_identifier(drawn: Callable[[int], Drawn]) -> None:
    plan, readings = drawn(1)
    text = (plan.files[SIS][0].parent / "planted.json").read_text()
    told = json.loads(text)
    assert (len(told["planted"]), len(told["near_misses"])) == (12, 13)
    values = {i.value for code in (SIS, EUROPOL) for record in readings[code].records for i in record.identifiers}
    assert not [value for value in values if value in text]


def test_nothing_can_be_taken_for_somebody(drawn: Callable[[int], Drawn]) -> None:
    plan, _ = drawn(1)
    for numbers in plan.numbers.values():
        for number in numbers:
            if number.type is IdentifierType.EMAIL:
                assert number.value.endswith(".example")
            if number.type is IdentifierType.IMO and number.value:
                assert 2_000_000 <= int(number.value) < 5_000_000


def test_declarations_are_valid_against_the_schema(drawn: Callable[[int], Drawn], shared: Path) -> None:
    plan, _ = drawn(1)
    schemas = shared / "reference" / "ics2" / "xsd-v2"
    by_size = sorted(plan.files[CUSTOMS], key=lambda path: path.stat().st_size)
    for path in (*by_size[:30:3], *by_size[-2:]):
        with path.open("rb") as stream:
            items = list(formats.read(stream, file=path.name, schemas=schemas))
        assert not [item for item in items if isinstance(item, Issue) and item.code.startswith("xsd.")]
