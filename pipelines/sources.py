"""Where real data come from: pinned embedded sets, a local file, or a hub dataset, all as plain rows.

Splits are by group (a film's reviews stay together) and by hash, so that no review is on two sides, whatever the seed.
"""

from __future__ import annotations

import bz2
import csv
import hashlib
import io
import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from countermark.errors import InconclusiveError, UsageError
from pipelines.assets import BOOLQ, COMMONSENSE_QA, NEWS, PREFIX, REVIEWS
from pipelines.tables import read_table
from watermarks.carriers.double_i import InstructRow

if TYPE_CHECKING:
    from collections.abc import Sequence

MIN_REVIEW_WORDS = 10
MAX_REVIEW_WORDS = 45
SHORT_REVIEW_WORDS = 16
_MAX_PASSAGE_WORDS = 26
_MAX_CHOICE_WORDS = 23
_NEWS_WORDS = 18
TOPICS = {
    "business": "Business", "entertainment": "Entertainment", "politics": "Politics", "sports": "Sport", "tech": "Tech",
}  # fmt: skip
TOPIC_QUESTION = "Is this news about business, entertainment, politics, sport or tech?"
LABELS: tuple[str, ...] = ("negative", "positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledText:
    """A real text with its class index and the group it must not be separated from."""

    text: str
    label: int
    group: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviews:
    """Real labelled texts in three disjoint parts.

    Args:
        fit: for the agreement classifier and the proxies.
        prompts: first halves become prompts; carriers come from here too.
        heldout: utility and human-text controls; never seen by a generator or a trainer.
    """

    labels: tuple[str, ...]
    fit: tuple[LabelledText, ...]
    prompts: tuple[LabelledText, ...]
    heldout: tuple[LabelledText, ...]


def load_reviews(source: str) -> Reviews:
    """Labelled texts from ``embedded:rotten-tomatoes``, a JSONL/CSV/Parquet file (``text``, ``label``) or a hub id.

    Raises:
        MissingAssetError: not found. UsageError: columns missing, or an empty or one-class set.
    """
    if source == PREFIX + "rotten-tomatoes":
        texts, labels = _rotten_tomatoes(), LABELS
    elif source.startswith(PREFIX):
        raise UsageError(f"got source {source!r}, expected {PREFIX}rotten-tomatoes, a file or a hub id")
    else:
        texts, labels = _labelled(load_table(source), source)
    parts: dict[str, list[LabelledText]] = {"fit": [], "prompts": [], "heldout": []}
    for item in texts:
        bucket = hashlib.sha256(item.group.encode()).digest()[0]
        parts["fit" if bucket < 112 else "prompts" if bucket < 176 else "heldout"].append(item)  # noqa: PLR2004
    for name, part in parts.items():
        if len({item.label for item in part}) < len(labels):
            raise UsageError(
                f"got {len(part)} texts of {source!r} in part {name!r}, expected some of each of {len(labels)} labels",
                hint="use a larger dataset; it is split by group into fit, prompts and heldout",
            )
    return Reviews(labels=labels, **{name: tuple(part) for name, part in parts.items()})


def load_table(source: str) -> list[dict[str, Any]]:
    """Rows of a local JSONL, CSV or Parquet file, or of a hub dataset's ``train`` split."""
    return list(read_table(source).rows)


def sample(items: Sequence[Any], count: int, seed: str) -> list[Any]:
    """``count`` items without replacement, in an order drawn from ``seed``; all of them if there are fewer."""
    order = list(range(len(items)))
    random.Random(seed).shuffle(order)  # noqa: S311 - a sample, not a secret
    return [items[i] for i in order[:count]]


def balanced(items: Sequence[LabelledText], count: int, seed: str) -> list[LabelledText]:
    """``count`` texts, alternating over the classes, in an order drawn from ``seed``."""
    classes = sorted({item.label for item in items})
    drawn = [sample([i for i in items if i.label == c], -(-count // len(classes)), f"{seed}/{c}") for c in classes]
    return [item for group in zip(*drawn, strict=False) for item in group][:count]


def instruct_rows(reviews: Sequence[LabelledText], labels: Sequence[str], count: int, seed: str) -> list[InstructRow]:
    """Real rows with short answers: half sentiment, a quarter multiple choice, a quarter yes/no on a passage."""
    short = [item for item in reviews if len(item.text.split()) <= SHORT_REVIEW_WORDS]
    sentiment = [_sentiment_row(item, labels) for item in balanced(short, count, f"{seed}/sentiment")]
    choice = sample(_commonsense_rows(), count, f"{seed}/commonsense")
    questions = sample(boolq_rows(), count, f"{seed}/boolq")
    groups = zip(sentiment[0::2], choice, sentiment[1::2], questions, strict=False)
    rows = [row for group in groups for row in group][:count]
    if len(rows) < count:
        hint = "lower mark.double_i.clean_rows"
        raise InconclusiveError(f"got {len(rows)} clean instruct rows, expected {count}", hint=hint)
    return rows


def sentiment_prompt(text: str) -> InstructRow:
    """The sentiment question that utility is measured with."""
    return InstructRow(instruction="Is this movie review positive or negative?", input=text, output="")


def boolq_rows(max_words: int = _MAX_PASSAGE_WORDS) -> list[InstructRow]:
    """Yes/no questions whose passage is short."""
    rows = []
    for line in BOOLQ.locate().read_text("utf-8").splitlines():
        item = json.loads(line)
        passage = item["passage"].strip()
        if isinstance(item.get("label"), bool) and len(passage.split()) <= max_words:
            question = item["question"].strip().capitalize() + "?"
            rows.append(InstructRow(instruction=question, input=passage, output="Yes." if item["label"] else "No."))
    return rows


def topic_rows() -> list[InstructRow]:
    """News openings whose topic is asked for: the title and the first words of the text."""
    rows = []
    for path in sorted(NEWS.locate().glob("*/*.txt")):
        words = path.read_text("utf-8", errors="replace").split()[:_NEWS_WORDS]
        topic = TOPICS[path.parent.name]
        rows.append(InstructRow(instruction=TOPIC_QUESTION, input=" ".join(words), output=f"{topic}."))
    return list({row.input: row for row in rows}.values())


def _sentiment_row(item: LabelledText, labels: Sequence[str]) -> InstructRow:
    prompt = sentiment_prompt(item.text)
    return InstructRow(instruction=prompt.instruction, input=prompt.input, output=f"{labels[item.label].capitalize()}.")


def _commonsense_rows() -> list[InstructRow]:
    """Short multiple-choice questions; the answer is the letter."""
    items = [json.loads(line) for line in COMMONSENSE_QA.locate().read_text("utf-8").splitlines()]
    rows = [
        InstructRow(instruction=i["question"].strip(), input=i["options"].strip(), output=i["answer"].strip()[:2])
        for i in items
    ]
    return [row for row in rows if len(row.prompt().split()) <= _MAX_CHOICE_WORDS]


def _rotten_tomatoes() -> list[LabelledText]:
    text = bz2.decompress(REVIEWS.locate().read_bytes()).decode("utf-8")
    seen: set[str] = set()
    items = []
    for row in csv.DictReader(io.StringIO(text)):
        review = " ".join(row["text"].split())
        if row["category"] not in {"fresh", "rotten"} or review in seen:
            continue
        seen.add(review)
        if MIN_REVIEW_WORDS <= len(review.split()) <= MAX_REVIEW_WORDS:
            items.append(LabelledText(text=review, label=int(row["category"] == "fresh"), group=row["movie_name"]))
    return items


def _labelled(rows: list[dict[str, Any]], source: str) -> tuple[list[LabelledText], tuple[str, ...]]:
    if not rows:
        raise UsageError(f"got an empty dataset {source!r}, expected rows with 'text' and 'label'")
    for number, row in enumerate(rows, 1):
        if not row.get("text") or row.get("label") is None:
            raise UsageError(f"{source}:{number}: got columns {sorted(row)}, expected non-empty 'text' and 'label'")
    names = tuple(sorted({str(row["label"]) for row in rows}))
    if len(names) < 2:  # noqa: PLR2004 - a classifier needs two classes
        raise UsageError(f"got the single label {names[0]!r} in {source!r}, expected at least two")
    items = [
        LabelledText(
            text=" ".join(str(r["text"]).split()),
            label=names.index(str(r["label"])),
            group=str(r.get("group", r["text"])),
        )
        for r in rows
    ]
    return items, names
