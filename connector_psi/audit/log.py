"""The log of one node: append, sign, prove, verify, export. No leaf, no disclosure.

Decides, in this order:

1. ``append`` writes a leaf, the tree nodes it completes and its sealed body in the *caller's* transaction, the one that
   also holds the business action. Either all of it becomes durable or nothing does.
2. ``checkpoint`` signs the tree, once that transaction is committed. It checks first that the last checkpoint stored
   and the guard, which lives outside the database, are both prefixes of the tree, advances the guard, and signs then.
   Whatever a crash cuts short, no two signatures of one log contradict each other.
3. Only then may a proof, and what it covers, leave the node. That is the caller's part.

``recover`` asks the same at start. A restored older backup, a second instance and a rewritten tree all end in
``LogForkError``, which is fatal: the node stops answering.

Who is trusted. The *backend* with keeping what it was told, checked by ``verify``; with secrecy, only as far as bodies
are sealed. The *guard* with not being restored together with the database: if it is, an older state is signed again,
and only witnesses notice. The *signer* with everything: who holds the key can fork the log, and only witnesses notice.

Not handled here: when to sign (the caller has a clock for it), one writer per log (the caller holds the lock over
``append``, ``checkpoint`` and ``recover``), witnesses, retention, who may read.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, Literal, Protocol, TypeVar

from connector_psi.audit.bodies import (
    SALT_BYTES,
    OpenedBody,
    RandomSource,
    SealedBody,
    WrappingKeys,
    commit_body,
    encode_body,
    open_body,
    seal_body,
)
from connector_psi.audit.checkpoint import (
    Checkpoint,
    NoteSigner,
    VKey,
    encode_checkpoint,
    sign_note,
    verify_checkpoint,
)
from connector_psi.audit.entries import Leaf, LeafDraft, RetentionClass, encode_leaf, erase_after, parse_leaf
from connector_psi.audit.merkle import (
    LeafHash,
    Node,
    NodeReader,
    TreeFrontier,
    append_nodes,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root,
)
from connector_psi.errors import (
    ConfigError,
    FormatError,
    InputError,
    KeyUnavailableError,
    LogForkError,
    ProofInvalidError,
    StorageError,
    UnavailableError,
)

Tx = TypeVar("Tx")
Tx_contra = TypeVar("Tx_contra", contravariant=True)

Part = Literal["tree", "body", "checkpoint", "guard"]
"""What ``Log.verify`` found something wrong with."""

MAX_FAILURES = 100
_PAGE = 512


class Clock(Protocol):
    """The current time: ``domain.clock.Clock`` by structure, for ``audit`` is free of ``domain``."""

    def now(self) -> datetime:
        """Return the current time, aware and in UTC."""
        ...


class LogBackend(Protocol[Tx_contra]):
    """Where leaves, nodes, bodies and checkpoints live. ``storage`` implements it.

    Every call takes an open transaction and sees that transaction's own writes. Nothing is durable before the
    transaction commits; when the commit returns, everything in it is on disk. A transaction that does not commit
    leaves nothing. Transactions that append to one log exclude each other.

    Any call may raise ``StorageError``; the log passes it on, and nothing is disclosed.
    """

    def size(self, tx: Tx_contra) -> int:
        """Return the number of leaves."""
        ...

    def read_node(self, tx: Tx_contra, level: int, index: int) -> bytes:
        """Return the hash of a complete subtree.

        Raises:
            ProofInvalidError: There is no such node.
        """
        ...

    def append(
        self,
        tx: Tx_contra,
        index: int,
        leaf: bytes,
        nodes: Sequence[Node],
        body: SealedBody,
        erase_after: datetime,
    ) -> None:
        """Store a leaf, the nodes it completes, and its body with its time.

        An index that exists already, or leaves a gap, and a node that exists already with another hash are refused.

        Raises:
            LogForkError: One of these.
        """
        ...

    def read_leaves(self, tx: Tx_contra, start: int, end: int) -> list[bytes]:
        """Return the leaves from ``start`` up to ``end``, in order; fewer where the log ends."""
        ...

    def read_body(self, tx: Tx_contra, index: int) -> SealedBody | None:
        """Return the sealed body of a leaf, or None if it was erased."""
        ...

    def latest_checkpoint(self, tx: Tx_contra) -> bytes | None:
        """Return the signed note saved last, byte for byte, or None."""
        ...

    def save_checkpoint(self, tx: Tx_contra, size: int, note: bytes) -> None:
        """Store a signed note.

        Raises:
            LogForkError: A checkpoint of a larger size is stored.
        """
        ...


class CheckpointGuard(Protocol):
    """The highest checkpoint ever signed, kept outside the database. ``audit.guard.FileGuard`` implements it."""

    def highest(self) -> tuple[int, bytes] | None:
        """Return size and root, or None if nothing was ever signed.

        Raises:
            LogForkError: The guard is damaged.
        """
        ...

    def advance(self, size: int, root: bytes) -> None:
        """Make this the highest; durable when it returns, whatever becomes of any transaction.

        The value that is there already is accepted. A smaller size, another root at the same size, and a guard that
        somebody else moved since ``highest`` returned are refused.

        Raises:
            LogForkError: One of these.
            UnavailableError: It cannot be made durable now.
        """
        ...


@dataclass(frozen=True)
class Appended:
    """Where an entry went. It is not durable before the caller's transaction commits."""

    index: int
    leaf: bytes
    leaf_hash: LeafHash
    entry: Leaf
    """What ``leaf`` are the bytes of."""


