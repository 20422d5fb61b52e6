"""What two nodes decide about names through the whole protocol is what ``names evaluate`` says, pair by pair.

Names are invented. The asking side has dates of birth, so that every family takes part.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

from connector_psi.domain.names import Subject
from connector_psi.domain.naming import evaluating
from connector_psi.domain.naming.families import FamilyGroup
from connector_psi.domain.naming.judging import Band
from connector_psi.domain.naming.labelled import read_dataset
from connector_psi.domain.naming.shipped import load_shipped
from connector_psi.domain.records import Party, PartyKind, Record, SourceSystem, TokenClass
from connector_psi.encoding.tickets import open_ticket_id
from connector_psi.node.node import QUERIER
from connector_psi.node.publishing import case_keys
from connector_psi.storage import owned, records
from connector_psi.storage.queried import MatchRow
from tests.invented_names import write_watchlist
from tests.simulation.federation import Federation

ROOT = Path(__file__).resolve().parents[2]
AGREEMENT = "EUR-XCHK:unit-europol"
PARTIES, ALERTS = 5_500, 2_100
_KINDS = {
    frozenset({TokenClass.PERSON}): PartyKind.PERSON,
    frozenset({TokenClass.ORGANISATION}): PartyKind.ORGANISATION,
}


def national_unit(folder: Path) -> Path:
    """A profile that is not shipped: a national unit, whose messages have dates of birth."""
    shutil.copytree(ROOT / "nodes" / "europol", folder)
    settings = folder / "node.toml"
    text = settings.read_text(encoding="utf-8")
    assert 'role = "europol"' in text
    settings.write_text(text.replace('role = "europol"', 'role = "national_unit"'), encoding="utf-8")
    return folder


def record(source: SourceSystem, category: str, ref: str, subject: Subject, kind: PartyKind) -> Record:
    party = Party(
        "subject",
        kind,
        subject.names[0],
        "$.subject",
        aliases=subject.names[1:],
        birth_date=subject.births[0] if subject.births else "",
        country=subject.countries[0] if subject.countries else "",
    )
    return Record(source, ref, category, (), {}, hashlib.sha256(ref.encode()).digest(), parties=(party,))


def named(party: Subject) -> str:
    return f"{party.names[0]}|{party.births}|{party.countries}|{sorted(party.kinds)}"


def test_nodes_decide_as_the_evaluation_does(tmp_path: Path) -> None:
    write_watchlist(tmp_path / "labelled", alerts=ALERTS, parties=PARTIES, seed=11)
    weights = load_shipped("cp-names-1")
    shown: set[tuple[str, str]] = set()
    weak: set[tuple[str, str]] = set()
    asked: dict[str, Record] = {}
    held: dict[str, Record] = {}
    sets = read_dataset(tmp_path / "labelled").sets
    # Nodes know no labels: a party is asked about as whatever it may be, also one that is known to be of one kind.
    parties = {named(party): party for labelled in sets for party in labelled.parties}
    for ref, party in parties.items():
        kind = _KINDS.get(party.kinds, PartyKind.UNKNOWN)
        category = "siena.company" if kind is PartyKind.ORGANISATION else "siena.person"
        asked[ref] = record(SourceSystem.SIENA, category, ref, party, kind)
    refs = list(parties)
    for labelled in sets:
        for number, alert in enumerate(labelled.alerts):
            ref = f"{labelled.label}-{number}"
            category = "eis.person" if labelled.label == "person" else "eis.company"
            held[ref] = record(SourceSystem.EIS, category, ref, alert, _KINDS[alert.kinds])
        everybody = replace(labelled, parties=list(parties.values()))
        for decision in evaluating.decide(evaluating.join(everybody), weights):
            pair = refs[decision.party], f"{labelled.label}-{decision.alert}"
            if decision.shown:
                shown.add(pair)
            elif decision.band is not Band.NOT_SHOWN:
                weak.add(pair)
    assert len(asked) >= 5_000
    assert len(held) >= 2_000
    assert len(shown) > 500
    assert len(weak) > 100

    federation = Federation(tmp_path / "nodes", profiles=(f"unit={national_unit(tmp_path / 'profile')}", "europol"))
    try:
        unit, europol = federation.services["unit"], federation.services["europol"]
        assert FamilyGroup.PERSON_BIRTH in unit.node.bound(AGREEMENT, QUERIER).agreement.name_groups
        europol.registration.register(list(held.values()), "test")
        unit.registration.register(list(asked.values()), "test")
        federation.settle()
        rows = all_matches(federation)
        found = {(row.payload["record_ref"], owner_ref(federation, row)) for row in rows}
        (line,) = [each for each in unit.status()["agreements"] if each["agreement"] == AGREEMENT]  # type: ignore[attr-defined]
    finally:
        federation.close()
    assert len(rows) == len(found)
    assert found == shown
    assert line["weak_matches"] == len(weak)


def all_matches(federation: Federation) -> list[MatchRow]:
    found: list[MatchRow] = []
    while page := federation.services["unit"].review.list(after=found[-1].seq if found else 0):
        found += page
    return found


def owner_ref(federation: Federation, row: MatchRow) -> str:
    """The owner's record behind a match, which the owner alone can tell."""
    node = federation.services["europol"].node
    with node.store.read() as tx:
        epoch = owned.get_epoch(tx, row.agreement, row.epoch)
        assert epoch is not None
        k_ticket, _ = case_keys(node, epoch)
        number = open_ticket_id(k_ticket, bytes.fromhex(row.payload["ticket_id"]))
        assert number is not None
        found = records.by_id(node.store, tx, number)
    assert found is not None
    return found[0].source_ref
