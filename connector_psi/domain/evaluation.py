"""How well canonical forms find labelled objects: the computation behind ``identifiers evaluate``.

Decides: what counts as a match in the layout of the labelled data. An alert and a declared row match if and only if
their canonical identifiers are equal, which is what tokens compare; names and partial numbers take no part.
Leaves to others: opening the files (``cli``) and the canonical forms (``domain.identifiers``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from connector_psi.domain.identifiers import normalise
from connector_psi.domain.records import IdentifierType
from connector_psi.errors import FormatError, NormalisationError

_OBJECT_TYPES: Mapping[str, IdentifierType] = {
    "container": IdentifierType.CONTAINER,
    "vehicle_vin": IdentifierType.VIN,
    "plate": IdentifierType.PLATE,
    "vessel": IdentifierType.IMO,
}
_ALERT_COLUMNS = ("alert_id", "object_type", "number", "extra")
_DECLARED_COLUMNS = ("object_type", "value", "extra", "true_alert_id", "variation")


def evaluate_objects(
    alerts: Iterable[Mapping[str, str]],
    declared: Iterable[Mapping[str, str]],
    *,
    complete_check_digit: bool = False,
) -> dict[str, dict[str, dict[str, int]]]:
    """Count, by object type and variation, which declared rows find their alert.

    A row that has no canonical form is counted in ``n`` and matches nothing.

    Args:
        alerts: Rows with ``alert_id``, ``object_type``, ``number``, ``extra`` (country of a plate).
        declared: Rows with ``object_type``, ``value``, ``extra``, ``true_alert_id`` (empty: no match), ``variation``.
        complete_check_digit: Treat the declared source as one that leaves out containers' check digit by definition.

    Returns:
        ``{object_type: {variation: {"n", "matched", "false_matches"}}}``, keys sorted. ``matched`` rows found the alert
        of their label; ``false_matches`` rows found another one, whether or not they also found theirs.

    Raises:
        FormatError: A column is missing or an object type is unknown; names the file's role, the row and the column.
    """
    by_identifier: dict[tuple[IdentifierType, str], set[str]] = defaultdict(set)
    for number, row in enumerate(alerts, start=1):
        _require("alerts", number, row, _ALERT_COLUMNS)
        type_ = _object_type("alerts", number, row)
        canonical = _canonical(type_, row["number"], row["extra"], complete_check_digit=False)
        if canonical:
            by_identifier[type_, canonical].add(row["alert_id"])

    counts: dict[str, dict[str, dict[str, int]]] = {}
    for number, row in enumerate(declared, start=1):
        _require("declared", number, row, _DECLARED_COLUMNS)
        type_ = _object_type("declared", number, row)
        cell = counts.setdefault(row["object_type"], {}).setdefault(
            row["variation"], {"n": 0, "matched": 0, "false_matches": 0}
        )
        cell["n"] += 1
        canonical = _canonical(type_, row["value"], row["extra"], complete_check_digit=complete_check_digit)
        found = by_identifier.get((type_, canonical), set()) if canonical else set()
        cell["matched"] += row["true_alert_id"] in found
        cell["false_matches"] += bool(found - {row["true_alert_id"]})
    return {object_type: dict(sorted(counts[object_type].items())) for object_type in sorted(counts)}


def _require(role: str, number: int, row: Mapping[str, str], columns: Iterable[str]) -> None:
    for column in columns:
        # A short line of a CSV file gives None.
        if row.get(column) is None:
            raise FormatError(f"{role}: row {number}: column {column} is missing")


def _object_type(role: str, number: int, row: Mapping[str, str]) -> IdentifierType:
    type_ = _OBJECT_TYPES.get(row["object_type"])
    if type_ is None:
        raise FormatError(f"{role}: row {number}: column object_type holds an unknown type")
    return type_


def _canonical(type_: IdentifierType, value: str, extra: str, *, complete_check_digit: bool) -> str:
    """Give the canonical form, or an empty string; the ``extra`` of a vessel is a name, which is no evidence."""
    country = extra if type_ is IdentifierType.PLATE else ""
    try:
        return normalise(type_, value, country=country, complete_check_digit=complete_check_digit)
    except NormalisationError:
        return ""
