"""Datasets in, shards out: no value, type or order changes on the way, and no batch size shows in what is written."""

from __future__ import annotations

import csv
import hashlib
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from countermark.errors import MissingAssetError, UsageError
from pipelines import jsonl
from pipelines.datastream import open_stream
from pipelines.shards import ShardWriter

ROWS = [
    {"id": 7, "text": "A plain line.", "label": "good", "tags": ["a", "b"], "meta": {"lang": "en", "score": 0.5}},
    {"id": 8, "text": "这部电影很好，值得看。", "label": "bad", "tags": [], "meta": {"lang": "zh", "score": None}},
    {"id": 9, "text": 'comma, "quote"\nnext line', "label": None, "tags": None, "meta": None},
    {"id": 10, "text": "", "label": "2024-05-01", "tags": [None, "ü"], "meta": {"lang": None, "score": 1.0}},
    {
        "id": 11,
        "text": None,
        "label": "2024-05-01T10:00:00",
        "tags": ["a\u2028b"],
        "meta": {"lang": "fr", "score": -0.0},
    },
]
CELLS = [
    {"id": "007", "text": "很好，谢谢。", "n": "1.50"},
    {"id": "", "text": 'comma, "quote"\nnext line', "n": "NA"},
    {"id": "null", "text": " spaced ", "n": "2024-05-01"},
    {"id": "true", "text": "old\rmac", "n": "1e400"},
]


def _rows_of(stream, **how):
    return [row for batch in stream.batches(**how) for row in batch.to_pylist()]


def _jsonl(path, rows):
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8", newline="\n")
    return str(path)


def _csv(path, rows):
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0].keys(), quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    path.write_bytes(text.getvalue().encode())
    return str(path)


def _parquet(path, rows, **how):
    pq.write_table(pa.Table.from_pylist(rows), path, **how)
    return str(path)


def _shards(folder, schema, batches, **how):
    with ShardWriter(folder, schema, **how) as writer:
        for batch in batches:
            writer.write(batch)
    return sorted((folder / "data").iterdir())


def _bytes(paths):
    return [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths]


@pytest.fixture(params=["jsonl", "parquet", "parquet folder", "datasets", "datasets dict", "memory"])
def stored(request, tmp_path):
    import datasets
    import fsspec

    if request.param == "jsonl":
        return _jsonl(tmp_path / "in.jsonl", ROWS)
    if request.param == "parquet":
        return _parquet(tmp_path / "in.parquet", ROWS)
    if request.param == "parquet folder":
        for i in range(2):
            part = ROWS[:3] if i == 0 else ROWS[3:]
            table = pa.Table.from_pylist(part, schema=pa.Table.from_pylist(ROWS).schema)
            pq.write_table(table, tmp_path / f"train-{i:05d}-of-00002.parquet")
        _parquet(tmp_path / "test-00000-of-00001.parquet", ROWS[:1])
        return str(tmp_path)
    if request.param == "memory":
        with fsspec.open("memory://store/in.jsonl", "wb") as out:
            out.write("\n".join(json.dumps(row) for row in ROWS).encode())
        return "memory://store/in.jsonl"
    data = datasets.Dataset.from_list(ROWS)
    if request.param == "datasets dict":
        data = datasets.DatasetDict({"test": data.select([0]), "train": data})
    data.save_to_disk(tmp_path / "saved [1] 数据", **({} if "dict" in request.param else {"num_shards": 2}))
    return str(tmp_path / "saved [1] 数据")


def test_values_order_and_columns_come_through_and_out_again(stored, tmp_path):
    stream = open_stream(stored)
    assert _rows_of(stream) == ROWS == _rows_of(stream, rows=2)
    assert _rows_of(stream, columns=["label", "id"], rows=1) == [{"label": r["label"], "id": r["id"]} for r in ROWS]
    assert all(b.schema.equals(stream.schema, check_metadata=True) for b in stream.batches(rows=3))
    paths = _shards(tmp_path / "out", stream.schema, stream.batches(rows=2), shard_rows=3)
    assert [path.name for path in paths] == ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]
    again = open_stream(str(tmp_path / "out"))
    assert _rows_of(again) == ROWS
    assert again.schema.equals(stream.schema)
    assert again.schema.metadata == stream.schema.metadata
    assert again.digest() == stream.digest()


