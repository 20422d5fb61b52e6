"""Small inputs that the adapter tests share. Every identifier is invented or a published example of its check digit."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from connector_psi.adapters import formats
from connector_psi.domain.records import Issue, Record

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


def ens(*houses: str, master: str = "", before: str = "", after: str = "", mrn: str | None = ENS_MRN) -> bytes:
    """Return a message: ``before`` stands before the master, ``master`` after the houses, ``after`` behind it."""
    mrn_element = "" if mrn is None else f"<MRN>{mrn}</MRN>"
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<IE4R05 xmlns="{NS}">\n<functionalReference>X</functionalReference>\n<relatedENS>{mrn_element}{before}\n'
        f"<consignmentMasterLevel>\n{''.join(houses)}{master}\n</consignmentMasterLevel>\n{after}\n</relatedENS>\n</IE4R05>\n"
    ).encode()


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


def codes(issues: Iterable[Issue]) -> list[str]:
    return [issue.code for issue in issues]


def values(record: Record, kind: str) -> list[str]:
    return [identifier.value for identifier in record.identifiers if identifier.type == kind]


def documentation() -> str:
    return (Path(__file__).parent.parent / "docs" / "formats.md").read_text(encoding="utf-8")
