"""Searching the log, one entry of it, and the dossier of one request with what both sides logged."""

from __future__ import annotations

import json
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from starlette.responses import Response

from connector_psi.audit.bodies import OpenedBody
from connector_psi.audit.entries import Event, Side
from connector_psi.console.views.overview import shown_codes
from connector_psi.console.visit import Visit
from connector_psi.disclosure import Grade
from connector_psi.domain.purposes import Purpose
from connector_psi.errors import FormatError, PurposeRefusedError
from connector_psi.node.searching import Criteria
from connector_psi.reports.covering import covered

PAGE = 50
MAX_INDEX = 2**53
OF_SETS = frozenset({Event.SET_PUBLISH, Event.SET_DELETE, Event.KEY_EPOCH})
OF_PEOPLE = frozenset(Event) - OF_SETS
"""What is shown where no event is chosen: sets come on a clock, by the thousand."""
ALL = "all"


def form(visit: Visit) -> Response:
    """Show the form, with the newest entries."""
    return _results(visit, visit.service.searching.search(visit.person, Criteria(events=OF_PEOPLE), limit=PAGE))


def found(visit: Visit) -> Response:
    """Show what is found. What is searched for stands in the request's body, in no address."""
    before = visit.whole("before", MAX_INDEX)
    page = visit.service.searching.search(visit.person, _criteria(visit), before=before, limit=PAGE)
    return _results(visit, page)


def _results(visit: Visit, page: Any) -> Response:  # noqa: ANN401 - a SearchPage
    return visit.render(
        "search.html",
        "Search the log",
        entries=page.entries,
        next_before=page.next_before,
        events=[event.value for event in Event],
        purposes=[purpose.value for purpose in Purpose],
        sides=[side.value for side in Side],
        codes=shown_codes(visit),
    )


def _criteria(visit: Visit) -> Criteria:
    try:
        event, side = visit.value("event"), visit.value("side")
        request = visit.value("request_id").strip()
        return Criteria(
            events=OF_PEOPLE if not event else () if event == ALL else (Event(event),),
            side=Side(side) if side else None,
            agreement=visit.value("agreement"),
            purpose=visit.value("purpose"),
            since=_day(visit, "since"),
            until=_day(visit, "until", end=True),
            officer=visit.value("officer").strip(),
            case_reference=visit.value("case_reference").strip(),
            match_id=visit.value("match_id").strip(),
            request_id=bytes.fromhex(request) if request else None,
        )
    except ValueError:
        raise FormatError(
            "one of the fields does not have its form: days are 2026-01-31, requests hexadecimal"
        ) from None


def _day(visit: Visit, name: str, *, end: bool = False) -> datetime | None:
    text = visit.value(name).strip()
    if not text:
        return None
    begins = datetime.combine(datetime.strptime(text, "%Y-%m-%d").date(), time(), ZoneInfo(visit.console.settings.zone))  # noqa: DTZ007 - the zone is given
    return (begins + timedelta(days=1 if end else 0)).astimezone(UTC)


def entry(visit: Visit, opened: Any = None) -> Response:  # noqa: ANN401 - a body or None
    """Show an entry; its body stays sealed."""
    text = visit.params["index"]
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise PurposeRefusedError("no such entry")
    found_one = visit.service.searching.entry(visit.person, int(text))
    return visit.render(
        "entry.html",
        "Entry of the log",
        entry=found_one,
        leaf=_leaf_facts(found_one.leaf),
        opened=opened,
        full=visit.value("full") == "yes",
    )


def open_body(visit: Visit) -> Response:
    """Open the body of an entry; LOG_READ is durable first."""
    index = visit.params["index"]
    if not index.isascii() or not index.isdigit() or len(index) > 15:
        raise PurposeRefusedError("no such entry")
    (_, body), *_ = visit.service.oversight.open_bodies([int(index)], visit.person, visit.value("reason"))
    return entry(visit, _body(body, full=visit.value("full") == "yes"))


def dossier(visit: Visit, steps: Any = None, bodies: Any = None) -> Response:  # noqa: ANN401 - what was asked for
    """Show everything that is logged about one request."""
    found_one = visit.service.dossiers.dossier(visit.person, visit.id())
    return visit.render(
        "dossier.html",
        "Dossier",
        dossier=found_one,
        request_id=visit.params["id"],
        steps=steps,
        bodies=bodies or {},
        full=visit.value("full") == "yes",
        grades=[grade.value for grade in Grade],
    )


def verify_dossier(visit: Visit) -> Response:
    """Compute the proofs of a dossier now."""
    return dossier(visit, steps=visit.service.dossiers.verify(visit.person, visit.id()))


def open_bodies(visit: Visit) -> Response:
    """Open the bodies of a dossier; LOG_READ is durable first."""
    found_one = visit.service.dossiers.dossier(visit.person, visit.id())
    indexes = [each.index for each in found_one.entries][:64]
    full = visit.value("full") == "yes"
    opened = visit.service.oversight.open_bodies(indexes, visit.person, visit.value("reason"))
    return dossier(visit, bodies={index: _body(body, full=full) for index, body in opened})


def _body(body: OpenedBody | None, *, full: bool) -> dict[str, str] | str:
    """A body as people read it: covered, unless all of it is wanted; a text where it is gone."""
    if body is None:
        return "erased"
    said: dict[str, Any] = json.loads(body.encoded)
    return {key: _text(each if full else covered(key, each)) for key, each in sorted(said.items())}


def _text(said: object) -> str:
    if isinstance(said, str):
        return said
    if isinstance(said, list) and all(isinstance(each, str) for each in said):
        return ", ".join(said)
    return json.dumps(said, ensure_ascii=False)


def _leaf_facts(leaf: Any) -> list[tuple[str, str]]:  # noqa: ANN401 - a Leaf
    names = [
        "event",
        "side",
        "agreement",
        "epoch",
        "token_class",
        "purpose",
        "legal_basis",
        "mode",
        "n_padded",
        "retention_class",
        "hold",
    ]
    facts = [(name, getattr(leaf, name)) for name in names]
    hexes = (
        "request_id parent_id policy_hash manifest_hash batch_commitment source_commitment actor_commitment body_commit"
    )
    facts += [(name, value.hex() if value else None) for name in hexes.split() for value in [getattr(leaf, name)]]
    return [(name, str(getattr(each, "value", each))) for name, each in facts if each not in {None, ""}]
