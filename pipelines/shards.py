"""Batches of a dataset on their way out: texts replaced, content digested, Parquet shards whose bytes the rows decide.

Everything works on whole Arrow columns: of a million rows only the changed ones are ever seen by Python.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from countermark import manifest
from countermark.errors import UsageError
from countermark.files import fsync_dir, make_dir, storage_errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    import pyarrow as pa

ROW_GROUP = 4096
"""Rows of a Parquet row group, and the most that a :class:`ShardWriter` keeps in memory."""
SHARD_ROWS = 250_000
FOLDER = "data"


class ShardWriter:
    """Writes ``data/train-00000-of-000NN.parquet`` under a folder: zstd, the schema given, at most ``shard_rows`` each.

    A context manager. When its block ends well, the files have their final names and are on the disk; after an
    exception none is left. A kill between two renames leaves some: work inside ``countermark.files.building`` where all
    or nothing is needed. The bytes are a function of schema and rows alone (and of the version of pyarrow): batches are
    cut anew into row groups of :data:`ROW_GROUP` rows, and dictionary columns rebuilt as their values appear
    (an ordered one keeps its order).

    Raises:
        UsageError: the folder holds shards already, a batch of another schema, a type that Parquet cannot hold, or not
            one row. StorageError: full disk or unwritable folder.
    """

    def __init__(self, folder: Path, schema: pa.Schema, *, shard_rows: int = SHARD_ROWS) -> None:
        if shard_rows < 1:
            raise UsageError(f"got shards of {shard_rows} rows, expected at least 1")
        self._folder, self._schema, self._shard_rows = folder / FOLDER, schema, shard_rows
        self._waiting: list[Any] = []
        self._waiting_rows = self._rows_in_shard = 0
        self._writer: Any = None
        self._written: list[Path] = []

    def __enter__(self) -> Self:
        make_dir(self._folder)
        if any(self._folder.glob("*.parquet")):
            raise UsageError(
                f"got {self._folder}, which holds Parquet files, expected none", hint="choose a new folder"
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._finish()
        except BaseException:
            self._discard()
            raise
        if kind is not None:
            self._discard()

    def write(self, batch: pa.RecordBatch) -> None:
        """Takes the next rows, of any number."""
        if not batch.schema.equals(self._schema):
            raise UsageError(f"got a batch of ({_columns(batch.schema)}), expected ({_columns(self._schema)})")
        while batch.num_rows:
            room = min(ROW_GROUP, self._shard_rows - self._rows_in_shard)
            taken = batch.slice(0, room - self._waiting_rows)
            self._waiting.append(taken)
            self._waiting_rows += taken.num_rows
            if self._waiting_rows == room:
                self._write_group()
            batch = batch.slice(taken.num_rows)

    def _write_group(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.Table.from_batches(self._waiting, schema=self._schema)
        with storage_errors(self._folder), _refusing("Parquet cannot hold"):
            columns = [_plain_dictionary(column) for column in table.columns]
            table = pa.Table.from_arrays(columns, schema=self._schema).combine_chunks()
            if self._writer is None:
                # the total is not known yet, and half a set must not look like a whole one
                self._written.append(self._folder / f".partial-{len(self._written):05d}.parquet")
                self._writer = pq.ParquetWriter(self._written[-1], self._schema, compression="zstd")
            self._writer.write_table(table, row_group_size=ROW_GROUP)
        self._rows_in_shard += self._waiting_rows
        self._waiting, self._waiting_rows = [], 0
        if self._rows_in_shard == self._shard_rows:
            self._close_shard()

    def _close_shard(self) -> None:
        writer, self._writer, self._rows_in_shard = self._writer, None, 0
        with storage_errors(self._folder):
            writer.close()
            with self._written[-1].open("rb") as stream:
                os.fsync(stream.fileno())

    def _finish(self) -> None:
        if self._waiting:
            self._write_group()
        if self._writer is not None:
            self._close_shard()
        if not self._written:
            raise UsageError(f"got no rows for {self._folder}, expected at least one")
        total = len(self._written)
        with storage_errors(self._folder):
            for number, part in enumerate(self._written):
                self._written[number] = part.rename(self._folder / f"train-{number:05d}-of-{total:05d}.parquet")
            fsync_dir(self._folder)

    def _discard(self) -> None:
        try:
            if self._writer is not None:
                self._writer.close()
        finally:
            for path in self._written:
                path.unlink(missing_ok=True)


def with_column(batch: pa.RecordBatch, column: str, changes: Mapping[int, str]) -> pa.RecordBatch:
    """``batch`` with the texts of ``column`` replaced: row offset in the batch -> new text; all else as it was.

    Raises:
        UsageError: no such column, one that holds no text, a row that the batch has not, a text that is not Unicode or
            does not fit a dictionary's index type.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    place = batch.schema.get_field_index(column)
    if place < 0:
        raise UsageError(f"got column {column!r}, expected one of: {', '.join(batch.schema.names)}")
    kept = batch.schema.field(place).type
    values_kept = plain(kept)
    if not is_text(values_kept):
        raise UsageError(f"got column {column!r} of type {kept}, expected text")
    if not changes:
        return batch
    rows = sorted(changes)
    if rows[0] < 0 or rows[-1] >= batch.num_rows:
        raise UsageError(f"got rows {rows[0]} to {rows[-1]}, expected rows of a batch of {batch.num_rows}")
    mask = np.zeros(batch.num_rows, dtype=bool)
    mask[rows] = True
    working = pa.large_string() if pa.types.is_string_view(values_kept) else values_kept  # views have no such kernel
    with _refusing(f"column {column!r} cannot hold"):
        new = pa.array([changes[row] for row in rows], type=working)
        old = batch.column(place).cast(values_kept).cast(working)
        values = pc.replace_with_mask(old, mask, new).cast(values_kept).cast(kept)
    return pa.RecordBatch.from_arrays(
        [values if i == place else batch.column(i) for i in range(batch.num_columns)], schema=batch.schema
    )


