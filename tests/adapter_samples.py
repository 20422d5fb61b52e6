"""Small inputs that the adapter tests share. Every identifier is invented or a published example of its check digit."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from connector_psi.adapters import formats
from connector_psi.domain.lines import Column
from connector_psi.domain.records import Issue, Record, Supersession

NS = "urn:wco:datamodel:eu:ics2:2"
ENS_MRN = "25BE000000000SYN01"
# ISO 6346 examples and numbers with a right check digit.
BOX_A, BOX_B, BOX_C, BOX_D = "CSQU3054383", "MSKU0000006", "TGHU1234567", "MSCU6639870"
BAD_BOX = "CSQU3054384"


def equipment(number: str, *seals: str) -> str:
    return (
        f"<transportEquipment><containerIdentificationNumber>{number}</containerIdentificationNumber>"
        + "".join(f"<seal><identifier>{seal}</identifier></seal>" for seal in seals)
        + "</transportEquipment>"
    )


def house(sequence: int | None = None, *parts: str) -> str:
    number = "" if sequence is None else f"<sequenceNumber>{sequence}</sequenceNumber>"
    return f"<consignmentHouseLevel>{number}{''.join(parts)}</consignmentHouseLevel>\n"


def document(number: str, level: str = "House") -> str:
    name = f"transportDocument{level}Level"
    return f"<{name}><documentNumber>{number}</documentNumber><type>N714</type></{name}>"


def ens(
    *houses: str,
    master: str = "",
    before: str = "",
    after: str = "",
    mrn: str | None = ENS_MRN,
    issued: str = "",
    preloaded: str = "",
) -> bytes:
    """Return a message: ``before`` stands before the master, ``master`` after the houses, ``after`` behind it."""
    issue = f"<DocumentIssueDate><DateTime>{issued}</DateTime></DocumentIssueDate>" if issued else ""
    mrn_element = "" if mrn is None else f"<MRN>{mrn}</MRN>"
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<IE4R05 xmlns="{NS}">\n<functionalReference>X</functionalReference>{preloaded}\n<relatedENS>{issue}{mrn_element}{before}\n'
        f"<consignmentMasterLevel>\n{''.join(houses)}{master}\n</consignmentMasterLevel>\n{after}\n</relatedENS>\n</IE4R05>\n"
    ).encode()


def preload(*houses: str, mrn: str | None = "25DE000000000SYN91", issued: str = "2025-03-01T06:00:00Z") -> str:
    """Return a pre-loading filing."""
    mrn_element = "" if mrn is None else f"<MRN>{mrn}</MRN>"
    return (
        f"<relatedPLACI><consignmentMasterLevel>{''.join(houses)}</consignmentMasterLevel><partialENSFilingHeader>"
        f"<documentIssueDate><DateTime>{issued}</DateTime></documentIssueDate>{mrn_element}"
        "<declarant><identificationNumber>FR11</identificationNumber></declarant></partialENSFilingHeader></relatedPLACI>\n"
    )


def alert(**changes: Any) -> dict[str, Any]:
    """Return a SIS alert on a container as JSON data; ``object`` replaces the object, None removes a key."""
    line: dict[str, Any] = {
        "schengen_id": "DE0000000000001",
        "issuing_state": "DE",
        "article": "38",
        "category": "g",
        "object": {"type": "container", "container_number": BOX_A},
        "action": "seizure",
        "sirene_contact": "SIRENE DE, duty desk",
    }
    line.update(changes)
    return {key: value for key, value in line.items() if value is not None}


def entity(**changes: Any) -> dict[str, Any]:
    """Return an EIS line on a container as JSON data."""
    line: dict[str, Any] = {
        "eis_ref": "EIS-2026-000001",
        "provider": "NL",
        "entity": {"type": "container", "container_number": BOX_A},
        "evaluation_code": "A1",
        "subject_class": "suspect",
    }
    line.update(changes)
    return {key: value for key, value in line.items() if value is not None}


def jsonl(*lines: Any) -> bytes:
    return b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines)


def read(
    data: bytes, format_name: str | None = None, file: str = "f", **options: Any
) -> tuple[list[Record], list[Issue]]:
    found = list(formats.read(io.BytesIO(data), file=file, format=format_name, **options))
    return [x for x in found if isinstance(x, Record)], [x for x in found if isinstance(x, Issue)]


def supersessions(data: bytes, format_name: str) -> list[Supersession]:
    found = formats.read(io.BytesIO(data), file="f", format=format_name)
    return [each for each in found if isinstance(each, Supersession)]


def codes(issues: Iterable[Issue]) -> list[str]:
    return [issue.code for issue in issues]


def values(record: Record, kind: str) -> list[str]:
    return [identifier.value for identifier in record.identifiers if identifier.type == kind]


def as_csv(columns: Mapping[str, Column], *lines: Mapping[str, Any]) -> bytes:
    """Write lines of an exchange format in its CSV form; what has no column is left out."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(line, column) for column in columns.values()] for line in lines)
    return out.getvalue().encode()


def _cell(line: Any, column: Column) -> str:
    for at, key in enumerate(column.keys):
        if key == "*":
            rest = Column(column.keys[at + 1 :])
            items = [_cell(each, rest) for each in line or ()]
            return "|".join(items) if any(items) else ""
        line = line.get(key) if isinstance(line, Mapping) else None
    if isinstance(line, bool):
        return str(line).lower()
    return "|".join(line) if isinstance(line, list | tuple) else "" if line is None else str(line)


def documentation(page: str = "") -> str:
    """Return the general page, or that of a system."""
    folder = Path(__file__).parent.parent / "docs"
    return (folder / "formats" / f"{page}.md" if page else folder / "formats.md").read_text(encoding="utf-8")


def documented_examples(page: str) -> dict[str, bytes]:
    """Return what stands in the examples of a page, by form."""
    text = documentation(page)
    return {
        form: text.split(f"```{language}\n")[1].split("```")[0].encode()
        for language, form in (("json", "jsonl"), ("text", "csv"))
    }
