"""What a buyer may do to a marked set, or to a model of it, before anybody asks."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from countermark import libraries
from countermark.files import make_dir
from countermark.manifest import digest, read_checked_json, write_checked_json
from pipelines.assets import resolve_model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transformers import PreTrainedModel

    from benchmarks.dataset_marks.classifiers import Marked, Recipe

LANGUAGE_MODEL = "embedded:smollm2-135m-instruct"
OUTLIERS = 0.10
"""Share of words that the ONION-like filter takes out: those whose removal lowers perplexity most."""
DROPPED_WORDS, DISTILLED = 0.30, 0.25
CHUNK = 120
CLEAN_TIMES = 3


def changed(recipe: Recipe, data: Marked) -> tuple[list[str], list[int]]:
    """Texts and labels as they reach the training."""
    if not recipe.change:
        return list(data.texts), list(data.codes)
    return CHANGES[recipe.change](recipe, data)


def _outlier_words(_: Recipe, data: Marked) -> tuple[list[str], list[int]]:
    """ONION (Qi et al., EMNLP 2021): every word whose removal lowers the text's perplexity by more than a threshold
    goes; the threshold is set so that ``OUTLIERS`` of all words go.
    """
    scores = _kept(data, "onion", _suspicion)
    bar = sorted((s for each in scores for s in each), reverse=True)
    threshold = bar[int(OUTLIERS * len(bar))]
    texts = [
        " ".join(word for word, score in zip(text.split(), each, strict=True) if score <= threshold) or text
        for text, each in zip(data.texts, scores, strict=True)
    ]
    return texts, list(data.codes)


def _paraphrased(_: Recipe, data: Marked) -> tuple[list[str], list[int]]:
    """Every text rewritten by the small language model."""
    return _kept(data, "paraphrase", _paraphrases), list(data.codes)


def _fewer_words(recipe: Recipe, data: Marked) -> tuple[list[str], list[int]]:
    draw = random.Random(f"words/{recipe.seed}")  # noqa: S311 - an attack's luck
    texts = [" ".join(w for w in text.split() if draw.random() >= DROPPED_WORDS) or text for text in data.texts]
    return texts, list(data.codes)


def _distilled(_: Recipe, data: Marked) -> tuple[list[str], list[int]]:
    """A quarter of the rows: of every class those nearest to its k-means centres in the encoder's own space."""
    chosen = _central(data)
    return [data.texts[i] for i in chosen], [data.codes[i] for i in chosen]


def _mixed(recipe: Recipe, data: Marked) -> tuple[list[str], list[int]]:
    """Three times as many clean rows beside."""
    from dataclasses import replace

    from benchmarks.dataset_marks.classifiers import marked

    pool = marked(replace(recipe.twin(), rows=(1 + CLEAN_TIMES) * recipe.rows, seed=recipe.seed + 500))
    known = set(marked(recipe.twin()).texts)
    fresh = [(t, c) for t, c in zip(pool.texts, pool.codes, strict=True) if t not in known]
    added = fresh[: CLEAN_TIMES * recipe.rows]
    return [*data.texts, *(t for t, _ in added)], [*data.codes, *(c for _, c in added)]


CHANGES: dict[str, Callable[[Recipe, Marked], tuple[list[str], list[int]]]] = {
    "outlier words filtered (ONION-like, 10 %)": _outlier_words,
    "paraphrased by the language model": _paraphrased,
    "30 % of words dropped": _fewer_words,
    "distilled to 25 %": _distilled,
    "mixed with 3x clean rows": _mixed,
}


def _kept(data: Marked, what: str, make: Callable[[Sequence[str]], list[Any]]) -> list[Any]:
    """``make`` of all texts, ``CHUNK`` at a time, each kept: an interrupted half hour goes on where it was."""
    from benchmarks.dataset_marks.classifiers import WORK

    folder = WORK / "changes" / f"{what}-{digest(list(data.texts))[:12]}"
    make_dir(folder)
    found: list[Any] = []
    for start in range(0, len(data.texts), CHUNK):
        path = folder / f"{start:06}.json"
        if not path.exists():
            write_checked_json(path, make(data.texts[start : start + CHUNK]))
            print(f"{what}: {min(start + CHUNK, len(data.texts))} of {len(data.texts)} texts", flush=True)
        found += read_checked_json(path)
    return found


