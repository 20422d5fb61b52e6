"""``audit-sample`` on nodes in memory that sent real batches of real messages, honestly and not."""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.integration import live  # isort: skip  # sets up gRPC's environment before gRPC is loaded

import pytest
import sqlalchemy as sa

from connector_psi.adapters import formats
from connector_psi.audit import checkpoint as notes
from connector_psi.audit.checkpoint import Checkpoint
from connector_psi.audit.entries import Event, Leaf, Side, parse_leaf
from connector_psi.audit.log import Log
from connector_psi.domain.identifiers import NORMALISATION_VERSION
from connector_psi.domain.intake import Kind
from connector_psi.domain.naming.families import FamilyGroup
from connector_psi.domain.records import IdentifierType, Record, Supersession, TokenClass
from connector_psi.errors import (
    ApprovalMissingError,
    InputError,
    ProofInvalidError,
    PurposeRefusedError,
    UnavailableError,
)
from connector_psi.node import node, sampling
from connector_psi.node.oversight import MAX_BODIES
from connector_psi.node.service import Service
from connector_psi.pki import Role
from connector_psi.policy import Agreement
from connector_psi.protocol import messages
from connector_psi.protocol.tokens import Token, record_tokens
from tests.adapter_samples import BOX_A, BOX_B, BOX_C, ens, equipment, house
from tests.format_samples import SAMPLES
from tests.simulation.federation import Federation, declaration, person
from tests.simulation.prepared import Prepared

REASON = ("--reason", "half-yearly audit 2026/2")
AGREEMENT = "EUR-XCHK:ics2-europol"
# Numbers that stand in these tests' messages, or are asked for behind their back: none may be shown.
SECRETS = (BOX_A, BOX_B, BOX_C, "MSCU6639870", "a@example.org", "DE1234567", "SYN7")


