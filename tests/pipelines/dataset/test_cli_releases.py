"""``countermark mark`` and ``audit`` choose by the config's kind, and pass over nothing that was named."""

from __future__ import annotations

import json

import pytest

from pipelines.audit_commands import NO_REFERENCE
from tests.pipelines.dataset.sets import config, files, keyed, linear, released, reviews, rows_of, write
from tests.pipelines.release_data import config_file, dataset
from tests.support import QUICKSTART

pytestmark = pytest.mark.long


@pytest.fixture
def made(tmp_path):
    """A config and a dataset that the config does not name."""
    return config(tmp_path, tmp_path / "none.parquet", keyed()), write(tmp_path / "my.csv", reviews())


def test_a_dataset_is_named_before_its_config(tmp_path, command, made):
    path, data = made
    code, out, err = command("mark", data, "--config", path, "--out", tmp_path / "run", "--quiet", "--json")
    assert code == 0, err
    body = json.loads(out)
    assert (body["rows"], body["shards"], body["skipped"]) == (240, ["train-00000-of-00001.parquet"], False)
    assert len(released(tmp_path / "run")) == 240
    code, out, _ = command("mark", path, "--data", data, "--out", tmp_path / "run", "--quiet", "--json")
    assert (code, json.loads(out)) == (0, {**body, "skipped": True})
    suspect = linear(tmp_path / "suspect", released(tmp_path / "run"))
    asked = ("audit", data, "--config", path, "--run", tmp_path / "run", "--suspect", suspect, "--quiet")
    assert command(*asked)[0] == 0
    assert NO_REFERENCE in command(*asked)[1].splitlines()  # a verdict without a control says so


def test_what_is_said_names_the_folder_to_publish(tmp_path, command, made):
    code, out, _ = command("mark", made[1], "--config", made[0], "--out", tmp_path / "run", "--quiet")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("240 rows in 1 shards, ")
    assert lines[1] == f"release: {tmp_path / 'run' / 'artifacts' / 'release'} (publish this folder, and nothing else)"
    assert lines[2] == f"owner's sealed record: {tmp_path / 'run' / 'owner' / 'records' / 'release.sealed'}"
    assert (tmp_path / "run" / "owner" / "records" / "release.sealed").exists()


def test_dry_run_writes_nothing(tmp_path, command, made):
    before = files(tmp_path)
    arguments = ("mark", made[1], "--config", made[0], "--out", tmp_path / "run", "--dry-run")
    code, out, _ = command(*arguments)
    assert code == 0
    assert "would mark" in out
    assert "keyed" in out
    assert "would push to me/set" in command(*arguments, "--push-to-hub", "me/set")[1]
    asked = ("audit", made[1], "--config", made[0], "--run", tmp_path / "run", "--suspect", tmp_path, "--dry-run")
    assert "would do plan-suspect" in command(*asked)[1]
    assert files(tmp_path) == before
    assert not (tmp_path / "run").exists()


@pytest.fixture
def hub(monkeypatch):
    """Stands in for the Hub; what it was given."""
    given = []

    class Hub:
        def create_repo(self, repo, **kwargs):
            given.append(("create", repo, kwargs["private"]))
            return f"https://hub/datasets/{repo}"

        def upload_folder(self, *, folder_path, allow_patterns, token, **_):
            found = sorted(p.relative_to(folder_path).as_posix() for a in allow_patterns for p in folder_path.glob(a))
            given.append(("upload", found, token))

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    return given


def test_a_push_sends_card_and_shards_alone(tmp_path, command, made, hub):
    token = tmp_path / "token"
    token.write_text("hf_secret\n")
    token.chmod(0o600)
    arguments = ("mark", made[1], "--config", made[0], "--out", tmp_path / "run", "--quiet")
    code, out, err = command(*arguments, "--push-to-hub", "me/set", "--token-file", token)
    assert code == 0, err
    assert "pushed to https://hub/datasets/me/set" in out
    sent = ["README.md", "data/train-00000-of-00001.parquet"]
    assert hub == [("create", "me/set", True), ("upload", sent, "hf_secret")]
    assert b"hf_secret" not in b"".join(files(tmp_path / "run").values())
    body = json.loads(command(*arguments, "--push-to-hub", "me/set", "--token-file", token, "--json")[1])
    assert body["repository"] == "https://hub/datasets/me/set"


def test_a_release_that_fails_its_check_is_not_pushed(tmp_path, command, made, hub):
    arguments = ("mark", made[1], "--config", made[0], "--out", tmp_path / "run", "--quiet")
    assert command(*arguments)[0] == 0
    shard = next((tmp_path / "run" / "artifacts" / "release" / "data").iterdir())
    write(shard, rows_of(made[1]))
    command.fails(3, *arguments, "--check", "--push-to-hub", "me/set")
    command.fails(3, *arguments, "--push-to-hub", "me/set")
    assert hub == []


def test_a_dataset_needs_a_config(tmp_path, command, made):
    assert "without --config" in command.fails(2, "mark", made[1])
    assert "without --config" in command.fails(2, "audit", made[1], "--suspect", tmp_path)
    assert "a dataset twice" in command.fails(2, "mark", made[1], "--config", made[0], "--data", made[1])


def test_kinds_that_do_not_fit_are_refused(tmp_path, command, made):
    path, _ = made
    release = config_file(tmp_path, dataset(tmp_path, "alpaca"))
    assert "kind: dataset" in command.fails(2, "mark", release, "--check", "--out", tmp_path / "run")
    assert "kind: dataset" in command.fails(2, "mark", release, "--push-to-hub", "me/x", "--out", tmp_path / "run")
    assert "got a dataset config for `train`" in command.fails(2, "train", path, "--out", tmp_path / "run")
    assert "datasets have `mark`, `audit` and `run`" in command.fails(2, "probe", path, "--out", tmp_path / "run")
    assert "got a release config for `run`" in command.fails(2, "run", release, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "arguments",
    [("mark", "my.csv", "--config", QUICKSTART), ("mark", QUICKSTART, "--data", "my.csv"),
     ("audit", QUICKSTART, "--suspect", "model"), ("audit", QUICKSTART, "--control", "model")],
    ids=["dataset", "data", "suspect", "control"],
)  # fmt: skip
def test_a_run_config_passes_over_nothing_that_was_named(tmp_path, command, arguments):
    assert "expected a release's" in command.fails(2, *arguments, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_audit_needs_a_suspect_and_a_release(tmp_path, command, made):
    path, data = made
    asked = ("audit", data, "--config", path, "--run", tmp_path / "run")
    assert "got no suspect" in command.fails(2, *asked)
    assert "got no release in" in command.fails(2, *asked, "--suspect", tmp_path, "--quiet")
    assert not (tmp_path / "run").exists()
    assert "'a/b'" in command.fails(2, *asked, "--suspect", tmp_path, "--name", "a/b")
