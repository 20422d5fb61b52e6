"""The federation of the simulation with real ports between its nodes: mutual TLS on loopback, every message recorded, a manual clock."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from connector_psi.rpc import tls  # isort: skip  # sets up gRPC's environment before gRPC is loaded

import grpc

from connector_psi import pki
from connector_psi.node.descriptor import encode_descriptor, parse_descriptor
from connector_psi.node.service import Service
from connector_psi.rpc.client import LocalClient, PeerConnector
from connector_psi.rpc.local import Serving, serving_file, write_serving
from connector_psi.rpc.server import Ports
from tests.simulation.federation import Federation, SeededRandom


@dataclass(frozen=True)
class Message:
    """One recorded message, as it was before encryption."""

    owner: str
    """Whose peer port it crossed."""
    method: str
    direction: str
    """``request``: from querier to owner."""
    data: bytes = field(repr=False)


class Wired(Federation):
    """Nodes of one process that reach one another over gRPC, and that command lines and callers with certificates reach too."""

    def __init__(
        self,
        root: Path,
        seed: str = "wired",
        profiles: Sequence[str] = ("ics2", "sis"),
        start: datetime | None = None,
    ) -> None:
        self.ports: dict[str, Ports] = {}
        self._wire = root / "wire"
        self._wire.mkdir(parents=True)
        super().__init__(root, seed, profiles, start)
        for code in self.services:
            node = self.services[code].node
            described = parse_descriptor((root / code / "descriptor.json").read_bytes())
            here = described.model_copy(update={"address": self.ports[code].peer_address})
            for other in self.services:
                if other != code:
                    self.services[other].peering.add(encode_descriptor(here, node.signing_key))

    def open(self, code: str) -> Service:
        settings = self.root / code / "node.toml"
        if "[transcript]" not in settings.read_text():
            settings.write_text(f'{settings.read_text()}\n[transcript]\npath = "{self._wire / code}.jsonl"\n')
        self._opened += 1
        random = SeededRandom(f"{self.seed}/{code}/{self._opened}")
        service = Service(self.root / code, PeerConnector, self.clock, random)
        self.services[code] = service
        ports = Ports(service, peer="127.0.0.1:0", local="127.0.0.1:0")
        ports.serving(yes=True)
        self.ports[code] = ports
        write_serving(service.node.layout, Serving(os.getpid(), ports.peer_address, ports.local_address))
        return service

    def close(self, code: str | None = None) -> None:
        for name in [code] if code else list(self.services):
            service = self.services[name]
            serving_file(service.node.layout).unlink(missing_ok=True)
            if isinstance(service.connector, PeerConnector):
                service.connector.close()
            self.ports.pop(name).stop(0)
            super().close(name)

    def messages(self) -> list[Message]:
        """Everything that crossed the peer ports so far."""
        found = []
        for path in sorted(self._wire.glob("*.jsonl")):
            for line in path.read_text("ascii").splitlines():
                said = json.loads(line)
                data = base64.b64decode(said["data"])
                found.append(Message(path.stem, said["method"].rpartition("/")[2], said["direction"], data))
        return found

    @contextmanager
    def as_peer(self, caller: str, owner: str) -> Iterator[grpc.Channel]:
        """The owner's peer port, as another authority reaches it."""
        node = self.services[caller].node
        with tls.channel(self.ports[owner].peer_address, owner, node.credentials, node.root_pem) as channel:
            yield channel

    @contextmanager
    def as_person(self, code: str, person: str) -> Iterator[LocalClient]:
        """A node's local port, as one of its people reaches it."""
        node = self.services[code].node
        credentials = pki.load_credentials(node.layout.people / f"{person}.crt")
        with LocalClient(self.ports[code].local_address, code, credentials, node.root_pem) as client:
            yield client
