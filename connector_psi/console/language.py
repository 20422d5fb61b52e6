"""Languages of the console: texts from catalogues, dates and numbers as a language writes them.

Decides: which language a browser gets. The text in the source is English and is the key; ``catalogues/LANGUAGE.po`` has
the others. A text that a catalogue does not have is shown in English, and a test tells.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

from babel import Locale
from babel.dates import format_date, format_datetime, format_timedelta
from babel.messages.pofile import read_po
from babel.numbers import format_decimal, format_percent
from markupsafe import Markup

LANGUAGES: Mapping[str, str] = {"en": "English", "fr": "Français", "de": "Deutsch", "el": "Ελληνικά"}
"""Code -> its own name."""
DEFAULT = "en"
_LOCALES = {"en": "en_IE", "fr": "fr_FR", "de": "de_DE", "el": "el_GR"}
_FOLDER = Path(__file__).parent / "catalogues"


def choose(wanted: str, accepted: str) -> str:
    """Return the language of a page.

    Args:
        wanted: What the person chose; empty for nothing.
        accepted: The browser's ``Accept-Language`` (RFC 9110, 12.5.4).
    """
    if wanted in LANGUAGES:
        return wanted
    ranked: list[tuple[float, int, str]] = []
    for place, part in enumerate(accepted[:500].split(",")):
        tag, _, rest = part.strip().partition(";")
        try:
            quality = float(rest.strip().removeprefix("q=")) if rest else 1.0
        except ValueError:
            quality = 0.0
        code = tag.partition("-")[0].lower()
        if code in LANGUAGES and quality > 0:
            ranked.append((-quality, place, code))
    return min(ranked)[2] if ranked else DEFAULT


class Language:
    """One language, in one time zone.

    Args:
        code: Of ``LANGUAGES``.
        zone: Time zone in which times are shown.
    """

    def __init__(self, code: str, zone: str) -> None:
        self.code = code
        self._texts = catalogue(code)
        self._zone = ZoneInfo(zone)
        self._locale = Locale.parse(_LOCALES[code])

    def text(self, text: str, **values: object) -> str:
        """Return a text of the catalogue, with values in the places that it names in braces."""
        found = self._texts.get(text) or text
        return found.format(**values) if values else found

    def said(self, text: str) -> Markup:
        """Return a text of a service for a page: translated, or marked as the English that it is."""
        told = self.text(text)
        return (
            Markup('<span lang="en">{}</span>').format(told) if told == text else Markup("<span>{}</span>").format(told)
        )

    def time(self, when: datetime | float | None) -> str:
        """Return a time to the minute, with its zone; Unix milliseconds or aware. Empty for None and 0."""
        if not when:
            return ""
        return format_datetime(_moment(when), "d MMM y, HH:mm zzz", tzinfo=self._zone, locale=self._locale)

    def second(self, when: datetime | float | None) -> str:
        """Return a time to the second, with its zone."""
        if not when:
            return ""
        return format_datetime(_moment(when), "d MMM y, HH:mm:ss zzz", tzinfo=self._zone, locale=self._locale)

    def day(self, day: date) -> str:
        """Return a date."""
        return format_date(day, "d MMM y", locale=self._locale)

    def short_day(self, day: date) -> str:
        """Return a day of a chart."""
        return format_date(day, "d MMM", locale=self._locale)

    def span(self, seconds: float) -> str:
        """Return a length of time, rounded: ``3 hours``."""
        return format_timedelta(timedelta(seconds=abs(seconds)), threshold=1.2, locale=self._locale)

    def number(self, value: float) -> str:
        """Return a number, to at most three decimals."""
        return format_decimal(value, format="#,##0.###", locale=self._locale)

    def share(self, value: float) -> str:
        """Return a share of 1 as a percentage."""
        return format_percent(value, format="#,##0.# %", locale=self._locale)


@cache
def catalogue(code: str) -> Mapping[str, str]:
    """Return the texts of a language by their English; empty for English."""
    path = _FOLDER / f"{code}.po"
    if code == DEFAULT or not path.exists():
        return {}
    with path.open("rb") as file:
        found = read_po(file, locale=code)
    return {str(each.id): str(each.string) for each in found if each.id and each.string and not each.fuzzy}


@cache
def language(code: str, zone: str) -> Language:
    """Return a language; made once."""
    return Language(code, zone)


def _moment(when: datetime | float) -> datetime:
    return when if isinstance(when, datetime) else datetime.fromtimestamp(when / 1000, tz=UTC)
