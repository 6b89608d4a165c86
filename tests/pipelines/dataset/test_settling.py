"""A release is of the data and config that its commitment names, whatever the key; a failed start ties nothing up."""

from __future__ import annotations

import json
import shutil
from collections import Counter

import fsspec
import numpy as np
import pytest

from countermark.errors import UsageError
from pipelines.dataset import marking
from pipelines.dataset.config import load_dataset_config
from pipelines.dataset.placing import Quota, fitted, place
from tests.pipelines.dataset.sets import config, files, keyed, mark, reviews, write
from watermarks.carriers import input_level
from watermarks.keys import wrong_key

pytestmark = pytest.mark.long


def run_of(tmp_path):
    return tmp_path / "run"


def manifest(run):
    return json.loads((run / "artifacts" / "release" / "manifest.json").read_text())


@pytest.mark.parametrize("bad", ["columns", "labels", "share", "text"])
def test_a_dataset_that_cannot_be_marked_leaves_nothing_behind(tmp_path, command, bad):
    rows = reviews()
    if bad == "columns":
        rows = [{"text": row["text"], "sentiment": row["label"]} for row in rows]
    elif bad == "labels":
        rows = [{**row, "label": "good"} for row in rows]
    elif bad == "text":
        rows = [{**row, "text": " "} for row in rows]
    data = write(tmp_path / "set.jsonl", rows)
    path = config(tmp_path, data, keyed(share=0.01 if bad == "share" else 0.3))
    before = files(tmp_path)
    for more in ([], ["--dry-run"]):
        command.fails(2, "mark", path, "--out", run_of(tmp_path), "--quiet", *more)
        assert files(tmp_path) == before
        assert not run_of(tmp_path).exists()


def test_data_that_changed_before_the_release_are_committed_to_anew(tmp_path, command, monkeypatch):
    data, write_rows = write(tmp_path / "set.jsonl", reviews()), marking._write
    path, out = config(tmp_path, data, keyed()), run_of(tmp_path)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(marking, "_write", killed)
    assert command("mark", path, "--out", out, "--quiet")[0] == 130
    monkeypatch.setattr(marking, "_write", write_rows)
    first = json.loads((out / "artifacts" / "keys" / "commitment.json").read_text())
    write(data, [{**row, "text": f"{row['text']} Yes."} for row in reviews()])
    assert command("mark", path, "--out", out, "--quiet")[0] == 0
    made = json.loads((out / "artifacts" / "keys" / "commitment.json").read_text())
    assert made["key_id"] == first["key_id"]
    assert made["config_digest"] == load_dataset_config(path, []).marking_digest() != first["config_digest"]
    assert command("mark", path, "--out", out, "--check", "--quiet")[0] == 0


def test_data_that_change_while_they_are_marked_are_refused(tmp_path, command, monkeypatch):
    data, decide = write(tmp_path / "set.jsonl", reviews()), marking.decide
    path, out = config(tmp_path, data, keyed()), run_of(tmp_path)

    def meanwhile(*inputs):
        write(data, [{**row, "text": row["text"].replace("visit", "stay")} for row in reviews()])
        return decide(*inputs)

    monkeypatch.setattr(marking, "decide", meanwhile)
    assert "changed meanwhile" in command.fails(2, "mark", path, "--out", out, "--quiet")
    assert not (out / "artifacts" / "release").exists()


def test_a_release_is_not_of_other_data(tmp_path, command):
    _, _, _, out = mark(command, tmp_path, reviews(), keyed())
    path, data = tmp_path / "dataset.yaml", tmp_path / "set.parquet"
    write(data, reviews()[::-1])
    before = files(out)
    assert "other data" in command.fails(2, "mark", path, "--out", out, "--quiet")
    assert "another marking config or dataset" in command.fails(3, "mark", path, "--out", out, "--check", "--quiet")
    assert files(out / "artifacts") == {k.removeprefix("artifacts/"): v for k, v in before.items() if "artifacts/" in k}
    bad = ("--set", "marks.keyed.share=0.001")
    assert "expected at least a row each" in command.fails(2, "mark", path, "--out", out, "--quiet", "--fresh", *bad)
    assert (out / "artifacts" / "release").exists()  # what cannot be marked empties no folder
    assert command("mark", path, "--out", out, "--quiet", "--fresh")[0] == 0  # the key stays, and pays for both
    assert command("mark", path, "--out", out, "--quiet", "--check")[0] == 0


def test_another_config_takes_over_until_something_is_released(tmp_path, command, monkeypatch):
    data = write(tmp_path / "set.jsonl", reviews())
    path, out, mine = config(tmp_path, data, keyed()), run_of(tmp_path), marking._write

    def full(*_):
        raise UsageError("got a full disk")

    monkeypatch.setattr(marking, "_write", full)
    command.fails(2, "mark", path, "--out", out, "--quiet")
    monkeypatch.setattr(marking, "_write", mine)
    set_ = ("--set", "marks.keyed.share=0.2")
    assert command("mark", path, "--out", out, "--quiet", *set_)[0] == 0
    assert "differs in marks.keyed.share" in command.fails(2, "mark", path, "--out", out, "--quiet")
    assert command("mark", path, "--out", out, "--quiet", "--check", *set_)[0] == 0


