"""Tables of agreements in a document that people write."""

from __future__ import annotations

from pathlib import Path

import pytest

from connector_psi.domain.purposes import Status
from connector_psi.errors import ConfigError
from connector_psi.pack.markdown import update_document
from connector_psi.pack.reading import parse_policy
from connector_psi.policy import PolicyPack
from tests.integration import live

RAW = (Path(__file__).resolve().parents[3] / "nodes" / "sis" / "policy.yaml").read_bytes()
PACK = parse_policy(RAW)
DOCUMENT = "# Ours\n\nWords.\n\n<!-- agreement SIS-OBJ -->\nold\n<!-- end -->\n\nMore | words.\n"


def test_what_stands_between_the_marks_is_renewed_and_nothing_else() -> None:
    text = update_document(DOCUMENT, [PACK])
    head, _, rest = text.partition("<!-- agreement SIS-OBJ -->\n")
    assert head == DOCUMENT.partition("<!--")[0]
    assert rest.endswith("<!-- end -->\n\nMore | words.\n")
    assert "old" not in rest
    assert "| Owner's notice | people of the national SIS office see every case" in rest
    assert "| May learn | " in rest
    assert update_document(text, [PACK]) == text
    (template,) = [t for t in PACK.templates if t.code == "SIS-OBJ"]
    changed = PolicyPack(1, (template.model_copy(update={"max_set_age_h": 12}),))
    assert "at most 12 hours" in update_document(text, [changed])


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (DOCUMENT.replace("SIS-OBJ", "SIS-XYZ"), "ours.md: SIS-XYZ: no agreement of this code"),
        (DOCUMENT.replace("<!-- end -->", ""), "does not end"),
    ],
)
def test_a_mark_that_means_nothing_is_an_error(document: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        update_document(document, [PACK], "ours.md")


def test_a_code_with_two_meanings_has_no_table() -> None:
    (template,) = [t for t in PACK.templates if t.code == "SIS-OBJ"]
    other = PolicyPack(1, (template.model_copy(update={"status": Status.BLOCKED}),), source="other")
    with pytest.raises(ConfigError, match="do not mean the same"):
        update_document(DOCUMENT, [PACK, other])


def test_the_command_renews_a_file(tmp_path: Path) -> None:
    policy, page = tmp_path / "policy.yaml", tmp_path / "ours.md"
    policy.write_bytes(RAW)
    page.write_text(DOCUMENT)
    assert live.run("policy", "matrix", policy, "--update", page).code == 0
    assert page.read_text() == update_document(DOCUMENT, [PACK])
    page.write_text(DOCUMENT.replace("SIS-OBJ", "SIS-XYZ"))
    assert live.run("policy", "matrix", policy, "--update", page).code == 2
    assert live.run("policy", "matrix", policy, "--update", tmp_path / "none.md").code == 2
