"""What a mark does to the scores: masks stay, a context is used once, anchors hold, samplers keep the distribution."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from tests.conformance.variants import (
    biasing_schemes,
    every_scheme,
    flat_scores,
    label,
    sampling_schemes,
    seeded_schemes,
)
from tests.support import subkey_of
from verification.detect import detect
from watermarks.adapters.hf import fresh_contexts, mark_step, row_generator, sample_rows
from watermarks.kernels.generate import mark
from watermarks.schemes import Kgw, make_scheme

SUBKEY = subkey_of("generation")
MASKED = float("-inf")


def _contexts(rows: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 50_000, (rows, width)))


@every_scheme
def test_what_is_masked_stays_masked(scheme):
    scores = flat_scores(40, 300, 1)
    scores[torch.rand(40, 300, generator=torch.Generator().manual_seed(2)) < 0.6] = MASKED
    marked = mark(scheme, SUBKEY, _contexts(40, scheme.inputs.width), scores)
    assert bool((marked == MASKED)[scores == MASKED].all())
    assert bool(marked.isfinite().any(-1).all())
    assert not bool(marked.isnan().any())


@biasing_schemes
def test_a_bias_favours_what_the_detector_credits(scheme):
    """Every candidate that is helped is worth more to the detector than every one that is not."""
    ids, scores = _contexts(1, max(scheme.inputs.width, 1)), flat_scores(1, 800, 3)
    shift = (mark_step(scheme, SUBKEY, ids, scores, start=0) - scores)[0]
    helped = shift > shift.min()
    context = ids[0].tolist()[len(ids[0]) - scheme.inputs.width :]
    each, _ = detect([[*context, token] for token in range(800)], scheme, SUBKEY)
    worth = torch.tensor([found.total for found in each])
    assert 0 < int(helped.sum()) < 800
    assert int(worth[helped].min()) > int(worth[~helped].max())


def test_a_hard_list_forbids_red_and_spares_rows_without_green():
    hard = Kgw(hard=True)
    contexts, scores = _contexts(64, 2), flat_scores(64, 12, 4)
    soft = mark(Kgw(), SUBKEY, contexts, scores) > scores
    empty = soft.logical_not().all(-1)
    assert 0 < int(empty.sum()) < 32  # .75^12 of the rows have nothing green
    marked = mark(hard, SUBKEY, contexts, scores)
    assert torch.equal(marked[empty], scores[empty])
    assert torch.equal(marked[~empty], scores.masked_fill(~soft, MASKED)[~empty])
    reds = scores.masked_fill(soft, MASKED)  # green, but masked by someone else: nothing green remains
    assert torch.equal(mark(hard, SUBKEY, contexts, reds), reds)


@sampling_schemes
def test_a_context_is_marked_once_and_only_where_it_was_generated(scheme):
    width = scheme.inputs.width
    scores = flat_scores(1, 64, 5)
    fresh, phrase = list(range(30, 30 + width)), list(range(10, 10 + width))

    def marks(prompt, generated):
        ids = torch.tensor([[*prompt, *generated]])
        given = mark_step(scheme, SUBKEY, ids, scores, start=len(prompt))
        assert torch.equal(given, scores) or not torch.allclose(given.softmax(-1), scores.softmax(-1))
        return not torch.equal(given, scores)

    assert marks([1, 2], fresh)
    assert marks([1, 2, *phrase], phrase)  # a prompt is no text: what stands there has not been used
    assert not marks([1, *fresh], [])
    assert not marks([1, fresh[0]], fresh[1:])  # reaches into the prompt
    assert not marks([1], [*phrase, 5, *phrase])
    assert not marks([1], [7] * (width + 1))  # overlaps itself
    assert marks([1], [*phrase, 5, *fresh])


@sampling_schemes
def test_used_rows_keep_their_scores_beside_marked_ones(scheme):
    width = scheme.inputs.width
    rows = [[7] * (2 * width), list(range(2 * width)), [*range(width)] * 2]
    scores = flat_scores(3, 64, 6)
    given = mark_step(scheme, SUBKEY, torch.tensor(rows), scores, start=0)
    assert fresh_contexts(torch.tensor(rows), width, 0).tolist() == [False, True, False]
    assert torch.equal(given[[0, 2]], scores[[0, 2]])
    assert torch.equal(given[1], mark_step(scheme, SUBKEY, torch.tensor(rows[1:2]), scores[1:2], start=0)[0])


@sampling_schemes
def test_the_positions_that_are_marked_are_those_that_are_counted(scheme):
    ids, draws, marked = torch.tensor([[1, 2, 3, 0, 1]]), row_generator(5), 0
    for step in range(200):  # four likely tokens: contexts come again and again
        scores = flat_scores(1, 40, step)
        scores[:, :4] += 6.0
        given = mark_step(scheme, SUBKEY, ids, scores, start=5)
        marked += not torch.equal(given, scores)
        ids = torch.cat([ids, sample_rows(given, [draws.random()])[:, None]], 1)
    _, corpus = detect([ids[0, 5:].tolist()], scheme, SUBKEY)
    assert 10 < corpus.scored == marked < 195


@seeded_schemes
def test_every_context_token_and_only_the_last_ones_seed_the_mark(scheme):
    width, scores = scheme.inputs.width, torch.zeros(1, 4_000)
    context = torch.tensor([[*range(100, 100 + width)]])

    def marked(*before):
        ids = torch.tensor([[*before]])
        return mark_step(scheme, SUBKEY, ids, scores, start=len(before) - width).softmax(-1)

    usual = marked(*context[0])
    assert torch.equal(marked(8, 9, *context[0]), usual)
    for i in range(width):
        other = context[0].tolist()
        other[i] += 2**16
        assert not torch.allclose(marked(*other), usual), i


def _kept(scheme: Kgw) -> float:
    """Share of candidates whose colour is the same after one of the four context tokens was replaced."""
    contexts, edited = _contexts(200, 4, 1), _contexts(200, 4, 1)
    edited[torch.arange(200), torch.arange(200) % 4] += 70_000
    scores = torch.zeros(200, 500)
    return float((mark(scheme, SUBKEY, contexts, scores) == mark(scheme, SUBKEY, edited, scores)).float().mean())


def test_self_salted_colours_survive_an_edit_that_kills_a_window():
    """The anchor is the least of five numbers, of which the edit takes away one and brings one: three of five stay."""
    assert _kept(Kgw(gamma=0.5, context_width=4)) == pytest.approx(0.5, abs=0.01)
    assert _kept(Kgw(gamma=0.5, context_width=4, self_salt=True)) == pytest.approx(0.6 + 0.4 * 0.5, abs=0.01)


def test_a_self_salted_colour_knows_no_order_of_the_context():
    contexts, scores = _contexts(20, 4, 2), torch.zeros(20, 500)
    salted, plain = Kgw(context_width=4, self_salt=True), Kgw(context_width=4)
    assert torch.equal(mark(salted, SUBKEY, contexts, scores), mark(salted, SUBKEY, contexts.flip(1), scores))
    assert not torch.equal(mark(plain, SUBKEY, contexts, scores), mark(plain, SUBKEY, contexts.flip(1), scores))


# Distribution

LOGITS = torch.tensor([[1.5, 0.0, -1.0, 0.7, MASKED, -2.5, 0.2, 1.1]])


def _farthest(scheme) -> float:
    """Distance of the mean marked distribution from the softmax, in standard errors; over keys and contexts."""
    given = [
        mark(scheme, subkey_of(f"law {i}"), _contexts(20, scheme.inputs.width, i), LOGITS.expand(20, -1)).softmax(-1)
        for i in range(300)
    ]
    p = torch.cat(given).double()
    error = p.std(0).clamp(min=1e-9) / len(p) ** 0.5
    return float(((p.mean(0) - LOGITS[0].double().softmax(-1)).abs() / error).max())


@pytest.mark.long
@sampling_schemes
def test_a_sampling_scheme_keeps_the_distribution(scheme):
    assert _farthest(scheme) < 4.5


def test_a_bias_does_not_and_the_measure_says_so():
    assert _farthest(Kgw()) > 10


@sampling_schemes
def test_sampled_tokens_follow_the_scores(scheme):
    """The whole step, sampler included: a chi-square over contexts, and over keys for one and the same context."""
    p, rows = LOGITS[0].double().softmax(-1).numpy(), 1_000
    draws = row_generator(1)
    contexts = _contexts(rows, scheme.inputs.width, 9)
    given = mark(scheme, SUBKEY, contexts, LOGITS.expand(rows, -1))
    seen = sample_rows(given, draws.random(rows).tolist()).tolist()
    one = [mark(scheme, subkey_of(f"one {i}"), contexts[:1], LOGITS) for i in range(rows)]
    again = sample_rows(torch.cat(one), draws.random(rows).tolist()).tolist()
    for tokens in (seen, again):
        counts = Counter(tokens)
        assert counts[4] == 0
        squares = sum((counts[i] - rows * p[i]) ** 2 / (rows * p[i]) for i in range(8) if p[i])
        assert squares < 27.9  # 1 in 10^4 with 6 degrees of freedom


@sampling_schemes
def test_a_sampling_scheme_leaves_less_to_chance(scheme):
    """Or it would mark nothing: under one key the marked distribution is sharper than the softmax."""
    p = LOGITS.softmax(-1)
    marked = mark(scheme, SUBKEY, _contexts(400, scheme.inputs.width, 3), LOGITS.expand(400, -1)).softmax(-1)
    assert float((marked**2).sum(-1).mean()) > float((p**2).sum()) * 1.1


def test_dual_keys_share_the_choice_as_alpha_says():
    scheme = make_scheme("gumbel", {"alpha": 0.3})
    marked = mark(scheme, SUBKEY, _contexts(500, 4), flat_scores(500, 1_000, 8)).softmax(-1)
    shares = marked.sort(-1, descending=True).values[:, :3]
    two = shares[:, 1] > 0.01
    assert 450 < int(two.sum()) <= 500
    assert torch.allclose(shares[two], torch.tensor([0.7, 0.3, 0.0]), atol=1e-6)
    assert torch.allclose(shares[~two], torch.tensor([1.0, 0.0, 0.0]), atol=1e-6)
    single = mark(make_scheme("gumbel", {}), SUBKEY, _contexts(500, 4), flat_scores(500, 1_000, 8))
    assert torch.equal(single.argmax(-1)[two], marked.argmax(-1)[two]), label(scheme)  # the first key is the single one
