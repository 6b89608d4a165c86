"""Order, batch, padding, prompt, device and back-end change nothing, in generation as in detection."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conformance.variants import (
    BIASING,
    SAMPLING,
    biasing_schemes,
    every_scheme,
    every_statistic,
    evidence,
    fixed_texts,
    flat_scores,
    same,
    sampling_schemes,
    seeded_schemes,
)
from tests.support import subkey_of
from verification import tally as sums
from verification.corpus import Corpus
from watermarks.adapters.hf import mark_step
from watermarks.kernels import generate, observe
from watermarks.kernels.generate import mark, mark_plain

SUBKEY = subkey_of("conformance")
KEYS = [subkey_of(f"key {i}") for i in range(5)]
TEXT = st.lists(st.integers(0, 6), max_size=30)
TEXTS = st.lists(TEXT, min_size=1, max_size=5)
FEW = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
MASKED = float("-inf")


def _contexts(rows: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 2**32, (rows, width)))


def _long_texts() -> tuple[list[list[int]], list[list[bool]]]:
    """Texts with repeats and masks, one of them longer than any block of the kernels, and two that are empty."""
    rng = np.random.default_rng(5)
    texts = [*fixed_texts().values(), [], [2**32 - 1, 0, 7], rng.integers(0, 9, 9_000).tolist(), []]
    return texts, [(rng.random(len(text)) > 0.03).tolist() for text in texts]


# Detection


@pytest.mark.long
@every_scheme
@FEW
@given(texts=TEXTS, seed=st.integers(0, 99))
def test_order_and_batch_change_no_evidence(scheme, texts, seed):
    order = random.Random(seed).sample(range(len(texts)), len(texts))
    for one, other in zip(
        evidence(texts, scheme, SUBKEY), evidence([texts[i] for i in order], scheme, SUBKEY), strict=True
    ):
        assert other[-1] == one[-1]
        assert other[:-1] == [one[i] for i in order]
    alone = [evidence([text], scheme, SUBKEY) for text in texts]
    for i, found in enumerate(evidence(texts, scheme, SUBKEY)):
        assert found[:-1] == [each[i][0] for each in alone]


@every_scheme
@FEW
@given(texts=TEXTS, left=st.integers(0, 9), right=st.integers(0, 9), pad=st.integers(0, 2**32 - 1))
def test_masked_padding_and_prompts_change_no_evidence(scheme, texts, left, right, pad):
    around = [[*[pad, 3] * left, *text, *[pad] * right] for text in texts]
    masks = [[False] * 2 * left + [True] * len(text) + [False] * right for text in texts]
    assert evidence(around, scheme, SUBKEY, masks=masks) == evidence(texts, scheme, SUBKEY)


@every_scheme
@FEW
@given(texts=TEXTS)
def test_what_was_seen_counts_once_in_the_corpus(scheme, texts):
    several = evidence([*texts, texts[0], *texts], scheme, SUBKEY)
    names = [s for s in scheme.statistics if s != "counts"]  # weighs by how often, and is as exact
    for name, once, again in zip(scheme.statistics, evidence(texts, scheme, SUBKEY), several, strict=True):
        assert again[-1].scored == once[-1].scored
        if name in names:
            assert again[-1] == once[-1]


@every_scheme
@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
def test_every_backend_gives_the_same_evidence(scheme, device, monkeypatch):
    texts, masks = _long_texts()
    compiled = evidence(texts, scheme, SUBKEY, masks=masks)
    monkeypatch.setattr(observe, "KERNELS", False)
    assert evidence(texts, scheme, SUBKEY, masks=masks, device=device) == compiled


@pytest.mark.long
@every_statistic
@pytest.mark.parametrize("each_text", [True, False])
def test_many_keys_are_tried_as_if_each_were_alone(scheme, statistic, each_text, monkeypatch):
    texts, masks = _long_texts()
    corpus = Corpus.pack(texts, masks)

    def tried(keys, **how):
        found = sums.tally(corpus, scheme, keys, statistic=statistic, each_text=each_text, **how)
        return [np.asarray(x).tolist() for x in (found.totals, found.scored, found.corpus_totals, found.corpus_scored)]

    together = tried(KEYS)
    alone = [tried([key]) for key in KEYS]
    assert together == [[row for one in alone for row in one[part]] for part in range(4)]
    assert len(set(together[2])) > 1  # the key does matter
    assert tried(KEYS, device="cpu:0") == together
    assert tried(KEYS, threads=2) == together
    monkeypatch.setattr(sums, "CHUNK", 701)
    assert tried(KEYS) == together
    assert tried(KEYS, threads=2) == together
    corpus = Corpus.pack(texts, masks)
    monkeypatch.setattr(observe, "KERNELS", False)
    assert tried(KEYS) == together


# Generation


@every_scheme
@pytest.mark.parametrize("width", [1, 2, 7, 1023, 1025, 5003])
def test_the_kernel_gives_what_the_plain_path_gives(scheme, width):
    scores = flat_scores(8, width, width) * 4
    scores[1, 1:] = MASKED  # a single candidate
    scores[2, torch.arange(width) % 5 > 0] = MASKED
    scores[3] = MASKED
    scores[3, width // 2 :] = 0.0
    scores[4] = 1.0  # nothing to tell the candidates apart
    scores[5, 0] = 60.0  # nothing to choose
    contexts = _contexts(8, scheme.inputs.width)
    got, plain = mark(scheme, SUBKEY, contexts, scores), mark_plain(scheme, SUBKEY, contexts, scores)
    assert same(scheme, got, plain)
    assert bool((got == MASKED)[scores == MASKED].all())
    assert not bool(got.isnan().any())


@every_scheme
def test_rows_of_a_batch_are_rows_alone(scheme, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    scores, contexts = flat_scores(9, 50_257, 1), _contexts(9, scheme.inputs.width)
    scores[4, 100:] = MASKED
    together = mark(scheme, SUBKEY, contexts, scores)
    assert scores.numel() > 3 * 1 << 17  # enough for three threads
    for i in range(9):
        alone = mark(scheme, SUBKEY, contexts[i : i + 1], scores[i : i + 1])
        assert same(scheme, together[i : i + 1], alone), i
    if scheme.inputs.width:  # what the key wants is not the same for every row
        marked = mark(scheme, SUBKEY, contexts, torch.zeros(9, 2_000)).softmax(-1)
        assert not any(torch.allclose(marked[0], other) for other in marked[1:])


@every_scheme
def test_the_layout_of_the_scores_does_not_matter(scheme):
    contexts = _contexts(4, scheme.inputs.width)
    wide = flat_scores(4, 3_001, 2)
    plain = mark(scheme, SUBKEY, contexts, wide)
    layouts = {
        "columns": wide.t().contiguous().t(),
        "every other": torch.stack([wide, -wide], -1).flatten(1)[:, ::2],
        "a slice": torch.cat([wide, wide], 1)[:, 3_001:],
    }
    for name, scores in layouts.items():
        assert torch.equal(scores, wide)
        assert same(scheme, mark(scheme, SUBKEY, contexts, scores), plain), name
    assert not layouts["columns"].is_contiguous()
    strided = torch.stack([contexts, contexts], -1)[..., 0]
    assert same(scheme, mark(scheme, SUBKEY, strided, wide), plain)
    one = wide[:1].expand(4, -1)  # four rows that are one row in memory
    assert same(scheme, mark(scheme, SUBKEY, contexts, one), mark(scheme, SUBKEY, contexts, one.clone()))


@every_scheme
@pytest.mark.parametrize(("kind", "atol"), [(torch.float64, 1e-6), (torch.bfloat16, 0.02), (torch.float16, 0.003)])
def test_scores_of_any_type_are_marked_alike(scheme, kind, atol):
    contexts, scores = _contexts(4, scheme.inputs.width), (flat_scores(4, 1_025, 3) * 32).round().to(kind) / 8
    scores[1, 9:] = MASKED
    scores[2, 1:] = MASKED
    got = mark(scheme, SUBKEY, contexts, scores)
    assert got.dtype == kind
    assert same(scheme, got, mark(scheme, SUBKEY, contexts, scores.float()).to(kind), atol=atol)


@every_scheme
@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_the_scores_given_stay_as_they_were(scheme, kind):
    scores = (flat_scores(3, 700, 4) * 4).to(kind)
    scores[1, 5:] = MASKED
    ids = torch.tensor([[9, 8, 1, 2, 3, 4, 5], [9, 8, 6, 6, 6, 6, 6], [9, 8, 5, 4, 3, 2, 1]])
    kept, kept_ids = scores.clone(), ids.clone()
    marked = mark_step(scheme, SUBKEY, ids, scores, start=2)
    assert torch.equal(scores, kept)
    assert torch.equal(ids, kept_ids)
    assert not torch.equal(marked, scores)


@every_scheme
@given(texts=st.lists(st.lists(st.integers(0, 3), min_size=6, max_size=6), min_size=1, max_size=4))
@FEW
def test_left_padding_and_neighbours_change_no_step(scheme, texts):
    ids, scores = torch.tensor(texts), flat_scores(len(texts), 64, 5)
    marked = mark_step(scheme, SUBKEY, ids, scores, start=2)
    padding = torch.full((len(texts), 5), 2)
    assert torch.equal(mark_step(scheme, SUBKEY, torch.cat([padding, ids], 1), scores, start=7), marked)
    for i in range(len(texts)):
        assert same(scheme, mark_step(scheme, SUBKEY, ids[i : i + 1], scores[i : i + 1], start=2), marked[i : i + 1])


@biasing_schemes
def test_padding_that_the_mask_shows_is_no_context(scheme):
    scores = flat_scores(2, 64, 6)
    ids, attention = torch.tensor([[0, 0, 0, 0, 5], [9, 8, 7, 6, 5]]), torch.tensor([[0, 0, 0, 0, 1], [1] * 5])
    marked = mark_step(scheme, SUBKEY, ids, scores, start=5, attention=attention)
    alone = mark_step(scheme, SUBKEY, ids[:1, 4:], scores[:1], start=1)
    assert torch.equal(marked[:1], alone)
    assert torch.equal(alone, scores[:1]) is (scheme.inputs.width > 1)
    assert not torch.equal(marked[1], scores[1])


@sampling_schemes
def test_padding_before_a_prompt_is_no_text_to_a_sampler(scheme):
    scores = flat_scores(1, 64, 6)
    assert torch.equal(mark_step(scheme, SUBKEY, torch.tensor([[0, 0, 0, 0, 5]]), scores, start=5), scores)


@seeded_schemes
def test_without_a_full_context_nothing_is_marked(scheme):
    ids, scores = torch.arange(3 * (scheme.inputs.width - 1)).reshape(3, -1), flat_scores(3, 64, 7)
    assert torch.equal(mark_step(scheme, SUBKEY, ids, scores, start=0), scores)


def test_the_kernels_are_there_to_be_compared():
    assert observe.KERNELS
    assert {type(scheme) for scheme in (*BIASING, *SAMPLING)} >= set(generate._CPU)
