"""What is to be trained: one frozen value, checked before any model is loaded."""

from __future__ import annotations

import dataclasses
import difflib
import importlib.util
from typing import TYPE_CHECKING, Any, Literal, get_args

import rfc8785

from countermark.errors import MissingAssetError, UsageError
from countermark.manifest import canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

Message = dict[str, str]
Method = Literal["lora", "full"]
Quantization = Literal["none", "nf4", "int8"]
Dtype = Literal["bfloat16", "float32"]
Loaded = Literal["auto", "bfloat16", "float32"]

_RESERVED = {
    "output_dir": "give the folder as scratch",
    "seed": "give the seed to the job",
    "data_seed": "give the seed to the job",
    "completion_only_loss": "the loss always counts the last message only",
    "resume_from_checkpoint": "resuming is automatic from scratch",
    "save_only_model": "a checkpoint without optimizer cannot be resumed",
    "save_on_each_node": "scratch is one folder that all processes share",
    "chat_template_path": "give the template's text as chat_template",
    "model_init_kwargs": "the job's dtype and quantization decide how the base is loaded",
    "push_to_hub": "the finished folder can be pushed with huggingface_hub",
    "load_best_model_at_end": "there is no evaluation set; the last weights are published",
    "eval_strategy": "there is no evaluation set",
    "do_eval": "there is no evaluation set",
    "deepspeed": "sharded training is not covered by the checkpoints",
    "fsdp": "sharded training is not covered by the checkpoints",
    "fsdp_config": "sharded training is not covered by the checkpoints",
    "parallelism_config": "sharded training is not covered by the checkpoints",
}
_RESERVED_LORA = {"task_type": "it is always CAUSAL_LM", "inference_mode": "an adapter is trained"}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """One fine-tuning of a causal language model.

    Args:
        method: ``lora`` (an adapter folder) or ``full`` (a model folder).
        base: folder of the base model.
        base_name: its public name, for the card.
        base_digest: SHA-256 that identifies its bytes, for the card.
        dialogues: chats of ``{"role", "content"}``; the last message is the assistant's, and alone enters the loss.
        seed: of everything random.
        arguments: ``trl.SFTConfig``'s names.
        lora: ``peft.LoraConfig``'s names.
        quantization: of the frozen base under LoRA; other than ``none`` needs CUDA and bitsandbytes.
        dtype: in which the base is loaded. ``auto`` is bfloat16 where the machine multiplies in it, else float32;
            ``full`` should take ``float32``, since bfloat16 loses small updates.
        save_dtype: in which ``full`` publishes its weights.
        chat_template: Jinja text; None takes the tokenizer's own, or the shipped Alpaca one where it has none.
    """

    method: Method
    base: Path
    base_name: str
    base_digest: str
    dialogues: Sequence[Sequence[Mapping[str, str]]]
    seed: int
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    lora: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    quantization: Quantization = "none"
    dtype: Loaded = "auto"
    save_dtype: Dtype = "bfloat16"
    chat_template: str | None = None


def check(job: TrainingJob) -> None:
    """Refuses what cannot be trained, before any work.

    Raises:
        UsageError: a name, value or dialogue is wrong. MissingAssetError: the base, CUDA or bitsandbytes is not there.
    """
    for name, value, kind in (
        ("method", job.method, Method),
        ("quantization", job.quantization, Quantization),
        ("dtype", job.dtype, Loaded),
        ("save_dtype", job.save_dtype, Dtype),
    ):
        one_of(name, value, get_args(kind))
    if not job.base.is_dir():
        raise MissingAssetError(f"got no folder {job.base}, expected the base model", hint="check the job's base")
    if not 0 <= job.seed < 1 << 31:
        raise UsageError(f"got seed {job.seed}, expected 0 to 2**31 - 1", hint="libraries take no larger seed")
    _check_names(job)
    _check_dialogues(job.dialogues)
    _check_quantization(job)


