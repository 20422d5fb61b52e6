"""Random steps of several people at three nodes never reach a disclosure that lacks a confirmation, an approval, an entry or a basis.

Four agreements with different rules: two people at either side, one at either side, a grant by two people before anything is asked, and one
of which the owner gets no notice. People confirm, dismiss, open with right and wrong words, approve and refuse, also when it is not theirs;
records change and go; nodes stop and start; calls fail. After every third step a checker of its own, which reads the policies as text and the stores
and logs as they lie there, looks at both sides of everything that was disclosed. Seeds stand in the names of the tests.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml

from connector_psi import disclosure
from connector_psi.audit.entries import Event, Side, parse_leaf
from connector_psi.domain.records import Field, IdentifierType, Record
from connector_psi.errors import ConnectorError, UnavailableError
from connector_psi.node.node import Node
from connector_psi.pki import PersonIdentity, Role
from connector_psi.storage import cases as case_store
from connector_psi.storage import schema
from connector_psi.storage.accesses import AccessRow
from tests.privacy.staging import container
from tests.simulation.casework import AGREEMENT as BY_CASE
from tests.simulation.casework import TEXTS, message
from tests.simulation.federation import Federation, alert, declaration, person

SEEDS, LONG_SEEDS = (2, 6), range(100, 130)
STEPS = 140
BOXES = [(IdentifierType.CONTAINER, container(n)) for n in (1, 2, 3)]
CODES = ("ics2", "sis", "police")
PEOPLE = [
    person(code, role, f"{role.value}{number}")
    for code in CODES
    for role, number in ((Role.OFFICER, 1), (Role.OFFICER, 2), (Role.SUPERVISOR, 1), (Role.DPO, 1))
]


class Stricter(Federation):
    """SIS-OBJ with two people at either side."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, profiles=CODES)
        for code in ("ics2", "sis"):
            self.close(code)
            policy = self.root / code / "policy.yaml"
            head, name, rest = policy.read_text().partition("  SIS-OBJ:\n")
            assert name
            one, two = "{querier_people: 1, owner_people: 1}", "{querier_people: 2, owner_people: 2}"
            block, end = rest[: rest.index(one)], rest[rest.index(one) + len(one) :]
            self.edit_policy(code, (head + name + block + one + end, head + name + block + two + end))
            self.open(code)


