"""The tables of a node, and the version of their shape.

Payload columns named ``sealed`` hold AES-256-GCM blobs under the node key: whoever reads the file learns
which rows exist and in what state, and no identifier, name or justification. ``ref_index`` columns hold keyed hashes,
so that a
row can be found without its reference standing there in clear.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
)

SCHEMA_VERSION = 9

metadata = MetaData()


def _tries() -> tuple[Column[Any], ...]:
    """What the outbox knows of something that is sent: how often it failed, why, since when, whether it is parked."""
    return (
        Column("attempts", Integer, nullable=False, default=0),
        # The code of the error alone.
        Column("last_error", String),
        Column("first_failed_ms", BigInteger),
        Column("parked_ms", BigInteger),
    )


# SQLite gives an auto-incrementing 64-bit key only to INTEGER; elsewhere it must be BIGINT.
_Id = BigInteger().with_variant(Integer, "sqlite")

meta = Table("meta", metadata, Column("key", String, primary_key=True), Column("value", String, nullable=False))

peers = Table(
    "peers",
    metadata,
    Column("authority", String, primary_key=True),
    Column("descriptor", LargeBinary, nullable=False),
    Column("state", String, nullable=False),
    Column("added_ms", BigInteger, nullable=False),
)

agreements = Table(
    "agreements",
    metadata,
    Column("code", String, primary_key=True),
    Column("peer", String, nullable=False),
    Column("side", String, nullable=False),
    Column("policy_hash", LargeBinary, nullable=False),
    Column("definition", LargeBinary, nullable=False),
    # Of its POLICY_CHANGE.
    Column("leaf_index", BigInteger, nullable=False),
)

# The policies that came into force, the newest of them in force now.
policies = Table(
    "policies",
    metadata,
    Column("seq", _Id, primary_key=True, autoincrement=True),
    Column("pack_hash", LargeBinary, nullable=False),
    Column("policy", LargeBinary, nullable=False),
    Column("signatures", LargeBinary, nullable=False),
    Column("in_force_ms", BigInteger, nullable=False),
    Column("leaf_index", BigInteger, nullable=False),
)

records = Table(
    "records",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("ref_index", LargeBinary, nullable=False, unique=True),
    Column("message_index", LargeBinary, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("change_seq", BigInteger, nullable=False),
    Column("content_mac", LargeBinary, nullable=False),
    Column("category", String, nullable=False),
    Column("state", String, nullable=False),
    Column("hidden", Boolean, nullable=False),
    Column("valid_until_ms", BigInteger),
    Column("registered_ms", BigInteger, nullable=False),
    Column("changed_ms", BigInteger, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Index("records_change", "change_seq", unique=True),
    Index("records_message", "message_index"),
    Index("records_validity", "state", "valid_until_ms"),
    Index("records_counted", "category", "state", "registered_ms"),
)

# Which records name, or named, an identifier: a keyed hash of it, for what a data subject may ask.
subject_index = Table(
    "subject_index",
    metadata,
    Column("subject", LargeBinary, primary_key=True),
    Column("ref_index", LargeBinary, primary_key=True),
    # The key is all there is of a row.
    sqlite_with_rowid=False,
)

# The newest message about each thing that was read to its end: older ones no longer hold, whenever they arrive.
messages = Table(
    "messages",
    metadata,
    Column("message_index", LargeBinary, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("withdrawn", Boolean, nullable=False),
)

# Another reference of a thing -> the one that it is kept under.
message_names = Table(
    "message_names",
    metadata,
    Column("message_index", LargeBinary, primary_key=True),
    Column("kept_under", LargeBinary, nullable=False),
    Index("message_names_kept", "kept_under"),
)

# How far a source was read, in words of its reader.
positions = Table(
    "positions",
    metadata,
    Column("key_index", LargeBinary, primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
)

# Owner: one row an epoch of an agreement.
epochs = Table(
    "epochs",
    metadata,
    Column("agreement", String, primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("state", String, nullable=False),
    Column("wrapped_seed", LargeBinary),
    Column("wrapped_case_keys", LargeBinary),
    Column("manifest", LargeBinary),
    Column("signature", LargeBinary),
    Column("manifest_hash", LargeBinary, unique=True),
    Column("leaf_index", BigInteger),
    Column("tokens", BigInteger),
    Column("change_seq", BigInteger),
    Column("published_ms", BigInteger),
    Column("not_after_ms", BigInteger),
    Column("superseded_ms", BigInteger),
    # Up to which change the set was made; ``change_seq`` goes on with its deltas.
    Column("set_seq", BigInteger),
    # Of the chain of deltas: its last link, when that was made, the time up to which changes are in, how many rows all
    # links have, and how many of the set's own dummies they pretended to remove.
    Column("delta_seq", BigInteger, nullable=False, default=0),
    Column("delta_hash", LargeBinary),
    Column("linked_ms", BigInteger),
    Column("fresh_ms", BigInteger),
    Column("delta_rows", BigInteger, nullable=False, default=0),
    Column("dummies_used", BigInteger, nullable=False, default=0),
)

# Owner: the links of the chains of epochs that still answer; their bytes lie beside the set.
deltas = Table(
    "deltas",
    metadata,
    Column("agreement", String, primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("signature", LargeBinary, nullable=False),
    Column("leaf_index", BigInteger, nullable=False),
)

# Owner: the rows of each record that changed since its set was published; record 0 stands for dummies of deltas.
changed_rows = Table(
    "changed_rows",
    metadata,
    Column("agreement", String, primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("record_id", BigInteger, primary_key=True, autoincrement=False),
    # Tags and lookups.
    Column("sealed", LargeBinary, nullable=False),
)

# Owner: one row a query, so that the same request gives the same bytes and debits once.
evaluations = Table(
    "evaluations",
    metadata,
    Column("peer", String, primary_key=True),
    Column("request_id", LargeBinary, primary_key=True),
    Column("agreement", String, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("request_hash", LargeBinary, nullable=False),
    Column("proof", LargeBinary),
)

capacity = Table(
    "capacity",
    metadata,
    Column("agreement", String, primary_key=True),
    Column("token_class", Integer, primary_key=True),
    Column("day", String, primary_key=True),
    Column("used", BigInteger, nullable=False),
    CheckConstraint("used >= 0"),
)

# Querier: the set in use of each agreement, and how far its own records have been queried against it.
taken_sets = Table(
    "taken_sets",
    metadata,
    Column("agreement", String, primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("state", String, nullable=False),
    Column("manifest", LargeBinary, nullable=False),
    Column("manifest_hash", LargeBinary, nullable=False),
    Column("cursor_seq", BigInteger, nullable=False),
    Column("taken_ms", BigInteger, nullable=False),
    Column("not_after_ms", BigInteger, nullable=False),
    # Up to which change records are evaluated anew in the background, and how far that is: the page of the last ones.
    Column("turn_seq", BigInteger, nullable=False),
    Column("turn_until_ms", BigInteger, nullable=False),
    Column("turn_id", BigInteger, nullable=False),
    Column("turn_done", Boolean, nullable=False),
    # The deltas that were taken, and the owner's time up to which its changes are in the set with them.
    Column("delta_seq", BigInteger, nullable=False),
    Column("delta_hash", LargeBinary, nullable=False),
    Column("fresh_ms", BigInteger, nullable=False),
    # How much of the file of live tokens counts, and which one it is.
    Column("live_file", BigInteger, nullable=False),
    Column("live_bytes", BigInteger, nullable=False),
)

seen_keys = Table(
    "seen_keys",
    metadata,
    Column("agreement", String, primary_key=True),
    Column("public_key", LargeBinary, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
)

batches = Table(
    "batches",
    metadata,
    Column("request_id", LargeBinary, primary_key=True),
    Column("agreement", String, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("token_class", Integer, nullable=False),
    Column("round_seq", BigInteger, nullable=False),
    Column("state", String, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Index("batches_open", "agreement", "epoch", "state"),
)

matches = Table(
    "matches",
    metadata,
    Column("seq", _Id, primary_key=True, autoincrement=True),
    Column("match_id", String, nullable=False, unique=True),
    Column("identity", LargeBinary, nullable=False, unique=True),
    Column("agreement", String, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("record_id", BigInteger, nullable=False),
    Column("state", String, nullable=False),
    Column("found_ms", BigInteger, nullable=False),
    # When people confirmed or dismissed it.
    Column("decided_ms", BigInteger),
    # Of the newest change that people see; whoever follows the matches follows it.
    Column("change_seq", BigInteger, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Index("matches_record", "agreement", "record_id"),
    Index("matches_change", "change_seq", unique=True),
    # With the time, so that counting by it reads no row.
    Index("matches_inbox", "state", "agreement", "epoch", "seq", "found_ms"),
    Index("matches_figures", "agreement", "found_ms", "state", "decided_ms"),
)

# Matches below the bar of the agreement's rule, by own record: counted and never shown.
weak_matches = Table(
    "weak_matches",
    metadata,
    Column("agreement", String, primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("record_id", BigInteger, primary_key=True, autoincrement=False),
    Column("count", BigInteger, nullable=False),
)

cases = Table(
    "cases",
    metadata,
    Column("side", String, primary_key=True),
    Column("peer", String, primary_key=True),
    Column("request_id", LargeBinary, primary_key=True),
    Column("agreement", String, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("state", String, nullable=False),
    Column("opened_ms", BigInteger, nullable=False),
    Column("due_ms", BigInteger, nullable=False),
    Column("next_ms", BigInteger, nullable=False),
    Column("match_id", String),
    Column("leaf_index", BigInteger),
    Column("quiet", Boolean, nullable=False),
    # Owner: keyed hash of the request, so that one that comes again is told without opening the row.
    Column("request_mac", LargeBinary),
    *_tries(),
    Column("sealed", LargeBinary, nullable=False),
    Index("cases_next", "side", "state", "next_ms"),
    Index("cases_match", "match_id"),
    Index("cases_listed", "quiet", "opened_ms", "request_id"),
    # For counts, and for what is late: neither reads a row.
    Index("cases_counted", "quiet", "state", "side", "agreement", "opened_ms"),
)

# The last slot that was filled of an agreement without notice to its owner: with cases at the querier, with a recall at
# the owner.
quiet_slots = Table(
    "quiet_slots",
    metadata,
    Column("agreement", String, primary_key=True),
    Column("slot", BigInteger, nullable=False),
)

# Owner: of which record a case disclosed what, for as long as the recipient may keep it. Of a case without notice there
# is a row whatever became of it, and nothing in clear tells them apart.
releases = Table(
    "releases",
    metadata,
    # Keyed hash of agreement, record and a number; random where no record stands behind the case.
    Column("release_index", LargeBinary, primary_key=True),
    Column("agreement", String, nullable=False),
    Column("peer", String, nullable=False),
    Column("request_id", LargeBinary, nullable=False),
    Column("until_ms", BigInteger, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Index("releases_case", "peer", "request_id", unique=True),
    Index("releases_until", "until_ms"),
)

# How far the changes of records were looked through for what was disclosed, by agreement.
release_cursors = Table(
    "release_cursors",
    metadata,
    Column("agreement", String, primary_key=True),
    # Sealed: without notice to the owner it may stand still because something was disclosed.
    Column("sealed", LargeBinary, nullable=False),
)

# Recalls of both sides.
recalls = Table(
    "recalls",
    metadata,
    Column("side", String, primary_key=True),
    Column("peer", String, primary_key=True),
    Column("recall_id", LargeBinary, primary_key=True),
    Column("case_id", LargeBinary, nullable=False),
    Column("agreement", String, nullable=False),
    Column("state", String, nullable=False),
    Column("sent_ms", BigInteger, nullable=False),
    Column("due_ms", BigInteger, nullable=False),
    # When something of it is to be sent.
    Column("next_ms", BigInteger, nullable=False),
    Column("leaf_index", BigInteger, nullable=False),
    Column("quiet", Boolean, nullable=False),
    # Keyed hash of what the peer sent: the recall at its recipient, the acknowledgement at its sender.
    Column("request_mac", LargeBinary),
    *_tries(),
    Column("sealed", LargeBinary, nullable=False),
    Index("recalls_next", "side", "next_ms"),
    Index("recalls_case", "side", "peer", "case_id"),
)

# Requests for access of both sides, and the grants that came of them. Everything that an answer to a peer says stands
# in a column of its own: the sealed part grows with what people decide, and opening it would take longer then.
accesses = Table(
    "accesses",
    metadata,
    Column("side", String, primary_key=True),
    Column("peer", String, primary_key=True),
    Column("request_id", LargeBinary, primary_key=True),
    Column("agreement", String, nullable=False),
    Column("state", String, nullable=False),
    Column("opened_ms", BigInteger, nullable=False),
    Column("due_ms", BigInteger, nullable=False),
    Column("next_ms", BigInteger, nullable=False),
    Column("leaf_index", BigInteger),
    Column("access_id", LargeBinary),
    # Of the grant; all 0 where there is none.
    Column("identifiers", Integer, nullable=False),
    Column("elements", Integer, nullable=False),
    Column("used", Integer, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("request_mac", LargeBinary),
    *_tries(),
    Column("sealed", LargeBinary, nullable=False),
    Index("accesses_next", "side", "next_ms"),
    Index("accesses_grant", "side", "peer", "access_id"),
    CheckConstraint("used >= 0 AND used <= elements"),
)

# Querier: what an officer asked on a day under an agreement.
officer_use = Table(
    "officer_use",
    metadata,
    # Keyed hash of agreement, day and person.
    Column("officer_index", LargeBinary, primary_key=True),
    Column("token_class", Integer, primary_key=True),
    Column("used", BigInteger, nullable=False),
)

log_leaves = Table(
    "log_leaves",
    metadata,
    Column("idx", BigInteger, primary_key=True, autoincrement=False),
    Column("leaf", LargeBinary, nullable=False),
)

log_nodes = Table(
    "log_nodes",
    metadata,
    Column("level", Integer, primary_key=True),
    Column("idx", BigInteger, primary_key=True),
    Column("hash", LargeBinary, nullable=False),
)

log_bodies = Table(
    "log_bodies",
    metadata,
    Column("idx", BigInteger, primary_key=True, autoincrement=False),
    Column("key_id", String, nullable=False),
    Column("wrapped_key", LargeBinary, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    # As the leaf says, Unix seconds.
    Column("erase_after_s", BigInteger, nullable=False),
    Index("log_bodies_key", "key_id"),
    Index("log_bodies_due", "erase_after_s"),
)

# What of a leaf is searched by, a row a leaf; the leaf itself is what counts. Rows stay, as leaves do.
log_index = Table(
    "log_index",
    metadata,
    Column("idx", _Id, primary_key=True, autoincrement=False),
    Column("ts_s", BigInteger, nullable=False),
    # A hash of event, side, agreement and purpose. There are few of them, so that any combination of the four is found
    # by walking this column for each.
    Column("kind", BigInteger, nullable=False),
    Column("event", String, nullable=False),
    Column("side", String),
    Column("agreement", String),
    Column("purpose", String),
    Column("request_id", LargeBinary),
    Column("parent_id", LargeBinary),
    # With the time, so that no row is read for one that is out of it.
    Index("log_index_kind", "kind", "idx", "ts_s"),
    Index("log_index_time", "ts_s", "idx"),
    Index("log_index_request", "request_id"),
    Index("log_index_parent", "parent_id"),
)

# Keyed hashes of the people, cases and matches that sealed bodies name; erased with the body. None of what an owner
# without notice writes: a word that stands twice would tell a case from a cover.
log_words = Table(
    "log_words",
    metadata,
    Column("word", LargeBinary, primary_key=True),
    Column("idx", BigInteger, primary_key=True, autoincrement=False),
    Index("log_words_idx", "idx"),
    sqlite_with_rowid=False,
)

# How often what happened on a day, counted when it happens. Nothing of an owner without notice but its sets.
daily = Table(
    "daily",
    metadata,
    # Since 1970-01-01, UTC.
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("what", String, primary_key=True),
    # Empty for what belongs to none.
    Column("agreement", String, primary_key=True),
    Column("count", BigInteger, nullable=False),
)

log_checkpoints = Table(
    "log_checkpoints",
    metadata,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("note", LargeBinary, nullable=False),
)

# Of this node's own checkpoints: what witnesses said of them.
log_cosignatures = Table(
    "log_cosignatures",
    metadata,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("name", String, primary_key=True),
    # The signature line, as it stands in a note.
    Column("line", LargeBinary, nullable=False),
)

# Of other logs: the latest checkpoint that this node cosigned.
witnessed = Table(
    "witnessed",
    metadata,
    Column("origin", String, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("note", LargeBinary, nullable=False),
    Column("seen_ms", BigInteger, nullable=False),
)

# Two checkpoints of one log, both signed by it, that cannot both be true. Never deleted.
log_forks = Table(
    "log_forks",
    metadata,
    Column("origin", String, primary_key=True),
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("first", LargeBinary, nullable=False),
    Column("second", LargeBinary, nullable=False),
    Column("found_ms", BigInteger, nullable=False),
)

# One row: how far the time of this node went, and what is wrong with its clock.
clock = Table(
    "clock",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("high_water_ms", BigInteger, nullable=False),
    # good, behind or jumped
    Column("state", String, nullable=False),
    # Of a jump: the time that the clock showed then, and the CLOCK entry.
    Column("jumped_ms", BigInteger),
    Column("leaf_index", BigInteger),
)

# What keeps bodies of the log beyond their time. Rows stay: they say what was held when.
log_holds = Table(
    "log_holds",
    metadata,
    Column("hold_id", String, primary_key=True),
    # placed, released or lapsed
    Column("state", String, nullable=False),
    Column("placed_ms", BigInteger, nullable=False),
    Column("until_ms", BigInteger, nullable=False),
    # What it covers: entries about a request, of an agreement, or all of them.
    Column("request_id", LargeBinary),
    Column("agreement", String),
    Column("sealed", LargeBinary, nullable=False),
)

# Exchanges that were drawn for the data protection officer to look at, as long as the body of their outcome is kept.
samples = Table(
    "samples",
    metadata,
    Column("request_id", LargeBinary, primary_key=True),
    Column("side", String, primary_key=True),
    # A peer chooses its ids, and another may choose the same.
    Column("agreement", String, primary_key=True),
    # Of its outcome in the log.
    Column("outcome_index", BigInteger, nullable=False),
    Column("drawn_ms", BigInteger, nullable=False),
    # Of the checkpoint whose root drew it.
    Column("checkpoint_size", BigInteger, nullable=False),
    # open or graded
    Column("state", String, nullable=False),
    Column("graded_ms", BigInteger),
    Column("sealed", LargeBinary, nullable=False),
    Index("samples_state", "state", "drawn_ms"),
    Index("samples_outcome", "outcome_index"),
)
