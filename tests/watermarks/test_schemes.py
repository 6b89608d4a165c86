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
from watermarks.schemes import Gumbel, Kgw, Scheme, Tournament, Unigram, gumbel, make_scheme, scheme_names
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
    assert scheme.law("green").p == 2.0**-32
    assert Kgw(gamma=math.nextafter(1.0, 0.0)).law("green").p < 1.0


LISTS = [Kgw, Unigram]
LIST_STATISTICS = [(kind, statistic) for kind in LISTS for statistic in kind.statistics]


@pytest.mark.parametrize(("kind", "statistic"), LIST_STATISTICS)
@given(gamma=GAMMAS)
def test_the_law_never_promises_less_than_it_gives(kind, statistic, gamma):
    scheme = kind(gamma=gamma)
    limit = threshold(gamma)
    draws = np.array([0, limit - 1, limit, TWO32 - 1], np.int64)
    assert scheme.worth(draws, statistic).tolist() == [1, 1, 0, 0]
    p = scheme.law(statistic).p
    assert p == limit / TWO32  # exactly the share of draws that are green
    assert 0.0 < p <= gamma
    assert gamma - p < 1 / TWO32


@pytest.mark.parametrize(("kind", "statistic"), LIST_STATISTICS)
@given(gamma=GAMMAS, drawn=st.lists(st.integers(0, TWO32 - 1), min_size=1, max_size=20))
def test_what_is_bent_is_what_is_counted(kind, statistic, gamma, drawn):
    scheme = kind(gamma=gamma, delta=1.5)
    draws = torch.tensor([drawn])
    bent = scheme.bend(torch.zeros(1, len(drawn)), draws)
    assert ((bent > 0).long() == torch.tensor(scheme.worth(draws.numpy(), statistic))).all()
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
        share = Kgw(gamma=gamma).worth(drawn, "green").mean()
        assert abs(share - gamma) < 5 * math.sqrt(gamma * (1 - gamma) / drawn.size)


@pytest.mark.parametrize("name", scheme_names())
def test_every_scheme_goes_by_its_parameters(name):
    scheme: Scheme = make_scheme(name, {})
    assert scheme.name == name
    assert set(scheme.params()) == set(parameters_of(name))
    assert make_scheme(name, scheme.params()) == scheme
    assert hash(make_scheme(name, scheme.params())) == hash(scheme)
    assert {"int", "float", "bool", "str"} >= set(parameters_of(name).values())


@pytest.mark.parametrize("name", ["", "KGW", "kgw ", "nope"])
def test_an_unknown_scheme_is_refused_with_the_known_ones(name):
    with pytest.raises(UsageError, match="expected one of gumbel, kgw, tournament, unigram"):
        make_scheme(name, {})


@pytest.mark.parametrize(
    ("name", "params"),
    [
        *(("kgw", params) for params in ({"gama": 0.5}, {"gamma": "x"}, {"gamma": None}, {"delta": [1]})),
        *(("kgw", params) for params in ({"order": "during"}, {"order": None}, {"context_width": True})),
        ("kgw", {"hard": True, "delta": 1.0}),
        *(("unigram", params) for params in ({"gamma": 0.0}, {"delta": INF}, {"order": ""}, {"context_width": 1})),
        *(("gumbel", params) for params in ({"alpha": -0.1}, {"alpha": 0.6}, {"alpha": NAN}, {"context_width": 0})),
        *(("tournament", params) for params in ({"layers": 0}, {"layers": 33}, {"layers": 2.0}, {"context_width": 17})),
    ],
)
def test_bad_parameters_are_refused(name, params):
    with pytest.raises(UsageError):
        make_scheme(name, params)


@pytest.mark.parametrize("name", scheme_names())
def test_an_unknown_statistic_is_refused_with_the_known_ones(name):
    scheme = make_scheme(name, {})
    for ask in (scheme.law, lambda statistic: scheme.worth(np.zeros(1, np.int64), statistic)):
        with pytest.raises(UsageError, match=f"expected one of {', '.join(scheme.statistics)}"):
            ask("z-score")


@pytest.mark.parametrize("layers", [1, 2, 7, 30, 32])
def test_tournament_weights_fall_from_ten_to_one(layers):
    weights = Tournament(layers=layers).weights
    assert weights == tuple(np.floor(np.linspace(10, 1, layers) + 0.5 + 1e-12).astype(int).tolist())
    assert Tournament(layers=layers).law("weighted").weights == weights


@given(st.lists(st.integers(0, TWO32 - 1), min_size=1, max_size=30), st.sampled_from([0.0, 0.1, 0.5]))
def test_a_gumbel_credit_is_never_more_than_the_law_allows(drawn, alpha):
    """Each credit is the exponential variable of a number above the draw, rounded down: the law is on the safe side."""
    first = np.array(drawn, np.int64)
    draws = (first << 32) | first if alpha else first
    worths = Gumbel(alpha=alpha).worth(draws, "credit")
    exact = -np.log((first + 1.0) / TWO32) / gumbel.UNIT
    assert (worths >= 0).all()
    assert (worths <= exact + 1e-3).all()
    assert (worths > exact - 1.001).all()


def test_the_registry_is_sorted_and_whole():
    assert scheme_names() == sorted(scheme_names())
    classes = {
        c.name for _, c in inspect.getmembers(schemes, inspect.isclass) if hasattr(c, "bend") and c is not Scheme
    }
    assert classes <= set(scheme_names())
    assert sorted(schemes.__all__) == schemes.__all__
