"""What every adapter keeps to: what it imports, what it declares, which categories it gives; and the documented example."""

from __future__ import annotations

import ast
import importlib
import io
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import connector_psi.adapters as package
from connector_psi.adapters import formats
from connector_psi.domain.intake import Format, Kind
from connector_psi.domain.purposes import CATEGORIES
from connector_psi.domain.records import Issue, Record
from connector_psi.domain.systems import SYSTEMS
from tests.format_samples import sample

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "connector_psi" / "adapters"
MODULES = sorted(path for path in FOLDER.glob("*.py") if path.name != "__init__.py")
WITHOUT_FORMATS = {
    "formats": "knows all of them",
    "xml": "the reader that they share",
    "mapping": "reads what a mapping describes, and is asked for by its own command",
    "cise_writing": "writes",
}
NAMES = list(formats.FORMATS)


def imports(source: str) -> Iterator[str]:
    """Everything that a module imports, by its full name; names within a package count as parts of it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{each.name}" for each in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in {
            "import_module",
            "__import__",
        }:
            yield f"(computed) {ast.unparse(node)}"


def is_allowed(name: str) -> bool:
    """Whether an adapter may import this: of the project the domain, the errors and the reader of XML."""
    if name.startswith((".", "(computed)")):
        return False
    if re.match(r"(lxml|xml|xmlschema|defusedxml|libxml2?|bs4|html5lib)\b", name):
        return False
    if name.partition(".")[0] != "connector_psi":
        return True
    return re.match(r"connector_psi\.(domain|errors|adapters\.xml)\.", name + ".") is not None


def broken_rules(source: str) -> list[str]:
    return [name for name in imports(source) if not is_allowed(name)]


# Imports


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_an_adapter_imports_the_domain_the_errors_and_the_reader_of_xml_alone(path: Path) -> None:
    found = broken_rules(path.read_text())
    if path.stem == "xml":
        found = [name for name in found if not name.startswith("lxml.")]
    if path.stem == "formats":
        found = [name for name in found if name != "connector_psi.adapters" and not name.startswith("(computed)")]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "from connector_psi.adapters import sis",
        "from connector_psi.adapters.sis import FORMATS",
        "import connector_psi.adapters.sis",
        "from connector_psi import policy",
        "from connector_psi.policy import decide",
        "import connector_psi.storage.records",
        "from . import sis",
        "from .sis import FORMATS",
        "from lxml import etree",
        "import lxml.etree as et",
        "from xml.etree import ElementTree",
        "import xml.sax",
        "def f():\n    from connector_psi.node import service",
        "if TYPE_CHECKING:\n    from lxml import etree",
        "import importlib\nimportlib.import_module('connector_psi.policy')",
        "__import__('lxml.etree')",
        "from connector_psi.adapters import xml, sis",
        "from connector_psi.domainx import y",
    ],
)
def test_what_breaks_the_rule_is_found(line: str) -> None:
    assert broken_rules(line)


def test_what_keeps_the_rule_is_not() -> None:
    source = (
        "import csv\nfrom pydantic import BaseModel\nfrom connector_psi.adapters import xml\n"
        "from connector_psi.adapters.xml import table\nfrom connector_psi.domain import lines\n"
        "from connector_psi.domain.records import Record\nfrom connector_psi import errors\nfrom connector_psi.errors import FormatError\n"
    )
    assert broken_rules(source) == []


def test_one_module_of_the_project_knows_an_xml_library() -> None:
    knowing = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "connector_psi").rglob("*.py")
        for name in imports(path.read_text())
        # What escapes characters parses nothing.
        if re.match(r"(lxml|xml|defusedxml|libxml2?)\b", name) and not name.startswith("xml.sax.saxutils.")
    }
    assert knowing == {"connector_psi/adapters/xml.py"}


# Declarations


def test_every_module_is_an_adapter_or_has_a_reason_not_to_be() -> None:
    without = {
        path.stem
        for path in MODULES
        if not hasattr(importlib.import_module(f"{package.__name__}.{path.stem}"), "FORMATS")
    }
    assert without | {"formats"} == set(WITHOUT_FORMATS)


def declared() -> list[Format]:
    return [
        each
        for path in MODULES
        if path.stem not in WITHOUT_FORMATS
        for each in importlib.import_module(f"{package.__name__}.{path.stem}").FORMATS
    ]


def test_no_format_hides_another_one() -> None:
    assert [name for name, count in Counter(each.name for each in declared()).items() if count > 1] == []
    assert sorted(each.name for each in declared()) == sorted(NAMES)
    # What marks two systems marks none; lines and documents are told apart by what is in them.
    shared = [
        (mark, sorted(systems))
        for kinds in ({Kind.XML}, {Kind.CSV}, {Kind.JSON, Kind.JSONL})
        for mark in {mark for each in declared() if each.kind in kinds for mark in each.marks}
        if len(systems := {each.source.value for each in declared() if each.kind in kinds and mark in each.marks}) > 1
    ]
    assert shared == []


@pytest.mark.parametrize("name", NAMES)
def test_a_format_is_of_a_system_that_is_not_refused(name: str) -> None:
    each = formats.FORMATS[name]
    system = SYSTEMS[each.source.value]
    assert not system.refused
    assert system.category_prefix
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)
    assert each.description
    assert each.marks
    if each.kind is not Kind.XML:
        assert all(re.fullmatch(r"\w+", mark) for mark in each.marks)


def test_every_system_that_is_taken_in_has_a_format_and_categories() -> None:
    for system in SYSTEMS.values():
        assert bool(formats.formats_of(system.code)) is not system.refused, system.code
        of_system = [
            category
            for category in CATEGORIES
            if system.category_prefix and category.startswith(system.category_prefix)
        ]
        assert bool(of_system) is not system.refused, system.code


# Categories


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_every_category_that_a_module_writes_down_exists(path: Path) -> None:
    prefixes = tuple(system.category_prefix for system in SYSTEMS.values() if system.category_prefix)
    tree = ast.parse(path.read_text())
    given = [
        keyword.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == "category"
    ]
    given += [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign | ast.Assign) and "CATEGORY" in ast.unparse(node) and node.value
    ]
    for value in given:
        for text in (
            each.value for each in ast.walk(value) if isinstance(each, ast.Constant) and isinstance(each.value, str)
        ):
            if text.startswith(prefixes):
                assert any(category.startswith(text) for category in CATEGORIES), text


@pytest.mark.parametrize("name", NAMES)
def test_every_record_of_a_sample_has_a_category_of_its_system(name: str) -> None:
    each = formats.FORMATS[name]
    records = [item for item in each.read(io.BytesIO(sample(name)), "f", None) if isinstance(item, Record)]
    assert records
    for record in records:
        assert record.source is each.source
        assert record.category in CATEGORIES
        assert record.category.startswith(SYSTEMS[record.source.value].category_prefix)


# The documented example

PAGE = (ROOT / "docs" / "adapters.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def told(item: object) -> str:
    """An item in the words of the page."""
    if isinstance(item, Issue):
        return f"line {item.line}, {item.path}: {item.code}" + (", record lost" if item.rejects_record else "")
    assert isinstance(item, Record)
    values = (f"{each.type.value} {each.value}" + (f" ({each.role})" if each.role else "") for each in item.identifiers)
    return f"record {item.source_ref}: {', '.join(values)}"


def test_the_example_of_the_page_is_one_file_that_is_found_and_reads_the_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [name] = re.findall(r"^The module, `(\w+)\.py`:$", PAGE, re.MULTILINE)
    assert not (FOLDER / f"{name}.py").exists()
    [module] = blocks("python")
    given, expected = blocks("text")
    (tmp_path / f"{name}.py").write_text(module)
    assert broken_rules(module) == []
    before = dict(formats.FORMATS)
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    try:
        monkeypatch.setattr(formats, "FORMATS", formats._discover())
        assert formats.FORMATS.keys() - before.keys() == {f"{name}-csv"}
        data = given.encode()
        assert formats.detect("x", data) == f"{name}-csv"
        found = list(formats.read(io.BytesIO(data), file="x"))
    finally:
        sys.modules.pop(f"{package.__name__}.{name}", None)
        monkeypatch.delattr(package, name, raising=False)
    assert [told(item) for item in found] == expected.splitlines()
    for item in found:
        if isinstance(item, Record):
            assert item.category in CATEGORIES
    # None of the others is any the worse for it.
    assert {each: formats.detect("x", sample(each)) for each in before} == {each: each for each in before}


def test_the_modules_that_the_page_names_exist() -> None:
    named = re.findall(r"`((?:domain|adapters)/\w+\.py)`", PAGE)
    assert len(named) > 8
    assert [path for path in named if not (ROOT / "connector_psi" / path).is_file()] == []
