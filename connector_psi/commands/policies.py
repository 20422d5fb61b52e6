"""Commands of policy: policy check, matrix."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from connector_psi import errors, policy
from connector_psi.commands.output import EXIT_CODES, AsJson, emit, listing, out, table
from connector_psi.pack.checks import check_pack
from connector_psi.pack.matrix import encode_csv, matrix, sheets
from connector_psi.pack.page import encode_page
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
def policy_matrix(
    files: PolicyFiles,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="OUT", help="Write it as one HTML file that stands alone.", show_default=False),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option("--csv", metavar="OUT", help="Write it as CSV, one line for each field.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show who can learn which field about what, why, after whose approval, and for how long."""
    packs = [load_policy(path) for path in files]
    rows = matrix(packs)
    if html is not None:
        _write(html, encode_page(packs))
    if csv is not None:
        _write(csv, encode_csv(rows))

    def text() -> None:
        found = sheets(packs)
        table(
            "Who can learn from whom; the querier learns first",
            ["agreement", "status", "who learns", "from", "for"],
            [(s.code, s.status, s.learner, s.source, s.purpose) for s in found],
        )
        for sheet in found:
            learnt = [("May learn", f"{names}: {condition}") for condition, names in sheet.fields]
            listing(f"{sheet.code}  {sheet.purpose}", (*sheet.facts, *learnt))

    emit([asdict(row) for row in rows], as_json, text)


def _write(path: Path, content: str) -> None:
    try:
        path.write_text(content, encoding="utf-8", newline="")
    except OSError as error:
        raise errors.ConfigError(f"{path}: {error.strerror}") from None
