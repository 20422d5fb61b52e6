"""docs/protocol.md says what the code does: its worked example is recomputed, its tables are compared."""

from __future__ import annotations

import hashlib
import math
import re
import struct
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from connector_psi import disclosure
from connector_psi.audit import merkle
from connector_psi.audit.checkpoint import Checkpoint, NoteSigner, encode_checkpoint, encode_vkey, sign_note
from connector_psi.audit.entries import Event, Leaf, encode_leaf, parse_leaf
from connector_psi.domain.identifiers import NORMALISATION_VERSION
from connector_psi.domain.names import NAME_RULES_VERSION
from connector_psi.domain.naming.families import FAMILY_TABLE, FamilyGroup, NameFamily
from connector_psi.domain.naming.keys import NameKey
from connector_psi.domain.records import IDENTIFIER_TABLE, IdentifierType, TokenClass
from connector_psi.encoding import bloom, deltas, tickets
from connector_psi.encoding import manifest as manifests
from connector_psi.errors import ConnectorError
from connector_psi.oprf import suite
from connector_psi.oprf.danger import prove_with_nonce
from connector_psi.oprf.group import SecretScalar
from connector_psi.oprf.suite import EvaluatedElements, KeyPair
from connector_psi.protocol import messages
from connector_psi.protocol.querier import Batch, SetView
from connector_psi.protocol.tokens import encode_key
from connector_psi.rpc.interceptors import STATUS

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
CLIENT = (ROOT / "tests" / "integration" / "node_client" / "client.mjs").read_text(encoding="utf-8")


def read_example() -> dict[str, str]:
    chapter = PAGE.partition("\n## Worked example\n")[2]
    lines = [line for block in re.findall(r"```text\n(.*?)\n```", chapter, re.DOTALL) for line in block.split("\n")]
    values = dict(line.split(" = ", 1) for line in lines)
    assert len(values) == len(lines), "a name stands twice"
    return values


EXAMPLE = read_example()


def raw(name: str) -> bytes:
    return bytes.fromhex(EXAMPLE[name])


def number(name: str) -> int:
    return int(EXAMPLE[name])


