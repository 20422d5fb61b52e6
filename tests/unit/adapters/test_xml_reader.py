"""The one reader of XML: what a table makes of a message, what is held of it, and what a bad message costs."""

from __future__ import annotations

import hashlib
import io
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from connector_psi.adapters import xml
from connector_psi.adapters.xml import (
    Element,
    Frame,
    XmlMessage,
    check,
    load_schema,
    refuse,
    root_name,
    table,
    validate,
)
from connector_psi.domain.drafts import Found
from connector_psi.domain.records import Issue
from connector_psi.errors import ConfigError

TABLE = table(
    "Note",
    [
        "to",
        "item/number",
        "item/party/name",
        "item/party/address/city",
        "item/party/seal",
        "owner/name",
        "owner/address/city",
    ],
    skipped=["item/signature", "item/party/code"],
    inline={"address"},
)
ITEM = TABLE.at("item")
XSD = """<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"><xs:element name="Note"><xs:complexType><xs:sequence>
<xs:element name="to" type="xs:int"/>
<xs:element name="item" minOccurs="0" maxOccurs="unbounded"><xs:complexType><xs:sequence>
<xs:element name="number" type="xs:int" maxOccurs="9"/></xs:sequence></xs:complexType></xs:element>
<xs:element name="end" minOccurs="0" type="xs:int"/>
</xs:sequence></xs:complexType></xs:element></xs:schema>"""


def message(data: bytes | str, units: set[str] | None = None, **options: str) -> XmlMessage:
    stream = io.BytesIO(data if isinstance(data, bytes) else data.encode())
    return XmlMessage(stream, file="f", units={"item"} if units is None else units, **options)


def whole(data: bytes | str) -> tuple[XmlMessage, Frame]:
    """Read a message without units."""
    read = message(data, set())
    assert list(read.units()) == []
    assert read.root is not None
    return read, read.frame(read.root, TABLE)


def items(read: XmlMessage) -> Iterator[Frame]:
    for element in read.units():
        yield read.frame(element, ITEM)


def found(issues: list[Issue]) -> list[tuple[str, int | None, str | None]]:
    return [(x.code, x.line, x.path) for x in issues]


# --- tables and frames ---


def test_a_table_knows_paths_and_names() -> None:
    assert ITEM.path == "/Note/item"
    assert {node.path for node in TABLE.walk()} >= {"/Note", "/Note/to", "/Note/item/party/address/city"}
    assert TABLE.at("item/party").leaf_paths == {
        "name": "/Note/item/party/name",
        "address/city": "/Note/item/party/address/city",
        "seal": "/Note/item/party/seal",
    }
    assert TABLE.at("item/signature").skipped
    qualified = table("Note", ["item/number"], namespace="urn:a")
    assert list(qualified.at("item").children) == ["{urn:a}number"]


def test_a_frame_gives_texts_and_where_they_stand() -> None:
    data = "<Note>\n<to> a \n b </to>\n<item>\n<number>1</number><number> 2 </number><number/>\n</item><item/><owner><name/></owner></Note>"
    read, root = whole(data)
    assert root.text("to") == "a b"
    assert root.found("to") == Found("a b", "/Note/to", 2)
    first, second = root.all("item")
    assert (first.line, second.line, first.name, first.path) == (4, 6, "item", "/Note/item")
    assert (first.text("number"), first.texts("number")) == ("1", ["1", "2"])
    assert first.repeated
    assert first.repeats() == [("/Note/item/number", 5)] * 2
    assert not second.repeated
    assert (second.text("number"), second.found("number"), second.texts("number"), second.has("number")) == (
        "",
        None,
        [],
        False,
    )
    owner = root.first("owner")
    assert owner is not None
    assert (owner.has("name"), owner.text("name"), owner.found("name"), owner.values) == (True, "", None, {})
    assert (first.line_of("number"), second.line_of("number"), first.path_of("number")) == (5, 6, "/Note/item/number")
    assert [x.name for x in root.groups()] == ["item", "item", "owner"]
    assert (root.first("nothing"), root.all("nothing"), root.spine("nothing")) == (None, (), None)
    assert (read.notices, read.cut) == ([], None)


