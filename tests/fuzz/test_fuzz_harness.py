"""The harness finds what it looks for, and its changes are repeatable, bounded and well spread."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from connector_psi.adapters import formats
from connector_psi.errors import FormatError
from tests.fuzz.__main__ import main
from tests.fuzz.harness import MEMORY_BYTES, BrokenPromiseError, Session, Target, minimised, promise
from tests.fuzz.mutation import PLANTS, Shape, mutate
from tests.fuzz.targets import TARGETS


def target(decode: Callable[[bytes], Any], **more: Any) -> Target:
    return Target("bad", decode, (FormatError,), lambda: (b"seed",), Shape.TEXT, **more)


def kinds(session: Session) -> list[str]:
    return [finding.kind for finding in session.findings]


def _raises(data: bytes) -> None:
    if b"!" in data:
        raise KeyError(data)


def _tells(data: bytes) -> None:
    raise FormatError(f"not a number: {data.decode()}")


def _is_slow(data: bytes) -> None:
    until = time.process_time() + 0.11
    while time.process_time() < until:
        pass


def _is_hungry(data: bytes) -> None:
    bytearray(2 * MEMORY_BYTES)


def test_an_exception_of_another_kind_is_found_once_and_made_short() -> None:
    session = Session(target(_raises))
    for data in (b"fine", b"some ! thing", b"another ! thing"):
        session.run(data)
    assert kinds(session) == ["raised"]
    [finding] = session.findings
    assert minimised(session.target, finding) == b"!"


def test_a_refusal_is_none_unless_it_tells_what_was_in_the_input() -> None:
    session = Session(target(_tells))
    session.run(b"12x")
    assert not session.findings
    session.run(PLANTS[0].encode())
    assert kinds(session) == ["told"]
    own = Session(target(_tells, names_keys=True))
    own.run(PLANTS[0].encode())
    assert not own.findings


def test_a_broken_promise_is_found() -> None:
    session = Session(target(bytes.lower, check=lambda value: promise(value == b"a", "it is an a")))
    assert session.run(b"A")
    assert not session.findings
    session.run(b"B")
    assert [(finding.kind, finding.place) for finding in session.findings] == [
        ("promise", f"{BrokenPromiseError.__name__}: it is an a")
    ]


@pytest.mark.parametrize(("decode", "kind"), [(_is_slow, "slow"), (_is_hungry, "memory")])
def test_what_takes_too_much_is_suspected_and_confirmed(decode: Callable[[bytes], None], kind: str) -> None:
    session = Session(target(decode))
    session.run(b"x")
    assert session.suspects == [b"x"]
    assert not session.findings
    session.confirm(b"x")
    assert kinds(session) == [kind]


@pytest.mark.parametrize("shape", Shape)
def test_a_change_is_repeatable_bounded_and_takes_anything(shape: Shape) -> None:
    inputs = [
        b"",
        b"\xff\x00",
        b'{"a": [1, {"b": "c"}]}\n',
        b"<a><b c='d'>e</b></a>",
        b"a,b\n1,2\n",
        b"\x0a\x03abc\x10\x01",
    ]
    for seed in range(400):
        data = inputs[seed % len(inputs)]
        changed = mutate(data, Random(seed), shape, 2000, inputs)
        assert len(changed) <= 2000
        assert mutate(data, Random(seed), shape, 2000, inputs) == changed


def test_changes_of_a_message_keep_most_of_it_and_plant_values() -> None:
    data = b'<?xml version="1.0"?><a><b>1</b><c d="2">text</c></a>'
    changed = [mutate(data, Random(seed), Shape.XML, 4000) for seed in range(500)]
    assert len(set(changed)) > 400
    assert sum(b"</a>" in each for each in changed) > 250
    assert any(PLANTS[0].encode() in each for each in changed)


def test_every_format_is_a_target() -> None:
    assert TARGETS.keys() >= formats.FORMATS.keys()


def test_a_run_reports_its_decoders_and_keeps_its_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--blind", "--seconds", "0.2", "--folder", str(tmp_path), "ticket"]) == 0
    told = capsys.readouterr().out
    assert "BLIND" in told
    assert "ticket: " in told
    assert json.loads((tmp_path / "ticket" / "report.json").read_text())["executions"] > 0


def test_a_target_that_does_not_exist_is_wrong_usage() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["no-such"])
    assert ended.value.code == 2
