"""R10 for what leaves with the log: 10,000 identifiers are planted, and no leaf, tile, bundle or note of a witness holds one."""

from __future__ import annotations

from pathlib import Path

from connector_psi.domain.records import IdentifierType
from connector_psi.storage import witnesses
from tests.integration import live
from tests.privacy.needles import Needles, text_spellings
from tests.privacy.staging import container
from tests.simulation.casework import ask_about_sought
from tests.simulation.federation import Federation, alert, declaration, person

PLANTED, SHARED = 10_000, 5
REASON = "to look for what must not be there"


def test_no_leaf_tile_bundle_or_witnessed_note_holds_one_of_ten_thousand_identifiers(tmp_path: Path) -> None:
    numbers = [container(n) for n in range(PLANTED)]
    needles = Needles({needle for number in numbers for needle in text_spellings(number)})
    federation = Federation(tmp_path / "nodes", profiles=("ics2", "sis", "coastguard"))
    ics2, sis = federation.services["ics2"], federation.services["sis"]
    for start in range(0, PLANTED, 1000):
        ics2.registration.register(
            [declaration(f"M{n}", (IdentifierType.CONTAINER, numbers[n])) for n in range(start, start + 1000)],
            "test",
        )
    sis.registration.register([alert(f"DE{n}", (IdentifierType.CONTAINER, numbers[n])) for n in range(SHARED)], "test")
    federation.settle(rounds=2)
    case = ask_about_sought(federation)
    federation.settle()
    sis.received.decide(case, person("sis"), "the sought box", approve=True)
    federation.settle(rounds=10, step_s=5)
    seen = b""
    for service in federation.services.values():
        with service.node.store.read() as tx:
            seen += b"".join(row.note for row in witnesses.list_witnessed(tx))
    assert b"connector-psi.internal/log/ics2" in seen
    assert needles.found_in(seen) == set()
    federation.close()
    control = 0
    for code in ("ics2", "sis"):
        directory, out = tmp_path / "nodes" / code, tmp_path / code
        for form, arguments in (
            ("tiles", ("--tiles", out / "tiles")),
            ("bundle", ("--evidence", out / "bundle")),
            (
                "with bodies",
                (
                    "--evidence",
                    out / "opened",
                    "--bodies",
                    "--reason",
                    REASON,
                    "--as",
                    directory / "people" / "dpo1.crt",
                ),
            ),
        ):
            done = live.run("log", "export", directory, *arguments, "--json")
            assert done.code == 0, (form, done.err)
        for folder in ("tiles", "bundle"):
            files = [path for path in (out / folder).rglob("*") if path.is_file()]
            assert files
            for path in files:
                assert needles.found_in(path.read_bytes()) == set(), path.name
        control += len(needles.found_in((out / "opened" / "bodies.jsonl").read_bytes()))
    # The sealed bodies of own queries hold them: the search finds what is there.
    assert control >= PLANTED
