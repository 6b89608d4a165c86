"""Faults that we found in other libraries' generation, each with a test that ours has not got it."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch

from countermark.errors import UsageError
from pipelines.engines import decoding
from pipelines.engines.decoding import Decoding, decode
from tests.conformance.peers import IID, SUBKEY, WRONG
from tests.conformance.variants import (
    SCHEMES,
    biasing_schemes,
    every_scheme,
    evidence,
    flat_scores,
    label,
    same,
    sampling_schemes,
    written,
)
from tests.tiny import VOCAB, ragged, tiny
from verification.detect import detect
from watermarks.adapters.hf import CountermarkConfig, SchemeProcessor, mark_step, sample_rows
from watermarks.kernels import generate, observe
from watermarks.schemes import Kgw, Unigram

IDS = torch.tensor([IID[:6], IID[6:12]])
MASKED = float("-inf")


# Custom processors that run before the warpers; a temperature applied twice

MODEL = tiny()
PROMPTS = ragged(7, 7)
WARPED = {"temperature": 0.5, "top_k": 40, "top_p": 0.95, "min_p": 0.01}
AFTER = [scheme for scheme in SCHEMES if scheme.order == "after"]


@pytest.fixture
def last_scores(monkeypatch):
    """What our decoding loop samples from in its last step, and the ids before it."""

    def run(scheme, steps, **how):
        seen = []

        def spy(scores, uniforms):
            seen.append((scores, sample_rows(scores, uniforms)))
            return seen[-1][1]

        monkeypatch.setattr(decoding, "sample_rows", spy)
        how = Decoding(max_new_tokens=steps, **how)
        decode(MODEL, *PROMPTS, how, seeds=[1, 2], scheme=scheme, subkey=SUBKEY)
        return seen[-1][0], torch.cat([PROMPTS[0], *(chosen[:, None] for _, chosen in seen[:-1])], 1)

    return run


@pytest.mark.parametrize("scheme", AFTER, ids=label)
def test_the_mark_is_put_on_what_the_warpers_left(scheme, last_scores):
    """Faults: a mark before temperature and truncation, so that it reweights another distribution; two temperatures."""
    steps = scheme.inputs.width + 1 if scheme.samples else 1  # up to there, the mark changes no token
    warped, ids = last_scores(None, steps, **WARPED)
    final, marked_ids = last_scores(scheme, steps, **WARPED)
    assert torch.equal(ids, marked_ids)
    assert same(scheme, final, mark_step(scheme, SUBKEY, ids, warped, start=7))
    assert not torch.equal(final, warped)
    assert bool((final == MASKED)[warped == MASKED].all())  # what was truncated stays away
    assert 40 < int((warped == MASKED).sum()) < 2 * VOCAB - 10
    if "delta" in scheme.params() and not getattr(scheme, "hard", False):
        shift = (final - warped)[warped.isfinite()]
        assert set(shift.round(decimals=4).tolist()) == {0.0, scheme.delta}


def test_each_warper_is_applied_once(last_scores):
    """Fault: a temperature applied twice."""
    logits, ids = last_scores(None, 1)
    warped, _ = last_scores(None, 1, **WARPED)
    assert torch.equal(warped, Decoding(max_new_tokens=1, **WARPED).warpers()(ids, logits.clone()))
    assert torch.allclose((warped / logits)[warped.isfinite()], torch.tensor(2.0))
    unused, _ = last_scores(Kgw(), 1, temperature=0.5)
    assert set((unused - 2 * logits).round(decimals=4).unique().tolist()) == {0.0, 2.0}


def test_a_bias_before_the_warpers_is_one_that_asked_for_it(last_scores):
    """Fault: the order of the processors decided by chance."""
    logits, _ = last_scores(None, 1)
    final, _ = last_scores(Kgw(order="before"), 1, temperature=0.5)
    assert set((final - 2 * logits).round(decimals=4).unique().tolist()) == {0.0, 4.0}
    assert Kgw().order == "after"


@pytest.mark.parametrize("scheme", [Kgw(delta=3.0), Unigram(delta=3.0)], ids=label)
def test_transformers_puts_the_mark_behind_its_warpers(scheme):
    """Fault: the same, inside ``model.generate``: the final scores differ by 0 or by delta, temperature or not."""
    ids, mask = ragged(7, 5)
    how = {"do_sample": True, "temperature": 0.5, "top_k": 30, "max_new_tokens": 1, "return_dict_in_generate": True}
    with torch.inference_mode():
        plain, marked = (
            MODEL.generate(ids, attention_mask=mask, output_scores=True, watermarking_config=config, **how).scores[0]
            for config in (None, CountermarkConfig.from_key(scheme, SUBKEY, key_id="ck_1"))
        )
    assert plain.isfinite().sum(-1).tolist() == [30, 30]
    assert torch.equal(plain.isfinite(), marked.isfinite())
    shift = (marked - plain)[plain.isfinite()].round(decimals=4)
    assert set(shift.tolist()) == {0.0, 3.0}


# State that leaks between calls and crashes on a new batch size; generators that disagree


def _steps(processor, rows, length, seed):
    ids = torch.from_numpy(np.random.default_rng(seed).integers(0, 50, (rows, length + 8)))
    return [processor(ids[:, : length + step], flat_scores(rows, 200, step)) for step in range(9)]


@every_scheme
def test_a_processor_serves_one_batch_after_another(scheme):
    """Fault: state that leaks between calls, and crashes on a new batch size (two rows, then five)."""
    used = SchemeProcessor(scheme, SUBKEY)
    for rows, length, seed in ((2, 9, 1), (5, 9, 2), (1, 30, 3), (5, 9, 2)):
        again, new = _steps(used, rows, length, seed), _steps(SchemeProcessor(scheme, SUBKEY), rows, length, seed)
        assert all(torch.equal(a, b) for a, b in zip(again, new, strict=True))


@sampling_schemes
def test_a_processor_is_not_fooled_by_a_prompt_that_fits_behind_the_last_one(scheme):
    """Fault: the same; the second prompt happens to be as long as the first text and one token."""
    used = SchemeProcessor(scheme, SUBKEY)
    _steps(used, 2, 9, 1)
    again, new = _steps(used, 5, 18, 2), _steps(SchemeProcessor(scheme, SUBKEY), 5, 18, 2)
    assert all(torch.equal(a, b) for a, b in zip(again, new, strict=True))


@every_scheme
def test_no_generator_of_torch_decides_the_mark(scheme):
    """Fault: keyed generators of torch, which differ between CPU and CUDA, and whose seeding disturbs the sampler."""
    ids, scores = torch.tensor([IID[:6]]), flat_scores(1, 300, 5)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        before = torch.get_rng_state()
        marked = mark_step(scheme, SUBKEY, ids, scores, start=0)
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(2)
        assert torch.equal(mark_step(scheme, SUBKEY, ids, scores, start=0), marked)


@pytest.mark.long
@every_scheme
def test_text_marked_by_one_backend_is_found_by_the_others(scheme, monkeypatch):
    """Fault: text marked on one device that is not found on another."""
    compiled = written(scheme, SUBKEY)
    monkeypatch.setattr(generate, "_CPU", {})
    plain = written(scheme, SUBKEY)
    same_tokens = np.mean(np.array(plain) == np.array(compiled))
    assert same_tokens > 0.99  # a sampled token may turn on the last bit of a probability
    found = [detect(text, scheme, SUBKEY, device=d)[1] for text in (compiled, plain) for d in ("cpu", "cpu:0")]
    monkeypatch.setattr(observe, "KERNELS", False)
    found += [detect(text, scheme, SUBKEY)[1] for text in (compiled, plain)]
    assert max(each.log10_p for each in found) < -6
    assert found[0] == found[1] == found[4]
    assert found[2] == found[3] == found[5]


@biasing_schemes
def test_the_known_lists_are_a_cache_and_no_memory(scheme):
    """Fault: state that leaks between calls; here, lists of other keys, parameters or widths."""
    calls = [(key, width) for key in WRONG[:12] for width in (40, 41)]
    ids = torch.tensor([IID[:6]])
    first = [mark_step(scheme, key, ids, torch.zeros(1, width), start=0) for key, width in calls]
    again = [mark_step(scheme, key, ids, torch.zeros(1, width), start=0) for key, width in calls]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert len({tuple(row[0, :40].tolist()) for row in first}) == 12


# Fixed score thresholds; thresholds fitted on the data they are reported on


@biasing_schemes
@pytest.mark.parametrize("extra", [1, 28, 1_024])
def test_rows_of_padding_in_the_logits_shift_no_list(scheme, extra):
    """Fault: the tokenizer's vocabulary size where the logits' width was meant: other lists, or a crash."""
    scores = flat_scores(2, 1_000 + extra, 6)
    wide, narrow = (mark_step(scheme, SUBKEY, IDS, s, start=0) for s in (scores, scores[:, :1_000]))
    assert torch.equal(wide[:, :1_000], narrow)


@sampling_schemes
@pytest.mark.parametrize("extra", [1, 28, 1_024])
def test_logits_that_cannot_be_chosen_change_no_choice(scheme, extra):
    """Fault: the same, for samplers: columns without a token have no mass and change nothing."""
    scores = flat_scores(2, 1_000, 7)
    wide = torch.cat([scores, torch.full((2, extra), MASKED)], 1)
    marked = mark_step(scheme, SUBKEY, IDS, wide, start=0)
    assert same(scheme, marked[:, :1_000].contiguous(), mark_step(scheme, SUBKEY, IDS, scores, start=0))
    assert bool((marked[:, 1_000:] == MASKED).all())


@pytest.mark.parametrize("scheme", AFTER, ids=label)
def test_a_processor_is_told_no_vocabulary_size_that_it_heeds(scheme):
    """Fault: the same, in the adapter: what transformers says of the size of the vocabulary is not what is marked."""
    config = CountermarkConfig.from_key(scheme, SUBKEY, key_id="ck_1")
    scores = flat_scores(2, VOCAB, 8)
    wanted = SchemeProcessor(scheme, SUBKEY, start=0)(IDS, scores)
    for vocab_size in (10, VOCAB, 10**6):
        processor = config.construct_processor(vocab_size, "cpu")
        processor(IDS[:, :-1], scores)
        assert not torch.equal(wanted, scores)
        if not scheme.samples:
            assert torch.equal(processor(IDS, scores), wanted)


@every_scheme
def test_detection_takes_ids_and_asks_no_tokenizer(scheme):
    """Fault: a detector that crashes on bos_token_id=None. Ours has no special ids: 0 and 2^32 - 1 are tokens."""
    ids = [0, 1, 2, 2**32 - 1, 2**31, 50_256, 0, 1, 2, 2**32 - 1]
    for found in evidence([ids, np.array(ids), torch.tensor(ids)], scheme, SUBKEY):
        assert found[0] == found[1] == found[2]
        assert found[0].scored > 0
    assert not [name for name in inspect.signature(detect).parameters if "bos" in name or "vocab" in name]
    for bad in (-100, 2**32):  # the padding of labels is no token
        with pytest.raises(UsageError, match="token ids"):
            detect([[*IID[:9], bad]], scheme, SUBKEY)
