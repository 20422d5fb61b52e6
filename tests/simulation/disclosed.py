"""What tests of oversight begin with: customs asked N.SIS about a sought object and was told; and, where it is wanted, N.SIS asked customs
without its notice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa

from connector_psi.audit.entries import Event, parse_leaf
from connector_psi.domain.records import IdentifierType
from connector_psi.node.service import Service
from connector_psi.pki import Role
from connector_psi.storage import cases, schema
from tests.simulation.casework import ask_about_sought
from tests.simulation.federation import Federation, alert, declaration, person

BOX = (IdentifierType.CONTAINER, "CSQU3054383")
OTHER = (IdentifierType.CONTAINER, "TGHU1234567")
OBJ, CHK = "SIS-OBJ:ics2-sis", "SIS-CHK:sis-ics2"
NAME = "p1"


def of(code: str, role: Role = Role.DPO) -> Any:
    return person(code, role, NAME)


def after_a_disclosure(root: Path, kind: type[Federation] = Federation) -> tuple[Federation, bytes]:
    """Customs and N.SIS after a disclosure; all of it signed."""
    made = kind(root)
    made.services["ics2"].registration.register([declaration("M1", BOX)], "test")
    made.services["sis"].registration.register([alert("DE1", BOX)], "test")
    made.settle()
    case = ask_about_sought(made)
    made.settle()
    made.services["sis"].received.decide(case, person("sis"), "the sought box", approve=True)
    made.settle(rounds=10, step_s=5)
    return made, case


def after_a_silent_case(root: Path) -> tuple[Federation, bytes]:
    """N.SIS asked customs under an agreement of which customs gets no notice; covers among it."""
    made = Federation(root)
    made.services["ics2"].registration.register([declaration("M1", BOX)], "test")
    made.services["sis"].registration.register([alert("DE36", BOX, category="sis.36")], "test")
    made.settle(2)
    sis = made.services["sis"]
    (match,) = [row for row in sis.review.list() if row.agreement == CHK]
    sis.review.decide(match.match_id, person("sis"), "the same box", confirm=True)
    row = sis.asked.open(
        match.match_id, person("sis"), purpose="cpsi:DiscreetInquiryOrSpecificCheck", legal_basis="2018/1862:36",
        case_reference="SIRENE-1", justification="it arrives this week",
    )  # fmt: skip
    made.settle(rounds=12, step_s=30)
    return made, row.request_id


def indexes(service: Service, *events: Event) -> list[int]:
    node = service.node
    with node.store.read() as tx:
        leaves = node.entries.read_leaves(tx, 0, node.entries.size(tx))
    return [index for index, raw in enumerate(leaves) if parse_leaf(raw).event in events]


def read(service: Service) -> list[dict[str, Any]]:
    """The bodies of what was read, in order."""
    node = service.node
    with node.store.read() as tx:
        return [node.log.open_body(tx, index) for index in indexes(service, Event.LOG_READ)]


def case_of(service: Service, side: str, peer: str, request_id: bytes) -> cases.CaseRow:
    with service.node.store.read() as tx:
        row = cases.get_case(service.node.store, tx, side, peer, request_id)
    assert row is not None
    return row


def put_case(service: Service, row: cases.CaseRow) -> None:
    with service.node.store.write() as tx:
        cases.update_case(service.node.store, tx, row)


def change(service: Service, table: sa.Table, where: Any, **values: Any) -> None:
    """Change a table beside the program."""
    with service.node.store.write() as tx:
        done = tx.execute(sa.update(table).where(where).values(**values))
        assert done.rowcount == 1


def leaf_at(service: Service, index: int) -> bytes:
    with service.node.store.read() as tx:
        return bytes(
            tx.execute(sa.select(schema.log_leaves.c.leaf).where(schema.log_leaves.c.idx == index)).scalar_one()
        )
