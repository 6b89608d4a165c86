"""Students: the same small model, fine-tuned on the owner's answers, marked in part, wholly or not at all."""

from __future__ import annotations

import random
import shutil
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from benchmarks.radioactivity.texts import FRESH, MODEL, WORK, answer, load, questions, rows
from countermark import libraries
from countermark.files import building, make_dir
from countermark.manifest import read_checked_json, write_checked_json

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.radioactivity.texts import Row

LORA = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
COMMON = {
    "per_device_train_batch_size": 8, "max_length": 256, "learning_rate": 1e-3, "warmup_steps": 5,
    "train_sampling_strategy": "group_by_length", "logging_strategy": "no",
}  # fmt: skip
BATCH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Student:
    """One student.

    Args:
        marked: the marked set, "" for none; ``share`` of the rows comes from it, the others from the unmarked set.
        rows: how many questions; a clean student of another seed sees another selection.
        prompts, new_tokens: how many fresh questions it is asked, and the longest answer.
        read: how many texts it reads.
    """

    name: str
    marked: str = ""
    share: float = 0.0
    rows: int = 512
    epochs: int = 2
    seed: int = 0
    prompts: int = 256
    new_tokens: int = 128
    read: int = 512

    def data(self) -> list[Row]:
        """Its training rows, shuffled by the seed."""
        chosen = list(range(len(rows("unmarked"))))
        random.Random(f"students/{self.seed}").shuffle(chosen)  # noqa: S311 - a selection, not a secret
        marked = rows(self.marked) if self.marked else []
        count = round(self.share * self.rows)
        return [marked[i] if n < count else rows("unmarked")[i] for n, i in enumerate(chosen[: self.rows])]


MARKED = (
    Student(name="unigram-100", marked="unigram", share=1.0, seed=1),
    Student(name="kgw-100", marked="kgw", share=1.0, seed=2),
    Student(name="gumbel-100", marked="gumbel", share=1.0, seed=3),
    Student(name="unigram-50", marked="unigram", share=0.5, seed=4),
    Student(name="unigram-10", marked="unigram", share=0.1, seed=5),
)
CONTROL = Student(name="control-512", seed=6)
"""As large as the marked ones, and wholly unmarked: what the same mode says of a student of their size."""
CLEAN = tuple(
    Student(name=f"clean-{i:02d}", rows=96, epochs=1, seed=100 + i, prompts=48, new_tokens=64, read=48)
    for i in range(20)
)


def folder(student: Student) -> Path:
    """The student's adapter; trained now if it is not there."""
    from pipelines.assets import resolve_model
    from training.lora import train_lora

    path = WORK / "students" / student.name
    if not path.exists():
        started = time.monotonic()
        scratch = WORK / "scratch" / student.name
        turns = [row.dialogue() for row in student.data()]
        random.Random(student.seed).shuffle(turns)  # noqa: S311 - an order, not a secret
        with building(path) as out:
            train_lora(
                resolve_model(MODEL).path, turns, system_prompt="", seed=student.seed, lora=LORA,
                arguments={**COMMON, "num_train_epochs": student.epochs}, out=out, scratch=scratch,
            )  # fmt: skip
        shutil.rmtree(scratch, ignore_errors=True)
        seconds = round(time.monotonic() - started, 1)
        write_checked_json(path.with_suffix(".json"), {"seconds": seconds, "rows": len(turns)})
        print(f"trained {student.name}: {len(turns)} rows, {seconds:.0f} s", flush=True)
    return path


def seconds_of(*students: Student) -> float:
    """How long their trainings took together."""
    return sum(float(read_checked_json(folder(each).with_suffix(".json"))["seconds"]) for each in students)


def answers(student: Student) -> tuple[list[str], list[str]]:
    """Fresh questions and the student's sampled answers, as text: all that a closed model shows."""
    asked = questions()[FRESH : FRESH + student.prompts]
    path = WORK / "answers" / f"{student.name}.json"
    if not path.exists():
        make_dir(path.parent)
        found: list[str] = []
        for number, start in enumerate(range(0, len(asked), BATCH)):
            part = asked[start : start + BATCH]
            found += answer(part, None, seed=10_000 + number, new_tokens=student.new_tokens, model=model(student))
        write_checked_json(path, found)
    return list(asked), read_checked_json(path)


def predictions(student: Student, name: str) -> tuple[list[list[int]], list[list[int]], list[int]]:
    """Texts of set ``name`` in their chat format, the student's likeliest next token everywhere, and where each
    prompt ends. The texts are those of the questions that the student was trained on, first ones first.
    """
    import torch

    _, tokenizer = load()
    path = WORK / "reading" / f"{student.name} {name}.json"
    texts, starts = [], []
    for row in rows(name)[: student.read]:
        chat = [{"role": "user", "content": row.question}]
        prompt = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        head = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        texts.append(head + tokenizer(row.answer, add_special_tokens=False)["input_ids"])
        starts.append(len(head))
    if not path.exists():
        make_dir(path.parent)
        with torch.inference_mode():
            found = [model(student)(torch.tensor([text])).logits[0].argmax(-1).tolist() for text in texts]
        write_checked_json(path, found)
    return texts, read_checked_json(path), starts


@lru_cache(maxsize=1)
def model(student: Student) -> Any:  # noqa: ANN401 - a causal language model
    """The student, merged."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from pipelines.assets import resolve_model

    base = AutoModelForCausalLM.from_pretrained(resolve_model(MODEL).path, dtype=libraries.reading_dtype())
    return PeftModel.from_pretrained(base, str(folder(student))).merge_and_unload().eval()
