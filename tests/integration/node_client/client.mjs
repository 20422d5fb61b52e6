// A querier without a line of the node's code: protos/, docs/protocol.md, a stock RFC 9497 library.
//
// Reads a job from standard input (JSON, see `main`), takes the newest set of an agreement with its deltas, checks all of
// it, asks the owner about the job's identifiers in one padded batch, and prints the tickets that they open:
// {"0": [{"ticket_id": ..., "class": 1, "category": 7, "family": 1, "redeem": ...}], "1": []}, by place of the token.
//
// Comments name the section of docs/protocol.md that a part was written from.

import { createDecipheriv, createHash, createPublicKey, randomBytes, randomInt, verify } from "node:crypto";
import { readFileSync } from "node:fs";
import { createSecureContext } from "node:tls";

import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";
import { ristretto255_oprf } from "@noble/curves/ed25519.js";

const CLASSES = { object: 1, contact: 2, organisation: 3, person: 4 };
const LADDER = [8, 16, 32, 64, 256, 1024, 4096];
const ROW_BYTES = 76;
const LOOKUP_BYTES = 16;
const DELTA_ROWS = [16, 64, 256, 1024, 4096, 8192];
const DELTA_REMOVED = [8, 32, 128, 512, 2048, 8192];
const FILE_CHUNK_BYTES = 8 * 1024 * 1024;
const CLOCK_SKEW_MS = 120_000;
const DEADLINE_MS = 20_000;

class Refusal extends Error {}

function must(condition, what) {
  if (!condition) throw new Refusal(what);
}

// --- "Notation"

const sha256 = (...parts) => digest("sha256", parts);
const sha512 = (...parts) => digest("sha512", parts);

function digest(name, parts) {
  const hash = createHash(name);
  for (const part of parts) hash.update(part);
  return hash.digest();
}

function uint32(value) {
  const out = Buffer.alloc(4);
  out.writeUInt32BE(value);
  return out;
}

function uint64(value) {
  const out = Buffer.alloc(8);
  out.writeBigUInt64BE(BigInt(value));
  return out;
}

function lp(value) {
  const raw = Buffer.from(value);
  const length = Buffer.alloc(2);
  length.writeUInt16BE(raw.length);
  return Buffer.concat([length, raw]);
}

/** RFC 8785 for what manifests and leaves hold: ASCII text, small integers, booleans, null, arrays, objects. */
function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const keys = Object.keys(value).sort();
  return `{${keys.map((key) => `${JSON.stringify(key)}:${canonical(value[key])}`).join(",")}}`;
}

function parseCanonical(raw, what) {
  const value = JSON.parse(raw.toString("utf8"));
  must(Buffer.from(canonical(value)).equals(raw), `${what} is not canonical`);
  return value;
}

function verifyEd25519(publicKey, message, signature, what) {
  const key = createPublicKey({
    format: "jwk",
    key: { kty: "OKP", crv: "Ed25519", x: publicKey.toString("base64url") },
  });
  must(verify(null, message, key, signature), what);
}

// --- "The owner's log": checkpoint, inclusion proof

function parseVkey(text) {
  const first = text.indexOf("+");
  const second = text.indexOf("+", first + 1);
  const key = Buffer.from(text.slice(second + 1), "base64");
  must(first > 0 && second > first && key.length === 33 && key[0] === 1, "the log's key is not an Ed25519 vkey");
  const name = text.slice(0, first);
  const keyId = sha256(`${name}\n`, key).subarray(0, 4);
  must(text.slice(first + 1, second) === keyId.toString("hex"), "the log's key does not have its own key ID");
  return { name, keyId, publicKey: key.subarray(1) };
}

function verifyCheckpoint(note, vkey) {
  const content = note.toString("utf8");
  const border = content.lastIndexOf("\n\n");
  must(border >= 0 && content.endsWith("\n"), "the checkpoint is not a signed note");
  const text = content.slice(0, border + 1);
  let signed = false;
  for (const line of content.slice(border + 2, -1).split("\n")) {
    const [dash, name, blob] = line.split(" ");
    must(dash === "\u2014" && blob !== undefined, "the checkpoint has a malformed signature line");
    const signature = Buffer.from(blob, "base64");
    if (name !== vkey.name || !signature.subarray(0, 4).equals(vkey.keyId)) continue;
    verifyEd25519(vkey.publicKey, Buffer.from(text), signature.subarray(4), "checkpoint signature");
    signed = true;
  }
  must(signed, "the checkpoint is not signed by the owner's log");
  const [origin, size, root] = text.split("\n");
  must(origin === vkey.name, "the checkpoint is of another log");
  return { size: BigInt(size), root: Buffer.from(root, "base64") };
}

