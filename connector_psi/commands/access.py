"""Commands of access by case: ask for it, decide about it, read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from connector_psi.commands.output import AsCert, AsJson, MaybeCert, NodeDir, Reason, emit, table
from connector_psi.errors import InputError
from connector_psi.pki import Role
from connector_psi.rpc.local import open_local

access_app = typer.Typer(
    help="Access by case: people at the owner grant it before anything is asked.", no_args_is_help=True
)

RequestId = Annotated[str, typer.Argument(metavar="ID", help="Of a request for access.", show_default=False)]


def _access_text(v: Mapping[str, Any]) -> None:
    rows = [(k, ", ".join(x) if isinstance(x, list) else x) for k, x in v.items() if x]
    table("Access", ["", ""], rows)


def _named(records: Sequence[str]) -> list[tuple[str, str]]:
    pairs = []
    for number, text in enumerate(records, 1):
        source, slash, ref = text.partition("/")
        if not (source and slash and ref):
            raise InputError(f"record {number}: not SOURCE/REF")
        pairs.append((source, ref))
    return pairs


@access_app.command("request")
def access_request(
    directory: NodeDir,
    agreement: Annotated[
        str, typer.Option("--agreement", metavar="CODE", help="An agreement of mode `case`.", show_default=False)
    ],
    records: Annotated[
        list[str],
        typer.Option(
            "--record",
            metavar="SOURCE/REF",
            help="An own record, ingested before, such as SIENA/SIENA-2026-0001/1; may be given again.",
            show_default=False,
        ),
    ],
    offence: Annotated[
        str, typer.Option("--offence", metavar="O", help="The offence that is investigated.", show_default=False)
    ],
    necessity: Annotated[
        str, typer.Option("--necessity", metavar="N", help="Why the case needs it.", show_default=False)
    ],
    reference: Annotated[
        str, typer.Option("--reference", metavar="R", help="Reference of your own case.", show_default=False)
    ],
    as_cert: AsCert,
    hours: Annotated[
        int,
        typer.Option(
            "--hours", metavar="H", min=0, max=10_000, help="For how long; 0 for as long as the agreement allows."
        ),
    ] = 0,
    ordered_by: Annotated[
        str,
        typer.Option(
            "--ordered-by", metavar="URN", help="Who ordered it, as in their certificate; by default who asks."
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Ask the owner for access with the identifiers of own records; they are asked once it was granted."""
    named = _named(records)
    with open_local(directory, as_cert) as client:
        value = client.request_access(
            agreement,
            named,
            case_reference=reference,
            offence=offence,
            necessity=necessity,
            hours=hours,
            ordered_by=ordered_by,
        )
    emit(value, as_json, lambda: _access_text(value))


@access_app.command("list")
def access_list(
    directory: NodeDir,
    state: Annotated[
        str, typer.Option(metavar="STATE", help="For example pending, awaiting_decision, granted, queried.")
    ] = "",
    as_cert: MaybeCert = None,
    as_json: AsJson = False,
) -> None:
    """List the requests for access that this node made and those that peers made here."""
    with open_local(directory, as_cert or Role.SYSTEM) as client:
        values = list(client.accesses(state))
    emit(
        values,
        as_json,
        lambda: table(
            "Access",
            ["request", "side", "agreement", "state", "reference", "identifiers", "opened", "due"],
            [
                (
                    v["request_id"],
                    v["side"],
                    v["agreement"],
                    v["state"],
                    v["case_reference"],
                    v["identifiers"],
                    v["opened"],
                    v["due"],
                )
                for v in values
            ],
        ),
    )


@access_app.command("show")
def access_show(directory: NodeDir, request_id: RequestId, as_cert: MaybeCert = None, as_json: AsJson = False) -> None:
    """Show a request for access, and what was granted."""
    with open_local(directory, as_cert or Role.SYSTEM) as client:
        value = client.access(request_id)
    emit(value, as_json, lambda: _access_text(value))


def _decide(
    directory: Path,
    request_id: str,
    reason: str,
    as_cert: Path,
    as_json: bool,
    *,
    approve: bool,
    identifiers: int = 0,
    hours: int = 0,
) -> None:
    with open_local(directory, as_cert) as client:
        value = client.decide_access(request_id, approve=approve, reason=reason, identifiers=identifiers, hours=hours)
    emit(value, as_json, lambda: _access_text(value))


@access_app.command("approve")
def access_approve(
    directory: NodeDir,
    request_id: RequestId,
    reason: Reason,
    as_cert: AsCert,
    identifiers: Annotated[
        int,
        typer.Option("--identifiers", metavar="N", min=0, max=4096, help="At most so many; 0 for as many as asked."),
    ] = 0,
    hours: Annotated[
        int,
        typer.Option(
            "--hours", metavar="H", min=0, max=10_000, help="At most so long from now; 0 for as long as asked."
        ),
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Grant access that a peer asked for; it is granted once as many people did as the agreement wants."""
    _decide(directory, request_id, reason, as_cert, as_json, approve=True, identifiers=identifiers, hours=hours)


@access_app.command("refuse")
def access_refuse(
    directory: NodeDir, request_id: RequestId, reason: Reason, as_cert: AsCert, as_json: AsJson = False
) -> None:
    """Refuse access that a peer asked for; the peer learns that nothing was granted, later, and never why."""
    _decide(directory, request_id, reason, as_cert, as_json, approve=False)
