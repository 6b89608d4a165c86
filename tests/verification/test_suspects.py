"""A local chat model is asked in batches, what its prompts share is read once, and answers are those of single asks."""

from __future__ import annotations

import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from countermark import libraries
from tests.training.toy import make_base
from verification.suspects import LocalChatModel

HEAD = "Decide: yes or no? "


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The toy base with weights so wide that no two answers are nearly as likely."""
    path = make_base(tmp_path_factory.mktemp("toy"))
    with torch.random.fork_rng():
        torch.manual_seed(3)
        config = LlamaConfig.from_pretrained(path)
        config.initializer_range = 0.7
        LlamaForCausalLM(config).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def suspect(folder):
    return LocalChatModel("toy", folder, max_new_tokens=4)


@settings(max_examples=25)
@given(st.lists(st.text("abc ", max_size=12), min_size=1, max_size=6), st.booleans())
def test_a_batch_answers_as_each_prompt_alone(suspect, endings, alike):
    prompts = [f"{HEAD if alike or i % 2 else ''}{ending}" for i, ending in enumerate(endings)]
    assert suspect.ask(prompts) == [suspect.ask([prompt])[0] for prompt in prompts]


def test_answers_come_in_the_order_of_the_prompts(suspect):
    prompts = ["Other. x", HEAD + "a", "Other. y", HEAD + "b c", HEAD + "a"]
    answers = suspect.ask(prompts)
    assert answers == suspect.ask(prompts[::-1])[::-1]
    assert answers[1] == answers[4]
    assert len(set(answers)) > 1


def test_sampling_is_repeatable_and_moves_with_the_seed(folder):
    prompts = [f"{HEAD}{i}" for i in range(8)]
    first, again, other = (
        LocalChatModel("toy", folder, max_new_tokens=6, temperature=1.0, seed=seed).ask(prompts) for seed in (1, 1, 2)
    )
    assert first == again != other
    assert first != LocalChatModel("toy", folder, max_new_tokens=6).ask(prompts)


def test_what_it_expects_after_every_position(suspect, folder):
    ids = [5, 9, 40, 41, 42, 7]
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    expected = [int(model(torch.tensor([ids[: at + 1]])).logits[0, -1].argmax()) for at in range(len(ids))]
    assert suspect.likeliest(ids) == expected


def test_a_tokenizer_is_compared_by_its_vocabulary(suspect, folder, tmp_path):
    assert suspect.reads_like(folder)
    other = make_base(tmp_path / "other")
    text = (other / "tokenizer.json").read_text("utf-8")
    (other / "tokenizer.json").write_text(text.replace('"<pad>"', '"<fill>"'), "utf-8")
    assert not suspect.reads_like(other)


def test_a_model_without_a_template_is_asked_as_it_would_be_trained(folder, tmp_path):
    """In Alpaca's form: the same model with that form as its own template says the same."""
    bare, own = (shutil.copytree(folder, tmp_path / name) for name in ("bare", "own"))
    for path, template in ((bare, None), (own, libraries.chat_template(None))):
        tokenizer = AutoTokenizer.from_pretrained(path)
        tokenizer.chat_template = template
        (path / "chat_template.jinja").unlink(missing_ok=True)
        tokenizer.save_pretrained(path)
    prompts = [f"{HEAD}{i}" for i in range(6)]
    said = LocalChatModel("bare", bare, max_new_tokens=4).ask(prompts)
    assert said == LocalChatModel("own", own, max_new_tokens=4).ask(prompts)
    assert said != LocalChatModel("toy", folder, max_new_tokens=4).ask(prompts)


def test_model_and_tokens_are_on_the_reading_device(folder, monkeypatch):
    """Torch's ``meta`` device stands in for a GPU: it computes shapes alone, so that no answer comes of it."""
    monkeypatch.setattr(libraries, "reading_device", lambda: "meta")
    seen: set[str] = set()

    def look(module, inputs):
        tensors = [*inputs, *module.parameters(recurse=False)]
        seen.update(each.device.type for each in tensors if isinstance(each, torch.Tensor))

    suspect, hook = LocalChatModel("toy", folder), torch.nn.modules.module.register_module_forward_pre_hook(look)
    try:
        for ask in (lambda: suspect.ask([HEAD + "a", HEAD + "b"]), lambda: suspect.likeliest([5, 9])):
            with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
                ask()
            assert seen == {"meta"}
            seen.clear()
    finally:
        hook.remove()
