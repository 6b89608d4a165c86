"""Power and distortion on SmolLM2: how many tokens a mark needs at an exact false-positive rate, and what it costs.

Needs the texts (``python -m benchmarks.schemes.texts``, which this runs first). 2 cores: about 4 minutes beside them;
figures are kept in ``cache/`` and not computed twice. Draws ``docs/images/power.svg``.
Run as: python -m benchmarks.schemes.power
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from benchmarks.rows import Row, row, show
from benchmarks.schemes.texts import CHAT, DUAL, SCHEMES, SETTINGS, WORK, Text, generate, load, make_all, prompts, texts
from countermark.manifest import read_checked_json, write_checked_json
from verification.detect import detect
from verification.statistics import clopper_pearson

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

COMMAND = "python -m benchmarks.schemes.power"
LOG10_FPR = -6.0
LENGTHS = (25, 50, 75, 100, 150, 200, 300, 400)
BARS = {("gumbel", 100): 0.99, ("kgw", 200): 0.99, ("tournament", 200): 0.99}
PLOT = Path(__file__).parents[2] / "docs" / "images" / "power.svg"
SCORED_TEXTS, SCORED_TOKENS = 192, 200
SAMPLES, SAMPLE_TOKENS = 64, 100
SETS = {"unmarked": 4, "gumbel": 2, "gumbel dual": 2, "tournament": 2}
"""Sets of 64 samples; each marked set has a key of its own."""


def log10_ps(scheme: str, chosen: Sequence[Text], length: int, statistic: str = "") -> list[float]:
    """Exact log10 p of each text's first tokens, under the key it was made with."""
    made = SCHEMES[scheme]
    if made is None:
        raise ValueError("unmarked texts have no key")
    found: list[float] = []
    for subkey in dict.fromkeys(text.subkey for text in chosen):
        batch = [text.tokens[:length] for text in chosen if text.subkey == subkey]
        found += [0.0 if e.log10_p is None else e.log10_p for e in detect(batch, made, subkey, statistic=statistic)[0]]
    return found


def curves() -> tuple[list[Row], dict[str, Any]]:
    """TPR at FPR 1e-6 for every scheme, setting and length, with exact intervals."""
    table, drawn = [], {}
    for setting in SETTINGS:
        for name, scheme in SCHEMES.items():
            made = list(texts(name, setting))
            if scheme is None or not made:
                continue
            for statistic in scheme.statistics:
                label = name if statistic == scheme.statistics[0] else f"{name} ({statistic})"
                points = []
                for length in LENGTHS:
                    began = time.perf_counter()
                    chosen = [text for text in made if len(text.tokens) >= length]
                    logs = np.array(log10_ps(name, chosen, length, statistic))
                    share = clopper_pearson(int((logs <= LOG10_FPR).sum()), len(logs))
                    points.append((length, share.value, share.low, share.high))
                    bar = BARS.get((label, length)) if setting is CHAT else None
                    seconds, text = time.perf_counter() - began, f"{setting.name}, {length} tokens"
                    table.append(
                        row(
                            f"TPR at FPR 1e-6: {label}, {text}", share.value, low=share.low, high=share.high,
                            bar=(">=", bar) if bar else None, trials=len(logs), seconds=seconds, command=COMMAND,
                        )
                    )  # fmt: skip
                    if length == 200:
                        low, middle, high = np.quantile(logs, [0.05, 0.5, 0.95])
                        table.append(
                            row(
                                f"median log10 p (5 %, 95 %): {label}, {text}", middle, low=low, high=high,
                                trials=len(logs), seconds=seconds, command=COMMAND,
                            )
                        )  # fmt: skip
                drawn[f"{setting.name}/{label}"] = points
    return table, drawn


