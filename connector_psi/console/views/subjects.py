"""What is processed about an identifier, for the answer to a data subject."""

from __future__ import annotations

from datetime import date

from starlette.responses import Response

from connector_psi.console.visit import Visit
from connector_psi.domain.records import IdentifierType
from connector_psi.errors import FormatError


def form(visit: Visit) -> Response:
    """Show the form."""
    return _shown(visit, None)


def search(visit: Visit) -> Response:
    """Search, and show the annex. What is searched for stands in the request's body, in no address."""
    text = visit.value("received").strip()
    try:
        received = date.fromisoformat(text) if text else None
    except ValueError:
        raise FormatError("received: not a day such as 2026-01-31") from None
    annex = visit.service.subjects.search(
        visit.value("type"), visit.value("value"), visit.person, reference=visit.value("reference"), received=received
    )
    return _shown(visit, annex)


def _shown(visit: Visit, annex: object) -> Response:
    return visit.render(
        "subjects.html", "Data-subject search", annex=annex, types=sorted(each.value for each in IdentifierType)
    )
