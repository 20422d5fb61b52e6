"""Test sign-ins to the consoles of a demonstration that goes on: one password and one secret for everybody.

Decides: who gets an account. Made anew for each demonstration, and told once: whoever reads it may sign in as anybody,
to nodes that hold nothing but samples.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pyotp

from connector_psi.console.accounts import STEP_S, Accounts
from connector_psi.domain.clock import SystemClock, SystemRandom
from connector_psi.keyring import Keyring
from connector_psi.node.config import Layout
from connector_psi.pki import Role

PEOPLE = (
    ("officer1", Role.OFFICER),
    ("officer2", Role.OFFICER),
    ("supervisor1", Role.SUPERVISOR),
    ("supervisor2", Role.SUPERVISOR),
    ("dpo1", Role.DPO),
    ("auditor1", Role.AUDITOR),
    ("admin1", Role.ADMIN),
)
"""As the certificates that ``init`` makes."""
_PASSWORD_BYTES, _SECRET_BYTES = 9, 20


@dataclass(frozen=True, slots=True)
class SignIns:
    """What everybody signs in with."""

    password: str = field(repr=False)
    secret: str = field(repr=False)
    """Of one-time codes, in Base32 as apps take it."""

    def code(self) -> str:
        """Return the one-time code of now."""
        return pyotp.TOTP(self.secret, interval=STEP_S).now()

    @staticmethod
    def left_s() -> float:
        """Return for how long that is the one of now."""
        return STEP_S - time.time() % STEP_S


def make_sign_ins(nodes: Iterable[tuple[str, Path]]) -> SignIns:
    """Make accounts at nodes.

    Args:
        nodes: Authority code and directory of each.
    """
    random, now = SystemRandom(), SystemClock().now()
    password, secret = secrets.token_urlsafe(_PASSWORD_BYTES), random.bytes(_SECRET_BYTES)
    told = ""
    for authority, directory in nodes:
        key = bytes(Keyring.open(directory, random).node_key("console"))
        accounts = Accounts(Layout(directory).accounts, key, authority, random)
        for person, role in PEOPLE:
            uri = accounts.add(person, role, password, now, secret=secret)
            found = pyotp.parse_uri(uri)
            told = found.secret
    return SignIns(password, told)
