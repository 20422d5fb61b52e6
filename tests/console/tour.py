"""The screenshots of docs/console.md, in real Chromium on two served nodes: ``python -m tests.console.tour [FOLDER]``."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

from tests.integration import live  # noqa: F401  # isort: skip  # sets up gRPC's environment before gRPC is loaded

from tests.console.chromium import CHROMIUM, Window, chromium
from tests.console.stage import Stage

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "images"
SIZE = (1180, 760)


def shot(window: Window, name: str, folder: Path, *, whole: bool = False) -> None:
    window.page.set_viewport_size({"width": SIZE[0], "height": SIZE[1]})
    window.page.screenshot(path=folder / f"console-{name}.png", full_page=whole)
    sys.stderr.write(f"{name}\n")


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    if not CHROMIUM:
        sys.exit("no chromium: install Debian's package chromium")
    with tempfile.TemporaryDirectory() as root, Stage(Path(root), people=2).served() as stage, chromium() as browser:
        officer = Window(browser, stage.customs, "officer1")
        officer.open("/sign-in")
        shot(officer, "sign-in", folder)
        officer.sign_in()
        officer.open("/matches")
        shot(officer, "inbox", folder)
        officer.page.locator("table tbody tr").first.locator("a").click()
        officer.page.fill("#reason", "The same box, seen on the photo of the terminal")
        shot(officer, "match", folder, whole=True)
        match = officer.page.url.removeprefix(officer.desk.url)
        officer.press("Confirm: it is the same")
        second = Window(browser, stage.customs, "officer2").sign_in()
        second.open(match)
        second.page.fill("#reason", "Checked with the terminal")
        second.press("Confirm: it is the same")
        second.page.fill("#case_reference", "DE-2026-0815")
        second.page.fill("#justification", "Control planned at the place of entry")
        second.press("Ask for disclosure")
        case = second.page.url.removeprefix(second.desk.url)
        supervisor = Window(browser, stage.sis, "supervisor1").sign_in()
        supervisor.until("/approvals", "Control planned")
        supervisor.page.locator("table tbody tr a").first.click()
        shot(supervisor, "decision", folder, whole=True)
        theirs = supervisor.page.url.removeprefix(supervisor.desk.url)
        for each in (supervisor, Window(browser, stage.sis, "supervisor2").sign_in()):
            each.open(theirs)
            each.page.check("input[name=grade][value=adequate]")
            each.page.fill("#reason", "The alert is still valid")
            each.press("Approve the disclosure")
        officer.until(case, "sirene@example.org")
        shot(officer, "disclosed", folder, whole=True)
        dpo = Window(browser, stage.customs, "dpo1").sign_in()
        dpo.open("/")
        shot(dpo, "overview", folder)
        dpo.open(re.sub("^/cases/", "/dossiers/", case))
        dpo.press("Verify now")
        shot(dpo, "dossier", folder, whole=True)
        dpo.open("/log")
        dpo.press("Run the verifier")
        dpo.until("/log", "holds")
        shot(dpo, "log", folder, whole=True)
        dpo.page.emulate_media(color_scheme="dark")
        dpo.page.select_option("#language", "el")
        dpo.page.wait_for_load_state()
        dpo.open("/")
        shot(dpo, "dark", folder)


if __name__ == "__main__":
    main()
