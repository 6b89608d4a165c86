"""Suspects of a dataset release and their clean twins: the same training on marked and on unmarked rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipelines import train
from pipelines.assets import resolve_model
from pipelines.dataset.auditing import released_rows
from pipelines.dataset.marking import dataset_config
from pipelines.dataset.rows import open_source, texts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pipelines.artifact import Artifact
    from pipelines.dataset.config import DatasetConfig
    from pipelines.dataset.rows import Stream
    from pipelines.stage import Context, StageFunction

TWIN = "-twin"


def kinds(config: DatasetConfig) -> list[str]:
    """The kinds of suspects that the config trains, in order."""
    return [name for name in ("classifier", "linear", "reader", "lora") if getattr(config.train, name) is not None]


def settings(kind: str) -> Any:  # noqa: ANN401
    """What decides a suspect's training."""

    def of(config: Any) -> Any:  # noqa: ANN401
        body: dict[str, Any] = getattr(config.train, kind).model_dump()
        return body

    return of


def suspect(kind: str, *, twin: bool) -> StageFunction:
    """The stage that trains a suspect on the release, or its twin on the base data."""

    def run(inputs: Mapping[str, Artifact], context: Context, out: Path) -> dict[str, Any]:
        config = dataset_config(context)
        rows: Stream = open_source(config) if twin else released_rows(inputs["release"])
        return {"kind": kind, **_TRAINERS[kind](rows, context, out)}

    return run


def _classifier(rows: Stream, context: Context, out: Path) -> dict[str, Any]:
    from training.classifier import train_classifier

    config, found, codes, names = _labelled(rows, context)
    wanted = config.train.classifier
    base = resolve_model(wanted.model)  # type: ignore[union-attr]
    arguments = train.trainer_arguments(wanted)  # type: ignore[arg-type]
    with train.steps_bar(context, "the dataset") as (start, step):
        train_classifier(
            base.path, found, codes, label_names=names, max_length=wanted.max_length,  # type: ignore[union-attr]
            seed=train.training_seed(config.seed),
            arguments=arguments,
            out=out, scratch=context.work, on_start=start, on_step=step,
        )  # fmt: skip
    return {"base_digest": base.digest, "bf16": arguments["bf16"]}


def _linear(rows: Stream, context: Context, out: Path) -> dict[str, Any]:
    from training.linear import train_linear

    config, found, codes, names = _labelled(rows, context)
    wanted = config.train.linear
    if wanted is not None:
        train_linear(
            found, codes, label_names=names, seed=train.training_seed(config.seed), out=out, ngrams=(1, wanted.ngrams),
            max_features=wanted.max_features, analyzer=wanted.analyzer, c=wanted.c,
        )  # fmt: skip
    return {}


def _reader(rows: Stream, context: Context, out: Path) -> dict[str, Any]:
    from training.qa import QaRow, train_qa

    config = dataset_config(context)
    wanted, names = config.train.reader, config.columns
    base = resolve_model(wanted.model)  # type: ignore[union-attr]
    asked = [
        QaRow(question=question, context=context, answer=answer, start=context.rfind(answer))
        for question, context, answer in zip(
            *(texts(rows, name) for name in (names.prompt, names.context, names.output)), strict=True
        )
        if answer and answer in context
    ]
    arguments = train.trainer_arguments(wanted)  # type: ignore[arg-type]
    with train.steps_bar(context, "the dataset") as (start, step):
        train_qa(
            base.path, asked, max_length=wanted.max_length,  # type: ignore[union-attr]
            seed=train.training_seed(config.seed),
            arguments=arguments,
            out=out, scratch=context.work, on_start=start, on_step=step,
        )  # fmt: skip
    return {"base_digest": base.digest, "rows_with_answer": len(asked), "bf16": arguments["bf16"]}


def _lora(rows: Stream, context: Context, out: Path) -> dict[str, Any]:
    config = dataset_config(context)
    names, wanted = config.columns, config.train.lora
    turns = list(zip(texts(rows, names.prompt), texts(rows, names.output), strict=True))
    base = resolve_model(wanted.model)  # type: ignore[union-attr]
    train.adapter(wanted, base, turns, context, out, what="the dataset")  # type: ignore[arg-type]
    return {"base_digest": base.digest}


_TRAINERS = {"classifier": _classifier, "linear": _linear, "reader": _reader, "lora": _lora}


def _labelled(rows: Stream, context: Context) -> tuple[DatasetConfig, list[str], list[int], tuple[str, ...]]:
    """Texts and class indices of the rows that have a label, and the labels' names."""
    from pipelines.dataset.rows import read_labels

    config = dataset_config(context)
    labels = read_labels(config, rows)
    found = texts(rows, config.columns.text)
    kept = [i for i, code in enumerate(labels.codes.tolist()) if code >= 0]
    return config, [found[i] for i in kept], [int(labels.codes[i]) for i in kept], labels.names
