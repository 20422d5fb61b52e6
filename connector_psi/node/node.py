"""An open node: its store, keys, log, policy and peers, wired together once.

Decides: what exactly one process holds, how a use case writes its log entry in the transaction of what it does, when
the node stops answering for good. The use cases themselves: ``registration``, ``publishing`` and ``evaluation``
(owner), ``querying`` (querier), ``asked``, ``received`` and ``caseviews`` (cases), ``access``, ``granting`` and
``accessviews`` (access by case), ``oversight`` (the log).
"""

from __future__ import annotations

import shutil
import threading
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from connector_psi import pki, policy
from connector_psi.audit import merkle
from connector_psi.audit.checkpoint import (
    Checkpoint,
    NoteSigner,
    encode_vkey,
    parse_note,
    parse_vkey,
    verify_checkpoint,
)
from connector_psi.audit.cosignature import Cosigner, Trust, WitnessKey, parse_witness_key
from connector_psi.audit.entries import Event, LeafDraft, RetentionClass, Side
from connector_psi.audit.guard import FileGuard
from connector_psi.audit.log import Appended, Log
from connector_psi.disclosure import is_silent
from connector_psi.domain.clock import Clock, RandomSource, SystemClock, SystemRandom
from connector_psi.domain.naming.families import FamilyGroup
from connector_psi.domain.purposes import ProfileRole
from connector_psi.domain.records import Record
from connector_psi.errors import (
    AuditError,
    ConfigError,
    FormatError,
    ProofInvalidError,
    PurposeRefusedError,
    UnavailableError,
)
from connector_psi.keyring import Keyring
from connector_psi.node.config import Layout, NodeConfig, load_config
from connector_psi.node.contacts import PeerContacts
from connector_psi.node.descriptor import Descriptor, log_origin, parse_descriptor, witness_name
from connector_psi.node.governing import bring_into_force, pack_of, read_signed
from connector_psi.node.logwords import words_of
from connector_psi.node.measuring import NoTelemetry, Telemetry
from connector_psi.node.ports import LeafProof
from connector_psi.node.timekeeping import Timekeeper, Timekeeping
from connector_psi.protocol.tokens import Token, name_groups, record_tokens
from connector_psi.storage import daily, logindex, policies
from connector_psi.storage import peers as peer_store
from connector_psi.storage import witnesses as witness_store
from connector_psi.storage.lock import DirectoryLock
from connector_psi.storage.logs import SqlLogBackend
from connector_psi.storage.store import Store, Tx
from connector_psi.witness.cosigning import is_forked

logger = structlog.get_logger("connector_psi.node")

QUERIER, OWNER = Side.QUERIER, Side.OWNER
COSIGNED_LOOKED_AT = 64
"""So many of the newest cosigned checkpoints are looked at for one with all wanted witnesses."""
TOKENS_HELD = 2_048
"""Records of which the tokens are held, so that a round makes them once."""
SILENT_BODY_BYTES = 8_192
"""Of every sealed body at an owner that gets no notice: what a case became must not show in its length."""
LOG_ROOM_BYTES = 262_144
"""Free space that a log which took nothing needs before it is tried again: the last pages take a small entry and no
more."""


@dataclass(frozen=True, slots=True)
class Bound:
    """An agreement in force at this node."""

    agreement: policy.Agreement
    policy_hash: bytes
    side: Side
    peer: str
    leaf_index: int = -1
    """Of the POLICY_CHANGE that brought it into force; -1 for one that is not in force any more."""

    @property
    def code(self) -> str:
        """Its code, e.g. ``SIS-OBJ:ics2-sis``."""
        return self.agreement.code


def _take_places(config: NodeConfig) -> None:
    if not config.names.unlocode:
        return
    from connector_psi.domain.naming.places import load_unlocode  # noqa: PLC0415 - the gazetteer is not small

    try:
        load_unlocode(*config.names.unlocode)
    except OSError as error:
        raise ConfigError(f"node.toml: names.unlocode: {error.filename}: {error.strerror}") from None
    except FormatError as error:
        raise ConfigError(f"node.toml: names.unlocode: {error}") from None


