"""X.509 identities of authorities and of people, and a test root to issue them for synthetic data.

Decides: how an identity is written in a certificate (one SAN URI, below), what makes a certificate usable as
an identity, and the profile of the certificates that the development PKI issues. Leaves to others: the TLS
handshake itself (``rpc``), what an identity may do (``policy``), the agency's own certification authority, which
replaces the test root in production (``keys/README.md``), and revocation, which is removing a peer from the federation.

::

    urn:connector-psi:authority:CODE           a node; server and client of the peer port
    urn:connector-psi:person:CODE:ROLE:ID      a person or a system of that authority; client only

Rules that every reader of a certificate relies on:

1. Exactly one SAN URI is in our scheme; a second one, even with other capitals, makes the certificate malformed.
   Other names (DNS, IP, other URIs) say nothing about identity.
2. Identities are compared as parsed values, never as text found somewhere in a subject name.
3. A private key file that the group or the world can read is refused, as ``ssh`` does.

Certificates carry no URI name constraint: the path validation of ``cryptography`` refuses an authority that has one.
Keys and serial numbers come from the generator of ``cryptography``, which takes no injected source.
"""

from __future__ import annotations

import fcntl
import hashlib
import ipaddress
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import NoReturn

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes, PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from connector_psi.domain.clock import Clock
from connector_psi.errors import ConfigError, FormatError, InputError

TEST_ROOT_NAME = "connector_psi TEST root - synthetic data only"
TEST_ROOT_DAYS = 3650
CLOCK_SKEW = timedelta(seconds=120)
"""How far clocks may differ: certificates start that much earlier than the clock of the issuer says."""

_SCHEME = "urn:connector-psi:"
_AUTHORITY = re.compile(r"urn:connector-psi:authority:([a-z0-9]{2,16})")
_PERSON = re.compile(r"urn:connector-psi:person:([a-z0-9]{2,16}):([a-z]{1,16}):([A-Za-z0-9._-]{1,64})")
_PEM_KEY = re.compile(rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----.+?-----END (?:[A-Z]+ )?PRIVATE KEY-----\n?", re.DOTALL)
_PSS = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
_PEM_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)
# What pyca raises on bytes that are no certificate, depending on how deep the fault lies.
_MALFORMED = (
    ValueError,
    TypeError,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
)


class Role(StrEnum):
    """What a person or a system does at its authority."""

    OFFICER = "officer"
    SUPERVISOR = "supervisor"
    DPO = "dpo"
    AUDITOR = "auditor"
    ADMIN = "admin"
    SYSTEM = "system"


@dataclass(frozen=True)
class AuthorityIdentity:
    """A node of the federation."""

    authority: str

    @property
    def uri(self) -> str:
        """The SAN URI."""
        return f"{_SCHEME}authority:{self.authority}"


@dataclass(frozen=True)
class PersonIdentity:
    """A person or a system of an authority. The id is personal data and not part of the ``repr``."""

    authority: str
    role: Role
    id: str = field(repr=False)

    @property
    def uri(self) -> str:
        """The SAN URI; holds the id, so it goes into sealed bodies and never into a log line."""
        return f"{_SCHEME}person:{self.authority}:{self.role.value}:{self.id}"


def person_id(uri: str) -> str:
    """Return the id of a person from their SAN URI."""
    return uri.rsplit(":", 1)[-1]


Identity = AuthorityIdentity | PersonIdentity


@dataclass(frozen=True)
class IssuedCert:
    """A new certificate and its private key, both PEM (the key PKCS #8, not encrypted)."""

    cert_pem: bytes
    key_pem: bytes = field(repr=False)

    def __reduce__(self) -> NoReturn:
        """Refuse pickling: a private key leaves the process through ``save_credentials`` alone."""
        raise TypeError("a private key is not pickled")


@dataclass(frozen=True)
class Root:
    """The development authority: its certificate and the key that signs."""

    cert_pem: bytes
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    def __reduce__(self) -> NoReturn:
        """Refuse pickling."""
        raise TypeError("a private key is not pickled")


@dataclass(frozen=True)
class Credentials:
    """What a TLS endpoint presents: chain (leaf first), key, and who that makes it."""

    cert_pem: bytes
    key_pem: bytes = field(repr=False)
    identity: Identity

    def __reduce__(self) -> NoReturn:
        """Refuse pickling."""
        raise TypeError("a private key is not pickled")


# Identities