@dataclass(frozen=True)
class VerifyReport:
    """What ``Log.verify`` found.

    Attributes:
        origin: Name of the log.
        size: Leaves rehashed.
        root: Their root.
        failures: Where something is wrong, never a value; at most 100, then one that counts the rest.
        bodies_opened: Bodies that were opened and match their leaf.
        bodies_unavailable: Bodies that are erased, or whose key is not at hand.
        failed: How many failures there are of each kind, those beyond the first 100 too; none of a kind that is not
            named.
        checkpoint_size: Of the newest signed checkpoint; None where there is none, or it does not verify.
        guard_size: Of the highest checkpoint by the guard; None where it knows none, or is damaged.
    """

    origin: str
    size: int
    root: bytes
    failures: tuple[str, ...]
    bodies_opened: int
    bodies_unavailable: int
    failed: Mapping[Part, int] = field(default_factory=dict)
    checkpoint_size: int | None = None
    guard_size: int | None = None

    @property
    def verified(self) -> bool:
        """Whether nothing is wrong."""
        return not self.failures

    def to_json(self) -> dict[str, object]:
        """Return ``{"origin", "size", "root", "verified", "failures"}``; the root in base64, as checkpoints show it."""
        return {
            "origin": self.origin,
            "size": self.size,
            "root": base64.b64encode(self.root).decode("ascii"),
            "verified": self.verified,
            "failures": list(self.failures),
        }


