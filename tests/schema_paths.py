"""The element paths that an XSD declares, for tests that hold a table against a schema. Knows as much of XSD as these have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from lxml import etree

XS = "{http://www.w3.org/2001/XMLSchema}"
_Element: TypeAlias = etree._Element
_Name = tuple[str, str]


class _Declarations:
    """Complex types and groups of a schema and all that it includes, by namespace and name."""

    def __init__(self, path: Path) -> None:
        self.types: dict[_Name, _Element] = {}
        self.groups: dict[_Name, _Element] = {}
        self._seen: set[Path] = set()
        self._load(path.resolve())

    def _load(self, path: Path) -> None:
        if path in self._seen:
            return
        self._seen.add(path)
        root = etree.parse(path).getroot()
        namespace = root.get("targetNamespace") or ""
        for child in root:
            name = child.get("name") or ""
            if child.tag == f"{XS}complexType":
                self.types[namespace, name] = child
            elif child.tag == f"{XS}group":
                self.groups[namespace, name] = child
            elif child.tag in {f"{XS}import", f"{XS}include"} and (location := child.get("schemaLocation")):
                self._load((path.parent / location).resolve())


def _resolve(where: _Element, name: str) -> _Name:
    prefix, _, local = name.rpartition(":")
    own = where.getroottree().getroot().get("targetNamespace") or ""
    return (where.nsmap.get(prefix or None) or ("" if prefix else own), local)


def leaf_paths(path: Path, root: str) -> set[str]:
    """Return the paths below the root element of all elements that hold text."""
    declared = _Declarations(path)

    def walk(where: _Element, above: str) -> Iterator[str]:
        for child in where:
            if child.tag == f"{XS}element":
                inner = f"{above}{child.get('name')}"
                type_ = declared.types.get(_resolve(child, child.get("type") or ""))
                if type_ is None:
                    yield inner
                else:
                    yield from walk(type_, f"{inner}/")
            elif child.tag == f"{XS}group":
                yield from walk(declared.groups[_resolve(child, child.get("ref") or "")], above)
            elif child.tag in {f"{XS}sequence", f"{XS}choice", f"{XS}all"}:
                yield from walk(child, above)

    [element] = [each for each in etree.parse(path).getroot().iter(f"{XS}element") if each.get("name") == root]
    return set(walk(declared.types[_resolve(element, element.get("type") or "")], ""))
