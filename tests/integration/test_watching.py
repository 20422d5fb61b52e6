"""What whoever runs a node sees of it on the command line: its state as tables, and whether people keep up with matches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from connector_psi.rpc import tls  # noqa: F401  # isort: skip  # sets up gRPC's environment before gRPC is loaded

import pytest

from connector_psi.commands import output, watching
from connector_psi.domain.records import IdentifierType
from tests.integration import live
from tests.privacy.staging import container
from tests.simulation.federation import Federation, alert, declaration, person

CODE, SILENT = "SIS-OBJ:ics2-sis", "SIS-CHK:sis-ics2"
REF, ALERT, WIDTH = "MRN-PLANTED-9", "SCHENGEN-PLANTED-9", 100
Nodes = dict[str, Path]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """Customs with a match that was confirmed and one that waits; N.SIS."""
    root = tmp_path_factory.mktemp("watching")
    federation = Federation(root, "watching")
    ics2, sis = federation.services["ics2"], federation.services["sis"]
    boxes = [(IdentifierType.CONTAINER, container(n)) for n in range(2)]
    sis.registration.register([alert(f"{ALERT}{n}", box) for n, box in enumerate(boxes)], "test")
    ics2.registration.register([declaration(f"{REF}{n}", box) for n, box in enumerate(boxes)], "test")
    federation.settle()
    ics2.review.decide(ics2.review.list()[0].match_id, person("ics2"), "it is", confirm=True)
    federation.settle(1)
    federation.close()
    with pytest.MonkeyPatch.context() as patch:
        # It keeps the width that it was made with, perhaps in a test that has another one.
        patch.setattr(output.out, "_width", WIDTH)
        yield {code: root / code for code in ("ics2", "sis")}


def test_status_fits_a_screen_and_names_nothing(nodes: Nodes, capsys: pytest.CaptureFixture[str]) -> None:
    for code, directory in nodes.items():
        value = live.run("status", directory, "--json").json
        capsys.readouterr()
        watching.show(value)
        text = capsys.readouterr().out
        assert max(map(len, text.splitlines())) <= WIDTH
        for title in ("Peers", "Agreements", "Capacity used", value["policy"]["hash"], "not tried"):
            assert title in text
        for planted in (REF, ALERT, container(0), container(1)):
            assert planted not in text
        assert "not_served" in text, "no serve runs"
        assert {line["agreement"]: line["side"] for line in value["agreements"]}[CODE] == (
            "querier" if code == "ics2" else "owner"
        )
    (line,) = (a for a in live.run("status", nodes["ics2"], "--json").json["agreements"] if a["agreement"] == CODE)
    assert line["matches"] == {"confirmed": 1, "new": 1}
    assert (line["open_batches"], line["oldest_batch_s"]) == (0, None)
    assert 0 <= line["set_age_s"] < 3_600


def test_a_node_that_nobody_serves_is_not_ready(nodes: Nodes) -> None:
    done = live.run("status", nodes["sis"], "--ready")
    assert done.code == 6
    assert done.out.startswith("not ready: not_served")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0, "0 s"), (61, "1 min 1 s"), (3_600, "1 h 0 s"), (93_784, "1 d 2 h"), (-75, "-1 min 15 s")],
)
def test_ages_have_two_units(seconds: int | None, text: str) -> None:
    assert watching.age(seconds) == text


def test_bars_tell_shares(nodes: Nodes) -> None:
    assert watching.bar(0, 0) == "nothing allowed"
    assert watching.bar(5_000, 10_000) == "█████░░░░░ 50% of 10 k"
    # More than all of it, as where the limit was lowered since.
    assert watching.bar(30, 20) == "██████████ 150% of 20"


def test_quality_tells_officers_what_to_expect(nodes: Nodes, tmp_path: Path) -> None:
    page = tmp_path / "quality.html"
    done = live.run("report", "quality", nodes["ics2"], "--officers", 4, "--days", 7, "--html", page, "--json")
    figures = done.json["agreements"][CODE]
    assert done.json["total"]["records"] == 2
    assert (figures["declarations"], figures["matches"], figures["confirmed"], figures["undecided"]) == (2, 2, 1, 1)
    assert (figures["per_1000"], figures["confirmed_share"], figures["days"]) == (1000.0, 1.0, 1.0)
    assert figures["per_officer_and_day"] == 0.5
    text = page.read_text()
    assert f"{CODE}: 0.5" in text
    assert "<svg" in text
    assert REF not in text
    shown = live.run("report", "quality", nodes["ics2"])
    assert shown.code == 0
    assert REF not in shown.out


def test_an_administrator_is_not_told_how_many_discreet_checks_met(nodes: Nodes) -> None:
    def told(name: str) -> set[str]:
        done = live.run("report", "quality", nodes["sis"], "--as", nodes["sis"] / "people" / f"{name}.crt", "--json")
        return set(done.json["agreements"])

    assert SILENT in told("officer1")
    assert SILENT not in told("admin1")
