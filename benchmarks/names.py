"""Names: how fast they become keys and are scored, and what a key of each family tells.

Speed: canonical form and keys of Latin names of persons, of other scripts and of companies, on one core; the model over
packed groups, and with packing. Leakage: per family, over the parties of labelled data, how many parties share a key,
the entropy of a key drawn at random, and which share of the parties has one of the thousand commonest keys, which is
what a dictionary of that size finds.

    python benchmarks/names.py DIR [--json OUT]

DIR has the layout ``watchlist_link``. Nothing of it is printed but numbers.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from connector_psi.domain import names
from connector_psi.domain.naming import companies, judging, persons, shipped
from connector_psi.domain.naming.families import FAMILY_TABLE, FamilyGroup
from connector_psi.domain.naming.keys import HeldKey
from connector_psi.domain.naming.labelled import Labelled, read_dataset
from connector_psi.domain.records import TokenClass

WEIGHTS = "cp-names-1"
_LAST_LATIN = 0x24F
_DICTIONARY = 1000
_ALL = frozenset(FamilyGroup)


def measure(directory: Path) -> dict[str, object]:
    """Return ``{"speed": {...}, "leakage": {kind: {family: {...}}}}``; speeds in names or groups a second."""
    sets = {labelled.label: labelled for labelled in read_dataset(directory).sets}
    return {"speed": _speed(sets), "leakage": {label: _leakage(labelled) for label, labelled in sets.items()}}


def _speed(sets: dict[str, Labelled]) -> dict[str, float]:
    people = [p.names[0] for p in sets["person"].parties if p.names]
    latin = [name for name in people if all(ord(letter) <= _LAST_LATIN for letter in name)]
    other = [name for name in people if any(ord(letter) > _LAST_LATIN for letter in name)]
    firms = [p.names[0] for p in sets["organisation"].parties if p.names and TokenClass.PERSON not in p.kinds]
    found = {
        "latin_person_names": _rate(latin, _as_person),
        "other_person_names": _rate(other, _as_person),
        "company_names": _rate(firms, companies.company_tokens),
    }
    weights = shipped.load_shipped(WEIGHTS)
    held = dict(names.keys_of(sets["person"].alerts[0], _ALL, held=True))
    group = [HeldKey(key, shape) for key, shape in held.items()][:8]
    groups = [group] * 50_000
    start = time.perf_counter()
    packed = judging.packed(weights, TokenClass.PERSON, groups, [True] * len(groups))
    between = time.perf_counter()
    model = weights.kinds[TokenClass.PERSON]
    judging.matrix(packed) @ model.vector(TokenClass.PERSON)
    end = time.perf_counter()
    found["groups_scored"] = len(groups) / (end - between)
    found["groups_packed_and_scored"] = len(groups) / (end - start)
    return {name: round(rate) for name, rate in found.items()}


def _as_person(name: str) -> object:
    return persons.person_keys(name, (), held=False)


def _rate(subjects: Sequence[str], work: Callable[[str], object]) -> float:
    """Names a second, caches empty at the start: a name is seen once, its parts as often as they occur."""
    persons.canonical.cache_clear()
    start = time.perf_counter()
    for name in subjects:
        work(name)
    return len(subjects) / (time.perf_counter() - start)


def _leakage(labelled: Labelled) -> dict[str, dict[str, float]]:
    crowd = [p for p, alone in zip(labelled.parties, labelled.background(), strict=True) if alone]
    held: dict[str, list[set[str]]] = defaultdict(list)
    for party in crowd:
        of_family: dict[str, set[str]] = defaultdict(set)
        for key in names.keys_of(party, _ALL, held=True):
            if FAMILY_TABLE[key.family].token_class is labelled.kind:
                of_family[key.family].add(key.text)
        for family, keys in of_family.items():
            held[family].append(keys)
    return {family: _told(parties) for family, parties in sorted(held.items())}


def _told(parties: Sequence[set[str]]) -> dict[str, float]:
    """What keys of one family tell, from the keys of each party that has any."""
    counts = Counter(key for keys in parties for key in keys)
    total = counts.total()
    common = {key for key, _ in counts.most_common(_DICTIONARY)}
    return {
        "keys": len(counts),
        "parties": len(parties),
        "sharing_median": statistics.median(count for count in counts.values() for _ in range(count)),
        "sharing_most": max(counts.values()),
        "alone": round(sum(count == 1 for count in counts.values()) / total, 4),
        "entropy_bits": round(-sum(n / total * math.log2(n / total) for n in counts.values()), 2),
        "min_entropy_bits": round(-math.log2(max(counts.values()) / total), 2),
        "found_by_dictionary": round(sum(not keys.isdisjoint(common) for keys in parties) / len(parties), 4),
    }


def main() -> None:
    """Measure, print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found = measure(arguments.directory)
    text = json.dumps(found, indent=1)
    sys.stdout.write(text + "\n")
    if arguments.json is not None:
        arguments.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
