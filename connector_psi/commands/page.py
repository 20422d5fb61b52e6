"""Results as pages that stand alone: no script, nothing from elsewhere; everything that is shown is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from connector_psi.errors import ConfigError
from connector_psi.reports.shown import Chart, Part, Table, Text

_STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:70rem;margin:2em auto;padding:0 1em;color:#1a1a1a;background:#fff}"
    "table{border-collapse:collapse;margin:1em 0;width:100%}caption{text-align:left;font-weight:600}"
    "td,th{border:1px solid #595959;padding:.3em .6em;text-align:left;vertical-align:top;overflow-wrap:anywhere}"
    "thead th{background:#eee}@media print{body{max-width:none;margin:0;font-size:10pt}}"
)


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table with a caption; nothing in its cells is markup."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>\n"


def heading(text: str, level: int = 2) -> str:
    """Return a heading."""
    return f"<h{level}>{escape(text)}</h{level}>\n"


def paragraph(text: str) -> str:
    """Return a paragraph."""
    return f"<p>{escape(text)}</p>\n"


def points(items: Iterable[str]) -> str:
    """Return a list."""
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>\n"


def part(shown: Part) -> str:
    """Return a part of a report."""
    if isinstance(shown, Table):
        return table(shown.caption, shown.columns, shown.rows)
    if isinstance(shown, Chart):
        return shown.svg
    return paragraph(shown.text) if isinstance(shown, Text) else heading(shown.heading) + points(shown.items)


def document(title: str, parts: Iterable[str]) -> str:
    """Return the page around its parts."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style></head><body>\n"
        f"<h1>{escape(title)}</h1>\n{''.join(parts)}</body></html>\n"
    )


def write(path: Path, text: str) -> None:
    """Write a page, or another text, as it is.

    Raises:
        ConfigError: The file cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
