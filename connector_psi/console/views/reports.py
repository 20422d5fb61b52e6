"""Reports over the log: made in the background, read here, kept as CSV."""

from __future__ import annotations

from functools import partial

from starlette.responses import Response

from connector_psi.console.jobs import Work
from connector_psi.console.visit import Visit
from connector_psi.errors import FormatError, PurposeRefusedError
from connector_psi.node.reporting import REPORTS
from connector_psi.reports.shown import Report


def listed(visit: Visit) -> Response:
    """Show which reports there are, and those that were made."""
    year = visit.service.node.clock.now().year
    jobs = {kind: visit.console.jobs.of(visit.person, kind) for kind in REPORTS}
    return visit.render("reports.html", "Reports", kinds=REPORTS, jobs=jobs, years=range(year - 1, year - 5, -1))


def make(visit: Visit) -> Response:
    """Make a report, in the background."""
    kind = visit.value("kind")
    if kind not in REPORTS:
        raise FormatError("kind: choose a report")
    options = {name: visit.value(name) for name in ("year", "controller", "contact", "officer") if visit.value(name)}
    work: Work = partial(REPORTS[kind].make, visit.service, visit.person, visit.value("reason"), options)
    visit.console.jobs.begin(visit.person, kind, work)
    return visit.go("reports")


def one(visit: Visit) -> Response:
    """Show a report that was made."""
    return visit.render("report.html", "Report", report=_made(visit), kind=visit.params["kind"])


def csv(visit: Visit) -> Response:
    """Return a report as CSV."""
    return visit.download(f"{visit.params['kind']}.csv", _made(visit).csv, "text/csv; charset=utf-8")


def _made(visit: Visit) -> Report:
    job = visit.console.jobs.of(visit.person, visit.params["kind"]) if visit.params["kind"] in REPORTS else None
    if job is None or not isinstance(job.result, Report):
        raise PurposeRefusedError("no such report any more; make it again")
    return job.result
