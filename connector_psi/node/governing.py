"""The policy in force: read, held against its signatures, and changed in one transaction with its log entries.

Decides: with which policy a node opens, and what follows when it is another one than before. Leaves to others: what a
policy says and who may sign it (``pack``), what an agreement allows (``policy``).

Rules, in this order:

1. A node opens only with a policy that two people signed (``pack.signing``); every signature in the file must count.
2. A policy that is not the one in force comes into force when the node opens. Its signatures must be younger than the
   policy in force, and their certificates valid now: a file and its signatures from an old backup are no change that
   two people want. While it stays in force its signatures only need to have been good when they were given.
3. One transaction holds the change: the policy's bytes, a POLICY_CHANGE entry with the people and with what is newly
   allowed, and the agreements with every active peer, a POLICY_CHANGE entry for each that came, changed or ended.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from connector_psi import pki, policy
from connector_psi.audit.entries import Event, Side, encode_time
from connector_psi.errors import ConfigError, InputError
from connector_psi.node.descriptor import Descriptor, parse_descriptor
from connector_psi.pack import signing
from connector_psi.pack.diff import Change, diff
from connector_psi.pack.reading import parse_policy, read_policy, valid_policy
from connector_psi.policy import PolicyPack
from connector_psi.storage import peers as peer_store
from connector_psi.storage import policies
from connector_psi.storage.policies import PolicyRow

if TYPE_CHECKING:
    from connector_psi.node.node import Node
    from connector_psi.storage.store import Tx


@dataclass(frozen=True, slots=True)
class SignedPolicy:
    """A policy with the people who signed it."""

    pack: PolicyPack
    pack_hash: bytes
    raw: bytes
    signatures: bytes
    file: signing.Signatures
    signers: tuple[signing.Signer, ...]


def read_signed(path: Path, authority: str, root_pem: bytes, now: datetime) -> SignedPolicy:
    """Read a policy and the signatures beside it.

    Args:
        path: ``policy.yaml``.
        authority: Whose node it is.
        root_pem: The federation's root.
        now: Aware.

    Raises:
        ConfigError: The policy is wrong, or not signed by two people; the text names the command that signs.
    """
    raw = read_policy(path)
    pack = valid_policy(raw, str(path))
    found = signing.load_signatures(path)
    if found is None:
        raise ConfigError(f"{path}: not signed; {signing.teaching(str(path))}")
    file, signatures = found
    source = str(signing.signature_path(path))
    try:
        signers = signing.verify_signatures(file, pack, authority=authority, root_pem=root_pem, now=now, source=source)
    except ConfigError as error:
        raise ConfigError(f"{error}; {signing.teaching(str(path))}") from None
    signing.require_people(signers, str(path))
    return SignedPolicy(pack, policy.pack_hash(pack), raw, signatures, file, signers)


def bring_into_force(node: Node, signed: SignedPolicy) -> None:
    """Make a policy the one in force, if it is not; nothing of it is left if that fails.

    Raises:
        ConfigError: Its signatures do not bring it into force now.
        AuditError: The log is not to be trusted.
    """
    with node.store.write() as tx:
        before = policies.in_force(tx)
        if before is not None and before.pack_hash == signed.pack_hash:
            return
        _check_fresh(node, signed, before)
        old = pack_of(before)
        entry = node.append(
            tx,
            Event.POLICY_CHANGE,
            {
                "action": "policy",
                "old": before.pack_hash.hex() if before else None,
                "new": signed.pack_hash.hex(),
                "signers": [{"by": s.person.uri, "time": encode_time(s.time)} for s in signed.signers],
                "changes": [_told(change) for change in diff(old, signed.pack)],
            },
        )
        policies.put_in_force(
            tx, PolicyRow(signed.pack_hash, signed.raw, signed.signatures, node.now_ms(), entry.index)
        )
        for row in peer_store.list_peers(tx):
            if row.state == "active":
                fit_agreements(node, tx, parse_descriptor(row.descriptor))


def _check_fresh(node: Node, signed: SignedPolicy, before: PolicyRow | None) -> None:
    path = node.layout.policy
    since = datetime.fromtimestamp((before.in_force_ms // 1000) if before else 0, tz=UTC)
    for index, (each, signer) in enumerate(zip(signed.file.signatures, signed.signers, strict=True)):
        place = f"{signing.signature_path(path)}: signatures[{index}]"
        if signer.time < since:
            raise ConfigError(
                f"{place}: older than the policy in force, which it would replace; {signing.teaching(str(path))}"
            )
        try:
            pki.check_validity(each.certificate, node.clock.now())
        except InputError as error:
            raise ConfigError(f"{place}: {error}; {signing.teaching(str(path))}") from None


def pack_of(row: PolicyRow | None) -> PolicyPack | None:
    """Return a pack that was in force; None if this version does not read it, and then everything counts as new."""
    if row is None:
        return None
    try:
        return parse_policy(row.policy)
    except ConfigError:
        return None


def _told(change: Change) -> dict[str, Any]:
    return {
        "agreement": change.agreement,
        "key": change.key,
        "kind": change.kind.value,
        "widens": change.widens,
        "text": change.text,
    }


def fit_agreements(node: Node, tx: Tx, peer: Descriptor) -> None:
    """Put the agreements of the node's policy with a peer in force, and end those that the policy does not hold.

    Args:
        node: Whose ``pack`` it is.
        tx: The transaction of what it follows from.
        peer: An active peer.

    Raises:
        ConfigError: A code is malformed, or an agreement cannot be made of a template.
    """
    found = policy.fitting_agreements(
        node.pack, (node.authority, node.config.node.role), (peer.authority, peer.role), node.synthetic
    )
    ended = peer_store.drop_agreements(tx, peer.authority, {agreement.code for agreement in found})
    for row in ended:
        _log(node, tx, "ended", row)
    for agreement in found:
        side = Side.QUERIER if agreement.querier == node.authority else Side.OWNER
        row = peer_store.AgreementRow(
            agreement.code,
            peer.authority,
            side.value,
            policy.policy_hash(agreement),
            agreement.model_dump_json().encode(),
        )
        if not peer_store.has_agreement(tx, row.code, row.policy_hash):
            peer_store.put_agreement(tx, replace(row, leaf_index=_log(node, tx, "in_force", row)))


def _log(node: Node, tx: Tx, action: str, row: peer_store.AgreementRow) -> int:
    return node.append(
        tx,
        Event.POLICY_CHANGE,
        # Whole, so that an audit can tell later what could be asked under it.
        {"action": action, "agreement": row.code, "definition": json.loads(row.definition)},
        agreement=row.code,
        policy_hash=row.policy_hash,
        side=Side(row.side),
    ).index
