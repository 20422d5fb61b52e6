r"""``policy.yaml.sig``: the people who signed a policy, and whether they suffice.

Decides: what a signature binds, who may give one, when a policy is signed. Leaves to others: keys and certificates
(``pki``), what the policy says (``reading``, ``checks``), what happens when another policy comes into force (``node``).

Rules, in this order:

1. A signature binds the authority, the hash of the pack and the time::

       "connector-psi/v1 policy\n" || authority || "\n" || pack_hash (32 bytes) || time (2026-11-26T08:00:00Z)

   So white space and comments of ``policy.yaml`` may change, and nothing that it means. One authority's people do not
   sign for another's node, and nobody moves a signature in time.
2. A signature counts if its certificate leads to the federation's root and was valid at that time, names a person of
   this authority whose role is one of ``SIGNING_ROLES``, and the time is not in the future. One that does not count
   makes the whole file wrong: nothing is overlooked.
3. Two different people are needed, of whom at least one is no administrator: whoever runs the node cannot change what
   it discloses with a colleague of the same desk. One person with certificates of two roles, or two names on one key,
   is one person.

The file is RFC 8785 JSON and nothing else, so that one content has one form::

    {"authority":"sis","pack_hash":"…","signatures":[{"certificate":"PEM…","signature":"hex…","time":"…"}],"v":1}
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import rfc8785

from connector_psi import pki
from connector_psi.audit.entries import encode_time, parse_time
from connector_psi.errors import ConfigError, ConnectorError, FormatError, InputError, RefusedError
from connector_psi.policy import PolicyPack, pack_hash

MAX_SIGNATURE_BYTES: Final = 1 << 17
"""Of a signature file."""
MAX_SIGNATURES: Final = 16
SIGNATURE_VERSION: Final = 1
PEOPLE_NEEDED: Final = 2
SIGNING_ROLES: Final = frozenset({pki.Role.ADMIN, pki.Role.SUPERVISOR, pki.Role.DPO})

_LABEL: Final = b"connector-psi/v1 policy\n"
_AUTHORITY: Final = re.compile(r"[a-z0-9]{2,16}")
_HASH: Final = re.compile(r"[0-9a-f]{64}")
# Ed25519 has 64 bytes, RSA up to 2048.
_SIGNATURE: Final = re.compile(r"(?:[0-9a-f]{2}){8,2048}")
_CHAIN: Final = re.compile(
    r"(?:-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]{1,8192}-----END CERTIFICATE-----\n){1,4}", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Signature:
    """What one person signed."""

    certificate: bytes
    """PEM, leaf first."""
    signature: bytes
    time: datetime
    """Aware, UTC, whole seconds."""


@dataclass(frozen=True, slots=True)
class Signatures:
    """One signature file."""

    authority: str
    pack_hash: bytes
    signatures: tuple[Signature, ...] = ()


@dataclass(frozen=True, slots=True)
class Signer:
    """A person whose signature counts."""

    person: pki.PersonIdentity
    time: datetime


def signature_path(policy: Path) -> Path:
    """Return where the signatures of a policy file lie: beside it, with ``.sig`` added to its name."""
    return policy.with_name(f"{policy.name}.sig")


def encode_signatures(file: Signatures) -> bytes:
    """Return the bytes of a signature file.

    Raises:
        FormatError: A time is not whole seconds in UTC.
    """
    return rfc8785.dumps(
        {
            "v": SIGNATURE_VERSION,
            "authority": file.authority,
            "pack_hash": file.pack_hash.hex(),
            "signatures": [
                {
                    "certificate": each.certificate.decode("ascii"),
                    "signature": each.signature.hex(),
                    "time": encode_time(each.time),
                }
                for each in file.signatures
            ],
        }
    )


def parse_signatures(raw: bytes, source: str = "policy.yaml.sig") -> Signatures:
    """Return what a signature file says; the exact inverse of ``encode_signatures``. Verifies no signature.

    Args:
        raw: At most ``MAX_SIGNATURE_BYTES``.
        source: The name of the file, for messages.

    Raises:
        ConfigError: Any other bytes; the text names file and place.
    """

    def wrong(place: str) -> ConfigError:
        return ConfigError(f"{source}: {place}")

    if len(raw) > MAX_SIGNATURE_BYTES:
        raise wrong(f"larger than {MAX_SIGNATURE_BYTES} bytes")
    try:
        tree: Any = json.loads(raw.decode("ascii"))
    except (ValueError, RecursionError):
        raise wrong("not JSON in ASCII") from None
    if not isinstance(tree, dict) or tree.keys() != {"v", "authority", "pack_hash", "signatures"}:
        raise wrong("not exactly the keys v, authority, pack_hash, signatures")
    if type(tree["v"]) is not int or tree["v"] != SIGNATURE_VERSION:
        raise wrong(f"v: only {SIGNATURE_VERSION} is understood")
    authority = _text(tree["authority"], _AUTHORITY, wrong("authority: not the code of an authority"))
    digest = _text(tree["pack_hash"], _HASH, wrong("pack_hash: not 32 bytes in lower-case hexadecimal"))
    items = tree["signatures"]
    if not isinstance(items, list) or len(items) > MAX_SIGNATURES:
        raise wrong(f"signatures: not a list of at most {MAX_SIGNATURES}")
    found = []
    for index, item in enumerate(items):
        place = f"signatures[{index}]"
        if not isinstance(item, dict) or item.keys() != {"certificate", "signature", "time"}:
            raise wrong(f"{place}: not exactly the keys certificate, signature, time")
        certificate = _text(item["certificate"], _CHAIN, wrong(f"{place}.certificate: not certificates in PEM form"))
        signature = _text(item["signature"], _SIGNATURE, wrong(f"{place}.signature: not lower-case hexadecimal"))
        try:
            time = parse_time(item["time"])
        except (FormatError, TypeError):
            raise wrong(f"{place}.time: not whole seconds in UTC") from None
        found.append(Signature(certificate.encode("ascii"), bytes.fromhex(signature), time))
    file = Signatures(authority, bytes.fromhex(digest), tuple(found))
    # What the checks above let pass: white space, the order of keys, a key given twice.
    if encode_signatures(file) != raw:
        raise wrong("not canonical")
    return file


def _text(value: object, form: re.Pattern[str], error: ConfigError) -> str:
    if not isinstance(value, str) or not form.fullmatch(value):
        raise error
    return value


def sign_pack(pack: PolicyPack, credentials: pki.Credentials, earlier: Signatures | None, now: datetime) -> Signatures:
    """Add a person's signature, in place of the one that this person gave before.

    Args:
        pack: What is signed; the caller made sure that it has no errors.
        credentials: Of the person.
        earlier: What the file holds now. Signatures of another pack or authority do not stay.
        now: Aware.

    Raises:
        RefusedError: The certificate is none of a person who may sign, or is not valid now.
        ConfigError: The key is of a kind that signs nothing here, or the file is full.
    """
    person = credentials.identity
    if not isinstance(person, pki.PersonIdentity) or person.role not in SIGNING_ROLES:
        raise RefusedError(f"a policy is signed by people of the roles {_roles()}")
    try:
        pki.check_validity(credentials.cert_pem, now)
    except InputError as error:
        raise RefusedError(str(error)) from None
    digest, time = pack_hash(pack), now.astimezone(UTC).replace(microsecond=0)
    kept: tuple[Signature, ...] = ()
    if earlier is not None and (earlier.authority, earlier.pack_hash) == (person.authority, digest):
        kept = tuple(each for each in earlier.signatures if _who(each) != _key(person))
    if len(kept) >= MAX_SIGNATURES:
        raise ConfigError(f"a policy has at most {MAX_SIGNATURES} signatures")
    chain = credentials.cert_pem.replace(b"\r\n", b"\n")
    chain = chain if chain.endswith(b"\n") else chain + b"\n"
    if not _CHAIN.fullmatch(chain.decode("ascii", "replace")):
        raise ConfigError("certificate: more than four certificates, or not plain PEM")
    signature = pki.sign(credentials, _signed(person.authority, digest, time))
    return Signatures(person.authority, digest, (*kept, Signature(chain, signature, time)))


def verify_signatures(
    file: Signatures,
    pack: PolicyPack,
    *,
    authority: str,
    root_pem: bytes | None,
    now: datetime,
    source: str = "policy.yaml.sig",
) -> tuple[Signer, ...]:
    """Check every signature of a file; who suffices is the matter of ``require_people``.

    Args:
        file: From ``parse_signatures``.
        pack: What must have been signed.
        authority: Whose node it is.
        root_pem: The federation's root; None where it is not known, which leaves the certificates unproven.
        now: Aware.
        source: The name of the file, for messages.

    Returns:
        The signers in the order of the file, each person once.

    Raises:
        ConfigError: One does not count, a person stands twice, or another pack was signed; the text names the place.
    """
    if file.authority != authority:
        raise ConfigError(f"{source}: authority: signed for another authority")
    if file.pack_hash != pack_hash(pack):
        raise ConfigError(f"{source}: pack_hash: another policy was signed than the one that is there")
    signers: list[Signer] = []
    keys: set[bytes] = set()
    for index, each in enumerate(file.signatures):
        place = f"{source}: signatures[{index}]"
        try:
            person = _verified(each, file, root_pem, now)
            key = pki.public_key_digest(each.certificate)
        except ConnectorError as error:
            raise ConfigError(f"{place}: {error}") from None
        if _key(person) in {_key(signer.person) for signer in signers} or key in keys:
            raise ConfigError(f"{place}: one person stands twice")
        keys.add(key)
        signers.append(Signer(person, each.time))
    return tuple(signers)


def _verified(each: Signature, file: Signatures, root_pem: bytes | None, now: datetime) -> pki.PersonIdentity:
    if each.time > now + pki.CLOCK_SKEW:
        raise InputError("time: in the future")
    if root_pem is None:
        pki.check_validity(each.certificate, each.time)
        person = pki.identity_of(each.certificate)
    else:
        person = pki.verify_identity(each.certificate, root_pem, each.time)
    if not isinstance(person, pki.PersonIdentity) or person.authority != file.authority:
        raise InputError("certificate: not of a person of this authority")
    if person.role not in SIGNING_ROLES:
        raise InputError(f"certificate: a policy is signed by people of the roles {_roles()}")
    pki.verify_signature(each.certificate, each.signature, _signed(file.authority, file.pack_hash, each.time))
    return person


def missing_people(signers: Sequence[Signer]) -> int:
    """Return how many people still have to sign; an administrator does not end it where only administrators did."""
    others = any(signer.person.role is not pki.Role.ADMIN for signer in signers)
    return max(PEOPLE_NEEDED - len(signers), 0 if others else 1)


def require_people(signers: Sequence[Signer], policy: str) -> None:
    """Check that those who signed suffice.

    Raises:
        ConfigError: They do not; the text says what is missing and which command adds it.
    """
    missing = missing_people(signers)
    if missing:
        alone = len(signers) >= PEOPLE_NEEDED
        raise ConfigError(
            f"{policy}: {'signed by administrators alone' if alone else f'signed by {len(signers)} of two people'}; "
            + teaching(policy)
        )


def teaching(policy: str) -> str:
    """Return what to do about a policy that is not signed."""
    return (
        "two different people sign a policy, at least one of them a supervisor or data protection officer: "
        f"`connector-psi policy sign {policy} --as CERT`"
    )


def load_signatures(policy: Path) -> tuple[Signatures, bytes] | None:
    """Read the signature file of a policy file, if there is one, with its bytes.

    Raises:
        ConfigError: It is unreadable or malformed.
    """
    path = signature_path(policy)
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_SIGNATURE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or 'unreadable'}") from None
    return parse_signatures(raw, str(path)), raw


def counting(
    file: Signatures, pack: PolicyPack, *, authority: str, root_pem: bytes | None, now: datetime
) -> Signatures:
    """Return the file without the signatures that count no more, such as those under an earlier root."""
    empty = Signatures(authority, pack_hash(pack))
    if (file.authority, file.pack_hash) != (empty.authority, empty.pack_hash):
        return empty
    kept: tuple[Signature, ...] = ()
    for each in file.signatures:
        tried = replace(empty, signatures=(*kept, each))
        try:
            verify_signatures(tried, pack, authority=authority, root_pem=root_pem, now=now)
        except ConfigError:
            continue
        kept = tried.signatures
    return replace(empty, signatures=kept)


def _signed(authority: str, digest: bytes, time: datetime) -> bytes:
    return _LABEL + authority.encode() + b"\n" + digest + encode_time(time).encode()


def _key(person: pki.PersonIdentity) -> str:
    # The role is left out: one person may hold certificates of several.
    return person.id.casefold()


def _who(each: Signature) -> str:
    person = pki.identity_of(each.certificate)
    return _key(person) if isinstance(person, pki.PersonIdentity) else ""


def _roles(roles: Iterable[pki.Role] = SIGNING_ROLES) -> str:
    return ", ".join(sorted(role.value for role in roles))
