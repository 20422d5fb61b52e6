"""The commands about the outbox and the clock: what they print, who may run them, and that the log says who did."""

from __future__ import annotations

from tests.integration import live  # isort: skip  # sets up gRPC's environment before gRPC is loaded

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import Result
from typer.testing import CliRunner

from connector_psi.audit.entries import Event, parse_leaf
from connector_psi.cli import app
from connector_psi.errors import ConflictError, FormatError, PurposeRefusedError, RefusedError
from connector_psi.node.timekeeping import Timekeeper
from connector_psi.storage import cases, schema
from connector_psi.storage.cases import NEVER_MS, CaseRow
from tests.simulation.federation import Federation

CASE = bytes(range(16))


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A customs node with a case that its peer refused until it was parked."""
    assert live
    made = Federation(tmp_path, profiles=("ics2", "sis"))
    node = made.services["ics2"].node
    now = node.now_ms()
    row = CaseRow(
        side=cases.QUERIER, peer="sis", request_id=CASE, agreement="SIS-OBJ:ics2-sis", epoch=1, state="drafted",
        opened_ms=now, due_ms=now, next_ms=NEVER_MS, match_id=None, leaf_index=None, quiet=False, payload={},
    )  # fmt: skip
    with node.store.write() as tx:
        cases.put_case(node.store, tx, row)
        tx.execute(sa.update(schema.cases).values(attempts=5, last_error="refused", first_failed_ms=now, parked_ms=now))
    made.close()
    return tmp_path / "ics2"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def value(*arguments: object) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.exception
    return json.loads(result.stdout)


def bodies(directory: Path, event: Event) -> list[Any]:
    made = Federation.__new__(Federation)
    made.root, made.seed, made._opened, made.services = directory.parent, "look", 0, {}
    made.clock = None  # type: ignore[assignment]  # the system's
    service = made.open("ics2")
    try:
        node = service.node
        with node.store.read() as tx:
            leaves = [parse_leaf(raw) for raw in node.entries.read_leaves(tx, 0, node.entries.size(tx))]
            return [node.log.open_body(tx, i) for i, leaf in enumerate(leaves) if leaf.event is event]
    finally:
        made.close()


def test_what_is_parked_is_listed_and_sent_again_by_those_who_may(directory: Path) -> None:
    (item,) = value("outbox", "list", directory)
    assert {k: v for k, v in item.items() if k not in {"since", "failing_since", "parked"}} == {
        "id": CASE.hex(), "kind": "case", "peer": "sis", "agreement": "SIS-OBJ:ics2-sis", "attempts": 5,
        "last_error": "refused",
    }  # fmt: skip
    assert item["parked"]
    assert CASE.hex() in run("outbox", "list", directory).stdout, "in one piece, to be copied"
    officer = next((directory / "people").glob("officer1.crt"))
    assert isinstance(run("outbox", "retry", directory, CASE.hex(), "--as", officer).exception, RefusedError)
    assert isinstance(run("outbox", "list", directory, "--as", officer).exception, RefusedError)
    assert isinstance(run("outbox", "retry", directory, "00" * 16).exception, PurposeRefusedError)
    assert isinstance(run("outbox", "retry", directory, "no hex").exception, FormatError)
    assert value("outbox", "retry", directory, CASE.hex()) == {"retried": 1}
    (item,) = value("outbox", "list", directory)
    assert (item["attempts"], item["last_error"], item["parked"]) == (0, "", "")
    (retried,) = [body for body in bodies(directory, Event.CONFIG) if body["action"] == "outbox_retry"]
    assert retried["ids"] == [CASE.hex()]
    assert retried["by"].startswith("urn:connector-psi:person:ics2:admin:")


def test_a_clock_is_confirmed_by_an_administrator_once_it_jumped(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(run("clock", "confirm", directory).exception, ConflictError)
    assert value("status", directory)["clock"]["state"] == "good"
    begin = Timekeeper.begin
    # As after a month and a day without the node.
    monkeypatch.setattr(
        Timekeeper, "begin", lambda self, mark, *, jumped: begin(self, mark - 31 * 86_400_000, jumped=jumped)
    )
    assert value("status", directory)["clock"]["state"] == "jumped"
    supervisor = next((directory / "people").glob("supervisor1.crt"))
    assert isinstance(run("clock", "confirm", directory, "--as", supervisor).exception, RefusedError)
    assert value("clock", "confirm", directory) == {"confirmed": True}
    monkeypatch.undo()
    assert value("status", directory)["clock"]["state"] == "good"
    (confirmed,) = bodies(directory, Event.CLOCK)
    assert confirmed["operation"] == "clock confirmed"
