"""Known answers, made by an independent implementation: every back-end gives these bits or is wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.support import vectors
from watermarks import prf
from watermarks.adapters.hf import SchemeProcessor
from watermarks.kernels.cpu import expand_vocabulary
from watermarks.keys import Key, KeyedStream, commitment, wrong_key
from watermarks.schemes import Kgw

SIPHASH = vectors("siphash")
PRF = vectors("prf")
CASES = PRF["token_prf"]
VOCABULARY = 151_936


def _case_id(case):
    return f"{case['subkey'][:4]}-{'.'.join(map(str, case['context']))}"


def test_published_siphash_vectors():
    key = bytes.fromhex(SIPHASH["key"])
    assert len(SIPHASH["outputs"]) == 64
    for length, expected in enumerate(SIPHASH["outputs"]):
        got = prf.siphash_bytes(key, bytes(range(length)))
        assert got.to_bytes(8, "little").hex() == expected, length
    assert prf.siphash_bytes(key, bytes(range(15))) == 0xA129CA6149BE45E5


def test_published_siphash_vectors_as_words():
    key = bytes.fromhex(SIPHASH["key"])
    for length in range(0, 64, 4):
        words = np.frombuffer(bytes(range(length)), "<u4").astype(np.int64)[None, :]
        got = int(prf.siphash_words(key, words)[0]) & 0xFFFFFFFFFFFFFFFF
        assert got.to_bytes(8, "little").hex() == SIPHASH["outputs"][length], length


def test_mix32_known_answers():
    inputs, outputs = zip(*PRF["mix32"], strict=True)
    assert prf.mix32(np.array(inputs, np.int64)).tolist() == list(outputs)
    assert prf.mix32(torch.tensor(inputs)).tolist() == list(outputs)


@pytest.mark.parametrize("make", [lambda x: np.array(x, np.int64), torch.tensor], ids=["numpy", "torch"])
@pytest.mark.parametrize("case", CASES, ids=_case_id)
def test_seed_and_draws_of_array_backends(case, make):
    subkey, tokens = bytes.fromhex(case["subkey"]), case["tokens"]
    contexts = make([case["context"]] * len(tokens))
    seeds = prf.siphash_words(subkey, contexts)
    assert {f"{int(s) & 0xFFFFFFFFFFFFFFFF:016x}" for s in seeds} == {case["seed"]}
    assert prf.draws(subkey, contexts, make(tokens)).tolist() == case["draws"]


@pytest.mark.parametrize("case", CASES, ids=_case_id)
def test_draws_of_the_numba_kernel(case):
    seed = np.array([int(case["seed"], 16)], np.uint64).astype(np.int64)
    rows = expand_vocabulary(*prf.split(seed), VOCABULARY)
    assert rows.shape == (1, VOCABULARY)
    small = [(t, d) for t, d in zip(case["tokens"], case["draws"], strict=True) if t < VOCABULARY]
    assert [int(rows[0, token]) for token, _ in small] == [draw for _, draw in small]


@pytest.mark.parametrize("case", CASES, ids=_case_id)
def test_draws_of_the_generation_adapter(case):
    """Lists that end at a known draw: the token is on the one that ends behind it, and not on the one before."""
    padded, scores = torch.tensor([[9, 9, *case["context"]]]), torch.zeros(1, VOCABULARY)
    small = [(t, d) for t, d in zip(case["tokens"], case["draws"], strict=True) if t < VOCABULARY]
    for token, draw in small:
        for green, limit in ((True, draw + 1), (False, draw)):
            scheme = Kgw(context_width=len(case["context"]), gamma=limit / 2**32)
            bent = SchemeProcessor(scheme, bytes.fromhex(case["subkey"]))(padded, scores)
            assert bool(bent[0, token] > 0) is green


def test_whole_vocabulary_agrees_across_backends():
    subkey = bytes.fromhex(CASES[0]["subkey"])
    contexts = np.array([[1, 2], [3, 4], [65_535, 0]], np.int64)
    lo, hi = prf.split(prf.siphash_words(subkey, contexts))
    plain = prf.expand(lo[:, None], hi[:, None], np.arange(5_003)[None, :])
    assert np.array_equal(plain, expand_vocabulary(lo, hi, 5_003))
    bent = prf.expand(torch.from_numpy(lo)[:, None], torch.from_numpy(hi)[:, None], torch.arange(5_003)[None, :])
    assert np.array_equal(plain, bent.numpy())


@pytest.mark.parametrize("case", PRF["hkdf"]["cases"], ids=lambda c: f"{c['length']}-{bool(c['salt'])}")
def test_hkdf_subkeys(case):
    key = Key(key_id="any", secret=bytes.fromhex(PRF["hkdf"]["secret"]), nonce=bytes(32), salt=case["salt"].encode())
    assert key.derive(case["label"], case["length"]).hex() == case["okm"]


def test_token_subkey_is_the_documented_label():
    case = next(c for c in PRF["hkdf"]["cases"] if c["label"].get("purpose") == "token" and not c["salt"])
    label = {name: case["label"][name] for name in ("scheme", "params", "tokenizer", "scope")}
    key = Key(key_id="any", secret=bytes.fromhex(PRF["hkdf"]["secret"]), nonce=bytes(32))
    assert key.token_subkey(**label).hex() == case["okm"]


def test_stream_is_the_documented_label():
    case = next(c for c in PRF["hkdf"]["cases"] if "stream" in c["label"] and not c["salt"])
    key = Key(key_id="any", secret=bytes.fromhex(PRF["hkdf"]["secret"]), nonce=bytes(32))
    seeded = KeyedStream(bytes.fromhex(case["okm"]))
    assert key.stream(case["label"]["stream"]).take(64) == seeded.take(64)


@pytest.mark.parametrize("case", PRF["commitment"]["cases"], ids=lambda c: c["key_id"])
def test_commitment(case):
    secret, nonce = (bytes.fromhex(PRF["commitment"][name]) for name in ("secret", "nonce"))
    got = commitment(nonce=nonce, secret=secret, key_id=case["key_id"], config_digest=case["config_digest"])
    assert got == case["sha256"]


@pytest.mark.parametrize("case", PRF["wrong_key"], ids=lambda c: f"{c['seed']}-{c['index']}")
def test_wrong_keys_rederive(case):
    assert wrong_key(case["seed"], case["index"]).secret.hex() == case["secret"]


@pytest.mark.parametrize("case", PRF["keyed_stream"], ids=["zero", "one"])
def test_keyed_stream(case):
    seed = bytes.fromhex(case["seed"])
    assert KeyedStream(seed).take(4104)[4088:].hex() == case["bytes"]
    stream = KeyedStream(seed)
    assert [[bound, stream.below(bound)] for bound, _ in case["below"]] == case["below"]
