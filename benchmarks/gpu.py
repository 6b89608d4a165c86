"""The token schemes on one GPU: the same bits as on the CPU, and the cost of marking against reading the logits once.

About 2 minutes. Refuses to run without CUDA: there is no figure to write then. Writes ``results/gpu.json``, with the
device's name in every row.
Run as: python benchmarks/gpu.py
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.rows import Row, row, show, write
from verification.detect import detect
from watermarks.kernels.generate import mark, mark_plain
from watermarks.schemes import Gumbel, Kgw, Scheme, Tournament, Unigram

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

COMMAND = "python benchmarks/gpu.py"
SUBKEY = bytes(range(16))
WIDTH = 128_256
TARGET = 1.3
VARIANTS: dict[str, Scheme] = {
    "kgw": Kgw(),
    "kgw self-salt": Kgw(context_width=4, self_salt=True),
    "unigram": Unigram(),
    "gumbel": Gumbel(),
    "tournament": Tournament(),
}


def main() -> None:
    """Everything, or an error in two lines."""
    import torch

    if not torch.cuda.is_available():
        raise SystemExit(
            "error: got no CUDA device, expected one\nhint: the CPU figures come from `make bench-schemes`"
        )
    device = torch.cuda.get_device_name()
    rows = [*identity(device), *detection(device), *suspects(device), *costs(device)]
    write("gpu", rows)
    show(rows)


def _inputs(rows: int, kind: torch.dtype, scheme: Scheme) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    generator = torch.Generator().manual_seed(rows)
    scores = (torch.randn(rows, WIDTH, generator=generator) * 3).to(kind)
    return scores, torch.randint(0, WIDTH, (rows, scheme.inputs.width), generator=generator)


def identity(device: str) -> list[Row]:
    """Kernels and plain path on the GPU against the CPU: colours and chosen tokens that differ, of all."""
    import torch

    table = []
    for name, scheme in VARIANTS.items():
        began = time.perf_counter()
        scores, contexts = _inputs(64, torch.float32, scheme)
        here = mark(scheme, SUBKEY, contexts, scores)
        for path, work in (("kernel", mark), ("plain torch", mark_plain)):
            there = work(scheme, SUBKEY, contexts.cuda(), scores.cuda()).cpu()
            if scheme.name == "tournament":
                differ = float((there.softmax(-1) - here.softmax(-1)).abs().max())
                text, bar = "largest difference of probabilities", 1e-5
            else:
                differ = float((there != here).any(-1).sum())
                text, bar = "rows that differ", 0.0
            table.append(
                row(
                    f"GPU against CPU: {name}, {path}, {text} ({device})", differ, bar=("<=", bar), trials=64,
                    seconds=time.perf_counter() - began, command=COMMAND,
                )
            )  # fmt: skip
    return table


def detection(device: str) -> list[Row]:
    """The same evidence from draws made on the GPU."""
    import numpy as np

    texts = list(np.minimum(np.random.default_rng(1).zipf(1.2, (400, 250)), 49_151))
    table = []
    for name, scheme in VARIANTS.items():
        began = time.perf_counter()
        same = detect(texts, scheme, SUBKEY, device="cuda") == detect(texts, scheme, SUBKEY)
        table.append(
            row(
                f"GPU against CPU: {name}, evidence is equal ({device})", float(same), bar=("==", 1.0),
                trials=len(texts), seconds=time.perf_counter() - began, command=COMMAND,
            )
        )  # fmt: skip
    return table


def suspects(device: str) -> list[Row]:
    """A model folder asked on the GPU as on the CPU: how many greedy answers differ (needs the installed assets).

    Both read in their own dtype and add in their own order, so that a near tie may go the other way: a report, no bar.
    """
    from pipelines.assets import resolve_model
    from pipelines.dataset.embedded import embedded_rows
    from verification.suspects import LocalChatModel

    prompts = [row["prompt"] for row in embedded_rows("embedded:answers", part="heldout", count=64, seed=0)]
    folder, began = resolve_model("embedded:smollm2-135m-instruct").path, time.perf_counter()
    found = [LocalChatModel(at, folder, max_new_tokens=8, device=at).ask(prompts) for at in ("cuda", "cpu")]
    differ = sum(a != b for a, b in zip(*found, strict=True))
    return [
        row(f"GPU against CPU: a chat model's answers that differ ({device})", float(differ), trials=len(prompts),
            seconds=time.perf_counter() - began, command=COMMAND)
    ]  # fmt: skip


def costs(device: str) -> list[Row]:
    """Time of marking over the time of reading the logits once (their row maxima)."""
    import torch

    table = []
    for kind in (torch.float32, torch.bfloat16):
        for rows in (8, 64, 256):
            for name, scheme in VARIANTS.items():
                began = time.perf_counter()
                scores, contexts = (each.cuda() for each in _inputs(rows, kind, scheme))
                ratios = []
                for _ in range(5):
                    read = _milliseconds(lambda s=scores: s.amax(-1))
                    ratios.append(_milliseconds(lambda: mark(scheme, SUBKEY, contexts, scores)) / read)  # noqa: B023
                text = f"marking over reading the logits: {name}, V=128k B={rows} {str(kind)[6:]} ({device})"
                table.append(
                    row(
                        text, statistics.median(ratios), low=min(ratios), high=max(ratios), bar=("<=", TARGET),
                        trials=len(ratios), seconds=time.perf_counter() - began, command=COMMAND,
                    )
                )  # fmt: skip
    return table


def _milliseconds(work: Callable[[], Any], times: int = 50) -> float:
    import torch

    for _ in range(5):
        work()
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    for _ in range(times):
        work()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / times


if __name__ == "__main__":
    main()
