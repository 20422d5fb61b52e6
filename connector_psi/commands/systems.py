"""The registry of systems: systems list, show."""

from __future__ import annotations

from typing import Annotated

import typer

from connector_psi import errors
from connector_psi.commands.output import AsJson, emit, say, table
from connector_psi.domain.intake import Format
from connector_psi.domain.purposes import CATEGORIES
from connector_psi.domain.systems import SYSTEMS, System

systems_app = typer.Typer(
    help="The systems of customs and home affairs: what the node takes from each, and which it refuses.",
    no_args_is_help=True,
)


def _formats_of(code: str) -> tuple[Format, ...]:
    from connector_psi.adapters import formats  # noqa: PLC0415 - the adapters are for whoever reads a file

    return formats.formats_of(code)


def _as_json(system: System) -> dict[str, object]:
    return {
        "code": system.code,
        "name": system.name,
        "owner": system.owner,
        "role": system.role,
        "status": system.status.value,
        "reason": system.reason,
        "formats": [each.name for each in _formats_of(system.code)],
    }


@systems_app.command("list")
def systems_list(as_json: AsJson = False) -> None:
    """List every system of the mission, those that are refused with the reason."""
    values = [_as_json(system) for system in SYSTEMS.values()]

    def text() -> None:
        table(
            "Systems",
            ["code", "name", "part in matching", "status", "formats"],
            [
                (s.code, s.name, s.role, s.status.value, ", ".join(each.name for each in _formats_of(s.code)))
                for s in SYSTEMS.values()
            ],
        )
        table("Refused or limited", ["code", "why"], [(s.code, s.reason) for s in SYSTEMS.values() if s.reason])

    emit(values, as_json, text)


@systems_app.command("show")
def systems_show(
    code: Annotated[str, typer.Argument(metavar="CODE", help="Code of a system, such as ICS2.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Show one system: who runs it, its formats, the categories of its records."""
    system = SYSTEMS.get(code.upper())
    if system is None:
        raise errors.ConfigError(f"no such system; known are {', '.join(SYSTEMS)}")
    categories = {
        name: words
        for name, words in CATEGORIES.items()
        if system.category_prefix and name.startswith(system.category_prefix)
    }
    value = {**_as_json(system), "categories": categories}

    def text() -> None:
        rows = [
            ("name", system.name),
            ("run by", system.owner),
            ("part in matching", system.role),
            ("status", system.status.value),
        ]
        table(system.code, ["", ""], [*rows, *([("why", system.reason)] if system.reason else [])])
        if system.refused:
            say(f"Nothing is taken in from {system.code}: {system.reason}.")
            return
        table(
            "Formats",
            ["--format", "what it is"],
            [(each.name, each.description) for each in _formats_of(system.code)],
        )
        table("Categories of records", ["category", "what they are about"], list(categories.items()))

    emit(value, as_json, text)
