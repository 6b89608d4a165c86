"""Killed anywhere, also half-way through a checkpoint: the same bytes at the end; damage is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from countermark.errors import IntegrityError, UsageError
from countermark.manifest import verify_folder, write_manifest
from tests.training.toy import LORA, contents, make_job
from training import checkpoints, sft
from training.checkpoints import latest_checkpoint
from training.state import load_tree, save_tree

KINDS = [
    ("lora", {"train_sampling_strategy": "random"}),
    ("lora", {"train_sampling_strategy": "group_by_length", "gradient_accumulation_steps": 2, "save_steps": 1}),
    ("full", {"train_sampling_strategy": "group_by_length"}),
    ("full", {"train_sampling_strategy": "random", "lr_scheduler_type": "cosine"}),
    ("lora", {"packing": True, "bf16": True, "save_steps": 1}),
]
IDS = ["lora random", "lora grouped accumulated", "full grouped", "full random cosine", "lora packed bf16"]


class StopHereError(Exception):
    """What a test raises in the middle of a training."""


def _job(base: Path, method: str, arguments: dict[str, Any], **changes: Any) -> Any:
    return make_job(base, method, arguments=arguments, **{"save_dtype": "float32", **changes})


def _run(job: Any, folder: Path, name: str, *, stop: int = 0) -> list[int]:
    """Trains into ``folder/name`` with a scratch of that name; returns the steps reported."""
    out = folder / name
    out.mkdir(exist_ok=True)
    steps: list[int] = []

    def step(units: int) -> None:
        steps.append(units)
        if sum(steps) == stop:
            raise StopHereError

    sft.train(job, out=out, scratch=folder / f"{name}-scratch", on_step=step)
    return steps


def _interrupted(job: Any, folder: Path, name: str, stop: int) -> list[int]:
    with pytest.raises(StopHereError):
        _run(job, folder, name, stop=stop)
    return _run(job, folder, name)


@pytest.mark.long
@pytest.mark.parametrize(("method", "arguments"), KINDS, ids=IDS)
def test_interrupted_ends_byte_identical(base: Path, tmp_path: Path, method: str, arguments: dict[str, Any]) -> None:
    job = _job(base, method, arguments)
    total = sum(_run(job, tmp_path, "whole"))
    for stop in (total // 2 - 1, total // 2 + 1, total - 1):  # first epoch, just after its end, second epoch
        steps = _interrupted(job, tmp_path, f"stop-{stop}", stop)
        assert 0 < steps[0] < stop  # it went on from a checkpoint, and not from the start
        assert sum(steps) == total
        assert contents(tmp_path / f"stop-{stop}") == contents(tmp_path / "whole")


_KILLED = """
import os, sys, pathlib
sys.path.insert(0, {root!r})
from tests.training.toy import make_job
from training import checkpoints, sft
whole, written = checkpoints.{point}, [0]
def die(*arguments, **named):
    written[0] += 1
    if written[0] == {at}:
        {before}
        os._exit(9)
    return whole(*arguments, **named)
