"""Commands of whoever looks after a node: what could not be sent to peers, and a clock that jumped."""

from __future__ import annotations

from typing import Annotated

import typer

from connector_psi.commands.output import AsJson, MaybeCert, NodeDir, emit, say, table
from connector_psi.pki import Role
from connector_psi.rpc.local import open_local

outbox_app = typer.Typer(
    help="What this node owes its peers: cases, requests for access, recalls and acknowledgements.",
    no_args_is_help=True,
)
clock_app = typer.Typer(help="The time of the node, which never goes back.", no_args_is_help=True)


@outbox_app.command("list")
def outbox_list(directory: NodeDir, as_cert: MaybeCert = None, as_json: AsJson = False) -> None:
    """List what waits to be sent, and what is parked because it was refused or failed five times.

    A peer that cannot be reached parks nothing: what waits for it is sent once it is back. Acts as the directory's
    administrator; supervisors may too, with --as.
    """
    with open_local(directory, as_cert or Role.ADMIN) as client:
        values = client.outbox()
    emit(
        values,
        as_json,
        lambda: table(
            "Outbox",
            ["request", "what", "agreement", "failed", ""],
            [
                (
                    v["id"],
                    f"{v['kind']} to {v['peer']}",
                    v["agreement"],
                    f"{v['last_error']}, {v['attempts']} times" if v["attempts"] else v["last_error"],
                    "PARKED" if v["parked"] else v["since"],
                )
                for v in values
            ],
        ),
    )


@outbox_app.command("retry")
def outbox_retry(
    directory: NodeDir,
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="As `outbox list` shows them.", show_default=False)],
    as_cert: MaybeCert = None,
    as_json: AsJson = False,
) -> None:
    """Send something again that is parked or waits, once its cause is gone; the log says who did.

    A case that must not be noticed at its owner leaves at its next slot, with what else is parked of its agreement.
    """
    with open_local(directory, as_cert or Role.ADMIN) as client:
        retried = client.retry_outbox(ids)
    emit({"retried": retried}, as_json, lambda: say(retried, " to be sent again"))


@clock_app.command("confirm")
def clock_confirm(directory: NodeDir, as_cert: MaybeCert = None, as_json: AsJson = False) -> None:
    """Say that the clock of the machine is right, after `status` says that it jumped; the log says who did.

    Until then, or until a witness agrees, nothing is erased for good. Look at another clock first: by one that is years
    ahead the bodies of the log would go.
    """
    with open_local(directory, as_cert or Role.ADMIN) as client:
        client.confirm_clock()
    emit({"confirmed": True}, as_json, lambda: say("The clock is taken for right."))
