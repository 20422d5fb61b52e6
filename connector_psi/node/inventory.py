"""The inventory of encoded sets: technical copies, how old each is, and how long it may be here.

Decides: what is shown of a set, which is nothing of what it holds; that a set of which this authority gets no notice is
shown to the data protection officer alone. Leaves to others: when a set ends (``publishing``, ``querying``).

Source: Regulation (EU) 2018/1862, Article 56(3): technical copies are kept no longer than 48 hours, and an inventory
of them is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from connector_psi.audit.entries import Side
from connector_psi.domain.purposes import Purpose
from connector_psi.encoding.manifest import decode_time, parse_manifest
from connector_psi.errors import PurposeRefusedError
from connector_psi.node.node import OWNER, QUERIER, Node, millis
from connector_psi.node.oversight import agreements_told
from connector_psi.pki import Role
from connector_psi.policy import authorities_of, own_purpose
from connector_psi.storage.inventory import SetRow, owned_sets, taken_sets_here
from connector_psi.storage.store import Tx

_HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class SetView:
    """A set that is here. Times are Unix milliseconds."""

    agreement: str
    side: str
    """``owner`` of one that was published here, ``querier`` of one that was taken."""
    peer: str
    epoch: int
    state: str
    begun_ms: int
    """When it was published, or taken."""
    snapshot_ms: int
    """As of when it shows its source."""
    not_after_ms: int
    age_s: int
    """Since the snapshot."""
    max_age_h: int | None
    """Of the agreement; None of one that is in no policy that was in force."""
    overdue: bool
    """It should be gone."""
    tokens: int | None
    """Of one that was published here."""
    size_class: int
    size_bytes: int
    """On the disk, with its deltas, and at the querier with the live tokens."""
    delta_seq: int
    manifest_hash: str
    leaf_index: int | None
    """Of its SET_PUBLISH in this log; None of one that was taken: that entry is in the owner's."""


def sets(node: Node, role: Role) -> list[SetView]:
    """Return every set that is here, by agreement and epoch.

    Args:
        node: The node.
        role: Who asks: sets at the owner's side of an agreement of which the owner gets no notice are shown to the data
            protection officer alone.

    Raises:
        PurposeRefusedError: The policy's purpose of oversight does not name the role.
    """
    node.check_alive()
    own_purpose(node.pack, Purpose.OVERSIGHT, role.value)
    told = agreements_told(node, role)
    with node.store.read() as tx:
        found = [
            *(_view(node, tx, row, OWNER) for row in owned_sets(tx) if told is None or row.agreement in told),
            *(_view(node, tx, row, QUERIER) for row in taken_sets_here(tx)),
        ]
    return sorted(found, key=lambda each: (each.agreement, each.epoch))


def _view(node: Node, tx: Tx, row: SetRow, side: Side) -> SetView:
    querier, owner = authorities_of(row.agreement)
    peer = querier if side is OWNER else owner
    try:
        max_age_h: int | None = node.bound_of_case(tx, row.agreement, side, peer).agreement.max_set_age_h
    except PurposeRefusedError:
        max_age_h = None
    manifest, now = parse_manifest(row.manifest), node.now_ms()
    snapshot = millis(decode_time(manifest.source_snapshot))
    layout = node.layout
    folder = (layout.owned_set if side is OWNER else layout.taken_set)(row.agreement, row.epoch)
    return SetView(
        agreement=row.agreement,
        side=side.value,
        peer=peer,
        epoch=row.epoch,
        state=row.state,
        begun_ms=row.begun_ms,
        snapshot_ms=snapshot,
        not_after_ms=row.not_after_ms,
        age_s=max(0, now - snapshot) // 1000,
        max_age_h=max_age_h,
        overdue=now >= row.not_after_ms or (max_age_h is not None and now - snapshot >= max_age_h * _HOUR_MS),
        tokens=row.tokens,
        size_class=manifest.size_class,
        size_bytes=sum(_sizes(folder)),
        delta_seq=row.delta_seq,
        manifest_hash=row.manifest_hash.hex(),
        leaf_index=row.leaf_index,
    )


def _sizes(folder: Path) -> Iterator[int]:
    try:
        for path in folder.iterdir():
            yield path.stat().st_size
    except OSError:
        # It is being ended, or was never fetched.
        return
