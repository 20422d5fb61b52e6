"""Changes to an input that know how it is built: XML, JSON, CSV, protobuf, text, bytes.

Plain byte changes hardly ever get past the first check of a parser. These keep most of an input whole and break one
thing: a tag, a key, a cell, a length. Everything is drawn from the generator that is passed in, so that a seed gives
the same input on every machine.

``PLANTS`` stand for personal data: they are put where names, keys and values stand, and no issue and no error may
repeat any eight characters of one.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Sequence
from enum import Enum, auto
from random import Random
from typing import Any

import rfc8785

PLANTS = ("QZPLANT7", "QZPL4738291", "qzplant@example.org", "QzPlantSurname")
PLANT_RUN = 8

IDENTIFIERS = (
    "CSQU3054383", "CSQU 305438-3", "WVWZZZ1JZXW000001", "9074729", "IMO 9074729", "DE:BAB1234", "FR/P/12AB34567", "+493012345678",
    "name@example.org", "DE123456789", "25BE000000000SYN01", "DE1234567", "SEAL-A1", "MSKU0000006/7", "02345678",
    "211234560", "490154203237518", "DE89370400440532013000", "5493001KJTIIGC8Y1R12", "RB123456785GB", "X12345678901",
    "411111******1111", "https://example.org/a",
)  # fmt: skip
"""Published examples of their check digits, and invented numbers without one."""

WORDS = (
    *PLANTS, *IDENTIFIERS,
    "", " ", "0", "-1", "1e309", "NaN", "9" * 30, "2026-11-22", "2026-11-22T06:05:00Z", "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-23:59", "20261122", "DE", "XI", "EL", "true", "null", "a|b||c", "a,b", '"', "'", "\\", "%s", "../../etc/passwd",
    "\u00e9", "\u212b", "\ufdfa" * 40, "\u202e", "\ufeff", "\u0660\u0661\u0662", "\u00df", "\u0130", "\U0001f6a2", "\uff21\uff22", "e\u0301" * 30,
)  # fmt: skip

Mutate = Callable[[bytes, Random, int], bytes]


class Shape(Enum):
    """How an input is built; decides which changes are tried beside plain ones."""

    BYTES = auto()
    TEXT = auto()
    JSON = auto()
    JSON_LINES = auto()
    CSV = auto()
    XML = auto()
    PROTOBUF = auto()
    ANY = auto()
    """One of the text forms; its first byte tells which."""


def mutate(data: bytes, random: Random, shape: Shape, max_bytes: int, others: Sequence[bytes] = ()) -> bytes:
    """Return a changed input of at most ``max_bytes``.

    Args:
        data: What to change.
        random: Draws the changes.
        shape: How it is built; what does not parse as that is changed as bytes.
        max_bytes: Bound of the result.
        others: Inputs of the same kind, for splicing.
    """
    # Short inputs stay short, or soon all would be long, and few could be tried.
    if random.random() < 0.95:
        max_bytes = min(max_bytes, 2 * len(data) + 512)
    # Few changes, now and then a storm of them: most parsers stop at the first.
    for _ in range(min(1 + int(random.expovariate(1.0)), 8)):
        if random.random() < 0.85:
            data = _SHAPED[shape](data, random, max_bytes)
        elif others and random.random() < 0.15:
            data = _spliced(data, random.choice(others), random)
        else:
            data = mutate_bytes(data, random, max_bytes)
        data = data[:max_bytes]
    return data


def _often(random: Random, size: int, max_bytes: int, *times: int) -> int:
    """Draw how often a piece is repeated, so that the result is not far beyond what is kept of it."""
    return min(random.choice(times), 1 + max_bytes // max(1, size))


# Bytes


def mutate_bytes(data: bytes, random: Random, max_bytes: int) -> bytes:
    """Change, cut out, repeat or insert bytes anywhere."""
    changed = bytearray(data)
    at = random.randrange(len(data) + 1)
    until = min(len(data), at + random.choice((1, 1, 2, 4, 8, 16, 32, 76, 256)))
    match random.randrange(11):
        case 0 if data:
            changed[at % len(data)] ^= 1 << random.randrange(8)
        case 1 if data:
            changed[at % len(data)] = random.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF, random.randrange(256)))
        case 2:
            changed[at:until] = b""
        case 3:
            changed[at:at] = data[at:until] * _often(random, until - at, max_bytes, 1, 2, 3, 50)
        case 4:
            changed[at:until] = random.randbytes(until - at)
        case 5:
            changed[at:at] = random.randbytes(random.randrange(1, 17))
        case 6:
            width = random.choice((1, 2, 4, 8))
            number = random.choice(
                (0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31, 2**32 - 1, 2**53, 2**63, 2**64 - 1, len(data))
            )
            changed[at : at + width] = (number % 256**width).to_bytes(width, random.choice(("little", "big")))
        case 7:
            changed[at : until if random.random() < 0.5 else at] = _word(random).encode("utf-8", "surrogatepass")
        case 8:
            changed[at:] = b""
        case 9:
            room = max_bytes - len(data)
            piece = data[at:until] or b"\0"
            changed[at:at] = piece * random.choice((room // len(piece) // 8, room // len(piece))) if room > 0 else b""
        case _:
            other = random.randrange(len(data) + 1)
            changed[at:until] = data[other : other + until - at]
    return bytes(changed)


def _spliced(data: bytes, other: bytes, random: Random) -> bytes:
    return data[: random.randrange(len(data) + 1)] + other[random.randrange(len(other) + 1) :]


def _word(random: Random) -> str:
    word = random.choice(WORDS)
    match random.randrange(8):
        case 0:
            return (word * random.choice((2, 20, 600)))[:4096]
        case 1:
            return word.lower() if random.random() < 0.5 else f" {word}\t"
        case 2:
            return word + chr(random.choice((0, 9, 10, 13, 0x85, 0xA0, 0x2028, 0xD800, 0xFFFE, 0x10FFFF)))
        case 3:
            return "".join(random.choice(word or "x") for _ in word)
        case _:
            return word


# Text: lines, words, numbers, base64


_PIECE = re.compile(rb"[A-Za-z0-9_.+-]{1,200}|[^A-Za-z0-9_.+-]")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{8,}={0,2}")


def mutate_text(data: bytes, random: Random, max_bytes: int) -> bytes:
    """Change lines, words and what is in base64."""
    match random.randrange(8):
        case 0:
            lines = data.split(b"\n")
            at, other = random.randrange(len(lines)), random.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
            return b"\n".join(lines)
        case 1:
            lines = data.split(b"\n")
            at = random.randrange(len(lines))
            lines[at:at] = [lines[at]] * _often(random, len(lines[at]), max_bytes, 1, 2, 100)
            return b"\n".join(lines)
        case 2:
            lines = data.split(b"\n")
            del lines[random.randrange(len(lines))]
            return b"\n".join(lines)
        case 3:
            lines = data.split(b"\n")
            at = random.randrange(len(lines))
            # Indentation and the signs that open structures mean something in YAML and TOML.
            signs = (
                "  ",
                "\t",
                "- ",
                "? ",
                "[[",
                "{",
                "&a ",
                "*a",
                "!!python/object:os.system ",
                "#",
                "---",
                "...",
                "| ",
                "> ",
                "'",
                '"""',
                "<<: ",
                "= ",
                "[a]",
            )
            lines[at] = (
                random.choice((b"", lines[at]))
                + random.choice(signs).encode() * random.choice((1, 1, 40, 3000))
                + lines[at]
            )
            return b"\n".join(lines)
        case 4 if (piece := _BASE64.search(data, random.randrange(len(data) + 1))) is not None:
            try:
                inner = base64.b64decode(piece[0], validate=True)
            except binascii.Error:
                return mutate_bytes(data, random, max_bytes)
            return (
                data[: piece.start()] + base64.b64encode(mutate_bytes(inner, random, max_bytes)) + data[piece.end() :]
            )
        case 5:
            return data.replace(b"\n", random.choice((b"\r\n", b"\r", b"\n\n", b"")))
        case _:
            found, second = (_PIECE.search(data, random.randrange(len(data) + 1)) for _ in range(2))
            if found is None:
                return mutate_bytes(data, random, max_bytes)
            fresh = random.choice(
                (
                    _word(random).encode("utf-8", "surrogatepass"),
                    second[0] if second else b"",
                    _number(found[0], random),
                )
            )
            return data[: found.start()] + fresh + data[found.end() :]


