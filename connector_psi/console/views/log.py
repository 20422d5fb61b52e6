"""The state of the log, its witnesses, and the verifier, which anybody here may run."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from connector_psi.audit import checkpoint as notes
from connector_psi.console.jobs import Job, Progress
from connector_psi.console.visit import Visit

JOB = "verify the log"


def state(visit: Visit) -> Response:
    """Show size, root and witnesses, and what the verifier found last."""
    service = visit.service
    status: dict[str, Any] = service.status()
    note = service.node.signed_checkpoint()
    job: Job | None = visit.console.jobs.of(visit.person, JOB)
    return visit.render(
        "log.html",
        "The log",
        log=status["log"],
        root=note.root.hex() if note else "",
        vkey=notes.encode_vkey(service.node.signer.vkey),
        job=job,
        may_export=visit.may("export"),
    )


def verify(visit: Visit) -> Response:
    """Run the verifier, in the background: every leaf is hashed again, every body opened."""

    def work(progress: Progress) -> object:
        progress(0, 1)
        return visit.service.oversight.verify_steps()

    visit.console.jobs.begin(visit.person, JOB, work)
    return visit.go("log")
