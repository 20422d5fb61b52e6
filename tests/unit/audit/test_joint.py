"""Two real logs joined: they fit together as they are, and every way to tamper with one of them shows, alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connector_psi.audit.entries import Event
from connector_psi.audit.entries import Side as Role
from connector_psi.audit.joint import Dossier, Severity, Side, join, read_side, request_ids
from connector_psi.errors import ConfigError, FormatError, InputError, ProofInvalidError
from tests.integration import live
from tests.simulation import bundles, casework
from tests.simulation.casework import ask_about_sought
from tests.simulation.federation import Federation, alert, declaration, person

BOX = casework.CONTAINER
OTHER = casework.OTHER_CONTAINER
NOTE, MISSING, DISAGREEMENT = Severity.NOTE, Severity.MISSING, Severity.DISAGREEMENT
YEARS = timedelta(days=5 * 366)


class Scene:
    """What two authorities logged of a disclosure that was recalled, a refusal, and the queries before."""

    def __init__(self, root: Path) -> None:
        federation = Federation(root / "nodes")
        ics2, sis = federation.services["ics2"], federation.services["sis"]
        sis.registration.register([alert("DE1", BOX), alert("DE2", OTHER)], "test")
        ics2.registration.register([declaration("M1", BOX)], "test")
        federation.settle()
        self.disclosed = ask_about_sought(federation)
        federation.settle()
        sis.received.decide(self.disclosed, person("sis"), "it is the sought box", approve=True)
        federation.settle(rounds=20)
        ics2.registration.register([declaration("M2", OTHER)], "test")
        federation.settle()
        self.refused = ask_about_sought(federation)
        federation.settle()
        sis.received.decide(self.refused, person("sis"), "it is another box", approve=False)
        federation.settle(rounds=8)
        federation.clock.advance(casework.T_S)
        federation.settle(rounds=8)
        self.before = export(federation, root / "before")
        sis.registration.withdraw(alert("DE1", BOX).source, "DE1", "entered by mistake", "test")
        federation.settle()
        (recall,) = ics2.recalls.list()
        self.recall = recall.row.recall_id
        ics2.recalled.acknowledge(self.recall, person("ics2"), "the port was told")
        federation.settle()
        self.now = federation.clock.now()
        self.bundles = export(federation, root / "after")
        federation.close()
        self.a, self.b = map(read_side, self.bundles)
        (self.query, *_) = [x.request_id for x in request_ids(self.a, self.b) if x.kind == "query"]


def export(federation: Federation, root: Path, codes: tuple[str, str] = ("ics2", "sis")) -> tuple[Path, Path]:
    for code in codes:
        federation.services[code].tick_log()
        node = federation.services[code].node
        with node.store.read() as tx:
            bundles.write(root / code, tx, node.log, node.entries, node.signer.vkey, bodies=True)
    return root / codes[0], root / codes[1]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(tmp_path_factory.mktemp("joint"))


def told(dossier: Dossier, *, notes: bool = False) -> list[tuple[Severity, str]]:
    return [(f.severity, f.text) for f in dossier.findings if notes or f.severity is not NOTE]


def index_of(side: Side, request_id: bytes, event: Event, number: int = 0) -> int:
    return [
        i for i, leaf in side.leaves.items() if request_id in {leaf.request_id, leaf.parent_id} and leaf.event is event
    ][number]


def changed(log: Side, index: int, /, **fields: Any) -> Side:
    return replace(log, leaves={**log.leaves, index: replace(log.leaves[index], **fields)})


def said(side: Side, index: int, **keys: Any) -> Side:
    return replace(side, bodies={**side.bodies, index: {**side.bodies[index], **keys}})


def without(side: Side, index: int) -> Side:
    return replace(side, leaves={i: leaf for i, leaf in side.leaves.items() if i != index})


def later(side: Side, by: timedelta = timedelta(days=9)) -> Side:
    """The log with one more entry, long after the others."""
    index = max(side.leaves)
    leaf = side.leaves[index]
    more = replace(leaf, event=Event.CONFIG, request_id=None, parent_id=None, ts=leaf.ts + by)
    return replace(side, leaves={**side.leaves, index + 1: more})


# --- As it is -----------------------------------------------------------------------------------------------------------


def test_a_disclosure_and_its_recall_fit_together(scene: Scene) -> None:
    dossier = join(scene.a, scene.b, scene.disclosed, scene.now)
    assert dossier.agrees
    assert [(entry.place.log, entry.leaf.event.value) for entry in dossier.entries] == [
        ("a", "CASE_OPEN"),
        ("b", "CASE_OPEN"),
        ("b", "CASE_OUTCOME"),
        ("a", "RECEIPT"),
        ("b", "RECALL"),
        ("a", "RECALL"),
        ("a", "ERASE"),
        ("a", "RECALL"),
        ("b", "RECALL"),
    ]
    (note,) = told(dossier, notes=True)
    assert note[1].startswith("Entry ")
    assert "ics2 (ERASE): erased on 2" in note[1]
    assert note[1].endswith("for it was recalled.")
    assert dossier.entries[0].what == "ics2 opened a case about a confirmed match."
    # The order of the two does not matter.
    assert join(scene.b, scene.a, scene.disclosed, scene.now).agrees


def test_a_refusal_and_a_query_fit_together(scene: Scene) -> None:
    for request_id in (scene.refused, scene.query, scene.recall):
        assert told(join(scene.a, scene.b, request_id, scene.now), notes=True) == []
    refusal = join(scene.a, scene.b, scene.refused)
    assert [body["decision"] for entry in refusal.entries if (body := entry.body) and "decision" in body] == [
        "NOT_DISCLOSED"
    ]


def test_every_request_of_the_two_logs_fits_together(scene: Scene) -> None:
    listed = request_ids(scene.a, scene.b)
    assert {each.kind for each in listed} == {"query", "case", "recall"}
    assert all(each.in_a and each.in_b for each in listed)
    assert [each.first for each in listed] == sorted(each.first for each in listed)
    (recall,) = [each for each in listed if each.request_id == scene.recall]
    assert (recall.kind, recall.parent_id, recall.in_a, recall.in_b) == ("recall", scene.disclosed, 2, 2)
    # Among them the covers of agreements of which the owner gets no notice.
    assert any(each.kind == "recall" and each.agreement == "SIS-CHK:sis-ics2" for each in listed)
    for each in listed:
        assert told(join(scene.a, scene.b, each.request_id, scene.now)) == []


def test_a_recall_that_nobody_acknowledged_is_a_note(scene: Scene) -> None:
    a = without(scene.a, index_of(scene.a, scene.disclosed, Event.RECALL, 1))
    b = without(scene.b, index_of(scene.b, scene.disclosed, Event.RECALL, 1))
    dossier = join(a, b, scene.disclosed)
    assert dossier.agrees
    assert any("nobody has acknowledged this recall" in text for _, text in told(dossier, notes=True))


def test_json_holds_bodies_only_on_demand(scene: Scene) -> None:
    dossier = join(scene.a, scene.b, scene.disclosed)
    secret = "the box is on its way to the port"
    assert secret not in json.dumps(dossier.to_json())
    assert secret not in repr(dossier)
    assert secret in json.dumps(dossier.to_json(bodies=True))
    value = dossier.to_json()
    assert [log["origin"].rpartition("/")[2] for log in value["logs"]] == ["ics2", "sis"]
    assert value["entries"][0]["leaf"]["agreement"] == "SIS-OBJ:ics2-sis"
    assert value["agrees"] is True


def test_the_checkpoints_that_the_querier_kept_are_at_hand(scene: Scene) -> None:
    kept = join(scene.a, scene.b, scene.disclosed).kept_checkpoints()
    # Of the receipt and of the recall.
    assert [place.log for place, _ in kept] == ["a", "a"]
    assert all(note.startswith(b"connector-psi.internal/log/sis\n") for _, note in kept)


def test_a_request_that_nobody_knows_has_no_dossier(scene: Scene) -> None:
    with pytest.raises(InputError, match="neither log has an entry"):
        join(scene.a, scene.b, bytes(16))


def test_without_bodies_the_leaves_are_compared_and_a_note_says_so(scene: Scene) -> None:
    a = replace(scene.a, bodies={})
    dossier = join(a, scene.b, scene.disclosed)
    assert dossier.agrees
    notes = [text for _, text in told(dossier, notes=True) if "could not be compared" in text]
    assert len(notes) == 4
    assert "of ics2 (CASE_OPEN) came without." in notes[0]


# --- A field of a leaf --------------------------------------------------------------------------------------------------

FIELDS: list[tuple[str, Event, str, Any]] = [
    *(
        ("query", Event.CONSULT, name, value)
        for name, value in {
            "agreement": "SIS-CHK:ics2-sis",
            "mode": "case",
            "policy_hash": bytes(32),
            "purpose": "other",
            "epoch": 99,
            "token_class": "contact",
            "n_padded": 7,
            "batch_commitment": bytes(32),
            "source_commitment": bytes(32),
            "actor_commitment": bytes(32),
        }.items()
    ),
    *(
        ("disclosed", Event.CASE_OPEN, name, value)
        for name, value in {
            "agreement": "SIS-CHK:ics2-sis",
            "mode": "case",
            "policy_hash": bytes(32),
            "purpose": "other",
            "epoch": 99,
            "actor_commitment": bytes(32),
        }.items()
    ),
    *(
        ("refused", Event.CASE_OUTCOME, name, value)
        for name, value in {
            "agreement": "SIS-CHK:ics2-sis",
            "mode": "case",
            "policy_hash": bytes(32),
            "purpose": "other",
            "epoch": 99,
            "source_commitment": bytes(32),
        }.items()
    ),
    *(
        ("recall", Event.RECALL, name, value)
        for name, value in {
            "agreement": "SIS-CHK:ics2-sis",
            "mode": "case",
            "policy_hash": bytes(32),
            "parent_id": bytes(16),
            "source_commitment": bytes(32),
        }.items()
    ),
]


@pytest.mark.parametrize(("request_name", "event", "name", "value"), FIELDS, ids=lambda v: str(v)[:20])
def test_a_field_that_differs_is_the_one_finding(
    scene: Scene, request_name: str, event: Event, name: str, value: Any
) -> None:
    request_id = getattr(scene, request_name)
    index = index_of(scene.b, request_id, event)
    ((severity, text),) = told(join(scene.a, changed(scene.b, index, **{name: value}), request_id))
    assert severity is DISAGREEMENT
    assert f"differ in {name}: " in text
    assert f"entry {index} of sis ({event.value})" in text.replace("Entry", "entry")


@pytest.mark.parametrize("name", ["legal_basis", "hold"])
def test_a_field_that_only_one_side_writes_is_not_compared(scene: Scene, name: str) -> None:
    index = index_of(scene.b, scene.disclosed, Event.CASE_OPEN)
    assert join(scene.a, changed(scene.b, index, **{name: "other"}), scene.disclosed).agrees


def test_terms_that_changed_in_between_are_a_note_where_both_logs_announce_them(scene: Scene) -> None:
    def announcing(side: Side) -> Side:
        index = next(
            i
            for i, leaf in side.leaves.items()
            if leaf.event is Event.POLICY_CHANGE and leaf.agreement == "SIS-OBJ:ics2-sis"
        )
        more = replace(side.leaves[index], policy_hash=bytes(32))
        return replace(side, leaves={**side.leaves, max(side.leaves) + 1: more})

    index = index_of(scene.a, scene.refused, Event.RECEIPT)
    a = changed(scene.a, index, policy_hash=bytes(32))
    for one, other, severity in (
        (a, scene.b, DISAGREEMENT),
        (announcing(a), scene.b, DISAGREEMENT),
        (announcing(a), announcing(scene.b), NOTE),
    ):
        ((found, text),) = told(join(one, other, scene.refused), notes=True)
        assert (found, "differ in policy_hash" in text) == (severity, True)


def test_a_set_that_the_owner_did_not_publish(scene: Scene) -> None:
    index = index_of(scene.a, scene.query, Event.CONSULT)
    ((severity, text),) = told(join(changed(scene.a, index, manifest_hash=bytes(32)), scene.b, scene.query))
    assert severity is DISAGREEMENT
    assert "(field manifest_hash) that no SET_PUBLISH entry of sis" in text


def test_a_case_may_be_sent_in_a_later_epoch_and_never_in_an_earlier_one(scene: Scene) -> None:
    def moved(to: int) -> Dossier:
        a, b = scene.a, scene.b
        b = changed(b, index_of(b, scene.refused, Event.CASE_OPEN), epoch=to)
        b = changed(b, index_of(b, scene.refused, Event.CASE_OUTCOME), epoch=to)
        return join(changed(a, index_of(a, scene.refused, Event.RECEIPT), epoch=to), b, scene.refused)

    assert moved(2).agrees
    assert "may be sent in a later epoch" in told(moved(2), notes=True)[0][1]
    assert [severity for severity, _ in told(moved(0))] == [DISAGREEMENT]


# --- An entry that is not there -----------------------------------------------------------------------------------------

ALONE: list[tuple[str, str, Event, int, Severity, str]] = [
    ("a", "query", Event.CONSULT, 0, MISSING, "a query that the querier's log does not admit"),
    ("b", "query", Event.CONSULT, 0, MISSING, "a query that the owner's log does not know"),
    ("a", "disclosed", Event.CASE_OPEN, 0, MISSING, "what the querier's log never opened"),
    ("b", "disclosed", Event.CASE_OPEN, 0, MISSING, "what the owner's log never took in"),
    ("a", "refused", Event.RECEIPT, 0, MISSING, "does not show that the outcome was received"),
    ("b", "refused", Event.CASE_OUTCOME, 0, DISAGREEMENT, "an outcome that the owner's log never gave"),
    ("a", "recall", Event.RECALL, 0, MISSING, "does not show that the recall arrived"),
    ("b", "recall", Event.RECALL, 0, DISAGREEMENT, "a recall that the owner's log never sent"),
    ("a", "recall", Event.RECALL, 1, DISAGREEMENT, "an acknowledgement that the querier's log never gave"),
    ("b", "recall", Event.RECALL, 1, MISSING, "does not show that it was told of the acknowledgement"),
]


@pytest.mark.parametrize(("log", "request_name", "event", "number", "severity", "text"), ALONE)
def test_an_entry_without_its_counterpart_is_the_one_finding(
    scene: Scene, log: str, request_name: str, event: Event, number: int, severity: Severity, text: str
) -> None:
    request_id = getattr(scene, request_name)
    a, b = later(scene.a), later(scene.b)
    if log == "a":
        a = without(a, index_of(a, request_id, event, number))
    else:
        b = without(b, index_of(b, request_id, event, number))
    ((found, sentence),) = told(join(a, b, request_id))
    assert (found, text in sentence) == (severity, True)
    assert "under way" not in sentence


def test_what_may_be_under_way_is_a_note(scene: Scene) -> None:
    a = without(scene.a, index_of(scene.a, scene.refused, Event.RECEIPT))
    outcome = scene.b.leaves[index_of(scene.b, scene.refused, Event.CASE_OUTCOME)]
    recent = replace(a, leaves={i: leaf for i, leaf in a.leaves.items() if leaf.ts < outcome.ts + timedelta(hours=1)})
    ((severity, text),) = told(join(recent, scene.b, scene.refused), notes=True)
    assert (severity, "may be under way" in text) == (NOTE, True)


def test_a_bundle_that_ends_before_is_told(scene: Scene) -> None:
    """It stays a finding: whoever hides a query at the end of the log looks the same."""
    index = index_of(scene.a, scene.query, Event.CONSULT)
    query = scene.b.leaves[index_of(scene.b, scene.query, Event.CONSULT)]
    early = replace(scene.a, leaves={i: leaf for i, leaf in scene.a.leaves.items() if i < index and leaf.ts < query.ts})
    ((severity, text),) = told(join(early, scene.b, scene.query))
    assert (severity, "ends before: ask for a newer one" in text) == (MISSING, True)


# --- Sides, order, repetition -------------------------------------------------------------------------------------------


def of_case(side: Side, request_id: bytes) -> list[int]:
    return [i for i, leaf in side.leaves.items() if leaf.request_id == request_id]


def test_two_logs_of_one_side_are_not_compared(scene: Scene) -> None:
    b = scene.b
    for index in of_case(b, scene.refused):
        b = changed(b, index, side=Role.QUERIER)
    ((severity, text),) = told(join(scene.a, b, scene.refused), notes=True)
    assert (severity, "say querier (field side)" in text) == (DISAGREEMENT, True)


def test_an_entry_of_the_other_side(scene: Scene) -> None:
    index = index_of(scene.b, scene.disclosed, Event.CASE_OUTCOME)
    ((severity, text),) = told(join(scene.a, changed(scene.b, index, side=Role.QUERIER), scene.disclosed))
    assert (severity, f"Entry {index} of sis" in text, "another side" in text) == (DISAGREEMENT, True, True)


def test_one_log_twice(scene: Scene) -> None:
    ((severity, text),) = told(join(scene.a, scene.a, scene.refused), notes=True)
    assert (severity, "Both bundles are of one log" in text) == (DISAGREEMENT, True)


def test_the_log_of_somebody_else(scene: Scene) -> None:
    b = replace(scene.b, origin="connector-psi.internal/log/europol")
    ((severity, text),) = told(join(scene.a, b, scene.query))
    assert (severity, text.startswith("The log of europol stands for the owner")) == (DISAGREEMENT, True)


def test_an_event_of_the_other_side(scene: Scene) -> None:
    index = index_of(scene.b, scene.refused, Event.CASE_OUTCOME)
    extra = replace(scene.b.leaves[index], event=Event.RECEIPT)
    b = replace(scene.b, leaves={**scene.b.leaves, max(scene.b.leaves) + 1: extra})
    ((severity, text),) = told(join(scene.a, b, scene.refused))
    assert (severity, "the owner of an agreement does not write" in text) == (DISAGREEMENT, True)


@pytest.mark.parametrize(
    ("log", "request_name", "event", "number"),
    [
        ("b", "query", Event.CONSULT, 0),
        ("b", "refused", Event.CASE_OPEN, 0),
        ("a", "refused", Event.RECEIPT, 0),
        ("a", "recall", Event.RECALL, 0),
        ("b", "recall", Event.RECALL, 1),
    ],
)
def test_an_order_that_cannot_be(scene: Scene, log: str, request_name: str, event: Event, number: int) -> None:
    request_id = getattr(scene, request_name)
    side, other = (scene.a, scene.b) if log == "a" else (scene.b, scene.a)
    index = index_of(side, request_id, event, number)
    counterpart = {Event.RECEIPT: Event.CASE_OUTCOME}.get(event, event)
    first = other.leaves[index_of(other, request_id, counterpart, number)].ts

    def at(ts: datetime) -> Dossier:
        moved = changed(side, index, ts=ts)
        return join(moved, other, request_id) if log == "a" else join(other, moved, request_id)

    assert at(first - timedelta(seconds=120)).agrees
    assert at(first + timedelta(days=3)).agrees
    ((severity, text),) = told(at(first - timedelta(seconds=121)))
    assert (severity, "wrong order (field ts)" in text) == (DISAGREEMENT, True)


@pytest.mark.parametrize(
    ("request_name", "event"),
    [
        ("query", Event.CONSULT),
        ("refused", Event.CASE_OPEN),
        ("refused", Event.RECEIPT),
        ("disclosed", Event.ERASE),
        ("recall", Event.RECALL),
    ],
)
def test_what_there_may_be_once_only(scene: Scene, request_name: str, event: Event) -> None:
    request_id = getattr(scene, request_name)
    leaf = scene.a.leaves[index_of(scene.a, request_id, event)]
    a = replace(scene.a, leaves={**scene.a.leaves, max(scene.a.leaves) + 1: leaf})
    ((severity, text),) = told(join(a, scene.b, request_id))
    assert (severity, text.startswith("ics2 has 2 entries of one ")) == (DISAGREEMENT, True)


# --- Bodies -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("log", "request_name", "event", "number", "key", "value", "text"),
    [
        ("a", "refused", Event.CASE_OPEN, 0, "case_reference", "SECRET", "differ in case_reference"),
        ("b", "refused", Event.CASE_OPEN, 0, "justification", "SECRET", "differ in justification"),
        ("b", "refused", Event.CASE_OPEN, 0, "peer", "SECRET", "names another peer"),
        ("b", "refused", Event.CASE_OUTCOME, 0, "decision", "SECRET", "differ in outcome and decision"),
        ("b", "disclosed", Event.CASE_OUTCOME, 0, "fields", ["SECRET"], "differ in fields"),
        ("a", "disclosed", Event.RECEIPT, 0, "handling", ["SECRET"], "differ in handling"),
        ("b", "disclosed", Event.CASE_OUTCOME, 0, "recipient", "SECRET", "names another recipient"),
        ("a", "disclosed", Event.RECEIPT, 0, "owner_leaf", 0, "(owner_leaf)"),
        ("a", "recall", Event.RECALL, 0, "cause", "SECRET", "differ in cause"),
        ("b", "recall", Event.RECALL, 1, "effect", "SECRET", "differ in effect"),
        ("b", "query", Event.CONSULT, 0, "access", "SECRET", "differ in access"),
    ],
)
def test_bodies_that_differ_are_the_one_finding(
    scene: Scene, log: str, request_name: str, event: Event, number: int, key: str, value: Any, text: str
) -> None:
    request_id = getattr(scene, request_name)
    a, b = scene.a, scene.b
    if log == "a":
        a = said(a, index_of(a, request_id, event, number), **{key: value})
    else:
        b = said(b, index_of(b, request_id, event, number), **{key: value})
    ((severity, sentence),) = told(join(a, b, request_id))
    assert (severity, text in sentence) == (DISAGREEMENT, True)
    assert "SECRET" not in sentence


def test_a_cover_is_not_compared(scene: Scene) -> None:
    index = index_of(scene.a, scene.refused, Event.CASE_OPEN)
    a = replace(scene.a, bodies={**scene.a.bodies, index: {"operation": "consultation", "cover": True}})
    assert join(a, scene.b, scene.refused).agrees


# --- Erasure ------------------------------------------------------------------------------------------------------------


def test_an_erasure_that_is_overdue(scene: Scene) -> None:
    a, b = map(read_side, scene.before)
    last = max(
        a.leaves[index_of(a, scene.refused, Event.RECEIPT)].erase_after,
        b.leaves[index_of(b, scene.refused, Event.CASE_OUTCOME)].erase_after,
    )
    assert told(join(a, b, scene.refused, last - timedelta(days=8)), notes=True) == []
    assert told(join(a, b, scene.refused, None), notes=True) == []
    late = told(join(a, b, scene.refused, last + timedelta(seconds=1)))
    assert [severity for severity, _ in late] == [MISSING, MISSING]
    assert all("was to be erased by" in text and "has no ERASE entry" in text for _, text in late)
    # Of what was erased, only the owner's copy is left to tell of.
    ((_, text),) = told(join(scene.a, scene.b, scene.disclosed, last + YEARS))
    assert "the log of sis has no ERASE entry" in text


def test_an_erasure_that_was_acknowledged_and_did_not_happen(scene: Scene) -> None:
    a = without(scene.a, index_of(scene.a, scene.disclosed, Event.ERASE))
    ((severity, text),) = told(join(a, scene.b, scene.disclosed))
    assert (severity, "says that what was disclosed is erased (effect)" in text) == (MISSING, True)


def test_an_erasure_of_something_else(scene: Scene) -> None:
    index = index_of(scene.a, scene.disclosed, Event.ERASE)
    for value in (None, bytes(32)):
        ((severity, text),) = told(join(changed(scene.a, index, source_commitment=value), scene.b, scene.disclosed))
        assert (severity, "(field source_commitment)" in text) == (DISAGREEMENT, True)


# --- Other agreements ---------------------------------------------------------------------------------------------------


def test_a_request_for_access_comes_with_its_queries(tmp_path: Path) -> None:
    federation = casework.begun(tmp_path / "nodes")
    try:
        row = casework.ask(federation)
        federation.settle()
        casework.grant(federation, row.request_id)
        federation.settle(rounds=20)
        a, b = map(read_side, export(federation, tmp_path / "out", ("police", "ics2")))
    finally:
        federation.close()
    dossier = join(a, b, row.request_id, federation.clock.now() + YEARS)
    assert told(dossier, notes=True) == []
    assert [(entry.place.log, entry.leaf.event.value) for entry in dossier.entries] == [
        ("a", "CASE_OPEN"),
        ("b", "CASE_OPEN"),
        ("b", "CASE_OUTCOME"),
        ("a", "RECEIPT"),
        ("a", "CONSULT"),
        ("b", "CONSULT"),
    ]
    assert dossier.entries[0].what == "police asked for access for a case."
    assert [each.kind for each in request_ids(a, b) if each.request_id == row.request_id] == ["access request"]
    b = said(b, index_of(b, row.request_id, Event.CASE_OUTCOME), elements=1)
    ((severity, text),) = told(join(a, b, row.request_id))
    assert (severity, "differ in elements" in text) == (DISAGREEMENT, True)


# --- Reading ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def bundle(scene: Scene, tmp_path: Path) -> Path:
    made = tmp_path / "bundle"
    made.mkdir()
    for file in scene.bundles[0].iterdir():
        (made / file.name).write_bytes(file.read_bytes())
    return made


def edit(path: Path, number: int, change: Callable[[bytes], bytes]) -> None:
    lines = path.read_bytes().splitlines()
    lines[number - 1] = change(lines[number - 1])
    path.write_bytes(b"".join(line + b"\n" for line in lines))


@pytest.mark.parametrize(
    ("file", "change", "error", "text"),
    [
        ("leaves.jsonl", lambda _: b"SECRET", FormatError, "^leaves.jsonl line 3: leaf: not JSON$"),
        ("leaves.jsonl", lambda line: line + b" " * 9000, FormatError, "^leaves.jsonl line 3: leaf: too long$"),
        ("bodies.jsonl", lambda _: b"SECRET", FormatError, "^bodies.jsonl line 3: not JSON$"),
        ("bodies.jsonl", lambda _: b"[" * 99999, FormatError, "^bodies.jsonl line 3: not JSON$"),
        ("bodies.jsonl", lambda _: b"[]", FormatError, "^bodies.jsonl line 3: not a JSON object$"),
        ("bodies.jsonl", lambda _: b'{"index":2}', FormatError, "^bodies.jsonl line 3: not an opened body"),
        ("bodies.jsonl", lambda line: line.replace(b'"index":2', b'"index":99999'), FormatError, "line 3: not an opened body"),
        ("bodies.jsonl", lambda line: line.replace(b'"salt":"', b'"salt":"zz'), FormatError, "line 3: not an opened body"),
        ("bodies.jsonl", lambda line: line.replace(b'"salt":"', b'"salt":"00'), FormatError, "line 3: not an opened body"),
        ("bodies.jsonl", lambda line: line.replace(b'"index":2', b'"index":1'), ProofInvalidError, "^leaf 1: body does not match"),
        ("bodies.jsonl", lambda line: line.replace(b"action", b"acti0n"), ProofInvalidError, "^leaf 2: body does not match"),
    ],
)  # fmt: skip
def test_what_is_no_bundle_is_refused_by_its_place(
    bundle: Path, file: str, change: Callable[[bytes], bytes], error: type[Exception], text: str
) -> None:
    edit(bundle / file, 3, change)
    with pytest.raises(error, match=text) as caught:
        read_side(bundle)
    assert "SECRET" not in str(caught.value)


def test_a_second_body_of_a_leaf_is_refused(bundle: Path) -> None:
    path = bundle / "bodies.jsonl"
    path.write_bytes(path.read_bytes() + path.read_bytes().splitlines()[0] + b"\n")
    with pytest.raises(FormatError, match="a second body of one leaf"):
        read_side(bundle)


def test_a_bundle_that_is_not_whole_is_refused(bundle: Path) -> None:
    (bundle / "bodies.jsonl").unlink()
    assert read_side(bundle).bodies == {}
    for content in (b"", b"\xff+1+a", b"\x1b[2J+1+a"):
        (bundle / "vkey").write_bytes(content)
        with pytest.raises(FormatError, match="vkey: not the key of a log"):
            read_side(bundle)
    (bundle / "leaves.jsonl").unlink()
    with pytest.raises(ConfigError, match="No such file"):
        read_side(bundle)


# --- The command --------------------------------------------------------------------------------------------------------


def test_the_command_lists_requests(scene: Scene) -> None:
    done = live.run("log", "dossier", *scene.bundles, "--json")
    assert done.code == 0
    assert "with --vkey" in done.err
    assert len(done.json["requests"]) == len(request_ids(scene.a, scene.b))
    assert {each["kind"] for each in done.json["requests"]} == {"query", "case", "recall"}
    text = live.run("log", "dossier", *scene.bundles)
    assert (text.code, scene.recall.hex() in text.out) == (0, True)


def test_the_command_shows_a_dossier(scene: Scene, tmp_path: Path) -> None:
    command = ("log", "dossier", *scene.bundles, "--request", scene.disclosed.hex(), "--html", tmp_path / "out.html")
    done = live.run(*command, "--json")
    assert (done.code, done.json["agrees"], len(done.json["entries"])) == (0, True, 9)
    page = (tmp_path / "out.html").read_text()
    assert page.index("Findings") < page.index("Entries in time order")
    assert "<td></td>" in page
    assert "on its way to the port" not in page + done.out
    text = live.run(*command)
    assert (text.code, "The two logs fit together" in text.out) == (0, True)


def test_the_command_takes_the_keys_of_the_logs(scene: Scene) -> None:
    keys = [(bundle / "vkey").read_text().strip() for bundle in scene.bundles]
    command = ("log", "dossier", *scene.bundles, "--request", scene.refused.hex(), "--json")
    done = live.run(*command, "--vkey", keys[0], "--vkey", keys[1])
    assert (done.code, done.err) == (0, "")
    other = f"{keys[0].partition('+')[0]}+{keys[1].partition('+')[2]}"
    done = live.run(*command, "--vkey", other, "--vkey", keys[1])
    assert (done.code, done.json["verified"]) == (5, False)
    assert live.run(*command, "--vkey", f"x{keys[0]}").code == 2


def test_the_command_stops_at_a_bundle_that_does_not_verify(scene: Scene, bundle: Path) -> None:
    edit(bundle / "leaves.jsonl", 3, lambda line: line.replace(b'"epoch":null', b'"epoch":1'))
    done = live.run("log", "dossier", scene.bundles[1], bundle)
    assert done.code == 5
    assert f"{bundle}: NOT VERIFIED" in done.out.replace("\n", "")
    assert live.run("log", "dossier", scene.bundles[1], bundle, "--json").json["bundle"] == str(bundle)


def test_the_command_tells_what_does_not_fit_together(scene: Scene) -> None:
    # The owner's bundle is from before the recall, which the querier acknowledged.
    bundles = (scene.bundles[0], scene.before[1])
    done = live.run("log", "dossier", *bundles, "--request", scene.disclosed.hex(), "--json")
    assert done.code == 5
    found = [(each["severity"], each["text"]) for each in done.json["findings"]]
    assert any(s == "disagreement" and "a recall that the owner's log never sent" in t for s, t in found)
    assert any("(owner_checkpoint): earlier checkpoint 1: covers more leaves than are here." in t for _, t in found)
    text = live.run("log", "dossier", *bundles, "--request", scene.disclosed.hex())
    assert (text.code, "do NOT fit together" in text.out) == (5, True)


@pytest.mark.parametrize(
    "options", [("--request", "xyz"), ("--request", "z" * 32), ("--request", "00" * 16), ("--html", "x")]
)
def test_the_command_is_told_what_it_cannot_use(scene: Scene, options: tuple[str, ...]) -> None:
    assert live.run("log", "dossier", *scene.bundles, *options).code == 2
