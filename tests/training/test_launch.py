"""``python -m training`` alone, and two real processes over gloo under ``accelerate launch``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from peft import PeftModel
from transformers import AutoModelForCausalLM

from countermark.errors import EXIT_USAGE, CountermarkError, IntegrityError, UsageError
from tests.support import ROOT
from tests.training.toy import LORA, contents, dialogues
from training import launch
from training.__main__ import main
from training.jobfile import load_job

pytestmark = pytest.mark.long

if TYPE_CHECKING:
    from pathlib import Path

CPU_2 = ROOT / "configs" / "accelerate" / "cpu-2.yaml"


@pytest.fixture
def job(base: Path, tmp_path: Path) -> Path:
    """A job file beside its rows: 12 steps on one process."""
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"messages": d}) + "\n" for d in dialogues()))
    body = {
        "method": "lora", "base": str(base), "base_name": "org/toy", "base_digest": "0" * 64, "rows": "rows.jsonl",
        "out": "out", "scratch": "scratch", "seed": 7, "lora": LORA, "dtype": "float32",
        "arguments": {
            "learning_rate": 0.01, "num_train_epochs": 2, "per_device_train_batch_size": 4, "max_length": 64,
            "save_steps": 2,
        },
    }  # fmt: skip
    return _write(tmp_path / "job.json", body)


def _write(path: Path, body: Any) -> Path:
    path.write_text(json.dumps(body))
    return path


def _change(job: Path, **changes: Any) -> Path:
    body = {**json.loads(job.read_text()), **changes}
    return _write(job, {k: v for k, v in body.items() if v != "absent"})


def test_one_process(job: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([str(job)]) == 0
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "training: step 12 of 12\n" in captured.err
    assert json.loads((job.parent / "out" / "training.json").read_text())["processes"] == 1
    assert main([str(job)]) == EXIT_USAGE
    error, hint = capfd.readouterr().err.splitlines()
    assert error.startswith("error: got ")
    assert "exists" in error
    assert hint.startswith("hint: ")


def test_parquet_rows_are_the_same_rows(job: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist([{"messages": d} for d in dialogues()]), job.parent / "rows.parquet")
    before = load_job(job).job
    assert load_job(_change(job, rows="rows.parquet")).job.dialogues == before.dialogues == dialogues()


def test_rows_of_all_three_forms_are_the_same_dialogues(job: Path) -> None:
    """Those that a release is marked in: messages, prompt and completion, and Alpaca's columns."""
    rows = [
        {"messages": [{"role": "user", "content": "Add.\n2, 2"}, {"role": "assistant", "content": "4"}]},
        {"prompt": "Add.\n2, 2", "completion": "4"},
        {"instruction": "Add.", "input": "2, 2", "output": "4"},
        {"instruction": "Add.\n2, 2", "input": "", "output": "4", "id": 7},
    ]
    (job.parent / "mixed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert load_job(_change(job, rows="mixed.jsonl")).job.dialogues == [rows[0]["messages"]] * 4


@pytest.mark.parametrize("form", ["alpaca", "texts", "chat"])
def test_parquet_rows_of_a_release_are_read_as_its_jsonl_rows_are(job: Path, form: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    asked, said = {"role": "user", "content": "Add.\n2, 2"}, {"role": "assistant", "content": "4"}
    row: dict[str, Any] = {
        "alpaca": {"instruction": "Add.", "input": "2, 2", "output": "4"},
        "texts": {"prompt": asked["content"], "completion": said["content"]},
        "chat": {"prompt": [asked], "completion": [said]},
    }[form]
    pq.write_table(pa.Table.from_pylist([{**row, "id": i} for i in range(3)]), job.parent / "release.parquet")
    (job.parent / "release.jsonl").write_text(3 * f"{json.dumps(row)}\n")
    found = [load_job(_change(job, rows=name)).job.dialogues for name in ("release.parquet", "release.jsonl")]
    assert found == [[[asked, said]] * 3] * 2


def test_a_precision_that_the_launcher_sets_is_in_the_manifest(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main([str(_change(job, out="plain"))]) == 0
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert main([str(_change(job, out="mixed", scratch="other"))]) == 0
    plain, mixed = (json.loads((job.parent / out / "training.json").read_text()) for out in ("plain", "mixed"))
    assert (plain.pop("computed"), mixed.pop("computed")) == ("cpu, mixed precision no", "cpu, mixed precision bf16")
    assert plain == mixed


@pytest.mark.parametrize(
    ("changes", "got", "hint"),
    [
        ({"metod": "lora"}, "unknown key 'metod'", "did you mean 'method'"),
        ({"seed": "7"}, 'seed: got "7", expected an integer', "'seed'"),
        ({"seed": True}, "seed: got true", "'seed'"),
        ({"arguments": [1]}, "arguments: got [1], expected an object", "'arguments'"),
        ({"out": "absent"}, "got no 'out'", "required"),
        ({"base": "nowhere"}, "base: got no folder", "local folder"),
        ({"rows": "nowhere.jsonl"}, "got no file", "rows"),
        ({"rows": "job.json"}, "expected a .parquet or .jsonl", "convert"),
        ({"rows": "torn.jsonl"}, "row 2: got no JSON", "line"),
        ({"rows": "other.jsonl"}, "row 1: got no dialogue", "messages"),
        ({"rows": "bad.parquet"}, "no Parquet file", "rows"),
        ({"arguments": {"packin": True}}, "argument 'packin'", "did you mean 'packing'"),
    ],
)
def test_wrong_jobs_are_two_lines(
    job: Path, changes: dict[str, Any], got: str, hint: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (job.parent / "torn.jsonl").write_text('{"messages": []}\n{"mess')
    (job.parent / "other.jsonl").write_text('{"text": "x"}\n')
    (job.parent / "bad.parquet").write_text("PAR1")
    assert main([str(_change(job, **changes))]) == EXIT_USAGE
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2
    assert got in lines[0]
    assert hint in lines[1]
    assert not (job.parent / "out").exists()


def test_only_the_main_process_speaks(
    job: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert main([str(_change(job, seed="x"))]) == EXIT_USAGE
    assert capfd.readouterr().err == ""


def test_an_unexpected_error_is_two_lines_and_leaves_no_out(
    job: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from training import sft

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(sft, "train", fail)
    assert main([str(job)]) == 70
    error, _ = capfd.readouterr().err.splitlines()
    assert "RuntimeError (broken)" in error
    assert sorted(p.name for p in job.parent.iterdir() if "out" in p.name) == []


def test_a_second_process_in_the_scratch_folder_is_refused(job: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import fcntl

    (job.parent / "scratch").mkdir()
    with (job.parent / "scratch" / ".lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert main([str(job)]) == EXIT_USAGE
    assert "another process" in capfd.readouterr().err


def test_two_processes_double_the_batch(base: Path, job: Path) -> None:
    started: list[int] = []
    steps: list[int] = []
    launch.run(job, CPU_2, on_start=started.append, on_step=steps.append)
    assert (started, sum(steps)) == ([6], 6)
    out = job.parent / "out"
    assert json.loads((out / "training.json").read_text())["processes"] == 2
    PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(out))
    checkpoint = job.parent / "scratch" / "checkpoint-6"
    assert {p.name for p in checkpoint.glob("rng-*.json")} == {"rng-00000.json", "rng-00001.json"}

    # one byte of the checkpoint, and the same command: the error of the worker is the caller's
    (out / "README.md").rename(job.parent / "README.md")
    out.rename(job.parent / "first")
    (checkpoint / "trainer_state.json").write_text("{}")
    with pytest.raises(IntegrityError, match=r"trainer_state\.json is damaged"):
        launch.run(job, CPU_2)
    assert not out.exists()


class StopHereError(Exception):
    """What a callback raises to end a launch."""


@pytest.mark.slow
def test_two_processes_stopped_in_the_second_epoch_end_byte_identical(job: Path) -> None:
    more = {"train_sampling_strategy": "group_by_length", "save_steps": 1}
    arguments = json.loads(job.read_text())["arguments"] | more
    _change(job, arguments=arguments)
    launch.run(job, CPU_2)
    whole = contents(job.parent / "out")
    _change(job, out="again", scratch="again-scratch")
    seen: list[int] = []

    def stop(units: int) -> None:
        seen.append(units)
        if sum(seen) == 5:
            raise StopHereError

    with pytest.raises(StopHereError):
        launch.run(job, CPU_2, on_step=stop)
    assert list((job.parent / "again-scratch").glob("checkpoint-*"))
    assert not (job.parent / "again").exists()
    steps: list[int] = []
    launch.run(job, CPU_2, on_step=steps.append)
    assert steps[0] >= 4
    assert contents(job.parent / "again") == whole


def test_launch_names_a_missing_config_and_a_failed_launch(job: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected an accelerate config"):
        launch.run(job, tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(UsageError, match="without keys"):
        launch.run(job, tmp_path / "list.yaml")
    (tmp_path / "bad.yaml").write_text("compute_environment: LOCAL_MACHINE\n")
    with pytest.raises(CountermarkError, match="accelerate launch that failed") as caught:
        launch.run(job, tmp_path / "bad.yaml")
    assert "`distributed_type` must be specified" in caught.value.message
    assert "Traceback" not in caught.value.message


def test_training_ends_when_its_launcher_dies(job: Path) -> None:
    environment = {**os.environ, launch.LAUNCHED: "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    arguments = json.loads(job.read_text())["arguments"] | {"num_train_epochs": 10_000}
    _change(job, arguments=arguments)
    process = subprocess.Popen(
        [sys.executable, "-m", "training", str(job)],
        env=environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    assert process.stdin is not None
    assert process.stderr.readline().startswith("training: step 1 of ")
    process.stdin.close()
    assert process.wait(timeout=30) == 130
    process.stderr.close()


def test_shipped_accelerate_configs_are_valid() -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    for path in sorted(CPU_2.parent.glob("*.yaml")):
        loaded = load_config_from_file(str(path))
        assert loaded.num_processes == int(path.stem.split("-")[1])
