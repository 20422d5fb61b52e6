"""Labelled names in the layout ``watchlist_link``, made of syllables: nobody is called so.

A part of the parties is an alert written anew: other order, capitals, a letter lost or doubled, a part left out, other
letters for the same sound. The rest is background, some of it with one part of an alert's name.
"""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any


def _listed(text: str) -> list[str]:
    return text.split()


_STARTS = _listed("Bra Cu Dro Fel Gor Hu Ju Kra Lo Mir Nal Os Pra Qui Ras Sti Tor Ul Ver Wes Xan Ya Zub")
_MIDDLES = _listed("ba cker do fi gan hul jor ki lam mon nel pri ros sit tal vin wer zol")
_ENDS = _listed("a an ek ia in is o or ov ski sen us wald yan")
_TRADE = _listed("Trading Shipping Industries Logistics Engineering Metals Foods Textiles")
_FORMS = _listed("GmbH Ltd LLC SA BV")
_COUNTRIES = _listed("DE FR PL TR IR CN BR NG")
_SOUNDS = (("ck", "k"), ("f", "ph"), ("k", "c"), ("v", "w"), ("i", "y"), ("z", "s"))


def word(chance: random.Random) -> str:
    """Return a part of a name that nobody has."""
    middles = "".join(chance.choice(_MIDDLES) for _ in range(chance.randint(0, 2)))
    return chance.choice(_STARTS) + middles + chance.choice(_ENDS)


def date(chance: random.Random) -> str:
    """Return a date of birth."""
    return f"{chance.randint(1940, 2004)}-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}"


def rewritten(parts: list[str], chance: random.Random) -> str:
    """Return a name as somebody else writes it."""
    parts = [_misspelt(part, chance) if chance.random() < 0.3 else part for part in parts]
    if len(parts) > 2 and chance.random() < 0.4:
        del parts[1]
    if chance.random() < 0.5:
        parts = [parts[-1].upper() + ",", *parts[:-1]]
    return " ".join(parts)


def _misspelt(part: str, chance: random.Random) -> str:
    at = chance.randrange(1, len(part))
    way = chance.randrange(3)
    if way == 0:
        return part[:at] + part[at + 1 :]
    if way == 1:
        return part[:at] + part[at] + part[at:]
    wanted, written = chance.choice(_SOUNDS)
    return part.replace(wanted, written)


def write_watchlist(folder: Path, *, alerts: int, parties: int, seed: int = 1) -> None:
    """Write ``alerts.csv``, ``parties.csv``, ``truth.csv`` and ``ignore.csv``; half of the parties match an alert."""
    chance = random.Random(seed)
    listed: list[dict[str, Any]] = []
    declared: list[dict[str, str]] = []
    truth: list[dict[str, str]] = []
    for number in range(alerts):
        company = number % 4 == 3
        parts = [word(chance) for _ in range(chance.randint(1, 2) if company else chance.randint(2, 4))]
        if company:
            parts.append(chance.choice(_TRADE))
        listed.append(
            {
                "alert_id": f"A-{number:012x}",
                "kind": "organisation" if company else "person",
                "name": " ".join([*parts, chance.choice(_FORMS)] if company else parts),
                "surname": "" if company else parts[-1],
                "given": "" if company else " ".join(parts[:-1]),
                "aliases": "",
                "weak_aliases": "",
                "script_names": "",
                "dob": "" if company else date(chance),
                "country": chance.choice(_COUNTRIES),
                "source_list": chance.choice(("EU", "UN", "OFAC")),
                "parts": parts,
            }
        )
    for number in range(parties):
        alert = listed[chance.randrange(alerts)]
        matches = chance.random() < 0.5
        company = alert["kind"] == "organisation"
        if matches:
            name = " ".join(alert["parts"]) if company else rewritten(list(alert["parts"]), chance)
            truth.append(
                {
                    "party_id": f"P-{number:012x}",
                    "alert_id": alert["alert_id"],
                    "kind": alert["kind"],
                    "match_kind": "withheld_alias",
                    "reachable": "1",
                    "dob_full": alert["dob"],
                }
            )
        else:
            own = [word(chance) for _ in range(2)]
            if chance.random() < 0.3:
                own[0] = alert["parts"][0]
            name = " ".join([*own, chance.choice(_TRADE)] if company else own)
        kind = "legal" if company else "natural"
        declared.append(
            {
                "party_id": f"P-{number:012x}",
                "person_type": kind if chance.random() < 0.7 else "",
                "name": name,
                "dob": (alert["dob"] if matches else date(chance)) if not company and chance.random() < 0.3 else "",
                "country": alert["country"] if matches else chance.choice(_COUNTRIES),
            }
        )
    for row in listed:
        del row["parts"]
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("alerts", listed), ("parties", declared), ("truth", truth)):
        _write(folder / f"{name}.csv", rows)
    (folder / "ignore.csv").write_text("party_id,alert_id\n", encoding="utf-8")


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
