"""Evidence bundles: the log written out, to be verified by anybody offline."""

from __future__ import annotations

from starlette.responses import Response, StreamingResponse

from connector_psi.console.visit import Visit
from connector_psi.errors import FormatError
from connector_psi.node.bundles import evidence_zip


def evidence(visit: Visit) -> Response:
    """Return a bundle as a ZIP file; with bodies, if they are wanted and a reason is given."""
    try:
        request_id = bytes.fromhex(visit.value("request_id").strip())
    except ValueError:
        raise FormatError("request_id: not hexadecimal") from None
    pieces = evidence_zip(
        visit.service,
        visit.person,
        bodies=visit.value("bodies") == "yes",
        reason=visit.value("reason"),
        request_id=request_id,
    )
    return StreamingResponse(
        pieces,
        media_type="application/zip",
        headers={"Content-Disposition": 'attachment; filename="evidence.zip"'},
    )
