"""Faults that we found in other libraries, each with a test that ours has not got it. Every test names its fault."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from scipy import stats

from countermark.errors import InconclusiveError
from tests.conformance.peers import IID, SUBKEY, WRONG
from tests.conformance.variants import (
    every_scheme,
    every_statistic,
    evidence,
    flat_scores,
    flipped,
    written,
)
from verification.corpus import Corpus
from verification.detect import Mark, detect, search
from verification.tails import log10_tails
from verification.tally import tally
from watermarks import prf
from watermarks.adapters.hf import CountermarkConfig, SchemeProcessor, mark_step
from watermarks.kernels import observe
from watermarks.kernels.generate import mark
from watermarks.schemes import BinomialLaw, Kgw, Tournament, Unigram


def _rate(texts, scheme, statistic, alpha) -> int:
    """How many of 2,000 wrong keys find the corpus at this level."""
    marks = [Mark(name="wrong", scheme=scheme, subkey=key, statistic=statistic) for key in WRONG]
    return sum(found.evidence.log10_p <= np.log10(alpha) for found in search(texts, marks))


def _within(hits: int, alpha: float) -> bool:
    return stats.binomtest(hits, len(WRONG), alpha, alternative="greater").pvalue > 1e-3


# Padding scored as text; prompts scored as output


@every_scheme
@pytest.mark.parametrize("pad", [0, 2, 50_256])
def test_sixty_tokens_padded_to_two_hundred_say_what_sixty_say(scheme, pad):
    """Fault: padding scored as text; a peer's z went from -0.8 to +16.7 by padding alone."""
    text = IID[:60]
    padded, mask = [pad] * 100 + text + [pad] * 40, [False] * 100 + [True] * 60 + [False] * 40
    assert evidence([padded], scheme, SUBKEY, masks=[mask]) == evidence([text], scheme, SUBKEY)


@every_scheme
def test_padding_that_nobody_masked_cannot_pile_up(scheme):
    """Fault: the same; an unmasked pad is wrong input, but it is one window and not two hundred."""
    width = scheme.inputs.width
    for found in evidence([IID[:60] + [0] * 1_000], scheme, SUBKEY):
        assert found[-1].scored <= 60 + 1
    for once, often in zip(
        evidence([[0] * (width + 1)], scheme, SUBKEY), evidence([[0] * 5_000], scheme, SUBKEY), strict=True
    ):
        assert (once[-1].scored, often[-1].scored) == (1, 1)


@every_scheme
def test_a_marked_prompt_is_no_evidence_against_its_answer(scheme):
    """Fault: prompts scored as output."""
    prompt, answer = written(scheme, SUBKEY, rows=1)[0], IID[:60]
    mask = [False] * len(prompt) + [True] * len(answer)
    masked = detect([prompt + answer], scheme, SUBKEY, masks=[mask])[1]
    assert masked == detect([answer], scheme, SUBKEY)[1]
    assert masked.log10_p > -4
    assert detect([prompt + answer], scheme, SUBKEY)[1].log10_p < masked.log10_p  # the mask is what kept it out


# Repeats counted as independent evidence; normal tails


@pytest.mark.long
@every_statistic
def test_a_block_repeated_eight_times_is_no_more_evidence_than_once(scheme, statistic):
    """Fault: repeats counted: 13.5 % false alarms at a nominal 0.135 % on a block of 32 random tokens, eight times."""
    block = IID[:32]
    assert _within(_rate([block * 8], scheme, statistic, 0.00135), 0.00135)
    assert _within(_rate([block * 8], scheme, statistic, 0.05), 0.05)


@every_scheme
def test_deduplication_is_what_detection_does_unasked(scheme):
    """Fault: a deduplication that does nothing unless the caller passes an extra argument."""
    block = IID[:32]
    plain = detect([block * 8], scheme, SUBKEY)[1]
    assert plain.scored == 32  # a block that follows itself has as many windows as tokens
    assert plain == detect([block + block[: scheme.inputs.width]] * 8, scheme, SUBKEY)[1]
    assert not [name for name in inspect.signature(detect).parameters if "repeat" in name or "dup" in name]


