"""How well canonical forms find labelled objects: the computation behind ``identifiers evaluate``.

Decides: what counts as found in the layout of the labelled data. A declared row *matches* an alert if and only if their
canonical identifiers are equal and of a type that suffices alone. It *meets* the alert if it does not match it, but
both have an equal identifier that would need a second one of the same record: the last eight of a VIN, a plate without
country, a number without make. Names take no part.
Leaves to others: opening the files (``cli``), the canonical forms and what they imply (``domain.identifiers``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from connector_psi.domain.identifiers import INCOMPLETE, implied, normalise
from connector_psi.domain.records import IDENTIFIER_TABLE, IdentifierType
from connector_psi.errors import FormatError, NormalisationError

_OBJECT_TYPES: Mapping[str, IdentifierType] = {kind.value: kind for kind in IdentifierType} | {
    "vehicle_vin": IdentifierType.VIN,
    "vessel": IdentifierType.IMO,
}
_MAKE = ("make",)
# What the column extra holds, with slashes between: what stands before the number in the canonical form. The extra of a
# vessel is a name, which is no evidence.
_EXTRA: Mapping[IdentifierType, tuple[str, ...]] = {
    IdentifierType.PLATE: ("country",),
    IdentifierType.HULL: ("country",),
    IdentifierType.VAT: ("country",),
    IdentifierType.PHONE: ("country",),
    IdentifierType.IDENTITY_DOCUMENT: ("country", "document_type"),
    IdentifierType.BANKNOTE: ("currency", "denomination"),
    IdentifierType.FIREARM: ("make", "calibre"),
    IdentifierType.ENGINE: _MAKE,
    IdentifierType.COMPONENT: _MAKE,
    IdentifierType.INDUSTRIAL_EQUIPMENT: _MAKE,
    IdentifierType.ITEM: _MAKE,
}
_ALERT_COLUMNS = ("alert_id", "object_type", "number", "extra")
_DECLARED_COLUMNS = ("object_type", "value", "extra", "true_alert_id", "variation")

_Token = tuple[IdentifierType, str]


@dataclass(slots=True)
class Counts:
    """Declared rows of one object type and variation."""

    n: int = 0
    matched: int = 0
    """Found the alert of their label."""
    false_matches: int = 0
    """Found another one, whether or not they also found theirs."""
    met: int = 0
    """Found the alert of their label in an identifier that does not suffice alone, and did not match it."""
    false_met: int = 0
    """Found another one in such an identifier, and did not match that."""


def count_objects(
    alerts: Iterable[Mapping[str, str]],
    declared: Iterable[Mapping[str, str]],
    *,
    complete_check_digit: bool = False,
) -> dict[str, dict[str, Counts]]:
    """Count, by object type and variation, which declared rows find their alert.

    A row that has no canonical form is counted in ``n`` and finds nothing.

    Args:
        alerts: Rows with ``alert_id``, ``object_type``, ``number``, ``extra``.
        declared: Rows with ``object_type``, ``value``, ``extra``, ``true_alert_id`` (empty: no match), ``variation``.
            The object type is a value of ``IdentifierType``, ``vehicle_vin`` or ``vessel``. ``extra`` holds what
            completes the number, as it stands before it in the canonical form: ``DE`` of a plate, ``FR/P`` of an
            identity document, ``EUR/50`` of a banknote, ``COLT/45ACP`` of a firearm, the make of an engine.
        complete_check_digit: Treat the declared source as one that leaves out check digits by definition.

    Returns:
        ``{object_type: {variation: Counts}}``, keys sorted.

    Raises:
        FormatError: A column is missing or an object type is unknown; names the file's role, the row and the column.
    """
    by_token: dict[_Token, set[str]] = defaultdict(set)
    for number, row in enumerate(alerts, start=1):
        _require("alerts", number, row, _ALERT_COLUMNS)
        type_ = _object_type("alerts", number, row)
        for token in _tokens(type_, row["number"], row["extra"], complete_check_digit=False):
            by_token[token].add(row["alert_id"])

    counts: dict[str, dict[str, Counts]] = {}
    for number, row in enumerate(declared, start=1):
        _require("declared", number, row, _DECLARED_COLUMNS)
        type_ = _object_type("declared", number, row)
        matched: set[str] = set()
        met: set[str] = set()
        for token in _tokens(type_, row["value"], row["extra"], complete_check_digit=complete_check_digit):
            (matched if IDENTIFIER_TABLE[token[0]].suffices_alone else met).update(by_token.get(token, ()))
        met -= matched
        label = {row["true_alert_id"]}
        cell = counts.setdefault(row["object_type"], {}).setdefault(row["variation"], Counts())
        cell.n += 1
        cell.matched += bool(matched & label)
        cell.false_matches += bool(matched - label)
        cell.met += bool(met & label)
        cell.false_met += bool(met - label)
    return {object_type: dict(sorted(counts[object_type].items())) for object_type in sorted(counts)}


def matches_of(counts: Mapping[str, Mapping[str, Counts]]) -> dict[str, dict[str, dict[str, int]]]:
    """Give the matches of ``count_objects`` as ``{object_type: {variation: {"n", "matched", "false_matches"}}}``."""
    return {
        object_type: {
            variation: {"n": cell.n, "matched": cell.matched, "false_matches": cell.false_matches}
            for variation, cell in variations.items()
        }
        for object_type, variations in counts.items()
    }


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


def _tokens(type_: IdentifierType, value: str, extra: str, *, complete_check_digit: bool) -> list[_Token]:
    """Give what a record with this identifier alone would be found by."""
    names = _EXTRA.get(type_, ())
    context = dict(zip(names, extra.split("/", len(names) - 1), strict=False)) if names else {}
    try:
        whole = normalise(type_, value, **context, complete_check_digit=complete_check_digit)
    except NormalisationError:
        incomplete = INCOMPLETE.get(type_)
        try:
            return [(incomplete, normalise(incomplete, value))] if incomplete else []
        except NormalisationError:
            return []
    return [(type_, whole), *implied(type_, whole)]
