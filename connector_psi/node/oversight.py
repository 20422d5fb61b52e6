"""The node's log as its readers see it: checkpoints, proofs, for auditors leaves, and the bodies of own queries.

Decides: whose bodies are opened to whom, of the people whom the policy's purpose of oversight names; that each reading
is logged before the first body is opened.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from connector_psi.audit.bodies import OpenedBody
from connector_psi.audit.checkpoint import parse_note, verify_checkpoint
from connector_psi.audit.cosignature import WitnessKey, verify_cosignatures
from connector_psi.audit.entries import OF_OVERSIGHT, Event, Leaf, parse_leaf
from connector_psi.audit.merkle import leaf_hash
from connector_psi.domain.purposes import Purpose
from connector_psi.errors import (
    ApprovalMissingError,
    AuditError,
    FormatError,
    InputError,
    KeyUnavailableError,
    PurposeRefusedError,
    UnavailableError,
)
from connector_psi.node.node import OWNER, QUERIER, Node
from connector_psi.node.retention import Retention
from connector_psi.node.steps import Step
from connector_psi.pki import PersonIdentity, Role
from connector_psi.policy import own_purpose
from connector_psi.storage import witnesses
from connector_psi.storage.store import Tx

MAX_ENTRIES = 256
MAX_SIZE = 2**63
"""No log is as large."""
MAX_BODIES = 64
MAX_REASON = 4_000
LEAVES = "Every entry, hashed again, leads to the stored tree and its root."
BODIES = "Every body that is kept opens, and is the one that its entry commits to."
CHECKPOINT = "The newest checkpoint is signed by the key of this log, and its root is that of the entries."
GUARD = "The guard against restored backups agrees with the log."
WITNESS = "The witness cosigned a checkpoint that this log continues."
FORKS = "No log is known to have signed two histories."
LATE = "No body is kept beyond its time without a hold."
STEP_NAMES = (LEAVES, BODIES, CHECKPOINT, GUARD, WITNESS, FORKS, LATE)
"""Every name that a step of ``verify_steps`` can have, in the order in which they come."""


class Oversight:
    """Use cases of peers, witnesses and auditors."""

    def __init__(self, node: Node, retention: Retention) -> None:
        self._node = node
        self._retention = retention

    def checkpoint(self) -> bytes:
        """Return the newest signed checkpoint, with what witnesses said of it so far.

        Raises:
            UnavailableError: None is signed yet.
        """
        node = self._node
        node.check_alive()
        with node.store.read() as tx:
            note = node.entries.cosigned(tx, self._signed_size(tx))
        if note is None:
            raise UnavailableError("no checkpoint is signed yet")
        return note

    def prove_inclusion(self, index: int, size: int) -> tuple[bytes, list[bytes]]:
        """Return ``(leaf hash, proof)`` under the tree of ``size`` leaves.

        Raises:
            PurposeRefusedError: No signed checkpoint is of such a size yet, or there is no such leaf.
        """
        node = self._node
        node.check_alive()
        with node.store.read() as tx:
            if not index < size <= self._signed_size(tx):
                raise PurposeRefusedError("no such leaf or size")
            node.read_leaves(tx, index, index + 1)
            return node.entries.read_node(tx, 0, index), node.log.prove_inclusion(tx, index, size)

    def prove_consistency(self, old_size: int, new_size: int) -> list[bytes]:
        """Return the proof that the tree of ``old_size`` is a prefix of that of ``new_size``.

        Raises:
            PurposeRefusedError: No signed checkpoint is of such sizes yet.
        """
        node = self._node
        node.check_alive()
        with node.store.read() as tx:
            if not 0 < old_size <= new_size <= self._signed_size(tx):
                raise PurposeRefusedError("no such sizes")
            return node.log.prove_consistency(tx, old_size, new_size)

    def _signed_size(self, tx: Tx) -> int:
        # Leaves that are not signed yet are not there for anybody: whoever could ask for their proofs would see each
        # event at its instant, and checkpoints appear on a clock.
        node = self._node
        note = node.entries.latest_checkpoint(tx)
        return 0 if note is None else verify_checkpoint(note, node.signer.vkey, node.signer.name).size

    def verify(self) -> dict[str, object]:
        """Rehash the whole log and return what ``log verify --json`` prints; works in a node that stopped answering
        too.
        """
        with self._node.store.read() as tx:
            report = self._node.log.verify(tx)
            late = self._retention.late(tx)
        if late:
            told = f"{late} bodies are there a day after their time, and nothing holds them"
            report = replace(report, failures=(*report.failures, told))
        return report.to_json()

    def verify_steps(self) -> list[Step]:
        """Verify as ``verify`` does, and tell each step; works in a node that stopped answering too.

        Cost: Linear in the log; every body is opened.
        """
        node = self._node
        with node.store.read() as tx:
            report = node.log.verify(tx)
            late = self._retention.late(tx)
            steps = [
                _counted(LEAVES, report.failed.get("tree", 0), f"{report.size} entries"),
                _counted(
                    BODIES,
                    report.failed.get("body", 0),
                    f"{report.bodies_opened} opened, {report.bodies_unavailable} erased",
                ),
                _claimed(CHECKPOINT, report.failed.get("checkpoint", 0), report.checkpoint_size),
                _claimed(GUARD, report.failed.get("guard", 0), report.guard_size),
                *(self._witness(tx, key) for key in node.asked_witnesses()),
            ]
            forks = witnesses.list_forks(tx)
        told = "; ".join(f"{fork.origin} at size {fork.size}" for fork in forks)
        return [*steps, Step(FORKS, "failed" if forks else "ok", told), _counted(LATE, late, "")]

    def _witness(self, tx: Tx, key: WitnessKey) -> Step:
        node = self._node
        size = node.entries.cosigned_by(tx, key.name)
        note = node.entries.cosigned(tx, size) if size else None
        if note is None:
            return Step(WITNESS, "unknown", f"{key.name}: it cosigned none yet")
        try:
            signed = verify_checkpoint(note, node.signer.vkey, node.signer.name)
            said = verify_cosignatures(parse_note(note), [key])
            node.log.check_prefix(tx, signed, f"the checkpoint of size {signed.size}")
        except (AuditError, FormatError) as error:
            return Step(WITNESS, "failed", f"{key.name}: {error}")
        # A cosignature of an earlier key of it counts for nothing.
        return Step(WITNESS, "ok" if said else "unknown", f"{key.name}: size {signed.size}")

    def leaves(self, start: int, limit: int) -> list[bytes]:
        """Return leaves from ``start`` on, at most 256."""
        node = self._node
        with node.store.read() as tx:
            size = node.entries.size(tx)
            end = min(size, start + min(limit or MAX_ENTRIES, MAX_ENTRIES))
            return node.read_leaves(tx, start, end) if start < end else []

    def audit_entries(self, start: int, limit: int, person: PersonIdentity) -> list[tuple[bytes | None, bytes]]:
        """Return the log as an audit of queries reads it, from ``start`` on, at most 256 entries.

        A supervisor also decides cases, and an agreement may keep its cases from everybody at the owner's desk: of
        leaves of the owner's side the hash alone is shown to that role.

        Returns:
            Each ``(leaf, b"")``, or ``(None, hash of the leaf)``.

        Raises:
            PurposeRefusedError: The policy's purpose of oversight does not name the person's role.
        """
        own_purpose(self._node.pack, Purpose.OVERSIGHT, person.role.value)
        all_of_it = person.role is not Role.SUPERVISOR
        return [
            (raw, b"") if all_of_it or parse_leaf(raw).side is not OWNER else (None, leaf_hash(raw))
            for raw in self.leaves(start, limit)
        ]

    def open_bodies(
        self, indexes: Sequence[int], person: PersonIdentity, reason: str, *, audit: bool = False
    ) -> Iterator[tuple[int, OpenedBody | None]]:
        """Open bodies; LOG_READ is durable before the first.

        Auditors open all but those at the owner's side of an agreement of which the owner gets no notice: these are for
        the data protection officer alone. Supervisors, who decide cases themselves, open what an audit of queries
        reads: queries that this node sent, and changes of policy. What was read, taken out and held is for the data
        protection officer alone too: it may be about a case that nobody else knows.

        Args:
            indexes: Of their entries, at most 64.
            person: Who reads.
            reason: Why.
            audit: Whether it is for an audit of own queries.

        Returns:
            Each index with its body, None where that is gone, in the order of ``indexes``.

        Raises:
            PurposeRefusedError: The policy's purpose of oversight does not name the person's role, or an entry is not
                for it.
            ApprovalMissingError: No reason is given.
            InputError: Too many entries, none, or one twice; or a reason of over 4,000 characters.
        """
        node = self._node
        node.check_alive()
        own = own_purpose(self._node.pack, Purpose.OVERSIGHT, person.role.value)
        if not reason.strip():
            raise ApprovalMissingError("a reason is needed")
        if len(reason) > MAX_REASON or not 0 < len(indexes) <= MAX_BODIES or len(set(indexes)) != len(indexes):
            raise InputError("a reason of at most 4,000 characters, and 1 to 64 entries, each once")
        with node.store.write() as tx:
            size = node.entries.size(tx)
            if max(indexes) >= size:
                raise PurposeRefusedError("no such entry, or not one that this role opens")
            leaves = [parse_leaf(node.read_leaves(tx, index, index + 1)[0]) for index in indexes]
            if not all(self.may_open(leaf, person.role) for leaf in leaves):
                raise PurposeRefusedError("no such entry, or not one that this role opens")
            node.append(
                tx,
                Event.LOG_READ,
                {
                    "operation": "audit_sample" if audit else "bodies opened",
                    "code": own.code,
                    "actor": person.uri,
                    "reason": reason,
                    "count": len(indexes),
                    "entries": list(indexes),
                    "request_ids": [leaf.request_id.hex() for leaf in leaves if leaf.request_id is not None],
                },
                purpose=own.purpose.value,
            )
        return self._opened(list(indexes))

    def export_bodies(
        self, size: int, person: PersonIdentity, reason: str, request_id: bytes = b""
    ) -> Iterator[tuple[int, OpenedBody | None]]:
        """Open the bodies that a person may open, for a bundle; one EXPORT entry is durable before the first.

        Args:
            size: Of the checkpoint that the bundle goes up to.
            person: Who takes them out.
            reason: Why.
            request_id: Of the query or case whose entries are wanted, 16 bytes; empty for all.

        Raises:
            PurposeRefusedError: The policy's purpose of oversight does not name the person's role.
            ApprovalMissingError: No reason is given.
            InputError: A reason of over 4,000 characters.
        """
        node = self._node
        node.check_alive()
        own = own_purpose(node.pack, Purpose.OVERSIGHT, person.role.value)
        if not reason.strip():
            raise ApprovalMissingError("a reason is needed")
        if len(reason) > MAX_REASON:
            raise InputError("a reason of at most 4,000 characters")
        with node.store.write() as tx:
            size = min(size, node.entries.size(tx))
            node.append(
                tx,
                Event.EXPORT,
                {
                    "operation": "bodies exported",
                    "code": own.code,
                    "actor": person.uri,
                    "reason": reason,
                    "until": size,
                    "about": request_id.hex(),
                },
                purpose=own.purpose.value,
            )
        return self._opened(self._exported(size, person.role, request_id))

    def _exported(self, size: int, role: Role, request_id: bytes) -> Iterator[int]:
        node = self._node
        for start in range(0, size, MAX_ENTRIES):
            with node.store.read() as tx:
                raw = node.read_leaves(tx, start, min(size, start + MAX_ENTRIES))
            for index, leaf in enumerate(map(parse_leaf, raw), start):
                wanted = not request_id or request_id in {leaf.request_id, leaf.parent_id}
                if wanted and self.may_open(leaf, role):
                    yield index

    def checkpoints(self, start: int, limit: int) -> list[bytes]:
        """Return signed checkpoints of at least a size, cosigned as they are, smallest first, at most 256."""
        node = self._node
        if start >= MAX_SIZE:
            return []
        with node.store.read() as tx:
            sizes = [size for size, _ in node.entries.checkpoints(tx, start, min(limit or MAX_ENTRIES, MAX_ENTRIES))]
            return [note for size in sizes if (note := node.entries.cosigned(tx, size)) is not None]

    def may_open(self, leaf: Leaf, role: Role) -> bool:
        """Return whether a role that the policy's purpose of oversight names may open the body of an entry."""
        if role is Role.DPO or _may_be_audited(leaf):
            return True
        if leaf.event in OF_OVERSIGHT:
            # They say what a data protection officer read, took out and held, and why.
            return False
        return role is Role.AUDITOR and self.may_know(leaf.side, leaf.agreement, role)

    def may_know(self, side: str | None, agreement: str | None, role: Role) -> bool:
        """Return whether a role may look at what one side of an agreement did, case by case.

        What stands at the owner's side of an agreement of which the owner gets no notice is for the data protection
        officer alone. An agreement that is not known any more counts as one.
        """
        if side != OWNER:
            return True
        told = self.told(role)
        return told is None or agreement in told

    def told(self, role: Role) -> frozenset[str] | None:
        """Return the agreements whose cases at the owner's side a role may look at, None for all of them."""
        return agreements_told(self._node, role)

    def _opened(self, indexes: Iterable[int]) -> Iterator[tuple[int, OpenedBody | None]]:
        node = self._node
        for index in indexes:
            body: OpenedBody | None = None
            with node.store.read() as tx:
                try:
                    body = node.log.open_encoded(tx, index)
                except KeyUnavailableError:
                    body = None
            yield index, body


def agreements_told(node: Node, role: Role) -> frozenset[str] | None:
    """Return what ``Oversight.told`` does."""
    if role is Role.DPO:
        return None
    return node.with_notice()


def agreements_hidden(node: Node, role: Role) -> frozenset[str]:
    """Return the agreements of which a role is told nothing: this node is their owner, and gets no notice."""
    if role is Role.DPO:
        return frozenset()
    return frozenset(b.code for b in node.agreements(OWNER)) - node.with_notice()


def _may_be_audited(leaf: Leaf) -> bool:
    return leaf.event is Event.POLICY_CHANGE or (leaf.event is Event.CONSULT and leaf.side is QUERIER)


def _counted(name: str, failures: int, detail: str) -> Step:
    parts = [detail] if detail else []
    return Step(name, "failed" if failures else "ok", ", ".join([*parts, *([f"{failures} wrong"] if failures else [])]))


def _claimed(name: str, failures: int, size: int | None) -> Step:
    if not failures and size is None:
        return Step(name, "unknown", "nothing is signed yet")
    return _counted(name, failures, "" if size is None else f"size {size}")
