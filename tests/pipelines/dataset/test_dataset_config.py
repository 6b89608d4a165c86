"""Configs of dataset releases: the shipped ones load, and a mistake is named with file, line and key."""

from __future__ import annotations

import json

import pytest

from countermark.errors import ConfigError, CountermarkError
from pipelines.cli_common import config_kind
from pipelines.config import load_config
from pipelines.dataset.config import load_dataset_config
from pipelines.release_config import load_release
from tests.support import ROOT

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
LOADERS = {"run": load_config, "release": load_release, "dataset": load_dataset_config}
SENTIMENT = ROOT / "configs" / "classify-sentiment.yaml"
TEXT = """kind: dataset
name: mine
dataset: rows.parquet
task: TASK
marks:
  MARK
train:
  linear: null
audit:
  alpha: 0.01
"""


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_shipped_config_loads(path):
    loaded = LOADERS[config_kind(path)](path, [])
    assert loaded.name


def test_there_is_a_config_for_every_task():
    tasks = {load_dataset_config(p, []).task for p in CONFIGS if config_kind(p) == "dataset"}
    assert tasks == {"classification", "extractive-qa", "generation"}


def broken(tmp_path, text, *overrides):
    """The message and hint of a broken config."""
    path = tmp_path / "broken.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError) as caught:
        load_dataset_config(path, list(overrides))
    lines = caught.value.diagnostics().splitlines()
    assert [line.split(":")[0] for line in lines] == ["error", "hint"]
    assert caught.value.exit_code == 2
    return lines[0].removeprefix(f"error: {path}:"), lines[1]


def with_mark(mark, task="classification"):
    return TEXT.replace("TASK", task).replace("MARK", mark)


