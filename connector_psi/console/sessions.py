"""Who is signed in: sessions of the console, kept in the memory of this process.

Decides: how long a session lasts, what it is bound to, how a form proves that it was made for it. A session ends when
nobody used it for a while, when it is as old as one may be, when the person signs out, and with the process. The cookie
holds a random number and nothing else; of it this process keeps a hash.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from connector_psi.domain.clock import RandomSource
from connector_psi.pki import PersonIdentity

TOKEN_BYTES = 32
MAX_SESSIONS = 10_000
MAX_OF_ONE_PERSON = 8
"""Browsers of one person at a time; the oldest is signed out for a new one."""
MAX_NOTICES = 4


@dataclass(slots=True)
class Session:
    """One person at one browser."""

    person: PersonIdentity
    way: str
    """How they signed in: ``certificate``, ``account`` or ``oidc``."""
    csrf: str = field(repr=False)
    begun_s: float
    used_s: float
    bound_to: bytes = field(repr=False)
    """Digest of the certificate that the connection must show; empty where another way was used."""
    notices: list[tuple[str, str]] = field(default_factory=list, repr=False)
    """What the next page says once: kind and message of the catalogue."""

    def notice(self, kind: str, text: str) -> None:
        """Have the next page say something; ``kind`` is ``done`` or ``problem``."""
        self.notices = [*self.notices, (kind, text)][-MAX_NOTICES:]

    def take_notices(self) -> list[tuple[str, str]]:
        """Return what is to be said, once."""
        taken, self.notices = self.notices, []
        return taken


class Sessions:
    """All sessions of a console.

    Args:
        now: Time.
        random: Source of tokens.
        idle_s: Who does nothing for so long is signed out.
        longest_s: Who signed in so long ago signs in again.
        still_may: Whether a person may still use the console: their account may be gone, or have another role.
    """

    def __init__(
        self,
        now: Callable[[], datetime],
        random: RandomSource,
        *,
        idle_s: float,
        longest_s: float,
        still_may: Callable[[Session], bool] = lambda _session: True,
    ) -> None:
        self._now = now
        self._random = random
        self._idle_s = idle_s
        self._longest_s = longest_s
        self._still_may = still_may
        self._key = random.bytes(TOKEN_BYTES)
        self._sessions: dict[bytes, Session] = {}
        self._lock = threading.Lock()

    def begin(self, person: PersonIdentity, way: str, bound_to: bytes = b"") -> str:
        """Sign a person in. Returns the token for the cookie."""
        token, at = self._random.bytes(TOKEN_BYTES).hex(), self._now().timestamp()
        session = Session(person, way, self._random.bytes(TOKEN_BYTES).hex(), at, at, bound_to)
        with self._lock:
            self._drop_ended(at)
            own = [key for key, each in self._sessions.items() if each.person.uri == person.uri]
            spare = [*own[: max(0, len(own) - MAX_OF_ONE_PERSON + 1)]]
            spare += [*self._sessions][: max(0, len(self._sessions) - MAX_SESSIONS + 1)]
            for key in spare:
                self._sessions.pop(key, None)
            self._sessions[_digest(token)] = session
        return token

    def find(self, token: str, certificate: bytes) -> Session | None:
        """Return the session of a cookie, and count it as used now; None if there is none, or no longer.

        Args:
            token: From the cookie.
            certificate: That the connection shows, DER; empty for none.
        """
        at = self._now().timestamp()
        with self._lock:
            session = self._sessions.get(_digest(token))
            if session is None:
                return None
            if self._is_over(session, at) or not self._still_may(session):
                del self._sessions[_digest(token)]
                return None
            if session.bound_to and not hmac.compare_digest(session.bound_to, certificate_digest(certificate)):
                return None
            session.used_s = at
            return session

    def end(self, token: str) -> None:
        """Sign whoever holds this cookie out."""
        with self._lock:
            self._sessions.pop(_digest(token), None)

    def form_token(self, seed: str) -> str:
        """Return what a form of somebody who is not signed in yet carries, given the seed in their cookie."""
        return hmac.new(self._key, seed.encode(), "sha256").hexdigest()

    def _drop_ended(self, at: float) -> None:
        for key in [key for key, each in self._sessions.items() if self._is_over(each, at)]:
            del self._sessions[key]

    def _is_over(self, session: Session, at: float) -> bool:
        return not (session.used_s <= at + 1 and at < session.used_s + self._idle_s) or (
            at >= session.begun_s + self._longest_s
        )


def certificate_digest(certificate: bytes) -> bytes:
    """Return what a session is bound to: the SHA-256 of a certificate in DER, nothing for none."""
    return hashlib.sha256(certificate).digest() if certificate else b""


def same_token(one: str, other: str) -> bool:
    """Whether two tokens of forms are equal, in constant time."""
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
