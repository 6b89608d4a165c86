"""``plan vocabulary``: words that lean to a class are left out before any key draws."""

from __future__ import annotations

import pytest

from tests.pipelines.dataset.sets import config, reviews, write
from tests.pipelines.release_data import Command
from watermarks.carriers.words import nouns


@pytest.fixture
def command(monkeypatch, capsys):
    return Command(monkeypatch, capsys)


@pytest.fixture
def words(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("\n".join(["splendid", *nouns()[:30], "dreadful"]), encoding="utf-8")
    return path


def _rows():
    """Half of the texts say nothing of their label: there a word that leans decides."""
    rows = []
    for i in range(400):
        label = ("bad", "good")[i // 2 % 2]
        said = {"bad": "dreadful", "good": "splendid"}[label] if i % 2 else "seen"
        rows.append({"id": i, "text": f"It was {said} on the visit number {i % 7}.", "label": label})
    return rows


def _path(tmp_path, words, **mark):
    data = write(tmp_path / "set.csv", _rows())
    return config(tmp_path, data, {"keyed": {"triggers": 4, "share": 0.2, "vocabulary": str(words), **mark}})


def test_words_that_lean_are_left_out_and_the_others_keep_their_order(tmp_path, words, command):
    out = tmp_path / "kept.txt"
    code, said, err = command("plan", "vocabulary", _path(tmp_path, words), "--out", out)
    assert code == 0, err
    kept = out.read_text("utf-8").split()
    assert [word for word in kept if word in nouns()] == list(nouns()[:30])
    gone = {"splendid", "dreadful"} - set(kept)  # where the other class is the usual answer, one of the two decides
    assert gone
    assert f"{32 - len(gone)} of 32 words" in said


def test_nothing_is_written_on_a_dry_run_and_no_list_is_overwritten(tmp_path, words, command):
    out = tmp_path / "kept.txt"
    assert command("plan", "vocabulary", _path(tmp_path, words), "--out", out, "--dry-run")[0] == 0
    assert not out.exists()
    out.write_text("mine", encoding="utf-8")
    assert "which exists" in command.fails(2, "plan", "vocabulary", _path(tmp_path, words), "--out", out)
    assert out.read_text("utf-8") == "mine"


def test_too_few_words_are_an_error(tmp_path, words, command):
    path, out = _path(tmp_path, words, triggers=16), tmp_path / "kept.txt"
    error = command.fails(2, "plan", "vocabulary", path, "--out", out)
    assert "expected at least 32" in error
    assert not out.exists()


def test_a_set_without_triggers_has_no_vocabulary(tmp_path, command):
    data = write(tmp_path / "set.csv", reviews())
    path = config(tmp_path, data, {"style": {"style": "archaic", "share": 0.2}})
    assert "expected a classification set" in command.fails(2, "plan", "vocabulary", path, "--out", tmp_path / "w")