def parse_identity(uri: str) -> Identity:
    """Read a SAN URI of our scheme.

    Accepts the one spelling that ``uri`` of the result gives back, and no other.

    Raises:
        FormatError: Not such a URI; the text does not repeat it.
    """
    if match := _AUTHORITY.fullmatch(uri):
        return AuthorityIdentity(match[1])
    if match := _PERSON.fullmatch(uri):
        try:
            return PersonIdentity(match[1], Role(match[2]), match[3])
        except ValueError:
            raise FormatError("identity: unknown role") from None
    raise FormatError("identity: not a URI of this federation")


def identity_of(cert_pem_or_der: bytes) -> Identity:
    """Read whom a certificate names. Checks neither signature nor validity: TLS or ``verify_identity`` did.

    Args:
        cert_pem_or_der: One certificate; of a PEM chain the first, which is the leaf.

    Raises:
        FormatError: No certificate, or not exactly one SAN URI in our scheme.
    """
    return _identity(_parse_certificate(cert_pem_or_der))


def verify_identity(chain_pem: bytes, roots_pem: bytes, now: datetime) -> Identity:
    """Verify that a chain leads to one of the roots, and read whom its leaf names.

    For certificates that no handshake has verified, such as the one that a command is given to act as. Path, dates,
    constraints and client usage are checked (every identity here may be a client).

    Args:
        chain_pem: Leaf first, then intermediates.
        roots_pem: One root or more.
        now: Aware, UTC.

    Raises:
        FormatError: Not PEM certificates, or no identity in the leaf.
        InputError: The chain does not verify at that time.
    """
    try:
        leaf, *intermediates = x509.load_pem_x509_certificates(chain_pem)
        roots = x509.load_pem_x509_certificates(roots_pem)
    except _MALFORMED:
        raise FormatError("certificate: not a PEM chain") from None
    verifier = PolicyBuilder().store(Store(roots)).time(now).build_client_verifier()
    try:
        verifier.verify(leaf, intermediates)
    except _MALFORMED:
        # The library reads the parts of a certificate only when it comes to them.
        raise FormatError("certificate: malformed") from None
    except VerificationError:
        # The library's text may quote names of the certificate.
        raise InputError("certificate: does not verify against the federation's roots") from None
    return _identity(leaf)


def check_validity(cert: bytes, now: datetime) -> None:
    """Check that a certificate (PEM or DER) is valid at ``now``, for connections that outlive their handshake.

    Raises:
        FormatError: No certificate.
        InputError: Not yet valid, or expired.
    """
    certificate = _parse_certificate(cert)
    if now < certificate.not_valid_before_utc:
        raise InputError("certificate: not yet valid")
    if now > certificate.not_valid_after_utc:
        raise InputError("certificate: expired")


def root_fingerprint(pem: bytes) -> str:
    """Return SHA-256 over the DER form in lowercase hex: what two operators read to each other.

    Raises:
        FormatError: Not exactly one certificate.
    """
    return _only_certificate(pem).fingerprint(hashes.SHA256()).hex()


def is_test_root(pem: bytes) -> bool:
    """Say whether a root is a development root; a federation under one is marked synthetic.

    Raises:
        FormatError: Not exactly one certificate, or its name is malformed. A bundle has no single answer.
    """
    certificate = _only_certificate(pem)
    try:
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except _MALFORMED:
        raise FormatError("certificate: malformed name") from None
    return any(name.value == TEST_ROOT_NAME for name in names)


def authority_host(code: str) -> str:
    """Return the DNS name that binds a node's certificate to its authority.

    TLS checks a server's certificate against a host name, and on one machine (or behind one proxy) all nodes share
    theirs: any member of the federation would pass for any other. A client that asks for this name instead of the
    address it dialled reaches that authority or nobody. It is never resolved.

    Raises:
        FormatError: Not an authority code.
    """
    identity = parse_identity(AuthorityIdentity(code).uri)
    return f"{identity.authority}.connector-psi.internal"


# Signatures of people


def sign(credentials: Credentials, message: bytes) -> bytes:
    """Sign a message with the key of a certificate; ``verify_signature`` is the check.

    ECDSA with SHA-256 for keys on a curve, Ed25519, RSA-PSS with SHA-256. Whoever calls puts a label in front that
    says what is signed: TLS uses the same keys, with labels of its own.

    Raises:
        ConfigError: The key is of another kind.
    """
    key = serialization.load_pem_private_key(credentials.key_pem, password=None)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(message, ec.ECDSA(hashes.SHA256()))
    if isinstance(key, Ed25519PrivateKey):
        return key.sign(message)
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(message, _PSS, hashes.SHA256())
    raise ConfigError("certificate: a key of a kind that signs nothing here")


