"""Commands of review and disclosure: matches, cases."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from connector_psi.commands.output import AsCert, AsJson, MaybeCert, NodeDir, Reason, emit, say, table
from connector_psi.commands.waiting import AWAY, Pauses, Reached, until_interrupted
from connector_psi.pki import Role
from connector_psi.rpc.local import open_local

matches_app = typer.Typer(help="Review: matches that the node found. A confirmed match is a hit.", no_args_is_help=True)
cases_app = typer.Typer(help="Disclosure: ask for it, decide about it, read it.", no_args_is_help=True)


# Matches


def _by(value: Mapping[str, Any]) -> str:
    """Return what a match is by: types, and where it is shown by itself how sure a name is and what agrees besides."""
    types = ", ".join(value.get("identifier_types") or value.get("claimed_types") or ())
    return f"{types} ({value['band']}, with {', '.join(value['corroborators'])})" if value.get("band") else types


def _matches_table(title: str, values: Sequence[Mapping[str, Any]]) -> None:
    table(
        title,
        ["match", "agreement", "own record", "by", "state"],
        [(v["match_id"], v["agreement"], v["record_ref"], _by(v), v["state"]) for v in values],
    )


@matches_app.command("list")
def matches_list(
    directory: NodeDir,
    state: Annotated[str, typer.Option(metavar="STATE", help="new, confirmed, dismissed or gone.")] = "",
    as_cert: MaybeCert = None,
    as_json: AsJson = False,
) -> None:
    """List matches."""
    with open_local(directory, as_cert or Role.SYSTEM) as client:
        values = list(client.matches(state))
    emit(values, as_json, lambda: _matches_table("Matches", values))


@matches_app.command("watch")
def matches_watch(
    directory: NodeDir,
    after: Annotated[
        int,
        typer.Option(
            metavar="TOKEN",
            min=0,
            max=2**63 - 1,
            help="Resume token of the last match that you handled; by default every match is shown once first.",
        ),
    ] = 0,
    as_cert: MaybeCert = None,
    as_json: AsJson = False,
) -> None:
    """Show each match that is new, confirmed, dismissed, gone, or found otherwise, until Ctrl-C.

    A line tells how a match stands now: several changes that nobody had read yet are one line. It ends with the resume
    token, the number of the change. Keep the token once you have handled the line, and begin after it the next time:
    nothing is left out. A node that is being restarted is waited for.

    With --json each line is an object: those of `matches list`, with band, corroborators, found and resume_token.
    """
    pauses, node = Pauses(threading.Event()), Reached(directory, as_cert or Role.SYSTEM, loops=True)
    with until_interrupted():
        while True:
            try:
                with node.connect() as client:
                    for value in client.watch_matches(after):
                        pauses.over()
                        _show_change(value, as_json)
                        after = value["resume_token"]
            except AWAY as error:
                if not node.was_served:
                    raise
                pauses.wait(error)


def _show_change(value: Mapping[str, Any], as_json: bool) -> None:
    emit(
        value,
        as_json,
        lambda: say(
            f"{value['match_id']}  {value['agreement']}  {value['record_ref']}  {_by(value)}  {value['state']}  "
            f"{value['resume_token']}"
        ),
    )
    sys.stdout.flush()


@matches_app.command("show")
def matches_show(
    directory: NodeDir,
    match_id: Annotated[str, typer.Argument(metavar="ID", show_default=False)],
    as_cert: MaybeCert = None,
    as_json: AsJson = False,
) -> None:
    """Show a match beside the own record, with the evidence in words."""
    with open_local(directory, as_cert or Role.SYSTEM) as client:
        value = client.match(match_id)

    def text() -> None:
        _matches_table("Match", [value])
        table(
            "Why",
            ["identifier", "where it stands in the own message", "role"],
            [(e["identifier_type"], e["source_path"], e["role"]) for e in value["evidence"]],
        )
        table(
            "Own record", ["field", "value"], [(k, ", ".join(v)) for k, v in sorted(value["record"]["fields"].items())]
        )

    emit(value, as_json, text)


@matches_app.command("confirm")
def matches_confirm(
    directory: NodeDir,
    match_id: Annotated[str, typer.Argument(metavar="ID", show_default=False)],
    reason: Reason,
    as_cert: AsCert,
    as_json: AsJson = False,
) -> None:
    """Confirm a match: it becomes a hit, and a case may be opened."""
    with open_local(directory, as_cert) as client:
        value = client.confirm(match_id, reason)
    emit(value, as_json, lambda: _matches_table("Match", [value]))


@matches_app.command("dismiss")
def matches_dismiss(
    directory: NodeDir,
    match_id: Annotated[str, typer.Argument(metavar="ID", show_default=False)],
    reason: Reason,
    as_cert: AsCert,
    as_json: AsJson = False,
) -> None:
    """Dismiss a match; it stays dismissed unless its identifiers change."""
    with open_local(directory, as_cert) as client:
        value = client.dismiss(match_id, reason)
    emit(value, as_json, lambda: _matches_table("Match", [value]))


# Cases


def _case_text(v: Mapping[str, Any]) -> None:
    plain = (
        "case_id",
        "side",
        "agreement",
        "peer",
        "state",
        "purpose",
        "legal_basis",
        "case_reference",
        "justification",
        "record_ref",
        "ordered_by",
        "opened_by",
        "opened",
        "answer_due",
        "due",
        "erase_after",
    )
    by = [("matched by", _by(v))] if v["claimed_types"] else []
    table("Case", ["", ""], [*((k, v[k]) for k in plain if v[k]), *by])
    if v["overdue"]:
        say("OVERDUE: the time that the agreement sets for an answer is over.")
    if v["grades"]:
        say(f"Justification graded: {', '.join(v['grades'])}")
    if v["fields"]:
        title = "Disclosed" if v["side"] == "querier" or v["state"] == "released" else "Would be disclosed"
        table(title, ["field", "value"], [(k, ", ".join(x)) for k, x in sorted(v["fields"].items())])
    if v["changes"]:
        rows = [(e["when"], e["kind"], ", ".join(e["fields"])) for e in v["changes"]]
        table("What became of the own record since", ["when", "what", "in"], rows)
    if v["outcome_entry"] is not None:
        say(f"The outcome is entry {v['outcome_entry']} of the log.")
    if v["erased"]:
        names = ", ".join(v["erased_fields"]) or "nothing had been disclosed"
        say(f"Erased {v['erased']}, entry {v['erased_entry']} of the log: {names}")
    if v["withheld_fields"]:
        say(f"Withheld: {', '.join(v['withheld_fields'])}")
    if v["awaiting_consent"]:
        say(f"Waits for the provider's consent: {', '.join(v['awaiting_consent'])}")
    if v["obligations"]:
        say(f"Handling: {', '.join(v['handling'])}; obligations: {', '.join(v['obligations'])}")


@cases_app.command("open")
def cases_open(
    directory: NodeDir,
    match_id: Annotated[str, typer.Argument(metavar="ID", help="A confirmed match.", show_default=False)],
    purpose: Annotated[
        str,
        typer.Option(
            "--purpose", metavar="P", help="Purpose of the agreement; see `policy matrix`.", show_default=False
        ),
    ],
    basis: Annotated[
        str, typer.Option("--basis", metavar="B", help="One of the agreement's legal bases.", show_default=False)
    ],
    reference: Annotated[
        str, typer.Option("--reference", metavar="R", help="Reference of your own case.", show_default=False)
    ],
    justification: Annotated[
        str, typer.Option("--justification", metavar="J", help="Why the disclosure is needed.", show_default=False)
    ],
    as_cert: AsCert,
    ordered_by: Annotated[
        str,
        typer.Option(
            "--ordered-by",
            metavar="URN",
            help="Person who ordered it, urn:connector-psi:person:CODE:ROLE:ID; by default whoever opens it.",
            show_default=False,
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Ask the owner for disclosure of a confirmed match."""
    with open_local(directory, as_cert) as client:
        value = client.open_case(
            match_id,
            purpose=purpose,
            legal_basis=basis,
            case_reference=reference,
            justification=justification,
            ordered_by=ordered_by,
        )
    emit(value, as_json, lambda: _case_text(value))


