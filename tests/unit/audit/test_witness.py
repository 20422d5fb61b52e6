"""What a witness decides, refusal by refusal, and the text form of C2SP tlog-witness."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from connector_psi.audit.checkpoint import Checkpoint, NoteSigner, VKey, encode_checkpoint, sign_note
from connector_psi.audit.merkle import append_nodes, consistency_proof, leaf_hash, root
from connector_psi.audit.witness import (
    HTTP_STATUS,
    Judged,
    Refusal,
    Submission,
    encode_submission,
    judge,
    origin_of,
    parse_submission,
)
from connector_psi.errors import FormatError

ORIGIN = "example.org/log"
SIGNER = NoteSigner(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes(32)))
OTHER = NoteSigner(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32))


class Tree:
    """Leaves of one history."""

    def __init__(self, size: int, label: str = "leaf", fork_at: int = 0) -> None:
        self.nodes: dict[tuple[int, int], bytes] = {}
        for n in range(size):
            told = f"{label if n >= fork_at else 'leaf'} {n}".encode()
            for level, index, digest in append_nodes(n, leaf_hash(told), self.read):
                self.nodes[level, index] = digest

    def read(self, level: int, index: int) -> bytes:
        return self.nodes[level, index]

    def head(self, size: int) -> Checkpoint:
        return Checkpoint(ORIGIN, size, root(size, self.read))

    def note(self, size: int, signer: NoteSigner = SIGNER) -> bytes:
        return sign_note(encode_checkpoint(self.head(size)), [signer])

    def ask(self, old: int, new: int, **changes: object) -> Submission:
        proof = tuple(consistency_proof(old, new, self.read)) if old else ()
        fields = {"old_size": old, "proof": proof, "checkpoint": self.note(new), **changes}
        return Submission(**fields)  # type: ignore[arg-type]


TREE, FORK = Tree(20), Tree(20, "other", fork_at=7)


def decided(submission: Submission, held: Checkpoint | None = None, vkey: VKey | None = SIGNER.vkey) -> Refusal | None:
    return judge(submission, vkey, held).refusal


def test_what_continues_is_accepted_from_every_size_to_every_size() -> None:
    for old in range(21):
        for new in range(old, 21):
            held = TREE.head(old) if old else None
            assert judge(TREE.ask(old, new), SIGNER.vkey, held) == Judged(None, TREE.head(new)), (old, new)


def test_an_empty_log_is_accepted_and_continued() -> None:
    assert decided(TREE.ask(0, 0)) is None
    assert decided(TREE.ask(0, 5), TREE.head(0)) is None


@pytest.mark.parametrize(
    ("submission", "held", "refusal"),
    [
        (TREE.ask(5, 9, old_size=10), TREE.head(5), Refusal.MALFORMED),
        (TREE.ask(5, 9, old_size=-1), TREE.head(5), Refusal.MALFORMED),
        (TREE.ask(5, 9, checkpoint=b"nothing"), TREE.head(5), Refusal.MALFORMED),
        (TREE.ask(5, 9, checkpoint=TREE.note(9, OTHER)), TREE.head(5), Refusal.NOT_SIGNED),
        (TREE.ask(4, 9), TREE.head(5), Refusal.OTHER_SIZE),
        (TREE.ask(0, 9), TREE.head(5), Refusal.OTHER_SIZE),
        (TREE.ask(5, 9), None, Refusal.OTHER_SIZE),
        (TREE.ask(5, 5), TREE.head(9), Refusal.OTHER_SIZE),
        (FORK.ask(9, 9), TREE.head(9), Refusal.FORK),
        (FORK.ask(5, 9), TREE.head(9), Refusal.FORK),
        (FORK.ask(9, 12), TREE.head(9), Refusal.INCONSISTENT),
        (TREE.ask(5, 9, proof=()), TREE.head(5), Refusal.INCONSISTENT),
        (TREE.ask(5, 9, proof=(bytes(32),) * 64), TREE.head(5), Refusal.INCONSISTENT),
        (TREE.ask(0, 9, proof=(bytes(32),)), None, Refusal.INCONSISTENT),
    ],
)
def test_each_refusal_is_told_apart(submission: Submission, held: Checkpoint | None, refusal: Refusal) -> None:
    assert decided(submission, held) is refusal


def test_a_log_that_the_witness_has_no_key_for_is_unknown() -> None:
    assert decided(TREE.ask(0, 9), vkey=None) is Refusal.UNKNOWN_LOG


def test_every_bit_of_a_proof_counts() -> None:
    submission = TREE.ask(6, 13)
    for n, digest in enumerate(submission.proof):
        for bit in range(256):
            flipped = (int.from_bytes(digest) ^ (1 << bit)).to_bytes(32)
            proof = (*submission.proof[:n], flipped, *submission.proof[n + 1 :])
            assert decided(Submission(6, proof, submission.checkpoint), TREE.head(6)) is Refusal.INCONSISTENT


def test_the_statuses_are_those_of_tlog_witness() -> None:
    assert HTTP_STATUS.keys() == set(Refusal)
    assert sorted(HTTP_STATUS.values()) == [400, 403, 404, 409, 409, 422]


def test_the_text_form_is_the_published_one() -> None:
    """Example request of C2SP tlog-witness."""
    hashes = [
        "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=",
        "jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=",
        "5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=",
        "/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=",
    ]
    checkpoint = (
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
        "\u2014 example.com/behind-the-sofa "
        "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    )
    raw = ("old 20852014\n" + "".join(f"{h}\n" for h in hashes) + "\n" + checkpoint).encode()
    parsed = parse_submission(raw)
    assert (parsed.old_size, parsed.proof) == (20852014, tuple(base64.b64decode(h) for h in hashes))
    assert origin_of(parsed.checkpoint) == "example.com/behind-the-sofa"
    assert encode_submission(parsed) == raw


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"old 1\n", b"old 01\n\nx", b"old -1\n\nx", b"old \n\nx", b"new 1\n\nx", b"old 1", b"old 1\nnot base64!\n\nx",
        b"old 1\nAAAA\n\nx", b"old 9223372036854775808\n\nx", "old ٣\n\nx".encode(), b"old 1\r\n\r\nx",
        b"old 1\n" + b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n" * 64 + b"\nx",
        b"old 1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB=\n\nx",
    ],
)  # fmt: skip
def test_what_is_not_of_the_form_is_refused(raw: bytes) -> None:
    with pytest.raises(FormatError):
        parse_submission(raw)


@given(st.integers(0, 2**63 - 1), st.lists(st.binary(min_size=32, max_size=32), max_size=63), st.binary(max_size=200))
def test_encoding_and_parsing_are_inverse(old_size: int, proof: list[bytes], checkpoint: bytes) -> None:
    submission = Submission(old_size, tuple(proof), checkpoint)
    assert parse_submission(encode_submission(submission)) == submission


@given(st.binary(max_size=300))
def test_nothing_but_a_format_error_comes_of_any_bytes(raw: bytes) -> None:
    try:
        submission = parse_submission(b"old 3\n" + raw)
    except FormatError:
        return
    assert decided(submission) in {Refusal.MALFORMED, Refusal.NOT_SIGNED}
