"""The policies that came into force, the newest of them in force now, with the signatures that brought them there."""

from __future__ import annotations

from dataclasses import dataclass, field

import sqlalchemy as sa

from connector_psi.storage.schema import policies
from connector_psi.storage.store import Tx


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """A policy as it came into force."""

    pack_hash: bytes
    policy: bytes = field(repr=False)
    """The file."""
    signatures: bytes = field(repr=False)
    """The file of signatures that brought it into force."""
    in_force_ms: int
    """Unix milliseconds."""
    leaf_index: int
    """Of its POLICY_CHANGE."""


_COLUMNS = tuple(policies.c[name] for name in PolicyRow.__dataclass_fields__)


def in_force(tx: Tx) -> PolicyRow | None:
    """Return the policy in force, None before the first."""
    row = tx.execute(sa.select(*_COLUMNS).order_by(policies.c.seq.desc()).limit(1)).one_or_none()
    return PolicyRow(*row) if row else None


def history(tx: Tx) -> list[PolicyRow]:
    """Return every policy that was in force, the one in force first."""
    return [PolicyRow(*row) for row in tx.execute(sa.select(*_COLUMNS).order_by(policies.c.seq.desc()))]


def put_in_force(tx: Tx, row: PolicyRow) -> None:
    """Make a policy the one in force; those before it stay, for whoever asks later what was allowed when."""
    tx.execute(
        sa.insert(policies).values(
            pack_hash=row.pack_hash,
            policy=row.policy,
            signatures=row.signatures,
            in_force_ms=row.in_force_ms,
            leaf_index=row.leaf_index,
        )
    )
