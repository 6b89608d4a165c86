"""The Bayesian score of ``tournament``: fitted on marked text, it ranks the right key first, and knows its floor."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from countermark.errors import InconclusiveError
from tests.support import subkey_of
from verification.bayesian import BayesianScore
from verification.corpus import Corpus
from watermarks.kernels.generate import mark_plain
from watermarks.schemes import Tournament

SCHEME = Tournament(layers=6, context_width=1)
SUBKEY = subkey_of("bayesian")
WRONG = [subkey_of(f"bayesian/wrong/{i}") for i in range(99)]


def _marked(count: int, seed: int) -> Corpus:
    """``count`` texts of one context and one token drawn from a marked distribution over 20 tokens."""
    generator = torch.Generator().manual_seed(seed)
    contexts = torch.randint(100, 10**9, (count, 1), generator=generator)
    marked = mark_plain(SCHEME, SUBKEY, contexts, torch.randn(count, 20, generator=generator))
    tokens = torch.multinomial(marked.softmax(-1), 1, generator=generator)
    return Corpus.pack(torch.cat([contexts, tokens], 1).tolist())


@pytest.fixture(scope="module")
def fitted() -> BayesianScore:
    return BayesianScore.fit(_marked(3_000, 1), SCHEME, SUBKEY)


def test_marked_text_ranks_first_among_wrong_keys(fitted):
    ranking = fitted.rank(_marked(150, 2), SCHEME, SUBKEY, WRONG)
    assert ranking.rank_p == 0.01  # the floor of 99 wrong keys: a rank can say no more
    assert ranking.score > max(ranking.others)


def test_unmarked_text_ranks_anywhere(fitted):
    rng = np.random.default_rng(3)
    texts = Corpus.pack(np.column_stack([rng.integers(100, 10**9, 150), rng.integers(0, 20, 150)]).tolist())
    ranks = [fitted.rank(texts, SCHEME, subkey_of(f"innocent/{i}"), WRONG).rank_p for i in range(40)]
    assert 0.3 < np.mean(ranks) < 0.7
    assert min(ranks) < 0.25


def test_the_likelihood_is_one_over_fair_bits(fitted):
    every = ((np.arange(64)[:, None] >> np.arange(6)) & 1)[None]
    assert np.exp(fitted.log_odds(every)).mean() == pytest.approx(1.0)


def test_it_survives_json(fitted):
    assert BayesianScore.from_json(json.loads(json.dumps(fitted.to_json()))) == fitted


def test_nothing_to_score_is_no_rank(fitted):
    empty = Corpus.pack([[7]])
    with pytest.raises(InconclusiveError):
        fitted.rank(empty, SCHEME, SUBKEY, WRONG)
    with pytest.raises(InconclusiveError):
        BayesianScore.fit(empty, SCHEME, SUBKEY)
    with pytest.raises(InconclusiveError, match="no wrong keys"):
        fitted.rank(_marked(5, 4), SCHEME, SUBKEY, [])
