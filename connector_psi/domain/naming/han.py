"""Chinese characters in Latin letters: Chinese names, and foreign names as Chinese writes them.

A Chinese name is read in Hanyu Pinyin and after Wade and Giles, and a surname also as it is spelled in Hong Kong,
Singapore, Vietnam and Korea. A foreign name was taken down syllable by syllable with characters of a fixed stock:
read back, ``x`` is ``sh`` or ``h``, ``w`` also ``v``, ``y`` also ``j``, ``l`` also ``r``, and a hiss may be ``th``.

Source: Hanyu Pinyin as the package pypinyin (MIT) has it; Wade and Giles as ALA-LC had it until 1997; the practice of
the Xinhua tables for the transcription of names (Names of the World's Peoples, 1993); own tables of surnames.
"""

# ruff: noqa: SIM905
# Letters of other alphabets, and tables of words, are what this module consists of.

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

__all__ = ["COMPOUND_SURNAMES", "han"]

_CACHE: Final = 1 << 14


def _by_character(table: str) -> dict[str, str]:
    """Read a table of lines: Latin letters, and the characters that stand for them."""
    lines = [line.split() for line in table.strip().splitlines()]
    return {char: latin for latin, chars in lines for char in chars}


# --- Chinese names

COMPOUND_SURNAMES: Final = frozenset(
    """
    欧阳 歐陽 司马 司馬 上官 诸葛 諸葛 司徒 夏侯 皇甫 尉迟 尉遲 公孙 公孫 慕容 令狐 长孙 長孫 宇文 司空 东方 東方
    南宫 南宮 端木 独孤 獨孤 轩辕 軒轅 百里 呼延 万俟 澹台 澹臺 东郭 東郭 西门 西門 闻人 聞人 太史 申屠 鲜于 鮮于
    钟离 鍾離 公冶 淳于 单于 單于 赫连 赫連 拓跋 完颜 完顏 耶律 范姜 张简 張簡
    """.split()
)
_WHOLE: Final = {
    "尉迟": "yuchi", "尉遲": "yuchi", "长孙": "zhangsun", "長孫": "zhangsun", "万俟": "moqi", "澹台": "tantai",
    "澹臺": "tantai", "单于": "chanyu", "單于": "chanyu",
}  # fmt: skip
"""Compound surnames that are not read as their characters are."""
_JAPANESE: Final = {
    written: latin
    for latin, *all_written in (
        line.split()
        for line in """
sato 佐藤
suzuki 鈴木
takahashi 高橋
tanaka 田中
ito 伊藤
watanabe 渡辺 渡邊 渡邉
yamamoto 山本
nakamura 中村
kobayashi 小林
kato 加藤
yoshida 吉田
yamada 山田
sasaki 佐々木
yamaguchi 山口
matsumoto 松本
inoue 井上
kimura 木村
hayashi 林
shimizu 清水
yamazaki 山崎
mori 森
abe 阿部 安倍
ikeda 池田
hashimoto 橋本
yamashita 山下
ishikawa 石川
nakajima 中島
maeda 前田
fujita 藤田
ogawa 小川
goto 後藤
okada 岡田
hasegawa 長谷川
murakami 村上
kondo 近藤
ishii 石井
saito 斎藤 斉藤 齋藤 齊藤
sakamoto 坂本
endo 遠藤
aoki 青木
fujii 藤井
nishimura 西村
fukuda 福田
ota 太田
miura 三浦
fujiwara 藤原
okamoto 岡本
matsuda 松田
nakagawa 中川
nakano 中野
harada 原田
ono 小野
tamura 田村
takeuchi 竹内
kaneko 金子
wada 和田
nakayama 中山
ishida 石田
ueda 上田
morita 森田
hara 原
shibata 柴田
sakai 酒井
kudo 工藤
yokoyama 横山
miyazaki 宮崎
miyamoto 宮本
uchida 内田
takagi 高木
ando 安藤
taniguchi 谷口
ohno 大野
maruyama 丸山
imai 今井
takada 高田
fujimoto 藤本
takeda 武田
murata 村田
ueno 上野
sugiyama 杉山
masuda 増田
sugawara 菅原
hirano 平野
kojima 小島
otsuka 大塚
chiba 千葉
kubo 久保
matsui 松井
iwasaki 岩崎
sakurai 桜井
kinoshita 木下
noguchi 野口
matsuo 松尾
nomura 野村
kikuchi 菊地 菊池
sano 佐野
onishi 大西
sugimoto 杉本
arai 新井
hamada 浜田
ichikawa 市川
furukawa 古川
mizuno 水野
komatsu 小松
shimada 島田
koyama 小山
""".strip().splitlines()
    )
    for written in all_written
    if len(written) > 1
}
"""The commonest surnames of Japan that are no Chinese ones."""
_SURNAME_SPELLINGS: Final = """
王 wang wong ong vuong
李 li lee ly yi
张張 zhang cheung chang teo
刘劉 liu lau low lieu
陈陳 chen chan tan tran
杨楊 yang yeung yeo duong
黄黃 huang wong hwang hoang
赵趙 zhao chiu chao cho
吴吳 wu ng goh ngo
周 zhou chow chou chau
徐 xu hsu tsui chui
孙孫 sun suen son
马馬 ma
朱 zhu chu choo
胡 hu woo wu ho
郭 guo kwok kuo quach
何 he ho
高 gao kao ko koh
林 lin lam lim
罗羅 luo lo law
郑鄭 zheng cheng tay jung
梁 liang leung luong
谢謝 xie tse hsieh chia
宋 song sung soong
唐 tang tong
许許 xu hui hsu koh
邓鄧 deng tang teng dang
韩韓 han hon
冯馮 feng fung phung
曹 cao tso tsao cho
彭 peng pang phang
曾 zeng tsang tseng chan
萧蕭肖 xiao siu hsiao siew
田 tian tin tien
董 dong tung
潘 pan poon phan
袁 yuan yuen
蔡 cai choi tsai chua
蒋蔣 jiang chiang tseung
余 yu yee
于 yu
杜 du to tu do
叶葉 ye yip yeh yap
程 cheng ching
魏 wei ngai nguy
苏蘇 su so soh
吕呂 lu lui
丁 ding ting
沈 shen sum shum
任 ren yam
姚 yao yiu
卢盧 lu lo loo
傅 fu foo
钟鐘鍾 zhong chung chong
崔 cui choi tsui
谭譚 tan tam tham
廖 liao liu liew
范範 fan pham
陆陸 lu luk
金 jin kim kam
石 shi shek
戴 dai tai
贾賈 jia chia
邱 qiu yau chiu khoo
侯 hou hau
江 jiang kong chiang
方 fang fong
熊 xiong hung
白 bai pak pai baek
秦 qin chun chin
尹 yin wan yoon
薛 xue sit hsueh
阮 ruan nguyen yuen
朴 piao park pu pak
武 wu vu
裴 pei bui bae
邹鄒 zou chau
洪 hong hung ang
龙龍 long lung
孔 kong hung
毛 mao mo
温溫 wen wan
关關 guan kwan
单單 shan
仇 qiu
解 xie
查 zha cha
区區歐欧 ou au
盖蓋 ge
覃 qin tan
冼 xian sin
翟 zhai
乐樂 yue le
宁寧 ning
华華 hua wah
黎 li lai le
严嚴 yan yim
伍 wu ng
"""
_BY_SURNAME: Final = {
    char: tuple(line.split()[1:]) for line in _SURNAME_SPELLINGS.strip().splitlines() for char in line.split()[0]
}
"""Spellings of surnames of one character: Pinyin, and what is usual in Hong Kong, Singapore, Vietnam and Korea."""
_HETERONYMS: Final = dict(zip("什茜柏曾翟冼覃朴区仇", "shi xi bo zeng zhai xian qin pu qu chou".split(), strict=True))
"""Characters that names use with another reading than the most frequent one."""
_WADE_ONSETS: Final = {
    "zh": "ch", "ch": "ch", "sh": "sh", "b": "p", "d": "t", "g": "k", "j": "ch", "q": "ch", "x": "hs", "z": "ts",
    "c": "ts", "r": "j",
}  # fmt: skip
_WADE_WHOLE: Final = {
    "zi": "tzu", "ci": "tzu", "si": "ssu", "zhi": "chih", "chi": "chih", "shi": "shih", "ri": "jih", "you": "yu",
    "ye": "yeh", "yan": "yen", "er": "erh", "he": "ho", "ke": "ko", "ge": "ko", "e": "o", "yi": "i",
}  # fmt: skip
_WADE_ENDS: Final = (("ian", "ien"), ("ong", "ung"), ("ie", "ieh"), ("ue", "ueh"), ("uo", "o"))
_KEEPS_UO: Final = frozenset({"g", "k", "h", "sh"})
_ONSET: Final = re.compile(r"[zcs]h|[bpmfdtnlgkhjqxrzcs]|")
_NOT_LATIN: Final = re.compile(r"[^a-z]+")

