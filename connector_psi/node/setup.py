"""Making a node directory: keys, certificates, settings and a signed policy from a profile, ``descriptor.json``.

Decides: what ``init`` writes. Leaves to others: what the files mean (``config``, ``policy``, ``pack.signing``,
``keyring``, ``pki``).
"""

from __future__ import annotations

import shutil
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from connector_psi import pki
from connector_psi.audit.checkpoint import NoteSigner, encode_vkey
from connector_psi.audit.cosignature import Cosigner, encode_witness_key
from connector_psi.domain.clock import Clock, RandomSource
from connector_psi.domain.toml import parse_toml
from connector_psi.encoding.atomicfile import atomic_file
from connector_psi.errors import ConfigError, FormatError
from connector_psi.keyring import Keyring
from connector_psi.node.config import Layout, NodeConfig, parse_config
from connector_psi.node.descriptor import Descriptor, encode_descriptor, first_version, log_origin, witness_name
from connector_psi.pack import signing
from connector_psi.pack.reading import load_policy

CERTIFICATE_DAYS = 365
PEOPLE = (
    (pki.Role.ADMIN, "admin1"),
    (pki.Role.SYSTEM, "system1"),
    (pki.Role.OFFICER, "officer1"),
    (pki.Role.OFFICER, "officer2"),
    (pki.Role.SUPERVISOR, "supervisor1"),
    (pki.Role.SUPERVISOR, "supervisor2"),
    (pki.Role.DPO, "dpo1"),
    (pki.Role.AUDITOR, "auditor1"),
)
"""The people and systems of a new node on the development PKI; an agency issues its own."""

SIGNERS = ("admin1", "supervisor1")
"""Those of them who sign the profile's policy."""


def find_profile(name: str) -> Path:
    """Return the folder of a profile: a path, or the name of one that is shipped.

    Raises:
        ConfigError: There is no such profile; the text lists those that there are.
    """
    places = [
        Path(__file__).resolve().parents[2] / "nodes",
        Path(sysconfig.get_path("data")) / "share/connector_psi/nodes",
    ]
    for folder in (*(place / name for place in places), Path(name)):
        if (folder / "node.toml").is_file() and (folder / "policy.yaml").is_file():
            return folder
    known = sorted(
        {p.name for place in places if place.is_dir() for p in place.iterdir() if (p / "node.toml").is_file()}
    )
    raise ConfigError(f"profile: no such profile; shipped are: {', '.join(known)}")


def init_node(
    directory: Path,
    *,
    authority: str,
    profile: str,
    pkidir: Path,
    listen: str,
    local: str,
    clock: Clock,
    random: RandomSource,
    console: str = "",
) -> Descriptor:
    """Make a node directory.

    Args:
        directory: Must not exist, or be empty.
        authority: Code, ``[a-z0-9]{2,16}``.
        profile: Name of a shipped profile, or the path of a folder with node.toml and policy.yaml.
        pkidir: The development root; made on first use. All nodes of a test federation share it.
        listen: HOST:PORT of the peer port.
        local: HOST:PORT of the local port.
        clock: Time.
        random: Randomness.
        console: HOST:PORT of the web console; empty for none.

    Raises:
        ConfigError: The directory is in use, or an argument is wrong. What was begun is removed.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ConfigError(f"{directory}: exists and is not an empty directory")
    source = find_profile(profile)
    text = _node_toml(source, authority, profile, listen, local, console)
    config = parse_config(text.encode(), str(source / "node.toml"))
    load_policy(source / "policy.yaml")
    existed = directory.exists()
    try:
        root = pki.ensure_test_root(pkidir, clock)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        layout = Layout(directory)
        layout.config.write_text(text)
        shutil.copyfile(source / "policy.yaml", layout.policy)
        layout.root_cert.parent.mkdir(mode=0o700)
        layout.root_cert.write_bytes(root.cert_pem)
        hosts = [address.rpartition(":")[0].strip("[]") for address in (listen, local, console) if address]
        pki.save_credentials(pki.issue_authority(root, authority, hosts, clock, CERTIFICATE_DAYS), layout.node_cert)
        for role, person in PEOPLE:
            issued = pki.issue_person(root, authority, role, person, clock, CERTIFICATE_DAYS)
            pki.save_credentials(issued, layout.people / f"{person}.crt")
        sign_policy(layout, clock)
        keyring = Keyring.create(directory, random)
        descriptor = _descriptor(config, keyring, root.cert_pem)
        layout.descriptor.write_bytes(encode_descriptor(descriptor, keyring.signing_key))
        layout.first_descriptor.write_bytes(encode_descriptor(first_version(descriptor), keyring.signing_key))
    except BaseException as error:
        shutil.rmtree(directory, ignore_errors=True)
        if existed:
            directory.mkdir(mode=0o700, exist_ok=True)
        if isinstance(error, FormatError):
            raise ConfigError(str(error)) from None
        if isinstance(error, OSError):
            raise ConfigError(f"{directory}: {error.strerror}") from None
        raise
    return descriptor


def sign_policy(layout: Layout, clock: Clock, people: Sequence[str] = SIGNERS) -> None:
    """Sign the policy of a node directory as people whose keys lie in its ``people`` folder.

    For nodes on the development PKI: at an agency each person signs, with a key that nobody else has.

    Raises:
        ConfigError: The policy is wrong, or a key is not there.
        RefusedError: One of the people may not sign.
    """
    pack, signed = load_policy(layout.policy), None
    for person in people:
        signed = signing.sign_pack(pack, pki.load_credentials(layout.people / f"{person}.crt"), signed, clock.now())
    if signed is not None:
        with atomic_file(signing.signature_path(layout.policy)) as stream:
            stream.write(signing.encode_signatures(signed))


def _descriptor(config: NodeConfig, keyring: Keyring, root_pem: bytes) -> Descriptor:
    signer = NoteSigner(log_origin(config.node.authority), keyring.log_key)
    return Descriptor(
        v=2,
        authority=config.node.authority,
        role=config.node.role,
        address=config.node.listen,
        synthetic=config.node.synthetic,
        root_sha256=pki.root_fingerprint(root_pem),
        signing_key=keyring.signing_key.public_key().public_bytes_raw().hex(),
        log_vkey=encode_vkey(signer.vkey),
        witness_vkey=encode_witness_key(Cosigner(witness_name(config.node.authority), keyring.witness_key).key),
    )


def _node_toml(source: Path, authority: str, profile: str, listen: str, local: str, console: str) -> str:
    """The profile's settings, with this node's own lines in its [node] table."""
    text = (source / "node.toml").read_text()
    try:
        role = parse_toml(text.encode())["node"]["role"]
    except (FormatError, KeyError, TypeError):
        raise ConfigError(f"{source / 'node.toml'}: no role in [node]") from None
    if not all(
        part.isprintable() and '"' not in part and "\\" not in part
        for part in (authority, profile, listen, local, console)
    ):
        raise ConfigError("authority, profile, listen, local and console are plain text without quotes")
    own = (
        f'[node]\nauthority = "{authority}"\nprofile = "{Path(profile).name}"\nrole = "{role}"\n'
        f'listen = "{listen}"\nlocal = "{local}"\n'
        "# Written for a development root: only other synthetic nodes are talked to.\nsynthetic = true\n"
    )
    _, _, rest = text.partition("[node]")
    _, bracket, others = rest.partition("\n[")
    served = (
        f'\n[console]\n# The web console. Port 0 takes a free one at every start.\nlisten = "{console}"\n'
        if console
        else ""
    )
    return own + bracket + others + served