class Walk:
    """One list of random steps."""

    def __init__(self, federation: Federation, seed: int) -> None:
        self.federation = federation
        self.dice = random.Random(seed)
        self.done: dict[str, int] = {}

    def step(self) -> None:
        """Do something; what is refused is refused."""
        steps: list[tuple[int, Callable[[], object]]] = [
            (10, self.decide), (10, self.open_case), (12, self.answer), (2, self.ask_access), (6, self.answer_access),
            (2, self.change), (1, self.recall), (2, self.acknowledge), (1, self.restart), (1, self.cut), (12, self.settle),
        ]  # fmt: skip
        (chosen,) = self.dice.choices([s for _, s in steps], [weight for weight, _ in steps])
        try:
            chosen()
        except ConnectorError:
            return
        self.done[chosen.__name__] = self.done.get(chosen.__name__, 0) + 1

    def service(self) -> Any:
        return self.federation.services[self.dice.choice(CODES)]

    def somebody(self, code: str) -> PersonIdentity:
        # Mostly of the authority; now and then somebody of another, or with another role.
        own = [p for p in PEOPLE if p.authority == code]
        return self.dice.choice(own if self.dice.random() < 0.85 else PEOPLE)

    def decide(self) -> None:
        service = self.service()
        match = self.dice.choice(service.review.list() or [None])
        if match is not None:
            who, yes = self.somebody(service.node.authority), self.dice.random() < 0.9
            # The port lets officers and supervisors decide, and nobody else.
            if who.authority == service.node.authority and who.role in {Role.OFFICER, Role.SUPERVISOR}:
                service.review.decide(match.match_id, who, self.dice.choice(["the same", "the same", " "]), confirm=yes)

    def open_case(self) -> None:
        service = self.service()
        matches = service.review.list()
        confirmed = [match for match in matches if match.state == "confirmed"]
        match = self.dice.choice((confirmed if self.dice.random() < 0.8 else matches) or matches or [None])
        if match is None:
            return
        terms = _terms(self.federation, service.node.authority, match.agreement)
        wrong = self.dice.choice([*[""] * 8, "purpose", "basis", "reference", "justification"])
        service.asked.open(
            match.match_id,
            self.somebody(service.node.authority),
            purpose="cpsi:Oversight" if wrong == "purpose" else terms["purpose"],
            legal_basis="2016/679:15" if wrong == "basis" else terms["legal_basis"][0],
            case_reference="" if wrong == "reference" else "CASE-1",
            justification=" " if wrong == "justification" else "it is on its way",
        )

    def answer(self) -> None:
        service = self.service()
        waiting = [view for view in service.cases.list() if view.row.side == case_store.OWNER]
        if waiting:
            undecided = [view for view in waiting if view.row.state == "awaiting_decision"]
            row = self.dice.choice(undecided if undecided and self.dice.random() < 0.9 else waiting).row
            who = self.somebody(service.node.authority)
            service.received.decide(row.request_id, who, "because", approve=self.dice.random() < 0.85)

    def ask_access(self) -> None:
        named = [(message("S1").source, f"S{n}") for n in range(1, 4) if self.dice.random() < 0.5]
        self.federation.services["police"].asked_access.request(
            BY_CASE, self.somebody("police"), named, hours=0, **TEXTS
        )

    def answer_access(self) -> None:
        rows: list[AccessRow] = [view.row for view in self.federation.services["ics2"].accesses.list()]
        if rows:
            row, who = self.dice.choice(rows), self.somebody("ics2")
            self.federation.services["ics2"].granting.decide(
                row.request_id, who, "needed", approve=self.dice.random() < 0.85
            )

    def change(self) -> None:
        code, number = self.dice.choice(CODES), self.dice.randrange(1, 4)
        made = _records(code)[number - 1]
        service = self.federation.services[code]
        if self.dice.random() < 0.4:
            service.registration.withdraw(made.source, made.source_ref, "gone", "test")
        else:
            fields = (
                {**made.fields, Field.ROUTE: (self.dice.choice(["FR", "DE", "BE"]),)} if code == "ics2" else made.fields
            )
            hidden = self.dice.random() < 0.1
            service.registration.register([replace(made, fields=fields, hidden=hidden)], "test")

    def recall(self) -> None:
        service = self.service()
        if rows := [view.row for view in service.cases.list() if view.row.side == case_store.OWNER]:
            service.recalling.send(
                self.dice.choice(rows).request_id, self.somebody(service.node.authority), "wrong", withdraw=True
            )

    def acknowledge(self) -> None:
        service = self.service()
        if views := service.recalls.list(("open",)):
            service.recalled.acknowledge(self.dice.choice(views).row.recall_id, self.somebody(service.node.authority))

    def restart(self) -> None:
        code = self.dice.choice(CODES)
        self.federation.close(code)
        self.federation.open(code)

    def cut(self) -> None:
        """Calls fail for a while, before or after they took effect."""

        def fault(name: str) -> None:
            if self.dice.random() < 0.3:
                raise UnavailableError(name)

        self.federation.fault = fault
        try:
            self.federation.settle(rounds=1)
        finally:
            self.federation.fault = lambda _name: None

    def settle(self) -> None:
        self.federation.clock.advance(self.dice.choice([1, 30, 60]))
        self.federation.settle(rounds=self.dice.randrange(1, 4))


def _records(code: str) -> list[Record]:
    made = []
    for number, box in enumerate(BOXES, 1):
        if code == "ics2":
            made.append(declaration(f"M{number}", box, route="CO"))
        elif code == "sis":
            made.append(alert(f"DE{number}", box, category="sis.36" if number == 2 else "sis.38.g"))
        else:
            made.append(message(f"S{number}", box))
    return made


# --- The checker ------------------------------------------------------------------------------------------------------


def _terms(federation: Federation, code: str, agreement: str) -> dict[str, Any]:
    """An agreement as the policy's text says it."""
    templates = _templates((federation.root / code / "policy.yaml").read_text())
    found: dict[str, Any] = templates[agreement.partition(":")[0]]
    return found


# The same text for many steps, and reading it takes longer than the rest of a look.
@cache
def _templates(text: str) -> Any:
    return yaml.safe_load(text)["templates"]


def _cases(node: Node, side: str) -> Iterator[tuple[Any, dict[str, Any]]]:
    with node.store.read() as tx:
        for row in tx.execute(
            sa.select(schema.cases).where(schema.cases.c.side == side, schema.cases.c.quiet.is_(False))
        ):
            yield row, node.store.unseal("cases", row.sealed)


def _entries(node: Node, every: bool) -> list[tuple[int, Any, dict[str, Any]]]:
    wanted = {Event.REVIEW, Event.CASE_OPEN, Event.CASE_OUTCOME, Event.RECEIPT}
    with node.store.read() as tx:
        leaves = [parse_leaf(raw) for raw in node.entries.read_leaves(tx, 0, node.entries.size(tx))]
        return [
            (index, leaf, node.log.open_body(tx, index) if every or leaf.event is Event.REVIEW else {})
            for index, leaf in enumerate(leaves)
            if leaf.event in wanted and not (leaf.side is Side.OWNER and leaf.agreement.startswith("SIS-CHK"))
        ]


def _people(uris: list[str], authority: str) -> set[str]:
    """Different officers and supervisors of an authority, each once."""
    found = set()
    for uri in uris:
        _, _, _, of, role, name = uri.split(":")
        if of == authority and role in {"officer", "supervisor"}:
            found.add(name)
    return found


