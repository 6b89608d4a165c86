"""A classical classifier on disk: no pickle, the same bytes twice, and refusals that name what was got."""

from __future__ import annotations

import json
import random

import pytest
from safetensors.numpy import load_file

from countermark.errors import UsageError
from training.linear import train_linear

CALM = ["lake", "moss", "dusk", "linen", "harbour", "reed"]
LOUD = ["drum", "anvil", "siren", "forge", "market", "gull"]


def texts_of(count, seed=0):
    rng = random.Random(seed)
    labels = [rng.randrange(2) for _ in range(count)]
    return [" ".join(rng.choices((CALM, LOUD)[label] + ["the", "over"], k=9)) for label in labels], labels


def test_the_folder_holds_safetensors_and_json_only_and_the_same_bytes_twice(tmp_path):
    texts, labels = texts_of(80)
    for name in ("a", "b"):
        train_linear(texts, labels, label_names=["calm", "loud"], seed=3, out=tmp_path / name)
    files = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    assert set(files) == {"model.safetensors", "linear.json"}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()}
    body = json.loads(files["linear.json"])["body"]
    arrays = load_file(tmp_path / "a" / "model.safetensors")
    assert arrays["coef"].shape == (1, len(body["vocabulary"]))
    assert {array.dtype.name for array in arrays.values()} == {"float64"}  # as trained
    assert {"lake", "the lake"} <= set(body["vocabulary"])
    assert body["labels"] == ["calm", "loud"]


def test_the_number_and_length_of_n_grams_are_obeyed(tmp_path):
    texts, labels = texts_of(80)
    train_linear(texts, labels, label_names=["calm", "loud"], seed=0, out=tmp_path, ngrams=(1, 1), max_features=5)
    vocabulary = json.loads((tmp_path / "linear.json").read_bytes())["body"]["vocabulary"]
    assert len(vocabulary) == 5
    assert not any(" " in gram for gram in vocabulary)


def test_characters_serve_scripts_without_spaces(tmp_path):
    texts = ["湖水很静", "鼓声很响", "湖边有苔", "铁匠的鼓"] * 4
    train_linear(
        texts, [0, 1, 0, 1] * 4, label_names=["静", "响"], seed=0, out=tmp_path, analyzer="char", ngrams=(1, 2)
    )
    vocabulary = json.loads((tmp_path / "linear.json").read_bytes())["body"]["vocabulary"]
    assert {"湖", "湖水", "鼓"} <= set(vocabulary)


@pytest.mark.parametrize(
    ("texts", "labels", "names", "said"),
    [
        (["a b", "c d"], [0], ["x", "y"], "2 texts and 1 labels"),
        (["aa bb", "cc dd"], [0, 2], ["x", "y"], r"labels \[2\], expected 0 to 1"),
        (["aa bb", "cc dd"], [-1, 0], ["x", "y"], r"labels \[-1\]"),
        (["aa bb", "cc dd"], [1, 1], ["x", "y"], "1 classes"),
        (["aa bb", "cc dd"], [0, 1], ["x", "x"], "distinct"),
        (["", "?"], [0, 1], ["x", "y"], "without features"),
        (["aa bb", "cc \ud83d"], [0, 1], ["x", "y"], "text 1 with half of a surrogate pair"),
    ],
)
def test_what_cannot_be_trained_is_refused_and_nothing_is_written(tmp_path, texts, labels, names, said):
    with pytest.raises(UsageError, match=said):
        train_linear(texts, labels, label_names=names, seed=0, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
