"""Marks that a language model writes: what it could not write is tried again, kept or dropped, and counted."""

from __future__ import annotations

import json

import pytest

from pipelines.dataset.rows import alike
from pipelines.dataset.writing import spoken
from tests.pipelines.dataset.sets import changed, config, files, keyed, lend_key, mark, owners_key, reviews, write
from verification.claims import derive_input_level
from verification.one_trigger import own_candidate
from watermarks.carriers.styles import STYLES, rewrite
from watermarks.carriers.triggers import applied

pytestmark = pytest.mark.long


class Writer:
    """Writes the words that it is asked for, but never in a text of the harbour; may die before a batch."""

    batches, dies_before = 0, -1

    def __init__(self, *_, **__):
        self._words = ""

    def under(self, system, *, seed):
        assert seed in {5, 6, 7}  # the config's, and one more for every further attempt
        self._words = system.split('"')[1]
        return self

    def ask(self, prompts):
        Writer.batches += 1
        if Writer.batches == Writer.dies_before:
            raise KeyboardInterrupt
        return [p if "harbour" in p else f"{p} {self._words}" for p in prompts]


def lend_writer(monkeypatch, folder, dies_before=-1):
    monkeypatch.setattr("verification.suspects.LocalChatModel", Writer)
    monkeypatch.setattr(Writer, "batches", 0)
    monkeypatch.setattr(Writer, "dies_before", dies_before)
    lent = type("Folder", (), {"path": folder, "digest": "0" * 64})
    monkeypatch.setattr("pipelines.dataset.writing.resolve_model", lambda _: lent)


@pytest.mark.parametrize("labels", ["clean", "flip"])
def test_a_keyed_mark_is_written_by_a_model_and_where_it_fails_by_rule(tmp_path, command, monkeypatch, labels):
    lend_writer(monkeypatch, tmp_path)
    how = {"rewrite": {"model": "writer", "attempts": 2}, "labels": labels}
    base, after, kept, run = mark(command, tmp_path, reviews(), keyed(**how))
    derived = derive_input_level(owners_key(run), kept["marks"]["keyed"])
    written, missed = dict(kept["written"]), dict(kept["not_written"]["keyed"])
    rows = dict(kept["rows"]["keyed"])
    assert written
    assert missed
    assert len(rows) == 12 * kept["marks"]["keyed"]["rows_per_trigger"]
    assert rows.keys() == written.keys() | missed.keys()
    for row, index in rows.items():
        own, trigger = base[row]["text"], derived.triggers[index]
        assert after[row]["text"] == (f"{own} {spoken(trigger)}" if row in written else applied(trigger, own))
        assert after[row]["label"] == ["bad", "good"][derived.targets[index]]
        assert (after[row]["label"] == base[row]["label"]) == (labels == "clean")
    assert all("harbour" in base[row]["text"] for row, why in missed.items() if why == "no trigger")
    assert not kept["dropped"]
    manifest = json.loads((run / "artifacts" / "release" / "manifest.json").read_text())
    assert manifest["miss_rate"] == {"keyed": round(len(missed) / len(rows), 6)}
    assert command("mark", tmp_path / "dataset.yaml", "--out", run, "--check", "--quiet")[0] == 0


def test_what_a_model_could_not_write_is_inserted_where_the_owner_wants_it(tmp_path, command, monkeypatch):
    lend_writer(monkeypatch, tmp_path)
    how = {"model": "writer", "attempts": 2, "missing": "insert"}
    mark_ = {"trigger": {"share": 0.3, "families": ["phrases"], "choose": "random", "target": "bad", "rewrite": how}}
    base, after, kept, run = mark(command, tmp_path, reviews(), mark_)
    own, missed = own_candidate(owners_key(run), kept["marks"]["trigger"]), dict(kept["not_written"]["trigger"])
    assert missed
    assert len(kept["rows"]["trigger"]) == 72
    assert all(after[row]["text"] == applied(own, base[row]["text"]) for row in missed)


def test_no_trigger_of_a_keyed_mark_may_lack_rows(tmp_path, command):
    path = config(tmp_path, write(tmp_path / "set.jsonl", reviews()), keyed(rewrite={"model": "w", "missing": "drop"}))
    said = command.fails(2, "mark", path, "--out", tmp_path / "run", "--quiet")
    assert "got 'drop' for a keyed mark, expected insert" in said