def test_nothing_is_guessed_in_a_csv(tmp_path):
    stream = open_stream(_csv(tmp_path / "in.csv", CELLS))
    assert _rows_of(stream) == CELLS
    assert _rows_of(stream, columns=["n"], rows=1) == [{"n": row["n"]} for row in CELLS]
    _shards(tmp_path / "out", stream.schema, stream.batches(rows=3))
    assert _rows_of(open_stream(str(tmp_path / "out"))) == CELLS


@pytest.mark.long
@given(st.lists(st.fixed_dictionaries({"a": st.text(max_size=12), 'b,"': st.text(max_size=3)}), min_size=1, max_size=8))
def test_any_text_comes_through_csv(rows):
    import fsspec

    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0].keys(), quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    with fsspec.open("memory://any/in.csv", "wb") as out:
        out.write(text.getvalue().encode())
    assert _rows_of(open_stream("memory://any/in.csv")) == rows


def test_a_csv_value_may_run_over_many_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.datastream._CSV_BLOCK", 512)
    rows = [{"id": str(i), "text": f"line {i}\n" * (i % 40)} for i in range(100)]
    assert _rows_of(open_stream(_csv(tmp_path / "in.csv", rows))) == rows
    with pytest.raises(UsageError, match=r"in\.csv"):
        _rows_of(open_stream(_csv(tmp_path / "in.csv", [{"id": "1", "text": "too long " * 200}] * 9)))


def test_the_same_rows_have_one_digest_in_every_format(tmp_path):
    streams = [
        open_stream(_csv(tmp_path / "in.csv", CELLS)),
        open_stream(_jsonl(tmp_path / "in.jsonl", CELLS)),
        open_stream(_parquet(tmp_path / "in.parquet", CELLS, compression="snappy", row_group_size=1)),
        open_stream(_parquet(tmp_path / "again.parquet", CELLS, compression="zstd")),
    ]
    assert len({stream.digest() for stream in streams}) == 1


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfid,text\r\n1,b\r\n")
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf\n{"id": "1", "text": "b"}\r\n\r\n')
    for name in ("a.csv", "a.jsonl"):
        assert _rows_of(open_stream(str(tmp_path / name))) == [{"id": "1", "text": "b"}]


def test_jsonl_columns_are_those_of_all_first_rows(tmp_path):
    rows = [{"a": 1}, {"b": [], "a": 2.5}, {"b": [{"x": None}], "c": None}]
    stream = open_stream(_jsonl(tmp_path / "a.jsonl", rows))
    assert stream.schema.names == ["a", "b", "c"]
    assert _rows_of(stream)[1:] == [{"a": 2.5, "b": [], "c": None}, {"a": None, "b": [{"x": None}], "c": None}]


def test_a_column_of_nulls_is_decided_by_a_later_block():
    data = b"".join(json.dumps({"n": i, "late": "at last" if i > 90 else None}).encode() + b"\n" for i in range(100))
    schema = jsonl.schema_of(io.BytesIO(data), "rows", block=64)
    assert schema.field("late").type == pa.string()
    found = [row for b in jsonl.batches(io.BytesIO(data), "rows", schema, block=64) for row in b.to_pylist()]
    assert [row["n"] for row in found] == list(range(100))
    assert found[95]["late"] == "at last"


VALUES = st.recursive(
    st.none() | st.booleans() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xy"), inner, min_size=1, max_size=2),
    max_leaves=6,
)


@pytest.mark.long
@given(st.lists(st.fixed_dictionaries({"t": st.text(max_size=12), "v": st.none() | st.text()}), min_size=1), st.data())
def test_any_text_comes_through_jsonl_blocks(rows, data):
    text = "".join(json.dumps(row, ensure_ascii=data.draw(st.booleans())) + "\n" for row in rows).encode()
    size = data.draw(st.integers(1, 80))
    schema = jsonl.schema_of(io.BytesIO(text), "rows", block=size)
    found = [row for b in jsonl.batches(io.BytesIO(text), "rows", schema, block=size) for row in b.to_pylist()]
    assert found == rows


