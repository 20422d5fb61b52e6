"""Every page of the console, and which roles may use it: denied by default, as at the local port.

A page that does what an RPC does takes its roles from the table of the local port, so that nobody may do here what they
may not do there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from starlette.responses import Response

from connector_psi.console.views import (
    access,
    anomalies,
    cases,
    exports,
    log,
    matches,
    node,
    overview,
    policy,
    recalls,
    reports,
    retention,
    sampling,
    search,
    sets,
    subjects,
    tasks,
)
from connector_psi.console.visit import Page, Visit
from connector_psi.pki import Role
from connector_psi.rpc.interceptors import LOCAL_ACCESS

_V1 = "/connector_psi.rpc.v1."
_PEOPLE = frozenset(role.value for role in Role)
_DPO = frozenset({Role.DPO.value})
_CHECKS = frozenset({Role.DPO.value, Role.AUDITOR.value})
View = Callable[[Visit], Response]


def _as(method: str) -> frozenset[str]:
    """The roles of an RPC of the local port."""
    return frozenset(str(role) for role in LOCAL_ACCESS[_V1 + method])


def pages() -> Iterator[Page]:
    """Yield every page for people who are signed in."""
    read, review = _as("RegistryService/ListMatches"), _as("RegistryService/ConfirmMatch")
    cases_read, decide = _as("RegistryService/ListCases"), _as("RegistryService/DecideCase")
    yield Page("overview", "GET", "/", _as("NodeService/GetStatus"), overview.overview)

    yield Page("tasks", "GET", "/tasks", review, tasks.tasks)
    yield Page("matches", "GET", "/matches", read, matches.inbox)
    yield Page("match", "GET", "/matches/{id}", _as("RegistryService/GetMatch"), matches.match)
    yield Page("confirm", "POST", "/matches/{id}/confirm", review, matches.confirm, matches.match)
    yield Page(
        "dismiss", "POST", "/matches/{id}/dismiss", _as("RegistryService/DismissMatch"), matches.dismiss, matches.match
    )
    yield Page(
        "open_case", "POST", "/matches/{id}/case", _as("RegistryService/OpenCase"), matches.open_case, matches.match
    )
    yield Page("cases", "GET", "/cases", cases_read, cases.listed)
    yield Page("case", "GET", "/cases/{id}", _as("RegistryService/GetCase"), cases.case)
    yield Page("approve", "POST", "/cases/{id}/approve", decide, cases.approve, cases.case)
    yield Page("refuse", "POST", "/cases/{id}/refuse", decide, cases.refuse, cases.case)
    # Officers may decide a case too where the policy lets them; who works through all of them is a supervisor.
    yield Page("approvals", "GET", "/approvals", frozenset({Role.SUPERVISOR.value}), cases.approvals)
    yield Page("access", "GET", "/access", _as("RegistryService/ListAccess"), access.listed)
    yield Page("request_access", "POST", "/access", _as("RegistryService/RequestAccess"), access.request, access.listed)
    yield Page("access_request", "GET", "/access/{id}", _as("RegistryService/GetAccess"), access.one)
    yield Page("grant", "POST", "/access/{id}/grant", _as("RegistryService/DecideAccess"), access.grant, access.one)
    yield Page("deny", "POST", "/access/{id}/deny", _as("RegistryService/DecideAccess"), access.deny, access.one)
    yield Page("recalls", "GET", "/recalls", _as("RegistryService/ListRecalls"), recalls.listed)
    yield Page("recall", "GET", "/recalls/{id}", _as("RegistryService/GetRecall"), recalls.one)
    yield Page("send_recall", "POST", "/cases/{id}/recall", _as("RegistryService/SendRecall"), recalls.send, cases.case)
    yield Page(
        "acknowledge",
        "POST",
        "/recalls/{id}/acknowledge",
        _as("RegistryService/AcknowledgeRecall"),
        recalls.acknowledge,
        recalls.one,
    )

    yield Page("sampling", "GET", "/sampling", _CHECKS, sampling.queue)
    yield Page("draw", "POST", "/sampling/draw", _DPO, sampling.draw, sampling.queue)
    yield Page("grade", "POST", "/dossiers/{id}/grade", _DPO, sampling.grade, search.dossier)
    yield Page("search", "GET", "/search", _CHECKS, search.form)
    yield Page("found", "POST", "/search", _CHECKS, search.found, search.form)
    yield Page("entry", "GET", "/entries/{index}", _CHECKS, search.entry)
    yield Page(
        "open_body", "POST", "/entries/{index}/open", _as("NodeService/ExportBodies"), search.open_body, search.entry
    )
    yield Page("dossier", "GET", "/dossiers/{id}", _CHECKS, search.dossier)
    yield Page("verify_dossier", "POST", "/dossiers/{id}/verify", _CHECKS, search.verify_dossier, search.dossier)
    yield Page("open_bodies", "POST", "/dossiers/{id}/open", _CHECKS, search.open_bodies, search.dossier)
    yield Page("anomalies", "GET", "/anomalies", _DPO, anomalies.shown)
    yield Page("find_anomalies", "POST", "/anomalies", _DPO, anomalies.find, anomalies.shown)
    yield Page("subjects", "GET", "/subjects", _as("NodeService/SearchSubject"), subjects.form)
    yield Page("subject", "POST", "/subjects", _as("NodeService/SearchSubject"), subjects.search, subjects.form)
    yield Page("retention", "GET", "/retention", _as("NodeService/ListHolds"), retention.shown)
    yield Page("hold", "POST", "/retention/holds", _as("NodeService/SetHold"), retention.place, retention.shown)
    yield Page(
        "renew", "POST", "/retention/holds/{id}/renew", _as("NodeService/SetHold"), retention.renew, retention.shown
    )
    yield Page(
        "release",
        "POST",
        "/retention/holds/{id}/release",
        _as("NodeService/SetHold"),
        retention.release,
        retention.shown,
    )

    yield Page("sets", "GET", "/sets", _as("NodeService/GetAuditEntries"), sets.inventory)
    yield Page("policy", "GET", "/policy", _PEOPLE, policy.matrix)
    yield Page(
        "policy_differences",
        "POST",
        "/policy/differences",
        _as("NodeService/SimulatePolicy"),
        policy.differences,
        policy.matrix,
    )
    yield Page("log", "GET", "/log", _as("NodeService/ListCheckpoints"), log.state)
    yield Page("verify_log", "POST", "/log/verify", _as("NodeService/VerifyLog"), log.verify, log.state)
    yield Page("reports", "GET", "/reports", _DPO, reports.listed)
    yield Page("make_report", "POST", "/reports", _DPO, reports.make, reports.listed)
    yield Page("report", "GET", "/reports/{kind}", _DPO, reports.one)
    yield Page("report_csv", "GET", "/reports/{kind}/csv", _DPO, reports.csv)
    yield Page("export", "POST", "/log/evidence", _CHECKS, exports.evidence, log.state)

    yield Page("node", "GET", "/node", _as("NodeService/GetStatus"), node.state)
    yield Page("outbox", "GET", "/node/outbox", _as("NodeService/ListOutbox"), node.outbox)
    yield Page("retry", "POST", "/node/outbox", _as("NodeService/RetryOutbox"), node.retry, node.outbox)
    yield Page("confirm_clock", "POST", "/node/clock", _as("NodeService/ConfirmClock"), node.confirm_clock, node.state)
