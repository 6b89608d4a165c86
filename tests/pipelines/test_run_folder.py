"""Run folders: one process, one config, one artifact a stage, and whatever was exchanged is noticed."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import sys

import pytest

from countermark.errors import IntegrityError, RunLockedError, StorageError, UsageError
from countermark.manifest import MANIFEST_NAME
from pipelines.commands import verify_path
from pipelines.config import load_config
from pipelines.progress import QuietProgress
from pipelines.run import open_run
from pipelines.stage import Stage
from tests.support import QUICKSTART

HOLDER = """
import fcntl, os, sys, time
fcntl.flock(os.open(sys.argv[1], os.O_RDWR | os.O_CREAT), fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""
CONFIG = load_config(QUICKSTART, [])
FAKE_FIELDS = {"made": True}


class Fake:
    """Two tiny stages that count how often they work."""

    def __init__(self):
        self.calls: list[str] = []
        self.text = "rows"
        self.first = Stage(name="first", inputs=(), run=self._first, settings=lambda c: c.generate.rows)
        self.second = Stage(name="second", inputs=("first",), run=self._second, settings=lambda c: c.audit.alpha)

    def _first(self, inputs, context, out):
        assert dict(inputs) == {}
        self.calls.append("first")
        (out / "rows.txt").write_text(self.text)
        return FAKE_FIELDS

    def _second(self, inputs, context, out):
        self.calls.append("second")
        (context.work / "journal").write_text("half")
        (out / "copy.txt").write_text((inputs["first"].path / "rows.txt").read_text().upper())
        return {}

    def both(self, root, config=CONFIG, **more):
        with open_run(root, config, QuietProgress(), **more) as run:
            return [run.perform(stage) for stage in (self.first, self.second)]


@pytest.fixture
def fake():
    return Fake()


@pytest.fixture
def root(tmp_path):
    return tmp_path / "runs" / "r"


def test_stages_are_done_once_and_then_verified_and_skipped(fake, root):
    made, again = fake.both(root), fake.both(root)
    assert fake.calls == ["first", "second"]
    assert [r.skipped for r in made] == [False, False]
    assert [r.skipped for r in again] == [True, True]
    assert [r.digest for r in made] == [r.digest for r in again]
    assert [r.seconds for r in made] == [r.seconds for r in again]
    manifest = json.loads((root / "artifacts" / "second" / MANIFEST_NAME).read_bytes())
    assert manifest["parents"] == {"first": made[0].digest}
    assert manifest["seed"] == CONFIG.seed
    assert not (root / "work" / "second").exists()


def test_the_same_work_elsewhere_has_the_same_digests(fake, root, tmp_path):
    assert [r.digest for r in fake.both(root)] == [r.digest for r in Fake().both(tmp_path / "elsewhere")]


def test_the_owners_folder_is_private(fake, root):
    fake.both(root)
    assert stat.S_IMODE((root / "owner").stat().st_mode) == 0o700


def test_a_second_opener_is_refused_and_a_later_one_is_not(root):
    with open_run(root, CONFIG, QuietProgress()):
        with pytest.raises(RunLockedError, match=str(root)) as caught, open_run(root, CONFIG, QuietProgress()):
            pass
        assert caught.value.exit_code == 2
        with pytest.raises(RunLockedError), open_run(root, CONFIG, QuietProgress(), fresh=True):
            pass
    with open_run(root, CONFIG, QuietProgress()):
        pass


def test_another_process_is_refused_and_a_killed_one_leaves_no_lock(root):
    root.mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(root / ".lock")], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"held\n"
            with pytest.raises(RunLockedError), open_run(root, CONFIG, QuietProgress()):
                pass
        finally:
            process.kill()
    with open_run(root, CONFIG, QuietProgress()):
        pass


@pytest.mark.parametrize(
    "override", ["seed=1", "audit.alpha=0.001", "generate.watermark.gamma=0.5", "keys.key_id=ck_x"]
)
def test_another_config_is_refused_with_the_key_that_differs(fake, root, override):
    fake.both(root)
    with pytest.raises(UsageError, match=override.split("=")[0]):
        fake.both(root, load_config(QUICKSTART, [override]))
    assert len(fake.both(root)) == 2


def test_a_damaged_config_is_an_integrity_error(fake, root):
    fake.both(root)
    path = root / "config.json"
    path.write_bytes(path.read_bytes().replace(b"quickstart", b"slowstart"))
    with pytest.raises(IntegrityError, match=r"config\.json"):
        fake.both(root)


def test_fresh_starts_over_and_keeps_keys_and_what_is_not_ours(fake, root):
    fake.both(root)
    kept = {"owner/keys.json": "ring", "owner/records/mark.sealed": "sealed", "notes.txt": "mine", "data/x.csv": "mine"}
    for name, text in kept.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    (root / "report.html").write_text("old")
    fake.both(root, load_config(QUICKSTART, ["seed=1"]), fresh=True)
    assert fake.calls == ["first", "second"] * 2
    assert {name: (root / name).read_text() for name in kept} == kept
    assert not (root / "report.html").exists()


def test_a_kill_between_rename_and_run_json_loses_no_work(fake, root):
    made = fake.both(root)
    (root / "run.json").unlink()
    again = fake.both(root)
    assert fake.calls == ["first", "second"]
    assert [r.digest for r in again] == [r.digest for r in made]
    assert "second" in json.loads((root / "run.json").read_bytes())["body"]["stages"]