def test_a_group_without_a_frame_of_its_own_is_part_of_the_one_around_it() -> None:
    address = "<address><city>A</city></address>"
    _, root = whole(f"<Note><item><party><name>N</name>{address}{address}<seal>S</seal></party></item></Note>")
    [party] = root.all("item")[0].all("party")
    assert party.values == {"name": "N", "address/city": "A", "seal": "S"}
    assert party.found("address/city") == Found("A", "/Note/item/party/address/city", 1)
    assert party.repeats() == [("/Note/item/party/address/city", 1)]
    assert party.groups() == []


def test_attributes_are_there_for_who_asks() -> None:
    _, root = whole('<Note kind="x"><to/></Note>')
    assert (root.attribute("kind"), root.attribute("other")) == ("x", "")


def test_a_frame_is_not_asked_for_what_is_not_in_the_table() -> None:
    read, root = whole(
        "<Note>\n<PLANT7/><PLANT7/>\n<other><to/></other><to>a</to><item><signature><PLANT8/></signature></item></Note>"
    )
    assert root.text("to") == "a"
    assert found(read.notices) == [("xml.unknown_element", 2, "/Note/*"), ("xml.unknown_element", 3, "/Note/*")]
    assert "PLANT" not in repr(read.notices)


def test_a_leaf_that_holds_elements_is_no_text() -> None:
    read, root = whole("<Note><to>a<b/>c</to></Note>")
    assert (root.text("to"), root.has("to")) == ("", False)
    assert found(read.notices) == [("xml.unknown_element", 1, "/Note/to/*")]


@pytest.mark.parametrize("text", ["x" * 8193, "x y " * 3000, "7" * 9000])
def test_a_text_over_the_bound_is_left_out_and_reported(text: str) -> None:
    read, root = whole(f"<Note><to>{text}</to><item><number>1</number><number>{text}</number></item></Note>")
    assert root.text("to") == ""
    assert root.all("item")[0].texts("number") == ["1"]
    assert found(read.notices)[0] == ("xml.text_too_long", 1, "/Note/to")


def test_comments_instructions_and_cdata_are_no_elements() -> None:
    _, root = whole("<!-- a --><?b c?><Note><!-- d --><to>x<!-- e -->y<![CDATA[<z>]]></to><?f g?></Note>")
    assert root.text("to") == "xy<z>"


def test_lines_are_right_beyond_those_that_old_parsers_counted_to() -> None:
    _, root = whole("<Note>" + "\n" * 70_000 + "<to>a</to></Note>")
    assert root.found("to") == Found("a", "/Note/to", 70_001)


# --- units ---


def test_units_come_as_they_close_and_the_rest_at_the_end() -> None:
    read = message(
        "<Note><to>a</to><item><number>1</number></item>\n<item><number>2</number></item><owner><name>b</name></owner></Note>"
    )
    assert [(x.text("number"), x.line) for x in items(read)] == [("1", 1), ("2", 2)]
    assert read.root is not None
    root = read.frame(read.root, TABLE)
    assert (root.text("to"), root.all("item")) == ("a", ())
    assert [x.text("name") for x in root.all("owner")] == ["b"]
    assert (read.root_name, read.root_line, read.cut, read.cut_in_unit) == ("Note", 1, None, False)


def test_a_unit_within_a_unit_is_gone_when_the_outer_one_closes() -> None:
    data = "<Note><box><item><number>1</number></item><item><number>2</number></item><to>a</to></box><box/></Note>"
    read = message(data, {"item", "box"})
    assert [(x.tag, [inner.tag for inner in x]) for x in read.units()] == [
        ("item", ["number"]),
        ("item", ["number"]),
        ("box", ["to"]),
        ("box", []),
    ]
    cut = message(data[: data.index("<to>")], {"item", "box"})
    assert len(list(cut.units())) == 2
    assert cut.cut_in_unit