def content_digest(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> str:
    """SHA-256 over names, kinds and values of every column, in row order, in one pass.

    Each column is some byte streams: which values are there, how long they are, the values end to end; nulls take no
    bytes, nested values are streams of their own. A stream has no seams, so batch sizes, row groups and compression
    cannot matter; nor does physical layout (``large_string``, dictionaries, names of list items), nullability or
    metadata. The result is the SHA-256 of the canonical JSON of columns, number of rows and the streams' digests.

    Raises:
        UsageError: a type without a place in Parquet or JSON (unions, run-end encoding).
    """
    streams: dict[str, Any] = {}
    rows = 0
    for batch in batches:
        rows += batch.num_rows
        for number, values in enumerate(batch.columns):
            _feed(streams, str(number), values)
    return manifest.digest(
        {
            "columns": [[field.name, _kind(field.type)] for field in schema],
            "rows": rows,
            "streams": {name: stream.hexdigest() for name, stream in streams.items()},
        }
    )


def _feed(streams: dict[str, Any], at: str, values: Any) -> None:  # noqa: ANN401 - an Arrow array of any kind
    import pyarrow as pa
    import pyarrow.compute as pc

    types, kind = pa.types, values.type
    if isinstance(kind, pa.BaseExtensionType):
        _feed(streams, at, values.storage)
        return
    if types.is_dictionary(kind):
        _feed(streams, at, values.dictionary_decode())
        return
    _add(streams, f"{at}/valid", _numbers(values.is_valid(), pa.uint8()))
    if types.is_struct(kind):
        for number, child in enumerate(values.flatten()):  # a child of a null is a null
            _feed(streams, f"{at}/{number}", child)
        return
    values = values.drop_null()  # what lies under a null is anybody's guess
    if types.is_map(kind):
        values = values.cast(pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)])))
    if hasattr(values.type, "value_field"):  # lists of every sort
        _add(streams, f"{at}/lengths", _numbers(pc.list_value_length(values), pa.int64()))
        _feed(streams, f"{at}/items", values.flatten())
    elif is_text(kind) or _is_bytes(kind):
        values = values.cast(pa.large_binary())
        ends = np.frombuffer(values.buffers()[1], dtype=np.int64)[values.offset : values.offset + len(values) + 1]
        _add(streams, f"{at}/lengths", np.diff(ends))
        _add(streams, f"{at}/values", memoryview(values.buffers()[2] or b"")[ends[0] : ends[-1]])
    elif not types.is_null(kind):
        values = values.cast(pa.uint8()) if types.is_boolean(kind) else values
        start, size = values.offset * _width(values.type), len(values) * _width(values.type)
        _add(streams, f"{at}/values", memoryview(values.buffers()[1])[start : start + size])


def _add(streams: dict[str, Any], name: str, data: Any) -> None:  # noqa: ANN401 - anything with a buffer
    streams.setdefault(name, hashlib.sha256()).update(data)


def _numbers(values: Any, kind: Any) -> Any:  # noqa: ANN401 - Arrow and NumPy
    return values.cast(kind).to_numpy(zero_copy_only=False)


def _kind(of: Any) -> Any:  # noqa: ANN401 - an Arrow type to JSON
    """What a value of this type is, whatever the layout."""
    import pyarrow as pa

    types = pa.types
    if isinstance(of, pa.BaseExtensionType):
        return [str(of), _kind(of.storage_type)]
    if types.is_dictionary(of):
        return _kind(of.value_type)
    if types.is_struct(of):
        return ["struct", [[field.name, _kind(field.type)] for field in of.fields]]
    if types.is_map(of):
        return ["map", _kind(of.key_type), _kind(of.item_type)]
    if hasattr(of, "value_field"):
        return ["list", _kind(of.value_type)]
    return "text" if is_text(of) else "bytes" if _is_bytes(of) else str(of)


def plain(kind: Any) -> Any:  # noqa: ANN401
    """The type of the values of a dictionary; any other type as it is."""
    from pyarrow import types

    return kind.value_type if types.is_dictionary(kind) else kind


def is_text(kind: Any) -> bool:  # noqa: ANN401
    """Whether an Arrow type is one of text."""
    from pyarrow import types

    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_bytes(kind: Any) -> bool:  # noqa: ANN401
    from pyarrow import types

    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def _width(kind: Any) -> int:  # noqa: ANN401
    try:
        return int(kind.bit_width) // 8
    except ValueError:
        raise UsageError(f"got a column of type {kind}, expected one that Parquet or JSON can hold") from None


def _plain_dictionary(column: Any) -> Any:  # noqa: ANN401 - a chunked array
    """A dictionary column with its values in the order of appearance; an ordered one keeps its own order."""
    from pyarrow import types

    kind = column.type
    return column.cast(kind.value_type).cast(kind) if types.is_dictionary(kind) and not kind.ordered else column


def _columns(schema: Any) -> str:  # noqa: ANN401
    return ", ".join(f"{field.name}: {field.type}" for field in schema)


@contextmanager
def _refusing(what: str) -> Iterator[None]:
    """Arrow's refusals as ours; what a disk says is not among them."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, UnicodeEncodeError) as error:
        if isinstance(error, OSError):
            raise
        raise UsageError(f"got rows that {what} ({error})") from None
