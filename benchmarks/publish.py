"""P3: encode and publish exact tokens from a file.

The same seeded container numbers go three ways, next to the PRF alone in the same run:

- *encode*: from a table of references and numbers: canonical forms, records, tokens, PRF, tickets, rows, filter, signed
  manifest; what P3 names;
- *alerts*: the same from SIS object alerts in JSON Lines, through the adapter that checks and describes them;
- *node*: these alerts through a node: registered and stored first (durable, encrypted), then published from the store
  and logged.

    python benchmarks/publish.py --tokens 1000000 --json OUT
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from connector_psi import policy
from connector_psi.adapters import formats
from connector_psi.audit.entries import Side
from connector_psi.cli import tune_interpreter
from connector_psi.domain.clock import SystemClock, SystemRandom
from connector_psi.domain.identifiers import NORMALISATION_VERSION, normalise
from connector_psi.domain.records import Identifier, IdentifierType, Record, SourceSystem
from connector_psi.encoding import bloom, tickets
from connector_psi.encoding import manifest as manifests
from connector_psi.node import setup
from connector_psi.node.service import Service
from connector_psi.oprf import suite
from connector_psi.oprf.backends import backend_name
from connector_psi.protocol.owner import EncodeItem, SetEncoder, derive_class_keys
from connector_psi.protocol.tokens import record_tokens
from connector_psi.rpc.client import PeerConnector

PRF_SAMPLE = 20_000
CHUNK = 500
BATCH = 4000


def measure(tokens: int = 1_000_000, node_tokens: int = 100_000, seed: int = 1) -> dict[str, object]:
    """Return ``{"P3": {...}}``; times are wall seconds."""
    tune_interpreter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table, source, fewer = folder / "table.csv", folder / "alerts.jsonl", min(tokens, node_tokens)
        with table.open("w", encoding="utf-8") as out:
            out.writelines(f"XX{n:012d},{container}\n" for n, container in enumerate(containers(tokens, seed)))
        with source.open("w", encoding="utf-8") as out:
            out.writelines(_alerts(fewer, seed))
        before = prf_rate()
        service = _owner(folder)
        try:
            agreement = service.node.agreements()[0].agreement
            encode_s = _encode(folder, _table_records(table), agreement, tokens)
            alerts_s = _encode(folder, _records(source), agreement, fewer)
            ingest_s, publish_s = _through_node(service, source, fewer)
        finally:
            service.close()
        # Machines drift: the PRF alone is measured before and after, and the mean is compared with.
        prf_alone = (before + prf_rate()) / 2
    rate = tokens / encode_s
    return {
        "P3": {
            "figures": {
                "tokens": tokens,
                "encode_s": round(encode_s, 2),
                "tokens_per_s": round(rate),
                "prf_alone_tokens_per_s": round(prf_alone),
                "alerts_tokens_per_s": round(fewer / alerts_s),
                "node_tokens": fewer,
                "node_ingest_s": round(ingest_s, 2),
                "node_publish_s": round(publish_s, 2),
                "node_publish_tokens_per_s": round(fewer / publish_s),
            },
            "units": {"*_s": "seconds of wall time", "*_per_s": "1/s"},
            "conditions": {"cpus": len(os.sched_getaffinity(0)), "seed": seed, "runs": 1},
            "backend": backend_name(),
            "ratio_to_prf_alone": round(rate / prf_alone, 3),
        }
    }


def _encode(folder: Path, records: Iterator[Record], agreement: policy.Agreement, tokens: int) -> float:
    """From records, which are read on the way, to the signed manifest, without a store; returns seconds."""
    started = time.perf_counter()
    keys = derive_class_keys(bytes(32), agreement.code, 1, agreement.classes)
    encoder = SetEncoder(agreement.code, 1, keys, bytes(32), bytes(32), SystemRandom())
    lookups, rows = bytearray(), bytearray()
    for encoded in encoder.encode(_batches(records, agreement)):
        lookups += encoded.lookups
        rows += encoded.rows
    size = tickets.padded_size(tokens)
    dummies = tickets.dummy_rows(size - tokens, SystemRandom())
    lookups += np.frombuffer(dummies, np.uint8).reshape(-1, tickets.ROW_BYTES)[:, :16].tobytes()
    rows += dummies
    paths = {name: folder / name for name in ("filter", "tickets")}
    bloom.write_filter(paths["filter"], bytes(lookups), size)
    tickets.write_tickets(paths["tickets"], bytes(rows))
    now = datetime.now(tz=UTC)
    manifest = manifests.Manifest(
        agreement=agreement.code,
        epoch=1,
        owner=agreement.owner,
        querier=agreement.querier,
        normalisation_version=NORMALISATION_VERSION,
        policy_hash=policy.policy_hash(agreement).hex(),
        class_keys={c.label: pair.public.hex() for c, pair in keys.items()},
        size_class=size,
        files=manifests.Files(
            **{
                name: manifests.FileEntry(size_bytes=path.stat().st_size, root=manifests.file_root(path).hex())
                for name, path in paths.items()
            }
        ),
        source_snapshot=manifests.encode_time(now),
        not_before=manifests.encode_time(now),
        not_after=manifests.encode_time(now + timedelta(hours=48)),
        delta_chain_start=bytes(32).hex(),
        synthetic=True,
        families=(1,),
    )
    manifests.sign_manifest(Ed25519PrivateKey.generate(), manifests.encode_manifest(manifest))
    assert len(rows) == size * tickets.ROW_BYTES, "every alert of the file must be in the set"
    return time.perf_counter() - started


def _batches(records: Iterator[Record], agreement: policy.Agreement) -> Iterator[list[EncodeItem]]:
    batch: list[EncodeItem] = []
    for number, record in enumerate(records):
        batch.append(EncodeItem(number, 1, tuple(record_tokens(agreement, record, Side.OWNER, ()))))
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _through_node(service: Service, source: Path, tokens: int) -> tuple[float, float]:
    """Register the first records of the file, then publish; returns seconds of each."""
    started = time.perf_counter()
    records = islice(_records(source), tokens)
    while chunk := list(islice(records, CHUNK)):
        service.registration.register(chunk, "benchmark")
    registered = time.perf_counter()
    published = service.publishing.publish(service.publishing.runnable()[0])
    assert published.tokens == tokens, "every registered alert must be in the set"
    return registered - started, time.perf_counter() - registered


def _table_records(table: Path) -> Iterator[Record]:
    with table.open(encoding="utf-8", newline="") as stream:
        for ref, number in csv.reader(stream):
            value = normalise(IdentifierType.CONTAINER, number)
            yield Record(
                source=SourceSystem.SIS,
                source_ref=ref,
                category="sis.38.g",
                identifiers=(Identifier(IdentifierType.CONTAINER, value, "container"),),
                fields={},
                message_digest=bytes(32),
            )


def _records(source: Path) -> Iterator[Record]:
    with source.open("rb") as stream:
        for item in formats.read(stream, file=source.name):
            assert isinstance(item, Record), "the generator writes valid alerts only"
            yield item


def containers(count: int, seed: int) -> Iterator[str]:
    """Yield different container numbers with right check digits."""
    draw = random.Random(seed)
    for serial in draw.sample(range(26**3 * 1_000_000), count):
        owner, number = divmod(serial, 1_000_000)
        prefix = "".join(chr(65 + owner // 26**k % 26) for k in range(3))
        body = f"{prefix}U{number:06d}"
        yield body + _check_digit(body)


def _alerts(count: int, seed: int) -> Iterator[str]:
    for n, container in enumerate(containers(count, seed)):
        alert = {
            "schengen_id": f"XX{n:012d}",
            "issuing_state": "DE",
            "article": "38",
            "category": "g",
            "object": {"type": "container", "container_number": container},
            "action": "seizure",
            "sirene_contact": "sirene@example.org",
        }
        yield json.dumps(alert) + "\n"


def _check_digit(body: str) -> str:
    """ISO 6346: letters count 10 up without the multiples of 11, weights are powers of two."""
    values = [int(c) if c.isdigit() else (ord(c) - 55) + (ord(c) - 56) // 10 for c in body]
    return str(sum(v << k for k, v in enumerate(values)) % 11 % 10)


def _owner(folder: Path) -> Service:
    for code, port in (("sis", 7301), ("ics2", 7303)):
        setup.init_node(
            folder / code,
            authority=code,
            profile=code,
            pkidir=folder / "pki",
            listen=f"127.0.0.1:{port}",
            local=f"127.0.0.1:{port + 1}",
            clock=SystemClock(),
            random=SystemRandom(),
        )
    service = Service(folder / "sis", PeerConnector)
    service.peering.add((folder / "ics2" / "descriptor.json").read_bytes())
    return service


def prf_rate() -> float:
    """Return how many tokens a second the PRF alone evaluates on all cores."""
    keys = suite.derive_key_pair(bytes(32), b"benchmark")
    tokens = [b"connector-psi benchmark token %d" % n for n in range(PRF_SAMPLE)]
    started = time.perf_counter()
    suite.evaluate(keys.secret, tokens)
    return PRF_SAMPLE / (time.perf_counter() - started)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--node-tokens", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result = measure(options.tokens, options.node_tokens, options.seed)
    text = json.dumps(result, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