def plot(drawn: dict[str, Any]) -> None:
    """The curves of both settings side by side, as SVG."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "countermark"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(SETTINGS), figsize=(13, 4), sharey=True, layout="constrained")
    for axis, setting in zip(axes, SETTINGS, strict=True):
        for label in [key.split("/", 1)[1] for key in drawn if key.startswith(f"{setting.name}/")]:
            lengths, value, low, high = np.array(drawn[f"{setting.name}/{label}"]).T
            (line,) = axis.plot(lengths, value, marker="o", markersize=3, linewidth=1.2, label=label)
            axis.fill_between(lengths, low, high, color=line.get_color(), alpha=0.12, linewidth=0)
        axis.set(title=f"SmolLM2-135M-Instruct, {setting.name}", xlabel="tokens", ylim=(-0.02, 1.02))
        axis.axhline(0.99, color="grey", linewidth=0.6, linestyle=":")
        axis.grid(alpha=0.2)
    axes[0].set_ylabel("share found at exact FPR 1e-6")
    axes[1].legend(fontsize=7, frameon=False, loc="lower right")
    PLOT.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PLOT, metadata={"Date": None})
    plt.close(figure)


def kept(name: str, compute: Callable[[], Any]) -> Any:  # noqa: ANN401
    """A figure that takes minutes, computed once."""
    path = WORK / f"{name}.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_checked_json(path, compute())
    return read_checked_json(path)


def losses(name: str) -> list[float]:
    """Mean negative log-likelihood a token of each text's first 200 tokens, under the unmarked model at T = 1."""
    import torch

    model, tokenizer = load()
    chosen = list(texts(name, CHAT))[:SCORED_TEXTS]
    found: list[float] = []
    for begin in range(0, len(chosen), 16):
        batch = chosen[begin : begin + 16]
        rows = [[*text.prompt, *text.tokens[:SCORED_TOKENS]] for text in batch]
        padded = tokenizer.pad({"input_ids": rows}, padding_side="left", return_tensors="pt")
        with torch.inference_mode():
            logits = model(**padded, logits_to_keep=SCORED_TOKENS + 1).logits[:, :-1]
        for one, target in zip(logits, padded["input_ids"][:, -SCORED_TOKENS:], strict=True):
            found.append(float(torch.nn.functional.cross_entropy(one.float(), target)))
    return found


def perplexities() -> list[Row]:
    """Perplexity of marked text over that of unmarked text from the same prompts; bootstrap over prompts."""
    began = time.perf_counter()
    means = {name: np.array(kept(f"loss {name}", lambda name=name: losses(name))) for name in SCHEMES}
    generator = np.random.default_rng(4)
    table = []
    for name in SCHEMES:
        if name == "unmarked":
            continue
        count = min(len(means[name]), len(means["unmarked"]))
        difference = means[name][:count] - means["unmarked"][:count]
        picks = generator.integers(0, count, (10_000, count))
        low, high = np.quantile(np.exp(difference[picks].mean(-1)), [0.025, 0.975])
        text = f"perplexity ratio to unmarked: {name}, {CHAT.name}, {SCORED_TOKENS} tokens"
        table.append(
            row(
                text, float(np.exp(difference.mean())), low=low, high=high, trials=count,
                seconds=time.perf_counter() - began, command=COMMAND,
            )
        )  # fmt: skip
    return table


def samples(name: str, which: int) -> list[list[int]]:
    """64 samples of one prompt under one key."""
    import hashlib

    from pipelines.engines.decoding import Decoding

    model, tokenizer = load()
    how = Decoding(
        max_new_tokens=SAMPLE_TOKENS, min_new_tokens=SAMPLE_TOKENS, stop=tuple(tokenizer.all_special_ids)
    )  # fmt: skip
    seeds = [10_000 + SAMPLES * which + i for i in range(SAMPLES)]
    key = hashlib.sha256(f"samples/{name}/{which}".encode()).digest()[:16]
    asked = prompts(1, chat=True) * SAMPLES
    return generate(model, tokenizer, asked, how, seeds=seeds, scheme={**SCHEMES, "gumbel dual": DUAL}[name], key=key)


def distinct_n(answers: Sequence[Sequence[int]], n: int) -> float:
    """Distinct n-grams over all n-grams of a set of answers."""
    grams = Counter(tuple(each[i : i + n]) for each in answers for i in range(len(each) - n + 1))
    return len(grams) / grams.total()


def diversity() -> list[Row]:
    """Distinct-n of 64 samples of one prompt under one key, against the range of unmarked sets."""
    began = time.perf_counter()
    sets: dict[str, list[list[list[int]]]] = {}
    for name, count in SETS.items():
        sets[name] = [kept(f"samples {name} {which}", lambda n=name, w=which: samples(n, w)) for which in range(count)]
    table = []
    for n in (1, 2, 3):
        unmarked = np.array([distinct_n(each, n) for each in sets["unmarked"]])
        spread = stats.t.ppf(0.975, len(unmarked) - 1) * unmarked.std(ddof=1) * np.sqrt(1 + 1 / len(unmarked))
        low, high = unmarked.mean() - spread, unmarked.mean() + spread
        for name, made in sets.items():
            values = [distinct_n(each, n) for each in made]
            text = f"distinct-{n} of 64 samples of one prompt: {name} (low, high: unmarked interval)"
            table.append(
                row(
                    text, float(np.mean(values)), low=low, high=high, trials=len(values),
                    bar=None if name == "unmarked" else (">=", float(f"{low:.6g}")),
                    seconds=time.perf_counter() - began, command=COMMAND,
                )
            )  # fmt: skip
    return table


def rows() -> list[Row]:
    """All of it."""
    make_all()
    table, drawn = curves()
    plot(drawn)
    return [*table, *perplexities(), *diversity()]


if __name__ == "__main__":
    show(rows())
