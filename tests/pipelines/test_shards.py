"""Shards and their digest: the bytes are those of the rows, however they came, and memory does not grow with them."""

from __future__ import annotations

import hashlib
import random
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from countermark.errors import UsageError
from pipelines.datastream import open_stream
from pipelines.shards import ROW_GROUP, ShardWriter, content_digest, with_column


def _rows_of(stream, **how):
    return [row for batch in stream.batches(**how) for row in batch.to_pylist()]


def _shards(folder, schema, batches, **how):
    with ShardWriter(folder, schema, **how) as writer:
        for batch in batches:
            writer.write(batch)
    return sorted((folder / "data").iterdir())


def _bytes(paths):
    return [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths]


SCHEMA = pa.schema(
    [
        pa.field("id", pa.int16(), nullable=False),
        pa.field("text", pa.large_string(), nullable=False, metadata={b"role": b"input"}),
        pa.field("kind", pa.dictionary(pa.int8(), pa.string())),
        pa.field("tags", pa.list_(pa.string())),
        pa.field("pairs", pa.map_(pa.string(), pa.int64())),
        pa.field("meta", pa.struct([("a", pa.bool_()), ("b", pa.list_(pa.float32()))])),
        pa.field("when", pa.timestamp("ms", tz="UTC")),
        pa.field("raw", pa.binary(2)),
    ],
    metadata={b"made": b"by hand"},
)


def _typed(count, step=1):
    return pa.RecordBatch.from_pylist(
        [
            {
                "id": i,
                "text": f"row {i} 第{i}行 {'x' * (i % 7)}",
                "kind": [None, "news", "play", "verse"][i // 3 % 4],
                "tags": None if i % 5 == 0 else [f"t{j}" for j in range(i % 3)],
                "pairs": None if i % 4 == 0 else [(f"k{j}", j or None) for j in range(i % 3)],
                "meta": None if i % 6 == 0 else {"a": [True, False, None][i % 3], "b": [i / 3] * (i % 2)},
                "when": None if i % 3 == 0 else i * 1000,
                "raw": None if i % 2 else b"ab",
            }
            for i in range(0, count * step, step)
        ],
        schema=SCHEMA,
    )


def _cut(batch, sizes):
    start = 0
    while start < batch.num_rows:
        for size in sizes:
            part = batch.slice(start, size)
            yield part if size % 2 else _with_another_dictionary(part)
            start += size


def _with_another_dictionary(batch):
    """The same rows as another reader might give them: buffers of their own, a dictionary in an order of its own."""
    batch = pa.RecordBatch.from_pylist(batch.to_pylist(), schema=batch.schema)
    names = ["verse", "unused", "play", "news"]
    codes = pa.array([None if v is None else names.index(v) for v in batch.column("kind").to_pylist()], pa.int8())
    kinds = pa.DictionaryArray.from_arrays(codes, pa.array(names))
    return batch.set_column(batch.schema.get_field_index("kind"), batch.schema.field("kind"), kinds)


@pytest.mark.long
def test_the_bytes_of_shards_are_those_of_the_rows(tmp_path):
    whole = _typed(2 * ROW_GROUP + 100)
    cuts = ([whole.num_rows], [3001, 500, 12], [ROW_GROUP], [1024])
    made = [
        _bytes(_shards(tmp_path / str(i), SCHEMA, _cut(whole, sizes), shard_rows=5000)) for i, sizes in enumerate(cuts)
    ]
    assert made[0] == made[1] == made[2] == made[3]
    assert len(made[0]) == 2
    paths = sorted((tmp_path / "1" / "data").iterdir())
    assert [pq.ParquetFile(path).metadata.num_rows for path in paths] == [5000, 3292]
    schema = pq.ParquetFile(paths[0]).schema_arrow  # Parquet calls the items of a list "element", and that is all
    assert schema.equals(SCHEMA)
    assert (schema.metadata, schema.field("text").metadata[b"role"]) == (SCHEMA.metadata, b"input")
    assert [field.nullable for field in schema] == [field.nullable for field in SCHEMA]
    assert pq.ParquetFile(paths[0]).metadata.row_group(0).column(0).compression == "ZSTD"
    assert _rows_of(open_stream(str(tmp_path / "1"))) == whole.to_pylist()
    other = whole.to_pylist()
    other[-1]["id"] -= 1
    changed = pa.RecordBatch.from_pylist(other, schema=SCHEMA)
    assert _bytes(_shards(tmp_path / "other", SCHEMA, [changed], shard_rows=5000))[1] != made[0][1]


@pytest.mark.long
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=4))
def test_the_digest_has_no_seams(sizes):
    whole = _typed(60)
    assert content_digest(SCHEMA, _cut(whole, sizes)) == content_digest(SCHEMA, [whole])


