"""What a data subject may ask of an authority, under which law, by when it answers, and where to turn otherwise.

Data and one function. Decides which law an authority of a role is under; what of it is restricted, the policy says.
"""

from __future__ import annotations

import calendar
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType
from typing import Final

from connector_psi.domain.purposes import ProfileRole


@dataclass(frozen=True, slots=True)
class Regime:
    """The law under which an authority answers."""

    law: str
    rights: tuple[str, ...]
    """In words, with the article."""
    authority: str
    """Where to complain."""
    months: int | None
    """By when an answer is due; None where the law says without undue delay, and national law when that is."""
    due_source: str


_GDPR: Final = Regime(
    law="Regulation (EU) 2016/679 (GDPR)",
    rights=(
        "access to the data and to this information (Article 15)",
        "rectification of inaccurate data (Article 16)",
        "erasure and restriction (Articles 17 and 18)",
    ),
    authority="the supervisory authority for data protection of the Member State (Article 77)",
    months=1,
    due_source="Regulation (EU) 2016/679, Article 12(3)",
)
_LED: Final = Regime(
    law="Directive (EU) 2016/680, as national law has it",
    rights=(
        "access to the data and to this information (Article 14), with the limits of Article 15",
        "rectification, erasure and restriction (Article 16)",
        "exercise of these rights through the supervisory authority (Article 17)",
    ),
    authority="the supervisory authority for data protection of the Member State (Article 52)",
    months=None,
    due_source="Directive (EU) 2016/680, Article 12(3): without undue delay",
)
REGIMES: Final[Mapping[ProfileRole, Regime]] = MappingProxyType(
    {
        **dict.fromkeys((ProfileRole.CUSTOMS, ProfileRole.ANTI_FRAUD), _GDPR),
        **dict.fromkeys(
            (ProfileRole.POLICE, ProfileRole.BORDER_GUARD, ProfileRole.COAST_GUARD, ProfileRole.NATIONAL_UNIT), _LED
        ),
        ProfileRole.NSIS: Regime(
            law="Regulation (EU) 2018/1862 (SIS)",
            rights=(
                "access, rectification of inaccurate data and erasure of data unlawfully stored (Article 67(1))",
                "an action before a court or the supervisory authority (Article 68)",
            ),
            authority="the supervisory authority of any Member State (Articles 67 to 69)",
            months=1,
            due_source="Regulation (EU) 2018/1862, Article 67(4), with 2016/679, Article 12(3)",
        ),
        ProfileRole.EUROPOL: Regime(
            law="Regulation (EU) 2016/794 (Europol)",
            rights=("access (Article 36)", "rectification, erasure and restriction (Article 37)"),
            authority="the European Data Protection Supervisor (Article 47)",
            months=3,
            due_source="Regulation (EU) 2016/794, Article 36(4)",
        ),
    }
)


def answer_due(regime: Regime, received: date) -> date | None:
    """Return the day by which a request of that day is answered; None where the law names none."""
    if regime.months is None:
        return None
    years, month = divmod(received.month - 1 + regime.months, 12)
    year = received.year + years
    return date(year, month + 1, min(received.day, calendar.monthrange(year, month + 1)[1]))
