from __future__ import annotations

import pytest

from connector_psi.domain.freetext import extract_candidates
from connector_psi.domain.records import IdentifierType as T


def test_candidates_in_free_text() -> None:
    text = (
        "1 USED CAR, VIN: WVW ZZZ1JZ3W 386752 / chassis no. WAUZZZ8K9BA123456; in csqu 305438-3\n"
        "ex M/V AMBER IMO: 9074729. Driver PASSPORT NO: FR 12AB34567, ID CARD DE L01X00T47, CSQU3054383"
    )
    assert extract_candidates(text) == [
        (T.VIN, "WVWZZZ1JZ3W386752"),
        (T.VIN, "WAUZZZ8K9BA123456"),
        (T.CONTAINER, "CSQU3054383"),
        (T.IMO, "9074729"),
        (T.IDENTITY_DOCUMENT, "FR/P/12AB34567"),
        (T.IDENTITY_DOCUMENT, "DE/I/L01X00T47"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "CSQU3054384",  # check digit
        "CSQU305438",  # none
        "XCSQU3054383",  # part of a longer word
        "CSQU30543831",
        "CSQU3O54383",  # look-alikes are not read in free text
        "9074729",  # a number without the word IMO
        "IMO 9074728",
        "SHIPIMO 9074729",
        "REF WVWZZZ1JZ3W38675",  # 16 characters
        "WVWZZZ1JZ3W3867522",
        "A-WVWZZZ1JZ3W386752",
        "WVWZZZ1JZ3W38675A",  # the last four are digits
        "12345678901234567",
        "PASSPORT 12345678",
        "PASSPORT NO 12345678",  # NO is a word here, not Norway
        "PASSPORT NR 12345678",
        "PASSPORT ID 12345678",
        "PASSPORT QQ 12345678",
        "PASSPORT FR ABCDEFGH",
        "12AB34567",
        "CHASSIS PARTS AND BRAKES FOR TRUCKS",
        "VIN BLANC ALSACE 12 2015",  # wine, and seventeen characters
        "VIN WVW ZZZ1JZ3W 386752",  # so that nothing says that this is not wine
        "COPY OF PASSPORT AND 123456 PCS",  # AND is Andorra
        "PASSPORT TO 20240101",
        "IMO CLASS 3 UN 1993",
        "IMO 907472",
        "IMO 90747290",
        "CSQU 30 543 83",
        "MENU 123 456 7",  # check digit
        "\u0421SQU3054383",  # Cyrillic Es: the rest is no owner code
        "A\u00dfU3054388",  # sharp s is not SS
        "HLCUSHA20123456789",
        "WVWZZZ1JZ3W386752/1",
        "0VWZZZ1JZ3W386752",  # no region begins with 0
    ],
)
def test_free_text_without_certain_candidates(text: str) -> None:
    assert extract_candidates(text) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("*WVWZZZ1JZ3W386752*", (T.VIN, "WVWZZZ1JZ3W386752")),
        ("Vin: wvw zzz 1jz 3w 386752", (T.VIN, "WVWZZZ1JZ3W386752")),
        ("VIN/WVWZZZ1JZ3W386752", (T.VIN, "WVWZZZ1JZ3W386752")),
        ("VIN-WVWZZZ1JZ3W386752/1", (T.VIN, "WVWZZZ1JZ3W386752")),
        ("VINWVWZZZ1JZ3W386752", (T.VIN, "WVWZZZ1JZ3W386752")),
        ("VIN NO WVW ZZZ1JZ3W 386752", (T.VIN, "WVWZZZ1JZ3W386752")),
        ("chassis-nr. WVW ZZZ 1JZ 3W 386752", (T.VIN, "WVWZZZ1JZ3W386752")),
        ("IMO: No. 9074729", (T.IMO, "9074729")),
        ("IMO No9074729", (T.IMO, "9074729")),
        ("IMO \u2116 9074729", (T.IMO, "9074729")),
        ("IMO n\u00b0 9074729", (T.IMO, "9074729")),
        ("CNTR#CSQU3054383/45G1", (T.CONTAINER, "CSQU3054383")),
        ("\uff23\uff33\uff31\uff35\uff13\uff10\uff15\uff14\uff13\uff18\uff13", (T.CONTAINER, "CSQU3054383")),
        ("CSQU\u00a0305438\u20113", (T.CONTAINER, "CSQU3054383")),
        ("csqu\t305 438\n3", (T.CONTAINER, "CSQU3054383")),
        ("residence permit nr DEU L01X00T47", (T.IDENTITY_DOCUMENT, "DE/R/L01X00T47")),
        ("Driving licence: GB/MORGA753116SM", (T.IDENTITY_DOCUMENT, "GB/D/MORGA753116SM")),
        ("travel document UNO 12345678", (T.IDENTITY_DOCUMENT, "UN/T/12345678")),
    ],
)
def test_free_text_with_one_candidate(text: str, found: tuple[T, str]) -> None:
    assert extract_candidates(text) == [found]


def test_every_pattern_can_be_found_behind_its_quick_test() -> None:
    """A quick test that a candidate does not pass would hide it from a text that has nothing else."""
    for text, found in (
        ("CSQU3054383", T.CONTAINER),
        ("CSQU-305-438-3", T.CONTAINER),
        ("IMO9074729", T.IMO),
        ("WVWZZZ1JZ3W386752", T.VIN),
        ("CHASSIS W V W Z Z Z 1 J Z 3 W 3 8 6 7 5 2", T.VIN),
        ("PASSPORT FR 12AB34567", T.IDENTITY_DOCUMENT),
        ("ID CARD FR 12AB34567", T.IDENTITY_DOCUMENT),
        ("IDENTITY CARD FR 12AB34567", T.IDENTITY_DOCUMENT),
        ("RESIDENCE PERMIT FR 12AB34567", T.IDENTITY_DOCUMENT),
        ("DRIVING LICENSE FR 12AB34567", T.IDENTITY_DOCUMENT),
        ("DRIVING LICENCE FR 12AB34567", T.IDENTITY_DOCUMENT),
        ("TRAVEL DOCUMENT FR 12AB34567", T.IDENTITY_DOCUMENT),
    ):
        for written in (text, text.lower(), f"x {text}.", f"\u00e4 {text}"):
            assert [type_ for type_, _ in extract_candidates(written)] == [found], written


def test_norwegian_passport_is_found_behind_the_word_number() -> None:
    assert extract_candidates("passport no. NO 12345678") == [(T.IDENTITY_DOCUMENT, "NO/P/12345678")]