const leafHash = (leaf) => sha256(Buffer.of(0), leaf);
const nodeHash = (left, right) => sha256(Buffer.of(1), left, right);

function verifyInclusion(leaf, index, proof, checkpoint) {
  must(index < checkpoint.size, "the leaf lies outside the log");
  let [fn, sn, computed] = [index, checkpoint.size - 1n, leafHash(leaf)];
  for (const sibling of proof) {
    must(sn !== 0n && sibling.length === 32, "the inclusion proof has a wrong length");
    if (fn & 1n || fn === sn) {
      computed = nodeHash(sibling, computed);
      while (!(fn & 1n) && fn !== 0n) [fn, sn] = [fn >> 1n, sn >> 1n];
    } else {
      computed = nodeHash(computed, sibling);
    }
    [fn, sn] = [fn >> 1n, sn >> 1n];
  }
  must(sn === 0n && computed.equals(checkpoint.root), "the inclusion proof does not lead to the root");
}

/** The owner's log holds a SET_PUBLISH leaf of this agreement, epoch and hash. */
function verifyPublished({ leaf: leafBytes, index, inclusion_proof: proof, checkpoint }, job, epoch, hash) {
  verifyInclusion(leafBytes, BigInt(index), proof, verifyCheckpoint(checkpoint, parseVkey(job.owner_log_vkey)));
  const leaf = parseCanonical(leafBytes, "the leaf");
  must(
    leaf.event === "SET_PUBLISH" &&
      leaf.agreement === job.agreement &&
      leaf.epoch === epoch &&
      leaf.manifest_hash === hash.toString("hex"),
    "the log entry is about something else",
  );
}

/** Root of the tree over leaf hashes (RFC 9162, section 2.1.1). */
function treeRoot(hashes) {
  if (hashes.length === 0) return sha256();
  if (hashes.length === 1) return hashes[0];
  let left = 1;
  while (left * 2 < hashes.length) left *= 2;
  return nodeHash(treeRoot(hashes.slice(0, left)), treeRoot(hashes.slice(left)));
}

// --- "Manifest"

function checkManifest(answer, job) {
  const raw = answer.manifest;
  verifyEd25519(
    Buffer.from(job.owner_signing_key, "hex"),
    Buffer.concat([Buffer.from("connector-psi/v1 manifest\n"), raw]),
    answer.signature,
    "manifest signature",
  );
  const manifest = parseCanonical(raw, "the manifest");
  const hash = sha256(raw);
  must(manifest.v === 1 && manifest.suite === "ristretto255-SHA512/VOPRF", "the manifest is of another version or suite");
  must(manifest.agreement === job.agreement, "the manifest is of another agreement");
  must(manifest.owner === job.owner && manifest.querier === job.querier, "the manifest names other authorities");
  must(manifest.policy_hash === job.policy_hash, "the manifest is of another policy");
  must(manifest.normalisation_version === job.normalisation_version, "the manifest is of other normalisation rules");
  must(manifest.synthetic === true, "this client asks sets of synthetic data only");
  const now = Date.now();
  must(Date.parse(manifest.source_snapshot) <= now + CLOCK_SKEW_MS, "the manifest lies in the future");
  must(now < Date.parse(manifest.not_after) + CLOCK_SKEW_MS, "the manifest has expired");
  verifyPublished(answer.proof, job, manifest.epoch, hash);
  return { manifest, hash };
}

// --- "Reading a set"

function fileRoot(bytes) {
  const leaves = [];
  for (let at = 0; at < bytes.length; at += FILE_CHUNK_BYTES) {
    leaves.push(leafHash(bytes.subarray(at, at + FILE_CHUNK_BYTES)));
  }
  return treeRoot(leaves);
}

async function readSet(matching, hash, file, entry) {
  const pieces = [];
  let offset = 0;
  const request = { manifest_hash: hash, file, offset: 0 };
  for await (const piece of matching.ReadSet(request, { deadline: Date.now() + DEADLINE_MS })) {
    must(Number(piece.offset) === offset, "a file came out of order");
    offset += piece.data.length;
    must(offset <= entry.size_bytes, "a file is longer than its manifest says");
    pieces.push(piece.data);
  }
  const bytes = Buffer.concat(pieces);
  must(bytes.length === entry.size_bytes, "a file has another length than its manifest says");
  must(fileRoot(bytes).toString("hex") === entry.root, "a file is not the one that its manifest names");
  return bytes;
}

// --- "The filter"

class Filter {
  static SLICES = 20;

