"""Identities in certificates, the development root, and both against the TLS stack that gRPC brings."""

from __future__ import annotations

import datetime as dt
import pickle
import random
import socket
import ssl
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from connector_psi import pki
from connector_psi.domain.clock import SystemClock
from connector_psi.errors import ConfigError, FormatError, InputError

CLOCK = SystemClock()


@dataclass
class FixedClock:
    at: dt.datetime

    def now(self) -> dt.datetime:
        return self.at

    def monotonic_s(self) -> float:
        return 0.0


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> pki.Root:
    return pki.ensure_test_root(tmp_path_factory.mktemp("pki"), CLOCK)


@pytest.fixture(scope="module")
def customs(root: pki.Root) -> pki.IssuedCert:
    return pki.issue_authority(root, "ics2", ["node.customs.example", "192.0.2.7"], CLOCK, 30)


def certificate_with(*uris: str) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(dt.datetime(2027, 1, 1, tzinfo=dt.UTC))
    )
    if uris:
        names = [x509.UniformResourceIdentifier(uri) for uri in uris]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


# Identities


@pytest.mark.parametrize(
    ("uri", "identity"),
    [
        ("urn:connector-psi:authority:ics2", pki.AuthorityIdentity("ics2")),
        ("urn:connector-psi:person:sis:officer:a.b-C_9", pki.PersonIdentity("sis", pki.Role.OFFICER, "a.b-C_9")),
        ("urn:connector-psi:person:sis:system:feed", pki.PersonIdentity("sis", pki.Role.SYSTEM, "feed")),
    ],
)
def test_identity_round_trip(uri: str, identity: pki.Identity) -> None:
    assert pki.parse_identity(uri) == identity
    assert identity.uri == uri


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "urn:connector-psi:authority:",
        "urn:connector-psi:authority:a",
        "urn:connector-psi:authority:" + "a" * 17,
        "urn:connector-psi:authority:ICS2",
        "urn:connector-psi:authority:ics2\n",
        "urn:connector-psi:authority:ics2:officer",
        "URN:connector-psi:authority:ics2",
        "xurn:connector-psi:authority:ics2",
        "urn:connector-psi:authority:\u0131cs2",
        "urn:connector-psi:person:sis:officer",
        "urn:connector-psi:person:sis:officer:",
        "urn:connector-psi:person:sis:minister:anna",
        "urn:connector-psi:person:sis:OFFICER:anna",
        "urn:connector-psi:person:sis:officer:anna smith",
        "urn:connector-psi:person:sis:officer:" + "a" * 65,
        "urn:connector-psi:person:sis:officer:an:na",
    ],
)
def test_other_spellings_are_refused_without_repeating_them(uri: str) -> None:
    with pytest.raises(FormatError) as caught:
        pki.parse_identity(uri)
    assert "anna" not in str(caught.value)


def test_every_role_has_its_documented_name() -> None:
    assert [role.value for role in pki.Role] == ["officer", "supervisor", "dpo", "auditor", "admin", "system"]


def test_identity_of_reads_pem_and_der(customs: pki.IssuedCert) -> None:
    der = x509.load_pem_x509_certificate(customs.cert_pem).public_bytes(serialization.Encoding.DER)
    assert pki.identity_of(customs.cert_pem) == pki.identity_of(der) == pki.AuthorityIdentity("ics2")


def test_other_uris_say_nothing() -> None:
    certificate = certificate_with("https://example.org/", "urn:connector-psi:authority:sis")
    assert pki.identity_of(certificate) == pki.AuthorityIdentity("sis")


@pytest.mark.parametrize(
    "uris",
    [
        (),
        ("https://example.org/",),
        ("urn:connector-psi:authority:sis", "urn:connector-psi:authority:ics2"),
        ("urn:connector-psi:authority:sis", "urn:connector-psi:authority:sis"),
        ("urn:connector-psi:authority:sis", "URN:CONNECTOR-PSI:authority:ics2"),
        ("urn:connector-psi:authority:sis", "urn:connector-psi:nonsense"),
        ("urn:connector-psi:nonsense",),
    ],
)
def test_not_exactly_one_identity_is_refused(uris: tuple[str, ...]) -> None:
    with pytest.raises(FormatError):
        pki.identity_of(certificate_with(*uris))


