"""The federation: adding, listing and revoking peers, and the agreements that follow from it."""

from __future__ import annotations

from dataclasses import dataclass

from connector_psi import pki
from connector_psi.audit.entries import Event
from connector_psi.errors import ConfigError
from connector_psi.node.descriptor import Descriptor, parse_descriptor
from connector_psi.node.governing import fit_agreements
from connector_psi.node.node import Node
from connector_psi.storage import peers as store


@dataclass(frozen=True, slots=True)
class PeerView:
    """A peer as it is listed."""

    authority: str
    role: str
    address: str
    state: str
    agreements: tuple[str, ...]


class Peering:
    """Use cases of the administrator."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def add(self, raw: bytes) -> PeerView:
        """Add a peer from its ``descriptor.json`` and put every agreement in force that fits both.

        Raises:
            ConfigError: The descriptor is malformed, is this node's own, belongs to another root, or one of the
                two nodes is synthetic
                and the other is not.
        """
        node = self._node
        descriptor = parse_descriptor(raw)
        if descriptor.authority == node.authority:
            raise ConfigError("descriptor: it is this node's own")
        if descriptor.synthetic != node.synthetic:
            raise ConfigError("descriptor: a synthetic and a real node refuse each other")
        if descriptor.root_sha256 != pki.root_fingerprint(node.root_pem):
            raise ConfigError("descriptor: its node was made under another root certificate")
        with node.store.write() as tx:
            store.put_peer(tx, descriptor.authority, raw, node.now_ms())
            node.append(tx, Event.CONFIG, {"action": "peer_add", "peer": descriptor.authority})
            fit_agreements(node, tx, descriptor)
        node.refresh_peers()
        return self._view(descriptor, "active")

    def list(self) -> list[PeerView]:
        """Return all peers, revoked ones too."""
        with self._node.store.read() as tx:
            rows = store.list_peers(tx)
        return [self._view(parse_descriptor(row.descriptor), row.state) for row in rows]

    def revoke(self, authority: str) -> bool:
        """Stop all exchange with a peer at once. Returns whether there was an active one."""
        node = self._node
        with node.store.write() as tx:
            done = store.revoke_peer(tx, authority)
            if done:
                node.append(tx, Event.CONFIG, {"action": "peer_revoke", "peer": authority})
        node.refresh_peers()
        return done

    def _view(self, d: Descriptor, state: str) -> PeerView:
        codes = tuple(b.code for b in self._node.agreements() if b.peer == d.authority) if state == "active" else ()
        return PeerView(d.authority, d.role.value, d.address, state, codes)
