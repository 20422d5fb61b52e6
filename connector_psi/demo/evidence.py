"""What is left behind: every identifier of everybody is searched for on the wire, and the logs are held against it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from connector_psi import policy
from connector_psi.demo import proof
from connector_psi.demo.disclosing import Outcome
from connector_psi.demo.federation import AUTHORITIES
from connector_psi.demo.plan import CUSTOMS, EUROPOL, SIS
from connector_psi.demo.scene import NAMES, Scene
from connector_psi.demo.wire import WireReport, load_transcript, search_wire
from connector_psi.domain.purposes import Condition, HandlingCode
from connector_psi.domain.records import Field
from connector_psi.pki import Role

_CONTROLS = 9


def search_for_leaks(scene: Scene, outcomes: Sequence[Outcome]) -> WireReport:
    """Search what crossed the wire for every identifier of everybody."""
    scene.tell.begin("What crossed the wire, before encryption")
    messages = [
        message for code in AUTHORITIES for message in load_transcript(scene.federation.nodes[code].transcript, code)
    ]
    values: dict[str, None] = {}
    for code in AUTHORITIES:
        for number in scene.plan.numbers[code]:
            values |= dict.fromkeys(filter(None, (number.written, number.value)))
        for record in scene.readings[code].records:
            values |= dict.fromkeys(i.value for i in record.identifiers)
    shared = {p.identifier_type for p in scene.plan.planted}
    controls = [
        next(n.written for n in scene.plan.numbers[CUSTOMS] if n.type == kind and n.value)
        for kind in sorted(shared)[:_CONTROLS]
    ]
    wire = search_wire(messages, values, controls)
    scene.tell.table(
        ["method", "messages", "bytes"], [(name, *counts) for name, counts in sorted(wire.by_method.items())]
    )
    scene.tell.say(
        f"Searched for {wire.values:,} identifiers, as written and canonical, in UTF-8, UTF-16, hexadecimal and "
        f"base64: {wire.patterns:,} patterns in {wire.size_bytes / 1e6:.1f} MB."
    )
    scene.tell.check(
        f"planted controls: {wire.controls_found} of {wire.controls} found by the same search",
        holds=wire.controls_found == wire.controls > 0,
    )
    scene.tell.check(
        f"identifiers outside released envelopes: {wire.raw}" + "".join(f"; {place}" for place in wire.raw_places),
        holds=wire.raw == 0,
    )
    allowed = {o.case_id: _released(scene, o) for o in outcomes if o.fields}
    scene.tell.check(
        f"identifiers inside released envelopes: {sum(wire.released.values())}, as the policy released "
        f"({sum(allowed.values())})",
        holds=wire.released == allowed,
    )
    scene.tell.end()
    return wire


def _released(scene: Scene, outcome: Outcome) -> int:
    """How many identifiers the fields hold that policy lets go, by the owner's own record in the samples."""
    record = scene.owner_record(outcome.pair)
    if record is None:
        return -1
    agreement = scene.agreements[outcome.pair.agreement]
    codes = policy.handling_codes_of(record.fields.get(Field.HANDLING_CODES, ()))
    open_codes = set(codes) <= {HandlingCode.H0, HandlingCode.H1}
    text = [
        value
        for name, values in record.fields.items()
        if (condition := agreement.disclose.get(name)) is not None
        and (condition is not Condition.PROVIDER_CONSENT or open_codes)
        for value in values
    ]
    return sum(any(i.value in value for value in text) for i in record.identifiers)


def examine_logs(scene: Scene, wire: WireReport) -> tuple[dict[str, dict[str, Any]], bool]:
    """Check the logs offline, hold them against the wire, and try changed ones."""
    scene.tell.begin("The logs prove that this is all that was disclosed")
    folder = scene.root / "logs"
    bundles, own = {}, {}
    handed_over = {code: scene.federation.nodes[code].descriptor for code in AUTHORITIES}
    for code in AUTHORITIES:
        client = scene.federation.client(code, Role.AUDITOR)
        own[code] = client.verify_log()
        peers = [raw for other, raw in handed_over.items() if other != code]
        bundles[code] = proof.export_bundle(client, handed_over[code], peers, folder / code)
    changed = proof.tamper(folder / SIS, folder)
    tampered = [replace(bundles[SIS], directory=path) for path in changed.values()]
    verdicts = proof.verify_bundles([*bundles.values(), *tampered])
    by_code = dict(zip(AUTHORITIES, verdicts, strict=False))
    leaves = {code: proof.read_leaves(folder / code) for code in AUTHORITIES}
    scene.tell.table(
        ["authority", "entries", "verified", "cosigned by", "what it says"],
        [
            (
                NAMES[code],
                by_code[code].size,
                "by node, offline" if own[code]["verified"] and by_code[code].verified else "NOT VERIFIED",
                ", ".join(key.partition("+")[0].rpartition("/")[2] for key in bundles[code].witnesses),
                ", ".join(f"{n} {event}" for event, n in Counter(leaf["event"] for leaf in leaves[code]).items()),
            )
            for code in AUTHORITIES
        ],
    )
    log = {
        code: {"size": by_code[code].size, "verified": by_code[code].verified and bool(own[code]["verified"])}
        for code in AUTHORITIES
    }
    scene.tell.check("all three logs verify", holds=all(entry["verified"] for entry in log.values()))
    scene.tell.check(
        "each is cosigned by peers; that of N.SIS not by customs, which its growth would tell of its work",
        holds=all(bundle.witnesses for bundle in bundles.values()) and len(bundles[SIS].witnesses) == 1,
    )
    # Under the agreements in which N.SIS learns first, covers come and go all the time.
    told = {
        code: [leaf for leaf in found if leaf["agreement"] in {None, *scene.agreements}]
        for code, found in leaves.items()
    }
    account = proof.account({code: told[code] for code in (SIS, EUROPOL)}, told[CUSTOMS], wire.served)
    scene.tell.check(
        f"{account.outcomes} outcomes are logged, {account.disclosed} of them disclosures, and the same ones "
        "crossed the wire, byte for byte" + "".join(f"; {problem}" for problem in account.problems),
        holds=not account.problems and account.disclosed == len(wire.released),
    )
    scene.tell.check(
        f"{len(account.unknown_to_customs)} case is in an owner's log and not in that of customs: the invented one",
        holds=len(account.unknown_to_customs) == 1,
    )
    tried = dict(zip(changed, verdicts[len(AUTHORITIES) :], strict=True))
    scene.tell.say("Somebody changes the log of N.SIS:")
    scene.tell.table(
        ["what was tried", "exit code", "what the verifier says"],
        [(name, str(v.exit_code), v.failures[0] if v.failures else "-") for name, v in tried.items()],
    )
    caught = bool(tried) and all(v.exit_code == 5 and not v.verified for v in tried.values())
    scene.tell.check("every change is caught", holds=caught)
    scene.tell.end()
    return log, caught