CHANGES = [
    ("id", 5, 1000), ("text", 5, "row 5 第5行 xxxxx "), ("text", 5, ""), ("kind", 3, None), ("kind", 3, "verse"),
    ("tags", 5, []), ("tags", 6, None), ("tags", 7, [None]), ("tags", 8, ["t0t1"]), ("tags", 8, ["t0t", "1"]),
    ("pairs", 5, [("k0", None), ("k1", 2)]), ("pairs", 5, [("k0", 0), ("k1", 1)]), ("pairs", 4, []),
    ("meta", 5, None), ("meta", 5, {"a": True, "b": [5 / 3]}), ("meta", 0, {"a": None, "b": None}),
    ("meta", 3, {"a": True, "b": [1.0, 1.0]}), ("when", 4, 4001), ("when", 3, 0), ("raw", 2, b"ac"), ("raw", 2, None),
]  # fmt: skip


@pytest.mark.parametrize(("column", "row", "value"), CHANGES)
def test_any_other_value_is_another_digest(column, row, value):
    rows = _typed(12).to_pylist()
    assert rows[row][column] != value
    before = content_digest(SCHEMA, [_typed(12)])
    rows[row][column] = value
    assert content_digest(SCHEMA, [pa.RecordBatch.from_pylist(rows, schema=SCHEMA)]) != before


def test_order_names_and_kinds_are_in_the_digest():
    schema = pa.schema([("a", pa.string()), ("b", pa.string())])
    rows = [{"a": "x", "b": "y"}, {"a": "xy", "b": ""}]

    def digest(made, of=schema):
        return content_digest(of, [pa.RecordBatch.from_pylist(made, schema=of)])

    made = {
        digest(rows), digest(rows[::-1]), digest(rows[:1]), digest([{"a": "x", "b": None}, {"a": "xy", "b": "y"}]),
        digest([{"a": "xx", "b": "y"}, {"a": "y", "b": ""}]), digest(rows, pa.schema([schema[1], schema[0]])),
        digest([{"a": 1, "b": "y"}], pa.schema([("a", pa.int64()), schema[1]])),
        digest([{"a": 1, "b": "y"}], pa.schema([("a", pa.uint64()), schema[1]])),
    }  # fmt: skip
    assert len(made) == 8
    layouts = [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
    assert len({digest(rows, pa.schema([("a", kind), ("b", kind)])) for kind in layouts}) == 1


def test_bytes_under_a_null_are_nobodys():
    dirty = pa.Array.from_buffers(
        pa.string(), 2, [pa.py_buffer(b"\x01"), pa.py_buffer(b"\0\0\0\0\1\0\0\0\4\0\0\0"), pa.py_buffer(b"axyz")]
    )
    clean = pa.array(["a", None])
    assert dirty.equals(clean)
    digests = {content_digest(pa.schema([("a", pa.string())]), [pa.record_batch({"a": a})]) for a in (dirty, clean)}
    assert len(digests) == 1


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.large_string(), ordered=True)],
)
def test_changed_texts_and_nothing_else(kind):
    schema = pa.schema([("id", pa.int64()), pa.field("text", kind, nullable=True)], metadata={b"k": b"v"})
    rows = [{"id": i, "text": None if i == 2 else f"line {i % 3}"} for i in range(8)]
    batch = pa.RecordBatch.from_pylist([{"id": -1, "text": "cut off"}, *rows], schema=schema).slice(1)
    made = with_column(batch, "text", {2: "新的一行", 7: "", 0: "first"})
    assert made.schema.equals(schema, check_metadata=True)
    new = {0: "first", 2: "新的一行", 7: ""}
    assert made.to_pylist() == [{**row, "text": new.get(row["id"], row["text"])} for row in rows]
    assert with_column(batch, "text", {}).equals(batch)


