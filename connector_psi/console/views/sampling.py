"""The sampling queue: cases that were drawn for a data protection officer to look at, and how each was graded."""

from __future__ import annotations

from starlette.responses import Response

from connector_psi.console.visit import Visit
from connector_psi.disclosure import Grade
from connector_psi.errors import FormatError

PAGE = 50
STATES = ("open", "graded")
COUNTS = (5, 10, 25, 50, 100)


def queue(visit: Visit) -> Response:
    """Show the queue."""
    state = visit.query.get("state", "open")
    state = state if state in STATES else "open"
    service = visit.service
    found = service.grading.queue(visit.person, state=state, limit=PAGE + 1, offset=(visit.number - 1) * PAGE)
    return visit.render(
        "sampling.html",
        "Sampling",
        samples=found[:PAGE],
        more=len(found) > PAGE,
        number=visit.number,
        state=state,
        states=STATES,
        counts=service.grading.counts(visit.person),
        sizes=COUNTS,
    )


def draw(visit: Visit) -> Response:
    """Draw more cases."""
    drawn = visit.service.grading.draw(visit.person, visit.whole("count", 10))
    return visit.done(
        "Cases were drawn by the newest checkpoint." if drawn else "There is no case that was not drawn before.",
        "sampling",
    )


def grade(visit: Visit) -> Response:
    """Grade the justification of a case."""
    try:
        given = Grade(visit.value("grade"))
    except ValueError:
        raise FormatError("grade: choose one") from None
    visit.service.grading.grade(
        visit.person, visit.id(), given, visit.value("note"), agreement=visit.value("agreement")
    )
    return visit.done("The grade is kept, and logged.", "sampling")
