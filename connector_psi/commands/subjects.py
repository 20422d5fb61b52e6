"""The command for answers to data subjects: dsr."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from connector_psi import errors
from connector_psi.commands import page
from connector_psi.commands.output import AsJson, MaybeCert, NodeDir, emit, say, table
from connector_psi.pki import Role
from connector_psi.rpc.local import open_local

MAX_LINE = 1_000
NOTHING = "No data about this identifier are held that can be communicated."
INCOMPLETE = (
    "Not complete: more records name this identifier than one annex holds. Ask the system of record for the others."
)

app = typer.Typer()


@app.command("dsr")
def dsr(
    directory: NodeDir,
    kind: Annotated[
        str,
        typer.Option(
            "--type",
            metavar="TYPE",
            help="Of the identifier, such as container, plate, identity_document; all by default.",
        ),
    ] = "",
    reference: Annotated[
        str, typer.Option("--reference", metavar="R", help="Of the request, in your own files; sealed in the log.")
    ] = "",
    received: Annotated[
        datetime | None,
        typer.Option("--received", formats=["%Y-%m-%d"], help="The day the request came; by default, today."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="OUT", help="Also write the annex as a page.", show_default=False)
    ] = None,
    as_cert: MaybeCert = None,
    as_json: AsJson = False,
) -> None:
    """Find what was processed and disclosed about an identifier, as the annex of an answer to a data subject.

    The identifier is read from standard input, one line, and never from an argument. For data protection officers;
    every search is logged. What the policy restricts is left out without a trace.
    """
    line = sys.stdin.readline(MAX_LINE + 1).strip()
    if not line or len(line) > MAX_LINE:
        raise errors.InputError("standard input: one identifier on one line is expected")
    with open_local(directory, as_cert or Role.DPO) as client:
        value = client.search_subject(
            kind, line, reference=reference, received=f"{received:%Y-%m-%d}" if received else ""
        )
    if html is not None:
        page.write(html, _page(value))
    emit(value, as_json, lambda: _show(value))


def _tables(value: Mapping[str, Any]) -> Iterator[tuple[str, list[str], list[list[object]]]]:
    held = value["processing"]
    yield (
        "Data that are held",
        ["source", "reference", "what", "state", "since", "until", "identifiers", "fields"],
        [
            [
                each["source"],
                each["reference"],
                each["category_means"],
                each["state"],
                each["since"],
                each["until"],
                ", ".join(each["identifier_types"]),
                ", ".join(each["fields"]),
            ]
            for each in held
        ],
    )
    for title, key, columns in (
        ("What they are compared for", "compared", ["agreement", "with", "who_learns", "purpose", "legal_basis"]),
        ("Matches", "matches", ["agreement", "found", "state", "identifier_types"]),
        ("Access asked with them", "access", ["agreement", "with", "asked", "state"]),
        (
            "Received from others",
            "received",
            ["agreement", "from", "asked", "state", "fields", "erase_after", "erased"],
        ),
        ("Disclosed to others", "disclosed", ["agreement", "to", "on", "purpose", "fields", "erase_after", "recalls"]),
        ("Asked by others and not disclosed", "not_disclosed", ["agreement", "by", "asked", "purpose", "state"]),
    ):
        rows: list[list[object]] = [
            [each["reference"], *(_cell(item[column]) for column in columns)] for each in held for item in each[key]
        ]
        if rows:
            yield title, ["reference", *(column.replace("_", " ") for column in columns)], rows


def _cell(value: object) -> object:
    if not isinstance(value, list):
        return value
    return ", ".join(
        " ".join(map(str, filter(None, item.values()))) if isinstance(item, dict) else str(item) for item in value
    )


def _lines(value: Mapping[str, Any]) -> Iterator[str]:
    yield f"Authority: {value['authority']}. Reference: {value['reference'] or 'none'}."
    due = f"by {value['answer_due']}" if value["answer_due"] else "without undue delay"
    yield f"Request of {value['received']}, to be answered {due} ({value['answer_due_source']})."
    if not value["processing"]:
        yield NOTHING
    if not value["complete"]:
        yield INCOMPLETE


def _rights(value: Mapping[str, Any]) -> list[str]:
    return [*value["rights"], f"a complaint to {value['complaint']}"]


def _show(value: Mapping[str, Any]) -> None:
    for line in _lines(value):
        say(line)
    if value["processing"]:
        for title, columns, rows in _tables(value):
            table(title, columns, rows)
    say(f"Rights under {value['law']}: ", "; ".join(_rights(value)), ".")
    for note in value["before_sending"]:
        say("Before sending: ", note)


def _page(value: Mapping[str, Any]) -> str:
    parts = [page.paragraph(line) for line in _lines(value)]
    if value["processing"]:
        parts += [page.table(title, columns, rows) for title, columns, rows in _tables(value)]
    parts += [page.heading(f"Rights under {value['law']}"), page.points(_rights(value))]
    return page.document("Annex: data that are processed", parts)
