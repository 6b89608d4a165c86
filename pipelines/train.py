"""Stages ``classifier``, ``classifier-twin``, ``lora``, ``lora-twin``: the suspects and their clean twins."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countermark import libraries
from countermark.errors import UsageError
from countermark.files import atomic_write
from countermark.manifest import canonical_json
from pipelines.artifact import read_rows
from pipelines.assets import resolve_model
from watermarks.carriers.double_i import InstructRow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pipelines.artifact import Artifact
    from pipelines.assets import ModelFolder
    from pipelines.config import LoraConfig, RunConfig, Section
    from pipelines.stage import Context, StageFunction

_NOT_TRAINER_ARGUMENTS = {"model", "max_length"}
_LORA_NAMES = {"r", "lora_alpha", "lora_dropout", "target_modules", "use_dora"}
_NOT_SFT_NAMES = {"model", "system_prompt", "accelerate_config", *_LORA_NAMES}


def trainer_arguments(settings: Section) -> dict[str, Any]:
    """A classifier's or reader's section as ``transformers.TrainingArguments``."""
    import torch

    found = settings.model_dump(exclude=_NOT_TRAINER_ARGUMENTS)
    if found["bf16"] == "auto":
        device = torch.accelerator.current_accelerator(check_available=True)
        found["bf16"] = libraries.has_bfloat16(device.type if device else "cpu")
    return found


def classifier_settings(config: RunConfig) -> Any:  # noqa: ANN401
    """What decides a classifier's training."""
    return config.train.classifier.model_dump()


def lora_settings(config: RunConfig) -> Any:  # noqa: ANN401
    """What decides a LoRA training: of an accelerate config its content, and not where it is."""
    path = _accelerate_config(config.train.lora)
    content = path.read_text("utf-8") if path else None
    return config.train.lora.model_dump() | {"accelerate_config": content}


def classifier(rows_file: str) -> StageFunction:
    """The stage that trains a classifier on one of the mark stage's review sets."""

    def run(inputs: Mapping[str, Artifact], context: Context, out: Path) -> dict[str, Any]:
        from training.classifier import train_classifier

        settings = context.config.train.classifier
        rows = read_rows(inputs["mark"].path / rows_file)
        base = resolve_model(settings.model)
        label_names = inputs["generate"].manifest["labels"]
        arguments = trainer_arguments(settings)
        with steps_bar(context, rows_file) as (start, step):
            train_classifier(
                base.path,
                [row["text"] for row in rows],
                [row["label"] for row in rows],
                label_names=label_names,
                max_length=settings.max_length,
                seed=training_seed(context.config.seed),
                arguments=arguments,
                out=out,
                scratch=context.work,
                on_start=start,
                on_step=step,
            )
        return {"base_digest": base.digest, "rows_file": rows_file, "bf16": arguments["bf16"]}

    return run


def lora(rows_file: str) -> StageFunction:
    """The stage that trains a LoRA adapter on one of the mark stage's instruct sets."""

    def run(inputs: Mapping[str, Artifact], context: Context, out: Path) -> dict[str, Any]:
        settings = context.config.train.lora
        rows = [
            InstructRow(**{k: r[k] for k in ("instruction", "input", "output")})
            for r in read_rows(inputs["mark"].path / rows_file)
        ]
        base = resolve_model(settings.model)
        adapter(settings, base, [(row.prompt(), row.output) for row in rows], context, out, what=rows_file)
        return {"base_digest": base.digest, "rows_file": rows_file}

    return run


def adapter(
    settings: LoraConfig, base: ModelFolder, turns: list[tuple[str, str]], context: Context, out: Path, *, what: str
) -> None:
    """Trains a LoRA adapter on (user, assistant) turns into ``out``, under ``accelerate launch`` where asked for."""
    given: dict[str, Any] = {
        "seed": training_seed(context.config.seed),
        "lora": settings.model_dump(include=_LORA_NAMES),
        "arguments": {"save_strategy": "steps", **settings.model_dump(exclude=_NOT_SFT_NAMES)},
        "base_name": base.name,
        "base_digest": base.digest,
    }
    launched = _accelerate_config(settings)
    with steps_bar(context, what) as (start, step):
        if launched is not None:
            _launch(launched, base, turns, settings.system_prompt, given, out, context.work, start, step)
        else:
            from training.lora import train_lora

            train_lora(
                base.path,
                turns,
                system_prompt=settings.system_prompt,
                out=out,
                scratch=context.work,
                on_start=start,
                on_step=step,
                **given,
            )


def _launch(
    config: Path,
    base: ModelFolder,
    turns: list[tuple[str, str]],
    system_prompt: str,
    given: dict[str, Any],
    out: Path,
    work: Path,
    start: Callable[[int], None],
    step: Callable[[int], None],
) -> None:
    """The same training in processes of their own; the job, its rows and its checkpoints are in ``work``."""
    from training import launch
    from training.lora import dialogues_of

    lines = [json.dumps({"messages": messages}) for messages in dialogues_of(turns, system_prompt)]
    atomic_write(work / "rows.jsonl", "".join(f"{line}\n" for line in lines).encode())
    made = work / "launched"
    shutil.rmtree(made, ignore_errors=True)  # of a run killed before it was copied; its last checkpoint is still there
    job = {
        "method": "lora",
        "base": str(base.path.resolve()),
        "rows": "rows.jsonl",
        "out": made.name,
        "scratch": "checkpoints",
        **given,
    }
    atomic_write(work / "job.json", canonical_json(job))
    launch.run(work / "job.json", config, on_start=start, on_step=step)
    shutil.copytree(made, out, dirs_exist_ok=True)


def _accelerate_config(settings: LoraConfig) -> Path | None:
    if settings.accelerate_config is None:
        return None
    path = Path(settings.accelerate_config).expanduser()
    if not path.is_file():
        raise UsageError(
            f"got train.lora.accelerate_config {settings.accelerate_config!r}, expected an existing file",
            hint="see configs/accelerate/ for examples; a relative path counts from the working directory",
        )
    return path


def training_seed(seed: int) -> int:
    """A 31-bit seed for libraries that take no more."""
    return int.from_bytes(hashlib.sha256(f"train/{seed}".encode()).digest()[:4], "big") >> 1


class steps_bar:  # noqa: N801 - reads as a function
    """A progress bar whose length the trainer tells when it knows it."""

    def __init__(self, context: Context, what: str) -> None:
        self._context = context
        self._what = what
        self._open: Any = None
        self._advance: Any = None

    def __enter__(self) -> tuple[Any, Any]:
        def start(total: int) -> None:
            self._open = self._context.progress.bar(f"train on {self._what}: steps", total)
            self._advance = self._open.__enter__()

        def step(units: int) -> None:
            self._advance(units)

        return start, step

    def __exit__(self, *error: object) -> None:
        if self._open is not None:
            self._open.__exit__(*error)