# The library still reads non-positive serial numbers, and says so; ours are never such.
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_damaged_certificates_have_one_failure_type(customs: pki.IssuedCert) -> None:
    rng = random.Random(7)
    der = x509.load_pem_x509_certificate(customs.cert_pem).public_bytes(serialization.Encoding.DER)
    refused = 0
    for _ in range(2000):
        damaged = bytearray(der)
        for _ in range(rng.randrange(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        cut = rng.choice([len(damaged), rng.randrange(len(damaged))])
        try:
            pki.identity_of(bytes(damaged[:cut]))
        except FormatError:
            refused += 1
    assert refused > 1000
    for data in (b"", b"-----BEGIN CERTIFICATE-----\n", b"\x30\x80", rng.randbytes(300)):
        with pytest.raises(FormatError):
            pki.identity_of(data)


# The development root


def test_root_is_created_once_and_marked(tmp_path: Path) -> None:
    folder = tmp_path / "pki"
    first = pki.ensure_test_root(folder, CLOCK)
    assert pki.ensure_test_root(folder, CLOCK).cert_pem == first.cert_pem == (folder / "root.crt").read_bytes()
    assert pki.is_test_root(first.cert_pem)
    certificate = x509.load_pem_x509_certificate(first.cert_pem)
    assert certificate.subject.rfc4514_string() == "CN=connector_psi TEST root - synthetic data only"
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
    assert stat.S_IMODE((folder / "root.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert b"BEGIN PRIVATE KEY" in (folder / "root.key").read_bytes()
    assert not list(folder.glob("*.tmp"))


def test_threads_that_race_get_one_root(tmp_path: Path) -> None:
    barrier = threading.Barrier(8)

    def make(_: int) -> bytes:
        barrier.wait()
        return pki.ensure_test_root(tmp_path / "pki", CLOCK).cert_pem

    with futures.ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(make, range(8)))) == 1


def test_processes_that_race_get_one_root(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from connector_psi import pki; from connector_psi.domain.clock import SystemClock;"
        "print('ready', flush=True); sys.stdin.readline(); print(pki.root_fingerprint(pki.ensure_test_root(Path(sys.argv[1]), SystemClock()).cert_pem))"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    fingerprints = {process.communicate(timeout=30)[0].strip() for process in processes}
    assert fingerprints == {pki.root_fingerprint((tmp_path / "root.crt").read_bytes())}


def test_an_interrupted_creation_is_finished(tmp_path: Path) -> None:
    pki.ensure_test_root(tmp_path, CLOCK)
    (tmp_path / "root.crt").unlink()
    (tmp_path / "root.key.tmp").write_bytes(b"half")
    root = pki.ensure_test_root(tmp_path, CLOCK)
    pki.verify_identity(pki.issue_authority(root, "sis", [], CLOCK, 1).cert_pem, root.cert_pem, CLOCK.now())
    assert pki.ensure_test_root(tmp_path, CLOCK).cert_pem == root.cert_pem


def test_an_unusable_root_is_a_configuration_error(tmp_path: Path) -> None:
    pki.ensure_test_root(tmp_path / "a", CLOCK)
    pki.ensure_test_root(tmp_path / "b", CLOCK)
    key = tmp_path / "a" / "root.key"

    key.chmod(0o640)
    with pytest.raises(ConfigError, match="readable by others"):
        pki.ensure_test_root(tmp_path / "a", CLOCK)
    key.chmod(0o600)

    pki.ensure_test_root(tmp_path / "a", FixedClock(CLOCK.now() + dt.timedelta(days=3649)))
    with pytest.raises(ConfigError, match="expired"):
        pki.ensure_test_root(tmp_path / "a", FixedClock(CLOCK.now() + dt.timedelta(days=3651)))

    key.write_bytes((tmp_path / "b" / "root.key").read_bytes())
    with pytest.raises(ConfigError, match="not the key"):
        pki.ensure_test_root(tmp_path / "a", CLOCK)

    key.unlink()
    with pytest.raises(ConfigError, match="issued by that agency"):
        pki.ensure_test_root(tmp_path / "a", CLOCK)


def test_a_root_that_is_no_test_root_signs_nothing(tmp_path: Path, customs: pki.IssuedCert) -> None:
    (tmp_path / "root.crt").write_bytes(customs.cert_pem)
    (tmp_path / "root.key").write_bytes(customs.key_pem)
    (tmp_path / "root.key").chmod(0o600)
    assert not pki.is_test_root(customs.cert_pem)
    with pytest.raises(ConfigError, match="not a development root"):
        pki.ensure_test_root(tmp_path, CLOCK)


def test_fingerprint_is_of_one_certificate(root: pki.Root) -> None:
    der = x509.load_pem_x509_certificate(root.cert_pem).public_bytes(serialization.Encoding.DER)
    digest = hashes.Hash(hashes.SHA256())
    digest.update(der)
    assert pki.root_fingerprint(root.cert_pem) == digest.finalize().hex()
    for pem in (root.cert_pem * 2, b"", b"junk"):
        with pytest.raises(FormatError):
            pki.root_fingerprint(pem)
        with pytest.raises(FormatError):
            pki.is_test_root(pem)


# Certificates that it issues


def test_authority_certificate(customs: pki.IssuedCert, root: pki.Root) -> None:
    certificate = x509.load_pem_x509_certificate(customs.cert_pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["urn:connector-psi:authority:ics2"]
    assert names.get_values_for_type(x509.DNSName) == [
        "ics2.connector-psi.internal",
        "node.customs.example",
        "localhost",
    ]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.7", "127.0.0.1", "::1"]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(root.cert_pem))


def test_person_certificate(root: pki.Root) -> None:
    issued = pki.issue_person(root, "sis", pki.Role.DPO, "p.q", CLOCK, 30)
    certificate = x509.load_pem_x509_certificate(issued.cert_pem)
    assert pki.identity_of(issued.cert_pem) == pki.PersonIdentity("sis", pki.Role.DPO, "p.q")
    assert list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.CLIENT_AUTH
    ]
    assert "p.q" not in certificate.subject.rfc4514_string()


def test_wildcard_addresses_are_left_out(root: pki.Root) -> None:
    certificate = x509.load_pem_x509_certificate(
        pki.issue_authority(root, "sis", ["0.0.0.0", "[::]", "[2001:db8::1]"], CLOCK, 1).cert_pem
    )
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["2001:db8::1", "127.0.0.1", "::1"]


@pytest.mark.parametrize(("code", "hosts"), [("SIS", []), ("a", []), ("si:s", []), ("sis", ["grenzschutz-ä.example"])])
def test_bad_codes_and_hosts_are_not_signed(root: pki.Root, code: str, hosts: list[str]) -> None:
    with pytest.raises(FormatError):
        pki.issue_authority(root, code, hosts, CLOCK, 1)


@pytest.mark.parametrize("name", ["", "a b", "a:b", "é"])
def test_bad_person_ids_are_not_signed(root: pki.Root, name: str) -> None:
    with pytest.raises(FormatError):
        pki.issue_person(root, "sis", pki.Role.OFFICER, name, CLOCK, 1)


def test_validity_bounds(root: pki.Root) -> None:
    now = dt.datetime(2026, 11, 1, 12, 0, 0, 999_999, tzinfo=dt.UTC)
    issued = pki.issue_authority(root, "sis", [], FixedClock(now), 2)
    start, end = dt.datetime(2026, 11, 1, 11, 58, tzinfo=dt.UTC), dt.datetime(2026, 11, 3, 12, 0, tzinfo=dt.UTC)
    pki.check_validity(issued.cert_pem, start)
    pki.check_validity(issued.cert_pem, end)
    with pytest.raises(InputError, match="not yet valid"):
        pki.check_validity(issued.cert_pem, start - dt.timedelta(seconds=1))
    with pytest.raises(InputError, match="expired"):
        pki.check_validity(issued.cert_pem, end + dt.timedelta(seconds=1))


def test_verify_identity_climbs_the_ladder(root: pki.Root, customs: pki.IssuedCert, tmp_path: Path) -> None:
    now = CLOCK.now()
    other = pki.ensure_test_root(tmp_path, CLOCK)
    person = pki.issue_person(root, "sis", pki.Role.OFFICER, "x", CLOCK, 1)
    assert pki.verify_identity(person.cert_pem, root.cert_pem, now) == pki.PersonIdentity("sis", pki.Role.OFFICER, "x")
    assert pki.verify_identity(person.cert_pem, other.cert_pem + root.cert_pem, now).authority == "sis"
    for chain, roots, at in (
        (person.cert_pem, other.cert_pem, now),
        (person.cert_pem, root.cert_pem, now + dt.timedelta(days=2)),
        (person.cert_pem, root.cert_pem, now - dt.timedelta(days=1)),
        # A node's certificate is no authority, though it has the right issuer.
        (_signed_by(customs, "urn:connector-psi:person:sis:admin:x") + customs.cert_pem, root.cert_pem, now),
    ):
        with pytest.raises(InputError, match="does not verify"):
            pki.verify_identity(chain, roots, at)
    for chain, roots in ((b"", root.cert_pem), (person.cert_pem, b"junk")):
        with pytest.raises(FormatError):
            pki.verify_identity(chain, roots, now)


def _signed_by(issuer: pki.IssuedCert, uri: str) -> bytes:
    key = serialization.load_pem_private_key(issuer.key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    forged_root = pki.Root(issuer.cert_pem, key)
    return pki.issue_person(forged_root, *_person(uri), CLOCK, 1).cert_pem


def _person(uri: str) -> tuple[str, pki.Role, str]:
    identity = pki.parse_identity(uri)
    assert isinstance(identity, pki.PersonIdentity)
    return identity.authority, identity.role, identity.id


# Files and secrets


def test_credentials_beside_and_in_one_file(tmp_path: Path, customs: pki.IssuedCert) -> None:
    cert_path = tmp_path / "tls" / "node.crt"
    pki.save_credentials(customs, cert_path)
    assert stat.S_IMODE(cert_path.with_suffix(".key").stat().st_mode) == 0o600
    beside = pki.load_credentials(cert_path)
    assert beside == pki.Credentials(customs.cert_pem, customs.key_pem, pki.AuthorityIdentity("ics2"))
    assert pki.load_credentials(cert_path, cert_path.with_suffix(".key")) == beside

    both = tmp_path / "both.pem"
    both.write_bytes(customs.key_pem + customs.cert_pem)
    both.chmod(0o600)
    assert pki.load_credentials(both) == beside
    both.chmod(0o644)
    with pytest.raises(ConfigError, match="readable by others"):
        pki.load_credentials(both)


def test_credentials_that_do_not_work_are_refused(tmp_path: Path, customs: pki.IssuedCert, root: pki.Root) -> None:
    cert_path, key_path = tmp_path / "node.crt", tmp_path / "node.key"
    with pytest.raises(ConfigError, match=r"node\.crt"):
        pki.load_credentials(cert_path)
    pki.save_credentials(customs, cert_path)

    key_path.write_bytes(pki.issue_authority(root, "ics2", [], CLOCK, 1).key_pem)
    with pytest.raises(ConfigError, match=r"not the key of node\.crt"):
        pki.load_credentials(cert_path)

    loaded = serialization.load_pem_private_key(customs.key_pem, None)
    key_path.write_bytes(
        loaded.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(ConfigError, match="unencrypted"):
        pki.load_credentials(cert_path)

    key_path.write_bytes(b"-----BEGIN %b-----\nAAAA\n-----END %b-----\n" % (b"PRIVATE KEY", b"PRIVATE KEY"))
    with pytest.raises(ConfigError, match="private key"):
        pki.load_credentials(cert_path)

    key_path.write_bytes(customs.key_pem)
    cert_path.write_bytes(root.cert_pem)
    with pytest.raises(ConfigError, match="subject alternative name"):
        pki.load_credentials(cert_path)
    cert_path.write_bytes(b"")
    with pytest.raises(ConfigError, match="PEM"):
        pki.load_credentials(cert_path)


def test_secrets_and_personal_data_do_not_show(tmp_path: Path, root: pki.Root, customs: pki.IssuedCert) -> None:
    pki.save_credentials(customs, tmp_path / "n.crt")
    credentials = pki.load_credentials(tmp_path / "n.crt")
    secret_lines = customs.key_pem.decode().splitlines()[1:-1]
    for holder in (customs, root, credentials):
        assert not any(line in repr(holder) for line in secret_lines)
        assert "PrivateKey" not in repr(holder)
        with pytest.raises(TypeError):
            pickle.dumps(holder)
    assert "anna" not in repr(pki.PersonIdentity("sis", pki.Role.OFFICER, "anna"))


# Against the TLS stack of gRPC


@pytest.fixture(scope="module")
def server(root: pki.Root, customs: pki.IssuedCert) -> Iterator[str]:
    with serving(root, customs) as address:
        yield address


class serving:  # noqa: N801 - reads as a with statement
    """A gRPC server that answers with the identity and TLS version that it saw."""

    def __init__(self, root: pki.Root, issued: pki.IssuedCert) -> None:
        self._server = grpc.server(futures.ThreadPoolExecutor(2))
        handler = grpc.unary_unary_rpc_method_handler(self._who)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Test", {"Who": handler}),))
        credentials = grpc.ssl_server_credentials(
            [(issued.key_pem, issued.cert_pem)], root.cert_pem, require_client_auth=True
        )
        self._port = self._server.add_secure_port("127.0.0.1:0", credentials)

    @staticmethod
    def _who(_: bytes, context: grpc.ServicerContext) -> bytes:
        auth = context.auth_context()
        (pem,) = auth["x509_pem_cert"]
        (version,) = auth["ssl_tls_version"]
        return pki.identity_of(pem).uri.encode() + b" " + version

    def __enter__(self) -> str:
        self._server.start()
        return f"127.0.0.1:{self._port}"

    def __exit__(self, *_: object) -> None:
        self._server.stop(0).wait()


def call(address: str, root_pem: bytes, issued: pki.IssuedCert | None, authority: str | None = None) -> bytes:
    pair = (issued.key_pem, issued.cert_pem) if issued else (None, None)
    credentials = grpc.ssl_channel_credentials(root_pem, *pair)
    options = [("grpc.ssl_target_name_override", pki.authority_host(authority))] if authority else []
    with grpc.secure_channel(address, credentials, options) as channel:
        answer: bytes = channel.unary_unary("/test.Test/Who")(b"", timeout=10)
        return answer


def refused(address: str, root_pem: bytes, issued: pki.IssuedCert | None, authority: str | None = None) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call(address, root_pem, issued, authority)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_grpc_sees_the_identity_over_tls_1_3(server: str, root: pki.Root) -> None:
    node = pki.issue_authority(root, "sis", [], CLOCK, 1)
    person = pki.issue_person(root, "sis", pki.Role.OFFICER, "x.1", CLOCK, 1)
    assert call(server, root.cert_pem, node) == b"urn:connector-psi:authority:sis TLSv1.3"
    assert call(server, root.cert_pem, person, "ics2") == b"urn:connector-psi:person:sis:officer:x.1 TLSv1.3"


def test_grpc_refuses_strangers(server: str, root: pki.Root, tmp_path: Path) -> None:
    other = pki.ensure_test_root(tmp_path, CLOCK)
    stranger = pki.issue_authority(other, "sis", [], CLOCK, 1)
    member = pki.issue_authority(root, "sis", [], CLOCK, 1)
    expired = pki.issue_authority(root, "sis", [], FixedClock(dt.datetime(2020, 1, 1, tzinfo=dt.UTC)), 1)
    refused(server, root.cert_pem, None)
    refused(server, root.cert_pem, stranger)
    refused(server, root.cert_pem, expired)
    refused(server, other.cert_pem, member)
    # The client asks for another authority than the one that answers at this address.
    refused(server, root.cert_pem, member, "sis")


def test_grpc_refuses_an_expired_server_and_one_with_a_persons_certificate(root: pki.Root) -> None:
    member = pki.issue_authority(root, "sis", [], CLOCK, 1)
    expired = pki.issue_authority(root, "ics2", [], FixedClock(dt.datetime(2020, 1, 1, tzinfo=dt.UTC)), 1)
    person = pki.issue_person(root, "ics2", pki.Role.OFFICER, "x", CLOCK, 1)
    for issued in (expired, person):
        with serving(root, issued) as address:
            refused(address, root.cert_pem, member, None if issued is expired else "ics2")


def test_openssl_accepts_the_certificates_too(server: str, root: pki.Root, tmp_path: Path) -> None:
    pki.save_credentials(pki.issue_authority(root, "sis", [], CLOCK, 1), tmp_path / "c.crt")
    context = ssl.create_default_context(cadata=root.cert_pem.decode())
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(tmp_path / "c.crt", tmp_path / "c.key")
    context.set_alpn_protocols(["h2"])
    host, port = server.split(":")
    with (
        socket.create_connection((host, int(port)), timeout=10) as raw,
        context.wrap_socket(raw, server_hostname=host) as tls,
    ):
        assert tls.version() == "TLSv1.3"
        assert pki.identity_of(tls.getpeercert(binary_form=True) or b"") == pki.AuthorityIdentity("ics2")
