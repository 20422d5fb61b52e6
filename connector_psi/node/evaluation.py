"""The owner answers queries: authorise, debit, log, evaluate, prove; one transaction before any element is touched.

In ``case`` mode the grant is debited in that transaction too, besides the capacity of the class.

The same request again returns the same bytes and debits nothing; another body under its id is refused. Elements are
recomputed, the proof (whose nonce is random) is kept.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict

from connector_psi import policy
from connector_psi.audit.entries import Event
from connector_psi.domain.purposes import Mode
from connector_psi.domain.records import TokenClass
from connector_psi.errors import KeyUnavailableError, PurposeRefusedError
from connector_psi.node.node import OWNER, Bound, Node
from connector_psi.node.publishing import is_of_policy
from connector_psi.oprf import suite
from connector_psi.protocol import owner
from connector_psi.protocol.owner import Query
from connector_psi.storage import accesses, owned

_KEYS_HELD = 64
_NO_GRANT = "no grant"
"""Whatever is wrong with a grant: unknown, another peer's, another agreement's, over, used up, or not wanted at all."""


class Evaluation:
    """The use case behind ``Evaluate``."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._keys: OrderedDict[tuple[str, int], dict[TokenClass, suite.KeyPair]] = OrderedDict()
        self._lock = threading.Lock()

    def evaluate(self, query: Query) -> tuple[bytes, bytes]:
        """Return ``(evaluated elements, proof)``, n x 32 and 64 bytes.

        Raises:
            PurposeRefusedError: The peer is not the querier, the class is not covered, or there is no grant in ``case``
                mode, which holds so many elements and is not over, or an ``access_id`` in ``bulk`` mode.
            CapacityExceededError: The capacity of the class is used up.
            ConflictError: Another body came under this id.
            KeyUnavailableError: The epoch is not, or no longer, in force.
            InvalidElementError: An element is not canonical; the query is debited all the same.
        """
        node = self._node
        bound = node.bound(query.agreement, OWNER, query.querier)
        if query.token_class not in bound.agreement.classes:
            raise PurposeRefusedError("the class is not covered")
        if (bound.agreement.mode is Mode.CASE) is not bool(query.access_id):
            raise PurposeRefusedError(_NO_GRANT)
        keys = self._class_keys(bound, query.epoch)[query.token_class]
        capacity = policy.capacity_for(bound.agreement, query.token_class)
        request_hash = hashlib.sha256(
            query.batch_commitment + query.source_commitment + query.actor_commitment + query.access_id
        ).digest()
        with node.store.write() as tx:
            said = {"operation": "evaluation", "peer": query.querier}
            if query.access_id:
                # Before anything else, and for a request that comes again too: a grant that is over answers nothing.
                granted = accesses.granted(tx, query.querier, query.agreement, query.access_id, node.now_ms())
                if granted is None:
                    raise PurposeRefusedError(_NO_GRANT)
                said["access"] = granted.hex()
            if owned.claim_request(tx, query.querier, query.request_id, query.agreement, query.epoch, request_hash):
                if query.access_id and not accesses.debit(
                    tx, query.querier, query.agreement, query.access_id, node.now_ms(), query.n_padded
                ):
                    raise PurposeRefusedError(_NO_GRANT)
                day = f"{node.clock.now():%Y-%m-%d}"
                owned.debit(
                    tx,
                    query.agreement,
                    int(query.token_class),
                    day,
                    query.n_padded,
                    capacity.per_day,
                    capacity.per_year,
                )
                node.append(
                    tx,
                    Event.CONSULT,
                    said,
                    bound,
                    epoch=query.epoch,
                    token_class=query.token_class.label,
                    request_id=query.request_id,
                    purpose=bound.agreement.purpose.value,
                    n_padded=query.n_padded,
                    batch_commitment=query.batch_commitment,
                    source_commitment=query.source_commitment,
                    actor_commitment=query.actor_commitment,
                )
        evaluated = owner.evaluate(keys, query.blinded_elements)
        with node.store.read() as tx:
            proof = owned.get_proof(tx, query.querier, query.request_id)
        if proof is None:
            fresh = owner.prove(keys, query.blinded_elements, evaluated, node.random.bytes)
            with node.store.write() as tx:
                proof = owned.keep_proof(tx, query.querier, query.request_id, fresh)
        return evaluated, proof

    def forget(self, code: str, epoch: int) -> None:
        """Drop the keys of an epoch that has ended."""
        with self._lock:
            self._keys.pop((code, epoch), None)

    def _class_keys(self, bound: Bound, epoch: int) -> dict[TokenClass, suite.KeyPair]:
        """Keys of an epoch that is in force now, from the seed; held in memory while it is."""
        node, code = self._node, bound.code
        with node.store.read() as tx:
            row = owned.get_epoch(tx, code, epoch)
        if (
            row is None
            or row.wrapped_seed is None
            or row.state not in {owned.PUBLISHED, owned.SUPERSEDED}
            or (row.not_after_ms or 0) <= node.now_ms()
            or not is_of_policy(row, bound)
        ):
            self.forget(code, epoch)
            raise KeyUnavailableError("the epoch is not in force")
        with self._lock:
            held = self._keys.get((code, epoch))
            if held is not None:
                self._keys.move_to_end((code, epoch))
                return held
        seed = node.keyring.epoch_seed(code, epoch, row.wrapped_seed)
        made = owner.derive_class_keys(bytes(seed), code, epoch, bound.agreement.classes)
        with self._lock:
            self._keys[code, epoch] = made
            while len(self._keys) > _KEYS_HELD:
                self._keys.popitem(last=False)
        return made
