"""What people hand over as files: descriptors, settings, policies, certificates."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import rfc8785
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from connector_psi import pki
from connector_psi.audit import checkpoint
from connector_psi.audit.cosignature import WitnessKey, encode_witness_key
from connector_psi.domain.purposes import ProfileRole
from connector_psi.errors import (
    ConfigError,
    FormatError,
    InputError,
)
from connector_psi.node import config, descriptor
from connector_psi.pack import signing
from connector_psi.pack.checks import Finding, check_pack
from connector_psi.pack.reading import load_policy, parse_policy
from connector_psi.policy import PolicyPack
from tests.fuzz.harness import Target, folder, promise
from tests.fuzz.mutation import Shape
from tests.fuzz.scene import KEY, NODES, NOW, SIGNER, inverse, kept, object_of, text_of
from tests.simulation.memory_log import FixedClock


def _signed_descriptor(data: bytes) -> bytes:
    """The peer signs whatever it wrote, if it left the signature out."""
    value = object_of(data)
    if value is None or "signature" in value:
        return data
    try:
        value["signature"] = KEY.sign(descriptor._LABEL + rfc8785.dumps(value)).hex()
        return json.dumps(value).encode()
    except (ValueError, TypeError, RecursionError):
        return data


def _descriptors() -> Iterator[bytes]:
    made = descriptor.Descriptor(
        v=2, authority="sis", role=ProfileRole.NSIS, address="node.sis.example:8443", synthetic=True, root_sha256="0a" * 32,
        signing_key=KEY.public_key().public_bytes_raw().hex(), log_vkey=checkpoint.encode_vkey(checkpoint.VKey(descriptor.log_origin("sis"), SIGNER.vkey.public_key)),
        witness_vkey=encode_witness_key(WitnessKey(descriptor.witness_name("sis"), SIGNER.vkey.public_key)),
    )  # fmt: skip
    signed = descriptor.encode_descriptor(made, KEY)
    yield signed
    yield json.dumps({name: value for name, value in json.loads(signed).items() if name != "signature"}).encode()


def _settings() -> Iterator[bytes]:
    for name in ("ics2", "sis", "europol"):
        text = (NODES / name / "node.toml").read_text(encoding="utf-8")
        own = f'[node]\nauthority = "{name}"\nprofile = "{name}"\nlisten = "node.example:1"\nlocal = "127.0.0.1:2"\nsynthetic = true\n'
        yield text.replace("[node]\n", own, 1).encode()
    yield b'[node]\nauthority = "ab"\nprofile = "x"\nrole = "nsis"\nlisten = "a:1"\nlocal = "b:2"\nsynthetic = false\n[storage]\nurl = "sqlite"\n'


def _check_policy(data: bytes) -> list[Finding]:
    pack = parse_policy(data)
    return check_pack(pack)


def _policies() -> Iterator[bytes]:
    for name in ("ics2", "sis", "europol"):
        whole = (NODES / name / "policy.yaml").read_bytes()
        yield whole
        # One template alone, so that a change meets less that was right already.
        head, *templates = whole.split(b"\n  ")
        yield head + b"\n  " + b"\n  ".join(templates[: max(1, len(templates) // 3)])


@cache
def _signing() -> tuple[bytes, PolicyPack, bytes]:
    """The root, a pack, and the file that two people signed."""
    clock, pack = FixedClock(NOW), load_policy(NODES / "sis" / "policy.yaml")
    place = Path(mkdtemp(dir=folder()))
    root = pki.ensure_test_root(place, clock)
    file = None
    for role in (pki.Role.ADMIN, pki.Role.SUPERVISOR):
        pki.save_credentials(pki.issue_person(root, "sis", role, role, clock, 30), place / f"{role}.crt")
        file = signing.sign_pack(pack, pki.load_credentials(place / f"{role}.crt"), file, NOW)
    assert file is not None
    return root.cert_pem, pack, signing.encode_signatures(file)


def _signature_files() -> Iterator[bytes]:
    _, _, raw = _signing()
    yield raw
    value = json.loads(raw)
    yield rfc8785.dumps({**value, "signatures": value["signatures"][:1]})
    yield rfc8785.dumps({**value, "signatures": []})


def _canonical(data: bytes) -> bytes:
    """Whoever writes a file can write it in its one form, so that changes get as far as what it says."""
    value = object_of(data)
    try:
        return data if value is None else rfc8785.dumps(value)
    except (ValueError, TypeError, RecursionError):
        return data


def _signers(data: bytes) -> tuple[signing.Signer, ...]:
    root, pack, _ = _signing()
    file = signing.parse_signatures(data)
    return signing.verify_signatures(file, pack, authority="sis", root_pem=root, now=NOW)


@cache
def _certificates() -> tuple[bytes, bytes, bytes]:
    clock = FixedClock(NOW)
    root = pki.ensure_test_root(Path(mkdtemp(dir=folder())), clock)
    chain = pki.issue_authority(root, "ics2", ["node.customs.example", "192.0.2.7"], clock, 30).cert_pem
    person = pki.issue_person(root, "sis", pki.Role.OFFICER, "o1", clock, 30).cert_pem
    return root.cert_pem, chain, person


def _certificate_seeds() -> Iterator[bytes]:
    for pem in _certificates():
        yield pem
        yield x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


def _pem(data: bytes) -> bytes:
    """Bytes that are no PEM become the content of one, so that changes of a certificate get as far as its parts."""
    if data.startswith(b"-----"):
        return data
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(data) + b"-----END CERTIFICATE-----\n"


def _uris() -> Iterator[bytes]:
    yield b"urn:connector-psi:authority:ics2"
    for role in pki.Role:
        yield f"urn:connector-psi:person:sis:{role}:a.b-C_9".encode()


def targets() -> Iterator[Target]:
    """Yield the targets."""
    yield Target(
        "descriptor", descriptor.parse_descriptor, (ConfigError,), _descriptors, Shape.JSON, prepare=_signed_descriptor
    )
    yield Target(
        "node-toml",
        lambda data: config.parse_config(data, "node.toml"),
        (ConfigError,),
        _settings,
        Shape.TEXT,
        names_keys=True,
    )
    yield Target("policy", _check_policy, (ConfigError,), _policies, Shape.TEXT, names_keys=True)
    yield Target(
        "policy-signatures", kept(signing.parse_signatures), (ConfigError,), _signature_files, Shape.JSON,
        prepare=_canonical, check=inverse(signing.encode_signatures), max_bytes=signing.MAX_SIGNATURE_BYTES + 1,
    )  # fmt: skip
    yield Target(
        "policy-signers", _signers, (ConfigError,), _signature_files, Shape.JSON, prepare=_canonical,
        check=lambda found: promise(
            {s.person.id for s in found} <= {"admin", "supervisor"}, "a person who signed nothing"
        ),
    )  # fmt: skip
    yield Target(
        "certificate", pki.identity_of, (FormatError,), _certificate_seeds, Shape.BYTES,
        check=lambda it: promise(pki.parse_identity(it.uri) == it, "an identity that its URI does not give back"),
    )  # fmt: skip
    for name, decode, refuses in (
        ("certificate-chain", lambda pem: pki.verify_identity(pem, _certificates()[0], NOW), InputError),
        ("certificate-validity", lambda pem: pki.check_validity(pem, NOW), InputError),
        ("certificate-root", lambda pem: (pki.root_fingerprint(pem), pki.is_test_root(pem)), FormatError),
    ):
        yield Target(name, decode, (refuses,), _certificate_seeds, Shape.BYTES, prepare=_pem)
    yield Target(
        "identity-uri", lambda text: (text, pki.parse_identity(text)), (FormatError,), _uris, Shape.TEXT, prepare=text_of,
        check=lambda value: promise(value[1].uri == value[0], "two URIs of one identity"), max_bytes=4096,
    )  # fmt: skip