# --- names from abroad

_TAKEN_DOWN: Final = _by_character("""
s 斯絲丝
t 特
d 德
k 克
g 格
p 普
b 布
m 姆
l 尔爾
f 夫弗
ts 茨
z 兹茲
sh 什施
ch 奇
h 赫
th 思
the 瑟
zh 日
za 扎
ga 加嘉
ka 卡喀
ki 基
kin 金
gi 吉
di 季
zi 齐齊
ja 贾賈雅
je 杰傑捷叶葉耶
jo 约約
ju 尤于
ji 治
a 亚亞娅婭
wa 华華花
wi 惠维維威韦韋
wai 怀懷
u 乌烏武伍
zhan 让讓
zhe 热熱
zho 若
zhu 茹儒
""")
"""Characters that stand for something else in a foreign name than their Pinyin says; a consonant alone for those that
are put where Chinese cannot do without a vowel."""
_OTHERWISE: Final = {
    "希": "hi", "夏": "ha", "赫": "kh", "西": "thi", "瑟": "s", "撒": "tha", "森": "than", "修": "thu",
}  # fmt: skip
"""What else characters stand for."""
_FINAL_TH: Final = frozenset("斯絲丝")
_SPOKEN: Final = {"x": "sh", "q": "ch", "c": "ts"}


