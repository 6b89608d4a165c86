"""Detection: what is counted does not depend on padding, order or batch, and a wrong key finds what chance allows."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from countermark.errors import UsageError
from tests.support import key_of, subkey_of
from verification.detect import corpus_inputs, detect, distinct, inputs_of, score
from verification.statistics import log10_binomial_tail
from watermarks import prf
from watermarks.schemes import Kgw

SCHEME = Kgw(gamma=0.25, context_width=2)
SUBKEY = subkey_of("detect")
TEXT = st.lists(st.integers(0, 12), max_size=40)
TEXTS = st.lists(TEXT, min_size=1, max_size=6)


def _marked(length: int, seed: int) -> list[int]:
    """A text whose every scored token is green."""
    rng = random.Random(seed)
    tokens = [rng.randrange(50_000), rng.randrange(50_000)]
    while len(tokens) < length:
        candidates = np.array([rng.randrange(50_000) for _ in range(64)], np.int64)
        drawn = prf.draws(SUBKEY, np.tile(np.array(tokens[-2:], np.int64), (64, 1)), candidates)
        tokens.append(int(candidates[SCHEME.worth(drawn).argmax()]))
    return tokens


def test_a_marked_text_is_found_and_an_unmarked_one_is_not():
    rng = random.Random(4)
    marked, plain = _marked(120, 1), [rng.randrange(50_000) for _ in range(120)]
    (found, missed), corpus = detect([marked, plain], SCHEME, SUBKEY)
    assert (found.scored, found.total) == (118, 118)
    assert found.log10_p == pytest.approx(118 * np.log10(0.25))
    assert missed.log10_p > -3
    assert corpus.scored == 236
    assert detect([marked], SCHEME, subkey_of("other"))[1].log10_p > -3


@given(TEXT, st.integers(0, 9), st.integers(0, 9), st.integers(0, 50_000))
def test_masked_padding_changes_nothing(tokens, left, right, pad):
    padded = [pad] * left + tokens + [pad] * right
    mask = [False] * left + [True] * len(tokens) + [False] * right
    plain, masked = detect([tokens], SCHEME, SUBKEY), detect([padded], SCHEME, SUBKEY, masks=[mask])
    assert plain == masked


@given(TEXT, st.data())
def test_a_masked_token_is_neither_scored_nor_context(tokens, data):
    mask = data.draw(st.lists(st.booleans(), min_size=len(tokens), max_size=len(tokens)))
    expected = [tokens[i : i + 3] for i in range(len(tokens) - 2) if all(mask[i : i + 3])]
    assert inputs_of(tokens, context_width=2, mask=mask).tolist() == expected


@given(TEXTS, st.randoms(use_true_random=False))
def test_order_and_batch_change_nothing(texts, rng):
    each, corpus = detect(texts, SCHEME, SUBKEY)
    order = list(range(len(texts)))
    rng.shuffle(order)
    each_again, corpus_again = detect([texts[i] for i in order], SCHEME, SUBKEY)
    assert corpus == corpus_again
    assert each_again == [each[i] for i in order]
    assert each == [detect([text], SCHEME, SUBKEY)[0][0] for text in texts]


@given(TEXTS)
def test_repeats_count_once(texts):
    each, corpus = detect(texts, SCHEME, SUBKEY)
    assert detect([*texts, *texts, texts[0]], SCHEME, SUBKEY)[1] == corpus
    seen = {tuple(text[i : i + 3]) for text in texts for i in range(len(text) - 2)}
    assert corpus.scored == len(seen)
    assert [e.scored for e in each] == [len({tuple(t[i : i + 3]) for i in range(len(t) - 2)}) for t in texts]


def test_one_phrase_over_and_over_is_one_phrase():
    loop = [1, 2, 3, 4] * 500
    assert detect([loop], SCHEME, SUBKEY)[1].scored == 4


@pytest.mark.parametrize("text", [[], [7], [7, 8]])
def test_a_text_too_short_to_score_is_never_a_pass(text):
    each, corpus = detect([text], SCHEME, SUBKEY)
    for evidence in (*each, corpus):
        assert (evidence.scored, evidence.total, evidence.log10_p) == (0, 0, None)


def test_a_fully_masked_text_is_never_a_pass():
    _, corpus = detect([[1, 2, 3, 4]], SCHEME, SUBKEY, masks=[[False] * 4])
    assert corpus.log10_p is None


def test_an_empty_corpus_is_refused():
    with pytest.raises(UsageError, match="no texts"):
        detect([], SCHEME, SUBKEY)


def test_a_mask_of_another_length_is_refused():
    with pytest.raises(UsageError, match="mask of 2 for 3"):
        detect([[1, 2, 3]], SCHEME, SUBKEY, masks=[[True, True]])


@given(TEXT)
def test_the_tail_is_that_of_the_counts(tokens):
    inputs = distinct(inputs_of(tokens, context_width=2))
    found = score(inputs, SCHEME, SUBKEY)
    if len(inputs):
        green = SCHEME.worth(prf.draws(SUBKEY, inputs[:, :2], inputs[:, 2])).sum()
        assert (found.scored, found.total) == (len(inputs), green)
        assert found.log10_p == log10_binomial_tail(int(green), len(inputs), SCHEME.law().p)


def _fixed_texts() -> list[list[int]]:
    """Three texts like real ones: random, Zipf-distributed, and one built of repeated phrases."""
    rng = np.random.default_rng(7)
    uniform = rng.integers(0, 50_000, 70).tolist()
    zipf = np.minimum(rng.zipf(1.3, 150), 400).tolist()
    phrases = [rng.integers(0, 30, 6).tolist() for _ in range(6)]
    return [uniform, zipf, [t for i in rng.integers(0, 6, 30) for t in phrases[i]]]


@pytest.mark.parametrize("index", range(3), ids=["uniform", "zipf", "phrases"])
@pytest.mark.parametrize("width", [1, 2])
def test_wrong_keys_reject_fixed_texts_at_most_at_alpha(index, width):
    scheme = Kgw(gamma=0.25, context_width=width)
    inputs = distinct(corpus_inputs([_fixed_texts()[index]], scheme)[0])
    tails = [score(inputs, scheme, subkey_of(f"null/{width}/{i}")).log10_p for i in range(2000)]
    for alpha in (0.1, 0.01):
        hits = sum(tail <= np.log10(alpha) for tail in tails)
        assert stats.binomtest(hits, len(tails), alpha, alternative="greater").pvalue > 1e-3
    assert min(tails) < np.log10(0.02)  # the test does reject at times: it is no constant


def test_the_mark_is_bound_to_its_label():
    label = {"scheme": "kgw", "params": SCHEME.params(), "tokenizer": "t", "scope": "s"}
    text = _marked(80, 3)
    for key in (key_of("a"), key_of("b")):
        assert detect([text], SCHEME, key.token_subkey(**label))[1].log10_p > -4
