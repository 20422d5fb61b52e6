"""The querier's side of a batch, as a state machine without I/O.

``Batch`` holds what must survive a crash: the seed and the tokens (they stand in the sealed body of the CONSULT leaf).
From
them ``prepare`` derives blinds, padding and order, always the same bytes; ``Prepared.finish`` checks the owner's proof
and returns the PRF outputs. ``SetView.probe`` then looks the outputs up.

Not handled here: storage, logging, transport (``node.querying``), judging (``policy``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from connector_psi.domain.records import TokenClass
from connector_psi.encoding.bloom import Filter
from connector_psi.encoding.deltas import Delta
from connector_psi.encoding.tickets import ROW_BYTES, Ticket, TicketFile, open_row
from connector_psi.errors import ProtocolError
from connector_psi.oprf import suite
from connector_psi.oprf.backends import default_group
from connector_psi.oprf.suite import BlindedElements, EvaluatedElements
from connector_psi.protocol import messages

_BLIND = b"connector-psi/v1 blind"
_PAD = b"connector-psi/v1 pad"
_SHUFFLE = b"connector-psi/v1 shuffle"
_SALT = b"connector-psi/v1 source salt"

MAX_EQUAL_TOKENS = 1 << 20
"""No token is probed further: an owner that publishes more rows for one token is refused."""


def _expand(label: bytes, seed: bytes, request_id: bytes, count: int) -> bytes:
    """Return ``SHA-512(label || seed || request_id || uint32(i))`` for each ``i`` below ``count``, 64 bytes each."""
    counters = np.arange(count, dtype=">u4").tobytes()
    return default_group().sha512_each(label + seed + request_id, counters, 4, b"")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch ready to be sent."""

    blinded_elements: BlindedElements
    commitment: bytes
    _blinds: bytes = field(repr=False)
    _positions: npt.NDArray[np.intp] = field(repr=False, compare=False)
    _tokens: tuple[bytes, ...] = field(repr=False)

    def finish(self, public_key: bytes, evaluated: EvaluatedElements, proof: bytes) -> list[bytes]:
        """Check the proof and return the PRF output of each token, 64 bytes each, in token order.

        Args:
            public_key: Of the agreement, epoch and class, from the verified manifest.
            evaluated: The owner's answer, n x 32 bytes.
            proof: 64 bytes.

        Raises:
            ProofError: The proof does not verify.
            InvalidElementError: An element is not canonical or is the identity.
            ProtocolError: The answer has another length than the batch.
        """
        if len(evaluated) != len(self.blinded_elements):
            raise ProtocolError("the answer has another length than the batch")
        suite.verify_proof(public_key, self.blinded_elements, evaluated, proof)
        own = _rows(evaluated, 32)[self._positions].tobytes()
        outputs = suite.finalize(self._tokens, self._blinds, EvaluatedElements(own))
        return [outputs[i : i + 64] for i in range(0, len(outputs), 64)]


@dataclass(frozen=True, slots=True)
class Batch:
    """One padded query of one class."""

    querier: str
    agreement: str
    epoch: int
    token_class: TokenClass
    request_id: bytes
    seed: bytes = field(repr=False)
    tokens: tuple[bytes, ...] = field(repr=False)

    @property
    def n_padded(self) -> int:
        """Elements on the wire."""
        return messages.padded_batch_size(len(self.tokens))

    def prepare(self) -> Prepared:
        """Blind, pad and shuffle; deterministic in the batch, so that a crash resends identical bytes.

        Cost: two group operations a token, one a padding element.
        """
        n, n_padded = len(self.tokens), self.n_padded
        group = default_group()
        blinds = group.scalar_reduce(_expand(_BLIND, self.seed, self.request_id, n))
        blinded = suite.blind(self.tokens, blinds)
        # A padding element is a uniform group element, which is what a blinded token is to the owner.
        padding = group.hash_to_group(_expand(_PAD, self.seed, self.request_id, n_padded - n))
        keys = _expand(_SHUFFLE, self.seed, self.request_id, n_padded)
        # Big-endian words order like the bytes do; lexsort takes the last of them for the most significant.
        order = np.lexsort(np.frombuffer(keys, dtype=">u8").reshape(n_padded, 8).T[::-1])
        shuffled = BlindedElements(_rows(blinded + padding, 32)[order].tobytes())
        position_of = np.empty(n_padded, dtype=np.intp)
        position_of[order] = np.arange(n_padded)
        commitment = messages.batch_commitment(
            self.querier, self.agreement, self.epoch, self.token_class.label, self.request_id, shuffled
        )
        return Prepared(shuffled, commitment, blinds, position_of[:n], self.tokens)

    def source_salts(self, count: int) -> list[bytes]:
        """Return the salts of the messages behind this batch, 32 bytes each."""
        salts = _expand(_SALT, self.seed, self.request_id, count)
        return [salts[at : at + 32] for at in range(0, len(salts), 64)]


