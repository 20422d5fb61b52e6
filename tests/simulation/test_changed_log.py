"""What a node answers once somebody changed its log beside it; and what it asks with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from connector_psi.domain.records import IdentifierType
from connector_psi.errors import ProofInvalidError, PurposeRefusedError
from connector_psi.storage.schema import log_checkpoints, log_leaves
from tests.simulation.federation import Federation, alert, declaration

BOX = (IdentifierType.CONTAINER, "CSQU3054383")


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    made = Federation(tmp_path)
    yield made
    made.close()


def test_a_leaf_that_was_changed_is_neither_shown_nor_proven(federation: Federation) -> None:
    sis = federation.services["sis"]
    federation.settle()
    (leaf,) = sis.oversight.leaves(0, 1)
    with sis.node.store.write() as tx:
        tx.execute(sa.update(log_leaves).where(log_leaves.c.idx == 0).values(leaf=leaf.replace(b"20", b"21", 1)))
    with pytest.raises(ProofInvalidError):
        sis.oversight.leaves(0, 1)
    with pytest.raises(ProofInvalidError):
        sis.oversight.prove_inclusion(0, 1)
    with pytest.raises(ProofInvalidError):
        sis.node.leaf_proof(0, sis.node.agreements()[0].agreement)


def test_a_damaged_checkpoint_is_a_failed_verification(federation: Federation) -> None:
    sis = federation.services["sis"]
    federation.settle()
    with sis.node.store.write() as tx:
        tx.execute(sa.update(log_checkpoints).values(note=bytes(100)))
    federation.close("sis")
    with pytest.raises(ProofInvalidError):
        federation.open("sis")


def test_a_set_is_published_by_agreement_or_by_template_and_by_its_owner_alone(federation: Federation) -> None:
    sis, ics2 = federation.services["sis"], federation.services["ics2"]
    for code in ("SIS-OBJ", "SIS-OBJ:ics2-sis"):
        assert [p.agreement for p in sis.publish([code])] == ["SIS-OBJ:ics2-sis"]
    for service, code in ((sis, "EUR-XCHK"), (ics2, "SIS-OBJ"), (sis, "SIS-OBJ:other-sis")):
        with pytest.raises(PurposeRefusedError):
            service.publish([code])


def test_a_node_asks_with_its_own_records_and_not_with_copies_of_others(federation: Federation) -> None:
    sis, ics2 = federation.services["sis"], federation.services["ics2"]
    sis.registration.register([alert("DE1", BOX)], "test")
    ics2.registration.register([alert("COPY", BOX)], "test")
    federation.settle()
    assert ics2.review.list() == []
    assert federation.queries == []
    assert ics2.querying.pending("SIS-OBJ:ics2-sis") == 0
    ics2.registration.register([declaration("M1", BOX)], "test")
    federation.settle()
    assert [m.payload["record_ref"] for m in ics2.review.list()] == ["M1"]