@dataclass
class Bench:
    """A customs node that asks Europol's, and the messages as customs' system of record keeps them."""

    root: Path
    federation: Federation

    @property
    def ics2(self) -> Service:
        return self.federation.services["ics2"]

    @property
    def folder(self) -> Path:
        return self.root / "messages"

    @property
    def directory(self) -> Path:
        return self.root / "ics2"

    def feed(self, name: str, data: bytes) -> None:
        """Keep a message and register what an adapter reads of it."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        found = list(formats.read(io.BytesIO(data), file=name))
        records = [item for item in found if isinstance(item, Record)]
        self.ics2.registration.register(records, "test", [item for item in found if isinstance(item, Supersession)])

    def settle(self) -> None:
        self.federation.settle(1)

    def leaves(self) -> list[bytes]:
        node = self.ics2.node
        with node.store.read() as tx:
            return node.read_leaves(tx, 0, node.entries.size(tx))

    def queries(self) -> list[Leaf]:
        found = map(parse_leaf, self.leaves())
        return [leaf for leaf in found if leaf.event is Event.CONSULT and leaf.side is Side.QUERIER]

    def note(self, name: str = "note") -> Path:
        """Keep the newest checkpoint, as somebody outside would."""
        path = self.root / name
        path.write_bytes(self.ics2.oversight.checkpoint())
        return path

    def audit(self, *arguments: object) -> live.Done:
        """Run the command; the node is at rest meanwhile."""
        self.federation.close("ics2")
        try:
            command = ("audit-sample", self.directory, "--messages", self.folder, "--json", *REASON)
            return live.run(*command, *arguments)
        finally:
            self.federation.open("ics2")


@pytest.fixture(scope="module")
def beginning(tmp_path_factory: pytest.TempPathFactory) -> Prepared[Federation]:
    made = Federation(tmp_path_factory.mktemp("begun") / "nodes", profiles=("ics2", "europol"))
    made.settle(1)
    return Prepared(made)


@pytest.fixture
def bench(beginning: Prepared[Federation], tmp_path: Path) -> Iterator[Bench]:
    made = beginning.copy(tmp_path)
    yield Bench(tmp_path, made)
    made.close()


def codes(done: live.Done, key: str = "findings") -> list[str]:
    return [finding["code"] for finding in done.json[key]]


def no_secret(text: str, bench: Bench) -> None:
    """Nothing of a message, a token or a digest is shown."""
    assert not any(secret in text for secret in SECRETS)
    for path in filter(Path.is_file, bench.folder.rglob("*")):
        assert hashlib.sha256(path.read_bytes()).hexdigest() not in text


def small_rounds(bench: Bench, records: int) -> None:
    """Let a round of queries cover few records, so that there are many batches."""
    bench.federation.close("ics2")
    settings = bench.directory / "node.toml"
    text = settings.read_text()
    settings.write_text(text.replace("[query]\n", f"[query]\nrecords_per_round = {records}\n"))
    bench.federation.open("ics2")
    assert bench.ics2.node.config.query.records_per_round == records


def test_honest_queries_of_every_format_in_several_classes_and_batches_pass(bench: Bench) -> None:
    small_rounds(bench, 3)
    for name in SAMPLES:
        bench.feed(f"{name}/of the day.{formats.FORMATS[name].kind.value}", SAMPLES[name]())
    contact = "<communication><identifier>a@example.org</identifier><type>EM</type></communication>"
    party = f"<consignee><identificationNumber>DE1234567</identificationNumber>{contact}</consignee>"
    bench.feed("party.xml", ens(house(1, equipment(BOX_C), party), mrn="26BE000000000SYN78"))
    bench.settle()
    # An amendment: the message of before is gone from matching, and stays in the system of record.
    bench.feed(
        "amended/1.xml", ens(house(1, equipment(BOX_A)), issued="2026-01-01T00:00:00Z", mrn="26BE000000000SYN77")
    )
    bench.settle()
    bench.feed(
        "amended/2.xml", ens(house(1, equipment(BOX_B)), issued="2026-01-02T00:00:00Z", mrn="26BE000000000SYN77")
    )
    bench.settle()
    note = bench.note()
    done = bench.audit("--count", 1000, "--checkpoint", note)
    assert done.code == 0, done.out + done.err
    queries = bench.queries()
    assert {leaf.token_class for leaf in queries} == {"object", "contact", "organisation"}
    assert len(queries) > 6
    value = done.json
    assert (value["drawn"], value["population"], len(value["queries"])) == (len(queries),) * 3
    assert value["findings"] == value["unchecked"] == value["warnings"] == value["unusable_files"] == []
    assert {query["request_id"] for query in value["queries"]} == {(leaf.request_id or b"").hex() for leaf in queries}
    assert sum(query["messages"] for query in value["queries"]) >= 10
    no_secret(done.out + done.err, bench)


def test_a_batch_that_was_sent_again_after_a_crash_passes(bench: Bench) -> None:
    bench.feed("ens.xml", ens(house(1, equipment(BOX_A)), house(2, equipment(BOX_B))))

    def lost(call: str) -> None:
        if call == "after:evaluate":
            raise UnavailableError

    bench.federation.fault = lost
    with pytest.raises(UnavailableError):
        bench.settle()
    bench.federation.fault = lambda _call: None
    bench.federation.close("ics2")
    bench.federation.open("ics2")
    bench.settle()
    assert len({query.request_id for query in bench.federation.queries}) < len(bench.federation.queries)
    done = bench.audit()
    assert done.code == 0, done.out
    assert done.json["drawn"] == len({query.request_id for query in bench.federation.queries})


def test_a_record_that_nobody_declared_is_found(bench: Bench) -> None:
    """Registered over the local port, with the digest of no message, and asked with among honest ones."""
    bench.feed("ens.xml", ens(house(1, equipment(BOX_A))))
    bench.ics2.registration.register([declaration("PLANTED", (IdentifierType.CONTAINER, BOX_C))], "test")
    bench.settle()
    done = bench.audit()
    assert done.code == 5
    assert codes(done) == ["message.missing"]
    (finding,) = done.json["findings"]
    assert finding["request_id"] in {(leaf.request_id or b"").hex() for leaf in bench.queries()}
    assert finding["place"].endswith("of 2")
    no_secret(done.out + done.err, bench)


def ask_more(monkeypatch: pytest.MonkeyPatch, *more: bytes) -> None:
    """The querier asks about tokens that no record of its own gives."""

    def with_more(agreement: Agreement, record: Record, side: Side, groups: Collection[FamilyGroup]) -> list[Token]:
        beside = [Token(token, TokenClass.OBJECT, 1, IdentifierType.CONTAINER) for token in more]
        return record_tokens(agreement, record, side, groups) + (beside if side is Side.QUERIER else [])

    monkeypatch.setattr(node, "record_tokens", with_more)


def test_a_token_beside_honest_ones_is_found(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    token = messages.encode_token(NORMALISATION_VERSION, IdentifierType.CONTAINER, "MSCU6639870")

    ask_more(monkeypatch, token)
    bench.feed("ens.xml", ens(house(1, equipment(BOX_A))))
    bench.settle()
    monkeypatch.undo()
    done = bench.audit()
    assert done.code == 5
    assert codes(done) == ["token.without_field"]
    assert done.json["findings"][0]["place"].endswith("token 2 of 2")
    no_secret(done.out + done.err, bench)


def test_a_message_that_was_changed_later_is_found(bench: Bench) -> None:
    bench.feed("ens.xml", ens(house(1, equipment(BOX_A))))
    bench.settle()
    path = bench.folder / "ens.xml"
    path.write_bytes(path.read_bytes().replace(BOX_A.encode(), BOX_B.encode()))
    done = bench.audit()
    assert (done.code, codes(done)) == (5, ["message.missing"])
    no_secret(done.out + done.err, bench)


def another_seed(body: dict[str, Any]) -> None:
    body["seed"] = bytes(32).hex()


def another_token(body: dict[str, Any]) -> None:
    body["tokens"] = [
        messages.encode_token(NORMALISATION_VERSION, IdentifierType.CONTAINER, BOX_B).hex(),
        *body["tokens"][1:],
    ]


def another_message(body: dict[str, Any]) -> None:
    body["digests"] = [hashlib.sha256(b"another").hexdigest(), *body["digests"][1:]]


def nobodys_token(body: dict[str, Any]) -> None:
    body["held"] = [held[:-1] for held in body["held"]]


def no_seed(body: dict[str, Any]) -> None:
    del body["seed"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        # The salts of the messages follow from the seed too.
        (another_seed, ["batch.commitment", "source.commitment"]),
        (another_token, ["batch.commitment", "source.commitment", "token.without_field"]),
        (another_message, ["source.commitment", "message.missing"]),
        (nobodys_token, ["source.commitment", "token.without_field"]),
        (no_seed, ["body.malformed"]),
    ],
)
def test_a_body_that_says_something_else_than_what_was_sent_is_found(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], None], expected: list[str]
) -> None:
    append = Log.append

    def lying(log: Log[Any], tx: Any, draft: Any, body: Mapping[str, object], *more: Any) -> Any:
        if draft.event is Event.CONSULT and draft.side is Side.QUERIER:
            body = dict(body)
            change(body)
        return append(log, tx, draft, body, *more)

    monkeypatch.setattr(Log, "append", lying)
    bench.feed("ens.xml", ens(house(1, equipment(BOX_A))))
    bench.settle()
    monkeypatch.undo()
    done = bench.audit()
    assert (done.code, codes(done)) == (5, expected)
    no_secret(done.out + done.err, bench)


def test_a_query_under_another_policy_than_the_one_in_force_is_found(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = Log.append

    def lying(log: Log[Any], tx: Any, draft: Any, body: Mapping[str, object], *more: Any) -> Any:
        if draft.event is Event.CONSULT:
            draft = replace(draft, policy_hash=bytes(32))
        return append(log, tx, draft, body, *more)

    monkeypatch.setattr(Log, "append", lying)
    bench.feed("ens.xml", ens(house(1, equipment(BOX_A))))
    bench.settle()
    monkeypatch.undo()
    done = bench.audit()
    assert (done.code, codes(done)) == (5, ["policy.other"])


def test_a_body_that_is_gone_before_its_time_is_found(bench: Bench) -> None:
    bench.feed("ens.xml", ens(house(1, equipment(BOX_A))))
    bench.settle()
    (index,) = (n for n, raw in enumerate(bench.leaves()) if parse_leaf(raw).event is Event.CONSULT)
    with bench.ics2.node.store.write() as tx:
        tx.execute(sa.text("DELETE FROM log_bodies WHERE idx = :index"), {"index": index})
    done = bench.audit()
    assert (done.code, codes(done)) == (5, ["body.erased"])


def test_a_body_that_was_erased_in_due_time_cannot_be_checked() -> None:
    entry = sampling.Entry(7, leaf_of(b"\1" * 16))
    assert sampling.erased(entry, entry.leaf.erase_after).code == "body.expired"


def test_a_message_in_no_known_format_cannot_be_checked(bench: Bench) -> None:
    raw = b"REF;CONTAINER\n1;CSQU3054383\n"
    bench.folder.mkdir()
    (bench.folder / "own.dat").write_bytes(raw)
    record = replace(declaration("OWN", (IdentifierType.CONTAINER, BOX_A)), message_digest=hashlib.sha256(raw).digest())
    bench.ics2.registration.register([record], "test")
    bench.settle()
    done = bench.audit()
    assert (done.code, codes(done), codes(done, "unchecked")) == (6, [], ["message.unread"])


def test_a_token_of_another_normalisation_version_hides_none_beside_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = [
        messages.encode_token(version, IdentifierType.CONTAINER, "MSCU6639870")
        for version in ("cp-norm-0", NORMALISATION_VERSION)
    ]

    ask_more(monkeypatch, *extra)
    bench.feed("ens.xml", ens(house(1, equipment(BOX_A))))
    bench.settle()
    monkeypatch.undo()
    done = bench.audit()
    assert (done.code, codes(done)) == (5, ["token.without_field"])
    assert codes(done, "unchecked") == ["normalisation.other"]


def test_the_command_says_what_the_draw_is_and_warns_of_a_checkpoint_of_the_nodes_own(bench: Bench) -> None:
    small_rounds(bench, 1)
    for number in range(6):
        bench.feed(f"{number}.xml", ens(house(1, equipment(BOX_A)), mrn=f"26BE000000000SYN1{number}"))
    bench.settle()
    note = bench.note()
    checkpoint = notes.parse_checkpoint(notes.parse_note(note.read_bytes()).text)
    ids = [leaf.request_id or b"" for leaf in bench.queries()]
    key = b"connector-psi/v1 audit draw"
    expected = sorted(ids, key=lambda each: hmac.digest(checkpoint.root, key + each, "sha256"))
    first = bench.audit("--count", 3, "--checkpoint", note)
    assert [query["request_id"] for query in first.json["queries"]] == [each.hex() for each in expected[:3]]
    assert first.json["checkpoint"] == {
        "size": checkpoint.size,
        "root": checkpoint.root.hex(),
        "given": True,
        "witnesses": [],
    }
    # Reading the log wrote to it; the draw stays, and is warned of only where the node chose the root.
    again = bench.audit("--count", 3, "--checkpoint", note)
    assert again.json == first.json
    own = bench.audit("--count", 3)
    assert own.json["warnings"] == ["checkpoint.not_witnessed"]
    assert own.json["checkpoint"]["size"] > checkpoint.size
    text = live.run("audit-sample", bench.directory, "--messages", bench.folder, *REASON)
    assert text.code == 6  # the node is open in this process
    some = bench.audit("--count", 3, "--checkpoint", note, "--agreement", "SIS-OBJ:ics2-sis")
    assert (some.code, some.json["population"], some.json["drawn"]) == (0, 0, 0)


def test_a_checkpoint_that_does_not_fit_is_refused(bench: Bench) -> None:
    old = bench.note("old")
    size = notes.parse_checkpoint(notes.parse_note(old.read_bytes()).text).size
    bench.feed("ens.xml", ens(house(1, equipment(BOX_A))))
    bench.settle()
    # Older than the query: whoever formed it could have known the draw.
    refused = bench.audit("--checkpoint", old, "--below", len(bench.leaves()))
    assert (refused.code, refused.json["error"]) == (2, "input")
    assert bench.audit("--checkpoint", old).json["population"] == 0
    # Of another log, and a root that this log never had.
    other = bench.root / "other"
    other.write_bytes(bench.federation.services["europol"].oversight.checkpoint())
    assert bench.audit("--checkpoint", other).code == 5
    forged = Checkpoint(bench.ics2.node.signer.name, size, bytes(32))
    other.write_bytes(notes.sign_note(notes.encode_checkpoint(forged), [bench.ics2.node.signer]))
    done = bench.audit("--checkpoint", other)
    assert (done.code, done.json["error"]) == (5, "log_proof")
    other.write_bytes(b"not a note")
    assert bench.audit("--checkpoint", other).code == 2
    assert bench.audit("--checkpoint", bench.root / "absent").code == 2


def test_the_page_shows_findings_and_no_value(bench: Bench) -> None:
    bench.feed("ens.xml", ens(house(1, equipment(BOX_A))))
    bench.ics2.registration.register([declaration("PLANTED", (IdentifierType.CONTAINER, BOX_C))], "test")
    bench.settle()
    page = bench.root / "audit.html"
    assert bench.audit("--html", page).code == 5
    text = page.read_text()
    assert "message.missing" in text
    assert "WARNING" in text
    no_secret(text, bench)


@pytest.mark.parametrize("role", list(Role))
def test_only_people_of_oversight_may(bench: Bench, role: Role) -> None:
    bench.feed("ens.xml", ens(house(1, equipment(BOX_A))))
    bench.settle()
    certificate = next((bench.directory / "people").glob(f"{role.value}*.crt"))
    done = bench.audit("--as", certificate)
    if role in {Role.AUDITOR, Role.DPO, Role.SUPERVISOR}:
        assert done.code == 0
        (read,) = [(n, leaf) for n, leaf in enumerate(map(parse_leaf, bench.leaves())) if leaf.event is Event.LOG_READ]
        with bench.ics2.node.store.read() as tx:
            body = bench.ics2.node.log.open_body(tx, read[0])
        asked = sorted((leaf.request_id or b"").hex() for leaf in bench.queries())
        assert body["actor"].startswith(f"urn:connector-psi:person:ics2:{role.value}:")
        assert (body["reason"], sorted(body["request_ids"])) == (REASON[1], asked)
        assert body["count"] == len(body["entries"]) == len(asked) + 1
        assert read[1].purpose == "cpsi:Oversight"
    else:
        assert (done.code, done.json["error"]) == (4, "refused")
        assert all(parse_leaf(raw).event is not Event.LOG_READ for raw in bench.leaves())


def test_a_supervisor_sees_no_leaf_of_the_owners_side_and_is_told_so(bench: Bench) -> None:
    """Europol's node: it answered a query and sent none."""
    bench.feed("ens.xml", ens(house(1, equipment(BOX_A))))
    bench.settle()
    oversight = bench.federation.services["europol"].oversight
    everything = oversight.audit_entries(0, 0, person("europol", Role.AUDITOR))
    less = oversight.audit_entries(0, 0, person("europol", Role.SUPERVISOR))
    events = [parse_leaf(leaf or b"").event for leaf, _ in everything]
    assert Event.CONSULT in events
    assert [leaf is None for leaf, _ in less] == [parse_leaf(leaf or b"").side is Side.OWNER for leaf, _ in everything]
    assert any(leaf is None for leaf, _ in less)
    with pytest.raises(PurposeRefusedError):
        oversight.audit_entries(0, 0, person("europol", Role.OFFICER))
    note = notes.parse_checkpoint(notes.parse_note(oversight.checkpoint()).text)
    drawn = sampling.draw(less, note, count=9)
    assert (drawn.population, drawn.hidden) == (0, sum(leaf is None for leaf, _ in less))
    bench.federation.close("europol")
    try:
        command = ("audit-sample", bench.root / "europol", "--messages", bench.folder, "--json", *REASON)
        done = live.run(*command, "--as", bench.root / "europol" / "people" / "supervisor1.crt")
    finally:
        bench.federation.open("europol")
    assert (done.code, done.json["hidden"], done.json["warnings"][1]) == (0, drawn.hidden, "entries.hidden")


