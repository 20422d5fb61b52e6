"""Messages of CISE that their tests share. Every identifier is invented, or a published example of its check digit."""

from __future__ import annotations

MODEL = "http://www.cise.eu/datamodel/v1/entity/"
# As gateways write it: every namespace at the root.
NAMESPACES = " ".join(
    ['xmlns:msg="http://www.cise.eu/servicemodel/v1/message/"', 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"']
    + [
        f'xmlns:{name}="{MODEL}{name}/"'
        for name in (
            "anomaly",
            "cargo",
            "document",
            "incident",
            "location",
            "movement",
            "object",
            "operationalasset",
            "organization",
            "person",
            "risk",
            "vessel",
        )
    ]
)
PACKAGES = {
    **dict.fromkeys(["Aircraft", "LandVehicle"], "object"),
    **dict.fromkeys(["Cargo", "Catch", "ContainmentUnit"], "cargo"),
    **dict.fromkeys(["FormalOrganization", "Organization", "PortOrganization"], "organization"),
    **dict.fromkeys(["PortLocation", "NamedLocation"], "location"),
    "Vessel": "vessel",
    "Person": "person",
    "Risk": "risk",
    "Anomaly": "anomaly",
    "Movement": "movement",
    "OperationalAsset": "operationalasset",
    "Action": "action",
}
SERVICE = "be.customs-node01.risk.push.provider"
PARTICIPANT = "be.customs-node01"
MESSAGE_ID = "5f0c8a52-3f0e-4d51-9a53-6f2f0f6d0a02"
CREATED = "2026-03-02T08:00:00Z"

IMO, MMSI = "9074729", "228002000"
BOX_A, BOX_B = "CSQU3054383", "MSKU0000006"
BAD_BOX = "CSQU3054384"
MRN = "25BE000000000SYN01"
# Published example of ISO 17442.
LEI = "5493001KJTIIGC8Y1R12"
VAT = "BE0697449992"


def package(name: str) -> str:
    """Return the prefix of a type's namespace."""
    return PACKAGES.get(name) or ("incident" if name.endswith("Incident") else "document")


def tag(name: str, content: str) -> str:
    return f"<{name}>{content}</{name}>"


def entity(name: str, *parts: str) -> str:
    """Return an entity of the payload."""
    return tag(name, "".join(parts))


def rel(relation: str, target: str, name: str, *parts: str, role: str = "", role_of: str = "AgentRole") -> str:
    """Return a relation to an entity of a type; as the schema has it, if the parts are."""
    written = tag(role_of, role) if role else ""
    return tag(relation, f'<{target} xsi:type="{package(name)}:{name}">{"".join(parts)}</{target}>{written}')


def concerns(name: str, *parts: str, role: str = "") -> str:
    return rel("InvolvedObjectRel", "Object", name, *parts, role=role, role_of="ObjectRole")


def agent(name: str, *parts: str, role: str = "") -> str:
    return rel("InvolvedAgentRel", "Agent", name, *parts, role=role)


def described(name: str, *parts: str) -> str:
    return rel("DocumentRel", "Document", name, *parts)


def uuid(value: str, issuer: str = "") -> str:
    by = tag("GeneratedBy", tag("LegalName", issuer)) if issuer else ""
    return tag("Identifier", by + tag("UUID", value))


def imo(number: str = IMO) -> str:
    return tag("IMONumber", number)


def container(number: str = BOX_A) -> str:
    return tag("ContainerMarksAndNumber", number)


def title(text: str) -> str:
    return tag("Title", text)


def passport(number: str = "12AB34567", country: str = "FR") -> str:
    """Return what comes last of a person, with the nationality that comes first."""
    papers = tag("PersonIdentifiers", tag("IdentifierType", "Passport") + tag("IdentifierValue", number))
    return tag("Nationality", country) + papers


def message(
    *entities: str,
    kind: str = "Push",
    service: str = SERVICE,
    message_id: str = MESSAGE_ID,
    created: str = CREATED,
    level: str = "NonClassified",
    sensitivity: str = "Amber",
    payload: str = "",
    tail: str | None = None,
) -> bytes:
    """Return a message.

    Args:
        entities: What its payload carries, one a line.
        payload: More of the payload, behind its purpose.
        tail: What only such a message has; what the schema wants of it where it is None.
    """
    own = {
        "PullResponse": tag("ResultCode", "Success"),
        "PullRequest": tag("PullType", "Request"),
        "Acknowledgement": tag("AckCode", "Success"),
        "Feedback": tag("FeedbackType", "info") + tag("RefMessageID", MESSAGE_ID),
    }
    lines = "".join(f"{each}\n" for each in entities)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<msg:{kind} {NAMESPACES}>\n"
        f"{tag('CreationDateTime', created)}{tag('MessageID', message_id)}<Priority>High</Priority>\n"
        f"<Sender>{tag('ServiceID', service)}</Sender>\n"
        f'<Payload xsi:type="msg:XmlEntityPayload">{tag("InformationSecurityLevel", level)}'
        f"{tag('InformationSensitivity', sensitivity)}<Purpose>CustomsMonitoring</Purpose>{payload}\n"
        f"{lines}</Payload>{own.get(kind, '') if tail is None else tail}\n</msg:{kind}>\n"
    ).encode()


def deletion(
    *entities: str, about: str = MESSAGE_ID, created: str = "2026-03-03T08:00:00Z", service: str = SERVICE
) -> bytes:
    tail = tag("FeedbackType", "delete") + tag("RefMessageID", about)
    return message(*entities, kind="Feedback", message_id="feedback-1", created=created, service=service, tail=tail)
