"""The error tree: one root, one status and one exit code per leaf, and nothing raised that is not in it."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import grpc
import pytest

import connector_psi
from connector_psi import cli, errors
from connector_psi.rpc import client
from connector_psi.rpc.interceptors import STATUS

PACKAGE = Path(connector_psi.__path__[0])
TREE = """
ConnectorError
  ConfigError
  InputError
    NormalisationError
    FormatError
  PeerError
    ProtocolError
    InvalidElementError
    ProofError
  RefusedError
    PurposeRefusedError
    ApprovalMissingError
    CapacityExceededError
  AuditError
    LogForkError
    ProofInvalidError
  KeyUnavailableError
  StorageError
    ConflictError
    UnavailableError
"""
# Leaf -> what a peer sees (status, text) and what the command ends with. Written out: this is the contract.
CONTRACT = {
    "ConfigError": ("FAILED_PRECONDITION", "configuration error", 2),
    "NormalisationError": ("INVALID_ARGUMENT", "invalid identifier", 2),
    "FormatError": ("INVALID_ARGUMENT", "malformed data", 2),
    "ProtocolError": ("INVALID_ARGUMENT", "protocol violation", 5),
    "InvalidElementError": ("INVALID_ARGUMENT", "invalid group element", 5),
    "ProofError": ("INVALID_ARGUMENT", "invalid proof", 5),
    "PurposeRefusedError": ("PERMISSION_DENIED", "refused", 4),
    "ApprovalMissingError": ("PERMISSION_DENIED", "refused", 4),
    "CapacityExceededError": ("RESOURCE_EXHAUSTED", "refused", 4),
    "LogForkError": ("UNAVAILABLE", "unavailable", 5),
    "ProofInvalidError": ("UNAVAILABLE", "unavailable", 5),
    "KeyUnavailableError": ("UNAVAILABLE", "unavailable", 6),
    "ConflictError": ("ALREADY_EXISTS", "conflict", 4),
    "UnavailableError": ("UNAVAILABLE", "unavailable", 6),
}
# Exceptions that are no ConnectorError, each with its reason.
OUTSIDE = {
    # A regulator runs this module alone, without the rest of the package; its doubts become findings in the report.
    "audit/verify.py": {"_DoubtError"},
    # Carries code and line to the one place that makes an issue of them, and never leaves the module.
    "domain/jsontext.py": {"_Broken"},
}
# Raised without being in the tree: refusing to pickle a secret, and what only a defect can reach.
EVERYWHERE = {"TypeError", "AssertionError"}
# A validator's way to tell pydantic or json, whose error the same module then translates; or a caller's defect.
MAY_RAISE_VALUE_ERROR = {
    "adapters/cise_writing.py",
    "adapters/surveillance.py",
    "domain/lines.py",
    "disclosure.py",
    "encoding/bloom.py",
    "encoding/deltas.py",
    "encoding/manifest.py",
    "encoding/sealedfile.py",
    "encoding/tickets.py",
    "node/config.py",
    "policy.py",
}
# Iterators by hand, whose protocol it is.
MAY_END_AN_ITERATOR = {"adapters/mapping.py"}
TYPER = {"Exit"}


def _classes(root: type[errors.ConnectorError] = errors.ConnectorError) -> Iterator[type[errors.ConnectorError]]:
    yield root
    for kind in root.__subclasses__():
        yield from _classes(kind)


@cache
def _sources() -> dict[str, list[ast.AST]]:
    paths = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
    return {
        name: list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        for name, path in paths.items()
        # Generated code is not ours to judge; the demonstration checks itself and answers nobody.
        if not name.startswith(("rpc/v1/", "demo/"))
    }


for _module in pkgutil.walk_packages([str(PACKAGE)], "connector_psi."):
    importlib.import_module(_module.name)
ALL = list(_classes())
LEAVES = [kind for kind in ALL if not kind.__subclasses__()]


def test_the_tree_is_the_one_that_is_documented() -> None:
    def drawn(kind: type, depth: int = 0) -> str:
        return "  " * depth + kind.__name__ + "\n" + "".join(drawn(each, depth + 1) for each in kind.__subclasses__())

    assert drawn(errors.ConnectorError) == TREE.lstrip()
    assert all(kind.__module__ == errors.__name__ for kind in ALL)


def test_no_exception_is_defined_outside_the_tree() -> None:
    found: dict[str, set[str]] = {}
    for name, nodes in _sources().items():
        if name == "errors.py":
            continue
        for node in nodes:
            bases = {ast.unparse(base) for base in node.bases} if isinstance(node, ast.ClassDef) else set()
            if any(base.endswith(("Error", "Exception")) for base in bases):
                assert isinstance(node, ast.ClassDef)
                found.setdefault(name, set()).add(node.name)
    assert found == OUTSIDE


def test_nothing_is_raised_that_is_not_in_the_tree() -> None:
    known = {kind.__name__ for kind in ALL}
    strange = []
    for name, nodes in _sources().items():
        allowed = known | EVERYWHERE | OUTSIDE.get(name, set())
        if name in MAY_RAISE_VALUE_ERROR:
            allowed |= {"ValueError"}
        if name == "cli.py" or name.startswith("commands/"):
            allowed |= TYPER
        if name in MAY_END_AN_ITERATOR:
            allowed |= {"StopIteration"}
        for node in nodes:
            if not isinstance(node, ast.Raise) or node.exc is None:
                continue
            raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            word = raised.attr if isinstance(raised, ast.Attribute) else getattr(raised, "id", "")
            # A lower-case word is a variable or a function that made the exception.
            if word[:1].isupper() and word not in allowed:
                strange.append(f"{name}:{node.lineno}: {word}")
    assert strange == []


def test_codes_are_one_to_one() -> None:
    codes = [kind.code for kind in ALL]
    assert len(set(codes)) == len(codes)
    assert client._all_errors() == {kind.code: kind for kind in ALL}


@pytest.mark.parametrize("kind", LEAVES)
def test_a_leaf_has_one_status_one_text_and_one_exit_code(kind: type[errors.ConnectorError]) -> None:
    status, text, code = CONTRACT[kind.__name__]
    assert kind in STATUS
    assert (STATUS[kind].name, kind.public_detail) == (status, text)
    assert next(cli.EXIT_CODES[each] for each in kind.__mro__ if each in cli.EXIT_CODES) == code
    assert kind.retryable is (STATUS[kind] is grpc.StatusCode.UNAVAILABLE and not issubclass(kind, errors.AuditError))


@pytest.mark.parametrize("kind", ALL)
def test_what_a_peer_sees_belongs_to_the_class(kind: type[errors.ConnectorError]) -> None:
    made = kind("alerts.jsonl:3: $.object.vin")
    assert made.public_detail == kind.public_detail
    assert "alerts" not in made.public_detail
    assert not [name for name in ("code", "public_detail", "retryable") if name in vars(made)]
    assert str(made) == "alerts.jsonl:3: $.object.vin"
    assert issubclass(kind, errors.ConnectorError)
    assert kind is errors.ConnectorError or inspect.getdoc(kind) != inspect.getdoc(errors.ConnectorError)


def test_every_error_has_a_status_and_an_exit_code() -> None:
    assert set(STATUS) == set(ALL)
    assert errors.ConnectorError in cli.EXIT_CODES
    assert set(cli.EXIT_CODES.values()) == {1, 2, 4, 5, 6}
