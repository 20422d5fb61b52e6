"""The command ``log dossier``: what two authorities logged about one request, side by side.

Leaves to others: what belongs together and what has to be equal (``audit.joint``), whether a bundle verifies
(``audit.verify``). It needs two bundles and no node, for whoever compares two authorities belongs to neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from connector_psi import errors
from connector_psi.audit.entries import encode_time
from connector_psi.audit.joint import Dossier, Finding, Listed, Severity, join, read_side, request_ids
from connector_psi.audit.verify import verify_bundle
from connector_psi.commands import page
from connector_psi.commands.output import VERIFICATION_FAILED, AsJson, emit, err, plain, say, table

_REQUEST_HEX = 32
_REQUEST_COLUMNS = ("request", "kind", "first", "agreement", "entries in A", "entries in B", "of case")
_OWN_KEYS = (
    "A key was taken from its bundle: whoever forges a bundle forges that too. Give the keys that were handed over, "
    "with --vkey."
)
_LEAF_FACTS = ("side", "agreement", "epoch", "token_class", "purpose", "legal_basis", "n_padded", "erase_after")


def log_dossier(
    bundle_a: Annotated[
        Path,
        typer.Argument(metavar="BUNDLE_A", help="Bundle of one authority, from `log export`.", show_default=False),
    ],
    bundle_b: Annotated[
        Path, typer.Argument(metavar="BUNDLE_B", help="Bundle of the other authority.", show_default=False)
    ],
    request: Annotated[
        str | None,
        typer.Option(
            metavar="HEX",
            help="The request_id of a query, a case, a request for access or a recall: 32 hexadecimal digits. Without "
            "it, those that the bundles hold are listed.",
            show_default=False,
        ),
    ] = None,
    vkey: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY",
            help="Key of a log as it was handed over (`log_vkey` of descriptor.json), instead of trusting the one in "
            "the bundle; give it once for each log.",
            show_default=False,
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="OUT", help="Also write the dossier as a page that stands alone.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Lay two authorities' logs about one request side by side, and tell where they do not fit together.

    A query and a case are written twice, by the querier and by the owner, under the same request_id. Both bundles are
    verified first. Then the entries that belong together are compared: fields that have to be equal, entries without a
    counterpart, entries in an impossible order, erasures that did not happen; and, where both bundles hold opened
    bodies, what was decided, stated and received. Bodies are compared and never shown.

    Exit code 5: a bundle does not verify, the logs disagree, or something is missing. Notes alone give 0.
    """
    if html is not None and request is None:
        raise errors.ConfigError("--html: needs --request, there is no dossier without one")
    wanted = None if request is None else _request_id(request)
    bundles = (bundle_a, bundle_b)
    keys = _keys(vkey or [])
    for bundle in bundles:
        _check_bundle(bundle, keys, as_json)
    try:
        side_a, side_b = map(read_side, bundles)
    except errors.FormatError as error:
        raise errors.ProofInvalidError(str(error)) from None
    if unknown := set(keys) - {side_a.origin, side_b.origin}:
        raise errors.ConfigError(f"--vkey: {len(unknown)} of the keys are of neither log")
    if set(keys) != {side_a.origin, side_b.origin}:
        err.print(_OWN_KEYS, markup=False)
    if wanted is None:
        _list(side_a.origin, side_b.origin, request_ids(side_a, side_b), as_json)
        return
    now = datetime.now(tz=UTC)
    dossier = join(side_a, side_b, wanted, now)
    dossier = dossier.with_findings(_kept(dossier, bundles))
    value = {**dossier.to_json(), "now": encode_time(now.replace(microsecond=0))}
    if html is not None:
        page.write(html, _page(value))
    emit(value, as_json, lambda: _show(value))
    if not dossier.agrees:
        raise typer.Exit(VERIFICATION_FAILED)


def _request_id(text: str) -> bytes:
    try:
        if len(text) == _REQUEST_HEX:
            return bytes.fromhex(text)
    except ValueError:
        pass
    raise errors.ConfigError("--request: not 32 hexadecimal digits; leave it out to see which there are")


def _keys(given: Sequence[str]) -> dict[str, str]:
    return {key.partition("+")[0]: key for key in given}


