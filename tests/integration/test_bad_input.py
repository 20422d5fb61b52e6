"""Bad and hostile files through ``ingest`` as a process: every fault is named by its place, and costs nothing but itself."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration import live  # isort: skip  # sets up gRPC's environment before gRPC is loaded

import pytest

from connector_psi.commands.intake import MAX_ERRORS
from connector_psi.domain.identifiers import normalise
from connector_psi.domain.lines import MAX_LINE_BYTES
from connector_psi.domain.records import IdentifierType, Record
from connector_psi.node.service import Service
from connector_psi.rpc.client import PeerConnector
from connector_psi.storage import records
from tests.adapter_samples import BAD_BOX, BOX_A, BOX_B, BOX_C, ENS_MRN, NS, alert, ens, equipment, house, jsonl

SECRET = "the-content-of-another-file"
MAX_RSS_MIB = 400
MIB = 1 << 20
NUMBER = "$.object.container_number"
HOUSE = "/IE4R05/relatedENS/consignmentMasterLevel/consignmentHouseLevel"


def _alert(number: int, box: str = BOX_A) -> dict[str, Any]:
    return alert(schengen_id=f"DE{number:013d}", object={"type": "container", "container_number": box})


def _prolog(doctype: str, body: str) -> bytes:
    return f'<?xml version="1.0"?>\n{doctype}\n<IE4R05 xmlns="{NS}"><relatedENS>{body}</relatedENS></IE4R05>'.encode()


BOMB = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
THREE = ens(house(301, equipment(BOX_A)), house(302, equipment(BOX_B)), house(303, equipment(BOX_C)))
MANY = [normalise(IdentifierType.CONTAINER, f"TGHU{number:06d}", complete_check_digit=True) for number in range(9_000)]
CSV = b"schengen_id,issuing_state,article,category,object_type,action,sirene_contact,container_number\n"
# File -> its bytes, the errors it must give as (line, path, code), and the records it must leave.
FILES: dict[str, tuple[bytes, list[tuple[int | None, str | None, str]], list[str]]] = {
    "good.xml": (
        ens(house(101, equipment(BOX_A)), house(102, equipment(BOX_B))),
        [],
        [f"{ENS_MRN}/101", f"{ENS_MRN}/102"],
    ),
    "cut.xml": (
        THREE[: THREE.index(b"303") + 60],
        [(8, None, "xml.truncated")],
        [f"{ENS_MRN}/301 incomplete", f"{ENS_MRN}/302 incomplete"],
    ),
    "cut in a tag.xml": (THREE[:200].replace(b"30", b"31"), [(6, None, "xml.truncated")], []),
    "doctype.xml": (_prolog("<!DOCTYPE IE4R05>", ""), [(2, None, "xml.doctype")], []),
    "bomb.xml": (
        _prolog(f'<!DOCTYPE IE4R05 [<!ENTITY a0 "ha">{BOMB}]>', "<MRN>&a9;</MRN>"),
        [(2, None, "xml.doctype")],
        [],
    ),
    "external.xml": (
        _prolog('<!DOCTYPE IE4R05 [<!ENTITY x SYSTEM "file://PLACE">]>', "<MRN>&x;</MRN>"),
        [(2, None, "xml.doctype")],
        [],
    ),
    "external dtd.xml": (
        _prolog('<!DOCTYPE IE4R05 SYSTEM "http://127.0.0.1:9/x.dtd">', ""),
        [(2, None, "xml.doctype")],
        [],
    ),
    "doctype in other bytes.xml": (
        '<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE x [<!ENTITY y "z">]><x>&y;</x>'.encode("utf-16"),
        [(1, None, "xml.doctype")],
        [],
    ),
    "seven bits.xml": (b'<?xml version="1.0" encoding="UTF-7"?><x/>', [(1, None, "xml.encoding")], []),
    "undeclared.xml": (
        ens(house(401, equipment(BOX_A)), "<x>&nobody;</x>", house(402, equipment(BOX_B))),
        [(6, None, "xml.malformed")],
        [f"{ENS_MRN}/401 incomplete"],
    ),
    "unknown.xml": (
        ens(house(501, equipment(BOX_A), f"<{BOX_B}>{BOX_B}</{BOX_B}>"), before="<surprise/>"),
        [(4, "/IE4R05/relatedENS/*", "xml.unknown_element"), (6, f"{HOUSE}/*", "xml.unknown_element")],
        [f"{ENS_MRN}/501"],
    ),
    "check digit.xml": (
        ens(house(601, equipment(BAD_BOX), equipment(BOX_B)), house(602, equipment(BOX_C))),
        [(6, f"{HOUSE}/transportEquipment/containerIdentificationNumber", "container.check_digit")],
        [f"{ENS_MRN}/601", f"{ENS_MRN}/602"],
    ),
    "another message.xml": (
        b"<IE3F26 xmlns='urn:x'><MRN>1</MRN></IE3F26>",
        [(1, None, "file.unknown_format")],
        [],
    ),
    "deep.xml": (
        b"<IE4R05 xmlns='%s'>" % NS.encode() + b"<a>" * 100_000,
        [(1, None, "xml.too_large")],
        [],
    ),
    "no root.xml": (b"<!-- nothing -->", [(1, None, "xml.truncated")], []),
    "too large.xml": (
        ens(house(701, equipment(BOX_A)), house(702, *map(equipment, MANY)), house(703, equipment(BOX_B))),
        [(None, None, "record.too_many_values"), (None, "record 2", "record.too_large")],
        [f"{ENS_MRN}/701", f"{ENS_MRN}/703"],
    ),
    "empty.xml": (b"", [(None, None, "file.empty")], []),
    "empty.jsonl": (b"", [(None, None, "file.empty")], []),
    "noise.bin": (random.Random(1).randbytes(5_000), [(None, None, "file.unknown_format")], []),
    "alerts.jsonl": (
        jsonl(
            _alert(1),
            _alert(2, BAD_BOX),
            b"{not json\n",
            b'["a list"]\n',
            b'{"schengen_id":"DE0000000000003","schengen_id":"DE0000000000003"}\n',
            b'{"schengen_id":"\xff"}\n',
            b'{"schengen_id":"DE\x00"}\n',
            b'{"a":' + b"[" * 200_000 + b"\n",
            b'{"a":NaN}\n',
            b'{"a":1' + b"0" * 100_000 + b"}\n",
            b"x" * (MAX_LINE_BYTES + 1) + b"\n",
            {**_alert(4), "issuing_state": "Germany"},
            {**_alert(5), "article": "26"},
            _alert(1),
            _alert(6),
        )
        + json.dumps(_alert(7)).encode(),
        [
            (2, NUMBER, "container.check_digit"),
            (3, None, "json.malformed"),
            (4, None, "json.not_an_object"),
            (5, None, "json.duplicate_key"),
            (6, None, "line.encoding"),
            (7, None, "line.nul"),
            (8, None, "json.malformed"),
            (9, None, "json.malformed"),
            (10, None, "json.malformed"),
            (11, None, "line.too_long"),
            (12, "$.issuing_state", "field.invalid"),
            (13, "$.action", "sis.action_mismatch"),
        ],
        [f"DE{number:013d}" for number in (1, 6, 7)],
    ),
    "alerts.csv": (
        CSV
        + b"DE0000000000011,DE,38,g,container,seizure,duty desk,%s\n" % BOX_A.encode()
        + b'DE0000000000012,DE,38,g,container,seizure,"duty desk,%s\n' % BOX_A.encode()
        + b"DE0000000000013,DE,38,g,container,seizure,duty desk\n"
        + b"DE0000000000014,DE,38,g,container,seizure,duty desk,%s" % BOX_B.encode(),
        [(3, None, "csv.malformed"), (4, None, "csv.field_count")],
        ["DE0000000000011", "DE0000000000014"],
    ),
    "no columns.csv": (
        b"schengen_id,issuing_state\nDE0000000000015,DE\n",
        [(1, name, "csv.missing_column") for name in ("article", "action", "sirene_contact")],
        [],
    ),
}


@dataclass
class Taken:
    """What a run of ``ingest`` over all files gave."""

    directory: Path
    folder: Path
    done: live.Done
    again: live.Done
    sizes: tuple[int, int]

    def errors(self, name: str, done: live.Done | None = None) -> list[tuple[int | None, str | None, str]]:
        found = (done or self.done).json["errors"]
        return [(e["line"], e["path"], e["code"]) for e in found if e["file"] == str(self.folder / name)]


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> Taken:
    root = tmp_path_factory.mktemp("bad")
    directory = live.make_node(root, "ics2", "ics2")
    folder = root / "drop"
    folder.mkdir()
    (root / "another file").write_text(SECRET)
    for name, (content, _, _) in FILES.items():
        (folder / name).write_bytes(content.replace(b"PLACE", str(root / "another file").replace(" ", "%20").encode()))
    paths = [folder / name for name in FILES]
    done, _ = live.run_process("ingest", directory, *paths, "--json")
    before = _size(directory)
    # The second time in this process, which is the same code without the start of an interpreter.
    again = live.run("ingest", directory, *paths, "--json")
    return Taken(directory, folder, done, again, (before, _size(directory)))


def _size(directory: Path) -> int:
    verified = live.run("log", "verify", directory, "--json").json
    assert verified["verified"] is True
    return int(verified["size"])


def _stored(directory: Path) -> dict[str, Record]:
    service = Service(directory, PeerConnector)
    try:
        with service.node.store.read() as tx:
            rows = records.live_after(service.node.store, tx, 0, 10_000, service.node.now_ms())
    finally:
        service.close()
    return {row.record.source_ref: row.record for row in rows}


@pytest.mark.parametrize("name", FILES)
def test_each_fault_is_named_by_its_place(taken: Taken, name: str) -> None:
    assert taken.errors(name) == FILES[name][1]


def test_what_is_good_is_kept(taken: Taken) -> None:
    expected = {reference for _, _, references in FILES.values() for reference in references}
    kept = {ref + " incomplete" * record.incomplete for ref, record in _stored(taken.directory).items()}
    assert kept == expected
    assert (taken.done.code, taken.done.err) == (3, "")
    assert list(taken.done.json) == ["accepted", "updated", "duplicates", "rejected", "errors"]
    assert (taken.done.json["accepted"], taken.done.json["duplicates"]) == (len(expected), 1)
    assert {tuple(error) for error in taken.done.json["errors"]} == {("file", "line", "path", "code")}


def test_a_wrong_check_digit_costs_its_identifier_alone(taken: Taken) -> None:
    record = _stored(taken.directory)[f"{ENS_MRN}/601"]
    assert [i.value for i in record.identifiers if i.type is IdentifierType.CONTAINER] == [BOX_B]


def test_no_error_holds_a_value(taken: Taken) -> None:
    text = taken.done.out + taken.done.err
    for value in (SECRET, BAD_BOX, BOX_A, BOX_B, "nobody", "surprise", "not json", "Germany", "duty desk", ENS_MRN):
        assert value not in text


def test_the_same_files_again_change_nothing(taken: Taken) -> None:
    first, again = taken.done.json, taken.again.json
    assert taken.again.code == 3
    assert (again["accepted"], again["updated"], again["rejected"]) == (0, 0, first["rejected"])
    assert again["duplicates"] == first["accepted"] + first["duplicates"]
    assert again["errors"] == first["errors"]
    assert taken.sizes[0] == taken.sizes[1]
    events = Counter(leaf["event"] for leaf in live.run("log", "show", taken.directory, "--json").json)
    # One entry for each file that left something: a batch of records is one entry.
    assert events["COLLECT"] == sum(bool(references) for _, _, references in FILES.values())
    assert "ALTER" not in events


def test_the_whole_message_amends_what_a_cut_one_left(taken: Taken, tmp_path: Path) -> None:
    (tmp_path / "whole.xml").write_bytes(THREE)
    done = live.run("ingest", taken.directory, tmp_path / "whole.xml", "--json")
    assert (done.code, done.json) == (
        0,
        {"accepted": 1, "updated": 2, "duplicates": 0, "rejected": 0, "errors": []},
    )
    stored = _stored(taken.directory)
    assert not any(stored[f"{ENS_MRN}/30{n}"].incomplete for n in (1, 2, 3))
    events = Counter(leaf["event"] for leaf in live.run("log", "show", taken.directory, "--json").json)
    assert events["ALTER"] == 1


def test_very_large_input_needs_bounded_memory(tmp_path: Path) -> None:
    directory = live.make_node(tmp_path, "ics2", "ics2")
    sizes = {"long.jsonl": 100, "long.csv": 20, "text.xml": 30}
    tail = ens(house(2, equipment(BOX_B)))
    parts: dict[str, tuple[bytes, bytes, bytes]] = {
        "long.jsonl": (jsonl(_alert(21)) + b'{"schengen_id":"', b"x", b'"}\n' + jsonl(_alert(22))),
        "long.csv": (CSV, b"y", b"\nDE0000000000023,DE,38,g,container,seizure,duty desk,%s\n" % BOX_A.encode()),
        "text.xml": (tail[: tail.index(b"<MRN>")] + b"<MRN>", b"%", b"</MRN></relatedENS></IE4R05>"),
    }
    for name, (first, filler, last) in parts.items():
        with (tmp_path / name).open("wb") as file:
            file.write(first)
            for _ in range(sizes[name]):
                file.write(filler * MIB)
            file.write(last)
    bad = MAX_ERRORS + 20_000
    (tmp_path / "many.jsonl").write_bytes(jsonl(_alert(24)) + b"x\n" * bad + jsonl(_alert(25)))
    paths = {name: tmp_path / name for name in (*parts, "many.jsonl")}
    done, rss_mib = live.run_process("ingest", directory, *paths.values(), "--json")
    assert done.code == 3, done.err
    value = done.json
    found = Counter(
        (Path(e["file"]).name, e["line"], e["code"]) for e in value["errors"] if e["code"] != "json.malformed"
    )
    assert found == {
        ("long.jsonl", 2, "line.too_long"): 1,
        ("long.csv", 2, "line.too_long"): 1,
        ("text.xml", 4, "xml.too_large"): 1,
        # The list ends here, so that it does not fill the memory; the count below does not.
        ("many.jsonl", None, "errors.too_many"): 1,
    }
    assert (value["accepted"], value["rejected"], len(value["errors"])) == (5, bad + 3, MAX_ERRORS + 1)
    assert rss_mib < MAX_RSS_MIB
