"""R4 below TCP: two nodes in networks of their own, and the cable between them is pulled while both go on working.

In the long form alone; every run has partitions and broken links of the proxy, in ``test_peer_calls_on_bad_links`` and
``test_links_that_come_and_go``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from connector_psi.domain.clock import SystemClock, SystemRandom
from connector_psi.node.config import Layout
from connector_psi.node.setup import init_node
from tests.faults.agency import Agency, all_synced, container, wait
from tests.faults.netns import Network, NoNamespacesError, two_networks
from tests.integration import live
from tests.simulation.crash import Diary
from tests.simulation.federation import alert, declaration

PEER_PORT, LOCAL_PORT = 7443, 7444
PULLED_S = 60.0
SETTLE_S, BACK_S = 60.0, 60.0
LOCAL_S = 2.0


@pytest.fixture
def networks() -> Iterator[tuple[Network, Network]]:
    with ExitStack() as stack:
        try:
            made = stack.enter_context(two_networks())
        except NoNamespacesError as error:
            pytest.skip(f"no network namespaces here: {error}")
        yield made


def _node(root: Path, code: str, network: Network) -> Path:
    directory = root / code
    init_node(
        directory,
        authority=code,
        profile=code,
        pkidir=root / "pki",
        listen=f"{network.address}:{PEER_PORT}",
        local=f"127.0.0.1:{LOCAL_PORT}",
        clock=SystemClock(),
        random=SystemRandom(),
    )
    settings = Layout(directory).config
    settings.write_text(settings.read_text().replace("slot_s = 10", "slot_s = 1"))
    return directory


def _pull(root: Path, networks: tuple[Network, Network], pulled_s: float) -> None:
    diary = Diary(root / "diary")
    directories = [_node(root, code, network) for code, network in zip(("ics2", "sis"), networks, strict=True)]
    live.introduce(directories[0], directories[1])
    live.introduce(directories[1], directories[0])
    makers = (lambda n: declaration(f"D{n}", container(n)), lambda n: alert(f"A{n}", container(n)))
    both: list[Agency] = []
    with ExitStack() as stack:
        try:
            for directory, network, make in zip(directories, networks, makers, strict=True):
                local = stack.enter_context(network.door(root / f"{directory.name}.door", f"127.0.0.1:{LOCAL_PORT}"))
                both.append(Agency(directory, diary, make, inside=network.inside, local=local))
            ics2, sis = both
            for agency in both:
                agency.start()
            for agency in both:
                agency.ready()
                agency.feed()
            _settle(ics2, sis)
            before = ics2.acknowledged

            networks[0].pull()
            end = time.monotonic() + pulled_s
            while time.monotonic() < end:
                for step in (ics2.feed, sis.feed, ics2.review, sis.approve):
                    begun = time.monotonic()
                    step()
                    assert time.monotonic() - begun < LOCAL_S, "a node that is alone serves its own people"
                time.sleep(pulled_s / 6)
            assert len(list(ics2.matches())) == before
            networks[0].plug()
            back_s = wait(all_synced(both), BACK_S)
            _settle(ics2, sis)

            bad = all(network.weather("delay", "40ms", "10ms", "loss", "3%") for network in networks)
            if bad:
                for agency in both:
                    agency.feed()
                _settle(ics2, sis)
            print(
                f"\nback {back_s:.1f} s after {pulled_s:.0f} s; netem: {'tried too' if bad else 'not in this kernel'}"
            )
            for agency in both:
                assert agency.client("system1").verify_log()["verified"]
                agency.stop()
        finally:
            for agency in both:
                agency.kill()
                agency.gone()


def _settle(ics2: Agency, sis: Agency) -> None:
    """Everything registered is matched once and disclosed once."""
    last = max(ics2.acknowledged, sis.acknowledged)
    for agency in (ics2, sis):
        while agency.acknowledged < last:
            agency.feed()
    wait(all_synced((ics2, sis)), SETTLE_S)
    ics2.review()
    ics2.open_cases()

    def disclosed() -> bool:
        sis.approve()
        return {case.state for case in ics2.cases()} == {"disclosed"}

    wait(disclosed, SETTLE_S)
    wanted = sorted(f"D{n}" for n in range(last))
    assert sorted(match.record_ref for match in ics2.matches()) == wanted
    assert sorted(case.case_reference for case in ics2.cases()) == wanted


@pytest.mark.slow
def test_a_cable_that_is_pulled_for_a_minute(tmp_path: Path, networks: tuple[Network, Network]) -> None:
    _pull(tmp_path, networks, PULLED_S)