class Log(Generic[Tx]):
    """The disclosure log of one node, over a backend with transactions of type ``Tx``.

    Args:
        origin: Name of the log, first line of its checkpoints.
        signer: Signs checkpoints, under the origin as its name.
        backend: Stores.
        wrapping: Keys that wrap the keys of bodies.
        guard: The highest checkpoint signed.
        clock: Time of entries.
        random: Salts and keys.
        national_months: How long the national retention classes last, where not three years.

    Raises:
        ConfigError: The signer has another name than the log.
    """

    def __init__(
        self,
        *,
        origin: str,
        signer: NoteSigner,
        backend: LogBackend[Tx],
        wrapping: WrappingKeys,
        guard: CheckpointGuard,
        clock: Clock,
        random: RandomSource,
        national_months: Mapping[RetentionClass, int] | None = None,
    ) -> None:
        # tlog-checkpoint: the key name should match the origin. Taken as a must, the name of a key names its one log.
        if signer.name != origin:
            raise ConfigError("log: the signer is named after another log")
        self.origin = origin
        self._signer = signer
        self._backend = backend
        self._wrapping = wrapping
        self._guard = guard
        self._clock = clock
        self._random = random
        self._national_months = dict(national_months or {})

    def append(self, tx: Tx, draft: LeafDraft, body: Mapping[str, object], at_least: int = 0) -> Appended:
        """Write an entry in the caller's transaction.

        Time, expiry, salt and commitment are filled in here. The entry is durable when the caller's transaction
        commits, and never was if it does not.

        Args:
            tx: Open transaction, under the log's writer lock.
            draft: What the leaf says.
            body: What is sealed; anything that JSON holds.
            at_least: Bytes that the sealed body has, where its length could tell something.

        Raises:
            FormatError: A field or the body does not have its form.
            StorageError: The backend cannot; the caller's action must not happen.

        Cost: One node read, two canonical encodings and one AES-GCM pass over the body; no signature.
        """
        index = self._backend.size(tx)
        now = self._clock.now().astimezone(UTC).replace(microsecond=0)
        due = erase_after(draft.retention_class, now, self._national_months)
        salt, encoded = self._random.bytes(SALT_BYTES), encode_body(body)
        entry = draft.complete(ts=now, erase_after=due, body_commit=commit_body(salt, encoded))
        leaf = encode_leaf(entry)
        sealed = seal_body(
            encoded,
            salt,
            self._wrapping,
            index=index,
            erase_after=due,
            retention_class=draft.retention_class,
            random=self._random,
            at_least=at_least,
        )
        digest = leaf_hash(leaf)
        self._backend.append(tx, index, leaf, append_nodes(index, digest, self._reader(tx)), sealed, due)
        return Appended(index=index, leaf=leaf, leaf_hash=digest, entry=entry)

    def checkpoint(self, tx: Tx) -> bytes:
        """Return the signed checkpoint of the tree as it is: the stored one if the tree did not grow, else a new one.

        Call it in a transaction that appended nothing, and holds nobody else's work: it commits this node to every leaf
        that ``tx`` sees, and leaves that are rolled back afterwards could never be agreed with again.

        Raises:
            LogForkError: The tree is not a continuation of what was signed before. Fatal.
            ProofInvalidError: The stored checkpoint is not this log's. Fatal.
            UnavailableError: The guard cannot be advanced now.
        """
        size = self._backend.size(tx)
        digest = root(size, self._reader(tx))
        stored = self._checked_past(tx, size)
        if stored is not None and stored[0].size == size:
            # The guard may be an older copy; it never stays behind a note that leaves the node.
            self._guard.advance(size, digest)
            return stored[1]
        note = sign_note(encode_checkpoint(Checkpoint(self.origin, size, digest)), [self._signer])
        # The guard first: a signature that a crash loses does no harm, one that the guard does not know might.
        self._guard.advance(size, digest)
        self._backend.save_checkpoint(tx, size, note)
        return note

    def recover(self, tx: Tx) -> None:
        """Check at start that this log continues everything it signed before.

        Raises:
            LogForkError: It does not: an older backup was restored, the guard was lost, or the tree was rewritten.
            ProofInvalidError: The stored checkpoint is not this log's.
        """
        self._checked_past(tx, self._backend.size(tx))

    def check_prefix(self, tx: Tx, signed: Checkpoint, what: str) -> None:
        """Check that a checkpoint is a prefix of this log.

        Args:
            tx: Open transaction.
            signed: What this log's key signed, whoever kept it.
            what: Names it in the error.

        Raises:
            LogForkError: It is not.
        """
        self._check_prefix(tx, self._backend.size(tx), signed.size, signed.root, what)

    def prove_inclusion(self, tx: Tx, index: int, size: int) -> list[bytes]:
        """Return the proof that leaf ``index`` is in the tree of the first ``size`` leaves.

        Raises:
            InputError: The log has no such leaf or no such size.
        """
        self._check_size(tx, size)
        return inclusion_proof(index, size, self._reader(tx))

    def prove_consistency(self, tx: Tx, old: int, new: int) -> list[bytes]:
        """Return the proof that the first ``new`` leaves continue the first ``old`` ones.

        Raises:
            InputError: The log has no such sizes.
        """
        self._check_size(tx, new)
        return consistency_proof(old, new, self._reader(tx))

    def prove_prefix(self, tx: Tx, old: int, new: int) -> list[bytes]:
        """Return the root at an earlier size, then the proof that a later size continues it.

        Raises:
            InputError: The log has no such sizes.
        """
        return [root(old, self._reader(tx)), *self.prove_consistency(tx, old, new)]

    def open_body(self, tx: Tx, index: int) -> dict[str, Any]:
        """Return the body of a leaf, as :meth:`open_encoded` does."""
        return self.open_encoded(tx, index).body

    def open_encoded(self, tx: Tx, index: int) -> OpenedBody:
        """Return the body of a leaf as it was committed to; authorising that, and LOG_READ, are the caller's part.

        Raises:
            InputError: The log has no such leaf.
            KeyUnavailableError: The body is erased.
            ProofInvalidError: What is stored does not match the leaf.
            FormatError: The stored leaf is damaged.
        """
        leaves = self._backend.read_leaves(tx, index, index + 1) if index >= 0 else []
        if not leaves:
            raise InputError("log: no such leaf")
        return self._open(tx, index, parse_leaf(leaves[0]))

    def verify(self, tx: Tx) -> VerifyReport:
        """Rehash every leaf and compare all that is stored with the result.

        Leaves, nodes, root, the checkpoint and its signature, the guard, and each body whose key is at hand. Never
        raises for what it finds; it reports.

        Raises:
            StorageError: The backend cannot be read.

        Cost: Linear in the log; it holds one page of leaves at a time.
        """
        verification = _Verification(
            origin=self.origin,
            vkey=self._signer.vkey,
            backend=self._backend,
            wrapping=self._wrapping,
            now=self._clock.now(),
            tx=tx,
        )
        return verification.run(self._guard)

    def _reader(self, tx: Tx) -> NodeReader:
        return lambda level, index: self._backend.read_node(tx, level, index)

    def _check_size(self, tx: Tx, size: int) -> None:
        if size > self._backend.size(tx):
            raise InputError("log: proof asked for a size that the log does not have")

    def _checked_past(self, tx: Tx, size: int) -> tuple[Checkpoint, bytes] | None:
        """Return the stored checkpoint, having checked that it and the guard are prefixes of this tree."""
        note = self._backend.latest_checkpoint(tx)
        try:
            stored = None if note is None else verify_checkpoint(note, self._signer.vkey, self.origin)
        except FormatError:
            # This node wrote it well-formed: whoever changed it changed the log.
            raise ProofInvalidError("log: the stored checkpoint is damaged") from None
        if stored is not None:
            self._check_prefix(tx, size, stored.size, stored.root, "the stored checkpoint")
        highest = self._guard.highest()
        if highest is not None:
            self._check_prefix(tx, size, *highest, "the checkpoint guard")
        if stored is None or note is None:
            return None
        if highest is None:
            raise LogForkError("log: checkpoints were signed and the guard is gone; restore it, or ask a witness")
        return stored, note

    def _check_prefix(self, tx: Tx, size: int, signed_size: int, signed_root: bytes, what: str) -> None:
        if signed_size > size:
            raise LogForkError(f"log: {what} is ahead of the tree; was an older backup restored?")
        if root(signed_size, self._reader(tx)) != signed_root:
            raise LogForkError(f"log: {what} is of another history; does another instance sign this log?")

    def _open(self, tx: Tx, index: int, leaf: Leaf) -> OpenedBody:
        sealed = self._backend.read_body(tx, index)
        if sealed is None:
            raise KeyUnavailableError("log: the body is erased")
        return open_body(sealed, self._wrapping, index=index, body_commit=leaf.body_commit)


