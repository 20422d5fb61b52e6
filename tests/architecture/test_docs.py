"""What the documentation says is there: links, commands, targets, and every table that repeats what the code decides."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from connector_psi.disclosure import TRANSITIONS, CaseState, OwnerCaseState
from connector_psi.domain.purposes import Status
from connector_psi.pack.markdown import update_document
from connector_psi.pack.matrix import OWN_NODE, matrix
from connector_psi.pack.reading import load_policy

from connector_psi.rpc import tls  # noqa: F401  # isort: skip  # sets up gRPC's environment before gRPC is loaded

import pytest
import typer
from pydantic.fields import FieldInfo

from connector_psi import cli, errors, policy
from connector_psi.audit import entries
from connector_psi.commands import output
from connector_psi.node.config import NodeConfig
from connector_psi.pki import Role
from connector_psi.rpc import interceptors

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = sorted(
    [
        *(ROOT / f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING", "SECURITY", "keys/README")),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "nodes").glob("*/README.md"),
    ]
)
FENCE = re.compile(r"^( *)(```+)([^\n]*)\n(.*?)^\1\2 *$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """A page without its code."""
    return INLINE.sub("", FENCE.sub("", page.read_text()))


def code(page: Path) -> Iterator[str]:
    """The lines of a page's code blocks, comments taken off, and its inline code."""
    text = page.read_text()
    for block in FENCE.finditer(text):
        if block[3].strip() in {"sh", "console", "bash", ""}:
            yield from (line.split(" #")[0].strip() for line in block[4].splitlines())
    yield from (match[1].strip() for match in INLINE.finditer(FENCE.sub("", text)))


def section(page: str, heading: str) -> str:
    """The text below a heading, up to the next one of the same or a higher level."""
    text = FENCE.sub("", (ROOT / page).read_text())
    found = re.search(rf"^(#+) {re.escape(heading)}$(.*?)(?=^#{{1,2}} |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, f"{page}: no section {heading}"
    return found[2]


def table(page: str, heading: str, first_column: str) -> list[list[str]]:
    """The cells of the table below a heading whose first column has this name, without backquotes."""
    lines = iter(section(page, heading).splitlines())
    rows: list[list[str]] = []
    for line in lines:
        if line.startswith("|") and line.split("|")[1].strip() == first_column:
            next(lines)
            for row in lines:
                if not row.startswith("|"):
                    break
                rows.append([cell.strip().replace("`", "") for cell in row.strip().strip("|").split("|")])
            return rows
    raise AssertionError(f"{page}: no table of {first_column} under {heading}")


# Links


def slug(heading: str) -> str:
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def links(page: Path) -> Iterator[tuple[str, Path, str]]:
    for match in LINK.finditer(prose(page)):
        target = match[1]
        if not re.match(r"[a-z][a-z0-9+.-]*:", target):
            path, _, anchor = target.partition("#")
            yield target, (page.parent / path).resolve() if path else page, anchor


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    assert [target for target, path, anchor in links(page) if not leads_somewhere(path, anchor)] == []


def leads_somewhere(path: Path, anchor: str) -> bool:
    if not path.is_file() or not path.is_relative_to(ROOT):
        return False
    return not anchor or anchor in {slug(h) for h in HEADING.findall(FENCE.sub("", path.read_text()))}


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, todo = {README}, [README]
    while todo:
        for _, path, _ in links(todo.pop()):
            if path.suffix == ".md" and path.is_file() and path not in reached:
                reached.add(path)
                todo.append(path)
    assert {name_of(page) for page in PAGES} - {name_of(page) for page in reached} == set()


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) < 90


# Commands

COMMAND = typer.main.get_command(cli.app)


def problem_of(line: str) -> str:
    """What is wrong with a `connector-psi` command line, nothing if it exists with the options it names."""
    words = shlex.split(line.replace("[", " ").replace("]", " ").replace("|", " "))
    command, words = COMMAND, words[1:]
    while hasattr(command, "commands"):
        if words and words[0].startswith("-"):
            break
        if not words or words[0] not in command.commands:
            return f"{line}: no command {words[0] if words else ''}"
        command = command.commands[words.pop(0)]
    known = {name for param in command.params for name in param.opts} | {"--help"}
    unknown = [word for word in words if word.startswith("--") and word.split("=")[0] not in known]
    return f"{line}: no option {', '.join(unknown)}" if unknown else ""


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_exists_with_its_options(page: Path) -> None:
    lines = [line.removeprefix(".venv/bin/") for line in code(page)]
    found = [problem_of(line) for line in lines if line.startswith("connector-psi ")]
    assert [problem for problem in found if problem] == []


