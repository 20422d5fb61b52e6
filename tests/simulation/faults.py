"""Faults that tests of several kinds need, and a query that any of them may send."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from connector_psi.domain.records import TokenClass
from connector_psi.node.service import Service
from connector_psi.protocol.owner import Query
from connector_psi.protocol.querier import Batch

AGREEMENT = "SIS-OBJ:ics2-sis"
PURPOSE = {"purpose": "cpsi:ObjectSeizureOrEvidence", "legal_basis": "2018/1862:38"}


def make_query(number: int) -> Query:
    """The ``number``-th query that ``ics2`` could send for the first epoch: valid, and like no other."""
    batch = Batch(
        querier="ics2",
        agreement=AGREEMENT,
        epoch=1,
        token_class=TokenClass.OBJECT,
        request_id=hashlib.sha256(b"request %d" % number).digest()[:16],
        seed=hashlib.sha256(b"seed %d" % number).digest(),
        tokens=(b"token %d" % number,),
    )
    prepared = batch.prepare()
    return Query(
        querier=batch.querier,
        agreement=batch.agreement,
        epoch=batch.epoch,
        token_class=batch.token_class,
        request_id=batch.request_id,
        batch_commitment=prepared.commitment,
        source_commitment=bytes(32),
        actor_commitment=bytes(32),
        access_id=b"",
        blinded_elements=prepared.blinded_elements,
    )


@contextmanager
def unwritable(service: Service, pragma: str, undo: str) -> Iterator[None]:
    """The database refuses writes, by its own means, on every connection."""
    engine = service.node.store._engine
    broken = True

    def set_pragma(connection: Any, _record: object, _proxy: object) -> None:
        connection.execute(pragma if broken else undo).close()

    sa.event.listen(engine, "checkout", set_pragma)
    try:
        yield
    finally:
        broken = False


READ_ONLY = ("PRAGMA query_only=ON", "PRAGMA query_only=OFF")
FULL = ("PRAGMA max_page_count=1", f"PRAGMA max_page_count={1 << 30}")
