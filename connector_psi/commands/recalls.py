"""Commands of recalls: what was disclosed is wrong or withdrawn, and its recipients erase or replace it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from connector_psi.commands.output import AsCert, AsJson, MaybeCert, NodeDir, Reason, emit, table
from connector_psi.pki import Role
from connector_psi.rpc.local import open_local

recalls_app = typer.Typer(
    help="Recalls: what was disclosed is wrong or withdrawn, and every recipient erases or replaces it.",
    no_args_is_help=True,
)

RecallId = Annotated[str, typer.Argument(metavar="ID", help="Of a recall.", show_default=False)]


@recalls_app.command("list")
def recalls_list(
    directory: NodeDir,
    state: Annotated[
        str,
        typer.Option(metavar="STATE", help="Of recalls from here sending, sent; of those to here open; acknowledged."),
    ] = "",
    as_cert: MaybeCert = None,
    as_json: AsJson = False,
) -> None:
    """List the recalls that this node sent and those that peers sent here, with the two working days for each."""
    with open_local(directory, as_cert or Role.SYSTEM) as client:
        values = list(client.recalls(state))
    emit(
        values,
        as_json,
        lambda: table(
            "Recalls",
            ["recall", "side", "agreement", "case", "kind", "state", "sent", "acknowledge by", ""],
            [
                (
                    v["recall_id"],
                    v["side"],
                    v["agreement"],
                    v["case_id"],
                    v["kind"],
                    v["state"],
                    v["sent"],
                    v["due"],
                    "OVERDUE" if v["overdue"] else "",
                )
                for v in values
            ],
        ),
    )


@recalls_app.command("show")
def recalls_show(directory: NodeDir, recall_id: RecallId, as_cert: MaybeCert = None, as_json: AsJson = False) -> None:
    """Show a recall, and to whoever has to acknowledge it what replaces what was disclosed."""
    with open_local(directory, as_cert or Role.SYSTEM) as client:
        value = client.recall(recall_id)
    emit(value, as_json, lambda: _text(value))


@recalls_app.command("send")
def recalls_send(
    directory: NodeDir,
    case_id: Annotated[
        str, typer.Argument(metavar="CASE", help="Of a case that a peer opened here.", show_default=False)
    ],
    reason: Reason,
    as_cert: AsCert,
    withdraw: Annotated[
        bool, typer.Option("--withdraw", help="Take the disclosure back, whatever the record says now.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Recall what a case disclosed, because it was found wrong.

    Correct the record at its source first: the recipient is sent what it says now, as far as the case may have it, or
    is told to erase what it has. Records that change or are withdrawn are recalled without this command.
    """
    with open_local(directory, as_cert) as client:
        value = client.send_recall(case_id, reason, withdraw=withdraw)
    emit(value, as_json, lambda: _text(value))


@recalls_app.command("acknowledge")
def recalls_acknowledge(
    directory: NodeDir,
    recall_id: RecallId,
    as_cert: AsCert,
    note: Annotated[
        str, typer.Option("--note", metavar="N", help="What else was done, such as who was told; sealed in the log.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Acknowledge a recall: what was disclosed is erased, or replaced, with it; the owner is told."""
    with open_local(directory, as_cert) as client:
        value = client.acknowledge_recall(recall_id, note)
    emit(value, as_json, lambda: _text(value))


def _text(value: Mapping[str, Any]) -> None:
    facts = [(k, ", ".join(v) if isinstance(v, list) else v) for k, v in value.items() if v and k != "fields"]
    table("Recall", ["", ""], facts)
    if value["fields"]:
        table(
            "Replaces what was disclosed", ["field", "value"], [(k, ", ".join(v)) for k, v in value["fields"].items()]
        )
