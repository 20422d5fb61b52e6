from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from connector_psi.errors import InputError
from connector_psi.reports.charts import bars, months

SVG = "{http://www.w3.org/2000/svg}"
ALLOWED = {"svg", "title", "desc", "rect", "text", "line", "polyline", "circle", "defs", "pattern", "path"}
YEAR: list[float | int | str] = [12, 0, "<10", 40, 41, "..", 11, 10, 0, 0, 25, 30]


def check(svg: str) -> etree._Element:
    root = etree.fromstring(svg)
    assert root.get("role") == "img"
    title, description = root[0], root[1]
    assert (title.tag, description.tag) == (f"{SVG}title", f"{SVG}desc")
    assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
    for element in root.iter():
        assert element.tag.removeprefix(SVG) in ALLOWED
        for name, value in ((str(n), str(v)) for n, v in element.attrib.items()):
            assert name not in {"style", "class", "href"}
            assert not name.startswith("on")
            assert "url(" not in value or re.fullmatch(r"url\(#hatch-[0-9a-f]{12}\)", value)
    return root


def shown(root: etree._Element) -> list[str]:
    return ["".join(map(str, text.itertext())) for text in root.iter(f"{SVG}text")]


def test_bars_show_every_figure_and_hatch_what_is_suppressed() -> None:
    root = check(bars("Cases <2026>", ["SIS-OBJ", "CUS-47", "DSR", "X"], [1234, "<10", 0, ".."], unit="cases"))
    assert shown(root) == ["Cases <2026>", "SIS-OBJ", "1,234", "CUS-47", "<10", "DSR", "0", "X", ".."]
    assert root[1].text == "cases. SIS-OBJ: 1,234; CUS-47: under 10; DSR: 0; X: not told."
    drawn = [e for e in root.iter(f"{SVG}rect") if e.get("stroke")]
    assert len(drawn) == 2
    assert [e.get("fill", "").startswith("url(#hatch-") for e in drawn] == [False, True]
    widths = [float(e.get("width", "0")) for e in drawn]
    assert widths[1] == pytest.approx(widths[0] * 10 / 1234, abs=0.1)
    assert "pattern" not in bars("t", ["a"], [1], unit="u")


def test_months_leave_gaps_and_mark_what_is_suppressed() -> None:
    root = check(months("Queries", {"sent": YEAR, "answered": [20.5] * 12}))
    lines = list(root.iter(f"{SVG}polyline"))
    assert [len((line.get("points") or "").split()) for line in lines] == [2, 2, 6, 12]
    assert len(list(root.iter(f"{SVG}circle"))) == 10 + 12
    assert [e.get("width") for e in root.iter(f"{SVG}rect") if (e.get("fill") or "").startswith("url(")] == ["10"]
    assert {"01", "12", "sent", "answered"} <= set(shown(root))
    assert "sent: 12, 0, under 10, 40" in (root[1].text or "")


@given(st.text(), st.lists(st.tuples(st.text(), st.one_of(st.integers(0, 10**9), st.sampled_from(["<10", ".."])))))
def test_whatever_the_text_is_it_stays_text(title: str, cells: list[tuple[str, int | str]]) -> None:
    names, values = [name for name, _ in cells], [value for _, value in cells]
    check(bars(title, names, values, unit=title))
    check(months(title, {name: [value] * 12 for name, value in cells[:6]}))


def test_markup_in_labels_does_not_come_through() -> None:
    evil = '"/><script>alert(1)</script><image href="http://example.org"/>'
    for svg in (bars(evil, [evil], [1], unit=evil), months(evil, {evil: [1] * 12})):
        check(svg)
        assert "<script" not in svg
        assert "<image" not in svg


def test_what_cannot_be_drawn_is_refused() -> None:
    for values in ([], [-1], [float("nan")], [float("inf")]):
        with pytest.raises(InputError):
            bars("t", ["a"], values, unit="u")
    with pytest.raises(InputError):
        months("t", {"a": [1] * 11})
    with pytest.raises(InputError):
        months("t", {str(n): [1] * 12 for n in range(7)})