def test_sixteen_tokens_get_the_binomial_tail_and_not_the_normal_one():
    """Fault: normal tails: z > 4 at gamma .25 and T = 16 is really 2.9e-4, not 3.2e-5."""
    z = (11 - 16 * 0.25) / (16 * 0.25 * 0.75) ** 0.5
    exact = stats.binom.sf(10, 16, 0.25)
    assert z > 4
    assert exact == pytest.approx(2.9e-4, rel=0.05)
    (tail,) = log10_tails(BinomialLaw(p=0.25), np.array([11]), np.array([16]))
    assert tail == pytest.approx(np.log10(exact), rel=1e-9)
    assert tail > np.log10(stats.norm.sf(z)) + 0.9
    for scheme in (Kgw(), Unigram(gamma=0.25)):  # and this is what a text is told
        width, hits = scheme.inputs.width, {}
        for i, key in enumerate(WRONG[:300]):
            found = detect([IID[: 16 + width]], scheme, key)[1]
            hits[found.total] = found.log10_p
            assert found.scored == 16, i
        for total, p in hits.items():
            assert p == pytest.approx(np.log10(stats.binom.sf(total - 1, 16, 0.25)), rel=1e-9)


# Keys ignored or constant; low bits only; collapsing seeds


@every_scheme
def test_two_instances_are_one_scheme(scheme):
    """Fault: a fresh random key in every instance."""
    twin = type(scheme)(**scheme.params())
    ids, scores = torch.tensor([IID[:6]]), flat_scores(1, 900, 1)
    marked = mark_step(scheme, SUBKEY, ids, scores, start=0)
    assert torch.equal(mark_step(twin, SUBKEY, ids, scores, start=0), marked)
    assert evidence([IID], twin, SUBKEY) == evidence([IID], scheme, SUBKEY)


@pytest.mark.parametrize("function", [detect, mark_step, mark, SchemeProcessor, CountermarkConfig.from_key, Mark])
def test_no_key_is_the_default(function):
    """Fault: a published number that is everybody's key."""
    assert inspect.signature(function).parameters["subkey"].default is inspect.Parameter.empty


@every_scheme
@pytest.mark.parametrize("length", [0, 8, 15, 17, 32])
def test_a_key_of_another_length_is_refused_and_not_cut(scheme, length):
    """Fault: keys cut to what fits."""
    with pytest.raises(ValueError, match="sub-key"):
        mark(scheme, bytes(length), torch.tensor([[1] * scheme.inputs.width]), torch.zeros(1, 9))
    with pytest.raises(ValueError, match="sub-key"):
        detect([IID], scheme, bytes(length))