def test_a_command_that_does_not_exist_is_noticed() -> None:
    assert problem_of("connector-psi cases approve DIR ID --reason R --as CERT") == ""
    assert "no command reopen" in problem_of("connector-psi cases reopen DIR ID")
    assert "no command cosign" in problem_of("connector-psi cosign DIR")
    assert "no option --because" in problem_of("connector-psi cases approve DIR ID --because R")
    assert "no option --agreement" in problem_of("connector-psi status DIR --agreement CODE")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_make_target_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {line.split()[1] for line in code(page) if re.match(r"make [a-z]", line)}
    assert named - targets == set()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_module_and_file_of_the_project_that_is_named_exists(page: Path) -> None:
    missing = []
    for line in code(page):
        if match := re.search(r"python3? -m (connector_psi[\w.]*)", line):
            missing += [] if importlib.util.find_spec(match[1]) else [match[1]]
        if re.fullmatch(r"(connector_psi|tests|protos|benchmarks)/[\w./*-]+", line):
            missing += [] if any(ROOT.glob(line.rstrip("/"))) else [line]
    assert missing == []


# What no file may hold


# Put together here, so that this file does not hold them.
REGISTRIES = re.compile(
    "|".join(
        re.escape(f"{name}.{domain}")
        for name, domain in (
            ("pypi", "org"),
            ("pythonhosted", "org"),
            ("npmjs", "org"),
            ("npmjs", "com"),
            ("crates", "io"),
            ("rubygems", "org"),
            ("anaconda", "org"),
            ("proxy.golang", "org"),
        )
    )
)
MACHINE_PATH = re.compile(r"(?<![\w.~*/-])/(?:home|Users|root|work|tmp|mnt|media)/[\w.-]+|[A-Z]:\\Users")


def tracked() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("needs the history: this is no clone")
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, check=True).stdout
    return [ROOT / name for name in listed.decode().split("\0") if name and (ROOT / name).is_file()]


def test_no_file_names_a_package_registry_or_a_path_of_some_machine() -> None:
    found = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for pattern in (REGISTRIES, MACHINE_PATH):
            found += [f"{name_of(path)}: {match[0]}" for match in pattern.finditer(text)]
    assert found == []


def test_the_patterns_find_what_they_are_for() -> None:
    assert REGISTRIES.search("--index-url https://" + "pypi" + ".org/simple")
    for path in ("/" + "home/someone/x", 'open("/' + 'tmp/x")', "see /" + "root/y"):
        assert MACHINE_PATH.search(path)
    for text in ("docs/home/page.md", "/srv/connector-psi/node", "https://example.eu/work/x", "urn:x/tmp/y"):
        assert not MACHINE_PATH.search(text)


def test_the_licence_is_the_one_that_the_project_names() -> None:
    # The text as the Apache Software Foundation publishes it.
    digest = hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest()
    assert digest == "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"] == "Apache-2.0"


def test_the_changelog_has_the_version_with_its_date() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert re.search(
        rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )


# Tables that repeat the code


def test_the_settings_are_those_of_the_node() -> None:
    documented = {row[0]: row[1] for row in table("docs/architecture.md", "Settings", "key")}
    actual = {}
    for section_name, section_field in NodeConfig.model_fields.items():
        section, place, required = section_field.annotation, section_name, "set by init"
        if isinstance(section_field.default, tuple):
            # A list of tables, none by default.
            section, place, required = get_args(section)[0], f"{section_name}[]", "required"
        for name, field in section.model_fields.items():
            if field.default is None:
                # A table that may be left out.
                nested = get_args(field.annotation)[0]
                actual |= {
                    f"{place}.{name}.{key}": _default(each, "required") for key, each in nested.model_fields.items()
                }
            else:
                actual[f"{place}.{name}"] = _default(field, required)
    assert documented == actual