def test_a_kill_inside_a_stage_leaves_its_journal_and_no_artifact(fake, root, monkeypatch):
    def killed(inputs, context, out):
        (context.work / "journal").write_text("half")
        (out / "half").write_text("x")
        raise KeyboardInterrupt

    broken = Stage(name="second", inputs=("first",), run=killed, settings=fake.second.settings)
    with open_run(root, CONFIG, QuietProgress()) as run:
        run.perform(fake.first)
        with pytest.raises(KeyboardInterrupt):
            run.perform(broken)
    assert (root / "work" / "second" / "journal").read_text() == "half"
    assert [p.name for p in (root / "artifacts").iterdir()] == ["first"]
    assert [r.skipped for r in fake.both(root)] == [True, False]


def test_what_a_killed_process_left_is_swept(fake, root):
    fake.both(root)
    left = [
        root / "artifacts" / ".partial-second-abc",
        root / "owner" / ".partial-keys.json-1",
        root / ".partial-run.json-1",
    ]
    left[0].mkdir()
    for path in left[1:]:
        path.write_text("torn")
    fake.both(root)
    assert not any(path.exists() for path in left)


def test_a_full_disk_inside_a_stage_is_a_storage_error(fake, root):
    def full(inputs, context, out):
        raise OSError(28, "No space left on device")

    with open_run(root, CONFIG, QuietProgress()) as run, pytest.raises(StorageError):
        run.perform(Stage(name="first", inputs=(), run=full, settings=fake.first.settings))
    assert list((root / "artifacts").iterdir()) == []


def _flip(root):
    path = root / "artifacts" / "first" / "rows.txt"
    path.write_bytes(b"Rows")


def _extra(root):
    (root / "artifacts" / "second" / "extra").write_text("")


def _missing(root):
    (root / "artifacts" / "second" / "copy.txt").unlink()


def _remade_first(root):
    """An earlier artifact redone by hand, manifest and all."""
    other, elsewhere = Fake(), root.parent / "elsewhere"
    other.text = "other rows"
    other.both(elsewhere)
    shutil.rmtree(root / "artifacts" / "first")
    shutil.copytree(elsewhere / "artifacts" / "first", root / "artifacts" / "first")


def _both_remade(root):
    _remade_first(root)
    shutil.rmtree(root / "artifacts" / "second")
    shutil.copytree(root.parent / "elsewhere" / "artifacts" / "second", root / "artifacts" / "second")


def _renamed(root):
    shutil.rmtree(root / "artifacts" / "second")
    shutil.copytree(root / "artifacts" / "first", root / "artifacts" / "second")


def _forged_digest(root):
    path = root / "run.json"
    path.write_bytes(path.read_bytes().replace(b'"digest":"', b'"digest":"0', 1))


def _no_manifest(root):
    (root / "artifacts" / "first" / MANIFEST_NAME).unlink()


@pytest.mark.parametrize(
    "damage", [_flip, _extra, _missing, _remade_first, _both_remade, _renamed, _forged_digest, _no_manifest]
)
def test_damaged_or_exchanged_artifacts_are_integrity_errors(fake, root, damage):
    fake.both(root)
    damage(root)
    with pytest.raises(IntegrityError) as caught:
        fake.both(root)
    assert caught.value.exit_code == 3
    assert str(root) in caught.value.message
    assert fake.calls == ["first", "second"]  # nothing was silently made again


@pytest.mark.parametrize("damage", [_flip, _extra, _missing, _remade_first, _both_remade, _renamed, _forged_digest])
def test_verify_notices_the_same_without_running_anything(fake, root, damage):
    fake.both(root)
    assert [entry["artifact"] for entry in verify_path(root)[1]] == ["first", "second"]
    damage(root)
    with pytest.raises(IntegrityError):
        verify_path(root)


def test_verify_of_nothing_is_no_success(root, tmp_path):
    (root / "artifacts").mkdir(parents=True)
    for path in (root, tmp_path, tmp_path / "none"):
        with pytest.raises(UsageError):
            verify_path(path)


def test_an_exchanged_parent_is_noticed_even_without_run_json(fake, root):
    fake.both(root)
    _remade_first(root)
    (root / "run.json").unlink()
    with pytest.raises(IntegrityError, match="parents"):
        fake.both(root)


def test_a_missing_input_names_its_stage(fake, root):
    with open_run(root, CONFIG, QuietProgress()) as run, pytest.raises(UsageError, match="'first'"):
        run.perform(fake.second)


def test_events_are_one_json_line_each_and_clocks_stay_out_of_manifests(fake, root):
    fake.both(root)
    events = [json.loads(line) for line in (root / "events.jsonl").read_text().splitlines()]
    assert [(e["event"], e["stage"]) for e in events] == [
        ("start", "first"), ("done", "first"), ("start", "second"), ("done", "second"),
    ]  # fmt: skip
    manifests = "".join(p.read_text() for p in (root / "artifacts").glob("*/manifest.json"))
    assert all(e["time"] not in manifests for e in events)
    assert str(root) not in manifests


def test_what_models_are_read_in_is_logged_beside_the_clock(fake, root, monkeypatch):
    monkeypatch.setattr("countermark.libraries.reading", lambda: "cuda, bfloat16")
    loaded = dict(sys.modules)
    for name, modules in (
        ("light", {k: v for k, v in loaded.items() if k != "torch"}),
        ("models", loaded | {"torch": 1}),
    ):
        monkeypatch.setattr(sys, "modules", modules)
        fake.both(root / name)
    said = {
        name: [json.loads(line).get("computed") for line in (root / name / "events.jsonl").read_text().splitlines()]
        for name in ("light", "models")
    }
    assert said == {"light": [None] * 4, "models": [None, "cuda, bfloat16"] * 2}
    machine = json.loads((root / "models" / "run.json").read_text())["body"]["machine"]
    assert machine["computed"] == "cuda, bfloat16"
