"""Spellings of one place meet, and what says nothing gives no key. Addresses are invented, cities are not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pycountry
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector_psi.domain.naming import places
from connector_psi.domain.naming.places import (
    Address,
    address_of,
    city_keys,
    country_key,
    email_domain_key,
    load_unlocode,
    postcode_key,
)
from connector_psi.errors import FormatError


@pytest.fixture
def without_locodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(places, "_LOCODES", {})
    places._city_keys.cache_clear()
    yield
    places._city_keys.cache_clear()


# --- countries -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "spellings"),
    [
        ("DE", "DE|de|DEU|D|Germany|GERMANY|Deutschland|Allemagne|Duitsland|Niemcy|Германия|German|(a) German"),
        ("GB", "UK|GBR|United Kingdom|Great Britain|England|British|Großbritannien|U.K."),
        ("US", "USA|U.S.A.|United States|United States of America|American"),
        ("RU", "Russia|Russian Federation|Россия|Russian|Russland"),
        ("KP", "North Korea|DPRK.|Democratic People\u2019s Republic of Korea|Korea, Democratic People's Republic of"),
        ("KR", "South Korea|Korea, Republic of|Republic of Korea"),
        ("IR", "Iran|Iran (Islamic Republic of)|Iranian"),
        ("CI", "Côte d'Ivoire|COTE D\u2019IVOIRE|Ivory Coast|Ivorian"),
        ("TR", "Türkiye|Turkey|Turquie|Turkish"),
        ("CZ", "Czechia|Czech Republic|Česko|Tschechien|Czech"),
        ("HK", "Hong Kong|Hong Kong, China"),
        ("MM", "Myanmar|Burma|Myanmar/Burma"),
        ("GR", "Greece|Ελλάδα|EL|Greek"),
        ("CD", "Congo, the Democratic Republic of the|Democratic Republic of the Congo|DRC|Zaire"),
        ("XK", "Kosovo|XK"),
        ("PK", "Pakistani (presumed)"),
    ],
)
def test_spellings_of_a_country_meet(code: str, spellings: str) -> None:
    assert {text: country_key(text) for text in spellings.split("|")} == dict.fromkeys(spellings.split("|"), code)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "?",
        "Ruritania",
        "Korea",
        "Congo",
        "Congolese",
        "Russian, Belarusian",
        "(a) Malaysia, (b) Indonesia",
        "EU",
        "UN",
        "x" * 5000,
    ],
)
def test_what_is_no_country_or_several_is_none(text: str) -> None:
    assert country_key(text) is None


def test_every_code_and_english_name_of_iso_is_read() -> None:
    for country in pycountry.countries:
        assert country_key(country.alpha_2) == country_key(country.alpha_3) == country.alpha_2
        if country.alpha_2 != "CG":
            assert country_key(country.name) == country.alpha_2, country.name


def test_every_name_and_nationality_of_the_own_tables_is_one_countrys() -> None:
    seen: dict[str, str] = {}
    for table in (places._NATIONALITIES, places._MORE_NAMES):
        for code, names in table.items():
            for name in names.split(", "):
                assert seen.setdefault(name, code) == code
                assert country_key(name) == code, name


# --- cities --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("country", "spellings"),
    [
        ("DE", "Köln|Koeln|KOELN|Koln|Cologne|Keulen|Кёльн|كولونيا|科隆|50667 Köln|D-50667 KÖLN|Köln 1"),
        (
            "DE",
            "Frankfurt am Main|Frankfurt/Main|Frankfurt (Main)|Frankfurt a.M.|Frankfurt a. M.|Frankfurt|60311 Frankfurt",
        ),
        (
            "DE",
            "Frankfurt (Oder)|Frankfurt/Oder|Frankfurt an der Oder|Frankfurt a.d. Oder|Frankfurt/O.|Frankfurt a.d.O.",
        ),
        ("DE", "Halle (Saale)|Halle/Saale|Halle (S.)|Halle"),
        ("DE", "Freiburg im Breisgau|Freiburg i.Br.|Freiburg i. Br.|79098 Freiburg"),
        ("DE", "Sankt Augustin|St. Augustin|ST AUGUSTIN"),
        ("NL", "Den Haag|'s-Gravenhage|The Hague|La Haye|2511 AB Den Haag|NL-2511 AB DEN HAAG"),
        ("FR", "Paris|75015 Paris|Paris Cedex 15|PARIS CEDEX|Paris 15e Arrondissement|Parigi|Париж"),
        ("FR", "Saint-Étienne|St Etienne|SAINT ETIENNE"),
        ("BE", "Antwerpen|Anvers|Antwerp|2000 Antwerpen|B-2000 Antwerpen"),
        ("BE", "Bruxelles|Brussel|Brussels|Bruxelles / Brussel|1000 Bruxelles"),
        ("GB", "London|LONDON SW1A 2AA|Londres"),
        ("US", "New York, NY 10001|NEW YORK NY|New York City"),
        ("US", "St. Louis|Saint Louis, Missouri|St Louis, MO"),
        ("CH", "Genève|Geneva|Genf|Ginevra|1201 Genève|Genève GE"),
        ("IT", "Milano|Milan|Mailand|Milano (MI)|20121 Milano MI"),
        ("IT", "Bolzano|Bozen|Bolzano/Bozen"),
        ("DK", "København|Copenhagen|Kopenhagen|København K|1050 København K"),
        ("DK", "Århus|Aarhus|Aarhus C|8000 Aarhus C"),
        ("RU", "Москва|\u0433. Москва|Moskva|Moscow|Moskau"),
        ("UA", "Київ|Kyiv|Kiev|м. Київ|Киев"),
        ("GR", "Πειραιάς|Piraeus|Pireas"),
        ("AT", "Wien|Vienna|Bécs|1030 Wien|Wien III"),
        ("CN", "上海|Shanghai|SHANG HAI"),
        # Not in the gazetteer.
        ("DE", "Großweitzschen|Grossweitzschen|GROSS WEITZSCHEN|04720 Großweitzschen"),
        ("SE", "Överkalix|Oeverkalix|OVERKALIX"),
    ],
)
def test_spellings_of_a_city_meet_in_one_key(country: str, spellings: str) -> None:
    keys = {text: city_keys(text, country) for text in spellings.split("|")}
    assert len(set(keys.values())) == 1, keys
    (key,) = set(keys.values())
    assert len(key) == 1
    assert key[0].startswith(f"{country}/")


@pytest.mark.parametrize(
    ("country", "text", "city"),
    [
        ("DE", "Hamburg-Altona", "Hamburg"),
        ("DE", "Altona, Hamburg", "Hamburg"),
        ("DE", "Hamburg (Rissen)", "Hamburg"),
        ("DE", "München-Riem", "Muenchen"),
        ("NL", "Rotterdam-Europoort", "Rotterdam"),
        ("FR", "Vénissieux, Lyon", "Lyon"),
    ],
)
def test_a_part_of_a_large_city_meets_the_city_too(country: str, text: str, city: str) -> None:
    assert set(city_keys(city, country)) < set(city_keys(text, country)) or city_keys(city, country) == city_keys(
        text, country
    )
    assert len(city_keys(text, country)) <= 2


@pytest.mark.parametrize(
    ("country", "one", "other"),
    [
        ("DE", "Frankfurt am Main", "Frankfurt (Oder)"),
        ("DE", "Frankfurt a.d. Oder", "Frankfurt"),
        ("GB", "Newcastle-under-Lyme", "Newcastle upon Tyne"),
        ("US", "Saint Charles", "Denver"),
        ("DE", "Neustadt an der Weinstraße", "Neustadt in Holstein"),
    ],
)
def test_cities_of_like_names_stay_apart(country: str, one: str, other: str) -> None:
    assert not set(city_keys(one, country)) & set(city_keys(other, country))


def test_a_name_of_several_cities_gives_the_names_key() -> None:
    assert city_keys("Neustadt", "DE") == ("DE/neustadt",)
    assert city_keys("Springfield, IL", "US") == city_keys("Springfield", "US") == ("US/springfield",)


def test_a_city_without_a_country_is_the_one_that_is_by_far_the_largest() -> None:
    assert city_keys("Hamburg", None) == city_keys("Hamburg", "") == city_keys("Hamburg", "DE")
    assert city_keys("Cologne", None) == city_keys("Köln", "DE")
    assert city_keys("Valencia", None) == ("*/valencia",)
    assert city_keys("Germany", None) == ()


def test_the_same_name_in_another_country_is_another_key() -> None:
    assert city_keys("London", "CA") != city_keys("London", "GB")


def test_a_territory_is_a_city_of_its_own_where_the_country_is_the_larger_one() -> None:
    assert city_keys("Hong Kong", "CN") == city_keys("Hong Kong", "HK") == ("HK/hongkong",)


def test_another_countrys_name_can_be_a_villages() -> None:
    assert city_keys("Åre", "SE") == ("SE/are",)
    assert city_keys("Deutschland", "DE") == ()


@pytest.mark.parametrize(
    "text", ["", " ", "-", "?", "N/A", "n.a.", "UNKNOWN", "unbekannt", "X", "12345", "None", "x" * 200, "x" * 5000]
)
def test_what_says_nothing_gives_no_city(text: str) -> None:
    assert city_keys(text, "DE") == ()


# No deadline: the first name that is not English loads the translations of all countries.
@settings(deadline=None)
@given(st.text(max_size=600), st.sampled_from([None, "", "DE", "NL", "US", "GB", "ZZ"]))
def test_nothing_raises_and_there_are_never_more_than_two_keys(text: str, country: str | None) -> None:
    keys = city_keys(text, country)
    assert len(set(keys)) == len(keys) <= 2
    assert all(key.partition("/")[2] for key in keys)
    address = address_of(text, country)
    postcode_key(address.postcode, address.country)
    postcode_key(text, country)
    country_key(text)
    email_domain_key(text)


def test_postcodes_do_not_come_into_the_cache_of_cities() -> None:
    places._city_keys.cache_clear()
    city_keys("SW1A 2AA London", "GB")
    city_keys("2511 ZZ Den Haag", "NL")
    before = places._city_keys.cache_info().currsize
    city_keys("W1A 1AA London", "GB")
    city_keys("2513 QQ Den Haag", "NL")
    assert places._city_keys.cache_info().currsize == before == 2


# --- UN/LOCODE -----------------------------------------------------------------------------------------------------

UNECE = ""","DE",,".GERMANY",,,,,,,,
,"DE","HAM","Hamburg","Hamburg","HH","12345---","AI","0601",,"5333N 01000E",
,"BE","GNE","Gent (Ghent)","Gent (Ghent)",,"123-5---","AI","0601",,,
"+","DE","XQY","Kleinkleckersdorf","Kleinkleckersdorf",,"--3-----","RL","2401",,,
=,"DE",,"Cologne = Köln","Cologne = Koln",,,,,,,
,"DE","ZZZ","DEHAM","DEHAM",,"--3-----","RL","2401",,,
"""


@pytest.mark.usefixtures("without_locodes")
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
def test_codes_mean_cities_once_a_file_is_given(tmp_path: Path, encoding: str) -> None:
    assert city_keys("DEHAM", "DE") == ("DE/deham",)
    path = tmp_path / "list.csv"
    path.write_bytes(UNECE.encode(encoding))
    assert load_unlocode(path) == 4
    for code in ("DEHAM", "DE HAM", "DE-HAM"):
        assert city_keys(code, "DE") == city_keys(code, None) == city_keys("Hamburg", "DE")
    assert city_keys("BEGNE", "BE") == city_keys("Gand", "BE")
    assert city_keys("DEXQY", "DE") == city_keys("Kleinkleckersdorf", "DE")
    assert city_keys("DEHAM", "NL") == ("NL/deham",)
    assert city_keys("DEZZZ", "DE") == ("DE/dez",)
    # A name is no code, even if it looks like one.
    assert city_keys("ESSEN", "ES") == ("ES/esen",)
    assert city_keys("Hamburg", "DE") == ("DE/hamburg",)


@pytest.mark.usefixtures("without_locodes")
def test_a_file_with_a_header_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("locode,name,subdivision\nNLRTM,Rotterdam,ZH\nbad,Bad,\n", encoding="utf-8")
    assert load_unlocode(path) == 1
    assert city_keys("NLRTM", None) == city_keys("Rotterdam", "NL")


@pytest.mark.usefixtures("without_locodes")
def test_a_file_without_codes_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    good.write_text(UNECE, encoding="utf-8")
    bad.write_text("a;b;c\nsecret;2;3\n", encoding="utf-8")
    with pytest.raises(FormatError) as caught:
        load_unlocode(good, bad)
    assert "secret" not in str(caught.value)
    assert not places._LOCODES
    with pytest.raises(OSError):
        load_unlocode(tmp_path / "missing.csv")


# --- postcodes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("country", "spellings", "key"),
    [
        ("DE", "20457|D-20457|DE 20457|DE-20457| 20457 |\uff12\uff10\uff14\uff15\uff17", "DE/20457"),
        ("DE", "01067|1067|D-01067", "DE/01067"),
        ("GB", "SW1A 2AA|sw1a2aa|SW1A|SW1A 1AA", "GB/SW1A"),
        ("GB", "M1 1AE|M1|m1 1ae", "GB/M1"),
        ("IE", "D02 X285|D02", "IE/D02"),
        ("CA", "M5V 2T6|m5v-2t6|M5V", "CA/M5V"),
        ("NL", "1012 AB|1012AB|1012|NL-1012 AB", "NL/1012"),
        ("US", "02139-1234|02139|2139|021391234", "US/02139"),
        ("PT", "1000-205|1000", "PT/1000"),
        ("BR", "01310-100|01310", "BR/01310"),
        ("AR", "C1425ABC|1425", "AR/1425"),
        ("LV", "LV-1010|1010", "LV/1010"),
        ("LT", "LT-01001|01001", "LT/01001"),
        ("SE", "411 03|SE-411 03|S-41103", "SE/41103"),
        ("PL", "00-950|00950|PL 00-950", "PL/00950"),
        ("AD", "AD500|500", "AD/500"),
        ("MT", "VLT 1117|VLT1117", "MT/VLT1117"),
        ("JE", "JE2 3AB|JE2", "JE/JE2"),
        (None, "D-20457|DE20457|DEU 20457", "DE/20457"),
    ],
)
def test_spellings_of_a_postcode_meet(country: str | None, spellings: str, key: str) -> None:
    assert {text: postcode_key(text, country) for text in spellings.split("|")} == dict.fromkeys(
        spellings.split("|"), key
    )


@pytest.mark.parametrize(
    ("country", "text"),
    [("DE", "00000"), ("DE", "99999"), ("DE", "N/A"), ("DE", "12"), ("DE", "2045X"), ("DE", "1234567"), ("DE", ""), ("DE", "F-20457"),
     ("GB", "20457"), ("NL", "ABCD"), (None, "20457"), (None, "SW1A 2AA"), (None, "X-20457"), ("HK", "none"), ("DE", "1" * 50)],
)  # fmt: skip
def test_what_is_no_postcode_gives_no_key(country: str | None, text: str) -> None:
    assert postcode_key(text, country) is None


# --- one-line addresses --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "country", "expected"),
    [
        ("Musterkai 12, 20457 Hamburg, DE", "DE", Address("Hamburg", "20457", "DE")),
        ("Musterkai 12, D-20457 Hamburg, Germany", "", Address("Hamburg", "20457", "DE")),
        ("Musterkai 12 20457 Hamburg", "DE", Address("Hamburg", "20457", "DE")),
        ("Musterkai 12, 1067 Dresden, DE", "DE", Address("Dresden", "1067", "DE")),
        ("12345 Sample Street, 10001 New York, NY, US", "US", Address("New York", "10001", "US")),
        ("5 Sample Street, Springfield, IL 62701, US", "US", Address("Springfield", "62701", "US")),
        ("5 Sample Street, Springfield IL 62701-1234", "US", Address("Springfield", "62701-1234", "US")),
        ("1 Sample Road, L1 1AA Liverpool, GB", "GB", Address("Liverpool", "L1 1AA", "GB")),
        ("1 Sample Road, London SW1A 2AA, United Kingdom", None, Address("London", "SW1A 2AA", "GB")),
        ("1 Sample Road, London, SW1A 2AA", "GB", Address("London", "SW1A 2AA", "GB")),
        ("Voorbeeldkade 12, 3011 AB Rotterdam, NL", "NL", Address("Rotterdam", "3011 AB", "NL")),
        ("Voorbeeldkade 12, 3011 Rotterdam, NL", "NL", Address("Rotterdam", "3011", "NL")),
        ("Voorbeeldkade 12, Rotterdam", "NL", Address("Rotterdam", "", "NL")),
        ("Rue Exemple 1, PO 12, 1000 Bruxelles, Brabant, BE", "BE", Address("Bruxelles", "1000", "BE")),
        ("ul. Przykładowa 5, 00-950 Warszawa, PL", "PL", Address("Warszawa", "00-950", "PL")),
        ("Exempelgatan 1, SE-411 03 Göteborg, SE", "SE", Address("Göteborg", "411 03", "SE")),
        ("Rua Exemplo 5, 1100-053 Lisboa, PT", "PT", Address("Lisboa", "1100-053", "PT")),
        ("Rua Exemplo 5, 1100 Lisboa, PT", "PT", Address("Lisboa", "1100", "PT")),
        ("Sample Street 12345, PO Box 99887, Dubai, AE", "AE", Address("Dubai", "", "AE")),
        ("12 Sample Road, Singapore 123456", "SG", Address("Singapore", "123456", "SG")),
        ("12 Sample Road, Singapore", "SG", Address("Singapore", "", "SG")),
        ("Calle Ejemplo 5, Monterrey, Mexico", None, Address("Monterrey", "", "MX")),
        ("Musterstraße 5, Kleinkleckersdorf", "DE", Address("Kleinkleckersdorf", "", "DE")),
        ("Hamburg", "DE", Address("Hamburg", "", "DE")),
        ("Musterstraße", "DE", Address("", "", "DE")),
        ("", "DE", Address("", "", "DE")),
        ("x" * 5000, "", Address()),
    ],
)
def test_city_and_postcode_are_found_in_a_line(line: str, country: str | None, expected: Address) -> None:
    assert address_of(line, country) == expected


# --- contacts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("email", "key"),
    [
        ("ops@shipping.example.co.uk", "example.co.uk"),
        ("OPS@Mail.Firma-Example.DE", "firma-example.de"),
        ("a@example.com.tr", "example.com.tr"),
        ("a@mail.example.org", "example.org"),
        ("a@sub.com.de", "com.de"),
        ("a@gmail.com", None),
        ("a@yahoo.co.uk", None),
        ("a@yahoo.fr", None),
        ("a@gmx.at", None),
        ("a@web.de", None),
        ("a@mail.ru", None),
        ("a@docomo.ne.jp", None),
        ("no address", None),
        ("", None),
    ],
)
def test_a_domain_corroborates_if_not_everybody_can_have_an_address_there(email: str, key: str | None) -> None:
    assert email_domain_key(email) == key


# --- cost ----------------------------------------------------------------------------------------------------------


def test_importing_loads_no_gazetteer() -> None:
    code = (
        "from connector_psi.domain.naming import places as p;"
        "print(p._load_gazetteer.cache_info().currsize, p._translated_countries.cache_info().currsize)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "0"]