def _default(field: FieldInfo, required: str) -> str:
    if field.is_required():
        return required
    default = ", ".join(field.default) if isinstance(field.default, tuple) else str(field.default)
    return default or "empty"


def test_the_layers_are_those_of_the_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    assert "\n".join(layers) in (ROOT / "CONTRIBUTING.md").read_text()


def test_the_fields_of_a_leaf_are_those_of_the_log() -> None:
    rows = table("docs/disclosure-log.md", "What a leaf says", "key")
    assert [row[0] for row in rows] == list(entries._FORMS)


def written_events() -> set[str]:
    """Events that a use case names."""
    return {
        node.attr
        for path in (ROOT / "connector_psi" / "node").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Event"
    }


def test_the_events_are_those_that_are_written() -> None:
    documented = {row[0] for row in table("docs/disclosure-log.md", "Events", "event")}
    assert documented == written_events()
    later = re.search(r"not written yet: ([A-Z_, ]+)\.", section("docs/disclosure-log.md", "Events").replace("\n", " "))
    assert set(later[1].split(", ") if later else ()) == {event.value for event in entries.Event} - documented


def test_the_retention_classes_are_those_of_the_log() -> None:
    rows = table("docs/disclosure-log.md", "Retention", "class")
    assert {row[0]: row[1] for row in rows} == {
        kind.value: f"{months} months" for kind, months in entries.RETENTION_MONTHS.items()
    }
    for kind, _, used_by in rows:
        codes = {template.code for template in templates() if template.retention_class.value == kind}
        assert set(re.findall(r"[A-Z]{2,3}-[A-Z0-9]+", used_by)) == codes


def every_error() -> Iterator[type[errors.ConnectorError]]:
    todo = [errors.ConnectorError]
    while todo:
        kind = todo.pop()
        yield kind
        todo += kind.__subclasses__()


def test_the_errors_are_those_of_the_tree() -> None:
    documented = {tuple(row[:4]) for row in table("docs/operations.md", "Errors", "code")}
    actual = set()
    for kind in every_error():
        code_ = next(output.EXIT_CODES[base] for base in kind.__mro__ if base in output.EXIT_CODES)
        status = next(interceptors.STATUS[base] for base in kind.__mro__ if base in interceptors.STATUS)
        actual.add((kind.code, str(code_), status.name, "yes" if kind.retryable else "no"))
    assert documented == actual


def test_the_exit_codes_are_those_of_the_command_line() -> None:
    documented = {int(row[0]) for row in table("docs/operations.md", "Exit codes", "code")}
    assert documented == {0, output.REJECTED_SOME, *output.EXIT_CODES.values()}


def test_the_roles_are_those_of_the_access_table() -> None:
    roles = ("officer", "supervisor", "dpo", "auditor", "admin", "system")
    assert set(roles) == {role.value for role in Role}
    documented = {
        row[0]: {role for role, cell in zip(roles, row[1:], strict=True) if cell}
        for row in table("docs/integration.md", "Roles", "method")
    }
    actual = {
        method.rpartition(".")[2]: {role.value for role in allowed}
        for method, allowed in interceptors.LOCAL_ACCESS.items()
        if ".rpc.v1." in method
    }
    assert documented == actual


def packs() -> list[policy.PolicyPack]:
    return [load_policy(path) for path in sorted((ROOT / "nodes").glob("*/policy.yaml"))]


def templates() -> list[policy.Template]:
    found = {template.code: template for pack in packs() for template in pack.templates}
    return list(found.values())


def test_what_may_be_disclosed_is_what_the_policies_say() -> None:
    rows = table("docs/data-protection.md", "What may be disclosed", "agreement")
    categories: dict[tuple[str, ...], set[str]] = {}
    for row in (row for row in matrix(packs()) if row.owner != OWN_NODE):
        key = (row.agreement, row.querier, row.owner, row.field, row.condition)
        categories.setdefault(key, set()).add(row.category)
    actual = {(a, q, o, str(len(found)), f, c) for (a, q, o, f, c), found in categories.items()}
    assert {tuple(row) for row in rows} == actual
    assert len(rows) == len(actual)