class Node:
    """One authority's node, open in this process alone.

    Args:
        directory: A directory made by ``init``.
        clock: Time.
        random: Randomness.

    Raises:
        ConfigError: The directory is no usable node directory, or its policy is not signed by two people.
        UnavailableError: Another process has it open, or the store cannot be used.
        LogForkError: The log and its guard disagree: it was restored from an older backup, or changed.
    """

    def __init__(self, directory: Path, clock: Clock | None = None, random: RandomSource | None = None) -> None:
        keeper = Timekeeper(clock or SystemClock())
        self.clock: Clock = keeper
        self.random: RandomSource = random or SystemRandom()
        self.config: NodeConfig
        self.layout: Layout
        self.config, self.layout = load_config(directory)
        _take_places(self.config)
        self.layout.data.mkdir(mode=0o700, exist_ok=True)
        self._lock = DirectoryLock(self.layout.lock)
        try:
            self._open()
            try:
                # Before anything is judged by its time: from here on it is never earlier than it was.
                self.timekeeping = Timekeeping(self, keeper)
                self.policy = read_signed(self.layout.policy, self.authority, self.root_pem, self.clock.now())
                self._open_log()
            except BaseException:
                self.store.close()
                raise
        except BaseException:
            self._lock.release()
            raise

    def _open(self) -> None:
        self.keyring = Keyring.open(self.layout.root, self.random)
        self.root_pem = self.layout.root_cert.read_bytes()
        # Whoever has the key of a development root can be anybody, so real data never goes under one.
        if not self.synthetic and pki.is_test_root(self.root_pem):
            raise ConfigError(f"{self.layout.config}: node.synthetic is false under a development root")
        self.credentials = pki.load_credentials(self.layout.node_cert)
        if self.credentials.identity != pki.AuthorityIdentity(self.authority):
            raise ConfigError(f"{self.layout.node_cert}: not the certificate of authority {self.authority}")
        self.store = Store(
            self.layout.store_url(self.config),
            bytes(self.keyring.node_key("payload")),
            bytes(self.keyring.node_key("index")),
            self.random,
        )
        self.telemetry: Telemetry = NoTelemetry()
        self.contacts = PeerContacts(self.clock)
        self._log_blocked = False
        self.store.wrote = self._wrote

    def _open_log(self) -> None:
        self.signing_key = self.keyring.signing_key
        self.signer = NoteSigner(log_origin(self.authority), self.keyring.log_key)
        self.entries = SqlLogBackend()
        self.log: Log[Tx] = Log(
            origin=self.signer.name,
            signer=self.signer,
            backend=self.entries,
            wrapping=self.keyring.month_keys(),
            guard=FileGuard(self.layout.data / "log.guard"),
            clock=self.clock,
            random=self.random,
        )
        self._fatal: AuditError | None = None
        self._state = threading.Lock()
        self._peers: dict[str, Descriptor] = {}
        self._roles: dict[str, ProfileRole] = {}
        self._bound: dict[str, Bound] = {}
        self._witnesses: dict[WitnessKey, str | None] = {}
        self._forked: set[str] = set()
        self._under_witnesses: set[tuple[str, int]] = set()
        self._tokens: OrderedDict[tuple[str, int], tuple[Record, policy.Agreement, list[Token]]] = OrderedDict()
        with self.store.write() as tx:
            self.log.recover(tx)
            self._check_forks(tx)
        bring_into_force(self, self.policy)
        self.refresh_peers()

    def _check_forks(self, tx: Tx) -> None:
        """What a witness once showed of this log must be in it, or the node does not start."""
        for row in witness_store.list_forks(tx):
            if row.origin == self.signer.name:
                signed = verify_checkpoint(row.second, self.signer.vkey, self.signer.name)
                self.log.check_prefix(tx, signed, f"a checkpoint of size {signed.size} that a witness holds")

    def close(self) -> None:
        """Let go of the directory."""
        self.store.close()
        self._lock.release()

    # Identity, policy and time

    @property
    def authority(self) -> str:
        """The node's authority code."""
        return self.config.node.authority

    @property
    def synthetic(self) -> bool:
        """Whether this node holds synthetic data only."""
        return self.config.node.synthetic

    @property
    def pack(self) -> policy.PolicyPack:
        """The policy in force."""
        return self.policy.pack

    def now_ms(self) -> int:
        """Return Unix milliseconds."""
        return int(self.clock.now().timestamp() * 1000)

    # Failing for good

    def check_alive(self) -> None:
        """Stop every use case once the log cannot be trusted any more, and while the clock is behind.

        Raises:
            AuditError: What was found, for as long as the process lives.
            UnavailableError: The clock is behind the time that this node had before.
        """
        self._check_log()
        self.timekeeping.check()

    def _check_log(self) -> None:
        if self._fatal is not None:
            raise self._fatal

    def fail(self, error: AuditError) -> None:
        """Stop answering: no log, no disclosure."""
        if self._fatal is None:
            # Stopped first: the line below may fail where nobody reads it any more.
            self._fatal = error
            logger.error("log.fatal", code=error.code)

    @property
    def fatal(self) -> AuditError | None:
        """What stopped the node, None while it runs."""
        return self._fatal

    @property
    def log_blocked(self) -> bool:
        """Whether the log took nothing when it was last written, as on a full disk."""
        return self._log_blocked

    def _wrote(self, seconds: float | None) -> None:
        # What succeeds clears nothing: small transactions still fit where large ones do not.
        if seconds is None:
            self._log_blocked = True
        else:
            self.telemetry.committed(seconds)

    def probe_log(self) -> None:
        """Try a log that took nothing once more, and sign what it holds.

        Raises:
            AuditError: The log went backwards or forked; the node stops answering.
        """
        if not self._log_blocked:
            return
        try:
            if shutil.disk_usage(self.layout.data).free < LOG_ROOM_BYTES:
                return
            self.store.try_to_write()
        except (OSError, UnavailableError):
            return
        self._log_blocked = False
        with suppress(UnavailableError):
            self.checkpoint()

    # Peers and agreements

    def refresh_peers(self) -> None:
        """Load peers and agreements from the store."""
        with self.store.read() as tx:
            rows = peer_store.list_peers(tx)
            known = {row.authority: parse_descriptor(row.descriptor) for row in rows}
            agreement_rows = peer_store.list_agreements(tx)
            found = {row.authority: known[row.authority] for row in rows if row.state == "active"}
            forked = {a for a, d in found.items() if is_forked(tx, parse_vkey(d.log_vkey))}
        bound = {}
        for row in agreement_rows:
            agreement = policy.Agreement.model_validate_json(row.definition)
            bound[row.code] = Bound(agreement, row.policy_hash, Side(row.side), row.peer, row.leaf_index)
        witnesses: dict[WitnessKey, str | None] = {parse_witness_key(w.vkey): None for w in self.config.witnesses}
        witnesses |= {parse_witness_key(d.witness_vkey): a for a, d in found.items() if d.witness_vkey}
        witnesses[Cosigner(witness_name(self.authority), self.keyring.witness_key).key] = self.authority
        with self._state:
            self._peers, self._bound, self._witnesses = found, bound, witnesses
            self._roles = {authority: descriptor.role for authority, descriptor in known.items()}
            self._forked = forked
            self._under_witnesses.clear()

    def agreements(self, side: Side | None = None) -> list[Bound]:
        """Return the agreements in force, optionally of one side."""
        with self._state:
            return [b for b in self._bound.values() if side is None or b.side is side]

    def in_force(self, code: str) -> Bound | None:
        """Return an agreement in force, whether or not it may run now; None where there is none of this code."""
        with self._state:
            return self._bound.get(code)

    def with_notice(self) -> frozenset[str]:
        """Return the codes of the agreements in force whose owner gets notice."""
        return frozenset(b.code for b in self.agreements() if not is_silent(b.agreement))

    def peer(self, authority: str) -> Descriptor:
        """Return the descriptor of an active peer.

        Raises:
            PurposeRefusedError: There is no such peer, or it was revoked.
        """
        with self._state:
            found = self._peers.get(authority)
        if found is None:
            raise PurposeRefusedError("not an active peer")
        return found

    def has_peer(self, authority: str) -> bool:
        """Return whether an authority is an active peer."""
        with self._state:
            return authority in self._peers

    def role_of(self, authority: str) -> ProfileRole | None:
        """Return the role of a peer, also of one that was revoked; None of one that is not known."""
        with self._state:
            return self._roles.get(authority)

    def is_forked(self, authority: str) -> bool:
        """Return whether a peer's log is known to have signed two histories."""
        with self._state:
            return authority in self._forked

    def bound(self, code: str, side: Side, peer: str | None = None) -> Bound:
        """Return an agreement that may run now.

        Args:
            code: Its code.
            side: Which side this node must have in it.
            peer: Who must be on the other side; None where this node itself acts.

        Raises:
            PurposeRefusedError: Unknown, another side or peer, gated, not yet or no longer valid.
        """
        self.check_alive()
        with self._state:
            found = self._bound.get(code)
        if found is None or found.side is not side or (peer is not None and found.peer != peer):
            raise PurposeRefusedError("no such agreement")
        self.peer(found.peer)
        if self.is_forked(found.peer):
            raise PurposeRefusedError(f"{code}: the peer's log signed two histories")
        self.check_runnable(found.agreement)
        self._check_policy_witnessed(found)
        return found

    def _check_policy_witnessed(self, bound: Bound) -> None:
        known = (bound.code, bound.leaf_index)
        if not bound.agreement.witnesses or known in self._under_witnesses:
            return
        try:
            self.leaf_proof(bound.leaf_index, bound.agreement)
        except UnavailableError:
            raise UnavailableError(f"{bound.code}: the policy waits for its witnesses") from None
        self._under_witnesses.add(known)

    def bound_of_case(self, tx: Tx, code: str, side: Side, peer: str) -> Bound:
        """Return the agreement of a case, also of one whose peer was revoked or that left the policy since.

        Raises:
            PurposeRefusedError: Nothing of it is known any more.
        """
        with self._state:
            found = self._bound.get(code)
        if found is not None and found.side is side and found.peer == peer:
            return found
        stored = peer_store.get_agreement(tx, code)
        if stored is not None and stored.side == side.value and stored.peer == peer:
            agreement = policy.Agreement.model_validate_json(stored.definition)
            return Bound(agreement, policy.policy_hash(agreement), side, peer)
        sides = f"{self.authority}-{peer}" if side is QUERIER else f"{peer}-{self.authority}"
        for earlier in policies.history(tx):
            pack = pack_of(earlier)
            for template in pack.templates if pack is not None else ():
                if code == f"{template.code}:{sides}":
                    querier, _, owner = sides.partition("-")
                    agreement = policy.instantiate(template, querier, owner, synthetic=self.synthetic)
                    return Bound(agreement, policy.policy_hash(agreement), side, peer)
        raise PurposeRefusedError(f"{code}: in no policy that was in force")

    def name_groups(self, bound: Bound) -> frozenset[FamilyGroup]:
        """Return the groups of name families that the querier of an agreement can ask with, by its role."""
        if not bound.agreement.name_groups:
            return frozenset()
        with self._state:
            querier = self.config.node.role if bound.side is QUERIER else self._roles.get(bound.peer)
        return name_groups(bound.agreement, querier)

    def tokens(self, bound: Bound, record: Record) -> list[Token]:
        """Return the tokens of a record of this node under an agreement.

        Those of the records that a round has in hand are made once: it asks with them, judges and keeps them.
        """
        key = bound.code, id(record)
        with self._state:
            held = self._tokens.get(key)
        if held is not None and held[0] is record and held[1] is bound.agreement:
            return held[2]
        tokens = record_tokens(bound.agreement, record, bound.side, self.name_groups(bound))
        with self._state:
            self._tokens[key] = record, bound.agreement, tokens
            self._tokens.move_to_end(key)
            if len(self._tokens) > TOKENS_HELD:
                self._tokens.popitem(last=False)
        return tokens

    def check_runnable(self, agreement: policy.Agreement) -> None:
        """Refuse an agreement that may not run now.

        Raises:
            PurposeRefusedError: It is gated, or not in force.
        """
        policy.check_runnable(agreement, self.clock.now(), synthetic=self.synthetic)

    # Witnesses

    def witnesses(self) -> dict[WitnessKey, str | None]:
        """Return the witnesses that this node trusts: itself, its peers, and those of ``node.toml`` (no authority)."""
        with self._state:
            return dict(self._witnesses)

    def log_vkeys(self) -> list[str]:
        """Return the keys of the logs that this node knows: its own and its peers'."""
        with self._state:
            return [encode_vkey(self.signer.vkey), *(peer.log_vkey for peer in self._peers.values())]

    def asked_witnesses(self) -> dict[WitnessKey, str | None]:
        """Return the witnesses that this node has its own log cosigned by.

        Not by itself, nor by whoever must not notice what this node does under an agreement.
        """
        kept_from = {b.peer for b in self.agreements(QUERIER) if is_silent(b.agreement)}
        return {key: whose for key, whose in self.witnesses().items() if whose not in {self.authority, *kept_from}}

    def trust(self, agreement: policy.Agreement, log: str) -> Trust:
        """Return whose cosignatures count for a log under an agreement.

        Args:
            agreement: Whose number of witnesses is wanted.
            log: Authority whose log it is.
        """
        parties = frozenset({agreement.querier, agreement.owner})
        return Trust(self.witnesses(), agreement.witnesses, log, parties)

    # The log

    def append(
        self,
        tx: Tx,
        event: Event,
        body: Mapping[str, Any],
        bound: Bound | None = None,
        **fields: Any,  # noqa: ANN401 - LeafDraft checks them
    ) -> Appended:
        """Write an entry in the transaction of what it records.

        Args:
            tx: That transaction.
            event: What happened.
            body: What is sealed.
            bound: The agreement it belongs to.
            fields: Further fields of the leaf.

        Raises:
            AuditError: The log is not to be trusted; nothing may be done.
            UnavailableError: The clock is behind, and this is not the entry that says so.
        """
        if event is Event.CLOCK:
            self._check_log()
        else:
            self.check_alive()
        if bound is None:
            # What belongs to no agreement was done under the policy as a whole.
            fields.setdefault("policy_hash", self.policy.pack_hash)
            draft = LeafDraft(event=event, retention_class=self._own_retention(), **fields)
        else:
            draft = LeafDraft(
                event=event,
                retention_class=RetentionClass(bound.agreement.retention_class),
                side=bound.side,
                agreement=bound.code,
                policy_hash=bound.policy_hash,
                mode=bound.agreement.mode.value,
                **fields,
            )
        # Sets and deltas come on a clock, whatever became of any case, and there are many of them.
        silent = (
            bound is not None and bound.side is OWNER and is_silent(bound.agreement) and event is not Event.SET_PUBLISH
        )
        entry = self.log.append(tx, draft, body, SILENT_BODY_BYTES if silent else 0)
        # Of what an owner writes without notice no word is kept: two entries with one word are two cases of one file,
        # and every cover has a reference of its own.
        logindex.put(tx, entry.index, entry.entry, () if silent else words_of(self.store, body))
        if not silent:
            daily.count(tx, _day(entry.entry.ts), event.value, "" if bound is None else bound.code)
        return entry

    def count(self, tx: Tx, what: str, bound: Bound | None, n: int = 1) -> None:
        """Add to what happened today; see ``storage.daily``.

        Args:
            tx: The transaction of what happened.
            what: A word.
            bound: The agreement it belongs to.
            n: How often.
        """
        daily.count(tx, _day(self.clock.now()), what, "" if bound is None else bound.code, n)

    def _own_retention(self) -> RetentionClass:
        return {
            ProfileRole.CUSTOMS: RetentionClass.CUSTOMS_NATIONAL,
            ProfileRole.NSIS: RetentionClass.SIS_3Y,
            ProfileRole.EUROPOL: RetentionClass.EUOP_3Y,
        }.get(self.config.node.role, RetentionClass.LED_NATIONAL)

    def checkpoint(self) -> Checkpoint | None:
        """Sign the log as it stands, if it grew.

        Raises:
            AuditError: The log went backwards or forked; the node stops answering.
        """
        # Also while the clock is behind: the entry that says so is to be signed.
        self._check_log()
        try:
            # Signing commits this node to every leaf that is seen.
            with self.store.write(alone=True) as tx:
                before = self.entries.latest_checkpoint(tx)
                if self.log.checkpoint(tx) != before:
                    self.timekeeping.keep(tx)
        except AuditError as error:
            self.fail(error)
            raise
        except UnavailableError:
            # The database, or the guard beside it.
            self._log_blocked = True
            raise
        return self.signed_checkpoint()

    def signed_checkpoint(self) -> Checkpoint | None:
        """Return the newest signed checkpoint without its signatures."""
        with self.store.read() as tx:
            note = self.entries.latest_checkpoint(tx)
        return None if note is None else verify_checkpoint(note, self.signer.vkey, self.signer.name)

    def read_leaves(self, tx: Tx, start: int, end: int) -> list[bytes]:
        """Return leaves as they were hashed into the tree.

        Raises:
            ProofInvalidError: A stored leaf is not the one that was hashed.
        """
        leaves = self.entries.read_leaves(tx, start, end)
        for index, leaf in enumerate(leaves, start):
            if merkle.leaf_hash(leaf) != self.entries.read_node(tx, 0, index):
                raise ProofInvalidError(f"leaf {index}: what is stored is not what was hashed")
        return leaves

    def leaf_proof(self, index: int, agreement: policy.Agreement) -> LeafProof:
        """Return a leaf with its proof under the newest checkpoint that has the witnesses that the agreement wants.

        Raises:
            UnavailableError: No such checkpoint covers the leaf yet: nothing that depends on it may leave.
        """
        self.check_alive()
        with self.store.read() as tx:
            note, size = self._witnessed(tx, index + 1, agreement)
            (leaf,) = self.read_leaves(tx, index, index + 1)
            proof = self.log.prove_inclusion(tx, index, size)
        return LeafProof(leaf, index, tuple(proof), note)

    def _witnessed(self, tx: Tx, at_least: int, agreement: policy.Agreement) -> tuple[bytes, int]:
        if not agreement.witnesses:
            note = self.entries.latest_checkpoint(tx)
            size = 0 if note is None else verify_checkpoint(note, self.signer.vkey, self.signer.name).size
            if note is None or size < at_least:
                raise UnavailableError("no checkpoint covers the entry yet")
            return note, size
        trust = self.trust(agreement, self.authority)
        # Also where a witness is far behind the others: what it cosigned last.
        sizes = {size for key in trust.witnesses if (size := self.entries.cosigned_by(tx, key.name)) >= at_least}
        sizes |= set(self.entries.cosigned_sizes(tx, at_least, COSIGNED_LOOKED_AT))
        for size in sorted(sizes, reverse=True):
            note = self.entries.cosigned(tx, size)
            if note is not None and trust.suffices(parse_note(note)):
                return note, size
        raise UnavailableError("no checkpoint with the wanted witnesses covers the entry yet")


def _day(when: datetime) -> int:
    return int(when.timestamp()) // daily.DAY_S


def millis(when: datetime) -> int:
    """Return Unix milliseconds of an aware datetime."""
    return int(when.timestamp() * 1000)


def from_millis(ms: int) -> datetime:
    """Return the aware UTC datetime of Unix milliseconds."""
    return datetime.fromtimestamp(ms / 1000, tz=UTC)
