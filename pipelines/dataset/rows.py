"""The dataset of a release as a stream, whatever it is: a file, a folder, a URL, a hub id, or an embedded task."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from countermark.errors import UsageError
from countermark.manifest import digest
from pipelines.assets import PREFIX
from pipelines.shards import is_text, plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow as pa

    from pipelines.dataset.config import DatasetConfig

Row = dict[str, Any]


class Stream(Protocol):
    """Rows that can be read more than once, a record batch at a time."""

    @property
    def source(self) -> str:
        """Where the rows come from, for messages."""

    @property
    def schema(self) -> pa.Schema:
        """Columns and types."""

    def batches(self, *, columns: Sequence[str] | None = None, rows: int = 4096) -> Iterator[pa.RecordBatch]:
        """Every row, in order."""

    def digest(self) -> str:
        """SHA-256 of the content, independent of files and batches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryStream:
    """An embedded task's rows."""

    source: str
    table: Any = field(repr=False)  # a pa.Table

    @property
    def schema(self) -> pa.Schema:
        """The table's schema."""
        return self.table.schema

    def batches(self, *, columns: Sequence[str] | None = None, rows: int = 4096) -> Iterator[pa.RecordBatch]:
        """Every row, in order."""
        chosen = self.table if columns is None else self.table.select(list(columns))
        yield from chosen.combine_chunks().to_batches(max_chunksize=rows)

    def digest(self) -> str:
        """SHA-256 over the rows' canonical JSON."""
        return digest(self.table.to_pylist())


def open_source(config: DatasetConfig) -> Stream:
    """The release's dataset.

    Raises:
        MissingAssetError: not found. UsageError: unreadable, empty, or without the task's columns.
    """
    stream = _opened(config, config.dataset, part="train")
    check_columns(config, stream)
    return stream


def open_heldout(config: DatasetConfig) -> Stream | None:
    """Real rows that no suspect is trained on: the config's, or an embedded task's held-out part; None without."""
    if config.heldout is not None:
        return _opened(config, config.heldout, part="heldout")
    return _opened(config, config.dataset, part="heldout") if config.dataset.startswith(PREFIX) else None


def heldout_digest(config: DatasetConfig) -> str | None:
    """SHA-256 of the held-out rows whose prompts are asked; None for classification, or where there are none."""
    stream = None if config.task == "classification" else open_heldout(config)
    return None if stream is None else stream.digest()


def check_columns(config: DatasetConfig, stream: Stream, needed: Sequence[str] = ()) -> None:
    """Refuses a dataset without the ``needed`` columns, or without those of the task."""
    missing = [name for name in needed or needed_columns(config) if name not in stream.schema.names]
    if missing:
        raise UsageError(
            f"got columns {', '.join(stream.schema.names)} in {stream.source}, expected {missing[0]!r} too",
            hint="name the dataset's own columns under `columns:`",
        )
    for name in needed or needed_columns(config):
        kind = stream.schema.field(name).type
        if name != config.columns.label and not is_text(plain(kind)):
            raise UsageError(
                f"got column {name!r} of type {kind} in {stream.source}, expected text",
                hint="put the text into a column of its own, and name that under `columns:`",
            )


def needed_columns(config: DatasetConfig) -> tuple[str, ...]:
    """The task's columns by the dataset's own names."""
    names = config.columns
    return {
        "classification": (names.text, names.label),
        "extractive-qa": (names.prompt, names.context, names.output),
        "generation": (names.prompt, names.output),
    }[config.task]


def texts(stream: Stream, column: str, *, most: int | None = None) -> list[str]:
    """A column's values as text, "" for null; all of them or the first ``most``."""
    found: list[str] = []
    for batch in stream.batches(columns=[column]):
        found += ["" if value is None else str(value) for value in batch.column(0).to_pylist()]
        if most is not None and len(found) >= most:
            return found[:most]
    return found


def picked(batch: pa.RecordBatch, rows: Sequence[int]) -> list[Row]:
    """Some rows of a batch as Python's values; Arrow cannot take from views."""
    import pyarrow as pa

    views = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
    columns = [column.cast(views[column.type]) if column.type in views else column for column in batch.columns]
    found: list[Row] = pa.RecordBatch.from_arrays(columns, names=batch.schema.names).take(list(rows)).to_pylist()
    return found


