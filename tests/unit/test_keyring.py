"""The keyring: what opens, what does not, what stays destroyed, and what never shows."""

from __future__ import annotations

import copy
import datetime as dt
import errno
import os
import pickle
import random
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from connector_psi import keyring as module
from connector_psi.errors import (
    ConfigError,
    ConflictError,
    InputError,
    KeyUnavailableError,
    StorageError,
    UnavailableError,
)
from connector_psi.keyring import FileMaster, Keyring, SecretBytes

AGREEMENT = "SIS-OBJ:ics2-sis"
DAY = dt.date(2026, 11, 22)


class Seeded:
    """A repeatable source that never gives the same bytes twice."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def bytes(self, n: int) -> bytes:
        return self._random.randbytes(n)


class Token:
    """An HSM stand-in: the port without a file. The blob is the plaintext XOR a pad, then a marker and the ad."""

    def __init__(self, pad: int) -> None:
        self._pad = pad

    def wrap(self, plaintext: bytes, ad: bytes) -> bytes:
        return bytes(byte ^ self._pad for byte in plaintext) + bytes([self._pad]) + ad

    def unwrap(self, blob: bytes, ad: bytes) -> bytes:
        if blob[32:] != bytes([self._pad]) + ad:
            raise StorageError("token: not mine")
        return bytes(byte ^ self._pad for byte in blob[:32])


@pytest.fixture
def ring(tmp_path: Path) -> Keyring:
    return Keyring.create(tmp_path, Seeded(1))


def reopened(tmp_path: Path) -> Keyring:
    return Keyring.open(tmp_path, Seeded(2))


def key_files(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "keys").rglob("*") if path.is_file() and path.name != ".lock"]


def epoch_file(tmp_path: Path) -> Path:
    (path,) = (tmp_path / "keys" / "epochs").iterdir()
    return path


# SecretBytes


def test_a_secret_does_not_show() -> None:
    secret = SecretBytes(b"planted-secret")
    for text in (
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r}",
        "%s" % secret,  # noqa: UP031 - the old way to format must not show it either
        repr([secret]),
        repr({"k": secret}),
    ):
        assert "planted" not in text
    assert secret.reveal() == b"planted-secret"
    assert type(secret.reveal()) is bytes


@pytest.mark.parametrize("duplicate", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_secret_is_neither_pickled_nor_copied(duplicate: Callable[[object], object]) -> None:
    for holder in (SecretBytes(b"x"), [SecretBytes(b"x")]):
        if duplicate is copy.copy and isinstance(holder, list):
            continue  # a shallow copy of a list copies no element
        with pytest.raises(TypeError, match="neither pickled nor copied"):
            duplicate(holder)


def test_secrets_compare_by_value_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = module.hmac.compare_digest
    monkeypatch.setattr(module.hmac, "compare_digest", lambda a, b: calls.append(1) or real(a, b))
    secret = SecretBytes(b"abc")
    assert secret == SecretBytes(b"abc")
    assert b"abc" == secret  # noqa: SIM300 - the reflected order is the point
    assert secret != SecretBytes(b"abd")
    assert b"abd" != secret  # noqa: SIM300
    assert len(calls) == 4
    assert secret != "abc"
    assert {secret: 1}[SecretBytes(b"abc")] == 1


# Creating and opening


def test_folders_and_files_are_private(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        ring = Keyring.create(tmp_path, Seeded(1))
        ring.new_epoch(AGREEMENT, 1)
        ring.month_keys().get_or_create("2026-11", "SIS_3Y")
    finally:
        os.umask(old)
    for path in (tmp_path / "keys").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    assert sorted(path.name for path in key_files(tmp_path) if path.parent.name == "keys") == [
        "log.key",
        "master.key",
        "node.key",
        "signing.key",
    ]


def test_the_same_keys_come_back(tmp_path: Path, ring: Keyring) -> None:
    record = ring.new_epoch(AGREEMENT, 7)
    key_id, month_key = ring.month_keys().get_or_create("2026-11", "SIS_3Y")
    blob = ring.wrap("case", b"k", b"row 1")
    again = reopened(tmp_path)
    assert again.node_key("payload") == ring.node_key("payload")
    assert again.signing_key.private_bytes_raw() == ring.signing_key.private_bytes_raw()
    assert again.log_key.private_bytes_raw() == ring.log_key.private_bytes_raw()
    assert again.epoch_seed(AGREEMENT, 7, record.wrapped_seed) == ring.epoch_seed(AGREEMENT, 7, record.wrapped_seed)
    assert again.epoch_file_key(AGREEMENT, 7) == ring.epoch_file_key(AGREEMENT, 7)
    assert again.month_keys().get(key_id) == month_key
    assert again.month_keys().get_or_create("2026-11", "SIS_3Y") == (key_id, month_key)
    assert again.unwrap("case", blob, b"row 1") == b"k"
    assert again.actor_commitment(AGREEMENT, DAY, "p") == ring.actor_commitment(AGREEMENT, DAY, "p")


def test_no_two_keys_are_equal(ring: Keyring) -> None:
    epochs = [(AGREEMENT, 1), (AGREEMENT, 2), ("SIS-PER:sis-ics2", 1)]
    records = [ring.new_epoch(*epoch) for epoch in epochs]
    keys = [
        ring.signing_key.private_bytes_raw(),
        ring.log_key.private_bytes_raw(),
        *(ring.node_key(purpose) for purpose in ("payload", "case", "actor", "set", "index")),
        *(ring.epoch_seed(record.agreement, record.epoch, record.wrapped_seed) for record in records),
        *(ring.epoch_file_key(*epoch) for epoch in epochs),
        *ring.new_case_keys(),
        *ring.new_case_keys(),
        *(
            ring.month_keys().get_or_create(month, kind)[1]
            for month in ("2026-11", "2026-12")
            for kind in ("SIS_3Y", "LED_NATIONAL")
        ),
    ]
    assert {len(key) for key in keys} == {32}
    assert len({bytes(key) for key in keys}) == len(keys)


def test_keys_are_never_overwritten(tmp_path: Path, ring: Keyring) -> None:
    for missing in ((), ("node.key",), ("master.key",)):
        held = {name: (tmp_path / "keys" / name).read_bytes() for name in missing}
        for name in missing:
            (tmp_path / "keys" / name).unlink()
        before = {path: path.read_bytes() for path in key_files(tmp_path)}
        with pytest.raises(ConfigError):
            Keyring.create(tmp_path, Seeded(3))
        assert {path: path.read_bytes() for path in key_files(tmp_path)} == before
        for name, data in held.items():
            (tmp_path / "keys" / name).write_bytes(data)
            (tmp_path / "keys" / name).chmod(0o600)


def test_nothing_to_open_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        Keyring.open(tmp_path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_master_that_others_reach_is_refused(tmp_path: Path, ring: Keyring, mode: int) -> None:
    (tmp_path / "keys" / "master.key").chmod(mode)
    with pytest.raises(ConfigError, match="group or world"):
        reopened(tmp_path)


def test_a_folder_that_others_reach_is_refused(tmp_path: Path, ring: Keyring) -> None:
    (tmp_path / "keys").chmod(0o750)
    with pytest.raises(ConfigError, match="group or world"):
        reopened(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x00" * 31, b"\x00" * 33, b"\x00" * 32])
def test_a_wrong_master_opens_nothing(tmp_path: Path, ring: Keyring, content: bytes) -> None:
    (tmp_path / "keys" / "master.key").write_bytes(content)
    with pytest.raises(ConfigError):
        reopened(tmp_path)


def test_another_nodes_files_do_not_open(tmp_path: Path) -> None:
    mine, theirs = Keyring.create(tmp_path / "a", Seeded(1)), Keyring.create(tmp_path / "b", Seeded(2))
    record = theirs.new_epoch(AGREEMENT, 1)
    stolen = epoch_file(tmp_path / "b")
    (tmp_path / "a" / "keys" / "epochs" / stolen.name).write_bytes(stolen.read_bytes())
    with pytest.raises(StorageError):
        mine.epoch_seed(AGREEMENT, 1, record.wrapped_seed)
    with pytest.raises(StorageError):
        mine.unwrap("case", theirs.wrap("case", b"k", b""), b"")


def test_a_token_can_hold_the_master(tmp_path: Path) -> None:
    ring = Keyring.create(tmp_path, Seeded(1), Token(0x55))
    assert not (tmp_path / "keys" / "master.key").exists()
    assert Keyring.open(tmp_path, Seeded(2), Token(0x55)).node_key("set") == ring.node_key("set")
    with pytest.raises(ConfigError, match="not wrapped by this master"):
        Keyring.open(tmp_path, Seeded(2), Token(0x56))


def test_a_node_moves_from_a_file_to_a_token(tmp_path: Path, ring: Keyring) -> None:
    record = ring.new_epoch(AGREEMENT, 1)
    seed = ring.epoch_seed(AGREEMENT, 1, record.wrapped_seed)
    ring.rewrap(Token(0x55))
    with pytest.raises(ConfigError):
        reopened(tmp_path)
    (tmp_path / "keys" / "master.key").unlink()
    assert Keyring.open(tmp_path, Seeded(2), Token(0x55)).epoch_seed(AGREEMENT, 1, record.wrapped_seed) == seed


def test_file_master_binds_the_ad(tmp_path: Path) -> None:
    master = FileMaster.create(tmp_path / "m", Seeded(1))
    blob = FileMaster.load(tmp_path / "m", Seeded(2)).wrap(b"k", b"a")
    assert master.unwrap(blob, b"a") == b"k"
    with pytest.raises(StorageError):
        master.unwrap(blob, b"b")
    with pytest.raises(ConfigError, match="exists"):
        FileMaster.create(tmp_path / "m", Seeded(3))


def test_no_raw_key_lies_on_disk_but_the_master(tmp_path: Path, ring: Keyring) -> None:
    record = ring.new_epoch(AGREEMENT, 1)
    _, month_key = ring.month_keys().get_or_create("2026-11", "SIS_3Y")
    everything = b"".join(path.read_bytes() for path in key_files(tmp_path)) + record.wrapped_seed
    for key in (
        ring.signing_key.private_bytes_raw(),
        ring.log_key.private_bytes_raw(),
        ring.node_key("payload").reveal(),
        ring.epoch_seed(AGREEMENT, 1, record.wrapped_seed).reveal(),
        ring.epoch_file_key(AGREEMENT, 1).reveal(),
        month_key.reveal(),
    ):
        assert key not in everything


# Wrapping


def test_wrapped_blobs_open_for_their_purpose_and_ad_alone(ring: Keyring) -> None:
    blob = ring.wrap("case", b"secret", b"row 1")
    assert len(blob) == len(b"secret") + 29
    assert ring.wrap("case", b"secret", b"row 1") != blob
    assert ring.unwrap("case", blob, b"row 1") == b"secret"
    with pytest.raises(StorageError):
        ring.unwrap("case", blob, b"row 2")
    with pytest.raises(StorageError):
        ring.unwrap("set", blob, b"row 1")
    # Whoever holds the derived key of a purpose holds another key than the one that wraps for it.
    with pytest.raises(InvalidTag):
        AESGCM(ring.node_key("case")).decrypt(blob[1:13], blob[13:], b"row 1")


def test_every_altered_bit_and_every_cut_is_found(ring: Keyring) -> None:
    blob = ring.wrap("case", b"secret", b"")
    for bit in range(len(blob) * 8):
        damaged = bytearray(blob)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(StorageError):
            ring.unwrap("case", bytes(damaged), b"")
    for length in range(len(blob)):
        with pytest.raises(StorageError):
            ring.unwrap("case", blob[:length], b"")


@pytest.mark.parametrize("purpose", ["", "Payload", "a b", "a\n", "../x", "x" * 33])
def test_purposes_are_plain_words(ring: Keyring, purpose: str) -> None:
    with pytest.raises(InputError):
        ring.node_key(purpose)
    with pytest.raises(InputError):
        ring.wrap(purpose, b"", b"")


# Epochs


def test_a_destroyed_epoch_is_gone_for_every_process(tmp_path: Path, ring: Keyring) -> None:
    record = ring.new_epoch(AGREEMENT, 1)
    kept = ring.new_epoch(AGREEMENT, 2)
    other_process = reopened(tmp_path)
    other_process.epoch_seed(AGREEMENT, 1, record.wrapped_seed)
    ring.destroy_epoch(AGREEMENT, 1)
    for keyring in (ring, other_process, reopened(tmp_path)):
        with pytest.raises(KeyUnavailableError):
            keyring.epoch_seed(AGREEMENT, 1, record.wrapped_seed)
        with pytest.raises(KeyUnavailableError):
            keyring.epoch_file_key(AGREEMENT, 1)
        assert keyring.epochs() == [(AGREEMENT, 2)]
        keyring.epoch_seed(AGREEMENT, 2, kept.wrapped_seed)
    ring.destroy_epoch(AGREEMENT, 1)
    ring.destroy_epoch(AGREEMENT, 99)


def test_destruction_overwrites_the_bytes(tmp_path: Path, ring: Keyring) -> None:
    ring.new_epoch(AGREEMENT, 1)
    path = epoch_file(tmp_path)
    size = path.stat().st_size
    with path.open("rb") as still_open:
        ring.destroy_epoch(AGREEMENT, 1)
        assert still_open.read() == bytes(size)
    assert not list(path.parent.iterdir())


def test_an_old_seed_does_not_open_under_a_new_key(ring: Keyring) -> None:
    old = ring.new_epoch(AGREEMENT, 1)
    with pytest.raises(ConflictError):
        ring.new_epoch(AGREEMENT, 1)
    ring.destroy_epoch(AGREEMENT, 1)
    new = ring.new_epoch(AGREEMENT, 1)
    ring.epoch_seed(AGREEMENT, 1, new.wrapped_seed)
    with pytest.raises(StorageError):
        ring.epoch_seed(AGREEMENT, 1, old.wrapped_seed)


def test_seeds_and_key_files_cannot_be_exchanged(tmp_path: Path, ring: Keyring) -> None:
    first, second = ring.new_epoch(AGREEMENT, 1), ring.new_epoch(AGREEMENT, 2)
    with pytest.raises(StorageError):
        ring.epoch_seed(AGREEMENT, 1, second.wrapped_seed)
    folder = tmp_path / "keys" / "epochs"
    one, two = sorted(folder.iterdir())
    two.write_bytes(one.read_bytes())
    with pytest.raises(StorageError):
        ring.epoch_seed(AGREEMENT, 2, first.wrapped_seed)


def test_one_of_many_racing_threads_makes_the_epoch(ring: Keyring) -> None:
    barrier = threading.Barrier(8)

    def make(_: int) -> bytes | None:
        barrier.wait()
        try:
            return ring.new_epoch(AGREEMENT, 1).wrapped_seed
        except ConflictError:
            return None

    with ThreadPoolExecutor(8) as pool:
        (wrapped,) = filter(None, pool.map(make, range(8)))
    ring.epoch_seed(AGREEMENT, 1, wrapped)


def test_epochs_are_listed_by_their_codes(tmp_path: Path, ring: Keyring) -> None:
    codes = ["a/../b", "A:b-c", "é%40@7", ".."]
    for code in codes:
        ring.new_epoch(code, 2**64 - 1)
    assert ring.epochs() == sorted((code, 2**64 - 1) for code in codes)
    assert len(list((tmp_path / "keys" / "epochs").iterdir())) == len(codes)


@pytest.mark.parametrize(("code", "epoch"), [("", 1), ("x" * 201, 1), ("x", -1), ("x", 2**64)])
def test_epochs_out_of_range_are_refused(ring: Keyring, code: str, epoch: int) -> None:
    with pytest.raises(InputError):
        ring.new_epoch(code, epoch)


def test_a_backup_without_epochs_opens(tmp_path: Path, ring: Keyring) -> None:
    record = ring.new_epoch(AGREEMENT, 1)
    for path in (tmp_path / "keys" / "epochs").iterdir():
        path.unlink()
    (tmp_path / "keys" / "epochs").rmdir()
    restored = reopened(tmp_path)
    with pytest.raises(KeyUnavailableError):
        restored.epoch_seed(AGREEMENT, 1, record.wrapped_seed)
    restored.new_epoch(AGREEMENT, 2)


# Crashes and full disks


def no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_makes_nothing_and_recovers(tmp_path: Path, ring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module.os, "fsync", no_space)
        with pytest.raises(UnavailableError) as caught:
            ring.new_epoch(AGREEMENT, 1)
        assert caught.value.retryable
        with pytest.raises(UnavailableError):
            ring.month_keys().get_or_create("2026-11", "SIS_3Y")
    assert ring.epochs() == []
    assert ring.month_keys().key_ids() == []
    record = ring.new_epoch(AGREEMENT, 1)
    ring.epoch_seed(AGREEMENT, 1, record.wrapped_seed)


@pytest.mark.parametrize("fails", ["_erase", "_sync_folder"])
def test_an_interrupted_destruction_is_finished_by_the_next_start(
    tmp_path: Path, ring: Keyring, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    record = ring.new_epoch(AGREEMENT, 1)
    path = epoch_file(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(module, fails, no_space)
        with pytest.raises(UnavailableError):
            ring.destroy_epoch(AGREEMENT, 1)
    with pytest.raises(KeyUnavailableError):
        ring.epoch_seed(AGREEMENT, 1, record.wrapped_seed)
    assert [left.name for left in path.parent.iterdir()] == [path.name + ".gone"]
    reopened(tmp_path)
    assert not list(path.parent.iterdir())


def test_a_destruction_may_be_repeated_after_a_failure(
    tmp_path: Path, ring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring.new_epoch(AGREEMENT, 1)
    path = epoch_file(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(module, "_erase", no_space)
        with pytest.raises(UnavailableError):
            ring.destroy_epoch(AGREEMENT, 1)
    ring.destroy_epoch(AGREEMENT, 1)
    assert not list(path.parent.iterdir())


def test_a_temporary_file_of_a_crash_goes_with_its_key(tmp_path: Path, ring: Keyring) -> None:
    ring.new_epoch(AGREEMENT, 1)
    path = epoch_file(tmp_path)
    path.with_name(path.name + ".tmp").write_bytes(path.read_bytes())
    assert ring.epochs() == [(AGREEMENT, 1)]
    ring.destroy_epoch(AGREEMENT, 1)
    assert not list(path.parent.iterdir())


def test_every_altered_key_file_is_found(tmp_path: Path, ring: Keyring) -> None:
    record = ring.new_epoch(AGREEMENT, 1)
    key_id, _ = ring.month_keys().get_or_create("2026-11", "SIS_3Y")
    uses: dict[str, Callable[[], object]] = {
        "signing.key": lambda: ring.signing_key,
        "log.key": lambda: ring.log_key,
        epoch_file(tmp_path).name: lambda: ring.epoch_seed(AGREEMENT, 1, record.wrapped_seed),
        f"{key_id}.key": lambda: ring.month_keys().get(key_id),
    }
    for path in key_files(tmp_path):
        original = path.read_bytes()
        for damaged in (original[:-1], b"", original[:20] + bytes([original[20] ^ 1]) + original[21:]):
            path.write_bytes(damaged)
            with pytest.raises((StorageError, ConfigError)) as caught:
                uses.get(path.name, lambda: reopened(tmp_path))()
            assert path.name in str(caught.value) or path.name == "master.key"
        path.write_bytes(original)


# Keys of the log


def test_a_month_has_one_key_per_class(ring: Keyring) -> None:
    months = ring.month_keys()
    key_id, key = months.get_or_create("2026-11", "SIS_3Y")
    assert months.get_or_create("2026-11", "SIS_3Y") == (key_id, key)
    assert months.get_or_create("2026-11", "SIS_3")[0] != key_id
    assert months.get_or_create("2026-12", "SIS_3Y")[0] != key_id
    assert months.get(key_id) == key
    assert len(months.key_ids()) == 3
    assert months.key_ids()[-1].startswith("2026-12.SIS_3Y.")


def test_a_destroyed_month_stays_destroyed(tmp_path: Path, ring: Keyring) -> None:
    months = ring.month_keys()
    key_id, key = months.get_or_create("2026-11", "SIS_3Y")
    months.destroy(key_id)
    months.destroy(key_id)
    for keys in (months, reopened(tmp_path).month_keys()):
        with pytest.raises(KeyUnavailableError):
            keys.get(key_id)
    new_id, new_key = months.get_or_create("2026-11", "SIS_3Y")
    assert new_id != key_id
    assert new_key != key
    assert not list((tmp_path / "keys" / "log").glob("*.gone"))


def test_racing_threads_share_one_month_key(ring: Keyring) -> None:
    barrier = threading.Barrier(8)

    def make(_: int) -> tuple[str, bytes]:
        barrier.wait()
        return ring.month_keys().get_or_create("2026-11", "SIS_3Y")

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(make, range(8)))) == 1


@pytest.mark.parametrize(
    ("month", "kind"), [("2026-13", "SIS_3Y"), ("2026-1", "SIS_3Y"), ("2026-11\n", "SIS_3Y"), ("2026-11", "../x")]
)
def test_malformed_months_are_refused(ring: Keyring, month: str, kind: str) -> None:
    with pytest.raises(InputError):
        ring.month_keys().get_or_create(month, kind)


@pytest.mark.parametrize(
    "key_id", ["", "../signing", "2026-11.SIS_3Y", "2026-11.SIS_3Y.0123456789abcdef/../../../node"]
)
def test_a_key_id_from_the_database_is_no_path(ring: Keyring, key_id: str) -> None:
    with pytest.raises(StorageError):
        ring.month_keys().get(key_id)
    with pytest.raises(StorageError):
        ring.month_keys().destroy(key_id)


# Pseudonyms and what shows


def test_actor_commitments_link_within_agreement_and_day_alone(tmp_path: Path, ring: Keyring) -> None:
    base = ring.actor_commitment(AGREEMENT, DAY, "urn:x:anna")
    assert len(base) == 32
    assert ring.actor_commitment(AGREEMENT, DAY, "urn:x:anna") == base
    assert ring.actor_commitment(AGREEMENT, dt.datetime(2026, 11, 22, 13, 5, tzinfo=dt.UTC), "urn:x:anna") == base
    others = {
        ring.actor_commitment("other", DAY, "urn:x:anna"),
        ring.actor_commitment(AGREEMENT, DAY + dt.timedelta(days=1), "urn:x:anna"),
        ring.actor_commitment(AGREEMENT, DAY, "urn:x:bert"),
        # The same characters, cut elsewhere.
        ring.actor_commitment(AGREEMENT + "2", DAY, "urn:x:anna"),
        Keyring.create(tmp_path / "other", Seeded(9)).actor_commitment(AGREEMENT, DAY, "urn:x:anna"),
    }
    assert len(others | {base}) == 6


def test_nothing_shows_and_nothing_pickles(tmp_path: Path, ring: Keyring) -> None:
    record = ring.new_epoch(AGREEMENT, 1)
    months = ring.month_keys()
    months.get_or_create("2026-11", "SIS_3Y")
    master = FileMaster.load(tmp_path / "keys" / "master.key", Seeded(1))
    raw = (tmp_path / "keys" / "master.key").read_bytes()
    for holder in (ring, months, master, record):
        shown = repr(holder) + str(holder)
        assert repr(raw)[2:-1] not in shown
        assert repr(record.wrapped_seed)[2:-1] not in shown
    for holder in (ring, months, master, ring.node_key("set"), ring.new_case_keys()):
        with pytest.raises(TypeError):
            pickle.dumps(holder)
    assert str(tmp_path) in repr(ring)
