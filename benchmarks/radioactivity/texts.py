"""The owner's answers to real questions, marked and unmarked, made once and kept: students are trained on them.

Resumable by batch. 2 cores: about 5 minutes a set, four sets.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countermark import libraries
from countermark.files import make_dir
from countermark.manifest import read_checked_json, write_checked_json
from watermarks.keys import wrong_key
from watermarks.schemes import Gumbel, Kgw, Scheme, Unigram

if TYPE_CHECKING:
    from collections.abc import Sequence

WORK = Path(__file__).parent / "cache"
MODEL = "embedded:smollm2-135m-instruct"
QUESTION = "Write a short text that answers this question: {question}?"
ROWS, BATCH, NEW_TOKENS = 512, 64, 64
FRESH = 4096
"""Prompts from this one on are never answered in training."""
KEY = wrong_key("benchmarks/radioactivity", 0)
"""The owner's key: public, since this is a benchmark."""

SCHEMES: dict[str, Scheme | None] = {
    "unigram": Unigram(),
    "kgw": Kgw(gamma=0.25, delta=3.0, context_width=1),
    "gumbel": Gumbel(context_width=2),
    "unmarked": None,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One question with the owner's answer."""

    question: str
    answer: str

    def dialogue(self) -> tuple[str, str]:
        """What a student is trained on."""
        return self.question, self.answer


def subkey(scheme: Scheme, who: Any = KEY) -> bytes:  # noqa: ANN401 - a Key
    """The token sub-key of the owner, or of another key."""
    label = {"scheme": scheme.name, "params": scheme.params(), "tokenizer": MODEL, "scope": "radioactivity"}
    found: bytes = who.token_subkey(**label)
    return found


@lru_cache(maxsize=1)
def questions() -> tuple[str, ...]:
    """Distinct real questions, in the order of the file."""
    from pipelines.assets import BOOLQ

    lines = BOOLQ.locate().read_text("utf-8").splitlines()
    asked = dict.fromkeys(json.loads(line)["question"].rstrip("? ") for line in lines)
    return tuple(QUESTION.format(question=question) for question in asked)


def rows(name: str) -> list[Row]:
    """All rows of one set; what is missing is made first."""
    found: list[Row] = []
    for number in range(ROWS // BATCH):
        path = WORK / "texts" / f"{name}-{number:02d}.json"
        asked = questions()[number * BATCH : (number + 1) * BATCH]
        if not path.exists():
            make_dir(path.parent)
            write_checked_json(path, answer(asked, SCHEMES[name], seed=number, new_tokens=NEW_TOKENS))
            print(f"  {path.name}", flush=True)
        found += [Row(question=q, answer=a) for q, a in zip(asked, read_checked_json(path), strict=True)]
    return found


@lru_cache(maxsize=1)
def load() -> tuple[Any, Any]:
    """The owner's model and tokenizer, once."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from pipelines.assets import resolve_model

    libraries.quiet()
    libraries.keep_freed_memory()
    folder = resolve_model(MODEL).path
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    return AutoModelForCausalLM.from_pretrained(folder, dtype=libraries.reading_dtype()).eval(), tokenizer


def answer(
    asked: Sequence[str],
    scheme: Scheme | None,
    *,
    seed: int,
    new_tokens: int,
    model: Any = None,  # noqa: ANN401
) -> list[str]:
    """Sampled answers (T = 1, top-p .95) of the owner's model or of ``model``, as text."""
    from pipelines.engines.decoding import Decoding, decode

    owner, tokenizer = load()
    chats = [[{"role": "user", "content": question}] for question in asked]
    texts = tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)
    encoded = tokenizer(texts, padding=True, add_special_tokens=False, return_tensors="pt")
    tokens = decode(
        model or owner,
        encoded["input_ids"],
        encoded["attention_mask"],
        Decoding(max_new_tokens=new_tokens, min_new_tokens=16, top_p=0.95, stop=(tokenizer.eos_token_id,)),
        seeds=[1_000_000 * seed + i for i in range(len(asked))],
        scheme=scheme,
        subkey=b"" if scheme is None else subkey(scheme),
    )
    decoded: list[str] = tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return decoded