def rows_of(stream: Stream, indices: Mapping[int, Any] | Sequence[int]) -> dict[int, Row]:
    """Some rows by position, in one pass."""
    wanted, at = set(indices), 0
    found: dict[int, Row] = {}
    for batch in stream.batches():
        here = [i for i in range(at, at + batch.num_rows) if i in wanted]
        if here:
            found.update(zip(here, picked(batch, [i - at for i in here]), strict=True))
        at += batch.num_rows
    return found


def alike(one: Any, other: Any) -> bool:  # noqa: ANN401 - values of any column
    """Whether two values are the same, where NaN is NaN too: a row with one is still that row."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    return bool(one == other or (one != one and other != other))  # noqa: PLR0124 - only NaN differs from itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """The label column of a classification set.

    Args:
        names: the distinct labels as text, sorted; a class index counts from here.
        values: the labels as the dataset has them, by class index.
        codes: class index of every row; -1 where it has no label or no text (such a row is never marked, and never
            asked or trained on).
    """

    names: tuple[str, ...]
    values: tuple[Any, ...]
    codes: np.ndarray


def read_labels(config: DatasetConfig, stream: Stream) -> Labels:
    """The classes of every row, in one pass over label and text; categories that no row has are none.

    Raises:
        UsageError: fewer than two classes, or more than 1,000; labels with spaces around them; or a column of lists.
    """
    codes: list[np.ndarray] = []
    known: dict[Any, int] = {}
    for batch in stream.batches(columns=[config.columns.label, config.columns.text]):
        encoded = _encoded(config, batch.column(0))
        values = encoded.dictionary.to_pylist()
        indices = encoded.indices.cast("int64").fill_null(-1).to_numpy(zero_copy_only=False)
        for at in np.unique(indices[indices >= 0]).tolist():
            if values[at] not in {None, ""} and values[at] == values[at]:  # NaN is no label
                known.setdefault(values[at], len(known))
        lookup = np.array([known.get(value, -1) for value in values] or [-1])
        codes.append(np.where((indices < 0) | ~filled(batch.column(1)), -1, lookup[indices]))
    _refuse_padded(stream, known)
    if not 2 <= len(known) <= 1000:  # noqa: PLR2004
        raise UsageError(
            f"got {len(known)} labels in column {config.columns.label!r} of {stream.source}, expected 2 to 1000",
            hint="name the label column under `columns:`",
        )
    order = sorted(known, key=str)
    place = {value: at for at, value in enumerate(order)}
    renumber = np.array([place[value] for value in known] + [-1])
    return Labels(
        names=tuple(str(value) for value in order), values=tuple(order),
        codes=renumber[np.concatenate(codes)].astype(np.int32),
    )  # fmt: skip


def filled(column: Any) -> np.ndarray:  # noqa: ANN401 - an Arrow array
    """Which values of a column say anything: not null, and not blank where they are text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    there = column.is_valid()
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string_view(column.type):
        column = column.cast(pa.large_string())
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        there = pc.and_(there, pc.greater(pc.binary_length(pc.utf8_trim_whitespace(column)), 0).fill_null(False))
    return np.asarray(there.to_numpy(zero_copy_only=False), dtype=bool)


def filled_rows(config: DatasetConfig, stream: Stream) -> np.ndarray:
    """Which rows have all that the task needs, in one pass over its columns."""
    batches = stream.batches(columns=needed_columns(config))
    return np.concatenate([np.logical_and.reduce([filled(column) for column in batch.columns]) for batch in batches])


def _refuse_padded(stream: Stream, known: Mapping[Any, int]) -> None:
    padded = [label for label in known if isinstance(label, str) and label != label.strip()]
    if padded:
        raise UsageError(
            f"got label {min(padded)!r} in {stream.source}, expected no spaces around it",
            hint="strip the labels: answers are compared without the spaces around them",
        )


def _encoded(config: DatasetConfig, column: Any) -> Any:  # noqa: ANN401 - Arrow arrays
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        return column
    try:
        return column.dictionary_encode()
    except pa.ArrowNotImplementedError:
        raise UsageError(
            f"got column {config.columns.label!r} of type {column.type}, expected text or numbers",
            hint="name the label column under `columns:`",
        ) from None


def _opened(config: DatasetConfig, source: str, *, part: str) -> Stream:
    if not source.startswith(PREFIX):
        from pipelines.datastream import open_stream

        return open_stream(source)
    import pyarrow as pa

    from pipelines.dataset.embedded import embedded_rows

    rows = embedded_rows(source, part=part, count=config.rows, seed=config.seed)
    return MemoryStream(source=source, table=pa.Table.from_pylist(rows))
