"""Patterns in the log that a person should look at. The search opens bodies, so it needs a reason and is logged."""

from __future__ import annotations

from collections import Counter
from functools import partial

from starlette.responses import Response

from connector_psi.console.jobs import Work
from connector_psi.console.visit import Visit
from connector_psi.node.reporting import find_anomalies
from connector_psi.reports import charts
from connector_psi.reports.anomalies import Anomaly, Kind

JOB = "anomalies"


def shown(visit: Visit) -> Response:
    """Show what was found last, or how far the search is."""
    job = visit.console.jobs.of(visit.person, JOB)
    result: list[Anomaly] = job.result if job is not None and isinstance(job.result, list) else []
    counts = Counter(each.kind for each in result)
    chart = charts.bars(
        visit.t("Findings by kind"),
        [visit.console.words_of(visit.language)("kind", kind.value) for kind in Kind],
        [counts[kind] for kind in Kind],
        unit=visit.t("findings"),
    )
    return visit.render("anomalies.html", "Anomalies", job=job, found=result, chart=chart)


def find(visit: Visit) -> Response:
    """Search the log for patterns, in the background."""
    work: Work = partial(
        find_anomalies, visit.service, visit.person, visit.value("reason"), visit.console.settings.zone
    )
    visit.console.jobs.begin(visit.person, JOB, work)
    return visit.go("anomalies")
