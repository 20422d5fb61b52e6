"""Who signed a policy: what a signature binds, who may give one, and every file that is refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from connector_psi import pki
from connector_psi.errors import ConfigError, FormatError, InputError, RefusedError
from connector_psi.pack import signing
from connector_psi.pack.reading import load_policy, parse_policy
from connector_psi.pki import Role
from connector_psi.policy import PolicyPack
from tests.simulation.federation import ManualClock

NODES = Path(__file__).resolve().parents[3] / "nodes"
RAW = (NODES / "sis" / "policy.yaml").read_bytes()
PACK = parse_policy(RAW)
OTHER = load_policy(NODES / "ics2" / "policy.yaml")
NOW = datetime(2026, 11, 26, 8, 0, tzinfo=UTC)


@dataclasses.dataclass
class Desk:
    """People of one authority under one root."""

    root: pki.Root
    folder: Path

    def person(
        self, name: str, role: Role, authority: str = "sis", days: int = 30, at: datetime = NOW
    ) -> pki.Credentials:
        issued = pki.issue_person(self.root, authority, role, name, ManualClock(at), days)
        path = self.folder / f"{authority}-{name}-{role}-{days}.crt"
        pki.save_credentials(issued, path)
        return pki.load_credentials(path)

    def signed(self, *people: pki.Credentials, pack: PolicyPack = PACK, at: datetime = NOW) -> signing.Signatures:
        file: signing.Signatures | None = None
        for credentials in people:
            file = signing.sign_pack(pack, credentials, file, at)
        assert file is not None
        return file

    def verified(
        self, file: signing.Signatures, pack: PolicyPack = PACK, authority: str = "sis", now: datetime = NOW
    ) -> tuple[signing.Signer, ...]:
        return signing.verify_signatures(file, pack, authority=authority, root_pem=self.root.cert_pem, now=now)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    folder = tmp_path_factory.mktemp("desk")
    return Desk(pki.ensure_test_root(folder / "pki", ManualClock(NOW - timedelta(days=400))), folder)


@pytest.fixture(scope="module")
def two(desk: Desk) -> signing.Signatures:
    return desk.signed(desk.person("anna", Role.ADMIN), desk.person("bert", Role.SUPERVISOR))


# --- Who suffices -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("people", "missing"),
    [
        ([], 2),
        ([("a", Role.ADMIN)], 1),
        ([("a", Role.SUPERVISOR)], 1),
        ([("a", Role.ADMIN), ("b", Role.ADMIN)], 1),
        ([("a", Role.ADMIN), ("b", Role.ADMIN), ("c", Role.ADMIN)], 1),
        ([("a", Role.ADMIN), ("b", Role.SUPERVISOR)], 0),
        ([("a", Role.DPO), ("b", Role.ADMIN)], 0),
        ([("a", Role.SUPERVISOR), ("b", Role.SUPERVISOR)], 0),
        ([("a", Role.ADMIN), ("b", Role.ADMIN), ("c", Role.DPO)], 0),
    ],
)
def test_two_people_suffice_unless_both_are_administrators(people: list[tuple[str, Role]], missing: int) -> None:
    signers = [signing.Signer(pki.PersonIdentity("sis", role, name), NOW) for name, role in people]
    assert signing.missing_people(signers) == missing
    if missing:
        with pytest.raises(ConfigError, match=r"connector-psi policy sign x/policy.yaml --as CERT"):
            signing.require_people(signers, "x/policy.yaml")
    else:
        signing.require_people(signers, "x/policy.yaml")


def test_two_people_sign_and_both_are_told_with_their_time(desk: Desk, two: signing.Signatures) -> None:
    again = signing.parse_signatures(signing.encode_signatures(two))
    assert again == two
    assert [(s.person.id, s.person.role, s.time) for s in desk.verified(again)] == [
        ("anna", Role.ADMIN, NOW),
        ("bert", Role.SUPERVISOR, NOW),
    ]


def test_white_space_and_comments_may_change_and_no_word_may(desk: Desk, two: signing.Signatures) -> None:
    assert desk.verified(two, parse_policy(b"# a comment\n" + RAW))
    changed = RAW.replace(b"answer_within_h: 12", b"answer_within_h: 11", 1)
    assert changed != RAW
    with pytest.raises(ConfigError, match="pack_hash: another policy"):
        desk.verified(two, parse_policy(changed))


@pytest.mark.parametrize("role", [Role.OFFICER, Role.AUDITOR, Role.SYSTEM])
def test_other_roles_sign_nothing(desk: Desk, role: Role) -> None:
    credentials = desk.person("carl", role)
    with pytest.raises(RefusedError, match="admin, dpo, supervisor"):
        desk.signed(credentials)
    # Nor does a signature count that was made without asking this module.
    body = signing._signed("sis", signing.pack_hash(PACK), NOW)
    forged = signing.Signature(credentials.cert_pem, pki.sign(credentials, body), NOW)
    with pytest.raises(ConfigError, match=r"signatures\[0\]: certificate: a policy is signed by people of the roles"):
        desk.verified(signing.Signatures("sis", signing.pack_hash(PACK), (forged,)))


def test_a_node_signs_nothing(desk: Desk) -> None:
    pki.save_credentials(pki.issue_authority(desk.root, "sis", [], ManualClock(NOW), 30), desk.folder / "node.crt")
    with pytest.raises(RefusedError):
        desk.signed(pki.load_credentials(desk.folder / "node.crt"))


def test_a_person_who_signs_again_replaces_the_own_signature(desk: Desk) -> None:
    anna, bert = desk.person("anna", Role.ADMIN), desk.person("bert", Role.SUPERVISOR)
    once = desk.signed(anna, bert)
    later = NOW + timedelta(hours=1)
    twice = signing.sign_pack(PACK, anna, once, later)
    assert [(s.person.id, s.time) for s in desk.verified(twice, now=later)] == [("bert", NOW), ("anna", later)]
    as_dpo = signing.sign_pack(PACK, desk.person("Anna", Role.DPO), once, later)
    assert [s.person.role for s in desk.verified(as_dpo, now=later)] == [Role.SUPERVISOR, Role.DPO]


def test_signatures_of_another_policy_do_not_stay(desk: Desk, two: signing.Signatures) -> None:
    anna = desk.person("anna", Role.ADMIN)
    moved = signing.sign_pack(OTHER, anna, two, NOW)
    assert [s.person.id for s in desk.verified(moved, OTHER)] == ["anna"]
    assert signing.counting(two, OTHER, authority="sis", root_pem=desk.root.cert_pem, now=NOW).signatures == ()


# --- What does not count ----------------------------------------------------------------------------------------------


def _with(file: signing.Signatures, index: int, **changes: Any) -> signing.Signatures:
    signatures = list(file.signatures)
    signatures[index] = dataclasses.replace(signatures[index], **changes)
    return dataclasses.replace(file, signatures=tuple(signatures))


def test_the_same_person_twice_is_one_person(desk: Desk) -> None:
    """Whatever role or capitals the second certificate has."""
    first = desk.signed(desk.person("anna", Role.ADMIN))
    for name, role in (("anna", Role.ADMIN), ("anna", Role.DPO), ("ANNA", Role.SUPERVISOR)):
        second = desk.signed(desk.person(name, role))
        both = dataclasses.replace(first, signatures=(*first.signatures, *second.signatures))
        with pytest.raises(ConfigError, match=r"signatures\[1\]: one person stands twice"):
            desk.verified(both)


def test_two_names_on_one_key_are_one_person(desk: Desk) -> None:
    anna = desk.person("anna", Role.ADMIN)
    key = serialization.load_pem_private_key(anna.key_pem, None)
    leaf = x509.load_pem_x509_certificate(desk.person("zoe", Role.DPO).cert_pem)
    builder = x509.CertificateBuilder(
        leaf.issuer, leaf.subject, key.public_key(), x509.random_serial_number(),
        leaf.not_valid_before_utc, leaf.not_valid_after_utc, list(leaf.extensions),
    )  # fmt: skip
    pem = builder.sign(desk.root.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    zoe = pki.Credentials(pem, anna.key_pem, pki.identity_of(pem))
    with pytest.raises(ConfigError, match="one person stands twice"):
        desk.verified(desk.signed(anna, zoe))


def test_a_certificate_under_another_root_does_not_count(desk: Desk, tmp_path: Path) -> None:
    stranger = Desk(pki.ensure_test_root(tmp_path / "pki", ManualClock(NOW)), tmp_path)
    file = stranger.signed(stranger.person("anna", Role.ADMIN), stranger.person("bert", Role.DPO))
    with pytest.raises(ConfigError, match=r"signatures\[0\]: certificate: does not verify"):
        desk.verified(file)
    # It goes as soon as somebody signs under the root that is there.
    assert signing.counting(file, PACK, authority="sis", root_pem=desk.root.cert_pem, now=NOW).signatures == ()


def test_a_certificate_must_have_been_valid_when_it_signed_and_may_expire_afterwards(desk: Desk) -> None:
    short = desk.person("anna", Role.ADMIN, days=1)
    assert desk.verified(desk.signed(short), now=NOW + timedelta(days=300))
    for at in (NOW - timedelta(hours=1), NOW + timedelta(days=2)):
        with pytest.raises(RefusedError):
            desk.signed(short, at=at)
        body = signing._signed("sis", signing.pack_hash(PACK), at)
        late = signing.Signature(short.cert_pem, pki.sign(short, body), at)
        with pytest.raises(ConfigError, match=r"signatures\[0\]: certificate: does not verify"):
            desk.verified(signing.Signatures("sis", signing.pack_hash(PACK), (late,)), now=at + timedelta(minutes=1))


def test_a_time_in_the_future_or_another_time_than_was_signed_does_not_count(
    desk: Desk, two: signing.Signatures
) -> None:
    with pytest.raises(ConfigError, match=r"signatures\[0\]: time: in the future"):
        desk.verified(two, now=NOW - timedelta(minutes=3))
    with pytest.raises(ConfigError, match=r"signatures\[1\]: signature: does not verify"):
        desk.verified(_with(two, 1, time=NOW - timedelta(seconds=1)))


@pytest.mark.parametrize("change", [lambda s: s[:-1] + bytes([s[-1] ^ 1]), lambda _: b"\0" * 64, lambda s: s + b"\0"])
def test_a_changed_signature_does_not_count(
    desk: Desk, two: signing.Signatures, change: Callable[[bytes], bytes]
) -> None:
    with pytest.raises(ConfigError, match=r"signatures\[0\]: signature: does not verify"):
        desk.verified(_with(two, 0, signature=change(two.signatures[0].signature)))


def test_people_of_another_authority_do_not_sign_for_this_one(desk: Desk) -> None:
    file = desk.signed(desk.person("anna", Role.ADMIN, "ics2"), desk.person("bert", Role.DPO, "ics2"))
    with pytest.raises(ConfigError, match="authority: signed for another authority"):
        desk.verified(file)
    with pytest.raises(ConfigError, match=r"signatures\[0\]: certificate: not of a person of this authority"):
        desk.verified(dataclasses.replace(file, authority="sis"))


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_keys_of_an_agency_sign_too(desk: Desk, kind: str) -> None:
    """The development PKI issues keys on P-256; an agency's may be of another kind."""
    key = Ed25519PrivateKey.generate() if kind == "ed25519" else rsa.generate_private_key(65537, 2048)
    leaf = x509.load_pem_x509_certificate(desk.person("ed", Role.DPO).cert_pem)
    kept = [e for e in leaf.extensions if not isinstance(e.value, x509.SubjectKeyIdentifier)]
    builder = x509.CertificateBuilder(
        leaf.issuer, leaf.subject, key.public_key(), x509.random_serial_number(),
        leaf.not_valid_before_utc, leaf.not_valid_after_utc,
        [*kept, x509.Extension(
            x509.SubjectKeyIdentifier.oid, critical=False, value=x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        )],
    )  # fmt: skip
    pem = builder.sign(desk.root.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    pkcs8 = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    credentials = pki.Credentials(pem, key.private_bytes(*pkcs8), pki.identity_of(pem))
    signature = pki.sign(credentials, b"message")
    pki.verify_signature(pem, signature, b"message")
    with pytest.raises(InputError):
        pki.verify_signature(pem, signature, b"another")
    with pytest.raises(InputError):
        pki.verify_signature(desk.person("ed", Role.DPO).cert_pem, signature, b"message")


# --- What is no signature file ----------------------------------------------------------------------------------------


def _tree(file: signing.Signatures) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads(signing.encode_signatures(file))
    return tree


def _canonical(tree: object) -> bytes:
    return json.dumps(tree, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda t: t | {"extra": 1}, "not exactly the keys"),
        (lambda t: {k: v for k, v in t.items() if k != "v"}, "not exactly the keys"),
        (lambda t: t | {"v": 2}, "v: only 1"),
        (lambda t: t | {"v": True}, "v: only 1"),
        (lambda t: t | {"authority": "SIS"}, "authority"),
        (lambda t: t | {"pack_hash": t["pack_hash"].upper()}, "pack_hash"),
        (lambda t: t | {"pack_hash": t["pack_hash"][2:]}, "pack_hash"),
        (lambda t: t | {"signatures": {}}, "signatures: not a list"),
        (lambda t: t | {"signatures": t["signatures"] * 9}, "signatures: not a list of at most 16"),
        (lambda t: t | {"signatures": [t["signatures"][0], 5]}, r"signatures\[1\]: not exactly"),
        (lambda t: t | {"signatures": [t["signatures"][0] | {"role": "dpo"}]}, r"signatures\[0\]: not exactly"),
        (lambda t: t | {"signatures": [t["signatures"][0] | {"certificate": "x"}]}, r"signatures\[0\].certificate"),
        (lambda t: t | {"signatures": [t["signatures"][0] | {"signature": "AA" * 64}]}, r"signatures\[0\].signature"),
        (lambda t: t | {"signatures": [t["signatures"][0] | {"signature": "0"}]}, r"signatures\[0\].signature"),
        (
            lambda t: t | {"signatures": [t["signatures"][0] | {"time": "2026-02-30T08:00:00Z"}]},
            r"signatures\[0\].time",
        ),
        (lambda t: t | {"signatures": [t["signatures"][0] | {"time": 5}]}, r"signatures\[0\].time"),
        (lambda t: [t], "not exactly the keys"),
    ],
)
def test_what_a_file_must_not_say_is_named_with_its_place(
    two: signing.Signatures, change: Callable[[Any], Any], place: str
) -> None:
    with pytest.raises(ConfigError, match=f"policy.yaml.sig: {place}"):
        signing.parse_signatures(_canonical(change(_tree(two))))


