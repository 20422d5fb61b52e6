"""``node.toml`` and ``policy.yaml`` of a node directory -> frozen configuration; where everything in the directory
lies.

Decides: names, defaults and bounds of every setting. A wrong key or value stops the node at start, with the file and
the key named.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from connector_psi.audit.cosignature import parse_witness_key
from connector_psi.disclosure import CASE_TIME_S
from connector_psi.domain.purposes import ProfileRole
from connector_psi.domain.toml import parse_toml
from connector_psi.errors import ConfigError, FormatError

MAX_RECORDS_PER_ROUND = 100_000
MAX_PORT = 65_535
MAX_CONFIG_BYTES = 65_536
Seconds = Annotated[float, Field(gt=0, le=31_536_000)]


def is_loopback(url: str) -> bool:
    """Return whether a URL names this machine, by address or as ``localhost``."""
    host = urlsplit(url).hostname or ""
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NodeSection(_Section):
    """Who this node is and where it listens."""

    authority: str = Field(pattern=r"^[a-z0-9]{2,16}$")
    profile: str
    role: ProfileRole
    listen: str = Field(pattern=r"^.+:\d{1,5}$", description="peer port, HOST:PORT")
    local: str = Field(pattern=r"^.+:\d{1,5}$", description="local port, HOST:PORT")
    synthetic: bool

    @model_validator(mode="after")
    def _can_be_reached(self) -> Self:
        for name, address in (("listen", self.listen), ("local", self.local)):
            if int(address.rpartition(":")[2]) > MAX_PORT:
                raise ValueError(f"{name}: a port is at most {MAX_PORT}")
        if self.listen == self.local and not self.listen.endswith(":0"):
            raise ValueError("listen and local are the same address")
        # The descriptor tells peers where to connect.
        if self.listen.rpartition(":")[0].strip("[]") in {"", "0.0.0.0", "::", "*"}:  # noqa: S104 - refused here
            raise ValueError("listen: peers need an address to connect to, not a wildcard")
        return self


class StorageSection(_Section):
    """Where records, matches, cases and the log are kept."""

    url: str = "sqlite"
    """``sqlite`` for the file in the node directory."""


class QuerySection(_Section):
    """How the node asks."""

    interval_s: Seconds = 1.0
    """Time between two rounds of batches."""
    manifest_poll_s: Seconds = 1.0
    """Time between two looks for a newer set of each peer."""
    records_per_round: int = Field(default=2000, ge=1, le=MAX_RECORDS_PER_ROUND)


class PublishSection(_Section):
    """How the node publishes."""

    delta_s: Seconds = 60.0
    """Changes are published at multiples of this time since the Unix epoch, in a delta that comes without any too."""
    quiet_s: Seconds = 0.5
    """A new set is made of changes only once the source has been quiet for so long: where there are very many, or where
    the querier takes no deltas."""
    max_wait_s: Seconds = 60.0
    """A source that never becomes quiet is published after so long all the same."""
    renew_fraction: float = Field(default=0.75, gt=0, lt=1)
    """A set is renewed after this part of its life."""
    overlap_s: Seconds = 43_200.0
    """How long a superseded epoch still answers, at most to its end: queriers evaluate their live records anew."""


class DisclosureSection(_Section):
    """When outcomes are served."""

    slot_s: int = Field(default=3600, ge=1, le=86_400)
    """Disclosures are served at multiples of this time since the Unix epoch."""
    not_disclosed_after_s: int = Field(default=CASE_TIME_S, ge=2, le=2_592_000)
    """Every other outcome is served so long after the case was taken in (T of the protocol), 72 hours."""

    silent_slot_s: int = Field(default=900, ge=1, le=86_400)
    """Querier: where the owner gets no notice, a fixed number of cases leaves at multiples of this time."""

    silent_recall_s: int = Field(default=3600, ge=1, le=86_400)
    """Owner: where it gets no notice, one recall of each agreement leaves at multiples of this time."""

    @model_validator(mode="after")
    def _holds_slots(self) -> Self:
        if self.not_disclosed_after_s < 2 * self.slot_s:
            raise ValueError("not_disclosed_after_s must hold at least two slots")
        return self


class LogSection(_Section):
    """The disclosure log."""

    checkpoint_s: Seconds = 1.0
    """Time between two signed checkpoints while the log grows."""
    witness_s: Seconds = 1.0
    """Time between two looks for checkpoints that witnesses have not cosigned yet."""


class WitnessSection(_Section):
    """A witness that is no peer, such as a supervisory authority's: C2SP tlog-witness over HTTP, or gRPC."""

    vkey: str = Field(max_length=400)
    """Its key, ``name+id+key``, as it was handed over."""
    url: str = Field(pattern=r"^(https?://[^\s?#]+|grpcs://[a-z0-9]{2,16}@[^\s/?#@]+:\d{1,5})$", max_length=500)
    """What ``/add-checkpoint`` is put behind, or ``grpcs://CODE@HOST:PORT``. Plain HTTP is for the machine itself."""

    @model_validator(mode="after")
    def _is_a_witness(self) -> Self:
        try:
            parse_witness_key(self.vkey)
        except FormatError as error:
            raise ValueError(f"vkey: {error}") from None
        if self.url.startswith("http:") and not is_loopback(self.url):
            raise ValueError("url: plain HTTP is for addresses of this machine only")
        return self


