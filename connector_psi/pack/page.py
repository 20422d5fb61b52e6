"""The matrix as one HTML page that stands alone: no script, no font, no image, nothing from anywhere else.

Text is escaped where it becomes markup (``_tag``), and nowhere else. Read by people with a screen reader, on paper, and
in a browser without network: every table has a caption and headers with a scope, colour says nothing by itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from connector_psi.pack.matrix import Sheet, sheets
from connector_psi.policy import PolicyPack, pack_hash

_TITLE = "Who can learn what"
_ALLOWED = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light }
body { font: 1rem/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff }
body { max-width: 75rem; margin: 0 auto; padding: 1rem }
h1, h2, h3 { line-height: 1.2 }
h2 { border-bottom: 2px solid #1a1a1a; padding-bottom: .2rem; margin-top: 2.5rem }
table { border-collapse: collapse; width: 100%; margin: 1rem 0 }
caption { text-align: left; font-weight: 600; padding: .3rem 0 }
th, td { border: 1px solid #595959; padding: .35rem .6rem; text-align: left; vertical-align: top }
th, td { overflow-wrap: anywhere }
thead th { background: #eee }
tbody th { font-weight: 600; width: 16rem }
.scroll { overflow-x: auto }
.status { border: 1px solid #1a1a1a; border-radius: .2rem; padding: 0 .4rem; white-space: nowrap }
.status { font-size: .85rem; font-weight: 600 }
code { font-size: .9em; overflow-wrap: anywhere }
a { color: #0b3d91 }
a:focus-visible, .scroll:focus-visible { outline: 3px solid #0b3d91 }
.skip { position: absolute; left: -999rem }
.skip:focus { left: 1rem; background: #fff; padding: .5rem }
@media print {
  body { max-width: none; padding: 0; font-size: 9.5pt }
  section { break-before: page }
  tr { break-inside: avoid }
  thead { display: table-header-group }
  .skip { display: none }
  .scroll { overflow: visible }
  a { color: inherit; text-decoration: none }
}
""".strip()


class _Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def _tag(name: str, *content: str, **attributes: str) -> _Markup:
    """Return an element; content that is no markup, and every attribute, is escaped."""
    given = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items())
    inner = "".join(part if isinstance(part, _Markup) else escape(part) for part in content)
    return _Markup(f"<{name}{given}>{inner}</{name}>")


def _join(parts: Iterable[_Markup]) -> _Markup:
    return _Markup("\n".join(parts))


def encode_page(packs: Iterable[PolicyPack]) -> str:
    """Return the page about these packs; equal packs give equal bytes.

    Source: Web Content Accessibility Guidelines 2.2, for structure and contrast.
    """
    packs = list(packs)
    found = sheets(packs)
    own = [sheet for sheet in found if sheet.own_node]
    between = [sheet for sheet in found if not sheet.own_node]
    ids = {id(sheet): f"a{number}" for number, sheet in enumerate(found, 1)}
    body = _join(
        [
            _tag("a", "Skip to the agreements", href="#agreements", class_="skip"),
            _tag(
                "header",
                _tag("h1", _TITLE),
                _tag(
                    "p",
                    "What these policies allow, and no more: whatever is not named here is not asked, not answered and "
                    "not disclosed. Whether an exchange is lawful is for the controllers to decide; to name a legal "
                    "basis here does not make it one.",
                ),
                _files(packs),
            ),
            _tag(
                "main",
                _tag("h2", "Overview", id="agreements"),
                _overview(found, ids),
                *(_section(sheet, ids[id(sheet)]) for sheet in between),
                *([_tag("h2", "On the own node")] if own else []),
                *(_section(sheet, ids[id(sheet)], own=True) for sheet in own),
            ),
        ]
    )
    head = _join(
        [
            _Markup('<meta charset="utf-8">'),
            _Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
            # Whatever a text of a policy held: the browser loads nothing and runs nothing.
            _Markup(f'<meta http-equiv="Content-Security-Policy" content="{_ALLOWED}">'),
            _tag("title", _TITLE),
            _Markup(f"<style>\n{_STYLE}\n</style>"),
        ]
    )
    return f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{body}\n</body>\n</html>\n'


def _files(packs: list[PolicyPack]) -> _Markup:
    return _table(
        "Policies on this page",
        ("file", "SHA-256 of its meaning"),
        ((pack.source, _tag("code", pack_hash(pack).hex())) for pack in packs),
    )


def _overview(found: list[Sheet], ids: dict[int, str]) -> _Markup:
    return _table(
        "Who learns from whom, and whether it may run",
        ("agreement", "status", "who learns (first)", "from", "for"),
        (
            (
                _tag("a", sheet.code, href=f"#{ids[id(sheet)]}"),
                _tag("span", sheet.status.value, class_="status"),
                sheet.learner,
                sheet.source,
                sheet.purpose,
            )
            for sheet in found
        ),
    )


def _section(sheet: Sheet, anchor: str, *, own: bool = False) -> _Markup:
    heading = _tag(
        "h3" if own else "h2", f"{sheet.code}: {sheet.purpose} ", _tag("span", sheet.status.value, class_="status")
    )
    parts = [
        heading,
        _table(
            f"{sheet.code}: who, why and how long",
            ("what", "in this agreement"),
            (*sheet.facts, ("In", ", ".join(sheet.files))),
        ),
    ]
    if sheet.fields:
        parts.append(
            _table(
                f"{sheet.code}: what {sheet.learner} may learn about each of these records, after the approvals",
                ("condition", "fields"),
                sheet.fields,
            )
        )
    elif not own:
        parts.append(_tag("p", "No field may be disclosed."))
    return _tag("section", *parts, id=anchor)


def _table(caption: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> _Markup:
    body = []
    for row in rows:
        first, *rest = row
        body.append(_tag("tr", _tag("th", first, scope="row"), *(_tag("td", cell) for cell in rest)))
    table = _tag(
        "table",
        _tag("caption", caption),
        _tag("thead", _tag("tr", *(_tag("th", column, scope="col") for column in columns))),
        _tag("tbody", _join(body)),
    )
    # Whoever moves by keyboard reaches what a narrow window cuts off.
    return _tag("div", table, class_="scroll", role="region", tabindex="0", aria_label=caption)
