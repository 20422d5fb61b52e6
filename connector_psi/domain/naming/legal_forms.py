"""Legal forms of companies in the words they are written in, Latin letters, one table for all countries.

A form says how a company is owned, not which it is: the same company is "Ltd", "LLC" and "OOO" on three lists. So the
canonical form of a company's name leaves it out and keeps what kind it was, to explain and to guess that a name is a
company's at all. General knowledge of company law in the countries concerned; the package ``cleanco`` was looked at
(MIT) and has neither spelled-out forms of other languages nor forms that stand before the name, which make up half of
this table.

Entries are words separated by one space, lower case, as ``domain.naming.companies`` splits a name: dotted letters are
one word (``s.a.`` is ``sa``), hyphens separate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from connector_psi.domain.naming.wordfold import fold

__all__ = ["LONGEST_FORM", "UNAMBIGUOUS_FORMS", "legal_form_at"]

_FORMS: Final[Mapping[str, str]] = {
    "limited": (
        "ltd|limited|llc|l l c|ltd co|co ltd|co limited|company limited|company ltd|limited company|"
        "limitd|limited liability company|limited liability co|limited liability|with limited liability|"
        "company with limited liability|society with limited liability|limited liability partnership|llp|"
        "limited partnership|private limited|private ltd|private limited company|pvt|pvt ltd|"
        "pvt limited|p ltd|pte|pte ltd|pte limited|pty|pty ltd|pty limited|proprietary limited|pllc|"
        "lllp|unlimited|unltd|gmbh|mbh|gmbh co kg|gmbh and co kg|gmbh und co kg|"
        "gesellschaft mit beschrankter haftung|ug|haftungsbeschrankt|sarl|sarlu|sarlau|suarl|eurl|"
        "societe a responsabilite limitee|srl|srls|societa a responsabilita limitata|sprl|bvba|bv|"
        "besloten vennootschap|spol s r o|spol sro|sro|doo|dooel|ood|eood|ooed|"
        "druzhestvo s ogranichena otgovornost|drustvo s ogranicenom odgovornoscu|"
        "drustvo sa ogranicenom odgovornoscu|kft|korlatolt felelossegu tarsasag|sp z oo|sp zoo|sp z o o|"
        "spolka z oo|spolka z ograniczona odpowiedzialnoscia|spolka z o o|ltda|limitada|lda|"
        "sociedade limitada|sociedad limitada|sociedad de responsabilidad limitada|s de rl|s de rl de cv|"
        "srl de cv|s de r l|sl|slu|slne|sll|eirl|empresa individual de responsabilidad limitada|ou|"
        "oue|osauhing|sia|uab|epe|etairia periorismenis efthinis|limited sirketi|limited sti|ltd sti|"
        "ltd sirketi|limited sirket|sti|sirketi|sirket|tic ltd sti|ooo|"
        "obshchestvo s ogranichennoy otvetstvennostyu|ooo ooo|s ogranichennoy otvetstvennostyu|tov|too|"
        "tovarishchestvo s ogranichennoy otvetstvennostyu|tovarystvo z obmezhenoyu vidpovidalnistyu|"
        "tavarystva z abmezhavanay adkaznastsyu|odo|obshchestvo s dopolnitelnoy otvetstvennostyu|"
        "masuliyati cheklangan jamiyati|masuliyati cheklangan zhamiyat|mesuliyyetli mehdud jemiyyeti|taa|"
        "mmc|mchj|ooosho|osoo|sdn bhd|sendirian berhad|sdn|tnhh|cong ty tnhh|"
        "cong ty trach nhiem huu han|youxian gongsi|youxiangongsi|youxian zeren gongsi|youhan gongsi|"
        "yuhan hoesa|yuhanhoesa|yugen kaisha|godo kaisha|chamgat|borisa|ba masouliyat mahdoud|"
        "ba masuliyat mahdud|masouliyat mahdoud|masuliyat mahdud|dhat masuliyya mahduda|fze|fzc|fzco|"
        "fz llc|fzllc|fz co|fz|free zone establishment|free zone company|dmcc|dwc llc|wll|w l l|"
        "spc|est|establishment|dac|cic|lc|l c|plc ltd|co op|coop"
    ),
    "stock": (
        "inc|incorporated|corp|corporation|corporate|company|companies|co|and co|and company|cie|"
        "compagnie|cia|compania|plc|public limited company|public company limited|public company ltd|"
        "public company|pcl|berhad|bhd|tbk|pt|perseroan terbatas|jsc|j s c|pjsc|pjs|ojsc|cjsc|"
        "jscb|jsb|jscc|joint stock company|joint stock co|joint stock|joint stock corporation|"
        "jointstock company|joint stock society|open joint stock company|public joint stock company|"
        "private joint stock company|non public joint stock company|npjsc|closed joint stock company|"
        "open stock company|stock company|public stock company|private stock company|private jsc|"
        "public jsc|joint stock commercial bank|ao|aoo|oao|zao|pao|nao|aktsionernoye obshchestvo|"
        "otkrytoye aktsionernoye obshchestvo|zakrytoye aktsionernoye obshchestvo|"
        "publichnoye aktsionernoye obshchestvo|nepublichnoye aktsionernoye obshchestvo|"
        "aktsionernaya kompaniya|ob edinennaya kompaniya|aat|zat|vat|prat|pat|oat|"
        "adkrytae aktsyyanernae tavarystva|zakrytae aktsyyanernae tavarystva|aktsyyanernae tavarystva|"
        "aktsionerne tovaristvo|publichne aktsionerne tovaristvo|privatne aktsionerne tovaristvo|"
        "vidkrite aktsionerne tovaristvo|zakrite aktsionerne tovaristvo|ag|aktiengesellschaft|kgaa|se|"
        "societas europaea|sa|s a|sas|sasu|saa|sab|sapi|sab de cv|sa de cv|s a de c v|sapi de cv|"
        "sas de cv|sac|sad|sal|sae|saoc|saog|saud|sal holding|sal offshore|sal off shore|"
        "off shore sal|societe anonyme|societe par actions simplifiee|sociedad anonima|sociedade anonima|"
        "sociedad anonima de cv|sociedad anonima cerrada|sociedad por acciones simplificada|spa|"
        "societa per azioni|sapa|nv|naamloze vennootschap|ab|aktiebolag|asa|a s|aksjeselskap|"
        "aktieselskab|oyj|oy|oy ab|ab oy|osakeyhtio|ehf|hf|ad|ead|aktsionerno druzhestvo|"
        "akcionarsko drustvo|dd|dionicko drustvo|rt|zrt|nyrt|reszvenytarsasag|akciova spolecnost|"
        "akciova spolocnost|spolka akcyjna|anonim sirketi|anonim sirket|a s ti|anonim ortakligi|ae|"
        "anonimi etairia|kabushiki kaisha|kabushiki gaisha|kk|chusik hoesa|chusikhoesa|"
        "gufen youxian gongsi|gufenyouxiangongsi|jituan youxian gongsi|gongsi|hoesa|kampaniya|shirkat|"
        "sherkat|sherkate|sherkat e|sherkate sahami|sherkat sahami|sahami khas|sahami am|"
        "sherkat sahami khass|musahama|sharikat|sharika|shareka|shrkt|shrkh|korporatsiya|kontsern|"
        "kontserna|concern|konzern|aktsionernyy|aktsionernoye|tvrtka|bsc|njsc|nksc|qsc|qpsc|ksc|"
        "kscc|psc|dd d|vvag|cong ty|cong ty co phan|ogk|gk|holding as"
    ),
    "state": (
        "fgup|gup|mup|fgbu|fgbou|fgbun|fgku|fkp|fgu|fgau|fau|gau|gbu|kgup|rup|rue|gku|ogup|"
        "up|sue|fsue|fsbi|state unitary enterprise|federal state unitary enterprise|unitary enterprise|"
        "republican unitary enterprise|federal state enterprise|federal treasury enterprise|"
        "federal state owned enterprise|federal state budgetary institution|"
        "federal state budget institution|federal state budgetary institution of|"
        "federal state autonomous institution|federal autonomous institution|state budgetary institution|"
        "federal state institution|federal state budgetary scientific institution|"
        "federal state budgetary educational institution|municipal unitary enterprise|unitary|"
        "federalnoye gosudarstvennoye unitarnoye predpriyatiye|gosudarstvennoye unitarnoye predpriyatiye|"
        "unitarnoe predpriyatie|respublikanskoe unitarnoe predpriyatie|unitarnae pradpryemstva|"
        "munitsipalnoe unitarnoe predpriyatie|federalnoe kazennoe predpriyatie|kazennoe predpriyatie|"
        "federalnoe gosudarstvennoe byudzhetnoe uchrezhdenie|gosudarstvennoe byudzhetnoe uchrezhdenie|"
        "federalnoe gosudarstvennoe byudzhetnoe uchrezhdenie nauki|federalnoe avtonomnoe uchrezhdenie|"
        "federalnoe gosudarstvennoe avtonomnoe uchrezhdenie|federalnoe gosudarstvennoe predpriyatie|"
        "gosudarstvennoe byudzhetnoe obrazovatelnoe uchrezhdenie|derzhavne pidpriemstvo|dp|"
        "state owned enterprise|government owned"
    ),
    "partnership": (
        "kg|ohg|gbr|og|kd|ky|snc|scs|sca|sc|cv|vof|gp|s en c|s en cs|sencs|s en c por a|"
        "y cia s en c|y cia|y cia ltda|y cia sca|y cia s en cs|e hijos|und co|et cie|and sons|sp j|"
        "sp k|sp jawna|scop|kollektif sirketi|komandit sirketi|soc col|ks|k s|i s|ans|hb|"
        "joint partnership|in liquidation|en liquidacion|en liquidation"
    ),
    "sole": "ip|fop|ek|ev kfm|obrt|et|eu|individualnyy predprinimatel|fizichna osoba pidpriemets",
    "association": (
        "ev|e v|eingetragener verein|vzw|asbl|ngo|ano|noo|avtonomnaya nekommercheskaya organizatsiya|"
        "autonomous non profit organization|autonomous non profit organisation|"
        "autonomous nonprofit organization|autonomous noncommercial organization|"
        "autonomous non commercial organization|non profit organization|nekommercheskaya organizatsiya|"
        "ano do|nco|nko|faa|onlus|aps|cooperative|kooperativ"
    ),
}
"""Kind to forms, `|`-separated. The kind is for explaining; a company is never told from another by it."""

_BY_WORDS: Final[Mapping[tuple[str, ...], str]] = MappingProxyType(
    {tuple(fold(word) for word in form.split()): kind for kind, forms in _FORMS.items() for form in forms.split("|")}
)

LONGEST_FORM: Final = max(len(form) for form in _BY_WORDS)
"""No form of the table has more words."""

_FIRST_WORDS: Final = frozenset(form[0] for form in _BY_WORDS)

_UNAMBIGUOUS: Final = (
    "ltd limited llc gmbh inc incorporated corp corporation company pte pty pvt ltda limitada sarl srl "
    "eurl bvba jsc pjsc ojsc cjsc ooo oao zao pao plc llp fze fzco fzc dmcc sdn bhd berhad fgup doo eood "
    "ood kft zrt uab oyj aktiengesellschaft aktiebolag kompaniya aktsionernoe obshchestvo korporatsiya "
    "sirketi sti kgaa tbk spa compania compagnie wll dooel tov fsue youxiangongsi gongsi chusikhoesa "
    "sherkat sharikat"
)

UNAMBIGUOUS_FORMS: Final = frozenset(map(fold, _UNAMBIGUOUS.split()))
"""Folded words that are next to never part of a person's name."""


def legal_form_at(words: Sequence[str], start: int) -> tuple[int, str]:
    """Return length and kind of the longest form that begins at ``words[start]``, all folded; (0, "") if none."""
    if words[start] not in _FIRST_WORDS:
        return 0, ""
    for length in range(min(LONGEST_FORM, len(words) - start), 0, -1):
        kind = _BY_WORDS.get(tuple(words[start : start + length]))
        if kind is not None:
            return length, kind
    return 0, ""