def _number(text: bytes, random: Random) -> bytes:
    if not text.isdigit():
        return text[::-1]
    numbers = (0, int(text[:18]) + 1, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, 10**30)
    return random.choice((*(b"%d" % number for number in numbers), b"0" + text, b"9" * 5000))


# JSON


def mutate_json(data: bytes, random: Random, max_bytes: int) -> bytes:
    """Change one document: a value, a key, its place, its spelling."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return mutate_text(data, random, max_bytes)
    places = _places(document)
    if not places:
        document = _value(random, max_bytes)
    else:
        holder, key = random.choice(places)
        match random.randrange(9):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[_word(random)] = holder[key]
            case 2 if isinstance(holder, dict):
                renamed = random.choice((_word(random), key.upper(), key + " ", random.choice(list(holder))))
                holder[renamed] = holder.pop(key)
            case 3:
                other_holder, other_key = random.choice(places)
                holder[key], other_holder[other_key] = other_holder[other_key], holder[key]
            case 4 if isinstance(holder, list):
                holder[key:key] = [holder[key]] * _often(random, len(data), max_bytes, 1, 2, 100)
            case 5 if isinstance(holder[key], str):
                text = holder[key]
                at = random.randrange(len(text) + 1)
                holder[key] = text[:at] + _word(random) + text[at + random.randrange(3) :]
            case 6:
                holder[key] = random.choice(([holder[key]], {_word(random): holder[key]}, str(holder[key])))
            case _:
                holder[key] = _value(random, max_bytes)
    return _spelled(document, random)


def _places(document: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    todo = [document]
    while todo and len(found) < 5000:
        inner = todo.pop()
        keys = list(inner) if isinstance(inner, dict) else range(len(inner)) if isinstance(inner, list) else ()
        found += [(inner, key) for key in keys]
        todo += [inner[key] for key in keys]
    return found


def _value(random: Random, max_bytes: int) -> Any:
    match random.randrange(7):
        case 0:
            return random.choice(
                (
                    None,
                    True,
                    False,
                    [],
                    {},
                    "",
                    0,
                    -1,
                    -0.0,
                    1.5,
                    2**31,
                    2**53,
                    2**63,
                    2**64,
                    10**400,
                    1e308,
                    float("nan"),
                    float("inf"),
                )
            )
        case 1:
            deep: Any = _word(random)
            for _ in range(random.choice((1, 3, 60, 900))):
                deep = [deep] if random.random() < 0.5 else {"a": deep}
            return deep
        case 2:
            return [_word(random) for _ in range(random.choice((0, 1, 3, 300)))]
        case 3:
            return {_word(random): _word(random) for _ in range(random.choice((1, 3, 100)))}
        case 4:
            word = _word(random)
            return word * _often(random, len(word), max_bytes, 1, max_bytes)
        case _:
            return _word(random)


def _spelled(document: Any, random: Random) -> bytes:
    if random.random() < 0.5:
        try:
            return rfc8785.dumps(document)
        except (ValueError, TypeError, RecursionError):
            pass
    try:
        text = json.dumps(document, ensure_ascii=random.random() < 0.5, indent=random.choice((None, None, 2)))
    except (ValueError, RecursionError):
        return b"[" * 2000
    if random.random() < 0.1:
        # The same key twice, which no dictionary can hold.
        text = text.replace("{", random.choice(('{"a":1,"a":2,', "{,", '{"":', "{ ")), 1)
    return text.encode("utf-8", "surrogatepass")


def mutate_json_lines(data: bytes, random: Random, max_bytes: int) -> bytes:
    """Change one line as JSON, or the lines."""
    lines = data.split(b"\n")
    at = random.randrange(len(lines))
    match random.randrange(8):
        case 0:
            lines[at:at] = random.choice(
                ([b""], [b"{}"], [lines[at]], [b"[1]"], [b"\xff"], [b"\0"], [b"null"], [b"{" * 3000])
            )
        case 1:
            lines[at] = (
                random.choice((b"\xef\xbb\xbf", b" ", b"\t", b"\x0b"))
                + lines[at]
                + random.choice((b"", b"\r", b" ", b"\x00"))
            )
        case 2:
            lines[at : at + 2] = [b"".join(lines[at : at + 2])]
        case _:
            lines[at] = mutate_json(lines[at], random, max_bytes) if lines[at] else lines[at]
    return b"\n".join(lines)


# CSV


def mutate_csv(data: bytes, random: Random, max_bytes: int) -> bytes:
    """Change cells, columns and rows."""
    rows = [line.split(b",") for line in data.split(b"\n")]
    row = random.choice(rows)
    column = random.randrange(max(map(len, rows)))
    at = random.randrange(len(row))
    match random.randrange(9):
        case 0:
            for each in rows:
                del each[column : column + 1]
        case 1:
            for each in rows:
                each[column:column] = each[column : column + 1]
        case 2:
            row[at:at] = [b""] * random.choice((1, 2, 500))
        case 3:
            del row[at]
        case 4:
            row[at] = random.choice((b'"', b'""', b'"a', b'a"b', b'"a""b"', b'"a\nb"', b"'")) + row[at]
        case 5:
            return data.replace(b",", random.choice((b";", b"\t", b" , ", b'","')), random.choice((1, 10**6)))
        case 6:
            rows.insert(random.randrange(len(rows) + 1), list(random.choice(rows)))
        case 7:
            return random.choice((b"\xef\xbb\xbf", b"\n", b"\r\n", b"\xff\xfe", b"sep=,\n", b"#\n")) + data
        case _:
            row[at] = _word(random).encode("utf-8", "surrogatepass")
    return b"\n".join(b",".join(row) for row in rows)[: 2 * max_bytes]


# XML


_TOKEN = re.compile(r"<[^>]*>?|[^<]+")
_NAME = re.compile(r"<(/?)([^\s/>?!][^\s/>]*)")
_ENTITIES = (
    "&amp;", "&lt;", "&#65;", "&#x51;", "&#0;", "&#x110000;", "&#xD800;", "&undeclared;", "&", "&#", "&;", "&amp;amp;", "]]>", "%a;",
)  # fmt: skip
_PROLOGS = (
    '<!DOCTYPE a [<!ENTITY b "QZPLANT7">]>', '<!DOCTYPE a SYSTEM "file:///etc/passwd">', "<!DOCTYPE a [", "<!doctype a>", "<!-- -->",
    "<!--" + "a" * 300 + "-->", "<?pi QZPLANT7?>", "\n\n\n", '<?xml version="1.1"?>', '<?xml version="1.0" encoding="utf-7"?>',
    '<?xml version="1.0" encoding="EBCDIC-CP-BE"?>', '<?xml version="1.0" encoding="iso-8859-1"?>', '<?xml version="1.0" standalone="no"?>',
)  # fmt: skip
_ATTRIBUTES = (
    'xmlns="urn:other"', 'xmlns=""', 'xmlns:q="urn:q"', 'xsi:type="QZPLANT7"', 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:nil="true"',
    'QZPLANT7="QZPL4738291"', 'xml:lang="de"', 'xml:space="preserve"', 'a="1" a="2"', 'id="' + "x" * 5000 + '"', 'a="<"', "a", 'a="&undeclared;"',
    'schemeID="LEI"', 'xml:base="file:///etc/passwd"', 'xsi:schemaLocation="urn:a file:///etc/passwd"', 'xmlns:xml="urn:not"',
)  # fmt: skip


def mutate_xml(data: bytes, random: Random, max_bytes: int) -> bytes:
    """Change a tag, a subtree, a text, the prolog or the encoding."""
    text = data.decode("utf-8", "surrogateescape")
    tokens = _TOKEN.findall(text)
    if not tokens:
        return mutate_bytes(data, random, max_bytes)
    at = random.randrange(len(tokens))
    token = tokens[at]
    tags = [position for position, each in enumerate(tokens) if each.startswith("<") and each[1:2] not in {"?", "!"}]
    # Texts most often: every other change is likely to end the reading.
    match random.randrange(26):
        case 0 if tags:
            one, other = random.choice(tags), random.choice(tags)
            tokens[one], tokens[other] = tokens[other], tokens[one]
        case 1:
            begin, end = _subtree(tokens, at)
            del tokens[begin:end]
        case 2:
            begin, end = _subtree(tokens, at)
            tokens[end:end] = tokens[begin:end] * _often(random, len(data), max_bytes, 1, 2, 30)
        case 3:
            begin, end = _subtree(tokens, at)
            moved = tokens[begin:end]
            del tokens[begin:end]
            place = random.randrange(len(tokens) + 1)
            tokens[place:place] = moved
        case 4 if tags:
            name = random.choice(
                (random.choice(PLANTS[:2]), _local(tokens[random.choice(tags)]), "x:y", "a" * 3000, ":", "-a", "\u00e9")
            )
            begin, end = _subtree(tokens, random.choice(tags))
            for place in {begin, end - 1} if random.random() < 0.8 else {begin}:
                tokens[place] = _NAME.sub(lambda m: f"<{m[1]}{name}", tokens[place], count=1)
        case 5:
            depth = random.choice((1, 10, 200, 255, 256, 300, 5000))
            name = random.choice(("x", "QZPLANT7", _local(tokens[random.choice(tags)]) if tags else "a"))
            begin, end = _subtree(tokens, at)
            tokens[end:end] = [f"</{name}>" * depth] if random.random() < 0.8 else []
            tokens[begin:begin] = [f"<{name}>" * depth]
        case 6 if tags:
            place = random.choice(tags)
            many = random.choice((1, 1, 1, 400))
            extra = (
                " ".join(f'{"xmlns:" if many > 1 and random.random() < 0.5 else ""}a{n}="{n}"' for n in range(many))
                if many > 1
                else random.choice(_ATTRIBUTES)
            )
            tokens[place] = re.sub(r"(/?>)$", lambda m: f" {extra}{m[1]}", tokens[place])
        case 7:
            tokens[at] = f"<![CDATA[{token}]]>" if random.random() < 0.7 else "<![CDATA["
        case 8:
            tokens[at:at] = [random.choice(_ENTITIES)]
        case 9:
            declaration = tokens[0].startswith("<?xml")
            tokens[declaration and random.random() < 0.7 : declaration] = [random.choice(_PROLOGS)]
        case 10:
            return _encoded("".join(tokens), random)
        case 11:
            del tokens[at:]
        case 12:
            tokens[at:at] = [
                random.choice(
                    (
                        "<!-- a -->",
                        "<?a b?>",
                        "<!--",
                        "text",
                        "\0",
                        "\x08",
                        "\ufffe",
                        "<",
                        ">",
                        "</",
                        "<a",
                        "\r\n",
                        " " * 3000,
                    )
                )
            ]
        case 13 if tags:
            # Prefixed where it was not, or the reverse.
            prefix = random.choice(("ns1:", "q:", ""))
            tokens = [
                _NAME.sub(lambda m: f"<{m[1]}{prefix}{m[2].rpartition(':')[2]}", each, count=1) for each in tokens
            ]
            if random.random() < 0.8:
                namespace = re.search(r'xmlns(?::\w+)?="([^"]*)"', text)
                tokens[tags[0]] = re.sub(
                    r"(/?>)$",
                    lambda m: f' xmlns:{prefix[:-1] or "q"}="{namespace[1] if namespace else "urn:q"}"{m[1]}',
                    tokens[tags[0]],
                )
        case _:
            texts = [position for position, each in enumerate(tokens) if not each.startswith("<") and each.strip()]
            place = random.choice(texts) if texts else at
            word = _word(random)
            tokens[place] = word if random.random() < 0.6 else tokens[place] + word
            if random.random() < 0.8:
                tokens[place] = tokens[place].replace("&", "&amp;").replace("<", "&lt;")
    return "".join(tokens)[: 2 * max_bytes].encode("utf-8", "surrogateescape" if _escaped(tokens) else "surrogatepass")


def _escaped(tokens: Sequence[str]) -> bool:
    return not any("\ud800" <= char < "\udc80" for each in tokens for char in each if char >= "\ud800")


def _local(tag: str) -> str:
    found = _NAME.match(tag)
    return found[2] if found else "a"


def _subtree(tokens: Sequence[str], at: int) -> tuple[int, int]:
    """Return where the element around a token, or the token itself, begins and ends."""
    token = tokens[at]
    if not token.startswith("<") or token.startswith(("<?", "<!", "</")) or token.endswith("/>"):
        return at, at + 1
    depth = 0
    for position in range(at, len(tokens)):
        each = tokens[position]
        if each.startswith("</"):
            depth -= 1
        elif each.startswith("<") and each[1:2] not in {"?", "!"} and not each.endswith("/>"):
            depth += 1
        if depth == 0:
            return at, position + 1
    return at, len(tokens)


def _encoded(text: str, random: Random) -> bytes:
    codec, declared = random.choice(
        (
            ("utf-16", "utf-16"), ("utf-16", "utf-8"), ("utf-16-le", "utf-16"), ("utf-32", "utf-32"), ("latin-1", "iso-8859-1"),
            ("utf-8", "utf-16"), ("utf-8-sig", "utf-8"), ("utf-8-sig", "iso-8859-1"), ("utf-7", "utf-7"), ("cp500", "cp500"), ("utf-8", "us-ascii"),
            ("cp1252", "windows-1252"),
        )
    )  # fmt: skip
    text = re.sub(r"\A<\?xml[^>]*\?>", "", text)
    return f'<?xml version="1.0" encoding="{declared}"?>{text}'.encode(codec, "replace")


# Protobuf


_MAX_FIELDS = 300


def mutate_protobuf(data: bytes, random: Random, max_bytes: int) -> bytes:
    """Change one field of the wire format: its number, its type, its bytes, its place."""
    fields = _fields(data)
    if not fields:
        return mutate_bytes(data, random, max_bytes)
    at = random.randrange(len(fields))
    number, kind, value = fields[at]
    match random.randrange(8):
        case 0:
            del fields[at]
        case 1:
            fields[at:at] = [fields[at]] * _often(random, len(data), max_bytes, 1, 2, 100)
        case 2:
            fields[at] = (random.choice((0, number + 1, 15, 16, 2**29 - 1)), kind, value)
        case 3:
            other = random.randrange(len(fields))
            fields[at], fields[other] = (number, kind, fields[other][2]), (fields[other][0], fields[other][1], value)
        case 4 if isinstance(value, bytes):
            fields[at] = (number, kind, mutate_protobuf(value, random, max_bytes))
        case 5 if isinstance(value, bytes):
            fields[at] = (number, kind, _word(random).encode("utf-8", "surrogatepass"))
        case _ if isinstance(value, bytes):
            fields[at] = (number, kind, mutate_bytes(value, random, max_bytes))
        case _:
            fields[at] = (number, kind, random.choice((0, 1, 4, 255, 2**31, 2**32 - 1, 2**53, 2**63, 2**64 - 1)))
    return b"".join(_field(*field) for field in fields)


def _fields(data: bytes) -> list[tuple[int, int, int | bytes]]:
    """Take a message apart; nothing where it is none."""
    fields: list[tuple[int, int, int | bytes]] = []
    at = 0
    while at < len(data):
        if len(fields) > _MAX_FIELDS:
            # Zeros, for instance, pass for very many fields.
            return []
        tag, at = _varint(data, at)
        if at < 0:
            return []
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _varint(data, at)
            fields.append((number, kind, value))
        elif kind == 2:
            size, at = _varint(data, at)
            fields.append((number, kind, data[at : at + size]))
            at = at + size if at >= 0 and at + size <= len(data) else -1
        elif kind in {1, 5}:
            size = 8 if kind == 1 else 4
            fields.append((number, kind, data[at : at + size]))
            at += size
        else:
            return []
        if at < 0:
            return []
    return fields


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = 0
    for place in range(10):
        if at < 0 or at >= len(data):
            return 0, -1
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << 7 * place
        if not byte & 0x80:
            return number, at
    return 0, -1


def _field(number: int, kind: int, value: int | bytes) -> bytes:
    head = _encode_varint(number << 3 | kind)
    if isinstance(value, int):
        return head + _encode_varint(value)
    return head + (_encode_varint(len(value)) if kind == 2 else b"") + value


def _encode_varint(number: int) -> bytes:
    out = bytearray()
    while True:
        out.append(number & 0x7F | (0x80 if number > 0x7F else 0))
        number >>= 7
        if not number:
            return bytes(out)


def mutate_any(data: bytes, random: Random, max_bytes: int) -> bytes:
    """Change what looks like XML as XML, and so on."""
    start = data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    change = {b"<": mutate_xml, b"{": mutate_json_lines, b"[": mutate_json}.get(start, mutate_csv)
    return change(data, random, max_bytes)


_SHAPED: dict[Shape, Mutate] = {
    Shape.ANY: mutate_any,
    Shape.BYTES: mutate_bytes,
    Shape.TEXT: mutate_text,
    Shape.JSON: mutate_json,
    Shape.JSON_LINES: mutate_json_lines,
    Shape.CSV: mutate_csv,
    Shape.XML: mutate_xml,
    Shape.PROTOBUF: mutate_protobuf,
}
