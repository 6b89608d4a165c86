"""Schemes: parameters that are refused, a bend that keeps masks, and a law that never promises too little."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from countermark.errors import UsageError
from tests.support import subkey_of
from watermarks import prf, schemes
from watermarks.schemes import Kgw, Scheme, make_scheme, scheme_names
from watermarks.schemes.base import TWO32, parameters_of, threshold

GAMMAS = st.floats(2.0**-32, 1.0, exclude_max=True)
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("gamma", [0.0, 1.0, -0.25, 1.5, NAN, INF, -INF, 2.0**-33, 5e-324])
def test_kgw_refuses_gamma(gamma):
    with pytest.raises(UsageError, match="gamma"):
        Kgw(gamma=gamma)


@pytest.mark.parametrize("delta", [0.0, -1.0, INF, NAN, -INF])
def test_kgw_refuses_delta(delta):
    with pytest.raises(UsageError, match="delta"):
        Kgw(delta=delta)


@pytest.mark.parametrize(
    "width",
    [0, -1, 17, 10**9, 2.5],
)
def test_kgw_refuses_context_width(width):
    with pytest.raises(UsageError, match="context_width"):
        Kgw(context_width=width)


@pytest.mark.parametrize("width", [1, 2, 16])
def test_kgw_takes_the_edges(width):
    scheme = Kgw(gamma=2.0**-32, delta=5e-324, context_width=width)
    assert scheme.law().p == 2.0**-32
    assert Kgw(gamma=math.nextafter(1.0, 0.0)).law().p < 1.0


@given(GAMMAS)
def test_the_law_never_promises_less_than_it_gives(gamma):
    scheme = Kgw(gamma=gamma)
    limit = threshold(gamma)
    draws = np.array([0, limit - 1, limit, TWO32 - 1], np.int64)
    assert scheme.worth(draws).tolist() == [1, 1, 0, 0]
    p = scheme.law().p
    assert p == limit / TWO32  # exactly the share of draws that are green
    assert 0.0 < p <= gamma
    assert gamma - p < 1 / TWO32


@given(GAMMAS, st.lists(st.integers(0, TWO32 - 1), min_size=1, max_size=20))
def test_what_is_bent_is_what_is_counted(gamma, drawn):
    scheme = Kgw(gamma=gamma, delta=1.5)
    draws = torch.tensor([drawn])
    bent = scheme.bend(torch.zeros(1, len(drawn)), draws)
    assert ((bent > 0).long() == torch.tensor(scheme.worth(draws.numpy()))).all()
    assert set(bent.flatten().tolist()) <= {0.0, 1.5}


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_the_bend_keeps_masks_and_types(kind):
    scores = torch.tensor([[-INF, -INF, 0.5, -3.0]], dtype=kind)
    before = scores.clone()
    bent = scheme_bend = Kgw(delta=2.0).bend(scores, torch.tensor([[0, TWO32 - 1, 0, TWO32 - 1]]))
    assert bent.dtype == kind
    assert scheme_bend.tolist() == [[-INF, -INF, 2.5, -3.0]]
    assert torch.equal(scores, before)


def test_the_green_share_of_a_vocabulary_is_gamma():
    contexts = np.array([[i, i + 1] for i in range(40)], np.int64)
    lo, hi = prf.split(prf.siphash_words(subkey_of("share"), contexts))
    drawn = prf.expand(lo[:, None], hi[:, None], np.arange(5000)[None, :])
    for gamma in (0.1, 0.25, 0.5):
        share = Kgw(gamma=gamma).worth(drawn).mean()
        assert abs(share - gamma) < 5 * math.sqrt(gamma * (1 - gamma) / drawn.size)


@pytest.mark.parametrize("name", scheme_names())
def test_every_scheme_goes_by_its_parameters(name):
    scheme: Scheme = make_scheme(name, {})
    assert scheme.name == name
    assert set(scheme.params()) == set(parameters_of(name))
    assert make_scheme(name, scheme.params()) == scheme
    assert hash(make_scheme(name, scheme.params())) == hash(scheme)
    assert {"int", "float"} >= set(parameters_of(name).values())


@pytest.mark.parametrize("name", ["", "KGW", "kgw ", "nope"])
def test_an_unknown_scheme_is_refused_with_the_known_ones(name):
    with pytest.raises(UsageError, match="expected one of kgw"):
        make_scheme(name, {})


@pytest.mark.parametrize("params", [{"gama": 0.5}, {"gamma": "x"}, {"gamma": None}, {"delta": [1]}])
def test_bad_parameters_are_refused(params):
    with pytest.raises(UsageError):
        make_scheme("kgw", params)


def test_the_registry_is_sorted_and_whole():
    assert scheme_names() == sorted(scheme_names())
    classes = {
        c.name for _, c in inspect.getmembers(schemes, inspect.isclass) if hasattr(c, "bend") and c is not Scheme
    }
    assert classes <= set(scheme_names())
    assert sorted(schemes.__all__) == schemes.__all__
