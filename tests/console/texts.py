"""Every text of the console that the catalogues translate, found in its sources: ``python -m tests.console.texts fr`` lists what is missing."""

from __future__ import annotations

import ast
import string
import sys
from collections.abc import Iterator
from pathlib import Path

from jinja2 import Environment, nodes

from connector_psi.console import app, wire, words
from connector_psi.node import dossiers, oversight, reporting

ROOT = Path(__file__).resolve().parents[2] / "connector_psi"
CONSOLE = ROOT / "console"
CALLED = {"t": 0, "text": 0, "done": 0, "render": 1, "Task": 0, "plain": 2, "_page": 1}
"""Functions whose argument at that place is a text."""
SERVICES = (
    "access", "asked", "dossiers", "grading", "granting", "outbox", "oversight", "recalled", "recalling", "received", "recallviews",
    "accessviews", "caseviews", "retention", "review", "searching", "subjects", "reporting", "bundles", "timekeeping",
)  # fmt: skip
"""Modules of the node whose errors people see here."""


def templates() -> Iterator[str]:
    environment = Environment(trim_blocks=True, lstrip_blocks=True)
    for path in sorted((CONSOLE / "templates").glob("*.html")):
        tree = environment.parse(path.read_text())
        for call in tree.find_all(nodes.Call):
            if isinstance(call.node, nodes.Name) and call.node.name == "t" and call.args:
                yield from _constants(call.args[0])
        for loop in tree.find_all(nodes.For):
            # Loops over pairs of a name and a label.
            if isinstance(loop.iter, nodes.Tuple):
                for item in loop.iter.items:
                    if (
                        isinstance(item, nodes.Tuple)
                        and all(isinstance(each, nodes.Const) for each in item.items)
                        and len(item.items) == 2
                    ):
                        label = item.items[1].value
                        if isinstance(label, str) and label[:1].isupper():
                            yield label
        for each in tree.find_all(nodes.Assign):
            if isinstance(each.node, nodes.Dict):
                yield from (
                    pair.value.value
                    for pair in each.node.items
                    if isinstance(pair.value, nodes.Const)
                    and " words" in f" {getattr(each.target, 'name', '').replace('_', ' ')}"
                )


def _constants(node: nodes.Node) -> Iterator[str]:
    if isinstance(node, nodes.Const) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, nodes.CondExpr):
        yield from _constants(node.expr1)
        if node.expr2 is not None:
            yield from _constants(node.expr2)


def sources() -> Iterator[str]:
    for path in sorted(CONSOLE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                place = CALLED.get(name)
                if place is not None and len(node.args) > place:
                    yield from _strings(node.args[place])
            if isinstance(node, ast.Assign) and any(getattr(t, "id", "") == "said" for t in node.targets):
                yield from _strings(node.value)
            if isinstance(node, ast.Tuple) and path.name == "overview.py":
                yield from (
                    e.value
                    for e in node.elts
                    if isinstance(e, ast.Constant) and isinstance(e.value, str) and e.value[:1].isupper()
                )


def _strings(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        if node.value and not node.value.endswith(".html"):
            yield node.value
    elif isinstance(node, ast.IfExp):
        yield from _strings(node.body)
        yield from _strings(node.orelse)


def errors() -> Iterator[str]:
    """Constant texts of errors: those with a place in them stay English."""
    paths = [*CONSOLE.rglob("*.py"), *(ROOT / "node" / f"{name}.py" for name in SERVICES)]
    for path in sorted(paths):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Raise)
                and isinstance(node.exc, ast.Call)
                and node.exc.args
                and getattr(node.exc.func, "id", "").endswith("Error")
            ):
                yield from _strings(node.exc.args[0])


def collect() -> set[str]:
    found = {*templates(), *sources(), *errors()}
    found |= {text for kind in words.vocabulary().values() for text in kind.values()}
    found |= {*app.Console.titles.values(), *wire.SAID.values(), *(heading for heading, _ in app.MENU if heading)}
    found |= {*dossiers.STEP_NAMES, *oversight.STEP_NAMES}
    found |= {text for kind in reporting.REPORTS.values() for text in (kind.title, kind.about)}
    return {text for text in found if text}


def places(text: str) -> list[str]:
    """The places of a text that values stand in."""
    return sorted(name for _, name, _, _ in string.Formatter().parse(text) if name)


def main() -> None:
    from connector_psi.console.language import catalogue

    known = catalogue(sys.argv[1])
    missing = sorted(collect() - known.keys())
    for text in missing:
        sys.stdout.write(
            f'msgid "{text.replace(chr(92), chr(92) * 2).replace(chr(34), chr(92) + chr(34))}"\nmsgstr ""\n\n'
        )
    sys.stderr.write(f"{len(missing)} of {len(collect())} are missing; {len(known.keys() - collect())} are not used\n")


if __name__ == "__main__":
    main()
