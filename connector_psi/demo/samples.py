"""The samples of the demonstration: 200 declarations, 5,000 alerts, 1,000 entities, 12 things that two of them know.

Customs is drawn first and knows nothing of the others. What is shared is then taken out of the declarations and entered
by SIS or Europol in their own writing; a near miss is the same with one thing wrong. All other numbers differ from one
another by construction (``numbers``), so the planted pairs are all there is to find.

Decides: the files. Leaves to others: what was shipped (``shipments``), what is sought and planted (``sought``), finding
anything (the nodes; ``join`` for comparison).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

from connector_psi.demo.declarations import encode_declaration, numbers_in
from connector_psi.demo.numbers import Numbers
from connector_psi.demo.plan import CUSTOMS, EUROPOL, SIS, Plan
from connector_psi.demo.shipments import Shipments
from connector_psi.demo.sought import Sought

ALERTS_IN_CSV = 400

_CSV_COLUMNS = (
    "schengen_id", "issuing_state", "article", "category", "object_type", "action", "sirene_contact", "vin", "plate",
    "plate_country", "imo", "container_number", "aircraft_registration", "document_number", "document_type",
    "document_country", "reason", "offence", "warnings", "valid_until", "hidden",
)  # fmt: skip


def generate(directory: Path, seed: int) -> Plan:
    """Write the samples below a folder; the same seed writes the same bytes.

    Args:
        directory: Made if absent.
        seed: Draws other records and other pairs.

    Cost: 2 seconds.
    """
    random = Random(seed)  # noqa: S311 - samples, no secrets
    numbers = Numbers(random)
    shipments = Shipments(random, numbers)
    declarations = list(shipments.declarations())
    sought = Sought(random, numbers, shipments)
    sought.plant()
    sought.fill()

    ens = directory / "ens"
    ens.mkdir(parents=True, exist_ok=True)
    messages = []
    for declaration in declarations:
        path = ens / f"{declaration.mrn.value}.xml"
        path.write_bytes(encode_declaration(declaration))
        messages.append(path)
    alerts = [directory / "sis.jsonl", directory / "sis.csv"]
    _write_lines(alerts[0], sought.alerts[ALERTS_IN_CSV:])
    _write_csv(alerts[1], sought.alerts[:ALERTS_IN_CSV])
    entities = [directory / "eis.jsonl"]
    _write_lines(entities[0], sought.entities)
    plan = Plan(
        seed=seed,
        files={CUSTOMS: tuple(messages), SIS: tuple(alerts), EUROPOL: tuple(entities)},
        planted=tuple(sorted(sought.planted)),
        near_misses=tuple(sought.near_misses),
        numbers={
            CUSTOMS: tuple(dict.fromkeys(numbers_in(tuple(declarations)))),
            **{code: tuple(found) for code, found in sought.numbers.items()},
        },
        houses=sum(len(declaration.houses) for declaration in declarations),
    )
    told = {
        "seed": seed,
        "planted": [asdict(pair) for pair in plan.planted],
        "near_misses": [asdict(miss) for miss in plan.near_misses],
    }
    (directory / "planted.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return plan


def _write_lines(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")


def _write_csv(path: Path, alerts: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, _CSV_COLUMNS)
        writer.writeheader()
        for alert in alerts:
            row = {name: value for name, value in alert.items() if name != "object"}
            row |= {name: value for name, value in alert["object"].items() if name != "type"}
            row["object_type"] = alert["object"]["type"]
            row["warnings"] = "|".join(alert.get("warnings", ()))
            row["hidden"] = "true" if alert.get("hidden") else ""
            writer.writerow(row)
