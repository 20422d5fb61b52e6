"""What the console asks of a node with 100,000 records and matches and 1,000,000 entries in its log, in milliseconds.

The store is made once, in the directory that is given, and used again as long as its schema is the same. Sets are real
ones, taken from nodes that own nothing; records, matches, cases and the log are written straight into the tables. The
log is well-formed: every leaf has its form, its index row and the tree nodes that it completes, and a checkpoint signs
all of it. Sealed payloads are the same few everywhere, and bodies of the log cannot be opened.

    python benchmarks/console_store.py DIRECTORY
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import sqlalchemy as sa

from connector_psi.audit.entries import Event, LeafDraft, RetentionClass, Side, encode_leaf
from connector_psi.audit.merkle import TreeFrontier, leaf_hash
from connector_psi.domain.clock import SystemClock, SystemRandom
from connector_psi.domain.records import Field, Identifier, IdentifierType, Record, SourceSystem
from connector_psi.errors import UnavailableError
from connector_psi.node import logwords, ports, setup
from connector_psi.node.node import OWNER, QUERIER, Bound, Node
from connector_psi.node.quality import manageability
from connector_psi.node.searching import Criteria
from connector_psi.node.service import Service
from connector_psi.pki import PersonIdentity, Role
from connector_psi.storage import records as record_store
from connector_psi.storage import schema
from connector_psi.storage.cases import CaseRow, put_case
from connector_psi.storage.daily import DAY_S
from connector_psi.storage.logindex import index_row

NODE = "ics2"
OTHERS = ("sis", "europol", "afis", "police", "coastguard")
RECORDS, MATCHES, ENTRIES, CASES = 100_000, 100_000, 1_000_000, 5_000
DAYS = 25
"""The log is so old; a node that was down for longer would doubt its clock."""
CHUNK = 20_000
OFFICERS, FILES = 40, 4_000
RUNS = 7
LIMIT_MS = 100
DPO = PersonIdentity(NODE, Role.DPO, "dpo1")
AUDITOR = PersonIdentity(NODE, Role.AUDITOR, "auditor1")


class _EarlyClock(SystemClock):
    """A clock that is ``DAYS`` behind, so that the log begins there."""

    def now(self) -> datetime:
        return super().now() - timedelta(days=DAYS)


class _Owner:
    """A peer as an owner of sets; implements what of ``ports.OwnerPort`` taking one needs."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def get_manifest(self, agreement: str) -> ports.ManifestAnswer:
        return self._service.publishing.get_manifest(NODE, agreement)

    def read_set(self, manifest_hash: bytes, file: str, offset: int) -> Iterator[bytes]:
        return self._service.publishing.read_set(NODE, manifest_hash, file, offset)


class _Near:
    """Implements ``ports.Connector`` over services of this process."""

    def __init__(self, services: dict[str, Service]) -> None:
        self._services = services

    def owner(self, authority: str) -> Any:  # noqa: ANN401 - a part of an OwnerPort
        if authority not in self._services:
            raise UnavailableError(f"peer {authority}: away")
        return _Owner(self._services[authority])

    def witness(self, name: str) -> ports.WitnessPort:
        raise UnavailableError(f"witness {name}: away")

    def forget(self, authority: str) -> None:
        pass

    def close(self) -> None:
        pass


def open_node(directory: Path) -> Service:
    """Open the node that ``build`` made; its peers are away."""
    return Service(directory / NODE, lambda _node: _Near({}))


def build(directory: Path) -> None:
    """Make the store in ``directory / "ics2"``, unless it is there.

    Args:
        directory: Empty, not there, or one that this made before.
    """
    marker = directory / "made"
    wanted = f"{schema.SCHEMA_VERSION} {RECORDS} {MATCHES} {ENTRIES} {CASES} {sorted(_shape())}"
    if marker.exists() and marker.read_text() == wanted:
        return
    if directory.exists() and any(directory.iterdir()):
        raise SystemExit(f"{directory}: was made with another schema or is something else; remove it first")
    directory.mkdir(parents=True, exist_ok=True)
    for n, code in enumerate((NODE, *OTHERS)):
        setup.init_node(
            directory / code,
            authority=code,
            profile=code,
            pkidir=directory / "pki",
            listen=f"127.0.0.1:{7100 + n}",
            local=f"127.0.0.1:{7200 + n}",
            clock=_EarlyClock(),
            random=SystemRandom(),
        )
    early = Service(directory / NODE, lambda _node: _Near({}), _EarlyClock())
    try:
        for code in OTHERS:
            early.peering.add((directory / code / "descriptor.json").read_bytes())
        _fill_log(early.node, random.Random(1))
    finally:
        early.close()
    _take_sets(directory)
    service = open_node(directory)
    try:
        draw = random.Random(2)
        _fill_records(service.node, draw)
        _fill_matches(service.node, draw)
        _fill_cases(service.node, draw)
        service.node.checkpoint()
    finally:
        service.close()
    marker.write_text(wanted)


