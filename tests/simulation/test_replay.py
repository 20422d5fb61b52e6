"""Past cases judged again under another policy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from connector_psi.domain.records import Field, IdentifierType
from connector_psi.errors import ConfigError
from connector_psi.node.config import Layout
from connector_psi.node.replay import Replay
from connector_psi.pki import Role
from connector_psi.policy import Reason
from tests.integration import live
from tests.simulation.casework import ask_about_sought
from tests.simulation.federation import Federation, alert, declaration, person
from tests.simulation.prepared import Prepared

BOX = (IdentifierType.CONTAINER, "CSQU3054383")
NARROWER = ("      schengen_id: always\n", "")
TWO_PEOPLE = ("{querier_people: 1, owner_people: 1}", "{querier_people: 1, owner_people: 2}")


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Prepared[Federation]:
    made = Federation(tmp_path_factory.mktemp("begun") / "nodes")
    made.services["ics2"].registration.register([declaration("M1", BOX)], "test")
    made.services["sis"].registration.register([alert("DE1", BOX)], "test")
    made.settle()
    ask_about_sought(made)
    made.settle()
    return Prepared(made)


@pytest.fixture
def federation(begun: Prepared[Federation], tmp_path: Path) -> Iterator[Federation]:
    """Customs and N.SIS with a case of SIS-OBJ that waits for a decision."""
    made = begun.copy(tmp_path / "nodes")
    yield made
    made.close()


def approve(federation: Federation) -> bytes:
    sis = federation.services["sis"]
    (view,) = sis.cases.list()
    sis.received.decide(view.row.request_id, person("sis"), "it is the sought box", approve=True)
    return bytes(view.row.request_id)


def edited(federation: Federation, *edits: tuple[str, str], code: str = "sis") -> bytes:
    text = Layout(federation.root / code).policy.read_text()
    head, name, rest = text.partition("  SIS-OBJ:\n")
    for old, new in edits:
        assert old in rest
        rest = rest.replace(old, new, 1)
    return (head + name + rest).encode()


def simulated(federation: Federation, *edits: tuple[str, str]) -> Replay:
    return federation.services["sis"].simulate(edited(federation, *edits))


def test_the_policy_in_force_decides_as_it_did(federation: Federation) -> None:
    approve(federation)
    found = simulated(federation)
    assert (found.replayed, found.changed, found.gone, found.cases) == (1, 0, 0, ())


def test_a_field_that_is_taken_away_is_shown_for_the_case_that_had_it(federation: Federation) -> None:
    case_id = approve(federation)
    found = simulated(federation, NARROWER)
    (case,) = found.cases
    assert (case.row.request_id, found.changed) == (case_id, 1)
    assert case.in_force.allowed
    assert case.simulated.allowed
    assert set(case.in_force.disclosed) - set(case.simulated.disclosed) == {Field.SCHENGEN_ID}


def test_what_was_approved_by_one_lacks_a_person_where_two_are_needed(federation: Federation) -> None:
    assert simulated(federation, TWO_PEOPLE).changed == 0, "undecided it lacks people under both"
    approve(federation)
    (case,) = simulated(federation, TWO_PEOPLE).cases
    assert (case.in_force.reason, case.simulated.reason) == (Reason.ALLOWED, Reason.APPROVAL_MISSING)


def test_an_agreement_that_is_not_there_any_more_discloses_nothing(federation: Federation) -> None:
    approve(federation)
    text = Layout(federation.root / "sis").policy.read_text()
    raw = text.replace("  SIS-OBJ:\n", "  SIS-OBX:\n").encode()
    (case,) = federation.services["sis"].simulate(raw).cases
    assert (case.simulated.allowed, case.simulated.reason) == (False, Reason.PURPOSE_NOT_AGREED)


def test_identifiers_that_are_taken_away_make_no_match_any_more(federation: Federation) -> None:
    approve(federation)
    text = edited(federation).decode()
    head, name, rest = text.partition("  SIS-OBJ:\n")
    (line,) = [x for x in rest.split("  SIS-CHK:")[0].splitlines() if x.strip().startswith("identifier_types:")]
    raw = (head + name + rest.replace(line, line.replace("container, ", "").replace("container", ""), 1)).encode()
    (case,) = federation.services["sis"].simulate(raw).cases
    assert (case.simulated.allowed, case.simulated.reason) == (False, Reason.RECORD_UNAVAILABLE)


def test_a_case_about_a_record_that_is_gone_is_counted(federation: Federation) -> None:
    approve(federation)
    sis = federation.services["sis"]
    sis.registration.withdraw(alert("DE1", BOX).source, "DE1", "entered by mistake", "test")
    found = simulated(federation, NARROWER)
    assert (found.replayed, found.changed, found.gone) == (0, 0, 1)


def test_what_is_no_policy_is_refused_and_a_simulation_changes_nothing(federation: Federation) -> None:
    node = federation.services["sis"].node
    with node.store.read() as tx:
        before = node.entries.size(tx)
    with pytest.raises(ConfigError):
        federation.services["sis"].simulate(b"version: 2\n")
    simulated(federation, NARROWER)
    with node.store.read() as tx:
        assert node.entries.size(tx) == before
    assert Field.SCHENGEN_ID in next(b for b in node.agreements() if b.code == "SIS-OBJ:ics2-sis").agreement.disclose


def test_the_command_shows_it_to_supervisors_and_data_protection_officers(
    federation: Federation, tmp_path: Path
) -> None:
    case_id = approve(federation)
    path = tmp_path / "tried.yaml"
    path.write_bytes(edited(federation, NARROWER))
    federation.close("sis")
    directory = federation.root / "sis"
    done = live.run("policy", "simulate", path, "--node", directory, "--json")
    assert done.code == 0
    (case,) = done.json["cases"]
    assert (done.json["replayed"], done.json["changed"], case["case_id"]) == (1, 1, case_id.hex())
    assert set(case["in_force"]["fields"]) - set(case["simulated"]["fields"]) == {"schengen_id"}
    shown = live.run("policy", "simulate", path, "--node", directory)
    assert "1 case judged again, 1 decided otherwise; 0 cannot be judged any more." in shown.out
    for role, code in ((Role.DPO, 0), (Role.OFFICER, 4), (Role.ADMIN, 4)):
        person_cert = directory / "people" / f"{role.value}1.crt"
        assert live.run("policy", "simulate", path, "--node", directory, "--as", person_cert, "--json").code == code
    path.write_text("version: 2\n")
    wrong = live.run("policy", "simulate", path, "--node", directory)
    assert (wrong.code, "tried.yaml" in wrong.err) == (2, True)
    federation.open("sis")