checkpoints.{point} = die
job = make_job(pathlib.Path({base!r}), {method!r}, arguments={arguments!r}, save_dtype="float32")
sft.train(job, out=pathlib.Path({out!r}), scratch=pathlib.Path({scratch!r}))
"""
# where the process dies: the optimizer's tensors half-written, all but the manifest, and between rename and rotation
_POINTS = {
    "save_tree": "(arguments[1] / 'optimizer.safetensors').write_bytes(b'half')",
    "write_manifest": "pass",
    "_rotate": "pass",
}


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "point", "at"),
    [(0, "save_tree", 5), (1, "write_manifest", 3), (2, "save_tree", 5), (3, "_rotate", 2)],
    ids=["optimizer", "manifest", "optimizer full", "rotation"],
)
def test_killed_in_the_middle_of_a_checkpoint_ends_byte_identical(
    base: Path, tmp_path: Path, kind: int, point: str, at: int
) -> None:
    method, arguments = KINDS[kind]
    job = _job(base, method, arguments)
    total = sum(_run(job, tmp_path, "whole"))
    (tmp_path / "killed").mkdir()
    scratch = tmp_path / "killed-scratch"
    code = _KILLED.format(
        root=str(Path(__file__).parents[2]), point=point, at=at, before=_POINTS[point], base=str(base), method=method,
        arguments=arguments, out=str(tmp_path / "killed"), scratch=str(scratch),
    )  # fmt: skip
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 9, done.stderr
    assert bool(list(scratch.glob(".partial-checkpoint-*"))) == (point != "_rotate")
    assert len(list(scratch.glob("checkpoint-*"))) == (1 if point != "_rotate" else 2)
    steps = _run(job, tmp_path, "killed")
    assert 0 < steps[0] < total
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert not list(scratch.glob(".partial-*"))


def test_done_but_not_published_resumes_at_the_end(base: Path, tmp_path: Path) -> None:
    job = _job(base, *KINDS[0])
    total = sum(_run(job, tmp_path, "whole"))
    first = contents(tmp_path / "whole")
    assert _run(job, tmp_path, "whole") == [total]
    assert contents(tmp_path / "whole") == first


@pytest.fixture
def stopped(base: Path, tmp_path: Path) -> tuple[Any, Path, Path]:
    """A job, its folder and its checkpoint."""
    job = _job(base, *KINDS[0])
    with pytest.raises(StopHereError):
        _run(job, tmp_path, "run", stop=5)
    return job, tmp_path, tmp_path / "run-scratch" / "checkpoint-4"


def test_checkpoint_holds_safetensors_and_json_only(stopped: tuple[Any, Path, Path]) -> None:
    _, _, checkpoint = stopped
    manifest, _ = verify_folder(checkpoint)
    assert {Path(name).suffix for name in manifest["files"]} == {".safetensors", ".json"}
    assert manifest["step"] == 4
    assert not {".bin", ".pt", ".pth"} & {path.suffix for path in checkpoint.parent.rglob("*")}


def test_a_flipped_bit_in_any_file_is_refused(stopped: tuple[Any, Path, Path]) -> None:
    job, folder, checkpoint = stopped
    for path in sorted(p for p in checkpoint.iterdir() if p.is_file()):
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :])
        with pytest.raises(IntegrityError):
            _run(job, folder, "run")
        path.write_bytes(data)
    _run(job, folder, "run")


@pytest.mark.parametrize(
    "changes",
    [{"seed": 8}, {"lora": LORA | {"r": 2}}, {"base_digest": "0" * 64}, {"chat_template": "{{ messages }}"}],
    ids=["seed", "lora", "base", "template"],
)
def test_another_jobs_checkpoint_is_refused(
    base: Path, stopped: tuple[Any, Path, Path], changes: dict[str, Any]
) -> None:
    _, folder, _ = stopped
    with pytest.raises(IntegrityError, match="of job") as caught:
        _run(_job(base, *KINDS[0], **changes), folder, "run")
    assert "empty the scratch folder" in caught.value.hint


def test_a_pickle_in_a_checkpoint_is_refused_though_its_manifest_names_it(stopped: tuple[Any, Path, Path]) -> None:
    job, folder, checkpoint = stopped
    fields = {k: v for k, v in verify_folder(checkpoint)[0].items() if k in {"job", "step"}}
    (checkpoint / "optimizer.pt").write_bytes(b"pickle")
    write_manifest(checkpoint, fields)
    with pytest.raises(IntegrityError, match="safetensors and JSON only"):
        _run(job, folder, "run")


def test_newest_is_taken_by_number_and_old_ones_go(base: Path, tmp_path: Path) -> None:
    job = _job(base, "lora", {"save_steps": 1, "save_total_limit": 3})
    _run(job, tmp_path, "run")
    scratch = tmp_path / "run-scratch"
    assert {p.name for p in scratch.glob("checkpoint-*")} == {"checkpoint-10", "checkpoint-11", "checkpoint-12"}
    digest = verify_folder(scratch / "checkpoint-10")[0]["job"]
    (scratch / "checkpoint-11").rename(scratch / "checkpoint-9")
    (scratch / "checkpoint-12").rename(scratch / "checkpoint-2")
    assert latest_checkpoint(scratch, digest) == scratch / "checkpoint-10"


def test_no_torch_save_is_ever_called(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("torch.save or torch.load was called")

    monkeypatch.setattr(torch, "save", refuse)
    monkeypatch.setattr(torch, "load", refuse)
    _interrupted(_job(base, *KINDS[0]), tmp_path, "run", 5)


def test_state_comes_back_exactly(tmp_path: Path) -> None:
    shared = torch.arange(6.0)
    tree = {
        "state": {0: {"step": torch.tensor(3.0), "exp_avg": shared, "view": shared[2:4], "bf": shared.bfloat16()},
                  1: {}},
        "groups": [{"lr": 0.1 + 0.2, "one": 1.0, "int": 1, "betas": (0.9, 0.999), "none": None, "big": 2**70}],
        "mode_worse": float("inf"), "$odd": True,
    }  # fmt: skip
    save_tree(tree, tmp_path, "tree")
    back = load_tree(tmp_path, "tree")
    assert back["groups"] == tree["groups"]
    assert [type(v) for v in back["groups"][0].values()] == [type(v) for v in tree["groups"][0].values()]
    assert back["state"].keys() == {0, 1}
    for name, tensor in tree["state"][0].items():
        assert torch.equal(back["state"][0][name], tensor)
        assert back["state"][0][name].dtype == tensor.dtype
    assert (back["mode_worse"], back["$odd"]) == (float("inf"), True)
    with pytest.raises(UsageError, match="got a function"):
        save_tree({"lambda": lambda: 0}, tmp_path, "bad")


def test_trainer_state_is_plain_json(stopped: tuple[Any, Path, Path]) -> None:
    _, _, checkpoint = stopped
    assert json.loads((checkpoint / "trainer_state.json").read_text())["global_step"] == 4
    assert (checkpoint / "rng-00000.json").is_file()
    assert checkpoints.latest_checkpoint(checkpoint.parent / "none", "x") is None