@dataclass(frozen=True, slots=True)
class Probed:
    """What the owner ever published of a token in this epoch."""

    published: int
    """So many lookups, from j = 0 on; removed ones count."""
    next_lookup: bytes = field(repr=False)
    """The first that it never published: a row that comes later stands there."""
    opened: tuple[Ticket, ...]
    """Of the rows that are there now."""


class SetView:
    """A mapped set of one agreement and epoch with its deltas, ready for look-ups."""

    def __init__(self, agreement: str, epoch: int, filter_: Filter, tickets: TicketFile) -> None:
        self._agreement = agreement
        self._epoch = epoch
        self._filter = filter_
        self._tickets = tickets
        self._added: dict[bytes, bytes] = {}
        self._removed: set[bytes] = set()

    def apply(self, delta: Delta) -> None:
        """Take a delta into account.

        Raises:
            ProtocolError: It adds a lookup that the epoch had before, or removes one that is not there.
        """
        lookups, removed = delta.row_lookups(), delta.removed_lookups()
        if any(self._had(lookups)) or not all(self._had(removed)) or not self._removed.isdisjoint(removed):
            raise ProtocolError("a delta repeats a lookup, or removes one that is not there")
        self._added.update(
            (lookup, delta.rows[at * ROW_BYTES : (at + 1) * ROW_BYTES]) for at, lookup in enumerate(lookups)
        )
        self._removed.update(removed)

    def _had(self, lookups: Sequence[bytes]) -> list[bool]:
        """Whether each lookup was published in this epoch, by the set or a delta."""
        hits = self._filter.contains(b"".join(lookups)).tolist()
        return [
            lookup in self._added or (hit and self._tickets.find(lookup) is not None)
            for lookup, hit in zip(lookups, hits, strict=True)
        ]

    def probe(self, outputs: Sequence[bytes]) -> list[Probed]:
        """Look PRF outputs up: what each opens, and where a later row of it will stand, in order.

        Each round probes one ``j`` for the tokens still running: filter and deltas first, then the rows. A token stops
        at its first lookup that was never published; a false positive of the filter has no row and stops it too.

        Raises:
            ProtocolError: A row does not open under the key that its lookup implies, or the owner published more than a
                million rows for one token.
        """
        found: list[Probed | None] = [None] * len(outputs)
        opened: dict[int, list[Ticket]] = {}
        running = list(range(len(outputs)))
        j = 0
        while running:
            if j >= MAX_EQUAL_TOKENS:
                raise ProtocolError("too many rows for one token")
            derived = messages.derive_lookups(b"".join([outputs[i] for i in running]), [j] * len(running))
            hits = self._filter.contains(_rows(derived, 64)[:, :16].tobytes()).tolist()
            following = []
            for at, (i, hit) in enumerate(zip(running, hits, strict=True)):
                lookup = derived[64 * at : 64 * at + 16]
                row = self._added.get(lookup)
                if row is None and hit:
                    row = self._tickets.find(lookup)
                if row is None:
                    found[i] = Probed(j, lookup, tuple(opened.get(i, ())))
                    continue
                if lookup not in self._removed:
                    key = derived[64 * at + 16 : 64 * at + 48]
                    opened.setdefault(i, []).append(open_row(self._agreement, self._epoch, row, key))
                following.append(i)
            running = following
            j += 1
        return [probed for probed in found if probed is not None]


def _rows(packed: bytes, width: int) -> npt.NDArray[np.uint8]:
    return np.frombuffer(packed, dtype=np.uint8).reshape(-1, width)


def plan_sizes(count: int) -> list[int]:
    """Split ``count`` tokens into batch lengths, largest first, so that little is wasted on padding.

    Full batches of 4,096 and 1,024, then one padded remainder.
    """
    sizes: list[int] = []
    for size in (4096, 1024):
        full, count = divmod(count, size)
        sizes += [size] * full
    if count:
        sizes.append(count)
    return sizes
