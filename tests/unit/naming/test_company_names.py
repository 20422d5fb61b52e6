"""How names of companies are read, and the keys they give. All names are invented."""

# ruff: noqa: RUF001 - names are in the letters they are written in

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector_psi.domain.naming.companies import (
    COMPANY_FAMILIES,
    CORE,
    JOINED,
    MAX_COMPANY_TOKENS,
    MIXED,
    NAME,
    PAIR,
    canonical,
    company_tokens,
    has_legal_form,
)
from connector_psi.domain.naming.generic_words import concepts_of_word, phrase_at
from connector_psi.domain.naming.keys import NameKey
from connector_psi.domain.naming.legal_forms import legal_form_at
from connector_psi.domain.naming.wordfold import fold, skeleton, spelling


def _shared(one: str, other: str) -> set[str]:
    """Families in which two names have an equal key."""
    return {key.family for key in set(company_tokens(one)) & set(company_tokens(other))}


def _of(name: str, family: str) -> list[str]:
    return [key.text for key in company_tokens(name) if key.family == family]


class TestReading:
    def test_what_a_name_consists_of(self) -> None:
        read = canonical("Joint Stock Company “Moscow Plant No. 12 ‘Kalimbra’ K")
        assert read.distinctive == ("kalimbra",)
        assert read.concepts == ("=plant",)
        assert read.places == ("@moscow",)
        assert read.numbers == ("#12",)
        assert read.short == ("~k",)
        assert read.legal_forms == ("stock",)
        assert read.joined == "moscowplant12kalimbrak"

    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("Kalimbra Ltd.", "limited"),
            ("KALIMBRA L.L.C.", "limited"),
            ("Kalimbra S. de R.L. de C.V.", "limited"),
            ("Kalimbra GmbH & Co. KG", "limited"),
            ("Kalimbra Sdn. Bhd.", "limited"),
            ("Kalimbra FZE", "limited"),
            ("ООО «Калимбра»", "limited"),
            ("Obshchestvo s ogranichennoy otvetstvennostyu Kalimbra", "limited"),
            ("Общество с ограниченной ответственностью «Калимбра»", "limited"),
            ("Kalimbra S.A.", "stock"),
            ("Kalimbra S.p.A.", "stock"),
            ("Kalimbra PJSC", "stock"),
            ("ПАО «Калимбра»", "stock"),
            ("Kalimbra Anonim Şirketi", "stock"),
            ("ФГУП «Калимбра»", "state"),
            ("Kalimbra e.V.", "association"),
        ],
    )
    def test_legal_forms_are_left_out_and_told(self, name: str, kind: str) -> None:
        read = canonical(name)
        assert read.distinctive == ("kalimbra",)
        assert read.legal_forms == (kind,)

    def test_two_letters_are_a_legal_form_at_the_ends_only(self) -> None:
        assert canonical("Kalimbra Dorvat AG").legal_forms == ("stock",)
        assert canonical("Kalimbra AG Dorvat").short == ("~ag",)

    @pytest.mark.parametrize("name", ["J & M Kalimbra", "J and M Kalimbra", "J.M. Kalimbra", "J M Kalimbra"])
    def test_letters_in_a_row_are_one_word(self, name: str) -> None:
        assert canonical(name).short == ("~jm",)

    def test_an_article_written_to_the_word_goes(self) -> None:
        assert canonical("Al-Zarvanit").distinctive == canonical("Alzarvanit").distinctive == ("zarvanit",)

    def test_roman_numbers_are_numbers(self) -> None:
        assert canonical("Kalimbra III").numbers == canonical("Kalimbra 003").numbers == ("#3",)
        assert canonical("Kalimbra ٠١٢").numbers == ("#12",)

    def test_marks_do_not_split_words(self) -> None:
        assert len(canonical("कलिम्ब्रा").distinctive) <= 1

    def test_nothing_is_nothing(self) -> None:
        assert company_tokens("") == company_tokens("«» - . , ()") == ()


class TestAcrossLanguages:
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("Zavod Kalimbra", "Kalimbra Plant"),
            ("ООО «Завод «Калимбра»", "Kalimbra Factory LLC"),
            ("AO NPO Kalimbra", "Scientific and Production Association Kalimbra, JSC"),
            ("TsKB Kalimbra", "Central Design Bureau Kalimbra"),
            ("Banco Kalimbra S.A.", "Kalimbra Bank Ltd"),
            ("Inversiones Kalimbra Ltda.", "Kalimbra Investments"),
            ("Sherkate Bazargani Kalimbra", "Kalimbra Trading Co."),
            ("Kalimbra Sanayi ve Ticaret Limited Şirketi", "Kalimbra Industry and Trade"),
            ("Moskovskiy zavod Kalimbra", "Moscow Plant Kalimbra"),
        ],
    )
    def test_a_translated_name_is_the_same_name(self, one: str, other: str) -> None:
        assert NAME in _shared(one, other)

    def test_institutions_without_a_word_of_their_own(self) -> None:
        assert "company-concepts" in _shared("Ministry of Regional Security", "Министерство региональной безопасности")

    def test_chinese_trade_words_and_places_are_found_in_the_run(self) -> None:
        read = canonical("深圳卡林科技有限公司")
        assert read.places == ("@shenzhen",)
        assert read.concepts == ("=technology",)
        assert read.legal_forms == ("stock",)
        assert len(read.distinctive) == 1

    def test_another_word_behind_a_stem_is_no_inflection(self) -> None:
        assert concepts_of_word(fold("elektronika")) == ("=electronic",)
        assert concepts_of_word(fold("finanskalimbra")) == ()

    def test_the_longest_phrase_and_form_are_taken(self) -> None:
        assert phrase_at([fold(word) for word in ("united", "states", "of", "america")], 0) == (4, ("@usa",))
        assert legal_form_at([fold(word) for word in ("public", "joint", "stock", "company", "x")], 0) == (4, "stock")
        assert legal_form_at(["kalimbra"], 0) == (0, "")


