"""Stages ``classifier``, ``classifier-twin``, ``lora``, ``lora-twin``: the suspects and their clean twins."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from pipelines.artifact import read_rows
from pipelines.assets import resolve_model
from watermarks.carriers.double_i import InstructRow

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pipelines.artifact import Artifact
    from pipelines.config import RunConfig
    from pipelines.stage import Context, StageFunction

_NOT_TRAINER_ARGUMENTS = {"model", "max_length"}
_LORA_NAMES = {"r", "lora_alpha", "lora_dropout", "target_modules"}


def classifier_settings(config: RunConfig) -> Any:  # noqa: ANN401
    """What decides a classifier's training."""
    return config.train.classifier.model_dump()


def lora_settings(config: RunConfig) -> Any:  # noqa: ANN401
    """What decides a LoRA training."""
    return config.train.lora.model_dump()


def classifier(rows_file: str) -> StageFunction:
    """The stage that trains a classifier on one of the mark stage's review sets."""

    def run(inputs: Mapping[str, Artifact], context: Context, out: Path) -> dict[str, Any]:
        from training.classifier import train_classifier

        settings = context.config.train.classifier
        rows = read_rows(inputs["mark"].path / rows_file)
        base = resolve_model(settings.model)
        label_names = inputs["generate"].manifest["labels"]
        with _bar(context, rows_file) as (start, step):
            train_classifier(
                base.path,
                [row["text"] for row in rows],
                [row["label"] for row in rows],
                label_names=label_names,
                max_length=settings.max_length,
                seed=training_seed(context.config.seed),
                arguments=settings.model_dump(exclude=_NOT_TRAINER_ARGUMENTS),
                out=out,
                scratch=context.work,
                on_start=start,
                on_step=step,
            )
        return {"base_digest": base.digest, "rows_file": rows_file}

    return run


def lora(rows_file: str) -> StageFunction:
    """The stage that trains a LoRA adapter on one of the mark stage's instruct sets."""

    def run(inputs: Mapping[str, Artifact], context: Context, out: Path) -> dict[str, Any]:
        from training.lora import train_lora

        settings = context.config.train.lora
        rows = [
            InstructRow(**{k: r[k] for k in ("instruction", "input", "output")})
            for r in read_rows(inputs["mark"].path / rows_file)
        ]
        base = resolve_model(settings.model)
        names = settings.model_dump(exclude={"model", "system_prompt"})
        with _bar(context, rows_file) as (start, step):
            train_lora(
                base.path,
                [(row.prompt(), row.output) for row in rows],
                system_prompt=settings.system_prompt,
                seed=training_seed(context.config.seed),
                lora={k: v for k, v in names.items() if k in _LORA_NAMES},
                arguments={k: v for k, v in names.items() if k not in _LORA_NAMES},
                out=out,
                scratch=context.work,
                on_start=start,
                on_step=step,
            )
        return {"base_digest": base.digest, "rows_file": rows_file}

    return run


def training_seed(seed: int) -> int:
    """A 31-bit seed for libraries that take no more."""
    return int.from_bytes(hashlib.sha256(f"train/{seed}".encode()).digest()[:4], "big") >> 1


class _bar:  # noqa: N801 - reads as a function
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