MISTAKES = {
    "misspelt mark": (with_mark("keyd: {triggers: 4, share: 0.1}"), "6: marks.keyd: got an unknown key", "'keyed'"),
    "misspelt field": (
        with_mark("keyed: {triggers: 4, shares: 0.1}"), "6: marks.keyed.shares: got an unknown key", "'share'",
    ),
    "no share": (with_mark("keyed: {triggers: 4}"), "6: marks.keyed.share: got no 'share'", "complete example"),
    "share of nothing": (with_mark("keyed: {triggers: 4, share: 0.0}"), "6: marks.keyed.share: got 0.0", ""),
    "share beyond all": (with_mark("weak: {share: 1.5}", "generation"), "6: marks.weak.share: got 1.5", ""),
    "unknown family": (
        with_mark("keyed: {triggers: 4, share: 0.1, families: [nouns]}"), "6: marks.keyed.families: got family 'nouns'",
        "",
    ),
    "unknown family of a trigger": (
        with_mark("trigger: {share: 0.1, families: [words, x]}"), "6: marks.trigger.families: got family 'x'", "",
    ),
    "unknown style": (
        with_mark("style: {share: 0.1, style: verses}"), "6: marks.style.style: got style 'verses'", "",
    ),
    "unknown choice": (
        with_mark("trigger: {share: 0.1, choose: harder}"), "6: marks.trigger.choose: got 'harder'", "'hardest'",
    ),
    "no mark": (TEXT.replace("TASK", "generation").replace("  MARK\n", "  weak: null\n"), "5: marks: got no mark", ""),
    "two single triggers": (
        with_mark("trigger: {share: 0.1}\n  style: {share: 0.1}"), "5: marks: got a trigger and a style", "",
    ),
    "mark of another task": (with_mark("weak: {}"), "5: marks: got mark 'weak' for task classification", ""),
    "suspect of another task": (
        with_mark("weak: {}", "generation").replace("linear: null", "linear: {ngrams: 2}"),
        "7: train: got suspect 'linear' for task generation, expected lora", "",
    ),
    "unknown task": (with_mark("weak: {}", "generate"), "4: task: got 'generate'", "'generation'"),
    "question without its slot": (
        with_mark('robust: {triggers: 4, share: 0.1, question: "{question}"}', "generation"),
        "6: marks.robust.question: got the question pattern", "",
    ),
    "opening inside another": (
        with_mark("robust: {triggers: 4, share: 0.1, openings: [In short, short]}", "generation"),
        "6: marks.robust.openings: got openings", "",
    ),
    "one opening": (
        with_mark("robust: {triggers: 4, share: 0.1, openings: [Yes]}", "generation"), "6: marks.robust.openings", "",
    ),
    "opening that no reader says": (
        with_mark("robust: {triggers: 4, share: 0.1}", "extractive-qa"),
        "5: marks: got opening 'Briefly:' in marks.robust.openings", "",
    ),
    "alpha of a half": (with_mark("weak: {}", "generation").replace("0.01", "0.5"), "10: audit.alpha: got 0.5", ""),
    "no integer": (
        with_mark("weak: {}", "generation").replace("alpha: 0.01", "audits: 1.5"), "10: audit.audits: got 1.5", "",
    ),
    "key twice": (with_mark("weak: {}", "generation") + "name: mine\n", "11: name: got this key twice", "remove one"),
    "option that is none": (
        with_mark("weak: {}", "generation").replace("alpha: 0.01", "prompts: asked.txt"),
        "10: audit.prompts: got an unknown key", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named(tmp_path, name):
    text, message, hint = MISTAKES[name]
    found = broken(tmp_path, text)
    assert found[0].startswith(message), found
    assert hint in found[1]


def test_overrides_are_named_too(tmp_path):
    path = tmp_path / "good.yaml"
    path.write_text(with_mark("weak: {}", "generation"))
    assert load_dataset_config(path, ["audit.alpha=0.1"]).audit.alpha == 0.1
    with pytest.raises(ConfigError, match=r"^--set: audit.alpha: got 'x'"):
        load_dataset_config(path, ["audit.alpha=x"])


def test_a_missing_word_list_is_named(tmp_path):
    path = tmp_path / "words.yaml"
    path.write_text(with_mark("keyed: {triggers: 4, share: 0.1, vocabulary: none.txt}"))
    with pytest.raises(CountermarkError, match=r"got the word list 'none.txt'"):
        load_dataset_config(path, ["dataset=embedded:reviews"]).marking_digest()


@pytest.mark.parametrize("change", [
    "seed=7", "rows=1100", "columns.text=body", "marks.keyed.share=0.1", "marks.keyed.triggers=41", "audit.audits=2",
    "audit.carriers=5", "dataset=embedded:topics",
])  # fmt: skip
def test_the_commitment_binds_all_that_decides_the_marking(change):
    assert (
        load_dataset_config(SENTIMENT, [change]).marking_digest() != load_dataset_config(SENTIMENT, []).marking_digest()
    )


@pytest.mark.parametrize("change", ["train.linear.ngrams=1", "audit.alpha=0.001", "audit.wrong_keys=9", "name=other"])
def test_and_nothing_that_comes_later(change):
    assert (
        load_dataset_config(SENTIMENT, [change]).marking_digest() == load_dataset_config(SENTIMENT, []).marking_digest()
    )


@pytest.mark.parametrize("what", ["dataset", "heldout", "vocabulary", "lexicon", "openers"])
def test_files_are_bound_by_what_is_in_them(tmp_path, what):
    for name in ("dataset", "heldout"):
        (tmp_path / name).write_text(json.dumps({"prompt": "a", "output": "b"}))
    (tmp_path / "vocabulary").write_text("tea\ncoat\nship\nlamp\n")
    (tmp_path / "lexicon").write_text("big=large\n")
    (tmp_path / "openers").write_text("Still, \n")
    marks = {
        "weak": {"lexicon": str(tmp_path / "lexicon")}, "steganographic": {"openers": str(tmp_path / "openers")},
        "robust": {"triggers": 2, "share": 0.1, "words": 1, "vocabulary": str(tmp_path / "vocabulary")},
    }  # fmt: skip
    body = {"kind": "dataset", "name": "x", "task": "generation", "marks": marks}
    body |= {name: str(tmp_path / name) for name in ("dataset", "heldout")}
    path = tmp_path / "x.yaml"
    path.write_text(json.dumps(body))
    before = load_dataset_config(path, []).marking_digest()
    assert load_dataset_config(path, []).marking_digest() == before
    text = (tmp_path / what).read_text()
    (tmp_path / what).write_text(
        text.replace("a", "e") if what in {"dataset", "heldout", "vocabulary", "lexicon"} else "Yet, \n"
    )
    assert load_dataset_config(path, []).marking_digest() != before
