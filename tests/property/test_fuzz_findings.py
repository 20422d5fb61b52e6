"""What ``make fuzz`` found, in the smallest form that shows it; each failed before the decoder was mended."""

from __future__ import annotations

import base64
import io
import json
import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from connector_psi import pki
from connector_psi.adapters.mapping import read_mapping
from connector_psi.adapters.xml import Schema, validate
from connector_psi.audit.verify import MAX_FAILURES, verify_leaves
from connector_psi.domain.identifiers import normalise
from connector_psi.domain.mapping import parse_mapping
from connector_psi.domain.purposes import ProfileRole
from connector_psi.domain.records import IdentifierType, Record, SourceSystem
from connector_psi.domain.toml import MAX_KEY_PARTS, parse_toml
from connector_psi.errors import ConfigError, FormatError, InputError, NormalisationError
from connector_psi.node.config import parse_config
from connector_psi.node.descriptor import Descriptor, encode_descriptor, parse_descriptor
from connector_psi.rpc.convert import parse_record, record_message
from tests.simulation.memory_log import START

XSD = '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"><xs:element name="a" type="xs:int"/></xs:schema>'
MAPPING = """
[source]
name = "own"
system = "AFIS"
category = "afis.vehicle"
kind = "parquet"
path = "own.parquet"
date_formats = [{formats}]
[record]
ref = "id"
[[identifier]]
type = "vin"
column = "vin"
"""


def test_a_key_that_a_peer_made_up_does_not_get_into_the_error() -> None:
    key = Ed25519PrivateKey.from_private_bytes(b"\x11" * 32)
    public = key.public_key().public_bytes_raw().hex()
    valid = Descriptor(
        v=2, authority="sis", role=ProfileRole.NSIS, address="node.example:1", synthetic=True, root_sha256="0a" * 32, signing_key=public, log_vkey="k", witness_vkey="k"
    )  # fmt: skip
    made_up = {**json.loads(encode_descriptor(valid, key)), "QZPLANT7": "x"}
    with pytest.raises(ConfigError) as refused:
        parse_descriptor(json.dumps(made_up).encode())
    assert "QZPLANT7" not in str(refused.value)


def _root_with(der: Callable[[bytes], bytes]) -> bytes:
    """The PEM of a self-signed certificate whose DER form was changed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, START, START + timedelta(days=9))
    raw = der(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER))
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(raw) + b"-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    "changed",
    [
        lambda der: der.replace(b"somebody", b"some\x80ody"),  # no UTF-8
        lambda der: der.replace(b"\x0c\x08somebody", b"\x03\x08somebody"),  # a bit string
    ],
)
def test_a_certificate_with_a_malformed_name_is_refused_with_one_error(changed: Callable[[bytes], bytes]) -> None:
    root = _root_with(changed)
    with pytest.raises(FormatError):
        pki.is_test_root(root)
    with pytest.raises(InputError):
        pki.verify_identity(root, _root_with(bytes), START)


@pytest.mark.parametrize("name", [":", "a:", ":a"])
def test_a_name_that_is_none_is_a_schema_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.xsd").write_text(XSD, encoding="utf-8")
    data = f"<{name}>1</{name}>".encode()
    found = validate(io.BytesIO(data), Schema(tmp_path / "a.xsd"), file="f")
    assert found.elsewhere
    assert {issue.path for issue in found.issues} == {"/*"}


@pytest.mark.parametrize("layout", ["%m%m", "%d.%m.%Y %d"])
def test_a_date_format_that_says_something_twice_is_refused(layout: str) -> None:
    with pytest.raises(ConfigError, match="date_formats"):
        parse_mapping(MAPPING.format(formats=f'"{layout}"').encode())


def test_a_parquet_file_whose_column_name_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.parquet"
    # Without the Arrow schema beside it, the name is read from the file's own one.
    pq.write_table(pa.table({"vin": ["a"], "idQQ": ["1"]}), path, store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"idQQ", b"id\x80\xff"))
    (tmp_path / "mapping.toml").write_text(MAPPING.format(formats=""), encoding="utf-8")
    with pytest.raises(ConfigError, match="no Parquet file that can be read"):
        list(read_mapping(tmp_path / "mapping.toml", now=START))


def test_a_page_that_says_that_it_is_huge_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "own.parquet"
    table = pa.table({"id": ["1", "2", "3"], "vin": ["WVWZZZ1JZXW000001"] * 3})
    pq.write_table(table, path, compression="none", use_dictionary=False)
    raw = path.read_bytes()
    header = raw.index(b"\x15\x00\x15", 4) + 2
    assert header == 6, "the first page's header stands first, its lengths as zigzag varints in two fields"
    end = raw.index(b"\x2c", header)
    huge = b"\x15\x80\x80\x80\x80\x0b"
    path.write_bytes(raw[:header] + huge + huge + raw[end:])
    (tmp_path / "mapping.toml").write_text(MAPPING.format(formats=""), encoding="utf-8")
    before = pa.default_memory_pool().max_memory()
    (issue,) = read_mapping(tmp_path / "mapping.toml", now=START)
    assert getattr(issue, "code", "") == "file.unreadable"
    assert pa.default_memory_pool().max_memory() - before < 2**26


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"a=" + b"[" * 500, "nested too deep"),
        (b"a=" + b"9" * 5000, "not TOML"),
        (b"a." * 30_000 + b"b=1", "nested too deep"),
        (b'{"a" . "b" . ' + b"c . " * 9 + b"d=1}", "nested too deep"),
    ],
)
def test_hostile_toml_is_refused_at_once(raw: bytes, why: str) -> None:
    for parse in (parse_mapping, lambda data: parse_config(data, "node.toml")):
        begin = time.process_time()
        with pytest.raises(ConfigError, match=why):
            parse(raw)
        assert time.process_time() - begin < 0.1


def test_keys_that_are_as_deep_as_allowed_take_no_longer() -> None:
    raw = b"\n".join(b"x%d." % n + b"a." * (MAX_KEY_PARTS - 2) + b"b = 'a.b.c.d'" for n in range(1_500))
    took = []
    for _ in range(3):
        begin = time.process_time()
        assert len(parse_toml(raw)) == 1_500
        took.append(time.process_time() - begin)
    # The quickest: the others say how busy the machine is.
    assert min(took) < 0.5


def test_a_number_that_would_be_shortened_again_has_no_canonical_form() -> None:
    with pytest.raises(NormalisationError, match=r"phone\.invalid"):
        normalise(IdentifierType.PHONE, "+9000000012340000")
    assert normalise(IdentifierType.PHONE, "+90 0 532 123 45 67") == "+905321234567"


def test_a_bundle_of_wrong_lines_is_not_held_in_memory() -> None:
    tracemalloc.start()
    report = verify_leaves((b"" for _ in range(20_000)), b"", "")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert report["size"] == 20_000
    assert not report["verified"]
    assert report["failures"][-1] == f"and {20_001 - MAX_FAILURES} more"
    assert peak < 2**20


@pytest.mark.parametrize("year", [1, 1013, 1970])
def test_a_record_that_ended_before_1970_can_be_sent_and_has_ended(year: int) -> None:
    ended = datetime(year, 1, 1, tzinfo=UTC)
    record = Record(SourceSystem.EIS, "EIS-1", "eis.vehicle", (), {}, bytes(32), valid_until=ended)
    sent = parse_record(record_message(record))
    assert sent.valid_until is not None
    assert sent.valid_until < START
