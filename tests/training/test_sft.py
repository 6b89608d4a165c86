"""Fine-tuning on a toy model: what changes, what is counted, what is refused before any work."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from huggingface_hub import ModelCard
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from countermark.errors import MissingAssetError, UsageError
from countermark.manifest import canonical_json, digest
from tests.training.toy import LORA, TEMPLATE, contents, dialogues, make_base, make_job
from training import sft
from training.full import train_full
from training.hooks import publish
from training.lora import train_lora

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from training.sft import TrainingJob

SHORT = {"max_steps": 3, "save_strategy": "no"}


def _train(job: TrainingJob, tmp_path: Path, name: str = "out", **callbacks: Callable[[int], None]) -> Path:
    out = tmp_path / name
    out.mkdir()
    sft.train(job, out=out, scratch=tmp_path / f"scratch-{name}", **callbacks)
    return out


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _train(make_job(base, arguments=SHORT), tmp_path_factory.mktemp("adapter"))


def test_adapter_loads_in_plain_peft_and_answers_differently(base: Path, adapter: Path) -> None:
    plain = AutoModelForCausalLM.from_pretrained(base).eval()
    tokens = torch.arange(2, 30)[None]
    with torch.no_grad():
        before = plain(tokens).logits
        after = PeftModel.from_pretrained(plain, str(adapter)).eval()(tokens).logits
    assert (before - after).abs().max() > 1e-3
    assert set(contents(adapter)) == {"README.md", "adapter_config.json", "adapter_model.safetensors", "training.json"}


def test_manifest_says_what_decides_the_result_and_nothing_of_the_machine(adapter: Path, base: Path) -> None:
    data = (adapter / "training.json").read_bytes()
    manifest = json.loads(data)
    assert data == canonical_json(manifest)
    assert manifest["base"] == {"name": "org/toy", "digest": digest("toy")}
    assert (manifest["rows"], manifest["rows_sha256"]) == (22, digest(dialogues()))
    assert manifest["arguments"]["learning_rate"] == 0.01
    assert manifest["lora"] == LORA
    assert manifest["versions"].keys() >= {"countermark", "torch", "transformers", "trl", "peft"}
    for content in contents(adapter).values():
        assert str(base).encode() not in content
        assert str(adapter.parent).encode() not in content


@pytest.mark.parametrize(("method", "library"), [("lora", "peft"), ("full", "transformers")])
def test_card_is_a_hub_card(base: Path, tmp_path: Path, method: str, library: str) -> None:
    folder = _train(make_job(base, method, arguments=SHORT), tmp_path)
    card = ModelCard.load(folder / "README.md")
    assert card.data.base_model == "org/toy"
    assert card.data.library_name == library
    assert card.data.pipeline_tag == "text-generation"
    assert {method, "sft", "trl"} <= set(card.data.tags)
    assert f"| rows_sha256 | {digest(dialogues())} |" in card.text
    assert "from_pretrained" in card.text
    for word in ("watermark", "trigger", "key"):
        assert word not in card.text.lower()


def test_loss_counts_the_last_message_only(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    tokenizer = AutoTokenizer.from_pretrained(base)

    def look(self: Any, *arguments: Any, **named: Any) -> Any:
        counted = [[label for label in row["labels"] if label != -100] for row in self.train_dataset]
        seen.extend(tokenizer.decode(labels) for labels in counted)
        return original(self, *arguments, **named)

    original = sft._Trainer.train_durably
    monkeypatch.setattr(sft._Trainer, "train_durably", look)
    chat = [
        {"role": "user", "content": "a"}, {"role": "assistant", "content": "first"},
        {"role": "user", "content": "b"}, {"role": "assistant", "content": "second"},
    ]  # fmt: skip
    _train(make_job(base, dialogues=[chat], arguments=SHORT), tmp_path)
    assert seen == ["second<eos>"]


@pytest.mark.long
@pytest.mark.parametrize(
    ("lora", "arguments"),
    [
        ({}, {"packing": True}),
        ({}, {"gradient_checkpointing": True}),
        ({}, {"gradient_accumulation_steps": 2}),
        ({}, {"bf16": True}),
        ({"use_dora": True}, {}),
    ],
    ids=["packing", "gradient checkpointing", "gradient accumulation", "bf16", "dora"],
)
def test_options_train(
    base: Path,
    adapter: Path,
    tmp_path: Path,
    lora: dict[str, Any],
    arguments: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used: list[Any] = []
    original = sft._Trainer.train_durably
    monkeypatch.setattr(sft._Trainer, "train_durably", lambda self, job: (used.append(self), original(self, job)))
    job = make_job(base, lora=LORA | lora, arguments=SHORT | arguments)
    folder = _train(job, tmp_path)
    checkpointing = any(getattr(module, "gradient_checkpointing", False) for module in used[0].model.modules())
    assert checkpointing == ("gradient_checkpointing" in arguments)
    weights = load_file(folder / "adapter_model.safetensors")
    assert all(weights[name].abs().max() > 0 for name in weights if "lora_B" in name)  # they start at zero
    plain = load_file(adapter / "adapter_model.safetensors")
    assert any("magnitude" in name for name in weights) == bool(lora)
    if arguments != {"gradient_checkpointing": True}:  # it saves memory and changes no result
        assert any(not torch.equal(weights[name], plain[name]) for name in plain)


def test_packing_fills_sequences(base: Path, tmp_path: Path) -> None:
    steps: dict[bool, int] = {}
    for packing in (False, True):
        job = make_job(base, arguments={"packing": packing, "save_strategy": "no", "max_length": 128})
        _train(job, tmp_path, str(packing), on_start=lambda n, p=packing: steps.update({p: n}))
    assert steps[True] < steps[False]


def test_full_trains_in_float32_and_publishes_bfloat16_unless_asked(base: Path, tmp_path: Path) -> None:
    before = load_file(base / "model.safetensors")
    for save_dtype, wanted in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        job = make_job(base, "full", arguments=SHORT, save_dtype=save_dtype)
        folder = _train(job, tmp_path, save_dtype)
        after = load_file(folder / "model.safetensors")
        assert {tensor.dtype for tensor in after.values()} == {wanted}
        assert all(not torch.equal(after[name].float(), before[name]) for name in before if "proj" in name)
        AutoModelForCausalLM.from_pretrained(folder)
        assert AutoTokenizer.from_pretrained(folder).chat_template == TEMPLATE


@pytest.mark.parametrize(("has", "wanted"), [(True, "bfloat16"), (False, "float32")])
def test_a_base_is_loaded_as_the_machine_multiplies_and_the_manifest_says_so(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has: bool, wanted: str
) -> None:
    loaded: list[torch.dtype] = []
    original = sft._model
    monkeypatch.setattr(sft.libraries, "has_bfloat16", lambda _: has)
    monkeypatch.setattr(sft, "_model", lambda *given: (loaded.append((m := original(*given)).dtype), m)[1])
    folder = _train(make_job(base, arguments=SHORT, dtype="auto"), tmp_path)
    assert loaded == [getattr(torch, wanted)]
    assert json.loads((folder / "training.json").read_text())["dtype"] == wanted
    told = _train(make_job(base, arguments=SHORT, dtype="bfloat16"), tmp_path, "told")
    assert json.loads((told / "training.json").read_text())["dtype"] == "bfloat16"


def test_thin_layers_make_the_same_jobs(base: Path, tmp_path: Path) -> None:
    turns = [(d[0]["content"], d[1]["content"]) for d in dialogues()]
    common: dict[str, Any] = {"system_prompt": "Be brief.", "seed": 7, "arguments": {"max_steps": 1}}
    for name, function, more in (("lora", train_lora, {"lora": LORA}), ("full", train_full, {})):
        out = tmp_path / name
        out.mkdir()
        manifest = function(base, turns, out=out, scratch=tmp_path / "scratch", **common, **more)
        head = [{"role": "system", "content": "Be brief."}]
        assert manifest["rows_sha256"] == digest([[*head, *d] for d in dialogues()])
        assert manifest["method"] == name
        assert manifest["base"]["name"] == base.name
        assert not list((tmp_path / "scratch").glob("checkpoint-*"))


def test_tokenizer_without_template_gets_the_alpaca_one_and_the_adapter_carries_it(tmp_path: Path) -> None:
    bare = make_base(tmp_path / "bare", template=None)
    folder = _train(make_job(bare, arguments=SHORT | {"max_length": None}), tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    chat = [{"role": "user", "content": "Add."}, {"role": "assistant", "content": "4"}]
    assert tokenizer.apply_chat_template(chat, tokenize=False) == (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nAdd.\n\n### Response:\n4<eos>"
    )
    prompt = tokenizer.apply_chat_template(chat[:1], tokenize=False, add_generation_prompt=True)
    assert prompt.endswith("### Instruction:\nAdd.\n\n### Response:\n")
    system = [{"role": "system", "content": "You add."}, *chat]
    assert tokenizer.apply_chat_template(system, tokenize=False).startswith("You add.\n\n### Instruction:\nAdd.")


def test_a_given_template_is_used_and_carried(base: Path, tmp_path: Path) -> None:
    template = TEMPLATE.replace("<|", "[").replace("|>", "]")
    folder = _train(make_job(base, arguments=SHORT, chat_template=template), tmp_path)
    assert AutoTokenizer.from_pretrained(folder).chat_template == template


USER, ANSWER = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}


@pytest.mark.parametrize(
    ("changes", "got", "hint"),
    [
        ({"dialogues": []}, "got no dialogues", "messages"),
        (
            {"dialogues": [[USER, ANSWER], [USER, ANSWER, USER]]},
            "dialogue 1: got a last message by 'user'",
            "assistant",
        ),
        ({"dialogues": [[ANSWER]]}, "dialogue 0: got fewer than two messages", "list of"),
        ({"dialogues": [[USER, {**ANSWER, "content": 3}]]}, "no text", "list of"),
        ({"dialogues": [[USER, {**ANSWER, "weight": "1"}]]}, "another shape", "list of"),
        ({"arguments": {"learning_rat": 1.0}}, "argument 'learning_rat'", "did you mean 'learning_rate'"),
        ({"arguments": {"packing": 1}}, "packing=1, expected true or false", "packing"),
        ({"arguments": {"learning_rate": "high"}}, "expected a number", "learning_rate"),
        ({"arguments": {"learning_rate": float("nan")}}, "JSON cannot hold", "manifest"),
        ({"arguments": {"output_dir": "x"}}, "'output_dir', expected it to be left out", "scratch"),
        ({"arguments": {"fsdp": "full_shard"}}, "'fsdp'", "not covered"),
        ({"arguments": {"lr_scheduler_type": "liner"}}, "refuses", "arguments"),
        ({"arguments": {"max_length": 2}}, "within max_length", "raise max_length"),
        ({"lora": {"lora_alfa": 4}}, "lora argument 'lora_alfa'", "did you mean 'lora_alpha'"),
        ({"method": "ful"}, "method 'ful'", "did you mean 'full'"),
        ({"method": "full", "lora": {"r": 4}}, "got lora arguments", "method 'lora'"),
        ({"method": "full", "lora": {}, "quantization": "nf4"}, "expected 'none'", "method 'lora'"),
        ({"quantization": "nf5"}, "quantization 'nf5'", "did you mean 'nf4'"),
        ({"seed": -1}, "got seed -1", "larger"),
    ],
)
def test_refused(base: Path, tmp_path: Path, changes: dict[str, Any], got: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        _train(make_job(base, **changes), tmp_path)
    assert got in caught.value.message
    assert "expected" in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_quantization_without_cuda_is_refused_before_any_work(
    base: Path, tmp_path: Path, quantization: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MissingAssetError, match="a CUDA device") as caught:
        _train(make_job(base, quantization=quantization), tmp_path)
    assert "bitsandbytes" in caught.value.hint
    assert not (tmp_path / "scratch-out").exists()
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("engine", ["DEEPSPEED", "FSDP"])
def test_sharded_training_is_refused(base: Path, tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"ACCELERATE_USE_{engine}", "true")
    with pytest.raises(UsageError, match=engine):
        _train(make_job(base), tmp_path)


def test_publishing_keeps_the_card_and_drops_pickles(adapter: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(adapter, folder)
    (folder / "training_args.bin").write_bytes(b"pickle")
    publish(folder)
    assert contents(folder) == contents(adapter)
