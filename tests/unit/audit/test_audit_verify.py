"""The stand-alone verifier: as a function, as ``python -m``, as a file on its own, and against every damage."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from base64 import b64decode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from connector_psi.audit import verify
from connector_psi.audit.checkpoint import NoteSigner, encode_signature, encode_vkey, parse_note, sign_note
from connector_psi.audit.cosignature import Cosigner, WitnessKey, encode_witness_key
from connector_psi.audit.entries import _FORMS
from connector_psi.audit.log import MAX_FAILURES
from connector_psi.audit.verify import main, verify_bundle, verify_leaves
from tests.simulation.memory_log import ORIGIN, Bench, build_log


@pytest.fixture
def bench() -> Bench:
    bench = build_log()
    bench.append(6)
    bench.checkpoint()
    return bench


@pytest.fixture
def bundle(bench: Bench, tmp_path: Path) -> Path:
    return bench.export(tmp_path / "bundle", bodies=True)


def _run(*arguments: str) -> tuple[int, dict[str, object]]:
    run = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=30, check=False)
    return run.returncode, json.loads(run.stdout) if run.stdout else {}


def test_a_sound_bundle_is_verified_and_agrees_with_the_node(bench: Bench, bundle: Path) -> None:
    with bench.backend.transaction() as tx:
        expected = bench.log.verify(tx).to_json()
    report = verify_bundle(bundle)
    assert {key: report[key] for key in expected} == expected
    assert report["checked"] == [
        "6 leaves are in canonical form and lead to the root that the log's key signed",
        "6 bodies are those that were sealed",
    ]
    assert [text.partition(":")[0] for text in report["not_checked"]] == [
        "whose key signed",
        "what you saw before",
        "whose witnesses cosigned",
        "that everything that happened was logged, and that bodies tell the truth",
    ]
    assert _run("-m", "connector_psi.audit.verify", str(bundle)) == (0, report)


def test_a_body_begins_where_it_was_sealed_to_begin(bundle: Path) -> None:
    """What is hashed is salt and body without a border: a longer salt would cut the front off a body."""
    path = bundle / "bodies.jsonl"
    first, *others = path.read_bytes().splitlines(keepends=True)
    said = json.loads(first)
    for salt, body in ((said["salt"] + b"{".hex(), said["body"][1:]), (said["salt"][:-2], said["body"])):
        moved = {"body": body, "index": said["index"], "salt": salt}
        line = json.dumps(moved, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()
        path.write_bytes(b"".join([line + b"\n", *others]))
        assert verify_bundle(bundle)["failures"] == ["bodies.jsonl line 1: leaf 0: a salt of another length"]


def test_a_body_is_there_once(bundle: Path) -> None:
    path = bundle / "bodies.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:-1], lines[0]]))
    report = verify_bundle(bundle)
    assert report["failures"] == ["bodies.jsonl line 6: a second body of leaf 0"]
    assert report["not_checked"][0] == "the bodies of 1 leaves, which are not here"


def test_what_never_ends_or_is_too_long_is_not_read(bundle: Path) -> None:
    good = (bundle / "vkey").read_bytes()
    (bundle / "vkey").write_bytes(good + b"x" * 1024 * 1024)
    assert not verify_bundle(bundle)["verified"]
    (bundle / "vkey").unlink()
    (bundle / "vkey").symlink_to("/dev/zero")
    assert not verify_bundle(bundle)["verified"]
    (bundle / "vkey").unlink()
    (bundle / "vkey").write_bytes(good)
    (bundle / "bodies.jsonl").unlink()
    (bundle / "bodies.jsonl").symlink_to(bundle / "nothing")
    assert not verify_bundle(bundle)["verified"], "a link to nothing is there, and cannot be read"


def test_a_witness_that_only_the_bundle_names_need_not_have_cosigned(bundle: Path) -> None:
    key = encode_witness_key(WitnessKey("w.example", Ed25519PrivateKey.generate().public_key().public_bytes_raw()))
    (bundle / "witnesses").write_text(f"{key}\n")
    report = verify_bundle(bundle)
    assert report["verified"]
    assert "what w.example saw: it cosigned no checkpoint that is here" in report["not_checked"]
    assert verify_bundle(bundle, witnesses=[key])["failures"] == [
        "witness w.example: cosigned no checkpoint that is here"
    ]


def test_the_file_runs_alone(bundle: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone" / "verify.py"
    alone.parent.mkdir()
    shutil.copy(verify.__file__, alone)
    code, report = _run("-I", str(alone), str(bundle))
    assert (code, report["verified"]) == (0, True)


def test_it_imports_the_standard_library_and_cryptography_only() -> None:
    tree = ast.parse(Path(verify.__file__).read_text(encoding="utf-8"))
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    roots = {str(name).partition(".")[0] for name in names}
    assert roots - set(sys.stdlib_module_names) == {"cryptography"}
    probe = "import sys, connector_psi.audit.verify; print([m for m in sys.modules if m.startswith('connector_psi')])"
    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=30, check=True)
    assert run.stdout == "['connector_psi', 'connector_psi.audit', 'connector_psi.audit.verify']\n"


def test_it_knows_the_fields_of_a_leaf() -> None:
    assert set(_FORMS) == verify._LEAF_KEYS


def test_every_flipped_bit_of_a_bundle_is_found(bundle: Path) -> None:
    parts = {path.name: path.read_bytes() for path in bundle.iterdir()}
    assert set(parts) == {"checkpoint", "vkey", "leaves.jsonl", "bodies.jsonl"}
    for name, content in parts.items():
        step = 7 if name in {"checkpoint", "vkey"} else 211
        # The newline that ends a file says nothing: without it the last line is the same.
        for bit in range(0, 8 * (len(content) - 1), step):
            (bundle / name).write_bytes(
                bytes(b ^ (1 << bit % 8 if i == bit // 8 else 0) for i, b in enumerate(content))
            )
            report = verify_bundle(bundle)
            assert not report["verified"], (name, bit)
        (bundle / name).write_bytes(content)
    assert verify_bundle(bundle)["verified"]


@pytest.mark.parametrize(
    ("edit", "failure"),
    [
        (lambda lines: lines[:-1], "checkpoint: covers more leaves than are here"),
        (lambda lines: [*lines, lines[0]], "leaf 6: beyond the checkpoint"),
        (lambda lines: lines[::-1], "checkpoint: the leaves have another root"),
        (lambda lines: [*lines[:2], *lines[3:]], "checkpoint: covers more leaves than are here"),
        (lambda lines: [*lines[:2], b"", *lines[2:]], "leaf 2: not JSON"),
        (lambda lines: [*lines[:2], b"[]", *lines[3:]], "leaf 2: not a JSON object"),
        (lambda lines: [*lines[:2], b'{"v":1}', *lines[3:]], "leaf 2: not a leaf in its canonical form"),
        (
            lambda lines: [*lines[:2], lines[2].replace(b'"v":1', b'"v":1,"v":1'), *lines[3:]],
            "leaf 2: not a leaf in its canonical form",
        ),
        (lambda lines: [*lines[:2], b"[" * 100_000, *lines[3:]], "leaf 2: not JSON"),
    ],
)
def test_other_leaves_are_found(bundle: Path, edit: object, failure: str) -> None:
    path = bundle / "leaves.jsonl"
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"".join(line + b"\n" for line in edit(lines)))  # type: ignore[operator]
    report = verify_bundle(bundle)
    assert failure in report["failures"]
    assert not report["verified"]


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b'{"body":"{}","index":6,"salt":"00"}',
        b'{"body":"{}","index":-1,"salt":"00"}',
        b'{"body":"{}","index":true,"salt":"00"}',
        b'{"body":"{}","index":0,"salt":"zz"}',
        b'{"body":{},"index":0,"salt":"00"}',
        b'{"body":"{}","index":0,"salt":0}',
        b'{"body":"\\ud800","index":0,"salt":"00"}',
        b'{"body":"{}","index":0,"salt":"' + b"00" * 32 + b'"}',
        b'{"body":"{}","index":0,"index":0,"salt":"00"}',
        b'{"body":"{}","index":0,"more":1,"salt":"00"}',
        b"not json",
    ],
)
def test_other_bodies_are_found(bundle: Path, line: bytes) -> None:
    (bundle / "bodies.jsonl").write_bytes(line + b"\n")
    report = verify_bundle(bundle)
    assert [failure.partition(":")[0] for failure in report["failures"]] == ["bodies.jsonl line 1"]


def test_a_body_of_another_leaf_is_found(bundle: Path) -> None:
    path = bundle / "bodies.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"index":0', b'"index":1', 1))
    assert verify_bundle(bundle)["failures"] == ["bodies.jsonl line 1: does not match leaf 1"]


def test_a_body_in_another_form_is_found(bundle: Path) -> None:
    path = bundle / "bodies.jsonl"
    line = path.read_bytes().splitlines()[0]
    for other in (
        line + b" ",
        line.replace(b'"index":0', b'"index":1,"index":0'),
        line.replace(b"salt", b"\\u0073alt"),
    ):
        assert json.loads(other) == json.loads(line)
        path.write_bytes(other + b"\n")
        assert verify_bundle(bundle)["failures"] == ["bodies.jsonl line 1: not an opened body in its canonical form"]


def test_base64_in_another_form_is_found(bench: Bench, bundle: Path) -> None:
    text = parse_note((bundle / "checkpoint").read_bytes()).text
    last = text[-3]
    assert last in "AEIMQUYcgkosw048"
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = f"{text[:-3]}{alphabet[alphabet.index(last) + 1]}=\n"
    assert b64decode(other.split("\n")[2]) == b64decode(text.split("\n")[2])
    (bundle / "checkpoint").write_bytes(sign_note(other, [bench.signer]))
    assert verify_bundle(bundle)["failures"] == ["checkpoint: not base64 in its one form"]


def test_a_forged_bundle_is_found_by_the_key_handed_over(bench: Bench, bundle: Path, tmp_path: Path) -> None:
    forger = NoteSigner(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes(32)))
    text = parse_note((bundle / "checkpoint").read_bytes()).text
    forged = tmp_path / "forged"
    shutil.copytree(bundle, forged)
    (forged / "checkpoint").write_bytes(sign_note(text, [forger]))
    (forged / "vkey").write_text(encode_vkey(forger.vkey) + "\n")
    assert verify_bundle(forged)["verified"], "a bundle vouches for itself with any key"
    report = verify_bundle(forged, vkey=encode_vkey(bench.signer.vkey))
    assert report["failures"] == ["checkpoint: not signed by the log's key", "vkey: not the key given"]
    assert verify_bundle(bundle, vkey=encode_vkey(bench.signer.vkey))["verified"]


def test_a_log_that_does_not_continue_an_earlier_checkpoint_is_found(
    bench: Bench, bundle: Path, tmp_path: Path
) -> None:
    bench.append(3)
    earlier = (bundle / "checkpoint").read_bytes()
    bench.checkpoint()
    bench.export(tmp_path / "later")
    assert verify_bundle(tmp_path / "later", earlier=[earlier])["verified"]
    twin = build_log(seed=99)
    twin.append(9)
    twin.checkpoint()
    twin.export(tmp_path / "forked")
    assert verify_bundle(tmp_path / "forked")["verified"]
    assert verify_bundle(tmp_path / "forked", earlier=[earlier])["failures"] == [
        "earlier checkpoint 1: the leaves have another root"
    ]
    (tmp_path / "earlier").write_bytes(earlier)
    code, _ = _run("-m", "connector_psi.audit.verify", str(tmp_path / "forked"), "--earlier", str(tmp_path / "earlier"))
    assert code == 5


def test_a_shrunken_log_is_found(bench: Bench, bundle: Path) -> None:
    bench.append(3)
    newest = bench.checkpoint()
    assert verify_bundle(bundle, earlier=[newest])["failures"] == [
        "earlier checkpoint 1: covers more leaves than are here"
    ]


def test_the_checkpoint_of_another_log_is_found(bench: Bench, bundle: Path) -> None:
    text = parse_note((bundle / "checkpoint").read_bytes()).text.replace(ORIGIN, "log.example/other")
    (bundle / "checkpoint").write_bytes(sign_note(text, [bench.signer]))
    assert verify_bundle(bundle)["failures"] == ["checkpoint: of another log"]


@pytest.mark.parametrize("size", ["06", "-6", "6 ", "\u0666", "9" * 30])
def test_a_size_in_another_form_is_found(bench: Bench, bundle: Path, size: str) -> None:
    text = parse_note((bundle / "checkpoint").read_bytes()).text.replace("\n6\n", f"\n{size}\n")
    (bundle / "checkpoint").write_bytes(sign_note(text, [bench.signer]))
    assert verify_bundle(bundle)["failures"] == ["checkpoint: the size is not a number"]


def test_exit_codes(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(bundle)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert list(report) == ["origin", "size", "root", "verified", "failures", "checked", "not_checked"]
    (bundle / "leaves.jsonl").unlink()
    assert main([str(bundle)]) == 5
    assert json.loads(capsys.readouterr().out)["verified"] is False
    for arguments in ([], [str(tmp_path / "gone")], [str(bundle), "--earlier", str(tmp_path / "gone")]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2


def test_an_empty_log_is_verified() -> None:
    bench = build_log()
    note, key = bench.checkpoint(), encode_vkey(bench.signer.vkey)
    assert verify_leaves([], note, key)["verified"]
    assert verify_leaves([b"{}"], note, key)["failures"] == [
        "leaf 0: not a leaf in its canonical form",
        "leaf 0: beyond the checkpoint",
    ]


def test_many_failures_are_counted(bench: Bench) -> None:
    report = verify_leaves([b"x"] * 500, bench.checkpoint(), encode_vkey(bench.signer.vkey))
    assert len(report["failures"]) == MAX_FAILURES + 1
    assert str(report["failures"][-1]).startswith("and 4")


@pytest.mark.parametrize("junk", [b"", b"\xff", b"\n\n", b"a\n\n\xe2\x80\x94 b AAAA\n", b"x" * 1000])
def test_junk_is_a_failure_and_no_exception(junk: bytes) -> None:
    assert not verify_leaves([junk], junk, junk.decode("utf-8", "replace"), bodies=[junk], earlier=junk)["verified"]


# Witnesses, checkpoints on the way, forks

WITNESS = Cosigner("dpa.example.org/w1", Ed25519PrivateKey.from_private_bytes(bytes([5]) * 32))
WITNESS_KEY = encode_witness_key(WITNESS.key)


def _cosigned(bundle: Path, time_s: int = 1_800_000_000) -> bytes:
    note = (bundle / "checkpoint").read_bytes()
    return note + encode_signature(WITNESS.cosign(parse_note(note).text, time_s))


def test_a_witness_whose_key_was_handed_over_must_have_cosigned(bundle: Path) -> None:
    missing = verify_bundle(bundle, witnesses=[WITNESS_KEY])
    assert missing["failures"] == ["witness dpa.example.org/w1: cosigned no checkpoint that is here"]
    (bundle / "checkpoint").write_bytes(_cosigned(bundle))
    report = verify_bundle(bundle, witnesses=[WITNESS_KEY])
    assert report["verified"]
    assert "dpa.example.org/w1 cosigned the first 6 leaves at 2027-01-15T08:00:00Z" in report["checked"]
    code, printed = _run("-m", "connector_psi.audit.verify", str(bundle), "--witness", WITNESS_KEY)
    assert (code, printed) == (0, report)
    raw = (bundle / "checkpoint").read_bytes()
    for place in (-10, -60, -90):
        damaged = bytearray(raw)
        damaged[place] = ord("A") if raw[place] != ord("A") else ord("B")
        (bundle / "checkpoint").write_bytes(bytes(damaged))
        assert not verify_bundle(bundle, witnesses=[WITNESS_KEY])["verified"]


def test_keys_of_witnesses_in_a_bundle_are_used_and_said_to_prove_nothing(bundle: Path) -> None:
    (bundle / "checkpoint").write_bytes(_cosigned(bundle))
    (bundle / "witnesses").write_text(f"{WITNESS_KEY}\n")
    report = verify_bundle(bundle)
    assert report["verified"]
    assert any("taken from the bundle" in text and "--witness" in text for text in report["not_checked"])


def test_what_a_witness_cosigned_of_an_earlier_size_is_said_with_the_rest(
    bench: Bench, bundle: Path, tmp_path: Path
) -> None:
    on_the_way = _cosigned(bundle)
    bench.append(3)
    bench.checkpoint()
    later = bench.export(tmp_path / "later")
    (later / "checkpoints.jsonl").write_text(json.dumps(on_the_way.decode()) + "\n")
    report = verify_bundle(later, witnesses=[WITNESS_KEY])
    assert report["verified"]
    assert "they continue 1 checkpoints that the log signed on the way" in report["checked"]
    assert "whether dpa.example.org/w1 would cosign the last 3 leaves" in report["not_checked"]
    other = build_log(seed=99)
    other.append(6)
    (later / "checkpoints.jsonl").write_text(json.dumps(other.checkpoint().decode()) + "\n")
    assert verify_bundle(later)["failures"] == ["checkpoints.jsonl line 1: the leaves have another root"]
    for line in ("nonsense", "5", '"x"', '"\\ud800"'):
        (later / "checkpoints.jsonl").write_text(line + "\n")
        assert not verify_bundle(later)["verified"]


def test_a_wrong_key_of_a_witness_is_a_doubt(bench: Bench, bundle: Path) -> None:
    for key in ("nonsense", encode_vkey(bench.signer.vkey)):
        assert not verify_bundle(bundle, witnesses=[key])["verified"]


def test_a_fork_in_the_bundle_is_a_doubt_if_it_is_of_this_log(bench: Bench, bundle: Path) -> None:
    twin = build_log(seed=99)
    twin.append(6)
    folder = bundle / "forks" / "one"
    folder.mkdir(parents=True)
    (folder / "first").write_bytes((bundle / "checkpoint").read_bytes())
    (folder / "second").write_bytes(twin.checkpoint())
    (folder / "vkey").write_text(encode_vkey(bench.signer.vkey) + "\n")
    assert verify_bundle(bundle)["failures"] == ["forks: this log signed two histories"]


def test_checkpoints_of_a_mirror_are_given_as_a_folder(bench: Bench, bundle: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "6").write_bytes((bundle / "checkpoint").read_bytes())
    bench.append(3)
    (kept / "9").write_bytes(bench.checkpoint())
    later = bench.export(tmp_path / "later")
    code, report = _run("-m", "connector_psi.audit.verify", str(later), "--earlier", str(kept))
    assert code == 0
    assert "they continue 2 checkpoints that somebody else kept" in report["checked"]  # type: ignore[operator]
    assert _run("-m", "connector_psi.audit.verify", str(bundle), "--earlier", str(kept))[0] == 5