class _Verification(Generic[Tx]):
    """One run of ``Log.verify``: the tree is computed from the leaves alone, and all else is compared with it."""

    def __init__(
        self, *, origin: str, vkey: VKey, backend: LogBackend[Tx], wrapping: WrappingKeys, now: datetime, tx: Tx
    ) -> None:
        self._origin = origin
        self._vkey = vkey
        self._backend = backend
        self._wrapping = wrapping
        self._now = now
        self._tx = tx
        self._frontier = TreeFrontier()
        self._claims: list[tuple[int, bytes, Literal["checkpoint", "guard"]]] = []
        self._claimed: dict[str, int] = {}
        self._failures: list[str] = []
        self._failed: Counter[Part] = Counter()
        self._opened = 0
        self._unavailable = 0

    def run(self, guard: CheckpointGuard) -> VerifyReport:
        """Compare everything and report."""
        self._collect_claims(guard)
        self._check_claims()
        size = self._backend.size(self._tx)
        for start in range(0, size, _PAGE):
            end = min(start + _PAGE, size)
            leaves = self._backend.read_leaves(self._tx, start, end)
            for leaf in leaves:
                self._check_leaf(leaf)
            if len(leaves) != end - start:
                self._fail("tree", f"leaf {start + len(leaves)}: missing")
                break
        if self._backend.read_leaves(self._tx, size, size + 1):
            self._fail("tree", f"leaf {size}: beyond the tree")
        for claimed_size, _, what in self._claims:
            self._fail(what, f"{what}: ahead of the tree, at size {claimed_size}")
        failures = list(self._failures)
        if self._failed.total() > len(failures):
            failures.append(f"and {self._failed.total() - len(failures)} more")
        return VerifyReport(
            origin=self._origin,
            size=self._frontier.size,
            root=self._frontier.root(),
            failures=tuple(failures),
            bodies_opened=self._opened,
            bodies_unavailable=self._unavailable,
            failed=dict(self._failed),
            checkpoint_size=self._claimed.get("checkpoint"),
            guard_size=self._claimed.get("guard"),
        )

    def _collect_claims(self, guard: CheckpointGuard) -> None:
        # The guard before the first read of the transaction, whose snapshot then holds every leaf that the guard stands
        # for: a checkpoint that is signed meanwhile is no failure.
        try:
            highest = guard.highest()
        except LogForkError as error:
            self._fail("guard", str(error))
        else:
            if highest is not None:
                self._claims.append((*highest, "guard"))
            elif self._backend.latest_checkpoint(self._tx) is not None and guard.highest() is None:
                self._fail("guard", "guard: gone, though checkpoints were signed")
        note = self._backend.latest_checkpoint(self._tx)
        if note is not None:
            try:
                checkpoint = verify_checkpoint(note, self._vkey, self._origin)
                self._claims.insert(0, (checkpoint.size, checkpoint.root, "checkpoint"))
            except (FormatError, ProofInvalidError) as error:
                self._fail("checkpoint", f"checkpoint: {error}")
        self._claimed = {what: size for size, _, what in self._claims}

    def _check_claims(self) -> None:
        """Compare the roots claimed for the size that the computed tree has just now."""
        for claim in [c for c in self._claims if c[0] == self._frontier.size]:
            self._claims.remove(claim)
            if claim[1] != self._frontier.root():
                self._fail(claim[2], f"{claim[2]}: another root at size {claim[0]}")

    def _check_leaf(self, raw: bytes) -> None:
        index = self._frontier.size
        for level, position, digest in self._frontier.add(leaf_hash(raw)):
            try:
                if self._backend.read_node(self._tx, level, position) != digest:
                    self._fail("tree", f"node {level}/{position}: does not match the leaves up to leaf {index}")
            except ProofInvalidError:
                self._fail("tree", f"node {level}/{position}: missing")
        self._check_claims()
        try:
            leaf = parse_leaf(raw)
        except FormatError as error:
            self._fail("tree", f"leaf {index}: {error}")
        else:
            self._check_body(index, leaf)

    def _check_body(self, index: int, leaf: Leaf) -> None:
        sealed = self._backend.read_body(self._tx, index)
        if sealed is None:
            self._unavailable += 1
            if self._now < leaf.erase_after:
                self._fail("body", f"leaf {index}: body erased before its time")
            return
        try:
            open_body(sealed, self._wrapping, index=index, body_commit=leaf.body_commit)
            self._opened += 1
        except KeyUnavailableError:
            self._unavailable += 1
            if self._now < leaf.erase_after:
                self._fail("body", f"leaf {index}: the key of the body is gone before its time")
        except UnavailableError:
            raise
        except (ProofInvalidError, StorageError) as error:
            # StorageError: what is stored as the key's id is none, or the key's file was altered.
            self._fail("body", str(error))

    def _fail(self, part: Part, place: str) -> None:
        self._failed[part] += 1
        if len(self._failures) < MAX_FAILURES:
            self._failures.append(place)
