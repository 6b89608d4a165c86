"""Marked and unmarked texts of the embedded model, made once and kept: every later figure reads them.

Resumable: a batch that is on disk is not made again. 2 cores: about 35 minutes for all (1 core: 65).
Run as: python -m benchmarks.schemes.texts
"""

from __future__ import annotations

import argparse
import hashlib
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countermark import libraries
from countermark.manifest import read_checked_json, write_checked_json
from watermarks.schemes import Gumbel, Kgw, Scheme, Tournament, Unigram

if TYPE_CHECKING:
    from collections.abc import Iterator

WORK = Path(__file__).parent / "work"
MODEL = "embedded:smollm2-135m-instruct"
PROMPT_TOKENS = 24
BATCH = 128

SCHEMES: dict[str, Scheme | None] = {
    "gumbel": Gumbel(),
    "kgw": Kgw(context_width=2),
    "tournament": Tournament(),
    "unmarked": None,
    "kgw self-salt": Kgw(context_width=4, self_salt=True),
    "unigram": Unigram(),
    "gumbel dual": Gumbel(alpha=0.1),
}
"""Default parameters; ``kgw`` at h = 2."""


WITH_BARS = ("gumbel", "kgw", "tournament")
"""Schemes of which 512 texts are made at T = 1; of the others 256."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One way to sample, and how long the texts of each batch are."""

    name: str
    temperature: float
    top_p: float
    lengths: tuple[int, ...]

    def batches(self, scheme: str) -> range:
        """The batches that are made of a scheme."""
        if scheme == "unmarked" and self.temperature != 1.0:
            return range(0)
        return range(len(self.lengths) if scheme in WITH_BARS else min(2, len(self.lengths)))


SETTINGS = (
    Setting(name="T=1", temperature=1.0, top_p=1.0, lengths=(400, 200, 200, 200)),
    Setting(name="T=.7 top-p .9", temperature=0.7, top_p=0.9, lengths=(400,)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """One generated text: its prompt and its new tokens, and the sub-key it was made under."""

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    subkey: bytes


def subkey(scheme: str, batch: int) -> bytes:
    """Each batch has a key of its own, known to the benchmark alone."""
    return hashlib.sha256(f"benchmark/{scheme}/{batch}".encode()).digest()[:16]


def texts(scheme: str, setting: Setting) -> Iterator[Text]:
    """All texts of one scheme and setting that are on disk."""
    for batch in setting.batches(scheme):
        body = read_checked_json(_path(scheme, setting, batch))
        for prompt, tokens in zip(body["prompts"], body["tokens"], strict=True):
            yield Text(prompt=tuple(prompt), tokens=tuple(tokens), subkey=subkey(scheme, batch))


@lru_cache(maxsize=1)
def load() -> tuple[Any, Any]:
    """Model and tokenizer, once."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from pipelines.assets import resolve_model

    libraries.quiet()
    libraries.keep_freed_memory()
    folder = resolve_model(MODEL).path
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval(), tokenizer


def prompts(count: int) -> list[list[int]]:
    """The first tokens of ``count`` different real passages, all of one length."""
    import json

    from pipelines.assets import BOOLQ

    _, tokenizer = load()
    found: dict[str, list[int]] = {}
    for line in BOOLQ.locate().read_text("utf-8").splitlines():
        row = json.loads(line)
        passage = row.get("passage") or row["question"]
        ids = tokenizer(passage, add_special_tokens=False)["input_ids"][:PROMPT_TOKENS]
        if len(ids) == PROMPT_TOKENS:
            found.setdefault(str(ids), ids)
        if len(found) == count:
            break
    return list(found.values())


def make(scheme: str, setting: Setting, batch: int) -> None:
    """Generates one batch, unless it is there."""
    import torch

    from pipelines.engines.decoding import Decoding, decode

    path = _path(scheme, setting, batch)
    if path.exists():
        return
    model, tokenizer = load()
    began = time.perf_counter()
    chosen = prompts(BATCH * (batch + 1))[BATCH * batch :]
    length = setting.lengths[batch]
    how = Decoding(
        max_new_tokens=length,
        min_new_tokens=length,
        temperature=setting.temperature,
        top_p=setting.top_p,
        stop=tuple(tokenizer.all_special_ids),
    )
    ids = torch.tensor(chosen)
    with torch.inference_mode():
        tokens = decode(
            model,
            ids,
            torch.ones_like(ids),
            how,
            seeds=[BATCH * batch + i for i in range(BATCH)],
            scheme=SCHEMES[scheme],
            subkey=subkey(scheme, batch),
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_checked_json(path, {"prompts": chosen, "tokens": tokens})
    print(f"{setting.name} {scheme} batch {batch}: {time.perf_counter() - began:.0f} s", flush=True)


def _path(scheme: str, setting: Setting, batch: int) -> Path:
    return WORK / "texts" / f"{setting.name} {scheme} {batch}.json".replace(" ", "_")


def make_all(*, last_first: bool = False) -> None:
    """Everything that is missing; several processes may share the work (a batch made twice is the same batch)."""
    jobs = [(s, name, b) for s in SETTINGS for name in SCHEMES for b in s.batches(name)]
    for setting, name, batch in reversed(jobs) if last_first else jobs:
        make(name, setting, batch)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--last-first", action="store_true", help="backwards, for a second process beside the first")
    make_all(last_first=parser.parse_args().last_first)
