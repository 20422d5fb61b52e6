"""Nodes as processes whose every call to one another passes a fault proxy.

A node's descriptor names the port of its proxy, so peers know no other; the node itself listens beside it. TLS is end to end: the proxy
sees what a network sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.integration import live  # isort: skip  # sets up gRPC's environment before gRPC is loaded

from connector_psi.node.config import Layout, load_config
from connector_psi.node.descriptor import parse_descriptor
from connector_psi.node.service import Service
from connector_psi.rpc.client import PeerConnector
from connector_psi.storage import schema
from tests.faults.proxy import FaultProxy
from tests.simulation.faults import AGREEMENT


def make_linked_node(root: Path, authority: str, profile: str) -> Path:
    """Init a node that listens elsewhere than its descriptor says: there, a proxy is to be."""
    directory = live.make_node(root, authority, profile)
    settings = Layout(directory).config
    text, told = settings.read_text(), f'listen = "{told_address(directory)}"'
    assert told in text
    settings.write_text(text.replace(told, f'listen = "127.0.0.1:{live.free_port()}"'))
    return directory


def told_address(directory: Path) -> str:
    """Return what peers dial."""
    return parse_descriptor(Layout(directory).descriptor.read_bytes()).address


def proxy_of(directory: Path, seed: int) -> FaultProxy:
    """Stand in front of a node, where its peers look for it."""
    config, _ = load_config(directory)
    port = int(told_address(directory).rpartition(":")[2])
    return FaultProxy(config.node.listen, port=port, seed=seed)


def make_federation(
    root: Path, profiles: Mapping[str, str], make: Callable[[Path, str, str], Path], *, alone: bool = True
) -> list[Path]:
    """Init nodes and let all of them know one another.

    Args:
        root: Where the node directories and the PKI go.
        profiles: Profile by authority.
        make: Makes one node.
        alone: Under one agreement alone, which costs less than all that the profiles have.
    """
    directories = [make(root, authority, profile) for authority, profile in profiles.items()]
    for directory in directories:
        live.introduce(directory, *(peer for peer in directories if peer != directory))
        if not alone:
            continue
        service = Service(directory, PeerConnector)
        try:
            with service.node.store.write() as tx:
                tx.execute(schema.agreements.delete().where(schema.agreements.c.code != AGREEMENT))
        finally:
            service.close()
    return directories


@contextmanager
def proxies(*directories: Path, seed: int) -> Iterator[dict[str, FaultProxy]]:
    """Stand in front of some nodes for the length of a block; proxies by authority."""
    made: dict[str, FaultProxy] = {}
    try:
        for directory in directories:
            made[directory.name] = proxy_of(directory, seed)
        yield made
    finally:
        for proxy in made.values():
            proxy.close()