def test_who_the_policy_does_not_name_may_not(bench: Bench) -> None:
    bench.feed("ens.xml", ens(house(1, equipment(BOX_A))))
    bench.settle()
    bench.federation.close("ics2")
    bench.federation.edit_policy("ics2", ("people: [auditor, dpo, supervisor]", "people: [dpo]"))
    bench.federation.open("ics2")
    done = bench.audit()
    assert (done.code, done.json["error"]) == (4, "purpose_refused")
    assert bench.audit("--as", bench.directory / "people" / "dpo1.crt").code == 0


def test_the_node_opens_to_a_supervisor_bodies_of_own_queries_alone_and_logs_it_first(bench: Bench) -> None:
    bench.feed("ens.xml", ens(house(1, equipment(BOX_A))))
    bench.settle()
    oversight, auditor = bench.ics2.oversight, person("ics2", Role.SUPERVISOR)
    found = {leaf.event: index for index, leaf in enumerate(map(parse_leaf, bench.leaves()))}
    size = len(bench.leaves())
    for wanted in ([found[Event.COLLECT]], [found[Event.CONSULT], found[Event.CONFIG]], [size], [2**64 - 1]):
        with pytest.raises(PurposeRefusedError):
            oversight.open_bodies(wanted, auditor, "why")
    query = found[Event.CONSULT]
    with pytest.raises(ApprovalMissingError):
        oversight.open_bodies([query], auditor, " ")
    for wanted, reason in (([], "why"), ([query] * 2, "why"), (range(MAX_BODIES + 1), "why"), ([query], "w" * 4001)):
        with pytest.raises(InputError):
            oversight.open_bodies(list(wanted), auditor, reason)
    assert len(bench.leaves()) == size
    # The owner's side says nothing that an audit of the querier needs.
    europol = bench.federation.services["europol"]
    with europol.node.store.read() as tx:
        leaves = [parse_leaf(raw) for raw in europol.node.read_leaves(tx, 0, europol.node.entries.size(tx))]
    (theirs,) = (index for index, leaf in enumerate(leaves) if leaf.event is Event.CONSULT)
    with pytest.raises(PurposeRefusedError):
        europol.oversight.open_bodies([theirs], person("europol", Role.SUPERVISOR), "why")
    opened = oversight.open_bodies([query], auditor, "why")
    assert parse_leaf(bench.leaves()[-1]).event is Event.LOG_READ
    ((index, body),) = opened
    assert index == query
    assert body is not None
    assert set(body.body) >= {"seed", "tokens", "digests", "held"}