def test_units_can_be_bound_to_one_place() -> None:
    data = "<Note><item><number>0</number></item><box><item/><deep><item/></deep></box><other><item/></other></Note>"
    assert len(list(message(data, within="box").units())) == 1
    assert len(list(message(data).units())) == 4


def test_what_is_through_is_freed() -> None:
    data = "<Note>" + f"<item>{'<party><name>x</name></party>' * 30}</item>" * 500 + "</Note>"
    read = message(data)
    largest = 0
    for element in read.units():
        assert len(element) == 30
        largest = max(largest, sum(1 for _ in element.getroottree().iter()))
    assert read.cut is None
    # What one chunk of 32 KiB holds, and not all of 30,000 elements.
    assert largest < 4_000
    assert read.root is not None
    assert len(read.root) == 0


def test_the_digest_is_that_of_the_file_whatever_is_in_it() -> None:
    data = ("<Note><to>" + "QUJD" * 100_000 + "</to></Note> \n").encode()
    read = message(data)
    assert list(read.units()) == []
    assert read.digest() == hashlib.sha256(data).digest()
    early = message(data)
    assert early.digest() == hashlib.sha256(data).digest()


# --- messages that break off ---


def test_nothing_of_a_half_read_element_is_used_wherever_the_cut_is() -> None:
    data = (
        "<?xml version='1.0'?><Note><to>abc</to><owner><name>N</name></owner>"
        "<item><number>1</number></item><item><number>22</number><party><name>P</name><address><city>C</city></address></party></item>"
        "<owner><name>M</name><address><city>D</city></address></owner></Note>"
    )
    full = [(m.start(), m.end(), m[1]) for m in re.finditer(r"<(?:to|number|name|city)>([^<]*)</\w+>", data)]
    for cut in range(1, len(data)):
        read = message(data[:cut])
        seen = [x for item in items(read) for x in (item.text("number"), *(y.text("name") for y in item.all("party")))]
        assert read.cut is not None
        assert (read.cut.code, read.cut.rejects_record) == ("xml.truncated", False)
        items_closed = data[:cut].count("</item>")
        assert read.cut_in_unit == (data[:cut].count("<item>") > items_closed)
        assert seen == (["1", "22", "P"] if items_closed == 2 else ["1"] if items_closed else [])
        assert read.notices == []
        if read.root is None:
            continue
        root = read.frame(read.root, TABLE)
        closed = {text for start, end, text in full if end <= cut}
        used = {
            root.text("to"),
            *(x.text("name") for x in root.all("owner")),
            *(x.text("address/city") for x in root.all("owner")),
        }
        spine = root.spine("owner")
        used |= {spine.text("name")} if spine is not None else set()
        assert used - {""} <= closed
        # A group counts once it has closed for certain; the first one is there when the next element stands behind it.
        assert [x.text("name") for x in root.all("owner")] == [] or "</owner>" in data[:cut]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"<Note><to>a</no></Note>", "xml.malformed"),
        (b"<Note><to>&nope;</to></Note>", "xml.malformed"),
        (b"<Note><to>\xff</to></Note>", "xml.encoding"),
        (b"<Note>" + b"<item>" * 300, "xml.too_large"),
        (b"<Note><to>" + b"a.b-" * 3_000_000 + b"</to></Note>", "xml.too_large"),
        (b"<Note>" + b"<x>a-b</x>" * 2_000_000, "xml.too_large"),
        (b"<Note>" + b"<x/>" * 900_000, "xml.too_large"),
        (b"<Note>" + b"".join(b"<x%d/>" % n for n in range(6000)) + b"</Note>", "xml.too_many_names"),
        (b"<Note>" + b"".join(b"<to a%d='1'/>" % n for n in range(6000)) + b"</Note>", "xml.too_many_names"),
        (
            b"<Note><item>" + b"".join(b"<signature a%d='1'/>" % n for n in range(6000)) + b"</item></Note>",
            "xml.too_many_names",
        ),
        (
            b"<Note>" + b"".join(b"<x xmlns:p%d='u%d'/>" % (n, n) for n in range(2000)) + b"</Note>",
            "xml.too_many_names",
        ),
        (b"<Note>" + b"<owner/>" * 160_000 + b"</Note>", "xml.too_large"),
    ],
)
def test_what_breaks_a_message_or_floods_it_ends_it_there(data: bytes, code: str) -> None:
    read = message(data)
    for element in read.units():
        read.frame(element, ITEM)
    if read.root is not None:
        read.frame(read.root, TABLE)
    assert read.cut is not None
    assert read.cut.code == code
    assert read.cut.line == 1
    assert len(read.notices) <= 1_000


