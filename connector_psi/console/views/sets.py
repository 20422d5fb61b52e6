"""The inventory of encoded sets: technical copies, and how old each is."""

from __future__ import annotations

from starlette.responses import Response

from connector_psi.console.visit import Visit
from connector_psi.node.inventory import sets


def inventory(visit: Visit) -> Response:
    """Show every set that is here."""
    return visit.render("sets.html", "Encoded sets", sets=sets(visit.service.node, visit.role))
