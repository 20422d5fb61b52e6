"""Two served nodes with consoles, records that they share, and people with accounts: what the browser tests and the tour begin with."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration import live  # isort: skip  # sets up gRPC's environment before gRPC is loaded

import pyotp

from connector_psi.console.accounts import Accounts
from connector_psi.domain.clock import SystemClock, SystemRandom
from connector_psi.domain.records import Field, Identifier, IdentifierType, Party, PartyKind, Record, SourceSystem
from connector_psi.keyring import Keyring
from connector_psi.node.config import Layout, load_config
from connector_psi.node.setup import init_node, sign_policy
from connector_psi.pack.signing import signature_path
from connector_psi.pki import Role
from connector_psi.rpc.client import LocalClient
from connector_psi.rpc.local import open_local

PASSWORD = "a long password for tests only"
PEOPLE = (
    ("officer1", Role.OFFICER),
    ("officer2", Role.OFFICER),
    ("supervisor1", Role.SUPERVISOR),
    ("supervisor2", Role.SUPERVISOR),
    ("supervisor3", Role.SUPERVISOR),
    ("dpo1", Role.DPO),
    ("auditor1", Role.AUDITOR),
    ("admin1", Role.ADMIN),
)
WAIT_S = 40.0
OBJECTS = "SIS-OBJ:ics2-sis"
BOXES = ("MSKU7143251", "TCLU4251342", "HLXU8037461", "CMAU2013568", "OOLU1234567", "EMCU9876542")


@dataclass
class Desk:
    """A node with a console and its people."""

    code: str
    directory: Path
    url: str = ""
    secrets: dict[str, str] = field(default_factory=dict)
    _used: dict[str, int] = field(default_factory=dict)

    def code_of(self, person: str) -> str:
        """A one-time code that was not used yet; waits for the next one where it has to."""
        while (step := int(time.time()) // 30) <= self._used.get(person, 0):
            time.sleep(0.2)
        self._used[person] = step
        return pyotp.TOTP(self.secrets[person]).at(step * 30)

    @contextlib.contextmanager
    def client(self, role: Role) -> Iterator[LocalClient]:
        with open_local(self.directory, role) as client:
            yield client


def make_desk(root: Path, authority: str, profile: str, *, people: int = 1, settings: str = "") -> Desk:
    """A node directory with a console on a fixed port, fast slots, and an agreement on objects that wants so many people."""
    directory, port = root / authority, live.free_port()
    init_node(
        directory,
        authority=authority,
        profile=profile,
        pkidir=root / "pki",
        listen=f"127.0.0.1:{live.free_port()}",
        local=f"127.0.0.1:{live.free_port()}",
        clock=SystemClock(),
        random=SystemRandom(),
        console=f"127.0.0.1:{port}",
    )
    layout = Layout(directory)
    text = layout.config.read_text().replace("slot_s = 10", "slot_s = 1").replace("delta_s = 5", "delta_s = 2")
    text = text.replace("interval_s = 1.0\nmanifest_poll_s = 1.0", "interval_s = 0.5\nmanifest_poll_s = 0.5")
    layout.config.write_text(text + settings)
    if people > 1:
        policy = layout.policy.read_text()
        wanted = f"confirm: {{querier_people: {people}, owner_people: {people}}}"
        changed, count = re.subn(r"confirm: \{querier_people: 1, owner_people: 1\}", wanted, policy)
        assert count
        layout.policy.write_text(changed)
        signature_path(layout.policy).unlink()
        sign_policy(layout, SystemClock())
    return Desk(authority, directory, f"https://127.0.0.1:{port}")


def add_people(desk: Desk, people: tuple[tuple[str, Role], ...] = PEOPLE) -> None:
    config, layout = load_config(desk.directory)
    key = bytes(Keyring.open(layout.root, SystemRandom()).node_key("console"))
    accounts = Accounts(layout.accounts, key, config.node.authority, SystemRandom())
    for name, role in people:
        uri = accounts.add(name, role, PASSWORD, SystemClock().now())
        found = pyotp.parse_uri(uri)
        assert isinstance(found, pyotp.TOTP)
        desk.secrets[name] = found.secret


def declared(number: int, kind: IdentifierType, value: str) -> Record:
    """A declaration as customs has it, with parties; everything in it is invented."""
    mrn = f"26DE{number:012d}J{number % 10}"[:18]
    return Record(
        source=SourceSystem.ICS2,
        source_ref=f"{mrn}/house-{number}",
        category="ics2.ens",
        identifiers=(
            Identifier(
                kind,
                value,
                f"/IE3F20/consignment[{number}]/transportEquipment[1]/containerIdentificationNumber",
                "transport equipment",
            ),
        ),
        fields={
            Field.MRN: (mrn,),
            Field.ETA: ("2026-12-01T06:00:00Z",),
            Field.ROUTE: ("CNSHA", "SGSIN", "DEHAM"),
            Field.PLACE: ("DEHAM",),
            Field.HS6: ("847130",),
            Field.GOODS_DESCRIPTION: ("portable computers",),
        },
        message_digest=bytes([number]) * 32,
        parties=(
            Party(
                role="consignee",
                kind=PartyKind.ORGANISATION,
                name="Hansa Beispiel GmbH",
                city="Hamburg",
                country="DE",
                source_path="/IE3F20/consignee",
            ),
            Party(
                role="consignor",
                kind=PartyKind.ORGANISATION,
                name="Example Trading Co. Ltd",
                city="Shanghai",
                country="CN",
                source_path="/IE3F20/consignor",
            ),
        ),
    )


def sought(number: int, kind: IdentifierType, value: str, category: str = "sis.38.g") -> Record:
    """An alert as N.SIS has it."""
    ref = f"DE{number:06d}.0001"
    return Record(
        source=SourceSystem.SIS,
        source_ref=ref,
        category=category,
        identifiers=(Identifier(kind, value, "$.object.number"),),
        fields={
            Field.OBJECT_TYPE: ("container",),
            Field.OBJECT_IDENTIFIERS: (value,),
            Field.ACTION: ("seize or use as evidence",),
            Field.SCHENGEN_ID: (ref,),
            Field.ISSUING_STATE: ("DE",),
            Field.SIRENE_CONTACT: ("sirene@example.org",),
            Field.ALERT_REASON: ("a reason that is never disclosed",),
        },
        message_digest=bytes([100 + number]) * 32,
    )


def reported(number: int, box: str) -> Record:
    """A message of the police about a container."""
    return Record(
        source=SourceSystem.SIENA,
        source_ref=f"SIENA-2026-{number:04d}",
        category="siena.container",
        identifiers=(Identifier(IdentifierType.CONTAINER, box, "$.entities[0].container_number"),),
        fields={Field.REFERENCE: (f"SIENA-2026-{number:04d}",)},
        message_digest=bytes([200 + number]) * 32,
    )


class Stage:
    """Customs and N.SIS at work, and the police beside them if somebody wants access by case."""

    def __init__(self, root: Path, *, people: int = 1, shared: int = 6, police: bool = False) -> None:
        self.root = root
        self.police = make_desk(root, "police", "police", people=people) if police else None
        self.customs = make_desk(root, "ics2", "ics2", people=people)
        self.sis = make_desk(root, "sis", "sis", people=people)
        for desk in self.desks:
            add_people(desk)
        for desk in self.desks[1:]:
            live.introduce(self.customs.directory, desk.directory)
            live.introduce(desk.directory, self.customs.directory)
        self._shared = shared

    @property
    def desks(self) -> list[Desk]:
        return [desk for desk in (self.customs, self.sis, self.police) if desk is not None]

    def fill(self) -> None:
        """Register what both know, and wait until customs has its matches."""
        boxes = [*BOXES[: self._shared]]
        with self.sis.client(Role.SYSTEM) as client:
            client.register([sought(n, IdentifierType.CONTAINER, box) for n, box in enumerate(boxes, 1)])
        if self.police is not None:
            with self.police.client(Role.SYSTEM) as client:
                client.register([reported(1, boxes[0])])
        with self.customs.client(Role.SYSTEM) as client:
            client.register([declared(n, IdentifierType.CONTAINER, box) for n, box in enumerate(boxes, 1)])
        self.until("matches", lambda: len(self.matches()) >= len(boxes))

    def matches(self, desk: Desk | None = None) -> list[dict[str, object]]:
        with (desk or self.customs).client(Role.OFFICER) as client:
            return list(client.matches())

    def until(self, what: str, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not done():
            assert time.monotonic() < deadline, f"waited too long for {what}"
            time.sleep(0.2)

    @contextlib.contextmanager
    def served(self) -> Iterator[Stage]:
        with live.serving(*(desk.directory for desk in self.desks)):
            self.fill()
            yield self
