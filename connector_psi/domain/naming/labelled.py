"""Labelled names: reading the layouts that ``names fit`` and ``names evaluate`` know.

Decides: which folder has which layout, what of a row is a name, a date or a place, what counts as a match, and which
rows belong to one entity. A row that cannot be used is reported with its place, and the rest is read.
Leaves to others: keys (``domain.names``), figures (``domain.naming.evaluating``).

Layouts, by the files that a folder has:

- ``watchlist_link``: ``alerts.csv``, ``parties.csv``, ``truth.csv`` and perhaps ``ignore.csv``;
- ``febrl``: ``dataset4a.csv`` and ``dataset4b.csv``, perhaps ``dataset1.csv`` to ``dataset3.csv``;
- ``transliteration``: files with the columns ``native``, ``latin``, ``count``, ``is_head``, ``ratio_to_head``;
- ``name_pairs``: ``pairs.csv``.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from connector_psi.domain import names
from connector_psi.domain.names import Subject
from connector_psi.domain.naming import companies, places
from connector_psi.domain.records import TokenClass
from connector_psi.errors import ConfigError

WATCHLIST: Final = "watchlist_link"
FEBRL: Final = "febrl"
TRANSLITERATION: Final = "transliteration"
NAME_PAIRS: Final = "name_pairs"

_PERSON: Final = frozenset({TokenClass.PERSON})
_ORGANISATION: Final = frozenset({TokenClass.ORGANISATION})
_ALERT_COLUMNS: Final = ("alert_id", "kind", "name")
_PARTY_COLUMNS: Final = ("party_id", "person_type", "name")
_TRUTH_COLUMNS: Final = ("party_id", "alert_id", "kind")
_IGNORE_COLUMNS: Final = ("party_id", "alert_id")
_FEBRL_COLUMNS: Final = ("cluster_id", "given_name", "surname", "date_of_birth")
_PAIR_COLUMNS: Final = ("component", "schema", "name1", "name2", "is_match")
_LETTER_COLUMNS: Final = ("native", "latin", "count", "is_head", "ratio_to_head")
_FEBRL_PRECISION: Final = 0.972
"""Every party has a counterpart, and nearly every one a date of birth: more can be asked than of declarations."""
_PAIRS_PRECISION: Final = 0.8
"""Half of the pairs were chosen to mislead a matcher: what would be poor for lists is good here."""
_SEPARATOR: Final = " | "
_PERSON_SCHEMAS: Final = frozenset({"Person"})
_ORGANISATION_SCHEMAS: Final = frozenset({"Company", "Organization", "LegalEntity", "PublicBody"})
_KINDS: Final = {"person": TokenClass.PERSON, "organisation": TokenClass.ORGANISATION}


class Problem(NamedTuple):
    """A row that could not be used."""

    file: str
    row: int
    """From 1, the header not counted."""
    why: str

    def __str__(self) -> str:
        return f"{self.file}: row {self.row}: {self.why}"


@dataclass(slots=True)
class Labelled:
    """Alerts and parties of one kind, and which of them are one."""

    label: str
    """What its figures are shown under: ``person``, ``organisation`` ..."""
    kind: TokenClass
    alerts: list[Subject] = field(default_factory=list, repr=False)
    parties: list[Subject] = field(default_factory=list, repr=False)
    entities: list[str] = field(default_factory=list, repr=False)
    """Of each alert, what it shares a fold with."""
    truth: dict[tuple[int, int], bool] = field(default_factory=dict, repr=False)
    """Pairs (party, alert) that are one, and whether letters alone can show it."""
    ignored: set[tuple[int, int]] = field(default_factory=set, repr=False)
    """Pairs whose truth is unknown."""
    precision: float | None = None
    """Wanted of decisions, where the layout asks for another than the kind."""
    only_labelled: bool = False
    """Pairs outside ``truth`` and ``differ`` are unknown, rather than no match."""
    differ: set[tuple[int, int]] = field(default_factory=set, repr=False)
    """Pairs that are known to be two, where ``only_labelled``."""

    def background(self) -> list[bool]:
        """Return for each party whether it matches nothing."""
        matched = {party for party, _ in self.truth}
        return [number not in matched for number in range(len(self.parties))]


class Letters(NamedTuple):
    """Parts of names in a script and in Latin letters."""

    label: str
    pairs: tuple[tuple[str, str], ...]
    """Those that are trusted: the most frequent spelling if it was seen twice, and others that resemble it."""


@dataclass(slots=True)
class Dataset:
    """A folder of labelled names."""

    layout: str
    sets: list[Labelled] = field(default_factory=list)
    letters: list[Letters] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def read_dataset(directory: Path, *, without_sources: Collection[str] = ()) -> Dataset:
    """Read a folder in one of the layouts.

    Args:
        directory: The folder.
        without_sources: Values of ``source_list`` (layout ``watchlist_link``) whose alerts are left out with their
            parties, and with every party that came from an unnamed other list.

    Raises:
        ConfigError: No layout fits, or a file cannot be read at all.
    """
    if not directory.is_dir():
        raise ConfigError(f"{directory}: not a folder")
    has = {path.name for path in directory.glob("*.csv")}
    if {"alerts.csv", "parties.csv", "truth.csv"} <= has:
        return _watchlist(directory, frozenset(without_sources))
    if {"dataset4a.csv", "dataset4b.csv"} <= has or any(f"dataset{n}.csv" in has for n in (1, 2, 3)):
        return _febrl(directory, has)
    if "pairs.csv" in has:
        return _pairs(directory)
    if has and all(_header(directory / name) >= set(_LETTER_COLUMNS) for name in has):
        return _letters(directory, sorted(has))
    raise ConfigError(
        f"{directory}: no layout that is known: wants alerts.csv, parties.csv and truth.csv; or dataset4a.csv and "
        "dataset4b.csv; or pairs.csv; or files with the columns native and latin"
    )


# --- rows


def _open(path: Path) -> Iterator[Mapping[str, str | None]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            yield from csv.DictReader(stream)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error):
        raise ConfigError(f"{path}: not CSV in UTF-8") from None


def _header(path: Path) -> set[str]:
    row = next(_open(path), None)
    return {key for key in row if key} if row else set()


def _rows(path: Path, columns: Sequence[str], problems: list[Problem]) -> Iterator[tuple[int, dict[str, str]]]:
    for number, row in enumerate(_open(path), start=1):
        missing = next((column for column in columns if row.get(column) is None), None)
        if missing is not None:
            problems.append(Problem(path.name, number, f"column {missing} is missing"))
            continue
        yield number, {key: value or "" for key, value in row.items() if isinstance(key, str)}


def _split(text: str, separator: str = _SEPARATOR) -> list[str]:
    return [part.strip() for part in text.split(separator) if part.strip()]


# --- watchlist_link


def _watchlist(directory: Path, without: frozenset[str]) -> Dataset:
    found = Dataset(WATCHLIST)
    problems = found.problems
    truth = list(_rows(directory / "truth.csv", _TRUTH_COLUMNS, problems))
    sets = {label: Labelled(label, kind) for label, kind in _KINDS.items()}
    alert_at: dict[str, tuple[str, int]] = {}
    left_out: set[str] = set()
    for number, row in _rows(directory / "alerts.csv", _ALERT_COLUMNS, problems):
        if row.get("source_list", "") in without:
            left_out.add(row["alert_id"])
        elif row["kind"] in sets:
            labelled = sets[row["kind"]]
            if row["alert_id"] in alert_at:
                problems.append(Problem("alerts.csv", number, "alert_id stands twice"))
                continue
            alert_at[row["alert_id"]] = row["kind"], len(labelled.alerts)
            labelled.alerts.append(_alert(row, labelled.kind))
            labelled.entities.append(f"C-{row['alert_id'].rpartition('-')[2]}")
    kind_of = {row["party_id"]: row["kind"] for _, row in truth}
    skipped = {
        row["party_id"]
        for _, row in truth
        if row["alert_id"] in left_out or (without and row.get("match_kind", "").startswith("other_list"))
    }
    party_at: dict[tuple[str, str], int] = {}
    for _, row in _rows(directory / "parties.csv", _PARTY_COLUMNS, problems):
        if row["party_id"] in skipped:
            continue
        subject = _party(row)
        for label, labelled in sets.items():
            # A party that is known to match an alert of another kind is no test of this one.
            if labelled.kind in subject.kinds and kind_of.get(row["party_id"], label) == label:
                party_at[label, row["party_id"]] = len(labelled.parties)
                labelled.parties.append(subject)
    for number, row in truth:
        if row["kind"] not in sets or row["party_id"] in skipped or row["alert_id"] in left_out:
            continue
        kind, alert = alert_at.get(row["alert_id"], (row["kind"], -1))
        party = party_at.get((kind, row["party_id"]), -1)
        if alert < 0:
            problems.append(Problem("truth.csv", number, "alert_id is not in alerts.csv"))
            continue
        if party < 0:
            # The type of the party keeps it from being asked about at all: a true pair that is lost.
            party = len(sets[kind].parties)
            party_at[kind, row["party_id"]] = party
            sets[kind].parties.append(Subject(names=(), kinds=frozenset({sets[kind].kind})))
        sets[kind].truth[party, alert] = row.get("reachable", "1") != "0"
    if (directory / "ignore.csv").exists():
        for _, row in _rows(directory / "ignore.csv", _IGNORE_COLUMNS, problems):
            kind, alert = alert_at.get(row["alert_id"], ("", -1))
            party = party_at.get((kind, row["party_id"]), -1)
            if alert >= 0 and party >= 0:
                sets[kind].ignored.add((party, alert))
    found.sets = [labelled for labelled in sets.values() if labelled.alerts and labelled.parties]
    return found


def _alert(row: Mapping[str, str], kind: TokenClass) -> Subject:
    written = [row["name"]]
    if row.get("surname") and row.get("given"):
        written.insert(0, f"{row['surname']}, {row['given']}")
    for column in ("aliases", "weak_aliases", "script_names"):
        written += _split(row.get(column, ""))
    return Subject(
        names=tuple(dict.fromkeys(written)),
        kinds=frozenset({kind}),
        births=tuple(_split(row.get("dob", ""), "|")),
        countries=_countries(row.get("country", "")),
    )


def _party(row: Mapping[str, str]) -> Subject:
    kinds = {"natural": _PERSON, "legal": _ORGANISATION, "": _PERSON | _ORGANISATION}.get(
        row["person_type"], frozenset[TokenClass]()
    )
    if not row["person_type"] and companies.has_legal_form(row["name"]):
        kinds = _ORGANISATION
    return Subject(
        names=(row["name"],),
        kinds=kinds,
        births=tuple(_split(row.get("dob", ""), "|")),
        countries=_countries(row.get("country", "")),
    )


def _countries(text: str) -> tuple[str, ...]:
    """Countries of a column that may hold several, as ``(a) German, (b) Moroccan``."""
    parts = [text, *text.replace(";", ",").replace("|", ",").replace("(", ",").replace(")", ",").split(",")]
    found = [key for part in parts if part.strip() and (key := places.country_key(part.strip())) is not None]
    return tuple(dict.fromkeys(found))[: names.MAX_COUNTRIES]


# --- febrl


def _febrl(directory: Path, has: Collection[str]) -> Dataset:
    found = Dataset(FEBRL)

    def read(name: str) -> list[dict[str, str]]:
        return [row for _, row in _rows(directory / name, _FEBRL_COLUMNS, found.problems)]

    sources: list[tuple[str, list[dict[str, str]], list[dict[str, str]]]] = []
    if {"dataset4a.csv", "dataset4b.csv"} <= set(has):
        sources.append(("", read("dataset4a.csv"), read("dataset4b.csv")))
    for number in (1, 2, 3):
        if f"dataset{number}.csv" in has:
            rows = read(f"dataset{number}.csv")
            originals = [row for row in rows if row.get("origin") == "org"]
            sources.append((f"_dataset{number}", originals, [row for row in rows if row.get("origin") == "dup"]))
    for suffix, alerts, parties in sources:
        for label, dated in (("person", True), ("person_without_birth_date", False)):
            found.sets.append(_febrl_set(f"{label}{suffix}", alerts, parties, dated=dated))
    return found


def _febrl_set(
    label: str, alerts: Sequence[Mapping[str, str]], parties: Sequence[Mapping[str, str]], *, dated: bool
) -> Labelled:
    labelled = Labelled(label, TokenClass.PERSON, precision=_FEBRL_PRECISION)
    of_cluster: dict[str, list[int]] = {}
    for number, row in enumerate(alerts):
        labelled.alerts.append(_febrl_subject(row, dated=dated))
        labelled.entities.append(row["cluster_id"])
        of_cluster.setdefault(row["cluster_id"], []).append(number)
    for number, row in enumerate(parties):
        labelled.parties.append(_febrl_subject(row, dated=dated))
        for alert in of_cluster.get(row["cluster_id"], ()):
            labelled.truth[number, alert] = True
    return labelled


def _febrl_subject(row: Mapping[str, str], *, dated: bool) -> Subject:
    given, surname, born = (row[column].strip() for column in ("given_name", "surname", "date_of_birth"))
    birth = f"{born[:4]}-{born[4:6]}-{born[6:]}" if dated and len(born) == 8 and born.isdigit() else ""
    code = places.postcode_key(row.get("postcode", "").strip(), "AU")
    return Subject(
        names=(f"{surname}, {given}" if surname and given else surname or given,),
        kinds=_PERSON,
        births=(birth,) if birth else (),
        cities=places.city_keys(row.get("suburb", "").strip(), "AU"),
        postcodes=(code,) if code else (),
    )


# --- pairs and letters


def _pairs(directory: Path) -> Dataset:
    found = Dataset(NAME_PAIRS)
    sets = {
        label: Labelled(label, kind, precision=_PAIRS_PRECISION, only_labelled=True) for label, kind in _KINDS.items()
    }
    for _, row in _rows(directory / "pairs.csv", _PAIR_COLUMNS, found.problems):
        if row["schema"] in _PERSON_SCHEMAS:
            labelled = sets["person"]
        elif row["schema"] in _ORGANISATION_SCHEMAS:
            labelled = sets["organisation"]
        else:
            continue
        kinds, at = frozenset({labelled.kind}), len(labelled.alerts)
        labelled.alerts.append(Subject((row["name1"],), kinds))
        labelled.parties.append(Subject((row["name2"],), kinds))
        labelled.entities.append(row["component"])
        if row["is_match"].strip().lower() == "true":
            labelled.truth[at, at] = True
        else:
            labelled.differ.add((at, at))
    found.sets = [labelled for labelled in sets.values() if labelled.alerts]
    return found


def _letters(directory: Path, files: Iterable[str]) -> Dataset:
    found = Dataset(TRANSLITERATION)
    for name in files:
        pairs: list[tuple[str, str]] = []
        for number, row in _rows(directory / name, _LETTER_COLUMNS, found.problems):
            try:
                count, ratio = int(row["count"]), float(row["ratio_to_head"] or 0)
            except ValueError:
                found.problems.append(Problem(name, number, "count or ratio_to_head is no number"))
                continue
            if (row["is_head"] == "1" and count >= 2) or (row["is_head"] != "1" and ratio >= 60):
                pairs.append((row["native"], row["latin"]))
        found.letters.append(Letters(name.removesuffix(".csv"), tuple(pairs)))
    return found


def fold_of(entity: str, folds: int) -> int:
    """Return the fold of an entity: its SHA-256 read as a number."""
    return int.from_bytes(hashlib.sha256(entity.encode()).digest(), "big") % folds