def test_attributes_of_a_unit_are_bounded_wherever_chunks_end() -> None:
    pad = "<item><number>1</number></item>" * 3_000
    flood = "".join(f"<item><number a{n}='1'>1</number></item>" for n in range(6_000))
    for size in range(0, 60_000, 7_001):
        read = message(f"<Note>{pad[: size // 31 * 31]}{flood}</Note>")
        count = sum(1 for _ in items(read))
        assert read.cut is not None
        assert read.cut.code == "xml.too_many_names"
        assert size // 31 < count < size // 31 + 5_100


def test_what_lies_between_units_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xml, "MAX_HELD_ELEMENTS", 1_000)
    monkeypatch.setattr(xml, "MAX_HELD_BYTES", 10_000)
    read = message("<Note>" + "<owner/><owner/><item/>" * 5_000 + "</Note>")
    assert len(list(read.units())) < 2_000
    assert read.cut is not None
    assert read.cut.code == "xml.too_large"


def test_a_message_may_be_of_any_length_if_its_units_are_small() -> None:
    read = message("<Note>" + "<item><number>a-b</number></item>" * 100_000 + "</Note>")
    assert sum(1 for _ in read.units()) == 100_000
    assert read.cut is None


def test_two_passes_notice_a_thing_once() -> None:
    data = "<Note><item><x/></item>\n<item><x/></item></Note>"
    first, second = message(data), message(data)
    next(items(first))
    second.continues(first)
    list(items(second))
    assert found(first.notices) == [("xml.unknown_element", 1, "/Note/item/*")]
    assert second.notices == []


# --- what is refused at once ---


@pytest.mark.parametrize(
    ("data", "code", "line"),
    [
        (b"", "file.empty", None),
        (b"<!DOCTYPE a><a/>", "xml.doctype", 1),
        (b"<?xml version='1.0'?>\n<!-- <x> -->\n<!DOCTYPE a [<!ENTITY b 'c'>]><a/>", "xml.doctype", 3),
        ("<!DOCTYPE a><a/>".encode("utf-16"), "xml.doctype", 1),
        (b"<?xml version='1.0' encoding='utf-7'?><a/>", "xml.encoding", 1),
        ("<a/>".encode("utf-32"), "xml.encoding", 1),
        (b"\0<a/>", "xml.encoding", 1),
        (b"text", "xml.malformed", 1),
        (b"<!-- " + b"x" * 70_000, "xml.prolog_too_long", 1),
        (b"<!-- x", "xml.truncated", 1),
    ],
)
def test_a_message_that_no_parser_may_see(data: bytes, code: str, line: int | None) -> None:
    stream = io.BytesIO(b"before" + data)
    stream.seek(6)
    issue = refuse(stream, file="f")
    assert issue is not None
    assert (issue.code, issue.line, issue.rejects_record) == (code, line, True)
    assert stream.tell() == 6
    assert root_name(data) is None


def test_the_root_is_named_from_the_head_alone() -> None:
    assert root_name(b"<?xml version='1.0'?>\n<!-- x --><p:Note xmlns:p='urn:a'><to>") == "{urn:a}Note"
    assert root_name(b"<!-- x ") is None
    assert message("\n<!-- x -->\n<Note/>").root_line == 3


# --- schemas ---


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "Note.xsd").write_text(XSD)
    return tmp_path


def held_against(folder: Path, data: str) -> xml.Violations:
    return validate(io.BytesIO(data.encode()), load_schema(folder, "Note.xsd"), file="f", units={"item"})


