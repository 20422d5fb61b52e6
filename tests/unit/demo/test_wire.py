from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest

from connector_psi.demo import wire
from connector_psi.demo.wire import Message, Search, count_places, load_transcript, search_wire, writings
from connector_psi.disclosure import Envelope, Obligation, Outcome, encode_envelope
from connector_psi.domain.purposes import RetentionClass
from connector_psi.domain.records import Field
from connector_psi.errors import FormatError
from connector_psi.rpc.transcript import Transcript
from connector_psi.rpc.v1 import disclosure_pb2, types_pb2

BOX, PLATE, SHIP = "XQDU1234561", "DE:BAB1234", "3074726"
AGREEMENT = "SIS-OBJ:ics2-sis"
CASE = bytes(range(16))

ENCODERS: dict[str, Callable[[str], bytes]] = {
    "utf-8": str.encode,
    "utf-16-le": lambda text: text.encode("utf-16-le"),
    "utf-16-be": lambda text: text.encode("utf-16-be"),
    "hex": lambda text: text.encode().hex().encode(),
    "hex, upper case": lambda text: text.encode().hex().upper().encode(),
    "base64": lambda text: base64.b64encode(text.encode()),
    "base64, urlsafe": lambda text: base64.urlsafe_b64encode(text.encode()),
}


def noise(size: int, seed: int = 1) -> bytes:
    return Random(seed).randbytes(size)


@pytest.mark.parametrize("value", [BOX, PLATE, SHIP, "office@muster-4711.example", "+49 30 23125 123", "Bücher??>>AG"])
@pytest.mark.parametrize("before", range(3))
@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_writing_is_found_wherever_it_stands(value: str, before: int, encoder: str) -> None:
    data = noise(500) + ENCODERS[encoder]("x" * before + value + "yz") + noise(500, seed=2)
    hits = Search([value, "another value"]).find(data)
    assert {hit.value for hit in hits} == {value}


def test_a_value_is_found_at_the_edges_and_across_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "_CHUNK_BYTES", 64)
    search = Search([BOX])
    raw = BOX.encode()
    assert search.find(raw)
    for place in range(100):
        (hit,) = search.find(bytes(place) + raw)
        assert (hit.start, hit.end) == (place, place + len(raw))
    assert not search.find(raw[:-1])
    assert not search.find(raw[1:])


def test_nothing_is_found_in_random_bytes_and_text() -> None:
    values = [f"XQDU{n:07d}" for n in range(0, 9_000_000, 2_000)] + [f"{n:07d}" for n in range(2_000_000, 2_000_300)]
    search = Search(values)
    raw = noise(1_000_000)
    for data in (raw, base64.b64encode(raw), raw.hex().encode()):
        assert not search.find(data)


def test_a_decimal_number_inside_a_digest_is_chance_and_everywhere_else_a_hit() -> None:
    search = Search([SHIP, BOX])
    digest = f'{{"root":"a0{SHIP}bc{"0" * 30}"}}'.encode()
    assert not search.find(digest)
    assert search.find(f'{{"imo":"{SHIP}"}}'.encode())
    # Length before, tag after: how a protobuf field looks.
    assert search.find(b"\x0a\x07" + SHIP.encode() + b"2\x05abcde")
    assert search.find(SHIP.encode().hex().encode() + b"00" * 20)
    assert search.find(b"a" * 20 + BOX.encode() + b"b" * 20), "a value with letters is no part of a digest"


def test_values_that_chance_would_find_are_refused() -> None:
    with pytest.raises(ValueError, match="too short") as caught:
        Search(["AB123"])
    assert "AB123" not in str(caught.value)


def test_overlapping_hits_count_once() -> None:
    search = Search([PLATE, "BAB1234", BOX])
    data = f"plate {PLATE}; container {BOX}; plate {PLATE}".encode()
    hits = search.find(data)
    assert len(hits) == 5
    assert count_places(hits) == 3
    assert count_places([]) == 0


def test_base64_writings_are_decided_by_the_value_alone() -> None:
    for value in (BOX, PLATE, SHIP):
        own = [pattern for name, pattern in writings(value) if name == "base64"]
        for before in range(3):
            for around in (b"\x00\x00\x00", b"\xff\xff\xff"):
                encoded = base64.b64encode(around[:before] + value.encode() + around)
                assert any(pattern in encoded for pattern in own)


# Messages


def envelope(fields: dict[Field, tuple[str, ...]]) -> bytes:
    given = bool(fields)
    return encode_envelope(
        Envelope(
            case_id=CASE,
            agreement=AGREEMENT,
            epoch=2,
            outcome=Outcome.DISCLOSED if given else Outcome.NOT_DISCLOSED,
            retention_class=RetentionClass.SIS_3Y,
            erase_after=datetime(2029, 1, 1, tzinfo=UTC),
            fields=fields,
            handling=("sis_purpose_bound",) if given else (),
            obligations=(Obligation.PERSON_DECIDES,) if given else (),
        )
    )


