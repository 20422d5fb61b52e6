"""The catalogues: whole, with the same places for values, and nothing that nobody uses; and what a language writes."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from connector_psi.console import access
from connector_psi.console.app import Console
from connector_psi.console.language import LANGUAGES, Language, catalogue, choose
from connector_psi.console.words import vocabulary
from connector_psi.pki import Role
from tests.console import texts

ROOT = Path(__file__).resolve().parents[2]
OTHERS = sorted(set(LANGUAGES) - {"en"})


@pytest.mark.parametrize("code", OTHERS)
def test_a_catalogue_is_whole(code: str) -> None:
    wanted, known = texts.collect(), catalogue(code)
    assert sorted(wanted - known.keys()) == [], "python -m tests.console.texts prints what is missing"
    assert sorted(known.keys() - wanted) == []


@pytest.mark.parametrize("code", OTHERS)
def test_values_have_the_same_places(code: str) -> None:
    assert [text for text, told in catalogue(code).items() if texts.places(text) != texts.places(told)] == []


@pytest.mark.parametrize("code", OTHERS)
def test_most_of_it_is_translated(code: str) -> None:
    known = catalogue(code)
    assert sum(told == text for text, told in known.items()) < len(known) // 10


def test_texts_are_found_in_templates_code_and_vocabulary() -> None:
    found = texts.collect()
    assert {
        "Why it is a match",
        "The match is dismissed.",
        "container number",
        "Decide about a case",
        "no such match",
        "Declarations",
    } <= found
    assert {text for kind in vocabulary().values() for text in kind.values()} <= found


@pytest.mark.parametrize(
    ("wanted", "accepted", "code"),
    [
        ("", "", "en"), ("", "de", "de"), ("", "de-AT,de;q=0.9,en;q=0.8", "de"), ("", "xx,el;q=0.3,fr;q=0.7", "fr"), ("fr", "de", "fr"), ("xx", "de", "de"),
        ("", "fr;q=0,de;q=0.1", "de"), ("", "fr;q=x", "en"), ("", "," * 1000, "en"),
    ],
)  # fmt: skip
def test_the_language_that_a_browser_gets(wanted: str, accepted: str, code: str) -> None:
    assert choose(wanted, accepted) == code


def test_dates_and_numbers_are_written_as_the_language_writes_them() -> None:
    when = datetime(2026, 3, 5, 14, 7, 9, tzinfo=UTC)
    told = {code: Language(code, "Europe/Brussels") for code in LANGUAGES}
    assert {code: each.number(1234567.5) for code, each in told.items()} == {
        "en": "1,234,567.5", "fr": "1\u202f234\u202f567,5", "de": "1.234.567,5", "el": "1.234.567,5",
    }  # fmt: skip
    assert told["de"].second(when).startswith("5 März 2026, 15:07:09")
    assert told["en"].time(when.timestamp() * 1000).startswith("5 Mar 2026, 15:07")
    assert told["el"].day(date(2026, 3, 5)).startswith("5 Μαρ")  # noqa: RUF001 - Greek
    assert told["fr"].span(7200) == "2\xa0heures"
    assert told["en"].time(0) == told["en"].second(None) == ""
    assert re.fullmatch(r"12,3\s%", told["fr"].share(0.1234))


def test_an_error_that_is_not_translated_is_marked_as_english() -> None:
    told = Language("fr", "UTC")
    assert told.said("SIS-OBJ:ics2-sis: <b>") == '<span lang="en">SIS-OBJ:ics2-sis: &lt;b&gt;</span>'
    assert 'lang="en"' not in told.said("no such match")


def test_the_documented_pages_are_those_of_the_table() -> None:
    """docs/console.md says who sees what; "reads" is a page of which none of the actions is for the role."""
    lines = (ROOT / "docs" / "console.md").read_text().split("| page | ")[1].splitlines()
    roles = [name.strip() for name in lines[0].strip("| ").split("|")]
    assert set(roles) == {role.value for role in Role}
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines[2:] if line.startswith("|")]
    told = {row[0]: dict(zip(roles, row[1:], strict=True)) for row in rows if len(row) == len(roles) + 1}
    shown = {
        Console.titles[page.name]: page
        for page in access.pages()
        if page.name in Console.titles and page.method == "GET"
    }
    assert set(told) == set(shown)
    for title, page in shown.items():
        assert {role for role, cell in told[title].items() if cell} == set(page.roles), title
    for title, area in (
        ("Matches", "/matches/"),
        ("Access by case", "/access/"),
        ("Sampling", "/sampling/"),
        ("Recalls", "/recalls/"),
    ):
        acting = {
            role
            for page in access.pages()
            if page.method == "POST" and page.path.startswith(area)
            for role in page.roles
        }
        assert {role for role, cell in told[title].items() if cell == "yes"} == acting, title


def test_no_template_writes_markup_of_its_own_into_a_value() -> None:
    """Nothing is marked as safe but charts, which escape what they hold; no style and no script stands in a page."""
    for path in sorted((ROOT / "connector_psi" / "console" / "templates").glob("*.html")):
        text = path.read_text()
        assert set(re.findall(r"\{\{\s*([^}|]+)\|safe", text)) <= {"chart", "part.svg"}, path.name
        assert not re.search(r'\son[a-z]+=|<script(?! src="/static/console\.js" defer>)|\sstyle=|javascript:', text), (
            path.name
        )
