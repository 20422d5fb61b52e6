"""Commands for local accounts of the web console: accounts add, list, renew, disable.

They work on the node directory itself, whoever may write it may make accounts; a console that runs sees the change at
the next sign-in.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from connector_psi import errors
from connector_psi.commands.output import AsJson, NodeDir, emit, err, say, table
from connector_psi.domain.clock import SystemClock, SystemRandom
from connector_psi.pki import Role

if TYPE_CHECKING:
    from connector_psi.console.accounts import Accounts

accounts_app = typer.Typer(
    help="Local accounts of the web console: a password and a one-time code.", no_args_is_help=True
)

PersonId = Annotated[
    str,
    typer.Argument(
        metavar="ID", help="As in the person's certificate: two people are told apart by it.", show_default=False
    ),
]
_TOLD = "Read into an app for one-time codes now; it is not told again."


@accounts_app.command("add")
def accounts_add(
    directory: NodeDir,
    person_id: PersonId,
    role: Annotated[
        Role, typer.Option(metavar="ROLE", help="officer, supervisor, dpo, auditor or admin.", show_default=False)
    ],
    as_json: AsJson = False,
) -> None:
    """Make an account. The password is read from the terminal, or the first line of standard input."""
    uri = _accounts(directory).add(person_id, role, _password(), SystemClock().now())
    _tell(person_id, uri, as_json)


@accounts_app.command("renew")
def accounts_renew(directory: NodeDir, person_id: PersonId, as_json: AsJson = False) -> None:
    """Give an account another password and another secret for one-time codes; one that was disabled works again."""
    _tell(person_id, _accounts(directory).renew(person_id, _password()), as_json)


@accounts_app.command("disable")
def accounts_disable(directory: NodeDir, person_id: PersonId, as_json: AsJson = False) -> None:
    """Let nobody sign in with an account; whoever is signed in with it is signed out."""
    _accounts(directory).disable(person_id)
    emit({"disabled": True}, as_json, lambda: say("The account is disabled."))


@accounts_app.command("list")
def accounts_list(directory: NodeDir, as_json: AsJson = False) -> None:
    """List accounts."""
    rows = [
        {"id": each.id, "role": each.role.value, "made": each.made, "disabled": each.disabled}
        for each in _accounts(directory).all()
    ]
    columns = ["id", "role", "made", "disabled"]
    emit(rows, as_json, lambda: table("Accounts", columns, [[row[name] for name in columns] for row in rows]))


def _accounts(directory: Path) -> Accounts:
    from connector_psi.console.accounts import Accounts  # noqa: PLC0415 - only these commands need it
    from connector_psi.keyring import Keyring  # noqa: PLC0415 - as above
    from connector_psi.node.config import load_config  # noqa: PLC0415 - as above

    config, layout = load_config(directory)
    random = SystemRandom()
    key = bytes(Keyring.open(layout.root, random).node_key("console"))
    return Accounts(layout.accounts, key, config.node.authority, random)


def _password() -> str:
    if sys.stdin.isatty():
        password: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        return password
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        raise errors.ConfigError("accounts: the password is read from standard input, and there is none")
    return line


def _tell(person_id: str, uri: str, as_json: bool) -> None:
    if as_json:
        emit({"id": person_id, "otpauth": uri}, as_json, lambda: None)
        return
    import segno  # noqa: PLC0415 - for people alone

    if sys.stdout.isatty():
        segno.make(uri).terminal(out=sys.stdout, compact=True)
    say(uri)
    err.print(_TOLD, markup=False)
