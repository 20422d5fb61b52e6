"""The policy in force: who can learn what about what, and what another policy would change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from connector_psi.console.visit import Visit
from connector_psi.domain.purposes import OwnerNotice
from connector_psi.node.oversight import agreements_hidden
from connector_psi.pack.diff import diff
from connector_psi.pack.matrix import sheets
from connector_psi.pack.reading import parse_policy
from connector_psi.pki import Role

if TYPE_CHECKING:
    from connector_psi.node.replay import Replay
    from connector_psi.pack.diff import Change


def matrix(visit: Visit, changes: list[Change] | None = None, replay: Replay | None = None) -> Response:
    """Show the policy in force, an agreement a sheet."""
    node = visit.service.node
    hidden = set()
    if visit.role is not Role.DPO:
        # Of an agreement of which this authority gets no notice as owner nobody else is told anything.
        hidden = {
            t.code
            for t in node.pack.templates
            if t.owner_notice is OwnerNotice.NONE and node.config.node.role in t.owner
        }
    kept_back = agreements_hidden(node, visit.role)
    return visit.render(
        "policy.html",
        "Policy",
        sheets=[sheet for sheet in sheets([node.pack]) if sheet.code not in hidden],
        in_force=[b for b in node.agreements() if b.code not in kept_back],
        hash=node.policy.pack_hash.hex(),
        signers=node.policy.signers,
        changes=changes,
        replay=replay,
        may_compare=visit.may("policy_differences"),
    )


def differences(visit: Visit) -> Response:
    """Show what another policy would change, and which past cases it would decide otherwise."""
    raw = (visit.value("file") or visit.value("policy")).encode()
    other = parse_policy(raw)
    return matrix(visit, diff(visit.service.node.pack, other), visit.service.simulate(raw))
