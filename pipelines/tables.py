"""A user's table, read and written back in its own format with its own columns: JSONL, CSV or Parquet.

What we add has the columns that were there, in their order and types. A release whose schema changed would tell a
reader that something was done to it, and break the pipelines it is made for.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countermark.errors import MissingAssetError, UsageError
from countermark.files import atomic_write

if TYPE_CHECKING:
    from collections.abc import Sequence

SUFFIXES = (".jsonl", ".csv", ".parquet")
Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows and what is needed to write others like them.

    Args:
        rows: the rows, values as the format has them.
        suffix: ``.jsonl``, ``.csv`` or ``.parquet``.
        source: where they came from, for messages.
        schema: the Arrow schema of a Parquet file.
    """

    rows: tuple[Row, ...] = field(repr=False)
    suffix: str
    source: str
    schema: Any = field(default=None, repr=False)

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column, in the order of first appearance."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row))

    def digest(self) -> str:
        """SHA-256 over every row's JSON, whatever the format."""
        found = hashlib.sha256()
        for row in self.rows:
            found.update(json.dumps(row, sort_keys=True, default=str).encode("utf-8", "surrogatepass") + b"\n")
        return found.hexdigest()

    def write(self, path: Path, rows: Sequence[Row]) -> None:
        """Writes ``rows`` in this table's format and schema.

        Raises:
            UsageError: a value that the schema cannot hold.
        """
        if self.suffix == ".parquet":
            self._write_parquet(path, rows)
        elif self.suffix == ".csv":
            text = io.StringIO(newline="")
            returns = any("\r" in value for row in rows for value in row.values() if isinstance(value, str))
            writer = csv.DictWriter(
                text, fieldnames=self.columns, lineterminator="\n",
                quoting=csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL,  # else a lone \r would end its row
            )  # fmt: skip
            writer.writeheader()
            writer.writerows(rows)
            atomic_write(path, text.getvalue().encode())
        else:
            lines = [json.dumps(row, ensure_ascii=False) for row in rows]
            atomic_write(path, ("\n".join(lines) + "\n").encode())

    def _write_parquet(self, path: Path, rows: Sequence[Row]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            pq.write_table(pa.Table.from_pylist(list(rows), schema=self.schema), path, compression="zstd")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise UsageError(f"got a row that the schema of {self.source} cannot hold ({error})") from None


def read_table(source: str) -> Table:
    """The table of a local file, or of a hub dataset's ``train`` split (written back as Parquet).

    Raises:
        MissingAssetError: no such file or dataset. UsageError: unreadable, empty, or no known format.
    """
    path = Path(source).expanduser()
    if not path.is_file():
        if path.suffix in SUFFIXES or path.is_absolute():
            raise MissingAssetError(f"got source {source!r}, expected an existing file", hint="check the path")
        table = _from_hub(source)
    elif path.suffix == ".parquet":
        table = _from_parquet(path)
    elif path.suffix in SUFFIXES:
        table = _from_text(path)
    else:
        raise UsageError(f"got {path}, expected {', '.join(SUFFIXES)}", hint="convert the file")
    if not table.rows:
        raise UsageError(f"got an empty table {source!r}, expected rows")
    return table


def _from_text(path: Path) -> Table:
    try:
        text = path.read_bytes().decode("utf-8-sig")
        if path.suffix == ".csv":
            return Table(rows=_csv_rows(text, path), suffix=".csv", source=str(path))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"got {path}, which cannot be read ({error}), expected UTF-8 rows") from None
    rows = []
    for number, line in enumerate(text.split("\n"), 1):  # splitlines() would also cut at U+2028 inside a string
        if line.strip():
            rows.append(_json_row(line, f"{path}:{number}"))
    return Table(rows=tuple(rows), suffix=".jsonl", source=str(path))


def _csv_rows(text: str, path: Path) -> tuple[Row, ...]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    names = reader.fieldnames or []
    if len(set(names)) != len(names):
        raise UsageError(f"{path}:1: got columns {', '.join(names)}, expected distinct ones")
    rows = []
    for row in reader:
        if None in row:
            raise UsageError(f"{path}:{reader.line_num}: got more values than the {len(names)} columns of the header")
        rows.append(row)
    return tuple(rows)


def _json_row(line: str, where: str) -> Row:
    try:
        row = json.loads(line)
        if "\\ud" in line.lower():  # half a surrogate pair is no text, and could not be written back
            json.dumps(row, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: got a line that is not JSON ({error}), expected one object a line") from None
    if not isinstance(row, dict):
        raise UsageError(f"{where}: got a {type(row).__name__}, expected an object")
    return row


def _from_parquet(path: Path) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise UsageError(f"got {path}, which cannot be read ({str(error)[:80]}), expected Parquet") from None
    return Table(rows=tuple(table.to_pylist()), suffix=".parquet", source=str(path), schema=table.schema)


def _from_hub(source: str) -> Table:
    try:
        from datasets import load_dataset

        data = load_dataset(source, split="train")
    except Exception as error:  # noqa: BLE001 - datasets raises a dozen unrelated classes for "cannot be had"
        raise MissingAssetError(
            f"got source {source!r}, which is no file and could not be fetched ({type(error).__name__}), "
            "expected embedded:NAME, a file or a hub id",
            hint="check the name and the network",
        ) from None
    return Table(
        rows=tuple(dict(row) for row in data), suffix=".parquet", source=source, schema=data.features.arrow_schema
    )
