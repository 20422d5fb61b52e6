"""The owner's side: checking and answering a query, and turning tokens into the rows of a set. No I/O.

Not handled here: identity, capacity, logging (``node.evaluation``), files and manifests (``node.publishing``,
``encoding``).
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from connector_psi.domain.clock import RandomSource
from connector_psi.domain.records import IDENTIFIER_TABLE, IdentifierType, TokenClass
from connector_psi.encoding import tickets
from connector_psi.errors import ProtocolError
from connector_psi.oprf import suite
from connector_psi.oprf.suite import BlindedElements, EvaluatedElements
from connector_psi.protocol import messages


@dataclass(frozen=True, slots=True)
class Query:
    """An Evaluate request after its fields were checked for length."""

    querier: str
    agreement: str
    epoch: int
    token_class: TokenClass
    request_id: bytes
    batch_commitment: bytes
    source_commitment: bytes
    actor_commitment: bytes
    access_id: bytes
    blinded_elements: BlindedElements

    def __post_init__(self) -> None:
        """Refuse wrong lengths, sizes off the ladder and a commitment that does not match.

        Raises:
            ProtocolError: One constant reason for all of them.
        """
        n, rest = divmod(len(self.blinded_elements), 32)
        lengths_ok = (
            rest == 0
            and n in messages.BATCH_SIZES
            and len(self.request_id) == messages.REQUEST_ID_BYTES
            and len(self.batch_commitment) == len(self.source_commitment) == len(self.actor_commitment) == 32
            and len(self.access_id) in {0, 16}
        )
        if not lengths_ok:
            raise ProtocolError("a query has a field of wrong length")
        expected = messages.batch_commitment(
            self.querier, self.agreement, self.epoch, self.token_class.label, self.request_id, self.blinded_elements
        )
        if not hmac.compare_digest(expected, self.batch_commitment):
            raise ProtocolError("a batch commitment does not match its batch")

    @property
    def n_padded(self) -> int:
        """Elements in the query, which is what capacity is debited by."""
        return len(self.blinded_elements) // 32


def derive_class_keys(
    seed: bytes, agreement: str, epoch: int, classes: Sequence[TokenClass]
) -> dict[TokenClass, suite.KeyPair]:
    """Return the PRF key pair of each class of an epoch."""
    return {c: suite.derive_key_pair(seed, messages.key_info(agreement, epoch, c.label)) for c in classes}


def evaluate(keys: suite.KeyPair, blinded: BlindedElements) -> EvaluatedElements:
    """Evaluate a batch.

    Raises:
        InvalidElementError: Some element is not canonical or is the identity.
    """
    return suite.blind_evaluate(keys.secret, blinded)


def prove(
    keys: suite.KeyPair, blinded: BlindedElements, evaluated: EvaluatedElements, random: Callable[[int], bytes]
) -> bytes:
    """Return a proof that has been verified by this side too, so that a fault never leaks a key.

    Raises:
        ProofError: The fresh proof does not verify: a fault of this machine.
    """
    proof = suite.prove(keys, blinded, evaluated, random)
    suite.verify_proof(keys.public, blinded, evaluated, proof)
    return proof


@dataclass(frozen=True, slots=True)
class EncodeItem:
    """A record as the encoder needs it."""

    record_number: int
    category_number: int
    tokens: tuple[tuple[IdentifierType, bytes], ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class EncodedRows:
    """Rows of a set before padding; ``lookups`` and ``rows`` in the same order."""

    lookups: bytes
    rows: bytes
    count: int


class SetEncoder:
    """Turns records into sealed rows, batch by batch, keeping the count of every token seen."""

    def __init__(
        self,
        agreement: str,
        epoch: int,
        keys: Mapping[TokenClass, suite.KeyPair],
        k_ticket: bytes,
        k_redeem: bytes,
        random: RandomSource,
    ) -> None:
        self._agreement = agreement
        self._epoch = epoch
        self._keys = keys
        self._k_ticket = k_ticket
        self._k_redeem = k_redeem
        self._random = random
        # j of the next row of each token: no lookup repeats within an epoch. Keyed by the PRF output, never by the
        # token.
        self._next_j: Counter[bytes] = Counter()

    def encode(self, items: Sequence[EncodeItem]) -> EncodedRows:
        """Evaluate the tokens of a batch of records and seal their rows.

        Cost: one PRF evaluation a token, about 70 us a core with libsodium; both cores are used.
        """
        ticket_ids = tickets.make_ticket_ids(self._k_ticket, [item.record_number for item in items])
        lookups: list[bytes] = []
        ticket_keys: list[bytes] = []
        sealed: list[tickets.Ticket] = []
        by_class: dict[TokenClass, list[tuple[int, IdentifierType, bytes]]] = {c: [] for c in self._keys}
        for position, item in enumerate(items):
            for identifier_type, token in item.tokens:
                rule = IDENTIFIER_TABLE[identifier_type]
                if rule.token_class in by_class:
                    by_class[rule.token_class].append((position, identifier_type, token))
        for token_class, entries in by_class.items():
            if not entries:
                continue
            outputs = suite.evaluate(self._keys[token_class].secret, [token for _, _, token in entries])
            for k, (position, identifier_type, token) in enumerate(entries):
                y = outputs[64 * k : 64 * k + 64]
                j = self._next_j[y]
                self._next_j[y] = j + 1
                lookup, ticket_key = messages.derive_lookup(y, j)
                ticket_id = ticket_ids[16 * position : 16 * position + 16]
                lookups.append(lookup)
                ticket_keys.append(ticket_key)
                sealed.append(
                    tickets.Ticket(
                        ticket_id=ticket_id,
                        token_class=int(token_class),
                        category=items[position].category_number,
                        family=IDENTIFIER_TABLE[identifier_type].family,
                        redeem=tickets.make_redeem(self._k_redeem, ticket_id, token),
                    )
                )
        packed = b"".join(lookups)
        rows = tickets.seal_rows(self._agreement, self._epoch, packed, b"".join(ticket_keys), sealed, self._random)
        return EncodedRows(packed, rows, len(sealed))


def claimed_types(
    k_redeem: bytes, ticket_id: bytes, redeem_codes: bytes, tokens: Sequence[tuple[IdentifierType, bytes]]
) -> tuple[IdentifierType, ...]:
    """Return the types of the tokens that a querier proves to hold, recomputed from the stored record.

    Args:
        k_redeem: Of the agreement and epoch.
        ticket_id: 16 bytes.
        redeem_codes: k x 8 bytes.
        tokens: The record's tokens as they stand now.

    Raises:
        ProtocolError: The codes do not have a whole length, or one belongs to no token of the record.
    """
    if not redeem_codes or len(redeem_codes) % 8:
        raise ProtocolError("redeem codes have a wrong length")
    claimed = {redeem_codes[i : i + 8] for i in range(0, len(redeem_codes), 8)}
    found: list[IdentifierType] = []
    for identifier_type, token in tokens:
        code = tickets.make_redeem(k_redeem, ticket_id, token)
        if code in claimed:
            claimed.discard(code)
            found.append(identifier_type)
    if claimed:
        raise ProtocolError("a redeem code belongs to no token of the record")
    return tuple(found)
