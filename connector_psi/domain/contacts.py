"""Canonical forms of telephone numbers, e-mail addresses and hosts.

Decides: what is one number, one address, one site.
Leaves to others: Unicode and separators (``domain.writing``). No number is called and no name resolved.

The libraries judge. Two short cuts give what they would give for the usual spellings, since a customs message holds
several contacts; numbers and addresses are not cached, so that none outlives its record, only domains are.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

import phonenumbers
from email_validator import SPECIAL_USE_DOMAIN_NAMES, EmailNotValidError, validate_email

from connector_psi.domain.writing import DASH, HIDDEN, bare, country_of, nfkc
from connector_psi.errors import NormalisationError

# --- telephone -----------------------------------------------------------------------------------------------------

_PHONE = re.compile(r"(\+|00)?([0-9]{3,17})")
_PHONE_BRACKETS = {ord("("): None, ord(")"): None}


def phone(value: str, country: str = "") -> str:
    """Give E.164. Letters are refused: on a keypad O is 6 and I is 4, so they cannot be read as 0 and 1."""
    found = _PHONE.fullmatch(value) or _PHONE.fullmatch(bare(nfkc("phone", value)).translate(_PHONE_BRACKETS))
    if found is None:
        raise NormalisationError("phone.format")
    digits = found[2]
    if found[1]:
        canonical = f"+{digits}" if _is_plainly_possible(digits) else _e164(f"+{digits}", None)
    else:
        region = country_of("phone", country)
        if not region:
            raise NormalisationError("phone.country_missing")
        canonical = _e164(digits, region)
    if not canonical:
        raise NormalisationError("phone.invalid")
    return canonical


def _e164(number: str, region: str | None) -> str:
    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return ""
    # Possible, not assigned: ranges come into use faster than tables of them are updated, and both sides must agree.
    if not phonenumbers.is_possible_number(parsed) or _is_placeholder(str(parsed.national_number)):
        return ""
    canonical = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
    if canonical == number or _is_plainly_possible(canonical[1:]):
        return canonical
    # Of several prefixes the library takes off one at a time; what it would shorten again has no one form.
    return canonical if _e164(canonical, None) == canonical else ""


def _is_placeholder(national: str) -> bool:
    """A number of one or two digits repeated is a placeholder, and equal placeholders would match."""
    return len(set(national)) <= 2


class _CallingCode(NamedTuple):
    """What the library's tables say about a country calling code."""

    lengths: frozenset[int]
    prefix: re.Pattern[str] | None
    """Digits that may stand before a national number and would be taken off."""


@lru_cache(maxsize=1024)
def _calling_code(code: str) -> _CallingCode | None:
    if code[0] == "0" or int(code) not in phonenumbers.COUNTRY_CODE_TO_REGION_CODE:
        return None
    region = phonenumbers.region_code_for_country_code(int(code))
    metadata = phonenumbers.PhoneMetadata.metadata_for_region_or_calling_code(int(code), region)
    if metadata is None or metadata.general_desc is None:
        return None
    prefix = metadata.national_prefix_for_parsing
    return _CallingCode(frozenset(metadata.general_desc.possible_length), re.compile(prefix) if prefix else None)


def _is_plainly_possible(digits: str) -> bool:
    """Tell whether the library would give the international number back as it stands.

    True only where nothing could be taken off or read otherwise: no zero and no national prefix at its head.
    """
    for size in (1, 2, 3):
        plan = _calling_code(digits[:size])
        if plan is not None:
            national = digits[size:]
            return (
                len(national) in plan.lengths
                and national[0] != "0"
                and (plan.prefix is None or plan.prefix.match(national) is None)
                and not _is_placeholder(national)
            )
    return False


# --- e-mail --------------------------------------------------------------------------------------------------------

_PLAIN_LOCAL = re.compile(r"[a-z0-9_+%-]+(?:\.[a-z0-9_+%-]+)*")
_PLAIN_DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+([a-z]{2,63})")
_SPECIAL_DOMAINS = frozenset(name.rpartition(".")[2] for name in SPECIAL_USE_DOMAIN_NAMES)


def email(value: str) -> str:
    """Give the whole address in lower case, its domain in IDNA's ASCII form."""
    text = nfkc("email", value)
    if not text.isascii():
        text = DASH.sub("-", HIDDEN.sub("", text))
    text = text.strip().lower()
    local, _, domain = text.rpartition("@")
    canonical = ""
    if local and len(local) <= 64 and _PLAIN_LOCAL.fullmatch(local):
        ascii_domain = _ascii_domain(domain)
        canonical = f"{local}@{ascii_domain}" if ascii_domain else ""
    elif local:
        canonical = _validated_email(text)
    if not canonical or len(canonical.encode()) > 254:
        raise NormalisationError("email.invalid")
    return canonical


def _ascii_domain(domain: str) -> str:
    """Give a domain in ASCII, or an empty string."""
    plain = _PLAIN_DOMAIN.fullmatch(domain)
    if plain is not None and "--" not in domain and len(domain) <= 252 and plain[1] not in _SPECIAL_DOMAINS:
        return domain
    return _validated_domain(domain)


@lru_cache(maxsize=4096)
def _validated_domain(domain: str) -> str:
    return _validated_email(f"a@{domain}")[2:]


def _validated_email(text: str) -> str:
    """Give an address in its canonical form, or an empty string: the library's error holds parts of it."""
    try:
        # test_environment takes the domain .test in, which stands in synthetic data.
        parts = validate_email(text, check_deliverability=False, test_environment=True)
    except (EmailNotValidError, UnicodeError):
        return ""
    if parts.ascii_domain is None:
        return ""
    local = unicodedata.normalize("NFKC", parts.local_part)
    return f"{local}@{parts.ascii_domain.lower()}"


# --- sites ---------------------------------------------------------------------------------------------------------

_SCHEME = re.compile(r"(?:[a-z][a-z0-9+.-]*:)?//+")
_AFTER_HOST = re.compile(r"[/\\?#]")
_PORT = re.compile(r":[0-9]*\Z")
# Numbers, hexadecimal ones too, are addresses of the network and not names.
_TOP_LEVEL = re.compile(r".*\.(?:[a-z]{2,63}|xn--[a-z0-9-]+)")
# RFC 7686; 16 characters until 2021, 56 since.
_ONION = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9-]{1,63}\.)*[a-z2-7]{16}(?:[a-z2-7]{40})?\.onion")


def website(value: str) -> str:
    """Give the host of a site in lower case and IDNA's ASCII form, without ``www.``.

    Scheme, user, port and path go. Addresses of the network are refused: many hosts share one, and it passes on.

    Source: RFC 3986, 3.2; RFC 5891.
    """
    text = DASH.sub("-", HIDDEN.sub("", nfkc("website", value))).strip().lower()
    scheme = _SCHEME.match(text)
    host = _AFTER_HOST.split(text[scheme.end() :] if scheme else text, maxsplit=1)[0]
    if scheme:
        host = host.rpartition("@")[2]
    host = _PORT.sub("", host).removesuffix(".")
    if not _ONION.fullmatch(host):
        # What holds an @ still is an address: it must not come into the cache of domains.
        host = "" if "@" in host else _ascii_domain(host)
        if not _TOP_LEVEL.fullmatch(host):
            raise NormalisationError("website.invalid")
    while host.startswith("www.") and host.count(".") > 1:
        host = host.removeprefix("www.")
    return host
