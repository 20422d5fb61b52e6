"""CONSOLE: how long each page of the web console takes at the server.

Over HTTPS on loopback, as a browser asks, with each role that may open a page; the slowest role counts. The store is
that of ``console_store``: 100,000 matches, and 1,000,000 entries in the log.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import console_store
import requests
from prf import machine

from connector_psi.audit.entries import Event, Side
from connector_psi.console.server import Served
from connector_psi.console.wire import SESSION_COOKIE
from connector_psi.node.searching import Criteria
from connector_psi.node.service import Service
from connector_psi.pki import PersonIdentity, Role

LIMIT_MS = 300
SEARCHES = {
    "officer": {"officer": "officer1"},
    "purpose": {"purpose": "cpsi:ObjectSeizureOrEvidence"},
    "event_and_agreement": {"event": "RECEIPT", "agreement": "SIS-OBJ:ics2-sis"},
    "time": {"since": "2020-01-01", "until": "2100-01-01", "event": "all"},
}
"""What a data protection officer looks for in the log."""
RUNS = 7


def measure(directory: Path) -> dict[str, Any]:
    """Return the times of all pages, in milliseconds.

    Args:
        directory: Of the store; it is made there if it is not there yet, which takes some minutes.
    """
    console_store.build(directory)
    service = console_store.open_node(directory)
    try:
        served = Served(service, "127.0.0.1:0")
        try:
            times = _times(service, served)
        finally:
            served.close()
    finally:
        service.close()
    slowest = max(times, key=lambda name: times[name])
    figures = {f"{name}_ms": value for name, value in times.items()}
    return {
        "CONSOLE": {
            "figures": {**figures, "slowest_page": slowest, "slowest_ms": times[slowest], "limit_ms": LIMIT_MS},
            "conditions": {
                **machine(),
                "matches": console_store.MATCHES,
                "entries": console_store.ENTRIES,
                "cases": console_store.CASES,
                "runs": RUNS,
            },
        }
    }


def _times(service: Service, served: Served) -> dict[str, float]:
    times: dict[str, float] = {}
    places = _places(service)
    for role in Role:
        person = PersonIdentity(service.node.authority, role, f"{role.value}1")
        with requests.Session() as session:
            session.trust_env = False
            session.verify = str(service.node.layout.root_cert)
            token = served.console.sessions.begin(person, "certificate")
            session.headers["Cookie"] = f"{SESSION_COOKIE}={token}"
            for page in served.console.pages.values():
                path = page.path.replace("{id}", places.get(page.name, "-")).replace("{index}", "500000")
                # Of what is not in the store there is no page.
                if page.method == "GET" and role.value in page.roles and not {"{", "-"} & set(path):
                    times[page.name] = max(times.get(page.name, 0.0), _median_ms(session, served.url + path))
            if role is Role.DPO:
                found = served.console.sessions.find(token, b"")
                assert found is not None
                for name, sought in SEARCHES.items():
                    data = {**sought, "csrf": found.csrf}
                    times[f"search_by_{name}"] = _median_ms(session, f"{served.url}/search", data)
    return dict(sorted(times.items()))


def _places(service: Service) -> dict[str, str]:
    """A match, a case and a dossier that are there."""
    match = service.review.inbox(limit=1).items[0].row.match_id
    case = service.cases.list(limit=1)[0].row.request_id.hex()
    dpo = PersonIdentity(service.node.authority, Role.DPO, "dpo1")
    found = service.searching.search(dpo, Criteria(events=(Event.CASE_OPEN,), side=Side.QUERIER), limit=1).entries[0]
    return {"match": match, "case": case, "dossier": (found.leaf.request_id or b"").hex()}


def _median_ms(session: requests.Session, url: str, data: dict[str, str] | None = None) -> float:
    taken = []
    for _ in range(RUNS):
        begun = time.perf_counter()
        method = "GET" if data is None else "POST"
        answer = session.request(method, url, data=data, timeout=60, allow_redirects=False)
        taken.append((time.perf_counter() - begun) * 1000)
        assert answer.status_code == 200, f"{url}: {answer.status_code}"
    return round(median(taken), 1)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(measure(Path(folder)))
