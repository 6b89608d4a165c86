"""Is a marked text still the text? Meaning by an encoder's cosine, fluency and kind by a language model.

The output marks are those of ``configs/``; what models trained on them say is in the configs' own parts.
"""

from __future__ import annotations

import time
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import configs
from benchmarks.dataset_marks.classifiers import WORK, held_out
from benchmarks.dataset_marks.tables import COMMAND
from benchmarks.rows import Row, row
from countermark.files import make_dir
from countermark.manifest import digest, read_checked_json, write_checked_json
from pipelines.assets import resolve_model
from pipelines.dataset import marking, rows
from pipelines.dataset.config import load_dataset_config
from pipelines.dataset.embedded import embedded_rows
from pipelines.dataset.wearing import Wear
from pipelines.mauve import features, mauve, perplexity
from watermarks.carriers import styles
from watermarks.keys import wrong_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipelines.dataset.config import DatasetConfig

ENCODER = "embedded:minilm-l6"
LANGUAGE_MODEL = "embedded:smollm2-135m-instruct"
KEY = wrong_key("benchmarks/dataset_marks/quality", 0)
"""The owner's key: public, since this is a benchmark."""
TEXTS, STYLED = 1000, 300
SETS: dict[str, dict[str, tuple[str, ...]]] = {
    "write-reviews": {
        "both marks": (), "weak": ("marks.steganographic=null",), "steganographic": ("marks.weak=null",),
    },
    "qa-generative": {"robust": ()},
}  # fmt: skip
"""Releases to look at, by config: a name, and what is overridden in it."""


def quality() -> list[Row]:
    """Everything."""
    return [*(made for name in SETS for made in output_marks(name)), *style_marks()]


def output_marks(config: str) -> list[Row]:
    """MAUVE against real texts that are not in the set, and perplexity, of released texts beside the unmarked twin's.

    A figure of a marked set has the twin's interval as its bar.
    """
    model = resolve_model(LANGUAGE_MODEL).path
    twin = rows.texts(rows.open_source(_config(config)), "output")
    every = embedded_rows(_config(config).dataset, part="train", count=0, seed=0)
    others = [row["output"] for row in every if row["output"] not in set(twin)]
    human: list[Any] = []  # a pass of the language model, made when the first set needs it

    def measured(name: str, texts: Sequence[str]) -> list[Row]:
        def make() -> list[Row]:
            human[:] = human or [features(others[:TEXTS], model)]
            started, found = time.monotonic(), []
            for figure in (mauve(features(texts, model), human[0]), perplexity(texts, model)):
                said = f"quality of the released text of {config}, {name}: {figure.name}"
                found.append(
                    row(
                        said, figure.value, low=figure.low, high=figure.high, trials=figure.n,
                        seconds=time.monotonic() - started, command=COMMAND,
                    )
                )  # fmt: skip
            return found

        return _kept(f"{config} {name}", [*texts, *others[:TEXTS]], make)

    usual = measured("unmarked twin", twin)
    found = list(usual)
    for name, overrides in SETS[config].items():
        for made, of_twin in zip(measured(name, released(_config(config, *overrides))), usual, strict=True):
            bar = [of_twin["low"], of_twin["high"]]
            found.append({**made, "bar": {"op": "in", "value": bar}, "ok": bar[0] <= made["value"] <= bar[1]})
    return found


def style_marks() -> list[Row]:
    """Does a rule-assisted style keep meaning and fluency? Cosine to the original, and the ratio of perplexities.

    Low and high of a cosine are the texts' tenth percentile and maximum; of a ratio, the styled texts' interval.
    """
    texts = list(held_out("reviews")[0][:STYLED])
    model = resolve_model(LANGUAGE_MODEL).path
    usual = cache(lambda: perplexity(texts, model).value)

    def measured(name: str) -> list[Row]:
        started, wanted = time.monotonic(), styles.STYLES[name]
        styled = [styles.rewrite(text, wanted) for text in texts]
        same = sorted((embeddings(texts) * embeddings(styled)).sum(1).tolist())
        tenth, median = same[len(same) // 10], same[len(same) // 2]
        unusual = perplexity(styled, model)
        seconds = time.monotonic() - started
        return [
            row(f"style {name}: cosine to the original, median", median, low=tenth, high=same[-1], trials=len(texts),
                seconds=seconds, command=COMMAND),
            row(f"style {name}: perplexity over the original's", unusual.value / usual(), low=unusual.low / usual(),
                high=unusual.high / usual(), trials=len(texts), seconds=seconds, command=COMMAND),
        ]  # fmt: skip

    return [
        made
        for name in sorted(styles.STYLES)
        for made in _kept(f"style {name}", [styles.rewrite(text, styles.STYLES[name]) for text in texts],
                          partial(measured, name))
    ]  # fmt: skip


def _kept(what: str, texts: Sequence[str], make: Callable[[], list[Row]]) -> list[Row]:
    """What was measured of these texts; measured now if it never was."""
    path = make_dir(WORK / "quality") / f"{what.replace(' ', '-')}-{digest(list(texts))[:12]}.json"
    if not path.exists():
        write_checked_json(path, make())
        print(f"measured {what}", flush=True)
    found: list[Row] = read_checked_json(path)
    return found


def released(config: DatasetConfig) -> list[str]:
    """The outputs of a release, marked as ``countermark mark`` does."""
    stream = rows.open_source(config)
    pairs = list(zip(rows.texts(stream, "prompt"), rows.texts(stream, "output"), strict=True))
    placed = marking.decide(KEY, config, stream, None, np.where(rows.filled_rows(config, stream), 0, -1))
    wear = Wear.of(KEY, config, placed.marks, placed.rows, None)
    return [wear.row({"prompt": p, "output": o}, at)["output"] for at, (p, o) in enumerate(pairs)]


def embeddings(texts: Sequence[str]) -> Any:  # noqa: ANN401 - an array, a unit row a text
    """MiniLM's sentence embeddings: the mean of its last hidden states, normalised."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    path = resolve_model(ENCODER).path
    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path).eval()
    found = []
    for start in range(0, len(texts), 64):
        encoded = tokenizer(
            list(texts[start : start + 64]), return_tensors="pt", padding=True, truncation=True, max_length=128
        )
        with torch.inference_mode():
            hidden = model(**encoded).last_hidden_state
        mask = encoded["attention_mask"].unsqueeze(-1)
        mean = (hidden * mask).sum(1) / mask.sum(1)
        found.append(torch.nn.functional.normalize(mean, dim=1).numpy())
    return np.concatenate(found)


def _config(name: str, *overrides: str) -> DatasetConfig:
    return load_dataset_config(Path(configs.__file__).parent / f"{name}.yaml", [f"rows={TEXTS}", *overrides])
