"""One small file of each format: what the tests over all formats read. A new format adds its own here.

Each is read without a rejected record and yields at least one record. Every identifier is invented or a published
example of its check digit.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from typing import Any

BOX = "CSQU3054383"
MRN = "26BE000000000SYN01"
WHEN = "2026-05-17T08:00:00+02:00"

Row = Mapping[str, Any]


def lines(*documents: Row) -> bytes:
    return b"".join(json.dumps(document).encode() + b"\n" for document in documents)


def table(*rows: Row) -> bytes:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode()


def xml(root: str, body: str) -> bytes:
    """A message; ``root`` is the start tag without brackets."""
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<{root}>\n{body}\n</{root.split(maxsplit=1)[0]}>\n'.encode()


_EVENT = {
    "eventID": "5a9d2c1e-0000-4000-8000-000000000001",
    "eventType": "EQUIPMENT",
    "eventCreatedDateTime": WHEN,
    "eventClassifierCode": "ACT",
    "eventDateTime": WHEN,
    "equipmentEventTypeCode": "LOAD",
    "equipmentReference": BOX,
    "emptyIndicatorCode": "LADEN",
    "transportCall": {"UNLocationCode": "NLRTM", "vessel": {"vesselIMONumber": "9074729"}},
}
_DECLARED = {
    "surveillance_ref": f"{MRN}/1",
    "updated_at": WHEN,
    "flow": "import",
    "accepted_on": "2026-05-17",
    "customs_office": "BE101000",
    "mrn": MRN,
    "commodity_code": "87032319",
    "goods_description": "used car, VIN WVWZZZ1JZXW000001",
}
_BOX_ENTITY = {"type": "container", "container_number": BOX}
_BOX_COLUMNS = {"entity_type": "container", "container_number": BOX}
_RISK = {"rif_ref": "RIF-2026-0001", "issued_at": WHEN, "issuing_authority": "Customs BE", "risk_area": "security"}
_CASE = {"cis_ref": "CIS-2026-0001", "updated_at": WHEN, "purpose": "specific_check", "supplied_by": "Customs BE"}
_ALERT = {
    "schengen_id": "DE0000000000001",
    "issuing_state": "DE",
    "article": "38",
    "category": "g",
    "action": "seizure",
    "sirene_contact": "SIRENE DE, duty desk",
}
_ENTITY = {
    "eis_ref": "EIS-2026-000001",
    "provider": "NL",
    "evaluation_code": "A1",
    "subject_class": "suspect",
}
_MESSAGE = {"siena_ref": "SIENA-2026-0001", "sent_at": WHEN, "sender": "Police BE", "evaluation_code": "A1"}
_EQUIPMENT = (
    "<TransportEquipment><sequenceNumber>1</sequenceNumber>"
    f"<containerIdentificationNumber>{BOX}</containerIdentificationNumber></TransportEquipment>"
)

SAMPLES: Mapping[str, Callable[[], bytes]] = {
    "ics2-ens": lambda: xml(
        'IE4R05 xmlns="urn:wco:datamodel:eu:ics2:2"',
        f"<relatedENS><MRN>{MRN}</MRN><consignmentMasterLevel><transportEquipment>"
        f"<containerIdentificationNumber>{BOX}</containerIdentificationNumber></transportEquipment>"
        "</consignmentMasterLevel></relatedENS>",
    ),
    "ics2-risk": lambda: xml(
        'IE4S02 xmlns="urn:wco:datamodel:eu:ics2:2"',
        "<functionalReference>F-1</functionalReference><riskAnalysis><riskAnalysisRequestReference>R-1"
        "</riskAnalysisRequestReference></riskAnalysis><doNotLoadDetails><transportEquipment>"
        f"<containerIdentificationNumber>{BOX}</containerIdentificationNumber></transportEquipment></doNotLoadDetails>",
    ),
    "ics-xml": lambda: xml(
        'e:CC315A xmlns:e="http://ics.dgtaxud.ec/CC315A"',
        "<DatOfPreMES9>260517</DatOfPreMES9><TimOfPreMES10>0800</TimOfPreMES10><HEAHEA><RefNumHEA4>LRN-2026-1"
        f"</RefNumHEA4></HEAHEA><GOOITEGDS><CONNR2><ConNumNR21>{BOX}</ConNumNR21></CONNR2></GOOITEGDS>",
    ),
    "ncts-xml": lambda: xml(
        'n:CC015C xmlns:n="http://ncts.dgtaxud.ec"',
        "<preparationDateAndTime>2026-05-17T08:00:00</preparationDateAndTime><TransitOperation><LRN>LRN-2026-1</LRN>"
        f"</TransitOperation><Consignment>{_EQUIPMENT}</Consignment>",
    ),
    "aes-xml": lambda: xml(
        "CC515C",
        "<preparationDateAndTime>2026-05-17T08:00:00</preparationDateAndTime><ExportOperation><LRN>LRN-2026-1</LRN>"
        f"</ExportOperation><GoodsShipment><Consignment>{_EQUIPMENT}</Consignment></GoodsShipment>",
    ),
    "csm-jsonl": lambda: lines(_EVENT, {**_EVENT, "eventID": "5a9d2c1e-0000-4000-8000-000000000002"}),
    "csm-json": lambda: json.dumps([_EVENT]).encode(),
    "surveillance-jsonl": lambda: lines(_DECLARED),
    "surveillance-csv": lambda: table(_DECLARED),
    "crms-jsonl": lambda: lines({**_RISK, "entities": [_BOX_ENTITY]}),
    "crms-csv": lambda: table({**_RISK, **_BOX_COLUMNS}),
    "afis-jsonl": lambda: lines({**_CASE, "entities": [_BOX_ENTITY]}),
    "afis-csv": lambda: table({**_CASE, "entity_number": 1, **_BOX_COLUMNS}),
    "sis-jsonl": lambda: lines({**_ALERT, "object": _BOX_ENTITY}),
    "sis-csv": lambda: table({**_ALERT, "object_type": "container", "container_number": BOX}),
    "eis-jsonl": lambda: lines({**_ENTITY, "entity": _BOX_ENTITY}),
    "eis-csv": lambda: table({**_ENTITY, **_BOX_COLUMNS}),
    "siena-jsonl": lambda: lines({**_MESSAGE, "entities": [_BOX_ENTITY]}),
    "siena-csv": lambda: table({**_MESSAGE, "entity_number": 1, **_BOX_COLUMNS}),
    "cise": lambda: xml(
        "Vessel",
        "<Identifier><UUID>5a9d2c1e-0000-4000-8000-000000000003</UUID></Identifier><IMONumber>9074729</IMONumber>",
    ),
}
"""Name of a format -> builder of its sample."""


def sample(name: str) -> bytes:
    """The sample of a format; a format without one is a failure of the test that asks."""
    assert name in SAMPLES, f"tests/format_samples.py has no sample of {name}"
    return SAMPLES[name]()
