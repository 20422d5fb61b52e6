"""Peers and the agreements with them."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from connector_psi.storage.schema import agreements, peers
from connector_psi.storage.store import Tx


@dataclass(frozen=True, slots=True)
class PeerRow:
    """A peer as stored."""

    authority: str
    descriptor: bytes
    state: str


@dataclass(frozen=True, slots=True)
class AgreementRow:
    """An instantiated agreement: its canonical JSON and which side this node is."""

    code: str
    peer: str
    side: str
    policy_hash: bytes
    definition: bytes
    leaf_index: int = -1
    """Of the POLICY_CHANGE that brought it into force."""


_AGREEMENT = tuple(agreements.c[name] for name in AgreementRow.__dataclass_fields__)


def put_peer(tx: Tx, authority: str, descriptor: bytes, now_ms: int) -> None:
    """Add a peer, or replace the descriptor of a known one."""
    tx.execute(sa.delete(peers).where(peers.c.authority == authority))
    tx.execute(sa.insert(peers).values(authority=authority, descriptor=descriptor, state="active", added_ms=now_ms))


def revoke_peer(tx: Tx, authority: str) -> bool:
    """Mark a peer as revoked. Returns whether there was an active one."""
    done = tx.execute(
        sa.update(peers).where(peers.c.authority == authority, peers.c.state == "active").values(state="revoked")
    )
    return bool(done.rowcount)


def list_peers(tx: Tx) -> list[PeerRow]:
    """Return all peers, revoked ones too."""
    rows = tx.execute(sa.select(peers.c.authority, peers.c.descriptor, peers.c.state).order_by(peers.c.authority))
    return [PeerRow(*row) for row in rows]


def has_agreement(tx: Tx, code: str, policy_hash: bytes) -> bool:
    """Return whether exactly this agreement is stored."""
    return tx.execute(sa.select(agreements.c.policy_hash).where(agreements.c.code == code)).scalar() == policy_hash


def put_agreement(tx: Tx, row: AgreementRow) -> None:
    """Store an agreement in the place of an earlier one of its code."""
    tx.execute(sa.delete(agreements).where(agreements.c.code == row.code))
    tx.execute(
        sa.insert(agreements).values(
            code=row.code,
            peer=row.peer,
            side=row.side,
            policy_hash=row.policy_hash,
            definition=row.definition,
            leaf_index=row.leaf_index,
        )
    )


def drop_agreements(tx: Tx, peer: str, keep: set[str]) -> list[AgreementRow]:
    """Delete the agreements with a peer that are not in ``keep``; returns them in the order of their codes."""
    rows = tx.execute(sa.select(*_AGREEMENT).where(agreements.c.peer == peer).order_by(agreements.c.code))
    gone = [AgreementRow(*row) for row in rows if row.code not in keep]
    for row in gone:
        tx.execute(sa.delete(agreements).where(agreements.c.code == row.code))
    return gone


def get_agreement(tx: Tx, code: str) -> AgreementRow | None:
    """Return an agreement, also one with a revoked peer."""
    row = tx.execute(sa.select(*_AGREEMENT).where(agreements.c.code == code)).one_or_none()
    return AgreementRow(*row) if row else None


def list_agreements(tx: Tx) -> list[AgreementRow]:
    """Return all agreements with active peers."""
    rows = tx.execute(
        sa.select(*_AGREEMENT)
        .join(peers, peers.c.authority == agreements.c.peer)
        .where(peers.c.state == "active")
        .order_by(agreements.c.code)
    )
    return [AgreementRow(*row) for row in rows]