def test_violations_say_which_unit_and_never_what(folder: Path) -> None:
    good = "<item><number>1</number></item>"
    bad = "\n<item><number>PLANT</number></item>"
    result = held_against(folder, f"<Note><to>1</to>{good}{bad}{good}{bad}</Note>")
    assert (result.units, result.elsewhere) == ({1, 3}, False)
    assert {(x.line, x.path) for x in result.issues} == {(2, "/Note/item/number"), (3, "/Note/item/number")}
    assert all(x.code.startswith("xsd.") and not x.rejects_record for x in result.issues)
    assert "PLANT" not in repr(result)
    assert held_against(folder, f"<Note><to>PLANT</to>{good}</Note>").elsewhere
    unknown = held_against(folder, f"<Note><to>1</to>{good}<PLANT/></Note>")
    assert (unknown.elsewhere, unknown.issues[0].path) == (True, "/Note/*")
    assert held_against(folder, f"<Note><to>1</to>{good}</Note>") == xml.NO_VIOLATIONS


def test_violations_beyond_those_reported_still_count_for_their_units(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xml, "MAX_SCHEMA_ISSUES", 3)
    good, bad = "<item><number>1</number></item>", "<item><number>x</number></item>"
    result = held_against(folder, f"<Note><to>1</to>{bad * 10}{good}{bad}{good}</Note>")
    assert (result.units, result.elsewhere) == ({*range(10), 11}, False)
    assert [x.code for x in result.issues][3:] == ["xsd.too_many_errors"]
    for late in ("<end>x</end>", "<PLANT/>"):
        result = held_against(folder, f"<Note><to>1</to>{bad * 10}{good}{late}</Note>")
        assert result.elsewhere


def test_a_flood_of_violations_ends_the_validation(folder: Path) -> None:
    begin = time.process_time()
    result = held_against(folder, "<Note><to>1</to>" + "<item><number>x</number></item>" * 40_000 + "</Note>")
    assert result.elsewhere
    assert len(result.issues) == 201
    # A log that is copied for each event would take minutes.
    assert time.process_time() - begin < 30


def test_a_message_of_any_length_is_held_against_the_schema(folder: Path) -> None:
    item = "<item><number>1</number></item>" + " " * 200
    assert held_against(folder, f"<Note><to>1</to>{item * 100_000}</Note>") == xml.NO_VIOLATIONS
    too_long = f"<Note><to>1</to><item><number>{'1 ' * 10_000_000}</number></item></Note>"
    assert not [x for x in held_against(folder, too_long).issues if x.rejects_record]


def test_a_cut_message_is_held_against_the_schema_as_far_as_it_goes(folder: Path) -> None:
    data = "<Note><to>1</to><item><number>x</number></item><item><number>2</number></item></Note>"
    for cut in range(1, len(data)):
        result = held_against(folder, data[:cut])
        assert result.units in (frozenset(), {0})
        assert not result.elsewhere


def test_an_element_in_memory_is_held_against_its_schema(folder: Path) -> None:
    schema = load_schema(folder, "Note.xsd")
    read = message("<Note>\n<to>x</to></Note>", set())
    assert list(read.units()) == []
    root: Element | None = read.root
    assert root is not None
    assert {(x.line, x.path) for x in check(root, schema, file="f")} == {(2, "/Note/to")}


def test_a_schema_is_found_below_its_folder_unless_there_are_two(folder: Path) -> None:
    assert load_schema(folder, "No.xsd", "Note.xsd") is load_schema(folder, "No.xsd", "Note.xsd")
    with pytest.raises(ConfigError):
        load_schema(folder, "No.xsd")
    (folder / "other").mkdir()
    (folder / "other" / "Note.xsd").write_text(XSD.replace("xs:int", "xs:string"))
    with pytest.raises(ConfigError):
        load_schema(folder, "*.xsd")
    (folder / "in" / "Bad.xsd").write_text("<nothing/>")
    with pytest.raises(ConfigError):
        load_schema(folder, "Bad.xsd")
