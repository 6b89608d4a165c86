"""Speed of processors and detectors, side by side with transformers' own in one run. 2 cores: about 6 minutes.

One thread unless a row says otherwise; memory is kept between steps (``libraries.keep_freed_memory``), for the peers as
for us. Ratios are medians over rounds in which both sides take turns; low and high are the rounds' extremes.
Run as: python -m benchmarks.schemes.speed
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.rows import Row, row, show
from benchmarks.schemes.texts import load
from countermark import libraries
from verification.detect import Mark, detect, search
from watermarks.keys import Key
from watermarks.schemes import Gumbel, Kgw, Scheme, Tournament, Unigram

if TYPE_CHECKING:
    from collections.abc import Callable

COMMAND = "python -m benchmarks.schemes.speed"
SUBKEY = bytes(range(16))
WIDE, ROWS = 128_256, 8
SELF_SALT = Kgw(context_width=4, self_salt=True)
VARIANTS: dict[str, Scheme] = {
    "kgw": Kgw(),
    "kgw self-salt": SELF_SALT,
    "unigram": Unigram(),
    "gumbel": Gumbel(),
    "gumbel dual": Gumbel(alpha=0.1),
    "tournament": Tournament(),
}


def _turns(ours: Callable[[], Any], peer: Callable[[], Any], *, rounds: int, times: int) -> list[tuple[float, float]]:
    """Seconds of both sides, each round the quickest of several calls of ours and one of the peer's."""
    ours()
    peer()
    return [(min(_seconds(ours) for _ in range(times)), _seconds(peer)) for _ in range(rounds)]


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _ratio(name: str, turns: list[tuple[float, float]], bar: float, began: float) -> Row:
    ratios = sorted(peer / ours for ours, peer in turns)
    return row(
        name, statistics.median(ratios), low=ratios[0], high=ratios[-1], bar=(">=", bar), trials=len(turns),
        seconds=time.perf_counter() - began, command=COMMAND,
    )  # fmt: skip


def processors() -> list[Row]:
    """Our processors against those of transformers, V = 128k, batch 8, 1 thread."""
    import torch
    from transformers.generation.logits_process import (
        SynthIDTextWatermarkLogitsProcessor,
        WatermarkLogitsProcessor,
    )

    from watermarks.adapters.hf import SchemeProcessor

    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(ROWS, WIDE, generator=generator) * 3
    ids = torch.randint(0, WIDE, (ROWS, 64), generator=generator)

    def mine(scheme: Scheme) -> Callable[[], Any]:
        processor = SchemeProcessor(scheme, SUBKEY, start=0)
        return lambda: processor(ids, scores)

    def green(seeding: str, width: int) -> Callable[[], Any]:
        peer = WatermarkLogitsProcessor(
            vocab_size=WIDE, device="cpu", greenlist_ratio=0.25, bias=2.0, seeding_scheme=seeding, context_width=width
        )
        return lambda: peer(ids, scores)

    def synthid() -> Callable[[], Any]:
        peer = SynthIDTextWatermarkLogitsProcessor(
            ngram_len=5, keys=list(range(1, 31)), sampling_table_size=2**16, sampling_table_seed=0,
            context_history_size=1024, device="cpu",
        )  # fmt: skip
        return lambda: peer(ids, scores)

    table = []
    for name, scheme, peer, bar, rounds in (
        ("kgw against transformers' lefthash", Kgw(context_width=1), green("lefthash", 1), 15.0, 15),
        (
            "kgw self-salt, full vocabulary, against transformers' selfhash of 40",
            SELF_SALT,
            green("selfhash", 4),
            200.0,
            7,
        ),
        ("tournament of 30 layers against transformers' SynthID", Tournament(), synthid(), 100.0, 3),
    ):
        began = time.perf_counter()
        turns = _turns(mine(scheme), peer, rounds=rounds, times=10)
        table.append(_ratio(f"processor: {name}, V=128k B=8, times faster", turns, bar, began))
        for side, seconds in (("ours", [t[0] for t in turns]), ("peer", [t[1] for t in turns])):
            table.append(_plain(f"processor: {name}, {side}, ms", [1e3 * s for s in seconds], began))
    for name in ("unigram", "gumbel", "gumbel dual"):
        began, work = time.perf_counter(), mine(VARIANTS[name])
        work()
        table.append(_plain(f"processor: {name}, V=128k B=8, ms", [1e3 * _seconds(work) for _ in range(15)], began))
    return table


def _plain(name: str, values: list[float], began: float, bar: tuple[str, float] | None = None) -> Row:
    return row(
        name, statistics.median(values), low=min(values), high=max(values), bar=bar, trials=len(values),
        seconds=time.perf_counter() - began, command=COMMAND,
    )  # fmt: skip