def _suspicion(texts: Sequence[str]) -> list[list[float]]:
    """For every word, how much lower the text's mean loss is without it."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = resolve_model(LANGUAGE_MODEL).path
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=libraries.reading_dtype()).eval()
    scores = []
    for text in texts:
        words = text.split()
        without = [" ".join(words[:i] + words[i + 1 :]) or text for i in range(len(words))]
        whole, *others = tokenizer([text, *without], truncation=True, max_length=96)["input_ids"]
        own, found = _losses(model, whole, others)
        scores.append([round(own - each, 4) for each in found])
    return scores


def _losses(model: PreTrainedModel, whole: list[int], others: list[list[int]]) -> tuple[float, list[float]]:
    """Mean loss of ``whole``, and of texts that begin like it: what is shared is read once, and all that is not in one
    row, in which no text sees another.
    """
    import torch
    from torch.nn.functional import cross_entropy
    from transformers import DynamicCache

    cache, read = DynamicCache(config=model.config), torch.tensor([whole])
    shared = [_alike(whole, other) for other in others]
    ends = [len(other) - at for other, at in zip(others, shared, strict=True)]
    starts = torch.tensor(shared).repeat_interleave(torch.tensor(ends))
    owner = torch.arange(len(others)).repeat_interleave(torch.tensor(ends))
    steps = torch.cat([torch.arange(end) for end in ends])
    before = torch.arange(len(whole)) < starts[:, None]
    beside = (owner == owner[:, None]) & (steps <= steps[:, None])
    row = torch.tensor([[token for other, at in zip(others, shared, strict=True) for token in other[at:]]])
    with torch.inference_mode():
        first = model(read, past_key_values=cache, use_cache=True).logits[0].float()
        mine = cross_entropy(first[:-1], read[0, 1:], reduction="none")
        sees = torch.cat([before, beside], dim=1)[None, None]
        hidden = torch.zeros(sees.shape, dtype=model.dtype).masked_fill(~sees, torch.finfo(model.dtype).min)
        said = model(
            row, past_key_values=cache, attention_mask=hidden, position_ids=(starts + steps)[None]
        ).logits[0].float()  # fmt: skip
    found = []
    for other, at, own in zip(others, shared, said.split(ends), strict=True):
        logits = torch.cat([first[at - 1 : at] if at else own[:0], own[:-1]])
        loss = cross_entropy(logits, torch.tensor(other[max(at, 1) :], dtype=torch.long), reduction="sum")
        found.append(float(mine[: max(at - 1, 0)].sum() + loss) / max(1, len(other) - 1))
    return float(mine.sum()) / max(1, len(whole) - 1), found


def _alike(whole: Sequence[int], other: Sequence[int]) -> int:
    """How many first tokens both share; the last of ``other`` is never one of them: something is left to read."""
    last = min(len(whole), len(other) - 1)
    return next((at for at in range(last) if whole[at] != other[at]), last)


def _paraphrases(texts: Sequence[str]) -> list[str]:
    from verification.suspects import LocalChatModel

    system = "Rewrite the text in other words. Keep its meaning. Answer with the text alone."
    model = LocalChatModel(
        "writer", resolve_model(LANGUAGE_MODEL).path, system=system, max_new_tokens=48, temperature=0.7
    )
    order = sorted(range(len(texts)), key=lambda i: (len(texts[i]), i))
    found = [""] * len(texts)
    for start in range(0, len(order), 64):
        batch = order[start : start + 64]
        for i, answer in zip(batch, model.ask([texts[i] for i in batch]), strict=True):
            found[i] = " ".join(answer.split()) or texts[i]
    return found


def _central(data: Marked) -> list[int]:
    import numpy as np
    from sklearn.cluster import KMeans

    from benchmarks.dataset_marks.quality import embeddings

    points, codes = embeddings(data.texts), np.asarray(data.codes)
    chosen: list[int] = []
    for code in sorted(set(data.codes)):
        mine = np.flatnonzero(codes == code)
        centres = KMeans(max(1, round(DISTILLED * len(mine))), n_init=1, random_state=0).fit(points[mine])
        distances = centres.transform(points[mine])
        chosen += sorted({int(mine[i]) for i in distances.argmin(0)})
    return chosen