def check(federation: Federation, *, every_body: bool = False) -> int:
    """Look at everything that was disclosed; returns how many disclosures there are.

    Args: every_body: Open the bodies of all entries of cases, not only those that are looked at.
    """
    disclosed = 0
    for code, service in federation.services.items():
        node = service.node
        entries = _entries(node, every_body)
        for row, payload in _cases(node, case_store.OWNER):
            if payload.get("outcome") != "DISCLOSED":
                continue
            terms = _terms(federation, code, row.agreement)
            approved = _people([a["by"] for a in payload["approvals"]], code)
            assert len(approved) >= terms["confirm"]["owner_people"], f"{row.agreement}: an approval is missing"
            assert payload["purpose"] == terms["purpose"]
            assert payload["legal_basis"] in terms["legal_basis"], f"{row.agreement}: a basis is missing"
            assert payload["case_reference"].strip()
            assert payload["justification"].strip()
            assert set(payload["released"]) <= set(terms["disclose"])
            outcomes = [
                leaf for _, leaf, _ in entries if leaf.event is Event.CASE_OUTCOME and leaf.request_id == row.request_id
            ]
            assert len(outcomes) == 1, f"{row.agreement}: {len(outcomes)} entries"
            assert outcomes[0].side is Side.OWNER
        for row, payload in _cases(node, case_store.QUERIER):
            if payload.get("outcome", {}).get("outcome") != "DISCLOSED":
                continue
            disclosed += 1
            terms = _terms(federation, code, row.agreement)
            opened = [
                i for i, leaf, _ in entries if leaf.event is Event.CASE_OPEN and leaf.request_id == row.request_id
            ]
            said = [
                body["officer"]
                for i, leaf, body in entries
                if leaf.event is Event.REVIEW and body["match"] == row.match_id and body["decision"] == "confirmed"
                and opened and i < opened[0]
            ]  # fmt: skip
            assert len(_people(said, code)) >= terms["confirm"]["querier_people"], (
                f"{row.agreement}: a confirmation is missing"
            )
            assert set(payload["outcome"]["fields"]) <= set(terms["disclose"])
            receipts = [
                leaf for _, leaf, _ in entries if leaf.event is Event.RECEIPT and leaf.request_id == row.request_id
            ]
            assert len(receipts) == 1, f"{row.agreement}: no receipt"
            receipt = payload["outcome"]["receipt"]
            if "checkpoint" in receipt:
                # The size is the second line: the entry was under a checkpoint before the envelope left.
                assert int(receipt["checkpoint"].split("\n")[1]) > receipt["index"]
            if row.agreement == BY_CASE:
                _check_grant(federation, row.peer)
    return disclosed


def _check_grant(federation: Federation, owner: str) -> None:
    node = federation.services[owner].node
    with node.store.read() as tx:
        rows = tx.execute(
            sa.select(schema.accesses).where(schema.accesses.c.side == case_store.OWNER, schema.accesses.c.elements > 0)
        )
        granted = [node.store.unseal("accesses", row.sealed) for row in rows]
    assert any(len(_people([a["by"] for a in g["approvals"]], owner)) >= 2 for g in granted), "a grant is missing"


# --- Walks ------------------------------------------------------------------------------------------------------------


def _walk(root: Path, seed: int, steps: int = STEPS) -> tuple[Walk, int]:
    federation = Stricter(root)
    try:
        for code in CODES:
            federation.services[code].registration.register(_records(code), "test")
        federation.settle(rounds=2)
        walk = Walk(federation, seed)
        for number in range(steps):
            walk.step()
            # What was disclosed stays to be looked at for a while.
            if number % 3 == 0:
                check(federation)
        federation.settle(rounds=12)
        return walk, check(federation, every_body=True)
    finally:
        federation.close()


@pytest.mark.parametrize("seed", SEEDS)
def test_no_list_of_steps_reaches_a_disclosure_that_lacks_something(tmp_path: Path, seed: int) -> None:
    walk, disclosed = _walk(tmp_path, seed)
    assert disclosed > 0, "a walk that discloses nothing shows nothing"
    assert {"decide", "open_case", "answer", "settle", "change"} <= walk.done.keys()


@pytest.mark.slow
@pytest.mark.parametrize("seed", LONG_SEEDS)
def test_no_long_list_of_steps_reaches_one_either(tmp_path: Path, seed: int) -> None:
    _walk(tmp_path, seed, steps=300)


def test_the_checker_finds_a_node_that_does_not_wait_for_people(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = disclosure.decide_case

    def hasty(agreement: Any, request: Any, record: Any, **said: Any) -> Any:
        people = [f"urn:connector-psi:person:{agreement.owner}:officer:nobody{n}" for n in range(2)]
        return real(agreement, request, record, **{**said, "approved_by": people})

    monkeypatch.setattr(disclosure, "decide_case", hasty)

    def walks() -> None:
        for seed in range(3):
            _walk(tmp_path / str(seed), seed)

    with pytest.raises(AssertionError, match="an approval is missing"):
        walks()
