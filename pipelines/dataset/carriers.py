"""What an audit puts its triggers into, and what it asks: chosen by a public seed, blind to every key.

What reaches a suspect must be independent of the targets. So the rows that carriers come from are set aside first; only
then does the key place its marks among the other rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.dataset.placing import set_aside
from pipelines.dataset.rows import check_columns, open_heldout, open_source, read_labels, rows_of, texts
from pipelines.dataset.wearing import with_options
from pipelines.sources import sample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.dataset.config import DatasetConfig
    from pipelines.dataset.rows import Labels, Stream


def carriers(config: DatasetConfig, mark: str) -> tuple[list[str], list[str], tuple[str, ...]]:
    """A mark's texts or questions, their labels where they have any, and the label names."""
    stream = open_source(config)
    if config.task == "classification":
        labels = read_labels(config, stream)
        aside = set_aside(labels.codes, config.audit.carriers, str(config.seed))
        found = rows_of(stream, aside)
        said = ["" if (text := found[row][config.columns.text]) is None else str(text) for row in aside]
        return said, [labels.names[labels.codes[row]] for row in aside], labels.names
    heldout = open_heldout(config)
    return _chosen(config, mark, _questions(config, stream if heldout is None else heldout)), [], ()


def reserved(config: DatasetConfig, stream: Stream, labels: Labels | None) -> set[int]:
    """Rows of ``stream`` that carriers come from: none where those come from held-out rows.

    The free texts of ``weak`` and ``steganographic`` marks have no carriers, and the questions that are asked for them
    no trigger: theirs may be prompts of marked rows.
    """
    if labels is not None:
        return set(set_aside(labels.codes, config.audit.carriers, str(config.seed)))
    if config.marks.robust is None or open_heldout(config) is not None:
        return set()
    questions = _questions(config, stream)
    chosen = set(_chosen(config, "robust", questions))
    return {row for row, question in enumerate(questions) if question in chosen}


def shortfall(config: DatasetConfig, mark: str, found: Sequence[str]) -> str:
    """What to tell of a mark that is asked with fewer questions than its config says; "" of the others."""
    wanted = _count(config, mark)
    if config.task == "classification" or len(found) >= wanted:
        return ""
    return f"mark {mark} is asked {len(found)} questions, not {wanted}: there are no more distinct ones"


def _count(config: DatasetConfig, mark: str) -> int:
    return config.audit.carriers if mark == "robust" else config.audit.questions


def _chosen(config: DatasetConfig, mark: str, questions: Sequence[str]) -> list[str]:
    distinct = [each for each in dict.fromkeys(questions) if each]
    return sample(distinct, _count(config, mark), f"questions/{config.seed}")


def _questions(config: DatasetConfig, stream: Stream) -> list[str]:
    """Row by row, as they are asked; "" where a row asks nothing."""
    names, form = config.columns, config.marks.robust
    if config.task != "extractive-qa":
        check_columns(config, stream, (names.prompt,))
        return texts(stream, names.prompt)
    check_columns(config, stream, (names.prompt, names.context))
    options = tuple(form.openings) if form else ()
    pairs = zip(texts(stream, names.prompt), texts(stream, names.context), strict=True)
    return [f"{prompt}\n{with_options(context, options)}" if prompt and context else "" for prompt, context in pairs]
