"""Two logs side by side: what two authorities wrote about one request, joined into one dossier for an auditor.

Decides: which entries of the two logs belong together, which fields of them have to be equal, and what an auditor is
told where they are not. Leaves to others: whether a bundle verifies (``audit.verify``, before anything here is
believed), how a dossier is shown (``commands``).

A log shows by itself that nothing in it was changed, not that everything was written. Most of what happens is written
twice, by two authorities that do not share a database: a query that only the owner knows, or an outcome that only the
querier knows, shows here.

Findings name entries and fields and never a value. Severities:

- ``disagreement``: the two logs cannot both be right;
- ``missing``: one log has what the other should have, or an erasure that was due is not there;
- ``note``: for the auditor to know; nothing is wrong by it alone.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from connector_psi.audit.bodies import SALT_BYTES, commit_body
from connector_psi.audit.entries import MAX_LEAF_BYTES, OF_OVERSIGHT, Event, Leaf, encode_leaf, encode_time, parse_leaf
from connector_psi.audit.entries import Side as Role
from connector_psi.errors import ConfigError, FormatError, InputError, ProofInvalidError

MAX_CLOCK_GAP = timedelta(seconds=120)
"""How far the clocks of two authorities may be apart before it is told."""
COLLECTED_WITHIN = timedelta(days=1)
"""How long a counterpart may be under way: outcomes are collected at slots, and a peer may be away for a while."""

_MAX_BODY_LINE_BYTES = 64 * 1024 * 1024
_A, _B = "a", "b"


# What is read


@dataclass(frozen=True)
class Side:
    """One log, as far as it is here.

    Attributes:
        origin: Name of the log.
        leaves: By index.
        bodies: Opened bodies, by the index of their leaf; some or all may be missing.
    """

    origin: str
    leaves: Mapping[int, Leaf]
    bodies: Mapping[int, Mapping[str, Any]] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """The last part of the origin, which is the code of the authority."""
        return self.origin.rpartition("/")[2]

    @property
    def newest(self) -> datetime | None:
        """Time of the newest entry."""
        return max((leaf.ts for leaf in self.leaves.values()), default=None)


def read_side(bundle: Path) -> Side:
    """Read a bundle into memory. Whether its leaves are those under its checkpoint is for ``audit.verify`` to say.

    Args:
        bundle: Folder with ``vkey``, ``leaves.jsonl`` and perhaps ``bodies.jsonl``.

    Raises:
        ConfigError: A file cannot be read.
        FormatError: A line is not a leaf or an opened body; the text names file and line.
        ProofInvalidError: A body is not the one that its leaf commits to; the text names the leaf.

    Cost: Linear in the log, all of which is held.
    """
    try:
        vkey = (bundle / "vkey").read_bytes()
        leaves: dict[int, Leaf] = {}
        for index, line in enumerate(_lines(bundle / "leaves.jsonl", MAX_LEAF_BYTES + 2)):
            try:
                leaves[index] = parse_leaf(line)
            except FormatError as error:
                raise FormatError(f"leaves.jsonl line {index + 1}: {error}") from None
        bodies: dict[int, Mapping[str, Any]] = {}
        if (bundle / "bodies.jsonl").exists():
            for number, line in enumerate(_lines(bundle / "bodies.jsonl", _MAX_BODY_LINE_BYTES), 1):
                index, body = _read_body(line, f"bodies.jsonl line {number}", leaves)
                if index in bodies:
                    raise FormatError(f"bodies.jsonl line {number}: a second body of one leaf")
                bodies[index] = body
    except OSError as error:
        raise ConfigError(f"{bundle}: {error.strerror}") from None
    try:
        origin = vkey.decode("utf-8").partition("+")[0]
    except UnicodeDecodeError:
        origin = ""
    if not origin.isprintable() or not origin:
        raise FormatError("vkey: not the key of a log")
    return Side(origin, leaves, bodies)


def _lines(path: Path, longest: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        # A line that is cut here has no form any more: a hostile file does not fill the memory.
        while line := file.readline(longest):
            yield line.removesuffix(b"\n")


def _read_body(line: bytes, place: str, leaves: Mapping[int, Leaf]) -> tuple[int, dict[str, Any]]:
    said = _json_object(line, place)
    index, salt, body = said.get("index"), said.get("salt"), said.get("body")
    if set(said) != {"index", "salt", "body"} or type(index) is not int or index not in leaves:
        raise FormatError(f"{place}: not an opened body of one of these leaves")
    try:
        salt_bytes, encoded = bytes.fromhex(str(salt)), str(body).encode("utf-8")
    except ValueError:
        raise FormatError(f"{place}: not an opened body of one of these leaves") from None
    if len(salt_bytes) != SALT_BYTES:
        raise FormatError(f"{place}: not an opened body of one of these leaves")
    if commit_body(salt_bytes, encoded) != leaves[index].body_commit:
        raise ProofInvalidError(f"leaf {index}: body does not match its commitment")
    return index, _json_object(encoded, place)


def _json_object(raw: bytes, place: str) -> dict[str, Any]:
    try:
        said = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        raise FormatError(f"{place}: not JSON") from None
    if not isinstance(said, dict):
        raise FormatError(f"{place}: not a JSON object")
    return said


# What there is


@dataclass(frozen=True)
class Listed:
    """One request that at least one of two logs knows.

    Attributes:
        request_id: Of the request.
        kind: ``query``, ``case``, ``access request`` or ``recall``.
        agreement: Code, from the first entry.
        first: Time of the first entry.
        parent_id: Of a recall: the case, where a log says it.
        in_a: Entries in the first log.
        in_b: Entries in the second log.
    """

    request_id: bytes
    kind: str
    agreement: str | None
    first: datetime
    parent_id: bytes | None
    in_a: int
    in_b: int


def request_ids(a: Side, b: Side) -> tuple[Listed, ...]:
    """Return every ``request_id`` of two logs, in the order of the first entry of each."""
    found: dict[bytes, list[tuple[str, Leaf]]] = {}
    for log, side in ((_A, a), (_B, b)):
        for leaf in side.leaves.values():
            if leaf.request_id is not None and leaf.event not in OF_OVERSIGHT:
                found.setdefault(leaf.request_id, []).append((log, leaf))
    listed = []
    for request_id, entries in found.items():
        first = min((leaf for _, leaf in entries), key=lambda leaf: leaf.ts)
        counts = Counter(log for log, _ in entries)
        parents = [leaf.parent_id for _, leaf in entries if leaf.parent_id is not None]
        listed.append(
            Listed(
                request_id,
                _kind_of_request(leaf for _, leaf in entries),
                first.agreement,
                first.ts,
                parents[0] if parents else None,
                counts[_A],
                counts[_B],
            )
        )
    return tuple(sorted(listed, key=lambda each: (each.first, each.request_id)))


def _kind_of_request(leaves: Iterable[Leaf]) -> str:
    known = list(leaves)
    events = {leaf.event for leaf in known}
    if Event.CONSULT in events:
        return "query"
    if Event.RECALL in events:
        return "recall"
    return "access request" if all(leaf.epoch is None for leaf in known) else "case"


# What is told


class Severity(StrEnum):
    """How much a finding weighs; see the head of this module."""

    DISAGREEMENT = "disagreement"
    MISSING = "missing"
    NOTE = "note"


@dataclass(frozen=True, order=True)
class Place:
    """An entry: ``a`` or ``b`` for the log, and its index there."""

    log: str
    index: int


@dataclass(frozen=True)
class Finding:
    """Something that an auditor is told.

    Attributes:
        severity: How much it weighs.
        text: One sentence, or two, that name entries and fields and no value.
        entries: The entries that it is about.
    """

    severity: Severity
    text: str
    entries: tuple[Place, ...]


@dataclass(frozen=True)
class Entry:
    """One entry of a dossier.

    Attributes:
        place: Which log, and where in it.
        origin: Name of the log.
        leaf: The leaf.
        what: What happened, in one plain sentence.
        body: The opened body, None where it is not at hand.
    """

    place: Place
    origin: str
    leaf: Leaf
    what: str
    body: Mapping[str, Any] | None = field(repr=False)

    def to_json(self, *, bodies: bool = False) -> dict[str, Any]:
        """Return the entry; its body, which holds personal data, only on demand."""
        said: dict[str, Any] = {
            "log": self.place.log,
            "origin": self.origin,
            "index": self.place.index,
            "event": self.leaf.event.value,
            "time": encode_time(self.leaf.ts),
            "side": self.leaf.side.value if self.leaf.side else None,
            "what": self.what,
            "leaf": json.loads(encode_leaf(self.leaf)),
        }
        if bodies:
            said["body"] = None if self.body is None else dict(self.body)
        return said


@dataclass(frozen=True)
class Dossier:
    """What two logs say about one request.

    Attributes:
        request_id: Of the request.
        origins: Names of the two logs.
        entries: In time order.
        findings: The heaviest first.
    """

    request_id: bytes
    origins: tuple[str, str]
    entries: tuple[Entry, ...]
    findings: tuple[Finding, ...]

    @property
    def agrees(self) -> bool:
        """Whether there is nothing but notes."""
        return all(finding.severity is Severity.NOTE for finding in self.findings)

    def with_findings(self, more: Iterable[Finding]) -> Dossier:
        """Return the dossier with further findings."""
        return replace(self, findings=_sorted([*self.findings, *more]))

    def kept_checkpoints(self) -> tuple[tuple[Place, bytes], ...]:
        """Return the checkpoints of the owner's log that the querier kept, each with the entry that holds it.

        The owner's log has to continue each of them: ``audit.verify.verify_bundle`` takes them as ``earlier``.
        """
        return tuple(
            (entry.place, entry.body["owner_checkpoint"].encode("utf-8", "replace"))
            for entry in self.entries
            if entry.body is not None and isinstance(entry.body.get("owner_checkpoint"), str)
        )

    def to_json(self, *, bodies: bool = False) -> dict[str, Any]:
        """Return the dossier as JSON takes it.

        Args:
            bodies: Whether opened bodies are in it: *personal data*.
        """
        return {
            "request_id": self.request_id.hex(),
            "logs": [{"log": log, "origin": origin} for log, origin in zip((_A, _B), self.origins, strict=True)],
            "agrees": self.agrees,
            "findings": [
                {
                    "severity": finding.severity.value,
                    "text": finding.text,
                    "entries": [asdict(place) for place in finding.entries],
                }
                for finding in self.findings
            ],
            "entries": [entry.to_json(bodies=bodies) for entry in self.entries],
        }


def _sorted(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    weight = list(Severity)
    return tuple(sorted(findings, key=lambda finding: weight.index(finding.severity)))


# What belongs together


class _Step(StrEnum):
    """What an entry is in the course of a request; one log holds each step of a request at most once."""

    CONSULT = "query"
    CASE_OPEN = "opening"
    OUTCOME = "outcome"
    RECALL = "recall"
    ACKNOWLEDGED = "acknowledgement of the recall"
    ERASE = "erasure"


_STEPS: Mapping[tuple[Role, Event], _Step] = MappingProxyType(
    {
        (Role.QUERIER, Event.CONSULT): _Step.CONSULT,
        (Role.OWNER, Event.CONSULT): _Step.CONSULT,
        (Role.QUERIER, Event.CASE_OPEN): _Step.CASE_OPEN,
        (Role.OWNER, Event.CASE_OPEN): _Step.CASE_OPEN,
        (Role.OWNER, Event.CASE_OUTCOME): _Step.OUTCOME,
        (Role.QUERIER, Event.RECEIPT): _Step.OUTCOME,
        (Role.QUERIER, Event.RECALL): _Step.RECALL,
        (Role.OWNER, Event.RECALL): _Step.RECALL,
        (Role.QUERIER, Event.ERASE): _Step.ERASE,
        (Role.OWNER, Event.ERASE): _Step.ERASE,
    }
)


@dataclass(frozen=True)
class _Pair:
    """Two entries that belong together.

    Attributes:
        first: Who writes the first of the two; the other's cannot come before it.
        shared: Fields of the leaf that have to be equal.
        bodies: What has to be equal in the bodies: key at the querier, key at the owner, in words.
        alone: Severity, and what it means, where the second has no first.
        unanswered: What it means where the first has no second.
        patience: How long the second may be under way.
    """

    first: Role
    shared: tuple[str, ...]
    bodies: tuple[tuple[str, str, str], ...]
    alone: tuple[Severity, str]
    unanswered: str
    patience: timedelta


# What both sides write, and have to write the same. Not in it, on purpose:
# - legal_basis: the querier states it of a case (CASE_OPEN, RECEIPT); the owner writes none.
# - manifest_hash: the querier writes it of a query; the owner's counterpart is its SET_PUBLISH, with which it is
#   compared below.
# - source_commitment of an opening: neither writes one. Of a query, and of an outcome or a recall, both do, over the
#   same bytes.
# - actor_commitment of an outcome or a recall: neither writes one.
# - purpose of a recall: the owner alone writes it. Neither writes an epoch of a recall.
# - retention_class follows from the agreement; ts, erase_after and body_commit are of each log.
# A request for access has no epoch and its outcome no source_commitment, at either side: null equals null.
_PAIRS: Mapping[_Step, _Pair] = MappingProxyType(
    {
        _Step.CONSULT: _Pair(
            first=Role.QUERIER,
            shared=(
                "agreement",
                "mode",
                "policy_hash",
                "purpose",
                "epoch",
                "token_class",
                "n_padded",
                "batch_commitment",
                "source_commitment",
                "actor_commitment",
            ),
            bodies=(("access", "access", "under which grant of access it was asked"),),
            alone=(Severity.MISSING, "The owner answered a query that the querier's log does not admit."),
            unanswered="The querier logged a query that the owner's log does not know; it may never have been sent, "
            "or was refused.",
            # The owner writes before it answers, and the querier asks right after it wrote.
            patience=MAX_CLOCK_GAP,
        ),
        _Step.CASE_OPEN: _Pair(
            first=Role.QUERIER,
            shared=("agreement", "mode", "policy_hash", "purpose", "epoch", "actor_commitment"),
            bodies=(
                ("case_reference", "case_reference", "the case reference"),
                ("justification", "justification", "the justification"),
                ("offence", "offence", "the offence"),
                ("necessity", "necessity", "why it is necessary"),
                ("identifiers", "identifiers", "how many identifiers are asked with"),
                ("expires_ms", "expires_ms", "until when it is asked for"),
            ),
            alone=(Severity.MISSING, "The owner took in what the querier's log never opened."),
            unanswered="The querier opened what the owner's log never took in.",
            patience=COLLECTED_WITHIN,
        ),
        _Step.OUTCOME: _Pair(
            first=Role.OWNER,
            shared=("agreement", "mode", "policy_hash", "purpose", "epoch", "source_commitment"),
            bodies=(
                ("outcome", "decision", "the decision"),
                ("fields", "fields", "the names of the fields disclosed and received"),
                ("handling", "handling", "how it has to be handled"),
                ("identifiers", "identifiers", "how many identifiers were granted"),
                ("elements", "elements", "how many elements were granted"),
                ("expires_ms", "expires_ms", "until when it was granted"),
            ),
            alone=(Severity.DISAGREEMENT, "The querier received an outcome that the owner's log never gave."),
            unanswered="The querier's log does not show that the outcome was received.",
            patience=COLLECTED_WITHIN,
        ),
        _Step.RECALL: _Pair(
            first=Role.OWNER,
            shared=("agreement", "mode", "policy_hash", "parent_id", "source_commitment"),
            bodies=(
                ("case", "case", "which case is recalled"),
                ("cause", "cause", "the cause"),
                ("outcome", "outcome", "what the recall leaves of the disclosure"),
                ("fields", "fields", "the names of the fields"),
            ),
            alone=(Severity.DISAGREEMENT, "The querier received a recall that the owner's log never sent."),
            unanswered="The querier's log does not show that the recall arrived.",
            patience=COLLECTED_WITHIN,
        ),
        _Step.ACKNOWLEDGED: _Pair(
            first=Role.QUERIER,
            shared=("agreement", "mode", "policy_hash", "parent_id"),
            bodies=(("case", "case", "which case was recalled"), ("effect", "effect", "what the recall did")),
            alone=(
                Severity.DISAGREEMENT,
                "The owner was told of an acknowledgement that the querier's log never gave.",
            ),
            unanswered="The owner's log does not show that it was told of the acknowledgement.",
            patience=COLLECTED_WITHIN,
        ),
    }
)

_MEANS: Mapping[str, str] = MappingProxyType(
    {
        "agreement": "under which agreement it was done",
        "mode": "the mode of the agreement",
        "policy_hash": "the terms that were in force",
        "purpose": "the purpose",
        "epoch": "which published set it was about",
        "token_class": "the class of identifiers",
        "n_padded": "how many elements the query had",
        "batch_commitment": "the blinded elements themselves",
        "source_commitment": "the bytes behind it",
        "actor_commitment": "who acted",
        "parent_id": "the case that it follows from",
    }
)

_WHAT: Mapping[tuple[Role, str], str] = MappingProxyType(
    {
        (Role.QUERIER, "query"): "{name} wrote down a query, before it sent it.",
        (Role.OWNER, "query"): "{name} took the query in, before it answered.",
        (Role.QUERIER, "opening"): "{name} opened a case about a confirmed match.",
        (Role.OWNER, "opening"): "{name} took the case in.",
        (Role.OWNER, "outcome"): "{name} wrote the outcome of the case.",
        (Role.QUERIER, "outcome"): "{name} received the outcome and verified it.",
        (Role.QUERIER, "access opening"): "{name} asked for access for a case.",
        (Role.OWNER, "access opening"): "{name} took the request for access in.",
        (Role.OWNER, "access outcome"): "{name} wrote its decision about access.",
        (Role.QUERIER, "access outcome"): "{name} received the decision about access.",
        (Role.OWNER, "recall"): "{name} recalled what the case disclosed.",
        (Role.QUERIER, "recall"): "{name} received the recall.",
        (Role.QUERIER, "acknowledgement of the recall"): "{name} acknowledged the recall.",
        (Role.OWNER, "acknowledgement of the recall"): "{name} was told that the recall is acknowledged.",
        (Role.QUERIER, "erasure"): "{name} erased what it had received, or the case that nobody answered.",
        (Role.OWNER, "erasure"): "{name} erased what it had kept to be collected.",
    }
)


def join(a: Side, b: Side, request_id: bytes, now: datetime | None = None) -> Dossier:
    """Join what two logs say about one request.

    With a case come its recalls, which have an id of their own; with a request for access the queries that were asked
    under it, where bodies say which.

    Args:
        a: A log that verified.
        b: Another.
        request_id: Of a query, a case, a request for access or a recall.
        now: Aware; by it is told whether an erasure is overdue. None leaves that out.

    Raises:
        InputError: Neither log has an entry about it.
    """
    work = _Join(a, b, request_id, now)
    if not work.entries:
        raise InputError("request: neither log has an entry about it")
    work.check()
    return Dossier(request_id, (a.origin, b.origin), tuple(work.entries), _sorted(work.findings))


class _Join:
    """One run of ``join``."""

    def __init__(self, a: Side, b: Side, request_id: bytes, now: datetime | None) -> None:
        self._logs = {_A: a, _B: b}
        self._names = {_A: a.name, _B: b.name} if a.name != b.name else {_A: f"{a.name} (a)", _B: f"{b.name} (b)"}
        self._request_id = request_id
        self._now = now
        self.findings: list[Finding] = []
        selected = self._selected()
        self._roles = self._roles_of(selected)
        self.entries = sorted((self._entry(place, leaf) for place, leaf in selected), key=self._order)

    # Which entries

    def _selected(self) -> list[tuple[Place, Leaf]]:
        wanted = {self._request_id}
        for _, leaf, body in self._all():
            if leaf.request_id is None:
                continue
            # Where the owner gets no notice only the querier's recall names the case: the id finds the owner's.
            of_case = leaf.parent_id == self._request_id
            of_access = leaf.event is Event.CONSULT and (body or {}).get("access") == self._request_id.hex()
            if of_case or of_access:
                wanted.add(leaf.request_id)
        return [
            (place, leaf)
            for place, leaf, _ in self._all()
            if leaf.request_id in wanted or leaf.parent_id == self._request_id
        ]

    def _all(self) -> Iterator[tuple[Place, Leaf, Mapping[str, Any] | None]]:
        for log, side in self._logs.items():
            for index, leaf in side.leaves.items():
                # What one side's oversight read or graded has no counterpart.
                if leaf.event not in OF_OVERSIGHT:
                    yield Place(log, index), leaf, side.bodies.get(index)

    @staticmethod
    def _roles_of(selected: Sequence[tuple[Place, Leaf]]) -> dict[str, Role]:
        """The role that most entries of each log have; of a log without entries, the one that is left."""
        roles: dict[str, Role] = {}
        for log in (_A, _B):
            said = Counter(leaf.side for place, leaf in selected if place.log == log and leaf.side is not None)
            if said:
                roles[log] = said.most_common(1)[0][0]
        for log, other in ((_A, _B), (_B, _A)):
            if log not in roles and other in roles:
                roles[log] = Role.OWNER if roles[other] is Role.QUERIER else Role.QUERIER
        return roles

    def _entry(self, place: Place, leaf: Leaf) -> Entry:
        side = self._logs[place.log]
        step = self._step(place, leaf)
        kind = "" if step is None else step.value
        if leaf.epoch is None and step in {_Step.CASE_OPEN, _Step.OUTCOME}:
            kind = f"access {kind}"
        role = self._roles.get(place.log)
        text = _WHAT.get((role, kind)) if role is not None else None
        what = (text or "{name} wrote an entry that does not belong here.").format(name=self._names[place.log])
        return Entry(place, side.origin, leaf, what, side.bodies.get(place.index))

    def _step(self, place: Place, leaf: Leaf) -> _Step | None:
        role = self._roles.get(place.log)
        step = _STEPS.get((role, leaf.event)) if role is not None else None
        # Sending and receiving a recall bind its bytes; acknowledging it binds none.
        return _Step.ACKNOWLEDGED if step is _Step.RECALL and leaf.source_commitment is None else step

    def _order(self, entry: Entry) -> tuple[datetime, int, int, int]:
        """By time, in a second by what has to come first, and within one log as it was written."""
        step = self._step(entry.place, entry.leaf)
        rank = len(_Step) if step is None else (*_PAIRS, _Step.ERASE).index(step)
        first = step is not None and step in _PAIRS and self._roles.get(entry.place.log) is _PAIRS[step].first
        # An erasure that a recall asked for is written before the acknowledgement.
        rank = rank * 2 - 3 if step is _Step.ERASE else rank * 2
        return entry.leaf.ts, rank, not first, entry.place.index

    # What is told

    def _add(self, severity: Severity, text: str, *entries: Entry) -> None:
        self.findings.append(Finding(severity, text, tuple(entry.place for entry in entries)))

    def _at(self, entry: Entry) -> str:
        return f"entry {entry.place.index} of {self._names[entry.place.log]} ({entry.leaf.event.value})"

    def _start(self, entry: Entry) -> str:
        """As ``_at``, at the start of a sentence."""
        return f"E{self._at(entry)[1:]}"

    def _both(self, one: Entry, other: Entry) -> str:
        return f"{self._start(one)} and {self._at(other)}"

    def check(self) -> None:
        """Tell what there is to tell."""
        if not self._check_roles():
            return
        steps: dict[tuple[bytes | None, _Step], dict[str, list[Entry]]] = {}
        for entry in self.entries:
            step = self._step(entry.place, entry.leaf)
            if step is None:
                self._add(
                    Severity.DISAGREEMENT,
                    f"{self._start(entry)} is of an event that the {self._roles[entry.place.log]} of an "
                    "agreement does not write about a request.",
                    entry,
                )
                continue
            logs = steps.setdefault((entry.leaf.request_id, step), {_A: [], _B: []})
            logs[entry.place.log].append(entry)
        for (request_id, step), logs in steps.items():
            self._check_once(step, logs)
            if step in _PAIRS:
                self._check_pair(request_id, step, logs, steps)
        self._check_erasure(steps)

    def _check_roles(self) -> bool:
        """Tell whether these are one querier and one owner; return whether anything else can be compared."""
        a, b = self._logs.values()
        if a.origin == b.origin:
            self._add(
                Severity.DISAGREEMENT,
                "Both bundles are of one log, so nothing was compared: take one of the querier and one of the owner.",
                *self.entries,
            )
            return False
        if not self._roles or self._roles[_A] is self._roles[_B]:
            role = self._roles[_A].value if self._roles else "no side"
            self._add(
                Severity.DISAGREEMENT,
                f"The entries of both logs say {role} (field side), where one has to be querier and the other owner; "
                "nothing else was compared.",
                *self.entries,
            )
            return False
        for entry in self.entries:
            if entry.leaf.side is not self._roles[entry.place.log]:
                self._add(
                    Severity.DISAGREEMENT,
                    f"{self._start(entry)} has another side than the other entries of its log about this "
                    "request (field side).",
                    entry,
                )
        parties = self._parties()
        for log, role in self._roles.items():
            if parties is not None and self._logs[log].name != parties[role]:
                self._add(
                    Severity.DISAGREEMENT,
                    f"The log of {self._names[log]} stands for the {role.value}, and the agreement that the entries "
                    "name has another (field agreement, and the origin of the log).",
                    *(entry for entry in self.entries if entry.place.log == log),
                )
        return True

    def _parties(self) -> Mapping[Role, str] | None:
        """Codes of querier and owner, from the code of the agreement: ``TEMPLATE:QUERIER-OWNER``."""
        codes = Counter(entry.leaf.agreement for entry in self.entries if entry.leaf.agreement)
        if not codes:
            return None
        querier, dash, owner = codes.most_common(1)[0][0].rpartition(":")[2].partition("-")
        return {Role.QUERIER: querier, Role.OWNER: owner} if dash else None

    def _check_once(self, step: _Step, logs: Mapping[str, Sequence[Entry]]) -> None:
        for log, entries in logs.items():
            if len(entries) > 1:
                self._add(
                    Severity.DISAGREEMENT,
                    f"{self._names[log]} has {len(entries)} entries of one {step.value}, and there can be one only: "
                    f"{', '.join(self._at(entry) for entry in entries)}.",
                    *entries,
                )

    # Pairs

    def _check_pair(
        self,
        request_id: bytes | None,
        step: _Step,
        logs: Mapping[str, Sequence[Entry]],
        steps: Mapping[tuple[bytes | None, _Step], Mapping[str, Sequence[Entry]]],
    ) -> None:
        pair = _PAIRS[step]
        first_log = _A if self._roles[_A] is pair.first else _B
        second_log = _B if first_log == _A else _A
        first, second = (next(iter(logs[log]), None) for log in (first_log, second_log))
        silent = self._is_silent(request_id, steps)
        if step is _Step.ACKNOWLEDGED and silent:
            # There the clock tells the owner, and not what a person did.
            return
        if step is _Step.RECALL and not silent and (request_id, _Step.ACKNOWLEDGED) not in steps:
            known = [entry for entries in logs.values() for entry in entries]
            self._add(Severity.NOTE, f"{self._start(known[0])}: nobody has acknowledged this recall so far.", *known)
        if first is not None and second is not None:
            if first.leaf.ts - second.leaf.ts > MAX_CLOCK_GAP:
                self._add(
                    Severity.DISAGREEMENT,
                    f"{self._both(second, first)} are in the wrong order (field ts): the first of them cannot come "
                    f"before the second, and does by more than {MAX_CLOCK_GAP.seconds} seconds. A clock is wrong, or "
                    "an entry was written afterwards.",
                    second,
                    first,
                )
            self._check_leaves(step, first, second, steps)
            self._check_bodies(step, first, second)
        elif second is not None:
            self._alone(pair, second, first_log)
        elif first is not None:
            self._unanswered(step, first, second_log, steps)
        if step is _Step.CONSULT:
            self._check_set(*logs.values())

    def _is_silent(
        self,
        request_id: bytes | None,
        steps: Mapping[tuple[bytes | None, _Step], Mapping[str, Sequence[Entry]]],
    ) -> bool:
        """Whether the owner gets no notice: then its recalls name no case."""
        owner = _A if self._roles[_A] is Role.OWNER else _B
        sent = steps.get((request_id, _Step.RECALL), {}).get(owner, ())
        return any(entry.leaf.parent_id is None for entry in sent)

    def _alone(self, pair: _Pair, entry: Entry, other: str) -> None:
        severity, means = pair.alone
        newest = self._logs[other].newest
        ends = newest is None or newest < entry.leaf.ts
        self._add(
            severity,
            f"{self._start(entry)} has no counterpart in the log of {self._names[other]}. {means}"
            + (f" The bundle of {self._names[other]} ends before: ask for a newer one." if ends else ""),
            entry,
        )

    def _unanswered(
        self,
        step: _Step,
        entry: Entry,
        other: str,
        steps: Mapping[tuple[bytes | None, _Step], Mapping[str, Sequence[Entry]]],
    ) -> None:
        pair, newest = _PAIRS[step], self._logs[other].newest
        # What has gone on since cannot be under way.
        gone_on = step is _Step.CASE_OPEN and (entry.leaf.request_id, _Step.OUTCOME) in steps
        recent = newest is not None and entry.leaf.ts > newest - pair.patience and not gone_on
        self._add(
            Severity.NOTE if recent else Severity.MISSING,
            f"{self._start(entry)} has no counterpart in the log of {self._names[other]}. {pair.unanswered}"
            + (" It may be under way: ask for a newer bundle." if recent else ""),
            entry,
        )

    def _check_leaves(
        self,
        step: _Step,
        first: Entry,
        second: Entry,
        steps: Mapping[tuple[bytes | None, _Step], Mapping[str, Sequence[Entry]]],
    ) -> None:
        for name in _PAIRS[step].shared:
            one, other = getattr(first.leaf, name), getattr(second.leaf, name)
            if one == other or (name == "parent_id" and None in {one, other}):
                continue
            severity, why = Severity.DISAGREEMENT, ""
            if name == "policy_hash" and step is not _Step.CONSULT and self._announced(first, second):
                # A query is bound to the terms of the set that it asks; a case may see them change.
                severity, why = Severity.NOTE, " Both logs announce both: the terms changed between the two entries."
            if name == "epoch" and step is _Step.CASE_OPEN and self._sent_later(first, second, steps):
                severity = Severity.NOTE
                why = " Where the owner gets no notice a case may be sent in a later epoch than it was opened in."
            self._add(severity, f"{self._both(first, second)} differ in {name}: {_MEANS[name]}.{why}", first, second)

    def _announced(self, *entries: Entry) -> bool:
        hashes = {entry.leaf.policy_hash for entry in entries}
        return all(
            hashes
            <= {
                leaf.policy_hash
                for leaf in side.leaves.values()
                if leaf.event is Event.POLICY_CHANGE and leaf.agreement == entries[0].leaf.agreement
            }
            for side in self._logs.values()
        )

    @staticmethod
    def _sent_later(
        opened: Entry,
        taken_in: Entry,
        steps: Mapping[tuple[bytes | None, _Step], Mapping[str, Sequence[Entry]]],
    ) -> bool:
        before, after = opened.leaf.epoch, taken_in.leaf.epoch
        if before is None or after is None or after < before:
            return False
        outcomes = steps.get((taken_in.leaf.request_id, _Step.OUTCOME), {})
        return all(entry.leaf.epoch == after for entries in outcomes.values() for entry in entries)

    def _check_set(self, *logs: Sequence[Entry]) -> None:
        """The set that a query names has to be one that the owner's log published."""
        owner = _A if self._roles[_A] is Role.OWNER else _B
        for entry in (entry for entries in logs for entry in entries if entry.place.log != owner):
            leaf = entry.leaf
            if not any(
                published.event is Event.SET_PUBLISH
                and published.manifest_hash == leaf.manifest_hash
                and published.agreement == leaf.agreement
                and published.epoch == leaf.epoch
                for published in self._logs[owner].leaves.values()
            ):
                self._add(
                    Severity.DISAGREEMENT,
                    f"{self._start(entry)} names a set (field manifest_hash) that no SET_PUBLISH entry of "
                    f"{self._names[owner]} published under this agreement and epoch.",
                    entry,
                )

    # Bodies

    def _check_bodies(self, step: _Step, first: Entry, second: Entry) -> None:
        first_asked = _PAIRS[step].first is Role.QUERIER
        querier, owner = (first, second) if first_asked else (second, first)
        self._check_peer(owner)
        absent = [self._at(entry) for entry in (first, second) if entry.body is None]
        if querier.body is None or owner.body is None:
            self._add(
                Severity.NOTE,
                f"The bodies of {self._at(first)} and {self._at(second)} could not be compared, for not both are "
                f"here: {' and '.join(absent)} came without.",
                first,
                second,
            )
            return
        # A cover asks about nothing; what it says in place of a case stands in no body of the querier.
        cover = querier.body.get("cover") is True and step is _Step.CASE_OPEN
        for at_querier, at_owner, means in () if cover else _PAIRS[step].bodies:
            if querier.body.get(at_querier) != owner.body.get(at_owner):
                names = at_querier if at_querier == at_owner else f"{at_querier} and {at_owner}"
                self._add(
                    Severity.DISAGREEMENT,
                    f"The bodies of {self._at(querier)} and {self._at(owner)} differ in {names}: {means}.",
                    querier,
                    owner,
                )
        if "owner_leaf" in querier.body and querier.body["owner_leaf"] != owner.place.index:
            self._add(
                Severity.DISAGREEMENT,
                f"The body of {self._at(querier)} names another entry of the owner's log (owner_leaf) than "
                f"{self._at(owner)}.",
                querier,
                owner,
            )

    def _check_peer(self, owner: Entry) -> None:
        """Whom the owner dealt with has to be the querier of the agreement."""
        parties = self._parties()
        for name in ("peer", "recipient"):
            if (
                parties
                and owner.body is not None
                and owner.body.get(name, parties[Role.QUERIER]) != parties[Role.QUERIER]
            ):
                self._add(
                    Severity.DISAGREEMENT,
                    f"The body of {self._at(owner)} names another {name} than the querier of the agreement.",
                    owner,
                )

    # Erasure

    def _check_erasure(self, steps: Mapping[tuple[bytes | None, _Step], Mapping[str, Sequence[Entry]]]) -> None:
        nothing: Mapping[str, Sequence[Entry]] = {_A: (), _B: ()}
        erased = steps.get((self._request_id, _Step.ERASE), nothing)
        outcomes = steps.get((self._request_id, _Step.OUTCOME), nothing)
        for log, role in self._roles.items():
            of_log = [entry for entry in self.entries if entry.place.log == log]
            bound = [*outcomes[log]]
            if role is Role.QUERIER:
                # A recall may have replaced what is erased in the end.
                bound += [e for e in of_log if self._step(e.place, e.leaf) is _Step.RECALL]
            for entry in erased[log]:
                why = entry.body.get("reason") if entry.body else None
                self._add(
                    Severity.NOTE,
                    f"{self._start(entry)}: erased on {encode_time(entry.leaf.ts)}"
                    + {
                        "retention": ", at the end of retention.",
                        "window": ", at the end of the case window.",
                        "recall": ", for it was recalled.",
                    }.get(str(why), "."),
                    entry,
                )
                if outcomes[log] and entry.leaf.source_commitment not in {e.leaf.source_commitment for e in bound}:
                    self._add(
                        Severity.DISAGREEMENT,
                        f"{self._start(entry)} says of something else than {self._at(outcomes[log][0])} that "
                        "it was erased (field source_commitment).",
                        entry,
                        outcomes[log][0],
                    )
            if not erased[log]:
                self._check_due(outcomes[log], of_log)

    def _check_due(self, outcomes: Sequence[Entry], of_log: Sequence[Entry]) -> None:
        """Of one log without ERASE: whether there should be one."""
        for entry in outcomes:
            # An answer about access discloses nothing. The time is that of the leaf: what was disclosed is kept as
            # long as the body of its entry, from when it was served, which is not after a RECEIPT; the owner's copy
            # goes much earlier.
            held = entry.leaf.source_commitment is not None
            if held and self._now is not None and self._now > entry.leaf.erase_after:
                self._add(
                    Severity.MISSING,
                    f"What {self._at(entry)} is about was to be erased by {encode_time(entry.leaf.erase_after)} (field "
                    f"erase_after), and the log of {self._names[entry.place.log]} has no ERASE entry.",
                    entry,
                )
        for entry in of_log:
            told = (entry.body or {}).get("effect") == "erased" and self._roles[entry.place.log] is Role.QUERIER
            told = told and entry.leaf.parent_id == self._request_id
            if told and self._step(entry.place, entry.leaf) is _Step.ACKNOWLEDGED:
                self._add(
                    Severity.MISSING,
                    f"{self._start(entry)} says that what was disclosed is erased (effect), and the log of "
                    f"{self._names[entry.place.log]} has no ERASE entry about the case.",
                    entry,
                )
