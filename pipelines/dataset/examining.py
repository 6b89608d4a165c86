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


def examine(config: DatasetConfig) -> Stream:
    """Opens the dataset and places the marks under a trial key, without writing anything.

    Raises:
        UsageError: what marking would refuse, but for what only a fitted proxy or the owner's own draw can tell.
    """
    stream = open_source(config)
    labels, codes = classes(config, stream)
    if not (codes >= 0).any():
        raise UsageError(f"got no row of {config.dataset} with all that task {config.task} needs, expected some")
    placed = decide(TRIAL, config, stream, labels, codes, doubts=False)
    Wear.of(TRIAL, config, placed.marks, placed.rows, labels)
    return stream
