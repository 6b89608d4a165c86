"""The generation adapter: stateless rows, no key bytes in what is serialised, sampling that knows no batch."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import GenerationConfig

from countermark.errors import UsageError
from tests.support import subkey_of
from watermarks import prf
from watermarks.adapters.hf import CountermarkConfig, RowSampler, SchemeProcessor
from watermarks.schemes import Kgw

SUBKEY = subkey_of("adapter")
SCHEME = Kgw(gamma=0.5, delta=3.0, context_width=2)


def _config():
    return CountermarkConfig.from_key(SCHEME, SUBKEY, key_id="ck_1")


def test_the_processor_adds_delta_to_the_green_list():
    scores = torch.randn(2, 300, generator=torch.Generator().manual_seed(1))
    ids = torch.tensor([[4, 5, 6], [7, 5, 6]])
    bent = _config().construct_processor(300, "cpu")(ids, scores)
    for row in range(2):
        context = ids[row, -2:].numpy()[None, :].repeat(300, 0)
        green = SCHEME.worth(prf.draws(SUBKEY, context, torch.arange(300).numpy()))
        assert torch.allclose(bent[row] - scores[row], torch.from_numpy(green) * 3.0, atol=1e-5)
    assert torch.equal(bent[0] - scores[0] > 1, bent[1] - scores[1] > 1)  # the context alone decides


def test_without_a_full_context_nothing_is_marked():
    scores = torch.zeros(1, 50)
    assert torch.equal(SchemeProcessor(SCHEME, SUBKEY, 50)(torch.tensor([[3]]), scores), scores)


def test_rows_do_not_see_batch_or_padding():
    processor = SchemeProcessor(SCHEME, SUBKEY, 64)
    together = processor.draws(torch.tensor([[0, 0, 1, 2], [9, 8, 7, 6]]))
    assert torch.equal(together[:1], processor.draws(torch.tensor([[1, 2]])))
    assert torch.equal(together[1:], processor.draws(torch.tensor([[7, 6]])))


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


def test_sampling_does_not_depend_on_the_batch():
    scores = torch.randn(3, 40, generator=torch.Generator().manual_seed(2))
    ids = torch.zeros(3, 1, dtype=torch.long)
    together = RowSampler([11, 12, 13])(ids, scores)
    alone = torch.cat([RowSampler([s])(ids[:1], scores[i : i + 1]) for i, s in enumerate((11, 12, 13))])
    assert torch.equal(together, alone)
    assert torch.isfinite(together).sum(-1).tolist() == [1, 1, 1]


def test_sampling_follows_the_scores_and_never_picks_what_is_masked():
    scores = torch.tensor([[float("-inf"), 0.0, float("-inf"), 1.0986123, float("-inf")]])
    sampler = RowSampler([5])
    picks = [int(sampler(torch.zeros(1, 1), scores).argmax()) for _ in range(3000)]
    assert set(picks) == {1, 3}
    assert abs(picks.count(3) / 3000 - 0.75) < 0.04
