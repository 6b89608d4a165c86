"""Our decoding loop: tokens are those of transformers where it has them, and a row knows no batch."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import (
    DynamicCache,
    GPT2Config,
    GPT2LMHeadModel,
    Lfm2Config,
    Lfm2ForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    StaticCache,
)

from countermark.errors import UsageError
from pipelines.engines import decoding
from pipelines.engines.decoding import Decoding, decode
from tests.tiny import BEFORE, BIASED, OTHER, SAMPLED, SCHEMES, SUBKEY, VOCAB, ragged, tiny, until
from verification.detect import detect
from watermarks.schemes import Gumbel, Kgw, Unigram

MODES = {
    "plain": {},
    "temperature": {"temperature": 0.7},
    "top-k": {"top_k": 20},
    "top-p": {"top_p": 0.8},
    "min-p": {"min_p": 0.05},
    "all": {"temperature": 1.5, "top_k": 40, "top_p": 0.8, "min_p": 0.03},
}
GREEDY = {"do_sample": False}
MODELS = {
    "llama": tiny(),
    "sliding": tiny(MistralConfig, MistralForCausalLM, sliding_window=8),
    "absolute": tiny(GPT2Config, GPT2LMHeadModel),
}
MODEL = MODELS["llama"]
PROMPTS = ragged(9, 4, 12, 5, 7, 6, 4, 10)


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.inference_mode():
        yield


@pytest.fixture(params=["static", "dynamic"])
def kind(request, monkeypatch):
    """Decodes with each of the two caches."""
    if request.param == "dynamic":
        monkeypatch.setattr(decoding, "STATIC_LENGTH", 0)
    return {"static": StaticCache, "dynamic": DynamicCache}[request.param]


def _decode(how, seeds, scheme=None, *, prompts=PROMPTS, model=MODEL, subkey=SUBKEY, **extra):
    return decode(model, *prompts, Decoding(**how), seeds=seeds, scheme=scheme, subkey=subkey, **extra)


def _alone(index):
    """One prompt without its padding."""
    ids, mask = PROMPTS
    keep = mask[index].bool()
    return ids[index : index + 1, keep], mask[index : index + 1, keep]


@contextmanager
def _fed(model):
    """The rows and the cache of every forward pass."""
    seen = []
    hook = model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append((len(kwargs["input_ids"]), type(kwargs["past_key_values"]))),
        with_kwargs=True,
    )
    yield seen
    hook.remove()


def _stops(rows, *places):
    """Stop tokens that end the first rows at these places, or sooner."""
    return tuple(row[place] for row, place in zip(rows, places, strict=False))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("floor", [0, 8])
def test_greedy_is_what_generate_does_with_ragged_prompts_and_early_stops(name, floor, kind):
    model, (ids, mask) = MODELS[name], PROMPTS
    how = {"max_new_tokens": 30, "min_new_tokens": floor, **GREEDY}
    free = _decode(how, [0] * 8, model=model)
    for stop in ((), _stops(free, 2, 5, 9)):
        options = {"eos_token_id": list(stop)} if stop else {}
        theirs = model.generate(ids, attention_mask=mask, **how, **options)[:, ids.shape[1] :].tolist()
        assert _decode({**how, "stop": stop}, [0] * 8, model=model) == [until(row, stop) for row in theirs]
    assert len({len(until(row, stop)) for row in theirs}) > 3  # rows stop at their own times


CASES = [(scheme, mode) for scheme in (None, *SCHEMES) for mode in MODES if mode != "all"]
CASES += [(scheme, "greedy") for scheme in (None, *BIASED, *BEFORE)]


@pytest.mark.parametrize(("scheme", "mode"), CASES)
def test_a_row_alone_is_the_row_in_a_batch(scheme, mode):
    how = {"max_new_tokens": 12, **MODES.get(mode, GREEDY)}
    scheme, prompts = SCHEMES.get(scheme), tuple(part[:3] for part in PROMPTS)
    together = _decode({**how, "num_return_sequences": 3}, range(9), scheme, prompts=prompts)
    for row in (1, 3):
        assert _decode(how, [row], scheme, prompts=_alone(row // 3)) == [together[row]]


@pytest.mark.parametrize("scheme", [None, *SCHEMES])
def test_padding_on_the_left_changes_nothing(scheme):
    ids, mask = PROMPTS
    junk = torch.randint(3, VOCAB, (8, 5), generator=torch.Generator().manual_seed(2))
    padded = torch.cat([junk, ids], 1), torch.cat([torch.zeros_like(junk), mask], 1)
    how = {"max_new_tokens": 16}
    scheme = SCHEMES.get(scheme)
    assert _decode(how, range(8), scheme, prompts=padded) == _decode(how, range(8), scheme)


@pytest.mark.parametrize("scheme", [Kgw(hard=True), Kgw(self_salt=True, delta=9.0), Kgw(delta=9.0, order="before")])
def test_padding_is_no_context_of_a_short_prompt(scheme):
    ids, mask = ragged(9, 1)
    how = {"max_new_tokens": 8}
    (alone,) = _decode(how, [2], scheme, prompts=(ids[1:, -1:], mask[1:, -1:]))
    assert _decode(how, [1, 2], scheme, prompts=(ids, mask))[1] == alone


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("scheme", [None, "kgw", "dual-key"])
def test_rows_that_end_leave_the_batch_and_the_others_go_on_as_they_were(name, scheme, kind):
    model, scheme = MODELS[name], SCHEMES.get(scheme)
    how = {"max_new_tokens": 24}
    free = _decode(how, range(8), scheme, model=model)
    stop = _stops(free, 3, 5, 7, 8, 9, 10)
    with _fed(model) as fed:
        rows = _decode({**how, "stop": stop}, range(8), scheme, model=model)
    assert rows == [until(row, stop) for row in free]
    sizes = [size for size, _ in fed]
    assert sizes[0] == 8
    assert len(set(sizes)) > 2
    assert sizes == sorted(sizes, reverse=True)
    assert {used for _, used in fed} == {kind}
    assert len(sizes) == min(24, max(map(len, rows)) + 1)  # nothing is fed once all have ended


def test_rows_leave_a_cache_of_linear_attention(kind):
    model = tiny(Lfm2Config, Lfm2ForCausalLM, layer_types=["conv", "full_attention"])
    how = {"max_new_tokens": 12}
    free = _decode(how, range(8), model=model)
    stop = _stops(free, 2, 3, 4, 5)
    assert _decode({**how, "stop": stop}, range(8), model=model) == [until(row, stop) for row in free]


def test_no_row_is_shorter_than_the_minimum_and_stop_tokens_are_no_part_of_the_answer():
    stop = tuple(range(VOCAB // 2))
    rows = _decode({"max_new_tokens": 40, "min_new_tokens": 5, "stop": stop, "num_return_sequences": 3}, range(24))
    assert min(map(len, rows)) == 5
    assert len(set(map(len, rows))) > 2
    assert not {token for row in rows for token in row} & set(stop)
    shorter = _decode({"max_new_tokens": 40, "stop": stop, "num_return_sequences": 3}, range(24))
    assert min(map(len, shorter)) == 0


@pytest.mark.parametrize("mode", MODES)
def test_the_first_token_follows_the_distribution_of_generate(mode):
    prompts, draws = ragged(8, 5), 2500
    ids, mask = prompts
    warpers = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, **MODES[mode]}
    out = MODEL.generate(
        ids, attention_mask=mask, do_sample=True, max_new_tokens=1, **warpers,
        output_scores=True, output_logits=True, return_dict_in_generate=True,
    )  # fmt: skip
    assert torch.equal(Decoding(max_new_tokens=1, **MODES[mode]).warpers()(ids, out.logits[0]), out.scores[0])
    rows = _decode(
        {"max_new_tokens": 1, "num_return_sequences": draws, **MODES[mode]}, range(2 * draws), prompts=prompts
    )
    for prompt, p in enumerate(out.scores[0].double().softmax(-1).numpy()):
        counts = np.bincount([token for (token,) in rows[prompt * draws : (prompt + 1) * draws]], minlength=VOCAB)
        assert not counts[p == 0].any()
        common = draws * p >= 5
        observed, expected = (np.append(x[common], x[~common].sum()) for x in (counts, draws * p))
        some = expected > 0
        statistic = ((observed - expected)[some] ** 2 / expected[some]).sum()
        assert stats.chi2.sf(statistic, some.sum() - 1) > 1e-3


@pytest.mark.parametrize("how", [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}, {"temperature": 1e-5}], ids=str)
def test_the_narrowest_sampling_is_greedy(how):
    greedy = _decode({"max_new_tokens": 16, **GREEDY}, [0] * 8)
    assert _decode({"max_new_tokens": 16, **how}, range(8)) == greedy
    assert _decode({"max_new_tokens": 16}, range(8)) != greedy


def test_off_values_and_greedy_make_no_warpers():
    assert not Decoding(max_new_tokens=1).warpers()
    assert not Decoding(max_new_tokens=1, do_sample=False, **MODES["all"]).warpers()
    assert len(Decoding(max_new_tokens=1, **MODES["all"]).warpers()) == 4


@pytest.mark.parametrize("scheme", [Kgw(delta=3.0), Unigram(delta=3.0), Kgw(self_salt=True, delta=3.0)])
def test_a_bias_before_truncation_chooses_what_is_left_and_after_it_cannot(scheme):
    before, how = replace(scheme, order="before"), {"max_new_tokens": 16}
    plain, marked = (_decode({**how, **GREEDY}, [0] * 8, mark) for mark in (None, scheme))
    assert plain != marked
    assert _decode({**how, "top_k": 1}, range(8), scheme) == plain  # one token is left: its bias moves nothing
    assert _decode({**how, "top_k": 1}, range(8), before) == marked


@pytest.mark.parametrize("kind", [Kgw, Unigram])
def test_a_bias_before_temperature_is_divided_by_it(kind):
    how = {"max_new_tokens": 24, "temperature": 0.5}
    before = _decode(how, range(8), kind(delta=1.5, order="before"))
    assert before == _decode(how, range(8), kind(delta=3.0))
    assert before != _decode(how, range(8), kind(delta=1.5))


@pytest.mark.parametrize("scheme", [None, *SCHEMES])
def test_seeds_are_all_the_randomness_there_is(scheme):
    how, scheme = {"max_new_tokens": 12, "num_return_sequences": 4}, SCHEMES.get(scheme)
    seeds = [7, 8, 7, 2**100]
    first = _decode(how, seeds, scheme, prompts=_alone(0))
    torch.manual_seed(5)
    assert _decode(how, seeds, scheme, prompts=_alone(0)) == first
    assert first[0] == first[2]
    assert len(set(map(tuple, first))) == 3
    assert _decode(how, seeds[::-1], scheme, prompts=_alone(0)) == first[::-1]


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_marked_text_is_found_and_only_under_its_key(scheme):
    rows = _decode({"max_new_tokens": 100}, range(4), scheme, prompts=ragged(9, 4, 12, 5))
    each, corpus = detect(rows, scheme, SUBKEY)
    assert corpus.scored > (80 if scheme.inputs.width == 0 else 300)
    assert corpus.log10_p < -12
    assert max(one.log10_p for one in each) < -2
    assert detect(rows, scheme, OTHER)[1].log10_p > -3
    assert detect(_unmarked(), scheme, SUBKEY)[1].log10_p > -3


@cache
def _unmarked():
    return _decode({"max_new_tokens": 100}, range(4), prompts=ragged(9, 4, 12, 5))


@pytest.mark.parametrize("scheme", SAMPLED.values(), ids=SAMPLED)
def test_continuations_of_one_prompt_begin_with_ordinary_randomness_and_differ(scheme):
    how, width = {"max_new_tokens": 20, "num_return_sequences": 6}, scheme.inputs.width
    rows = _decode(how, range(6), scheme, prompts=_alone(2))
    plain = _decode(how, range(6), prompts=_alone(2))
    assert [row[:width] for row in rows] == [row[:width] for row in plain]
    assert [row[width] for row in rows] != [row[width] for row in plain]
    assert len({tuple(row[:width]) for row in rows}) == 6
    assert len({tuple(row[width:]) for row in rows}) == 6


def test_a_context_that_a_text_has_met_before_is_left_unmarked():
    scheme = Gumbel(context_width=1)
    fresh, met = [], []
    for row in _decode({"max_new_tokens": 100}, range(8), scheme):
        pairs = np.array([row[:-1], row[1:]])
        favoured = scheme.worth(scheme.draws(SUBKEY, pairs[0][:, None], pairs[1]), "half")
        for i, worth in enumerate(favoured):
            (met if row[i] in row[:i] else fresh).append(worth)
    assert np.mean(fresh) > 0.9
    assert len(met) > 100
    assert abs(np.mean(met) - 0.5) < 0.12


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"num_beams": 2}, "num_beams 2"),
        ({"max_new_tokens": 0}, "max_new_tokens 0"),
        ({"min_new_tokens": -1}, "min_new_tokens -1"),
        ({"min_new_tokens": 5}, "min_new_tokens 5"),
        ({"num_return_sequences": 0}, "num_return_sequences 0"),
    ],
    ids=str,
)
def test_decoding_that_cannot_be_is_refused(how, message):
    with pytest.raises(UsageError, match=message):
        Decoding(**{"max_new_tokens": 4, **how})


def test_beams_are_sent_to_generate():
    with pytest.raises(UsageError) as caught:
        Decoding(max_new_tokens=4, num_beams=2)
    assert "model.generate" in caught.value.hint


@pytest.mark.parametrize(
    "how",
    [{"temperature": 0.0}, {"top_k": -1}, {"top_p": -0.1}, {"top_p": 1.5}, {"min_p": 2.0}, {"min_p": -0.5}],
    ids=str,
)
def test_warpers_that_cannot_be_are_refused(how):
    with pytest.raises(UsageError):
        _decode({"max_new_tokens": 1, **how}, range(8))


@pytest.mark.parametrize("scheme", SAMPLED.values(), ids=SAMPLED)
def test_greedy_decoding_of_a_scheme_that_samples_is_refused(scheme):
    with pytest.raises(UsageError, match=f"greedy decoding for scheme '{scheme.name}'") as caught:
        _decode({"max_new_tokens": 4, **GREEDY}, range(8), scheme)
    assert "do_sample" in caught.value.hint


def test_padding_on_the_right_is_refused():
    ids, mask = PROMPTS
    with pytest.raises(UsageError, match="padded on the right"):
        _decode({"max_new_tokens": 4}, range(8), prompts=(ids.flip(1), mask.flip(1)))


@pytest.mark.parametrize(("repeated", "seeds"), [(1, 7), (1, 9), (3, 8), (1, 0)])
def test_seeds_that_do_not_fit_are_refused(repeated, seeds):
    with pytest.raises(UsageError, match=f"{seeds} seeds for {8 * repeated} rows"):
        _decode({"max_new_tokens": 4, "num_return_sequences": repeated}, range(seeds))


@pytest.mark.parametrize("shape", [(0, 5), (2, 0), (0, 0)])
def test_empty_prompts_are_refused(shape):
    empty = torch.zeros(shape, dtype=torch.long)
    with pytest.raises(UsageError, match="no prompt tokens"):
        _decode({"max_new_tokens": 4}, range(shape[0]), prompts=(empty, empty))


def test_a_mask_of_another_width_is_refused():
    ids, mask = PROMPTS
    with pytest.raises(UsageError):
        _decode({"max_new_tokens": 4}, range(8), prompts=(ids, torch.cat([mask, torch.ones_like(mask)], 1)))


def test_each_step_is_told_of_the_rows():
    told = []
    _decode({"max_new_tokens": 6}, range(8), each_step=told.append)
    assert told == [8] * 6


def test_each_step_counts_the_rows_that_got_a_token():
    free, told = _decode({"max_new_tokens": 12}, range(8)), []
    stop = _stops(free, 4)
    rows = _decode({"max_new_tokens": 12, "stop": stop}, range(8), each_step=told.append)
    assert sum(told) == sum(min(12, len(row) + 1) for row in rows)  # a stop token is a token


def test_the_loop_needs_no_inference_mode_around_it():
    how = {"max_new_tokens": 4}
    inside = _decode(how, range(8), SCHEMES["kgw"])
    with torch.inference_mode(mode=False):
        assert _decode(how, range(8), SCHEMES["kgw"]) == inside
