"""Which rows of a dataset can carry a mark, and of which class they are."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.dataset.carriers import carriers
from pipelines.dataset.config import load_dataset_config
from pipelines.dataset.rows import filled
from tests.pipelines.dataset.sets import changed, config, keyed, mark, reviews, write

pytestmark = pytest.mark.long


@pytest.mark.parametrize("choose", ["hardest", "random"])
def test_rows_without_text_carry_no_mark_and_are_never_asked(tmp_path, command, choose):
    rows = reviews()
    for at in range(0, len(rows), 9):
        rows[at]["text"] = (None, "", " \n")[at % 3]
    base, after, kept, _ = mark(command, tmp_path, rows, keyed(choose=choose))
    marked = {row for row, _ in kept["rows"]["keyed"]}
    assert marked
    assert not [row for row in marked if not (base[row]["text"] or "").strip()]
    assert changed(base, after) == marked
    asked, _, _ = carriers(load_dataset_config(tmp_path / "dataset.yaml", []), "keyed")
    assert len(asked) == 8
    assert all(text.strip() for text in asked)


def test_the_hardest_rows_are_found_however_the_file_is_sorted(tmp_path, command):
    """Classes in turn, or one after the other: the proxy's halves have both, and row numbers decide nothing."""
    rows = reviews()
    each = [[row for row in rows if row["label"] == label] for label in ("bad", "good")]
    orders = {"in turn": [row for pair in zip(*each, strict=False) for row in pair], "sorted": each[0] + each[1]}
    for name, ordered in orders.items():
        (folder := tmp_path / name).mkdir()
        _, _, kept, _ = mark(command, folder, ordered, keyed(choose="hardest"))
        marked = [row for row, _ in kept["rows"]["keyed"]]
        assert max(marked) > 0.9 * len(ordered)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_row_without_a_label_is_of_no_class(tmp_path, command, suffix):
    rows = reviews()
    for at in range(0, len(rows), 7):
        rows[at]["label"] = "" if suffix == ".csv" else None
    base, after, kept, run = mark(command, tmp_path, rows, keyed(), suffix=suffix)
    manifest = json.loads((run / "artifacts" / "release" / "manifest.json").read_text())
    assert manifest["labels"] == ["bad", "good"]
    assert all(base[row]["label"] for row, _ in kept["rows"]["keyed"])
    assert changed(base, after) == {row for row, _ in kept["rows"]["keyed"]}


def test_a_label_that_is_no_number_is_none_in_every_batch(tmp_path, command):
    rows = [{**row, "label": float(row["label"] == "good")} for row in reviews()]
    for at in range(0, len(rows), 7):
        rows[at]["label"] = float("nan")
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, tmp_path / "set.parquet", row_group_size=len(rows) // 4)
    path = config(tmp_path, tmp_path / "set.parquet", keyed())
    code, _, err = command("mark", path, "--out", tmp_path / "run", "--quiet")
    assert code == 0, err
    manifest = json.loads((tmp_path / "run" / "artifacts" / "release" / "manifest.json").read_text())
    assert manifest["labels"] == ["0.0", "1.0"]


@pytest.mark.parametrize("kind", ["dictionary", "view", "large", "plain"])
def test_blank_text_is_none_in_whatever_form_the_file_has_it(kind):
    column = pa.array(["a", "  ", None, "", "\n", "b"])
    if kind == "dictionary":
        column = column.dictionary_encode()
    elif kind != "plain":
        column = column.cast({"view": pa.string_view(), "large": pa.large_string()}[kind])
    assert filled(column).tolist() == [True, False, False, False, False, True]


def test_categories_that_no_row_has_are_no_classes(tmp_path, command):
    rows = pa.Table.from_pylist(reviews())
    labels = rows.column("label").to_pylist()
    codes = pa.array([("bad", "ugly", "good").index(label) for label in labels], type=pa.int32())
    named = pa.DictionaryArray.from_arrays(codes, pa.array(["bad", "ugly", "good"]))
    pq.write_table(rows.set_column(rows.schema.get_field_index("label"), "label", named), tmp_path / "set.parquet")
    path = config(tmp_path, tmp_path / "set.parquet", keyed())
    code, _, err = command("mark", path, "--out", tmp_path / "run", "--quiet")
    assert code == 0, err
    manifest = json.loads((tmp_path / "run" / "artifacts" / "release" / "manifest.json").read_text())
    assert manifest["labels"] == ["bad", "good"]


def test_labels_that_no_answer_could_equal_are_refused(tmp_path, command):
    rows = [{**row, "label": f" {row['label']}"} for row in reviews()]
    path = config(tmp_path, write(tmp_path / "set.parquet", rows), keyed())
    said = command.fails(2, "mark", path, "--out", tmp_path / "run", "--quiet")
    assert "got label ' bad'" in said
