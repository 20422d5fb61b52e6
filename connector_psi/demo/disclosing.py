"""From hits to outcomes: customs asks, people at the owners decide, and a refusal looks like an unknown ticket."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from connector_psi.demo.federation import DECIDE_S, SLOT_S
from connector_psi.demo.join import type_of_pair
from connector_psi.demo.plan import CUSTOMS, Pair
from connector_psi.demo.probe import Answer, Probe
from connector_psi.demo.scene import NAMES, OWNERS, Scene
from connector_psi.pki import Role

REFUSED_TYPE = "identity_document"
"""The hit whose case the owner's supervisor refuses."""
SHOWN_TYPE = "plate"
"""The disclosure that is shown field by field."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A case that came to its end: the pair it is about, and both sides' view of it."""

    pair: Pair
    customs: Mapping[str, Any]
    owner: Mapping[str, Any]

    @property
    def case_id(self) -> str:
        """The case, hexadecimal."""
        return str(self.owner["case_id"])

    @property
    def fields(self) -> Mapping[str, Sequence[str]]:
        """What the owner released."""
        fields: Mapping[str, Sequence[str]] = self.owner["fields"]
        return fields

    @property
    def withheld(self) -> list[str]:
        """Names of the fields that it has and did not release."""
        return sorted(self.owner["withheld_fields"])


@dataclass(frozen=True, slots=True)
class Undisclosed:
    """A case that nothing is disclosed in: why, when it was due, and its answer."""

    what: str
    due: str
    answer: Answer


def disclose(
    scene: Scene, matches: Sequence[Mapping[str, Any]], expected: Sequence[Pair]
) -> tuple[list[Outcome], list[Undisclosed]]:
    """Open a case for each hit, let the owners' supervisors decide, and collect the outcomes."""
    scene.tell.begin("Customs asks for disclosure; people at the owners decide")
    customs = scene.federation.client(CUSTOMS, Role.OFFICER)
    refused_match = next((m for m in matches if types_of(m) == REFUSED_TYPE), matches[0])
    owner = OWNERS[refused_match["agreement"]]
    cases: dict[str, Mapping[str, Any]] = {}
    with Probe(scene.federation.nodes[CUSTOMS], scene.federation.nodes[owner]) as probe:
        # The refused one first: it is answered last.
        refused = _open(scene, refused_match, 1)
        agreement = scene.agreements[refused_match["agreement"]]
        unknown = probe.open_unknown(agreement, scene.epoch(agreement.code), "DEMO-00")
        cases[refused] = refused_match
        for number, match in enumerate((m for m in matches if m is not refused_match), 2):
            cases[_open(scene, match, number)] = match
        refs = _decide(scene, cases, refused)
        scene.tell.say(
            f"[dim]answers leave at slots of {SLOT_S} s, or {DECIDE_S} s after the question; 72 hours in operation[/]"
        )
        answers = probe.watch(agreement.code, [refused, unknown], DECIDE_S + 20.0)
    scene.until("the outcomes", lambda: not any(case["state"] in {"drafted", "pending"} for case in customs.cases()))
    outcomes = []
    for case_id, match in cases.items():
        pair = Pair(match["agreement"], match["record_ref"], refs.get(case_id, ""), types_of(match))
        theirs = scene.federation.client(OWNERS[pair.agreement], Role.SUPERVISOR).case(case_id)
        outcomes.append(Outcome(pair, customs.case(case_id), theirs))
    scene.tell.table(
        ["agreement", "by", "at customs", "fields", "withheld"],
        [
            (
                o.pair.agreement,
                o.pair.identifier_type,
                o.customs["state"].replace("_", " "),
                len(o.fields),
                len(o.withheld) if o.fields else "all",
            )
            for o in outcomes
        ],
    )
    scene.tell.check(
        "customs got what the owners released, field by field, and nothing for the refused case",
        holds=all(o.customs["fields"] == o.fields and bool(o.fields) is (o.case_id != refused) for o in outcomes),
    )
    scene.tell.check(
        "each hit is about the pair that the plaintext join names",
        holds=sorted(o.pair for o in outcomes) == sorted(expected),
    )
    _side_by_side(scene, next((o for o in outcomes if o.pair.identifier_type == SHOWN_TYPE), outcomes[-1]))
    scene.tell.end()
    supervisor = scene.federation.client(owner, Role.SUPERVISOR)
    return outcomes, [
        Undisclosed("refused", supervisor.case(refused)["due"], answers[refused]),
        Undisclosed("never issued", supervisor.case(unknown)["due"], answers[unknown]),
    ]


