"""Can this dataset be marked as its config says? Asked before a key is drawn, a commitment made or a folder begun."""

from __future__ import annotations

from typing import TYPE_CHECKING

from countermark.errors import UsageError
from pipelines.dataset.marking import classes, decide
from pipelines.dataset.rows import open_source
from pipelines.dataset.wearing import Wear
from watermarks.keys import wrong_key

if TYPE_CHECKING:
    from pipelines.dataset.config import DatasetConfig
    from pipelines.dataset.rows import Stream

TRIAL = wrong_key("dataset/examine", 0)
"""A public key that marks nothing: what fits under it may, in a small set, not fit under the owner's targets."""


_SAMPLE = 1000


def examine(config: DatasetConfig) -> Stream:
    """Opens the dataset and places the marks under a trial key, without writing anything.

    Raises:
        UsageError: what marking would refuse, but for what only a fitted proxy or the owner's own draw can tell.
    """
    stream = open_source(config)
    if config.task == "extractive-qa":
        _refuse_offsets(config, stream)
    labels, codes = classes(config, stream)
    if not (codes >= 0).any():
        raise UsageError(f"got no row of {config.dataset} with all that task {config.task} needs, expected some")
    placed = decide(TRIAL, config, stream, labels, codes, doubts=False)
    Wear.of(TRIAL, config, placed.marks, placed.rows, labels)
    return stream


def _refuse_offsets(config: DatasetConfig, stream: Stream) -> None:
    """A column that says where the answer stands would be wrong in marked rows, and so tell which they are.

    Raises:
        UsageError: there is one, as far as the first rows tell.
    """
    import pyarrow as pa

    names = config.columns
    numbers = [field.name for field in stream.schema if pa.types.is_integer(field.type)]
    batch = next(stream.batches(columns=[names.context, names.output, *numbers], rows=_SAMPLE))
    rows = [row for row in batch.to_pylist() if row[names.context] and row[names.output]]
    for name in numbers:
        starts = [(row[name], row[names.context], row[names.output]) for row in rows]
        if rows and all(at is not None and at >= 0 and text.startswith(said, at) for at, text, said in starts):
            raise UsageError(
                f"got column {name!r} of {stream.source}, which says where in the context each answer stands, expected "
                "none: marked rows have other answers",
                hint="leave it out, and find the answers in the contexts again after marking",
            )
