"""Signing in with an OpenID Connect provider: authorization code flow with PKCE (RFC 7636), state and nonce.

Decides: what of an answer is believed: an ID token that the provider of the settings signed for this client and this
attempt, with one role and one id in it. Leaves to others: what the person may do then. Nothing of the provider's answer
is kept or logged. What belongs to an attempt is sealed in a cookie of the browser that made it.
"""

from __future__ import annotations

import hmac
import json
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from connector_psi import pki
from connector_psi.console.accounts import SIGNING_IN
from connector_psi.domain.clock import RandomSource
from connector_psi.errors import ConfigError, FormatError, RefusedError, UnavailableError
from connector_psi.node.config import OidcSection

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "Ed25519")
"""Signatures with a public key. None with a shared secret, and never ``none``."""
ATTEMPT_S = 600.0
"""A person has so long to sign in at the provider."""
TIMEOUT_S = 10.0
METADATA_S = 3_600.0
LEEWAY_S = 120
"""Clocks differ by at most so much, as between peers."""
MAX_ANSWER_BYTES = 1 << 20
_SEALED = b"connector-psi/v1 oidc attempt"
_NONCE_BYTES = 12


class Provider:
    """The provider of the settings.

    Args:
        section: Settings.
        folder: The node directory, which the secret's file may be named from.
        authority: Code of the authority, which names its people.
        redirect_uri: Where the provider sends people back to.
        now: Time.
        random: Randomness.

    Raises:
        ConfigError: The secret's file cannot be read.
    """

    def __init__(
        self,
        section: OidcSection,
        folder: Path,
        authority: str,
        redirect_uri: str,
        now: Callable[[], datetime],
        random: RandomSource,
    ) -> None:
        self._section = section
        self._authority = authority
        self._redirect_uri = redirect_uri
        self._now = now
        self._random = random
        self._aead = AESGCM(random.bytes(32))
        self._secret = _secret(folder, section.client_secret_file)
        self._lock = threading.Lock()
        self._metadata: tuple[float, Mapping[str, Any], KeySet] | None = None

    def begin(self) -> tuple[str, str]:
        """Return where to send the browser, and the sealed attempt for its cookie.

        Raises:
            UnavailableError: The provider does not answer, or not as one does.
        """
        metadata, _ = self._discovered()
        attempt = {
            "state": self._random.bytes(32).hex(),
            "nonce": self._random.bytes(32).hex(),
            "verifier": self._random.bytes(32).hex(),
            "until": self._now().timestamp() + ATTEMPT_S,
        }
        with self._client() as client:
            url, _ = client.create_authorization_url(
                metadata["authorization_endpoint"],
                state=attempt["state"],
                nonce=attempt["nonce"],
                code_challenge=create_s256_code_challenge(attempt["verifier"]),
                code_challenge_method="S256",
            )
        nonce = self._random.bytes(_NONCE_BYTES)
        return str(url), (nonce + self._aead.encrypt(nonce, json.dumps(attempt).encode(), _SEALED)).hex()

    def finish(self, attempt: str, query: str) -> pki.PersonIdentity:
        """Return who signed in.

        Args:
            attempt: From the cookie of :meth:`begin`.
            query: Of the URL that the provider sent the browser back to.

        Raises:
            RefusedError: The answer is not one to this attempt, or it names nobody who may use the console.
            UnavailableError: The provider does not answer.
        """
        opened = self._opened(attempt)
        told = parse_qs(query)
        if [*told.get("state", ())] == [] or not hmac.compare_digest(
            told["state"][0].encode("utf-8", "replace"), opened["state"].encode()
        ):
            raise RefusedError("the answer belongs to another attempt to sign in")
        if "error" in told or not told.get("code"):
            raise RefusedError("the provider did not sign anybody in")
        metadata, keys = self._discovered()
        try:
            with self._client() as client:
                token = client.fetch_token(
                    metadata["token_endpoint"],
                    grant_type="authorization_code",
                    code=told["code"][0],
                    code_verifier=opened["verifier"],
                    timeout=TIMEOUT_S,
                    allow_redirects=False,
                )
        except requests.RequestException:
            raise UnavailableError("the provider of identities does not answer") from None
        except (AuthlibBaseError, ValueError):
            raise RefusedError("the provider does not stand by its answer") from None
        return self._person(self._claims(str(token.get("id_token", "")), keys, opened["nonce"]))

    def _claims(self, id_token: str, keys: KeySet, nonce: str) -> Mapping[str, Any]:
        section, now = self._section, int(self._now().timestamp())
        registry = jwt.JWTClaimsRegistry(
            now=now,
            leeway=LEEWAY_S,
            iss={"essential": True, "value": section.issuer},
            aud={"essential": True, "value": section.client_id},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
        )
        try:
            claims = self._decoded(id_token, keys)
            registry.validate(claims)
        except (JoseError, ValueError, TypeError, KeyError):
            raise RefusedError("the provider's answer does not verify") from None
        parties = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        if claims.get("azp", section.client_id) != section.client_id or (len(parties) > 1 and "azp" not in claims):
            raise RefusedError("the provider's answer is for somebody else")
        if not hmac.compare_digest(str(claims.get("nonce", "")).encode("utf-8", "replace"), nonce.encode()):
            raise RefusedError("the provider's answer belongs to another attempt")
        return claims

    def _decoded(self, id_token: str, keys: KeySet) -> dict[str, Any]:
        try:
            return dict(jwt.decode(id_token, keys, algorithms=[*ALGORITHMS]).claims)
        except (JoseError, ValueError):
            # The provider may sign by a key that is younger than what is known of it.
            _, fresh = self._discovered(anew=True)
            return dict(jwt.decode(id_token, fresh, algorithms=[*ALGORITHMS]).claims)

    def _person(self, claims: Mapping[str, Any]) -> pki.PersonIdentity:
        section = self._section
        roles = claims.get(section.role_claim)
        names = [roles] if isinstance(roles, str) else roles if isinstance(roles, list) else []
        known = [name for name in names if isinstance(name, str) and name in {role.value for role in SIGNING_IN}]
        if len(known) != 1:
            raise RefusedError("the provider names no role of this console for this person, or more than one")
        try:
            identity = pki.parse_identity(
                pki.PersonIdentity(self._authority, pki.Role(known[0]), str(claims.get(section.id_claim, ""))).uri
            )
        except FormatError:
            raise RefusedError("the provider names this person by no id that certificates could have") from None
        assert isinstance(identity, pki.PersonIdentity)
        return identity

    def _opened(self, attempt: str) -> dict[str, Any]:
        try:
            raw = bytes.fromhex(attempt)
            opened: dict[str, Any] = json.loads(self._aead.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], _SEALED))
        except (ValueError, InvalidTag):
            raise RefusedError("this browser did not begin to sign in") from None
        if self._now().timestamp() > opened["until"]:
            raise RefusedError("that took too long; begin again")
        return opened

    def _client(self) -> OAuth2Session:
        return OAuth2Session(
            client_id=self._section.client_id,
            client_secret=self._secret or None,
            token_endpoint_auth_method="client_secret_basic" if self._secret else "none",
            redirect_uri=self._redirect_uri,
            scope="openid profile",
        )

    def _discovered(self, *, anew: bool = False) -> tuple[Mapping[str, Any], KeySet]:
        """The provider's own description and its keys (OpenID Connect Discovery 1.0)."""
        with self._lock:
            if self._metadata is not None and not anew and self._now().timestamp() < self._metadata[0]:
                return self._metadata[1], self._metadata[2]
            base = self._section.issuer.rstrip("/")
            try:
                with requests.Session() as client:
                    metadata = _json(client, f"{base}/.well-known/openid-configuration")
                    if metadata["issuer"] != self._section.issuer:
                        raise FormatError("issuer: another one")  # noqa: TRY301 - told with what else is wrong
                    for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
                        self._check_scheme(metadata[name])
                    keys = KeySet.import_key_set(_json(client, metadata["jwks_uri"]))  # type: ignore[arg-type]  # checked by it
            except (requests.RequestException, JoseError, FormatError, ValueError, KeyError, TypeError):
                raise UnavailableError("the provider of identities does not answer as one does") from None
            self._metadata = (self._now().timestamp() + METADATA_S, metadata, keys)
            return metadata, keys

    def _check_scheme(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" and (parts.scheme, parts.hostname) != (
            "http",
            urlsplit(self._section.issuer).hostname,
        ):
            raise FormatError("endpoint: neither HTTPS nor on the provider's own machine")


def _json(client: requests.Session, url: str) -> dict[str, Any]:
    answer = client.get(url, timeout=TIMEOUT_S, allow_redirects=False)
    answer.raise_for_status()
    if len(answer.content) > MAX_ANSWER_BYTES:
        raise FormatError("answer: too long")
    value = answer.json()
    if not isinstance(value, dict):
        raise FormatError("answer: no JSON object")
    return value


def _secret(folder: Path, name: str) -> str:
    if not name:
        return ""
    path = folder / name
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"{path}: console.oidc.client_secret_file cannot be read") from None
