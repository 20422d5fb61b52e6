"""Commands of policy: policy check, matrix, diff, explain, simulate, sign."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from connector_psi import errors, pki, policy
from connector_psi.audit.entries import encode_time
from connector_psi.commands import page
from connector_psi.commands.output import EXIT_CODES, AsCert, AsJson, MaybeCert, emit, listing, out, say, table
from connector_psi.domain.clock import SystemClock
from connector_psi.domain.records import Field
from connector_psi.encoding.atomicfile import atomic_file
from connector_psi.node.config import Layout, load_config
from connector_psi.pack import signing, words
from connector_psi.pack.checks import check_pack
from connector_psi.pack.diff import diff
from connector_psi.pack.markdown import update_document
from connector_psi.pack.matrix import encode_csv, matrix, sheets
from connector_psi.pack.page import encode_page
from connector_psi.pack.reading import load_policy, parse_policy, read_policy, valid_policy
from connector_psi.rpc.local import open_local

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
    update: Annotated[
        Path | None,
        typer.Option(
            "--update",
            metavar="DOC",
            help="A Markdown file whose tables, between `<!-- agreement CODE -->` and `<!-- end -->`, are renewed.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show who can learn which field about what, why, after whose approval, and for how long."""
    packs = [load_policy(path) for path in files]
    rows = matrix(packs)
    if html is not None:
        page.write(html, encode_page(packs))
    if csv is not None:
        page.write(csv, encode_csv(rows))
    if update is not None:
        try:
            document = update.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise errors.ConfigError(f"{update}: unreadable, or not UTF-8") from None
        page.write(update, update_document(document, packs, str(update)))

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