def test_changes_that_cannot_be():
    schema = pa.schema([("n", pa.int64()), ("text", pa.dictionary(pa.int8(), pa.string()))])
    batch = pa.RecordBatch.from_pylist([{"n": i, "text": "a"} for i in range(200)], schema=schema)
    for column, changes, said in (
        ("no", {0: "x"}, "one of: n, text"),
        ("n", {0: "x"}, "of type int64, expected text"),
        ("text", {200: "x"}, "batch of 200"),
        ("text", {-1: "x"}, "batch of 200"),
        ("text", {0: "\ud83d"}, "cannot hold"),
        ("text", {i: f"x{i}" for i in range(200)}, "column 'text' cannot hold"),
    ):
        with pytest.raises(UsageError, match=said):
            with_column(batch, column, changes)


def test_a_writer_that_fails_leaves_no_shard(tmp_path):
    batch = _typed(10)
    with pytest.raises(RuntimeError), ShardWriter(tmp_path / "a", SCHEMA, shard_rows=4) as writer:  # noqa: PT012
        writer.write(batch)
        assert not list((tmp_path / "a" / "data").glob("train-*"))
        raise RuntimeError
    with pytest.raises(UsageError, match="got a batch of"):
        _shards(tmp_path / "a", SCHEMA, [batch.select(["id"])])
    with pytest.raises(UsageError, match="got no rows"):
        _shards(tmp_path / "a", SCHEMA, [])
    empty = pa.schema([("a", pa.struct([]))])
    with pytest.raises(UsageError, match="Parquet cannot hold"):
        _shards(tmp_path / "a", empty, [pa.RecordBatch.from_pylist([{"a": {}}], schema=empty)])
    assert not list((tmp_path / "a" / "data").iterdir())
    assert len(_shards(tmp_path / "a", SCHEMA, [batch], shard_rows=5)) == 2
    with pytest.raises(UsageError, match="holds Parquet files"):
        _shards(tmp_path / "a", SCHEMA, [batch])


@pytest.mark.long
@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv"])
def test_memory_does_not_grow_with_the_rows(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr("pipelines.datastream._CSV_BLOCK", 1 << 17)
    monkeypatch.setattr("pipelines.jsonl.BLOCK", 1 << 20)
    noise = random.Random(0)
    peaks = []
    for count in (20_000, 100_000):
        path = tmp_path / f"{count}{suffix}"
        texts = [noise.randbytes(100).hex() for _ in range(count)]
        if suffix == ".parquet":  # one row group, uncompressed: as bad as it gets
            pq.write_table(pa.table({"text": texts}), path, row_group_size=count, compression="none")
        elif suffix == ".csv":
            path.write_text("text\n" + "".join(f"{text}\n" for text in texts))
        else:
            path.write_text("".join(f'{{"text": "{text}"}}\n' for text in texts))
        del texts
        stream, peak = open_stream(str(path)), 0
        before = pa.total_allocated_bytes()
        tracemalloc.start()
        with ShardWriter(tmp_path / f"out{count}", stream.schema, shard_rows=30_000) as writer:
            for batch in stream.batches():
                writer.write(with_column(batch, "text", {0: "changed"}))
                peak = max(peak, pa.total_allocated_bytes() - before + tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        peaks.append(peak)
    assert peaks[1] < 1.25 * peaks[0] + (1 << 20)