def _shape() -> list[str]:
    """The indexes, which a store of an earlier day of one schema version may lack."""
    return [str(index.name) for table in schema.metadata.tables.values() for index in table.indexes]


def _take_sets(directory: Path) -> None:
    owners: dict[str, Service] = {}
    service = Service(directory / NODE, lambda _node: _Near(owners))
    try:
        for code in OTHERS:
            owners[code] = Service(directory / code, lambda _node: _Near({}))
            owners[code].peering.add((directory / NODE / "descriptor.json").read_bytes())
            owners[code].publish()
        for bound in service.node.agreements(QUERIER):
            with suppress(UnavailableError):
                service.querying.take_newest(bound.code)
    finally:
        service.close()
        for owner in owners.values():
            owner.close()


# The log


@dataclass(frozen=True)
class _Said:
    draft: dict[str, Any]
    body: dict[str, Any]


def _fill_log(node: Node, draw: random.Random) -> None:
    """Append so many entries that there are ``ENTRIES``, spread over the days from the first one until now."""
    begin = node.clock.now().replace(microsecond=0)
    frontier = TreeFrontier()
    with node.store.read() as tx:
        size = node.entries.size(tx)
        for raw in node.entries.read_leaves(tx, 0, size):
            frontier.add(leaf_hash(raw))
    key_id, _ = node.keyring.month_keys().get_or_create(
        f"{begin + timedelta(days=3 * 365):%Y-%m}", RetentionClass.CUSTOMS_NATIONAL.value
    )
    asked, owned = node.agreements(QUERIER), node.agreements(OWNER)
    counted: Counter[tuple[int, str, str]] = Counter()
    step_s = DAYS * DAY_S / (ENTRIES - size)
    for start in range(size, ENTRIES, CHUNK):
        rows: dict[str, list[dict[str, Any]]] = {name: [] for name in ("leaves", "nodes", "bodies", "index", "words")}
        for index in range(start, min(start + CHUNK, ENTRIES)):
            said, bound = _entry(draw, asked, owned)
            ts = begin + timedelta(seconds=int((index - size) * step_s))
            leaf = LeafDraft(
                retention_class=RetentionClass.CUSTOMS_NATIONAL,
                side=bound.side if bound else None,
                agreement=bound.code if bound else None,
                policy_hash=bound.policy_hash if bound else node.policy.pack_hash,
                **said.draft,
            ).complete(ts=ts, erase_after=ts + timedelta(days=1096), body_commit=draw.randbytes(32))
            raw = encode_leaf(leaf)
            nodes = frontier.add(leaf_hash(raw))
            rows["leaves"].append({"idx": index, "leaf": raw})
            rows["nodes"] += [{"level": level, "idx": i, "hash": digest} for level, i, digest in nodes]
            rows["bodies"].append(
                {
                    "idx": index,
                    "key_id": key_id,
                    "wrapped_key": bytes(40),
                    "sealed": bytes(180),
                    "erase_after_s": int(leaf.erase_after.timestamp()),
                }
            )
            rows["index"].append(index_row(index, leaf))
            rows["words"] += [{"word": word, "idx": index} for word in logwords.words_of(node.store, said.body)]
            counted[int(ts.timestamp()) // DAY_S, leaf.event.value, bound.code if bound else ""] += 1
            for what in _counted_beside(leaf.event, draw):
                counted[int(ts.timestamp()) // DAY_S, what, bound.code if bound else ""] += 1
        with node.store.write() as tx:
            tables = schema.log_leaves, schema.log_nodes, schema.log_bodies, schema.log_index, schema.log_words
            for table, made in zip(tables, rows.values(), strict=True):
                if made:
                    tx.execute(sa.insert(table), made)
    with node.store.write() as tx:
        tx.execute(sa.delete(schema.daily))
        tx.execute(
            sa.insert(schema.daily),
            [{"day": d, "what": w, "agreement": a, "count": n} for (d, w, a), n in counted.items()],
        )


def _counted_beside(event: Event, draw: random.Random) -> list[str]:
    return {
        Event.COLLECT: ["declarations"],
        Event.REVIEW: [draw.choice(("hit", "dismissed")), "match"],
        Event.RECEIPT: ["disclosed"],
        Event.CASE_OUTCOME: ["released"],
    }.get(event, [])


def _entry(draw: random.Random, asked: Sequence[Bound], owned: Sequence[Bound]) -> tuple[_Said, Bound | None]:
    """What an entry says, in the shares that a node at work has of each."""
    officer = f"urn:connector-psi:person:{NODE}:officer:officer{draw.randrange(OFFICERS)}"
    file = f"FILE-{draw.randrange(FILES)}"
    share = draw.random()
    if share < 0.20:
        return _Said({"event": Event.COLLECT}, {"operation": "collect"}), None
    if share < 0.205:
        person = {"actor": f"urn:connector-psi:person:{NODE}:dpo:dpo1"}
        event = draw.choice((Event.LOG_READ, Event.EXPORT))
        return _Said({"event": event, "purpose": "cpsi:Oversight"}, person), None
    about = draw.choice(asked if share < 0.90 else owned)
    draft: dict[str, Any] = {"purpose": about.agreement.purpose.value, "request_id": draw.randbytes(16), "epoch": 1}
    if share < 0.70:
        draft |= {"event": Event.CONSULT, "n_padded": 256, "batch_commitment": draw.randbytes(32)}
        return _Said(draft, {}), about
    if share < 0.80:
        del draft["request_id"]
        match = f"{draw.randrange(MATCHES):032x}"
        return _Said(draft | {"event": Event.REVIEW}, {"officer": officer, "match": match}), about
    if share < 0.85:
        body = {"executing_officer": officer, "case_reference": file, "match": f"{draw.randrange(MATCHES):032x}"}
        return _Said(draft | {"event": Event.CASE_OPEN}, body), about
    if share < 0.90:
        return _Said(draft | {"event": Event.RECEIPT, "source_commitment": draw.randbytes(32)}, {}), about
    words = {} if about.agreement.owner_notice == "none" else {"case_reference": file, "approvals": [{"by": officer}]}
    return _Said(draft | {"event": draw.choice((Event.CASE_OPEN, Event.CASE_OUTCOME))}, words), about


# Records, matches, cases


def _fill_records(node: Node, draw: random.Random) -> None:
    now, categories = node.now_ms(), ("ics2.ens", "ncts.transit", "aes.export")
    sealed = []
    for n in range(16):
        record = Record(
            source=SourceSystem.ICS2,
            source_ref=f"M{n}",
            category="ics2.ens",
            identifiers=tuple(
                Identifier(IdentifierType.CONTAINER, f"MSKU{1000000 + n}", f"/box[{n}]") for n in range(6)
            ),
            fields={Field.MRN: (f"26BE00000000000{n:03d}",)},
            message_digest=bytes(32),
        )
        with node.store.write() as tx:
            record_store.put(node.store, tx, [record], now)
            sealed.append(
                bytes(
                    tx.execute(
                        sa.select(schema.records.c.sealed).order_by(schema.records.c.id.desc()).limit(1)
                    ).scalar_one()
                )
            )
    for start in range(16, RECORDS, CHUNK):
        rows = [
            {
                "ref_index": draw.randbytes(32),
                "message_index": draw.randbytes(32),
                "version": 0,
                "change_seq": number + 1,
                "content_mac": draw.randbytes(32),
                "category": draw.choice(categories),
                "state": "live" if draw.random() < 0.9 else "withdrawn",
                "hidden": False,
                "valid_until_ms": None,
                "registered_ms": now - draw.randrange(DAYS * DAY_S * 1000),
                "changed_ms": now,
                "sealed": sealed[number % len(sealed)],
            }
            for number in range(start, min(start + CHUNK, RECORDS))
        ]
        with node.store.write() as tx:
            tx.execute(sa.insert(schema.records), rows)
    with node.store.write() as tx:
        # All of them were asked with.
        tx.execute(sa.update(schema.taken_sets).values(cursor_seq=RECORDS, turn_seq=RECORDS, turn_done=True))


def _fill_matches(node: Node, draw: random.Random) -> None:
    now = node.now_ms()
    with node.store.read() as tx:
        sets = [(row.agreement, row.epoch) for row in tx.execute(sa.select(schema.taken_sets))]
    payload = {
        "ticket_id": "00" * 16,
        "redeem": ["11" * 8],
        "types": ["container"],
        "evidence": [["container", "/box[1]", ""]],
        "band": "",
        "corroborators": [],
        "category": "sis.38.g",
        "record_ref": "M1",
    }
    people = {"people": [f"urn:connector-psi:person:{NODE}:officer:officer1"]}
    sealed = {
        state: node.store.seal("matches", payload | (people if state in {"confirmed", "dismissed"} else {}))
        for state in ("new", "confirmed", "dismissed", "gone")
    }
    for start in range(0, MATCHES, CHUNK):
        rows = []
        for number in range(start, min(start + CHUNK, MATCHES)):
            (agreement, epoch), state = draw.choice(sets), draw.choices(tuple(sealed), (40, 25, 25, 10))[0]
            found_ms = now - draw.randrange(DAYS * DAY_S * 1000)
            rows.append(
                {
                    "match_id": f"{number:032x}",
                    "identity": draw.randbytes(32),
                    "agreement": agreement,
                    # Of some the set is gone.
                    "epoch": epoch if draw.random() < 0.9 else 0,
                    "record_id": draw.randrange(1, RECORDS),
                    "state": state,
                    "found_ms": found_ms,
                    "decided_ms": min(now, found_ms + draw.randrange(DAY_S * 1000))
                    if state in {"confirmed", "dismissed"}
                    else None,
                    "change_seq": number + 1,
                    "sealed": sealed[state],
                }
            )
        with node.store.write() as tx:
            tx.execute(sa.insert(schema.matches), rows)


def _fill_cases(node: Node, draw: random.Random) -> None:
    now = node.now_ms()
    asked, owned = node.agreements(QUERIER), [b for b in node.agreements(OWNER) if b.agreement.owner_notice != "none"]
    with node.store.write() as tx:
        for number in range(CASES):
            side = "querier" if number % 2 or not owned else "owner"
            bound = draw.choice(asked if side == "querier" else owned)
            states = (
                ("pending", "disclosed", "not_disclosed") if side == "querier" else ("awaiting_decision", "refused")
            )
            opened = now - draw.randrange(DAYS * DAY_S * 1000)
            row = CaseRow(
                side=side,
                peer=bound.peer,
                request_id=draw.randbytes(16),
                agreement=bound.code,
                epoch=1,
                state=draw.choice(states),
                opened_ms=opened,
                due_ms=opened + 72 * 3_600_000,
                next_ms=1 << 62,
                match_id=f"{draw.randrange(MATCHES):032x}" if side == "querier" else None,
                leaf_index=None,
                quiet=False,
                payload={
                    "ticket_id": "00" * 16,
                    "redeem": ["11" * 8] if side == "querier" else "11" * 8,
                    "purpose": bound.agreement.purpose.value,
                    "legal_basis": bound.agreement.legal_basis[0].value,
                    "case_reference": f"FILE-{number}",
                    "justification": "the box is on its way to the port",
                    "actors": ["22" * 32] if side == "querier" else "22" * 32,
                    "approvals": [],
                    "types": ["container"],
                    "record_ref": "M1",
                    "ordered_by": "",
                    "opened_by": "",
                },
            )
            put_case(node.store, tx, row, b"\0" * 32 if side == "owner" else None)


# What is measured


def measure(directory: Path) -> dict[str, float]:
    """Return the median milliseconds of each use case on the store that ``build`` made."""
    build(directory)
    service = open_node(directory)
    try:
        return {name: _median_ms(call) for name, call in _calls(service).items()}
    finally:
        service.close()


def _median_ms(call: Callable[[], object]) -> float:
    took = []
    for _ in range(RUNS):
        begun = time.perf_counter()
        call()
        took.append((time.perf_counter() - begun) * 1000)
    return round(median(took), 1)


def _calls(service: Service) -> dict[str, Callable[[], object]]:
    node, review, searching = service.node, service.review, service.searching
    now = datetime.now(tz=UTC)
    with node.store.read() as tx:
        request = bytes(
            tx.execute(
                sa.select(schema.log_index.c.request_id)
                .where(schema.log_index.c.idx > ENTRIES // 2)
                .limit(1)
                .where(schema.log_index.c.request_id.is_not(None))
            ).scalar_one()
        )
    pages = [""]
    for _ in range(20):
        pages.append(review.inbox(after=pages[-1], limit=200).next)
    code = node.agreements(QUERIER)[0].code
    criteria = {
        "nothing": Criteria(),
        "event": Criteria(events={Event.REVIEW}),
        "rare event": Criteria(events={Event.CONFIG}),
        "side": Criteria(side=Side.OWNER),
        "agreement": Criteria(agreement=code),
        "template": Criteria(agreement=code.partition(":")[0]),
        "purpose": Criteria(purpose=node.agreements(QUERIER)[0].agreement.purpose.value),
        "event, agreement that have nothing in common": Criteria(events={Event.COLLECT}, agreement=code),
        "last day": Criteria(since=now - timedelta(days=1)),
        "an hour long ago": Criteria(since=now - timedelta(days=20), until=now - timedelta(days=20, hours=-1)),
        "until long ago, event": Criteria(until=now - timedelta(days=20), events={Event.REVIEW}),
        "an hour long ago, event": Criteria(
            since=now - timedelta(days=24), until=now - timedelta(days=24, hours=-1), events={Event.LOG_READ}
        ),
        "officer": Criteria(officer="officer1"),
        "officer, rare event": Criteria(officer="officer1", events={Event.LOG_READ}),
        "case": Criteria(case_reference="FILE-1"),
        "officer, case": Criteria(officer="officer1", case_reference="FILE-1"),
        "match": Criteria(match_id=f"{1:032x}"),
        "request": Criteria(request_id=request),
        "unknown request": Criteria(request_id=bytes(16)),
        "everything": Criteria(
            events={Event.CASE_OPEN},
            side=Side.QUERIER,
            agreement=code,
            officer="officer1",
            since=now - timedelta(days=20),
            until=now,
        ),
    }
    return {
        "inbox": review.inbox,
        "inbox, 20 pages further": lambda: review.inbox(after=pages[-1]),
        "inbox, confirmed": lambda: review.inbox(state="confirmed", limit=200),
        "inbox, agreement": lambda: review.inbox(agreement=code),
        **{f"search (dpo): {name}": lambda each=each: searching.search(DPO, each) for name, each in criteria.items()},  # type: ignore[misc]
        **{
            f"search (auditor): {name}": lambda each=each: searching.search(AUDITOR, each)  # type: ignore[misc]
            for name, each in criteria.items()
        },
        "search, in the middle": lambda: searching.search(DPO, Criteria(events={Event.REVIEW}), before=ENTRIES // 2),
        "of_request": lambda: searching.of_request(DPO, request),
        "trends, 30 days": lambda: service.trends.days(Role.OFFICER, 30),
        "trends, today": lambda: service.trends.today(Role.AUDITOR),
        "manageability, 30 days": lambda: manageability(node, 30, Role.OFFICER),
        "manageability, 7 days": lambda: manageability(node, 7, Role.OFFICER),
        "node_status": service.status,
        "cases": lambda: service.cases.list(limit=50),
        "cases, newest, owner": lambda: service.cases.list(limit=50, side="owner", newest_first=True),
        "cases, newest, states": lambda: service.cases.list(("disclosed",), 50, side="querier", newest_first=True),
        "checkpoint": service.oversight.checkpoint,
    }


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    begun = time.perf_counter()
    build(args.directory)
    print(f"built in {time.perf_counter() - begun:.0f} s")
    found = measure(args.directory)
    for name, ms in found.items():
        print(f"{ms:9.1f} ms  {name}{'  <-- slow' if ms > LIMIT_MS else ''}")
    if args.json:
        args.json.write_text(json.dumps({"CONSOLE": {"figures": found}}, indent=2) + "\n")


if __name__ == "__main__":
    main()
