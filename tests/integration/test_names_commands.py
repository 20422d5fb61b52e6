"""``names explain``, ``names fit`` and ``names evaluate``, as somebody uses them who has labelled names. All names are invented."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.integration import live  # isort: skip  # sets up gRPC's environment before gRPC is loaded

import pytest

from connector_psi.domain.naming.judging import parse_weights
from tests.invented_names import write_watchlist

TWO = "Ottokar Brunnhilde\t1980-05-17\tDE\nBRUNNHILDE, Ottokar Ludwig\t1980-05-17\tDE\n"
FIGURES = {"precision", "recall", "recall_reachable", "ci95", "false_per_background_party", "tokens_per_name"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("labelled") / "watchlist"
    write_watchlist(path, alerts=300, parties=1000)
    return path


def test_two_names_are_explained_in_words(tmp_path: Path) -> None:
    (tmp_path / "two.txt").write_text(TWO, encoding="utf-8")
    done = live.run("names", "explain", tmp_path / "two.txt", "--kind", "person")
    assert done.code == 0
    text = " ".join(done.out.split())
    for words in ("surname", "Equal keys, judged as person", "Points", "Besides the name agrees:", "birth"):
        assert words in text
    value = live.run("names", "explain", tmp_path / "two.txt", "--kind", "person", "--json").json
    (compared,) = value["compared"]
    assert compared["band"] in {"possible", "strong"}
    assert "birth_date" in compared["corroborators"]
    assert sum(row["points"] for row in compared["points"][:-1]) == pytest.approx(compared["total"], abs=0.3)
    assert [len(party["tokens"]) > 5 for party in value["parties"]] == [True, True]


def test_names_can_come_from_standard_input_and_other_names_do_not_match() -> None:
    lines = "Ottokar Brunnhilde\nPelagius Quvari\n"
    command = [sys.executable, "-m", "connector_psi.cli", "names", "explain", "-", "--kind", "person", "--json"]
    done = subprocess.run(command, input=lines.encode(), capture_output=True, check=True)
    (compared,) = json.loads(done.stdout)["compared"]
    assert (compared["equal"], compared["band"]) == ([], "not_shown")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no name in it"),
        (b"\xff\xfe", "not UTF-8"),
        (b"Ok\na\tb\tc\td\te\tSecretname\n", "line 2"),
        (b"\tx\n", "line 1"),
    ],
)
def test_what_is_no_list_of_names_is_refused_with_its_place_and_no_value(
    tmp_path: Path, content: bytes, why: str
) -> None:
    (tmp_path / "names.txt").write_bytes(content)
    done = live.run("names", "explain", tmp_path / "names.txt")
    assert done.code == 2
    assert why in done.err
    assert "Secretname" not in done.err + done.out


def test_labelled_names_give_figures(folder: Path) -> None:
    value = live.run("names", "evaluate", folder, "--json").json
    assert value["dataset"] == "watchlist_link"
    assert set(value["kinds"]) == {"person", "organisation"}
    for figures in value["kinds"].values():
        assert set(figures) >= FIGURES
        assert figures["precision"] > 0.85
        assert figures["recall"] > 0.5
    text = live.run("names", "evaluate", folder)
    assert text.code == 0
    assert "With a corroborator, as policies require" in text.out


def test_weights_are_fitted_written_and_scored_with(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "own.json"
    done = live.run("names", "fit", folder, "--out", out, "--version", "own-7", "--json")
    assert done.code == 0
    written = parse_weights(out.read_bytes())
    assert (written.version, written.digest.hex()) == ("own-7", done.json["sha256"])
    scored = live.run("names", "evaluate", folder, "--weights", out, "--json").json
    assert scored["kinds"]["person"]["precision"] > 0.85
    again = tmp_path / "again.json"
    live.run("names", "fit", folder, "--out", again, "--version", "own-7")
    assert again.read_bytes() == out.read_bytes()
    (tmp_path / "two.txt").write_text(TWO, encoding="utf-8")
    explained = live.run("names", "explain", tmp_path / "two.txt", "--weights", out, "--json").json
    assert explained["weights"] == "own-7"


def test_bad_rows_are_3_and_the_rest_is_used(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        text = path.read_text(encoding="utf-8")
        (tmp_path / path.name).write_text(text + ("P-Secret\n" if path.name == "parties.csv" else ""), encoding="utf-8")
    done = live.run("names", "evaluate", tmp_path, "--json")
    assert done.code == 3
    assert "parties.csv: row 1001: column person_type is missing" in done.err
    assert "P-Secret" not in done.err
    assert done.json["kinds"] == live.run("names", "evaluate", folder, "--json").json["kinds"]


@pytest.mark.parametrize(
    "words", [["evaluate", "NEW"], ["fit", "NEW", "--out", "NEW/w.json"], ["evaluate", "DIR", "--weights", "NEW"]]
)
def test_a_mistake_of_the_caller_is_2(folder: Path, tmp_path: Path, words: list[str]) -> None:
    done = live.run(
        "names", *(word.replace("NEW", str(tmp_path)).replace("DIR", str(folder)) for word in words), "--json"
    )
    assert done.code == 2
    assert set(done.json) == {"error", "detail"}
    assert list(tmp_path.iterdir()) == []