def test_the_agreements_are_those_of_the_policies() -> None:
    documented = {tuple(row) for row in table("docs/data-protection.md", "Agreements", "agreement")}
    assert documented == {
        (
            t.code,
            t.status.value,
            t.purpose.value,
            ", ".join(sorted(basis.value for basis in t.legal_basis)),
            " or ".join(role.value for role in t.querier),
            " or ".join(role.value for role in t.owner),
            ", ".join(sorted(kind.value for kind in t.identifier_types)),
            f"{t.max_set_age_h} h",
            f"{t.case_window_days} days",
            f"{t.confirm.querier_people} + {t.confirm.owner_people}",
        )
        for t in templates()
    }
    touched = ("sis.", "eis.", "cise.")
    assert {t.status for t in templates() if any(c.startswith(touched) for c in t.categories)} == {
        Status.PILOT,
        Status.BLOCKED,
    }, "the pages say that all of these are pilots or blocked"
    assert all(t.witnesses for t in templates()), "the pages say that none runs on real data in this version"


def test_the_hashed_keys_of_an_agreement_are_those_of_the_protocol() -> None:
    text = section("docs/protocol.md", "Roles and agreements").replace("\n", " ")
    listed = text.partition("sets sorted ascending")[2].partition("**Token classes**")[0]
    documented = set(re.findall(r"`([a-z_]+)`", listed))
    nested = [policy.Capacity, policy.Confirm, policy.Grant, policy.Names, policy.Requires]
    assert documented == set(policy.Agreement.model_fields) | {key for model in nested for key in model.model_fields}


# Decisions

DECISIONS = sorted(path for path in (ROOT / "docs" / "adr").glob("*.md") if path.name != "README.md")


def test_decisions_are_numbered_and_listed() -> None:
    assert [path.name[:4] for path in DECISIONS] == [f"{number:04}" for number in range(1, len(DECISIONS) + 1)]
    listed = re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", (ROOT / "docs/adr/README.md").read_text())
    assert listed == [path.name for path in DECISIONS]


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_has_its_parts(path: Path) -> None:
    text = path.read_text()
    assert text.startswith(f"# {int(path.name[:4])}. ")
    assert re.search(r"^Status: (accepted|superseded by \[.+\]\(.+\)), \d{4}-\d\d-\d\d\.$", text, re.MULTILINE)
    assert HEADING.findall(text)[1:] == ["Context", "Decision", "Consequences"]


def test_the_life_of_a_case_is_drawn_as_it_is() -> None:
    text = (ROOT / "docs" / "cases.md").read_text()
    drawn: dict[str, set[tuple[str, str]]] = {}
    for side in ("querier", "owner"):
        part = text.split(f"## At the {side}\n", 1)[1].split("\n## ", 1)[0]
        drawn[side] = set(re.findall(r"^ +(\S+) --> (\S+?)(?::|$)", part, re.MULTILINE))
        states = {state for step in drawn[side] for state in step} - {"[*]"}
        assert states == set(re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE))
    for side, kind in (("querier", CaseState), ("owner", OwnerCaseState)):
        steps = {(old.value, new.value) for old, after in TRANSITIONS.items() if isinstance(old, kind) for new in after}
        ends = {state.value for state in kind if not TRANSITIONS[state]}
        first = next(iter(kind)).value
        assert drawn[side] == steps | {("[*]", first)} | {(end, "[*]") for end in ends}


def test_every_agreement_is_assessed_and_its_table_is_that_of_the_policies() -> None:
    page = ROOT / "docs" / "data-protection.md"
    text = page.read_text()
    packs = [load_policy(path) for path in sorted((ROOT / "nodes").glob("*/policy.yaml"))]
    assert update_document(text, packs) == text, (
        "connector-psi policy matrix nodes/*/policy.yaml --update docs/data-protection.md"
    )
    assessed = text.split("## Assessment per agreement\n", 1)[1].split("\n## ", 1)[0]
    parts = {part.split(":", 1)[0]: part for part in assessed.split("\n### ")[1:] if not part.startswith("Common")}
    assert parts.keys() == {terms.code for pack in packs for terms in (*pack.templates, *pack.own)}
    for code, part in parts.items():
        for heading in (
            "What and why.", "Who is concerned, and which rights.", "Risks and measures.", "What is left.",
            "To answer before real data.",
        ):  # fmt: skip
            assert part.count(f"**{heading}**") == 1, (code, heading)
        assert f"<!-- agreement {code} -->\n| {code} | |\n" in part
