"""The console in a real browser: a match from inbox to disclosure, and every page at two widths, looked at by axe."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from tests.integration import live  # isort: skip  # sets up gRPC's environment before gRPC is loaded

import pytest
from playwright.sync_api import Browser

from connector_psi.audit.verify import verify_bundle
from connector_psi.console import access
from connector_psi.console.language import LANGUAGES
from tests.console.chromium import Window, chromium, needs_chromium
from tests.console.stage import BOXES, Stage

pytestmark = needs_chromium

REFERENCE, JUSTIFICATION = "DE-2026-0815", "Control planned at the place of entry"
PERSONAL = (
    *BOXES,
    REFERENCE,
    JUSTIFICATION,
    "26DE0",
    "sirene@example.org",
    "Hansa",
    "officer1",
    "officer2",
    "DE000001",
)


class Story:
    """What was done so far, for the tests that come after."""

    def __init__(self, stage: Stage, browser: Browser) -> None:
        self.stage = stage
        self.browser = browser
        self.windows: dict[tuple[str, str], Window] = {}
        self.match = self.case = ""

    def window(self, code: str, person: str) -> Window:
        desk = next(desk for desk in self.stage.desks if desk.code == code)
        if (code, person) not in self.windows:
            self.windows[code, person] = Window(self.browser, desk, person).sign_in()
        return self.windows[code, person]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with Stage(tmp_path_factory.mktemp("console"), people=2, police=True).served() as stage, chromium() as browser:
        yield Story(stage, browser)


def test_a_match_becomes_a_disclosure(story: Story) -> None:
    """Two officers at customs, two supervisors at N.SIS, and a data protection officer at each."""
    one, two = story.window("ics2", "officer1"), story.window("ics2", "officer2")
    one.open("/matches")
    one.page.locator("table tbody tr").first.locator("a").click()
    story.match = one.page.url.removeprefix(one.desk.url)
    assert "container number" in one.text
    assert "/IE3F20/consignment" in one.text, "where it stands in the own message"
    one.check("match")
    one.page.fill("#reason", "the same box, seen on the photo")
    one.press("Confirm: it is the same")
    assert "Another person has to confirm it too" in one.says
    assert one.page.get_by_role("button", name="Confirm: it is the same").count() == 0, "not twice by one person"
    two.open(story.match)
    two.page.fill("#reason", "checked with the terminal")
    two.press("Confirm: it is the same")
    assert "it is a hit" in two.says
    two.page.fill("#case_reference", REFERENCE)
    two.page.fill("#justification", JUSTIFICATION)
    two.check("match-confirmed")
    two.press("Ask for disclosure")
    story.case = two.page.url.removeprefix(two.desk.url)
    assert "on its way" in two.says
    assert "has not answered yet" in two.text
    two.check("case-waiting")

    first, second = story.window("sis", "supervisor1"), story.window("sis", "supervisor2")
    first.until("/approvals", JUSTIFICATION)
    first.check("approvals")
    first.page.locator("table tbody tr a").first.click()
    theirs = first.page.url.removeprefix(first.desk.url)
    for words in (
        REFERENCE,
        JUSTIFICATION,
        "DE000001.0001",
        "withheld",
        "Two different people have to approve",
        "would be disclosed",
    ):
        assert words in first.text, words
    first.check("case-to-decide")
    first.page.check("input[name=grade][value=inadequate]")
    first.page.fill("#reason", "the alert is still valid")
    first.page.get_by_role("button", name="Approve the disclosure").click()
    first.page.wait_for_selector("[role=alert]")
    assert first.page.input_value("#reason") == "the alert is still valid", "what was typed stays"
    first.wrong.clear()  # the browser's own line about the status 422
    first.page.check("input[name=grade][value=adequate]")
    first.press("Approve the disclosure")
    assert "Another person has to approve it too" in first.says
    assert first.page.get_by_role("button", name="Approve the disclosure").count() == 0
    second.open(theirs)
    second.page.check("input[name=grade][value=thin]")
    second.page.fill("#reason", "agreed")
    second.press("Approve the disclosure")
    assert "answered at the next slot" in second.says

    one.until(story.case, "sirene@example.org")
    for words in (
        "bound to the purpose of the alert",
        "Pass it on to nobody.",
        "a person decides",
        "Seize the object",
        "Erased by itself on",
    ):
        assert words in one.text, words
    assert "a reason that is never disclosed" not in one.text
    one.check("case-disclosed")


@pytest.mark.parametrize("code", ["ics2", "sis"])
def test_a_data_protection_officer_checks_it(story: Story, code: str) -> None:
    assert story.case, "the match became no disclosure"
    dpo = story.window(code, "dpo1")
    request = story.case.removeprefix("/cases/")
    dpo.open("/sampling")
    dpo.press("Draw")
    assert "drawn by the newest checkpoint" in dpo.says
    dpo.open("/search")
    dpo.page.fill("#case_reference", REFERENCE)
    dpo.press("Search")
    assert request[:12] in dpo.text
    dpo.check(f"{code}-search")
    dpo.page.locator(f'a[href="/dossiers/{request}"]').first.click()
    assert JUSTIFICATION not in dpo.text, "bodies are redacted"
    dpo.press("Verify now")
    verdicts = dpo.page.locator(".steps .badge").all_inner_texts()
    assert len(verdicts) > 8
    told = dpo.page.locator(".steps").inner_text()
    # The only peer of N.SIS here is the one that must not notice its queries: it witnesses nothing of it.
    untold = ["cannot be told now"] if code == "sis" else []
    assert sorted(verdicts) == sorted([*untold, *["holds"] * (len(verdicts) - len(untold))]), told
    assert not untold or "no witness cosigned such a checkpoint yet" in told
    dpo.check(f"{code}-dossier")
    dpo.page.fill("textarea[name=reason]", "yearly review")
    dpo.press("Open the bodies")
    assert "(covered)" in dpo.text
    assert JUSTIFICATION not in dpo.text
    dpo.page.check("input[name=full]")
    dpo.page.fill("textarea[name=reason]", "yearly review, in full")
    dpo.press("Open the bodies")
    assert JUSTIFICATION in dpo.text
    dpo.page.locator('form[action$="/grade"] input[value=thin]').check()
    dpo.page.fill("#note", "says little")
    dpo.press("Keep the grade")
    dpo.open("/sampling?state=graded")
    assert "says little" in dpo.text
    with story.window(code, "dpo1").desk.client(live.pki.Role.DPO) as client:
        said = [json.loads(leaf)["event"] for leaf in client.leaves()]
    assert said.count("LOG_READ") >= 5, "draw, verify, two readings, grade"


def test_the_verifier_reports_and_a_bundle(story: Story, tmp_path: Path) -> None:
    dpo = story.window("ics2", "dpo1")
    dpo.open("/log")
    dpo.press("Run the verifier")
    dpo.until("/log", "holds")
    assert "FAILS" not in dpo.text
    dpo.check("log")
    dpo.open("/anomalies")
    dpo.page.fill("#reason", "quarterly look")
    dpo.press("Search the log for patterns")
    dpo.until("/anomalies", "Findings by kind")
    dpo.check("anomalies")
    for kind in ("verification", "processing", "statistics"):
        dpo.open("/reports")
        form = dpo.page.locator(f'form:has(input[value="{kind}"])')
        if form.locator("textarea").count():
            form.locator("textarea").fill("yearly review")
        with dpo.page.expect_navigation():
            form.locator("button").click()
        for _ in range(50):
            dpo.open("/reports")
            if dpo.page.locator(f'a[href="/reports/{kind}"]').count():
                break
            dpo.page.wait_for_timeout(200)
        dpo.open(f"/reports/{kind}")
        dpo.check(f"report-{kind}")
    dpo.open("/log")
    with dpo.page.expect_download() as download:
        dpo.page.get_by_role("button", name="Download evidence.zip").click()
    download.value.save_as(tmp_path / "evidence.zip")
    with zipfile.ZipFile(tmp_path / "evidence.zip") as archive:
        archive.extractall(tmp_path)
    found = verify_bundle(tmp_path / "evidence")
    assert found["verified"], found["failures"]


def test_a_data_subject_a_hold_and_another_policy(story: Story) -> None:
    dpo = story.window("ics2", "dpo1")
    dpo.open("/subjects")
    dpo.page.fill("#value", BOXES[0])
    dpo.page.fill("#reference", "DSR-1")
    dpo.press("Search")
    assert "consignments declared before entry" in dpo.text
    assert BOXES[0] not in dpo.page.locator("section.card").nth(1).inner_text(), "the annex repeats no value"
    dpo.check("subjects-found")
    dpo.open("/retention")
    dpo.page.get_by_text("Place a hold").first.click()
    dpo.page.fill("#procedure", "MON-2026-1")
    dpo.page.fill("#until", "2027-01-31" if "2026" in dpo.text else "2027-06-30")
    dpo.page.locator('form[action="/retention/holds"] textarea').fill("monitoring under way")
    dpo.press("Place the hold")
    assert "MON-2026-1" in dpo.text
    dpo.check("retention-held")
    policy = (dpo.desk.directory / "policy.yaml").read_text()
    dpo.open("/policy")
    dpo.page.get_by_text("Compare with another policy").click()
    dpo.page.fill(
        "#policy",
        re.sub(
            r"confirm: \{querier_people: 2, owner_people: 2\}", "confirm: {querier_people: 1, owner_people: 1}", policy
        ),
    )
    dpo.press("Compare")
    assert "newly allows" in dpo.text or "changes" in dpo.text
    dpo.check("policy-differences")


def test_access_is_asked_for_and_granted_by_two(story: Story) -> None:
    asking = story.window("police", "officer1")
    asking.open("/access")
    asking.page.fill("#records", "SIENA SIENA-2026-0001")
    asking.page.fill("#case_reference", "BE-2026-77")
    asking.page.fill("#offence", "trafficking in drugs")
    asking.page.fill("#necessity", "the container was named by a witness")
    asking.check("access-form")
    asking.press("Ask for access")
    assert "on its way" in asking.says
    request = asking.page.url.removeprefix(asking.desk.url)
    asking.check("access-asked")
    first = story.window("ics2", "supervisor1")
    first.until("/approvals", "LEA-CASE")
    first.page.locator('a[href^="/access/"]').first.click()
    assert "the container was named by a witness" in first.text
    first.check("access-to-decide")
    theirs = first.page.url.removeprefix(first.desk.url)
    first.page.fill("#reason", "one container, well founded")
    first.press("Grant access")
    assert "Another person has to approve it too" in first.says
    assert first.page.get_by_role("button", name="Grant access").count() == 0
    second = story.window("ics2", "supervisor2")
    second.open(theirs)
    second.page.fill("#reason", "agreed")
    second.press("Grant access")
    assert "answered at the next slot" in second.says
    asking.until(request, "identifiers until")


def test_what_was_disclosed_is_recalled_and_acknowledged(story: Story) -> None:
    """After everything else that looks at the disclosure: it is erased."""
    owner, recipient = story.window("sis", "supervisor1"), story.window("ics2", "officer1")
    owner.open(story.case)
    owner.page.get_by_text("Recall what was disclosed").click()
    owner.page.check("input[name=withdraw]")
    owner.page.fill("#recall_reason", "the alert was about another container")
    owner.press("Send the recall")
    assert "The recall is sent." in owner.says
    owner.check("recall-sent")
    recipient.until("/tasks", "Acknowledge a recall")
    recipient.page.get_by_role("link", name="Acknowledge a recall").first.click()
    recipient.check("recall-to-acknowledge")
    recipient.open(story.case)
    assert "sirene@example.org" not in recipient.text, "what is wrong is not read any more"
    recipient.page.get_by_role("link", name="To the recall").click()
    recipient.page.fill("#note", "the control was called off")
    recipient.press("Acknowledge the recall")
    assert "The recall is acknowledged." in recipient.says
    recipient.check("recall-acknowledged")
    recipient.open(story.case)
    assert "What was disclosed was erased." in recipient.text


PLACES = {
    "overview": "dpo1", "tasks": "officer1", "matches": "officer1", "cases": "officer1", "approvals": "supervisor1", "access": "officer1",
    "recalls": "officer1", "sampling": "dpo1", "search": "dpo1", "anomalies": "dpo1", "subjects": "dpo1", "retention": "dpo1", "sets": "dpo1",
    "policy": "dpo1", "log": "dpo1", "reports": "dpo1", "node": "admin1", "outbox": "admin1", "entry": "dpo1",
}  # fmt: skip
ELSEWHERE = {"match", "case", "dossier", "report", "report_csv", "access_request", "recall"}
"""Checked by the stories: there has to be something."""


def test_every_page_is_looked_at() -> None:
    gets = {page.name for page in access.pages() if page.method == "GET"}
    assert gets == {*PLACES} | ELSEWHERE


@pytest.mark.parametrize("name", sorted(PLACES))
def test_a_page_at_two_widths(story: Story, name: str) -> None:
    (page,) = (each for each in access.pages() if each.name == name)
    window = story.window("ics2", PLACES[name])
    window.open(page.path.replace("{index}", "5"))
    window.check(f"page-{name}")


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_the_languages(story: Story, language: str) -> None:
    window = story.window("ics2", "officer1")
    window.open("/matches")
    if window.page.locator("html").get_attribute("lang") != language:
        with window.page.expect_navigation():
            window.page.select_option("#language", language)
    assert window.page.locator("html").get_attribute("lang") == language
    window.check(f"matches-{language}")
    window.open("/")
    window.check(f"overview-{language}")
    with window.page.expect_navigation():
        window.page.select_option("#language", "de" if language != "de" else "fr")
    with window.page.expect_navigation():
        window.page.select_option("#language", "en")


def test_it_works_without_script(story: Story) -> None:
    window = Window(story.browser, story.stage.customs, "supervisor3", java_script_enabled=False)
    window.sign_in()
    window.open("/matches")
    window.page.locator("table tbody tr").first.locator("a").click()
    window.page.fill("#reason", "another box after all")
    window.page.get_by_role("button", name="Dismiss: it is not").click()
    assert "The match is dismissed." in window.says
    window.page.select_option("#theme", "dark")
    window.page.get_by_role("button", name="Set").click()
    assert window.page.locator("html").get_attribute("data-theme") == "dark"
    window.page.get_by_role("button", name="Sign out").click()
    assert window.page.url.endswith("/sign-in")


def test_it_works_by_keyboard(story: Story) -> None:
    window = story.window("ics2", "officer2")
    window.open("/matches")
    window.page.keyboard.press("Tab")
    assert window.page.evaluate("document.activeElement.className") == "skip"
    window.page.keyboard.press("Enter")
    window.page.keyboard.press("j")
    assert window.page.evaluate("document.activeElement.getAttribute('href')").startswith("/matches/")
    window.page.keyboard.press("Enter")
    window.page.wait_for_url("**/matches/*")
    assert window.page.title().startswith("Match ")


def test_nothing_about_anybody_is_in_addresses_titles_or_storage(story: Story) -> None:
    """Of everything that was done above."""
    assert story.windows
    for window in story.windows.values():
        for path in ("/", "/matches", "/cases") if window.person != "admin1" else ("/",):
            window.open(path)
            window.addresses.append(window.page.title())
        told = "\n".join([*window.addresses, window.keeps()])
        for each in PERSONAL:
            assert each not in told, (window.person, "something about somebody or something")