def test_the_findings_are_those_of_the_page() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text()
    part = page[page.index("## Audit the queries") : page.index("## Status and health")]
    assert re.findall(r"^\| `([a-z_.]+)` \|", part, re.MULTILINE) == list(sampling.FINDINGS)
    assert all(f"`{code}`" in part for code in sampling.UNCHECKED)


# The draw


def shown(leaves: list[bytes]) -> list[tuple[bytes | None, bytes]]:
    return [(leaf, b"") for leaf in leaves]


def leaf_of(request_id: bytes) -> Leaf:
    return parse_leaf(
        json.dumps(
            {
                "actor_commitment": None,
                "agreement": AGREEMENT,
                "batch_commitment": "00" * 32,
                "body_commit": "00" * 32,
                "epoch": 1,
                "erase_after": "2029-01-01T00:00:00Z",
                "event": "CONSULT",
                "hold": None,
                "legal_basis": None,
                "manifest_hash": None,
                "mode": "bulk",
                "n_padded": 8,
                "parent_id": None,
                "policy_hash": "00" * 32,
                "purpose": None,
                "request_id": request_id.hex(),
                "retention_class": "EUOP_3Y",
                "side": "querier",
                "source_commitment": "00" * 32,
                "token_class": "object",
                "ts": "2026-01-01T00:00:00Z",
                "v": 1,
            },
            sort_keys=True,
            separators=(",", ":"),
        ).encode()
    )