@cases_app.command("list")
def cases_list(
    directory: NodeDir,
    state: Annotated[
        str, typer.Option(metavar="STATE", help="For example pending, awaiting_decision, disclosed.")
    ] = "",
    as_cert: MaybeCert = None,
    as_json: AsJson = False,
) -> None:
    """List the cases that this node opened and those that peers opened here."""
    with open_local(directory, as_cert or Role.SYSTEM) as client:
        values = list(client.cases(state))
    emit(
        values,
        as_json,
        lambda: table(
            "Cases",
            ["case", "side", "agreement", "state", "reference", "opened", "answer due", "served by"],
            [
                (
                    v["case_id"],
                    v["side"],
                    v["agreement"],
                    v["state"],
                    v["case_reference"],
                    v["opened"],
                    f"{v['answer_due']} OVERDUE" if v["overdue"] else v["answer_due"],
                    v["due"],
                )
                for v in values
            ],
        ),
    )


@cases_app.command("show")
def cases_show(
    directory: NodeDir,
    case_id: Annotated[str, typer.Argument(metavar="ID", show_default=False)],
    as_cert: MaybeCert = None,
    as_json: AsJson = False,
) -> None:
    """Show a case: at the querier what was disclosed, at the owner what would be or was."""
    with open_local(directory, as_cert or Role.SYSTEM) as client:
        value = client.case(case_id)
    emit(value, as_json, lambda: _case_text(value))


GradeOption = Annotated[
    str,
    typer.Option(
        "--grade",
        metavar="GRADE",
        help="What you think of the justification: adequate, thin, or inadequate, which carries no approval.",
    ),
]


def _decide(
    directory: Path,
    case_id: str,
    reason: str,
    as_cert: Path,
    as_json: bool,
    *,
    approve: bool,
    grade: str,
    released: Sequence[str] = (),
) -> None:
    with open_local(directory, as_cert) as client:
        value = client.decide(case_id, approve=approve, reason=reason, grade=grade, released=released)
    emit(value, as_json, lambda: _case_text(value))


@cases_app.command("approve")
def cases_approve(
    directory: NodeDir,
    case_id: Annotated[str, typer.Argument(metavar="ID", show_default=False)],
    reason: Reason,
    as_cert: AsCert,
    grade: GradeOption = "adequate",
    release: Annotated[
        list[str] | None,
        typer.Option(
            "--release",
            metavar="FIELD",
            help="A field that the provider of the data released for this case; may be given several times.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Approve a case that a peer opened here; it is disclosed at the next slot."""
    _decide(directory, case_id, reason, as_cert, as_json, approve=True, grade=grade, released=release or ())


@cases_app.command("refuse")
def cases_refuse(
    directory: NodeDir,
    case_id: Annotated[str, typer.Argument(metavar="ID", show_default=False)],
    reason: Reason,
    as_cert: AsCert,
    grade: GradeOption = "adequate",
    as_json: AsJson = False,
) -> None:
    """Refuse a case that a peer opened here; the peer learns neither that nor why."""
    _decide(directory, case_id, reason, as_cert, as_json, approve=False, grade=grade)
