"""R4, one call at a time: every method that a node calls at a peer, through a link that is slow, cut, reset, throttled or gone.

No call lasts longer than its deadline and a second, whatever the link does, and what comes of a broken link is ``UnavailableError``:
whoever calls tries again. Nothing else may come of it, least of all an answer that is cut short.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.integration import live  # isort: skip  # sets up gRPC's environment before gRPC is loaded

import pytest

from connector_psi import pki
from connector_psi.audit.witness import Submission
from connector_psi.disclosure import RecallCause, RecallEffect
from connector_psi.encoding.manifest import manifest_hash
from connector_psi.errors import ConnectorError, UnavailableError
from connector_psi.node import ports
from connector_psi.node.config import Layout
from connector_psi.rpc import client as rpc_client
from connector_psi.rpc import tls
from connector_psi.rpc.client import PeerClient
from tests.faults.agency import Agency, container, wait, wait_lasting
from tests.faults.proxy import CUT, NONE, End, FaultProxy, Faults
from tests.simulation.crash import Diary
from tests.simulation.faults import AGREEMENT, make_query
from tests.simulation.federation import alert

DEADLINE_S, SLACK_S = 2.0, 1.0
SEED = 41
SETTLE_S = 60

_ID = bytes(range(16))
_PROOF = ports.LeafProof(b"{}", 0, (), b"")
_CASE = ports.CaseRequest(AGREEMENT, 1, _ID, bytes(8), "p", "l", "c", "j", _ID, bytes(64), bytes(64))
_ACCESS = ports.AccessRequest(AGREEMENT, _ID, "c", "o", "n", 1, 1, bytes(64), bytes(64))
_RECALL = ports.RecallMessage(AGREEMENT, _ID, _ID, RecallCause.DATA_WRONG, 1, b"{}", bytes(16), bytes(64), _PROOF)
_DONE = ports.Acknowledgement(AGREEMENT, _ID, RecallEffect.RECEIVED, 1, bytes(64))

CALLS: dict[str, Callable[[PeerClient, bytes], object]] = {
    "GetManifest": lambda peer, _: peer.get_manifest(AGREEMENT),
    "ReadSet": lambda peer, manifest: b"".join(peer.read_set(manifest, ports.TICKETS, 0)),
    "GetDeltas": lambda peer, _: list(peer.get_deltas(AGREEMENT, 1, 1)),
    "Evaluate": lambda peer, _: peer.evaluate(make_query(1)),
    "OpenCase": lambda peer, _: peer.open_case(_CASE),
    "GetOutcome": lambda peer, _: peer.get_outcome(AGREEMENT, _ID),
    "RequestAccess": lambda peer, _: peer.request_access(_ACCESS),
    "Recall": lambda peer, _: peer.recall(_RECALL),
    "AcknowledgeRecall": lambda peer, _: peer.acknowledge_recall(_DONE),
    "AddCheckpoint": lambda peer, _: peer.add_checkpoint(Submission(0, (), b"no note")),
}


@dataclass
class Owner:
    """A served node with a published set, and who its peer is."""

    address: str
    credentials: pki.Credentials
    root_pem: bytes
    manifest_hash: bytes = b""

    def client(self, proxy: FaultProxy) -> Timed:
        return Timed(PeerClient("sis", tls.channel(proxy.address, "sis", self.credentials, self.root_pem)))


@dataclass
class Timed:
    """A peer client whose every call is timed, below whatever the client does about failures."""

    peer: PeerClient
    seconds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        for stub in (self.peer._matching, self.peer._disclosure, self.peer._audit):
            for name, method in list(vars(stub).items()):
                setattr(stub, name, self._timed(name, method))

    def _timed(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def unary(*arguments: Any, **options: Any) -> Any:
            begun = time.monotonic()
            try:
                return method(*arguments, **options)
            finally:
                self.seconds.append(time.monotonic() - begun)

        def stream(*arguments: Any, **options: Any) -> Iterator[Any]:
            begun = time.monotonic()
            try:
                yield from method(*arguments, **options)
            finally:
                self.seconds.append(time.monotonic() - begun)

        return stream if name in {"ReadSet", "GetDeltas"} else unary


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owner]:
    root = tmp_path_factory.mktemp("links")
    sis, ics2 = live.make_node(root, "sis", "sis"), live.make_node(root, "ics2", "ics2")
    live.introduce(sis, ics2)
    agency = Agency(sis, Diary(root / "diary"), lambda n: alert(f"A{n}", container(n)))
    try:
        agency.ready()
        agency.register(range(3))
        assert agency.served is not None
        layout = Layout(ics2)
        made = Owner(agency.served.peer, pki.load_credentials(layout.node_cert), layout.root_cert.read_bytes())
        with FaultProxy(made.address) as proxy:
            timed = made.client(proxy)
            wait_lasting(lambda: bool(timed.peer.get_manifest(AGREEMENT)), SETTLE_S)
            made.manifest_hash = manifest_hash(timed.peer.get_manifest(AGREEMENT).manifest)
            timed.peer.close()
        yield made
    finally:
        agency.kill()
        agency.gone()


@pytest.fixture(autouse=True)
def _short_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_client, "DEADLINE_S", DEADLINE_S)


Came = tuple[str, list[float]]


def _call(owner: Owner, name: str, before: Callable[[FaultProxy], None], during: Callable[[FaultProxy], None]) -> Came:
    """Call one method over a connection of its own; returns what came of it and how long the calls below took."""
    with FaultProxy(owner.address, seed=SEED) as proxy:
        timed = owner.client(proxy)
        before(proxy)
        waker = threading.Thread(target=during, args=(proxy,))
        try:
            if before is _connected:
                timed.peer.get_manifest(AGREEMENT)
                timed.seconds.clear()
            waker.start()
            if during in _AT_ONCE:
                waker.join()
            try:
                CALLS[name](timed.peer, owner.manifest_hash)
                came = "answered"
            except ConnectorError as error:
                came = type(error).__name__
        finally:
            if waker.ident is not None:
                waker.join()
            timed.peer.close()
    return came, timed.seconds


def _all(owner: Owner, before: Callable[[FaultProxy], None], during: Callable[[FaultProxy], None]) -> dict[str, Came]:
    """Call every method at the same time."""
    came: dict[str, Came] = {}
    threads = [
        threading.Thread(target=lambda name=name: came.setdefault(name, _call(owner, name, before, during)))  # type: ignore[misc]
        for name in CALLS
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(came) == set(CALLS)
    slow = {name: max(took) for name, (_, took) in came.items() if max(took) > DEADLINE_S + SLACK_S}
    assert slow == {}, "calls lasted longer than their deadline and a second"
    return came


# What the link does, from when


def _connected(_proxy: FaultProxy) -> None:
    """The link is sound until the call."""


def _cut(proxy: FaultProxy) -> None:
    proxy.both(CUT)


def _no_way_back(proxy: FaultProxy) -> None:
    proxy.set(down=CUT)


def _refuse(proxy: FaultProxy) -> None:
    proxy.refuse()


def _gone(proxy: FaultProxy) -> None:
    proxy.refuse()
    proxy.end_all(End.RESET)


def _stranded(proxy: FaultProxy) -> None:
    proxy.strand()


def _broken_handshake(proxy: FaultProxy) -> None:
    proxy.set(down=Faults(end_after=100))


def _reset_in_the_answer(proxy: FaultProxy) -> None:
    # A second connection would carry the call where nothing of it was sent yet.
    proxy.refuse()
    proxy.set(down=Faults(end_after=proxy.counters.bytes_down + 30))


def _closed_in_the_answer(proxy: FaultProxy) -> None:
    proxy.refuse()
    proxy.set(down=Faults(end_after=proxy.counters.bytes_down + 30, end=End.CLOSE))


def _reset_in_the_request(proxy: FaultProxy) -> None:
    proxy.refuse()
    proxy.set(up=Faults(end_after=proxy.counters.bytes_up + 10))


def _throttled(proxy: FaultProxy) -> None:
    proxy.both(Faults(bytes_per_s=10))


def _slow(proxy: FaultProxy) -> None:
    proxy.both(Faults(latency_s=0.15, jitter_s=0.1))


def _lossy(proxy: FaultProxy) -> None:
    proxy.both(Faults(latency_s=0.02, loss=0.1))


def _cut_and_healed(proxy: FaultProxy) -> None:
    proxy.both(CUT)
    time.sleep(0.5)
    proxy.heal()


_AT_ONCE = (
    _connected, _cut, _no_way_back, _refuse, _gone, _stranded, _reset_in_the_answer, _closed_in_the_answer, _reset_in_the_request,
    _throttled, _slow, _lossy,
)  # fmt: skip


@pytest.fixture(scope="module")
def healthy(owner: Owner) -> dict[str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rpc_client, "DEADLINE_S", 20.0)
        return {name: _call(owner, name, _connected, _connected)[0] for name in CALLS}


def test_on_a_sound_link_every_call_reaches_the_peer(healthy: dict[str, str]) -> None:
    assert [name for name, came in healthy.items() if came == UnavailableError.__name__] == []
    assert [healthy[name] for name in ("GetManifest", "ReadSet", "Evaluate", "GetOutcome")][:2] == ["answered"] * 2


@pytest.mark.parametrize("link", [_cut, _refuse, _broken_handshake])
def test_a_link_that_was_never_there(owner: Owner, link: Callable[[FaultProxy], None]) -> None:
    came = _all(owner, link, _connected)
    assert {name: what for name, (what, _) in came.items() if what != UnavailableError.__name__} == {}


@pytest.mark.parametrize(
    "link",
    [
        _cut,
        _no_way_back,
        _gone,
        _stranded,
        _reset_in_the_answer,
        _closed_in_the_answer,
        _reset_in_the_request,
        _throttled,
    ],
)
def test_a_link_that_breaks(owner: Owner, link: Callable[[FaultProxy], None]) -> None:
    came = _all(owner, _connected, link)
    assert {name: what for name, (what, _) in came.items() if what != UnavailableError.__name__} == {}


@pytest.mark.parametrize("link", [_slow, _lossy, _cut_and_healed])
def test_a_link_that_is_slow_answers_as_a_sound_one(
    owner: Owner, healthy: dict[str, str], link: Callable[[FaultProxy], None]
) -> None:
    came = {name: what for name, (what, _) in _all(owner, _connected, link).items()}
    # What was drawn may go against a call until its deadline.
    allowed = {UnavailableError.__name__} if link is _lossy else set()
    assert {name: what for name, what in came.items() if what not in {healthy[name], *allowed}} == {}
    assert sum(what == healthy[name] for name, what in came.items()) >= len(CALLS) // 2


def test_a_stranded_connection_is_given_up_while_the_link_works(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A firewall that forgot a connection tells nobody: the next call finds out, and those after it have a new connection."""
    options = dict(tls.CHANNEL_OPTIONS)
    patience_s = (options["grpc.keepalive_time_ms"] + options["grpc.http2.ping_timeout_ms"]) / 1000
    assert patience_s < 25, "shorter than a call's deadline, so that one call is enough"
    short = {"grpc.keepalive_time_ms": 1_000, "grpc.keepalive_timeout_ms": 500, "grpc.http2.ping_timeout_ms": 500}
    assert short.keys() <= options.keys()
    monkeypatch.setattr(tls, "CHANNEL_OPTIONS", [*(options | short).items()])
    with FaultProxy(owner.address, seed=SEED) as proxy:
        timed = owner.client(proxy)
        try:
            timed.peer.get_manifest(AGREEMENT)
            proxy.strand()
            with pytest.raises(UnavailableError):
                timed.peer.get_manifest(AGREEMENT)
            wait(lambda: bool(timed.peer.get_manifest(AGREEMENT)), DEADLINE_S)
        finally:
            timed.peer.close()
        assert proxy.counters.connections == 2
        assert proxy.faults(up=True) == NONE