def _check_bundle(bundle: Path, keys: dict[str, str], as_json: bool) -> None:
    """Stop at a bundle that does not verify: nothing in it is to be believed."""
    report = verify_bundle(bundle)
    key = keys.get(report["origin"])
    if key is not None and report["verified"]:
        report = verify_bundle(bundle, vkey=key)
    if report["verified"]:
        return

    def text() -> None:
        say(f"{bundle}: NOT VERIFIED, so nothing was compared")
        for failure in report["failures"]:
            say("  ", failure)

    emit({"bundle": str(bundle), **report}, as_json, text)
    raise typer.Exit(VERIFICATION_FAILED)


def _kept(dossier: Dossier, bundles: Sequence[Path]) -> Iterator[Finding]:
    """Hold the owner's bundle against the checkpoints that the querier kept with what it received."""
    for place, note in dossier.kept_checkpoints():
        other = bundles[0] if place.log == "b" else bundles[1]
        report = verify_bundle(other, earlier=[note])
        if not report["verified"]:
            yield Finding(
                Severity.DISAGREEMENT,
                f"The checkpoint of the other log that entry {place.index} of log {place.log.upper()} kept does not "
                f"fit the bundle of that log (owner_checkpoint): {'; '.join(report['failures'])}.",
                (place,),
            )


def _list(origin_a: str, origin_b: str, listed: Sequence[Listed], as_json: bool) -> None:
    value: dict[str, Any] = {
        "logs": [{"log": "a", "origin": origin_a}, {"log": "b", "origin": origin_b}],
        "requests": [
            {
                "request_id": each.request_id.hex(),
                "kind": each.kind,
                "first": encode_time(each.first),
                "agreement": each.agreement,
                "in_a": each.in_a,
                "in_b": each.in_b,
                "parent_id": each.parent_id.hex() if each.parent_id else None,
            }
            for each in listed
        ],
    }

    def text() -> None:
        table(
            f"Requests in A ({plain(origin_a)}) and B ({plain(origin_b)})",
            _REQUEST_COLUMNS,
            [tuple(each.values()) for each in value["requests"]],
        )
        say("A request with 0 entries on one side is one that this authority does not admit, or not yet.")
        say("See one: the same command with --request and its number.")

    emit(value, as_json, text)


# As text and as a page


def _verdict(value: dict[str, Any]) -> str:
    counts = dict.fromkeys(Severity, 0)
    for finding in value["findings"]:
        counts[Severity(finding["severity"])] += 1
    if value["agrees"]:
        return f"The two logs fit together; {counts[Severity.NOTE]} notes."
    return (
        f"The two logs do NOT fit together: {counts[Severity.DISAGREEMENT]} disagreements, "
        f"{counts[Severity.MISSING]} missing, {counts[Severity.NOTE]} notes."
    )


def _places(finding: dict[str, Any]) -> str:
    return ", ".join(f"{each['log'].upper()} {each['index']}" for each in finding["entries"])


def _rows(value: dict[str, Any], *, facts: bool) -> list[tuple[str, str, str]]:
    """Entries in time order, those of each log in a column of its own."""
    rows = []
    for entry in value["entries"]:
        text = f"{entry['index']} {entry['event']}: {entry['what']}"
        if facts:
            leaf = entry["leaf"]
            text += f" ({'; '.join(f'{name} {leaf[name]}' for name in _LEAF_FACTS if leaf[name] is not None)})"
        rows.append((entry["time"], text, "") if entry["log"] == "a" else (entry["time"], "", text))
    return rows


def _heads(value: dict[str, Any]) -> list[str]:
    return ["time", *(f"{log['log'].upper()}: {plain(log['origin'])}" for log in value["logs"])]


def _findings(value: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(each["severity"], _places(each), each["text"]) for each in value["findings"]]


def _show(value: dict[str, Any]) -> None:
    say(_verdict(value))
    if value["findings"]:
        table("Findings", ["severity", "entries", "what"], _findings(value))
    table(f"Entries about {value['request_id']}", _heads(value), _rows(value, facts=False))


def _page(value: dict[str, Any]) -> str:
    parts = [
        page.paragraph(_verdict(value)),
        page.paragraph(
            f"Both bundles verified. Compared at {value['now']}. No body is shown here; where both bundles hold "
            "opened bodies, they were compared."
        ),
    ]
    if value["findings"]:
        parts.append(page.table("Findings", ["severity", "entries", "what"], _findings(value)))
        parts.append(
            page.paragraph(
                "disagreement: the two logs cannot both be right. missing: one log has what the other should have, or "
                "an erasure that was due is not there. note: to know; nothing is wrong by it alone."
            )
        )
    parts.append(page.table("Entries in time order", _heads(value), _rows(value, facts=True)))
    return page.document(f"Dossier of request {value['request_id']}", parts)