def verify_signature(cert: bytes, signature: bytes, message: bytes) -> None:
    """Check that the holder of a certificate (PEM or DER; of a chain the leaf) signed a message.

    Raises:
        FormatError: No certificate, or one whose key signs nothing here.
        InputError: The signature is not this holder's over this message.
    """
    key = _public_key(cert)
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
        elif isinstance(key, Ed25519PublicKey):
            key.verify(signature, message)
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, message, _PSS, hashes.SHA256())
        else:
            raise FormatError("certificate: a key of a kind that signs nothing here")
    except InvalidSignature:
        raise InputError("signature: does not verify") from None


def public_key_digest(cert: bytes) -> bytes:
    """Return SHA-256 over the public key of a certificate: equal for two certificates of one key.

    Raises:
        FormatError: No certificate, or a key of no supported kind.
    """
    key = _public_key(cert)
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(key.public_bytes(*form)).digest()


# The development PKI


def ensure_test_root(pkidir: Path, clock: Clock) -> Root:
    """Create the development root in ``pkidir`` (``root.crt``, ``root.key``), or load the one that is there.

    Any number of threads and processes that race get the same root: a lock is held while it is looked for and made. An
    interrupted creation is finished by the next call.

    Raises:
        ConfigError: The directory is unusable; its root is an agency's own (no key, or no test root), broken, expired,
            or its key is readable by others.
    """
    cert_path, key_path = pkidir / "root.crt", pkidir / "root.key"
    try:
        pkidir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(pkidir):
            # The certificate is written last: a key without one is a creation that never finished.
            if not cert_path.exists():
                root = _new_root(clock)
                _write(key_path, _key_pem(root.key), 0o600)
                _write(cert_path, root.cert_pem, 0o644)
                return root
            return _load_root(cert_path, key_path, clock)
    except OSError as error:
        raise ConfigError(f"{pkidir}: {error.strerror}") from None


def issue_authority(root: Root, code: str, hosts: Sequence[str], clock: Clock, days: int) -> IssuedCert:
    """Issue a node's certificate: SAN URI, ``authority_host``, the given hosts and loopback; server and client.

    Args:
        root: Who signs.
        code: Authority code, ``[a-z0-9]{2,16}``.
        hosts: DNS names and IP addresses that it listens on; ``0.0.0.0`` and ``::`` name nothing and are left out.
        clock: Validity starts ``CLOCK_SKEW`` before its now.
        days: Validity.

    Raises:
        FormatError: The code or a host has no valid form.
    """
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(AuthorityIdentity(code).uri)]
    for host in (authority_host(code), *hosts, "localhost", "127.0.0.1", "::1"):
        name = _host_name(host)
        if name is not None and name not in names:
            names.append(name)
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return _issue(root, f"authority {code}", names, usages, clock, days)


def issue_person(root: Root, code: str, role: Role, id: str, clock: Clock, days: int) -> IssuedCert:  # noqa: A002
    """Issue a certificate for a person or a system: SAN URI, client only. The subject name shows the role, not the id.

    Raises:
        FormatError: The code or the id has no valid form.
    """
    uri = PersonIdentity(code, role, id).uri
    parse_identity(uri)
    names = [x509.UniformResourceIdentifier(uri)]
    return _issue(root, f"{role.value} of {code}", names, [ExtendedKeyUsageOID.CLIENT_AUTH], clock, days)


# Files


def save_credentials(issued: IssuedCert, cert_path: Path) -> None:
    """Write ``X.crt`` and, beside it, ``X.key`` with mode 0600; each atomically, the key first.

    Raises:
        ConfigError: The place cannot be written.
    """
    try:
        cert_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(cert_path.parent):
            _write(cert_path.with_suffix(".key"), issued.key_pem, 0o600)
            _write(cert_path, issued.cert_pem, 0o644)
    except OSError as error:
        raise ConfigError(f"{cert_path}: {error.strerror}") from None


def load_credentials(cert_path: Path, key_path: Path | None = None) -> Credentials:
    """Load a certificate (with its chain, leaf first) and the key that belongs to it.

    Args:
        cert_path: PEM.
        key_path: PEM; without it, the key inside ``cert_path`` if there is one, else the file of the same name that
            ends in ``.key``.

    Raises:
        ConfigError: A file is missing, malformed or, holding the key, readable by others; the key is encrypted or does
            not belong to the certificate; the certificate names no identity.
    """
    text = _read(cert_path, private=False)
    if key_path is None and not _PEM_KEY.search(text):
        key_path = cert_path.with_suffix(".key")
    key_path = key_path or cert_path
    key_match = _PEM_KEY.search(_read(key_path, private=True))
    if key_match is None:
        raise ConfigError(f"{key_path}: no private key in PEM form")
    chain = b"".join(_PEM_CERTIFICATE.findall(text))
    key = _load_key(key_match[0], key_path)
    try:
        leaf = _parse_certificate(chain)
        identity = _identity(leaf)
        belongs = key.public_key() == leaf.public_key()
    except FormatError as error:
        raise ConfigError(f"{cert_path}: {error}") from None
    except _MALFORMED:
        raise ConfigError(f"{cert_path}: a public key of no supported kind") from None
    if not belongs:
        raise ConfigError(f"{key_path}: not the key of {cert_path.name}")
    return Credentials(chain, key_match[0], identity)


