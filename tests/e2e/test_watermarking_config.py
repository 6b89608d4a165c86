"""``model.generate(watermarking_config=…)`` on the embedded model: marked text is found, padded batches included."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from countermark import libraries
from countermark.errors import UsageError
from pipelines.assets import resolve_model
from tests.support import key_of
from verification.detect import detect
from watermarks.adapters.hf import CountermarkConfig
from watermarks.schemes import Gumbel, Kgw, Tournament

if TYPE_CHECKING:
    from watermarks.schemes import Scheme

pytestmark = pytest.mark.slow

KGW = Kgw(gamma=0.25, delta=3.0, context_width=2)
SAMPLING: dict[str, Any] = {"do_sample": True, "top_k": 50}
GREEDY: dict[str, Any] = {"do_sample": False}
BEAMS: dict[str, Any] = {"do_sample": False, "num_beams": 2}
PROMPTS = ["The weather in the mountains", "A short history of paper making in Italy begins", "My neighbour's dog"]


@pytest.fixture(scope="module")
def loaded() -> tuple[Any, Any]:
    folder = resolve_model("embedded:smollm2-135m-instruct").path
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    return AutoModelForCausalLM.from_pretrained(folder, dtype=libraries.reading_dtype()).eval(), tokenizer


def _subkey(scheme: Scheme, key: str = "mine") -> bytes:
    return key_of(key).token_subkey(scheme=scheme.name, params=scheme.params(), tokenizer="smollm2", scope="test")


def _generate(loaded: tuple[Any, Any], scheme: Scheme, **how: Any) -> list[list[int]]:
    model, tokenizer = loaded
    config = CountermarkConfig.from_key(scheme, _subkey(scheme), key_id="ck_test")
    inputs = tokenizer(PROMPTS, padding=True, return_tensors="pt")
    output = model.generate(**inputs, watermarking_config=config, min_new_tokens=50, max_new_tokens=50, **how)
    return output[:, inputs["input_ids"].shape[1] :].tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("scheme", "how"),
    [(KGW, SAMPLING), (KGW, GREEDY), (KGW, BEAMS), (Gumbel(), SAMPLING), (Tournament(), SAMPLING)],
    ids=["kgw sampled", "kgw greedy", "kgw beams", "gumbel", "tournament"],
)
def test_marked_text_is_found_and_only_under_its_key(
    loaded: tuple[Any, Any], scheme: Scheme, how: dict[str, Any]
) -> None:
    torch.manual_seed(3)
    texts = _generate(loaded, scheme, **how)
    _, corpus = detect(texts, scheme, _subkey(scheme))
    assert corpus.log10_p is not None
    assert corpus.log10_p < -6
    assert corpus.scored > 40
    _, other = detect(texts, scheme, _subkey(scheme, "other"))
    assert other.log10_p is not None
    assert other.log10_p > -4


@pytest.mark.parametrize("scheme", [Gumbel(), Tournament()], ids=["gumbel", "tournament"])
@pytest.mark.parametrize("how", [GREEDY, BEAMS], ids=["greedy", "beams"])
def test_schemes_that_sample_refuse_to_search(loaded: tuple[Any, Any], scheme: Scheme, how: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="needs sampled tokens") as caught:
        _generate(loaded, scheme, **how)
    assert "do_sample=True" in caught.value.hint


def test_the_config_serialises_without_key_bytes_and_a_copy_refuses() -> None:
    subkey = _subkey(KGW)
    config = CountermarkConfig.from_key(KGW, subkey, key_id="ck_test")
    text = config.to_json_string() + repr(config) + json.dumps(config.to_dict())
    assert subkey.hex() not in text
    assert "ck_test" in text
    copy = CountermarkConfig(scheme="kgw", params=KGW.params(), key_id="ck_test", handle=10**6)
    with pytest.raises(UsageError, match="without its key"):
        copy.construct_processor(100)