class TestKeys:
    def test_the_same_name_in_other_order_and_form(self) -> None:
        assert company_tokens("Kalimbra Dorvat Trading LLC")[0] == company_tokens("TRADING, DORVAT KALIMBRA (OOO)")[0]

    def test_words_written_as_one(self) -> None:
        assert _shared("Kalimbra Trans Dorvat", "Kalimbratransdorvat Ltd") == {JOINED}

    def test_spelling_of_a_word_may_differ_in_vowels(self) -> None:
        assert PAIR in _shared("Kalimbra Dorvat Holding", "Kalembra Darvat")
        assert NAME not in _shared("Kalimbra Dorvat", "Kalembra Darvat")

    def test_one_more_trade_word_leaves_the_core(self) -> None:
        assert CORE in _shared("Kalimbra Bank", "Kalimbra Insurance")
        assert NAME not in _shared("Kalimbra Bank", "Kalimbra Insurance")

    def test_a_letter_behind_the_name_is_another_name(self) -> None:
        assert NAME not in _shared("Kalimbra", "Kalimbra-M")

    def test_a_short_word_alone_is_no_key(self) -> None:
        assert company_tokens("Dor Ltd") == ()
        assert {key.family for key in company_tokens("Dor Bank")} == {NAME, MIXED}

    def test_trade_words_alone_are_no_key(self) -> None:
        assert company_tokens("International Ltd") == ()
        assert all(len(key.keys) > 1 for key in company_tokens("Moscow International Bank") if key.family != JOINED)

    def test_no_word_of_many_stands_alone(self) -> None:
        keys = company_tokens("Kalimbra Dorvat Zarvanit")
        assert all(len(key.keys) > 1 for key in keys if key.family != JOINED)

    def test_pairs_are_ordered_and_once(self) -> None:
        assert _of("Zarvanit Dorvat", PAIR) == _of("Dorvat Zarvanit Dorvat", PAIR) == ["drvt srvnt"]

    def test_a_long_name_stays_in_the_budget(self) -> None:
        name = "Kalimbra Dorvat Zarvanit Mopelku Trading Shipping Bank Moscow Tehran 12"
        assert len(company_tokens(name)) == MAX_COMPANY_TOKENS
        assert company_tokens(name)[0].family == NAME

    @settings(deadline=None)  # the first Han character loads its readings
    @given(st.text(max_size=80))
    def test_any_text_gives_bounded_distinct_ascii_keys(self, name: str) -> None:
        keys = company_tokens(name)
        assert keys == company_tokens(name)
        assert len(keys) == len(set(keys)) <= MAX_COMPANY_TOKENS
        for key in keys:
            assert isinstance(key, NameKey)
            assert key.family in COMPANY_FAMILIES
            assert key.text.isascii()
            assert key.text == key.text.strip() != ""

    @given(
        st.lists(
            st.sampled_from(["Kalimbra", "Dorvat", "Bank", "Zavod", "Moscow", "12", "K", "Ltd", "und"]), max_size=6
        )
    )
    def test_word_keys_follow_from_the_text(self, words: list[str]) -> None:
        for key in company_tokens(" ".join(words)):
            if key.family == JOINED:
                assert key.keys == ()
                continue
            consonants = {
                word
                if word[0] in "=@#~" or len(skeleton(word)) < 3 or key.family not in {NAME, CORE}
                else skeleton(word)
                for word in key.text.split()
            }
            assert set(key.keys) == consonants


class TestSpelling:
    def test_romanisations_of_one_word_fold_alike(self) -> None:
        assert len({fold(word) for word in ("predpriyatie", "predpriyatiye", "predpriiatie")}) == 1

    def test_sounds_written_differently(self) -> None:
        assert spelling("qourjah") == spelling("kurja")
        assert skeleton(spelling("zhukhov")) == skeleton(spelling("jokhev")) == "jkv"

    def test_a_vowel_in_front_stays(self) -> None:
        assert skeleton("umbra") == skeleton("ambro") == "ambr"
        assert skeleton("") == ""


class TestLegalForm:
    @pytest.mark.parametrize(
        "name",
        [
            "Kalimbra Ltd",
            "ООО «Калимбра»",
            "KALIMBRA CO., LTD.",
            "Kalimbra Dorvat AG",
            "卡林有限公司",
            "PT Kalimbra",
            "Kalimbra S.A.",
        ],
    )
    def test_companies(self, name: str) -> None:
        assert has_legal_form(name)

    @pytest.mark.parametrize("name", ["Irmela Dorvat", "Иван Калимбров", "J. Zarvanit", "", "Kalimbra"])
    def test_others(self, name: str) -> None:
        assert not has_legal_form(name)