  constructor(bytes, capacity) {
    this.m = Math.ceil(capacity / Math.LN2);
    const [name, wordBytes] = this.m < 2 ** 15 ? ["sha384", 2] : this.m < 2 ** 31 ? ["sha512", 4] : ["sha512", 8];
    this.hash = (...parts) => digest(name, parts);
    this.wordBytes = wordBytes;
    const header = Buffer.alloc(40);
    header.writeDoubleLE(2 ** -20, 0);
    [Filter.SLICES, this.m, capacity, capacity].forEach((value, i) => {
      header.writeBigUInt64LE(BigInt(value), 8 + 8 * i);
    });
    must(bytes.subarray(0, 40).equals(header), "the filter's header is not that of its size class");
    this.bits = bytes.subarray(40);
    must(this.bits.length === Math.ceil((Filter.SLICES * this.m) / 8), "the filter has a wrong length");
    this.#checkFill();
  }

  has(lookup) {
    const key = lookup.toString("hex");
    let slice = 0;
    for (let s = 0; slice < Filter.SLICES; s += 1) {
      const number = Buffer.alloc(4);
      number.writeUInt32LE(s);
      const words = this.hash(this.hash(number), key);
      for (let at = 0; at < words.length && slice < Filter.SLICES; at += this.wordBytes, slice += 1) {
        const word = this.wordBytes === 8 ? words.readBigUInt64LE(at) : BigInt(words.readUIntLE(at, this.wordBytes));
        if (!this.#bit(slice * this.m + Number(word % BigInt(this.m)))) return false;
      }
    }
    return true;
  }

  #bit(position) {
    return (this.bits[Math.floor(position / 8)] >> position % 8) & 1;
  }

  #checkFill() {
    const tolerance = Math.max(0.01, 0.005 + 1.7 / Math.sqrt(this.m));
    for (let slice = 0; slice < Filter.SLICES; slice += 1) {
      let ones = 0;
      for (let i = slice * this.m; i < (slice + 1) * this.m; i += 1) ones += this.#bit(i);
      must(Math.abs(ones / this.m - 0.5) <= tolerance, "the filter is not filled as a set of its size");
    }
    for (let i = Filter.SLICES * this.m; i < this.bits.length * 8; i += 1) {
      must(!this.#bit(i), "the filter has bits beyond its last slice");
    }
  }
}

// --- "Tickets"

