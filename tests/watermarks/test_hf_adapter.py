"""The generation adapter: stateless rows, no key bytes in what is serialised, sampling that knows no batch."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import GenerationConfig

from countermark.errors import UsageError
from tests.support import subkey_of
from watermarks import prf
from watermarks.adapters.hf import CountermarkConfig, SchemeProcessor, row_generator, sample_rows
from watermarks.schemes import Gumbel, Kgw, Tournament, Unigram

SUBKEY = subkey_of("adapter")
SCHEME = Kgw(gamma=0.5, delta=3.0, context_width=2)


def _config(scheme=SCHEME):
    return CountermarkConfig.from_key(scheme, SUBKEY, key_id="ck_1")


def test_the_processor_adds_delta_to_the_green_list():
    scores = torch.randn(2, 300, generator=torch.Generator().manual_seed(1))
    ids = torch.tensor([[4, 5, 6], [7, 5, 6]])
    bent = _config().construct_processor(300, "cpu")(ids, scores)
    for row in range(2):
        context = ids[row, -2:].numpy()[None, :].repeat(300, 0)
        green = SCHEME.worth(prf.draws(SUBKEY, context, torch.arange(300).numpy()), "green")
        assert torch.allclose(bent[row] - scores[row], torch.from_numpy(green) * 3.0, atol=1e-5)
    assert torch.equal(bent[0] - scores[0] > 1, bent[1] - scores[1] > 1)  # the context alone decides


def test_without_a_full_context_nothing_is_marked():
    scores = torch.zeros(1, 50)
    assert torch.equal(SchemeProcessor(SCHEME, SUBKEY)(torch.tensor([[3]]), scores), scores)


def test_rows_do_not_see_batch_or_padding():
    scores = torch.zeros(1, 64)
    together = SchemeProcessor(SCHEME, SUBKEY)(torch.tensor([[0, 0, 1, 2], [9, 8, 7, 6]]), scores.expand(2, -1))
    for row, last in enumerate(([1, 2], [7, 6])):
        alone = SchemeProcessor(SCHEME, SUBKEY)(torch.tensor([last]), scores)
        assert torch.equal(together[row : row + 1], alone)
        assert set(alone.flatten().tolist()) == {0.0, 3.0}


@pytest.mark.parametrize("start", [None, 3])
def test_a_processor_begins_where_the_first_call_ends(start):
    scores, scheme = torch.zeros(1, 64), Gumbel(context_width=2)
    processor = SchemeProcessor(scheme, SUBKEY, start=start)
    ids = torch.tensor([[5, 6, 7, 8, 9, 1]])
    marked = [not torch.equal(processor(ids[:, :length], scores), scores) for length in (3, 4, 5, 6)]
    assert marked == [False, False, True, True]  # two generated tokens are the first context
    late = SchemeProcessor(scheme, SUBKEY, start=start)
    assert torch.equal(late(ids, scores), scores) is (start is None)  # to the processor it is all a prompt


def test_no_serialised_form_holds_the_key():
    config = _config()
    generation = GenerationConfig(watermarking_config=config, do_sample=False)
    texts = [
        json.dumps(config.to_dict()),
        repr(config),
        str(vars(config)),
        generation.to_json_string(),
        repr(generation),
    ]
    texts.append(repr(config.construct_processor(10, "cpu")))
    for text in texts:
        assert SUBKEY.hex() not in text
        assert repr(SUBKEY) not in text
    assert json.loads(texts[0])["key_id"] == "ck_1"


def test_a_config_from_elsewhere_refuses_to_generate():
    body = _config().to_dict()
    copy = CountermarkConfig(**{**body, "handle": 10**9})
    with pytest.raises(UsageError, match="ck_1"):
        copy.construct_processor(10, "cpu")
    with pytest.raises(UsageError):
        CountermarkConfig(**{**body, "scheme": "nope"}).validate()


@pytest.mark.parametrize("scheme", [Kgw(order="before"), Unigram(order="before")])
def test_a_bias_before_the_warpers_cannot_be_had_after_them(scheme):
    with pytest.raises(UsageError, match="order 'before'") as caught:
        _config(scheme).construct_processor(10, "cpu")
    assert "logits_processor=[SchemeProcessor" in caught.value.hint


GREEDY, SAMPLE = {"do_sample": False}, {"do_sample": True}
BEAMS, BEAM_SAMPLE = {**GREEDY, "num_beams": 2}, {**SAMPLE, "num_beams": 2}


@pytest.mark.parametrize(
    ("scheme", "taken"),
    [(SCHEME, 4), (Unigram(), 4), (Gumbel(), 1), (Gumbel(alpha=0.1), 1), (Tournament(), 1)],
    ids=lambda x: getattr(x, "name", x),
)
def test_a_scheme_that_samples_takes_sampling_alone(scheme, taken):
    config = _config(scheme)
    for i, mode in enumerate((SAMPLE, GREEDY, BEAMS, BEAM_SAMPLE)):
        generation_config = GenerationConfig(watermarking_config=config, **mode)  # as in the frame of generate
        if i < taken:
            assert isinstance(config.construct_processor(10, "cpu"), SchemeProcessor)
            continue
        with pytest.raises(UsageError, match="needs sampled tokens") as caught:
            config.construct_processor(10, "cpu")
        assert generation_config.get_generation_mode().value in caught.value.message


def _sampled(scores, seeds, times=1):
    draws = [row_generator(seed) for seed in seeds]
    return torch.stack([sample_rows(scores, [draw.random() for draw in draws]) for _ in range(times)])


def test_sampling_does_not_depend_on_the_batch():
    scores, seeds = torch.randn(3, 40, generator=torch.Generator().manual_seed(2)), (11, 12, 13)
    together = _sampled(scores, seeds, 5)
    alone = [_sampled(scores[i : i + 1], [seed], 5) for i, seed in enumerate(seeds)]
    assert together.shape == (5, 3)
    assert torch.equal(together, torch.cat(alone, 1))
    assert len(set(together.flatten().tolist())) > 3


def test_sampling_follows_the_scores_and_never_picks_what_is_masked():
    scores = torch.tensor([[float("-inf"), 0.0, float("-inf"), 1.0986123, float("-inf")]])
    picks = _sampled(scores, [5], 3000).flatten().tolist()
    assert set(picks) == {1, 3}
    assert abs(picks.count(3) / 3000 - 0.75) < 0.04


@pytest.mark.parametrize("uniform", [0.0, 0.25, 0.5, 1.0 - 2.0**-53])
def test_the_ends_of_the_uniform_pick_no_masked_token(uniform):
    scores = torch.full((1, 1001), float("-inf"))
    scores[0, [3, 500, 997]] = torch.tensor([0.1, -0.3, 0.2])
    assert int(sample_rows(scores, [uniform])) in {3, 500, 997}
    assert sample_rows(scores, [0.0]).tolist() == [3]
    assert sample_rows(scores, [1.0 - 2.0**-53]).tolist() == [997]
