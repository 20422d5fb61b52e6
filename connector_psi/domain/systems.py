"""The registry of systems: every system of the mission, what it is to the node, and why some are refused.

Decides: code, name, owner, role and status of each system, and the reason where the node takes nothing from it. Leaves
to others: formats (``adapters``), who may ask whom (``policy``), words that no policy may name (``domain.purposes``).

Source: the practitioners' mapping of customs and home-affairs systems; Regulations (EU) No 952/2013, 2018/1861,
2018/1862, 2016/794, 515/97 and 2025/512.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from connector_psi.domain.records import SourceSystem


class SystemStatus(StrEnum):
    """Whether a node takes records of a system in."""

    SUPPORTED = "supported"
    UNVERIFIED = "unverified"
    """Supported, with a format for which no public schema or sample was found."""
    BATCH_ONLY = "batch_only"
    """Supported, and never part of an agreement that asks in real time."""
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class System:
    """One system."""

    code: str
    name: str
    owner: str
    """Who runs it."""
    role: str
    """Its part in matching, in words for people."""
    status: SystemStatus
    reason: str
    """Why it is refused or limited; empty where nothing limits it."""
    category_prefix: str = ""
    """What its categories begin with, such as ``ics2.``; empty where it is refused."""

    @property
    def refused(self) -> bool:
        """Whether nothing is taken in from it."""
        return self.status is SystemStatus.REFUSED

    @property
    def real_time(self) -> bool:
        """Whether its records may take part in an agreement that asks in real time."""
        return self.status is not SystemStatus.BATCH_ONLY


LIMITED_USE: Final = "the practitioners found it of very limited use, if at all"
OUTSIDE_MAPPING: Final = "it is outside the result of the mapping of systems"

_S = SystemStatus
_ALL: Final = (
    System(
        "ICS2", "Import Control System 2", "DG TAXUD and customs authorities", "querier and owner, bulk",
        _S.SUPPORTED, "", "ics2.",
    ),
    System(
        "ICS", "Import Control System, first release", "customs authorities", "querier and owner, bulk",
        _S.SUPPORTED, "", "ics.",
    ),
    System(
        "NCTS", "New Computerised Transit System", "DG TAXUD and customs authorities", "querier, bulk",
        _S.SUPPORTED, "", "ncts.",
    ),
    System(
        "AES", "Automated Export System", "DG TAXUD and customs authorities", "querier, bulk",
        _S.UNVERIFIED, "no public schema was found; element names follow the EU customs data model", "aes.",
    ),
    System(
        "CSM", "Container Status Messages directory", "European Anti-Fraud Office (OLAF)", "querier; risk",
        _S.UNVERIFIED, "the format is not published; DCSA Track and Trace events stand in for it", "csm.",
    ),
    System(
        "SURVEILLANCE", "Surveillance of imports and exports", "DG TAXUD", "batch only, never real time",
        _S.BATCH_ONLY, "its data come in batches after the fact; no agreement asks with it in real time",
        "surveillance.",
    ),
    System(
        "CRMS", "Customs Risk Management System", "DG TAXUD and customs authorities", "owner for customs",
        _S.SUPPORTED, "", "crms.",
    ),
    System(
        "AFIS", "Anti-Fraud Information System, Customs Information System", "European Anti-Fraud Office (OLAF)",
        "owner for customs", _S.SUPPORTED, "", "afis.",
    ),
    System(
        "SIS", "Schengen Information System", "eu-LISA and national N.SIS offices", "owner and querier",
        _S.SUPPORTED, "", "sis.",
    ),
    System(
        "EIS", "Europol Information System", "Europol", "owner; the provider of the data decides",
        _S.SUPPORTED, "", "eis.",
    ),
    System(
        "SIENA", "Secure Information Exchange Network Application", "Europol and its partners", "owner and querier",
        _S.SUPPORTED, "", "siena.",
    ),
    System(
        "CISE", "Common Information Sharing Environment for the maritime domain", "EMSA and maritime authorities",
        "exchange of confirmed hits and risks; source of vessels and organisations", _S.SUPPORTED, "", "cise.",
    ),
    System(
        "SLTD", "Stolen and Lost Travel Documents", "Interpol", "none", _S.REFUSED, OUTSIDE_MAPPING,
    ),
    System(
        "PRUM_VEHICLES", "Prüm vehicle registration data", "national registration authorities", "none",
        _S.REFUSED, OUTSIDE_MAPPING,
    ),
    System("PNR", "Passenger Name Records", "national passenger information units", "none", _S.REFUSED, LIMITED_USE),
    System("EURODAC", "European Asylum Dactyloscopy Database", "eu-LISA", "none", _S.REFUSED, LIMITED_USE),
    System("VIS", "Visa Information System", "eu-LISA", "none", _S.REFUSED, LIMITED_USE),
    System("EES", "Entry/Exit System", "eu-LISA", "none", _S.REFUSED, LIMITED_USE),
    System(
        "ETIAS", "European Travel Information and Authorisation System", "Frontex and eu-LISA", "none",
        _S.REFUSED, LIMITED_USE,
    ),
)  # fmt: skip

SYSTEMS: Final[Mapping[str, System]] = MappingProxyType({system.code: system for system in _ALL})
"""By code, in the order of the mission: customs, home affairs, the sea, those that are refused."""

# From: WCO/IATA/ICAO PNRGOV implementation guide, EDIFACT message PNRGOV and XML message IATA_PNRGOVNotifRQ. A UNA
# segment may set other separators.
_REFUSED_INTERCHANGES: Final = (
    ("PNR", re.compile(rb"(?:\xef\xbb\xbf)?\s*UN[AB]\W.{0,2000}?UNH\W.{1,40}?\WPNRGOV\W", re.DOTALL)),
)
_REFUSED_ROOTS: Final = MappingProxyType({"IATA_PNRGOVNotifRQ": "PNR"})


def system_of(source: SourceSystem) -> System:
    """Return the system that records come from."""
    return SYSTEMS[source.value]


def system_of_category(category: str) -> System | None:
    """Return the system that a category of records belongs to, None where there is none."""
    return next((each for each in _ALL if each.category_prefix and category.startswith(each.category_prefix)), None)


def refused_system(head: bytes, root: str) -> System | None:
    """Recognise data of a system that is refused.

    Args:
        head: The first bytes of a file.
        root: Qualified name of its root element; empty where it is no XML.
    """
    code = _REFUSED_ROOTS.get(root.rpartition("}")[2])
    code = code or next((code for code, mark in _REFUSED_INTERCHANGES if mark.match(head)), None)
    return None if code is None else SYSTEMS[code]
