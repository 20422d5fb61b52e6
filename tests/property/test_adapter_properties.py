"""Any bytes into any adapter: records and issues come out, never an exception, and no issue repeats what was in the file."""

from __future__ import annotations

import io
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector_psi.adapters import formats
from connector_psi.domain.records import Issue, Record
from tests.adapter_samples import BOX_A, BOX_B, alert, document, ens, entity, equipment, house, jsonl

FORMATS = sorted(formats.FORMATS)
# As a name, a key, a number, a text: nothing of it may come back in an issue.
PLANTS = ("QZPLANT7", "QZPL4738291", "qzplant@example.org")
VALID = {
    "ics2-ens": ens(
        house(
            1,
            equipment(BOX_A, "SEAL-A1"),
            document("H-1001"),
            "<consignee><name>A</name><address><country>DE</country></address></consignee>",
        ),
        house(2, "<goodsItem><commodity><descriptionOfGoods>car</descriptionOfGoods></commodity></goodsItem>"),
        before="<controlResults><x/></controlResults><activeBorderTransportMeans><identificationNumber>9074729</identificationNumber>"
        "<typeOfIdentification>10</typeOfIdentification></activeBorderTransportMeans>",
        master=equipment(BOX_B)
        + "<carrier><communication><identifier>030 1</identifier><type>TE</type></communication></carrier>",
    ),
    "sis-jsonl": jsonl(
        alert(),
        alert(schengen_id="DE-1234", category="a", object={"type": "vehicle", "vin": "WVWZZZ1JZXW000001"}, hidden=True),
    ),
    "sis-csv": b"schengen_id,issuing_state,article,category,object_type,action,sirene_contact,container_number,hidden,warnings\n"
    + b"".join(
        f'DE-{n:04},DE,38,g,container,seizure,"desk, DE",{BOX_A},true,armed|violent\n'.encode() for n in range(3)
    ),
    "eis-jsonl": jsonl(
        entity(),
        entity(eis_ref="EIS-1234", entity={"type": "phone", "phone_number": "+4930123456"}, handling_codes=["H1"]),
    ),
    "eis-csv": b"eis_ref,provider,entity_type,evaluation_code,subject_class,container_number,handling_codes\n"
    + b"".join(f"EIS-{n:04},NL,container,A1,none,{BOX_A},H1|H2\n".encode() for n in range(3)),
}

fixed = settings(derandomize=True, database=None, deadline=None, max_examples=120)

PLACE = re.compile(r"[A-Za-z0-9_/.$*]*")
CODE = re.compile(r"[a-z0-9_]+\.[a-z0-9_]+")


def run(data: bytes, name: str | None) -> list[Record | Issue]:
    found = list(formats.read(io.BytesIO(data), file="f", format=name))
    for issue in found:
        if isinstance(issue, Issue):
            assert issue.line is None or issue.line >= 1
            assert issue.path is None or PLACE.fullmatch(issue.path)
            assert CODE.fullmatch(issue.code)
            assert not any(plant in repr(issue) for plant in PLANTS)
        else:
            assert len(issue.message_digest) == 32
            assert "".join(x.value for x in issue.identifiers).encode()
            str(issue.fields).encode()
            "".join(text for texts in issue.fields.values() for text in texts).encode()
    return found


@st.composite
def mutated(draw: st.DrawFn, name: str) -> bytes:
    """A valid file with bytes changed, cut out, repeated, and with planted values put anywhere."""
    data = bytearray(VALID[name])
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        until = min(len(data), at + draw(st.integers(0, 40)))
        match draw(st.integers(0, 4)):
            case 0:
                data[at:at] = draw(st.sampled_from(PLANTS)).encode()
            case 1:
                data[at:until] = draw(st.sampled_from(PLANTS)).encode()
            case 2:
                data[at:until] = b""
            case 3:
                data[at:at] = data[at:until] * draw(st.integers(1, 3))
            case _:
                data[at:until] = draw(st.binary(max_size=8))
    return bytes(data)


@pytest.mark.parametrize("name", [None, *FORMATS])
@fixed
@given(data=st.binary(max_size=400))
def test_random_bytes(name: str | None, data: bytes) -> None:
    run(data, name)


@pytest.mark.parametrize("name", FORMATS)
@fixed
@given(tail=st.binary(max_size=200), keep=st.integers(0, 400))
def test_a_valid_beginning_with_a_random_end(name: str, tail: bytes, keep: int) -> None:
    run(VALID[name][:keep] + tail, name)


@pytest.mark.parametrize("name", FORMATS)
def test_mutated_files(name: str) -> None:
    longest = 0.0

    @settings(fixed, max_examples=300)
    @given(data=mutated(name))
    def check(data: bytes) -> None:
        nonlocal longest
        begin = time.process_time()
        run(data, name)
        longest = max(longest, time.process_time() - begin)

    run(VALID[name], name)
    check()
    # No small input may cost more than 0.1 s; the margin is for a machine that does other things as well.
    assert longest < 0.5


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("name", FORMATS)
def test_a_value_planted_at_every_token_of_a_file(name: str, plant: str) -> None:
    data = VALID[name]
    for match in re.finditer(rb"[A-Za-z0-9+.-]+", data):
        run(data[: match.start()] + plant.encode() + data[match.end() :], name)


@pytest.mark.parametrize("name", ["sis-jsonl", "sis-csv", "eis-jsonl", "eis-csv"])
@fixed
@given(bad=st.binary(max_size=120).filter(lambda line: b"\n" not in line), position=st.integers(0, 1))
def test_a_bad_line_never_costs_another(name: str, bad: bytes, position: int) -> None:
    first, *rest = VALID[name].splitlines(keepends=True)
    lines = [first, *rest] if name.endswith("jsonl") else rest
    head = b"" if name.endswith("jsonl") else first
    before = {x.source_ref for x in run(VALID[name], name) if isinstance(x, Record)}
    lines.insert(position, bad + b"\n")
    after = {x.source_ref for x in run(head + b"".join(lines), name) if isinstance(x, Record)}
    assert before <= after


@fixed
@given(
    text=st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=60),
    number=st.text("0123456789ABCDEFabc -", max_size=20),
)
def test_any_text_in_an_alert_is_kept_or_reported(text: str, number: str) -> None:
    line = alert(reason=text, object={"type": "container", "container_number": number})
    [*_, last] = run(jsonl(line), "sis-jsonl")
    if isinstance(last, Record):
        assert last.identifiers
    else:
        assert last.rejects_record


@fixed
@given(cut=st.integers(0, len(VALID["ics2-ens"])), size=st.integers(1, 50))
def test_what_a_cut_message_yields_the_whole_one_yields_too(cut: int, size: int) -> None:
    data = VALID["ics2-ens"]
    whole = {x.source_ref: x for x in run(data, "ics2-ens") if isinstance(x, Record)}
    for part in (data[:cut], data[:cut] + b"<" * size):
        for record in run(part, "ics2-ens"):
            if isinstance(record, Record):
                assert record.incomplete or part == data
                known = {(x.type, x.value) for x in whole[record.source_ref].identifiers}
                assert {(x.type, x.value) for x in record.identifiers} <= known
