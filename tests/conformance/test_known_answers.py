"""Known answers, made by an independent implementation: every back-end gives these or is wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.conformance.variants import SCHEMES
from tests.support import vectors
from tests.vectors import make_schemes
from watermarks.kernels import observe
from watermarks.kernels.generate import mark, mark_plain
from watermarks.schemes import Scheme, make_scheme

KNOWN = vectors("schemes")
TOKENS = KNOWN["tokens"]
MASKED = float("-inf")
every_case = pytest.mark.parametrize(
    "case", KNOWN["cases"], ids=lambda c: f"{c['scheme']}-{c['params']}-{c['subkey'][:4]}"
)


def _scheme(case) -> Scheme:
    return make_scheme(case["scheme"], case["params"])


def _draws(case) -> list[int]:
    """The known draws as the integers that a scheme works with: two streams are the halves of one."""
    unsigned = [d[0] if len(d) == 1 else d[0] << 32 | d[1] for d in case["draws"]]
    return np.array(unsigned, np.uint64).astype(np.int64).tolist()


def _text(case) -> tuple[np.ndarray, np.ndarray]:
    """Each known token behind its context, end to end, and where the tokens stand."""
    width = len(case["context"])
    tokens = np.array([word for token in TOKENS for word in (*case["context"], token)], np.int64)
    return tokens, np.arange(width, len(tokens), width + 1)


def _inputs(case) -> list[int] | None:
    if "anchors" not in case:
        return None
    return [(anchor << 32) + token for anchor, token in zip(case["anchors"], TOKENS, strict=True)]


def test_the_file_is_what_its_generator_makes():
    assert make_schemes.build() == KNOWN


def test_the_generator_has_the_published_siphash():
    known = vectors("siphash")
    for length, expected in enumerate(known["outputs"]):
        got = make_schemes.siphash(bytes.fromhex(known["key"]), bytes(range(length)))
        assert got.to_bytes(8, "little").hex() == expected, length


def test_every_scheme_of_ours_has_known_answers():
    assert {case["scheme"] for case in KNOWN["cases"]} == {scheme.name for scheme in SCHEMES}


@every_case
@pytest.mark.parametrize("make", [lambda x: np.array(x, np.int64), torch.tensor], ids=["numpy", "torch"])
def test_draws_of_the_schemes_own_functions(case, make):
    drawn = _scheme(case).draws(bytes.fromhex(case["subkey"]), make([case["context"]] * len(TOKENS)), make(TOKENS))
    assert drawn.tolist() == _draws(case)


BACKENDS = {
    "numba": observe.observe,
    "numpy": observe.observe_plain,
    "torch": lambda scheme, keys, *text: observe.observe_plain(scheme, keys, *(torch.from_numpy(x) for x in text)),
}


@every_case
@pytest.mark.parametrize("backend", BACKENDS)
def test_draws_of_observed_tokens(case, backend):
    subkeys = [bytes(16), bytes.fromhex(case["subkey"])]
    drawn, used = BACKENDS[backend](_scheme(case), subkeys, *_text(case))
    assert drawn[1].tolist() == _draws(case)
    assert drawn[0].tolist() != _draws(case)
    if (inputs := _inputs(case)) is None:
        assert used is None
    else:  # 64 bits, signed or not
        assert [int(code) % 2**64 for code in used[1]] == [code % 2**64 for code in inputs]


@every_case
@pytest.mark.parametrize("make", [lambda x: np.array(x, np.int64), torch.tensor], ids=["numpy", "torch"])
def test_what_draws_are_worth(case, make):
    scheme = _scheme(case)
    assert {name: scheme.worth(make(_draws(case)), name).tolist() for name in scheme.statistics} == case["worth"]


@every_case
@pytest.mark.parametrize("way", [mark, mark_plain], ids=["kernel", "plain"])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64], ids=str)
def test_marked_scores(case, way, kind):
    scores = torch.tensor([[MASKED if s is None else s for s in KNOWN["scores"]]] * 3, dtype=kind)
    contexts = torch.tensor([case["context"]] * 3, dtype=torch.long)
    bent, known = way(_scheme(case), bytes.fromhex(case["subkey"]), contexts, scores), case["bent"]
    for row in bent.double():
        if "scores" in known:
            assert row.tolist() == [MASKED if s is None else s for s in known["scores"]]
        else:
            assert row.softmax(-1).tolist() == pytest.approx(known["probabilities"], abs=1e-6)
            assert all(row[i] == MASKED for i, s in enumerate(KNOWN["scores"]) if s is None)
        if "chosen" in known:
            assert set(row.isfinite().nonzero().flatten().tolist()) == set(known["chosen"])