@policy_app.command("diff")
def policy_diff(
    old: Annotated[Path, typer.Argument(metavar="A", help="The policy.yaml before.", show_default=False)],
    new: Annotated[Path, typer.Argument(metavar="B", help="The policy.yaml after.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Show what a change of policy would newly allow, no longer allow, or change otherwise.

    What widens is marked: after it more may be learnt, by more, about more, for longer, or with less in between.
    """
    changes = diff(load_policy(old), load_policy(new))

    def text() -> None:
        if changes:
            table(
                "What changes; + widens",
                ["", "agreement", "what", "in words"],
                [("+" if c.widens else "", c.agreement, c.kind.replace("_", " "), c.text) for c in changes],
            )
        widening = sum(change.widens for change in changes)
        say(words.counted(len(changes), "difference"), f", of which {widening} widen" + "s" * (widening == 1), ".")

    emit([asdict(change) for change in changes], as_json, text)


@policy_app.command("explain")
def policy_explain(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A policy.yaml.", show_default=False)],
    agreement: Annotated[
        str, typer.Option("--agreement", metavar="CODE", help="A code of the policy.", show_default=False)
    ],
    purpose: Annotated[
        str | None, typer.Option("--purpose", metavar="P", help="As the querier states it; by default, as agreed.")
    ] = None,
    basis: Annotated[
        str | None, typer.Option("--basis", metavar="B", help="As the querier states it; by default, the first agreed.")
    ] = None,
    category: Annotated[
        str | None, typer.Option("--category", metavar="C", help="Of the owner's record; by default, the first agreed.")
    ] = None,
    fields: Annotated[
        list[str] | None,
        typer.Option("--field", metavar="F", help="A field of the record, again for each; by default, all agreed."),
    ] = None,
    confirmed: Annotated[
        int | None, typer.Option(min=0, max=99, help="People who confirmed the match; by default, as many as needed.")
    ] = None,
    approved: Annotated[
        int | None, typer.Option(min=0, max=99, help="People who approved the case; by default, as many as needed.")
    ] = None,
    real: Annotated[bool, typer.Option("--real/--synthetic", help="Whether both nodes hold real data.")] = False,
    on: Annotated[
        datetime | None, typer.Option("--date", formats=["%Y-%m-%d"], help="The day; by default, today.")
    ] = None,
    handling_codes: Annotated[
        list[str] | None, typer.Option("--handling-code", metavar="H", help="Of the record, again for each.")
    ] = None,
    consent: Annotated[
        list[str] | None,
        typer.Option("--consent", metavar="F", help="A field that its provider released, again for each."),
    ] = None,
    hidden: Annotated[bool, typer.Option("--hidden", help="The record must never leave, or is gone.")] = False,
    reference: Annotated[
        bool, typer.Option("--reference/--no-reference", help="Whether the case has a reference.")
    ] = True,
    justification: Annotated[
        bool, typer.Option("--justification/--no-justification", help="Whether the case has a justification.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Explain what would be decided about a case, rule by rule and field by field.

    Without options the case is one that has all that it needs; each option changes one thing.
    """
    terms = _instance(load_policy(file), agreement, synthetic=not real)
    needed = terms.confirm
    explanation = policy.explain(
        terms,
        purpose=terms.purpose.value if purpose is None else purpose,
        legal_basis=terms.legal_basis[0].value if basis is None else basis,
        category=terms.categories[0] if category is None else category,
        available_fields=_fields(fields) if fields else tuple(terms.disclose),
        confirmed_by=[f"querier {n}" for n in range(needed.querier_people if confirmed is None else confirmed)],
        approved_by=[f"owner {n}" for n in range(needed.owner_people if approved is None else approved)],
        case_reference="given" if reference else "",
        justification="given" if justification else "",
        now=(on or SystemClock().now()).replace(hour=12, tzinfo=UTC),
        synthetic=not real,
        hidden=hidden,
        handling_codes=handling_codes or (),
        provider_consent=_fields(consent or ()),
    )
    decision = explanation.decision
    rules = [
        (rule, "holds" if rule in explanation.passed else "REFUSES" if rule is decision.reason else "not reached")
        for rule in words.RULE_WORDS
    ]
    value = {
        "agreement": terms.template,
        "allowed": decision.allowed,
        "reason": decision.reason.value,
        "rules": [
            {"rule": rule.value, "result": result.lower(), "text": words.RULE_WORDS[rule]} for rule, result in rules
        ],
        "fields": [
            {
                "field": name.value,
                "disclosed": name in decision.disclosed,
                "reason": reason.value,
                "text": words.FIELD_REASON_WORDS[reason],
            }
            for name, reason in explanation.fields.items()
        ],
    }

    def text() -> None:
        verdict = "disclosed" if decision.allowed else f"not disclosed: {decision.reason}"
        table(
            f"{terms.template}: {verdict}",
            ["refuses as", "", "asks that"],
            [(rule.value, result, words.RULE_WORDS[rule]) for rule, result in rules],
        )
        table(
            "Fields" if decision.allowed else "Fields: none leaves; their own conditions would say",
            ["field", "leaves", "why"],
            [
                (
                    words.field_words(name),
                    "yes" if name in decision.disclosed else "no",
                    words.FIELD_REASON_WORDS[reason],
                )
                for name, reason in explanation.fields.items()
            ],
        )

    emit(value, as_json, text)


@policy_app.command("simulate")
def policy_simulate(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The policy.yaml to try; it needs no signature.", show_default=False)
    ],
    directory: Annotated[
        Path, typer.Option("--node", metavar="DIR", help="The node whose cases are judged again.", show_default=False)
    ],
    certificate: MaybeCert = None,
    as_json: AsJson = False,
) -> None:
    """Judge the cases that peers opened at a node again under another policy, and show what would come out otherwise.

    Both policies judge today, about the records as they stand now: only the words of the policies differ. Cases whose
    record or epoch is gone cannot be judged any more and are counted. Cases of agreements of which the owner gets no
    notice are neither shown nor counted. Nothing is changed.
    """
    raw = read_policy(file)
    valid_policy(raw, str(file))
    with open_local(directory, certificate or pki.Role.SUPERVISOR) as client:
        value = client.simulate_policy(raw)

    def text() -> None:
        if value["cases"]:
            table(
                "Decided otherwise",
                ["case", "agreement", "state", "under the policy in force", "under this policy"],
                [
                    (c["case_id"], c["agreement"], c["state"], _verdict(c["in_force"]), _verdict(c["simulated"]))
                    for c in value["cases"]
                ],
            )
        say(
            words.counted(value["replayed"], "case"),
            f" judged again, {value['changed']} decided otherwise; {value['gone']} cannot be judged any more.",
        )

    emit(value, as_json, text)


def _verdict(judgement: Mapping[str, Any]) -> str:
    if not judgement["allowed"]:
        return f"not disclosed: {judgement['reason']}"
    return "disclosed: " + ", ".join(words.field_words(Field(name)) for name in judgement["fields"])


@policy_app.command("sign")
def policy_sign(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The policy.yaml to sign.", show_default=False)],
    certificate: AsCert,
    as_json: AsJson = False,
) -> None:
    """Sign a policy as a person; a node opens with a policy that two people signed, and with no other.

    Writes FILE.sig, which holds the signatures of all who signed this policy. Two different people are needed, at least
    one of them a supervisor or data protection officer. In a node directory the certificate is held against the
    directory's root.
    """
    pack, now = load_policy(file), SystemClock().now()
    credentials = pki.load_credentials(certificate)
    layout = Layout(file.absolute().parent)
    authority, root_pem = credentials.identity.authority, None
    if layout.config.is_file():
        config, layout = load_config(layout.root)
        authority = config.node.authority
        root_pem = _root_of(layout)
        try:
            pki.verify_identity(credentials.cert_pem, root_pem, now)
        except errors.InputError as error:
            raise errors.RefusedError(f"{certificate}: {error}") from None
    if credentials.identity.authority != authority:
        raise errors.RefusedError(f"{certificate}: not of authority {authority}, whose node this is")
    found = signing.load_signatures(file)
    kept = None
    if found is not None:
        kept = signing.counting(found[0], pack, authority=authority, root_pem=root_pem, now=now)
    try:
        signed = signing.sign_pack(pack, credentials, kept, now)
    except errors.RefusedError as error:
        raise errors.RefusedError(f"{certificate}: {error}") from None
    path = signing.signature_path(file)
    signers = signing.verify_signatures(signed, pack, authority=authority, root_pem=root_pem, now=now, source=str(path))
    with atomic_file(path) as stream:
        stream.write(signing.encode_signatures(signed))
    missing = signing.missing_people(signers)
    value = {
        "file": str(path),
        "authority": authority,
        "pack_hash": signed.pack_hash.hex(),
        "signed_by": [
            {"person": s.person.id, "role": s.person.role.value, "time": encode_time(s.time)} for s in signers
        ],
        "missing": missing,
        "checked_root": root_pem is not None,
        "dropped": 0 if found is None or kept is None else len(found[0].signatures) - len(kept.signatures),
    }

    def text() -> None:
        table(
            f"Policy {signed.pack_hash.hex()} of {authority}",
            ["signed by", "role", "time"],
            [(s.person.id, s.person.role.value, encode_time(s.time)) for s in signers],
        )
        if missing:
            others = any(s.person.role is not pki.Role.ADMIN for s in signers)
            who = "person" if others else "person, a supervisor or data protection officer"
            say(f"{missing} more {who} must sign before a node opens with it.")
        else:
            say("Signed by two people: in force when the node is started again.")
        if root_pem is None:
            say("Not held against a root certificate: the file does not lie in a node directory.")

    emit(value, as_json, text)


def _instance(pack: policy.PolicyPack, code: str, *, synthetic: bool) -> policy.Agreement:
    """The agreement of a code, between two authorities that need not exist."""
    name, _, sides = code.partition(":")
    querier, _, owner = sides.partition("-")
    for template in pack.templates:
        if template.code == name:
            return policy.instantiate(template, querier or "querier", owner or "owner", synthetic=synthetic)
    if any(own.code == name for own in pack.own):
        raise errors.ConfigError(f"{pack.source}: {name}: concerns the own node alone; nothing is disclosed under it")
    raise errors.ConfigError(f"{pack.source}: no agreement of this code; `policy matrix` lists them")


def _fields(names: Iterable[str]) -> tuple[Field, ...]:
    try:
        return tuple(map(Field, names))
    except ValueError:
        raise errors.ConfigError(f"--field, --consent: one of {', '.join(Field)}") from None


def _root_of(layout: Layout) -> bytes:
    try:
        return layout.root_cert.read_bytes()
    except OSError as error:
        raise errors.ConfigError(f"{layout.root_cert}: {error.strerror}") from None
