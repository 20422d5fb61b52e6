"""Any bytes into any adapter: items come out, never an exception, and no issue repeats what was in the file.

``tests/fuzz`` goes further, guided by coverage; this is what every run of the tests does, over every format.
"""

from __future__ import annotations

import io
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector_psi.adapters import formats
from connector_psi.domain.intake import Item, Kind
from connector_psi.domain.records import Issue, Record, Supersession
from tests.adapter_samples import BOX_A, BOX_B, alert, document, ens, entity, equipment, house, jsonl
from tests.format_samples import sample

NAMES = sorted(formats.FORMATS)
# As a name, a key, a number, a text: nothing of it may come back in an issue.
PLANTS = ("QZPLANT7", "QZPL4738291", "qzplant@example.org")
# More of what a format can hold than its sample has.
RICH = {
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
    "eis-jsonl": jsonl(
        entity(),
        entity(eis_ref="EIS-1234", entity={"type": "phone", "phone_number": "+4930123456"}, handling_codes=["H1"]),
    ),
}
VALID = {name: RICH.get(name) or sample(name) for name in NAMES}

fixed = settings(derandomize=True, database=None, deadline=None, max_examples=50)

# A request for risk analysis is told of whether or not it names a thing; a declaration is kept for the newer one.
WITHOUT_IDENTIFIER = {"ics2.risk", "ics2.hit", "ics.ens", "ncts.transit", "aes.export"}
PLACE = re.compile(r"[A-Za-z0-9_/.$*@:{}-]*(?:#free_text)?")
CODE = re.compile(r"[a-z0-9_]+\.[a-z0-9_]+")


def run(data: bytes, name: str | None) -> list[Item]:
    found = list(formats.read(io.BytesIO(data), file="f", format=name))
    for item in found:
        if isinstance(item, Issue):
            assert item.line is None or item.line >= 1
            assert item.path is None or PLACE.fullmatch(item.path)
            assert CODE.fullmatch(item.code)
            assert not any(plant in repr(item) for plant in PLANTS)
        elif isinstance(item, Record):
            assert len(item.message_digest) == 32
            named = item.identifiers or any(party.name for party in item.parties)
            assert named or item.category in WITHOUT_IDENTIFIER
            "".join(x.value for x in item.identifiers).encode()
            "".join(text for texts in item.fields.values() for text in texts).encode()
    return found


def records(data: bytes, name: str) -> dict[str, Record]:
    return {item.source_ref: item for item in run(data, name) if isinstance(item, Record)}


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


@pytest.mark.parametrize("name", [None, *NAMES])
@fixed
@given(data=st.binary(max_size=400))
def test_random_bytes(name: str | None, data: bytes) -> None:
    run(data, name)


@pytest.mark.parametrize("name", NAMES)
@fixed
@given(tail=st.binary(max_size=200), keep=st.integers(0, 400))
def test_a_valid_beginning_with_a_random_end(name: str, tail: bytes, keep: int) -> None:
    run(VALID[name][:keep] + tail, name)


@pytest.mark.parametrize("name", NAMES)
def test_mutated_files(name: str) -> None:
    longest = 0.0

    @settings(fixed, max_examples=150)
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
@pytest.mark.parametrize("name", NAMES)
def test_a_value_planted_at_every_token_of_a_file(name: str, plant: str) -> None:
    data = VALID[name]
    for match in re.finditer(rb"[A-Za-z0-9+.-]+", data):
        run(data[: match.start()] + plant.encode() + data[match.end() :], name)


@pytest.mark.parametrize("name", [name for name in NAMES if formats.FORMATS[name].kind in {Kind.JSONL, Kind.CSV}])
@fixed
@given(bad=st.binary(max_size=120).filter(lambda line: b"\n" not in line), position=st.integers(0, 1))
def test_a_bad_line_never_costs_another(name: str, bad: bytes, position: int) -> None:
    lines = VALID[name].splitlines(keepends=True)
    # The header of a CSV file stays what it is.
    head = lines[:1] if name.endswith("csv") else []
    rest = lines[len(head) :]
    rest.insert(min(position, len(rest)), bad + b"\n")
    assert records(VALID[name], name).keys() <= records(b"".join(head + rest), name).keys()


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_cut_yields_nothing_that_the_whole_one_does_not(name: str) -> None:
    data, kind = VALID[name].rstrip(), formats.FORMATS[name].kind
    whole = records(data, name)
    assert whole
    for cut in range(0, len(data), 2):
        for item in run(data[:cut], name):
            if isinstance(item, Record) and kind is not Kind.CSV:
                # The last cell of a row may be cut without anybody being able to tell.
                known = whole[item.source_ref].identifiers if item.source_ref in whole else ()
                assert {(x.type, x.value) for x in item.identifiers} <= {(x.type, x.value) for x in known}
            # What is not there at the end was perhaps about to come.
            assert not (isinstance(item, Supersession) and kind is Kind.XML), cut


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
        assert isinstance(last, Issue)
        assert last.rejects_record
