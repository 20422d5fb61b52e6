"""Own databases as targets: the mapping that describes one, and the CSV and Parquet files that it reads."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from connector_psi.adapters.mapping import read_mapping
from connector_psi.domain.intake import Item
from connector_psi.domain.mapping import MAX_MAPPING_BYTES, MappingFile, parse_mapping
from connector_psi.errors import ConfigError, PurposeRefusedError
from tests.fuzz import format_targets
from tests.fuzz.harness import Target, folder, promise
from tests.fuzz.mutation import Shape

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
RULES = """
[record]
ref = ["office", "id"]
when = { column = "kind", equals = ["car", "firearm"] }
version = "changed"
valid_until = "until"
withdrawn = { column = "state", equals = "gone" }
hidden = "secret"

[[identifier]]
type = "vin"
column = "vin"
field = "object_identifiers"

[[identifier]]
type = "plate"
column = "plate"
split = ";"
country = { column = "country", map = { D = "DE" }, default = "FR" }

[[identifier]]
type = "firearm"
column = "serial"
make = "make"
calibre = { constant = "9 mm" }
when = { column = "kind", equals = "firearm" }

[[party]]
role = "holder"
kind = { constant = "person" }
name = ["surname", "forenames"]
birth_date = "born"
nationality = "country"
address = ["street", "town"]

[[field]]
name = "action"
constant = "seizure"

[[free_text]]
column = "remarks"
"""
COLUMNS = (
    "office", "id", "kind", "changed", "until", "state", "secret", "vin", "plate", "country", "serial", "make", "surname", "forenames", "born",
    "street", "town", "remarks",
)  # fmt: skip
ROWS = (
    ("B1", "1", "car", "2026-11-22 06:05:00", "22.11.2027", "", "no", "WVWZZZ1JZXW000001", "B AB 1234;BAB1235", "D", "", "", "Doe", "Jo", "1980-05", "Main St 1", "Town", ""),
    ("B1", "2", "firearm", "2026-11-23", "", "gone", "yes", "", "", "", "C12345", "Colt", "", "", "", "", "", "found in CSQU3054383, IMO 9074729"),
    ("B2", "3", "boat", "", "", "", "", "", "", "", "", "", "", "", "", "", "", ""),
)  # fmt: skip


def _source(kind: str, path: str, more: str = "") -> str:
    return (
        f'[source]\nname = "own"\nsystem = "AFIS"\ncategory = "afis.vehicle"\nkind = "{kind}"\npath = "{path}"\n'
        f'timezone = "Europe/Brussels"\ndate_formats = ["%d.%m.%Y"]\nempty = ["n/a"]\nwatermark = "changed"\n{more}'
    )


def _csv() -> Iterator[bytes]:
    yield (
        "\n".join(",".join(f'"{cell}"' if "," in cell else cell for cell in row) for row in (COLUMNS, *ROWS)).encode()
        + b"\n"
    )
    yield "\r\n".join(",".join(f'"{cell}"' for cell in row) for row in (COLUMNS, ROWS[0])).encode()


def _parquet() -> Iterator[bytes]:
    columns = dict(zip(COLUMNS, map(list, zip(*ROWS, strict=True)), strict=True))
    typed = {
        **columns,
        "changed": [datetime(2026, 11, 22, tzinfo=UTC), None, NOW],
        "id": [1, 2, None],
        "secret": [True, False, None],
    }
    for table in (columns, typed):
        for options in ({"compression": "none", "use_dictionary": False}, {"compression": "zstd"}):
            stream = BytesIO()
            pq.write_table(pa.table(table), stream, **options)
            yield stream.getvalue()


def _prepared(kind: str, data: bytes) -> Path:
    (folder() / f"own.{kind}").write_bytes(data)
    path = folder() / f"{kind}.toml"
    path.write_text(_source(kind, f"own.{kind}") + RULES, encoding="utf-8")
    return path


def _read(path: Path) -> list[Item]:
    return list(read_mapping(path, now=NOW, environ={}))


def _check_items(items: list[Item]) -> None:
    format_targets.check(items, file=None)


def _check_mapping(mapping: MappingFile) -> None:
    promise(mapping.system.value == mapping.source.system, "another system")
    promise(len(mapping.fingerprint) == 16, "fingerprint")
    mapping.columns()


def _mappings() -> Iterator[bytes]:
    yield (_source("csv", "own.csv", 'delimiter = ";"\nencoding = "windows-1252"\n') + RULES).encode()
    yield (_source("parquet", "*.parquet") + RULES).encode()
    yield (
        b'[source]\nname = "own"\nsystem = "SIS"\ncategory = "sis.38.a"\nkind = "sql"\nurl_env = "URL"\nmode = "full"\n'
        b'query = "SELECT * FROM cars"\n[record]\nref = "id"\n[[identifier]]\ntype = "vin"\ncolumn = "vin"\n'
    )


def targets() -> Iterator[Target]:
    """Yield the targets."""
    yield Target(
        "mapping-toml", parse_mapping, (ConfigError, PurposeRefusedError), _mappings, Shape.TEXT, check=_check_mapping,
        max_bytes=MAX_MAPPING_BYTES + 1, names_keys=True,
    )  # fmt: skip
    # The columns that a file has are shown to the operator, who has to compare them with the mapping.
    yield Target(
        "mapping-csv", _read, (ConfigError,), _csv, Shape.CSV, prepare=lambda data: _prepared("csv", data), check=_check_items, takes_in=format_targets.has_records,
        max_bytes=format_targets.MAX_BYTES, names_keys=True,
    )  # fmt: skip
    yield Target(
        "mapping-parquet", _read, (ConfigError,), _parquet, Shape.BYTES, prepare=lambda data: _prepared("parquet", data),
        check=_check_items, takes_in=format_targets.has_records, max_bytes=format_targets.MAX_BYTES, names_keys=True,
    )  # fmt: skip
