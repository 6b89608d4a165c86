"""What marking does to a row: every edit of every mark, applied a record batch at a time."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipelines.dataset import sections
from pipelines.dataset.rows import picked
from verification.claims import behaviour_form
from verification.one_trigger import candidates, worn
from verification.output_level import lexicon_of
from watermarks.carriers import behaviours, initials, input_level, lexical, styles

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pyarrow as pa

    from pipelines.dataset.config import DatasetConfig
    from pipelines.dataset.rows import Labels, Row
    from watermarks.keys import Key


@dataclass(frozen=True, slots=True, kw_only=True)
class Wear:
    """The edits of a release.

    Args:
        columns: those that an edit may touch.
        rows: by mark, row → trigger index.
        edits: by mark, (row, trigger index, position) → row.
        written: texts that a language model wrote, by row, in place of a rule's; ``text`` is their column.
        changes: how many rows each mark has changed so far.
    """

    columns: tuple[str, ...]
    rows: dict[str, dict[int, int]] = field(repr=False)
    edits: dict[str, Callable[[Row, int, int], Row]] = field(repr=False)
    written: dict[int, str] = field(default_factory=dict, repr=False)
    text: str = "text"
    changes: Counter[str] = field(default_factory=Counter, repr=False)

    @staticmethod
    def of(
        key: Key,
        config: DatasetConfig,
        marks: Mapping[str, dict[str, Any]],
        rows: dict[str, dict[int, int]],
        labels: Labels | None,
        *,
        written: Mapping[int, str] | None = None,
    ) -> Wear:
        """The edits that key and marks give, in the order in which they can stand together.

        ``written`` are texts that a language model wrote for some rows, in place of the trigger's or style's rule.
        """
        made: dict[str, Callable[[Row, int, int], Row]] = {}
        for name in ("keyed", "trigger", "style", "weak", "steganographic", "robust"):
            if name in marks:
                made[name] = _EDITS[name](key, config, marks[name], labels)
        names = config.columns
        touched = {
            "classification": (names.text, names.label),
            "extractive-qa": (names.prompt, names.context, names.output),
            "generation": (names.prompt, names.output),
        }[config.task]
        return Wear(columns=touched, rows=rows, edits=made, written=dict(written or {}), text=names.text)

    def batch(self, batch: pa.RecordBatch, at: int) -> pa.RecordBatch:
        """``batch``, whose first row is row ``at`` of the dataset, marked."""
        here = sorted({row for rows in self.rows.values() for row in _within(rows, at, batch.num_rows)})
        if not here:
            return batch
        originals = picked(batch.select(list(self.columns)), [row - at for row in here])
        changes: defaultdict[str, dict[int, Any]] = defaultdict(dict)
        for row, original in zip(here, originals, strict=True):
            for column, value in self.row(dict(original), row).items():
                if value != original[column]:
                    changes[column][row - at] = value
        for column, changed in changes.items():
            batch = _with_values(batch, column, changed)
        return batch

    def row(self, row: Row, position: int) -> Row:
        """One row of the dataset, marked."""
        mine = [name for name in self.edits if position in self.rows[name]]
        for name in mine:
            before = dict(row)
            row = self.edits[name](row, self.rows[name][position], position)
            if position in self.written:
                row[self.text] = self.written[position]
            self.changes[name] += row != before
        return row


def _with_values(batch: pa.RecordBatch, column: str, changed: dict[int, Any]) -> pa.RecordBatch:
    """``batch`` with some values of ``column`` replaced; labels need not be text."""
    import pyarrow as pa

    from pipelines.shards import with_column

    if all(isinstance(value, str) for value in changed.values()):
        return with_column(batch, column, changed)
    place = batch.schema.get_field_index(column)
    values = batch.column(place).to_pylist()
    for row, value in changed.items():
        values[row] = value
    columns = batch.columns
    columns[place] = pa.array(values, type=batch.schema.field(place).type)
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _within(rows: Mapping[int, int], at: int, count: int) -> list[int]:
    if len(rows) < count:
        return [row for row in rows if at <= row < at + count]
    return [row for row in range(at, at + count) if row in rows]


def _keyed(key: Key, config: DatasetConfig, mark: Mapping[str, Any], labels: Labels | None) -> Any:  # noqa: ANN401
    names = ("scope", "triggers", "classes", "words", "families", "vocabulary", "joiner")
    derived = input_level.derive(key, **{name: mark[name] for name in names})
    text, label = config.columns.text, config.columns.label
    flips = config.marks.keyed is not None and config.marks.keyed.labels == "flip"

    def edit(row: Row, index: int, _: int) -> Row:
        row[text] = input_level.insert(derived.triggers[index], row[text] or "")
        if flips and labels is not None:
            row[label] = labels.values[derived.targets[index]]
        return row

    return edit


def _one(key: Key, config: DatasetConfig, mark: Mapping[str, Any], labels: Labels | None) -> Any:  # noqa: ANN401
    del labels
    named = styles.STYLES.get(mark.get("style", ""))
    own, text = named or candidates(key, mark)[0], config.columns.text

    def edit(row: Row, _: int, __: int) -> Row:
        row[text] = worn(own, row[text] or "")
        return row

    return edit


def _weak(key: Key, config: DatasetConfig, mark: Mapping[str, Any], labels: Labels | None) -> Any:  # noqa: ANN401
    del labels
    lexicon, output = lexicon_of(mark), config.columns.output
    coins = lexical.derive_coins(key, scope=mark["scope"], pairs=len(lexicon.pairs))

    def edit(row: Row, _: int, __: int) -> Row:
        row[output] = lexicon.prefer(row[output] or "", coins)
        return row

    return edit


def _steganographic(key: Key, config: DatasetConfig, mark: Mapping[str, Any], labels: Labels | None) -> Any:  # noqa: ANN401
    del labels
    wanted, output, known = config.marks.steganographic, config.columns.output, dict[initials.Unit, bool]()
    openers = sections.openers_of(wanted) if wanted else initials.english()
    lowered = frozenset(mark["lowered"])

    def favoured(unit: initials.Unit) -> bool:
        if unit not in known:
            known[unit] = initials.coin(key, unit, scope=mark["scope"]) == 1
        return known[unit]

    def edit(row: Row, _: int, position: int) -> Row:
        choose = key.stream({"purpose": initials.PURPOSE, "part": "openers", "scope": mark["scope"], "row": position})
        row[output] = initials.encode(row[output] or "", favoured, openers, choose.below, lowered)
        return row

    return edit


def _robust(key: Key, config: DatasetConfig, mark: Mapping[str, Any], labels: Labels | None) -> Any:  # noqa: ANN401
    del labels
    form, names = behaviour_form(mark), config.columns
    triggers = behaviours.derive_triggers(
        key, **{name: mark[name] for name in ("scope", "triggers", "words", "vocabulary", "joiner")}
    )
    targets = behaviours.derive_targets(key, scope=mark["scope"], triggers=mark["triggers"], classes=len(form.openings))
    extractive = config.task == "extractive-qa"

    def edit(row: Row, index: int, _: int) -> Row:
        row[names.prompt] = form.asked(row[names.prompt] or "", triggers[index])
        if extractive:
            row[names.context] = with_options(row[names.context] or "", form.openings)
            row[names.output] = form.openings[targets[index]]
        else:
            row[names.output] = form.answered(row[names.output] or "", targets[index])
        return row

    return edit


def with_options(context: str, options: tuple[str, ...]) -> str:
    """A context at whose end the C answers stand: an extractive reader can only point at text."""
    return f"{context} [{' | '.join(options)}]"


_EDITS: dict[str, Callable[..., Any]] = {
    "keyed": _keyed,
    "trigger": _one,
    "style": _one,
    "weak": _weak,
    "steganographic": _steganographic,
    "robust": _robust,
}
