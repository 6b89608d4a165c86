"""Detection: what is counted does not depend on padding, order or batch, and a wrong key finds what chance allows."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from countermark.errors import UsageError
from tests.support import key_of, subkey_of
from tests.verification.marked import SCHEMES, STATISTICS, marked, unmarked
from verification.corpus import Corpus
from verification.detect import Mark, detect, search
from verification.statistics import log10_binomial_tail
from verification.tally import tally
from watermarks import prf
from watermarks.kernels import observe
from watermarks.schemes import Kgw

SCHEME = Kgw(gamma=0.25, context_width=2)
SUBKEY = subkey_of("detect")
TEXT = st.lists(st.integers(0, 12), max_size=40)
TEXTS = st.lists(TEXT, min_size=1, max_size=6)
every_statistic = pytest.mark.parametrize(("name", "statistic"), STATISTICS)


def _windows(corpus, scheme=SCHEME):
    """The inputs that count in the corpus, as windows."""
    counted = corpus.counted(scheme.inputs)
    return corpus.tokens[counted.positions[counted.corpus][:, None] + np.arange(-scheme.inputs.width, 1)]


def test_a_marked_text_is_found_and_an_unmarked_one_is_not():
    rng = random.Random(4)
    (text,) = marked(SCHEME, SUBKEY, texts=1, length=120, choices=64)
    plain = [rng.randrange(50_000) for _ in range(120)]
    (found, missed), corpus = detect([text, plain], SCHEME, SUBKEY)
    assert (found.statistic, found.scored, found.total) == ("green", 118, 118)
    assert found.log10_p == pytest.approx(118 * np.log10(0.25))
    assert missed.log10_p > -3
    assert corpus.scored == 236
    assert detect([text], SCHEME, subkey_of("other"))[1].log10_p > -3


@every_statistic
def test_every_statistic_finds_its_mark_and_only_under_its_key(name, statistic):
    scheme = SCHEMES[name]
    texts = marked(scheme, SUBKEY)
    each, corpus = detect(texts, scheme, SUBKEY, statistic=statistic)
    assert corpus.statistic == statistic
    assert corpus.log10_p < -20
    assert max(e.log10_p for e in each) < -1
    assert detect(texts, scheme, subkey_of("other"), statistic=statistic)[1].log10_p > -4
    assert detect(unmarked(), scheme, SUBKEY, statistic=statistic)[1].log10_p > -4


def test_the_first_statistic_is_the_one_that_decides():
    for scheme in SCHEMES.values():
        texts = marked(scheme, SUBKEY, texts=2)
        assert detect(texts, scheme, SUBKEY) == detect(texts, scheme, SUBKEY, statistic=scheme.statistics[0])


@given(TEXT, st.integers(0, 9), st.integers(0, 9), st.integers(0, 50_000))
def test_masked_padding_changes_nothing(tokens, left, right, pad):
    padded = [pad] * left + tokens + [pad] * right
    mask = [False] * left + [True] * len(tokens) + [False] * right
    plain, masked = detect([tokens], SCHEME, SUBKEY), detect([padded], SCHEME, SUBKEY, masks=[mask])
    assert plain == masked


@given(TEXT, st.data())
def test_a_masked_token_is_neither_scored_nor_context(tokens, data):
    mask = data.draw(st.lists(st.booleans(), min_size=len(tokens), max_size=len(tokens)))
    expected = {tuple(tokens[i : i + 3]) for i in range(len(tokens) - 2) if all(mask[i : i + 3])}
    found = [tuple(window) for window in _windows(Corpus.pack([tokens], [mask])).tolist()]
    assert set(found) == expected
    assert len(found) == len(expected)


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
    assert detect([loop], SCHEMES["unigram"], SUBKEY)[1].scored == 4
    assert detect([loop], SCHEMES["self-salted"], SUBKEY)[1].scored <= 16


def test_a_context_is_credited_once_a_text_and_a_window_once_a_corpus():
    scheme = SCHEMES["gumbel"]
    texts = [[1, 2, 3, 4, 5, 1, 2, 3, 4, 6], [1, 2, 3, 4, 6], [1, 2, 3, 4, 6]]
    each, corpus = detect(texts, scheme, SUBKEY)
    assert [e.scored for e in each] == [5, 1, 1]
    assert corpus.scored == 6


@pytest.mark.parametrize("text", [[], [7], [7, 8]])
def test_a_text_too_short_to_score_is_never_a_pass(text):
    each, corpus = detect([text], SCHEME, SUBKEY)
    for evidence in (*each, corpus):
        assert (evidence.scored, evidence.total, evidence.log10_p, evidence.log10_floor) == (0, 0, None, 0.0)
        assert evidence.too_short(-0.001)


def test_a_fully_masked_text_is_never_a_pass():
    _, corpus = detect([[1, 2, 3, 4]], SCHEME, SUBKEY, masks=[[False] * 4])
    assert corpus.log10_p is None


@every_statistic
def test_the_floor_says_when_a_text_is_too_short(name, statistic):
    scheme = SCHEMES[name]
    texts = marked(scheme, SUBKEY, texts=1, length=12)
    _, evidence = detect(texts, scheme, SUBKEY, statistic=statistic)
    assert evidence.log10_floor - 1e-9 <= evidence.log10_p
    assert evidence.too_short(evidence.log10_floor - 0.01)
    assert not evidence.too_short(evidence.log10_floor)


def test_an_empty_corpus_is_refused():
    with pytest.raises(UsageError, match="no texts"):
        detect([], SCHEME, SUBKEY)


def test_a_mask_of_another_length_is_refused():
    with pytest.raises(UsageError, match="mask of 2 for 3"):
        detect([[1, 2, 3]], SCHEME, SUBKEY, masks=[[True, True]])


def test_masks_beside_a_packed_corpus_are_refused():
    with pytest.raises(UsageError, match="masks beside a packed corpus"):
        detect(Corpus.pack([[1, 2, 3]]), SCHEME, SUBKEY, masks=[[True] * 3])


def test_a_statistic_that_the_scheme_does_not_have_is_refused():
    with pytest.raises(UsageError, match="got statistic 'counts' for scheme 'kgw', expected one of green"):
        detect([[1, 2, 3]], SCHEME, SUBKEY, statistic="counts")


@given(TEXT)
def test_the_tail_is_that_of_the_counts(tokens):
    corpus = Corpus.pack([tokens])
    windows = _windows(corpus)
    _, found = detect(corpus, SCHEME, SUBKEY)
    if len(windows):
        green = SCHEME.worth(prf.draws(SUBKEY, windows[:, :2], windows[:, 2]), "green").sum()
        assert (found.scored, found.total) == (len(windows), green)
        assert found.log10_p == pytest.approx(
            log10_binomial_tail(int(green), len(windows), SCHEME.law("green").p), rel=1e-11, abs=1e-12
        )


def _everything(texts, name, statistic, **how):
    scheme = SCHEMES[name]
    return detect(texts, scheme, SUBKEY, statistic=statistic, **how)


@every_statistic
def test_packed_or_not_with_kernels_or_without_on_numpy_or_torch_it_is_the_same(name, statistic, monkeypatch):
    texts = [*marked(SCHEMES[name], SUBKEY, texts=3), [], [1, 2, 1, 2, 1, 2, 1], *unmarked(texts=2)]
    expected = _everything(texts, name, statistic)
    assert _everything(Corpus.pack(texts), name, statistic) == expected
    assert _everything(texts, name, statistic, device="cpu:0") == expected
    monkeypatch.setattr(observe, "KERNELS", False)
    assert _everything(texts, name, statistic) == expected


@every_statistic
def test_what_a_text_says_does_not_depend_on_the_others(name, statistic):
    one, other = marked(SCHEMES[name], SUBKEY, texts=2)
    texts = [one, other, one, one[:20], [1, 2, 1, 2, 1, 2, 1], [*one, *one], [1, 2, 1, 2, 1, 2, 1]]
    each, _ = _everything(texts, name, statistic)
    assert each == [_everything([text], name, statistic)[0][0] for text in texts]
    assert each[0] == each[2]


@every_statistic
def test_many_keys_at_once_sum_what_each_sums_alone(name, statistic):
    scheme, corpus = SCHEMES[name], Corpus.pack([*unmarked(texts=3), [], [5] * 9])
    subkeys = [subkey_of(f"many/{i}") for i in range(7)]
    sums = tally(corpus, scheme, subkeys, statistic=statistic)
    for k, subkey in enumerate(subkeys):
        each, whole = detect(corpus, scheme, subkey, statistic=statistic)
        assert [(e.total, e.scored) for e in each] == [*zip(sums.totals[k], sums.scored[k], strict=True)]
        assert (whole.total, whole.scored) == (sums.corpus_totals[k], sums.corpus_scored[k])


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
    marks = [Mark(name=str(i), scheme=scheme, subkey=subkey_of(f"null/{width}/{i}")) for i in range(2000)]
    tails = [found.evidence.log10_p for found in search([_fixed_texts()[index]], marks)]
    for alpha in (0.1, 0.01):
        hits = sum(tail <= math.log10(alpha) for tail in tails)
        assert stats.binomtest(hits, len(tails), alpha, alternative="greater").pvalue > 1e-3
    assert min(tails) < math.log10(0.02)  # the test does reject at times: it is no constant


def test_the_mark_is_bound_to_its_label():
    label = {"scheme": "kgw", "params": SCHEME.params(), "tokenizer": "t", "scope": "s"}
    texts = marked(SCHEME, key_of("a").token_subkey(**label), texts=1, length=80, seed=3)
    assert detect(texts, SCHEME, key_of("a").token_subkey(**label))[1].log10_p < -20
    others = [
        key_of("b").token_subkey(**label),
        key_of("a", salt=b"B").token_subkey(**label),
        *(key_of("a").token_subkey(**{**label, name: other}) for name, other in OTHER_LABELS.items()),
    ]
    for subkey in others:
        assert detect(texts, SCHEME, subkey)[1].log10_p > -4


OTHER_LABELS = {"scheme": "unigram", "params": {**SCHEME.params(), "gamma": 0.5}, "tokenizer": "u", "scope": "t"}