@every_scheme
def test_every_bit_of_the_key_matters_in_generation(scheme):
    """Fault: only some bits of the key used."""
    contexts = torch.from_numpy(np.random.default_rng(5).integers(0, 50_000, (16, scheme.inputs.width)))
    scores = torch.zeros(16, 64)
    usual = mark(scheme, SUBKEY, contexts, scores).softmax(-1)
    for bit in range(128):
        marked = mark(scheme, bytes(flipped(SUBKEY, bit // 8, bit % 8)), contexts, scores).softmax(-1)
        assert not torch.allclose(marked, usual, atol=1e-3), bit


@every_scheme
@pytest.mark.parametrize("kernels", [True, False])
def test_every_bit_of_the_key_matters_in_detection(scheme, kernels, monkeypatch):
    """Fault: the same, and keys k and k + 65536 that are one key."""
    monkeypatch.setattr(observe, "KERNELS", kernels)
    keys = [bytes(flipped(SUBKEY, bit // 8, bit % 8)) for bit in range(128)]
    tokens, positions = np.array(IID), np.arange(4, 54)
    drawn, _ = observe.observe(scheme, [SUBKEY, *keys], tokens, positions)
    assert (drawn[1:] != drawn[0]).mean() > 0.999
    assert len(np.unique(drawn, axis=0)) == 129


@every_scheme
@pytest.mark.parametrize("kernels", [True, False])
def test_every_bit_of_every_token_matters(scheme, kernels, monkeypatch):
    """Fault: only the low 16 bits of tokens used, so that x and x + 65536 are one token."""
    monkeypatch.setattr(observe, "KERNELS", kernels)
    width = scheme.inputs.width
    window = np.random.default_rng(6).integers(0, 2**32, width + 1).tolist()
    others = [flipped(window, place, bit) for place in range(width + 1) for bit in range(32)]
    tokens = np.array([window, *others]).reshape(-1)
    drawn, used = observe.observe(scheme, WRONG[:40], tokens, np.arange(width, len(tokens), width + 1))
    share = (drawn[:, 1:] != drawn[:, :1]).reshape(40, width + 1, 32).mean((0, 2))
    # a self-salted draw sees its token always, and of its context the anchor alone: one token in h, at times two
    salted = used is not None
    assert share[-1] == 1.0
    assert (share[:-1] > (0.5 / width if salted else 0.999)).all()


@every_scheme
def test_tokens_far_apart_are_told_apart_by_the_evidence(scheme):
    """Fault: the same, from outside."""
    marked = written(scheme, SUBKEY)
    high = [[token + 65_536 for token in text] for text in marked]
    assert detect(marked, scheme, SUBKEY)[1].log10_p < -6
    assert detect(high, scheme, SUBKEY)[1].log10_p > -4


@pytest.mark.long
@pytest.mark.parametrize("kind", ["uniform", "zipf"])
def test_contexts_do_not_collapse(kind):
    """Fault: 200,000 contexts of four tokens that gave 33,000 seeds."""
    rng = np.random.default_rng(2)
    sizes = (200_000, 4)
    contexts = rng.integers(0, 50_272, sizes) if kind == "uniform" else np.minimum(rng.zipf(1.2, sizes), 50_000)
    distinct = np.unique(contexts, axis=0)
    seeds = prf.siphash_words(SUBKEY, distinct)
    assert len(distinct) > 100_000
    assert len(np.unique(seeds)) == len(distinct)  # 64 bits: a collision would be one chance in 10^9
    low, high = prf.split(seeds)
    for half in (low, high):
        assert len(np.unique(half)) > len(distinct) - 50


@pytest.mark.long
@pytest.mark.parametrize("length", [30, 60, 120, 250])
@pytest.mark.parametrize("statistic", Tournament.statistics)
def test_a_short_text_needs_a_higher_mean_than_a_long_one(length, statistic):
    """Fault: a fixed score threshold: mean > .52 is 10 % false alarms at 30 tokens."""
    scheme = Tournament()
    corpus = Corpus.pack([IID[:length]])
    found = tally(corpus, scheme, WRONG, statistic="mean", each_text=False)
    naive = (found.corpus_totals / (30 * found.corpus_scored) > 0.52).mean()
    if length == 30:
        assert naive > 0.05  # so it is with theirs, and would be with ours
    for alpha in (0.1, 0.01):
        assert _within(_rate(corpus, scheme, statistic, alpha), alpha)


@every_statistic
def test_the_law_knows_the_parameters_alone(scheme, statistic):
    """Fault: thresholds fitted on the data they are reported on. Ours come before any text, and no text moves them."""
    assert scheme.law(statistic) == type(scheme)(**scheme.params()).law(statistic)
    assert not [name for name in inspect.signature(detect).parameters if "thresh" in name]
    text = IID[:80]
    alone = detect([text], scheme, SUBKEY, statistic=statistic)[0][0]
    beside = detect([IID[100:], text, [1] * 50], scheme, SUBKEY, statistic=statistic)[0][1]
    assert beside == alone


@every_scheme
def test_a_text_of_few_tokens_is_called_too_short_and_not_unmarked(scheme):
    """Fault: a verdict on text that cannot carry one."""
    width = scheme.inputs.width
    for statistic in scheme.statistics:
        short = detect([IID[: width + 1]], scheme, SUBKEY, statistic=statistic)[1]
        assert short.too_short(-12.0)
        assert not detect([IID], scheme, SUBKEY, statistic=statistic)[1].too_short(-12.0)
        assert detect([IID[:width]], scheme, SUBKEY, statistic=statistic)[1].too_short(-1e-3)
    with pytest.raises(InconclusiveError):
        log10_tails(scheme.law(scheme.statistics[0]), np.array([0]), np.array([0]), [np.array([], np.int64)])


# The tokenizer's size where the width of the logits was meant; bos_token_id=None
