"""The embedded tasks as datasets: real texts that come with ``countermark assets install``.

``embedded:reviews`` (2 classes), ``embedded:topics`` (5), ``embedded:spans`` (extractive questions),
``embedded:answers`` (free answers), ``embedded:summaries`` (of news), ``embedded:dialogues`` (55 summaries of talks: a
fixture), ``embedded:review-writing``. Each has a part to train on and a part that is held out, split by group (a film,
an article, a passage) and by hash.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from countermark.errors import UsageError
from pipelines import tasks
from pipelines.assets import NEWS, PREFIX
from pipelines.sources import TOPICS, load_reviews, sample
from pipelines.tasks import is_trained_on

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Row = dict[str, Any]
_MIN_WORDS, _MAX_WORDS = 8, 40
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'])")


def embedded_rows(source: str, *, part: str, count: int, seed: int) -> list[Row]:
    """Rows of an embedded task, ``part`` ``train`` or ``heldout``; ``count`` of the training rows (0: all).

    Classes are balanced as far as they go; rows have an ``id`` first. The sample is drawn by the public seed.
    """
    name = source.removeprefix(PREFIX)
    if name not in _TASKS:
        known = ", ".join(PREFIX + each for each in _TASKS)
        raise UsageError(f"got dataset {source!r}, expected one of {known}, a file, a folder, a URL or a hub id")
    rows = _TASKS[name](part)
    chosen = _balanced(rows, count or len(rows), f"{name}/{part}/{seed}") if part == "train" else rows
    if part == "train" and count > len(chosen):
        raise UsageError(f"got rows {count}, expected at most the {len(chosen)} that {source} has", hint="lower `rows`")
    return [{"id": f"{part[0]}{number:06d}", **row} for number, row in enumerate(chosen)]


def _balanced(rows: Sequence[Row], count: int, seed: str) -> list[Row]:
    if "label" not in rows[0]:
        return sample(rows, count, seed)
    classes: dict[str, list[Row]] = {}
    for row in sample(rows, len(rows), seed):
        classes.setdefault(row["label"], []).append(row)
    each, most = -(-count // len(classes)), max(map(len, classes.values()))
    while each < most and sum(min(len(own), each) for own in classes.values()) < count:
        each += 1  # a small class is used up, and the others make up for it
    drawn = [row for name in sorted(classes) for row in classes[name][:each]]
    return sample(drawn, count, f"{seed}/order")


def _reviews(part: str) -> list[Row]:
    reviews = load_reviews(f"{PREFIX}rotten-tomatoes")
    items = reviews.heldout if part == "heldout" else (*reviews.fit, *reviews.prompts)
    return [{"text": item.text, "label": reviews.labels[item.label]} for item in items]


def _topics(part: str) -> list[Row]:
    rows: dict[str, Row] = {}
    for path in sorted(NEWS.locate().glob("*/*.txt")):
        if is_trained_on(f"{path.parent.name}/{path.name}") == (part == "heldout"):
            continue
        text = " ".join(path.read_text("utf-8", errors="replace").split())
        for sentence in _SENTENCE.split(text):
            if _MIN_WORDS <= len(sentence.split()) <= _MAX_WORDS:
                rows.setdefault(sentence, {"text": sentence, "label": TOPICS[path.parent.name]})
    return list(rows.values())


def _spans(part: str) -> list[Row]:
    return [
        {"prompt": row.question, "context": row.context, "output": row.answer}
        for row in getattr(tasks.span_rows(), part)
    ]


def _free(rows: Callable[[], tasks.Parts[tasks.TaskRow]]) -> Callable[[str], list[Row]]:
    def of(part: str) -> list[Row]:
        return [{"prompt": row.row.prompt(), "output": row.row.output} for row in getattr(rows(), part)]

    return of


_TASKS: dict[str, Callable[[str], list[Row]]] = {
    "reviews": _reviews,
    "topics": _topics,
    "spans": _spans,
    "answers": _free(tasks.answer_rows),
    "summaries": _free(tasks.summary_rows),
    "dialogues": _free(tasks.dialogue_rows),
    "review-writing": _free(tasks.review_rows),
}