def han(part: str) -> list[str]:
    """Return the readings of a part in Chinese characters; anything else in it is left out."""
    known = _BY_SURNAME.get(part)
    if known is not None:
        return list(known)
    syllables = list(map(_pinyin, part))
    found = [_WHOLE.get(part) or "".join(syllables)]
    japanese = _JAPANESE.get(part)
    if japanese is not None:
        found.insert(0, japanese)
    if len(part) <= 2 and _TAKEN_DOWN.keys().isdisjoint(part):
        found.append("".join(map(_wade_giles, syllables)))
    abroad = "".join(map(_abroad, part))
    return [*found, _softened(abroad), abroad.replace("l", "r"), _softened(_abroad_otherwise(part))]


@lru_cache(maxsize=_CACHE)
def _pinyin(char: str) -> str:
    """Return the syllable of one character without its tone, ``u`` for ``ü``; empty if it has none."""
    from pypinyin import Style, lazy_pinyin  # noqa: PLC0415 - its tables take a sixth of a second to load

    known = _HETERONYMS.get(char)
    if known is not None:
        return known
    syllables = lazy_pinyin(char, style=Style.NORMAL, errors="ignore")
    return _NOT_LATIN.sub("", syllables[0].replace("ü", "u").replace("v", "u")) if syllables else ""


@lru_cache(maxsize=_CACHE)
def _wade_giles(syllable: str) -> str:
    """Return a syllable of Pinyin in the system of Wade and Giles, marks left out."""
    whole = _WADE_WHOLE.get(syllable)
    if whole is not None:
        return whole
    match = _ONSET.match(syllable)
    onset = "" if match is None else match[0]
    rest = syllable[len(onset) :]
    for end, written in _WADE_ENDS:
        if rest.endswith(end) and not (end == "uo" and onset in _KEEPS_UO):
            rest = rest[: -len(end)] + written
            break
    return _WADE_ONSETS.get(onset, onset) + rest


@lru_cache(maxsize=_CACHE)
def _abroad(char: str) -> str:
    """Return what a character stands for in a foreign name."""
    known = _TAKEN_DOWN.get(char)
    if known is not None:
        return known
    syllable = _pinyin(char)
    if syllable == "er":
        return "l"
    if syllable in {"wu", "yi"}:
        return syllable[1]
    if syllable.endswith("ng"):
        syllable = syllable[:-1]
    if syllable[:2] != "ch" and syllable[:1] in _SPOKEN:
        syllable = _SPOKEN[syllable[0]] + syllable[1:]
    return syllable


def _abroad_otherwise(part: str) -> str:
    out = [_OTHERWISE.get(char) or _abroad(char) for char in part]
    if len(out) > 1 and part[-1] in _FINAL_TH:
        out[-1] = "th"
    return "".join(out)


def _softened(reading: str) -> str:
    return reading.replace("w", "v").replace("j", "y")