def _open(scene: Scene, match: Mapping[str, Any], number: int) -> str:
    agreement = scene.agreements[match["agreement"]]
    case = scene.federation.client(CUSTOMS, Role.OFFICER).open_case(
        match["match_id"],
        purpose=agreement.purpose.value,
        legal_basis=agreement.legal_basis[0].value,
        case_reference=f"DEMO-{number:02d}",
        justification="control planned at the place of entry",
    )
    return str(case["case_id"])


def _decide(scene: Scene, cases: Mapping[str, Mapping[str, Any]], refused: str) -> dict[str, str]:
    """Approve every case but one; return the owner's record of each that there was something to decide about."""
    refs: dict[str, str] = {}

    def decided() -> bool:
        judged = set()
        for code in sorted(set(OWNERS.values())):
            client = scene.federation.client(code, Role.SUPERVISOR)
            for case in client.cases():
                case_id, state = case["case_id"], case["state"]
                if state == "awaiting_decision":
                    # What the person who decides sees: the record, and the fields that would leave.
                    refs[case_id] = client.case(case_id)["record_ref"]
                    reason = "found in the meantime" if case_id == refused else "checked, still valid"
                    client.decide(case_id, approve=case_id != refused, reason=reason)
                if state != "received":
                    judged.add(case_id)
        return cases.keys() <= judged

    scene.until("the owners to decide", decided)
    return refs


def _side_by_side(scene: Scene, outcome: Outcome) -> None:
    record = scene.owner_record(outcome.pair)
    known = {name.value: values for name, values in record.fields.items()} if record else {}
    got = outcome.customs["fields"]
    scene.tell.say(f"One disclosure side by side ({outcome.pair.agreement}, a {outcome.pair.identifier_type}):")
    scene.tell.table(
        ["field", f"what {NAMES[OWNERS[outcome.pair.agreement]]} knows", "what customs gets"],
        [
            (name, "\n".join(known.get(name, ())), "\n".join(got[name]) if name in got else "[red]withheld[/]")
            for name in (*sorted(outcome.fields), *outcome.withheld)
        ],
    )
    scene.tell.check(
        f"{len(outcome.fields)} fields disclosed, {len(outcome.withheld)} withheld",
        holds=bool(outcome.fields) and bool(outcome.withheld),
    )


def compare_undisclosed(scene: Scene, both: Sequence[Undisclosed]) -> None:
    """Hold a refusal against an unknown ticket."""
    scene.tell.begin("A refusal and an unknown ticket are answered alike")
    scene.tell.table(
        ["case", "answer", "bytes", "due", "answered"],
        [
            (
                each.what,
                str(each.answer.content()["outcome"]),
                " + ".join(str(size) for size in each.answer.sizes()),
                each.due[11:],
                datetime.fromtimestamp(each.answer.served_ms / 1000, tz=UTC).strftime("%H:%M:%S.%f")[:-5] + "Z",
            )
            for each in both
        ],
    )
    scene.tell.say("[dim]bytes of envelope, signature, salt and log entry[/]")
    refused, unknown = both
    scene.tell.check(
        "same content but for the number of the case", holds=refused.answer.content() == unknown.answer.content()
    )
    scene.tell.check("same sizes", holds=refused.answer.sizes() == unknown.answer.sizes())
    scene.tell.check(
        f"neither is answered before its {DECIDE_S} s are over",
        holds=all(datetime.fromisoformat(each.due).timestamp() * 1000 <= each.answer.served_ms for each in both),
    )
    scene.tell.end()


def types_of(match: Mapping[str, Any]) -> str:
    """Return what a match is by, as pairs name it."""
    return type_of_pair(match["identifier_types"])