def test_one_content_has_one_form(two: signing.Signatures) -> None:
    raw = signing.encode_signatures(two)
    assert _canonical(_tree(two)) == raw
    for other in (raw + b"\n", b" " + raw, json.dumps(_tree(two)).encode(), raw.replace(b'"v":1', b'"v":1,"v":1')):
        with pytest.raises(ConfigError, match="not canonical"):
            signing.parse_signatures(other)
    for other in (b"", b"[" * 50_000, b"\xff", raw.replace(b"sis", "sís".encode())):
        with pytest.raises(ConfigError, match="not JSON in ASCII"):
            signing.parse_signatures(other)
    with pytest.raises(ConfigError, match="larger than"):
        signing.parse_signatures(raw + b" " * signing.MAX_SIGNATURE_BYTES)


def test_a_file_that_is_not_there_is_no_failure_and_one_that_cannot_be_read_is(tmp_path: Path) -> None:
    assert signing.load_signatures(tmp_path / "policy.yaml") is None
    (tmp_path / "policy.yaml.sig").mkdir()
    with pytest.raises(ConfigError, match=r"policy\.yaml\.sig"):
        signing.load_signatures(tmp_path / "policy.yaml")


def test_no_certificate_signs_nothing() -> None:
    with pytest.raises(FormatError):
        pki.verify_signature(b"-----BEGIN CERTIFICATE-----\n", b"", b"")
