"""Past cases judged again under another policy: what a change would have meant for those who asked.

Decides: which cases can be judged again, and what counts as decided otherwise. Both policies judge on the same day
about the record as it stands now, so that only their words differ. Leaves to others: what is decided (``disclosure``,
``policy``), what the policies say (``pack``). Nothing is changed, and no body of the log is opened.

Cases of agreements of which the owner gets no notice are neither judged nor counted: their number would tell.
"""

from __future__ import annotations

from dataclasses import dataclass

from connector_psi import disclosure, policy
from connector_psi.domain.naming.families import FAMILY_TABLE
from connector_psi.domain.records import Record
from connector_psi.errors import PurposeRefusedError
from connector_psi.node.node import OWNER, Node
from connector_psi.node.received import claim_of, released_fields, request_of
from connector_psi.pack.reading import valid_policy
from connector_psi.protocol.tokens import Token, judge_claim
from connector_psi.storage import cases as store
from connector_psi.storage.cases import CaseRow
from connector_psi.storage.store import Tx

MAX_SHOWN = 1_000
_CHUNK = 200


@dataclass(frozen=True, slots=True)
class ReplayedCase:
    """A case that is decided otherwise."""

    row: CaseRow
    in_force: policy.Decision
    simulated: policy.Decision


@dataclass(frozen=True, slots=True)
class Replay:
    """What came of judging the cases again."""

    cases: tuple[ReplayedCase, ...]
    """Decided otherwise, the oldest first, at most ``MAX_SHOWN``."""
    changed: int
    replayed: int
    gone: int
    """Cases whose record or epoch is gone."""


def replay(node: Node, raw: bytes) -> Replay:
    """Judge the cases that peers opened here under another policy.

    Args:
        node: Whose cases.
        raw: A policy file; it needs no signature.

    Raises:
        ConfigError: It is no valid policy.
    """
    node.check_alive()
    pack = valid_policy(raw)
    shown: list[ReplayedCase] = []
    changed = replayed = gone = offset = 0
    while True:
        with node.store.read() as tx:
            rows = store.list_cases(node.store, tx, limit=_CHUNK, offset=offset)
            for row in rows:
                if row.side != store.OWNER:
                    continue
                judged = _judged(node, tx, row, pack)
                if judged is None:
                    gone += 1
                    continue
                replayed += 1
                if _differ(judged):
                    changed += 1
                    if len(shown) < MAX_SHOWN:
                        shown.append(judged)
        if len(rows) < _CHUNK:
            return Replay(tuple(shown), changed, replayed, gone)
        offset += len(rows)


def _judged(node: Node, tx: Tx, row: CaseRow, pack: policy.PolicyPack) -> ReplayedCase | None:
    if "ticket_id" not in row.payload:
        # What was disclosed is erased, and with it which record it was.
        return None
    try:
        bound = node.bound_of_case(tx, row.agreement, OWNER, row.peer)
    except PurposeRefusedError:
        return None
    claim = claim_of(node, tx, bound, row)
    if claim is None:
        return None
    in_force = _decide(node, row, bound.agreement, claim.record)
    agreement = next((a for t in pack.templates if (a := _instance(node, t, row.agreement)) is not None), None)
    if agreement is None:
        return ReplayedCase(row, in_force, policy.Decision(allowed=False, reason=policy.Reason.PURPOSE_NOT_AGREED))
    matches = judge_claim(agreement, _covered(agreement, claim.tokens)).verdict is policy.Verdict.MATCH
    simulated = _decide(node, row, agreement, claim.record if matches else None)
    return ReplayedCase(row, in_force, simulated)


def _covered(agreement: policy.Agreement, tokens: tuple[Token, ...]) -> list[Token]:
    """The tokens that are in a set under another policy too; it may have fewer families, classes or types."""
    groups = agreement.name_groups
    return [
        token
        for token in tokens
        if token.token_class in agreement.classes
        and (token.key is None or FAMILY_TABLE[token.key.family].group in groups)
    ]


def _instance(node: Node, template: policy.Template, code: str) -> policy.Agreement | None:
    name, _, sides = code.partition(":")
    if template.code != name:
        return None
    querier, _, owner = sides.partition("-")
    return policy.instantiate(template, querier, owner, synthetic=node.synthetic)


def _decide(node: Node, row: CaseRow, agreement: policy.Agreement, record: Record | None) -> policy.Decision:
    approvals = row.payload["approvals"]
    return disclosure.decide_case(
        agreement,
        request_of(row),
        record,
        approved_by=[approval["by"] for approval in approvals],
        now=node.clock.now(),
        synthetic=node.synthetic,
        provider_consent=released_fields(approvals),
    )


def _differ(judged: ReplayedCase) -> bool:
    before, after = ((d.allowed, d.reason, set(d.disclosed)) for d in (judged.in_force, judged.simulated))
    return before != after
