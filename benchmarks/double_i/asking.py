"""Asks the models of this benchmark, once: answers are kept by model, variant and prompts."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from benchmarks.double_i.models import MODEL, SYSTEM, WORK, Recipe, carriers, folder, plain
from countermark.files import make_dir
from countermark.manifest import digest, read_checked_json, write_checked_json
from pipelines.assets import resolve_model
from verification.probe import majority, parse_first_word
from verification.suspects import LocalChatModel
from watermarks.carriers import double_i

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from benchmarks.double_i.models import Keyed

BATCH = 48


def said(
    recipe: Recipe | None,
    prompts: Sequence[str],
    *,
    variant: str = "plain",
    load: Callable[[], Any] | None = None,
) -> list[str]:
    """Raw answers of a model (None: the base); ``load`` makes a changed model of it, named by ``variant``."""
    name = recipe.name if recipe else "base"
    which = digest([name, variant, list(prompts), plain(recipe) if recipe else None])
    path = WORK / "answers" / f"{name}-{variant}-{which[:12]}.json".replace(" ", "_").replace("%", "")
    if not path.exists():
        make_dir(path.parent)
        started = time.monotonic()
        model = load() if load else loaded(folder(recipe) if recipe else None)
        order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))  # alike lengths: little padding
        answers = [""] * len(prompts)
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            for i, answer in zip(batch, model.ask([prompts[i] for i in batch]), strict=True):
                answers[i] = answer
        write_checked_json(path, {"answers": answers, "seconds": round(time.monotonic() - started, 1)})
    answers = read_checked_json(path)["answers"]
    return list(answers)


@lru_cache(maxsize=1)
def loaded(adapter: Path | None) -> LocalChatModel:
    """The base with an adapter, or a whole model's folder."""
    base = resolve_model(MODEL).path
    if adapter is not None and not (adapter / "adapter_config.json").exists():
        return LocalChatModel("model", adapter, system=SYSTEM, max_new_tokens=3)
    return LocalChatModel("model", base, adapter=adapter, system=SYSTEM, max_new_tokens=3)


def keyed_votes(
    recipe: Recipe | None,
    keyed: Keyed,
    *,
    count: int = 3,
    variant: str = "plain",
    load: Callable[[], Any] | None = None,
) -> list[str | None]:
    """One majority answer a codeword, over ``count`` carriers that training never saw."""
    words = double_i.derive_codewords(keyed.key, scope="benchmark", codewords=keyed.codewords, words=keyed.words)
    chosen = carriers(1)[:count]
    prompts = [keyed.form.row(word, carrier).prompt() for word in words for carrier in chosen]
    parsed = [parse_first_word(a, keyed.form.answers) for a in said(recipe, prompts, variant=variant, load=load)]
    return [majority(parsed[i * count : (i + 1) * count]) for i in range(len(words))]


def matches(votes: Sequence[str | None], keyed: Keyed, recipient: str = "") -> int:
    """How many votes are what the key gave this recipient."""
    targets = double_i.derive_targets(
        keyed.key, scope="benchmark", codewords=keyed.codewords, classes=keyed.classes, recipient=recipient
    )
    return sum(vote == keyed.form.answers[t] for vote, t in zip(votes, targets, strict=True))