def test_where_the_data_lie_is_not_what_they_are(tmp_path, command, monkeypatch):
    _, _, _, out = mark(command, tmp_path, reviews(), keyed())
    path = tmp_path / "dataset.yaml"
    monkeypatch.chdir(tmp_path)
    shutil.copy("set.parquet", "copy.parquet")
    for name in ("set.parquet", "./set.parquet", "copy.parquet"):
        code, said, err = command("mark", name, "--config", path, "--out", out, "--quiet", "--json")
        assert (code, json.loads(said or "{}").get("skipped")) == (0, True), err
        assert command("mark", name, "--config", path, "--out", out, "--quiet", "--check")[0] == 0


@pytest.mark.parametrize("lost", ["record", "ring"])
def test_a_release_without_its_record_or_key_is_not_well(tmp_path, command, lost):
    _, _, _, out = mark(command, tmp_path, reviews(), keyed())
    gone = out / "owner" / ("records/release.sealed" if lost == "record" else "keys.json")
    gone.unlink()
    assert f"got no {'sealed record' if lost == 'record' else 'key ring'}" in command.fails(
        3, "mark", tmp_path / "dataset.yaml", "--out", out, "--quiet"
    )
    assert not gone.exists()


@pytest.mark.parametrize("kind", ["shards", "datasets"])
def test_files_of_a_folder_that_are_not_read_bind_nothing(tmp_path, command, kind):
    data = tmp_path / "set"
    if kind == "shards":
        real = tmp_path / "blobs"
        real.mkdir()
        data.mkdir()
        write(real / "b.parquet", reviews())
        (data / "train-00000-of-00001.parquet").symlink_to(real / "b.parquet")  # as a hub's cache lies
    else:
        write(data, reviews())
    path, out = config(tmp_path, data, keyed()), data / "out"
    assert command("mark", path, "--out", out, "--quiet")[0] == 0
    (data / "_SUCCESS").touch()
    (data / "cache-0123.arrow").write_bytes(b"of a filter")
    assert command("mark", path, "--out", out, "--quiet")[0] == 0
    assert command("mark", path, "--out", out, "--quiet", "--check")[0] == 0
    read = next(each for each in [*data.glob("*.parquet"), *data.glob("data-*.arrow")])
    other = read.read_bytes() + b"\0"
    read.unlink()
    read.write_bytes(other)
    command.fails(2, "mark", path, "--out", out, "--quiet")


def test_what_a_url_holds_is_bound(tmp_path):
    def digest_of(rows, name):
        with fsspec.open(f"memory://bound/{name}.jsonl", "w") as out:
            out.writelines(json.dumps(row) + "\n" for row in rows)
        return load_dataset_config(config(tmp_path, f"memory://bound/{name}.jsonl", keyed()), []).marking_digest()

    rows = [{"text": row["text"], "label": row["label"]} for row in reviews()]
    one, other = digest_of(rows, "a"), digest_of(rows[::-1], "b")
    assert one == digest_of(rows, "c") != other


def placed(seed, counts, *, triggers, each, flip=False):
    codes = np.repeat(np.arange(len(counts)), counts)
    names = tuple(f"class {i}" for i in range(len(counts)))
    key = wrong_key("tests/screening", seed)
    targets = input_level.derive_targets(key, scope="s", triggers=triggers, classes=len(names))
    quota = fitted(Quota(mark="keyed", targets=targets, each=each, flip=flip, labels=names), codes, set())
    return place(key, quota, codes, scope="s", taken=set(), doubt=None)


@pytest.mark.parametrize("flip", [False, True])
def test_whether_a_set_is_refused_does_not_depend_on_the_key(flip):
    """Else the keys that are left would lean to the large class, as an innocent model does, at no price."""
    for counts in [(1000, 15), (15, 1000)] if flip else [(250, 15), (480, 487, 7)]:
        for seed in range(40):
            with pytest.raises(UsageError, match="as many of the 20 as a key may give it"):
                placed(seed, counts, triggers=20, each=6, flip=flip)
    for counts in [(300, 60), (60, 300, 60)]:
        found = [placed(seed, counts, triggers=20, each=6, flip=flip) for seed in range(40)]
        assert all(set(rows.values()) == set(range(20)) for rows in found)
        assert all(len(set(Counter(rows.values()).values())) == 1 for rows in found)  # as many rows of each
        each = {len(rows) // 20 for rows in found}
        assert each == {3 if len(counts) == 2 else 6} if flip else max(each) == 6
        assert min(each) >= 3
