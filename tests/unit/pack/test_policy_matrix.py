"""Policies as people read them: rows, sheets, CSV and the HTML page."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from connector_psi import cli
from connector_psi.commands import output
from connector_psi.domain.purposes import Condition, LegalBasis, OwnRole, ProfileRole, Purpose, Status
from connector_psi.domain.records import Field
from connector_psi.pack import words
from connector_psi.pack.matrix import OWN_NODE, encode_csv, matrix, sheets
from connector_psi.pack.page import encode_page
from connector_psi.pack.reading import load_policy
from connector_psi.policy import Grant, PolicyPack, Requires

NODES = Path(__file__).resolve().parents[3] / "nodes"
ICS2 = NODES / "ics2" / "policy.yaml"
PACKS = [load_policy(path) for path in sorted(NODES.glob("*/policy.yaml"))]
HOSTILE = "<script>alert('x')</script>\"&"


def facts(code: str, **changes: Any) -> dict[str, str]:
    (found,) = (t for t in load_policy(ICS2).templates if t.code == code)
    (sheet,) = sheets([PolicyPack(1, (found.model_copy(update=changes),))])
    return dict(sheet.facts)


class TestWords:
    def test_every_word_of_the_vocabulary_has_words(self) -> None:
        assert set(words.PURPOSE_WORDS) == set(Purpose)
        assert set(words.ROLE_WORDS) == {*ProfileRole, *OwnRole}
        assert set(words.CONDITION_WORDS) == set(Condition)
        for basis in LegalBasis:
            assert words.basis_words([basis])

    def test_an_act_is_cited_once(self) -> None:
        assert words.basis_words([LegalBasis.SIS_OBJECTS, LegalBasis.SIS_OBJECTS_ACTION]) == (
            "Regulation (EU) 2018/1862 (SIS, police and judicial cooperation), Articles 38, 39"
        )
        assert words.basis_words([LegalBasis.EUROPOL_ACCESS, LegalBasis.EUROPOL_ANNEX_II_A]) == (
            "Regulation (EU) 2016/794 (Europol), Article 20, Annex II.A"
        )

    @pytest.mark.parametrize(
        ("status", "complete", "begins"),
        [
            (Status.BLOCKED, True, "blocked: never"),
            (Status.PILOT, False, "pilot: synthetic data only"),
            (Status.PILOT, True, "pilot: the references"),
            (Status.ENABLED, False, "enabled"),
        ],
    )
    def test_a_status_says_what_it_means(self, status: Status, complete: bool, begins: str) -> None:
        assert words.status_words(status, complete).startswith(begins)

    def test_one_is_not_many(self) -> None:
        assert words.counted(1, "person", "people") == "1 person"
        assert words.counted(2, "person", "people") == "2 people"
        assert words.counted(1_000, "hour") == "1,000 hours"


class TestRows:
    def test_every_field_of_every_agreement_is_a_row_and_nothing_else(self) -> None:
        rows = [row for row in matrix(PACKS) if row.owner != OWN_NODE]
        templates = {t.code: t for pack in PACKS for t in pack.templates}
        assert len(rows) == sum(len(t.categories) * len(t.disclose) for t in templates.values())
        for row in rows:
            terms = templates[row.agreement]
            assert terms.disclose[Field(row.field)].value == row.condition
            assert row.category.split(" ")[0] in terms.categories
            assert (row.querier_people, row.owner_people) == (
                terms.confirm.querier_people,
                terms.confirm.owner_people,
            )

    def test_a_row_says_why_after_whom_and_for_how_long(self) -> None:
        row = next(r for r in matrix(PACKS) if (r.agreement, r.field) == ("LEA-CASE", "party_names"))
        assert (row.querier, row.owner, row.learns_first) == ("national_unit or police", "customs", row.querier)
        assert (row.querier_people, row.owner_people, row.grant_people, row.owner_notice) == (2, 2, 2, "case")
        assert row.legal_basis == "ICS2:case-by-case"
        assert (row.retention_class, row.retention_years, row.max_set_age_h) == ("LED_NATIONAL", 3, 48)
        silent = next(r for r in matrix(PACKS) if r.agreement == "SIS-CHK")
        assert (silent.owner_notice, silent.owner_people, silent.grant_people) == ("none", 0, 0)

    def test_the_own_node_is_in_it(self) -> None:
        own = [row for row in matrix([load_policy(ICS2)]) if row.owner == OWN_NODE]
        assert {row.agreement for row in own} == {"DSR", "DPO-AUD", "TEST"}
        assert {r.category.split(" ")[0] for r in own if r.condition == "restricted"} == {
            *("sis.26", "sis.32", "sis.34", "sis.36"),
            *("sis.person.26", "sis.person.32", "sis.person.34", "sis.person.36"),
        }
        assert [r.querier for r in own if r.agreement == "DPO-AUD"] == ["auditor or dpo or supervisor"]

    def test_csv_has_the_rows(self) -> None:
        rows = matrix(PACKS)
        read = list(csv.DictReader(io.StringIO(encode_csv(rows), newline="")))
        assert len(read) == len(rows)
        assert [line["agreement"] for line in read] == [row.agreement for row in rows]
        assert read[0]["max_set_age_h"] == "48"
        # A spreadsheet calculates what begins like this.
        assert not any(cell.startswith(("=", "+", "-", "@")) for line in read for cell in line.values())


class TestSheets:
    def test_approvals_are_spelled_out(self) -> None:
        assert facts("LEA-CASE", grant=Grant(people=3, max_identifiers=1, max_hours=2))["Needs"] == (
            "before anything is asked, a grant by 3 people of customs: at most 1 identifier, 2 hours; "
            "2 people of the Europol national unit or the police to confirm the match; 2 people of customs to approve the case"
        )
        assert facts("SIS-CHK")["Needs"] == "1 person of the national SIS office to confirm the match"
        assert facts("SIS-CHK")["Owner's notice"].startswith("silent: nobody at customs is told or asked; 1 case")
        assert "within 12 hours" in facts("SIS-OBJ")["Owner's notice"]

    def test_retention_and_references(self) -> None:
        assert facts("SIS-OBJ")["Kept"].startswith("what was disclosed, and the log: 3 years (SIS_3Y); the encoded set")
        named = facts("SIS-OBJ", requires=Requires(legal_ref="act 1", dpia_ref="", arrangement_ref=""))["Named"]
        assert named.startswith("legal reference: act 1; impact assessment: none")

    def test_what_is_shown_at_the_match(self) -> None:
        assert facts("SIS-CHK")["At the match"].startswith("nothing")
        assert facts("SIS-OBJ")["At the match"].startswith("the category")
        assert facts("SIS-OBJ", category_at_match=("sis.38.e",))["At the match"].startswith(
            "shown before any approval: sis.38.e (boats"
        )

    def test_equal_agreements_have_one_sheet_that_names_every_file(self) -> None:
        (risk,) = (sheet for sheet in sheets(PACKS) if sheet.code == "CUS-RISK")
        assert {Path(name).parent.name for name in risk.files} == {"ics2", "customs2"}
        other = load_policy(ICS2)
        changed = PolicyPack(1, tuple(t.model_copy(update={"witnesses": 2}) for t in other.templates), other.own)
        assert len(sheets([other, changed])) == 2 * len(other.templates) + len(other.own)


class Page(HTMLParser):
    """What of a page matters here."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


