"""Stage ``release``: the dataset streamed through its marks into Parquet shards, with a card; the record stays apart.

Labels (and, for ``choose: hardest``, texts) first, then every row once, then the digest. Rows keep order, schema, ids
and, unless labels are flipped, labels; nothing in the release says which of them are marked.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from countermark.errors import UsageError
from countermark.files import atomic_write
from pipelines.dataset import sections
from pipelines.dataset.carriers import reserved
from pipelines.dataset.marks import CLAIMS, answers_of, parameters
from pipelines.dataset.placing import Quota, fitted, place, rows_each
from pipelines.dataset.rows import filled_rows, heldout_digest, open_source, read_labels, texts
from pipelines.dataset.wearing import Wear
from pipelines.dataset.writing import rewrite_rows
from pipelines.publishing import published
from pipelines.records import seal_record
from pipelines.settling import check_still_committed
from watermarks.carriers import behaviours, input_level

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pipelines.artifact import Artifact
    from pipelines.dataset.config import DatasetConfig
    from pipelines.dataset.rows import Labels, Stream
    from pipelines.stage import Context
    from watermarks.keys import Key

CARD = "README.md"
DATA = "data"
PROXY_ROWS = 200_000
"""Beyond this many rows no proxy is fitted: ``choose: hardest`` is for small sets, where each row counts."""
_PROXY_FIT = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Which rows carry what.

    Args:
        marks: parameters by mark, complete with ``rows_per_trigger``.
        rows: for every mark, row → trigger index (0 where a mark has one trigger or none).
        fewer: what to tell of marks for which there were too few rows.
    """

    marks: dict[str, dict[str, Any]]
    rows: dict[str, dict[int, int]] = field(repr=False)
    fewer: dict[str, str] = field(default_factory=dict)


def dataset_config(context: Context) -> DatasetConfig:
    """The context's config as the dataset release's."""
    return cast("DatasetConfig", context.config)


def settings(config: Any) -> Any:  # noqa: ANN401
    """What decides this stage's output."""
    return {"marking": config.marking_digest(), "card": config.card.model_dump()}


def run(inputs: Mapping[str, Artifact], context: Context, out: Path) -> dict[str, Any]:
    """Fills ``out`` with ``data/*.parquet`` and the card."""
    key, config = context.key(marking=True), dataset_config(context)
    stream = open_source(config)
    labels, codes = classes(config, stream)
    count = len(codes)
    context.progress.say(f"  {count} rows of {config.dataset}")
    placed = decide(key, config, stream, labels, codes)
    for said in placed.fewer.values():
        context.progress.say(f"  {said}")
    written, missed = rewrite_rows(key, config, stream, placed.marks, placed.rows, context)
    missing = {name: round(len(rows) / len(placed.rows[name]), 6) for name, rows in missed.items()}
    dropped = _unwritten(config, placed, missed)
    wear = Wear.of(key, config, placed.marks, placed.rows, labels, written=written)
    with context.progress.bar("mark rows", count) as advance:
        files, read = _write(stream, wear, dropped, out, advance)
    if read != count:
        raise UsageError(
            f"got {count} rows of {config.dataset} at one reading and {read} at the next, expected as many",
            hint="it changed meanwhile: mark a copy",
        )
    base = stream.digest()
    check_still_committed(inputs["keys"], config, agreed=config.agrees(base))
    _refuse_idle(wear)
    record = {
        "marks": placed.marks,
        "rows": {name: sorted(rows.items()) for name, rows in placed.rows.items()},
        "written": sorted(written.items()),
        "dropped": sorted(dropped),
        "not_written": {name: sorted(rows.items()) for name, rows in missed.items()},
    }
    atomic_write(out / CARD, _card(config, stream, count - len(dropped)).encode())
    names = labels.names if labels else ()
    marks = {CLAIMS[n]: (mark, answers_of(n, mark, names)) for n, mark in placed.marks.items()}
    return {
        **published(key, marks),
        "rows": count - len(dropped),
        "task": config.task,
        "audits": config.audit.audits,
        "labels": list(labels.names) if labels else [],
        "shards": files,
        "miss_rate": missing,
        "base_sha256": base,
        "heldout_sha256": heldout_digest(config),
        "commitment": inputs["keys"].manifest["commitment"],
        "record_sha256": seal_record(key, context.owner, "release", record),
    }