class Tickets {
  constructor(bytes, agreement, epoch) {
    this.bytes = bytes;
    this.rows = bytes.length / ROW_BYTES;
    this.prefix = Buffer.concat([Buffer.from("connector-psi/v1 ticket"), lp(agreement), uint64(epoch)]);
    for (let i = 1; i < this.rows; i += 1) {
      must(Buffer.compare(this.#lookup(i - 1), this.#lookup(i)) < 0, "the ticket rows are out of order");
    }
  }

  #lookup(i) {
    return this.bytes.subarray(i * ROW_BYTES, i * ROW_BYTES + 16);
  }

  find(lookup) {
    let [low, high] = [0, this.rows];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (Buffer.compare(this.#lookup(middle), lookup) < 0) low = middle + 1;
      else high = middle;
    }
    const found = low < this.rows && this.#lookup(low).equals(lookup);
    return found ? this.bytes.subarray(low * ROW_BYTES, (low + 1) * ROW_BYTES) : null;
  }

  open(row, key) {
    const decipher = createDecipheriv("chacha20-poly1305", key, row.subarray(16, 28), { authTagLength: 16 });
    decipher.setAAD(Buffer.concat([this.prefix, row.subarray(0, 16)]), { plaintextLength: 32 });
    decipher.setAuthTag(row.subarray(60, 76));
    const plain = Buffer.concat([decipher.update(row.subarray(28, 60)), decipher.final()]);
    must(plain.subarray(19, 24).equals(Buffer.alloc(5)), "a ticket has reserved bytes set");
    must(plain[16] >= 1 && plain[16] <= 4, "a ticket has an unknown class");
    return {
      ticket_id: plain.subarray(0, 16).toString("hex"),
      class: plain[16],
      category: plain[17],
      family: plain[18],
      redeem: plain.subarray(24, 32).toString("hex"),
    };
  }
}

// --- "Deltas", "Taking deltas"

function split(bytes, size) {
  const pieces = Array.from({ length: bytes.length / size }, (_, i) => bytes.subarray(i * size, (i + 1) * size));
  for (let i = 1; i < pieces.length; i += 1) {
    const [before, here] = [pieces[i - 1], pieces[i]].map((piece) => piece.subarray(0, LOOKUP_BYTES));
    must(Buffer.compare(before, here) < 0, "a delta is out of order");
  }
  return pieces;
}

function parseDelta(raw, start) {
  must(raw.subarray(0, start.length).equals(start), "a delta is of another set, or out of the chain");
  const snapshotMs = Number(raw.readBigUInt64BE(start.length));
  const n = raw.readUInt32BE(start.length + 8);
  const rowsAt = start.length + 12;
  const m = raw.readUInt32BE(rowsAt + n * ROW_BYTES);
  const removedAt = rowsAt + n * ROW_BYTES + 4;
  must(DELTA_ROWS.includes(n) && DELTA_REMOVED.includes(m), "a delta has a number off its ladder");
  must(raw.length === removedAt + m * LOOKUP_BYTES, "a delta has a wrong length");
  return {
    snapshotMs,
    rows: split(raw.subarray(rowsAt, removedAt - 4), ROW_BYTES),
    removed: split(raw.subarray(removedAt), LOOKUP_BYTES),
  };
}

async function readDeltas(matching, job, manifest, view) {
  let [seq, previous] = [1, Buffer.from(manifest.delta_chain_start, "hex")];
  const request = { agreement: job.agreement, epoch: manifest.epoch, from_seq: seq };
  for await (const answer of matching.GetDeltas(request, { deadline: Date.now() + DEADLINE_MS })) {
    const raw = answer.delta;
    verifyEd25519(
      Buffer.from(job.owner_signing_key, "hex"),
      Buffer.concat([Buffer.from("connector-psi/v1 delta\n"), raw]),
      answer.signature,
      "delta signature",
    );
    const magic = Buffer.concat([Buffer.from("cpsi-delta-v1"), Buffer.alloc(3)]);
    const start = Buffer.concat([magic, lp(job.agreement), uint64(manifest.epoch), uint64(seq), previous]);
    const delta = parseDelta(raw, start);
    must(delta.snapshotMs <= Date.now() + CLOCK_SKEW_MS, "a delta lies in the future");
    previous = sha256(raw);
    verifyPublished(answer.proof, job, manifest.epoch, previous);
    view.apply(delta);
    seq += 1;
  }
}

/** The rows of an epoch: those of the set, and those that deltas brought. */
class View {
  constructor(filter, tickets) {
    this.filter = filter;
    this.tickets = tickets;
    this.added = new Map();
    this.removed = new Set();
  }

  /** The row that was published under a lookup, removed or not. */
  row(lookup) {
    const added = this.added.get(lookup.toString("hex"));
    if (added !== undefined) return added;
    return this.filter.has(lookup) ? this.tickets.find(lookup) : null;
  }

  apply({ rows, removed }) {
    for (const lookup of removed) {
      must(this.row(lookup) !== null, "a delta removes what was never published");
      must(!this.removed.has(lookup.toString("hex")), "a delta removes what was removed");
    }
    for (const row of rows) {
      must(this.row(row.subarray(0, LOOKUP_BYTES)) === null, "a delta repeats a lookup");
    }
    for (const lookup of removed) this.removed.add(lookup.toString("hex"));
    for (const row of rows) this.added.set(row.toString("hex", 0, LOOKUP_BYTES), row);
  }
}

// --- "Tokens", "Asking"

function encodeToken(version, type, value) {
  const token = Buffer.concat([Buffer.from("connector-psi/v1 token"), lp(version), lp(type), lp(value)]);
  must(token.length <= 512, "a token is longer than 512 bytes");
  return token;
}

function sourceCommitment(messages) {
  const leaves = messages.map(({ digest: message, tokens }) =>
    leafHash(sha256(randomBytes(32), Buffer.from(message, "hex"), ...tokens.map(lp))),
  );
  return treeRoot(leaves);
}

function shuffle(items) {
  for (let i = items.length - 1; i > 0; i -= 1) {
    const j = randomInt(i + 1);
    [items[i], items[j]] = [items[j], items[i]];
  }
  return items;
}

async function evaluate(matching, job, manifest, messages) {
  const own = messages.flatMap(({ tokens }) => tokens);
  const size = LADDER.find((step) => own.length <= step);
  must(own.length > 0 && size !== undefined, "a batch holds 1 to 4096 tokens");
  const { voprf } = ristretto255_oprf;
  // A random input blinds to a uniform element: to the owner the same as a token.
  const inputs = [...own, ...Array.from({ length: size - own.length }, () => randomBytes(64))];
  const items = shuffle(inputs.map((input, place) => ({ input, place, ...voprf.blind(input) })));
  const blinded = Buffer.concat(items.map((item) => item.blinded));
  const requestId = randomBytes(16);
  const answer = await unary(matching, "Evaluate", {
    agreement: job.agreement,
    epoch: manifest.epoch,
    token_class: CLASSES[job.token_class],
    request_id: requestId,
    batch_commitment: sha256(
      "connector-psi/v1 batch",
      lp(job.querier),
      lp(job.agreement),
      uint64(manifest.epoch),
      lp(job.token_class),
      requestId,
      uint32(size),
      blinded,
    ),
    source_commitment: sourceCommitment(messages),
    actor_commitment: randomBytes(32),
    access_id: Buffer.alloc(0),
    blinded_elements: blinded,
  });
  must(answer.evaluated_elements.length === 32 * size, "the answer has another length than the batch");
  items.forEach((item, i) => {
    item.evaluated = answer.evaluated_elements.subarray(32 * i, 32 * i + 32);
  });
  const publicKey = Buffer.from(manifest.class_keys[job.token_class], "hex");
  // Verifies the proof over the whole batch before it unblinds anything; throws if it does not hold.
  const outputs = voprf.finalizeBatch(items, publicKey, answer.proof);
  const byPlace = [];
  items.forEach((item, i) => {
    byPlace[item.place] = outputs[i];
  });
  return byPlace.slice(0, own.length);
}

// --- "Looking up"

function openAll(output, view) {
  const opened = [];
  for (let j = 0; ; j += 1) {
    const d = sha512("connector-psi/v1 derive", output, uint32(j));
    const lookup = d.subarray(0, 16);
    const row = view.row(lookup);
    if (row === null) return opened;
    // A removed row counts as published.
    if (view.removed.has(lookup.toString("hex"))) continue;
    opened.push(view.tickets.open(row, d.subarray(16, 48)));
  }
}

// --- transport

function unary(stub, method, request) {
  return new Promise((resolve, reject) => {
    stub[method](request, { deadline: Date.now() + DEADLINE_MS }, (error, answer) =>
      error ? reject(error) : resolve(answer),
    );
  });
}

function connect(job) {
  const definition = protoLoader.loadSync("connector_psi/rpc/v1/matching.proto", {
    includeDirs: [job.protos],
    keepCase: true,
    longs: String,
    enums: Number,
    defaults: true,
  });
  const { MatchingService } = grpc.loadPackageDefinition(definition).connector_psi.rpc.v1;
  const context = createSecureContext({
    ca: readFileSync(job.root),
    cert: readFileSync(job.cert),
    key: readFileSync(job.key),
    minVersion: "TLSv1.3",
  });
  return new MatchingService(job.address, grpc.credentials.createFromSecureContext(context), {
    "grpc.ssl_target_name_override": `${job.owner}.connector-psi.internal`,
    "grpc.max_receive_message_length": 1 << 20,
  });
}

/**
 * The job: `protos` (folder), `address`, `root`, `cert`, `key` (PEM files), `owner` and `querier` (authority codes),
 * `owner_signing_key` and `owner_log_vkey` (from the owner's descriptor.json), `agreement`, `policy_hash`,
 * `normalisation_version`, `epoch` (the newest if it is left out), `token_class`, `messages`:
 * [{"digest": hex SHA-256, "identifiers": [{"type": ..., "value": canonical}]}].
 */
async function main() {
  const job = JSON.parse(readFileSync(0, "utf8"));
  const matching = connect(job);
  try {
    const answer = await unary(matching, "GetManifest", { agreement: job.agreement, epoch: job.epoch ?? 0 });
    const { manifest, hash } = checkManifest(answer, job);
    const filter = new Filter(await readSet(matching, hash, 1, manifest.files.filter), manifest.size_class);
    const rows = await readSet(matching, hash, 2, manifest.files.tickets);
    must(rows.length === ROW_BYTES * manifest.size_class, "the ticket file is not of its size class");
    const view = new View(filter, new Tickets(rows, manifest.agreement, manifest.epoch));
    await readDeltas(matching, job, manifest, view);
    const messages = job.messages.map(({ digest: message, identifiers }) => ({
      digest: message,
      tokens: identifiers.map(({ type, value }) => encodeToken(manifest.normalisation_version, type, value)),
    }));
    const outputs = await evaluate(matching, job, manifest, messages);
    const opened = Object.fromEntries(outputs.map((output, i) => [i, openAll(output, view)]));
    process.stdout.write(`${JSON.stringify(opened)}\n`);
  } finally {
    matching.close();
  }
}

main().catch((error) => {
  process.stderr.write(`${error instanceof Refusal ? "refused" : error.name}: ${error.message}\n`);
  process.exitCode = 1;
});