class NamesSection(_Section):
    """What the node brings to names besides the rules, which are the same for all."""

    unlocode: tuple[str, ...] = Field(default=(), max_length=16)
    """UN/LOCODE as CSV files; without them a code in place of a city's name meets that code alone."""


class TranscriptSection(_Section):
    """A recording of the peer port, for synthetic federations."""

    path: str = ""
    """File that every message is appended to; empty for none."""


class MetricsSection(_Section):
    """Figures for Prometheus, over plain HTTP and to whoever asks: on this machine alone."""

    listen: str = Field(default="", pattern=r"^(.+:\d{1,5})?$")
    """HOST:PORT where they are fetched; empty for none."""

    @model_validator(mode="after")
    def _is_of_this_machine(self) -> Self:
        if self.listen and (not is_loopback(f"http://{self.listen}") or self.listen.startswith("localhost")):
            raise ValueError(
                "listen: an address of this machine, such as 127.0.0.1:9464; nobody who asks is authenticated"
            )
        if self.listen and int(self.listen.rpartition(":")[2]) > MAX_PORT:
            raise ValueError(f"listen: a port is at most {MAX_PORT}")
        return self


class TracesSection(_Section):
    """Traces for OpenTelemetry: codes, states and times."""

    endpoint: str = Field(default="", pattern=r"^(https?://[^\s?#]+)?$", max_length=500)
    """URL of a collector that takes OTLP over HTTP, with its path; empty for none. Plain HTTP is for this machine."""
    file: str = ""
    """File that they are appended to, as OTLP in JSON lines; empty for none."""

    @model_validator(mode="after")
    def _go_to_one_place(self) -> Self:
        if self.endpoint and self.file:
            raise ValueError("endpoint or file, not both")
        if self.endpoint.startswith("http:") and not is_loopback(self.endpoint):
            raise ValueError("endpoint: plain HTTP is for addresses of this machine only")
        return self


class OidcSection(_Section):
    """An OpenID Connect provider that people of this authority sign in to the console with."""

    issuer: str = Field(pattern=r"^https?://[^\s?#]+$", max_length=500)
    """As its discovery document names it. Plain HTTP is for this machine."""
    client_id: str = Field(min_length=1, max_length=200)
    client_secret_file: str = ""
    """File with the client's secret, below the node directory or absolute; empty for a public client."""
    id_claim: str = Field(default="preferred_username", max_length=100)
    """Claim with the id that the person has in certificates too: two people are told apart by it."""
    role_claim: str = Field(default="connector_psi_role", max_length=100)
    """Claim with one role: officer, supervisor, dpo, auditor or admin."""

    @model_validator(mode="after")
    def _is_safe(self) -> Self:
        if self.issuer.startswith("http:") and not is_loopback(self.issuer):
            raise ValueError("issuer: plain HTTP is for addresses of this machine only")
        return self


class ConsoleSection(_Section):
    """The web console, over HTTPS alone."""

    listen: str = Field(default="", pattern=r"^(.+:\d{1,5})?$")
    """HOST:PORT; empty for no console inside ``serve``. Port 0 takes a free one, which changes at every start."""
    url: str = Field(default="", pattern=r"^(https://[^\s/?#]+)?$", max_length=500)
    """What people type, such as ``https://console.example.org``; empty for ``https://`` and the address. A request for
    another host is refused."""
    certificate: str = ""
    """PEM for browsers, its key beside it as ``.key``; empty for the node's own certificate."""
    sign_in: tuple[Literal["certificate", "account", "oidc"], ...] = Field(
        default=("certificate", "account"), min_length=1, max_length=3
    )
    """Ways to sign in: a certificate of the federation, a local account with a one-time code, OpenID Connect."""
    idle_s: int = Field(default=900, ge=60, le=86_400)
    """Who does nothing for so long is signed out."""
    longest_s: int = Field(default=36_000, ge=300, le=86_400)
    """Who signed in so long ago signs in again."""
    zone: str = Field(default="UTC", max_length=64)
    """Time zone in which times are shown, such as ``Europe/Brussels``."""
    oidc: OidcSection | None = None

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        host, _, port = self.listen.rpartition(":")
        if self.listen and int(port) > MAX_PORT:
            raise ValueError(f"listen: a port is at most {MAX_PORT}")
        if host.strip("[]") in {"0.0.0.0", "::", "*"} and not self.url:  # noqa: S104 - asked for its name here
            raise ValueError("url: needed where listen is a wildcard, so that other names are refused")
        if ("oidc" in self.sign_in) is (self.oidc is None):
            raise ValueError('oidc: [console.oidc] and "oidc" in sign_in go together')
        try:
            ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("zone: not a time zone such as Europe/Brussels") from None
        return self


