"""Every public exception of the package, split by who must act.

Decides: which failures exist, whether a caller may retry, and the one constant text
that a peer may see. Leaves to others: how a failure is rendered (``cli`` for people,
``rpc.interceptors`` for peers); nothing else maps errors to exit codes or statuses.

``str(error)`` may name a place (file, line, path, agreement) and never a value: no identifier,
no name, no key material. What crosses the wire is ``public_detail``, a constant per class, so
that an answer is no oracle.
"""

from __future__ import annotations

from typing import ClassVar


class ConnectorError(Exception):
    """Root of every exception that this package raises on purpose.

    Args:
        detail: For the operator of this node: a place and a reason, never a value.
    """

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False
    public_detail: ClassVar[str] = "internal error"

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or self.public_detail)


class ConfigError(ConnectorError):
    """The configuration, the command or the node directory is unusable; the operator acts."""

    code = "config"
    public_detail = "configuration error"


class InputError(ConnectorError):
    """Input from outside is unusable; whoever supplied it acts."""

    code = "input"
    public_detail = "invalid input"


class NormalisationError(InputError):
    """A value has no canonical form. Carries a reason code such as ``container.check_digit``.

    Args:
        reason: Dotted reason code; never the value.
    """

    code = "normalisation"
    public_detail = "invalid identifier"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class FormatError(InputError):
    """A file, message or encoding does not have the form it claims."""

    code = "format"
    public_detail = "malformed data"


class PeerError(ConnectorError):
    """A peer broke the protocol; the exchange ends."""

    code = "peer"
    public_detail = "protocol violation"


class ProtocolError(PeerError):
    """A message is well-formed but not one that the protocol allows here."""

    code = "protocol"


class InvalidElementError(PeerError):
    """A group element is not canonical, or is the identity; one error for a whole batch."""

    code = "invalid_element"
    public_detail = "invalid group element"


class ProofError(PeerError):
    """A DLEQ proof does not verify."""

    code = "proof"
    public_detail = "invalid proof"


class RefusedError(ConnectorError):
    """Policy says no. The peer learns only that."""

    code = "refused"
    public_detail = "refused"


class PurposeRefusedError(RefusedError):
    """No agreement allows this purpose, field, category or role."""

    code = "purpose_refused"


class ApprovalMissingError(RefusedError):
    """A person's confirmation or approval is missing."""

    code = "approval_missing"


class CapacityExceededError(RefusedError):
    """The agreed capacity of this class is used up."""

    code = "capacity_exceeded"


class AuditError(ConnectorError):
    """The log cannot be trusted any more; the node stops answering."""

    code = "audit"
    public_detail = "unavailable"


class LogForkError(AuditError):
    """Two histories of one log exist, or a log went backwards."""

    code = "log_fork"


class ProofInvalidError(AuditError):
    """An inclusion or consistency proof, a leaf or a checkpoint does not verify."""

    code = "log_proof"


class KeyUnavailableError(ConnectorError):
    """A key is not (or no longer) available, because it expired or was destroyed."""

    code = "key_unavailable"
    retryable = True
    public_detail = "unavailable"


class StorageError(ConnectorError):
    """The store failed."""

    code = "storage"
    public_detail = "unavailable"


class ConflictError(StorageError):
    """The same identity was used for two different things."""

    code = "conflict"
    public_detail = "conflict"


class UnavailableError(StorageError):
    """The store, the log or a peer cannot be reached now; try again."""

    code = "unavailable"
    retryable = True