def table(heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its two head lines."""
    rows = PAGE.partition(f"# {heading}\n")[2].partition("\n|")[2].partition("\n\n")[0].split("\n")[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def agreement() -> tuple[str, int]:
    return EXAMPLE["agreement"], number("epoch")


@pytest.fixture(scope="module")
def keys() -> KeyPair:
    return suite.derive_key_pair(raw("seed"), raw("key_info"))


# --- the worked example


def test_token() -> None:
    assert EXAMPLE["normalisation_version"] == NORMALISATION_VERSION
    kind = IdentifierType(EXAMPLE["identifier_type"])
    assert IDENTIFIER_TABLE[kind].token_class.label == EXAMPLE["token_class"]
    assert messages.encode_token(NORMALISATION_VERSION, kind, EXAMPLE["canonical_value"]) == raw("token")


def test_keys_and_prf_output(keys: KeyPair) -> None:
    assert messages.key_info(*agreement(), EXAMPLE["token_class"]) == raw("key_info")
    assert (keys.secret.reveal(), keys.public) == (raw("secret_key"), raw("public_key"))
    assert suite.evaluate(keys.secret, [raw("token")]) == raw("prf_output")


@pytest.mark.parametrize("j", [0, 1])
def test_lookup_and_ticket_key(j: int) -> None:
    assert messages.derive_lookup(raw("prf_output"), j) == (raw(f"lookup_{j}"), raw(f"ticket_key_{j}"))


def test_ticket() -> None:
    ticket_id = tickets.make_ticket_id(raw("k_ticket"), number("record_number"))
    assert ticket_id == raw("ticket_id")
    assert tickets.make_redeem(raw("k_redeem"), ticket_id, raw("token")) == raw("redeem")
    ticket = tickets.Ticket(
        ticket_id, TokenClass[EXAMPLE["token_class"].upper()], number("category"), number("family"), raw("redeem")
    )
    assert tickets.encode_ticket(ticket) == raw("ticket_plaintext")

    class Nonce:
        def bytes(self, n: int) -> bytes:
            assert n == 12
            return raw("nonce")

    sealed = tickets.seal_rows(*agreement(), raw("lookup_0"), raw("ticket_key_0"), [ticket], Nonce())
    assert sealed == raw("ticket_row")
    assert tickets.open_row(*agreement(), raw("ticket_row"), raw("ticket_key_0")) == ticket


def test_ticket_of_a_name() -> None:
    family, rule = NameFamily(EXAMPLE["name_family"]), FAMILY_TABLE[EXAMPLE["name_family"]]
    key = NameKey(family, EXAMPLE["name_text"], ())
    assert (EXAMPLE["name_rules"], rule.number) == (NAME_RULES_VERSION, number("name_family_number"))
    assert encode_key(key) == raw("name_token")
    redeem = tickets.make_redeem(raw("k_redeem"), raw("ticket_id"), raw("name_token"))
    assert redeem == raw("name_redeem")
    ticket = tickets.Ticket(
        raw("ticket_id"), rule.token_class, 0, rule.number, redeem, number("name_shape"), number("name_part")
    )
    assert tickets.encode_ticket(ticket) == raw("name_ticket_plaintext")


def test_families_of_names() -> None:
    """The table says of each group the span of its numbers; what it says of classes is what the code has."""
    for words, _, token_class, numbers in table("Name keys"):
        group = FamilyGroup(code(words)[0])
        rules = [rule for rule in FAMILY_TABLE.values() if rule.group is group]
        spans = [tuple(map(int, span.split(" to "))) for span in numbers.split(", ")]
        assert all(any(first <= rule.number <= last for first, last in spans) for rule in rules)
        assert {rule.number for rule in rules} >= {end for span in spans for end in span}
        if token_class != "of the name":
            assert {rule.token_class.label for rule in rules} == {token_class}
    assert len(table("Name keys")) == len(FamilyGroup)


def dummy(i: int) -> bytes:
    counter = struct.pack(">I", i)
    return hashlib.sha512(b"example row" + counter).digest() + hashlib.sha512(b"example rest" + counter).digest()[:12]


def write_example_set(folder: Path) -> tuple[Path, Path]:
    size = number("size_class")
    rows = raw("ticket_row") + b"".join(map(dummy, range(size - 1)))
    lookups = b"".join(rows[at : at + 16] for at in range(0, len(rows), tickets.ROW_BYTES))
    filter_path, tickets_path = folder / "filter", folder / "tickets"
    bloom.write_filter(filter_path, lookups, size)
    tickets.write_tickets(tickets_path, rows)
    return filter_path, tickets_path


def test_files_and_what_is_found_in_them(tmp_path: Path) -> None:
    filter_path, tickets_path = write_example_set(tmp_path)
    size = number("size_class")
    for name, path in (("filter", filter_path), ("tickets", tickets_path)):
        assert path.stat().st_size == number(f"{name}_size_bytes")
        assert manifests.file_root(path) == raw(f"{name}_root")
    content = filter_path.read_bytes()
    assert content[:40] == raw("filter_header")
    m = number("bits_per_slice")
    for position, within in enumerate(map(int, EXAMPLE["filter_bits_of_lookup_0"].split())):
        bit = position * m + within
        assert content[40 + bit // 8] >> bit % 8 & 1
    with bloom.Filter.open(filter_path, size) as filter_, tickets.TicketFile.open(tickets_path, size) as file:
        (probed,) = SetView(*agreement(), filter_, file).probe([raw("prf_output")])
    assert [ticket.ticket_id for ticket in probed.opened] == [raw("ticket_id")]
    assert (probed.published, probed.next_lookup) == (1, raw("lookup_1"))


def test_filter_bits_follow_from_the_rule_on_the_page() -> None:
    # H is SHA-384 and a word two bytes for so small a set.
    digest = hashlib.sha384(hashlib.sha384(struct.pack("<I", 0)).digest() + EXAMPLE["lookup_0"].encode()).digest()
    words = [word % number("bits_per_slice") for word in struct.unpack("<24H", digest)[:20]]
    assert " ".join(map(str, words)) == EXAMPLE["filter_bits_of_lookup_0"]


def test_manifest(keys: KeyPair) -> None:
    manifest = manifests.parse_manifest(EXAMPLE["manifest"].encode())
    assert (manifest.agreement, manifest.epoch) == agreement()
    assert manifest.class_keys == {"object": keys.public.hex()}
    assert manifest.files.filter.root == EXAMPLE["filter_root"]
    assert manifest.files.tickets.root == EXAMPLE["tickets_root"]
    assert manifests.manifest_hash(EXAMPLE["manifest"].encode()) == raw("manifest_hash")
    key = Ed25519PrivateKey.from_private_bytes(raw("owner_signing_seed"))
    assert key.public_key().public_bytes_raw() == raw("owner_signing_key")
    assert manifests.sign_manifest(key, EXAMPLE["manifest"].encode()) == raw("manifest_signature")


def test_log_entry_proof_and_checkpoint() -> None:
    leaf = parse_leaf(EXAMPLE["leaf"].encode())
    assert (leaf.event, leaf.agreement, leaf.epoch) == (Event.SET_PUBLISH, *agreement())
    assert leaf.manifest_hash == raw("manifest_hash")
    own = merkle.leaf_hash(EXAMPLE["leaf"].encode())
    assert own == raw("leaf_hash")
    first, third = merkle.leaf_hash(b"first"), merkle.leaf_hash(b"third")
    assert EXAMPLE["inclusion_proof"] == f"{first.hex()} {third.hex()}"
    root = merkle.node_hash(merkle.node_hash(first, own), third)
    merkle.verify_inclusion(own, number("leaf_index"), 3, [first, third], root)
    signer = NoteSigner(
        "connector-psi.internal/log/" + EXAMPLE["owner"], Ed25519PrivateKey.from_private_bytes(raw("log_signing_seed"))
    )
    assert encode_vkey(signer.vkey) == EXAMPLE["log_vkey"]
    note = sign_note(encode_checkpoint(Checkpoint(signer.name, 3, root)), [signer])
    assert note.decode() == EXAMPLE["checkpoint"].replace("\\n", "\n")


def example_delta() -> bytes:
    """Put together as the page says, without the code that makes deltas."""
    rows = sorted([raw("second_ticket_row"), *map(dummy, range(1023, 1038))])
    removed = sorted([raw("lookup_0"), *(dummy(i)[:16] for i in range(7))])
    assert EXAMPLE["delta_removed"] == " ".join(lookup.hex() for lookup in removed)
    return raw("delta_head") + b"".join([*rows, struct.pack(">I", len(removed)), *removed])


def test_delta() -> None:
    delta = deltas.parse_delta(example_delta())
    code, epoch = agreement()
    manifest = manifests.parse_manifest(EXAMPLE["manifest"].encode())
    assert (delta.agreement, delta.epoch, delta.seq) == (code, epoch, number("delta_seq"))
    assert (delta.prev_hash.hex(), delta.snapshot_ms) == (manifest.delta_chain_start, number("delta_snapshot_ms"))
    assert deltas.encode_delta(delta) == example_delta()
    assert len(example_delta()) == number("delta_size_bytes")
    assert deltas.delta_hash(example_delta()) == raw("delta_hash")
    key = Ed25519PrivateKey.from_private_bytes(raw("owner_signing_seed"))
    assert deltas.sign_delta(key, example_delta()) == raw("delta_signature")


def test_what_is_found_with_the_delta(tmp_path: Path) -> None:
    ticket_id = tickets.make_ticket_id(raw("k_ticket"), number("second_record_number"))
    redeem = tickets.make_redeem(raw("k_redeem"), ticket_id, raw("token"))
    ticket = tickets.Ticket(ticket_id, TokenClass.OBJECT, number("category"), number("family"), redeem)
    assert raw("second_ticket_row")[16:28] == raw("second_nonce")
    assert tickets.open_row(*agreement(), raw("second_ticket_row"), raw("ticket_key_1")) == ticket
    filter_path, tickets_path = write_example_set(tmp_path)
    size = number("size_class")
    with bloom.Filter.open(filter_path, size) as filter_, tickets.TicketFile.open(tickets_path, size) as file:
        view = SetView(*agreement(), filter_, file)
        view.apply(deltas.parse_delta(example_delta()))
        (probed,) = view.probe([raw("prf_output")])
    assert (probed.published, probed.opened) == (2, (ticket,))


def example_batch() -> Batch:
    return Batch(
        EXAMPLE["querier"], *agreement(), TokenClass.OBJECT, raw("request_id"), raw("batch_seed"), (raw("token"),)
    )


def test_query(keys: KeyPair) -> None:
    prepared = example_batch().prepare()
    assert prepared.blinded_elements == raw("blinded_elements")
    assert prepared.commitment == raw("batch_commitment")
    evaluated = suite.blind_evaluate(keys.secret, prepared.blinded_elements)
    assert evaluated == raw("evaluated_elements")
    proof = prove_with_nonce(keys, prepared.blinded_elements, evaluated, SecretScalar(raw("proof_nonce")))
    assert proof == raw("proof")
    assert prepared.finish(keys.public, EvaluatedElements(evaluated), proof) == [raw("prf_output")]


def expand(label: str, i: int) -> bytes:
    parts = f"connector-psi/v1 {label}".encode() + raw("batch_seed") + raw("request_id")
    return hashlib.sha512(parts + struct.pack(">I", i)).digest()


def test_query_follows_from_the_expansion_on_the_page() -> None:
    order = 2**252 + 27742317777372353535851937790883648493
    blind = (int.from_bytes(expand("blind", 0), "little") % order).to_bytes(32, "little")
    assert blind == raw("blind_0")
    assert suite.blind([raw("token")], blind) == raw("blinded_0")
    shuffled = sorted(range(8), key=lambda i: expand("shuffle", i))
    assert " ".join(map(str, shuffled)) == EXAMPLE["order"]
    for element, source in ((raw("blinded_0"), 0), (raw("padding_0"), 1)):
        at = 32 * shuffled.index(source)
        assert raw("blinded_elements")[at : at + 32] == element


def test_source_commitment() -> None:
    digests = [hashlib.sha256(text).digest() for text in (b"first example message", b"second example message")]
    assert [digest.hex() for digest in digests] == [EXAMPLE["message_digest_0"], EXAMPLE["message_digest_1"]]
    salts = example_batch().source_salts(2)
    assert salts == [raw("source_salt_0"), raw("source_salt_1")] == [expand("source salt", i)[:32] for i in range(2)]
    leaf = hashlib.sha256(salts[0] + digests[0] + messages.lp(raw("token"))).digest()
    assert leaf == raw("source_leaf_0")
    assert messages.source_commitment(salts, digests, [[raw("token")]] * 2) == raw("source_commitment")


def test_case() -> None:
    signed = messages.case_bytes(
        querier=EXAMPLE["querier"],
        agreement=EXAMPLE["agreement"],
        epoch=number("epoch"),
        ticket_id=raw("ticket_id"),
        redeem_codes=raw("redeem"),
        request_id=raw("case_id"),
        actor_commitments=raw("actor_commitments"),
        **{name: EXAMPLE[name] for name in ("purpose", "legal_basis", "case_reference", "justification")},
    )
    assert signed == raw("case_bytes")
    key = Ed25519PrivateKey.from_private_bytes(raw("querier_signing_seed"))
    assert key.public_key().public_bytes_raw() == raw("querier_signing_key")
    assert key.sign(signed) == raw("case_signature")


def test_outcome() -> None:
    payload = EXAMPLE["envelope_json"].encode()
    padded = (struct.pack(">I", len(payload)) + payload).ljust(number("envelope_size_bytes"), b"\0")
    envelope = disclosure.parse_envelope(padded)
    assert (envelope.case_id, envelope.agreement, envelope.epoch) == (raw("case_id"), *agreement())
    assert hashlib.sha256(padded).digest() == raw("envelope_sha256")
    key = Ed25519PrivateKey.from_private_bytes(raw("owner_signing_seed"))
    assert disclosure.sign_envelope(key, padded) == raw("envelope_signature")
    assert disclosure.source_commitment(raw("outcome_salt"), padded) == raw("outcome_source_commitment")


# --- the tables and formulas


def test_identifier_table() -> None:
    said = {
        IdentifierType(*code(name)): (token_class, int(family), alone == "yes")
        for name, token_class, family, alone, _ in table("Tokens")
    }
    assert said == {
        kind: (rule.token_class.label, rule.family, rule.suffices_alone) for kind, rule in IDENTIFIER_TABLE.items()
    }


def test_manifest_table() -> None:
    assert {name for key, _ in table("Manifest") for name in code(key)} == set(manifests.Manifest.model_fields)


def test_leaf_table() -> None:
    leaf = encode_leaf(
        Leaf(
            event=Event.PURGE,
            retention_class=parse_leaf(EXAMPLE["leaf"].encode()).retention_class,
            ts=datetime(2026, 11, 22, tzinfo=UTC),
            erase_after=datetime(2029, 11, 22, tzinfo=UTC),
            body_commit=bytes(32),
        )
    )
    names = [name for keys, _ in table("The owner's log") for name in code(keys)]
    assert sorted(names) == re.findall(r'"(\w+)":', leaf.decode())


def test_payload_table() -> None:
    names = {name for key, _ in table("Outcomes") for name in code(key)}
    assert names == set(re.findall(r'"(\w+)":', EXAMPLE["envelope_json"])) - {
        "action",
        "object_identifiers",
        "object_type",
        "schengen_id",
    }


def test_statuses_are_those_of_the_errors() -> None:
    possible = {(status.name, kind.public_detail) for kind, status in STATUS.items() if kind is not ConnectorError}
    said = {(*code(status), code(text)[0]) for status, text, _ in table("Statuses")}
    beside = {
        ("INVALID_ARGUMENT", "a deadline of at most 30 seconds is needed"),
        ("INTERNAL", ConnectorError.public_detail),
    }
    assert beside <= said
    assert said - beside <= possible


def test_ladders_of_deltas() -> None:
    said = {cell[0]: cell[1] for cell in table("Deltas")}
    for part, ladder in (("rows", deltas.ROW_LADDER), ("lookups", deltas.REMOVED_LADDER)):
        steps = re.findall(r"[0-9]+", " ".join(re.findall(r"\*\*(.+?)\*\*", said[part])))
        assert tuple(map(int, steps)) == ladder
    assert f"at most {deltas.MAX_DELTA_BYTES:,} bytes" in PAGE
    assert f"At least {deltas.MIN_DUMMIES} of its rows are dummies" in PAGE


def test_ladder_and_envelope_sizes() -> None:
    ladder = re.search(r"smallest of \*\*([0-9,\s]+)\*\*", PAGE)
    assert ladder is not None
    assert tuple(map(int, ladder[1].split(","))) == messages.BATCH_SIZES
    sizes = re.search(r"zeros, up to (.+?) bytes", PAGE)
    assert sizes is not None
    assert tuple(int(n.replace(",", "")) for n in re.split(r", | or ", sizes[1])) == disclosure.ENVELOPE_SIZES


def test_slice_sizes_follow_from_the_formula_for_every_size_class() -> None:
    assert "`m = ceil(size_class / ln 2)`" in PAGE
    size, seen = tickets.MIN_SIZE_CLASS, 0
    with localcontext() as context:
        context.prec = 60
        ln2 = Decimal(2).ln()
        while size <= bloom.MAX_CAPACITY:
            m = math.ceil(Decimal(size) / ln2)
            assert bloom.filter_size_bytes(size) == 40 + -(-20 * m // 8)
            size, seen = tickets.size_class(size + 1), seen + 1
    assert seen == 89


def test_the_client_names_chapters_of_the_page() -> None:
    named = {
        name for line in re.findall(r"^// --- (.+)$", CLIENT, re.MULTILINE) for name in re.findall(r'"(.+?)"', line)
    }
    assert len(named) > 5
    assert named <= set(re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE))