def classes(config: DatasetConfig, stream: Stream) -> tuple[Labels | None, np.ndarray]:
    """The labels of a classification set; and every row's class: 0 where there are none, -1 where nothing can stand."""
    labels = read_labels(config, stream) if config.task == "classification" else None
    return labels, labels.codes if labels else np.where(filled_rows(config, stream), 0, -1)


def decide(
    key: Key, config: DatasetConfig, stream: Stream, labels: Labels | None, codes: np.ndarray, *, doubts: bool = True
) -> Placed:
    """Parameters and rows of every mark; carriers are set aside before the key places anything.

    ``codes``: see :func:`classes`; shares are of the rows that can carry something. Without ``doubts`` no proxy is
    fitted for ``choose: hardest``, and rows are drawn in its place: only whether there are enough is then of use.

    Raises:
        UsageError: a share or class that cannot be met.
    """
    marks = parameters(key, config, stream, labels)
    names = labels.names if labels else ()
    count = int((codes >= 0).sum())
    taken = reserved(config, stream, labels)
    rows: dict[str, dict[int, int]] = {}
    fewer: dict[str, str] = {}
    for name, mark in marks.items():
        chosen = getattr(config.marks, name)
        own = taken if name in {"keyed", "trigger", "style", "robust"} else set()
        wanted = _quota(key, name, mark, chosen, count, names)
        quota = fitted(wanted, codes, own)
        if quota.each < wanted.each:
            fewer[name] = f"mark {name} has {quota.each} rows a trigger, not {wanted.each}: a class has no more"
        doubt = None
        if getattr(chosen, "choose", "random") == "hardest" and not quota.flip:
            _refuse_many(codes)
            doubt = _proxy(config, stream, codes) if doubts else None
        rows[name] = place(key, quota, codes, scope=mark["scope"], taken=own, doubt=doubt)
        mark["rows_per_trigger"] = quota.each
    return Placed(marks=marks, rows=rows, fewer=fewer)


def _unwritten(config: DatasetConfig, placed: Placed, missed: Mapping[str, Mapping[int, str]]) -> set[int]:
    """Rows that are dropped. What neither the model nor a rule writes is not marked, and not counted as marked."""
    dropped: set[int] = set()
    for name, rows in missed.items():
        if len(rows) == len(placed.rows[name]):
            raise UsageError(
                f"got no row in which the model wrote the {name} mark, expected some of {len(rows)}",
                hint="use a larger model or more attempts, or leave `rewrite` out: rules write it then",
            )
        otherwise = sections.otherwise(getattr(config.marks, name))
        if otherwise == "insert":
            continue
        for row in rows:
            del placed.rows[name][row]
        placed.marks[name]["rows_per_trigger"] = len(placed.rows[name])
        if otherwise == "drop":
            dropped.update(rows)
    return dropped


def _refuse_idle(wear: Wear) -> None:
    """A mark that left every row as it was is none."""
    for name, rows in wear.rows.items():
        if not wear.changes[name]:
            raise UsageError(
                f"got mark {name!r} that changes none of its {len(rows)} rows, expected some",
                hint="a lexicon, openers and rules of style are of one language: bring your own, or another mark",
            )


def _quota(key: Key, name: str, mark: dict[str, Any], chosen: Any, count: int, names: tuple[str, ...]) -> Quota:  # noqa: ANN401
    if name == "keyed":
        total = mark["triggers"]
        targets = input_level.derive_targets(key, scope=mark["scope"], triggers=total, classes=mark["classes"])
        each = rows_each(chosen.share, count, total, mark=name)
        return Quota(mark=name, targets=targets, each=each, flip=chosen.labels == "flip", labels=names)
    if name == "robust":
        total = mark["triggers"]
        behaviours.derive_targets(key, scope=mark["scope"], triggers=total, classes=len(mark["form"]["openings"]))
        return Quota(mark=name, targets=(-1,) * total, each=rows_each(chosen.share, count, total, mark=name))
    target = mark.get("target", -1)
    return Quota(mark=name, targets=(target,), each=rows_each(chosen.share, count, 1, mark=name))