class NodeConfig(_Section):
    """Everything that ``node.toml`` says."""

    node: NodeSection
    storage: StorageSection = StorageSection()
    query: QuerySection = QuerySection()
    publish: PublishSection = PublishSection()
    disclosure: DisclosureSection = DisclosureSection()
    log: LogSection = LogSection()
    names: NamesSection = NamesSection()
    transcript: TranscriptSection = TranscriptSection()
    metrics: MetricsSection = MetricsSection()
    traces: TracesSection = TracesSection()
    console: ConsoleSection = ConsoleSection()
    witnesses: tuple[WitnessSection, ...] = Field(default=(), max_length=16)

    @model_validator(mode="after")
    def _no_recording_of_real_data(self) -> Self:
        if self.transcript.path and not self.node.synthetic:
            raise ValueError("transcript is for synthetic nodes only")
        return self


@dataclass(frozen=True, slots=True)
class Layout:
    """The places inside a node directory."""

    root: Path

    @property
    def config(self) -> Path:
        """Settings."""
        return self.root / "node.toml"

    @property
    def policy(self) -> Path:
        """The policy pack."""
        return self.root / "policy.yaml"

    @property
    def first_descriptor(self) -> Path:
        """The descriptor for peers of version 0.1.0."""
        return self.root / "descriptor-0.1.0.json"

    @property
    def descriptor(self) -> Path:
        """What peers are given."""
        return self.root / "descriptor.json"

    @property
    def root_cert(self) -> Path:
        """The federation's root certificate."""
        return self.root / "tls" / "root.crt"

    @property
    def node_cert(self) -> Path:
        """The node's certificate; its key lies beside it."""
        return self.root / "tls" / "node.crt"

    @property
    def people(self) -> Path:
        """Certificates of the agency's people and systems."""
        return self.root / "people"

    @property
    def accounts(self) -> Path:
        """Local accounts of the console."""
        return self.root / "console" / "accounts.json"

    @property
    def keys(self) -> Path:
        """The keyring; never in a backup of the store."""
        return self.root / "keys"

    @property
    def data(self) -> Path:
        """Store, sets and the log's guard."""
        return self.root / "data"

    @property
    def lock(self) -> Path:
        """Held by the one process that has the node open."""
        return self.data / "lock"

    def evidence(self, authority: str, size: int) -> Path:
        """Folder with what proves that a log signed two histories."""
        return self.data / "evidence" / f"{authority}-{size}"

    def owned_set(self, agreement: str, epoch: int) -> Path:
        """Folder of a set that this node published."""
        return self.data / "owned" / agreement.replace(":", "_") / str(epoch)

    def taken_set(self, agreement: str, epoch: int) -> Path:
        """Folder of a set that this node took."""
        return self.data / "taken" / agreement.replace(":", "_") / str(epoch)

    def store_url(self, config: NodeConfig) -> str:
        """Return the SQLAlchemy URL of the store."""
        return f"sqlite:///{self.data / 'node.db'}" if config.storage.url == "sqlite" else config.storage.url


def load_config(directory: Path) -> tuple[NodeConfig, Layout]:
    """Read the settings of a node directory.

    Raises:
        ConfigError: It is no node directory, or a setting is wrong; the text names file and key.
    """
    layout = Layout(directory)
    try:
        raw = layout.config.read_bytes()
    except OSError:
        raise ConfigError(
            f"{directory}: not a node directory (no readable node.toml); see `connector-psi init`"
        ) from None
    return parse_config(raw, str(layout.config)), layout


def parse_config(raw: bytes, name: str) -> NodeConfig:
    """Parse ``node.toml``.

    Raises:
        ConfigError: Too long, not TOML, an unknown key, or a value out of bounds.
    """
    if len(raw) > MAX_CONFIG_BYTES:
        raise ConfigError(f"{name}: longer than {MAX_CONFIG_BYTES} bytes")
    try:
        return NodeConfig.model_validate(parse_toml(raw))
    except FormatError as error:
        raise ConfigError(f"{name}: {error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{name}: {where}: {first['msg']}") from None
