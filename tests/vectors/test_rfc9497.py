"""RFC 9497, ristretto255-SHA512, modes OPRF and VOPRF: every published value.

Source: RFC 9497 appendices A.1.1 and A.1.2, https://www.rfc-editor.org/rfc/rfc9497 (IETF Trust Legal Provisions,
test data under the Revised BSD licence). 2 key pairs, 5 vectors, 6 inputs, 3 proofs (one over a batch of
two). The values below are the RFC's; where the machine-readable file of the CFRG is present, a test shows that they are equal.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from connector_psi.errors import ProofError
from connector_psi.oprf import danger, suite
from connector_psi.oprf.backends import backend_names, make_group
from connector_psi.oprf.group import BatchGroup, SecretScalar

INPUT_1, INPUT_2 = "00", "5a" * 17
BLIND_1 = "64d37aed22a27f5191de1c1d69fadb899d8862b58eb4220029e036ec4c1f6706"
BLIND_2 = "222a5e897cf59db8145db8d16e597e8facb80ae7d4e26d9881aa6f61d645fc0e"

A_1_1: dict[str, Any] = {
    "mode": 0,
    "seed": "a3" * 32,
    "keyInfo": "74657374206b6579",
    "skSm": "5ebcea5ee37023ccb9fc2d2019f9d7737be85591ae8652ffa9ef0f4d37063b0e",
    "vectors": [
        {
            "Input": INPUT_1,
            "Blind": BLIND_1,
            "BlindedElement": "609a0ae68c15a3cf6903766461307e5c8bb2f95e7e6550e1ffa2dc99e412803c",
            "EvaluationElement": "7ec6578ae5120958eb2db1745758ff379e77cb64fe77b0b2d8cc917ea0869c7e",
            "Output": "527759c3d9366f277d8c6020418d96bb393ba2afb20ff90df23fb7708264e2f3"
            "ab9135e3bd69955851de4b1f9fe8a0973396719b7912ba9ee8aa7d0b5e24bcf6",
        },
        {
            "Input": INPUT_2,
            "Blind": BLIND_1,
            "BlindedElement": "da27ef466870f5f15296299850aa088629945a17d1f5b7f5ff043f76b3c06418",
            "EvaluationElement": "b4cbf5a4f1eeda5a63ce7b77c7d23f461db3fcab0dd28e4e17cecb5c90d02c25",
            "Output": "f4a74c9c592497375e796aa837e907b1a045d34306a749db9f34221f7e750cb4"
            "f2a6413a6bf6fa5e19ba6348eb673934a722a7ede2e7621306d18951e7cf2c73",
        },
    ],
}
_BLINDED_1 = "863f330cc1a1259ed5a5998a23acfd37fb4351a793a5b3c090b642ddc439b945"
_EVALUATED_1 = "aa8fa048764d5623868679402ff6108d2521884fa138cd7f9c7669a9a014267e"
_OUTPUT_1 = (
    "b58cfbe118e0cb94d79b5fd6a6dafb98764dff49c14e1770b566e42402da1a7d"
    "a4d8527693914139caee5bd03903af43a491351d23b430948dd50cde10d32b3c"
)
_OUTPUT_2 = (
    "8a9a2f3c7f085b65933594309041fc1898d42d0858e59f90814ae90571a6df60"
    "356f4610bf816f27afdd84f47719e480906d27ecd994985890e5f539e7ea74b6"
)
A_1_2: dict[str, Any] = {
    "mode": 1,
    "seed": "a3" * 32,
    "keyInfo": "74657374206b6579",
    "skSm": "e6f73f344b79b379f1a0dd37e07ff62e38d9f71345ce62ae3a9bc60b04ccd909",
    "pkSm": "c803e2cc6b05fc15064549b5920659ca4a77b2cca6f04f6b357009335476ad4e",
    "vectors": [
        {
            "Input": INPUT_1,
            "Blind": BLIND_1,
            "BlindedElement": _BLINDED_1,
            "EvaluationElement": _EVALUATED_1,
            "Proof": {
                "proof": "ddef93772692e535d1a53903db24367355cc2cc78de93b3be5a8ffcc6985dd06"
                "6d4346421d17bf5117a2a1ff0fcb2a759f58a539dfbe857a40bce4cf49ec600d",
                "r": "222a5e897cf59db8145db8d16e597e8facb80ae7d4e26d9881aa6f61d645fc0e",
            },
            "Output": _OUTPUT_1,
        },
        {
            "Input": INPUT_2,
            "Blind": BLIND_1,
            "BlindedElement": "cc0b2a350101881d8a4cba4c80241d74fb7dcbfde4a61fde2f91443c2bf9ef0c",
            "EvaluationElement": "60a59a57208d48aca71e9e850d22674b611f752bed48b36f7a91b372bd7ad468",
            "Proof": {
                "proof": "401a0da6264f8cf45bb2f5264bc31e109155600babb3cd4e5af7d181a2c9dc0a"
                "67154fabf031fd936051dec80b0b6ae29c9503493dde7393b722eafdf5a50b02",
                "r": "222a5e897cf59db8145db8d16e597e8facb80ae7d4e26d9881aa6f61d645fc0e",
            },
            "Output": _OUTPUT_2,
        },
        {
            "Input": f"{INPUT_1},{INPUT_2}",
            "Blind": f"{BLIND_1},{BLIND_2}",
            "BlindedElement": f"{_BLINDED_1},90a0145ea9da29254c3a56be4fe185465ebb3bf2a1801f7124bbbadac751e654",
            "EvaluationElement": f"{_EVALUATED_1},cc5ac221950a49ceaa73c8db41b82c20372a4c8d63e5dded2db920b7eee36a2a",
            "Proof": {
                "proof": "cc203910175d786927eeb44ea847328047892ddf8590e723c37205cb74600b0a"
                "5ab5337c8eb4ceae0494c2cf89529dcf94572ed267473d567aeed6ab873dee08",
                "r": "419c4f4f5052c53c45f3da494d2b67b220d02118e0857cdbcf037f9ea84bbe0c",
            },
            "Output": f"{_OUTPUT_1},{_OUTPUT_2}",
        },
    ],
}


def split(value: str) -> list[bytes]:
    return [bytes.fromhex(part) for part in value.split(",")]


def packed(value: str) -> bytes:
    return b"".join(split(value))


@pytest.fixture(scope="module", params=backend_names())
def group(request: pytest.FixtureRequest) -> BatchGroup:
    return make_group(request.param)


def run_entry(entry: dict[str, Any], group: BatchGroup) -> Counter[str]:
    """Check every value of one appendix; return how many of each kind."""
    ran: Counter[str] = Counter()
    mode = suite.Mode(entry["mode"])
    keys = suite.derive_key_pair(bytes.fromhex(entry["seed"]), bytes.fromhex(entry["keyInfo"]), mode, group=group)
    assert keys.secret.reveal() == bytes.fromhex(entry["skSm"])
    assert keys.public == bytes.fromhex(entry.get("pkSm", keys.public.hex()))
    ran["keys"] += 1
    for vector in entry["vectors"]:
        inputs, blinds = split(vector["Input"]), packed(vector["Blind"])
        blinded = suite.blind(inputs, blinds, mode, group=group)
        assert blinded == packed(vector["BlindedElement"])
        evaluated = suite.blind_evaluate(keys.secret, blinded, group=group)
        assert evaluated == packed(vector["EvaluationElement"])
        if mode is suite.Mode.VOPRF:
            nonce = SecretScalar(bytes.fromhex(vector["Proof"]["r"]))
            proof = danger.prove_with_nonce(keys, blinded, evaluated, nonce, group=group)
            assert proof == bytes.fromhex(vector["Proof"]["proof"])
            suite.verify_proof(keys.public, blinded, evaluated, proof, group=group)
            with pytest.raises(ProofError):
                suite.verify_proof(keys.public, blinded, evaluated, proof[32:] + proof[:32], group=group)
            ran["proofs"] += 1
        assert suite.finalize(inputs, blinds, evaluated, mode, group=group) == packed(vector["Output"])
        assert suite.evaluate(keys.secret, inputs, mode, group=group) == packed(vector["Output"])
        ran["vectors"] += 1
        ran["inputs"] += len(inputs)
    return ran


def test_appendix_a_1_1_mode_oprf(group: BatchGroup) -> None:
    assert run_entry(A_1_1, group) == {"keys": 1, "vectors": 2, "inputs": 2}


def test_appendix_a_1_2_mode_voprf(group: BatchGroup) -> None:
    assert run_entry(A_1_2, group) == {"keys": 1, "vectors": 3, "inputs": 4, "proofs": 3}


def test_the_published_file(group: BatchGroup, shared: Path) -> None:
    """The CFRG's file: mode POPRF (2) is not implemented, all else must run and equal the values above."""
    entries = json.loads((shared / "reference/rfc9497/ristretto255-SHA512.json").read_text())
    assert [entry["mode"] for entry in entries] == [0, 1, 2]
    ran = run_entry(entries[0], group) + run_entry(entries[1], group)
    assert ran == {"keys": 2, "vectors": 5, "inputs": 6, "proofs": 3}
    for entry, ours in zip(entries, (A_1_1, A_1_2), strict=False):
        vectors = [{name: value for name, value in vector.items() if name != "Batch"} for vector in entry["vectors"]]
        assert {**{name: entry[name] for name in ours}, "vectors": vectors} == ours
