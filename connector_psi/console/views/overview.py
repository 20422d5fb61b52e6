"""The first page: what happened today, how the days before were, who is connected and how well, what is used up."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from connector_psi.console import drawing
from connector_psi.console.visit import Visit
from connector_psi.node.node import OWNER, Node
from connector_psi.node.oversight import agreements_hidden
from connector_psi.node.quality import manageability
from connector_psi.pki import Role

DAYS = 30
SERIES = (
    ("declarations", "Declarations"),
    ("queries", "Queries"),
    ("matches", "Matches"),
    ("hits", "Hits"),
    ("disclosures", "Disclosures"),
)


def overview(visit: Visit) -> Response:
    """Show the overview."""
    service, told = visit.service, visit.language
    days = service.trends.days(visit.role, DAYS)
    status: dict[str, Any] = service.status()
    lines = shown_agreements(service.node, visit.role, status)
    labels = [told.short_day(each.day) for each in days]
    charts = []
    for names, title in (
        (SERIES[:2], "Declarations and queries a day"),
        (SERIES[2:], "Matches, hits and disclosures a day"),
    ):
        series = {visit.t(words): [getattr(each, name) for each in days] for name, words in names}
        charts.append(drawing.lines(visit.t(title), labels, series, told))
    figures = manageability(service.node, DAYS, visit.role)
    return visit.render(
        "overview.html",
        "Overview",
        today=days[-1],
        series=SERIES,
        days=days,
        charts=charts,
        status=status,
        lines=lines,
        peers=drawing.peers(status, lines),
        map=drawing.federation(visit.t("The federation"), status, lines, visit.t, told, visit.console.words_of(told)),
        capacities=[line for line in lines if line["side"] == OWNER.value and line.get("capacity_today")],
        manageability={code: each for code, each in figures.items() if each.declarations or each.matches},
        period_days=DAYS,
        alarms=shown_alarms(service.node, visit.role, status),
        open_reviews=sum(each.undecided for each in figures.values()),
    )


def shown_codes(visit: Visit) -> list[str]:
    """Codes of the agreements that a person is shown."""
    node = visit.service.node
    return sorted({bound.code for bound in node.agreements()} - agreements_hidden(node, visit.role))


def shown_agreements(node: Node, role: Role, status: dict[str, Any]) -> list[dict[str, Any]]:
    """The lines of a status that a role is shown."""
    hidden = agreements_hidden(node, role)
    return [line for line in status["agreements"] if line["agreement"] not in hidden]


def shown_alarms(node: Node, role: Role, status: dict[str, Any]) -> list[dict[str, Any]]:
    """The alarms of a status that a role is shown."""
    hidden = agreements_hidden(node, role)
    return [alarm for alarm in status["alarms"] if alarm["agreement"] not in hidden]