def one_of(name: str, value: object, known: Iterable[str]) -> None:
    """Refuses a value that is not among the known ones, naming the nearest."""
    known = list(known)
    if value not in known:
        near = difflib.get_close_matches(str(value), known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
        raise UsageError(f"got {name} {value!r}, expected one of: {', '.join(known[:8])}", hint=hint)


def checked_arguments(given: Mapping[str, Any], config: type, what: str, reserved: Mapping[str, str]) -> None:
    """Refuses names ``config`` (a dataclass) does not know or that are not the caller's, and numbers of another kind.

    Raises:
        UsageError: the name is in the message, the nearest valid one in the hint.
    """
    fields = {field.name: field for field in dataclasses.fields(config) if field.init}
    for name, value in given.items():
        if name in reserved:
            raise UsageError(f"got {what} {name!r}, expected it to be left out", hint=reserved[name])
        if name not in fields:
            near = difflib.get_close_matches(name, sorted(set(fields) - set(reserved)), n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"see the documentation of {config.__name__}"
            raise UsageError(f"got an unknown {what} {name!r}, expected a name of {config.__name__}", hint=hint)
        default = fields[name].default
        if isinstance(default, bool) and not isinstance(value, bool):
            raise UsageError(f"got {name}={value!r}, expected true or false", hint=f"change {what} {name!r}")
        # an int default may take a share (save_steps, warmup_steps), so a number is asked for, not an int
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if type(default) in {int, float} and value is not None and not number:
            raise UsageError(f"got {name}={value!r}, expected a number", hint=f"change {what} {name!r}")
    try:
        canonical_json(dict(given))
    except (rfc8785.CanonicalizationError, ValueError) as error:
        raise UsageError(
            f"got {what}s that JSON cannot hold ({error}), expected numbers, strings, lists and objects",
            hint="NaN, infinities and Python objects have no place in a training's manifest",
        ) from None


def _check_names(job: TrainingJob) -> None:
    from peft import LoraConfig
    from trl import SFTConfig

    checked_arguments(job.arguments, SFTConfig, "argument", _RESERVED)
    checked_arguments(job.lora, LoraConfig, "lora argument", _RESERVED_LORA)
    if job.method == "full" and job.lora:
        raise UsageError("got lora arguments with method 'full', expected none", hint="use method 'lora'")


def _check_dialogues(dialogues: Sequence[Sequence[Mapping[str, str]]]) -> None:
    if not dialogues:
        raise UsageError("got no dialogues, expected at least one", hint="give rows with a column 'messages'")
    for index, dialogue in enumerate(dialogues):
        problem = _dialogue_problem(dialogue)
        if problem:
            raise UsageError(
                f"dialogue {index}: got {problem}",
                hint='a dialogue is a list of {"role": …, "content": …} that ends with the assistant\'s answer',
            )


def _dialogue_problem(dialogue: Sequence[Mapping[str, str]]) -> str | None:
    if not isinstance(dialogue, list | tuple) or len(dialogue) < 2:  # noqa: PLR2004 - a prompt and an answer
        return "fewer than two messages, expected a prompt and an answer"
    for message in dialogue:
        if not isinstance(message, dict) or set(message) != {"role", "content"}:
            return "a message of another shape, expected role and content"
        if not all(isinstance(value, str) for value in message.values()):
            return "a role or content that is no text, expected strings"
    if dialogue[-1]["role"] != "assistant":
        return f"a last message by {dialogue[-1]['role']!r}, expected 'assistant'"
    return None


def _check_quantization(job: TrainingJob) -> None:
    if job.quantization == "none":
        return
    if job.method == "full":
        raise UsageError(
            f"got quantization {job.quantization!r} with method 'full', expected 'none'",
            hint="quantized weights cannot be trained; use method 'lora'",
        )
    import torch

    missing = [
        name
        for name, there in (
            ("a CUDA device", torch.cuda.is_available()),
            ("bitsandbytes", importlib.util.find_spec("bitsandbytes") is not None),
        )
        if not there
    ]
    if missing:
        raise MissingAssetError(
            f"got quantization {job.quantization!r} without {' and '.join(missing)}, expected both on this machine",
            hint="set quantization to 'none', or `pip install bitsandbytes` on a machine with an NVIDIA GPU",
        )
