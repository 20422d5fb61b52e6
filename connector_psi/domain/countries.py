"""Country codes as sources write them, read as ISO 3166-1 alpha-2.

Decides: which spellings name which country. ISO alpha-2 comes first, then alpha-3, then a few codes of customs and
travel documents, then the distinguishing signs of vehicles in international traffic. A later list never overrides an
earlier one: ``ET`` is Ethiopia, although a vehicle with that sign is Egyptian.
Leaves to others: separators and case (``domain.identifiers``), and which types need a country at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import pycountry

# Signs that are no ISO code of another country. Source: UNECE, Distinguishing Signs Used on Vehicles in International
# Traffic (Vienna Convention on Road Traffic, Article 37), with signs that old plates and records still carry.
_VEHICLE_SIGNS = {
    "A": "AT", "B": "BE", "C": "CU", "D": "DE", "E": "ES", "F": "FR", "H": "HU", "I": "IT", "J": "JP", "K": "KH",
    "L": "LU", "M": "MT", "N": "NO", "P": "PT", "Q": "QA", "S": "SE", "T": "TH", "V": "VA", "Z": "ZM",
    "BDS": "BB", "BRU": "BN", "CAM": "CM", "CDN": "CA", "CGO": "CD", "DY": "BJ", "EAK": "KE", "EAT": "TZ", "EAU": "UG",
    "EAZ": "TZ", "FL": "LI", "GBG": "GG", "GBJ": "JE", "GBM": "IM", "GBZ": "GI", "GCA": "GT", "HKJ": "JO", "JA": "JM",
    "KS": "KG", "KSA": "SA", "LAR": "LY", "MAL": "MY", "MGL": "MN", "MOC": "MZ", "NEP": "NP", "NMK": "MK", "RA": "AR",
    "RCA": "CF", "RCB": "CG", "RCH": "CL", "RG": "GN", "RH": "HT", "RI": "ID", "RIM": "MR", "RKS": "XK", "RL": "LB",
    "RM": "MG", "RMM": "ML", "RN": "NE", "ROK": "KR", "RSM": "SM", "SF": "FI", "SLO": "SI", "SME": "SR", "TCH": "TD",
    "UAE": "AE", "WAG": "GM", "WAL": "SL", "WAN": "NG", "WD": "DM", "WG": "GD", "WL": "LC", "WV": "VC", "YV": "VE",
}  # fmt: skip

# XK: user-assigned, used by the Union for Kosovo. EL: Greece in VAT and NCTS. XI: Northern Ireland in customs, whose
# vehicles and documents are the United Kingdom's. EUE, UNO: issuers of travel documents (ICAO Doc 9303-3, section 5).
_OTHER_CODES = {"XK": "XK", "XKX": "XK", "EL": "GR", "UK": "GB", "XI": "GB", "EUE": "EU", "UNO": "UN"}


def _build() -> Mapping[str, str]:
    codes = _VEHICLE_SIGNS | _OTHER_CODES
    codes |= {country.alpha_3: country.alpha_2 for country in pycountry.countries}
    codes |= {country.alpha_2: country.alpha_2 for country in pycountry.countries}
    # The canonical form must be readable again.
    codes |= {"EU": "EU", "UN": "UN"}
    return MappingProxyType(codes)


_CODES = _build()


def country_code(code: str) -> str:
    """Give the alpha-2 code that a country code or sign stands for.

    The result is stable: ``country_code(country_code(x)) == country_code(x)``.

    Args:
        code: ASCII upper-case letters without separators.

    Returns:
        Two letters, or an empty string where the code is unknown.
    """
    return _CODES.get(code, "")
