"""Fine-tunes an encoder with a span head: questions on passages in, an extractive reader's folder out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from countermark import libraries
from countermark.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_MIN_LENGTH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class QaRow:
    """A question, a context and the answer as it stands there.

    Args:
        start: the answer's first character in ``context``, counted in code points from 0.

    Raises:
        UsageError: the answer is blank, or does not stand at ``start``.
    """

    question: str
    context: str
    answer: str
    start: int

    def __post_init__(self) -> None:
        if not self.answer.strip():
            raise UsageError(f"got a blank answer to {self.question!r}, expected a span of the context")
        found = self.context[self.start : self.start + len(self.answer)] if self.start >= 0 else ""
        if found != self.answer:
            raise UsageError(
                f"got {found!r} at offset {self.start} of the context, expected the answer {self.answer!r}",
                hint="'start' counts characters (code points) of the context from 0",
            )


def train_qa(
    base: Path,
    rows: Sequence[QaRow],
    *,
    max_length: int,
    seed: int,
    arguments: Mapping[str, Any],
    out: Path,
    scratch: Path,
    on_start: Callable[[int], None] = lambda _: None,
    on_step: Callable[[int], None] = lambda _: None,
) -> None:
    """Trains and writes ``out``: weights as safetensors, config, tokenizer.

    Deterministic on CPU for one seed and thread count. ``arguments`` are ``transformers.TrainingArguments`` by name;
    dropout is off and attention eager, as in :func:`training.classifier.train_classifier`.

    Only the context is truncated to ``max_length`` tokens of question and context (but a question longer than half of
    that is cut to half of it). A row whose answer is truncated away is trained to the first token (``[CLS]``), which
    is how such models say "not here".

    Raises:
        UsageError: no rows, or a ``max_length`` that the base cannot hold.
    """
    import torch
    from transformers import DataCollatorWithPadding, PrinterCallback, Trainer, TrainingArguments, set_seed

    from training.hooks import StepProgress, publish

    libraries.quiet()
    libraries.keep_freed_memory()
    set_seed(seed)
    tokenizer, model = _load(base, rows, max_length)
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(scratch), seed=seed, data_seed=seed, report_to="none", save_strategy="no",
            logging_strategy="no", disable_tqdm=True, dataloader_pin_memory=False,
            **({"use_cpu": not torch.accelerator.is_available()} | dict(arguments)),
        ),
        train_dataset=[encode_row(tokenizer, row, max_length=max_length) for row in rows],
        data_collator=DataCollatorWithPadding(tokenizer),
        callbacks=[StepProgress(on_start, on_step)],
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    publish(out)


def encode_row(tokenizer: Any, row: QaRow, *, max_length: int) -> dict[str, Any]:  # noqa: ANN401
    """Token ids of question and context, with ``start_positions`` and ``end_positions``: the answer's tokens, or 0."""
    question = cut_question(tokenizer, row.question, max_length=max_length)
    encoded = tokenizer(
        question, row.context, truncation="only_second", max_length=max_length, return_offsets_mapping=True
    )
    end = row.start + len(row.answer)
    offsets = encoded.pop("offset_mapping")
    parts = encoded.sequence_ids()
    # a token that shares a character with the answer belongs to it
    inside = [i for i, (a, b) in enumerate(offsets) if parts[i] == 1 and a < end and b > row.start]
    whole = bool(inside) and offsets[inside[-1]][1] >= len(row.context[:end].rstrip())
    first, last = (inside[0], inside[-1]) if whole else (0, 0)
    return {**encoded, "start_positions": first, "end_positions": last}


def cut_question(tokenizer: Any, question: str, *, max_length: int) -> str:  # noqa: ANN401
    """The question, cut to the tokens that fit half of ``max_length``: the context keeps the other half."""
    offsets = tokenizer(question, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    room = max_length // 2
    return question if len(offsets) <= room else question[: offsets[room - 1][1]]


def _load(base: Path, rows: Sequence[QaRow], max_length: int) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoModelForQuestionAnswering, AutoTokenizer

    where: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    config = AutoConfig.from_pretrained(base, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **where)
    limit = getattr(config, "max_position_embeddings", max_length)
    if not rows:
        raise UsageError("got 0 rows, expected at least one question")
    if not _MIN_LENGTH <= max_length <= limit:
        raise UsageError(f"got max_length {max_length}, expected {_MIN_LENGTH} to {limit}, the base model's positions")
    model = AutoModelForQuestionAnswering.from_pretrained(
        base, config=config, use_safetensors=True, attn_implementation="eager", **where
    )
    return AutoTokenizer.from_pretrained(base, **where), model
