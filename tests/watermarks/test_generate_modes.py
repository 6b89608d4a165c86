"""``model.generate`` with every scheme and way to choose tokens: marked text is found, or nothing is generated."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
import torch
from transformers import GenerationConfig

from countermark.errors import UsageError
from tests.tiny import AFTER, BEFORE, BIASED, OTHER, SAMPLED, SCHEMES, SUBKEY, VOCAB, ragged, tiny, until
from verification.detect import detect
from watermarks import prf
from watermarks.adapters.hf import CountermarkConfig, SchemeProcessor
from watermarks.schemes import Gumbel, Kgw, Tournament, Unigram

MODEL = tiny()
PROMPTS = ragged(9, 4, 12, 5)
SAMPLING = {
    "plain": {"do_sample": True, "top_k": 0},
    "temperature": {"do_sample": True, "top_k": 0, "temperature": 0.8},
    "top-k": {"do_sample": True, "top_k": 40},
    "top-p": {"do_sample": True, "top_k": 0, "top_p": 0.9},
    "min-p": {"do_sample": True, "top_k": 0, "min_p": 0.02},
}
OTHERS = {
    "greedy": {"do_sample": False},
    "beam search": {"do_sample": False, "num_beams": 3},
    "beam sample": {"do_sample": True, "num_beams": 3},
}
PLAIN = SAMPLING["plain"]


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(11)


def _config(scheme):
    return CountermarkConfig.from_key(scheme, SUBKEY, key_id="ck_tiny")


def _means(scheme):
    """The way into ``generate`` that a scheme has."""
    if scheme.order == "before":
        return {"logits_processor": [SchemeProcessor(scheme, SUBKEY)]}
    return {"watermarking_config": _config(scheme)}


def _generate(how, *, prompts=PROMPTS, tokens=40):
    ids, mask = prompts
    out = MODEL.generate(ids, attention_mask=mask, max_new_tokens=tokens, **how)
    return out[:, ids.shape[1] :].tolist()


def _assert_found(rows, scheme, below=-10):
    assert detect(rows, scheme, SUBKEY)[1].log10_p < below
    assert detect(rows, scheme, OTHER)[1].log10_p > -3


@pytest.mark.parametrize("mode", SAMPLING)
@pytest.mark.parametrize("name", SCHEMES)
def test_sampled_text_is_found_and_only_under_its_key(name, mode):
    rows = _generate(SAMPLING[mode] | _means(SCHEMES[name]))
    _assert_found(rows, SCHEMES[name])


@pytest.mark.parametrize("mode", OTHERS)
@pytest.mark.parametrize("name", [*BIASED, *BEFORE])
def test_a_bias_is_found_in_text_that_was_searched_for(name, mode):
    rows = _generate(OTHERS[mode] | _means(SCHEMES[name]))
    _assert_found(rows, SCHEMES[name])


def test_unmarked_text_is_not_found():
    for how in (PLAIN, *OTHERS.values()):
        rows = _generate(how)
        for scheme in SCHEMES.values():
            assert detect(rows, scheme, SUBKEY)[1].log10_p > -4


@pytest.mark.parametrize("passed", ["argument", "generation config"])
@pytest.mark.parametrize("mode", OTHERS)
@pytest.mark.parametrize("name", SAMPLED)
def test_a_scheme_that_samples_refuses_to_search(name, mode, passed):
    how = OTHERS[mode] | _means(SAMPLED[name])
    if passed == "generation config":
        how = {"generation_config": GenerationConfig(**how, max_new_tokens=5, pad_token_id=0)}
    else:
        how["max_new_tokens"] = 5
    with pytest.raises(UsageError, match="needs sampled tokens") as caught:
        MODEL.generate(PROMPTS[0], attention_mask=PROMPTS[1], **how)
    assert "do_sample=True" in caught.value.hint


@pytest.mark.parametrize("name", AFTER)
@pytest.mark.parametrize("sample", [True, False])
def test_prompt_lookup_is_refused(name, sample):
    with pytest.raises(UsageError, match="assisted_generation") as caught:
        _generate({"do_sample": sample, "prompt_lookup_num_tokens": 3} | _means(AFTER[name]), prompts=ragged(9))
    assert caught.value.hint


@pytest.mark.parametrize("name", AFTER)
def test_an_assistant_is_refused(name):
    with pytest.raises(UsageError, match="assisted_generation"):
        _generate({"do_sample": True, "assistant_model": tiny()} | _means(AFTER[name]), prompts=ragged(9), tokens=5)


@pytest.mark.parametrize("name", AFTER)
def test_contrastive_search_is_refused_when_someone_brings_it(name):
    def theirs(*_, **__):
        pytest.fail("generation went ahead")

    contrastive = {"do_sample": False, "penalty_alpha": 0.6, "top_k": 4, "custom_generate": theirs}
    with pytest.raises(UsageError, match="contrastive_search") as caught:
        _generate(contrastive | _means(AFTER[name]))
    assert caught.value.hint


@pytest.mark.parametrize("name", BEFORE)
@pytest.mark.parametrize("mode", [*SAMPLING, *OTHERS])
def test_a_bias_before_the_warpers_is_sent_to_the_logits_processors(name, mode):
    with pytest.raises(UsageError, match="order 'before'") as caught:
        _generate((SAMPLING | OTHERS)[mode] | {"watermarking_config": _config(BEFORE[name])}, tokens=5)
    assert "logits_processor=[SchemeProcessor" in caught.value.hint


@pytest.mark.parametrize("kind", [Kgw, Unigram])
def test_a_logits_processor_comes_before_temperature_and_truncation(kind):
    after, before = (kind(delta=delta, order=order) for delta, order in ((3.0, "after"), (1.5, "before")))
    rows = []
    for scheme in (after, before, replace(after, delta=1.5)):
        torch.manual_seed(4)
        rows.append(_generate(PLAIN | {"temperature": 0.5} | _means(scheme), tokens=20))
    assert rows[0] == rows[1]  # 1.5 before a temperature of 0.5 is 3 after it
    assert rows[0] != rows[2]
    plain, marked = (_generate(OTHERS["greedy"] | how, tokens=20) for how in ({}, _means(after)))
    assert plain != marked
    assert _generate({"do_sample": True, "top_k": 1} | _means(after), tokens=20) == plain
    assert _generate({"do_sample": True, "top_k": 1} | _means(replace(after, order="before")), tokens=20) == marked


@pytest.mark.parametrize("name", AFTER)
def test_no_token_outside_the_top_k_is_ever_picked(name):
    how = {"do_sample": True, "top_k": 5, "output_logits": True, "return_dict_in_generate": True}
    ids, mask = PROMPTS
    out = MODEL.generate(ids, attention_mask=mask, max_new_tokens=30, **how, **_means(AFTER[name]))
    ranks = [
        (logits > logits.gather(1, chosen[:, None])).sum(1)
        for logits, chosen in zip(out.logits, out.sequences[:, ids.shape[1] :].T, strict=True)
    ]
    assert torch.stack(ranks).unique().tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", SCHEMES)
def test_sequences_of_one_prompt_differ_and_are_all_found(name):
    rows = _generate(PLAIN | {"num_return_sequences": 3} | _means(SCHEMES[name]), prompts=ragged(9, 4))
    assert len(set(map(tuple, rows))) == 6
    _assert_found(rows, SCHEMES[name])


@pytest.mark.parametrize("name", BIASED)
def test_all_beams_that_are_returned_are_found(name):
    how = OTHERS["beam search"] | {"num_return_sequences": 3} | _means(BIASED[name])
    rows = _generate(how, prompts=ragged(9, 4))
    assert len(set(map(tuple, rows))) == 6
    for beam in range(3):
        _assert_found(rows[beam::3], BIASED[name], below=-4)


@pytest.mark.parametrize("name", [*BIASED, *BEFORE])
def test_a_greedy_row_alone_is_the_row_in_a_padded_batch(name):
    how = OTHERS["greedy"] | _means(SCHEMES[name])
    together = _generate(how, tokens=20)
    for row, (ids, mask) in enumerate(zip(*PROMPTS, strict=True)):
        alone = ids[mask.bool()][None], mask[mask.bool()][None]
        assert _generate(how, prompts=alone, tokens=20) == [together[row]]


@pytest.mark.parametrize("name", SCHEMES)
def test_a_row_that_ends_early_leaves_the_others_as_they_were(name):
    rows, how = [], PLAIN | _means(SCHEMES[name])
    for stop in ({}, {"eos_token_id": []}):
        torch.manual_seed(6)
        if stop:
            stop["eos_token_id"] = ended = [rows[0][0][8], rows[0][2][20]]
        rows.append(_generate(how | stop))
    cut = [until(row, tuple(ended)) for row in rows[1]]
    assert cut == [until(row, tuple(ended)) for row in rows[0]]  # the same torch seed gives the same tokens
    assert len(cut[0]) <= 8
    assert max(map(len, cut)) > 20
    _assert_found(cut, SCHEMES[name], below=-4)


@pytest.mark.parametrize("name", SCHEMES)
def test_a_processor_serves_one_generation_after_another(name):
    scheme = SCHEMES[name]
    reused = SchemeProcessor(scheme, SUBKEY, last=True)
    for lengths, tokens in (((9, 4), 8), ((5, 4, 5, 4), 12), ((14,), 8), ((14,), 8)):
        rows = []
        for processor in (reused, SchemeProcessor(scheme, SUBKEY, last=True)):
            torch.manual_seed(8)
            rows.append(_generate(PLAIN | {"logits_processor": [processor]}, prompts=ragged(*lengths), tokens=tokens))
        assert rows[0] == rows[1]


@pytest.mark.parametrize("name", SAMPLED)
def test_a_processor_takes_no_longer_prompt_for_the_same_generation(name):
    processor = SchemeProcessor(SAMPLED[name], SUBKEY, last=True)
    _generate(PLAIN | {"logits_processor": [processor]}, prompts=ragged(5, 4), tokens=10)
    how = PLAIN | {"logits_processor": [processor], "num_return_sequences": 4}
    rows = _generate(how, prompts=ragged(15), tokens=20)  # 15 = 5 + 10
    assert len({tuple(row[:4]) for row in rows}) == 4


@pytest.mark.parametrize("name", AFTER)
def test_the_logits_that_are_returned_are_the_models_own(name):
    ids, mask = ragged(6, 6, 6)
    how = PLAIN | {"output_scores": True, "output_logits": True, "return_dict_in_generate": True}
    out = MODEL.generate(ids, attention_mask=mask, max_new_tokens=12, **how, **_means(AFTER[name]))
    with torch.inference_mode():
        own = MODEL(out.sequences).logits[:, 5:-1]
    assert torch.allclose(torch.stack(out.logits, 1), own, atol=1e-4)
    assert not torch.allclose(torch.stack(out.scores, 1), own, atol=1e-4)


def test_the_scores_that_are_returned_are_marked():
    scheme, (ids, mask) = Kgw(delta=3.0), ragged(6, 6, 6)
    how = PLAIN | {"output_scores": True, "output_logits": True, "return_dict_in_generate": True}
    out = MODEL.generate(ids, attention_mask=mask, max_new_tokens=12, **how, **_means(scheme))
    for step, (scores, logits) in enumerate(zip(out.scores, out.logits, strict=True)):
        contexts = out.sequences[:, None, step + 4 : step + 6]
        green = scheme.worth(prf.draws(SUBKEY, contexts, torch.arange(VOCAB)), "green")
        assert torch.allclose(scores - logits, green * 3.0, atol=1e-4)


@pytest.mark.parametrize("name", AFTER)
def test_no_form_of_a_generation_config_holds_the_key(name):
    config = GenerationConfig(watermarking_config=_config(AFTER[name]), do_sample=True)
    forms = [config.to_json_string(), repr(config), str(config.to_dict()), str(vars(config))]
    keys = [SUBKEY.hex(), repr(SUBKEY), base64.b64encode(SUBKEY).decode(), str(list(SUBKEY))]
    assert not [key for form in forms for key in keys if key in form]
    assert all("ck_tiny" in form for form in forms[:3])


def test_a_config_does_not_mark_with_the_key_of_another():
    body = _config(Kgw()).to_dict()
    elsewhere = CountermarkConfig(**body | {"key_id": "ck_elsewhere"})
    with pytest.raises(UsageError, match="ck_elsewhere"):
        elsewhere.validate()


@pytest.mark.parametrize("scheme", [Kgw(), Gumbel(), Tournament(), Unigram()])
def test_a_config_loaded_without_its_key_generates_nothing(scheme):
    copy = CountermarkConfig(scheme=scheme.name, params=scheme.params(), key_id="ck_gone", handle=0)
    with pytest.raises(UsageError, match="ck_gone without its key"):
        _generate(PLAIN | {"watermarking_config": copy}, tokens=5)


@pytest.mark.parametrize("name", AFTER)
def test_a_custom_processor_that_would_run_too_early_is_refused(name):
    with pytest.raises(UsageError, match="as logits_processor"):
        _generate({"do_sample": True, "logits_processor": [SchemeProcessor(AFTER[name], SUBKEY)]}, tokens=5)
