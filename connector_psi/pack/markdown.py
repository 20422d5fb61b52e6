"""The sheet of an agreement as a Markdown table, and a document whose tables are brought up to date.

A document marks where the table of an agreement stands by ``<!-- agreement CODE -->`` and ``<!-- end -->`` on lines of
their own. So an assessment that a controller writes by hand says what the policy says, and a change of policy shows in
it. Text outside the marks is never touched.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from connector_psi.errors import ConfigError
from connector_psi.pack.matrix import Sheet, sheets
from connector_psi.policy import PolicyPack

_BLOCK: Final = re.compile(r"^<!-- agreement (?P<code>[A-Z0-9-]+) -->\n.*?^<!-- end -->$", re.MULTILINE | re.DOTALL)
_OPENED: Final = re.compile(r"^<!-- agreement ", re.MULTILINE)


def encode_table(same: Sequence[Sheet]) -> str:
    """Return the table of one agreement, or of one purpose of the own node, with a line break at its end.

    Args:
        same: The sheet; of a purpose of the own node, that of each authority, whose retention may differ.
    """
    rows: dict[str, dict[str, None]] = {}
    for sheet in same:
        for label, text in sheet.facts:
            rows.setdefault(label, {})[text] = None
    learnt = {f"{names}: {condition}": None for condition, names in same[0].fields}
    lines = [f"| {same[0].code} | |", "|---|---|"]
    lines += [f"| {_cell(label)} | {_cell('; or, elsewhere: '.join(texts))} |" for label, texts in rows.items()]
    lines += [f"| May learn | {_cell(text)} |" for text in learnt]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|")


def update_document(text: str, packs: Iterable[PolicyPack], source: str = "document") -> str:
    """Return a document with the tables between its marks as the packs have them.

    Args:
        text: Markdown.
        packs: The policies.
        source: The name of the document, for messages.

    Raises:
        ConfigError: A mark names no agreement of the packs, or one of which they have two meanings, or does not end.
    """
    found: dict[str, list[Sheet]] = {}
    for sheet in sheets(packs):
        found.setdefault(sheet.code, []).append(sheet)

    def table(block: re.Match[str]) -> str:
        code = block["code"]
        if code not in found:
            raise ConfigError(f"{source}: {code}: no agreement of this code in the policies")
        if len(found[code]) > 1 and not found[code][0].own_node:
            raise ConfigError(f"{source}: {code}: the policies do not mean the same by this code")
        return f"<!-- agreement {code} -->\n{encode_table(found[code])}<!-- end -->"

    if len(_OPENED.findall(text)) != len(_BLOCK.findall(text)):
        raise ConfigError(f"{source}: a mark of an agreement that does not end with <!-- end -->")
    return _BLOCK.sub(table, text)
