"""The owner's side: checking and answering a query, and turning tokens into the rows of a set. No I/O.

Not handled here: identity, capacity, logging (``node.evaluation``), files and manifests (``node.publishing``,
``encoding``).
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from connector_psi.domain.clock import RandomSource
from connector_psi.domain.records import TokenClass
from connector_psi.encoding import tickets
from connector_psi.errors import ProtocolError
from connector_psi.oprf import suite
from connector_psi.oprf.hashing import OUTPUT_BYTES
from connector_psi.oprf.suite import BlindedElements, EvaluatedElements
from connector_psi.protocol import messages
from connector_psi.protocol.tokens import Token


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
    tokens: tuple[Token, ...] = field(repr=False)
    """No two of one value and part."""


@dataclass(frozen=True, slots=True)
class EncodedRows:
    """Rows of a set before padding, and columns about them in the same order."""

    lookups: bytes
    rows: bytes
    tags: bytes
    """8 bytes a row, as ``tickets.ticket_tags`` gives them."""
    records: tuple[int, ...]
    """Number of the record of each row."""

    @property
    def count(self) -> int:
        """Return the number of rows."""
        return len(self.records)


@dataclass(frozen=True, slots=True)
class _Columns:
    """What the tickets of a batch of records say, one entry a token, before they are sealed."""

    owners: list[int]
    """Position of the record that holds the token, within the batch."""
    tokens: list[bytes] = field(repr=False)
    classes: bytes
    families: bytes
    shapes: bytes
    parts: bytes
    record_numbers: list[int]
    categories: bytes

    @classmethod
    def of(cls, items: Sequence[EncodeItem], entries: Sequence[tuple[int, Token]]) -> _Columns:
        return cls(
            owners=[position for position, _ in entries],
            tokens=[token.value for _, token in entries],
            classes=bytes(token.token_class for _, token in entries),
            families=bytes(token.family for _, token in entries),
            shapes=bytes(token.shape for _, token in entries),
            parts=bytes(token.part for _, token in entries),
            record_numbers=[item.record_number for item in items],
            categories=bytes(item.category_number for item in items),
        )


@dataclass(frozen=True, slots=True)
class _Evaluated:
    """A batch of records between PRF and rows; classes one after the other."""

    columns: _Columns
    outputs: bytes = field(repr=False)
    derived: bytes = field(repr=False)
    """What is derived of each output for the first record that holds it, as ``messages.derive_lookups`` gives it."""


class SetEncoder:
    """Turns records into sealed rows, batch by batch, keeping the count of every token seen.

    Args:
        agreement: Code of the agreement.
        epoch: The epoch.
        keys: Of each class.
        k_ticket: 32 bytes.
        k_redeem: 32 bytes.
        random: Source of nonces.
        published: How many rows of a PRF output the epoch has had before; none by default.
    """

    def __init__(
        self,
        agreement: str,
        epoch: int,
        keys: Mapping[TokenClass, suite.KeyPair],
        k_ticket: bytes,
        k_redeem: bytes,
        random: RandomSource,
        published: Callable[[bytes], int] = lambda _output: 0,
    ) -> None:
        self._published = published
        self._agreement = agreement
        self._epoch = epoch
        self._keys = keys
        self._k_ticket = k_ticket
        self._k_redeem = k_redeem
        self._random = random
        # j of the next row of each token: no lookup repeats within an epoch. Keyed by the PRF output, never by the
        # token.
        self._next_j: dict[bytes, int] = {}

    def encode(self, batches: Iterable[Sequence[EncodeItem]]) -> Iterator[EncodedRows]:
        """Evaluate the tokens of batches of records and seal their rows.

        The PRF of one batch, which needs no interpreter, runs while the batch before is sealed and the next one is
        read.

        Returns:
            The rows of each batch, in order.

        Cost: one PRF evaluation a token (docs/kernel.md), and about as much again for its row.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="encode") as pool:
            running: Future[_Evaluated] | None = None
            for items in batches:
                following = pool.submit(self._evaluate, items)
                if running is not None:
                    yield self._seal(running.result())
                running = following
            if running is not None:
                yield self._seal(running.result())

    def _counts(self, outputs: bytes) -> list[int]:
        """Return ``j`` of the row of each output, and count it."""
        counts = []
        for start in range(0, len(outputs), OUTPUT_BYTES):
            y = outputs[start : start + OUTPUT_BYTES]
            j = self._next_j.get(y)
            if j is None:
                j = self._published(y)
            self._next_j[y] = j + 1
            counts.append(j)
        return counts

    def tags(self, item: EncodeItem) -> list[tuple[Token, bytes]]:
        """Return the tokens of a record that the set covers, with the tag that the row of each would have."""
        own = [token for token in item.tokens if token.token_class in self._keys]
        if not own:
            return []
        packed = tickets.ticket_tags(self._plaintexts(_Columns.of([item], [(0, token) for token in own])))
        return [(token, packed[8 * at : 8 * at + 8]) for at, token in enumerate(own)]

    def _evaluate(self, items: Sequence[EncodeItem]) -> _Evaluated:
        by_class: dict[TokenClass, list[tuple[int, Token]]] = {c: [] for c in self._keys}
        for position, item in enumerate(items):
            for token in item.tokens:
                if token.token_class in by_class:
                    by_class[token.token_class].append((position, token))
        entries = [entry for own in by_class.values() for entry in own]
        evaluated = [
            suite.evaluate_and_derive(
                self._keys[token_class].secret, [token.value for _, token in own], messages.DERIVE
            )
            for token_class, own in by_class.items()
            if own
        ]
        outputs, derived = (b"".join(parts) for parts in zip(*evaluated, strict=True)) if evaluated else (b"", b"")
        return _Evaluated(_Columns.of(items, entries), outputs, derived)

    def _plaintexts(self, columns: _Columns) -> bytes:
        own_ids = tickets.make_ticket_ids(self._k_ticket, columns.record_numbers)
        ticket_ids = b"".join([own_ids[16 * position : 16 * position + 16] for position in columns.owners])
        return tickets.pack_tickets(
            ticket_ids,
            columns.classes,
            bytes([columns.categories[position] for position in columns.owners]),
            columns.families,
            columns.shapes,
            columns.parts,
            tickets.make_redeems(self._k_redeem, ticket_ids, columns.tokens),
        )

    def _seal(self, batch: _Evaluated) -> EncodedRows:
        columns = batch.columns
        derived = np.frombuffer(batch.derived, dtype=np.uint8).reshape(-1, OUTPUT_BYTES)
        repeated = [(at, j) for at, j in enumerate(self._counts(batch.outputs)) if j]
        if repeated:
            places = [at for at, _ in repeated]
            outputs = np.frombuffer(batch.outputs, dtype=np.uint8).reshape(-1, OUTPUT_BYTES)[places]
            again = messages.derive_lookups(outputs.tobytes(), [j for _, j in repeated])
            derived = derived.copy()
            derived[places] = np.frombuffer(again, dtype=np.uint8).reshape(-1, OUTPUT_BYTES)
        packed, ticket_keys = derived[:, :16].tobytes(), derived[:, 16:48].tobytes()
        plaintexts = self._plaintexts(columns)
        rows = tickets.seal_rows(self._agreement, self._epoch, packed, ticket_keys, plaintexts, self._random)
        numbers = tuple(columns.record_numbers[position] for position in columns.owners)
        return EncodedRows(packed, rows, tickets.ticket_tags(plaintexts), numbers)


