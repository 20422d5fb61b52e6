"""Unspaced Chinese and Korean names: where the surname ends.

A full name of these languages is written without a space, surname first: one character or syllable, rarely two. A name
from abroad is written without a space too, and may begin with what is a surname elsewhere; it is told by characters and
sounds that given names hardly ever have. What is in doubt is split: a wrong pair of parts meets nothing.

Source: own lists of the frequent surnames of China, Taiwan and Korea, and of characters that are usual in Chinese
transcriptions of names; not taken from a register, and not complete.
"""

from __future__ import annotations

from typing import Final

from connector_psi.domain.naming.han import COMPOUND_SURNAMES
from connector_psi.domain.naming.hangul import HANGUL_SURNAMES

__all__ = ["split_han", "split_hangul"]

_HAN_SURNAMES: Final = frozenset(
    "王李张張刘劉陈陳杨楊黄黃赵趙吴吳周徐孙孫马馬朱胡郭何高林罗羅郑鄭梁谢謝宋唐许許邓鄧韩韓冯馮曹彭曾萧蕭肖田董潘袁蔡蒋蔣余于"
    "杜叶葉程魏苏蘇吕呂丁沈任姚卢盧傅钟鐘鍾崔谭譚廖范範陆陸金石戴贾賈韦韋夏邱侯江方熊白秦邹鄒闫阎閻薛尹段雷黎史龙龍陶贺賀顾顧"
    "毛郝龚龔邵万萬钱錢严嚴覃武洪孔汤湯向常温溫康施文牛樊葛邢安齐齊易乔喬伍庞龐颜顏倪庄莊聂聶章鲁魯岳翟殷詹申欧歐耿关關兰蘭焦"
    "俞左柳甘祝包宁寧尚符舒阮柯纪紀梅童凌毕畢单單季裴霍涂塗成苗谷盛曲翁冉骆駱蓝藍路游辛靳管柴蒙鲍鮑华華喻祁蒲房滕屈饶饒解牟艾"
    "尤阳陽时時穆农農司卓古吉缪繆简簡车車项項连連芦蘆麦麥褚娄婁窦竇戚岑景党黨宫宮费費卜冷晏席卫衛米柏宗瞿桂全佟应應臧闵閔苟"
    "邬鄔边邊卞姬师師仇栾欒隋商刁沙荣榮巫寇桑郎甄丛叢仲虞敖巩鞏明佘池查麻苑迟遲邝鄺官封谈談匡鞠惠荆荊乐樂冀郁胥南班储儲原栗"
    "燕楚鄢劳勞谌諶奚皮粟冼蔺藺楼樓盘盤满滿闻聞位厉厲伊仝区區郜海阚闞花权權强強帅帥屠豆朴盖蓋练練廉禹井祖漆巴丰豐支卿国國狄"
    "平计計索宣晋晉相初门門云雲容敬来來扈晁芮都普阙闕浦戈伏鹿薄邸雍辜羊阿乌烏母裘亓修邰赫杭况況那宿鲜鮮印逯隆茹诺諾战戰慕危"
    "玉银銀亢嵇公哈湛宾賓戎勾茅利於呼居揭干但尉冶斯元束檀衣信展阴陰昝智幸奉植衡富尧堯闭閉由"
) - frozenset("阿普哈诺諾赫斯但利干由")
_TRANSCRIBING: Final = frozenset("斯尔爾姆茨兹茲弗顿頓什丝絲娅婭蒂耶")
"""Characters that names from abroad are written with, and given names hardly ever."""

_SYLLABLES: Final = range(0xAC00, 0xD7A4)
_EU: Final = 18
_ASPIRATED: Final = frozenset({1, 4, 8, 13, 15, 16, 17})
"""Numbers of onsets that are tense or aspirated, ``ss`` and ``ch`` left out."""
_NATIVE_EU: Final = frozenset("은근금승응흥슬음늘름들른")
_NATIVE_ASPIRATED: Final = frozenset("태택탁탄평필표풍포팔판편")
"""Syllables of given names with a vowel, or an onset, that is typical of words from abroad."""


def split_han(name: str) -> tuple[str, str] | None:
    """Return surname and given name of two to four Chinese characters; None if that is not what they look like."""
    if not 2 <= len(name) <= 4:
        return None
    at = 2 if len(name) > 2 and name[:2] in COMPOUND_SURNAMES else 1
    surname, given = name[:at], name[at:]
    if len(given) > 2 or not _TRANSCRIBING.isdisjoint(given):
        return None
    return (surname, given) if at > 1 or surname in _HAN_SURNAMES else None


def split_hangul(name: str) -> tuple[str, str] | None:
    """Return surname and given name of two to five Hangul syllables; None if that is not what they look like."""
    at = 2 if len(name) > 2 and name[:2] in HANGUL_SURNAMES else 1
    surname, given = name[:at], name[at:]
    if surname not in HANGUL_SURNAMES or not 1 <= len(given) <= 3 or any(map(_from_abroad, given)):
        return None
    return surname, given


def _from_abroad(char: str) -> bool:
    if ord(char) not in _SYLLABLES:
        return True
    onset, rest = divmod(ord(char) - _SYLLABLES.start, 588)
    if rest // 28 == _EU:
        return char not in _NATIVE_EU
    return onset in _ASPIRATED and char not in _NATIVE_ASPIRATED
