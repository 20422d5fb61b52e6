"""What an outcome disclosed of which record, noted in its transaction, so that a change of the record is noticed.

Decides: what of it has to be compared later: keyed hashes of the fields and of the tokens of the match. Leaves to
others: what a change means (``recalling``), how a record leads here (``storage.recalls``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from connector_psi.disclosure import Envelope, Outcome
from connector_psi.domain.records import Field
from connector_psi.node.node import Bound, Node, millis
from connector_psi.storage import recalls as store
from connector_psi.storage.cases import CaseRow
from connector_psi.storage.store import Tx

if TYPE_CHECKING:
    from connector_psi.node.received import Claim

MAX_TOKENS = 100
"""Of a match that a release remembers; any of them still says whether the match holds."""
_MAC_BYTES = 16


def note_release(
    node: Node, tx: Tx, bound: Bound, row: CaseRow, envelope: Envelope, claim: Claim | None, salt: bytes
) -> None:
    """Remember what an outcome disclosed, for as long as its recipient may keep it.

    Args:
        node: The owner.
        tx: Transaction of the outcome.
        bound: The agreement.
        row: The case.
        envelope: The outcome.
        claim: The record behind it.
        salt: 32 random bytes of the outcome; what stands for a record where there is none is drawn from them.
    """
    given = claim is not None and envelope.outcome is Outcome.DISCLOSED
    if not given and not row.quiet:
        return
    record_id, payload = -1, _compared(node, {}, ())
    if given:
        assert claim is not None
        record_id = claim.record_id
        tokens = list(dict.fromkeys(token.value for token in claim.tokens))
        payload = _compared(node, envelope.fields, tokens[:MAX_TOKENS])
    store.put_release(
        node.store,
        tx,
        agreement=bound.code,
        peer=row.peer,
        request_id=row.request_id,
        until_ms=millis(envelope.erase_after),
        record_id=record_id,
        payload=payload,
        quiet=row.quiet,
        cover_index=node.store.mac(b"cover" + salt),
    )


def _compared(node: Node, fields: Mapping[Field, tuple[str, ...]], tokens: Iterable[bytes]) -> dict[str, Any]:
    return {
        "fields": {name.value: field_mac(node, *values) for name, values in fields.items()},
        "tokens": [token_mac(node, token) for token in tokens],
        "recalled": False,
    }


def field_mac(node: Node, *values: str) -> str:
    """Return what stands for the values of a field: a keyed hash, so that it is compared and not kept."""
    return node.store.index_of("released", *values)[:_MAC_BYTES].hex()


def token_mac(node: Node, token: bytes) -> str:
    """Return what stands for a token of a match."""
    return node.store.mac(b"released" + token)[:_MAC_BYTES].hex()
