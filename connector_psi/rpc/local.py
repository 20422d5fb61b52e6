"""Reaching a node directory, whether or not it is being served.

While ``serve`` runs, calls go to its local port. Otherwise the node is opened in this process and its local port
served on a free loopback port for as long as the call takes: the same authentication, the same roles, the same code.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from connector_psi import pki
from connector_psi.domain.clock import SystemClock
from connector_psi.errors import ConfigError, InputError, RefusedError, UnavailableError
from connector_psi.node.config import Layout, load_config
from connector_psi.rpc.client import LocalClient
from connector_psi.storage.lock import lock_is_free

_LOCAL_ONLY = "127.0.0.1:0"


@dataclass(frozen=True, slots=True)
class Serving:
    """The running ``serve`` of a node directory."""

    pid: int
    peer: str
    local: str
    console: str = ""
    """URL of the web console; empty where there is none."""


def serving_file(layout: Layout) -> Path:
    """Return where ``serve`` writes its addresses."""
    return layout.data / "serving.json"


def write_serving(layout: Layout, serving: Serving) -> None:
    """Tell other processes where this one serves."""
    path = serving_file(layout)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(asdict(serving)))
    partial.replace(path)


def find_certificate(layout: Layout, role: pki.Role) -> Path:
    """Return a certificate of a role in the node directory's ``people`` folder.

    Raises:
        ConfigError: There is none.
    """
    for path in sorted(layout.people.glob("*.crt")):
        with suppress(ConfigError):
            identity = pki.load_credentials(path).identity
            if isinstance(identity, pki.PersonIdentity) and identity.role is role:
                return path
    raise ConfigError(f"{layout.people}: no certificate of role {role.value}; name one with --as")


def is_served(directory: Path) -> bool:
    """Return whether ``serve`` runs for a node directory.

    Raises:
        ConfigError: No node directory.
    """
    return serving_of(directory) is not None


def serving_of(directory: Path) -> Serving | None:
    """Return the running ``serve`` of a node directory, None without one.

    Raises:
        ConfigError: No node directory.
    """
    return _serving(load_config(directory)[1])


@contextmanager
def open_local(
    directory: Path, certificate: Path | pki.Role, *, loops: bool = False, served: bool = False
) -> Iterator[LocalClient]:
    """Connect to a node as a person or a system.

    Args:
        directory: The node directory.
        certificate: PEM of whoever calls, its key beside it; or a role, whose certificate is looked for in the
            directory.
        loops: Whether a node that is not being served has to work (publish, query) meanwhile.
        served: Whether to leave a node alone that is not being served: its ``serve`` is starting anew.

    Raises:
        ConfigError: No node directory, or no usable certificate.
        RefusedError: The certificate is not, or no longer, one of the federation.
        UnavailableError: Another process has the node open without serving it, or nobody does and ``served`` is asked.
    """
    config, layout = load_config(directory)
    path = find_certificate(layout, certificate) if isinstance(certificate, pki.Role) else certificate
    credentials = pki.load_credentials(path)
    root_pem = layout.root_cert.read_bytes()
    try:
        # The handshake would refuse it too, and tell nobody why.
        pki.verify_identity(credentials.cert_pem, root_pem, SystemClock().now())
    except InputError as error:
        raise RefusedError(f"{path}: {error}") from None
    serving = _serving(layout)
    if serving is not None:
        with LocalClient(serving.local, config.node.authority, credentials, root_pem) as client:
            yield client
        return
    if served:
        raise UnavailableError(f"{directory}: not served now")
    from connector_psi.rpc import server  # noqa: PLC0415 - a node that is served is not opened here

    service = server.open_node(directory)
    try:
        ports = server.Ports(service, peer=None, local=_LOCAL_ONLY)
        try:
            if loops:
                service.start()
            with LocalClient(ports.local_address, config.node.authority, credentials, root_pem) as client:
                yield client
        finally:
            ports.stop(5)
        service.tick_log()
    finally:
        service.close()


def _serving(layout: Layout) -> Serving | None:
    """The running ``serve``, if its process is alive; a file that a killed one left is not believed."""
    try:
        found = json.loads(serving_file(layout).read_text())
        serving = Serving(int(found["pid"]), str(found["peer"]), str(found["local"]), str(found.get("console", "")))
        os.kill(serving.pid, 0)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None if lock_is_free(layout.lock) else serving
