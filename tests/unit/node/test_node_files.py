"""Settings, descriptors and ``init``: what a node directory is made of."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from connector_psi.audit.checkpoint import VKey, encode_vkey
from connector_psi.audit.cosignature import WitnessKey, encode_witness_key
from connector_psi.domain.clock import SystemClock, SystemRandom
from connector_psi.errors import ConfigError, UnavailableError
from connector_psi.node import setup
from connector_psi.node.config import load_config, parse_config
from connector_psi.node.descriptor import encode_descriptor, parse_descriptor
from connector_psi.node.node import Node

BASE = '[node]\nauthority = "sis"\nprofile = "sis"\nrole = "nsis"\nlisten = "h:1"\nlocal = "h:2"\nsynthetic = true\n'


def _init(directory: Path, pki: Path, authority: str = "sis", profile: str = "sis") -> None:
    setup.init_node(
        directory,
        authority=authority,
        profile=profile,
        pkidir=pki,
        listen="127.0.0.1:7001",
        local="127.0.0.1:7002",
        clock=SystemClock(),
        random=SystemRandom(),
    )


def test_defaults_are_those_of_the_design() -> None:
    config = parse_config(BASE.encode(), "node.toml")
    assert config.disclosure.not_disclosed_after_s == 72 * 3600
    assert config.storage.url == "sqlite"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (BASE + "[disclosure]\nslot_s = 0\n", "disclosure.slot_s"),
        (BASE + "[disclosure]\nslot_s = 10\nnot_disclosed_after_s = 15\n", "disclosure"),
        (BASE + "[query]\nunknown = 1\n", "query.unknown"),
        (BASE + "[surprise]\n", "surprise"),
        (BASE.replace("true", "false") + '[transcript]\npath = "x"\n', "synthetic"),
        (BASE.replace('"sis"\nprofile', '"NOT A CODE"\nprofile'), "node.authority"),
        (BASE.replace("nsis", "interpol"), "node.role"),
        (BASE.replace("h:1", "h:99999"), "node"),
        (BASE.replace("h:1", "0.0.0.0:1"), "wildcard"),
        (BASE.replace("h:1", "h:2"), "same address"),
        ("[node", "not TOML"),
    ],
)
def test_a_wrong_setting_stops_the_node_and_is_named(text: str, place: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text.encode(), "node.toml")
    assert "node.toml" in str(caught.value)
    assert place in str(caught.value)


def test_init_makes_a_directory_that_opens_and_keeps_its_secrets(tmp_path: Path) -> None:
    _init(tmp_path / "sis", tmp_path / "pki")
    descriptor = parse_descriptor((tmp_path / "sis" / "descriptor.json").read_bytes())
    assert (descriptor.authority, descriptor.role.value, descriptor.synthetic) == ("sis", "nsis", True)
    for path in [tmp_path / "sis", *(tmp_path / "sis" / "keys").rglob("*"), *(tmp_path / "sis").rglob("*.key")]:
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path.name
    node = Node(tmp_path / "sis")
    try:
        assert node.authority == "sis"
        with pytest.raises(UnavailableError):
            Node(tmp_path / "sis")
    finally:
        node.close()


def test_init_refuses_what_it_cannot_make_and_leaves_nothing_behind(tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "file").write_text("mine")
    with pytest.raises(ConfigError):
        _init(full, tmp_path / "pki")
    assert (full / "file").read_text() == "mine"
    for name, authority, profile in (("a", "UPPER", "sis"), ("b", "sis", "no-such-profile"), ("c", "s" * 17, "sis")):
        with pytest.raises(ConfigError):
            _init(tmp_path / name, tmp_path / "pki", authority, profile)
        assert not (tmp_path / name).exists()


def test_a_descriptor_that_was_changed_is_refused(tmp_path: Path) -> None:
    _init(tmp_path / "sis", tmp_path / "pki")
    good = json.loads((tmp_path / "sis" / "descriptor.json").read_bytes())
    changes: list[dict[str, object]] = [
        {"authority": "europol"},
        {"address": "10.0.0.1:1"},
        {"synthetic": False},
        {"signature": "00" * 64},
        {"signature": "zz"},
        {"extra": 1},
    ]
    for change in changes:
        with pytest.raises(ConfigError):
            parse_descriptor(json.dumps({**good, **change}).encode())
    for raw in (b"", b"[]", b"{}", b"null", b"\xff", b"[" * 100_000):
        with pytest.raises(ConfigError):
            parse_descriptor(raw)


def test_nobody_names_its_log_or_its_witness_after_those_of_somebody_else(tmp_path: Path) -> None:
    """What one authority signs would otherwise be held against the log of another."""
    _init(tmp_path / "sis", tmp_path / "pki")
    made = parse_descriptor((tmp_path / "sis" / "descriptor.json").read_bytes())
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    public = key.public_key().public_bytes_raw()
    mine = made.model_copy(update={"signing_key": public.hex()})
    assert parse_descriptor(encode_descriptor(mine, key)) == mine
    for change in (
        {"log_vkey": encode_vkey(VKey("connector-psi.internal/log/europol", public))},
        {"log_vkey": "nonsense"},
        {"witness_vkey": encode_witness_key(WitnessKey("connector-psi.internal/witness/europol", public))},
        {"witness_vkey": encode_vkey(VKey("connector-psi.internal/witness/sis", public))},
    ):
        with pytest.raises(ConfigError):
            parse_descriptor(encode_descriptor(mine.model_copy(update=change), key))


def test_a_node_of_version_0_1_0_can_read_a_descriptor_of_its_own(tmp_path: Path) -> None:
    _init(tmp_path / "sis", tmp_path / "pki")
    made = parse_descriptor((tmp_path / "sis" / "descriptor.json").read_bytes())
    first = (tmp_path / "sis" / "descriptor-0.1.0.json").read_bytes()
    assert json.loads(first).keys() == json.loads((tmp_path / "sis" / "descriptor.json").read_bytes()).keys() - {
        "witness_vkey"
    }
    assert parse_descriptor(first) == made.model_copy(update={"v": 1, "witness_vkey": ""})


@pytest.mark.parametrize("change", [{"v": 1}, {"witness_vkey": ""}, {"v": 3}, {"v": 0}])
def test_a_descriptor_has_a_witness_key_or_is_of_version_0_1_0(tmp_path: Path, change: dict[str, object]) -> None:
    _init(tmp_path / "sis", tmp_path / "pki")
    made = parse_descriptor((tmp_path / "sis" / "descriptor.json").read_bytes())
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    mine = made.model_copy(update={"signing_key": key.public_key().public_bytes_raw().hex(), **change})
    value = mine.model_dump(mode="json")
    signature = key.sign(b"connector-psi/v1 descriptor\n" + rfc8785.dumps(value)).hex()
    with pytest.raises(ConfigError, match="descriptor: "):
        parse_descriptor(json.dumps({**value, "signature": signature}).encode())


def test_a_directory_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a node directory"):
        load_config(tmp_path)