def test_the_draw_depends_on_the_root_alone(bench: Bench) -> None:
    small_rounds(bench, 1)
    for number in range(8):
        bench.feed(f"{number}.xml", ens(house(1, equipment(BOX_A)), mrn=f"26BE000000000SYN1{number}"))
    bench.settle()
    bench.settle()
    leaves = bench.leaves()
    checkpoint = notes.parse_checkpoint(notes.parse_note(bench.note().read_bytes()).text)
    assert checkpoint.size == len(leaves)
    all_of_it = sampling.draw(shown(leaves), checkpoint, count=100)
    assert all_of_it.population == len(all_of_it.entries) == len(bench.queries())
    for count in range(1, all_of_it.population):
        assert sampling.draw(iter(shown(leaves)), checkpoint, count=count).entries == all_of_it.entries[:count]
    # Another root ranks the same queries in another order.
    bench.feed("late.xml", ens(house(1, equipment(BOX_B)), mrn="26BE000000000SYN20"))
    bench.ics2.tick_log()
    later = notes.parse_checkpoint(notes.parse_note(bench.note().read_bytes()).text)
    again = sampling.draw(shown(bench.leaves()), later, count=100, below=checkpoint.size)
    assert {entry.index for entry in again.entries} == {entry.index for entry in all_of_it.entries}
    assert [entry.index for entry in again.entries] != [entry.index for entry in all_of_it.entries]
    with pytest.raises(InputError):
        sampling.draw(shown(leaves), checkpoint, count=1, below=checkpoint.size + 1)
    for wrong in (leaves[:-1], [*leaves, leaves[-1]], [*leaves[:-2], leaves[-1], leaves[-2]], [b"{}", *leaves[1:]]):
        with pytest.raises(ProofInvalidError):
            sampling.draw(shown(wrong), checkpoint, count=1)


# Messages


@pytest.mark.parametrize("name", SAMPLES)
def test_a_message_of_every_format_is_found_by_its_digest_and_gives_its_tokens(name: str) -> None:
    data, kind = SAMPLES[name](), formats.FORMATS[name].kind
    records = [item for item in formats.read(io.BytesIO(data), file=name, format=name) if isinstance(item, Record)]
    wanted = {record.message_digest for record in records}
    if kind is Kind.XML:
        # What lets files that nobody asks for be passed over unread.
        assert wanted == {hashlib.sha256(data).digest()}
    found = sampling.Messages(wanted)
    found.add(io.BytesIO(data), f"{name}.{kind.value}")
    assert all(found.has(digest) and not found.is_unread(digest) for digest in wanted)
    other = sampling.Messages({bytes(32)})
    other.add(io.BytesIO(data), f"{name}.{kind.value}")
    assert not other.has(bytes(32))
    assert (found.files, other.files, found.unusable) == (1, 1, [])