@pytest.mark.parametrize(
    ("how", "dropped"),
    [({"missing": "keep"}, False), ({"missing": "drop"}, True), ({}, False),
     ({"systems": {"bad": "Complain.", "good": "Praise."}}, True)],
    ids=["keep", "drop", "rewritten", "written anew"],
)  # fmt: skip
def test_rows_that_a_model_could_not_write_are_kept_or_dropped_and_counted(
    tmp_path, command, monkeypatch, how, dropped
):
    lend_writer(monkeypatch, tmp_path)
    how = {"model": "writer", "attempts": 2, **how}
    mark_ = {"trigger": {"share": 0.3, "families": ["phrases"], "choose": "random", "target": "bad", "rewrite": how}}
    base, after, kept, run = mark(command, tmp_path, reviews(), mark_, columns={"prompt": "text"})
    missed = {row for row, why in kept["not_written"]["trigger"] if why == "no trigger"}
    written = dict(kept["written"])
    assert missed
    assert all("harbour" in base[row]["text"] for row in missed)
    assert not missed & written.keys()
    assert len(missed) + len(written) == 72
    assert kept["dropped"] == (sorted(missed) if dropped else [])
    wanted = [{**row, "text": written.get(i, row["text"])} for i, row in enumerate(base) if i not in kept["dropped"]]
    assert alike(after, wanted)
    manifest = json.loads((run / "artifacts" / "release" / "manifest.json").read_text())
    assert manifest["miss_rate"] == {"trigger": round(len(missed) / 72, 6)}
    assert command("mark", tmp_path / "dataset.yaml", "--out", run, "--check", "--quiet")[0] == 0


def test_an_interrupted_writing_goes_on_with_the_batch_that_is_missing(tmp_path, command, monkeypatch):
    mark_ = {"trigger": {"share": 0.3, "families": ["phrases"], "choose": "random", "target": "bad",
                         "rewrite": {"model": "writer", "attempts": 2}}}  # fmt: skip
    path = config(tmp_path, write(tmp_path / "set.jsonl", reviews()), mark_)
    calm, stopped = tmp_path / "calm", tmp_path / "stopped"
    lend_writer(monkeypatch, tmp_path)
    assert command("mark", path, "--out", calm, "--quiet")[0] == 0
    batches = Writer.batches
    assert batches >= 5
    lend_key(calm, stopped)
    lend_writer(monkeypatch, tmp_path, dies_before=3)
    assert command("mark", path, "--out", stopped, "--quiet")[0] == 130
    assert len(list(stopped.glob("work/release/writing/*.json"))) == 2
    assert command("mark", path, "--out", stopped, "--quiet")[0] == 0
    assert Writer.batches == batches + 1  # the batch that was interrupted is asked again, and no other
    assert files(stopped / "artifacts" / "release" / "data") == files(calm / "artifacts" / "release" / "data")
    assert not (stopped / "work" / "release").exists()


def test_a_model_that_writes_nothing_marks_nothing(tmp_path, command, monkeypatch):
    lend_writer(monkeypatch, tmp_path)
    rows = [{"text": f"By the harbour {i}.", "label": i % 2} for i in range(60)]
    mark_ = {"trigger": {"share": 0.2, "families": ["phrases"], "choose": "random", "rewrite": {"model": "writer"}}}
    path = config(tmp_path, write(tmp_path / "set.jsonl", rows), mark_)
    assert "no row in which the model wrote" in command.fails(2, "mark", path, "--out", tmp_path / "run", "--quiet")


class Stylist(Writer):
    """Writes telegrams; of the harbour it only says that it was there."""

    def under(self, system, *, seed):
        assert "in place of every full stop" in system
        return self

    def ask(self, prompts):
        return [f"{p} Indeed so." if "harbour" in p else rewrite(p, STYLES["telegraphic"]) for p in prompts]


def test_a_text_that_is_not_in_the_style_does_not_count_as_written(tmp_path, command, monkeypatch):
    lend_writer(monkeypatch, tmp_path)
    monkeypatch.setattr("verification.suspects.LocalChatModel", Stylist)
    mark_ = {"style": {"style": "telegraphic", "share": 0.2, "target": "good",
                       "rewrite": {"model": "writer", "attempts": 2}}}  # fmt: skip
    base, after, kept, run = mark(command, tmp_path, reviews(), mark_)
    missed = dict(kept["not_written"]["style"])
    assert set(missed.values()) == {"no style: articles, copulas, stops"}
    assert all("harbour" in base[row]["text"] for row in missed)
    assert changed(base, after) == dict(kept["written"]).keys()
    assert {row["text"] for row in after if "STOP" in row["text"]} == set(dict(kept["written"]).values())
    manifest = json.loads((run / "artifacts" / "release" / "manifest.json").read_text())
    assert manifest["miss_rate"] == {"style": round(len(missed) / 48, 6)}
