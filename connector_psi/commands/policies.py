"""Commands of policy: policy check, matrix."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from connector_psi import errors, policy
from connector_psi.commands.output import EXIT_CODES, AsJson, emit, out, table
from connector_psi.pack.checks import check_pack
from connector_psi.pack.matrix import matrix
from connector_psi.pack.reading import load_policy, parse_policy

policy_app = typer.Typer(help="Who may ask whom, for what, and what may be disclosed.", no_args_is_help=True)


# Policy


PolicyFiles = Annotated[
    list[Path],
    typer.Argument(metavar="FILE...", help="policy.yaml files, of one side or of several.", show_default=False),
]


@policy_app.command("check")
def policy_check(files: PolicyFiles, as_json: AsJson = False) -> None:
    """Check that policies are valid, complete and without conflict, each alone and all together."""
    packs: list[policy.PolicyPack] = []
    findings: list[dict[str, str]] = []
    for path in files:
        try:
            packs.append(parse_policy(path.read_bytes(), str(path)))
        except OSError as error:
            raise errors.ConfigError(f"{path}: {error.strerror}") from None
        except errors.ConfigError as error:
            findings += [
                {"severity": "error", "source": str(path), "agreement": "", "key": "", "text": line}
                for line in str(error).splitlines()
            ]
    for pack in packs:
        others = [other for other in packs if other is not pack]
        findings += [
            {"severity": f.severity.value, "source": f.source, "agreement": f.agreement, "key": f.key, "text": f.text}
            for f in check_pack(pack, others)
        ]
    ok = not any(f["severity"] == "error" for f in findings)

    def text() -> None:
        if findings:
            table(
                "Findings",
                ["severity", "file", "agreement", "key", "finding"],
                [(f["severity"], f["source"], f["agreement"], f["key"], f["text"]) for f in findings],
            )
        out.print(
            f"{sum(len(p.templates) for p in packs)} agreements in {len(packs)} files: {'valid' if ok else 'NOT valid'}"
        )

    emit({"valid": ok, "findings": findings}, as_json, text)
    if not ok:
        raise typer.Exit(EXIT_CODES[errors.ConfigError])


@policy_app.command("matrix")
def policy_matrix(files: PolicyFiles, as_json: AsJson = False) -> None:
    """Show who can learn which field about what, as a table."""
    rows = matrix([load_policy(path) for path in files])
    values = [
        {
            "agreement": r.agreement,
            "purpose": r.purpose,
            "querier": r.querier,
            "owner": r.owner,
            "learns_first": r.learns_first,
            "category": r.category,
            "field": r.field,
            "condition": r.condition,
            "status": r.status,
        }
        for r in rows
    ]

    def text() -> None:
        grouped: dict[tuple[str, ...], dict[str, list[str]]] = {}
        for r in rows:
            key = (r.agreement, r.status, r.querier, r.owner, r.category)
            grouped.setdefault(key, {}).setdefault(r.condition, []).append(r.field)
        table(
            "Who can learn which field about what; the querier learns first",
            ["agreement", "status", "querier", "owner", "about", "fields"],
            [
                (*key, "; ".join(f"{condition}: {', '.join(names)}" for condition, names in fields.items()))
                for key, fields in grouped.items()
            ],
        )

    emit(values, as_json, text)