class TestPage:
    PAGE = Page(encode_page(PACKS))

    def test_it_is_well_formed_and_loads_nothing(self) -> None:
        assert self.PAGE.open == []
        names = {tag for tag, _ in self.PAGE.tags}
        assert not names & {"script", "link", "img", "iframe", "object", "base", "form"}
        ids = [attrs["id"] for _, attrs in self.PAGE.tags if "id" in attrs]
        assert len(set(ids)) == len(ids)
        for tag, attrs in self.PAGE.tags:
            assert not any(key.startswith("on") or key in {"src", "style"} for key in attrs)
            if tag == "a":
                assert (attrs["href"] or "").removeprefix("#") in ids
        style = encode_page(PACKS).split("<style>")[1].split("</style>")[0]
        assert "@media print" in style
        assert not re.search(r"url\(|@import|//", style)
        assert any(attrs.get("http-equiv") == "Content-Security-Policy" for _, attrs in self.PAGE.tags)

    def test_a_screen_reader_finds_its_way(self) -> None:
        tags = [tag for tag, _ in self.PAGE.tags]
        assert (tags.count("h1"), tags.count("main"), tags.count("title")) == (1, 1, 1)
        assert ("html", {"lang": "en"}) in self.PAGE.tags
        assert tags.count("caption") == tags.count("table") > 2 * len({t.code for p in PACKS for t in p.templates}) - 3
        assert all(attrs.get("scope") in {"row", "col"} for tag, attrs in self.PAGE.tags if tag == "th")
        levels = [int(tag[1]) for tag in tags if re.fullmatch(r"h[1-6]", tag)]
        assert all(after <= before + 1 for before, after in pairwise(levels))

    def test_every_agreement_and_field_stands_on_it(self) -> None:
        for pack in PACKS:
            for template in pack.templates:
                assert template.code in self.PAGE.text
                for name in template.disclose:
                    assert words.field_words(name) in self.PAGE.text
        assert "DPO-AUD" in self.PAGE.text
        assert "No field may be disclosed." in self.PAGE.text

    def test_a_text_of_a_policy_stays_text(self) -> None:
        pack = load_policy(ICS2)
        references = Requires(legal_ref=HOSTILE, dpia_ref=HOSTILE, arrangement_ref=HOSTILE)
        hostile = PolicyPack(
            1, tuple(t.model_copy(update={"requires": references}) for t in pack.templates), pack.own, f"{HOSTILE}.yaml"
        )
        page = encode_page([hostile])
        assert "<script" not in page
        assert HOSTILE in Page(page).text

    def test_equal_packs_give_equal_pages(self) -> None:
        assert encode_page(PACKS) == encode_page([load_policy(path) for path in sorted(NODES.glob("*/policy.yaml"))])