def served(padded: bytes) -> bytes:
    return disclosure_pb2.GetOutcomeResponse(
        state=disclosure_pb2.OUTCOME_STATE_SERVED,
        envelope=padded,
        signature=noise(64),
        salt=noise(32),
        proof=types_pb2.LeafProof(leaf=b'{"event":"CASE_OUTCOME"}', index=3, inclusion_proof=[noise(32)]),
    ).SerializeToString()


def outcome(data: bytes) -> Message:
    return Message("sis", wire.GET_OUTCOME, "response", "ics2", data)


def case(reference: str) -> Message:
    request = disclosure_pb2.OpenCaseRequest(agreement=AGREEMENT, case_reference=reference, request_id=CASE)
    return Message("sis", "DisclosureService/OpenCase", "request", "ics2", request.SerializeToString())


def test_what_a_disclosure_releases_is_counted_apart() -> None:
    message = outcome(served(envelope({Field.OBJECT_IDENTIFIERS: (f"container {BOX}", f"plate {PLATE}")})))
    report = search_wire([message, case("DEMO-01"), message], [BOX, PLATE], [BOX])
    assert (report.raw, report.released) == (0, {CASE.hex(): 2})
    (found,) = report.served.values()
    assert (found.owner, found.disclosed, found.leaf) == ("sis", True, b'{"event":"CASE_OUTCOME"}')
    assert (found.salt, len(found.padded)) == (noise(32), 4096)
    assert report.by_method[wire.GET_OUTCOME] == (2, 2 * len(message.data))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_an_identifier_outside_an_envelope_is_raw_and_its_place_is_told_without_it(encoder: str) -> None:
    leak = ENCODERS[encoder](f"re {BOX}").decode("latin-1")
    report = search_wire([case("DEMO-01"), case(leak)], [BOX, PLATE], [BOX])
    assert (report.raw, report.released) == (1, {})
    assert all(place.startswith("DisclosureService/OpenCase request: ") for place in report.raw_places)
    assert report.raw_places
    assert BOX not in repr(report)


def test_an_identifier_beside_the_envelope_or_in_an_undisclosed_one_is_raw() -> None:
    padded = envelope({Field.OBJECT_IDENTIFIERS: (f"container {BOX}",)})
    beside = disclosure_pb2.GetOutcomeResponse.FromString(served(padded))
    beside.proof.leaf = f'{{"note":"{PLATE}"}}'.encode()
    report = search_wire([outcome(beside.SerializeToString())], [BOX, PLATE], [BOX])
    assert (report.raw, sum(report.released.values())) == (1, 1)
    refused = envelope({})
    hidden = refused[:-20] + BOX.encode() + bytes(20 - len(BOX))
    report = search_wire([outcome(served(hidden))], [BOX], [BOX])
    assert (report.raw, report.released) == (1, {})
    report = search_wire([outcome(served(refused))], [BOX], [BOX])
    assert (report.raw, report.released, len(report.served)) == (0, {}, 1)


def test_a_request_is_no_disclosure_and_a_cut_message_is_searched_whole() -> None:
    data = served(envelope({Field.OBJECT_IDENTIFIERS: (f"container {BOX}",)}))
    for message in (
        Message("sis", wire.GET_OUTCOME, "request", "ics2", data),
        Message("sis", "MatchingService/GetManifest", "response", "ics2", data),
        outcome(data[:300]),
        outcome(b"\xff" * 30 + data),
    ):
        report = search_wire([message], [BOX], [BOX])
        assert (report.raw, report.released) == (1, {})


def test_controls_are_found_and_would_show_a_search_that_misses_a_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    report = search_wire([], [BOX, PLATE, SHIP], [BOX, PLATE, SHIP])
    assert report.controls == report.controls_found == 3 * 3 * 7

    def without_base64(value: str) -> Iterator[tuple[str, bytes]]:
        return ((name, pattern) for name, pattern in writings(value) if name != "base64")

    monkeypatch.setattr(wire, "writings", without_base64)
    blind = search_wire([], [BOX, PLATE, SHIP], [BOX, PLATE, SHIP])
    assert blind.controls_found == 3 * 3 * 5 < blind.controls


# Transcripts


def test_a_recording_of_a_node_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "sis.jsonl"
    recording = Transcript(path)
    recording.record("/connector_psi.rpc.v1.DisclosureService/OpenCase", "request", "ics2", b"\x00\x01")
    recording.record("/connector_psi.rpc.v1.DisclosureService/GetOutcome", "response", "ics2", b"")
    recording.close()
    first, second = load_transcript(path, "sis")
    assert first == Message("sis", "DisclosureService/OpenCase", "request", "ics2", b"\x00\x01")
    assert second.method == wire.GET_OUTCOME
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    assert load_transcript(path, "sis") == [first], "a line that is still being written is left out"
    for malformed in (b"{}\n", b"[]\n", b"no json\n", b'{"method":"a","direction":"b","peer":"c","data":"?"}\n'):
        path.write_bytes(malformed)
        with pytest.raises(FormatError):
            load_transcript(path, "sis")