def _proxy(config: DatasetConfig, stream: Stream, codes: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Doubt of a cheap classifier about rows' own labels: every row is judged by a half that it was not fitted on.

    The halves are drawn by the public seed, each with half of every class: rows often come sorted, or in turn.
    """
    from pipelines.agreement import Agreement
    from pipelines.sources import LabelledText

    said = [_worded(text) for text in texts(stream, config.columns.text)]
    halves = _halves(codes, config.seed)
    doubts = np.full(len(said), 1.0)  # a class that a half does not know is doubted most
    for mine, other in (halves, halves[::-1]):
        fitted = other[:_PROXY_FIT]
        place = {code: at for at, code in enumerate(sorted({int(codes[i]) for i in fitted}))}
        known = [i for i in mine if int(codes[i]) in place]
        if len(place) < 2:  # noqa: PLR2004 - one class says nothing of another
            raise UsageError("got a class with one row, expected two or more of each", hint="set choose: random")
        try:
            judge = Agreement.fit([LabelledText(text=said[i], label=place[int(codes[i])], group="") for i in fitted])
        except ValueError as error:
            raise UsageError(
                f"got texts that no proxy can be fitted to ({error}), expected some with words in common",
                hint="set choose: random",
            ) from None
        sure = judge.confidence([said[i] for i in known], [place[int(codes[i])] for i in known])
        doubts[known] = 1.0 - np.asarray(sure)
    return lambda rows: doubts[rows]


def _refuse_many(codes: np.ndarray) -> None:
    if len(codes) > PROXY_ROWS:
        raise UsageError(
            f"got choose: hardest for {len(codes)} rows, expected at most {PROXY_ROWS}", hint="set choose: random"
        )


def _halves(codes: np.ndarray, seed: int) -> tuple[list[int], list[int]]:
    halves: tuple[list[int], list[int]] = ([], [])
    draw = random.Random(f"proxy/{seed}")  # noqa: S311 - public
    for code in sorted(set(codes.tolist()) - {-1}):
        rows = np.flatnonzero(codes == code).tolist()
        draw.shuffle(rows)
        for half in (0, 1):
            halves[half].extend(rows[half::2])
    for mine in halves:
        draw.shuffle(mine)
    return halves


def _worded(text: str) -> str:
    """Pairs of letters for words, where a text has no spaces."""
    return text if " " in text.strip() else " ".join(a + b for a, b in pairwise(text))


def _write(
    stream: Stream, wear: Wear, dropped: set[int], out: Path, advance: Callable[[int], None]
) -> tuple[list[str], int]:
    """Names of the shards, and how many rows the dataset had."""
    from pipelines.shards import ShardWriter

    at = 0
    with ShardWriter(out, stream.schema) as writer:
        for batch in stream.batches():
            marked = wear.batch(batch, at)
            gone = [i for i in range(batch.num_rows) if at + i in dropped] if dropped else []
            for first, end in pairwise([-1, *gone, batch.num_rows]):
                if first + 1 < end:
                    writer.write(marked.slice(first + 1, end - first - 1))
            at += batch.num_rows
            advance(batch.num_rows)
    return sorted(path.name for path in (out / DATA).iterdir()), at


def _card(config: DatasetConfig, stream: Stream, count: int) -> str:
    from pipelines.cards import dataset_card

    return dataset_card(
        name=config.name, license=config.card.license, language=config.card.language,
        task={"classification": "text-classification", "extractive-qa": "question-answering"}.get(
            config.task, "text-generation"
        ),
        rows=count, features={name: str(stream.schema.field(name).type) for name in stream.schema.names},
        watermarked="This dataset carries a watermark." if config.card.watermarked else None, extra={},
    )  # fmt: skip
