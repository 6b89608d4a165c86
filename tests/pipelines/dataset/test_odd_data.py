"""Datasets as they come: odd columns are marked or refused in two lines; a result tells its exit code to any shell."""

from __future__ import annotations

import csv
import errno
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from countermark.errors import StorageError, UsageError
from countermark.files import storage_errors
from pipelines import cli
from tests.e2e.conftest import environment
from tests.pipelines.dataset.sets import chats, config, keyed, mark, released, reviews, spans, write

pytestmark = pytest.mark.long

ROBUST = {"robust": {"triggers": 4, "share": 0.2, "openings": ["north", "east", "south", "west"]}}


def stored(path, table):
    pq.write_table(table, path)
    return path


def refused(command, tmp_path, data, marks, **more):
    said = command.fails(2, "mark", config(tmp_path, data, marks, **more), "--out", tmp_path / "run", "--quiet")
    assert not (tmp_path / "run").exists()
    return said


def test_a_column_named_twice_is_refused(tmp_path, command):
    table = pa.Table.from_pylist(reviews())
    data = stored(tmp_path / "set.parquet", table.append_column("id", table["id"]))
    assert "column 'id' more than once" in refused(command, tmp_path, data, keyed())


def test_views_are_marked_as_they_are(tmp_path, command):
    table = pa.Table.from_pylist([{"text": r["text"], "label": r["label"]} for r in reviews()])
    schema = pa.schema([("text", pa.string_view()), ("label", pa.string_view())])
    data = stored(tmp_path / "set.parquet", table.cast(schema))
    code, _, err = command("mark", config(tmp_path, data, keyed()), "--out", tmp_path / "run", "--quiet")
    assert code == 0, err
    assert sum(a["text"] != b["text"] for a, b in zip(released(tmp_path / "run"), reviews(), strict=True)) == 72
    assert command("mark", tmp_path / "dataset.yaml", "--out", tmp_path / "run", "--quiet", "--check")[0] == 0


@pytest.mark.parametrize("column", ["prompt", "output"])
@pytest.mark.parametrize("value", [["a", "b"], 7, [{"role": "user", "content": "Hello."}]], ids=["list", "int", "chat"])
def test_what_is_no_text_is_refused_before_any_key(tmp_path, command, column, value):
    data = stored(tmp_path / "set.parquet", pa.Table.from_pylist([{**row, column: value} for row in chats()]))
    assert f"column {column!r} of type" in refused(command, tmp_path, data, {"weak": {"share": 1}}, task="generation")


def test_a_column_of_answers_places_would_tell_the_marked_rows(tmp_path, command):
    rows = [{**row, "start": row["context"].find(row["output"])} for row in spans()]
    data = write(tmp_path / "set.parquet", rows)
    assert "column 'start'" in refused(command, tmp_path, data, ROBUST, task="extractive-qa")
    other = [{**row, "start": row["start"] + 1} for row in rows]  # some number: not where the answer stands
    mark(command, tmp_path, other, ROBUST, task="extractive-qa")


@pytest.mark.parametrize("fault", ["latin", "cut", "ragged"])
def test_a_file_that_cannot_be_read_says_what_to_do(tmp_path, command, fault):
    data = tmp_path / ("set.parquet" if fault == "cut" else "set.csv")
    if fault == "latin":
        with data.open("w", encoding="cp1252", newline="") as out:
            csv.writer(out).writerows([["text", "label"], *(["café", "good"] for _ in range(50))])
    elif fault == "cut":
        whole = write(data, reviews()).read_bytes()
        data.write_bytes(whole[:-100])
    else:
        data.write_text("text,label\nfine,good\nso, so,bad\n")
    hint = {"latin": "UTF-8", "cut": "fetch it again", "ragged": "quote those that hold commas"}[fault]
    said = refused(command, tmp_path, data, keyed())
    assert hint in said
    assert f"expected a {data.suffix} file that can be" in said


def test_a_folder_of_runs_knows_what_a_release_is(tmp_path, command):
    mark(command, tmp_path, reviews(), keyed())
    assert f"{tmp_path / 'run'}: 2/2 stages" in command("runs", tmp_path)[1]


@pytest.mark.parametrize(("end", "code"), [("| true", 0), ("> /dev/full", 2)])
def test_a_result_that_nobody_reads_is_a_result(tmp_path, command, end, code):
    mark(command, tmp_path, reviews(), keyed())
    line = f"set -o pipefail; {sys.executable} -m pipelines.cli runs {tmp_path} --json {end}"
    done = subprocess.run(["bash", "-c", line], env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_a_file_that_may_not_be_read_is_not_blamed_on_the_folder_that_is_written(tmp_path):
    with (
        pytest.raises(UsageError, match=r"/elsewhere/set\.parquet, which may not be read") as raised,
        storage_errors(tmp_path / "out" / "made"),
    ):
        raise PermissionError(errno.EACCES, "Permission denied", "/elsewhere/set.parquet")
    assert not isinstance(raised.value, StorageError)
    inside = str(tmp_path / "out" / "made" / "file")
    with pytest.raises(StorageError), storage_errors(tmp_path / "out" / "made"):
        raise PermissionError(errno.EACCES, "Permission denied", inside)


@pytest.mark.parametrize(("number", "code"), [(errno.EACCES, 2), (errno.EIO, 2), (errno.ENOENT, 70)])
def test_what_the_machine_refuses_is_no_bug_of_ours(monkeypatch, number, code):
    monkeypatch.delenv("COUNTERMARK_DEBUG", raising=False)
    said, found = cli._foreign(OSError(number, "no", "/elsewhere/shard"))
    assert found == code
    assert ("bug" in said) == (code == 70)
    assert len(said.splitlines()) == 2
