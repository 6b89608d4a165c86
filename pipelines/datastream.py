"""Any dataset as Arrow record batches in bounded memory: a file, shards, a saved ``datasets`` folder, a URL, the Hub.

Values come through as they were written. Nothing is guessed in a CSV ("007" is text, "" is text and not a null), dates
in JSON stay strings, and Arrow and Parquet keep their own types and metadata.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countermark import libraries
from countermark.errors import MissingAssetError, UsageError
from pipelines import jsonl
from pipelines.shards import content_digest
from pipelines.tables import SUFFIXES
from pipelines.unreadable import HINT, KNOWN, reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pyarrow as pa

ROWS = 4096
_BUFFER = 1 << 20
_CSV_BLOCK = 2 << 20  # no row may be longer, and Arrow reads up to 32 of them ahead
_SHARD = re.compile(r"(?P<split>.+)-\d{5}-of-(?P<total>\d{5})(-[0-9a-f]{6,64})?\.parquet")
_SPLITS = {"train", "test", "validation", "valid", "val", "dev", "eval"}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?(@[\w./-]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataStream:
    """A dataset that can be read again and again, each time from the start.

    Args:
        source: where it is, as the user said it.
        suffix: ``.parquet``, ``.jsonl``, ``.csv``, ``datasets`` or ``hub``.
        schema: columns, types, nullability, metadata: those of every batch.
        read: opens the source once: columns (None: all) and the most rows of a batch -> batches of any smaller size.
    """

    source: str
    suffix: str
    schema: pa.Schema = field(repr=False)
    read: Callable[[Sequence[str] | None, int], Iterator[Any]] = field(repr=False)

    def batches(self, *, columns: Sequence[str] | None = None, rows: int = ROWS) -> Iterator[pa.RecordBatch]:
        """Every row, in order, in batches of 1 to ``rows`` rows; ``columns`` in the order they are named in.

        Raises:
            UsageError: no such column, or a place in the source that cannot be read: by file and line where lines are
                what it has. MissingAssetError: the source has gone.
        """
        import pyarrow as pa

        names = list(self.schema.names if columns is None else columns)
        unknown = [name for name in names if name not in self.schema.names]
        if unknown or not names or rows < 1:
            raise UsageError(
                f"got columns {unknown or names} in batches of {rows} rows, expected at least 1 row and one of: "
                f"{', '.join(self.schema.names)}"
            )
        schema = pa.schema([self.schema.field(name) for name in names], metadata=self.schema.metadata)
        with reading(self.source):
            for found in self.read(None if columns is None else names, rows):
                batch = pa.RecordBatch.from_arrays([found.column(name) for name in names], schema=schema)
                for start in range(0, batch.num_rows, rows):
                    yield batch.slice(start, rows)

    def digest(self) -> str:
        """SHA-256 over names, kinds and values of all columns in one pass: :func:`pipelines.shards.content_digest`."""
        return content_digest(self.schema, self.batches())


def open_stream(source: str) -> DataStream:
    """The dataset at ``source``: its format and schema are settled here, its rows read as they are asked for.

    A folder of files named ``SPLIT-NNNNN-of-NNNNN.parquet`` or ``SPLIT.parquet`` and a saved ``DatasetDict`` give their
    ``train`` split, or the only one there is; the Hub gives ``train`` (``org/name``, ``org/name@revision``). The schema
    of JSONL is that of the first 4 MiB, and of more where a column has only nulls until then.

    Raises:
        MissingAssetError: no such file, folder or dataset, or not to be fetched. UsageError: empty, unreadable, of no
            known format, an incomplete set of shards, or shards of different columns.
    """
    with reading(source):
        fs, path = _located(source)
        stream = _from_hub(source) if fs is None else _from_files(source, fs, path)
    twice = sorted({name for name in stream.schema.names if stream.schema.names.count(name) > 1})
    if twice:
        raise UsageError(f"got column {twice[0]!r} more than once in {source!r}, expected distinct ones")
    if next(stream.batches(rows=1), None) is None:
        raise UsageError(f"got an empty dataset {source!r}, expected rows")
    return stream


def files_read(folder: Path) -> dict[str, Path]:
    """The files of a local folder that :func:`open_stream` reads, by their names in it; whatever else lies there."""
    with reading(str(folder)):
        fs, path = _located(str(folder))
        saved = _saved_folder(fs, path)
        if saved:
            names = ("state.json", "dataset_info.json", *_arrow_files(fs, saved, str(folder)))
            paths = [f"{saved}/{name}" for name in names]
        else:
            paths = _shards(str(folder), fs, path)
    return {Path(each).relative_to(path).as_posix(): Path(each) for each in paths}


def _located(source: str) -> tuple[Any, str]:
    """The file system and the path in it; no file system for the Hub."""
    from fsspec.core import url_to_fs
    from fsspec.implementations.local import LocalFileSystem

    if "://" in source:
        fs, path = url_to_fs(source)
        if not fs.exists(path):
            raise MissingAssetError(f"got source {source!r}, expected an existing file or folder", hint=HINT)
        return fs, path
    local = Path(source).expanduser()
    if local.exists():
        return LocalFileSystem(), str(local.absolute())
    if local.suffix in SUFFIXES or not _HUB_ID.fullmatch(source):
        raise MissingAssetError(f"got source {source!r}, expected an existing file or folder", hint="check the path")
    return None, source


def _from_files(source: str, fs: Any, path: str) -> DataStream:  # noqa: ANN401 - an fsspec file system
    if fs.isdir(path):
        saved = _saved_folder(fs, path)
        return _from_arrow(source, fs, saved) if saved else _from_parquet(source, fs, _shards(source, fs, path))
    suffix = Path(path).suffix
    if suffix == ".parquet":
        return _from_parquet(source, fs, [path])
    if suffix == ".csv":
        return _from_csv(source, fs, path)
    if suffix == ".jsonl":
        return _from_jsonl(source, fs, path)
    raise UsageError(f"got {source!r}, expected {KNOWN}", hint="unpack or convert the file")


def _shards(source: str, fs: Any, folder: str) -> list[str]:  # noqa: ANN401
    """The Parquet files of one split, in order; in the folder itself or in its ``data``."""
    for place in (folder, f"{folder}/data"):
        names = [Path(path).name for path in fs.ls(place, detail=False)] if fs.isdir(place) else []
        names = sorted(name for name in names if name.endswith(".parquet") and name[0] not in "._")
        if names:
            break
    else:
        raise UsageError(f"got folder {source!r} without Parquet files, expected {KNOWN}")
    return [f"{place}/{name}" for name in _of_one_split(source, names)]


def _of_one_split(source: str, names: Sequence[str]) -> list[str]:
    """The files of ``train``, or of the only split; all of them where no name says a split.

    Raises:
        UsageError: splits beside files of no split. MissingAssetError: an incomplete set of shards.
    """
    shards = {name: match for name in names if (match := _SHARD.fullmatch(name))}
    split_of = {name: match["split"] for name, match in shards.items()}
    split_of |= {name: Path(name).stem for name in names if Path(name).stem in _SPLITS}
    if not split_of:
        return list(names)
    if len(split_of) < len(names):
        other = next(name for name in names if name not in split_of)
        raise UsageError(
            f"got {other!r} beside files of a split in {source!r}, expected files of splits alone, or none",
            hint="name one file, or move the others away",
        )
    split = _train_of(source, sorted(set(split_of.values())))
    mine = [name for name in names if split_of[name] == split]
    totals = {shards[name]["total"] if name in shards else "00001" for name in mine}
    if totals != {f"{len(mine):05d}"}:
        raise MissingAssetError(
            f"got {len(mine)} shards of {split!r} in {source!r}, expected {max(totals)}", hint="fetch the others"
        )
    return mine


def _train_of(source: str, splits: Sequence[str]) -> str:
    if "train" in splits or len(splits) == 1:
        return "train" if "train" in splits else splits[0]
    raise UsageError(f"got {source!r} with splits {', '.join(splits)}, expected 'train' or a single one")


def _from_parquet(source: str, fs: Any, paths: Sequence[str]) -> DataStream:  # noqa: ANN401
    import pyarrow.parquet as pq

    with fs.open(paths[0], "rb") as stream:
        schema = pq.ParquetFile(stream).schema_arrow
    for path in paths[1:]:
        with fs.open(path, "rb") as stream:
            if not (found := pq.ParquetFile(stream).schema_arrow).equals(schema):
                raise UsageError(
                    f"got columns ({_said(found)}) in {Path(path).name}, expected those of {Path(paths[0]).name}: "
                    f"({_said(schema)})"
                )

    def read(columns: Sequence[str] | None, rows: int) -> Iterator[Any]:
        for path in paths:
            with fs.open(path, "rb") as stream:
                # a buffered stream: a row group of a million rows is decoded piece by piece, not held
                file = pq.ParquetFile(stream, buffer_size=_BUFFER, pre_buffer=False)
                yield from file.iter_batches(batch_size=rows, columns=columns, use_threads=False)

    return DataStream(source=source, suffix=".parquet", schema=schema, read=read)


def _saved_folder(fs: Any, path: str) -> str:  # noqa: ANN401
    """The folder of one split that ``Dataset.save_to_disk`` left at or under ``path``; "" if there is none."""
    if fs.exists(f"{path}/dataset_dict.json"):
        path = f"{path}/{_train_of(path, json.loads(fs.cat_file(f'{path}/dataset_dict.json'))['splits'])}"
    return path if fs.exists(f"{path}/state.json") and fs.exists(f"{path}/dataset_info.json") else ""


def _arrow_files(fs: Any, folder: str, source: str) -> list[str]:  # noqa: ANN401
    state = json.loads(fs.cat_file(f"{folder}/state.json"))
    names = [Path(each["filename"]).name for each in state["_data_files"]]
    if state.get("_indices_data_files") or not names:
        raise UsageError(
            f"got {source!r} with an indices mapping or no rows", hint="save it again with a new `datasets`"
        )
    return names


def _from_arrow(source: str, fs: Any, folder: str) -> DataStream:  # noqa: ANN401
    import pyarrow as pa

    names = _arrow_files(fs, folder, source)

    def read(columns: Sequence[str] | None, rows: int) -> Iterator[Any]:
        del columns, rows  # the caller selects and cuts: Arrow files are read as they lie
        for name in names:
            with fs.open(f"{folder}/{name}", "rb") as stream:
                yield from pa.ipc.open_stream(stream)

    with fs.open(f"{folder}/{names[0]}", "rb") as stream:
        schema = pa.ipc.open_stream(stream).schema
    return DataStream(source=source, suffix="datasets", schema=schema, read=read)


def _from_csv(source: str, fs: Any, path: str) -> DataStream:  # noqa: ANN401
    import pyarrow as pa
    from pyarrow import csv

    # one thread: an error then names its row
    how = {
        "read_options": csv.ReadOptions(use_threads=False, block_size=_CSV_BLOCK),
        "parse_options": csv.ParseOptions(newlines_in_values=True),
    }
    with fs.open(path, "rb") as stream:
        names = csv.open_csv(stream, **how).schema.names
    if len(set(names)) != len(names):
        raise UsageError(f"{source}:1: got columns {', '.join(names)}, expected distinct ones")
    schema = pa.schema([(name, pa.string()) for name in names])

    def read(columns: Sequence[str] | None, rows: int) -> Iterator[Any]:
        del rows
        as_text = csv.ConvertOptions(
            column_types=schema, strings_can_be_null=False, include_columns=list(columns or names)
        )
        with fs.open(path, "rb") as stream:
            yield from csv.open_csv(stream, convert_options=as_text, **how)

    return DataStream(source=source, suffix=".csv", schema=schema, read=read)


def _from_jsonl(source: str, fs: Any, path: str) -> DataStream:  # noqa: ANN401
    with fs.open(path, "rb") as stream:
        schema = jsonl.schema_of(stream, source)

    def read(columns: Sequence[str] | None, rows: int) -> Iterator[Any]:
        del rows
        with fs.open(path, "rb") as stream:
            yield from jsonl.batches(stream, source, schema, columns=columns)

    return DataStream(source=source, suffix=".jsonl", schema=schema, read=read)


def _from_hub(source: str) -> DataStream:
    from datasets import load_dataset

    libraries.quiet()
    repo, _, revision = source.partition("@")

    def opened() -> Any:  # noqa: ANN401
        return load_dataset(repo, split="train", streaming=True, revision=revision or None).with_format("arrow")

    data = opened()
    schema = data.features.arrow_schema if data.features else next(data.iter(batch_size=1)).schema

    def read(columns: Sequence[str] | None, rows: int) -> Iterator[Any]:
        data = opened()
        for table in (data.select_columns(list(columns)) if columns else data).iter(batch_size=rows):
            yield from table.combine_chunks().to_batches()

    return DataStream(source=source, suffix="hub", schema=schema, read=read)


def _said(schema: Any) -> str:  # noqa: ANN401
    return ", ".join(f"{column.name}: {column.type}" for column in schema)