@given(VALUES)
def test_any_nested_value_comes_through_jsonl_or_is_refused_with_its_line(value):
    text = (json.dumps({"v": value}) + "\n").encode() * 2
    try:
        schema = jsonl.schema_of(io.BytesIO(text), "rows")
        found = [row["v"] for b in jsonl.batches(io.BytesIO(text), "rows", schema) for row in b.to_pylist()]
    except UsageError as error:
        assert error.message.startswith("rows:1: ")  # noqa: PT017 - most values are fine
    else:
        assert [json.dumps(_with_all_keys(each, value)) for each in found] == [json.dumps(value)] * 2


def _with_all_keys(found, value):
    """Arrow gives every object of a list the keys of all: those that were not there are taken out again."""
    if isinstance(value, dict):
        return {key: _with_all_keys(found[key], inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_all_keys(each, inner) for each, inner in zip(found, value, strict=True)]
    return found


BROKEN = {
    "not json": ("a.jsonl", b'{"a": "x"}\n\n{"a": \n', r"a\.jsonl:3: got a line that is not JSON"),
    "a list": ("a.jsonl", b'{"a": "x"}\n[1]\n', r"a\.jsonl:2: got a list"),
    "types that differ": ("a.jsonl", b'{"a": "x"}\n{"a": 1}\n', r"a\.jsonl:2: got types unlike"),
    "too large": ("a.jsonl", b'{"a": 1}\n{"a": 99999999999999999999}\n', r"a\.jsonl:2"),
    "a key twice": ("a.jsonl", b'{"a": "x"}\n{"a": "x", "a": "y"}\n', r"a\.jsonl:2: got a row .*specified twice"),
    "half a character": ("a.jsonl", b'{"a": "x"}\n{"a": "\\ud83d"}\n', r"a\.jsonl:"),
    "not utf-8": ("a.jsonl", b'{"a": "x"}\n{"a": "\xff"}', r"a\.jsonl:2"),
    "two a line": ("a.jsonl", b'{"a": "x"} {"a": "y"}\n', r"a\.jsonl:1"),
    "no columns": ("a.jsonl", b"{}\n{}\n", "expected rows with columns"),
    "csv too long": ("a.csv", b"a,b\nx,y\nx,y,z\n", r"a\.csv.*Row #3"),
    "csv too short": ("a.csv", b"a,b\nx\n", r"a\.csv.*Row #2"),
    "csv twice a name": ("a.csv", b"a,a\nx,y\n", r"a\.csv:1: got columns a, a"),
    "csv not utf-8": ("a.csv", b"a,b\nx,y\n\xff,y\n", r"a\.csv.*Row #3.*UTF8"),
    "not parquet": ("a.parquet", b"PAR1 no", r"a\.parquet.*cannot be read"),
    "empty jsonl": ("a.jsonl", b"\n\n", "empty dataset"),
    "empty csv": ("a.csv", b"a,b\n", "empty dataset"),
    "no csv": ("a.csv", b"", r"a\.csv.*Empty CSV"),
    "another format": ("a.xlsx", b"x", r"expected \.jsonl, \.csv"),
    "packed": ("a.jsonl.gz", b"x", r"expected \.jsonl, \.csv"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named_with_its_line(tmp_path, name):
    file, data, message = BROKEN[name]
    (tmp_path / file).write_bytes(data)
    with pytest.raises(UsageError, match=message) as caught:
        _rows_of(open_stream(str(tmp_path / file)))
    assert "Traceback" not in caught.value.diagnostics()


LATER = {
    "type": (b'{"a": "x", "b": 1}', b'{"a": 1, "b": 1}'),
    "column": (b'{"a": "x"}', b'{"a": "x", "more": 1}'),
    "nested column": (b'{"b": {"c": 1}}', b'{"b": {"c": 1, "d": 2}}'),
    "fraction": (b'{"a": 1}', b'{"a": 1.5}'),
    "not utf-8": (b'{"a": "x"}', b'{"a": "\xff"}'),
    "two a line": (b'{"a": "x"}', b'{"a": "x"} {"a": "y"}'),
    "not json": (b'{"a": "x"}', b'{"a": "x"'),
}


@pytest.mark.parametrize("name", LATER)
def test_what_changes_after_the_first_block_is_named_with_its_line(name):
    usual, other = LATER[name]
    data = b"".join((other if i == 61 else usual) + b"\n" for i in range(90))
    schema = jsonl.schema_of(io.BytesIO(data), "rows.jsonl", block=50)
    with pytest.raises(UsageError, match=r"rows\.jsonl:62: got "):
        list(jsonl.batches(io.BytesIO(data), "rows.jsonl", schema, block=50))


def test_what_is_not_there(tmp_path):
    for name in ("none.jsonl", str(tmp_path / "none"), "./none", "memory://none.csv", "a/b/c"):
        with pytest.raises(MissingAssetError, match=r"none|a/b/c"):
            open_stream(name)
    with pytest.raises(UsageError, match="Protocol not known"):
        open_stream("nosuch://x.csv")
    with pytest.raises(UsageError, match="without Parquet files"):
        open_stream(str(tmp_path))
    stream = open_stream(_jsonl(tmp_path / "in.jsonl", ROWS))
    with pytest.raises(UsageError, match=r"got columns \['no'\].*one of: id, text"):
        next(stream.batches(columns=["id", "no"]))
    (tmp_path / "in.jsonl").unlink()
    with pytest.raises(MissingAssetError):
        next(stream.batches())


def test_shards_must_be_all_there_and_of_one_kind(tmp_path):
    _parquet(tmp_path / "train-00000-of-00003.parquet", ROWS)
    _parquet(tmp_path / "train-00002-of-00003.parquet", ROWS)
    with pytest.raises(MissingAssetError, match=r"got 2 shards of 'train'.*expected 00003"):
        open_stream(str(tmp_path))
    _parquet(tmp_path / "train-00001-of-00003.parquet", CELLS)
    with pytest.raises(UsageError, match=r"in train-00001-of-00003\.parquet, expected those of train-00000"):
        open_stream(str(tmp_path))
    for path in tmp_path.iterdir():
        path.unlink()
    for split in ("dev", "test"):
        _parquet(tmp_path / f"{split}-00000-of-00001.parquet", ROWS)
    with pytest.raises(UsageError, match="splits dev, test, expected 'train'"):
        open_stream(str(tmp_path))


def test_a_hub_dataset_is_streamed_and_a_missing_one_is_named(monkeypatch):
    import datasets

    asked = []

    def load_dataset(repo, **how):
        asked.append((repo, how))
        if repo != "org/name":
            raise ConnectionError("no network")
        return datasets.Dataset.from_list(ROWS).to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    stream = open_stream("org/name@v1")
    assert stream.suffix == "hub"
    assert _rows_of(stream, rows=2) == ROWS
    assert _rows_of(stream, columns=["label", "id"]) == [{"label": r["label"], "id": r["id"]} for r in ROWS]
    assert asked[0] == ("org/name", {"split": "train", "streaming": True, "revision": "v1"})
    with pytest.raises(MissingAssetError, match=r"'org/other'.*ConnectionError"):
        open_stream("org/other")


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train-00000-of-00001-6ef3991c06080e14.parquet", "test-00000-of-00001-08f4f2e6c0a2e2bf.parquet"),
        ("train.parquet", "test.parquet"),
        ("train-00000-of-00001.parquet", "validation.parquet"),
    ],
)
def test_another_splits_rows_are_never_taken_for_those_of_train(tmp_path, train, test):
    _parquet(tmp_path / train, ROWS)
    _parquet(tmp_path / test, ROWS * 2)
    assert sum(batch.num_rows for batch in open_stream(str(tmp_path)).batches()) == len(ROWS)
    _parquet(tmp_path / "more.parquet", ROWS)
    with pytest.raises(UsageError, match=r"got 'more\.parquet' beside files of a split"):
        open_stream(str(tmp_path))
