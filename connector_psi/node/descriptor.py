"""``descriptor.json``: what an authority hands to a peer, so that the two can be connected.

It holds no secret. Whoever adds it checks out of band that it comes from the authority it names; its signature shows
only
that it was not changed on the way.
"""

from __future__ import annotations

import json
from typing import Any

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from connector_psi.audit.checkpoint import parse_vkey
from connector_psi.audit.cosignature import parse_witness_key
from connector_psi.domain.purposes import ProfileRole
from connector_psi.errors import ConfigError, FormatError

MAX_BYTES = 65_536
_LABEL = b"connector-psi/v1 descriptor\n"


class Descriptor(BaseModel):
    """A peer's name, role, address and public keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    v: int = Field(ge=1, le=2)
    """1 of a node of version 0.1.0, and for one."""
    authority: str = Field(pattern=r"^[a-z0-9]{2,16}$")
    role: ProfileRole
    address: str = Field(pattern=r"^.+:\d{1,5}$", max_length=300)
    synthetic: bool
    root_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    signing_key: str = Field(pattern=r"^[0-9a-f]{64}$")
    log_vkey: str = Field(max_length=400)
    """Of its log (C2SP signed-note)."""
    witness_vkey: str = Field(default="", max_length=400)
    """With which it cosigns the logs of others (C2SP tlog-cosignature); empty of a node of version 0.1.0."""

    @property
    def public_key(self) -> Ed25519PublicKey:
        """The key that manifests, cases and disclosures are signed with."""
        return Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.signing_key))


def encode_descriptor(descriptor: Descriptor, key: Ed25519PrivateKey) -> bytes:
    """Return the signed ``descriptor.json``."""
    value: dict[str, Any] = descriptor.model_dump(mode="json", exclude={"witness_vkey"} if descriptor.v == 1 else None)
    signature = key.sign(_LABEL + rfc8785.dumps(value))
    return json.dumps({**value, "signature": signature.hex()}, indent=2).encode() + b"\n"


def parse_descriptor(raw: bytes) -> Descriptor:
    """Parse and check a descriptor.

    Raises:
        ConfigError: It is malformed, or was changed after it was signed.
    """
    try:
        if len(raw) > MAX_BYTES:
            raise ConfigError("descriptor: too large")
        value = json.loads(raw)
        signature = bytes.fromhex(value.pop("signature"))
        descriptor = Descriptor.model_validate(value)
        descriptor.public_key.verify(signature, _LABEL + rfc8785.dumps(value))
        _check_names(descriptor)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        # Names of fields alone: a key that a peer made up is its text, not ours.
        place = ".".join(str(part) for part in first["loc"] if part in Descriptor.model_fields)
        raise ConfigError(f"descriptor: {place or 'as a whole'}: {first['msg']}") from None
    except FormatError as error:
        raise ConfigError(f"descriptor: {error}") from None
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise ConfigError("descriptor: not a descriptor.json of a node") from None
    except InvalidSignature:
        raise ConfigError("descriptor: changed after it was signed") from None
    return descriptor


def _check_names(descriptor: Descriptor) -> None:
    # A log is known by its origin and a witness by its name: nobody takes those of somebody else.
    if parse_vkey(descriptor.log_vkey).name != log_origin(descriptor.authority):
        raise ConfigError("descriptor: log_vkey: named after another log")
    if bool(descriptor.witness_vkey) is (descriptor.v == 1):
        raise ConfigError("descriptor: witness_vkey: missing, or in a descriptor of version 1")
    if descriptor.v > 1 and parse_witness_key(descriptor.witness_vkey).name != witness_name(descriptor.authority):
        raise ConfigError("descriptor: witness_vkey: named after another authority")


def first_version(descriptor: Descriptor) -> Descriptor:
    """Return what a node of version 0.1.0 can read of a descriptor."""
    return descriptor.model_copy(update={"v": 1, "witness_vkey": ""})


def log_origin(authority: str) -> str:
    """Return the origin line of an authority's log (C2SP tlog-checkpoint)."""
    return f"connector-psi.internal/log/{authority}"


def witness_name(authority: str) -> str:
    """Return the key name under which an authority cosigns the logs of others (C2SP tlog-cosignature)."""
    return f"connector-psi.internal/witness/{authority}"