# Internals


def _parse_certificate(data: bytes) -> x509.Certificate:
    try:
        if b"-----BEGIN" in data:
            return x509.load_pem_x509_certificate(data)
        return x509.load_der_x509_certificate(data)
    except _MALFORMED:
        raise FormatError("certificate: neither PEM nor DER") from None


def _public_key(cert: bytes) -> CertificatePublicKeyTypes:
    try:
        return _parse_certificate(cert).public_key()
    except _MALFORMED:
        raise FormatError("certificate: a public key of no supported kind") from None


def _only_certificate(pem: bytes) -> x509.Certificate:
    try:
        (certificate,) = x509.load_pem_x509_certificates(pem)
    except _MALFORMED:
        raise FormatError("certificate: exactly one in PEM form is wanted") from None
    return certificate


def _identity(certificate: x509.Certificate) -> Identity:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, *_MALFORMED):
        raise FormatError("certificate: no readable subject alternative name") from None
    # Capitals are folded for counting only, so that a near-copy is refused instead of overlooked.
    ours = [uri for uri in names.get_values_for_type(x509.UniformResourceIdentifier) if uri.lower().startswith(_SCHEME)]
    if len(ours) != 1:
        raise FormatError("certificate: exactly one identity URI is wanted")
    return parse_identity(ours[0])


def _host_name(host: str) -> x509.GeneralName | None:
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        try:
            return x509.DNSName(host)
        except ValueError:
            raise FormatError("host: neither an address nor an ASCII name") from None
    return None if address.is_unspecified else x509.IPAddress(address)


def _new_root(clock: Clock) -> Root:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, TEST_ROOT_NAME)])
    certificate = (
        _builder(name, name, key.public_key(), clock, TEST_ROOT_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Root(certificate.public_bytes(serialization.Encoding.PEM), key)


def _load_root(cert_path: Path, key_path: Path, clock: Clock) -> Root:
    cert_pem = _read(cert_path, private=False)
    if not key_path.exists():
        raise ConfigError(f"{key_path}: missing; certificates under an agency's own root are issued by that agency")
    key = _load_key(_read(key_path, private=True), key_path)
    try:
        if not is_test_root(cert_pem):
            raise ConfigError(f"{cert_path}: not a development root; its agency issues the certificates")
        check_validity(cert_pem, clock.now())
        belongs = key.public_key() == _only_certificate(cert_pem).public_key()
    except InputError as error:
        raise ConfigError(f"{cert_path}: {error}") from None
    if not belongs or not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{key_path}: not the key of {cert_path.name}")
    return Root(cert_pem, key)


def _issue(
    root: Root,
    common_name: str,
    names: Sequence[x509.GeneralName],
    usages: Sequence[x509.ObjectIdentifier],
    clock: Clock,
    days: int,
) -> IssuedCert:
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.load_pem_x509_certificate(root.cert_pem)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    certificate = (
        _builder(subject, issuer.subject, key.public_key(), clock, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root.key.public_key()), critical=False)
        .sign(root.key, hashes.SHA256())
    )
    return IssuedCert(certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key))


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, clock: Clock, days: int
) -> x509.CertificateBuilder:
    now = clock.now().replace(microsecond=0)  # X.509 times have whole seconds
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=days))
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    encryption = serialization.NoEncryption()  # at rest the file mode protects it, see keys/README.md
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def _load_key(pem: bytes, path: Path) -> PrivateKeyTypes:
    try:
        return serialization.load_pem_private_key(pem, password=None)
    except _MALFORMED:
        raise ConfigError(f"{path}: no unencrypted private key in PEM form") from None


def _read(path: Path, *, private: bool) -> bytes:
    try:
        with path.open("rb") as file:
            if private and os.fstat(file.fileno()).st_mode & 0o077:
                raise ConfigError(f"{path}: a private key readable by others; chmod 600 it")
            return file.read()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None


# ``keyring`` has its own pair of these: the two are siblings, neither imports the other, and its files differ in kind
# (sealed, destroyable).


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the directory's lock; the kernel frees it when the process dies."""
    descriptor = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, data: bytes, mode: int) -> None:
    """Replace a file whole and durably; private from its first byte."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
