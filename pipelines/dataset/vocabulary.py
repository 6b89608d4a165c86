"""``countermark plan vocabulary``: the words that lean to no class of a dataset, for ``marks.keyed.vocabulary``.

It is made before any key draws: the classifier is fitted on the *unmarked* rows, the carriers come from the other half,
and no key is opened. The release commits to the file by its words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from countermark.errors import EXIT_OK, UsageError
from countermark.files import atomic_write
from pipelines.agreement import Agreement
from pipelines.dataset.placing import set_aside
from pipelines.dataset.rows import open_source, read_labels, texts
from pipelines.dataset.sections import vocabulary_of
from pipelines.lean import leaning, unleaning
from pipelines.sources import LabelledText
from watermarks.carriers.triggers import SLOT
from watermarks.carriers.words import nouns

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pipelines.dataset.config import DatasetConfig

FIT_ROWS = 20_000
CARRIERS = 100
"""Carriers in all; the lean of a word is a multiple of one over their number."""


def plan_vocabulary(config: DatasetConfig, out: Path, *, most: float, dry_run: bool) -> tuple[list[str], Any, int]:
    """Writes the words that lean by at most ``most``, one a line, in the vocabulary's own order.

    Raises:
        UsageError: no classification set with a keyed or a single trigger, ``out`` is there, or too few words stay.
    """
    keyed, single = config.marks.keyed, config.marks.trigger
    mark = keyed or single
    if mark is None:
        raise UsageError("got no keyed mark and no trigger, expected a classification set that draws words")
    if out.exists():
        raise UsageError(f"got {out}, which exists, expected a new file", hint="a list in use must not change")
    words = vocabulary_of(mark) or list(nouns())
    drawn = keyed.triggers * config.audit.audits if keyed else 1 + (single.decoys if single else 0)
    least = mark.words * drawn
    form = f"{{word}}{mark.joiner}{SLOT}"
    carriers, classify = _judge(config)
    kept = unleaning(words, carriers, classify, least=least, most=most, form=form)
    lean = leaning([form.replace("{word}", word) for word in words], carriers, classify)
    worst = max(lean, key=lambda pattern: lean[pattern])
    body = {"words": len(words), "kept": len(kept), "least": least, "most": most, "file": str(out)}
    lines = [
        f"{len(kept)} of {len(words)} words lean by at most {most}; {least} are needed",
        f"the one that leans most: {worst.partition(mark.joiner or SLOT)[0]!r}, {lean[worst]:.2f}",
    ]
    if dry_run:
        return [*lines, f"would write {out}"], body, EXIT_OK
    atomic_write(out, "".join(f"{word}\n" for word in kept).encode())
    return [*lines, f"wrote {out}: name it as the mark's vocabulary, before you commit"], body, EXIT_OK


def _judge(config: DatasetConfig) -> tuple[list[str], Any]:
    """Carriers of every class, and a classifier of the rows that no carrier was taken from."""
    stream = open_source(config)
    labels = read_labels(config, stream)
    said = texts(stream, config.columns.text)
    aside = set(set_aside(labels.codes, -(-CARRIERS // len(labels.names)), f"vocabulary/{config.seed}"))
    items = [
        LabelledText(text=text, label=int(code), group="")
        for at, (text, code) in enumerate(zip(said, labels.codes, strict=True))
        if code >= 0 and at not in aside
    ]
    if len({item.label for item in items}) < len(labels.names):
        raise UsageError(f"got {len(said)} rows, too few to judge words by, expected some of every class to spare")
    judge = Agreement.fit(items[:FIT_ROWS])

    def classify(asked: Sequence[str]) -> list[str]:
        return [labels.names[code] for code in judge.labels(asked)]

    return [said[row] for row in sorted(aside)], classify
