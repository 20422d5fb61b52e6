"""East Slavic names: one form for a forename that three languages write differently, patronymics, and surnames.

A Russian, a Belarusian and a Ukrainian register write one person as ``Vladimir``, ``Uladzimir`` and ``Volodymyr``, and
passports follow the register. No transliteration brings them together; a table of forenames does, and with the stem of
the forename the patronymic follows.

Source: own table of the forenames that are common in all three languages, after the national rules of romanisation
(ICAO Doc 9303 part 3, BGN/PCGN Russian, Belarusian and Ukrainian, Belarusian instruction of 2007, Ukrainian resolution
55 of 2010).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

__all__ = ["PATRONYMIC", "forename", "is_patronymic", "patronymic", "surname"]

# The first form of a line stands for all.
_FORENAMES: Final = """
aleksandr alexander aliaksandr alexandr oleksandr aleksander alyaksandr alexandre aleksandar iskandar eskandar
aleksandra alexandra aliaksandra oleksandra
aleksei alexei aleksey alexey aliaksei aliaksey oleksiy oleksii aleksej alyaksey
anastasia anastasiya anastasiia nastassia anastasija
anatoli anatoly anatoliy anatolii anatol anatolij
andrei andrey andrii andriy andrej
anna hanna ganna
anton antonii
arkadi arkady arkadiy arkadii arkadz
artem artyom artsiom artsem
boris barys borys
daniil danila danylo danil
denis dzianis denys dzyanis
dmitri dmitry dmitriy dmitrii dzmitry dmytro dmitrij dimitri dimitry dmitrijs
eduard edouard
ekaterina yekaterina katsiaryna kateryna iekaterina jekaterina
elena yelena alena olena jelena
evgeni evgeny evgeniy evgenii yevgeny yevgeniy yevgeni yevhen yauhen yauheni evgenij eugene jewgeni yevgenii
evgenia evgeniya yevgeniya yevgenia yauheniya yevheniya evgeniia
fedor fyodor fiodar fedir feodor
filipp pilip pylyp filip
galina halina halyna
gennadi gennady gennadiy gennadii henadz hennadii hennadiy gennadij henadzi
georgi georgy georgiy georgii heorhii heorhiy heorhi georgij
german herman
gleb hleb hlib
grigori grigory grigoriy hryhoriy hryhory ryhor grigorij hryhorii grigorii
igor ihar ihor
ilia ilya illia illya ilja
irina iryna
ivan
kirill kiril kyrylo kiryl
konstantin kanstantsin kostiantyn kostyantyn constantin kanstancin
larisa larysa larissa
lev leo
liudmila lyudmila ludmila liudmyla lyudmyla
maksim maxim maksym
maria mariya mariia maryia
marina maryna
matvei matvey matviy matviei
mikhail mihail mikhailo mykhailo michail mihajlo mykhaylo mikhael mihal mikhal mihajl
nadezhda nadzeya nadiia nadiya
natalia natallia nataliya natalya nataliia natalija
nikita mikita mykyta
nikolai nikolay mikalai mikalay mykola nikolaj nicolai
oleg oleh aleh
olga volha olha volga
pavel pavlo paval pawel
petr pyotr piotr petro piatro peter
roman raman
sergei sergey siarhei siarhey serhii serhiy serguei sergej serge siarhiej sergii syarhey
sofia sofya safiya sofiia
stanislav stanislau
stepan stsiapan stefan
svetlana sviatlana svitlana
tatiana tatyana tatsiana tetiana tetyana tatjana
timofei timofey tsimafei tymofiy tymofii
vadim vadzim vadym
valentin valiantsin valentyn
valentina valiantsina valentyna
valeri valery valeriy valerii valeryi valerij
vasili vasily vasiliy vasilii vasyl vasil wassili vasilij
viacheslav vyacheslav viachaslau vyacheslau viacheslau vjaceslav
viktor victor viktar
viktoria victoria viktoriya viktoryia viktoriia
vitali vitaly vitaliy vitalii vital vitalij
vladimir uladzimir volodymyr wladimir uladimir vladimer
vladislav uladzislau vladyslav wladislaw
yaroslav jaroslav yaraslau iaroslav
yulia yuliya julia iuliia yuliia
yuri yury yuriy yurii iurii jurij youri iouri juri yuryi
zakhar zajar
"""

PATRONYMIC: Final = "vich"
"""What a patronymic ends in here, of men and women."""

_BY_FORM: Final = {form: line.split()[0] for line in _FORENAMES.strip().splitlines() for form in line.split()}
_LAST: Final = "aeiouyj"
_BY_STEM: Final[dict[str, str]] = {}
for _form, _first in _BY_FORM.items():
    for _stem in (_form, _form.rstrip("iyj"), _form.rstrip("iyja"), _form.rstrip("eiyja")):
        if len(_stem) >= 3:
            _BY_STEM.setdefault(_stem, _first)

_ENDING: Final = re.compile(
    r"(?P<stem>.{2,}?)[jiy]*[aeou](?:u|v|w)(?:(?:i|y)(?:ch|c|tch|tsch|cz)|n(?:a|y))$|(?P<short>.{3,}?)(?:i?nich?na|inichna)$"
)
_AFTER_VOWEL: Final = re.compile(r"(?<=[aeo])u(?=[^aeiouy]|$)")
_SOFT_D: Final = re.compile(r"dz")
_SOFT_T: Final = re.compile(r"ts(?=[iye])")
_SPIRANT: Final = re.compile(r"(?<![kzsct])h")


def forename(part: str) -> str:
    """Return the one form of a forename, or the part as it is where the table does not know it."""
    return _BY_FORM.get(part, part)


@lru_cache(maxsize=1 << 14)
def patronymic(part: str) -> str | None:
    """Return the form of a patronymic, of men and women alike: the father's forename and ``vich``; None if it is none.

    ``mikhailovich``, ``mihajlovich``, ``mikalaevna``: recognised by its ending; a surname in ``-vich`` is read so too,
    on both sides alike.
    """
    match = _ENDING.match(part)
    if match is None:
        return None
    stem = match["stem"] or match["short"]
    bare = stem.rstrip("iyj")
    return (_BY_STEM.get(stem) or _BY_STEM.get(bare) or surname(bare) or stem) + PATRONYMIC


def is_patronymic(part: str) -> bool:
    """Return whether a part, in its one form, is a patronymic."""
    return part.endswith(PATRONYMIC)


@lru_cache(maxsize=1 << 14)
def surname(part: str) -> str:
    """Return a part of an East Slavic name as Russian writes it: ``herasimau`` and ``gerasimov``, ``davidziuk``.

    Only for a name that has a patronymic: elsewhere an h or a dz is what it is.
    """
    part = _SOFT_T.sub("t", _SOFT_D.sub("d", part))
    part = _AFTER_VOWEL.sub("v", part)
    return _SPIRANT.sub("g", part)
