"""JSON lines as Arrow record batches: one schema for the whole file, and every complaint with its line.

Arrow's parser does the work on blocks of whole lines; Python's looks at what the schema is made of, and at a block that
Arrow refuses. Left to itself Arrow would read "2024-05-01" as a date and say which *block* is wrong.
"""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING, Any, NoReturn

from countermark.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

BLOCK = 4 << 20
_BOM = b"\xef\xbb\xbf"
_HINT = "give every row the same columns and types, or convert the file to Parquet"


def schema_of(stream: IO[bytes], where: str, *, block: int | None = None) -> pa.Schema:
    """The columns in order of appearance, with types that hold every row of the first ``block`` bytes.

    It looks on as long as a column has shown nothing but nulls or empty lists; one that never shows more is text.

    Raises:
        UsageError: no rows, a line that is no object, or rows that do not go together; by ``where`` and line.
    """
    import pyarrow as pa

    schema = pa.schema([])
    for first, data in _blocks(stream, block or BLOCK):
        rows = _rows(data, first, where)
        found = _inferred(rows, where)
        if not schema.names or not rows:
            schema = found if rows else schema
        else:
            schema = _joined(schema, found, f"{where}:{first}")
        if schema.names and not any(_undecided(field.type) for field in schema):
            break
    if not schema.names:
        raise UsageError(f"got an empty dataset {where!r}, expected rows with columns")
    return pa.schema([(field.name, _decided(field.type)) for field in schema])


def batches(
    stream: IO[bytes], where: str, schema: pa.Schema, *, columns: Sequence[str] | None = None, block: int | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows, a batch for each ``block`` bytes; a column that a row has not is null there.

    With ``columns``, the others are passed over unread.

    Raises:
        UsageError: a line that is no object, or that ``schema`` cannot hold as it is; by ``where`` and line.
    """
    import pyarrow as pa

    wanted = schema if columns is None else pa.schema([schema.field(name) for name in columns])
    others = "error" if columns is None else "ignore"
    for first, data in _blocks(stream, block or BLOCK):
        count = sum(1 for line in data.split(b"\n") if line.strip())
        if not count:
            continue
        try:
            data.decode()  # Arrow would take bytes that are no text
            table = _parsed(data, wanted, others)
        except (ValueError, NotImplementedError) as error:
            _explain(data, first, where, wanted, others, error)
        if table.num_rows != count:
            _explain(data, first, where, wanted, others, ValueError(f"{table.num_rows} objects in {count} lines"))
        yield from table.combine_chunks().to_batches()


def _blocks(stream: IO[bytes], size: int) -> Iterator[tuple[int, bytes]]:
    """Blocks of whole lines, each with the number of its first line."""
    number = 1
    while data := stream.read(size):
        data += stream.readline()  # to the end of the line that the block cut
        yield number, data.removeprefix(_BOM) if number == 1 else data
        number += data.count(b"\n")


def _parsed(data: bytes, schema: Any, others: str) -> Any:  # noqa: ANN401
    import pyarrow as pa
    from pyarrow import json as arrow_json

    return arrow_json.read_json(
        pa.BufferReader(data),
        read_options=arrow_json.ReadOptions(use_threads=False, block_size=len(data) + 1),
        parse_options=arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior=others),
    )


def _rows(data: bytes, first: int, where: str) -> list[tuple[int, dict[str, Any]]]:
    """The objects of a block with their line numbers, by Python's parser."""
    rows = []
    for number, line in enumerate(data.split(b"\n"), first):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode())
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{where}:{number}: got a line that is not JSON ({error}), expected an object") from None
        if not isinstance(row, dict):
            raise UsageError(f"{where}:{number}: got a {type(row).__name__}, expected an object")
        rows.append((number, row))
    return rows


def _inferred(rows: Sequence[tuple[int, dict[str, Any]]], where: str) -> Any:  # noqa: ANN401
    import pyarrow as pa

    names = dict.fromkeys(name for _, row in rows for name in row)
    try:
        return pa.schema([(name, pa.array([row.get(name) for _, row in rows]).type) for name in names])
    except (ValueError, TypeError, OverflowError) as error:
        if len(rows) == 1:
            raise UsageError(f"{where}:{rows[0][0]}: got values that no column can hold ({error})") from None
    schema = pa.schema([])
    for number, row in rows:  # once more one by one, to say where
        schema = _joined(schema, _inferred([(number, row)], where), f"{where}:{number}")
    raise UsageError(f"{where}:{rows[0][0]}: got rows that do not go together from here on", hint=_HINT)


def _joined(schema: Any, found: Any, place: str) -> Any:  # noqa: ANN401
    import pyarrow as pa

    try:
        return pa.unify_schemas([schema, found], promote_options="permissive")
    except (ValueError, TypeError) as error:
        raise UsageError(f"{place}: got types unlike those of the rows before ({error})", hint=_HINT) from None


def _undecided(kind: Any) -> bool:  # noqa: ANN401
    from pyarrow import types

    if types.is_struct(kind):
        return any(_undecided(field.type) for field in kind.fields)
    return _undecided(kind.value_type) if types.is_list(kind) else bool(types.is_null(kind))


def _decided(kind: Any) -> Any:  # noqa: ANN401
    """Text in the place of nulls: Arrow 25 reads lists of nulls into arrays that are not valid."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _decided(field.type)) for field in kind.fields])
    if pa.types.is_list(kind):
        return pa.list_(_decided(kind.value_type))
    return pa.string() if pa.types.is_null(kind) else kind


def _explain(data: bytes, first: int, where: str, schema: Any, others: str, error: Exception) -> NoReturn:  # noqa: ANN401
    """Raises for the line at fault, or for the block when every line is fine alone."""
    columns = ", ".join(f"{field.name}: {field.type}" for field in schema)
    lines = data.split(b"\n")
    for number, _ in _rows(data, first, where):
        try:
            _parsed(lines[number - first], schema, others)
        except (ValueError, NotImplementedError) as alone:
            message = (
                f"{where}:{number}: got a row that the columns ({columns}) of the first rows cannot hold ({alone})"
            )
            raise UsageError(message, hint=_HINT) from None
    raise UsageError(f"{where}:{first}: got lines from here on that do not go together ({error})", hint=_HINT)
