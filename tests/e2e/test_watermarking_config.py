"""``model.generate(watermarking_config=…)`` on the embedded model: marked text is found, padded batches included."""

from __future__ import annotations

import json
from typing import Any

import pytest

from countermark.errors import UsageError
from pipelines.assets import resolve_model
from tests.support import key_of
from verification.detect import detect
from watermarks.adapters.hf import CountermarkConfig
from watermarks.schemes import Kgw

pytestmark = pytest.mark.slow

SCHEME = Kgw(gamma=0.25, delta=3.0, context_width=2)
LABEL = {"scheme": "kgw", "params": SCHEME.params(), "tokenizer": "smollm2", "scope": "test"}
PROMPTS = ["The weather in the mountains", "A short history of paper making in Italy begins", "My neighbour's dog"]


@pytest.fixture(scope="module")
def loaded() -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = resolve_model("embedded:smollm2-135m-instruct").path
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval(), tokenizer


def _generate(loaded: tuple[Any, Any], prompts: list[str], **how: Any) -> list[list[int]]:
    model, tokenizer = loaded
    config = CountermarkConfig.from_key(SCHEME, key_of("mine").token_subkey(**LABEL), key_id="ck_test")
    inputs = tokenizer(prompts, padding=True, return_tensors="pt")
    output = model.generate(**inputs, watermarking_config=config, min_new_tokens=50, max_new_tokens=50, **how)
    return output[:, inputs["input_ids"].shape[1] :].tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "how", [{"do_sample": True, "top_k": 50}, {"do_sample": False}, {"num_beams": 2, "do_sample": False}], ids=str
)
def test_marked_text_is_found_and_only_under_its_key(loaded: tuple[Any, Any], how: dict[str, Any]) -> None:
    import torch

    torch.manual_seed(3)
    texts = _generate(loaded, PROMPTS, **how)
    _, corpus = detect(texts, SCHEME, key_of("mine").token_subkey(**LABEL))
    assert corpus.log10_p is not None
    assert corpus.log10_p < -6
    assert corpus.scored > 40
    _, other = detect(texts, SCHEME, key_of("other").token_subkey(**LABEL))
    assert other.log10_p is not None
    assert other.log10_p > -4


def test_the_config_serialises_without_key_bytes_and_a_copy_refuses(loaded: tuple[Any, Any]) -> None:
    subkey = key_of("mine").token_subkey(**LABEL)
    config = CountermarkConfig.from_key(SCHEME, subkey, key_id="ck_test")
    text = config.to_json_string() + repr(config) + json.dumps(config.to_dict())
    assert subkey.hex() not in text
    assert "ck_test" in text
    copy = CountermarkConfig(scheme="kgw", params=SCHEME.params(), key_id="ck_test", handle=10**6)
    with pytest.raises(UsageError, match="without its key"):
        copy.construct_processor(100)