def steps() -> list[Row]:
    """The processor's share of a step of SmolLM2's ``generate``, 2 threads."""
    import torch

    from watermarks.adapters.hf import CountermarkConfig, SchemeProcessor

    torch.set_num_threads(2)
    model, tokenizer = load()
    spent: list[float] = []
    call = SchemeProcessor.__call__

    def timed(self: SchemeProcessor, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        began = time.perf_counter()
        marked = call(self, input_ids, scores)
        spent.append(time.perf_counter() - began)
        return marked

    table = []
    SchemeProcessor.__call__ = timed  # type: ignore[method-assign]
    try:
        for batch in (8, 32):
            inputs = tokenizer(["The weather in the mountains this autumn"] * batch, return_tensors="pt")
            for name, scheme in VARIANTS.items():
                for top_k in (0, 50) if name == "tournament" else (0,):
                    bar = 8.0 if name == "tournament" and not top_k else 3.0
                    config = CountermarkConfig.from_key(scheme, SUBKEY, key_id="benchmark")
                    began = time.perf_counter()
                    shares = []
                    for _ in range(3):
                        spent.clear()
                        whole = _seconds(
                            lambda config=config, top_k=top_k, inputs=inputs: model.generate(
                                **inputs, watermarking_config=config, do_sample=True, top_k=top_k,
                                min_new_tokens=32, max_new_tokens=32,
                            )
                        )  # fmt: skip
                        shares.append(100.0 * sum(spent) / whole)
                    text = (
                        f"step: {name}{f' top-k {top_k}' if top_k else ''}, SmolLM2 B={batch} 2 threads, % of generate"
                    )
                    table.append(_plain(text, shares, began, ("<=", bar)))
    finally:
        SchemeProcessor.__call__ = call  # type: ignore[method-assign]
    return table


def detectors() -> list[Row]:
    """Tokens a second of ``detect`` (packing, masks, repeats, per text and corpus), 1 thread."""
    import torch
    from transformers import LlamaConfig, WatermarkDetector
    from transformers.generation.configuration_utils import WatermarkingConfig

    torch.set_num_threads(1)
    generator = np.random.default_rng(2)
    texts = list(np.minimum(generator.zipf(1.2, 1_000_000), 49_151).reshape(4_000, 250))
    masks = [np.arange(250) < 250 - pad for pad in generator.integers(0, 50, len(texts))]
    counted = sum(int(mask.sum()) for mask in masks)
    table = []
    for name, scheme in VARIANTS.items():
        for statistic in scheme.statistics:
            began = time.perf_counter()
            work = lambda s=scheme, w=statistic: detect(texts, s, SUBKEY, masks=masks, statistic=w)  # noqa: E731
            work()
            rates = [counted / _seconds(work) / 1e6 for _ in range(5)]
            decides = statistic == scheme.statistics[0] and name != "gumbel dual"
            bar = (">=", 3.0 if name == "tournament" else 10.0) if decides else None
            table.append(_plain(f"detect: {name} ({statistic}), million tokens/s", rates, began, bar))
    began = time.perf_counter()
    small = torch.from_numpy(np.stack(texts[:2])[:, :200])
    peer = WatermarkDetector(
        model_config=LlamaConfig(vocab_size=50_272, bos_token_id=1), device="cpu",
        watermarking_config=WatermarkingConfig(seeding_scheme="lefthash", context_width=1),
    )  # fmt: skip
    theirs = [small.numel() / _seconds(lambda: peer(small)) for _ in range(3)]
    mine = counted / _seconds(lambda: detect(texts, Kgw(context_width=1), SUBKEY, masks=masks))
    ratios = [mine / each for each in theirs]
    table.append(
        _plain("detect: kgw against transformers' WatermarkDetector, times faster", ratios, began, (">=", 1000.0))
    )
    table.append(_plain("detect: transformers' WatermarkDetector, tokens/s", theirs, began))
    return table


def many_keys() -> list[Row]:
    """One text under very many keys, 2 threads."""
    generator = np.random.default_rng(3)
    text = np.minimum(generator.zipf(1.2, 200), 49_151)
    subkeys = [generator.bytes(16) for _ in range(100_000)]
    table = []
    for name, scheme in VARIANTS.items():
        marks = [Mark(name=str(i), scheme=scheme, subkey=each) for i, each in enumerate(subkeys)]
        for count, length in ((100_000, 200), (50_000, 200), (100_000, 100)):
            began = time.perf_counter()
            work = lambda n=count, t=length, m=marks: search([text[:t]], m[:n], threads=2)  # noqa: E731
            times = [_seconds(work) for _ in range(3)]
            bar = ("<=", 2.0) if (count, length) == (100_000, 200) and name != "gumbel dual" else None
            table.append(_plain(f"keys: {name}, {count:,} keys x {length} tokens, 2 threads, s", times, began, bar))
    began = time.perf_counter()
    key = Key(key_id="benchmark", secret=bytes(32), nonce=bytes(32))
    label = {"scheme": "unigram", "params": Unigram().params(), "tokenizer": "t"}
    derive = lambda: [key.token_subkey(scope=str(i), **label) for i in range(10_000)]  # noqa: E731
    table.append(_plain("keys: deriving 10,000 recipients' sub-keys, s", [_seconds(derive) for _ in range(3)], began))
    return table


PARTS = (processors, steps, detectors, many_keys)


def rows() -> list[Row]:
    """All of it; nothing else should run meanwhile."""
    libraries.keep_freed_memory()
    return [each for part in PARTS for each in part()]


if __name__ == "__main__":
    show(rows())