def count_published(output: bytes, had: Callable[[bytes], bool]) -> int:
    """Return how many rows of a PRF output an epoch has had: their lookups are the first ones, without a gap.

    Args:
        output: 64 bytes.
        had: Whether the epoch ever had a lookup.

    Cost: ``had`` is asked twice the binary logarithm of the answer.
    """
    low, high = 0, 1
    while had(messages.derive_lookup(output, high - 1)[0]):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if had(messages.derive_lookup(output, middle - 1)[0]):
            low = middle
        else:
            high = middle
    return low


def claimed_tokens(
    k_redeem: bytes, ticket_id: bytes, redeem_codes: bytes, tokens: Sequence[Token]
) -> tuple[Token, ...]:
    """Return the tokens that a querier proves to hold, recomputed from the stored record.

    A code covers every party of the record that has its token: two of one name have one token.

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
    values = list(dict.fromkeys(token.value for token in tokens))
    packed = tickets.make_redeems(k_redeem, ticket_id * len(values), values)
    codes = {value: packed[8 * at : 8 * at + 8] for at, value in enumerate(values)}
    found = tuple(token for token in tokens if codes[token.value] in claimed)
    if len({codes[token.value] for token in found}) != len(claimed):
        raise ProtocolError("a redeem code belongs to no token of the record")
    return found
