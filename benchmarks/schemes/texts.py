"""Marked and unmarked texts of the embedded model, made once and kept: every later figure reads them.

Resumable: a batch that is on disk is not made again. 2 cores: about 45 minutes for all.
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

    from pipelines.engines.decoding import Decoding

WORK = Path(__file__).parent / "cache"
MODEL = "embedded:smollm2-135m-instruct"
QUESTION = "Write a long and detailed text that answers this question: {question}?"
PASSAGE_TOKENS = 24

SCHEMES: dict[str, Scheme | None] = {
    "gumbel": Gumbel(),
    "kgw": Kgw(context_width=2),
    "tournament": Tournament(),
    "unmarked": None,
    "kgw self-salt": Kgw(context_width=4, self_salt=True),
    "unigram": Unigram(),
}
"""Default parameters; ``kgw`` at h = 2."""
DUAL = Gumbel(alpha=0.1)


WITH_BARS = ("gumbel", "kgw", "tournament")
"""Schemes of which 512 texts are made at T = 1; 192 are left unmarked, and 64 made of every other scheme."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """So many texts of one length, made together."""

    rows: int
    tokens: int


LONG, SHORT, HALF = Batch(rows=64, tokens=400), Batch(rows=128, tokens=200), Batch(rows=64, tokens=200)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One way to ask and to sample.

    Args:
        chat: the model answers real questions in its chat format; else it continues real passages, unasked, and soon
            rambles: text of high entropy, which is easy to mark.
    """

    name: str
    chat: bool
    temperature: float
    top_p: float

    def batches(self, scheme: str) -> tuple[Batch, ...]:
        """What is made of a scheme."""
        if not self.chat:
            return (Batch(rows=128, tokens=400), SHORT, SHORT, SHORT) if scheme in WITH_BARS else ()
        if self.temperature != 1.0:
            return () if scheme == "unmarked" else (LONG,)
        if scheme in WITH_BARS:
            return (LONG, SHORT, SHORT, SHORT, HALF)
        return (LONG, SHORT) if scheme == "unmarked" else (LONG,)


CHAT = Setting(name="chat T=1", chat=True, temperature=1.0, top_p=1.0)
SETTINGS = (
    CHAT,
    Setting(name="chat T=.7 top-p .9", chat=True, temperature=0.7, top_p=0.9),
    Setting(name="continuation T=1", chat=False, temperature=1.0, top_p=1.0),
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
    for batch in range(len(setting.batches(scheme))):
        body = read_checked_json(_path(scheme, setting, batch))
        for prompt, tokens in zip(body["prompts"], body["tokens"], strict=True):
            yield Text(prompt=tuple(prompt), tokens=tuple(tokens), subkey=subkey(scheme, batch))


@lru_cache(maxsize=1)
def load() -> tuple[Any, Any]:
    """Model and tokenizer, once."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from pipelines.assets import resolve_model

    libraries.quiet()
    libraries.keep_freed_memory()
    folder = resolve_model(MODEL).path
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    return AutoModelForCausalLM.from_pretrained(folder, dtype=libraries.reading_dtype()).eval(), tokenizer


def prompts(count: int, *, chat: bool) -> list[list[int]]:
    """Token ids of ``count`` different real prompts."""
    import json

    from pipelines.assets import BOOLQ

    _, tokenizer = load()
    found: dict[str, list[int]] = {}
    for line in BOOLQ.locate().read_text("utf-8").splitlines():
        row = json.loads(line)
        if chat:
            asked = [{"role": "user", "content": QUESTION.format(question=row["question"].rstrip("? "))}]
            ids = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=True)["input_ids"]
        else:
            ids = tokenizer(row.get("passage") or "", add_special_tokens=False)["input_ids"][:PASSAGE_TOKENS]
        if chat or len(ids) == PASSAGE_TOKENS:
            found.setdefault(str(ids), ids)
        if len(found) == count:
            break
    return list(found.values())


def make(scheme: str, setting: Setting, number: int) -> None:
    """Generates one batch, unless it is there."""
    from pipelines.engines.decoding import Decoding

    path = _path(scheme, setting, number)
    if path.exists():
        return
    model, tokenizer = load()
    began = time.perf_counter()
    batches = setting.batches(scheme)
    before, batch = sum(each.rows for each in batches[:number]), batches[number]
    chosen = prompts(before + batch.rows, chat=setting.chat)[before:]
    how = Decoding(
        max_new_tokens=batch.tokens,
        min_new_tokens=batch.tokens,
        temperature=setting.temperature,
        top_p=setting.top_p,
        stop=tuple(tokenizer.all_special_ids),
    )
    seeds = [before + i for i in range(batch.rows)]
    tokens = generate(model, tokenizer, chosen, how, seeds=seeds, scheme=SCHEMES[scheme], key=subkey(scheme, number))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_checked_json(path, {"prompts": chosen, "tokens": tokens})
    print(f"{setting.name}, {scheme}, batch {number}: {time.perf_counter() - began:.0f} s", flush=True)


def generate(
    model: Any,  # noqa: ANN401
    tokenizer: Any,  # noqa: ANN401
    chosen: list[list[int]],
    how: Decoding,
    *,
    seeds: list[int],
    scheme: Scheme | None,
    key: bytes,
) -> list[list[int]]:
    """New tokens of every prompt, through our loop."""
    import torch

    from pipelines.engines.decoding import decode

    padded = tokenizer.pad({"input_ids": chosen}, padding_side="left", return_tensors="pt")
    with torch.inference_mode():
        return decode(model, padded["input_ids"], padded["attention_mask"], how, seeds=seeds, scheme=scheme, subkey=key)


def _path(scheme: str, setting: Setting, batch: int) -> Path:
    return WORK / "texts" / f"{setting.name} {scheme} {batch}.json".replace(" ", "_")


def make_all(*, last_first: bool = False) -> None:
    """Everything that is missing; several processes may share the work (a batch made twice is the same batch)."""
    jobs = [(s, name, b) for s in SETTINGS for name in SCHEMES for b in range(len(s.batches(name)))]
    for setting, name, batch in reversed(jobs) if last_first else jobs:
        make(name, setting, batch)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--last-first", action="store_true", help="backwards, for a second process beside the first")
    make_all(last_first=parser.parse_args().last_first)