class TestCommand:
    def run(self, *words_: object, columns: int = 120) -> str:
        done = CliRunner(env={"COLUMNS": str(columns)}).invoke(cli.app, ["policy", "matrix", *map(str, words_)])
        assert done.exit_code == 0, done.output
        return done.output

    def test_it_writes_what_it_is_asked_for(self, tmp_path: Path) -> None:
        rows = json.loads(self.run(ICS2, "--html", tmp_path / "m.html", "--csv", tmp_path / "m.csv", "--json"))
        assert (tmp_path / "m.html").read_text(encoding="utf-8") == encode_page([load_policy(ICS2)])
        with (tmp_path / "m.csv").open(newline="", encoding="utf-8") as file:
            assert len(list(csv.DictReader(file))) == len(rows)
        assert {
            "agreement",
            "purpose",
            "querier",
            "owner",
            "learns_first",
            "category",
            "field",
            "condition",
            "status",
        } <= set(rows[0])

    @pytest.mark.parametrize("columns", [100, 120, 160])
    def test_no_line_is_wider_than_the_terminal(self, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
        monkeypatch.setattr(output.out, "width", columns)
        text = self.run(ICS2, columns=columns)
        assert max(map(len, text.splitlines())) <= columns
        for code in ("SIS-OBJ", "LEA-CASE", "DSR"):
            assert code in text

    def test_a_place_that_cannot_be_written_is_an_error(self, tmp_path: Path) -> None:
        done = CliRunner().invoke(cli.app, ["policy", "matrix", str(ICS2), "--html", str(tmp_path / "no" / "m.html")])
        assert done.exit_code != 0
        assert "No such file" in str(done.exception)
